/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workers that live on this host, by the supervisor's word, and what each one holds.
 *
 * A worker runs what it holds in order, so when it dies the first job is the one that ran: it has
 * spent its attempt, the others have not. What a dead worker sent before it died is in its
 * socket's buffer and counts; its leases are free when that is read to the end, or after a moment
 * when something keeps the socket open.
 */
#include "broker/broker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

#define GATHER_MS 1000

static struct broker_queue *find_queue(struct broker *b, const char *name)
{
    for (size_t i = 0; i < b->queue_count; i++) {
        if (strcmp(b->queues[i].settings.name, name) == 0) {
            return &b->queues[i];
        }
    }
    return NULL;
}

struct worker *pgqrs_worker_find(struct broker *b, uint64_t generation)
{
    struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        if (worker->generation == generation) {
            return worker;
        }
    }
    return NULL;
}

static void worker_destroy(struct broker *b, struct worker *worker)
{
    TAILQ_REMOVE(&b->workers, worker, link);
    TAILQ_REMOVE(&worker->queue->workers, worker, queue_link);
    pgqrs_buf_fini(&worker->settled);
    pgqrs_buf_fini(&worker->leases);
    free(worker->held);
    free(worker->reason);
    free(worker);
}

int pgqrs_worker_add(struct broker *b, const struct pgqrs_worker_started *started,
                     struct pgqrs_error *err)
{
    struct broker_queue *queue = find_queue(b, started->queue);
    if (queue == NULL || pgqrs_worker_find(b, started->generation) != NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_PROTOCOL,
                               "worker announced twice, or for a queue that is not served: \"%s\"",
                               started->queue);
    }
    struct worker *worker = calloc(1, sizeof *worker);
    struct held_job *held = calloc(PGQRS_PREFETCH_MAX, sizeof *held);
    if (worker == NULL || held == NULL) {
        free(worker);
        free(held);
        return pgqrs_error_memory(err);
    }
    worker->queue = queue;
    worker->generation = started->generation;
    worker->slot = started->slot;
    worker->pid = (pid_t)started->pid;
    memcpy(worker->token, started->token, sizeof worker->token);
    worker->held = held;
    TAILQ_INSERT_TAIL(&b->workers, worker, link);
    TAILQ_INSERT_TAIL(&queue->workers, worker, queue_link);
    return 0;
}

bool pgqrs_worker_has_predecessor(const struct worker *worker)
{
    struct worker *other;
    TAILQ_FOREACH(other, &worker->queue->workers, queue_link)
    {
        if (other != worker && other->slot == worker->slot && other->ended) {
            return true;
        }
    }
    return false;
}

/* One row for each place in a queue of a host, used again by the next process in that place. */
static int row_name(const struct broker *b, const struct worker *worker, char *out, size_t size)
{
    return snprintf(out, size, "%s/pgqrsd/%s/%u", b->host, worker->queue->settings.name,
                    worker->slot);
}

/* A lease of the worker that is not among these was made but never reached it: it goes back. */
static int give_back_others(struct broker *b, const struct worker *worker, int64_t row_id,
                            const struct pgqrs_lease_ref *known, size_t count,
                            struct pgqrs_error *err)
{
    int64_t freed = pgqrs_store_worker_reconcile(b->store, row_id, known, count, err);
    if (freed > 0) {
        pgqrs_log_info("broker: worker %s/%u: %lld leases that never reached it are free again",
                       worker->queue->settings.name, worker->slot, (long long)freed);
    }
    return freed < 0 ? -1 : 0;
}

static int reconcile(struct broker *b, const struct worker *worker, int64_t row_id,
                     const struct pgqrs_job_hello *hello, struct pgqrs_error *err)
{
    struct pgqrs_lease_ref known[PGQRS_PREFETCH_MAX];
    for (size_t i = 0; i < hello->held_count; i++) {
        known[i] = (struct pgqrs_lease_ref){.message_id = hello->held[i].id,
                                            .worker_id = row_id,
                                            .attempt = hello->held[i].attempt};
    }
    return give_back_others(b, worker, row_id, known, hello->held_count, err);
}

