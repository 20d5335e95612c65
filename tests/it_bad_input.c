/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What pgqrsd says and how it exits when it can not work as told: one clear line that names the
 * thing, what was found and what was expected. (Keys and values of the file: tests/test_config.c.)
 */
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

#include "tests/support/daemon.h"

/* Runs pgqrsd until it ends by itself. */
static int run(struct fixture *f)
{
    daemon_start(&f->daemon, &f->scratch);
    return daemon_wait(&f->daemon);
}

static void expect_error(const struct fixture *f, const char *text)
{
    if (!daemon_log_has(&f->daemon, text)) {
        char command[128];
        (void)snprintf(command, sizeof command, "cat %s >&2", f->daemon.log);
        (void)!system(command);
        fail_msg("not in the log: %s", text);
    }
    assert_int_equal(daemon_log_count(&f->daemon, " error "), 1);
}

static void config_with_handler(const struct fixture *f, const char *handler, const char *more)
{
    daemon_config(&f->scratch, "queues: {work: {handler: %s, consumers: 3}}\n%s", handler, more);
}

static void test_no_config_file(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(run(f), 78);
    expect_error(f, "pgqrsd.yaml");
}

static void test_malformed_config_names_file_line_and_key(void **state)
{
    struct fixture *f = *state;
    scratch_write(&f->scratch, "pgqrsd.yaml", "dsn: %s\nqueues:\n  work:\n    handlr: x\n",
                  f->scratch.dsn);
    assert_int_equal(run(f), 78);
    expect_error(f, "pgqrsd.yaml:4: ");
    assert_true(daemon_log_has(&f->daemon, "handlr"));
}

static void test_unknown_scheme(void **state)
{
    struct fixture *f = *state;
    scratch_write(&f->scratch, "pgqrsd.yaml", "dsn: oracle:x\nqueues: {work: {handler: %s}}\n",
                  built("lib/pgqrs/handlers/hello.so"));
    assert_int_equal(run(f), 78);
    expect_error(f, "oracle");
}

struct plugin_case {
    const char *handler, *text;
};

static void test_bad_plugins_are_reported_once_and_not_retried(void **state)
{
    static const struct plugin_case cases[] = {
        {"tests/handlers/wrong_abi.so", "abi"},
        {"tests/handlers/no_symbol.so", "pgqrs_handler_entry"},
        {"tests/handlers/too_small.so", "size"},
        {"tests/handlers/null_run.so", "run"},
        {"bin/pgqrs", "bin/pgqrs"}, /* a program is not a shared object */
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char log[96];
        (void)snprintf(log, sizeof log, "%s/log", f->scratch.dir);
        (void)unlink(log);
        config_with_handler(f, built(cases[i].handler), "");
        assert_int_equal(run(f), 78);
        assert_true(daemon_log_has(&f->daemon, cases[i].text));
        assert_int_equal(daemon_log_count(&f->daemon, "failing: "), 1);
        expect_error(f, built(cases[i].handler));
    }
}

static void test_text_file_is_not_a_plugin(void **state)
{
    struct fixture *f = *state;
    char path[96];
    scratch_write(&f->scratch, "text.so", "%s", "int main() {}\n");
    (void)snprintf(path, sizeof path, "%s/text.so", f->scratch.dir);
    config_with_handler(f, path, "");
    assert_int_equal(run(f), 78);
    expect_error(f, "text.so");
}

static void test_missing_plugin(void **state)
{
    struct fixture *f = *state;
    config_with_handler(f, "/nonexistent/handler.so", "");
    assert_int_equal(run(f), 78);
    expect_error(f, "/nonexistent/handler.so");
}

static void test_init_that_fails_crashes_or_hangs_is_given_up(void **state)
{
    static const struct plugin_case cases[] = {
        {"tests/handlers/init_fails.so", "failed starts in a row"},
        {"tests/handlers/init_crashes.so", "killed by signal"},
        {"tests/handlers/init_hangs.so", "not ready after 300 ms"},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        daemon_config(&f->scratch,
                      "queues: {work: {handler: %s, consumers: 1}}\nstart_timeout: 300ms\n",
                      built(cases[i].handler));
        assert_int_equal(run(f), 1);
        assert_true(daemon_log_has(&f->daemon, cases[i].text));
    }
}

