/* SPDX-License-Identifier: Apache-2.0 */
/* What is in a call and in its reply, operation by operation. */
#include "ipc/store_wire.h"

#include <stdio.h>

#define ENQUEUE_MIN 34 /* bytes on the wire of the smallest item */
#define FOLLOW_UP_MIN (5 + ENQUEUE_MIN)
#define SETTLEMENT_MIN 44
#define WANT_MIN 32
#define LEASE_REF_MIN 20
#define QUEUE_MIN 30
#define MESSAGE_MIN 87
#define WORKER_MIN 72
#define LEASE_MIN 41

/* ---- queues and messages ---- */

static void wire_enqueue(struct pgqrs_wire *w, struct pgqrs_enqueue *m)
{
    m->payload = pgqrs_wire_bytes(w, m->payload);
    m->delay_ms = pgqrs_wire_i64(w, m->delay_ms);
    m->at_us = pgqrs_wire_i64(w, m->at_us);
    m->priority = pgqrs_wire_i32(w, m->priority);
    m->unique_key = pgqrs_wire_maybe(w, m->unique_key);
    m->producer_worker_id = pgqrs_wire_i64(w, m->producer_worker_id);
}

static void call_enqueue(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.enqueue.queue_id = pgqrs_wire_i64(w, m->u.enqueue.queue_id);
    struct pgqrs_enqueue *read =
        pgqrs_wire_list(w, &m->u.enqueue.count, PGQRS_STORE_ENQUEUE_MAX, ENQUEUE_MIN, sizeof *read);
    for (size_t i = 0; i < m->u.enqueue.count && !w->failed; i++) {
        struct pgqrs_enqueue item = read == NULL ? m->u.enqueue.items[i] : read[i];
        wire_enqueue(w, &item);
        if (read != NULL) {
            read[i] = item;
        }
    }
    m->u.enqueue.items = read;
}

static void wire_message_filter(struct pgqrs_wire *w, struct pgqrs_message_filter *m)
{
    m->queue_id = pgqrs_wire_i64(w, m->queue_id);
    m->state = pgqrs_wire_enum(w, m->state, PGQRS_STATE_COUNT);
    m->outcome = pgqrs_wire_maybe(w, m->outcome);
    m->consumer_worker_id = pgqrs_wire_i64(w, m->consumer_worker_id);
    m->unique_key = pgqrs_wire_maybe(w, m->unique_key);
    m->before_id = pgqrs_wire_i64(w, m->before_id);
    m->limit = pgqrs_wire_u32(w, m->limit);
}

static const int64_t *wire_ids(struct pgqrs_wire *w, const int64_t *ids, size_t *count,
                               size_t max_count)
{
    int64_t *read = pgqrs_wire_list(w, count, max_count, sizeof *read, sizeof *read);
    for (size_t i = 0; i < *count && !w->failed; i++) {
        if (read != NULL) {
            read[i] = pgqrs_wire_i64(w, 0);
        } else {
            (void)pgqrs_wire_i64(w, ids[i]); /* gives back what it got */
        }
    }
    return read;
}

static void wire_prune(struct pgqrs_wire *w, struct pgqrs_prune *m)
{
    m->queue_id = pgqrs_wire_i64(w, m->queue_id);
    m->what = pgqrs_wire_enum(w, m->what, PGQRS_PRUNE_FAILED + 1);
    m->age_ms = pgqrs_wire_i64(w, m->age_ms);
    m->limit = pgqrs_wire_u32(w, m->limit);
    m->from_us = pgqrs_wire_i64(w, m->from_us);
    m->from_id = pgqrs_wire_i64(w, m->from_id);
}

static void wire_reap(struct pgqrs_wire *w, struct pgqrs_reap *m)
{
    m->queue_id = pgqrs_wire_i64(w, m->queue_id);
    m->stale_ms = pgqrs_wire_i64(w, m->stale_ms);
    m->foreign = pgqrs_wire_flag(w, m->foreign);
    m->limit = pgqrs_wire_u32(w, m->limit);
}

/* ---- workers ---- */

