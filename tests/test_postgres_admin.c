/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/pg_rig.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * What people and housekeeping do to a PostgreSQL store while others are at it, and how much of it
 * one call reads: the cases that the common suite, which has one connection and few rows, can not
 * have.
 */

struct admin {
    struct pg_rig *rig;
    struct pgqrs_store *store;
    int64_t queue;
    struct pgqrs_error err;
};

static void run(struct admin *f, const char *sql)
{
    pg_rig_sql(f->rig, "%s", sql);
}

static int64_t number(struct admin *f, const char *sql)
{
    return pg_rig_number(f->rig, "%s", sql);
}

/* A queue, which is 1, and its workers 1 to 3, which are ready. */
static int setup(void **state)
{
    struct admin *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->rig = pg_rig_create();
    f->store = pg_rig_store(f->rig, NULL);
    suite_ok(f, pgqrs_store_queue_create(f->store, "q", &f->queue, &f->err));
    assert_int_equal(f->queue, 1);
    run(f, "INSERT INTO pgqrs_workers (name, queue_id)"
           " SELECT 'w' || i, 1 FROM generate_series(1, 3) i");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct admin *f = *state;
    pgqrs_store_close(&f->store);
    pg_rig_destroy(f->rig);
    free(f);
    return 0;
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

/* ---- a call in a thread, to be held up by a lock ---- */

struct call {
    struct admin *f;
    int64_t (*fn)(struct call *call);
    int64_t rc;
    enum pgqrs_acted acted[3];
    struct pgqrs_error err;
    pthread_t thread;
};

static void *call_main(void *arg)
{
    struct call *call = arg;
    call->rc = call->fn(call);
    return NULL;
}

/* Returns when it waits for a lock that the other program holds. */
static void start_blocked(struct admin *f, struct call *call, int64_t (*fn)(struct call *call))
{
    char sql[200];
    (void)snprintf(sql, sizeof sql,
                   "SELECT count(*) FROM pg_stat_activity WHERE %d = ANY(pg_blocking_pids(pid))",
                   PQbackendPID(pg_rig_raw(f->rig)));
    *call = (struct call){.f = f, .fn = fn};
    assert_int_equal(pthread_create(&call->thread, NULL, call_main, call), 0);
    pg_rig_await(f->rig, 1, sql);
}

static void finish(struct call *call)
{
    assert_int_equal(pthread_join(call->thread, NULL), 0);
}

/* ---- acts ---- */

static const int64_t three[] = {1, 2, 3};

static int64_t cancel_three(struct call *call)
{
    return pgqrs_store_message_act(call->f->store, PGQRS_ACT_CANCEL, three, 3, call->acted,
                                   &call->err);
}

/* The verdict is about what the message is when the act reaches it. */
static void act_waits_for_others(void **state)
{
    struct admin *f = *state;
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload) SELECT 1, '1' FROM"
           " generate_series(1, 3)");
    run(f, "BEGIN; UPDATE pgqrs_messages SET consumer_worker_id = 1 WHERE id = 1;"
           " UPDATE pgqrs_messages SET archived_at = now() WHERE id = 2");
    struct call call;
    start_blocked(f, &call, cancel_three);
    run(f, "COMMIT");
    finish(&call);
    assert_int_equal(call.rc, 1);
    assert_int_equal(call.acted[0], PGQRS_ACTED_LEASED);
    assert_int_equal(call.acted[1], PGQRS_ACTED_ARCHIVED);
    assert_int_equal(call.acted[2], PGQRS_ACTED_YES);
}

/* Two that want the same rows in the other's order: one is told to come again, with nothing
 * changed, and the other gets them. */
static void act_in_a_deadlock(void **state)
{
    struct admin *f = *state;
    run(f, "SET deadlock_timeout = '1h'");
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload) SELECT 1, '1' FROM"
           " generate_series(1, 3)");
    run(f, "BEGIN; UPDATE pgqrs_messages SET read_ct = 1 WHERE id = 3");
    struct call call;
    start_blocked(f, &call, cancel_three);
    run(f, "UPDATE pgqrs_messages SET read_ct = 1 WHERE id = 1; COMMIT");
    finish(&call);
    assert_int_equal(call.rc, -1);
    assert_int_equal(call.err.code, PGQRS_ERR_AGAIN);
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_messages WHERE archived_at IS NOT NULL"),
                     0);
    assert_int_equal(cancel_three(&call), 3);
}

