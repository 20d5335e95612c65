/* SPDX-License-Identifier: Apache-2.0 */
/* A real pgqrsd runs workflows of tests/handlers/script.c on SQLite. */
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "tests/support/daemon.h"

#define WORKER "pgqrs-worker"
#define BROKER "pgqrs-broker"
#define RUNS(condition) "select count(*) from pgqrs_workflow_runs where " condition
#define STEPS(condition) "select count(*) from pgqrs_workflow_steps where " condition
#define MESSAGES(condition) "select count(*) from pgqrs_messages where " condition
#define FOR_EVER "-1"

static void start(struct fixture *f, const char *settings)
{
    daemon_config(&f->scratch, "queues: {flow: {handler: %s, settings: {file: %s}%s}}\n",
                  built("tests/handlers/script.so"), f->scratch.effects, settings);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "queue \"flow\": worker 0: ready", 1);
}

/* As a client of pgqrs triggers it. */
static void trigger(const struct fixture *f, const char *words)
{
    char sql[4096];
    (void)snprintf(sql, sizeof sql,
                   "insert into pgqrs_messages (queue_id, payload, vt, enqueued_at)"
                   " select id, '{\"input\":\"%s\"}', datetime('now'), datetime('now')"
                   " from pgqrs_queues where queue_name = 'flow'",
                   words);
    db_exec(&f->scratch, sql);
}

static void await_status(const struct fixture *f, int64_t message, const char *status)
{
    char sql[256];
    (void)snprintf(sql, sizeof sql, RUNS("message_id = %" PRId64 " and status = '%s'"), message,
                   status);
    db_await(&f->scratch, sql, 1);
}

static void stop(struct fixture *f)
{
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void assert_times(const struct fixture *f, const char *line, int times)
{
    assert_int_equal(effects_count(&f->scratch, line), times);
}

/* ---- steps ---- */

static void test_steps_run_once_and_are_stored(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "step:a after:b step:c");
    await_status(f, 1, "SUCCESS");
    assert_times(f, "step a ", 1);
    assert_times(f, "after b ", 1); /* its worker died behind it */
    assert_times(f, "step c ", 1);
    assert_times(f, "noresult ", 0); /* what is stored comes back */
    assert_int_equal(db_number(&f->scratch, STEPS("status = 'SUCCESS' and retry_count = 0 and"
                                                  " output = '{\"step\":\"' || step_name || '\"}'"
                                                  " and completed_at is not null")),
                     3);
    assert_int_equal(db_number(&f->scratch, RUNS("output = '{\"done\":true}' and error is null and"
                                                 " started_at is not null and completed_at is not"
                                                 " null and worker_id is not null")),
                     1);
    assert_int_equal(db_number(&f->scratch, MESSAGES("pgqrsd_outcome = 'done' and"
                                                     " pgqrsd_crash_ct = 1")),
                     1);
    stop(f);
}

static void test_a_step_whose_worker_dies_in_it_runs_again(void **state)
{
    struct fixture *f = *state;
    start(f, ", max_attempts: 1");
    trigger(f, "step:a die:b step:c");
    await_status(f, 1, "SUCCESS");
    assert_times(f, "step a ", 1);
    assert_times(f, "die b ", 2);
    assert_times(f, "step c ", 1);
    stop(f);
}

static void test_a_broker_that_dies_in_a_step_changes_nothing(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "step:a slow:b:1000 step:c");
    effects_await(&f->scratch, "slow b ", 1);
    assert_int_equal(kill(daemon_await_children(&f->daemon, BROKER, 1), SIGKILL), 0);
    await_status(f, 1, "SUCCESS");
    assert_times(f, "begin ", 1);
    assert_times(f, "slow b ", 1);
    assert_times(f, "step c ", 1);
    assert_int_equal(db_number(&f->scratch, MESSAGES("read_ct = 1 and pgqrsd_crash_ct = 0")), 1);
    stop(f);
}

static void test_retries_wait_and_spend_no_attempt(void **state)
{
    struct fixture *f = *state;
    start(f, ", max_attempts: 1");
    trigger(f, "step:a flaky:b:3 snooze:c");
    await_status(f, 1, "SUCCESS");
    assert_times(f, "step a ", 1);
    assert_times(f, "flaky b ", 4);
    assert_times(f, "snooze c ", 2);
    assert_int_equal(db_number(&f->scratch, STEPS("(step_name = 'b' and retry_count = 3) or"
                                                  " (step_name = 'c' and retry_count = 0)")),
                     2);
    assert_int_equal(db_number(&f->scratch, MESSAGES("read_ct = 1 and pgqrsd_error is null")), 1);
    stop(f);
}