static void wire_worker_row(struct pgqrs_wire *w, struct pgqrs_worker_row *m)
{
    m->name = pgqrs_wire_maybe(w, m->name);
    m->queue_id = pgqrs_wire_i64(w, m->queue_id);
    m->instance = pgqrs_wire_maybe(w, m->instance);
    m->generation = pgqrs_wire_u64(w, m->generation);
    m->pid = pgqrs_wire_i64(w, m->pid);
    m->stale_ms = pgqrs_wire_i64(w, m->stale_ms);
}

static void wire_release(struct pgqrs_wire *w, struct pgqrs_release *m)
{
    m->charge = pgqrs_wire_flag(w, m->charge);
    m->crashed = pgqrs_wire_flag(w, m->crashed);
    m->max_attempts = pgqrs_wire_u32(w, m->max_attempts);
    m->max_crashes = pgqrs_wire_u32(w, m->max_crashes);
    m->reason = pgqrs_wire_maybe(w, m->reason);
}

static const struct pgqrs_lease_ref *
wire_lease_refs(struct pgqrs_wire *w, const struct pgqrs_lease_ref *refs, size_t *count)
{
    struct pgqrs_lease_ref *read =
        pgqrs_wire_list(w, count, PGQRS_STORE_LIST_MAX, LEASE_REF_MIN, sizeof *read);
    for (size_t i = 0; i < *count && !w->failed; i++) {
        struct pgqrs_lease_ref ref = read == NULL ? refs[i] : read[i];
        ref.message_id = pgqrs_wire_i64(w, ref.message_id);
        ref.worker_id = pgqrs_wire_i64(w, ref.worker_id);
        ref.attempt = pgqrs_wire_u32(w, ref.attempt);
        if (read != NULL) {
            read[i] = ref;
        }
    }
    return read;
}

static void wire_worker_filter(struct pgqrs_wire *w, struct pgqrs_worker_filter *m)
{
    m->id = pgqrs_wire_i64(w, m->id);
    m->queue_id = pgqrs_wire_i64(w, m->queue_id);
    m->state = pgqrs_wire_enum(w, m->state, PGQRS_WORKER_STATE_COUNT);
    m->name_prefix = pgqrs_wire_maybe(w, m->name_prefix);
    m->live = pgqrs_wire_flag(w, m->live);
    m->ours = pgqrs_wire_flag(w, m->ours);
    m->before_id = pgqrs_wire_i64(w, m->before_id);
    m->limit = pgqrs_wire_u32(w, m->limit);
}

/* ---- the exchange ---- */

static void wire_follow_ups(struct pgqrs_wire *w, struct pgqrs_settlement *m)
{
    struct pgqrs_follow_up *read =
        pgqrs_wire_list(w, &m->follow_up_count, PGQRS_STORE_LIST_MAX, FOLLOW_UP_MIN, sizeof *read);
    for (size_t i = 0; i < m->follow_up_count && !w->failed; i++) {
        struct pgqrs_follow_up item = read == NULL ? m->follow_ups[i] : read[i];
        item.queue = pgqrs_wire_text(w, item.queue);
        wire_enqueue(w, &item.item);
        if (read != NULL) {
            read[i] = item;
        }
    }
    m->follow_ups = read;
}

static void wire_settlement(struct pgqrs_wire *w, struct pgqrs_settlement *m)
{
    m->message_id = pgqrs_wire_i64(w, m->message_id);
    m->worker_id = pgqrs_wire_i64(w, m->worker_id);
    m->attempt = pgqrs_wire_u32(w, m->attempt);
    m->how = pgqrs_wire_enum(w, m->how, PGQRS_SETTLE_COUNT);
    m->crashed = pgqrs_wire_flag(w, m->crashed);
    m->delay_ms = pgqrs_wire_i64(w, m->delay_ms);
    m->error = pgqrs_wire_bytes(w, m->error);
    m->result = pgqrs_wire_bytes(w, m->result);
    wire_follow_ups(w, m);
}