static int64_t free_downwards(struct call *call)
{
    const int64_t ids[] = {3, 2, 1};
    return pgqrs_store_message_act(call->f->store, PGQRS_ACT_FREE, ids, 3, call->acted, &call->err);
}

/* In whatever order the ids are given, the rows are locked upwards: two acts do not deadlock. */
static void act_locks_upwards(void **state)
{
    struct admin *f = *state;
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload) SELECT 1, '1' FROM"
           " generate_series(1, 3)");
    run(f, "BEGIN; SELECT 1 FROM pgqrs_messages WHERE id = 2 FOR UPDATE");
    struct call call;
    start_blocked(f, &call, free_downwards);
    assert_int_equal(number(f, "SELECT count(*) FROM (SELECT 1 FROM pgqrs_messages WHERE id <> 2"
                               " FOR UPDATE SKIP LOCKED) free"),
                     1);
    run(f, "SELECT 1 FROM pgqrs_messages WHERE id = 3 FOR UPDATE NOWAIT; COMMIT");
    finish(&call);
    assert_int_equal(call.rc, 0);
    assert_int_equal(call.acted[0], PGQRS_ACTED_WAITING);
}

static int64_t replay_first(struct call *call)
{
    return pgqrs_store_message_act(call->f->store, PGQRS_ACT_REPLAY, three, 1, call->acted,
                                   &call->err);
}

static void replay_while_its_key_is_taken(void **state)
{
    struct admin *f = *state;
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload, pgqrsd_unique_key, archived_at,"
           " pgqrsd_outcome) VALUES (1, '1', 'key', now(), 'failed')");
    static const char taken[] = "BEGIN; INSERT INTO pgqrs_messages (queue_id, payload,"
                                " pgqrsd_unique_key) VALUES (1, '2', 'key')";
    struct call call;
    run(f, taken);
    start_blocked(f, &call, replay_first);
    run(f, "COMMIT");
    finish(&call);
    assert_int_equal(call.rc, 0);
    assert_int_equal(call.acted[0], PGQRS_ACTED_KEY);

    run(f, "DELETE FROM pgqrs_messages WHERE id > 1");
    run(f, taken);
    start_blocked(f, &call, replay_first);
    run(f, "ROLLBACK");
    finish(&call);
    assert_int_equal(call.rc, 1);
    assert_int_equal(call.acted[0], PGQRS_ACTED_YES);
}

/* ---- workers ---- */

static int64_t poll_one(struct call *call)
{
    return pgqrs_store_worker_move(call->f->store, 1, PGQRS_MOVE_POLL, &call->err);
}

static void move_waits_for_others(void **state)
{
    struct admin *f = *state;
    struct call call;
    run(f, "BEGIN; UPDATE pgqrs_workers SET status = 'suspended' WHERE id = 1");
    start_blocked(f, &call, poll_one);
    run(f, "COMMIT");
    finish(&call);
    assert_int_equal(call.rc, -1);
    assert_int_equal(call.err.code, PGQRS_ERR_CONFLICT);
    assert_string_equal(call.err.text,
                        "worker 1: found state suspended, expected ready or polling");
    assert_int_equal(
        number(f, "SELECT (status = 'suspended')::int FROM pgqrs_workers WHERE id = 1"), 1);
}

static void move_names_both_states(void **state)
{
    struct admin *f = *state;
    run(f, "UPDATE pgqrs_workers SET status = 'polling' WHERE id = 1");
    suite_fails(f, pgqrs_store_worker_move(f->store, 1, PGQRS_MOVE_RESUME, &f->err),
                PGQRS_ERR_CONFLICT);
    assert_string_equal(f->err.text, "worker 1: found state polling, expected suspended");
}

static int64_t stop_one(struct call *call)
{
    return pgqrs_store_worker_move(call->f->store, 1, PGQRS_MOVE_STOP, &call->err);
}

