/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/sqlite_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/sqlite/sqlite_priv.h"
#include "store/workflow.h"

/* Opening a database, and the tables in it. */

/* ---- opening ---- */

static void assert_dsn_refused(const char *dsn, enum pgqrs_err code, const char *expected)
{
    struct pgqrs_error err;
    struct pgqrs_store *store = NULL;
    const struct pgqrs_store_options options = {.busy_ms = 5};
    assert_int_equal(pgqrs_store_open(dsn, &options, &store, &err), -1);
    assert_null(store);
    if (err.code != code || strstr(err.text, expected) == NULL ||
        strstr(err.text, "secret") != NULL) {
        fail_msg("%s: found code %d and \"%s\"", dsn, (int)err.code, err.text);
    }
}

static void schemes(void **state)
{
    (void)state;
    assert_dsn_refused("turso://x", PGQRS_ERR_CONFIG, "turso:");
    assert_dsn_refused("s3://bucket/key", PGQRS_ERR_CONFIG, "s3:");
    assert_dsn_refused("mysql://u:secret@h/db", PGQRS_ERR_CONFIG, "\"mysql:\", expected sqlite:");
    assert_dsn_refused("/var/lib/secret", PGQRS_ERR_CONFIG, "no scheme");
    assert_dsn_refused("", PGQRS_ERR_CONFIG, "no scheme");
    assert_dsn_refused("sqlite:", PGQRS_ERR_CONFIG, "no path");
    assert_dsn_refused("sqlite://?mode=rwc", PGQRS_ERR_CONFIG, "no path");
    assert_dsn_refused("sqlite:x.db?cache=shared", PGQRS_ERR_CONFIG, "\"cache=shared\"");
    assert_dsn_refused("sqlite:a%2", PGQRS_ERR_CONFIG, "hexadecimal");
    assert_dsn_refused("sqlite:a%00b", PGQRS_ERR_CONFIG, "hexadecimal");
}

static void names_of_one_file(void **state)
{
    struct sqlite_rig *rig = *state;
    char dsn[PATH_MAX + 64];
    struct pgqrs_store *store = NULL;
    const struct pgqrs_store_options options = {.busy_ms = 5};
    (void)snprintf(dsn, sizeof dsn, "sqlite:%s/a%%20b%%3f.db?mode=rw", rig->dir);
    suite_fails(rig, pgqrs_store_open(dsn, &options, &store, &rig->err), PGQRS_ERR_UNAVAILABLE);
    (void)snprintf(dsn, sizeof dsn, "sqlite:%s/a%%20b%%3f.db?mode=rwc", rig->dir);
    suite_ok(rig, pgqrs_store_open(dsn, &options, &store, &rig->err));
    pgqrs_store_close(&store);
    char path[PATH_MAX + 64];
    (void)snprintf(path, sizeof path, "%s/a b?.db", rig->dir);
    assert_int_equal(access(path, F_OK), 0);
    char link[PATH_MAX + 64];
    (void)snprintf(link, sizeof link, "%s/link.db", rig->dir);
    assert_int_equal(symlink(path, link), 0);
    (void)snprintf(dsn, sizeof dsn, "sqlite://%s", link);
    suite_ok(rig, pgqrs_store_open(dsn, &options, &store, &rig->err));
    assert_string_equal(sqlite_of(store)->path, path);
    pgqrs_store_close(&store);
}

static void what_is_no_database(void **state)
{
    struct sqlite_rig *rig = *state;
    char dsn[PATH_MAX + 64];
    (void)snprintf(dsn, sizeof dsn, "sqlite:%s", rig->path);
    assert_dsn_refused(dsn, PGQRS_ERR_UNAVAILABLE, "No such file");
    assert_int_equal(access(rig->path, F_OK), -1);
    (void)snprintf(dsn, sizeof dsn, "sqlite:%s/none/q.db?mode=rwc", rig->dir);
    assert_dsn_refused(dsn, PGQRS_ERR_UNAVAILABLE, "/none\": No such file");
    (void)snprintf(dsn, sizeof dsn, "sqlite:%s", rig->dir);
    assert_dsn_refused(dsn, PGQRS_ERR_UNAVAILABLE, "is a directory, expected an SQLite database");
    FILE *file = fopen(rig->path, "w");
    assert_non_null(file);
    for (int i = 0; i < 200; i++) {
        assert_true(fputs("This is not a database.\n", file) >= 0);
    }
    assert_int_equal(fclose(file), 0);
    (void)snprintf(dsn, sizeof dsn, "sqlite:%s", rig->path);
    assert_dsn_refused(dsn, PGQRS_ERR_UNAVAILABLE, "is not an SQLite database");
}

