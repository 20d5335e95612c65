/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/pgqrs_world.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/workflow.h"

/* Installing on PostgreSQL: new, again, adopted, at once; and what verify finds. */

static struct pgqrs_store *open_store(struct pg_rig *rig)
{
    struct pgqrs_store *store = NULL;
    suite_ok(rig, pg_rig_open(rig, NULL, &store));
    return store;
}

static void not_complete(struct pg_rig *rig, struct pgqrs_store *store, const char *says)
{
    suite_fails(rig, pgqrs_store_verify(store, &rig->err), PGQRS_ERR_SCHEMA);
    if (strstr(rig->err.text, says) == NULL) {
        fail_msg("found \"%s\", expected \"%s\"", rig->err.text, says);
    }
}

/* ---- installing ---- */

static void installs_what_is_verified(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_store(rig);
    not_complete(rig, store, "_sqlx_migrations");
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    suite_ok(rig, pgqrs_store_verify(store, &rig->err));
    assert_int_equal(pg_rig_number(rig, "SELECT count(*) FROM _sqlx_migrations WHERE success"), 5);
    assert_int_equal(pg_rig_number(rig, "SELECT max(version) FROM pgqrsd_schema"), 2);
    assert_string_equal(pg_rig_text(rig, "SELECT string_agg(enumlabel, ' ' ORDER BY enumsortorder)"
                                         " FROM pg_enum WHERE enumtypid ="
                                         " 'pgqrs_workflow_status'::regtype"),
                        "QUEUED RUNNING SUCCESS ERROR PAUSED CANCELLING CANCELLED");
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    pgqrs_store_close(&store);
}

static void makes_the_schema(void **state)
{
    struct pg_rig *rig = *state;
    pg_rig_sql(rig, "DROP SCHEMA %s", rig->schema);
    struct pgqrs_store *store = open_store(rig);
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    assert_int_equal(pg_rig_number(rig,
                                   "SELECT count(*) FROM pg_class WHERE relname ="
                                   " 'pgqrs_messages' AND relnamespace = '%s'::regnamespace",
                                   rig->schema),
                     1);
    pgqrs_store_close(&store);
}

static void says_what_it_may_not(void **state)
{
    struct pg_rig *rig = *state;
    char dsn[300];
    struct pgqrs_store *store = NULL;
    const struct pgqrs_store_options options = {.schema = rig->schema};
    pg_rig_sql(rig, "DROP SCHEMA %s; CREATE ROLE meek LOGIN", rig->schema);
    (void)snprintf(dsn, sizeof dsn, "postgres://meek@/postgres?host=%s", pg_rig_dir());
    suite_ok(rig, pgqrs_store_open(dsn, &options, &store, &rig->err));
    suite_fails(rig, pgqrs_store_install(store, &rig->err), PGQRS_ERR_UNAVAILABLE);
    assert_non_null(strstr(rig->err.text, "permission denied"));
    pgqrs_store_close(&store);
    pg_rig_sql(rig, "DROP ROLE meek");
}

/* ---- adopting ---- */

static void adopts(struct pg_rig *rig, bool head)
{
    pgqrs_world_create(rig, head);
    pgqrs_world_fill(rig);
    struct pgqrs_store *store = open_store(rig);
    char before[100];
    (void)snprintf(before, sizeof before, "%s",
                   pg_rig_text(rig, "SELECT relfilenode FROM pg_class WHERE oid ="
                                    " 'pgqrs_messages'::regclass"));
    not_complete(rig, store, "pgqrsd_");
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    suite_ok(rig, pgqrs_store_verify(store, &rig->err));
    assert_string_equal(pg_rig_text(rig, "SELECT relfilenode FROM pg_class WHERE oid ="
                                         " 'pgqrs_messages'::regclass"),
                        before); /* it was not written anew */
    assert_int_equal(pg_rig_number(rig, "SELECT count(*) FROM pgqrs_messages WHERE"
                                        " pgqrsd_priority = 0 AND pgqrsd_crash_ct = 0"),
                     4);
    assert_string_equal(pg_rig_text(rig,
                                    "SELECT left(encode(checksum, 'hex'), 6) FROM _sqlx_migrations"
                                    " WHERE version = 6"),
                        head ? "da7689" : "6df491");
    pg_rig_sql(rig, "UPDATE pgqrs_workflow_runs SET status = 'CANCELLING'");
    pgqrs_store_close(&store);
}

