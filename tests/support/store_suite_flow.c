/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_suite_flow.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/store_priv.h"

/* Workflows: definitions, and what their workers do to runs. */

/* ---- what the cases share ---- */

static int64_t workflow_of(struct suite *f)
{
    struct pgqrs_workflow_list one;
    suite_ok(f, pgqrs_store_workflow_find(f->store, "flow", &one, &f->err));
    assert_int_equal(one.count, 1);
    int64_t id = one.items[0].id;
    f->queue = one.items[0].queue_id;
    pgqrs_workflow_list_fini(&one);
    return id;
}

static void need_workflows(struct suite *f)
{
    const struct pgqrs_workflow_ops *ops = f->store->ops->workflow;
    if (ops == NULL || ops->run_open == NULL || ops->flow == NULL) {
        skip();
    }
}

int64_t flow_make(struct suite *f)
{
    int64_t id = 0;
    need_workflows(f);
    suite_ok(f, pgqrs_store_workflow_create(f->store, "flow", &id, NULL, &f->err));
    assert_int_equal(workflow_of(f), id);
    return id;
}

int64_t flow_trigger(struct suite *f, const char *input)
{
    const struct pgqrs_enqueue item = {.payload = pgqrs_bytes_from(input)};
    int64_t id = 0;
    suite_ok(f, pgqrs_store_workflow_trigger(f->store, "flow", &item, &id, NULL, &f->err));
    return id;
}

struct pgqrs_run_open flow_open(struct suite *f, struct pgqrs_lease_ref lease)
{
    struct pgqrs_run_open open = {.lease = lease};
    int64_t now = 0;
    suite_ok(f, pgqrs_store_run_open(f->store, workflow_of(f), &open, 1, &now, &f->err));
    assert_int_equal(now, f->now_us);
    assert_true(open.held);
    return open;
}

struct pgqrs_lease_ref flow_begin(struct suite *f)
{
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    struct pgqrs_run_open open = flow_open(f, lease);
    pgqrs_run_open_fini(&open);
    return lease;
}

struct pgqrs_lease_ref flow_start(struct suite *f)
{
    int64_t id = flow_trigger(f, "{\"n\": 1}");
    struct pgqrs_lease_ref lease = flow_begin(f);
    assert_int_equal(lease.message_id, id);
    return lease;
}

struct pgqrs_flow flow_item(struct pgqrs_lease_ref lease, enum pgqrs_flow_what what)
{
    return (struct pgqrs_flow){.lease = lease,
                               .what = what,
                               .output = pgqrs_bytes_from("{\"out\": 1}"),
                               .error = pgqrs_bytes_from("\"bad\""),
                               .name = what == PGQRS_FLOW_STATE ? "key" : NULL};
}

enum pgqrs_settled flow_do(struct suite *f, struct pgqrs_flow *item)
{
    suite_ok(f, pgqrs_store_flow(f->store, item, 1, &f->err));
    return item->settled_out;
}

static enum pgqrs_settled do_and_forget(struct suite *f, struct pgqrs_flow item)
{
    enum pgqrs_settled settled = flow_do(f, &item);
    assert_false(item.failed_out);
    pgqrs_flow_fini(&item);
    return settled;
}

static struct pgqrs_step_put success(const char *name, const char *output)
{
    return (struct pgqrs_step_put){
        .name = name, .status = PGQRS_STEP_SUCCESS, .output = pgqrs_bytes_from(output)};
}

void flow_step(struct suite *f, struct pgqrs_lease_ref lease, const char *name, const char *output)
{
    const struct pgqrs_step_put put = success(name, output);
    struct pgqrs_flow item = flow_item(lease, PGQRS_FLOW_STEP);
    item.steps = &put;
    item.step_count = 1;
    assert_int_equal(do_and_forget(f, item), PGQRS_SETTLED_YES);
}

void flow_pause(struct suite *f, struct pgqrs_lease_ref lease, const char *event, int64_t delay_ms)
{
    struct pgqrs_flow item = flow_item(lease, PGQRS_FLOW_SUSPEND);
    item.name = event;
    item.delay_ms = delay_ms;
    item.paused = true;
    item.error = pgqrs_bytes_from("{\"message\": \"waits\", \"resume_after\": 5}");
    assert_int_equal(do_and_forget(f, item), PGQRS_SETTLED_YES);
}

