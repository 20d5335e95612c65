/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "store/payload.h"
#include "store/postgres/pg_conn.h"
#include "store/postgres/pg_exchange.h"

/*
 * One item in a transaction of its own: the message is locked and looked at; then statements and
 * follow-ups; then what every item does. What they may not, or the database will not take, rolls
 * back all of it.
 */

#define TRIES 3
#define SQL_TIMEOUT "5000" /* ms of one statement; the broker waits for it */

static const struct pg_stmt timeout = {
    .name = "guest_timeout",
    .sql = "SELECT set_config('statement_timeout', '" SQL_TIMEOUT
           "', true), set_config('lock_timeout', '" SQL_TIMEOUT "', true)",
};
/* What a commit would find wrong is found while it can still be told apart. */
static const struct pg_stmt check_constraints = {
    .name = "guest_constraints",
    .sql = "SET CONSTRAINTS ALL IMMEDIATE",
};
static const struct pg_stmt queue_named = {
    .name = "flow_queue",
    .sql = "SELECT id FROM pgqrs_queues WHERE queue_name = $1",
    .param_count = 1,
    .types = {PG_TEXT},
};
static const struct pg_stmt adopt = {
    .name = "flow_adopt",
    .sql = "UPDATE pgqrs_messages m SET pgqrsd_parent_id = $2, pgqrsd_flow = true WHERE m.id = $1"
           " AND m.pgqrsd_parent_id IS NULL",
    .param_count = 2,
    .types = {PG_INT8, PG_INT8},
};
/* $1 message, $2 input */
static const struct pg_stmt again = {
    .name = "flow_again",
    .sql = "INSERT INTO pgqrs_messages (queue_id, payload, vt, enqueued_at, read_ct,"
           " pgqrsd_priority, pgqrsd_parent_id, pgqrsd_flow) SELECT m.queue_id,"
           " jsonb_build_object('input', $2::jsonb), pgqrsd_now(), pgqrsd_now(), 0,"
           " m.pgqrsd_priority, m.pgqrsd_parent_id, true FROM pgqrs_messages m WHERE m.id = $1"
           " RETURNING id",
    .param_count = 2,
    .types = {PG_INT8, PG_JSONB},
};
/* $1 message, $2 its successor */
static const struct pg_stmt hand_on_events = {
    .name = "flow_hand_on",
    .sql = "INSERT INTO pgqrsd_workflow_events (message_id, name, payload, created_at) SELECT $2,"
           " e.name, e.payload, e.created_at FROM pgqrsd_workflow_events e WHERE e.message_id = $1"
           " AND NOT EXISTS (SELECT 1 FROM pgqrs_workflow_steps s WHERE s.run_id = (SELECT r.id"
           " FROM pgqrs_workflow_runs r WHERE r.message_id = $1) AND s.step_name = e.name"
           " AND s.pgqrsd_kind = 'event' AND s.status::text = 'SUCCESS'"
           " AND NOT coalesce(s.output ? 'timed_out', false))",
    .param_count = 2,
    .types = {PG_INT8, PG_INT8},
};

struct one { /* an item at work */
    struct pg_store *s;
    struct pgqrs_flow *item;    /* as given, and for what comes out */
    struct pgqrs_flow now;      /* what is to be applied */
    struct pgqrs_step_put last; /* its last step, with the child's id */
    int64_t child_id;
    char output[48];
    char refusal[sizeof((struct pgqrs_error *)0)->text + 80]; /* why it can not be; empty: it can */
};

static int64_t first_number(struct pg_store *s, const struct pg_stmt *stmt, struct pg_args *args,
                            struct pgqrs_error *err)
{
    PGresult *rows = pgqrs_pg_run(s, stmt, args, false, err);
    pgqrs_pg_args_fini(args);
    if (rows == NULL) {
        return -1;
    }
    int64_t number = PQntuples(rows) > 0 ? pgqrs_pg_int(rows, 0, 0) : 0;
    PQclear(rows);
    return number;
}

/* A failure that is about what was sent, while the connection and the server are well. */
static bool is_refusal(const struct one *one, const struct pgqrs_error *err)
{
    return one->s->conn != NULL && one->s->frame != PG_FRAME_LOST &&
           (err->code == PGQRS_ERR_INVALID || err->code == PGQRS_ERR_NOT_FOUND ||
            err->code == PGQRS_ERR_CONFLICT || err->code == PGQRS_ERR_EXISTS);
}

/* ---- statements ---- */

static int run_bare(struct one *one, const struct pg_stmt *stmt, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    return first_number(one->s, stmt, &args, err) < 0 ? -1 : 0;
}

