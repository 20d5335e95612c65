/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/plan_steps.h"

int64_t plan_bench_worker(struct plan_bench *b, const char *name)
{
    const struct pgqrs_worker_row row = {
        .name = name, .queue_id = b->queue, .instance = "run-1", .generation = 1, .pid = 4711};
    int64_t id = 0;
    suite_ok(b, pgqrs_store_worker_register(b->store, &row, &id, &b->err));
    return id;
}

/* ---- what a store does ---- */

static void lease_from(struct plan_bench *b, int64_t queue, size_t expected)
{
    const struct pgqrs_want want = {.queue_id = queue,
                                    .worker_id = b->holder,
                                    .count = b->limit,
                                    .max_attempts = 5,
                                    .lease_ms = 60000};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    suite_ok(b, pgqrs_store_exchange(b->store, &x, &b->err));
    assert_int_equal(x.lease_count, expected);
    b->lease_count = x.lease_count;
    for (size_t i = 0; i < x.lease_count; i++) {
        assert_int_equal(x.leases[i].priority, 3);
        b->leases[i] =
            (struct pgqrs_lease_ref){x.leases[i].message_id, b->holder, x.leases[i].attempt};
    }
    pgqrs_exchange_fini(&x);
}

static void lease(struct plan_bench *b)
{
    lease_from(b, b->queue, b->limit);
}

static void find_nothing(struct plan_bench *b)
{
    lease_from(b, b->later, 0);
}

/* Those leased last, in every way in turn. */
static void settle(struct plan_bench *b)
{
    struct pgqrs_settlement items[256] = {0};
    for (size_t i = 0; i < b->lease_count; i++) {
        enum pgqrs_settle how = (enum pgqrs_settle)(1 + i % (PGQRS_SETTLE_COUNT - 1));
        items[i] = suite_settlement(b->leases[i], how);
        items[i].error = pgqrs_bytes_from(how == PGQRS_SETTLE_DEAD ? "broken" : "");
    }
    struct pgqrs_exchange x = {.settlements = items, .settlement_count = b->lease_count};
    suite_ok(b, pgqrs_store_exchange(b->store, &x, &b->err));
    for (size_t i = 0; i < b->lease_count; i++) {
        assert_int_equal(items[i].settled_out, PGQRS_SETTLED_YES);
    }
    pgqrs_exchange_fini(&x);
}

static void settle_with_follow_ups(struct plan_bench *b)
{
    struct pgqrs_settlement items[256] = {0};
    const struct pgqrs_follow_up next[2] = {
        {.queue = "mail", .item = {.payload = pgqrs_bytes_from("{}")}},
        {.queue = "later", .item = {.payload = pgqrs_bytes_from("{}"), .delay_ms = 86400000}}};
    lease(b);
    for (size_t i = 0; i < b->lease_count; i++) {
        items[i] = suite_settlement(b->leases[i], PGQRS_SETTLE_ARCHIVE);
        items[i].follow_ups = next;
        items[i].follow_up_count = 2;
    }
    struct pgqrs_exchange x = {.settlements = items, .settlement_count = b->lease_count};
    suite_ok(b, pgqrs_store_exchange(b->store, &x, &b->err));
    for (size_t i = 0; i < b->lease_count; i++) {
        assert_int_equal(items[i].settled_out, PGQRS_SETTLED_YES);
    }
    pgqrs_exchange_fini(&x);
}

/* The whole backlog is due, and nobody may have it. */
static void find_it_paused(struct plan_bench *b)
{
    suite_ok(b, pgqrs_store_queue_pause(b->store, b->queue, true, &b->err));
    lease_from(b, b->queue, 0);
    suite_ok(b, pgqrs_store_queue_pause(b->store, b->queue, false, &b->err));
}

static void ask_in_vain(struct plan_bench *b)
{
    int64_t holder = b->holder;
    b->holder = 4711;
    lease_from(b, b->queue, 0);
    b->holder = holder;
}

/* Once more: somebody else has them, or they have ended. */
static void settle_again(struct plan_bench *b)
{
    struct pgqrs_settlement items[256] = {0};
    for (size_t i = 0; i < b->lease_count; i++) {
        items[i] = suite_settlement(b->leases[i], PGQRS_SETTLE_ARCHIVE);
    }
    struct pgqrs_exchange x = {.settlements = items, .settlement_count = b->lease_count};
    suite_ok(b, pgqrs_store_exchange(b->store, &x, &b->err));
    pgqrs_exchange_fini(&x);
}

