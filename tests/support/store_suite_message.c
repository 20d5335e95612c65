/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_suite.h"

#include <stdio.h>

/* Putting messages in with a time or a key, and finding them again. */

static void at_a_time(void **state)
{
    struct suite *f = *state;
    struct pgqrs_enqueue item = {.at_us = f->now_us + 2000001};
    int64_t later = suite_put_item(f, f->queue, item);
    item.at_us = f->now_us - 1;
    int64_t before = suite_put_item(f, f->queue, item);
    item.at_us = 1;
    item.priority = -1;
    int64_t ancient = suite_put_item(f, f->queue, item);
    struct pgqrs_message m = suite_get(f, later);
    assert_int_equal(m.vt_us, f->now_us + 2000001);
    assert_int_equal(m.enqueued_at_us, f->now_us);
    assert_int_equal(m.state, PGQRS_STATE_DELAYED);
    pgqrs_message_fini(&m);
    m = suite_get(f, before);
    assert_int_equal(m.vt_us, f->now_us - 1);
    pgqrs_message_fini(&m);
    suite_lease(f, 5);
    suite_assert_leased(f, (int64_t[]){before, ancient}, 2);
    assert_int_equal(f->x.next_due_us, f->now_us + 2000001);
    suite_advance_ms(f, 2000);
    assert_int_equal(suite_lease(f, 5), 0);
    suite_advance_ms(f, 1);
    suite_lease(f, 5);
    suite_assert_leased(f, &later, 1);
}

static void a_delay_or_a_time_but_not_both(void **state)
{
    struct suite *f = *state;
    struct pgqrs_enqueue item = {
        .payload = pgqrs_bytes_from("1"), .at_us = f->now_us, .delay_ms = 1};
    int64_t id;
    suite_fails(f, pgqrs_store_enqueue(f->store, f->queue, &item, 1, &id, NULL, &f->err),
                PGQRS_ERR_INVALID);
    item = (struct pgqrs_enqueue){.payload = pgqrs_bytes_from("1"), .at_us = -1};
    suite_fails(f, pgqrs_store_enqueue(f->store, f->queue, &item, 1, &id, NULL, &f->err),
                PGQRS_ERR_INVALID);
    item.at_us = INT64_MIN;
    suite_fails(f, pgqrs_store_enqueue(f->store, f->queue, &item, 1, &id, NULL, &f->err),
                PGQRS_ERR_INVALID);
    assert_int_equal(suite_metrics(f, 0).total, 0);
}

static void producers_are_kept(void **state)
{
    struct suite *f = *state;
    int64_t producer = suite_foreign_worker(f, "producer", f->queue);
    int64_t id =
        suite_put_item(f, f->queue, (struct pgqrs_enqueue){.producer_worker_id = producer});
    struct pgqrs_message m = suite_get(f, id);
    assert_int_equal(m.producer_worker_id, producer);
    assert_int_equal(m.consumer_worker_id, 0);
    pgqrs_message_fini(&m);
}

/* ---- unique keys ---- */

static int64_t put_key(struct suite *f, int64_t queue, const char *key, bool *existed)
{
    const struct pgqrs_enqueue item = {.payload = pgqrs_bytes_from("1"), .unique_key = key};
    int64_t id = 0;
    suite_ok(f, pgqrs_store_enqueue(f->store, queue, &item, 1, &id, existed, &f->err));
    assert_true(id > 0);
    return id;
}

static void one_message_a_key(void **state)
{
    struct suite *f = *state;
    bool existed = true;
    int64_t id = put_key(f, f->queue, "it's \"mine\" ü", &existed);
    assert_false(existed);
    struct pgqrs_message m = suite_get(f, id);
    assert_string_equal(m.unique_key, "it's \"mine\" ü");
    pgqrs_message_fini(&m);
    assert_int_equal(put_key(f, f->queue, "it's \"mine\" ü", &existed), id);
    assert_true(existed);
    assert_int_equal(put_key(f, f->queue, "it's \"mine\" ü", NULL), id);
    assert_int_not_equal(put_key(f, f->queue, "It's \"mine\" ü", &existed), id);
    assert_false(existed);
    int64_t other = suite_queue(f, "other");
    assert_int_not_equal(put_key(f, other, "it's \"mine\" ü", &existed), id);
    assert_false(existed);
    suite_put(f, "\"no key\"", 0, 0);
    suite_put(f, "\"no key\"", 0, 0);
    assert_int_equal(suite_metrics(f, 0).total, 5);
    m = suite_get(f, id);
    assert_string_equal(m.payload, "1");
    pgqrs_message_fini(&m);
}

