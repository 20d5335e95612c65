/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_suite_flow.h"

#include <stdio.h>

/* Workflows: steps and all they bring, pauses, state. */

static struct pgqrs_step_put put_of(const char *name, enum pgqrs_step_status status)
{
    return (struct pgqrs_step_put){.name = name,
                                   .status = status,
                                   .output = pgqrs_bytes_from("{\"n\": 1}"),
                                   .error = pgqrs_bytes_from("{\"is_transient\": true,"
                                                             " \"code\": \"X\", \"message\": \"m\","
                                                             " \"retry_after\": null}"),
                                   .retry_ms = -1};
}

/* The item's only step; the item is given back as it came out, and needs its fini. */
static struct pgqrs_flow do_step(struct suite *f, struct pgqrs_lease_ref lease,
                                 const struct pgqrs_step_put *put)
{
    struct pgqrs_flow item = flow_item(lease, PGQRS_FLOW_STEP);
    item.steps = put;
    item.step_count = 1;
    (void)flow_do(f, &item);
    item.steps = NULL;
    return item;
}

static void assert_step(const struct pgqrs_step *step, const char *name,
                        enum pgqrs_step_status status, int32_t retry_count)
{
    assert_string_equal(step->name, name);
    assert_string_equal(pgqrs_step_status_name(step->status), pgqrs_step_status_name(status));
    assert_int_equal(step->retry_count, retry_count);
    assert_int_equal(step->output != NULL, status == PGQRS_STEP_SUCCESS);
    assert_int_equal(step->error != NULL, status == PGQRS_STEP_ERROR);
}

/* ---- one step ---- */

static void steps_are_stored_once(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    struct pgqrs_step_put put = put_of("a", PGQRS_STEP_SUCCESS);
    put.took_ms = 250;
    struct pgqrs_flow item = do_step(f, lease, &put);
    assert_int_equal(item.settled_out, PGQRS_SETTLED_YES);
    assert_false(item.failed_out);
    assert_int_equal(item.status_out, PGQRS_RUN_RUNNING);
    assert_null(item.output_out);
    pgqrs_flow_fini(&item);
    /* Computed once more, after a lost answer, with another outcome: what is stored stays. */
    for (int status = PGQRS_STEP_SUCCESS; status <= PGQRS_STEP_ERROR; status++) {
        suite_advance_ms(f, 10);
        put = put_of("a", (enum pgqrs_step_status)status);
        put.output = pgqrs_bytes_from("2");
        item = do_step(f, lease, &put);
        assert_int_equal(item.settled_out, PGQRS_SETTLED_BEFORE);
        assert_non_null(item.output_out);
        suite_assert_json(pgqrs_bytes_from(item.output_out), "{\"n\": 1}");
        pgqrs_flow_fini(&item);
    }
    put = put_of("b", PGQRS_STEP_SUCCESS);
    put.output = pgqrs_bytes_from("");
    item = do_step(f, lease, &put);
    pgqrs_flow_fini(&item);
    struct pgqrs_step_list list = flow_steps(f, lease.message_id);
    assert_int_equal(list.count, 2);
    assert_step(&list.items[0], "a", PGQRS_STEP_SUCCESS, 0);
    assert_int_equal(list.items[0].kind, PGQRS_STEP_PLAIN);
    assert_int_equal(list.items[0].started_at_us, SUITE_START_US - 250000);
    assert_int_equal(list.items[0].completed_at_us, SUITE_START_US);
    assert_int_equal(list.items[0].retry_at_us, 0);
    assert_step(&list.items[1], "b", PGQRS_STEP_SUCCESS, 0);
    suite_assert_json(pgqrs_bytes_from(list.items[1].output), "null");
    pgqrs_step_list_fini(&list);
}

