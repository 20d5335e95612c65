/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_conn.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

/*
 * Everything goes over the wire in rounds: some statements and one Sync, sent together. What no
 * explicit transaction encloses is one transaction by itself, which the Sync commits.
 */

#define SAVEPOINT "pgqrsd"
#define ROUND_MAX (PG_BATCH_MAX + 8)

struct step {
    const struct pg_stmt *stmt;
    const struct pg_args *args; /* null: none */
    PGresult *result;           /* of a step that succeeded */
    bool prepares;
};

struct round {
    struct step steps[ROUND_MAX];
    int count;
    bool read_only; /* may be repeated whatever became of it */
    int commit_at;  /* the step that commits; count: the Sync does; -1: none */
};

static const struct pg_stmt begin_stmt = {.sql = "BEGIN"};
static const struct pg_stmt commit_stmt = {.sql = "COMMIT"};
static const struct pg_stmt rollback_stmt = {.sql = "ROLLBACK"};
static const struct pg_stmt savepoint_stmt = {.sql = "SAVEPOINT " SAVEPOINT};
static const struct pg_stmt release_stmt = {.sql = "RELEASE SAVEPOINT " SAVEPOINT};
static const struct pg_stmt rollback_to_stmt = {.sql = "ROLLBACK TO SAVEPOINT " SAVEPOINT};

/* The settings of a connection, for one transaction: behind a pooler nothing else holds. */
static const struct pg_stmt local_stmt = {
    .sql =
        "SELECT set_config('search_path', $1, true), set_config('TimeZone', 'UTC', true),"
        " set_config('enable_seqscan', 'off', true),"
        " set_config('enable_bitmapscan', 'off', true),"
        " set_config('enable_sort', 'off', true), set_config('jit', 'off', true)," PG_GENERIC_PLANS(
            "true"),
    .param_count = 1,
    .types = {PG_TEXT},
};

/* On a borrowed connection: the schema, and the way back. */
static const struct pg_stmt enter_stmt = {
    .sql = "SELECT set_config('pgqrsd.search_path', current_setting('search_path'), true)"};
static const struct pg_stmt path_stmt = {
    .sql = "SELECT set_config('search_path', $1, true)", .param_count = 1, .types = {PG_TEXT}};
static const struct pg_stmt leave_stmt = {
    .sql = "SELECT set_config('search_path', current_setting('pgqrsd.search_path'), true)"};

/* ---- sending ---- */

static bool is_prepared(const struct pg_store *s, const struct pg_stmt *stmt)
{
    for (size_t i = 0; i < s->prepared_count; i++) {
        if (s->prepared[i] == stmt) {
            return true;
        }
    }
    return false;
}

static void forget(struct pg_store *s, const struct pg_stmt *stmt)
{
    for (size_t i = 0; i < s->prepared_count; i++) {
        if (s->prepared[i] == stmt) {
            s->prepared[i] = s->prepared[--s->prepared_count];
            return;
        }
    }
}

static bool send_step(struct pg_store *s, struct step *step)
{
    const struct pg_stmt *stmt = step->stmt;
    const char *values[PG_PARAMS_MAX];
    int formats[PG_PARAMS_MAX];
    int n = step->args == NULL ? 0 : step->args->count;
    for (int i = 0; i < n; i++) {
        bool null = step->args->lengths[i] < 0;
        values[i] = null ? NULL
                    : step->args->data.data == NULL
                        ? ""
                        : (const char *)step->args->data.data + step->args->starts[i];
        formats[i] = 1;
    }
    const int *lengths = n == 0 ? NULL : step->args->lengths;
    if (stmt->texts != NULL) {
        return PQsendQueryParams(s->conn, stmt->sql, stmt->text_count, NULL, stmt->texts, NULL,
                                 NULL, 0) == 1;
    }
    bool named = stmt->name != NULL && !s->pooled && !s->borrowed;
    if (named && !is_prepared(s, stmt) && s->prepared_count < PG_PREPARED_MAX) {
        if (PQsendPrepare(s->conn, stmt->name, stmt->sql, stmt->param_count, stmt->types) != 1) {
            return false;
        }
        step->prepares = true;
        s->prepared[s->prepared_count++] = stmt;
    }
    if (named && is_prepared(s, stmt)) {
        return PQsendQueryPrepared(s->conn, stmt->name, n, values, lengths, formats, 1) == 1;
    }
    return PQsendQueryParams(s->conn, stmt->sql, n, stmt->types, values, lengths, formats, 1) == 1;
}