static void two_keys_in_one_call(void **state)
{
    struct suite *f = *state;
    const char *const keys[] = {"a", "b", "a", NULL, "b", "c"};
    struct pgqrs_enqueue items[6];
    char payloads[6][4];
    for (int i = 0; i < 6; i++) {
        (void)snprintf(payloads[i], sizeof payloads[i], "%d", i);
        items[i] =
            (struct pgqrs_enqueue){.payload = pgqrs_bytes_from(payloads[i]), .unique_key = keys[i]};
    }
    int64_t c = put_key(f, f->queue, "c", NULL);
    int64_t ids[6];
    bool existed[6];
    suite_ok(f, pgqrs_store_enqueue(f->store, f->queue, items, 6, ids, existed, &f->err));
    const bool expected[] = {false, false, true, false, true, true};
    for (int i = 0; i < 6; i++) {
        assert_int_equal(existed[i], expected[i]);
    }
    assert_int_equal(ids[2], ids[0]);
    assert_int_equal(ids[4], ids[1]);
    assert_int_equal(ids[5], c);
    assert_true(c < ids[0] && ids[0] < ids[1] && ids[1] < ids[3]);
    struct pgqrs_message m = suite_get(f, ids[0]);
    assert_string_equal(m.payload, "0");
    pgqrs_message_fini(&m);
    assert_int_equal(suite_metrics(f, f->queue).total, 4);
}

/* A key is taken while the message waits or runs, in every way it comes and goes. */
static void keys_are_free_again(void **state)
{
    struct suite *f = *state;
    bool existed;
    int64_t id = put_key(f, f->queue, "k", NULL);
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    assert_int_equal(put_key(f, f->queue, "k", &existed), id);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_RETRY)),
                     PGQRS_SETTLED_YES);
    assert_int_equal(put_key(f, f->queue, "k", &existed), id);
    static const enum pgqrs_settle ends[] = {PGQRS_SETTLE_ARCHIVE, PGQRS_SETTLE_DEAD,
                                             PGQRS_SETTLE_CANCEL, PGQRS_SETTLE_DELETE};
    for (size_t i = 0; i < 4; i++) {
        lease = suite_lease_one(f);
        assert_int_equal(lease.message_id, id);
        assert_int_equal(suite_settle(f, suite_settlement(lease, ends[i])), PGQRS_SETTLED_YES);
        int64_t next = put_key(f, f->queue, "k", &existed);
        assert_false(existed);
        assert_int_not_equal(next, id);
        id = next;
    }
    assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, id), PGQRS_ACTED_YES);
    id = put_key(f, f->queue, "k", &existed);
    assert_false(existed);
    assert_int_equal(suite_act(f, PGQRS_ACT_DELETE, id), PGQRS_ACTED_YES);
    put_key(f, f->queue, "k", &existed);
    assert_false(existed);
}

static void keys_have_bounds(void **state)
{
    struct suite *f = *state;
    char key[257];
    memset(key, 'k', sizeof key);
    key[256] = 0;
    struct pgqrs_enqueue item = {.payload = pgqrs_bytes_from("1"), .unique_key = key};
    int64_t id;
    suite_fails(f, pgqrs_store_enqueue(f->store, f->queue, &item, 1, &id, NULL, &f->err),
                PGQRS_ERR_INVALID);
    key[255] = 0;
    suite_ok(f, pgqrs_store_enqueue(f->store, f->queue, &item, 1, &id, NULL, &f->err));
    item.unique_key = "";
    suite_fails(f, pgqrs_store_enqueue(f->store, f->queue, &item, 1, &id, NULL, &f->err),
                PGQRS_ERR_INVALID);
}

static void follow_ups_have_keys_too(void **state)
{
    struct suite *f = *state;
    int64_t taken = put_key(f, f->queue, "k", NULL);
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    suite_put(f, "2", 0, 0);
    struct pgqrs_lease_ref second = suite_lease_one(f);
    const struct pgqrs_follow_up next[2] = {
        {.queue = "q", .item = {.payload = pgqrs_bytes_from("8"), .unique_key = "k"}},
        {.queue = "q",
         .item = {.payload = pgqrs_bytes_from("9"), .at_us = f->now_us + 1000, .priority = 3}}};
    struct pgqrs_settlement item = suite_settlement(second, PGQRS_SETTLE_ARCHIVE);
    item.follow_ups = next;
    item.follow_up_count = 2;
    assert_int_equal(suite_settle(f, item), PGQRS_SETTLED_YES);
    assert_int_equal(suite_metrics(f, f->queue).total, 3);
    assert_int_equal(suite_metrics(f, f->queue).next_due_us, f->now_us + 1000);
    /* The one that has the key ends, and puts its successor in by the same key. */
    item = suite_settlement(lease, PGQRS_SETTLE_ARCHIVE);
    item.follow_ups = next;
    item.follow_up_count = 1;
    assert_int_equal(suite_settle(f, item), PGQRS_SETTLED_YES);
    bool existed = false;
    assert_int_not_equal(put_key(f, f->queue, "k", &existed), taken);
    assert_true(existed);
}

