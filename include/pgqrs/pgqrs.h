/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_PGQRS_H
#define PGQRS_PGQRS_H

/*
 * libpgqrs: queues of durable jobs in a database, for programs that enqueue, look after queues, or
 * work on jobs in their own process. It opens the database itself: a running pgqrsd is neither
 * needed nor in the way. Link with -lpgqrs (pkg-config pgqrs).
 *
 * Results. A call returns 0 or more when it worked and -1 when it did not, and then fills *failure,
 * which may be null. Outputs are written only on success, *failure only on failure.
 *
 * Outcomes. A failed call has changed nothing, with one exception: PGQRS_E_UNKNOWN. The connection
 * broke while the database was committing, and what was asked for may have been done or not.
 *   - Enqueueing and triggering: look the message up by its unique key, or repeat the call if the
 *     item has one and the job has surely not ended since; without a key a repetition may enqueue
 *     it twice. A fork may be there twice, too.
 *   - What ends a delivery (acknowledge, retry, ...): repeat the call. It is fenced: it can not be
 *     applied twice. PGQRS_E_LOST then says that the message is not this consumer's any more, since
 *     the first call had worked or somebody has taken it; pgqrs_message_get shows which.
 *   - Dequeueing: the messages may be leased to the consumer, which does not know them.
 *     pgqrs_consumer_recover gives them back.
 *   - Everything else may be repeated as it is, or looked at first.
 * PGQRS_E_AGAIN means the same call may work later: a lock, a full disk, a lost connection, which
 * the next call opens anew.
 *
 * Threads. There is no global state. A client, with its consumers, belongs to one thread at a time;
 * two threads take a client each. Calls wait for the database, and for nothing else unless said.
 * A child of fork may only call _exit or exec: it must use no client of its parent, nor close it.
 * The library starts no threads, handles no signals and writes to no standard stream.
 *
 * Memory. What a call is given is borrowed until it returns, the client of a consumer excepted.
 * What it gives out is freed by the function named there, never by free(); those that take the
 * address of a pointer set it to null, and all of them accept null.
 *
 * Structs that are passed in begin as zeros, which mean what most programs want, and reserved
 * fields stay so: struct pgqrs_item item = {0}; in C++ struct pgqrs_item item = {};
 *
 * Units are in the names: _ms milliseconds, _us microseconds. Points in time are microseconds since
 * 1970 UTC; 0 stands for none. Texts are UTF-8, terminated by a zero byte. Payloads and results are
 * one JSON value each (RFC 8259) and stored in compact form; PostgreSQL gives them back in a form
 * of its own, with the keys in another order and the last of equal ones.
 *
 * Limits: payloads and results 1 MiB in compact form, names of queues and unique keys 255 bytes,
 * errors of jobs 4096 bytes (cut), 10000 items in one batch, 1000 messages in one dequeue,
 * 1000 verdicts in one call.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Names a function that programs may call; the library exports these and nothing else. */
#if defined(__GNUC__)
#define PGQRS_API __attribute__((visibility("default")))
#define PGQRS_API_CHECK __attribute__((visibility("default"), warn_unused_result))
#else
#define PGQRS_API
#define PGQRS_API_CHECK
#endif

/* ---- what can go wrong; the numbers never change ---- */

enum pgqrs_code {
    PGQRS_OK = 0,
    PGQRS_E_FAILED = 1,       /* trying again will not help */
    PGQRS_E_AGAIN = 2,        /* the same call may work later: locked, disk full, not connected */
    PGQRS_E_UNKNOWN = 3,      /* it may have been carried out: see the top of this file */
    PGQRS_E_INVALID = 4,      /* an argument or a payload; item tells which one of a batch */
    PGQRS_E_NOT_FOUND = 5,    /* what was named does not exist */
    PGQRS_E_EXISTS = 6,       /* what was to be made exists already */
    PGQRS_E_CONFLICT = 7,     /* it is not in a state that allows this; the text tells which */
    PGQRS_E_CONFIG = 8,       /* the DSN or an option is wrong */
    PGQRS_E_UNAVAILABLE = 9,  /* the database can not be opened */
    PGQRS_E_SCHEMA = 10,      /* its schema is not installed, or not one this library can use */
    PGQRS_E_PROTOCOL = 11,    /* a server answered nonsense */
    PGQRS_E_MEMORY = 12,      /* out of memory */
    PGQRS_E_LOST = 13,        /* the lease is not this consumer's any more; nothing was changed */
    PGQRS_E_SUSPENDED = 14,   /* somebody has suspended or interrupted the consumer */
    PGQRS_E_STOPPED = 15,     /* the consumer's row was stopped, deleted or taken over */
    PGQRS_E_RATE_LIMITED = 16 /* too fast: retry_after_ms tells when; nothing was enqueued */
};