/* Stopping takes the leases away; a settlement that is under way comes first. */
static void stop_while_a_lease_is_settled(void **state)
{
    struct admin *f = *state;
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload, consumer_worker_id, read_ct)"
           " SELECT 1, '1', 1, 1 FROM generate_series(1, 2)");
    run(f, "BEGIN; UPDATE pgqrs_messages SET archived_at = now() WHERE id = 1");
    struct call call;
    start_blocked(f, &call, stop_one);
    /* The same transaction leases more for the worker, as an exchange does. */
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload, consumer_worker_id) VALUES (1, '1', 1);"
           " COMMIT");
    finish(&call);
    assert_int_equal(call.rc, 0);
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_messages WHERE consumer_worker_id = 1"
                               " AND archived_at IS NOT NULL AND id = 1"),
                     1);
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_messages WHERE id = 2"
                               " AND consumer_worker_id IS NULL AND read_ct = 1"),
                     1);
    assert_int_equal(number(f, "SELECT (status = 'stopped')::int FROM pgqrs_workers WHERE id = 1"),
                     1);
}

static void worker_with_archived_messages_stays(void **state)
{
    struct admin *f = *state;
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload, consumer_worker_id, archived_at)"
           " VALUES (1, '1', 1, now())");
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload, producer_worker_id)"
           " VALUES (1, '1', 2)");
    suite_fails(f, pgqrs_store_worker_delete(f->store, 1, &f->err), PGQRS_ERR_CONFLICT);
    assert_non_null(strstr(f->err.text, "worker 1: found messages"));
    assert_non_null(strstr(f->err.text, "consumer"));
    suite_fails(f, pgqrs_store_worker_delete(f->store, 2, &f->err), PGQRS_ERR_CONFLICT);
    assert_non_null(strstr(f->err.text, "producer"));
    run(f, "UPDATE pgqrs_workers SET status = 'stopped', heartbeat_at = now() - interval '1 h'");
    assert_int_equal(pgqrs_store_worker_purge(f->store, 1000, 100, &f->err), 1);
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_workers"), 2);
    run(f, "DELETE FROM pgqrs_messages");
    suite_ok(f, pgqrs_store_worker_delete(f->store, 1, &f->err));
    suite_fails(f, pgqrs_store_worker_delete(f->store, 1, &f->err), PGQRS_ERR_NOT_FOUND);
    assert_int_equal(pgqrs_store_worker_purge(f->store, 1000, 100, &f->err), 1);
}

/* ---- queues ---- */

static int64_t delete_queue(struct call *call)
{
    return pgqrs_store_queue_delete(call->f->store, 1, &call->err);
}

static void queue_stays_for_a_late_message(void **state)
{
    struct admin *f = *state;
    run(f, "UPDATE pgqrs_workers SET status = 'stopped'");
    struct call call;
    run(f, "BEGIN; INSERT INTO pgqrs_messages (queue_id, payload) VALUES (1, '1')");
    start_blocked(f, &call, delete_queue);
    run(f, "COMMIT");
    finish(&call);
    assert_int_equal(call.rc, -1);
    assert_int_equal(call.err.code, PGQRS_ERR_CONFLICT);
    assert_string_equal(call.err.text, "queue 1: found live messages; expected none");
    run(f, "DELETE FROM pgqrs_messages");
    run(f, "BEGIN; INSERT INTO pgqrs_messages (queue_id, payload) VALUES (1, '1')");
    start_blocked(f, &call, delete_queue);
    run(f, "ROLLBACK");
    finish(&call);
    assert_int_equal(call.rc, 0);
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_workers"), 0);
}

static void queue_names_all_that_is_in_the_way(void **state)
{
    struct admin *f = *state;
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload, archived_at)"
           " VALUES (1, '1', NULL), (1, '1', now());"
           " INSERT INTO pgqrs_workflows (name, queue_id) VALUES ('q', 1)");
    suite_fails(f, pgqrs_store_queue_delete(f->store, 1, &f->err), PGQRS_ERR_CONFLICT);
    assert_string_equal(f->err.text,
                        "queue 1: found live messages, archived messages, 3 workers that are not"
                        " stopped, a workflow definition; expected none");
}

