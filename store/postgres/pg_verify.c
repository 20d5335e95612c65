/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_schema.h"

#include <stdlib.h>
#include <string.h>

/*
 * What the schema must have. The work does not grow with the rows: foreign keys that are there and
 * were validated leave nothing to look for in the tables.
 */

/* The tables: columns and their types. */
#define TZ "timestamp with time zone"
#define COLUMNS                                                                                    \
    "('pgqrs_queues', 'id', 'bigint'), ('pgqrs_queues', 'queue_name', 'character varying'), "      \
    "('pgqrs_queues', 'created_at', '" TZ "'), "                                                   \
    "('pgqrs_queues', 'pgqrsd_paused_at', '" TZ "'), ('pgqrs_workers', 'id', 'bigint'), "          \
    "('pgqrs_workers', 'name', 'text'), ('pgqrs_workers', 'queue_id', 'bigint'), "                 \
    "('pgqrs_workers', 'started_at', '" TZ "'), ('pgqrs_workers', 'heartbeat_at', '" TZ "'), "     \
    "('pgqrs_workers', 'shutdown_at', '" TZ "'), "                                                 \
    "('pgqrs_workers', 'status', 'worker_status'), "                                               \
    "('pgqrs_workers', 'pgqrsd_instance', 'text'), "                                               \
    "('pgqrs_workers', 'pgqrsd_generation', 'bigint'), "                                           \
    "('pgqrs_workers', 'pgqrsd_pid', 'bigint'), ('pgqrs_messages', 'id', 'bigint'), "              \
    "('pgqrs_messages', 'queue_id', 'bigint'), ('pgqrs_messages', 'payload', 'jsonb'), "           \
    "('pgqrs_messages', 'vt', '" TZ "'), ('pgqrs_messages', 'enqueued_at', '" TZ "'), "            \
    "('pgqrs_messages', 'read_ct', 'integer'), ('pgqrs_messages', 'dequeued_at', '" TZ "'), "      \
    "('pgqrs_messages', 'producer_worker_id', 'bigint'), "                                         \
    "('pgqrs_messages', 'consumer_worker_id', 'bigint'), "                                         \
    "('pgqrs_messages', 'archived_at', '" TZ "'), "                                                \
    "('pgqrs_messages', 'pgqrsd_priority', 'integer'), "                                           \
    "('pgqrs_messages', 'pgqrsd_due_at', '" TZ "'), "                                              \
    "('pgqrs_messages', 'pgqrsd_crash_ct', 'integer'), "                                           \
    "('pgqrs_messages', 'pgqrsd_outcome', 'text'), "                                               \
    "('pgqrs_messages', 'pgqrsd_result', 'json'), "                                                \
    "('pgqrs_messages', 'pgqrsd_error', 'text'), "                                                 \
    "('pgqrs_messages', 'pgqrsd_unique_key', 'text'), "                                            \
    "('pgqrs_messages', 'pgqrsd_flow', 'boolean'), "                                               \
    "('pgqrs_messages', 'pgqrsd_parent_id', 'bigint'), ('pgqrs_workflows', 'id', 'bigint'), "      \
    "('pgqrs_workflows', 'name', 'character varying(255)'), "                                      \
    "('pgqrs_workflows', 'queue_id', 'bigint'), ('pgqrs_workflows', 'created_at', '" TZ "'), "     \
    "('pgqrs_workflow_runs', 'id', 'bigint'), "                                                    \
    "('pgqrs_workflow_runs', 'workflow_id', 'bigint'), "                                           \
    "('pgqrs_workflow_runs', 'message_id', 'bigint'), "                                            \
    "('pgqrs_workflow_runs', 'status', 'pgqrs_workflow_status'), "                                 \
    "('pgqrs_workflow_runs', 'input', 'jsonb'), ('pgqrs_workflow_runs', 'output', 'jsonb'), "      \
    "('pgqrs_workflow_runs', 'error', 'jsonb'), "                                                  \
    "('pgqrs_workflow_runs', 'created_at', '" TZ "'), "                                            \
    "('pgqrs_workflow_runs', 'updated_at', '" TZ "'), "                                            \
    "('pgqrs_workflow_runs', 'started_at', '" TZ "'), "                                            \
    "('pgqrs_workflow_runs', 'paused_at', '" TZ "'), "                                             \
    "('pgqrs_workflow_runs', 'completed_at', '" TZ "'), "                                          \
    "('pgqrs_workflow_runs', 'worker_id', 'bigint'), "                                             \
    "('pgqrs_workflow_runs', 'pgqrsd_event', 'text'), "                                            \
    "('pgqrs_workflow_steps', 'id', 'bigint'), ('pgqrs_workflow_steps', 'run_id', 'bigint'), "     \
    "('pgqrs_workflow_steps', 'step_name', 'character varying(255)'), "                            \
    "('pgqrs_workflow_steps', 'status', 'pgqrs_workflow_status'), "                                \
    "('pgqrs_workflow_steps', 'input', 'jsonb'), "                                                 \
    "('pgqrs_workflow_steps', 'output', 'jsonb'), "                                                \
    "('pgqrs_workflow_steps', 'error', 'jsonb'), "                                                 \
    "('pgqrs_workflow_steps', 'created_at', '" TZ "'), "                                           \
    "('pgqrs_workflow_steps', 'updated_at', '" TZ "'), "                                           \
    "('pgqrs_workflow_steps', 'started_at', '" TZ "'), "                                           \
    "('pgqrs_workflow_steps', 'completed_at', '" TZ "'), "                                         \
    "('pgqrs_workflow_steps', 'retry_count', 'integer'), "                                         \
    "('pgqrs_workflow_steps', 'retry_at', '" TZ "'), "                                             \
    "('pgqrs_workflow_steps', 'last_retry_at', '" TZ "'), "                                        \
    "('pgqrs_workflow_steps', 'pgqrsd_kind', 'text'), "                                            \
    "('pgqrsd_workflow_events', 'message_id', 'bigint'), "                                         \
    "('pgqrsd_workflow_events', 'name', 'text'), "                                                 \
    "('pgqrsd_workflow_events', 'payload', 'jsonb'), "                                             \
    "('pgqrsd_workflow_events', 'created_at', '" TZ "'), "                                         \
    "('pgqrsd_workflow_state', 'message_id', 'bigint'), "                                          \
    "('pgqrsd_workflow_state', 'key', 'text'), ('pgqrsd_workflow_state', 'value', 'jsonb'), "      \
    "('pgqrsd_workflow_state', 'updated_at', '" TZ "'), "                                          \
    "('pgqrsd_cancel_requests', 'message_id', 'bigint'), "                                         \
    "('pgqrsd_cancel_requests', 'requested_at', '" TZ "'), "                                       \
    "('pgqrsd_schedules', 'id', 'bigint'), "                                                       \
    "('pgqrsd_schedules', 'name', 'text'), "                                                       \
    "('pgqrsd_schedules', 'queue_id', 'bigint'), "                                                 \
    "('pgqrsd_schedules', 'cron', 'text'), "                                                       \
    "('pgqrsd_schedules', 'zone', 'text'), "                                                       \
    "('pgqrsd_schedules', 'payload', 'jsonb'), "                                                   \
    "('pgqrsd_schedules', 'priority', 'integer'), "                                                \
    "('pgqrsd_schedules', 'catch_up', 'text'), "                                                   \
    "('pgqrsd_schedules', 'overlap', 'text'), "                                                    \
    "('pgqrsd_schedules', 'config', 'text'), "                                                     \
    "('pgqrsd_schedules', 'created_at', '" TZ "'), "                                               \
    "('pgqrsd_schedules', 'paused_at', '" TZ "'), "                                                \
    "('pgqrsd_schedules', 'next_at', '" TZ "'), "                                                  \
    "('pgqrsd_schedules', 'planned', 'boolean'), "                                                 \
    "('pgqrsd_schedules', 'last_at', '" TZ "'), "                                                  \
    "('pgqrsd_schedules', 'last_message_id', 'bigint'), "                                          \
    "('pgqrsd_schedule_ticks', 'schedule_id', 'bigint'), "                                         \
    "('pgqrsd_schedule_ticks', 'tick_at', '" TZ "'), "                                             \
    "('pgqrsd_schedule_ticks', 'message_id', 'bigint')"

