/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "store/sqlite/sqlite_priv.h"
#include "tests/support/sqlite_rig.h"

/* Workflows, where SQLite is a case of its own: what statements of handlers may do on the broker's
 * connection, what waits for the disk, and other programs that write the same tables. */

struct flows {
    struct sqlite_rig *rig;
    struct pgqrs_store *store;
    int64_t workflow, queue, worker;
};

static struct flows open_flows(struct sqlite_rig *rig)
{
    struct flows f = {.rig = rig, .store = sqlite_rig_store(rig)};
    suite_ok(rig, pgqrs_store_workflow_create(f.store, "flow", &f.workflow, NULL, &rig->err));
    suite_ok(rig, pgqrs_store_queue_find(f.store, "flow", &f.queue, &rig->err));
    const struct pgqrs_worker_row row = {
        .name = "w", .queue_id = f.queue, .instance = "run", .generation = 1, .pid = 1};
    suite_ok(rig, pgqrs_store_worker_register(f.store, &row, &f.worker, &rig->err));
    sqlite_rig_sql(rig, "CREATE TABLE mine (k TEXT PRIMARY KEY, v TEXT);"
                        "CREATE VIEW theirs AS SELECT payload FROM pgqrs_messages;"
                        "CREATE TABLE sly (k TEXT); CREATE TRIGGER sly_t AFTER INSERT ON sly"
                        " BEGIN UPDATE pgqrs_messages SET payload = NEW.k; END;"
                        "CREATE TABLE wild (k TEXT); CREATE TRIGGER wild_t AFTER INSERT ON wild"
                        " BEGIN SELECT RAISE(ROLLBACK, 'all of it'); END");
    return f;
}

static struct pgqrs_lease_ref begin_one(const struct flows *f)
{
    const struct pgqrs_enqueue item = {.payload = pgqrs_bytes_from("1")};
    const struct pgqrs_want want = {.queue_id = f->queue,
                                    .worker_id = f->worker,
                                    .count = 1,
                                    .max_attempts = 5,
                                    .lease_ms = 60000};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    struct pgqrs_run_open open = {0};
    int64_t id;
    int64_t now;
    suite_ok(f->rig,
             pgqrs_store_workflow_trigger(f->store, "flow", &item, &id, NULL, &f->rig->err));
    suite_ok(f->rig, pgqrs_store_exchange(f->store, &x, &f->rig->err));
    pgqrs_exchange_fini(&x);
    open.lease = (struct pgqrs_lease_ref){.message_id = id, .worker_id = f->worker, .attempt = 1};
    suite_ok(f->rig, pgqrs_store_run_open(f->store, f->workflow, &open, 1, &now, &f->rig->err));
    assert_true(open.held);
    pgqrs_run_open_fini(&open);
    return open.lease;
}

static const struct pgqrs_step_put done = {.name = "a", .status = PGQRS_STEP_SUCCESS};

static struct pgqrs_flow step_with(struct pgqrs_lease_ref lease, const struct pgqrs_step_sql *sql)
{
    return (struct pgqrs_flow){.lease = lease,
                               .what = PGQRS_FLOW_STEP,
                               .steps = &done,
                               .step_count = 1,
                               .sqls = sql,
                               .sql_count = 1};
}

/* ---- statements of handlers ---- */