struct pgqrs_failure {
    enum pgqrs_code code;
    int sys_errno;          /* of the system call at fault; 0: none was */
    int64_t item;           /* index of the item at fault in a batch; -1: none, or not known */
    int64_t retry_after_ms; /* with PGQRS_E_RATE_LIMITED: the same call works then; else 0 */
    char text[512];         /* for people: what was found and what was expected; no password */
    uint64_t reserved[4];
};

/* "again", ...; "?" for a number that is no code. Never null. */
PGQRS_API const char *pgqrs_code_name(enum pgqrs_code code);
/* Of the library that runs, such as "0.1.0". */
PGQRS_API const char *pgqrs_version(void);

/* ---- connecting ---- */

struct pgqrs_client;
struct pgqrs_consumer;

/* What payloads are held to: pgqrs' validation settings, by their names. 0 or null: the default. */
struct pgqrs_rules {
    int64_t max_payload_size_bytes;    /* in compact form; 0: 1048576, which is also the most */
    int64_t max_string_length;         /* bytes of any string, keys too; 0: 1024; -1: no limit */
    int64_t max_object_depth;          /* an outermost number is at 0; 0: 5; -1: no limit (127) */
    const char *const *forbidden_keys; /* in any object; ends with null; null: "__proto__" and
                                          "constructor"; an empty list: none */
    const char *const *required_keys;  /* in the outermost value if it is an object; ends with
                                          null; null: none */
    uint64_t reserved[4];
};

struct pgqrs_options {
    const struct pgqrs_rules *rules; /* null: the defaults */
    uint32_t rate_per_second;        /* messages enqueued by this client; 0: no limit */
    uint32_t rate_burst;             /* at once; a larger batch goes when so many could, and those
                                        after it wait the longer; 0: 50 */
    int64_t rate_wait_ms;            /* how long an enqueue may sleep for the limit before it fails
                                        with PGQRS_E_RATE_LIMITED; 0: not at all; -1: any time */

    bool create;             /* SQLite: make the database file when there is none */
    bool synchronous_normal; /* SQLite: faster, but a power cut may undo what was acknowledged */
    int64_t busy_ms;         /* SQLite: how long a call may wait for another's lock; 0: 5000 */

    const char *schema;   /* PostgreSQL: where the tables are; null: public */
    int64_t call_ms;      /* PostgreSQL, broker: deadline of one call; 0: 30000 */
    bool listen;          /* PostgreSQL: a second connection, so that a waiting dequeue is woken */
    const char *wake_dsn; /* PostgreSQL: for that one, to go past a pooler; null: the same */
    uint64_t reserved[8];
};

/*
 * Opens the database that the DSN names: sqlite:PATH, postgres://... as libpq has it, or
 * broker:SOCKET for one that a running pgqrs-broker keeps. Changes nothing in it.
 * options null: the defaults. Release with pgqrs_disconnect.
 */
PGQRS_API_CHECK int pgqrs_connect(const char *dsn, const struct pgqrs_options *options,
                                  struct pgqrs_client **client_out, struct pgqrs_failure *failure);
/*
 * Consumers that are still there become useless, not dangling: their calls fail with
 * PGQRS_E_INVALID, and they still want pgqrs_consumer_free. Their leases stay until somebody
 * reclaims them: shut consumers down first.
 */
PGQRS_API void pgqrs_disconnect(struct pgqrs_client **client);

/*
 * Creates the schema or adds what is missing. Safe to repeat, safe when two do it at once.
 * PGQRS_E_SCHEMA: there is one that this library does not know; nothing was changed.
 */
PGQRS_API_CHECK int pgqrs_install(struct pgqrs_client *client, struct pgqrs_failure *failure);
/* 0: the schema is complete and consistent; else PGQRS_E_SCHEMA and what is not. */
PGQRS_API_CHECK int pgqrs_verify(struct pgqrs_client *client, struct pgqrs_failure *failure);

struct pgqrs_rate {
    int64_t available;    /* messages that may be enqueued now; below 0: so many too many were */
    uint32_t per_second;  /* 0: there is no limit, and the rest is 0 too */
    uint32_t burst;       /* the most that can be available */
    uint32_t utilisation; /* per cent of the burst that is used, 0 to 100 */
    uint32_t reserved[3];
};
PGQRS_API void pgqrs_rate_status(const struct pgqrs_client *client, struct pgqrs_rate *rate_out);

