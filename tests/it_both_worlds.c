/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/daemon.h"
#include "tests/support/pgqrs_world.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * One database, two programs: pgqrsd serves a queue while a client of pgqrs leases, archives and
 * replays jobs of the same queue with that library's statements.
 */

#define JOBS 200

struct world {
    struct fixture *f;
    struct pg_rig *pg; /* null: SQLite */
};

/* ---- what both databases understand, with the clocks that pgqrs' clients use on each ---- */

struct words {
    const char *client_now; /* with microseconds */
    const char *server_now; /* SQLite: in whole seconds */
    const char *lease_end;
    const char *later;
    const char *skip_locked;
};
static const struct words postgres = {
    "clock_timestamp()", "now()", "clock_timestamp() + interval '30 seconds'",
    "clock_timestamp() + interval '1 hour'", "FOR UPDATE SKIP LOCKED"};
static const struct words sqlite = {"strftime('%Y-%m-%d %H:%M:%f000', 'now')", "datetime('now')",
                                    "datetime('now', '+30 seconds')",
                                    "strftime('%Y-%m-%d %H:%M:%f000', 'now', '+3600 seconds')", ""};

static const struct words *words_of(const struct world *w)
{
    return w->pg == NULL ? &sqlite : &postgres;
}

static void run(const struct world *w, const char *sql)
{
    if (w->pg == NULL) {
        db_exec(&w->f->scratch, sql);
    } else {
        pg_rig_sql(w->pg, "%s", sql);
    }
}

/* Of a statement that returns rows: their first number. */
static int64_t number(const struct world *w, const char *sql)
{
    return w->pg == NULL ? db_number(&w->f->scratch, sql) : pg_rig_number(w->pg, "%s", sql);
}

static void await_number(const struct world *w, const char *sql, int64_t expected)
{
    if (w->pg == NULL) {
        db_await(&w->f->scratch, sql, expected);
    } else {
        pg_rig_await(w->pg, expected, sql);
    }
}

static void expect(const struct world *w, const char *sql, int64_t expected)
{
    int64_t found = number(w, sql);
    if (found != expected) {
        fail_msg("%s: found %lld, expected %lld", sql, (long long)found, (long long)expected);
    }
}

/* ---- a database as pgqrs' install leaves it on SQLite ---- */

