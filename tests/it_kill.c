/* SPDX-License-Identifier: Apache-2.0 */
/* A real supervisor with real workers: what happens to jobs when processes die. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/daemon.h"

#define WORKER "pgqrs-worker"
#define BROKER "pgqrs-broker"

/* Reads "WORD id attempt pid" from the nth line that begins with the word. */
static pid_t effect_pid(const struct fixture *f, const char *word, int nth, int *attempt_out)
{
    FILE *file = fopen(f->scratch.effects, "r");
    char line[128];
    int pid = 0;
    assert_non_null(file);
    while (nth > 0 && fgets(line, sizeof line, file) != NULL) {
        int id;
        if (strncmp(line, word, strlen(word)) == 0 &&
            sscanf(line + strlen(word), " %d %d %d", &id, attempt_out, &pid) == 3) {
            nth--;
        }
    }
    (void)fclose(file);
    assert_int_equal(nth, 0);
    return pid;
}

static bool is_gone(const void *pid)
{
    return process_gone(*(const pid_t *)pid);
}

static void test_job_of_a_killed_worker_runs_again_elsewhere(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    consumers: 2\n");
    daemon_await_log(&f->daemon, "ready pid=", 3);
    /* Long on the first attempt, which is the one that is killed. */
    cli_ok(&f->scratch, NULL, "message", "enqueue", "work", "{\"ms\":60000,\"ms_after_first\":0}");
    effects_await(&f->scratch, "start 1 1 ", 1);
    int attempt = 0;
    pid_t victim = effect_pid(f, "start", 1, &attempt);
    assert_int_equal(kill(victim, SIGKILL), 0);

    effects_await(&f->scratch, "end 1 2 ", 1);
    pid_t other = effect_pid(f, "start", 2, &attempt);
    assert_int_equal(attempt, 2);
    assert_int_not_equal(other, victim);
    assert_int_equal(effects_count(&f->scratch, "end 1 1 "), 0);
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done' and read_ct = 2 "
             "and pgqrsd_crash_ct = 1 and pgqrsd_error like '%signal 9%'",
             1);
    /* The dead one is replaced. */
    (void)daemon_await_children(&f->daemon, WORKER, 2);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_prefetched_jobs_of_a_killed_worker_spend_no_attempt(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    prefetch: 10\n");
    fixture_enqueue(f, 1, "{\"crash\":1}");
    fixture_enqueue(f, 9, "{}");
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'", 10);
    assert_int_equal(effects_count(&f->scratch, "end 1 2 "), 1);
    assert_int_equal(
        db_number(&f->scratch, "select count(*) from pgqrs_messages where read_ct > 1"), 1);
}

/* What a broker has from the one before it goes back to the queue as anything does. */
static void test_prefetched_jobs_of_a_worker_that_outlived_a_broker(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    prefetch: 10\nlog: {level: debug}\n");
    /* In one transaction: they are leased, and sent to the worker, together. */
    db_exec(&f->scratch,
            "with recursive n (i) as (select 0 union all select i + 1 from n where i < 9)"
            " insert into pgqrs_messages (queue_id, payload) select 1, case i when 0 then"
            " '{\"ms\":600000,\"ms_after_first\":0}' else '{}' end from n order by i");
    effects_await(&f->scratch, "start 1 1 ", 1);
    assert_int_equal(kill(daemon_await_children(&f->daemon, BROKER, 1), SIGKILL), 0);
    daemon_await_log(&f->daemon, "held=10", 1);
    assert_int_equal(kill(daemon_await_children(&f->daemon, WORKER, 1), SIGKILL), 0);
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'", 10);
    assert_int_equal(
        db_number(&f->scratch, "select count(*) from pgqrs_messages where read_ct > 1"), 1);
}

/* The broker has more for it than the socket takes when it finds that the worker is dead. */
static void test_an_outcome_counts_though_its_worker_died_with_more_on_the_way_to_it(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    prefetch: 5\n");
    pid_t broker = daemon_await_children(&f->daemon, BROKER, 1);
    pid_t worker = daemon_await_children(&f->daemon, WORKER, 1);
    db_exec(&f->scratch, "with big as (select '{\"pad\":\"' || hex(zeroblob(400000)) || '\"}' as p)"
                         " insert into pgqrs_messages (queue_id, payload) select 1, '{\"ms\":500}'"
                         " union all select 1, '{\"crash\":1}' union all select 1, p from big"
                         " union all select 1, p from big union all select 1, p from big");
    effects_await(&f->scratch, "start 1 1 ", 1);
    assert_int_equal(kill(broker, SIGSTOP), 0);
    effects_await(&f->scratch, "start 2 1 ", 1); /* it has sent what became of the first */
    assert_true(wait_for(is_gone, &worker, WAIT_MS));
    assert_int_equal(kill(broker, SIGCONT), 0);
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'", 5);
    assert_int_equal(effects_count(&f->scratch, "start 1 "), 1);
    assert_int_equal(effects_count(&f->scratch, "start 2 "), 2);
}

static void test_a_job_that_kills_every_worker_becomes_a_dead_letter(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    max_attempts: 1\n    retry: {base: 1ms}\n");
    fixture_enqueue(f, 1, "{\"crash\":1000}");
    fixture_enqueue(f, 1, "{}");
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where id = 1 and pgqrsd_outcome = 'failed' and "
             "read_ct = 3 and pgqrsd_crash_ct = 3 and pgqrsd_error like '%signal 9%'",
             1);
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'", 1);
}

