/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/pg_rig.h"
#include "tests/support/store_random.h"
#include "tests/support/store_random.h"

#include <stdlib.h>

/* The cases that every store must pass, on PostgreSQL. */

static struct pg_rig *current;

static struct pgqrs_store *open_store(void *arg)
{
    (void)arg;
    struct pgqrs_store *store = NULL;
    current = pg_rig_create();
    suite_ok(current, pg_rig_open(current, NULL, &store));
    return store;
}

static void close_store(void *arg, struct pgqrs_store *store)
{
    (void)arg;
    pgqrs_store_close(&store);
    pg_rig_destroy(current);
    current = NULL;
}

static void set_clock(void *arg, struct pgqrs_store *store, int64_t wall_us)
{
    (void)arg;
    (void)store;
    pg_rig_set_clock(current, wall_us);
}

static struct pgqrs_store *open_again(void *arg)
{
    (void)arg;
    struct pgqrs_store *store = NULL;
    suite_ok(current, pg_rig_open(current, NULL, &store));
    return store;
}

static void sql(void *arg, struct pgqrs_store *store, const char *text)
{
    (void)arg;
    (void)store;
    pg_rig_sql(current, "%s", text);
}

int main(void)
{
    const struct suite_backend backend = {.name = "postgres",
                                          .open = open_store,
                                          .close = close_store,
                                          .set_clock = set_clock,
                                          .open_again = open_again,
                                          .sql = sql};
    return pgqrs_store_suite_run(&backend) + pgqrs_store_random_run(&backend);
}
