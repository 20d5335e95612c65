/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_flow.h"

/* What people, and other runs, do to a run: cancel, resume, fork, send it an event. */

int64_t pgqrs_sqlite_run_at(struct sqlite_store *s, enum sqlite_stmt_id stmt_id, int64_t message_id,
                            const char *time, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, stmt_id, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, message_id);
    pgqrs_sqlite_bind_text(stmt, 2, time);
    return pgqrs_sqlite_run(s, stmt, err);
}

int pgqrs_sqlite_is_json(struct sqlite_store *s, struct pgqrs_bytes text, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_JSON_VALID, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_bytes(stmt, 1, text);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    (void)sqlite3_reset(stmt); /* the row is enough */
    return rc;
}

/* What a message and its run are. */
struct look {
    int64_t run_id; /* 0: there is no run */
    enum pgqrs_run_status status;
    bool archived, leased;
};

static int look_at(struct sqlite_store *s, int64_t message_id, struct look *look,
                   struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_RUN_LOOK, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, message_id);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "message %lld does not exist",
                               (long long)message_id);
    }
    if (rc > 0) {
        *look = (struct look){.run_id = sqlite3_column_int64(stmt, 0),
                              .status = pgqrs_run_status_from(pgqrs_sqlite_bytes(stmt, 1)),
                              .archived = sqlite3_column_int(stmt, 2) != 0,
                              .leased = sqlite3_column_int(stmt, 3) != 0};
        (void)sqlite3_reset(stmt); /* the row was read */
    }
    return rc < 0 ? -1 : 0;
}

static int need_run(const struct look *look, int64_t message_id, struct pgqrs_error *err)
{
    return look->run_id != 0
               ? 0
               : pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "message %lld has no workflow run",
                                 (long long)message_id);
}

/* ---- cancelling ---- */

static int cancel_message(struct sqlite_store *s, int64_t message_id, const struct look *look,
                          const char *now, enum pgqrs_run_status *status_out,
                          struct pgqrs_error *err)
{
    if (look->archived || look->leased) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT, "message %lld has no workflow run, and %s",
                               (long long)message_id, look->leased ? "is leased" : "has ended");
    }
    *status_out = PGQRS_RUN_CANCELLED;
    return pgqrs_sqlite_run_at(s, STMT_ACT_CANCEL, message_id, now, err) < 0 ? -1 : 0;
}

static int cancel(struct sqlite_store *s, int64_t message_id, enum pgqrs_run_status *status_out,
                  struct pgqrs_error *err)
{
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    struct look look = {0};
    if (look_at(s, message_id, &look, err) < 0) {
        return -1;
    }
    if (look.run_id == 0) {
        return cancel_message(s, message_id, &look, now.text, status_out, err);
    }
    int64_t changed = pgqrs_sqlite_run_at(s, STMT_RUN_CANCEL, message_id, now.text, err);
    if (changed < 0 ||
        (changed > 0 && pgqrs_sqlite_run_at(s, STMT_MESSAGE_WAKE, message_id, now.text, err) < 0)) {
        return -1;
    }
    *status_out = changed == 0    ? look.status
                  : look.archived ? PGQRS_RUN_CANCELLED
                                  : PGQRS_RUN_CANCELLING;
    return 0;
}

int pgqrs_sqlite_run_cancel(struct pgqrs_store *store, int64_t message_id,
                            enum pgqrs_run_status *status_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    return (int)pgqrs_sqlite_end(s, cancel(s, message_id, status_out, err), err);
}

/* ---- resuming ---- */

static int64_t resume(struct sqlite_store *s, int64_t message_id, struct pgqrs_error *err)
{
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    struct look look = {0};
    if (look_at(s, message_id, &look, err) < 0 || need_run(&look, message_id, err) < 0) {
        return -1;
    }
    if (look.archived || look.leased || pgqrs_run_has_ended(look.status)) {
        return 0;
    }
    int64_t steps = pgqrs_sqlite_run_at(s, STMT_RESUME_STEPS, message_id, now.text, err);
    int64_t woken =
        steps < 0 ? -1 : pgqrs_sqlite_run_at(s, STMT_MESSAGE_WAKE, message_id, now.text, err);
    return woken < 0 ? -1 : woken + steps;
}

int pgqrs_sqlite_run_resume(struct pgqrs_store *store, int64_t message_id, bool *woken_out,
                            struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    int64_t changed = pgqrs_sqlite_end(s, resume(s, message_id, err), err);
    if (changed < 0) {
        return -1;
    }
    *woken_out = changed > 0;
    return 0;
}

/* ---- forking ---- */

int64_t pgqrs_sqlite_message_again(struct sqlite_store *s, int64_t message_id,
                                   struct pgqrs_bytes payload, bool keep_parent,
                                   const struct moment *now, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_MESSAGE_AGAIN, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, message_id);
    pgqrs_sqlite_bind_bytes(stmt, 2, payload);
    pgqrs_sqlite_bind_text(stmt, 3, now->text);
    pgqrs_sqlite_bind_int(stmt, 4, keep_parent ? 1 : 0);
    return pgqrs_sqlite_run(s, stmt, err) < 0 ? -1 : sqlite3_last_insert_rowid(s->db);
}