static void workers_of_a_deleted_queue(void **state)
{
    struct admin *f = *state;
    int64_t other = 0;
    suite_ok(f, pgqrs_store_queue_create(f->store, "other", &other, &f->err));
    run(f, "UPDATE pgqrs_workers SET status = 'stopped'");
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload, consumer_worker_id, archived_at)"
           " VALUES (2, '1', 1, now())");
    suite_ok(f, pgqrs_store_queue_delete(f->store, 1, &f->err));
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_workers"), 1);
    assert_int_equal(number(f, "SELECT id FROM pgqrs_workers WHERE queue_id IS NULL"), 1);
}

/* ---- purging ---- */

static void purge_takes_the_runs_along(void **state)
{
    struct admin *f = *state;
    run(f, "INSERT INTO pgqrs_workflows (name, queue_id) VALUES ('q', 1);"
           " INSERT INTO pgqrs_messages (queue_id, payload, consumer_worker_id, archived_at)"
           " SELECT 1, '1', CASE WHEN i % 3 = 0 THEN 1 END, CASE WHEN i % 2 = 0 THEN now() END"
           " FROM generate_series(1, 60) i;"
           " INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status)"
           " SELECT 1, id, 'RUNNING' FROM pgqrs_messages;"
           " INSERT INTO pgqrs_workflow_steps (run_id, step_name, status)"
           " SELECT id, 'one', 'SUCCESS' FROM pgqrs_workflow_runs");
    assert_int_equal(pgqrs_store_queue_purge(f->store, 1, PGQRS_PURGE_LEASED, 100, &f->err), 10);
    assert_int_equal(pgqrs_store_queue_purge(f->store, 1, PGQRS_PURGE_ALL, 30, &f->err), 30);
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_messages"), 20);
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_workflow_runs"), 20);
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_workflow_steps"), 20);
    assert_int_equal(pgqrs_store_queue_purge(f->store, 1, PGQRS_PURGE_ALL, 30, &f->err), 20);
    assert_int_equal(pgqrs_store_queue_purge(f->store, 1, PGQRS_PURGE_ALL, 30, &f->err), 0);
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_workflow_runs"), 0);
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_workflows"), 1);
}

static int64_t purge_all(struct call *call)
{
    return pgqrs_store_queue_purge(call->f->store, 1, PGQRS_PURGE_ALL, 10, &call->err);
}

/* Fewer than the limit means that none is left, so what is locked is waited for; a pruning, which
 * comes again, passes it over. */
static void locked_rows(void **state)
{
    struct admin *f = *state;
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload, archived_at)"
           " SELECT 1, '1', now() - interval '1 h' FROM generate_series(1, 4)");
    run(f, "BEGIN; SELECT 1 FROM pgqrs_messages WHERE id = 2 FOR UPDATE");
    struct pgqrs_prune prune = {.queue_id = 1, .what = PGQRS_PRUNE_ENDED, .limit = 2};
    assert_int_equal(pgqrs_store_prune(f->store, &prune, &f->err), 1);
    struct call call;
    start_blocked(f, &call, purge_all);
    run(f, "COMMIT");
    finish(&call);
    assert_int_equal(call.rc, 3);
}

static int64_t purge_to_the_end(struct call *call)
{
    struct pgqrs_store *store = NULL;
    if (pg_rig_open(call->f->rig, NULL, &store) < 0) {
        return -1;
    }
    int64_t sum = 0;
    int64_t gone;
    do {
        gone = pgqrs_store_queue_purge(store, 1, PGQRS_PURGE_ALL, 1000, &call->err);
        sum += gone;
    } while (gone == 1000);
    pgqrs_store_close(&store);
    return gone < 0 ? -1 : sum;
}

/* Neither waits for what the other waits for, and whoever is told that none is left is right. */
static void two_purges(void **state)
{
    struct admin *f = *state;
    for (int round = 0; round < 10; round++) {
        run(f, "INSERT INTO pgqrs_messages (queue_id, payload, consumer_worker_id, archived_at)"
               " SELECT 1, '1', CASE WHEN i % 3 = 0 THEN 1 + i % 2 END,"
               " CASE WHEN i % 3 = 1 THEN now() END FROM generate_series(1, 900) i");
        struct call calls[2] = {{.f = f, .fn = purge_to_the_end}, {.f = f, .fn = purge_to_the_end}};
        for (int i = 0; i < 2; i++) {
            assert_int_equal(pthread_create(&calls[i].thread, NULL, call_main, &calls[i]), 0);
        }
        finish(&calls[0]);
        finish(&calls[1]);
        assert_true(calls[0].rc >= 0);
        assert_true(calls[1].rc >= 0);
        assert_int_equal(calls[0].rc + calls[1].rc, 900);
    }
}

