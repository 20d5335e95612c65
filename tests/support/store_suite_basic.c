/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_suite.h"

#include <stdlib.h>

/* Queues, putting messages in, and looking at them. */

static void queue_names(void **state)
{
    struct suite *f = *state;
    int64_t id = 0;
    int64_t found = 0;
    suite_ok(f, pgqrs_store_queue_create(f->store, "bilder/größe 'x'", &id, &f->err));
    assert_int_not_equal(id, f->queue);
    suite_ok(f, pgqrs_store_queue_find(f->store, "bilder/größe 'x'", &found, &f->err));
    assert_int_equal(found, id);
    suite_fails(f, pgqrs_store_queue_create(f->store, "q", &id, &f->err), PGQRS_ERR_EXISTS);
    assert_non_null(strstr(f->err.text, "\"q\""));
    suite_fails(f, pgqrs_store_queue_find(f->store, "Q", &found, &f->err), PGQRS_ERR_NOT_FOUND);
    assert_non_null(strstr(f->err.text, "\"Q\""));
    suite_fails(f, pgqrs_store_queue_create(f->store, "", &id, &f->err), PGQRS_ERR_INVALID);
    char name[257];
    memset(name, 'n', sizeof name);
    name[256] = 0;
    suite_fails(f, pgqrs_store_queue_create(f->store, name, &id, &f->err), PGQRS_ERR_INVALID);
    name[255] = 0;
    suite_ok(f, pgqrs_store_queue_create(f->store, name, &id, &f->err));
}

static void queue_listing(void **state)
{
    struct suite *f = *state;
    int64_t a = 0;
    suite_advance_ms(f, 5);
    suite_ok(f, pgqrs_store_queue_create(f->store, "a", &a, &f->err));
    struct pgqrs_queue_list list;
    suite_ok(f, pgqrs_store_queue_list(f->store, 0, 1000, &list, &f->err));
    assert_int_equal(list.count, 2);
    assert_string_equal(list.items[0].name, "q");
    assert_string_equal(list.items[1].name, "a");
    assert_int_equal(list.items[1].id, a);
    assert_int_equal(list.items[1].created_at_us, SUITE_START_US + 5000);
    pgqrs_queue_list_fini(&list);
    assert_null(list.items);
}

static void enqueue_many_or_none(void **state)
{
    struct suite *f = *state;
    struct pgqrs_enqueue items[3] = {{.payload = pgqrs_bytes_from("1")},
                                     {.payload = pgqrs_bytes_from("2"), .priority = -7},
                                     {.payload = pgqrs_bytes_from("3"), .delay_ms = 1500}};
    int64_t ids[3] = {0};
    suite_ok(f, pgqrs_store_enqueue(f->store, f->queue, items, 3, ids, NULL, &f->err));
    assert_true(ids[0] < ids[1] && ids[1] < ids[2]);
    struct pgqrs_message m = suite_get(f, ids[1]);
    assert_string_equal(m.payload, "2");
    assert_int_equal(m.priority, -7);
    assert_int_equal(m.state, PGQRS_STATE_READY);
    assert_int_equal(m.queue_id, f->queue);
    assert_int_equal(m.enqueued_at_us, SUITE_START_US);
    assert_int_equal(m.vt_us, SUITE_START_US);
    assert_int_equal(m.read_ct, 0);
    assert_int_equal(m.dequeued_at_us, 0);
    assert_int_equal(m.archived_at_us, 0);
    assert_null(m.outcome);
    pgqrs_message_fini(&m);
    m = suite_get(f, ids[2]);
    assert_int_equal(m.state, PGQRS_STATE_DELAYED);
    assert_int_equal(m.vt_us, SUITE_START_US + 1500000);
    pgqrs_message_fini(&m);

    suite_fails(f, pgqrs_store_enqueue(f->store, 9999, items, 3, ids, NULL, &f->err),
                PGQRS_ERR_NOT_FOUND);
    items[2].delay_ms = -1;
    suite_fails(f, pgqrs_store_enqueue(f->store, f->queue, items, 3, ids, NULL, &f->err),
                PGQRS_ERR_INVALID);
    struct pgqrs_queue_metrics metrics;
    suite_ok(f, pgqrs_store_queue_metrics(f->store, 0, 0, &metrics, &f->err));
    assert_int_equal(metrics.total, 3);
    suite_ok(f, pgqrs_store_enqueue(f->store, f->queue, NULL, 0, NULL, NULL, &f->err));
}

