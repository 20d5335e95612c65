/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real pgqrsd on a kernel that has the memory controller to give away: each worker with a limit
 * has a control group. The kernel is a User-Mode Linux, see tests/support/uml.h.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/daemon.h"
#include "tests/support/uml.h"

#define ROOT "/sys/fs/cgroup"
#define GIVEN ROOT "/given"
#define NOBODY 65534
#define ENDED "select count(*) from pgqrs_messages where archived_at is not null and "
#define ERROR_LIKE ENDED "pgqrsd_outcome = 'failed' and pgqrsd_crash_ct = 1 and pgqrsd_error like "
#define KILLED                                                                                     \
    ERROR_LIKE "'%worker out of memory: killed by the kernel, at its limit of 48MiB"               \
               " (isolation.memory)%'"

/* ---- groups ---- */

static void put(const char *file, const char *text)
{
    int fd = open(file, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    (void)close(fd);
}

/* How many groups in this one, and in those, have names that begin so. */
static int count_groups(const char *path, const char *prefix)
{
    int count = 0;
    DIR *dir = opendir(path);
    const struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char below[512];
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        count += strncmp(entry->d_name, prefix, strlen(prefix)) == 0 ? 1 : 0;
        count += count_groups(below, prefix);
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return count;
}

struct groups {
    const char *path, *prefix;
    int count;
};

static bool are_there(const void *arg)
{
    const struct groups *g = arg;
    return count_groups(g->path, g->prefix) == g->count;
}

static void await_groups(const char *path, const char *prefix, int count)
{
    const struct groups g = {.path = path, .prefix = prefix, .count = count};
    if (!wait_for(are_there, &g, WAIT_MS)) {
        fail_msg("%s: expected %d groups %s, found %d", path, count, prefix,
                 count_groups(path, prefix));
    }
}

/* ---- pgqrsd ---- */

/* The queue "limited" is for what a handler starts. */
static void configure(struct fixture *f, const char *handler, const char *settings)
{
    assert_int_equal(chmod(f->scratch.dir, 0777), 0);
    daemon_config(
        &f->scratch,
        "queues:\n"
        "  leak: {handler: %s, on_crash: 1, isolation: {memory: 48MiB, core: 0}}\n"
        "  limited: {handler: %s, settings: %s, on_crash: 1, isolation: {memory: 48MiB}}\n"
        "  free: {handler: %s, settings: {file: %s}}\n",
        built("tests/handlers/observe.so"), handler, settings, built("tests/handlers/effect.so"),
        f->scratch.effects);
}

static void configure_program(struct fixture *f)
{
    configure(f, built("lib/pgqrs/handlers/exec.so"), "{command: [tail, /dev/zero]}");
}

static void await_ready(struct fixture *f)
{
    static const char *const all[] = {"broker: ready", "queue \"leak\": worker 0: ready",
                                      "queue \"limited\": worker 0: ready",
                                      "queue \"free\": worker 0: ready"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        daemon_await_log(&f->daemon, all[i], 1);
    }
}

static void start(struct fixture *f)
{
    configure_program(f);
    daemon_start(&f->daemon, &f->scratch);
    await_ready(f);
}

/* As this user, in this group. */
static void start_in(struct fixture *f, const char *group, uid_t uid)
{
    char procs[128];
    (void)snprintf(procs, sizeof procs, "%s/cgroup.procs", group);
    configure_program(f);
    int group_fd = open(procs, O_WRONLY);
    assert_true(group_fd >= 0);
    (void)snprintf(f->daemon.log, sizeof f->daemon.log, "%s/log", f->scratch.dir);
    f->daemon.scratch = &f->scratch;
    f->daemon.pid = fork();
    if (f->daemon.pid == 0) {
        char config[96];
        (void)snprintf(config, sizeof config, "%s/pgqrsd.yaml", f->scratch.dir);
        if (write(group_fd, "0", 1) != 1 || setgid(uid) < 0 || setuid(uid) < 0) {
            _exit(126);
        }
        int log = open(f->daemon.log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        (void)dup2(log, STDERR_FILENO);
        (void)execl(built("bin/pgqrsd"), "pgqrsd", "-c", config, (char *)NULL);
        _exit(127);
    }
    (void)close(group_fd);
    await_ready(f);
}

static void give_group(uid_t uid)
{
    static const char *const files[] = {GIVEN, GIVEN "/cgroup.procs",
                                        GIVEN "/cgroup.subtree_control"};
    put(ROOT "/cgroup.subtree_control", "+memory");
    assert_int_equal(mkdir(GIVEN, 0755), 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        assert_int_equal(chown(files[i], uid, uid), 0);
    }
}

/* So many bytes more for all in the group. */
static void leave_room(long bytes)
{
    char text[32];
    FILE *file = fopen(GIVEN "/memory.current", "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    (void)fclose(file);
    (void)snprintf(text, sizeof text, "%ld", strtol(text, NULL, 10) + bytes);
    put(GIVEN "/memory.max", text);
}

static void leak(const struct fixture *f)
{
    cli_ok(&f->scratch, "{\"do\": \"leak\"}\n", "message", "enqueue", "leak", "-");
}

static void expect_status(const struct fixture *f, const char *text, int count)
{
    char command[256];
    (void)snprintf(command, sizeof command,
                   "%s ctl status --socket %s/run/pgqrsd.ctl -o json | grep -c '%s' >%s/count",
                   built("bin/pgqrs"), f->scratch.dir, text, f->scratch.dir);
    (void)!system(command); /* grep fails when it finds nothing */
    (void)snprintf(command, sizeof command, "test $(cat %s/count) = %d", f->scratch.dir, count);
    assert_int_equal(system(command), 0);
}

/* ---- tests ---- */

static void test_a_worker_at_its_limit_dies_alone_and_its_job_knows(void **state)
{
    struct fixture *f = *state;
    start(f);
    assert_true(daemon_log_has(&f->daemon, "kept by control groups in " ROOT "/pgqrsd-"));
    assert_int_equal(count_groups(ROOT, "pgqrsd-"), 1);
    assert_int_equal(count_groups(ROOT, "worker-"), 2);
    expect_status(f, "\"memory_limit_kept_by\": \"cgroup\"", 2);
    leak(f);
    db_await(&f->scratch, KILLED, 1);
    daemon_await_log(&f->daemon, "queue \"leak\": worker 0: ready", 2);
    await_groups(ROOT, "worker-", 2);
    assert_int_equal(daemon_log_count(&f->daemon, "queue \"limited\": worker 0: ready"), 1);
    cli_ok(&f->scratch, "{}\n", "message", "enqueue", "limited", "-"); /* all that is in a group */
    db_await(&f->scratch, KILLED, 2);
    assert_int_equal(daemon_log_count(&f->daemon, "queue \"leak\": worker 0: ready"), 2);
    assert_int_equal(daemon_log_count(&f->daemon, "queue \"free\": worker 0: ready"), 1);
    assert_int_equal(daemon_log_count(&f->daemon, "broker: ready"), 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(count_groups(ROOT, "pgqrsd-"), 0);
}

/* A group is removed when the last process in it has ended, which may be none of pgqrsd's. */
static void test_a_group_outlives_its_worker_while_it_is_used(void **state)
{
    struct fixture *f = *state;
    pid_t workers[8];
    char settings[128];
    (void)snprintf(settings, sizeof settings, "{file: %s}", f->scratch.effects);
    configure(f, built("tests/handlers/orphans.so"), settings);
    daemon_start(&f->daemon, &f->scratch);
    await_ready(f);
    size_t n = daemon_children(&f->daemon, "pgqrs-worker", workers, 8);
    cli_ok(&f->scratch, "{\"count\": 1, \"ms\": 60000}\n", "message", "enqueue", "limited", "-");
    effects_await(&f->scratch, "orphan ", 1);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(kill(workers[i], SIGKILL), 0);
    }
    daemon_await_log(&f->daemon, "queue \"limited\": worker 0: ready", 2);
    daemon_await_log(&f->daemon, "queue \"leak\": worker 0: ready", 2);
    await_groups(ROOT, "worker-", 3);
    char command[128];
    (void)snprintf(command, sizeof command, "kill -9 $(sed -n 's/^orphan //p' %s)",
                   f->scratch.effects);
    assert_int_equal(system(command), 0);
    await_groups(ROOT, "worker-", 2);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static bool no_process_is_left(const void *arg)
{
    (void)arg;
    return system("grep -qs 'populated 0' " ROOT "/pgqrsd-*/cgroup.events") == 0;
}

static void test_groups_of_a_killed_pgqrsd_are_removed(void **state)
{
    struct fixture *f = *state;
    start(f);
    assert_int_equal(daemon_stop(&f->daemon, SIGKILL), 128 + SIGKILL);
    assert_int_equal(count_groups(ROOT, "pgqrsd-"), 1);
    assert_int_equal(count_groups(ROOT, "worker-"), 2);
    assert_true(wait_for(no_process_is_left, NULL, WAIT_MS));
    (void)remove(f->daemon.log);
    start(f);
    assert_int_equal(count_groups(ROOT, "pgqrsd-"), 1);
    assert_int_equal(count_groups(ROOT, "worker-"), 2);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_group_that_is_given_to_another_user(void **state)
{
    struct fixture *f = *state;
    give_group(NOBODY);
    start_in(f, GIVEN, NOBODY);
    assert_true(daemon_log_has(&f->daemon, "kept by control groups in " GIVEN "/pgqrsd-"));
    leak(f);
    db_await(&f->scratch, KILLED, 1);
    daemon_await_log(&f->daemon, "queue \"leak\": worker 0: ready", 2);
    leave_room(24 << 20);
    leak(f);
    db_await(&f->scratch, ERROR_LIKE "'%by the kernel, but not for its own limit of 48MiB%'", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(count_groups(GIVEN, ""), 0);
    assert_int_equal(rmdir(GIVEN), 0);
}

static void test_a_group_with_others_in_it_is_left_alone(void **state)
{
    struct fixture *f = *state;
    char pid[16];
    give_group(NOBODY);
    pid_t other = fork();
    if (other == 0) {
        (void)pause();
        _exit(0);
    }
    (void)snprintf(pid, sizeof pid, "%d", (int)other);
    put(GIVEN "/cgroup.procs", pid);
    start_in(f, GIVEN, NOBODY);
    assert_int_equal(daemon_log_count(&f->daemon, "another process is in the group"), 1);
    assert_int_equal(count_groups(GIVEN, ""), 0);
    expect_status(f, "\"memory_limit_kept_by\": \"rlimit\"", 2);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(kill(other, SIGKILL), 0);
    assert_int_equal(waitpid(other, NULL, 0), other);
    assert_int_equal(rmdir(GIVEN), 0);
}

static const char *why_not;

static void test_control_groups(void **state)
{
    (void)state;
    print_message("not tested: %s\n", why_not);
    skip();
}

static int run_inside(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_a_worker_at_its_limit_dies_alone_and_its_job_knows),
        WITH_SCRATCH(test_a_group_outlives_its_worker_while_it_is_used),
        WITH_SCRATCH(test_groups_of_a_killed_pgqrsd_are_removed),
        WITH_SCRATCH(test_a_group_that_is_given_to_another_user),
        WITH_SCRATCH(test_a_group_with_others_in_it_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest none[] = {cmocka_unit_test(test_control_groups)};
    if (uml_is_inside()) {
        uml_inside(run_inside);
    }
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    why_not = "User-Mode Linux has too few addresses for a sanitizer";
#else
    int status = uml_outside(&why_not);
    if (status >= 0) {
        return status;
    }
#endif
    return cmocka_run_group_tests(none, NULL, NULL);
}
