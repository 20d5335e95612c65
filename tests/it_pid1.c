/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pgqrsd as the first process of a container: in PID and mount namespaces of its own, where it is
 * parent to what others leave behind and no signal has a default action for it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/daemon.h"

#define NAMESPACES (CLONE_NEWPID | CLONE_NEWNS)

/* Runs the script in new namespaces, as PID 1 there. Returns the pid outside; -1: not permitted. */
static pid_t spawn_pid1(const char *log, const char *script)
{
    pid_t pid = (pid_t)syscall(SYS_clone, NAMESPACES | SIGCHLD, 0, 0, 0, 0);
    if (pid != 0) {
        return pid;
    }
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)dup2(out, STDOUT_FILENO);
    (void)dup2(out, STDERR_FILENO);
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) {
        _exit(126);
    }
    (void)execl("/bin/sh", "sh", "-c", script, (char *)NULL);
    _exit(127);
}

static bool permitted(void)
{
    int status = 0;
    pid_t pid = spawn_pid1("/dev/null", "exit 0");
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

static int setup(void **state)
{
    if (!permitted()) {
        print_message("not permitted: PID and mount namespaces\n");
        *state = NULL;
        return 0;
    }
    return fixture_setup(state);
}

static int teardown(void **state)
{
    return *state == NULL ? 0 : fixture_teardown(state);
}

static struct fixture *fixture_or_skip(void **state)
{
    if (*state == NULL) {
        skip();
    }
    return *state;
}

/* With the queues "work" (effect.so) and "leave" (orphans.so); shell runs before pgqrsd does. */
static void start_after(struct fixture *f, const char *shell)
{
    char script[512];
    daemon_config(&f->scratch,
                  "shutdown: {drain: 60s}\n"
                  "queues:\n"
                  "  work: {handler: %s, settings: {file: %s}, prefetch: 3}\n"
                  "  leave: {handler: %s, settings: {file: %s}, consumers: 2}\n",
                  built("tests/handlers/effect.so"), f->scratch.effects,
                  built("tests/handlers/orphans.so"), f->scratch.effects);
    (void)snprintf(f->daemon.log, sizeof f->daemon.log, "%s/log", f->scratch.dir);
    (void)snprintf(script, sizeof script, "%s exec %s -c %s/pgqrsd.yaml", shell,
                   built("bin/pgqrsd"), f->scratch.dir);
    f->daemon.scratch = &f->scratch;
    f->daemon.pid = spawn_pid1(f->daemon.log, script);
    assert_true(f->daemon.pid > 0);
}

static void start(struct fixture *f)
{
    start_after(f, "");
    daemon_await_log(&f->daemon, "ready pid=", 4); /* the broker and three workers */
    daemon_await_log(&f->daemon, "starting, 2 queues pid=1 ", 1);
}

static bool waits_for_the_fifo(const void *arg)
{
    const struct daemon *d = arg;
    char path[64];
    char text[64] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/comm", (int)d->pid);
    FILE *file = fopen(path, "r");
    bool ours =
        file != NULL && fgets(text, sizeof text, file) != NULL && strcmp(text, "pgqrsd\n") == 0;
    if (file != NULL) {
        (void)fclose(file);
    }
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)d->pid);
    file = ours ? fopen(path, "r") : NULL;
    char found = 0;
    ours = file != NULL && fscanf(file, "%*d (%*[^)]) %c", &found) == 1 && found == 'S';
    if (file != NULL) {
        (void)fclose(file);
    }
    return ours;
}

/* It waits for its configuration, with no signal handler in place yet, until it is released. */
static void start_held(struct fixture *f, const char *shell)
{
    char script[256];
    (void)snprintf(script, sizeof script, "cd %s; mv pgqrsd.yaml real; mkfifo pgqrsd.yaml; %s",
                   f->scratch.dir, shell);
    start_after(f, script);
    assert_true(wait_for(waits_for_the_fifo, &f->daemon, WAIT_MS));
}

static void release(const struct fixture *f)
{
    char script[256];
    const char *dir = f->scratch.dir;
    (void)snprintf(script, sizeof script, "cat %s/real >%s/pgqrsd.yaml", dir, dir);
    assert_int_equal(system(script), 0);
}

/* Processes in the namespace in this state; 0: in any. */
static int count_processes(const struct daemon *d, char state)
{
    char path[320];
    int count = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/root/proc", (int)d->pid);
    DIR *proc = opendir(path);
    struct dirent *entry;
    assert_non_null(proc);
    while ((entry = readdir(proc)) != NULL) {
        char found = 0;
        (void)snprintf(path, sizeof path, "/proc/%d/root/proc/%.16s/stat", (int)d->pid,
                       entry->d_name);
        FILE *file = entry->d_name[0] >= '0' && entry->d_name[0] <= '9' ? fopen(path, "r") : NULL;
        if (file != NULL) {
            bool known = fscanf(file, "%*d (%*[^)]) %c", &found) == 1;
            count += known && (state == 0 || found == state) ? 1 : 0;
            (void)fclose(file);
        }
    }
    (void)closedir(proc);
    return count;
}

static bool only_ours_are_left(const void *arg)
{
    const struct daemon *d = arg;
    return count_processes(d, 0) == 5 && count_processes(d, 'Z') == 0;
}

static void await_only_ours(const struct daemon *d)
{
    if (!wait_for(only_ours_are_left, d, WAIT_MS)) {
        fail_msg("expected pgqrsd, a broker and three workers; found %d processes, %d zombies",
                 count_processes(d, 0), count_processes(d, 'Z'));
    }
}

