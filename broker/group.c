/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Outcomes collect here while the loop reads its connections and the store is busy with those
 * before them. While the store can not commit, the group waits and the connections are not read
 * once it is large.
 */
#include "broker/broker.h"

#include <stdlib.h>
#include <string.h>

#include "broker/retry_policy.h"

#define GROUP_BYTES_MAX (64u * 1024 * 1024) /* of outcomes that wait, before reading stops */
#define SNOOZE_DEFAULT_MS 1000

struct owned_frame {
    struct owned_frame *next;
    struct pgqrs_follow_up *follow_ups; /* of one settlement, or null */
    void *data;
};

static struct pgqrs_settlement *add_item(struct broker *b, struct worker *worker)
{
    struct group *g = &b->group;
    if (g->count == g->cap) {
        size_t cap = g->cap == 0 ? 256 : g->cap * 2;
        struct pgqrs_settlement *items = reallocarray(g->items, cap, sizeof *items);
        if (items == NULL) {
            return NULL;
        }
        g->items = items;
        struct group_note *notes = reallocarray(g->notes, cap, sizeof *notes);
        if (notes == NULL) {
            return NULL;
        }
        g->notes = notes;
        g->cap = cap;
    }
    g->notes[g->count] =
        (struct group_note){.worker = worker, .times = {-1, -1}, .freed = worker->ended};
    worker->unsettled++;
    struct pgqrs_settlement *item = &g->items[g->count++];
    *item = (struct pgqrs_settlement){.worker_id = worker->row_id};
    return item;
}

/* Keeps what the settlements of a group borrow from until they are stored. Takes both, always. */
static int keep(struct group *g, void *data, struct pgqrs_follow_up *follow_ups, size_t bytes)
{
    struct owned_frame *frame = malloc(sizeof *frame);
    if (frame == NULL) {
        free(data);
        free(follow_ups);
        return -1;
    }
    *frame = (struct owned_frame){.next = g->frames, .data = data, .follow_ups = follow_ups};
    g->frames = frame;
    g->bytes += bytes;
    return 0;
}

/* Retry, or dead letter when the attempts are used up. Crashes have a limit of their own. */
static void fail(struct broker *b, const struct broker_queue *queue, struct pgqrs_settlement *item,
                 uint32_t crashes, int64_t delay_ms)
{
    if (!item->crashed && item->attempt - crashes >= queue->settings.max_attempts) {
        item->how = PGQRS_SETTLE_DEAD;
        return;
    }
    /* A linear congruential step is random enough to spread retries. */
    b->random = b->random * 1664525u + 1013904223u;
    item->how = PGQRS_SETTLE_RETRY;
    item->delay_ms = delay_ms >= 0
                         ? delay_ms
                         : pgqrs_retry_delay_ms(&queue->settings, item->attempt, b->random >> 8);
}

static void decide(struct broker *b, const struct broker_queue *queue,
                   const struct pgqrs_job_result *result, struct pgqrs_settlement *item)
{
    switch (result->outcome) {
    case PGQRS_JOB_DONE:
        item->how = queue->settings.delete_done != 0 ? PGQRS_SETTLE_DELETE : PGQRS_SETTLE_ARCHIVE;
        break;
    case PGQRS_JOB_RETRY:
        fail(b, queue, item, result->key.crashes, result->delay_ms);
        break;
    case PGQRS_JOB_FAIL:
        item->how = PGQRS_SETTLE_DEAD;
        break;
    case PGQRS_JOB_SNOOZE:
        item->how = PGQRS_SETTLE_SNOOZE;
        item->delay_ms = result->delay_ms >= 0 ? result->delay_ms : SNOOZE_DEFAULT_MS;
        break;
    case PGQRS_JOB_CANCELLED: /* interrupted is not failed */
        b->exit_status = b->draining ? PGQRS_EXIT_RETURNED : b->exit_status;
        item->how = PGQRS_SETTLE_RETURN;
        break;
    case PGQRS_JOB_RETURNED:
        item->how = PGQRS_SETTLE_RETURN;
        break;
    case PGQRS_JOB_OUTCOME_COUNT:
        break; /* the decoder lets none through */
    }
}

/* An outcome that makes messages visible again, now or later, or adds some, is a reason to lease
 * with it: what is not due yet tells when it will be. */
