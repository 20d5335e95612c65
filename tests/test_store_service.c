/* SPDX-License-Identifier: Apache-2.0 */
/* What a broker answers a client, whatever the client sends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "broker/store_service.h"
#include "tests/support/flow_rig.h"
#include "tests/support/store_calls.h"

#define MIB (1024 * 1024)

struct fixture {
    struct pgqrs_store *store;
    int64_t queue, worker;
    struct pgqrs_buf call, reply;
    bool look;
    struct pgqrs_error err;
};

static int setup(void **state)
{
    const struct pgqrs_store_options options = {.create = true, .busy_ms = 1000};
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL || pgqrs_store_open("sqlite::memory:", &options, &f->store, &f->err) < 0 ||
        pgqrs_store_install(f->store, &f->err) < 0 ||
        pgqrs_store_queue_create(f->store, "q", &f->queue, &f->err) < 0) {
        return -1;
    }
    const struct pgqrs_worker_row row = {
        .name = "w", .queue_id = f->queue, .instance = "run", .generation = 1, .pid = 1};
    *state = f;
    return pgqrs_store_worker_register(f->store, &row, &f->worker, &f->err);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pgqrs_store_close(&f->store);
    pgqrs_buf_fini(&f->call);
    pgqrs_buf_fini(&f->reply);
    free(f);
    return 0;
}

static struct pgqrs_frame parse(const struct pgqrs_buf *buf, enum pgqrs_role from,
                                enum pgqrs_role to)
{
    struct pgqrs_frame frame;
    size_t used;
    assert_int_equal(pgqrs_msg_parse(buf->data, buf->len, from, to, &frame, &used, NULL), 1);
    assert_int_equal(used, buf->len);
    return frame;
}

/* The reply borrows from f->reply until the next one. */
static struct pgqrs_store_reply serve(struct fixture *f, const struct pgqrs_store_call *call)
{
    struct pgqrs_store_reply reply;
    pgqrs_buf_clear(&f->call);
    pgqrs_buf_clear(&f->reply);
    assert_int_equal(pgqrs_encode_store_call(&f->call, call, &f->err), 0);
    struct pgqrs_frame frame = parse(&f->call, PGQRS_ROLE_CLIENT, PGQRS_ROLE_BROKER);
    assert_int_equal(pgqrs_store_service(f->store, &frame, &f->reply, &f->look, &f->err), 0);
    frame = parse(&f->reply, PGQRS_ROLE_BROKER, PGQRS_ROLE_CLIENT);
    assert_int_equal(pgqrs_decode_store_reply(&frame, &reply, &f->err), 0);
    assert_int_equal(reply.number, call->number);
    assert_int_equal(reply.op, call->op);
    return reply;
}

static int64_t count_of(struct fixture *f, const struct pgqrs_store_call *call)
{
    struct pgqrs_store_reply reply = serve(f, call);
    int64_t rc = reply.rc;
    f->err = reply.err;
    pgqrs_store_reply_fini(&reply);
    return rc;
}

static int64_t enqueue(struct fixture *f, size_t size)
{
    char *text = malloc(size);
    assert_non_null(text);
    memset(text, '1', size);
    const struct pgqrs_enqueue item = {.payload = {text, size}};
    int64_t id = 0;
    assert_int_equal(pgqrs_store_enqueue(f->store, f->queue, &item, 1, &id, NULL, &f->err), 0);
    free(text);
    return id;
}

/* ---- hello ---- */

static int hello(const struct pgqrs_client_hello *m, struct pgqrs_buf *answer,
                 struct pgqrs_error *err)
{
    struct pgqrs_buf out = {0};
    pgqrs_encode_client_hello(&out, m);
    struct pgqrs_frame frame = parse(&out, PGQRS_ROLE_CLIENT, PGQRS_ROLE_BROKER);
    int rc = pgqrs_store_service_hello(&frame, "sqlite", answer, err);
    pgqrs_buf_fini(&out);
    return rc;
}

