/* SPDX-License-Identifier: Apache-2.0 */
/* A real supervisor with real workers: what happens to jobs when nobody dies. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/daemon.h"

static void test_jobs_run_and_are_archived(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    consumers: 3\n    prefetch: 4\n");
    fixture_enqueue(f, 200, "{}");
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'", 200);
    assert_int_equal(effects_count(&f->scratch, "end "), 200);
    assert_int_equal(db_number(&f->scratch, "select max(read_ct) from pgqrs_messages"), 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(
        db_number(&f->scratch, "select count(*) from pgqrs_workers where status <> 'stopped'"), 0);
}

static void test_a_few_jobs_are_spread_over_the_workers(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    consumers: 3\n    prefetch: 50\n");
    db_await(&f->scratch, "select count(*) from pgqrs_workers", 3); /* all are connected */
    fixture_enqueue(f, 3, "{\"ms\":60000}");
    /* All three begin though each could have been held by one worker. */
    effects_await(&f->scratch, "start ", 3);
}

static void test_retry_then_success_and_dead_letter(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    max_attempts: 3\n    retry: {base: 10ms, jitter: false}\n");
    cli_ok(&f->scratch, NULL, "message", "enqueue", "work", "{\"outcome\":\"retry\"}");
    cli_ok(&f->scratch, NULL, "message", "enqueue", "work", "{\"outcome\":\"fail\"}");
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'failed'", 2);
    assert_int_equal(db_number(&f->scratch, "select read_ct from pgqrs_messages where id = 1"), 3);
    assert_int_equal(db_number(&f->scratch, "select read_ct from pgqrs_messages where id = 2"), 1);
    assert_int_equal(
        db_number(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_error <> ''"), 2);
    assert_int_equal(effects_count(&f->scratch, "start 1 "), 3);
}

static void test_snooze_spends_no_attempt(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    max_attempts: 2\n");
    cli_ok(&f->scratch, NULL, "message", "enqueue", "work",
           "{\"outcome\":\"snooze\",\"delay_ms\":20}");
    effects_await(&f->scratch, "start 1 1 ", 5);
    assert_int_equal(effects_count(&f->scratch, "start 1 2 "), 0);
}

static void test_follow_up_jobs_come_with_the_outcome(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "");
    cli_ok(&f->scratch, NULL, "queue", "create", "later");
    cli_ok(&f->scratch, NULL, "message", "enqueue", "work", "{\"then\":\"later\"}");
    cli_ok(&f->scratch, NULL, "message", "enqueue", "work", "{\"then\":\"nowhere\"}");
    db_await(&f->scratch, "select count(*) from pgqrs_messages where archived_at is not null", 2);
    assert_int_equal(db_number(&f->scratch,
                               "select count(*) from pgqrs_messages m join pgqrs_queues "
                               "q on q.id = m.queue_id where q.queue_name = 'later'"),
                     1);
    assert_int_equal(
        db_number(&f->scratch,
                  "select count(*) from pgqrs_messages where payload like '%nowhere%' and "
                  "pgqrsd_outcome = 'failed' and pgqrsd_error like '%nowhere%'"),
        1);
}

static void test_delayed_jobs_run_when_due_and_priority_first(void **state)
{
    struct fixture *f = *state;
    daemon_config(&f->scratch,
                  "queues: {work: {handler: %s, settings: {file: %s}}}\n"
                  "poll: 1h\n", /* so that only the due timer can start it */
                  built("tests/handlers/effect.so"), f->scratch.effects);
    cli_ok(&f->scratch, NULL, "admin", "install");
    cli_ok(&f->scratch, NULL, "queue", "create", "work");
    cli_ok(&f->scratch, NULL, "message", "enqueue", "work", "{}", "--delay", "500ms");
    cli_ok(&f->scratch, NULL, "message", "enqueue", "work", "{}");
    cli_ok(&f->scratch, NULL, "message", "enqueue", "work", "{}", "--priority", "9");
    daemon_start(&f->daemon, &f->scratch);
    effects_await(&f->scratch, "end ", 3);
    FILE *file = fopen(f->scratch.effects, "r");
    assert_non_null(file);
    int ids[3] = {0};
    char line[128];
    for (int n = 0; n < 3 && fgets(line, sizeof line, file) != NULL;) {
        n += sscanf(line, "start %d", &ids[n]) == 1 ? 1 : 0;
    }
    (void)fclose(file);
    assert_int_equal(ids[0], 3);
    assert_int_equal(ids[1], 2);
    assert_int_equal(ids[2], 1);
}

static void test_an_enqueue_from_outside_wakes_the_broker(void **state)
{
    struct fixture *f = *state;
    daemon_config(&f->scratch, "queues: {work: {handler: %s, settings: {file: %s}}}\npoll: 1h\n",
                  built("tests/handlers/effect.so"), f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "ready pid=", 2);
    cli_ok(&f->scratch, NULL, "message", "enqueue", "work", "{}");
    effects_await(&f->scratch, "end 1 ", 1); /* the next poll is an hour away */
}

static void test_done_jobs_are_deleted_when_asked_for(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    on_done: delete\n");
    cli_ok(&f->scratch, NULL, "message", "enqueue", "work", "{}");
    effects_await(&f->scratch, "end 1 ", 1);
    db_await(&f->scratch, "select count(*) from pgqrs_messages", 0);
}

/* A job that a client of another kind leased an hour ago and has not come back for. */
static void lease_to_a_stranger(const struct fixture *f)
{
    cli_ok(&f->scratch, NULL, "admin", "install");
    cli_ok(&f->scratch, NULL, "queue", "create", "work");
    cli_ok(&f->scratch, NULL, "message", "enqueue", "work", "{}");
    db_exec(&f->scratch,
            "insert into pgqrs_workers (id, queue_id, name, started_at, heartbeat_at, status)"
            " values (77, 1, 'stranger', datetime('now', '-2 hours'), datetime('now', '-1 hour'),"
            " 'polling');"
            "update pgqrs_messages set consumer_worker_id = 77, read_ct = 1,"
            " vt = datetime('now', '-59 minutes')");
}

static void test_a_strangers_lease_is_left_alone(void **state)
{
    struct fixture *f = *state;
    lease_to_a_stranger(f);
    fixture_start(f, "log: {level: debug}\n");
    cli_ok(&f->scratch, NULL, "message", "enqueue", "work", "{}");
    effects_await(&f->scratch, "end 2 1 ", 1);
    daemon_await_log(&f->daemon, "housekeeping done", 1);
    assert_int_equal(effects_count(&f->scratch, "start 1 "), 0);
    assert_int_equal(
        db_number(&f->scratch, "select consumer_worker_id from pgqrs_messages where id = 1"), 77);
}

static void test_a_strangers_lease_is_taken_away_when_the_operator_says_so(void **state)
{
    struct fixture *f = *state;
    lease_to_a_stranger(f);
    fixture_start(f, "free_foreign_leases: 10m\n");
    effects_await(&f->scratch, "end 1 2 ", 1);
    assert_int_equal(db_number(&f->scratch,
                               "select status = 'stopped' from pgqrs_workers where id ="
                               " 77"),
                     1);
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_jobs_run_and_are_archived),
        WITH_SCRATCH(test_a_strangers_lease_is_left_alone),
        WITH_SCRATCH(test_a_strangers_lease_is_taken_away_when_the_operator_says_so),
        WITH_SCRATCH(test_a_few_jobs_are_spread_over_the_workers),
        WITH_SCRATCH(test_retry_then_success_and_dead_letter),
        WITH_SCRATCH(test_snooze_spends_no_attempt),
        WITH_SCRATCH(test_follow_up_jobs_come_with_the_outcome),
        WITH_SCRATCH(test_delayed_jobs_run_when_due_and_priority_first),
        WITH_SCRATCH(test_an_enqueue_from_outside_wakes_the_broker),
        WITH_SCRATCH(test_done_jobs_are_deleted_when_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
