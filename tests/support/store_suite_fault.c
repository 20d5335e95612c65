/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_suite.h"

/* What goes wrong with pgqrs' own stores does not go wrong here; store_suite_list.h says where. */

static int64_t reap(struct suite *f, bool foreign)
{
    const struct pgqrs_reap step = {.stale_ms = 10000, .foreign = foreign, .limit = 100};
    int64_t freed = pgqrs_store_reap(f->store, &step, &f->err);
    suite_ok(f, freed);
    return freed;
}

static void fault_leases_of_the_dead_stay(void **state)
{
    struct suite *f = *state;
    int64_t id = suite_put(f, "1", 0, 0);
    suite_lease_one(f);
    suite_advance_ms(f, SUITE_LEASE_MS + 1);
    assert_int_equal(reap(f, false), 1);
    suite_lease_for(f, f->queue, suite_worker(f, "w2", 2));
    suite_assert_message(f, id, PGQRS_STATE_LEASED, 2, "lease expired: its worker is dead");
}

static void fault_busy_workers_are_robbed(void **state)
{
    struct suite *f = *state;
    suite_put(f, "1", 0, 0);
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    for (int i = 0; i < 10; i++) { /* it does not beat, but its lease is kept up */
        suite_advance_ms(f, SUITE_LEASE_MS / 2);
        assert_int_equal(pgqrs_store_renew(f->store, &lease, 1, SUITE_LEASE_MS, NULL, &f->err), 1);
        assert_int_equal(reap(f, true), 0);
    }
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
}

static void fault_the_stopped_go_on_consuming(void **state)
{
    struct suite *f = *state;
    suite_put(f, "1", 0, 0);
    suite_advance_ms(f, 20000);
    assert_int_equal(reap(f, false), 0);
    assert_int_equal(suite_worker_info(f, f->worker).state, PGQRS_WORKER_STOPPED);
    suite_ok(f, pgqrs_store_worker_beat(f->store, &f->worker, 1, &f->err));
    assert_int_equal(suite_lease(f, 1), 0);
}

static void fault_failures_come_back_at_once(void **state)
{
    struct suite *f = *state;
    int64_t id = suite_put(f, "1", 0, 0);
    for (int32_t i = 1; i <= 5; i++) {
        struct pgqrs_settlement item = suite_settlement(suite_lease_one(f), PGQRS_SETTLE_RETRY);
        item.delay_ms = INT64_C(1000) << i;
        item.error = pgqrs_bytes_from("no");
        assert_int_equal(suite_settle(f, item), PGQRS_SETTLED_YES);
        suite_advance_ms(f, item.delay_ms - 1);
        assert_int_equal(suite_lease(f, 1), 0);
        suite_assert_message(f, id, PGQRS_STATE_DELAYED, i, "no");
        suite_advance_ms(f, 1);
    }
    /* Its attempts are used up: it does not disappear, it is a dead letter. */
    assert_int_equal(suite_lease(f, 1), 0);
    assert_int_equal(pgqrs_store_bury(f->store, f->queue, 5, &f->err), 1);
    assert_int_equal(suite_metrics(f, f->queue).failed, 1);
}