/* ---- pruning ---- */

static void prune_to_the_end(struct admin *f, struct pgqrs_prune prune, int64_t gone, int steps_max)
{
    int64_t sum = 0;
    int steps = 0;
    do {
        assert_true(++steps <= steps_max);
        int64_t n = pgqrs_store_prune(f->store, &prune, &f->err);
        assert_true(n >= 0 && n <= prune.limit);
        sum += n;
    } while (prune.from_us != 0 || prune.from_id != 0);
    assert_int_equal(sum, gone);
}

/* Runs that are not finished are first in the order, and more than one step may look at. */
static void prune_steps_over_unfinished_runs(void **state)
{
    struct admin *f = *state;
    run(f, "INSERT INTO pgqrs_workflows (name, queue_id) VALUES ('q', 1);"
           " INSERT INTO pgqrs_messages (queue_id, payload, archived_at, pgqrsd_outcome)"
           " SELECT 1, '1', now() - interval '1 h', CASE WHEN i % 2 = 0 THEN 'failed' END"
           " FROM generate_series(1, 60) i;"
           " INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status)"
           " SELECT 1, id, (ARRAY['QUEUED', 'RUNNING', 'PAUSED', 'CANCELLING'])[1 + id % 4]"
           "::pgqrs_workflow_status FROM pgqrs_messages WHERE id <= 40;"
           " INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status)"
           " SELECT 1, id, 'SUCCESS' FROM pgqrs_messages WHERE id > 50");
    const struct pgqrs_prune ended = {
        .queue_id = 1, .what = PGQRS_PRUNE_ENDED, .age_ms = 1000, .limit = 6};
    prune_to_the_end(f, ended, 10, 11);
    const struct pgqrs_prune failed = {.what = PGQRS_PRUNE_FAILED, .age_ms = 1000, .limit = 6};
    prune_to_the_end(f, failed, 10, 6);
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_messages"), 40);
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_workflow_runs"), 40);
    run(f, "UPDATE pgqrs_workflow_runs SET status = 'CANCELLED'");
    prune_to_the_end(f, ended, 20, 8);
    prune_to_the_end(f, failed, 20, 8);
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_workflow_runs"), 0);
}

static void prune_over_several_queues(void **state)
{
    struct admin *f = *state;
    int64_t other = 0;
    suite_ok(f, pgqrs_store_queue_create(f->store, "other", &other, &f->err));
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload, archived_at) SELECT 1 + i % 2, '1',"
           " now() - interval '1 h' + i % 7 * interval '1 s' FROM generate_series(1, 50) i;"
           " INSERT INTO pgqrs_messages (queue_id, payload, archived_at)"
           " VALUES (1, '1', now()), (2, '1', now())");
    const struct pgqrs_prune prune = {.what = PGQRS_PRUNE_ENDED, .age_ms = 600000, .limit = 7};
    prune_to_the_end(f, prune, 50, 8);
}

/* ---- how much one call looks at ---- */

/* A row that was locked or changed has an xmax, or is new. */
static int64_t touched(struct admin *f)
{
    return number(f, "SELECT count(*) FROM pgqrs_messages WHERE xmax <> 0 OR payload <> '1'"
                     " OR read_ct <> 7 OR vt > now() - interval '10 s'");
}