static void wire_settlements(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    struct pgqrs_settlement *read = pgqrs_wire_list(
        w, &m->u.exchange.settlement_count, PGQRS_STORE_LIST_MAX, SETTLEMENT_MIN, sizeof *read);
    for (size_t i = 0; i < m->u.exchange.settlement_count && !w->failed; i++) {
        struct pgqrs_settlement item = read == NULL ? m->u.exchange.settlements[i] : read[i];
        wire_settlement(w, &item);
        if (read != NULL) {
            read[i] = item;
        }
    }
    m->u.exchange.settlements = read;
}

static void wire_wants(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    uint64_t leases = 0;
    struct pgqrs_want *read =
        pgqrs_wire_list(w, &m->u.exchange.want_count, PGQRS_STORE_LIST_MAX, WANT_MIN, sizeof *read);
    for (size_t i = 0; i < m->u.exchange.want_count && !w->failed; i++) {
        struct pgqrs_want want = read == NULL ? m->u.exchange.wants[i] : read[i];
        want.queue_id = pgqrs_wire_i64(w, want.queue_id);
        want.worker_id = pgqrs_wire_i64(w, want.worker_id);
        want.count = pgqrs_wire_u32(w, want.count);
        want.max_attempts = pgqrs_wire_u32(w, want.max_attempts);
        want.lease_ms = pgqrs_wire_i64(w, want.lease_ms);
        leases += want.count;
        if (read != NULL) {
            read[i] = want;
        }
    }
    m->u.exchange.wants = read;
    if (leases > PGQRS_STORE_LIST_MAX) {
        pgqrs_wire_fail(w, "found %llu leases wanted, expected at most %d",
                        (unsigned long long)leases, PGQRS_STORE_LIST_MAX);
    }
}

/* ---- calls ---- */

static void call_nothing(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    (void)w;
    (void)m;
}

static void call_name(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.name = pgqrs_wire_text(w, m->u.name);
}

static void call_id(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.id = pgqrs_wire_i64(w, m->u.id);
}

static void call_queue_list(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.queue_list.after_id = pgqrs_wire_i64(w, m->u.queue_list.after_id);
    m->u.queue_list.limit = pgqrs_wire_u32(w, m->u.queue_list.limit);
}

static void call_pause(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.pause.queue_id = pgqrs_wire_i64(w, m->u.pause.queue_id);
    m->u.pause.paused = pgqrs_wire_flag(w, m->u.pause.paused);
}

static void call_queue_purge(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.queue_purge.queue_id = pgqrs_wire_i64(w, m->u.queue_purge.queue_id);
    m->u.queue_purge.what = pgqrs_wire_u32(w, m->u.queue_purge.what);
    m->u.queue_purge.limit = pgqrs_wire_u32(w, m->u.queue_purge.limit);
}

static void call_metrics(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.metrics.queue_id = pgqrs_wire_i64(w, m->u.metrics.queue_id);
    m->u.metrics.count_max = pgqrs_wire_u64(w, m->u.metrics.count_max);
}

static void call_messages(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    wire_message_filter(w, &m->u.messages);
}

static void call_act(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.act.act = pgqrs_wire_enum(w, m->u.act.act, PGQRS_ACT_COUNT);
    m->u.act.ids = wire_ids(w, m->u.act.ids, &m->u.act.count, PGQRS_STORE_LIST_MAX);
}

static void call_prune(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    wire_prune(w, &m->u.prune);
}

static void call_bury(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.bury.queue_id = pgqrs_wire_i64(w, m->u.bury.queue_id);
    m->u.bury.max_attempts = pgqrs_wire_u32(w, m->u.bury.max_attempts);
}

static void call_reap(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    wire_reap(w, &m->u.reap);
}

static void call_register(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    wire_worker_row(w, &m->u.worker);
}

static void call_beat(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.beat.ids = wire_ids(w, m->u.beat.ids, &m->u.beat.count, PGQRS_STORE_LIST_MAX);
}

static void call_end(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.end.worker_id = pgqrs_wire_i64(w, m->u.end.worker_id);
    wire_release(w, &m->u.end.release);
}

static void call_reconcile(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.reconcile.worker_id = pgqrs_wire_i64(w, m->u.reconcile.worker_id);
    m->u.reconcile.known = wire_lease_refs(w, m->u.reconcile.known, &m->u.reconcile.count);
}

