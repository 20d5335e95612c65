/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

#include "store/store_priv.h"

#define QUEUE_NAME_MAX 255
#define UNIQUE_KEY_MAX 255
#define LIST_LIMIT_MAX 1000
#define STEP_LIMIT_MAX 10000
#define PURGE_WORKERS_MAX 100
#define SUPPORTED "sqlite:PATH, postgres://... or broker:SOCKET"

/* ---- opening ---- */

typedef int (*open_fn)(const char *dsn, const struct pgqrs_store_options *options,
                       struct pgqrs_store **store_out, struct pgqrs_error *err);

static const struct {
    const char *scheme;
    open_fn open; /* null: known, but not in this build */
    bool whole;   /* it is given the scheme, too */
} schemes[] = {
    {"sqlite://", pgqrs_store_sqlite_open, false},
    {"sqlite:", pgqrs_store_sqlite_open, false},
    {"postgres://", pgqrs_store_postgres_open, true},
    {"postgresql://", pgqrs_store_postgres_open, true},
    {"broker:", pgqrs_store_remote_open, false},
    {"turso:", NULL, false},
    {"s3:", NULL, false},
};

#define SCHEME_COUNT (sizeof schemes / sizeof *schemes)

/* Only what stands before the first colon is shown: a password may follow. */
static int unknown_scheme(const char *dsn, struct pgqrs_error *err)
{
    const char *colon = strchr(dsn, ':');
    if (colon == NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "store DSN: found no scheme, expected " SUPPORTED);
    }
    int len = colon - dsn > 20 ? 20 : (int)(colon - dsn);
    return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                           "store DSN: found scheme \"%.*s:\", expected " SUPPORTED, len, dsn);
}

int pgqrs_store_open(const char *dsn, const struct pgqrs_store_options *options,
                     struct pgqrs_store **store_out, struct pgqrs_error *err)
{
    for (size_t i = 0; i < SCHEME_COUNT; i++) {
        size_t len = strlen(schemes[i].scheme);
        if (strncmp(dsn, schemes[i].scheme, len) != 0) {
            continue;
        }
        if (schemes[i].open == NULL) {
            return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                                   "store DSN: %s is not supported yet by this build; "
                                   "supported: " SUPPORTED,
                                   schemes[i].scheme);
        }
        return schemes[i].open(schemes[i].whole ? dsn : dsn + len, options, store_out, err);
    }
    return unknown_scheme(dsn, err);
}

void pgqrs_store_close(struct pgqrs_store **store)
{
    if (*store != NULL) {
        (*store)->ops->close(*store);
        *store = NULL;
    }
}

const char *pgqrs_store_backend(const struct pgqrs_store *store)
{
    return store->ops->name;
}

int pgqrs_store_claim(struct pgqrs_store *store, const char *site, struct pgqrs_error *err)
{
    return store->ops->claim(store, site, err);
}

int pgqrs_store_check_limit(uint32_t limit, uint32_t max, struct pgqrs_error *err)
{
    if (limit == 0 || limit > max) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID, "limit: found %lu, expected 1 to %lu",
                               (unsigned long)limit, (unsigned long)max);
    }
    return 0;
}

int pgqrs_store_install(struct pgqrs_store *store, struct pgqrs_error *err)
{
    return store->ops->install(store, err);
}

int pgqrs_store_verify(struct pgqrs_store *store, struct pgqrs_error *err)
{
    return store->ops->verify(store, err);
}

int pgqrs_store_fits(struct pgqrs_store *store, struct pgqrs_error *err)
{
    return store->ops->fits == NULL ? 1 : store->ops->fits(store, err);
}

/* ---- queues ---- */

int pgqrs_store_queue_create(struct pgqrs_store *store, const char *name, int64_t *id_out,
                             struct pgqrs_error *err)
{
    size_t len = strlen(name);
    if (len == 0 || len > QUEUE_NAME_MAX) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "queue name: found %zu bytes, expected 1 to %d", len,
                               QUEUE_NAME_MAX);
    }
    return store->ops->queue_create(store, name, id_out, err);
}

