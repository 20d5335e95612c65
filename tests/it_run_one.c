/* SPDX-License-Identifier: Apache-2.0 */
/* One message in a worker of its own: pgqrs message run ID --isolated, of a real supervisor. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/world.h"

#define DEAD "select count(*) from pgqrs_messages where pgqrsd_outcome = 'failed'"
#define DONE "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'"
#define CRASHES "    on_crash: 2\n    max_attempts: 10\n    retry: {base: 1ms}\n"

static void expect(const struct world *w, const char *text)
{
    char path[128];
    char out[16384] = "";
    (void)snprintf(path, sizeof path, "%s/out", w->f->scratch.dir);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t n = fread(out, 1, sizeof out - 1, file);
    (void)fclose(file);
    out[n] = 0;
    if (strstr(out, text) == NULL) {
        fail_msg("expected \"%s\", found: %s", text, out);
    }
}

static const char *ctl(const struct world *w)
{
    static char path[128];
    (void)snprintf(path, sizeof path, "%s/run/pgqrsd.ctl", w->f->scratch.dir);
    return path;
}

static int run(const struct world *w, const char *id)
{
    return cli(&w->f->scratch, NULL, "message", "run", id, "--isolated", "--socket", ctl(w),
               (char *)NULL);
}

/* The same, in a process that is not waited for. */
static pid_t run_aside(const struct world *w, const char *id)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char path[128];
        (void)snprintf(path, sizeof path, "%s/out", w->f->scratch.dir);
        if (freopen(path, "w", stdout) == NULL || dup2(STDOUT_FILENO, STDERR_FILENO) < 0) {
            _exit(126);
        }
        (void)execl(built("bin/pgqrs"), "pgqrs", "--dsn", w->f->scratch.dsn, "message", "run", id,
                    "--isolated", "--socket", ctl(w), (char *)NULL);
        _exit(127);
    }
    return pid;
}

