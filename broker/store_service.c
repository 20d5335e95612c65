/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store_service.h"

#include <stdlib.h>
#include <string.h>

#include "broker/store_service_workflow.h"

#define REPLY_ROOM (PGQRS_BODY_MAX - 64 * 1024) /* for what is in a list; the rest is around it */
#define MESSAGE_ROOM 128                        /* of a message but for its texts */
#define LEASE_ROOM 64                           /* of a lease but for its payload */

/* A call while it runs: what its outputs are kept in. */
struct run {
    struct pgqrs_store *store;
    struct pgqrs_store_call call;
    struct pgqrs_store_reply reply;
    int64_t *ids; /* of what was enqueued */
    bool *existed;
    struct pgqrs_lease_ref *cancels;
    union {
        enum pgqrs_acted acted[PGQRS_STORE_LIST_MAX];
        enum pgqrs_worker_state states[PGQRS_STORE_LIST_MAX];
        enum pgqrs_settled settled[PGQRS_STORE_LIST_MAX];
        bool held[PGQRS_STORE_LIST_MAX];
    } out;
    struct pgqrs_exchange x;
};

/* ---- schema and queues ---- */

static int64_t run_install(struct run *r)
{
    return pgqrs_store_install(r->store, &r->reply.err);
}

static int64_t run_verify(struct run *r)
{
    return pgqrs_store_verify(r->store, &r->reply.err);
}

static int64_t run_queue_create(struct run *r)
{
    return pgqrs_store_queue_create(r->store, r->call.u.name, &r->reply.u.id, &r->reply.err);
}

static int64_t run_queue_find(struct run *r)
{
    return pgqrs_store_queue_find(r->store, r->call.u.name, &r->reply.u.id, &r->reply.err);
}

static int64_t run_queue_list(struct run *r)
{
    return pgqrs_store_queue_list(r->store, r->call.u.queue_list.after_id,
                                  r->call.u.queue_list.limit, &r->reply.u.queues, &r->reply.err);
}

static int64_t run_queue_pause(struct run *r)
{
    return pgqrs_store_queue_pause(r->store, r->call.u.pause.queue_id, r->call.u.pause.paused,
                                   &r->reply.err);
}

static int64_t run_queue_delete(struct run *r)
{
    return pgqrs_store_queue_delete(r->store, r->call.u.id, &r->reply.err);
}

static int64_t run_queue_purge(struct run *r)
{
    return pgqrs_store_queue_purge(r->store, r->call.u.queue_purge.queue_id,
                                   r->call.u.queue_purge.what, r->call.u.queue_purge.limit,
                                   &r->reply.err);
}

static int64_t run_queue_metrics(struct run *r)
{
    return pgqrs_store_queue_metrics(r->store, r->call.u.metrics.queue_id,
                                     r->call.u.metrics.count_max, &r->reply.u.metrics,
                                     &r->reply.err);
}

/* ---- messages ---- */

static int64_t run_enqueue(struct run *r)
{
    size_t count = r->call.u.enqueue.count;
    r->ids = calloc(count + 1, sizeof *r->ids);
    r->existed = calloc(count + 1, sizeof *r->existed);
    if (r->ids == NULL || r->existed == NULL) {
        return pgqrs_error_memory(&r->reply.err);
    }
    r->reply.u.enqueued.ids = r->ids;
    r->reply.u.enqueued.existed = r->existed;
    r->reply.u.enqueued.count = count;
    return pgqrs_store_enqueue(r->store, r->call.u.enqueue.queue_id, r->call.u.enqueue.items, count,
                               r->ids, r->existed, &r->reply.err);
}

static int64_t run_message_get(struct run *r)
{
    return pgqrs_store_message_get(r->store, r->call.u.id, &r->reply.u.message, &r->reply.err);
}

static size_t text_size(const char *text)
{
    return text == NULL ? 0 : strlen(text);
}

static size_t message_size(const struct pgqrs_message *m)
{
    return MESSAGE_ROOM + text_size(m->payload) + text_size(m->unique_key) + text_size(m->outcome) +
           text_size(m->result) + text_size(m->error);
}

/* A page that would not fit into a reply ends before the first message that has no room. */
static int fit_messages(struct pgqrs_message_list *list, struct pgqrs_error *err)
{
    size_t size = 0;
    size_t fit = 0;
    while (fit < list->count && (size += message_size(&list->items[fit])) <= REPLY_ROOM) {
        fit++;
    }
    if (fit == list->count) {
        return 0;
    }
    if (fit == 0) { /* to leave it out would be to hide it */
        return pgqrs_error_set(err, PGQRS_ERR_FAILED,
                               "message list through a broker: found %zu bytes in message %lld, "
                               "expected at most %d; read it from the database, or list those "
                               "before it",
                               size, (long long)list->items[0].id, REPLY_ROOM);
    }
    list->next_before_id = list->items[fit - 1].id;
    for (size_t i = fit; i < list->count; i++) {
        pgqrs_message_fini(&list->items[i]);
    }
    list->count = fit;
    return 0;
}

