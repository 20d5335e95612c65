/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_LIB_RIG_H
#define PGQRS_TESTS_LIB_RIG_H

/*
 * Programs that use libpgqrs, on a SQLite file or a PostgreSQL server of their own: each case runs
 * on both, with an installed schema and a queue "q".
 */

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "include/pgqrs/pgqrs.h"

struct lib_rig {
    char dsn[4200];
    struct pgqrs_options options; /* what connects to it, as lib_rig_connect does */
    struct pgqrs_client *client;
    struct pgqrs_failure why;
    struct sqlite_rig *sqlite; /* one of the two is there */
    struct pg_rig *pg;
};

int lib_rig_setup_sqlite(void **state);
int lib_rig_setup_pg(void **state);
int lib_rig_teardown(void **state);
#define LIB_CASE_SQLITE(function)                                                                  \
    {                                                                                              \
        "sqlite_" #function, function, lib_rig_setup_sqlite, lib_rig_teardown, NULL                \
    }
#define LIB_CASE_PG(function)                                                                      \
    {                                                                                              \
        "postgres_" #function, function, lib_rig_setup_pg, lib_rig_teardown, NULL                  \
    }
#define LIB_CASE(function) LIB_CASE_SQLITE(function), LIB_CASE_PG(function)

/* Runs them, those of PostgreSQL unless its store lacks operations yet; returns how many failed. */
int lib_rig_run(const struct CMUnitTest *tests, size_t count);
#define LIB_RIG_RUN(tests) lib_rig_run(tests, sizeof(tests) / sizeof *(tests))

/* One more client, with other options unless null; fails the test when it can not. */
struct pgqrs_client *lib_rig_connect(const struct lib_rig *rig,
                                     const struct pgqrs_options *options);
/* A statement of another program, that changes something. */
void lib_rig_sql(struct lib_rig *rig, const char *sql);

#define lib_ok(rig, call)                                                                          \
    do {                                                                                           \
        if ((call) < 0) {                                                                          \
            fail_msg("%s: %s: %s", #call, pgqrs_code_name((rig)->why.code), (rig)->why.text);      \
        }                                                                                          \
    } while (0)
#define lib_is(rig, expected, call)                                                                \
    do {                                                                                           \
        int64_t found_ = (call);                                                                   \
        if (found_ < 0) {                                                                          \
            fail_msg("%s: %s: %s", #call, pgqrs_code_name((rig)->why.code), (rig)->why.text);      \
        }                                                                                          \
        assert_int_equal(found_, expected);                                                        \
    } while (0)
#define lib_fails(rig, expected, call)                                                             \
    do {                                                                                           \
        assert_int_equal((call), -1);                                                              \
        if ((rig)->why.code != (expected)) {                                                       \
            fail_msg("%s: found %s: %s", #call, pgqrs_code_name((rig)->why.code),                  \
                     (rig)->why.text);                                                             \
        }                                                                                          \
    } while (0)

/* Enqueues a usual item; returns its id. */
int64_t lib_rig_add(struct lib_rig *rig, const char *payload);
/* A consumer of "q" with these options otherwise, null: the usual ones. */
struct pgqrs_consumer *lib_rig_consumer(struct lib_rig *rig,
                                        const struct pgqrs_consumer_options *options);
/* Leases one message, which must be there; free the batch. */
struct pgqrs_batch *lib_rig_take(struct lib_rig *rig, struct pgqrs_consumer *consumer);
/* Takes one, which must be this, and says what became of it. */
#define lib_take(rig, consumer, message)                                                           \
    struct pgqrs_batch *batch = lib_rig_take(rig, consumer);                                       \
    assert_int_equal(batch->items[0].id, message)
/* The message with that id, for pgqrs_message_page_free. */
struct pgqrs_message_page *lib_rig_get(struct lib_rig *rig, int64_t id);
/* The same value: PostgreSQL gives JSON back in a form of its own. */
void lib_rig_json_equal(const char *found, const char *expected);
/* Shuts the consumer down. */
void lib_rig_end(struct lib_rig *rig, struct pgqrs_consumer *consumer);

#endif
