/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/msg.h"

void pgqrs_encode_order(struct pgqrs_buf *out, enum pgqrs_msg_type type,
                        const struct pgqrs_order *m)
{
    size_t start = pgqrs_msg_begin(out, type);
    pgqrs_buf_put_u64(out, m->generation);
    pgqrs_buf_put_u8(out, (uint8_t)m->kind);
    pgqrs_buf_put_u64(out, (uint64_t)m->key.id);
    pgqrs_buf_put_u32(out, m->key.attempt);
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_order(const struct pgqrs_frame *f, struct pgqrs_order *m, struct pgqrs_error *err)
{
    struct pgqrs_reader r = pgqrs_reader_of(f->body, f->len);
    m->generation = pgqrs_read_u64(&r);
    uint8_t kind = pgqrs_read_u8(&r);
    m->key.id = (int64_t)pgqrs_read_u64(&r);
    m->key.attempt = pgqrs_read_u32(&r);
    if (!pgqrs_reader_done(&r) || kind < PGQRS_ORDER_CANCEL || kind > PGQRS_ORDER_STOP ||
        m->key.id < 0) {
        return pgqrs_error_set(err, PGQRS_ERR_PROTOCOL, "malformed message %s",
                               pgqrs_msg_descs[f->type].name);
    }
    m->kind = (enum pgqrs_order_kind)kind;
    return 0;
}
