/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_CHECK_H
#define PGQRS_IPC_CHECK_H

/*
 * The child's side of `pgqrsd --check`. A child that has this word as its argument serves nobody:
 * it finds its welcome, as one frame, on standard input, looks, tells what it finds over the
 * lifeline, and ends. Its standard output is the supervisor's standard error.
 *
 * On the lifeline a message is a mark and a text. A child that has looked at everything says
 * PGQRS_CHECK_DONE last: one that ends without it has not.
 */

#include "base/bytes.h"
#include "ipc/msg.h"

#define PGQRS_CHECK_WORD "--check"
#define PGQRS_CHECK_TEXT_MAX 1200

enum pgqrs_check_mark {
    PGQRS_CHECK_ERROR = 'e',   /* pgqrsd would not start, or not serve a queue */
    PGQRS_CHECK_WARNING = 'w', /* it would, but not well */
    PGQRS_CHECK_INFO = 'i',    /* nothing is wrong */
    PGQRS_CHECK_DONE = '+',
};

/* First thing in main: this process ends with the supervisor. Reads the welcome of the role; data
 * owns what the frame borrows from. */
int pgqrs_check_begin(enum pgqrs_role role, struct pgqrs_buf *data, struct pgqrs_frame *frame_out,
                      struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_check_say(enum pgqrs_check_mark mark, const char *fmt, ...) PGQRS_PRINTF(2, 3);

#endif
