/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_suite.h"

#include <stdio.h>

/* Who gets what, and in which order. */

static void lease_writes(void **state)
{
    struct suite *f = *state;
    int64_t id = suite_put(f, "{\"a\":1}", 0, 2);
    suite_advance_ms(f, 250);
    assert_int_equal(suite_lease(f, 5), 1);
    const struct pgqrs_lease *lease = &f->x.leases[0];
    assert_int_equal(lease->want, 0);
    assert_int_equal(lease->message_id, id);
    assert_int_equal(lease->attempt, 1);
    assert_int_equal(lease->priority, 2);
    assert_int_equal(lease->enqueued_at_us, SUITE_START_US);
    assert_int_equal(lease->waited_us, 250000);
    suite_assert_json(lease->payload, "{\"a\":1}");
    struct pgqrs_message m = suite_get(f, id);
    assert_int_equal(m.state, PGQRS_STATE_LEASED);
    assert_int_equal(m.consumer_worker_id, f->worker);
    assert_int_equal(m.read_ct, 1);
    assert_int_equal(m.vt_us, f->now_us + SUITE_LEASE_MS * INT64_C(1000));
    assert_int_equal(m.dequeued_at_us, f->now_us);
    pgqrs_message_fini(&m);
    assert_int_equal(suite_lease(f, 5), 0);
}

static void first_in_first_out(void **state)
{
    struct suite *f = *state;
    int64_t ids[200];
    for (int i = 0; i < 200; i++) {
        ids[i] = suite_put(f, "1", 0, 0); /* all in the same microsecond */
    }
    for (size_t at = 0; at < 200; at += 50) {
        assert_int_equal(suite_lease(f, 50), 50);
        suite_assert_leased(f, ids + at, 50);
    }
}

static void priority_then_due_then_id(void **state)
{
    struct suite *f = *state;
    int64_t low = suite_put(f, "1", 0, INT32_MIN);
    int64_t late = suite_put(f, "2", 20, 0);
    int64_t early = suite_put(f, "3", 10, 0);
    int64_t early_too = suite_put(f, "4", 10, 0);
    int64_t high = suite_put(f, "5", 30, 7);
    int64_t top = suite_put(f, "6", 0, INT32_MAX);
    suite_advance_ms(f, 30);
    suite_lease(f, 10);
    suite_assert_leased(f, (int64_t[]){top, high, early, early_too, late, low}, 6);
}

static void priority_across_exchanges(void **state)
{
    struct suite *f = *state;
    int64_t a = suite_put(f, "1", 0, 1);
    int64_t b = suite_put(f, "2", 0, 1);
    int64_t c = suite_put(f, "3", 0, 0);
    suite_lease(f, 1);
    suite_assert_leased(f, &a, 1);
    int64_t urgent = suite_put(f, "4", 0, 9);
    suite_lease(f, 2);
    suite_assert_leased(f, (int64_t[]){urgent, b}, 2);
    suite_lease(f, 2);
    suite_assert_leased(f, &c, 1);
}

static void no_more_than_wanted(void **state)
{
    struct suite *f = *state;
    int64_t ids[7];
    for (int i = 0; i < 7; i++) {
        ids[i] = suite_put(f, "1", 0, i < 2 ? 1 : 0);
    }
    assert_int_equal(suite_lease(f, 3), 3);
    suite_assert_leased(f, ids, 3);
    assert_int_equal(f->x.next_due_us, 0);
}

static void delayed_until_due(void **state)
{
    struct suite *f = *state;
    int64_t id = suite_put(f, "1", 1000, 0);
    suite_put(f, "2", 5000, 3);
    assert_int_equal(suite_lease(f, 5), 0);
    assert_int_equal(f->x.next_due_us, SUITE_START_US + 1000000);
    suite_advance_ms(f, 999);
    assert_int_equal(suite_lease(f, 5), 0);
    assert_int_equal(f->x.next_due_us, SUITE_START_US + 1000000);
    suite_advance_ms(f, 1);
    suite_lease(f, 5);
    suite_assert_leased(f, &id, 1);
    assert_int_equal(f->x.next_due_us, SUITE_START_US + 5000000);
}

