/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the operator wants of the queues, beside the configuration: pauses, and a drain, which
 * pauses all. The broker leases; it is told with the settings of the queues, and so is the next
 * one. A reload changes nothing of it, and pgqrsd forgets it when it ends.
 */
#include "supervisor/supervisor.h"

#include "base/clock.h"
#include "base/log.h"

bool pgqrs_queue_is_paused(const struct queue *queue)
{
    const struct supervisor *s = queue->s;
    return queue->paused || s->signal_paused || s->drain_asked;
}

static bool is_running(const struct supervisor *s, struct pgqrs_error *err)
{
    if (s->state == SUPERVISOR_RUNNING) {
        return true;
    }
    (void)pgqrs_error_set(err, PGQRS_ERR_CONFLICT, "pgqrsd is %s",
                          s->state == SUPERVISOR_STARTING ? "starting" : "stopping");
    return false;
}

static void tell(struct supervisor *s)
{
    pgqrs_queues_tell(s);
    pgqrs_notify_changed(s->notify);
    pgqrs_gateway_tell(s);
}

static void set(struct queue *queue, bool paused, json_t *changed)
{
    bool changes = !queue->removed && pgqrs_queue_is_paused(queue) != paused;
    queue->paused = paused;
    if (changes) {
        pgqrs_log_info("queue \"%s\": %s", queue->name,
                       paused ? "paused by request: nothing more is leased" : "resumed by request");
        (void)json_array_append_new(changed, json_string(queue->name));
    }
}

static void set_all(struct supervisor *s, bool paused, json_t *changed)
{
    for (size_t i = 0; i < s->queue_count; i++) {
        set(s->queues[i], paused, changed);
    }
    s->all_paused = paused;
    if (!paused && s->drain_asked) {
        pgqrs_log_info("drain: ended by request");
    }
    if (!paused) {
        s->signal_paused = s->drain_asked = false;
    }
}

void pgqrs_steer_pause(struct supervisor *s, struct queue *queue, bool paused, json_t *changed,
                       struct pgqrs_error *err)
{
    if (!is_running(s, err)) {
        return;
    }
    if (queue != NULL && !paused && (s->drain_asked || s->signal_paused)) {
        (void)pgqrs_error_set(err, PGQRS_ERR_CONFLICT,
                              "all queues are %s; to end that: pgqrs ctl resume",
                              s->drain_asked ? "drained" : "paused by a signal");
        return;
    }
    if (queue == NULL) {
        set_all(s, paused, changed);
    } else {
        set(queue, paused, changed);
    }
    tell(s);
}

void pgqrs_steer_signal(struct supervisor *s, bool paused)
{
    if (s->state < SUPERVISOR_DRAINING && s->signal_paused != paused) {
        s->signal_paused = paused;
        pgqrs_log_info("%s", paused ? "SIGTSTP: nothing more is leased"
                                    : "SIGCONT: the pause of SIGTSTP is over");
        tell(s);
    }
}

void pgqrs_steer_drain(struct supervisor *s, struct pgqrs_error *err)
{
    if (is_running(s, err) && !s->drain_asked) {
        s->drain_asked = true;
        s->drain_since_us = pgqrs_wall_us();
        pgqrs_log_info("drain: by request: nothing more is leased, running jobs go on");
        tell(s);
        s->drain_serial = s->queues_serial;
    }
}

int64_t pgqrs_steer_running(const struct supervisor *s)
{
    const struct child *broker = s->broker.child;
    bool knows = broker != NULL && broker->state == CHILD_READY && s->drain_asked &&
                 broker->beat_serial >= s->drain_serial;
    return knows ? (int64_t)broker->beat.held : -1;
}