static void call_workers(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    wire_worker_filter(w, &m->u.workers);
}

static void call_move(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.move.worker_id = pgqrs_wire_i64(w, m->u.move.worker_id);
    m->u.move.move = pgqrs_wire_enum(w, m->u.move.move, PGQRS_MOVE_COUNT);
}

static void call_worker_purge(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.worker_purge.older_ms = pgqrs_wire_i64(w, m->u.worker_purge.older_ms);
    m->u.worker_purge.limit = pgqrs_wire_u32(w, m->u.worker_purge.limit);
}

static void call_stats(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.stats.queue_id = pgqrs_wire_i64(w, m->u.stats.queue_id);
    m->u.stats.stale_ms = pgqrs_wire_i64(w, m->u.stats.stale_ms);
}

static void call_exchange(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    wire_settlements(w, m);
    wire_wants(w, m);
}

static void call_renew(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.renew.leases = wire_lease_refs(w, m->u.renew.leases, &m->u.renew.count);
    m->u.renew.lease_ms = pgqrs_wire_i64(w, m->u.renew.lease_ms);
}

static void call_orders(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.orders.ids = wire_ids(w, m->u.orders.ids, &m->u.orders.count, PGQRS_STORE_LIST_MAX);
    m->u.orders.beat = pgqrs_wire_flag(w, m->u.orders.beat);
    m->u.orders.cancel_max = pgqrs_wire_u32(w, m->u.orders.cancel_max);
}

/* ---- replies ---- */

static void reply_nothing(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    (void)w;
    (void)m;
}

static void reply_id(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    m->u.id = pgqrs_wire_i64(w, m->u.id);
}

static void wire_queue(struct pgqrs_wire *w, struct pgqrs_queue *m)
{
    m->id = pgqrs_wire_i64(w, m->id);
    m->name = pgqrs_wire_own(w, m->name);
    m->created_at_us = pgqrs_wire_i64(w, m->created_at_us);
    m->paused_at_us = pgqrs_wire_i64(w, m->paused_at_us);
}

static void reply_queues(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    struct pgqrs_queue_list *list = &m->u.queues;
    struct pgqrs_queue *read = pgqrs_wire_own_list(w, &list->count, QUEUE_MIN, sizeof *read);
    list->items = pgqrs_wire_reads(w) ? read : list->items;
    for (size_t i = 0; i < list->count && !w->failed; i++) {
        wire_queue(w, &list->items[i]);
        if (list->items[i].name == NULL) {
            pgqrs_wire_fail(w, "queue %zu has no name", i);
        }
    }
}

static void fini_queues(struct pgqrs_store_reply *m)
{
    pgqrs_queue_list_fini(&m->u.queues);
}

static void reply_metrics(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    struct pgqrs_queue_metrics *v = &m->u.metrics;
    v->total = pgqrs_wire_i64(w, v->total);
    v->pending = pgqrs_wire_i64(w, v->pending);
    v->ready = pgqrs_wire_i64(w, v->ready);
    v->leased = pgqrs_wire_i64(w, v->leased);
    v->archived = pgqrs_wire_i64(w, v->archived);
    v->failed = pgqrs_wire_i64(w, v->failed);
    v->oldest_pending_us = pgqrs_wire_i64(w, v->oldest_pending_us);
    v->newest_us = pgqrs_wire_i64(w, v->newest_us);
    v->next_due_us = pgqrs_wire_i64(w, v->next_due_us);
    v->now_us = pgqrs_wire_i64(w, v->now_us);
}

static const bool *wire_flags(struct pgqrs_wire *w, const bool *flags, size_t *count,
                              size_t max_count)
{
    bool *read = pgqrs_wire_list(w, count, max_count, 1, sizeof *read);
    for (size_t i = 0; i < *count && !w->failed; i++) {
        bool flag = pgqrs_wire_flag(w, read == NULL && flags[i]);
        if (read != NULL) {
            read[i] = flag;
        }
    }
    return read;
}