/* Nor by an item that is about something else. */
static void stored_steps_stay(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    for (int what = PGQRS_FLOW_STEP; what < PGQRS_FLOW_COUNT; what++) {
        struct pgqrs_lease_ref lease = flow_start(f);
        flow_step(f, lease, "a", "1");
        const struct pgqrs_step_put puts[2] = {
            put_of("a", what % 2 == 0 ? PGQRS_STEP_SUCCESS : PGQRS_STEP_ERROR),
            put_of("b", PGQRS_STEP_SUCCESS)};
        struct pgqrs_flow item = flow_item(lease, (enum pgqrs_flow_what)what);
        item.steps = puts;
        item.step_count = 2;
        item.delay_ms = 1000000;
        assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
        pgqrs_flow_fini(&item);
        struct pgqrs_step_list list = flow_steps(f, lease.message_id);
        assert_int_equal(list.count, 2);
        assert_step(&list.items[0], "a", PGQRS_STEP_SUCCESS, 0);
        suite_assert_json(pgqrs_bytes_from(list.items[0].output), "1");
        assert_step(&list.items[1], "b", PGQRS_STEP_SUCCESS, 0);
        pgqrs_step_list_fini(&list);
        if (what == PGQRS_FLOW_CONTINUE) {
            (void)suite_lease_one(f); /* out of the next one's way */
        }
    }
}

static void steps_that_are_retried(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    for (int32_t n = 1; n <= 3; n++) {
        struct pgqrs_step_put put = put_of("a", PGQRS_STEP_ERROR);
        put.retried = n < 3;
        put.retry_ms = n < 3 ? 1500 * n : -1;
        struct pgqrs_flow item = do_step(f, lease, &put);
        assert_int_equal(item.settled_out, PGQRS_SETTLED_YES);
        pgqrs_flow_fini(&item);
        struct pgqrs_step_list list = flow_steps(f, lease.message_id);
        assert_int_equal(list.count, 1);
        assert_step(&list.items[0], "a", PGQRS_STEP_ERROR, n < 3 ? n : 2);
        suite_assert_json(pgqrs_bytes_from(list.items[0].error),
                          "{\"is_transient\": true, \"code\": \"X\", \"message\": \"m\","
                          " \"retry_after\": null}");
        assert_int_equal(list.items[0].retry_at_us, n < 3 ? f->now_us + 1500000 * n : 0);
        assert_int_equal(list.items[0].started_at_us, SUITE_START_US);
        assert_int_equal(list.items[0].completed_at_us, f->now_us);
        pgqrs_step_list_fini(&list);
        suite_advance_ms(f, 9000);
    }
    flow_step(f, lease, "a", "5");
    struct pgqrs_step_list list = flow_steps(f, lease.message_id);
    assert_step(&list.items[0], "a", PGQRS_STEP_SUCCESS, 2);
    assert_int_equal(list.items[0].retry_at_us, 0);
    assert_int_equal(list.items[0].started_at_us, SUITE_START_US);
    assert_int_equal(list.items[0].completed_at_us, f->now_us);
    pgqrs_step_list_fini(&list);
}

/* One that a client of pgqrs has begun, and another that waits. */
static void steps_of_others(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    suite_sql(
        f,
        "INSERT INTO pgqrs_workflow_steps (run_id, step_name, status, started_at, retry_count)"
        " SELECT id, 'a', 'RUNNING', '2025-12-31 23:59:59', 1 FROM pgqrs_workflow_runs"
        " WHERE message_id = %" PRId64,
        lease.message_id);
    struct pgqrs_run_open open = flow_open(f, lease);
    assert_int_equal(open.steps.count, 1);
    assert_int_equal(open.steps.items[0].status, PGQRS_STEP_RUNNING);
    assert_int_equal(open.steps.items[0].kind, PGQRS_STEP_PLAIN);
    assert_int_equal(open.steps.items[0].retry_count, 1);
    pgqrs_run_open_fini(&open);
    flow_step(f, lease, "a", "[]");
    struct pgqrs_step_list list = flow_steps(f, lease.message_id);
    assert_int_equal(list.count, 1);
    assert_step(&list.items[0], "a", PGQRS_STEP_SUCCESS, 1);
    pgqrs_step_list_fini(&list);
}

static void steps_come_back(void **state)
{
    static const char *const names[] = {"z", "y", "sleep of 5 s", "child", "it's \"q\""};
    struct suite *f = *state;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    struct pgqrs_step_put puts[5];
    for (int i = 0; i < 5; i++) {
        puts[i] = put_of(names[i], i == 1 ? PGQRS_STEP_ERROR : PGQRS_STEP_SUCCESS);
        puts[i].kind = (enum pgqrs_step_kind)i;
    }
    struct pgqrs_flow item = flow_item(lease, PGQRS_FLOW_STEP);
    item.steps = puts;
    item.step_count = 5;
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
    pgqrs_flow_fini(&item);
    struct pgqrs_run_open open = flow_open(f, lease);
    assert_int_equal(open.steps.count, 5);
    for (int i = 0; i < 5; i++) {
        assert_step(&open.steps.items[i], names[i], puts[i].status, 0);
        assert_int_equal(open.steps.items[i].kind, i);
    }
    pgqrs_run_open_fini(&open);
}

