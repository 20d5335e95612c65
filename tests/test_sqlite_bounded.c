/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/sqlite_rig.h"

#include <stdio.h>

#include "store/sqlite/sqlite_priv.h"

/*
 * What a call costs does not grow with the backlog: the steps of SQLite's machine are counted with
 * some messages and with four times as many.
 */

#define SMALL 50000
#define STEP 100 /* of the machine, between two counts */

enum op {
    OP_METRICS,
    OP_METRICS_ALL,
    OP_IDLE,
    OP_LEASE,
    OP_BURY,
    OP_REAP,
    OP_PRUNE,
    OP_PRUNE_FAILED,
    OP_PRUNE_ALL,
    OP_PURGE,
    OP_ACT,
    OP_LIST, /* and those that follow: with the filters below */
};

static const struct {
    const char *name;
    struct pgqrs_message_filter filter;
} lists[] = {
    {"all", {.limit = 10}},
    {"ready", {.limit = 10, .state = PGQRS_STATE_READY}},
    {"delayed", {.limit = 10, .state = PGQRS_STATE_DELAYED}},
    {"leased", {.limit = 10, .state = PGQRS_STATE_LEASED}},
    {"archived of one queue", {.limit = 10, .queue_id = 1, .state = PGQRS_STATE_ARCHIVED}},
    {"of a queue without any", {.limit = 10, .queue_id = 2}},
    {"ready of a queue without any", {.limit = 10, .queue_id = 2, .state = PGQRS_STATE_READY}},
    {"dead letters", {.limit = 10, .outcome = "failed"}},
    {"dead letters of one queue", {.limit = 10, .queue_id = 1, .outcome = "failed"}},
    {"an outcome that is none", {.limit = 10, .outcome = "cancelled"}},
    {"a unique key", {.limit = 10, .unique_key = "none"}},
    {"a unique key that waits", {.limit = 10, .state = PGQRS_STATE_READY, .unique_key = "none"}},
    {"of a worker", {.limit = 10, .consumer_worker_id = 9}},
    {"the last page", {.limit = 10, .before_id = 3}},
};

#define OP_COUNT (OP_LIST + sizeof lists / sizeof *lists)

static const char *op_name(size_t op)
{
    static const char *const names[OP_LIST] = {
        "metrics", "metrics of all", "idle",      "lease", "bury", "reap",
        "prune",   "prune failed",   "prune all", "purge", "act"};
    return op < OP_LIST ? names[op] : lists[op - OP_LIST].name;
}

static int count_step(void *arg)
{
    ++*(int64_t *)arg;
    return 0;
}

static void run_exchange(struct sqlite_rig *rig, struct pgqrs_store *store, int64_t queue)
{
    const struct pgqrs_want want = {
        .queue_id = queue, .worker_id = 1, .count = 1, .max_attempts = 5, .lease_ms = 1000};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
    assert_int_equal(x.lease_count, queue == 1 ? 1 : 0);
    pgqrs_exchange_fini(&x);
}

static void run_prune(struct sqlite_rig *rig, struct pgqrs_store *store, size_t op)
{
    struct pgqrs_prune prune = {.queue_id = op == OP_PRUNE_ALL ? 0 : 1,
                                .what =
                                    op == OP_PRUNE_FAILED ? PGQRS_PRUNE_FAILED : PGQRS_PRUNE_ENDED,
                                .limit = 50};
    suite_ok(rig, pgqrs_store_prune(store, &prune, &rig->err));
}

