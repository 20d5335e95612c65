/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "tests/support/pg_rig.h"
#include "tests/support/sqlite_rig.h"

/* What a fresh installation has is what clients of pgqrs know: each table, column, type, default,
 * index and row of the ledger. Columns of our own come after theirs and ask nothing of a writer. */

/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): as the rows below read */
struct column {
    const char *table, *name;
    const char *pg_type;
    bool pg_not_null;
    const char *pg_default; /* how it begins; "": none */
    const char *lite_type;
    bool lite_not_null;
    const char *lite_default;
};

#define SEQ "bigint", true, "nextval(", "INTEGER", false, ""
#define TIME_NOW "timestamp with time zone", true, "now()", "TEXT", true, "datetime('now')"
#define TIME "timestamp with time zone", false, "", "TEXT", false, ""
#define JSON "jsonb", false, "", "TEXT", false, ""
#define REF "bigint", true, "", "INTEGER", true, ""
#define REF_OR_NULL "bigint", false, "", "INTEGER", false, ""
#define NAME_255 "character varying(255)", true, "", "TEXT", true, ""
#define FLOW_STATUS "pgqrs_workflow_status", true, "", "TEXT", true, ""
#define LOOSE_NOW "timestamp with time zone", false, "now()", "TEXT"

static const struct column columns[] = {
    {"pgqrs_queues", "id", SEQ},
    {"pgqrs_queues", "queue_name", "character varying", true, "", "TEXT", true, ""},
    {"pgqrs_queues", "created_at", TIME_NOW},
    {"pgqrs_workers", "id", "bigint", true, "", "INTEGER", false, ""}, /* identity */
    {"pgqrs_workers", "name", "text", true, "", "TEXT", true, ""},
    {"pgqrs_workers", "queue_id", REF_OR_NULL},
    {"pgqrs_workers", "started_at", LOOSE_NOW, true, "datetime('now')"},
    {"pgqrs_workers", "heartbeat_at", LOOSE_NOW, true, "datetime('now')"},
    {"pgqrs_workers", "shutdown_at", TIME},
    {"pgqrs_workers", "status", "worker_status", true, "'ready'", "TEXT", true, "'ready'"},
    {"pgqrs_messages", "id", SEQ},
    {"pgqrs_messages", "queue_id", REF},
    {"pgqrs_messages", "payload", "jsonb", true, "", "TEXT", true, ""},
    {"pgqrs_messages", "vt", LOOSE_NOW, false, "datetime('now')"},
    {"pgqrs_messages", "enqueued_at", LOOSE_NOW, false, "datetime('now')"},
    {"pgqrs_messages", "read_ct", "integer", false, "0", "INTEGER", false, "0"},
    {"pgqrs_messages", "dequeued_at", TIME},
    {"pgqrs_messages", "producer_worker_id", REF_OR_NULL},
    {"pgqrs_messages", "consumer_worker_id", REF_OR_NULL},
    {"pgqrs_messages", "archived_at", TIME},
    {"pgqrs_workflows", "id", SEQ},
    {"pgqrs_workflows", "name", NAME_255},
    {"pgqrs_workflows", "queue_id", REF},
    {"pgqrs_workflows", "created_at", TIME_NOW},
    {"pgqrs_workflow_runs", "id", SEQ},
    {"pgqrs_workflow_runs", "workflow_id", REF},
    {"pgqrs_workflow_runs", "message_id", REF},
    {"pgqrs_workflow_runs", "status", FLOW_STATUS},
    {"pgqrs_workflow_runs", "input", JSON},
    {"pgqrs_workflow_runs", "output", JSON},
    {"pgqrs_workflow_runs", "error", JSON},
    {"pgqrs_workflow_runs", "created_at", TIME_NOW},
    {"pgqrs_workflow_runs", "updated_at", TIME_NOW},
    {"pgqrs_workflow_runs", "started_at", TIME},
    {"pgqrs_workflow_runs", "paused_at", TIME},
    {"pgqrs_workflow_runs", "completed_at", TIME},
    {"pgqrs_workflow_runs", "worker_id", REF_OR_NULL},
    {"pgqrs_workflow_steps", "id", SEQ},
    {"pgqrs_workflow_steps", "run_id", REF},
    {"pgqrs_workflow_steps", "step_name", NAME_255},
    {"pgqrs_workflow_steps", "status", FLOW_STATUS},
    {"pgqrs_workflow_steps", "input", JSON},
    {"pgqrs_workflow_steps", "output", JSON},
    {"pgqrs_workflow_steps", "error", JSON},
    {"pgqrs_workflow_steps", "created_at", TIME_NOW},
    {"pgqrs_workflow_steps", "updated_at", TIME_NOW},
    {"pgqrs_workflow_steps", "started_at", TIME},
    {"pgqrs_workflow_steps", "completed_at", TIME},
    {"pgqrs_workflow_steps", "retry_count", "integer", true, "0", "INTEGER", true, "0"},
    {"pgqrs_workflow_steps", "retry_at", TIME},
    {"pgqrs_workflow_steps", "last_retry_at", TIME},
};

