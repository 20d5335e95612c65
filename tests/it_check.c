/* SPDX-License-Identifier: Apache-2.0 */
/* pgqrsd --check: each thing that it may find is made, and found; what runs is not disturbed. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/support/pg_pooler.h"
#include "tests/support/shell.h"

#define GOOD "pgqrsd.yaml: configuration is good, 1 queue\n"
#define HANDLER built("tests/handlers/noop.so")

static struct pg_rig *rig; /* null: SQLite */

static void config(const struct fixture *f, const char *more)
{
    daemon_config(&f->scratch, "queues: {a: {handler: %s}}\n%s", HANDLER, more);
}

static int on_sqlite(void **state)
{
    int rc = shell_setup(state);
    const struct fixture *f = *state;
    char *program = realpath(built("bin/pgqrsd"), NULL);
    (void)setenv("PGQRSD", program, 1);
    free(program);
    (void)unsetenv("PGQRS_SCHEMA");
    (void)unsetenv("PGQRS_RUNTIME_DIR");
    config(f, "");
    return rc;
}

static int on_postgres(void **state)
{
    int rc = on_sqlite(state);
    rig = pg_rig_create();
    (void)setenv("PGQRS_DSN", rig->dsn, 1);
    (void)setenv("PGQRS_SCHEMA", rig->schema, 1);
    return rc;
}

static int after_postgres(void **state)
{
    pg_rig_destroy(rig);
    rig = NULL;
    (void)unsetenv("PGQRS_SCHEMA");
    return fixture_teardown(state);
}

static int run_check(const struct fixture *f, const char *variables, const char *options)
{
    return sh(f, "%s \"$PGQRSD\" -c pgqrsd.yaml --check %s", variables, options);
}

static int lines(const char *text)
{
    int count = 0;
    for (; *text != 0; text++) {
        count += *text == '\n';
    }
    return count;
}

static void expect_good(const struct fixture *f)
{
    shell_expect_ok(run_check(f, "", ""));
    assert_string_equal(shell_out, GOOD);
}

/* Exactly one finding, which a start would not survive unharmed. */
static void finds_with(const struct fixture *f, const char *variables, const char *options,
                       const char *found)
{
    int status = run_check(f, variables, options);
    says(shell_out, found);
    if (lines(shell_out) != 1) {
        fail_msg("expected one line, found:\n%s", shell_out);
    }
    assert_int_equal(status, 1);
}

static void finds(const struct fixture *f, const char *found)
{
    finds_with(f, "", "", found);
}

/* Perhaps among others: what is quick enough on an idle machine may not be here. */
static void finds_late(const struct fixture *f, const char *variables, const char *found)
{
    assert_int_equal(run_check(f, variables, ""), 1);
    says(shell_out, found);
}

/* Nothing is wrong with it. */
static void mentions(const struct fixture *f, const char *found)
{
    shell_expect_ok(run_check(f, "", ""));
    says(shell_out, found);
    says(shell_out, GOOD);
    assert_int_equal(lines(shell_out), 2);
}

static void installed(const struct fixture *f)
{
    ok(f, "p admin install && p queue create a");
    expect_good(f);
}

/* ---- the configuration ---- */

static void test_a_configuration_that_is_wrong(void **state)
{
    const struct fixture *f = *state;
    config(f, "conusmers: 3\n");
    assert_int_equal(run_check(f, "", ""), 78);
    daemon_config(&f->scratch, "queues: {a: {handler: ./nowhere.so}}\n");
    assert_int_equal(run_check(f, "", ""), 78);
    says(shell_err, "nowhere.so");
    daemon_config(&f->scratch, "queues: {a: {handler: %s, isolation: {user: nobody-of-that}}}\n",
                  HANDLER);
    assert_int_equal(run_check(f, "", ""), 78);
    says(shell_err, "isolation.user");
}

/* ---- plugins ---- */

static void plugin(const struct fixture *f, const char *name, const char *more)
{
    char path[64];
    (void)snprintf(path, sizeof path, "tests/handlers/%s.so", name);
    daemon_config(&f->scratch, "queues: {a: {handler: %s%s}}\n", built(path), more);
}

static void test_plugins_that_can_not_be_used(void **state)
{
    const struct fixture *f = *state;
    installed(f);
    plugin(f, "wrong_abi", "");
    finds(f, "error    queue \"a\": plugin ");
    says(shell_out, "abi: found ");
    plugin(f, "no_symbol", "");
    finds(f, "found no symbol pgqrs_handler_entry");
    plugin(f, "init_fails", "");
    finds(f, "error    queue \"a\": handler init failed: no camera on queue \"a\"");
    plugin(f, "init_crashes", "");
    finds(f, "error    queue \"a\": killed by signal ");
    plugin(f, "constructor", "");
    finds(f, "constructor.so: version: found null, expected a text");
    finds_with(f, "TEST_CONSTRUCTOR=crash", "",
               "killed by signal 11 (Segmentation fault) in the "
               "plugin's constructor, init or fini");
    finds_with(f, "TEST_CONSTRUCTOR=exit", "", "queue \"a\": ended with status 0 in the plugin's ");
}