/* The superuser may write everywhere, so this is asked as somebody else. */
static int open_as_nobody(struct sqlite_rig *rig)
{
    struct pgqrs_store *store = NULL;
    if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0)) {
        return 2;
    }
    if (sqlite_rig_open(rig, &store) == 0) {
        return 3;
    }
    if (rig->err.code != PGQRS_ERR_UNAVAILABLE || strstr(rig->err.text, rig->path) == NULL ||
        strstr(rig->err.text, "ermission denied") == NULL) {
        (void)fprintf(stderr, "%s\n", rig->err.text);
        return 4;
    }
    return strstr(rig->err.text, "must be readable and writable") != NULL ? 10 : 11;
}

static void read_only(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    pgqrs_store_close(&store);
    assert_int_equal(chmod(rig->dir, 0777), 0);
    assert_int_equal(chmod(rig->path, 0444), 0);
    assert_int_equal(sqlite_rig_child(open_as_nobody, rig), 10);
    assert_int_equal(chmod(rig->path, 0666), 0);
    assert_int_equal(chmod(rig->dir, 0555), 0);
    assert_int_equal(sqlite_rig_child(open_as_nobody, rig), 11);
}

static void opening_does_not_install(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = NULL;
    int64_t id;
    suite_ok(rig, sqlite_rig_open(rig, &store));
    assert_int_equal(sqlite_rig_number(sqlite_of(store)->db, "SELECT count(*) FROM sqlite_master"),
                     0);
    suite_fails(rig, pgqrs_store_verify(store, &rig->err), PGQRS_ERR_SCHEMA);
    suite_fails(rig, pgqrs_store_queue_find(store, "q", &id, &rig->err), PGQRS_ERR_SCHEMA);
    suite_fails(rig, pgqrs_store_queue_create(store, "q", &id, &rig->err), PGQRS_ERR_SCHEMA);
    assert_non_null(strstr(rig->err.text, "pgqrs_queues"));
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    suite_ok(rig, pgqrs_store_queue_create(store, "q", &id, &rig->err));
    pgqrs_store_close(&store);
}

/* ---- installing ---- */

static int install_it(struct sqlite_rig *rig)
{
    struct pgqrs_store *store = NULL;
    for (int i = 0; i < 3; i++) {
        if (sqlite_rig_open(rig, &store) < 0 || pgqrs_store_install(store, &rig->err) < 0 ||
            pgqrs_store_verify(store, &rig->err) < 0) {
            (void)fprintf(stderr, "%s\n", rig->err.text);
            return 1;
        }
        pgqrs_store_close(&store);
    }
    return 0;
}

static void two_install_at_once(void **state)
{
    struct sqlite_rig *rig = *state;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(install_it(rig));
    }
    int here = sqlite_rig_child(install_it, rig);
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(here, 0);
}

/* ---- from older versions ---- */

/* What version 2 did not have, taken away again; rows of every state are there. */
static void make_version_2(struct sqlite_rig *rig)
{
    struct pgqrs_store *store = sqlite_rig_store(rig);
    pgqrs_store_close(&store);
    sqlite_rig_sql(rig, "DROP TRIGGER pgqrsd_message_archived; DROP TRIGGER pgqrsd_message_deleted;"
                        "DROP TRIGGER pgqrsd_run_ended; DROP INDEX pgqrsd_messages_parent;"
                        "DROP TABLE pgqrsd_workflow_events; DROP TABLE pgqrsd_workflow_state;"
                        "ALTER TABLE pgqrs_messages DROP COLUMN pgqrsd_flow;"
                        "ALTER TABLE pgqrs_messages DROP COLUMN pgqrsd_parent_id;"
                        "ALTER TABLE pgqrs_workflow_runs DROP COLUMN pgqrsd_event;"
                        "ALTER TABLE pgqrs_workflow_steps DROP COLUMN pgqrsd_kind;"
                        "UPDATE pgqrsd_schema SET version = 2;"
                        "INSERT INTO pgqrs_queues (id, queue_name) VALUES (1, 'q');"
                        "INSERT INTO pgqrs_workers (id, queue_id, name) VALUES (7, 1, 'w');"
                        "INSERT INTO pgqrs_messages (id, queue_id, payload, read_ct,"
                        " consumer_worker_id, archived_at, pgqrsd_priority, pgqrsd_outcome) VALUES"
                        " (1, 1, '1', 0, NULL, NULL, 3, NULL), (2, 1, '2', 1, 7, NULL, 0, NULL),"
                        " (3, 1, '3', 5, 7, '2026-01-01 00:00:02', 0, 'failed');"
                        "INSERT INTO pgqrs_workflows (id, name, queue_id) VALUES (1, 'q', 1);"
                        "INSERT INTO pgqrs_workflow_runs (id, workflow_id, message_id, status)"
                        " VALUES (1, 1, 2, 'RUNNING');"
                        "INSERT INTO pgqrs_workflow_steps (run_id, step_name, status, output)"
                        " VALUES (1, 's', 'SUCCESS', '1')");
}

