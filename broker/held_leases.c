/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each worker holds: first the leases that were sent to it, in the order it runs them, then
 * the reserve, which waits here.
 *
 * A worker whose jobs are short would wait for a commit after each one. So a little more is leased
 * in its name than it may be sent, as many jobs as it will have finished when the next commits are
 * done; each outcome it sends is answered with the next job at once, and stored meanwhile. A
 * worker whose jobs take long gets no reserve, nor does any while there is not plenty for all, and
 * a reserve that turns out to have to wait goes back to the queue, its attempts not spent.
 */
#include "broker/broker.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define SLOW_US 2000 /* jobs that take longer are not worth a reserve */
#define RESERVE_MAX 256
#define RESERVE_BYTES_MAX (1024 * 1024)
#define COMMIT_GUESS_US 300
#define SPARE_MS 20 /* a worker that is silent for so long loses its reserve */

/* ---- the list ---- */

struct pgqrs_job_key pgqrs_lease_key(const struct pgqrs_lease *lease)
{
    struct pgqrs_job_key key = {.id = lease->message_id, .attempt = lease->attempt};
    /* A client that replays a message without us may leave more crashes than attempts. */
    key.crashes = lease->crash_ct < 0                           ? 0
                  : (uint32_t)lease->crash_ct >= lease->attempt ? lease->attempt - 1
                                                                : (uint32_t)lease->crash_ct;
    return key;
}

int pgqrs_worker_hold(struct worker *worker, const struct pgqrs_lease *lease)
{
    struct held_job *job = &worker->held[worker->held_count];
    char *payload = malloc(lease->payload.len + 1);
    int64_t now_us = pgqrs_mono_us();
    if (payload == NULL || worker->held_count == PGQRS_PREFETCH_MAX) {
        free(payload);
        return -1;
    }
    memcpy(payload, lease->payload.data, lease->payload.len);
    *job = (struct held_job){
        .key = pgqrs_lease_key(lease),
        .leased_ms = now_us / 1000,
        .priority = lease->priority,
        .enqueued_at_us = lease->enqueued_at_us,
        .due_us = lease->waited_us < 0 ? 0 : now_us - lease->waited_us,
        .payload = {.data = payload, .len = lease->payload.len},
    };
    worker->payload_bytes += ((int64_t)lease->payload.len - worker->payload_bytes) / 8;
    worker->held_count++;
    return 0;
}

void pgqrs_worker_hold_sent(struct worker *worker, struct pgqrs_job_key key)
{
    if (worker->held_count < PGQRS_PREFETCH_MAX) {
        worker->held[worker->held_count++] =
            (struct held_job){.key = key, .leased_ms = pgqrs_mono_ms(), .sent = true};
        worker->sent_count++;
    }
}

void pgqrs_worker_drop_held(struct worker *worker, size_t i)
{
    struct held_job *job = &worker->held[i];
    free((char *)(uintptr_t)job->payload.data); /* owned here, const for the codec */
    worker->sent_count -= job->sent ? 1 : 0;
    worker->held_count--;
    memmove(job, job + 1, (worker->held_count - i) * sizeof *job);
}

struct held_job *pgqrs_worker_held(struct worker *worker, struct pgqrs_job_key key)
{
    for (size_t i = 0; i < worker->held_count; i++) {
        if (worker->held[i].key.id == key.id && worker->held[i].key.attempt == key.attempt) {
            return &worker->held[i];
        }
    }
    return NULL;
}

bool pgqrs_worker_unhold(struct worker *worker, struct pgqrs_job_key key)
{
    const struct held_job *job = pgqrs_worker_held(worker, key);
    if (job == NULL) {
        return false;
    }
    pgqrs_worker_drop_held(worker, (size_t)(job - worker->held));
    return true;
}

/* ---- how much ---- */

bool pgqrs_worker_is_held_back(const struct worker *worker)
{
    return worker->held_back || (worker->queue->settings.paused != 0 && worker->only_message == 0);
}

void pgqrs_worker_pace(struct worker *worker, size_t outcomes)
{
    int64_t now = pgqrs_mono_us();
    if (outcomes > 0 && worker->last_us > 0) {
        int64_t each = (now - worker->last_us) / (int64_t)outcomes;
        worker->pace_us = worker->pace_us == 0 ? each : (3 * worker->pace_us + each + 3) / 4;
    }
    worker->last_us = now;
}