static void reply_enqueued(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    size_t count = m->u.enqueued.count;
    m->u.enqueued.ids =
        wire_ids(w, m->u.enqueued.ids, &m->u.enqueued.count, PGQRS_STORE_ENQUEUE_MAX);
    m->u.enqueued.existed = wire_flags(w, m->u.enqueued.existed, &count, PGQRS_STORE_ENQUEUE_MAX);
    if (count != m->u.enqueued.count) {
        pgqrs_wire_fail(w, "found %zu answers for %zu items", count, m->u.enqueued.count);
    }
}

static void wire_message(struct pgqrs_wire *w, struct pgqrs_message *m)
{
    m->id = pgqrs_wire_i64(w, m->id);
    m->queue_id = pgqrs_wire_i64(w, m->queue_id);
    m->state = pgqrs_wire_enum(w, m->state, PGQRS_STATE_COUNT);
    m->enqueued_at_us = pgqrs_wire_i64(w, m->enqueued_at_us);
    m->vt_us = pgqrs_wire_i64(w, m->vt_us);
    m->dequeued_at_us = pgqrs_wire_i64(w, m->dequeued_at_us);
    m->archived_at_us = pgqrs_wire_i64(w, m->archived_at_us);
    m->consumer_worker_id = pgqrs_wire_i64(w, m->consumer_worker_id);
    m->producer_worker_id = pgqrs_wire_i64(w, m->producer_worker_id);
    m->read_ct = pgqrs_wire_i32(w, m->read_ct);
    m->priority = pgqrs_wire_i32(w, m->priority);
    m->crash_ct = pgqrs_wire_i32(w, m->crash_ct);
    m->payload = pgqrs_wire_own(w, m->payload);
    m->unique_key = pgqrs_wire_own(w, m->unique_key);
    m->outcome = pgqrs_wire_own(w, m->outcome);
    m->result = pgqrs_wire_own(w, m->result);
    m->error = pgqrs_wire_own(w, m->error);
    if (m->payload == NULL) {
        pgqrs_wire_fail(w, "message %lld has no payload", (long long)m->id);
    }
}

static void reply_message(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    wire_message(w, &m->u.message);
}

static void fini_message(struct pgqrs_store_reply *m)
{
    pgqrs_message_fini(&m->u.message);
}

static void reply_messages(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    struct pgqrs_message_list *list = &m->u.messages;
    list->next_before_id = pgqrs_wire_i64(w, list->next_before_id);
    struct pgqrs_message *read = pgqrs_wire_own_list(w, &list->count, MESSAGE_MIN, sizeof *read);
    list->items = pgqrs_wire_reads(w) ? read : list->items;
    for (size_t i = 0; i < list->count && !w->failed; i++) {
        wire_message(w, &list->items[i]);
    }
}

static void fini_messages(struct pgqrs_store_reply *m)
{
    pgqrs_message_list_fini(&m->u.messages);
}

static void reply_acted(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    enum pgqrs_acted *read =
        pgqrs_wire_list(w, &m->u.acted.count, PGQRS_STORE_LIST_MAX, 1, sizeof *read);
    for (size_t i = 0; i < m->u.acted.count && !w->failed; i++) {
        enum pgqrs_acted item = read == NULL ? m->u.acted.items[i] : PGQRS_ACTED_NONE;
        item = pgqrs_wire_enum(w, item, PGQRS_ACTED_COUNT);
        if (read != NULL) {
            read[i] = item;
        }
    }
    m->u.acted.items = read;
}

static void reply_prune(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    m->u.prune.from_us = pgqrs_wire_i64(w, m->u.prune.from_us);
    m->u.prune.from_id = pgqrs_wire_i64(w, m->u.prune.from_id);
}

static void wire_worker(struct pgqrs_wire *w, struct pgqrs_worker_info *m)
{
    m->id = pgqrs_wire_i64(w, m->id);
    m->queue_id = pgqrs_wire_i64(w, m->queue_id);
    m->state = pgqrs_wire_enum(w, m->state, PGQRS_WORKER_STATE_COUNT);
    m->started_at_us = pgqrs_wire_i64(w, m->started_at_us);
    m->heartbeat_at_us = pgqrs_wire_i64(w, m->heartbeat_at_us);
    m->shutdown_at_us = pgqrs_wire_i64(w, m->shutdown_at_us);
    m->held = pgqrs_wire_i64(w, m->held);
    m->generation = pgqrs_wire_u64(w, m->generation);
    m->pid = pgqrs_wire_i64(w, m->pid);
    m->name = pgqrs_wire_own(w, m->name);
    m->instance = pgqrs_wire_own(w, m->instance);
    if (m->name == NULL) {
        pgqrs_wire_fail(w, "worker %lld has no name", (long long)m->id);
    }
}