static void fault_burying_takes_what_runs(void **state)
{
    struct suite *f = *state;
    int64_t other = suite_queue(f, "other");
    int64_t there = suite_put_item(f, other, (struct pgqrs_enqueue){0});
    assert_int_equal(
        suite_settle(f, suite_settlement(suite_lease_for(f, other, f->worker), PGQRS_SETTLE_RETRY)),
        PGQRS_SETTLED_YES);
    suite_put(f, "1", 0, 0);
    struct pgqrs_lease_ref last = suite_lease_one(f);
    assert_int_equal(pgqrs_store_bury(f->store, f->queue, 1, &f->err), 0);
    suite_assert_message(f, there, PGQRS_STATE_READY, 1, "");
    assert_int_equal(suite_settle(f, suite_settlement(last, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    assert_int_equal(suite_metrics(f, f->queue).failed, 0);
}

static void fault_a_lost_archive_is_silent(void **state)
{
    struct suite *f = *state;
    int64_t id = suite_put(f, "1", 0, 0);
    struct pgqrs_lease_ref lost = suite_lease_one(f);
    assert_int_equal(suite_act(f, PGQRS_ACT_FREE, id), PGQRS_ACTED_YES);
    struct pgqrs_lease_ref held = suite_lease_one(f); /* the same worker, another attempt */
    assert_int_equal(suite_settle(f, suite_settlement(lost, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_REFUSED);
    assert_int_equal(suite_settle(f, suite_settlement(held, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    assert_int_equal(suite_settle(f, suite_settlement(lost, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_REFUSED);
}

/* Whoever archived a message can not take it back, move it or delete it. */
static void fault_archived_rows_are_released(void **state)
{
    struct suite *f = *state;
    int64_t id = suite_put(f, "1", 0, 0);
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    struct pgqrs_message before = suite_get(f, id);
    suite_advance_ms(f, 5);
    for (int how = PGQRS_SETTLE_ARCHIVE; how < PGQRS_SETTLE_COUNT; how++) {
        struct pgqrs_settlement item = suite_settlement(lease, (enum pgqrs_settle)how);
        item.error = pgqrs_bytes_from("late");
        item.crashed = true;
        assert_int_equal(suite_settle(f, item), PGQRS_SETTLED_BEFORE);
    }
    assert_int_equal(pgqrs_store_renew(f->store, &lease, 1, 1000, NULL, &f->err), 0);
    assert_int_equal(pgqrs_store_worker_reconcile(f->store, f->worker, NULL, 0, &f->err), 0);
    suite_ok(f, pgqrs_store_worker_move(f->store, f->worker, PGQRS_MOVE_STOP, &f->err));
    struct pgqrs_message after = suite_get(f, id);
    assert_int_equal(after.state, PGQRS_STATE_ARCHIVED);
    assert_int_equal(after.vt_us, before.vt_us);
    assert_int_equal(after.archived_at_us, before.archived_at_us);
    assert_int_equal(after.consumer_worker_id, f->worker);
    assert_int_equal(after.crash_ct, 0);
    assert_string_equal(after.outcome, "done");
    assert_null(after.error);
    pgqrs_message_fini(&before);
    pgqrs_message_fini(&after);
}

static void fault_renewals_add_up(void **state)
{
    struct suite *f = *state;
    int64_t id = suite_put(f, "1", 0, 0);
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(pgqrs_store_renew(f->store, &lease, 1, 60000, NULL, &f->err), 1);
    }
    struct pgqrs_message m = suite_get(f, id);
    assert_int_equal(m.vt_us, f->now_us + 60000000);
    pgqrs_message_fini(&m);
}

static void fault_queues_of_workflows_can_not_be_purged(void **state)
{
    struct suite *f = *state;
    int64_t id = suite_put(f, "1", 0, 0);
    suite_put(f, "2", 0, 0);
    suite_sql(f, "INSERT INTO pgqrs_workflows (name, queue_id) VALUES ('flow', %" PRId64 ")",
              f->queue);
    suite_sql(f,
              "INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status)"
              " SELECT id, %" PRId64 ", 'RUNNING' FROM pgqrs_workflows",
              id);
    suite_sql(f, "INSERT INTO pgqrs_workflow_steps (run_id, step_name, status)"
                 " SELECT id, 'one', 'SUCCESS' FROM pgqrs_workflow_runs");
    int64_t gone = pgqrs_store_queue_purge(f->store, f->queue, PGQRS_PURGE_ALL, 100, &f->err);
    suite_ok(f, gone);
    assert_int_equal(gone, 2);
    suite_assert_gone(f, id);
}

static void fault_purging_takes_live_workers(void **state)
{
    struct suite *f = *state;
    suite_put(f, "1", 0, 0);
    assert_int_equal(pgqrs_store_queue_purge(f->store, f->queue, PGQRS_PURGE_ALL, 100, &f->err), 1);
    assert_int_equal(suite_worker_info(f, f->worker).state, PGQRS_WORKER_READY);
    suite_put(f, "2", 0, 0);
    assert_int_equal(suite_lease(f, 1), 1);
}

/* A supervisor takes its workers' names again after a crash, and so does a client in time. */
static void fault_names_are_lost(void **state)
{
    struct suite *f = *state;
    int64_t client = suite_foreign_worker(f, "client", f->queue);
    const struct pgqrs_release release = {.charge = true, .max_attempts = 5, .reason = "gone"};
    assert_int_equal(pgqrs_store_worker_end(f->store, f->worker, &release, &f->err), 0);
    assert_int_equal(suite_worker(f, "w", 2), f->worker);
    assert_int_equal(suite_worker(f, "w", 3), f->worker); /* not even ended */
    suite_advance_ms(f, 5001);
    const struct pgqrs_worker_row row = {.name = "client", .queue_id = f->queue, .stale_ms = 5000};
    int64_t id = 0;
    suite_ok(f, pgqrs_store_worker_register(f->store, &row, &id, &f->err));
    assert_int_equal(id, client);
}

static void fault_nameless_workers_pile_up(void **state)
{
    struct suite *f = *state;
    for (int i = 0; i < 5; i++) {
        suite_foreign_worker(f, NULL, i < 3 ? f->queue : 0);
    }
    suite_advance_ms(f, 20000);
    suite_ok(f, pgqrs_store_worker_beat(f->store, &f->worker, 1, &f->err));
    assert_int_equal(reap(f, true), 0);
    suite_advance_ms(f, 1);
    assert_int_equal(pgqrs_store_worker_purge(f->store, 10000, 100, &f->err), 5);
    suite_worker_info(f, f->worker);
}

static void assert_far(struct suite *f, int64_t id)
{
    struct pgqrs_message m = suite_get(f, id);
    assert_true(m.vt_us > f->now_us + INT64_C(10) * 365 * 86400 * 1000000);
    pgqrs_message_fini(&m);
}

/* No time that a call can name is lost, wraps around, or is over before it began. */
static void fault_times_overflow(void **state)
{
    struct suite *f = *state;
    static const int64_t big[] = {INT64_MAX, INT64_MAX / 1000, INT64_MAX / 1000 + 1,
                                  INT64_C(1) << 52, INT64_C(4294967296) * 1000};
    for (size_t i = 0; i < sizeof big / sizeof *big; i++) {
        assert_far(f, suite_put(f, "1", big[i], 0));
        int64_t id = suite_put(f, "1", 0, 1);
        struct pgqrs_lease_ref lease = suite_lease_one(f);
        suite_ok(f, pgqrs_store_renew(f->store, &lease, 1, big[i], NULL, &f->err));
        assert_far(f, id);
        struct pgqrs_settlement item = suite_settlement(lease, PGQRS_SETTLE_RETRY);
        item.delay_ms = big[i];
        assert_int_equal(suite_settle(f, item), PGQRS_SETTLED_YES);
        assert_far(f, id);
        const struct pgqrs_want want = {.queue_id = f->queue,
                                        .worker_id = f->worker,
                                        .count = 1,
                                        .max_attempts = UINT32_MAX,
                                        .lease_ms = big[i]};
        id = suite_put(f, "1", 0, 1);
        f->x.wants = &want;
        f->x.want_count = 1;
        suite_ok(f, pgqrs_store_exchange(f->store, &f->x, &f->err));
        suite_assert_leased(f, &id, 1);
        assert_far(f, id);
        struct pgqrs_reap step = {.stale_ms = big[i], .foreign = true, .limit = 10};
        assert_int_equal(pgqrs_store_reap(f->store, &step, &f->err), 0);
        assert_int_equal(pgqrs_store_worker_purge(f->store, big[i], 1, &f->err), 0);
        struct pgqrs_worker_stats stats;
        suite_ok(f, pgqrs_store_worker_stats(f->store, 0, big[i], &stats, &f->err));
        assert_int_equal(stats.stale, 0);
    }
    assert_far(f, suite_put_item(f, f->queue, (struct pgqrs_enqueue){.at_us = INT64_MAX}));
}

static void fault_times_below_zero(void **state)
{
    struct suite *f = *state;
    suite_put(f, "1", 0, 0);
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    static const int64_t bad[] = {0, -1, INT64_MIN};
    for (size_t i = 0; i < 3; i++) {
        suite_fails(f, pgqrs_store_renew(f->store, &lease, 1, bad[i], NULL, &f->err),
                    PGQRS_ERR_INVALID);
        const struct pgqrs_want want = {
            .queue_id = f->queue, .worker_id = f->worker, .count = 1, .lease_ms = bad[i]};
        struct pgqrs_settlement item = suite_settlement(lease, PGQRS_SETTLE_RETRY);
        item.delay_ms = bad[i] == 0 ? -1 : bad[i];
        struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
        suite_fails(f, pgqrs_store_exchange(f->store, &x, &f->err), PGQRS_ERR_INVALID);
        x = (struct pgqrs_exchange){.settlements = &item, .settlement_count = 1};
        suite_fails(f, pgqrs_store_exchange(f->store, &x, &f->err), PGQRS_ERR_INVALID);
    }
    suite_assert_message(f, lease.message_id, PGQRS_STATE_LEASED, 1, "");
}

/* Every stored time is the store's, whatever this process' clock says. */
static void fault_clocks_are_mixed(void **state)
{
    struct suite *f = *state;
    if (f->backend->set_clock != NULL) {
        pgqrs_clock_set_wall(f->now_us + INT64_C(3600000000));
    }
    int64_t id = suite_put(f, "1", 0, 0);
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    assert_int_equal(f->x.now_us, f->now_us);
    struct pgqrs_message m = suite_get(f, id);
    assert_int_equal(m.enqueued_at_us, f->now_us);
    assert_int_equal(m.dequeued_at_us, f->now_us);
    assert_int_equal(m.vt_us, f->now_us + SUITE_LEASE_MS * INT64_C(1000));
    pgqrs_message_fini(&m);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    m = suite_get(f, id);
    assert_int_equal(m.archived_at_us, f->now_us);
    pgqrs_message_fini(&m);
    suite_ok(f, pgqrs_store_worker_beat(f->store, &f->worker, 1, &f->err));
    assert_int_equal(suite_worker_info(f, f->worker).heartbeat_at_us, f->now_us);
    suite_ok(f, pgqrs_store_worker_move(f->store, f->worker, PGQRS_MOVE_STOP, &f->err));
    assert_int_equal(suite_worker_info(f, f->worker).shutdown_at_us, f->now_us);
    assert_int_equal(suite_metrics(f, f->queue).now_us, f->now_us);
    pgqrs_clock_set_wall(f->now_us);
}

/* More than pgqrs' burst in one call, in the order in which they were given. */
static void fault_batches_are_small(void **state)
{
    struct suite *f = *state;
    enum { MANY = 500 };
    static struct pgqrs_enqueue items[MANY];
    static int64_t ids[MANY];
    for (int i = 0; i < MANY; i++) {
        items[i] = (struct pgqrs_enqueue){.payload = pgqrs_bytes_from("1")};
    }
    suite_ok(f, pgqrs_store_enqueue(f->store, f->queue, items, MANY, ids, NULL, &f->err));
    assert_int_equal(suite_lease(f, MANY), MANY);
    suite_assert_leased(f, ids, MANY);
}

/* A batch is not all or nothing: each has its own outcome. */
static void fault_batches_have_one_outcome(void **state)
{
    struct suite *f = *state;
    static const enum pgqrs_settle hows[] = {PGQRS_SETTLE_ARCHIVE, PGQRS_SETTLE_RETRY,
                                             PGQRS_SETTLE_DEAD, PGQRS_SETTLE_SNOOZE,
                                             PGQRS_SETTLE_ARCHIVE};
    struct pgqrs_settlement items[5];
    for (size_t i = 0; i < 5; i++) {
        suite_put(f, "1", 0, 0);
        items[i] = suite_settlement(suite_lease_one(f), hows[i]);
        items[i].delay_ms = 1000;
    }
    items[4].attempt++;
    struct pgqrs_exchange x = {.settlements = items, .settlement_count = 5};
    suite_ok(f, pgqrs_store_exchange(f->store, &x, &f->err));
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(items[i].settled_out, i < 4 ? PGQRS_SETTLED_YES : PGQRS_SETTLED_REFUSED);
    }
    suite_assert_message(f, items[0].message_id, PGQRS_STATE_ARCHIVED, 1, "");
    suite_assert_message(f, items[1].message_id, PGQRS_STATE_DELAYED, 1, "");
    suite_assert_message(f, items[2].message_id, PGQRS_STATE_ARCHIVED, 1, "");
    suite_assert_message(f, items[3].message_id, PGQRS_STATE_DELAYED, 0, "");
    suite_assert_message(f, items[4].message_id, PGQRS_STATE_LEASED, 1, "");
    pgqrs_exchange_fini(&x);
}

const struct CMUnitTest suite_fault_cases[] = {
    SUITE_CASE(fault_leases_of_the_dead_stay),
    SUITE_CASE(fault_busy_workers_are_robbed),
    SUITE_CASE(fault_the_stopped_go_on_consuming),
    SUITE_CASE(fault_failures_come_back_at_once),
    SUITE_CASE(fault_burying_takes_what_runs),
    SUITE_CASE(fault_a_lost_archive_is_silent),
    SUITE_CASE(fault_archived_rows_are_released),
    SUITE_CASE(fault_renewals_add_up),
    SUITE_CASE(fault_queues_of_workflows_can_not_be_purged),
    SUITE_CASE(fault_purging_takes_live_workers),
    SUITE_CASE(fault_names_are_lost),
    SUITE_CASE(fault_nameless_workers_pile_up),
    SUITE_CASE(fault_times_overflow),
    SUITE_CASE(fault_times_below_zero),
    SUITE_CASE(fault_clocks_are_mixed),
    SUITE_CASE(fault_batches_are_small),
    SUITE_CASE(fault_batches_have_one_outcome),
};
const size_t suite_fault_count = sizeof suite_fault_cases / sizeof *suite_fault_cases;
