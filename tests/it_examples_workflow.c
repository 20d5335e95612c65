/* SPDX-License-Identifier: Apache-2.0 */
/* The workflows of examples/handlers, as they were built, in a real daemon. */
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/shell.h"

static void start(struct fixture *f, const char *settings)
{
    char order[160];
    char etl[160];
    (void)setenv("LC_ALL", "C", 1);
    (void)snprintf(order, sizeof order, "%s", built("lib/pgqrs/handlers/order_workflow.so"));
    (void)snprintf(etl, sizeof etl, "%s", built("lib/pgqrs/handlers/etl_workflow.so"));
    daemon_config(&f->scratch,
                  "queues:\n"
                  "  order:\n    handler: %s\n    settings: {file: %s%s}\n"
                  "  etl:\n    handler: %s\n    settings: {file: %s, part_workflow: parts}\n"
                  "  parts:\n    handler: %s\n    consumers: 2\n    settings: {file: %s}\n",
                  order, f->scratch.effects, settings, etl, f->scratch.effects,
                  built("lib/pgqrs/handlers/etl_part.so"), f->scratch.effects);
    ok(f, "p admin install >/dev/null; p workflow create order etl parts");
    daemon_start(&f->daemon, &f->scratch);
}

static void trigger(const struct fixture *f, const char *workflow, const char *input)
{
    ok(f, "p workflow trigger %s '%s'", workflow, input);
    assert_string_equal(shell_out, "1\n");
}

static void await_status(const struct fixture *f, const char *status)
{
    char sql[128];
    (void)snprintf(
        sql, sizeof sql,
        "select count(*) from pgqrs_workflow_runs where message_id = 1 and status = '%s'", status);
    db_await(&f->scratch, sql, 1);
}

/* The calls of services, in order. */
static void called(const struct fixture *f, const char *expected)
{
    ok(f, "cat effects");
    assert_string_equal(shell_out, expected);
}

static void stage_is(const struct fixture *f, const char *stage)
{
    ok(f, "p run state 1");
    says(shell_out, stage);
}

#define TEA "{\"item\": \"tea\", \"amount\": 12}"
#define UNDONE "charge order-1 12\nreserve order-1 tea\nrelease order-1 -\nrefund order-1 -\n"

static void an_order_is_approved(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "order", TEA);
    await_status(f, "PAUSED");
    stage_is(f, "\"waiting for approval\"");
    ok(f, "p workflow signal 1 approval '{\"by\": \"ann\"}'");
    ok(f, "p workflow result 1 --wait 20s");
    says(shell_out, "{\"order\":\"shipped\",\"approval\":{\"by\":\"ann\"}}");
    stage_is(f, "\"shipped\"");
    called(f, "charge order-1 12\nreserve order-1 tea\nship order-1 {\"by\":\"ann\"}\n");
}

static void an_order_is_not_approved_in_time(void **state)
{
    struct fixture *f = *state;
    start(f, ", approval_ms: 50");
    trigger(f, "order", TEA);
    ok(f, "p workflow result 1 --wait 20s");
    says(shell_out, "{\"order\":\"cancelled\",\"why\":\"wait \\\"approval\\\": it did not come");
    stage_is(f, "\"cancelled\"");
    called(f, UNDONE);
    assert_int_equal(sh(f, "p workflow signal 1 approval"), 1); /* too late */
}

static void an_order_is_cancelled(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "order", TEA);
    await_status(f, "PAUSED");
    ok(f, "p workflow cancel 1 --wait 20s");
    stage_is(f, "\"cancelled\"");
    called(f, UNDONE);
    assert_int_equal(sh(f, "p workflow result 1"), 1);
    says(shell_err, "was cancelled");
    ok(f, "p run show 1");
    says(shell_out, "release   cleanup  ");
}

