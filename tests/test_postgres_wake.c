/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/pg_rig.h"

#include <poll.h>
#include <stdio.h>

/* Waking up on PostgreSQL: who sleeps is told of what others insert, who does not costs nobody a
 * notification. */

#define WAIT_MS 20000

static struct pgqrs_store *open_listener(struct pg_rig *rig)
{
    return pg_rig_store(rig, &(struct pgqrs_store_options){.wake = true});
}

/* Waits until woken says so; fails when it never does. */
static void await_hint(struct pgqrs_store *store)
{
    struct pollfd fd = {.fd = pgqrs_store_wake_fd(store), .events = POLLIN};
    int64_t give_up_ms = pgqrs_mono_ms() + WAIT_MS;
    while (!pgqrs_store_woken(store)) {
        int64_t left_ms = give_up_ms - pgqrs_mono_ms();
        if (left_ms <= 0 || poll(&fd, 1, (int)left_ms) < 0) {
            fail_msg("nothing was heard");
        }
    }
}

static bool holds_gate(struct pg_rig *rig)
{
    return pg_rig_number(rig, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                              " AND classid = 1885827428 AND mode = 'ExclusiveLock' AND granted"
                              " AND objid = 'pgqrs_messages'::regclass") > 0;
}

/* Steps the store until the gate is held, or is not. */
static void await_gate(struct pg_rig *rig, struct pgqrs_store *store, bool held)
{
    int64_t give_up_ms = pgqrs_mono_ms() + WAIT_MS;
    struct pollfd fd = {.fd = pgqrs_store_wake_fd(store), .events = POLLIN};
    while (holds_gate(rig) != held) {
        if (pgqrs_mono_ms() > give_up_ms) {
            fail_msg("gate: expected %d", held);
        }
        (void)poll(&fd, 1, 10);
        (void)pgqrs_store_woken(store);
    }
}

/* Asleep: the gate is held, and the look that this asks for was had. */
static void fall_asleep(struct pg_rig *rig, struct pgqrs_store *store)
{
    pgqrs_store_doze(store);
    await_gate(rig, store, true);
    while (pgqrs_store_woken(store)) {
    }
}

/* A listener that has slept before. */
static struct pgqrs_store *open_awake(struct pg_rig *rig)
{
    struct pgqrs_store *store = open_listener(rig);
    fall_asleep(rig, store);
    pgqrs_store_rouse(store);
    await_gate(rig, store, false);
    return store;
}

static void insert(struct pg_rig *rig)
{
    pg_rig_sql(rig, "INSERT INTO pgqrs_messages (queue_id, payload)"
                    " SELECT min(id), '{}' FROM pgqrs_queues");
}

static void make_queue(struct pg_rig *rig)
{
    pg_rig_sql(rig, "INSERT INTO pgqrs_queues (queue_name) VALUES ('q')");
}

/* ---- another one who listens ---- */

static PGconn *overhear(struct pg_rig *rig)
{
    char sql[64];
    PGconn *conn = pg_rig_connect(rig);
    (void)snprintf(sql, sizeof sql, "LISTEN pgqrsd_%s",
                   pg_rig_text(rig, "SELECT 'pgqrs_messages'::regclass::oid"));
    PQclear(PQexec(conn, sql));
    return conn;
}

/* Everything sent before this call has been received when the answer comes. */
static int count_notes(PGconn *conn)
{
    int count = 0;
    PGnotify *note;
    PQclear(PQexec(conn, "SELECT 1"));
    while ((note = PQnotifies(conn)) != NULL) {
        PQfreemem(note);
        count++;
    }
    return count;
}

/* ---- the cases ---- */

static void a_foreign_insert_wakes(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_listener(rig);
    make_queue(rig);
    int fd = pgqrs_store_wake_fd(store);
    assert_true(fd >= 0);
    for (int i = 0; i < 3; i++) {
        fall_asleep(rig, store);
        insert(rig);
        await_hint(store);
        pgqrs_store_rouse(store);
        await_gate(rig, store, false);
    }
    assert_int_equal(pgqrs_store_wake_fd(store), fd);
    pgqrs_store_close(&store);
}

static void functions_wake(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_listener(rig);
    make_queue(rig);
    fall_asleep(rig, store);
    pg_rig_sql(rig, "SELECT pgqrs_enqueue('q', '{}')");
    await_hint(store);
    pgqrs_store_close(&store);
}

static void nobody_notifies_while_nobody_sleeps(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_listener(rig);
    make_queue(rig);
    PGconn *other = overhear(rig);
    insert(rig); /* nobody has dozed yet */
    fall_asleep(rig, store);
    assert_int_equal(count_notes(other), 0);
    insert(rig);
    await_hint(store);
    assert_int_equal(count_notes(other), 1);
    pgqrs_store_rouse(store);
    await_gate(rig, store, false);
    for (int i = 0; i < 5; i++) {
        insert(rig);
    }
    assert_int_equal(count_notes(other), 0);
    PQfinish(other);
    pgqrs_store_close(&store);
}

/* What is committed after the last look and before the gate is held is not announced. */
static void dozing_asks_for_one_more_look(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_awake(rig);
    pgqrs_store_doze(store);
    await_hint(store);
    assert_true(holds_gate(rig));
    assert_false(pgqrs_store_woken(store));
    pgqrs_store_doze(store); /* may be repeated */
    assert_false(pgqrs_store_woken(store));
    pgqrs_store_close(&store);
}