static int check_now(struct one *one, struct pgqrs_error *err)
{
    struct pgqrs_error why = {0};
    if (run_bare(one, &check_constraints, &why) == 0) {
        return 0;
    }
    if (!is_refusal(one, &why)) {
        return pgqrs_error_set(err, why.code, "%s", why.text);
    }
    (void)snprintf(one->refusal, sizeof one->refusal, "statement: %s", why.text);
    return 1;
}

/* 0, 1 refused, -1. */
static int run_guests(struct one *one, struct pgqrs_error *err)
{
    if (one->now.sql_count == 0) {
        return 0;
    }
    if (one->s->borrowed) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "statements of handlers run in the store's broker only");
    }
    int rc = run_bare(one, &timeout, err);
    for (size_t i = 0; rc == 0 && i < one->now.sql_count; i++) {
        rc = pgqrs_pg_guest(one->s, &one->now.sqls[i], one->refusal, sizeof one->refusal, err);
    }
    return rc == 0 ? check_now(one, err) : rc;
}

/* ---- follow-ups ---- */

static int64_t add_follow_up(struct pg_store *s, const struct pgqrs_follow_up *f, size_t index,
                             struct pgqrs_error *err)
{
    struct pg_args args = {0};
    if (pgqrs_store_check_item(&f->item, index, err) < 0) {
        return -1;
    }
    pgqrs_pg_arg_text(&args, f->queue);
    int64_t queue_id = first_number(s, &queue_named, &args, err);
    int64_t id = -1;
    if (queue_id == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "queue \"%.255s\": there is none",
                               f->queue);
    }
    if (queue_id > 0 && pgqrs_pg_insert(s, queue_id, &f->item, 1, &id, NULL, err) < 0) {
        return -1;
    }
    return id;
}

static int adopt_child(struct one *one, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, one->child_id);
    pgqrs_pg_arg_int8(&args, one->item->lease.message_id);
    return first_number(one->s, &adopt, &args, err) < 0 ? -1 : 0;
}

/* 0, 1 refused, -1. */
static int add_follow_ups(struct one *one, struct pgqrs_error *err)
{
    struct pgqrs_error why = {0};
    for (size_t i = 0; i < one->now.follow_up_count; i++) {
        int64_t id = add_follow_up(one->s, &one->now.follow_ups[i], i, &why);
        if (id < 0 && is_refusal(one, &why)) {
            (void)snprintf(one->refusal, sizeof one->refusal, "enqueue of a follow-up: %s",
                           why.text);
            return 1;
        }
        if (id < 0) {
            return pgqrs_error_set(err, why.code, "%s", why.text);
        }
        if (one->now.child && i == 0) {
            one->child_id = id;
            if (adopt_child(one, err) < 0) {
                return -1;
            }
        }
    }
    return 0;
}

/* ---- a successor ---- */

static int continue_as(struct one *one, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, one->item->lease.message_id);
    pgqrs_pg_arg_bytes(&args, one->now.output.len == 0 ? pgqrs_bytes_from("null") : one->now.output,
                       true);
    int64_t id = first_number(one->s, &again, &args, err);
    if (id < 0) {
        return -1;
    }
    pgqrs_pg_arg_int8(&args, one->item->lease.message_id);
    pgqrs_pg_arg_int8(&args, id);
    if (first_number(one->s, &hand_on_events, &args, err) < 0) {
        return -1;
    }
    (void)snprintf(one->output, sizeof one->output, "{\"continued_as\": %lld}", (long long)id);
    one->now.output = pgqrs_bytes_from(one->output);
    return 0;
}

/* ---- the item ---- */

static int use_set(struct one *one, bool only_look, bool *holds_out, struct pgqrs_error *err)
{
    struct pgqrs_flow *item = &one->now;
    struct pg_flow_set *set = calloc(1, sizeof *set);
    if (set == NULL) {
        return pgqrs_error_memory(err);
    }
    set->items = &item;
    set->count = 1;
    pgqrs_pg_flow_add(set, only_look);
    int rc = pgqrs_pg_flow_run(one->s, set, err);
    if (rc == 0) {
        *holds_out = pgqrs_pg_flow_holds(set, item, &item->status_out);
    }
    pgqrs_pg_batch_fini(&set->batch);
    free(set);
    return rc;
}

/* The steps that come before what the item is about: one by one, since one may be named twice. */
static int put_first_steps(struct one *one, struct pgqrs_error *err)
{
    struct one before = {.s = one->s, .item = one->item, .now = one->now};
    bool holds;
    before.now.what = PGQRS_FLOW_STEP;
    before.now.step_count = 1;
    while (one->now.step_count > 1) {
        before.now.steps = one->now.steps;
        if (use_set(&before, false, &holds, err) < 0) {
            return -1;
        }
        one->now.steps++;
        one->now.step_count--;
    }
    return 0;
}

