/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_suite_flow.h"

#include <stdio.h>

/* Workflows: what happens to a run from outside: cancelling, resuming, forking, and whatever
 * becomes of its message. */

#define FAR_MS (INT64_C(86400) * 1000)

static enum pgqrs_run_status cancel(struct suite *f, int64_t message)
{
    enum pgqrs_run_status status = PGQRS_RUN_NONE;
    suite_ok(f, pgqrs_store_run_cancel(f->store, message, &status, &f->err));
    return status;
}

static bool resume(struct suite *f, int64_t message)
{
    bool woken = false;
    suite_ok(f, pgqrs_store_run_resume(f->store, message, &woken, &f->err));
    return woken;
}

/* ---- cancelling ---- */

static void cancelling(void **state)
{
    struct suite *f = *state;
    enum pgqrs_run_status status;
    flow_make(f);
    suite_fails(f, pgqrs_store_run_cancel(f->store, 999999, &status, &f->err), PGQRS_ERR_NOT_FOUND);
    /* Without a run: waiting, leased. */
    int64_t id = flow_trigger(f, "1");
    assert_int_equal(cancel(f, id), PGQRS_RUN_CANCELLED);
    struct pgqrs_message m = suite_get(f, id);
    assert_string_equal(m.outcome, "cancelled");
    pgqrs_message_fini(&m);
    id = flow_trigger(f, "1");
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    suite_fails(f, pgqrs_store_run_cancel(f->store, id, &status, &f->err), PGQRS_ERR_CONFLICT);
    suite_assert_message(f, id, PGQRS_STATE_LEASED, 1, "");
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_DELETE)),
                     PGQRS_SETTLED_YES);
    /* One that runs goes on until it sees it. */
    lease = flow_start(f);
    suite_advance_ms(f, 10);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(cancel(f, lease.message_id), PGQRS_RUN_CANCELLING);
        assert_int_equal(flow_status(f, lease.message_id), PGQRS_RUN_CANCELLING);
    }
    suite_assert_message(f, lease.message_id, PGQRS_STATE_LEASED, 1, "");
    flow_end(f, lease, PGQRS_FLOW_CANCEL);
    assert_int_equal(cancel(f, lease.message_id), PGQRS_RUN_CANCELLED);
    /* One that sleeps is due now, and stays what it is when it is begun. */
    lease = flow_start(f);
    flow_pause(f, lease, NULL, FAR_MS);
    assert_int_equal(cancel(f, lease.message_id), PGQRS_RUN_CANCELLING);
    assert_int_equal(flow_due(f, lease.message_id), f->now_us);
    struct pgqrs_run_open open = flow_open(f, suite_lease_one(f));
    assert_int_equal(open.status, PGQRS_RUN_CANCELLING);
    pgqrs_run_open_fini(&open);
    flow_end(f, lease, PGQRS_FLOW_CANCEL);
    /* Its steps still come in, and a result does not undo it. */
    lease = flow_start(f);
    (void)cancel(f, lease.message_id);
    flow_step(f, lease, "a", "1");
    flow_end(f, lease, PGQRS_FLOW_SUCCESS);
    assert_int_equal(flow_status(f, lease.message_id), PGQRS_RUN_CANCELLED);
}

/* What a client of pgqrs leaves: a run that goes on, of a message that is archived. */
static void cancelling_what_nobody_runs(void **state)
{
    struct suite *f = *state;
    int64_t workflow = flow_make(f);
    int64_t id = flow_trigger(f, "1");
    suite_sql(f,
              "INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status)"
              " VALUES (%" PRId64 ", %" PRId64 ", 'RUNNING')",
              workflow, id);
    suite_sql(
        f, "UPDATE pgqrs_messages SET archived_at = '2026-01-01 00:00:00' WHERE id = %" PRId64, id);
    suite_advance_ms(f, 10);
    assert_int_equal(flow_status(f, id), PGQRS_RUN_RUNNING);
    assert_int_equal(cancel(f, id), PGQRS_RUN_CANCELLED);
    struct pgqrs_run_list one = flow_run(f, id);
    assert_int_equal(one.items[0].status, PGQRS_RUN_CANCELLED);
    assert_int_equal(one.items[0].completed_at_us, f->now_us);
    pgqrs_run_list_fini(&one);
}

