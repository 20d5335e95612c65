/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/pg_pooler.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/postgres/pg_conn.h"
#include "store/store_borrow.h"

/* The connection: lost and made anew, refused, late, pooled and borrowed. */

static struct pgqrs_store *open_with_table(struct pg_rig *rig,
                                           const struct pgqrs_store_options *options)
{
    struct pgqrs_store *store = NULL;
    pg_rig_sql(rig, "CREATE TABLE t (v bigint PRIMARY KEY)");
    suite_ok(rig, pg_rig_open(rig, options, &store));
    return store;
}

static const struct pg_stmt put_stmt = {
    .name = "test_put", .sql = "INSERT INTO t VALUES ($1)", .param_count = 1, .types = {PG_INT8}};
static const struct pg_stmt slow_put_stmt = {.name = "test_slow_put",
                                             .sql = "INSERT INTO t SELECT $1 FROM pg_sleep(20)",
                                             .param_count = 1,
                                             .types = {PG_INT8}};
static const struct pg_stmt sum_stmt = {.name = "test_sum",
                                        .sql = "SELECT coalesce(sum(v), 0)::bigint FROM t"};
static const struct pg_stmt slow_stmt = {.name = "test_slow", .sql = "SELECT pg_sleep(20)"};
static const struct pg_stmt pid_stmt = {.name = "test_pid", .sql = "SELECT pg_backend_pid()"};
static const struct pg_stmt wrong_stmt = {.name = "test_wrong", .sql = "SELECT 1/(v - v) FROM t"};

static int64_t put(struct pg_rig *rig, struct pgqrs_store *store, const struct pg_stmt *stmt,
                   int64_t value)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, value);
    int64_t rc = pgqrs_pg_exec(pg_of(store), stmt, &args, &rig->err);
    pgqrs_pg_args_fini(&args);
    return rc;
}

static int64_t ask(struct pg_rig *rig, struct pgqrs_store *store, const struct pg_stmt *stmt)
{
    PGresult *result = pgqrs_pg_run(pg_of(store), stmt, NULL, true, &rig->err);
    if (result == NULL) {
        return -1;
    }
    int64_t number = pgqrs_pg_int(result, 0, 0);
    PQclear(result);
    return number;
}

/* ---- lost ---- */

static void lost_while_idle_is_not_noticed(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_with_table(rig, NULL);
    assert_int_equal(put(rig, store, &put_stmt, 1), 1);
    assert_int_equal(pg_rig_terminate(rig), 1);
    suite_ok(rig, put(rig, store, &put_stmt, 2));
    assert_int_equal(ask(rig, store, &sum_stmt), 3);
    pgqrs_store_close(&store);
}

struct killer {
    struct pg_rig *rig;
    PGconn *conn;
    const char *doing; /* what the statement to be ended begins with */
};

/* Waits until the statement sleeps, and ends its server process. */
static void *kill_it(void *arg)
{
    struct killer *k = arg;
    char sql[300];
    (void)snprintf(
        sql, sizeof sql,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE wait_event = 'PgSleep' AND query LIKE '%s%%' AND pid <> pg_backend_pid()",
        k->doing);
    for (int i = 0; i < 2000; i++) {
        PGresult *result = PQexec(k->conn, sql);
        int found = PQntuples(result);
        PQclear(result);
        if (found > 0) {
            return k;
        }
        (void)poll(NULL, 0, 5);
    }
    return NULL;
}

static void start_killer(struct killer *k, struct pg_rig *rig, const char *doing, pthread_t *thread)
{
    *k = (struct killer){.rig = rig, .conn = pg_rig_connect(rig), .doing = doing};
    assert_int_equal(pthread_create(thread, NULL, kill_it, k), 0);
}

static void join_killer(struct killer *k, pthread_t thread)
{
    void *found = NULL;
    assert_int_equal(pthread_join(thread, &found), 0);
    assert_non_null(found);
    PQfinish(k->conn);
}