/* ---- queues ---- */

struct pgqrs_queue_entry {
    int64_t id;
    const char *name;
    int64_t created_at_us;
    int64_t paused_at_us; /* 0: it is not paused */
    uint64_t reserved[4];
};

struct pgqrs_queue_page {
    const struct pgqrs_queue_entry *items;
    size_t count;
    int64_t next; /* for the next page; 0: this is the last one */
};

struct pgqrs_counts {
    int64_t total;             /* all messages, archived ones too */
    int64_t pending;           /* neither leased nor archived */
    int64_t ready;             /* pending and due */
    int64_t leased;            /* held by a consumer */
    int64_t archived;          /* ended */
    int64_t failed;            /* archived as dead letters */
    int64_t oldest_pending_us; /* enqueued_at of the oldest pending one; 0: none */
    int64_t newest_us;         /* enqueued_at of the newest one; 0: none */
    int64_t next_due_us;       /* when the first delayed one is due; 0: none */
    int64_t now_us;            /* the clock that these were taken by */
    uint64_t reserved[4];
};

/* id_out may be null. PGQRS_E_EXISTS: the name is taken. */
PGQRS_API_CHECK int pgqrs_queue_create(struct pgqrs_client *client, const char *name,
                                       int64_t *id_out, struct pgqrs_failure *failure);
PGQRS_API_CHECK int pgqrs_queue_find(struct pgqrs_client *client, const char *name, int64_t *id_out,
                                     struct pgqrs_failure *failure);
/* The oldest first, up to 1000; next is 0 for the first page, then the page's. Free the page. */
PGQRS_API_CHECK int pgqrs_queue_list(struct pgqrs_client *client, int64_t next,
                                     struct pgqrs_queue_page **page_out,
                                     struct pgqrs_failure *failure);
PGQRS_API void pgqrs_queue_page_free(struct pgqrs_queue_page *page);
/* Nothing of a paused queue is dequeued; what is leased goes on. Both may be repeated. */
PGQRS_API_CHECK int pgqrs_queue_pause(struct pgqrs_client *client, const char *name,
                                      struct pgqrs_failure *failure);
PGQRS_API_CHECK int pgqrs_queue_resume(struct pgqrs_client *client, const char *name,
                                       struct pgqrs_failure *failure);
/* PGQRS_E_CONFLICT names what is in the way: messages, consumers, a workflow. */
PGQRS_API_CHECK int pgqrs_queue_delete(struct pgqrs_client *client, const char *name,
                                       struct pgqrs_failure *failure);

enum pgqrs_drop { /* which messages; bits */
                  PGQRS_DROP_ARCHIVED = 1,
                  PGQRS_DROP_PENDING = 2, /* ready and delayed */
                  PGQRS_DROP_LEASED = 4,  /* whoever runs one finds its lease lost */
                  PGQRS_DROP_ALL = 7
};
/*
 * Deletes messages for good, some thousands in one transaction, until none is left, and returns how
 * many. Those of earlier transactions are gone when a later one fails.
 */
PGQRS_API_CHECK int64_t pgqrs_queue_purge(struct pgqrs_client *client, const char *name,
                                          unsigned which, struct pgqrs_failure *failure);
/* name null: all queues together. count_max: each count stops there, so that the call stays quick
 * with any backlog; 0: counts everything. */
PGQRS_API_CHECK int pgqrs_queue_metrics(struct pgqrs_client *client, const char *name,
                                        uint64_t count_max, struct pgqrs_counts *counts_out,
                                        struct pgqrs_failure *failure);

/* ---- enqueueing ---- */

struct pgqrs_item {
    const char *payload; /* one JSON value */
    size_t payload_len;  /* bytes */
    int64_t delay_ms;    /* due so much later than now */
    int64_t at_us;       /* or due at this time; not both */
    int32_t priority;    /* bigger is served first; 0 is usual */
    uint32_t reserved_0;
    const char *unique_key; /* null: none; see struct pgqrs_receipt */
    int64_t producer_id;    /* of pgqrs_producer_register; 0: none */
    uint64_t reserved[4];
};

