/* SPDX-License-Identifier: Apache-2.0 */
/* The messages: what goes in comes out, and nothing but a whole, valid message is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/log.h"
#include "ipc/msg.h"
#include "ipc/msg_flow.h"
#include "ipc/store_msg.h"

static struct pgqrs_frame parse(const struct pgqrs_buf *buf)
{
    struct pgqrs_frame frame = {0};
    size_t used = 0;
    struct pgqrs_error err = {0};
    assert_false(buf->failed);
    const struct pgqrs_msg_desc *desc = &pgqrs_msg_descs[buf->data[4]];
    int got = pgqrs_msg_parse(buf->data, buf->len, desc->from, desc->to, &frame, &used, &err);
    if (got != 1) {
        print_error("%s\n", err.text);
    }
    assert_int_equal(got, 1);
    assert_int_equal(used, buf->len);
    return frame;
}

/* Decodes a frame by its type; what a process does with bytes it got. */
static int decode_any(const struct pgqrs_frame *f)
{
    struct pgqrs_error err;
    int rc = -1;
    switch (f->type) {
    case PGQRS_MSG_CHILD_HELLO: {
        struct pgqrs_child_hello m;
        return pgqrs_decode_child_hello(f, &m, &err);
    }
    case PGQRS_MSG_REFUSE: {
        const char *why;
        return pgqrs_decode_refuse(f, &why, &err);
    }
    case PGQRS_MSG_BROKER_WELCOME: {
        struct pgqrs_broker_welcome m;
        rc = pgqrs_decode_broker_welcome(f, &m, &err);
        if (rc == 0) {
            pgqrs_broker_welcome_fini(&m);
        }
        return rc;
    }
    case PGQRS_MSG_WORKER_WELCOME: {
        struct pgqrs_worker_welcome m;
        return pgqrs_decode_worker_welcome(f, &m, &err);
    }
    case PGQRS_MSG_CHILD_BEAT: {
        struct pgqrs_child_beat m;
        return pgqrs_decode_child_beat(f, &m, &err);
    }
    case PGQRS_MSG_WORKER_CANCEL: {
        int64_t id;
        return pgqrs_decode_worker_cancel(f, &id, &err);
    }
    case PGQRS_MSG_WORKER_STARTED: {
        struct pgqrs_worker_started m;
        return pgqrs_decode_worker_started(f, &m, &err);
    }
    case PGQRS_MSG_WORKER_ENDED: {
        struct pgqrs_worker_ended m;
        return pgqrs_decode_worker_ended(f, &m, &err);
    }
    case PGQRS_MSG_ORDER:
    case PGQRS_MSG_WORKER_ORDER: {
        struct pgqrs_order m;
        return pgqrs_decode_order(f, &m, &err);
    }
    case PGQRS_MSG_COMPLAINT: {
        struct pgqrs_complaint m;
        return pgqrs_decode_complaint(f, &m, &err);
    }
    case PGQRS_MSG_JOB_HELLO: {
        struct pgqrs_job_hello m;
        rc = pgqrs_decode_job_hello(f, &m, &err);
        if (rc == 0) {
            pgqrs_job_hello_fini(&m);
        }
        return rc;
    }
    case PGQRS_MSG_JOB_WELCOME: {
        int64_t id;
        return pgqrs_decode_job_welcome(f, &id, &err);
    }
    case PGQRS_MSG_BROKER_QUEUES: {
        struct pgqrs_queue_settings *queues = NULL;
        uint32_t serial;
        size_t count;
        rc = pgqrs_decode_broker_queues(f, &serial, &queues, &count, &err);
        free(queues);
        return rc;
    }
    case PGQRS_MSG_BROKER_SCHEDULES: {
        struct pgqrs_broker_schedules m;
        rc = pgqrs_decode_broker_schedules(f, &m, &err);
        free(m.items);
        return rc;
    }
    case PGQRS_MSG_QUEUES_KNOWN: {
        uint32_t serial;
        return pgqrs_decode_queues_known(f, &serial, &err);
    }
    case PGQRS_MSG_QUEUE_LOAD: {
        struct pgqrs_queue_load m;
        return pgqrs_decode_queue_load(f, &m, &err);
    }
    case PGQRS_MSG_JOB_FLOW: {
        struct pgqrs_job_flow m;
        rc = pgqrs_decode_job_flow(f, &m, &err);
        if (rc == 0) {
            pgqrs_job_flow_fini(&m);
        }
        return rc;
    }
    case PGQRS_MSG_JOB_FLOWED: {
        struct pgqrs_job_flowed m;
        rc = pgqrs_decode_job_flowed(f, &m, &err);
        if (rc == 0) {
            pgqrs_job_flowed_fini(&m);
        }
        return rc;
    }
    case PGQRS_MSG_CLIENT_WATCH: {
        uint64_t known;
        return pgqrs_decode_client_watch(f, &known, &err);
    }
    case PGQRS_MSG_CLIENT_WAKE: {
        uint64_t number;
        return pgqrs_decode_client_wake(f, &number, &err);
    }
    case PGQRS_MSG_TALLY: {
        struct pgqrs_tally m;
        return pgqrs_decode_tally(f, &m, &err);
    }
    case PGQRS_MSG_GATEWAY_WELCOME: {
        struct pgqrs_gateway_welcome m;
        return pgqrs_decode_gateway_welcome(f, &m, &err);
    }
    case PGQRS_MSG_RUN_ENDED: {
        struct pgqrs_run_ended m;
        return pgqrs_decode_run_ended(f, &m, &err);
    }
    case PGQRS_MSG_LOG_LEVEL: {
        uint8_t level;
        return pgqrs_decode_log_level(f, &level, &err);
    }
    case PGQRS_MSG_JOB_CAPACITY: {
        uint32_t n;
        return pgqrs_decode_job_capacity(f, &n, &err);
    }
    case PGQRS_MSG_JOB_LEASES: {
        struct pgqrs_job_list list = pgqrs_job_list_of(f);
        struct pgqrs_job_lease m;
        while ((rc = pgqrs_next_job_lease(&list, &m, &err)) > 0) {
        }
        return rc;
    }
    case PGQRS_MSG_JOB_SETTLED: {
        struct pgqrs_job_list list = pgqrs_job_list_of(f);
        struct pgqrs_job_settled m;
        while ((rc = pgqrs_next_job_settled(&list, &m, &err)) > 0) {
        }
        return rc;
    }
    case PGQRS_MSG_JOB_RESULTS: {
        struct pgqrs_job_list list = pgqrs_job_list_of(f);
        struct pgqrs_job_result m;
        while ((rc = pgqrs_next_job_result(&list, &m, &err)) > 0) {
            pgqrs_job_result_fini(&m);
        }
        return rc;
    }
    case PGQRS_MSG_CLIENT_HELLO: {
        struct pgqrs_client_hello m;
        return pgqrs_decode_client_hello(f, &m, &err);
    }
    case PGQRS_MSG_CLIENT_WELCOME: {
        struct pgqrs_client_welcome m;
        return pgqrs_decode_client_welcome(f, &m, &err);
    }
    case PGQRS_MSG_STORE_CALL: {
        struct pgqrs_store_call m;
        rc = pgqrs_decode_store_call(f, &m, &err);
        if (rc == 0) {
            pgqrs_store_call_fini(&m);
        }
        return rc;
    }
    case PGQRS_MSG_STORE_REPLY: {
        struct pgqrs_store_reply m;
        rc = pgqrs_decode_store_reply(f, &m, &err);
        if (rc == 0) {
            pgqrs_store_reply_fini(&m);
        }
        return rc;
    }
    case PGQRS_MSG_NONE:
    case PGQRS_MSG_CHILD_READY:
    case PGQRS_MSG_CHILD_DRAIN:
    case PGQRS_MSG_BROKER_STOP:
    case PGQRS_MSG_GATEWAY_LOOK:
    case PGQRS_MSG_COUNT:
        break;
    }
    return f->len == 0 ? 0 : -1;
}

