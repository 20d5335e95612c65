/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting, queues, enqueueing and messages, as a program with libpgqrs has them. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/support/lib_rig.h"

static void assert_says(const struct lib_rig *rig, const char *part)
{
    if (strstr(rig->why.text, part) == NULL) {
        fail_msg("found \"%s\", expected \"%s\" in it", rig->why.text, part);
    }
}

static int64_t now_us(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_REALTIME, &now), 0);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* ---- connecting ---- */

static void connects(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_client *c = NULL;
    lib_ok(rig, pgqrs_install(rig->client, &rig->why));
    lib_ok(rig, pgqrs_verify(rig->client, &rig->why));
    lib_fails(rig, PGQRS_E_CONFIG, pgqrs_connect("mysql://root:secret@h/d", NULL, &c, &rig->why));
    assert_null(strstr(rig->why.text, "secret"));
    assert_int_equal(rig->why.item, -1);
    lib_fails(rig, PGQRS_E_CONFIG, pgqrs_connect(NULL, NULL, &c, &rig->why));
    lib_fails(rig, PGQRS_E_UNAVAILABLE,
              pgqrs_connect("sqlite:/nowhere/at/all", NULL, &c, &rig->why));
    assert_int_equal(pgqrs_connect("sqlite:/nowhere/at/all", NULL, &c, NULL), -1);
    assert_null(c);
    pgqrs_disconnect(&c);
    pgqrs_disconnect(NULL);
    struct pgqrs_options o = rig->options;
    o.reserved[3] = 1;
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_connect(rig->dsn, &o, &c, &rig->why));
    assert_says(rig, "reserved");
    o = rig->options;
    o.busy_ms = -1;
    lib_fails(rig, PGQRS_E_CONFIG, pgqrs_connect(rig->dsn, &o, &c, &rig->why));
    assert_string_equal(pgqrs_version(), "0.1.0");
    assert_string_equal(pgqrs_code_name(PGQRS_E_RATE_LIMITED), "rate limited");
    assert_string_equal(pgqrs_code_name((enum pgqrs_code)99), "?");
}

static void without_a_schema(void **state)
{
    struct lib_rig *rig = *state;
    const struct pgqrs_item item = pgqrs_item_of("1");
    lib_rig_sql(rig, rig->sqlite != NULL ? "DROP TABLE pgqrs_messages"
                                         : "DROP TABLE pgqrs_messages CASCADE");
    struct pgqrs_client *c = lib_rig_connect(rig, NULL);
    lib_fails(rig, PGQRS_E_SCHEMA, pgqrs_verify(c, &rig->why));
    assert_int_equal(pgqrs_enqueue(c, "q", &item, NULL, &rig->why), -1);
    pgqrs_disconnect(&c);
}

static void a_client_that_is_gone(void **state)
{
    struct lib_rig *rig = *state;
    const struct pgqrs_item item = pgqrs_item_of("1");
    struct pgqrs_batch *batch = NULL;
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, NULL);
    pgqrs_disconnect(&rig->client);
    assert_null(rig->client);
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_dequeue(consumer, 1, 0, &batch, &rig->why));
    assert_says(rig, "disconnected");
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_consumer_heartbeat(consumer, &rig->why));
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_consumer_shutdown(&consumer, &rig->why));
    pgqrs_consumer_free(&consumer);
    assert_null(consumer);
    pgqrs_consumer_free(&consumer);
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_enqueue(NULL, "q", &item, NULL, &rig->why));
}

/* ---- queues ---- */

static void queues(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_queue_page *page = NULL;
    int64_t id = 0;
    int64_t found = 0;
    lib_ok(rig, pgqrs_queue_create(rig->client, "second", &id, &rig->why));
    lib_ok(rig, pgqrs_queue_find(rig->client, "second", &found, &rig->why));
    assert_int_equal(id, found);
    lib_fails(rig, PGQRS_E_EXISTS, pgqrs_queue_create(rig->client, "second", NULL, &rig->why));
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_queue_create(rig->client, "", NULL, &rig->why));
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_queue_create(rig->client, NULL, NULL, &rig->why));
    lib_fails(rig, PGQRS_E_NOT_FOUND, pgqrs_queue_find(rig->client, "third", &id, &rig->why));
    lib_ok(rig, pgqrs_queue_pause(rig->client, "second", &rig->why));
    lib_ok(rig, pgqrs_queue_list(rig->client, 0, &page, &rig->why));
    assert_int_equal(page->count, 2);
    assert_int_equal(page->next, 0);
    assert_string_equal(page->items[0].name, "q");
    assert_int_equal(page->items[0].paused_at_us, 0);
    assert_string_equal(page->items[1].name, "second");
    assert_int_equal(page->items[1].id, found);
    assert_true(page->items[1].paused_at_us > 0);
    pgqrs_queue_page_free(page);
    pgqrs_queue_page_free(NULL);
    lib_ok(rig, pgqrs_queue_delete(rig->client, "second", &rig->why));
    lib_fails(rig, PGQRS_E_NOT_FOUND, pgqrs_queue_delete(rig->client, "second", &rig->why));
}