/* Foreign keys: table, column, what it refers to. */
#define REFERENCES                                                                                 \
    "('pgqrs_workers', 'queue_id', 'pgqrs_queues'), "                                              \
    "('pgqrs_messages', 'queue_id', 'pgqrs_queues'), "                                             \
    "('pgqrs_messages', 'producer_worker_id', 'pgqrs_workers'), "                                  \
    "('pgqrs_messages', 'consumer_worker_id', 'pgqrs_workers'), "                                  \
    "('pgqrs_workflows', 'queue_id', 'pgqrs_queues'), "                                            \
    "('pgqrs_workflow_runs', 'workflow_id', 'pgqrs_workflows'), "                                  \
    "('pgqrs_workflow_runs', 'message_id', 'pgqrs_messages'), "                                    \
    "('pgqrs_workflow_runs', 'worker_id', 'pgqrs_workers'), "                                      \
    "('pgqrs_workflow_steps', 'run_id', 'pgqrs_workflow_runs')"

#define UNIQUES                                                                                    \
    "('pgqrs_queues', 'id'), ('pgqrs_queues', 'queue_name'), ('pgqrs_workers', 'id'), "            \
    "('pgqrs_workers', 'name'), ('pgqrs_messages', 'id'), ('pgqrs_workflows', 'id'), "             \
    "('pgqrs_workflows', 'name'), ('pgqrs_workflow_runs', 'id'), "                                 \
    "('pgqrs_workflow_runs', 'message_id'), ('pgqrs_workflow_steps', 'id')"

