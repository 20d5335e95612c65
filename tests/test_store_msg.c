/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of a store as messages: what goes in comes out, and nothing else is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "ipc/store_msg.h"
#include "tests/support/store_calls.h"

/* A copy of the exact size, so that the address sanitizer sees every byte too far. */
struct exact {
    uint8_t *body;
    struct pgqrs_frame frame;
};

static struct exact exact_of(const struct pgqrs_buf *buf, size_t len)
{
    struct exact e = {.body = malloc(len == 0 ? 1 : len)};
    assert_non_null(e.body);
    memcpy(e.body, buf->data + PGQRS_FRAME_HEADER, len);
    e.frame =
        (struct pgqrs_frame){.type = (enum pgqrs_msg_type)buf->data[4], .body = e.body, .len = len};
    return e;
}

static struct pgqrs_frame parse(const struct pgqrs_buf *buf)
{
    struct pgqrs_frame frame = {0};
    size_t used = 0;
    assert_false(buf->failed);
    const struct pgqrs_msg_desc *desc = &pgqrs_msg_descs[buf->data[4]];
    assert_int_equal(
        pgqrs_msg_parse(buf->data, buf->len, desc->from, desc->to, &frame, &used, NULL), 1);
    assert_int_equal(used, buf->len);
    return frame;
}