/* The id of the step; of none: above every one. */
static int64_t end_of_steps(struct sqlite_store *s, int64_t run_id, const char *step,
                            struct pgqrs_error *err)
{
    if (step == NULL) {
        return INT64_MAX;
    }
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_STEP_FIND, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, run_id);
    pgqrs_sqlite_bind_text(stmt, 2, step);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc <= 0) {
        return rc < 0 ? -1
                      : pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "run %lld has no step \"%s\"",
                                        (long long)run_id, step);
    }
    int64_t id = sqlite3_column_int64(stmt, 0);
    (void)sqlite3_reset(stmt); /* the row was read */
    return id;
}

static int64_t fork_run(struct sqlite_store *s, int64_t message_id, const char *from_step,
                        struct pgqrs_bytes payload, struct pgqrs_error *err)
{
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    struct look look = {0};
    if (look_at(s, message_id, &look, err) < 0 || need_run(&look, message_id, err) < 0) {
        return -1;
    }
    int64_t end = end_of_steps(s, look.run_id, from_step, err);
    int64_t id =
        end < 0 ? -1 : pgqrs_sqlite_message_again(s, message_id, payload, false, &now, err);
    sqlite3_stmt *stmt = id < 0 ? NULL : pgqrs_sqlite_stmt(s, STMT_FORK_RUN, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, look.run_id);
    pgqrs_sqlite_bind_int(stmt, 2, id);
    pgqrs_sqlite_bind_text(stmt, 3, now.text);
    if (pgqrs_sqlite_run(s, stmt, err) < 0) {
        return -1;
    }
    int64_t run_id = sqlite3_last_insert_rowid(s->db);
    stmt = pgqrs_sqlite_stmt(s, STMT_FORK_STEPS, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, look.run_id);
    pgqrs_sqlite_bind_int(stmt, 2, run_id);
    pgqrs_sqlite_bind_int(stmt, 3, end);
    pgqrs_sqlite_bind_text(stmt, 4, now.text);
    return pgqrs_sqlite_run(s, stmt, err) < 0 ? -1 : id;
}

int pgqrs_sqlite_run_fork(struct pgqrs_store *store, int64_t message_id, const char *from_step,
                          struct pgqrs_bytes input, int64_t *message_id_out,
                          struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    struct pgqrs_buf wrapped = {0};
    int json = input.len == 0 ? 1 : pgqrs_sqlite_is_json(s, input, err);
    if (json <= 0) {
        return json < 0 ? -1
                        : pgqrs_error_set(err, PGQRS_ERR_INVALID,
                                          "fork: found an input that is not JSON, expected one "
                                          "JSON value");
    }
    if (input.len > 0 && pgqrs_workflow_wrap(input, &wrapped, err) < 0) {
        return -1;
    }
    const struct pgqrs_bytes payload = {.data = (const char *)wrapped.data, .len = wrapped.len};
    int64_t id = -1;
    if (pgqrs_sqlite_begin(s, err) == 0) {
        id = pgqrs_sqlite_end(s, fork_run(s, message_id, from_step, payload, err), err);
    }
    pgqrs_buf_fini(&wrapped);
    if (id < 0) {
        return -1;
    }
    *message_id_out = id;
    return 0;
}

/* ---- events ---- */

static int64_t send_event(struct sqlite_store *s, int64_t message_id, const char *name,
                          struct pgqrs_bytes payload, struct pgqrs_error *err)
{
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    struct look look = {0};
    if (look_at(s, message_id, &look, err) < 0) {
        return -1;
    }
    if (look.archived || pgqrs_run_has_ended(look.status)) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT, "message %lld: its run has ended",
                               (long long)message_id);
    }
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_EVENT_ADD, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, message_id);
    pgqrs_sqlite_bind_text(stmt, 2, name);
    pgqrs_sqlite_bind_bytes(stmt, 3, payload);
    pgqrs_sqlite_bind_text(stmt, 4, now.text);
    int64_t added = pgqrs_sqlite_run(s, stmt, err);
    if (added <= 0) {
        return added;
    }
    stmt = pgqrs_sqlite_run_about(s, STMT_MESSAGE_MARK, message_id, err) < 0
               ? NULL
               : pgqrs_sqlite_stmt(s, STMT_EVENT_WAKE, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, message_id);
    pgqrs_sqlite_bind_text(stmt, 2, now.text);
    pgqrs_sqlite_bind_text(stmt, 3, name);
    return pgqrs_sqlite_run(s, stmt, err) < 0 ? -1 : 1;
}

int pgqrs_sqlite_event_send(struct pgqrs_store *store, int64_t message_id, const char *name,
                            struct pgqrs_bytes payload, bool *first_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    payload = payload.len == 0 ? pgqrs_bytes_from("null") : pgqrs_sqlite_until_zero(payload);
    int json = pgqrs_sqlite_is_json(s, payload, err);
    if (json == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "event \"%s\": found a payload that is not JSON, expected one "
                               "JSON value",
                               name);
    }
    if (json < 0 || pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    int64_t added = pgqrs_sqlite_end(s, send_event(s, message_id, name, payload, err), err);
    if (added < 0) {
        return -1;
    }
    *first_out = added > 0;
    return 0;
}
