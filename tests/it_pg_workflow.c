/* SPDX-License-Identifier: Apache-2.0 */
/* A real pgqrsd runs workflows of tests/handlers/script.c on a PostgreSQL server. */
#include "tests/support/pg_daemon.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static void start(struct pg_daemon *d, const char *settings)
{
    struct fixture *f = d->fixture;
    daemon_config(&f->scratch, "queues: {flow: {handler: %s, settings: {file: %s}%s}}\n",
                  built("tests/handlers/script.so"), f->scratch.effects, settings);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "queue \"flow\": worker 0: ready", 1);
}

/* As a client of pgqrs triggers it. */
static void trigger(struct pg_daemon *d, const char *words)
{
    pg_rig_sql(d->rig, "SELECT pgqrs_enqueue('flow', jsonb_build_object('input', '%s'))", words);
}

static void await_runs(struct pg_daemon *d, const char *status, int count)
{
    char sql[200];
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM pgqrs_workflow_runs WHERE status = '%s'",
                   status);
    pg_rig_await(d->rig, count, sql);
}

static void assert_times(struct pg_daemon *d, const char *line, int times)
{
    assert_int_equal(effects_count(&d->fixture->scratch, line), times);
}

static void stop(struct pg_daemon *d)
{
    assert_int_equal(daemon_stop(&d->fixture->daemon, SIGTERM), 0);
    assert_true(daemon_is_clean(&d->fixture->daemon));
}

/* ---- cases ---- */

static void a_run_does_all_there_is(void **state)
{
    struct pg_daemon *d = *state;
    start(d, ", consumers: 2, sql: true");
    pg_rig_sql(d->rig, "CREATE TABLE effects (name text PRIMARY KEY)");
    trigger(d, "step:a after:b sql:s flaky:f:1 sleep:z:300 wait:go:-1 child:c:step;x join:j:0"
               " state:k:v step:end");
    await_runs(d, "PAUSED", 1);
    trigger(d, "send:go:1");
    await_runs(d, "SUCCESS", 3);
    assert_times(d, "step a 1 ", 1);
    assert_times(d, "after b 1 ", 1); /* its worker died behind it */
    assert_times(d, "flaky f 1 ", 2);
    assert_true(effects_count(&d->fixture->scratch, "got go=\"sent\" 1 ") > 0);
    assert_times(d, "step end 1 ", 1);
    assert_int_equal(pg_rig_number(d->rig, "SELECT count(*) FROM effects"), 1);
    assert_int_equal(pg_rig_number(d->rig, "SELECT count(*) FROM pgqrs_workflow_steps s JOIN"
                                           " pgqrs_workflow_runs r ON r.id = s.run_id WHERE"
                                           " r.message_id = 1 AND s.status <> 'SUCCESS'"),
                     0);
    assert_int_equal(pg_rig_number(d->rig, "SELECT count(*) FROM pgqrsd_workflow_state"), 1);
    assert_int_equal(pg_rig_number(d->rig, "SELECT count(*) FROM pgqrs_messages WHERE"
                                           " pgqrsd_outcome = 'done'"),
                     3);
    stop(d);
}

static void a_statement_that_is_refused_fails_the_run(void **state)
{
    struct pg_daemon *d = *state;
    start(d, ", sql: true");
    trigger(d, "step:a badsql:b");
    await_runs(d, "ERROR", 1);
    assert_int_equal(pg_rig_number(d->rig, "SELECT count(*) FROM pgqrs_messages WHERE"
                                           " pgqrsd_outcome = 'failed' AND pgqrsd_error LIKE"
                                           " '%%no_such_table%%'"),
                     1);
    stop(d);
}

/* The broker's connections are ended again and again: no step runs twice, none is lost. */
static void connections_that_end(void **state)
{
    enum { RUNS = 12 };
    struct pg_daemon *d = *state;
    start(d, ", consumers: 4");
    for (int i = 0; i < RUNS; i++) {
        trigger(d, "step:a slow:b:60 step:c slow:d:60 sleep:z:100 step:e slow:f:60 step:g");
    }
    for (int i = 1; i <= 4; i++) {
        effects_await(&d->fixture->scratch, "step ", 8 * i);
        (void)pg_rig_terminate(d->rig);
    }
    await_runs(d, "SUCCESS", RUNS);
    assert_times(d, "step ", 4 * RUNS);
    assert_times(d, "slow ", 3 * RUNS);
    stop(d);
}

static void a_run_that_waits_is_cancelled(void **state)
{
    struct pg_daemon *d = *state;
    start(d, "");
    trigger(d, "step:a undo:one wait:go:-1 step:b");
    await_runs(d, "PAUSED", 1);
    cli_ok(&d->fixture->scratch, NULL, "workflow", "cancel", "1");
    await_runs(d, "CANCELLED", 1);
    assert_times(d, "undo one ", 1);
    assert_times(d, "step b ", 0);
    stop(d);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        PG_DAEMON_CASE(a_run_does_all_there_is),
        PG_DAEMON_CASE(a_statement_that_is_refused_fails_the_run),
        PG_DAEMON_CASE(connections_that_end),
        PG_DAEMON_CASE(a_run_that_waits_is_cancelled),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
