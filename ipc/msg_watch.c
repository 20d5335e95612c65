/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/msg_codec.h"

static void encode(struct pgqrs_buf *out, enum pgqrs_msg_type type, uint64_t number)
{
    size_t start = pgqrs_msg_begin(out, type);
    pgqrs_buf_put_u64(out, number);
    pgqrs_msg_end(out, start);
}

static int decode(const struct pgqrs_frame *f, uint64_t *number_out, struct pgqrs_error *err)
{
    struct pgqrs_reader r = pgqrs_reader_of(f->body, f->len);
    *number_out = pgqrs_read_u64(&r);
    return close_body(&r, f, err);
}

void pgqrs_encode_client_watch(struct pgqrs_buf *out, uint64_t known)
{
    encode(out, PGQRS_MSG_CLIENT_WATCH, known);
}

int pgqrs_decode_client_watch(const struct pgqrs_frame *f, uint64_t *known_out,
                              struct pgqrs_error *err)
{
    return decode(f, known_out, err);
}

void pgqrs_encode_client_wake(struct pgqrs_buf *out, uint64_t number)
{
    encode(out, PGQRS_MSG_CLIENT_WAKE, number);
}

int pgqrs_decode_client_wake(const struct pgqrs_frame *f, uint64_t *number_out,
                             struct pgqrs_error *err)
{
    return decode(f, number_out, err);
}
