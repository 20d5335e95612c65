/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/msg_codec.h"

#include <stdlib.h>
#include <string.h>

#define S PGQRS_ROLE_SUPERVISOR
#define B PGQRS_ROLE_BROKER
#define W PGQRS_ROLE_WORKER
#define C PGQRS_ROLE_CHILD
#define P PGQRS_ROLE_CLIENT
#define G PGQRS_ROLE_GATEWAY

#define TEXT_MIN 5 /* length and terminator */
#define LIST_MIN 4

const struct pgqrs_msg_desc pgqrs_msg_descs[PGQRS_MSG_COUNT] = {
    [PGQRS_MSG_NONE] = {"none", 0, 0, 0, 0},
    [PGQRS_MSG_CHILD_HELLO] = {"child_hello", C, S, 17 + TEXT_MIN, 128},
    [PGQRS_MSG_REFUSE] = {"refuse", S | B, C | P, TEXT_MIN, 1024},
    [PGQRS_MSG_BROKER_WELCOME] = {"broker_welcome", S, B, 5 * TEXT_MIN + 34 + 2 * LIST_MIN,
                                  PGQRS_CONTROL_BODY_MAX},
    [PGQRS_MSG_WORKER_WELCOME] = {"worker_welcome", S, W,
                                  4 * TEXT_MIN + PGQRS_TOKEN_SIZE + 41 + PGQRS_ISOLATION_MIN,
                                  PGQRS_CONTROL_BODY_MAX},
    [PGQRS_MSG_CHILD_READY] = {"child_ready", C, S, 0, 0},
    [PGQRS_MSG_CHILD_BEAT] = {"child_beat", C, S, 28, 28},
    [PGQRS_MSG_CHILD_DRAIN] = {"child_drain", S, C, 0, 0},
    [PGQRS_MSG_WORKER_CANCEL] = {"worker_cancel", S, W, 8, 8},
    [PGQRS_MSG_WORKER_STARTED] = {"worker_started", S, B, 24 + TEXT_MIN + PGQRS_TOKEN_SIZE, 1024},
    [PGQRS_MSG_WORKER_ENDED] = {"worker_ended", S, B, 9 + TEXT_MIN, 1024},
    [PGQRS_MSG_BROKER_STOP] = {"broker_stop", S, B, 0, 0},
    [PGQRS_MSG_COMPLAINT] = {"complaint", B, S, 8 + TEXT_MIN, 1024},
    [PGQRS_MSG_JOB_HELLO] = {"job_hello", W, B, 17 + PGQRS_TOKEN_SIZE + LIST_MIN,
                             64 + PGQRS_PREFETCH_MAX *KEY_SIZE},
    [PGQRS_MSG_JOB_WELCOME] = {"job_welcome", B, W, 8, 8},
    [PGQRS_MSG_JOB_LEASES] = {"job_leases", B, W, LIST_MIN, PGQRS_BODY_MAX},
    [PGQRS_MSG_JOB_RESULTS] = {"job_results", W, B, LIST_MIN, PGQRS_BODY_MAX},
    [PGQRS_MSG_JOB_SETTLED] = {"job_settled", B, W, LIST_MIN, PGQRS_BODY_MAX},
    [PGQRS_MSG_JOB_CAPACITY] = {"job_capacity", W, B, 4, 4},
    [PGQRS_MSG_CLIENT_HELLO] = {"client_hello", P, B, 4 + TEXT_MIN, 128},
    [PGQRS_MSG_CLIENT_WELCOME] = {"client_welcome", B, P, 4 + 2 * TEXT_MIN, 256},
    [PGQRS_MSG_STORE_CALL] = {"store_call", P, B, 9, PGQRS_BODY_MAX},
    [PGQRS_MSG_STORE_REPLY] = {"store_reply", B, P, 10, PGQRS_BODY_MAX},
    [PGQRS_MSG_ORDER] = {"order", B, S, 21, 21},
    [PGQRS_MSG_WORKER_ORDER] = {"worker_order", S, W, 21, 21},
    [PGQRS_MSG_LOG_LEVEL] = {"log_level", S, C, 1, 1},
    [PGQRS_MSG_BROKER_QUEUES] = {"broker_queues", S, B, 4 + LIST_MIN, PGQRS_CONTROL_BODY_MAX},
    [PGQRS_MSG_QUEUES_KNOWN] = {"queues_known", B, S, 4, 4},
    [PGQRS_MSG_QUEUE_LOAD] = {"queue_load", B, S, 4 + TEXT_MIN, 512},
    [PGQRS_MSG_JOB_FLOW] = {"job_flow", W, B, KEY_SIZE + 41 + 4 * LIST_MIN + TEXT_MIN,
                            PGQRS_BODY_MAX},
    [PGQRS_MSG_JOB_FLOWED] = {"job_flowed", B, W, KEY_SIZE + 9 + 2 * LIST_MIN, PGQRS_BODY_MAX},
    [PGQRS_MSG_BROKER_SCHEDULES] = {"broker_schedules", S, B, TEXT_MIN + LIST_MIN,
                                    PGQRS_CONTROL_BODY_MAX},
    [PGQRS_MSG_GATEWAY_WELCOME] = {"gateway_welcome", S, G, 2 * TEXT_MIN + 16, 9000},
    [PGQRS_MSG_TALLY] = {"tally", B, S, 8, 8},
    [PGQRS_MSG_CLIENT_WATCH] = {"client_watch", P, B, 8, 8},
    [PGQRS_MSG_CLIENT_WAKE] = {"client_wake", B, P, 8, 8},
    [PGQRS_MSG_GATEWAY_LOOK] = {"gateway_look", S, G, 0, 0},
    [PGQRS_MSG_RUN_ENDED] = {"run_ended", B, S, 9 + TEXT_MIN, PGQRS_ERROR_TEXT_MAX + 64},
};