static const struct pgqrs_worker_started a_worker = {
    .generation = 7, .slot = 3, .pid = 4711, .queue = "mail", .token = "0123456789abcde"};

static const struct pgqrs_step_put two_steps[] = {
    {.name = "slept", .kind = PGQRS_STEP_SLEEP, .status = PGQRS_STEP_SUCCESS, .retry_ms = -1},
    {.name = "charge",
     .status = PGQRS_STEP_ERROR,
     .output = {"1", 1},
     .error = {"{}", 2},
     .retry_ms = 700,
     .retried = true,
     .took_ms = 3}};
static const struct pgqrs_follow_up a_follow_up = {
    .queue = "next", .item = {.payload = {"[]", 2}, .delay_ms = 4, .priority = -2}};
static const struct pgqrs_bytes three_params[] = {{"a", 1}, {NULL, 0}, {"", 0}};
static const struct pgqrs_step_sql two_sqls[] = {
    {.text = "SELECT 1", .params = three_params, .param_count = 2},
    {.text = "SELECT 2", .params = three_params + 2, .param_count = 1}};
static const struct pgqrs_job_flow a_flow = {.key = {5, 3, 1},
                                             .seq = 9,
                                             .what = PGQRS_FLOW_STEP,
                                             .item = {.name = "ev",
                                                      .output = {"true", 4},
                                                      .delay_ms = -1,
                                                      .child = true,
                                                      .steps = two_steps,
                                                      .step_count = 2,
                                                      .follow_ups = &a_follow_up,
                                                      .follow_up_count = 1,
                                                      .sqls = two_sqls,
                                                      .sql_count = 2}};
