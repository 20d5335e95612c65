/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_flow.h"

#include <stdlib.h>

/* Runs, their steps, events and state, as people see them. */

#define RUN_COLUMNS                                                                                \
    "r.id, r.message_id, r.workflow_id, m.pgqrsd_parent_id, r.worker_id, r.status::text, d.name,"  \
    " r.input, r.output, r.error, r.created_at, r.updated_at, r.started_at, r.paused_at,"          \
    " r.completed_at, CASE WHEN m.archived_at IS NULL AND m.consumer_worker_id IS NULL THEN m.vt"  \
    " END"

enum { COLUMN_REST = 16 }; /* only in a listing */

/* ---- reading ---- */

/* On failure the run still needs its fini. */
static int read_run(const PGresult *rows, int row, struct pgqrs_run *run, struct pgqrs_error *err)
{
    *run = (struct pgqrs_run){
        .id = pgqrs_pg_int(rows, row, 0),
        .message_id = pgqrs_pg_int(rows, row, 1),
        .workflow_id = pgqrs_pg_int(rows, row, 2),
        .parent_id = pgqrs_pg_int(rows, row, 3),
        .worker_id = pgqrs_pg_int(rows, row, 4),
        .status = pgqrs_run_status_from(pgqrs_pg_bytes(rows, row, 5)),
        .created_at_us = pgqrs_pg_time(rows, row, 10),
        .updated_at_us = pgqrs_pg_time(rows, row, 11),
        .started_at_us = pgqrs_pg_time(rows, row, 12),
        .paused_at_us = pgqrs_pg_time(rows, row, 13),
        .completed_at_us = pgqrs_pg_time(rows, row, 14),
        .due_at_us = pgqrs_pg_time(rows, row, 15),
    };
    if (pgqrs_pg_dup(rows, row, 6, &run->workflow, err) < 0 ||
        pgqrs_pg_dup(rows, row, 7, &run->input, err) < 0 ||
        pgqrs_pg_dup(rows, row, 8, &run->output, err) < 0) {
        return -1;
    }
    return pgqrs_pg_dup(rows, row, 9, &run->error, err);
}

int pgqrs_pg_read_step(const PGresult *rows, int row, int column, struct pgqrs_step *step,
                       struct pgqrs_error *err)
{
    *step = (struct pgqrs_step){
        .kind = pgqrs_step_kind_from(pgqrs_pg_bytes(rows, row, column + 1)),
        .status = pgqrs_step_status_from(pgqrs_pg_bytes(rows, row, column + 2)),
        .retry_count = (int32_t)pgqrs_pg_int(rows, row, column + 5),
        .started_at_us = pgqrs_pg_time(rows, row, column + 6),
        .completed_at_us = pgqrs_pg_time(rows, row, column + 7),
        .retry_at_us = pgqrs_pg_time(rows, row, column + 8),
    };
    if (pgqrs_pg_dup(rows, row, column, &step->name, err) < 0 ||
        pgqrs_pg_dup(rows, row, column + 3, &step->output, err) < 0) {
        return -1;
    }
    return pgqrs_pg_dup(rows, row, column + 4, &step->error, err);
}

int pgqrs_pg_read_pair(const PGresult *rows, int row, int column, struct pgqrs_pair *pair,
                       struct pgqrs_error *err)
{
    *pair = (struct pgqrs_pair){.at_us = pgqrs_pg_time(rows, row, column + 2)};
    return pgqrs_pg_dup(rows, row, column, &pair->name, err) < 0
               ? -1
               : pgqrs_pg_dup(rows, row, column + 1, &pair->json, err);
}

static PGresult *ask(struct pgqrs_store *store, const struct pg_stmt *stmt, int64_t id,
                     struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, id);
    PGresult *rows = pgqrs_pg_run(pg_of(store), stmt, &args, true, err);
    pgqrs_pg_args_fini(&args);
    return rows;
}

/* ---- one run ---- */

static const struct pg_stmt run_get = {
    .name = "run_get",
    .sql = "SELECT " RUN_COLUMNS " FROM pgqrs_messages m LEFT JOIN pgqrs_workflow_runs r"
           " ON r.message_id = m.id LEFT JOIN pgqrs_workflows d ON d.id = r.workflow_id"
           " WHERE m.id = $1",
    .param_count = 1,
    .types = {PG_INT8},
};

