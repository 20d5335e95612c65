/* SPDX-License-Identifier: Apache-2.0 */
/* Enqueueing in a transaction of the caller: it decides, and a failure costs it nothing. */
#include <libpq-fe.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/lib_rig.h"
#include "tests/support/pg_rig.h"
#include "tests/support/sqlite_rig.h"

/* The caller's connection, with a table "mine" of its own beside the queues. */
struct caller {
    struct lib_rig *rig;
    sqlite3 *db;
    PGconn *conn;
};

static bool try_sql(struct caller *c, const char *sql)
{
    if (c->db != NULL) {
        return sqlite3_exec(c->db, sql, NULL, NULL, NULL) == SQLITE_OK;
    }
    PGresult *r = PQexec(c->conn, sql);
    bool fine = PQresultStatus(r) == PGRES_COMMAND_OK || PQresultStatus(r) == PGRES_TUPLES_OK;
    PQclear(r);
    return fine;
}

static void sql(struct caller *c, const char *text)
{
    if (!try_sql(c, text)) {
        fail_msg("%s: %s", text, c->db != NULL ? sqlite3_errmsg(c->db) : PQerrorMessage(c->conn));
    }
}

static struct caller connect_caller(struct lib_rig *rig)
{
    struct caller c = {.rig = rig};
    if (rig->sqlite != NULL) {
        c.db = sqlite_rig_raw(rig->sqlite);
    } else {
        c.conn = pg_rig_connect(rig->pg);
        char set[128];
        (void)snprintf(set, sizeof set, "SET search_path = %s", rig->pg->schema);
        sql(&c, set);
    }
    return c;
}

static struct caller begin(struct lib_rig *rig)
{
    struct caller c = connect_caller(rig);
    sql(&c, "CREATE TABLE mine (n integer PRIMARY KEY)");
    return c;
}

static void end(struct caller *c)
{
    if (c->db != NULL) {
        assert_int_equal(sqlite3_close(c->db), SQLITE_OK); /* no statement was left behind */
    } else {
        PQfinish(c->conn);
    }
}

static int64_t add(struct caller *c, const char *queue, const struct pgqrs_item *items,
                   size_t count, struct pgqrs_receipt *receipts)
{
    const struct pgqrs_enqueue_in what = {.queue = queue, .items = items, .count = count};
    return c->db != NULL ? pgqrs_enqueue_sqlite(c->db, &what, receipts, &c->rig->why)
                         : pgqrs_enqueue_pg(c->conn, &what, receipts, &c->rig->why);
}

static int64_t number(struct caller *c, const char *query)
{
    if (c->db != NULL) {
        return sqlite_rig_number(c->db, query);
    }
    PGresult *r = PQexec(c->conn, query);
    assert_int_equal(PQresultStatus(r), PGRES_TUPLES_OK);
    int64_t n = strtoll(PQgetvalue(r, 0, 0), NULL, 10);
    PQclear(r);
    return n;
}

/* As another program sees it. */
static int64_t total(struct lib_rig *rig)
{
    struct pgqrs_counts n;
    lib_ok(rig, pgqrs_queue_metrics(rig->client, "q", 0, &n, &rig->why));
    return n.total;
}

static void commit_delivers(void **state)
{
    struct lib_rig *rig = *state;
    struct pgqrs_batch *got = NULL;
    struct pgqrs_receipt r[2];
    struct caller c = begin(rig);
    struct pgqrs_consumer *consumer = lib_rig_consumer(rig, NULL);
    const struct pgqrs_item items[2] = {pgqrs_item_of("{ \"n\": 1 }"), pgqrs_item_of("2")};
    sql(&c, "BEGIN");
    sql(&c, "INSERT INTO mine VALUES (1)");
    lib_is(rig, 2, add(&c, "q", items, 2, r));
    assert_int_equal(total(rig), 0);
    sql(&c, "INSERT INTO mine VALUES (2)");
    sql(&c, "COMMIT");
    assert_int_equal(number(&c, "SELECT count(*) FROM mine"), 2);
    lib_is(rig, 2, pgqrs_dequeue(consumer, 9, 0, &got, &rig->why));
    assert_int_equal(got->items[0].id, r[0].id);
    lib_rig_json_equal(got->items[0].payload, "{\"n\":1}");
    assert_int_equal(got->items[1].id, r[1].id);
    pgqrs_batch_free(got);
    lib_rig_end(rig, consumer);
    end(&c);
}

