/* SPDX-License-Identifier: Apache-2.0 */
/* What a real pgqrsd counts, compared with its store, on either one. */
#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/http_ask.h"
#include "tests/support/world.h"

#define COUNT(what) "select count(*) from pgqrs_messages where " what
#define OF_WORK(name, label) name "{queue=\"work\"" label "}"

static int64_t number(const struct world *w, const char *sql)
{
    return w->pg != NULL ? pg_rig_number(w->pg->rig, "%s", sql) : db_number(&w->f->scratch, sql);
}

static void start_handler(const struct world *w, const char *handler, const char *queue_settings)
{
    daemon_config(&w->f->scratch,
                  "http: {listen: 0}\n"
                  "queues:\n"
                  "  work:\n"
                  "    handler: %s\n"
                  "    settings: {file: %s}\n"
                  "%s",
                  built(handler), w->f->scratch.effects, queue_settings);
    daemon_start(&w->f->daemon, &w->f->scratch);
    http_find(&w->f->daemon);
    http_await("/readyz", 200, "ok\n");
}

static void start(const struct world *w, const char *queue_settings)
{
    start_handler(w, "tests/handlers/effect.so", queue_settings);
}

/* ---- 10,000 jobs ---- */

#define ROUNDS 5
#define ROUND 2000

struct progress {
    const struct world *world;
    int64_t ended;
};

static bool has_come_so_far(const void *arg)
{
    const struct progress *p = arg;
    return number(p->world, COUNT("archived_at is not null")) >= p->ended;
}

static void kill_one(const struct world *w, const char *program, size_t count)
{
    pid_t pids[8];
    (void)daemon_await_children(&w->f->daemon, program, count);
    assert_int_equal(daemon_children(&w->f->daemon, program, pids, 8), count);
    assert_int_equal(kill(pids[count - 1], SIGKILL), 0);
}

static void run_round(const struct world *w, int round)
{
    struct progress middle = {w, (int64_t)round * ROUND + ROUND / 4};
    fixture_enqueue(w->f, ROUND * 8 / 10, "{}");
    fixture_enqueue(w->f, ROUND / 10, "{\"outcome\":\"fail\"}");
    fixture_enqueue(w->f, ROUND / 10, "{\"outcome\":\"retry\",\"delay_ms\":0}");
    assert_true(wait_for(has_come_so_far, &middle, WAIT_MS));
    if (round % 2 == 0) {
        kill_one(w, "pgqrs-worker", 3);
    } else {
        kill_one(w, "pgqrs-broker", 1);
    }
    world_await(w, COUNT("archived_at is null"), 0);
}

/* What was stored by a broker that died before it could count or tell is counted, and once. */
static void test_metrics_agree_with_the_store(void **state)
{
    static const struct {
        const char *series, *sql;
    } counted[] = {
        {OF_WORK("pgqrs_jobs_settled_total", ",outcome=\"done\""),
         COUNT("pgqrsd_outcome = 'done'")},
        {OF_WORK("pgqrs_jobs_settled_total", ",outcome=\"failed\""),
         COUNT("pgqrsd_outcome = 'failed'")},
        {OF_WORK("pgqrs_jobs_settled_total", ",outcome=\"retry\""),
         "select sum(read_ct) - count(*) from pgqrs_messages"},
        {OF_WORK("pgqrs_jobs_settled_total", ",outcome=\"cancelled\""), "select 0"},
        {OF_WORK("pgqrs_jobs_settled_total", ",outcome=\"snooze\""), "select 0"},
        {OF_WORK("pgqrs_job_run_seconds_count", ""),
         "select sum(read_ct - pgqrsd_crash_ct) from pgqrs_messages"},
        {OF_WORK("pgqrs_job_wait_seconds_count", ""),
         "select sum(read_ct - pgqrsd_crash_ct) from pgqrs_messages"},
        {OF_WORK("pgqrs_leases_lost_total", ""), "select 0"},
        {OF_WORK("pgqrs_queue_jobs", ",state=\"dead\""), COUNT("pgqrsd_outcome = 'failed'")},
        {OF_WORK("pgqrs_queue_jobs", ",state=\"waiting\""), COUNT("archived_at is null")},
        {OF_WORK("pgqrs_queue_jobs", ",state=\"delayed\""), "select 0"},
        {OF_WORK("pgqrs_queue_jobs", ",state=\"running\""), "select 0"},
        {OF_WORK("pgqrs_worker_deaths_total", ",reason=\"signal\""), "select 3"},
        {"pgqrs_broker_deaths_total", "select 2"},
    };
    const struct world *w = *state;
    start(w, "    consumers: 3\n    max_attempts: 2\n    retry: {base: 1ms, max: 1ms}\n");
    for (int round = 0; round < ROUNDS; round++) {
        run_round(w, round);
    }
    assert_int_equal(number(w, COUNT("true")), ROUNDS * ROUND);
    for (size_t i = 0; i < sizeof counted / sizeof *counted; i++) {
        http_await_metric(counted[i].series, number(w, counted[i].sql));
    }
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
}

