/* SPDX-License-Identifier: Apache-2.0 */
/* A real supervisor whose numbers of workers follow what waits. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/daemon.h"

#define DONE_AT_ONCE                                                                               \
    "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done' and read_ct = 1 and"        \
    " pgqrsd_crash_ct = 0"

static void test_as_many_as_the_backlog_asks_for(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    consumers: {min: 1, max: 4, backlog_per_consumer: 10, cooldown: 1s}\n");
    fixture_enqueue(f, 80, "{\"ms\":150}");
    daemon_await_log(&f->daemon, "load: queue \"work\": 3 workers instead of 1", 1);
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 4);
    db_await(&f->scratch, DONE_AT_ONCE, 80);
    daemon_await_log(&f->daemon, "load: queue \"work\": 1 workers instead of ", 1);
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 1);
    assert_int_equal(effects_count(&f->scratch, "start "), 80);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_none_while_there_is_nothing_to_do(void **state)
{
    struct fixture *f = *state;
    daemon_config(&f->scratch,
                  "queues: {work: {handler: %s, settings: {file: %s}, consumers: {min: 0, max: 2, "
                  "cooldown: 1s}}}\n",
                  built("tests/handlers/effect.so"), f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "broker: ready", 1);
    assert_int_equal(daemon_children(&f->daemon, "pgqrs-worker", NULL, 0), 0);
    for (int i = 1; i <= 2; i++) {
        fixture_enqueue(f, 3, "{}");
        db_await(&f->scratch, DONE_AT_ONCE, 3 * i);
        daemon_await_log(&f->daemon, "load: queue \"work\": 0 workers instead of 1", i);
        (void)daemon_await_children(&f->daemon, "pgqrs-worker", 0);
    }
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* The one that works is not idle, and what waits is too little to ask for more by its number. */
static void test_one_more_for_those_that_wait_too_long(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    consumers: {min: 1, max: 3, wait: 500ms, cooldown: 1h}\n");
    fixture_enqueue(f, 1, "{\"ms\":600000}");
    effects_await(&f->scratch, "start ", 1);
    fixture_enqueue(f, 1, "{}");
    effects_await(&f->scratch, "end 2 ", 1);
    assert_true(daemon_log_has(&f->daemon, "load: queue \"work\": 2 workers instead of 1"));
    assert_int_equal(daemon_stop(&f->daemon, SIGQUIT), 75);
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_as_many_as_the_backlog_asks_for),
        WITH_SCRATCH(test_none_while_there_is_nothing_to_do),
        WITH_SCRATCH(test_one_more_for_those_that_wait_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
