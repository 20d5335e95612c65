/* SPDX-License-Identifier: Apache-2.0 */
/* A real pgqrsd enqueues jobs at the times that schedules name. */
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/pg_daemon.h"

#define OF(name)                                                                                   \
    "from pgqrsd_schedule_ticks t join pgqrsd_schedules s on s.id = t.schedule_id"                 \
    " where s.name = '" name "'"
#define TICKS(name) "select count(*) " OF(name)
#define FIRED(name) TICKS(name) " and message_id is not null"
#define DONE(payload)                                                                              \
    "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done' and payload = '" payload "'"

static void config(const struct fixture *f, const char *schedules)
{
    daemon_config(&f->scratch,
                  "queues:\n  work: {handler: %s, consumers: 2, settings: {file: %s}}\n%s",
                  built("tests/handlers/effect.so"), f->scratch.effects, schedules);
}

static void start(struct fixture *f, const char *schedules)
{
    config(f, schedules);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, ": ready pid=", 3);
}

struct at_least {
    const struct scratch *scratch;
    const char *sql;
    int64_t value;
};

static bool is_at_least(const void *arg)
{
    const struct at_least *a = arg;
    return db_number(a->scratch, a->sql) >= a->value;
}

static void await_at_least(const struct fixture *f, const char *sql, int64_t value)
{
    const struct at_least a = {&f->scratch, sql, value};
    if (!wait_for(is_at_least, &a, WAIT_MS)) {
        fail_msg("%s: found %" PRId64 ", expected at least %" PRId64, sql,
                 db_number(&f->scratch, sql), value);
    }
}

static int reload(const struct fixture *f)
{
    char path[96];
    (void)snprintf(path, sizeof path, "%s/pgqrsd.yaml", f->scratch.dir);
    return cli(&f->scratch, NULL, "--config", path, "ctl", "reload", (char *)NULL);
}

static bool said(const struct fixture *f, const char *text)
{
    char command[512];
    (void)snprintf(command, sizeof command, "grep -qF -e '%s' %s/out", text, f->scratch.dir);
    return system(command) == 0;
}