static void a_hello_is_welcomed_or_refused(void **state)
{
    (void)state;
    struct pgqrs_buf answer = {0};
    struct pgqrs_error err;
    struct pgqrs_client_welcome welcome;
    const char *why;
    struct pgqrs_client_hello m = {.major = PGQRS_IPC_MAJOR, .minor = 99, .version = "9"};
    assert_int_equal(hello(&m, &answer, &err), 0);
    struct pgqrs_frame frame = parse(&answer, PGQRS_ROLE_BROKER, PGQRS_ROLE_CLIENT);
    assert_int_equal(pgqrs_decode_client_welcome(&frame, &welcome, &err), 0);
    assert_string_equal(welcome.backend, "sqlite");
    assert_string_equal(welcome.version, PGQRS_VERSION);

    m.major++;
    pgqrs_buf_clear(&answer);
    assert_int_equal(hello(&m, &answer, &err), -1);
    frame = parse(&answer, PGQRS_ROLE_BROKER, PGQRS_ROLE_CLIENT);
    assert_int_equal(pgqrs_decode_refuse(&frame, &why, &err), 0);
    assert_non_null(strstr(why, "found version 2 of a program 9, expected 1"));

    pgqrs_buf_clear(&answer);
    frame = (struct pgqrs_frame){.type = PGQRS_MSG_STORE_CALL};
    assert_int_equal(pgqrs_store_service_hello(&frame, "sqlite", &answer, &err), -1);
    assert_string_equal(err.text, PGQRS_REFUSE_NO_HELLO);
    pgqrs_buf_fini(&answer);
}

/* ---- answers ---- */

static void failures_are_replies(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_store_call call = {.op = PGQRS_STORE_QUEUE_FIND, .u.name = "none"};
    assert_int_equal(count_of(f, &call), -1);
    assert_int_equal(f->err.code, PGQRS_ERR_NOT_FOUND);
    call = (struct pgqrs_store_call){.op = PGQRS_STORE_QUEUE_LIST}; /* a limit of 0 */
    assert_int_equal(count_of(f, &call), -1);
    assert_int_equal(f->err.code, PGQRS_ERR_INVALID);
    call = (struct pgqrs_store_call){.op = PGQRS_STORE_QUEUE_CREATE, .u.name = "q"};
    assert_int_equal(count_of(f, &call), -1);
    assert_int_equal(f->err.code, PGQRS_ERR_EXISTS);
    call = (struct pgqrs_store_call){.op = PGQRS_STORE_WORKER_STATS,
                                     .u.stats = {.stale_ms = INT64_MIN}};
    assert_int_equal(count_of(f, &call), -1);
    assert_int_equal(f->err.code, PGQRS_ERR_INVALID);
    call = (struct pgqrs_store_call){.op = PGQRS_STORE_WORKER_REGISTER,
                                     .u.worker = {.name = "v", .stale_ms = -1}};
    assert_int_equal(count_of(f, &call), -1);
    assert_int_equal(f->err.code, PGQRS_ERR_INVALID);
    assert_false(f->look);
}

static void every_example_is_answered(void **state)
{
    struct fixture *f = *state;
    for (int op = PGQRS_STORE_OP_NONE + 1; op < PGQRS_STORE_OP_COUNT; op++) {
        const struct pgqrs_store_call call = store_call_example((enum pgqrs_store_op)op);
        (void)count_of(f, &call); /* fails or not: serve asserts that there is an answer */
    }
}

