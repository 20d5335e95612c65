/* SPDX-License-Identifier: Apache-2.0 */
/* A real supervisor with real workers: how it stops. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/daemon.h"

static void start_with_shutdown(struct fixture *f, const char *shutdown, const char *queue_settings)
{
    char settings[256];
    (void)snprintf(settings, sizeof settings, "%sshutdown: %s\n", queue_settings, shutdown);
    fixture_start(f, settings);
}

static int64_t unspent(const struct fixture *f)
{
    return db_number(&f->scratch, "select count(*) from pgqrs_messages where archived_at is null "
                                  "and consumer_worker_id is null and read_ct = 0");
}

static void test_term_finishes_running_jobs_and_returns_the_rest_unspent(void **state)
{
    struct fixture *f = *state;
    start_with_shutdown(f, "{drain: 60s}", "    consumers: 2\n    prefetch: 5\n");
    daemon_await_log(&f->daemon, "ready pid=", 3);
    fixture_enqueue(f, 20, "{\"ms\":1500}");
    effects_await(&f->scratch, "start ", 2);
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where consumer_worker_id is not null", 10);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(effects_count(&f->scratch, "start "), 2);
    assert_int_equal(effects_count(&f->scratch, "end "), 2);
    assert_int_equal(
        db_number(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'"),
        2);
    assert_int_equal(unspent(f), 18);
}

static void test_prefetched_jobs_go_back_while_the_running_one_goes_on(void **state)
{
    struct fixture *f = *state;
    start_with_shutdown(f, "{drain: 60s}", "    prefetch: 5\n");
    fixture_enqueue(f, 5, "{\"ms\":60000}");
    effects_await(&f->scratch, "start ", 1);
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where consumer_worker_id is not null", 5);
    assert_int_equal(kill(f->daemon.pid, SIGTERM), 0);
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where consumer_worker_id is not null", 1);
    assert_int_equal(unspent(f), 4);
    assert_int_equal(effects_count(&f->scratch, "start "), 1);
}

static void test_past_the_limit_jobs_are_cancelled(void **state)
{
    struct fixture *f = *state;
    start_with_shutdown(f, "{drain: 200ms, cancel_grace: 60s}", "    consumers: 2\n");
    daemon_await_log(&f->daemon, "ready pid=", 3);
    fixture_enqueue(f, 2, "{\"ms\":60000}");
    effects_await(&f->scratch, "start ", 2);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 75);
    assert_int_equal(effects_count(&f->scratch, "end "), 0);
    assert_int_equal(unspent(f), 2);
}

static void test_past_the_grace_workers_are_killed(void **state)
{
    struct fixture *f = *state;
    start_with_shutdown(f, "{drain: 100ms, cancel_grace: 100ms}", "");
    fixture_enqueue(f, 1, "{\"ms\":60000,\"ignore_cancel\":true}");
    effects_await(&f->scratch, "start ", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 75);
    assert_int_equal(effects_count(&f->scratch, "end "), 0);
    assert_int_equal(unspent(f), 1);
}

static void stop_at_once(struct fixture *f, int first, int second)
{
    start_with_shutdown(f, "{drain: 60s}", "    prefetch: 3\n");
    fixture_enqueue(f, 3, "{\"ms\":60000,\"ignore_cancel\":true}");
    effects_await(&f->scratch, "start ", 1);
    if (first != 0) {
        assert_int_equal(kill(f->daemon.pid, first), 0);
        daemon_await_log(&f->daemon, "draining", 1);
    }
    assert_int_equal(daemon_stop(&f->daemon, second), 75);
    assert_int_equal(unspent(f), 3);
}

static void test_a_second_interrupt_stops_at_once(void **state)
{
    stop_at_once(*state, SIGINT, SIGINT);
}

static void test_quit_stops_at_once(void **state)
{
    stop_at_once(*state, 0, SIGQUIT);
}

static void test_an_idle_daemon_stops_with_zero(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "");
    assert_int_equal(daemon_stop(&f->daemon, SIGINT), 0);
    fixture_start(f, "");
    assert_int_equal(daemon_stop(&f->daemon, SIGQUIT), 0);
}

static void test_results_are_stored_though_the_broker_dies_in_the_drain(void **state)
{
    struct fixture *f = *state;
    start_with_shutdown(f, "{drain: 60s}", "    consumers: 2\n");
    daemon_await_log(&f->daemon, "ready pid=", 3);
    fixture_enqueue(f, 2, "{\"ms\":1000}");
    effects_await(&f->scratch, "start ", 2);
    assert_int_equal(kill(f->daemon.pid, SIGTERM), 0);
    daemon_await_log(&f->daemon, "draining", 1);
    assert_int_equal(kill(daemon_await_children(&f->daemon, "pgqrs-broker", 1), SIGKILL), 0);
    assert_int_equal(daemon_wait(&f->daemon), 0);
    assert_int_equal(
        db_number(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'"),
        2);
    assert_int_equal(effects_count(&f->scratch, "end "), 2);
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_term_finishes_running_jobs_and_returns_the_rest_unspent),
        WITH_SCRATCH(test_prefetched_jobs_go_back_while_the_running_one_goes_on),
        WITH_SCRATCH(test_past_the_limit_jobs_are_cancelled),
        WITH_SCRATCH(test_past_the_grace_workers_are_killed),
        WITH_SCRATCH(test_a_second_interrupt_stops_at_once),
        WITH_SCRATCH(test_quit_stops_at_once),
        WITH_SCRATCH(test_an_idle_daemon_stops_with_zero),
        WITH_SCRATCH(test_results_are_stored_though_the_broker_dies_in_the_drain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
