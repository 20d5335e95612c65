/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/msg.h"

#include "base/log.h"

void pgqrs_encode_log_level(struct pgqrs_buf *out, uint8_t level)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_LOG_LEVEL);
    pgqrs_buf_put_u8(out, level);
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_log_level(const struct pgqrs_frame *f, uint8_t *level_out, struct pgqrs_error *err)
{
    struct pgqrs_reader r = pgqrs_reader_of(f->body, f->len);
    uint8_t level = pgqrs_read_u8(&r);
    if (!pgqrs_reader_done(&r) || level < PGQRS_LOG_DEBUG || level > PGQRS_LOG_ERROR) {
        return pgqrs_error_set(err, PGQRS_ERR_PROTOCOL, "malformed message log_level");
    }
    *level_out = level;
    return 0;
}