static void lost_in_a_statement_is_certain(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_with_table(rig, NULL);
    struct killer k;
    pthread_t thread;
    start_killer(&k, rig, "INSERT INTO t", &thread);
    suite_fails(rig, put(rig, store, &slow_put_stmt, 1), PGQRS_ERR_AGAIN);
    join_killer(&k, thread);
    assert_int_equal(ask(rig, store, &sum_stmt), 0);

    start_killer(&k, rig, "SELECT pg_sleep", &thread);
    suite_fails(rig, ask(rig, store, &slow_stmt), PGQRS_ERR_AGAIN);
    join_killer(&k, thread);
    assert_int_equal(ask(rig, store, &sum_stmt), 0);
    pgqrs_store_close(&store);
}

/* A deferred check makes the commit itself slow. */
static void lost_in_the_commit_is_uncertain(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_with_table(rig, NULL);
    struct killer k;
    pthread_t thread;
    pg_rig_sql(rig, "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
                    " 'BEGIN PERFORM pg_sleep(20); RETURN NULL; END';"
                    "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON t DEFERRABLE INITIALLY"
                    " DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()");
    start_killer(&k, rig, "INSERT INTO t", &thread);
    suite_fails(rig, put(rig, store, &put_stmt, 1), PGQRS_ERR_UNKNOWN);
    join_killer(&k, thread);

    suite_ok(rig, pgqrs_pg_begin(pg_of(store), &rig->err));
    suite_ok(rig, put(rig, store, &put_stmt, 2));
    start_killer(&k, rig, "COMMIT", &thread);
    suite_fails(rig, pgqrs_pg_end(pg_of(store), 0, &rig->err), PGQRS_ERR_UNKNOWN);
    join_killer(&k, thread);
    assert_int_equal(ask(rig, store, &sum_stmt), 0);
    pgqrs_store_close(&store);
}

static void a_refused_commit_is_certain(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = NULL;
    pg_rig_sql(rig, "CREATE TABLE p (v bigint PRIMARY KEY);"
                    "CREATE TABLE t (v bigint REFERENCES p DEFERRABLE INITIALLY DEFERRED)");
    suite_ok(rig, pg_rig_open(rig, NULL, &store));
    suite_fails(rig, put(rig, store, &put_stmt, 1), PGQRS_ERR_CONFLICT);
    suite_ok(rig, pgqrs_pg_begin(pg_of(store), &rig->err));
    suite_ok(rig, put(rig, store, &put_stmt, 2));
    suite_fails(rig, pgqrs_pg_end(pg_of(store), 0, &rig->err), PGQRS_ERR_CONFLICT);
    assert_int_equal(ask(rig, store, &sum_stmt), 0);
    pgqrs_store_close(&store);
}

static void lost_in_a_transaction(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_with_table(rig, NULL);
    struct pg_store *s = pg_of(store);
    suite_ok(rig, pgqrs_pg_begin(s, &rig->err));
    suite_ok(rig, put(rig, store, &put_stmt, 1));
    assert_int_equal(pg_rig_terminate(rig), 1);
    suite_fails(rig, put(rig, store, &put_stmt, 2), PGQRS_ERR_AGAIN);
    suite_fails(rig, put(rig, store, &put_stmt, 3), PGQRS_ERR_AGAIN);
    suite_fails(rig, pgqrs_pg_end(s, 0, &rig->err), PGQRS_ERR_AGAIN);
    assert_int_equal(ask(rig, store, &sum_stmt), 0);
    pgqrs_store_close(&store);
}

static void a_server_that_is_away(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_with_table(rig, NULL);
    struct pgqrs_store *none = NULL;
    pg_rig_stop();
    suite_fails(rig, put(rig, store, &put_stmt, 1), PGQRS_ERR_AGAIN);
    suite_fails(rig, put(rig, store, &put_stmt, 1), PGQRS_ERR_AGAIN);
    suite_fails(rig, pg_rig_open(rig, NULL, &none), PGQRS_ERR_AGAIN);
    pg_rig_start();
    suite_ok(rig, put(rig, store, &put_stmt, 1));
    pgqrs_store_close(&store);
}

