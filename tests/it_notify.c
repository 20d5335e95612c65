/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pgqrsd with a service manager: what it tells it, and that nothing below it can. The test is the
 * manager, on a real socket. The unit is checked by systemd's own tools where they are.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/support/daemon.h"

#define MESSAGES_MAX 1000
#define MESSAGE_SIZE 1024

struct manager {
    struct fixture *f;
    int fd;
    pid_t pid; /* of the daemon, also when it has ended */
    char messages[MESSAGES_MAX][MESSAGE_SIZE];
    size_t count, seen; /* the ones before were awaited already */
};

static struct manager manager;
static bool watches_pid; /* WATCHDOG_PID becomes that of the daemon */

static void in_child(void)
{
    char pid[24];
    if (watches_pid) {
        (void)snprintf(pid, sizeof pid, "%d", (int)getpid());
        (void)setenv("WATCHDOG_PID", pid, 1);
    }
}

static void listen_at(struct fixture *f, bool abstract)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[sizeof address.sun_path];
    int on = 1;
    manager = (struct manager){.f = f};
    (void)snprintf(name, sizeof name, "%s%s/notify", abstract ? "@" : "", f->scratch.dir);
    (void)setenv("NOTIFY_SOCKET", name, 1);
    memcpy(address.sun_path, name, strlen(name));
    address.sun_path[0] = abstract ? 0 : '/';
    manager.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(manager.fd >= 0);
    assert_int_equal(setsockopt(manager.fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
    assert_int_equal(
        bind(manager.fd, (const struct sockaddr *)&address,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name) + !abstract)),
        0);
}

/* Of the daemon itself: a manager takes nothing from others. */
static bool receive(int timeout_ms)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct ucred from = {0};
    char *text = manager.messages[manager.count];
    struct iovec part = {.iov_base = text, .iov_len = MESSAGE_SIZE - 1};
    struct msghdr m = {.msg_iov = &part,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof control};
    struct pollfd pollfd = {.fd = manager.fd, .events = POLLIN};
    if (poll(&pollfd, 1, timeout_ms) <= 0) {
        return false;
    }
    ssize_t len = recvmsg(manager.fd, &m, 0);
    assert_true(len > 0);
    const struct cmsghdr *header = CMSG_FIRSTHDR(&m);
    if (header != NULL) {
        memcpy(&from, CMSG_DATA(header), sizeof from);
    }
    manager.pid = manager.f->daemon.pid != 0 ? manager.f->daemon.pid : manager.pid;
    assert_int_equal(from.pid, manager.pid);
    text[len] = 0;
    assert_true(++manager.count < MESSAGES_MAX);
    return true;
}

/* Where a line of the message begins with this; null: none does. */
static const char *line_of(const char *message, const char *begin)
{
    for (const char *line = message; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, begin, strlen(begin)) == 0) {
            return line;
        }
    }
    return NULL;
}

/* The next message with such a line. */
static const char *await_line(const char *begin)
{
    int64_t deadline = pgqrs_mono_ms() + WAIT_MS;
    for (;;) {
        while (manager.seen < manager.count) {
            const char *message = manager.messages[manager.seen++];
            if (line_of(message, begin) != NULL) {
                return message;
            }
        }
        if (pgqrs_mono_ms() > deadline || (!receive(1000) && process_gone(manager.f->daemon.pid))) {
            for (size_t i = 0; i < manager.count; i++) {
                print_error("-- %s\n", manager.messages[i]);
            }
            fail_msg("awaited %s", begin);
        }
    }
}

static int64_t number_of(const char *message, const char *name)
{
    const char *line = line_of(message, name);
    assert_non_null(line);
    return strtoll(line + strlen(name), NULL, 10);
}

/* Messages that have come, the ones in the socket too, with such a line. */
static int count_lines(const char *begin)
{
    int n = 0;
    while (receive(0)) {
    }
    for (size_t i = 0; i < manager.count; i++) {
        n += line_of(manager.messages[i], begin) != NULL;
    }
    return n;
}

static void config(const struct fixture *f, const char *settings, const char *queues)
{
    daemon_config(&f->scratch,
                  "%squeues:\n  work: {handler: %s, consumers: 2, settings: {file: %s}}\n%s",
                  settings, built("tests/handlers/effect.so"), f->scratch.effects, queues);
}