static void test_a_crash_spends_no_attempt(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    max_attempts: 2\n    retry: {base: 1ms}\n");
    fixture_enqueue(f, 1, "{\"crash\":2,\"outcome\":\"retry\"}");
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where id = 1 and pgqrsd_outcome = 'failed' and "
             "read_ct = 4 and pgqrsd_crash_ct = 2 and pgqrsd_error = 'effect: retry, as the "
             "payload says'",
             1);
}

/* Across workers and brokers: the count is the message's. */
static void test_a_job_that_keeps_crashing_is_quarantined(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    consumers: 2\n    on_crash: 2\n    max_attempts: 9\n"
                     "    retry: {base: 1ms}\n");
    fixture_enqueue(f, 1, "{\"crash\":1000}");
    fixture_enqueue(f, 5, "{\"crash\":1}");
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where id = 1 and pgqrsd_outcome = 'failed' and"
             " read_ct = 2 and pgqrsd_crash_ct = 2 and pgqrsd_error like"
             " 'quarantined after 2 crashes: worker killed by signal 9%'",
             1);
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done' and read_ct = 2 and"
             " pgqrsd_crash_ct = 1",
             5);
    /* Replayed, it begins anew. */
    db_exec(&f->scratch, "update pgqrs_messages set payload = '{\"crash\":1}' where id = 1");
    cli_ok(&f->scratch, NULL, "dlq", "replay", "1");
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where id = 1 and pgqrsd_outcome = 'done' and"
             " pgqrsd_crash_ct = 1",
             1);
}

static void test_a_stopped_worker_is_killed_and_its_job_runs_again(void **state)
{
    struct fixture *f = *state;
    scratch_write(&f->scratch, "pgqrsd.yaml",
                  "dsn: %s\nruntime_dir: %s/run\nheartbeat: {interval: 100ms, timeout: 500ms}\n"
                  "queues: {work: {handler: %s, settings: {file: %s}, consumers: 2}}\n",
                  f->scratch.dsn, f->scratch.dir, built("tests/handlers/effect.so"),
                  f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "ready pid=", 3);
    cli_ok(&f->scratch, NULL, "message", "enqueue", "work", "{\"ms\":60000,\"ms_after_first\":0}");
    effects_await(&f->scratch, "start 1 1 ", 1);
    int attempt = 0;
    assert_int_equal(kill(effect_pid(f, "start", 1, &attempt), SIGSTOP), 0);
    effects_await(&f->scratch, "end 1 2 ", 1);
    daemon_await_log(&f->daemon, "no heartbeat for 500 ms", 1);
}

static void test_broker_killed_ten_times_loses_and_repeats_nothing(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    consumers: 4\n    prefetch: 20\n");
    fixture_enqueue(f, 5000, "{}");
    for (int kills = 1; kills <= 10; kills++) {
        effects_await(&f->scratch, "end ", kills * 400);
        pid_t broker = daemon_await_children(&f->daemon, BROKER, 1);
        assert_int_equal(kill(broker, SIGKILL), 0);
        daemon_await_log(&f->daemon, "broker: ready", kills + 1);
    }
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'",
             5000);
    assert_int_equal(effects_count(&f->scratch, "end "), 5000);
    assert_int_equal(
        db_number(&f->scratch, "select count(*) from pgqrs_messages where archived_at is null"), 0);
    assert_int_equal(db_number(&f->scratch, "select max(read_ct) from pgqrs_messages"), 1);
    assert_false(daemon_log_has(&f->daemon, "refused"));
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_supervisor_killed_leaves_no_process_and_no_job_behind(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    consumers: 3\n    prefetch: 5\n");
    daemon_await_log(&f->daemon, "ready pid=", 4);
    fixture_enqueue(f, 3, "{\"ms\":60000,\"ms_after_first\":0}");
    effects_await(&f->scratch, "start ", 3);
    fixture_enqueue(f, 12, "{}"); /* these wait behind them */
    db_await(&f->scratch, "select count(*) from pgqrs_messages where read_ct = 1", 15);
    effects_await(&f->scratch, "start ", 3);
    pid_t pids[8];
    size_t count = daemon_children(&f->daemon, WORKER, pids, 7);
    assert_int_equal(count, 3);
    assert_int_equal(daemon_children(&f->daemon, BROKER, pids + count, 1), 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGKILL), 128 + SIGKILL);
    for (size_t i = 0; i <= count; i++) {
        assert_true(wait_for(is_gone, &pids[i], 1000));
    }

    daemon_start(&f->daemon, &f->scratch);
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'", 15);
    assert_int_equal(effects_count(&f->scratch, "end "), 15);
    /* Only what ran has spent an attempt. */
    assert_int_equal(
        db_number(&f->scratch, "select count(*) from pgqrs_messages where read_ct = 2"), 3);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_job_of_a_killed_worker_runs_again_elsewhere),
        WITH_SCRATCH(test_prefetched_jobs_of_a_killed_worker_spend_no_attempt),
        WITH_SCRATCH(test_prefetched_jobs_of_a_worker_that_outlived_a_broker),
        WITH_SCRATCH(test_an_outcome_counts_though_its_worker_died_with_more_on_the_way_to_it),
        WITH_SCRATCH(test_a_job_that_kills_every_worker_becomes_a_dead_letter),
        WITH_SCRATCH(test_a_crash_spends_no_attempt),
        WITH_SCRATCH(test_a_job_that_keeps_crashing_is_quarantined),
        WITH_SCRATCH(test_a_stopped_worker_is_killed_and_its_job_runs_again),
        WITH_SCRATCH(test_broker_killed_ten_times_loses_and_repeats_nothing),
        WITH_SCRATCH(test_supervisor_killed_leaves_no_process_and_no_job_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