static void reply_workers(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    struct pgqrs_worker_info_list *list = &m->u.workers;
    list->now_us = pgqrs_wire_i64(w, list->now_us);
    struct pgqrs_worker_info *read = pgqrs_wire_own_list(w, &list->count, WORKER_MIN, sizeof *read);
    list->items = pgqrs_wire_reads(w) ? read : list->items;
    for (size_t i = 0; i < list->count && !w->failed; i++) {
        wire_worker(w, &list->items[i]);
    }
}

static void fini_workers(struct pgqrs_store_reply *m)
{
    pgqrs_worker_info_list_fini(&m->u.workers);
}

static void reply_stats(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    struct pgqrs_worker_stats *v = &m->u.stats;
    v->total = pgqrs_wire_i64(w, v->total);
    v->ready = pgqrs_wire_i64(w, v->ready);
    v->polling = pgqrs_wire_i64(w, v->polling);
    v->suspended = pgqrs_wire_i64(w, v->suspended);
    v->interrupted = pgqrs_wire_i64(w, v->interrupted);
    v->stopped = pgqrs_wire_i64(w, v->stopped);
    v->stale = pgqrs_wire_i64(w, v->stale);
    v->held = pgqrs_wire_i64(w, v->held);
    v->oldest_start_us = pgqrs_wire_i64(w, v->oldest_start_us);
    v->newest_beat_us = pgqrs_wire_i64(w, v->newest_beat_us);
    v->now_us = pgqrs_wire_i64(w, v->now_us);
}

static void reply_info(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    struct pgqrs_store_info *v = &m->u.info;
    v->queues = pgqrs_wire_i64(w, v->queues);
    v->paused_queues = pgqrs_wire_i64(w, v->paused_queues);
    v->workflows = pgqrs_wire_i64(w, v->workflows);
    v->schema_version = pgqrs_wire_i32(w, v->schema_version);
    v->pgqrs_schema = pgqrs_wire_text(w, v->pgqrs_schema);
    const char *server = pgqrs_wire_text(w, v->server);
    if (pgqrs_wire_reads(w) &&
        (size_t)snprintf(v->server, sizeof v->server, "%s", server) >= sizeof v->server) {
        pgqrs_wire_fail(w, "found a server's name that is too long");
    }
}

static void wire_lease(struct pgqrs_wire *w, struct pgqrs_lease *m)
{
    m->want = pgqrs_wire_u32(w, (uint32_t)m->want);
    m->message_id = pgqrs_wire_i64(w, m->message_id);
    m->attempt = pgqrs_wire_u32(w, m->attempt);
    m->priority = pgqrs_wire_i32(w, m->priority);
    m->crash_ct = pgqrs_wire_i32(w, m->crash_ct);
    m->enqueued_at_us = pgqrs_wire_i64(w, m->enqueued_at_us);
    m->waited_us = pgqrs_wire_i64(w, m->waited_us);
    m->payload = pgqrs_wire_bytes(w, m->payload);
}

static const enum pgqrs_settled *wire_settled(struct pgqrs_wire *w, const enum pgqrs_settled *items,
                                              size_t *count)
{
    enum pgqrs_settled *read = pgqrs_wire_list(w, count, PGQRS_STORE_LIST_MAX, 1, sizeof *read);
    for (size_t i = 0; i < *count && !w->failed; i++) {
        enum pgqrs_settled item = read == NULL ? items[i] : PGQRS_SETTLED_NONE;
        item = pgqrs_wire_enum(w, item, PGQRS_SETTLED_REFUSED + 1);
        if (read != NULL) {
            read[i] = item;
        }
    }
    return read;
}