static int check_step(const struct step *step, struct pgqrs_error *err)
{
    int n = step->args == NULL ? 0 : step->args->count;
    if (step->args != NULL && step->args->data.failed) {
        return pgqrs_error_memory(err);
    }
    if (n != step->stmt->param_count) {
        return pgqrs_error_set(
            err, PGQRS_ERR_FAILED, "PostgreSQL: statement %s: found %d parameters, expected %d",
            step->stmt->name == NULL ? "" : step->stmt->name, n, step->stmt->param_count);
    }
    return 0;
}

/* ---- receiving ---- */

PGresult *pgqrs_pg_next(struct pg_store *s, bool *lost)
{
    for (;;) {
        int unsent = PQflush(s->conn);
        if (PQisBusy(s->conn) == 0 || PQstatus(s->conn) == CONNECTION_BAD) {
            return PQgetResult(s->conn);
        }
        short events = (short)(POLLIN | (unsent > 0 ? POLLOUT : 0));
        if (pgqrs_pg_wait(s->conn, events, s->deadline_ms) == 0) {
            *lost = true;
            return NULL;
        }
        (void)PQconsumeInput(s->conn); /* a failure is the connection's status and the result */
    }
}

struct answer {
    PGresult *failure; /* the first */
    int failed_at;     /* its step; the number of steps: the commit */
    bool lost;         /* the connection is of no more use */
    bool late;         /* that is because the deadline has passed */
};

static void take_failure(struct answer *a, PGresult *result, int step)
{
    if (a->failure == NULL && result != NULL) {
        a->failure = result;
        a->failed_at = step;
        a->lost = a->lost || pgqrs_pg_is_fatal(result);
    } else {
        PQclear(result);
    }
}

/* One statement's result, and the null behind it. */
static PGresult *next_of_step(struct pg_store *s, struct answer *a, int step)
{
    PGresult *result = pgqrs_pg_next(s, &a->late);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
        take_failure(a, result, step);
        a->lost = a->lost || a->late || result == NULL || PQstatus(s->conn) == CONNECTION_BAD;
        result = NULL;
    }
    if (!a->lost) {
        PGresult *more = pgqrs_pg_next(s, &a->late);
        a->lost = a->late || more != NULL;
        PQclear(more);
    }
    return result;
}

static void receive(struct pg_store *s, struct round *r, struct answer *a)
{
    for (int i = 0; i < r->count && !a->lost; i++) {
        struct step *step = &r->steps[i];
        if (step->prepares) {
            PGresult *prepared = next_of_step(s, a, i);
            if (prepared == NULL) {
                forget(s, step->stmt);
            }
            PQclear(prepared);
        }
        if (!a->lost) {
            step->result = next_of_step(s, a, i);
        }
    }
    for (int nulls = 0; !a->lost;) {
        PGresult *result = pgqrs_pg_next(s, &a->late);
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
            PQclear(result);
            return;
        }
        nulls += result == NULL ? 1 : 0;
        a->lost = a->late || nulls > 1 || PQstatus(s->conn) == CONNECTION_BAD;
        take_failure(a, result, r->count); /* the commit itself was refused */
    }
}

/* ---- a round ---- */

static void clear(struct round *r)
{
    for (int i = 0; i < r->count; i++) {
        PQclear(r->steps[i].result);
        r->steps[i].result = NULL;
        r->steps[i].prepares = false;
    }
}

/*
 * Whether what was sent may have been committed although it looks like a failure. A server that
 * refuses a statement has not come to the commit; one that says good-bye there may have.
 */
