/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What workers do to the runs that they have leased: begin them, store their steps, end them. */

/* ---- beginning ---- */

/* 1 the lease holds, 0, or -1. */
static int64_t mark(struct sqlite_store *s, const struct pgqrs_lease_ref *lease,
                    struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_OPEN_MESSAGE, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, lease->message_id);
    pgqrs_sqlite_bind_int(stmt, 2, lease->worker_id);
    pgqrs_sqlite_bind_int(stmt, 3, lease->attempt);
    return pgqrs_sqlite_run(s, stmt, err);
}

static int start_run(struct sqlite_store *s, int64_t workflow_id, struct pgqrs_run_open *open,
                     const struct moment *now, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_OPEN_RUN, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, open->lease.message_id);
    pgqrs_sqlite_bind_int(stmt, 2, workflow_id);
    pgqrs_sqlite_bind_text(stmt, 3, now->text);
    pgqrs_sqlite_bind_int(stmt, 4, open->lease.worker_id);
    if (pgqrs_sqlite_step(s, stmt, err) < 0) {
        return -1;
    }
    open->run_id = sqlite3_column_int64(stmt, 0);
    open->status = pgqrs_run_status_from(pgqrs_sqlite_bytes(stmt, 1));
    return pgqrs_sqlite_step(s, stmt, err);
}

static int open_run(struct sqlite_store *s, int64_t workflow_id, struct pgqrs_run_open *open,
                    const struct moment *now, struct pgqrs_error *err)
{
    int64_t held = mark(s, &open->lease, err);
    if (held <= 0) {
        return (int)held;
    }
    open->held = true;
    if (start_run(s, workflow_id, open, now, err) < 0 ||
        pgqrs_sqlite_read_steps(s, open->lease.message_id, &open->steps, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_read_pairs(s, STMT_RUN_EVENTS, open->lease.message_id, &open->events, err);
}

int pgqrs_sqlite_run_open(struct pgqrs_store *store, int64_t workflow_id,
                          struct pgqrs_run_open *opens, size_t count, int64_t *now_us_out,
                          struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin_unsynced(s, err) < 0) {
        return -1;
    }
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = open_run(s, workflow_id, &opens[i], &now, err);
    }
    *now_us_out = now.us;
    return (int)pgqrs_sqlite_end(s, rc, err);
}

/* ---- ending ---- */

static int end_run(const struct flow_item *i, enum pgqrs_run_status status,
                   struct pgqrs_bytes output, struct pgqrs_bytes error, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(i->s, STMT_RUN_END, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, i->run_id);
    pgqrs_sqlite_bind_text(stmt, 2, pgqrs_run_status_name(status));
    pgqrs_sqlite_bind_bytes(stmt, 3, output);
    pgqrs_sqlite_bind_bytes(stmt, 4, error);
    pgqrs_sqlite_bind_text(stmt, 5, i->now->text);
    i->flow->status_out = status;
    return pgqrs_sqlite_run(i->s, stmt, err) < 0 ? -1 : 0;
}

static int settle(const struct flow_item *i, enum pgqrs_settle how, struct pgqrs_bytes error,
                  int64_t delay_ms, struct pgqrs_error *err)
{
    const struct pgqrs_lease_ref *lease = &i->flow->lease;
    struct pgqrs_settlement item = {.message_id = lease->message_id,
                                    .worker_id = lease->worker_id,
                                    .attempt = lease->attempt,
                                    .how = how,
                                    .delay_ms = delay_ms,
                                    .error = error};
    return pgqrs_sqlite_settle(i->s, &item, i->now, err);
}

