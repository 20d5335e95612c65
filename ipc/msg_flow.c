/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/msg_flow.h"

#include "ipc/msg_codec.h"

#define TEXT_SIZE 5 /* of an empty one */

/* ---- byte runs that may be absent ---- */

static void put_maybe(struct pgqrs_buf *out, struct pgqrs_bytes bytes)
{
    pgqrs_buf_put_u8(out, bytes.data != NULL ? 1 : 0);
    if (bytes.data != NULL) {
        pgqrs_buf_put_bytes(out, bytes);
    }
}

static struct pgqrs_bytes read_maybe(struct pgqrs_reader *r, size_t max)
{
    return read_flag(r) != 0 ? pgqrs_read_bytes(r, max) : (struct pgqrs_bytes){0};
}

static void put_name(struct pgqrs_buf *out, const char *text)
{
    pgqrs_buf_put_bytes(out, pgqrs_bytes_from(text == NULL ? "" : text));
}

/* -1 is no time. */
static int64_t read_delay(struct pgqrs_reader *r)
{
    int64_t ms = (int64_t)pgqrs_read_u64(r);
    r->failed = r->failed || ms < -1;
    return ms;
}

/* ---- what a worker asks ---- */

#define STEP_SIZE (TEXT_SIZE + 21)
#define FOLLOW_SIZE (2 * TEXT_SIZE + 12)
#define SQL_SIZE (TEXT_SIZE + 4)

static void put_step(struct pgqrs_buf *out, const struct pgqrs_step_put *s)
{
    put_name(out, s->name);
    pgqrs_buf_put_u8(out, (uint8_t)s->kind);
    pgqrs_buf_put_u8(out, (uint8_t)s->status);
    pgqrs_buf_put_u8(out, s->retried ? 1 : 0);
    pgqrs_buf_put_u64(out, (uint64_t)s->retry_ms);
    pgqrs_buf_put_u64(out, (uint64_t)s->took_ms);
    put_maybe(out, s->output);
    put_maybe(out, s->error);
}

static void read_step(struct pgqrs_reader *r, struct pgqrs_step_put *s)
{
    s->name = pgqrs_read_text(r, PGQRS_STEP_NAME_MAX);
    uint8_t kind = pgqrs_read_u8(r);
    uint8_t status = pgqrs_read_u8(r);
    s->retried = read_flag(r) != 0;
    s->retry_ms = read_delay(r);
    s->took_ms = read_natural(r);
    s->output = read_maybe(r, PGQRS_RESULT_MAX);
    s->error = read_maybe(r, PGQRS_RESULT_MAX);
    r->failed = r->failed || kind >= PGQRS_STEP_KIND_COUNT ||
                (status != PGQRS_STEP_SUCCESS && status != PGQRS_STEP_ERROR);
    s->kind = (enum pgqrs_step_kind)kind;
    s->status = (enum pgqrs_step_status)status;
}

static void put_follow_up(struct pgqrs_buf *out, const struct pgqrs_follow_up *f)
{
    put_name(out, f->queue);
    pgqrs_buf_put_bytes(out, f->item.payload);
    pgqrs_buf_put_u64(out, (uint64_t)f->item.delay_ms);
    pgqrs_buf_put_u32(out, (uint32_t)f->item.priority);
}

static void read_follow_up(struct pgqrs_reader *r, struct pgqrs_follow_up *f)
{
    f->queue = pgqrs_read_text(r, PGQRS_NAME_MAX);
    f->item.payload = pgqrs_read_bytes(r, PGQRS_PAYLOAD_MAX);
    f->item.delay_ms = read_natural(r);
    f->item.priority = (int32_t)pgqrs_read_u32(r);
}

static void put_sql(struct pgqrs_buf *out, const struct pgqrs_step_sql *q)
{
    put_name(out, q->text);
    pgqrs_buf_put_u32(out, (uint32_t)q->param_count);
    for (size_t i = 0; i < q->param_count; i++) {
        put_maybe(out, q->params[i]);
    }
}