static void test_a_retry_may_be_as_far_away_as_one_likes(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "far:a");
    db_await(&f->scratch, STEPS("status = 'ERROR' and retry_count = 1 and retry_at > '2050'"), 1);
    await_status(f, 1, "RUNNING");
    stop(f);
}

static void test_a_step_that_fails_for_good_fails_the_run(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "step:a flaky:b:4 step:c"); /* three retries */
    trigger(f, "fail:d step:e");
    trigger(f, "try:g step:h");
    await_status(f, 1, "ERROR");
    await_status(f, 2, "ERROR");
    await_status(f, 3, "SUCCESS");
    assert_times(f, "flaky b ", 4);
    assert_times(f, "step c ", 0);
    assert_times(f, "step e ", 0);
    assert_times(f, "step h ", 1);
    assert_int_equal(
        db_number(&f->scratch, RUNS("error = '\"step \\\"d\\\": script: d\"' and output is null")),
        1);
    assert_int_equal(db_number(&f->scratch, STEPS("step_name = 'd' and status = 'ERROR' and"
                                                  " error = '{\"is_transient\":false,"
                                                  "\"code\":\"NON_RETRYABLE\",\"message\":"
                                                  "\"script: d\"}' and retry_at is null")),
                     1);
    assert_int_equal(db_number(&f->scratch, MESSAGES("pgqrsd_outcome = 'failed' and pgqrsd_error"
                                                     " = 'step \"d\": script: d'")),
                     1);
    stop(f);
}

/* A dead letter of a workflow goes on from the step that failed. */
static void test_a_failed_run_that_is_replayed_goes_on(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "step:a flaky:b:5 step:c");
    await_status(f, 1, "ERROR");
    cli_ok(&f->scratch, NULL, "dlq", "replay", "1");
    await_status(f, 1, "SUCCESS");
    assert_times(f, "step a ", 1);
    assert_times(f, "flaky b ", 6);
    assert_times(f, "step c ", 1);
    stop(f);
}

static void test_a_run_that_was_changed_says_so(void **state)
{
    struct fixture *f = *state;
    char words[256];
    start(f, "");
    (void)snprintf(words, sizeof words, "step:a switch:%s/first:b sleep:z:300 step:c",
                   f->scratch.dir);
    trigger(f, words);
    trigger(f, "step:a step:a");
    db_await(&f->scratch, STEPS("step_name = 'z'"), 1);
    scratch_write(&f->scratch, "first", "step:other");
    await_status(f, 1, "ERROR");
    await_status(f, 2, "ERROR");
    assert_int_equal(
        db_number(&f->scratch, MESSAGES("pgqrsd_error like 'the run asks for step \"other\" as "
                                        "number 2, where it has stored step \"b\"%'")),
        1);
    assert_int_equal(
        db_number(&f->scratch, MESSAGES("pgqrsd_error like 'step \"a\" is asked for twice%'")), 1);
    assert_times(f, "step other ", 0);
    assert_times(f, "step c ", 0);
    scratch_write(&f->scratch, "first", "step:b"); /* the old one is put back */
    cli_ok(&f->scratch, NULL, "dlq", "replay", "1");
    await_status(f, 1, "SUCCESS");
    assert_times(f, "step b ", 1);
    assert_times(f, "step c ", 1);
    stop(f);
}

static void test_a_run_that_asks_for_less_says_so(void **state)
{
    struct fixture *f = *state;
    char words[256];
    start(f, "");
    (void)snprintf(words, sizeof words, "step:a sleep:y:1 switch:%s/first:b after:c",
                   f->scratch.dir);
    scratch_write(&f->scratch, "first", "step:b");
    trigger(f, words);
    await_status(f, 1, "SUCCESS");
    db_exec(&f->scratch, "insert into pgqrs_workflow_steps (run_id, step_name, status, output)"
                         " values (1, 'more', 'SUCCESS', '1');"
                         "update pgqrs_workflow_runs set status = 'RUNNING', completed_at = null;"
                         "update pgqrs_messages set archived_at = null, consumer_worker_id = null,"
                         " pgqrsd_outcome = null, read_ct = 0, vt = datetime('now')");
    await_status(f, 1, "ERROR");
    assert_int_equal(db_number(&f->scratch, MESSAGES("pgqrsd_error like 'the run ends after 4 steps"
                                                     ", where it has stored 5, the next one "
                                                     "\"more\"%'")),
                     1);
    stop(f);
}