static void cancelling_what_has_ended(void **state)
{
    static const enum pgqrs_flow_what ends[] = {PGQRS_FLOW_SUCCESS, PGQRS_FLOW_ERROR,
                                                PGQRS_FLOW_CANCEL};
    static const enum pgqrs_run_status are[] = {PGQRS_RUN_SUCCESS, PGQRS_RUN_ERROR,
                                                PGQRS_RUN_CANCELLED};
    struct suite *f = *state;
    flow_make(f);
    for (int i = 0; i < 3; i++) {
        struct pgqrs_lease_ref lease = flow_start(f);
        flow_end(f, lease, ends[i]);
        assert_int_equal(cancel(f, lease.message_id), are[i]);
        assert_int_equal(flow_status(f, lease.message_id), are[i]);
    }
}

/* ---- resuming ---- */

static void resuming(void **state)
{
    struct suite *f = *state;
    bool woken;
    flow_make(f);
    suite_fails(f, pgqrs_store_run_resume(f->store, 999999, &woken, &f->err), PGQRS_ERR_NOT_FOUND);
    struct pgqrs_lease_ref lease = flow_start(f);
    assert_false(resume(f, lease.message_id)); /* it runs */
    flow_step_of_kind(f, lease, "nap", PGQRS_STEP_SLEEP, PGQRS_STEP_ERROR, FAR_MS);
    flow_step_of_kind(f, lease, "retry", PGQRS_STEP_PLAIN, PGQRS_STEP_ERROR, FAR_MS);
    flow_step_of_kind(f, lease, "wait", PGQRS_STEP_EVENT, PGQRS_STEP_ERROR, FAR_MS);
    flow_step_of_kind(f, lease, "dead", PGQRS_STEP_PLAIN, PGQRS_STEP_ERROR, -1);
    flow_pause(f, lease, "wait", FAR_MS);
    suite_advance_ms(f, 10);
    assert_true(resume(f, lease.message_id));
    assert_int_equal(flow_due(f, lease.message_id), f->now_us);
    assert_false(resume(f, lease.message_id));
    struct pgqrs_run_open open = flow_open(f, suite_lease_one(f));
    assert_int_equal(open.steps.count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(open.steps.items[i].status, PGQRS_STEP_ERROR);
        assert_int_equal(open.steps.items[i].retry_at_us, i < 3 ? f->now_us : 0);
    }
    pgqrs_run_open_fini(&open);
    flow_end(f, lease, PGQRS_FLOW_SUCCESS);
    assert_false(resume(f, lease.message_id));
}

/* ---- forking ---- */

static int64_t fork_run(struct suite *f, int64_t message, const char *from, const char *input)
{
    int64_t id = 0;
    suite_ok(f,
             pgqrs_store_run_fork(f->store, message, from, pgqrs_bytes_from(input), &id, &f->err));
    assert_int_not_equal(id, message);
    return id;
}

static void assert_forked(struct suite *f, int64_t id, size_t steps, const char *payload)
{
    static const char *const names[] = {"a", "b", "d"};
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    assert_int_equal(lease.message_id, id);
    struct pgqrs_message m = suite_get(f, id);
    suite_assert_json(pgqrs_bytes_from(m.payload), payload);
    pgqrs_message_fini(&m);
    struct pgqrs_run_list one = flow_run(f, id);
    suite_assert_json(pgqrs_bytes_from(one.items[0].input), payload);
    assert_int_equal(one.items[0].status, PGQRS_RUN_QUEUED);
    pgqrs_run_list_fini(&one);
    struct pgqrs_run_open open = flow_open(f, lease);
    assert_int_equal(open.status, PGQRS_RUN_RUNNING);
    assert_int_equal(open.steps.count, steps);
    for (size_t i = 0; i < steps; i++) {
        assert_string_equal(open.steps.items[i].name, names[i]);
        assert_int_equal(open.steps.items[i].status, PGQRS_STEP_SUCCESS);
        assert_int_equal(open.steps.items[i].kind, i == 1 ? PGQRS_STEP_SLEEP : PGQRS_STEP_PLAIN);
        suite_assert_json(pgqrs_bytes_from(open.steps.items[i].output), "1");
    }
    pgqrs_run_open_fini(&open);
}