static void encode_call(struct pgqrs_buf *out, const struct pgqrs_store_call *m)
{
    struct pgqrs_error err;
    if (pgqrs_encode_store_call(out, m, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

static void encode_reply(struct pgqrs_buf *out, const struct pgqrs_store_reply *m)
{
    struct pgqrs_error err;
    if (pgqrs_encode_store_reply(out, m, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

static int decode(const struct pgqrs_frame *f)
{
    struct pgqrs_store_call call;
    struct pgqrs_store_reply reply;
    int rc;
    if (f->type == PGQRS_MSG_STORE_CALL) {
        rc = pgqrs_decode_store_call(f, &call, NULL);
        if (rc == 0) {
            pgqrs_store_call_fini(&call);
        }
    } else {
        rc = pgqrs_decode_store_reply(f, &reply, NULL);
        if (rc == 0) {
            pgqrs_store_reply_fini(&reply);
        }
    }
    return rc;
}

/* What is decoded and encoded again is the same. */
static void check_round_trip(const struct pgqrs_buf *buf)
{
    struct pgqrs_frame frame = parse(buf);
    struct pgqrs_buf again = {0};
    if (frame.type == PGQRS_MSG_STORE_CALL) {
        struct pgqrs_store_call call;
        assert_int_equal(pgqrs_decode_store_call(&frame, &call, NULL), 0);
        encode_call(&again, &call);
        pgqrs_store_call_fini(&call);
    } else {
        struct pgqrs_store_reply reply;
        assert_int_equal(pgqrs_decode_store_reply(&frame, &reply, NULL), 0);
        encode_reply(&again, &reply);
        pgqrs_store_reply_fini(&reply);
    }
    assert_int_equal(again.len, buf->len);
    assert_memory_equal(again.data, buf->data, buf->len);
    pgqrs_buf_fini(&again);
}

static void check_cut_and_grown(struct pgqrs_buf *buf)
{
    size_t whole = buf->len - PGQRS_FRAME_HEADER;
    pgqrs_buf_put_u8(buf, 0);
    for (size_t len = 0; len <= whole + 1; len++) {
        struct exact e = exact_of(buf, len);
        assert_int_equal(decode(&e.frame), len == whole ? 0 : -1);
        free(e.body);
    }
}

static void every_operation_round_trips(void **state)
{
    (void)state;
    for (int op = PGQRS_STORE_OP_NONE + 1; op < PGQRS_STORE_OP_COUNT; op++) {
        const struct pgqrs_store_call call = store_call_example((enum pgqrs_store_op)op);
        const struct pgqrs_store_reply reply = store_reply_example((enum pgqrs_store_op)op);
        const struct pgqrs_store_reply failed = {.number = 9,
                                                 .op = (enum pgqrs_store_op)op,
                                                 .rc = -1,
                                                 .err = {PGQRS_ERR_CONFLICT, 5, "no"}};
        assert_string_not_equal(pgqrs_store_op_name(call.op), "no operation");
        struct pgqrs_buf bufs[3] = {{0}};
        encode_call(&bufs[0], &call);
        encode_reply(&bufs[1], &reply);
        encode_reply(&bufs[2], &failed);
        for (size_t i = 0; i < 3; i++) {
            check_round_trip(&bufs[i]);
            check_cut_and_grown(&bufs[i]);
            pgqrs_buf_fini(&bufs[i]);
        }
    }
}

/* ---- the fields ---- */

#define same_text(a, b)                                                                            \
    do {                                                                                           \
        assert_int_equal((a) == NULL, (b) == NULL);                                                \
        if ((a) != NULL) {                                                                         \
            assert_string_equal(a, b);                                                             \
        }                                                                                          \
    } while (0)

static void same_bytes(struct pgqrs_bytes a, struct pgqrs_bytes b)
{
    assert_int_equal(a.len, b.len);
    if (a.len > 0) {
        assert_memory_equal(a.data, b.data, a.len);
        assert_int_equal(a.data[a.len], 0);
    }
}

static struct pgqrs_store_call call_back(struct pgqrs_buf *buf, enum pgqrs_store_op op)
{
    const struct pgqrs_store_call call = store_call_example(op);
    struct pgqrs_store_call back;
    pgqrs_buf_clear(buf);
    encode_call(buf, &call);
    struct pgqrs_frame frame = parse(buf);
    assert_int_equal(pgqrs_decode_store_call(&frame, &back, NULL), 0);
    assert_int_equal(back.number, call.number);
    assert_int_equal(back.op, op);
    return back;
}

static void same_item(const struct pgqrs_enqueue *a, const struct pgqrs_enqueue *b)
{
    same_bytes(a->payload, b->payload);
    assert_int_equal(a->delay_ms, b->delay_ms);
    assert_int_equal(a->at_us, b->at_us);
    assert_int_equal(a->priority, b->priority);
    same_text(a->unique_key, b->unique_key);
    assert_int_equal(a->producer_worker_id, b->producer_worker_id);
}

static void calls_of_producers_and_operators_keep_their_fields(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    struct pgqrs_store_call a = store_call_example(PGQRS_STORE_ENQUEUE);
    struct pgqrs_store_call b = call_back(&buf, PGQRS_STORE_ENQUEUE);
    assert_int_equal(b.u.enqueue.queue_id, a.u.enqueue.queue_id);
    assert_int_equal(b.u.enqueue.count, a.u.enqueue.count);
    for (size_t i = 0; i < a.u.enqueue.count; i++) {
        same_item(&b.u.enqueue.items[i], &a.u.enqueue.items[i]);
    }
    pgqrs_store_call_fini(&b);

    a = store_call_example(PGQRS_STORE_MESSAGE_LIST);
    b = call_back(&buf, PGQRS_STORE_MESSAGE_LIST);
    assert_int_equal(b.u.messages.queue_id, a.u.messages.queue_id);
    assert_int_equal(b.u.messages.state, a.u.messages.state);
    same_text(b.u.messages.outcome, a.u.messages.outcome);
    assert_int_equal(b.u.messages.consumer_worker_id, a.u.messages.consumer_worker_id);
    same_text(b.u.messages.unique_key, a.u.messages.unique_key);
    assert_int_equal(b.u.messages.before_id, a.u.messages.before_id);
    assert_int_equal(b.u.messages.limit, a.u.messages.limit);
    pgqrs_store_call_fini(&b);

    a = store_call_example(PGQRS_STORE_MESSAGE_ACT);
    b = call_back(&buf, PGQRS_STORE_MESSAGE_ACT);
    assert_int_equal(b.u.act.act, a.u.act.act);
    assert_int_equal(b.u.act.count, a.u.act.count);
    assert_memory_equal(b.u.act.ids, a.u.act.ids, a.u.act.count * sizeof *a.u.act.ids);
    pgqrs_store_call_fini(&b);

    a = store_call_example(PGQRS_STORE_PRUNE);
    b = call_back(&buf, PGQRS_STORE_PRUNE);
    assert_int_equal(b.u.prune.queue_id, a.u.prune.queue_id);
    assert_int_equal(b.u.prune.what, a.u.prune.what);
    assert_int_equal(b.u.prune.age_ms, a.u.prune.age_ms);
    assert_int_equal(b.u.prune.limit, a.u.prune.limit);
    assert_int_equal(b.u.prune.from_us, a.u.prune.from_us);
    assert_int_equal(b.u.prune.from_id, a.u.prune.from_id);
    pgqrs_store_call_fini(&b);
    pgqrs_buf_fini(&buf);
}

static void calls_about_workers_keep_their_fields(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    struct pgqrs_store_call a = store_call_example(PGQRS_STORE_WORKER_REGISTER);
    struct pgqrs_store_call b = call_back(&buf, PGQRS_STORE_WORKER_REGISTER);
    same_text(b.u.worker.name, a.u.worker.name);
    assert_int_equal(b.u.worker.queue_id, a.u.worker.queue_id);
    same_text(b.u.worker.instance, a.u.worker.instance);
    assert_int_equal(b.u.worker.generation, a.u.worker.generation);
    assert_int_equal(b.u.worker.pid, a.u.worker.pid);
    assert_int_equal(b.u.worker.stale_ms, a.u.worker.stale_ms);
    pgqrs_store_call_fini(&b);

    a = store_call_example(PGQRS_STORE_WORKER_END);
    b = call_back(&buf, PGQRS_STORE_WORKER_END);
    assert_int_equal(b.u.end.worker_id, a.u.end.worker_id);
    assert_true(b.u.end.release.charge && b.u.end.release.crashed);
    assert_int_equal(b.u.end.release.max_attempts, a.u.end.release.max_attempts);
    same_text(b.u.end.release.reason, a.u.end.release.reason);
    pgqrs_store_call_fini(&b);

    a = store_call_example(PGQRS_STORE_WORKER_LIST);
    b = call_back(&buf, PGQRS_STORE_WORKER_LIST);
    assert_int_equal(b.u.workers.id, a.u.workers.id);
    assert_int_equal(b.u.workers.queue_id, a.u.workers.queue_id);
    assert_int_equal(b.u.workers.state, a.u.workers.state);
    same_text(b.u.workers.name_prefix, a.u.workers.name_prefix);
    assert_true(b.u.workers.live && b.u.workers.ours);
    assert_int_equal(b.u.workers.before_id, a.u.workers.before_id);
    assert_int_equal(b.u.workers.limit, a.u.workers.limit);
    pgqrs_store_call_fini(&b);

    a = store_call_example(PGQRS_STORE_RENEW);
    b = call_back(&buf, PGQRS_STORE_RENEW);
    assert_int_equal(b.u.renew.count, a.u.renew.count);
    assert_int_equal(b.u.renew.lease_ms, a.u.renew.lease_ms);
    for (size_t i = 0; i < a.u.renew.count; i++) {
        assert_int_equal(b.u.renew.leases[i].message_id, a.u.renew.leases[i].message_id);
        assert_int_equal(b.u.renew.leases[i].worker_id, a.u.renew.leases[i].worker_id);
        assert_int_equal(b.u.renew.leases[i].attempt, a.u.renew.leases[i].attempt);
    }
    pgqrs_store_call_fini(&b);
    pgqrs_buf_fini(&buf);
}

static void an_exchange_keeps_its_fields(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    struct pgqrs_store_call a = store_call_example(PGQRS_STORE_EXCHANGE);
    struct pgqrs_store_call b = call_back(&buf, PGQRS_STORE_EXCHANGE);
    assert_int_equal(b.u.exchange.settlement_count, a.u.exchange.settlement_count);
    for (size_t i = 0; i < a.u.exchange.settlement_count; i++) {
        const struct pgqrs_settlement *x = &a.u.exchange.settlements[i];
        const struct pgqrs_settlement *y = &b.u.exchange.settlements[i];
        assert_int_equal(y->message_id, x->message_id);
        assert_int_equal(y->worker_id, x->worker_id);
        assert_int_equal(y->attempt, x->attempt);
        assert_int_equal(y->how, x->how);
        assert_int_equal(y->crashed, x->crashed);
        assert_int_equal(y->delay_ms, x->delay_ms);
        same_bytes(y->error, x->error);
        same_bytes(y->result, x->result);
        assert_int_equal(y->follow_up_count, x->follow_up_count);
        for (size_t k = 0; k < x->follow_up_count; k++) {
            same_text(y->follow_ups[k].queue, x->follow_ups[k].queue);
            same_item(&y->follow_ups[k].item, &x->follow_ups[k].item);
        }
    }
    assert_int_equal(b.u.exchange.want_count, a.u.exchange.want_count);
    assert_int_equal(b.u.exchange.wants->queue_id, a.u.exchange.wants->queue_id);
    assert_int_equal(b.u.exchange.wants->worker_id, a.u.exchange.wants->worker_id);
    assert_int_equal(b.u.exchange.wants->count, a.u.exchange.wants->count);
    assert_int_equal(b.u.exchange.wants->max_attempts, a.u.exchange.wants->max_attempts);
    assert_int_equal(b.u.exchange.wants->lease_ms, a.u.exchange.wants->lease_ms);
    pgqrs_store_call_fini(&b);
    pgqrs_buf_fini(&buf);
}

static struct pgqrs_store_reply reply_back(struct pgqrs_buf *buf, enum pgqrs_store_op op)
{
    const struct pgqrs_store_reply reply = store_reply_example(op);
    struct pgqrs_store_reply back;
    pgqrs_buf_clear(buf);
    encode_reply(buf, &reply);
    struct pgqrs_frame frame = parse(buf);
    assert_int_equal(pgqrs_decode_store_reply(&frame, &back, NULL), 0);
    assert_int_equal(back.number, reply.number);
    assert_int_equal(back.op, op);
    assert_int_equal(back.rc, reply.rc);
    return back;
}

static void lists_of_a_reply_keep_their_fields(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    struct pgqrs_store_reply a = store_reply_example(PGQRS_STORE_QUEUE_LIST);
    struct pgqrs_store_reply b = reply_back(&buf, PGQRS_STORE_QUEUE_LIST);
    assert_int_equal(b.u.queues.count, a.u.queues.count);
    for (size_t i = 0; i < a.u.queues.count; i++) {
        assert_int_equal(b.u.queues.items[i].id, a.u.queues.items[i].id);
        same_text(b.u.queues.items[i].name, a.u.queues.items[i].name);
        assert_int_equal(b.u.queues.items[i].created_at_us, a.u.queues.items[i].created_at_us);
        assert_int_equal(b.u.queues.items[i].paused_at_us, a.u.queues.items[i].paused_at_us);
    }
    pgqrs_store_reply_fini(&b);

    a = store_reply_example(PGQRS_STORE_WORKER_LIST);
    b = reply_back(&buf, PGQRS_STORE_WORKER_LIST);
    assert_int_equal(b.u.workers.count, a.u.workers.count);
    assert_int_equal(b.u.workers.now_us, a.u.workers.now_us);
    for (size_t i = 0; i < a.u.workers.count; i++) {
        struct pgqrs_worker_info x = a.u.workers.items[i];
        struct pgqrs_worker_info y = b.u.workers.items[i];
        same_text(y.name, x.name);
        same_text(y.instance, x.instance);
        assert_int_equal(y.state, x.state);
        assert_int_equal(y.held, x.held);
        assert_int_equal(y.pid, x.pid);
        assert_int_equal(y.generation, x.generation);
        assert_int_equal(y.id, x.id);
        assert_int_equal(y.queue_id, x.queue_id);
        assert_int_equal(y.started_at_us, x.started_at_us);
        assert_int_equal(y.heartbeat_at_us, x.heartbeat_at_us);
        assert_int_equal(y.shutdown_at_us, x.shutdown_at_us);
    }
    pgqrs_store_reply_fini(&b);

    a = store_reply_example(PGQRS_STORE_EXCHANGE);
    b = reply_back(&buf, PGQRS_STORE_EXCHANGE);
    assert_int_equal(b.u.exchange.settled_count, a.u.exchange.settled_count);
    assert_memory_equal(b.u.exchange.settled, a.u.exchange.settled,
                        a.u.exchange.settled_count * sizeof *a.u.exchange.settled);
    assert_int_equal(b.u.exchange.next_due_us, a.u.exchange.next_due_us);
    assert_int_equal(b.u.exchange.now_us, a.u.exchange.now_us);
    assert_int_equal(b.u.exchange.lease_count, a.u.exchange.lease_count);
    for (size_t i = 0; i < a.u.exchange.lease_count; i++) {
        const struct pgqrs_lease *x = &a.u.exchange.leases[i];
        const struct pgqrs_lease *y = &b.u.exchange.leases[i];
        assert_int_equal(y->want, x->want);
        assert_int_equal(y->message_id, x->message_id);
        assert_int_equal(y->attempt, x->attempt);
        assert_int_equal(y->priority, x->priority);
        assert_int_equal(y->enqueued_at_us, x->enqueued_at_us);
        assert_int_equal(y->waited_us, x->waited_us);
        same_bytes(y->payload, x->payload);
    }
    pgqrs_store_reply_fini(&b);
    pgqrs_buf_fini(&buf);
}

static void numbers_of_a_reply_keep_their_fields(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    struct pgqrs_store_reply a = store_reply_example(PGQRS_STORE_QUEUE_METRICS);
    struct pgqrs_store_reply b = reply_back(&buf, PGQRS_STORE_QUEUE_METRICS);
    assert_memory_equal(&b.u.metrics, &a.u.metrics, sizeof a.u.metrics);

    a = store_reply_example(PGQRS_STORE_WORKER_STATS);
    b = reply_back(&buf, PGQRS_STORE_WORKER_STATS);
    assert_memory_equal(&b.u.stats, &a.u.stats, sizeof a.u.stats);

    a = store_reply_example(PGQRS_STORE_INFO);
    b = reply_back(&buf, PGQRS_STORE_INFO);
    assert_int_equal(b.u.info.queues, a.u.info.queues);
    assert_int_equal(b.u.info.paused_queues, a.u.info.paused_queues);
    assert_int_equal(b.u.info.workflows, a.u.info.workflows);
    assert_int_equal(b.u.info.schema_version, a.u.info.schema_version);
    same_text(b.u.info.pgqrs_schema, a.u.info.pgqrs_schema);
    assert_string_equal(b.u.info.server, a.u.info.server);

    a = store_reply_example(PGQRS_STORE_MESSAGE_GET);
    b = reply_back(&buf, PGQRS_STORE_MESSAGE_GET);
    same_text(b.u.message.payload, a.u.message.payload);
    same_text(b.u.message.unique_key, a.u.message.unique_key);
    same_text(b.u.message.outcome, a.u.message.outcome);
    same_text(b.u.message.result, a.u.message.result);
    same_text(b.u.message.error, a.u.message.error);
    assert_int_equal(b.u.message.state, a.u.message.state);
    assert_memory_equal(&b.u.message.enqueued_at_us, &a.u.message.enqueued_at_us,
                        offsetof(struct pgqrs_message, crash_ct) + sizeof a.u.message.crash_ct -
                            offsetof(struct pgqrs_message, enqueued_at_us));
    pgqrs_store_reply_fini(&b);
    pgqrs_buf_fini(&buf);
}

static void a_failure_keeps_code_errno_and_text(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    for (int code = PGQRS_ERR_NONE + 1; code < PGQRS_ERR_COUNT; code++) {
        const struct pgqrs_store_reply a = {
            .op = PGQRS_STORE_PRUNE, .rc = -1, .err = {(enum pgqrs_err)code, 28, "disk full"}};
        struct pgqrs_store_reply b;
        pgqrs_buf_clear(&buf);
        encode_reply(&buf, &a);
        struct pgqrs_frame frame = parse(&buf);
        assert_int_equal(pgqrs_decode_store_reply(&frame, &b, NULL), 0);
        assert_int_equal(b.rc, -1);
        assert_int_equal(b.err.code, code);
        assert_int_equal(b.err.sys_errno, 28);
        assert_string_equal(b.err.text, "disk full");
        pgqrs_store_reply_fini(&b);
    }
    pgqrs_buf_fini(&buf);
}

/* ---- bounds ---- */

static void refused_whole(const struct pgqrs_store_call *call, const char *text)
{
    struct pgqrs_buf buf = {0};
    struct pgqrs_error err = {0};
    pgqrs_buf_put_u8(&buf, 42); /* what was there before stays, alone */
    assert_int_equal(pgqrs_encode_store_call(&buf, call, &err), -1);
    assert_int_equal(err.code, PGQRS_ERR_INVALID);
    if (strstr(err.text, text) == NULL) {
        fail_msg("found \"%s\", expected \"%s\"", err.text, text);
    }
    assert_int_equal(buf.len, 1);
    assert_false(buf.failed);
    pgqrs_buf_fini(&buf);
}

static void what_no_message_can_hold_is_refused_by_the_sender(void **state)
{
    (void)state;
    static int64_t ids[PGQRS_STORE_LIST_MAX + 1];
    struct pgqrs_store_call call = {.op = PGQRS_STORE_WORKER_BEAT,
                                    .u.beat = {.ids = ids, .count = PGQRS_STORE_LIST_MAX + 1}};
    refused_whole(&call, "worker beat through a broker: found 1001 items, expected at most 1000");

    call = (struct pgqrs_store_call){.op = PGQRS_STORE_ENQUEUE,
                                     .u.enqueue = {.count = PGQRS_STORE_ENQUEUE_MAX + 1}};
    refused_whole(&call, "enqueue through a broker: found 10001 items, expected at most 10000");

    struct pgqrs_want wants[2] = {{.count = 600}, {.count = 401}};
    call = (struct pgqrs_store_call){.op = PGQRS_STORE_EXCHANGE,
                                     .u.exchange = {.wants = wants, .want_count = 2}};
    refused_whole(&call, "found 1001 leases wanted");

    char *large = calloc(1, PGQRS_BODY_MAX);
    assert_non_null(large);
    memset(large, '1', PGQRS_BODY_MAX - 1);
    call = (struct pgqrs_store_call){.op = PGQRS_STORE_QUEUE_FIND, .u.name = large};
    refused_whole(&call, "expected at most 65536");

    struct pgqrs_enqueue items[4];
    for (size_t i = 0; i < 4; i++) {
        items[i] = (struct pgqrs_enqueue){.payload = {large, PGQRS_BODY_MAX / 4}};
    }
    call = (struct pgqrs_store_call){.op = PGQRS_STORE_ENQUEUE,
                                     .u.enqueue = {.items = items, .count = 4}};
    refused_whole(&call, "found more than 16777216 bytes in one message");
    call.u.enqueue.count = 3;
    struct pgqrs_buf buf = {0};
    encode_call(&buf, &call);
    (void)parse(&buf); /* asserts by itself */
    pgqrs_buf_fini(&buf);
    free(large);
}

static void put_list(struct pgqrs_buf *buf, enum pgqrs_store_op op, uint32_t count)
{
    pgqrs_buf_clear(buf);
    size_t start = pgqrs_msg_begin(buf, PGQRS_MSG_STORE_CALL);
    pgqrs_buf_put_u64(buf, 1);
    pgqrs_buf_put_u8(buf, (uint8_t)op);
    pgqrs_buf_put_u32(buf, count);
    for (uint32_t i = 0; i < 1001; i++) {
        pgqrs_buf_put_u64(buf, i);
    }
    pgqrs_msg_end(buf, start);
}

static void counts_that_lie_are_refused(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    const uint32_t counts[] = {0, 1000, 1001, 1002, 0x20000000, UINT32_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        put_list(&buf, PGQRS_STORE_WORKER_BEAT, counts[i]);
        struct pgqrs_frame frame = parse(&buf);
        assert_int_equal(decode(&frame), -1);
        frame.len = 13 + (size_t)1000 * 8; /* what a list of 1000 takes */
        assert_int_equal(decode(&frame), counts[i] == 1000 ? 0 : -1);
    }
    pgqrs_buf_fini(&buf);
}

static void kinds_that_are_none_are_refused(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    const uint8_t ops[] = {PGQRS_STORE_OP_NONE, PGQRS_STORE_OP_COUNT, 255};
    for (size_t i = 0; i < sizeof ops; i++) {
        pgqrs_buf_clear(&buf);
        const struct pgqrs_store_call call = store_call_example(PGQRS_STORE_INSTALL);
        encode_call(&buf, &call);
        buf.data[PGQRS_FRAME_HEADER + 8] = ops[i];
        struct pgqrs_frame frame = parse(&buf);
        assert_int_equal(decode(&frame), -1);
    }
    const struct pgqrs_store_call none = {.op = PGQRS_STORE_OP_NONE};
    refused_whole(&none, "found no operation");
    pgqrs_buf_clear(&buf);
    const struct pgqrs_store_call pause = store_call_example(PGQRS_STORE_QUEUE_PAUSE);
    encode_call(&buf, &pause);
    buf.data[buf.len - 1] = 2; /* neither paused nor not */
    struct pgqrs_frame frame = parse(&buf);
    assert_int_equal(decode(&frame), -1);
    pgqrs_buf_fini(&buf);
}

static void changed_bytes_never_harm(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    struct pgqrs_buf buf = {0};
    for (int round = 0; round < 60000; round++) {
        enum pgqrs_store_op op = (enum pgqrs_store_op)(1 + round / 2 % (PGQRS_STORE_OP_COUNT - 1));
        pgqrs_buf_clear(&buf);
        if (round % 2 == 0) {
            const struct pgqrs_store_call call = store_call_example(op);
            encode_call(&buf, &call);
        } else {
            const struct pgqrs_store_reply reply = store_reply_example(op);
            encode_reply(&buf, &reply);
        }
        for (int changes = 1 + rand() % 4; changes > 0; changes--) {
            size_t at =
                PGQRS_FRAME_HEADER + 8 + (size_t)rand() % (buf.len - PGQRS_FRAME_HEADER - 8);
            buf.data[at] = (uint8_t)rand();
        }
        struct exact e = exact_of(&buf, buf.len - PGQRS_FRAME_HEADER);
        (void)decode(&e.frame); /* either answer is right; nothing else may happen */
        free(e.body);
    }
    pgqrs_buf_fini(&buf);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(every_operation_round_trips),
        cmocka_unit_test(calls_of_producers_and_operators_keep_their_fields),
        cmocka_unit_test(calls_about_workers_keep_their_fields),
        cmocka_unit_test(an_exchange_keeps_its_fields),
        cmocka_unit_test(lists_of_a_reply_keep_their_fields),
        cmocka_unit_test(numbers_of_a_reply_keep_their_fields),
        cmocka_unit_test(a_failure_keeps_code_errno_and_text),
        cmocka_unit_test(what_no_message_can_hold_is_refused_by_the_sender),
        cmocka_unit_test(counts_that_lie_are_refused),
        cmocka_unit_test(kinds_that_are_none_are_refused),
        cmocka_unit_test(changed_bytes_never_harm),
    };
    return cmocka_run_group_tests_name("store messages", cases, NULL, NULL);
}
