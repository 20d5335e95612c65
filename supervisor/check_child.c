/* SPDX-License-Identifier: Apache-2.0 */
/* A broker or a worker that serves nobody: see ipc/check.h. */
#include "supervisor/check.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/paths.h"
#include "base/units.h"
#include "supervisor/supervisor.h"

#define LOOK_MS 5
#define OWN_VARIABLES 3

struct running {
    pid_t pid;
    int lifeline; /* -1: closed by the child */
    bool done;    /* it has looked at everything */
    int status;
};

/* ---- starting ---- */

static void free_environment(char **env)
{
    for (size_t i = 0; env != NULL && i < OWN_VARIABLES; i++) {
        free(env[i]);
    }
    free(env);
}

/* As a child that serves has it, without what it would need to reach us. Null: no memory. */
static char **make_environment(const struct pgqrs_config_isolation *isolation)
{
    const char *names = isolation == NULL ? NULL : isolation->environment;
    size_t count = 0;
    while (environ[count] != NULL) {
        count++;
    }
    char **env = calloc(OWN_VARIABLES + count + 1, sizeof *env);
    if (env == NULL || asprintf(&env[0], PGQRS_ENV_SUPERVISOR "=%d", (int)getpid()) < 0 ||
        asprintf(&env[1], PGQRS_ENV_NO_NEW_PRIVILEGES "=%d",
                 isolation != NULL && (isolation->no_new_privileges || isolation->seccomp)) < 0 ||
        asprintf(&env[2], PGQRS_ENV_LOG "=text info") < 0) {
        free(env); /* ends at the first that is missing */
        return NULL;
    }
    size_t n = OWN_VARIABLES;
    for (size_t i = 0; i < count; i++) {
        if (pgqrs_spawn_passes(names, environ[i])) {
            env[n++] = environ[i];
        }
    }
    return env;
}

/* Above the contract's descriptors; -1. */
static int open_above(int fd)
{
    int above = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, PGQRS_FD_ABOVE);
    int saved_errno = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    errno = saved_errno;
    return above;
}

/* A file in memory: it may name the store's credentials. -1. */
static int open_welcome(const struct pgqrs_buf *welcome)
{
    int fd = welcome->failed ? -1 : open_above(memfd_create("pgqrsd-check", MFD_CLOEXEC));
    for (size_t at = 0; fd >= 0 && at < welcome->len;) {
        ssize_t n = write(fd, welcome->data + at, welcome->len - at);
        if (n < 0) {
            (void)close(fd);
            return -1;
        }
        at += (size_t)n;
    }
    if (fd >= 0) {
        (void)lseek(fd, 0, SEEK_SET);
    }
    return fd;
}

static int spawn(const char *program, int input, int lifeline, char **env, pid_t *pid_out)
{
    char *argv[] = {(char *)(uintptr_t)program, (char *)(uintptr_t)PGQRS_CHECK_WORD, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigset_t all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0) {
        return rc;
    }
    rc = posix_spawnattr_init(&attributes);
    if (rc == 0) {
        if ((rc = posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO)) == 0 &&
            (rc = posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO)) == 0 &&
            (rc = posix_spawn_file_actions_adddup2(&actions, lifeline, PGQRS_FD_LIFELINE)) == 0 &&
            (rc = posix_spawn_file_actions_addclosefrom_np(&actions, PGQRS_FD_LIFELINE + 1)) == 0 &&
            (rc =
                 posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
                                                           POSIX_SPAWN_SETSIGDEF)) == 0 &&
            (rc = posix_spawnattr_setsigmask(&attributes, &none)) == 0 &&
            (rc = posix_spawnattr_setsigdefault(&attributes, &all)) == 0) {
            rc = posix_spawn(pid_out, program, &actions, &attributes, argv, env);
        }
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return rc;
}