static void nonsense_is_dropped_and_never_harms(void **state)
{
    struct fixture *f = *state;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    unsigned dropped = 0;
    for (int round = 0; round < 20000; round++) {
        const struct pgqrs_store_call call = store_call_example((enum pgqrs_store_op)(
            PGQRS_STORE_QUEUE_CREATE + round % (PGQRS_STORE_OP_COUNT - PGQRS_STORE_QUEUE_CREATE)));
        pgqrs_buf_clear(&f->call);
        pgqrs_buf_clear(&f->reply);
        assert_int_equal(pgqrs_encode_store_call(&f->call, &call, &f->err), 0);
        for (int changes = rand() % 4; changes > 0; changes--) {
            size_t at = PGQRS_FRAME_HEADER + 9;
            at += (size_t)rand() % (f->call.len - at + 1);
            f->call.data[at < f->call.len ? at : at - 1] = (uint8_t)rand();
        }
        struct pgqrs_frame frame = {.type = PGQRS_MSG_STORE_CALL,
                                    .body = f->call.data + PGQRS_FRAME_HEADER,
                                    .len = f->call.len - PGQRS_FRAME_HEADER};
        if (pgqrs_store_service(f->store, &frame, &f->reply, &f->look, &f->err) == 0) {
            (void)parse(&f->reply, PGQRS_ROLE_BROKER, PGQRS_ROLE_CLIENT); /* asserts by itself */
        } else {
            assert_int_equal(f->err.code, PGQRS_ERR_PROTOCOL);
            assert_int_equal(f->reply.len, 0);
            dropped++;
        }
    }
    assert_true(dropped > 0);
}

/* ---- what may be leased since ---- */

static void the_broker_looks_again_when_it_should(void **state)
{
    struct fixture *f = *state;
    const struct pgqrs_enqueue item = {.payload = {"1", 1}};
    struct pgqrs_store_call call = {
        .op = PGQRS_STORE_ENQUEUE, .u.enqueue = {.queue_id = f->queue, .items = &item, .count = 1}};
    assert_int_equal(count_of(f, &call), 0);
    assert_true(f->look);
    call.u.enqueue.queue_id = 12345;
    assert_int_equal(count_of(f, &call), -1);
    assert_false(f->look);

    const struct pgqrs_want want = {.queue_id = f->queue,
                                    .worker_id = f->worker,
                                    .count = 1,
                                    .max_attempts = 5,
                                    .lease_ms = 1000};
    call = (struct pgqrs_store_call){.op = PGQRS_STORE_EXCHANGE,
                                     .u.exchange = {.wants = &want, .want_count = 1}};
    struct pgqrs_store_reply reply = serve(f, &call);
    assert_false(f->look);
    assert_int_equal(reply.u.exchange.lease_count, 1);
    struct pgqrs_settlement back = {.message_id = reply.u.exchange.leases[0].message_id,
                                    .worker_id = f->worker,
                                    .attempt = 1,
                                    .how = PGQRS_SETTLE_RETURN};
    pgqrs_store_reply_fini(&reply);
    call = (struct pgqrs_store_call){.op = PGQRS_STORE_EXCHANGE,
                                     .u.exchange = {.settlements = &back, .settlement_count = 1}};
    assert_int_equal(count_of(f, &call), 0);
    assert_true(f->look);

    call =
        (struct pgqrs_store_call){.op = PGQRS_STORE_WORKER_END, .u.end = {.worker_id = f->worker}};
    assert_int_equal(count_of(f, &call), 0); /* it had no leases left */
    assert_false(f->look);
    call = (struct pgqrs_store_call){.op = PGQRS_STORE_QUEUE_METRICS};
    assert_int_equal(count_of(f, &call), 0);
    assert_false(f->look);
}

static struct flow_rig make_workflow(struct fixture *f)
{
    struct flow_rig rig = {.store = f->store, .worker = f->worker};
    struct pgqrs_store_call call = {.op = PGQRS_STORE_WORKFLOW_CREATE, .u.name = "q"};
    struct pgqrs_store_reply reply = serve(f, &call);
    assert_int_equal(reply.rc, 0);
    assert_false(reply.u.workflow.existed || f->look);
    rig.workflow = reply.u.workflow.id;
    rig.queue = f->queue;
    pgqrs_store_reply_fini(&reply);
    return rig;
}

static int64_t trigger(struct fixture *f, struct pgqrs_bytes input)
{
    const struct pgqrs_enqueue item = {.payload = input};
    int64_t id = 0;
    assert_int_equal(pgqrs_store_workflow_trigger(f->store, "q", &item, &id, NULL, &f->err), 0);
    return id;
}

