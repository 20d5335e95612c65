/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/pg_plans.h"
#include "tests/support/plan_steps.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/workflow.h"

/*
 * What a statement costs does not grow with the backlog: neither when the planner knows of it, nor
 * when it knows the table as it was when it was empty; neither with a plan for any parameters, nor
 * with one for those at hand.
 */

#define WAITING 1000000
#define DELAYED 100000
#define ARCHIVED 200000
#define HELD 300
#define RUNS 50000

struct bench {
    struct plan_bench b;
    struct pg_rig *rig;
};

static struct bench bench;

/* ---- a big queue ---- */

#define FILL(columns, values)                                                                      \
    "INSERT INTO pgqrs_messages (queue_id, payload, enqueued_at, " columns                         \
    ") SELECT %lld, '{\"n\": 1}', now() - interval '2 days' + n * interval '1 ms', " values        \
    " FROM generate_series(1, %d) n"

static void fill(struct pg_rig *rig, const struct plan_bench *b)
{
    long long q = b->queue;
    pg_rig_sql(rig, "SET session_replication_role = replica; SET synchronous_commit = off");
    pg_rig_sql(
        rig, FILL("vt, pgqrsd_priority", "now() - interval '1 day' + n * interval '1 ms', n %% 4"),
        q, WAITING);
    pg_rig_sql(rig,
               FILL("vt, pgqrsd_priority", "now() + interval '1 day' + n * interval '1 ms', 10"), q,
               DELAYED);
    pg_rig_sql(rig, FILL("vt", "now() + interval '1 day' + n * interval '1 ms'"),
               (long long)b->later, DELAYED / 5);
    pg_rig_sql(rig,
               FILL("vt, read_ct, consumer_worker_id, archived_at, pgqrsd_outcome",
                    "now(), 1, %lld, now() - interval '1 day' + n * interval '1 ms',"
                    " CASE WHEN n %% 20 = 0 THEN 'failed' ELSE 'done' END"),
               q, (long long)b->holder, ARCHIVED);
    pg_rig_sql(rig,
               FILL("vt, read_ct, consumer_worker_id",
                    "now() - interval '1 hour', 1, CASE WHEN n %% 3 = 0 THEN %lld ELSE %lld END"),
               q, (long long)b->foreign, (long long)b->holder, HELD);
    pg_rig_sql(rig,
               "INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status, input)"
               " SELECT 1, id, 'SUCCESS', '{}' FROM pgqrs_messages WHERE archived_at IS NOT NULL"
               " ORDER BY id DESC LIMIT %d",
               RUNS);
    pg_rig_sql(rig, "INSERT INTO pgqrs_workflow_steps (run_id, step_name, status, output)"
                    " SELECT id, 'step ' || n, 'SUCCESS', '1' FROM pgqrs_workflow_runs,"
                    " generate_series(1, 3) n;"
                    "INSERT INTO pgqrsd_workflow_events (message_id, name, payload)"
                    " SELECT message_id, 'sent', '1' FROM pgqrs_workflow_runs");
    pg_rig_sql(rig, "RESET session_replication_role");
}

static int set_up(void **state)
{
    struct plan_bench *b = &bench.b;
    struct pg_rig *rig = bench.rig = pg_rig_create();
    *state = &bench;
    b->store = pg_rig_store(rig, NULL);
    suite_ok(b, pgqrs_store_queue_create(b->store, "mail", &b->queue, &b->err));
    suite_ok(b, pgqrs_store_queue_create(b->store, "later", &b->later, &b->err));
    int64_t flow;
    suite_ok(b, pgqrs_store_workflow_create(b->store, "mail", &flow, NULL, &b->err));
    assert_int_equal(flow, 1);
    b->holder = plan_bench_worker(b, "holder");
    b->foreign = plan_bench_worker(b, "foreign");
    pgqrs_store_close(&b->store);
    pg_rig_sql(rig,
               "UPDATE pgqrs_workers SET pgqrsd_instance = NULL, heartbeat_at = now() - interval"
               " '1 day' WHERE id = %lld",
               (long long)b->foreign);
    pg_rig_sql(rig, "ALTER TABLE pgqrs_messages SET (autovacuum_enabled = false)");
    pg_rig_sql(rig, "ANALYZE");
    fill(rig, b);
    return 0;
}