static void renew(struct plan_bench *b)
{
    bool held[256];
    int64_t count = pgqrs_store_renew(b->store, b->leases, b->lease_count, 60000, held, &b->err);
    assert_int_equal(count, b->lease_count);
}

static void enqueue(struct plan_bench *b)
{
    struct pgqrs_enqueue items[256] = {0};
    int64_t ids[256];
    for (uint32_t i = 0; i < b->limit; i++) {
        items[i].payload = pgqrs_bytes_from("{}");
    }
    suite_ok(b, pgqrs_store_enqueue(b->store, b->queue, items, b->limit, ids, NULL, &b->err));
}

static void enqueue_keyed(struct plan_bench *b)
{
    struct pgqrs_enqueue item = {.payload = pgqrs_bytes_from("{}"), .unique_key = "once"};
    int64_t id;
    bool existed = false;
    for (int i = 0; i < 2; i++) {
        suite_ok(b, pgqrs_store_enqueue(b->store, b->queue, &item, 1, &id, &existed, &b->err));
    }
    assert_true(existed);
}

static void reconcile(struct plan_bench *b)
{
    int64_t id = plan_bench_worker(b, "reconciled");
    int64_t holder = b->holder;
    b->holder = id;
    lease(b);
    b->holder = holder;
    int64_t freed = pgqrs_store_worker_reconcile(b->store, id, b->leases, 1, &b->err);
    assert_int_equal(freed, b->limit - 1);
    suite_ok(b, pgqrs_store_worker_beat(b->store, &id, 1, &b->err));
    const struct pgqrs_release release = {
        .charge = true, .crashed = true, .max_attempts = 5, .reason = "killed"};
    assert_int_equal(pgqrs_store_worker_end(b->store, id, &release, &b->err), 1);
}

static void end_worker(struct plan_bench *b)
{
    int64_t id = plan_bench_worker(b, "ended");
    int64_t holder = b->holder;
    b->holder = id;
    lease(b);
    b->holder = holder;
    const struct pgqrs_release release = {0};
    assert_int_equal(pgqrs_store_worker_end(b->store, id, &release, &b->err), b->limit);
}

static void prune(struct plan_bench *b)
{
    for (int what = PGQRS_PRUNE_ENDED; what <= PGQRS_PRUNE_FAILED; what++) {
        struct pgqrs_prune step = {.queue_id = b->queue,
                                   .what = (enum pgqrs_prune_what)what,
                                   .age_ms = 3600000,
                                   .limit = b->limit};
        for (int i = 0; i < 2; i++) {
            int64_t gone = pgqrs_store_prune(b->store, &step, &b->err);
            suite_ok(b, gone);
            assert_true(gone > 0 || what == PGQRS_PRUNE_FAILED); /* some have just failed */
        }
    }
}

static void bury(struct plan_bench *b)
{
    suite_ok(b, pgqrs_store_bury(b->store, b->queue, 5, &b->err));
}

static void reap(struct plan_bench *b)
{
    struct pgqrs_reap how = {.stale_ms = 3600000, .limit = b->limit};
    suite_ok(b, pgqrs_store_reap(b->store, &how, &b->err));
    how.queue_id = b->queue;
    how.foreign = true;
    assert_true(pgqrs_store_reap(b->store, &how, &b->err) > 0);
}

static void metrics(struct plan_bench *b)
{
    struct pgqrs_queue_metrics m;
    suite_ok(b, pgqrs_store_queue_metrics(b->store, b->queue, b->limit, &m, &b->err));
    assert_int_equal(m.pending, b->limit);
    assert_int_equal(m.ready, b->limit);
    assert_int_equal(m.archived, b->limit);
    suite_ok(b, pgqrs_store_queue_metrics(b->store, 0, b->limit, &m, &b->err));
}

static void act(struct plan_bench *b)
{
    enum pgqrs_acted acted[256];
    int64_t ids[256];
    lease(b);
    for (size_t i = 0; i < b->lease_count; i++) {
        ids[i] = b->leases[i].message_id;
    }
    const enum pgqrs_act acts[] = {PGQRS_ACT_FREE, PGQRS_ACT_CANCEL, PGQRS_ACT_REPLAY,
                                   PGQRS_ACT_DELETE};
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        assert_int_equal(pgqrs_store_message_act(b->store, acts[i], ids, b->limit, acted, &b->err),
                         b->limit);
    }
}

