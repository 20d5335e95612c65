/* SPDX-License-Identifier: Apache-2.0 */
/* A real supervisor takes its configuration anew while it works. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/daemon.h"

#define REFUSED "goes on with its old version, the new one is not"
#define DONE_AT_ONCE                                                                               \
    "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done' and read_ct = 1 and"        \
    " pgqrsd_crash_ct = 0"

static void config(const struct fixture *f, const char *settings)
{
    daemon_config(&f->scratch, "queues:\n  work: {handler: %s/copy.so, settings: {file: %s}%s}\n",
                  f->scratch.dir, f->scratch.effects, settings);
}

static void start(struct fixture *f, const char *settings, int workers)
{
    scratch_link(&f->scratch, "copy.so", built("tests/handlers/effect.so"));
    config(f, settings);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, ": ready pid=", 1 + workers);
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
    (void)snprintf(command, sizeof command, "grep -qF \"%s\" %s/out", text, f->scratch.dir);
    return system(command) == 0;
}

static int ask(const struct fixture *f, const char *group, const char *command)
{
    char path[96];
    (void)snprintf(path, sizeof path, "%s/pgqrsd.yaml", f->scratch.dir);
    return cli(&f->scratch, NULL, "--config", path, group, command, (char *)NULL);
}

static const char *control_socket(const struct fixture *f)
{
    static char path[96];
    (void)snprintf(path, sizeof path, "%s/run/pgqrsd.ctl", f->scratch.dir);
    return path;
}

static void enqueue(const struct fixture *f, const char *queue, const char *payload, int count)
{
    for (int i = 0; i < count; i++) {
        cli_ok(&f->scratch, NULL, "message", "enqueue", queue, payload);
    }
}

static void test_what_has_not_changed_is_left_alone(void **state)
{
    struct fixture *f = *state;
    start(f, ", consumers: 2", 2);
    assert_int_equal(reload(f), 0);
    assert_true(said(f, "nothing has changed"));
    config(f, ", consumers: 4, recycle: {jobs: 100000}, retry: {base: 5ms}");
    assert_int_equal(kill(f->daemon.pid, SIGHUP), 0);
    daemon_await_log(&f->daemon,
                     "reload: queue \"work\": changed: consumers, retry.base, recycle.jobs", 1);
    daemon_await_log(&f->daemon, ": ready pid=", 1 + 4);
    config(f, ", consumers: 1, retry: {base: 5ms}");
    assert_int_equal(reload(f), 0);
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 1);
    /* The first two have seen all of it; nobody was replaced. */
    assert_int_equal(daemon_log_count(&f->daemon, "replacing"), 0);
    assert_int_equal(daemon_log_count(&f->daemon, ": ready pid="), 1 + 4);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_bad_configuration_changes_nothing(void **state)
{
    struct fixture *f = *state;
    start(f, ", consumers: 1", 1);
    config(f, ", consumers: 2, conusmers: 3");
    assert_int_equal(reload(f), 1);
    assert_true(daemon_log_has(&f->daemon, "reload: nothing is changed: "));
    assert_true(daemon_log_has(&f->daemon, "expected \"consumers\"?"));
    assert_int_equal(kill(f->daemon.pid, SIGHUP), 0);
    daemon_await_log(&f->daemon, "SIGHUP: nothing is changed: ", 1);
    enqueue(f, "work", "{}", 1);
    db_await(&f->scratch, DONE_AT_ONCE, 1);
    assert_int_equal(daemon_log_count(&f->daemon, ": ready pid="), 2);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* The broker applies what is its own at once: the limit of attempts of a job that fails. */
static void test_new_settings_reach_workers_and_broker(void **state)
{
    struct fixture *f = *state;
    start(f, ", consumers: 2, retry: {base: 1ms}", 2);
    enqueue(f, "work", "{\"ms\":3000}", 1);
    effects_await(&f->scratch, "start ", 1);
    config(f, ", consumers: 2, retry: {base: 1ms}, on_crash: 2, timeout: 1h");
    assert_int_equal(reload(f), 0);
    assert_true(said(f, "changed: on_crash, timeout; one worker of the new version is tried"));
    enqueue(f, "work", "{}", 30);
    daemon_await_log(&f->daemon, "the new version does well", 1);
    daemon_await_log(&f->daemon, "queue \"work\": all its workers run the new version", 1);
    enqueue(f, "work", "{\"crash\":9}", 1);
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where pgqrsd_outcome = 'failed' and read_ct = 2",
             1);
    db_await(&f->scratch, DONE_AT_ONCE, 31); /* nobody was disturbed */
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 2);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_queues_come_and_go(void **state)
{
    struct fixture *f = *state;
    start(f, "", 1);
    enqueue(f, "work", "{\"ms\":1500}", 1);
    effects_await(&f->scratch, "start ", 1);
    daemon_config(&f->scratch, "queues:\n  other: {handler: %s, settings: {file: %s}}\n",
                  built("tests/handlers/effect.so"), f->scratch.effects);
    assert_int_equal(reload(f), 0);
    assert_true(said(f, "other"));
    assert_true(said(f, ": not served any more"));
    daemon_await_log(&f->daemon, "queue \"other\": worker 0: ready", 1);
    enqueue(f, "other", "{}", 1);
    db_await(&f->scratch, DONE_AT_ONCE, 2);
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 1);
    enqueue(f, "work", "{}", 1);
    /* It comes back, and what waited meanwhile is run; a broker that is started anew knows it. */
    pid_t broker = daemon_await_children(&f->daemon, "pgqrs-broker", 1);
    assert_int_equal(kill(broker, SIGKILL), 0);
    daemon_await_log(&f->daemon, "broker: ready", 2);
    config(f, "");
    assert_int_equal(reload(f), 0);
    db_await(&f->scratch, DONE_AT_ONCE, 3);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_new_plugin_replaces_the_old_one_worker_by_worker(void **state)
{
    struct fixture *f = *state;
    start(f, ", consumers: 3", 3);
    enqueue(f, "work", "{\"ms\":20}", 40);
    scratch_link(&f->scratch, "copy.so", built("lib/pgqrs/handlers/hello.so"));
    assert_int_equal(reload(f), 0);
    assert_true(said(f, "its plugin's file has changed"));
    daemon_await_log(&f->daemon, "all its workers run the new version", 1);
    int effects = effects_count(&f->scratch, "end ");
    enqueue(f, "work", "{\"name\":\"you\"}", 5);
    db_await(&f->scratch, DONE_AT_ONCE, 45);
    assert_int_equal(effects_count(&f->scratch, "end "), effects);
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 3);
    assert_int_equal(daemon_log_count(&f->daemon, " error "), 0);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_plugin_that_can_not_start_replaces_nothing(void **state)
{
    struct fixture *f = *state;
    start(f, ", consumers: 2", 2);
    scratch_link(&f->scratch, "copy.so", built("tests/handlers/wrong_abi.so"));
    assert_int_equal(reload(f), 0);
    daemon_await_log(&f->daemon, "the new version is NOT used, the old one goes on", 1);
    assert_int_equal(ask(f, "ctl", "status"), 0);
    assert_true(said(f, REFUSED " used: plugin "));
    assert_int_equal(ask(f, "doctor", NULL), 1);
    assert_true(said(f, REFUSED " used: plugin "));
    /* Not even when a worker is lost: the old file is held. */
    pid_t pid = daemon_await_children(&f->daemon, "pgqrs-worker", 2);
    assert_int_equal(kill(pid, SIGKILL), 0);
    daemon_await_log(&f->daemon, ": ready pid=", 4);
    enqueue(f, "work", "{}", 5);
    db_await(&f->scratch, DONE_AT_ONCE, 5);
    assert_int_equal(effects_count(&f->scratch, "end "), 5);
    /* Mended, it is taken. */
    scratch_link(&f->scratch, "copy.so", built("lib/pgqrs/handlers/hello.so"));
    assert_int_equal(reload(f), 0);
    enqueue(f, "work", "{\"name\":\"you\"}", 10);
    daemon_await_log(&f->daemon, "all its workers run the new version", 1);
    assert_int_equal(ask(f, "ctl", "status"), 0);
    assert_false(said(f, REFUSED));
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_plugin_whose_first_jobs_crash_replaces_nothing(void **state)
{
    struct fixture *f = *state;
    start(f, ", consumers: 2, on_crash: 100, retry: {base: 1ms}", 2);
    scratch_link(&f->scratch, "copy.so", built("tests/handlers/crash.so"));
    assert_int_equal(reload(f), 0);
    fixture_enqueue(f, 20, "{\"ms\":200}"); /* so many at once that it gets some */
    daemon_await_log(&f->daemon, "the new version is NOT used, the old one goes on", 1);
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'", 20);
    assert_int_equal(daemon_log_count(&f->daemon, "does well"), 0);
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 2);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_trial_goes_on_when_nothing_changes(void **state)
{
    struct fixture *f = *state;
    start(f, ", consumers: 2", 2);
    config(f, ", consumers: 2, timeout: 1h");
    assert_int_equal(reload(f), 0);
    assert_int_equal(reload(f), 0);
    assert_true(said(f, "nothing has changed"));
    enqueue(f, "work", "{}", 20);
    daemon_await_log(&f->daemon, "all its workers run the new version", 1);
    assert_int_equal(daemon_log_count(&f->daemon, "one worker of the new version is tried"), 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_fewer_workers_while_a_version_is_tried(void **state)
{
    struct fixture *f = *state;
    start(f, ", consumers: 3", 3);
    config(f, ", consumers: 3, timeout: 1h");
    assert_int_equal(reload(f), 0);
    daemon_await_log(&f->daemon, ": ready pid=", 1 + 4);
    cli_ok(&f->scratch, NULL, "--socket", control_socket(f), "worker", "scale", "work", "1");
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 2);
    fixture_enqueue(f, 40, "{\"ms\":5}");
    daemon_await_log(&f->daemon, "all its workers run the new version", 1);
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 1);
    db_await(&f->scratch, DONE_AT_ONCE, 40);
    /* With the last one the trial ends: there is nothing to lose any more. */
    config(f, ", consumers: 3, timeout: 2h");
    assert_int_equal(reload(f), 0);
    cli_ok(&f->scratch, NULL, "--socket", control_socket(f), "worker", "scale", "work", "0");
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 0);
    daemon_await_log(&f->daemon, "no worker of it is left, the new version is used", 1);
    cli_ok(&f->scratch, NULL, "--socket", control_socket(f), "worker", "scale", "work", "1");
    enqueue(f, "work", "{}", 1);
    db_await(&f->scratch, DONE_AT_ONCE, 41);
    assert_int_equal(daemon_log_count(&f->daemon, " error "), 0);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_fixed_number_after_one_that_followed_the_load(void **state)
{
    struct fixture *f = *state;
    start(f, ", consumers: {min: 1, max: 4, cooldown: 1h}", 1);
    cli_ok(&f->scratch, NULL, "--socket", control_socket(f), "worker", "scale", "work", "3");
    daemon_await_log(&f->daemon, ": ready pid=", 1 + 3);
    config(f, ", consumers: 1, timeout: 1h");
    assert_int_equal(reload(f), 0);
    fixture_enqueue(f, 60, "{\"ms\":10}");
    daemon_await_log(&f->daemon, "reload: queue \"work\": 1 workers instead of 3", 1);
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* Time limits say nothing against a version, and must not make its trial endless. */
static void test_a_trial_ends_though_its_jobs_run_into_their_limit(void **state)
{
    struct fixture *f = *state;
    start(f, ", consumers: 1, timeout: 300ms, cancel_grace: 0s, max_attempts: 1", 1);
    config(f, ", consumers: 1, timeout: 301ms, cancel_grace: 0s, max_attempts: 1");
    assert_int_equal(reload(f), 0);
    fixture_enqueue(f, 200, "{\"ms\":600000}");
    daemon_await_log(&f->daemon, "the new version does well", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGQUIT), 75);
}

static void test_a_trial_goes_on_when_its_worker_is_stopped_by_request(void **state)
{
    struct fixture *f = *state;
    start(f, "", 1);
    config(f, ", timeout: 1h");
    assert_int_equal(reload(f), 0);
    db_await(&f->scratch, "select count(*) from pgqrs_workers where name like '%/work/1'", 1);
    db_exec(&f->scratch, "update pgqrs_workers set status = 'stopped' where name like '%/work/1'");
    daemon_await_log(&f->daemon, "stopped by request, starting another one", 1);
    fixture_enqueue(f, 40, "{\"ms\":10}");
    daemon_await_log(&f->daemon, "all its workers run the new version", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_what_needs_a_start_is_said(void **state)
{
    struct fixture *f = *state;
    start(f, "", 1);
    daemon_config(&f->scratch,
                  "lease: 77s\nlog: {level: debug}\nshutdown: {drain: 7s}\n"
                  "queues:\n  work: {handler: %s/copy.so, settings: {file: %s}}\n",
                  f->scratch.dir, f->scratch.effects);
    assert_int_equal(reload(f), 0);
    assert_true(said(f, "lease: not changed before pgqrsd is started again"));
    assert_true(said(f, "log.level: changed"));
    assert_true(said(f, "shutdown.drain: changed"));
    enqueue(f, "work", "{}", 1);
    db_await(&f->scratch, DONE_AT_ONCE, 1);
    assert_int_equal(kill(f->daemon.pid, SIGTERM), 0);
    daemon_await_log(&f->daemon, "for at most 7000 ms", 1);
    assert_int_equal(daemon_wait(&f->daemon), 0);
}

/* From here on the programs are copies, and a worker waits for the file "go" before it begins. */
static void hold_workers(struct fixture *f)
{
    char command[1024];
    (void)snprintf(command, sizeof command,
                   "cp -r %s/bin %s/libexec %s/lib %s && mv %s/libexec/pgqrs/pgqrs-worker %s/real",
                   built(""), built(""), built(""), f->scratch.dir, f->scratch.dir, f->scratch.dir);
    assert_int_equal(system(command), 0);
    scratch_write(&f->scratch, "libexec/pgqrs/pgqrs-worker",
                  "#!/bin/sh\nuntil test -e %s/go; do sleep 0.01; done\n"
                  "exec %s/libexec/pgqrs/real-worker\n",
                  f->scratch.dir, f->scratch.dir);
    (void)snprintf(command, sizeof command,
                   "cd %s && mv real libexec/pgqrs/real-worker && chmod 755 libexec/pgqrs/*",
                   f->scratch.dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(setenv("PGQRS_TEST_BUILD", f->scratch.dir, 1), 0);
}

static void config_exec(const struct fixture *f, const char *which, const char *environment)
{
    daemon_config(&f->scratch,
                  "queues:\n"
                  "  work:\n"
                  "    handler: exec\n"
                  "    settings: {command: [/bin/sh, -c, 'echo %s ${MARK-none} >>%s']}\n"
                  "    isolation: {environment: [%s]}\n",
                  which, f->scratch.effects, environment);
}

/* What it is told is of the version with which it was started. */
static void test_a_worker_that_is_starting_takes_nothing_of_the_next_version(void **state)
{
    struct fixture *f = *state;
    char *build = strdup(built(""));
    hold_workers(f);
    assert_int_equal(setenv("MARK", "marked", 1), 0);
    config_exec(f, "first", "PATH");
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "broker: ready pid=", 1);
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 1);
    enqueue(f, "work", "{}", 1);
    config_exec(f, "second", "PATH, MARK");
    assert_int_equal(reload(f), 0);
    assert_true(said(f, "no worker of it is at work, the new version is used"));
    scratch_write(&f->scratch, "go", "\n");
    db_await(&f->scratch, DONE_AT_ONCE, 1);
    assert_int_equal(effects_count(&f->scratch, ""), 1);
    assert_int_equal(effects_count(&f->scratch, "second marked"), 1);
    assert_int_equal(daemon_log_count(&f->daemon, "can not start"), 0);
    assert_int_equal(daemon_log_count(&f->daemon, "older version"), 0);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(setenv("PGQRS_TEST_BUILD", build, 1), 0);
    assert_int_equal(unsetenv("MARK"), 0);
    free(build);
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_what_has_not_changed_is_left_alone),
        WITH_SCRATCH(test_a_bad_configuration_changes_nothing),
        WITH_SCRATCH(test_new_settings_reach_workers_and_broker),
        WITH_SCRATCH(test_queues_come_and_go),
        WITH_SCRATCH(test_a_new_plugin_replaces_the_old_one_worker_by_worker),
        WITH_SCRATCH(test_a_plugin_that_can_not_start_replaces_nothing),
        WITH_SCRATCH(test_a_plugin_whose_first_jobs_crash_replaces_nothing),
        WITH_SCRATCH(test_a_trial_goes_on_when_nothing_changes),
        WITH_SCRATCH(test_fewer_workers_while_a_version_is_tried),
        WITH_SCRATCH(test_a_fixed_number_after_one_that_followed_the_load),
        WITH_SCRATCH(test_a_trial_ends_though_its_jobs_run_into_their_limit),
        WITH_SCRATCH(test_a_trial_goes_on_when_its_worker_is_stopped_by_request),
        WITH_SCRATCH(test_a_worker_that_is_starting_takes_nothing_of_the_next_version),
        WITH_SCRATCH(test_what_needs_a_start_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
