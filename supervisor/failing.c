/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue whose workers can not start, or die too often, is failing: the workers it has go on, but
 * for those it lacks one alone is started, from time to time. When that one works, the others
 * follow. Other queues are not concerned.
 */
#include "supervisor/supervisor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"

#define RING (sizeof((struct failing *)0)->deaths_ms / sizeof(int64_t))

static bool died_too_often(struct queue *queue)
{
    struct failing *failing = &queue->failing;
    int64_t now = pgqrs_mono_ms();
    size_t max = (size_t)queue->config->restart_max;
    failing->deaths_ms[failing->deaths % RING] = now;
    failing->deaths++;
    return failing->deaths > max && now - failing->deaths_ms[(failing->deaths - 1 - max) % RING] <=
                                        queue->config->restart_window_ms;
}

/* ---- trying again ---- */

static void recovered(struct queue *queue)
{
    pgqrs_failing_fini(queue);
    pgqrs_log_info("queue \"%s\": works again, starting all its workers", queue->name);
    for (size_t i = 0; i < queue->place_count; i++) {
        queue->places[i]->restart = (struct pgqrs_restart){0};
        pgqrs_place_start(queue->places[i]);
    }
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    struct queue *queue = arg;
    struct place *empty = NULL;
    (void)fd;
    (void)what;
    if (queue->s->state >= SUPERVISOR_DRAINING) {
        return;
    }
    for (size_t i = 0; i < queue->place_count; i++) {
        struct place *place = queue->places[i];
        const struct child *child = place->child;
        if (child == NULL) {
            empty = empty == NULL ? place : empty;
        } else if (child->generation > queue->failing.generation) {
            if (child->ready_at_ms != 0 &&
                pgqrs_mono_ms() - child->ready_at_ms >= queue->config->restart_retry_ms / 2) {
                recovered(queue);
            }
            return; /* one at a time */
        }
    }
    if (empty == NULL) {
        recovered(queue); /* scaled down to those that work */
    } else {
        pgqrs_version_look_again(queue->version);
        pgqrs_place_try(empty);
    }
}

static int schedule(struct queue *queue)
{
    int64_t ms = queue->config->restart_retry_ms;
    const struct timeval retry = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    return event_add(queue->failing.retry, &retry);
}

/* ---- beginning ---- */

static void begin(struct queue *queue, const char *why)
{
    struct supervisor *s = queue->s;
    struct failing *failing = &queue->failing;
    char every[32];
    pgqrs_duration_format(queue->config->restart_retry_ms, every, sizeof every);
    pgqrs_log_error("queue \"%s\": failing: %s; one worker is tried every %s", queue->name, why,
                    every);
    failing->why = strdup(why);
    failing->since_us = pgqrs_wall_us();
    failing->generation = s->generations;
    failing->retry = event_new(s->base, -1, EV_PERSIST, on_retry, queue);
    if (failing->why == NULL || failing->retry == NULL || schedule(queue) < 0) {
        pgqrs_log_error("queue \"%s\": out of memory, it is not tried again", queue->name);
    }
    for (size_t i = 0; i < queue->place_count; i++) {
        if (queue->places[i]->restart_timer != NULL) {
            (void)evtimer_del(queue->places[i]->restart_timer);
        }
    }
}

/* When nothing has ever worked, whoever started us is to know. */
static void end_if_hopeless(struct supervisor *s, int exit_status)
{
    for (size_t i = 0; i < s->queue_count; i++) {
        if (s->was_ready || s->queues[i]->failing.retry == NULL) {
            return;
        }
    }
    pgqrs_supervisor_fail(s, exit_status);
}

bool pgqrs_failing_died(struct place *place, bool was_ready, int exit_code, const char *why)
{
    struct queue *queue = place->queue;
    char text[PGQRS_LAST_WORDS_MAX + 128];
    bool often = died_too_often(queue);
    if (queue->failing.retry != NULL) {
        pgqrs_log_error("%s: still failing: %s", pgqrs_place_name(place), why);
        return true;
    }
    bool hopeless =
        !was_ready && (exit_code == PGQRS_EXIT_BAD_PLUGIN || exit_code == PGQRS_EXIT_CONFIG);
    if (hopeless) {
        (void)snprintf(text, sizeof text, "%s", why);
    } else if (!was_ready && place->restart.failed_starts + 1 >= PGQRS_RESTART_START_TRIES) {
        (void)snprintf(text, sizeof text, "%d failed starts in a row: %s",
                       PGQRS_RESTART_START_TRIES, why);
    } else if (often) {
        char window[32];
        pgqrs_duration_format(queue->config->restart_window_ms, window, sizeof window);
        (void)snprintf(text, sizeof text, "more than %d deaths of workers in %s, the last one: %s",
                       (int)queue->config->restart_max, window, why);
    } else {
        return false;
    }
    queue->failing.cannot_start = !was_ready;
    begin(queue, text);
    end_if_hopeless(queue->s, hopeless ? PGQRS_EXIT_CONFIG : PGQRS_EXIT_FAILURE);
    return true;
}

void pgqrs_failing_ready(struct queue *queue)
{
    if (queue->failing.retry != NULL && queue->failing.cannot_start) {
        recovered(queue);
    }
}

void pgqrs_failing_retry(struct queue *queue)
{
    if (queue->failing.retry != NULL) {
        (void)schedule(queue); /* without memory it stays as often as it was */
        event_active(queue->failing.retry, EV_TIMEOUT, 0);
    }
}

void pgqrs_failing_fini(struct queue *queue)
{
    if (queue->failing.retry != NULL) {
        event_free(queue->failing.retry);
    }
    free(queue->failing.why);
    queue->failing = (struct failing){0};
}