static struct pgqrs_flow_step a_flow_step = {.name = "charge",
                                             .kind = PGQRS_STEP_EVENT,
                                             .status = PGQRS_STEP_ERROR,
                                             .error = {"{}", 2},
                                             .retry_count = 2,
                                             .wait_ms = -1};
static struct pgqrs_flow_event a_flow_event = {.name = "go", .payload = {"7", 1}};
static const struct pgqrs_job_flowed a_flowed = {.key = {5, 3, 1},
                                                 .seq = 9,
                                                 .verdict = PGQRS_FLOWED_STORED,
                                                 .status = PGQRS_RUN_CANCELLING,
                                                 .first = true,
                                                 .output = {"null", 4},
                                                 .steps = &a_flow_step,
                                                 .step_count = 1,
                                                 .events = &a_flow_event,
                                                 .event_count = 1};

/* One message of each type, for the tests that cut and change bytes. */
static void encode_example(struct pgqrs_buf *out, enum pgqrs_msg_type type)
{
    struct pgqrs_schedule_settings schedule = {.put = {.name = "nightly",
                                                       .queue = "mail",
                                                       .cron = "@daily",
                                                       .zone = "UTC",
                                                       .payload = {"{}", 2},
                                                       .priority = -1},
                                               .workflow = 1};
    struct pgqrs_queue_settings queue = {
        .name = "mail", .max_attempts = 5, .retry_strategy = 2, .load_max = 9, .paused = 1};
    struct pgqrs_worker_started worker = a_worker;
    struct pgqrs_job_key held[] = {{1, 1, 0}, {2, 3, 0}};
    struct pgqrs_job_enqueue follow[] = {
        {.queue = "next", .payload = {"{}", 2}, .delay_ms = 5, .priority = -1}};
    size_t start;
    switch (type) {
    case PGQRS_MSG_CHILD_HELLO:
        pgqrs_encode_child_hello(out, &(struct pgqrs_child_hello){.version = "1", .role = 2});
        break;
    case PGQRS_MSG_REFUSE:
        pgqrs_encode_refuse(out, "no");
        break;
    case PGQRS_MSG_BROKER_WELCOME:
        pgqrs_encode_broker_welcome(out, &(struct pgqrs_broker_welcome){.instance = "i",
                                                                        .dsn = "sqlite:x",
                                                                        .queues = &queue,
                                                                        .queue_count = 1,
                                                                        .workers = &worker,
                                                                        .worker_count = 1});
        break;
    case PGQRS_MSG_WORKER_WELCOME:
        pgqrs_encode_worker_welcome(out,
                                    &(struct pgqrs_worker_welcome){.queue = "mail",
                                                                   .handler = "/h.so",
                                                                   .settings = "{}",
                                                                   .job_socket = "/s",
                                                                   .prefetch = 8,
                                                                   .isolation = {.uid = 9,
                                                                                 .directory = "/d",
                                                                                 .nice = 19,
                                                                                 .core = 1,
                                                                                 .limit_core = 1,
                                                                                 .seccomp = 1}});
        break;
    case PGQRS_MSG_CHILD_BEAT:
        pgqrs_encode_child_beat(out, &(struct pgqrs_child_beat){.job_id = 1, .job_ms = 2});
        break;
    case PGQRS_MSG_WORKER_CANCEL:
        pgqrs_encode_worker_cancel(out, 9);
        break;
    case PGQRS_MSG_WORKER_STARTED:
        pgqrs_encode_worker_started(out, &a_worker);
        break;
    case PGQRS_MSG_WORKER_ENDED:
        pgqrs_encode_worker_ended(out, &(struct pgqrs_worker_ended){.generation = 1,
                                                                    .how = PGQRS_END_KILLED,
                                                                    .reason = "gone"});
        break;
    case PGQRS_MSG_ORDER:
    case PGQRS_MSG_WORKER_ORDER:
        pgqrs_encode_order(out, type,
                           &(struct pgqrs_order){.generation = 1,
                                                 .kind = PGQRS_ORDER_CANCEL,
                                                 .key = {.id = 2, .attempt = 3}});
        break;
    case PGQRS_MSG_BROKER_QUEUES:
        pgqrs_encode_broker_queues(out, 7, &queue, 1);
        break;
    case PGQRS_MSG_BROKER_SCHEDULES:
        pgqrs_encode_broker_schedules(out, &(struct pgqrs_broker_schedules){
                                               .config = "pgqrsd", .items = &schedule, .count = 1});
        break;
    case PGQRS_MSG_QUEUES_KNOWN:
        pgqrs_encode_queues_known(out, 7);
        break;
    case PGQRS_MSG_QUEUE_LOAD:
        pgqrs_encode_queue_load(out, &(struct pgqrs_queue_load){.queue = "mail", .ready = 3});
        break;
    case PGQRS_MSG_JOB_FLOW:
        pgqrs_encode_job_flow(out, &a_flow);
        break;
    case PGQRS_MSG_JOB_FLOWED:
        pgqrs_encode_job_flowed(out, &a_flowed);
        break;
    case PGQRS_MSG_CLIENT_WATCH:
        pgqrs_encode_client_watch(out, 7);
        break;
    case PGQRS_MSG_CLIENT_WAKE:
        pgqrs_encode_client_wake(out, 8);
        break;
    case PGQRS_MSG_TALLY:
        pgqrs_encode_tally(out, &(struct pgqrs_tally){.trouble_ms = 7});
        break;
    case PGQRS_MSG_GATEWAY_WELCOME:
        pgqrs_encode_gateway_welcome(out, &(struct pgqrs_gateway_welcome){.job_socket = "/run/jobs",
                                                                          .ctl_socket = "/run/ctl",
                                                                          .heartbeat_ms = 1000});
        break;
    case PGQRS_MSG_RUN_ENDED:
        pgqrs_encode_run_ended(out, &(struct pgqrs_run_ended){.generation = 1,
                                                              .outcome = PGQRS_ISOLATED_REFUSED,
                                                              .text = "it is leased"});
        break;
    case PGQRS_MSG_LOG_LEVEL:
        pgqrs_encode_log_level(out, PGQRS_LOG_DEBUG);
        break;
    case PGQRS_MSG_COMPLAINT:
        pgqrs_encode_complaint(out, &(struct pgqrs_complaint){.generation = 1, .text = "bad"});
        break;
    case PGQRS_MSG_JOB_HELLO:
        pgqrs_encode_job_hello(
            out, &(struct pgqrs_job_hello){.capacity = 4, .held = held, .held_count = 2});
        break;
    case PGQRS_MSG_JOB_WELCOME:
        pgqrs_encode_job_welcome(out, 12);
        break;
    case PGQRS_MSG_JOB_CAPACITY:
        pgqrs_encode_job_capacity(out, 3);
        break;
    case PGQRS_MSG_JOB_LEASES:
        start = pgqrs_job_list_begin(out, type);
        pgqrs_encode_job_lease(out, &(struct pgqrs_job_lease){.key = {5, 2, 1},
                                                              .priority = -3,
                                                              .enqueued_at_us = 17,
                                                              .payload = {"[1]", 3}});
        pgqrs_job_list_end(out, start, 1);
        break;
    case PGQRS_MSG_JOB_SETTLED:
        start = pgqrs_job_list_begin(out, type);
        pgqrs_encode_job_settled(
            out, &(struct pgqrs_job_settled){.key = {1, 2}, .verdict = PGQRS_VERDICT_REFUSED});
        pgqrs_job_list_end(out, start, 1);
        break;
    case PGQRS_MSG_JOB_RESULTS:
        start = pgqrs_job_list_begin(out, type);
        pgqrs_encode_job_result(out, &(struct pgqrs_job_result){.key = {1, 2},
                                                                .outcome = PGQRS_JOB_DONE,
                                                                .delay_ms = -1,
                                                                .error = {"e", 1},
                                                                .result = {"7", 1},
                                                                .enqueues = follow,
                                                                .enqueue_count = 1});
        pgqrs_job_list_end(out, start, 1);
        break;
    case PGQRS_MSG_CLIENT_HELLO:
        pgqrs_encode_client_hello(out, &(struct pgqrs_client_hello){.version = "1"});
        break;
    case PGQRS_MSG_CLIENT_WELCOME:
        pgqrs_encode_client_welcome(
            out, &(struct pgqrs_client_welcome){.version = "1", .backend = "sqlite"});
        break;
    case PGQRS_MSG_STORE_CALL:
        assert_int_equal(
            pgqrs_encode_store_call(
                out, &(struct pgqrs_store_call){.op = PGQRS_STORE_QUEUE_FIND, .u.name = "q"}, NULL),
            0);
        break;
    case PGQRS_MSG_STORE_REPLY:
        assert_int_equal(
            pgqrs_encode_store_reply(
                out, &(struct pgqrs_store_reply){.op = PGQRS_STORE_QUEUE_FIND, .u.id = 3}, NULL),
            0);
        break;
    default:
        pgqrs_encode_empty(out, type);
    }
}

