/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <errno.h>

static int out_of_space(struct sqlite_store *s, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_AGAIN, "store \"%s\": the disk is full", s->shown);
}

int pgqrs_sqlite_fail(struct sqlite_store *s, struct pgqrs_error *err)
{
    int code = sqlite3_extended_errcode(s->db);
    int sys = sqlite3_system_errno(s->db);
    const char *text = sqlite3_errmsg(s->db);
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL: /* too many programs opened and closed it at once */
        return pgqrs_error_set(err, PGQRS_ERR_AGAIN,
                               "store \"%s\": another program has locked it (waited %lld ms)",
                               s->shown, (long long)s->busy_ms);
    case SQLITE_FULL:
        return out_of_space(s, err);
    case SQLITE_IOERR:
        if (sys == ENOSPC || sys == EDQUOT || sys == EFBIG) {
            return out_of_space(s, err);
        }
        return pgqrs_error_sys(err, PGQRS_ERR_AGAIN, sys, "store \"%s\": %s (SQLite code %d)",
                               s->shown, text, code);
    case SQLITE_NOMEM:
        return pgqrs_error_set(err, PGQRS_ERR_AGAIN, "store \"%s\": out of memory", s->shown);
    case SQLITE_NOTADB:
        return pgqrs_error_set(err, PGQRS_ERR_UNAVAILABLE,
                               "store \"%s\": is not an SQLite database", s->shown);
    case SQLITE_CORRUPT:
        return pgqrs_error_set(err, PGQRS_ERR_UNAVAILABLE,
                               "store \"%s\": the database is damaged: %s (SQLite code %d)",
                               s->shown, text, code);
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return pgqrs_error_sys(err, PGQRS_ERR_UNAVAILABLE, sys, "store \"%s\": %s", s->shown, text);
    default:
        return pgqrs_error_set(err, PGQRS_ERR_FAILED, "store \"%s\": %s (SQLite code %d)", s->shown,
                               text, code);
    }
}

int pgqrs_sqlite_prepare_failed(struct sqlite_store *s, struct pgqrs_error *err)
{
    if (sqlite3_errcode(s->db) == SQLITE_ERROR) {
        return pgqrs_error_set(err, PGQRS_ERR_SCHEMA,
                               "store \"%s\": %s; expected the schema to be installed", s->shown,
                               sqlite3_errmsg(s->db));
    }
    return pgqrs_sqlite_fail(s, err);
}

sqlite3_stmt *pgqrs_sqlite_stmt(struct sqlite_store *s, enum sqlite_stmt_id id,
                                struct pgqrs_error *err)
{
    if (s->stmts[id] == NULL &&
        sqlite3_prepare_v3(s->db, pgqrs_sqlite_sql(id), -1, SQLITE_PREPARE_PERSISTENT,
                           &s->stmts[id], NULL) != SQLITE_OK) {
        (void)pgqrs_sqlite_prepare_failed(s, err);
        return NULL;
    }
    return s->stmts[id];
}

int pgqrs_sqlite_step(struct sqlite_store *s, sqlite3_stmt *stmt, struct pgqrs_error *err)
{
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        return 1;
    }
    if (rc != SQLITE_DONE) {
        (void)(rc == SQLITE_ERROR ? pgqrs_sqlite_prepare_failed(s, err)
                                  : pgqrs_sqlite_fail(s, err));
    }
    (void)sqlite3_reset(stmt); /* repeats the error of the step */
    return rc == SQLITE_DONE ? 0 : -1;
}

int64_t pgqrs_sqlite_run(struct sqlite_store *s, sqlite3_stmt *stmt, struct pgqrs_error *err)
{
    if (pgqrs_sqlite_step(s, stmt, err) < 0) {
        return -1;
    }
    return sqlite3_changes64(s->db);
}

int pgqrs_sqlite_exists(struct sqlite_store *s, enum sqlite_stmt_id stmt_id, int64_t id,
                        struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, stmt_id, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, id);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc > 0) {
        (void)sqlite3_reset(stmt); /* the row is enough */
    }
    return rc;
}

int64_t pgqrs_sqlite_run_about(struct sqlite_store *s, enum sqlite_stmt_id stmt_id, int64_t id,
                               struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, stmt_id, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, id);
    return pgqrs_sqlite_run(s, stmt, err);
}

int pgqrs_sqlite_exec(struct sqlite_store *s, const char *sql, struct pgqrs_error *err)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : pgqrs_sqlite_fail(s, err);
}