/* Parameters of all statements are in one array, which is as long as all of them. */
static void read_sql(struct pgqrs_reader *r, struct pgqrs_step_sql *q, struct pgqrs_job_flow *m,
                     size_t *used, size_t room)
{
    q->text = pgqrs_read_text(r, PGQRS_FLOW_SQL_BYTES_MAX);
    size_t count = pgqrs_read_u32(r);
    if (r->failed || count > PGQRS_FLOW_PARAMS_MAX || count > room - *used ||
        (count > 0 && m->params == NULL)) {
        r->failed = true;
        return;
    }
    q->param_count = count;
    if (m->params == NULL) {
        return; /* there are none */
    }
    q->params = m->params + *used;
    for (size_t i = 0; i < count; i++) {
        m->params[(*used)++] = read_maybe(r, PGQRS_FLOW_SQL_BYTES_MAX);
    }
}

void pgqrs_encode_job_flow(struct pgqrs_buf *out, const struct pgqrs_job_flow *m)
{
    const struct pgqrs_flow *item = &m->item;
    size_t params = 0;
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_JOB_FLOW);
    put_key(out, m->key);
    pgqrs_buf_put_u32(out, m->seq);
    pgqrs_buf_put_u8(out, m->what);
    pgqrs_buf_put_u64(out, (uint64_t)m->event_run);
    pgqrs_buf_put_u64(out, (uint64_t)m->times.waited_us);
    pgqrs_buf_put_u64(out, (uint64_t)m->times.ran_us);
    pgqrs_buf_put_u64(out, (uint64_t)item->delay_ms);
    pgqrs_buf_put_u8(out, item->paused ? 1 : 0);
    pgqrs_buf_put_u8(out, item->child ? 1 : 0);
    put_name(out, item->name);
    put_maybe(out, item->output);
    put_maybe(out, item->error);
    pgqrs_buf_put_u32(out, (uint32_t)item->step_count);
    for (size_t i = 0; i < item->step_count; i++) {
        put_step(out, &item->steps[i]);
    }
    pgqrs_buf_put_u32(out, (uint32_t)item->follow_up_count);
    for (size_t i = 0; i < item->follow_up_count; i++) {
        put_follow_up(out, &item->follow_ups[i]);
    }
    for (size_t i = 0; i < item->sql_count; i++) {
        params += item->sqls[i].param_count;
    }
    pgqrs_buf_put_u32(out, (uint32_t)params);
    pgqrs_buf_put_u32(out, (uint32_t)item->sql_count);
    for (size_t i = 0; i < item->sql_count; i++) {
        put_sql(out, &item->sqls[i]);
    }
    pgqrs_msg_end(out, start);
}

static void read_sqls(struct pgqrs_reader *r, struct pgqrs_job_flow *m)
{
    size_t used = 0;
    size_t params = pgqrs_read_u32(r);
    r->failed = r->failed || params > (size_t)PGQRS_FLOW_SQL_MAX * PGQRS_FLOW_PARAMS_MAX ||
                params > (size_t)(r->end - r->at);
    m->params = r->failed || params == 0 ? NULL : calloc(params, sizeof *m->params);
    r->failed = r->failed || (m->params == NULL && params > 0);
    m->sqls = read_list(r, SQL_SIZE, PGQRS_FLOW_SQL_MAX, sizeof *m->sqls, &m->item.sql_count);
    for (size_t i = 0; i < m->item.sql_count; i++) {
        read_sql(r, &m->sqls[i], m, &used, r->failed ? 0 : params);
    }
    r->failed = r->failed || used != params;
}

static bool is_known(const struct pgqrs_job_flow *m)
{
    return (m->what > PGQRS_FLOW_NONE && m->what < PGQRS_FLOW_COUNT) || m->what == PGQRS_ASK_OPEN ||
           m->what == PGQRS_ASK_EVENT;
}