static void a_step_has_a_limit(void **state)
{
    struct admin *f = *state;
    run(f, "UPDATE pgqrs_workers SET heartbeat_at = now() - interval '1 h', pgqrsd_instance = 'i'");
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload, read_ct, vt, consumer_worker_id,"
           " archived_at) SELECT 1, '1', 7, now() - interval '1 h',"
           " CASE WHEN i % 4 = 0 THEN 1 + i % 3 END,"
           " CASE WHEN i % 4 IN (1, 2) THEN now() - interval '1 h' END"
           " FROM generate_series(1, 8000) i");
    struct pgqrs_prune prune = {.what = PGQRS_PRUNE_ENDED, .age_ms = 1000, .limit = 10};
    assert_int_equal(pgqrs_store_prune(f->store, &prune, &f->err), 10);
    assert_int_equal(touched(f), 0);
    assert_int_equal(pgqrs_store_queue_purge(f->store, 1, PGQRS_PURGE_PENDING, 10, &f->err), 10);
    assert_int_equal(touched(f), 0);
    const struct pgqrs_reap reap = {.stale_ms = 1000, .limit = 10};
    assert_int_equal(pgqrs_store_reap(f->store, &reap, &f->err), 10);
    assert_int_equal(touched(f), 10);
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_workers WHERE status = 'stopped'"), 0);
    assert_int_equal(pgqrs_store_bury(f->store, 1, 7, &f->err), 1000);
    assert_int_equal(touched(f), 1010);
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_messages"), 7980);
}

static void counts_stop(void **state)
{
    struct admin *f = *state;
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload, vt, enqueued_at)"
           " SELECT 1, '1', now() + (i - 3000) * interval '1 min', now() - interval '1 h'"
           " + i * interval '1 s' FROM generate_series(1, 5000) i;"
           " INSERT INTO pgqrs_messages (queue_id, payload, consumer_worker_id, vt, enqueued_at)"
           " SELECT 1, '1', 1, now() + interval '1 s', now() - interval '1 h'"
           " FROM generate_series(1, 400);"
           " INSERT INTO pgqrs_messages (queue_id, payload, archived_at, enqueued_at,"
           " pgqrsd_outcome) SELECT 1, '1', now(), now() - interval '1 d',"
           " CASE WHEN i <= 300 THEN 'failed' END FROM generate_series(1, 1500) i");
    struct pgqrs_queue_metrics all;
    suite_ok(f, pgqrs_store_queue_metrics(f->store, 1, 0, &all, &f->err));
    assert_int_equal(all.pending, 5000);
    assert_int_equal(all.ready, 3000);
    assert_int_equal(all.leased, 400);
    assert_int_equal(all.archived, 1500);
    assert_int_equal(all.failed, 300);
    assert_int_equal(all.total, 6900);
    int64_t other = 0;
    suite_ok(f, pgqrs_store_queue_create(f->store, "other", &other, &f->err));
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload, consumer_worker_id, archived_at,"
           " enqueued_at, pgqrsd_outcome) SELECT 2, '1', CASE WHEN i % 3 = 0 THEN 1 END,"
           " CASE WHEN i % 3 = 1 THEN now() END, now() - interval '30 min',"
           " CASE WHEN i % 3 = 1 THEN 'failed' END FROM generate_series(1, 450) i");
    for (int64_t queue = 0; queue < 2; queue++) {
        struct pgqrs_queue_metrics m;
        suite_ok(f, pgqrs_store_queue_metrics(f->store, queue, 100, &m, &f->err));
        assert_int_equal(m.pending, 100);
        assert_int_equal(m.ready, 100);
        assert_int_equal(m.leased, 100);
        assert_int_equal(m.archived, 100);
        assert_int_equal(m.failed, 100);
        assert_int_equal(m.total, 300);
        assert_int_equal(m.oldest_pending_us, all.oldest_pending_us);
        assert_int_equal(m.newest_us, all.newest_us);
        assert_int_equal(m.next_due_us, all.next_due_us);
        assert_true(m.now_us >= all.now_us);
    }
    struct pgqrs_queue_metrics none;
    suite_ok(f, pgqrs_store_queue_metrics(f->store, 99, 100, &none, &f->err));
    assert_int_equal(none.total + none.oldest_pending_us + none.newest_us + none.next_due_us, 0);
}

/* ---- listing ---- */

/* Follows the pages to the end; returns how many messages there were, each below the one before. */
static size_t list_all(struct admin *f, struct pgqrs_message_filter filter, int pages_max)
{
    size_t count = 0;
    int64_t last = INT64_MAX;
    int pages = 0;
    do {
        struct pgqrs_message_list list;
        assert_true(++pages <= pages_max);
        suite_ok(f, pgqrs_store_message_list(f->store, &filter, &list, &f->err));
        assert_true(list.count <= filter.limit);
        for (size_t i = 0; i < list.count; i++) {
            assert_true(list.items[i].id < last);
            last = list.items[i].id;
        }
        assert_true(list.next_before_id == 0 || list.next_before_id <= last);
        count += list.count;
        filter.before_id = list.next_before_id;
        pgqrs_message_list_fini(&list);
    } while (filter.before_id != 0);
    return count;
}

