/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_wake.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define SERVER_VERSION_MIN 120000

/*
 * Plans are made while queues are empty and run when they are full: only indexes may be used. A
 * plan that can not do without a scan then looks so expensive that it would be compiled first.
 */
static const struct pg_stmt settings_stmt = {
    .sql = "SELECT set_config('search_path', $1, false), set_config('TimeZone', 'UTC', false),"
           " set_config('enable_seqscan', 'off', false),"
           " set_config('enable_bitmapscan', 'off', false),"
           " set_config('enable_sort', 'off', false), set_config('jit', 'off', false),"
           " set_config('default_transaction_isolation', 'read committed', false),"
           " set_config('idle_in_transaction_session_timeout', '300s', false)," PG_GENERIC_PLANS(
               "false"),
    .param_count = 1,
    .types = {PG_TEXT},
};

/* A server that runs a statement for us notices that we are gone. Since version 14. */
static const struct pg_stmt settings14_stmt = {
    .sql = "SELECT set_config('idle_session_timeout', '0', false),"
           " set_config('client_connection_check_interval', '10s', false)"};

static const struct pg_stmt claim_stmt = {.sql = "SELECT pg_try_advisory_lock(" PG_CLAIM_CLASS
                                                 ", hashtext($1 || '/' || $2))",
                                          .param_count = 2,
                                          .types = {PG_TEXT, PG_TEXT}};

static const struct pg_stmt who_stmt = {.sql = "SELECT pg_backend_pid()"};

int pgqrs_pg_wait(PGconn *conn, short events, int64_t deadline_ms)
{
    struct pollfd fd = {.fd = PQsocket(conn), .events = events};
    for (;;) {
        int64_t left_ms = deadline_ms == 0 ? -1 : deadline_ms - pgqrs_mono_ms();
        if (deadline_ms != 0 && left_ms <= 0) {
            return 0;
        }
        int rc = poll(&fd, 1, left_ms > INT32_MAX ? INT32_MAX : (int)left_ms);
        if (rc > 0 || (rc < 0 && errno != EINTR)) {
            return 1; /* what is wrong with it, libpq will find */
        }
    }
}

void pgqrs_pg_drop(struct pg_store *s)
{
    if (s->borrowed) {
        return;
    }
    PQfinish(s->conn);
    s->conn = NULL;
    s->prepared_count = 0;
    s->doomed = false;
    if (s->frame != PG_FRAME_NONE) {
        s->frame = PG_FRAME_LOST;
    }
}

/* ---- connecting ---- */

static void on_no_notice(void *arg, const PGresult *result)
{
    (void)arg;
    (void)result;
}

static void on_notice(void *arg, const PGresult *result)
{
    struct pg_store *s = arg;
    s->doomed = s->doomed || pgqrs_pg_is_fatal(result);
}

PGconn *pgqrs_pg_connect_start(const struct pg_dsn *dsn)
{
    PGconn *conn =
        PQconnectStartParams((const char *const *)dsn->keys, (const char *const *)dsn->values, 0);
    if (conn != NULL) {
        /* The only way to the SQLSTATE of a refusal. */
        (void)PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
        (void)PQsetNoticeReceiver(conn, on_no_notice, NULL);
    }
    return conn;
}

PGconn *pgqrs_pg_connect_wait(const struct pg_dsn *dsn, int64_t deadline_ms,
                              struct pgqrs_error *err)
{
    PGconn *conn = pgqrs_pg_connect_start(dsn);
    if (conn == NULL) {
        (void)pgqrs_error_memory(err);
        return NULL;
    }
    PostgresPollingStatusType want =
        PQstatus(conn) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
    while (want == PGRES_POLLING_READING || want == PGRES_POLLING_WRITING) {
        if (pgqrs_pg_wait(conn, want == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline_ms) ==
            0) {
            PQfinish(conn);
            (void)pgqrs_error_set(err, PGQRS_ERR_AGAIN,
                                  "PostgreSQL: no connection: no answer in time");
            return NULL;
        }
        want = PQconnectPoll(conn);
    }
    if (want != PGRES_POLLING_OK) {
        (void)pgqrs_pg_connect_fail(conn, dsn, err);
        PQfinish(conn);
        return NULL;
    }
    return conn;
}