static void make_version_1(struct sqlite_rig *rig)
{
    make_version_2(rig);
    sqlite_rig_sql(rig, "DROP INDEX pgqrsd_messages_unique;"
                        "ALTER TABLE pgqrs_messages DROP COLUMN pgqrsd_unique_key;"
                        "ALTER TABLE pgqrs_queues DROP COLUMN pgqrsd_paused_at;"
                        "UPDATE pgqrsd_schema SET version = 1");
}

/* A run that was there before is one that a worker of ours can go on with. */
static void from_version_2(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = NULL;
    make_version_2(rig);
    suite_ok(rig, sqlite_rig_open(rig, &store));
    suite_fails(rig, pgqrs_store_verify(store, &rig->err), PGQRS_ERR_SCHEMA);
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    suite_ok(rig, pgqrs_store_verify(store, &rig->err));
    struct pgqrs_run_open open = {.lease = {.message_id = 2, .worker_id = 7, .attempt = 1}};
    int64_t now;
    suite_ok(rig, pgqrs_store_run_open(store, 1, &open, 1, &now, &rig->err));
    assert_true(open.held);
    assert_int_equal(open.run_id, 1);
    assert_int_equal(open.steps.count, 1);
    assert_int_equal(open.steps.items[0].kind, PGQRS_STEP_PLAIN);
    pgqrs_run_open_fini(&open);
    sqlite_rig_sql(rig, "UPDATE pgqrs_messages SET archived_at = '2026-01-01 00:00:09'");
    struct pgqrs_run_list one;
    suite_ok(rig, pgqrs_store_run_get(store, 2, &one, &rig->err));
    assert_int_equal(one.items[0].status, PGQRS_RUN_ERROR);
    pgqrs_run_list_fini(&one);
    pgqrs_store_close(&store);
}

static void from_version_1(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = NULL;
    make_version_1(rig);
    suite_ok(rig, sqlite_rig_open(rig, &store));
    suite_fails(rig, pgqrs_store_verify(store, &rig->err), PGQRS_ERR_SCHEMA);
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    suite_ok(rig, pgqrs_store_verify(store, &rig->err));
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    struct pgqrs_store_info info;
    suite_ok(rig, pgqrs_store_info(store, &info, &rig->err));
    assert_int_equal(info.schema_version, 3);
    assert_int_equal(info.queues, 1);
    assert_int_equal(info.paused_queues, 0);
    struct pgqrs_queue_metrics metrics;
    suite_ok(rig, pgqrs_store_queue_metrics(store, 1, 0, &metrics, &rig->err));
    assert_int_equal(metrics.pending, 1);
    assert_int_equal(metrics.leased, 1);
    assert_int_equal(metrics.failed, 1);
    struct pgqrs_message m;
    suite_ok(rig, pgqrs_store_message_get(store, 1, &m, &rig->err));
    assert_int_equal(m.priority, 3);
    assert_null(m.unique_key);
    pgqrs_message_fini(&m);
    pgqrs_store_close(&store);
}

