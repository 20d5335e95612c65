/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_conn.h"

#include <string.h>

/* What an SQLSTATE means for the caller. The first prefix that fits tells. */
static const struct {
    const char *prefix;
    enum pgqrs_err code;
} meanings[] = {
    {"40001", PGQRS_ERR_AGAIN},       /* serialization failure */
    {"40P01", PGQRS_ERR_AGAIN},       /* deadlock */
    {"55P03", PGQRS_ERR_AGAIN},       /* lock timeout */
    {"53", PGQRS_ERR_AGAIN},          /* disk full, too many connections, out of memory */
    {"57P04", PGQRS_ERR_UNAVAILABLE}, /* database dropped */
    {"57P", PGQRS_ERR_AGAIN},         /* shutdown, crash, starting up, idle too long */
    {"57014", PGQRS_ERR_AGAIN},       /* cancelled */
    {"25P03", PGQRS_ERR_AGAIN},       /* idle in a transaction for too long */
    {"08", PGQRS_ERR_AGAIN},          /* connection */
    {"23505", PGQRS_ERR_EXISTS},      /* unique */
    {"23503", PGQRS_ERR_CONFLICT},    /* foreign key */
    {"23514", PGQRS_ERR_CONFLICT},    /* check */
    {"25P02", PGQRS_ERR_CONFLICT},    /* the lender's transaction has failed already */
    {"42P01", PGQRS_ERR_SCHEMA},      /* no such table */
    {"42703", PGQRS_ERR_SCHEMA},      /* no such column */
    {"42883", PGQRS_ERR_SCHEMA},      /* no such function */
    {"42704", PGQRS_ERR_SCHEMA},      /* no such type */
    {"42501", PGQRS_ERR_UNAVAILABLE}, /* no permission */
    {"28", PGQRS_ERR_UNAVAILABLE},    /* who are you */
    {"3D000", PGQRS_ERR_UNAVAILABLE}, /* no such database */
    {"25006", PGQRS_ERR_UNAVAILABLE}, /* read-only */
    {"22", PGQRS_ERR_INVALID},        /* data */
};

enum pgqrs_err pgqrs_pg_code(const char *sqlstate)
{
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++) {
        if (strncmp(sqlstate, meanings[i].prefix, strlen(meanings[i].prefix)) == 0) {
            return meanings[i].code;
        }
    }
    return PGQRS_ERR_FAILED;
}

bool pgqrs_pg_is_state(const PGresult *result, const char *sqlstate)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    return state != NULL && strcmp(state, sqlstate) == 0;
}

bool pgqrs_pg_is_fatal(const PGresult *result)
{
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    return severity != NULL && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0);
}

int pgqrs_pg_fail(const PGresult *result, bool uncertain, struct pgqrs_error *err)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (state == NULL) { /* libpq's own words: the connection has ended */
        return pgqrs_error_set(err, uncertain ? PGQRS_ERR_UNKNOWN : PGQRS_ERR_AGAIN,
                               "PostgreSQL: the connection was lost");
    }
    enum pgqrs_err code = uncertain ? PGQRS_ERR_UNKNOWN : pgqrs_pg_code(state);
    const char *hint = code == PGQRS_ERR_SCHEMA ? "; is the schema installed?" : "";
    return pgqrs_error_set(err, code, "PostgreSQL: %s (SQLSTATE %s)%s",
                           text == NULL ? "no reason given" : text, state, hint);
}
