/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_priv.h"

#include <stdio.h>

#include "store/postgres/pg_text.h"

/*
 * $1: the queue or 0; $2: where a count stops, or NULL; $3: how many rows of a queue are looked at
 * for its oldest and newest. Rows are met in the order in which they are due, which is nearly that
 * of enqueueing, and from both ends: what $3 leaves out is in the middle.
 */
#define FROM_QUEUES(columns, rows, order, limit)                                                   \
    "FROM (SELECT id FROM pgqrs_queues WHERE $1 = 0 OR id = $1) q CROSS JOIN LATERAL"              \
    " (SELECT " columns " FROM pgqrs_messages WHERE queue_id = q.id AND " rows " ORDER BY " order  \
    " LIMIT " limit ") m"
#define COUNT(rows, order)                                                                         \
    "(SELECT count(*) FROM (SELECT 1 " FROM_QUEUES("1", rows, order, "$2") " LIMIT $2) c)"

#define BY_DUE "vt, enqueued_at, id"
#define BY_DUE_BACK "vt DESC, enqueued_at DESC, id DESC"
#define ENDED "archived_at IS NOT NULL"
#define LATER PG_PENDING " AND vt > pgqrsd_now() AND vt < 'infinity'"
#define AT "enqueued_at AS at"

#define PENDING_COUNT COUNT(PG_PENDING, "pgqrsd_priority DESC, vt, id")
#define DUE_COUNT COUNT(PG_PENDING " AND vt <= pgqrsd_now()", BY_DUE)
#define NO_VT_COUNT COUNT(PG_PENDING " AND vt IS NULL", BY_DUE)
#define LEASED_COUNT COUNT(PG_LEASED, "consumer_worker_id")
#define ENDED_COUNT COUNT(ENDED, "archived_at")
#define FAILED_COUNT COUNT("pgqrsd_outcome = 'failed' AND " ENDED, "id")

#define OLDEST "(SELECT min(m.at) " FROM_QUEUES(AT, PG_PENDING, BY_DUE, "$3") ")"
#define NEWEST_FIRST "(SELECT max(m.at) " FROM_QUEUES(AT, PG_LIVE, BY_DUE, "$3") ")"
#define NEWEST_LAST "(SELECT max(m.at) " FROM_QUEUES(AT, PG_LIVE, BY_DUE_BACK, "$3") ")"
#define NEWEST_ENDED "(SELECT max(m.at) " FROM_QUEUES(AT, ENDED, "archived_at DESC", "1000") ")"
#define NEWEST "(SELECT greatest(" NEWEST_FIRST ", " NEWEST_LAST ", " NEWEST_ENDED "))"
#define NEXT_DUE "(SELECT min(m.vt) " FROM_QUEUES("vt", LATER, BY_DUE, "1") ")"

#define OLDEST_US PGQRS_PG_US(OLDEST)
#define NEWEST_US PGQRS_PG_US(NEWEST)
#define NEXT_DUE_US PGQRS_PG_US(NEXT_DUE)

static const struct pg_stmt queue_metrics = {
    .name = "queue_metrics",
    .sql =
        "SELECT " PENDING_COUNT ", " DUE_COUNT " + " NO_VT_COUNT ", " LEASED_COUNT ", " ENDED_COUNT
        ", " FAILED_COUNT ", " OLDEST_US ", " NEWEST_US ", " NEXT_DUE_US ", " PG_NOW_US,
    .param_count = 3,
    .types = {PG_INT8, PG_INT8, PG_INT8},
};

enum { SAMPLE_MAX = 1000 }; /* of each queue, when there may be many */

static void limit_arg(struct pg_args *args, uint64_t limit)
{
    if (limit == 0 || limit > INT64_MAX) {
        pgqrs_pg_arg_null(args);
    } else {
        pgqrs_pg_arg_int8(args, (int64_t)limit);
    }
}

int pgqrs_pg_queue_metrics(struct pgqrs_store *store, int64_t queue_id, uint64_t count_max,
                           struct pgqrs_queue_metrics *metrics_out, struct pgqrs_error *err)
{
    bool sample = queue_id == 0 && count_max > SAMPLE_MAX;
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, queue_id);
    limit_arg(&args, count_max);
    limit_arg(&args, sample ? SAMPLE_MAX : count_max);
    PGresult *row = pgqrs_pg_run(pg_of(store), &queue_metrics, &args, true, err);
    pgqrs_pg_args_fini(&args);
    if (row == NULL) {
        return -1;
    }
    struct pgqrs_queue_metrics m = {
        .pending = pgqrs_pg_int(row, 0, 0),
        .ready = pgqrs_pg_int(row, 0, 1),
        .leased = pgqrs_pg_int(row, 0, 2),
        .archived = pgqrs_pg_int(row, 0, 3),
        .failed = pgqrs_pg_int(row, 0, 4),
        .oldest_pending_us = pgqrs_pg_int(row, 0, 5),
        .newest_us = pgqrs_pg_int(row, 0, 6),
        .next_due_us = pgqrs_pg_int(row, 0, 7),
        .now_us = pgqrs_pg_int(row, 0, 8),
    };
    PQclear(row);
    if (count_max != 0 && (uint64_t)m.ready > count_max) {
        m.ready = (int64_t)count_max;
    }
    m.total = m.pending + m.leased + m.archived;
    *metrics_out = m;
    return 0;
}

/* ---- the store as a whole ---- */

static const struct pg_stmt store_info = {
    .name = "store_info",
    .sql = "SELECT count(*), count(pgqrsd_paused_at), (SELECT count(*) FROM pgqrs_workflows),"
           " (SELECT max(version) FROM pgqrsd_schema),"
           " 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1)"
           " FROM pgqrs_queues",
};

int pgqrs_pg_info(struct pgqrs_store *store, struct pgqrs_store_info *info_out,
                  struct pgqrs_error *err)
{
    struct pg_args args = {0};
    PGresult *row = pgqrs_pg_run(pg_of(store), &store_info, &args, true, err);
    pgqrs_pg_args_fini(&args);
    if (row == NULL) {
        return -1;
    }
    struct pgqrs_store_info info = {
        .queues = pgqrs_pg_int(row, 0, 0),
        .paused_queues = pgqrs_pg_int(row, 0, 1),
        .workflows = pgqrs_pg_int(row, 0, 2),
        .schema_version = (int32_t)pgqrs_pg_int(row, 0, 3),
        .pgqrs_schema = "0.5.0",
    };
    struct pgqrs_bytes server = pgqrs_pg_bytes(row, 0, 4);
    (void)snprintf(info.server, sizeof info.server, "%.*s", (int)server.len, server.data);
    PQclear(row);
    *info_out = info;
    return 0;
}
