/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker that somebody has started for one message. It gets no other lease; once it is connected
 * that message is claimed for it, and pgqrsd is told what comes of it, once.
 */
#include "broker/broker.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

struct claim_task {
    struct store_task task;
    uint64_t generation;
    struct pgqrs_message_claim claim;
    struct pgqrs_exchange leased;
};
_Static_assert(offsetof(struct claim_task, task) == 0, "one is taken for the other");

static void tell(struct broker *b, struct worker *worker, enum pgqrs_run_outcome outcome,
                 const char *text)
{
    struct pgqrs_buf out = {0};
    struct pgqrs_error err;
    if (worker->run_told) {
        return;
    }
    worker->run_told = true;
    pgqrs_encode_run_ended(&out, &(struct pgqrs_run_ended){.generation = worker->generation,
                                                           .outcome = outcome,
                                                           .text = text});
    if (pgqrs_control_send(b->child->control, &out, &err) < 0) {
        pgqrs_log_error("broker: message %lld: %s; not reported: %s",
                        (long long)worker->only_message, pgqrs_run_outcome_name(outcome), err.text);
    }
    pgqrs_buf_fini(&out);
}

/* ---- claiming ---- */

static void drop_claim(struct store_task *task)
{
    struct claim_task *t = (struct claim_task *)task;
    pgqrs_exchange_fini(&t->leased);
    free(t);
}

static void run_claim(struct pgqrs_store *store, struct store_task *task)
{
    struct claim_task *t = (struct claim_task *)task;
    task->rc = pgqrs_store_message_claim(store, &t->claim, &t->leased, &task->err);
}

static void take(struct broker *b, struct worker *worker, const struct pgqrs_lease *lease)
{
    const struct pgqrs_job_key key = pgqrs_lease_key(lease);
    struct pgqrs_error err;
    if (lease->payload.len > PGQRS_PAYLOAD_MAX) {
        pgqrs_group_add_oversized(b, worker, key);
    } else if ((worker->gathered || worker->held_back || b->draining ||
                pgqrs_worker_hold(worker, lease) < 0) &&
               pgqrs_group_add_returned(b, worker, key, &err) < 0) {
        pgqrs_log_error("broker: message %lld: %s", (long long)key.id, err.text);
    }
    pgqrs_worker_send_reserve(worker);
    pgqrs_worker_flush(worker);
}

static void on_claimed(void *arg, struct store_task *task)
{
    struct broker *b = arg;
    struct claim_task *t = (struct claim_task *)task;
    struct worker *worker = pgqrs_worker_find(b, t->generation); /* claiming, so it is there */
    bool later =
        task->rc < 0 && (task->err.code == PGQRS_ERR_AGAIN || task->err.code == PGQRS_ERR_UNKNOWN);
    worker->claiming = false;
    if (later) {
        worker->unsure = worker->unsure || task->err.code == PGQRS_ERR_UNKNOWN;
        pgqrs_commit_trouble(b, &task->err);
        pgqrs_worker_detach(b, worker); /* it dials again, and is heard when the store works */
    } else if (task->rc < 0) {
        tell(b, worker, PGQRS_ISOLATED_REFUSED, task->err.text);
    } else {
        worker->was_dead = worker->was_dead || worker->unsure || t->claim.replayed;
        take(b, worker, &t->leased.leases[0]);
        pgqrs_commit_success(b);
    }
    drop_claim(task);
    pgqrs_commit_wake(b);
}

void pgqrs_only_attached(struct broker *b, struct worker *worker)
{
    if (worker->only_message == 0 || worker->claiming || worker->run_told ||
        worker->held_count > 0) {
        return;
    }
    struct claim_task *t = b->draining ? NULL : calloc(1, sizeof *t);
    if (t == NULL) {
        tell(b, worker, PGQRS_ISOLATED_REFUSED,
             b->draining ? "pgqrsd is stopping" : "out of memory");
        return;
    }
    t->task = (struct store_task){
        .call = PGQRS_CALL_EXCHANGE, .run = run_claim, .done = on_claimed, .drop = drop_claim};
    t->generation = worker->generation;
    t->claim = (struct pgqrs_message_claim){.message_id = worker->only_message,
                                            .queue_id = worker->queue->id,
                                            .worker_id = worker->row_id,
                                            .lease_ms = b->lease_ms};
    worker->claiming = true;
    pgqrs_store_thread_submit(b->store_thread, &t->task);
}

/* ---- what came of it ---- */

static enum pgqrs_run_outcome outcome_of(const struct pgqrs_settlement *item)
{
    static const enum pgqrs_run_outcome outcomes[PGQRS_SETTLE_COUNT] = {
        [PGQRS_SETTLE_ARCHIVE] = PGQRS_ISOLATED_DONE,
        [PGQRS_SETTLE_DELETE] = PGQRS_ISOLATED_DONE,
        [PGQRS_SETTLE_DEAD] = PGQRS_ISOLATED_FAILED,
        [PGQRS_SETTLE_CANCEL] = PGQRS_ISOLATED_CANCELLED,
        [PGQRS_SETTLE_RETRY] = PGQRS_ISOLATED_RETRIED,
        [PGQRS_SETTLE_SNOOZE] = PGQRS_ISOLATED_SNOOZED,
        [PGQRS_SETTLE_RETURN] = PGQRS_ISOLATED_RETURNED,
    };
    return item->settled_out == PGQRS_SETTLED_REFUSED ? PGQRS_ISOLATED_LOST : outcomes[item->how];
}

void pgqrs_only_settled(struct broker *b, struct worker *worker,
                        const struct pgqrs_settlement *item)
{
    char text[PGQRS_ERROR_TEXT_MAX + 1];
    if (worker->only_message == 0) {
        return;
    }
    size_t len = item->error.len < sizeof text - 1 ? item->error.len : sizeof text - 1;
    memcpy(text, item->error.data == NULL ? "" : item->error.data, len);
    text[len] = 0;
    tell(b, worker, outcome_of(item), text);
}

void pgqrs_only_buried(struct broker *b, struct worker *worker)
{
    if (worker->only_message != 0) {
        tell(b, worker, PGQRS_RUN_NOT_RUN, worker->reason == NULL ? "" : worker->reason);
    }
}
