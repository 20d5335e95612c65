/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_POSTGRES_EXCHANGE_H
#define PGQRS_STORE_POSTGRES_EXCHANGE_H

/*
 * What the files of the hot path share: enqueueing, settling, leasing. Every statement that touches
 * rows by their ids does so as id = ANY(array), never as a join: those have plans in reserve that
 * read the table.
 */

#include "store/postgres/pg_priv.h"
#include "store/postgres/pg_text.h"

enum { PG_ROWS_MAX = 256 }; /* of one statement: its arrays are searched for each row */

struct pg_lease_step {           /* one statement that leases */
    size_t first_want, end_want; /* it answers wants[first..end) of the exchange */
};

/* An exchange under construction: first the statements that settle, then those that lease. */
struct pg_exchange {
    struct pgqrs_exchange *x;
    struct pg_batch batch;
    int settle_count;
    size_t next_want; /* of those not asked for yet */
    struct pg_lease_step leases[PG_BATCH_MAX];
};

/* ---- pg_enqueue.c ---- */
/* Within the caller's transaction if there is one. */
int pgqrs_pg_insert(struct pg_store *s, int64_t queue_id, const struct pgqrs_enqueue *items,
                    size_t count, int64_t *ids_out, bool *existed_out,
                    struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* The batch fails with PGQRS_ERR_CONFLICT when some queue is not there. */
int pgqrs_pg_add_follow_ups(struct pg_batch *batch, const struct pgqrs_follow_up *const *follow_ups,
                            size_t count, struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- pg_follow.c ---- */
/* The whole exchange, all or nothing, when settlements bring follow-ups. */
int pgqrs_pg_settle_and_follow(struct pg_store *s, struct pgqrs_exchange *x,
                               struct pgqrs_settlement **sorted,
                               struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- pg_exchange.c ---- */
/* Should the server forget this transaction when it crashes, no harm is done. */
extern const struct pg_stmt pgqrs_pg_unsynced;

/* ---- pg_settle.c ---- */
int pgqrs_pg_add_settlements(struct pg_exchange *e, struct pgqrs_settlement *items, size_t count,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* By message; for free. *twice_out: two are about the same message. Null: no memory. */
struct pgqrs_settlement **pgqrs_pg_sort_settlements(struct pgqrs_settlement *items, size_t count,
                                                    bool *twice_out);
/* Reads from the results which were applied; the others are left at NONE. Returns how many. */
size_t pgqrs_pg_take_settled(const struct pg_exchange *e, struct pgqrs_settlement **sorted,
                             size_t count);
/* Those at NONE: applied before, or refused? */
int pgqrs_pg_look_at_unsettled(struct pg_store *s, struct pgqrs_settlement **sorted, size_t count,
                               struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- pg_lease.c ---- */
/* From next_want on, as many as the batch has room for. */
void pgqrs_pg_add_leases(struct pg_exchange *e);
/* Appends what was leased to the exchange, in order; payloads are known by their places until they
 * are placed, when all have come. */
int pgqrs_pg_take_leases(struct pg_exchange *e, struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_pg_place_payloads(struct pgqrs_exchange *x);
/* Within the caller's transaction, one message that may be leased. */
int pgqrs_pg_lease_one(struct pg_store *s, const struct pgqrs_message_claim *claim,
                       struct pgqrs_exchange *x, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* 1 some want can be answered now, 0 none, -1; sets now_us and, about the queues that have nothing
 * now or whose wants were not filled, next_due_us. */
int pgqrs_pg_peek_wants(struct pg_store *s, struct pgqrs_exchange *x,
                        struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* The hot statements, for a test of their plans. */
extern const struct pg_stmt pgqrs_pg_insert_many, pgqrs_pg_archive, pgqrs_pg_end_messages,
    pgqrs_pg_delete_done, pgqrs_pg_release, pgqrs_pg_lease, pgqrs_pg_peek, pgqrs_pg_renew_leases;

#endif