static const char sqlite_tables[] =
    "PRAGMA journal_mode = WAL;"
    "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL,"
    " installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL,"
    " checksum BLOB NOT NULL, execution_time BIGINT NOT NULL);"
    "CREATE TABLE pgqrs_queues (id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " queue_name TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL DEFAULT (datetime('now')));"
    "CREATE TABLE pgqrs_workers (id INTEGER PRIMARY KEY AUTOINCREMENT, queue_id INTEGER,"
    " name TEXT NOT NULL UNIQUE, started_at TEXT NOT NULL DEFAULT (datetime('now')),"
    " heartbeat_at TEXT NOT NULL DEFAULT (datetime('now')), shutdown_at TEXT,"
    " status TEXT NOT NULL DEFAULT 'ready' CHECK (status IN ('ready', 'polling', 'suspended',"
    " 'interrupted', 'stopped')), FOREIGN KEY (queue_id) REFERENCES pgqrs_queues(id));"
    "CREATE INDEX idx_workers_queue_id ON pgqrs_workers(queue_id);"
    "CREATE INDEX idx_workers_status ON pgqrs_workers(status);"
    "CREATE TABLE pgqrs_messages (id INTEGER PRIMARY KEY AUTOINCREMENT, queue_id INTEGER NOT NULL,"
    " payload TEXT NOT NULL, vt TEXT DEFAULT (datetime('now')),"
    " enqueued_at TEXT DEFAULT (datetime('now')), read_ct INTEGER DEFAULT 0, dequeued_at TEXT,"
    " producer_worker_id INTEGER, consumer_worker_id INTEGER, archived_at TEXT,"
    " FOREIGN KEY (queue_id) REFERENCES pgqrs_queues(id),"
    " FOREIGN KEY (producer_worker_id) REFERENCES pgqrs_workers(id),"
    " FOREIGN KEY (consumer_worker_id) REFERENCES pgqrs_workers(id));"
    "CREATE INDEX idx_messages_hot_path ON pgqrs_messages(queue_id, vt, enqueued_at, id)"
    " WHERE archived_at IS NULL;"
    "CREATE INDEX idx_messages_consumer_active ON pgqrs_messages(consumer_worker_id)"
    " WHERE archived_at IS NULL AND consumer_worker_id IS NOT NULL;"
    "CREATE INDEX idx_messages_archived_at ON pgqrs_messages(queue_id, archived_at)"
    " WHERE archived_at IS NOT NULL;"
    "CREATE TABLE pgqrs_workflows (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,"
    " queue_id INTEGER NOT NULL REFERENCES pgqrs_queues(id),"
    " created_at TEXT NOT NULL DEFAULT (datetime('now')));"
    "CREATE TABLE pgqrs_workflow_runs (id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " workflow_id INTEGER NOT NULL REFERENCES pgqrs_workflows(id),"
    " message_id INTEGER NOT NULL UNIQUE REFERENCES pgqrs_messages(id), status TEXT NOT NULL,"
    " input TEXT, output TEXT, error TEXT, created_at TEXT NOT NULL DEFAULT (datetime('now')),"
    " updated_at TEXT NOT NULL DEFAULT (datetime('now')), started_at TEXT, paused_at TEXT,"
    " completed_at TEXT, worker_id INTEGER REFERENCES pgqrs_workers(id));"
    "CREATE INDEX idx_workflow_runs_message_id ON pgqrs_workflow_runs(message_id);"
    "CREATE INDEX idx_workflow_runs_status ON pgqrs_workflow_runs(status);"
    "CREATE TABLE pgqrs_workflow_steps (id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " run_id INTEGER NOT NULL REFERENCES pgqrs_workflow_runs(id), step_name TEXT NOT NULL,"
    " status TEXT NOT NULL, input TEXT, output TEXT, error TEXT,"
    " created_at TEXT NOT NULL DEFAULT (datetime('now')),"
    " updated_at TEXT NOT NULL DEFAULT (datetime('now')), started_at TEXT, completed_at TEXT,"
    " retry_count INTEGER NOT NULL DEFAULT 0, retry_at TEXT, last_retry_at TEXT,"
    " UNIQUE (run_id, step_name));"
    "CREATE INDEX idx_workflow_steps_status ON pgqrs_workflow_steps(status);"
    "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES"
    " (1, 'create queues', 1, x'19d17ed610253df43bced388b7b223b20f45a494bf73488f6c7713e72eddafef"
    "568d89aa619c615cd0949f9750e67e2f', 1000000),"
    " (2, 'create workers', 1, x'02e116c0786679575c984bf42cd404442a93f9a5dd9be9b1b269bf6b990c40a4"
    "d075872223d3bbac2ce26af988ea4cee', 1000000),"
    " (3, 'create messages', 1, x'1200c75c0a8f57f50914a6efd7ada7716bc3035cf3c9030b634944d42d5ec1f0"
    "b45b4b42b3b826e55395f4ff70a0a58b', 1000000),"
    " (5, 'create workflows', 1, x'49f7b205e24569ed301d1cc7f8f745428838bc8555eefe554d8c456df703005c"
    "633316d067ff3b5fb7e70280d641c414', 1000000)";

/* ---- what pgqrs' clients do ---- */

static void enqueue_as_pgqrs(const struct world *w)
{
    char sql[2000];
    const struct words *k = words_of(w);
    (void)snprintf(sql, sizeof sql,
                   "INSERT INTO pgqrs_queues (queue_name) VALUES ('work');"
                   "INSERT INTO pgqrs_workers (name, queue_id, status, started_at, heartbeat_at)"
                   " SELECT 'alice', id, 'ready', %s, %s FROM pgqrs_queues;"
                   "INSERT INTO pgqrs_workers (name, queue_id, status) SELECT"
                   " '__ephemeral__0191f0aa-5b1c-4f6e-9d2a-3b8f7c6d5e4f', id, 'ready'"
                   " FROM pgqrs_queues;"
                   "INSERT INTO pgqrs_messages (queue_id, payload, read_ct, enqueued_at, vt,"
                   " producer_worker_id) WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1"
                   " FROM c WHERE n < %d) SELECT q.id, '{\"ms\":5}', 0, %s, %s, p.id FROM c,"
                   " pgqrs_queues q, pgqrs_workers p WHERE p.name LIKE '__ephemeral__%%';"
                   "INSERT INTO pgqrs_messages (queue_id, payload, read_ct, enqueued_at, vt,"
                   " producer_worker_id) SELECT q.id, '{\"delayed\":true}', 0, %s, %s, p.id"
                   " FROM pgqrs_queues q, pgqrs_workers p WHERE p.name = 'alice'",
                   k->client_now, k->client_now, JOBS, k->client_now, k->client_now, k->client_now,
                   k->later);
    run(w, sql);
}