static void test_every_type_has_a_row_and_round_trips(void **state)
{
    (void)state;
    for (int type = PGQRS_MSG_NONE + 1; type < PGQRS_MSG_COUNT; type++) {
        struct pgqrs_buf buf = {0};
        assert_non_null(pgqrs_msg_descs[type].name);
        assert_true(pgqrs_msg_descs[type].from != 0 && pgqrs_msg_descs[type].to != 0);
        encode_example(&buf, (enum pgqrs_msg_type)type);
        struct pgqrs_frame frame = parse(&buf);
        assert_int_equal(frame.type, type);
        assert_int_equal(decode_any(&frame), 0);
        pgqrs_buf_fini(&buf);
    }
}

static void test_result_keeps_its_fields(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    encode_example(&buf, PGQRS_MSG_JOB_RESULTS);
    struct pgqrs_frame frame = parse(&buf);
    struct pgqrs_job_list list = pgqrs_job_list_of(&frame);
    struct pgqrs_job_result m;
    struct pgqrs_error err;
    assert_int_equal(pgqrs_next_job_result(&list, &m, &err), 1);
    assert_int_equal(m.key.id, 1);
    assert_int_equal(m.key.attempt, 2);
    assert_int_equal(m.delay_ms, -1);
    assert_string_equal(m.error.data, "e");
    assert_string_equal(m.result.data, "7");
    assert_int_equal(m.enqueue_count, 1);
    assert_string_equal(m.enqueues[0].queue, "next");
    assert_int_equal(m.enqueues[0].priority, -1);
    assert_int_equal(m.enqueues[0].delay_ms, 5);
    pgqrs_job_result_fini(&m);
    assert_int_equal(pgqrs_next_job_result(&list, &m, &err), 0);
    pgqrs_buf_fini(&buf);
}

