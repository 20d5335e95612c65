/* SPDX-License-Identifier: Apache-2.0 */
/* Workflows, as a program with libpgqrs has them; the test does what their workers do. */
#include <pthread.h>

#include "tests/support/flow_rig.h"
#include "tests/support/lib_rig.h"

static struct flow_rig flow;

/* The workflow "order", and somebody who runs it. */
static void begin(struct lib_rig *rig)
{
    int64_t id = 0;
    lib_is(rig, 1, pgqrs_workflow_create(rig->client, "order", &id, &rig->why));
    assert_true(id > 0);
    flow_rig_open(&flow, rig->dsn, rig->options.schema, "order");
}

static void end(void)
{
    flow_rig_close(&flow);
}

static int64_t trigger(struct lib_rig *rig, const char *input)
{
    const struct pgqrs_item item = pgqrs_item_of(input);
    struct pgqrs_receipt receipt = {0};
    lib_is(rig, 1, pgqrs_workflow_trigger(rig->client, "order", &item, &receipt, &rig->why));
    assert_false(receipt.existed);
    return receipt.id;
}

/* The only run of a page, which it frees. */
static struct pgqrs_run_entry only(struct pgqrs_run_page *page)
{
    assert_int_equal(page->count, 1);
    struct pgqrs_run_entry entry = page->items[0];
    entry.workflow = entry.input = entry.output = entry.error = NULL;
    pgqrs_run_page_free(page);
    return entry;
}

static void definitions_and_triggers(void **state)
{
    struct lib_rig *rig = *state;
    begin(rig);
    lib_is(rig, 0, pgqrs_workflow_create(rig->client, "order", NULL, &rig->why));
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_workflow_create(rig->client, NULL, NULL, &rig->why));
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_workflow_create(rig->client, "", NULL, &rig->why));
    struct pgqrs_item item = pgqrs_item_of(" {\"n\": [1]} ");
    struct pgqrs_receipt first;
    struct pgqrs_receipt second;
    item.unique_key = "k";
    item.priority = 3;
    lib_is(rig, 1, pgqrs_workflow_trigger(rig->client, "order", &item, &first, &rig->why));
    lib_is(rig, 0, pgqrs_workflow_trigger(rig->client, "order", &item, &second, &rig->why));
    assert_int_equal(second.id, first.id);
    struct pgqrs_message_page *page = lib_rig_get(rig, first.id);
    lib_rig_json_equal(page->items[0].payload, "{\"input\": {\"n\": [1]}}");
    assert_int_equal(page->items[0].priority, 3);
    pgqrs_message_page_free(page);
    lib_fails(rig, PGQRS_E_NOT_FOUND,
              pgqrs_workflow_trigger(rig->client, "none", &item, &first, &rig->why));
    lib_fails(rig, PGQRS_E_INVALID,
              pgqrs_workflow_trigger(rig->client, NULL, &item, &first, &rig->why));
    item = pgqrs_item_of("{");
    lib_fails(rig, PGQRS_E_INVALID,
              pgqrs_workflow_trigger(rig->client, "order", &item, &first, &rig->why));
    item = pgqrs_item_of("[[[[[[1]]]]]]"); /* a level too deep with the wrapper */
    lib_fails(rig, PGQRS_E_INVALID,
              pgqrs_workflow_trigger(rig->client, "order", &item, &first, &rig->why));
    end();
}

struct waiter {
    struct lib_rig *rig;
    int64_t id;
    int ended;
    struct pgqrs_run_page *page;
};

static void *wait_for_result(void *arg)
{
    struct waiter *w = arg;
    struct pgqrs_client *client = lib_rig_connect(w->rig, NULL);
    w->ended = pgqrs_workflow_result(client, w->id, -1, &w->page, NULL);
    pgqrs_disconnect(&client);
    return NULL;
}

