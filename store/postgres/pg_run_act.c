/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_flow.h"

#include <stdlib.h>

/* What people and other jobs do to a run: one round trip each, the message's row locked first. */

#define RUN_OF "pgqrs_workflow_runs r WHERE r.message_id = $1"

static const struct pg_stmt lock = {
    .name = "run_lock",
    .sql = "SELECT consumer_worker_id IS NOT NULL, archived_at IS NOT NULL FROM pgqrs_messages"
           " WHERE id = $1 FOR NO KEY UPDATE",
    .param_count = 1,
    .types = {PG_INT8},
};
static const struct pg_stmt status_of = {
    .name = "run_status",
    .sql = "SELECT r.status::text FROM " RUN_OF,
    .param_count = 1,
    .types = {PG_INT8},
};

static int no_message(int64_t message_id, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "message %lld does not exist",
                           (long long)message_id);
}

/* All of them have the message's id as their only parameter. */
static int run_all(struct pgqrs_store *store, struct pg_batch *batch,
                   const struct pg_stmt *const *stmts, size_t count, int64_t message_id,
                   struct pgqrs_error *err)
{
    for (size_t i = 0; i < count; i++) {
        pgqrs_pg_arg_int8(pgqrs_pg_batch_add(batch, stmts[i]), message_id);
    }
    if (pgqrs_pg_batch_run(pg_of(store), batch, err) < 0) {
        return -1;
    }
    return PQntuples(batch->results[0]) > 0 ? 0 : no_message(message_id, err);
}

/* ---- cancelling ---- */

/* Of a message that has ended nobody would see it. */
static const struct pg_stmt cancel_run = {
    .name = "run_cancel",
    .sql = "UPDATE pgqrs_workflow_runs r SET status = CASE WHEN m.archived_at IS NULL"
           " THEN 'CANCELLING'::pgqrs_workflow_status ELSE 'CANCELLED' END,"
           " completed_at = CASE WHEN m.archived_at IS NOT NULL THEN pgqrsd_now() END,"
           " updated_at = pgqrsd_now() FROM pgqrs_messages m WHERE r.message_id = $1 AND m.id = $1"
           " AND r.status::text IN ('QUEUED', 'RUNNING', 'PAUSED')",
    .param_count = 1,
    .types = {PG_INT8},
};
static const struct pg_stmt cancel_due = {
    .name = "run_cancel_due",
    .sql =
        PG_WAKING "UPDATE pgqrs_messages m SET vt = pgqrsd_now() WHERE m.id = $1 AND " PG_IS_PENDING
                  " AND m.vt > pgqrsd_now() AND EXISTS (SELECT 1 FROM " RUN_OF
                  " AND r.status::text = 'CANCELLING')",
    .param_count = 1,
    .types = {PG_INT8},
};
static const struct pg_stmt cancel_message = {
    .name = "run_cancel_message",
    .sql = "UPDATE pgqrs_messages m SET archived_at = pgqrsd_now(), pgqrsd_outcome = 'cancelled',"
           " pgqrsd_result = NULL WHERE m.id = $1 AND " PG_IS_PENDING
           " AND NOT EXISTS (SELECT 1 FROM " RUN_OF ")",
    .param_count = 1,
    .types = {PG_INT8},
};

static int judge_cancel(const struct pg_batch *batch, int64_t message_id,
                        enum pgqrs_run_status *status_out, struct pgqrs_error *err)
{
    const PGresult *status = batch->results[4];
    if (PQntuples(status) > 0) {
        *status_out = pgqrs_run_status_from(pgqrs_pg_bytes(status, 0, 0));
        return 0;
    }
    if (pgqrs_pg_count(batch->results[3]) > 0) {
        *status_out = PGQRS_RUN_CANCELLED;
        return 0;
    }
    bool ended = pgqrs_pg_bool(batch->results[0], 0, 1);
    return pgqrs_error_set(err, PGQRS_ERR_CONFLICT, "message %lld has no workflow run, and %s",
                           (long long)message_id, ended ? "has ended" : "is leased");
}

