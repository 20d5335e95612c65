/* SPDX-License-Identifier: Apache-2.0 */
/* A real supervisor with real workers: jobs are cancelled, workers' rows are changed by others. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/world.h"

#define LONG "{\"ms\":600000}"
#define DEAF "{\"ms\":600000,\"ignore_cancel\":true}"
#define CANCELLED                                                                                  \
    "select count(*) from pgqrs_messages where archived_at is not null and"                        \
    " pgqrsd_outcome = 'cancelled' and pgqrsd_error = 'cancelled by request'"
#define REQUESTS "select count(*) from pgqrsd_cancel_requests"
#define UNSPENT                                                                                    \
    "select count(*) from pgqrs_messages where archived_at is null and consumer_worker_id is null" \
    " and read_ct = 0 and pgqrsd_crash_ct = 0"
#define IN_STATE(state) "select count(*) from pgqrs_workers where status = '" state "'"

/* As another program would, which knows nothing of a pgqrsd. */
static void foreign(const struct world *w, const char *sql)
{
    if (w->pg != NULL) {
        pg_rig_sql(w->pg->rig, "%s", sql);
    } else {
        db_exec(&w->f->scratch, sql);
    }
}

static void start(const struct world *w, const char *settings, int consumers)
{
    fixture_start(w->f, settings);
    daemon_await_log(&w->f->daemon, "ready pid=", 1 + consumers);
}

static void stop(const struct world *w)
{
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
}

static bool printed(const struct world *w, const char *text)
{
    char path[128];
    char line[512] = "";
    (void)snprintf(path, sizeof path, "%s/out", w->f->scratch.dir);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t n = fread(line, 1, sizeof line - 1, file);
    (void)fclose(file);
    line[n] = 0;
    return strstr(line, text) != NULL;
}

static void cancel(const struct world *w, const char *id)
{
    cli_ok(&w->f->scratch, NULL, "message", "cancel", id);
    assert_true(printed(w, "its worker is asked to stop it"));
}

/* ---- messages ---- */

static void test_a_job_that_listens(void **state)
{
    struct world *w = *state;
    start(w, "    cancel_grace: 1h\n", 1);
    fixture_enqueue(w->f, 1, LONG);
    effects_await(&w->f->scratch, "start 1 1", 1);
    cancel(w, "1");
    world_await(w, CANCELLED " and read_ct = 1", 1);
    if (w->pg == NULL) {
        world_await(w, REQUESTS, 0); /* with the next heartbeat */
    }
    /* It is over, and can be had again. */
    cli_ok(&w->f->scratch, NULL, "message", "replay", "1");
    effects_await(&w->f->scratch, "start 1 1", 2);
    cancel(w, "1");
    world_await(w, CANCELLED, 1);
    assert_int_equal(effects_count(&w->f->scratch, "start "), 2);
    stop(w);
    assert_int_equal(daemon_log_count(&w->f->daemon, "ready pid="), 2); /* no worker has died */
}

static void test_a_job_that_does_not_is_killed_and_it_alone(void **state)
{
    struct world *w = *state;
    start(w, "    consumers: 2\n    prefetch: 1\n    cancel_grace: 100ms\n", 2);
    fixture_enqueue(w->f, 1, DEAF);
    effects_await(&w->f->scratch, "start 1 ", 1);
    fixture_enqueue(w->f, 1, LONG);
    effects_await(&w->f->scratch, "start 2 ", 1);
    cancel(w, "1");
    world_await(w, CANCELLED " and id = 1 and read_ct = 1 and pgqrsd_crash_ct = 0", 1);
    daemon_await_log(&w->f->daemon,
                     "cancelled by request: job 1 did not stop within 100ms of being told", 1);
    daemon_await_log(&w->f->daemon, "ready pid=", 4);
    assert_int_equal(effects_count(&w->f->scratch, "start "), 2);
    cancel(w, "2");
    world_await(w, CANCELLED " and id = 2 and read_ct = 1", 1);
    stop(w);
    assert_int_equal(daemon_log_count(&w->f->daemon, "ready pid="), 4);
}