static void the_broker_looks_again_for_runs_that_go_on(void **state)
{
    struct fixture *f = *state;
    struct flow_rig rig = make_workflow(f);
    int64_t id = trigger(f, pgqrs_bytes_from("1"));
    struct pgqrs_store_call event = {.op = PGQRS_STORE_EVENT_SEND,
                                     .u.event = {id, "e", pgqrs_bytes_from("2")}};
    struct pgqrs_store_call resume = {.op = PGQRS_STORE_RUN_RESUME, .u.id = id};
    flow_rig_pause(&rig, flow_rig_begin(&rig, id), "e", -1);
    assert_int_equal(count_of(f, &event), 0);
    assert_true(f->look);
    assert_int_equal(count_of(f, &event), 0); /* not the first */
    assert_false(f->look);
    struct pgqrs_lease_ref lease = flow_rig_begin(&rig, id);
    assert_int_equal(count_of(f, &resume), 0); /* it does not wait */
    assert_false(f->look);
    flow_rig_pause(&rig, lease, NULL, 60000);
    assert_int_equal(count_of(f, &resume), 0);
    assert_true(f->look);
    flow_rig_pause(&rig, flow_rig_begin(&rig, id), NULL, 60000);
    struct pgqrs_store_call call = {.op = PGQRS_STORE_RUN_CANCEL, .u.id = id};
    struct pgqrs_store_reply reply = serve(f, &call);
    assert_int_equal(reply.u.status, PGQRS_RUN_CANCELLING);
    assert_true(f->look);
    pgqrs_store_reply_fini(&reply);
    call = (struct pgqrs_store_call){.op = PGQRS_STORE_RUN_FORK, .u.fork = {.message_id = id}};
    assert_int_equal(count_of(f, &call), 0);
    assert_true(f->look);
}

/* ---- what does not fit into a reply ---- */

static void a_page_of_runs_too_large_for_a_reply_is_cut(void **state)
{
    struct fixture *f = *state;
    struct flow_rig rig = make_workflow(f);
    int64_t ids[20];
    char *text = malloc(MIB);
    assert_non_null(text);
    memset(text, '1', MIB);
    for (size_t i = 0; i < 20; i++) {
        ids[i] = trigger(f, (struct pgqrs_bytes){.data = text, .len = MIB});
        (void)flow_rig_begin(&rig, ids[i]);
    }
    free(text);
    size_t seen = 0;
    unsigned pages = 0;
    struct pgqrs_store_call call = {.op = PGQRS_STORE_RUN_LIST, .u.runs = {.limit = 1000}};
    do {
        struct pgqrs_store_reply reply = serve(f, &call);
        assert_int_equal(reply.rc, 0);
        assert_true(reply.u.runs.count > 0 && seen + reply.u.runs.count <= 20);
        for (size_t i = 0; i < reply.u.runs.count; i++) {
            assert_int_equal(reply.u.runs.items[i].message_id, ids[19 - seen++]);
        }
        call.u.runs.before_id = reply.u.runs.next_before_id;
        pgqrs_store_reply_fini(&reply);
        pages++;
    } while (call.u.runs.before_id != 0);
    assert_int_equal(seen, 20);
    assert_int_equal(pages, 2);
}

static void a_page_too_large_for_a_reply_is_cut(void **state)
{
    struct fixture *f = *state;
    int64_t ids[20];
    for (size_t i = 0; i < 20; i++) {
        ids[i] = enqueue(f, MIB);
    }
    size_t seen = 0;
    unsigned pages = 0;
    struct pgqrs_store_call call = {.op = PGQRS_STORE_MESSAGE_LIST, .u.messages = {.limit = 1000}};
    do {
        struct pgqrs_store_reply reply = serve(f, &call);
        assert_int_equal(reply.rc, 0);
        assert_true(reply.u.messages.count > 0 && seen + reply.u.messages.count <= 20);
        for (size_t i = 0; i < reply.u.messages.count; i++) {
            assert_int_equal(reply.u.messages.items[i].id, ids[19 - seen++]);
        }
        call.u.messages.before_id = reply.u.messages.next_before_id;
        pgqrs_store_reply_fini(&reply);
        pages++;
    } while (call.u.messages.before_id != 0);
    assert_int_equal(seen, 20);
    assert_int_equal(pages, 2);
}

