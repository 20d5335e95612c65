/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_POSTGRES_PRIV_H
#define PGQRS_STORE_POSTGRES_PRIV_H

/*
 * What the files of the PostgreSQL backend share: the connection, prepared statements, and the
 * small steps every operation is made of.
 *
 * Every wait for the server ends at the call's deadline; then, and whenever the connection is lost,
 * the connection is thrown away and the next call opens a new one. A statement is prepared on a
 * connection when it is first used there, or sent unnamed every time when a transaction pooler is
 * in between. Unqualified names are found through search_path, which the connection sets (schema,
 * then pg_catalog); behind a pooler too.
 *
 * Times: the server's clock, through the schema's function pgqrsd_now(), which is now() and which
 * tests replace. On the wire a time is a bigint of microseconds since 1970 UTC:
 * PGQRS_PG_US(expression) makes one, PGQRS_PG_TIME(expression) reads one.
 */

#include <libpq-fe.h>

#include "base/clock.h"
#include "store/store_priv.h"

#define PGQRS_PG_US(time) "(extract(epoch from " time ") * 1000000)::bigint"
#define PGQRS_PG_TIME(us) "(to_timestamp(0) + (" us ") * interval '1 microsecond')"

enum { PG_PARAMS_MAX = 16 };

enum pg_type { /* OIDs, as in pg_type.dat: they are part of the protocol and never change */
               PG_BOOL = 16,
               PG_INT8 = 20,
               PG_INT4 = 23,
               PG_TEXT = 25,
               PG_JSON = 114,
               PG_JSONB = 3802,
               PG_BOOL_ARRAY = 1000,
               PG_INT4_ARRAY = 1007,
               PG_TEXT_ARRAY = 1009,
               PG_INT8_ARRAY = 1016,
               PG_JSON_ARRAY = 199,
               PG_JSONB_ARRAY = 3807,
};

/* One for each statement, static in the file that uses it. */
struct pg_stmt {
    const char *name; /* unique among all; also its name on the server */
    const char *sql;
    int param_count;
    unsigned types[PG_PARAMS_MAX]; /* enum pg_type */
    const char *const *texts;      /* the parameters, of types that the server finds; else null */
    int text_count;
};

/* The parameters of one call, in binary. Build with the pgqrs_pg_arg_ functions, in order, from an
 * empty (zero) struct; the bytes are copied. Fini it whatever happened. */
struct pg_args {
    struct pgqrs_buf data;
    size_t starts[PG_PARAMS_MAX];
    int lengths[PG_PARAMS_MAX]; /* -1: NULL */
    int count;
};

struct pg_store; /* pg_conn.c has it: base first */

static inline struct pg_store *pg_of(struct pgqrs_store *store)
{
    return (struct pg_store *)store;
}

/* ---- pg_args.c ---- */

void pgqrs_pg_arg_int8(struct pg_args *args, int64_t value);
void pgqrs_pg_arg_int4(struct pg_args *args, int32_t value);
void pgqrs_pg_arg_bool(struct pg_args *args, bool value);
void pgqrs_pg_arg_null(struct pg_args *args);
void pgqrs_pg_arg_text(struct pg_args *args, const char *text); /* null: NULL */
/* Text, json; jsonb with its version byte when the statement's type says so: pass jsonb true. */
void pgqrs_pg_arg_bytes(struct pg_args *args, struct pgqrs_bytes bytes, bool jsonb);
/* Arrays of one dimension: begin, items, end. An item of null data is NULL. */
void pgqrs_pg_arg_array_begin(struct pg_args *args, enum pg_type item, size_t count);
void pgqrs_pg_arg_array_int8(struct pg_args *args, int64_t value);
void pgqrs_pg_arg_array_int4(struct pg_args *args, int32_t value);
void pgqrs_pg_arg_array_bool(struct pg_args *args, bool value);
void pgqrs_pg_arg_array_bytes(struct pg_args *args, struct pgqrs_bytes bytes, bool jsonb);
void pgqrs_pg_arg_array_end(struct pg_args *args);
/* Three arrays: messages, workers, attempts. */
void pgqrs_pg_arg_leases(struct pg_args *args, const struct pgqrs_lease_ref *leases, size_t count);
void pgqrs_pg_args_fini(struct pg_args *args);

/* Values of a binary result. A NULL is 0, false or an empty run with null data. Borrowed from the
 * result. */
int64_t pgqrs_pg_int(const PGresult *result, int row, int column); /* int4 and int8 */
/* Of a timestamptz as it is, which costs the server less than PGQRS_PG_US. Within 1970 and 9999. */
int64_t pgqrs_pg_time(const PGresult *result, int row, int column);
bool pgqrs_pg_bool(const PGresult *result, int row, int column);
bool pgqrs_pg_is_null(const PGresult *result, int row, int column);
/* text, json and jsonb (its version byte is left out); always followed by a zero byte. */
struct pgqrs_bytes pgqrs_pg_bytes(const PGresult *result, int row, int column);
/* A copy on the heap; NULL gives null. */
int pgqrs_pg_dup(const PGresult *result, int row, int column, char **text_out,
                 struct pgqrs_error *err);

