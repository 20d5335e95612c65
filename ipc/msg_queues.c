/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "ipc/msg_codec.h"
#include "ipc/tally_page.h"

void pgqrs_put_queue_settings(struct pgqrs_buf *out, const struct pgqrs_queue_settings *q)
{
    pgqrs_buf_put_bytes(out, pgqrs_bytes_from(q->name));
    pgqrs_buf_put_u32(out, q->max_attempts);
    pgqrs_buf_put_u32(out, q->max_crashes);
    pgqrs_buf_put_u8(out, q->retry_strategy);
    pgqrs_buf_put_u8(out, q->retry_jitter);
    pgqrs_buf_put_u8(out, q->delete_done);
    pgqrs_buf_put_u8(out, q->sql);
    pgqrs_buf_put_u64(out, (uint64_t)q->retry_base_ms);
    pgqrs_buf_put_u64(out, (uint64_t)q->retry_max_ms);
    pgqrs_buf_put_u64(out, (uint64_t)q->keep_done_ms);
    pgqrs_buf_put_u64(out, (uint64_t)q->keep_failed_ms);
    pgqrs_buf_put_u32(out, q->worker_uid);
    pgqrs_buf_put_u32(out, q->load_max);
    pgqrs_buf_put_u32(out, q->place);
    pgqrs_buf_put_u8(out, q->paused);
}

void pgqrs_read_queue_settings(struct pgqrs_reader *r, struct pgqrs_queue_settings *q)
{
    q->name = pgqrs_read_text(r, PGQRS_NAME_MAX);
    q->max_attempts = pgqrs_read_u32(r);
    q->max_crashes = pgqrs_read_u32(r);
    q->retry_strategy = pgqrs_read_u8(r);
    q->retry_jitter = read_flag(r);
    q->delete_done = read_flag(r);
    q->sql = read_flag(r);
    q->retry_base_ms = read_natural(r);
    q->retry_max_ms = read_natural(r);
    q->keep_done_ms = read_natural(r);
    q->keep_failed_ms = read_natural(r);
    q->worker_uid = pgqrs_read_u32(r);
    q->load_max = pgqrs_read_u32(r);
    q->place = pgqrs_read_u32(r);
    q->paused = read_flag(r);
    r->failed =
        r->failed || q->place >= PGQRS_TALLY_PLACES ||
        (q->retry_strategy != PGQRS_RETRY_FIXED && q->retry_strategy != PGQRS_RETRY_EXPONENTIAL);
}

void pgqrs_encode_broker_queues(struct pgqrs_buf *out, uint32_t serial,
                                const struct pgqrs_queue_settings *queues, size_t count)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_BROKER_QUEUES);
    pgqrs_buf_put_u32(out, serial);
    pgqrs_buf_put_u32(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        pgqrs_put_queue_settings(out, &queues[i]);
    }
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_broker_queues(const struct pgqrs_frame *f, uint32_t *serial_out,
                               struct pgqrs_queue_settings **queues_out, size_t *count_out,
                               struct pgqrs_error *err)
{
    struct pgqrs_reader r = pgqrs_reader_of(f->body, f->len);
    *serial_out = pgqrs_read_u32(&r);
    size_t count = pgqrs_read_u32(&r);
    struct pgqrs_queue_settings *queues = NULL;
    r.failed = r.failed || count > PGQRS_QUEUES_MAX ||
               count > (size_t)(r.end - r.at) / PGQRS_QUEUE_SETTINGS_MIN;
    if (!r.failed) {
        queues = calloc(count + 1, sizeof *queues);
        if (queues == NULL) {
            return pgqrs_error_memory(err);
        }
    }
    for (size_t i = 0; i < count && !r.failed; i++) {
        pgqrs_read_queue_settings(&r, &queues[i]);
    }
    if (close_body(&r, f, err) < 0) {
        free(queues);
        return -1;
    }
    *queues_out = queues;
    *count_out = count;
    return 0;
}

void pgqrs_encode_queues_known(struct pgqrs_buf *out, uint32_t serial)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_QUEUES_KNOWN);
    pgqrs_buf_put_u32(out, serial);
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_queues_known(const struct pgqrs_frame *f, uint32_t *serial_out,
                              struct pgqrs_error *err)
{
    struct pgqrs_reader r = pgqrs_reader_of(f->body, f->len);
    *serial_out = pgqrs_read_u32(&r);
    return close_body(&r, f, err);
}

void pgqrs_encode_queue_load(struct pgqrs_buf *out, const struct pgqrs_queue_load *m)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_QUEUE_LOAD);
    pgqrs_buf_put_bytes(out, pgqrs_bytes_from(m->queue));
    pgqrs_buf_put_u32(out, m->ready);
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_queue_load(const struct pgqrs_frame *f, struct pgqrs_queue_load *m,
                            struct pgqrs_error *err)
{
    struct pgqrs_reader r = pgqrs_reader_of(f->body, f->len);
    m->queue = pgqrs_read_text(&r, PGQRS_NAME_MAX);
    m->ready = pgqrs_read_u32(&r);
    return close_body(&r, f, err);
}