static void test_plugins_that_hang(void **state)
{
    const struct fixture *f = *state;
    installed(f);
    daemon_config(&f->scratch, "start_timeout: 1s\nqueues: {a: {handler: %s}}\n",
                  built("tests/handlers/constructor.so"));
    finds_late(f, "TEST_CONSTRUCTOR=hang",
               "error    queue \"a\": the plugin was not ready within 1s (start_timeout)");
    daemon_config(&f->scratch, "start_timeout: 1s\nqueues: {a: {handler: %s}}\n",
                  built("tests/handlers/init_hangs.so"));
    finds_late(f, "", "error    queue \"a\": the plugin was not ready within 1s (start_timeout)");
}

/* The directory of the test is closed to others. */
static void test_a_plugin_that_its_user_can_not_read(void **state)
{
    const struct fixture *f = *state;
    if (geteuid() != 0) {
        skip();
    }
    installed(f);
    scratch_copy(&f->scratch, "mine.so", HANDLER);
    daemon_config(&f->scratch, "queues: {a: {handler: ./mine.so, isolation: {user: nobody}}}\n");
    finds(f, "error    queue \"a\": plugin ");
    says(shell_out, "Permission denied");
}

/* ---- the time there is to stop ---- */

static void test_a_grace_period_that_is_too_short(void **state)
{
    const struct fixture *f = *state;
    installed(f);
    config(f, "shutdown: {drain: 25s, cancel_grace: 5s}\n");
    expect_good(f);
    shell_expect_ok(run_check(f, "", "--grace 31s"));
    shell_expect_ok(run_check(f, "PGQRS_GRACE_PERIOD=31", ""));
    finds_with(f, "", "--grace 30s", "warning  shutdown: drain and cancel_grace, 25s and 5s, ");
    says(shell_out, "the grace period of 30s (--grace)");
    finds_with(f, "PGQRS_GRACE_PERIOD=30", "", "the grace period of 30s (PGQRS_GRACE_PERIOD)");
    shell_expect_ok(run_check(f, "PGQRS_GRACE_PERIOD=30", "--grace 1m"));
    assert_int_equal(run_check(f, "", "--grace soon"), 2);
    says(shell_err, "--grace: found \"soon\"");
    assert_int_equal(sh(f, "\"$PGQRSD\" -c pgqrsd.yaml --grace 30s"), 2);
}

/* ---- the host ---- */

/* A socket that listens at a free port, which it tells. */
static int occupy(int *port_out)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port_out = ntohs(address.sin_port);
    return fd;
}

static void test_a_port_that_is_taken(void **state)
{
    const struct fixture *f = *state;
    char listen[64];
    int port;
    int fd = occupy(&port);
    installed(f);
    (void)snprintf(listen, sizeof listen, "http: {listen: 127.0.0.1:%d}\n", port);
    config(f, listen);
    finds(f, "error    http.listen: can not listen at 127.0.0.1:");
    says(shell_out, "Address already in use");
    (void)close(fd);
    expect_good(f);
    config(f, "http: {listen: '192.0.2.1:80'}\n");
    finds(f, "error    http.listen: can not listen at 192.0.2.1:80");
}

static void test_a_runtime_directory_that_can_not_be_made(void **state)
{
    const struct fixture *f = *state;
    installed(f);
    ok(f, "test ! -e run");
    scratch_write(&f->scratch, "file", "text");
    finds_with(f, "PGQRS_RUNTIME_DIR=./file", "", "error    runtime directory ");
    finds_with(f, "PGQRS_RUNTIME_DIR=./file/below", "", "error    runtime directory ");
    says(shell_out, "Not a directory");
}

/* ---- the store ---- */

/* The schema is there and then is not as it should be; the statements are for either store. */
static void alter(const struct fixture *f, const char *sql)
{
    if (rig != NULL) {
        pg_rig_sql(rig, "%s", sql);
    } else {
        db_exec(&f->scratch, sql);
    }
}

