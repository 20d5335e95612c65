/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Part of exec.c: the keeper. Between the worker and the command stands a process that leads the
 * command's process group and inherits its orphans. It waits for the command's end and for the
 * worker's, then kills all that is below it. The worker and the keeper each hold one end of a
 * socket; nobody else does, so the end of the worker, however it comes, is an end of file here.
 */
#ifndef PGQRS_EXEC_KEEPER_H
#define PGQRS_EXEC_KEEPER_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define TAIL_SIZE 1024 /* of standard error */
#define OLD_KERNEL_FDS 65536
#define KEEPER_FD 3 /* of the keeper: its end of the socket */

enum report_kind {
    REPORT_NOT_EXECUTED = 1, /* value: errno */
    REPORT_ENDED = 2,        /* value: wait status */
};

struct report { /* from the keeper */
    int kind, value;
};

struct child {
    pid_t keeper;     /* also the process group */
    int in, out, err; /* our ends of the command's standard streams; -1 closed */
    int socket;       /* to the keeper; -1 closed */
    int exec_errno;   /* 0: it was executed */
    int status;       /* wait status */
    bool ended;       /* status is set */
    bool cancelled;   /* SIGTERM was sent */
    bool killed;      /* the keeper was told to */
    int64_t deadline; /* monotonic ms; 0 none */
    size_t sent;      /* bytes of the payload */
    char *output;     /* the state's */
    size_t output_len;
    char tail[2 * TAIL_SIZE]; /* of standard error */
    size_t tail_len;
};

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

/* ---- the keeper and the command: after fork, so only async-signal-safe calls ---- */

static void on_child_signal(int signal)
{
    (void)signal; /* it only has to interrupt ppoll */
}

static void tell(enum report_kind kind, int value)
{
    const struct report report = {.kind = kind, .value = value};
    (void)send(KEEPER_FD, &report, sizeof report, MSG_NOSIGNAL); /* the worker may be dead */
}

static void close_others(void)
{
    struct rlimit limit = {0};
    if (close_range(KEEPER_FD + 1, ~0u, 0) == 0) {
        return;
    }
    (void)getrlimit(RLIMIT_NOFILE, &limit); /* before Linux 5.9, and under some tools */
    for (rlim_t fd = KEEPER_FD + 1; fd < limit.rlim_cur && fd < OLD_KERNEL_FDS; fd++) {
        (void)close((int)fd);
    }
}

_Noreturn static void be_command(const char *path, char *const argv[], char *const env[],
                                 const sigset_t *mask)
{
    for (int number = 1; number < NSIG; number++) {
        (void)signal(number, SIG_DFL); /* fails for some, which are not ours to set */
    }
    (void)sigprocmask(SIG_SETMASK, mask, NULL);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* should somebody kill the keeper */
    (void)execve(path, argv, env);
    tell(REPORT_NOT_EXECUTED, errno);
    _exit(EX_UNAVAILABLE);
}

/* Of the command, which is reported, or of the worker. */
static void wait_for_an_end(pid_t command, const sigset_t *waiting)
{
    for (;;) {
        int status;
        pid_t pid;
        struct pollfd worker = {.fd = KEEPER_FD, .events = POLLIN};
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
            if (pid == command) {
                tell(REPORT_ENDED, status);
                return;
            }
        }
        if (ppoll(&worker, 1, NULL, waiting) > 0) {
            return; /* the worker is dead, or does not want to wait any longer */
        }
    }
}

/* Until there are none: whoever loses its parent becomes our child, whatever group it is in. */
static void kill_children(void)
{
    char list[4096];
    for (;;) {
        int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, list, sizeof list - 1);
        (void)close(fd);
        if (n <= 0) {
            return;
        }
        list[n] = 0;
        pid_t pid = 0;
        for (const char *at = list; *at != 0; at++) { /* a number that is cut off is left out */
            if (*at == ' ') {
                (void)kill(pid, SIGKILL);
                pid = 0;
            } else {
                pid = pid * 10 + (*at - '0');
            }
        }
        (void)waitpid(-1, NULL, 0);
    }
}

