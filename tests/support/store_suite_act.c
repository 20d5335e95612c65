/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_priv.h"
#include "tests/support/store_suite.h"

/* What an operator does to messages, one and many, and what it says of those it left alone. */

/* Messages in the four conditions: waiting, delayed, leased, archived (dead). */
struct four {
    int64_t waiting, delayed, leased, archived;
    struct pgqrs_lease_ref lease;
};

static struct four put_four(struct suite *f)
{
    struct four m;
    m.archived = suite_put(f, "[4]", 0, 5);
    struct pgqrs_settlement dead = suite_settlement(suite_lease_one(f), PGQRS_SETTLE_DEAD);
    dead.error = pgqrs_bytes_from("last words");
    dead.result = pgqrs_bytes_from("[1]");
    dead.crashed = true;
    assert_int_equal(suite_settle(f, dead), PGQRS_SETTLED_YES);
    m.leased = suite_put(f, "3", 0, 0);
    m.lease = suite_lease_one(f);
    m.waiting = suite_put(f, "1", 0, 0);
    m.delayed = suite_put(f, "2", 60000, 0);
    return m;
}

static void cancelling(void **state)
{
    struct suite *f = *state;
    struct four m = put_four(f);
    suite_advance_ms(f, 7);
    assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, m.waiting), PGQRS_ACTED_YES);
    assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, m.delayed), PGQRS_ACTED_YES);
    assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, m.leased), PGQRS_ACTED_ASKED);
    assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, m.archived), PGQRS_ACTED_ARCHIVED);
    assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, m.waiting), PGQRS_ACTED_ARCHIVED);
    assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, 99999), PGQRS_ACTED_NOT_FOUND);
    struct pgqrs_message row = suite_get(f, m.delayed);
    assert_int_equal(row.state, PGQRS_STATE_ARCHIVED);
    assert_string_equal(row.outcome, "cancelled");
    assert_int_equal(row.archived_at_us, f->now_us);
    assert_int_equal(row.read_ct, 0);
    assert_int_equal(row.consumer_worker_id, 0);
    pgqrs_message_fini(&row);
    row = suite_get(f, m.archived);
    assert_string_equal(row.outcome, "failed");
    pgqrs_message_fini(&row);
    assert_int_equal(suite_settle(f, suite_settlement(m.lease, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    assert_int_equal(suite_lease(f, 5), 0);
}

static void deleting(void **state)
{
    struct suite *f = *state;
    struct four m = put_four(f);
    assert_int_equal(suite_act(f, PGQRS_ACT_DELETE, m.waiting), PGQRS_ACTED_YES);
    assert_int_equal(suite_act(f, PGQRS_ACT_DELETE, m.delayed), PGQRS_ACTED_YES);
    assert_int_equal(suite_act(f, PGQRS_ACT_DELETE, m.leased), PGQRS_ACTED_LEASED);
    assert_int_equal(suite_act(f, PGQRS_ACT_DELETE, m.archived), PGQRS_ACTED_YES);
    assert_int_equal(suite_act(f, PGQRS_ACT_DELETE, m.archived), PGQRS_ACTED_NOT_FOUND);
    suite_assert_gone(f, m.waiting);
    suite_assert_gone(f, m.delayed);
    suite_assert_gone(f, m.archived);
    suite_assert_message(f, m.leased, PGQRS_STATE_LEASED, 1, "");
}

static void freeing(void **state)
{
    struct suite *f = *state;
    struct four m = put_four(f);
    suite_advance_ms(f, 7);
    assert_int_equal(suite_act(f, PGQRS_ACT_FREE, m.waiting), PGQRS_ACTED_WAITING);
    assert_int_equal(suite_act(f, PGQRS_ACT_FREE, m.delayed), PGQRS_ACTED_WAITING);
    assert_int_equal(suite_act(f, PGQRS_ACT_FREE, m.archived), PGQRS_ACTED_ARCHIVED);
    assert_int_equal(suite_act(f, PGQRS_ACT_FREE, m.leased), PGQRS_ACTED_YES);
    assert_int_equal(suite_act(f, PGQRS_ACT_FREE, 99999), PGQRS_ACTED_NOT_FOUND);
    struct pgqrs_message row = suite_get(f, m.leased);
    assert_int_equal(row.state, PGQRS_STATE_READY);
    assert_int_equal(row.vt_us, f->now_us);
    assert_int_equal(row.read_ct, 1);
    assert_int_equal(row.consumer_worker_id, 0);
    pgqrs_message_fini(&row);
    assert_int_equal(suite_settle(f, suite_settlement(m.lease, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_REFUSED);
    assert_int_equal(suite_lease(f, 5), 2);
    assert_int_equal(f->x.leases[1].message_id, m.leased);
    assert_int_equal(f->x.leases[1].attempt, 2);
}

static void replaying(void **state)
{
    struct suite *f = *state;
    struct four m = put_four(f);
    suite_advance_ms(f, 7);
    assert_int_equal(suite_act(f, PGQRS_ACT_REPLAY, m.waiting), PGQRS_ACTED_WAITING);
    assert_int_equal(suite_act(f, PGQRS_ACT_REPLAY, m.delayed), PGQRS_ACTED_WAITING);
    assert_int_equal(suite_act(f, PGQRS_ACT_REPLAY, m.leased), PGQRS_ACTED_LEASED);
    assert_int_equal(suite_act(f, PGQRS_ACT_REPLAY, m.archived), PGQRS_ACTED_YES);
    assert_int_equal(suite_act(f, PGQRS_ACT_REPLAY, m.archived), PGQRS_ACTED_WAITING);
    assert_int_equal(suite_act(f, PGQRS_ACT_REPLAY, 99999), PGQRS_ACTED_NOT_FOUND);
    struct pgqrs_message row = suite_get(f, m.archived);
    assert_int_equal(row.state, PGQRS_STATE_READY);
    assert_int_equal(row.vt_us, f->now_us);
    assert_int_equal(row.enqueued_at_us, f->now_us);
    assert_int_equal(row.dequeued_at_us, 0);
    assert_int_equal(row.archived_at_us, 0);
    assert_int_equal(row.consumer_worker_id, 0);
    assert_int_equal(row.read_ct, 0);
    assert_int_equal(row.crash_ct, 0);
    assert_int_equal(row.priority, 5);
    assert_null(row.outcome);
    assert_null(row.error);
    assert_null(row.result);
    assert_string_equal(row.payload, "[4]");
    pgqrs_message_fini(&row);
    /* As often as one likes; returning it puts it where the replay put it. */
    for (int i = 0; i < 3; i++) {
        suite_advance_ms(f, 1);
        struct pgqrs_lease_ref lease = suite_lease_one(f);
        assert_int_equal(lease.message_id, m.archived);
        assert_int_equal(lease.attempt, 1);
        assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_ARCHIVE)),
                         PGQRS_SETTLED_YES);
        assert_int_equal(suite_act(f, PGQRS_ACT_REPLAY, m.archived), PGQRS_ACTED_YES);
    }
}

static void replaying_what_has_a_key(void **state)
{
    struct suite *f = *state;
    const struct pgqrs_enqueue item = {.unique_key = "k"};
    int64_t ids[3];
    for (int i = 0; i < 3; i++) {
        ids[i] = suite_put_item(f, f->queue, item);
        if (i < 2) {
            assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, ids[i]), PGQRS_ACTED_YES);
        }
    }
    assert_int_equal(suite_act(f, PGQRS_ACT_REPLAY, ids[0]), PGQRS_ACTED_KEY);
    struct pgqrs_message row = suite_get(f, ids[0]);
    assert_string_equal(row.outcome, "cancelled");
    assert_string_equal(row.unique_key, "k");
    pgqrs_message_fini(&row);
    suite_lease_one(f);
    assert_int_equal(suite_act(f, PGQRS_ACT_REPLAY, ids[0]), PGQRS_ACTED_KEY);
    assert_int_equal(pgqrs_store_queue_purge(f->store, f->queue, PGQRS_PURGE_LEASED, 10, &f->err),
                     1);
    /* Of two in one call the first gets it. */
    enum pgqrs_acted acted[2];
    const int64_t both[2] = {ids[1], ids[0]};
    assert_int_equal(pgqrs_store_message_act(f->store, PGQRS_ACT_REPLAY, both, 2, acted, &f->err),
                     1);
    assert_int_equal(acted[0], PGQRS_ACTED_YES);
    assert_int_equal(acted[1], PGQRS_ACTED_KEY);
    assert_int_equal(suite_put_item(f, f->queue, item), ids[1]);
}

