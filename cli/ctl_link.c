/* SPDX-License-Identifier: Apache-2.0 */
/* Asks a running pgqrsd; see supervisor/ctl.h for what is said. */
#include "cli/ctl_link.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/paths.h"
#include "config/config.h"

#define PATIENCE_S 10

static int dial(const char *path, struct pgqrs_error *err)
{
    static const struct timeval patience = {.tv_sec = PATIENCE_S};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    if (strlen(path) >= sizeof address.sun_path) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "found a socket path of %zu bytes, expected at most %zu: %s",
                               strlen(path), sizeof address.sun_path - 1, path);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) { /* for connect, too: who does not accept lets it wait */
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    }
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int why = errno;
        (void)pgqrs_error_sys(err, PGQRS_ERR_UNAVAILABLE, why, "no pgqrsd at %s", path);
        if (err != NULL && (why == ENOENT || why == ECONNREFUSED)) {
            (void)snprintf(err->text, sizeof err->text,
                           "no pgqrsd at %s: none runs, or it has another configuration or user",
                           path);
        }
        if (fd >= 0) {
            (void)close(fd);
        }
        return -1;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
        (peer.uid != geteuid() && peer.uid != 0 && geteuid() != 0)) {
        (void)close(fd);
        return pgqrs_error_set(err, PGQRS_ERR_UNAVAILABLE,
                               "%s: found a socket of uid %u, expected one of uid %u", path,
                               (unsigned)peer.uid, (unsigned)geteuid());
    }
    return fd;
}

/* Where a pgqrsd of that name may be: as it would choose itself, then where a service of the system
 * or a program without a session has put it. */
static int find_and_dial(const struct pgqrs_cli *cli, struct pgqrs_error *err)
{
    char *name = NULL;
    char *configured = NULL;
    char bases[3][80] = {"", "/run/pgqrs", ""};
    char path[192];
    if (pgqrs_config_find_runtime(pgqrs_cli_config(cli), &name, &configured, err) < 0) {
        return -1;
    }
    int fd = pgqrs_path_runtime(configured, bases[0], sizeof bases[0], err);
    size_t count = configured != NULL ? 1 : 3;
    (void)snprintf(bases[2], sizeof bases[2], "/tmp/pgqrs-%u", (unsigned)geteuid());
    if (fd == 0) {
        size_t at = 0;
        for (size_t i = 0; i < count; i++) {
            (void)snprintf(path, sizeof path, "%s/%s.ctl", bases[i], name);
            if (access(path, F_OK) == 0) {
                at = i;
                break;
            }
        }
        (void)snprintf(path, sizeof path, "%s/%s.ctl", bases[at], name);
        fd = dial(path, err);
    }
    free(name);
    free(configured);
    return fd;
}

/* Our standard output and error go with the first bytes. Returns how many of them were sent. */
static ssize_t send_with_output(int fd, const char *line, size_t len)
{
    const int fds[] = {STDOUT_FILENO, STDERR_FILENO};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof fds)];
    } control = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)line, .iov_len = len};
    const struct msghdr message = {.msg_iov = &part,
                                   .msg_iovlen = 1,
                                   .msg_control = control.space,
                                   .msg_controllen = sizeof control.space};
    control.header = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof fds), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), fds, sizeof fds);
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

/* ---- a run, which a signal cancels ---- */

static volatile sig_atomic_t run_fd = -1;

static void on_signal(int signal)
{
    (void)signal;
    int saved_errno = errno;
    (void)shutdown(run_fd, SHUT_WR);
    errno = saved_errno;
}

/* The first one asks to end, and the answer still comes; the second one ends us. */
static void cancel_on_signals(int fd)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)(SA_RESETHAND)};
    (void)sigemptyset(&action.sa_mask);
    run_fd = fd;
    (void)sigaction(SIGINT, &action, NULL); /* these can not fail: the numbers are right */
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
}

/* ---- talking ---- */

enum talk { /* how long an answer may take */
            TALK_ASK,
            TALK_RUN, /* as long as it likes; a signal cancels it */
            TALK_END, /* as long as pgqrsd lives */
};

static void wait_for_ever(int fd)
{
    static const struct timeval none = {0};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
}