/* A usual item: due at once, priority 0. json is terminated and stays the caller's. */
static inline struct pgqrs_item pgqrs_item_of(const char *json)
{
    struct pgqrs_item item;
    const char *end = json;
    unsigned i;
    while (*end != 0) {
        end++;
    }
    item.payload = json;
    item.payload_len = (size_t)(end - json);
    item.delay_ms = 0;
    item.at_us = 0;
    item.priority = 0;
    item.reserved_0 = 0;
    item.unique_key = NULL;
    item.producer_id = 0;
    for (i = 0; i < sizeof item.reserved / sizeof item.reserved[0]; i++) {
        item.reserved[i] = 0;
    }
    return item;
}

struct pgqrs_receipt {
    int64_t id;   /* of the message */
    bool existed; /* a message of that queue that has not ended has the unique key: id is that
                     one's, and nothing was enqueued */
};

/*
 * Enqueues one item, returns 1; or 0 when its unique key existed. receipt_out may be null.
 * PGQRS_E_INVALID: the payload is not JSON or breaks a rule, which the text names.
 * PGQRS_E_NOT_FOUND: there is no such queue; that or PGQRS_E_CONFLICT: no such producer.
 */
PGQRS_API_CHECK int pgqrs_enqueue(struct pgqrs_client *client, const char *queue,
                                  const struct pgqrs_item *item, struct pgqrs_receipt *receipt_out,
                                  struct pgqrs_failure *failure);
/*
 * All of them or none, in one transaction; returns how many did not exist. receipts_out[i] is about
 * items[i]; it may be null. Of two with one key in a batch the second finds the first. Every
 * payload is checked before anything is stored.
 */
PGQRS_API_CHECK int64_t pgqrs_enqueue_batch(struct pgqrs_client *client, const char *queue,
                                            const struct pgqrs_item *items, size_t count,
                                            struct pgqrs_receipt *receipts_out,
                                            struct pgqrs_failure *failure);
/*
 * A producer's row, so that messages tell where they came from: give the id in producer_id, as long
 * as the row is there. A stopped row of that name is used again. queue null: of no queue.
 * PGQRS_E_EXISTS: the name is in use; stale_ms as in struct pgqrs_consumer_options. End it with
 * pgqrs_worker_stop.
 */
PGQRS_API_CHECK int pgqrs_producer_register(struct pgqrs_client *client, const char *name,
                                            const char *queue, int64_t stale_ms, int64_t *id_out,
                                            struct pgqrs_failure *failure);

/* ---- enqueueing in the caller's own transaction ---- */

struct sqlite3; /* sqlite3 of sqlite3.h */
struct pg_conn; /* PGconn of libpq-fe.h */

struct pgqrs_enqueue_in {
    const char *queue;
    const struct pgqrs_item *items;
    size_t count;
    const struct pgqrs_rules *rules; /* null: the defaults */
    const char *schema;              /* PostgreSQL: null: what the connection's search_path finds */
    uint64_t reserved[4];
};

/*
 * As pgqrs_enqueue_batch, on a connection of the caller: the messages are there if and only if the
 * caller's transaction commits. Outside a transaction the call is one by itself. It begins, commits
 * and rolls back nothing of the caller's: a call that fails leaves the transaction as it was and
 * usable (it works within a savepoint), unless the connection itself is lost. Settings of the
 * connection are not changed. The schema must be installed. Nobody is limited in rate.
 *
 * The connection must come from the same SQLite or libpq that this library is linked with, must not
 * be in pipeline mode, nor be in the middle of a query. PostgreSQL: a transaction that has failed
 * already gives PGQRS_E_CONFLICT.
 */
PGQRS_API_CHECK int64_t pgqrs_enqueue_sqlite(struct sqlite3 *db,
                                             const struct pgqrs_enqueue_in *what,
                                             struct pgqrs_receipt *receipts_out,
                                             struct pgqrs_failure *failure);
PGQRS_API_CHECK int64_t pgqrs_enqueue_pg(struct pg_conn *conn, const struct pgqrs_enqueue_in *what,
                                         struct pgqrs_receipt *receipts_out,
                                         struct pgqrs_failure *failure);

/* ---- messages, for whoever looks after them ---- */

enum pgqrs_message_status {
    PGQRS_MESSAGE_ANY = 0,
    PGQRS_MESSAGE_READY = 1,   /* waits and is due */
    PGQRS_MESSAGE_DELAYED = 2, /* waits, due later */
    PGQRS_MESSAGE_LEASED = 3,
    PGQRS_MESSAGE_ARCHIVED = 4 /* has ended: outcome tells how */
};

