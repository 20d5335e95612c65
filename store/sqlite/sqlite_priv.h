/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_SQLITE_PRIV_H
#define PGQRS_STORE_SQLITE_PRIV_H

/*
 * What the files of the SQLite backend share: the connection, its cached statements, and the small
 * steps every operation is made of.
 */

#include <sqlite3.h>

#include "base/clock.h"
#include "store/store_priv.h"

enum sqlite_stmt_id {
    STMT_BEGIN,
    STMT_COMMIT,
    STMT_ROLLBACK,
    STMT_DATA_VERSION,
    STMT_QUEUE_CREATE,
    STMT_QUEUE_FIND,
    STMT_QUEUE_LIST,
    STMT_QUEUE_EXISTS,
    STMT_METRICS_LIVE,
    STMT_METRICS_PENDING,
    STMT_METRICS_ARCHIVED,
    STMT_METRICS_FAILED,
    STMT_METRICS_NEWEST_ARCHIVED,
    STMT_ENQUEUE,
    STMT_KEY_HOLDER,
    STMT_MESSAGE_GET,
    STMT_WORKER_EXISTS,
    STMT_MAY_LEASE,
    STMT_WORKER_FIND,
    STMT_WORKER_INSERT,
    STMT_WORKER_TAKE,
    STMT_WORKER_BEAT,
    STMT_WORKER_STOP,
    STMT_WORKER_LIVE,
    STMT_WORKER_HELD,
    STMT_WORKER_FIRST,
    STMT_WORKER_FREE,
    STMT_SETTLE_END,
    STMT_SETTLE_DELETE,
    STMT_SETTLE_RELEASE,
    STMT_SETTLE_LOOK,
    STMT_RENEW,
    STMT_LEVEL,
    STMT_LEASABLE,
    STMT_PICK,
    STMT_TAKE,
    STMT_LATER,
    STMT_REPAIR_VT,
    STMT_COUNT
};

struct sqlite_wake {
    int fd;      /* an epoll that holds the other two; -1: there is none */
    int inotify; /* writes to the -wal file */
    int timer;   /* looks again: a write is seen before its commit */
    bool armed;
    unsigned tries;
    int64_t data_version;
};

struct sqlite_store {
    struct pgqrs_store base;
    sqlite3 *db;
    char *path;   /* absolute; null for a database in memory */
    char *shown;  /* for messages */
    int claim_fd; /* -1: not claimed */
    int64_t busy_ms;
    int64_t busy_since_ms;
    struct sqlite_wake wake;
    sqlite3_stmt *stmts[STMT_COUNT];
};

static inline struct sqlite_store *sqlite_of(struct pgqrs_store *store)
{
    return (struct sqlite_store *)store;
}

/* ---- sqlite_sql.c ---- */

/* What sqlite_message.c reads into a struct pgqrs_message. */
#define PGQRS_SQLITE_MESSAGE_COLUMNS                                                               \
    "id, queue_id, enqueued_at, vt, dequeued_at, archived_at, coalesce(consumer_worker_id, 0),"    \
    " coalesce(read_ct, 0), pgqrsd_priority, pgqrsd_crash_ct, payload,"                            \
    " CASE WHEN archived_at IS NOT NULL THEN pgqrsd_outcome END,"                                  \
    " pgqrsd_result, pgqrsd_error, coalesce(producer_worker_id, 0), pgqrsd_unique_key"

const char *pgqrs_sqlite_sql(enum sqlite_stmt_id id);

/* ---- sqlite_dsn.c ---- */

/* The path, decoded, or null for a database in memory; a mode in the DSN overrides *create. */
int pgqrs_sqlite_parse_dsn(const char *dsn, char **path_out, bool *create, struct pgqrs_error *err);

/* ---- sqlite_step.c: one statement, one transaction ---- */

/* Fills err from the connection's last error; returns -1. */
int pgqrs_sqlite_fail(struct sqlite_store *s, struct pgqrs_error *err);
/* The same after preparing. The statements are correct: what they miss has not been installed. */
int pgqrs_sqlite_prepare_failed(struct sqlite_store *s, struct pgqrs_error *err);
/* The cached statement, ready for its parameters; null with err filled. */
sqlite3_stmt *pgqrs_sqlite_stmt(struct sqlite_store *s, enum sqlite_stmt_id id,
                                struct pgqrs_error *err);