/* ---- pg_call.c: one statement, one transaction ---- */

/*
 * Runs one statement by itself (it is its own transaction) and returns its result, binary, for
 * PQclear; null with err filled. PGQRS_ERR_AGAIN: certainly not carried out; PGQRS_ERR_UNKNOWN: the
 * connection was lost after it was sent and it may have been committed (a statement that only reads
 * says read_only and fails with AGAIN instead). SQLSTATE 40001, 40P01, 53xxx, 55P03, 57P01 to 57P03
 * and 08xxx before the commit are AGAIN; 23505 is EXISTS; 23503 and 23514 are CONFLICT; 42P01,
 * 42703 and 42883 are SCHEMA (install it); 28xxx, 3D000 and 25006 are UNAVAILABLE; 22xxx is
 * INVALID; anything else FAILED. Texts hold the server's primary message, never a parameter or the
 * DSN.
 */
PGresult *pgqrs_pg_run(struct pg_store *s, const struct pg_stmt *stmt, const struct pg_args *args,
                       bool read_only, struct pgqrs_error *err);
/* The number of rows it changed or returned. */
int64_t pgqrs_pg_count(const PGresult *result);
/* The same as pgqrs_pg_run, for a statement whose rows do not matter; returns the count or -1. */
int64_t pgqrs_pg_exec(struct pg_store *s, const struct pg_stmt *stmt, const struct pg_args *args,
                      struct pgqrs_error *err);

/* A transaction of several calls; pgqrs_pg_run within it. End commits when rc is 0 or more, else
 * rolls back; returns rc, or -1 when the commit failed (UNKNOWN when its answer is missing). With a
 * borrowed connection (inside the caller's transaction) both use a savepoint. */
int pgqrs_pg_begin(struct pg_store *s, struct pgqrs_error *err);
int64_t pgqrs_pg_end(struct pg_store *s, int64_t rc, struct pgqrs_error *err);

/*
 * Several statements in one transaction and one round trip (pipeline mode, one Sync at the end).
 * Add fills the batch; run sends it and waits: every result, or the first failure and nothing was
 * done (or UNKNOWN). The statements' results stay valid until pgqrs_pg_batch_fini, which may be
 * called at any time. After pgqrs_pg_begin it is a part of that transaction.
 */
enum { PG_BATCH_MAX = 64 };
struct pg_batch {
    const struct pg_stmt *stmts[PG_BATCH_MAX];
    struct pg_args args[PG_BATCH_MAX];
    PGresult *results[PG_BATCH_MAX];
    int count;
    bool read_only;
};
/* The arguments to fill of one more statement; null when the batch is full. */
struct pg_args *pgqrs_pg_batch_add(struct pg_batch *batch, const struct pg_stmt *stmt);
int pgqrs_pg_batch_run(struct pg_store *s, struct pg_batch *batch, struct pgqrs_error *err);
void pgqrs_pg_batch_fini(struct pg_batch *batch);

/* ---- the operations, by file ---- */

/* pg_conn.c: open, close, claim, wake; pg_schema.c, pg_verify.c: install, verify */
int pgqrs_pg_claim(struct pgqrs_store *store, const char *site, struct pgqrs_error *err);
int pgqrs_pg_install(struct pgqrs_store *store, struct pgqrs_error *err);
int pgqrs_pg_verify(struct pgqrs_store *store, struct pgqrs_error *err);
int pgqrs_pg_fits(struct pgqrs_store *store, struct pgqrs_error *err);
int pgqrs_pg_wake_fd(struct pgqrs_store *store);
bool pgqrs_pg_woken(struct pgqrs_store *store);
void pgqrs_pg_doze(struct pgqrs_store *store);
void pgqrs_pg_rouse(struct pgqrs_store *store);

/* pg_exchange.c, pg_settle.c, pg_follow.c, pg_lease.c, pg_enqueue.c: the hot path */
int pgqrs_pg_enqueue(struct pgqrs_store *store, int64_t queue_id, const struct pgqrs_enqueue *items,
                     size_t count, int64_t *ids_out, bool *existed_out, struct pgqrs_error *err);
int pgqrs_pg_exchange(struct pgqrs_store *store, struct pgqrs_exchange *x, struct pgqrs_error *err);
int64_t pgqrs_pg_renew(struct pgqrs_store *store, const struct pgqrs_lease_ref *leases,
                       size_t count, int64_t lease_ms, bool *held_out, struct pgqrs_error *err);

