/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/pg_plans.h"
#include "tests/support/plan_steps.h"

#include <stdio.h>
#include <stdlib.h>

/*
 * What a statement costs does not grow with the backlog: neither when the planner knows of it, nor
 * when it knows the table as it was when it was empty; neither with a plan for any parameters, nor
 * with one for those at hand.
 */

#define WAITING 1000000
#define DELAYED 100000
#define ARCHIVED 200000
#define HELD 300

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

static void run_steps(struct bench *f, const char *mode)
{
    struct plan_bench *b = &f->b;
    const struct pgqrs_store_options options = {.schema = f->rig->schema};
    suite_ok(b, pgqrs_store_open(pg_plans_dsn(mode), &options, &b->store, &b->err));
    for (size_t i = 0; i < plan_step_count; i++) {
        const struct plan_step *step = &plan_steps[i];
        const struct pg_plan_bounds bounds = {.rows = step->rows, .buffers = step->buffers};
        b->limit = step->limit;
        pg_plans_begin();
        step->run(b);
        if (pg_plans_check(step->name, &bounds) == 0) {
            fail_msg("%s: the log shows no plan", step->name);
        }
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
