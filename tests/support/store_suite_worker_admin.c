/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_suite.h"

/* Looking at workers, counting them, and taking their rows away. */

static void move(struct suite *f, int64_t worker, enum pgqrs_worker_move how)
{
    suite_ok(f, pgqrs_store_worker_move(f->store, worker, how, &f->err));
}

static void assert_workers(struct suite *f, struct pgqrs_worker_filter filter, const int64_t *ids,
                           size_t count)
{
    for (uint32_t limit = 1; limit <= 4; limit++) {
        size_t seen = 0;
        struct pgqrs_worker_info_list list;
        filter.limit = limit == 4 ? 1000 : limit;
        filter.before_id = 0;
        do {
            suite_ok(f, pgqrs_store_worker_list(f->store, &filter, &list, &f->err));
            assert_int_equal(list.now_us, f->now_us);
            for (size_t i = 0; i < list.count; i++) {
                assert_true(seen < count);
                assert_int_equal(list.items[i].id, ids[seen++]);
                filter.before_id = list.items[i].id;
            }
            assert_true(list.count <= filter.limit);
        } while (list.count == filter.limit && (pgqrs_worker_info_list_fini(&list), true));
        pgqrs_worker_info_list_fini(&list);
        assert_int_equal(seen, count);
    }
}

static void every_worker_filter(void **state)
{
    struct suite *f = *state;
    int64_t other = suite_queue(f, "other");
    int64_t a = suite_worker(f, "mail%1", 2);
    int64_t b = suite_foreign_worker(f, "mail%2", other);
    int64_t c = suite_foreign_worker(f, "mailx", other);
    int64_t d = suite_foreign_worker(f, NULL, 0);
    move(f, a, PGQRS_MOVE_POLL);
    move(f, b, PGQRS_MOVE_STOP);
#define LIST(count, filter, ...)                                                                   \
    assert_workers(f, (struct pgqrs_worker_filter)filter, (const int64_t[]){__VA_ARGS__}, count)
#define WITH(...) {__VA_ARGS__}
    LIST(5, {0}, d, c, b, a, f->worker);
    LIST(1, WITH(.id = b), b);
    LIST(0, WITH(.id = 4711), 0);
    LIST(2, WITH(.queue_id = other), c, b);
    LIST(1, WITH(.queue_id = other, .live = true), c);
    LIST(1, WITH(.state = PGQRS_WORKER_POLLING), a);
    LIST(1, WITH(.state = PGQRS_WORKER_STOPPED), b);
    LIST(0, WITH(.state = PGQRS_WORKER_STOPPED, .live = true), 0);
    LIST(4, WITH(.live = true), d, c, a, f->worker);
    LIST(2, WITH(.ours = true), a, f->worker);
    LIST(2, WITH(.name_prefix = "mail%"), b, a);
    LIST(3, WITH(.name_prefix = "mail"), c, b, a);
    LIST(0, WITH(.name_prefix = "MAIL"), 0);
    LIST(0, WITH(.name_prefix = "mail_"), 0);
#undef WITH
#undef LIST
    struct pgqrs_worker_info_list list;
    const struct pgqrs_worker_filter bad[2] = {{.limit = 0}, {.limit = 1001}};
    for (size_t i = 0; i < 2; i++) {
        suite_fails(f, pgqrs_store_worker_list(f->store, &bad[i], &list, &f->err),
                    PGQRS_ERR_INVALID);
    }
}