static bool is_uncertain(const struct pg_store *s, const struct round *r, const struct answer *a)
{
    if (r->read_only || r->commit_at < 0) {
        return false;
    }
    if (a->failure == NULL || PQresultErrorField(a->failure, PG_DIAG_SQLSTATE) == NULL) {
        return true;
    }
    return pgqrs_pg_is_fatal(a->failure) && (s->pooled || a->failed_at >= r->commit_at);
}

static int fail(struct pg_store *s, struct round *r, struct answer *a, struct pgqrs_error *err)
{
    bool uncertain = is_uncertain(s, r, a);
    if (a->late && a->failure == NULL) {
        (void)pgqrs_error_set(err, uncertain ? PGQRS_ERR_UNKNOWN : PGQRS_ERR_AGAIN,
                              "PostgreSQL: no answer within %lld ms", (long long)s->call_ms);
    } else {
        (void)pgqrs_pg_fail(a->failure, uncertain, err);
    }
    /* A server that has become read-only is not the one to talk to. */
    if (a->lost || pgqrs_pg_is_state(a->failure, "25006")) {
        pgqrs_pg_drop(s);
    }
    return -1;
}

/* A named statement that is not there, or is there already: somebody hands connections around. */
static bool is_pooled_after_all(const struct pg_store *s, const struct answer *a)
{
    return !s->pooled && !s->borrowed && !a->lost &&
           (pgqrs_pg_is_state(a->failure, "26000") || pgqrs_pg_is_state(a->failure, "42P05"));
}

static int exchange(struct pg_store *s, struct round *r, struct answer *a, struct pgqrs_error *err)
{
    bool sent = true;
    for (int i = 0; sent && i < r->count; i++) {
        sent = send_step(s, &r->steps[i]);
    }
    /* What libpq could not send, it could not read an answer to either, but a server's last words.
     */
    sent = PQpipelineSync(s->conn) == 1 && sent;
    if (!sent && PQstatus(s->conn) != CONNECTION_BAD) {
        pgqrs_pg_drop(s);
        return pgqrs_error_memory(err);
    }
    receive(s, r, a);
    return a->failure == NULL && !a->lost ? 0 : fail(s, r, a, err);
}

static int run_round(struct pg_store *s, struct round *r, struct pgqrs_error *err)
{
    struct answer a = {0};
    bool lent = s->borrowed && PQpipelineStatus(s->conn) == PQ_PIPELINE_OFF;
    int blocking = s->borrowed && PQisnonblocking(s->conn) == 0;
    if (lent && PQenterPipelineMode(s->conn) != 1) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT,
                               "PostgreSQL: the connection is busy with another statement");
    }
    if (blocking) {
        (void)PQsetnonblocking(s->conn, 1); /* only fails on a bad connection */
    }
    int rc = exchange(s, r, &a, err);
    if (lent) {
        (void)PQexitPipelineMode(s->conn); /* it is idle, or of no more use */
    }
    if (blocking) {
        (void)PQsetnonblocking(s->conn, 0);
    }
    if (rc < 0 && is_pooled_after_all(s, &a)) {
        s->pooled = true;
        s->prepared_count = 0;
        (void)pgqrs_error_set(err, PGQRS_ERR_AGAIN, "PostgreSQL: found a pooler in between");
    }
    PQclear(a.failure);
    return rc;
}

/* ---- frames ---- */

static void add(struct round *r, const struct pg_stmt *stmt, const struct pg_args *args)
{
    r->steps[r->count++] = (struct step){.stmt = stmt, .args = args};
}

static void add_path(const struct pg_store *s, struct round *r, const struct pg_args *path)
{
    if (s->pooled) {
        add(r, &local_stmt, path);
    } else if (s->borrowed && s->schema != NULL) {
        add(r, &enter_stmt, NULL);
        add(r, &path_stmt, path);
    }
}

