/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Steps, as their workers store them. */

static const struct pgqrs_bytes json_null = {.data = "null", .len = 4};

/* ---- storing ---- */

static struct moment before(const struct moment *now, int64_t ms)
{
    return pgqrs_sqlite_moment(ms <= 0 ? now->us : ms > now->us / 1000 ? 0 : now->us - ms * 1000);
}

static int put_step(const struct flow_item *i, const struct pgqrs_step_put *put,
                    struct pgqrs_error *err)
{
    bool done = put->status == PGQRS_STEP_SUCCESS;
    const struct moment started = before(i->now, put->took_ms);
    const struct moment retry =
        pgqrs_sqlite_moment(pgqrs_sqlite_after(i->now->us, put->retry_ms < 0 ? 0 : put->retry_ms));
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(i->s, STMT_STEP_PUT, err);
    if (stmt == NULL) {
        return -1;
    }
    const struct pgqrs_bytes none = {0};
    const struct pgqrs_bytes output = put->output.len == 0 ? json_null : put->output;
    pgqrs_sqlite_bind_int(stmt, 1, i->run_id);
    pgqrs_sqlite_bind_text(stmt, 2, put->name);
    pgqrs_sqlite_bind_text(stmt, 3, pgqrs_step_status_name(put->status));
    pgqrs_sqlite_bind_bytes(stmt, 4, done ? pgqrs_sqlite_until_zero(output) : none);
    pgqrs_sqlite_bind_bytes(stmt, 5, done ? none : pgqrs_sqlite_until_zero(put->error));
    pgqrs_sqlite_bind_text(stmt, 6, i->now->text);
    pgqrs_sqlite_bind_text(stmt, 7, started.text);
    pgqrs_sqlite_bind_int(stmt, 8, !done && put->retried ? 1 : 0);
    pgqrs_sqlite_bind_text(stmt, 9, done || put->retry_ms < 0 ? NULL : retry.text);
    pgqrs_sqlite_bind_text(stmt, 10, pgqrs_step_kind_name(put->kind));
    return pgqrs_sqlite_run(i->s, stmt, err) < 0 ? -1 : 0;
}

