/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/worker_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

#define WAIT_MS 20000
#define HEARTBEAT_MS 20

void rig_await_readable(int fd, const char *what)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, WAIT_MS) <= 0) {
        fail_msg("waited %d ms for %s", WAIT_MS, what);
    }
}

const char *rig_built(const char *relative)
{
    static char path[4096];
    const char *build = getenv("PGQRS_TEST_BUILD");
    assert_non_null(build);
    (void)snprintf(path, sizeof path, "%s/%s", build, relative);
    return path;
}

/* ---- set up and down ---- */

int rig_setup(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    assert_non_null(rig);
    (void)snprintf(rig->dir, sizeof rig->dir, "/tmp/pgqrs-rig-XXXXXX");
    assert_non_null(mkdtemp(rig->dir));
    (void)snprintf(rig->trace, sizeof rig->trace, "%s/trace", rig->dir);
    memset(rig->token, 't', sizeof rig->token);
    rig->lifeline = rig->broker_fd = -1;
    rig_listen(rig);
    char url[128];
    struct pgqrs_error err;
    (void)snprintf(url, sizeof url, "ipc://%s/control", rig->dir);
    if (pgqrs_control_listen(url, &rig->control, &err) < 0) {
        fail_msg("%s", err.text);
    }
    *state = rig;
    return 0;
}

static void remove_file(const struct rig *rig, const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", rig->dir, name);
    (void)unlink(path); /* not every test has made it */
}

int rig_teardown(void **state)
{
    struct rig *rig = *state;
    if (rig->pid != 0) {
        (void)kill(rig->pid, SIGKILL);
        (void)waitpid(rig->pid, NULL, 0);
    }
    rig_disconnect(rig);
    if (rig->lifeline >= 0) {
        (void)close(rig->lifeline);
    }
    if (rig->listen_fd >= 0) {
        (void)close(rig->listen_fd);
    }
    pgqrs_control_close(&rig->control);
    pgqrs_buf_fini(&rig->in);
    remove_file(rig, "jobs");
    remove_file(rig, "control");
    remove_file(rig, "trace");
    (void)rmdir(rig->dir);
    free(rig);
    return 0;
}

static void spawn(struct rig *rig)
{
    int pair[2];
    char variables[4][160];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    int theirs = fcntl(pair[1], F_DUPFD_CLOEXEC, 64); /* dup2 to itself would keep close-on-exec */
    (void)close(pair[1]);
    rig->lifeline = pair[0];
    (void)snprintf(variables[0], sizeof variables[0], PGQRS_ENV_GENERATION "=%d", RIG_GENERATION);
    (void)snprintf(variables[1], sizeof variables[1], PGQRS_ENV_CONTROL "=ipc://%s/control",
                   rig->dir);
    (void)snprintf(variables[2], sizeof variables[2], PGQRS_ENV_SUPERVISOR "=%d", (int)getpid());
    (void)snprintf(variables[3], sizeof variables[3], PGQRS_ENV_LOG "=text debug");
    char *env[32] = {variables[0], variables[1], variables[2], variables[3]};
    size_t used = 4;
    for (size_t i = 0; environ[i] != NULL && used < 30; i++) {
        if (strstr(environ[i], "_OPTIONS=") != NULL || strncmp(environ[i], "PATH=", 5) == 0) {
            env[used++] = environ[i]; /* those of sanitizers */
        }
    }
    char *program = strdup(rig_built("libexec/pgqrs/pgqrs-worker"));
    static char valgrind[] = "/usr/bin/valgrind";
    static char options[] = "VALGRIND_OPTS=--quiet --error-exitcode=99 --leak-check=full "
                            "--show-leak-kinds=definite "
                            "--errors-for-leak-kinds=definite";
    char *argv[] = {valgrind, program, NULL};
    bool watched = getenv("PGQRS_TEST_VALGRIND") != NULL;
    if (watched) {
        env[used] = options;
    }
    posix_spawn_file_actions_t actions;
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    assert_int_equal(posix_spawn_file_actions_adddup2(&actions, theirs, PGQRS_FD_LIFELINE), 0);
    assert_int_equal(posix_spawn(&rig->pid, watched ? valgrind : program, &actions, NULL,
                                 watched ? argv : argv + 1, env),
                     0);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(theirs);
    free(program);
}

static void send_control(struct rig *rig, struct pgqrs_buf *frame)
{
    struct pgqrs_error err;
    if (pgqrs_control_send(rig->control, frame, &err) < 0) {
        fail_msg("%s", err.text);
    }
    pgqrs_buf_fini(frame);
}

void rig_start(struct rig *rig, const char *plugin, uint32_t prefetch)
{
    char path[4096], socket_path[128], settings[160];
    if (strchr(plugin, '/') == NULL) {
        (void)snprintf(settings, sizeof settings, "tests/handlers/%s.so", plugin);
        (void)snprintf(path, sizeof path, "%s", rig_built(settings));
    } else {
        (void)snprintf(path, sizeof path, "%s", plugin);
    }
    (void)snprintf(socket_path, sizeof socket_path, "%s/jobs", rig->dir);
    (void)snprintf(settings, sizeof settings, "{\"file\": \"%s\"}", rig->trace);
    spawn(rig);
    rig_await_control(rig, PGQRS_MSG_CHILD_HELLO);
    struct pgqrs_worker_welcome welcome = {
        .queue = "work",
        .handler = path,
        .settings = settings,
        .job_socket = socket_path,
        .prefetch = prefetch,
        .max_attempts = 3,
        .heartbeat_ms = HEARTBEAT_MS,
    };
    memcpy(welcome.token, rig->token, sizeof welcome.token);
    struct pgqrs_buf out = {0};
    pgqrs_encode_worker_welcome(&out, &welcome);
    send_control(rig, &out);
}

