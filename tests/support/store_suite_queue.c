/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_suite.h"

#include <stdio.h>

/* Queues: listing, pausing, emptying, taking away; and what the store says about itself. */

static void queues_by_the_page(void **state)
{
    struct suite *f = *state;
    int64_t ids[7] = {f->queue};
    for (int i = 1; i < 7; i++) {
        char name[20];
        (void)snprintf(name, sizeof name, "q%d", 9 - i);
        ids[i] = suite_queue(f, name);
    }
    struct pgqrs_queue_list list;
    int64_t after = 0;
    size_t seen = 0;
    do {
        suite_ok(f, pgqrs_store_queue_list(f->store, after, 3, &list, &f->err));
        for (size_t i = 0; i < list.count; i++) {
            assert_int_equal(list.items[i].id, ids[seen++]);
            after = list.items[i].id;
        }
        assert_int_equal(list.count, seen <= 6 && seen % 3 == 0 ? 3 : 1);
        pgqrs_queue_list_fini(&list);
    } while (seen < 7);
    suite_ok(f, pgqrs_store_queue_list(f->store, after, 3, &list, &f->err));
    assert_int_equal(list.count, 0);
    pgqrs_queue_list_fini(&list);
    suite_fails(f, pgqrs_store_queue_list(f->store, 0, 0, &list, &f->err), PGQRS_ERR_INVALID);
    suite_fails(f, pgqrs_store_queue_list(f->store, 0, 1001, &list, &f->err), PGQRS_ERR_INVALID);
}

static int64_t paused_at(struct suite *f, int64_t queue)
{
    struct pgqrs_queue_list list;
    suite_ok(f, pgqrs_store_queue_list(f->store, queue - 1, 1, &list, &f->err));
    assert_int_equal(list.count, 1);
    assert_int_equal(list.items[0].id, queue);
    int64_t at = list.items[0].paused_at_us;
    pgqrs_queue_list_fini(&list);
    return at;
}

