/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/pg_rig.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/postgres/pg_conn.h"
#include "store/postgres/pg_flow.h"
#include "store/store_borrow.h"
#include "store/workflow.h"

/*
 * Workflows on PostgreSQL while others are at them: what the common suite, which has one connection
 * at a time, can not have. And which statements of handlers are carried out.
 */

struct rig {
    struct pg_rig *pg;
    struct pgqrs_store *store;
    int64_t workflow, queue, worker;
    struct pgqrs_lease_ref lease; /* of message 1, whose run has begun */
    struct pgqrs_error err;
};

static void run(struct rig *f, const char *sql)
{
    pg_rig_sql(f->pg, "%s", sql);
}

static int64_t number(struct rig *f, const char *sql)
{
    return pg_rig_number(f->pg, "%s", sql);
}

static void assert_text(struct rig *f, const char *sql, const char *expected)
{
    assert_string_equal(pg_rig_text(f->pg, "%s", sql), expected);
}

#define STATUS "SELECT status FROM pgqrs_workflow_runs WHERE message_id = 1"
#define DUE "SELECT (vt <= now())::int FROM pgqrs_messages WHERE id = 1"

static struct pgqrs_lease_ref trigger_and_lease(struct rig *f)
{
    const struct pgqrs_enqueue item = {.payload = pgqrs_bytes_from("1")};
    const struct pgqrs_want want = {.queue_id = f->queue,
                                    .worker_id = f->worker,
                                    .count = 1,
                                    .max_attempts = 5,
                                    .lease_ms = 60000};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    int64_t id = 0;
    suite_ok(f, pgqrs_store_workflow_trigger(f->store, "flow", &item, &id, NULL, &f->err));
    suite_ok(f, pgqrs_store_exchange(f->store, &x, &f->err));
    assert_int_equal(x.lease_count, 1);
    const struct pgqrs_lease_ref lease = {id, f->worker, x.leases[0].attempt};
    pgqrs_exchange_fini(&x);
    return lease;
}

static struct pgqrs_run_open open_run(struct rig *f, struct pgqrs_store *store,
                                      struct pgqrs_lease_ref lease)
{
    struct pgqrs_run_open open = {.lease = lease};
    int64_t now;
    suite_ok(f, pgqrs_store_run_open(store, f->workflow, &open, 1, &now, &f->err));
    return open;
}

static int setup(void **state)
{
    struct rig *f = calloc(1, sizeof *f);
    assert_non_null(f);
    const struct pgqrs_worker_row row = {.name = "w", .instance = "run", .generation = 1, .pid = 1};
    f->pg = pg_rig_create();
    f->store = pg_rig_store(f->pg, NULL);
    suite_ok(f, pgqrs_store_workflow_create(f->store, "flow", &f->workflow, NULL, &f->err));
    suite_ok(f, pgqrs_store_queue_find(f->store, "flow", &f->queue, &f->err));
    suite_ok(f, pgqrs_store_worker_register(f->store, &row, &f->worker, &f->err));
    f->lease = trigger_and_lease(f);
    assert_int_equal(f->lease.message_id, 1);
    struct pgqrs_run_open open = open_run(f, f->store, f->lease);
    assert_true(open.held);
    pgqrs_run_open_fini(&open);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct rig *f = *state;
    pgqrs_store_close(&f->store);
    pg_rig_destroy(f->pg);
    free(f);
    return 0;
}

