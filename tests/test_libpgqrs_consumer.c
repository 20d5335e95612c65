/* SPDX-License-Identifier: Apache-2.0 */
/* A consumer in its own process: what it gets, what it says, and what it is told. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/support/lib_rig.h"

static void assert_outcome(struct lib_rig *rig, int64_t id, const char *outcome, const char *error,
                           const char *result)
{
    struct pgqrs_message_page *page = lib_rig_get(rig, id);
    const struct pgqrs_message_entry *m = page->items;
    assert_int_equal(m->status, PGQRS_MESSAGE_ARCHIVED);
    assert_string_equal(m->outcome, outcome);
    const char *const pairs[][2] = {{m->error, error}, {m->result, result}};
    for (size_t i = 0; i < 2; i++) {
        if (pairs[i][1] == NULL) {
            assert_null(pairs[i][0]);
        } else {
            assert_non_null(pairs[i][0]);
            assert_string_equal(pairs[i][0], pairs[i][1]);
        }
    }
    pgqrs_message_page_free(page);
}

static void assert_waits(struct lib_rig *rig, int64_t id, enum pgqrs_message_status status,
                         uint32_t attempts)
{
    struct pgqrs_message_page *page = lib_rig_get(rig, id);
    assert_int_equal(page->items[0].status, status);
    assert_int_equal(page->items[0].attempts, attempts);
    pgqrs_message_page_free(page);
}

/* ---- what is got ---- */

static void in_order(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_batch *batch = NULL;
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, NULL);
    struct pgqrs_item item = pgqrs_item_of("{\"n\": 3}");
    struct pgqrs_receipt urgent;
    int64_t first = lib_rig_add(rig, "1");
    int64_t second = lib_rig_add(rig, "2");
    item.priority = 5;
    lib_is(rig, 1, pgqrs_enqueue(rig->client, "q", &item, &urgent, &rig->why));
    item.delay_ms = 3600000;
    lib_is(rig, 1, pgqrs_enqueue(rig->client, "q", &item, NULL, &rig->why));
    lib_is(rig, 2, pgqrs_dequeue(consumer, 2, 0, &batch, &rig->why));
    const struct pgqrs_delivery *d = batch->items;
    assert_int_equal(d[0].id, urgent.id);
    assert_int_equal(d[0].priority, 5);
    assert_int_equal(d[0].attempt, 1);
    assert_int_equal(d[0].max_attempts, 5);
    lib_rig_json_equal(d[0].payload, "{\"n\":3}");
    assert_int_equal(d[0].payload_len, strlen(d[0].payload));
    assert_true(d[0].enqueued_at_us > 0);
    assert_int_equal(d[1].id, first);
    struct pgqrs_message_page *page = lib_rig_get(rig, first);
    assert_int_equal(page->items[0].consumer_id, pgqrs_consumer_id(consumer));
    pgqrs_message_page_free(page);
    pgqrs_batch_free(batch);
    lib_is(rig, 1, pgqrs_dequeue(consumer, 1000, 0, &batch, &rig->why));
    assert_int_equal(batch->items[0].id, second);
    pgqrs_batch_free(batch);
    lib_is(rig, 0, pgqrs_dequeue(consumer, 1, 0, &batch, &rig->why));
    assert_null(batch);
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_dequeue(consumer, 0, 0, &batch, &rig->why));
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_dequeue(consumer, 1001, 0, &batch, &rig->why));
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_dequeue(consumer, 1, -2, &batch, &rig->why));
    /* Shutting down gives back what it holds, untouched. */
    lib_is(rig, 3, pgqrs_consumer_shutdown(&consumer, &rig->why));
    assert_null(consumer);
    assert_waits(rig, first, PGQRS_MESSAGE_READY, 0);
}

/* ---- what is said ---- */

