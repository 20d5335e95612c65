/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_flow.h"

#include <stdlib.h>

#include "store/postgres/pg_conn.h"
#include "store/postgres/pg_exchange.h"

/*
 * Beginning runs, or going on with them: one round trip for up to 256. The next commit that waits
 * for the disk takes this one with it.
 */

#define HELD "ARRAY(SELECT m.id FROM pgqrs_messages m" PG_FENCE ")"
#define WORKER "($2)[" PG_PLACE("r.message_id", "$1") "]"

static const struct pg_stmt lock = {
    .name = "open_lock",
    .sql = "SELECT m.id FROM pgqrs_messages m" PG_FENCE " ORDER BY m.id FOR NO KEY UPDATE",
    .param_count = 3,
    .types = {PG_FENCE_TYPES},
};
/* $4 definition. What is new runs at once. */
static const struct pg_stmt begin = {
    .name = "open_begin",
    .sql = "INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status, input, created_at,"
           " updated_at, started_at, worker_id) SELECT $4, m.id, 'RUNNING', m.payload,"
           " pgqrsd_now(), pgqrsd_now(), pgqrsd_now(), m.consumer_worker_id"
           " FROM pgqrs_messages m" PG_FENCE " AND NOT EXISTS (SELECT 1 FROM pgqrs_workflow_runs r"
           " WHERE r.message_id = m.id OFFSET 0) ON CONFLICT DO NOTHING",
    .param_count = 4,
    .types = {PG_FENCE_TYPES, PG_INT8},
};
static const struct pg_stmt go_on = {
    .name = "open_go_on",
    .sql = "UPDATE pgqrs_workflow_runs r SET status = 'RUNNING', started_at ="
           " coalesce(r.started_at, pgqrsd_now()), worker_id = " WORKER ", error = NULL,"
           " pgqrsd_event = NULL, updated_at = pgqrsd_now() WHERE r.message_id = ANY(" HELD ")"
           " AND r.status::text IN ('QUEUED', 'RUNNING', 'PAUSED') AND (r.status <> 'RUNNING'"
           " OR r.started_at IS NULL OR r.worker_id IS DISTINCT FROM " WORKER
           " OR r.error IS NOT NULL OR r.pgqrsd_event IS NOT NULL"
           " OR r.updated_at <> pgqrsd_now())",
    .param_count = 3,
    .types = {PG_FENCE_TYPES},
};
static const struct pg_stmt mark = {
    .name = "open_mark",
    .sql = "UPDATE pgqrs_messages m SET pgqrsd_flow = true" PG_FENCE " AND NOT m.pgqrsd_flow",
    .param_count = 3,
    .types = {PG_FENCE_TYPES},
};
static const struct pg_stmt runs = {
    .name = "open_runs",
    .sql = "SELECT r.message_id, r.id, r.status::text FROM pgqrs_workflow_runs r"
           " WHERE r.message_id = ANY($1)",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};
static const struct pg_stmt steps = {
    .name = "open_steps",
    .sql = "WITH s AS MATERIALIZED (SELECT r.message_id, x.* FROM pgqrs_workflow_runs r"
           " CROSS JOIN LATERAL (SELECT * FROM pgqrs_workflow_steps WHERE run_id = r.id OFFSET 0) x"
           " WHERE r.message_id = ANY($1))"
           " SELECT s.message_id, " PG_STEP_COLUMNS " FROM s ORDER BY s.message_id, s.id",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};
static const struct pg_stmt events = {
    .name = "open_events",
    .sql = "SELECT message_id, name, payload, created_at FROM pgqrsd_workflow_events"
           " WHERE message_id = ANY($1) ORDER BY message_id, name",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};
static const struct pg_stmt now = {.name = "open_now", .sql = "SELECT " PG_NOW_US};

enum place { AT_LOCK, AT_BEGIN, AT_GO_ON, AT_MARK, AT_RUNS, AT_STEPS, AT_EVENTS, AT_NOW, AT_COUNT };

/* ---- asking ---- */

static void add_leases(struct pg_batch *batch, struct pgqrs_run_open *const *opens, size_t count,
                       int64_t workflow_id)
{
    static const struct pg_stmt *const stmts[AT_COUNT] = {&lock, &begin, &go_on,  &mark,
                                                          &runs, &steps, &events, &now};
    struct pgqrs_lease_ref leases[PG_ROWS_MAX];
    for (size_t i = 0; i < count; i++) {
        leases[i] = opens[i]->lease;
    }
    for (int at = 0; at < AT_COUNT; at++) {
        struct pg_args *args = pgqrs_pg_batch_add(batch, stmts[at]);
        if (at <= AT_MARK) {
            pgqrs_pg_arg_leases(args, leases, count);
        } else if (at != AT_NOW) {
            pgqrs_pg_arg_array_begin(args, PG_INT8, count);
            for (size_t i = 0; i < count; i++) {
                pgqrs_pg_arg_array_int8(args, leases[i].message_id);
            }
            pgqrs_pg_arg_array_end(args);
        }
        if (at == AT_BEGIN) {
            pgqrs_pg_arg_int8(args, workflow_id);
        }
    }
}

/* ---- reading ---- */

static int by_message(const void *a, const void *b)
{
    int64_t x = (*(struct pgqrs_run_open *const *)a)->lease.message_id;
    int64_t y = (*(struct pgqrs_run_open *const *)b)->lease.message_id;
    return (x > y) - (x < y);
}