static void adopts_the_release(void **state)
{
    adopts(*state, false);
}

static void adopts_the_head(void **state)
{
    adopts(*state, true);
}

/* Somebody who uses the table is not locked out for long, and does not stop us. */
static void adopts_beside_others(void **state)
{
    struct pg_rig *rig = *state;
    pgqrs_world_create(rig, false);
    pgqrs_world_fill(rig);
    PGconn *other = pg_rig_connect(rig);
    struct pgqrs_store *store = open_store(rig);
    PQclear(PQexec(other, "BEGIN; SELECT count(*) FROM pgqrs_messages"));
    assert_int_equal(PQsendQuery(other, "SELECT pg_sleep(1.5); COMMIT"), 1);
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    for (PGresult *r; (r = PQgetResult(other)) != NULL;) {
        PQclear(r);
    }
    PQfinish(other);
    pgqrs_store_close(&store);
}

static void goes_on_where_it_was_interrupted(void **state)
{
    struct pg_rig *rig = *state;
    pgqrs_world_create(rig, false);
    pgqrs_world_fill(rig);
    struct pgqrs_store *store = open_store(rig);
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    pg_rig_sql(rig, "DELETE FROM pgqrsd_schema; DROP INDEX pgqrsd_messages_failed;"
                    "UPDATE pg_index SET indisvalid = false WHERE indexrelid ="
                    " 'pgqrsd_messages_lease'::regclass");
    not_complete(rig, store, "pgqrsd_messages_lease, valid");
    int64_t broken = pg_rig_number(rig, "SELECT 'pgqrsd_messages_lease'::regclass::oid");
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    assert_true(pg_rig_number(rig, "SELECT 'pgqrsd_messages_lease'::regclass::oid") != broken);
    pgqrs_store_close(&store);
}

/* A clean-up of pgqrs' migrator in half: the first three migrations are there. */
static void completes_half_a_migration(void **state)
{
    struct pg_rig *rig = *state;
    pgqrs_world_create(rig, false);
    pg_rig_sql(rig, "DROP TABLE pgqrs_workflow_steps, pgqrs_workflow_runs, pgqrs_workflows,"
                    " pgqrs_messages; DROP TYPE pgqrs_workflow_status;"
                    "DELETE FROM _sqlx_migrations WHERE version > 3");
    struct pgqrs_store *store = open_store(rig);
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    pgqrs_store_close(&store);
}

/* ---- at once ---- */

struct installer {
    struct pg_rig *rig;
    struct pgqrs_store *store;
    struct pgqrs_error err;
    int rc;
};

static void *install(void *arg)
{
    struct installer *i = arg;
    i->rc = pgqrs_store_install(i->store, &i->err);
    return NULL;
}

static void install_at_once(struct pg_rig *rig)
{
    struct installer installers[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        installers[i] = (struct installer){.rig = rig, .store = open_store(rig)};
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, install, &installers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    for (int i = 0; i < 4; i++) {
        if (installers[i].rc < 0) {
            fail_msg("%s", installers[i].err.text);
        }
        pgqrs_store_close(&installers[i].store);
    }
}

static void four_at_once(void **state)
{
    struct pg_rig *rig = *state;
    pg_rig_sql(rig, "DROP SCHEMA %s", rig->schema);
    install_at_once(rig);
}

static void four_adopt_at_once(void **state)
{
    struct pg_rig *rig = *state;
    pgqrs_world_create(rig, false);
    pgqrs_world_fill(rig);
    install_at_once(rig);
}

/* The migrator of pgqrs' clients holds its lock; ours waits for it, and does not hold up an index.
 */
static void waits_for_the_migrator(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_store(rig);
    PGconn *other = pg_rig_connect(rig);
    /* CRC-32 of "postgres", times 0x3d32ad9e. */
    PQclear(PQexec(other, "SELECT pg_advisory_lock(359303029::bigint * 1026731422)"));
    struct installer i = {.rig = rig, .store = store};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, install, &i), 0);
    pg_rig_await(rig, 1,
                 "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE"
                 " 'SELECT pg_try_advisory_xact_lock%'");
    assert_int_equal(pg_rig_number(rig, "SELECT to_regclass('pgqrs_queues') IS NULL"), 1);
    PQfinish(other);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(i.rc, 0);
    pgqrs_store_close(&store);
}