static void test_a_bad_queue_leaves_the_others_alone(void **state)
{
    struct fixture *f = *state;
    daemon_config(&f->scratch,
                  "queues:\n"
                  "  bad: {handler: %s}\n"
                  "  work: {handler: %s, settings: {file: %s}}\n",
                  built("tests/handlers/wrong_abi.so"), built("tests/handlers/effect.so"),
                  f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "failing: ", 1);
    daemon_await_log(&f->daemon, "queue \"work\": worker 0: ready", 1);
    fixture_enqueue(f, 3, "{}");
    effects_await(&f->scratch, "end ", 3);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_store_that_is_not_a_database(void **state)
{
    struct fixture *f = *state;
    char text[4096];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    scratch_write(&f->scratch, "queue.db", "%s", text);
    config_with_handler(f, built("lib/pgqrs/handlers/hello.so"), "");
    assert_int_equal(run(f), 69);
    expect_error(f, "queue.db");
    assert_true(daemon_log_has(&f->daemon, "not an SQLite database"));
}

static void test_store_in_a_directory_that_does_not_exist(void **state)
{
    struct fixture *f = *state;
    scratch_write(&f->scratch, "pgqrsd.yaml",
                  "dsn: sqlite:%s/no/such/queue.db\nruntime_dir: %s/run\n"
                  "queues: {work: {handler: %s}}\n",
                  f->scratch.dir, f->scratch.dir, built("lib/pgqrs/handlers/hello.so"));
    assert_int_equal(run(f), 69);
    expect_error(f, "no/such/queue.db");
}

/* Permissions do not bind root: as root, the daemon runs as somebody else, from a copy of the
 * programs that this somebody can reach. */
static void become_ordinary(struct fixture *f)
{
    char command[512];
    if (geteuid() != 0) {
        return;
    }
    (void)snprintf(command, sizeof command,
                   "cp -r %s/bin %s/libexec %s/lib %s && chown -R 65534 %s && chown 0 %s/queue.db",
                   built(""), built(""), built(""), f->scratch.dir, f->scratch.dir, f->scratch.dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(setenv("PGQRS_TEST_BUILD", f->scratch.dir, 1), 0);
    f->daemon.uid = 65534;
}

static void test_read_only_store(void **state)
{
    struct fixture *f = *state;
    char *build = strdup(built(""));
    assert_int_equal(cli(&f->scratch, NULL, "admin", "install", (char *)NULL), 0);
    assert_int_equal(chmod(f->scratch.db, 0444), 0);
    become_ordinary(f);
    config_with_handler(f, built("lib/pgqrs/handlers/hello.so"), "");
    int status = run(f);
    assert_int_equal(setenv("PGQRS_TEST_BUILD", build, 1), 0);
    free(build);
    assert_int_equal(status, 69);
    expect_error(f, "queue.db");
    assert_true(daemon_log_has(&f->daemon, "must be readable and writable"));
}

static void test_store_of_a_newer_schema(void **state)
{
    struct fixture *f = *state;
    cli_ok(&f->scratch, NULL, "admin", "install");
    db_exec(&f->scratch, "insert into pgqrsd_schema (version, installed_at) values (999, 'x')");
    config_with_handler(f, built("lib/pgqrs/handlers/hello.so"), "");
    assert_int_equal(run(f), 78);
    expect_error(f, "999");
}

static void test_a_second_daemon_on_the_same_store_is_refused(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "");
    struct fixture second = *f;
    (void)snprintf(second.scratch.effects, sizeof second.scratch.effects, "%s/other",
                   f->scratch.dir);
    second.daemon = (struct daemon){0};
    daemon_start(&second.daemon, &f->scratch);
    assert_int_equal(daemon_wait(&second.daemon), 69);
    assert_true(daemon_log_has(&f->daemon, "found another broker serving it"));
    fixture_enqueue(f, 1, "{}");
    effects_await(&f->scratch, "end ", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_arguments(void **state)
{
    struct fixture *f = *state;
    char command[1024];
    (void)snprintf(command, sizeof command, "%s --nonsense >/dev/null 2>&1", built("bin/pgqrsd"));
    assert_int_equal(system(command), 2 << 8);
    (void)snprintf(command, sizeof command, "%s word >/dev/null 2>&1", built("bin/pgqrsd"));
    assert_int_equal(system(command), 2 << 8);
    (void)snprintf(command, sizeof command, "%s >/dev/null 2>&1",
                   built("libexec/pgqrs/pgqrs-worker"));
    assert_int_equal(system(command), 2 << 8);
    (void)snprintf(command, sizeof command, "%s >/dev/null 2>&1",
                   built("libexec/pgqrs/pgqrs-broker"));
    assert_int_equal(system(command), 2 << 8);
    config_with_handler(f, built("lib/pgqrs/handlers/hello.so"), "");
    (void)snprintf(command, sizeof command, "%s --check -c %s/pgqrsd.yaml >/dev/null",
                   built("bin/pgqrsd"), f->scratch.dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(access(f->scratch.db, F_OK), -1); /* a check changes nothing */
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_no_config_file),
        WITH_SCRATCH(test_malformed_config_names_file_line_and_key),
        WITH_SCRATCH(test_unknown_scheme),
        WITH_SCRATCH(test_bad_plugins_are_reported_once_and_not_retried),
        WITH_SCRATCH(test_text_file_is_not_a_plugin),
        WITH_SCRATCH(test_missing_plugin),
        WITH_SCRATCH(test_init_that_fails_crashes_or_hangs_is_given_up),
        WITH_SCRATCH(test_a_bad_queue_leaves_the_others_alone),
        WITH_SCRATCH(test_store_that_is_not_a_database),
        WITH_SCRATCH(test_store_in_a_directory_that_does_not_exist),
        WITH_SCRATCH(test_read_only_store),
        WITH_SCRATCH(test_store_of_a_newer_schema),
        WITH_SCRATCH(test_a_second_daemon_on_the_same_store_is_refused),
        WITH_SCRATCH(test_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