static void rollback_leaves_nothing(void **state)
{
    struct lib_rig *rig = *state;
    struct caller c = begin(rig);
    const struct pgqrs_item item = pgqrs_item_of("1");
    sql(&c, "BEGIN");
    sql(&c, "INSERT INTO mine VALUES (1)");
    lib_is(rig, 1, add(&c, "q", &item, 1, NULL));
    sql(&c, "ROLLBACK");
    assert_int_equal(total(rig), 0);
    assert_int_equal(number(&c, "SELECT count(*) FROM mine"), 0);
    sql(&c, "BEGIN");
    lib_is(rig, 1, add(&c, "q", &item, 1, NULL));
    sql(&c, "SAVEPOINT here");
    lib_is(rig, 1, add(&c, "q", &item, 1, NULL));
    sql(&c, "ROLLBACK TO SAVEPOINT here");
    sql(&c, "COMMIT");
    assert_int_equal(total(rig), 1);
    end(&c);
}

static void by_itself(void **state)
{
    struct lib_rig *rig = *state;
    struct caller c = begin(rig);
    const struct pgqrs_item item = pgqrs_item_of("1");
    lib_is(rig, 1, add(&c, "q", &item, 1, NULL));
    assert_int_equal(total(rig), 1);
    lib_is(rig, 0, add(&c, "q", NULL, 0, NULL));
    end(&c);
}

/* Whatever a call fails of, what was done before it stays, and more can be done. */
static void a_failure_costs_nothing(void **state)
{
    struct lib_rig *rig = *state;
    struct caller c = begin(rig);
    struct pgqrs_item items[2] = {pgqrs_item_of("1"), pgqrs_item_of("{")};
    sql(&c, "BEGIN");
    sql(&c, "INSERT INTO mine VALUES (1)");
    lib_fails(rig, PGQRS_E_INVALID, add(&c, "q", items, 2, NULL));
    assert_int_equal(rig->why.item, 1);
    lib_fails(rig, PGQRS_E_NOT_FOUND, add(&c, "no such queue", items, 1, NULL));
    items[1] = pgqrs_item_of("2");
    items[1].producer_id = 4711; /* the first is stored already when this one fails */
    assert_int_equal(add(&c, "q", items, 2, NULL), -1);
    assert_true(rig->why.code == PGQRS_E_NOT_FOUND || rig->why.code == PGQRS_E_CONFLICT);
    lib_fails(rig, PGQRS_E_INVALID, add(&c, NULL, items, 1, NULL));
    sql(&c, "INSERT INTO mine VALUES (2)");
    lib_is(rig, 1, add(&c, "q", items, 1, NULL));
    sql(&c, "COMMIT");
    assert_int_equal(total(rig), 1);
    assert_int_equal(number(&c, "SELECT count(*) FROM mine"), 2);
    end(&c);
}

static void unique_keys(void **state)
{
    struct lib_rig *rig = *state;
    struct caller c = begin(rig);
    struct pgqrs_receipt first;
    struct pgqrs_receipt r[2];
    struct pgqrs_item items[2] = {pgqrs_item_of("1"), pgqrs_item_of("2")};
    items[0].unique_key = "k";
    lib_is(rig, 1, pgqrs_enqueue(rig->client, "q", items, &first, &rig->why));
    sql(&c, "BEGIN");
    lib_is(rig, 1, add(&c, "q", items, 2, r));
    assert_true(r[0].existed && !r[1].existed);
    assert_int_equal(r[0].id, first.id);
    sql(&c, "COMMIT");
    assert_int_equal(total(rig), 2);
    end(&c);
}