/* ---- with follow-ups and children ---- */

static void steps_bring_follow_ups(void **state)
{
    struct suite *f = *state;
    int64_t other = f->queue;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    const struct pgqrs_follow_up next[2] = {
        {.queue = "q", .item = {.payload = pgqrs_bytes_from("2")}},
        {.queue = "q", .item = {.payload = pgqrs_bytes_from("3"), .delay_ms = 50}}};
    const struct pgqrs_step_put put = put_of("a", PGQRS_STEP_SUCCESS);
    struct pgqrs_flow item = flow_item(lease, PGQRS_FLOW_STEP);
    item.steps = &put;
    item.step_count = 1;
    item.follow_ups = next;
    item.follow_up_count = 2;
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
    assert_int_equal(suite_metrics(f, other).total, 2);
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_BEFORE);
    assert_int_equal(suite_metrics(f, other).total, 2);
    pgqrs_flow_fini(&item);
    item = flow_item(lease, PGQRS_FLOW_SUCCESS);
    item.follow_ups = next;
    item.follow_up_count = 1;
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_BEFORE);
    assert_int_equal(suite_metrics(f, other).total, 3);
    pgqrs_flow_fini(&item);
}

static void children(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    const struct pgqrs_follow_up next[2] = {
        {.queue = "flow", .item = {.payload = pgqrs_bytes_from("{\"input\": 2}")}},
        {.queue = "flow", .item = {.payload = pgqrs_bytes_from("{\"input\": 3}")}}};
    struct pgqrs_step_put put = put_of("start it", PGQRS_STEP_SUCCESS);
    put.kind = PGQRS_STEP_CHILD;
    struct pgqrs_flow item = flow_item(lease, PGQRS_FLOW_STEP);
    item.steps = &put;
    item.step_count = 1;
    item.follow_ups = next;
    item.follow_up_count = 2;
    item.child = true;
    char id[2][32];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(flow_do(f, &item), i == 0 ? PGQRS_SETTLED_YES : PGQRS_SETTLED_BEFORE);
        assert_non_null(item.output_out);
        (void)snprintf(id[i], sizeof id[i], "%s", item.output_out);
        pgqrs_flow_fini(&item);
    }
    assert_string_equal(id[0], id[1]);
    assert_int_equal(suite_metrics(f, f->queue).total, 3);
    struct pgqrs_lease_ref child = flow_begin(f);
    char text[32];
    (void)snprintf(text, sizeof text, "%" PRId64, child.message_id);
    assert_string_equal(text, id[0]);
    struct pgqrs_lease_ref second = flow_begin(f);
    struct pgqrs_run_list one = flow_run(f, child.message_id);
    assert_int_equal(one.items[0].parent_id, lease.message_id);
    pgqrs_run_list_fini(&one);
    one = flow_run(f, second.message_id);
    assert_int_equal(one.items[0].parent_id, 0);
    pgqrs_run_list_fini(&one);
    struct pgqrs_step_list steps = flow_steps(f, lease.message_id);
    assert_int_equal(steps.items[0].kind, PGQRS_STEP_CHILD);
    assert_string_equal(steps.items[0].output, id[0]);
    pgqrs_step_list_fini(&steps);
}

/* ---- groups ---- */