/* As with a transaction pooler in between: no statement keeps its name, no setting lasts. */
static int setup_pooled(void **state)
{
    (void)setup(state);
    struct rig *f = *state;
    pg_of(f->store)->pooled = true;
    return 0;
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
#define CASE_POOLED(function) cmocka_unit_test_setup_teardown(function, setup_pooled, teardown)

/* ---- a call in a thread, which the other program's transaction holds up ---- */

struct call {
    struct rig *f;
    int (*fn)(struct call *call);
    struct pgqrs_flow item;
    struct pgqrs_run_open open;
    bool flag;
    enum pgqrs_run_status status;
    int rc;
    struct pgqrs_error err;
    pthread_t thread;
};

static void *call_main(void *arg)
{
    struct call *call = arg;
    call->rc = call->fn(call);
    return NULL;
}

static void start_blocked(struct rig *f, struct call *call, int (*fn)(struct call *call))
{
    char sql[200];
    (void)snprintf(sql, sizeof sql,
                   "SELECT count(*) FROM pg_stat_activity WHERE %d = ANY(pg_blocking_pids(pid))",
                   PQbackendPID(pg_rig_raw(f->pg)));
    call->f = f;
    call->fn = fn;
    assert_int_equal(pthread_create(&call->thread, NULL, call_main, call), 0);
    pg_rig_await(f->pg, 1, sql);
}

/* The other program commits, and the call ends well. */
static void finish(struct rig *f, struct call *call)
{
    run(f, "COMMIT");
    assert_int_equal(pthread_join(call->thread, NULL), 0);
    if (call->rc < 0) {
        fail_msg("%s", call->err.text);
    }
}

static int do_flow(struct call *call)
{
    return pgqrs_store_flow(call->f->store, &call->item, 1, &call->err);
}

static int do_cancel(struct call *call)
{
    return pgqrs_store_run_cancel(call->f->store, 1, &call->status, &call->err);
}

static int do_send(struct call *call)
{
    return pgqrs_store_event_send(call->f->store, 1, "paid", pgqrs_bytes_from("7"), &call->flag,
                                  &call->err);
}

static int do_open(struct call *call)
{
    int64_t now;
    return pgqrs_store_run_open(call->f->store, call->f->workflow, &call->open, 1, &now,
                                &call->err);
}

/* ---- items ---- */

static struct pgqrs_flow suspension(struct rig *f, const char *event)
{
    return (struct pgqrs_flow){.lease = f->lease,
                               .what = PGQRS_FLOW_SUSPEND,
                               .name = event,
                               .delay_ms = -1,
                               .paused = true,
                               .error = pgqrs_bytes_from("{\"message\": \"waits\"}")};
}

static struct pgqrs_flow success(struct rig *f)
{
    return (struct pgqrs_flow){
        .lease = f->lease, .what = PGQRS_FLOW_SUCCESS, .output = pgqrs_bytes_from("1")};
}

static const struct pgqrs_step_put one_step = {
    .name = "a", .status = PGQRS_STEP_SUCCESS, .output = {.data = "1", .len = 1}};

static struct pgqrs_flow step(struct rig *f)
{
    return (struct pgqrs_flow){
        .lease = f->lease, .what = PGQRS_FLOW_STEP, .steps = &one_step, .step_count = 1};
}

/* What a suspension does, by the hands of another broker that has not committed. */
static const char locks[] = "BEGIN; SELECT 1 FROM pgqrs_messages WHERE id = 1 FOR NO KEY UPDATE";
static const char suspends[] =
    "UPDATE pgqrs_workflow_runs SET status = 'PAUSED', pgqrsd_event = 'paid' WHERE message_id = 1;"
    " UPDATE pgqrs_messages SET consumer_worker_id = NULL, vt = '9999-12-31', read_ct = 0"
    " WHERE id = 1";

/* ---- races ---- */

static void event_before_the_suspension(void **state)
{
    struct rig *f = *state;
    struct call call = {.item = suspension(f, "paid")};
    run(f, "BEGIN; SELECT pgqrsd_send_event(1, 'paid', '7')");
    start_blocked(f, &call, do_flow);
    finish(f, &call);
    assert_int_equal(call.item.settled_out, PGQRS_SETTLED_YES);
    assert_int_equal(call.item.status_out, PGQRS_RUN_RUNNING);
    assert_text(f, STATUS, "RUNNING");
    assert_int_equal(number(f, DUE), 1);
}

static void event_behind_the_suspension(void **state)
{
    struct rig *f = *state;
    struct call call = {0};
    run(f, locks);
    start_blocked(f, &call, do_send);
    run(f, suspends);
    finish(f, &call);
    assert_true(call.flag);
    assert_text(f, STATUS, "PAUSED");
    assert_int_equal(number(f, DUE), 1);
}

/* A client of pgqrs cancels: it changes the run alone. */
static const char cancels[] =
    "BEGIN; UPDATE pgqrs_workflow_runs SET status = 'CANCELLING' WHERE message_id = 1";

static void cancelled_before_the_suspension(void **state)
{
    struct rig *f = *state;
    struct call call = {.item = suspension(f, NULL)};
    run(f, cancels);
    start_blocked(f, &call, do_flow);
    finish(f, &call);
    assert_int_equal(call.item.settled_out, PGQRS_SETTLED_YES);
    assert_int_equal(call.item.status_out, PGQRS_RUN_CANCELLING);
    assert_text(f, STATUS, "CANCELLING");
    assert_int_equal(number(f, DUE), 1);
}

static void cancelled_behind_the_suspension(void **state)
{
    struct rig *f = *state;
    struct call call = {0};
    run(f, locks);
    start_blocked(f, &call, do_cancel);
    run(f, suspends);
    finish(f, &call);
    assert_int_equal(call.status, PGQRS_RUN_CANCELLING);
    assert_int_equal(number(f, DUE), 1);
}

static void cancelled_while_it_waits(void **state)
{
    struct rig *f = *state;
    struct call call = {.item = suspension(f, NULL)};
    suite_ok(f, pgqrs_store_flow(f->store, &call.item, 1, &f->err));
    pgqrs_flow_fini(&call.item);
    assert_int_equal(number(f, DUE), 0);
    run(f, "UPDATE pgqrs_workflow_runs SET status = 'CANCELLING' WHERE message_id = 1");
    assert_int_equal(number(f, DUE), 1);
}

static void cancelled_before_success(void **state)
{
    struct rig *f = *state;
    struct call call = {.item = success(f)};
    run(f, cancels);
    start_blocked(f, &call, do_flow);
    finish(f, &call);
    assert_int_equal(call.item.settled_out, PGQRS_SETTLED_YES);
    assert_int_equal(call.item.status_out, PGQRS_RUN_CANCELLED);
    assert_text(f, "SELECT pgqrsd_outcome FROM pgqrs_messages WHERE id = 1", "cancelled");
    assert_text(f, "SELECT output FROM pgqrs_workflow_runs WHERE message_id = 1", "");
}

static void cancelled_behind_success(void **state)
{
    struct rig *f = *state;
    struct call call = {0};
    run(f, locks);
    start_blocked(f, &call, do_cancel);
    run(f, "UPDATE pgqrs_workflow_runs SET status = 'SUCCESS' WHERE message_id = 1;"
           " UPDATE pgqrs_messages SET archived_at = now(), pgqrsd_outcome = 'done' WHERE id = 1");
    finish(f, &call);
    assert_int_equal(call.status, PGQRS_RUN_SUCCESS);
    assert_text(f, STATUS, "SUCCESS");
}

/* The lease is taken away while a step comes in: nothing of it is stored. */
static void reaped_before_the_step(void **state)
{
    struct rig *f = *state;
    struct call call = {.item = step(f)};
    run(f, "BEGIN; UPDATE pgqrs_messages SET consumer_worker_id = NULL WHERE id = 1");
    start_blocked(f, &call, do_flow);
    finish(f, &call);
    assert_int_equal(call.item.settled_out, PGQRS_SETTLED_REFUSED);
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_workflow_steps"), 0);
}

/* A step that is being stored keeps whoever reaps away. */
static void reaped_behind_the_step(void **state)
{
    struct rig *f = *state;
    const struct pgqrs_reap how = {.stale_ms = 1000, .limit = 10};
    run(f, "UPDATE pgqrs_workers SET heartbeat_at = now() - interval '1 day';"
           " UPDATE pgqrs_messages SET vt = now() - interval '1 hour' WHERE id = 1;"
           " BEGIN; SELECT 1 FROM pgqrs_messages WHERE id = 1 FOR NO KEY UPDATE");
    assert_int_equal(pgqrs_store_reap(f->store, &how, &f->err), 0);
    run(f, "COMMIT");
    assert_int_equal(pgqrs_store_reap(f->store, &how, &f->err), 1);
}

/* A client of pgqrs makes the run at the same time. */
static void two_begin_a_run(void **state)
{
    struct rig *f = *state;
    struct call call = {.open = {.lease = trigger_and_lease(f)}};
    run(f, "BEGIN; INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status)"
           " VALUES (1, 2, 'QUEUED')");
    start_blocked(f, &call, do_open);
    finish(f, &call);
    assert_true(call.open.held);
    assert_int_equal(call.open.status, PGQRS_RUN_RUNNING);
    assert_int_equal(call.open.run_id,
                     number(f, "SELECT id FROM pgqrs_workflow_runs WHERE message_id = 2"));
    pgqrs_run_open_fini(&call.open);
}

/* The lease has gone to another broker's worker meanwhile: it has the run. */
static void two_brokers_open_a_run(void **state)
{
    struct rig *f = *state;
    struct pgqrs_store *other = NULL;
    suite_ok(f, pg_rig_open(f->pg, NULL, &other));
    struct pgqrs_lease_ref late = f->lease;
    f->lease.attempt++;
    run(f, "UPDATE pgqrs_messages SET read_ct = read_ct + 1 WHERE id = 1");
    struct pgqrs_run_open mine = open_run(f, other, f->lease);
    struct pgqrs_run_open theirs = open_run(f, f->store, late);
    assert_true(mine.held);
    assert_false(theirs.held);
    pgqrs_run_open_fini(&mine);
    pgqrs_run_open_fini(&theirs);
    struct pgqrs_flow item = step(f);
    item.lease = late;
    suite_ok(f, pgqrs_store_flow(f->store, &item, 1, &f->err));
    assert_int_equal(item.settled_out, PGQRS_SETTLED_REFUSED);
    pgqrs_flow_fini(&item);
    pgqrs_store_close(&other);
}

/* ---- groups ---- */

/* Many workers' steps, whatever their order, are one commit. */
static void steps_of_many_are_one_commit(void **state)
{
    enum { COUNT = 50 };
    struct rig *f = *state;
    struct pgqrs_flow items[COUNT];
    for (int i = 0; i < COUNT; i++) {
        f->lease = trigger_and_lease(f);
        struct pgqrs_run_open open = open_run(f, f->store, f->lease);
        pgqrs_run_open_fini(&open);
        items[(i * 7) % COUNT] = step(f);
    }
    items[3].what = PGQRS_FLOW_SUCCESS;
    items[4] = suspension(f, "paid");
    items[4].lease = items[5].lease;
    items[5] = step(f);
    items[5].lease.message_id = 1;
    suite_ok(f, pgqrs_store_flow(f->store, items, COUNT, &f->err));
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(items[i].settled_out, PGQRS_SETTLED_YES);
        assert_null(items[i].output_out);
    }
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_workflow_steps"), COUNT - 1);
    assert_int_equal(number(f, "SELECT count(DISTINCT xmin::text) FROM pgqrs_workflow_steps"), 1);
}