/* ---- listing ---- */

static size_t listed(struct suite *f, struct pgqrs_message_filter filter, int64_t *ids, size_t max)
{
    size_t count = 0;
    do {
        struct pgqrs_message_list list;
        suite_ok(f, pgqrs_store_message_list(f->store, &filter, &list, &f->err));
        assert_true(list.count <= filter.limit);
        for (size_t i = 0; i < list.count; i++) {
            assert_true(count < max);
            assert_true(count == 0 || list.items[i].id < ids[count - 1]);
            ids[count++] = list.items[i].id;
        }
        assert_true(list.next_before_id == 0 || filter.before_id == 0 ||
                    list.next_before_id < filter.before_id);
        filter.before_id = list.next_before_id;
        pgqrs_message_list_fini(&list);
    } while (filter.before_id != 0);
    return count;
}

static void assert_pages(struct suite *f, struct pgqrs_message_filter filter, const int64_t *ids,
                         size_t count)
{
    static const uint32_t limits[] = {1, 2, 3, 1000};
    for (size_t k = 0; k < 4; k++) {
        int64_t found[20] = {0};
        filter.limit = limits[k];
        assert_int_equal(listed(f, filter, found, 20), count);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(found[i], ids[i]);
        }
    }
}

/*
 * 0 done by w, 1 dead by w2, 2 cancelled by an operator, 3 leased by w, 4 leased by w2, 5 delayed,
 * 6 and 7 ready, 8 ready in another queue; 6 has a key, and 0 had the same.
 */