static void test_a_schema_that_does_not_fit(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p admin install");
    mentions(f, "info     queues: \"a\" is not there yet; pgqrsd makes it at its start\n");
    ok(f, "p queue create a");
    expect_good(f);
    alter(f, "drop index pgqrsd_messages_lease");
    finds(f, "warning  schema: ");
    says(shell_out, "pgqrsd_messages_lease");
    ok(f, "p admin install");
    expect_good(f);
    alter(f, rig != NULL ? "insert into pgqrsd_schema (version) values (99)"
                         : "insert into pgqrsd_schema values (99, '')");
    finds(f, "error    schema: ");
    says(shell_out, "found schema version 99");
}

static void test_a_file_that_can_not_be_a_database(void **state)
{
    const struct fixture *f = *state;
    mentions(f, "queue.db is not there yet; pgqrsd makes it at its start\n");
    assert_int_equal(access(f->scratch.db, F_OK), -1);
    scratch_write(&f->scratch, "queue.db", "%s", "");
    mentions(f, "info     schema: there are no tables yet; pgqrsd makes them at its start\n");
    scratch_write(&f->scratch, "queue.db", "This is a text, and long enough to be read as one.");
    finds(f, "error    ");
    says(shell_out, "is not an SQLite database");
    finds_with(f, "PGQRS_DSN=sqlite:nowhere/q.db", "", "nowhere/q.db can not be made: No such");
    finds_with(f, "PGQRS_DSN='sqlite:q.db?mode=rw'", "", "error    store: ");
}

static void test_a_file_of_somebody_else(void **state)
{
    const struct fixture *f = *state;
    char runs_as[200];
    if (geteuid() != 0) {
        skip();
    }
    installed(f);
    ok(f, "chmod 755 . && chmod 644 queue.db*");
    (void)snprintf(runs_as, sizeof runs_as,
                   "PGQRS_RUNTIME_DIR=/tmp/pgqrs-check-%d setpriv --reuid 65534 --clear-groups",
                   (int)getpid());
    assert_int_equal(run_check(f, runs_as, ""), 1);
    says(shell_out, "queue.db can not be written: Permission denied");
}

static void test_a_server_that_does_not_answer(void **state)
{
    const struct fixture *f = *state;
    char variables[128];
    int port;
    int fd = occupy(&port);
    finds_with(f, "PGQRS_DSN='postgres:///postgres?host=/nowhere'", "",
               "error    store: PostgreSQL: no connection: ");
    finds_with(f, "PGQRS_DSN='postgres://a:secret@127.0.0.1:1/postgres'", "",
               "error    store: PostgreSQL: no connection: ");
    assert_null(strstr(shell_out, "secret"));
    config(f, "start_timeout: 1s\n");
    (void)snprintf(variables, sizeof variables,
                   "PGQRS_DSN=postgres://127.0.0.1:%d/postgres?sslmode=disable", port);
    finds_late(f, variables, "error    store: the database did not answer within 1s");
    (void)close(fd);
}

static void test_a_user_who_may_not_create(void **state)
{
    const struct fixture *f = *state;
    char variables[400];
    mentions(f, "info     schema: there are no tables yet");
    pg_rig_sql(rig, "create role small login");
    (void)snprintf(variables, sizeof variables,
                   "PGQRS_DSN='postgres:///postgres?host=%s&user=small'", pg_rig_dir());
    assert_int_equal(run_check(f, variables, ""), 1);
    says(shell_out, "error    schema: this user may not create tables in ");
    ok(f, "p admin install && p queue create a");
    pg_rig_sql(rig,
               "grant usage on schema %s to small; grant select on all tables in schema %s to "
               "small",
               rig->schema, rig->schema);
    finds_with(f, variables, "",
               "error    schema: this user may not SELECT, INSERT, UPDATE and "
               "DELETE in ");
    pg_rig_sql(rig, "drop owned by small; drop role small");
}

static void test_a_server_that_is_read_only(void **state)
{
    const struct fixture *f = *state;
    char variables[400];
    installed(f);
    (void)snprintf(variables, sizeof variables,
                   "PGQRS_DSN='%s&options=-cdefault_transaction_read_only%%3Don'", rig->dsn);
    finds_with(f, variables, "", "error    store: the server does not let anything be written");
}

static void test_a_clock_that_is_wrong(void **state)
{
    const struct fixture *f = *state;
    installed(f);
    pg_rig_set_clock(rig, pgqrs_wall_us() + INT64_C(3600000000));
    finds(f, "warning  clock: the store's is 3");
    says(shell_out, " s ahead of this machine's");
    pg_rig_set_clock(rig, pgqrs_wall_us() - INT64_C(3600000000));
    finds(f, " s behind this machine's");
}

#define SERVER_MAX 60 /* of which 3 are for superusers */

static PGconn *others[SERVER_MAX];

/* So many are left, of all, where so many are in use; others end. */
static void fill_server(int used, int left)
{
    pg_rig_await(rig, used,
                 "select count(*) from pg_stat_activity where backend_type = 'client backend'");
    for (int i = 0; used + i < SERVER_MAX - left; i++) {
        others[i] = pg_rig_connect(rig);
    }
}

