/* SPDX-License-Identifier: Apache-2.0 */
/* A real supervisor with real workers: how many there are, and how old ones are replaced. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/daemon.h"

#define DONE_AT_ONCE                                                                               \
    "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done' and read_ct = 1 and"        \
    " pgqrsd_crash_ct = 0"

static void send_signal(const struct fixture *f, int signal, const char *logged, int count)
{
    assert_int_equal(kill(f->daemon.pid, signal), 0);
    daemon_await_log(&f->daemon, logged, count);
}

/* Beats tell the supervisor who works; it logs what it knows. */
static bool both_work(const void *arg)
{
    const struct fixture *f = arg;
    return kill(f->daemon.pid, SIGUSR2) == 0 && daemon_log_has(&f->daemon, " job=1 ") &&
           daemon_log_has(&f->daemon, " job=2 ");
}

static void test_more_and_fewer_workers_on_a_signal(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    consumers: 1\n");
    send_signal(f, SIGTTIN, "SIGTTIN: queue \"work\": 2 workers instead of 1", 1);
    send_signal(f, SIGTTIN, "SIGTTIN: queue \"work\": 3 workers instead of 2", 1);
    daemon_await_log(&f->daemon, "worker 2: ready pid=", 1);
    fixture_enqueue(f, 2, "{\"ms\":3000}");
    effects_await(&f->scratch, "start ", 2);
    db_await(&f->scratch, "select count(*) from pgqrs_workers where status = 'stopped'", 0);
    /* The idle one goes first, and nobody is disturbed. */
    assert_true(wait_for(both_work, f, 20000));
    send_signal(f, SIGTTOU, "SIGTTOU: queue \"work\": 2 workers instead of 3", 1);
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 2);
    assert_int_equal(effects_count(&f->scratch, "end "), 0);
    /* One that works finishes first. */
    send_signal(f, SIGTTOU, "SIGTTOU: queue \"work\": 1 workers instead of 2", 1);
    db_await(&f->scratch, DONE_AT_ONCE, 2);
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 1);
    assert_int_equal(effects_count(&f->scratch, "start "), 2);
    /* None at all, and back. */
    send_signal(f, SIGTTOU, "SIGTTOU: queue \"work\": 0 workers instead of 1", 1);
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 0);
    assert_int_equal(kill(f->daemon.pid, SIGTTOU), 0);
    fixture_enqueue(f, 1, "{}");
    send_signal(f, SIGTTIN, "SIGTTIN: queue \"work\": 1 workers instead of 0", 1);
    db_await(&f->scratch, DONE_AT_ONCE, 3);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void recycles(struct fixture *f, const char *limit, const char *logged)
{
    char settings[200];
    (void)snprintf(settings, sizeof settings, "    consumers: 2\n    recycle: {%s}\n", limit);
    fixture_start(f, settings);
    fixture_enqueue(f, 400, "{\"ms\":10}");
    daemon_await_log(&f->daemon, logged, 3);
    /* The new one is there before the old one goes. */
    assert_true(daemon_log_count(&f->daemon, ": ready pid=") >= 1 + 2 + 2);
    db_await(&f->scratch, DONE_AT_ONCE, 400);
    assert_int_equal(effects_count(&f->scratch, "start "), 400);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(daemon_log_count(&f->daemon, " warn "), 0);
}

static void test_a_worker_is_replaced_after_so_many_jobs(void **state)
{
    recycles(*state, "jobs: 30", " jobs, replacing it");
}

static void test_a_worker_is_replaced_after_a_time(void **state)
{
    recycles(*state, "age: 300ms", "it is old enough, replacing it");
}

static void test_a_worker_is_replaced_when_it_has_grown(void **state)
{
    recycles(*state, "memory: 1MiB", " MiB, replacing it");
}

/* The one that was to follow it takes over at once; nobody is counted twice. */
static void test_a_worker_that_dies_while_it_is_replaced(void **state)
{
    struct fixture *f = *state;
    pid_t old;
    fixture_start(f, "    recycle: {age: 500ms}\n");
    fixture_enqueue(f, 1, "{\"ms\":600000,\"ms_after_first\":0}");
    effects_await(&f->scratch, "start ", 1);
    old = daemon_await_children(&f->daemon, "pgqrs-worker", 1);
    daemon_await_log(&f->daemon, "it is old enough, replacing it", 1);
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 2);
    daemon_await_log(&f->daemon, ": ready pid=", 3); /* the broker, and two of them */
    assert_int_equal(kill(old, SIGKILL), 0);
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done' and"
             " read_ct = 2 and pgqrsd_crash_ct = 1",
             1);
    assert_true(process_gone(old));
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_what_can_not_start_replaces_nothing(void **state)
{
    struct fixture *f = *state;
    char kept[sizeof f->scratch.effects + 8];
    (void)snprintf(kept, sizeof kept, "%s.kept", f->scratch.effects);
    fixture_start(f, "    recycle: {age: 1s}\n");
    /* A plugin that is loaded now can not write where it has to; the one at work has the file. */
    assert_int_equal(rename(f->scratch.effects, kept), 0);
    assert_int_equal(mkdir(f->scratch.effects, 0700), 0);
    daemon_await_log(&f->daemon, "what was to replace it can not start, it goes on", 1);
    fixture_enqueue(f, 1, "{}");
    db_await(&f->scratch, DONE_AT_ONCE, 1);
    assert_int_equal(daemon_log_count(&f->daemon, ": ready pid="), 2);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_more_and_fewer_workers_on_a_signal),
        WITH_SCRATCH(test_a_worker_is_replaced_after_so_many_jobs),
        WITH_SCRATCH(test_a_worker_is_replaced_after_a_time),
        WITH_SCRATCH(test_a_worker_is_replaced_when_it_has_grown),
        WITH_SCRATCH(test_a_worker_that_dies_while_it_is_replaced),
        WITH_SCRATCH(test_what_can_not_start_replaces_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
