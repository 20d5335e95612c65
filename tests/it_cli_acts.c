/* SPDX-License-Identifier: Apache-2.0 */
/* bin/pgqrs on messages, dead letters, workers and queues that are in every state, on a SQLite file
 * and on a PostgreSQL server. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/pg_rig.h"
#include "tests/support/shell.h"

static struct pg_rig *rig; /* null: SQLite */

/* Another program's statement. */
static void other(const struct fixture *f, const char *sql)
{
    if (rig != NULL) {
        pg_rig_sql(rig, "%s", sql);
    } else {
        db_exec(&f->scratch, sql);
    }
}

static int64_t number(const struct fixture *f, const char *sql)
{
    return rig != NULL ? pg_rig_number(rig, "%s", sql) : db_number(&f->scratch, sql);
}

static int on_sqlite(void **state)
{
    int rc = shell_setup(state);
    (void)unsetenv("PGQRS_SCHEMA");
    ok(*state, "p admin install && p queue create a b");
    return rc;
}

static int on_postgres(void **state)
{
    int rc = shell_setup(state);
    rig = pg_rig_create();
    (void)setenv("PGQRS_DSN", rig->dsn, 1);
    (void)setenv("PGQRS_SCHEMA", rig->schema, 1);
    ok(*state, "p admin install && p queue create a b");
    return rc;
}

static int after(void **state)
{
    if (rig != NULL) {
        pg_rig_destroy(rig);
        rig = NULL;
    }
    (void)unsetenv("PGQRS_SCHEMA");
    return fixture_teardown(state);
}

/* 1 waiting, 2 leased by worker "w", 3 archived as done, 4 a dead letter; all of "a". */
static void fill(const struct fixture *f)
{
    ok(f, "for i in 1 2 3 4; do p message enqueue a $i; done");
    other(f, "insert into pgqrs_workers (name, queue_id, status) select 'w', id, 'ready' from"
             " pgqrs_queues where queue_name = 'a'");
    other(f, "update pgqrs_messages set consumer_worker_id = (select id from pgqrs_workers where"
             " name = 'w'), read_ct = 2 where id = 2");
    other(f, "update pgqrs_messages set archived_at = enqueued_at, pgqrsd_outcome = 'done' where"
             " id = 3");
    other(f, "update pgqrs_messages set archived_at = enqueued_at, pgqrsd_outcome = 'failed',"
             " pgqrsd_error = 'it broke', read_ct = 5 where id = 4");
}

static void says_all(const char *text, const char *const *parts)
{
    for (size_t i = 0; parts[i] != NULL; i++) {
        says(text, parts[i]);
    }
}

static void test_cancel(void **state)
{
    const struct fixture *f = *state;
    fill(f);
    assert_int_equal(sh(f, "p message cancel 1 2 3 99"), 1);
    says_all(shell_out, (const char *[]){"message 1: cancelled\n",
                                         "message 2: not cancelled: ", "message 3: not cancelled: ",
                                         "message 99: not cancelled: it does not exist\n", NULL});
    assert_int_equal(
        number(f, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'cancelled'"), 1);
    assert_int_equal(sh(f, "p message cancel x"), 2);
    says(shell_err, "found \"x\"");
}

static void test_delete(void **state)
{
    const struct fixture *f = *state;
    fill(f);
    assert_int_equal(sh(f, "p message delete 1 </dev/null"), 2);
    says(shell_err, "--yes");
    assert_int_equal(number(f, "select count(*) from pgqrs_messages"), 4);
    assert_int_equal(sh(f, "p message delete 1 2 3 --yes -o json"), 1);
    json_t *json = shell_json();
    assert_int_equal(json_array_size(json), 3);
    assert_true(json_is_true(json_object_get(json_array_get(json, 0), "done")));
    assert_true(json_is_false(json_object_get(json_array_get(json, 1), "done")));
    assert_true(json_is_string(json_object_get(json_array_get(json, 1), "reason")));
    assert_true(json_is_true(json_object_get(json_array_get(json, 2), "done")));
    json_decref(json);
    assert_int_equal(number(f, "select count(*) from pgqrs_messages"), 2);
}

static void test_release_and_replay(void **state)
{
    const struct fixture *f = *state;
    fill(f);
    assert_int_equal(sh(f, "p message release 1 2"), 1);
    says(shell_out, "message 1: not released: it waits already\n");
    says(shell_out, "message 2: released\n");
    assert_int_equal(number(f, "select count(*) from pgqrs_messages where id = 2 and"
                               " consumer_worker_id is null and read_ct = 2"),
                     1);
    assert_int_equal(sh(f, "p message replay 1 3"), 1);
    says(shell_out, "message 3: waits again\n");
    assert_int_equal(number(f, "select count(*) from pgqrs_messages where id = 3 and archived_at is"
                               " null and read_ct = 0"),
                     1);
}

static void test_unique_keys_and_times(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p message enqueue a 1 --unique-key k");
    ok(f, "p message enqueue a 2 --unique-key k");
    says(shell_out, "job 1 has this unique key already");
    ok(f, "p message enqueue a 2 --unique-key k -o json");
    json_t *json = shell_json();
    assert_int_equal(json_integer_value(json_object_get(json_array_get(json, 0), "id")), 1);
    assert_true(json_is_true(json_object_get(json_array_get(json, 0), "existed")));
    json_decref(json);
    ok(f, "p message enqueue a 3 --at 2100-01-01T00:00:00+01:00 --priority 7");
    ok(f, "p message list --queue a --state delayed -o json");
    json = shell_json();
    assert_int_equal(json_array_size(json), 1);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(json, 0), "priority")), 7);
    json_decref(json);
    assert_int_equal(sh(f, "p message enqueue a 1 --at tomorrow"), 2);
    says(shell_err, "found \"tomorrow\", expected a time");
    assert_int_equal(sh(f, "p message enqueue a 1 --at 2100-01-01T00:00:00Z --delay 3s"), 2);
    assert_int_equal(sh(f, "p message enqueue a 1 --unique-key ''"), 2);
    assert_int_equal(number(f, "select count(*) from pgqrs_messages"), 2);
}

