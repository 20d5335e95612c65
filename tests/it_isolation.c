/* SPDX-License-Identifier: Apache-2.0 */
/* A real pgqrsd whose workers are isolated, seen from within a handler (tests/handlers/observe.c).
 */
#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/daemon.h"

#define WORKER_READY "queue \"work\": worker 0: ready"
#define ENDED "select count(*) from pgqrs_messages where archived_at is not null and "
#define R(name) "json_extract(pgqrsd_result, '$." name "')"

#ifdef __SANITIZE_ADDRESS__ /* its leak checker traces the process */
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* One queue "work" on observe.so, where every user can reach it, and more settings of it. */
static void start(struct fixture *f, const char *settings)
{
    char command[512];
    (void)snprintf(command, sizeof command,
                   "chmod 711 %s && cp %s %s/observe.so && chmod 755 %s/observe.so", f->scratch.dir,
                   built("tests/handlers/observe.so"), f->scratch.dir, f->scratch.dir);
    assert_int_equal(system(command), 0);
    daemon_config(&f->scratch, "queues:\n  work:\n    handler: %s/observe.so\n%s", f->scratch.dir,
                  settings);
    daemon_start(&f->daemon, &f->scratch);
}

static void run_job(struct fixture *f, const char *what)
{
    char payload[64];
    daemon_await_log(&f->daemon, WORKER_READY, 1);
    int64_t ended = db_number(&f->scratch, ENDED "true");
    (void)snprintf(payload, sizeof payload, "{\"do\": \"%s\"}", what);
    fixture_enqueue(f, 1, payload);
    db_await(&f->scratch, ENDED "true", ended + 1);
}

/* What the last job that was done has reported. */
static void expect(const struct fixture *f, const char *condition)
{
    char sql[768];
    (void)snprintf(sql, sizeof sql,
                   "select count(*) from (select * from pgqrs_messages where pgqrsd_outcome ="
                   " 'done' order by id desc limit 1) where %s",
                   condition);
    if (db_number(&f->scratch, sql) != 1) {
        cli_ok(&f->scratch, NULL, "message", "list", "--queue", "work", "-o", "json");
        (void)snprintf(sql, sizeof sql, "cat %s/out %s/log >&2", f->scratch.dir, f->scratch.dir);
        (void)!system(sql);
        fail_msg("%s", condition);
    }
}

static void expect_number(const struct fixture *f, const char *name, int value)
{
    char condition[96];
    (void)snprintf(condition, sizeof condition, "json_extract(pgqrsd_result, '$.%s') = %d", name,
                   value);
    expect(f, condition);
}

static void need_root(void)
{
    if (geteuid() != 0) {
        skip();
    }
}