static void test_a_welcome_keeps_its_isolation(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    encode_example(&buf, PGQRS_MSG_WORKER_WELCOME);
    struct pgqrs_frame frame = parse(&buf);
    struct pgqrs_worker_welcome m;
    struct pgqrs_error err;
    assert_int_equal(pgqrs_decode_worker_welcome(&frame, &m, &err), 0);
    assert_int_equal(m.isolation.uid, 9);
    assert_string_equal(m.isolation.directory, "/d");
    assert_int_equal(m.isolation.core, 1);
    assert_true(m.isolation.limit_core && m.isolation.seccomp && !m.isolation.no_new_privileges);
    buf.data[buf.len - 1] = 2; /* the last flag */
    assert_int_equal(pgqrs_decode_worker_welcome(&frame, &m, &err), -1);
    pgqrs_buf_fini(&buf);
}

static void test_a_queue_keeps_its_pause(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    encode_example(&buf, PGQRS_MSG_BROKER_QUEUES);
    struct pgqrs_frame frame = parse(&buf);
    struct pgqrs_queue_settings *queues = NULL;
    struct pgqrs_error err;
    uint32_t serial;
    size_t count;
    assert_int_equal(pgqrs_decode_broker_queues(&frame, &serial, &queues, &count, &err), 0);
    assert_int_equal(queues[0].load_max, 9);
    assert_int_equal(queues[0].paused, 1);
    free(queues);
    buf.data[buf.len - 1] = 2; /* the last flag */
    assert_int_equal(pgqrs_decode_broker_queues(&frame, &serial, &queues, &count, &err), -1);
    pgqrs_buf_fini(&buf);
}