#undef S
#undef B
#undef W
#undef C
#undef P
#undef G

/* ---- frames ---- */

size_t pgqrs_msg_begin(struct pgqrs_buf *out, enum pgqrs_msg_type type)
{
    size_t start = out->len;
    pgqrs_buf_put_u32(out, 0);
    pgqrs_buf_put_u16(out, (uint16_t)type);
    pgqrs_buf_put_u16(out, 0);
    return start;
}

void pgqrs_msg_end(struct pgqrs_buf *out, size_t start)
{
    pgqrs_buf_set_u32(out, start, (uint32_t)(out->len - start - PGQRS_FRAME_HEADER));
}

void pgqrs_encode_empty(struct pgqrs_buf *out, enum pgqrs_msg_type type)
{
    pgqrs_msg_end(out, pgqrs_msg_begin(out, type));
}

int pgqrs_msg_parse(const void *data, size_t len, enum pgqrs_role from, enum pgqrs_role to,
                    struct pgqrs_frame *frame_out, size_t *used_out, struct pgqrs_error *err)
{
    if (len < PGQRS_FRAME_HEADER) {
        return 0;
    }
    struct pgqrs_reader r = pgqrs_reader_of(data, len);
    uint32_t body = pgqrs_read_u32(&r);
    uint16_t type = pgqrs_read_u16(&r);
    uint16_t zero = pgqrs_read_u16(&r);

    if (type == PGQRS_MSG_NONE || type >= PGQRS_MSG_COUNT || zero != 0) {
        return pgqrs_error_set(err, PGQRS_ERR_PROTOCOL, "message of unknown type %u", type);
    }
    const struct pgqrs_msg_desc *desc = &pgqrs_msg_descs[type];
    if ((desc->from & from) == 0 || (desc->to & to) == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_PROTOCOL, "message %s in the wrong direction",
                               desc->name);
    }
    if (body < desc->min_len || body > desc->max_len) {
        return pgqrs_error_set(err, PGQRS_ERR_PROTOCOL, "message %s of %u bytes, expected %u to %u",
                               desc->name, body, desc->min_len, desc->max_len);
    }
    if (len - PGQRS_FRAME_HEADER < body) {
        return 0;
    }
    *frame_out = (struct pgqrs_frame){.type = (enum pgqrs_msg_type)type, .body = r.at, .len = body};
    *used_out = PGQRS_FRAME_HEADER + body;
    return 1;
}

/* ---- what the codecs share ---- */

static struct pgqrs_reader open_body(const struct pgqrs_frame *f)
{
    return pgqrs_reader_of(f->body, f->len);
}