struct pgqrs_message_entry {
    int64_t id, queue_id;
    enum pgqrs_message_status status;
    uint32_t attempts; /* deliveries so far */
    int32_t priority;
    uint32_t crashes;                 /* of workers that ran it */
    int64_t enqueued_at_us;           /* */
    int64_t due_at_us;                /* of a leased one: until when the lease is */
    int64_t dequeued_at_us;           /* the first time; 0: not yet */
    int64_t archived_at_us;           /* 0: it has not ended */
    int64_t consumer_id, producer_id; /* 0: none */
    const char *payload;              /* JSON */
    const char *unique_key;           /* null: none */
    const char *outcome;              /* "done", "failed" (a dead letter) or "cancelled"; null:
                                         it has not ended, or another pgqrs client ended it */
    const char *result;               /* JSON; null: none */
    const char *error;                /* of the last failure; null: none */
    uint64_t reserved[4];
};

struct pgqrs_message_page {
    const struct pgqrs_message_entry *items;
    size_t count;
    int64_t next; /* for the next page; 0: this is the last one */
};

struct pgqrs_message_query {
    const char *queue; /* null: all */
    enum pgqrs_message_status status;
    uint32_t limit;         /* 1 to 1000; 0: 100 */
    const char *outcome;    /* "failed": the dead letters; null: any */
    const char *unique_key; /* null: any */
    int64_t consumer_id;    /* 0: any; held by it, or ended by it */
    int64_t next;           /* 0: the first page, else the page's */
    uint64_t reserved[4];
};

/* A page with one message. */
PGQRS_API_CHECK int pgqrs_message_get(struct pgqrs_client *client, int64_t id,
                                      struct pgqrs_message_page **page_out,
                                      struct pgqrs_failure *failure);
/* The newest first. A page may be empty and not be the last: next tells. query null: all zeros. */
PGQRS_API_CHECK int pgqrs_message_list(struct pgqrs_client *client,
                                       const struct pgqrs_message_query *query,
                                       struct pgqrs_message_page **page_out,
                                       struct pgqrs_failure *failure);
PGQRS_API void pgqrs_message_page_free(struct pgqrs_message_page *page);

enum pgqrs_action {
    PGQRS_ACTION_CANCEL = 1, /* a waiting one ends, with outcome "cancelled"; of one that a pgqrsd's
                                worker runs the code is PGQRS_E_CONFLICT, but the worker is asked to
                                stop, and then it ends in the same way */
    PGQRS_ACTION_DELETE = 2, /* a waiting or ended one goes */
    PGQRS_ACTION_FREE = 3,   /* a lease is taken away: due now, its attempt spent */
    PGQRS_ACTION_REPLAY = 4  /* an ended one waits again, as if it were new */
};
/*
 * Acts on up to 1000 messages in one transaction and returns on how many. codes_out[i], unless
 * null, is about ids[i]: PGQRS_OK; PGQRS_E_NOT_FOUND; PGQRS_E_CONFLICT: it is leased, or has ended,
 * or waits, so that this can not be done to it; PGQRS_E_EXISTS: another message that waits has the
 * unique key of the one to replay.
 */
PGQRS_API_CHECK int64_t pgqrs_message_act(struct pgqrs_client *client, enum pgqrs_action action,
                                          const int64_t *ids, size_t count,
                                          enum pgqrs_code *codes_out,
                                          struct pgqrs_failure *failure);
/* One message; what codes_out would tell is the failure's code. */
PGQRS_API_CHECK int pgqrs_message_cancel(struct pgqrs_client *client, int64_t id,
                                         struct pgqrs_failure *failure);
PGQRS_API_CHECK int pgqrs_message_delete(struct pgqrs_client *client, int64_t id,
                                         struct pgqrs_failure *failure);
PGQRS_API_CHECK int pgqrs_message_replay(struct pgqrs_client *client, int64_t id,
                                         struct pgqrs_failure *failure);

/* ---- consuming ---- */

/*
 * A message that is dequeued is leased to the consumer until it says what became of it. The lease
 * is lost when it is taken away by an administrator, or when its time has passed and the consumer
 * has not beaten for long, so that it was taken for dead; another consumer then gets the message.
 * So a job runs at least once, and what it does to the outside must bear being done twice.
 *
 * Who works longer than lease_ms on a message extends the lease before; who works longer than some
 * seconds calls pgqrs_consumer_heartbeat now and then. Dequeueing beats by itself.
 */