static void a_result_along_what_continues_the_run(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_run_page *page = NULL;
    begin(rig);
    int64_t id = trigger(rig, "1");
    lib_is(rig, 0, pgqrs_workflow_result(rig->client, id, 0, &page, &rig->why));
    struct pgqrs_run_entry run = only(page);
    assert_int_equal(run.status, PGQRS_RUN_STATE_QUEUED);
    assert_int_equal(run.run_id, 0);
    assert_true(run.due_at_us > 0);
    lib_fails(rig, PGQRS_E_NOT_FOUND, pgqrs_run_get(rig->client, id, &page, &rig->why));
    struct pgqrs_lease_ref lease = flow_rig_begin(&flow, id);
    lib_is(rig, 0, pgqrs_workflow_result(rig->client, id, 5, &page, &rig->why));
    assert_int_equal(only(page).status, PGQRS_RUN_STATE_RUNNING);
    struct waiter w = {.rig = rig, .id = id};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wait_for_result, &w), 0);
    flow_rig_end(&flow, lease, PGQRS_FLOW_CONTINUE, "2");
    flow_rig_end(&flow, flow_rig_begin(&flow, id + 1), PGQRS_FLOW_SUCCESS, "{\"tea\": 1}");
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(w.ended, 1);
    assert_string_equal(w.page->items[0].workflow, "order");
    lib_rig_json_equal(w.page->items[0].output, "{\"tea\": 1}");
    run = only(w.page);
    assert_int_equal(run.id, id + 1);
    assert_int_equal(run.status, PGQRS_RUN_STATE_SUCCESS);
    assert_true(run.completed_at_us >= run.started_at_us && run.worker_id == flow.worker);
    lib_fails(rig, PGQRS_E_NOT_FOUND,
              pgqrs_workflow_result(rig->client, 999, -1, &page, &rig->why));
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_workflow_result(rig->client, id, -2, &page, &rig->why));
    end();
}

static void failed_and_cancelled(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_run_page *page = NULL;
    enum pgqrs_run_state now = PGQRS_RUN_STATE_ANY;
    begin(rig);
    int64_t id = trigger(rig, "1");
    flow_rig_end(&flow, flow_rig_begin(&flow, id), PGQRS_FLOW_ERROR, "\"broke\"");
    lib_is(rig, 1, pgqrs_workflow_result(rig->client, id, -1, &page, &rig->why));
    assert_string_equal(page->items[0].error, "\"broke\"");
    assert_int_equal(only(page).status, PGQRS_RUN_STATE_ERROR);
    lib_ok(rig, pgqrs_workflow_cancel(rig->client, id, &now, &rig->why));
    assert_int_equal(now, PGQRS_RUN_STATE_ERROR);
    id = trigger(rig, "2");
    lib_ok(rig, pgqrs_workflow_cancel(rig->client, id, &now, &rig->why));
    assert_int_equal(now, PGQRS_RUN_STATE_CANCELLED);
    lib_is(rig, 1, pgqrs_workflow_result(rig->client, id, -1, &page, &rig->why));
    assert_int_equal(only(page).status, PGQRS_RUN_STATE_CANCELLED);
    id = trigger(rig, "3");
    flow_rig_pause(&flow, flow_rig_begin(&flow, id), NULL, 3600000);
    lib_ok(rig, pgqrs_workflow_cancel(rig->client, id, &now, &rig->why));
    assert_int_equal(now, PGQRS_RUN_STATE_CANCELLING);
    (void)flow_rig_begin(&flow, id); /* it is due now */
    lib_fails(rig, PGQRS_E_NOT_FOUND, pgqrs_workflow_cancel(rig->client, 999, &now, &rig->why));
    end();
}

static void events_and_resumption(void **state)
{
    struct lib_rig *rig = *state;
    begin(rig);
    int64_t id = trigger(rig, "1");
    flow_rig_pause(&flow, flow_rig_begin(&flow, id), "paid", -1);
    lib_is(rig, 1, pgqrs_workflow_signal(rig->client, id, "paid", "{\"by\": 1}", &rig->why));
    lib_is(rig, 0, pgqrs_workflow_signal(rig->client, id, "paid", NULL, &rig->why));
    struct pgqrs_lease_ref lease = flow_rig_begin(&flow, id);
    lib_is(rig, 0, pgqrs_workflow_resume(rig->client, id, &rig->why));
    flow_rig_pause(&flow, lease, NULL, 3600000);
    lib_is(rig, 1, pgqrs_workflow_resume(rig->client, id, &rig->why));
    lease = flow_rig_begin(&flow, id);
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_workflow_signal(rig->client, id, NULL, NULL, &rig->why));
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_workflow_signal(rig->client, id, "e", "{", &rig->why));
    flow_rig_end(&flow, lease, PGQRS_FLOW_SUCCESS, "1");
    lib_fails(rig, PGQRS_E_CONFLICT,
              pgqrs_workflow_signal(rig->client, id, "late", NULL, &rig->why));
    lib_fails(rig, PGQRS_E_NOT_FOUND,
              pgqrs_workflow_signal(rig->client, 999, "e", NULL, &rig->why));
    end();
}

