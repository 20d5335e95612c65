/* SPDX-License-Identifier: Apache-2.0 */
/* Workers with short jobs have more leased in their name than they hold: nothing of that may wait
 * behind a long job, or be charged for a crash. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/daemon.h"

#define SHORT 300

/* Short jobs, one other, and short ones again, in one transaction and in this order. */
static void enqueue_around(const struct fixture *f, const char *other)
{
    char *lines = calloc(2 * SHORT + 1, 64);
    assert_non_null(lines);
    char *to = lines;
    for (int i = 0; i < 2 * SHORT + 1; i++) {
        to += sprintf(to, "%s\n", i == SHORT ? other : "{}");
    }
    cli_ok(&f->scratch, lines, "message", "enqueue", "work", "-");
    free(lines);
}

static bool is_gone(const void *pid)
{
    return process_gone(*(const pid_t *)pid);
}

static int64_t done(const struct fixture *f)
{
    return db_number(&f->scratch,
                     "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'");
}

static void test_nothing_waits_behind_a_long_job(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    consumers: 2\n");
    enqueue_around(f, "{\"ms\":60000}");
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'",
             2 * SHORT);
    assert_int_equal(db_number(&f->scratch, "select max(read_ct) from pgqrs_messages"), 1);
    assert_int_equal(effects_count(&f->scratch, "end "), 2 * SHORT);
}

static void test_only_the_job_that_ran_is_charged_for_a_crash(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    max_attempts: 2\n");
    enqueue_around(f, "{\"crash\":1}");
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'",
             2 * SHORT + 1);
    assert_int_equal(
        db_number(&f->scratch, "select count(*) from pgqrs_messages where read_ct > 1"), 1);
    assert_int_equal(db_number(&f->scratch, "select sum(pgqrsd_crash_ct) from pgqrs_messages"), 1);
    assert_int_equal(effects_count(&f->scratch, "end "), 2 * SHORT + 1);
}

static void test_a_drain_gives_the_reserve_back(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "");
    enqueue_around(f, "{\"ms\":300}");
    effects_await(&f->scratch, "start 301 ", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(done(f), effects_count(&f->scratch, "end "));
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrs_messages where"
                                            " consumer_worker_id is not null and archived_at is"
                                            " null"),
                     0);
    assert_int_equal(db_number(&f->scratch, "select sum(read_ct) from pgqrs_messages where"
                                            " archived_at is null"),
                     0);
}

/* What it has in reserve is in nobody's memory then; the next broker gives it back. */
static void test_a_broker_that_dies_leaves_no_reserve_behind(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    consumers: 2\n");
    for (int i = 0; i < 5; i++) {
        enqueue_around(f, "{}");
        pid_t broker = daemon_await_children(&f->daemon, "pgqrs-broker", 1);
        assert_int_equal(kill(broker, SIGKILL), 0);
        assert_true(wait_for(is_gone, &broker, WAIT_MS));
    }
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'",
             5 * (2 * SHORT + 1));
    assert_int_equal(effects_count(&f->scratch, "end "), 5 * (2 * SHORT + 1));
    assert_int_equal(db_number(&f->scratch, "select max(read_ct) from pgqrs_messages"), 1);
}

int main(void)
{
#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(test_nothing_waits_behind_a_long_job),
        WITH_FIXTURE(test_only_the_job_that_ran_is_charged_for_a_crash),
        WITH_FIXTURE(test_a_drain_gives_the_reserve_back),
        WITH_FIXTURE(test_a_broker_that_dies_leaves_no_reserve_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
