/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_suite.h"

/* What becomes of leased messages. */

static struct pgqrs_lease_ref put_and_lease(struct suite *f)
{
    suite_put(f, "1", 0, 0);
    return suite_lease_one(f);
}

static void all_three_fence(void **state)
{
    struct suite *f = *state;
    for (int how = PGQRS_SETTLE_ARCHIVE; how < PGQRS_SETTLE_COUNT; how++) {
        struct pgqrs_lease_ref lease = put_and_lease(f);
        struct pgqrs_settlement wrong[3];
        for (size_t i = 0; i < 3; i++) {
            wrong[i] = suite_settlement(lease, (enum pgqrs_settle)how);
            wrong[i].error = wrong[i].result = pgqrs_bytes_from("\"wrong\"");
            wrong[i].crashed = true;
        }
        wrong[0].worker_id++;
        wrong[1].attempt++;
        wrong[2].attempt--;
        struct pgqrs_message before = suite_get(f, lease.message_id);
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(suite_settle(f, wrong[i]), PGQRS_SETTLED_REFUSED);
        }
        struct pgqrs_message after = suite_get(f, lease.message_id);
        assert_int_equal(after.state, PGQRS_STATE_LEASED);
        assert_int_equal(after.vt_us, before.vt_us);
        assert_int_equal(after.read_ct, 1);
        assert_int_equal(after.crash_ct, 0);
        assert_null(after.error);
        assert_null(after.result);
        pgqrs_message_fini(&before);
        pgqrs_message_fini(&after);
        struct pgqrs_settlement gone = suite_settlement(lease, (enum pgqrs_settle)how);
        gone.message_id = 999999;
        assert_int_equal(suite_settle(f, gone),
                         how == PGQRS_SETTLE_DELETE ? PGQRS_SETTLED_BEFORE : PGQRS_SETTLED_REFUSED);
        assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_DELETE)),
                         PGQRS_SETTLED_YES);
    }
}

static void settled_before(void **state)
{
    struct suite *f = *state;
    struct pgqrs_lease_ref lease = put_and_lease(f);
    struct pgqrs_settlement done = suite_settlement(lease, PGQRS_SETTLE_ARCHIVE);
    assert_int_equal(suite_settle(f, done), PGQRS_SETTLED_YES);
    assert_int_equal(suite_settle(f, done), PGQRS_SETTLED_BEFORE);
    done.attempt++;
    assert_int_equal(suite_settle(f, done), PGQRS_SETTLED_REFUSED);
    done.attempt--;
    done.worker_id++;
    assert_int_equal(suite_settle(f, done), PGQRS_SETTLED_REFUSED);

    lease = put_and_lease(f);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_DELETE)),
                     PGQRS_SETTLED_YES);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_DELETE)),
                     PGQRS_SETTLED_BEFORE);
    struct pgqrs_message m;
    suite_fails(f, pgqrs_store_message_get(f->store, lease.message_id, &m, &f->err),
                PGQRS_ERR_NOT_FOUND);

    lease = put_and_lease(f);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_RETRY)),
                     PGQRS_SETTLED_YES);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_RETRY)),
                     PGQRS_SETTLED_REFUSED);
}

static void ends(void **state)
{
    struct suite *f = *state;
    static const struct {
        enum pgqrs_settle how;
        const char *outcome;
    } kinds[] = {{PGQRS_SETTLE_ARCHIVE, "done"},
                 {PGQRS_SETTLE_DEAD, "failed"},
                 {PGQRS_SETTLE_CANCEL, "cancelled"}};
    for (size_t i = 0; i < 3; i++) {
        struct pgqrs_lease_ref lease = put_and_lease(f);
        struct pgqrs_settlement item = suite_settlement(lease, kinds[i].how);
        item.error = pgqrs_bytes_from("it's \"so\"");
        item.result = pgqrs_bytes_from("{\"n\":1}");
        suite_advance_ms(f, 3);
        assert_int_equal(suite_settle(f, item), PGQRS_SETTLED_YES);
        struct pgqrs_message m = suite_get(f, lease.message_id);
        assert_int_equal(m.state, PGQRS_STATE_ARCHIVED);
        assert_int_equal(m.archived_at_us, f->now_us);
        assert_int_equal(m.consumer_worker_id, f->worker);
        assert_int_equal(m.read_ct, 1);
        assert_int_equal(m.vt_us, f->now_us - 3000 + SUITE_LEASE_MS * INT64_C(1000));
        assert_string_equal(m.outcome, kinds[i].outcome);
        assert_string_equal(m.error, "it's \"so\"");
        assert_string_equal(m.result, "{\"n\":1}");
        pgqrs_message_fini(&m);
    }
    assert_int_equal(suite_lease(f, 9), 0);
}

