/* SPDX-License-Identifier: Apache-2.0 */
/* What a real pgqrsd counts, compared with its store, on either one. */
#include <inttypes.h>
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

static void start(const struct world *w, const char *queue_settings)
{
    daemon_config(&w->f->scratch,
                  "http: {listen: 0}\n"
                  "queues:\n"
                  "  work:\n"
                  "    handler: %s\n"
                  "    settings: {file: %s}\n"
                  "%s",
                  built("tests/handlers/effect.so"), w->f->scratch.effects, queue_settings);
    daemon_start(&w->f->daemon, &w->f->scratch);
    http_find(&w->f->daemon);
    http_await("/readyz", 200, "ok\n");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_metrics_agree_with_the_store, world_sqlite_setup,
                                        world_sqlite_teardown),
        {"test_metrics_agree_with_the_store_postgres", test_metrics_agree_with_the_store,
         world_pg_setup, world_pg_teardown, NULL},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