struct pgqrs_run_list flow_run(struct suite *f, int64_t message)
{
    struct pgqrs_run_list one;
    suite_ok(f, pgqrs_store_run_get(f->store, message, &one, &f->err));
    assert_int_equal(one.count, 1);
    assert_int_equal(one.items[0].message_id, message);
    return one;
}

enum pgqrs_run_status flow_status(struct suite *f, int64_t message)
{
    struct pgqrs_run_list one = flow_run(f, message);
    enum pgqrs_run_status status = one.items[0].status;
    pgqrs_run_list_fini(&one);
    return status;
}

static void assert_json_or_none(const char *found, const char *expected)
{
    if (expected == NULL) {
        assert_null(found);
        return;
    }
    assert_non_null(found);
    suite_assert_json(pgqrs_bytes_from(found), expected);
}

void flow_assert_run(struct suite *f, int64_t message, enum pgqrs_run_status status,
                     const char *output, const char *error)
{
    struct pgqrs_run_list one = flow_run(f, message);
    assert_string_equal(pgqrs_run_status_name(one.items[0].status), pgqrs_run_status_name(status));
    assert_json_or_none(one.items[0].output, output);
    assert_json_or_none(one.items[0].error, error);
    pgqrs_run_list_fini(&one);
}

struct pgqrs_step_list flow_steps(struct suite *f, int64_t message)
{
    struct pgqrs_step_list list;
    suite_ok(f, pgqrs_store_run_steps(f->store, message, &list, &f->err));
    return list;
}

void flow_assert_event(struct suite *f, int64_t message, const char *name, const char *payload)
{
    struct pgqrs_pair_list list;
    const char *found = NULL;
    suite_ok(f, pgqrs_store_run_events(f->store, message, &list, &f->err));
    for (size_t i = 0; i < list.count; i++) {
        found = strcmp(list.items[i].name, name) == 0 ? list.items[i].json : found;
    }
    assert_json_or_none(found, payload);
    pgqrs_pair_list_fini(&list);
}

void flow_assert_rows(struct suite *f, const char *table, int count)
{
    char name[64];
    int64_t id = 0;
    (void)snprintf(name, sizeof name, "%s has %d", table, count);
    suite_sql(f,
              "INSERT INTO pgqrs_queues (queue_name) SELECT '%s has ' || n"
              " FROM (SELECT count(*) AS n FROM %s) AS c WHERE '%s has ' || n NOT IN"
              " (SELECT queue_name FROM pgqrs_queues)",
              table, table, table);
    suite_ok(f, pgqrs_store_queue_find(f->store, name, &id, &f->err));
    suite_sql(f, "DELETE FROM pgqrs_queues WHERE id = %" PRId64, id);
}

bool flow_send(struct suite *f, int64_t message, const char *name, const char *payload)
{
    bool first = false;
    suite_ok(f, pgqrs_store_event_send(f->store, message, name, pgqrs_bytes_from(payload), &first,
                                       &f->err));
    return first;
}

void flow_end(struct suite *f, struct pgqrs_lease_ref lease, enum pgqrs_flow_what what)
{
    struct pgqrs_flow item = flow_item(lease, what);
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
    pgqrs_flow_fini(&item);
}

int64_t flow_due(struct suite *f, int64_t message)
{
    struct pgqrs_message m = suite_get(f, message);
    int64_t due = m.vt_us;
    pgqrs_message_fini(&m);
    return due;
}

void flow_step_of_kind(struct suite *f, struct pgqrs_lease_ref lease, const char *name,
                       enum pgqrs_step_kind kind, enum pgqrs_step_status status, int64_t retry_ms)
{
    const struct pgqrs_step_put put = {.name = name,
                                       .kind = kind,
                                       .status = status,
                                       .output = pgqrs_bytes_from("1"),
                                       .error = pgqrs_bytes_from("{\"code\": \"PAUSED\"}"),
                                       .retry_ms = retry_ms};
    struct pgqrs_flow item = flow_item(lease, PGQRS_FLOW_STEP);
    item.steps = &put;
    item.step_count = 1;
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
    pgqrs_flow_fini(&item);
}

