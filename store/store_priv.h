/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_STORE_PRIV_H
#define PGQRS_STORE_STORE_PRIV_H

/*
 * What a backend implements: the operations of store/store.h, whose arguments were checked. Every
 * operation must be there except message_claim, wake_fd, woken, doze, rouse and unwatch, which may
 * be null. A
 * backend's struct begins with struct pgqrs_store.
 */

#include "store/schedule.h"
#include "store/store.h"
#include "store/workflow.h"

/* store/workflow.h. run_open and flow may be null where no broker opens the store. */
struct pgqrs_workflow_ops {
    int (*create)(struct pgqrs_store *store, const char *name, int64_t *id_out, bool *existed_out,
                  struct pgqrs_error *err);
    int (*list)(struct pgqrs_store *store, int64_t after_id, uint32_t limit,
                struct pgqrs_workflow_list *list_out, struct pgqrs_error *err);
    int (*find)(struct pgqrs_store *store, const char *name, struct pgqrs_workflow_list *one_out,
                struct pgqrs_error *err);
    int (*run_get)(struct pgqrs_store *store, int64_t message_id, struct pgqrs_run_list *one_out,
                   struct pgqrs_error *err);
    int (*run_list)(struct pgqrs_store *store, const struct pgqrs_run_filter *filter,
                    struct pgqrs_run_list *list_out, struct pgqrs_error *err);
    int (*run_steps)(struct pgqrs_store *store, int64_t message_id,
                     struct pgqrs_step_list *list_out, struct pgqrs_error *err);
    int (*run_state)(struct pgqrs_store *store, int64_t message_id,
                     struct pgqrs_pair_list *list_out, struct pgqrs_error *err);
    int (*run_events)(struct pgqrs_store *store, int64_t message_id,
                      struct pgqrs_pair_list *list_out, struct pgqrs_error *err);
    int (*run_cancel)(struct pgqrs_store *store, int64_t message_id,
                      enum pgqrs_run_status *status_out, struct pgqrs_error *err);
    int (*run_resume)(struct pgqrs_store *store, int64_t message_id, bool *woken_out,
                      struct pgqrs_error *err);
    int (*run_fork)(struct pgqrs_store *store, int64_t message_id, const char *from_step,
                    struct pgqrs_bytes input, int64_t *message_id_out, struct pgqrs_error *err);
    int (*event_send)(struct pgqrs_store *store, int64_t message_id, const char *name,
                      struct pgqrs_bytes payload, bool *first_out, struct pgqrs_error *err);
    int (*run_open)(struct pgqrs_store *store, int64_t workflow_id, struct pgqrs_run_open *opens,
                    size_t count, int64_t *now_us_out, struct pgqrs_error *err);
    int (*flow)(struct pgqrs_store *store, struct pgqrs_flow *items, size_t count,
                struct pgqrs_error *err);
};

/* store/schedule.h. configure, due and fire may be null where no broker opens the store. */
struct pgqrs_schedule_ops {
    int (*create)(struct pgqrs_store *store, const struct pgqrs_schedule_put *put, int64_t *id_out,
                  struct pgqrs_error *err);
    int64_t (*configure)(struct pgqrs_store *store, const char *config,
                         const struct pgqrs_schedule_put *puts, size_t count,
                         struct pgqrs_error *err);
    int (*list)(struct pgqrs_store *store, const char *after, uint32_t limit,
                struct pgqrs_schedule_list *list_out, struct pgqrs_error *err);
    int (*find)(struct pgqrs_store *store, const char *name, struct pgqrs_schedule_list *one_out,
                struct pgqrs_error *err);
    int (*pause)(struct pgqrs_store *store, const char *name, bool paused, struct pgqrs_error *err);
    int (*remove)(struct pgqrs_store *store, const char *name, struct pgqrs_error *err);
    int (*due)(struct pgqrs_store *store, int64_t now_us, uint32_t limit,
               struct pgqrs_schedule_list *list_out, int64_t *next_us_out, struct pgqrs_error *err);
    int (*fire)(struct pgqrs_store *store, struct pgqrs_fire *fire, struct pgqrs_error *err);
};

