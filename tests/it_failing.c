/* SPDX-License-Identifier: Apache-2.0 */
/* A real supervisor: queues whose workers can not start, or die too often. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/daemon.h"

#define DONE(queue_name)                                                                           \
    "select count(*) from pgqrs_messages m join pgqrs_queues q on q.id = m.queue_id"               \
    " where q.queue_name = '" queue_name "' and m.pgqrsd_outcome = 'done'"

static void enqueue(const struct fixture *f, const char *queue, const char *payload)
{
    cli_ok(&f->scratch, NULL, "message", "enqueue", queue, payload);
}

/* Two queues of the effect handler: "work", whose plugin file is DIR/copy.so, and "other". */
static void start_two(struct fixture *f, const char *work_settings)
{
    daemon_config(&f->scratch,
                  "queues:\n"
                  "  work: {handler: %s/copy.so, settings: {file: %s}, %s}\n"
                  "  other: {handler: %s, settings: {file: %s}}\n",
                  f->scratch.dir, f->scratch.effects, work_settings,
                  built("tests/handlers/effect.so"), f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "queue \"other\": worker 0: ready", 1);
}

static void test_a_plugin_that_is_mended_is_found(void **state)
{
    struct fixture *f = *state;
    scratch_link(&f->scratch, "copy.so", built("tests/handlers/wrong_abi.so"));
    start_two(f, "consumers: 3, restart: {retry: 200ms}");
    daemon_await_log(&f->daemon, "queue \"work\": failing: ", 1);
    daemon_await_log(&f->daemon, ": still failing: ", 2);
    assert_int_equal(daemon_log_count(&f->daemon, "queue \"work\": failing: "), 1);
    enqueue(f, "work", "{}");
    enqueue(f, "other", "{}");
    db_await(&f->scratch, DONE("other"), 1);
    scratch_link(&f->scratch, "copy.so", built("tests/handlers/effect.so"));
    daemon_await_log(&f->daemon, "queue \"work\": works again", 1);
    db_await(&f->scratch, DONE("work"), 1);
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 4);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* A worker that is lost starts again from the file that has worked. */
static void test_a_plugin_file_that_goes_bad_changes_nothing(void **state)
{
    struct fixture *f = *state;
    pid_t pid;
    scratch_copy(&f->scratch, "copy.so", built("tests/handlers/effect.so"));
    daemon_config(&f->scratch,
                  "queues: {work: {handler: %s/copy.so, settings: {file: %s}, restart: "
                  "{retry: 200ms}}}\n",
                  f->scratch.dir, f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, ": ready pid=", 2);
    scratch_copy(&f->scratch, "copy.so", "/dev/null");
    pid = daemon_await_children(&f->daemon, "pgqrs-worker", 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    daemon_await_log(&f->daemon, ": ready pid=", 3);
    enqueue(f, "work", "{}");
    db_await(&f->scratch, DONE("work"), 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_too_many_crashes_slow_down_one_queue_alone(void **state)
{
    struct fixture *f = *state;
    scratch_link(&f->scratch, "copy.so", built("tests/handlers/effect.so"));
    start_two(f, "consumers: 2, on_crash: 1, restart: {max: 3, window: 1h, retry: 300ms}");
    for (int i = 0; i < 6; i++) {
        enqueue(f, "work", "{\"crash\":9}");
    }
    daemon_await_log(&f->daemon,
                     "failing: more than 3 deaths of workers in 1h, the last one: "
                     "killed by signal 9",
                     1);
    enqueue(f, "other", "{}");
    db_await(&f->scratch, DONE("other"), 1);
    enqueue(f, "work", "{}");
    daemon_await_log(&f->daemon, ": still failing: ", 1);
    db_await(&f->scratch, DONE("work"), 1);
    daemon_await_log(&f->daemon, "queue \"work\": works again", 1);
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 3);
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where pgqrsd_outcome = 'failed' and"
             " pgqrsd_error like 'quarantined%'",
             6);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* That is no death to be slow about. */
static void test_a_job_past_its_limit_costs_a_failing_queue_no_wait(void **state)
{
    struct fixture *f = *state;
    scratch_link(&f->scratch, "copy.so", built("tests/handlers/effect.so"));
    start_two(f, "consumers: 2, on_crash: 1, timeout: 200ms, cancel_grace: 0s, max_attempts: 1,"
                 " restart: {max: 1, window: 1h, retry: 1d}");
    enqueue(f, "work", "{\"crash\":9}");
    daemon_await_log(&f->daemon, "killed by signal 9", 1);
    enqueue(f, "work", "{\"crash\":9}");
    daemon_await_log(&f->daemon, "queue \"work\": failing: ", 1);
    enqueue(f, "work", "{\"ms\":60000,\"ignore_cancel\":true}");
    daemon_await_log(&f->daemon, "ran past its time limit", 1);
    enqueue(f, "work", "{}");
    db_await(&f->scratch, DONE("work"), 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_how_often_it_is_tried_can_be_changed(void **state)
{
    static const char yaml[] = "queues: {work: {handler: %s, settings: {file: %s/later/effects}, "
                               "restart: {retry: %s}}, none: {handler: exec, consumers: 0}}\n";
    struct fixture *f = *state;
    char later[96];
    (void)snprintf(later, sizeof later, "%s/later", f->scratch.dir);
    daemon_config(&f->scratch, yaml, built("tests/handlers/effect.so"), f->scratch.dir, "1d");
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "queue \"work\": failing: ", 1);
    daemon_config(&f->scratch, yaml, built("tests/handlers/effect.so"), f->scratch.dir, "200ms");
    assert_int_equal(kill(f->daemon.pid, SIGHUP), 0);
    daemon_await_log(&f->daemon, ": still failing: ", 2);
    assert_int_equal(mkdir(later, 0700), 0);
    daemon_await_log(&f->daemon, "queue \"work\": works again", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static bool has_gone(const void *arg)
{
    const struct fixture *f = arg;
    char command[200];
    char socket_path[96];
    (void)snprintf(socket_path, sizeof socket_path, "%s/run/pgqrsd.ctl", f->scratch.dir);
    cli_ok(&f->scratch, NULL, "--socket", socket_path, "-o", "json", "ctl", "status");
    (void)snprintf(command, sizeof command, "grep -q '\"queue\": \"other\"' %s/out",
                   f->scratch.dir);
    return system(command) != 0;
}

/* Who has worked once does not end because of a reload. */
static void test_only_new_queues_that_can_not_start(void **state)
{
    struct fixture *f = *state;
    scratch_link(&f->scratch, "copy.so", built("tests/handlers/effect.so"));
    start_two(f, "consumers: 1");
    scratch_link(&f->scratch, "copy.so", built("tests/handlers/wrong_abi.so"));
    daemon_config(&f->scratch,
                  "queues: {fresh: {handler: %s/copy.so, settings: {file: %s}, consumers: 0, "
                  "restart: {retry: 200ms}}}\n",
                  f->scratch.dir, f->scratch.effects);
    assert_int_equal(kill(f->daemon.pid, SIGHUP), 0);
    daemon_await_log(&f->daemon, "queue \"fresh\": new", 1);
    assert_true(wait_for(has_gone, f, WAIT_MS));
    assert_int_equal(kill(f->daemon.pid, SIGTTIN), 0);
    daemon_await_log(&f->daemon, ": still failing: ", 1);
    scratch_link(&f->scratch, "copy.so", built("tests/handlers/effect.so"));
    daemon_await_log(&f->daemon, "queue \"fresh\": works again", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_a_plugin_that_is_mended_is_found),
        WITH_SCRATCH(test_a_plugin_file_that_goes_bad_changes_nothing),
        WITH_SCRATCH(test_too_many_crashes_slow_down_one_queue_alone),
        WITH_SCRATCH(test_a_job_past_its_limit_costs_a_failing_queue_no_wait),
        WITH_SCRATCH(test_how_often_it_is_tried_can_be_changed),
        WITH_SCRATCH(test_only_new_queues_that_can_not_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