/* Of six, one has no lease, one an unknown queue, one no JSON: the others are stored. */
static void a_failing_item_harms_no_other(void **state)
{
    enum { COUNT = 6 };
    struct suite *f = *state;
    int64_t other = f->queue;
    flow_make(f);
    const struct pgqrs_follow_up good = {.queue = "q", .item = {.payload = pgqrs_bytes_from("1")}};
    const struct pgqrs_follow_up bad[2] = {
        good, {.queue = "no such", .item = {.payload = pgqrs_bytes_from("1")}}};
    struct pgqrs_step_put put[COUNT];
    struct pgqrs_flow items[COUNT];
    for (int i = 0; i < COUNT; i++) {
        put[i] = put_of("a", PGQRS_STEP_SUCCESS);
        items[i] = flow_item(flow_start(f), PGQRS_FLOW_STEP);
        items[i].steps = &put[i];
        items[i].step_count = 1;
        items[i].follow_ups = i == 2 ? bad : &good;
        items[i].follow_up_count = i == 2 ? 2 : 1;
    }
    items[1].lease.attempt++;
    put[3].output = pgqrs_bytes_from("{\"n\": ");
    items[5].what = PGQRS_FLOW_SUCCESS;
    suite_ok(f, pgqrs_store_flow(f->store, items, COUNT, &f->err));
    for (int i = 0; i < COUNT; i++) {
        struct pgqrs_step_list steps = flow_steps(f, items[i].lease.message_id);
        bool stored = i == 0 || i > 3;
        assert_int_equal(steps.count, stored ? 1 : 0);
        pgqrs_step_list_fini(&steps);
        assert_int_equal(items[i].failed_out, i == 2 || i == 3);
        assert_int_equal(items[i].error_out != NULL, i == 2 || i == 3);
        if (stored || i == 1) {
            assert_int_equal(items[i].settled_out,
                             stored ? PGQRS_SETTLED_YES : PGQRS_SETTLED_REFUSED);
        }
        assert_int_equal(items[i].status_out, i == 5 ? PGQRS_RUN_SUCCESS : PGQRS_RUN_RUNNING);
    }
    assert_non_null(strstr(items[2].error_out, "\"no such\""));
    assert_int_equal(suite_metrics(f, other).total, 3);
    /* They are told apart when the whole group comes again. */
    suite_ok(f, pgqrs_store_flow(f->store, items, COUNT, &f->err));
    assert_int_equal(items[0].settled_out, PGQRS_SETTLED_BEFORE);
    assert_true(items[2].failed_out);
    assert_int_equal(items[5].settled_out, PGQRS_SETTLED_BEFORE);
    assert_int_equal(suite_metrics(f, other).total, 3);
    for (int i = 0; i < COUNT; i++) {
        pgqrs_flow_fini(&items[i]);
    }
}

/* Several of one run, in their order. */
static void items_of_one_run(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    const struct pgqrs_step_put puts[2] = {put_of("a", PGQRS_STEP_SUCCESS),
                                           put_of("b", PGQRS_STEP_SUCCESS)};
    struct pgqrs_flow items[4];
    for (size_t i = 0; i < 4; i++) {
        items[i] = flow_item(lease, i < 3 ? PGQRS_FLOW_STEP : PGQRS_FLOW_SUCCESS);
        items[i].steps = i < 3 ? &puts[i / 2] : NULL;
        items[i].step_count = i < 3 ? 1 : 0;
    }
    items[2].what = PGQRS_FLOW_STATE;
    items[2].name = "at";
    suite_ok(f, pgqrs_store_flow(f->store, items, 4, &f->err));
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(items[i].settled_out, i == 1 ? PGQRS_SETTLED_BEFORE : PGQRS_SETTLED_YES);
        pgqrs_flow_fini(&items[i]);
    }
    flow_assert_run(f, lease.message_id, PGQRS_RUN_SUCCESS, "{\"out\": 1}", NULL);
    struct pgqrs_step_list steps = flow_steps(f, lease.message_id);
    assert_int_equal(steps.count, 2);
    pgqrs_step_list_fini(&steps);
}

/* A result whose follow-ups can not be: the run has failed. */
static void an_end_that_can_not_be(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    const struct pgqrs_follow_up bad = {.queue = "no such",
                                        .item = {.payload = pgqrs_bytes_from("1")}};
    struct pgqrs_flow item = flow_item(lease, PGQRS_FLOW_SUCCESS);
    item.follow_ups = &bad;
    item.follow_up_count = 1;
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
    assert_int_equal(item.status_out, PGQRS_RUN_ERROR);
    pgqrs_flow_fini(&item);
    assert_int_equal(flow_status(f, lease.message_id), PGQRS_RUN_ERROR);
    struct pgqrs_message m = suite_get(f, lease.message_id);
    assert_string_equal(m.outcome, "failed");
    assert_non_null(strstr(m.error, "\"no such\""));
    pgqrs_message_fini(&m);
}

/* Texts and numbers that no database takes: each item ends somehow, and the group is carried out.
 */