static int64_t run_message_list(struct run *r)
{
    struct pgqrs_message_list list;
    if (pgqrs_store_message_list(r->store, &r->call.u.messages, &list, &r->reply.err) < 0) {
        return -1;
    }
    if (fit_messages(&list, &r->reply.err) < 0) {
        pgqrs_message_list_fini(&list);
        return -1;
    }
    r->reply.u.messages = list;
    return 0;
}

static int64_t run_message_act(struct run *r)
{
    r->reply.u.acted.items = r->out.acted;
    r->reply.u.acted.count = r->call.u.act.count;
    return pgqrs_store_message_act(r->store, r->call.u.act.act, r->call.u.act.ids,
                                   r->call.u.act.count, r->out.acted, &r->reply.err);
}

/* ---- housekeeping ---- */

static int64_t run_prune(struct run *r)
{
    int64_t count = pgqrs_store_prune(r->store, &r->call.u.prune, &r->reply.err);
    r->reply.u.prune.from_us = r->call.u.prune.from_us;
    r->reply.u.prune.from_id = r->call.u.prune.from_id;
    return count;
}

static int64_t run_bury(struct run *r)
{
    return pgqrs_store_bury(r->store, r->call.u.bury.queue_id, r->call.u.bury.max_attempts,
                            &r->reply.err);
}

static int64_t run_reap(struct run *r)
{
    return pgqrs_store_reap(r->store, &r->call.u.reap, &r->reply.err);
}

/* ---- workers ---- */

static int64_t run_worker_register(struct run *r)
{
    return pgqrs_store_worker_register(r->store, &r->call.u.worker, &r->reply.u.id, &r->reply.err);
}

static int64_t run_worker_beat(struct run *r)
{
    return pgqrs_store_worker_beat(r->store, r->call.u.beat.ids, r->call.u.beat.count,
                                   &r->reply.err);
}

static int64_t run_worker_orders(struct run *r)
{
    uint32_t asked = r->call.u.orders.cancel_max;
    size_t max = asked < PGQRS_STORE_LIST_MAX ? asked : PGQRS_STORE_LIST_MAX;
    r->cancels = calloc(max + 1, sizeof *r->cancels);
    if (r->cancels == NULL) {
        return pgqrs_error_memory(&r->reply.err);
    }
    struct pgqrs_orders orders = {
        .worker_ids = r->call.u.orders.ids,
        .worker_count = r->call.u.orders.count,
        .beat = r->call.u.orders.beat,
        .states_out = r->out.states,
        .cancels_out = r->cancels,
        .cancel_max = max,
    };
    int rc = pgqrs_store_worker_orders(r->store, &orders, &r->reply.err);
    r->reply.u.orders.states = orders.states_out;
    r->reply.u.orders.state_count = orders.worker_count;
    r->reply.u.orders.cancels = orders.cancels_out;
    r->reply.u.orders.cancel_count = orders.cancel_count;
    return rc;
}

static int64_t run_worker_end(struct run *r)
{
    return pgqrs_store_worker_end(r->store, r->call.u.end.worker_id, &r->call.u.end.release,
                                  &r->reply.err);
}

static int64_t run_worker_reconcile(struct run *r)
{
    return pgqrs_store_worker_reconcile(r->store, r->call.u.reconcile.worker_id,
                                        r->call.u.reconcile.known, r->call.u.reconcile.count,
                                        &r->reply.err);
}

static int64_t run_worker_list(struct run *r)
{
    return pgqrs_store_worker_list(r->store, &r->call.u.workers, &r->reply.u.workers,
                                   &r->reply.err);
}

static int64_t run_worker_move(struct run *r)
{
    return pgqrs_store_worker_move(r->store, r->call.u.move.worker_id, r->call.u.move.move,
                                   &r->reply.err);
}

static int64_t run_worker_delete(struct run *r)
{
    return pgqrs_store_worker_delete(r->store, r->call.u.id, &r->reply.err);
}

static int64_t run_worker_purge(struct run *r)
{
    return pgqrs_store_worker_purge(r->store, r->call.u.worker_purge.older_ms,
                                    r->call.u.worker_purge.limit, &r->reply.err);
}