static void many_at_once(void **state)
{
    struct suite *f = *state;
    static const enum pgqrs_acted expected[PGQRS_ACT_COUNT][5] = {
        [PGQRS_ACT_CANCEL] = {PGQRS_ACTED_YES, PGQRS_ACTED_YES, PGQRS_ACTED_ASKED,
                              PGQRS_ACTED_ARCHIVED, PGQRS_ACTED_NOT_FOUND},
        [PGQRS_ACT_DELETE] = {PGQRS_ACTED_YES, PGQRS_ACTED_YES, PGQRS_ACTED_LEASED, PGQRS_ACTED_YES,
                              PGQRS_ACTED_NOT_FOUND},
        [PGQRS_ACT_FREE] = {PGQRS_ACTED_WAITING, PGQRS_ACTED_WAITING, PGQRS_ACTED_YES,
                            PGQRS_ACTED_ARCHIVED, PGQRS_ACTED_NOT_FOUND},
        [PGQRS_ACT_REPLAY] = {PGQRS_ACTED_WAITING, PGQRS_ACTED_WAITING, PGQRS_ACTED_LEASED,
                              PGQRS_ACTED_YES, PGQRS_ACTED_NOT_FOUND},
    };
    for (int act = PGQRS_ACT_CANCEL; act < PGQRS_ACT_COUNT; act++) {
        struct four m = put_four(f);
        const int64_t ids[6] = {m.waiting, m.delayed, m.leased, m.archived, 99999, m.waiting};
        enum pgqrs_acted acted[6];
        int64_t yes = 0;
        int64_t count =
            pgqrs_store_message_act(f->store, (enum pgqrs_act)act, ids, 6, acted, &f->err);
        suite_ok(f, count);
        for (size_t i = 0; i < 5; i++) {
            assert_int_equal(acted[i], expected[act][i]);
            yes += acted[i] == PGQRS_ACTED_YES;
        }
        assert_int_equal(count, yes);
        assert_int_not_equal(acted[5], PGQRS_ACTED_YES); /* named twice, acted on once */
        int64_t gone = pgqrs_store_queue_purge(f->store, f->queue, PGQRS_PURGE_ALL, 100, &f->err);
        suite_ok(f, gone);
    }
}