static void nonsense_holds_up_nobody(void **state)
{
    static const char *const texts[] = {"\xff\xfe", "a\xc3",       "\"\\u0000\"", "[1,",
                                        "1e999999", "\"\\ud800\"", "\"\xff\"",    "\n"};
    struct suite *f = *state;
    flow_make(f);
    for (size_t n = 0; n < sizeof texts / sizeof *texts; n++) {
        struct pgqrs_flow items[PGQRS_FLOW_COUNT];
        const struct pgqrs_bytes text = pgqrs_bytes_from(texts[n]);
        const struct pgqrs_follow_up follow = {.queue = texts[n], .item = {.payload = text}};
        const struct pgqrs_step_put puts[2] = {
            {.name = texts[n], .status = PGQRS_STEP_SUCCESS, .output = text, .took_ms = INT64_MAX},
            {.name = "b", .status = PGQRS_STEP_ERROR, .error = text, .retry_ms = INT64_MAX}};
        for (int what = 0; what < PGQRS_FLOW_COUNT; what++) {
            bool nonsense = what != PGQRS_FLOW_NONE; /* that place has a good one */
            (void)flow_trigger(f, "1");
            items[what] =
                flow_item(flow_begin(f), nonsense ? (enum pgqrs_flow_what)what : PGQRS_FLOW_STATE);
            if (nonsense) {
                items[what].name = texts[n];
                items[what].output = items[what].error = text;
                items[what].delay_ms = INT64_MAX;
                items[what].paused = true;
                items[what].steps = puts;
                items[what].step_count = 2;
                items[what].follow_ups = &follow;
                items[what].follow_up_count =
                    what == PGQRS_FLOW_STEP || what == PGQRS_FLOW_SUCCESS ? 1 : 0;
            }
        }
        suite_ok(f, pgqrs_store_flow(f->store, items, PGQRS_FLOW_COUNT, &f->err));
        assert_int_equal(items[0].settled_out, PGQRS_SETTLED_YES);
        for (int what = 0; what < PGQRS_FLOW_COUNT; what++) {
            assert_true(items[what].settled_out != PGQRS_SETTLED_NONE || items[what].failed_out);
            pgqrs_flow_fini(&items[what]);
        }
    }
}

/* ---- statements of the handler's ---- */

static void statements_come_with_the_step(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    suite_sql(f, "CREATE TABLE ledger (k varchar(9) PRIMARY KEY, v varchar(9))");
    struct pgqrs_lease_ref lease = flow_start(f);
    const struct pgqrs_bytes params[2] = {pgqrs_bytes_from("it's"), {0}};
    const struct pgqrs_step_sql sqls[2] = {
        {.text = "INSERT INTO ledger (k, v) VALUES ($1, $2)", .params = params, .param_count = 2},
        {.text = "INSERT INTO ledger (v, k) SELECT k, $1 FROM ledger WHERE v IS NULL",
         .params = (const struct pgqrs_bytes[]){pgqrs_bytes_from("two")},
         .param_count = 1}};
    const struct pgqrs_step_put put = put_of("a", PGQRS_STEP_SUCCESS);
    struct pgqrs_flow item = flow_item(lease, PGQRS_FLOW_STEP);
    item.steps = &put;
    item.step_count = 1;
    item.sqls = sqls;
    item.sql_count = 2;
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
    assert_false(item.failed_out);
    flow_assert_rows(f, "ledger", 2);
    suite_sql(f, "DELETE FROM ledger WHERE k = 'two' AND v = 'it''s'");
    flow_assert_rows(f, "ledger", 1);
    /* Not again with a step that is stored, nor without a lease. */
    suite_sql(f, "DELETE FROM ledger");
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_BEFORE);
    item.lease.attempt++;
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_REFUSED);
    flow_assert_rows(f, "ledger", 0);
    pgqrs_flow_fini(&item);
    suite_sql(f, "DROP TABLE ledger");
}