static void payloads_round_trip(void **state)
{
    struct suite *f = *state;
    size_t len = 1000000;
    char *huge = malloc(len + 1);
    assert_non_null(huge);
    memset(huge, 'x', len);
    huge[0] = huge[len - 1] = '"';
    huge[len] = 0;
    const char *const texts[] = {"{\"ключ\":\"\\u0001 ünï 😀 \\\"\"}", "null", huge, "-1.5"};
    int64_t ids[4];
    for (size_t i = 0; i < 4; i++) {
        ids[i] = suite_put(f, texts[i], 0, 0);
    }
    assert_int_equal(suite_lease(f, 10), 4);
    for (size_t i = 0; i < 4; i++) {
        struct pgqrs_message m = suite_get(f, ids[i]);
        suite_assert_json(pgqrs_bytes_from(m.payload), texts[i]);
        pgqrs_message_fini(&m);
        suite_assert_json(f->x.leases[i].payload, texts[i]);
    }
    free(huge);
    const struct pgqrs_enqueue bad[] = {{.payload = {.data = "1\0002", .len = 3}},
                                        {.payload = {.data = "", .len = 0}}};
    int64_t id;
    for (size_t i = 0; i < 2; i++) {
        suite_fails(f, pgqrs_store_enqueue(f->store, f->queue, &bad[i], 1, &id, NULL, &f->err),
                    PGQRS_ERR_INVALID);
    }
}

static void far_delays(void **state)
{
    struct suite *f = *state;
    int64_t id = suite_put(f, "1", INT64_MAX, 0);
    assert_int_equal(suite_lease(f, 1), 0);
    assert_true(f->x.next_due_us > SUITE_START_US);
    struct pgqrs_message m = suite_get(f, id);
    assert_int_equal(m.state, PGQRS_STATE_DELAYED);
    pgqrs_message_fini(&m);
}

static void unknown_message(void **state)
{
    struct suite *f = *state;
    struct pgqrs_message m;
    suite_fails(f, pgqrs_store_message_get(f->store, 123456, &m, &f->err), PGQRS_ERR_NOT_FOUND);
    assert_non_null(strstr(f->err.text, "123456"));
}

/* ---- lists and numbers ---- */