static void run_op(struct sqlite_rig *rig, struct pgqrs_store *store, size_t op)
{
    const struct pgqrs_reap reap = {.stale_ms = 1000, .foreign = true, .limit = 50};
    const int64_t id = 5;
    enum pgqrs_acted acted;
    struct pgqrs_queue_metrics metrics;
    struct pgqrs_message_list list;
    switch (op) {
    case OP_METRICS:
    case OP_METRICS_ALL:
        suite_ok(rig, pgqrs_store_queue_metrics(store, op == OP_METRICS ? 1 : 0, 1000, &metrics,
                                                &rig->err));
        assert_int_equal(metrics.pending, 1000);
        assert_int_equal(metrics.archived, 1000);
        assert_int_equal(metrics.failed, 1000);
        assert_int_equal(metrics.ready, 1000);
        assert_true(metrics.next_due_us > metrics.now_us);
        break;
    case OP_IDLE:
    case OP_LEASE:
        run_exchange(rig, store, op == OP_IDLE ? 2 : 1);
        break;
    case OP_BURY:
        suite_ok(rig, pgqrs_store_bury(store, 1, 5, &rig->err));
        break;
    case OP_REAP:
        suite_ok(rig, pgqrs_store_reap(store, &reap, &rig->err));
        break;
    case OP_PRUNE:
    case OP_PRUNE_FAILED:
    case OP_PRUNE_ALL:
        run_prune(rig, store, op);
        break;
    case OP_PURGE:
        suite_ok(rig, pgqrs_store_queue_purge(store, 1, PGQRS_PURGE_ALL, 50, &rig->err));
        break;
    case OP_ACT:
        suite_ok(rig, pgqrs_store_message_act(store, PGQRS_ACT_REPLAY, &id, 1, &acted, &rig->err));
        break;
    default:
        suite_ok(rig,
                 pgqrs_store_message_list(store, &lists[op - OP_LIST].filter, &list, &rig->err));
        pgqrs_message_list_fini(&list);
        break;
    }
}

static void fill(sqlite3 *db, int count)
{
    char sql[1500];
    (void)snprintf(
        sql, sizeof sql,
        "INSERT OR IGNORE INTO pgqrs_queues (id, queue_name) VALUES (1, 'q'), (2, 'empty');"
        "INSERT OR IGNORE INTO pgqrs_workers (id, queue_id, name, heartbeat_at)"
        " VALUES (1, 1, 'w', '2026-01-01 00:00:00');"
        "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
        " INSERT INTO pgqrs_messages (queue_id, payload, vt, archived_at, pgqrsd_outcome)"
        " SELECT 1, '{}', CASE WHEN i %% 4 = 3 THEN '2100-01-01 00:00:00' ELSE"
        " '2020-01-01 00:00:00' END, CASE WHEN i %% 4 < 2 THEN '2020-01-02 00:00:00' END,"
        " CASE i %% 4 WHEN 0 THEN 'failed' WHEN 1 THEN 'done' END FROM n",
        count);
    char *why = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK) {
        fail_msg("%s", why);
    }
}

static void costs_do_not_grow(void **state)
{
    struct sqlite_rig *rig = *state;
    pgqrs_clock_set_wall(SUITE_START_US); /* or a lease ends while this runs */
    struct pgqrs_store *store = sqlite_rig_store(rig);
    sqlite3 *db = sqlite_of(store)->db;
    int64_t costs[2][OP_COUNT] = {{0}};
    for (int size = 0; size < 2; size++) {
        fill(db, size == 0 ? SMALL : 3 * SMALL);
        for (size_t op = 0; op < OP_COUNT; op++) {
            run_op(rig, store, op); /* prepares the statements */
            sqlite3_progress_handler(db, STEP, count_step, &costs[size][op]);
            run_op(rig, store, op);
            sqlite3_progress_handler(db, 0, NULL, NULL);
        }
    }
    for (size_t op = 0; op < OP_COUNT; op++) {
        if (costs[1][op] > costs[0][op] + costs[0][op] / 2 + 2) {
            fail_msg("%s: %lld hundred steps with some messages, %lld with four times as many",
                     op_name(op), (long long)costs[0][op], (long long)costs[1][op]);
        }
    }
    pgqrs_store_close(&store);
}

int main(void)
{
    const struct CMUnitTest cases[] = {RIG_CASE(costs_do_not_grow)};
    return cmocka_run_group_tests(cases, NULL, NULL);
}