static int tear_down(void **state)
{
    struct bench *f = *state;
    pg_rig_destroy(f->rig);
    return 0;
}

/* ---- workflows ---- */

static const struct pgqrs_step_put one_step = {
    .name = "step 1", .status = PGQRS_STEP_SUCCESS, .output = {.data = "1", .len = 1}};

static void lease_and_open(struct plan_bench *b)
{
    struct pgqrs_run_open opens[256] = {0};
    int64_t now;
    const struct pgqrs_want want = {.queue_id = b->queue,
                                    .worker_id = b->holder,
                                    .count = b->limit,
                                    .max_attempts = 5,
                                    .lease_ms = 60000};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    suite_ok(b, pgqrs_store_exchange(b->store, &x, &b->err));
    b->lease_count = x.lease_count;
    for (size_t i = 0; i < x.lease_count; i++) {
        opens[i].lease = b->leases[i] =
            (struct pgqrs_lease_ref){x.leases[i].message_id, b->holder, x.leases[i].attempt};
    }
    pgqrs_exchange_fini(&x);
    suite_ok(b, pgqrs_store_run_open(b->store, 1, opens, b->lease_count, &now, &b->err));
    for (size_t i = 0; i < b->lease_count; i++) {
        assert_true(opens[i].held);
        pgqrs_run_open_fini(&opens[i]);
    }
}

static void flow_all(struct plan_bench *b, enum pgqrs_flow_what what)
{
    struct pgqrs_flow items[256] = {0};
    for (size_t i = 0; i < b->lease_count; i++) {
        items[i] = (struct pgqrs_flow){.lease = b->leases[i],
                                       .what = what,
                                       .steps = &one_step,
                                       .step_count = 1,
                                       .output = pgqrs_bytes_from("1"),
                                       .error = pgqrs_bytes_from("\"bad\""),
                                       .paused = true,
                                       .delay_ms = -1,
                                       .name = "sent"};
    }
    suite_ok(b, pgqrs_store_flow(b->store, items, b->lease_count, &b->err));
    for (size_t i = 0; i < b->lease_count; i++) {
        assert_int_equal(items[i].settled_out, PGQRS_SETTLED_YES);
        pgqrs_flow_fini(&items[i]);
    }
}

static void store_steps(struct plan_bench *b)
{
    lease_and_open(b);
    flow_all(b, PGQRS_FLOW_STEP);
    flow_all(b, PGQRS_FLOW_STATE);
}

static void suspend_and_wake(struct plan_bench *b)
{
    bool yes;
    enum pgqrs_run_status status;
    flow_all(b, PGQRS_FLOW_SUSPEND);
    int64_t id = b->leases[0].message_id;
    suite_ok(b, pgqrs_store_run_resume(b->store, id, &yes, &b->err));
    assert_true(yes);
    suite_ok(b, pgqrs_store_event_send(b->store, id, "sent", one_step.output, &yes, &b->err));
    assert_true(yes);
    suite_ok(b, pgqrs_store_run_cancel(b->store, id, &status, &b->err));
}

static void end_runs(struct plan_bench *b)
{
    enum pgqrs_acted acted[256];
    int64_t ids[256];
    lease_and_open(b);
    flow_all(b, PGQRS_FLOW_ERROR);
    for (size_t i = 0; i < b->lease_count; i++) {
        ids[i] = b->leases[i].message_id;
    }
    assert_int_equal(
        pgqrs_store_message_act(b->store, PGQRS_ACT_REPLAY, ids, b->limit, acted, &b->err),
        b->limit);
    lease_and_open(b);
    flow_all(b, PGQRS_FLOW_SUCCESS);
}

static void one_by_one(struct plan_bench *b)
{
    const struct pgqrs_follow_up next = {.queue = "mail",
                                         .item = {.payload = pgqrs_bytes_from("1")}};
    const struct pgqrs_step_sql sql = {.text = "SELECT 1"};
    lease_and_open(b);
    for (int i = 0; i < 2; i++) {
        struct pgqrs_flow item = {.lease = b->leases[0],
                                  .what = i == 0 ? PGQRS_FLOW_STEP : PGQRS_FLOW_CONTINUE,
                                  .steps = &one_step,
                                  .step_count = 1,
                                  .output = pgqrs_bytes_from("1"),
                                  .follow_ups = &next,
                                  .follow_up_count = 1,
                                  .child = i == 0,
                                  .sqls = &sql,
                                  .sql_count = i == 0 ? 1 : 0};
        suite_ok(b, pgqrs_store_flow(b->store, &item, 1, &b->err));
        assert_int_equal(item.settled_out, PGQRS_SETTLED_YES);
        assert_false(item.failed_out);
        pgqrs_flow_fini(&item);
    }
}

