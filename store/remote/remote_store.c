/* SPDX-License-Identifier: Apache-2.0 */
#include "store/remote/remote_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"

#define CALL_MS 30000

static struct remote_store *remote_of(struct pgqrs_store *store)
{
    return (struct remote_store *)store;
}

/* err may be null in the store's contract; what fills it in here must not be. */
static int64_t call(struct pgqrs_store *store, struct pgqrs_store_call *c,
                    struct pgqrs_store_reply *reply, struct pgqrs_error *err)
{
    struct pgqrs_error unread;
    return pgqrs_remote_call(remote_of(store), c, reply, err == NULL ? &unread : err);
}

/* For operations whose only answer is how it went. */
static int64_t call_count(struct pgqrs_store *store, struct pgqrs_store_call *c,
                          struct pgqrs_error *err)
{
    struct pgqrs_store_reply reply;
    if (call(store, c, &reply, err) < 0) {
        return -1;
    }
    int64_t rc = reply.rc;
    pgqrs_store_reply_fini(&reply);
    return rc;
}

static int call_done(struct pgqrs_store *store, struct pgqrs_store_call *c, struct pgqrs_error *err)
{
    return call_count(store, c, err) < 0 ? -1 : 0;
}

static int call_id(struct pgqrs_store *store, struct pgqrs_store_call *c, int64_t *id_out,
                   struct pgqrs_error *err)
{
    struct pgqrs_store_reply reply;
    if (call(store, c, &reply, err) < 0) {
        return -1;
    }
    *id_out = reply.u.id;
    pgqrs_store_reply_fini(&reply);
    return 0;
}

/* ---- schema ---- */

static int claim(struct pgqrs_store *store, const char *site, struct pgqrs_error *err)
{
    (void)site;
    return pgqrs_error_set(err, PGQRS_ERR_UNAVAILABLE,
                           "store \"broker:%s\": found its broker, expected a store without one",
                           remote_of(store)->address.sun_path);
}

static int install(struct pgqrs_store *store, struct pgqrs_error *err)
{
    return call_done(store, &(struct pgqrs_store_call){.op = PGQRS_STORE_INSTALL}, err);
}

static int verify(struct pgqrs_store *store, struct pgqrs_error *err)
{
    return call_done(store, &(struct pgqrs_store_call){.op = PGQRS_STORE_VERIFY}, err);
}

static int info(struct pgqrs_store *store, struct pgqrs_store_info *info_out,
                struct pgqrs_error *err)
{
    struct remote_store *s = remote_of(store);
    struct pgqrs_store_call c = {.op = PGQRS_STORE_INFO};
    struct pgqrs_store_reply reply;
    if (call(store, &c, &reply, err) < 0) {
        return -1;
    }
    *info_out = reply.u.info;
    (void)snprintf(s->pgqrs_schema, sizeof s->pgqrs_schema, "%s", reply.u.info.pgqrs_schema);
    info_out->pgqrs_schema = s->pgqrs_schema;
    pgqrs_store_reply_fini(&reply);
    return 0;
}

/* ---- queues ---- */

static int queue_create(struct pgqrs_store *store, const char *name, int64_t *id_out,
                        struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_QUEUE_CREATE, .u.name = name};
    return call_id(store, &c, id_out, err);
}

static int queue_find(struct pgqrs_store *store, const char *name, int64_t *id_out,
                      struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_QUEUE_FIND, .u.name = name};
    return call_id(store, &c, id_out, err);
}

static int queue_list(struct pgqrs_store *store, int64_t after_id, uint32_t limit,
                      struct pgqrs_queue_list *list_out, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_QUEUE_LIST,
                                 .u.queue_list = {.after_id = after_id, .limit = limit}};
    struct pgqrs_store_reply reply;
    if (call(store, &c, &reply, err) < 0) {
        return -1;
    }
    *list_out = reply.u.queues;
    reply.u.queues = (struct pgqrs_queue_list){0};
    pgqrs_store_reply_fini(&reply);
    return 0;
}