/* ---- a broker that dies in a commit ---- */

static void signal_servers(const struct world *w, int sig)
{
    PGresult *rows =
        PQexec(pg_rig_raw(w->pg->rig), "SELECT pid FROM pg_stat_activity WHERE backend_type ="
                                       " 'client backend' AND pid <> pg_backend_pid()");
    assert_int_equal(PQresultStatus(rows), PGRES_TUPLES_OK);
    assert_true(PQntuples(rows) > 0);
    for (int i = 0; i < PQntuples(rows); i++) {
        assert_int_equal(kill((pid_t)atoi(PQgetvalue(rows, i, 0)), sig), 0);
    }
    PQclear(rows);
}

struct sent {
    const struct scratch *scratch;
    int outcomes;
};

/* The only worker's heartbeat has told so. */
static bool have_sent(const void *arg)
{
    const struct sent *sent = arg;
    char socket_path[96];
    char command[160];
    (void)snprintf(socket_path, sizeof socket_path, "%s/run/pgqrsd.ctl", sent->scratch->dir);
    cli_ok(sent->scratch, NULL, "--socket", socket_path, "-o", "json", "ctl", "status");
    (void)snprintf(command, sizeof command, "grep -q '\"settled\": %d[,}]' %s/out", sent->outcomes,
                   sent->scratch->dir);
    return system(command) == 0;
}

#define RETRIED COUNT("consumer_worker_id is null and archived_at is null")

static bool is_retried(const void *arg)
{
    const struct progress *p = arg;
    return number(p->world, RETRIED) == p->ended;
}

/* The server carries out what the broker has sent it, and nobody hears of it. False: what it was
 * sent was something else. */
static bool lose_a_commit(const struct world *w, int round)
{
    const struct scratch *s = &w->f->scratch;
    const struct daemon *daemon = &w->f->daemon;
    const struct progress retried = {w, round + 1};
    fixture_enqueue(w->f, 1, "{\"ms\":500,\"outcome\":\"retry\",\"delay_ms\":3600000}");
    effects_await(s, "start ", round + 3);
    pid_t broker = daemon_await_children(daemon, "pgqrs-broker", 1);
    (void)poll(NULL, 0, 250); /* what its last lease has led to */
    signal_servers(w, SIGSTOP);
    effects_await(s, "end ", round + 3);
    assert_true(wait_for(have_sent, &(struct sent){s, round + 3}, WAIT_MS));
    assert_int_equal(kill(daemon->pid, SIGSTOP), 0); /* the next broker comes later */
    assert_int_equal(kill(broker, SIGKILL), 0);
    signal_servers(w, SIGCONT);
    bool stored = wait_for(is_retried, &retried, 500);
    assert_int_equal(kill(daemon->pid, SIGCONT), 0);
    daemon_await_log(daemon, "connected again", round + 1);
    return stored;
}

static void test_what_a_dying_broker_has_stored_is_counted(void **state)
{
    const struct world *w = *state;
    int round = 0;
    start(w, "    max_attempts: 2\n");
    fixture_enqueue(w->f, 1, "{\"outcome\":\"retry\",\"delay_ms\":0}"); /* prepares statements */
    world_await(w, COUNT("archived_at is null"), 0);
    while (!lose_a_commit(w, round)) {
        assert_true(++round < 10);
    }
    http_await("/readyz", 200, "ok\n");
    http_await_metric(OF_WORK("pgqrs_jobs_settled_total", ",outcome=\"retry\""), round + 2);
    assert_int_equal(http_metric(OF_WORK("pgqrs_leases_lost_total", "")), 0);
    assert_int_equal(http_metric(OF_WORK("pgqrs_job_run_seconds_count", "")), round + 3);
    http_await_metric(OF_WORK("pgqrs_queue_jobs", ",state=\"delayed\""), round + 1);
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
}

/* ---- times, leases ---- */

static int64_t bucket(const char *name, const char *bound)
{
    char series[128];
    (void)snprintf(series, sizeof series, "%s_bucket{queue=\"work\",le=\"%s\"}", name, bound);
    return http_metric(series);
}

