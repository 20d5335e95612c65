/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/units.h"
#include "ipc/spawn_contract.h"

#define READ_AT_ONCE 65536

/* The supervisor may have died before the prctl. */
static int bind_to_supervisor(struct pgqrs_error *err)
{
    int64_t supervisor = 0;
    const char *text = getenv(PGQRS_ENV_SUPERVISOR);
    if (text == NULL || pgqrs_integer_parse(text, 1, INT32_MAX, &supervisor, NULL) < 0) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "this program is started by pgqrsd, not by hand; see pgqrsd(8)");
    }
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "prctl PR_SET_PDEATHSIG");
    }
    (void)fcntl(PGQRS_FD_LIFELINE, F_SETFD, FD_CLOEXEC); /* it is open: the contract says so */
    return getppid() == 0 || getppid() == supervisor
               ? 0
               : pgqrs_error_set(err, PGQRS_ERR_FAILED, "pgqrsd has ended");
}

static int read_all(struct pgqrs_buf *data, struct pgqrs_error *err)
{
    for (;;) {
        uint8_t *to = pgqrs_buf_reserve(data, READ_AT_ONCE);
        if (to == NULL) {
            return pgqrs_error_memory(err);
        }
        ssize_t n = read(STDIN_FILENO, to, READ_AT_ONCE);
        if (n < 0) {
            return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "standard input");
        }
        if (n == 0) {
            return 0;
        }
        data->len += (size_t)n;
    }
}

int pgqrs_check_begin(enum pgqrs_role role, struct pgqrs_buf *data, struct pgqrs_frame *frame_out,
                      struct pgqrs_error *err)
{
    enum pgqrs_msg_type wanted =
        role == PGQRS_ROLE_BROKER ? PGQRS_MSG_BROKER_WELCOME : PGQRS_MSG_WORKER_WELCOME;
    size_t used = 0;
    if (bind_to_supervisor(err) < 0 || read_all(data, err) < 0) {
        return -1;
    }
    int got =
        pgqrs_msg_parse(data->data, data->len, PGQRS_ROLE_SUPERVISOR, role, frame_out, &used, err);
    if (got < 0) {
        return -1;
    }
    return got == 1 && used == data->len && frame_out->type == wanted
               ? 0
               : pgqrs_error_set(err, PGQRS_ERR_PROTOCOL,
                                 "standard input: found no message %s, expected one",
                                 pgqrs_msg_descs[wanted].name);
}

void pgqrs_check_say(enum pgqrs_check_mark mark, const char *fmt, ...)
{
    char text[PGQRS_CHECK_TEXT_MAX];
    va_list args;
    text[0] = (char)mark;
    va_start(args, fmt);
    (void)vsnprintf(text + 1, sizeof text - 1, fmt, args);
    va_end(args);
    /* Who does not hear it misses the last one, too. */
    (void)!send(PGQRS_FD_LIFELINE, text, strlen(text), MSG_NOSIGNAL);
}