/* What the store would refuse to be asked. */
static bool makes_sense(const struct pgqrs_job_flow *m)
{
    bool named = m->item.name != NULL && m->item.name[0] != 0;
    for (size_t i = 0; i < m->item.step_count; i++) {
        if (m->steps[i].name == NULL || m->steps[i].name[0] == 0) {
            return false;
        }
    }
    if (m->what == PGQRS_FLOW_STEP && m->item.step_count == 0) {
        return false;
    }
    bool is_step = m->what == PGQRS_FLOW_STEP;
    if ((m->item.child && (!is_step || m->item.follow_up_count == 0)) ||
        (m->item.sql_count > 0 && !is_step) ||
        (m->item.follow_up_count > 0 && !is_step && m->what != PGQRS_FLOW_SUCCESS)) {
        return false;
    }
    return (m->what != PGQRS_FLOW_STATE && m->what != PGQRS_ASK_EVENT) || named;
}

int pgqrs_decode_job_flow(const struct pgqrs_frame *f, struct pgqrs_job_flow *m,
                          struct pgqrs_error *err)
{
    struct pgqrs_reader r = pgqrs_reader_of(f->body, f->len);
    *m = (struct pgqrs_job_flow){.key = read_key(&r)};
    m->seq = pgqrs_read_u32(&r);
    m->what = pgqrs_read_u8(&r);
    m->event_run = read_natural(&r);
    m->times.waited_us = (int64_t)pgqrs_read_u64(&r);
    m->times.ran_us = (int64_t)pgqrs_read_u64(&r);
    m->item.delay_ms = read_delay(&r);
    m->item.paused = read_flag(&r) != 0;
    m->item.child = read_flag(&r) != 0;
    m->item.name = pgqrs_read_text(&r, PGQRS_EVENT_NAME_MAX);
    m->item.output = read_maybe(&r, PGQRS_RESULT_MAX);
    m->item.error = read_maybe(&r, PGQRS_RESULT_MAX);
    m->steps =
        read_list(&r, STEP_SIZE, PGQRS_FLOW_STEPS_MAX, sizeof *m->steps, &m->item.step_count);
    for (size_t i = 0; i < m->item.step_count; i++) {
        read_step(&r, &m->steps[i]);
    }
    m->follow_ups = read_list(&r, FOLLOW_SIZE, PGQRS_ENQUEUES_MAX, sizeof *m->follow_ups,
                              &m->item.follow_up_count);
    for (size_t i = 0; i < m->item.follow_up_count; i++) {
        read_follow_up(&r, &m->follow_ups[i]);
    }
    read_sqls(&r, m);
    r.failed = r.failed || !is_known(m) || !makes_sense(m);
    if (close_body(&r, f, err) < 0) {
        pgqrs_job_flow_fini(m);
        return -1;
    }
    m->item.what = m->what < PGQRS_FLOW_COUNT ? (enum pgqrs_flow_what)m->what : PGQRS_FLOW_NONE;
    m->item.steps = m->steps;
    m->item.follow_ups = m->follow_ups;
    m->item.sqls = m->sqls;
    m->item.name = m->item.name[0] == 0 ? NULL : m->item.name;
    return 0;
}

void pgqrs_job_flow_fini(struct pgqrs_job_flow *m)
{
    free(m->steps);
    free(m->follow_ups);
    free(m->sqls);
    free(m->params);
    m->steps = NULL;
    m->follow_ups = NULL;
    m->sqls = NULL;
    m->params = NULL;
}

bool pgqrs_job_flow_ends(uint8_t what)
{
    return what >= PGQRS_FLOW_SUCCESS && what < PGQRS_FLOW_COUNT;
}

/* ---- the answer ---- */

#define FLOWED_STEP_SIZE (TEXT_SIZE + 16)
#define EVENT_SIZE (2 * TEXT_SIZE)

static void put_flowed_step(struct pgqrs_buf *out, const struct pgqrs_flow_step *s)
{
    put_name(out, s->name);
    pgqrs_buf_put_u8(out, (uint8_t)s->kind);
    pgqrs_buf_put_u8(out, (uint8_t)s->status);
    pgqrs_buf_put_u32(out, (uint32_t)s->retry_count);
    pgqrs_buf_put_u64(out, (uint64_t)s->wait_ms);
    put_maybe(out, s->output);
    put_maybe(out, s->error);
}