static struct pgqrs_run_open *find(struct pgqrs_run_open **opens, size_t count, int64_t message_id)
{
    struct pgqrs_run_open key = {.lease = {.message_id = message_id}};
    struct pgqrs_run_open *wanted = &key;
    struct pgqrs_run_open **found = bsearch(&wanted, opens, count, sizeof *opens, by_message);
    return found == NULL ? NULL : *found;
}

/* Rows of one message stand together. */
static int rows_of(const PGresult *rows, int first)
{
    int end = first;
    while (end < PQntuples(rows) && pgqrs_pg_int(rows, end, 0) == pgqrs_pg_int(rows, first, 0)) {
        end++;
    }
    return end - first;
}

static int read_steps(const PGresult *rows, struct pgqrs_run_open **opens, size_t count,
                      struct pgqrs_error *err)
{
    for (int row = 0, n; row < PQntuples(rows); row += n) {
        n = rows_of(rows, row);
        struct pgqrs_run_open *open = find(opens, count, pgqrs_pg_int(rows, row, 0));
        if (open == NULL || !open->held) {
            continue;
        }
        open->steps.items = calloc((size_t)n + 1, sizeof *open->steps.items);
        if (open->steps.items == NULL) {
            return pgqrs_error_memory(err);
        }
        for (int i = 0; i < n; i++) {
            struct pgqrs_step *step = &open->steps.items[open->steps.count++];
            if (pgqrs_pg_read_step(rows, row + i, 1, step, err) < 0) {
                return -1;
            }
        }
    }
    return 0;
}

static int read_events(const PGresult *rows, struct pgqrs_run_open **opens, size_t count,
                       struct pgqrs_error *err)
{
    for (int row = 0, n; row < PQntuples(rows); row += n) {
        n = rows_of(rows, row);
        struct pgqrs_run_open *open = find(opens, count, pgqrs_pg_int(rows, row, 0));
        if (open == NULL || !open->held) {
            continue;
        }
        open->events.items = calloc((size_t)n + 1, sizeof *open->events.items);
        if (open->events.items == NULL) {
            return pgqrs_error_memory(err);
        }
        for (int i = 0; i < n; i++) {
            struct pgqrs_pair *event = &open->events.items[open->events.count++];
            if (pgqrs_pg_read_pair(rows, row + i, 1, event, err) < 0) {
                return -1;
            }
        }
    }
    return 0;
}

static int read_opens(PGresult *const *results, struct pgqrs_run_open **opens, size_t count,
                      struct pgqrs_error *err)
{
    for (int row = 0; row < PQntuples(results[AT_LOCK]); row++) {
        struct pgqrs_run_open *open = find(opens, count, pgqrs_pg_int(results[AT_LOCK], row, 0));
        if (open != NULL) {
            open->held = true;
        }
    }
    for (int row = 0; row < PQntuples(results[AT_RUNS]); row++) {
        const PGresult *rows = results[AT_RUNS];
        struct pgqrs_run_open *open = find(opens, count, pgqrs_pg_int(rows, row, 0));
        if (open != NULL && open->held) {
            open->run_id = pgqrs_pg_int(rows, row, 1);
            open->status = pgqrs_run_status_from(pgqrs_pg_bytes(rows, row, 2));
        }
    }
    return read_steps(results[AT_STEPS], opens, count, err) < 0
               ? -1
               : read_events(results[AT_EVENTS], opens, count, err);
}

/* ---- the operation ---- */

static int open_some(struct pg_store *s, int64_t workflow_id, struct pgqrs_run_open **opens,
                     size_t count, int64_t *now_us_out, struct pgqrs_error *err)
{
    struct pg_batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL) {
        return pgqrs_error_memory(err);
    }
    int first = 0;
    if (!s->borrowed) {
        (void)pgqrs_pg_batch_add(batch, &pgqrs_pg_unsynced);
        first = 1;
    }
    add_leases(batch, opens, count, workflow_id);
    int rc = pgqrs_pg_batch_run(s, batch, err);
    if (rc == 0) {
        *now_us_out = pgqrs_pg_int(batch->results[first + AT_NOW], 0, 0);
        rc = read_opens(batch->results + first, opens, count, err);
    }
    pgqrs_pg_batch_fini(batch);
    free(batch);
    return rc;
}

/* In order, and of those of one message the first: one statement is about a message once. The
 * others stay. */
static size_t take_distinct(struct pgqrs_run_open **sorted, size_t *left,
                            struct pgqrs_run_open **taken)
{
    size_t n = 0;
    size_t kept = 0;
    for (size_t i = 0; i < *left; i++) {
        bool distinct = n == 0 || taken[n - 1]->lease.message_id != sorted[i]->lease.message_id;
        if (distinct && n < PG_ROWS_MAX) {
            taken[n++] = sorted[i];
        } else {
            sorted[kept++] = sorted[i];
        }
    }
    *left = kept;
    return n;
}

int pgqrs_pg_run_open(struct pgqrs_store *store, int64_t workflow_id, struct pgqrs_run_open *opens,
                      size_t count, int64_t *now_us_out, struct pgqrs_error *err)
{
    struct pgqrs_run_open **sorted = calloc(count + 1, sizeof *sorted);
    if (sorted == NULL) {
        return pgqrs_error_memory(err);
    }
    for (size_t i = 0; i < count; i++) {
        sorted[i] = &opens[i];
    }
    qsort(sorted, count, sizeof *sorted, by_message);
    int rc;
    size_t left = count;
    do {
        struct pgqrs_run_open *some[PG_ROWS_MAX];
        size_t n = take_distinct(sorted, &left, some);
        rc = open_some(pg_of(store), workflow_id, some, n, now_us_out, err);
    } while (rc == 0 && left > 0);
    free(sorted);
    return rc;
}