struct pgqrs_lease_ref flow_child(struct suite *f, struct pgqrs_lease_ref parent, char event[40],
                                  bool wait)
{
    const struct pgqrs_follow_up next = {.queue = "flow",
                                         .item = {.payload = pgqrs_bytes_from("{\"input\": 2}")}};
    const struct pgqrs_step_put put = {
        .name = "child", .kind = PGQRS_STEP_CHILD, .status = PGQRS_STEP_SUCCESS};
    struct pgqrs_flow item = flow_item(parent, PGQRS_FLOW_STEP);
    item.steps = &put;
    item.step_count = 1;
    item.follow_ups = &next;
    item.follow_up_count = 1;
    item.child = true;
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
    (void)snprintf(event, 40, "child:%s", item.output_out);
    pgqrs_flow_fini(&item);
    if (wait) {
        flow_pause(f, parent, event, -1);
    }
    return flow_begin(f);
}

/* ---- definitions ---- */

static void definitions(void **state)
{
    struct suite *f = *state;
    int64_t flow = flow_make(f);
    int64_t id = 0;
    bool existed = false;
    suite_ok(f, pgqrs_store_workflow_create(f->store, "flow", &id, &existed, &f->err));
    assert_true(existed);
    assert_int_equal(id, flow);
    int64_t queue = 0;
    suite_ok(f, pgqrs_store_queue_find(f->store, "flow", &queue, &f->err));
    assert_int_equal(queue, f->queue);
    /* Of a queue that is there. */
    suite_ok(f, pgqrs_store_workflow_create(f->store, "q", &id, &existed, &f->err));
    assert_false(existed);
    struct pgqrs_workflow_list list;
    suite_ok(f, pgqrs_store_workflow_list(f->store, 0, 1, &list, &f->err));
    assert_int_equal(list.count, 1);
    assert_int_equal(list.items[0].id, flow);
    assert_string_equal(list.items[0].name, "flow");
    assert_int_equal(list.items[0].queue_id, queue);
    assert_int_equal(list.items[0].created_at_us, f->now_us);
    pgqrs_workflow_list_fini(&list);
    suite_ok(f, pgqrs_store_workflow_list(f->store, flow, 10, &list, &f->err));
    assert_int_equal(list.count, 1);
    assert_string_equal(list.items[0].name, "q");
    pgqrs_workflow_list_fini(&list);
    suite_ok(f, pgqrs_store_workflow_list(f->store, id, 10, &list, &f->err));
    assert_int_equal(list.count, 0);
    pgqrs_workflow_list_fini(&list);
    suite_fails(f, pgqrs_store_workflow_find(f->store, "none", &list, &f->err),
                PGQRS_ERR_NOT_FOUND);
    suite_fails(f, pgqrs_store_queue_delete(f->store, queue, &f->err), PGQRS_ERR_CONFLICT);
}

static void triggering(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    const struct pgqrs_enqueue item = {
        .payload = pgqrs_bytes_from("[1, {\"a\": null}]"), .priority = 3, .unique_key = "k"};
    int64_t id = 0;
    int64_t again = 0;
    bool existed = false;
    suite_ok(f, pgqrs_store_workflow_trigger(f->store, "flow", &item, &id, &existed, &f->err));
    assert_false(existed);
    suite_ok(f, pgqrs_store_workflow_trigger(f->store, "flow", &item, &again, &existed, &f->err));
    assert_true(existed);
    assert_int_equal(again, id);
    struct pgqrs_message m = suite_get(f, id);
    assert_int_equal(m.queue_id, f->queue);
    assert_int_equal(m.priority, 3);
    suite_assert_json(pgqrs_bytes_from(m.payload), "{\"input\": [1, {\"a\": null}]}");
    pgqrs_message_fini(&m);
    suite_fails(f, pgqrs_store_workflow_trigger(f->store, "q", &item, &id, &existed, &f->err),
                PGQRS_ERR_NOT_FOUND);
    struct pgqrs_run_list one;
    suite_fails(f, pgqrs_store_run_get(f->store, again, &one, &f->err), PGQRS_ERR_NOT_FOUND);
    assert_non_null(strstr(f->err.text, "has no workflow run"));
    suite_fails(f, pgqrs_store_run_get(f->store, 999999, &one, &f->err), PGQRS_ERR_NOT_FOUND);
    assert_non_null(strstr(f->err.text, "does not exist"));
}

/* ---- beginning ---- */