static void a_paused_queue(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_batch *batch = NULL;
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, NULL);
    int64_t id = lib_rig_add(rig, "1");
    lib_ok(rig, pgqrs_queue_pause(rig->client, "q", &rig->why));
    lib_ok(rig, pgqrs_queue_pause(rig->client, "q", &rig->why));
    lib_is(rig, 0, pgqrs_dequeue(consumer, 10, 0, &batch, &rig->why));
    assert_null(batch);
    lib_ok(rig, pgqrs_queue_resume(rig->client, "q", &rig->why));
    batch = lib_rig_take(rig, consumer);
    assert_int_equal(batch->items[0].id, id);
    pgqrs_batch_free(batch);
    lib_rig_end(rig, consumer);
}

static void counts_and_purging(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_counts n = {0};
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, NULL);
    struct pgqrs_item item = pgqrs_item_of("{\"a\": 1}");
    for (int i = 0; i < 4; i++) {
        (void)lib_rig_add(rig, "1");
    }
    item.delay_ms = 3600000;
    lib_is(rig, 1, pgqrs_enqueue(rig->client, "q", &item, NULL, &rig->why));
    struct pgqrs_batch *done = lib_rig_take(rig, consumer);
    lib_ok(rig, pgqrs_delivery_fail(consumer, done->items, "no", &rig->why));
    struct pgqrs_batch *held = lib_rig_take(rig, consumer);
    lib_ok(rig, pgqrs_queue_metrics(rig->client, "q", 0, &n, &rig->why));
    assert_int_equal(n.total, 5);
    assert_int_equal(n.pending, 3);
    assert_int_equal(n.ready, 2);
    assert_int_equal(n.leased, 1);
    assert_int_equal(n.archived, 1);
    assert_int_equal(n.failed, 1);
    assert_true(n.next_due_us > n.now_us && n.oldest_pending_us <= n.now_us);
    lib_fails(rig, PGQRS_E_CONFLICT, pgqrs_queue_delete(rig->client, "q", &rig->why));
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_queue_purge(rig->client, "q", 8, &rig->why));
    lib_is(rig, 3, pgqrs_queue_purge(rig->client, "q", PGQRS_DROP_PENDING, &rig->why));
    lib_is(rig, 1, pgqrs_queue_purge(rig->client, "q", PGQRS_DROP_ARCHIVED, &rig->why));
    lib_is(rig, 1, pgqrs_queue_purge(rig->client, "q", PGQRS_DROP_ALL, &rig->why));
    lib_fails(rig, PGQRS_E_LOST, pgqrs_delivery_ack(consumer, held->items, NULL, &rig->why));
    lib_ok(rig, pgqrs_queue_metrics(rig->client, NULL, 100, &n, &rig->why));
    assert_int_equal(n.total, 0);
    pgqrs_batch_free(done);
    pgqrs_batch_free(held);
    lib_rig_end(rig, consumer);
    lib_ok(rig, pgqrs_queue_delete(rig->client, "q", &rig->why));
}

/* ---- enqueueing ---- */

