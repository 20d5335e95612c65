/* SPDX-License-Identifier: Apache-2.0 */
/* The exec handler: outcomes, streams, and that no process is left behind. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/clock.h"
#include "tests/support/handler_rig.h"

#define WAIT_MS 20000

static char dir[] = "/tmp/pgqrs-exec-XXXXXX";
static char pids[64]; /* a file to which commands write their pids, one a line */

static void open_settings(struct handler_rig *rig, json_t *settings)
{
    char *text = json_dumps(settings, 0);
    json_decref(settings);
    assert_non_null(text);
    handler_open(rig, "exec", text);
    free(text);
}

static void open_shell(struct handler_rig *rig, const char *script)
{
    open_settings(
        rig, json_pack("{s:[s,s,s], s:{s:s}}", "command", "sh", "-c", script, "env", "PIDS", pids));
}

static enum pgqrs_job_outcome run_shell(struct handler_rig *rig, const char *script)
{
    open_shell(rig, script);
    return handler_run(rig, "{\"n\":1}");
}

static void expect_error(struct handler_rig *rig, const char *text)
{
    assert_string_equal(rig->error, text);
    handler_close(rig);
}

static void expect_output(struct handler_rig *rig, const char *text)
{
    assert_string_equal(rig->output, text);
    handler_close(rig);
}

/* ---- processes ---- */

/* A zombie is gone: whoever inherited it has only to collect it. */
static bool is_gone(pid_t pid)
{
    char path[64], line[512] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return true;
    }
    bool read = fgets(line, sizeof line, file) != NULL;
    (void)fclose(file);
    const char *state = strrchr(line, ')');
    return !read || state == NULL || state[2] == 'Z' || state[2] == 'X';
}

static void nap(void)
{
    const struct timespec slice = {.tv_nsec = 2000000};
    (void)nanosleep(&slice, NULL);
}

