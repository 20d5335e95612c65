/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A row of the program's own and a job, in one SQLite transaction: both are there, or neither.
 *
 *     order_sqlite FILE QUEUE TEXT [fail]
 *     cc order_sqlite.c $(pkg-config --cflags --libs pgqrs sqlite3)
 *
 * The file holds an installed pgqrs schema beside the program's tables. With "fail" the program
 * changes its mind at the end.
 */
#include <inttypes.h>
#include <pgqrs/pgqrs.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

static int sql(sqlite3 *db, const char *text)
{
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK) {
        fprintf(stderr, "order: %s: %s\n", text, sqlite3_errmsg(db));
        return -1;
    }
    return 0;
}

static int add_order(sqlite3 *db, const char *text)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, "INSERT INTO orders (text) VALUES (?)", -1, &stmt, NULL);
    rc = rc == SQLITE_OK ? sqlite3_bind_text(stmt, 1, text, -1, SQLITE_STATIC) : rc;
    rc = rc == SQLITE_OK ? sqlite3_step(stmt) : rc;
    (void)sqlite3_finalize(stmt);
    return rc == SQLITE_DONE ? 0 : -1;
}

static int add_job(sqlite3 *db, const char *queue)
{
    char payload[64];
    struct pgqrs_receipt receipt;
    struct pgqrs_failure why;
    (void)snprintf(payload, sizeof payload, "{\"order\":%lld}",
                   (long long)sqlite3_last_insert_rowid(db));
    const struct pgqrs_item item = pgqrs_item_of(payload);
    const struct pgqrs_enqueue_in what = {.queue = queue, .items = &item, .count = 1};
    if (pgqrs_enqueue_sqlite(db, &what, &receipt, &why) < 0) {
        fprintf(stderr, "order: %s\n", why.text);
        return -1;
    }
    printf("%" PRId64 "\n", receipt.id);
    return 0;
}

int main(int argc, char **argv)
{
    sqlite3 *db = NULL;
    if (argc < 4) {
        fprintf(stderr, "usage: order_sqlite FILE QUEUE TEXT [fail]\n");
        return 2;
    }
    int rc = sqlite3_open(argv[1], &db) == SQLITE_OK ? 0 : -1;
    (void)sqlite3_busy_timeout(db, 5000);
    rc = rc < 0 ? -1 : sql(db, "CREATE TABLE IF NOT EXISTS orders (text TEXT NOT NULL)");
    rc = rc < 0 ? -1 : sql(db, "BEGIN IMMEDIATE");
    if (rc == 0) {
        rc = add_order(db, argv[3]) < 0 || add_job(db, argv[2]) < 0 || argc > 4 ? -1 : 0;
        rc = sql(db, rc < 0 ? "ROLLBACK" : "COMMIT") < 0 ? -1 : rc;
    }
    (void)sqlite3_close(db);
    return rc == 0 ? 0 : 1;
}