/* What only a step that is stored, or a run that goes on, brings. 0, 1 refused, -1. */
static int bring(struct one *one, enum pgqrs_run_status status, struct pgqrs_error *err)
{
    bool cancelled = status == PGQRS_RUN_CANCELLING;
    if (one->now.what == PGQRS_FLOW_STEP) {
        int rc = run_guests(one, err);
        return rc == 0 ? add_follow_ups(one, err) : rc;
    }
    if (one->now.what == PGQRS_FLOW_SUCCESS) {
        return cancelled ? 0 : add_follow_ups(one, err);
    }
    if (one->now.what == PGQRS_FLOW_CONTINUE) {
        one->now.what = PGQRS_FLOW_SUCCESS;
        return cancelled ? 0 : continue_as(one, err);
    }
    return 0;
}

static void name_child(struct one *one)
{
    if (one->child_id != 0) {
        (void)snprintf(one->output, sizeof one->output, "%lld", (long long)one->child_id);
        one->last = one->now.steps[one->now.step_count - 1];
        one->last.output = pgqrs_bytes_from(one->output);
        one->now.steps = &one->last;
    }
}

/* 0 done, or there was nothing to do; 1 refused; -1. */
static int apply(struct one *one, struct pgqrs_error *err)
{
    bool holds = false;
    struct pgqrs_flow *item = &one->now;
    if (use_set(one, true, &holds, err) < 0) {
        return -1;
    }
    if (!holds || pgqrs_run_has_ended(item->status_out) ||
        (item->status_out == PGQRS_RUN_NONE && item->what != PGQRS_FLOW_STATE)) {
        return 0; /* judged by the look */
    }
    if (item->what == PGQRS_FLOW_STEP) {
        if (pgqrs_pg_flow_stored(one->s, &item, 1, err) < 0) {
            return -1;
        }
        if (item->output_out != NULL) {
            return 0; /* it had been stored */
        }
    }
    enum pgqrs_run_status status = item->status_out;
    if (put_first_steps(one, err) < 0) {
        return -1;
    }
    int rc = bring(one, status, err);
    if (rc != 0) {
        return rc;
    }
    name_child(one);
    return use_set(one, false, &holds, err);
}

/* In a transaction. 0 done, 1 refused, -1. */
static int try_once(struct one *one, struct pgqrs_error *err)
{
    struct pgqrs_error why = {0};
    one->now = *one->item;
    one->child_id = 0;
    one->refusal[0] = 0;
    if (pgqrs_pg_begin(one->s, err) < 0) {
        return -1;
    }
    int rc = apply(one, &why);
    if (rc < 0 && is_refusal(one, &why)) {
        (void)snprintf(one->refusal, sizeof one->refusal, "it can not be stored: %s", why.text);
        rc = 1;
    }
    if (pgqrs_pg_end(one->s, rc == 0 ? 0 : -1, &why) < 0 && rc == 0) {
        rc = -1;
    }
    if (rc != 0) {
        free(one->now.output_out);
        one->now.output_out = NULL;
    }
    return rc < 0 ? pgqrs_error_set(err, why.code, "%s", why.text) : rc;
}

/* Conflicts with others pass. */
static int try_it(struct one *one, struct pgqrs_error *err)
{
    struct pgqrs_error why = {0};
    int rc = -1;
    for (int i = 0; rc < 0 && i < TRIES; i++) {
        rc = try_once(one, &why);
        if (rc < 0 && (why.code != PGQRS_ERR_AGAIN || one->s->conn == NULL)) {
            break;
        }
    }
    return rc < 0 ? pgqrs_error_set(err, why.code, "%s", why.text) : rc;
}

static int take(struct one *one, struct pgqrs_error *err)
{
    struct pgqrs_flow *item = one->item;
    item->settled_out = one->now.settled_out;
    item->status_out = one->now.status_out;
    item->output_out = one->now.output_out;
    if (item->output_out == NULL && one->child_id != 0) {
        item->output_out = strdup(one->output);
        return item->output_out == NULL ? pgqrs_error_memory(err) : 0;
    }
    return 0;
}

/* ---- errors that are no JSON ---- */