static int exit_status(pid_t pid)
{
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Enqueues a job that crashes until DIR/mended is there, and waits until nobody runs it again. */
static void quarantine(const struct world *w, const char *more)
{
    char payload[256];
    (void)snprintf(payload, sizeof payload,
                   "{\"crash\":99,\"say\":\"hello from\",\"mended\":\"%s/mended\"%s}",
                   w->f->scratch.dir, more);
    fixture_enqueue(w->f, 1, payload);
    world_await(w, DEAD " and pgqrsd_error like 'quarantined after 2 crashes%'", 1);
    effects_await(&w->f->scratch, "start 1 ", 2);
}

static void stop(const struct world *w)
{
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
}

static void test_a_message_that_was_quarantined(void **state)
{
    struct world *w = *state;
    fixture_start(w->f, CRASHES);
    quarantine(w, "");
    fixture_enqueue(w->f, 1, "{}");
    world_await(w, DONE " and id = 2", 1); /* by the worker that has come instead */
    pid_t worker = daemon_await_children(&w->f->daemon, "pgqrs-worker", 1);
    assert_int_equal(run(w, "1"), 1);
    expect(w, "hello from 1\n");
    expect(w, "message 1: failed: quarantined after a crash in its isolated run: worker killed by "
              "signal 9");
    world_await(w, DEAD " and pgqrsd_crash_ct = 1", 1);
    scratch_write(&w->f->scratch, "mended", "%s", "");
    assert_int_equal(run(w, "1"), 0);
    expect(w, "hello from 1\n");
    expect(w, "message 1: done\n");
    world_await(w, DONE " and id = 1 and read_ct = 1", 1);
    /* Each time it was the only run, and the ordinary worker is the same. */
    assert_int_equal(effects_count(&w->f->scratch, "start 1 "), 4);
    assert_int_equal(daemon_await_children(&w->f->daemon, "pgqrs-worker", 1), worker);
    assert_int_equal(daemon_log_count(&w->f->daemon, "hello from 1"), 2);
    stop(w);
}

static void test_what_can_not_be_had(void **state)
{
    struct world *w = *state;
    fixture_start(w->f, "    cancel_grace: 1h\n");
    fixture_enqueue(w->f, 1, "{}");
    world_await(w, DONE, 1);
    fixture_enqueue(w->f, 1, "{\"ms\":600000}");
    effects_await(&w->f->scratch, "start 2 ", 1);
    assert_int_equal(run(w, "77"), 1);
    expect(w, "message 77 does not exist");
    assert_int_equal(run(w, "2"), 1);
    expect(w, "message 2: refused: message 2 is leased by worker ");
    assert_int_equal(run(w, "1"), 1);
    expect(w, "message 1: refused: message 1 has ended, and is no dead letter");
    assert_int_equal(cli(&w->f->scratch, NULL, "message", "run", "1", (char *)NULL), 2);
    assert_int_equal(effects_count(&w->f->scratch, "start "), 2);
    cli_ok(&w->f->scratch, NULL, "message", "cancel", "2");
    world_await(w, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'cancelled'", 1);
    stop(w);
    assert_int_equal(daemon_log_count(&w->f->daemon, "starting it again"), 0);
}

static void test_a_message_that_waits(void **state)
{
    struct world *w = *state;
    fixture_start(w->f, "    retry: {base: 1h, max: 1h}\n");
    cli_ok(&w->f->scratch, "{\"outcome\":\"retry\"}", "message", "enqueue", "work", "-", "--delay",
           "1h");
    assert_int_equal(run(w, "1"), 1);
    expect(w, "message 1: retried: effect: retry, as the payload says");
    world_await(
        w,
        "select count(*) from pgqrs_messages where read_ct = 1 and consumer_worker_id is null"
        " and archived_at is null",
        1);
    stop(w);
}

/* A dead letter is one again, and is run by nobody else meanwhile or afterwards. */
static void test_a_run_that_is_cancelled(void **state)
{
    struct world *w = *state;
    fixture_start(w->f, CRASHES "    cancel_grace: 1h\n");
    quarantine(w, ",\"ms\":600000");
    scratch_write(&w->f->scratch, "mended", "%s", "");
    pid_t pid = run_aside(w, "1");
    effects_await(&w->f->scratch, "start 1 ", 3);
    fixture_enqueue(w->f, 1, "{}");
    world_await(w, DONE " and id = 2", 1);
    assert_int_equal(kill(pid, SIGINT), 0);
    assert_int_equal(exit_status(pid), 1);
    world_await(w, DEAD " and pgqrsd_error = 'its isolated run was interrupted'", 1);
    /* Who asked for it is gone at once. */
    pid = run_aside(w, "1");
    effects_await(&w->f->scratch, "start 1 ", 4);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(exit_status(pid), 128 + SIGKILL);
    world_await(w, DEAD " and pgqrsd_error = 'its isolated run was interrupted'", 1);
    daemon_await_log(&w->f->daemon, "isolated run of message 1: failed: its isolated run", 2);
    assert_int_equal(effects_count(&w->f->scratch, "start 1 "), 4);
    stop(w);
}

static void test_a_job_that_does_not_let_go(void **state)
{
    struct world *w = *state;
    fixture_start(w->f, "    cancel_grace: 100ms\n    max_attempts: 1\n");
    cli_ok(&w->f->scratch, "{\"ms\":600000,\"ignore_cancel\":true}", "message", "enqueue", "work",
           "-", "--delay", "1h");
    pid_t pid = run_aside(w, "1");
    effects_await(&w->f->scratch, "start 1 ", 1);
    assert_int_equal(kill(pid, SIGINT), 0);
    assert_int_equal(exit_status(pid), 1);
    expect(w, "message 1: returned: ");
    world_await(
        w,
        "select count(*) from pgqrs_messages where read_ct = 0 and consumer_worker_id is null"
        " and archived_at is null",
        1);
    stop(w);
}

static void test_without_the_broker_for_a_while(void **state)
{
    struct world *w = *state;
    fixture_start(w->f, "");
    cli_ok(&w->f->scratch, "{\"ms\":500}", "message", "enqueue", "work", "-", "--delay", "1h");
    pid_t pid = run_aside(w, "1");
    effects_await(&w->f->scratch, "start 1 ", 1);
    assert_int_equal(kill(daemon_await_children(&w->f->daemon, "pgqrs-broker", 1), SIGKILL), 0);
    assert_int_equal(exit_status(pid), 0);
    world_await(w, DONE " and read_ct = 1", 1);
    assert_int_equal(effects_count(&w->f->scratch, "start "), 1);
    stop(w);
}

/* It is drained as any other, and whoever waits is told. */
static void test_a_stop_of_the_daemon(void **state)
{
    struct world *w = *state;
    fixture_start(w->f, "");
    cli_ok(&w->f->scratch, "{\"ms\":500}", "message", "enqueue", "work", "-", "--delay", "1h");
    pid_t pid = run_aside(w, "1");
    effects_await(&w->f->scratch, "start 1 ", 1);
    stop(w);
    assert_int_equal(exit_status(pid), 0);
    world_await(w, DONE, 1);
}

/* Nobody runs by itself what may have been a dead letter. */
static void test_a_daemon_that_is_killed(void **state)
{
    struct world *w = *state;
    fixture_start(w->f, CRASHES);
    quarantine(w, ",\"ms\":600000");
    scratch_write(&w->f->scratch, "mended", "%s", "");
    pid_t pid = run_aside(w, "1");
    effects_await(&w->f->scratch, "start 1 ", 3);
    assert_int_equal(daemon_stop(&w->f->daemon, SIGKILL), 128 + SIGKILL);
    assert_int_equal(exit_status(pid), 1);
    daemon_start(&w->f->daemon, &w->f->scratch);
    world_await(w, DEAD, 1);
    fixture_enqueue(w->f, 1, "{}");
    world_await(w, DONE " and id = 2", 1);
    assert_int_equal(effects_count(&w->f->scratch, "start 1 "), 3);
    stop(w);
}

int main(void)
{
#define ON_SQLITE(test)                                                                            \
    cmocka_unit_test_setup_teardown(test, world_sqlite_setup, world_sqlite_teardown)
#define ON_POSTGRES(test) cmocka_unit_test_setup_teardown(test, world_pg_setup, world_pg_teardown)
    const struct CMUnitTest tests[] = {
        ON_SQLITE(test_a_message_that_was_quarantined),
        ON_POSTGRES(test_a_message_that_was_quarantined),
        ON_SQLITE(test_what_can_not_be_had),
        ON_POSTGRES(test_what_can_not_be_had),
        ON_SQLITE(test_a_message_that_waits),
        ON_SQLITE(test_a_run_that_is_cancelled),
        ON_POSTGRES(test_a_run_that_is_cancelled),
        ON_SQLITE(test_a_job_that_does_not_let_go),
        ON_SQLITE(test_without_the_broker_for_a_while),
        ON_SQLITE(test_a_stop_of_the_daemon),
        ON_SQLITE(test_a_daemon_that_is_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