static void two_complete_version_1(void **state)
{
    struct sqlite_rig *rig = *state;
    make_version_1(rig);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(install_it(rig));
    }
    int here = sqlite_rig_child(install_it, rig);
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(here, 0);
    sqlite3 *db = sqlite_rig_raw(rig);
    assert_int_equal(sqlite_rig_number(db, "SELECT count(*) FROM pgqrsd_schema"), 2);
    assert_int_equal(sqlite_rig_number(db, "SELECT count(*) FROM pgqrs_messages"), 3);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void refuses_and_keeps(struct sqlite_rig *rig, const char *damage, const char *expected)
{
    sqlite_rig_sql(rig, damage);
    sqlite3 *db = sqlite_rig_raw(rig);
    int64_t before = sqlite_rig_number(db, "PRAGMA schema_version");
    struct pgqrs_store *store = NULL;
    suite_ok(rig, sqlite_rig_open(rig, &store));
    suite_fails(rig, pgqrs_store_install(store, &rig->err), PGQRS_ERR_SCHEMA);
    if (strstr(rig->err.text, expected) == NULL || strstr(rig->err.text, "expected") == NULL) {
        fail_msg("%s: found \"%s\"", damage, rig->err.text);
    }
    suite_fails(rig, pgqrs_store_verify(store, &rig->err), PGQRS_ERR_SCHEMA);
    pgqrs_store_close(&store);
    assert_int_equal(sqlite_rig_number(db, "PRAGMA schema_version"), before);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void schemas_of_others(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    pgqrs_store_close(&store);
    refuses_and_keeps(rig, "INSERT INTO pgqrsd_schema VALUES (4, '')", "found schema version 4");
    sqlite_rig_sql(rig, "DELETE FROM pgqrsd_schema WHERE version = 4");
    refuses_and_keeps(rig, "UPDATE _sqlx_migrations SET success = 0 WHERE version = 3",
                      "migration 3 in _sqlx_migrations marked as failed");
    sqlite_rig_sql(rig, "UPDATE _sqlx_migrations SET success = 1");
    refuses_and_keeps(rig,
                      "INSERT INTO _sqlx_migrations VALUES (6, 'x', '2026-01-01', 1, x'00', 1)",
                      "found migration 6");
    sqlite_rig_sql(rig, "DELETE FROM _sqlx_migrations WHERE version = 6");
    refuses_and_keeps(rig, "UPDATE _sqlx_migrations SET checksum = x'0102' WHERE version = 2",
                      "checksum 0102");
    sqlite_rig_sql(rig, "DELETE FROM _sqlx_migrations WHERE version = 2");
    refuses_and_keeps(rig, "ALTER TABLE pgqrs_workers RENAME COLUMN heartbeat_at TO seen_at",
                      "heartbeat_at");
}

static void verify_finds(struct sqlite_rig *rig, const char *damage, const char *expected)
{
    char copy[PATH_MAX + 64];
    (void)snprintf(copy, sizeof copy, "VACUUM INTO '%s/copy.db'", rig->dir);
    sqlite_rig_sql(rig, copy);
    struct sqlite_rig other = *rig;
    (void)snprintf(other.path, sizeof other.path, "%s/copy.db", rig->dir);
    sqlite_rig_sql(&other, damage);
    struct pgqrs_store *store = NULL;
    suite_ok(&other, sqlite_rig_open(&other, &store));
    suite_fails(&other, pgqrs_store_verify(store, &other.err), PGQRS_ERR_SCHEMA);
    if (strstr(other.err.text, expected) == NULL) {
        fail_msg("%s: found \"%s\"", damage, other.err.text);
    }
    pgqrs_store_close(&store);
    assert_int_equal(remove(other.path), 0);
}

static void verifying(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    pgqrs_store_close(&store);
    sqlite_rig_sql(rig, "INSERT INTO pgqrs_queues (queue_name) VALUES ('q')");
    static const char *const tables[] = {"pgqrs_queues",           "pgqrs_workers",
                                         "pgqrs_messages",         "pgqrs_workflows",
                                         "pgqrs_workflow_runs",    "pgqrs_workflow_steps",
                                         "pgqrsd_workflow_events", "pgqrsd_workflow_state"};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        char sql[100];
        (void)snprintf(sql, sizeof sql, "DROP TABLE %s", tables[i]);
        verify_finds(rig, sql, tables[i]);
    }
    verify_finds(rig, "DROP INDEX pgqrsd_messages_lease", "no index pgqrsd_messages_lease");
    verify_finds(rig, "DROP INDEX pgqrsd_messages_failed", "no index pgqrsd_messages_failed");
    verify_finds(rig, "DROP INDEX pgqrsd_messages_unique", "no index pgqrsd_messages_unique");
    verify_finds(rig, "DROP INDEX pgqrsd_messages_parent", "no index pgqrsd_messages_parent");
    verify_finds(rig, "DROP TRIGGER pgqrsd_message_archived", "no trigger pgqrsd_message_archived");
    verify_finds(rig, "DROP TRIGGER pgqrsd_message_deleted", "no trigger pgqrsd_message_deleted");
    verify_finds(rig, "DROP TRIGGER pgqrsd_run_ended", "no trigger pgqrsd_run_ended");
    verify_finds(rig, "ALTER TABLE pgqrs_workflow_steps DROP COLUMN pgqrsd_kind", "pgqrsd_kind");
    verify_finds(rig, "ALTER TABLE pgqrs_queues DROP COLUMN pgqrsd_paused_at", "pgqrsd_paused_at");
    verify_finds(rig, "ALTER TABLE pgqrs_messages DROP COLUMN pgqrsd_crash_ct", "pgqrsd_crash_ct");
    verify_finds(rig, "DELETE FROM _sqlx_migrations WHERE version = 5", "found 3 migrations");
    verify_finds(rig, "DROP TABLE pgqrsd_schema", "found schema version 0");
    verify_finds(rig, "INSERT INTO pgqrs_messages (queue_id, payload) VALUES (9, '1')",
                 "row 1 of pgqrs_messages referring to a row of pgqrs_queues");
    verify_finds(rig,
                 "INSERT INTO pgqrs_messages (queue_id, payload, producer_worker_id)"
                 " VALUES (1, '1', 5)",
                 "referring to a row of pgqrs_workers");
    verify_finds(rig,
                 "INSERT INTO pgqrs_workflow_steps (run_id, step_name, status)"
                 " VALUES (1, 's', 'RUNNING')",
                 "referring to a row of pgqrs_workflow_runs");
}