static int read_one(const PGresult *rows, int64_t message_id, struct pgqrs_run_list *one,
                    struct pgqrs_error *err)
{
    if (PQntuples(rows) == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "message %lld does not exist",
                               (long long)message_id);
    }
    if (pgqrs_pg_is_null(rows, 0, 0)) {
        return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "message %lld has no workflow run",
                               (long long)message_id);
    }
    one->items = calloc(1, sizeof *one->items);
    if (one->items == NULL) {
        return pgqrs_error_memory(err);
    }
    one->count = 1;
    return read_run(rows, 0, one->items, err);
}

int pgqrs_pg_run_get(struct pgqrs_store *store, int64_t message_id, struct pgqrs_run_list *one_out,
                     struct pgqrs_error *err)
{
    PGresult *rows = ask(store, &run_get, message_id, err);
    if (rows == NULL) {
        return -1;
    }
    struct pgqrs_run_list one = {0};
    int rc = read_one(rows, message_id, &one, err);
    PQclear(rows);
    if (rc < 0) {
        pgqrs_run_list_fini(&one);
        return -1;
    }
    *one_out = one;
    return 0;
}

/* ---- listing ---- */

/*
 * $1: run ids below; $2: definition or 0; $3: status; $4: parent or 0; $5: how many. The last
 * column, in every row and in one even when nothing was found: below which id nothing was looked
 * at, NULL when all was.
 */
#define FILTERS "($2 = 0 OR r.workflow_id = $2) AND ($3::text IS NULL OR r.status::text = $3)"
#define OF_RUN                                                                                     \
    " CROSS JOIN LATERAL (SELECT * FROM pgqrs_messages WHERE id = r.message_id OFFSET 0) m"        \
    " CROSS JOIN LATERAL (SELECT name FROM pgqrs_workflows WHERE id = r.workflow_id OFFSET 0) d"
#define LIST_TYPES .param_count = 5, .types = {PG_INT8, PG_INT8, PG_TEXT, PG_INT8, PG_INT8}

static const struct pg_stmt list_walk = {
    .name = "run_list_walk",
    .sql = "SELECT x.*, w.rest FROM (SELECT (SELECT id + 1 FROM pgqrs_workflow_runs WHERE id < $1"
           " ORDER BY id DESC OFFSET 10000 LIMIT 1) AS rest) w LEFT JOIN LATERAL"
           " (SELECT " RUN_COLUMNS " FROM (SELECT * FROM pgqrs_workflow_runs WHERE id < $1"
           " ORDER BY id DESC LIMIT 10000) r" OF_RUN " WHERE " FILTERS
           " AND $4 = 0 ORDER BY r.id DESC LIMIT $5) x ON true",
    LIST_TYPES,
};
/* All the children are looked at: they have no order among themselves. */
static const struct pg_stmt list_children = {
    .name = "run_list_children",
    .sql = "WITH child AS MATERIALIZED (SELECT id FROM pgqrs_messages WHERE pgqrsd_parent_id = $4"
           " ORDER BY pgqrsd_parent_id, id), picked AS MATERIALIZED (SELECT k.id FROM child"
           " CROSS JOIN LATERAL (SELECT id FROM pgqrs_workflow_runs WHERE message_id = child.id"
           " AND id < $1 OFFSET 0) k)"
           " SELECT " RUN_COLUMNS ", NULL::bigint FROM (SELECT id FROM picked ORDER BY id DESC) p"
           " CROSS JOIN LATERAL (SELECT * FROM pgqrs_workflow_runs WHERE id = p.id OFFSET 0) "
           "r" OF_RUN " WHERE " FILTERS " ORDER BY p.id DESC LIMIT $5",
    LIST_TYPES,
};

/* The rows are one more than a page may have, when there are so many. */
static int read_page(const PGresult *rows, uint32_t limit, struct pgqrs_run_list *list,
                     struct pgqrs_error *err)
{
    size_t count = (size_t)PQntuples(rows);
    if (count == 0) {
        return 0;
    }
    list->next_before_id = pgqrs_pg_int(rows, 0, COLUMN_REST);
    if (pgqrs_pg_is_null(rows, 0, 0)) {
        return 0;
    }
    bool more = count > limit;
    count = more ? limit : count;
    list->items = calloc(count, sizeof *list->items);
    if (list->items == NULL) {
        return pgqrs_error_memory(err);
    }
    while (list->count < count) {
        int row = (int)list->count;
        if (read_run(rows, row, &list->items[list->count++], err) < 0) {
            return -1;
        }
    }
    list->next_before_id = more ? list->items[count - 1].id : list->next_before_id;
    return 0;
}