/* All are asked to stop, then given back, and ended in passing. */
static void orders(struct plan_bench *b)
{
    enum pgqrs_acted acted[256];
    int64_t ids[256];
    struct pgqrs_lease_ref asked[256];
    enum pgqrs_worker_state state;
    struct pgqrs_orders look = {.worker_ids = &b->holder,
                                .worker_count = 1,
                                .beat = true,
                                .states_out = &state,
                                .cancels_out = asked,
                                .cancel_max = 256};
    lease(b);
    for (size_t i = 0; i < b->lease_count; i++) {
        ids[i] = b->leases[i].message_id;
    }
    suite_ok(b, pgqrs_store_message_act(b->store, PGQRS_ACT_CANCEL, ids, b->limit, acted, &b->err));
    suite_ok(b, pgqrs_store_worker_orders(b->store, &look, &b->err));
    assert_int_equal(look.cancel_count, b->limit);
    suite_ok(b, pgqrs_store_message_act(b->store, PGQRS_ACT_FREE, ids, b->limit, acted, &b->err));
    suite_ok(b, pgqrs_store_worker_orders(b->store, &look, &b->err));
    assert_int_equal(look.cancel_count, 0);
}

static void purge(struct plan_bench *b)
{
    const unsigned kinds[] = {PGQRS_PURGE_PENDING, PGQRS_PURGE_LEASED, PGQRS_PURGE_ARCHIVED,
                              PGQRS_PURGE_ALL};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int64_t gone = pgqrs_store_queue_purge(b->store, b->queue, kinds[i], b->limit, &b->err);
        assert_true(gone > 0);
    }
}

static void look(struct plan_bench *b)
{
    struct pgqrs_message m;
    struct pgqrs_message_list list;
    const struct pgqrs_message_filter newest = {.queue_id = b->queue, .limit = b->limit};
    const struct pgqrs_message_filter dead = {
        .queue_id = b->queue, .outcome = "failed", .limit = b->limit};
    suite_ok(b, pgqrs_store_message_list(b->store, &newest, &list, &b->err));
    suite_ok(b, pgqrs_store_message_get(b->store, list.items[0].id, &m, &b->err));
    pgqrs_message_fini(&m);
    pgqrs_message_list_fini(&list);
    suite_ok(b, pgqrs_store_message_list(b->store, &dead, &list, &b->err));
    assert_int_equal(list.count, b->limit);
    pgqrs_message_list_fini(&list);
}

/* A list is made from a window of so many ids, or of so many dead letters. */
const struct plan_step plan_steps[] = {
    {"lease 1", lease, 1, 16, 120},
    {"lease 50", lease, 50, 128, 2000},
    {"renew 50", renew, 50, 128, 2000},
    {"settle 50", settle, 50, 128, 2000},
    {"settle 50 again", settle_again, 50, 128, 2000},
    {"lease 200", lease, 200, 512, 6000},
    {"renew 200", renew, 200, 512, 6000},
    {"settle 200", settle, 200, 512, 6000},
    {"find nothing", find_nothing, 10, 16, 100},
    {"find it paused", find_it_paused, 10, 16, 100},
    {"ask in vain", ask_in_vain, 10, 16, 100},
    {"settle 20 with follow-ups", settle_with_follow_ups, 20, 128, 2000},
    {"enqueue 1", enqueue, 1, 16, 100},
    {"enqueue 50", enqueue, 50, 16, 2000},
    {"enqueue with a key", enqueue_keyed, 1, 16, 100},
    {"reconcile 20", reconcile, 20, 128, 1000},
    {"end of a worker with 20", end_worker, 20, 128, 1000},
    {"prune 100", prune, 100, 512, 4000},
    {"bury", bury, 1, 2048, 6000},
    {"reap 20", reap, 20, 512, 2000},
    {"metrics up to 1000", metrics, 1000, 4200, 20000},
    {"act on 20", act, 20, 128, 1000},
    {"orders about 20", orders, 20, 256, 2000},
    {"purge 20", purge, 20, 128, 2000},
    {"look at 20, in a window of 10000", look, 20, 10100, 12000},
};
const size_t plan_step_count = sizeof plan_steps / sizeof *plan_steps;
