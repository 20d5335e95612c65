/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_STORE_MODEL_H
#define PGQRS_TESTS_STORE_MODEL_H

/*
 * The store contract in the plainest form: arrays in memory, searched from end to end. It is a
 * store like any other, so that the suite can be run on it, and it is what the random test compares
 * a real one with. What the contract leaves open it decides in the simplest way.
 */

#include "store/store_priv.h"

struct model_message {
    struct pgqrs_message row;
    int64_t due_us; /* vt before the lease */
    bool cancel_asked;
};

struct model {
    struct pgqrs_store base;
    struct pgqrs_queue *queues; /* each array in the order of the ids */
    size_t queue_count;
    struct pgqrs_worker_info *workers;
    size_t worker_count;
    struct model_message *messages;
    size_t message_count;
    int64_t last_queue, last_worker, last_message; /* ids given away */
};

struct pgqrs_store *model_open(void);

/* ---- between the model's files ---- */

static inline struct model *model_of(struct pgqrs_store *store)
{
    return (struct model *)(void *)store;
}

struct pgqrs_queue *model_queue(struct model *m, int64_t id);
struct pgqrs_worker_info *model_worker(struct model *m, int64_t id);
struct model_message *model_message(struct model *m, int64_t id);
/* Crashes are counted apart. */
int64_t model_attempts(const struct pgqrs_message *row);
bool model_is_leased(const struct pgqrs_message *row);
bool model_is_pending(const struct pgqrs_message *row);
void model_set(char **text, const char *value); /* value may be null */
void model_remove(struct model *m, struct model_message *message);
void model_give_back(struct model_message *message, int64_t vt_us, bool spent);
int64_t model_after(int64_t us, int64_t ms);
/* The id of the item, or of the one that has its key; -1 when the queue is not there. */
int64_t model_insert(struct model *m, int64_t queue_id, const struct pgqrs_enqueue *item,
                     bool *existed_out);

int model_exchange(struct pgqrs_store *store, struct pgqrs_exchange *x, struct pgqrs_error *err);
int64_t model_renew(struct pgqrs_store *store, const struct pgqrs_lease_ref *leases, size_t count,
                    int64_t lease_ms, bool *held_out, struct pgqrs_error *err);
enum pgqrs_settled model_settle(struct model *m, const struct pgqrs_settlement *item);

int model_worker_register(struct pgqrs_store *store, const struct pgqrs_worker_row *row,
                          int64_t *id_out, struct pgqrs_error *err);
int model_worker_beat(struct pgqrs_store *store, const int64_t *ids, size_t count,
                      struct pgqrs_error *err);
int model_worker_orders(struct pgqrs_store *store, struct pgqrs_orders *orders,
                        struct pgqrs_error *err);
int64_t model_worker_end(struct pgqrs_store *store, int64_t worker_id,
                         const struct pgqrs_release *release, struct pgqrs_error *err);
int64_t model_worker_reconcile(struct pgqrs_store *store, int64_t worker_id,
                               const struct pgqrs_lease_ref *known, size_t count,
                               struct pgqrs_error *err);
int model_worker_list(struct pgqrs_store *store, const struct pgqrs_worker_filter *filter,
                      struct pgqrs_worker_info_list *list_out, struct pgqrs_error *err);
int model_worker_move(struct pgqrs_store *store, int64_t worker_id, enum pgqrs_worker_move move,
                      struct pgqrs_error *err);
int model_worker_delete(struct pgqrs_store *store, int64_t worker_id, struct pgqrs_error *err);
int64_t model_worker_purge(struct pgqrs_store *store, int64_t older_ms, uint32_t limit,
                           struct pgqrs_error *err);
int model_worker_stats(struct pgqrs_store *store, int64_t queue_id, int64_t stale_ms,
                       struct pgqrs_worker_stats *stats_out, struct pgqrs_error *err);
int64_t model_reap(struct pgqrs_store *store, const struct pgqrs_reap *reap,
                   struct pgqrs_error *err);

#endif
