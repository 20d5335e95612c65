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
#define RECOVER_PAGE 500

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
    while (worker->held_count > 0) {
        pgqrs_worker_drop_held(worker, worker->held_count - 1);
    }
    free(worker->held);
    free(worker->reason);
    free(worker);
}

int pgqrs_worker_add(struct broker *b, const struct pgqrs_worker_started *started,
                     struct pgqrs_error *err)
{
    struct broker_queue *queue = pgqrs_queues_find(b, started->queue);
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
    worker->only_message = started->only_message;
    worker->held = held;
    TAILQ_INSERT_TAIL(&b->workers, worker, link);
    if (started->generation > b->newest_generation) {
        b->newest_generation = started->generation;
    }
    TAILQ_INSERT_TAIL(&queue->workers, worker, queue_link);
    return 0;
}

bool pgqrs_worker_has_predecessor(const struct worker *worker)
{
    struct worker *other;
    TAILQ_FOREACH(other, &worker->queue->workers, queue_link)
    {
        /* It is dead though nobody may have said so yet: a place has one process at a time. */
        if (other->slot == worker->slot && other->generation < worker->generation) {
            return true;
        }
    }
    return false;
}

#define ONLY_ROW "/only"

/* One row for each place in a queue of a site, used again by the next process in that place. */
void pgqrs_worker_row_name(const struct broker *b, const struct worker *worker, char *out,
                           size_t size)
{
    (void)snprintf(out, size, "%s/%s%s%u", b->site, worker->queue->settings.name,
                   worker->only_message != 0 ? ONLY_ROW : "/", worker->slot);
}

static bool is_only_row(const char *name)
{
    const char *last = strrchr(name, '/');
    return last != NULL && strncmp(last, ONLY_ROW, strlen(ONLY_ROW)) == 0;
}

void pgqrs_worker_attach(struct broker *b, struct worker *worker, struct peer *peer, int64_t row_id,
                         const struct pgqrs_job_hello *hello)
{
    worker->row_id = row_id;
    worker->peer = peer;
    if (worker->only_message != 0 && worker->inherited) {
        worker->was_dead = true; /* nobody remembers */
    }
    worker->inherited = false;
    worker->capacity = hello->capacity;
    worker->last_us = worker->pace_us = 0;
    while (worker->held_count > 0) { /* what it does not know of was given back at the store */
        pgqrs_worker_drop_held(worker, worker->held_count - 1);
    }
    for (size_t i = 0; i < hello->held_count; i++) {
        pgqrs_worker_hold_sent(worker, hello->held[i]);
    }
    worker->queue->maybe_ready = true;
    pgqrs_orders_attached(b, worker);
    pgqrs_log_debug("broker: worker %s/%u connected pid=%d generation=%llu held=%zu",
                    worker->queue->settings.name, worker->slot, (int)worker->pid,
                    (unsigned long long)worker->generation, worker->held_count);
    pgqrs_only_attached(b, worker);
    pgqrs_commit_wake(b);
}