/* Ends the run as failed or cancelled, and its message; error is JSON, or empty. */
static int end_with_error(const struct flow_item *i, enum pgqrs_run_status status,
                          struct pgqrs_bytes error, struct pgqrs_error *err)
{
    enum pgqrs_settle how = status == PGQRS_RUN_CANCELLED ? PGQRS_SETTLE_CANCEL : PGQRS_SETTLE_DEAD;
    error = pgqrs_sqlite_until_zero(error);
    if (end_run(i, status, (struct pgqrs_bytes){0}, error, err) < 0) {
        return -1;
    }
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(i->s, STMT_JSON_TEXT, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_bytes(stmt, 1, error);
    int rc = pgqrs_sqlite_step(i->s, stmt, err);
    if (rc > 0) {
        rc = settle(i, how, pgqrs_sqlite_bytes(stmt, 0), 0, err);
        (void)sqlite3_reset(stmt); /* the row was read */
    }
    return rc;
}

static int fail_run(const struct flow_item *i, const char *why, struct pgqrs_error *err)
{
    return end_with_error(i, PGQRS_RUN_ERROR, pgqrs_bytes_from(why), err);
}

static int end_as_done(const struct flow_item *i, struct pgqrs_error *err)
{
    struct pgqrs_flow *flow = i->flow;
    struct flow_trouble trouble = {""};
    int64_t first;
    struct pgqrs_bytes output = pgqrs_sqlite_until_zero(flow->output);
    output = output.len == 0 ? pgqrs_bytes_from("null") : output;
    int json = pgqrs_sqlite_is_json(i->s, output, err);
    if (json == 0) {
        return fail_run(i, "found an output that is not JSON, expected one JSON value", err);
    }
    if (json < 0 || pgqrs_sqlite_check_follow_ups(i->s, flow->follow_ups, flow->follow_up_count,
                                                  trouble.text, sizeof trouble.text, err) < 0) {
        return -1;
    }
    if (trouble.text[0] != 0) {
        return fail_run(i, trouble.text, err);
    }
    if (pgqrs_sqlite_add_follow_ups(i->s, flow->follow_ups, flow->follow_up_count, i->now, &first,
                                    err) < 0 ||
        end_run(i, PGQRS_RUN_SUCCESS, output, (struct pgqrs_bytes){0}, err) < 0) {
        return -1;
    }
    return settle(i, PGQRS_SETTLE_ARCHIVE, (struct pgqrs_bytes){0}, 0, err);
}

/* ---- going on as another run ---- */

static int carry_events(const struct flow_item *i, int64_t to, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(i->s, STMT_CONTINUE_EVENTS, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, i->flow->lease.message_id);
    pgqrs_sqlite_bind_int(stmt, 2, to);
    pgqrs_sqlite_bind_int(stmt, 3, i->run_id);
    return pgqrs_sqlite_run(i->s, stmt, err) < 0 ? -1 : 0;
}

static int continue_as(const struct flow_item *i, struct pgqrs_bytes input, struct pgqrs_error *err)
{
    struct pgqrs_buf wrapped = {0};
    char output[64];
    int rc = pgqrs_workflow_wrap(input, &wrapped, err);
    const struct pgqrs_bytes payload = {.data = (const char *)wrapped.data, .len = wrapped.len};
    int64_t id = rc < 0 ? -1
                        : pgqrs_sqlite_message_again(i->s, i->flow->lease.message_id, payload, true,
                                                     i->now, err);
    pgqrs_buf_fini(&wrapped);
    if (id < 0 || carry_events(i, id, err) < 0) {
        return -1;
    }
    int len = snprintf(output, sizeof output, "{\"continued_as\": %lld}", (long long)id);
    if (end_run(i, PGQRS_RUN_SUCCESS, (struct pgqrs_bytes){output, (size_t)len},
                (struct pgqrs_bytes){0}, err) < 0) {
        return -1;
    }
    return settle(i, PGQRS_SETTLE_ARCHIVE, (struct pgqrs_bytes){0}, 0, err);
}

static int end_as_continued(const struct flow_item *i, struct pgqrs_error *err)
{
    struct pgqrs_bytes input = pgqrs_sqlite_until_zero(i->flow->output);
    input = input.len == 0 ? pgqrs_bytes_from("null") : input;
    int json = pgqrs_sqlite_is_json(i->s, input, err);
    if (json < 0) {
        return -1;
    }
    return json > 0 ? continue_as(i, input, err)
                    : fail_run(i, "found an input that is not JSON, expected one JSON value", err);
}

/* ---- suspending ---- */

static int event_is_there(const struct flow_item *i, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt =
        i->flow->name == NULL ? NULL : pgqrs_sqlite_stmt(i->s, STMT_EVENT_THERE, err);
    if (stmt == NULL) {
        return i->flow->name == NULL ? 0 : -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, i->flow->lease.message_id);
    pgqrs_sqlite_bind_text(stmt, 2, i->flow->name);
    int there = pgqrs_sqlite_step(i->s, stmt, err);
    (void)sqlite3_reset(stmt); /* the row is enough */
    return there;
}

static int pause_run(const struct flow_item *i, struct pgqrs_error *err)
{
    const struct pgqrs_flow *flow = i->flow;
    sqlite3_stmt *stmt =
        pgqrs_sqlite_stmt(i->s, flow->paused ? STMT_RUN_PAUSE : STMT_RUN_AWAIT, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, i->run_id);
    if (flow->paused) {
        pgqrs_sqlite_bind_bytes(stmt, 2, pgqrs_sqlite_until_zero(flow->error));
        pgqrs_sqlite_bind_text(stmt, 3, i->now->text);
        pgqrs_sqlite_bind_text(stmt, 4, flow->name);
        i->flow->status_out = PGQRS_RUN_PAUSED;
    } else {
        pgqrs_sqlite_bind_text(stmt, 2, flow->name);
    }
    return pgqrs_sqlite_run(i->s, stmt, err) < 0 ? -1 : 0;
}

static int suspend(const struct flow_item *i, struct pgqrs_error *err)
{
    int at_once = i->status == PGQRS_RUN_CANCELLING ? 1 : event_is_there(i, err);
    if (at_once < 0 || (at_once == 0 && pause_run(i, err) < 0)) {
        return -1;
    }
    int64_t delay_ms = i->flow->delay_ms < 0 ? INT64_MAX : i->flow->delay_ms;
    return settle(i, PGQRS_SETTLE_SNOOZE, (struct pgqrs_bytes){0}, at_once ? 0 : delay_ms, err);
}

/* ---- state ---- */

static int put_state(const struct flow_item *i, struct pgqrs_error *err)
{
    const struct pgqrs_flow *flow = i->flow;
    struct pgqrs_bytes value = pgqrs_sqlite_until_zero(flow->output);
    value = value.len == 0 ? pgqrs_bytes_from("null") : value;
    int json = pgqrs_sqlite_is_json(i->s, value, err);
    if (json <= 0) {
        const struct flow_trouble trouble = {
            "state: found a value that is not JSON, expected one JSON value"};
        return json < 0 ? -1 : pgqrs_sqlite_flow_failed(i, &trouble, err);
    }
    sqlite3_stmt *stmt =
        pgqrs_sqlite_run_about(i->s, STMT_MESSAGE_MARK, flow->lease.message_id, err) < 0
            ? NULL
            : pgqrs_sqlite_stmt(i->s, STMT_STATE_PUT, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, flow->lease.message_id);
    pgqrs_sqlite_bind_text(stmt, 2, flow->name);
    pgqrs_sqlite_bind_bytes(stmt, 3, value);
    pgqrs_sqlite_bind_text(stmt, 4, i->now->text);
    if (pgqrs_sqlite_run(i->s, stmt, err) < 0) {
        return -1;
    }
    return i->run_id == 0 ? 0 : pgqrs_sqlite_put_steps(i, err);
}

/* ---- an item ---- */

static int carry_out(const struct flow_item *i, struct pgqrs_error *err)
{
    struct pgqrs_flow *flow = i->flow;
    flow->settled_out = PGQRS_SETTLED_YES;
    flow->status_out = i->status;
    if (flow->what == PGQRS_FLOW_STEP) {
        return pgqrs_sqlite_flow_step(i, err);
    }
    if (flow->what == PGQRS_FLOW_STATE) {
        return put_state(i, err);
    }
    if (pgqrs_sqlite_put_steps(i, err) < 0) {
        return -1;
    }
    if (flow->what == PGQRS_FLOW_SUSPEND) {
        return suspend(i, err);
    }
    if (flow->what == PGQRS_FLOW_CANCEL || i->status == PGQRS_RUN_CANCELLING) {
        return end_with_error(i, PGQRS_RUN_CANCELLED, flow->error, err);
    }
    if (flow->what == PGQRS_FLOW_ERROR) {
        return end_with_error(i, PGQRS_RUN_ERROR, flow->error, err);
    }
    return flow->what == PGQRS_FLOW_SUCCESS ? end_as_done(i, err) : end_as_continued(i, err);
}

/* What the rows tell of an item. */
struct seen {
    bool ours;      /* the lease is or was the item's */
    bool archived;  /* the message has ended */
    bool suspended; /* given back by this worker and attempt, its run paused */
};

static int look_at(struct flow_item *i, struct seen *seen, struct pgqrs_error *err)
{
    const struct pgqrs_lease_ref *lease = &i->flow->lease;
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(i->s, STMT_FLOW_LOOK, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, lease->message_id);
    pgqrs_sqlite_bind_int(stmt, 2, lease->worker_id);
    pgqrs_sqlite_bind_int(stmt, 3, lease->attempt);
    int rc = pgqrs_sqlite_step(i->s, stmt, err);
    if (rc > 0) {
        *seen = (struct seen){.ours = sqlite3_column_int(stmt, 0) != 0,
                              .archived = sqlite3_column_int(stmt, 1) != 0,
                              .suspended = sqlite3_column_int(stmt, 2) != 0};
        i->run_id = sqlite3_column_int64(stmt, 3);
        i->status = pgqrs_run_status_from(pgqrs_sqlite_bytes(stmt, 4));
        (void)sqlite3_reset(stmt); /* the row was read */
    }
    return rc < 0 ? -1 : 0;
}

static bool ends_run(enum pgqrs_flow_what what)
{
    return what == PGQRS_FLOW_SUCCESS || what == PGQRS_FLOW_ERROR || what == PGQRS_FLOW_CANCEL ||
           what == PGQRS_FLOW_CONTINUE;
}

static int apply(struct sqlite_store *s, struct pgqrs_flow *flow, const struct moment *now,
                 struct pgqrs_error *err)
{
    struct flow_item i = {.s = s, .flow = flow, .now = now};
    struct seen seen = {0};
    if (look_at(&i, &seen, err) < 0) {
        return -1;
    }
    bool needs_run = flow->what != PGQRS_FLOW_STATE;
    if (seen.ours && !seen.archived && !pgqrs_run_has_ended(i.status) &&
        (i.run_id != 0 || !needs_run)) {
        return carry_out(&i, err);
    }
    bool before = ends_run(flow->what) ? seen.ours && seen.archived
                                       : flow->what == PGQRS_FLOW_SUSPEND && seen.suspended;
    flow->settled_out = before ? PGQRS_SETTLED_BEFORE : PGQRS_SETTLED_REFUSED;
    flow->status_out = i.status;
    return 0;
}

/* ---- all of them ---- */

static void clear(struct pgqrs_flow *item)
{
    pgqrs_flow_fini(item);
    item->settled_out = PGQRS_SETTLED_NONE;
    item->status_out = PGQRS_RUN_NONE;
}

/* 1: a statement of an item, which has failed, has ended the transaction with all that was in it.
 */
static int apply_all(struct sqlite_store *s, struct pgqrs_flow *items, size_t count,
                     struct pgqrs_error *err)
{
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    for (size_t i = 0; i < count; i++) {
        if (items[i].failed_out) {
            continue; /* it has ended a transaction */
        }
        clear(&items[i]);
        if (apply(s, &items[i], &now, err) < 0) {
            return -1;
        }
        if (sqlite3_get_autocommit(s->db) != 0) {
            return items[i].failed_out
                       ? 1
                       : pgqrs_error_set(err, PGQRS_ERR_FAILED,
                                         "store \"%s\": the transaction has ended", s->shown);
        }
    }
    return 0;
}

int pgqrs_sqlite_flow(struct pgqrs_store *store, struct pgqrs_flow *items, size_t count,
                      struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    int rc = 1;
    while (rc > 0) {
        if (pgqrs_sqlite_begin(s, err) < 0) {
            rc = -1;
            break;
        }
        rc = apply_all(s, items, count, err);
        int64_t ended = pgqrs_sqlite_end(s, rc == 0 ? 0 : -1, err);
        rc = rc > 0 ? rc : (int)ended;
    }
    for (size_t i = 0; rc < 0 && i < count; i++) {
        clear(&items[i]);
        items[i].failed_out = false;
    }
    return rc;
}