/* Waits until the file of pids has so many, then until all of them are gone. */
static void expect_gone(int count)
{
    int64_t deadline = pgqrs_mono_ms() + WAIT_MS;
    FILE *file = fopen(pids, "r");
    assert_non_null(file);
    for (int i = 0; i < count; i++) {
        int pid = 0;
        assert_int_equal(fscanf(file, "%d", &pid), 1);
        while (!is_gone(pid)) {
            (void)waitpid(-1, NULL, WNOHANG); /* some have become our children: see setup */
            if (pgqrs_mono_ms() > deadline) {
                fail_msg("process %d still runs", pid);
            }
            nap();
        }
    }
    (void)fclose(file);
    (void)unlink(pids);
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

/* ---- outcomes ---- */

static void test_results(void **state)
{
    (void)state;
    struct handler_rig rig;
    assert_int_equal(run_shell(&rig, "cat"), PGQRS_JOB_DONE);
    expect_output(&rig, "{\"n\":1}");
    assert_int_equal(run_shell(&rig, "echo 42"), PGQRS_JOB_DONE);
    expect_output(&rig, "42");
    assert_int_equal(run_shell(&rig, "echo 'two \"words\"'; echo"), PGQRS_JOB_DONE);
    expect_output(&rig, "\"two \\\"words\\\"\"");
    assert_int_equal(run_shell(&rig, "echo warning >&2"), PGQRS_JOB_DONE);
    expect_output(&rig, "");
    assert_int_equal(run_shell(&rig, "printf 'caf\\351 \\000.'"), PGQRS_JOB_DONE);
    expect_output(&rig, "\"caf? ?.\"");
    assert_int_equal(
        run_shell(&rig, "printf '%s %s %s %s' $PGQRS_JOB_ID $PGQRS_JOB_ATTEMPT $PGQRS_JOB_QUEUE "
                        "\"${PGQRS_TEST_BUILD-unset}\""),
        PGQRS_JOB_DONE);
    expect_output(&rig, "\"17 2 mail unset\"");
}

static void test_statuses(void **state)
{
    (void)state;
    struct handler_rig rig;
    assert_int_equal(run_shell(&rig, "echo one >&2; echo two >&2; exit 65"), PGQRS_JOB_FAIL);
    expect_error(&rig, "the command exited with 65: two");
    assert_int_equal(run_shell(&rig, "printf 'no newline' >&2; exit 75"), PGQRS_JOB_RETRY);
    expect_error(&rig, "the command exited with 75: no newline");
    assert_int_equal(run_shell(&rig, "echo '{}'; exit 3"), PGQRS_JOB_RETRY);
    assert_string_equal(rig.output, "");
    expect_error(&rig, "the command exited with 3");
    assert_int_equal(run_shell(&rig, "kill -KILL $$"), PGQRS_JOB_RETRY);
    expect_error(&rig, "the command was killed by signal 9 (Killed)");
    assert_int_equal(run_shell(&rig, "kill -KILL 0"), PGQRS_JOB_RETRY); /* the keeper too */
    expect_error(&rig, "the command and its keeper were killed");
}

static void test_commands_that_can_not_be_executed(void **state)
{
    (void)state;
    struct handler_rig rig;
    handler_open(&rig, "exec", "{\"command\": [\"pgqrs-no-such-program\", \"x\"]}");
    assert_int_equal(handler_run(&rig, "1"), PGQRS_JOB_FAIL);
    expect_error(&rig, "can not execute \"pgqrs-no-such-program\": No such file or directory");
    handler_open(&rig, "exec", "{\"command\": [\"/etc\"]}");
    assert_int_equal(handler_run(&rig, "1"), PGQRS_JOB_FAIL);
    expect_error(&rig, "can not execute \"/etc\": Permission denied");
}

static void test_settings(void **state)
{
    (void)state;
    static const char command[] = "expected an array of strings, the first of them a program";
    handler_refuses("exec", "{}", "settings: command: found nothing, expected an array");
    handler_refuses("exec", "{\"command\": \"ls -l\"}", command);
    handler_refuses("exec", "{\"command\": []}", command);
    handler_refuses("exec", "{\"command\": [\"\"]}", command);
    handler_refuses("exec", "{\"command\": [\"ls\", 1]}",
                    "settings: command: found [\"ls\",1], expected");
    handler_refuses("exec", "{\"command\": [\"ls\"], \"shell\": true}",
                    "settings: shell: found true, expected command, env or max_output");
    handler_refuses("exec", "{\"command\": [\"ls\"], \"env\": {\"A\": 1}}",
                    "settings: env: \"A\": expected");
    handler_refuses("exec", "{\"command\": [\"ls\"], \"max_output\": 0}",
                    "settings: max_output: found 0, expected a whole number");
}

/* ---- streams ---- */

static void test_large_streams(void **state)
{
    (void)state;
    struct handler_rig rig;
    char *payload = malloc(3000001);
    assert_non_null(payload);
    memset(payload, 'x', 3000000);
    payload[0] = payload[2999999] = '"';
    payload[3000000] = 0;
    /* Much in and much out at once; what is over the limit is read all the same. */
    open_settings(&rig, json_pack("{s:[s], s:i}", "command", "cat", "max_output", 100000));
    assert_int_equal(handler_run(&rig, payload), PGQRS_JOB_DONE);
    assert_int_equal(strlen(rig.output), 100003); /* cut, so no longer JSON: quoted and escaped */
    handler_close(&rig);
    open_shell(&rig, "exit 0"); /* does not read any of it */
    assert_int_equal(handler_run(&rig, payload), PGQRS_JOB_DONE);
    handler_close(&rig);
    open_shell(&rig, "cat >&2; echo >&2; echo last words >&2; exit 1");
    assert_int_equal(handler_run(&rig, payload), PGQRS_JOB_RETRY);
    expect_error(&rig, "the command exited with 1: last words");
    free(payload);
    /* 1 MiB of what is six times as long in JSON: as much of it as a result may hold. */
    open_settings(&rig, json_pack("{s:[s,s,s], s:i}", "command", "sh", "-c",
                                  "yes '\001' | head -c 2000000", "max_output", 1048576));
    assert_int_equal(handler_run(&rig, "1"), PGQRS_JOB_DONE);
    assert_in_range(strlen(rig.output), 500000, 1048576);
    handler_close(&rig);
    /* The limit falls into the middle of a euro sign. */
    open_settings(
        &rig, json_pack("{s:[s,s], s:i}", "command", "printf", "ab\xe2\x82\xac", "max_output", 4));
    assert_int_equal(handler_run(&rig, "1"), PGQRS_JOB_DONE);
    expect_output(&rig, "\"ab\"");
}

/* ---- nothing is left behind ---- */

static void test_background_processes_end_with_the_command(void **state)
{
    (void)state;
    struct handler_rig rig;
    /* They hold standard output open, and one ignores what can be ignored. */
    open_shell(&rig, "sleep 1000 & echo $! >>$PIDS; (trap '' TERM; sleep 1000) & echo $! >>$PIDS; "
                     "echo 7");
    assert_int_equal(handler_run(&rig, "1"), PGQRS_JOB_DONE);
    assert_true(rig.took_ms < 10000);
    expect_output(&rig, "7");
    expect_gone(2);
}

static void test_a_process_that_left_the_group(void **state)
{
    (void)state;
    struct handler_rig rig;
    open_shell(&rig, "setsid sh -c 'echo $$ >>$PIDS; sleep 1000 & echo $! >>$PIDS; wait' & "
                     "while ! test \"$(wc -l <$PIDS)\" = 2; do :; done; echo 8");
    assert_int_equal(handler_run(&rig, "1"), PGQRS_JOB_DONE);
    assert_true(rig.took_ms < 10000);
    expect_output(&rig, "8");
    expect_gone(2);
}

static void test_cancel(void **state)
{
    (void)state;
    struct handler_rig rig;
    open_shell(&rig, "sleep 1000 & echo $! $$ >$PIDS; wait");
    assert_int_equal(handler_run_cancelled(&rig, "1", pids), PGQRS_JOB_CANCELLED);
    assert_true(rig.took_ms < 1900); /* SIGTERM was enough */
    expect_gone(2);
    handler_close(&rig);
}

static void test_cancel_of_a_command_that_does_not_listen(void **state)
{
    (void)state;
    struct handler_rig rig;
    open_shell(&rig, "trap '' TERM; sleep 1000 & echo $! $$ >$PIDS; wait");
    assert_int_equal(handler_run_cancelled(&rig, "1", pids), PGQRS_JOB_CANCELLED);
    assert_in_range(rig.took_ms, 1900, 15000);
    expect_gone(2);
    handler_close(&rig);
}

/* The process that has the plugin is killed, and cannot do anything about it. */
static void test_the_command_dies_with_the_worker(void **state)
{
    (void)state;
    pid_t worker = fork();
    if (worker == 0) {
        struct handler_rig rig;
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        open_shell(&rig, "trap '' TERM HUP; sleep 1000 & one=$!; setsid sleep 1000 & "
                         "echo $one $! $$ $PPID >$PIDS; wait");
        (void)handler_run(&rig, "1");
        _exit(1);
    }
    int64_t deadline = pgqrs_mono_ms() + WAIT_MS;
    int found = 0;
    while (found != 4 && pgqrs_mono_ms() < deadline) {
        int pid[4];
        FILE *file = fopen(pids, "r");
        found = file == NULL ? 0 : fscanf(file, "%d %d %d %d", &pid[0], &pid[1], &pid[2], &pid[3]);
        if (file != NULL) {
            (void)fclose(file);
        }
        nap();
    }
    assert_int_equal(found, 4);
    assert_int_equal(kill(worker, SIGKILL), 0);
    assert_int_equal(waitpid(worker, NULL, 0), worker);
    expect_gone(4); /* its children, the command, and the keeper */
}

static int setup(void **state)
{
    (void)state;
    (void)signal(SIGPIPE, SIG_IGN); /* as the worker does */
    /* Orphans come to us, not to a process 1 that may never collect them. */
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    (void)snprintf(pids, sizeof pids, "%s/pids", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results),
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_commands_that_can_not_be_executed),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_large_streams),
        cmocka_unit_test(test_background_processes_end_with_the_command),
        cmocka_unit_test(test_a_process_that_left_the_group),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancel_of_a_command_that_does_not_listen),
        cmocka_unit_test(test_the_command_dies_with_the_worker),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