static int nonsense(enum pgqrs_msg_type type, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_PROTOCOL, "malformed message %s",
                           pgqrs_msg_descs[type].name);
}

static void put_text(struct pgqrs_buf *out, const char *text)
{
    pgqrs_buf_put_bytes(out, pgqrs_bytes_from(text == NULL ? "" : text));
}

static void put_i64(struct pgqrs_buf *out, int64_t v)
{
    pgqrs_buf_put_u64(out, (uint64_t)v);
}

static int64_t read_i64(struct pgqrs_reader *r)
{
    return (int64_t)pgqrs_read_u64(r);
}

static void read_token(struct pgqrs_reader *r, uint8_t token[PGQRS_TOKEN_SIZE])
{
    for (size_t i = 0; i < PGQRS_TOKEN_SIZE; i++) {
        token[i] = pgqrs_read_u8(r);
    }
}

/* ---- control ---- */

void pgqrs_encode_child_hello(struct pgqrs_buf *out, const struct pgqrs_child_hello *m)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_CHILD_HELLO);
    pgqrs_buf_put_u16(out, m->major);
    pgqrs_buf_put_u16(out, m->minor);
    put_text(out, m->version);
    pgqrs_buf_put_u32(out, m->pid);
    pgqrs_buf_put_u64(out, m->generation);
    pgqrs_buf_put_u8(out, (uint8_t)m->role);
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_child_hello(const struct pgqrs_frame *f, struct pgqrs_child_hello *m,
                             struct pgqrs_error *err)
{
    struct pgqrs_reader r = open_body(f);
    m->major = pgqrs_read_u16(&r);
    m->minor = pgqrs_read_u16(&r);
    m->version = pgqrs_read_text(&r, 64);
    m->pid = pgqrs_read_u32(&r);
    m->generation = pgqrs_read_u64(&r);
    m->role = (enum pgqrs_role)pgqrs_read_u8(&r);
    return close_body(&r, f, err);
}

void pgqrs_encode_refuse(struct pgqrs_buf *out, const char *why)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_REFUSE);
    put_text(out, why);
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_refuse(const struct pgqrs_frame *f, const char **why_out, struct pgqrs_error *err)
{
    struct pgqrs_reader r = open_body(f);
    const char *why = pgqrs_read_text(&r, 1000);
    if (close_body(&r, f, err) < 0) {
        return -1;
    }
    *why_out = why;
    return 0;
}

static void put_worker_started(struct pgqrs_buf *out, const struct pgqrs_worker_started *m)
{
    pgqrs_buf_put_u64(out, m->generation);
    pgqrs_buf_put_u32(out, m->slot);
    pgqrs_buf_put_u32(out, m->pid);
    put_text(out, m->queue);
    pgqrs_buf_put(out, m->token, PGQRS_TOKEN_SIZE);
    put_i64(out, m->only_message);
}

static void read_worker_started(struct pgqrs_reader *r, struct pgqrs_worker_started *m)
{
    m->generation = pgqrs_read_u64(r);
    m->slot = pgqrs_read_u32(r);
    m->pid = pgqrs_read_u32(r);
    m->queue = pgqrs_read_text(r, PGQRS_NAME_MAX);
    read_token(r, m->token);
    m->only_message = read_natural(r);
}