void rig_start_ready(struct rig *rig, const char *plugin, uint32_t prefetch)
{
    rig_start(rig, plugin, prefetch);
    rig_expect_hello(rig, prefetch, NULL, 0);
    rig_welcome(rig);
    rig_await_control(rig, PGQRS_MSG_CHILD_READY);
}

/* ---- supervisor ---- */

static void note_beat(struct rig *rig, const struct pgqrs_frame *frame)
{
    struct pgqrs_error err;
    if (pgqrs_decode_child_beat(frame, &rig->beat, &err) < 0) {
        fail_msg("%s", err.text);
    }
    rig->beats++;
}

static enum pgqrs_msg_type next_control(struct rig *rig)
{
    struct pgqrs_frame frame;
    struct pgqrs_error err;
    int64_t deadline = pgqrs_mono_ms() + WAIT_MS;
    for (;;) {
        int got = pgqrs_control_recv(rig->control, PGQRS_ROLE_WORKER, PGQRS_ROLE_SUPERVISOR, &frame,
                                     &err);
        if (got < 0) {
            fail_msg("%s", err.text);
        }
        if (got > 0) {
            if (frame.type == PGQRS_MSG_CHILD_BEAT) {
                note_beat(rig, &frame);
            }
            return frame.type;
        }
        if (pgqrs_mono_ms() > deadline) {
            fail_msg("waited %d ms for a control message", WAIT_MS);
        }
        rig_await_readable(pgqrs_control_fd(rig->control), "a control message");
    }
}

void rig_await_control(struct rig *rig, enum pgqrs_msg_type type)
{
    for (;;) {
        enum pgqrs_msg_type got = next_control(rig);
        if (got == type) {
            return;
        }
        if (got != PGQRS_MSG_CHILD_BEAT) {
            fail_msg("found control message %s, expected %s", pgqrs_msg_descs[got].name,
                     pgqrs_msg_descs[type].name);
        }
    }
}

void rig_await_beats(struct rig *rig, unsigned count)
{
    unsigned until = rig->beats + count;
    while (rig->beats < until) {
        assert_int_equal(next_control(rig), PGQRS_MSG_CHILD_BEAT);
    }
}

void rig_drain(struct rig *rig)
{
    struct pgqrs_buf out = {0};
    pgqrs_encode_empty(&out, PGQRS_MSG_CHILD_DRAIN);
    send_control(rig, &out);
}

void rig_cancel(struct rig *rig, int64_t job_id)
{
    struct pgqrs_buf out = {0};
    pgqrs_encode_worker_cancel(&out, job_id);
    send_control(rig, &out);
}

int rig_wait(struct rig *rig)
{
    const struct timespec slice = {.tv_nsec = 2000000};
    int64_t deadline = pgqrs_mono_ms() + WAIT_MS;
    int status = 0;
    for (;;) {
        pid_t got = waitpid(rig->pid, &status, WNOHANG);
        if (got == rig->pid) {
            rig->pid = 0;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        if (got < 0 || pgqrs_mono_ms() > deadline) {
            fail_msg("waited %d ms for the worker's end", WAIT_MS);
        }
        (void)nanosleep(&slice, NULL);
    }
}

bool rig_runs(const struct rig *rig)
{
    siginfo_t info = {0};
    assert_int_equal(waitid(P_PID, (id_t)rig->pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
    return info.si_pid == 0;
}

void rig_last_words(struct rig *rig, char *out, size_t size)
{
    rig_await_readable(rig->lifeline, "last words");
    ssize_t n = recv(rig->lifeline, out, size - 1, 0);
    out[n > 0 ? n : 0] = 0;
}

/* ---- files ---- */

char *rig_read_trace(const struct rig *rig)
{
    struct pgqrs_buf text = {0};
    int fd = open(rig->trace, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : 1;
    while (n > 0) {
        n = read(fd, pgqrs_buf_reserve(&text, 4096), 4096);
        text.len += n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    pgqrs_buf_put_u8(&text, 0);
    return (char *)text.data;
}

void rig_await_trace(const struct rig *rig, const char *wanted)
{
    const struct timespec slice = {.tv_nsec = 2000000};
    int64_t deadline = pgqrs_mono_ms() + WAIT_MS;
    for (;;) {
        char *text = rig_read_trace(rig);
        bool there = strstr(text, wanted) != NULL;
        free(text);
        if (there) {
            return;
        }
        if (pgqrs_mono_ms() > deadline) {
            fail_msg("waited %d ms for \"%s\" in %s", WAIT_MS, wanted, rig->trace);
        }
        (void)nanosleep(&slice, NULL);
    }
}