static int64_t run_worker_stats(struct run *r)
{
    return pgqrs_store_worker_stats(r->store, r->call.u.stats.queue_id, r->call.u.stats.stale_ms,
                                    &r->reply.u.stats, &r->reply.err);
}

static int64_t run_info(struct run *r)
{
    return pgqrs_store_info(r->store, &r->reply.u.info, &r->reply.err);
}

/* ---- the exchange ---- */

static struct pgqrs_settlement give_back(const struct run *r, const struct pgqrs_lease *lease)
{
    struct pgqrs_settlement item = {.message_id = lease->message_id,
                                    .worker_id = r->call.u.exchange.wants[lease->want].worker_id,
                                    .attempt = lease->attempt,
                                    .how = PGQRS_SETTLE_RETURN};
    if (lease->payload.len + LEASE_ROOM > REPLY_ROOM) {
        item.how = PGQRS_SETTLE_DEAD; /* else it would be leased and given back for ever */
        item.error = pgqrs_bytes_from("the payload is too large to be sent by a broker");
    }
    return item;
}

/* Leases that have no room in the reply go back; the client finds them in its next exchange. */
static void fit_leases(struct run *r)
{
    struct pgqrs_settlement back[PGQRS_STORE_LIST_MAX];
    size_t count = 0;
    size_t kept = 0;
    size_t size = 0;
    for (size_t i = 0; i < r->x.lease_count; i++) {
        size_t with = size + LEASE_ROOM + r->x.leases[i].payload.len;
        if (with > REPLY_ROOM) {
            back[count++] = give_back(r, &r->x.leases[i]);
        } else {
            size = with;
            r->x.leases[kept++] = r->x.leases[i];
        }
    }
    if (count == 0) {
        return;
    }
    r->x.lease_count = kept;
    r->x.next_due_us = r->x.now_us;
    struct pgqrs_exchange x = {.settlements = back, .settlement_count = count};
    /* A failure leaves them leased until the lease ends. */
    (void)!pgqrs_store_exchange(r->store, &x, NULL);
    pgqrs_exchange_fini(&x);
}