static void put_nine(struct suite *f, int64_t id[9], int64_t other, int64_t w2)
{
    id[0] = put_key(f, f->queue, "k", NULL);
    assert_int_equal(suite_settle(f, suite_settlement(suite_lease_one(f), PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    id[1] = suite_put(f, "1", 0, 0);
    struct pgqrs_settlement dead =
        suite_settlement(suite_lease_for(f, f->queue, w2), PGQRS_SETTLE_DEAD);
    assert_int_equal(suite_settle(f, dead), PGQRS_SETTLED_YES);
    id[2] = suite_put(f, "1", 0, 0);
    assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, id[2]), PGQRS_ACTED_YES);
    id[3] = suite_put(f, "1", 0, 0);
    suite_lease_one(f);
    id[4] = suite_put(f, "1", 0, 0);
    suite_lease_for(f, f->queue, w2);
    id[5] = suite_put(f, "1", 1000, 0);
    id[6] = put_key(f, f->queue, "k", NULL);
    id[7] = suite_put(f, "1", 0, 0);
    id[8] = suite_put_item(f, other, (struct pgqrs_enqueue){0});
}

static void every_filter_by_the_page(void **state)
{
    struct suite *f = *state;
    int64_t id[9];
    int64_t other = suite_queue(f, "other");
    int64_t w2 = suite_worker(f, "w2", 2);
    put_nine(f, id, other, w2);
#define PAGES(count, filter, ...)                                                                  \
    assert_pages(f, (struct pgqrs_message_filter)filter, (const int64_t[]){__VA_ARGS__}, count)
#define WITH(...) {__VA_ARGS__}
    PAGES(9, {0}, id[8], id[7], id[6], id[5], id[4], id[3], id[2], id[1], id[0]);
    PAGES(1, WITH(.queue_id = other), id[8]);
    PAGES(3, WITH(.state = PGQRS_STATE_READY), id[8], id[7], id[6]);
    PAGES(2, WITH(.state = PGQRS_STATE_READY, .queue_id = f->queue), id[7], id[6]);
    PAGES(1, WITH(.state = PGQRS_STATE_DELAYED), id[5]);
    PAGES(2, WITH(.state = PGQRS_STATE_LEASED), id[4], id[3]);
    PAGES(1, WITH(.state = PGQRS_STATE_LEASED, .consumer_worker_id = w2), id[4]);
    PAGES(3, WITH(.state = PGQRS_STATE_ARCHIVED), id[2], id[1], id[0]);
    PAGES(3, WITH(.state = PGQRS_STATE_ARCHIVED, .queue_id = f->queue), id[2], id[1], id[0]);
    PAGES(1, WITH(.outcome = "failed"), id[1]);
    PAGES(1, WITH(.outcome = "failed", .queue_id = f->queue), id[1]);
    PAGES(0, WITH(.outcome = "failed", .queue_id = other), 0);
    PAGES(1, WITH(.outcome = "cancelled"), id[2]);
    PAGES(1, WITH(.outcome = "done", .state = PGQRS_STATE_ARCHIVED), id[0]);
    PAGES(0, WITH(.outcome = "done", .state = PGQRS_STATE_READY), 0);
    PAGES(2, WITH(.consumer_worker_id = f->worker), id[3], id[0]);
    PAGES(2, WITH(.consumer_worker_id = w2), id[4], id[1]);
    PAGES(0, WITH(.consumer_worker_id = 4711), 0);
    PAGES(2, WITH(.unique_key = "k"), id[6], id[0]);
    PAGES(1, WITH(.unique_key = "k", .state = PGQRS_STATE_READY), id[6]);
    PAGES(1, WITH(.unique_key = "k", .queue_id = f->queue, .outcome = "done"), id[0]);
    PAGES(0, WITH(.unique_key = "k", .queue_id = other), 0);
    suite_advance_ms(f, 1000);
    PAGES(0, WITH(.state = PGQRS_STATE_DELAYED), 0);
    PAGES(3, WITH(.state = PGQRS_STATE_READY, .queue_id = f->queue), id[7], id[6], id[5]);
#undef WITH
#undef PAGES
}

static void the_last_page_says_so(void **state)
{
    struct suite *f = *state;
    for (int i = 0; i < 4; i++) {
        suite_put(f, "1", 0, 0);
    }
    struct pgqrs_message_filter filter = {.queue_id = f->queue, .limit = 3};
    struct pgqrs_message_list list;
    suite_ok(f, pgqrs_store_message_list(f->store, &filter, &list, &f->err));
    assert_int_equal(list.count, 3);
    assert_int_not_equal(list.next_before_id, 0);
    filter.before_id = list.next_before_id;
    pgqrs_message_list_fini(&list);
    suite_ok(f, pgqrs_store_message_list(f->store, &filter, &list, &f->err));
    assert_int_equal(list.count, 1);
    assert_int_equal(list.next_before_id, 0);
    pgqrs_message_list_fini(&list);
    filter.state = PGQRS_STATE_COUNT;
    suite_fails(f, pgqrs_store_message_list(f->store, &filter, &list, &f->err), PGQRS_ERR_INVALID);
}

/* Nothing that is there is passed over when many rows do not fit the filter. */
static void few_among_many(void **state)
{
    struct suite *f = *state;
    enum { MANY = 1200 };
    static struct pgqrs_enqueue items[MANY];
    static int64_t ids[MANY];
    for (int i = 0; i < MANY; i++) {
        items[i] = (struct pgqrs_enqueue){.payload = pgqrs_bytes_from("1"),
                                          .delay_ms = i % 600 == 7 ? 0 : 5000};
    }
    for (size_t at = 0; at < MANY; at += 400) {
        suite_ok(f,
                 pgqrs_store_enqueue(f->store, f->queue, items + at, 400, ids + at, NULL, &f->err));
    }
    assert_pages(f, (struct pgqrs_message_filter){.state = PGQRS_STATE_READY},
                 (const int64_t[]){ids[607], ids[7]}, 2);
    assert_int_equal(suite_lease(f, 2), 2);
    assert_pages(f, (struct pgqrs_message_filter){.consumer_worker_id = f->worker},
                 (const int64_t[]){ids[607], ids[7]}, 2);
}

const struct CMUnitTest suite_message_cases[] = {
    SUITE_CASE(at_a_time),
    SUITE_CASE(a_delay_or_a_time_but_not_both),
    SUITE_CASE(producers_are_kept),
    SUITE_CASE(one_message_a_key),
    SUITE_CASE(two_keys_in_one_call),
    SUITE_CASE(keys_are_free_again),
    SUITE_CASE(keys_have_bounds),
    SUITE_CASE(follow_ups_have_keys_too),
    SUITE_CASE(every_filter_by_the_page),
    SUITE_CASE(the_last_page_says_so),
    SUITE_CASE(few_among_many),
};
const size_t suite_message_count = sizeof suite_message_cases / sizeof *suite_message_cases;
