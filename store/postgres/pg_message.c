/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_priv.h"

#include <stdlib.h>
#include <string.h>

#include "store/postgres/pg_text.h"

/* ---- reading ---- */

/* A pgqrs client that replays a message leaves the outcome where it is. */
#define ENQUEUED_US PG_COLUMN_US("m.enqueued_at")
#define DUE_US PG_COLUMN_US("m.vt")
#define DEQUEUED_US PG_COLUMN_US("m.dequeued_at")
#define ARCHIVED_US PG_COLUMN_US("m.archived_at")
#define COLUMNS                                                                                    \
    "m.id, m.queue_id, " ENQUEUED_US ", " DUE_US ", " DEQUEUED_US ", " ARCHIVED_US ","             \
    " m.consumer_worker_id, m.producer_worker_id, m.read_ct, m.pgqrsd_priority, "                  \
    "m.pgqrsd_crash_ct, m.payload, m.pgqrsd_unique_key,"                                           \
    " CASE WHEN m.archived_at IS NOT NULL THEN m.pgqrsd_outcome END,"                              \
    " m.pgqrsd_result, m.pgqrsd_error, " PG_NOW_US

enum { COLUMN_NOW = 16, COLUMN_REST }; /* the second only in a listing */

static enum pgqrs_message_state state_of(const struct pgqrs_message *m, int64_t now_us)
{
    if (m->archived_at_us != 0) {
        return PGQRS_STATE_ARCHIVED;
    }
    if (m->consumer_worker_id != 0) {
        return PGQRS_STATE_LEASED;
    }
    return m->vt_us <= now_us ? PGQRS_STATE_READY : PGQRS_STATE_DELAYED;
}

/* On failure the message still needs its fini. */
static int read_message(const PGresult *rows, int row, struct pgqrs_message *m,
                        struct pgqrs_error *err)
{
    m->id = pgqrs_pg_int(rows, row, 0);
    m->queue_id = pgqrs_pg_int(rows, row, 1);
    m->enqueued_at_us = pgqrs_pg_int(rows, row, 2);
    m->vt_us = pgqrs_pg_int(rows, row, 3);
    m->dequeued_at_us = pgqrs_pg_int(rows, row, 4);
    m->archived_at_us = pgqrs_pg_int(rows, row, 5);
    m->consumer_worker_id = pgqrs_pg_int(rows, row, 6);
    m->producer_worker_id = pgqrs_pg_int(rows, row, 7);
    m->read_ct = (int32_t)pgqrs_pg_int(rows, row, 8);
    m->priority = (int32_t)pgqrs_pg_int(rows, row, 9);
    m->crash_ct = (int32_t)pgqrs_pg_int(rows, row, 10);
    m->state = state_of(m, pgqrs_pg_int(rows, row, COLUMN_NOW));
    if (pgqrs_pg_dup(rows, row, 11, &m->payload, err) < 0 ||
        pgqrs_pg_dup(rows, row, 12, &m->unique_key, err) < 0 ||
        pgqrs_pg_dup(rows, row, 13, &m->outcome, err) < 0 ||
        pgqrs_pg_dup(rows, row, 14, &m->result, err) < 0) {
        return -1;
    }
    return pgqrs_pg_dup(rows, row, 15, &m->error, err);
}

static const struct pg_stmt message_get = {
    .name = "message_get",
    .sql = "SELECT " COLUMNS " FROM pgqrs_messages m WHERE m.id = $1",
    .param_count = 1,
    .types = {PG_INT8},
};

int pgqrs_pg_message_get(struct pgqrs_store *store, int64_t id, struct pgqrs_message *message_out,
                         struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, id);
    PGresult *rows = pgqrs_pg_run(pg_of(store), &message_get, &args, true, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    struct pgqrs_message message = {0};
    int rc = PQntuples(rows) == 0 ? pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND,
                                                    "message %lld does not exist", (long long)id)
                                  : read_message(rows, 0, &message, err);
    PQclear(rows);
    if (rc < 0) {
        pgqrs_message_fini(&message);
        return -1;
    }
    *message_out = message;
    return 0;
}

/* ---- listing ---- */