static void test_each_limit_is_seen_by_the_handler(void **state)
{
    struct fixture *f = *state;
    char settings[512];
    (void)snprintf(settings, sizeof settings,
                   "    isolation:\n"
                   "      directory: %s/place\n"
                   "      environment: [PGQRS_NAME, KEPT, NOT_SET, KEPT_*]\n"
                   "      nice: 7\n"
                   "      open_files: 99\n"
                   "      processes: 4321\n"
                   "      file_size: 1536KiB\n"
                   "      core: 0\n"
                   "      no_new_privileges: true\n",
                   f->scratch.dir);
    char place[96];
    (void)snprintf(place, sizeof place, "%s/place", f->scratch.dir);
    assert_int_equal(mkdir(place, 0777), 0);
    start(f, settings);
    run_job(f, "report");
    expect_number(f, "nice", getpriority(PRIO_PROCESS, 0) + 7);
    expect(f, R("directory") " like '%/place'");
    expect(f, R("environment") " in ('KEPT KEPT_TOO ', 'KEPT_TOO KEPT ')");
    expect(f, R("open_files") " = 99");
    expect(f, R("processes") " = 4321");
    expect(f, R("file_size") " = 1572864");
    expect(f, R("core") " = 0");
    expect(f, R("no_new_privileges") " = 1");
    expect(f, SANITIZED ? "1" : R("dumpable") " = 0");
    run_job(f, "write");
    expect(f, R("written") " = 1048576 and " R("rest") " = 524288 and " R("error") " = 'EFBIG'");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_nothing_is_taken_that_is_not_configured(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    run_job(f, "report");
    expect_number(f, "uid", (int)getuid());
    expect_number(f, "nice", getpriority(PRIO_PROCESS, 0));
    expect_number(f, "dumpable", 1);
    expect_number(f, "no_new_privileges", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    expect_number(f, "seccomp", prctl(PR_GET_SECCOMP));
    expect(f, R("environment") " like '%KEPTLESS %' and " R("environment") " not like '%PGQRS%'");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_workers_of_another_user(void **state)
{
    struct fixture *f = *state;
    const gid_t group = 4243;
    need_root();
    assert_int_equal(setgroups(1, &group), 0);
    start(f, "    isolation: {user: nobody, group: 4242, processes: 500}\n");
    run_job(f, "report");
    expect(f, R("uid") " = 65534 and " R("euid") " = 65534 and " R("gid") " = 4242");
    expect(f, R("groups") " = 0 and " R("capabilities") " = 0");
    expect(f, SANITIZED ? "1" : R("dumpable") " = 0");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_core_that_is_asked_for_can_be_had(void **state)
{
    struct fixture *f = *state;
    need_root();
    start(f, "    isolation: {user: nobody, core: 1MiB}\n");
    run_job(f, "report");
    expect(f, R("core") " <= 1048576 and " R("dumpable") " = 1");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_worker_of_another_user_outlives_its_broker(void **state)
{
    struct fixture *f = *state;
    need_root();
    start(f, "    isolation: {user: nobody, seccomp: default, open_files: 64}\n");
    for (int i = 0; i < 3; i++) {
        run_job(f, "report");
        expect(f, R("uid") " = 65534 and " R("gid") " = 65534");
        assert_int_equal(kill(daemon_await_children(&f->daemon, "pgqrs-broker", 1), SIGKILL), 0);
        daemon_await_log(&f->daemon, "broker: ready", i + 2);
    }
    run_job(f, "report");
    assert_int_equal(daemon_log_count(&f->daemon, WORKER_READY), 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static bool is_gone(const void *pid)
{
    return process_gone(*(const pid_t *)pid);
}

/* No process outlives the supervisor, whatever its user. */
static void test_a_worker_of_another_user_dies_with_pgqrsd(void **state)
{
    struct fixture *f = *state;
    need_root();
    start(f, "    isolation: {user: nobody}\n");
    daemon_await_log(&f->daemon, WORKER_READY, 1);
    pid_t worker = daemon_await_children(&f->daemon, "pgqrs-worker", 1);
    assert_int_equal(kill(worker, SIGSTOP), 0); /* it can not end by itself */
    assert_int_equal(daemon_stop(&f->daemon, SIGKILL), 128 + SIGKILL);
    assert_true(wait_for(is_gone, &worker, WAIT_MS));
}

static void test_system_calls_are_denied(void **state)
{
    struct fixture *f = *state;
    start(f, "    isolation: {seccomp: default}\n");
    run_job(f, "report");
    expect(f, R("no_new_privileges") " = 1 and " R("seccomp") " = 2");
    run_job(f, "denied");
    expect(f, SANITIZED ? "1" : R("ptrace") " = 'EPERM'");
    expect(f, R("process_vm_readv") " = 'EPERM' and " R("unshare") " = 'EPERM'");
    expect(f, R("clone") " = 'EPERM' and " R("keyctl") " = 'EPERM'");
    expect(f, R("userfaultfd") " = 'EPERM' and " R("perf_event_open") " = 'EPERM'");
    expect(f, R("bpf") " = 'EPERM' and " R("mount") " = 'EPERM'");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_job_that_leaks_is_ended_and_says_why(void **state)
{
    struct fixture *f = *state;
    start(f, "    on_crash: 1\n    isolation: {memory: 48MiB, core: 0}\n");
    run_job(f, "leak");
    assert_int_equal(daemon_log_count(&f->daemon, "isolation.memory: kept by "), 1);
    db_await(&f->scratch,
             ENDED "pgqrsd_outcome = 'failed' and pgqrsd_crash_ct = 1 and pgqrsd_error like"
                   " '%worker out of memory: %its limit of 48MiB%'",
             1);
    run_job(f, "report");
    expect(f, R("uid") " is not null");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_limit_that_comes_with_a_reload_is_kept_by_the_worker(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    daemon_await_log(&f->daemon, WORKER_READY, 1);
    assert_false(daemon_log_has(&f->daemon, "isolation.memory"));
    daemon_config(&f->scratch,
                  "queues:\n  work: {handler: %s/observe.so, isolation: {memory: 48MiB}}\n",
                  f->scratch.dir);
    assert_int_equal(kill(f->daemon.pid, SIGHUP), 0);
    daemon_await_log(&f->daemon, "queue \"work\": worker 1: ready", 1);
    assert_int_equal(daemon_log_count(&f->daemon, "isolation.memory: kept by RLIMIT_DATA, not by a"
                                                  " control group: no queue had a limit"),
                     1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* A plugin never runs with less than what was configured. */
static void test_what_can_not_be_applied_ends_the_queue(void **state)
{
    struct fixture *f = *state;
    char place[96];
    char settings[256];
    need_root();
    (void)snprintf(place, sizeof place, "%s/closed", f->scratch.dir);
    (void)snprintf(settings, sizeof settings, "    isolation: {user: nobody, directory: %s}\n",
                   place);
    assert_int_equal(mkdir(place, 0700), 0);
    start(f, settings);
    assert_int_equal(daemon_wait(&f->daemon), 78);
    assert_int_equal(daemon_log_count(&f->daemon, "/closed: Permission denied"), 1);
    assert_false(daemon_log_has(&f->daemon, WORKER_READY));
}

int main(void)
{
    (void)setenv("KEPT", "x", 1);
    (void)setenv("KEPT_TOO", "x", 1);
    (void)setenv("KEPTLESS", "x", 1);
    (void)setenv("PGQRS_NAME", "x", 1);
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_each_limit_is_seen_by_the_handler),
        WITH_SCRATCH(test_nothing_is_taken_that_is_not_configured),
        WITH_SCRATCH(test_workers_of_another_user),
        WITH_SCRATCH(test_a_core_that_is_asked_for_can_be_had),
        WITH_SCRATCH(test_a_worker_of_another_user_outlives_its_broker),
        WITH_SCRATCH(test_a_worker_of_another_user_dies_with_pgqrsd),
        WITH_SCRATCH(test_system_calls_are_denied),
        WITH_SCRATCH(test_a_job_that_leaks_is_ended_and_says_why),
        WITH_SCRATCH(test_a_limit_that_comes_with_a_reload_is_kept_by_the_worker),
        WITH_SCRATCH(test_what_can_not_be_applied_ends_the_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
