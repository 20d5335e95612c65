/* SPDX-License-Identifier: Apache-2.0 */
/* The store's operations about workflows as messages. test_store_msg has what holds for all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ipc/store_msg.h"
#include "tests/support/store_calls.h"

static struct pgqrs_frame parse(const struct pgqrs_buf *buf)
{
    struct pgqrs_frame frame = {0};
    size_t used = 0;
    const struct pgqrs_msg_desc *desc = &pgqrs_msg_descs[buf->data[4]];
    assert_int_equal(
        pgqrs_msg_parse(buf->data, buf->len, desc->from, desc->to, &frame, &used, NULL), 1);
    assert_int_equal(used, buf->len);
    return frame;
}

static struct pgqrs_store_call call_back(struct pgqrs_buf *buf, enum pgqrs_store_op op)
{
    const struct pgqrs_store_call call = store_call_example(op);
    struct pgqrs_store_call back;
    pgqrs_buf_clear(buf);
    assert_int_equal(pgqrs_encode_store_call(buf, &call, NULL), 0);
    struct pgqrs_frame frame = parse(buf);
    assert_int_equal(pgqrs_decode_store_call(&frame, &back, NULL), 0);
    return back;
}

static struct pgqrs_store_reply reply_back(struct pgqrs_buf *buf, enum pgqrs_store_op op)
{
    const struct pgqrs_store_reply reply = store_reply_example(op);
    struct pgqrs_store_reply back;
    pgqrs_buf_clear(buf);
    assert_int_equal(pgqrs_encode_store_reply(buf, &reply, NULL), 0);
    struct pgqrs_frame frame = parse(buf);
    assert_int_equal(pgqrs_decode_store_reply(&frame, &back, NULL), 0);
    return back;
}

static void same_text(const char *a, const char *b)
{
    assert_int_equal(a == NULL, b == NULL);
    if (a != NULL) {
        assert_string_equal(a, b);
    }
}

static void same_bytes(struct pgqrs_bytes a, struct pgqrs_bytes b)
{
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
}

static void calls_about_workflows_keep_their_fields(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    struct pgqrs_store_call a = store_call_example(PGQRS_STORE_RUN_LIST);
    struct pgqrs_store_call b = call_back(&buf, PGQRS_STORE_RUN_LIST);
    assert_int_equal(b.u.runs.workflow_id, a.u.runs.workflow_id);
    assert_int_equal(b.u.runs.status, a.u.runs.status);
    assert_int_equal(b.u.runs.parent_id, a.u.runs.parent_id);
    assert_int_equal(b.u.runs.before_id, a.u.runs.before_id);
    assert_int_equal(b.u.runs.limit, a.u.runs.limit);
    pgqrs_store_call_fini(&b);

    a = store_call_example(PGQRS_STORE_RUN_FORK);
    b = call_back(&buf, PGQRS_STORE_RUN_FORK);
    assert_int_equal(b.u.fork.message_id, a.u.fork.message_id);
    same_text(b.u.fork.from_step, a.u.fork.from_step);
    same_bytes(b.u.fork.input, a.u.fork.input);
    pgqrs_store_call_fini(&b);

    a = store_call_example(PGQRS_STORE_EVENT_SEND);
    b = call_back(&buf, PGQRS_STORE_EVENT_SEND);
    assert_int_equal(b.u.event.message_id, a.u.event.message_id);
    same_text(b.u.event.name, a.u.event.name);
    same_bytes(b.u.event.payload, a.u.event.payload);
    pgqrs_store_call_fini(&b);
    pgqrs_buf_fini(&buf);
}

static void same_run(const struct pgqrs_run *a, const struct pgqrs_run *b)
{
    same_text(a->workflow, b->workflow);
    same_text(a->input, b->input);
    same_text(a->output, b->output);
    same_text(a->error, b->error);
    assert_int_equal(a->status, b->status);
    assert_memory_equal(&a->id, &b->id, offsetof(struct pgqrs_run, status));
    assert_memory_equal(&a->created_at_us, &b->created_at_us,
                        sizeof *a - offsetof(struct pgqrs_run, created_at_us));
}

static void replies_about_workflows_keep_their_fields(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    struct pgqrs_store_reply a = store_reply_example(PGQRS_STORE_WORKFLOW_LIST);
    struct pgqrs_store_reply b = reply_back(&buf, PGQRS_STORE_WORKFLOW_LIST);
    assert_int_equal(b.u.workflows.count, 2);
    assert_int_equal(b.u.workflows.items[1].id, a.u.workflows.items[1].id);
    assert_int_equal(b.u.workflows.items[1].queue_id, a.u.workflows.items[1].queue_id);
    assert_int_equal(b.u.workflows.items[1].created_at_us, a.u.workflows.items[1].created_at_us);
    same_text(b.u.workflows.items[1].name, a.u.workflows.items[1].name);
    pgqrs_store_reply_fini(&b);

    a = store_reply_example(PGQRS_STORE_RUN_LIST);
    b = reply_back(&buf, PGQRS_STORE_RUN_LIST);
    assert_int_equal(b.u.runs.count, 2);
    assert_int_equal(b.u.runs.next_before_id, a.u.runs.next_before_id);
    same_run(&b.u.runs.items[0], &a.u.runs.items[0]);
    same_run(&b.u.runs.items[1], &a.u.runs.items[1]);
    pgqrs_store_reply_fini(&b);

    a = store_reply_example(PGQRS_STORE_RUN_STEPS);
    b = reply_back(&buf, PGQRS_STORE_RUN_STEPS);
    assert_int_equal(b.u.steps.count, 2);
    const struct pgqrs_step *x = &a.u.steps.items[0];
    const struct pgqrs_step *y = &b.u.steps.items[0];
    same_text(y->name, x->name);
    same_text(y->output, x->output);
    same_text(y->error, x->error);
    assert_true(y->kind == x->kind && y->status == x->status);
    assert_int_equal(y->retry_count, x->retry_count);
    assert_int_equal(y->started_at_us, x->started_at_us);
    assert_int_equal(y->completed_at_us, x->completed_at_us);
    assert_int_equal(y->retry_at_us, x->retry_at_us);
    pgqrs_store_reply_fini(&b);

    a = store_reply_example(PGQRS_STORE_RUN_STATE);
    b = reply_back(&buf, PGQRS_STORE_RUN_STATE);
    assert_int_equal(b.u.pairs.count, 2);
    same_text(b.u.pairs.items[1].name, a.u.pairs.items[1].name);
    same_text(b.u.pairs.items[1].json, a.u.pairs.items[1].json);
    assert_int_equal(b.u.pairs.items[1].at_us, a.u.pairs.items[1].at_us);
    pgqrs_store_reply_fini(&b);

    b = reply_back(&buf, PGQRS_STORE_WORKFLOW_CREATE);
    assert_true(b.u.workflow.id == 343 && b.u.workflow.existed);
    b = reply_back(&buf, PGQRS_STORE_RUN_CANCEL);
    assert_int_equal(b.u.status, PGQRS_RUN_CANCELLING);
    b = reply_back(&buf, PGQRS_STORE_EVENT_SEND);
    assert_true(b.u.flag);
    pgqrs_buf_fini(&buf);
}

static void lists_without_names_are_refused(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    struct pgqrs_step step = {.status = PGQRS_STEP_SUCCESS};
    struct pgqrs_pair pair = {.name = NULL};
    struct pgqrs_run run = {.id = 1};
    const struct pgqrs_store_reply rows[] = {
        {.op = PGQRS_STORE_RUN_STEPS, .u.steps = {&step, 1}},
        {.op = PGQRS_STORE_RUN_EVENTS, .u.pairs = {&pair, 1}},
        {.op = PGQRS_STORE_RUN_GET, .u.runs = {&run, 1, 0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(pgqrs_encode_store_reply(&buf, &rows[i], NULL), -1);
    }
    /* Of a run that has more steps than a list usually has, all are there. */
    static char name[] = "s";
    struct pgqrs_store_reply many = {.op = PGQRS_STORE_RUN_STEPS};
    struct pgqrs_store_reply back;
    many.u.steps.count = PGQRS_STORE_LIST_MAX + 1;
    many.u.steps.items = calloc(many.u.steps.count, sizeof step);
    assert_non_null(many.u.steps.items);
    for (size_t i = 0; i < many.u.steps.count; i++) {
        many.u.steps.items[i].name = name;
    }
    assert_int_equal(pgqrs_encode_store_reply(&buf, &many, NULL), 0);
    struct pgqrs_frame frame = parse(&buf);
    assert_int_equal(pgqrs_decode_store_reply(&frame, &back, NULL), 0);
    assert_int_equal(back.u.steps.count, many.u.steps.count);
    pgqrs_store_reply_fini(&back);
    free(many.u.steps.items);
    pgqrs_buf_fini(&buf);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(calls_about_workflows_keep_their_fields),
        cmocka_unit_test(replies_about_workflows_keep_their_fields),
        cmocka_unit_test(lists_without_names_are_refused),
    };
    return cmocka_run_group_tests_name("store messages about workflows", cases, NULL, NULL);
}