static int queue_pause(struct pgqrs_store *store, int64_t queue_id, bool paused,
                       struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_QUEUE_PAUSE,
                                 .u.pause = {.queue_id = queue_id, .paused = paused}};
    return call_done(store, &c, err);
}

static int queue_delete(struct pgqrs_store *store, int64_t queue_id, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_QUEUE_DELETE, .u.id = queue_id};
    return call_done(store, &c, err);
}

static int64_t queue_purge(struct pgqrs_store *store, int64_t queue_id, unsigned what,
                           uint32_t limit, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {
        .op = PGQRS_STORE_QUEUE_PURGE,
        .u.queue_purge = {.queue_id = queue_id, .what = what, .limit = limit}};
    return call_count(store, &c, err);
}

static int queue_metrics(struct pgqrs_store *store, int64_t queue_id, uint64_t count_max,
                         struct pgqrs_queue_metrics *metrics_out, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_QUEUE_METRICS,
                                 .u.metrics = {.queue_id = queue_id, .count_max = count_max}};
    struct pgqrs_store_reply reply;
    if (call(store, &c, &reply, err) < 0) {
        return -1;
    }
    *metrics_out = reply.u.metrics;
    pgqrs_store_reply_fini(&reply);
    return 0;
}

/* ---- messages ---- */

static int enqueue(struct pgqrs_store *store, int64_t queue_id, const struct pgqrs_enqueue *items,
                   size_t count, int64_t *ids_out, bool *existed_out, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {
        .op = PGQRS_STORE_ENQUEUE,
        .u.enqueue = {.queue_id = queue_id, .items = items, .count = count}};
    struct pgqrs_store_reply reply;
    if (call(store, &c, &reply, err) < 0) {
        return -1;
    }
    if (reply.u.enqueued.count != count) {
        pgqrs_store_reply_fini(&reply);
        return pgqrs_remote_nonsense(remote_of(store), c.op, err);
    }
    memcpy(ids_out, reply.u.enqueued.ids, count * sizeof *ids_out);
    if (existed_out != NULL) {
        memcpy(existed_out, reply.u.enqueued.existed, count * sizeof *existed_out);
    }
    pgqrs_store_reply_fini(&reply);
    return 0;
}

static int message_get(struct pgqrs_store *store, int64_t id, struct pgqrs_message *message_out,
                       struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_MESSAGE_GET, .u.id = id};
    struct pgqrs_store_reply reply;
    if (call(store, &c, &reply, err) < 0) {
        return -1;
    }
    *message_out = reply.u.message;
    reply.u.message = (struct pgqrs_message){0};
    pgqrs_store_reply_fini(&reply);
    return 0;
}

static int message_list(struct pgqrs_store *store, const struct pgqrs_message_filter *filter,
                        struct pgqrs_message_list *list_out, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_MESSAGE_LIST, .u.messages = *filter};
    struct pgqrs_store_reply reply;
    if (call(store, &c, &reply, err) < 0) {
        return -1;
    }
    *list_out = reply.u.messages;
    reply.u.messages = (struct pgqrs_message_list){0};
    pgqrs_store_reply_fini(&reply);
    return 0;
}

static int64_t message_act(struct pgqrs_store *store, enum pgqrs_act act, const int64_t *ids,
                           size_t count, enum pgqrs_acted *acted_out, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_MESSAGE_ACT,
                                 .u.act = {.act = act, .ids = ids, .count = count}};
    struct pgqrs_store_reply reply;
    if (call(store, &c, &reply, err) < 0) {
        return -1;
    }
    int64_t rc = reply.rc;
    if (reply.u.acted.count != count) {
        pgqrs_store_reply_fini(&reply);
        return pgqrs_remote_nonsense(remote_of(store), c.op, err);
    }
    memcpy(acted_out, reply.u.acted.items, count * sizeof *acted_out);
    pgqrs_store_reply_fini(&reply);
    return rc;
}