/* Two groups that end children of two parents in opposite orders do not deadlock: parents are
 * locked before anything is told to them. */
static void parents_are_locked_in_order(void **state)
{
    struct rig *f = *state;
    struct pgqrs_lease_ref parent = f->lease;
    struct call call = {0};
    f->lease = trigger_and_lease(f);
    struct pgqrs_run_open open = open_run(f, f->store, f->lease);
    pgqrs_run_open_fini(&open);
    pg_rig_sql(f->pg, "UPDATE pgqrs_messages SET pgqrsd_parent_id = %lld WHERE id = 2",
               (long long)parent.message_id);
    call.item = success(f);
    run(f, "BEGIN; SELECT 1 FROM pgqrs_messages WHERE id = 1 FOR NO KEY UPDATE");
    start_blocked(f, &call, do_flow);
    /* It waits for the parent, which is first, and has not taken the child yet. */
    run(f, "SELECT 1 FROM pgqrs_messages WHERE id = 2 FOR NO KEY UPDATE NOWAIT");
    finish(f, &call);
    assert_int_equal(call.item.settled_out, PGQRS_SETTLED_YES);
    assert_text(f,
                "SELECT payload ->> 'status' FROM pgqrsd_workflow_events WHERE message_id = 1"
                " AND name = 'child:2'",
                "SUCCESS");
}

