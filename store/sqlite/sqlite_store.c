/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BUSY_SLEEP_MIN_US 200
#define BUSY_SLEEP_MAX_US 2000

/*
 * References between rows are checked by our statements, in the transactions that write them:
 * SQLite's own check makes it keep a journal for each changed row, a fifth of the time of a lease.
 */
#define SETTINGS                                                                                   \
    "PRAGMA foreign_keys=OFF; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-16384;"                 \
    "PRAGMA journal_size_limit=67108864"

static void sleep_us(int64_t us)
{
    const struct timespec pause = {.tv_nsec = us * 1000};
    (void)nanosleep(&pause, NULL); /* a signal only makes it shorter */
}

/* Called while another connection holds the lock; returning 0 gives up. */
static int on_busy(void *arg, int calls)
{
    struct sqlite_store *s = arg;
    int64_t now = pgqrs_mono_ms();
    if (calls == 0) {
        s->busy_since_ms = now;
    }
    if (now - s->busy_since_ms >= s->busy_ms) {
        return 0;
    }
    int64_t us = BUSY_SLEEP_MIN_US * (int64_t)(calls + 1);
    sleep_us(us > BUSY_SLEEP_MAX_US ? BUSY_SLEEP_MAX_US : us);
    return 1;
}

/* ---- the file ---- */

/* The directory first: SQLite keeps the -wal and -shm files beside the database. */
static int check_directory(const char *path, struct pgqrs_error *err)
{
    char copy[PATH_MAX];
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy) {
        return pgqrs_error_sys(err, PGQRS_ERR_UNAVAILABLE, ENAMETOOLONG, "store \"%.200s\"", path);
    }
    const char *dir = dirname(copy);
    struct stat st;
    if (stat(dir, &st) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_UNAVAILABLE, errno, "store \"%s\": directory \"%s\"",
                               path, dir);
    }
    if (faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_UNAVAILABLE, errno,
                               "store \"%s\": directory \"%s\" must be writable, SQLite keeps its "
                               "-wal file there",
                               path, dir);
    }
    return 0;
}

static int check_file(const char *path, bool create, struct pgqrs_error *err)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        if (errno == ENOENT && create) {
            return check_directory(path, err);
        }
        return pgqrs_error_sys(err, PGQRS_ERR_UNAVAILABLE, errno, "store \"%s\"", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return pgqrs_error_set(err, PGQRS_ERR_UNAVAILABLE,
                               "store \"%s\": is a %s, expected an SQLite database file", path,
                               S_ISDIR(st.st_mode) ? "directory" : "special file");
    }
    if (faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_UNAVAILABLE, errno,
                               "store \"%s\": must be readable and writable", path);
    }
    return check_directory(path, err);
}

/* An absolute name without links, so that all names of one file find the same -wal and lock. */
static char *resolve(const char *path)
{
    char *full = realpath(path, NULL);
    if (full != NULL || errno != ENOENT) {
        return full;
    }
    char copy[PATH_MAX];
    char base[PATH_MAX];
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy) {
        return NULL;
    }
    (void)snprintf(base, sizeof base, "%s", path); /* as long as the other one */
    char *dir = realpath(dirname(copy), NULL);
    if (dir == NULL || asprintf(&full, "%s/%s", dir, basename(base)) < 0) {
        full = NULL;
    }
    free(dir);
    return full;
}

/* ---- the connection ---- */

static int open_file(struct sqlite_store *s, const char *path, bool create, struct pgqrs_error *err)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE |
                (create || path == NULL ? SQLITE_OPEN_CREATE : 0);
    s->shown = strdup(path == NULL ? ":memory:" : path);
    if (s->shown == NULL) {
        return pgqrs_error_memory(err);
    }
    if (path != NULL) {
        if (check_file(path, create, err) < 0) {
            return -1;
        }
        s->path = resolve(path);
        if (s->path == NULL) {
            return pgqrs_error_sys(err, PGQRS_ERR_UNAVAILABLE, errno, "store \"%s\"", path);
        }
    }
    if (sqlite3_open_v2(s->path == NULL ? ":memory:" : s->path, &s->db, flags, NULL) != SQLITE_OK) {
        return s->db == NULL ? pgqrs_error_memory(err) : pgqrs_sqlite_fail(s, err);
    }
    return 0;
}