static void test_dead_letters(void **state)
{
    const struct fixture *f = *state;
    fill(f);
    ok(f, "p dlq list");
    says(shell_out, "it broke");
    ok(f, "p dlq list --queue a -o json");
    json_t *json = shell_json();
    assert_int_equal(json_array_size(json), 1);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(json, 0), "id")), 4);
    json_decref(json);
    ok(f, "p dlq list --queue b -o json");
    says(shell_out, "[]");
    assert_int_equal(sh(f, "p dlq replay"), 2);
    assert_int_equal(sh(f, "p dlq replay 3"), 1); /* archived, but not dead */
    ok(f, "p dlq replay 4");
    assert_int_equal(number(f, "select count(*) from pgqrs_messages where archived_at is null"), 3);
    other(f, "update pgqrs_messages set archived_at = enqueued_at, pgqrsd_outcome = 'failed' where"
             " id in (1, 4)");
    ok(f, "p dlq replay --queue b");
    says(shell_out, "0 dead letters");
    ok(f, "p dlq replay --queue a");
    says(shell_out, "2 dead letters");
    other(f, "update pgqrs_messages set archived_at = enqueued_at, pgqrsd_outcome = 'failed' where"
             " id in (1, 4)");
    assert_int_equal(sh(f, "p dlq purge --older-than 1h </dev/null"), 2);
    ok(f, "p dlq purge --older-than 1h --yes");
    says(shell_out, "0 dead letters");
    ok(f, "p dlq purge --older-than 0 --yes");
    says(shell_out, "2 dead letters");
    assert_int_equal(number(f, "select count(*) from pgqrs_messages"), 2);
}

static void test_workers(void **state)
{
    const struct fixture *f = *state;
    fill(f);
    int64_t id = number(f, "select id from pgqrs_workers");
    ok(f, "p worker list");
    says_all(shell_out, (const char *[]){"ready", "w\n", NULL});
    ok(f, "p worker suspend %" PRId64, id);
    assert_int_equal(sh(f, "p worker interrupt %" PRId64, id), 1);
    says(shell_out, "suspended");
    ok(f, "p worker resume %" PRId64, id);
    ok(f, "p worker interrupt %" PRId64, id);
    ok(f, "p worker list --state interrupted -o json");
    json_t *json = shell_json();
    assert_int_equal(json_array_size(json), 1);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(json, 0), "held")), 1);
    json_decref(json);
    assert_int_equal(sh(f, "p worker stop %" PRId64 " </dev/null", id), 2);
    ok(f, "p worker stop %" PRId64 " --yes", id);
    assert_int_equal(number(f, "select count(*) from pgqrs_messages where consumer_worker_id is not"
                               " null"),
                     0);
    assert_int_equal(sh(f, "p worker suspend 4711"), 1);
    says(shell_out, "4711 does not exist");
    ok(f, "p worker purge --older-than 0 --yes");
    says(shell_out, "1 worker");
    assert_int_equal(number(f, "select count(*) from pgqrs_workers"), 0);
}

