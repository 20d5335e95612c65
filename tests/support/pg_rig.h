/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_PG_RIG_H
#define PGQRS_TESTS_PG_RIG_H

/*
 * A PostgreSQL server of the test program's own, in a scratch directory behind a Unix socket. The
 * first case that asks starts it; it ends with the program, however that ends. Each case has a
 * schema of its own.
 */

#include <libpq-fe.h>
#include <sys/types.h>

#include "tests/support/store_suite.h"

struct pg_rig {
    char dsn[256]; /* of user postgres, who may everything */
    char schema[32];
    PGconn *raw; /* another program: search_path is the schema; opened by pg_rig_raw */
    struct pgqrs_error err;
};

/* For cmocka: an empty schema, dropped afterwards. */
int pg_rig_setup(void **state);
int pg_rig_teardown(void **state);
#define PG_RIG_CASE(function)                                                                      \
    cmocka_unit_test_setup_teardown(function, pg_rig_setup, pg_rig_teardown)

/* The same without cmocka. The rig is freed by pg_rig_destroy. */
struct pg_rig *pg_rig_create(void);
void pg_rig_destroy(struct pg_rig *rig);

const char *pg_rig_dir(void); /* the socket's; others may make files there, too */
/* Runs a program as the server's user, with its output in the file below pg_rig_dir. Ends with this
 * program. Returns its pid. */
pid_t pg_rig_spawn(const char *const argv[], const char *log);
void pg_rig_stop(void);
void pg_rig_start(void);
pid_t pg_rig_postmaster(void);

/* Opens a store in the schema; options: null for the usual ones. */
int pg_rig_open(struct pg_rig *rig, const struct pgqrs_store_options *options,
                struct pgqrs_store **store_out);
/* Opens and installs. */
struct pgqrs_store *pg_rig_store(struct pg_rig *rig, const struct pgqrs_store_options *options);

PGconn *pg_rig_connect(struct pg_rig *rig); /* one more, for PQfinish */
PGconn *pg_rig_raw(struct pg_rig *rig);
/* Any statements, which must succeed. */
void pg_rig_sql(struct pg_rig *rig, const char *fmt, ...) PGQRS_PRINTF(2, 3);
int64_t pg_rig_number(struct pg_rig *rig, const char *fmt, ...) PGQRS_PRINTF(2, 3);
/* One value as text, in a buffer that the next call uses again; "" for NULL or no row. */
const char *pg_rig_text(struct pg_rig *rig, const char *fmt, ...) PGQRS_PRINTF(2, 3);

/* The case's clock stands still at this time: replaces the schema's pgqrsd_now(). */
void pg_rig_set_clock(struct pg_rig *rig, int64_t wall_us);
/* Ends the server processes of all connections but the rig's own; returns how many there were. */
int64_t pg_rig_terminate(struct pg_rig *rig);
/* Looks until the query gives the number; fails after 20 s. */
void pg_rig_await(struct pg_rig *rig, int64_t expected, const char *sql);

#endif