/* ---- a database of pgqrs' own clients ---- */

static const char pgqrs_database[] =
    "CREATE TABLE pgqrs_queues (id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " queue_name TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL DEFAULT (datetime('now')));"
    "CREATE TABLE pgqrs_workers (id INTEGER PRIMARY KEY AUTOINCREMENT, queue_id INTEGER,"
    " name TEXT NOT NULL UNIQUE, started_at TEXT NOT NULL DEFAULT (datetime('now')),"
    " heartbeat_at TEXT NOT NULL DEFAULT (datetime('now')), shutdown_at TEXT,"
    " status TEXT NOT NULL DEFAULT 'ready', FOREIGN KEY (queue_id) REFERENCES pgqrs_queues(id));"
    "CREATE TABLE pgqrs_messages (id INTEGER PRIMARY KEY AUTOINCREMENT, queue_id INTEGER NOT NULL,"
    " payload TEXT NOT NULL, vt TEXT DEFAULT (datetime('now')),"
    " enqueued_at TEXT DEFAULT (datetime('now')), read_ct INTEGER DEFAULT 0, dequeued_at TEXT,"
    " producer_worker_id INTEGER, consumer_worker_id INTEGER, archived_at TEXT,"
    " FOREIGN KEY (queue_id) REFERENCES pgqrs_queues(id),"
    " FOREIGN KEY (consumer_worker_id) REFERENCES pgqrs_workers(id));"
    "INSERT INTO pgqrs_queues VALUES (1, 'q', '2026-01-01 00:00:00');"
    "INSERT INTO pgqrs_workers (id, queue_id, name, started_at, heartbeat_at, status)"
    " VALUES (7, 1, 'rust', '2026-01-01 00:00:00.000001', '2026-01-01 00:00:00.000001', 'polling');"
    /* ready, given back with second precision; ready; delayed; held; archived; without a vt */
    "INSERT INTO pgqrs_messages (id, queue_id, payload, vt, enqueued_at, read_ct, dequeued_at,"
    " consumer_worker_id, archived_at) VALUES"
    " (1, 1, '{\"n\":1}', '2026-01-01 00:00:05', '2026-01-01 00:00:00.000000', 1,"
    "  '2026-01-01 00:00:01.500000', NULL, NULL),"
    " (2, 1, '2', '2026-01-01 00:00:04.999999', '2026-01-01 00:00:04.999999', 0, NULL, NULL, NULL),"
    " (3, 1, '3', '2026-01-01 00:00:10.250000', '2026-01-01 00:00:04', 0, NULL, NULL, NULL),"
    " (4, 1, '4', '2026-01-01 00:00:30', '2026-01-01 00:00:00', 1, '2026-01-01 00:00:00', 7, NULL),"
    " (5, 1, '5', '2026-01-01 00:00:30', '2026-01-01 00:00:00', 1, '2026-01-01 00:00:00', 7,"
    "  '2026-01-01 00:00:02'),"
    " (6, 1, '6', NULL, NULL, 0, NULL, NULL, NULL);";

static void assert_adopted(struct sqlite_rig *rig, struct pgqrs_store *store)
{
    struct pgqrs_message m;
    suite_ok(rig, pgqrs_store_message_get(store, 5, &m, &rig->err));
    assert_int_equal(m.state, PGQRS_STATE_ARCHIVED);
    assert_int_equal(m.archived_at_us, SUITE_START_US + 2000000);
    assert_null(m.outcome);
    pgqrs_message_fini(&m);
    const struct pgqrs_worker_filter ours = {.ours = true, .limit = 10};
    struct pgqrs_worker_info_list list;
    suite_ok(rig, pgqrs_store_worker_list(store, &ours, &list, &rig->err));
    assert_int_equal(list.count, 0); /* the one that is there is not ours */
    pgqrs_worker_info_list_fini(&list);
    struct pgqrs_queue_metrics metrics;
    suite_ok(rig, pgqrs_store_queue_metrics(store, 1, 0, &metrics, &rig->err));
    assert_int_equal(metrics.total, 6);
    assert_int_equal(metrics.pending, 4);
    assert_int_equal(metrics.leased, 1);
    assert_int_equal(metrics.failed, 0);
}