static void done(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, NULL);
    int64_t id = lib_rig_add(rig, "1");
    lib_take(rig, consumer, id);
    lib_fails(rig, PGQRS_E_INVALID,
              pgqrs_delivery_ack(consumer, batch->items, "{not json", &rig->why));
    lib_is(rig, 0, pgqrs_delivery_ack(consumer, batch->items, "{ \"r\": 2 }", &rig->why));
    assert_outcome(rig, id, "done", NULL, "{\"r\":2}");
    /* A repetition is the same. */
    lib_is(rig, 0, pgqrs_delivery_ack(consumer, batch->items, "{\"r\":2}", &rig->why));
    lib_fails(rig, PGQRS_E_LOST, pgqrs_delivery_extend(consumer, batch->items, 0, &rig->why));
    pgqrs_batch_free(batch);
    lib_rig_end(rig, consumer);
}

static void done_and_deleted(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_message_page *page = NULL;
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, NULL);
    int64_t id = lib_rig_add(rig, "1");
    lib_take(rig, consumer, id);
    lib_is(rig, 0, pgqrs_delivery_delete(consumer, batch->items, &rig->why));
    lib_fails(rig, PGQRS_E_NOT_FOUND, pgqrs_message_get(rig->client, id, &page, &rig->why));
    pgqrs_batch_free(batch);
    lib_rig_end(rig, consumer);
}

static void failed(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, NULL);
    int64_t id = lib_rig_add(rig, "1");
    lib_take(rig, consumer, id);
    /* 4095 bytes, then one character of two: it is not cut in two. */
    char *error = malloc(5000);
    assert_non_null(error);
    memset(error, 'x', 4095);
    memcpy(error + 4095, "\xc3\xa9 and more", 12);
    lib_is(rig, 0, pgqrs_delivery_fail(consumer, batch->items, error, &rig->why));
    error[4095] = 0;
    assert_outcome(rig, id, "failed", error, NULL);
    free(error);
    lib_ok(rig, pgqrs_message_replay(rig->client, id, &rig->why));
    assert_waits(rig, id, PGQRS_MESSAGE_READY, 0);
    pgqrs_batch_free(batch);
    lib_rig_end(rig, consumer);
}

static void retried_until_the_last(void **state)
{
    struct lib_rig *rig = *state;
    const struct pgqrs_consumer_options o = {.max_attempts = 2};
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, &o);
    int64_t id = lib_rig_add(rig, "1");
    for (uint32_t attempt = 1; attempt <= 2; attempt++) {
        lib_take(rig, consumer, id);
        assert_int_equal(batch->items[0].attempt, attempt);
        lib_fails(rig, PGQRS_E_INVALID,
                  pgqrs_delivery_retry(consumer, batch->items, -1, NULL, &rig->why));
        lib_is(rig, attempt - 1,
               pgqrs_delivery_retry(consumer, batch->items, 0, "no luck", &rig->why));
        pgqrs_batch_free(batch);
    }
    assert_outcome(rig, id, "failed", "no luck", NULL);
    id = lib_rig_add(rig, "2");
    lib_take(rig, consumer, id);
    lib_is(rig, 0, pgqrs_delivery_retry(consumer, batch->items, 3600000, NULL, &rig->why));
    assert_waits(rig, id, PGQRS_MESSAGE_DELAYED, 1);
    pgqrs_batch_free(batch);
    lib_rig_end(rig, consumer);
}

static void given_back(void **state)
{
    struct lib_rig *rig = *state;
    const struct pgqrs_consumer_options o = {.max_attempts = 2};
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, &o);
    int64_t id = lib_rig_add(rig, "1");
    lib_take(rig, consumer, id);
    lib_is(rig, 0, pgqrs_delivery_release(consumer, batch->items, &rig->why));
    assert_waits(rig, id, PGQRS_MESSAGE_READY, 0);
    pgqrs_batch_free(batch);
    static const enum pgqrs_verdict_told told[] = {PGQRS_TOLD_DONE, PGQRS_TOLD_DEAD};
    for (uint32_t i = 0; i < 2; i++) {
        batch = lib_rig_take(rig, consumer);
        struct pgqrs_verdict v = {
            .id = id, .attempt = batch->items[0].attempt, .how = PGQRS_VERDICT_SPEND};
        assert_int_equal(v.attempt, i + 1);
        lib_is(rig, 0, pgqrs_settle(consumer, &v, 1, &rig->why));
        assert_int_equal(v.told_out, told[i]);
        pgqrs_batch_free(batch);
    }
    assert_outcome(rig, id, "failed", "its attempts are used up", NULL);
    lib_rig_end(rig, consumer);
}