void pgqrs_encode_broker_welcome(struct pgqrs_buf *out, const struct pgqrs_broker_welcome *m)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_BROKER_WELCOME);
    put_text(out, m->instance);
    put_text(out, m->name);
    put_text(out, m->dsn);
    put_text(out, m->schema);
    put_text(out, m->wake_dsn);
    put_i64(out, m->lease_ms);
    put_i64(out, m->poll_ms);
    put_i64(out, m->heartbeat_ms);
    put_i64(out, m->foreign_stale_ms);
    pgqrs_buf_put_u8(out, m->synchronous_full);
    pgqrs_buf_put_u8(out, m->draining);
    pgqrs_buf_put_u32(out, (uint32_t)m->queue_count);
    for (size_t i = 0; i < m->queue_count; i++) {
        pgqrs_put_queue_settings(out, &m->queues[i]);
    }
    pgqrs_buf_put_u32(out, (uint32_t)m->worker_count);
    for (size_t i = 0; i < m->worker_count; i++) {
        put_worker_started(out, &m->workers[i]);
    }
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_broker_welcome(const struct pgqrs_frame *f, struct pgqrs_broker_welcome *m,
                                struct pgqrs_error *err)
{
    struct pgqrs_reader r = open_body(f);
    *m = (struct pgqrs_broker_welcome){0};
    m->instance = pgqrs_read_text(&r, 64);
    m->name = pgqrs_read_text(&r, PGQRS_SITE_NAME_MAX);
    m->dsn = pgqrs_read_text(&r, PGQRS_DSN_MAX);
    m->schema = pgqrs_read_text(&r, PGQRS_SCHEMA_MAX);
    m->wake_dsn = pgqrs_read_text(&r, PGQRS_DSN_MAX);
    m->lease_ms = read_natural(&r);
    m->poll_ms = read_natural(&r);
    m->heartbeat_ms = read_natural(&r);
    m->foreign_stale_ms = read_natural(&r);
    m->synchronous_full = read_flag(&r);
    m->draining = read_flag(&r);
    m->queues = read_list(&r, PGQRS_QUEUE_SETTINGS_MIN, PGQRS_QUEUES_MAX, sizeof *m->queues,
                          &m->queue_count);
    for (size_t i = 0; i < m->queue_count; i++) {
        pgqrs_read_queue_settings(&r, &m->queues[i]);
    }
    m->workers = read_list(&r, TEXT_MIN + 24 + PGQRS_TOKEN_SIZE,
                           (size_t)PGQRS_QUEUES_MAX * PGQRS_CONSUMERS_MAX, sizeof *m->workers,
                           &m->worker_count);
    for (size_t i = 0; i < m->worker_count; i++) {
        read_worker_started(&r, &m->workers[i]);
    }
    if (close_body(&r, f, err) < 0) {
        pgqrs_broker_welcome_fini(m);
        return -1;
    }
    return 0;
}

void pgqrs_broker_welcome_fini(struct pgqrs_broker_welcome *m)
{
    free(m->queues);
    free(m->workers);
    *m = (struct pgqrs_broker_welcome){0};
}

void pgqrs_encode_worker_welcome(struct pgqrs_buf *out, const struct pgqrs_worker_welcome *m)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_WORKER_WELCOME);
    put_text(out, m->queue);
    put_text(out, m->handler);
    put_text(out, m->settings);
    put_text(out, m->job_socket);
    pgqrs_buf_put(out, m->token, PGQRS_TOKEN_SIZE);
    pgqrs_buf_put_u32(out, m->slot);
    pgqrs_buf_put_u32(out, m->prefetch);
    pgqrs_buf_put_u32(out, m->max_attempts);
    put_i64(out, m->heartbeat_ms);
    put_i64(out, m->timeout_ms);
    put_i64(out, m->cancel_grace_ms);
    pgqrs_buf_put_u32(out, m->log_lines);
    pgqrs_put_isolation(out, &m->isolation);
    pgqrs_buf_put_u8(out, m->once);
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_worker_welcome(const struct pgqrs_frame *f, struct pgqrs_worker_welcome *m,
                                struct pgqrs_error *err)
{
    struct pgqrs_reader r = open_body(f);
    m->queue = pgqrs_read_text(&r, PGQRS_NAME_MAX);
    m->handler = pgqrs_read_text(&r, PGQRS_PATH_TEXT_MAX);
    m->settings = pgqrs_read_text(&r, PGQRS_CONTROL_BODY_MAX);
    m->job_socket = pgqrs_read_text(&r, PGQRS_PATH_TEXT_MAX);
    read_token(&r, m->token);
    m->slot = pgqrs_read_u32(&r);
    m->prefetch = pgqrs_read_u32(&r);
    m->max_attempts = pgqrs_read_u32(&r);
    m->heartbeat_ms = read_natural(&r);
    m->timeout_ms = read_natural(&r);
    m->cancel_grace_ms = read_natural(&r);
    m->log_lines = pgqrs_read_u32(&r);
    pgqrs_read_isolation(&r, &m->isolation);
    m->once = read_flag(&r);
    r.failed = r.failed || m->prefetch < 1 || m->prefetch > PGQRS_PREFETCH_MAX;
    return close_body(&r, f, err);
}

