/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_SUPPORT_WORLD_H
#define PGQRS_TESTS_SUPPORT_WORLD_H

/* A real pgqrsd on either store, for tests that are the same on both. */

#include "tests/support/daemon.h"
#include "tests/support/pg_daemon.h"

struct world {
    struct fixture *f;
    struct pg_daemon *pg; /* null: SQLite */
};

/* Setup and teardown functions for cmocka; the state is a struct world. */
int world_sqlite_setup(void **state);
int world_sqlite_teardown(void **state);
int world_pg_setup(void **state);
int world_pg_teardown(void **state);

/* Waits until the statement, which one row of one number answers, gives the value. */
void world_await(const struct world *w, const char *sql, int64_t value);

#endif