struct pgqrs_consumer_options {
    const char *queue;     /* required */
    const char *name;      /* unique in the store; null: an ephemeral one is made up */
    int64_t lease_ms;      /* of a message that is dequeued; 0: 30000 */
    uint32_t max_attempts; /* deliveries of a message, the last failure is final; 0: 5 */
    uint32_t reserved_0;
    int64_t stale_ms; /* a row of that name that has not beaten for so long is taken over, its
                         leases freed; 0: never, only a stopped one */
    int64_t beat_ms;  /* how often dequeueing beats; 0: 5000 */
    int64_t poll_ms;  /* how often a waiting dequeue looks when nothing wakes it; 0: 250 */
    uint64_t reserved[4];
};

/*
 * A stopped row of that name is used again. PGQRS_E_EXISTS: the name is in use, by whom is told.
 * The consumer uses the client, which must not be disconnected before it. Release it with
 * pgqrs_consumer_shutdown.
 */
PGQRS_API_CHECK int pgqrs_consumer_register(struct pgqrs_client *client,
                                            const struct pgqrs_consumer_options *options,
                                            struct pgqrs_consumer **consumer_out,
                                            struct pgqrs_failure *failure);
/* Of its row: consumer_id of the messages that it holds. */
PGQRS_API int64_t pgqrs_consumer_id(const struct pgqrs_consumer *consumer);
/* PGQRS_E_STOPPED: its row is gone. */
PGQRS_API_CHECK int pgqrs_consumer_heartbeat(struct pgqrs_consumer *consumer,
                                             struct pgqrs_failure *failure);
/* After PGQRS_E_SUSPENDED: goes on. PGQRS_E_CONFLICT: it is not suspended. */
PGQRS_API_CHECK int pgqrs_consumer_resume(struct pgqrs_consumer *consumer,
                                          struct pgqrs_failure *failure);
/*
 * What it still holds goes back to the queue, attempts not spent, and its row is stopped. Returns
 * how many messages, frees the consumer and nulls the pointer; on failure it is still there.
 * Nothing is done to a row that was stopped, deleted or taken over: 0.
 */
PGQRS_API_CHECK int64_t pgqrs_consumer_shutdown(struct pgqrs_consumer **consumer,
                                                struct pgqrs_failure *failure);
/* Only frees the memory: its row and its leases stay. For when shutting down fails. */
PGQRS_API void pgqrs_consumer_free(struct pgqrs_consumer **consumer);

struct pgqrs_delivery {
    int64_t id;       /* of the message */
    uint32_t attempt; /* 1 on the first delivery; (id, attempt) names this one */
    uint32_t max_attempts;
    int32_t priority;
    uint32_t reserved_0;
    int64_t enqueued_at_us;
    const char *payload; /* JSON, terminated */
    size_t payload_len;  /* without the zero byte */
    uint64_t reserved[2];
};

struct pgqrs_batch {
    const struct pgqrs_delivery *items;
    size_t count;
};

/*
 * Leases up to max messages (1 to 1000): by priority, due time, then id. Returns how many; 0, with
 * *batch_out null, when there are none, or the queue is paused. Free the batch; that does not end
 * the leases, and what is done to a delivery needs the batch no more once the call has returned.
 *
 * wait_ms: how long to wait for the first one; 0: not at all; -1: for ever. A signal that is
 * handled ends the wait early, as does nothing else: returns 0. A wait of some seconds, repeated,
 * suits a program that is to end on a signal.
 *
 * PGQRS_E_SUSPENDED: an administrator has suspended or interrupted the consumer (it is suspended
 * then). Finish what you hold; resume or shut down. PGQRS_E_STOPPED: its row was stopped, deleted
 * or taken over; its leases are gone. PGQRS_E_UNKNOWN: see pgqrs_consumer_recover.
 */
PGQRS_API_CHECK int pgqrs_dequeue(struct pgqrs_consumer *consumer, unsigned max, int64_t wait_ms,
                                  struct pgqrs_batch **batch_out, struct pgqrs_failure *failure);
PGQRS_API void pgqrs_batch_free(struct pgqrs_batch *batch);
/*
 * Gives back, attempts not spent, all leases of the consumer but those of the deliveries named:
 * after a dequeue whose outcome is unknown. Returns how many.
 */
PGQRS_API_CHECK int64_t pgqrs_consumer_recover(struct pgqrs_consumer *consumer,
                                               const struct pgqrs_delivery *held, size_t count,
                                               struct pgqrs_failure *failure);

/*
 * What became of a delivery. Each returns -1 with PGQRS_E_LOST when the lease is not the consumer's
 * any more; nothing was changed then, and the work may be done again by another. Only id and
 * attempt of the delivery are read.
 */