static void many_at_once(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_batch *batch = NULL;
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, NULL);
    struct pgqrs_verdict v[5] = {0};
    bool held[5];
    int64_t ids[5];
    for (int i = 0; i < 5; i++) {
        ids[i] = lib_rig_add(rig, "1");
    }
    lib_is(rig, 5, pgqrs_dequeue(consumer, 5, 0, &batch, &rig->why));
    static const enum pgqrs_verdict_how hows[] = {PGQRS_VERDICT_ACK, PGQRS_VERDICT_FAIL,
                                                  PGQRS_VERDICT_SNOOZE, PGQRS_VERDICT_RELEASE,
                                                  PGQRS_VERDICT_DELETE};
    for (int i = 0; i < 5; i++) {
        v[i].id = ids[i];
        v[i].attempt = 1;
        v[i].how = hows[i];
    }
    v[2].delay_ms = 3600000;
    lib_is(rig, 0, pgqrs_extend(consumer, batch->items, 5, 60000, held, &rig->why));
    lib_is(rig, 1, pgqrs_message_act(rig->client, PGQRS_ACTION_FREE, &ids[3], 1, NULL, &rig->why));
    lib_is(rig, 1, pgqrs_extend(consumer, batch->items, 5, 60000, held, &rig->why));
    assert_true(held[0] && held[1] && held[2] && !held[3] && held[4]);
    v[1].how = (enum pgqrs_verdict_how)77;
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_settle(consumer, v, 5, &rig->why));
    assert_int_equal(rig->why.item, 1);
    v[1].how = PGQRS_VERDICT_FAIL;
    lib_is(rig, 1, pgqrs_settle(consumer, v, 5, &rig->why));
    static const enum pgqrs_verdict_told told[] = {
        PGQRS_TOLD_DONE, PGQRS_TOLD_DEAD, PGQRS_TOLD_DONE, PGQRS_TOLD_LOST, PGQRS_TOLD_DONE};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(v[i].told_out, told[i]);
    }
    assert_outcome(rig, ids[0], "done", NULL, NULL);
    assert_waits(rig, ids[2], PGQRS_MESSAGE_DELAYED, 0);
    assert_waits(rig, ids[3], PGQRS_MESSAGE_READY, 1);
    lib_is(rig, 0, pgqrs_settle(consumer, NULL, 0, &rig->why));
    pgqrs_batch_free(batch);
    lib_rig_end(rig, consumer);
}

static void jobs_that_follow(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_counts n;
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, NULL);
    struct pgqrs_follow next[2] = {{.queue = "after", .item = pgqrs_item_of(" [1] ")},
                                   {.queue = "after", .item = pgqrs_item_of("2")}};
    lib_ok(rig, pgqrs_queue_create(rig->client, "after", NULL, &rig->why));
    int64_t id = lib_rig_add(rig, "1");
    lib_take(rig, consumer, id);
    struct pgqrs_verdict v = {
        .id = id, .attempt = 1, .how = PGQRS_VERDICT_ACK, .next = next, .next_count = 2};
    next[1].item = pgqrs_item_of("{");
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_settle(consumer, &v, 1, &rig->why));
    next[1].item = pgqrs_item_of("2");
    next[1].item.unique_key = "k";
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_settle(consumer, &v, 1, &rig->why));
    next[1].item.unique_key = NULL;
    lib_is(rig, 0, pgqrs_settle(consumer, &v, 1, &rig->why));
    lib_ok(rig, pgqrs_queue_metrics(rig->client, "after", 0, &n, &rig->why));
    assert_int_equal(n.total, 2);
    lib_is(rig, 0, pgqrs_settle(consumer, &v, 1, &rig->why));
    lib_ok(rig, pgqrs_queue_metrics(rig->client, "after", 0, &n, &rig->why));
    assert_int_equal(n.total, 2);
    pgqrs_batch_free(batch);
    lib_rig_end(rig, consumer);
}

/* ---- what is told ---- */

