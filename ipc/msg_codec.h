/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_MSG_CODEC_H
#define PGQRS_IPC_MSG_CODEC_H

/* What the codecs of messages share; for ipc/msg*.c alone. */

#include "ipc/msg.h"

/* A number of ms, bytes or an id: never negative. */
static inline int64_t read_natural(struct pgqrs_reader *r)
{
    uint64_t v = pgqrs_read_u64(r);
    r->failed = r->failed || v > INT64_MAX;
    return (int64_t)v;
}

static inline uint8_t read_flag(struct pgqrs_reader *r)
{
    uint8_t v = pgqrs_read_u8(r);
    r->failed = r->failed || v > 1;
    return v;
}

static inline int close_body(const struct pgqrs_reader *r, const struct pgqrs_frame *f,
                             struct pgqrs_error *err)
{
    return pgqrs_reader_done(r) ? 0
                                : pgqrs_error_set(err, PGQRS_ERR_PROTOCOL, "malformed message %s",
                                                  pgqrs_msg_descs[f->type].name);
}

#endif