static void a_server_that_does_not_answer(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_with_table(rig, &(struct pgqrs_store_options){.call_ms = 300});
    int64_t pid = ask(rig, store, &pid_stmt);
    assert_true(pid > 0);
    assert_int_equal(kill((pid_t)pid, SIGSTOP), 0);
    suite_fails(rig, put(rig, store, &put_stmt, 1), PGQRS_ERR_UNKNOWN);
    assert_non_null(strstr(rig->err.text, "300 ms"));
    assert_int_equal(kill((pid_t)pid, SIGCONT), 0);
    suite_ok(rig, put(rig, store, &put_stmt, 2));

    pid = ask(rig, store, &pid_stmt);
    assert_int_equal(kill((pid_t)pid, SIGSTOP), 0);
    suite_fails(rig, ask(rig, store, &sum_stmt), PGQRS_ERR_AGAIN);
    assert_int_equal(kill((pid_t)pid, SIGCONT), 0);

    /* The postmaster takes connections, and nobody greets. */
    assert_int_equal(kill(pg_rig_postmaster(), SIGSTOP), 0);
    suite_fails(rig, put(rig, store, &put_stmt, 3), PGQRS_ERR_AGAIN);
    assert_int_equal(kill(pg_rig_postmaster(), SIGCONT), 0);
    suite_ok(rig, put(rig, store, &put_stmt, 3));
    pgqrs_store_close(&store);
}

/* ---- refused ---- */

static void fails_to_open(struct pg_rig *rig, const char *dsn, enum pgqrs_err code,
                          const char *says)
{
    const struct pgqrs_store_options options = {.schema = rig->schema, .call_ms = 5000};
    struct pgqrs_store *store = NULL;
    assert_int_equal(pgqrs_store_open(dsn, &options, &store, &rig->err), -1);
    if (rig->err.code != code || strstr(rig->err.text, says) == NULL ||
        strstr(rig->err.text, "sesame") != NULL || strstr(rig->err.text, dsn) != NULL) {
        fail_msg("%s: found code %d (%s)", dsn, (int)rig->err.code, rig->err.text);
    }
}

static void wrong_password(void **state)
{
    struct pg_rig *rig = *state;
    char dsn[300];
    pg_rig_sql(rig, "CREATE ROLE guest LOGIN PASSWORD 'swordfish'");
    const char *hba = pg_rig_text(rig, "SHOW hba_file");
    FILE *file = fopen(hba, "w");
    assert_non_null(file);
    (void)fputs("local all guest scram-sha-256\nlocal all all trust\n", file);
    assert_int_equal(fclose(file), 0);
    pg_rig_sql(rig, "SELECT pg_reload_conf()");
    (void)snprintf(dsn, sizeof dsn, "postgres://guest:swordfish@/postgres?host=%s", pg_rig_dir());
    struct pgqrs_store *store = NULL;
    for (int i = 0; i < 200 && store == NULL; i++) { /* until the new rules are in force */
        (void)snprintf(dsn, sizeof dsn, "postgres://guest:wrong@/postgres?host=%s", pg_rig_dir());
        if (pgqrs_store_open(dsn, &(struct pgqrs_store_options){0}, &store, &rig->err) < 0) {
            break;
        }
        pgqrs_store_close(&store);
        (void)poll(NULL, 0, 10);
    }
    (void)snprintf(dsn, sizeof dsn, "postgres://guest:open-sesame@/postgres?host=%s", pg_rig_dir());
    fails_to_open(rig, dsn, PGQRS_ERR_UNAVAILABLE, "password authentication failed");
    (void)snprintf(dsn, sizeof dsn, "postgres://guest@/postgres?host=%s", pg_rig_dir());
    fails_to_open(rig, dsn, PGQRS_ERR_UNAVAILABLE, "no password");
    (void)snprintf(dsn, sizeof dsn, "postgres://guest:swordfish@/postgres?host=%s", pg_rig_dir());
    suite_ok(rig, pgqrs_store_open(dsn, &(struct pgqrs_store_options){0}, &store, &rig->err));
    pgqrs_store_close(&store);
    pg_rig_sql(rig, "DROP ROLE guest");
}

