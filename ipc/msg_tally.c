/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/msg_codec.h"

void pgqrs_encode_tally(struct pgqrs_buf *out, const struct pgqrs_tally *m)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_TALLY);
    pgqrs_buf_put_u64(out, (uint64_t)m->trouble_ms);
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_tally(const struct pgqrs_frame *f, struct pgqrs_tally *m, struct pgqrs_error *err)
{
    struct pgqrs_reader r = pgqrs_reader_of(f->body, f->len);
    *m = (struct pgqrs_tally){.trouble_ms = read_natural(&r)};
    return close_body(&r, f, err);
}