/*
 * $1: ids below; $2: queue or 0; $3: state or 0; $4: outcome; $5: holder or 0; $6: unique key;
 * $7: how many. The last column, in every row and in one even when nothing was found: below which
 * id nothing was looked at, NULL when all was.
 */
#define FILTERS                                                                                    \
    "($2 = 0 OR m.queue_id = $2) AND CASE $3"                                                      \
    " WHEN 1 THEN m.archived_at IS NULL AND m.consumer_worker_id IS NULL"                          \
    " AND coalesce(m.vt <= pgqrsd_now(), true)"                                                    \
    " WHEN 2 THEN m.archived_at IS NULL AND m.consumer_worker_id IS NULL"                          \
    " AND m.vt > pgqrsd_now()"                                                                     \
    " WHEN 3 THEN m.archived_at IS NULL AND m.consumer_worker_id IS NOT NULL"                      \
    " WHEN 4 THEN m.archived_at IS NOT NULL ELSE true END"                                         \
    " AND ($4::text IS NULL OR (m.archived_at IS NOT NULL AND m.pgqrsd_outcome = $4))"             \
    " AND ($5 = 0 OR m.consumer_worker_id = $5)"                                                   \
    " AND ($6::text IS NULL OR m.pgqrsd_unique_key = $6)"
_Static_assert(PGQRS_STATE_READY == 1 && PGQRS_STATE_DELAYED == 2 && PGQRS_STATE_LEASED == 3 &&
                   PGQRS_STATE_ARCHIVED == 4,
               "the numbers that FILTERS has");

#define LIST_TYPES                                                                                 \
    .param_count = 7, .types = {PG_INT8, PG_INT8, PG_INT4, PG_TEXT, PG_INT8, PG_TEXT, PG_INT8}

/* Newest first over all messages, and whatever fits is taken. */
static const struct pg_stmt list_walk = {
    .name = "message_list_walk",
    .sql =
        "SELECT m.*, w.rest FROM (SELECT (SELECT id + 1 FROM pgqrs_messages WHERE id < $1"
        " ORDER BY id DESC OFFSET 10000 LIMIT 1) AS rest) w LEFT JOIN LATERAL"
        " (SELECT " COLUMNS " FROM (SELECT * FROM pgqrs_messages WHERE id < $1"
        " ORDER BY id DESC LIMIT 10000) m WHERE " FILTERS " ORDER BY m.id DESC LIMIT $7) m ON true",
    LIST_TYPES,
};

/* From an index of few rows, that of "picked (part, id)". Where a part of it has as many as are
 * looked at there may be more, and below the highest such place nothing is sure. */
#define LIST_PICKED(part_limit)                                                                    \
    ", floor AS MATERIALIZED (SELECT max(low) AS rest FROM (SELECT min(id) AS low FROM picked"     \
    " GROUP BY part HAVING count(*) >= " part_limit ") f)"                                         \
    " SELECT m.*, floor.rest FROM floor LEFT JOIN LATERAL (SELECT " COLUMNS " FROM (SELECT id"     \
    " FROM picked WHERE id >= coalesce(floor.rest, 0) ORDER BY id DESC) p CROSS JOIN LATERAL"      \
    " (SELECT * FROM pgqrs_messages WHERE id = p.id OFFSET 0) m WHERE " FILTERS                    \
    " ORDER BY p.id DESC LIMIT $7) m ON true"

#define PART_LIMIT                                                                                 \
    "(SELECT greatest(10000 / greatest(count(*), 1), 1) FROM pgqrs_queues WHERE $2 = 0 OR id = "   \
    "$2)"