static void reply_exchange(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    m->u.exchange.settled = wire_settled(w, m->u.exchange.settled, &m->u.exchange.settled_count);
    struct pgqrs_lease *read = pgqrs_wire_list(w, &m->u.exchange.lease_count, PGQRS_STORE_LIST_MAX,
                                               LEASE_MIN, sizeof *read);
    for (size_t i = 0; i < m->u.exchange.lease_count && !w->failed; i++) {
        struct pgqrs_lease lease = read == NULL ? m->u.exchange.leases[i] : read[i];
        wire_lease(w, &lease);
        if (read != NULL) {
            read[i] = lease;
        }
    }
    m->u.exchange.leases = read;
    m->u.exchange.next_due_us = pgqrs_wire_i64(w, m->u.exchange.next_due_us);
    m->u.exchange.now_us = pgqrs_wire_i64(w, m->u.exchange.now_us);
}

static void reply_renewed(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    m->u.renewed.held = wire_flags(w, m->u.renewed.held, &m->u.renewed.count, PGQRS_STORE_LIST_MAX);
}

static void reply_orders(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    enum pgqrs_worker_state *read =
        pgqrs_wire_list(w, &m->u.orders.state_count, PGQRS_STORE_LIST_MAX, 1, sizeof *read);
    for (size_t i = 0; i < m->u.orders.state_count && !w->failed; i++) {
        enum pgqrs_worker_state state = read == NULL ? m->u.orders.states[i] : PGQRS_WORKER_NONE;
        state = pgqrs_wire_enum(w, state, PGQRS_WORKER_STATE_COUNT);
        if (read != NULL) {
            read[i] = state;
        }
    }
    m->u.orders.states = read;
    m->u.orders.cancels = wire_lease_refs(w, m->u.orders.cancels, &m->u.orders.cancel_count);
}

/* ---- the table ---- */

