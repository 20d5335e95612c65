/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_schema.h"

#include <stdio.h>
#include <string.h>

/* ---- pgqrs' own tables: what its clients expect, letter for letter where it matters ---- */

#define NOW_TEXT "TEXT NOT NULL DEFAULT (datetime('now'))"

static const char *const pgqrs_ddl[] = {
    "CREATE TABLE IF NOT EXISTS pgqrs_queues ("
    "id INTEGER PRIMARY KEY AUTOINCREMENT, queue_name TEXT NOT NULL UNIQUE, created_at " NOW_TEXT
    ")",

    "CREATE TABLE IF NOT EXISTS pgqrs_workers ("
    "id INTEGER PRIMARY KEY AUTOINCREMENT, queue_id INTEGER REFERENCES pgqrs_queues(id),"
    " name TEXT NOT NULL UNIQUE, started_at " NOW_TEXT ", heartbeat_at " NOW_TEXT ","
    " shutdown_at TEXT, status TEXT NOT NULL DEFAULT 'ready' CHECK (status IN"
    " ('ready', 'polling', 'suspended', 'interrupted', 'stopped')))",
    "CREATE INDEX IF NOT EXISTS idx_workers_queue_id ON pgqrs_workers(queue_id)",
    "CREATE INDEX IF NOT EXISTS idx_workers_status ON pgqrs_workers(status)",

    "CREATE TABLE IF NOT EXISTS pgqrs_messages ("
    "id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " queue_id INTEGER NOT NULL REFERENCES pgqrs_queues(id), payload TEXT NOT NULL,"
    " vt TEXT DEFAULT (datetime('now')), enqueued_at TEXT DEFAULT (datetime('now')),"
    " read_ct INTEGER DEFAULT 0, dequeued_at TEXT,"
    " producer_worker_id INTEGER REFERENCES pgqrs_workers(id),"
    " consumer_worker_id INTEGER REFERENCES pgqrs_workers(id), archived_at TEXT)",
    "CREATE INDEX IF NOT EXISTS idx_messages_hot_path"
    " ON pgqrs_messages(queue_id, vt, enqueued_at, id) WHERE archived_at IS NULL",
    "CREATE INDEX IF NOT EXISTS idx_messages_consumer_active ON pgqrs_messages(consumer_worker_id)"
    " WHERE archived_at IS NULL AND consumer_worker_id IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS idx_messages_archived_at ON pgqrs_messages(queue_id, archived_at)"
    " WHERE archived_at IS NOT NULL",

    "CREATE TABLE IF NOT EXISTS pgqrs_workflows ("
    "id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,"
    " queue_id INTEGER NOT NULL REFERENCES pgqrs_queues(id), created_at " NOW_TEXT ")",
    "CREATE TABLE IF NOT EXISTS pgqrs_workflow_runs ("
    "id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " workflow_id INTEGER NOT NULL REFERENCES pgqrs_workflows(id),"
    " message_id INTEGER NOT NULL UNIQUE REFERENCES pgqrs_messages(id), status TEXT NOT NULL,"
    " input TEXT, output TEXT, error TEXT, created_at " NOW_TEXT ", updated_at " NOW_TEXT ","
    " started_at TEXT, paused_at TEXT, completed_at TEXT,"
    " worker_id INTEGER REFERENCES pgqrs_workers(id))",
    "CREATE INDEX IF NOT EXISTS idx_workflow_runs_message_id ON pgqrs_workflow_runs(message_id)",
    "CREATE INDEX IF NOT EXISTS idx_workflow_runs_status ON pgqrs_workflow_runs(status)",
    "CREATE TABLE IF NOT EXISTS pgqrs_workflow_steps ("
    "id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " run_id INTEGER NOT NULL REFERENCES pgqrs_workflow_runs(id), step_name TEXT NOT NULL,"
    " status TEXT NOT NULL, input TEXT, output TEXT, error TEXT, created_at " NOW_TEXT ","
    " updated_at " NOW_TEXT ", started_at TEXT, completed_at TEXT,"
    " retry_count INTEGER NOT NULL DEFAULT 0, retry_at TEXT, last_retry_at TEXT,"
    " UNIQUE (run_id, step_name))",
    "CREATE INDEX IF NOT EXISTS idx_workflow_steps_status ON pgqrs_workflow_steps(status)",

    "CREATE TABLE IF NOT EXISTS _sqlx_migrations ("
    "version BIGINT PRIMARY KEY, description TEXT NOT NULL,"
    " installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL,"
    " checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)",
};