static int talk(int fd, const char *line, enum talk how, struct pgqrs_buf *in,
                struct pgqrs_error *err)
{
    size_t sent = 0;
    size_t len = strlen(line);
    if (how != TALK_ASK) {
        wait_for_ever(fd);
    }
    if (how == TALK_RUN) {
        cancel_on_signals(fd);
        ssize_t n = send_with_output(fd, line, len);
        if (n < 0) {
            return pgqrs_error_sys(err, PGQRS_ERR_UNAVAILABLE, errno, "pgqrsd does not listen");
        }
        sent = (size_t)n;
    }
    while (sent < len) {
        ssize_t n = send(fd, line + sent, len - sent, MSG_NOSIGNAL);
        if (n < 0) {
            return pgqrs_error_sys(err, PGQRS_ERR_UNAVAILABLE, errno, "pgqrsd does not listen");
        }
        sent += (size_t)n;
    }
    for (;;) {
        uint8_t *to = pgqrs_buf_reserve(in, 65536);
        if (to == NULL) {
            return pgqrs_error_memory(err);
        }
        ssize_t n = recv(fd, to, 65536, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return pgqrs_error_sys(err, PGQRS_ERR_UNAVAILABLE, errno, "pgqrsd does not answer");
        }
        if (n == 0) {
            return 0;
        }
        in->len += (size_t)n;
    }
}

static int parse(const struct pgqrs_buf *in, json_t **reply_out, struct pgqrs_error *err)
{
    json_t *reply = json_loadb((const char *)in->data, in->len, 0, NULL);
    if (json_is_true(json_object_get(reply, "ok"))) {
        *reply_out = reply;
        return 0;
    }
    const char *why = json_string_value(json_object_get(reply, "error"));
    (void)pgqrs_error_set(err, PGQRS_ERR_FAILED, "pgqrsd: %.900s",
                          why != NULL ? why : "found no answer, expected one line of JSON");
    json_decref(reply);
    return -1;
}

/* A descriptor that is readable once the process that listens has gone; -1: it can not be seen. */
static int watch_peer(int fd)
{
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid > 0
               ? pidfd_open(peer.pid, 0)
               : -1;
}

/* It has said that it ends: it does so at once. */
static void await_gone(int peer_fd)
{
    struct pollfd p = {.fd = peer_fd, .events = POLLIN};
    (void)poll(&p, 1, PATIENCE_S * 1000);
}

static int ask(const struct pgqrs_cli *cli, json_t *request, enum talk how, json_t **reply_out,
               struct pgqrs_error *err)
{
    const char *socket_path = cli->options[PGQRS_OPT_SOCKET];
    char *line = json_dumps(request, JSON_COMPACT);
    struct pgqrs_buf in = {0};
    char *text = NULL;
    int fd = -1;
    int peer_fd = -1;
    int rc = -1;
    json_decref(request);
    if (line == NULL || asprintf(&text, "%s\n", line) < 0) {
        text = NULL;
        (void)pgqrs_error_memory(err);
    } else {
        fd = socket_path != NULL ? dial(socket_path, err) : find_and_dial(cli, err);
        peer_fd = fd < 0 || how != TALK_END ? -1 : watch_peer(fd);
        rc = fd < 0 ? -1 : talk(fd, text, how, &in, err);
    }
    if (rc == 0 && how == TALK_END && in.len == 0) {
        rc = pgqrs_error_set(err, PGQRS_ERR_FAILED, "pgqrsd has gone without a word");
    } else if (rc == 0) {
        rc = parse(&in, reply_out, err);
    }
    if (peer_fd >= 0) {
        await_gone(peer_fd);
        (void)close(peer_fd);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    pgqrs_buf_fini(&in);
    free(line);
    free(text);
    return rc;
}

int pgqrs_ctl_ask(const struct pgqrs_cli *cli, json_t *request, json_t **reply_out)
{
    struct pgqrs_error err;
    return ask(cli, request, TALK_ASK, reply_out, &err) < 0 ? pgqrs_cli_fail(&err) : PGQRS_CLI_OK;
}

int pgqrs_ctl_try(const struct pgqrs_cli *cli, json_t *request, json_t **reply_out,
                  struct pgqrs_error *err)
{
    return ask(cli, request, TALK_ASK, reply_out, err);
}

int pgqrs_ctl_print(const json_t *reply)
{
    char *whole = json_dumps(reply, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    if (whole == NULL) {
        pgqrs_cli_error("out of memory");
        return PGQRS_CLI_FAILURE;
    }
    (void)puts(whole);
    free(whole);
    return PGQRS_CLI_OK;
}

int pgqrs_ctl_run(const struct pgqrs_cli *cli, json_t *request, json_t **reply_out)
{
    struct pgqrs_error err;
    return ask(cli, request, TALK_RUN, reply_out, &err) < 0 ? pgqrs_cli_fail(&err) : PGQRS_CLI_OK;
}

int pgqrs_ctl_end(const struct pgqrs_cli *cli, json_t *request, json_t **reply_out)
{
    struct pgqrs_error err;
    return ask(cli, request, TALK_END, reply_out, &err) < 0 ? pgqrs_cli_fail(&err) : PGQRS_CLI_OK;
}