static void adopting(void **state)
{
    struct sqlite_rig *rig = *state;
    sqlite_rig_sql(rig, pgqrs_database);
    pgqrs_clock_set_wall(SUITE_START_US + 5000000); /* 00:00:05 */
    struct pgqrs_store *store = sqlite_rig_store(rig);
    suite_ok(rig, pgqrs_store_verify(store, &rig->err));
    assert_adopted(rig, store);
    int64_t worker = 0;
    const struct pgqrs_worker_row row = {
        .name = "ours", .queue_id = 1, .instance = "run", .generation = 1, .pid = 1};
    suite_ok(rig, pgqrs_store_worker_register(store, &row, &worker, &rig->err));
    const struct pgqrs_want want = {
        .queue_id = 1, .worker_id = worker, .count = 9, .max_attempts = 5, .lease_ms = 1000};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
    assert_int_equal(x.lease_count, 3);
    assert_int_equal(x.leases[0].message_id, 2);
    assert_int_equal(x.leases[1].message_id, 1);
    assert_int_equal(x.leases[1].attempt, 2);
    assert_int_equal(x.leases[2].message_id, 6); /* without a vt it counts as due now */
    assert_int_equal(x.leases[2].enqueued_at_us, 0);
    assert_int_equal(x.next_due_us, SUITE_START_US + 10250000);
    pgqrs_exchange_fini(&x);
    sqlite3 *db = sqlite_of(store)->db;
    assert_int_equal(sqlite_rig_number(db, "SELECT dequeued_at = '2026-01-01 00:00:01.500000' AND"
                                           " vt = '2026-01-01 00:00:06.000000' AND"
                                           " pgqrsd_due_at = '2026-01-01 00:00:05'"
                                           " FROM pgqrs_messages WHERE id = 1"),
                     1);
    assert_int_equal(sqlite_rig_number(db, "SELECT count(*) FROM _sqlx_migrations WHERE success"
                                           " AND length(checksum) = 48"),
                     4);
    pgqrs_store_close(&store);
}

static void refused_and_left_alone(void **state)
{
    struct sqlite_rig *rig = *state;
    sqlite_rig_sql(rig, pgqrs_database);
    refuses_and_keeps(rig, "ALTER TABLE pgqrs_workers RENAME COLUMN name TO hostname",
                      "no such column: name");
}

static void a_run_keeps_its_message(void **state)
{
    struct sqlite_rig *rig = *state;
    sqlite_rig_sql(rig, pgqrs_database);
    struct pgqrs_store *store = sqlite_rig_store(rig);
    sqlite_rig_sql(rig, "INSERT INTO pgqrs_workflows (id, name, queue_id) VALUES (1, 'q', 1);"
                        "INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status)"
                        " VALUES (1, 4, 'RUNNING')");
    struct pgqrs_settlement item = {
        .message_id = 4, .worker_id = 7, .attempt = 1, .how = PGQRS_SETTLE_DELETE};
    struct pgqrs_exchange x = {.settlements = &item, .settlement_count = 1};
    suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
    assert_int_equal(item.settled_out, PGQRS_SETTLED_YES);
    struct pgqrs_message m;
    suite_ok(rig, pgqrs_store_message_get(store, 4, &m, &rig->err));
    assert_string_equal(m.outcome, "done");
    pgqrs_message_fini(&m);
    suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
    assert_int_equal(item.settled_out, PGQRS_SETTLED_BEFORE);
    suite_ok(rig, pgqrs_store_verify(store, &rig->err));
    pgqrs_store_close(&store);
}

