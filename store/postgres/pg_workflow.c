/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_flow.h"

#include <stdlib.h>

/* Definitions of workflows. */

#define COLUMNS "id, queue_id, name, created_at"

/* Two that create one at once: the second waits for the first, and the last statement sees it. */
static const struct pg_stmt make_queue = {
    .name = "workflow_make_queue",
    .sql = "INSERT INTO pgqrs_queues (queue_name, created_at) SELECT $1, pgqrsd_now() WHERE NOT"
           " EXISTS (SELECT 1 FROM pgqrs_queues WHERE queue_name = $1) ON CONFLICT DO NOTHING",
    .param_count = 1,
    .types = {PG_TEXT},
};
static const struct pg_stmt make = {
    .name = "workflow_make",
    .sql = "INSERT INTO pgqrs_workflows (name, queue_id, created_at) SELECT $1, q.id, pgqrsd_now()"
           " FROM pgqrs_queues q WHERE q.queue_name = $1 AND NOT EXISTS (SELECT 1 FROM"
           " pgqrs_workflows WHERE name = $1) ON CONFLICT DO NOTHING",
    .param_count = 1,
    .types = {PG_TEXT},
};
static const struct pg_stmt find = {
    .name = "workflow_find",
    .sql = "SELECT " COLUMNS " FROM pgqrs_workflows WHERE name = $1",
    .param_count = 1,
    .types = {PG_TEXT},
};
static const struct pg_stmt list = {
    .name = "workflow_list",
    .sql = "SELECT " COLUMNS " FROM pgqrs_workflows WHERE id > $1 ORDER BY id LIMIT $2",
    .param_count = 2,
    .types = {PG_INT8, PG_INT8},
};

static void add_named(struct pg_batch *batch, const struct pg_stmt *stmt, const char *name)
{
    pgqrs_pg_arg_text(pgqrs_pg_batch_add(batch, stmt), name);
}

static int create(struct pgqrs_store *store, const char *name, int64_t *id_out, bool *existed_out,
                  struct pgqrs_error *err)
{
    struct pg_batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL) {
        return pgqrs_error_memory(err);
    }
    add_named(batch, &make_queue, name);
    add_named(batch, &make, name);
    add_named(batch, &find, name);
    int rc = pgqrs_pg_batch_run(pg_of(store), batch, err);
    if (rc == 0 && PQntuples(batch->results[2]) == 0) { /* the queue was deleted under way */
        rc = pgqrs_error_set(err, PGQRS_ERR_AGAIN, "workflow \"%s\": its queue was deleted", name);
    }
    if (rc == 0) {
        *id_out = pgqrs_pg_int(batch->results[2], 0, 0);
        *existed_out = pgqrs_pg_count(batch->results[1]) == 0;
    }
    pgqrs_pg_batch_fini(batch);
    free(batch);
    return rc;
}

static int read_all(const PGresult *rows, struct pgqrs_workflow_list *list_out,
                    struct pgqrs_error *err)
{
    size_t count = (size_t)PQntuples(rows);
    struct pgqrs_workflow_list got = {0};
    if (count == 0) {
        *list_out = got;
        return 0;
    }
    got.items = calloc(count, sizeof *got.items);
    if (got.items == NULL) {
        return pgqrs_error_memory(err);
    }
    for (; got.count < count; got.count++) {
        int row = (int)got.count;
        struct pgqrs_workflow *w = &got.items[row];
        w->id = pgqrs_pg_int(rows, row, 0);
        w->queue_id = pgqrs_pg_int(rows, row, 1);
        w->created_at_us = pgqrs_pg_time(rows, row, 3);
        if (pgqrs_pg_dup(rows, row, 2, &w->name, err) < 0) {
            pgqrs_workflow_list_fini(&got);
            return -1;
        }
    }
    *list_out = got;
    return 0;
}

static int list_them(struct pgqrs_store *store, int64_t after_id, uint32_t limit,
                     struct pgqrs_workflow_list *list_out, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, after_id);
    pgqrs_pg_arg_int8(&args, limit);
    PGresult *rows = pgqrs_pg_run(pg_of(store), &list, &args, true, err);
    pgqrs_pg_args_fini(&args);
    int rc = rows == NULL ? -1 : read_all(rows, list_out, err);
    PQclear(rows);
    return rc;
}

static int find_one(struct pgqrs_store *store, const char *name,
                    struct pgqrs_workflow_list *one_out, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_text(&args, name);
    PGresult *rows = pgqrs_pg_run(pg_of(store), &find, &args, true, err);
    pgqrs_pg_args_fini(&args);
    int rc = rows == NULL ? -1 : 0;
    if (rc == 0 && PQntuples(rows) == 0) {
        rc = pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "workflow \"%s\" does not exist", name);
    }
    if (rc == 0) {
        rc = read_all(rows, one_out, err);
    }
    PQclear(rows);
    return rc;
}

const struct pgqrs_workflow_ops pgqrs_pg_workflow_ops = {
    .create = create,
    .list = list_them,
    .find = find_one,
    .run_get = pgqrs_pg_run_get,
    .run_list = pgqrs_pg_run_list,
    .run_steps = pgqrs_pg_run_steps,
    .run_state = pgqrs_pg_run_state,
    .run_events = pgqrs_pg_run_events,
    .run_cancel = pgqrs_pg_run_cancel,
    .run_resume = pgqrs_pg_run_resume,
    .run_fork = pgqrs_pg_run_fork,
    .event_send = pgqrs_pg_event_send,
    .run_open = pgqrs_pg_run_open,
    .flow = pgqrs_pg_flow,
};