static void a_paused_queue_gives_nothing(void **state)
{
    struct suite *f = *state;
    int64_t id = suite_put(f, "1", 0, 0);
    suite_put(f, "2", 0, 0);
    struct pgqrs_lease_ref held = suite_lease_one(f);
    assert_int_equal(paused_at(f, f->queue), 0);
    suite_ok(f, pgqrs_store_queue_pause(f->store, f->queue, true, &f->err));
    assert_int_equal(paused_at(f, f->queue), f->now_us);
    suite_advance_ms(f, 5);
    suite_ok(f, pgqrs_store_queue_pause(f->store, f->queue, true, &f->err));
    assert_int_not_equal(paused_at(f, f->queue), 0);
    assert_int_equal(suite_lease(f, 5), 0);
    /* What is leased goes on; what comes in waits. */
    int64_t kept = pgqrs_store_renew(f->store, &held, 1, SUITE_LEASE_MS, NULL, &f->err);
    assert_int_equal(kept, 1);
    assert_int_equal(suite_settle(f, suite_settlement(held, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    assert_int_equal(held.message_id, id);
    suite_put(f, "3", 0, 0);
    assert_int_equal(suite_lease(f, 5), 0);
    suite_ok(f, pgqrs_store_queue_pause(f->store, f->queue, false, &f->err));
    suite_ok(f, pgqrs_store_queue_pause(f->store, f->queue, false, &f->err));
    assert_int_equal(paused_at(f, f->queue), 0);
    assert_int_equal(suite_lease(f, 5), 2);
    suite_fails(f, pgqrs_store_queue_pause(f->store, 4711, true, &f->err), PGQRS_ERR_NOT_FOUND);
}

static void one_paused_queue_of_two(void **state)
{
    struct suite *f = *state;
    int64_t other = suite_queue(f, "other");
    suite_put(f, "1", 0, 0);
    int64_t there = suite_put_item(f, other, (struct pgqrs_enqueue){0});
    suite_ok(f, pgqrs_store_queue_pause(f->store, f->queue, true, &f->err));
    const struct pgqrs_want wants[2] = {{.queue_id = f->queue,
                                         .worker_id = f->worker,
                                         .count = 5,
                                         .max_attempts = 5,
                                         .lease_ms = 1000},
                                        {.queue_id = other,
                                         .worker_id = f->worker,
                                         .count = 5,
                                         .max_attempts = 5,
                                         .lease_ms = 1000}};
    f->x.wants = wants;
    f->x.want_count = 2;
    suite_ok(f, pgqrs_store_exchange(f->store, &f->x, &f->err));
    suite_assert_leased(f, &there, 1);
    assert_int_equal(f->x.leases[0].want, 1);
}

static void stop_worker(struct suite *f, int64_t worker)
{
    suite_ok(f, pgqrs_store_worker_move(f->store, worker, PGQRS_MOVE_STOP, &f->err));
}

static void deleting_is_refused_and_told(void **state)
{
    struct suite *f = *state;
    suite_fails(f, pgqrs_store_queue_delete(f->store, f->queue, &f->err), PGQRS_ERR_CONFLICT);
    assert_non_null(strstr(f->err.text, "worker"));
    int64_t id = suite_put(f, "1", 60000, 0);
    stop_worker(f, f->worker);
    suite_fails(f, pgqrs_store_queue_delete(f->store, f->queue, &f->err), PGQRS_ERR_CONFLICT);
    assert_non_null(strstr(f->err.text, "message"));
    assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, id), PGQRS_ACTED_YES);
    suite_fails(f, pgqrs_store_queue_delete(f->store, f->queue, &f->err), PGQRS_ERR_CONFLICT);
    assert_non_null(strstr(f->err.text, "message"));
    int64_t found = 0;
    suite_ok(f, pgqrs_store_queue_find(f->store, "q", &found, &f->err));
    assert_int_equal(found, f->queue);
    suite_worker_info(f, f->worker); /* nothing went */
}

static void deleting_takes_stopped_workers_along(void **state)
{
    struct suite *f = *state;
    int64_t id = 0;
    stop_worker(f, f->worker);
    suite_ok(f, pgqrs_store_queue_delete(f->store, f->queue, &f->err));
    suite_fails(f, pgqrs_store_queue_find(f->store, "q", &id, &f->err), PGQRS_ERR_NOT_FOUND);
    const struct pgqrs_worker_filter all = {.limit = 10};
    struct pgqrs_worker_info_list list;
    suite_ok(f, pgqrs_store_worker_list(f->store, &all, &list, &f->err));
    assert_int_equal(list.count, 0);
    pgqrs_worker_info_list_fini(&list);
    suite_fails(f, pgqrs_store_queue_delete(f->store, f->queue, &f->err), PGQRS_ERR_NOT_FOUND);
    suite_ok(f, pgqrs_store_queue_create(f->store, "q", &id, &f->err));
    assert_int_not_equal(id, f->queue);
}

/* A worker of this queue has ended a message of another, which still names it. */
static void deleting_leaves_workers_that_are_named(void **state)
{
    struct suite *f = *state;
    int64_t other = suite_queue(f, "other");
    int64_t id = suite_put_item(f, other, (struct pgqrs_enqueue){0});
    struct pgqrs_lease_ref lease = suite_lease_for(f, other, f->worker);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    stop_worker(f, f->worker);
    suite_ok(f, pgqrs_store_queue_delete(f->store, f->queue, &f->err));
    struct pgqrs_worker_info worker = suite_worker_info(f, f->worker);
    assert_int_equal(worker.queue_id, 0);
    assert_int_equal(worker.state, PGQRS_WORKER_STOPPED);
    struct pgqrs_message m = suite_get(f, id);
    assert_int_equal(m.consumer_worker_id, f->worker);
    pgqrs_message_fini(&m);
}

static void a_workflow_keeps_its_queue(void **state)
{
    struct suite *f = *state;
    int64_t queue = suite_queue(f, "flow");
    suite_sql(f, "INSERT INTO pgqrs_workflows (name, queue_id) VALUES ('flow', %" PRId64 ")",
              queue);
    suite_fails(f, pgqrs_store_queue_delete(f->store, queue, &f->err), PGQRS_ERR_CONFLICT);
    assert_non_null(strstr(f->err.text, "workflow"));
    struct pgqrs_store_info info;
    suite_ok(f, pgqrs_store_info(f->store, &info, &f->err));
    assert_int_equal(info.workflows, 1);
}

/* ---- purging ---- */

/* One archived, one leased, one delayed, two ready. */
static void put_five(struct suite *f, int64_t ids[5])
{
    for (int i = 0; i < 5; i++) {
        ids[i] = suite_put(f, "1", i == 2 ? 60000 : 0, 0);
    }
    assert_int_equal(suite_settle(f, suite_settlement(suite_lease_one(f), PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    suite_lease_one(f);
}

static void purging_each_kind(void **state)
{
    struct suite *f = *state;
    static const struct {
        unsigned what;
        int64_t gone;
        bool left[5];
    } kinds[] = {
        {PGQRS_PURGE_ARCHIVED, 1, {false, true, true, true, true}},
        {PGQRS_PURGE_LEASED, 1, {true, false, true, true, true}},
        {PGQRS_PURGE_PENDING, 3, {true, true, false, false, false}},
        {PGQRS_PURGE_ARCHIVED | PGQRS_PURGE_LEASED, 2, {false, false, true, true, true}},
        {PGQRS_PURGE_ALL, 5, {false, false, false, false, false}},
    };
    int64_t other = suite_queue(f, "other");
    int64_t there = suite_put_item(f, other, (struct pgqrs_enqueue){0});
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        int64_t ids[5];
        int64_t left = 0;
        put_five(f, ids);
        int64_t gone = pgqrs_store_queue_purge(f->store, f->queue, kinds[k].what, 100, &f->err);
        suite_ok(f, gone);
        assert_int_equal(gone, kinds[k].gone);
        for (size_t i = 0; i < 5; i++) {
            struct pgqrs_message m;
            int rc = pgqrs_store_message_get(f->store, ids[i], &m, &f->err);
            assert_int_equal(rc, kinds[k].left[i] ? 0 : -1);
            if (rc == 0) {
                pgqrs_message_fini(&m);
            }
            left += kinds[k].left[i];
        }
        gone = pgqrs_store_queue_purge(f->store, f->queue, PGQRS_PURGE_ALL, 100, &f->err);
        assert_int_equal(gone, left);
    }
    suite_assert_message(f, there, PGQRS_STATE_READY, 0, "");
}

static void purging_in_steps(void **state)
{
    struct suite *f = *state;
    int64_t ids[5];
    put_five(f, ids);
    const int64_t steps[] = {2, 2, 1, 0};
    for (size_t i = 0; i < 4; i++) {
        int64_t gone = pgqrs_store_queue_purge(f->store, f->queue, PGQRS_PURGE_ALL, 2, &f->err);
        assert_int_equal(gone, steps[i]);
    }
    assert_int_equal(suite_metrics(f, f->queue).total, 0);
    suite_fails(f, pgqrs_store_queue_purge(f->store, f->queue, 0, 1, &f->err), PGQRS_ERR_INVALID);
    suite_fails(f, pgqrs_store_queue_purge(f->store, f->queue, 8, 1, &f->err), PGQRS_ERR_INVALID);
    suite_fails(f, pgqrs_store_queue_purge(f->store, f->queue, 1, 0, &f->err), PGQRS_ERR_INVALID);
    suite_fails(f, pgqrs_store_queue_purge(f->store, f->queue, 1, 10001, &f->err),
                PGQRS_ERR_INVALID);
}

static void a_purged_lease_is_lost(void **state)
{
    struct suite *f = *state;
    suite_put(f, "1", 0, 0);
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    assert_int_equal(pgqrs_store_queue_purge(f->store, f->queue, PGQRS_PURGE_LEASED, 10, &f->err),
                     1);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_REFUSED);
    assert_int_equal(pgqrs_store_renew(f->store, &lease, 1, SUITE_LEASE_MS, NULL, &f->err), 0);
    /* Purging leaves the workers: they go on. */
    suite_put(f, "2", 0, 0);
    assert_int_equal(suite_lease(f, 1), 1);
}

/* ---- metrics ---- */

static void counting_stops(void **state)
{
    struct suite *f = *state;
    struct pgqrs_queue_metrics m;
    for (int i = 0; i < 9; i++) {
        suite_put(f, "1", i == 8 ? 700 : 0, 0);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            suite_settle(f, suite_settlement(suite_lease_one(f), PGQRS_SETTLE_ARCHIVE)),
            PGQRS_SETTLED_YES);
    }
    suite_ok(f, pgqrs_store_queue_metrics(f->store, f->queue, 2, &m, &f->err));
    assert_int_equal(m.pending, 2);
    assert_int_equal(m.archived, 2);
    assert_true(m.ready <= 2);
    assert_true(m.total >= 2 && m.total <= 6);
    suite_ok(f, pgqrs_store_queue_metrics(f->store, f->queue, 1000, &m, &f->err));
    assert_int_equal(m.total, 9);
    assert_int_equal(m.pending, 6);
    assert_int_equal(m.ready, 5);
    assert_int_equal(m.archived, 3);
    assert_int_equal(m.next_due_us, f->now_us + 700000);
    assert_int_equal(m.now_us, f->now_us);
}

static void what_the_store_says_of_itself(void **state)
{
    struct suite *f = *state;
    struct pgqrs_store_info info;
    int64_t other = suite_queue(f, "other");
    suite_ok(f, pgqrs_store_queue_pause(f->store, other, true, &f->err));
    suite_ok(f, pgqrs_store_info(f->store, &info, &f->err));
    assert_int_equal(info.queues, 2);
    assert_int_equal(info.paused_queues, 1);
    assert_int_equal(info.workflows, 0);
    assert_true(info.schema_version >= 1);
    assert_string_equal(info.pgqrs_schema, "0.5.0");
    assert_true(strlen(info.server) > 0);
}

const struct CMUnitTest suite_queue_cases[] = {
    SUITE_CASE(queues_by_the_page),
    SUITE_CASE(a_paused_queue_gives_nothing),
    SUITE_CASE(one_paused_queue_of_two),
    SUITE_CASE(deleting_is_refused_and_told),
    SUITE_CASE(deleting_takes_stopped_workers_along),
    SUITE_CASE(deleting_leaves_workers_that_are_named),
    SUITE_CASE(a_workflow_keeps_its_queue),
    SUITE_CASE(purging_each_kind),
    SUITE_CASE(purging_in_steps),
    SUITE_CASE(a_purged_lease_is_lost),
    SUITE_CASE(counting_stops),
    SUITE_CASE(what_the_store_says_of_itself),
};
const size_t suite_queue_count = sizeof suite_queue_cases / sizeof *suite_queue_cases;