static void test_workflow(void **state)
{
    struct fixture *f = *state;
    daemon_config(&f->scratch,
                  "schedules:\n"
                  "  nightly: {cron: '@every 1s', workflow: flow, payload: 'step:a step:b'}\n"
                  "queues: {flow: {handler: %s, settings: {file: %s}}}\n",
                  built("tests/handlers/script.so"), f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    await_at_least(f,
                   "select count(*) from pgqrs_workflow_runs r join pgqrsd_schedule_ticks t"
                   " on t.message_id = r.message_id where status = 'SUCCESS'",
                   1);
    cli_ok(&f->scratch, NULL, "schedule", "create", "mine", "--cron", "@every 1s", "--workflow",
           "flow", "--payload", "\"step:c\"");
    effects_await(&f->scratch, "step c", 1);
    assert_int_equal(cli(&f->scratch, NULL, "schedule", "create", "none", "--cron", "@daily",
                         "--workflow", "none", (char *)NULL),
                     1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_of_the_configuration_and_of_the_command_line(void **state)
{
    struct fixture *f = *state;
    char broker[128];
    start(f, "schedules:\n"
             "  tick: {cron: '@every 1s', queue: work, payload: {n: 1}, priority: 3}\n");
    (void)snprintf(broker, sizeof broker, "broker:%s/run/pgqrsd.sock", f->scratch.dir);
    cli_ok(&f->scratch, NULL, "schedule", "create", "mine", "--cron", "@every 1s", "--queue",
           "work", "--payload", "{\"n\": 2}");
    cli_ok(&f->scratch, NULL, "--dsn", broker, "schedule", "create", "yours", "--cron", "@every 1s",
           "--queue", "work", "--payload", "{\"n\": 3}");
    await_at_least(f, DONE("{\"n\":1}") " and pgqrsd_priority = 3", 2);
    await_at_least(f, DONE("{\"n\":2}"), 2);
    await_at_least(f, DONE("{\"n\":3}"), 2);

    cli_ok(&f->scratch, NULL, "--dsn", broker, "schedule", "list", "-o", "json");
    assert_true(said(f, "\"name\":\"yours\""));
    assert_true(said(f, "\"config\":\"pgqrsd\""));
    assert_int_equal(cli(&f->scratch, NULL, "schedule", "delete", "tick", "--yes", (char *)NULL),
                     1);
    assert_true(said(f, "is in the configuration of pgqrsd \"pgqrsd\""));
    cli_ok(&f->scratch, NULL, "--dsn", broker, "schedule", "delete", "mine", "--yes");
    assert_int_equal(db_number(&f->scratch, TICKS("mine")), 0);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);

    cli_ok(&f->scratch, NULL, "schedule", "create", "night", "--cron", "30 2 1 1 *", "--zone",
           "Europe/Berlin", "--queue", "work");
    cli_ok(&f->scratch, NULL, "schedule", "next", "night", "-n", "3");
    assert_true(said(f, "-01-01 02:30:00 +01:00"));
    cli_ok(&f->scratch, NULL, "schedule", "next", "night", "-o", "json");
    assert_true(said(f, "-01-01T01:30:00.000000Z\""));
    assert_int_equal(cli(&f->scratch, NULL, "schedule", "create", "night", "--cron", "@daily",
                         "--queue", "work", (char *)NULL),
                     1);
    assert_true(said(f, "schedule \"night\" exists already"));
    assert_int_equal(cli(&f->scratch, NULL, "schedule", "create", "bad", "--cron", "60 * * * *",
                         "--queue", "work", (char *)NULL),
                     2);
    assert_true(said(f, "--cron: minute: found \"60\", expected"));
}

/* Nothing else would make the broker look for a long time. */
static void test_created_while_nothing_happens(void **state)
{
    struct fixture *f = *state;
    char broker[128];
    start(f, "");
    (void)snprintf(broker, sizeof broker, "broker:%s/run/pgqrsd.sock", f->scratch.dir);
    cli_ok(&f->scratch, NULL, "--dsn", broker, "schedule", "create", "a", "--cron", "@every 1s",
           "--queue", "work");
    effects_await(&f->scratch, "start ", 1);
    cli_ok(&f->scratch, NULL, "schedule", "delete", "a", "--yes");
    int before = effects_count(&f->scratch, "start ");
    cli_ok(&f->scratch, NULL, "schedule", "create", "b", "--cron", "@every 1s", "--queue", "work");
    effects_await(&f->scratch, "start ", before + 2);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_on_postgres(void **state)
{
    struct pg_daemon *d = *state;
    const struct scratch *scratch = &d->fixture->scratch;
    fixture_start(d->fixture, "schedules:\n"
                              "  config: {cron: '@yearly', queue: work}\n");
    pg_rig_await(d->rig, 1, "select count(*) from pgqrsd_schedules where planned");
    cli_ok(scratch, NULL, "schedule", "create", "a", "--cron", "@every 1s", "--queue", "work");
    effects_await(scratch, "end ", 2);
    cli_ok(scratch, NULL, "schedule", "list", "-o", "json");
    assert_true(said(d->fixture, "\"config\":\"pgqrsd\""));
    assert_int_equal(cli(scratch, NULL, "schedule", "delete", "config", "--yes", (char *)NULL), 1);
    cli_ok(scratch, NULL, "schedule", "delete", "a", "--yes");
    pg_rig_await(d->rig, 0, "select count(*) from pgqrs_messages where archived_at is null");
    assert_int_equal(daemon_stop(&d->fixture->daemon, SIGTERM), 0);
    assert_int_equal(pg_rig_number(d->rig, "select count(*) from pgqrs_messages"),
                     effects_count(scratch, "end "));
}

/* While another one goes on, that one stands still. */
static void test_pause_and_run(void **state)
{
    struct fixture *f = *state;
    start(f, "schedules:\n"
             "  tick: {cron: '@every 1s', queue: work, payload: {n: 1}}\n"
             "  clock: {cron: '@every 1s', queue: work, payload: {n: 2}}\n"
             "  still: {cron: '@every 1s', queue: work, payload: {n: 3}, paused: true}\n");
    await_at_least(f, TICKS("tick"), 1);
    cli_ok(&f->scratch, NULL, "schedule", "pause", "tick");
    int64_t before = db_number(&f->scratch, TICKS("tick"));
    await_at_least(f, TICKS("clock"), db_number(&f->scratch, TICKS("clock")) + 2);
    assert_int_equal(db_number(&f->scratch, TICKS("tick")), before);
    cli_ok(&f->scratch, NULL, "schedule", "list");
    assert_true(said(f, "paused"));
    cli_ok(&f->scratch, NULL, "schedule", "run", "still");
    db_await(&f->scratch, DONE("{\"n\":3}"), 1);
    assert_int_equal(db_number(&f->scratch, TICKS("still")), 0);
    cli_ok(&f->scratch, NULL, "schedule", "resume", "tick");
    await_at_least(f, TICKS("tick"), before + 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_overlap(void **state)
{
    struct fixture *f = *state;
    char id[24];
    start(f, "schedules:\n"
             "  slow: {cron: '@every 1s', queue: work, payload: {ms: 600000}, overlap: skip}\n");
    await_at_least(f, TICKS("slow"), 2);
    assert_int_equal(db_number(&f->scratch, FIRED("slow")), 1);
    effects_await(&f->scratch, "start ", 1);
    (void)snprintf(id, sizeof id, "%" PRId64,
                   db_number(&f->scratch, "select min(id) from pgqrs_messages"));
    cli_ok(&f->scratch, NULL, "message", "cancel", id);
    effects_await(&f->scratch, "start ", 2);
    assert_int_equal(db_number(&f->scratch, FIRED("slow")), 2);
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrs_messages"), 2);
    assert_int_equal(daemon_stop(&f->daemon, SIGQUIT), 75); /* the second one was given back */
}

static void test_reload(void **state)
{
    struct fixture *f = *state;
    start(f, "schedules:\n"
             "  old: {cron: '@every 1s', queue: work, payload: {n: 1}}\n"
             "  both: {cron: '@every 1s', queue: work, payload: {n: 2}}\n");
    await_at_least(f, TICKS("old"), 1);
    config(f, "schedules:\n"
              "  both: {cron: '@every 1s', queue: work, payload: {n: 3}}\n"
              "  new: {cron: '@every 1s', queue: work, payload: {n: 4}}\n");
    assert_int_equal(reload(f), 0);
    assert_true(said(f, "schedule \"old\": deleted"));
    assert_true(said(f, "schedule \"both\": changed"));
    assert_true(said(f, "schedule \"new\": new"));
    await_at_least(f, DONE("{\"n\":3}"), 1);
    await_at_least(f, DONE("{\"n\":4}"), 1);
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrsd_schedules"), 2);
    config(f, "schedules:\n  both: {cron: '@every 1x', queue: work}\n");
    assert_int_equal(reload(f), 1);
    assert_true(said(f, "schedules.both.cron: "));
    await_at_least(f, TICKS("new"), db_number(&f->scratch, TICKS("new")) + 1);
    config(f, "");
    assert_int_equal(reload(f), 0);
    db_await(&f->scratch, "select count(*) from pgqrsd_schedules", 0);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* Every second has its tick, and every tick one message. */
static void test_killed(void **state)
{
    struct fixture *f = *state;
    start(f, "schedules:\n"
             "  all: {cron: '@every 1s', queue: work, payload: {n: 1}, catch_up: all}\n"
             "  gone: {cron: '@every 1s', queue: work, payload: {n: 2}, catch_up: all}\n");
    await_at_least(f, TICKS("all"), 1);
    assert_int_equal(kill(f->daemon.pid, SIGKILL), 0);
    assert_int_equal(daemon_wait(&f->daemon), 128 + SIGKILL);
    await_at_least(f, "select strftime('%s', 'now') - max(strftime('%s', tick_at)) " OF("all"), 2);
    int64_t before = db_number(&f->scratch, "select count(*) from pgqrs_messages"
                                            " where payload like '%2%'");
    start(f, "schedules:\n"
             "  all: {cron: '@every 1s', queue: work, payload: {n: 1}, catch_up: all}\n");
    await_at_least(f, TICKS("all"), 4);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(db_number(&f->scratch,
                               "select max(strftime('%s', tick_at)) - min(strftime('%s', tick_at))"
                               " + 1 - count(*) " OF("all")),
                     0);
    int64_t ticks = db_number(&f->scratch, FIRED("all"));
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrs_messages"
                                            " where payload like '%1%'"),
                     ticks);
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrs_messages"
                                            " where payload like '%2%'"),
                     before); /* nothing was caught up with of what is not configured any more */
    assert_int_equal(ticks, db_number(&f->scratch, "select count(distinct message_id) " OF("all")));
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_workflow),
        CASE(test_of_the_configuration_and_of_the_command_line),
        CASE(test_created_while_nothing_happens),
        PG_DAEMON_CASE(test_on_postgres),
        CASE(test_pause_and_run),
        CASE(test_overlap),
        CASE(test_reload),
        CASE(test_killed),
    };
    return cmocka_run_group_tests_name("schedules of a daemon", tests, NULL, NULL);
}