/* ---- what a step brings ---- */

static void test_what_a_step_brings_is_stored_with_it(void **state)
{
    struct fixture *f = *state;
    start(f, ", sql: true");
    db_exec(&f->scratch, "create table effects (name text)");
    trigger(f, "sql:a add:b:flow after:c try:badsql badsql:d");
    await_status(f, 1, "ERROR");
    assert_int_equal(db_number(&f->scratch, "select count(*) from effects where name = 'a'"), 1);
    db_await(&f->scratch, MESSAGES("payload = '{\"from\":\"b\"}'"), 1);
    assert_int_equal(
        db_number(&f->scratch,
                  MESSAGES("id = 1 and pgqrsd_error like 'step \"d\": %no_such_table%'")),
        1);
    stop(f);
}

/* The steps behind it say other things. */
static void test_what_a_run_says_is_kept_until_its_end(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "said:early:flow add:b:flow step:c");
    await_status(f, 1, "SUCCESS");
    assert_int_equal(db_number(&f->scratch, MESSAGES("payload = '{\"from\":\"early\"}'")), 1);
    assert_int_equal(db_number(&f->scratch, MESSAGES("payload = '{\"from\":\"b\"}'")), 1);
    assert_int_equal(db_number(&f->scratch, RUNS("message_id = 1 and output = '{\"said\":true}'")),
                     1);
    stop(f);
}

static void test_a_step_that_does_not_return_fails_the_run(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "step:a jump:b");
    await_status(f, 1, "ERROR");
    assert_int_equal(db_number(&f->scratch, MESSAGES("pgqrsd_error = 'a step did not return'")), 1);
    assert_int_equal(db_number(&f->scratch, STEPS("1 = 1")), 1);
    stop(f);
}

static void test_a_worker_asks_one_thing_at_a_time(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "step:a forge:b step:c");
    daemon_await_log(&f->daemon, "expected it to wait for its answer", 1);
    await_status(f, 1, "SUCCESS"); /* by the next worker */
    assert_times(f, "step a ", 1);
    assert_times(f, "step c ", 1);
    stop(f);
}

static void test_statements_have_to_be_allowed(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    db_exec(&f->scratch, "create table effects (name text)");
    trigger(f, "sql:a");
    await_status(f, 1, "ERROR");
    assert_int_equal(db_number(&f->scratch, "select count(*) from effects"), 0);
    assert_int_equal(
        db_number(&f->scratch,
                  MESSAGES("pgqrsd_error like 'step \"a\": statements are not allowed: %'")),
        1);
    stop(f);
}

/* ---- waiting ---- */

static void test_a_sleep_holds_no_worker(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "step:a sleep:z:1500 step:b");
    await_status(f, 1, "PAUSED");
    assert_int_equal(
        db_number(&f->scratch, RUNS("paused_at is not null and error like '{\"message\":%'")), 1);
    assert_int_equal(db_number(&f->scratch, MESSAGES("consumer_worker_id is null and read_ct = 0")),
                     1);
    trigger(f, "step:other");
    await_status(f, 2, "SUCCESS");
    assert_times(f, "step b ", 0);
    await_status(f, 1, "SUCCESS");
    assert_times(f, "step a ", 1);
    assert_times(f, "step b ", 1);
    assert_int_equal(db_number(&f->scratch, RUNS("id = 1 and error is null")), 1);
    stop(f);
}

static void test_many_sleeps_that_are_over_are_stored(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "naps:z:1100 step:a");
    await_status(f, 1, "SUCCESS");
    assert_int_equal(db_number(&f->scratch, STEPS("pgqrsd_kind = 'sleep' and status = 'SUCCESS'")),
                     1100);
    stop(f);
}

static void test_events_are_never_lost(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "wait:go:" FOR_EVER " step:a");
    trigger(f, "slow:s:300 wait:go:" FOR_EVER);
    trigger(f, "wait:go:150 step:c");
    await_status(f, 1, "PAUSED");
    effects_await(&f->scratch, "slow s ", 1);
    trigger(f, "send:go:1 send:go:2"); /* 2 does not wait yet */
    await_status(f, 4, "SUCCESS");
    await_status(f, 1, "SUCCESS");
    await_status(f, 2, "SUCCESS");
    await_status(f, 3, "SUCCESS");
    assert_times(f, "got go=\"sent\" 1 ", 1);
    assert_times(f, "got go=\"sent\" 2 ", 1);
    assert_times(f, "timeout go 3 ", 1);
    stop(f);
}

