/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_suite_flow.h"

#include <stdio.h>

/* Workflows: what runs tell each other: events, children's ends, going on as another run. */

#define FAR_MS (INT64_C(86400) * 1000)

/* ---- events ---- */

static void events_before_the_run(void **state)
{
    struct suite *f = *state;
    bool first;
    flow_make(f);
    int64_t id = flow_trigger(f, "1");
    assert_true(flow_send(f, id, "go", "{\"n\": 1}"));
    assert_false(flow_send(f, id, "go", "{\"n\": 2}"));
    flow_assert_event(f, id, "go", "{\"n\": 1}");
    struct pgqrs_run_open open = flow_open(f, suite_lease_one(f));
    assert_int_equal(open.events.count, 1);
    assert_string_equal(open.events.items[0].name, "go");
    suite_assert_json(pgqrs_bytes_from(open.events.items[0].json), "{\"n\": 1}");
    assert_int_equal(open.events.items[0].at_us, f->now_us);
    pgqrs_run_open_fini(&open);
    suite_fails(
        f, pgqrs_store_event_send(f->store, 999999, "go", pgqrs_bytes_from("1"), &first, &f->err),
        PGQRS_ERR_NOT_FOUND);
    suite_fails(f, pgqrs_store_event_send(f->store, id, "", pgqrs_bytes_from("1"), &first, &f->err),
                PGQRS_ERR_INVALID);
}

/* While it runs: who then says that it waits does not wait. */
static void events_before_the_wait(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    assert_true(flow_send(f, lease.message_id, "go", "1"));
    struct pgqrs_flow item = flow_item(lease, PGQRS_FLOW_SUSPEND);
    item.name = "go";
    item.delay_ms = FAR_MS;
    item.paused = true;
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
    assert_int_equal(item.status_out, PGQRS_RUN_RUNNING);
    pgqrs_flow_fini(&item);
    flow_assert_run(f, lease.message_id, PGQRS_RUN_RUNNING, NULL, NULL);
    suite_assert_message(f, lease.message_id, PGQRS_STATE_READY, 0, "");
    /* For another one it does. */
    lease = flow_begin(f);
    flow_pause(f, lease, "other", FAR_MS);
    assert_int_equal(flow_status(f, lease.message_id), PGQRS_RUN_PAUSED);
    assert_int_equal(flow_due(f, lease.message_id), f->now_us + FAR_MS * 1000);
}

static void events_while_it_waits(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    flow_pause(f, lease, "go", -1);
    suite_advance_ms(f, 5);
    assert_true(flow_send(f, lease.message_id, "no", "1"));
    assert_true(flow_due(f, lease.message_id) > f->now_us);
    assert_true(flow_send(f, lease.message_id, "go", "1"));
    assert_int_equal(flow_due(f, lease.message_id), f->now_us);
    struct pgqrs_run_open open = flow_open(f, suite_lease_one(f));
    assert_int_equal(open.status, PGQRS_RUN_RUNNING);
    assert_int_equal(open.events.count, 2);
    pgqrs_run_open_fini(&open);
    /* It has been told: only a new wait would be ended by it. */
    flow_pause(f, lease, NULL, FAR_MS);
    assert_false(flow_send(f, lease.message_id, "go", "2"));
    assert_int_equal(flow_due(f, lease.message_id), f->now_us + FAR_MS * 1000);
    /* Nor does it wait any more once it was begun again, whatever gives it back then. */
    lease = flow_start(f);
    flow_pause(f, lease, "late", 10);
    suite_advance_ms(f, 10);
    struct pgqrs_settlement retry = suite_settlement(flow_begin(f), PGQRS_SETTLE_RETRY);
    retry.delay_ms = FAR_MS;
    assert_int_equal(suite_settle(f, retry), PGQRS_SETTLED_YES);
    assert_true(flow_send(f, lease.message_id, "late", "1"));
    assert_int_equal(flow_due(f, lease.message_id), f->now_us + FAR_MS * 1000);
}

static void events_after_the_end(void **state)
{
    struct suite *f = *state;
    bool first;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    assert_true(flow_send(f, lease.message_id, "go", "1"));
    flow_end(f, lease, PGQRS_FLOW_SUCCESS);
    for (int i = 0; i < 2; i++) {
        suite_fails(f,
                    pgqrs_store_event_send(f->store, lease.message_id, i == 0 ? "go" : "on",
                                           pgqrs_bytes_from("2"), &first, &f->err),
                    PGQRS_ERR_CONFLICT);
    }
    flow_assert_event(f, lease.message_id, "go", "1");
    flow_assert_event(f, lease.message_id, "on", NULL);
}

/* ---- children ---- */

static void children_tell_their_end(void **state)
{
    static const struct {
        enum pgqrs_flow_what what;
        const char *payload;
    } ends[] = {{PGQRS_FLOW_SUCCESS, "{\"status\": \"SUCCESS\", \"output\": {\"out\": 1}}"},
                {PGQRS_FLOW_ERROR, "{\"status\": \"ERROR\", \"error\": \"bad\"}"},
                {PGQRS_FLOW_CANCEL, "{\"status\": \"CANCELLED\", \"error\": \"bad\"}"}};
    struct suite *f = *state;
    char event[40];
    flow_make(f);
    for (int i = 0; i < 6; i++) {
        struct pgqrs_lease_ref parent = flow_start(f);
        struct pgqrs_lease_ref child = flow_child(f, parent, event, i % 2 == 0);
        flow_assert_event(f, parent.message_id, event, NULL);
        suite_advance_ms(f, 10);
        flow_end(f, child, ends[i / 2].what);
        flow_assert_event(f, parent.message_id, event, ends[i / 2].payload);
        if (i % 2 == 0) {
            assert_int_equal(flow_due(f, parent.message_id), f->now_us);
            parent = flow_begin(f);
        }
        flow_end(f, parent, PGQRS_FLOW_SUCCESS);
    }
}