static void an_order_can_not_be_filled(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "order", "{\"item\": \"unicorn\", \"amount\": 12}");
    ok(f, "p workflow result 1 --wait 20s");
    says(shell_out, "{\"order\":\"cancelled\",\"why\":{");
    says(shell_out, "is out of stock");
    called(f, "charge order-1 12\nrelease order-1 -\nrefund order-1 -\n");
}

static pid_t worker_of(const struct fixture *f, const char *queue)
{
    char text[96];
    (void)snprintf(text, sizeof text, "queue \"%s\": worker 0: ready pid=", queue);
    daemon_await_log(&f->daemon, text, 1);
    ok(f, "sed -n 's/.*queue \"%s\": worker 0: ready pid=\\([0-9]*\\).*/\\1/p' log", queue);
    return (pid_t)strtol(shell_out, NULL, 10);
}

/* In the second of two steps: the first is not run again, the second is. */
static void an_order_survives_its_worker(void **state)
{
    struct fixture *f = *state;
    start(f, ", work_ms: 1000");
    pid_t worker = worker_of(f, "order");
    trigger(f, "order", TEA);
    ok(f, "p workflow signal 1 approval true"); /* before it waits */
    effects_await(&f->scratch, "reserve", 1);
    assert_int_equal(kill(worker, SIGKILL), 0);
    ok(f, "p workflow result 1 --wait 20s");
    called(f, "charge order-1 12\nreserve order-1 tea\nreserve order-1 tea\nship order-1 true\n");
}

/* The charge was made, and nothing of it was stored. */
static void an_order_is_cancelled_that_has_stored_nothing(void **state)
{
    struct fixture *f = *state;
    start(f, ", work_ms: 60000");
    trigger(f, "order", TEA);
    effects_await(&f->scratch, "charge", 1);
    (void)daemon_stop(&f->daemon, SIGQUIT);
    ok(f, "p workflow cancel 1");
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrs_workflow_steps"), 0);
    start(f, "");
    await_status(f, "CANCELLED");
    called(f, "charge order-1 12\nrefund order-1 -\n");
}

static void batches_are_loaded(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "etl", "{\"batches\": [[\"north\", \"south\"], [\"east\", \"west\"]]}");
    ok(f, "p workflow result 1 --wait 20s");
    assert_string_equal(shell_out, "{\"rows\":18}\n");
    assert_int_equal(effects_count(&f->scratch, "extract"), 2);
    assert_int_equal(effects_count(&f->scratch, "load"), 2);
    assert_int_equal(effects_count(&f->scratch, "load etl-1 10"), 1);
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrs_workflow_runs"), 6);
    assert_int_equal(
        db_number(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_parent_id = 1"),
        2);
    /* Each worker of the parts that had one has failed its first call. */
    int64_t retries = db_number(&f->scratch, "select sum(retry_count) from pgqrs_workflow_steps");
    assert_true(retries >= 1);
    assert_int_equal(effects_count(&f->scratch, "transform"), 4 + retries);
}

static void a_part_fails(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "etl", "{\"batches\": [[\"north\", 5]]}");
    assert_int_equal(sh(f, "p workflow result 1 --wait 20s"), 1);
    says(shell_err, "input: found 5, expected a text");
    assert_int_equal(effects_count(&f->scratch, "load"), 0);
}

int main(void)
{
#define WITH_DAEMON(test)                                                                          \
    {                                                                                              \
#test, test, shell_setup, fixture_teardown, NULL                                           \
    }
    const struct CMUnitTest tests[] = {
        WITH_DAEMON(an_order_is_approved),
        WITH_DAEMON(an_order_is_not_approved_in_time),
        WITH_DAEMON(an_order_is_cancelled),
        WITH_DAEMON(an_order_can_not_be_filled),
        WITH_DAEMON(an_order_survives_its_worker),
        WITH_DAEMON(an_order_is_cancelled_that_has_stored_nothing),
        WITH_DAEMON(batches_are_loaded),
        WITH_DAEMON(a_part_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