static void beginning(void **state)
{
    struct suite *f = *state;
    int64_t workflow = flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    struct pgqrs_run_list one = flow_run(f, lease.message_id);
    const struct pgqrs_run *run = &one.items[0];
    int64_t run_id = run->id;
    assert_int_equal(run->status, PGQRS_RUN_RUNNING);
    assert_int_equal(run->workflow_id, workflow);
    assert_string_equal(run->workflow, "flow");
    assert_int_equal(run->worker_id, f->worker);
    assert_int_equal(run->parent_id, 0);
    suite_assert_json(pgqrs_bytes_from(run->input), "{\"input\": {\"n\": 1}}");
    assert_null(run->output);
    assert_null(run->error);
    assert_int_equal(run->created_at_us, f->now_us);
    assert_int_equal(run->started_at_us, f->now_us);
    assert_int_equal(run->completed_at_us, 0);
    assert_int_equal(run->paused_at_us, 0);
    assert_int_equal(run->due_at_us, 0);
    pgqrs_run_list_fini(&one);
    /* Again, by another attempt: the same run, begun once. */
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_RETRY)),
                     PGQRS_SETTLED_YES);
    flow_assert_run(f, lease.message_id, PGQRS_RUN_RUNNING, NULL, NULL);
    suite_advance_ms(f, 1000);
    struct pgqrs_run_open open = flow_open(f, suite_lease_one(f));
    assert_int_equal(open.run_id, run_id);
    assert_int_equal(open.status, PGQRS_RUN_RUNNING);
    assert_int_equal(open.steps.count, 0);
    assert_int_equal(open.events.count, 0);
    pgqrs_run_open_fini(&open);
    one = flow_run(f, lease.message_id);
    assert_int_equal(one.items[0].started_at_us, SUITE_START_US);
    assert_int_equal(one.items[0].updated_at_us, f->now_us);
    pgqrs_run_list_fini(&one);
}

/* A broker is asked again by a worker that has connected again, or was asked before. */
static void beginning_twice_at_once(void **state)
{
    struct suite *f = *state;
    int64_t workflow = flow_make(f);
    struct pgqrs_run_open opens[4];
    memset(opens, 0, sizeof opens);
    int64_t now;
    struct pgqrs_lease_ref lease = flow_start(f);
    flow_step(f, lease, "a", "1");
    for (size_t i = 0; i < 4; i++) {
        opens[i].lease = lease;
    }
    opens[0].lease.attempt++;
    opens[2].lease.worker_id++;
    suite_ok(f, pgqrs_store_run_open(f->store, workflow, opens, 4, &now, &f->err));
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(opens[i].held, i % 2 == 1);
        assert_int_equal(opens[i].steps.count, i % 2);
        pgqrs_run_open_fini(&opens[i]);
    }
}

static void beginning_many(void **state)
{
    struct suite *f = *state;
    int64_t workflow = flow_make(f);
    struct pgqrs_run_open opens[4];
    memset(opens, 0, sizeof opens);
    int64_t now;
    for (size_t i = 0; i < 4; i++) {
        (void)flow_trigger(f, "1");
        opens[i].lease = suite_lease_one(f);
    }
    opens[1].lease.attempt++;
    opens[2].lease.worker_id++;
    suite_ok(f, pgqrs_store_run_open(f->store, workflow, opens, 4, &now, &f->err));
    for (size_t i = 0; i < 4; i++) {
        bool held = i == 0 || i == 3;
        assert_int_equal(opens[i].held, held);
        assert_int_equal(opens[i].run_id != 0, held);
        assert_int_equal(opens[i].status, held ? PGQRS_RUN_RUNNING : PGQRS_RUN_NONE);
        struct pgqrs_run_list one;
        int64_t message = opens[i].lease.message_id;
        if (!held) {
            suite_fails(f, pgqrs_store_run_get(f->store, message, &one, &f->err),
                        PGQRS_ERR_NOT_FOUND);
        }
        pgqrs_run_open_fini(&opens[i]);
    }
}