/* Ten messages: 0 done, 1 failed, 2 leased, 3 delayed, 4 to 9 ready. */
static void put_ten(struct suite *f, int64_t ids[10])
{
    for (int i = 0; i < 10; i++) {
        ids[i] = suite_put(f, "{}", i == 3 ? 60000 : 0, 10 - i);
    }
    suite_advance_ms(f, 10);
    assert_int_equal(suite_settle(f, suite_settlement(suite_lease_one(f), PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    suite_advance_ms(f, 10);
    assert_int_equal(suite_settle(f, suite_settlement(suite_lease_one(f), PGQRS_SETTLE_DEAD)),
                     PGQRS_SETTLED_YES);
    assert_int_equal(suite_lease_one(f).message_id, ids[2]);
}

static void assert_listed(struct suite *f, const struct pgqrs_message_filter *filter,
                          const int64_t *ids, size_t count)
{
    struct pgqrs_message_list list;
    suite_ok(f, pgqrs_store_message_list(f->store, filter, &list, &f->err));
    assert_int_equal(list.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(list.items[i].id, ids[i]);
        assert_true(filter->state == PGQRS_STATE_NONE || list.items[i].state == filter->state);
    }
    pgqrs_message_list_fini(&list);
}

static void listing(void **state)
{
    struct suite *f = *state;
    int64_t id[10];
    put_ten(f, id);
    struct pgqrs_message_filter filter = {.queue_id = f->queue, .limit = 4};
    assert_listed(f, &filter, (int64_t[]){id[9], id[8], id[7], id[6]}, 4);
    filter.before_id = id[6];
    assert_listed(f, &filter, (int64_t[]){id[5], id[4], id[3], id[2]}, 4);
    filter.before_id = id[2];
    assert_listed(f, &filter, (int64_t[]){id[1], id[0]}, 2);
    filter.before_id = id[0];
    assert_listed(f, &filter, NULL, 0);

    filter = (struct pgqrs_message_filter){.limit = 3, .state = PGQRS_STATE_READY};
    assert_listed(f, &filter, (int64_t[]){id[9], id[8], id[7]}, 3);
    filter.before_id = id[7];
    assert_listed(f, &filter, (int64_t[]){id[6], id[5], id[4]}, 3);
    filter = (struct pgqrs_message_filter){.limit = 1000, .state = PGQRS_STATE_DELAYED};
    assert_listed(f, &filter, &id[3], 1);
    filter.state = PGQRS_STATE_LEASED;
    assert_listed(f, &filter, &id[2], 1);
    filter.state = PGQRS_STATE_ARCHIVED;
    assert_listed(f, &filter, (int64_t[]){id[1], id[0]}, 2);
    filter.outcome = "failed";
    assert_listed(f, &filter, &id[1], 1);
    filter = (struct pgqrs_message_filter){.limit = 10, .outcome = "done"};
    assert_listed(f, &filter, &id[0], 1);
    filter.queue_id = f->queue + 1000;
    assert_listed(f, &filter, NULL, 0);

    struct pgqrs_message_list list;
    filter.limit = 0;
    suite_fails(f, pgqrs_store_message_list(f->store, &filter, &list, &f->err), PGQRS_ERR_INVALID);
    filter.limit = 1001;
    suite_fails(f, pgqrs_store_message_list(f->store, &filter, &list, &f->err), PGQRS_ERR_INVALID);
}

static void metrics(void **state)
{
    struct suite *f = *state;
    int64_t ids[10];
    int64_t other = 0;
    struct pgqrs_queue_metrics m;
    suite_ok(f, pgqrs_store_queue_metrics(f->store, f->queue, 0, &m, &f->err));
    assert_int_equal(m.total, 0);
    assert_int_equal(m.oldest_pending_us, 0);
    assert_int_equal(m.newest_us, 0);

    put_ten(f, ids);
    suite_ok(f, pgqrs_store_queue_create(f->store, "other", &other, &f->err));
    const struct pgqrs_enqueue item = {.payload = pgqrs_bytes_from("1")};
    int64_t id;
    suite_ok(f, pgqrs_store_enqueue(f->store, other, &item, 1, &id, NULL, &f->err));
    suite_ok(f, pgqrs_store_queue_metrics(f->store, f->queue, 0, &m, &f->err));
    assert_int_equal(m.total, 10);
    assert_int_equal(m.pending, 7);
    assert_int_equal(m.ready, 6);
    assert_int_equal(m.leased, 1);
    assert_int_equal(m.archived, 2);
    assert_int_equal(m.failed, 1);
    assert_int_equal(m.oldest_pending_us, SUITE_START_US);
    assert_int_equal(m.newest_us, SUITE_START_US);
    suite_ok(f, pgqrs_store_queue_metrics(f->store, 0, 0, &m, &f->err));
    assert_int_equal(m.total, 11);
    assert_int_equal(m.pending, 8);
    assert_int_equal(m.oldest_pending_us, SUITE_START_US);
    assert_int_equal(m.newest_us, SUITE_START_US + 20000);
}

static void newest_counts_the_archived(void **state)
{
    struct suite *f = *state;
    suite_put(f, "1", 0, 0);
    suite_advance_ms(f, 7);
    suite_put(f, "2", 0, 1);
    assert_int_equal(suite_settle(f, suite_settlement(suite_lease_one(f), PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    struct pgqrs_queue_metrics m;
    suite_ok(f, pgqrs_store_queue_metrics(f->store, f->queue, 0, &m, &f->err));
    assert_int_equal(m.newest_us, SUITE_START_US + 7000);
    assert_int_equal(m.oldest_pending_us, SUITE_START_US);
}

static void installing_again(void **state)
{
    struct suite *f = *state;
    int64_t id = suite_put(f, "1", 0, 3);
    suite_ok(f, pgqrs_store_install(f->store, &f->err));
    suite_ok(f, pgqrs_store_verify(f->store, &f->err));
    struct pgqrs_message m = suite_get(f, id);
    assert_int_equal(m.priority, 3);
    pgqrs_message_fini(&m);
}

const struct CMUnitTest suite_basic_cases[] = {
    SUITE_CASE(queue_names),
    SUITE_CASE(queue_listing),
    SUITE_CASE(enqueue_many_or_none),
    SUITE_CASE(payloads_round_trip),
    SUITE_CASE(far_delays),
    SUITE_CASE(unknown_message),
    SUITE_CASE(listing),
    SUITE_CASE(metrics),
    SUITE_CASE(installing_again),
    SUITE_CASE(newest_counts_the_archived),
};
const size_t suite_basic_count = sizeof suite_basic_cases / sizeof *suite_basic_cases;
