/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_MSG_WATCH_H
#define PGQRS_IPC_MSG_WATCH_H

/*
 * How a client that waits for messages is woken; a part of ipc/msg.h. The broker counts the times
 * at which there may have come some. On a connection of its own a client sends a watch with the
 * number that it knows, 0 at first, and gets one wake when the broker's is another.
 */

#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

struct pgqrs_frame;

void pgqrs_encode_client_watch(struct pgqrs_buf *out, uint64_t known);
int pgqrs_decode_client_watch(const struct pgqrs_frame *f, uint64_t *known_out,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_encode_client_wake(struct pgqrs_buf *out, uint64_t number);
int pgqrs_decode_client_wake(const struct pgqrs_frame *f, uint64_t *number_out,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
