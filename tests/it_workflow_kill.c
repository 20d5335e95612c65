/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs of a workflow of twenty steps (tests/handlers/twenty.c) while their workers and the broker
 * are killed: by a seeded script at any instant, and by the workflow itself at the instants that
 * matter. Nothing is lost, nothing stored is computed again, what a step brings is there once.
 * $PGQRS_KILL_SEED chooses other harm.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/pg_daemon.h"

#define RUNS 200
#define STEPS 20
#define WORKERS 4
#define LIMIT_MS 60000

static const struct harm {
    const char *name;
    int runs; /* that suffer it */
    bool later;
} harms[] = {
    {"worker_before", 4, false}, {"worker_behind", 4, false}, {"worker_during", 4, true},
    {"worker_end", 3, true},     {"broker_before", 1, false}, {"broker_behind", 1, false},
    {"broker_during", 2, true},  {"broker_end", 2, true},
};
#define HARM_COUNT (sizeof harms / sizeof *harms)
#define SCRIPT_WORKERS 6
#define SCRIPT_BROKERS 3

struct world {
    struct fixture *fixture;
    struct pg_rig *rig; /* null: SQLite */
    uint32_t random;
    int workers_killed, brokers_killed;
};

struct seen { /* of a step */
    int lines;
    int64_t first_ns, last_ns, stored_ns;
    char stored[64];
};

static int64_t number(const struct world *w, const char *sql)
{
    return w->rig != NULL ? pg_rig_number(w->rig, "%s", sql) : db_number(&w->fixture->scratch, sql);
}

static uint32_t choose(struct world *w, uint32_t below)
{
    w->random = w->random * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)w->random * below) >> 32);
}

/* ---- the load ---- */

static void enqueue(struct world *w)
{
    char *lines = calloc(RUNS, 128);
    const struct harm *of[RUNS] = {0};
    size_t len = 0;
    assert_non_null(lines);
    for (size_t h = 0; h < HARM_COUNT; h++) {
        for (int left = harms[h].runs; left > 0;) {
            uint32_t i = choose(w, RUNS);
            left -= of[i] == NULL ? 1 : 0;
            of[i] = of[i] == NULL ? &harms[h] : of[i];
        }
    }
    for (int i = 0; i < RUNS; i++) {
        bool at_end = of[i] != NULL && strstr(of[i]->name, "_end") != NULL;
        uint32_t step = at_end ? STEPS : 1 + choose(w, STEPS);
        uint32_t us = of[i] != NULL && of[i]->later ? 1 + choose(w, 3000) : 0;
        len += (size_t)snprintf(lines + len, 128,
                                "{\"input\": {\"harm\": \"%s\", \"step\": %u, \"us\": %u}}\n",
                                of[i] == NULL ? "none" : of[i]->name, step, us);
    }
    assert_int_equal(
        cli(&w->fixture->scratch, lines, "message", "enqueue", "work", "-", (char *)NULL), 0);
    free(lines);
}

static void start(struct world *w)
{
    static const char *const table = "CREATE TABLE twenty(run bigint, step bigint, nonce text)";
    struct fixture *f = w->fixture;
    const char *seed = getenv("PGQRS_KILL_SEED");
    w->random = seed == NULL ? 1 : (uint32_t)strtoul(seed, NULL, 10);
    print_message("seed %u\n", w->random);
    for (int i = 0; i < 10; i++) {
        (void)choose(w, 1); /* near seeds part */
    }
    daemon_config(&f->scratch,
                  "queues:\n"
                  "  work:\n"
                  "    handler: %s\n"
                  "    settings: {file: %s}\n"
                  "    sql: true\n"
                  "    consumers: %d\n"
                  "    on_crash: 100\n"
                  "    retry: {base: 1ms}\n"
                  "    restart: {max: 100}\n",
                  built("tests/handlers/twenty.so"), f->scratch.effects, WORKERS);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "ready pid=", WORKERS + 1);
    if (w->rig != NULL) {
        (void)pg_rig_raw(w->rig);
        pg_rig_sql(w->rig, "%s", table);
    } else {
        db_exec(&f->scratch, table);
    }
    enqueue(w);
}

/* ---- harm ---- */

static bool is_over(const void *arg)
{
    return number(arg, "select count(*) from pgqrs_messages where archived_at is null") == 0;
}

static bool kill_one(const struct world *w, const char *program, uint32_t nth)
{
    pid_t pids[16];
    size_t count = daemon_children(&w->fixture->daemon, program, pids, 16);
    return count > 0 && kill(pids[nth % count], SIGKILL) == 0;
}

static void do_harm(struct world *w)
{
    int workers = SCRIPT_WORKERS;
    int brokers = SCRIPT_BROKERS;
    while (workers + brokers > 0 && !is_over(w)) {
        (void)poll(NULL, 0, (int)choose(w, 200));
        if (choose(w, (uint32_t)(workers + brokers)) < (uint32_t)workers) {
            workers--;
            w->workers_killed += kill_one(w, "pgqrs-worker", choose(w, 16)) ? 1 : 0;
        } else {
            brokers--;
            w->brokers_killed += kill_one(w, "pgqrs-broker", 0) ? 1 : 0;
        }
    }
}

/* ---- what must hold ---- */