/* 1 there is a row, 0 the end (the statement is reset), -1 an error (reset too). */
int pgqrs_sqlite_step(struct sqlite_store *s, sqlite3_stmt *stmt, struct pgqrs_error *err);
/* Runs a statement without rows to its end; returns how many rows it changed. */
int64_t pgqrs_sqlite_run(struct sqlite_store *s, sqlite3_stmt *stmt, struct pgqrs_error *err);
/* Whether a STMT_..._EXISTS finds the id: 1, 0, or -1. */
int pgqrs_sqlite_exists(struct sqlite_store *s, enum sqlite_stmt_id stmt_id, int64_t id,
                        struct pgqrs_error *err);
/* Runs SQL text that is not cached and gives no rows. */
int pgqrs_sqlite_exec(struct sqlite_store *s, const char *sql, struct pgqrs_error *err);
int pgqrs_sqlite_begin(struct sqlite_store *s, struct pgqrs_error *err);
int pgqrs_sqlite_commit(struct sqlite_store *s, struct pgqrs_error *err);
void pgqrs_sqlite_rollback(struct sqlite_store *s);
/* Commits when rc is 0 or more, else rolls back; returns rc, or -1 when the commit failed. */
int64_t pgqrs_sqlite_end(struct sqlite_store *s, int64_t rc, struct pgqrs_error *err);

/* Parameters are borrowed until the statement is reset. Null data binds NULL. */
void pgqrs_sqlite_bind_int(sqlite3_stmt *stmt, int index, int64_t value);
/* 0 binds NULL. */
void pgqrs_sqlite_bind_id(sqlite3_stmt *stmt, int index, int64_t id);
void pgqrs_sqlite_bind_text(sqlite3_stmt *stmt, int index, const char *text);
void pgqrs_sqlite_bind_bytes(sqlite3_stmt *stmt, int index, struct pgqrs_bytes bytes);

/* ---- sqlite_value.c: values of columns ---- */

/* Borrowed until the next step. NULL gives an empty run with null data. */
struct pgqrs_bytes pgqrs_sqlite_bytes(sqlite3_stmt *stmt, int column);
/* NULL gives 0, and so does what nobody can read as a time: one such row, which any program can
 * write, must not stand in the way of all the others. */
void pgqrs_sqlite_time(sqlite3_stmt *stmt, int column, int64_t *wall_us_out);
/* A copy on the heap; NULL gives null. */
int pgqrs_sqlite_dup(sqlite3_stmt *stmt, int column, char **text_out, struct pgqrs_error *err);
/* A time in both its forms. */
struct moment {
    int64_t us;
    char text[PGQRS_TIMESTAMP_SIZE];
};
struct moment pgqrs_sqlite_moment(int64_t wall_us);
/* A time plus a delay, kept within what a timestamp can say. */
int64_t pgqrs_sqlite_after(int64_t wall_us, int64_t delay_ms);

/* ---- the operations ---- */

int pgqrs_sqlite_install(struct pgqrs_store *store, struct pgqrs_error *err);
int pgqrs_sqlite_verify(struct pgqrs_store *store, struct pgqrs_error *err);

int pgqrs_sqlite_queue_create(struct pgqrs_store *store, const char *name, int64_t *id_out,
                              struct pgqrs_error *err);
int pgqrs_sqlite_queue_find(struct pgqrs_store *store, const char *name, int64_t *id_out,
                            struct pgqrs_error *err);
int pgqrs_sqlite_queue_list(struct pgqrs_store *store, int64_t after_id, uint32_t limit,
                            struct pgqrs_queue_list *list_out, struct pgqrs_error *err);
int pgqrs_sqlite_queue_metrics(struct pgqrs_store *store, int64_t queue_id, uint64_t count_max,
                               struct pgqrs_queue_metrics *metrics_out, struct pgqrs_error *err);