/* In somebody's transaction a savepoint stands for one. */
static int begin(struct sqlite_store *s, enum sqlite_stmt_id how, struct pgqrs_error *err)
{
    if (pgqrs_sqlite_check_file(s, err) < 0) {
        return -1;
    }
    s->nested = s->borrowed && sqlite3_get_autocommit(s->db) == 0;
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, s->nested ? STMT_SAVEPOINT : how, err);
    return stmt == NULL ? -1 : pgqrs_sqlite_step(s, stmt, err);
}

/* The level can not change inside a transaction. */
static int use_level(struct sqlite_store *s, bool full, struct pgqrs_error *err)
{
    if (s->borrowed || !s->synchronous_full || full == s->syncs) {
        return 0;
    }
    int rc =
        pgqrs_sqlite_exec(s, full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", err);
    s->syncs = rc < 0 ? s->syncs : full;
    return rc;
}

static int begin_write(struct sqlite_store *s, bool full, struct pgqrs_error *err)
{
    if (use_level(s, full, err) < 0 || begin(s, STMT_BEGIN, err) < 0) {
        return -1;
    }
    pgqrs_sqlite_wake_begun(s);
    return 0;
}

int pgqrs_sqlite_begin(struct sqlite_store *s, struct pgqrs_error *err)
{
    return begin_write(s, true, err);
}

int pgqrs_sqlite_begin_unsynced(struct sqlite_store *s, struct pgqrs_error *err)
{
    return begin_write(s, false, err);
}

int pgqrs_sqlite_begin_read(struct sqlite_store *s, struct pgqrs_error *err)
{
    return begin(s, STMT_BEGIN_READ, err);
}

int pgqrs_sqlite_commit(struct sqlite_store *s, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt =
        pgqrs_sqlite_stmt(s, s->nested ? STMT_SAVEPOINT_RELEASE : STMT_COMMIT, err);
    if (stmt == NULL) {
        pgqrs_sqlite_rollback(s);
        return -1;
    }
    int rc = sqlite3_step(stmt);
    if (rc != SQLITE_DONE) {
        (void)pgqrs_sqlite_fail(s, err);
        if ((rc & 0xff) == SQLITE_IOERR && err != NULL) {
            err->code = PGQRS_ERR_UNKNOWN; /* the record of the commit may be on the disk */
        }
    }
    (void)sqlite3_reset(stmt); /* repeats the error of the step */
    if (rc != SQLITE_DONE) {
        pgqrs_sqlite_rollback(s);
        return -1;
    }
    return 0;
}

static void step_only(struct sqlite_store *s, enum sqlite_stmt_id id)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, id, NULL);
    if (stmt != NULL) {
        (void)sqlite3_step(stmt); /* the transaction ends in any case */
        (void)sqlite3_reset(stmt);
    }
}

void pgqrs_sqlite_rollback(struct sqlite_store *s)
{
    /* Some errors have rolled back already. */
    if (sqlite3_get_autocommit(s->db) != 0) {
        return;
    }
    if (s->nested) {
        step_only(s, STMT_SAVEPOINT_ROLLBACK);
        step_only(s, STMT_SAVEPOINT_RELEASE);
    } else {
        step_only(s, STMT_ROLLBACK);
    }
}

int64_t pgqrs_sqlite_end(struct sqlite_store *s, int64_t rc, struct pgqrs_error *err)
{
    if (rc < 0) {
        pgqrs_sqlite_rollback(s);
    } else if (pgqrs_sqlite_commit(s, err) < 0) {
        rc = -1;
    }
    (void)use_level(s, true, NULL); /* or at the next beginning */
    return rc < 0 ? -1 : rc;
}

/* Binding can fail only for an index that is not there and for a text beyond SQLite's 1 GB. */

void pgqrs_sqlite_bind_int(sqlite3_stmt *stmt, int index, int64_t value)
{
    (void)sqlite3_bind_int64(stmt, index, value);
}

void pgqrs_sqlite_bind_id(sqlite3_stmt *stmt, int index, int64_t id)
{
    (void)(id == 0 ? sqlite3_bind_null(stmt, index) : sqlite3_bind_int64(stmt, index, id));
}

void pgqrs_sqlite_bind_text(sqlite3_stmt *stmt, int index, const char *text)
{
    (void)sqlite3_bind_text(stmt, index, text, -1, SQLITE_STATIC);
}

void pgqrs_sqlite_bind_bytes(sqlite3_stmt *stmt, int index, struct pgqrs_bytes bytes)
{
    (void)sqlite3_bind_text64(stmt, index, bytes.data, bytes.len, SQLITE_STATIC, SQLITE_UTF8);
}
