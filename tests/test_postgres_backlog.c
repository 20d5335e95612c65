/* SPDX-License-Identifier: Apache-2.0 */
/* pgqrs_backlog: what an autoscaler asks for, again and again. */
#include "tests/support/pg_plans.h"

#include <stdio.h>

#define ENDED 50000
#define DELAYED 20000

struct bench {
    struct pg_rig *rig;
    struct pgqrs_store *store;
    int64_t queue, worker;
    struct pgqrs_error err;
};

static struct bench open_bench(void **state)
{
    struct bench b = {.rig = *state};
    b.store = pg_rig_store(b.rig, NULL);
    suite_ok(&b, pgqrs_store_queue_create(b.store, "q", &b.queue, &b.err));
    const struct pgqrs_worker_row row = {
        .name = "w", .queue_id = b.queue, .instance = "run-1", .generation = 1, .pid = 4711};
    suite_ok(&b, pgqrs_store_worker_register(b.store, &row, &b.worker, &b.err));
    return b;
}

static void put(struct bench *b, const char *queue, int count, const char *delay)
{
    for (int i = 0; i < count; i++) {
        (void)pg_rig_number(b->rig, "SELECT pgqrs_enqueue('%s', '{}', '%s')", queue, delay);
    }
}

static int64_t backlog(struct bench *b)
{
    return pg_rig_number(b->rig, "SELECT %s.pgqrs_backlog('q')", b->rig->schema);
}

/* Leases so many, and settles the first of them. */
static void lease(struct bench *b, uint32_t count, bool settle_one)
{
    const struct pgqrs_want want = {.queue_id = b->queue,
                                    .worker_id = b->worker,
                                    .count = count,
                                    .max_attempts = 5,
                                    .lease_ms = 60000};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    suite_ok(b, pgqrs_store_exchange(b->store, &x, &b->err));
    assert_int_equal(x.lease_count, count);
    struct pgqrs_settlement item = suite_settlement(
        (struct pgqrs_lease_ref){x.leases[0].message_id, b->worker, x.leases[0].attempt},
        PGQRS_SETTLE_ARCHIVE);
    pgqrs_exchange_fini(&x);
    if (settle_one) {
        struct pgqrs_exchange end = {.settlements = &item, .settlement_count = 1};
        suite_ok(b, pgqrs_store_exchange(b->store, &end, &b->err));
        assert_int_equal(item.settled_out, PGQRS_SETTLED_YES);
        pgqrs_exchange_fini(&end);
    }
}

static void fails(struct bench *b, const char *sql, const char *state)
{
    PGresult *result = PQexec(pg_rig_raw(b->rig), sql);
    const char *found = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    assert_non_null(found);
    assert_string_equal(found, state);
    PQclear(result);
}

static void counts_what_waits_and_what_runs(void **state)
{
    struct bench b = open_bench(state);
    int64_t other;
    suite_ok(&b, pgqrs_store_queue_create(b.store, "other", &other, &b.err));
    assert_int_equal(backlog(&b), 0);
    put(&b, "q", 5, "0");
    put(&b, "q", 2, "1 hour");
    put(&b, "other", 4, "0");
    assert_int_equal(backlog(&b), 5);
    lease(&b, 3, false);
    assert_int_equal(backlog(&b), 5);
    lease(&b, 1, true);
    assert_int_equal(backlog(&b), 4);

    /* Nobody can lease from a paused queue: more workers would be for nothing. */
    suite_ok(&b, pgqrs_store_queue_pause(b.store, b.queue, true, &b.err));
    assert_int_equal(backlog(&b), 3);
    suite_ok(&b, pgqrs_store_queue_pause(b.store, b.queue, false, &b.err));
    assert_int_equal(backlog(&b), 4);
    fails(&b, "SELECT pgqrs_backlog('none')", "P0002");
    fails(&b, "SELECT pgqrs_backlog(NULL)", "P0002");
    pgqrs_store_close(&b.store);
}