static int try_wal(struct sqlite_store *s, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(s->db, "PRAGMA journal_mode=WAL", -1, &stmt, NULL) != SQLITE_OK) {
        return pgqrs_sqlite_fail(s, err);
    }
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc > 0) {
        struct pgqrs_bytes mode = pgqrs_sqlite_bytes(stmt, 0);
        rc = 0;
        if (s->path != NULL && (mode.data == NULL || strcmp(mode.data, "wal") != 0)) {
            rc = pgqrs_error_set(err, PGQRS_ERR_UNAVAILABLE,
                                 "store \"%s\": found journal mode \"%s\", expected wal", s->shown,
                                 mode.data == NULL ? "" : mode.data);
        }
    }
    (void)sqlite3_finalize(stmt); /* repeats the error of the step */
    return rc;
}

/* SQLite does not call its busy handler when two programs make this change at once. */
static int use_wal(struct sqlite_store *s, struct pgqrs_error *err)
{
    int64_t deadline_ms = pgqrs_mono_ms() + s->busy_ms;
    struct pgqrs_error why;
    while (try_wal(s, &why) < 0) {
        if (why.code != PGQRS_ERR_AGAIN || pgqrs_mono_ms() >= deadline_ms) {
            return pgqrs_error_set(err, why.code, "%s", why.text);
        }
        sleep_us(BUSY_SLEEP_MAX_US);
    }
    return 0;
}

static int configure(struct sqlite_store *s, const struct pgqrs_store_options *options,
                     struct pgqrs_error *err)
{
    (void)sqlite3_busy_handler(s->db, on_busy, s); /* can not fail on an open connection */
    if (s->path != NULL && sqlite3_db_readonly(s->db, "main") != 0) {
        return pgqrs_error_set(err, PGQRS_ERR_UNAVAILABLE,
                               "store \"%s\": is read-only, expected a writable file", s->shown);
    }
    if (use_wal(s, err) < 0) {
        return -1;
    }
    if (pgqrs_sqlite_exec(s, SETTINGS, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_exec(
        s, options->synchronous_full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL",
        err);
}

static void close_store(struct pgqrs_store *store)
{
    struct sqlite_store *s = sqlite_of(store);
    pgqrs_sqlite_wake_fini(&s->wake);
    for (int i = 0; i < STMT_COUNT; i++) {
        (void)sqlite3_finalize(s->stmts[i]); /* repeats an error that was handled */
    }
    (void)sqlite3_close(s->db); /* can be refused only while a statement is left */
    if (s->claim_fd >= 0) {
        (void)close(s->claim_fd); /* only held for its lock */
    }
    free(s->path);
    free(s->shown);
    free(s);
}

static const struct pgqrs_store_ops sqlite_ops = {
    .name = "sqlite",
    .close = close_store,
    .claim = pgqrs_sqlite_claim,
    .install = pgqrs_sqlite_install,
    .verify = pgqrs_sqlite_verify,
    .queue_create = pgqrs_sqlite_queue_create,
    .queue_find = pgqrs_sqlite_queue_find,
    .queue_list = pgqrs_sqlite_queue_list,
    .queue_metrics = pgqrs_sqlite_queue_metrics,
    .enqueue = pgqrs_sqlite_enqueue,
    .message_get = pgqrs_sqlite_message_get,
    .message_list = pgqrs_sqlite_message_list,
    .worker_register = pgqrs_sqlite_worker_register,
    .worker_beat = pgqrs_sqlite_worker_beat,
    .worker_end = pgqrs_sqlite_worker_end,
    .worker_reconcile = pgqrs_sqlite_worker_reconcile,
    .worker_list_live = pgqrs_sqlite_worker_list_live,
    .exchange = pgqrs_sqlite_exchange,
    .renew = pgqrs_sqlite_renew,
    .wake_fd = pgqrs_sqlite_wake_fd,
    .woken = pgqrs_sqlite_woken,
};

int pgqrs_store_sqlite_open(const char *dsn, const struct pgqrs_store_options *options,
                            struct pgqrs_store **store_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return pgqrs_error_memory(err);
    }
    s->base.ops = &sqlite_ops;
    s->claim_fd = -1;
    s->busy_ms = options->busy_ms;
    pgqrs_sqlite_wake_init(&s->wake);
    bool create = options->create;
    char *path = NULL;
    if (pgqrs_sqlite_parse_dsn(dsn, &path, &create, err) < 0 ||
        open_file(s, path, create, err) < 0 || configure(s, options, err) < 0) {
        free(path);
        close_store(&s->base);
        return -1;
    }
    free(path);
    *store_out = &s->base;
    return 0;
}
