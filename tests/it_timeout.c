/* SPDX-License-Identifier: Apache-2.0 */
/* A real supervisor with real workers: jobs that run past their queue's time limit. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/support/daemon.h"

#define FOR_GOOD "select count(*) from pgqrs_messages where pgqrsd_outcome = 'failed'"

static void test_a_job_that_listens_is_told_and_tried_again(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    timeout: 150ms\n    cancel_grace: 1h\n    max_attempts: 2\n"
                     "    retry: {base: 1ms}\n");
    fixture_enqueue(f, 1, "{\"ms\":600000}");
    db_await(&f->scratch,
             FOR_GOOD " and read_ct = 2 and pgqrsd_crash_ct = 0 and pgqrsd_error ="
                      " 'timeout: stopped at its time limit of 150ms'",
             1);
    assert_int_equal(effects_count(&f->scratch, "start "), 2);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(daemon_log_count(&f->daemon, "ready pid="), 2); /* no worker has died */
}

static void test_a_job_that_does_not_is_killed_and_it_alone(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    consumers: 2\n    timeout: 1500ms\n    cancel_grace: 100ms\n"
                     "    max_attempts: 2\n    retry: {base: 1ms}\n");
    daemon_await_log(&f->daemon, "ready pid=", 3);
    fixture_enqueue(f, 1, "{\"ms\":600000,\"ignore_cancel\":true}");
    effects_await(&f->scratch, "start 1 ", 1);
    fixture_enqueue(f, 300, "{\"ms\":5}");
    db_await(&f->scratch,
             FOR_GOOD " and id = 1 and read_ct = 2 and pgqrsd_crash_ct = 0 and"
                      " pgqrsd_error = 'timeout: job 1 ran past its time limit of"
                      " 1500ms, and did not stop within 100ms of being told'",
             1);
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done' and"
             " read_ct = 1",
             300);
    assert_int_equal(effects_count(&f->scratch, "start 1 "), 2);
    assert_int_equal(effects_count(&f->scratch, "start "), 302);
    assert_int_equal(effects_count(&f->scratch, "end "), 300);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* What waits in the worker behind another job has not begun. */
static void test_each_job_has_its_own_time(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    prefetch: 8\n    timeout: 1500ms\n    cancel_grace: 0\n");
    fixture_enqueue(f, 8, "{\"ms\":300}");
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done' and"
             " read_ct = 1",
             8);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_a_job_that_listens_is_told_and_tried_again),
        WITH_SCRATCH(test_a_job_that_does_not_is_killed_and_it_alone),
        WITH_SCRATCH(test_each_job_has_its_own_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