/* ---- what other programs do to messages ---- */

/* A child of which no worker has begun a run tells its parent all the same. */
static void children_that_never_began(void **state)
{
    struct rig *f = *state;
    run(f, "INSERT INTO pgqrs_messages (queue_id, payload, pgqrsd_parent_id, pgqrsd_flow)"
           " SELECT queue_id, '1', 1, true FROM pgqrs_messages, generate_series(1, 3)"
           " WHERE id = 1");
    run(f, "SELECT pgqrs_cancel(2); DELETE FROM pgqrs_messages WHERE id = 3;"
           " UPDATE pgqrs_messages SET archived_at = now(), pgqrsd_outcome = 'done',"
           " pgqrsd_result = '\"\\u0000\"' WHERE id = 4");
    assert_text(f,
                "SELECT string_agg(name || ' ' || (payload ->> 'status'), ', ' ORDER BY name)"
                " FROM pgqrsd_workflow_events WHERE message_id = 1",
                "child:2 CANCELLED, child:3 CANCELLED, child:4 SUCCESS");
}

/* A client of pgqrs archives the message of a run that we began. */
static void archived_by_others(void **state)
{
    struct rig *f = *state;
    run(f, "INSERT INTO pgqrsd_workflow_state (message_id, key, value) VALUES (1, 'k', '1')");
    run(f, "UPDATE pgqrs_messages SET archived_at = now() WHERE id = 1");
    assert_text(f, STATUS, "ERROR");
    run(f, "DELETE FROM pgqrs_workflow_runs; DELETE FROM pgqrs_messages");
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrsd_workflow_state"), 0);
}