#define INDEXES                                                                                    \
    "('idx_pgqrs_workers_queue_status'), ('idx_pgqrs_workers_heartbeat'), "                        \
    "('idx_pgqrs_messages_hot_path'), ('idx_pgqrs_messages_consumer_worker_id_active'), "          \
    "('idx_pgqrs_messages_archived_at'), ('pgqrsd_messages_lease'), "                              \
    "('pgqrsd_messages_failed'), ('pgqrsd_messages_unique'), ('pgqrsd_messages_parent'), "         \
    "('pgqrsd_schedules_next')"

#define LABELS                                                                                     \
    "('worker_status', 'ready'), ('worker_status', 'polling'), "                                   \
    "('worker_status', 'suspended'), ('worker_status', 'interrupted'), "                           \
    "('worker_status', 'stopped'), ('pgqrs_workflow_status', 'QUEUED'), "                          \
    "('pgqrs_workflow_status', 'RUNNING'), ('pgqrs_workflow_status', 'SUCCESS'), "                 \
    "('pgqrs_workflow_status', 'ERROR'), ('pgqrs_workflow_status', 'PAUSED'), "                    \
    "('pgqrs_workflow_status', 'CANCELLING'), ('pgqrs_workflow_status', 'CANCELLED')"

#define FUNCTIONS                                                                                  \
    "('pgqrsd_now()'), ('pgqrsd_wake()'), "                                                        \
    "('pgqrs_enqueue(text,jsonb,interval,integer,text,timestamptz)'), "                            \
    "('pgqrs_enqueue_batch(text,jsonb[],interval,integer)'), ('pgqrs_cancel(bigint)'), "           \
    "('pgqrs_backlog(text)'), ('pgqrsd_send_event(bigint,text,jsonb)'), "                          \
    "('pgqrsd_message_archived()'), ('pgqrsd_message_deleted()')"

#define TRIGGERS "('pgqrsd_wake'), ('pgqrsd_message_archived'), ('pgqrsd_message_deleted')"

