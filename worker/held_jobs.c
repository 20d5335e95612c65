/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/held_jobs.h"

#include <stdlib.h>
#include <string.h>

/* A job with many follow-ups needs much scratch, once. */
#define SCRATCH_KEEP (64u * 1024)

void pgqrs_held_init(struct pgqrs_held_jobs *held)
{
    *held = (struct pgqrs_held_jobs){0};
    STAILQ_INIT(&held->waiting);
    TAILQ_INIT(&held->unsettled);
}

static struct worker_lease *take_waiting(struct pgqrs_held_jobs *held)
{
    struct worker_lease *lease = STAILQ_FIRST(&held->waiting);
    if (lease != NULL) {
        STAILQ_REMOVE_HEAD(&held->waiting, link);
        held->waiting_count--;
    }
    return lease;
}

void pgqrs_held_fini(struct pgqrs_held_jobs *held)
{
    struct worker_lease *lease;
    while ((lease = take_waiting(held)) != NULL) {
        free(lease);
    }
    struct pgqrs_unsettled *outcome = TAILQ_FIRST(&held->unsettled);
    while (outcome != NULL) {
        struct pgqrs_unsettled *next = TAILQ_NEXT(outcome, link);
        free(outcome);
        outcome = next;
    }
    free(held->running);
    pgqrs_buf_fini(&held->scratch);
    pgqrs_held_init(held);
}

int pgqrs_held_add(struct pgqrs_held_jobs *held, const struct pgqrs_job_lease *m,
                   struct pgqrs_error *err)
{
    if (held->waiting_count >= PGQRS_PREFETCH_MAX) {
        return pgqrs_error_set(err, PGQRS_ERR_PROTOCOL, "more than %d jobs at a time",
                               PGQRS_PREFETCH_MAX);
    }
    struct worker_lease *lease = malloc(sizeof *lease + m->payload.len + 1);
    if (lease == NULL) {
        return pgqrs_error_memory(err);
    }
    lease->key = m->key;
    lease->priority = m->priority;
    lease->enqueued_at_us = m->enqueued_at_us;
    lease->due_us = m->due_us;
    lease->payload_len = m->payload.len;
    memcpy(lease->payload, m->payload.data, m->payload.len);
    lease->payload[m->payload.len] = 0;
    STAILQ_INSERT_TAIL(&held->waiting, lease, link);
    held->waiting_count++;
    return 0;
}

const struct worker_lease *pgqrs_held_run_next(struct pgqrs_held_jobs *held)
{
    held->running = take_waiting(held);
    return held->running;
}

const struct pgqrs_unsettled *pgqrs_held_outcome(struct pgqrs_held_jobs *held,
                                                 const struct pgqrs_job_result *result)
{
    struct pgqrs_buf *scratch = &held->scratch;
    if (scratch->cap > SCRATCH_KEEP) {
        pgqrs_buf_fini(scratch);
    }
    pgqrs_buf_clear(scratch);
    size_t start = pgqrs_job_list_begin(scratch, PGQRS_MSG_JOB_RESULTS);
    pgqrs_encode_job_result(scratch, result);
    pgqrs_job_list_end(scratch, start, 1);
    return pgqrs_held_frame(held, result->key, 0, scratch);
}

const struct pgqrs_unsettled *pgqrs_held_frame(struct pgqrs_held_jobs *held,
                                               struct pgqrs_job_key key, uint32_t ask,
                                               const struct pgqrs_buf *frame)
{
    struct pgqrs_unsettled *outcome = frame->failed ? NULL : malloc(sizeof *outcome + frame->len);
    if (outcome == NULL) {
        return NULL;
    }
    outcome->key = key;
    outcome->ask = ask;
    outcome->frame_len = frame->len;
    memcpy(outcome->frame, frame->data, frame->len);
    TAILQ_INSERT_TAIL(&held->unsettled, outcome, link);
    held->unsettled_count++;
    return outcome;
}

static bool forget(struct pgqrs_held_jobs *held, struct pgqrs_job_key key, uint32_t ask)
{
    struct pgqrs_unsettled *outcome;
    TAILQ_FOREACH(outcome, &held->unsettled, link)
    { /* outcomes are settled in order: the first */
        if (outcome->key.id == key.id && outcome->key.attempt == key.attempt &&
            outcome->ask == ask) {
            TAILQ_REMOVE(&held->unsettled, outcome, link);
            held->unsettled_count--;
            free(outcome);
            return true;
        }
    }
    return false;
}

bool pgqrs_held_answered(struct pgqrs_held_jobs *held, struct pgqrs_job_key key, uint32_t ask)
{
    return forget(held, key, ask);
}

void pgqrs_held_run_ended(struct pgqrs_held_jobs *held)
{
    free(held->running);
    held->running = NULL;
}

/* Accepts null. */
static const struct pgqrs_unsettled *give_back(struct pgqrs_held_jobs *held,
                                               struct worker_lease *lease)
{
    if (lease == NULL) {
        return NULL;
    }
    struct pgqrs_job_result result = {
        .key = lease->key, .outcome = PGQRS_JOB_RETURNED, .delay_ms = -1, .times = {-1, -1}};
    free(lease);
    return pgqrs_held_outcome(held, &result);
}

const struct pgqrs_unsettled *pgqrs_held_return_next(struct pgqrs_held_jobs *held)
{
    return give_back(held, take_waiting(held));
}

const struct pgqrs_unsettled *pgqrs_held_return_key(struct pgqrs_held_jobs *held,
                                                    struct pgqrs_job_key key)
{
    struct worker_lease *lease;
    STAILQ_FOREACH(lease, &held->waiting, link)
    {
        if (lease->key.id == key.id && lease->key.attempt == key.attempt) {
            STAILQ_REMOVE(&held->waiting, lease, worker_lease, link);
            held->waiting_count--;
            return give_back(held, lease);
        }
    }
    return NULL;
}

void pgqrs_held_settle(struct pgqrs_held_jobs *held, struct pgqrs_job_key key)
{
    (void)forget(held, key, 0);
}

static void list_key(struct pgqrs_job_hello *hello, struct pgqrs_job_key key)
{
    if (hello->held_count < PGQRS_PREFETCH_MAX) {
        hello->held[hello->held_count++] = key;
    }
}

int pgqrs_held_list(const struct pgqrs_held_jobs *held, struct pgqrs_job_hello *hello,
                    struct pgqrs_error *err)
{
    hello->held_count = 0;
    hello->held = calloc(PGQRS_PREFETCH_MAX, sizeof *hello->held);
    if (hello->held == NULL) {
        return pgqrs_error_memory(err);
    }
    if (held->running != NULL) {
        list_key(hello, held->running->key);
    }
    const struct worker_lease *lease;
    STAILQ_FOREACH(lease, &held->waiting, link)
    {
        list_key(hello, lease->key);
    }
    const struct pgqrs_unsettled *outcome;
    TAILQ_FOREACH(outcome, &held->unsettled, link)
    {
        if (outcome->ask == 0) { /* else it is about the job that runs */
            list_key(hello, outcome->key);
        }
    }
    return 0;
}