static void test_a_flow_keeps_its_fields(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    struct pgqrs_job_flow m;
    struct pgqrs_error err;
    pgqrs_encode_job_flow(&buf, &a_flow);
    struct pgqrs_frame frame = parse(&buf);
    assert_int_equal(pgqrs_decode_job_flow(&frame, &m, &err), 0);
    assert_int_equal(m.key.crashes, 1);
    assert_int_equal(m.seq, 9);
    assert_int_equal(m.item.what, PGQRS_FLOW_STEP);
    assert_string_equal(m.item.name, "ev");
    assert_int_equal(m.item.delay_ms, -1);
    assert_true(m.item.child && !m.item.paused);
    assert_int_equal(m.item.steps[0].kind, PGQRS_STEP_SLEEP);
    assert_null(m.item.steps[0].output.data);
    assert_string_equal(m.item.steps[1].error.data, "{}");
    assert_int_equal(m.item.steps[1].retry_ms, 700);
    assert_true(m.item.steps[1].retried);
    assert_string_equal(m.item.follow_ups[0].queue, "next");
    assert_int_equal(m.item.follow_ups[0].item.priority, -2);
    assert_string_equal(m.item.sqls[0].params[0].data, "a");
    assert_null(m.item.sqls[0].params[1].data);
    assert_non_null(m.item.sqls[1].params[0].data);
    pgqrs_job_flow_fini(&m);
    pgqrs_buf_clear(&buf);

    struct pgqrs_job_flowed answer;
    pgqrs_encode_job_flowed(&buf, &a_flowed);
    frame = parse(&buf);
    assert_int_equal(pgqrs_decode_job_flowed(&frame, &answer, &err), 0);
    assert_int_equal(answer.status, PGQRS_RUN_CANCELLING);
    assert_true(answer.first);
    assert_string_equal(answer.steps[0].name, "charge");
    assert_int_equal(answer.steps[0].wait_ms, -1);
    assert_int_equal(answer.steps[0].retry_count, 2);
    assert_null(answer.steps[0].output.data);
    assert_string_equal(answer.events[0].payload.data, "7");
    pgqrs_job_flowed_fini(&answer);
    pgqrs_buf_fini(&buf);
}

static bool is_taken(struct pgqrs_job_flow ask)
{
    struct pgqrs_buf buf = {0};
    struct pgqrs_job_flow m;
    struct pgqrs_error err;
    pgqrs_encode_job_flow(&buf, &ask);
    struct pgqrs_frame frame = parse(&buf);
    int rc = pgqrs_decode_job_flow(&frame, &m, &err);
    if (rc == 0) {
        pgqrs_job_flow_fini(&m);
    }
    pgqrs_buf_fini(&buf);
    return rc == 0;
}

static void test_a_flow_brings_only_what_it_may(void **state)
{
    (void)state;
    struct pgqrs_job_flow ask = a_flow;
    assert_true(is_taken(ask));
    ask.what = PGQRS_FLOW_SUCCESS;
    assert_false(is_taken(ask));
    ask.item.child = false;
    assert_false(is_taken(ask)); /* statements are a step's */
    ask.item.sql_count = 0;
    assert_true(is_taken(ask));
    ask.what = PGQRS_FLOW_ERROR;
    assert_false(is_taken(ask));
    ask.item.follow_up_count = 0;
    assert_true(is_taken(ask));
}