static void a_message_too_large_for_a_reply_is_told(void **state)
{
    struct fixture *f = *state;
    const struct pgqrs_store_call call = {.op = PGQRS_STORE_MESSAGE_GET,
                                          .u.id = enqueue(f, 17 * MIB)};
    assert_int_equal(count_of(f, &call), -1);
    assert_int_equal(f->err.code, PGQRS_ERR_FAILED);
    assert_string_equal(f->err.text, "message get through a broker: found 17825792 bytes, "
                                     "expected at most 16777216");
}

static void a_page_that_can_hold_nothing_names_what_is_in_the_way(void **state)
{
    struct fixture *f = *state;
    int64_t small = enqueue(f, 1);
    int64_t huge = enqueue(f, 17 * MIB);
    struct pgqrs_store_call call = {.op = PGQRS_STORE_MESSAGE_LIST, .u.messages = {.limit = 10}};
    assert_int_equal(count_of(f, &call), -1);
    assert_int_equal(f->err.code, PGQRS_ERR_FAILED);
    assert_non_null(strstr(f->err.text, "bytes in message 2, expected at most"));
    call.u.messages.before_id = huge;
    struct pgqrs_store_reply reply = serve(f, &call);
    assert_int_equal(reply.u.messages.count, 1);
    assert_int_equal(reply.u.messages.items[0].id, small);
    pgqrs_store_reply_fini(&reply);
}

static size_t lease(struct fixture *f, uint32_t count, bool *again)
{
    const struct pgqrs_want want = {.queue_id = f->queue,
                                    .worker_id = f->worker,
                                    .count = count,
                                    .max_attempts = 5,
                                    .lease_ms = 60000};
    const struct pgqrs_store_call call = {.op = PGQRS_STORE_EXCHANGE,
                                          .u.exchange = {.wants = &want, .want_count = 1}};
    struct pgqrs_store_reply reply = serve(f, &call);
    assert_int_equal(reply.rc, 0);
    size_t leases = reply.u.exchange.lease_count;
    for (size_t i = 0; i < leases; i++) {
        assert_int_equal(reply.u.exchange.leases[i].attempt, 1);
    }
    *again = reply.u.exchange.next_due_us != 0 &&
             reply.u.exchange.next_due_us <= reply.u.exchange.now_us;
    pgqrs_store_reply_fini(&reply);
    return leases;
}

static void leases_too_large_for_a_reply_go_back(void **state)
{
    struct fixture *f = *state;
    bool again;
    for (size_t i = 0; i < 20; i++) {
        enqueue(f, MIB);
    }
    size_t first = lease(f, 20, &again);
    assert_true(first > 0 && first < 20 && again);
    assert_int_equal(lease(f, 20, &again), 20 - first);
    assert_false(again);
}

static void a_lease_too_large_for_any_reply_is_a_dead_letter(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_message m;
    bool again;
    int64_t huge = enqueue(f, 17 * MIB);
    enqueue(f, 1);
    assert_int_equal(lease(f, 2, &again), 1);
    assert_int_equal(pgqrs_store_message_get(f->store, huge, &m, &f->err), 0);
    assert_string_equal(m.outcome, "failed");
    assert_string_equal(m.error, "the payload is too large to be sent by a broker");
    pgqrs_message_fini(&m);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(a_hello_is_welcomed_or_refused),
        CASE(failures_are_replies),
        CASE(every_example_is_answered),
        CASE(nonsense_is_dropped_and_never_harms),
        CASE(the_broker_looks_again_when_it_should),
        CASE(the_broker_looks_again_for_runs_that_go_on),
        CASE(a_page_of_runs_too_large_for_a_reply_is_cut),
        CASE(a_page_too_large_for_a_reply_is_cut),
        CASE(a_message_too_large_for_a_reply_is_told),
        CASE(a_page_that_can_hold_nothing_names_what_is_in_the_way),
        CASE(leases_too_large_for_a_reply_go_back),
        CASE(a_lease_too_large_for_any_reply_is_a_dead_letter),
    };
    return cmocka_run_group_tests_name("store service", cases, NULL, NULL);
}