int pgqrs_sqlite_put_steps(const struct flow_item *i, struct pgqrs_error *err)
{
    for (size_t k = 0; k < i->flow->step_count; k++) {
        if (put_step(i, &i->flow->steps[k], err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- one that ends ---- */

static int copy_text(char **out, const char *text, size_t len, struct pgqrs_error *err)
{
    free(*out);
    *out = strndup(text, len);
    return *out == NULL ? pgqrs_error_memory(err) : 0;
}

int pgqrs_sqlite_flow_failed(const struct flow_item *i, const struct flow_trouble *trouble,
                             struct pgqrs_error *err)
{
    i->flow->failed_out = true;
    i->flow->settled_out = PGQRS_SETTLED_NONE;
    i->flow->status_out = i->status;
    return copy_text(&i->flow->error_out, trouble->text, strlen(trouble->text), err);
}

/* 1 it is SUCCESS already, and its output is given; 0, or -1. */
static int was_stored(const struct flow_item *i, const struct pgqrs_step_put *put,
                      struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(i->s, STMT_STEP_STORED, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, i->run_id);
    pgqrs_sqlite_bind_text(stmt, 2, put->name);
    int rc = pgqrs_sqlite_step(i->s, stmt, err);
    if (rc > 0) {
        struct pgqrs_bytes output = pgqrs_sqlite_bytes(stmt, 0);
        output = output.data == NULL ? json_null : output;
        rc = copy_text(&i->flow->output_out, output.data, output.len, err) < 0 ? -1 : 1;
        (void)sqlite3_reset(stmt); /* the row was read */
    }
    return rc;
}

/* Outputs and errors must be JSON, for whoever reads the rows. */
static int check_steps(const struct flow_item *i, struct flow_trouble *trouble,
                       struct pgqrs_error *err)
{
    for (size_t k = 0; k < i->flow->step_count; k++) {
        const struct pgqrs_step_put *put = &i->flow->steps[k];
        struct pgqrs_bytes json =
            put->status == PGQRS_STEP_SUCCESS && put->output.len > 0 ? put->output : json_null;
        int rc = pgqrs_sqlite_is_json(i->s, pgqrs_sqlite_until_zero(json), err);
        if (rc < 0) {
            return -1;
        }
        if (rc == 0) {
            (void)snprintf(trouble->text, sizeof trouble->text,
                           "step \"%s\": found an output that is not JSON, expected one JSON value",
                           put->name);
            return 0;
        }
    }
    return 0;
}

static int run_sqls(const struct flow_item *i, struct flow_trouble *trouble,
                    struct pgqrs_error *err)
{
    for (size_t k = 0; trouble->text[0] == 0 && k < i->flow->sql_count; k++) {
        if (pgqrs_sqlite_guest(i->s, &i->flow->sqls[k], trouble, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The step's output is its child's id. */
static int adopt(const struct flow_item *i, int64_t child, struct pgqrs_step_put *put,
                 struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(i->s, STMT_MESSAGE_ADOPT, err);
    char text[24];
    int len = snprintf(text, sizeof text, "%lld", (long long)child);
    if (stmt == NULL || copy_text(&i->flow->output_out, text, (size_t)len, err) < 0) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, child);
    pgqrs_sqlite_bind_int(stmt, 2, i->flow->lease.message_id);
    put->output = pgqrs_bytes_from(i->flow->output_out);
    return pgqrs_sqlite_run(i->s, stmt, err) < 0 ? -1 : 0;
}

static int bring_and_put(const struct flow_item *i, struct pgqrs_error *err)
{
    struct pgqrs_flow *flow = i->flow;
    int64_t first = 0;
    if (pgqrs_sqlite_add_follow_ups(i->s, flow->follow_ups, flow->follow_up_count, i->now, &first,
                                    err) < 0) {
        return -1;
    }
    struct pgqrs_step_put last = flow->steps[flow->step_count - 1];
    if (flow->child && adopt(i, first, &last, err) < 0) {
        return -1;
    }
    for (size_t k = 0; k + 1 < flow->step_count; k++) {
        if (put_step(i, &flow->steps[k], err) < 0) {
            return -1;
        }
    }
    return put_step(i, &last, err);
}

/* Undoes what the statements of the item have done, unless they ended the transaction. */
static int undo(const struct flow_item *i, struct pgqrs_error *err)
{
    if (i->flow->sql_count == 0 || sqlite3_get_autocommit(i->s->db) != 0) {
        return 0;
    }
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(i->s, STMT_ITEM_ROLLBACK, err);
    return stmt == NULL ? -1 : pgqrs_sqlite_step(i->s, stmt, err);
}

static int bring(const struct flow_item *i, struct flow_trouble *trouble, struct pgqrs_error *err)
{
    struct pgqrs_flow *flow = i->flow;
    if (check_steps(i, trouble, err) < 0 ||
        (trouble->text[0] == 0 &&
         pgqrs_sqlite_check_follow_ups(i->s, flow->follow_ups, flow->follow_up_count, trouble->text,
                                       sizeof trouble->text, err) < 0)) {
        return -1;
    }
    if (trouble->text[0] != 0) {
        return 0;
    }
    if (flow->sql_count > 0) {
        sqlite3_stmt *stmt = pgqrs_sqlite_stmt(i->s, STMT_ITEM, err);
        if (stmt == NULL || pgqrs_sqlite_step(i->s, stmt, err) < 0) {
            return -1;
        }
    }
    if (run_sqls(i, trouble, err) < 0) {
        return -1;
    }
    return trouble->text[0] != 0 ? undo(i, err) : bring_and_put(i, err);
}

int pgqrs_sqlite_flow_step(const struct flow_item *i, struct pgqrs_error *err)
{
    struct pgqrs_flow *flow = i->flow;
    struct flow_trouble trouble = {""};
    int stored = was_stored(i, &flow->steps[flow->step_count - 1], err);
    if (stored != 0) {
        flow->settled_out = PGQRS_SETTLED_BEFORE;
        return stored < 0 ? -1 : 0;
    }
    if (bring(i, &trouble, err) < 0) {
        return -1;
    }
    if (flow->sql_count > 0 && sqlite3_get_autocommit(i->s->db) == 0) {
        sqlite3_stmt *stmt = pgqrs_sqlite_stmt(i->s, STMT_ITEM_RELEASE, err);
        if (stmt == NULL || pgqrs_sqlite_step(i->s, stmt, err) < 0) {
            return -1;
        }
    }
    return trouble.text[0] != 0 ? pgqrs_sqlite_flow_failed(i, &trouble, err) : 0;
}