static void acts_are_checked(void **state)
{
    struct suite *f = *state;
    static const int64_t ids[1001] = {1};
    static enum pgqrs_acted acted[1001];
    suite_fails(f, pgqrs_store_message_act(f->store, PGQRS_ACT_NONE, ids, 1, acted, &f->err),
                PGQRS_ERR_INVALID);
    suite_fails(f, pgqrs_store_message_act(f->store, PGQRS_ACT_COUNT, ids, 1, acted, &f->err),
                PGQRS_ERR_INVALID);
    suite_fails(f, pgqrs_store_message_act(f->store, PGQRS_ACT_FREE, ids, 1001, acted, &f->err),
                PGQRS_ERR_INVALID);
    suite_ok(f, pgqrs_store_message_act(f->store, PGQRS_ACT_FREE, ids, 1000, acted, &f->err));
    assert_int_equal(acted[999], PGQRS_ACTED_NOT_FOUND);
}

static void a_thousand_at_once(void **state)
{
    struct suite *f = *state;
    enum { MANY = 1000 };
    static struct pgqrs_enqueue items[MANY];
    static int64_t ids[MANY];
    static enum pgqrs_acted acted[MANY];
    for (int i = 0; i < MANY; i++) {
        items[i] = (struct pgqrs_enqueue){.payload = pgqrs_bytes_from("1")};
    }
    suite_ok(f, pgqrs_store_enqueue(f->store, f->queue, items, MANY, ids, NULL, &f->err));
    assert_int_equal(pgqrs_store_message_act(f->store, PGQRS_ACT_CANCEL, ids, MANY, acted, &f->err),
                     MANY);
    assert_int_equal(pgqrs_store_message_act(f->store, PGQRS_ACT_REPLAY, ids, MANY, acted, &f->err),
                     MANY);
    assert_int_equal(acted[MANY - 1], PGQRS_ACTED_YES);
    assert_int_equal(suite_metrics(f, f->queue).ready, MANY);
}