static void a_message(void **state)
{
    struct lib_rig *rig = *state;
    int64_t producer = 0;
    struct pgqrs_item item = pgqrs_item_of(" { \"a\" : [1, \"\\u00e9\"] } ");
    struct pgqrs_receipt receipt = {0};
    lib_ok(rig, pgqrs_producer_register(rig->client, "shop", "q", 0, &producer, &rig->why));
    item.priority = -7;
    item.unique_key = "order-1";
    item.producer_id = producer;
    item.delay_ms = 60000;
    int64_t before = now_us();
    lib_is(rig, 1, pgqrs_enqueue(rig->client, "q", &item, &receipt, &rig->why));
    assert_false(receipt.existed);
    struct pgqrs_message_page *page = lib_rig_get(rig, receipt.id);
    const struct pgqrs_message_entry *m = page->items;
    lib_rig_json_equal(m->payload, "{\"a\":[1,\"\\u00e9\"]}");
    assert_int_equal(m->status, PGQRS_MESSAGE_DELAYED);
    assert_int_equal(m->priority, -7);
    assert_int_equal(m->attempts, 0);
    assert_int_equal(m->producer_id, producer);
    assert_string_equal(m->unique_key, "order-1");
    assert_null(m->outcome);
    assert_null(m->error);
    assert_null(m->result);
    assert_true(m->due_at_us >= before + 59000000 && m->due_at_us <= now_us() + 61000000);
    pgqrs_message_page_free(page);
    lib_fails(rig, PGQRS_E_EXISTS,
              pgqrs_producer_register(rig->client, "shop", "q", 0, &producer, &rig->why));
    lib_ok(rig, pgqrs_worker_stop(rig->client, producer, &rig->why));
    lib_ok(rig, pgqrs_producer_register(rig->client, "shop", NULL, 0, &producer, &rig->why));
    item.unique_key = NULL;
    item.producer_id = producer + 1000;
    assert_int_equal(pgqrs_enqueue(rig->client, "q", &item, NULL, &rig->why), -1);
    assert_true(rig->why.code == PGQRS_E_NOT_FOUND || rig->why.code == PGQRS_E_CONFLICT);
}

static void unique_keys(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_item items[3] = {pgqrs_item_of("1"), pgqrs_item_of("2"), pgqrs_item_of("3")};
    struct pgqrs_receipt r[3];
    struct pgqrs_receipt again;
    items[0].unique_key = items[2].unique_key = "k";
    lib_is(rig, 2, pgqrs_enqueue_batch(rig->client, "q", items, 3, r, &rig->why));
    assert_false(r[0].existed);
    assert_false(r[1].existed);
    assert_true(r[2].existed);
    assert_int_equal(r[2].id, r[0].id);
    assert_true(r[1].id > r[0].id);
    lib_is(rig, 0, pgqrs_enqueue(rig->client, "q", items, &again, &rig->why));
    assert_true(again.existed);
    assert_int_equal(again.id, r[0].id);
    lib_ok(rig, pgqrs_message_cancel(rig->client, r[0].id, &rig->why));
    lib_is(rig, 1, pgqrs_enqueue(rig->client, "q", items, &again, &rig->why));
    assert_false(again.existed);
    lib_fails(rig, PGQRS_E_EXISTS, pgqrs_message_replay(rig->client, r[0].id, &rig->why));
    assert_says(rig, "unique key");
}

static void payloads_are_checked_first(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_item items[3] = {pgqrs_item_of("1"), pgqrs_item_of("{\"__proto__\":1}"),
                                  pgqrs_item_of("3")};
    struct pgqrs_counts n = {0};
    lib_fails(rig, PGQRS_E_INVALID,
              pgqrs_enqueue_batch(rig->client, "q", items, 3, NULL, &rig->why));
    assert_int_equal(rig->why.item, 1);
    assert_says(rig, "item 2: payload: forbidden_keys");
    items[1] = pgqrs_item_of("{");
    lib_fails(rig, PGQRS_E_INVALID,
              pgqrs_enqueue_batch(rig->client, "q", items, 3, NULL, &rig->why));
    items[1] = (struct pgqrs_item){0};
    lib_fails(rig, PGQRS_E_INVALID,
              pgqrs_enqueue_batch(rig->client, "q", items, 3, NULL, &rig->why));
    items[1] = pgqrs_item_of("2");
    items[1].delay_ms = -1;
    lib_fails(rig, PGQRS_E_INVALID,
              pgqrs_enqueue_batch(rig->client, "q", items, 3, NULL, &rig->why));
    assert_int_equal(rig->why.item, 1);
    items[1] = pgqrs_item_of("2");
    items[2].reserved[0] = 5;
    lib_fails(rig, PGQRS_E_INVALID,
              pgqrs_enqueue_batch(rig->client, "q", items, 3, NULL, &rig->why));
    assert_int_equal(rig->why.item, 2);
    lib_fails(rig, PGQRS_E_INVALID,
              pgqrs_enqueue_batch(rig->client, "q", items, 10001, NULL, &rig->why));
    lib_fails(rig, PGQRS_E_NOT_FOUND, pgqrs_enqueue(rig->client, "?", items, NULL, &rig->why));
    lib_is(rig, 0, pgqrs_enqueue_batch(rig->client, "q", NULL, 0, NULL, &rig->why));
    lib_ok(rig, pgqrs_queue_metrics(rig->client, "q", 0, &n, &rig->why));
    assert_int_equal(n.total, 0);
}

