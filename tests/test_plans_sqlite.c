/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "store/sqlite/sqlite_priv.h"
#include "tests/support/plan_steps.h"
#include "tests/support/sqlite_rig.h"

/*
 * The same steps in a small and in a big queue: SQLite's machine carries out nearly as many of its
 * instructions for either. Nothing is measured in time.
 */

#define HELD 300
#define SMALL 12000 /* more than the window of ids from which a list is made */
#define BIG 1000000
#define STEPS_MAX 32

struct cost {
    int64_t steps, scanned, sorted;
};

/* ---- a queue ---- */

#define PAST "strftime('%Y-%m-%d %H:%M:%f000', julianday('now') - 1 + n / 86400000.0)"
#define FUTURE "strftime('%Y-%m-%d %H:%M:%f000', julianday('now') + 1 + n / 86400000.0)"
#define FILL(columns, values)                                                                      \
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < ?1)"                 \
    " INSERT INTO pgqrs_messages (queue_id, payload, enqueued_at, read_ct, " columns               \
    ") SELECT ?2, '{\"n\": 1}', " PAST ", " values " FROM c"

static void add_rows(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        fail_msg("%.200s: %s", sql, sqlite3_errmsg(db));
    }
}

static void fill(struct sqlite_rig *rig, const struct plan_bench *b, int waiting)
{
    static const char *const forms[] = {
        FILL("vt, pgqrsd_priority", "0, " PAST ", n % 4"),
        FILL("vt, pgqrsd_priority", "0, " FUTURE ", 10"),
        FILL("vt", "0, " FUTURE),
        FILL("vt, archived_at, pgqrsd_outcome, consumer_worker_id",
             "1, " PAST ", " PAST ", CASE WHEN n % 20 = 0 THEN 'failed' ELSE 'done' END, ?4"),
        FILL("vt, consumer_worker_id", "1, " PAST ", CASE WHEN n % 3 = 0 THEN ?3 ELSE ?4 END"),
    };
    const int some = waiting / 10 > SMALL ? waiting / 10 : SMALL;
    const int counts[] = {waiting, some, some, 2 * some, HELD};
    sqlite3 *db = sqlite_rig_raw(rig);
    add_rows(db, "PRAGMA synchronous = OFF; PRAGMA cache_size = -200000; BEGIN");
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        sqlite3_stmt *stmt = NULL;
        assert_int_equal(sqlite3_prepare_v2(db, forms[i], -1, &stmt, NULL), SQLITE_OK);
        const int64_t values[] = {counts[i], i == 2 ? b->later : b->queue, b->foreign, b->holder};
        for (int k = 0; k < sqlite3_bind_parameter_count(stmt); k++) {
            assert_int_equal(sqlite3_bind_int64(stmt, k + 1, values[k]), SQLITE_OK);
        }
        assert_int_equal(sqlite3_step(stmt), SQLITE_DONE);
        assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
    }
    add_rows(db, "UPDATE pgqrs_workers SET pgqrsd_instance = NULL, heartbeat_at = '2026-01-01"
                 " 00:00:00.000000' WHERE name = 'foreign'; COMMIT");
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* ---- what it costs ---- */

static struct cost cost_so_far(const struct sqlite_store *s)
{
    struct cost sum = {0};
    for (int i = 0; i < STMT_COUNT; i++) {
        if (s->stmts[i] == NULL) {
            continue;
        }
        sum.steps += sqlite3_stmt_status(s->stmts[i], SQLITE_STMTSTATUS_VM_STEP, 1);
        sum.scanned += sqlite3_stmt_status(s->stmts[i], SQLITE_STMTSTATUS_FULLSCAN_STEP, 1);
        sum.sorted += sqlite3_stmt_status(s->stmts[i], SQLITE_STMTSTATUS_SORT, 1);
    }
    return sum;
}

/* In a database of its own. */
static void measure(const char *name, int waiting, bool analyzed, struct cost *costs)
{
    struct plan_bench b = {0};
    void *state = NULL;
    assert_int_equal(sqlite_rig_setup(&state), 0);
    struct sqlite_rig *rig = state;
    b.store = sqlite_rig_store(rig);
    suite_ok(&b, pgqrs_store_queue_create(b.store, "mail", &b.queue, &b.err));
    suite_ok(&b, pgqrs_store_queue_create(b.store, "later", &b.later, &b.err));
    b.holder = plan_bench_worker(&b, "holder");
    b.foreign = plan_bench_worker(&b, "foreign");
    pgqrs_store_close(&b.store);
    fill(rig, &b, waiting);
    if (analyzed) {
        sqlite_rig_sql(rig, "ANALYZE");
    }
    suite_ok(&b, sqlite_rig_open(rig, &b.store));
    for (size_t i = 0; i < plan_step_count; i++) {
        b.limit = plan_steps[i].limit;
        (void)cost_so_far(sqlite_of(b.store));
        plan_steps[i].run(&b);
        costs[i] = cost_so_far(sqlite_of(b.store));
        if (getenv("PGQRS_TEST_VERBOSE") != NULL) {
            print_message("%s, %d: %s: %lld steps, %lld scanned, %lld sorts\n", name, waiting,
                          plan_steps[i].name, (long long)costs[i].steps,
                          (long long)costs[i].scanned, (long long)costs[i].sorted);
        }
    }
    pgqrs_store_close(&b.store);
    assert_int_equal(sqlite_rig_teardown(&state), 0);
}

static void compare(const char *name, bool analyzed)
{
    struct cost small[STEPS_MAX] = {0};
    struct cost big[STEPS_MAX] = {0};
    assert_true(plan_step_count <= STEPS_MAX);
    measure(name, SMALL, analyzed, small);
    measure(name, BIG, analyzed, big);
    for (size_t i = 0; i < plan_step_count; i++) {
        const struct plan_step *step = &plan_steps[i];
        assert_true(small[i].steps > 0);
        if (big[i].steps > small[i].steps + small[i].steps / 2) {
            fail_msg("%s, %s: found %lld steps, expected at most half more than %lld", name,
                     step->name, (long long)big[i].steps, (long long)small[i].steps);
        }
        if (big[i].scanned > 2 * step->rows || big[i].sorted > small[i].sorted) {
            fail_msg("%s, %s: found %lld rows scanned and %lld sorts, expected %lld and %lld", name,
                     step->name, (long long)big[i].scanned, (long long)big[i].sorted,
                     (long long)(2 * step->rows), (long long)small[i].sorted);
        }
    }
}

static void without_statistics_steps_follow_the_limit(void **state)
{
    (void)state;
    compare("without statistics", false);
}

static void with_statistics_steps_follow_the_limit(void **state)
{
    (void)state;
    compare("with statistics", true);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(without_statistics_steps_follow_the_limit),
        cmocka_unit_test(with_statistics_steps_follow_the_limit),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