static void leave(const struct fixture *f, const char *payload)
{
    cli_ok(&f->scratch, NULL, "message", "enqueue", "leave", payload);
}

static void test_what_others_leave_behind_is_reaped(void **state)
{
    struct fixture *f = fixture_or_skip(state);
    start(f);
    fixture_enqueue(f, 300, "{\"ms\":2}");
    for (int i = 0; i < 4; i++) {
        leave(f, "{\"count\":50,\"ms\":1}");
    }
    leave(f, "{\"count\":20,\"ms\":500}");
    effects_await(&f->scratch, "ended ", 220);
    await_only_ours(&f->daemon);
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done' and read_ct = 1",
             305);
    assert_int_equal(daemon_log_count(&f->daemon, "ready pid="), 4); /* nobody had to be replaced */
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_what_a_killed_worker_leaves_behind_is_reaped(void **state)
{
    struct fixture *f = fixture_or_skip(state);
    pid_t pids[8];
    start(f);
    size_t count = daemon_children(&f->daemon, "pgqrs-worker", pids, 8);
    leave(f, "{\"count\":10,\"ms\":1000}");
    effects_await(&f->scratch, "orphan ", 10);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(kill(pids[i], SIGKILL), 0);
    }
    daemon_await_log(&f->daemon, "ready pid=", 7);
    effects_await(&f->scratch, "ended ", 10); /* they are not of the workers' groups */
    await_only_ours(&f->daemon);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static bool has_a_zombie(const void *arg)
{
    return count_processes(arg, 'Z') == 1;
}

/* An entrypoint may have started something before it became pgqrsd. */
static void test_a_child_from_before_is_reaped(void **state)
{
    struct fixture *f = fixture_or_skip(state);
    start_held(f, "true &");
    assert_true(wait_for(has_a_zombie, &f->daemon, WAIT_MS));
    release(f);
    daemon_await_log(&f->daemon, "ready pid=", 4);
    await_only_ours(&f->daemon);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static bool is_gone(const void *pid)
{
    return process_gone(*(const pid_t *)pid);
}

static void test_a_stop_waits_for_the_job_and_spares_strangers(void **state)
{
    struct fixture *f = fixture_or_skip(state);
    pid_t pids[16];
    start(f);
    leave(f, "{\"count\":1,\"ms\":600000}");
    effects_await(&f->scratch, "orphan ", 1);
    fixture_enqueue(f, 1, "{\"ms\":1000}");
    effects_await(&f->scratch, "start ", 1);
    /* The stranger is a child now, and a copy of a worker. */
    size_t count = daemon_children(&f->daemon, "pgqrs-worker", pids, 16);
    assert_int_equal(count, 4);
    count += daemon_children(&f->daemon, "pgqrs-broker", pids + count, 1);
    assert_int_equal(kill(f->daemon.pid, SIGTERM), 0);
    daemon_await_log(&f->daemon, "draining", 1);
    assert_int_equal(daemon_wait(&f->daemon), 0);
    assert_int_equal(effects_count(&f->scratch, "end "), 1);
    assert_int_equal(effects_count(&f->scratch, "signalled "), 0);
    for (size_t i = 0; i < count; i++) {
        assert_true(wait_for(is_gone, &pids[i], WAIT_MS));
    }
}

static void test_idle_it_stops_with_zero(void **state)
{
    struct fixture *f = fixture_or_skip(state);
    start(f);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_second_interrupt_is_immediate(void **state)
{
    struct fixture *f = fixture_or_skip(state);
    start(f);
    fixture_enqueue(f, 3, "{\"ms\":60000,\"ignore_cancel\":true}");
    effects_await(&f->scratch, "start ", 1);
    assert_int_equal(kill(f->daemon.pid, SIGINT), 0);
    daemon_await_log(&f->daemon, "draining", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGINT), 75);
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrs_messages where read_ct = 0"
                                            " and consumer_worker_id is null"),
                     3);
}

static void test_other_signals_do_no_harm(void **state)
{
    static const int signals[] = {SIGHUP, SIGUSR1, SIGALRM, SIGPIPE, SIGWINCH, SIGVTALRM};
    struct fixture *f = fixture_or_skip(state);
    start(f);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        assert_int_equal(kill(f->daemon.pid, signals[i]), 0);
    }
    fixture_enqueue(f, 20, "{}");
    effects_await(&f->scratch, "end ", 20);
    assert_int_equal(daemon_log_count(&f->daemon, "ready pid="), 4);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* The kernel drops what PID 1 has no handler for yet. */
static void test_a_stop_in_the_middle_of_the_start_is_not_lost(void **state)
{
    struct fixture *f = fixture_or_skip(state);
    start_held(f, "");
    assert_int_equal(kill(f->daemon.pid, SIGTERM), 0);
    release(f);
    assert_int_equal(daemon_wait(&f->daemon), 0);
}

int main(void)
{
#define AS_PID1(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        AS_PID1(test_what_others_leave_behind_is_reaped),
        AS_PID1(test_what_a_killed_worker_leaves_behind_is_reaped),
        AS_PID1(test_a_child_from_before_is_reaped),
        AS_PID1(test_a_stop_waits_for_the_job_and_spares_strangers),
        AS_PID1(test_idle_it_stops_with_zero),
        AS_PID1(test_a_second_interrupt_is_immediate),
        AS_PID1(test_other_signals_do_no_harm),
        AS_PID1(test_a_stop_in_the_middle_of_the_start_is_not_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