void pgqrs_encode_child_beat(struct pgqrs_buf *out, const struct pgqrs_child_beat *m)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_CHILD_BEAT);
    put_i64(out, m->job_id);
    put_i64(out, m->job_ms);
    pgqrs_buf_put_u32(out, m->held);
    pgqrs_buf_put_u64(out, m->settled);
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_child_beat(const struct pgqrs_frame *f, struct pgqrs_child_beat *m,
                            struct pgqrs_error *err)
{
    struct pgqrs_reader r = open_body(f);
    m->job_id = read_natural(&r);
    m->job_ms = read_natural(&r);
    m->held = pgqrs_read_u32(&r);
    m->settled = pgqrs_read_u64(&r);
    return close_body(&r, f, err);
}

/* WORKER_CANCEL and JOB_WELCOME are one id. */
static void encode_id(struct pgqrs_buf *out, enum pgqrs_msg_type type, int64_t id)
{
    size_t start = pgqrs_msg_begin(out, type);
    put_i64(out, id);
    pgqrs_msg_end(out, start);
}

static int decode_id(const struct pgqrs_frame *f, int64_t *id_out, struct pgqrs_error *err)
{
    struct pgqrs_reader r = open_body(f);
    int64_t id = read_natural(&r);
    if (close_body(&r, f, err) < 0) {
        return -1;
    }
    *id_out = id;
    return 0;
}

void pgqrs_encode_worker_cancel(struct pgqrs_buf *out, int64_t job_id)
{
    encode_id(out, PGQRS_MSG_WORKER_CANCEL, job_id);
}

int pgqrs_decode_worker_cancel(const struct pgqrs_frame *f, int64_t *job_id_out,
                               struct pgqrs_error *err)
{
    return decode_id(f, job_id_out, err);
}

void pgqrs_encode_worker_started(struct pgqrs_buf *out, const struct pgqrs_worker_started *m)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_WORKER_STARTED);
    put_worker_started(out, m);
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_worker_started(const struct pgqrs_frame *f, struct pgqrs_worker_started *m,
                                struct pgqrs_error *err)
{
    struct pgqrs_reader r = open_body(f);
    read_worker_started(&r, m);
    return close_body(&r, f, err);
}

void pgqrs_encode_worker_ended(struct pgqrs_buf *out, const struct pgqrs_worker_ended *m)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_WORKER_ENDED);
    pgqrs_buf_put_u64(out, m->generation);
    pgqrs_buf_put_u8(out, (uint8_t)m->how);
    put_text(out, m->reason);
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_worker_ended(const struct pgqrs_frame *f, struct pgqrs_worker_ended *m,
                              struct pgqrs_error *err)
{
    struct pgqrs_reader r = open_body(f);
    m->generation = pgqrs_read_u64(&r);
    uint8_t how = pgqrs_read_u8(&r);
    r.failed = r.failed || how > PGQRS_END_KILLED;
    m->how = (enum pgqrs_end)how;
    m->reason = pgqrs_read_text(&r, 1000);
    return close_body(&r, f, err);
}

void pgqrs_encode_complaint(struct pgqrs_buf *out, const struct pgqrs_complaint *m)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_COMPLAINT);
    pgqrs_buf_put_u64(out, m->generation);
    put_text(out, m->text);
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_complaint(const struct pgqrs_frame *f, struct pgqrs_complaint *m,
                           struct pgqrs_error *err)
{
    struct pgqrs_reader r = open_body(f);
    m->generation = pgqrs_read_u64(&r);
    m->text = pgqrs_read_text(&r, 1000);
    return close_body(&r, f, err);
}

/* ---- jobs ---- */