void pgqrs_worker_detach(struct broker *b, struct worker *worker)
{
    (void)b;
    pgqrs_peer_close(&worker->peer);
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

/* The job that ran had to be ended with its worker. */
static bool was_ended(const struct worker *worker)
{
    return worker->how == PGQRS_END_TIMEOUT || worker->how == PGQRS_END_KILLED;
}

static bool spends_an_attempt(const struct worker *worker)
{
    return worker->how == PGQRS_END_CRASHED || was_ended(worker);
}

/* What it held goes back to the queue with the next exchange. */
static int gather(struct broker *b, struct worker *worker, struct pgqrs_error *err)
{
    const char *reason = worker->reason == NULL ? "worker ended" : worker->reason;
    if (worker->sent_count > 0 && b->draining && worker->how != PGQRS_END_CLEAN) {
        b->exit_status = PGQRS_EXIT_RETURNED;
    }
    while (worker->held_count > 0) {
        /* From the back, so that a failure leaves the running job the first one. */
        const struct held_job *job = &worker->held[worker->held_count - 1];
        bool told = job->order == PGQRS_ORDER_INTERRUPT && was_ended(worker);
        bool charged = worker->held_count == 1 && job->sent && spends_an_attempt(worker) && !told;
        int rc = job->order == PGQRS_ORDER_CANCEL
                     ? pgqrs_group_add_cancelled(b, worker, job->key, err)
                 : charged ? pgqrs_group_add_charged(b, worker, job, reason, err)
                           : pgqrs_group_add_returned(b, worker, job->key, err);
        if (rc < 0) {
            return -1;
        }
        pgqrs_worker_drop_held(worker, worker->held_count - 1);
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
        if (worker->attaching ||
            ((worker->peer != NULL || worker->inherited) && now < worker->gather_by_ms)) {
            int64_t left = worker->gather_by_ms - now;
            next = next == 0 || left < next ? left : next;
            continue;
        }
        pgqrs_worker_detach(b, worker);
        struct pgqrs_error err;
        if (gather(b, worker, &err) < 0) {
            next = GATHER_MS; /* out of memory: later */
        }
        pgqrs_commit_wake(b);
    }
    if (next > 0) {
        start_gather_timer(b, next);
    }
}

static struct worker *worker_of(struct store_task *task)
{
    return (struct worker *)((char *)task - offsetof(struct worker, bury_task));
}

static void run_bury(struct pgqrs_store *store, struct store_task *task)
{
    struct worker *worker = worker_of(task);
    task->rc = worker->row_id == 0
                   ? 0
                   : pgqrs_store_worker_end(store, worker->row_id, &worker->release, &task->err);
}

static void on_buried(void *arg, struct store_task *task)
{
    struct broker *b = arg;
    struct worker *worker = worker_of(task);
    worker->burying = false;
    if (task->rc < 0) {
        pgqrs_commit_trouble(b, &task->err); /* and again when the store works */
        return;
    }
    if (worker->row_id != 0) {
        pgqrs_commit_success(b);
    }
    if (task->rc > 0) {
        pgqrs_log_info("broker: worker %s/%u: %lld more leases freed generation=%llu",
                       worker->queue->settings.name, worker->slot, (long long)task->rc,
                       (unsigned long long)worker->generation);
        pgqrs_tally_freed(b, worker->queue, PGQRS_FREED_WORKER_ENDED, task->rc);
        worker->queue->maybe_ready = true;
    }
    pgqrs_orders_buried(b, worker);
    pgqrs_only_buried(b, worker);
    worker_destroy(b, worker);
    pgqrs_hello_announced(b);
    pgqrs_commit_wake(b);
}

void pgqrs_workers_bury(struct broker *b)
{
    struct worker *worker;
    if (b->commit.under_way) {
        return; /* it may bring leases for one of them; its end comes here again */
    }
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        if (!worker->gathered || worker->burying || worker->attaching || worker->claiming ||
            worker->unsettled > 0 || (b->trouble_since_ms != 0 && !b->trying)) {
            continue;
        }
        /* What it was known to hold is settled; what is left never reached it, unless it never was
         * connected to this broker. */
        worker->release = (struct pgqrs_release){
            .charge = worker->inherited && spends_an_attempt(worker),
            .crashed = worker->how == PGQRS_END_CRASHED,
            .max_attempts = worker->only_message != 0 ? 1 : worker->queue->settings.max_attempts,
            .max_crashes = worker->only_message != 0 ? 1 : worker->queue->settings.max_crashes,
            .reason = worker->reason == NULL ? "worker ended" : worker->reason,
        };
        worker->bury_task =
            (struct store_task){.call = PGQRS_CALL_WORKER, .run = run_bury, .done = on_buried};
        worker->burying = true;
        pgqrs_store_thread_submit(b->store_thread, &worker->bury_task);
    }
}

bool pgqrs_workers_pending(const struct broker *b)
{
    const struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        if (worker->burying || worker->attaching) {
            return true;
        }
    }
    return false;
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

static void count_freed(struct broker *b, int64_t queue_id, int64_t freed)
{
    for (size_t i = 0; i < b->queue_count; i++) {
        if (b->queues[i].id == queue_id) {
            pgqrs_tally_freed(b, &b->queues[i], PGQRS_FREED_WORKER_ENDED, freed);
        }
    }
}

static int recover_one(struct broker *b, const struct pgqrs_worker_info *row,
                       struct pgqrs_error *err)
{
    struct worker *live =
        strcmp(row->instance, b->instance) == 0 ? pgqrs_worker_find(b, row->generation) : NULL;
    if (live != NULL) {
        live->row_id = row->id; /* if it dies before it has dialled, its leases are found */
        return 0;
    }
    const struct pgqrs_release release = {
        .charge = true,
        .max_attempts = is_only_row(row->name) ? 1 : max_attempts_of(b, row->queue_id),
        .reason = "the worker was gone when the broker started",
    };
    int64_t freed = pgqrs_store_worker_end(b->store, row->id, &release, err);
    if (freed > 0) {
        pgqrs_log_warn("broker: worker \"%s\" is gone: %lld leases freed", row->name,
                       (long long)freed);
        count_freed(b, row->queue_id, freed);
    }
    return freed < 0 ? -1 : 0;
}

int pgqrs_workers_recover(struct broker *b, struct pgqrs_error *err)
{
    char prefix[512];
    (void)snprintf(prefix, sizeof prefix, "%s/", b->site);
    struct pgqrs_worker_filter filter = {
        .live = true,
        .ours = true,
        .name_prefix = b->alone ? NULL : prefix, /* other sites may live */
        .limit = RECOVER_PAGE,
    };
    size_t count = RECOVER_PAGE;
    int rc = 0;
    while (rc == 0 && count == RECOVER_PAGE) {
        struct pgqrs_worker_info_list rows;
        if (pgqrs_store_worker_list(b->store, &filter, &rows, err) < 0) {
            return -1;
        }
        count = rows.count;
        for (size_t i = 0; rc == 0 && i < rows.count; i++) {
            filter.before_id = rows.items[i].id;
            rc = recover_one(b, &rows.items[i], err);
        }
        pgqrs_worker_info_list_fini(&rows);
    }
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