static void test_times_of_jobs(void **state)
{
    const struct world *w = *state;
    start(w, "    prefetch: 4\n    retry: {base: 1ms, max: 1ms}\n");
    fixture_enqueue(w->f, 4, "{\"ms\":120}");
    http_await_metric(OF_WORK("pgqrs_job_run_seconds_count", ""), 4);
    /* The second waits for the first, in the worker; the last one for three. */
    assert_int_equal(bucket("pgqrs_job_run_seconds", "0.1"), 0);
    assert_int_equal(bucket("pgqrs_job_run_seconds", "3600"), 4);
    assert_int_equal(bucket("pgqrs_job_run_seconds", "+Inf"), 4);
    assert_true(http_metric_real(OF_WORK("pgqrs_job_run_seconds_sum", "")) >= 4 * 0.12);
    assert_true(bucket("pgqrs_job_wait_seconds", "0.1") <= 1);
    assert_true(http_metric_real(OF_WORK("pgqrs_job_wait_seconds_sum", "")) >= 6 * 0.12);

    /* It is not the time since it was enqueued. */
    double waited = http_metric_real(OF_WORK("pgqrs_job_wait_seconds_sum", ""));
    cli_ok(&w->f->scratch, NULL, "message", "enqueue", "work", "{}", "--delay", "1h");
    db_exec(&w->f->scratch, "update pgqrs_messages set enqueued_at = '2001-01-01 00:00:00.000000',"
                            " vt = strftime('%Y-%m-%d %H:%M:%f000', 'now') where archived_at is"
                            " null");
    http_await_metric(OF_WORK("pgqrs_job_wait_seconds_count", ""), 5);
    assert_true(http_metric_real(OF_WORK("pgqrs_job_wait_seconds_sum", "")) < waited + 3600);
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
}

/* A run that sleeps is two jobs. */
static void test_times_of_a_workflow(void **state)
{
    const struct world *w = *state;
    start_handler(w, "tests/handlers/script.so", "");
    fixture_enqueue(w->f, 1, "{\"input\":\"slow:a:150 sleep:b:50 step:c\"}");
    http_await_metric(OF_WORK("pgqrs_jobs_settled_total", ",outcome=\"done\""), 1);
    assert_int_equal(http_metric(OF_WORK("pgqrs_jobs_settled_total", ",outcome=\"snooze\"")), 1);
    assert_int_equal(http_metric(OF_WORK("pgqrs_job_run_seconds_count", "")), 2);
    assert_int_equal(http_metric(OF_WORK("pgqrs_job_wait_seconds_count", "")), 2);
    assert_int_equal(bucket("pgqrs_job_run_seconds", "3600"), 2);
    assert_true(http_metric_real(OF_WORK("pgqrs_job_run_seconds_sum", "")) >= 0.15);
    assert_true(http_metric("pgqrs_commit_group_size_count{call=\"flow\"}") >= 4);
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
}

static void test_leases_that_are_lost_or_freed(void **state)
{
    const struct world *w = *state;
    const struct scratch *s = &w->f->scratch;
    start(w, "    prefetch: 3\n");
    fixture_enqueue(w->f, 1, "{\"ms\":500}");
    effects_await(s, "start ", 1);
    db_exec(s, "update pgqrs_messages set consumer_worker_id = null, vt = '2999-01-01"
               " 00:00:00.000000'");
    http_await_metric(OF_WORK("pgqrs_leases_lost_total", ""), 1);
    assert_int_equal(http_metric(OF_WORK("pgqrs_job_run_seconds_count", "")), 0);

    fixture_enqueue(w->f, 3, "{\"ms\":600000}");
    effects_await(s, "start ", 2);
    pid_t worker = daemon_await_children(&w->f->daemon, "pgqrs-worker", 1);
    db_await(s, COUNT("consumer_worker_id is not null"), 3);
    assert_int_equal(kill(worker, SIGKILL), 0);
    http_await_metric(OF_WORK("pgqrs_leases_freed_total", ",reason=\"worker_ended\""), 3);
    assert_int_equal(http_metric(OF_WORK("pgqrs_leases_freed_total", ",reason=\"expired\"")), 0);
    assert_int_equal(http_metric(OF_WORK("pgqrs_leases_lost_total", "")), 1);
    effects_await(s, "start ", 3);

    /* One that this worker has never heard of, as when its broker died on the way. */
    db_exec(s, "update pgqrs_messages set vt = '2001-01-01 00:00:00.000000' where id = 1");
    db_await(s, COUNT("consumer_worker_id is not null"), 3);
    db_exec(s, "update pgqrs_messages set consumer_worker_id = (select max(consumer_worker_id)"
               " from pgqrs_messages), read_ct = 1 where id = 1");
    pid_t broker = daemon_await_children(&w->f->daemon, "pgqrs-broker", 1);
    assert_int_equal(kill(broker, SIGKILL), 0);
    http_await_metric(OF_WORK("pgqrs_leases_freed_total", ",reason=\"undelivered\""), 1);
    assert_int_equal(daemon_stop(&w->f->daemon, SIGQUIT), 75);
}