static void dead_letters_keep_their_last_error(void **state)
{
    struct suite *f = *state;
    int64_t id = suite_put(f, "1", 0, 0);
    for (int i = 0; i < 3; i++) {
        struct pgqrs_settlement item =
            suite_settlement(suite_lease_one(f), i < 2 ? PGQRS_SETTLE_RETRY : PGQRS_SETTLE_DEAD);
        item.error = pgqrs_bytes_from(i == 0 ? "first" : i == 1 ? "second" : "");
        assert_int_equal(suite_settle(f, item), PGQRS_SETTLED_YES);
    }
    const struct pgqrs_message_filter dead = {
        .queue_id = f->queue, .outcome = "failed", .limit = 10};
    struct pgqrs_message_list list;
    suite_ok(f, pgqrs_store_message_list(f->store, &dead, &list, &f->err));
    assert_int_equal(list.count, 1);
    assert_int_equal(list.items[0].id, id);
    assert_string_equal(list.items[0].error, "second");
    assert_int_equal(list.items[0].read_ct, 3);
    pgqrs_message_list_fini(&list);
}

static void run_of(struct suite *f, int64_t message, const char *status)
{
    suite_sql(f,
              "INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status)"
              " SELECT id, %" PRId64 ", '%s' FROM pgqrs_workflows WHERE name = 'flow'",
              message, status);
    suite_sql(f,
              "INSERT INTO pgqrs_workflow_steps (run_id, step_name, status)"
              " SELECT id, 'step', '%s' FROM pgqrs_workflow_runs WHERE message_id = %" PRId64,
              status, message);
}

static void runs_go_with_their_messages(void **state)
{
    struct suite *f = *state;
    suite_sql(f, "INSERT INTO pgqrs_workflows (name, queue_id) VALUES ('flow', %" PRId64 ")",
              f->queue);
    struct four m = put_four(f);
    run_of(f, m.waiting, "QUEUED");
    run_of(f, m.archived, "RUNNING");
    run_of(f, m.leased, "RUNNING");
    assert_int_equal(suite_act(f, PGQRS_ACT_DELETE, m.waiting), PGQRS_ACTED_YES);
    assert_int_equal(suite_act(f, PGQRS_ACT_DELETE, m.archived), PGQRS_ACTED_YES);
    suite_assert_gone(f, m.archived);
    /* A handler that deletes what it did leaves the message of a run, archived. */
    assert_int_equal(suite_settle(f, suite_settlement(m.lease, PGQRS_SETTLE_DELETE)),
                     PGQRS_SETTLED_YES);
    struct pgqrs_message row = suite_get(f, m.leased);
    assert_string_equal(row.outcome, "done");
    pgqrs_message_fini(&row);
    assert_int_equal(pgqrs_store_queue_purge(f->store, f->queue, PGQRS_PURGE_ALL, 100, &f->err), 2);
    assert_int_equal(suite_metrics(f, f->queue).total, 0);
    /* Steps and runs that were left behind would make a queue. */
    int64_t left = 0;
    suite_sql(f, "INSERT INTO pgqrs_queues (queue_name) SELECT 'left' FROM pgqrs_workflow_steps");
    suite_fails(f, pgqrs_store_queue_find(f->store, "left", &left, &f->err), PGQRS_ERR_NOT_FOUND);
    suite_sql(f, "INSERT INTO pgqrs_queues (queue_name) SELECT 'left' FROM pgqrs_workflow_runs");
    suite_fails(f, pgqrs_store_queue_find(f->store, "left", &left, &f->err), PGQRS_ERR_NOT_FOUND);
}

/* ---- asking a worker to stop ---- */

/* The first cancellation is in *cancel_out. */
static size_t orders_of(struct suite *f, int64_t worker, bool beat,
                        enum pgqrs_worker_state expected, struct pgqrs_lease_ref *cancel_out)
{
    enum pgqrs_worker_state found = PGQRS_WORKER_STATE_COUNT;
    struct pgqrs_orders orders = {.worker_ids = &worker,
                                  .worker_count = 1,
                                  .beat = beat,
                                  .states_out = &found,
                                  .cancels_out = cancel_out,
                                  .cancel_max = 1};
    suite_ok(f, pgqrs_store_worker_orders(f->store, &orders, &f->err));
    assert_int_equal(found, expected);
    return orders.cancel_count;
}

