/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_MSG_CODEC_H
#define PGQRS_IPC_MSG_CODEC_H

/* What the codecs of messages share; for ipc/msg*.c alone. */

#include <stdlib.h>

#include "ipc/msg.h"

#define KEY_SIZE 16 /* of a struct pgqrs_job_key */

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

/* Room for a list whose items take at least min_size bytes each, so that a count can not make us
 * allocate more than a fixed multiple of what was sent. Null without failure when it is empty. */
static inline void *read_list(struct pgqrs_reader *r, size_t min_size, size_t max_count,
                              size_t item_size, size_t *count_out)
{
    size_t count = pgqrs_read_u32(r);
    if (r->failed || count > max_count || count > (size_t)(r->end - r->at) / min_size) {
        r->failed = true;
        count = 0;
    }
    void *items = count == 0 ? NULL : calloc(count, item_size);
    if (items == NULL && count > 0) {
        r->failed = true;
        count = 0;
    }
    *count_out = count;
    return items;
}

static inline void put_key(struct pgqrs_buf *out, struct pgqrs_job_key key)
{
    pgqrs_buf_put_u64(out, (uint64_t)key.id);
    pgqrs_buf_put_u32(out, key.attempt);
    pgqrs_buf_put_u32(out, key.crashes);
}

static inline struct pgqrs_job_key read_key(struct pgqrs_reader *r)
{
    struct pgqrs_job_key key = {.id = read_natural(r)};
    key.attempt = pgqrs_read_u32(r);
    key.crashes = pgqrs_read_u32(r);
    r->failed = r->failed || key.attempt > INT32_MAX ||
                key.crashes > (key.attempt > 0 ? key.attempt - 1 : 0);
    return key;
}

static inline int close_body(const struct pgqrs_reader *r, const struct pgqrs_frame *f,
                             struct pgqrs_error *err)
{
    return pgqrs_reader_done(r) ? 0
                                : pgqrs_error_set(err, PGQRS_ERR_PROTOCOL, "malformed message %s",
                                                  pgqrs_msg_descs[f->type].name);
}

#endif
