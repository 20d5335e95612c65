/* SPDX-License-Identifier: Apache-2.0 */
/* The workflows of examples/handlers, as they were built, in a real daemon, on a SQLite file and on
 * a PostgreSQL server. */
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/pg_rig.h"
#include "tests/support/shell.h"

static struct pg_rig *rig; /* null: SQLite */

static int on_sqlite(void **state)
{
    (void)unsetenv("PGQRS_SCHEMA");
    return shell_setup(state);
}

static int on_postgres(void **state)
{
    int rc = shell_setup(state);
    rig = pg_rig_create();
    (void)setenv("PGQRS_DSN", rig->dsn, 1);
    (void)setenv("PGQRS_SCHEMA", rig->schema, 1);
    return rc;
}

static int after(void **state)
{
    int rc = fixture_teardown(state);
    if (rig != NULL) {
        pg_rig_destroy(rig);
        rig = NULL;
    }
    (void)unsetenv("PGQRS_SCHEMA");
    return rc;
}

static int64_t number(const struct fixture *f, const char *sql)
{
    return rig != NULL ? pg_rig_number(rig, "%s", sql) : db_number(&f->scratch, sql);
}

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

struct awaited {
    const struct fixture *f;
    const char *status;
};

static bool has_status(const void *arg)
{
    const struct awaited *a = arg;
    char sql[160];
    (void)snprintf(
        sql, sizeof sql,
        "select count(*) from pgqrs_workflow_runs where message_id = 1 and status = '%s'",
        a->status);
    return number(a->f, sql) == 1;
}

static void await_status(const struct fixture *f, const char *status)
{
    if (!wait_for(has_status, &(struct awaited){.f = f, .status = status}, WAIT_MS)) {
        (void)sh(f, "p run show 1; tail -n 20 log");
        fail_msg("expected %s: %s", status, shell_out);
    }
}

static void result_is(const struct fixture *f, const char *expected)
{
    ok(f, "p workflow result 1 --wait 20s");
    json_t *found = shell_json();
    json_t *json = json_loads(expected, 0, NULL);
    if (!json_equal(found, json)) {
        fail_msg("expected: %s\nfound: %s", expected, shell_out);
    }
    json_decref(found);
    json_decref(json);
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
    ok(f, "p workflow signal 1 approval '\"ann\"'");
    result_is(f, "{\"order\": \"shipped\", \"approval\": \"ann\"}");
    stage_is(f, "\"shipped\"");
    called(f, "charge order-1 12\nreserve order-1 tea\nship order-1 \"ann\"\n");
}

static void an_order_is_not_approved_in_time(void **state)
{
    struct fixture *f = *state;
    start(f, ", approval_ms: 50");
    trigger(f, "order", TEA);
    result_is(f, "{\"order\": \"cancelled\","
                 " \"why\": \"wait \\\"approval\\\": it did not come in time\"}");
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
    result_is(f, "{\"order\": \"cancelled\", \"why\": {\"is_transient\": false, \"code\":"
                 " \"NON_RETRYABLE\", \"message\": \"\\\"unicorn\\\" is out of stock\"}}");
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
    start(f, ", work_ms: 700");
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
    assert_int_equal(number(f, "select count(*) from pgqrs_workflow_steps"), 0);
    start(f, "");
    await_status(f, "CANCELLED");
    called(f, "charge order-1 12\nrefund order-1 -\n");
}

static void batches_are_loaded(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "etl", "{\"batches\": [[\"north\", \"south\"], [\"east\", \"west\"]]}");
    result_is(f, "{\"rows\": 18}");
    assert_int_equal(effects_count(&f->scratch, "extract"), 2);
    assert_int_equal(effects_count(&f->scratch, "load"), 2);
    assert_int_equal(effects_count(&f->scratch, "load etl-1 10"), 1);
    assert_int_equal(number(f, "select count(*) from pgqrs_workflow_runs"), 6);
    assert_int_equal(number(f, "select count(*) from pgqrs_messages where pgqrsd_parent_id = 1"),
                     2);
    /* Each worker of the parts that had one has failed its first call. */
    int64_t retries = number(f, "select sum(retry_count) from pgqrs_workflow_steps");
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
#define ON_SQLITE(test)                                                                            \
    {                                                                                              \
        "sqlite_" #test, test, on_sqlite, after, NULL                                              \
    }
#define ON_POSTGRES(test)                                                                          \
    {                                                                                              \
        "postgres_" #test, test, on_postgres, after, NULL                                          \
    }
    const struct CMUnitTest tests[] = {
        ON_SQLITE(an_order_is_approved),
        ON_SQLITE(an_order_is_not_approved_in_time),
        ON_SQLITE(an_order_is_cancelled),
        ON_SQLITE(an_order_can_not_be_filled),
        ON_SQLITE(an_order_survives_its_worker),
        ON_SQLITE(an_order_is_cancelled_that_has_stored_nothing),
        ON_SQLITE(batches_are_loaded),
        ON_SQLITE(a_part_fails),
        ON_POSTGRES(an_order_is_approved),
        ON_POSTGRES(an_order_is_cancelled),
        ON_POSTGRES(an_order_is_cancelled_that_has_stored_nothing),
        ON_POSTGRES(batches_are_loaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