void pgqrs_encode_job_hello(struct pgqrs_buf *out, const struct pgqrs_job_hello *m)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_JOB_HELLO);
    pgqrs_buf_put_u16(out, m->major);
    pgqrs_buf_put_u16(out, m->minor);
    pgqrs_buf_put_u64(out, m->generation);
    pgqrs_buf_put(out, m->token, PGQRS_TOKEN_SIZE);
    pgqrs_buf_put_u32(out, m->capacity);
    pgqrs_buf_put_u8(out, m->workflow);
    pgqrs_buf_put_u32(out, (uint32_t)m->held_count);
    for (size_t i = 0; i < m->held_count; i++) {
        put_key(out, m->held[i]);
    }
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_job_hello(const struct pgqrs_frame *f, struct pgqrs_job_hello *m,
                           struct pgqrs_error *err)
{
    struct pgqrs_reader r = open_body(f);
    m->major = pgqrs_read_u16(&r);
    m->minor = pgqrs_read_u16(&r);
    m->generation = pgqrs_read_u64(&r);
    read_token(&r, m->token);
    m->capacity = pgqrs_read_u32(&r);
    m->workflow = read_flag(&r);
    r.failed = r.failed || m->capacity > PGQRS_PREFETCH_MAX;
    m->held = read_list(&r, KEY_SIZE, PGQRS_PREFETCH_MAX, sizeof *m->held, &m->held_count);
    for (size_t i = 0; i < m->held_count; i++) {
        m->held[i] = read_key(&r);
    }
    if (close_body(&r, f, err) < 0) {
        pgqrs_job_hello_fini(m);
        return -1;
    }
    return 0;
}

void pgqrs_job_hello_fini(struct pgqrs_job_hello *m)
{
    free(m->held);
    m->held = NULL;
    m->held_count = 0;
}

size_t pgqrs_job_list_begin(struct pgqrs_buf *out, enum pgqrs_msg_type type)
{
    size_t start = pgqrs_msg_begin(out, type);
    pgqrs_buf_put_u32(out, 0);
    return start;
}

void pgqrs_job_list_end(struct pgqrs_buf *out, size_t start, uint32_t count)
{
    pgqrs_buf_set_u32(out, start + PGQRS_FRAME_HEADER, count);
    pgqrs_msg_end(out, start);
}

struct pgqrs_job_list pgqrs_job_list_of(const struct pgqrs_frame *f)
{
    struct pgqrs_job_list list = {.reader = open_body(f)};
    list.left = pgqrs_read_u32(&list.reader);
    return list;
}

/* True when there is another item; at the end of the list, *end_out is what to return. */
static bool next_item(struct pgqrs_job_list *list, enum pgqrs_msg_type type, int *end_out,
                      struct pgqrs_error *err)
{
    if (list->left > 0 && !list->reader.failed) {
        list->left--;
        return true;
    }
    *end_out = pgqrs_reader_done(&list->reader) ? 0 : nonsense(type, err);
    return false;
}

void pgqrs_encode_job_lease(struct pgqrs_buf *out, const struct pgqrs_job_lease *m)
{
    put_key(out, m->key);
    pgqrs_buf_put_u32(out, (uint32_t)m->priority);
    put_i64(out, m->enqueued_at_us);
    put_i64(out, m->due_us);
    pgqrs_buf_put_bytes(out, m->payload);
}

int pgqrs_next_job_lease(struct pgqrs_job_list *list, struct pgqrs_job_lease *m,
                         struct pgqrs_error *err)
{
    int end;
    if (!next_item(list, PGQRS_MSG_JOB_LEASES, &end, err)) {
        return end;
    }
    struct pgqrs_reader *r = &list->reader;
    m->key = read_key(r);
    m->priority = (int32_t)pgqrs_read_u32(r);
    m->enqueued_at_us = read_i64(r);
    m->due_us = read_i64(r);
    m->payload = pgqrs_read_bytes(r, PGQRS_PAYLOAD_MAX);
    return r->failed ? nonsense(PGQRS_MSG_JOB_LEASES, err) : 1;
}

void pgqrs_encode_job_settled(struct pgqrs_buf *out, const struct pgqrs_job_settled *m)
{
    put_key(out, m->key);
    pgqrs_buf_put_u8(out, (uint8_t)m->verdict);
}

int pgqrs_next_job_settled(struct pgqrs_job_list *list, struct pgqrs_job_settled *m,
                           struct pgqrs_error *err)
{
    int end;
    if (!next_item(list, PGQRS_MSG_JOB_SETTLED, &end, err)) {
        return end;
    }
    struct pgqrs_reader *r = &list->reader;
    m->key = read_key(r);
    uint8_t verdict = pgqrs_read_u8(r);
    m->verdict = (enum pgqrs_verdict)verdict;
    r->failed = r->failed || (verdict != PGQRS_VERDICT_STORED && verdict != PGQRS_VERDICT_REFUSED);
    return r->failed ? nonsense(PGQRS_MSG_JOB_SETTLED, err) : 1;
}