static void note_ready(struct broker *b, struct broker_queue *queue,
                       const struct pgqrs_settlement *item)
{
    if (item->follow_up_count > 0) {
        pgqrs_commit_all_maybe_ready(b);
    } else if (item->how == PGQRS_SETTLE_RETRY || item->how == PGQRS_SETTLE_SNOOZE ||
               item->how == PGQRS_SETTLE_RETURN) {
        queue->maybe_ready = true;
    }
}

static int take_follow_ups(struct group *g, const struct pgqrs_job_result *result,
                           struct pgqrs_settlement *item)
{
    if (result->enqueue_count == 0) {
        return 0;
    }
    struct pgqrs_follow_up *follow_ups = calloc(result->enqueue_count, sizeof *follow_ups);
    if (follow_ups == NULL || keep(g, NULL, follow_ups, 0) < 0) {
        return -1;
    }
    for (size_t i = 0; i < result->enqueue_count; i++) {
        const struct pgqrs_job_enqueue *e = &result->enqueues[i];
        follow_ups[i] = (struct pgqrs_follow_up){
            .queue = e->queue,
            .item = {.payload = e->payload, .delay_ms = e->delay_ms, .priority = e->priority}};
    }
    item->follow_ups = follow_ups;
    item->follow_up_count = result->enqueue_count;
    return 0;
}

static void cancel(struct pgqrs_settlement *item)
{
    item->how = PGQRS_SETTLE_CANCEL;
    item->error = pgqrs_bytes_from(PGQRS_CANCELLED_TEXT);
    item->result = (struct pgqrs_bytes){0};
}

/* Done all the same counts; anything else is what was asked for. */
static bool is_cancelled(struct worker *worker, const struct pgqrs_job_result *result)
{
    const struct held_job *job = pgqrs_worker_held(worker, result->key);
    return job != NULL && job->order == PGQRS_ORDER_CANCEL && result->outcome != PGQRS_JOB_DONE;
}

/* As it was before the lease: a dead letter, too. */
static void give_back(const struct worker *worker, struct pgqrs_settlement *item)
{
    item->how = worker->was_dead ? PGQRS_SETTLE_DEAD : PGQRS_SETTLE_RETURN;
    if (worker->was_dead) {
        item->error = pgqrs_bytes_from("its isolated run was interrupted");
        item->result = (struct pgqrs_bytes){0};
    }
}

static int add_result(struct broker *b, struct worker *worker,
                      const struct pgqrs_job_result *result, struct pgqrs_error *err)
{
    struct pgqrs_settlement *item = add_item(b, worker);
    if (item == NULL) {
        return pgqrs_error_memory(err);
    }
    item->message_id = result->key.id;
    item->attempt = result->key.attempt;
    item->error = result->error;
    item->result = result->result;
    b->group.notes[b->group.count - 1].times = result->times;
    b->group.notes[b->group.count - 1].freed = false;
    if (is_cancelled(worker, result)) {
        cancel(item);
    } else {
        decide(b, worker->queue, result, item);
    }
    if (item->how == PGQRS_SETTLE_RETURN) {
        give_back(worker, item);
    }
    if (item->how != PGQRS_SETTLE_CANCEL && take_follow_ups(&b->group, result, item) < 0) {
        b->group.count--;
        worker->unsettled--;
        return pgqrs_error_memory(err);
    }
    note_ready(b, worker->queue, item);
    (void)pgqrs_worker_unhold(worker, result->key); /* sent again after a reconnect: not held */
    if (worker->held_back && worker->held_count == 0) {
        pgqrs_orders_look(b); /* one that was interrupted is suspended then */
    }
    if (worker->queue->settings.paused != 0 && result->outcome != PGQRS_JOB_RETURNED) {
        pgqrs_orders_pause(b, worker); /* what it has begun before it was told may not be all */
    }
    return 0;
}

