/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_LIB_CLIENT_PRIV_H
#define PGQRS_LIB_CLIENT_PRIV_H

/*
 * What the files of libpgqrs share. Everything here is about the store contract; which database
 * there is, only client_borrow.c knows.
 */

#include "include/pgqrs/pgqrs.h"
#include "store/payload.h"
#include "base/rate_limit.h"
#include "store/store.h"

#define PGQRS_CLIENT_ITEMS_MAX 10000
#define PGQRS_CLIENT_STEP 5000 /* messages in one transaction of purging, pruning, reclaiming */
#define PGQRS_CLIENT_QUEUES 16

struct client_queue { /* ids are never used twice, so one that was right is right or gone */
    char *name;
    int64_t id;
};

struct client_rules {
    struct pgqrs_payload_rules rules; /* its lists are in keys */
    char **keys;                      /* forbidden, null, required, null; null: none copied */
};

struct pgqrs_client {
    struct pgqrs_store *store; /* null: disconnected */
    unsigned refs;             /* itself while connected, and its consumers */
    struct client_rules rules;
    struct pgqrs_rate_limit rate;
    int64_t rate_wait_ms;
    struct client_queue queues[PGQRS_CLIENT_QUEUES]; /* that were enqueued to */
    unsigned next_queue;                             /* which of them is replaced next */
};

void pgqrs_client_unref(struct pgqrs_client *client);

/* ---- failures: all return -1 and accept null ---- */

int pgqrs_client_fail(struct pgqrs_failure *failure, const struct pgqrs_error *err);
int pgqrs_client_fail_item(struct pgqrs_failure *failure, const struct pgqrs_error *err,
                           size_t item);
int pgqrs_client_refuse(struct pgqrs_failure *failure, enum pgqrs_code code, const char *fmt, ...)
    PGQRS_PRINTF(3, 4);
/* Fails unless the client is connected. */
int pgqrs_client_need(const struct pgqrs_client *client,
                      struct pgqrs_failure *failure) PGQRS_MUST_CHECK;
/* Fails unless the reserved fields are zeros. */
int pgqrs_client_reserved(const char *what, const void *fields, size_t size,
                          struct pgqrs_failure *failure) PGQRS_MUST_CHECK;
#define PGQRS_CLIENT_RESERVED(what, from, failure)                                                 \
    pgqrs_client_reserved(what, (from)->reserved, sizeof(from)->reserved, failure)

/* ---- queues by name ---- */

/* Asks the store. name null: *id_out is 0, for all, unless required. */
int pgqrs_client_queue(struct pgqrs_client *client, const char *name, bool required,
                       int64_t *id_out, struct pgqrs_failure *failure) PGQRS_MUST_CHECK;

/* ---- what is enqueued ---- */

/* Fills rules_out from the caller's, null: the defaults. With copy it has lists of its own. */
int pgqrs_client_rules_init(struct client_rules *rules_out, const struct pgqrs_rules *from,
                            bool copy, struct pgqrs_failure *failure) PGQRS_MUST_CHECK;
void pgqrs_client_rules_fini(struct client_rules *rules);

struct client_items {
    struct pgqrs_enqueue *items;
    int64_t *ids;
    bool *existed;
    size_t count;
    struct pgqrs_buf text; /* the payloads */
};

/* Checks all of them and makes them what the store takes. Free with pgqrs_client_items_fini, also
 * after a failure. */
int pgqrs_client_items_init(struct client_items *out, const struct client_rules *rules,
                            const struct pgqrs_item *items, size_t count,
                            struct pgqrs_failure *failure) PGQRS_MUST_CHECK;
void pgqrs_client_items_fini(struct client_items *items);
/* Fills receipts unless null; returns how many are new. */
int64_t pgqrs_client_receipts(const struct client_items *items, struct pgqrs_receipt *receipts_out);

/* Waits for the rate as far as the client may, or fails with PGQRS_E_RATE_LIMITED. */
int pgqrs_client_take_tokens(struct pgqrs_client *client, size_t count,
                             struct pgqrs_failure *failure) PGQRS_MUST_CHECK;

/* ---- consumers ---- */

struct pgqrs_consumer {
    struct pgqrs_client *client;
    int64_t id, queue_id;
    int64_t started_at_us; /* of the row while it is ours */
    int64_t lease_ms, beat_ms, poll_ms;
    uint32_t max_attempts;
    int64_t beaten_ms; /* monotonic */
};

/* What the consumer's row says: 0 when the consumer may work, else fails with PGQRS_E_SUSPENDED or
 * PGQRS_E_STOPPED. An interrupted one is suspended. */
int pgqrs_consumer_check(struct pgqrs_consumer *consumer,
                         struct pgqrs_failure *failure) PGQRS_MUST_CHECK;
/* Reads the row: 1 when it is there and this consumer's, else 0; -1 with *err filled. */
int pgqrs_consumer_row(struct pgqrs_consumer *consumer, enum pgqrs_worker_state *state_out,
                       struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