static const struct pg_stmt list_failed = {
    .name = "message_list_failed",
    .sql = "WITH picked AS MATERIALIZED (SELECT q.id AS part, x.id FROM"
           " (SELECT id FROM pgqrs_queues WHERE $2 = 0 OR id = $2) q CROSS JOIN LATERAL"
           " (SELECT id FROM pgqrs_messages WHERE queue_id = q.id AND pgqrsd_outcome = 'failed'"
           " AND id < $1 ORDER BY id DESC LIMIT " PART_LIMIT ") x)" LIST_PICKED(PART_LIMIT),
    LIST_TYPES,
};
static const struct pg_stmt list_leased = {
    .name = "message_list_leased",
    .sql = "WITH held AS MATERIALIZED (SELECT id FROM pgqrs_messages WHERE " PG_LEASED
           " AND consumer_worker_id >= $5 AND consumer_worker_id <="
           " CASE WHEN $5 = 0 THEN 9223372036854775807 ELSE $5 END AND id < $1"
           " ORDER BY consumer_worker_id),"
           " picked AS MATERIALIZED (SELECT 0 AS part, id FROM held ORDER BY id DESC LIMIT "
           "10000)" LIST_PICKED("10000"),
    LIST_TYPES,
};
static const struct pg_stmt list_unique = {
    .name = "message_list_unique",
    .sql = "WITH picked AS MATERIALIZED (SELECT q.id AS part, x.id FROM"
           " (SELECT id FROM pgqrs_queues WHERE $2 = 0 OR id = $2) q CROSS JOIN LATERAL"
           " (SELECT id FROM pgqrs_messages WHERE queue_id = q.id AND pgqrsd_unique_key = $6"
           " AND archived_at IS NULL AND id < $1 ORDER BY queue_id, pgqrsd_unique_key LIMIT 1) "
           "x)" LIST_PICKED("2"),
    LIST_TYPES,
};

/* By what finds few rows, where it finds all that are wanted: holder and unique key of what is
 * archived are in no index. Null: nothing can fit. */
static const struct pg_stmt *list_of(const struct pgqrs_message_filter *filter)
{
    bool live = filter->state != PGQRS_STATE_NONE && filter->state != PGQRS_STATE_ARCHIVED;
    if (live && filter->outcome != NULL) {
        return NULL;
    }
    if (live && filter->unique_key != NULL) {
        return &list_unique;
    }
    if (filter->state == PGQRS_STATE_LEASED) {
        return &list_leased;
    }
    bool failed = filter->outcome != NULL && strcmp(filter->outcome, "failed") == 0;
    return failed ? &list_failed : &list_walk;
}

/* The rows are one more than a page may have, when there are so many. */
static int read_page(const PGresult *rows, uint32_t limit, struct pgqrs_message_list *list,
                     struct pgqrs_error *err)
{
    size_t count = pgqrs_pg_is_null(rows, 0, 0) ? 0 : (size_t)PQntuples(rows);
    bool more = count > limit;
    count = more ? limit : count;
    list->items = calloc(count + 1, sizeof *list->items);
    if (list->items == NULL) {
        return pgqrs_error_memory(err);
    }
    while (list->count < count) {
        int row = (int)list->count;
        if (read_message(rows, row, &list->items[list->count++], err) < 0) {
            return -1;
        }
    }
    list->next_before_id = more ? list->items[count - 1].id : pgqrs_pg_int(rows, 0, COLUMN_REST);
    return 0;
}

int pgqrs_pg_message_list(struct pgqrs_store *store, const struct pgqrs_message_filter *filter,
                          struct pgqrs_message_list *list_out, struct pgqrs_error *err)
{
    const struct pg_stmt *stmt = list_of(filter);
    if (stmt == NULL) {
        *list_out = (struct pgqrs_message_list){0};
        return 0;
    }
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, filter->before_id == 0 ? INT64_MAX : filter->before_id);
    pgqrs_pg_arg_int8(&args, filter->queue_id);
    pgqrs_pg_arg_int4(&args, (int32_t)filter->state);
    pgqrs_pg_arg_text(&args, filter->outcome);
    pgqrs_pg_arg_int8(&args, filter->consumer_worker_id);
    pgqrs_pg_arg_text(&args, filter->unique_key);
    pgqrs_pg_arg_int8(&args, (int64_t)filter->limit + 1);
    PGresult *rows = pgqrs_pg_run(pg_of(store), stmt, &args, true, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    struct pgqrs_message_list list = {0};
    int rc = read_page(rows, filter->limit, &list, err);
    PQclear(rows);
    if (rc < 0) {
        pgqrs_message_list_fini(&list);
        return -1;
    }
    *list_out = list;
    return 0;
}