static void next_due_is_of_this_level_too(void **state)
{
    struct suite *f = *state;
    suite_put(f, "1", 0, 0);
    suite_put(f, "3", 900, 0);
    suite_put(f, "2", 700, 0);
    assert_int_equal(suite_lease(f, 5), 1);
    assert_int_equal(f->x.next_due_us, SUITE_START_US + 700000);
    assert_int_equal(suite_lease(f, 5), 0);
    assert_int_equal(f->x.next_due_us, SUITE_START_US + 700000);
    suite_advance_ms(f, 700);
    assert_int_equal(suite_lease(f, 5), 1);
    assert_int_equal(f->x.next_due_us, SUITE_START_US + 900000);
    suite_advance_ms(f, 200);
    assert_int_equal(suite_lease(f, 5), 1);
    assert_int_equal(f->x.next_due_us, 0);
}

static void exchange_for(struct suite *f, const struct pgqrs_want *wants, size_t count)
{
    f->x.wants = wants;
    f->x.want_count = count;
    f->x.settlement_count = 0;
    suite_ok(f, pgqrs_store_exchange(f->store, &f->x, &f->err));
}

static void two_wants_share(void **state)
{
    struct suite *f = *state;
    int64_t ids[9];
    for (int i = 0; i < 9; i++) {
        ids[i] = suite_put(f, "1", 0, 0);
    }
    struct pgqrs_want wants[2] = {{.queue_id = f->queue,
                                   .worker_id = f->worker,
                                   .count = 3,
                                   .max_attempts = 5,
                                   .lease_ms = 1000},
                                  {.queue_id = f->queue,
                                   .worker_id = suite_worker(f, "w2", 2),
                                   .count = 4,
                                   .max_attempts = 5,
                                   .lease_ms = 2000}};
    exchange_for(f, wants, 2);
    suite_assert_leased(f, ids, 7);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(f->x.leases[i].want, i < 3 ? 0 : 1);
        struct pgqrs_message m = suite_get(f, ids[i]);
        assert_int_equal(m.consumer_worker_id, wants[i < 3 ? 0 : 1].worker_id);
        assert_int_equal(m.vt_us, f->now_us + (i < 3 ? 1000000 : 2000000));
        pgqrs_message_fini(&m);
    }
    exchange_for(f, wants, 2);
    suite_assert_leased(f, ids + 7, 2);
}

static void queues_are_apart(void **state)
{
    struct suite *f = *state;
    int64_t other = 0;
    int64_t there;
    suite_ok(f, pgqrs_store_queue_create(f->store, "other", &other, &f->err));
    const struct pgqrs_enqueue item = {.payload = pgqrs_bytes_from("9"), .delay_ms = 400};
    suite_ok(f, pgqrs_store_enqueue(f->store, other, &item, 1, &there, NULL, &f->err));
    int64_t here = suite_put(f, "1", 600, 0);
    const struct pgqrs_want wants[2] = {{.queue_id = f->queue,
                                         .worker_id = f->worker,
                                         .count = 1,
                                         .max_attempts = 5,
                                         .lease_ms = 1000},
                                        {.queue_id = other,
                                         .worker_id = f->worker,
                                         .count = 2,
                                         .max_attempts = 5,
                                         .lease_ms = 1000}};
    exchange_for(f, wants, 2);
    assert_int_equal(f->x.lease_count, 0);
    assert_int_equal(f->x.next_due_us, SUITE_START_US + 400000);
    exchange_for(f, wants, 1);
    assert_int_equal(f->x.next_due_us, SUITE_START_US + 600000);
    suite_advance_ms(f, 600);
    exchange_for(f, wants, 2);
    suite_assert_leased(f, (int64_t[]){here, there}, 2);
    assert_int_equal(f->x.leases[1].want, 1);
    assert_int_equal(f->x.leases[0].waited_us, 0);
    assert_int_equal(f->x.leases[1].waited_us, 200000);
}