int pgqrs_pg_run_cancel(struct pgqrs_store *store, int64_t message_id,
                        enum pgqrs_run_status *status_out, struct pgqrs_error *err)
{
    static const struct pg_stmt *const stmts[] = {&lock, &cancel_run, &cancel_due, &cancel_message,
                                                  &status_of};
    struct pg_batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL) {
        return pgqrs_error_memory(err);
    }
    int rc = run_all(store, batch, stmts, sizeof stmts / sizeof *stmts, message_id, err);
    if (rc == 0) {
        rc = judge_cancel(batch, message_id, status_out, err);
    }
    pgqrs_pg_batch_fini(batch);
    free(batch);
    return rc;
}

/* ---- resuming ---- */

#define WAITS "EXISTS (SELECT 1 FROM pgqrs_messages m WHERE m.id = $1 AND " PG_IS_PENDING ")"

/* One that waits for an event for ever has no time. */
static const struct pg_stmt resume_steps = {
    .name = "run_resume_steps",
    .sql = "UPDATE pgqrs_workflow_steps s SET retry_at = pgqrsd_now() WHERE s.run_id ="
           " (SELECT r.id FROM " RUN_OF " AND NOT (" PG_RUN_ENDED(
               "r.status") ")) AND s.status::text = 'ERROR' AND (s.retry_at > pgqrsd_now()"
                           " OR (s.retry_at IS NULL AND s.pgqrsd_kind IN ('sleep', 'event')))"
                           " AND " WAITS,
    .param_count = 1,
    .types = {PG_INT8},
};
static const struct pg_stmt resume_message = {
    .name = "run_resume_message",
    .sql =
        PG_WAKING "UPDATE pgqrs_messages m SET vt = pgqrsd_now() WHERE m.id = $1 AND " PG_IS_PENDING
                  " AND m.vt > pgqrsd_now() AND EXISTS (SELECT 1 FROM " RUN_OF
                  " AND NOT (" PG_RUN_ENDED("r.status") "))",
    .param_count = 1,
    .types = {PG_INT8},
};

int pgqrs_pg_run_resume(struct pgqrs_store *store, int64_t message_id, bool *woken_out,
                        struct pgqrs_error *err)
{
    static const struct pg_stmt *const stmts[] = {&lock, &resume_steps, &resume_message,
                                                  &status_of};
    struct pg_batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL) {
        return pgqrs_error_memory(err);
    }
    int rc = run_all(store, batch, stmts, sizeof stmts / sizeof *stmts, message_id, err);
    if (rc == 0 && PQntuples(batch->results[3]) == 0) {
        rc = pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "message %lld has no workflow run",
                             (long long)message_id);
    }
    if (rc == 0) {
        *woken_out = pgqrs_pg_count(batch->results[1]) > 0 || pgqrs_pg_count(batch->results[2]) > 0;
    }
    pgqrs_pg_batch_fini(batch);
    free(batch);
    return rc;
}

/* ---- forking ---- */