static void retrying(void **state)
{
    struct suite *f = *state;
    struct pgqrs_lease_ref lease = put_and_lease(f);
    struct pgqrs_settlement item = suite_settlement(lease, PGQRS_SETTLE_RETRY);
    item.delay_ms = 1500;
    item.error = (struct pgqrs_bytes){.data = "first\0second", .len = 12};
    assert_int_equal(suite_settle(f, item), PGQRS_SETTLED_YES);
    struct pgqrs_message m = suite_get(f, lease.message_id);
    assert_int_equal(m.state, PGQRS_STATE_DELAYED);
    assert_int_equal(m.consumer_worker_id, 0);
    assert_int_equal(m.read_ct, 1);
    assert_int_equal(m.vt_us, f->now_us + 1500000);
    assert_string_equal(m.error, "first");
    pgqrs_message_fini(&m);
    assert_int_equal(suite_lease(f, 1), 0);
    assert_int_equal(f->x.next_due_us, f->now_us + 1500000);
    suite_advance_ms(f, 1500);
    lease = suite_lease_one(f);
    assert_int_equal(lease.attempt, 2);
    m = suite_get(f, lease.message_id);
    assert_int_equal(m.dequeued_at_us, SUITE_START_US);
    pgqrs_message_fini(&m);
    /* Done at last: the error of the first attempt is still there to be read. */
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    m = suite_get(f, lease.message_id);
    assert_string_equal(m.outcome, "done");
    assert_string_equal(m.error, "first");
    assert_null(m.result);
    pgqrs_message_fini(&m);
}

static void crashes_are_counted(void **state)
{
    struct suite *f = *state;
    struct pgqrs_lease_ref lease = put_and_lease(f);
    struct pgqrs_settlement item = suite_settlement(lease, PGQRS_SETTLE_RETRY);
    item.crashed = true;
    assert_int_equal(suite_settle(f, item), PGQRS_SETTLED_YES);
    item = suite_settlement(suite_lease_one(f), PGQRS_SETTLE_DEAD);
    item.crashed = true;
    assert_int_equal(suite_settle(f, item), PGQRS_SETTLED_YES);
    struct pgqrs_message m = suite_get(f, lease.message_id);
    assert_int_equal(m.crash_ct, 2);
    assert_int_equal(m.read_ct, 2);
    pgqrs_message_fini(&m);
}

static void snoozing(void **state)
{
    struct suite *f = *state;
    struct pgqrs_lease_ref lease = put_and_lease(f);
    struct pgqrs_settlement item = suite_settlement(lease, PGQRS_SETTLE_SNOOZE);
    item.delay_ms = 60000;
    assert_int_equal(suite_settle(f, item), PGQRS_SETTLED_YES);
    struct pgqrs_message m = suite_get(f, lease.message_id);
    assert_int_equal(m.read_ct, 0);
    assert_int_equal(m.vt_us, f->now_us + 60000000);
    assert_int_equal(m.state, PGQRS_STATE_DELAYED);
    pgqrs_message_fini(&m);
    suite_advance_ms(f, 60000);
    assert_int_equal(suite_lease_one(f).attempt, 1);
}

static void returned_to_its_place(void **state)
{
    struct suite *f = *state;
    int64_t first = suite_put(f, "1", 0, 0);
    suite_advance_ms(f, 1);
    int64_t second = suite_put(f, "2", 0, 0);
    suite_advance_ms(f, 1);
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    assert_int_equal(lease.message_id, first);
    suite_advance_ms(f, 100);
    int64_t held = pgqrs_store_renew(f->store, &lease, 1, SUITE_LEASE_MS, NULL, &f->err);
    assert_int_equal(held, 1);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_RETURN)),
                     PGQRS_SETTLED_YES);
    struct pgqrs_message m = suite_get(f, first);
    assert_int_equal(m.state, PGQRS_STATE_READY);
    assert_int_equal(m.vt_us, SUITE_START_US);
    assert_int_equal(m.read_ct, 0);
    assert_null(m.error);
    pgqrs_message_fini(&m);
    suite_lease(f, 2);
    suite_assert_leased(f, (int64_t[]){first, second}, 2);
    assert_int_equal(f->x.leases[0].attempt, 1);
}

/* ---- groups ---- */

