/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/sqlite_rig.h"

#include <stdio.h>
#include <unistd.h>

#include "store/store_borrow.h"

/* A store on a connection of somebody else's: their transactions, their settings. */

static void sql(sqlite3 *db, const char *text)
{
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK) {
        fail_msg("%s: %s", text, sqlite3_errmsg(db));
    }
}

/* A database with a queue, opened as an application does, with a table of its own. */
static sqlite3 *application(struct sqlite_rig *rig)
{
    struct pgqrs_store *store = sqlite_rig_store(rig);
    int64_t queue;
    suite_ok(rig, pgqrs_store_queue_create(store, "q", &queue, &rig->err));
    assert_int_equal(queue, 1);
    pgqrs_store_close(&store);
    sqlite3 *db = sqlite_rig_raw(rig);
    sql(db, "PRAGMA foreign_keys=ON; CREATE TABLE orders (id INTEGER PRIMARY KEY)");
    return db;
}

static struct pgqrs_store *borrow(struct sqlite_rig *rig, sqlite3 *db)
{
    struct pgqrs_store *store = NULL;
    suite_ok(rig, pgqrs_store_borrow_sqlite(db, &store, &rig->err));
    assert_string_equal(pgqrs_store_backend(store), "sqlite");
    return store;
}

static int64_t put(struct sqlite_rig *rig, struct pgqrs_store *store)
{
    const struct pgqrs_enqueue item = {.payload = pgqrs_bytes_from("{}")};
    int64_t id = 0;
    suite_ok(rig, pgqrs_store_enqueue(store, 1, &item, 1, &id, NULL, &rig->err));
    return id;
}

/* What another program sees. */
static int64_t seen(struct sqlite_rig *rig, const char *table)
{
    char text[100];
    (void)snprintf(text, sizeof text, "SELECT count(*) FROM %s", table);
    sqlite3 *other = sqlite_rig_raw(rig);
    int64_t count = sqlite_rig_number(other, text);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    return count;
}

static void outside_a_transaction(void **state)
{
    struct sqlite_rig *rig = *state;
    sqlite3 *db = application(rig);
    struct pgqrs_store *store = borrow(rig, db);
    int64_t id = put(rig, store);
    assert_int_equal(seen(rig, "pgqrs_messages"), 1);
    assert_true(sqlite3_get_autocommit(db) != 0);
    struct pgqrs_message m;
    suite_ok(rig, pgqrs_store_message_get(store, id, &m, &rig->err));
    pgqrs_message_fini(&m);
    /* A call that fails is undone as a whole. */
    const struct pgqrs_enqueue items[2] = {
        {.payload = pgqrs_bytes_from("1")},
        {.payload = pgqrs_bytes_from("2"), .producer_worker_id = 77}};
    int64_t ids[2];
    suite_fails(rig, pgqrs_store_enqueue(store, 1, items, 2, ids, NULL, &rig->err),
                PGQRS_ERR_NOT_FOUND);
    assert_true(sqlite3_get_autocommit(db) != 0);
    assert_int_equal(seen(rig, "pgqrs_messages"), 1);
    pgqrs_store_close(&store);
    assert_int_equal(sqlite3_close(db), SQLITE_OK); /* no statement was left */
}

