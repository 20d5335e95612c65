/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queues with `consumers: {min, max}`: how many workers follow from what waits. More at once, at
 * most twice as many at a time; fewer only when so many were not needed for the whole cooldown. A
 * worker that runs a job is needed.
 */
#include "supervisor/supervisor.h"

#include "base/clock.h"

static int64_t busy_workers(const struct queue *queue)
{
    int64_t busy = 0;
    for (size_t i = 0; i < queue->place_count; i++) {
        const struct child *child = queue->places[i]->child;
        busy += child != NULL && !queue->places[i]->retiring && child->beat.job_id != 0 ? 1 : 0;
    }
    return busy;
}

int64_t pgqrs_scaling_bound(const struct queue *queue, int64_t wanted)
{
    const struct pgqrs_config_queue *config = queue->config;
    if (config->consumers_max == 0) {
        return config->consumers;
    }
    return wanted < config->consumers_min   ? config->consumers_min
           : wanted > config->consumers_max ? config->consumers_max
                                            : wanted;
}

/* Jobs that have waited without a break for the time set ask for one more worker. */
static bool have_waited(struct queue *queue, int64_t now_ms)
{
    struct scaling *scaling = &queue->scaling;
    if (scaling->waiting_since_ms == 0 ||
        now_ms - scaling->waiting_since_ms < queue->config->consumers_wait_ms) {
        return false;
    }
    scaling->waiting_since_ms = now_ms;
    return true;
}

static void decide(struct queue *queue)
{
    struct scaling *scaling = &queue->scaling;
    int64_t now = pgqrs_mono_ms();
    int64_t each = queue->config->consumers_backlog;
    int64_t needed = (scaling->ready + each - 1) / each;
    int64_t busy = busy_workers(queue);
    needed = needed < busy ? busy : needed;
    if (have_waited(queue, now) && needed <= queue->wanted) {
        needed = queue->wanted + 1;
    }
    needed = pgqrs_scaling_bound(queue, needed);
    if (scaling->window_ms == 0) {
        scaling->window_ms = now;
    }
    if (needed > queue->wanted) {
        int64_t most = 2 * queue->wanted + 1;
        pgqrs_pool_scale(queue->s, queue, needed < most ? needed : most, "load");
        scaling->window_ms = now;
        scaling->peak = needed;
        return;
    }
    scaling->peak = needed > scaling->peak ? needed : scaling->peak;
    if (now - scaling->window_ms >= queue->config->consumers_cooldown_ms) {
        pgqrs_pool_scale(queue->s, queue, scaling->peak, "load");
        scaling->window_ms = now;
        scaling->peak = needed;
    }
}

static bool follows_load(const struct queue *queue)
{
    const struct child *broker = queue->s->broker.child;
    return queue->config->consumers_max > 0 && queue->s->state == SUPERVISOR_RUNNING &&
           broker != NULL && broker->state == CHILD_READY && queue->failing.retry == NULL &&
           !queue->removed && !pgqrs_queue_is_paused(queue);
}

void pgqrs_scaling_load(struct supervisor *s, const struct pgqrs_queue_load *load)
{
    struct queue *queue = pgqrs_supervisor_find_queue(s, load->queue);
    if (queue == NULL) {
        return;
    }
    struct scaling *scaling = &queue->scaling;
    scaling->ready = load->ready;
    if (load->ready == 0) {
        scaling->waiting_since_ms = 0;
    } else if (scaling->waiting_since_ms == 0) {
        scaling->waiting_since_ms = pgqrs_mono_ms();
    }
    if (follows_load(queue)) {
        decide(queue);
    }
}

void pgqrs_scaling_check(struct supervisor *s)
{
    for (size_t i = 0; i < s->queue_count; i++) {
        if (follows_load(s->queues[i])) {
            decide(s->queues[i]);
        } else if (s->queues[i]->config->consumers_max == 0) {
            s->queues[i]->scaling = (struct scaling){0};
        }
    }
}

void pgqrs_scaling_forget(struct supervisor *s)
{
    for (size_t i = 0; i < s->queue_count; i++) {
        s->queues[i]->scaling.ready = 0;
        s->queues[i]->scaling.waiting_since_ms = 0;
    }
}