static void attempts_run_out(void **state)
{
    struct suite *f = *state;
    int64_t worn = suite_put(f, "1", 0, 0);
    for (uint32_t attempt = 1; attempt <= 2; attempt++) {
        struct pgqrs_lease_ref lease = suite_lease_one(f);
        assert_int_equal(lease.attempt, attempt);
        assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_RETRY)),
                         PGQRS_SETTLED_YES);
    }
    int64_t fresh = suite_put(f, "2", 0, 0);
    struct pgqrs_want want = {.queue_id = f->queue,
                              .worker_id = f->worker,
                              .count = 5,
                              .max_attempts = 2,
                              .lease_ms = 1000};
    exchange_for(f, &want, 1);
    suite_assert_leased(f, &fresh, 1);
    exchange_for(f, &want, 1);
    assert_int_equal(f->x.lease_count, 0);
    assert_int_equal(f->x.next_due_us, 0);
    struct pgqrs_want wants[2] = {want, want};
    wants[1].max_attempts = 3;
    exchange_for(f, wants, 2);
    suite_assert_leased(f, &worn, 1);
    assert_int_equal(f->x.leases[0].want, 1);
    assert_int_equal(f->x.leases[0].attempt, 3);
}

static void crashes_use_up_no_attempts(void **state)
{
    struct suite *f = *state;
    int64_t id = suite_put(f, "1", 0, 0);
    struct pgqrs_want want = {.queue_id = f->queue,
                              .worker_id = f->worker,
                              .count = 1,
                              .max_attempts = 1,
                              .lease_ms = 1000};
    for (uint32_t attempt = 1; attempt <= 3; attempt++) {
        exchange_for(f, &want, 1);
        suite_assert_leased(f, &id, 1);
        assert_int_equal(f->x.leases[0].attempt, attempt);
        assert_int_equal(f->x.leases[0].crash_ct, attempt - 1);
        struct pgqrs_settlement item = suite_settlement(
            (struct pgqrs_lease_ref){.message_id = id, .worker_id = f->worker, .attempt = attempt},
            PGQRS_SETTLE_RETRY);
        item.crashed = attempt < 3;
        assert_int_equal(suite_settle(f, item), PGQRS_SETTLED_YES);
        assert_int_equal(pgqrs_store_bury(f->store, f->queue, 1, &f->err), attempt < 3 ? 0 : 1);
    }
}

static void nothing_wanted(void **state)
{
    struct suite *f = *state;
    suite_put(f, "1", 0, 0);
    assert_int_equal(suite_lease(f, 0), 0);
    exchange_for(f, NULL, 0);
    assert_int_equal(f->x.lease_count, 0);
    const struct pgqrs_want bad = {
        .queue_id = f->queue, .worker_id = f->worker, .count = 1, .max_attempts = 5};
    f->x.wants = &bad;
    f->x.want_count = 1;
    suite_fails(f, pgqrs_store_exchange(f->store, &f->x, &f->err), PGQRS_ERR_INVALID);
    assert_int_equal(suite_lease(f, 1), 1);
}