/* 0, or -1 with PGQRS_ERR_NOT_FOUND. */
int pgqrs_sqlite_need_queue(struct sqlite_store *s, int64_t queue_id, struct pgqrs_error *err);
/* The same for a worker; 0 is none, and fine. */
int pgqrs_sqlite_need_worker(struct sqlite_store *s, int64_t worker_id, struct pgqrs_error *err);
/* Within the caller's transaction, into a queue that exists, by a producer that exists. Returns the
 * id, or -1; existed_out tells whether a message with its unique key was there. */
int64_t pgqrs_sqlite_insert(struct sqlite_store *s, int64_t queue_id,
                            const struct pgqrs_enqueue *item, const struct moment *now,
                            bool *existed_out, struct pgqrs_error *err);
/* The live message of the queue that has the key; 0 when there is none. */
int64_t pgqrs_sqlite_key_holder(struct sqlite_store *s, int64_t queue_id, const char *key,
                                struct pgqrs_error *err);
int pgqrs_sqlite_enqueue(struct pgqrs_store *store, int64_t queue_id,
                         const struct pgqrs_enqueue *items, size_t count, int64_t *ids_out,
                         bool *existed_out, struct pgqrs_error *err);
int pgqrs_sqlite_message_get(struct pgqrs_store *store, int64_t id,
                             struct pgqrs_message *message_out, struct pgqrs_error *err);
int pgqrs_sqlite_message_list(struct pgqrs_store *store, const struct pgqrs_message_filter *filter,
                              struct pgqrs_message_list *list_out, struct pgqrs_error *err);

int pgqrs_sqlite_worker_register(struct pgqrs_store *store, const struct pgqrs_worker_row *row,
                                 int64_t *id_out, struct pgqrs_error *err);
int pgqrs_sqlite_worker_beat(struct pgqrs_store *store, const int64_t *ids, size_t count,
                             struct pgqrs_error *err);
int64_t pgqrs_sqlite_worker_end(struct pgqrs_store *store, int64_t worker_id,
                                const struct pgqrs_release *release, struct pgqrs_error *err);
int64_t pgqrs_sqlite_worker_reconcile(struct pgqrs_store *store, int64_t worker_id,
                                      const struct pgqrs_lease_ref *known, size_t count,
                                      struct pgqrs_error *err);
int pgqrs_sqlite_worker_list_live(struct pgqrs_store *store, struct pgqrs_worker_list *list_out,
                                  struct pgqrs_error *err);

int pgqrs_sqlite_exchange(struct pgqrs_store *store, struct pgqrs_exchange *exchange,
                          struct pgqrs_error *err);
int64_t pgqrs_sqlite_renew(struct pgqrs_store *store, const struct pgqrs_lease_ref *leases,
                           size_t count, int64_t lease_ms, bool *held_out, struct pgqrs_error *err);
/* sqlite_settle.c, sqlite_lease.c: the two halves of an exchange, in the caller's transaction. */
int pgqrs_sqlite_settle(struct sqlite_store *s, struct pgqrs_settlement *item,
                        const struct moment *now, struct pgqrs_error *err);
/* Gives back one lease, unspent, as it was before. Returns 1 when it held, else 0. */
int64_t pgqrs_sqlite_give_back(struct sqlite_store *s, const struct pgqrs_lease_ref *lease,
                               const struct moment *now, struct pgqrs_error *err);
int pgqrs_sqlite_lease(struct sqlite_store *s, struct pgqrs_exchange *x, const struct moment *now,
                       struct pgqrs_error *err);
/* 1 some want can be answered now, 0 none; sets next_due_us. Outside a transaction. */
int pgqrs_sqlite_peek(struct sqlite_store *s, struct pgqrs_exchange *x, const struct moment *now,
                      struct pgqrs_error *err);

int pgqrs_sqlite_claim(struct pgqrs_store *store, const char *site, struct pgqrs_error *err);
int pgqrs_sqlite_wake_fd(struct pgqrs_store *store);
bool pgqrs_sqlite_woken(struct pgqrs_store *store);
void pgqrs_sqlite_wake_init(struct sqlite_wake *wake);
void pgqrs_sqlite_wake_fini(struct sqlite_wake *wake);

#endif