/* Done: archived with the result, one JSON value; result null: none. Repeating it after it worked
 * is no error. */
PGQRS_API_CHECK int pgqrs_delivery_ack(struct pgqrs_consumer *consumer,
                                       const struct pgqrs_delivery *delivery, const char *result,
                                       struct pgqrs_failure *failure);
/* Done: the message is deleted. */
PGQRS_API_CHECK int pgqrs_delivery_delete(struct pgqrs_consumer *consumer,
                                          const struct pgqrs_delivery *delivery,
                                          struct pgqrs_failure *failure);
/* Failed, may work later: due again after the delay, attempt spent, returns 0. It was the last
 * attempt: a dead letter, returns 1. error: why, for people; null: none. */
PGQRS_API_CHECK int pgqrs_delivery_retry(struct pgqrs_consumer *consumer,
                                         const struct pgqrs_delivery *delivery, int64_t delay_ms,
                                         const char *error, struct pgqrs_failure *failure);
/* Failed for good: a dead letter, which can be replayed. */
PGQRS_API_CHECK int pgqrs_delivery_fail(struct pgqrs_consumer *consumer,
                                        const struct pgqrs_delivery *delivery, const char *error,
                                        struct pgqrs_failure *failure);
/* Given back untouched: waits as before the lease, attempt not spent. */
PGQRS_API_CHECK int pgqrs_delivery_release(struct pgqrs_consumer *consumer,
                                           const struct pgqrs_delivery *delivery,
                                           struct pgqrs_failure *failure);
/* The lease ends lease_ms from now; 0: the consumer's lease_ms. */
PGQRS_API_CHECK int pgqrs_delivery_extend(struct pgqrs_consumer *consumer,
                                          const struct pgqrs_delivery *delivery, int64_t lease_ms,
                                          struct pgqrs_failure *failure);

enum pgqrs_verdict_how {
    PGQRS_VERDICT_ACK = 1,     /* pgqrs_delivery_ack: result */
    PGQRS_VERDICT_DELETE = 2,  /* pgqrs_delivery_delete */
    PGQRS_VERDICT_RETRY = 3,   /* pgqrs_delivery_retry: delay_ms, error */
    PGQRS_VERDICT_FAIL = 4,    /* pgqrs_delivery_fail: error */
    PGQRS_VERDICT_RELEASE = 5, /* pgqrs_delivery_release */
    PGQRS_VERDICT_SNOOZE = 6,  /* not now: due after delay_ms, attempt not spent; error */
    PGQRS_VERDICT_SPEND = 7    /* given back: due at once, attempt spent; a dead letter when it was
                                  the last */
};

enum pgqrs_verdict_told {
    PGQRS_TOLD_NOTHING = 0, /* the call has failed */
    PGQRS_TOLD_DONE = 1,
    PGQRS_TOLD_DEAD = 2, /* done, and the message is a dead letter */
    PGQRS_TOLD_LOST = 3  /* the lease was lost; nothing was changed */
};

struct pgqrs_follow { /* a job that is enqueued with the verdict, or not at all */
    const char *queue;
    struct pgqrs_item item; /* no unique key and no producer */
};

struct pgqrs_verdict {
    int64_t id;       /* of the delivery */
    uint32_t attempt; /* of the delivery */
    enum pgqrs_verdict_how how;
    int64_t delay_ms;
    const char *error;               /* null: none */
    const char *result;              /* null: none */
    const struct pgqrs_follow *next; /* jobs to add if the lease holds. When one names a queue that
                                        does not exist, none is added, and the message becomes a
                                        dead letter that says so. */
    size_t next_count;
    enum pgqrs_verdict_told told_out;
    uint32_t reserved_0;
    uint64_t reserved[4];
};

/*
 * Many at once, in one transaction. Returns how many leases were LOST: 0 when all went well, and
 * told_out tells about each. -1: nothing was changed, or PGQRS_E_UNKNOWN: repeat it.
 */
PGQRS_API_CHECK int64_t pgqrs_settle(struct pgqrs_consumer *consumer,
                                     struct pgqrs_verdict *verdicts, size_t count,
                                     struct pgqrs_failure *failure);
/* As pgqrs_delivery_extend for many. Returns how many leases were LOST; held_out[i], unless null,
 * is about deliveries[i]. */
