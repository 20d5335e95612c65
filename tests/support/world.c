/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

int world_sqlite_setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    void *fixture = NULL;
    assert_non_null(w);
    assert_int_equal(fixture_setup(&fixture), 0);
    w->f = fixture;
    *state = w;
    return 0;
}

int world_sqlite_teardown(void **state)
{
    struct world *w = *state;
    void *fixture = w->f;
    int rc = fixture_teardown(&fixture);
    free(w);
    return rc;
}

int world_pg_setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    void *daemon = NULL;
    assert_non_null(w);
    assert_int_equal(pg_daemon_setup(&daemon), 0);
    w->pg = daemon;
    w->f = w->pg->fixture;
    *state = w;
    return 0;
}

int world_pg_teardown(void **state)
{
    struct world *w = *state;
    void *daemon = w->pg;
    int rc = pg_daemon_teardown(&daemon);
    free(w);
    return rc;
}

void world_await(const struct world *w, const char *sql, int64_t value)
{
    if (w->pg != NULL) {
        pg_rig_await(w->pg->rig, value, sql);
    } else {
        db_await(&w->f->scratch, sql, value);
    }
}
