/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of a PostgreSQL server, on a connection of our own: the store has no words for them. */
#include "cli/doctor.h"

#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "cli/runs.h"
#include "config/config.h"
#include "store/server_look.h"

/* A snapshot of somebody keeps vacuum from removing what has died since. */
static const char old_snapshots[] =
    "SELECT pid, coalesce(usename, '?'), coalesce(application_name, ''), coalesce(state, '?'),"
    " extract(epoch FROM now() - xact_start)::bigint"
    " FROM pg_stat_activity WHERE datname = current_database()"
    " AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)"
    " AND xact_start < now() - interval '10 minutes' ORDER BY xact_start LIMIT 10";

static PGconn *connect_to(const char *dsn)
{
    static const char *const keys[] = {"connect_timeout", "application_name", "dbname", NULL};
    const char *const values[] = {"10", "pgqrs doctor", dsn, NULL};
    return PQconnectdbParams(keys, values, 1);
}

static void tell_snapshot(struct pgqrs_doctor *d, const PGresult *rows, int row)
{
    char took[PGQRS_TOOK_SIZE];
    int64_t age_s = strtoll(PQgetvalue(rows, row, 4), NULL, 10);
    pgqrs_doctor_found(d, PGQRS_SEVERITY_WARNING,
                       "session %s of user \"%s\" (%s, %s) has been in one transaction for %s, "
                       "which keeps vacuum from removing dead rows",
                       PQgetvalue(rows, row, 0), PQgetvalue(rows, row, 1), PQgetvalue(rows, row, 2),
                       PQgetvalue(rows, row, 3), pgqrs_took(age_s * 1000000, took));
    pgqrs_doctor_mend(d, "psql \"$PGQRS_DSN\" -c 'select pg_terminate_backend(%s)'",
                      PQgetvalue(rows, row, 0));
}

/* Null: *err is filled. */
static PGresult *ask(PGconn *conn, const char *sql, struct pgqrs_error *err)
{
    PGresult *rows = PQexec(conn, sql);
    if (PQresultStatus(rows) == PGRES_TUPLES_OK) {
        return rows;
    }
    (void)pgqrs_error_set(err, PGQRS_ERR_FAILED, "%.400s", PQerrorMessage(conn));
    PQclear(rows);
    return NULL;
}

static bool is_postgres(const struct pgqrs_doctor *d)
{
    return strcmp(pgqrs_store_backend(d->cli->store), "postgres") == 0;
}

int pgqrs_check_snapshots(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    if (!is_postgres(d)) {
        return 0;
    }
    PGconn *conn = connect_to(d->dsn);
    PGresult *rows = ask(conn, old_snapshots, err);
    for (int i = 0; rows != NULL && i < PQntuples(rows); i++) {
        tell_snapshot(d, rows, i);
    }
    int rc = rows == NULL ? -1 : 0;
    PQclear(rows);
    PQfinish(conn);
    return rc;
}

/* ---- a pooler ---- */

/* What a broker with this configuration would listen through. */
static int find_wake_dsn(struct pgqrs_doctor *d, char **dsn_out, struct pgqrs_error *err)
{
    if (pgqrs_config_find_wake_dsn(pgqrs_cli_store_config(d->cli), dsn_out, err) < 0) {
        return -1;
    }
    if (*dsn_out == NULL) {
        *dsn_out = strdup(d->dsn);
    }
    return *dsn_out == NULL ? pgqrs_error_memory(err) : 0;
}

int pgqrs_check_pooler(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    struct pgqrs_server_look look;
    char word[PGQRS_SHELL_WORD_SIZE];
    char *dsn = NULL;
    if (!is_postgres(d)) {
        return 0;
    }
    if (find_wake_dsn(d, &dsn, err) < 0 || pgqrs_server_look(dsn, "public", "", &look, err) < 0) {
        free(dsn);
        return -1;
    }
    free(dsn);
    if (look.pooled) {
        pgqrs_doctor_found(d, PGQRS_SEVERITY_WARNING,
                           "a pooler is before PostgreSQL: a pgqrsd can not hear through it that "
                           "there are new messages (LISTEN), and finds them when it polls");
        pgqrs_doctor_mend(d, "PGQRS_WAKE_DSN=%s pgqrsd -c FILE",
                          look.direct_dsn[0] == 0 ? "DSN"
                                                  : pgqrs_shell_word(look.direct_dsn, word));
    }
    return 0;
}

/* ---- the server's disk ---- */

/* Empty for a user who may not see it. */
static const char data_directory[] =
    "SELECT setting FROM pg_settings WHERE name = 'data_directory'";

/* Only of a server on this machine: another one's can not be seen. */
int pgqrs_check_server_disk(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    int rc = 0;
    if (!is_postgres(d)) {
        return 0;
    }
    PGconn *conn = connect_to(d->dsn);
    const char *host = PQhost(conn);
    if (host != NULL && *host == '/') {
        PGresult *rows = ask(conn, data_directory, err);
        if (rows != NULL && PQntuples(rows) > 0) {
            pgqrs_doctor_tell_disk(d, PQgetvalue(rows, 0, 0));
        }
        rc = rows == NULL ? -1 : 0;
        PQclear(rows);
    }
    PQfinish(conn);
    return rc;
}