static void forking(void **state)
{
    struct suite *f = *state;
    int64_t id;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    flow_step_of_kind(f, lease, "a", PGQRS_STEP_PLAIN, PGQRS_STEP_SUCCESS, -1);
    flow_step_of_kind(f, lease, "b", PGQRS_STEP_SLEEP, PGQRS_STEP_SUCCESS, -1);
    flow_step_of_kind(f, lease, "c", PGQRS_STEP_PLAIN, PGQRS_STEP_ERROR, -1);
    flow_step_of_kind(f, lease, "d", PGQRS_STEP_PLAIN, PGQRS_STEP_SUCCESS, -1);
    assert_forked(f, fork_run(f, lease.message_id, NULL, ""), 3, "{\"input\": {\"n\": 1}}");
    flow_end(f, lease, PGQRS_FLOW_ERROR);
    assert_forked(f, fork_run(f, lease.message_id, "c", ""), 2, "{\"input\": {\"n\": 1}}");
    assert_forked(f, fork_run(f, lease.message_id, "b", "[7]"), 1, "{\"input\": [7]}");
    assert_forked(f, fork_run(f, lease.message_id, "a", "null"), 0, "{\"input\": null}");
    flow_assert_run(f, lease.message_id, PGQRS_RUN_ERROR, NULL, "\"bad\"");
    const struct pgqrs_bytes none = {0};
    suite_fails(f, pgqrs_store_run_fork(f->store, lease.message_id, "x", none, &id, &f->err),
                PGQRS_ERR_NOT_FOUND);
    suite_fails(f, pgqrs_store_run_fork(f->store, 999999, NULL, none, &id, &f->err),
                PGQRS_ERR_NOT_FOUND);
    int64_t plain = flow_trigger(f, "1");
    suite_fails(f, pgqrs_store_run_fork(f->store, plain, NULL, none, &id, &f->err),
                PGQRS_ERR_NOT_FOUND);
}

/* ---- whatever ends a message ends its run ---- */

static void settled_by_an_exchange(void **state)
{
    static const struct {
        enum pgqrs_settle how;
        bool cancelling;
        enum pgqrs_run_status status;
    } ways[] = {
        {PGQRS_SETTLE_DEAD, false, PGQRS_RUN_ERROR},
        {PGQRS_SETTLE_ARCHIVE, false, PGQRS_RUN_ERROR},
        {PGQRS_SETTLE_DELETE, false, PGQRS_RUN_ERROR},
        {PGQRS_SETTLE_CANCEL, false, PGQRS_RUN_CANCELLED},
        {PGQRS_SETTLE_DEAD, true, PGQRS_RUN_CANCELLED},
        {PGQRS_SETTLE_ARCHIVE, true, PGQRS_RUN_CANCELLED},
    };
    struct suite *f = *state;
    flow_make(f);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct pgqrs_lease_ref lease = flow_start(f);
        if (ways[i].cancelling) {
            (void)cancel(f, lease.message_id);
        }
        suite_advance_ms(f, 7);
        struct pgqrs_settlement item = suite_settlement(lease, ways[i].how);
        item.error = pgqrs_bytes_from("it's \"so\"");
        assert_int_equal(suite_settle(f, item), PGQRS_SETTLED_YES);
        flow_assert_run(f, lease.message_id, ways[i].status, NULL, "\"it's \\\"so\\\"\"");
        struct pgqrs_run_list one = flow_run(f, lease.message_id);
        assert_int_equal(one.items[0].completed_at_us, f->now_us);
        pgqrs_run_list_fini(&one);
    }
    /* What only gives it back does not. */
    static const enum pgqrs_settle back[] = {PGQRS_SETTLE_RETRY, PGQRS_SETTLE_SNOOZE,
                                             PGQRS_SETTLE_RETURN};
    struct pgqrs_lease_ref lease = flow_start(f);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(suite_settle(f, suite_settlement(lease, back[i])), PGQRS_SETTLED_YES);
        flow_assert_run(f, lease.message_id, PGQRS_RUN_RUNNING, NULL, NULL);
        lease = suite_lease_one(f);
    }
}