static void renewing(void **state)
{
    struct suite *f = *state;
    suite_put(f, "1", 0, 0);
    suite_put(f, "2", 0, 0);
    suite_lease(f, 2);
    struct pgqrs_lease_ref refs[4];
    for (size_t i = 0; i < 4; i++) {
        refs[i] = (struct pgqrs_lease_ref){
            .message_id = f->x.leases[i % 2].message_id, .worker_id = f->worker, .attempt = 1};
    }
    refs[2].worker_id++;
    refs[3].attempt++;
    suite_advance_ms(f, 20000);
    int64_t held = pgqrs_store_renew(f->store, refs, 4, SUITE_LEASE_MS, NULL, &f->err);
    assert_int_equal(held, 2);
    struct pgqrs_message m = suite_get(f, refs[1].message_id);
    assert_int_equal(m.vt_us, f->now_us + SUITE_LEASE_MS * INT64_C(1000));
    assert_int_equal(m.read_ct, 1);
    pgqrs_message_fini(&m);
    assert_int_equal(suite_settle(f, suite_settlement(refs[0], PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    held = pgqrs_store_renew(f->store, refs, 2, SUITE_LEASE_MS, NULL, &f->err);
    assert_int_equal(held, 1);
    suite_fails(f, pgqrs_store_renew(f->store, refs, 2, 0, NULL, &f->err), PGQRS_ERR_INVALID);
}

static void an_ended_lease_time_frees_nothing(void **state)
{
    struct suite *f = *state;
    suite_put(f, "1", 0, 0);
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    suite_advance_ms(f, SUITE_LEASE_MS * 10);
    assert_int_equal(suite_lease(f, 1), 0);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
}

static void renewing_tells_each(void **state)
{
    struct suite *f = *state;
    struct pgqrs_lease_ref refs[5];
    bool held[5] = {false, true, true, false, true};
    for (size_t i = 0; i < 3; i++) {
        suite_put(f, "1", 0, 0);
        refs[i] = suite_lease_one(f);
    }
    assert_int_equal(suite_settle(f, suite_settlement(refs[1], PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    refs[2].attempt++;
    suite_put(f, "1", 0, 0);
    refs[3] = suite_lease_one(f);
    refs[4] = (struct pgqrs_lease_ref){.message_id = 99999, .worker_id = f->worker, .attempt = 1};
    assert_int_equal(pgqrs_store_renew(f->store, refs, 5, SUITE_LEASE_MS, held, &f->err), 2);
    const bool expected[5] = {true, false, false, true, false};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(held[i], expected[i]);
    }
    assert_int_equal(pgqrs_store_renew(f->store, NULL, 0, 1000, NULL, &f->err), 0);
}

/* Those that may not have anything are passed over; the others do not suffer for it. */
static void wants_of_every_kind_at_once(void **state)
{
    struct suite *f = *state;
    int64_t ids[4];
    int64_t paused = suite_queue(f, "paused");
    suite_put_item(f, paused, (struct pgqrs_enqueue){0});
    suite_ok(f, pgqrs_store_queue_pause(f->store, paused, true, &f->err));
    for (int i = 0; i < 4; i++) {
        ids[i] = suite_put(f, "1", 0, 0);
    }
    int64_t suspended = suite_worker(f, "w2", 2);
    int64_t polling = suite_worker(f, "w3", 3);
    suite_ok(f, pgqrs_store_worker_move(f->store, suspended, PGQRS_MOVE_SUSPEND, &f->err));
    suite_ok(f, pgqrs_store_worker_move(f->store, polling, PGQRS_MOVE_POLL, &f->err));
    struct pgqrs_want wants[7] = {{.queue_id = f->queue, .worker_id = suspended, .count = 9},
                                  {.queue_id = f->queue, .worker_id = f->worker, .count = 1},
                                  {.queue_id = paused, .worker_id = f->worker, .count = 9},
                                  {.queue_id = f->queue, .worker_id = f->worker, .count = 0},
                                  {.queue_id = f->queue, .worker_id = 4711, .count = 9},
                                  {.queue_id = 4711, .worker_id = f->worker, .count = 9},
                                  {.queue_id = f->queue, .worker_id = polling, .count = 9}};
    for (size_t i = 0; i < 7; i++) {
        wants[i].max_attempts = 5;
        wants[i].lease_ms = 1000;
    }
    exchange_for(f, wants, 7);
    assert_int_equal(f->x.lease_count, 4);
    int64_t last[7] = {0};
    for (size_t i = 0; i < 4; i++) {
        const struct pgqrs_lease *lease = &f->x.leases[i];
        assert_true(lease->want == 1 || lease->want == 6);
        assert_true(lease->message_id > last[lease->want]);
        last[lease->want] = lease->message_id;
        struct pgqrs_message m = suite_get(f, lease->message_id);
        assert_int_equal(m.consumer_worker_id, wants[lease->want].worker_id);
        assert_int_equal(m.queue_id, f->queue);
        pgqrs_message_fini(&m);
    }
    assert_int_equal(last[1] > last[6] ? last[1] : last[6], ids[3]);
}

/* As many as a broker may serve wait at once. */
static void serve_many_queues(struct suite *f, struct pgqrs_settlement *settlement)
{
    enum { QUEUES = 150 };
    struct pgqrs_want wants[QUEUES];
    for (int i = 0; i < QUEUES; i++) {
        char name[20];
        int64_t id;
        const struct pgqrs_enqueue item = {.payload = pgqrs_bytes_from("{\"n\": 1}")};
        (void)snprintf(name, sizeof name, "many-%d", i);
        wants[i] = (struct pgqrs_want){
            .worker_id = f->worker, .count = 2, .max_attempts = 5, .lease_ms = SUITE_LEASE_MS};
        suite_ok(f, pgqrs_store_queue_create(f->store, name, &wants[i].queue_id, &f->err));
        suite_ok(f, pgqrs_store_enqueue(f->store, wants[i].queue_id, &item, 1, &id, NULL, &f->err));
    }
    f->x.wants = wants;
    f->x.want_count = QUEUES;
    f->x.settlements = settlement;
    f->x.settlement_count = settlement == NULL ? 0 : 1;
    suite_ok(f, pgqrs_store_exchange(f->store, &f->x, &f->err));
    f->x.wants = NULL;
    f->x.want_count = 0;
    f->x.settlements = NULL;
    f->x.settlement_count = 0;
    assert_int_equal(f->x.lease_count, QUEUES);
    for (size_t i = 0; i < QUEUES; i++) {
        assert_int_equal(f->x.leases[i].want, i);
        suite_assert_json(f->x.leases[i].payload, "{\"n\":1}");
    }
}

static void wants_of_many_queues(void **state)
{
    serve_many_queues(*state, NULL);
}

static void wants_of_many_queues_and_a_follow_up(void **state)
{
    struct suite *f = *state;
    const struct pgqrs_follow_up next = {.queue = "q", .item = {.payload = pgqrs_bytes_from("1")}};
    suite_put(f, "1", 0, 0);
    struct pgqrs_settlement item = suite_settlement(suite_lease_one(f), PGQRS_SETTLE_ARCHIVE);
    item.follow_ups = &next;
    item.follow_up_count = 1;
    serve_many_queues(f, &item);
    assert_int_equal(item.settled_out, PGQRS_SETTLED_YES);
    assert_int_equal(suite_lease(f, 5), 1);
}

/* Whoever asks first gets what is served first, whatever the order of ids. */
static void wants_are_answered_in_order(void **state)
{
    enum { COUNT = 6 };
    struct suite *f = *state;
    int64_t ids[COUNT];
    struct pgqrs_want wants[COUNT / 2];
    for (int i = 0; i < COUNT; i++) {
        ids[i] = suite_put(f, "1", 0, i * 3 % 4);
    }
    for (uint64_t i = 0; i < COUNT / 2; i++) {
        const char *const names[] = {"a", "b", "c"};
        wants[i] = (struct pgqrs_want){.queue_id = f->queue,
                                       .worker_id = suite_worker(f, names[i], 7),
                                       .count = 2,
                                       .max_attempts = 5,
                                       .lease_ms = SUITE_LEASE_MS};
    }
    exchange_for(f, wants, COUNT / 2);
    /* Priorities are 0, 3, 2, 1, 0, 3. */
    suite_assert_leased(f, (int64_t[]){ids[1], ids[5], ids[2], ids[3], ids[0], ids[4]}, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(f->x.leases[i].want, i / 2);
        struct pgqrs_message m = suite_get(f, f->x.leases[i].message_id);
        assert_int_equal(m.consumer_worker_id, wants[i / 2].worker_id);
        pgqrs_message_fini(&m);
    }
}

const struct CMUnitTest suite_lease_cases[] = {
    SUITE_CASE(wants_are_answered_in_order),
    SUITE_CASE(wants_of_many_queues),
    SUITE_CASE(wants_of_many_queues_and_a_follow_up),
    SUITE_CASE(renewing_tells_each),
    SUITE_CASE(wants_of_every_kind_at_once),
    SUITE_CASE(lease_writes),
    SUITE_CASE(first_in_first_out),
    SUITE_CASE(priority_then_due_then_id),
    SUITE_CASE(priority_across_exchanges),
    SUITE_CASE(no_more_than_wanted),
    SUITE_CASE(delayed_until_due),
    SUITE_CASE(next_due_is_of_this_level_too),
    SUITE_CASE(two_wants_share),
    SUITE_CASE(queues_are_apart),
    SUITE_CASE(attempts_run_out),
    SUITE_CASE(crashes_use_up_no_attempts),
    SUITE_CASE(nothing_wanted),
    SUITE_CASE(renewing),
    SUITE_CASE(an_ended_lease_time_frees_nothing),
};
const size_t suite_lease_count = sizeof suite_lease_cases / sizeof *suite_lease_cases;