/* pg_queue.c; pg_metrics.c: metrics and info */
int pgqrs_pg_queue_create(struct pgqrs_store *store, const char *name, int64_t *id_out,
                          struct pgqrs_error *err);
int pgqrs_pg_queue_find(struct pgqrs_store *store, const char *name, int64_t *id_out,
                        struct pgqrs_error *err);
int pgqrs_pg_queue_list(struct pgqrs_store *store, int64_t after_id, uint32_t limit,
                        struct pgqrs_queue_list *list_out, struct pgqrs_error *err);
int pgqrs_pg_queue_pause(struct pgqrs_store *store, int64_t queue_id, bool paused,
                         struct pgqrs_error *err);
int pgqrs_pg_queue_delete(struct pgqrs_store *store, int64_t queue_id, struct pgqrs_error *err);
int64_t pgqrs_pg_queue_purge(struct pgqrs_store *store, int64_t queue_id, unsigned what,
                             uint32_t limit, struct pgqrs_error *err);
int pgqrs_pg_queue_metrics(struct pgqrs_store *store, int64_t queue_id, uint64_t count_max,
                           struct pgqrs_queue_metrics *metrics_out, struct pgqrs_error *err);
int pgqrs_pg_info(struct pgqrs_store *store, struct pgqrs_store_info *info_out,
                  struct pgqrs_error *err);

/* pg_message.c, pg_act.c, pg_housekeeping.c */
int pgqrs_pg_message_get(struct pgqrs_store *store, int64_t id, struct pgqrs_message *message_out,
                         struct pgqrs_error *err);
int pgqrs_pg_message_list(struct pgqrs_store *store, const struct pgqrs_message_filter *filter,
                          struct pgqrs_message_list *list_out, struct pgqrs_error *err);
int64_t pgqrs_pg_message_act(struct pgqrs_store *store, enum pgqrs_act act, const int64_t *ids,
                             size_t count, enum pgqrs_acted *acted_out, struct pgqrs_error *err);
int pgqrs_pg_message_claim(struct pgqrs_store *store, struct pgqrs_message_claim *claim,
                           struct pgqrs_exchange *leased, struct pgqrs_error *err);
/* Within the caller's transaction. 0: another one that waits has its unique key. */
int pgqrs_pg_replay(struct pg_store *s, int64_t id, struct pgqrs_error *err) PGQRS_MUST_CHECK;
int64_t pgqrs_pg_prune(struct pgqrs_store *store, struct pgqrs_prune *prune,
                       struct pgqrs_error *err);
int64_t pgqrs_pg_bury(struct pgqrs_store *store, int64_t queue_id, uint32_t max_attempts,
                      struct pgqrs_error *err);
int64_t pgqrs_pg_reap(struct pgqrs_store *store, const struct pgqrs_reap *reap,
                      struct pgqrs_error *err);

/* pg_worker.c, pg_worker_live.c, pg_worker_admin.c */
int pgqrs_pg_worker_register(struct pgqrs_store *store, const struct pgqrs_worker_row *row,
                             int64_t *id_out, struct pgqrs_error *err);
int pgqrs_pg_worker_beat(struct pgqrs_store *store, const int64_t *ids, size_t count,
                         struct pgqrs_error *err);
int pgqrs_pg_worker_orders(struct pgqrs_store *store, struct pgqrs_orders *orders,
                           struct pgqrs_error *err); /* pg_orders.c */
enum pgqrs_worker_state pgqrs_pg_worker_state(struct pgqrs_bytes name);
int64_t pgqrs_pg_worker_end(struct pgqrs_store *store, int64_t worker_id,
                            const struct pgqrs_release *release, struct pgqrs_error *err);
int64_t pgqrs_pg_worker_reconcile(struct pgqrs_store *store, int64_t worker_id,
                                  const struct pgqrs_lease_ref *known, size_t count,
                                  struct pgqrs_error *err);
int pgqrs_pg_worker_list(struct pgqrs_store *store, const struct pgqrs_worker_filter *filter,
                         struct pgqrs_worker_info_list *list_out, struct pgqrs_error *err);
int pgqrs_pg_worker_move(struct pgqrs_store *store, int64_t worker_id, enum pgqrs_worker_move move,
                         struct pgqrs_error *err);
int pgqrs_pg_worker_delete(struct pgqrs_store *store, int64_t worker_id, struct pgqrs_error *err);
int64_t pgqrs_pg_worker_purge(struct pgqrs_store *store, int64_t older_ms, uint32_t limit,
                              struct pgqrs_error *err);
int pgqrs_pg_worker_stats(struct pgqrs_store *store, int64_t queue_id, int64_t stale_ms,
                          struct pgqrs_worker_stats *stats_out, struct pgqrs_error *err);

/* pg_schedule.c */
extern const struct pgqrs_schedule_ops pgqrs_pg_schedule_ops;

#endif
