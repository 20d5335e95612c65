/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*
 * Installing. What is quick happens in one transaction that also keeps pgqrs' own migrator out.
 * Indexes on a table with rows in it are built afterwards, while everybody goes on, and our version
 * is written last: until it is there, installing goes on where it stopped.
 */

#define INSTALL_MS 60000  /* how long to wait for others */
#define INDEX_MS 86400000 /* how long one index may take */
#define NAP_MS 100
#define LOCK_TIMEOUT "1s" /* everybody waits behind who waits for a table's lock */

static const struct pg_stmt try_install_stmt = {
    .sql = "SELECT pg_try_advisory_lock(" PG_INSTALL_CLASS ", hashtext($1))",
    .param_count = 1,
    .types = {PG_TEXT}};
static const struct pg_stmt end_install_stmt = {.sql = "SELECT pg_advisory_unlock(" PG_INSTALL_CLASS
                                                       ", hashtext($1))",
                                                .param_count = 1,
                                                .types = {PG_TEXT}};
static const struct pg_stmt try_migrate_stmt = {
    .sql = "SELECT pg_try_advisory_xact_lock($1)", .param_count = 1, .types = {PG_INT8}};
static const struct pg_stmt database_stmt = {.sql = "SELECT current_database()::text"};
static const struct pg_stmt lock_timeout_stmt = {
    .sql = "SELECT set_config('lock_timeout', '" LOCK_TIMEOUT "', true)"};
static const struct pg_stmt has_schema_stmt = {
    .sql = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)",
    .param_count = 1,
    .types = {PG_TEXT}};
static const struct pg_stmt state_stmt = {
    .sql = "SELECT to_regclass('pgqrs_messages') IS NOT NULL,"
           " (SELECT count(*) FROM pg_attribute WHERE attname LIKE 'pgqrsd\\_%' AND attnum > 0"
           " AND NOT attisdropped AND attrelid IN (to_regclass('pgqrs_messages'),"
           " to_regclass('pgqrs_queues'), to_regclass('pgqrs_workers'),"
           " to_regclass('pgqrs_workflow_runs'), to_regclass('pgqrs_workflow_steps'))) = 15,"
           " (SELECT count(*) FROM pg_enum WHERE enumtypid = to_regtype('pgqrs_workflow_status')"
           " AND enumlabel IN ('CANCELLING', 'CANCELLED')) = 2"};
static const struct pg_stmt trigger_stmt = {
    .sql =
        "SELECT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid IN (to_regclass('pgqrs_messages'),"
        " to_regclass('pgqrs_workflow_runs')) AND tgname = $1)",
    .param_count = 1,
    .types = {PG_TEXT}};
static const struct pg_stmt migration_stmt = {
    .sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)"
           " VALUES ($1, $2, true, decode($3, 'hex'), 0)",
    .param_count = 3,
    .types = {PG_INT8, PG_TEXT, PG_TEXT}};
static const struct pg_stmt add_version_stmt = {
    .sql = "INSERT INTO pgqrsd_schema (version) VALUES ($1) ON CONFLICT DO NOTHING",
    .param_count = 1,
    .types = {PG_INT4}};
static const struct pg_stmt index_stmt = {
    .sql = "SELECT indisvalid AND indisready FROM pg_index WHERE indexrelid = to_regclass($1)",
    .param_count = 1,
    .types = {PG_TEXT}};

static void nap(void)
{
    const struct timespec pause = {.tv_nsec = NAP_MS * 1000000L};
    (void)nanosleep(&pause, NULL); /* a signal only makes it shorter */
}

/* ---- small questions ---- */

static PGresult *ask(struct pg_store *s, const struct pg_stmt *stmt, const char *text,
                     struct pgqrs_error *err)
{
    struct pg_args args = {0};
    if (text != NULL) {
        pgqrs_pg_arg_text(&args, text);
    }
    PGresult *result = pgqrs_pg_run(s, stmt, &args, true, err);
    pgqrs_pg_args_fini(&args);
    return result;
}