/* ---- housekeeping ---- */

static int64_t prune(struct pgqrs_store *store, struct pgqrs_prune *step, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_PRUNE, .u.prune = *step};
    struct pgqrs_store_reply reply;
    if (call(store, &c, &reply, err) < 0) {
        return -1;
    }
    int64_t rc = reply.rc;
    step->from_us = reply.u.prune.from_us;
    step->from_id = reply.u.prune.from_id;
    pgqrs_store_reply_fini(&reply);
    return rc;
}

static int64_t bury(struct pgqrs_store *store, int64_t queue_id, uint32_t max_attempts,
                    struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_BURY,
                                 .u.bury = {.queue_id = queue_id, .max_attempts = max_attempts}};
    return call_count(store, &c, err);
}

static int64_t reap(struct pgqrs_store *store, const struct pgqrs_reap *step,
                    struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_REAP, .u.reap = *step};
    return call_count(store, &c, err);
}

/* ---- workers ---- */

static int worker_register(struct pgqrs_store *store, const struct pgqrs_worker_row *row,
                           int64_t *id_out, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_WORKER_REGISTER, .u.worker = *row};
    return call_id(store, &c, id_out, err);
}

static int worker_beat(struct pgqrs_store *store, const int64_t *ids, size_t count,
                       struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_WORKER_BEAT,
                                 .u.beat = {.ids = ids, .count = count}};
    return call_done(store, &c, err);
}

static int worker_orders(struct pgqrs_store *store, struct pgqrs_orders *orders,
                         struct pgqrs_error *err)
{
    size_t max =
        orders->cancel_max < PGQRS_STORE_LIST_MAX ? orders->cancel_max : PGQRS_STORE_LIST_MAX;
    struct pgqrs_store_call c = {.op = PGQRS_STORE_WORKER_ORDERS,
                                 .u.orders = {.ids = orders->worker_ids,
                                              .count = orders->worker_count,
                                              .beat = orders->beat,
                                              .cancel_max = (uint32_t)max}};
    struct pgqrs_store_reply reply;
    if (call(store, &c, &reply, err) < 0) {
        return -1;
    }
    if (reply.u.orders.state_count != orders->worker_count || reply.u.orders.cancel_count > max) {
        pgqrs_store_reply_fini(&reply);
        return pgqrs_remote_nonsense(remote_of(store), c.op, err);
    }
    memcpy(orders->states_out, reply.u.orders.states,
           orders->worker_count * sizeof *orders->states_out);
    for (size_t i = 0; i < reply.u.orders.cancel_count; i++) {
        orders->cancels_out[i] = reply.u.orders.cancels[i];
    }
    orders->cancel_count = reply.u.orders.cancel_count;
    pgqrs_store_reply_fini(&reply);
    return 0;
}

static int64_t worker_end(struct pgqrs_store *store, int64_t worker_id,
                          const struct pgqrs_release *release, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_WORKER_END,
                                 .u.end = {.worker_id = worker_id, .release = *release}};
    return call_count(store, &c, err);
}

static int64_t worker_reconcile(struct pgqrs_store *store, int64_t worker_id,
                                const struct pgqrs_lease_ref *known, size_t count,
                                struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {
        .op = PGQRS_STORE_WORKER_RECONCILE,
        .u.reconcile = {.worker_id = worker_id, .known = known, .count = count}};
    return call_count(store, &c, err);
}

static int worker_list(struct pgqrs_store *store, const struct pgqrs_worker_filter *filter,
                       struct pgqrs_worker_info_list *list_out, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_WORKER_LIST, .u.workers = *filter};
    struct pgqrs_store_reply reply;
    if (call(store, &c, &reply, err) < 0) {
        return -1;
    }
    *list_out = reply.u.workers;
    reply.u.workers = (struct pgqrs_worker_info_list){0};
    pgqrs_store_reply_fini(&reply);
    return 0;
}