/* ---- queues that come and go ---- */

static void reload_with(const struct world *w, const char *queues)
{
    daemon_config(&w->f->scratch, "http: {listen: 0}\nqueues:\n%s", queues);
    assert_int_equal(kill(w->f->daemon.pid, SIGHUP), 0);
}

static void test_queues_that_come_and_go(void **state)
{
    static const char more[] = "pgqrs_jobs_settled_total{queue=\"more\",outcome=\"done\"}";
    const struct world *w = *state;
    char both[800];
    char one[400];
    (void)snprintf(one, sizeof one, "  work: {handler: %s, settings: {file: %s}}\n",
                   built("tests/handlers/effect.so"), w->f->scratch.effects);
    (void)snprintf(both, sizeof both, "%s  more: {handler: %s, settings: {file: %s}}\n", one,
                   built("tests/handlers/effect.so"), w->f->scratch.effects);
    start(w, "");
    fixture_enqueue(w->f, 2, "{}");
    http_await_metric(OF_WORK("pgqrs_jobs_settled_total", ",outcome=\"done\""), 2);
    reload_with(w, both);
    http_await_metric(more, 0);
    cli_ok(&w->f->scratch, NULL, "message", "enqueue", "more", "{}");
    http_await_metric(more, 1);
    reload_with(w, one);
    http_await_metric(more, -1);
    reload_with(w, both);
    http_await_metric(more, 0);
    cli_ok(&w->f->scratch, NULL, "message", "enqueue", "more", "{}");
    http_await_metric(more, 1);
    http_await_metric(OF_WORK("pgqrs_jobs_settled_total", ",outcome=\"done\""), 2);
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
}

/* ---- the store's calls ---- */

static void test_calls_of_the_store(void **state)
{
    const struct world *w = *state;
    const struct scratch *s = &w->f->scratch;
    start(w, "");
    fixture_enqueue(w->f, 5, "{}");
    http_await_metric(OF_WORK("pgqrs_jobs_settled_total", ",outcome=\"done\""), 5);
    assert_true(http_metric("pgqrs_store_call_seconds_count{call=\"exchange\"}") > 1);
    assert_true(http_metric("pgqrs_store_call_seconds_count{call=\"client\"}") > 0);
    assert_true(http_metric("pgqrs_store_call_seconds_count{call=\"worker\"}") > 0);
    assert_true(http_metric_real("pgqrs_store_call_seconds_sum{call=\"exchange\"}") > 0);
    assert_int_equal(http_metric("pgqrs_store_errors_total{call=\"exchange\"}"), 0);
    /* Each of the five is leased once and stored once. */
    assert_int_equal(http_metric("pgqrs_commit_group_size_sum{call=\"exchange\"}"), 10);
    assert_true(http_metric("pgqrs_broker_wakeups_total{reason=\"changed\"}") > 0);
    db_exec(s, "create trigger broken before update of archived_at on pgqrs_messages begin select"
               " raise(abort, 'broken'); end");
    fixture_enqueue(w->f, 1, "{}");
    daemon_await_log(&w->f->daemon, "the store fails", 1);
    db_exec(s, "drop trigger broken");
    http_await_metric(OF_WORK("pgqrs_jobs_settled_total", ",outcome=\"done\""), 6);
    assert_true(http_metric("pgqrs_store_errors_total{call=\"exchange\"}") > 0);
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
}

int main(void)
{
#define SQLITE_CASE(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, world_sqlite_setup, world_sqlite_teardown)
#define PG_CASE(test) cmocka_unit_test_setup_teardown(test, world_pg_setup, world_pg_teardown)
    const struct CMUnitTest tests[] = {
        SQLITE_CASE(test_metrics_agree_with_the_store),
        {"test_metrics_agree_with_the_store_postgres", test_metrics_agree_with_the_store,
         world_pg_setup, world_pg_teardown, NULL},
        PG_CASE(test_what_a_dying_broker_has_stored_is_counted),
        SQLITE_CASE(test_times_of_jobs),
        SQLITE_CASE(test_times_of_a_workflow),
        SQLITE_CASE(test_leases_that_are_lost_or_freed),
        SQLITE_CASE(test_queues_that_come_and_go),
        SQLITE_CASE(test_calls_of_the_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