/* 1 or 0: what the first column says; -1. */
static int ask_bool(struct pg_store *s, const struct pg_stmt *stmt, const char *text,
                    struct pgqrs_error *err)
{
    PGresult *result = ask(s, stmt, text, err);
    if (result == NULL) {
        return -1;
    }
    int yes = PQntuples(result) > 0 && pgqrs_pg_bool(result, 0, 0) ? 1 : 0;
    PQclear(result);
    return yes;
}

/* ---- locks ---- */

static uint32_t crc32_of(const char *text)
{
    uint32_t crc = UINT32_MAX;
    for (; *text != 0; text++) {
        crc ^= (unsigned char)*text;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? UINT32_C(0xedb88320) : 0);
        }
    }
    return ~crc;
}

/* The lock that the migrator of pgqrs' clients takes, which is one for each database. */
static int migrator_key(struct pg_store *s, int64_t *key_out, struct pgqrs_error *err)
{
    PGresult *result = ask(s, &database_stmt, NULL, err);
    if (result == NULL) {
        return -1;
    }
    *key_out = INT64_C(0x3d32ad9e) * (int64_t)crc32_of(pgqrs_pg_bytes(result, 0, 0).data);
    PQclear(result);
    return 0;
}

/* Waits without a statement that waits: such a one would hold up the building of an index. */
static int await_migrator(struct pg_store *s, int64_t give_up_ms, struct pgqrs_error *err)
{
    int64_t key = 0;
    struct pg_args args = {0};
    if (migrator_key(s, &key, err) < 0) {
        return -1;
    }
    pgqrs_pg_arg_int8(&args, key);
    bool mine = false;
    int rc = 0;
    while (rc == 0 && !mine) {
        PGresult *result = pgqrs_pg_run(s, &try_migrate_stmt, &args, true, err);
        mine = result != NULL && pgqrs_pg_bool(result, 0, 0);
        rc = result == NULL ? -1 : 0;
        PQclear(result);
        if (rc == 0 && !mine && pgqrs_mono_ms() > give_up_ms) {
            rc = pgqrs_error_set(err, PGQRS_ERR_AGAIN,
                                 "PostgreSQL: another program is migrating the database");
        } else if (rc == 0 && !mine) {
            nap();
        }
    }
    pgqrs_pg_args_fini(&args);
    return rc;
}

static int await_install(struct pg_store *s, int64_t give_up_ms, struct pgqrs_error *err)
{
    int mine;
    while ((mine = ask_bool(s, &try_install_stmt, s->schema, err)) == 0) {
        if (pgqrs_mono_ms() > give_up_ms) {
            return pgqrs_error_set(err, PGQRS_ERR_AGAIN,
                                   "PostgreSQL: another program is installing schema \"%s\"",
                                   s->schema);
        }
        nap();
    }
    return mine < 0 ? -1 : 0;
}

/* ---- in the transaction ---- */

static int create_schema(struct pg_store *s, struct pgqrs_error *err)
{
    char sql[128];
    int has = ask_bool(s, &has_schema_stmt, s->schema, err);
    if (has != 0) {
        return has < 0 ? -1 : 0;
    }
    (void)snprintf(sql, sizeof sql, "CREATE SCHEMA %s", s->search_path); /* 63 bytes at most */
    return pgqrs_pg_script(s, sql, err);
}