PGQRS_API_CHECK int64_t pgqrs_extend(struct pgqrs_consumer *consumer,
                                     const struct pgqrs_delivery *deliveries, size_t count,
                                     int64_t lease_ms, bool *held_out,
                                     struct pgqrs_failure *failure);

/* ---- workers: consumers, producers and pgqrsd's processes ---- */

enum pgqrs_worker_status {
    PGQRS_STATUS_ANY = 0,
    PGQRS_STATUS_READY = 1,
    PGQRS_STATUS_POLLING = 2,     /* waits for messages */
    PGQRS_STATUS_SUSPENDED = 3,   /* gets none until it is resumed */
    PGQRS_STATUS_INTERRUPTED = 4, /* will suspend when it has finished what it holds */
    PGQRS_STATUS_STOPPED = 5
};

struct pgqrs_worker_entry {
    int64_t id, queue_id; /* queue 0: none */
    enum pgqrs_worker_status status;
    uint32_t reserved_0;
    int64_t started_at_us, heartbeat_at_us, stopped_at_us;
    int64_t held; /* messages leased to it */
    int64_t pid;
    const char *name;
    const char *instance; /* of the pgqrsd that started it; null: none did */
    uint64_t reserved[4];
};

struct pgqrs_worker_page {
    const struct pgqrs_worker_entry *items;
    size_t count;
    int64_t next;   /* for the next page; 0: this is the last one */
    int64_t now_us; /* the clock that ages are measured against */
};

struct pgqrs_worker_query {
    const char *queue; /* null: all */
    enum pgqrs_worker_status status;
    uint32_t limit;          /* 1 to 1000; 0: 100 */
    const char *name_prefix; /* null: any */
    int64_t id;              /* 0: all */
    bool live;               /* only those not stopped */
    int64_t next;            /* 0: the first page, else the page's */
    uint64_t reserved[4];
};

/* The newest first. query null: all zeros. Free the page. */
PGQRS_API_CHECK int pgqrs_worker_list(struct pgqrs_client *client,
                                      const struct pgqrs_worker_query *query,
                                      struct pgqrs_worker_page **page_out,
                                      struct pgqrs_failure *failure);
PGQRS_API void pgqrs_worker_page_free(struct pgqrs_worker_page *page);
/* PGQRS_E_NOT_FOUND; PGQRS_E_CONFLICT: its status, which is told, does not allow it. */
PGQRS_API_CHECK int pgqrs_worker_interrupt(struct pgqrs_client *client, int64_t id,
                                           struct pgqrs_failure *failure);
PGQRS_API_CHECK int pgqrs_worker_suspend(struct pgqrs_client *client, int64_t id,
                                         struct pgqrs_failure *failure);
PGQRS_API_CHECK int pgqrs_worker_resume(struct pgqrs_client *client, int64_t id,
                                        struct pgqrs_failure *failure);
/* Whatever its status: what it holds is freed, attempts spent. For a worker that is dead, and for
 * a producer that has finished. */
PGQRS_API_CHECK int pgqrs_worker_stop(struct pgqrs_client *client, int64_t id,
                                      struct pgqrs_failure *failure);
/* PGQRS_E_CONFLICT: a message names it. */
PGQRS_API_CHECK int pgqrs_worker_delete(struct pgqrs_client *client, int64_t id,
                                        struct pgqrs_failure *failure);

/* ---- housekeeping, where no pgqrsd does it ---- */

/*
 * Messages whose lease has passed and whose consumer has not beaten for stale_ms (more than 0) go
 * back to the queue, attempts spent; a dead consumer's row is stopped. queue null: all. Returns how
 * many messages. Take stale_ms well above what consumers need for one job between heartbeats.
 */
PGQRS_API_CHECK int64_t pgqrs_reclaim(struct pgqrs_client *client, const char *queue,
                                      int64_t stale_ms, struct pgqrs_failure *failure);
/* Waiting messages that have used up their attempts become dead letters. Returns how many. */
PGQRS_API_CHECK int64_t pgqrs_bury(struct pgqrs_client *client, const char *queue,
                                   uint32_t max_attempts, struct pgqrs_failure *failure);
/* Deletes messages that ended longer ago than age_ms: dead letters, or all others. queue null: all.
 * Some thousands in one transaction, until none is left. Returns how many. */
PGQRS_API_CHECK int64_t pgqrs_prune(struct pgqrs_client *client, const char *queue,
                                    bool dead_letters, int64_t age_ms,
                                    struct pgqrs_failure *failure);

#ifdef __cplusplus
}
#endif

#include <pgqrs/client_workflow.h>

#endif