/* ---- refusing ---- */

static void refuses(struct pg_rig *rig, struct pgqrs_store *store, const char *says)
{
    suite_fails(rig, pgqrs_store_install(store, &rig->err), PGQRS_ERR_SCHEMA);
    if (strstr(rig->err.text, says) == NULL) {
        fail_msg("found \"%s\", expected \"%s\"", rig->err.text, says);
    }
    not_complete(rig, store, says);
}

static void refuses_what_it_does_not_know(void **state)
{
    struct pg_rig *rig = *state;
    pgqrs_world_create(rig, false);
    struct pgqrs_store *store = open_store(rig);
    pg_rig_sql(rig, "INSERT INTO _sqlx_migrations VALUES (7, 'new', now(), true, 'x', 1)");
    refuses(rig, store, "version 7");
    pg_rig_sql(rig, "DELETE FROM _sqlx_migrations WHERE version = 7;"
                    "UPDATE _sqlx_migrations SET success = false WHERE version = 4");
    refuses(rig, store, "version 4, which failed");
    pg_rig_sql(rig, "UPDATE _sqlx_migrations SET success = true;"
                    "UPDATE _sqlx_migrations SET checksum = 'abc' WHERE version = 3");
    refuses(rig, store, "version 3: found the checksum");
    assert_int_equal(pg_rig_number(rig, "SELECT count(*) FROM pg_attribute WHERE attrelid ="
                                        " 'pgqrs_messages'::regclass AND attname LIKE 'pgqrsd%%'"),
                     0);
    pgqrs_store_close(&store);
}

static void refuses_a_newer_one(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_store(rig);
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    pg_rig_sql(rig, "INSERT INTO pgqrsd_schema VALUES (9)");
    refuses(rig, store, "version 9");
    pgqrs_store_close(&store);
}

/* What the first version of our schema did not have is added to its rows. */
static void completes_the_first_version(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_store(rig);
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    pg_rig_sql(rig,
               "DROP TRIGGER pgqrsd_message_archived ON pgqrs_messages;"
               "DROP TRIGGER pgqrsd_message_deleted ON pgqrs_messages;"
               "DROP FUNCTION pgqrsd_message_archived, pgqrsd_message_deleted, pgqrsd_send_event;"
               "DROP TABLE pgqrsd_workflow_events, pgqrsd_workflow_state;"
               "ALTER TABLE pgqrs_messages DROP pgqrsd_flow, DROP pgqrsd_parent_id;"
               "ALTER TABLE pgqrs_workflow_runs DROP pgqrsd_event;"
               "ALTER TABLE pgqrs_workflow_steps DROP pgqrsd_kind;"
               "UPDATE pgqrsd_schema SET version = 1");
    pg_rig_sql(rig, "INSERT INTO pgqrs_queues (queue_name) VALUES ('flow');"
                    "INSERT INTO pgqrs_workflows (name, queue_id) VALUES ('flow', 1);"
                    "INSERT INTO pgqrs_messages (queue_id, payload) VALUES (1, '{}');"
                    "INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status)"
                    " VALUES (1, 1, 'PAUSED');"
                    "INSERT INTO pgqrs_workflow_steps (run_id, step_name, status)"
                    " VALUES (1, 'a', 'SUCCESS')");
    not_complete(rig, store, "pgqrsd_flow");
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    struct pgqrs_step_list steps;
    suite_ok(rig, pgqrs_store_run_steps(store, 1, &steps, &rig->err));
    assert_int_equal(steps.count, 1);
    assert_int_equal(steps.items[0].kind, PGQRS_STEP_PLAIN);
    pgqrs_step_list_fini(&steps);
    enum pgqrs_run_status status;
    suite_ok(rig, pgqrs_store_run_cancel(store, 1, &status, &rig->err));
    assert_int_equal(status, PGQRS_RUN_CANCELLING);
    assert_int_equal(pg_rig_number(rig, "SELECT max(version) FROM pgqrsd_schema"), 2);
    pgqrs_store_close(&store);
}