static int64_t run_exchange(struct run *r)
{
    r->x.settlements = r->call.u.exchange.settlements;
    r->x.settlement_count = r->call.u.exchange.settlement_count;
    r->x.wants = r->call.u.exchange.wants;
    r->x.want_count = r->call.u.exchange.want_count;
    if (pgqrs_store_exchange(r->store, &r->x, &r->reply.err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < r->x.settlement_count; i++) {
        r->out.settled[i] = r->x.settlements[i].settled_out;
    }
    fit_leases(r);
    r->reply.u.exchange.settled = r->out.settled;
    r->reply.u.exchange.settled_count = r->x.settlement_count;
    r->reply.u.exchange.leases = r->x.leases;
    r->reply.u.exchange.lease_count = r->x.lease_count;
    r->reply.u.exchange.next_due_us = r->x.next_due_us;
    r->reply.u.exchange.now_us = r->x.now_us;
    return 0;
}

static int64_t run_renew(struct run *r)
{
    r->reply.u.renewed.held = r->out.held;
    r->reply.u.renewed.count = r->call.u.renew.count;
    return pgqrs_store_renew(r->store, r->call.u.renew.leases, r->call.u.renew.count,
                             r->call.u.renew.lease_ms, r->out.held, &r->reply.err);
}

/* ---- workflows ---- */

static int64_t run_workflow(struct run *r)
{
    return pgqrs_store_service_workflow(r->store, &r->call, &r->reply, REPLY_ROOM);
}

/* ---- schedules ---- */

static int64_t run_schedule_create(struct run *r)
{
    return pgqrs_store_schedule_create(r->store, &r->call.u.schedule, &r->reply.u.id,
                                       &r->reply.err);
}

static int64_t run_schedule_list(struct run *r)
{
    return pgqrs_store_schedule_list(r->store, r->call.u.schedules.after, r->call.u.schedules.limit,
                                     &r->reply.u.schedules, &r->reply.err);
}

static int64_t run_schedule_find(struct run *r)
{
    return pgqrs_store_schedule_find(r->store, r->call.u.name, &r->reply.u.schedules,
                                     &r->reply.err);
}

static int64_t run_schedule_pause(struct run *r)
{
    return pgqrs_store_schedule_pause(r->store, r->call.u.schedule_pause.name,
                                      r->call.u.schedule_pause.paused, &r->reply.err);
}

static int64_t run_schedule_delete(struct run *r)
{
    return pgqrs_store_schedule_delete(r->store, r->call.u.name, &r->reply.err);
}

/* ---- what may be leased since ---- */

static bool looks_always(const struct run *r)
{
    (void)r;
    return true;
}

static bool looks_if_any(const struct run *r)
{
    return r->reply.rc != 0;
}

static bool looks_if_resumed(const struct run *r)
{
    return !r->call.u.pause.paused;
}

static bool looks_if_returned(const struct run *r)
{
    return r->call.u.act.act == PGQRS_ACT_FREE || r->call.u.act.act == PGQRS_ACT_REPLAY;
}

static bool looks_if_moved(const struct run *r)
{
    return r->call.u.move.move == PGQRS_MOVE_RESUME || r->call.u.move.move == PGQRS_MOVE_STOP;
}

static bool looks_if_settled(const struct run *r)
{
    return r->call.u.exchange.settlement_count > 0;
}

static bool looks_if_told(const struct run *r)
{
    return r->reply.u.flag || r->reply.rc < 0;
}

/* ---- the table ---- */

static const struct {
    int64_t (*run)(struct run *r);
    bool (*looks)(const struct run *r); /* null: never */
} ops[PGQRS_STORE_OP_COUNT] = {
    [PGQRS_STORE_INSTALL] = {run_install, NULL},
    [PGQRS_STORE_VERIFY] = {run_verify, NULL},
    [PGQRS_STORE_QUEUE_CREATE] = {run_queue_create, NULL},
    [PGQRS_STORE_QUEUE_FIND] = {run_queue_find, NULL},
    [PGQRS_STORE_QUEUE_LIST] = {run_queue_list, NULL},
    [PGQRS_STORE_QUEUE_PAUSE] = {run_queue_pause, looks_if_resumed},
    [PGQRS_STORE_QUEUE_DELETE] = {run_queue_delete, NULL},
    [PGQRS_STORE_QUEUE_PURGE] = {run_queue_purge, looks_if_any},
    [PGQRS_STORE_QUEUE_METRICS] = {run_queue_metrics, NULL},
    [PGQRS_STORE_ENQUEUE] = {run_enqueue, looks_always},
    [PGQRS_STORE_MESSAGE_GET] = {run_message_get, NULL},
    [PGQRS_STORE_MESSAGE_LIST] = {run_message_list, NULL},
    [PGQRS_STORE_MESSAGE_ACT] = {run_message_act, looks_if_returned},
    [PGQRS_STORE_PRUNE] = {run_prune, NULL},
    [PGQRS_STORE_BURY] = {run_bury, looks_if_any},
    [PGQRS_STORE_REAP] = {run_reap, looks_if_any},
    [PGQRS_STORE_WORKER_REGISTER] = {run_worker_register, looks_always}, /* of one taken over */
    [PGQRS_STORE_WORKER_BEAT] = {run_worker_beat, NULL},
    [PGQRS_STORE_WORKER_END] = {run_worker_end, looks_if_any},
    [PGQRS_STORE_WORKER_RECONCILE] = {run_worker_reconcile, looks_if_any},
    [PGQRS_STORE_WORKER_LIST] = {run_worker_list, NULL},
    [PGQRS_STORE_WORKER_MOVE] = {run_worker_move, looks_if_moved},
    [PGQRS_STORE_WORKER_DELETE] = {run_worker_delete, NULL},
    [PGQRS_STORE_WORKER_PURGE] = {run_worker_purge, NULL},
    [PGQRS_STORE_WORKER_STATS] = {run_worker_stats, NULL},
    [PGQRS_STORE_INFO] = {run_info, NULL},
    [PGQRS_STORE_EXCHANGE] = {run_exchange, looks_if_settled},
    [PGQRS_STORE_RENEW] = {run_renew, NULL},
    [PGQRS_STORE_WORKER_ORDERS] = {run_worker_orders, NULL},
    [PGQRS_STORE_WORKFLOW_CREATE] = {run_workflow, NULL},
    [PGQRS_STORE_WORKFLOW_LIST] = {run_workflow, NULL},
    [PGQRS_STORE_WORKFLOW_FIND] = {run_workflow, NULL},
    [PGQRS_STORE_RUN_GET] = {run_workflow, NULL},
    [PGQRS_STORE_RUN_LIST] = {run_workflow, NULL},
    [PGQRS_STORE_RUN_STEPS] = {run_workflow, NULL},
    [PGQRS_STORE_RUN_STATE] = {run_workflow, NULL},
    [PGQRS_STORE_RUN_EVENTS] = {run_workflow, NULL},
    [PGQRS_STORE_RUN_CANCEL] = {run_workflow, looks_always},
    [PGQRS_STORE_RUN_RESUME] = {run_workflow, looks_if_told},
    [PGQRS_STORE_RUN_FORK] = {run_workflow, looks_always},
    [PGQRS_STORE_EVENT_SEND] = {run_workflow, looks_if_told},
    [PGQRS_STORE_SCHEDULE_CREATE] = {run_schedule_create, NULL},
    [PGQRS_STORE_SCHEDULE_LIST] = {run_schedule_list, NULL},
    [PGQRS_STORE_SCHEDULE_FIND] = {run_schedule_find, NULL},
    [PGQRS_STORE_SCHEDULE_PAUSE] = {run_schedule_pause, NULL},
    [PGQRS_STORE_SCHEDULE_DELETE] = {run_schedule_delete, NULL},
};

static void run_call(struct run *r)
{
    r->reply.number = r->call.number;
    r->reply.op = r->call.op;
    r->reply.rc = ops[r->call.op].run(r);
    if (r->reply.rc < 0 && r->reply.err.code == PGQRS_ERR_NONE) {
        (void)pgqrs_error_set(&r->reply.err, PGQRS_ERR_FAILED, "the store gave no reason");
    }
}

static bool looks(const struct run *r)
{
    bool changed = r->reply.rc >= 0 || r->reply.err.code == PGQRS_ERR_UNKNOWN;
    return changed && ops[r->call.op].looks != NULL && ops[r->call.op].looks(r);
}

static int put_reply(const struct run *r, struct pgqrs_buf *out, struct pgqrs_error *err)
{
    struct pgqrs_store_reply failed = {.number = r->reply.number, .op = r->reply.op, .rc = -1};
    if (pgqrs_encode_store_reply(out, &r->reply, &failed.err) == 0) {
        return 0;
    }
    if (failed.err.code == PGQRS_ERR_MEMORY && pgqrs_store_op_changes(r->reply.op)) {
        return pgqrs_error_memory(err); /* the client must not think that nothing was changed */
    }
    if (failed.err.code == PGQRS_ERR_INVALID) {
        failed.err.code = PGQRS_ERR_FAILED; /* it was not the caller who made it too large */
    }
    return pgqrs_encode_store_reply(out, &failed, err);
}

int pgqrs_store_service(struct pgqrs_store *store, const struct pgqrs_frame *call,
                        struct pgqrs_buf *reply, bool *look, struct pgqrs_error *err)
{
    struct run r;
    memset(&r, 0, sizeof r); /* nothing that was here before may get into a reply */
    r.store = store;
    *look = false;
    if (pgqrs_decode_store_call(call, &r.call, err) < 0) {
        return -1;
    }
    run_call(&r);
    *look = looks(&r);
    int rc = put_reply(&r, reply, err);
    free(r.ids);
    free(r.existed);
    free(r.cancels);
    pgqrs_exchange_fini(&r.x);
    pgqrs_store_call_fini(&r.call);
    pgqrs_store_reply_fini(&r.reply);
    return rc;
}

/* ---- hello ---- */

int pgqrs_store_service_hello(const struct pgqrs_frame *hello, const char *backend,
                              struct pgqrs_buf *answer, struct pgqrs_error *err)
{
    struct pgqrs_client_hello m;
    struct pgqrs_error why = {0};
    int rc = 0;
    if (hello->type != PGQRS_MSG_CLIENT_HELLO) {
        rc = pgqrs_error_set(&why, PGQRS_ERR_PROTOCOL, PGQRS_REFUSE_NO_HELLO);
    } else if (pgqrs_decode_client_hello(hello, &m, &why) < 0) {
        rc = -1;
    } else if (m.major != PGQRS_IPC_MAJOR) {
        rc = pgqrs_error_set(&why, PGQRS_ERR_PROTOCOL,
                             "protocol: found version %u of a program %.64s, expected %d as in "
                             "pgqrsd %s; the two must be of one release",
                             m.major, m.version, PGQRS_IPC_MAJOR, PGQRS_VERSION);
    }
    if (rc < 0) {
        pgqrs_encode_refuse(answer, why.text);
        return pgqrs_error_set(err, why.code, "%s", why.text);
    }
    const struct pgqrs_client_welcome welcome = {.major = PGQRS_IPC_MAJOR,
                                                 .minor = PGQRS_IPC_MINOR,
                                                 .version = PGQRS_VERSION,
                                                 .backend = backend};
    pgqrs_encode_client_welcome(answer, &welcome);
    return answer->failed ? pgqrs_error_memory(err) : 0;
}