static void what_a_row_tells(void **state)
{
    struct suite *f = *state;
    suite_put(f, "1", 0, 0);
    suite_put(f, "2", 0, 0);
    assert_int_equal(suite_settle(f, suite_settlement(suite_lease_one(f), PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    suite_lease_one(f);
    suite_advance_ms(f, 20);
    suite_ok(f, pgqrs_store_worker_beat(f->store, &f->worker, 1, &f->err));
    const struct pgqrs_worker_filter filter = {.id = f->worker, .limit = 1};
    struct pgqrs_worker_info_list list;
    suite_ok(f, pgqrs_store_worker_list(f->store, &filter, &list, &f->err));
    assert_int_equal(list.count, 1);
    const struct pgqrs_worker_info *w = &list.items[0];
    assert_int_equal(w->queue_id, f->queue);
    assert_int_equal(w->state, PGQRS_WORKER_READY);
    assert_int_equal(w->started_at_us, SUITE_START_US);
    assert_int_equal(w->heartbeat_at_us, SUITE_START_US + 20000);
    assert_int_equal(w->shutdown_at_us, 0);
    assert_int_equal(w->held, 1); /* what it archived it does not hold */
    assert_int_equal(w->generation, 1);
    assert_int_equal(w->pid, 4711);
    assert_string_equal(w->name, "w");
    assert_string_equal(w->instance, "run-1");
    pgqrs_worker_info_list_fini(&list);
    assert_null(list.items);
}

/* ---- statistics ---- */

static struct pgqrs_worker_stats stats_of(struct suite *f, int64_t queue, int64_t stale_ms)
{
    struct pgqrs_worker_stats stats;
    suite_ok(f, pgqrs_store_worker_stats(f->store, queue, stale_ms, &stats, &f->err));
    return stats;
}

static void statistics(void **state)
{
    struct suite *f = *state;
    int64_t other = suite_queue(f, "other");
    suite_put(f, "1", 0, 0);
    suite_lease_one(f);
    suite_advance_ms(f, 10);
    static const enum pgqrs_worker_move moves[] = {PGQRS_MOVE_POLL, PGQRS_MOVE_SUSPEND,
                                                   PGQRS_MOVE_INTERRUPT, PGQRS_MOVE_STOP};
    for (size_t i = 0; i < 4; i++) {
        move(f, suite_foreign_worker(f, NULL, f->queue), moves[i]);
    }
    int64_t admin = suite_foreign_worker(f, "admin", 0);
    suite_advance_ms(f, 10);
    struct pgqrs_worker_stats s = stats_of(f, f->queue, 10);
    assert_int_equal(s.total, 5);
    assert_int_equal(s.ready, 1);
    assert_int_equal(s.polling, 1);
    assert_int_equal(s.suspended, 1);
    assert_int_equal(s.interrupted, 1);
    assert_int_equal(s.stopped, 1);
    assert_int_equal(s.held, 1);
    assert_int_equal(s.stale, 1); /* the first, 20 ms ago; the polling one is at the very edge */
    assert_int_equal(s.oldest_start_us, SUITE_START_US);
    assert_int_equal(s.newest_beat_us, SUITE_START_US + 10000);
    assert_int_equal(s.now_us, f->now_us);
    assert_int_equal(stats_of(f, f->queue, 9).stale, 2); /* those that wait for nothing are not */
    assert_int_equal(stats_of(f, f->queue, 20).stale, 0);
    s = stats_of(f, 0, 1000);
    assert_int_equal(s.total, 6);
    assert_int_equal(s.ready, 2);
    s = stats_of(f, -1, 1000);
    assert_int_equal(s.total, 1);
    assert_int_equal(s.held, 0);
    s = stats_of(f, other, 1000);
    assert_int_equal(s.total, 0);
    assert_int_equal(s.oldest_start_us, 0);
    assert_int_equal(s.newest_beat_us, 0);
    move(f, admin, PGQRS_MOVE_STOP);
    s = stats_of(f, -1, 1000);
    assert_int_equal(s.stopped, 1);
    assert_int_equal(s.oldest_start_us, 0);
}

/* ---- deleting ---- */

static int take_away(struct suite *f, int64_t worker)
{
    return pgqrs_store_worker_delete(f->store, worker, &f->err);
}

static void deleting_a_worker(void **state)
{
    struct suite *f = *state;
    int64_t idle = suite_foreign_worker(f, "idle", f->queue);
    suite_ok(f, take_away(f, idle));
    suite_fails(f, take_away(f, idle), PGQRS_ERR_NOT_FOUND);
    suite_fails(f, pgqrs_store_worker_beat(f->store, &idle, 1, &f->err), PGQRS_ERR_NOT_FOUND);
    /* Its name is free. */
    assert_int_not_equal(suite_foreign_worker(f, "idle", f->queue), idle);
}

static void workers_that_messages_name(void **state)
{
    struct suite *f = *state;
    int64_t producer = suite_foreign_worker(f, "producer", f->queue);
    int64_t id =
        suite_put_item(f, f->queue, (struct pgqrs_enqueue){.producer_worker_id = producer});
    suite_fails(f, take_away(f, producer), PGQRS_ERR_CONFLICT);
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    suite_fails(f, take_away(f, f->worker), PGQRS_ERR_CONFLICT);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    suite_fails(f, take_away(f, f->worker), PGQRS_ERR_CONFLICT);
    assert_non_null(strstr(f->err.text, "message"));
    suite_fails(f, take_away(f, producer), PGQRS_ERR_CONFLICT);
    assert_int_equal(suite_act(f, PGQRS_ACT_DELETE, id), PGQRS_ACTED_YES);
    suite_ok(f, take_away(f, f->worker));
    suite_ok(f, take_away(f, producer));
    const struct pgqrs_worker_filter all = {.limit = 10};
    struct pgqrs_worker_info_list list;
    suite_ok(f, pgqrs_store_worker_list(f->store, &all, &list, &f->err));
    assert_int_equal(list.count, 0);
    assert_int_equal(list.now_us, f->now_us);
    pgqrs_worker_info_list_fini(&list);
}

static void released_messages_do_not_name(void **state)
{
    struct suite *f = *state;
    suite_put(f, "1", 0, 0);
    assert_int_equal(suite_settle(f, suite_settlement(suite_lease_one(f), PGQRS_SETTLE_RETRY)),
                     PGQRS_SETTLED_YES);
    suite_ok(f, take_away(f, f->worker));
}

static int64_t purge(struct suite *f, int64_t older_ms, uint32_t limit)
{
    return pgqrs_store_worker_purge(f->store, older_ms, limit, &f->err);
}

static void purging_old_workers(void **state)
{
    struct suite *f = *state;
    int64_t used = suite_foreign_worker(f, "used", f->queue);
    int64_t running = suite_foreign_worker(f, "running", f->queue);
    suite_put(f, "1", 0, 0);
    struct pgqrs_lease_ref lease = suite_lease_for(f, f->queue, used);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_DEAD)),
                     PGQRS_SETTLED_YES);
    move(f, used, PGQRS_MOVE_STOP);
    for (int i = 0; i < 3; i++) {
        move(f, suite_foreign_worker(f, NULL, i == 0 ? 0 : f->queue), PGQRS_MOVE_STOP);
    }
    suite_advance_ms(f, 1000);
    int64_t fresh = suite_foreign_worker(f, "fresh", f->queue);
    move(f, fresh, PGQRS_MOVE_STOP);
    assert_int_equal(purge(f, 1000, 100), 0); /* not longer than that */
    assert_int_equal(purge(f, 999, 2), 2);
    assert_int_equal(purge(f, 999, 100), 1);
    assert_int_equal(purge(f, 999, 100), 0);
    suite_worker_info(f, used);
    suite_worker_info(f, running);
    suite_worker_info(f, fresh);
    suite_worker_info(f, f->worker);
    suite_advance_ms(f, 1);
    assert_int_equal(purge(f, 0, 100), 1);
    suite_fails(f, purge(f, -1, 100), PGQRS_ERR_INVALID);
    suite_fails(f, purge(f, 0, 0), PGQRS_ERR_INVALID);
    suite_fails(f, purge(f, 0, 101), PGQRS_ERR_INVALID);
}

const struct CMUnitTest suite_worker_admin_cases[] = {
    SUITE_CASE(every_worker_filter),
    SUITE_CASE(what_a_row_tells),
    SUITE_CASE(statistics),
    SUITE_CASE(deleting_a_worker),
    SUITE_CASE(workers_that_messages_name),
    SUITE_CASE(released_messages_do_not_name),
    SUITE_CASE(purging_old_workers),
};
const size_t suite_worker_admin_count =
    sizeof suite_worker_admin_cases / sizeof *suite_worker_admin_cases;
