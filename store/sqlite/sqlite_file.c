/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_flow.h"

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

/* The database file and the connection to it. */

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

static int connect_to(struct sqlite_store *s, bool create, struct pgqrs_error *err)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE |
                (create || s->path == NULL ? SQLITE_OPEN_CREATE : 0);
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

static ino_t wal_inode(const struct sqlite_store *s)
{
    char path[PATH_MAX + 8];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s-wal", s->path);
    return stat(path, &st) < 0 ? 0 : st.st_ino;
}

#define CHECKPOINT_PAGES 1000 /* as SQLite does without us */

/* After a commit, the lock is given back. */
static int on_committed(void *arg, sqlite3 *db, const char *name, int pages)
{
    struct sqlite_store *s = arg;
    pgqrs_sqlite_wake_ended(s);
    if (pages >= CHECKPOINT_PAGES) {
        (void)sqlite3_wal_checkpoint(db, name); /* the next commit tries again */
    }
    return SQLITE_OK;
}

/* Where the connection calls back. */
static void attach(struct sqlite_store *s)
{
    (void)sqlite3_busy_handler(s->db, on_busy, s); /* can not fail on an open connection */
    (void)sqlite3_wal_hook(s->db, on_committed, s);
    pgqrs_sqlite_guest_attach(s);
}

static int configure(struct sqlite_store *s, struct pgqrs_error *err)
{
    attach(s);
    if (s->path != NULL && sqlite3_db_readonly(s->db, "main") != 0) {
        return pgqrs_error_set(err, PGQRS_ERR_UNAVAILABLE,
                               "store \"%s\": is read-only, expected a writable file", s->shown);
    }
    if (use_wal(s, err) < 0 || pgqrs_sqlite_exec(s, SETTINGS, err) < 0) {
        return -1;
    }
    s->wal_inode = s->path == NULL ? 0 : wal_inode(s);
    s->syncs = s->synchronous_full;
    return pgqrs_sqlite_exec(
        s, s->synchronous_full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", err);
}

int pgqrs_sqlite_open_file(struct sqlite_store *s, const char *path, bool create,
                           struct pgqrs_error *err)
{
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
    return connect_to(s, create, err) < 0 || configure(s, err) < 0 ? -1 : 0;
}

void pgqrs_sqlite_finalize(struct sqlite_store *s)
{
    for (int i = 0; i < STMT_COUNT; i++) {
        (void)sqlite3_finalize(s->stmts[i]); /* repeats an error that was handled */
        s->stmts[i] = NULL;
    }
}

/* ---- when the file is another one ---- */

/*
 * Somebody has deleted the database, or put another one in its place, while it was open: what is
 * written to the old one is lost. SQLite compares the names' inode with that of its file.
 */
static bool has_moved(struct sqlite_store *s)
{
    int moved = 0;
    return sqlite3_file_control(s->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
           moved != 0;
}

/* The old connection must not touch the -wal file at its end: by its name it may be another's. */
static void drop_old(sqlite3 *db)
{
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
    (void)sqlite3_close(db); /* its statements are gone */
}

static int open_new(struct sqlite_store *s, struct pgqrs_error *err)
{
    if (check_file(s->path, false, err) < 0) {
        return -1;
    }
    if (s->wal_inode != 0 && wal_inode(s) == s->wal_inode) {
        return pgqrs_error_set(err, PGQRS_ERR_AGAIN,
                               "store \"%s\": found another database in its place, but the -wal "
                               "and -shm files of the old one; expected those to be gone with it",
                               s->shown);
    }
    struct sqlite_store other = {.wake = {.fd = -1},
                                 .path = s->path,
                                 .shown = s->shown,
                                 .busy_ms = s->busy_ms,
                                 .synchronous_full = s->synchronous_full};
    if (connect_to(&other, false, err) < 0 || configure(&other, err) < 0) {
        (void)sqlite3_close(other.db); /* it has no statements */
        return -1;
    }
    pgqrs_sqlite_finalize(s);
    drop_old(s->db);
    s->db = other.db;
    s->wal_inode = other.wal_inode;
    s->syncs = other.syncs;
    attach(s);
    pgqrs_sqlite_wake_moved(s);
    return pgqrs_sqlite_claim_moved(s, err);
}

int pgqrs_sqlite_check_file(struct sqlite_store *s, struct pgqrs_error *err)
{
    if (s->path == NULL) {
        return 0;
    }
    if (!has_moved(s)) {
        s->wal_inode =
            s->wal_inode == 0 ? wal_inode(s) : s->wal_inode; /* made by the first write */
        return 0;
    }
    struct pgqrs_error why = {0};
    if (open_new(s, &why) < 0) {
        (void)pgqrs_error_set(err, PGQRS_ERR_AGAIN, "%s (the database that was open is gone)",
                              why.text);
        if (err != NULL) {
            err->sys_errno = why.sys_errno; /* ENOENT: there is none in its place */
        }
        return -1;
    }
    return pgqrs_error_set(err, PGQRS_ERR_AGAIN,
                           "store \"%s\": the database file was replaced; the new one is open now",
                           s->shown);
}