static void needs_few_rights_and_no_search_path(void **state)
{
    struct bench b = open_bench(state);
    const char *schema = b.rig->schema;
    put(&b, "q", 2, "0");
    pg_rig_sql(b.rig,
               "CREATE ROLE scaler; GRANT USAGE ON SCHEMA %s TO scaler;"
               " GRANT SELECT ON %s.pgqrs_queues, %s.pgqrs_messages TO scaler;"
               " SET ROLE scaler; SET search_path TO pg_catalog",
               schema, schema, schema);
    assert_int_equal(backlog(&b), 2);
    pg_rig_sql(b.rig, "RESET ROLE; SET search_path TO %s; DROP OWNED BY scaler; DROP ROLE scaler",
               schema);
    pgqrs_store_close(&b.store);
}

static void an_older_one_is_replaced(void **state)
{
    struct bench b = open_bench(state);
    put(&b, "q", 2, "0");
    lease(&b, 1, false);
    pg_rig_sql(b.rig, "CREATE OR REPLACE FUNCTION pgqrs_backlog(queue text) RETURNS bigint"
                      " LANGUAGE sql STABLE AS 'SELECT 1::bigint'");
    suite_fails(&b, pgqrs_store_verify(b.store, &b.err), PGQRS_ERR_SCHEMA);
    assert_non_null(strstr(b.err.text, "pgqrs_backlog(text) that counts what runs"));
    suite_ok(&b, pgqrs_store_install(b.store, &b.err));
    assert_int_equal(backlog(&b), 2);
    pgqrs_store_close(&b.store);
}

/* ---- what it costs ---- */

static void look(struct bench *b, const char *mode, const char *what)
{
    static const struct pg_plan_bounds bounds = {.rows = 60, .buffers = 60};
    PGconn *conn = PQconnectdb(pg_plans_dsn(mode));
    char sql[100];
    (void)snprintf(sql, sizeof sql, "SELECT %s.pgqrs_backlog('q')", b->rig->schema);
    PQclear(PQexec(conn, sql)); /* reads the catalogs */
    pg_plans_begin();
    PGresult *result = PQexec(conn, sql);
    assert_int_equal(PQresultStatus(result), PGRES_TUPLES_OK);
    assert_string_equal(PQgetvalue(result, 0, 0), "40");
    PQclear(result);
    PQfinish(conn);
    assert_true(pg_plans_check(what, &bounds) >= 4); /* each statement of it, and the call */
}

static void does_not_look_at_what_has_ended_or_is_delayed(void **state)
{
    struct bench b = open_bench(state);
    long long q = b.queue;
    long long w = b.worker;
    pg_plans_role(b.rig, "force_generic_plan");
    pg_plans_role(b.rig, "force_custom_plan");
    pg_rig_sql(b.rig, "ALTER TABLE pgqrs_messages SET (autovacuum_enabled = false);"
                      "ANALYZE pgqrs_messages; SET synchronous_commit = off");
    pg_rig_sql(b.rig,
               "INSERT INTO pgqrs_messages (queue_id, payload, vt, consumer_worker_id,"
               " archived_at) SELECT %lld, '{}', now(), %lld, now() FROM generate_series(1, %d)",
               q, w, ENDED);
    pg_rig_sql(b.rig,
               "INSERT INTO pgqrs_messages (queue_id, payload, vt) SELECT %lld, '{}',"
               " now() + interval '1 day' FROM generate_series(1, %d)",
               q, DELAYED);
    put(&b, "q", 40, "0");
    lease(&b, 15, false);
    look(&b, "force_generic_plan", "the planner knows an empty table, any parameters");
    look(&b, "force_custom_plan", "the planner knows an empty table, these parameters");
    pg_rig_sql(b.rig, "ANALYZE pgqrs_messages");
    look(&b, "force_generic_plan", "the planner knows it all, any parameters");
    look(&b, "force_custom_plan", "the planner knows it all, these parameters");
    pgqrs_store_close(&b.store);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        PG_RIG_CASE(counts_what_waits_and_what_runs),
        PG_RIG_CASE(needs_few_rights_and_no_search_path),
        PG_RIG_CASE(an_older_one_is_replaced),
        PG_RIG_CASE(does_not_look_at_what_has_ended_or_is_delayed),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