/* A transaction that inserted while the gate was open keeps it open: it will not notify. */
static void a_producer_in_flight_is_waited_for(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_awake(rig);
    make_queue(rig);
    PGconn *other = pg_rig_connect(rig);
    PQclear(PQexec(other, "BEGIN; INSERT INTO pgqrs_messages (queue_id, payload)"
                          " SELECT min(id), '{}' FROM pgqrs_queues"));
    pgqrs_store_doze(store);
    await_hint(store); /* the gate has answered */
    assert_false(holds_gate(rig));
    PQclear(PQexec(other, "COMMIT"));
    await_hint(store); /* now it is held, and one more look is worth it */
    assert_true(holds_gate(rig));
    PQfinish(other);
    pgqrs_store_close(&store);
}

static void two_sleepers_are_both_woken(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *first = open_listener(rig);
    struct pgqrs_store *second = open_listener(rig);
    make_queue(rig);
    fall_asleep(rig, first);
    pgqrs_store_doze(second);
    await_hint(second); /* somebody else has the gate: one more look */
    while (pgqrs_store_woken(second)) {
    }
    insert(rig);
    await_hint(first);
    await_hint(second);
    /* The first one is busy: the second keeps the gate then, or nobody would wake it. */
    pgqrs_store_rouse(first);
    await_gate(rig, first, false);
    fall_asleep(rig, second);
    insert(rig);
    await_hint(second);
    pgqrs_store_close(&first);
    pgqrs_store_close(&second);
}

/* Who sleeps without the gate is told when its holder leaves, as in a rolling restart. */
static void a_holder_that_leaves_says_so(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *first = open_listener(rig);
    struct pgqrs_store *second = open_listener(rig);
    PGconn *other = overhear(rig);
    fall_asleep(rig, first);
    pgqrs_store_doze(second);
    await_hint(second);
    while (pgqrs_store_woken(second)) {
    }
    assert_int_equal(count_notes(other), 0);
    pgqrs_store_close(&first);
    int64_t give_up_ms = pgqrs_mono_ms() + WAIT_MS;
    while (count_notes(other) == 0) {
        if (pgqrs_mono_ms() > give_up_ms) {
            fail_msg("nobody said that the gate is free");
        }
        (void)poll(NULL, 0, 10);
    }
    await_hint(second);
    await_gate(rig, second, true);
    PQfinish(other);
    pgqrs_store_close(&second);
}

static void the_listener_comes_back(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_listener(rig);
    make_queue(rig);
    int fd = pgqrs_store_wake_fd(store);
    suite_ok(rig, pgqrs_store_claim(store, "here", &rig->err));
    fall_asleep(rig, store);
    assert_true(pg_rig_terminate(rig) >= 2);
    await_hint(store); /* what was announced meanwhile was not heard */
    await_gate(rig, store, true);
    while (pgqrs_store_woken(store)) {
    }
    insert(rig);
    await_hint(store);
    assert_int_equal(pgqrs_store_wake_fd(store), fd);
    /* It is the site's broker again. */
    struct pgqrs_store *other = open_listener(rig);
    suite_fails(rig, pgqrs_store_claim(other, "here", &rig->err), PGQRS_ERR_UNAVAILABLE);
    pgqrs_store_close(&other);
    pgqrs_store_close(&store);
}

static void polling_while_the_server_is_away(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_listener(rig);
    make_queue(rig);
    int fd = pgqrs_store_wake_fd(store);
    fall_asleep(rig, store);
    pg_rig_stop();
    struct pollfd p = {.fd = fd, .events = POLLIN};
    for (int i = 0; i < 3; i++) { /* it tries again by itself, and does not spin */
        (void)poll(&p, 1, 1000);
        assert_false(pgqrs_store_woken(store));
        pgqrs_store_doze(store);
    }
    pg_rig_start();
    await_hint(store);
    await_gate(rig, store, true);
    while (pgqrs_store_woken(store)) {
    }
    insert(rig);
    await_hint(store);
    pgqrs_store_close(&store);
}

static void one_broker_a_site(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *with = open_listener(rig);
    struct pgqrs_store *without = pg_rig_store(rig, NULL);
    assert_int_equal(pgqrs_store_claim(with, "here", &rig->err), 0);
    suite_fails(rig, pgqrs_store_claim(without, "here", &rig->err), PGQRS_ERR_UNAVAILABLE);
    assert_non_null(strstr(rig->err.text, "\"here\""));
    assert_int_equal(pgqrs_store_claim(without, "there", &rig->err), 0);
    suite_fails(rig, pgqrs_store_claim(with, "there", &rig->err), PGQRS_ERR_UNAVAILABLE);
    pgqrs_store_close(&with);
    pg_rig_await(rig, 0,
                 "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                 " AND classid = 1885827427 AND objid = (hashtext(current_schema() || '/here')"
                 "::bigint & 4294967295)::oid");
    assert_int_equal(pgqrs_store_claim(without, "here", &rig->err), 0);
    assert_int_equal(pgqrs_store_wake_fd(without), -1);
    pgqrs_store_close(&without);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        PG_RIG_CASE(a_foreign_insert_wakes),
        PG_RIG_CASE(functions_wake),
        PG_RIG_CASE(nobody_notifies_while_nobody_sleeps),
        PG_RIG_CASE(dozing_asks_for_one_more_look),
        PG_RIG_CASE(a_producer_in_flight_is_waited_for),
        PG_RIG_CASE(two_sleepers_are_both_woken),
        PG_RIG_CASE(a_holder_that_leaves_says_so),
        PG_RIG_CASE(the_listener_comes_back),
        PG_RIG_CASE(polling_while_the_server_is_away),
        PG_RIG_CASE(one_broker_a_site),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