/* Whatever a statement is, it takes only its own item along. */
static void statements_that_are_refused(void **state)
{
    static const char *const bad[] = {
        "INSERT INTO ledger VALUES ('k', '2')", /* the key is there by then */
        "INSERT INTO none VALUES (1)",
        "SELECT FROM WHERE",
        "INSERT INTO ledger VALUES ('x', '2'); INSERT INTO ledger VALUES ('y', '2')",
        "COMMIT",
        "ROLLBACK",
        "BEGIN",
        "SAVEPOINT a",
        "INSERT INTO ledger VALUES ($1, $2)", /* there is one parameter */
        "",
    };
    enum { BAD = sizeof bad / sizeof *bad };
    struct suite *f = *state;
    int64_t other = f->queue;
    flow_make(f);
    suite_sql(f, "CREATE TABLE ledger (k varchar(9) PRIMARY KEY, v varchar(9))");
    const struct pgqrs_step_put put = put_of("a", PGQRS_STEP_SUCCESS);
    const struct pgqrs_follow_up next = {.queue = "q", .item = {.payload = pgqrs_bytes_from("1")}};
    const struct pgqrs_bytes param = pgqrs_bytes_from("k");
    struct pgqrs_step_sql sqls[BAD][2];
    struct pgqrs_flow items[BAD + 1];
    for (int i = 0; i <= BAD; i++) {
        items[i] = flow_item(flow_start(f), PGQRS_FLOW_STEP);
        items[i].steps = &put;
        items[i].step_count = 1;
        items[i].follow_ups = &next;
        items[i].follow_up_count = 1;
        if (i < BAD) {
            sqls[i][0] = (struct pgqrs_step_sql){
                .text = "INSERT INTO ledger VALUES ($1, '1')", .params = &param, .param_count = 1};
            sqls[i][1] = (struct pgqrs_step_sql){
                .text = bad[i], .params = &param, .param_count = i == BAD - 2 ? 1 : 0};
            items[i].sqls = sqls[i];
            items[i].sql_count = 2;
        }
    }
    suite_ok(f, pgqrs_store_flow(f->store, items, BAD + 1, &f->err));
    for (int i = 0; i <= BAD; i++) {
        if (items[i].failed_out != (i < BAD) || (items[i].error_out == NULL) != (i == BAD)) {
            fail_msg("%s: failed %d (%s)", i < BAD ? bad[i] : "the last", items[i].failed_out,
                     items[i].error_out == NULL ? "" : items[i].error_out);
        }
        struct pgqrs_step_list steps = flow_steps(f, items[i].lease.message_id);
        assert_int_equal(steps.count, i < BAD ? 0 : 1);
        pgqrs_step_list_fini(&steps);
        pgqrs_flow_fini(&items[i]);
    }
    assert_int_equal(suite_metrics(f, other).total, 1);
    flow_assert_rows(f, "ledger", 0);
    suite_sql(f, "DROP TABLE ledger");
}

/* ---- suspending ---- */

static void sleeping(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    struct pgqrs_step_put put = put_of("nap", PGQRS_STEP_ERROR);
    put.kind = PGQRS_STEP_SLEEP;
    put.retry_ms = 5000;
    struct pgqrs_flow item = flow_item(lease, PGQRS_FLOW_SUSPEND);
    item.steps = &put;
    item.step_count = 1;
    item.delay_ms = 5000;
    item.paused = true;
    item.error = pgqrs_bytes_from("{\"message\": \"nap\", \"resume_after\": 5}");
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
    assert_int_equal(item.status_out, PGQRS_RUN_PAUSED);
    assert_int_not_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
    pgqrs_flow_fini(&item);
    flow_assert_run(f, lease.message_id, PGQRS_RUN_PAUSED, NULL,
                    "{\"message\": \"nap\", \"resume_after\": 5}");
    struct pgqrs_run_list one = flow_run(f, lease.message_id);
    assert_int_equal(one.items[0].paused_at_us, f->now_us);
    assert_int_equal(one.items[0].due_at_us, f->now_us + 5000000);
    pgqrs_run_list_fini(&one);
    suite_assert_message(f, lease.message_id, PGQRS_STATE_DELAYED, 0, "");
    assert_int_equal(suite_lease(f, 1), 0);
    suite_advance_ms(f, 5000);
    lease = suite_lease_one(f);
    assert_int_equal(lease.attempt, 1);
    struct pgqrs_run_open open = flow_open(f, lease);
    assert_int_equal(open.status, PGQRS_RUN_RUNNING);
    assert_int_equal(open.steps.count, 1);
    assert_int_equal(open.steps.items[0].kind, PGQRS_STEP_SLEEP);
    assert_int_equal(open.steps.items[0].retry_at_us, f->now_us);
    pgqrs_run_open_fini(&open);
    flow_assert_run(f, lease.message_id, PGQRS_RUN_RUNNING, NULL, NULL);
}