static void steps_and_forks(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_step_page *steps = NULL;
    struct pgqrs_run_page *page = NULL;
    int64_t made = 0;
    begin(rig);
    int64_t id = trigger(rig, "1");
    struct pgqrs_lease_ref lease = flow_rig_begin(&flow, id);
    flow_rig_step(&flow, lease, "charge", "7");
    flow_rig_put(&flow, lease,
                 (struct pgqrs_step_put){.name = "rest",
                                         .kind = PGQRS_STEP_SLEEP,
                                         .status = PGQRS_STEP_ERROR,
                                         .error = pgqrs_bytes_from("{\"code\": \"PAUSED\"}"),
                                         .retry_ms = 60000});
    lib_ok(rig, pgqrs_run_steps(rig->client, id, &steps, &rig->why));
    assert_int_equal(steps->count, 2);
    assert_string_equal(steps->items[0].name, "charge");
    assert_string_equal(steps->items[0].kind, "step");
    assert_int_equal(steps->items[0].status, PGQRS_STEP_STATE_SUCCESS);
    assert_string_equal(steps->items[0].output, "7");
    assert_string_equal(steps->items[1].kind, "sleep");
    assert_int_equal(steps->items[1].status, PGQRS_STEP_STATE_ERROR);
    assert_true(steps->items[1].retry_at_us > steps->items[1].started_at_us);
    pgqrs_step_page_free(steps);
    pgqrs_step_page_free(NULL);
    lib_ok(rig, pgqrs_run_fork(rig->client, id, NULL, "[8]", &made, &rig->why));
    lib_ok(rig, pgqrs_run_steps(rig->client, made, &steps, &rig->why));
    assert_int_equal(steps->count, 1);
    pgqrs_step_page_free(steps);
    (void)flow_rig_begin(&flow, made);
    lib_ok(rig, pgqrs_run_get(rig->client, made, &page, &rig->why));
    lib_rig_json_equal(page->items[0].input, "{\"input\": [8]}");
    assert_int_equal(only(page).id, made);
    lib_fails(rig, PGQRS_E_NOT_FOUND,
              pgqrs_run_fork(rig->client, id, "none", NULL, &made, &rig->why));
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_run_fork(rig->client, id, NULL, "{", &made, &rig->why));
    end();
}

static void lists(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_run_page *page = NULL;
    begin(rig);
    for (int i = 0; i < 3; i++) {
        struct pgqrs_lease_ref lease = flow_rig_begin(&flow, trigger(rig, "1"));
        if (i > 0) {
            flow_rig_end(&flow, lease, PGQRS_FLOW_SUCCESS, "1");
        }
    }
    lib_ok(rig, pgqrs_run_list(rig->client, NULL, &page, &rig->why));
    assert_int_equal(page->count, 3);
    assert_true(page->items[0].id > page->items[2].id);
    pgqrs_run_page_free(page);
    struct pgqrs_run_query query = {.workflow = "order", .status = PGQRS_RUN_STATE_SUCCESS};
    query.limit = 1;
    size_t seen = 0;
    do {
        lib_ok(rig, pgqrs_run_list(rig->client, &query, &page, &rig->why));
        assert_true(page->count <= 1);
        seen += page->count;
        query.next = page->next;
        pgqrs_run_page_free(page);
    } while (query.next != 0);
    assert_int_equal(seen, 2);
    query = (struct pgqrs_run_query){.workflow = "none"};
    lib_fails(rig, PGQRS_E_NOT_FOUND, pgqrs_run_list(rig->client, &query, &page, &rig->why));
    query = (struct pgqrs_run_query){.status = (enum pgqrs_run_state)99};
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_run_list(rig->client, &query, &page, &rig->why));
    query = (struct pgqrs_run_query){.reserved = {1}};
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_run_list(rig->client, &query, &page, &rig->why));
    pgqrs_run_page_free(NULL);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LIB_CASE(definitions_and_triggers), LIB_CASE(a_result_along_what_continues_the_run),
        LIB_CASE(failed_and_cancelled),     LIB_CASE(events_and_resumption),
        LIB_CASE(steps_and_forks),          LIB_CASE(lists),
    };
    return LIB_RIG_RUN(tests);
}