static void settle_and_lease_at_once(void **state)
{
    struct suite *f = *state;
    int64_t ids[4];
    for (int i = 0; i < 4; i++) {
        ids[i] = suite_put(f, "1", 0, 0);
    }
    suite_lease(f, 2);
    struct pgqrs_settlement items[3];
    for (size_t i = 0; i < 3; i++) {
        const struct pgqrs_lease_ref ref = {
            .message_id = ids[i], .worker_id = f->worker, .attempt = 1};
        items[i] = suite_settlement(ref, i == 0 ? PGQRS_SETTLE_RETURN : PGQRS_SETTLE_ARCHIVE);
    }
    const struct pgqrs_want want = {.queue_id = f->queue,
                                    .worker_id = f->worker,
                                    .count = 2,
                                    .max_attempts = 5,
                                    .lease_ms = 1000};
    f->x.settlements = items;
    f->x.settlement_count = 3;
    f->x.wants = &want;
    f->x.want_count = 1;
    suite_ok(f, pgqrs_store_exchange(f->store, &f->x, &f->err));
    assert_int_equal(items[0].settled_out, PGQRS_SETTLED_YES);
    assert_int_equal(items[1].settled_out, PGQRS_SETTLED_YES);
    assert_int_equal(items[2].settled_out, PGQRS_SETTLED_REFUSED);
    suite_assert_leased(f, (int64_t[]){ids[0], ids[2]}, 2);
    /* The same group again, as after a lost answer: nothing is applied twice. */
    suite_ok(f, pgqrs_store_exchange(f->store, &f->x, &f->err));
    assert_int_equal(items[1].settled_out, PGQRS_SETTLED_BEFORE);
    items[0].how = PGQRS_SETTLE_COUNT;
    suite_fails(f, pgqrs_store_exchange(f->store, &f->x, &f->err), PGQRS_ERR_INVALID);
}

/* ---- follow-ups ---- */

static int64_t total(struct suite *f)
{
    struct pgqrs_queue_metrics metrics;
    suite_ok(f, pgqrs_store_queue_metrics(f->store, 0, 0, &metrics, &f->err));
    return metrics.total;
}

static void follow_ups_come_with_the_result(void **state)
{
    struct suite *f = *state;
    struct pgqrs_lease_ref lease = put_and_lease(f);
    const struct pgqrs_follow_up next[2] = {
        {.queue = "q", .item = {.payload = pgqrs_bytes_from("2"), .priority = 1}},
        {.queue = "q", .item = {.payload = pgqrs_bytes_from("3"), .delay_ms = 50}}};
    struct pgqrs_settlement item = suite_settlement(lease, PGQRS_SETTLE_ARCHIVE);
    item.follow_ups = next;
    item.follow_up_count = 2;
    struct pgqrs_settlement stale = item;
    stale.attempt = 7;
    assert_int_equal(suite_settle(f, stale), PGQRS_SETTLED_REFUSED);
    assert_int_equal(total(f), 1);
    assert_int_equal(suite_settle(f, item), PGQRS_SETTLED_YES);
    assert_int_equal(total(f), 3);
    assert_int_equal(suite_settle(f, item), PGQRS_SETTLED_BEFORE);
    assert_int_equal(total(f), 3);
    assert_int_equal(suite_lease(f, 5), 1);
    assert_memory_equal(f->x.leases[0].payload.data, "2", 1);
    assert_int_equal(f->x.next_due_us, f->now_us + 50000);
}

static void follow_ups_that_can_not_be(void **state)
{
    struct suite *f = *state;
    const struct pgqrs_follow_up bad[2][2] = {
        {{.queue = "q", .item = {.payload = pgqrs_bytes_from("2")}},
         {.queue = "no such", .item = {.payload = pgqrs_bytes_from("3")}}},
        {{.queue = "q", .item = {.payload = pgqrs_bytes_from("2")}},
         {.queue = "q", .item = {.payload = {.data = "\0", .len = 1}}}},
    };
    for (size_t i = 0; i < 2; i++) {
        int64_t before = total(f);
        struct pgqrs_lease_ref lease = put_and_lease(f);
        struct pgqrs_settlement item = suite_settlement(lease, PGQRS_SETTLE_ARCHIVE);
        item.result = pgqrs_bytes_from("1");
        item.follow_ups = bad[i];
        item.follow_up_count = 2;
        assert_int_equal(suite_settle(f, item), PGQRS_SETTLED_YES);
        assert_int_equal(total(f), before + 1);
        struct pgqrs_message m = suite_get(f, lease.message_id);
        assert_string_equal(m.outcome, "failed");
        assert_non_null(strstr(m.error, i == 0 ? "\"no such\"" : "zero byte"));
        assert_null(m.result);
        pgqrs_message_fini(&m);
    }
}