static int append_quoted(struct pgqrs_bytes text, struct pgqrs_buf *out, struct pgqrs_error *err)
{
    size_t size = 6 * text.len + 1;
    char *escaped = malloc(size);
    if (escaped == NULL) {
        return pgqrs_error_memory(err);
    }
    size_t len = pgqrs_escape(escaped, size, text.data, text.len, true, NULL);
    pgqrs_buf_put_u8(out, '"');
    pgqrs_buf_put(out, escaped, len);
    pgqrs_buf_put_u8(out, '"');
    free(escaped);
    return out->failed ? pgqrs_error_memory(err) : 0;
}

/* An error that the database would not take becomes a text, which stays in buf. 1: it did. */
static int mend(struct pgqrs_bytes *error, struct pgqrs_buf *buf, struct pgqrs_error *err)
{
    struct pgqrs_buf compact = {0};
    struct pgqrs_error why;
    bool bad = error->len > 0 && pgqrs_payload_normalise(*error, &compact, &why) < 0;
    pgqrs_buf_fini(&compact);
    if (!bad) {
        return 0;
    }
    if (append_quoted(*error, buf, err) < 0) {
        return -1;
    }
    *error = (struct pgqrs_bytes){.data = (const char *)buf->data, .len = buf->len};
    return 1;
}

/* How many were; -1. */
static int mend_all(struct pgqrs_flow *item, struct pgqrs_step_put *steps, struct pgqrs_buf *bufs,
                    struct pgqrs_error *err)
{
    int mended = mend(&item->error, &bufs[item->step_count], err);
    for (size_t i = 0; mended >= 0 && i < item->step_count; i++) {
        steps[i] = item->steps[i];
        int rc = mend(&steps[i].error, &bufs[i], err);
        mended = rc < 0 ? -1 : mended + rc;
    }
    item->steps = steps;
    return mended;
}

/* The item with its errors mended, if there is one to mend. 0, 1 refused, -1. */
static int try_mended(struct one *one, struct pgqrs_error *err)
{
    struct pgqrs_flow *item = one->item;
    struct pgqrs_flow mended = *item;
    struct pgqrs_buf *bufs = calloc(item->step_count + 1, sizeof *bufs);
    struct pgqrs_step_put *steps = calloc(item->step_count + 1, sizeof *steps);
    int rc = bufs == NULL || steps == NULL ? pgqrs_error_memory(err)
                                           : mend_all(&mended, steps, bufs, err);
    if (rc >= 0) {
        one->item = &mended;
        rc = rc == 0 ? 1 : try_it(one, err);
        one->item = item;
    }
    for (size_t i = 0; bufs != NULL && i <= item->step_count; i++) {
        pgqrs_buf_fini(&bufs[i]);
    }
    free(bufs);
    free(steps);
    return rc;
}

/* ---- when it is refused ---- */

static int say_why(struct one *one, struct pgqrs_error *err)
{
    one->item->error_out = strdup(one->refusal);
    return one->item->error_out == NULL ? pgqrs_error_memory(err) : 0;
}

static int take_failure(struct one *one, struct pgqrs_error *err)
{
    one->item->failed_out = true;
    one->item->settled_out = PGQRS_SETTLED_NONE;
    one->item->status_out = one->now.status_out;
    return say_why(one, err);
}

/* A job must be able to end: with what the database will never take the run fails, and says so. */
static int end_as_failed(struct one *one, struct pgqrs_error *err)
{
    struct pgqrs_buf text = {0};
    struct pgqrs_flow failed = {.lease = one->item->lease, .what = PGQRS_FLOW_ERROR};
    struct one end = {.s = one->s, .item = &failed};
    int rc = append_quoted(pgqrs_bytes_from(one->refusal), &text, err);
    failed.error = (struct pgqrs_bytes){.data = (const char *)text.data, .len = text.len};
    rc = rc == 0 ? try_it(&end, err) : rc;
    pgqrs_buf_fini(&text);
    if (rc != 0) {
        return rc < 0 ? -1 : pgqrs_error_set(err, PGQRS_ERR_FAILED, "%s", end.refusal);
    }
    one->item->settled_out = end.now.settled_out;
    one->item->status_out = end.now.status_out;
    return say_why(one, err);
}

int pgqrs_pg_flow_one(struct pg_store *s, struct pgqrs_flow *item, struct pgqrs_error *err)
{
    struct one one = {.s = s, .item = item};
    int rc = try_it(&one, err);
    if (rc > 0) {
        rc = try_mended(&one, err);
    }
    if (rc < 0) {
        return -1;
    }
    if (rc == 0) {
        return take(&one, err);
    }
    bool may_fail = item->what == PGQRS_FLOW_STEP || item->what == PGQRS_FLOW_STATE;
    return may_fail ? take_failure(&one, err) : end_as_failed(&one, err);
}