/* Name and columns with predicate, as the server writes them. */
static const char *const pg_indexes[][2] = {
    {"idx_pgqrs_workers_queue_status", "(queue_id, status)"},
    {"idx_pgqrs_workers_heartbeat", "(heartbeat_at)"},
    {"pgqrs_workers_name_key", "(name)"},
    {"idx_pgqrs_messages_hot_path", "(queue_id, vt, enqueued_at, id) WHERE (archived_at IS NULL)"},
    {"idx_pgqrs_messages_consumer_worker_id_active",
     "(consumer_worker_id) WHERE ((archived_at IS NULL) AND (consumer_worker_id IS NOT NULL))"},
    {"idx_pgqrs_messages_archived_at", "(queue_id, archived_at) WHERE (archived_at IS NOT NULL)"},
    {"idx_pgqrs_messages_producer_worker_id", "(producer_worker_id)"},
    {"idx_pgqrs_workflows_name", "(name)"},
    {"idx_pgqrs_workflow_runs_message_id", "(message_id)"},
    {"idx_pgqrs_workflow_runs_status", "(status)"},
    {"idx_pgqrs_workflow_steps_status", "(status)"},
    {"idx_pgqrs_workflow_steps_retry_at", "(retry_at) WHERE (retry_at IS NOT NULL)"},
};
static const char *const pg_keys[] = {"fk_workers_queue_id", "fk_messages_queue_id",
                                      "fk_messages_producer_worker_id",
                                      "fk_messages_consumer_worker_id"};
static const char *const lite_indexes[] = {
    "idx_workers_queue_id",         "idx_workers_status",       "idx_messages_hot_path",
    "idx_messages_consumer_active", "idx_messages_archived_at", "idx_workflow_runs_message_id",
    "idx_workflow_runs_status",     "idx_workflow_steps_status"};

static void on_postgres(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = pg_rig_store(rig, NULL);
    pgqrs_store_close(&store);
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        const struct column *c = &columns[i];
        const char *found = pg_rig_text(
            rig,
            "SELECT format_type(a.atttypid, a.atttypmod) || '|' || a.attnotnull || '|' ||"
            " left(coalesce(pg_get_expr(d.adbin, d.adrelid), ''), %d) FROM pg_attribute a"
            " LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
            " WHERE a.attrelid = '%s'::regclass AND a.attname = '%s'",
            (int)strlen(c->pg_default) + (*c->pg_default == 0 ? 99 : 0), c->table, c->name);
        char expected[200];
        (void)snprintf(expected, sizeof expected, "%s|%s|%s", c->pg_type,
                       c->pg_not_null ? "true" : "false", c->pg_default);
        if (strcmp(found, expected) != 0) {
            fail_msg("%s.%s: found %s, expected %s", c->table, c->name, found, expected);
        }
    }
    for (size_t i = 0; i < sizeof pg_indexes / sizeof *pg_indexes; i++) {
        assert_string_equal(pg_rig_text(rig,
                                        "SELECT split_part(indexdef, ' USING btree ', 2) FROM"
                                        " pg_indexes WHERE schemaname = '%s' AND indexname = '%s'",
                                        rig->schema, pg_indexes[i][0]),
                            pg_indexes[i][1]);
    }
    for (size_t i = 0; i < sizeof pg_keys / sizeof *pg_keys; i++) {
        assert_int_equal(pg_rig_number(rig,
                                       "SELECT count(*) FROM pg_constraint WHERE conname = '%s'"
                                       " AND contype = 'f' AND confdeltype = 'a'"
                                       " AND connamespace = '%s'::regnamespace",
                                       pg_keys[i], rig->schema),
                         1);
    }
    assert_string_equal(
        pg_rig_text(rig, "SELECT string_agg(version || ' ' || description || ' ' ||"
                         " octet_length(checksum) || ' ' || success, ', ' ORDER BY version)"
                         " FROM _sqlx_migrations"),
        "1 create worker status enum 48 true, 2 create queue table 48 true, 3 create worker table"
        " 48 true, 4 create messages table 48 true, 6 create workflow tables 48 true");
    /* What a client does not name has a default or may be missing. */
    assert_int_equal(pg_rig_number(rig, "SELECT count(*) FROM pg_attribute WHERE attrelid IN"
                                        " ('pgqrs_queues'::regclass, 'pgqrs_workers'::regclass,"
                                        " 'pgqrs_messages'::regclass) AND attname LIKE 'pgqrsd%%'"
                                        " AND attnotnull AND NOT atthasdef"),
                     0);
}

static void on_sqlite(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    pgqrs_store_close(&store);
    sqlite3 *db = sqlite_rig_raw(rig);
    char sql[600];
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        const struct column *c = &columns[i];
        bool key = strcmp(c->name, "id") == 0;
        (void)sqlite3_snprintf(sizeof sql, sql,
                               "SELECT count(*) FROM pragma_table_info('%s') WHERE name = '%s'"
                               " AND type = '%s' AND \"notnull\" = %d AND pk = %d"
                               " AND coalesce(dflt_value, '') = %Q",
                               c->table, c->name, c->lite_type, c->lite_not_null, key,
                               c->lite_default);
        if (sqlite_rig_number(db, sql) != 1) {
            fail_msg("found no row: %s", sql);
        }
    }
    for (size_t i = 0; i < sizeof lite_indexes / sizeof *lite_indexes; i++) {
        (void)sqlite3_snprintf(sizeof sql, sql,
                               "SELECT count(*) FROM sqlite_master WHERE type = 'index'"
                               " AND name = '%s'",
                               lite_indexes[i]);
        assert_int_equal(sqlite_rig_number(db, sql), 1);
    }
    assert_int_equal(sqlite_rig_number(db, "SELECT count(*) FROM _sqlx_migrations WHERE success"
                                           " AND typeof(checksum) = 'blob' AND length(checksum) ="
                                           " 48 AND version || ' ' || description IN ('1 create"
                                           " queues', '2 create workers', '3 create messages',"
                                           " '5 create workflows')"),
                     4);
    assert_int_equal(sqlite_rig_number(db, "SELECT count(*) FROM _sqlx_migrations"), 4);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

int main(void)
{
    const struct CMUnitTest cases[] = {PG_RIG_CASE(on_postgres), RIG_CASE(on_sqlite)};
    return cmocka_run_group_tests(cases, NULL, NULL);
}