static void test_children_are_started_once_and_joined(void **state)
{
    struct fixture *f = *state;
    start(f, ", consumers: 2");
    trigger(f, "child:c1:slow;x;200 after:k child:c2:fail;q join:j1:0 join:j2:1 step:end");
    await_status(f, 1, "SUCCESS");
    assert_int_equal(db_number(&f->scratch, MESSAGES("1 = 1")), 3);
    assert_int_equal(db_number(&f->scratch, MESSAGES("pgqrsd_parent_id = 1")), 2);
    assert_times(f, "got j1={\"done\":true} 1 ", 1);
    assert_times(f, "failed j2 1 ", 1);
    stop(f);
}

static void test_a_child_that_continues_as_new_is_joined_at_its_end(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "child:c:again;2 join:j:0 step:end");
    await_status(f, 1, "SUCCESS");
    assert_times(f, "got j={\"done\":true} 1 ", 1);
    assert_times(f, "step round1 ", 1);
    assert_times(f, "step end 1 ", 1);
    stop(f);
}

static void test_a_run_continues_as_new(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "again:3");
    await_status(f, 4, "SUCCESS");
    assert_int_equal(db_number(&f->scratch, RUNS("status = 'SUCCESS' and output ="
                                                 " '{\"continued_as\": ' || (id + 1) || '}'")),
                     3);
    assert_times(f, "step round1 4 ", 1);
    stop(f);
}

/* ---- cancelling ---- */

/* As a client of pgqrs does. */
static void cancel(const struct fixture *f, int64_t message)
{
    char sql[256];
    (void)snprintf(sql, sizeof sql,
                   "update pgqrs_workflow_runs set status = 'CANCELLING', updated_at ="
                   " datetime('now') where message_id = %" PRId64
                   " and status in ('QUEUED', 'RUNNING', 'PAUSED')",
                   message);
    db_exec(&f->scratch, sql);
}

static void test_a_cancelled_run_undoes_what_it_did(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "step:a undo:one step:b undo:two slow:s:700 step:c");
    effects_await(&f->scratch, "slow s ", 1);
    cancel(f, 1); /* while a step runs: it is finished and stored */
    await_status(f, 1, "CANCELLED");
    assert_times(f, "step c ", 0);
    assert_times(f, "undo two ", 1);
    assert_times(f, "undo one ", 1);
    assert_int_equal(
        db_number(&f->scratch, STEPS("pgqrsd_kind = 'cleanup' and status = 'SUCCESS'")), 2);
    assert_int_equal(db_number(&f->scratch, STEPS("step_name = 's' and status = 'SUCCESS'")), 1);
    assert_int_equal(db_number(&f->scratch, MESSAGES("pgqrsd_outcome = 'cancelled'")), 1);
    assert_int_equal(db_number(&f->scratch, RUNS("completed_at is not null")), 1);
    stop(f);
}

static void test_a_run_that_waits_is_cancelled_at_once(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "step:a undo:one sleep:z:3600000 step:b");
    trigger(f, "sleep:z:3600000");
    await_status(f, 1, "PAUSED");
    await_status(f, 2, "PAUSED");
    cancel(f, 1);
    cancel(f, 2);
    await_status(f, 1, "CANCELLED");
    await_status(f, 2, "CANCELLED");
    assert_times(f, "undo one ", 1);
    assert_times(f, "begin - 2 ", 2); /* it may have done what is not stored */
    assert_times(f, "step b ", 0);
    stop(f);
}

/* ---- the worker that goes ---- */

static void test_a_run_survives_a_stop(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "step:a slow:b:500 step:c sleep:z:100 step:d");
    effects_await(&f->scratch, "slow b ", 1);
    stop(f);
    daemon_start(&f->daemon, &f->scratch);
    await_status(f, 1, "SUCCESS");
    assert_times(f, "step a ", 1);
    assert_times(f, "slow b ", 1);
    assert_times(f, "step c ", 1);
    assert_times(f, "step d ", 1);
    stop(f);
}

