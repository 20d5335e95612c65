/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_STORE_H
#define PGQRS_STORE_STORE_H

/*
 * The store contract: what a queue kept in a database can do, whatever the database.
 *
 * The functions here check their arguments and call the backend's operations (store/store_priv.h).
 * A store belongs to one thread. Calls return 0 or more on success and -1 with *err filled:
 * PGQRS_ERR_AGAIN nothing was changed and the same call may work later (locked, disk full),
 * PGQRS_ERR_UNKNOWN it may have been carried out; anything else will not work by trying again.
 * Repeating an exchange whose outcome is unknown is safe: results are fenced.
 *
 * Times are wall-clock microseconds since 1970 UTC, from the store's clock. Texts and byte runs
 * given to a call are borrowed until it returns. Lists that come back are freed by their _fini.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

struct pgqrs_store;

struct pgqrs_store_options {
    bool create;           /* SQLite: make the database file when there is none */
    bool synchronous_full; /* SQLite: an acknowledged change survives a power cut */
    int64_t busy_ms;       /* SQLite: how long a call may wait for another program's lock */
    const char *schema;    /* PostgreSQL: where the tables are; null: public */
    int64_t call_ms;       /* PostgreSQL, broker: deadline of one call; 0: 30 s */
    bool wake;             /* PostgreSQL: a second connection listens, for wake_fd and claim */
    const char *wake_dsn;  /* PostgreSQL: for that one, past a pooler; null: the same */
};

/*
 * Opens the store that the DSN names: sqlite:PATH, sqlite://PATH, sqlite::memory:,
 * postgres://..., postgresql://... (libpq's URI), broker:SOCKET (a running broker, store/remote).
 * Changes nothing in it. PGQRS_ERR_CONFIG: the scheme is unknown; PGQRS_ERR_UNAVAILABLE: it can
 * not be opened. The text never holds a password.
 *
 * A store whose connection is lost stays open: calls fail with PGQRS_ERR_AGAIN, or
 * PGQRS_ERR_UNKNOWN when it was lost in a commit, and each one tries to connect anew.
 */