static void test_cut_frames_ask_for_more_and_cut_bodies_are_refused(void **state)
{
    (void)state;
    for (int type = PGQRS_MSG_NONE + 1; type < PGQRS_MSG_COUNT; type++) {
        struct pgqrs_buf buf = {0};
        encode_example(&buf, (enum pgqrs_msg_type)type);
        const struct pgqrs_msg_desc *desc = &pgqrs_msg_descs[type];
        for (size_t len = 0; len < buf.len; len++) {
            struct pgqrs_frame frame;
            size_t used;
            struct pgqrs_error err;
            assert_int_equal(
                pgqrs_msg_parse(buf.data, len, desc->from, desc->to, &frame, &used, &err), 0);
        }
        struct pgqrs_frame whole = parse(&buf);
        for (size_t len = 0; len < whole.len; len++) {
            struct pgqrs_frame cut = {.type = whole.type, .body = whole.body, .len = len};
            assert_int_equal(decode_any(&cut), -1);
        }
        pgqrs_buf_fini(&buf);
    }
}

static void test_wrong_direction_and_length_are_refused(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    struct pgqrs_frame frame;
    size_t used;
    struct pgqrs_error err;
    encode_example(&buf, PGQRS_MSG_JOB_LEASES);
    assert_int_equal(pgqrs_msg_parse(buf.data, buf.len, PGQRS_ROLE_WORKER, PGQRS_ROLE_BROKER,
                                     &frame, &used, &err),
                     -1);
    assert_non_null(strstr(err.text, "job_leases in the wrong direction"));
    pgqrs_buf_set_u32(&buf, 0, PGQRS_BODY_MAX + 1);
    assert_int_equal(pgqrs_msg_parse(buf.data, buf.len, PGQRS_ROLE_BROKER, PGQRS_ROLE_WORKER,
                                     &frame, &used, &err),
                     -1);
    buf.data[4] = PGQRS_MSG_COUNT;
    assert_int_equal(pgqrs_msg_parse(buf.data, buf.len, PGQRS_ROLE_BROKER, PGQRS_ROLE_WORKER,
                                     &frame, &used, &err),
                     -1);
    pgqrs_buf_fini(&buf);
}

static void test_changed_bytes_never_harm(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    for (int round = 0; round < 60000; round++) {
        struct pgqrs_buf buf = {0};
        encode_example(&buf, (enum pgqrs_msg_type)(1 + rand() % (PGQRS_MSG_COUNT - 1)));
        for (int changes = 1 + rand() % 4; changes > 0 && buf.len > PGQRS_FRAME_HEADER; changes--) {
            size_t at = PGQRS_FRAME_HEADER + (size_t)rand() % (buf.len - PGQRS_FRAME_HEADER);
            buf.data[at] = (uint8_t)rand();
        }
        /* A copy of the exact size, so that the address sanitizer sees every byte too far. */
        size_t len = buf.len - PGQRS_FRAME_HEADER;
        uint8_t *exact = malloc(len == 0 ? 1 : len);
        assert_non_null(exact);
        memcpy(exact, buf.data + PGQRS_FRAME_HEADER, len);
        struct pgqrs_frame frame = {
            .type = (enum pgqrs_msg_type)buf.data[4], .body = exact, .len = len};
        (void)decode_any(&frame); /* either answer is right; nothing else may happen */
        free(exact);
        pgqrs_buf_fini(&buf);
    }
}

static void test_a_count_can_not_allocate_more_than_was_sent(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    struct pgqrs_job_hello m;
    struct pgqrs_error err;
    encode_example(&buf, PGQRS_MSG_JOB_HELLO);
    struct pgqrs_frame frame = parse(&buf);
    pgqrs_buf_set_u32(&buf, buf.len - 2 * 16 - 4, PGQRS_PREFETCH_MAX);
    assert_int_equal(pgqrs_decode_job_hello(&frame, &m, &err), -1);
    pgqrs_buf_fini(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_has_a_row_and_round_trips),
        cmocka_unit_test(test_result_keeps_its_fields),
        cmocka_unit_test(test_a_welcome_keeps_its_isolation),
        cmocka_unit_test(test_a_queue_keeps_its_pause),
        cmocka_unit_test(test_a_flow_keeps_its_fields),
        cmocka_unit_test(test_a_flow_brings_only_what_it_may),
        cmocka_unit_test(test_cut_frames_ask_for_more_and_cut_bodies_are_refused),
        cmocka_unit_test(test_wrong_direction_and_length_are_refused),
        cmocka_unit_test(test_changed_bytes_never_harm),
        cmocka_unit_test(test_a_count_can_not_allocate_more_than_was_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