/* What must come first. With explicit, everything until the frame is closed is one transaction. */
static enum pg_frame open_frame(const struct pg_store *s, struct round *r, bool explicit,
                                const struct pg_args *path)
{
    enum pg_frame frame = explicit ? PG_FRAME_TRANSACTION : PG_FRAME_NONE;
    if (s->borrowed && PQtransactionStatus(s->conn) == PQTRANS_INTRANS) {
        frame = PG_FRAME_SAVEPOINT;
        add(r, &savepoint_stmt, NULL);
    } else if (explicit) {
        add(r, &begin_stmt, NULL);
    }
    add_path(s, r, path);
    return frame;
}

static void close_frame(const struct pg_store *s, struct round *r, enum pg_frame frame)
{
    if (frame == PG_FRAME_SAVEPOINT) {
        if (s->schema != NULL) {
            add(r, &leave_stmt, NULL);
        }
        add(r, &release_stmt, NULL);
    } else if (frame == PG_FRAME_TRANSACTION) {
        r->commit_at = r->count;
        add(r, &commit_stmt, NULL);
    } else {
        r->commit_at = r->count;
    }
}

static void undo_frame(struct pg_store *s, enum pg_frame frame)
{
    struct round undo = {0};
    if (frame == PG_FRAME_SAVEPOINT) {
        add(&undo, &rollback_to_stmt, NULL);
        add(&undo, &release_stmt, NULL);
    } else if (frame == PG_FRAME_TRANSACTION) {
        add(&undo, &rollback_stmt, NULL);
    }
    if (undo.count > 0 && s->conn != NULL && run_round(s, &undo, NULL) < 0) {
        pgqrs_pg_drop(s);
    }
    clear(&undo);
}

/* What a caller wants done. */
struct call {
    const struct pg_stmt *const *stmts;
    const struct pg_args *const *args;
    int count;
    bool read_only;
};

static int run_in_frame(struct pg_store *s, const struct call *call, struct round *r,
                        const struct pg_args *path, struct pgqrs_error *err)
{
    enum pg_frame frame = PG_FRAME_NONE;
    bool alone = s->frame == PG_FRAME_NONE;
    *r = (struct round){.read_only = call->read_only, .commit_at = -1};
    if (alone || s->frame == PG_FRAME_WANTED) {
        frame = open_frame(s, r, !alone, path);
    }
    int first = r->count;
    for (int i = 0; i < call->count; i++) {
        add(r, call->stmts[i], call->args[i]);
        if (check_step(&r->steps[first + i], err) < 0) {
            return -1;
        }
    }
    if (alone) {
        close_frame(s, r, frame);
    }
    if (s->frame == PG_FRAME_WANTED) {
        s->frame = frame;
    }
    int rc = run_round(s, r, err);
    if (rc != 0 && alone) {
        undo_frame(s, frame);
    }
    return rc < 0 ? -1 : first;
}

/* The caller's results stand in r from the returned step on. */
static int run_call(struct pg_store *s, const struct call *call, struct round *r,
                    struct pgqrs_error *err)
{
    struct pg_args path = {0};
    pgqrs_pg_arg_text(&path, s->search_path);
    int rc = run_in_frame(s, call, r, &path, err);
    pgqrs_pg_args_fini(&path);
    return rc;
}

/* ---- the calls ---- */

static int start_borrowed(struct pg_store *s, struct pgqrs_error *err)
{
    PGTransactionStatusType status = PQtransactionStatus(s->conn);
    s->deadline_ms = 0;
    if (status == PQTRANS_UNKNOWN) {
        return pgqrs_error_set(err, PGQRS_ERR_AGAIN, "PostgreSQL: the connection was lost");
    }
    if (status == PQTRANS_INERROR) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT,
                               "PostgreSQL: the transaction has failed and must be rolled back");
    }
    if (status == PQTRANS_ACTIVE || PQpipelineStatus(s->conn) != PQ_PIPELINE_OFF) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT,
                               "PostgreSQL: the connection is busy with another statement");
    }
    return 0;
}