static void archived_by_others(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    struct pgqrs_settlement retry = suite_settlement(lease, PGQRS_SETTLE_RETRY);
    retry.error = pgqrs_bytes_from("the last");
    assert_int_equal(suite_settle(f, retry), PGQRS_SETTLED_YES);
    lease = flow_begin(f);
    flow_pause(f, lease, NULL, FAR_MS);
    assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, lease.message_id), PGQRS_ACTED_YES);
    flow_assert_run(f, lease.message_id, PGQRS_RUN_CANCELLED, NULL, "\"the last\"");
    /* Asked of its worker, which gave it back. */
    lease = flow_start(f);
    assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, lease.message_id), PGQRS_ACTED_ASKED);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_RETURN)),
                     PGQRS_SETTLED_YES);
    enum pgqrs_worker_state found;
    struct pgqrs_lease_ref asked;
    struct pgqrs_orders orders = {.worker_ids = &f->worker,
                                  .worker_count = 1,
                                  .states_out = &found,
                                  .cancels_out = &asked,
                                  .cancel_max = 1};
    suite_ok(f, pgqrs_store_worker_orders(f->store, &orders, &f->err));
    flow_assert_run(f, lease.message_id, PGQRS_RUN_CANCELLED, NULL, "\"" PGQRS_CANCELLED_TEXT "\"");
    /* Buried. */
    lease = flow_start(f);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_RETRY)),
                     PGQRS_SETTLED_YES);
    assert_int_equal(pgqrs_store_bury(f->store, f->queue, 1, &f->err), 1);
    flow_assert_run(f, lease.message_id, PGQRS_RUN_ERROR, NULL,
                    "\"attempts used up: found 1, expected at most 1\"");
    /* Its worker has crashed once too often. */
    int64_t worker = f->worker;
    f->worker = suite_worker(f, "crasher", 1);
    lease = flow_start(f);
    const struct pgqrs_release release = {
        .charge = true, .crashed = true, .max_attempts = 5, .max_crashes = 1, .reason = "boom"};
    assert_int_equal(pgqrs_store_worker_end(f->store, f->worker, &release, &f->err), 1);
    flow_assert_run(f, lease.message_id, PGQRS_RUN_ERROR, NULL, "\"boom\"");
    f->worker = worker;
    /* By a client of pgqrs, with its own statement. */
    for (int i = 0; i < 3; i++) {
        lease = flow_start(f);
        if (i == 1) {
            (void)cancel(f, lease.message_id);
        } else if (i == 2) {
            suite_sql(f,
                      "UPDATE pgqrs_workflow_runs SET status = 'SUCCESS', output = '3'"
                      " WHERE message_id = %" PRId64,
                      lease.message_id);
        }
        suite_sql(f,
                  "UPDATE pgqrs_messages SET archived_at = '2026-01-01 00:00:09'"
                  " WHERE id = %" PRId64 " AND consumer_worker_id = %" PRId64
                  " AND archived_at IS NULL",
                  lease.message_id, f->worker);
        assert_int_equal(flow_status(f, lease.message_id), i == 0   ? PGQRS_RUN_ERROR
                                                           : i == 1 ? PGQRS_RUN_CANCELLED
                                                                    : PGQRS_RUN_SUCCESS);
    }
}

/* ---- replaying ---- */

static void replaying_a_failed_run(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    flow_step(f, lease, "done", "1");
    flow_step_of_kind(f, lease, "retry", PGQRS_STEP_PLAIN, PGQRS_STEP_ERROR, FAR_MS);
    const struct pgqrs_step_put dead = {.name = "dead",
                                        .status = PGQRS_STEP_ERROR,
                                        .error = pgqrs_bytes_from("{\"code\": \"X\"}"),
                                        .retry_ms = -1,
                                        .retried = true};
    struct pgqrs_flow item = flow_item(lease, PGQRS_FLOW_ERROR);
    item.steps = &dead;
    item.step_count = 1;
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
    pgqrs_flow_fini(&item);
    suite_advance_ms(f, 30);
    assert_int_equal(suite_act(f, PGQRS_ACT_REPLAY, lease.message_id), PGQRS_ACTED_YES);
    flow_assert_run(f, lease.message_id, PGQRS_RUN_QUEUED, NULL, NULL);
    struct pgqrs_run_list one = flow_run(f, lease.message_id);
    assert_int_equal(one.items[0].completed_at_us, 0);
    pgqrs_run_list_fini(&one);
    struct pgqrs_run_open open = flow_open(f, suite_lease_one(f));
    assert_int_equal(open.status, PGQRS_RUN_RUNNING);
    assert_int_equal(open.steps.count, 3);
    assert_int_equal(open.steps.items[0].status, PGQRS_STEP_SUCCESS);
    assert_int_equal(open.steps.items[1].retry_at_us, SUITE_START_US + FAR_MS * 1000);
    assert_int_equal(open.steps.items[2].status, PGQRS_STEP_ERROR);
    assert_int_equal(open.steps.items[2].retry_count, 0);
    assert_int_equal(open.steps.items[2].retry_at_us, f->now_us);
    pgqrs_run_open_fini(&open);
    flow_end(f, lease, PGQRS_FLOW_SUCCESS);
    /* One that ended otherwise stays so. */
    assert_int_equal(suite_act(f, PGQRS_ACT_REPLAY, lease.message_id), PGQRS_ACTED_YES);
    flow_assert_run(f, lease.message_id, PGQRS_RUN_SUCCESS, "{\"out\": 1}", NULL);
}

/* ---- deleting ---- */

