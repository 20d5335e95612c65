/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/msg_codec.h"

void pgqrs_encode_gateway_welcome(struct pgqrs_buf *out, const struct pgqrs_gateway_welcome *m)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_GATEWAY_WELCOME);
    pgqrs_buf_put_bytes(out, pgqrs_bytes_from(m->job_socket));
    pgqrs_buf_put_bytes(out, pgqrs_bytes_from(m->ctl_socket));
    pgqrs_buf_put_u64(out, (uint64_t)m->heartbeat_ms);
    pgqrs_buf_put_u64(out, (uint64_t)m->heartbeat_timeout_ms);
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_gateway_welcome(const struct pgqrs_frame *f, struct pgqrs_gateway_welcome *m,
                                 struct pgqrs_error *err)
{
    struct pgqrs_reader r = pgqrs_reader_of(f->body, f->len);
    m->job_socket = pgqrs_read_text(&r, PGQRS_PATH_TEXT_MAX);
    m->ctl_socket = pgqrs_read_text(&r, PGQRS_PATH_TEXT_MAX);
    m->heartbeat_ms = read_natural(&r);
    m->heartbeat_timeout_ms = read_natural(&r);
    return close_body(&r, f, err);
}