/* ---- why it failed ---- */

/* "FATAL:  28P01: text": finds the last such, as each attempt (with and without TLS) adds one. */
static const char *find_state(const char *text, char state_out[6])
{
    const char *found = NULL;
    for (const char *at = strstr(text, ":  "); at != NULL; at = strstr(at + 1, ":  ")) {
        if (strspn(at + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 &&
            strncmp(at + 8, ": ", 2) == 0) {
            memcpy(state_out, at + 3, 5);
            state_out[5] = 0;
            found = at + 10;
        }
    }
    return found;
}

static bool is_hopeless(const char *text)
{
    static const char *const signs[] = {"no password supplied",
                                        "does not support SSL",
                                        "certificate",
                                        "SSL error",
                                        "requires",
                                        "invalid ",
                                        "GSSAPI",
                                        "authentication method",
                                        "could not read",
                                        "could not open",
                                        "session is not read-only"};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        if (strstr(text, signs[i]) != NULL) {
            return true;
        }
    }
    return false;
}

int pgqrs_pg_connect_fail(PGconn *conn, const struct pg_dsn *dsn, struct pgqrs_error *err)
{
    char state[6] = "";
    char *text = strdup(PQerrorMessage(conn));
    if (text == NULL) {
        return pgqrs_error_memory(err);
    }
    const char *words = find_state(text, state);
    enum pgqrs_err code = PGQRS_ERR_AGAIN;
    if (words != NULL) {
        code = pgqrs_pg_code(state);
        code = code == PGQRS_ERR_AGAIN ? code : PGQRS_ERR_UNAVAILABLE;
    } else {
        words = text;
        code = is_hopeless(text) ? PGQRS_ERR_UNAVAILABLE : PGQRS_ERR_AGAIN;
    }
    char *end = strstr(words, "\nLOCATION:");
    if (end != NULL) {
        *end = 0;
    }
    for (char *c = text; *c != 0; c++) {
        if (*c == '\n' || *c == '\t') {
            *c = ' ';
        }
    }
    for (size_t len = strlen(words); len > 0 && words[len - 1] == ' '; len--) {
        text[words - text + (ptrdiff_t)len - 1] = 0;
    }
    pgqrs_pg_dsn_hide(dsn, text);
    (void)pgqrs_error_set(err, code, "PostgreSQL: no connection: %s%s%s%s",
                          *words == 0 ? "no reason given" : words, *state == 0 ? "" : " (SQLSTATE ",
                          state, *state == 0 ? "" : ")");
    free(text);
    return -1;
}

/* ---- after connecting ---- */

static int set_up(struct pg_store *s, const struct pg_stmt *stmt, const struct pg_args *args,
                  struct pgqrs_error *err)
{
    PGresult *result = pgqrs_pg_bare(s, stmt, args, err);
    PQclear(result);
    return result == NULL ? -1 : 0;
}

static int apply_settings(struct pg_store *s, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_text(&args, s->search_path);
    int rc = set_up(s, &settings_stmt, &args, err);
    pgqrs_pg_args_fini(&args);
    if (rc == 0 && PQserverVersion(s->conn) >= 140000) {
        rc = set_up(s, &settings14_stmt, NULL, err);
        rc = s->conn == NULL ? rc : 0; /* not every system that servers run on can do it */
    }
    return rc;
}

/* 1: this connection has the lock of its site's broker, 0: another process has it. */
static int claim_here(struct pg_store *s, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_text(&args, s->schema);
    pgqrs_pg_arg_text(&args, s->site);
    PGresult *result = pgqrs_pg_bare(s, &claim_stmt, &args, err);
    pgqrs_pg_args_fini(&args);
    if (result == NULL) {
        return -1;
    }
    int mine = pgqrs_pg_bool(result, 0, 0) ? 1 : 0;
    PQclear(result);
    return mine;
}

/* On a new connection. Whoever has it now: this broker goes on, results are fenced. */
static int claim_again(struct pg_store *s, struct pgqrs_error *err)
{
    int mine = s->site == NULL || s->wake != NULL ? 1 : claim_here(s, err);
    if (mine == 0) {
        pgqrs_log_warn("store: the connection was lost, and now another process is the broker of "
                       "site \"%s\"; goes on",
                       s->site);
    }
    return mine < 0 ? -1 : 0;
}