static void test_queues(void **state)
{
    const struct fixture *f = *state;
    fill(f);
    ok(f, "p queue pause a");
    ok(f, "p queue list -o json");
    json_t *json = shell_json();
    assert_true(json_is_string(json_object_get(json_array_get(json, 0), "paused_at")));
    assert_true(json_is_null(json_object_get(json_array_get(json, 1), "paused_at")));
    json_decref(json);
    ok(f, "p queue resume a");
    ok(f, "p queue list -o json");
    json = shell_json();
    assert_true(json_is_null(json_object_get(json_array_get(json, 0), "paused_at")));
    json_decref(json);
    assert_int_equal(sh(f, "p queue pause nowhere"), 1);
    says(shell_err, "nowhere");
    ok(f, "p queue metrics a -o json");
    json = shell_json();
    const json_t *m = json_array_get(json, 0);
    assert_int_equal(json_integer_value(json_object_get(m, "ready")), 1);
    assert_int_equal(json_integer_value(json_object_get(m, "leased")), 1);
    assert_int_equal(json_integer_value(json_object_get(m, "archived")), 2);
    assert_int_equal(json_integer_value(json_object_get(m, "failed")), 1);
    json_decref(json);
    assert_int_equal(sh(f, "p queue delete a --yes"), 1);
    assert_int_equal(sh(f, "p queue purge a </dev/null"), 2);
    ok(f, "p queue purge a --yes");
    says(shell_out, "3 messages");
    assert_int_equal(number(f, "select count(*) from pgqrs_messages"), 1); /* the leased one */
    ok(f, "p queue purge a --what all --yes");
    assert_int_equal(sh(f, "p queue purge a --what everything --yes"), 2);
    other(f, "update pgqrs_workers set status = 'stopped'");
    ok(f, "p queue delete a b --yes");
    assert_int_equal(number(f, "select count(*) from pgqrs_queues"), 0);
}

static void test_pages(void **state)
{
    const struct fixture *f = *state;
    ok(f, "seq 1 250 | p message enqueue a -");
    ok(f, "p message list --queue a --limit 100 -o json");
    json_t *json = shell_json();
    assert_int_equal(json_array_size(json), 100);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(json, 99), "id")), 151);
    json_decref(json);
    ok(f, "p message list --queue a --limit 100 --before 151 -o json | grep -c '\"id\":150,'");
    assert_int_equal(sh(f, "p message list --queue a --all --limit 100"), 2);
    ok(f, "p message list --queue a --all -o json | grep -o '\"id\":' | wc -l");
    assert_string_equal(shell_out, "250\n");
    assert_int_equal(sh(f, "p message list --limit 0"), 2);
}

static void test_stats(void **state)
{
    const struct fixture *f = *state;
    fill(f);
    ok(f, "p admin stats");
    says(shell_out, rig != NULL ? "PostgreSQL" : "SQLite");
    ok(f, "p admin stats -o json");
    json_t *json = shell_json();
    assert_int_equal(json_integer_value(json_object_get(json, "queues")), 2);
    assert_int_equal(json_integer_value(json_object_get(json, "workers")), 1);
    assert_int_equal(json_integer_value(json_object_get(json, "messages")), 4);
    assert_int_equal(json_integer_value(json_object_get(json, "pending")), 1);
    assert_int_equal(json_integer_value(json_object_get(json, "leased")), 1);
    assert_int_equal(json_integer_value(json_object_get(json, "archived")), 2);
    json_decref(json);
}

/* Counting stops, and says so. */
static void test_counts_stop(void **state)
{
    const struct fixture *f = *state;
    other(f, rig != NULL
                 ? "set session_replication_role = replica; insert into pgqrs_messages (queue_id,"
                   " payload) select 1, '1' from generate_series(1, 100001)"
                 : "with recursive n(i) as (select 1 union all select i + 1 from n where i <"
                   " 100001) insert into pgqrs_messages (queue_id, payload) select 1, '1' from n");
    ok(f, "p queue metrics a");
    says(shell_out, "100000+");
    ok(f, "p queue metrics a -o json");
    json_t *json = shell_json();
    const json_t *m = json_array_get(json, 0);
    assert_int_equal(json_integer_value(json_object_get(m, "ready")), 100000);
    assert_true(json_array_size(json_object_get(m, "capped")) > 0);
    json_decref(json);
    ok(f, "p queue metrics a --exact");
    says(shell_out, "100001");
}

int main(void)
{
#define BOTH(test)                                                                                 \
    {"sqlite_" #test, test, on_sqlite, after, NULL},                                               \
    {                                                                                              \
        "postgres_" #test, test, on_postgres, after, NULL                                          \
    }
    const struct CMUnitTest tests[] = {
        BOTH(test_cancel),      BOTH(test_delete), BOTH(test_release_and_replay),
        BOTH(test_workers),     BOTH(test_queues), BOTH(test_unique_keys_and_times),
        BOTH(test_pages),       BOTH(test_stats),  BOTH(test_dead_letters),
        BOTH(test_counts_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
