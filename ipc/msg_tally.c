/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/msg_codec.h"

#define QUEUE_MIN (5 + 8 * PGQRS_TALLY_COUNT) /* bytes that one takes at least */

const char *const pgqrs_tally_names[PGQRS_TALLY_COUNT] = {
    [PGQRS_TALLY_DONE] = "done",           [PGQRS_TALLY_FAILED] = "failed",
    [PGQRS_TALLY_CANCELLED] = "cancelled", [PGQRS_TALLY_RETRY] = "retry",
    [PGQRS_TALLY_SNOOZE] = "snooze",       [PGQRS_TALLY_RETURNED] = "returned",
};

void pgqrs_encode_tally(struct pgqrs_buf *out, const struct pgqrs_tally *m)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_TALLY);
    pgqrs_buf_put_u64(out, (uint64_t)m->trouble_ms);
    pgqrs_buf_put_u32(out, (uint32_t)m->queue_count);
    for (size_t i = 0; i < m->queue_count; i++) {
        pgqrs_buf_put_bytes(out, pgqrs_bytes_from(m->queues[i].queue));
        for (size_t kind = 0; kind < PGQRS_TALLY_COUNT; kind++) {
            pgqrs_buf_put_u64(out, m->queues[i].settled[kind]);
        }
    }
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_tally(const struct pgqrs_frame *f, struct pgqrs_tally *m, struct pgqrs_error *err)
{
    struct pgqrs_reader r = pgqrs_reader_of(f->body, f->len);
    *m = (struct pgqrs_tally){.trouble_ms = read_natural(&r)};
    m->queues = read_list(&r, QUEUE_MIN, PGQRS_CONTROL_BODY_MAX / QUEUE_MIN, sizeof *m->queues,
                          &m->queue_count);
    for (size_t i = 0; i < m->queue_count; i++) {
        m->queues[i].queue = pgqrs_read_text(&r, PGQRS_NAME_MAX);
        for (size_t kind = 0; kind < PGQRS_TALLY_COUNT; kind++) {
            m->queues[i].settled[kind] = (uint64_t)read_natural(&r);
        }
    }
    if (close_body(&r, f, err) < 0) {
        free(m->queues);
        *m = (struct pgqrs_tally){0};
        return -1;
    }
    return 0;
}