static void look_at_runs(struct plan_bench *b)
{
    struct pgqrs_run_list runs;
    struct pgqrs_step_list steps;
    struct pgqrs_pair_list pairs;
    int64_t id = b->leases[0].message_id;
    const struct pgqrs_run_filter filters[] = {{.limit = b->limit},
                                               {.status = PGQRS_RUN_PAUSED, .limit = b->limit},
                                               {.parent_id = id, .limit = b->limit}};
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        suite_ok(b, pgqrs_store_run_list(b->store, &filters[i], &runs, &b->err));
        pgqrs_run_list_fini(&runs);
    }
    suite_ok(b, pgqrs_store_run_get(b->store, id, &runs, &b->err));
    pgqrs_run_list_fini(&runs);
    suite_ok(b, pgqrs_store_run_steps(b->store, id, &steps, &b->err));
    assert_int_equal(steps.count, 1);
    pgqrs_step_list_fini(&steps);
    suite_ok(b, pgqrs_store_run_state(b->store, id, &pairs, &b->err));
    pgqrs_pair_list_fini(&pairs);
    suite_ok(b, pgqrs_store_run_events(b->store, id, &pairs, &b->err));
    pgqrs_pair_list_fini(&pairs);
    suite_ok(b, pgqrs_store_run_fork(b->store, id, NULL, (struct pgqrs_bytes){0}, &id, &b->err));
}

static const struct plan_step flow_steps[] = {
    {"steps of 50", store_steps, 50, 256, 2500},
    {"suspend 50", suspend_and_wake, 50, 256, 2500},
    {"end 50", end_runs, 50, 256, 4000},
    {"one by one", one_by_one, 1, 64, 150},
    {"look at runs, in a window of 10000", look_at_runs, 20, 10100, 31000},
};

static void run_step(struct plan_bench *b, const struct plan_step *step)
{
    const struct pg_plan_bounds bounds = {.rows = step->rows, .buffers = step->buffers};
    b->limit = step->limit;
    pg_plans_begin();
    step->run(b);
    if (pg_plans_check(step->name, &bounds) == 0) {
        fail_msg("%s: the log shows no plan", step->name);
    }
}

static void run_steps(struct bench *f, const char *mode)
{
    struct plan_bench *b = &f->b;
    const struct pgqrs_store_options options = {.schema = f->rig->schema};
    suite_ok(b, pgqrs_store_open(pg_plans_dsn(mode), &options, &b->store, &b->err));
    for (size_t i = 0; i < plan_step_count; i++) {
        run_step(b, &plan_steps[i]);
    }
    for (size_t i = 0; i < sizeof flow_steps / sizeof *flow_steps; i++) {
        run_step(b, &flow_steps[i]);
    }
    pgqrs_store_close(&b->store);
}

static void generic_plans_made_for_an_empty_table_follow_the_limit(void **state)
{
    struct bench *f = *state;
    pg_plans_role(f->rig, "force_generic_plan");
    run_steps(f, "force_generic_plan");
}

static void custom_plans_made_for_an_empty_table_follow_the_limit(void **state)
{
    struct bench *f = *state;
    pg_plans_role(f->rig, "force_custom_plan");
    run_steps(f, "force_custom_plan");
}

static void generic_plans_made_for_a_full_table_follow_the_limit(void **state)
{
    struct bench *f = *state;
    pg_rig_sql(f->rig, "ANALYZE");
    run_steps(f, "force_generic_plan");
}

static void custom_plans_made_for_a_full_table_follow_the_limit(void **state)
{
    run_steps(*state, "force_custom_plan");
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(generic_plans_made_for_an_empty_table_follow_the_limit),
        cmocka_unit_test(custom_plans_made_for_an_empty_table_follow_the_limit),
        cmocka_unit_test(generic_plans_made_for_a_full_table_follow_the_limit),
        cmocka_unit_test(custom_plans_made_for_a_full_table_follow_the_limit),
    };
    return cmocka_run_group_tests(cases, set_up, tear_down);
}