static void lost(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, NULL);
    struct pgqrs_consumer *other = lib_rig_consumer(rig, NULL);
    int64_t id = lib_rig_add(rig, "1");
    lib_take(rig, consumer, id);
    lib_is(rig, 1, pgqrs_message_act(rig->client, PGQRS_ACTION_FREE, &id, 1, NULL, &rig->why));
    struct pgqrs_batch *theirs = lib_rig_take(rig, other);
    assert_int_equal(theirs->items[0].attempt, 2);
    const struct pgqrs_delivery *d = batch->items;
    lib_fails(rig, PGQRS_E_LOST, pgqrs_delivery_ack(consumer, d, NULL, &rig->why));
    lib_fails(rig, PGQRS_E_LOST, pgqrs_delivery_delete(consumer, d, &rig->why));
    lib_fails(rig, PGQRS_E_LOST, pgqrs_delivery_retry(consumer, d, 0, "x", &rig->why));
    lib_fails(rig, PGQRS_E_LOST, pgqrs_delivery_fail(consumer, d, "x", &rig->why));
    lib_fails(rig, PGQRS_E_LOST, pgqrs_delivery_release(consumer, d, &rig->why));
    lib_fails(rig, PGQRS_E_LOST, pgqrs_delivery_extend(consumer, d, 0, &rig->why));
    /* Nor may it act for the other. */
    lib_fails(rig, PGQRS_E_LOST, pgqrs_delivery_ack(consumer, theirs->items, NULL, &rig->why));
    lib_ok(rig, pgqrs_delivery_ack(other, theirs->items, NULL, &rig->why));
    pgqrs_batch_free(batch);
    pgqrs_batch_free(theirs);
    lib_rig_end(rig, consumer);
    lib_rig_end(rig, other);
}

static void suspended(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_batch *none = NULL;
    struct pgqrs_worker_page *page = NULL;
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, NULL);
    const int64_t worker = pgqrs_consumer_id(consumer);
    int64_t id = lib_rig_add(rig, "1");
    (void)lib_rig_add(rig, "2");
    lib_take(rig, consumer, id);
    lib_fails(rig, PGQRS_E_CONFLICT, pgqrs_consumer_resume(consumer, &rig->why));
    lib_ok(rig, pgqrs_worker_suspend(rig->client, worker, &rig->why));
    lib_fails(rig, PGQRS_E_SUSPENDED, pgqrs_dequeue(consumer, 1, 0, &none, &rig->why));
    lib_fails(rig, PGQRS_E_SUSPENDED, pgqrs_dequeue(consumer, 1, 60000, &none, &rig->why));
    /* It may finish what it holds. */
    lib_ok(rig, pgqrs_delivery_ack(consumer, batch->items, NULL, &rig->why));
    pgqrs_batch_free(batch);
    lib_ok(rig, pgqrs_consumer_resume(consumer, &rig->why));
    pgqrs_batch_free(lib_rig_take(rig, consumer));
    lib_ok(rig, pgqrs_worker_interrupt(rig->client, worker, &rig->why));
    lib_fails(rig, PGQRS_E_SUSPENDED, pgqrs_dequeue(consumer, 1, 60000, &none, &rig->why));
    const struct pgqrs_worker_query query = {.id = worker};
    lib_ok(rig, pgqrs_worker_list(rig->client, &query, &page, &rig->why));
    assert_int_equal(page->count, 1);
    assert_int_equal(page->items[0].status, PGQRS_STATUS_SUSPENDED);
    assert_int_equal(page->items[0].held, 1);
    assert_true(page->now_us >= page->items[0].heartbeat_at_us);
    pgqrs_worker_page_free(page);
    lib_is(rig, 1, pgqrs_consumer_shutdown(&consumer, &rig->why));
}