/* $1 message, $2 step or NULL, $3 input or NULL */
static const struct pg_stmt fork_run = {
    .name = "run_fork",
    .sql =
        "WITH old AS MATERIALIZED (SELECT r.id, r.workflow_id, m.queue_id, m.pgqrsd_priority AS"
        " priority, CASE WHEN $3::jsonb IS NULL THEN coalesce(r.input, m.payload)"
        " ELSE jsonb_build_object('input', $3::jsonb) END AS input, (SELECT s.id FROM"
        " pgqrs_workflow_steps s WHERE s.run_id = r.id AND s.step_name = $2) AS at"
        " FROM pgqrs_messages m JOIN pgqrs_workflow_runs r ON r.message_id = m.id WHERE m.id = $1),"
        " kept AS MATERIALIZED (SELECT s.* FROM old CROSS JOIN LATERAL (SELECT * FROM"
        " pgqrs_workflow_steps WHERE run_id = old.id AND status::text = 'SUCCESS'"
        " AND ($2 IS NULL OR id < old.at) OFFSET 0) s),"
        " message AS (INSERT INTO pgqrs_messages (queue_id, payload, vt, enqueued_at, read_ct,"
        " pgqrsd_priority, pgqrsd_flow) SELECT queue_id, input, pgqrsd_now(), pgqrsd_now(), 0,"
        " priority, true FROM old WHERE $2 IS NULL OR at IS NOT NULL RETURNING id),"
        " run AS (INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status, input,"
        " created_at, updated_at) SELECT old.workflow_id, message.id, 'QUEUED', old.input,"
        " pgqrsd_now(), pgqrsd_now() FROM old, message RETURNING id),"
        " steps AS (INSERT INTO pgqrs_workflow_steps (run_id, step_name, status, input, output,"
        " created_at, updated_at, started_at, completed_at, retry_count, last_retry_at,"
        " pgqrsd_kind) SELECT run.id, k.step_name, k.status, k.input, k.output, k.created_at,"
        " k.updated_at, k.started_at, k.completed_at, k.retry_count, k.last_retry_at,"
        " k.pgqrsd_kind FROM run CROSS JOIN (SELECT * FROM kept ORDER BY id) k)"
        " SELECT message.id FROM message",
    .param_count = 3,
    .types = {PG_INT8, PG_TEXT, PG_JSONB},
};

static int nothing_to_fork(struct pgqrs_store *store, int64_t message_id, const char *from_step,
                           struct pgqrs_error *err)
{
    struct pgqrs_run_list one = {0};
    if (pgqrs_pg_run_get(store, message_id, &one, err) < 0) {
        return -1;
    }
    pgqrs_run_list_fini(&one);
    return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "step \"%s\" of message %lld does not exist",
                           from_step == NULL ? "" : from_step, (long long)message_id);
}

int pgqrs_pg_run_fork(struct pgqrs_store *store, int64_t message_id, const char *from_step,
                      struct pgqrs_bytes input, int64_t *message_id_out, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, message_id);
    pgqrs_pg_arg_text(&args, from_step);
    if (input.len == 0) {
        pgqrs_pg_arg_null(&args);
    } else {
        pgqrs_pg_arg_bytes(&args, input, true);
    }
    PGresult *row = pgqrs_pg_run(pg_of(store), &fork_run, &args, false, err);
    pgqrs_pg_args_fini(&args);
    if (row == NULL) {
        return -1;
    }
    int64_t id = PQntuples(row) > 0 ? pgqrs_pg_int(row, 0, 0) : 0;
    PQclear(row);
    if (id == 0) {
        return nothing_to_fork(store, message_id, from_step, err);
    }
    *message_id_out = id;
    return 0;
}

/* ---- events ---- */

enum sent { SENT_NO_MESSAGE, SENT_ENDED, SENT_AGAIN, SENT_FIRST }; /* see pg_ddl_flow.c */

static const struct pg_stmt send_event = {
    .name = "event_send",
    .sql = "SELECT pgqrsd_send_event($1, $2, $3)",
    .param_count = 3,
    .types = {PG_INT8, PG_TEXT, PG_JSONB},
};

int pgqrs_pg_event_send(struct pgqrs_store *store, int64_t message_id, const char *name,
                        struct pgqrs_bytes payload, bool *first_out, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, message_id);
    pgqrs_pg_arg_text(&args, name);
    pgqrs_pg_arg_bytes(&args, payload.len == 0 ? pgqrs_bytes_from("null") : payload, true);
    PGresult *row = pgqrs_pg_run(pg_of(store), &send_event, &args, false, err);
    pgqrs_pg_args_fini(&args);
    if (row == NULL) {
        return -1;
    }
    int64_t sent = pgqrs_pg_int(row, 0, 0);
    PQclear(row);
    if (sent == SENT_NO_MESSAGE) {
        return no_message(message_id, err);
    }
    if (sent == SENT_ENDED) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT, "message %lld, or its run, has ended",
                               (long long)message_id);
    }
    *first_out = sent == SENT_FIRST;
    return 0;
}