int pgqrs_store_queue_find(struct pgqrs_store *store, const char *name, int64_t *id_out,
                           struct pgqrs_error *err)
{
    return store->ops->queue_find(store, name, id_out, err);
}

int pgqrs_store_queue_list(struct pgqrs_store *store, int64_t after_id, uint32_t limit,
                           struct pgqrs_queue_list *list_out, struct pgqrs_error *err)
{
    if (pgqrs_store_check_limit(limit, LIST_LIMIT_MAX, err) < 0) {
        return -1;
    }
    return store->ops->queue_list(store, after_id, limit, list_out, err);
}

void pgqrs_queue_list_fini(struct pgqrs_queue_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].name);
    }
    free(list->items);
    *list = (struct pgqrs_queue_list){0};
}

int pgqrs_store_queue_pause(struct pgqrs_store *store, int64_t queue_id, bool paused,
                            struct pgqrs_error *err)
{
    return store->ops->queue_pause(store, queue_id, paused, err);
}

int pgqrs_store_queue_delete(struct pgqrs_store *store, int64_t queue_id, struct pgqrs_error *err)
{
    return store->ops->queue_delete(store, queue_id, err);
}

int64_t pgqrs_store_queue_purge(struct pgqrs_store *store, int64_t queue_id, unsigned what,
                                uint32_t limit, struct pgqrs_error *err)
{
    if (what == 0 || (what & ~(unsigned)PGQRS_PURGE_ALL) != 0) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID, "purge: found the bits %#x, expected 1 to 7",
                               what);
    }
    if (pgqrs_store_check_limit(limit, STEP_LIMIT_MAX, err) < 0) {
        return -1;
    }
    return store->ops->queue_purge(store, queue_id, what, limit, err);
}

int pgqrs_store_queue_metrics(struct pgqrs_store *store, int64_t queue_id, uint64_t count_max,
                              struct pgqrs_queue_metrics *metrics_out, struct pgqrs_error *err)
{
    return store->ops->queue_metrics(store, queue_id, count_max, metrics_out, err);
}

/* ---- messages ---- */

int pgqrs_store_check_item(const struct pgqrs_enqueue *item, size_t index, struct pgqrs_error *err)
{
    if (item->payload.len == 0 || memchr(item->payload.data, 0, item->payload.len) != NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "payload %zu: found %s, expected one JSON value", index + 1,
                               item->payload.len == 0 ? "nothing" : "a zero byte");
    }
    if (item->delay_ms < 0) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "payload %zu: found a delay of %lld ms, expected 0 or more",
                               index + 1, (long long)item->delay_ms);
    }
    if (item->at_us < 0 || (item->at_us > 0 && item->delay_ms > 0)) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "payload %zu: found %s, expected a delay or a time", index + 1,
                               item->at_us < 0 ? "a time before 1970" : "a delay and a time");
    }
    size_t key = item->unique_key == NULL ? 1 : strlen(item->unique_key);
    if (key == 0 || key > UNIQUE_KEY_MAX) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "payload %zu: found a unique key of %zu bytes, expected 1 to %d",
                               index + 1, key, UNIQUE_KEY_MAX);
    }
    return 0;
}

int pgqrs_store_enqueue(struct pgqrs_store *store, int64_t queue_id,
                        const struct pgqrs_enqueue *items, size_t count, int64_t *ids_out,
                        bool *existed_out, struct pgqrs_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (pgqrs_store_check_item(&items[i], i, err) < 0) {
            return -1;
        }
    }
    return count == 0
               ? 0
               : store->ops->enqueue(store, queue_id, items, count, ids_out, existed_out, err);
}

int pgqrs_store_message_get(struct pgqrs_store *store, int64_t id,
                            struct pgqrs_message *message_out, struct pgqrs_error *err)
{
    return store->ops->message_get(store, id, message_out, err);
}