static void stopped_by_others(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_batch *none = NULL;
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, NULL);
    int64_t worker = pgqrs_consumer_id(consumer);
    int64_t id = lib_rig_add(rig, "1");
    lib_take(rig, consumer, id);
    lib_ok(rig, pgqrs_worker_stop(rig->client, worker, &rig->why));
    assert_waits(rig, id, PGQRS_MESSAGE_READY, 1);
    lib_fails(rig, PGQRS_E_LOST, pgqrs_delivery_ack(consumer, batch->items, NULL, &rig->why));
    lib_fails(rig, PGQRS_E_STOPPED, pgqrs_dequeue(consumer, 1, 60000, &none, &rig->why));
    lib_ok(rig, pgqrs_worker_delete(rig->client, worker, &rig->why));
    lib_fails(rig, PGQRS_E_STOPPED, pgqrs_dequeue(consumer, 1, 0, &none, &rig->why));
    lib_fails(rig, PGQRS_E_STOPPED, pgqrs_consumer_heartbeat(consumer, &rig->why));
    lib_fails(rig, PGQRS_E_NOT_FOUND, pgqrs_worker_suspend(rig->client, worker, &rig->why));
    pgqrs_batch_free(batch);
    lib_is(rig, 0, pgqrs_consumer_shutdown(&consumer, &rig->why));
}

static void names(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_batch *none = NULL;
    struct pgqrs_consumer_options o = {.queue = "q", .name = "mailer"};
    struct pgqrs_consumer *second = NULL;
    struct pgqrs_consumer *first = lib_rig_consumer(rig, &o);
    lib_fails(rig, PGQRS_E_EXISTS, pgqrs_consumer_register(rig->client, &o, &second, &rig->why));
    o.stale_ms = 3600000;
    lib_fails(rig, PGQRS_E_EXISTS, pgqrs_consumer_register(rig->client, &o, &second, &rig->why));
    int64_t id = lib_rig_add(rig, "1");
    lib_take(rig, first, id);
    lib_rig_sql(rig, rig->sqlite != NULL
                         ? "UPDATE pgqrs_workers SET heartbeat_at = '2020-01-01 00:00:00.000000', "
                           "started_at = '2020-01-01 00:00:00.000000'"
                         : "UPDATE pgqrs_workers SET heartbeat_at = '2020-01-01', started_at = "
                           "'2020-01-01'");
    lib_ok(rig, pgqrs_consumer_register(rig->client, &o, &second, &rig->why));
    assert_int_equal(pgqrs_consumer_id(second), pgqrs_consumer_id(first));
    assert_waits(rig, id, PGQRS_MESSAGE_READY, 1);
    struct pgqrs_batch *theirs = lib_rig_take(rig, second);
    lib_fails(rig, PGQRS_E_LOST, pgqrs_delivery_ack(first, batch->items, NULL, &rig->why));
    lib_fails(rig, PGQRS_E_STOPPED, pgqrs_dequeue(first, 1, 0, &none, &rig->why));
    /* The first one's end is not the second's. */
    lib_is(rig, 0, pgqrs_consumer_shutdown(&first, &rig->why));
    lib_ok(rig, pgqrs_delivery_ack(second, theirs->items, NULL, &rig->why));
    pgqrs_batch_free(batch);
    pgqrs_batch_free(theirs);
    lib_rig_end(rig, second);
    /* A stopped one's name is free. */
    o.stale_ms = 0;
    lib_ok(rig, pgqrs_consumer_register(rig->client, &o, &second, &rig->why));
    lib_rig_end(rig, second);
}

static void recovers(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, NULL);
    int64_t known = lib_rig_add(rig, "1");
    int64_t lost_id = lib_rig_add(rig, "2");
    lib_take(rig, consumer, known);
    pgqrs_batch_free(lib_rig_take(rig, consumer)); /* as if its reply had not come */
    lib_is(rig, 1, pgqrs_consumer_recover(consumer, batch->items, 1, &rig->why));
    assert_waits(rig, lost_id, PGQRS_MESSAGE_READY, 0);
    lib_ok(rig, pgqrs_delivery_ack(consumer, batch->items, NULL, &rig->why));
    pgqrs_batch_free(batch);
    lib_rig_end(rig, consumer);
}