/* Names without a schema are found through search_path, like those in our statements. */
const struct pg_stmt pgqrs_pg_verify_stmt = {
    .sql =
        "WITH c (t, n, k) AS (VALUES " COLUMNS ")"
        " SELECT CASE WHEN to_regclass(c.t) IS NULL THEN 'table ' || c.t"
        " WHEN a.attname IS NULL THEN 'column ' || c.t || '.' || c.n"
        " ELSE 'column ' || c.t || '.' || c.n || ' of type ' || c.k END"
        " FROM c LEFT JOIN pg_attribute a ON a.attrelid = to_regclass(c.t) AND a.attname = c.n"
        " AND a.attnum > 0 AND NOT a.attisdropped WHERE a.attname IS NULL"
        " OR (format_type(a.atttypid, a.atttypmod) <> c.k AND a.atttypid IS DISTINCT FROM"
        " to_regtype(c.k))"
        " UNION ALL "
        "SELECT 'foreign key ' || v.t || '.' || v.n || CASE WHEN k.oid IS NULL THEN '' ELSE"
        " ', validated' END FROM (VALUES " REFERENCES ") v (t, n, r) LEFT JOIN pg_constraint k"
        " ON k.contype = 'f' AND k.conrelid = to_regclass(v.t) AND k.confrelid = to_regclass(v.r)"
        " AND k.conkey = ARRAY(SELECT a.attnum FROM pg_attribute a"
        " WHERE a.attrelid = k.conrelid AND a.attname = v.n) WHERE k.convalidated IS NOT TRUE"
        " UNION ALL "
        "SELECT 'unique index on ' || v.t || ' (' || v.n || ')' FROM (VALUES " UNIQUES ") v (t, n)"
        " WHERE NOT EXISTS (SELECT 1 FROM pg_index i JOIN pg_attribute a"
        " ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] AND a.attname = v.n"
        " WHERE i.indrelid = to_regclass(v.t) AND i.indisunique AND i.indisvalid"
        " AND i.indpred IS NULL AND i.indnkeyatts = 1)"
        " UNION ALL "
        "SELECT 'index ' || v.n || CASE WHEN i.indexrelid IS NULL THEN '' ELSE ', valid' END"
        " FROM (VALUES " INDEXES ") v (n) LEFT JOIN pg_index i"
        " ON i.indexrelid = to_regclass(v.n) WHERE i.indisvalid IS NOT TRUE"
        " OR i.indisready IS NOT TRUE"
        " UNION ALL "
        "SELECT 'label ' || v.n || ' of type ' || v.t FROM (VALUES " LABELS ") v (t, n)"
        " WHERE NOT EXISTS (SELECT 1 FROM pg_enum e WHERE e.enumtypid = to_regtype(v.t)"
        " AND e.enumlabel = v.n)"
        " UNION ALL "
        "SELECT 'function ' || v.n FROM (VALUES " FUNCTIONS ") v (n)"
        " WHERE to_regprocedure(v.n) IS NULL"
        " UNION ALL " /* the first one counted only what waits */
        "SELECT 'function pgqrs_backlog(text) that counts what runs' FROM pg_proc p"
        " WHERE p.oid = to_regprocedure('pgqrs_backlog(text)') AND p.prosrc NOT LIKE '%running%'"
        " UNION ALL "
        "SELECT 'trigger ' || v.n || ' on pgqrs_messages' FROM (VALUES " TRIGGERS ") v (n)"
        " WHERE NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = to_regclass('pgqrs_messages')"
        " AND tgname = v.n AND tgenabled IN ('O', 'A'))"};

int pgqrs_pg_check_objects(struct pg_store *s, struct pgqrs_error *err)
{
    PGresult *result = pgqrs_pg_run(s, &pgqrs_pg_verify_stmt, NULL, true, err);
    if (result == NULL) {
        return -1;
    }
    int count = PQntuples(result);
    int rc = 0;
    if (count > 0) {
        char more[32] = "";
        if (count > 1) {
            (void)snprintf(more, sizeof more, " and %d more", count - 1);
        }
        rc = pgqrs_error_set(err, PGQRS_ERR_SCHEMA,
                             "PostgreSQL: schema %s is not complete: expected %s%s; install it",
                             s->search_path == NULL ? "" : s->search_path,
                             pgqrs_pg_bytes(result, 0, 0).data, more);
    }
    PQclear(result);
    return rc;
}

/* ---- the ledger ---- */

static const struct pg_stmt has_ledger_stmt = {
    .sql = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL,"
           " to_regclass('pgqrsd_schema') IS NOT NULL"};
static const struct pg_stmt ledger_stmt = {
    .sql = "SELECT version, success, encode(checksum, 'hex') FROM _sqlx_migrations"
           " ORDER BY version LIMIT 1000"};
static const struct pg_stmt has_messages_stmt = {
    .sql = "SELECT to_regclass('pgqrs_messages') IS NOT NULL"};
static const struct pg_stmt version_stmt = {
    .sql = "SELECT coalesce(max(version), 0) FROM pgqrsd_schema"};

