/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Statements of handlers run on the broker's connection, in its transaction: they may not end it,
 * nor touch the tables of the queue.
 */

static bool is_ours(const char *table)
{
    return table != NULL &&
           (strncasecmp(table, "pgqrs", 5) == 0 || strncasecmp(table, "sqlite_", 7) == 0);
}

static int refuse(struct sqlite_store *s, const char *what)
{
    (void)snprintf(s->guest_refused, sizeof s->guest_refused, "%s", what);
    return SQLITE_DENY;
}

/* a and b are what the action is about; where a table is named it is one of them. */
static int on_authorize(void *arg, int action, const char *a, const char *b, const char *db,
                        const char *trigger)
{
    struct sqlite_store *s = arg;
    (void)db;
    (void)trigger;
    if (!s->guest) {
        return SQLITE_OK;
    }
    switch (action) {
    case SQLITE_TRANSACTION:
    case SQLITE_SAVEPOINT:
        return refuse(s, "a statement about transactions");
    case SQLITE_ATTACH:
    case SQLITE_DETACH:
    case SQLITE_PRAGMA:
        return refuse(s, action == SQLITE_PRAGMA ? "PRAGMA" : "ATTACH or DETACH");
    case SQLITE_READ:
    case SQLITE_UPDATE: /* b is a column */
        return is_ours(a) ? refuse(s, a) : SQLITE_OK;
    case SQLITE_FUNCTION:
        return SQLITE_OK;
    default:
        return is_ours(a) ? refuse(s, a) : is_ours(b) ? refuse(s, b) : SQLITE_OK;
    }
}

void pgqrs_sqlite_guest_attach(struct sqlite_store *s)
{
    (void)sqlite3_set_authorizer(s->db, on_authorize, s); /* can not fail on an open connection */
}

/* The store's own trouble, which is no fault of the statement. */
static bool is_the_stores(int code)
{
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_NOMEM:
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
    case SQLITE_CANTOPEN:
        return true;
    default:
        return false;
    }
}

static int failed(struct sqlite_store *s, int rc, struct flow_trouble *trouble,
                  struct pgqrs_error *err)
{
    if (is_the_stores(rc)) {
        return pgqrs_sqlite_fail(s, err);
    }
    if ((rc & 0xff) == SQLITE_AUTH) {
        (void)snprintf(trouble->text, sizeof trouble->text,
                       "statement: found %s, expected one on tables that are not pgqrs'",
                       s->guest_refused);
    } else {
        (void)snprintf(trouble->text, sizeof trouble->text, "statement: %s", sqlite3_errmsg(s->db));
    }
    return 0;
}

/* "$1" is 1; 0 when it is nothing of that kind. */
static size_t number_of(const char *name)
{
    char *end = NULL;
    if (name == NULL || name[0] != '$' || name[1] < '1' || name[1] > '9') {
        return 0;
    }
    unsigned long number = strtoul(name + 1, &end, 10);
    return *end == 0 ? number : 0;
}

static bool bind_all(sqlite3_stmt *stmt, const struct pgqrs_step_sql *sql,
                     struct flow_trouble *trouble)
{
    int count = sqlite3_bind_parameter_count(stmt);
    for (int i = 1; i <= count; i++) {
        const char *name = sqlite3_bind_parameter_name(stmt, i);
        size_t number = number_of(name);
        if (number == 0 || number > sql->param_count) {
            (void)snprintf(trouble->text, sizeof trouble->text,
                           "statement: found parameter %s, expected $1 to $%zu",
                           name == NULL ? "?" : name, sql->param_count);
            return false;
        }
        pgqrs_sqlite_bind_bytes(stmt, i, sql->params[number - 1]);
    }
    return true;
}

/* Only blanks and comments follow: what does not prepare to anything. */
static bool is_blank(struct sqlite_store *s, const char *text)
{
    sqlite3_stmt *stmt = NULL;
    bool blank = sqlite3_prepare_v2(s->db, text, -1, &stmt, NULL) == SQLITE_OK && stmt == NULL;
    (void)sqlite3_finalize(stmt); /* it was not stepped */
    return blank;
}

static int carry_out(struct sqlite_store *s, const struct pgqrs_step_sql *sql,
                     struct flow_trouble *trouble, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = NULL;
    const char *tail = NULL;
    int rc = sqlite3_prepare_v2(s->db, sql->text, -1, &stmt, &tail);
    if (rc != SQLITE_OK) {
        return failed(s, rc, trouble, err);
    }
    if (stmt == NULL || !is_blank(s, tail)) {
        (void)snprintf(trouble->text, sizeof trouble->text,
                       "statement: found %s, expected one statement",
                       stmt == NULL ? "none" : "more than one");
        (void)sqlite3_finalize(stmt); /* it was not stepped */
        return 0;
    }
    int result = 0;
    if (bind_all(stmt, sql, trouble)) {
        while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        }
        result = rc == SQLITE_DONE ? 0 : failed(s, rc, trouble, err);
    }
    (void)sqlite3_finalize(stmt); /* repeats the error of the step */
    return result;
}

int pgqrs_sqlite_guest(struct sqlite_store *s, const struct pgqrs_step_sql *sql,
                       struct flow_trouble *trouble, struct pgqrs_error *err)
{
    if (s->borrowed) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "store \"%s\": statements of handlers run in its broker only",
                               s->shown);
    }
    s->guest = true;
    int rc = carry_out(s, sql, trouble, err);
    s->guest = false;
    return rc;
}