static int migrate(struct pg_store *s, unsigned have, struct pgqrs_error *err)
{
    for (size_t i = 0; i < pgqrs_pg_migration_count; i++) {
        const struct pg_migration *m = &pgqrs_pg_migrations[i];
        if ((have & 1U << i) != 0) {
            continue;
        }
        struct pg_args args = {0};
        pgqrs_pg_arg_int8(&args, m->version);
        pgqrs_pg_arg_text(&args, m->description);
        pgqrs_pg_arg_text(&args, m->checksums[0]);
        int64_t rc = pgqrs_pg_script(s, m->ddl, err);
        rc = rc < 0 ? -1 : pgqrs_pg_exec(s, &migration_stmt, &args, err);
        pgqrs_pg_args_fini(&args);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

struct state {
    bool messages, columns, labels;
};

static int look(struct pg_store *s, struct state *state_out, struct pgqrs_error *err)
{
    PGresult *result = ask(s, &state_stmt, NULL, err);
    if (result == NULL) {
        return -1;
    }
    *state_out = (struct state){.messages = pgqrs_pg_bool(result, 0, 0),
                                .columns = pgqrs_pg_bool(result, 0, 1),
                                .labels = pgqrs_pg_bool(result, 0, 2)};
    PQclear(result);
    return 0;
}

static int add_triggers(struct pg_store *s, struct pgqrs_error *err)
{
    for (size_t i = 0; i < pgqrs_pg_trigger_count; i++) {
        const struct pg_trigger *t = &pgqrs_pg_triggers[i];
        char sql[512];
        int has = ask_bool(s, &trigger_stmt, t->name, err);
        (void)snprintf(sql, sizeof sql, "CREATE TRIGGER %s %s EXECUTE FUNCTION %s()", t->name,
                       t->when, t->name);
        if (has < 0 || (has == 0 && pgqrs_pg_script(s, sql, err) < 0)) {
            return -1;
        }
    }
    return 0;
}

/* Takes a table's lock only for what is missing. */
static int add_ours(struct pg_store *s, int64_t version, struct pgqrs_error *err)
{
    struct state has;
    if (look(s, &has, err) < 0 || pgqrs_pg_script(s, pgqrs_pg_ddl_tables, err) < 0 ||
        (!has.labels && pgqrs_pg_script(s, pgqrs_pg_ddl_labels, err) < 0) ||
        (!has.columns && pgqrs_pg_script(s, pgqrs_pg_ddl_columns, err) < 0) ||
        pgqrs_pg_script(s, pgqrs_pg_ddl_functions, err) < 0 ||
        pgqrs_pg_script(s, pgqrs_pg_ddl_flow_functions, err) < 0 || add_triggers(s, err) < 0) {
        return -1;
    }
    return version > 0 ? 0 : pgqrs_pg_script(s, pgqrs_pg_ddl_settings, err);
}

static int add_version(struct pg_store *s, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int4(&args, PG_SCHEMA_VERSION);
    int64_t rc = pgqrs_pg_exec(s, &add_version_stmt, &args, err);
    pgqrs_pg_args_fini(&args);
    return rc < 0 ? -1 : 0;
}

static int create_index(struct pg_store *s, const struct pg_index *index, bool online,
                        struct pgqrs_error *err)
{
    char sql[512];
    (void)snprintf(sql, sizeof sql, "CREATE %sINDEX %s%s ON %s.%s %s", index->unique,
                   online ? "CONCURRENTLY " : "", index->name, s->search_path, index->table,
                   index->what);
    return pgqrs_pg_script(s, sql, err);
}

static int create_indexes(struct pg_store *s, struct pgqrs_error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < pgqrs_pg_index_count; i++) {
        rc = create_index(s, &pgqrs_pg_indexes[i], false, err);
    }
    return rc;
}

/* Everything that is quick. *new_out: the table of messages is, too, and nothing is left to do. */
static int complete(struct pg_store *s, bool *new_out, struct pgqrs_error *err)
{
    struct state before;
    unsigned have = 0;
    PGresult *set = pgqrs_pg_run(s, &lock_timeout_stmt, NULL, true, err);
    PQclear(set);
    if (set == NULL || create_schema(s, err) < 0 || look(s, &before, err) < 0) {
        return -1;
    }
    int64_t version = pgqrs_pg_check_version(s, err);
    if (version < 0 || pgqrs_pg_check_ledger(s, false, &have, err) < 0 ||
        pgqrs_pg_script(s, pgqrs_pg_ddl_ledger, err) < 0 || migrate(s, have, err) < 0 ||
        add_ours(s, version, err) < 0) {
        return -1;
    }
    *new_out = !before.messages;
    return before.messages ? 0 : create_indexes(s, err) < 0 ? -1 : add_version(s, err);
}

static int complete_in_transaction(struct pg_store *s, int64_t give_up_ms, bool *new_out,
                                   struct pgqrs_error *err)
{
    if (pgqrs_pg_begin(s, err) < 0) {
        return -1;
    }
    s->deadline_ms = give_up_ms + s->call_ms;
    int rc = await_migrator(s, give_up_ms, err);
    if (rc == 0) {
        rc = complete(s, new_out, err);
    }
    return pgqrs_pg_end(s, rc, err) < 0 ? -1 : 0;
}

/* ---- online ---- */

/* Without the schema in search_path: behind a pooler it is not there outside a transaction. */
static int build_index(struct pg_store *s, const struct pg_index *index, struct pgqrs_error *err)
{
    char name[160];
    (void)snprintf(name, sizeof name, "%s.%s", s->search_path, index->name);
    PGresult *found = ask(s, &index_stmt, name, err);
    if (found == NULL) {
        return -1;
    }
    bool there = PQntuples(found) > 0;
    bool valid = there && pgqrs_pg_bool(found, 0, 0);
    PQclear(found);
    if (valid) {
        return 0;
    }
    if (there) { /* somebody was interrupted while building it */
        char sql[256];
        (void)snprintf(sql, sizeof sql, "DROP INDEX CONCURRENTLY IF EXISTS %s", name);
        if (pgqrs_pg_script(s, sql, err) < 0) {
            return -1;
        }
    }
    return create_index(s, index, true, err);
}

static int build_indexes(struct pg_store *s, struct pgqrs_error *err)
{
    int64_t call_ms = s->call_ms;
    int rc = s->pooled
                 ? 0
                 : pgqrs_pg_script(s, "SET statement_timeout TO 0; SET lock_timeout TO 0", err);
    s->call_ms = INDEX_MS;
    for (size_t i = 0; rc == 0 && i < pgqrs_pg_index_count; i++) {
        rc = build_index(s, &pgqrs_pg_indexes[i], err);
    }
    s->call_ms = call_ms;
    if (rc == 0 && !s->pooled) {
        rc = pgqrs_pg_script(s, "RESET statement_timeout; RESET lock_timeout", err);
    }
    return rc;
}

/* ---- all of it ---- */

static int install(struct pg_store *s, int64_t give_up_ms, struct pgqrs_error *err)
{
    bool new = false;
    struct pgqrs_error why = {0};
    while (complete_in_transaction(s, give_up_ms, &new, &why) < 0) {
        if ((why.code != PGQRS_ERR_AGAIN && why.code != PGQRS_ERR_UNKNOWN) ||
            pgqrs_mono_ms() > give_up_ms) {
            return pgqrs_error_set(err, why.code, "%s", why.text);
        }
        nap();
    }
    if (new) {
        return 0;
    }
    return build_indexes(s, err) < 0 ? -1 : add_version(s, err);
}

int pgqrs_pg_install(struct pgqrs_store *store, struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    struct pgqrs_error why = {0};
    int64_t give_up_ms = pgqrs_mono_ms() + INSTALL_MS;
    if (s->borrowed) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT,
                               "install: not on a connection that belongs to somebody else");
    }
    if (pgqrs_pg_verify(store, &why) == 0) {
        return 0;
    }
    if (why.code != PGQRS_ERR_SCHEMA) {
        return pgqrs_error_set(err, why.code, "%s", why.text);
    }
    if (!s->pooled && await_install(s, give_up_ms, err) < 0) {
        return -1;
    }
    int rc = install(s, give_up_ms, err);
    if (!s->pooled && s->conn != NULL) {
        PQclear(ask(s, &end_install_stmt, s->schema, NULL)); /* it ends with the connection, too */
    }
    return rc < 0 ? -1 : pgqrs_pg_verify(store, err);
}