static int check_row(const PGresult *result, int row, unsigned *have, struct pgqrs_error *err)
{
    int64_t version = pgqrs_pg_int(result, row, 0);
    size_t i = 0;
    while (i < pgqrs_pg_migration_count && pgqrs_pg_migrations[i].version != version) {
        i++;
    }
    if (i == pgqrs_pg_migration_count) {
        return pgqrs_error_set(err, PGQRS_ERR_SCHEMA,
                               "PostgreSQL: _sqlx_migrations: found version %lld, which no pgqrs "
                               "that is known has",
                               (long long)version);
    }
    if (!pgqrs_pg_bool(result, row, 1)) {
        return pgqrs_error_set(err, PGQRS_ERR_SCHEMA,
                               "PostgreSQL: _sqlx_migrations: found version %lld, which failed",
                               (long long)version);
    }
    const struct pg_migration *m = &pgqrs_pg_migrations[i];
    const char *sum = pgqrs_pg_bytes(result, row, 2).data;
    if (strcmp(sum, m->checksums[0]) != 0 &&
        (m->checksums[1] == NULL || strcmp(sum, m->checksums[1]) != 0)) {
        return pgqrs_error_set(err, PGQRS_ERR_SCHEMA,
                               "PostgreSQL: _sqlx_migrations: version %lld: found the checksum "
                               "%.16s..., which no pgqrs that is known has",
                               (long long)version, sum);
    }
    *have |= 1U << i;
    return 0;
}

static int has_tables(struct pg_store *s, bool *ledger_out, bool *version_out,
                      struct pgqrs_error *err)
{
    PGresult *result = pgqrs_pg_run(s, &has_ledger_stmt, NULL, true, err);
    if (result == NULL) {
        return -1;
    }
    *ledger_out = pgqrs_pg_bool(result, 0, 0);
    *version_out = pgqrs_pg_bool(result, 0, 1);
    PQclear(result);
    return 0;
}

int pgqrs_pg_check_ledger(struct pg_store *s, bool complete, unsigned *have_out,
                          struct pgqrs_error *err)
{
    bool ledger = false;
    bool version = false;
    unsigned have = 0;
    if (has_tables(s, &ledger, &version, err) < 0) {
        return -1;
    }
    if (ledger) {
        PGresult *result = pgqrs_pg_run(s, &ledger_stmt, NULL, true, err);
        int rc = result == NULL ? -1 : 0;
        for (int i = 0; rc == 0 && i < PQntuples(result); i++) {
            rc = check_row(result, i, &have, err);
        }
        PQclear(result);
        if (rc < 0) {
            return -1;
        }
    }
    for (size_t i = 0; complete && i < pgqrs_pg_migration_count; i++) {
        if ((have & 1U << i) == 0) {
            return pgqrs_error_set(err, PGQRS_ERR_SCHEMA,
                                   "PostgreSQL: _sqlx_migrations: expected a row for version %d; "
                                   "install the schema",
                                   pgqrs_pg_migrations[i].version);
        }
    }
    *have_out = have;
    return 0;
}

int64_t pgqrs_pg_check_version(struct pg_store *s, struct pgqrs_error *err)
{
    bool ledger = false;
    bool version = false;
    if (has_tables(s, &ledger, &version, err) < 0) {
        return -1;
    }
    if (!version) {
        return 0;
    }
    PGresult *result = pgqrs_pg_run(s, &version_stmt, NULL, true, err);
    if (result == NULL) {
        return -1;
    }
    int64_t found = pgqrs_pg_int(result, 0, 0);
    PQclear(result);
    if (found > PG_SCHEMA_VERSION) {
        return pgqrs_error_set(err, PGQRS_ERR_SCHEMA,
                               "PostgreSQL: found schema version %lld, expected %d or older: a "
                               "newer program installed it",
                               (long long)found, PG_SCHEMA_VERSION);
    }
    return found;
}

int pgqrs_pg_verify(struct pgqrs_store *store, struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    unsigned have;
    int64_t version = pgqrs_pg_check_version(s, err);
    if (version < 0 || pgqrs_pg_check_ledger(s, true, &have, err) < 0 ||
        pgqrs_pg_check_objects(s, err) < 0) {
        return -1;
    }
    return version == PG_SCHEMA_VERSION
               ? 0
               : pgqrs_error_set(err, PGQRS_ERR_SCHEMA,
                                 "PostgreSQL: found schema version %lld, expected %d; install it",
                                 (long long)version, PG_SCHEMA_VERSION);
}

int pgqrs_pg_fits(struct pgqrs_store *store, struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    unsigned have;
    if (pgqrs_pg_check_version(s, err) < 0 || pgqrs_pg_check_ledger(s, false, &have, err) < 0) {
        return -1;
    }
    PGresult *result = pgqrs_pg_run(s, &has_messages_stmt, NULL, true, err);
    int has = result == NULL ? -1 : pgqrs_pg_bool(result, 0, 0);
    PQclear(result);
    return has;
}