static void test_jobs_that_have_not_begun(void **state)
{
    struct world *w = *state;
    start(w, "    prefetch: 3\n    cancel_grace: 1h\n", 1);
    fixture_enqueue(w->f, 3, LONG);
    effects_await(&w->f->scratch, "start 1 ", 1);
    world_await(w, "select count(*) from pgqrs_messages where consumer_worker_id is not null", 3);
    cli_ok(&w->f->scratch, "{}", "message", "enqueue", "work", "-", "--delay", "1h");
    cli_ok(&w->f->scratch, NULL, "message", "cancel", "4"); /* nobody has it */
    assert_true(printed(w, "message 4: cancelled"));
    cancel(w, "2"); /* waits in the worker, behind the first */
    world_await(w, CANCELLED " and id = 2", 1);
    assert_int_equal(effects_count(&w->f->scratch, "start "), 1);
    cancel(w, "1");
    effects_await(&w->f->scratch, "start 3 1 ", 1);
    cancel(w, "3");
    world_await(w, CANCELLED, 3);
    assert_int_equal(effects_count(&w->f->scratch, "start "), 2);
    stop(w);
}

/* Done is done; whatever else it says, it is not tried again. */
static void test_what_a_job_says_that_was_cancelled(void **state)
{
    struct world *w = *state;
    start(w, "    consumers: 2\n    prefetch: 1\n    cancel_grace: 1h\n    retry: {base: 1ms}\n",
          2);
    fixture_enqueue(w->f, 1, "{\"ms\":700,\"ignore_cancel\":true}");
    fixture_enqueue(w->f, 1, "{\"ms\":700,\"ignore_cancel\":true,\"outcome\":\"retry\"}");
    effects_await(&w->f->scratch, "start ", 2);
    cli_ok(&w->f->scratch, NULL, "message", "cancel", "1", "2");
    world_await(w, CANCELLED " and id = 2 and read_ct = 1", 1);
    world_await(w, "select count(*) from pgqrs_messages where id = 1 and pgqrsd_outcome = 'done'",
                1);
    assert_int_equal(effects_count(&w->f->scratch, "start "), 2);
    stop(w);
}

static void test_through_the_broker(void **state)
{
    struct world *w = *state;
    struct scratch client = w->f->scratch;
    start(w, "    cancel_grace: 1h\n", 1);
    fixture_enqueue(w->f, 1, LONG);
    effects_await(&w->f->scratch, "start 1 1", 1);
    (void)snprintf(client.dsn, sizeof client.dsn, "broker:%s/run/pgqrsd.sock", w->f->scratch.dir);
    cli_ok(&client, NULL, "message", "cancel", "1");
    world_await(w, CANCELLED, 1);
    stop(w);
}

/* The request outlives whoever should have carried it out. */
static void test_asked_while_no_broker_is_there(void **state)
{
    struct world *w = *state;
    start(w, "    cancel_grace: 1h\n", 1);
    fixture_enqueue(w->f, 1, LONG);
    effects_await(&w->f->scratch, "start 1 1", 1);
    pid_t broker = daemon_await_children(&w->f->daemon, "pgqrs-broker", 1);
    assert_int_equal(kill(broker, SIGKILL), 0);
    cancel(w, "1");
    world_await(w, CANCELLED " and read_ct = 1", 1);
    assert_int_equal(effects_count(&w->f->scratch, "start "), 1);
    stop(w);
}

/* ---- workers ---- */

#define SET(state) "update pgqrs_workers set status = '" state "'"