static void empty_server(void)
{
    for (int i = 0; i < SERVER_MAX && others[i] != NULL; i++) {
        PQfinish(others[i]);
        others[i] = NULL;
    }
}

static void test_a_server_without_room(void **state)
{
    const struct fixture *f = *state;
    char variables[400];
    installed(f);
    pg_rig_sql(rig,
               "create role small login connection limit 1;"
               "grant usage on schema %s to small; grant all on all tables in schema %s to small",
               rig->schema, rig->schema);
    (void)snprintf(variables, sizeof variables,
                   "PGQRS_DSN='postgres:///postgres?host=%s&user=small'", pg_rig_dir());
    finds_with(f, variables, "",
               "error    connections: there is room for 1 more, expected 2 (the "
               "connection limit of the role, 1, 0 in use)");
    pg_rig_sql(rig, "alter role small connection limit 2");
    shell_expect_ok(run_check(f, variables, ""));
    fill_server(1, 4);
    finds_with(f, variables, "",
               "error    connections: there is room for 1 more, expected 2 ("
               "max_connections without those that are kept for superusers, 57");
    empty_server();
    pg_rig_sql(rig, "drop owned by small; drop role small");
}

static void test_a_pooler_in_the_way(void **state)
{
    const struct fixture *f = *state;
    char through[300];
    char variables[700];
    installed(f);
    pid_t pooler = pg_pooler_start(rig, through, sizeof through);
    (void)snprintf(variables, sizeof variables, "PGQRS_DSN='%s'", through);
    finds_with(f, variables, "", "warning  store: a pooler is before PostgreSQL");
    (void)snprintf(variables, sizeof variables, "PGQRS_DSN='%s' PGQRS_WAKE_DSN='%s'", through,
                   rig->dsn);
    shell_expect_ok(run_check(f, variables, ""));
    (void)snprintf(variables, sizeof variables, "PGQRS_DSN='%s' PGQRS_WAKE_DSN='%s'", through,
                   through);
    finds_with(f, variables, "", "warning  store: a pooler is before PostgreSQL");
    pg_pooler_end(pooler);
}

/* ---- one that runs ---- */

static void test_one_that_runs_is_not_disturbed(void **state)
{
    struct fixture *f = *state;
    char listen[200];
    int port;
    (void)close(occupy(&port));
    (void)snprintf(listen, sizeof listen, "http: {listen: 127.0.0.1:%d}\n", port);
    config(f, listen);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, ": ready pid=", 3);
    (void)snprintf(listen, sizeof listen,
                   "info     http.listen: 127.0.0.1:%d is in use by the pgqrsd \"pgqrsd\" that "
                   "runs, pid %d\n",
                   port, (int)f->daemon.pid);
    ok(f, "ls -R run >before");
    if (rig != NULL) {
        fill_server(1 + 2, 1); /* it has its connections */
    }
    for (int i = 0; i < 3; i++) {
        mentions(f, listen);
    }
    empty_server();
    ok(f, "ls -R run | diff before -");
    ok(f, "p message enqueue a 1 && p queue wait a --timeout 20s");
    assert_int_equal(daemon_log_count(&f->daemon, ": ready pid="), 3);
    assert_int_equal(daemon_log_count(&f->daemon, " warn "), 0);
    assert_int_equal(daemon_log_count(&f->daemon, " error "), 0);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, on_sqlite, fixture_teardown)
#define PG_TEST(test) cmocka_unit_test_setup_teardown(test, on_postgres, after_postgres)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_configuration_that_is_wrong),
        TEST(test_plugins_that_can_not_be_used),
        TEST(test_plugins_that_hang),
        TEST(test_a_plugin_that_its_user_can_not_read),
        TEST(test_a_grace_period_that_is_too_short),
        TEST(test_a_port_that_is_taken),
        TEST(test_a_runtime_directory_that_can_not_be_made),
        TEST(test_a_schema_that_does_not_fit),
        TEST(test_a_file_that_can_not_be_a_database),
        TEST(test_a_file_of_somebody_else),
        TEST(test_a_server_that_does_not_answer),
        TEST(test_one_that_runs_is_not_disturbed),
        PG_TEST(test_a_schema_that_does_not_fit),
        PG_TEST(test_a_user_who_may_not_create),
        PG_TEST(test_a_server_that_is_read_only),
        PG_TEST(test_a_clock_that_is_wrong),
        PG_TEST(test_a_server_without_room),
        PG_TEST(test_a_pooler_in_the_way),
        PG_TEST(test_one_that_runs_is_not_disturbed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