static void read_stored(struct seen *s, const char *nonce, int64_t ns, long long run, int step)
{
    if (s->stored[0] == 0) {
        (void)snprintf(s->stored, sizeof s->stored, "%s", nonce);
        s->stored_ns = ns;
    } else if (strcmp(s->stored, nonce) != 0) {
        fail_msg("run %lld: step %d gave %s, then %s", run, step, s->stored, nonce);
    }
}

static void read_step(struct seen *s, int64_t ns)
{
    s->first_ns = s->lines == 0 ? ns : s->first_ns;
    s->last_ns = ns;
    s->lines++;
}

static void read_ledger(struct world *w, struct seen seen[RUNS + 1][STEPS + 1])
{
    char line[256];
    FILE *file = fopen(w->fixture->scratch.effects, "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        char what[16] = "";
        char nonce[64];
        long long run;
        long long ns;
        int step;
        if (strncmp(line, "kill ", 5) == 0) {
            w->workers_killed += strncmp(line + 5, "worker", 6) == 0 ? 1 : 0;
            w->brokers_killed += strncmp(line + 5, "broker", 6) == 0 ? 1 : 0;
            continue;
        }
        assert_int_equal(sscanf(line, "%15s %lld %d %63s %lld", what, &run, &step, nonce, &ns), 5);
        assert_in_range(run, 1, RUNS);
        assert_in_range(step, 1, STEPS);
        if (strcmp(what, "stored") == 0) {
            read_stored(&seen[run][step], nonce, ns, run, step);
        } else {
            read_step(&seen[run][step], ns);
        }
    }
    (void)fclose(file);
}

/* Returns how often a step's function ran in vain. */
static int check_ledger(struct world *w)
{
    static struct seen seen[RUNS + 1][STEPS + 1];
    int extra = 0;
    memset(seen, 0, sizeof seen);
    read_ledger(w, seen);
    for (int run = 1; run <= RUNS; run++) {
        for (int step = 1; step <= STEPS; step++) {
            const struct seen *s = &seen[run][step];
            if (s->lines == 0 || s->lines > w->workers_killed + 1 || s->stored_ns < s->last_ns) {
                fail_msg("run %d, step %d: ran %d times, the last time at %lld, stored at %lld",
                         run, step, s->lines, (long long)s->last_ns, (long long)s->stored_ns);
            }
            if (step > 1 && s->first_ns < seen[run][step - 1].last_ns) {
                fail_msg("run %d: step %d ran before the end of step %d", run, step, step - 1);
            }
            extra += s->lines - 1;
        }
    }
    return extra;
}

static void show_trouble(const struct world *w)
{
    char line[600];
    FILE *log = fopen(w->fixture->daemon.log, "re");
    while (log != NULL && fgets(line, sizeof line, log) != NULL) {
        (void)fputs(line, stderr);
    }
    if (log != NULL) {
        (void)fclose(log);
    }
}

static void check(struct world *w)
{
    static const struct {
        int64_t expected;
        const char *sql;
    } counts[] = {
        {RUNS, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'"},
        {RUNS, "select count(*) from pgqrs_messages"},
        {RUNS, "select count(*) from pgqrs_workflow_runs where status = 'SUCCESS'"},
        {RUNS, "select count(*) from pgqrs_workflow_runs"},
        {RUNS * STEPS, "select count(*) from pgqrs_workflow_steps where status = 'SUCCESS'"},
        {RUNS * STEPS, "select count(*) from pgqrs_workflow_steps"},
        {RUNS * STEPS, "select count(*) from (select distinct run, step from twenty) one"},
        {RUNS * STEPS, "select count(*) from twenty"},
        {RUNS * STEPS,
         "select count(*) from twenty t join pgqrs_workflow_runs r on r.message_id = t.run"
         " join pgqrs_workflow_steps s on s.run_id = r.id and s.step_name = 's' || t.step"
         " where cast(s.output as text) = '\"' || t.nonce || '\"'"},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        int64_t found = number(w, counts[i].sql);
        if (found != counts[i].expected) {
            fail_msg("expected %lld, found %lld: %s", (long long)counts[i].expected,
                     (long long)found, counts[i].sql);
        }
    }
    int extra = check_ledger(w);
    print_message("%d workers and %d brokers killed, %d steps ran in vain\n", w->workers_killed,
                  w->brokers_killed, extra);
    assert_in_range(extra, 0, w->workers_killed);
    assert_true(w->workers_killed > 10);
    assert_true(w->brokers_killed > 4);
}

static void run(struct world *w)
{
    start(w);
    do_harm(w);
    if (!wait_for(is_over, w, LIMIT_MS)) {
        show_trouble(w);
        fail_msg("%lld messages have not ended",
                 (long long)number(w, "select count(*) from pgqrs_messages"
                                      " where archived_at is null"));
    }
    check(w);
    assert_int_equal(daemon_stop(&w->fixture->daemon, SIGTERM), 0);
}

static void test_sqlite(void **state)
{
    run(&(struct world){.fixture = *state});
}

static void test_postgres(void **state)
{
    const struct pg_daemon *d = *state;
    run(&(struct world){.fixture = d->fixture, .rig = d->rig});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sqlite, fixture_setup, fixture_teardown),
        PG_DAEMON_CASE(test_postgres),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