/*
 * A pooler that hands out server connections has a process id of its own. Settings made through it
 * would reach other clients, so none are.
 */
static int prepare_session(struct pg_store *s, struct pgqrs_error *err)
{
    int version = PQserverVersion(s->conn);
    if (version < SERVER_VERSION_MIN) {
        return pgqrs_error_set(err, PGQRS_ERR_UNAVAILABLE,
                               "PostgreSQL: found version %d, expected %d or newer",
                               version / 10000, SERVER_VERSION_MIN / 10000);
    }
    PGresult *result = pgqrs_pg_bare(s, &who_stmt, NULL, err);
    if (result == NULL) {
        return -1;
    }
    s->pooled = pgqrs_pg_int(result, 0, 0) != PQbackendPID(s->conn);
    PQclear(result);
    if (s->pooled) {
        return 0;
    }
    return apply_settings(s, err) < 0 ? -1 : claim_again(s, err);
}

static int connect_now(struct pg_store *s, struct pgqrs_error *err)
{
    int64_t deadline_ms = pgqrs_mono_ms() + s->dsn.connect_ms;
    if (s->deadline_ms != 0 && s->deadline_ms < deadline_ms) {
        deadline_ms = s->deadline_ms;
    }
    s->conn = pgqrs_pg_connect_wait(&s->dsn, deadline_ms, err);
    if (s->conn == NULL) {
        return -1;
    }
    (void)PQsetErrorVerbosity(s->conn, PQERRORS_DEFAULT);
    (void)PQsetNoticeReceiver(s->conn, on_notice, s);
    if (PQsetnonblocking(s->conn, 1) != 0 || PQenterPipelineMode(s->conn) != 1) {
        pgqrs_pg_drop(s);
        return pgqrs_error_memory(err);
    }
    if (prepare_session(s, err) < 0) {
        pgqrs_pg_drop(s);
        if (err != NULL && err->code == PGQRS_ERR_UNKNOWN) {
            err->code = PGQRS_ERR_AGAIN;
        }
        return -1;
    }
    return 0;
}

int pgqrs_pg_claim(struct pgqrs_store *store, const char *site, struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    char *copy = strdup(site);
    if (copy == NULL) {
        return pgqrs_error_memory(err);
    }
    if (s->borrowed) {
        free(copy);
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT,
                               "claim: not on a connection that belongs to somebody else");
    }
    free(s->site);
    s->site = NULL;
    s->deadline_ms = pgqrs_mono_ms() + s->call_ms;
    int mine = pgqrs_pg_ready(s, err) < 0 ? -1 : 1;
    s->site = copy;
    if (mine == 1 && s->wake != NULL) {
        mine = pgqrs_pg_wake_claim(s, err) < 0 ? -1 : 1;
    } else if (mine == 1 && !s->pooled) {
        mine = claim_here(s, err);
    }
    if (mine == 1) {
        return 0;
    }
    if (mine == 0) {
        (void)pgqrs_error_set(err, PGQRS_ERR_UNAVAILABLE,
                              "PostgreSQL: another process is the broker of site \"%s\" for "
                              "schema \"%s\"",
                              site, s->schema);
    }
    free(s->site);
    s->site = NULL;
    return -1;
}

/* Whether an idle connection has ended: what it would have to read then tells. */
static bool has_ended(struct pg_store *s)
{
    struct pollfd fd = {.fd = PQsocket(s->conn), .events = POLLIN};
    for (int i = 0; i < 4 && !s->doomed && poll(&fd, 1, 0) > 0; i++) {
        if (PQconsumeInput(s->conn) == 0) {
            return true;
        }
        (void)PQisBusy(s->conn); /* reads notices */
    }
    return s->doomed || PQstatus(s->conn) == CONNECTION_BAD;
}

int pgqrs_pg_ready(struct pg_store *s, struct pgqrs_error *err)
{
    if (s->borrowed) {
        return 0;
    }
    if (s->conn != NULL && has_ended(s)) {
        pgqrs_pg_drop(s);
    }
    return s->conn == NULL ? connect_now(s, err) : 0;
}