static int64_t reserve_of(const struct broker *b, const struct worker *worker)
{
    bool quick = worker->pace_us > 0 && worker->pace_us <= SLOW_US;
    bool silent = worker->sent_count > 0 && pgqrs_mono_us() - worker->last_us > SLOW_US;
    if (!worker->queue->plenty || !quick || silent || worker->capacity == 0) {
        return 0;
    }
    int64_t commit_us = b->commit.took_us == 0 ? COMMIT_GUESS_US : b->commit.took_us;
    int64_t count = 2 * commit_us / worker->pace_us + 1;
    int64_t bytes_allow = RESERVE_BYTES_MAX / (worker->payload_bytes + 1);
    count = count > bytes_allow ? bytes_allow : count;
    return count > RESERVE_MAX ? RESERVE_MAX : count;
}

uint32_t pgqrs_worker_credit(const struct broker *b, const struct worker *worker)
{
    if (worker->peer == NULL || worker->ended || pgqrs_worker_is_held_back(worker) ||
        worker->only_message != 0) {
        return 0;
    }
    int64_t limit = worker->capacity + reserve_of(b, worker);
    /* What it has to name in a hello has to fit. */
    int64_t nameable = PGQRS_PREFETCH_MAX - (int64_t)worker->unsettled;
    limit = limit > nameable ? nameable : limit;
    int64_t credit = limit - (int64_t)worker->held_count;
    return credit > 0 ? (uint32_t)credit : 0;
}

/* ---- sending ---- */

static void end_leases(struct worker *worker)
{
    if (worker->leases_count > 0) {
        pgqrs_job_list_end(&worker->leases, worker->leases_start, worker->leases_count);
        worker->leases_count = 0;
    }
}

static void send_one(struct worker *worker, struct held_job *job)
{
    if (worker->leases_count == 0) {
        worker->leases_start = pgqrs_job_list_begin(&worker->leases, PGQRS_MSG_JOB_LEASES);
    }
    worker->leases_count++;
    pgqrs_encode_job_lease(&worker->leases, &(struct pgqrs_job_lease){
                                                .key = job->key,
                                                .priority = job->priority,
                                                .enqueued_at_us = job->enqueued_at_us,
                                                .due_us = job->due_us,
                                                .payload = job->payload,
                                            });
    if (worker->leases.len - worker->leases_start > PGQRS_FRAME_TARGET) {
        end_leases(worker);
    }
    free((char *)(uintptr_t)job->payload.data); /* owned here, const for the codec */
    job->payload = (struct pgqrs_bytes){0};
    job->sent = true;
    worker->sent_count++;
}

void pgqrs_worker_send_reserve(struct worker *worker)
{
    while (worker->peer != NULL && !pgqrs_worker_is_held_back(worker) &&
           worker->sent_count < worker->capacity && worker->sent_count < worker->held_count) {
        if (worker->sent_count == 0) {
            worker->last_us = pgqrs_mono_us(); /* it was idle: its pace counts from here */
        }
        send_one(worker, &worker->held[worker->sent_count]);
    }
}

void pgqrs_worker_flush(struct worker *worker)
{
    if (worker->settled_count > 0) {
        pgqrs_job_list_end(&worker->settled, worker->settled_start, worker->settled_count);
        worker->settled_count = 0;
    }
    end_leases(worker);
    if (worker->peer != NULL && worker->leases.len > 0) {
        pgqrs_peer_send(worker->peer, &worker->leases);
    }
    if (worker->peer != NULL && worker->settled.len > 0) {
        pgqrs_peer_send(worker->peer, &worker->settled);
    }
    pgqrs_buf_clear(&worker->settled);
    pgqrs_buf_clear(&worker->leases);
}

/* ---- giving back ---- */

void pgqrs_worker_return_reserve(struct broker *b, struct worker *worker)
{
    if (worker->held_count == worker->sent_count) {
        return;
    }
    while (worker->held_count > worker->sent_count) {
        struct pgqrs_error err;
        struct pgqrs_job_key key = worker->held[worker->held_count - 1].key;
        if (pgqrs_group_add_returned(b, worker, key, &err) < 0) {
            return; /* out of memory: it stays, and is sent in its turn */
        }
        pgqrs_worker_drop_held(worker, worker->held_count - 1);
    }
    pgqrs_commit_wake(b);
}

static bool has_reserve(const struct broker *b)
{
    const struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        if (worker->held_count > worker->sent_count) {
            return true;
        }
    }
    return false;
}

void pgqrs_watch_reserve(struct broker *b)
{
    static const struct timeval delay = {.tv_usec = SPARE_MS * 1000};
    if (!evtimer_pending(b->spare, NULL) && has_reserve(b)) {
        (void)evtimer_add(b->spare, &delay); /* for want of memory: with the next lease */
    }
}

void on_spare(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    int64_t now = pgqrs_mono_us();
    (void)fd;
    (void)what;
    struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        if (now - worker->last_us >= SPARE_MS * 1000 && !worker->ended) {
            pgqrs_worker_return_reserve(b, worker);
        }
    }
    pgqrs_watch_reserve(b);
}