/* Everything that is stored as a time has the one form that pgqrs compares and reads. */
static void times_are_microseconds(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    int64_t queue = 0;
    int64_t worker = 0;
    int64_t ids[4];
    suite_ok(rig, pgqrs_store_queue_create(store, "q", &queue, &rig->err));
    const struct pgqrs_worker_row row = {
        .name = "w", .queue_id = queue, .instance = "run", .generation = 1, .pid = 1};
    suite_ok(rig, pgqrs_store_worker_register(store, &row, &worker, &rig->err));
    const struct pgqrs_enqueue items[4] = {{.payload = pgqrs_bytes_from("1")},
                                           {.payload = pgqrs_bytes_from("2")},
                                           {.payload = pgqrs_bytes_from("3")},
                                           {.payload = pgqrs_bytes_from("4"), .delay_ms = 9}};
    suite_ok(rig, pgqrs_store_enqueue(store, queue, items, 4, ids, NULL, &rig->err));
    const struct pgqrs_want want = {
        .queue_id = queue, .worker_id = worker, .count = 3, .max_attempts = 5, .lease_ms = 1000};
    struct pgqrs_settlement settle[2] = {
        {.message_id = ids[0], .worker_id = worker, .attempt = 1, .how = PGQRS_SETTLE_ARCHIVE},
        {.message_id = ids[1], .worker_id = worker, .attempt = 1, .how = PGQRS_SETTLE_RETRY}};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
    assert_int_equal(x.lease_count, 3);
    x.settlements = settle;
    x.settlement_count = 2;
    x.want_count = 0;
    suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
    pgqrs_exchange_fini(&x);
    const struct pgqrs_release release = {.max_attempts = 5, .reason = "r"};
    assert_int_equal(pgqrs_store_worker_end(store, worker, &release, &rig->err), 1);
    static const char form[] =
        "SELECT count(*), count(*) FILTER (WHERE t NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9]"
        "[0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]') FROM ("
        "SELECT created_at AS t FROM pgqrs_queues UNION ALL SELECT started_at FROM pgqrs_workers"
        " UNION ALL SELECT heartbeat_at FROM pgqrs_workers"
        " UNION ALL SELECT shutdown_at FROM pgqrs_workers"
        " UNION ALL SELECT vt FROM pgqrs_messages UNION ALL SELECT enqueued_at FROM pgqrs_messages"
        " UNION ALL SELECT dequeued_at FROM pgqrs_messages UNION ALL SELECT archived_at"
        " FROM pgqrs_messages UNION ALL SELECT installed_at FROM pgqrsd_schema) WHERE t IS NOT "
        "NULL";
    sqlite3_stmt *stmt = NULL;
    assert_int_equal(sqlite3_prepare_v2(sqlite_of(store)->db, form, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(stmt, 0), 1 + 3 + 4 + 4 + 3 + 1 + 1);
    assert_int_equal(sqlite3_column_int(stmt, 1), 0);
    assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
    pgqrs_store_close(&store);
}

/* ---- plans ---- */

/* Every step of the plan must be a search that names its index, and nothing is sorted. */
static void assert_searches(sqlite3 *db, enum sqlite_stmt_id id)
{
    char sql[2000];
    (void)snprintf(sql, sizeof sql, "EXPLAIN QUERY PLAN %s", pgqrs_sqlite_sql(id));
    sqlite3_stmt *stmt = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    size_t searches = 0;
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        const char *step = (const char *)sqlite3_column_text(stmt, 3);
        searches += strncmp(step, "SEARCH ", 7) == 0;
        if (strncmp(step, "SCAN", 4) == 0 || strstr(step, "TEMP B-TREE") != NULL) {
            fail_msg("%s: %s", pgqrs_sqlite_sql(id), step);
        }
    }
    assert_true(searches > 0);
    assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
}

/* Partial indexes of what is leased are walked: that is no more than the workers hold. */
static void assert_no_walk(sqlite3 *db, enum sqlite_stmt_id id, bool sorts)
{
    char sql[3000];
    (void)snprintf(sql, sizeof sql, "EXPLAIN QUERY PLAN %s", pgqrs_sqlite_sql(id));
    sqlite3_stmt *stmt = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    size_t searches = 0;
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        const char *step = (const char *)sqlite3_column_text(stmt, 3);
        searches += strncmp(step, "SEARCH ", 7) == 0;
        if ((strncmp(step, "SCAN pgqrs_messages", 19) == 0 &&
             strstr(step, "idx_messages_consumer_active") == NULL) ||
            (strstr(step, "TEMP B-TREE") != NULL && !sorts)) {
            fail_msg("%s: %s", pgqrs_sqlite_sql(id), step);
        }
    }
    assert_true(searches > 0);
    assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
}

