/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_MSG_GATEWAY_H
#define PGQRS_IPC_MSG_GATEWAY_H

/* What the gateway is told; a part of ipc/msg.h. */

#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

struct pgqrs_frame;

struct pgqrs_gateway_welcome {
    const char *job_socket, *ctl_socket; /* paths: of the broker, and of the supervisor */
    int64_t heartbeat_ms, heartbeat_timeout_ms;
};
void pgqrs_encode_gateway_welcome(struct pgqrs_buf *out, const struct pgqrs_gateway_welcome *m);
int pgqrs_decode_gateway_welcome(const struct pgqrs_frame *f, struct pgqrs_gateway_welcome *m,
                                 struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
