/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_CONTROL_H
#define PGQRS_IPC_CONTROL_H

/*
 * One control channel: an NNG pair between the supervisor and one child. Nothing here blocks for
 * long: sending and receiving return at once, and a descriptor tells when there is something to
 * receive, for libevent or poll(). NNG's own threads never run our code, except for the check that
 * the peer has our uid.
 *
 * A channel belongs to one thread.
 */

#include <sys/types.h>

#include "base/error.h"
#include "ipc/msg.h"

struct pgqrs_control;

/* url: ipc:// and an absolute path in a directory of mode 0700. */
int pgqrs_control_listen(const char *url, struct pgqrs_control **control_out,
                         struct pgqrs_error *err) PGQRS_MUST_CHECK;
int pgqrs_control_dial(const char *url, struct pgqrs_control **control_out,
                       struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Accepts null; nulls the pointer. Returns at once: a thread of its own waits for NNG. */
void pgqrs_control_close(struct pgqrs_control **control);
/* How many are still to be closed. Many, and more and more: NNG does not finish with one. */
size_t pgqrs_control_unclosed(void);
/* Ends NNG's threads; once, at the end of main, when every channel was closed. A channel that NNG
 * does not finish with is waited for a second, and NNG is left as it is. */
void pgqrs_control_end(void);

/* Readable while there is something to receive. Never read from it, never close it. */
int pgqrs_control_fd(const struct pgqrs_control *control);

/* Sends the one frame in the buffer. PGQRS_ERR_AGAIN when the peer is not there or does not read;
 * the frame is dropped then. */
int pgqrs_control_send(struct pgqrs_control *control, const struct pgqrs_buf *frame,
                       struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* 1: *frame_out is set and valid until the next call. 0: nothing there. -1: the peer sent nonsense
 * (PGQRS_ERR_PROTOCOL), or the channel is broken. */
int pgqrs_control_recv(struct pgqrs_control *control, enum pgqrs_role from, enum pgqrs_role to,
                       struct pgqrs_frame *frame_out, struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* Who sent the last message that was received, as the kernel tells; 0 unknown. */
pid_t pgqrs_control_peer_pid(const struct pgqrs_control *control);

#endif