/* The rules are those of the call, and no settings of the connection change. */
static void rules_and_settings(void **state)
{
    struct lib_rig *rig = *state;
    struct caller c = begin(rig);
    static const char *const none[] = {NULL};
    const struct pgqrs_rules rules = {.forbidden_keys = none};
    const struct pgqrs_item item = pgqrs_item_of("{\"__proto__\":1}");
    struct pgqrs_enqueue_in what = {.queue = "q", .items = &item, .count = 1};
    lib_fails(rig, PGQRS_E_INVALID, add(&c, "q", &item, 1, NULL));
    what.rules = &rules;
    if (c.db != NULL) {
        sql(&c, "PRAGMA foreign_keys = OFF");
        lib_is(rig, 1, pgqrs_enqueue_sqlite(c.db, &what, NULL, &rig->why));
        assert_int_equal(number(&c, "PRAGMA foreign_keys"), 0);
        lib_fails(rig, PGQRS_E_INVALID, pgqrs_enqueue_sqlite(NULL, &what, NULL, &rig->why));
    } else {
        what.schema = rig->pg->schema;
        sql(&c, "SET search_path = pg_catalog");
        sql(&c, "SET timezone = 'Asia/Tokyo'");
        lib_is(rig, 1, pgqrs_enqueue_pg(c.conn, &what, NULL, &rig->why));
        assert_int_equal(number(&c, "SELECT (current_setting('search_path') = 'pg_catalog' AND "
                                    "current_setting('timezone') = 'Asia/Tokyo')::int"),
                         1);
        lib_fails(rig, PGQRS_E_INVALID, pgqrs_enqueue_pg(NULL, &what, NULL, &rig->why));
    }
    what.reserved[1] = 1;
    lib_fails(rig, PGQRS_E_INVALID,
              c.db != NULL ? pgqrs_enqueue_sqlite(c.db, &what, NULL, &rig->why)
                           : pgqrs_enqueue_pg(c.conn, &what, NULL, &rig->why));
    end(&c);
}

/* SQLite: the caller's own lock is waited for as the caller has set it, and the failure is told. */
static void locked_by_another(void **state)
{
    struct lib_rig *rig = *state;
    struct caller c = begin(rig);
    struct caller other = connect_caller(rig);
    const struct pgqrs_item item = pgqrs_item_of("1");
    (void)sqlite3_busy_timeout(c.db, 1);
    sql(&other, "BEGIN IMMEDIATE");
    sql(&c, "BEGIN");
    lib_fails(rig, PGQRS_E_AGAIN, add(&c, "q", &item, 1, NULL));
    sql(&other, "ROLLBACK");
    sql(&c, "ROLLBACK");
    sql(&c, "BEGIN");
    lib_is(rig, 1, add(&c, "q", &item, 1, NULL));
    sql(&c, "COMMIT");
    assert_int_equal(total(rig), 1);
    end(&other);
    end(&c);
}

/* PostgreSQL: one that has failed already can only be rolled back. */
static void a_failed_transaction(void **state)
{
    struct lib_rig *rig = *state;
    struct caller c = begin(rig);
    const struct pgqrs_item item = pgqrs_item_of("1");
    sql(&c, "BEGIN");
    assert_false(try_sql(&c, "SELECT 1/0"));
    lib_fails(rig, PGQRS_E_CONFLICT, add(&c, "q", &item, 1, NULL));
    sql(&c, "ROLLBACK");
    lib_is(rig, 1, add(&c, "q", &item, 1, NULL));
    end(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LIB_CASE(commit_delivers),
        LIB_CASE(rollback_leaves_nothing),
        LIB_CASE(by_itself),
        LIB_CASE(a_failure_costs_nothing),
        LIB_CASE(unique_keys),
        LIB_CASE(rules_and_settings),
        LIB_CASE_SQLITE(locked_by_another),
        LIB_CASE_PG(a_failed_transaction),
    };
    return LIB_RIG_RUN(tests);
}
