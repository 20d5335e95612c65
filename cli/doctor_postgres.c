/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of a PostgreSQL server, on a connection of our own: the store has no words for them. */
#include "cli/doctor.h"

#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "cli/runs.h"

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

int pgqrs_check_snapshots(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    int rc = 0;
    if (strcmp(pgqrs_store_backend(d->cli->store), "postgres") != 0) {
        return 0;
    }
    PGconn *conn = connect_to(d->dsn);
    PGresult *rows = PQexec(conn, old_snapshots);
    if (PQresultStatus(rows) != PGRES_TUPLES_OK) {
        rc = pgqrs_error_set(err, PGQRS_ERR_FAILED, "%.400s", PQerrorMessage(conn));
    }
    for (int i = 0; rc == 0 && i < PQntuples(rows); i++) {
        tell_snapshot(d, rows, i);
    }
    PQclear(rows);
    PQfinish(conn);
    return rc;
}