/* One job for alice; its id, or 0 or less when there is none. */
static int64_t dequeue(const struct world *w)
{
    char sql[1200];
    const struct words *k = words_of(w);
    (void)snprintf(sql, sizeof sql,
                   "UPDATE pgqrs_messages SET vt = %s, read_ct = read_ct + 1,"
                   " dequeued_at = coalesce(dequeued_at, %s), consumer_worker_id ="
                   " (SELECT id FROM pgqrs_workers WHERE name = 'alice') WHERE id IN (SELECT id"
                   " FROM pgqrs_messages WHERE queue_id = 1 AND (vt IS NULL OR vt <= %s)"
                   " AND consumer_worker_id IS NULL AND archived_at IS NULL AND read_ct < 5"
                   " ORDER BY enqueued_at ASC LIMIT 1 %s) RETURNING id",
                   k->lease_end, k->client_now, k->client_now, k->skip_locked);
    return number(w, sql);
}

#define HELD_BY_ALICE                                                                              \
    " WHERE id = %lld AND consumer_worker_id = (SELECT id FROM pgqrs_workers WHERE name = "        \
    "'alice')"

static bool change(const struct world *w, const char *set, int64_t id)
{
    char sql[600];
    (void)snprintf(sql, sizeof sql, "UPDATE pgqrs_messages SET %s" HELD_BY_ALICE " RETURNING id",
                   set, (long long)id);
    return number(w, sql) == id;
}

static bool archive(const struct world *w, int64_t id)
{
    char set[100];
    (void)snprintf(set, sizeof set, "archived_at = %s", words_of(w)->server_now);
    return change(w, set, id);
}

static bool release(const struct world *w, int64_t id)
{
    char set[100];
    (void)snprintf(set, sizeof set, "vt = %s, consumer_worker_id = NULL", words_of(w)->server_now);
    return change(w, set, id);
}

static void replay(const struct world *w, int64_t id)
{
    char sql[400];
    const char *now = words_of(w)->server_now;
    (void)snprintf(sql, sizeof sql,
                   "UPDATE pgqrs_messages SET archived_at = NULL, consumer_worker_id = NULL,"
                   " dequeued_at = NULL, read_ct = 0, vt = %s, enqueued_at = %s WHERE id = %lld"
                   " AND archived_at IS NOT NULL",
                   now, now, (long long)id);
    run(w, sql);
}

/* ---- what must be true afterwards ---- */

/* Text, UTC, in seconds or with six digits; vt is never missing. */
#define FORM_S "'[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9]"
#define READABLE(t)                                                                                \
    "(typeof(" t ") = 'text' AND datetime(" t ") IS NOT NULL AND (" t " GLOB " FORM_S "' OR " t    \
    " GLOB " FORM_S ".[0-9][0-9][0-9][0-9][0-9][0-9]'))"
#define BAD(table, column) "SELECT count(*) FROM " table " WHERE NOT " READABLE(column)
#define BAD_OR_NULL(table, column) BAD(table, column) " AND " column " IS NOT NULL"

static void times_can_be_read(const struct world *w)
{
    static const char *const bad[] = {
        BAD("pgqrs_queues", "created_at"),
        BAD("pgqrs_workers", "started_at"),
        BAD("pgqrs_workers", "heartbeat_at"),
        BAD_OR_NULL("pgqrs_workers", "shutdown_at"),
        BAD("pgqrs_messages", "vt"),
        BAD("pgqrs_messages", "enqueued_at"),
        BAD_OR_NULL("pgqrs_messages", "dequeued_at"),
        BAD_OR_NULL("pgqrs_messages", "archived_at"),
    };
    for (size_t i = 0; w->pg == NULL && i < sizeof bad / sizeof *bad; i++) {
        expect(w, bad[i], 0);
    }
}

static void rows_are_as_pgqrs_expects(const struct world *w)
{
    static const char *const wrong[] = {
        "SELECT count(*) FROM pgqrs_messages m WHERE NOT EXISTS (SELECT 1 FROM pgqrs_queues q"
        " WHERE q.id = m.queue_id)",
        "SELECT count(*) FROM pgqrs_messages m WHERE consumer_worker_id IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM pgqrs_workers k WHERE k.id = m.consumer_worker_id)",
        "SELECT count(*) FROM pgqrs_messages m WHERE producer_worker_id IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM pgqrs_workers k WHERE k.id = m.producer_worker_id)",
        "SELECT count(*) FROM pgqrs_messages WHERE archived_at IS NOT NULL"
        " AND (consumer_worker_id IS NULL OR dequeued_at IS NULL OR read_ct < 1 OR vt IS NULL)",
        "SELECT count(*) FROM pgqrs_workers WHERE started_at IS NULL OR heartbeat_at IS NULL",
        "SELECT count(*) FROM pgqrs_workers WHERE cast(status AS text) NOT IN ('ready', 'polling',"
        " 'suspended', 'interrupted', 'stopped')",
        "SELECT count(*) FROM _sqlx_migrations WHERE NOT success",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        expect(w, wrong[i], 0);
    }
    expect(w, "SELECT count(*) FROM _sqlx_migrations", w->pg == NULL ? 4 : 5);
    times_can_be_read(w);
}