const struct sqlite_migration pgqrs_sqlite_ledger[] = {
    {1, "create queues",
     "19d17ed610253df43bced388b7b223b20f45a494bf73488f6c7713e72eddafef"
     "568d89aa619c615cd0949f9750e67e2f"},
    {2, "create workers",
     "02e116c0786679575c984bf42cd404442a93f9a5dd9be9b1b269bf6b990c40a4"
     "d075872223d3bbac2ce26af988ea4cee"},
    {3, "create messages",
     "1200c75c0a8f57f50914a6efd7ada7716bc3035cf3c9030b634944d42d5ec1f0"
     "b45b4b42b3b826e55395f4ff70a0a58b"},
    {5, "create workflows",
     "49f7b205e24569ed301d1cc7f8f745428838bc8555eefe554d8c456df703005c"
     "633316d067ff3b5fb7e70280d641c414"},
};
const size_t pgqrs_sqlite_ledger_count = sizeof pgqrs_sqlite_ledger / sizeof *pgqrs_sqlite_ledger;

/* ---- ours ---- */

const struct sqlite_column pgqrs_sqlite_columns[] = {
    {"pgqrs_messages", "pgqrsd_priority", "INTEGER NOT NULL DEFAULT 0"},
    {"pgqrs_messages", "pgqrsd_due_at", "TEXT"},
    {"pgqrs_messages", "pgqrsd_crash_ct", "INTEGER NOT NULL DEFAULT 0"},
    {"pgqrs_messages", "pgqrsd_outcome", "TEXT"},
    {"pgqrs_messages", "pgqrsd_result", "TEXT"},
    {"pgqrs_messages", "pgqrsd_error", "TEXT"},
    {"pgqrs_messages", "pgqrsd_unique_key", "TEXT"},
    /* Not 0: it has a run that we began, or events, or state. */
    {"pgqrs_messages", "pgqrsd_flow", "INTEGER NOT NULL DEFAULT 0"},
    {"pgqrs_messages", "pgqrsd_parent_id", "INTEGER"},
    {"pgqrs_queues", "pgqrsd_paused_at", "TEXT"},
    {"pgqrs_workers", "pgqrsd_instance", "TEXT"},
    {"pgqrs_workers", "pgqrsd_generation", "INTEGER"},
    {"pgqrs_workers", "pgqrsd_pid", "INTEGER"},
    {"pgqrs_workflow_runs", "pgqrsd_event", "TEXT"}, /* which it waits for */
    {"pgqrs_workflow_steps", "pgqrsd_kind", "TEXT NOT NULL DEFAULT 'step'"},
};
const size_t pgqrs_sqlite_column_count = sizeof pgqrs_sqlite_columns / sizeof *pgqrs_sqlite_columns;

/*
 * What other programs' statements set off, too. Whether there is anything to do they decide by the
 * row alone. They call no function: with one, SQLite would keep a journal for each row that any
 * message's end changes, half of the time of that. So an error that needs to be made JSON is
 * written to the run beforehand, by STMT_RUN_FAILS and the like.
 */
#define ENDED(run) run "status IN ('SUCCESS', 'ERROR', 'CANCELLED')"
#define TRIGGER_MESSAGE_ARCHIVED                                                                   \
    "CREATE TRIGGER IF NOT EXISTS pgqrsd_message_archived"                                         \
    " AFTER UPDATE OF archived_at ON pgqrs_messages"                                               \
    " WHEN NEW.pgqrsd_flow <> 0 AND NEW.archived_at IS NOT NULL AND OLD.archived_at IS NULL"       \
    " BEGIN UPDATE pgqrs_workflow_runs SET status = CASE WHEN status = 'CANCELLING'"               \
    " OR NEW.pgqrsd_outcome IS 'cancelled' THEN 'CANCELLED' ELSE 'ERROR' END,"                     \
    " error = CASE WHEN NEW.pgqrsd_outcome IS NULL OR error IS NULL"                               \
    " OR (NEW.pgqrsd_outcome = 'done' AND NEW.pgqrsd_error IS NULL)"                               \
    " THEN '\"its message was archived before it ended\"' ELSE error END,"                         \
    " completed_at = NEW.archived_at, updated_at = NEW.archived_at, pgqrsd_event = NULL"           \
    " WHERE message_id = NEW.id AND NOT " ENDED("") "; END"