static void refused(void **state)
{
    struct pg_rig *rig = *state;
    char dsn[300];
    (void)snprintf(dsn, sizeof dsn, "postgres://postgres:sesame@/nowhere?host=%s", pg_rig_dir());
    fails_to_open(rig, dsn, PGQRS_ERR_UNAVAILABLE, "\"nowhere\" does not exist");
    (void)snprintf(dsn, sizeof dsn, "postgresql://nobody:sesame@/postgres?host=%s", pg_rig_dir());
    fails_to_open(rig, dsn, PGQRS_ERR_UNAVAILABLE, "\"nobody\" does not exist");
    fails_to_open(rig, "postgres://u:open@sesame@h/d", PGQRS_ERR_CONFIG, "%40");
    fails_to_open(rig, "postgres://u:open/sesame@h/d", PGQRS_ERR_CONFIG, "%2F");
    fails_to_open(rig, "postgres://u:sesame@h/d?color=red", PGQRS_ERR_CONFIG, "\"color\"");
    fails_to_open(rig, "postgres://u:sesame@[::1/d", PGQRS_ERR_CONFIG, "libpq can not read");
    fails_to_open(rig, "postgres://u:sesame@/d?host=/nowhere", PGQRS_ERR_AGAIN, "No such file");
    fails_to_open(rig, "postgres://u:sesame@127.0.0.1:1/d", PGQRS_ERR_AGAIN, "refused");
    const struct pgqrs_store_options bad = {.schema = "a\"b"};
    struct pgqrs_store *store = NULL;
    suite_fails(rig, pgqrs_store_open(rig->dsn, &bad, &store, &rig->err), PGQRS_ERR_CONFIG);
}