static void housekeeping(void **state)
{
    struct lib_rig *rig = *state;
    const struct pgqrs_consumer_options o = {.lease_ms = 1, .max_attempts = 1};
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, &o);
    int64_t id = lib_rig_add(rig, "1");
    lib_take(rig, consumer, id);
    lib_rig_sql(rig, rig->sqlite != NULL
                         ? "UPDATE pgqrs_workers SET heartbeat_at = '2020-01-01 00:00:00.000000'"
                         : "UPDATE pgqrs_workers SET heartbeat_at = '2020-01-01'");
    lib_rig_sql(rig, rig->sqlite != NULL
                         ? "UPDATE pgqrs_messages SET vt = '2020-01-01 00:00:00.000000'"
                         : "UPDATE pgqrs_messages SET vt = '2020-01-01'");
    lib_fails(rig, PGQRS_E_INVALID, pgqrs_reclaim(rig->client, "q", 0, &rig->why));
    lib_is(rig, 0, pgqrs_reclaim(rig->client, "q", INT64_C(1000000000000), &rig->why));
    lib_is(rig, 1, pgqrs_reclaim(rig->client, NULL, 3600000, &rig->why));
    lib_fails(rig, PGQRS_E_LOST, pgqrs_delivery_ack(consumer, batch->items, NULL, &rig->why));
    assert_waits(rig, id, PGQRS_MESSAGE_READY, 1);
    lib_is(rig, 1, pgqrs_bury(rig->client, "q", 1, &rig->why));
    lib_is(rig, 0, pgqrs_prune(rig->client, "q", false, 0, &rig->why));
    lib_is(rig, 0, pgqrs_prune(rig->client, NULL, true, 3600000, &rig->why));
    lib_rig_sql(rig, rig->sqlite != NULL
                         ? "UPDATE pgqrs_messages SET archived_at = '2020-01-01 00:00:00.000000'"
                         : "UPDATE pgqrs_messages SET archived_at = '2020-01-01'");
    lib_is(rig, 1, pgqrs_prune(rig->client, NULL, true, 3600000, &rig->why));
    pgqrs_batch_free(batch);
    lib_rig_end(rig, consumer);
}

/* ---- waiting ---- */

struct adder { /* another program, as a thread with a client of its own */
    const struct lib_rig *rig;
    pthread_t thread;
    int count;
    atomic_int failed;
};

/* Waits until the consumer says in its row that it waits, then enqueues. */
static void *add_when_polling(void *arg)
{
    struct adder *a = arg;
    struct pgqrs_client *c = lib_rig_connect(a->rig, NULL);
    const struct pgqrs_worker_query query = {.status = PGQRS_STATUS_POLLING};
    const struct pgqrs_item item = pgqrs_item_of("1");
    struct pgqrs_worker_page *page = NULL;
    size_t polling = 0;
    for (int i = 0; polling == 0 && i < 2000; i++) {
        (void)usleep(5000);
        if (pgqrs_worker_list(c, &query, &page, NULL) == 0) {
            polling = page->count;
            pgqrs_worker_page_free(page);
        }
    }
    for (int i = 0; i < a->count; i++) {
        a->failed |= pgqrs_enqueue(c, "q", &item, NULL, NULL) != 1;
    }
    a->failed |= polling == 0;
    pgqrs_disconnect(&c);
    return NULL;
}

static void waits(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_batch *batch = NULL;
    struct pgqrs_worker_page *page = NULL;
    struct adder adder = {.rig = rig, .count = 1};
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, NULL);
    lib_is(rig, 0, pgqrs_dequeue(consumer, 5, 20, &batch, &rig->why));
    assert_int_equal(pthread_create(&adder.thread, NULL, add_when_polling, &adder), 0);
    lib_is(rig, 1, pgqrs_dequeue(consumer, 5, 30000, &batch, &rig->why));
    assert_int_equal(pthread_join(adder.thread, NULL), 0);
    assert_int_equal(adder.failed, 0);
    pgqrs_batch_free(batch);
    const struct pgqrs_worker_query query = {.id = pgqrs_consumer_id(consumer)};
    lib_ok(rig, pgqrs_worker_list(rig->client, &query, &page, &rig->why));
    assert_int_equal(page->items[0].status, PGQRS_STATUS_READY);
    pgqrs_worker_page_free(page);
    /* One that is due in a moment needs nobody to wake us. */
    struct pgqrs_item item = pgqrs_item_of("1");
    item.delay_ms = 300;
    lib_is(rig, 1, pgqrs_enqueue(rig->client, "q", &item, NULL, &rig->why));
    lib_is(rig, 1, pgqrs_dequeue(consumer, 5, 30000, &batch, &rig->why));
    pgqrs_batch_free(batch);
    lib_rig_end(rig, consumer);
}

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    (void)number;
    signals++;
}

