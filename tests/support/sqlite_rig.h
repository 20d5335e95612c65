/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_SQLITE_RIG_H
#define PGQRS_TESTS_SQLITE_RIG_H

/* A scratch directory with SQLite databases in it, and other programs' access to them. */

#include <limits.h>
#include <sqlite3.h>

#include "tests/support/store_suite.h"

struct sqlite_rig {
    char dir[PATH_MAX];
    char path[PATH_MAX + 8]; /* of the database; its file need not exist */
    struct pgqrs_error err;
};

int sqlite_rig_setup(void **state);
int sqlite_rig_teardown(void **state); /* removes the directory and all that is in it */
#define RIG_CASE(function)                                                                         \
    cmocka_unit_test_setup_teardown(function, sqlite_rig_setup, sqlite_rig_teardown)

int sqlite_rig_open(struct sqlite_rig *rig, struct pgqrs_store **store_out);
/* Opens and installs. */
struct pgqrs_store *sqlite_rig_store(struct sqlite_rig *rig);
/* The database as another program sees it; close it with sqlite3_close. */
sqlite3 *sqlite_rig_raw(struct sqlite_rig *rig);
void sqlite_rig_sql(struct sqlite_rig *rig, const char *sql);
int64_t sqlite_rig_number(sqlite3 *db, const char *sql);
/* Runs fn in a process of its own; returns its exit status, or -1 when a signal ended it. */
int sqlite_rig_child(int (*fn)(struct sqlite_rig *rig), struct sqlite_rig *rig);

#endif