static void too_many_connections(void **state)
{
    struct pg_rig *rig = *state;
    char dsn[300];
    pg_rig_sql(rig, "CREATE ROLE few LOGIN CONNECTION LIMIT 1");
    (void)snprintf(dsn, sizeof dsn, "postgres://few@/postgres?host=%s", pg_rig_dir());
    struct pgqrs_store *store = NULL;
    suite_ok(rig, pgqrs_store_open(dsn, &(struct pgqrs_store_options){0}, &store, &rig->err));
    fails_to_open(rig, dsn, PGQRS_ERR_AGAIN, "too many connections");
    pgqrs_store_close(&store);
    pg_rig_await(rig, 0, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'few'");
    pg_rig_sql(rig, "DROP ROLE few");
}

static void a_read_only_server(void **state)
{
    struct pg_rig *rig = *state;
    char dsn[300];
    pg_rig_sql(rig, "CREATE TABLE t (v bigint PRIMARY KEY)");
    (void)snprintf(dsn, sizeof dsn, "%s&options=-cdefault_transaction_read_only%%3Don", rig->dsn);
    const struct pgqrs_store_options options = {.schema = rig->schema};
    struct pgqrs_store *store = NULL;
    suite_ok(rig, pgqrs_store_open(dsn, &options, &store, &rig->err));
    suite_fails(rig, put(rig, store, &put_stmt, 1), PGQRS_ERR_UNAVAILABLE);
    assert_int_equal(ask(rig, store, &sum_stmt), 0);
    suite_fails(rig, pgqrs_store_install(store, &rig->err), PGQRS_ERR_UNAVAILABLE);
    assert_non_null(strstr(rig->err.text, "read-only"));
    pgqrs_store_close(&store);
}

/* ---- statements ---- */

static void what_a_failure_means(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_with_table(rig, NULL);
    static const struct pg_stmt no_table = {.name = "test_none", .sql = "SELECT 1 FROM nowhere"};
    static const struct pg_stmt lock = {.sql = "SELECT * FROM t FOR UPDATE NOWAIT"};
    suite_ok(rig, put(rig, store, &put_stmt, 1));
    suite_fails(rig, put(rig, store, &put_stmt, 1), PGQRS_ERR_EXISTS);
    suite_fails(rig, ask(rig, store, &no_table), PGQRS_ERR_SCHEMA);
    suite_fails(rig, ask(rig, store, &wrong_stmt), PGQRS_ERR_INVALID);
    suite_fails(rig, ask(rig, store, &wrong_stmt), PGQRS_ERR_INVALID);
    pg_rig_sql(rig, "BEGIN; SELECT v FROM t FOR UPDATE");
    suite_fails(rig, ask(rig, store, &lock), PGQRS_ERR_AGAIN);
    pg_rig_sql(rig, "ROLLBACK");
    pgqrs_store_close(&store);
}

static void batches_are_all_or_nothing(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_with_table(rig, NULL);
    struct pg_batch batch = {0};
    for (int i = 1; i <= 3; i++) {
        pgqrs_pg_arg_int8(pgqrs_pg_batch_add(&batch, &put_stmt), i);
    }
    suite_ok(rig, pgqrs_pg_batch_run(pg_of(store), &batch, &rig->err));
    assert_int_equal(pgqrs_pg_count(batch.results[2]), 1);
    suite_fails(rig, pgqrs_pg_batch_run(pg_of(store), &batch, &rig->err), PGQRS_ERR_EXISTS);
    pgqrs_pg_batch_fini(&batch);
    pgqrs_pg_arg_int8(pgqrs_pg_batch_add(&batch, &put_stmt), 4);
    pgqrs_pg_arg_int8(pgqrs_pg_batch_add(&batch, &put_stmt), 1);
    suite_fails(rig, pgqrs_pg_batch_run(pg_of(store), &batch, &rig->err), PGQRS_ERR_EXISTS);
    pgqrs_pg_batch_fini(&batch);
    assert_int_equal(ask(rig, store, &sum_stmt), 6);
    /* A statement that fails in a transaction fails all of it, whatever the caller says. */
    suite_ok(rig, pgqrs_pg_begin(pg_of(store), &rig->err));
    suite_ok(rig, put(rig, store, &put_stmt, 5));
    suite_fails(rig, put(rig, store, &put_stmt, 5), PGQRS_ERR_EXISTS);
    suite_fails(rig, pgqrs_pg_end(pg_of(store), 0, &rig->err), PGQRS_ERR_FAILED);
    assert_int_equal(ask(rig, store, &sum_stmt), 6);
    pgqrs_store_close(&store);
}

static void values_come_back(void **state)
{
    struct pg_rig *rig = *state;
    static const struct pg_stmt echo = {
        .name = "test_echo",
        .sql = "SELECT $1, $2, $3, $4, $5, cardinality($6), ($7)[2] IS NULL, ($7)[1], $8, ($9)[1]",
        .param_count = 9,
        .types = {PG_INT8, PG_INT4, PG_BOOL, PG_TEXT, PG_JSONB, PG_INT8_ARRAY, PG_TEXT_ARRAY,
                  PG_JSON, PG_JSONB_ARRAY}};
    struct pgqrs_store *store = NULL;
    struct pg_args a = {0};
    suite_ok(rig, pg_rig_open(rig, NULL, &store));
    pgqrs_pg_arg_int8(&a, INT64_MIN);
    pgqrs_pg_arg_int4(&a, -2);
    pgqrs_pg_arg_bool(&a, true);
    pgqrs_pg_arg_text(&a, NULL);
    pgqrs_pg_arg_bytes(&a, pgqrs_bytes_from("{\"a\": 1}"), true);
    pgqrs_pg_arg_array_begin(&a, PG_INT8, 0);
    pgqrs_pg_arg_array_end(&a);
    pgqrs_pg_arg_array_begin(&a, PG_TEXT, 2);
    pgqrs_pg_arg_array_bytes(&a, pgqrs_bytes_from("x"), false);
    pgqrs_pg_arg_array_bytes(&a, (struct pgqrs_bytes){0}, false);
    pgqrs_pg_arg_array_end(&a);
    pgqrs_pg_arg_bytes(&a, pgqrs_bytes_from("[1,  2]"), false);
    pgqrs_pg_arg_array_begin(&a, PG_JSONB, 1);
    pgqrs_pg_arg_array_bytes(&a, pgqrs_bytes_from("null"), true);
    pgqrs_pg_arg_array_end(&a);
    PGresult *r = pgqrs_pg_run(pg_of(store), &echo, &a, true, &rig->err);
    if (r == NULL) {
        fail_msg("%s", rig->err.text);
    }
    assert_true(pgqrs_pg_int(r, 0, 0) == INT64_MIN);
    assert_int_equal(pgqrs_pg_int(r, 0, 1), -2);
    assert_true(pgqrs_pg_bool(r, 0, 2) && pgqrs_pg_is_null(r, 0, 3));
    assert_null(pgqrs_pg_bytes(r, 0, 3).data);
    assert_string_equal(pgqrs_pg_bytes(r, 0, 4).data, "{\"a\": 1}");
    assert_int_equal(pgqrs_pg_int(r, 0, 5), 0);
    assert_true(pgqrs_pg_bool(r, 0, 6));
    assert_string_equal(pgqrs_pg_bytes(r, 0, 7).data, "x");
    char *copy = NULL;
    suite_ok(rig, pgqrs_pg_dup(r, 0, 8, &copy, &rig->err));
    assert_string_equal(copy, "[1,  2]");
    free(copy);
    assert_string_equal(pgqrs_pg_bytes(r, 0, 9).data, "null");
    PQclear(r);
    pgqrs_pg_args_fini(&a);
    pgqrs_store_close(&store);
}

/* ---- borrowed ---- */

static struct pgqrs_store *borrow(struct pg_rig *rig, PGconn *conn, const char *schema)
{
    struct pgqrs_store *store = NULL;
    suite_ok(rig, pgqrs_store_borrow_postgres(conn, schema, &store, &rig->err));
    return store;
}

static void sql_on(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    }
    PQclear(result);
}