/* ---- verifying ---- */

static void names_what_is_missing(void **state)
{
    struct pg_rig *rig = *state;
    static const struct {
        const char *damage, *says;
        bool repaired; /* installing again makes it good */
    } cases[] = {
        {"DROP TABLE pgqrs_workflow_steps", "table pgqrs_workflow_steps", false},
        {"ALTER TABLE pgqrs_workers DROP COLUMN pgqrsd_pid", "pgqrs_workers.pgqrsd_pid", true},
        {"ALTER TABLE pgqrs_messages ALTER read_ct TYPE bigint", "of type integer", false},
        {"ALTER TABLE pgqrs_messages DROP CONSTRAINT fk_messages_queue_id",
         "foreign key pgqrs_messages.queue_id", false},
        {"ALTER TABLE pgqrs_messages DROP CONSTRAINT fk_messages_queue_id, ADD FOREIGN KEY"
         " (queue_id) REFERENCES pgqrs_queues NOT VALID",
         "pgqrs_messages.queue_id, validated", false},
        {"ALTER TABLE pgqrs_queues DROP CONSTRAINT pgqrs_queues_queue_name_key",
         "unique index on pgqrs_queues (queue_name)", false},
        {"DROP INDEX pgqrsd_messages_unique", "index pgqrsd_messages_unique", true},
        {"DROP INDEX idx_pgqrs_messages_hot_path", "index idx_pgqrs_messages_hot_path", false},
        {"DROP FUNCTION pgqrs_backlog(text)", "function pgqrs_backlog", true},
        {"DROP TRIGGER pgqrsd_wake ON pgqrs_messages", "trigger pgqrsd_wake", true},
        {"DROP TRIGGER pgqrsd_message_archived ON pgqrs_messages",
         "trigger pgqrsd_message_archived", true},
        {"DROP FUNCTION pgqrsd_send_event", "function pgqrsd_send_event", true},
        {"DROP TABLE pgqrsd_workflow_events", "table pgqrsd_workflow_events", true},
        {"ALTER TABLE pgqrs_workflow_steps DROP COLUMN pgqrsd_kind", "pgqrsd_kind", true},
        {"DROP INDEX pgqrsd_messages_parent", "index pgqrsd_messages_parent", true},
        {"DELETE FROM _sqlx_migrations WHERE version = 2", "row for version 2", true},
        {"DELETE FROM pgqrsd_schema", "schema version 0", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pgqrs_store *store = open_store(rig);
        suite_ok(rig, pgqrs_store_install(store, &rig->err));
        pg_rig_sql(rig, "%s", cases[i].damage);
        not_complete(rig, store, cases[i].says);
        if (cases[i].repaired) {
            suite_ok(rig, pgqrs_store_install(store, &rig->err));
        }
        pgqrs_store_close(&store);
        pg_rig_sql(rig, "DROP SCHEMA %s CASCADE; CREATE SCHEMA %s", rig->schema, rig->schema);
    }
}

/* ---- functions ---- */

static void sql_fails(struct pg_rig *rig, const char *sql, const char *says)
{
    PGresult *result = PQexec(pg_rig_raw(rig), sql);
    if (strstr(PQresultErrorMessage(result), says) == NULL) {
        fail_msg("%s: found \"%s\"", sql, PQresultErrorMessage(result));
    }
    PQclear(result);
}

static void functions_do_what_they_say(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = open_store(rig);
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    pg_rig_set_clock(rig, SUITE_START_US);
    pg_rig_sql(rig, "INSERT INTO pgqrs_queues (queue_name) VALUES ('q')");
    sql_fails(rig, "SELECT pgqrs_enqueue('none', '{}')", "queue \"none\" does not exist");
    sql_fails(rig, "SELECT pgqrs_enqueue('q', NULL)", "must not be null");
    sql_fails(rig, "SELECT pgqrs_enqueue('q', '{}', delay => '-1 s')", "delay of 0 or more");
    sql_fails(rig, "SELECT pgqrs_enqueue('q', '{}', unique_key => '')", "1 to 255");
    sql_fails(rig, "SELECT pgqrs_enqueue('q', '{}', delay => '1 s', at => now())", "or a time");
    sql_fails(rig, "SELECT pgqrs_backlog('none')", "does not exist");
    int64_t first =
        pg_rig_number(rig, "SELECT pgqrs_enqueue('q', '{\"a\": 1}', unique_key => 'k')");
    assert_true(first > 0);
    assert_int_equal(pg_rig_number(rig, "SELECT pgqrs_enqueue('q', '{}', unique_key => 'k')"),
                     first);
    (void)pg_rig_number(rig, "SELECT pgqrs_enqueue('q', '1', '90 s', 7)");
    (void)pg_rig_number(rig, "SELECT pgqrs_enqueue('q', '1', at => '2026-01-02 00:00:00+00')");
    assert_string_equal(
        pg_rig_text(rig, "SELECT string_agg(pgqrsd_priority || ' ' || vt || ' ' || read_ct || ' '"
                         " || (enqueued_at = pgqrsd_now()), ', ' ORDER BY id) FROM pgqrs_messages"),
        "0 2026-01-01 00:00:00+00 0 true, 7 2026-01-01 00:01:30+00 0 true,"
        " 0 2026-01-02 00:00:00+00 0 true");
    assert_int_equal(pg_rig_number(rig, "SELECT pgqrs_backlog('q')"), 1);
    char ids[100];
    (void)snprintf(ids, sizeof ids, "%s",
                   pg_rig_text(rig, "SELECT string_agg(b::text, ' ') FROM"
                                    " pgqrs_enqueue_batch('q', '{13,11,12}'::jsonb[]) b"));
    assert_string_equal(
        pg_rig_text(rig, "SELECT string_agg(id::text, ' ' ORDER BY array_position('{13,11,12}',"
                         " payload::text::int)) FROM pgqrs_messages WHERE payload::text LIKE '1_'"),
        ids);
    assert_int_equal(pg_rig_number(rig, "SELECT pgqrs_backlog('q')"), 4);
    assert_int_equal(pg_rig_number(rig, "SELECT pgqrs_cancel(%lld)", (long long)first), 1);
    assert_int_equal(pg_rig_number(rig, "SELECT pgqrs_cancel(%lld)", (long long)first), 0);
    assert_int_equal(pg_rig_number(rig, "SELECT pgqrs_backlog('q')"), 3);
    /* The key is free again, and whoever calls needs no search_path. */
    assert_true(pg_rig_number(rig,
                              "SET search_path TO pg_catalog;"
                              "SELECT %s.pgqrs_enqueue('q', '{}', unique_key => 'k')",
                              rig->schema) > first);
    pg_rig_sql(rig, "SET search_path TO %s", rig->schema);
    suite_ok(rig, pgqrs_store_verify(store, &rig->err));
    pgqrs_store_close(&store);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        PG_RIG_CASE(installs_what_is_verified),
        PG_RIG_CASE(makes_the_schema),
        PG_RIG_CASE(says_what_it_may_not),
        PG_RIG_CASE(adopts_the_release),
        PG_RIG_CASE(adopts_the_head),
        PG_RIG_CASE(adopts_beside_others),
        PG_RIG_CASE(goes_on_where_it_was_interrupted),
        PG_RIG_CASE(completes_half_a_migration),
        PG_RIG_CASE(four_at_once),
        PG_RIG_CASE(four_adopt_at_once),
        PG_RIG_CASE(waits_for_the_migrator),
        PG_RIG_CASE(refuses_what_it_does_not_know),
        PG_RIG_CASE(refuses_a_newer_one),
        PG_RIG_CASE(completes_the_first_version),
        PG_RIG_CASE(names_what_is_missing),
        PG_RIG_CASE(functions_do_what_they_say),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
