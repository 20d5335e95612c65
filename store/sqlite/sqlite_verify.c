/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_schema.h"

#include <stdio.h>
#include <string.h>

#define HAS_TABLE "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1"

static const struct {
    const char *table;
    const char *columns; /* every one is read or written by somebody */
} tables[] = {
    {"pgqrs_queues", "id, queue_name, created_at"},
    {"pgqrs_workers", "id, queue_id, name, started_at, heartbeat_at, shutdown_at, status"},
    {"pgqrs_messages", "id, queue_id, payload, vt, enqueued_at, read_ct, dequeued_at,"
                       " producer_worker_id, consumer_worker_id, archived_at"},
    {"pgqrs_workflows", "id, name, queue_id, created_at"},
    {"pgqrs_workflow_runs", "id, workflow_id, message_id, status, input, output, error,"
                            " created_at, updated_at, started_at, paused_at, completed_at,"
                            " worker_id"},
    {"pgqrs_workflow_steps", "id, run_id, step_name, status, input, output, error, created_at,"
                             " updated_at, started_at, completed_at, retry_count, retry_at,"
                             " last_retry_at"},
};

#define TABLE_COUNT (sizeof tables / sizeof *tables)

static const char *const indexes[] = {
    "idx_messages_hot_path",  "idx_messages_consumer_active", "idx_messages_archived_at",
    "pgqrsd_messages_lease",  "pgqrsd_messages_failed",       "pgqrsd_messages_unique",
    "pgqrsd_messages_parent", "pgqrsd_schedules_next",
};

#define INDEX_COUNT (sizeof indexes / sizeof *indexes)

static const char *const triggers[] = {
    "pgqrsd_message_archived",
    "pgqrsd_message_deleted",
    "pgqrsd_run_ended",
    "pgqrsd_run_cancelling",
};

#define TRIGGER_COUNT (sizeof triggers / sizeof *triggers)

static sqlite3_stmt *prepare(struct sqlite_store *s, const char *sql, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(s->db, sql, -1, &stmt, NULL) != SQLITE_OK) {
        (void)pgqrs_sqlite_fail(s, err);
    }
    return stmt;
}

int pgqrs_sqlite_has(struct sqlite_store *s, const char *sql, const char *a, const char *b,
                     struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = prepare(s, sql, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_text(stmt, 1, a);
    if (b != NULL) {
        pgqrs_sqlite_bind_text(stmt, 2, b);
    }
    int rc = pgqrs_sqlite_step(s, stmt, err);
    (void)sqlite3_finalize(stmt); /* repeats the error of the step */
    return rc;
}

/* ---- the ledger of pgqrs' clients ---- */

static const struct sqlite_migration *migration_of(int64_t version)
{
    for (size_t i = 0; i < pgqrs_sqlite_ledger_count; i++) {
        if (pgqrs_sqlite_ledger[i].version == version) {
            return &pgqrs_sqlite_ledger[i];
        }
    }
    return NULL;
}

/* A row of (version, success, checksum in hexadecimal). */
static int check_ledger_row(struct sqlite_store *s, sqlite3_stmt *row, struct pgqrs_error *err)
{
    long long version = sqlite3_column_int64(row, 0);
    const struct sqlite_migration *m = migration_of(version);
    if (m == NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_SCHEMA,
                               "store \"%s\": found migration %lld in _sqlx_migrations, expected "
                               "only 1, 2, 3 and 5",
                               s->shown, version);
    }
    if (sqlite3_column_int(row, 1) != 1) {
        return pgqrs_error_set(err, PGQRS_ERR_SCHEMA,
                               "store \"%s\": found migration %lld in _sqlx_migrations marked as "
                               "failed, expected success",
                               s->shown, version);
    }
    struct pgqrs_bytes checksum = pgqrs_sqlite_bytes(row, 2);
    if (checksum.data == NULL || strcasecmp(checksum.data, m->checksum) != 0) {
        return pgqrs_error_set(err, PGQRS_ERR_SCHEMA,
                               "store \"%s\": found migration %lld in _sqlx_migrations with "
                               "checksum %.12s..., expected %.12s... (\"%s\" of pgqrs 0.15.2 or "
                               "later)",
                               s->shown, version, checksum.data == NULL ? "NULL" : checksum.data,
                               m->checksum, m->description);
    }
    return 0;
}

static int check_ledger_rows(struct sqlite_store *s, size_t *count_out, struct pgqrs_error *err)
{
    sqlite3_stmt *rows =
        prepare(s, "SELECT version, success, lower(hex(checksum)) FROM _sqlx_migrations", err);
    if (rows == NULL) {
        return -1;
    }
    *count_out = 0;
    int rc;
    while ((rc = pgqrs_sqlite_step(s, rows, err)) > 0) {
        if (check_ledger_row(s, rows, err) < 0) {
            rc = -1;
            break;
        }
        ++*count_out;
    }
    (void)sqlite3_finalize(rows); /* repeats the error of the step */
    return rc;
}

int pgqrs_sqlite_check_ledger(struct sqlite_store *s, bool complete, struct pgqrs_error *err)
{
    size_t count = 0;
    int there = pgqrs_sqlite_has(s, HAS_TABLE, "_sqlx_migrations", NULL, err);
    if (there < 0 || (there > 0 && check_ledger_rows(s, &count, err) < 0)) {
        return -1;
    }
    if (complete && count != pgqrs_sqlite_ledger_count) {
        return pgqrs_error_set(err, PGQRS_ERR_SCHEMA,
                               "store \"%s\": found %zu migrations in _sqlx_migrations, expected "
                               "%zu; install the schema",
                               s->shown, count, pgqrs_sqlite_ledger_count);
    }
    return 0;
}

