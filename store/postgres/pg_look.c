/* SPDX-License-Identifier: Apache-2.0 */
#include "store/server_look.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/postgres/pg_conn.h"

#define CLIENTS                                                                                    \
    "(SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE pid <> pg_backend_pid() AND datid "   \
    "IS NOT NULL"                                                                                  \
    " AND coalesce(backend_type, 'client backend') = 'client backend'"

enum column {
    COLUMN_PID = 0,
    COLUMN_SERVED,
    COLUMN_MAY_CREATE,
    COLUMN_READ_ONLY,
    COLUMN_DENIED,
    COLUMN_SERVER_MAX, /* without what is kept for others */
    COLUMN_SERVER_USED,
    COLUMN_ROLE_MAX, /* negative: none */
    COLUMN_ROLE_USED,
    COLUMN_DATABASE_MAX,
    COLUMN_DATABASE_USED,
    COLUMN_USER,
    COLUMN_DATABASE,
    COLUMN_HOST, /* null: a Unix socket */
    COLUMN_SOCKETS,
    COLUMN_PORT,
};

static const char look_sql[] =
    "SELECT pg_backend_pid(), EXISTS (SELECT 1 FROM pg_catalog.pg_locks WHERE locktype = "
    "'advisory' AND"
    " granted AND database = d.oid AND classid::bigint = " PG_CLAIM_CLASS
    " AND objid::bigint = hashtext($1 || '/' || $2)::bigint & 4294967295),"
    " CASE WHEN to_regnamespace(quote_ident($1)) IS NULL"
    " THEN has_database_privilege(d.oid, 'CREATE')"
    " ELSE has_schema_privilege(to_regnamespace(quote_ident($1)), 'CREATE') END,"
    " current_setting('transaction_read_only')::bool,"
    " (SELECT c.relname FROM pg_catalog.pg_class c WHERE c.relkind = 'r'"
    " AND c.relnamespace = to_regnamespace(quote_ident($1)) AND c.relname LIKE 'pgqrs%'"
    " AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')"
    " AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))"
    " ORDER BY c.relname LIMIT 1),"
    " current_setting('max_connections')::int - CASE WHEN r.rolsuper THEN 0 ELSE"
    " current_setting('superuser_reserved_connections')::int"
    " + coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0) END,"
    " " CLIENTS "), CASE WHEN r.rolsuper THEN -1 ELSE r.rolconnlimit END,"
    " " CLIENTS " AND usename = r.rolname), CASE WHEN r.rolsuper THEN -1 ELSE d.datconnlimit END,"
    " " CLIENTS " AND datid = d.oid), r.rolname, d.datname, host(inet_server_addr()),"
    " (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'unix_socket_directories'),"
    " current_setting('port')"
    " FROM pg_catalog.pg_roles r, pg_catalog.pg_database d WHERE r.rolname = session_user"
    " AND d.datname = current_database()";

static int64_t number(const PGresult *rows, enum column column)
{
    return strtoll(PQgetvalue(rows, 0, column), NULL, 10);
}

static bool is_true(const PGresult *rows, enum column column)
{
    return strcmp(PQgetvalue(rows, 0, column), "t") == 0;
}

/* The tightest of the bounds. */
static void read_room(const PGresult *rows, struct pgqrs_server_look *out)
{
    static const struct {
        enum column max, used;
        const char *name;
    } bounds[] = {
        {COLUMN_SERVER_MAX, COLUMN_SERVER_USED,
         "max_connections without those that are kept for superusers"},
        {COLUMN_ROLE_MAX, COLUMN_ROLE_USED, "the connection limit of the role"},
        {COLUMN_DATABASE_MAX, COLUMN_DATABASE_USED, "the connection limit of the database"},
    };
    out->room = INT64_MAX;
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        int64_t max = number(rows, bounds[i].max);
        int64_t used = number(rows, bounds[i].used);
        if (max >= 0 && max - used < out->room) {
            out->room = max > used ? max - used : 0;
            (void)snprintf(out->room_of, sizeof out->room_of, "%s, %" PRId64 ", %" PRId64 " in use",
                           bounds[i].name, max, used);
        }
    }
}

/* As a part of a URI takes it. */
static void put_escaped(char *out, size_t size, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    size_t at = 0;
    for (; *text != 0 && at + 4 < size; text++) {
        at += (size_t)snprintf(out + at, size - at, strchr(plain, *text) != NULL ? "%c" : "%%%02X",
                               (unsigned char)*text);
    }
    out[at] = 0;
}

static void read_direct_dsn(const PGresult *rows, struct pgqrs_server_look *out)
{
    char user[128];
    char database[128];
    char sockets[128];
    const char *host = PQgetvalue(rows, 0, COLUMN_HOST);
    char *listed = PQgetvalue(rows, 0, COLUMN_SOCKETS);
    size_t first = strcspn(listed, ",");
    put_escaped(user, sizeof user, PQgetvalue(rows, 0, COLUMN_USER));
    put_escaped(database, sizeof database, PQgetvalue(rows, 0, COLUMN_DATABASE));
    (void)snprintf(sockets, sizeof sockets, "%.*s", (int)first, listed);
    if (*host != 0) {
        bool v6 = strchr(host, ':') != NULL;
        (void)snprintf(out->direct_dsn, sizeof out->direct_dsn, "postgres://%s@%s%s%s:%s/%s", user,
                       v6 ? "[" : "", host, v6 ? "]" : "", PQgetvalue(rows, 0, COLUMN_PORT),
                       database);
    } else if (*sockets != 0) {
        (void)snprintf(out->direct_dsn, sizeof out->direct_dsn,
                       "postgres:///%s?host=%s&port=%s&user=%s", database, sockets,
                       PQgetvalue(rows, 0, COLUMN_PORT), user);
    }
}

static int ask(PGconn *conn, const char *schema, const char *site, struct pgqrs_server_look *out,
               struct pgqrs_error *err)
{
    const char *const values[] = {schema, site};
    PGresult *rows = PQexecParams(conn, look_sql, 2, NULL, values, NULL, NULL, 0);
    if (PQresultStatus(rows) != PGRES_TUPLES_OK || PQntuples(rows) != 1) {
        int rc = pgqrs_pg_fail(rows, false, err);
        PQclear(rows);
        return rc;
    }
    *out = (struct pgqrs_server_look){
        .pooled = number(rows, COLUMN_PID) != PQbackendPID(conn),
        .served = is_true(rows, COLUMN_SERVED),
        .may_create = is_true(rows, COLUMN_MAY_CREATE),
        .read_only = is_true(rows, COLUMN_READ_ONLY),
    };
    (void)snprintf(out->denied, sizeof out->denied, "%s", PQgetvalue(rows, 0, COLUMN_DENIED));
    read_room(rows, out);
    read_direct_dsn(rows, out);
    PQclear(rows);
    return 0;
}

int pgqrs_server_look(const char *dsn, const char *schema, const char *site,
                      struct pgqrs_server_look *out, struct pgqrs_error *err)
{
    struct pg_dsn parsed = {0};
    if (pgqrs_pg_dsn_parse(&parsed, dsn, err) < 0) {
        return -1;
    }
    PGconn *conn = pgqrs_pg_connect_wait(&parsed, pgqrs_mono_ms() + parsed.connect_ms, err);
    int rc = conn == NULL ? -1 : ask(conn, schema, site, out, err);
    PQfinish(conn);
    pgqrs_pg_dsn_fini(&parsed);
    return rc;
}
