/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_CHILD_H
#define PGQRS_IPC_CHILD_H

/*
 * The child's side of ipc/spawn_contract.h: from exec to the supervisor's welcome.
 */

#include "ipc/control.h"
#include "ipc/spawn_contract.h"

struct pgqrs_child {
    enum pgqrs_role role;
    uint64_t generation;
    struct pgqrs_control *control;
    int lifeline; /* readable (end of file) when the supervisor is gone: end at once */
};

/*
 * Sets up the log, makes the kernel kill this process when the supervisor dies, dials the
 * supervisor, says hello and waits for the answer: a welcome of the role, or a refusal, which is
 * an error. The frame is valid until the next receive. program is the log's name.
 * Call it first thing in main, on the main thread.
 */
int pgqrs_child_start(const char *program, enum pgqrs_role role, struct pgqrs_child *child,
                      struct pgqrs_frame *welcome_out, struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* Tells the supervisor why this process is about to end with a status that is not 0; it logs the
 * text. Without a supervisor the text goes to standard error. */
void pgqrs_child_last_words(const struct pgqrs_child *child, const char *text);

/* Sends a message without a body (PGQRS_MSG_CHILD_READY), or a beat. A failure is logged. */
void pgqrs_child_send_empty(struct pgqrs_child *child, enum pgqrs_msg_type type);
void pgqrs_child_send_beat(struct pgqrs_child *child, const struct pgqrs_child_beat *beat);

/* A message PGQRS_MSG_LOG_LEVEL: done. */
int pgqrs_child_on_log_level(const struct pgqrs_frame *frame,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;

void pgqrs_child_end(struct pgqrs_child *child); /* closes the channel and ends NNG */

#endif