void pgqrs_message_fini(struct pgqrs_message *message)
{
    free(message->payload);
    free(message->unique_key);
    free(message->outcome);
    free(message->result);
    free(message->error);
    *message = (struct pgqrs_message){0};
}

int pgqrs_store_message_list(struct pgqrs_store *store, const struct pgqrs_message_filter *filter,
                             struct pgqrs_message_list *list_out, struct pgqrs_error *err)
{
    if (pgqrs_store_check_limit(filter->limit, LIST_LIMIT_MAX, err) < 0) {
        return -1;
    }
    if ((unsigned)filter->state >= PGQRS_STATE_COUNT) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID, "message state: found %d, which is none",
                               (int)filter->state);
    }
    return store->ops->message_list(store, filter, list_out, err);
}

void pgqrs_message_list_fini(struct pgqrs_message_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        pgqrs_message_fini(&list->items[i]);
    }
    free(list->items);
    *list = (struct pgqrs_message_list){0};
}

int64_t pgqrs_store_message_act(struct pgqrs_store *store, enum pgqrs_act act, const int64_t *ids,
                                size_t count, enum pgqrs_acted *acted_out, struct pgqrs_error *err)
{
    if ((unsigned)act - 1 >= PGQRS_ACT_COUNT - 1) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID, "messages: found act %d, which is none",
                               (int)act);
    }
    if (count > LIST_LIMIT_MAX) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "messages: found %zu ids, expected at most %d", count,
                               LIST_LIMIT_MAX);
    }
    return count == 0 ? 0 : store->ops->message_act(store, act, ids, count, acted_out, err);
}

/* ---- housekeeping ---- */

int64_t pgqrs_store_prune(struct pgqrs_store *store, struct pgqrs_prune *prune,
                          struct pgqrs_error *err)
{
    if (pgqrs_store_check_limit(prune->limit, STEP_LIMIT_MAX, err) < 0) {
        return -1;
    }
    if (prune->age_ms < 0 ||
        (prune->what != PGQRS_PRUNE_ENDED && prune->what != PGQRS_PRUNE_FAILED)) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID, "prune: found kind %d and an age of %lld ms",
                               (int)prune->what, (long long)prune->age_ms);
    }
    return store->ops->prune(store, prune, err);
}

int64_t pgqrs_store_bury(struct pgqrs_store *store, int64_t queue_id, uint32_t max_attempts,
                         struct pgqrs_error *err)
{
    if (max_attempts == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "bury: found at most 0 attempts, expected 1 or more");
    }
    return store->ops->bury(store, queue_id, max_attempts, err);
}

int64_t pgqrs_store_reap(struct pgqrs_store *store, const struct pgqrs_reap *reap,
                         struct pgqrs_error *err)
{
    if (pgqrs_store_check_limit(reap->limit, STEP_LIMIT_MAX, err) < 0) {
        return -1;
    }
    if (reap->stale_ms <= 0) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "reap: found dead after %lld ms, expected more than 0",
                               (long long)reap->stale_ms);
    }
    return store->ops->reap(store, reap, err);
}

/* ---- workers ---- */

const char *pgqrs_worker_state_name(enum pgqrs_worker_state state)
{
    static const char *const names[PGQRS_WORKER_STATE_COUNT] = {
        [PGQRS_WORKER_READY] = "ready",         [PGQRS_WORKER_POLLING] = "polling",
        [PGQRS_WORKER_SUSPENDED] = "suspended", [PGQRS_WORKER_INTERRUPTED] = "interrupted",
        [PGQRS_WORKER_STOPPED] = "stopped",
    };
    return (unsigned)state < PGQRS_WORKER_STATE_COUNT ? names[state] : NULL;
}