static void rules_of_a_client(void **state)
{
    struct lib_rig *rig = *state;
    char key[] = "type";
    const char *required[] = {key, NULL};
    static const char *const none[] = {NULL};
    const struct pgqrs_rules rules = {.max_string_length = -1,
                                      .max_object_depth = 1,
                                      .forbidden_keys = none,
                                      .required_keys = required};
    struct pgqrs_options o = rig->options;
    o.rules = &rules;
    struct pgqrs_client *c = lib_rig_connect(rig, &o);
    key[0] = '?'; /* the client has its own */
    required[0] = NULL;
    struct pgqrs_item item = pgqrs_item_of("{\"type\":1,\"__proto__\":2}");
    lib_is(rig, 1, pgqrs_enqueue(c, "q", &item, NULL, &rig->why));
    item = pgqrs_item_of("{\"typ\":1}");
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_enqueue(c, "q", &item, NULL, &rig->why));
    assert_says(rig, "required_keys: found no \"type\"");
    item = pgqrs_item_of("[[1]]");
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_enqueue(c, "q", &item, NULL, &rig->why));
    assert_says(rig, "max_object_depth");
    pgqrs_disconnect(&c);
    const struct pgqrs_rules wrong = {.max_payload_size_bytes = 1048577};
    o.rules = &wrong;
    lib_fails(rig, PGQRS_E_CONFIG, pgqrs_connect(rig->dsn, &o, &c, &rig->why));
    assert_says(rig, "max_payload_size_bytes");
}

static void the_rate(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_item items[20];
    struct pgqrs_rate rate;
    struct pgqrs_options o = rig->options;
    for (size_t i = 0; i < 20; i++) {
        items[i] = pgqrs_item_of("1");
    }
    o.rate_per_second = 1;
    o.rate_burst = 10;
    struct pgqrs_client *c = lib_rig_connect(rig, &o);
    /* What is not stored costs nothing. */
    lib_fails(rig, PGQRS_E_NOT_FOUND, pgqrs_enqueue_batch(c, "?", items, 10, NULL, &rig->why));
    pgqrs_rate_status(c, &rate);
    assert_int_equal(rate.available, 10);
    assert_int_equal(rate.utilisation, 0);
    lib_is(rig, 20, pgqrs_enqueue_batch(c, "q", items, 20, NULL, &rig->why));
    pgqrs_rate_status(c, &rate);
    assert_in_range(-rate.available, 1, 10);
    assert_int_equal(rate.utilisation, 100);
    assert_int_equal(rate.per_second, 1);
    lib_fails(rig, PGQRS_E_RATE_LIMITED, pgqrs_enqueue(c, "q", items, NULL, &rig->why));
    assert_in_range(rig->why.retry_after_ms, 1, 11000);
    pgqrs_disconnect(&c);
    pgqrs_rate_status(rig->client, &rate);
    assert_int_equal(rate.per_second, 0);
    /* One that waits: 60 at 1000 a second with 10 at once. */
    o.rate_per_second = 1000;
    o.rate_wait_ms = -1;
    c = lib_rig_connect(rig, &o);
    int64_t start = now_us();
    for (int i = 0; i < 3; i++) {
        lib_is(rig, 20, pgqrs_enqueue_batch(c, "q", items, 20, NULL, &rig->why));
    }
    assert_true(now_us() - start >= 40000 - 1000);
    pgqrs_disconnect(&c);
}

/* The name leads to the queue that has it now. */
static void a_queue_made_anew(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_client *other = lib_rig_connect(rig, NULL);
    (void)lib_rig_add(rig, "1");
    lib_is(rig, 1, pgqrs_queue_purge(other, "q", PGQRS_DROP_ALL, &rig->why));
    lib_ok(rig, pgqrs_queue_delete(other, "q", &rig->why));
    const struct pgqrs_item item = pgqrs_item_of("1");
    lib_fails(rig, PGQRS_E_NOT_FOUND, pgqrs_enqueue(rig->client, "q", &item, NULL, &rig->why));
    int64_t id = 0;
    lib_ok(rig, pgqrs_queue_create(other, "q", &id, &rig->why));
    struct pgqrs_message_page *page = lib_rig_get(rig, lib_rig_add(rig, "2"));
    assert_int_equal(page->items[0].queue_id, id);
    pgqrs_message_page_free(page);
    pgqrs_disconnect(&other);
}