static int reconcile_attached(struct broker *b, const struct worker *worker,
                              struct pgqrs_error *err)
{
    struct pgqrs_lease_ref *known = calloc(worker->held_count + b->group.count + 1, sizeof *known);
    if (known == NULL) {
        return pgqrs_error_memory(err);
    }
    size_t count = 0;
    for (size_t i = 0; i < worker->held_count; i++) {
        known[count++] = (struct pgqrs_lease_ref){.message_id = worker->held[i].key.id,
                                                  .worker_id = worker->row_id,
                                                  .attempt = worker->held[i].key.attempt};
    }
    for (size_t i = 0; i < b->group.count; i++) {
        if (b->group.items[i].worker_id == worker->row_id) {
            known[count++] = (struct pgqrs_lease_ref){.message_id = b->group.items[i].message_id,
                                                      .worker_id = worker->row_id,
                                                      .attempt = b->group.items[i].attempt};
        }
    }
    int rc = give_back_others(b, worker, worker->row_id, known, count, err);
    free(known);
    return rc;
}

int pgqrs_workers_reconcile(struct broker *b, struct pgqrs_error *err)
{
    struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        if (worker->peer != NULL && reconcile_attached(b, worker, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int pgqrs_worker_attach(struct broker *b, struct worker *worker, struct peer *peer,
                        const struct pgqrs_job_hello *hello, struct pgqrs_error *err)
{
    char name[1024];
    (void)row_name(b, worker, name, sizeof name); /* both parts are bounded well below it */
    const struct pgqrs_worker_row row = {
        .name = name,
        .queue_id = worker->queue->id,
        .instance = b->instance,
        .generation = worker->generation,
        .pid = worker->pid,
    };
    int64_t row_id = 0;
    if (pgqrs_store_worker_register(b->store, &row, &row_id, err) < 0 ||
        reconcile(b, worker, row_id, hello, err) < 0) {
        return -1;
    }
    worker->row_id = row_id;
    worker->peer = peer;
    worker->inherited = false;
    worker->capacity = hello->capacity;
    worker->held_count = 0;
    for (size_t i = 0; i < hello->held_count; i++) {
        pgqrs_worker_hold(worker, hello->held[i]);
    }
    worker->queue->maybe_ready = true;
    pgqrs_log_debug("broker: worker %s/%u connected pid=%d generation=%llu held=%zu",
                    worker->queue->settings.name, worker->slot, (int)worker->pid,
                    (unsigned long long)worker->generation, worker->held_count);
    return 0;
}

void pgqrs_worker_detach(struct broker *b, struct worker *worker)
{
    (void)b;
    pgqrs_peer_close(&worker->peer);
}

void pgqrs_worker_hold(struct worker *worker, struct pgqrs_job_key key)
{
    if (worker->held_count < PGQRS_PREFETCH_MAX) {
        worker->held[worker->held_count++] =
            (struct held_job){.key = key, .leased_ms = pgqrs_mono_ms()};
    }
}

bool pgqrs_worker_unhold(struct worker *worker, struct pgqrs_job_key key)
{
    for (size_t i = 0; i < worker->held_count; i++) {
        if (worker->held[i].key.id == key.id && worker->held[i].key.attempt == key.attempt) {
            worker->held_count--;
            memmove(&worker->held[i], &worker->held[i + 1],
                    (worker->held_count - i) * sizeof worker->held[0]);
            return true;
        }
    }
    return false;
}

uint32_t pgqrs_worker_credit(const struct worker *worker)
{
    if (worker->peer == NULL || worker->ended || worker->capacity <= worker->held_count) {
        return 0;
    }
    return worker->capacity - (uint32_t)worker->held_count;
}

/* ---- the end of a worker ---- */

static void start_gather_timer(struct broker *b, int64_t ms)
{
    const struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    (void)evtimer_add(b->gather,
                      &delay); /* can fail only for want of memory; the poll timer helps */
}

void pgqrs_worker_ended(struct broker *b, const struct pgqrs_worker_ended *m)
{
    struct worker *worker = pgqrs_worker_find(b, m->generation);
    if (worker == NULL) {
        return;
    }
    worker->ended = true;
    worker->how = m->how;
    worker->gather_by_ms = pgqrs_mono_ms() + GATHER_MS;
    worker->reason = strdup(m->reason);
    pgqrs_workers_gather(b);
}

/* What it held goes back to the queue with the next exchange. */
static int gather(struct broker *b, struct worker *worker, struct pgqrs_error *err)
{
    const char *reason = worker->reason == NULL ? "worker ended" : worker->reason;
    if (worker->held_count > 0 && b->draining && worker->how != PGQRS_END_CLEAN) {
        b->exit_status = PGQRS_EXIT_RETURNED;
    }
    while (worker->held_count > 0) {
        /* From the back, so that a failure leaves the running job the first one. */
        struct pgqrs_job_key key = worker->held[worker->held_count - 1].key;
        bool charged = worker->held_count == 1 && worker->how == PGQRS_END_CRASHED;
        if (pgqrs_group_add_abandoned(b, worker, key, charged, reason, err) < 0) {
            return -1;
        }
        worker->held_count--;
    }
    worker->gathered = true;
    return 0;
}

void pgqrs_workers_gather(struct broker *b)
{
    int64_t now = pgqrs_mono_ms();
    int64_t next = 0;
    struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        if (!worker->ended || worker->gathered) {
            continue;
        }
        if (b->trouble_since_ms != 0) {
            worker->gather_by_ms = now + GATHER_MS; /* reading may be paused */
        }
        if ((worker->peer != NULL || worker->inherited) && now < worker->gather_by_ms) {
            int64_t left = worker->gather_by_ms - now;
            next = next == 0 || left < next ? left : next;
            continue;
        }
        pgqrs_worker_detach(b, worker);
        struct pgqrs_error err;
        if (gather(b, worker, &err) < 0) {
            next = GATHER_MS; /* out of memory: later */
        }
        pgqrs_group_wake(b);
    }
    if (next > 0) {
        start_gather_timer(b, next);
    }
}

static int bury(struct broker *b, struct worker *worker, struct pgqrs_error *err)
{
    /* What it was known to hold was settled with the group; what is left never reached it, unless
     * it never was connected to this broker. */
    const struct pgqrs_release release = {
        .charge = worker->inherited && worker->how == PGQRS_END_CRASHED,
        .crashed = true,
        .max_attempts = worker->queue->settings.max_attempts,
        .reason = worker->reason == NULL ? "worker ended" : worker->reason,
    };
    if (worker->row_id != 0) {
        int64_t freed = pgqrs_store_worker_end(b->store, worker->row_id, &release, err);
        if (freed < 0) {
            return -1;
        }
        if (freed > 0) {
            pgqrs_log_info("broker: worker %s/%u: %lld more leases freed generation=%llu",
                           worker->queue->settings.name, worker->slot, (long long)freed,
                           (unsigned long long)worker->generation);
            worker->queue->maybe_ready = true;
            pgqrs_group_wake(b);
        }
    }
    pgqrs_group_forget_worker(b, worker);
    worker_destroy(b, worker);
    return 0;
}

int pgqrs_workers_bury(struct broker *b, struct pgqrs_error *err)
{
    bool buried = false;
    int rc = 0;
    struct worker *worker = TAILQ_FIRST(&b->workers);
    while (rc == 0 && worker != NULL) {
        struct worker *next = TAILQ_NEXT(worker, link);
        if (worker->gathered) {
            rc = bury(b, worker, err);
            buried = buried || rc == 0;
        }
        worker = next;
    }
    if (buried) {
        pgqrs_peers_announced(b);
    }
    return rc;
}

/* ---- start and stop ---- */

static uint32_t max_attempts_of(const struct broker *b, int64_t queue_id)
{
    for (size_t i = 0; i < b->queue_count; i++) {
        if (b->queues[i].id == queue_id) {
            return b->queues[i].settings.max_attempts;
        }
    }
    return 5; /* pgqrs' default, for a queue that is no longer served */
}

int pgqrs_workers_recover(struct broker *b, struct pgqrs_error *err)
{
    struct pgqrs_worker_list rows;
    if (pgqrs_store_worker_list_live(b->store, &rows, err) < 0) {
        return -1;
    }
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < rows.count; i++) {
        const struct pgqrs_worker_ref *row = &rows.items[i];
        struct worker *live =
            strcmp(row->instance, b->instance) == 0 ? pgqrs_worker_find(b, row->generation) : NULL;
        if (live != NULL) {
            live->row_id = row->id; /* if it dies before it has dialled, its leases are found */
            continue;
        }
        const struct pgqrs_release release = {
            .charge = true,
            .max_attempts = max_attempts_of(b, row->queue_id),
            .reason = "the worker was gone when the broker started",
        };
        int64_t freed = pgqrs_store_worker_end(b->store, row->id, &release, err);
        if (freed > 0) {
            pgqrs_log_warn("broker: worker \"%s\" is gone: %lld leases freed", row->name,
                           (long long)freed);
        }
        rc = freed < 0 ? -1 : 0;
    }
    pgqrs_worker_list_fini(&rows);
    return rc;
}

void pgqrs_workers_fini(struct broker *b)
{
    struct worker *worker;
    while ((worker = TAILQ_FIRST(&b->workers)) != NULL) {
        pgqrs_worker_detach(b, worker);
        worker_destroy(b, worker); /* takes it off the list */
    }
}