int pgqrs_group_add_results(struct broker *b, struct worker *worker, void *data,
                            const struct pgqrs_frame *frame, struct pgqrs_error *err)
{
    struct pgqrs_frame body = *frame;
    if (keep(&b->group, data, NULL, frame->len) < 0) {
        return pgqrs_error_memory(err);
    }
    struct pgqrs_job_list list = pgqrs_job_list_of(&body);
    struct pgqrs_job_result result;
    size_t before = b->group.count;
    int got;
    while ((got = pgqrs_next_job_result(&list, &result, err)) > 0) {
        int added = add_result(b, worker, &result, err);
        pgqrs_job_result_fini(&result);
        if (added < 0) {
            return -1;
        }
    }
    pgqrs_worker_pace(worker, b->group.count - before);
    pgqrs_worker_send_reserve(worker); /* it goes on before its outcomes are stored */
    pgqrs_worker_flush(worker);
    if (b->group.bytes > GROUP_BYTES_MAX && !b->paused) {
        pgqrs_peers_pause(b, true);
    }
    pgqrs_commit_wake(b);
    return got;
}

/* A job that has killed so many workers is not run again by itself. */
static int quarantine(struct broker *b, const struct worker *worker, const struct held_job *job,
                      const char *text, struct pgqrs_settlement *item)
{
    char *why;
    int n = worker->only_message != 0
                ? asprintf(&why, "quarantined after a crash in its isolated run: %s", text)
                : asprintf(&why, "quarantined after %u crashes: %s", job->key.crashes + 1, text);
    if (n < 0 || keep(&b->group, why, NULL, (size_t)n) < 0) {
        return -1;
    }
    item->how = PGQRS_SETTLE_DEAD;
    item->error = (struct pgqrs_bytes){.data = why, .len = (size_t)n};
    return 0;
}

int pgqrs_group_add_returned(struct broker *b, struct worker *worker, struct pgqrs_job_key key,
                             struct pgqrs_error *err)
{
    struct pgqrs_settlement *item = add_item(b, worker);
    if (item == NULL) {
        return pgqrs_error_memory(err);
    }
    item->message_id = key.id;
    item->attempt = key.attempt;
    give_back(worker, item);
    note_ready(b, worker->queue, item);
    return 0;
}

int pgqrs_group_add_charged(struct broker *b, struct worker *worker, const struct held_job *job,
                            const char *text, struct pgqrs_error *err)
{
    const uint32_t most = worker->only_message != 0 ? 1 : worker->queue->settings.max_crashes;
    struct pgqrs_settlement *item = add_item(b, worker);
    if (item == NULL) {
        return pgqrs_error_memory(err);
    }
    item->message_id = job->key.id;
    item->attempt = job->key.attempt;
    item->crashed = worker->how == PGQRS_END_CRASHED;
    item->error = pgqrs_bytes_from(text);
    fail(b, worker->queue, item, job->key.crashes, 0);
    if (item->crashed && job->key.crashes + 1 >= most &&
        quarantine(b, worker, job, text, item) < 0) {
        b->group.count--;
        worker->unsettled--;
        return pgqrs_error_memory(err);
    }
    note_ready(b, worker->queue, item);
    return 0;
}

int pgqrs_group_add_cancelled(struct broker *b, struct worker *worker, struct pgqrs_job_key key,
                              struct pgqrs_error *err)
{
    struct pgqrs_settlement *item = add_item(b, worker);
    if (item == NULL) {
        return pgqrs_error_memory(err);
    }
    item->message_id = key.id;
    item->attempt = key.attempt;
    cancel(item);
    return 0;
}

void pgqrs_group_add_oversized(struct broker *b, struct worker *worker, struct pgqrs_job_key key)
{
    struct pgqrs_settlement *item = add_item(b, worker);
    if (item != NULL) { /* else its worker keeps the lease until it ends */
        item->message_id = key.id;
        item->attempt = key.attempt;
        item->how = PGQRS_SETTLE_DEAD;
        item->error = pgqrs_bytes_from("the payload is over 4 MiB, which no worker is given");
        pgqrs_commit_wake(b);
    }
}
_Static_assert(PGQRS_PAYLOAD_MAX == 4 * 1024 * 1024, "the text above says so");

void pgqrs_group_clear(struct group *g)
{
    while (g->frames != NULL) {
        struct owned_frame *frame = g->frames;
        g->frames = frame->next;
        free(frame->follow_ups);
        free(frame->data);
        free(frame);
    }
    g->count = 0;
    g->bytes = 0;
    g->noted = g->unsure = false;
}

void pgqrs_group_fini(struct group *g)
{
    pgqrs_group_clear(g);
    free(g->items);
    free(g->notes);
}