/* ---- ours ---- */

int pgqrs_sqlite_check_version(struct sqlite_store *s, bool complete, struct pgqrs_error *err)
{
    int64_t version = 0;
    int rc = pgqrs_sqlite_has(s, HAS_TABLE, "pgqrsd_schema", NULL, err);
    if (rc > 0) {
        sqlite3_stmt *row = prepare(s, "SELECT coalesce(max(version), 0) FROM pgqrsd_schema", err);
        rc = row == NULL ? -1 : pgqrs_sqlite_step(s, row, err);
        version = rc > 0 ? sqlite3_column_int64(row, 0) : 0;
        (void)sqlite3_finalize(row); /* repeats the error of the step */
    }
    if (rc < 0) {
        return -1;
    }
    if (version > PGQRS_SQLITE_SCHEMA_VERSION) {
        return pgqrs_error_set(err, PGQRS_ERR_SCHEMA,
                               "store \"%s\": found schema version %lld, expected at most %d: a "
                               "newer pgqrsd has installed it",
                               s->shown, (long long)version, PGQRS_SQLITE_SCHEMA_VERSION);
    }
    if (complete && version < PGQRS_SQLITE_SCHEMA_VERSION) {
        return pgqrs_error_set(err, PGQRS_ERR_SCHEMA,
                               "store \"%s\": found schema version %lld, expected %d; install the "
                               "schema",
                               s->shown, (long long)version, PGQRS_SQLITE_SCHEMA_VERSION);
    }
    return 0;
}

/* Selecting the columns by name is the test: an unknown one does not compile. */
static int check_selectable(struct sqlite_store *s, const char *table, const char *columns,
                            struct pgqrs_error *err)
{
    char sql[400];
    (void)snprintf(sql, sizeof sql, "SELECT %s FROM %s", columns, table);
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(s->db, sql, -1, &stmt, NULL) != SQLITE_OK) {
        if (sqlite3_errcode(s->db) != SQLITE_ERROR) {
            return pgqrs_sqlite_fail(s, err);
        }
        return pgqrs_error_set(err, PGQRS_ERR_SCHEMA,
                               "store \"%s\": found %s, expected table %s with columns %s",
                               s->shown, sqlite3_errmsg(s->db), table, columns);
    }
    (void)sqlite3_finalize(stmt); /* it was not stepped */
    return 0;
}

int pgqrs_sqlite_check_columns(struct sqlite_store *s, struct pgqrs_error *err)
{
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        if (check_selectable(s, tables[i].table, tables[i].columns, err) < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < pgqrs_sqlite_column_count; i++) {
        const struct sqlite_column *c = &pgqrs_sqlite_columns[i];
        if (check_selectable(s, c->table, c->name, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int check_there(struct sqlite_store *s, const char *type, const char *const *names,
                       size_t count, struct pgqrs_error *err)
{
    for (size_t i = 0; i < count; i++) {
        int there = pgqrs_sqlite_has(s, "SELECT 1 FROM sqlite_master WHERE type = ?1 AND name = ?2",
                                     type, names[i], err);
        if (there < 0) {
            return -1;
        }
        if (there == 0) {
            return pgqrs_error_set(err, PGQRS_ERR_SCHEMA,
                                   "store \"%s\": found no %s %s; install the schema", s->shown,
                                   type, names[i]);
        }
    }
    return 0;
}

/* A row of (table, rowid, table it refers to). */
static int check_orphans(struct sqlite_store *s, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = prepare(s,
                                 "SELECT \"table\", rowid, parent FROM pragma_foreign_key_check"
                                 " WHERE substr(\"table\", 1, 6) = 'pgqrs_' LIMIT 1",
                                 err);
    if (stmt == NULL) {
        return -1;
    }
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc > 0) {
        rc = pgqrs_error_set(
            err, PGQRS_ERR_SCHEMA,
            "store \"%s\": found row %lld of %s referring to a row of %s that does not exist",
            s->shown, (long long)sqlite3_column_int64(stmt, 1), sqlite3_column_text(stmt, 0),
            sqlite3_column_text(stmt, 2));
    }
    (void)sqlite3_finalize(stmt); /* repeats the error of the step */
    return rc;
}

int pgqrs_sqlite_verify(struct pgqrs_store *store, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_check_columns(s, err) < 0 ||
        check_selectable(s, "pgqrsd_cancel_requests", "message_id, requested_at", err) < 0 ||
        check_selectable(s, "pgqrsd_schedules",
                         "id, name, queue_id, cron, zone, payload, priority, catch_up, overlap,"
                         " config, created_at, paused_at, next_at, planned, last_at,"
                         " last_message_id",
                         err) < 0 ||
        check_selectable(s, "pgqrsd_schedule_ticks", "schedule_id, tick_at, message_id", err) < 0 ||
        check_selectable(s, "pgqrsd_workflow_events", "message_id, name, payload, created_at",
                         err) < 0 ||
        check_selectable(s, "pgqrsd_workflow_state", "message_id, key, value, updated_at", err) <
            0 ||
        pgqrs_sqlite_check_ledger(s, true, err) < 0 ||
        pgqrs_sqlite_check_version(s, true, err) < 0 ||
        check_there(s, "index", indexes, INDEX_COUNT, err) < 0 ||
        check_there(s, "trigger", triggers, TRIGGER_COUNT, err) < 0) {
        return -1;
    }
    return check_orphans(s, err);
}

int pgqrs_sqlite_fits(struct pgqrs_store *store, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_check_ledger(s, false, err) < 0 ||
        pgqrs_sqlite_check_version(s, false, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_has(s, HAS_TABLE, "pgqrs_messages", NULL, err);
}