static void within_a_transaction(void **state)
{
    struct sqlite_rig *rig = *state;
    sqlite3 *db = application(rig);
    struct pgqrs_store *store = borrow(rig, db);
    sql(db, "BEGIN; INSERT INTO orders VALUES (1)");
    (void)put(rig, store);
    assert_int_equal(seen(rig, "pgqrs_messages"), 0);
    sql(db, "ROLLBACK");
    assert_int_equal(seen(rig, "pgqrs_messages"), 0);
    sql(db, "BEGIN; INSERT INTO orders VALUES (2)");
    (void)put(rig, store);
    /* What fails leaves what was done before. */
    int64_t id;
    suite_fails(rig, pgqrs_store_queue_create(store, "q", &id, &rig->err), PGQRS_ERR_EXISTS);
    assert_true(sqlite3_get_autocommit(db) == 0);
    const struct pgqrs_enqueue item = {.payload = pgqrs_bytes_from("{}"), .unique_key = "k"};
    bool existed = true;
    suite_ok(rig, pgqrs_store_enqueue(store, 1, &item, 1, &id, &existed, &rig->err));
    assert_false(existed);
    suite_ok(rig, pgqrs_store_enqueue(store, 1, &item, 1, &id, &existed, &rig->err));
    assert_true(existed);
    assert_int_equal(sqlite_rig_number(db, "SELECT count(*) FROM orders"), 1);
    sql(db, "COMMIT");
    assert_int_equal(seen(rig, "pgqrs_messages"), 2);
    assert_int_equal(seen(rig, "orders"), 1);
    pgqrs_store_close(&store);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Reading, and changing many things, within savepoints of the owner's too. */
static void everything_within_a_savepoint(void **state)
{
    struct sqlite_rig *rig = *state;
    sqlite3 *db = application(rig);
    struct pgqrs_store *store = borrow(rig, db);
    int64_t id = put(rig, store);
    sql(db, "SAVEPOINT mine; INSERT INTO orders VALUES (1)");
    struct pgqrs_queue_metrics metrics;
    suite_ok(rig, pgqrs_store_queue_metrics(store, 0, 100, &metrics, &rig->err));
    assert_int_equal(metrics.pending, 1);
    const struct pgqrs_message_filter filter = {.limit = 10};
    struct pgqrs_message_list list;
    suite_ok(rig, pgqrs_store_message_list(store, &filter, &list, &rig->err));
    assert_int_equal(list.count, 1);
    pgqrs_message_list_fini(&list);
    enum pgqrs_acted acted;
    assert_int_equal(pgqrs_store_message_act(store, PGQRS_ACT_CANCEL, &id, 1, &acted, &rig->err),
                     1);
    assert_int_equal(pgqrs_store_queue_purge(store, 1, PGQRS_PURGE_ALL, 10, &rig->err), 1);
    sql(db, "ROLLBACK TO mine; RELEASE mine");
    assert_int_equal(seen(rig, "pgqrs_messages"), 1);
    assert_int_equal(seen(rig, "orders"), 0);
    struct pgqrs_message m;
    suite_ok(rig, pgqrs_store_message_get(store, id, &m, &rig->err));
    assert_int_equal(m.state, PGQRS_STATE_READY);
    pgqrs_message_fini(&m);
    pgqrs_store_close(&store);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void settings_stay(void **state)
{
    struct sqlite_rig *rig = *state;
    sqlite3 *db = application(rig);
    (void)sqlite3_busy_timeout(db, 0); /* can not fail on an open connection */
    sql(db, "PRAGMA synchronous=EXTRA; PRAGMA cache_size=77");
    struct pgqrs_store *store = borrow(rig, db);
    (void)put(rig, store);
    assert_int_equal(pgqrs_store_wake_fd(store), -1);
    assert_false(pgqrs_store_woken(store));
    /* The owner does not wait for locks, so neither does the store. */
    sqlite3 *other = sqlite_rig_raw(rig);
    sql(other, "BEGIN IMMEDIATE");
    const struct pgqrs_enqueue item = {.payload = pgqrs_bytes_from("{}")};
    int64_t id;
    suite_fails(rig, pgqrs_store_enqueue(store, 1, &item, 1, &id, NULL, &rig->err),
                PGQRS_ERR_AGAIN);
    sql(other, "COMMIT");
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    (void)put(rig, store);
    pgqrs_store_close(&store);
    assert_int_equal(sqlite_rig_number(db, "PRAGMA foreign_keys"), 1);
    assert_int_equal(sqlite_rig_number(db, "PRAGMA synchronous"), 3);
    assert_int_equal(sqlite_rig_number(db, "PRAGMA cache_size"), 77);
    assert_int_equal(sqlite_rig_number(db, "PRAGMA busy_timeout"), 0);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void the_schema_must_be_there(void **state)
{
    struct sqlite_rig *rig = *state;
    sqlite3 *db = sqlite_rig_raw(rig);
    struct pgqrs_store *store = NULL;
    suite_fails(rig, pgqrs_store_borrow_sqlite(db, &store, &rig->err), PGQRS_ERR_SCHEMA);
    assert_non_null(strstr(rig->err.text, rig->path));
    assert_null(store);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    db = application(rig);
    sql(db, "DELETE FROM pgqrsd_schema; INSERT INTO pgqrsd_schema VALUES (1, '')");
    suite_fails(rig, pgqrs_store_borrow_sqlite(db, &store, &rig->err), PGQRS_ERR_SCHEMA);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Foreign keys are checked on this connection: what is deleted goes in an order that they allow. */
static void deletes_with_foreign_keys(void **state)
{
    struct sqlite_rig *rig = *state;
    sqlite3 *db = application(rig);
    struct pgqrs_store *store = borrow(rig, db);
    int64_t id = put(rig, store);
    sql(db, "INSERT INTO pgqrs_workflows (id, name, queue_id) VALUES (1, 'q', 1);"
            "INSERT INTO pgqrs_workflow_runs (id, workflow_id, message_id, status)"
            " VALUES (5, 1, 1, 'RUNNING');"
            "INSERT INTO pgqrs_workflow_steps (run_id, step_name, status) VALUES (5, 's', 'X')");
    enum pgqrs_acted acted;
    assert_int_equal(pgqrs_store_message_act(store, PGQRS_ACT_DELETE, &id, 1, &acted, &rig->err),
                     1);
    assert_int_equal(seen(rig, "pgqrs_workflow_steps"), 0);
    assert_int_equal(seen(rig, "pgqrs_workflow_runs"), 0);
    suite_ok(rig, pgqrs_store_verify(store, &rig->err));
    pgqrs_store_close(&store);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        RIG_CASE(outside_a_transaction),         RIG_CASE(within_a_transaction),
        RIG_CASE(everything_within_a_savepoint), RIG_CASE(settings_stay),
        RIG_CASE(the_schema_must_be_there),      RIG_CASE(deletes_with_foreign_keys),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