static int worker_move(struct pgqrs_store *store, int64_t worker_id, enum pgqrs_worker_move move,
                       struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_WORKER_MOVE,
                                 .u.move = {.worker_id = worker_id, .move = move}};
    return call_done(store, &c, err);
}

static int worker_delete(struct pgqrs_store *store, int64_t worker_id, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_WORKER_DELETE, .u.id = worker_id};
    return call_done(store, &c, err);
}

static int64_t worker_purge(struct pgqrs_store *store, int64_t older_ms, uint32_t limit,
                            struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_WORKER_PURGE,
                                 .u.worker_purge = {.older_ms = older_ms, .limit = limit}};
    return call_count(store, &c, err);
}

static int worker_stats(struct pgqrs_store *store, int64_t queue_id, int64_t stale_ms,
                        struct pgqrs_worker_stats *stats_out, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_WORKER_STATS,
                                 .u.stats = {.queue_id = queue_id, .stale_ms = stale_ms}};
    struct pgqrs_store_reply reply;
    if (call(store, &c, &reply, err) < 0) {
        return -1;
    }
    *stats_out = reply.u.stats;
    pgqrs_store_reply_fini(&reply);
    return 0;
}

/* ---- the exchange ---- */

static bool fits(const struct pgqrs_exchange *x, const struct pgqrs_store_reply *reply)
{
    if (reply->u.exchange.settled_count != x->settlement_count) {
        return false;
    }
    for (size_t i = 0; i < reply->u.exchange.lease_count; i++) {
        if (reply->u.exchange.leases[i].want >= x->want_count) {
            return false;
        }
    }
    return true;
}

static int make_room(struct pgqrs_exchange *x, size_t count, struct pgqrs_error *err)
{
    if (count <= x->lease_cap) {
        return 0;
    }
    struct pgqrs_lease *leases = realloc(x->leases, count * sizeof *leases);
    if (leases == NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_UNKNOWN, "exchange: no memory for %zu leases", count);
    }
    x->leases = leases;
    x->lease_cap = count;
    return 0;
}

static int take_exchange(struct remote_store *s, struct pgqrs_exchange *x,
                         const struct pgqrs_store_reply *reply, struct pgqrs_error *err)
{
    size_t count = reply->u.exchange.lease_count;
    if (!fits(x, reply)) {
        return pgqrs_remote_nonsense(s, reply->op, err);
    }
    if (make_room(x, count, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < x->settlement_count; i++) {
        x->settlements[i].settled_out = reply->u.exchange.settled[i];
    }
    if (count > 0) {
        memcpy(x->leases, reply->u.exchange.leases, count * sizeof *x->leases);
        struct pgqrs_buf frame = s->in; /* the payloads lie in it */
        s->in = x->payloads;
        x->payloads = frame;
    }
    x->lease_count = count;
    x->next_due_us = reply->u.exchange.next_due_us;
    x->now_us = reply->u.exchange.now_us;
    return 0;
}

static int exchange(struct pgqrs_store *store, struct pgqrs_exchange *x, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_EXCHANGE,
                                 .u.exchange = {.settlements = x->settlements,
                                                .settlement_count = x->settlement_count,
                                                .wants = x->wants,
                                                .want_count = x->want_count}};
    struct pgqrs_store_reply reply;
    x->lease_count = 0;
    x->next_due_us = 0;
    pgqrs_buf_clear(&x->payloads);
    if (call(store, &c, &reply, err) < 0) {
        return -1;
    }
    int rc = take_exchange(remote_of(store), x, &reply, err);
    pgqrs_store_reply_fini(&reply);
    return rc;
}