/* An event is a part of the transaction of whoever lent the connection. */
static void sent_in_a_transaction(void **state)
{
    struct rig *f = *state;
    PGconn *conn = pg_rig_connect(f->pg);
    struct pgqrs_store *lent = NULL;
    suite_ok(f, pgqrs_store_borrow_postgres(conn, f->pg->schema, &lent, &f->err));
    for (int i = 0; i < 2; i++) {
        bool first = false;
        PQclear(PQexec(conn, "BEGIN"));
        suite_ok(f,
                 pgqrs_store_event_send(lent, 1, "paid", pgqrs_bytes_from("7"), &first, &f->err));
        assert_true(first);
        PQclear(PQexec(conn, i == 0 ? "ROLLBACK" : "COMMIT"));
        assert_int_equal(number(f, "SELECT count(*) FROM pgqrsd_workflow_events"), i);
    }
    pgqrs_store_close(&lent);
    PQfinish(conn);
}

/* ---- statements of handlers ---- */

static void words_tell_what_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        bool may;
    } cases[] = {
        {"INSERT INTO t VALUES ($1, $2)", true},
        {"WITH a AS (UPDATE t SET x = 1 RETURNING *) SELECT * FROM a", true},
        {"SELECT pgqrs_enqueue('mail', '{}')", true},
        {"SELECT 'pgqrs_messages', $$pgqrs_messages$$, $a$ $$ pgqrs_messages $a$, $1", true},
        {"SELECT E'\\' pgqrs_messages', 'it''s pgqrs_messages'", true},
        {"SELECT 1 -- pgqrs_messages", true},
        {"SELECT /* /* */ pgqrs_messages */ 1", true},
        {"SELECT a1pgqrs, my_pgqrs_messages FROM t", true},
        {"", false},
        {" -- nothing", false},
        {"SELECT /* 1", false},
        {"SELECT 'a", false},
        {"commit", false},
        {" /* a */ -- b\n COMMIT", false},
        {"Set search_path = x", false},
        {"DO $$ begin end $$", false},
        {"COPY t TO STDOUT", false},
        {"EXECUTE archive", false},
        {"(SELECT 1)", true},
        {"CREATE TABLE t (id int)", false},
        {"DELETE FROM pgqrs_messages", false},
        {"DELETE FROM public.PGQRS_Messages", false},
        {"DELETE FROM \"pgqrs_messages\"", false},
        {"DELETE FROM U&\"\\0070gqrs_messages\"", false},
        {"SELECT '''' , x FROM pgqrsd_schema", false},
        {"SELECT $1$ || pgqrs_messages || $1", false},
        {"SELECT set_config('search_path', '', false)", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char why[200] = "";
        if (pgqrs_pg_guest_may(cases[i].sql, why, sizeof why) != cases[i].may ||
            (*why == 0) != cases[i].may) {
            fail_msg("%s: found \"%s\"", cases[i].sql, why);
        }
    }
}

/* Stores a step with these statements. Returns why it failed, "" when it did not. */
static const char *with_statements(struct rig *f, const char *first, const char *second)
{
    static char why[300];
    const struct pgqrs_step_sql sqls[] = {{.text = first}, {.text = second}};
    struct pgqrs_flow item = step(f);
    item.sqls = sqls;
    item.sql_count = 2;
    suite_ok(f, pgqrs_store_flow(f->store, &item, 1, &f->err));
    (void)snprintf(why, sizeof why, "%s", item.failed_out ? item.error_out : "");
    pgqrs_flow_fini(&item);
    return why;
}

