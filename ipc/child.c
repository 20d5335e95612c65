/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"

static void start_log(const char *program)
{
    char text[32];
    const char *setting = getenv(PGQRS_ENV_LOG);
    enum pgqrs_log_format format = PGQRS_LOG_TEXT;
    enum pgqrs_log_level level = PGQRS_LOG_INFO;
    if (setting != NULL && snprintf(text, sizeof text, "%s", setting) < (int)sizeof text) {
        char *space = strchr(text, ' ');
        if (space != NULL) {
            *space = 0;
            format = pgqrs_log_format_from(text) ? pgqrs_log_format_from(text) : format;
            level = pgqrs_log_level_from(space + 1) ? pgqrs_log_level_from(space + 1) : level;
        }
    }
    pgqrs_log_init(program, format, level);
}

static int read_environment(struct pgqrs_child *child, int64_t *supervisor_out,
                            const char **url_out, struct pgqrs_error *err)
{
    const char *generation = getenv(PGQRS_ENV_GENERATION);
    const char *supervisor = getenv(PGQRS_ENV_SUPERVISOR);
    const char *url = getenv(PGQRS_ENV_CONTROL);
    int64_t number;
    if (generation == NULL || supervisor == NULL || url == NULL ||
        pgqrs_integer_parse(generation, 1, INT64_MAX, &number, err) < 0 ||
        pgqrs_integer_parse(supervisor, 0, INT32_MAX, supervisor_out, err) < 0) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "this program is started by pgqrsd, not by hand; see pgqrsd(8)");
    }
    child->generation = (uint64_t)number;
    *url_out = url;
    return 0;
}

static int send_hello(struct pgqrs_child *child, struct pgqrs_error *err)
{
    struct pgqrs_buf out = {0};
    pgqrs_encode_child_hello(&out, &(struct pgqrs_child_hello){
                                       .major = PGQRS_IPC_MAJOR,
                                       .minor = PGQRS_IPC_MINOR,
                                       .version = PGQRS_VERSION,
                                       .pid = (uint32_t)getpid(),
                                       .generation = child->generation,
                                       .role = child->role,
                                   });
    int rc = pgqrs_control_send(child->control, &out, err);
    pgqrs_buf_fini(&out);
    return rc;
}

static int await_welcome(struct pgqrs_child *child, struct pgqrs_frame *welcome_out,
                         struct pgqrs_error *err)
{
    int64_t deadline = pgqrs_mono_ms() + PGQRS_HELLO_TIMEOUT_MS;
    for (;;) {
        int got = pgqrs_control_recv(child->control, PGQRS_ROLE_SUPERVISOR, child->role,
                                     welcome_out, err);
        if (got != 0) {
            return got < 0 ? -1 : 0;
        }
        int64_t left = deadline - pgqrs_mono_ms();
        if (left <= 0) {
            return pgqrs_error_set(err, PGQRS_ERR_FAILED, "no welcome from pgqrsd within %d ms",
                                   PGQRS_HELLO_TIMEOUT_MS);
        }
        struct pollfd fds[] = {{.fd = pgqrs_control_fd(child->control), .events = POLLIN},
                               {.fd = child->lifeline, .events = POLLIN}};
        if (poll(fds, 2, (int)left) < 0 && errno != EINTR) {
            return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "poll");
        }
        if (fds[1].revents != 0) {
            return pgqrs_error_set(err, PGQRS_ERR_FAILED, "pgqrsd has ended");
        }
    }
}

static int accept_welcome(const struct pgqrs_child *child, const struct pgqrs_frame *frame,
                          struct pgqrs_error *err)
{
    enum pgqrs_msg_type wanted = child->role == PGQRS_ROLE_BROKER    ? PGQRS_MSG_BROKER_WELCOME
                                 : child->role == PGQRS_ROLE_GATEWAY ? PGQRS_MSG_GATEWAY_WELCOME
                                                                     : PGQRS_MSG_WORKER_WELCOME;
    const char *why;
    if (frame->type == wanted) {
        return 0;
    }
    if (frame->type == PGQRS_MSG_REFUSE && pgqrs_decode_refuse(frame, &why, err) == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "refused by pgqrsd: %s", why);
    }
    return pgqrs_error_set(err, PGQRS_ERR_PROTOCOL, "found message %s, expected %s",
                           pgqrs_msg_descs[frame->type].name, pgqrs_msg_descs[wanted].name);
}

int pgqrs_child_start(const char *program, enum pgqrs_role role, struct pgqrs_child *child,
                      struct pgqrs_frame *welcome_out, struct pgqrs_error *err)
{
    *child = (struct pgqrs_child){.role = role, .lifeline = -1};
    start_log(program);
    int64_t supervisor = 0;
    const char *url = NULL;
    if (read_environment(child, &supervisor, &url, err) < 0) {
        return -1;
    }
    child->lifeline = PGQRS_FD_LIFELINE;
    /* What this process starts itself must not keep it open. */
    (void)fcntl(child->lifeline, F_SETFD, FD_CLOEXEC); /* it is open: the contract says so */
    /* The order matters: a supervisor that dies after the prctl kills us, one that died before it
     * is no longer our parent. A parent outside our PID namespace is 0. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "prctl PR_SET_PDEATHSIG");
    }
    if (getppid() != 0 && getppid() != supervisor) {
        return pgqrs_error_set(err, PGQRS_ERR_FAILED, "pgqrsd has ended");
    }
    if (pgqrs_control_dial(url, &child->control, err) < 0 || send_hello(child, err) < 0 ||
        await_welcome(child, welcome_out, err) < 0) {
        return -1;
    }
    return accept_welcome(child, welcome_out, err);
}

void pgqrs_child_last_words(const struct pgqrs_child *child, const char *text)
{
    size_t len = strnlen(text, PGQRS_LAST_WORDS_MAX);
    if (child->lifeline < 0 ||
        send(child->lifeline, text, len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)len) {
        pgqrs_log_error("%s", text);
    }
}

static void send_or_log(struct pgqrs_child *child, const struct pgqrs_buf *frame)
{
    struct pgqrs_error err;
    if (pgqrs_control_send(child->control, frame, &err) < 0) {
        pgqrs_log_warn("%s", err.text);
    }
}

void pgqrs_child_send_empty(struct pgqrs_child *child, enum pgqrs_msg_type type)
{
    struct pgqrs_buf out = {0};
    pgqrs_encode_empty(&out, type);
    send_or_log(child, &out);
    pgqrs_buf_fini(&out);
}

void pgqrs_child_send_beat(struct pgqrs_child *child, const struct pgqrs_child_beat *beat)
{
    struct pgqrs_buf out = {0};
    pgqrs_encode_child_beat(&out, beat);
    send_or_log(child, &out);
    pgqrs_buf_fini(&out);
}

int pgqrs_child_on_log_level(const struct pgqrs_frame *frame, struct pgqrs_error *err)
{
    uint8_t level;
    if (pgqrs_decode_log_level(frame, &level, err) < 0) {
        return -1;
    }
    pgqrs_log_set_level((enum pgqrs_log_level)level);
    return 0;
}

void pgqrs_child_end(struct pgqrs_child *child)
{
    pgqrs_control_close(&child->control);
    pgqrs_control_end();
}