static int start(const struct check_child *child, struct running *r, struct pgqrs_error *err)
{
    const char *name = child->role == PGQRS_ROLE_BROKER ? "libexec/pgqrs/pgqrs-broker"
                                                        : "libexec/pgqrs/pgqrs-worker";
    char program[PATH_MAX];
    int pair[2] = {-1, -1};
    if (pgqrs_path_installed(name, program, sizeof program, err) < 0) {
        return -1;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "socketpair");
    }
    int input = open_welcome(&child->welcome);
    int lifeline = open_above(pair[1]);
    char **env = make_environment(child->isolation);
    int rc = input < 0 || lifeline < 0 ? errno : env == NULL ? ENOMEM : 0;
    rc = rc == 0 ? spawn(program, input, lifeline, env, &r->pid) : rc;
    free_environment(env);
    if (input >= 0) {
        (void)close(input);
    }
    if (lifeline >= 0) {
        (void)close(lifeline);
    }
    r->lifeline = pair[0];
    return rc == 0 ? 0 : pgqrs_error_sys(err, PGQRS_ERR_FAILED, rc, "can not run %s", program);
}

/* ---- listening ---- */

static void take(struct check *c, const struct check_child *child, struct running *r,
                 const char *text)
{
    bool marked = strchr("ewi+", *text) != NULL;
    enum pgqrs_check_mark mark = marked ? (enum pgqrs_check_mark) * text : PGQRS_CHECK_ERROR;
    if (mark == PGQRS_CHECK_DONE) {
        r->done = true;
    } else if (child->role == PGQRS_ROLE_BROKER) {
        pgqrs_check_found(c, mark, "%s", text + 1);
    } else {
        pgqrs_check_found(c, mark, "%s: %s", child->what, text + (marked ? 1 : 0));
    }
}

/* Takes what there is; -1 when no more will come. */
static int hear(struct check *c, const struct check_child *child, struct running *r)
{
    char text[PGQRS_CHECK_TEXT_MAX];
    ssize_t n;
    while ((n = recv(r->lifeline, text, sizeof text - 1, MSG_DONTWAIT)) > 0) {
        text[n] = 0;
        take(c, child, r, text);
    }
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

/* True: it has ended. Who it has started may hold its end of the lifeline for longer. */
static bool await_end(struct check *c, const struct check_child *child, struct running *r)
{
    int64_t deadline_ms = pgqrs_mono_ms() + c->config->start_timeout_ms;
    bool open = true;
    for (;;) {
        struct pollfd fd = {.fd = open ? r->lifeline : -1, .events = POLLIN};
        (void)poll(&fd, 1, LOOK_MS); /* any reason will do */
        open = open && hear(c, child, r) == 0;
        if (waitpid(r->pid, &r->status, WNOHANG) == r->pid) {
            (void)hear(c, child, r);
            return true;
        }
        if (pgqrs_mono_ms() > deadline_ms) {
            return false;
        }
    }
}

static void tell_end(struct check *c, const struct check_child *child, const struct running *r)
{
    const char *where =
        child->role == PGQRS_ROLE_WORKER ? " in the plugin's constructor, init or fini" : "";
    if (WIFSIGNALED(r->status)) {
        int signal = WTERMSIG(r->status);
        pgqrs_check_found(c, PGQRS_CHECK_ERROR, "%s: killed by signal %d (%s)%s", child->what,
                          signal, strsignal(signal), where);
    } else if (WEXITSTATUS(r->status) != 0 || !r->done) {
        pgqrs_check_found(c, PGQRS_CHECK_ERROR, "%s: ended with status %d%s", child->what,
                          WEXITSTATUS(r->status), where);
    }
}

void pgqrs_check_child(struct check *c, struct check_child *child)
{
    struct running r = {.lifeline = -1};
    struct pgqrs_error err;
    if (start(child, &r, &err) < 0) {
        pgqrs_check_found(c, PGQRS_CHECK_ERROR, "%s: %s", child->what, err.text);
    } else if (await_end(c, child, &r)) {
        (void)kill(-r.pid, SIGKILL); /* whom it has left behind */
        tell_end(c, child, &r);
    } else {
        char limit[32];
        (void)kill(-r.pid, SIGKILL);
        (void)waitpid(r.pid, NULL, 0);
        pgqrs_duration_format(c->config->start_timeout_ms, limit, sizeof limit);
        pgqrs_check_found(c, PGQRS_CHECK_ERROR, "%s: %s within %s (start_timeout)", child->what,
                          child->role == PGQRS_ROLE_WORKER ? "the plugin was not ready"
                                                           : "the database did not answer",
                          limit);
    }
    if (r.lifeline >= 0) {
        (void)close(r.lifeline);
    }
    pgqrs_buf_fini(&child->welcome);
}