void pgqrs_encode_job_result(struct pgqrs_buf *out, const struct pgqrs_job_result *m)
{
    put_key(out, m->key);
    pgqrs_buf_put_u8(out, (uint8_t)m->outcome);
    put_i64(out, m->delay_ms);
    put_i64(out, m->times.waited_us);
    put_i64(out, m->times.ran_us);
    pgqrs_buf_put_bytes(out, m->error);
    pgqrs_buf_put_bytes(out, m->result);
    pgqrs_buf_put_u32(out, (uint32_t)m->enqueue_count);
    for (size_t i = 0; i < m->enqueue_count; i++) {
        const struct pgqrs_job_enqueue *e = &m->enqueues[i];
        put_text(out, e->queue);
        pgqrs_buf_put_bytes(out, e->payload);
        put_i64(out, e->delay_ms);
        pgqrs_buf_put_u32(out, (uint32_t)e->priority);
    }
}

static void read_enqueue(struct pgqrs_reader *r, struct pgqrs_job_enqueue *e)
{
    e->queue = pgqrs_read_text(r, PGQRS_NAME_MAX);
    e->payload = pgqrs_read_bytes(r, PGQRS_PAYLOAD_MAX);
    e->delay_ms = read_natural(r);
    e->priority = (int32_t)pgqrs_read_u32(r);
}

int pgqrs_next_job_result(struct pgqrs_job_list *list, struct pgqrs_job_result *m,
                          struct pgqrs_error *err)
{
    int end;
    if (!next_item(list, PGQRS_MSG_JOB_RESULTS, &end, err)) {
        return end;
    }
    struct pgqrs_reader *r = &list->reader;
    *m = (struct pgqrs_job_result){.key = read_key(r)};
    uint8_t outcome = pgqrs_read_u8(r);
    m->outcome = (enum pgqrs_job_outcome)outcome;
    m->delay_ms = read_i64(r);
    m->times.waited_us = read_i64(r);
    m->times.ran_us = read_i64(r);
    r->failed = r->failed || outcome >= PGQRS_JOB_OUTCOME_COUNT || m->delay_ms < -1;
    m->error = pgqrs_read_bytes(r, PGQRS_ERROR_TEXT_MAX);
    m->result = pgqrs_read_bytes(r, PGQRS_RESULT_MAX);
    m->enqueues =
        read_list(r, 2 * TEXT_MIN + 12, PGQRS_ENQUEUES_MAX, sizeof *m->enqueues, &m->enqueue_count);
    for (size_t i = 0; i < m->enqueue_count; i++) {
        read_enqueue(r, &m->enqueues[i]);
    }
    if (r->failed) {
        pgqrs_job_result_fini(m);
        return nonsense(PGQRS_MSG_JOB_RESULTS, err);
    }
    return 1;
}

void pgqrs_job_result_fini(struct pgqrs_job_result *m)
{
    free(m->enqueues);
    m->enqueues = NULL;
    m->enqueue_count = 0;
}

void pgqrs_encode_job_welcome(struct pgqrs_buf *out, int64_t worker_id)
{
    encode_id(out, PGQRS_MSG_JOB_WELCOME, worker_id);
}

int pgqrs_decode_job_welcome(const struct pgqrs_frame *f, int64_t *worker_id_out,
                             struct pgqrs_error *err)
{
    return decode_id(f, worker_id_out, err);
}

void pgqrs_encode_job_capacity(struct pgqrs_buf *out, uint32_t capacity)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_JOB_CAPACITY);
    pgqrs_buf_put_u32(out, capacity);
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_job_capacity(const struct pgqrs_frame *f, uint32_t *capacity_out,
                              struct pgqrs_error *err)
{
    struct pgqrs_reader r = open_body(f);
    uint32_t capacity = pgqrs_read_u32(&r);
    r.failed = r.failed || capacity > PGQRS_PREFETCH_MAX;
    if (close_body(&r, f, err) < 0) {
        return -1;
    }
    *capacity_out = capacity;
    return 0;
}