struct pgqrs_store_ops {
    const char *name;
    const struct pgqrs_workflow_ops *workflow; /* null: it keeps no workflows */
    const struct pgqrs_schedule_ops *schedule; /* null: it keeps no schedules */
    void (*close)(struct pgqrs_store *store);
    int (*claim)(struct pgqrs_store *store, const char *site, struct pgqrs_error *err);
    int (*install)(struct pgqrs_store *store, struct pgqrs_error *err);
    int (*verify)(struct pgqrs_store *store, struct pgqrs_error *err);
    int (*fits)(struct pgqrs_store *store,
                struct pgqrs_error *err); /* null: the peer has seen to it */
    int (*queue_create)(struct pgqrs_store *store, const char *name, int64_t *id_out,
                        struct pgqrs_error *err);
    int (*queue_find)(struct pgqrs_store *store, const char *name, int64_t *id_out,
                      struct pgqrs_error *err);
    int (*queue_list)(struct pgqrs_store *store, int64_t after_id, uint32_t limit,
                      struct pgqrs_queue_list *list_out, struct pgqrs_error *err);
    int (*queue_pause)(struct pgqrs_store *store, int64_t queue_id, bool paused,
                       struct pgqrs_error *err);
    int (*queue_delete)(struct pgqrs_store *store, int64_t queue_id, struct pgqrs_error *err);
    int64_t (*queue_purge)(struct pgqrs_store *store, int64_t queue_id, unsigned what,
                           uint32_t limit, struct pgqrs_error *err);
    int (*queue_metrics)(struct pgqrs_store *store, int64_t queue_id, uint64_t count_max,
                         struct pgqrs_queue_metrics *metrics_out, struct pgqrs_error *err);
    int (*enqueue)(struct pgqrs_store *store, int64_t queue_id, const struct pgqrs_enqueue *items,
                   size_t count, int64_t *ids_out, bool *existed_out, struct pgqrs_error *err);
    int (*message_get)(struct pgqrs_store *store, int64_t id, struct pgqrs_message *message_out,
                       struct pgqrs_error *err);
    int (*message_list)(struct pgqrs_store *store, const struct pgqrs_message_filter *filter,
                        struct pgqrs_message_list *list_out, struct pgqrs_error *err);
    int64_t (*message_act)(struct pgqrs_store *store, enum pgqrs_act act, const int64_t *ids,
                           size_t count, enum pgqrs_acted *acted_out, struct pgqrs_error *err);
    int64_t (*prune)(struct pgqrs_store *store, struct pgqrs_prune *prune, struct pgqrs_error *err);
    int64_t (*bury)(struct pgqrs_store *store, int64_t queue_id, uint32_t max_attempts,
                    struct pgqrs_error *err);
    int64_t (*reap)(struct pgqrs_store *store, const struct pgqrs_reap *reap,
                    struct pgqrs_error *err);
    int (*worker_register)(struct pgqrs_store *store, const struct pgqrs_worker_row *row,
                           int64_t *id_out, struct pgqrs_error *err);
    int (*worker_beat)(struct pgqrs_store *store, const int64_t *ids, size_t count,
                       struct pgqrs_error *err);
    int (*worker_orders)(struct pgqrs_store *store, struct pgqrs_orders *orders,
                         struct pgqrs_error *err);
    int64_t (*worker_end)(struct pgqrs_store *store, int64_t worker_id,
                          const struct pgqrs_release *release, struct pgqrs_error *err);
    int64_t (*worker_reconcile)(struct pgqrs_store *store, int64_t worker_id,
                                const struct pgqrs_lease_ref *known, size_t count,
                                struct pgqrs_error *err);
    int (*worker_list)(struct pgqrs_store *store, const struct pgqrs_worker_filter *filter,
                       struct pgqrs_worker_info_list *list_out, struct pgqrs_error *err);
    int (*worker_move)(struct pgqrs_store *store, int64_t worker_id, enum pgqrs_worker_move move,
                       struct pgqrs_error *err);
    int (*worker_delete)(struct pgqrs_store *store, int64_t worker_id, struct pgqrs_error *err);
    int64_t (*worker_purge)(struct pgqrs_store *store, int64_t older_ms, uint32_t limit,
                            struct pgqrs_error *err);
    int (*worker_stats)(struct pgqrs_store *store, int64_t queue_id, int64_t stale_ms,
                        struct pgqrs_worker_stats *stats_out, struct pgqrs_error *err);
    int (*info)(struct pgqrs_store *store, struct pgqrs_store_info *info_out,
                struct pgqrs_error *err);
    int (*exchange)(struct pgqrs_store *store, struct pgqrs_exchange *exchange,
                    struct pgqrs_error *err);
    int64_t (*renew)(struct pgqrs_store *store, const struct pgqrs_lease_ref *leases, size_t count,
                     int64_t lease_ms, bool *held_out, struct pgqrs_error *err);
    int (*message_claim)(struct pgqrs_store *store, struct pgqrs_message_claim *claim,
                         struct pgqrs_exchange *leased, struct pgqrs_error *err);
    int (*wake_fd)(struct pgqrs_store *store);
    bool (*woken)(struct pgqrs_store *store);
    void (*doze)(struct pgqrs_store *store);
    void (*rouse)(struct pgqrs_store *store);
    void (*unwatch)(struct pgqrs_store *store);
};

struct pgqrs_store {
    const struct pgqrs_store_ops *ops;
};

/* Whether an item may be enqueued; index is for the error's text. */
int pgqrs_store_check_item(const struct pgqrs_enqueue *item, size_t index,
                           struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* What a claim finds. */
struct pgqrs_claim_look {
    bool found, archived, failed; /* failed: a dead letter */
    int64_t queue_id, holder;     /* 0: nobody */
};
/* Whether it may be leased, once it is replayed when it is a dead letter. */
static inline bool pgqrs_store_may_claim(const struct pgqrs_message_claim *claim,
                                         const struct pgqrs_claim_look *look)
{
    return look->found && look->queue_id == claim->queue_id &&
           (look->archived ? look->failed : look->holder == 0);
}
/* Says why not; of a dead letter that may: because of its key. Returns -1. */
int pgqrs_store_refuse_claim(const struct pgqrs_message_claim *claim,
                             const struct pgqrs_claim_look *look, struct pgqrs_error *err);

/* Says why it is not deleted. Returns -1. */
int pgqrs_schedule_is_configured(const struct pgqrs_schedule *schedule, struct pgqrs_error *err);

/* Whether a list may have so many items. */
int pgqrs_store_check_limit(uint32_t limit, uint32_t max, struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* dsn is what follows the scheme and its slashes; the whole of it for PostgreSQL. */
int pgqrs_store_postgres_open(const char *dsn, const struct pgqrs_store_options *options,
                              struct pgqrs_store **store_out,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;
int pgqrs_store_remote_open(const char *dsn, const struct pgqrs_store_options *options,
                            struct pgqrs_store **store_out,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;
int pgqrs_store_sqlite_open(const char *dsn, const struct pgqrs_store_options *options,
                            struct pgqrs_store **store_out,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