static void asking_a_worker_to_stop(void **state)
{
    struct suite *f = *state;
    struct pgqrs_lease_ref asked = {0};
    int64_t other = suite_worker(f, "other", 2);
    int64_t id = suite_put(f, "1", 0, 0);
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    assert_int_equal(orders_of(f, f->worker, false, PGQRS_WORKER_READY, &asked), 0);
    assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, id), PGQRS_ACTED_ASKED);
    assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, id), PGQRS_ACTED_ASKED);
    suite_assert_message(f, id, PGQRS_STATE_LEASED, 1, "");
    int64_t before_us = suite_worker_info(f, f->worker).heartbeat_at_us;
    suite_advance_ms(f, 50);
    assert_int_equal(orders_of(f, other, true, PGQRS_WORKER_READY, &asked), 0);
    for (int i = 0; i < 2; i++) { /* for as long as it runs */
        assert_int_equal(orders_of(f, f->worker, i == 1, PGQRS_WORKER_READY, &asked), 1);
        assert_int_equal(asked.message_id, id);
        assert_int_equal(asked.worker_id, f->worker);
        assert_int_equal(asked.attempt, lease.attempt);
        assert_int_equal(suite_worker_info(f, f->worker).heartbeat_at_us,
                         i == 1 ? f->now_us : before_us);
    }
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_CANCEL)),
                     PGQRS_SETTLED_YES);
    assert_int_equal(orders_of(f, f->worker, false, PGQRS_WORKER_READY, &asked), 0);
}

static void asked_too_late(void **state)
{
    struct suite *f = *state;
    struct pgqrs_lease_ref asked = {0};
    int64_t id = suite_put(f, "1", 0, 0);
    suite_lease_one(f);
    assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, id), PGQRS_ACTED_ASKED);
    assert_int_equal(suite_act(f, PGQRS_ACT_FREE, id), PGQRS_ACTED_YES);
    suite_advance_ms(f, 5);
    assert_int_equal(orders_of(f, f->worker, true, PGQRS_WORKER_READY, &asked), 0);
    suite_assert_message(f, id, PGQRS_STATE_ARCHIVED, 1, PGQRS_CANCELLED_TEXT);
    struct pgqrs_message row = suite_get(f, id);
    assert_string_equal(row.outcome, "cancelled");
    assert_int_equal(row.archived_at_us, f->now_us);
    pgqrs_message_fini(&row);
    /* Who replays it wants it to run. */
    assert_int_equal(suite_act(f, PGQRS_ACT_REPLAY, id), PGQRS_ACTED_YES);
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    assert_int_equal(orders_of(f, f->worker, false, PGQRS_WORKER_READY, &asked), 0);
    assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, id), PGQRS_ACTED_ASKED);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    assert_int_equal(suite_act(f, PGQRS_ACT_REPLAY, id), PGQRS_ACTED_YES);
    suite_lease_one(f);
    assert_int_equal(orders_of(f, f->worker, false, PGQRS_WORKER_READY, &asked), 0);
    suite_assert_message(f, id, PGQRS_STATE_LEASED, 1, "");
}

static void who_can_not_be_asked(void **state)
{
    struct suite *f = *state;
    struct pgqrs_lease_ref asked = {0};
    int64_t foreign = suite_foreign_worker(f, "theirs", f->queue);
    int64_t id = suite_put(f, "1", 0, 0);
    suite_lease_for(f, f->queue, foreign);
    assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, id), PGQRS_ACTED_LEASED);
    assert_int_equal(orders_of(f, foreign, false, PGQRS_WORKER_READY, &asked), 0);
    assert_int_equal(orders_of(f, 4711, true, PGQRS_WORKER_NONE, &asked), 0);
    suite_ok(f, pgqrs_store_worker_move(f->store, f->worker, PGQRS_MOVE_INTERRUPT, &f->err));
    assert_int_equal(orders_of(f, f->worker, true, PGQRS_WORKER_INTERRUPTED, &asked), 0);
    struct pgqrs_orders none = {.cancel_max = 0};
    suite_fails(f, pgqrs_store_worker_orders(f->store, &none, &f->err), PGQRS_ERR_INVALID);
}

/* ---- claiming one message ---- */

static int claim(struct suite *f, int64_t id, bool *replayed_out)
{
    struct pgqrs_message_claim c = {
        .message_id = id, .queue_id = f->queue, .worker_id = f->worker, .lease_ms = SUITE_LEASE_MS};
    if (f->store->ops->message_claim == NULL) {
        skip(); /* only a broker's own store has it */
    }
    int rc = pgqrs_store_message_claim(f->store, &c, &f->x, &f->err);
    *replayed_out = c.replayed;
    return rc;
}