/* However it ends; and whether its parent is there or not. */
static void children_that_die(void **state)
{
    struct suite *f = *state;
    char event[40];
    flow_make(f);
    struct pgqrs_lease_ref parent = flow_start(f);
    struct pgqrs_lease_ref child = flow_child(f, parent, event, true);
    struct pgqrs_settlement dead = suite_settlement(child, PGQRS_SETTLE_DEAD);
    dead.error = pgqrs_bytes_from("used \"up\"");
    assert_int_equal(suite_settle(f, dead), PGQRS_SETTLED_YES);
    flow_assert_event(f, parent.message_id, event,
                      "{\"status\": \"ERROR\", \"error\": \"used \\\"up\\\"\"}");
    parent = flow_begin(f);
    (void)suite_act(f, PGQRS_ACT_REPLAY, child.message_id);
    child = flow_begin(f);
    flow_end(f, child, PGQRS_FLOW_SUCCESS); /* what was told stays */
    flow_assert_event(f, parent.message_id, event,
                      "{\"status\": \"ERROR\", \"error\": \"used \\\"up\\\"\"}");
    flow_end(f, parent, PGQRS_FLOW_SUCCESS);

    parent = flow_start(f);
    child = flow_child(f, parent, event, false);
    flow_end(f, parent, PGQRS_FLOW_SUCCESS);
    assert_int_equal(suite_act(f, PGQRS_ACT_DELETE, parent.message_id), PGQRS_ACTED_YES);
    flow_end(f, child, PGQRS_FLOW_SUCCESS);
    flow_assert_event(f, parent.message_id, event, NULL);
}

/* ---- going on as another run ---- */

static void continuing(void **state)
{
    struct suite *f = *state;
    char event[40];
    char output[64];
    flow_make(f);
    struct pgqrs_lease_ref parent = flow_start(f);
    struct pgqrs_lease_ref lease = flow_child(f, parent, event, false);
    assert_true(flow_send(f, lease.message_id, "taken", "1"));
    assert_true(flow_send(f, lease.message_id, "left", "2"));
    assert_true(flow_send(f, lease.message_id, "late", "3"));
    const struct pgqrs_step_put timed_out = {.name = "late",
                                             .kind = PGQRS_STEP_EVENT,
                                             .status = PGQRS_STEP_SUCCESS,
                                             .output = pgqrs_bytes_from("{\"timed_out\": true}")};
    struct pgqrs_flow late = flow_item(lease, PGQRS_FLOW_STEP);
    late.steps = &timed_out;
    late.step_count = 1;
    assert_int_equal(flow_do(f, &late), PGQRS_SETTLED_YES);
    pgqrs_flow_fini(&late);
    flow_step_of_kind(f, lease, "taken", PGQRS_STEP_EVENT, PGQRS_STEP_SUCCESS, -1);
    flow_step_of_kind(f, lease, "left", PGQRS_STEP_PLAIN, PGQRS_STEP_SUCCESS, -1);
    flow_end(f, lease, PGQRS_FLOW_CONTINUE);
    struct pgqrs_lease_ref next = suite_lease_one(f);
    (void)snprintf(output, sizeof output, "{\"continued_as\": %" PRId64 "}", next.message_id);
    flow_assert_run(f, lease.message_id, PGQRS_RUN_SUCCESS, output, NULL);
    struct pgqrs_message m = suite_get(f, lease.message_id);
    assert_string_equal(m.outcome, "done");
    pgqrs_message_fini(&m);
    m = suite_get(f, next.message_id);
    suite_assert_json(pgqrs_bytes_from(m.payload), "{\"input\": {\"out\": 1}}");
    pgqrs_message_fini(&m);
    struct pgqrs_run_open open = flow_open(f, next);
    assert_int_equal(open.steps.count, 0);
    assert_int_equal(open.events.count, 2);
    assert_string_equal(open.events.items[0].name, "late");
    assert_string_equal(open.events.items[1].name, "left");
    pgqrs_run_open_fini(&open);
    struct pgqrs_run_list one = flow_run(f, next.message_id);
    assert_int_equal(one.items[0].parent_id, parent.message_id);
    pgqrs_run_list_fini(&one);
    /* Again, after a lost answer. */
    int64_t total = suite_metrics(f, f->queue).total;
    struct pgqrs_flow item = flow_item(lease, PGQRS_FLOW_CONTINUE);
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_BEFORE);
    pgqrs_flow_fini(&item);
    assert_int_equal(suite_metrics(f, f->queue).total, total);
}

const struct CMUnitTest suite_flow_event_cases[] = {
    SUITE_CASE(events_before_the_run),
    SUITE_CASE(events_before_the_wait),
    SUITE_CASE(events_while_it_waits),
    SUITE_CASE(events_after_the_end),
    SUITE_CASE(children_tell_their_end),
    SUITE_CASE(children_that_die),
    SUITE_CASE(continuing),
};
const size_t suite_flow_event_count =
    sizeof suite_flow_event_cases / sizeof *suite_flow_event_cases;