static const enum sqlite_stmt_id hot[] = {STMT_QUEUE_FIND,
                                          STMT_QUEUE_EXISTS,
                                          STMT_WORKER_EXISTS,
                                          STMT_WORKER_FIND,
                                          STMT_WORKER_HELD,
                                          STMT_WORKER_FREE,
                                          STMT_SETTLE_END,
                                          STMT_SETTLE_DELETE,
                                          STMT_SETTLE_RELEASE,
                                          STMT_SETTLE_LOOK,
                                          STMT_RENEW,
                                          STMT_LEVEL,
                                          STMT_LEASABLE,
                                          STMT_PICK,
                                          STMT_TAKE,
                                          STMT_LATER,
                                          STMT_REPAIR_VT,
                                          STMT_MESSAGE_GET,
                                          STMT_KEY_HOLDER,
                                          STMT_PRIORITY,
                                          STMT_WORKER_GIVE_UP,
                                          STMT_WORKER_STATE,
                                          STMT_WORKER_HELD_COUNT,
                                          STMT_ACT_LOOK,
                                          STMT_ACT_CANCEL,
                                          STMT_ACT_FREE,
                                          STMT_ACT_REPLAY,
                                          STMT_MESSAGE_DELETE,
                                          STMT_RUN_DELETE,
                                          STMT_STEPS_DELETE,
                                          STMT_PURGE_PENDING,
                                          STMT_PURGE_ARCHIVED,
                                          STMT_PRUNE_ENDED,
                                          STMT_PRUNE_FAILED,
                                          STMT_BURY_FRONT,
                                          STMT_BURY,
                                          STMT_REAP_HOLDER,
                                          STMT_REAP_DEAD,
                                          STMT_REAP_LEASES,
                                          STMT_REAP_FREE,
                                          STMT_WORKFLOW_FIND,
                                          STMT_RUN_GET,
                                          STMT_RUN_LIST_STATUS,
                                          STMT_RUN_LIST_STATUS_END,
                                          STMT_RUN_STATE,
                                          STMT_RUN_EVENTS,
                                          STMT_RUN_LOOK,
                                          STMT_RUN_CANCEL,
                                          STMT_MESSAGE_WAKE,
                                          STMT_MESSAGE_MARK,
                                          STMT_RESUME_STEPS,
                                          STMT_EVENT_WAKE,
                                          STMT_EVENT_THERE,
                                          STMT_STEP_FIND,
                                          STMT_MESSAGE_AGAIN,
                                          STMT_FORK_RUN,
                                          STMT_OPEN_MESSAGE,
                                          STMT_OPEN_RUN,
                                          STMT_FLOW_LOOK,
                                          STMT_STEP_STORED,
                                          STMT_RUN_END,
                                          STMT_RUN_PAUSE,
                                          STMT_RUN_AWAIT,
                                          STMT_MESSAGE_ADOPT,
                                          STMT_CONTINUE_EVENTS,
                                          STMT_REPLAY_RUN,
                                          STMT_REPLAY_STEPS};
/* These look at parts of the whole, each by a range of an index. */
static const enum sqlite_stmt_id wide[] = {STMT_WORKER_BEAT,   STMT_METRICS_COUNTS,
                                           STMT_METRICS_TIMES, STMT_QUEUE_IN_THE_WAY,
                                           STMT_REAP_WORKERS,  STMT_WORKER_STATS};
/* These sort the steps of a run, or the children of one. */
static const enum sqlite_stmt_id sorting[] = {STMT_RUN_LIST_PARENT, STMT_RUN_STEPS,
                                              STMT_FORK_STEPS};

static void hot_statements_seek(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    sqlite3 *db = sqlite_of(store)->db;
    for (int analyzed = 0; analyzed < 2; analyzed++) {
        for (size_t i = 0; i < sizeof hot / sizeof *hot; i++) {
            assert_searches(db, hot[i]);
        }
        for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
            assert_no_walk(db, wide[i], false);
        }
        for (size_t i = 0; i < sizeof sorting / sizeof *sorting; i++) {
            assert_no_walk(db, sorting[i], true);
        }
        /* Statistics of a queue with one row and a great history must not change the plans. */
        sqlite_rig_sql(rig, "INSERT OR IGNORE INTO pgqrs_queues (id, queue_name) VALUES (1, 'q');"
                            "INSERT INTO pgqrs_messages (queue_id, payload, archived_at)"
                            " VALUES (1, '1', '2026-01-01 00:00:00'), (1, '2', NULL);"
                            "ANALYZE");
    }
    pgqrs_store_close(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schemes),
        RIG_CASE(names_of_one_file),
        RIG_CASE(what_is_no_database),
        RIG_CASE(read_only),
        RIG_CASE(opening_does_not_install),
        RIG_CASE(two_install_at_once),
        RIG_CASE(from_version_1),
        RIG_CASE(from_version_2),
        RIG_CASE(two_complete_version_1),
        RIG_CASE(schemas_of_others),
        RIG_CASE(verifying),
        RIG_CASE(adopting),
        RIG_CASE(refused_and_left_alone),
        RIG_CASE(a_run_keeps_its_message),
        RIG_CASE(times_are_microseconds),
        RIG_CASE(hot_statements_seek),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