static struct pgqrs_lease_ref claimed(struct suite *f, int64_t id, const char *payload,
                                      bool replayed)
{
    bool was_replayed;
    suite_ok(f, claim(f, id, &was_replayed));
    assert_int_equal(was_replayed, replayed);
    suite_assert_leased(f, &id, 1);
    assert_int_equal(f->x.leases[0].attempt, 1);
    assert_int_equal(f->x.leases[0].priority, 3);
    assert_int_equal(f->x.leases[0].crash_ct, 0);
    suite_assert_json(f->x.leases[0].payload, payload);
    struct pgqrs_message row = suite_get(f, id);
    assert_int_equal(row.state, PGQRS_STATE_LEASED);
    assert_int_equal(row.consumer_worker_id, f->worker);
    assert_int_equal(row.vt_us, f->now_us + SUITE_LEASE_MS * 1000);
    assert_int_equal(row.read_ct, 1);
    pgqrs_message_fini(&row);
    return (struct pgqrs_lease_ref){.message_id = id, .worker_id = f->worker, .attempt = 1};
}

static void claiming_what_waits(void **state)
{
    struct suite *f = *state;
    bool replayed;
    int64_t other = suite_queue(f, "other");
    int64_t delayed = suite_put(f, "[1]", 60000, 3);
    int64_t due = suite_put(f, "[2]", 0, 3);
    int64_t elsewhere = suite_put_item(f, other, (struct pgqrs_enqueue){.delay_ms = 0});
    suite_ok(f, pgqrs_store_queue_pause(f->store, f->queue, true, &f->err));
    struct pgqrs_lease_ref lease = claimed(f, delayed, "[1]", false);
    (void)claimed(f, due, "[2]", false);
    suite_fails(f, claim(f, due, &replayed), PGQRS_ERR_CONFLICT);
    suite_fails(f, claim(f, elsewhere, &replayed), PGQRS_ERR_CONFLICT);
    suite_fails(f, claim(f, 99999, &replayed), PGQRS_ERR_NOT_FOUND);
    /* Given back it is due when it was. */
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_RETURN)),
                     PGQRS_SETTLED_YES);
    struct pgqrs_message row = suite_get(f, delayed);
    assert_int_equal(row.state, PGQRS_STATE_DELAYED);
    assert_int_equal(row.vt_us, f->now_us + 60000 * INT64_C(1000));
    assert_int_equal(row.read_ct, 0);
    pgqrs_message_fini(&row);
}

static void claiming_a_dead_letter(void **state)
{
    struct suite *f = *state;
    bool replayed;
    int64_t id = suite_put_item(
        f, f->queue,
        (struct pgqrs_enqueue){.payload = {"[1]", 3}, .priority = 3, .unique_key = "k"});
    struct pgqrs_settlement dead =
        suite_settlement(claimed(f, id, "[1]", false), PGQRS_SETTLE_DEAD);
    dead.crashed = true;
    dead.error = pgqrs_bytes_from("it crashed");
    assert_int_equal(suite_settle(f, dead), PGQRS_SETTLED_YES);
    int64_t rival = suite_put_item(f, f->queue, (struct pgqrs_enqueue){.unique_key = "k"});
    suite_fails(f, claim(f, id, &replayed), PGQRS_ERR_CONFLICT);
    assert_false(replayed);
    suite_assert_message(f, id, PGQRS_STATE_ARCHIVED, 1, "it crashed");
    assert_int_equal(suite_act(f, PGQRS_ACT_DELETE, rival), PGQRS_ACTED_YES);
    struct pgqrs_lease_ref lease = claimed(f, id, "[1]", true);
    suite_assert_message(f, id, PGQRS_STATE_LEASED, 1, "");
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    suite_fails(f, claim(f, id, &replayed), PGQRS_ERR_CONFLICT);
    suite_assert_message(f, id, PGQRS_STATE_ARCHIVED, 1, "");
}

const struct CMUnitTest suite_act_cases[] = {
    SUITE_CASE(claiming_what_waits),
    SUITE_CASE(claiming_a_dead_letter),
    SUITE_CASE(asking_a_worker_to_stop),
    SUITE_CASE(asked_too_late),
    SUITE_CASE(who_can_not_be_asked),
    SUITE_CASE(cancelling),
    SUITE_CASE(deleting),
    SUITE_CASE(freeing),
    SUITE_CASE(replaying),
    SUITE_CASE(replaying_what_has_a_key),
    SUITE_CASE(many_at_once),
    SUITE_CASE(acts_are_checked),
    SUITE_CASE(a_thousand_at_once),
    SUITE_CASE(dead_letters_keep_their_last_error),
    SUITE_CASE(runs_go_with_their_messages),
};
const size_t suite_act_count = sizeof suite_act_cases / sizeof *suite_act_cases;