static void test_a_worker_that_is_interrupted(void **state)
{
    struct world *w = *state;
    start(w, "    prefetch: 2\n    cancel_grace: 1h\n", 1);
    fixture_enqueue(w->f, 2, LONG);
    effects_await(&w->f->scratch, "start 1 1 ", 1);
    foreign(w, SET("interrupted"));
    world_await(w, IN_STATE("suspended"), 1);
    world_await(w, UNSPENT, 2);
    assert_int_equal(effects_count(&w->f->scratch, "start "), 1);
    foreign(w, SET("ready"));
    effects_await(&w->f->scratch, "start 1 1 ", 2);
    cli_ok(&w->f->scratch, NULL, "worker", "suspend", "1");
    world_await(w, UNSPENT " and id = 2", 1); /* what runs goes on */
    assert_int_equal(effects_count(&w->f->scratch, "start "), 2);
    cli_ok(&w->f->scratch, NULL, "message", "cancel", "2", "1");
    world_await(w, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'cancelled'", 2);
    stop(w);
    assert_int_equal(daemon_log_count(&w->f->daemon, "ready pid="), 2);
}

/* The job goes back all the same, and the next process in the place is suspended. */
static void test_a_worker_that_does_not_let_go(void **state)
{
    struct world *w = *state;
    start(w, "    cancel_grace: 100ms\n    max_attempts: 1\n", 1);
    fixture_enqueue(w->f, 1, DEAF);
    effects_await(&w->f->scratch, "start 1 1 ", 1);
    foreign(w, SET("interrupted"));
    daemon_await_log(&w->f->daemon, "interrupted: job 1 did not stop within 100ms", 1);
    daemon_await_log(&w->f->daemon, "ready pid=", 3);
    world_await(w, IN_STATE("suspended"), 1);
    world_await(w, UNSPENT, 1);
    assert_int_equal(effects_count(&w->f->scratch, "start "), 1);
    cli_ok(&w->f->scratch, NULL, "worker", "resume", "1");
    effects_await(&w->f->scratch, "start 1 1 ", 2);
    cancel(w, "1");
    world_await(w, CANCELLED, 1);
    stop(w);
}

static void test_a_worker_that_is_stopped(void **state)
{
    struct world *w = *state;
    start(w, "    cancel_grace: 1h\n", 1);
    fixture_enqueue(w->f, 1, LONG);
    effects_await(&w->f->scratch, "start 1 1 ", 1);
    foreign(w, SET("stopped"));
    daemon_await_log(&w->f->daemon, "stopped by request, starting another one", 1);
    effects_await(&w->f->scratch, "start 1 1 ", 2); /* by the new one, as if it were new */
    world_await(w, IN_STATE("ready"), 1);
    cancel(w, "1");
    world_await(w, CANCELLED, 1);
    stop(w);
    assert_int_equal(daemon_log_count(&w->f->daemon, "ready pid="), 3);
}

int main(void)
{
#define ON_SQLITE(test)                                                                            \
    cmocka_unit_test_setup_teardown(test, world_sqlite_setup, world_sqlite_teardown)
#define ON_POSTGRES(test) cmocka_unit_test_setup_teardown(test, world_pg_setup, world_pg_teardown)
    const struct CMUnitTest tests[] = {
        ON_SQLITE(test_a_job_that_listens),
        ON_POSTGRES(test_a_job_that_listens),
        ON_SQLITE(test_a_job_that_does_not_is_killed_and_it_alone),
        ON_POSTGRES(test_a_job_that_does_not_is_killed_and_it_alone),
        ON_SQLITE(test_jobs_that_have_not_begun),
        ON_POSTGRES(test_jobs_that_have_not_begun),
        ON_SQLITE(test_what_a_job_says_that_was_cancelled),
        ON_SQLITE(test_through_the_broker),
        ON_SQLITE(test_asked_while_no_broker_is_there),
        ON_SQLITE(test_a_worker_that_is_interrupted),
        ON_POSTGRES(test_a_worker_that_is_interrupted),
        ON_SQLITE(test_a_worker_that_does_not_let_go),
        ON_SQLITE(test_a_worker_that_is_stopped),
        ON_POSTGRES(test_a_worker_that_is_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
