/* SPDX-License-Identifier: Apache-2.0 */
/* A real pgqrsd at the edges of what its broker does: trouble that ends with a hello, workers that
 * end while the store is asked for them, clients that ask while it stops. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/pg_daemon.h"

#define WORKER "pgqrs-worker"
#define BROKER "pgqrs-broker"
#define DONE "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'"

static void start(struct fixture *f, const char *settings)
{
    daemon_config(&f->scratch, "%s\nqueues: {work: {handler: %s, settings: {file: %s}}}\n",
                  settings, built("tests/handlers/effect.so"), f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "ready pid=", 2);
}

/* ---- timers ---- */

/* The broker that is woken looks by itself more seldom than poll says; what becomes due before that
 * is not to wait for it. With a wait each time, this takes longer than a test may. */
static void test_what_becomes_due_after_poll_does_not_wait_for_the_next_look(void **state)
{
    struct fixture *f = *state;
    start(f, "poll: 50ms");
    fixture_enqueue(f, 1, "{\"outcome\":\"snooze\",\"delay_ms\":100}");
    effects_await(&f->scratch, "end 1 ", 40);
}

/* ---- hellos ---- */

static void test_a_hello_that_ends_a_trouble_is_answered_once(void **state)
{
    struct fixture *f = *state;
    start(f, "log: {level: debug}");
    daemon_await_log(&f->daemon, "worker work/0 connected", 1);
    db_exec(&f->scratch, "create trigger refuse before insert on pgqrs_workers begin select"
                         " raise(abort, 'not now'); end");
    db_exec(&f->scratch, "delete from pgqrs_workers");
    daemon_await_log(&f->daemon, "the store fails, 0 outcomes wait", 1);
    db_exec(&f->scratch, "drop trigger refuse");
    fixture_enqueue(f, 1, "{}");
    db_await(&f->scratch, DONE, 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(daemon_log_count(&f->daemon, "worker work/0 connected"), 2);
}

/* ---- a store that takes outcomes and gives no leases ---- */

static void test_leases_that_fail_for_good_are_told_of_and_hold_up_no_outcome(void **state)
{
    struct fixture *f = *state;
    start(f, "");
    fixture_enqueue(f, 1, "{\"ms\":300}");
    effects_await(&f->scratch, "start 1 ", 1);
    db_exec(&f->scratch, "create trigger broken before update of consumer_worker_id on"
                         " pgqrs_messages when new.consumer_worker_id is not null begin select"
                         " raise(abort, 'broken'); end");
    fixture_enqueue(f, 1, "{}");
    db_await(&f->scratch, DONE, 1);
    daemon_await_log(&f->daemon, "the store fails, 0 outcomes wait", 1);
    db_exec(&f->scratch, "drop trigger broken");
    db_await(&f->scratch, DONE, 2);
    daemon_await_log(&f->daemon, "the store works again", 1);
    assert_int_equal(daemon_log_count(&f->daemon, "the store fails"), 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* ---- clients that ask while it stops ---- */

#define CLIENTS 6

struct client {
    const struct fixture *fixture;
    atomic_bool *stopping;
    atomic_int *answers;
    pthread_t thread;
};

static void *ask(void *arg)
{
    const struct client *c = arg;
    const struct pgqrs_store_options options = {.call_ms = WAIT_MS};
    struct pgqrs_store *store = NULL;
    struct pgqrs_error err;
    char dsn[128];
    int64_t id;
    (void)snprintf(dsn, sizeof dsn, "broker:%s/run/pgqrsd.sock", c->fixture->scratch.dir);
    if (pgqrs_store_open(dsn, &options, &store, &err) < 0) {
        return NULL;
    }
    const struct pgqrs_enqueue item = {.payload = {"{}", 2}, .delay_ms = 3600000};
    while (pgqrs_store_enqueue(store, 1, &item, 1, &id, NULL, &err) == 0 ||
           !atomic_load(c->stopping)) {
        atomic_fetch_add(c->answers, 1);
    }
    pgqrs_store_close(&store);
    return NULL;
}

static void test_a_stop_forgets_calls_of_clients_cleanly(void **state)
{
    struct fixture *f = *state;
    for (int round = 0; round < 3; round++) {
        struct client clients[CLIENTS];
        atomic_bool stopping = false;
        atomic_int answers = 0;
        (void)remove(f->daemon.log);
        start(f, "");
        for (int i = 0; i < CLIENTS; i++) {
            clients[i] = (struct client){f, &stopping, &answers, 0};
            assert_int_equal(pthread_create(&clients[i].thread, NULL, ask, &clients[i]), 0);
        }
        while (atomic_load(&answers) < 20 * CLIENTS) {
            (void)poll(NULL, 0, 1);
        }
        atomic_store(&stopping, true);
        assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
        for (int i = 0; i < CLIENTS; i++) {
            assert_int_equal(pthread_join(clients[i].thread, NULL), 0);
        }
        assert_false(daemon_log_has(&f->daemon, "Sanitizer"));
    }
}

/* ---- a worker that ends while leases are asked for in its name ---- */

static void lock_workers(PGconn *conn)
{
    PGresult *result = PQexec(conn, "BEGIN; LOCK TABLE pgqrs_workers IN SHARE MODE");
    assert_int_equal(PQresultStatus(result), PGRES_COMMAND_OK);
    PQclear(result);
}

static void commit(PGconn *conn)
{
    PGresult *result = PQexec(conn, "COMMIT");
    assert_int_equal(PQresultStatus(result), PGRES_COMMAND_OK);
    PQclear(result);
}

static PGconn *connect_to(const struct pg_daemon *d)
{
    PGconn *conn = PQconnectdb(d->load_dsn);
    assert_int_equal(PQstatus(conn), CONNECTION_OK);
    return conn;
}

/* Waits until a statement of others that changes the table has to wait, so many of mode. */
static void await_waiting(struct pg_daemon *d, const char *mode)
{
    char sql[200];
    (void)snprintf(sql, sizeof sql,
                   "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation ="
                   " 'pgqrs_workers'::regclass AND mode = '%s'",
                   mode);
    pg_rig_await(d->rig, 1, sql);
}

/*
 * The store is made slow by locks, so that its tasks line up: first the end of one worker's row,
 * then the hello of its successor, behind that an exchange that leases for the other worker, which
 * is killed meanwhile. Its end must not overtake what the exchange brings for it.
 */
static void test_a_worker_ends_while_leases_for_it_are_under_way(void **state)
{
    struct pg_daemon *d = *state;
    struct daemon *daemon = &d->fixture->daemon;
    fixture_start(d->fixture, "    consumers: 2\n");
    daemon_await_log(daemon, "ready pid=", 3);
    pg_rig_await(d->rig, 2, "SELECT count(*) FROM pgqrs_workers WHERE status = 'ready'");
    pid_t broker = daemon_await_children(daemon, BROKER, 1);
    pid_t workers[2];
    (void)daemon_await_children(daemon, WORKER, 2);
    assert_int_equal(daemon_children(daemon, WORKER, workers, 2), 2);
    for (int i = 1; i <= 3; i++) { /* until it is woken by those who enqueue */
        pg_rig_sql(d->rig, "SELECT pgqrs_enqueue('work', '{}'::jsonb)");
        pg_rig_await(d->rig, i, DONE);
    }
    PGconn *first = connect_to(d);
    PGconn *second = connect_to(d);
    lock_workers(first);
    assert_int_equal(kill(workers[0], SIGKILL), 0);
    await_waiting(d, "RowExclusiveLock");
    assert_int_equal(PQsendQuery(second, "BEGIN; LOCK TABLE pgqrs_workers IN SHARE MODE"), 1);
    await_waiting(d, "ShareLock");
    commit(first);
    PGresult *result;
    while ((result = PQgetResult(second)) != NULL) {
        assert_int_equal(PQresultStatus(result), PGRES_COMMAND_OK);
        PQclear(result);
    }
    await_waiting(d, "RowExclusiveLock"); /* the successor's hello */
    pg_rig_sql(d->rig, "SELECT pgqrs_enqueue('work', '{}'::jsonb)");
    (void)poll(NULL, 0, 200); /* for the exchange; nobody can tell from outside that it waits */
    assert_int_equal(kill(workers[1], SIGKILL), 0);
    daemon_await_log(daemon, "ready pid=", 5);
    commit(second);
    PQfinish(first);
    PQfinish(second);
    pg_rig_await(d->rig, 4, DONE);
    for (int i = 0; i < 20; i++) {
        pg_rig_sql(d->rig, "SELECT pgqrs_enqueue('work', '{}'::jsonb)");
    }
    pg_rig_await(d->rig, 24, DONE);
    assert_int_equal(pg_rig_number(d->rig, "SELECT max(read_ct) FROM pgqrs_messages"), 1);
    assert_int_equal(daemon_await_children(daemon, BROKER, 1), broker);
    assert_int_equal(daemon_stop(daemon, SIGTERM), 0);
}

int main(void)
{
#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(test_what_becomes_due_after_poll_does_not_wait_for_the_next_look),
        WITH_FIXTURE(test_a_hello_that_ends_a_trouble_is_answered_once),
        WITH_FIXTURE(test_leases_that_fail_for_good_are_told_of_and_hold_up_no_outcome),
        WITH_FIXTURE(test_a_stop_forgets_calls_of_clients_cleanly),
        PG_DAEMON_CASE(test_a_worker_ends_while_leases_for_it_are_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