_Noreturn static void be_keeper(const char *path, char *const argv[], char *const env[],
                                const sigset_t *mask)
{
    sigset_t waiting;
    (void)prctl(PR_SET_NAME, "pgqrs-keeper");
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    (void)sigfillset(&waiting);
    (void)sigdelset(&waiting, SIGCHLD);
    (void)signal(SIGCHLD, on_child_signal);
    pid_t command = fork();
    if (command == 0) {
        be_command(path, argv, env, mask);
    }
    if (command < 0) {
        tell(REPORT_NOT_EXECUTED, errno);
        _exit(EX_OSERR);
    }
    for (int fd = 0; fd < KEEPER_FD; fd++) {
        (void)close(fd); /* or the worker would never see the end of the output */
    }
    wait_for_an_end(command, &waiting);
    kill_children();
    (void)kill(0, SIGKILL); /* should there be no /proc */
    _exit(EX_OSERR);        /* not reached */
}

/* ---- start ---- */

/* The first executable file of this name in PATH; the name itself when there is none, so that
 * execve gives the reason. False when out of memory. */
static inline bool find_program(const char *name, char *const env[], char **path_out)
{
    const char *path = "/usr/local/bin:/usr/bin:/bin";
    for (size_t i = 0; env[i] != NULL; i++) {
        if (strncmp(env[i], "PATH=", 5) == 0) {
            path = env[i] + 5;
            break;
        }
    }
    while (strchr(name, '/') == NULL && *path != 0) {
        int len = (int)strcspn(path, ":");
        if (asprintf(path_out, "%.*s/%s", len == 0 ? 1 : len, len == 0 ? "." : path, name) < 0) {
            return false;
        }
        if (access(*path_out, X_OK) == 0) {
            return true;
        }
        free(*path_out);
        path += len + (path[len] == ':');
    }
    *path_out = strdup(name);
    return *path_out != NULL;
}

static void fork_keeper(struct child *c, const int theirs[KEEPER_FD + 1], const char *path,
                        char *const argv[], char *const env[])
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    c->keeper = fork();
    if (c->keeper == 0) {
        (void)setpgid(0, 0);
        /* The worker has 0 to 3 open, so what is copied from is never copied over too early. */
        for (int fd = 0; fd <= KEEPER_FD; fd++) {
            if (theirs[fd] != fd && dup2(theirs[fd], fd) < 0) {
                _exit(EX_OSERR);
            }
        }
        (void)fcntl(KEEPER_FD, F_SETFD, FD_CLOEXEC);
        close_others();
        be_keeper(path, argv, env, &before);
    }
    int code = errno;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = code;
    if (c->keeper > 0) {
        (void)setpgid(c->keeper, c->keeper); /* whoever comes first */
    }
}

/* False: errno says why. */
static inline bool start(struct child *c, const char *path, char *const argv[], char *const env[])
{
    int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1}, pair[2] = {-1, -1};
    c->keeper = -1;
    if (pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0 &&
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0 &&
        fcntl(in[1], F_SETFL, O_NONBLOCK) == 0 && fcntl(out[0], F_SETFL, O_NONBLOCK) == 0 &&
        fcntl(err[0], F_SETFL, O_NONBLOCK) == 0) {
        const int theirs[] = {in[0], out[1], err[1], pair[1]};
        fork_keeper(c, theirs, path, argv, env);
    }
    int code = errno;
    close_fd(&in[0]);
    close_fd(&out[1]);
    close_fd(&err[1]);
    close_fd(&pair[1]);
    c->in = in[1];
    c->out = out[0];
    c->err = err[0];
    c->socket = pair[0];
    errno = code;
    return c->keeper > 0;
}

#endif