static void a_signal_ends_the_wait(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_batch *batch = NULL;
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, NULL);
    const struct sigaction act = {.sa_handler = on_signal};
    const struct itimerval every = {{.tv_usec = 50000}, {.tv_usec = 50000}};
    const struct itimerval never = {{0}, {0}};
    assert_int_equal(sigaction(SIGALRM, &act, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &every, NULL), 0);
    lib_is(rig, 0, pgqrs_dequeue(consumer, 5, -1, &batch, &rig->why));
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_null(batch);
    assert_true(signals > 0);
    lib_rig_end(rig, consumer);
}

/* ---- threads ---- */

#define JOBS 300

struct worker {
    const struct lib_rig *rig;
    pthread_t thread;
    atomic_int *seen; /* by number of the job */
    atomic_int *left;
    atomic_int failed;
};

static int work(struct pgqrs_client *c, struct pgqrs_consumer *consumer, struct worker *w)
{
    while (atomic_load(w->left) > 0) {
        struct pgqrs_batch *batch = NULL;
        struct pgqrs_failure why;
        int n = pgqrs_dequeue(consumer, 7, 50, &batch, &why);
        for (int i = 0; i < n; i++) {
            const struct pgqrs_delivery *d = &batch->items[i];
            int number = atoi(d->payload);
            if (pgqrs_delivery_ack(consumer, d, NULL, &why) == 0) {
                (void)atomic_fetch_add(&w->seen[number], 1);
                (void)atomic_fetch_sub(w->left, 1);
            } else if (why.code != PGQRS_E_AGAIN) {
                return -1;
            }
        }
        pgqrs_batch_free(batch);
        if (n < 0 && why.code != PGQRS_E_AGAIN) {
            return -1;
        }
    }
    return c == NULL ? -1 : 0;
}

static void *run_worker(void *arg)
{
    struct worker *w = arg;
    struct pgqrs_client *c = lib_rig_connect(w->rig, NULL);
    const struct pgqrs_consumer_options o = {.queue = "q"};
    struct pgqrs_consumer *consumer = NULL;
    w->failed = pgqrs_consumer_register(c, &o, &consumer, NULL) < 0 || work(c, consumer, w) < 0;
    w->failed |= pgqrs_consumer_shutdown(&consumer, NULL) < 0;
    pgqrs_disconnect(&c);
    return NULL;
}

static void two_threads(void **state)
{
    struct lib_rig *rig = *state;
    static atomic_int seen[JOBS];
    atomic_int left = JOBS;
    struct worker workers[2];
    for (int i = 0; i < 2; i++) {
        workers[i] = (struct worker){.rig = rig, .seen = seen, .left = &left};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]), 0);
    }
    for (int i = 0; i < JOBS; i++) {
        char text[16];
        seen[i] = 0;
        (void)snprintf(text, sizeof text, "%d", i);
        (void)lib_rig_add(rig, text);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        assert_int_equal(workers[i].failed, 0);
    }
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(seen[i], 1);
    }
    struct pgqrs_counts n;
    lib_ok(rig, pgqrs_queue_metrics(rig->client, "q", 0, &n, &rig->why));
    assert_int_equal(n.archived, JOBS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LIB_CASE(in_order),
        LIB_CASE(done),
        LIB_CASE(done_and_deleted),
        LIB_CASE(failed),
        LIB_CASE(retried_until_the_last),
        LIB_CASE(given_back),
        LIB_CASE(many_at_once),
        LIB_CASE(jobs_that_follow),
        LIB_CASE(lost),
        LIB_CASE(suspended),
        LIB_CASE(stopped_by_others),
        LIB_CASE(names),
        LIB_CASE(recovers),
        LIB_CASE(housekeeping),
        LIB_CASE(waits),
        LIB_CASE(a_signal_ends_the_wait),
        LIB_CASE(two_threads),
    };
    return LIB_RIG_RUN(tests);
}