int pgqrs_store_worker_register(struct pgqrs_store *store, const struct pgqrs_worker_row *row,
                                int64_t *id_out, struct pgqrs_error *err)
{
    if ((row->name != NULL && row->name[0] == 0) ||
        (row->instance != NULL && (row->instance[0] == 0 || row->name == NULL))) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "worker: found an empty name or instance, expected both");
    }
    if (row->stale_ms < 0) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "worker: found stale after %lld ms, expected 0 or more",
                               (long long)row->stale_ms);
    }
    return store->ops->worker_register(store, row, id_out, err);
}

int pgqrs_store_worker_beat(struct pgqrs_store *store, const int64_t *ids, size_t count,
                            struct pgqrs_error *err)
{
    return count == 0 ? 0 : store->ops->worker_beat(store, ids, count, err);
}

int pgqrs_store_worker_orders(struct pgqrs_store *store, struct pgqrs_orders *orders,
                              struct pgqrs_error *err)
{
    orders->cancel_count = 0;
    if (orders->cancel_max == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "orders: found room for no cancellation, expected 1 or more");
    }
    return orders->worker_count == 0 ? 0 : store->ops->worker_orders(store, orders, err);
}

int64_t pgqrs_store_worker_end(struct pgqrs_store *store, int64_t worker_id,
                               const struct pgqrs_release *release, struct pgqrs_error *err)
{
    return store->ops->worker_end(store, worker_id, release, err);
}

int64_t pgqrs_store_worker_reconcile(struct pgqrs_store *store, int64_t worker_id,
                                     const struct pgqrs_lease_ref *known, size_t count,
                                     struct pgqrs_error *err)
{
    return store->ops->worker_reconcile(store, worker_id, known, count, err);
}

int pgqrs_store_worker_list(struct pgqrs_store *store, const struct pgqrs_worker_filter *filter,
                            struct pgqrs_worker_info_list *list_out, struct pgqrs_error *err)
{
    if (pgqrs_store_check_limit(filter->limit, LIST_LIMIT_MAX, err) < 0) {
        return -1;
    }
    return store->ops->worker_list(store, filter, list_out, err);
}

void pgqrs_worker_info_list_fini(struct pgqrs_worker_info_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].instance);
        free(list->items[i].name);
    }
    free(list->items);
    *list = (struct pgqrs_worker_info_list){0};
}

int pgqrs_store_worker_move(struct pgqrs_store *store, int64_t worker_id,
                            enum pgqrs_worker_move move, struct pgqrs_error *err)
{
    if ((unsigned)move - 1 >= PGQRS_MOVE_COUNT - 1) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID, "worker: found move %d, which is none",
                               (int)move);
    }
    return store->ops->worker_move(store, worker_id, move, err);
}

int pgqrs_store_worker_delete(struct pgqrs_store *store, int64_t worker_id, struct pgqrs_error *err)
{
    return store->ops->worker_delete(store, worker_id, err);
}

int64_t pgqrs_store_worker_purge(struct pgqrs_store *store, int64_t older_ms, uint32_t limit,
                                 struct pgqrs_error *err)
{
    if (pgqrs_store_check_limit(limit, PURGE_WORKERS_MAX, err) < 0) {
        return -1;
    }
    if (older_ms < 0) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "worker purge: found an age of %lld ms, expected 0 or more",
                               (long long)older_ms);
    }
    return store->ops->worker_purge(store, older_ms, limit, err);
}

int pgqrs_store_worker_stats(struct pgqrs_store *store, int64_t queue_id, int64_t stale_ms,
                             struct pgqrs_worker_stats *stats_out, struct pgqrs_error *err)
{
    if (stale_ms < 0) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "worker stats: found stale after %lld ms, expected 0 or more",
                               (long long)stale_ms);
    }
    return store->ops->worker_stats(store, queue_id, stale_ms, stats_out, err);
}

int pgqrs_store_info(struct pgqrs_store *store, struct pgqrs_store_info *info_out,
                     struct pgqrs_error *err)
{
    return store->ops->info(store, info_out, err);
}

/* ---- the exchange ---- */