/* The step has ended and waits for the store; the run goes on when that works again. */
static void test_a_stop_while_a_step_is_stored(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "step:a slow:b:300 step:c");
    effects_await(&f->scratch, "slow b ", 1);
    sqlite3 *db = db_lock(&f->scratch);
    assert_int_equal(kill(f->daemon.pid, SIGTERM), 0);
    daemon_await_log(&f->daemon, "draining 1 workers", 1);
    (void)usleep(300 * 1000);
    db_unlock(db);
    assert_int_equal(daemon_wait(&f->daemon), 0);
    assert_int_equal(db_number(&f->scratch, RUNS("status = 'SUCCESS'")), 1);
    assert_times(f, "begin ", 1);
    assert_times(f, "step c ", 1);
}

/* A store that is away is no fault of the job's. */
static void test_waiting_for_the_store_is_not_a_jobs_time(void **state)
{
    struct fixture *f = *state;
    start(f, ", timeout: 1s, cancel_grace: 100ms, max_attempts: 1");
    trigger(f, "slow:b:200 step:c");
    effects_await(&f->scratch, "slow b ", 1);
    sqlite3 *db = db_lock(&f->scratch);
    (void)usleep(1500 * 1000);
    db_unlock(db);
    await_status(f, 1, "SUCCESS");
    assert_times(f, "slow b ", 1);
    assert_times(f, "begin ", 1);
    assert_int_equal(db_number(&f->scratch, MESSAGES("read_ct = 1 and pgqrsd_crash_ct = 0")), 1);
    trigger(f, "sleep:z:1 slow:d:60000 step:e"); /* while its time does run out */
    await_status(f, 2, "ERROR");
    assert_int_equal(db_number(&f->scratch, MESSAGES("pgqrsd_error like 'timeout: stopped%'")), 1);
    stop(f);
}

/* Somebody takes the lease away while a step runs: what it says then is not stored. */
static void test_a_worker_that_lost_its_run_stores_nothing(void **state)
{
    struct fixture *f = *state;
    start(f, ", consumers: 2");
    trigger(f, "step:a slow:b:700 step:c");
    effects_await(&f->scratch, "slow b ", 1);
    cli_ok(&f->scratch, NULL, "message", "release", "1");
    effects_await(&f->scratch, "slow b 1 2 ", 1); /* the other one, as attempt 2 */
    await_status(f, 1, "SUCCESS");
    assert_times(f, "step c 1 1 ", 0);
    assert_times(f, "step c 1 2 ", 1);
    daemon_await_log(&f->daemon, "its lease was lost, or its run has ended", 1);
    stop(f);
}

static void test_the_message_of_a_run_that_has_ended_is_archived(void **state)
{
    struct fixture *f = *state;
    start(f, ", on_done: delete");
    trigger(f, "step:a");
    await_status(f, 1, "SUCCESS");
    db_exec(&f->scratch, "update pgqrs_messages set archived_at = null, consumer_worker_id = null,"
                         " pgqrsd_outcome = null, vt = datetime('now')");
    db_await(&f->scratch, MESSAGES("pgqrsd_outcome = 'done' and read_ct = 2"), 1);
    assert_times(f, "begin ", 1);
    stop(f);
}

static void run_isolated(const struct fixture *f, const char *id, int status, const char *text)
{
    char path[128];
    char out[512] = "";
    (void)snprintf(path, sizeof path, "%s/run/pgqrsd.ctl", f->scratch.dir);
    assert_int_equal(
        cli(&f->scratch, NULL, "message", "run", id, "--isolated", "--socket", path, (char *)NULL),
        status);
    (void)snprintf(path, sizeof path, "%s/out", f->scratch.dir);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    (void)!fgets(out, sizeof out, file);
    (void)fclose(file);
    if (strcmp(out, text) != 0) {
        fail_msg("expected \"%s\", found: %s", text, out);
    }
}

static void test_a_run_goes_on_isolated(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    trigger(f, "step:a fail:d");
    await_status(f, 1, "ERROR");
    run_isolated(f, "1", 1, "message 1: failed: step \"d\": script: d\n");
    cli_ok(&f->scratch, NULL, "queue", "pause", "flow");
    trigger(f, "step:b sleep:z:1 step:c");
    run_isolated(f, "2", 1, "message 2: snoozed: sleep \"z\"\n");
    run_isolated(f, "2", 0, "message 2: done\n");
    stop(f);
}