static void a_lent_transaction_decides(void **state)
{
    struct pg_rig *rig = *state;
    pg_rig_sql(rig, "CREATE TABLE t (v bigint PRIMARY KEY)");
    PGconn *conn = pg_rig_connect(rig);
    struct pgqrs_store *store = borrow(rig, conn, NULL);
    suite_ok(rig, put(rig, store, &put_stmt, 1)); /* by itself */
    assert_int_equal(pg_rig_number(rig, "SELECT sum(v) FROM t"), 1);
    sql_on(conn, "BEGIN");
    suite_ok(rig, put(rig, store, &put_stmt, 2));
    suite_fails(rig, put(rig, store, &put_stmt, 1), PGQRS_ERR_EXISTS); /* and no more than that */
    suite_ok(rig, pgqrs_pg_begin(pg_of(store), &rig->err));
    suite_ok(rig, put(rig, store, &put_stmt, 10));
    assert_int_equal(pgqrs_pg_end(pg_of(store), -1, &rig->err), -1);
    suite_ok(rig, pgqrs_pg_begin(pg_of(store), &rig->err));
    suite_ok(rig, put(rig, store, &put_stmt, 20));
    suite_ok(rig, pgqrs_pg_end(pg_of(store), 0, &rig->err));
    sql_on(conn, "INSERT INTO t VALUES (100)");
    assert_int_equal(ask(rig, store, &sum_stmt), 123);
    assert_int_equal(pg_rig_number(rig, "SELECT sum(v) FROM t"), 1);
    sql_on(conn, "ROLLBACK");
    assert_int_equal(ask(rig, store, &sum_stmt), 1);
    sql_on(conn, "BEGIN");
    PQclear(PQexec(conn, "SELECT 1/0"));
    suite_fails(rig, put(rig, store, &put_stmt, 3), PGQRS_ERR_CONFLICT);
    sql_on(conn, "ROLLBACK");
    assert_int_equal(PQsendQuery(conn, "SELECT 1"), 1);
    suite_fails(rig, put(rig, store, &put_stmt, 3), PGQRS_ERR_CONFLICT);
    for (PGresult *r; (r = PQgetResult(conn)) != NULL;) {
        PQclear(r);
    }
    suite_fails(rig, pgqrs_store_install(store, &rig->err), PGQRS_ERR_CONFLICT);
    pgqrs_store_close(&store);
    assert_int_equal(PQstatus(conn), CONNECTION_OK);
    PQfinish(conn);
}