static void test_start_reload_and_drain(void **state)
{
    struct fixture *f = *state;
    listen_at(f, false);
    config(f, "shutdown: {drain: 40s, cancel_grace: 10s}\n", "");
    daemon_start(&f->daemon, &f->scratch);
    (void)await_line("STATUS=starting");
    const char *ready = await_line("READY=1");
    assert_true(daemon_log_has(&f->daemon, "queue \"work\": worker "));
    assert_non_null(line_of(ready, "STATUS=1 queue, "));
    (void)await_line("STATUS=1 queue, 2 of 2 workers ready");

    assert_int_equal(kill(f->daemon.pid, SIGTTIN), 0);
    (void)await_line("STATUS=1 queue, 3 of 3 workers ready");

    int64_t before = pgqrs_mono_us();
    assert_int_equal(kill(f->daemon.pid, SIGHUP), 0);
    int64_t reloading = number_of(await_line("RELOADING=1"), "MONOTONIC_USEC=");
    assert_in_range(reloading, before, pgqrs_mono_us());
    (void)await_line("READY=1");
    config(f, "", "  bad: {}\n");
    assert_int_equal(kill(f->daemon.pid, SIGHUP), 0);
    (void)await_line("RELOADING=1");
    (void)await_line("READY=1");
    assert_int_equal(count_lines("READY=1"), 3);
    assert_int_equal(count_lines("RELOADING=1"), 2);

    fixture_enqueue(f, 1, "{\"ms\": 500}");
    effects_await(&f->scratch, "start ", 1);
    assert_int_equal(kill(f->daemon.pid, SIGTERM), 0);
    assert_non_null(line_of(await_line("STOPPING=1"), "STATUS=draining: 3 workers left"));
    assert_true(number_of(await_line("EXTEND_TIMEOUT_USEC="), "EXTEND_TIMEOUT_USEC=") >= 40000000);
    (void)await_line("EXTEND_TIMEOUT_USEC="); /* the broker's turn */
    assert_int_equal(daemon_wait(&f->daemon), 0);
    assert_int_equal(count_lines("STOPPING=1"), 1);
    assert_int_equal(count_lines("READY=1"), 3);
    assert_int_equal(count_lines("WATCHDOG=1"), 0); /* nobody asked for it */
}

static void test_ready_is_when_each_queue_works_or_fails(void **state)
{
    struct fixture *f = *state;
    char queue[256];
    listen_at(f, true);
    (void)snprintf(queue, sizeof queue, "  \"bad\\nREADY=1\": {handler: %s}\n",
                   built("tests/handlers/init_fails.so"));
    config(f, "", queue);
    daemon_start(&f->daemon, &f->scratch);
    const char *ready = await_line("READY=1");
    assert_true(daemon_log_has(&f->daemon, "READY=1\": failing: 5 failed starts in a row"));
    assert_non_null(line_of(ready, "STATUS=2 queues, "));
    assert_non_null(strstr(ready, " of 3 workers ready; failing: bad?READY=1"));
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(count_lines("READY=1"), 1);
}

