/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_POSTGRES_TEXT_H
#define PGQRS_STORE_POSTGRES_TEXT_H

/*
 * Pieces of SQL that several statements have in common.
 *
 * The connection has sequential scans and sorts switched off, so the order that a statement asks
 * for chooses its index. What a partial index is about is said in its own words where that index is
 * wanted, and in words that prove nothing (PG_IS_...) where the primary key is: statistics from
 * when the queue was empty would make the planner walk the whole partial index.
 */

/* The predicates of the partial indexes. */
#define PG_LIVE "archived_at IS NULL"
#define PG_PENDING PG_LIVE " AND consumer_worker_id IS NULL" /* pgqrsd_messages_lease */
#define PG_LEASED                                                                                  \
    PG_LIVE " AND consumer_worker_id IS NOT NULL" /* ..._consumer_worker_id_active                 \
                                                   */

#define PG_IS_LIVE "coalesce(archived_at, 'infinity') = 'infinity'"
/* Attempts used: a crash is counted apart. */
#define PG_ATTEMPTS "(coalesce(read_ct, 0) - pgqrsd_crash_ct)"
#define PG_IS_PENDING PG_IS_LIVE " AND coalesce(consumer_worker_id, 0) = 0"
#define PG_IS_LEASED PG_IS_LIVE " AND coalesce(consumer_worker_id, 0) <> 0"

/* As a text, which no index has: rows are found by what they belong to. */
#define PG_RUN_UNFINISHED(status) status "::text IN ('QUEUED', 'RUNNING', 'PAUSED', 'CANCELLING')"
#define PG_RUN_ENDED(status) status "::text IN ('SUCCESS', 'ERROR', 'CANCELLED')"

/*
 * Before a statement that makes messages ready without inserting any: who sleeps is woken when it
 * commits. That is the duty of the schema's trigger, which an insertion of no rows fires, too.
 */
#define PG_WAKING                                                                                  \
    "WITH wake AS (INSERT INTO pgqrs_messages (queue_id, payload) SELECT 0, 'null' WHERE false) "

/* Those who listen look at once, when this commits; see pgqrsd_wake in pg_ddl.c. */
#define PG_NOTIFY                                                                                  \
    "pg_catalog.pg_notify('" PG_CHANNEL "' || 'pgqrs_messages'::regclass::oid::text, '')"

/* Of a column that somebody else may have set to a time without end, or without a beginning: the
 * last second of the year 9999, and 0. */
#define PG_COLUMN_US(time)                                                                         \
    "CASE " time                                                                                   \
    " WHEN 'infinity' THEN 253402300799000000 WHEN '-infinity' THEN 0 ELSE " PGQRS_PG_US(          \
        time) " END"

#define PG_NOW_US PGQRS_PG_US("pgqrsd_now()")

/* So many milliseconds, from a bigint. A hundred years is as good as for ever, and in range. */
#define PG_MS(ms) "(least(" ms ", 3155760000000) * interval '1 millisecond')"

/* Where a value is in an array that is sorted and has it. */
#define PG_PLACE(value, array) "width_bucket(" value ", " array ")"

/* What a lease is, and thereby what fences: worker ($2) and attempt ($3) in the place that the id
 * has in $1, which is sorted and has no id twice, and that the message has not ended. */
#define PG_AT PG_PLACE("m.id", "$1")
#define PG_FENCE                                                                                   \
    " WHERE m.id = ANY($1) AND coalesce(m.consumer_worker_id, 0) = ($2)[" PG_AT "]"                \
    " AND coalesce(m.read_ct, 0) = ($3)[" PG_AT "] AND " PG_IS_LIVE
#define PG_FENCE_TYPES PG_INT8_ARRAY, PG_INT8_ARRAY, PG_INT4_ARRAY

#endif
