/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/sqlite_rig.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int sqlite_rig_setup(void **state)
{
    struct sqlite_rig *rig = calloc(1, sizeof *rig);
    const char *tmp = getenv("TMPDIR");
    if (rig == NULL) {
        return -1;
    }
    (void)snprintf(rig->dir, sizeof rig->dir, "%s/pgqrs-store-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    if (mkdtemp(rig->dir) == NULL) {
        free(rig);
        return -1;
    }
    (void)snprintf(rig->path, sizeof rig->path, "%s/q.db", rig->dir);
    *state = rig;
    return 0;
}

static int on_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

int sqlite_rig_teardown(void **state)
{
    struct sqlite_rig *rig = *state;
    pgqrs_clock_set_wall(0);
    (void)chmod(rig->dir, 0700); /* a case may have closed it; nftw tells if this did not help */
    int rc = nftw(rig->dir, on_entry, 8, FTW_DEPTH | FTW_PHYS);
    free(rig);
    return rc;
}

int sqlite_rig_open(struct sqlite_rig *rig, struct pgqrs_store **store_out)
{
    const struct pgqrs_store_options options = {.create = true, .busy_ms = 2000};
    char dsn[sizeof rig->path + 16];
    (void)snprintf(dsn, sizeof dsn, "sqlite://%s", rig->path);
    return pgqrs_store_open(dsn, &options, store_out, &rig->err);
}

struct pgqrs_store *sqlite_rig_store(struct sqlite_rig *rig)
{
    struct pgqrs_store *store = NULL;
    suite_ok(rig, sqlite_rig_open(rig, &store));
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    return store;
}

sqlite3 *sqlite_rig_raw(struct sqlite_rig *rig)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(rig->path, &db), SQLITE_OK);
    (void)sqlite3_busy_timeout(db, 2000); /* can not fail on an open connection */
    return db;
}

static void exec(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    }
}

void sqlite_rig_sql(struct sqlite_rig *rig, const char *sql)
{
    sqlite3 *db = sqlite_rig_raw(rig);
    exec(db, sql);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

int64_t sqlite_rig_number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK ||
        sqlite3_step(stmt) != SQLITE_ROW) {
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    }
    int64_t number = sqlite3_column_int64(stmt, 0);
    (void)sqlite3_finalize(stmt); /* the row was read */
    return number;
}

int sqlite_rig_child(int (*fn)(struct sqlite_rig *rig), struct sqlite_rig *rig)
{
    pid_t pid = fork();
    if (pid == 0) {
        _exit(fn(rig));
    }
    int status = -1;
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
