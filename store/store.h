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
    int64_t busy_ms;       /* how long a call may wait for another program's lock */
};

/*
 * Opens the store that the DSN names (sqlite:PATH, sqlite://PATH, sqlite::memory:). Changes
 * nothing in it. PGQRS_ERR_CONFIG: the scheme is unknown; PGQRS_ERR_UNAVAILABLE: it can not be
 * opened. The text never holds a password.
 */
int pgqrs_store_open(const char *dsn, const struct pgqrs_store_options *options,
                     struct pgqrs_store **store_out, struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_store_close(struct pgqrs_store **store); /* accepts null; nulls the pointer */

/*
 * Makes this process the store's one broker until it closes the store. PGQRS_ERR_UNAVAILABLE when
 * another one is. Everybody else may still read, enqueue and lease.
 */
int pgqrs_store_claim(struct pgqrs_store *store, struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- schema ---- */

/*
 * Creates or completes the schema: pgqrs' tables, indexes and ledger rows, and our additions.
 * Safe to repeat, safe when two do it at once. PGQRS_ERR_SCHEMA when a newer program installed it
 * or the ledger is not one we know; nothing is changed then.
 */
int pgqrs_store_install(struct pgqrs_store *store, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* 0 when the schema is complete and consistent; else PGQRS_ERR_SCHEMA names what is not. */
int pgqrs_store_verify(struct pgqrs_store *store, struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- queues ---- */

struct pgqrs_queue {
    int64_t id;
    char *name; /* owned by the list */
    int64_t created_at_us;
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
int pgqrs_store_queue_list(struct pgqrs_store *store, struct pgqrs_queue_list *list_out,
                           struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_queue_list_fini(struct pgqrs_queue_list *list);

struct pgqrs_queue_metrics {
    int64_t total;             /* every row, archived ones too */
    int64_t pending;           /* neither leased nor archived: ready or delayed */
    int64_t ready;             /* pending and due */
    int64_t leased;            /* held by a worker */
    int64_t archived;          /* done, failed or cancelled, or archived by a pgqrs client */
    int64_t failed;            /* archived as a dead letter */
    int64_t oldest_pending_us; /* earliest enqueued_at of the pending; 0 none */
    int64_t newest_us; /* latest enqueued_at of the live and of the 1000 archived last; 0 none */
};

/* queue_id 0: all queues together. Reads every row of the queue's indexes: for people. */
int pgqrs_store_queue_metrics(struct pgqrs_store *store, int64_t queue_id,
                              struct pgqrs_queue_metrics *metrics_out,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- messages ---- */

struct pgqrs_enqueue {
    struct pgqrs_bytes payload; /* JSON, checked by the caller (store/payload.h) */
    int64_t delay_ms;
    int32_t priority; /* bigger is served first; 0 is usual */
};

/* All or none, in one transaction; ids_out[i] is the id of items[i]. */
int pgqrs_store_enqueue(struct pgqrs_store *store, int64_t queue_id,
                        const struct pgqrs_enqueue *items, size_t count, int64_t *ids_out,
                        struct pgqrs_error *err) PGQRS_MUST_CHECK;

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
    int32_t read_ct, priority, crash_ct;
    char *payload;
    char *outcome; /* "done", "failed" or "cancelled"; null: not ended, or by a pgqrs client */
    char *result;  /* JSON; null: none */
    char *error;   /* the last failure; null: none */
};

struct pgqrs_message_list {
    struct pgqrs_message *items;
    size_t count;
};

/* PGQRS_ERR_NOT_FOUND when there is none. Free with pgqrs_message_fini. */
int pgqrs_store_message_get(struct pgqrs_store *store, int64_t id,
                            struct pgqrs_message *message_out,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_message_fini(struct pgqrs_message *message);

struct pgqrs_message_filter {
    int64_t queue_id;               /* 0: all */
    enum pgqrs_message_state state; /* PGQRS_STATE_NONE: all */
    const char *outcome;            /* null: all */
    int64_t before_id;              /* 0: from the newest; else ids below: the next page */
    uint32_t limit;                 /* 1 to 1000 */
};

/* Newest id first. */
int pgqrs_store_message_list(struct pgqrs_store *store, const struct pgqrs_message_filter *filter,
                             struct pgqrs_message_list *list_out,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_message_list_fini(struct pgqrs_message_list *list);

/* ---- workers ---- */

struct pgqrs_worker_row {
    const char *name; /* unique in the store; a stopped row of that name is taken over */
    int64_t queue_id;
    const char *instance; /* the supervisor's run */
    uint64_t generation;
    int64_t pid;
};

/*
 * The row of a worker, id in *id_out. A row of that name with the same instance and generation is
 * the same worker seen again: nothing changes and its leases stay. Any other row of that name is
 * taken over: state ready, times fresh. The caller makes sure that its process is dead and its
 * leases were freed.
 */
int pgqrs_store_worker_register(struct pgqrs_store *store, const struct pgqrs_worker_row *row,
                                int64_t *id_out, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* heartbeat_at := now. PGQRS_ERR_NOT_FOUND, after all the others, when a row has been deleted. */
int pgqrs_store_worker_beat(struct pgqrs_store *store, const int64_t *ids, size_t count,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;

struct pgqrs_release {
    bool charge;  /* a job was running: the first of its leases, in the order in which a worker runs
                     them, has spent its attempt; the others have not. Else none has. */
    bool crashed; /* of that one: count it as a crash of the worker */
    uint32_t max_attempts; /* of that one: a dead letter when it has used them up */
    const char *reason;    /* of that one: stored as last error */
};

/*
 * The worker is dead: frees every lease it still has and marks it stopped. Returns the number of
 * messages freed or ended.
 */
int64_t pgqrs_store_worker_end(struct pgqrs_store *store, int64_t worker_id,
                               const struct pgqrs_release *release,
                               struct pgqrs_error *err) PGQRS_MUST_CHECK;
struct pgqrs_lease_ref {
    int64_t message_id, worker_id;
    uint32_t attempt;
};

/*
 * Leases of the worker that are not among the known ones never reached it: each goes back as
 * PGQRS_SETTLE_RETURN does. Returns how many.
 */
int64_t pgqrs_store_worker_reconcile(struct pgqrs_store *store, int64_t worker_id,
                                     const struct pgqrs_lease_ref *known, size_t count,
                                     struct pgqrs_error *err) PGQRS_MUST_CHECK;

struct pgqrs_worker_ref {
    int64_t id, queue_id;
    uint64_t generation;
    char *instance; /* owned by the list */
    char *name;
};

struct pgqrs_worker_list {
    struct pgqrs_worker_ref *items;
    size_t count;
};

/* The rows that pgqrsd has registered (instance is set) and that are not stopped. */
int pgqrs_store_worker_list_live(struct pgqrs_store *store, struct pgqrs_worker_list *list_out,
                                 struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_worker_list_fini(struct pgqrs_worker_list *list);

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
    int64_t queue_id, worker_id; /* a worker whose row has been deleted gets nothing */
    uint32_t count;
    uint32_t max_attempts; /* rows with read_ct at or above it are not leased */
    int64_t lease_ms;
};

struct pgqrs_lease {
    size_t want; /* index of the want it answers */
    int64_t message_id;
    uint32_t attempt;
    int32_t priority;
    int64_t enqueued_at_us;
    struct pgqrs_bytes payload; /* owned by the exchange */
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
};

/*
 * One transaction: applies every settlement whose lease holds, in order, adds their follow-ups,
 * then leases what is wanted. On failure nothing was applied (or, PGQRS_ERR_UNKNOWN, perhaps
 * everything), and the same exchange may be tried again.
 */
int pgqrs_store_exchange(struct pgqrs_store *store, struct pgqrs_exchange *exchange,
                         struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_exchange_fini(struct pgqrs_exchange *exchange);

/* vt := now + lease_ms where the lease holds, in one transaction. Returns how many held. */
int64_t pgqrs_store_renew(struct pgqrs_store *store, const struct pgqrs_lease_ref *leases,
                          size_t count, int64_t lease_ms, struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- waking up ---- */

/*
 * A descriptor that becomes readable when another program may have changed the store, or -1. It is
 * a hint: it may fire for nothing, and it may miss. After it fired, call pgqrs_store_woken.
 */
int pgqrs_store_wake_fd(struct pgqrs_store *store);
/* Takes the hint away. True when somebody else has committed since the last call. */
bool pgqrs_store_woken(struct pgqrs_store *store);

#endif