static int start(struct pg_store *s, struct pgqrs_error *err)
{
    if (s->frame == PG_FRAME_LOST) {
        return pgqrs_error_set(err, PGQRS_ERR_AGAIN, "PostgreSQL: the connection was lost");
    }
    if (s->frame != PG_FRAME_NONE) {
        return 0;
    }
    if (s->borrowed) {
        return start_borrowed(s, err);
    }
    s->deadline_ms = pgqrs_mono_ms() + s->call_ms;
    return pgqrs_pg_ready(s, err);
}

/* Once more without names when it turns out that there is a pooler. */
static int run(struct pg_store *s, const struct call *call, struct round *r,
               struct pgqrs_error *err)
{
    bool pooled = s->pooled;
    bool alone = s->frame == PG_FRAME_NONE;
    int rc = run_call(s, call, r, err);
    if (rc < 0 && alone && s->conn != NULL && s->pooled != pooled) {
        clear(r);
        rc = run_call(s, call, r, err);
    }
    return rc;
}

PGresult *pgqrs_pg_run(struct pg_store *s, const struct pg_stmt *stmt, const struct pg_args *args,
                       bool read_only, struct pgqrs_error *err)
{
    struct round r;
    const struct call call = {.stmts = &stmt, .args = &args, .count = 1, .read_only = read_only};
    if (start(s, err) < 0) {
        return NULL;
    }
    PGresult *result = NULL;
    int at = run(s, &call, &r, err);
    if (at >= 0) {
        result = r.steps[at].result;
        r.steps[at].result = NULL;
    }
    clear(&r);
    return result;
}

int64_t pgqrs_pg_count(const PGresult *result)
{
    /* libpq asks for a result that may be changed, and does not. */
    PGresult *same;
    memcpy(&same, &result, sizeof same);
    const char *text = PQcmdTuples(same);
    return *text == 0 ? PQntuples(result) : strtoll(text, NULL, 10);
}

int64_t pgqrs_pg_exec(struct pg_store *s, const struct pg_stmt *stmt, const struct pg_args *args,
                      struct pgqrs_error *err)
{
    PGresult *result = pgqrs_pg_run(s, stmt, args, false, err);
    if (result == NULL) {
        return -1;
    }
    int64_t count = pgqrs_pg_count(result);
    PQclear(result);
    return count;
}

PGresult *pgqrs_pg_bare(struct pg_store *s, const struct pg_stmt *stmt, const struct pg_args *args,
                        struct pgqrs_error *err)
{
    struct round r = {.commit_at = 1};
    PGresult *result = NULL;
    add(&r, stmt, args);
    if (check_step(r.steps, err) == 0 && run_round(s, &r, err) == 0) {
        result = r.steps[0].result;
        r.steps[0].result = NULL;
    }
    clear(&r);
    return result;
}

/* ---- transactions ---- */

int pgqrs_pg_begin(struct pg_store *s, struct pgqrs_error *err)
{
    if (s->frame != PG_FRAME_NONE) {
        return pgqrs_error_set(err, PGQRS_ERR_FAILED, "PostgreSQL: a transaction is open already");
    }
    if (start(s, err) < 0) {
        return -1;
    }
    s->frame = PG_FRAME_WANTED;
    return 0;
}

/* A transaction in which a statement failed ends in a rollback, and the server calls that fine. */
static int check_commit(const struct round *r, struct pgqrs_error *err)
{
    const PGresult *result = r->commit_at < 0 ? NULL : r->steps[r->commit_at].result;
    PGresult *same;
    memcpy(&same, &result, sizeof same);
    if (result != NULL && strcmp(PQcmdStatus(same), "COMMIT") != 0) {
        return pgqrs_error_set(err, PGQRS_ERR_FAILED,
                               "PostgreSQL: the transaction was rolled back");
    }
    return 0;
}

static int commit(struct pg_store *s, enum pg_frame frame, struct pgqrs_error *err)
{
    struct round r = {.commit_at = -1};
    close_frame(s, &r, frame);
    if (frame == PG_FRAME_SAVEPOINT) {
        r.commit_at = -1;
    }
    int rc = run_round(s, &r, err);
    if (rc == 0) {
        rc = check_commit(&r, err);
    } else {
        undo_frame(s, frame);
    }
    clear(&r);
    return rc;
}