static void a_lent_connection_stays_as_it_was(void **state)
{
    struct pg_rig *rig = *state;
    pg_rig_sql(rig, "CREATE TABLE t (v bigint PRIMARY KEY)");
    PGconn *conn = pg_rig_connect(rig);
    struct pgqrs_store *store = borrow(rig, conn, rig->schema);
    sql_on(conn, "SET search_path TO pg_catalog");
    suite_ok(rig, put(rig, store, &put_stmt, 1));
    sql_on(conn, "BEGIN; SET LOCAL search_path TO pg_catalog, public");
    suite_ok(rig, put(rig, store, &put_stmt, 2));
    suite_fails(rig, put(rig, store, &put_stmt, 1), PGQRS_ERR_EXISTS);
    PGresult *r = PQexec(conn, "SELECT current_setting('search_path'), count(*) FROM"
                               " pg_prepared_statements");
    assert_string_equal(PQgetvalue(r, 0, 0), "pg_catalog, public");
    assert_string_equal(PQgetvalue(r, 0, 1), "0");
    PQclear(r);
    sql_on(conn, "COMMIT");
    r = PQexec(conn, "SHOW search_path");
    assert_string_equal(PQgetvalue(r, 0, 0), "pg_catalog");
    PQclear(r);
    assert_int_equal(PQisnonblocking(conn), 0);
    assert_int_equal(PQpipelineStatus(conn), PQ_PIPELINE_OFF);
    assert_int_equal(pg_rig_number(rig, "SELECT sum(v) FROM t"), 3);
    pgqrs_store_close(&store);
    PQfinish(conn);
}

/* ---- behind a pooler ---- */

static void through_a_pooler(void **state)
{
    struct pg_rig *rig = *state;
    char dsn[300];
    struct pgqrs_store *stores[4] = {0};
    pid_t pooler = pg_pooler_start(rig, dsn, sizeof dsn);
    pg_rig_sql(rig, "CREATE TABLE t (v bigint PRIMARY KEY)");
    const struct pgqrs_store_options options = {.schema = rig->schema, .wake = true};
    for (int i = 0; i < 4; i++) {
        suite_ok(rig, pgqrs_store_open(dsn, &options, &stores[i], &rig->err));
        assert_true(pg_of(stores[i])->pooled);
        assert_int_equal(pgqrs_store_wake_fd(stores[i]), -1);
        assert_int_equal(pgqrs_store_claim(stores[i], "here", &rig->err), 0);
    }
    for (int i = 0; i < 40; i++) {
        struct pgqrs_store *store = stores[i % 4];
        suite_ok(rig, put(rig, store, &put_stmt, 3 * i));
        suite_ok(rig, pgqrs_pg_begin(pg_of(store), &rig->err));
        suite_ok(rig, put(rig, store, &put_stmt, 3 * i + 1));
        suite_fails(rig, put(rig, store, &put_stmt, 3 * i + 1), PGQRS_ERR_EXISTS);
        /* Rolled back, or a commit that can not be one. */
        assert_int_equal(pgqrs_pg_end(pg_of(store), i % 2 - 1, &rig->err), -1);
        suite_ok(rig, put(rig, store, &put_stmt, 3 * i + 2));
        suite_ok(rig, ask(rig, store, &sum_stmt));
    }
    assert_int_equal(pg_rig_number(rig, "SELECT count(*) FROM t"), 80);
    /* Nothing of ours is left on the server connections for their next users. */
    PGconn *plain = PQconnectdb(dsn);
    PGresult *r = PQexec(plain, "SHOW search_path");
    assert_string_equal(PQgetvalue(r, 0, 0), "\"$user\", public");
    PQclear(r);
    r = PQexec(plain, "SELECT current_setting('enable_seqscan'), (SELECT count(*) FROM"
                      " pg_prepared_statements), (SELECT count(*) FROM pg_locks WHERE"
                      " locktype = 'advisory')");
    assert_string_equal(PQgetvalue(r, 0, 0), "on");
    assert_string_equal(PQgetvalue(r, 0, 1), "0");
    assert_string_equal(PQgetvalue(r, 0, 2), "0");
    PQclear(r);
    PQfinish(plain);
    for (int i = 0; i < 4; i++) {
        pgqrs_store_close(&stores[i]);
    }
    pg_pooler_end(pooler);
}