/* Every way to delete its message takes all rows of a run along. */
static void rows_go_with_the_message(void **state)
{
    static const char *const tables[] = {"pgqrs_workflow_runs", "pgqrs_workflow_steps",
                                         "pgqrsd_workflow_events", "pgqrsd_workflow_state"};
    struct suite *f = *state;
    flow_make(f);
    for (int way = 0; way < 3; way++) {
        struct pgqrs_lease_ref lease = flow_start(f);
        flow_step(f, lease, "a", "1");
        assert_true(flow_send(f, lease.message_id, "go", "1"));
        struct pgqrs_flow item = flow_item(lease, PGQRS_FLOW_STATE);
        assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
        pgqrs_flow_fini(&item);
        for (size_t i = 0; i < 4; i++) {
            flow_assert_rows(f, tables[i], 1);
        }
        flow_end(f, lease, PGQRS_FLOW_SUCCESS);
        suite_advance_ms(f, 1000);
        struct pgqrs_prune prune = {.queue_id = f->queue, .what = PGQRS_PRUNE_ENDED, .limit = 100};
        int64_t gone =
            way == 0   ? suite_act(f, PGQRS_ACT_DELETE, lease.message_id) == PGQRS_ACTED_YES
            : way == 1 ? pgqrs_store_queue_purge(f->store, f->queue, PGQRS_PURGE_ALL, 100, &f->err)
                       : pgqrs_store_prune(f->store, &prune, &f->err);
        assert_int_equal(gone, 1);
        for (size_t i = 0; i < 4; i++) {
            flow_assert_rows(f, tables[i], 0);
        }
    }
}

/* ---- listing ---- */

static void listing_runs(void **state)
{
    struct suite *f = *state;
    char event[40];
    int64_t workflow = flow_make(f);
    struct pgqrs_lease_ref parent = flow_start(f);
    struct pgqrs_lease_ref child = flow_child(f, parent, event, false);
    struct pgqrs_lease_ref third = flow_start(f);
    flow_pause(f, third, NULL, FAR_MS);
    flow_end(f, child, PGQRS_FLOW_SUCCESS);
    const struct {
        struct pgqrs_run_filter filter;
        size_t count;
        int64_t ids[3];
    } cases[] = {
        {{.limit = 9}, 3, {third.message_id, child.message_id, parent.message_id}},
        {{.limit = 9, .workflow_id = workflow},
         3,
         {third.message_id, child.message_id, parent.message_id}},
        {{.limit = 9, .workflow_id = workflow + 1}, 0, {0}},
        {{.limit = 9, .status = PGQRS_RUN_PAUSED}, 1, {third.message_id}},
        {{.limit = 9, .status = PGQRS_RUN_QUEUED}, 0, {0}},
        {{.limit = 9, .parent_id = parent.message_id}, 1, {child.message_id}},
        {{.limit = 9, .parent_id = parent.message_id, .status = PGQRS_RUN_RUNNING}, 0, {0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pgqrs_run_list list;
        suite_ok(f, pgqrs_store_run_list(f->store, &cases[i].filter, &list, &f->err));
        assert_int_equal(list.count, cases[i].count);
        assert_int_equal(list.next_before_id, 0);
        for (size_t k = 0; k < list.count; k++) {
            assert_int_equal(list.items[k].message_id, cases[i].ids[k]);
            assert_string_equal(list.items[k].workflow, "flow");
        }
        pgqrs_run_list_fini(&list);
    }
    /* By the page. */
    struct pgqrs_run_filter page = {.limit = 1};
    int64_t seen = 0;
    do {
        struct pgqrs_run_list list;
        suite_ok(f, pgqrs_store_run_list(f->store, &page, &list, &f->err));
        assert_true(list.count <= 1);
        seen += (int64_t)list.count;
        page.before_id = list.next_before_id;
        pgqrs_run_list_fini(&list);
    } while (page.before_id != 0 && seen < 9);
    assert_int_equal(seen, 3);
    page = (struct pgqrs_run_filter){.limit = 0};
    struct pgqrs_run_list list;
    suite_fails(f, pgqrs_store_run_list(f->store, &page, &list, &f->err), PGQRS_ERR_INVALID);
}

const struct CMUnitTest suite_flow_run_cases[] = {
    SUITE_CASE(cancelling),
    SUITE_CASE(cancelling_what_nobody_runs),
    SUITE_CASE(cancelling_what_has_ended),
    SUITE_CASE(resuming),
    SUITE_CASE(forking),
    SUITE_CASE(settled_by_an_exchange),
    SUITE_CASE(archived_by_others),
    SUITE_CASE(replaying_a_failed_run),
    SUITE_CASE(rows_go_with_the_message),
    SUITE_CASE(listing_runs),
};
const size_t suite_flow_run_count = sizeof suite_flow_run_cases / sizeof *suite_flow_run_cases;