#define TRIGGER_MESSAGE_DELETED                                                                    \
    "CREATE TRIGGER IF NOT EXISTS pgqrsd_message_deleted AFTER DELETE ON pgqrs_messages"           \
    " WHEN OLD.pgqrsd_flow <> 0 BEGIN"                                                             \
    " DELETE FROM pgqrs_workflow_steps WHERE run_id IN"                                            \
    " (SELECT id FROM pgqrs_workflow_runs WHERE message_id = OLD.id);"                             \
    " DELETE FROM pgqrs_workflow_runs WHERE message_id = OLD.id;"                                  \
    " DELETE FROM pgqrsd_workflow_events WHERE message_id = OLD.id;"                               \
    " DELETE FROM pgqrsd_workflow_state WHERE message_id = OLD.id; END"
/* Tells the run that started it. */
#define RUN_END_TIME "coalesce(NEW.completed_at, NEW.updated_at)"
#define TRIGGER_RUN_ENDED                                                                          \
    "CREATE TRIGGER IF NOT EXISTS pgqrsd_run_ended"                                                \
    " AFTER UPDATE OF status ON pgqrs_workflow_runs"                                               \
    " WHEN " ENDED("NEW.") " AND NOT " ENDED(                                                      \
        "OLD.") " BEGIN INSERT INTO pgqrsd_workflow_events (message_id, name, payload, "           \
                "created_at)"                                                                      \
                " SELECT p.id, 'child:' || c.id, '{\"status\": \"' || NEW.status || CASE "         \
                "NEW.status"                                                                       \
                " WHEN 'SUCCESS' THEN '\", \"output\": ' || coalesce(NEW.output, 'null')"          \
                " ELSE '\", \"error\": ' || coalesce(NEW.error, 'null') END || '}', " RUN_END_TIME \
                " FROM pgqrs_messages c JOIN pgqrs_messages p ON p.id = c.pgqrsd_parent_id"        \
                " WHERE c.id = NEW.message_id AND p.archived_at IS NULL"                           \
                " AND NOT EXISTS (SELECT 1 FROM pgqrsd_workflow_events e"                          \
                " WHERE e.message_id = p.id AND e.name = 'child:' || c.id);"                       \
                " UPDATE pgqrs_messages SET vt = " RUN_END_TIME " WHERE id ="                      \
                " (SELECT pgqrsd_parent_id FROM pgqrs_messages WHERE id = NEW.message_id)"         \
                " AND +archived_at IS NULL AND +consumer_worker_id IS NULL AND vt > " RUN_END_TIME \
                " AND EXISTS (SELECT 1 FROM pgqrs_workflow_runs r WHERE r.message_id = "           \
                "pgqrs_messages.id"                                                                \
                " AND r.pgqrsd_event = 'child:' || NEW.message_id); END"

/* A client of pgqrs only says so in the run: it is seen when its message is delivered. */
#define TRIGGER_RUN_CANCELLING                                                                     \
    "CREATE TRIGGER IF NOT EXISTS pgqrsd_run_cancelling"                                           \
    " AFTER UPDATE OF status ON pgqrs_workflow_runs"                                               \
    " WHEN NEW.status = 'CANCELLING' AND OLD.status <> 'CANCELLING'"                               \
    " BEGIN UPDATE pgqrs_messages SET vt = NEW.updated_at WHERE id = NEW.message_id"               \
    " AND +archived_at IS NULL AND +consumer_worker_id IS NULL AND vt > NEW.updated_at; END"

