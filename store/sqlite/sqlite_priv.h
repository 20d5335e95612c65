/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_SQLITE_PRIV_H
#define PGQRS_STORE_SQLITE_PRIV_H

/*
 * What the files of the SQLite backend share: the connection, its cached statements, and the small
 * steps every operation is made of.
 */

#include <sqlite3.h>
#include <sys/types.h>

#include "base/clock.h"
#include "store/store_priv.h"

enum sqlite_stmt_id {
    STMT_BEGIN,
    STMT_BEGIN_READ,
    STMT_COMMIT,
    STMT_ROLLBACK,
    STMT_SAVEPOINT,
    STMT_SAVEPOINT_RELEASE,
    STMT_SAVEPOINT_ROLLBACK,
    STMT_DATA_VERSION,
    STMT_QUEUE_CREATE,
    STMT_QUEUE_FIND,
    STMT_QUEUE_LIST,
    STMT_QUEUE_EXISTS,
    STMT_QUEUE_PAUSE,
    STMT_QUEUE_IN_THE_WAY,
    STMT_QUEUE_WORKERS,
    STMT_QUEUE_LEAVE,
    STMT_QUEUE_DELETE,
    STMT_PURGE_PENDING,
    STMT_PURGE_LEASED,
    STMT_PURGE_ARCHIVED,
    STMT_METRICS_COUNTS,
    STMT_METRICS_TIMES,
    STMT_ENQUEUE,
    STMT_KEY_HOLDER,
    STMT_MESSAGE_GET,
    STMT_WORKER_EXISTS,
    STMT_WORKER_FIND,
    STMT_WORKER_INSERT,
    STMT_WORKER_TAKE,
    STMT_WORKER_BEAT,
    STMT_WORKER_STOP,
    STMT_WORKER_HELD,
    STMT_WORKER_FIRST,
    STMT_WORKER_FREE,
    STMT_WORKER_GIVE_UP,
    STMT_WORKER_SET,
    STMT_WORKER_STATE,
    STMT_WORKER_HELD_COUNT,
    STMT_WORKER_NAMED,
    STMT_WORKER_DELETE,
    STMT_WORKER_PURGE,
    STMT_WORKER_STATS,
    STMT_INFO,
    STMT_SETTLE_END,
    STMT_SETTLE_DELETE,
    STMT_SETTLE_RELEASE,
    STMT_SETTLE_LOOK,
    STMT_RENEW,
    STMT_CLAIM_LOOK,
    STMT_CLAIM_PICK,
    STMT_ACT_LOOK,
    STMT_ACT_CANCEL,
    STMT_ACT_FREE,
    STMT_ACT_REPLAY,
    STMT_CANCEL_ASK,
    STMT_CANCEL_FORGET,
    STMT_ORDERS_BEAT,
    STMT_ORDERS_LOOK,
    STMT_ORDERS_END,
    STMT_ORDERS_FORGET,
    STMT_ORDERS_HELD,
    STMT_MESSAGE_DELETE,
    STMT_RUN_DELETE,
    STMT_STEPS_DELETE,
    STMT_PRUNE_ENDED,
    STMT_PRUNE_FAILED,
    STMT_BURY_FRONT,
    STMT_BURY,
    STMT_REAP_HOLDER,
    STMT_REAP_DEAD,
    STMT_REAP_LEASES,
    STMT_REAP_FREE,
    STMT_REAP_WORKERS,
    STMT_LEVEL,
    STMT_PRIORITY,
    STMT_LEASABLE,
    STMT_PICK,
    STMT_TAKE,
    STMT_LATER,
    STMT_REPAIR_VT,
    STMT_SCHEDULE_INSERT,
    STMT_SCHEDULE_CHANGE,
    STMT_SCHEDULE_LIST,
    STMT_SCHEDULE_FIND,
    STMT_SCHEDULE_DUE,
    STMT_SCHEDULE_PAUSE,
    STMT_SCHEDULE_DELETE,
    STMT_SCHEDULE_OTHERS,
    STMT_SCHEDULE_LOOK,
    STMT_SCHEDULE_FIRED,
    STMT_TICK_INSERT,
    STMT_TICK_MESSAGE,
    STMT_TICKS_OLD,
    STMT_TICKS_DELETE,
    STMT_RUN_FAILS,
    STMT_RUN_FAILS_WAITING,
    STMT_RUN_FAILS_BURIED,
    STMT_RUN_FAILS_ORDERED,
    STMT_FLOW_FIRST, /* of sqlite_flow_sql.c */
    STMT_WORKFLOW_FIND = STMT_FLOW_FIRST,
    STMT_WORKFLOW_LIST,
    STMT_WORKFLOW_CREATE,
    STMT_RUN_GET,
    STMT_RUN_LIST,
    STMT_RUN_LIST_STATUS,
    STMT_RUN_LIST_PARENT,
    STMT_RUN_LIST_END,
    STMT_RUN_LIST_STATUS_END,
    STMT_RUN_STEPS,
    STMT_RUN_STATE,
    STMT_RUN_EVENTS,
    STMT_RUN_LOOK,
    STMT_RUN_CANCEL,
    STMT_MESSAGE_WAKE,
    STMT_MESSAGE_MARK,
    STMT_RESUME_STEPS,
    STMT_EVENT_ADD,
    STMT_EVENT_WAKE,
    STMT_EVENT_THERE,
    STMT_STEP_FIND,
    STMT_MESSAGE_AGAIN,
    STMT_FORK_RUN,
    STMT_FORK_STEPS,
    STMT_OPEN_MESSAGE,
    STMT_OPEN_RUN,
    STMT_FLOW_LOOK,
    STMT_STEP_STORED,
    STMT_STEP_PUT,
    STMT_STATE_PUT,
    STMT_RUN_END,
    STMT_RUN_PAUSE,
    STMT_RUN_AWAIT,
    STMT_MESSAGE_ADOPT,
    STMT_CONTINUE_EVENTS,
    STMT_JSON_VALID,
    STMT_JSON_TEXT,
    STMT_REPLAY_RUN,
    STMT_REPLAY_STEPS,
    STMT_ITEM,
    STMT_ITEM_RELEASE,
    STMT_ITEM_ROLLBACK,
    STMT_COUNT
};