int pgqrs_pg_run_list(struct pgqrs_store *store, const struct pgqrs_run_filter *filter,
                      struct pgqrs_run_list *list_out, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, filter->before_id == 0 ? INT64_MAX : filter->before_id);
    pgqrs_pg_arg_int8(&args, filter->workflow_id);
    pgqrs_pg_arg_text(&args, pgqrs_run_status_name(filter->status));
    pgqrs_pg_arg_int8(&args, filter->parent_id);
    pgqrs_pg_arg_int8(&args, (int64_t)filter->limit + 1);
    PGresult *rows = pgqrs_pg_run(
        pg_of(store), filter->parent_id == 0 ? &list_walk : &list_children, &args, true, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    struct pgqrs_run_list list = {0};
    int rc = read_page(rows, filter->limit, &list, err);
    PQclear(rows);
    if (rc < 0) {
        pgqrs_run_list_fini(&list);
        return -1;
    }
    *list_out = list;
    return 0;
}

/* ---- what belongs to a run ---- */

/* The order is made here: asked for, it would choose a plan that walks the index of that order. */
static const struct pg_stmt run_steps = {
    .name = "run_steps",
    .sql = "WITH s AS MATERIALIZED (SELECT * FROM pgqrs_workflow_steps WHERE run_id ="
           " (SELECT id FROM pgqrs_workflow_runs WHERE message_id = $1))"
           " SELECT " PG_STEP_COLUMNS " FROM s ORDER BY s.id",
    .param_count = 1,
    .types = {PG_INT8},
};
static const struct pg_stmt run_state = {
    .name = "run_state",
    .sql = "SELECT key, value, updated_at FROM pgqrsd_workflow_state WHERE message_id = $1"
           " ORDER BY message_id, key",
    .param_count = 1,
    .types = {PG_INT8},
};
static const struct pg_stmt run_events = {
    .name = "run_events",
    .sql = "SELECT name, payload, created_at FROM pgqrsd_workflow_events WHERE message_id = $1"
           " ORDER BY message_id, name",
    .param_count = 1,
    .types = {PG_INT8},
};

static int read_steps(const PGresult *rows, struct pgqrs_step_list *list, struct pgqrs_error *err)
{
    size_t count = (size_t)PQntuples(rows);
    if (count == 0) {
        return 0;
    }
    list->items = calloc(count, sizeof *list->items);
    if (list->items == NULL) {
        return pgqrs_error_memory(err);
    }
    while (list->count < count) {
        int row = (int)list->count;
        if (pgqrs_pg_read_step(rows, row, 0, &list->items[list->count++], err) < 0) {
            return -1;
        }
    }
    return 0;
}

int pgqrs_pg_run_steps(struct pgqrs_store *store, int64_t message_id,
                       struct pgqrs_step_list *list_out, struct pgqrs_error *err)
{
    PGresult *rows = ask(store, &run_steps, message_id, err);
    if (rows == NULL) {
        return -1;
    }
    struct pgqrs_step_list list = {0};
    int rc = read_steps(rows, &list, err);
    PQclear(rows);
    if (rc < 0) {
        pgqrs_step_list_fini(&list);
        return -1;
    }
    *list_out = list;
    return 0;
}

static int read_pairs(const PGresult *rows, struct pgqrs_pair_list *list, struct pgqrs_error *err)
{
    size_t count = (size_t)PQntuples(rows);
    if (count == 0) {
        return 0;
    }
    list->items = calloc(count, sizeof *list->items);
    if (list->items == NULL) {
        return pgqrs_error_memory(err);
    }
    while (list->count < count) {
        int row = (int)list->count;
        if (pgqrs_pg_read_pair(rows, row, 0, &list->items[list->count++], err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int ask_pairs(struct pgqrs_store *store, const struct pg_stmt *stmt, int64_t message_id,
                     struct pgqrs_pair_list *list_out, struct pgqrs_error *err)
{
    PGresult *rows = ask(store, stmt, message_id, err);
    if (rows == NULL) {
        return -1;
    }
    struct pgqrs_pair_list list = {0};
    int rc = read_pairs(rows, &list, err);
    PQclear(rows);
    if (rc < 0) {
        pgqrs_pair_list_fini(&list);
        return -1;
    }
    *list_out = list;
    return 0;
}

int pgqrs_pg_run_state(struct pgqrs_store *store, int64_t message_id,
                       struct pgqrs_pair_list *list_out, struct pgqrs_error *err)
{
    return ask_pairs(store, &run_state, message_id, list_out, err);
}

int pgqrs_pg_run_events(struct pgqrs_store *store, int64_t message_id,
                        struct pgqrs_pair_list *list_out, struct pgqrs_error *err)
{
    return ask_pairs(store, &run_events, message_id, list_out, err);
}