const struct pgqrs_store_op_desc pgqrs_store_op_descs[PGQRS_STORE_OP_COUNT] = {
    [PGQRS_STORE_INSTALL] = {"install", true, call_nothing, reply_nothing, NULL},
    [PGQRS_STORE_VERIFY] = {"verify", false, call_nothing, reply_nothing, NULL},
    [PGQRS_STORE_QUEUE_CREATE] = {"queue create", true, call_name, reply_id, NULL},
    [PGQRS_STORE_QUEUE_FIND] = {"queue find", false, call_name, reply_id, NULL},
    [PGQRS_STORE_QUEUE_LIST] = {"queue list", false, call_queue_list, reply_queues, fini_queues},
    [PGQRS_STORE_QUEUE_PAUSE] = {"queue pause", true, call_pause, reply_nothing, NULL},
    [PGQRS_STORE_QUEUE_DELETE] = {"queue delete", true, call_id, reply_nothing, NULL},
    [PGQRS_STORE_QUEUE_PURGE] = {"queue purge", true, call_queue_purge, reply_nothing, NULL},
    [PGQRS_STORE_QUEUE_METRICS] = {"queue metrics", false, call_metrics, reply_metrics, NULL},
    [PGQRS_STORE_ENQUEUE] = {"enqueue", true, call_enqueue, reply_enqueued, NULL},
    [PGQRS_STORE_MESSAGE_GET] = {"message get", false, call_id, reply_message, fini_message},
    [PGQRS_STORE_MESSAGE_LIST] = {"message list", false, call_messages, reply_messages,
                                  fini_messages},
    [PGQRS_STORE_MESSAGE_ACT] = {"message act", true, call_act, reply_acted, NULL},
    [PGQRS_STORE_PRUNE] = {"prune", true, call_prune, reply_prune, NULL},
    [PGQRS_STORE_BURY] = {"bury", true, call_bury, reply_nothing, NULL},
    [PGQRS_STORE_REAP] = {"reap", true, call_reap, reply_nothing, NULL},
    [PGQRS_STORE_WORKER_REGISTER] = {"worker register", true, call_register, reply_id, NULL},
    [PGQRS_STORE_WORKER_BEAT] = {"worker beat", true, call_beat, reply_nothing, NULL},
    [PGQRS_STORE_WORKER_END] = {"worker end", true, call_end, reply_nothing, NULL},
    [PGQRS_STORE_WORKER_RECONCILE] = {"worker reconcile", true, call_reconcile, reply_nothing,
                                      NULL},
    [PGQRS_STORE_WORKER_LIST] = {"worker list", false, call_workers, reply_workers, fini_workers},
    [PGQRS_STORE_WORKER_MOVE] = {"worker move", true, call_move, reply_nothing, NULL},
    [PGQRS_STORE_WORKER_DELETE] = {"worker delete", true, call_id, reply_nothing, NULL},
    [PGQRS_STORE_WORKER_PURGE] = {"worker purge", true, call_worker_purge, reply_nothing, NULL},
    [PGQRS_STORE_WORKER_STATS] = {"worker stats", false, call_stats, reply_stats, NULL},
    [PGQRS_STORE_INFO] = {"info", false, call_nothing, reply_info, NULL},
    [PGQRS_STORE_EXCHANGE] = {"exchange", true, call_exchange, reply_exchange, NULL},
    [PGQRS_STORE_RENEW] = {"renew", true, call_renew, reply_renewed, NULL},
    [PGQRS_STORE_WORKER_ORDERS] = {"worker orders", true, call_orders, reply_orders, NULL},
    [PGQRS_STORE_WORKFLOW_CREATE] = {"workflow create", true, call_name, pgqrs_wire_reply_workflow,
                                     NULL},
    [PGQRS_STORE_WORKFLOW_LIST] = {"workflow list", false, call_queue_list,
                                   pgqrs_wire_reply_workflows, pgqrs_wire_fini_workflows},
    [PGQRS_STORE_WORKFLOW_FIND] = {"workflow find", false, call_name, pgqrs_wire_reply_workflows,
                                   pgqrs_wire_fini_workflows},
    [PGQRS_STORE_RUN_GET] = {"run get", false, call_id, pgqrs_wire_reply_runs,
                             pgqrs_wire_fini_runs},
    [PGQRS_STORE_RUN_LIST] = {"run list", false, pgqrs_wire_call_runs, pgqrs_wire_reply_runs,
                              pgqrs_wire_fini_runs},
    [PGQRS_STORE_RUN_STEPS] = {"run steps", false, call_id, pgqrs_wire_reply_steps,
                               pgqrs_wire_fini_steps},
    [PGQRS_STORE_RUN_STATE] = {"run state", false, call_id, pgqrs_wire_reply_pairs,
                               pgqrs_wire_fini_pairs},
    [PGQRS_STORE_RUN_EVENTS] = {"run events", false, call_id, pgqrs_wire_reply_pairs,
                                pgqrs_wire_fini_pairs},
    [PGQRS_STORE_RUN_CANCEL] = {"run cancel", true, call_id, pgqrs_wire_reply_status, NULL},
    [PGQRS_STORE_RUN_RESUME] = {"run resume", true, call_id, pgqrs_wire_reply_flag, NULL},
    [PGQRS_STORE_RUN_FORK] = {"run fork", true, pgqrs_wire_call_fork, reply_id, NULL},
    [PGQRS_STORE_EVENT_SEND] = {"event send", true, pgqrs_wire_call_event, pgqrs_wire_reply_flag,
                                NULL},
    [PGQRS_STORE_SCHEDULE_CREATE] = {"schedule create", true, pgqrs_wire_call_schedule, reply_id,
                                     NULL},
    [PGQRS_STORE_SCHEDULE_LIST] = {"schedule list", false, pgqrs_wire_call_schedules,
                                   pgqrs_wire_reply_schedules, pgqrs_wire_fini_schedules},
    [PGQRS_STORE_SCHEDULE_FIND] = {"schedule find", false, call_name, pgqrs_wire_reply_schedules,
                                   pgqrs_wire_fini_schedules},
    [PGQRS_STORE_SCHEDULE_PAUSE] = {"schedule pause", true, pgqrs_wire_call_schedule_pause,
                                    reply_nothing, NULL},
    [PGQRS_STORE_SCHEDULE_DELETE] = {"schedule delete", true, call_name, reply_nothing, NULL},
};