int64_t pgqrs_pg_end(struct pg_store *s, int64_t rc, struct pgqrs_error *err)
{
    enum pg_frame frame = s->frame;
    s->frame = PG_FRAME_NONE;
    if (frame == PG_FRAME_NONE || frame == PG_FRAME_WANTED) {
        return rc;
    }
    if (frame == PG_FRAME_LOST) {
        return rc < 0
                   ? rc
                   : pgqrs_error_set(err, PGQRS_ERR_AGAIN, "PostgreSQL: the connection was lost");
    }
    if (rc < 0) {
        undo_frame(s, frame);
        return rc;
    }
    return commit(s, frame, err) < 0 ? -1 : rc;
}

/* ---- batches ---- */

struct pg_args *pgqrs_pg_batch_add(struct pg_batch *batch, const struct pg_stmt *stmt)
{
    if (batch->count >= PG_BATCH_MAX) {
        return NULL;
    }
    batch->stmts[batch->count] = stmt;
    batch->args[batch->count] = (struct pg_args){0};
    batch->results[batch->count] = NULL;
    return &batch->args[batch->count++];
}

int pgqrs_pg_batch_run(struct pg_store *s, struct pg_batch *batch, struct pgqrs_error *err)
{
    const struct pg_args *args[PG_BATCH_MAX];
    struct round r;
    for (int i = 0; i < batch->count; i++) {
        args[i] = &batch->args[i];
        PQclear(batch->results[i]);
        batch->results[i] = NULL;
    }
    const struct call call = {
        .stmts = batch->stmts, .args = args, .count = batch->count, .read_only = batch->read_only};
    if (batch->count == 0) {
        return 0;
    }
    if (start(s, err) < 0) {
        return -1;
    }
    int at = run(s, &call, &r, err);
    for (int i = 0; at >= 0 && i < batch->count; i++) {
        batch->results[i] = r.steps[at + i].result;
        r.steps[at + i].result = NULL;
    }
    clear(&r);
    return at < 0 ? -1 : 0;
}

void pgqrs_pg_batch_fini(struct pg_batch *batch)
{
    for (int i = 0; i < batch->count; i++) {
        pgqrs_pg_args_fini(&batch->args[i]);
        PQclear(batch->results[i]);
    }
    batch->count = 0;
}

/* ---- scripts ---- */

/* The open frame's first statements, if they were not sent yet. */
static int open_now(struct pg_store *s, struct pgqrs_error *err)
{
    const struct call call = {.count = 0};
    struct round r;
    if (s->frame != PG_FRAME_WANTED) {
        return 0;
    }
    int rc = run_call(s, &call, &r, err);
    clear(&r);
    return rc < 0 ? -1 : 0;
}

int pgqrs_pg_script(struct pg_store *s, const char *sql, struct pgqrs_error *err)
{
    struct round r = {.commit_at = s->frame == PG_FRAME_NONE ? 0 : -1};
    struct answer a = {0};
    if (start(s, err) < 0 || open_now(s, err) < 0) {
        return -1;
    }
    if (PQexitPipelineMode(s->conn) != 1 || PQsendQuery(s->conn, sql) != 1) {
        pgqrs_pg_drop(s);
        return pgqrs_error_set(err, PGQRS_ERR_AGAIN, "PostgreSQL: the connection was lost");
    }
    for (PGresult *result; !a.lost && (result = pgqrs_pg_next(s, &a.late)) != NULL;) {
        ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
            PQclear(result);
        } else {
            take_failure(&a, result, 0);
        }
        a.lost = a.lost || PQstatus(s->conn) == CONNECTION_BAD;
    }
    a.lost = a.lost || a.late;
    int rc = a.failure == NULL && !a.lost ? 0 : fail(s, &r, &a, err);
    PQclear(a.failure);
    if (s->conn != NULL && PQenterPipelineMode(s->conn) != 1) {
        pgqrs_pg_drop(s);
    }
    return rc;
}