/* What is wanted is far down, below what one call looks at, and rows are missing in between. */
static void pages_across_a_gap(void **state)
{
    struct admin *f = *state;
    int64_t other = 0;
    suite_ok(f, pgqrs_store_queue_create(f->store, "other", &other, &f->err));
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload, pgqrsd_unique_key) SELECT"
           " CASE WHEN i % 12000 < 3 THEN 2 ELSE 1 END, '1', CASE WHEN i = 24002 THEN 'key' END"
           " FROM generate_series(1, 30000) i;"
           " DELETE FROM pgqrs_messages WHERE id BETWEEN 15000 AND 19999;"
           " UPDATE pgqrs_messages SET archived_at = now() WHERE id = 1");
    const struct pgqrs_message_filter rare = {.queue_id = 2, .limit = 5};
    assert_int_equal(list_all(f, rare, 5), 8);
    const struct pgqrs_message_filter archived = {.state = PGQRS_STATE_ARCHIVED, .limit = 5};
    assert_int_equal(list_all(f, archived, 3), 1);
    const struct pgqrs_message_filter keyed = {.unique_key = "key", .limit = 5};
    assert_int_equal(list_all(f, keyed, 3), 1);
    const struct pgqrs_message_filter held = {
        .unique_key = "key", .state = PGQRS_STATE_READY, .limit = 5};
    assert_int_equal(list_all(f, held, 1), 1);
    const struct pgqrs_message_filter all = {.limit = 1000};
    assert_int_equal(list_all(f, all, 26), 25000);
    const struct pgqrs_message_filter one = {.before_id = 25, .limit = 24};
    assert_int_equal(list_all(f, one, 1), 24);
}

/* The dead letters of all queues, each of which has its own part of what one call looks at. */
static void dead_letters_of_many_queues(void **state)
{
    struct admin *f = *state;
    run(f, "INSERT INTO pgqrs_queues (queue_name) SELECT 'q' || i FROM generate_series(2, 2000) i;"
           " INSERT INTO pgqrs_messages (queue_id, payload, archived_at, pgqrsd_outcome)"
           " SELECT CASE WHEN i <= 40 THEN 1 ELSE 2 + i % 3 END, '1', now(),"
           " CASE WHEN i % 4 = 0 THEN 'done' ELSE 'failed' END FROM generate_series(1, 80) i");
    struct pgqrs_message_filter all = {.outcome = "failed", .limit = 7};
    assert_int_equal(list_all(f, all, 40), 60);
    all.limit = 30;
    assert_int_equal(list_all(f, all, 40), 60);
    const struct pgqrs_message_filter first = {.outcome = "failed", .queue_id = 1, .limit = 30};
    assert_int_equal(list_all(f, first, 1), 30);
    /* A pgqrs client replays one, and knows nothing of outcomes. */
    run(f, "UPDATE pgqrs_messages SET archived_at = NULL WHERE id = 1");
    assert_int_equal(list_all(f, first, 1), 29);
    struct pgqrs_message m;
    suite_ok(f, pgqrs_store_message_get(f->store, 1, &m, &f->err));
    assert_null(m.outcome);
    pgqrs_message_fini(&m);
}

static void leases_of_a_holder(void **state)
{
    struct admin *f = *state;
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload, consumer_worker_id, archived_at)"
           " SELECT 1, '1', 1 + i % 2, CASE WHEN i % 3 = 0 THEN now() END"
           " FROM generate_series(1, 60) i;"
           " INSERT INTO pgqrs_messages (queue_id, payload) SELECT 1, '1'"
           " FROM generate_series(1, 20000)");
    const struct pgqrs_message_filter leased = {.state = PGQRS_STATE_LEASED, .limit = 7};
    assert_int_equal(list_all(f, leased, 6), 40);
    struct pgqrs_message_filter held = leased;
    held.consumer_worker_id = 2;
    assert_int_equal(list_all(f, held, 3), 20);
    held.state = PGQRS_STATE_NONE;
    assert_int_equal(list_all(f, held, 7), 30);
}