/* ---- the story ---- */

/* The client takes every job it can; some it gives back. Returns how many it archived. */
static int64_t take_part(const struct world *w)
{
    int64_t archived = 0;
    int64_t id;
    for (int turn = 0; (id = dequeue(w)) > 0; turn++) {
        if (turn % 10 == 3) {
            assert_true(release(w, id));
        } else {
            assert_true(archive(w, id));
            archived++;
        }
    }
    return archived;
}

static void they_share_a_queue(struct world *w)
{
    struct fixture *f = w->f;
    enqueue_as_pgqrs(w);
    int64_t kept = dequeue(w);
    assert_true(kept > 0);
    assert_true(change(w, "vt = enqueued_at", kept)); /* its time is over, which says nothing */
    fixture_start(f, "    consumers: 2\n    prefetch: 5\n");
    int64_t archived = take_part(w);
    await_number(w, "SELECT count(*) FROM pgqrs_messages WHERE archived_at IS NOT NULL", JOBS - 1);
    /* Nothing twice: what pgqrsd ended, its handler has run once each, and nothing else. */
    char sql[300];
    int64_t ours = number(w, "SELECT count(*) FROM pgqrs_messages WHERE pgqrsd_outcome = 'done'");
    assert_int_equal(ours + archived, JOBS - 1);
    assert_int_equal(effects_count(&f->scratch, "start "), ours);
    assert_int_equal(effects_count(&f->scratch, "end "), ours);
    assert_true(ours > 0);
    /* A lease of the other world is left alone. */
    (void)snprintf(sql, sizeof sql,
                   "SELECT count(*) FROM pgqrs_messages WHERE id = %lld AND archived_at IS NULL"
                   " AND consumer_worker_id = (SELECT id FROM pgqrs_workers WHERE name = 'alice')",
                   (long long)kept);
    expect(w, sql, 1);
    /* What pgqrsd ended, a client replays, and pgqrsd runs once more. */
    int64_t again = number(w, "SELECT min(id) FROM pgqrs_messages WHERE pgqrsd_outcome = 'done'");
    replay(w, again);
    effects_await(&f->scratch, "end ", (int)ours + 1);
    await_number(w, "SELECT count(*) FROM pgqrs_messages WHERE archived_at IS NOT NULL", JOBS - 1);
    assert_true(archive(w, kept));
    /* Its metrics: total, pending (the delayed one), locked, archived. */
    expect(w, "SELECT count(*) FROM pgqrs_messages WHERE queue_id = 1", JOBS + 1);
    expect(w,
           "SELECT count(*) FROM pgqrs_messages WHERE archived_at IS NULL"
           " AND consumer_worker_id IS NULL",
           1);
    expect(w,
           "SELECT count(*) FROM pgqrs_messages WHERE archived_at IS NULL"
           " AND consumer_worker_id IS NOT NULL",
           0);
    rows_are_as_pgqrs_expects(w);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    expect(w, "SELECT count(*) FROM pgqrs_workers WHERE cast(status AS text) <> 'stopped'", 2);
    rows_are_as_pgqrs_expects(w);
}

static void on_sqlite(void **state)
{
    struct world w = {.f = *state};
    scratch_write(&w.f->scratch, "queue.db", "%s", ""); /* an empty file is an empty database */
    db_exec(&w.f->scratch, sqlite_tables);
    they_share_a_queue(&w);
}

static void on_postgres_of(void **state, bool head)
{
    struct world w = {.f = *state, .pg = pg_rig_create()};
    (void)snprintf(w.f->scratch.dsn, sizeof w.f->scratch.dsn, "%s", w.pg->dsn);
    assert_true(strlen(w.pg->dsn) < sizeof w.f->scratch.dsn);
    assert_int_equal(setenv("PGQRS_SCHEMA", w.pg->schema, 1), 0);
    pgqrs_world_create(w.pg, head);
    they_share_a_queue(&w);
    assert_int_equal(unsetenv("PGQRS_SCHEMA"), 0);
    pg_rig_destroy(w.pg);
}

static void on_postgres_0_15_3(void **state)
{
    on_postgres_of(state, false);
}

static void on_postgres_head(void **state)
{
    on_postgres_of(state, true);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test_setup_teardown(on_sqlite, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(on_postgres_0_15_3, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(on_postgres_head, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