/* A client of pgqrs has made the run, in any state: what it becomes when it is begun. */
static void beginning_what_others_made(void **state)
{
    struct suite *f = *state;
    int64_t workflow = flow_make(f);
    for (int from = PGQRS_RUN_QUEUED; from < PGQRS_RUN_STATUS_COUNT; from++) {
        const char *name = pgqrs_run_status_name((enum pgqrs_run_status)from);
        int64_t id = flow_trigger(f, "1");
        suite_sql(f,
                  "INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status, input, error)"
                  " VALUES (%" PRId64 ", %" PRId64 ", '%s', '{\"input\": 1}', '\"left\"')",
                  workflow, id, name);
        struct pgqrs_run_open open = flow_open(f, suite_lease_one(f));
        bool runs =
            from == PGQRS_RUN_QUEUED || from == PGQRS_RUN_RUNNING || from == PGQRS_RUN_PAUSED;
        int expected = runs ? PGQRS_RUN_RUNNING : from;
        assert_int_equal(open.status, expected);
        pgqrs_run_open_fini(&open);
        assert_int_equal(flow_status(f, id), expected);
        struct pgqrs_run_list one = flow_run(f, id);
        assert_int_equal(one.items[0].started_at_us, runs ? f->now_us : 0);
        assert_int_equal(one.items[0].error == NULL, runs);
        pgqrs_run_list_fini(&one);
    }
}

/* ---- ending ---- */

static void endings(void **state)
{
    struct suite *f = *state;
    static const struct {
        enum pgqrs_flow_what what;
        enum pgqrs_run_status status;
        const char *output, *error, *outcome;
    } kinds[] = {
        {PGQRS_FLOW_SUCCESS, PGQRS_RUN_SUCCESS, "{\"out\": 1}", NULL, "done"},
        {PGQRS_FLOW_ERROR, PGQRS_RUN_ERROR, NULL, "\"bad\"", "failed"},
        {PGQRS_FLOW_CANCEL, PGQRS_RUN_CANCELLED, NULL, "\"bad\"", "cancelled"},
    };
    flow_make(f);
    for (size_t i = 0; i < 3; i++) {
        struct pgqrs_lease_ref lease = flow_start(f);
        struct pgqrs_flow item = flow_item(lease, kinds[i].what);
        suite_advance_ms(f, 5);
        assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
        assert_int_equal(item.status_out, kinds[i].status);
        flow_assert_run(f, lease.message_id, kinds[i].status, kinds[i].output, kinds[i].error);
        struct pgqrs_run_list one = flow_run(f, lease.message_id);
        assert_int_equal(one.items[0].completed_at_us, f->now_us);
        assert_int_equal(one.items[0].updated_at_us, f->now_us);
        pgqrs_run_list_fini(&one);
        struct pgqrs_message m = suite_get(f, lease.message_id);
        assert_int_equal(m.state, PGQRS_STATE_ARCHIVED);
        assert_string_equal(m.outcome, kinds[i].outcome);
        if (kinds[i].what == PGQRS_FLOW_ERROR) {
            assert_string_equal(m.error, "bad");
        }
        pgqrs_message_fini(&m);
        /* Again, after a lost answer. */
        suite_advance_ms(f, 5);
        assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_BEFORE);
        assert_int_equal(item.status_out, kinds[i].status);
        flow_assert_run(f, lease.message_id, kinds[i].status, kinds[i].output, kinds[i].error);
        pgqrs_flow_fini(&item);
    }
}

static void all_three_fence_runs(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    const struct pgqrs_step_put put = success("s", "1");
    for (int what = PGQRS_FLOW_STEP; what < PGQRS_FLOW_COUNT; what++) {
        struct pgqrs_flow items[4];
        for (size_t i = 0; i < 4; i++) {
            items[i] = flow_item(lease, (enum pgqrs_flow_what)what);
            items[i].steps = &put;
            items[i].step_count = 1;
        }
        items[0].lease.worker_id++;
        items[1].lease.attempt++;
        items[2].lease.attempt--;
        items[3].lease.message_id = 999999;
        suite_ok(f, pgqrs_store_flow(f->store, items, 4, &f->err));
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(items[i].settled_out, PGQRS_SETTLED_REFUSED);
            pgqrs_flow_fini(&items[i]);
        }
    }
    flow_assert_run(f, lease.message_id, PGQRS_RUN_RUNNING, NULL, NULL);
    suite_assert_message(f, lease.message_id, PGQRS_STATE_LEASED, 1, "");
    struct pgqrs_step_list steps = flow_steps(f, lease.message_id);
    assert_int_equal(steps.count, 0);
    assert_int_equal(suite_metrics(f, f->queue).total, 1);
}