static void statements_keep_to_tables_of_their_own(void **state)
{
    static const struct {
        const char *text, *found; /* found null: it is carried out */
    } cases[] = {
        {"SELECT * FROM pgqrs_messages", "pgqrs_messages"},
        {"SELECT count(*) FROM PGQRS_workers", "PGQRS_workers"},
        {"SELECT * FROM theirs", "pgqrs_messages"},
        {"INSERT INTO mine SELECT id, payload FROM pgqrs_messages", "pgqrs_messages"},
        {"UPDATE pgqrs_messages SET archived_at = NULL", "pgqrs_messages"},
        {"DELETE FROM pgqrsd_workflow_state", "pgqrsd_workflow_state"},
        {"INSERT INTO sly VALUES ('1')", "pgqrs_messages"},
        {"DROP TRIGGER pgqrsd_message_archived", "pgqrsd_message_archived"},
        {"CREATE TABLE more (k TEXT)", "sqlite_master"},
        {"SELECT * FROM sqlite_master", "sqlite_master"},
        {"PRAGMA foreign_keys = ON", "PRAGMA"},
        {"SELECT * FROM pragma_table_info('mine')", "PRAGMA"},
        {"ATTACH ':memory:' AS other", "ATTACH"},
        {"DETACH main", "ATTACH or DETACH"},
        {"VACUUM", "VACUUM"},
        {"END", "transactions"},
        {"RELEASE pgqrs_item", "transactions"},
        {"ROLLBACK TO pgqrs_item", "transactions"},
        {"SELECT load_extension('x')", "not authorized"},
        {"INSERT INTO mine VALUES (?1, ?2)", "parameter ?1"},
        {"INSERT INTO mine VALUES ($a, 1)", "parameter $a"},
        {"INSERT INTO mine VALUES ('1', sqlite_version())", NULL},
        {"WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 3)"
         " INSERT OR IGNORE INTO mine SELECT 'n' || i, $1 FROM n; -- and that is all",
         NULL},
    };
    struct sqlite_rig *rig = *state;
    struct flows f = open_flows(rig);
    const struct pgqrs_bytes param = pgqrs_bytes_from("x");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pgqrs_step_sql sql = {.text = cases[i].text, .params = &param, .param_count = 1};
        struct pgqrs_flow item = step_with(begin_one(&f), &sql);
        suite_ok(rig, pgqrs_store_flow(f.store, &item, 1, &rig->err));
        if (item.failed_out != (cases[i].found != NULL) ||
            (cases[i].found != NULL && strstr(item.error_out, cases[i].found) == NULL)) {
            fail_msg("%s: %s", cases[i].text, item.failed_out ? item.error_out : "carried out");
        }
        pgqrs_flow_fini(&item);
    }
    sqlite3 *db = sqlite_rig_raw(rig);
    assert_int_equal(sqlite_rig_number(db, "SELECT count(*) FROM mine"), 4);
    assert_int_equal(sqlite_rig_number(db, "SELECT count(*) FROM mine WHERE v = 'x'"), 3);
    assert_int_equal(sqlite_rig_number(db, "SELECT count(*) FROM sly"), 0);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    suite_ok(rig, pgqrs_store_verify(f.store, &rig->err));
    pgqrs_store_close(&f.store);
}

/* A conflict clause, or a trigger, ends the transaction that others share: they have another. */
static void statements_that_roll_back_everything(void **state)
{
    enum { COUNT = 5 };
    static const char *const texts[COUNT] = {
        "INSERT INTO mine VALUES ('first', '1')",
        "INSERT OR ROLLBACK INTO mine VALUES ('taken', '2')",
        "INSERT INTO mine VALUES ('third', '3')",
        "INSERT INTO wild VALUES ('4')",
        "INSERT INTO mine VALUES ('fifth', '5')",
    };
    struct sqlite_rig *rig = *state;
    struct flows f = open_flows(rig);
    struct pgqrs_step_sql sqls[COUNT];
    struct pgqrs_flow items[COUNT];
    sqlite_rig_sql(rig, "INSERT INTO mine VALUES ('taken', '0')");
    for (int i = 0; i < COUNT; i++) {
        sqls[i] = (struct pgqrs_step_sql){.text = texts[i]};
        items[i] = step_with(begin_one(&f), &sqls[i]);
    }
    suite_ok(rig, pgqrs_store_flow(f.store, items, COUNT, &rig->err));
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(items[i].failed_out, i % 2 == 1);
        if (i % 2 == 0) {
            assert_int_equal(items[i].settled_out, PGQRS_SETTLED_YES);
        }
        struct pgqrs_step_list steps;
        int64_t id = items[i].lease.message_id;
        suite_ok(rig, pgqrs_store_run_steps(f.store, id, &steps, &rig->err));
        assert_int_equal(steps.count, i % 2 == 0 ? 1 : 0);
        pgqrs_step_list_fini(&steps);
        pgqrs_flow_fini(&items[i]);
    }
    sqlite3 *db = sqlite_rig_raw(rig);
    assert_int_equal(sqlite_rig_number(db, "SELECT count(*) FROM mine"), 4);
    assert_int_equal(sqlite_rig_number(db, "SELECT count(*) FROM wild"), 0);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    pgqrs_store_close(&f.store);
}

/* ---- the disk ---- */

struct noted {
    const struct sqlite_store *store;
    bool synced; /* the last commit */
};

static int note_level(void *arg)
{
    struct noted *n = arg;
    n->synced = n->store->syncs;
    return 0;
}