static void suspended_for_a_retry(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    struct pgqrs_flow item = flow_item(lease, PGQRS_FLOW_SUSPEND);
    item.delay_ms = 700;
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
    assert_int_equal(item.status_out, PGQRS_RUN_RUNNING);
    pgqrs_flow_fini(&item);
    flow_assert_run(f, lease.message_id, PGQRS_RUN_RUNNING, NULL, NULL);
    struct pgqrs_message m = suite_get(f, lease.message_id);
    assert_int_equal(m.vt_us, f->now_us + 700000);
    assert_int_equal(m.read_ct, 0);
    pgqrs_message_fini(&m);
}

static void suspended_for_ever(void **state)
{
    struct suite *f = *state;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    flow_pause(f, lease, NULL, -1);
    assert_int_equal(flow_status(f, lease.message_id), PGQRS_RUN_PAUSED);
    suite_advance_ms(f, INT64_C(1000) * 365 * 86400 * 1000); /* a thousand years */
    assert_int_equal(suite_lease(f, 1), 0);
}

/* ---- state ---- */

static void put_state(struct suite *f, struct pgqrs_lease_ref lease, const char *key,
                      const char *value)
{
    struct pgqrs_flow item = flow_item(lease, PGQRS_FLOW_STATE);
    item.name = key;
    item.output = pgqrs_bytes_from(value);
    assert_int_equal(flow_do(f, &item), PGQRS_SETTLED_YES);
    assert_false(item.failed_out);
    pgqrs_flow_fini(&item);
}

static void state_of_runs_and_jobs(void **state)
{
    struct suite *f = *state;
    struct pgqrs_pair_list list;
    int64_t plain = f->queue;
    flow_make(f);
    struct pgqrs_lease_ref lease = flow_start(f);
    put_state(f, lease, "b", "1");
    suite_advance_ms(f, 10);
    put_state(f, lease, "b", "{\"x\": 2}");
    put_state(f, lease, "a", "[]");
    suite_ok(f, pgqrs_store_run_state(f->store, lease.message_id, &list, &f->err));
    assert_int_equal(list.count, 2);
    assert_string_equal(list.items[0].name, "a");
    assert_string_equal(list.items[1].name, "b");
    suite_assert_json(pgqrs_bytes_from(list.items[1].json), "{\"x\": 2}");
    assert_int_equal(list.items[1].at_us, f->now_us);
    pgqrs_pair_list_fini(&list);
    /* A job that is no workflow. */
    f->queue = plain;
    int64_t id = suite_put(f, "1", 0, 0);
    suite_ok(f, pgqrs_store_run_state(f->store, id, &list, &f->err));
    assert_int_equal(list.count, 0);
    lease = suite_lease_one(f);
    put_state(f, lease, "at", "7");
    suite_ok(f, pgqrs_store_run_state(f->store, id, &list, &f->err));
    assert_int_equal(list.count, 1);
    pgqrs_pair_list_fini(&list);
    struct pgqrs_run_list one;
    suite_fails(f, pgqrs_store_run_get(f->store, id, &one, &f->err), PGQRS_ERR_NOT_FOUND);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_DELETE)),
                     PGQRS_SETTLED_YES);
    suite_assert_gone(f, id);
    suite_ok(f, pgqrs_store_run_state(f->store, id, &list, &f->err));
    assert_int_equal(list.count, 0);
}

const struct CMUnitTest suite_flow_step_cases[] = {
    SUITE_CASE(steps_are_stored_once),
    SUITE_CASE(stored_steps_stay),
    SUITE_CASE(steps_that_are_retried),
    SUITE_CASE(steps_of_others),
    SUITE_CASE(steps_come_back),
    SUITE_CASE(steps_bring_follow_ups),
    SUITE_CASE(children),
    SUITE_CASE(a_failing_item_harms_no_other),
    SUITE_CASE(items_of_one_run),
    SUITE_CASE(an_end_that_can_not_be),
    SUITE_CASE(nonsense_holds_up_nobody),
    SUITE_CASE(statements_come_with_the_step),
    SUITE_CASE(statements_that_are_refused),
    SUITE_CASE(sleeping),
    SUITE_CASE(suspended_for_a_retry),
    SUITE_CASE(suspended_for_ever),
    SUITE_CASE(state_of_runs_and_jobs),
};
const size_t suite_flow_step_count = sizeof suite_flow_step_cases / sizeof *suite_flow_step_cases;