static void test_a_workflow_is_known_before_its_first_run(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    db_await(&f->scratch, "select count(*) from pgqrs_workflows where name = 'flow'", 1);
    cli_ok(&f->scratch, NULL, "workflow", "trigger", "flow", "\"step:a\"");
    await_status(f, 1, "SUCCESS");
    stop(f);
}

/* One that runs for ever is a dead letter when it has crashed so often, and so is its run. */
static void test_a_run_ends_with_its_message(void **state)
{
    struct fixture *f = *state;
    start(f, ", on_crash: 1");
    trigger(f, "step:a die:b");
    trigger(f, "slow:c:60000 step:d");
    await_status(f, 1, "ERROR");
    assert_int_equal(
        db_number(&f->scratch, RUNS("id = 1 and error like '\"quarantined after 1 crashes: %'")),
        1);
    effects_await(&f->scratch, "slow c ", 1);
    cli_ok(&f->scratch, NULL, "message", "cancel", "2");
    await_status(f, 2, "CANCELLED");
    stop(f);
}

static void test_a_run_that_a_client_of_pgqrs_began_goes_on(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    cli_ok(&f->scratch, NULL, "queue", "pause", "flow");
    trigger(f, "step:a step:b step:c");
    db_exec(&f->scratch,
            "insert into pgqrs_workflow_runs (workflow_id, message_id, status, input) select w.id,"
            " 1, 'RUNNING', '{\"input\":\"step:a step:b step:c\"}' from pgqrs_workflows w;"
            "insert into pgqrs_workflow_steps (run_id, step_name, status, output) values"
            " (1, 'a', 'SUCCESS', '{\"step\": \"a\"}'), (1, 'b', 'RUNNING', null)");
    cli_ok(&f->scratch, NULL, "queue", "resume", "flow");
    await_status(f, 1, "SUCCESS");
    assert_times(f, "step a ", 0);
    assert_times(f, "step b ", 1);
    assert_times(f, "step c ", 1);
    assert_int_equal(db_number(&f->scratch, STEPS("status = 'SUCCESS'")), 3);
    stop(f);
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_steps_run_once_and_are_stored),
        WITH_SCRATCH(test_a_step_whose_worker_dies_in_it_runs_again),
        WITH_SCRATCH(test_a_broker_that_dies_in_a_step_changes_nothing),
        WITH_SCRATCH(test_retries_wait_and_spend_no_attempt),
        WITH_SCRATCH(test_a_retry_may_be_as_far_away_as_one_likes),
        WITH_SCRATCH(test_a_step_that_fails_for_good_fails_the_run),
        WITH_SCRATCH(test_a_failed_run_that_is_replayed_goes_on),
        WITH_SCRATCH(test_a_run_that_was_changed_says_so),
        WITH_SCRATCH(test_a_run_that_asks_for_less_says_so),
        WITH_SCRATCH(test_what_a_step_brings_is_stored_with_it),
        WITH_SCRATCH(test_what_a_run_says_is_kept_until_its_end),
        WITH_SCRATCH(test_a_step_that_does_not_return_fails_the_run),
        WITH_SCRATCH(test_a_worker_asks_one_thing_at_a_time),
        WITH_SCRATCH(test_statements_have_to_be_allowed),
        WITH_SCRATCH(test_a_sleep_holds_no_worker),
        WITH_SCRATCH(test_many_sleeps_that_are_over_are_stored),
        WITH_SCRATCH(test_events_are_never_lost),
        WITH_SCRATCH(test_children_are_started_once_and_joined),
        WITH_SCRATCH(test_a_child_that_continues_as_new_is_joined_at_its_end),
        WITH_SCRATCH(test_a_run_continues_as_new),
        WITH_SCRATCH(test_a_cancelled_run_undoes_what_it_did),
        WITH_SCRATCH(test_a_run_that_waits_is_cancelled_at_once),
        WITH_SCRATCH(test_a_run_survives_a_stop),
        WITH_SCRATCH(test_a_stop_while_a_step_is_stored),
        WITH_SCRATCH(test_waiting_for_the_store_is_not_a_jobs_time),
        WITH_SCRATCH(test_a_worker_that_lost_its_run_stores_nothing),
        WITH_SCRATCH(test_the_message_of_a_run_that_has_ended_is_archived),
        WITH_SCRATCH(test_a_run_goes_on_isolated),
        WITH_SCRATCH(test_a_workflow_is_known_before_its_first_run),
        WITH_SCRATCH(test_a_run_ends_with_its_message),
        WITH_SCRATCH(test_a_run_that_a_client_of_pgqrs_began_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