/* Nothing changes a run that has ended, whatever is told about it. */
static void the_ended_stay(void **state)
{
    struct suite *f = *state;
    static const char *const ended[] = {"SUCCESS", "ERROR", "CANCELLED"};
    flow_make(f);
    const struct pgqrs_step_put put = success("s", "1");
    for (size_t e = 0; e < 3; e++) {
        struct pgqrs_lease_ref lease = flow_start(f);
        suite_sql(f,
                  "UPDATE pgqrs_workflow_runs SET status = '%s', output = '7', error = '8'"
                  " WHERE message_id = %" PRId64,
                  ended[e], lease.message_id);
        enum pgqrs_run_status status = pgqrs_run_status_from(pgqrs_bytes_from(ended[e]));
        for (int what = PGQRS_FLOW_STEP; what < PGQRS_FLOW_COUNT; what++) {
            struct pgqrs_flow item = flow_item(lease, (enum pgqrs_flow_what)what);
            item.steps = &put;
            item.step_count = 1;
            assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_REFUSED);
            assert_int_equal(item.status_out, status);
            pgqrs_flow_fini(&item);
            flow_assert_run(f, lease.message_id, status, "7", "8");
            suite_assert_message(f, lease.message_id, PGQRS_STATE_LEASED, 1, "");
        }
        struct pgqrs_step_list steps = flow_steps(f, lease.message_id);
        assert_int_equal(steps.count, 0);
        enum pgqrs_run_status now = PGQRS_RUN_NONE;
        suite_ok(f, pgqrs_store_run_cancel(f->store, lease.message_id, &now, &f->err));
        assert_int_equal(now, status);
        /* Its message may end in any way, and be leased again. */
        assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_DEAD)),
                         PGQRS_SETTLED_YES);
        flow_assert_run(f, lease.message_id, status, "7", "8");
    }
}

/* What becomes of a run that is to be cancelled. */
static void the_cancelling_are_cancelled(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    for (int what = PGQRS_FLOW_STEP; what < PGQRS_FLOW_COUNT; what++) {
        struct pgqrs_lease_ref lease = flow_start(f);
        enum pgqrs_run_status status;
        suite_ok(f, pgqrs_store_run_cancel(f->store, lease.message_id, &status, &f->err));
        assert_int_equal(status, PGQRS_RUN_CANCELLING);
        bool ends = what == PGQRS_FLOW_SUCCESS || what == PGQRS_FLOW_ERROR ||
                    what == PGQRS_FLOW_CANCEL || what == PGQRS_FLOW_CONTINUE;
        const struct pgqrs_step_put put = success("s", "1");
        struct pgqrs_flow item = flow_item(lease, (enum pgqrs_flow_what)what);
        item.steps = &put;
        item.step_count = 1;
        item.paused = true;
        item.delay_ms = 60000;
        int64_t total = suite_metrics(f, f->queue).total;
        assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
        assert_int_equal(item.status_out, ends ? PGQRS_RUN_CANCELLED : PGQRS_RUN_CANCELLING);
        pgqrs_flow_fini(&item);
        assert_int_equal(flow_status(f, lease.message_id),
                         ends ? PGQRS_RUN_CANCELLED : PGQRS_RUN_CANCELLING);
        assert_int_equal(suite_metrics(f, f->queue).total, total);
        struct pgqrs_step_list steps = flow_steps(f, lease.message_id);
        assert_int_equal(steps.count, 1);
        pgqrs_step_list_fini(&steps);
        if (what == PGQRS_FLOW_SUSPEND) {
            suite_assert_message(f, lease.message_id, PGQRS_STATE_READY, 0, "");
            lease = suite_lease_one(f);
        }
        if (!ends) {
            assert_int_equal(do_and_forget(f, flow_item(lease, PGQRS_FLOW_CANCEL)),
                             PGQRS_SETTLED_YES);
        }
        struct pgqrs_message m = suite_get(f, lease.message_id);
        assert_int_equal(m.state, PGQRS_STATE_ARCHIVED);
        pgqrs_message_fini(&m);
    }
}

const struct CMUnitTest suite_flow_cases[] = {
    SUITE_CASE(definitions),    SUITE_CASE(triggering),
    SUITE_CASE(beginning),      SUITE_CASE(beginning_twice_at_once),
    SUITE_CASE(beginning_many), SUITE_CASE(beginning_what_others_made),
    SUITE_CASE(endings),        SUITE_CASE(all_three_fence_runs),
    SUITE_CASE(the_ended_stay), SUITE_CASE(the_cancelling_are_cancelled),
};
const size_t suite_flow_count = sizeof suite_flow_cases / sizeof *suite_flow_cases;