/* What is made ready without an insertion is told to those who sleep all the same. */
static void sleepers_are_woken(void **state)
{
    struct admin *f = *state;
    run(f, "CREATE SEQUENCE told;"
           " CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS"
           " 'BEGIN PERFORM nextval(''told''); RETURN NULL; END';"
           " INSERT INTO pgqrs_messages (queue_id, payload, consumer_worker_id, archived_at)"
           " VALUES (1, '1', 1, NULL), (1, '1', 2, NULL), (1, '1', 2, now()), (1, '1', NULL, NULL);"
           " CREATE TRIGGER tell AFTER INSERT ON pgqrs_messages FOR EACH STATEMENT"
           " EXECUTE FUNCTION tell()");
    enum pgqrs_acted acted;
    const int64_t ids[] = {1, 3, 4};
    static const char told[] = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM told";
    assert_int_equal(pgqrs_store_message_act(f->store, PGQRS_ACT_FREE, &ids[0], 1, &acted, &f->err),
                     1);
    assert_int_equal(number(f, told), 1);
    assert_int_equal(
        pgqrs_store_message_act(f->store, PGQRS_ACT_REPLAY, &ids[1], 1, &acted, &f->err), 1);
    assert_int_equal(number(f, told), 2);
    suite_ok(f, pgqrs_store_worker_move(f->store, 2, PGQRS_MOVE_STOP, &f->err));
    assert_int_equal(number(f, told), 3);
    suite_ok(f, pgqrs_store_queue_pause(f->store, 1, false, &f->err));
    assert_int_equal(number(f, told), 4);
    assert_int_equal(
        pgqrs_store_message_act(f->store, PGQRS_ACT_CANCEL, &ids[2], 1, &acted, &f->err), 1);
    assert_int_equal(number(f, told), 4);
}

/* What somebody else has put off for ever is waiting, and in nobody's way. */
static void times_without_end(void **state)
{
    struct admin *f = *state;
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload, vt, archived_at) VALUES"
           " (1, '1', 'infinity', NULL), (1, '1', '-infinity', NULL), (1, '1', now(), 'infinity')");
    struct pgqrs_message_list list;
    const struct pgqrs_message_filter all = {.limit = 10};
    suite_ok(f, pgqrs_store_message_list(f->store, &all, &list, &f->err));
    assert_int_equal(list.count, 3);
    assert_int_equal(list.items[0].state, PGQRS_STATE_ARCHIVED);
    assert_int_equal(list.items[1].state, PGQRS_STATE_READY);
    assert_int_equal(list.items[2].state, PGQRS_STATE_DELAYED);
    pgqrs_message_list_fini(&list);
    struct pgqrs_queue_metrics m;
    suite_ok(f, pgqrs_store_queue_metrics(f->store, 1, 100, &m, &f->err));
    assert_int_equal(m.pending, 2);
    assert_int_equal(m.ready, 1);
    assert_int_equal(m.next_due_us, 0);
    struct pgqrs_prune prune = {.what = PGQRS_PRUNE_ENDED, .limit = 10};
    assert_int_equal(pgqrs_store_prune(f->store, &prune, &f->err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(act_waits_for_others),
        CASE(act_in_a_deadlock),
        CASE(act_locks_upwards),
        CASE(replay_while_its_key_is_taken),
        CASE(move_waits_for_others),
        CASE(move_names_both_states),
        CASE(stop_while_a_lease_is_settled),
        CASE(worker_with_archived_messages_stays),
        CASE(queue_stays_for_a_late_message),
        CASE(queue_names_all_that_is_in_the_way),
        CASE(workers_of_a_deleted_queue),
        CASE(purge_takes_the_runs_along),
        CASE(locked_rows),
        CASE(two_purges),
        CASE(prune_steps_over_unfinished_runs),
        CASE(prune_over_several_queues),
        CASE(a_step_has_a_limit),
        CASE(counts_stop),
        CASE(pages_across_a_gap),
        CASE(dead_letters_of_many_queues),
        CASE(leases_of_a_holder),
        CASE(sleepers_are_woken),
        CASE(times_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