static void read_flowed_step(struct pgqrs_reader *r, struct pgqrs_flow_step *s)
{
    /* A pgqrs client may have stored anything. */
    s->name = pgqrs_read_text(r, PGQRS_RUN_BYTES_MAX);
    uint8_t kind = pgqrs_read_u8(r);
    uint8_t status = pgqrs_read_u8(r);
    s->retry_count = (int32_t)pgqrs_read_u32(r);
    s->wait_ms = read_delay(r);
    s->output = read_maybe(r, PGQRS_RUN_BYTES_MAX);
    s->error = read_maybe(r, PGQRS_RUN_BYTES_MAX);
    r->failed = r->failed || kind >= PGQRS_STEP_KIND_COUNT || status >= PGQRS_STEP_STATUS_COUNT;
    s->kind = (enum pgqrs_step_kind)kind;
    s->status = (enum pgqrs_step_status)status;
}

void pgqrs_encode_job_flowed(struct pgqrs_buf *out, const struct pgqrs_job_flowed *m)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_JOB_FLOWED);
    put_key(out, m->key);
    pgqrs_buf_put_u32(out, m->seq);
    pgqrs_buf_put_u8(out, (uint8_t)m->verdict);
    pgqrs_buf_put_u8(out, (uint8_t)m->status);
    pgqrs_buf_put_u8(out, m->first ? 1 : 0);
    put_maybe(out, m->output);
    put_maybe(out, m->error);
    pgqrs_buf_put_u32(out, (uint32_t)m->step_count);
    for (size_t i = 0; i < m->step_count; i++) {
        put_flowed_step(out, &m->steps[i]);
    }
    pgqrs_buf_put_u32(out, (uint32_t)m->event_count);
    for (size_t i = 0; i < m->event_count; i++) {
        put_name(out, m->events[i].name);
        pgqrs_buf_put_bytes(out, m->events[i].payload);
    }
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_job_flowed(const struct pgqrs_frame *f, struct pgqrs_job_flowed *m,
                            struct pgqrs_error *err)
{
    struct pgqrs_reader r = pgqrs_reader_of(f->body, f->len);
    *m = (struct pgqrs_job_flowed){.key = read_key(&r)};
    m->seq = pgqrs_read_u32(&r);
    uint8_t verdict = pgqrs_read_u8(&r);
    uint8_t status = pgqrs_read_u8(&r);
    m->first = read_flag(&r) != 0;
    m->output = read_maybe(&r, PGQRS_RUN_BYTES_MAX);
    m->error = read_maybe(&r, PGQRS_RUN_BYTES_MAX);
    m->steps =
        read_list(&r, FLOWED_STEP_SIZE, PGQRS_RUN_STEPS_MAX, sizeof *m->steps, &m->step_count);
    for (size_t i = 0; i < m->step_count; i++) {
        read_flowed_step(&r, &m->steps[i]);
    }
    m->events = read_list(&r, EVENT_SIZE, PGQRS_RUN_STEPS_MAX, sizeof *m->events, &m->event_count);
    for (size_t i = 0; i < m->event_count; i++) {
        m->events[i].name = pgqrs_read_text(&r, PGQRS_RUN_BYTES_MAX);
        m->events[i].payload = pgqrs_read_bytes(&r, PGQRS_RUN_BYTES_MAX);
    }
    r.failed = r.failed || verdict < PGQRS_FLOWED_STORED || verdict > PGQRS_FLOWED_FAILED ||
               status >= PGQRS_RUN_STATUS_COUNT;
    if (close_body(&r, f, err) < 0) {
        pgqrs_job_flowed_fini(m);
        return -1;
    }
    m->verdict = (enum pgqrs_flow_verdict)verdict;
    m->status = (enum pgqrs_run_status)status;
    return 0;
}

void pgqrs_job_flowed_fini(struct pgqrs_job_flowed *m)
{
    free(m->steps);
    free(m->events);
    m->steps = NULL;
    m->events = NULL;
}