static void test_the_watchdog_is_fed(void **state)
{
    struct fixture *f = *state;
    watches_pid = true;
    (void)setenv("WATCHDOG_USEC", "200000", 1);
    listen_at(f, true);
    fixture_start(f, "");
    for (int i = 0; i < 5; i++) {
        assert_string_equal(await_line("WATCHDOG=1"), "WATCHDOG=1");
    }
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* Nor does a worker learn how to feed it. */
static void test_what_is_meant_for_another_process(void **state)
{
    struct fixture *f = *state;
    (void)setenv("WATCHDOG_USEC", "2000", 1);
    (void)setenv("WATCHDOG_PID", "1", 1);
    (void)setenv("WATCHED", "kept", 1);
    listen_at(f, false);
    daemon_config(&f->scratch, "queues:\n  work: {handler: %s}\n",
                  built("tests/handlers/observe.so"));
    daemon_start(&f->daemon, &f->scratch);
    (void)await_line("READY=1");
    fixture_enqueue(f, 1, "{\"do\": \"report\"}");
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done' and"
             " json_extract(pgqrsd_result, '$.environment') like '%WATCHED %' and"
             " json_extract(pgqrsd_result, '$.environment') not like '%NOTIFY%' and"
             " json_extract(pgqrsd_result, '$.environment') not like '%WATCHDOG%'",
             1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(count_lines("WATCHDOG=1"), 0);
}

static void test_a_manager_that_is_not_there(void **state)
{
    struct fixture *f = *state;
    (void)setenv("NOTIFY_SOCKET", "vsock:2:1", 1);
    fixture_start(f, "");
    assert_true(daemon_log_has(&f->daemon, "NOTIFY_SOCKET: found \"vsock:2:1\", expected"));
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    (void)setenv("NOTIFY_SOCKET", "/nowhere/notify", 1);
    (void)setenv("WATCHDOG_USEC", "2000", 1);
    fixture_start(f, "");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(daemon_log_count(&f->daemon, "can not be told: No such file"), 1);
}

/* ---- the unit ---- */

static int run(const struct fixture *f, const char *command)
{
    char line[1024];
    (void)snprintf(line, sizeof line, "{ %s; } >%s/out 2>&1", command, f->scratch.dir);
    return system(line);
}

static void need(const struct fixture *f, const char *tool)
{
    char command[128];
    (void)snprintf(command, sizeof command, "command -v %s", tool);
    if (run(f, command) != 0) {
        print_message("%s is not installed\n", tool);
        skip();
    }
}

static void good(const struct fixture *f, const char *command)
{
    if (run(f, command) != 0) {
        (void)snprintf(manager.messages[0], MESSAGE_SIZE, "cat %s/out >&2", f->scratch.dir);
        (void)!system(manager.messages[0]);
        fail_msg("%s", command);
    }
}

static void test_the_unit_is_good(void **state)
{
    const struct fixture *f = *state;
    char command[1024];
    need(f, "systemd-analyze");
    (void)snprintf(command, sizeof command,
                   "sed 's|/usr/local/bin/pgqrsd|%s|' packaging/systemd/pgqrsd.service"
                   " >%s/pgqrsd.service && systemd-analyze verify --man=no %s/pgqrsd.service &&"
                   " [ ! -s %s/out ]",
                   built("bin/pgqrsd"), f->scratch.dir, f->scratch.dir, f->scratch.dir);
    good(f, command);
    (void)snprintf(command, sizeof command,
                   "systemd-analyze security --offline=yes --threshold=25 %s/pgqrsd.service",
                   f->scratch.dir);
    good(f, command);
}

static void test_the_user_and_the_directory_are_made(void **state)
{
    const struct fixture *f = *state;
    char command[1024];
    need(f, "systemd-sysusers");
    need(f, "systemd-tmpfiles");
    if (geteuid() != 0) {
        skip();
    }
    (void)snprintf(
        command, sizeof command,
        "cd %s && mkdir -p root/etc && systemd-sysusers --root=root"
        " $OLDPWD/packaging/systemd/pgqrsd.sysusers.conf && grep ^pgqrs: root/etc/passwd",
        f->scratch.dir);
    good(f, command);
    (void)snprintf(command, sizeof command,
                   "cd %s && systemd-tmpfiles --root=$PWD/root --create"
                   " $OLDPWD/packaging/systemd/pgqrsd.tmpfiles.conf &&"
                   " [ $(stat -c %%a root/etc/pgqrs) = 750 ]",
                   f->scratch.dir);
    good(f, command);
}

static int teardown(void **state)
{
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("WATCHDOG_PID");
    watches_pid = false;
    if (manager.fd > 0) {
        (void)close(manager.fd);
    }
    manager.fd = -1;
    return fixture_teardown(state);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_start_reload_and_drain),
        TEST(test_ready_is_when_each_queue_works_or_fails),
        TEST(test_the_watchdog_is_fed),
        TEST(test_what_is_meant_for_another_process),
        TEST(test_a_manager_that_is_not_there),
        TEST(test_the_unit_is_good),
        TEST(test_the_user_and_the_directory_are_made),
    };
    (void)pthread_atfork(NULL, NULL, in_child);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
