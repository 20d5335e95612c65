/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_POSTGRES_CONN_H
#define PGQRS_STORE_POSTGRES_CONN_H

/* A store on PostgreSQL: its connections, and how one is opened, watched and given up. */

#include "store/postgres/pg_priv.h"

/* Advisory locks are two numbers, the first of which is one of these. */
#define PG_GATE_CLASS "1885827428"    /* the oid of pgqrs_messages: somebody sleeps */
#define PG_CLAIM_CLASS "1885827427"   /* a hash of schema and site: its broker runs */
#define PG_INSTALL_CLASS "1885827433" /* a hash of the schema: it is being installed */
#define PG_CHANNEL "pgqrsd_"          /* and the oid of pgqrs_messages */

/*
 * Planning a lease takes longer than leasing, and left to itself the server plans anew each time:
 * plans for these very parameters look cheaper, since the bigger limit of the others is a guess.
 * Whoever has set it otherwise for the role or the database keeps that.
 */
#define PG_GENERIC_PLANS(local)                                                                    \
    " set_config('plan_cache_mode', CASE current_setting('plan_cache_mode') WHEN 'auto'"           \
    " THEN 'force_generic_plan' ELSE current_setting('plan_cache_mode') END, " local ")"

enum { PG_PREPARED_MAX = 256, PG_SETTINGS_MAX = 64 };

/* What libpq is told, from a DSN. Holds the password: wiped by its fini. */
struct pg_dsn {
    char *keys[PG_SETTINGS_MAX + 1]; /* both end with a null */
    char *values[PG_SETTINGS_MAX + 1];
    size_t count;
    int64_t connect_ms; /* how long one attempt may take */
};

enum pg_frame { /* what this store has open on its connection */
                PG_FRAME_NONE = 0,
                PG_FRAME_WANTED, /* a transaction, with the next statement */
                PG_FRAME_TRANSACTION,
                PG_FRAME_SAVEPOINT, /* inside the transaction of whoever lent the connection */
                PG_FRAME_LOST,      /* and the connection with it */
};

struct pg_wake;

struct pg_store {
    struct pgqrs_store base;
    PGconn *conn;  /* in pipeline mode unless borrowed; null: the next call opens one */
    bool borrowed; /* belongs to somebody else: unnamed statements, savepoints, no deadline */
    bool pooled;   /* a transaction pooler is in between: nothing lasts beyond a transaction */
    bool doomed;   /* the server has said good-bye on an idle connection */
    enum pg_frame frame;
    struct pg_dsn dsn;
    char *schema;      /* null: whatever the borrowed connection's search_path finds */
    char *search_path; /* the schema as a quoted identifier */
    int64_t call_ms;
    int64_t deadline_ms;                             /* of the call under way, by pgqrs_mono_ms */
    const struct pg_stmt *prepared[PG_PREPARED_MAX]; /* on this connection */
    size_t prepared_count;
    char *site; /* null: not claimed */
    struct pg_wake *wake;
    bool told; /* somebody has said that there is work: the next exchange needs no look first */
};

/* ---- pg_dsn.c ---- */

int pgqrs_pg_dsn_parse(struct pg_dsn *dsn, const char *text, struct pgqrs_error *err);
void pgqrs_pg_dsn_fini(struct pg_dsn *dsn);
/* Puts stars where the text tells the password. */
void pgqrs_pg_dsn_hide(const struct pg_dsn *dsn, char *text);
/* 0: the name may be that of a schema. */
int pgqrs_pg_check_schema(const char *schema, struct pgqrs_error *err);

/* ---- pg_conn.c ---- */

/* Opens a connection if there is none, or if the one there is has ended while it was idle. One
 * attempt, which the call's deadline and the DSN's end. */
int pgqrs_pg_ready(struct pg_store *s, struct pgqrs_error *err);
void pgqrs_pg_drop(struct pg_store *s);
/* Waits for events of poll(2) on the connection. 1: they came; 0: the deadline has passed. A
 * deadline of 0 never passes. */
int pgqrs_pg_wait(PGconn *conn, short events, int64_t deadline_ms);
/* Begins to connect: PQconnectPoll goes on. Null when there is no memory. */
PGconn *pgqrs_pg_connect_start(const struct pg_dsn *dsn);
/* Connects. Null: *err is filled. */
PGconn *pgqrs_pg_connect_wait(const struct pg_dsn *dsn, int64_t deadline_ms,
                              struct pgqrs_error *err);
/* Why connecting has failed. */
int pgqrs_pg_connect_fail(PGconn *conn, const struct pg_dsn *dsn, struct pgqrs_error *err);

/* ---- pg_call.c ---- */

/* The next result of what was sent. Null: no more, or *lost: the connection has ended, or the
 * deadline has passed. */
PGresult *pgqrs_pg_next(struct pg_store *s, bool *lost);
/* One statement on the connection as it is: no frame, no settings of a pooled transaction. */
PGresult *pgqrs_pg_bare(struct pg_store *s, const struct pg_stmt *stmt, const struct pg_args *args,
                        struct pgqrs_error *err);
/* Several statements as one text, without parameters or results: one transaction, or part of the
 * open one. Not on a borrowed connection. */
int pgqrs_pg_script(struct pg_store *s, const char *sql, struct pgqrs_error *err);

/* ---- pg_error.c ---- */

bool pgqrs_pg_is_fatal(const PGresult *result);
bool pgqrs_pg_is_state(const PGresult *result, const char *sqlstate);
/* uncertain: what was sent may have been committed. */
int pgqrs_pg_fail(const PGresult *result, bool uncertain, struct pgqrs_error *err);
enum pgqrs_err pgqrs_pg_code(const char *sqlstate);

/* ---- pg_wake.c ---- */

#endif