/* What a handler sent is not checked here: it must not keep the results of others from storage. */
static int check_exchange(const struct pgqrs_exchange *x, struct pgqrs_error *err)
{
    for (size_t i = 0; i < x->settlement_count; i++) {
        const struct pgqrs_settlement *item = &x->settlements[i];
        if ((unsigned)item->how - 1 >= PGQRS_SETTLE_COUNT - 1 || item->delay_ms < 0) {
            return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                                   "settlement %zu: found kind %d with a delay of %lld ms", i,
                                   (int)item->how, (long long)item->delay_ms);
        }
    }
    for (size_t i = 0; i < x->want_count; i++) {
        if (x->wants[i].lease_ms <= 0) {
            return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                                   "want %zu: found a lease of %lld ms, expected more than 0", i,
                                   (long long)x->wants[i].lease_ms);
        }
    }
    return 0;
}

int pgqrs_store_exchange(struct pgqrs_store *store, struct pgqrs_exchange *exchange,
                         struct pgqrs_error *err)
{
    if (check_exchange(exchange, err) < 0) {
        return -1;
    }
    return store->ops->exchange(store, exchange, err);
}

int pgqrs_store_message_claim(struct pgqrs_store *store, struct pgqrs_message_claim *claim,
                              struct pgqrs_exchange *leased, struct pgqrs_error *err)
{
    if (store->ops->message_claim == NULL || claim->lease_ms <= 0) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "claim: found a lease of %lld ms of store %s, expected more than 0 "
                               "of a broker's own store",
                               (long long)claim->lease_ms, store->ops->name);
    }
    leased->lease_count = 0;
    pgqrs_buf_clear(&leased->payloads);
    claim->replayed = false;
    return store->ops->message_claim(store, claim, leased, err);
}

/* What a message is that can not be claimed. */
int pgqrs_store_refuse_claim(const struct pgqrs_message_claim *claim,
                             const struct pgqrs_claim_look *look, struct pgqrs_error *err)
{
    long long id = claim->message_id;
    if (!look->found) {
        return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "message %lld does not exist", id);
    }
    if (look->queue_id != claim->queue_id) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT, "message %lld is of another queue", id);
    }
    if (look->archived && !look->failed) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT,
                               "message %lld has ended, and is no dead letter", id);
    }
    if (look->archived) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT,
                               "message %lld: another one that waits has its unique key", id);
    }
    return pgqrs_error_set(err, PGQRS_ERR_CONFLICT, "message %lld is leased by worker %lld", id,
                           (long long)look->holder);
}

void pgqrs_exchange_fini(struct pgqrs_exchange *exchange)
{
    free(exchange->leases);
    pgqrs_buf_fini(&exchange->payloads);
    *exchange = (struct pgqrs_exchange){0};
}

int64_t pgqrs_store_renew(struct pgqrs_store *store, const struct pgqrs_lease_ref *leases,
                          size_t count, int64_t lease_ms, bool *held_out, struct pgqrs_error *err)
{
    if (lease_ms <= 0) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "renew: found a lease of %lld ms, expected more than 0",
                               (long long)lease_ms);
    }
    return count == 0 ? 0 : store->ops->renew(store, leases, count, lease_ms, held_out, err);
}

/* ---- waking up ---- */

int pgqrs_store_wake_fd(struct pgqrs_store *store)
{
    return store->ops->wake_fd == NULL ? -1 : store->ops->wake_fd(store);
}

bool pgqrs_store_woken(struct pgqrs_store *store)
{
    return store->ops->woken != NULL && store->ops->woken(store);
}

void pgqrs_store_doze(struct pgqrs_store *store)
{
    if (store->ops->doze != NULL) {
        store->ops->doze(store);
    }
}

void pgqrs_store_rouse(struct pgqrs_store *store)
{
    if (store->ops->rouse != NULL) {
        store->ops->rouse(store);
    }
}

void pgqrs_store_unwatch(struct pgqrs_store *store)
{
    if (store->ops->unwatch != NULL) {
        store->ops->unwatch(store);
    }
}