static void beginning_waits_for_no_disk(void **state)
{
    struct sqlite_rig *rig = *state;
    struct flows f = open_flows(rig);
    struct sqlite_store *s = sqlite_of(f.store);
    s->synchronous_full = s->syncs = true;
    struct noted last = {.store = s, .synced = true};
    (void)sqlite3_commit_hook(s->db, note_level, &last);
    struct pgqrs_flow item = step_with(begin_one(&f), NULL);
    assert_false(last.synced);
    item.sql_count = 0;
    suite_ok(rig, pgqrs_store_flow(f.store, &item, 1, &rig->err));
    assert_true(last.synced);
    pgqrs_flow_fini(&item);
    pgqrs_store_close(&f.store);
}

/* ---- other programs ---- */

static int64_t rows_left(sqlite3 *db)
{
    return sqlite_rig_number(db, "SELECT (SELECT count(*) FROM pgqrs_workflow_runs)"
                                 " + (SELECT count(*) FROM pgqrs_workflow_steps)"
                                 " + (SELECT count(*) FROM pgqrsd_workflow_events)");
}

/* A client with foreign keys on archives and deletes: messages of its own, which have none of our
 * columns, and that of a run. */
static void clients_of_pgqrs(void **state)
{
    struct sqlite_rig *rig = *state;
    struct flows f = open_flows(rig);
    struct pgqrs_flow item = step_with(begin_one(&f), NULL);
    bool first;
    item.sql_count = 0;
    suite_ok(rig, pgqrs_store_flow(f.store, &item, 1, &rig->err));
    suite_ok(rig, pgqrs_store_event_send(f.store, item.lease.message_id, "go",
                                         pgqrs_bytes_from("1"), &first, &rig->err));
    pgqrs_flow_fini(&item);
    sqlite_rig_sql(rig, "PRAGMA foreign_keys = ON;"
                        "INSERT INTO pgqrs_messages (id, queue_id, payload)"
                        " SELECT 50, id, '{}' FROM pgqrs_queues WHERE queue_name = 'flow';"
                        "INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status)"
                        " SELECT id, 50, 'RUNNING' FROM pgqrs_workflows;"
                        "UPDATE pgqrs_messages SET archived_at = datetime('now')");
    sqlite3 *db = sqlite_rig_raw(rig);
    /* The run that we began has failed with its message; theirs is as pgqrs leaves it. */
    assert_int_equal(sqlite_rig_number(db, "SELECT count(*) FROM pgqrs_workflow_runs"
                                           " WHERE status = 'ERROR' AND message_id <> 50"
                                           " AND completed_at IS NOT NULL AND json_valid(error)"),
                     1);
    assert_int_equal(sqlite_rig_number(db, "SELECT count(*) FROM pgqrs_workflow_runs"
                                           " WHERE status = 'RUNNING' AND message_id = 50"),
                     1);
    assert_int_equal(rows_left(db), 4);
    sqlite_rig_sql(rig, "PRAGMA foreign_keys = ON; DELETE FROM pgqrs_messages WHERE id <> 50");
    assert_int_equal(rows_left(db), 1);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    pgqrs_store_close(&f.store);
}

/* A pgqrs client ends a child's run, in its own form of a time. */
static void a_child_that_a_client_ends(void **state)
{
    struct sqlite_rig *rig = *state;
    struct flows f = open_flows(rig);
    struct pgqrs_lease_ref parent = begin_one(&f);
    struct pgqrs_lease_ref child = begin_one(&f);
    char sql[300];
    (void)snprintf(sql, sizeof sql,
                   "UPDATE pgqrs_messages SET pgqrsd_parent_id = %" PRId64 " WHERE id = %" PRId64
                   "; UPDATE pgqrs_workflow_runs SET status = 'SUCCESS', output = '[1]',"
                   " updated_at = datetime('now') WHERE message_id = %" PRId64,
                   parent.message_id, child.message_id, child.message_id);
    sqlite_rig_sql(rig, sql);
    struct pgqrs_pair_list events;
    suite_ok(rig, pgqrs_store_run_events(f.store, parent.message_id, &events, &rig->err));
    assert_int_equal(events.count, 1);
    suite_assert_json(pgqrs_bytes_from(events.items[0].json),
                      "{\"status\": \"SUCCESS\", \"output\": [1]}");
    assert_true(events.items[0].at_us > 0);
    pgqrs_pair_list_fini(&events);
    pgqrs_store_close(&f.store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_CASE(statements_keep_to_tables_of_their_own),
        RIG_CASE(statements_that_roll_back_everything),
        RIG_CASE(beginning_waits_for_no_disk),
        RIG_CASE(clients_of_pgqrs),
        RIG_CASE(a_child_that_a_client_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