/* ---- messages ---- */

static void lists(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_message_query query = {.queue = "q", .limit = 2};
    struct pgqrs_message_page *page = NULL;
    int64_t ids[5];
    for (int i = 0; i < 5; i++) {
        ids[i] = lib_rig_add(rig, "1");
    }
    int seen = 0;
    do {
        lib_ok(rig, pgqrs_message_list(rig->client, &query, &page, &rig->why));
        for (size_t i = 0; i < page->count; i++) {
            assert_int_equal(page->items[i].id, ids[4 - seen++]);
        }
        query.next = page->next;
        pgqrs_message_page_free(page);
    } while (query.next != 0);
    assert_int_equal(seen, 5);
    lib_ok(rig, pgqrs_message_list(rig->client, NULL, &page, &rig->why));
    assert_int_equal(page->count, 5);
    pgqrs_message_page_free(page);
    query = (struct pgqrs_message_query){.status = PGQRS_MESSAGE_LEASED};
    lib_ok(rig, pgqrs_message_list(rig->client, &query, &page, &rig->why));
    assert_int_equal(page->count, 0);
    pgqrs_message_page_free(page);
    query.status = (enum pgqrs_message_status)17;
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_message_list(rig->client, &query, &page, &rig->why));
    query = (struct pgqrs_message_query){.limit = 1001};
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_message_list(rig->client, &query, &page, &rig->why));
    lib_fails(rig, PGQRS_E_NOT_FOUND, pgqrs_message_get(rig->client, 12345, &page, &rig->why));
}

static void acting_on_messages(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, NULL);
    int64_t leased = lib_rig_add(rig, "1");
    int64_t waiting = lib_rig_add(rig, "2");
    lib_take(rig, consumer, leased);
    const int64_t ids[] = {leased, waiting, 99999};
    enum pgqrs_code codes[3];
    lib_is(rig, 1, pgqrs_message_act(rig->client, PGQRS_ACTION_CANCEL, ids, 3, codes, &rig->why));
    assert_int_equal(codes[0], PGQRS_E_CONFLICT);
    assert_int_equal(codes[1], PGQRS_OK);
    assert_int_equal(codes[2], PGQRS_E_NOT_FOUND);
    lib_fails(rig, PGQRS_E_CONFLICT, pgqrs_message_cancel(rig->client, waiting, &rig->why));
    assert_says(rig, "has ended");
    lib_fails(rig, PGQRS_E_CONFLICT, pgqrs_message_delete(rig->client, leased, &rig->why));
    assert_says(rig, "is leased");
    lib_fails(rig, PGQRS_E_NOT_FOUND, pgqrs_message_delete(rig->client, 99999, &rig->why));
    lib_ok(rig, pgqrs_message_replay(rig->client, waiting, &rig->why));
    lib_fails(rig, PGQRS_E_CONFLICT, pgqrs_message_replay(rig->client, waiting, &rig->why));
    lib_ok(rig, pgqrs_message_delete(rig->client, waiting, &rig->why));
    lib_is(rig, 1, pgqrs_message_act(rig->client, PGQRS_ACTION_FREE, ids, 1, NULL, &rig->why));
    lib_fails(rig, PGQRS_E_INVALID,
              pgqrs_message_act(rig->client, (enum pgqrs_action)9, ids, 1, NULL, &rig->why));
    lib_fails(rig, PGQRS_E_LOST, pgqrs_delivery_ack(consumer, batch->items, NULL, &rig->why));
    pgqrs_batch_free(batch);
    lib_rig_end(rig, consumer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LIB_CASE(connects),
        LIB_CASE(without_a_schema),
        LIB_CASE(a_client_that_is_gone),
        LIB_CASE(queues),
        LIB_CASE(a_paused_queue),
        LIB_CASE(counts_and_purging),
        LIB_CASE(a_message),
        LIB_CASE(unique_keys),
        LIB_CASE(payloads_are_checked_first),
        LIB_CASE(rules_of_a_client),
        LIB_CASE(the_rate),
        LIB_CASE(a_queue_made_anew),
        LIB_CASE(lists),
        LIB_CASE(acting_on_messages),
    };
    return LIB_RIG_RUN(tests);
}