static const char *const pgqrsd_ddl[] = {
    /* What is ready or delayed, in the order in which it is served. */
    "CREATE INDEX IF NOT EXISTS pgqrsd_messages_lease"
    " ON pgqrs_messages(queue_id, pgqrsd_priority DESC, vt, id)"
    " WHERE archived_at IS NULL AND consumer_worker_id IS NULL",
    "CREATE INDEX IF NOT EXISTS pgqrsd_messages_failed ON pgqrs_messages(queue_id, id)"
    " WHERE pgqrsd_outcome = 'failed'",
    "CREATE UNIQUE INDEX IF NOT EXISTS pgqrsd_messages_unique"
    " ON pgqrs_messages(queue_id, pgqrsd_unique_key)"
    " WHERE archived_at IS NULL AND pgqrsd_unique_key IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS pgqrsd_cancel_requests ("
    "message_id INTEGER PRIMARY KEY, requested_at TEXT NOT NULL DEFAULT (datetime('now')))",
    "CREATE TABLE IF NOT EXISTS pgqrsd_schedules ("
    "id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,"
    " queue_id INTEGER NOT NULL REFERENCES pgqrs_queues(id), cron TEXT NOT NULL,"
    " zone TEXT NOT NULL, payload TEXT NOT NULL, priority INTEGER NOT NULL DEFAULT 0,"
    " catch_up TEXT NOT NULL DEFAULT 'skip', overlap TEXT NOT NULL DEFAULT 'allow',"
    " config TEXT, created_at " NOW_TEXT ", paused_at TEXT, next_at TEXT NOT NULL,"
    " planned INTEGER NOT NULL DEFAULT 0, last_at TEXT, last_message_id INTEGER)",
    "CREATE INDEX IF NOT EXISTS pgqrsd_schedules_next ON pgqrsd_schedules(next_at)"
    " WHERE paused_at IS NULL",
    "CREATE TABLE IF NOT EXISTS pgqrsd_schedule_ticks ("
    "schedule_id INTEGER NOT NULL REFERENCES pgqrsd_schedules(id), tick_at TEXT NOT NULL,"
    " message_id INTEGER, PRIMARY KEY (schedule_id, tick_at)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS pgqrsd_messages_parent ON pgqrs_messages(pgqrsd_parent_id)"
    " WHERE pgqrsd_parent_id IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS pgqrsd_workflow_events (message_id INTEGER NOT NULL,"
    " name TEXT NOT NULL, payload TEXT NOT NULL, created_at TEXT NOT NULL,"
    " PRIMARY KEY (message_id, name)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS pgqrsd_workflow_state (message_id INTEGER NOT NULL,"
    " key TEXT NOT NULL, value TEXT NOT NULL, updated_at TEXT NOT NULL,"
    " PRIMARY KEY (message_id, key)) WITHOUT ROWID",
    TRIGGER_MESSAGE_ARCHIVED,
    TRIGGER_MESSAGE_DELETED,
    TRIGGER_RUN_ENDED,
    TRIGGER_RUN_CANCELLING,
    "CREATE TABLE IF NOT EXISTS pgqrsd_schema ("
    "version INTEGER PRIMARY KEY, installed_at TEXT NOT NULL)",
};

/* ---- install ---- */

static int run_all(struct sqlite_store *s, const char *const *ddl, size_t count,
                   struct pgqrs_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (pgqrs_sqlite_exec(s, ddl[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int add_ledger_rows(struct sqlite_store *s, struct pgqrs_error *err)
{
    for (size_t i = 0; i < pgqrs_sqlite_ledger_count; i++) {
        const struct sqlite_migration *m = &pgqrs_sqlite_ledger[i];
        char sql[400];
        (void)snprintf(sql, sizeof sql,
                       "INSERT OR IGNORE INTO _sqlx_migrations (version, description, success,"
                       " checksum, execution_time) VALUES (%d, '%s', 1, x'%s', 0)",
                       m->version, m->description, m->checksum);
        if (pgqrs_sqlite_exec(s, sql, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int add_columns(struct sqlite_store *s, struct pgqrs_error *err)
{
    for (size_t i = 0; i < pgqrs_sqlite_column_count; i++) {
        const struct sqlite_column *c = &pgqrs_sqlite_columns[i];
        int there = pgqrs_sqlite_has(s, "SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2",
                                     c->table, c->name, err);
        char sql[200];
        (void)snprintf(sql, sizeof sql, "ALTER TABLE %s ADD COLUMN %s %s", c->table, c->name,
                       c->type);
        if (there < 0 || (there == 0 && pgqrs_sqlite_exec(s, sql, err) < 0)) {
            return -1;
        }
    }
    return 0;
}

static int add_version(struct sqlite_store *s, struct pgqrs_error *err)
{
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    char sql[200];
    (void)snprintf(sql, sizeof sql, "INSERT OR IGNORE INTO pgqrsd_schema VALUES (%d, '%s')",
                   PGQRS_SQLITE_SCHEMA_VERSION, now.text);
    return pgqrs_sqlite_exec(s, sql, err);
}

static int install(struct sqlite_store *s, struct pgqrs_error *err)
{
    if (pgqrs_sqlite_check_ledger(s, false, err) < 0 ||
        pgqrs_sqlite_check_version(s, false, err) < 0 ||
        run_all(s, pgqrs_ddl, sizeof pgqrs_ddl / sizeof *pgqrs_ddl, err) < 0 ||
        add_ledger_rows(s, err) < 0 || add_columns(s, err) < 0 ||
        pgqrs_sqlite_check_columns(s, err) < 0 ||
        run_all(s, pgqrsd_ddl, sizeof pgqrsd_ddl / sizeof *pgqrsd_ddl, err) < 0) {
        return -1;
    }
    return add_version(s, err);
}

int pgqrs_sqlite_install(struct pgqrs_store *store, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    return (int)pgqrs_sqlite_end(s, install(s, err), err);
}