static void installs_through_a_pooler(void **state)
{
    struct pg_rig *rig = *state;
    char dsn[300];
    pid_t pooler = pg_pooler_start(rig, dsn, sizeof dsn);
    struct pgqrs_store *store = NULL;
    const struct pgqrs_store_options options = {
        .schema = rig->schema, .wake = true, .wake_dsn = rig->dsn};
    suite_ok(rig, pgqrs_store_open(dsn, &options, &store, &rig->err));
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    assert_true(pgqrs_store_wake_fd(store) >= 0);
    suite_ok(rig, pgqrs_store_claim(store, "here", &rig->err));
    pg_rig_sql(rig, "DROP INDEX pgqrsd_messages_lease");
    suite_fails(rig, pgqrs_store_verify(store, &rig->err), PGQRS_ERR_SCHEMA);
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    pgqrs_store_close(&store);
    pg_pooler_end(pooler);
}

/* A pooler that does not look like one: statements vanish. */
static void statements_that_vanish(void **state)
{
    struct pg_rig *rig = *state;
    static const struct pg_stmt forget = {.sql = "DEALLOCATE ALL"};
    struct pgqrs_store *store = open_with_table(rig, NULL);
    suite_ok(rig, put(rig, store, &put_stmt, 1));
    suite_ok(rig, ask(rig, store, &forget));
    suite_ok(rig, put(rig, store, &put_stmt, 2));
    assert_true(pg_of(store)->pooled);
    assert_int_equal(ask(rig, store, &sum_stmt), 3);
    pgqrs_store_close(&store);
}

/* The server would plan anew each time: for the parameters at hand it always looks cheaper. */
static void plans_are_made_once(void **state)
{
    static const struct pg_stmt custom = {
        .name = "test_custom",
        .sql = "SELECT coalesce(sum(custom_plans), -1)::bigint FROM pg_prepared_statements"
               " WHERE name LIKE '%lease' OR name LIKE '%peek'"};
    static const struct pg_stmt generic = {
        .name = "test_generic",
        .sql = "SELECT coalesce(sum(generic_plans), -1)::bigint FROM pg_prepared_statements"
               " WHERE name LIKE '%lease' OR name LIKE '%peek'"};
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = pg_rig_store(rig, NULL);
    struct pgqrs_want want = {.count = 1, .max_attempts = 5, .lease_ms = 1000};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    suite_ok(rig, pgqrs_store_queue_create(store, "q", &want.queue_id, &rig->err));
    const struct pgqrs_worker_row row = {.name = "w", .queue_id = want.queue_id, .instance = "i"};
    suite_ok(rig, pgqrs_store_worker_register(store, &row, &want.worker_id, &rig->err));
    for (int i = 0; i < 8; i++) {
        const struct pgqrs_enqueue item = {.payload = pgqrs_bytes_from("1")};
        int64_t id;
        suite_ok(rig, pgqrs_store_enqueue(store, want.queue_id, &item, 1, &id, NULL, &rig->err));
        suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
        assert_int_equal(x.lease_count, 1);
    }
    pgqrs_exchange_fini(&x);
    assert_int_equal(ask(rig, store, &custom), 0);
    assert_true(ask(rig, store, &generic) >= 16);
    pgqrs_store_close(&store);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        PG_RIG_CASE(plans_are_made_once),
        PG_RIG_CASE(lost_while_idle_is_not_noticed),
        PG_RIG_CASE(lost_in_a_statement_is_certain),
        PG_RIG_CASE(lost_in_the_commit_is_uncertain),
        PG_RIG_CASE(a_refused_commit_is_certain),
        PG_RIG_CASE(lost_in_a_transaction),
        PG_RIG_CASE(a_server_that_is_away),
        PG_RIG_CASE(a_server_that_does_not_answer),
        PG_RIG_CASE(wrong_password),
        PG_RIG_CASE(refused),
        PG_RIG_CASE(too_many_connections),
        PG_RIG_CASE(a_read_only_server),
        PG_RIG_CASE(what_a_failure_means),
        PG_RIG_CASE(batches_are_all_or_nothing),
        PG_RIG_CASE(values_come_back),
        PG_RIG_CASE(a_lent_transaction_decides),
        PG_RIG_CASE(a_lent_connection_stays_as_it_was),
        PG_RIG_CASE(through_a_pooler),
        PG_RIG_CASE(installs_through_a_pooler),
        PG_RIG_CASE(statements_that_vanish),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