struct sqlite_wake {
    int fd;      /* an epoll that holds the other two; -1: there is none */
    int inotify; /* writes to the -wal file */
    int watch;   /* its number there */
    int timer;   /* looks again: a write is seen before its commit */
    bool armed;
    unsigned tries;
    int64_t data_version;
};

struct sqlite_store {
    struct pgqrs_store base;
    sqlite3 *db;
    bool borrowed; /* db is somebody else's */
    bool nested;   /* the transaction at hand is a savepoint in theirs */
    char *path;    /* absolute; null for a database in memory, and for a borrowed one */
    char *shown;   /* for messages */
    int claim_fd;  /* -1: not claimed */
    int64_t busy_ms;
    int64_t busy_since_ms;
    bool synchronous_full;
    bool syncs; /* the level the connection is at */
    ino_t wal_inode;
    struct sqlite_wake wake;
    bool guest;             /* what is prepared and stepped is a handler's statement */
    char guest_refused[80]; /* what it may not */
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

/* ---- sqlite_schedule.c ---- */

extern const struct pgqrs_schedule_ops pgqrs_sqlite_schedule_ops;

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
/* Runs a statement whose only parameter is an id. */
int64_t pgqrs_sqlite_run_about(struct sqlite_store *s, enum sqlite_stmt_id stmt_id, int64_t id,
                               struct pgqrs_error *err);
int pgqrs_sqlite_begin_read(struct sqlite_store *s, struct pgqrs_error *err);
int pgqrs_sqlite_begin(struct sqlite_store *s, struct pgqrs_error *err);
/* What it commits may be gone after a power cut, unless something later was synced. End it with
 * pgqrs_sqlite_end. */
int pgqrs_sqlite_begin_unsynced(struct sqlite_store *s, struct pgqrs_error *err);
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

/* ---- sqlite_file.c ---- */

/* Whether the database is still the file of that name. If not, the store has gone over to the one
 * that is there, if any, and says PGQRS_ERR_AGAIN. Outside a transaction. */
int pgqrs_sqlite_check_file(struct sqlite_store *s, struct pgqrs_error *err);
/* path null: in memory. On failure the store still needs its close. */
int pgqrs_sqlite_open_file(struct sqlite_store *s, const char *path, bool create,
                           struct pgqrs_error *err);
void pgqrs_sqlite_finalize(struct sqlite_store *s);

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
int pgqrs_sqlite_fits(struct pgqrs_store *store, struct pgqrs_error *err);

int pgqrs_sqlite_queue_create(struct pgqrs_store *store, const char *name, int64_t *id_out,
                              struct pgqrs_error *err);
int pgqrs_sqlite_queue_find(struct pgqrs_store *store, const char *name, int64_t *id_out,
                            struct pgqrs_error *err);
int pgqrs_sqlite_queue_list(struct pgqrs_store *store, int64_t after_id, uint32_t limit,
                            struct pgqrs_queue_list *list_out, struct pgqrs_error *err);
int pgqrs_sqlite_queue_metrics(struct pgqrs_store *store, int64_t queue_id, uint64_t count_max,
                               struct pgqrs_queue_metrics *metrics_out, struct pgqrs_error *err);

int pgqrs_sqlite_queue_pause(struct pgqrs_store *store, int64_t queue_id, bool paused,
                             struct pgqrs_error *err);
int pgqrs_sqlite_queue_delete(struct pgqrs_store *store, int64_t queue_id, struct pgqrs_error *err);
int64_t pgqrs_sqlite_queue_purge(struct pgqrs_store *store, int64_t queue_id, unsigned what,
                                 uint32_t limit, struct pgqrs_error *err);

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
/* A row of PGQRS_SQLITE_MESSAGE_COLUMNS. On failure the message still needs its fini. */
int pgqrs_sqlite_read_message(sqlite3_stmt *row, int64_t now_us, struct pgqrs_message *m,
                              struct pgqrs_error *err);
int pgqrs_sqlite_message_list(struct pgqrs_store *store, const struct pgqrs_message_filter *filter,
                              struct pgqrs_message_list *list_out, struct pgqrs_error *err);

int64_t pgqrs_sqlite_message_act(struct pgqrs_store *store, enum pgqrs_act act, const int64_t *ids,
                                 size_t count, enum pgqrs_acted *acted_out,
                                 struct pgqrs_error *err);

/* In the caller's transaction. 0: another one that waits has its unique key. */
int64_t pgqrs_sqlite_replay(struct sqlite_store *s, int64_t id, const char *now,
                            struct pgqrs_error *err);

/* Ids that a statement found, to be changed when it is over. */
struct sqlite_ids {
    int64_t *items;
    size_t count, cap;
};
int pgqrs_sqlite_ids_add(struct sqlite_ids *ids, int64_t id, struct pgqrs_error *err);
void pgqrs_sqlite_ids_fini(struct sqlite_ids *ids);
/* Appends the first column of all rows. */
int pgqrs_sqlite_collect(struct sqlite_store *s, sqlite3_stmt *stmt, struct sqlite_ids *ids,
                         struct pgqrs_error *err);
/* With the workflow run it started, in the caller's transaction. Returns how many messages. */
int64_t pgqrs_sqlite_delete_message(struct sqlite_store *s, int64_t id, struct pgqrs_error *err);
int64_t pgqrs_sqlite_delete_messages(struct sqlite_store *s, const struct sqlite_ids *ids,
                                     struct pgqrs_error *err);

int64_t pgqrs_sqlite_prune(struct pgqrs_store *store, struct pgqrs_prune *prune,
                           struct pgqrs_error *err);
int64_t pgqrs_sqlite_bury(struct pgqrs_store *store, int64_t queue_id, uint32_t max_attempts,
                          struct pgqrs_error *err);
int64_t pgqrs_sqlite_reap(struct pgqrs_store *store, const struct pgqrs_reap *reap,
                          struct pgqrs_error *err);

/* Frees all that the worker holds, in the caller's transaction: due now, attempts spent. */
int64_t pgqrs_sqlite_give_up(struct sqlite_store *s, int64_t worker_id, const struct moment *now,
                             struct pgqrs_error *err);
int pgqrs_sqlite_worker_list(struct pgqrs_store *store, const struct pgqrs_worker_filter *filter,
                             struct pgqrs_worker_info_list *list_out, struct pgqrs_error *err);
int pgqrs_sqlite_worker_move(struct pgqrs_store *store, int64_t worker_id,
                             enum pgqrs_worker_move move, struct pgqrs_error *err);
int pgqrs_sqlite_worker_delete(struct pgqrs_store *store, int64_t worker_id,
                               struct pgqrs_error *err);
int64_t pgqrs_sqlite_worker_purge(struct pgqrs_store *store, int64_t older_ms, uint32_t limit,
                                  struct pgqrs_error *err);
int pgqrs_sqlite_worker_stats(struct pgqrs_store *store, int64_t queue_id, int64_t stale_ms,
                              struct pgqrs_worker_stats *stats_out, struct pgqrs_error *err);
int pgqrs_sqlite_info(struct pgqrs_store *store, struct pgqrs_store_info *info_out,
                      struct pgqrs_error *err);

int pgqrs_sqlite_worker_register(struct pgqrs_store *store, const struct pgqrs_worker_row *row,
                                 int64_t *id_out, struct pgqrs_error *err);
int pgqrs_sqlite_worker_beat(struct pgqrs_store *store, const int64_t *ids, size_t count,
                             struct pgqrs_error *err);
int pgqrs_sqlite_worker_orders(struct pgqrs_store *store, struct pgqrs_orders *orders,
                               struct pgqrs_error *err);
/* A list of ids as JSON, for json_each. */
void pgqrs_sqlite_put_ids(struct pgqrs_buf *list, const int64_t *ids, size_t count);
enum pgqrs_worker_state pgqrs_sqlite_worker_state(struct pgqrs_bytes name);
int64_t pgqrs_sqlite_worker_end(struct pgqrs_store *store, int64_t worker_id,
                                const struct pgqrs_release *release, struct pgqrs_error *err);
int64_t pgqrs_sqlite_worker_reconcile(struct pgqrs_store *store, int64_t worker_id,
                                      const struct pgqrs_lease_ref *known, size_t count,
                                      struct pgqrs_error *err);

int pgqrs_sqlite_exchange(struct pgqrs_store *store, struct pgqrs_exchange *exchange,
                          struct pgqrs_error *err);
int pgqrs_sqlite_message_claim(struct pgqrs_store *store, struct pgqrs_message_claim *claim,
                               struct pgqrs_exchange *leased, struct pgqrs_error *err);
int64_t pgqrs_sqlite_renew(struct pgqrs_store *store, const struct pgqrs_lease_ref *leases,
                           size_t count, int64_t lease_ms, bool *held_out, struct pgqrs_error *err);
/* sqlite_settle.c, sqlite_lease.c: the two halves of an exchange, in the caller's transaction. */
int pgqrs_sqlite_settle(struct sqlite_store *s, struct pgqrs_settlement *item,
                        const struct moment *now, struct pgqrs_error *err);
/* Writes to trouble why a follow-up can not be added; leaves it empty when all can. */
int pgqrs_sqlite_check_follow_ups(struct sqlite_store *s, const struct pgqrs_follow_up *follow_ups,
                                  size_t count, char *trouble, size_t size,
                                  struct pgqrs_error *err);
/* After that. *first_out: the id of the first one. */
int pgqrs_sqlite_add_follow_ups(struct sqlite_store *s, const struct pgqrs_follow_up *follow_ups,
                                size_t count, const struct moment *now, int64_t *first_out,
                                struct pgqrs_error *err);
/* A text of somebody else's: SQLite's functions, and ours, end it at a zero byte. */
struct pgqrs_bytes pgqrs_sqlite_until_zero(struct pgqrs_bytes text);
/* Gives back one lease, unspent, as it was before. Returns 1 when it held, else 0. */
int64_t pgqrs_sqlite_give_back(struct sqlite_store *s, const struct pgqrs_lease_ref *lease,
                               const struct moment *now, struct pgqrs_error *err);
/* A queue's levels of priority that have waiting messages, downwards: begin above every one.
 * Returns 1, 0 when there is none below, or -1. */
#define PGQRS_SQLITE_ABOVE_EVERY_PRIORITY ((int64_t)INT32_MAX + 1)
int pgqrs_sqlite_next_priority(struct sqlite_store *s, int64_t queue_id, int64_t *priority,
                               struct pgqrs_error *err);
int pgqrs_sqlite_lease(struct sqlite_store *s, struct pgqrs_exchange *x, const struct moment *now,
                       struct pgqrs_error *err);
/* One message that may be leased. */
int pgqrs_sqlite_lease_one(struct sqlite_store *s, const struct pgqrs_message_claim *claim,
                           struct pgqrs_exchange *x, const struct moment *now,
                           struct pgqrs_error *err);
/* 1 some want can be answered now, 0 none; sets next_due_us. Outside a transaction. */
int pgqrs_sqlite_peek(struct sqlite_store *s, struct pgqrs_exchange *x, const struct moment *now,
                      struct pgqrs_error *err);

int pgqrs_sqlite_claim(struct pgqrs_store *store, const char *site, struct pgqrs_error *err);
int pgqrs_sqlite_wake_fd(struct pgqrs_store *store);
bool pgqrs_sqlite_woken(struct pgqrs_store *store);
void pgqrs_sqlite_unwatch(struct pgqrs_store *store);
void pgqrs_sqlite_wake_init(struct sqlite_wake *wake);
void pgqrs_sqlite_wake_fini(struct sqlite_wake *wake);
/* The database is another one now. */
void pgqrs_sqlite_wake_moved(struct sqlite_store *s);
int pgqrs_sqlite_claim_moved(struct sqlite_store *s, struct pgqrs_error *err);
/* This store's lock is taken; it has been given back. */
void pgqrs_sqlite_wake_begun(struct sqlite_store *s);
void pgqrs_sqlite_wake_ended(struct sqlite_store *s);

#endif