static int64_t renew(struct pgqrs_store *store, const struct pgqrs_lease_ref *leases, size_t count,
                     int64_t lease_ms, bool *held_out, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {
        .op = PGQRS_STORE_RENEW,
        .u.renew = {.leases = leases, .count = count, .lease_ms = lease_ms}};
    struct pgqrs_store_reply reply;
    if (call(store, &c, &reply, err) < 0) {
        return -1;
    }
    int64_t rc = reply.rc;
    if (reply.u.renewed.count != count) {
        pgqrs_store_reply_fini(&reply);
        return pgqrs_remote_nonsense(remote_of(store), c.op, err);
    }
    if (held_out != NULL) {
        memcpy(held_out, reply.u.renewed.held, count * sizeof *held_out);
    }
    pgqrs_store_reply_fini(&reply);
    return rc;
}

/* ---- opening ---- */

static void close_store(struct pgqrs_store *store)
{
    struct remote_store *s = remote_of(store);
    pgqrs_remote_disconnect(s);
    pgqrs_remote_wake_close(s);
    pgqrs_buf_fini(&s->out);
    pgqrs_buf_fini(&s->in);
    free(s);
}

static const struct pgqrs_store_ops remote_ops = {
    .name = "broker",
    .workflow = &pgqrs_remote_workflow_ops,
    .schedule = &pgqrs_remote_schedule_ops,
    .close = close_store,
    .claim = claim,
    .install = install,
    .verify = verify,
    .queue_create = queue_create,
    .queue_find = queue_find,
    .queue_list = queue_list,
    .queue_pause = queue_pause,
    .queue_delete = queue_delete,
    .queue_purge = queue_purge,
    .queue_metrics = queue_metrics,
    .enqueue = enqueue,
    .message_get = message_get,
    .message_list = message_list,
    .message_act = message_act,
    .prune = prune,
    .bury = bury,
    .reap = reap,
    .worker_register = worker_register,
    .worker_beat = worker_beat,
    .worker_orders = worker_orders,
    .worker_end = worker_end,
    .worker_reconcile = worker_reconcile,
    .worker_list = worker_list,
    .worker_move = worker_move,
    .worker_delete = worker_delete,
    .worker_purge = worker_purge,
    .worker_stats = worker_stats,
    .info = info,
    .exchange = exchange,
    .renew = renew,
    .wake_fd = pgqrs_remote_wake_fd,
    .woken = pgqrs_remote_woken,
    .doze = pgqrs_remote_doze,
    .rouse = pgqrs_remote_rouse,
};

static int check_path(const char *path, struct pgqrs_error *err)
{
    const struct sockaddr_un *address = NULL;
    if (path[0] == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "store DSN: found \"broker:\", expected broker:SOCKET");
    }
    if (strlen(path) >= sizeof address->sun_path) {
        return pgqrs_error_set(err, PGQRS_ERR_UNAVAILABLE,
                               "store \"broker:%.200s\": found a socket path of %zu bytes, "
                               "expected at most %zu",
                               path, strlen(path), sizeof address->sun_path - 1);
    }
    return 0;
}

int pgqrs_store_remote_open(const char *dsn, const struct pgqrs_store_options *options,
                            struct pgqrs_store **store_out, struct pgqrs_error *err)
{
    if (check_path(dsn, err) < 0) {
        return -1;
    }
    struct remote_store *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return pgqrs_error_memory(err);
    }
    struct pgqrs_error why = {0};
    s->base.ops = &remote_ops;
    s->fd = s->wake.fd = s->wake.epoll = -1;
    s->call_ms = options->call_ms > 0 ? options->call_ms : CALL_MS;
    s->address.sun_family = AF_UNIX;
    (void)snprintf(s->address.sun_path, sizeof s->address.sun_path, "%s", dsn); /* it fits */
    if (pgqrs_remote_connect(s, pgqrs_mono_ms() + s->call_ms, &why) < 0) {
        close_store(&s->base);
        return pgqrs_error_set(err, PGQRS_ERR_UNAVAILABLE, "%s", why.text);
    }
    *store_out = &s->base;
    return 0;
}
