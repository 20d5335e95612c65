/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "ipc/msg_codec.h"

#define SCHEDULE_MIN 33 /* bytes that one takes at least */

static void put_schedule(struct pgqrs_buf *out, const struct pgqrs_schedule_settings *m)
{
    pgqrs_buf_put_bytes(out, pgqrs_bytes_from(m->put.name));
    pgqrs_buf_put_bytes(out, pgqrs_bytes_from(m->put.queue));
    pgqrs_buf_put_bytes(out, pgqrs_bytes_from(m->put.cron));
    pgqrs_buf_put_bytes(out, pgqrs_bytes_from(m->put.zone));
    pgqrs_buf_put_bytes(out, m->put.payload);
    pgqrs_buf_put_u32(out, (uint32_t)m->put.priority);
    pgqrs_buf_put_u8(out, (uint8_t)m->put.catch_up);
    pgqrs_buf_put_u8(out, (uint8_t)m->put.overlap);
    pgqrs_buf_put_u8(out, (uint8_t)m->put.pause);
    pgqrs_buf_put_u8(out, m->workflow);
}

static unsigned read_kind(struct pgqrs_reader *r, unsigned count)
{
    unsigned kind = pgqrs_read_u8(r);
    r->failed = r->failed || kind >= count;
    return kind;
}

static void read_schedule(struct pgqrs_reader *r, struct pgqrs_schedule_settings *m)
{
    m->put.name = pgqrs_read_text(r, PGQRS_SCHEDULE_NAME_MAX);
    m->put.queue = pgqrs_read_text(r, PGQRS_NAME_MAX);
    m->put.cron = pgqrs_read_text(r, PGQRS_SCHEDULE_TEXT_MAX);
    m->put.zone = pgqrs_read_text(r, PGQRS_SCHEDULE_TEXT_MAX);
    m->put.payload = pgqrs_read_bytes(r, PGQRS_SCHEDULE_PAYLOAD_MAX);
    m->put.priority = (int32_t)pgqrs_read_u32(r);
    m->put.catch_up = (enum pgqrs_catch_up)read_kind(r, PGQRS_CATCH_UP_COUNT);
    m->put.overlap = (enum pgqrs_overlap)read_kind(r, PGQRS_OVERLAP_COUNT);
    m->put.pause = (enum pgqrs_schedule_pause)read_kind(r, PGQRS_SCHEDULE_PAUSE_COUNT);
    m->workflow = read_flag(r);
}

void pgqrs_encode_broker_schedules(struct pgqrs_buf *out, const struct pgqrs_broker_schedules *m)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_BROKER_SCHEDULES);
    pgqrs_buf_put_bytes(out, pgqrs_bytes_from(m->config));
    pgqrs_buf_put_u32(out, (uint32_t)m->count);
    for (size_t i = 0; i < m->count; i++) {
        put_schedule(out, &m->items[i]);
    }
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_broker_schedules(const struct pgqrs_frame *f, struct pgqrs_broker_schedules *m,
                                  struct pgqrs_error *err)
{
    struct pgqrs_reader r = pgqrs_reader_of(f->body, f->len);
    *m = (struct pgqrs_broker_schedules){.config = pgqrs_read_text(&r, PGQRS_SITE_NAME_MAX)};
    size_t count = pgqrs_read_u32(&r);
    r.failed =
        r.failed || count > PGQRS_SCHEDULES_MAX || count > (size_t)(r.end - r.at) / SCHEDULE_MIN;
    m->items = r.failed ? NULL : calloc(count + 1, sizeof *m->items);
    if (!r.failed && m->items == NULL) {
        return pgqrs_error_memory(err);
    }
    while (m->count < count && !r.failed) {
        read_schedule(&r, &m->items[m->count++]);
    }
    if (close_body(&r, f, err) < 0) {
        free(m->items);
        *m = (struct pgqrs_broker_schedules){0};
        return -1;
    }
    return 0;
}