/* Of a group: each follow-up with its own outcome, and all of them before what is leased. */
static void follow_ups_of_a_group(void **state)
{
    enum { COUNT = 5 };
    struct suite *f = *state;
    int64_t other = suite_queue(f, "other");
    struct pgqrs_lease_ref leases[COUNT];
    struct pgqrs_settlement items[COUNT];
    for (int i = 0; i < COUNT; i++) {
        suite_put(f, "1", 0, 0);
        leases[i] = suite_lease_one(f);
        items[i] = suite_settlement(leases[i], PGQRS_SETTLE_ARCHIVE);
    }
    const struct pgqrs_follow_up first[3] = {
        {.queue = "q", .item = {.payload = pgqrs_bytes_from("10"), .priority = 1}},
        {.queue = "other", .item = {.payload = pgqrs_bytes_from("11")}},
        {.queue = "q", .item = {.payload = pgqrs_bytes_from("12"), .unique_key = "k"}}};
    const struct pgqrs_follow_up second[2] = {
        {.queue = "q", .item = {.payload = pgqrs_bytes_from("13"), .unique_key = "k"}},
        {.queue = "q", .item = {.payload = pgqrs_bytes_from("14"), .delay_ms = 50}}};
    items[1].follow_ups = first;
    items[1].follow_up_count = 3;
    items[2].how = PGQRS_SETTLE_RETRY;
    items[2].delay_ms = 900;
    items[2].follow_ups = second;
    items[2].follow_up_count = 2;
    items[3].attempt = 9;
    items[3].follow_ups = first;
    items[3].follow_up_count = 2;
    items[4].how = PGQRS_SETTLE_DELETE;
    const struct pgqrs_want want = {.queue_id = f->queue,
                                    .worker_id = f->worker,
                                    .count = 9,
                                    .max_attempts = 5,
                                    .lease_ms = SUITE_LEASE_MS};
    struct pgqrs_exchange x = {
        .settlements = items, .settlement_count = COUNT, .wants = &want, .want_count = 1};
    suite_ok(f, pgqrs_store_exchange(f->store, &x, &f->err));
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(items[i].settled_out, i == 3 ? PGQRS_SETTLED_REFUSED : PGQRS_SETTLED_YES);
    }
    assert_int_equal(x.lease_count, 2);
    suite_assert_json(x.leases[0].payload, "10");
    suite_assert_json(x.leases[1].payload, "12");
    assert_int_equal(x.next_due_us, f->now_us + 50000);
    assert_int_equal(total(f), 4 + 4);
    struct pgqrs_lease_ref there = suite_lease_for(f, other, f->worker);
    suite_assert_message(f, there.message_id, PGQRS_STATE_LEASED, 1, "");
    pgqrs_exchange_fini(&x);
}

/* One that can not be harms nobody else's. */
static void a_bad_follow_up_in_a_group(void **state)
{
    struct suite *f = *state;
    const struct pgqrs_follow_up good = {.queue = "q", .item = {.payload = pgqrs_bytes_from("10")}};
    const struct pgqrs_follow_up bad = {.queue = "no such",
                                        .item = {.payload = pgqrs_bytes_from("11")}};
    struct pgqrs_settlement items[3];
    for (int i = 0; i < 3; i++) {
        suite_put(f, "1", 0, 0);
        items[i] = suite_settlement(suite_lease_one(f), PGQRS_SETTLE_ARCHIVE);
        items[i].follow_ups = i == 1 ? &bad : &good;
        items[i].follow_up_count = 1;
    }
    struct pgqrs_exchange x = {.settlements = items, .settlement_count = 3};
    suite_ok(f, pgqrs_store_exchange(f->store, &x, &f->err));
    pgqrs_exchange_fini(&x);
    assert_int_equal(total(f), 3 + 2);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(items[i].settled_out, PGQRS_SETTLED_YES);
        struct pgqrs_message m = suite_get(f, items[i].message_id);
        assert_string_equal(m.outcome, i == 1 ? "failed" : "done");
        pgqrs_message_fini(&m);
    }
}

const struct CMUnitTest suite_settle_cases[] = {
    SUITE_CASE(follow_ups_of_a_group),
    SUITE_CASE(a_bad_follow_up_in_a_group),
    SUITE_CASE(all_three_fence),
    SUITE_CASE(settled_before),
    SUITE_CASE(ends),
    SUITE_CASE(retrying),
    SUITE_CASE(crashes_are_counted),
    SUITE_CASE(snoozing),
    SUITE_CASE(returned_to_its_place),
    SUITE_CASE(settle_and_lease_at_once),
    SUITE_CASE(follow_ups_come_with_the_result),
    SUITE_CASE(follow_ups_that_can_not_be),
};
const size_t suite_settle_count = sizeof suite_settle_cases / sizeof *suite_settle_cases;