static void what_a_commit_finds_fails_the_step(void **state)
{
    struct rig *f = *state;
    run(f, "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE part (id int REFERENCES parent"
           " DEFERRABLE INITIALLY DEFERRED)");
    const char *why = with_statements(f, "INSERT INTO part VALUES (1)", "SELECT 1");
    assert_non_null(strstr(why, "SQLSTATE 23503"));
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_workflow_steps"), 0);
    assert_string_equal(
        with_statements(f, "INSERT INTO part VALUES (1)", "INSERT INTO parent VALUES (1)"), "");
    assert_int_equal(number(f, "SELECT count(*) FROM part"), 1);
    assert_int_equal(number(f, "SELECT count(*) FROM pgqrs_workflow_steps"), 1);
}

/* The connection is as it was for whoever comes next. */
static void statements_leave_nothing_behind(void **state)
{
    struct rig *f = *state;
    const char *why = with_statements(f, "SELECT 1", "SELECT 1/0");
    assert_non_null(strstr(why, "SQLSTATE 22012"));
    run(f, "CREATE TABLE made (id int)");
    why = with_statements(f, "INSERT INTO made VALUES (1)", "CALL nothing()");
    assert_non_null(strstr(why, "CALL"));
    assert_int_equal(number(f, "SELECT count(*) FROM made"), 0);
    assert_string_equal(with_statements(f, "INSERT INTO made VALUES (1)", "SELECT 1"), "");
    assert_int_equal(number(f, "SELECT count(*) FROM made"), 1);
    struct pgqrs_flow item = success(f);
    suite_ok(f, pgqrs_store_flow(f->store, &item, 1, &f->err));
    assert_int_equal(item.settled_out, PGQRS_SETTLED_YES);
    pgqrs_flow_fini(&item);
}

static void *commit_deadlock(void *arg)
{
    struct rig *f = arg;
    run(f, "UPDATE t SET x = 2 WHERE id = 1; COMMIT");
    return NULL;
}

/* The victim of a deadlock is tried again. */
static void a_deadlock_is_tried_again(void **state)
{
    struct rig *f = *state;
    run(f, "CREATE TABLE t (id int PRIMARY KEY, x int); INSERT INTO t VALUES (1, 0), (2, 0)");
    run(f, "SET deadlock_timeout = '1h'");
    run(f, "BEGIN; UPDATE t SET x = 2 WHERE id = 2");
    pthread_t thread;
    struct call call = {.item = step(f)};
    const struct pgqrs_step_sql sqls[] = {{.text = "UPDATE t SET x = x + 1 WHERE id = 1"},
                                          {.text = "UPDATE t SET x = x + 1 WHERE id = 2"}};
    call.item.sqls = sqls;
    call.item.sql_count = 2;
    start_blocked(f, &call, do_flow);
    assert_int_equal(pthread_create(&thread, NULL, commit_deadlock, f), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pthread_join(call.thread, NULL), 0);
    if (call.rc < 0 || call.item.failed_out) {
        fail_msg("%s", call.rc < 0 ? call.err.text : call.item.error_out);
    }
    assert_int_equal(number(f, "SELECT sum(x) FROM t"), 6);
    pgqrs_flow_fini(&call.item);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        CASE(event_before_the_suspension),
        CASE(event_behind_the_suspension),
        CASE(cancelled_before_the_suspension),
        CASE(cancelled_behind_the_suspension),
        CASE(cancelled_while_it_waits),
        CASE(cancelled_before_success),
        CASE(cancelled_behind_success),
        CASE(reaped_before_the_step),
        CASE(reaped_behind_the_step),
        CASE(two_begin_a_run),
        CASE(two_brokers_open_a_run),
        CASE(steps_of_many_are_one_commit),
        CASE(parents_are_locked_in_order),
        CASE(children_that_never_began),
        CASE(archived_by_others),
        CASE(sent_in_a_transaction),
        CASE_POOLED(event_before_the_suspension),
        CASE_POOLED(steps_of_many_are_one_commit),
        CASE_POOLED(parents_are_locked_in_order),
        CASE_POOLED(what_a_commit_finds_fails_the_step),
        CASE_POOLED(a_deadlock_is_tried_again),
        cmocka_unit_test(words_tell_what_is_refused),
        CASE(what_a_commit_finds_fails_the_step),
        CASE(statements_leave_nothing_behind),
        CASE(a_deadlock_is_tried_again),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