int pgqrs_store_open(const char *dsn, const struct pgqrs_store_options *options,
                     struct pgqrs_store **store_out, struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_store_close(struct pgqrs_store **store); /* accepts null; nulls the pointer */

/* "sqlite", "postgres" or "broker". */
const char *pgqrs_store_backend(const struct pgqrs_store *store);

/*
 * Makes this process the store's broker for the site, a text that names host and supervisor, until
 * it closes the store. Returns 1 when it is then the store's only broker (SQLite), 0 when there may
 * be others of other sites (PostgreSQL). PGQRS_ERR_UNAVAILABLE when another process is it.
 * Everybody else may still read, enqueue and lease.
 */
int pgqrs_store_claim(struct pgqrs_store *store, const char *site,
                      struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- schema ---- */

/*
 * Creates or completes the schema: pgqrs' tables, indexes and ledger rows, and our additions.
 * Safe to repeat, safe when two do it at once. PGQRS_ERR_SCHEMA when a newer program installed it
 * or the ledger is not one we know; nothing is changed then.
 */
int pgqrs_store_install(struct pgqrs_store *store, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* 0 when the schema is complete and consistent; else PGQRS_ERR_SCHEMA names what is not. */
int pgqrs_store_verify(struct pgqrs_store *store, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Whether pgqrs_store_install would take what is there: 1 tables, 0 none yet. PGQRS_ERR_SCHEMA when
 * it would refuse. */
int pgqrs_store_fits(struct pgqrs_store *store, struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- queues ---- */

struct pgqrs_queue {
    int64_t id;
    char *name; /* owned by the list */
    int64_t created_at_us;
    int64_t paused_at_us; /* 0: it is not paused */
};

struct pgqrs_queue_list {
    struct pgqrs_queue *items;
    size_t count;
};

/* PGQRS_ERR_EXISTS when the name is taken; PGQRS_ERR_INVALID when it is empty or over 255 bytes. */
int pgqrs_store_queue_create(struct pgqrs_store *store, const char *name, int64_t *id_out,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* PGQRS_ERR_NOT_FOUND when there is none. */
int pgqrs_store_queue_find(struct pgqrs_store *store, const char *name, int64_t *id_out,
                           struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* By id upwards from after_id (0: the first page), up to limit, 1 to 1000. */
int pgqrs_store_queue_list(struct pgqrs_store *store, int64_t after_id, uint32_t limit,
                           struct pgqrs_queue_list *list_out,
                           struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_queue_list_fini(struct pgqrs_queue_list *list);
/* Nothing of a paused queue is leased by an exchange; pgqrs' own clients lease all the same. What
 * is leased goes on. Pausing what is paused is no error. */
int pgqrs_store_queue_pause(struct pgqrs_store *store, int64_t queue_id, bool paused,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;
/*
 * PGQRS_ERR_CONFLICT names what is in the way: messages, live or archived; workers that are not
 * stopped; a workflow definition; a schedule. Rows of stopped workers go with the queue, or lose it
 * when messages of other queues name them.
 */
int pgqrs_store_queue_delete(struct pgqrs_store *store, int64_t queue_id,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;

enum pgqrs_purge { /* bits */
                   PGQRS_PURGE_ARCHIVED = 1,
                   PGQRS_PURGE_PENDING = 2, /* ready and delayed */
                   PGQRS_PURGE_LEASED = 4,  /* whoever runs it finds its lease lost */
                   PGQRS_PURGE_ALL = 7,
};
/* Deletes up to limit messages, 1 to 10000, with the workflow runs they started. Returns how many;
 * fewer than limit: none is left. */
int64_t pgqrs_store_queue_purge(struct pgqrs_store *store, int64_t queue_id, unsigned what,
                                uint32_t limit, struct pgqrs_error *err) PGQRS_MUST_CHECK;

struct pgqrs_queue_metrics {
    int64_t total;             /* every row, archived ones too */
    int64_t pending;           /* neither leased nor archived: ready or delayed */
    int64_t ready;             /* pending and due */
    int64_t leased;            /* held by a worker */
    int64_t archived;          /* done, failed or cancelled, or archived by a pgqrs client */
    int64_t failed;            /* archived as a dead letter */
    int64_t oldest_pending_us; /* earliest enqueued_at of the pending; 0 none */
    int64_t newest_us;   /* latest enqueued_at of the live and of the 1000 archived last; 0 none */
    int64_t next_due_us; /* when the first delayed one is due; 0 none */
    int64_t now_us;      /* the store's clock */
};

/*
 * queue_id 0: all queues together. Each count stops at count_max, so that the call's cost does not
 * grow with the backlog; total may then be up to three times as much. 0: counts everything, for
 * people who wait.
 */
int pgqrs_store_queue_metrics(struct pgqrs_store *store, int64_t queue_id, uint64_t count_max,
                              struct pgqrs_queue_metrics *metrics_out,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- messages ---- */

struct pgqrs_enqueue {
    struct pgqrs_bytes payload; /* JSON, checked by the caller (store/payload.h) */
    int64_t delay_ms;           /* due so much later than now */
    int64_t at_us;              /* or due at this time; 0: delay_ms tells */
    int32_t priority;           /* bigger is served first; 0 is usual */
    const char *unique_key;     /* null: none; else 1 to 255 bytes */
    int64_t producer_worker_id; /* 0: none */
};

/*
 * All or none, in one transaction; ids_out[i] is the id of items[i]. While a message with the same
 * unique key in the same queue is not archived or deleted, that one's id is given, nothing is
 * inserted and existed_out[i] is true (of two in one call, the second finds the first).
 * existed_out may be null.
 */
int pgqrs_store_enqueue(struct pgqrs_store *store, int64_t queue_id,
                        const struct pgqrs_enqueue *items, size_t count, int64_t *ids_out,
                        bool *existed_out, struct pgqrs_error *err) PGQRS_MUST_CHECK;

enum pgqrs_message_state { /* derived from the row */
                           PGQRS_STATE_NONE = 0,
                           PGQRS_STATE_READY,   /* pending and due */
                           PGQRS_STATE_DELAYED, /* pending, due later */
                           PGQRS_STATE_LEASED,
                           PGQRS_STATE_ARCHIVED, /* with an outcome when one of our workers ended it
                                                  */
                           PGQRS_STATE_COUNT
};

struct pgqrs_message {
    int64_t id, queue_id;
    enum pgqrs_message_state state;
    int64_t enqueued_at_us, vt_us;
    int64_t dequeued_at_us, archived_at_us; /* 0: not yet */
    int64_t consumer_worker_id;             /* 0: none */
    int64_t producer_worker_id;
    int32_t read_ct, priority, crash_ct;
    char *payload;
    char *unique_key; /* null: none */
    char *outcome;    /* "done", "failed" or "cancelled"; null: not ended, or by a pgqrs client */
    char *result;     /* JSON; null: none */
    char *error;      /* the last failure; null: none */
};

struct pgqrs_message_list {
    struct pgqrs_message *items;
    size_t count;
    int64_t next_before_id; /* before_id of the next page; 0: this was the last one */
};

/* PGQRS_ERR_NOT_FOUND when there is none. Free with pgqrs_message_fini. */
int pgqrs_store_message_get(struct pgqrs_store *store, int64_t id,
                            struct pgqrs_message *message_out,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_message_fini(struct pgqrs_message *message);

struct pgqrs_message_filter {
    int64_t queue_id;               /* 0: all */
    enum pgqrs_message_state state; /* PGQRS_STATE_NONE: all */
    const char *outcome;            /* null: all; "failed": the dead letters */
    int64_t consumer_worker_id;     /* 0: all; held by it, or archived by it */
    const char *unique_key;         /* null: all */
    int64_t before_id;              /* 0: from the newest; else ids below: the next page */
    uint32_t limit;                 /* 1 to 1000 */
};

/*
 * Newest id first. One call looks at no more than 10000 rows, so a page may have fewer than limit
 * messages, even none, and not be the last: next_before_id tells.
 */
int pgqrs_store_message_list(struct pgqrs_store *store, const struct pgqrs_message_filter *filter,
                             struct pgqrs_message_list *list_out,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_message_list_fini(struct pgqrs_message_list *list);

/* What an operator does to messages, whoever holds them. */
enum pgqrs_act {
    PGQRS_ACT_NONE = 0,
    PGQRS_ACT_CANCEL, /* waiting: archived, outcome "cancelled". Leased to a worker of a pgqrsd that
                         is not stopped: a request is kept, see pgqrs_store_worker_orders */
    PGQRS_ACT_DELETE, /* waiting or archived: the row goes, with the workflow run it started */
    PGQRS_ACT_FREE, /* leased: the lease is taken away; due now, attempt spent, as pgqrs releases */
    PGQRS_ACT_REPLAY, /* archived: waits again, due now, as if it were new; error and result go */
    PGQRS_ACT_COUNT
};

enum pgqrs_acted { /* what stood in the way, by message */
                   PGQRS_ACTED_NONE = 0,
                   PGQRS_ACTED_YES,
                   PGQRS_ACTED_NOT_FOUND,
                   PGQRS_ACTED_WAITING,  /* free, replay: nobody has it */
                   PGQRS_ACTED_LEASED,   /* cancel, delete, replay: somebody runs it */
                   PGQRS_ACTED_ARCHIVED, /* cancel, free: it has ended */
                   PGQRS_ACTED_KEY,      /* replay: another waiting one has its unique key */
                   PGQRS_ACTED_ASKED,    /* cancel: its worker is asked to stop; not counted */
                   PGQRS_ACTED_COUNT
};

/* In one transaction; acted_out[i] is about ids[i]. count is 1 to 1000. Returns how many were acted
 * on. */
int64_t pgqrs_store_message_act(struct pgqrs_store *store, enum pgqrs_act act, const int64_t *ids,
                                size_t count, enum pgqrs_acted *acted_out,
                                struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- housekeeping: bounded steps, for a broker's clock or an operator ---- */

enum pgqrs_prune_what {
    PGQRS_PRUNE_NONE = 0,
    PGQRS_PRUNE_ENDED,  /* archived, but for dead letters */
    PGQRS_PRUNE_FAILED, /* dead letters */
};

struct pgqrs_prune {
    int64_t queue_id; /* 0: all, which reads more */
    enum pgqrs_prune_what what;
    int64_t age_ms; /* archived longer ago than this, by the store's clock */
    uint32_t limit; /* 1 to 10000 */
    /* In and out: where the last call stopped. Begin with zeros; zeros again: it is at the end. */
    int64_t from_us, from_id;
};
/* Deletes up to limit messages that have ended, and finished workflow runs with them; those of
 * unfinished runs stay. Returns how many went. */
int64_t pgqrs_store_prune(struct pgqrs_store *store, struct pgqrs_prune *prune,
                          struct pgqrs_error *err) PGQRS_MUST_CHECK;

/*
 * Messages that wait although their attempts are used up (a pgqrs client gave them back) become
 * dead letters; their last error stays, or says that attempts were used up. Looks at the first 1000
 * in the order of leasing: those in front are in everybody's way. Returns how many.
 */
int64_t pgqrs_store_bury(struct pgqrs_store *store, int64_t queue_id, uint32_t max_attempts,
                         struct pgqrs_error *err) PGQRS_MUST_CHECK;

struct pgqrs_reap {
    int64_t queue_id; /* 0: all */
    int64_t stale_ms; /* a worker that is not stopped and has not beaten for so long is dead */
    bool foreign;     /* also workers that pgqrsd has not registered: pgqrs' clients do not beat
                         while they work */
    uint32_t limit;   /* messages, 1 to 10000 */
};
/*
 * Leases whose time has passed and whose worker is dead (or stopped) go back to the queue: due now,
 * attempt spent, last error "lease expired: its worker is dead". A dead worker without leases is
 * marked stopped. Returns how many messages.
 */
int64_t pgqrs_store_reap(struct pgqrs_store *store, const struct pgqrs_reap *reap,
                         struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- workers ---- */

enum pgqrs_worker_state { /* pgqrs' worker_status */
                          PGQRS_WORKER_NONE = 0,
                          PGQRS_WORKER_READY,
                          PGQRS_WORKER_POLLING,
                          PGQRS_WORKER_SUSPENDED,
                          PGQRS_WORKER_INTERRUPTED,
                          PGQRS_WORKER_STOPPED,
                          PGQRS_WORKER_STATE_COUNT
};
/* "ready", ...; null for none. */
const char *pgqrs_worker_state_name(enum pgqrs_worker_state state);

struct pgqrs_worker_row {
    const char *name;     /* unique in the store; null: an ephemeral one is made up */
    int64_t queue_id;     /* 0: none, as an admin has */
    const char *instance; /* the supervisor's run; null: a client of the library */
    uint64_t generation;
    int64_t pid;
    int64_t stale_ms; /* instance null: a row of that name that has not beaten for so long is dead
                         and taken over, its leases freed. 0: never */
};

/*
 * The row of a worker, id in *id_out. A stopped row of that name is used again: state ready, times
 * fresh. Otherwise, with an instance: a row of that name with the same instance and generation is
 * the same worker seen again: nothing changes and its leases stay. Any other row of that name is
 * taken over. The caller makes sure that its process is dead and its leases were freed. Without an
 * instance: PGQRS_ERR_EXISTS, telling its state and age, unless it is stale.
 */
int pgqrs_store_worker_register(struct pgqrs_store *store, const struct pgqrs_worker_row *row,
                                int64_t *id_out, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* heartbeat_at := now. PGQRS_ERR_NOT_FOUND, after all the others, when a row has been deleted. */
int pgqrs_store_worker_beat(struct pgqrs_store *store, const int64_t *ids, size_t count,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;

struct pgqrs_lease_ref {
    int64_t message_id, worker_id;
    uint32_t attempt;
};

#define PGQRS_CANCELLED_TEXT "cancelled by request"

struct pgqrs_orders { /* what others want of these workers, which are the caller's */
    const int64_t *worker_ids;
    size_t worker_count;
    bool beat;                           /* heartbeat_at := now, too */
    enum pgqrs_worker_state *states_out; /* by worker; none: its row is gone */
    struct pgqrs_lease_ref *cancels_out; /* leases of theirs that somebody asks to cancel */
    size_t cancel_max;                   /* room for so many, 1 or more; the rest another time */
    size_t cancel_count;                 /* out */
};
/*
 * One statement while nobody asks for a cancellation. In passing, requests for messages that wait
 * by now are carried out (archived, outcome "cancelled", error PGQRS_CANCELLED_TEXT), and those for
 * messages that have ended or are gone are forgotten.
 */
int pgqrs_store_worker_orders(struct pgqrs_store *store, struct pgqrs_orders *orders,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;

struct pgqrs_release {
    bool charge;  /* a job was running: the first of its leases, in the order in which a worker runs
                     them, has spent its attempt; the others have not. Else none has. */
    bool crashed; /* of that one: count it as a crash of the worker */
    uint32_t max_attempts; /* of that one: a dead letter when it has used them up */
    uint32_t max_crashes;  /* of that one, when it crashed: a dead letter when it has so often; an
                              attempt is not used up by that. 1 or more */
    const char *reason;    /* of that one: stored as last error */
};

/*
 * The worker is dead: frees every lease it still has and marks it stopped. Returns the number of
 * messages freed or ended.
 */
int64_t pgqrs_store_worker_end(struct pgqrs_store *store, int64_t worker_id,
                               const struct pgqrs_release *release,
                               struct pgqrs_error *err) PGQRS_MUST_CHECK;
/*
 * Leases of the worker that are not among the known ones never reached it: each goes back as
 * PGQRS_SETTLE_RETURN does. Returns how many.
 */
int64_t pgqrs_store_worker_reconcile(struct pgqrs_store *store, int64_t worker_id,
                                     const struct pgqrs_lease_ref *known, size_t count,
                                     struct pgqrs_error *err) PGQRS_MUST_CHECK;

struct pgqrs_worker_info {
    int64_t id, queue_id; /* queue 0: none */
    enum pgqrs_worker_state state;
    int64_t started_at_us, heartbeat_at_us, shutdown_at_us; /* 0: none */
    int64_t held;                                           /* live leases */
    uint64_t generation;
    int64_t pid;
    char *name, *instance; /* instance null: not pgqrsd's */
};

struct pgqrs_worker_info_list {
    struct pgqrs_worker_info *items;
    size_t count;
    int64_t now_us; /* the store's clock: what ages are measured against */
};

struct pgqrs_worker_filter {
    int64_t id;                    /* 0: all */
    int64_t queue_id;              /* 0: all */
    enum pgqrs_worker_state state; /* none: all */
    const char *name_prefix;       /* null: all */
    bool live;                     /* only those not stopped */
    bool ours;                     /* only those that pgqrsd registered */
    int64_t before_id;             /* 0: from the newest; else ids below: the next page */
    uint32_t limit;                /* 1 to 1000 */
};
/* Newest id first; fewer than limit: the last page. */
int pgqrs_store_worker_list(struct pgqrs_store *store, const struct pgqrs_worker_filter *filter,
                            struct pgqrs_worker_info_list *list_out,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_worker_info_list_fini(struct pgqrs_worker_info_list *list);

enum pgqrs_worker_move { /* from -> to; any other state is PGQRS_ERR_CONFLICT and told */
                         PGQRS_MOVE_NONE = 0,
                         PGQRS_MOVE_POLL,          /* ready, polling -> polling */
                         PGQRS_MOVE_COMPLETE_POLL, /* polling -> ready */
                         PGQRS_MOVE_INTERRUPT,     /* ready, polling -> interrupted */
                         PGQRS_MOVE_SUSPEND,       /* ready, polling, interrupted -> suspended */
                         PGQRS_MOVE_RESUME,        /* suspended -> ready */
                         PGQRS_MOVE_SHUTDOWN, /* suspended -> stopped, unless it holds leases */
                         PGQRS_MOVE_STOP, /* any -> stopped; its leases are freed, attempts spent */
                         PGQRS_MOVE_COUNT
};
/* PGQRS_ERR_NOT_FOUND when there is no such worker. */
int pgqrs_store_worker_move(struct pgqrs_store *store, int64_t worker_id,
                            enum pgqrs_worker_move move, struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* PGQRS_ERR_CONFLICT while a message, live or archived, names it as producer or consumer. Reads the
 * messages once: for an operator. */
int pgqrs_store_worker_delete(struct pgqrs_store *store, int64_t worker_id,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Deletes up to limit (1 to 100) stopped workers that no message names and that have not beaten for
 * older_ms. Returns how many. Reads the messages once for each: for an operator. */
int64_t pgqrs_store_worker_purge(struct pgqrs_store *store, int64_t older_ms, uint32_t limit,
                                 struct pgqrs_error *err) PGQRS_MUST_CHECK;

struct pgqrs_worker_stats {
    int64_t total, ready, polling, suspended, interrupted, stopped;
    int64_t stale;           /* ready or polling and not beaten for stale_ms */
    int64_t held;            /* live leases of all of them */
    int64_t oldest_start_us; /* of those not stopped; 0 none */
    int64_t newest_beat_us;  /* of those not stopped; 0 none */
    int64_t now_us;
};
/* queue_id 0: all workers; -1: those without a queue. */
int pgqrs_store_worker_stats(struct pgqrs_store *store, int64_t queue_id, int64_t stale_ms,
                             struct pgqrs_worker_stats *stats_out,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;

struct pgqrs_store_info {
    int64_t queues, paused_queues, workflows;
    int32_t schema_version;   /* of our additions */
    const char *pgqrs_schema; /* "0.5.0": the constant that pgqrs reports */
    char server[64];          /* "SQLite 3.40.1", "PostgreSQL 15.20" */
};
int pgqrs_store_info(struct pgqrs_store *store, struct pgqrs_store_info *info_out,
                     struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- the exchange ---- */

enum pgqrs_settle { /* what to do with a leased message; only while the lease holds */
                    PGQRS_SETTLE_NONE = 0,
                    PGQRS_SETTLE_ARCHIVE, /* done: archived_at, outcome "done", result */
                    PGQRS_SETTLE_DELETE,  /* done: the row goes */
                    PGQRS_SETTLE_DEAD,   /* failed for good: archived_at, outcome "failed", error */
                    PGQRS_SETTLE_CANCEL, /* archived_at, outcome "cancelled", error if any */
                    PGQRS_SETTLE_RETRY,  /* visible again after delay_ms; attempt spent; error */
                    PGQRS_SETTLE_SNOOZE, /* visible again after delay_ms; attempt not spent */
                    PGQRS_SETTLE_RETURN, /* as before the lease: old due time, attempt not spent */
                    PGQRS_SETTLE_COUNT
};

struct pgqrs_follow_up { /* enqueued with the result, or not at all */
    const char *queue;
    struct pgqrs_enqueue item;
};

enum pgqrs_settled {
    PGQRS_SETTLED_NONE = 0,
    PGQRS_SETTLED_YES,     /* applied by this call */
    PGQRS_SETTLED_BEFORE,  /* the message is archived by this worker and attempt: this, or the same
                              outcome before it, was applied by an earlier call */
    PGQRS_SETTLED_REFUSED, /* the lease is lost; nothing was applied */
};

struct pgqrs_settlement {
    int64_t message_id, worker_id; /* with attempt: the lease, which fences */
    uint32_t attempt;
    enum pgqrs_settle how;
    bool crashed; /* count it as a crash of the worker */
    int64_t delay_ms;
    struct pgqrs_bytes error; /* stored as last error unless empty */
    struct pgqrs_bytes result;
    const struct pgqrs_follow_up *follow_ups; /* applied only if the lease holds. One that names an
                                                 unknown queue turns the settlement into
                                                 PGQRS_SETTLE_DEAD with that as its error, and none
                                                 of them is added. */
    size_t follow_up_count;
    enum pgqrs_settled settled_out;
};

struct pgqrs_want {              /* lease for a worker */
    int64_t queue_id, worker_id; /* a worker whose row has been deleted, or is neither ready nor
                                    polling, gets nothing; nor does one of a paused queue */
    uint32_t count;
    uint32_t max_attempts; /* rows with read_ct - crash_ct at or above it are not leased */
    int64_t lease_ms;
};

struct pgqrs_lease {
    size_t want; /* index of the want it answers */
    int64_t message_id;
    uint32_t attempt;
    int32_t priority, crash_ct;
    int64_t enqueued_at_us;
    int64_t waited_us;          /* it has been due for so long; -1: claimed */
    struct pgqrs_bytes payload; /* owned by the exchange; a zero byte follows */
};

struct pgqrs_exchange {
    struct pgqrs_settlement *settlements;
    size_t settlement_count;
    const struct pgqrs_want *wants;
    size_t want_count;

    /* Out, valid until the next exchange or pgqrs_exchange_fini: */
    struct pgqrs_lease *leases; /* for each want in order: priority, due time, id */
    size_t lease_count, lease_cap;
    struct pgqrs_buf payloads;
    /* When a queue whose want was not filled has its next delayed message due; 0: none is. May be
     * early: a message that has used up its attempts counts too. */
    int64_t next_due_us;
    int64_t
        now_us; /* the store's clock in this exchange; 0 when nothing was leased or looked for */
};

/* Lease this one message, which no exchange would, or not yet. */
struct pgqrs_message_claim {
    int64_t message_id;
    int64_t queue_id, worker_id; /* of whose queue it has to be */
    int64_t lease_ms;
    bool replayed; /* out: it was a dead letter */
};
/*
 * In one transaction: a message that waits, due or not, whatever its attempts, paused its queue or
 * not, is leased; a dead letter is replayed first (PGQRS_ACT_REPLAY). leased->leases has it then,
 * as after an exchange; its settlements and wants are not looked at. PGQRS_ERR_NOT_FOUND, or
 * PGQRS_ERR_CONFLICT tells what is in the way: somebody has it, it has ended otherwise, another one
 * that waits has its unique key, it is of another queue. Only for the store's broker.
 */
int pgqrs_store_message_claim(struct pgqrs_store *store, struct pgqrs_message_claim *claim,
                              struct pgqrs_exchange *leased,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;

/*
 * One transaction: applies every settlement whose lease holds, in order, adds their follow-ups,
 * then leases what is wanted. Whether a follow-up finds a unique key free that a later settlement
 * of the same exchange frees is open. On failure nothing was applied (or, PGQRS_ERR_UNKNOWN,
 * perhaps everything), and the same exchange may be tried again. PostgreSQL applies settlements one
 * by one, each with its follow-ups in a transaction of its own, when two are about one message, or
 * when the database refuses what one of them brings; on failure some may have been applied then,
 * which trying again finds out.
 */
int pgqrs_store_exchange(struct pgqrs_store *store, struct pgqrs_exchange *exchange,
                         struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_exchange_fini(struct pgqrs_exchange *exchange);

/* vt := now + lease_ms where the lease holds, in one transaction. Returns how many held;
 * held_out[i], unless null, tells about leases[i]. */
int64_t pgqrs_store_renew(struct pgqrs_store *store, const struct pgqrs_lease_ref *leases,
                          size_t count, int64_t lease_ms, bool *held_out,
                          struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- waking up ---- */

/*
 * A descriptor that becomes readable when another program may have changed the store, or -1. It is
 * a hint: it may fire for nothing, and it may miss. After it fired, call pgqrs_store_woken. It
 * stays the same until the store is closed.
 */
int pgqrs_store_wake_fd(struct pgqrs_store *store);
/* Takes the hint away. True when it is worth looking: somebody else has committed since the last
 * call, or what pgqrs_store_doze asked for came true. */
bool pgqrs_store_woken(struct pgqrs_store *store);
/*
 * The caller has found nothing to do and will sleep until wake_fd fires: who enqueues is asked to
 * say so (PostgreSQL: the lock that makes them notify). Never waits. Whoever dozes looks again
 * whenever pgqrs_store_woken says so. pgqrs_store_rouse takes it back: the caller is busy and looks
 * by itself. Both may be repeated.
 */
void pgqrs_store_doze(struct pgqrs_store *store);
void pgqrs_store_rouse(struct pgqrs_store *store);
/* wake_fd is not needed any more, and the store is closed soon: what takes the system a while to
 * take down (SQLite: 15 ms for the watch of a file) goes down meanwhile. */
void pgqrs_store_unwatch(struct pgqrs_store *store);

#endif
