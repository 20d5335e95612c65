/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/pg_rig.h"

#include <stdlib.h>

/* Installing on PostgreSQL: new, again, adopted, at once, and what verify finds. */

static void installs_and_verifies(void **state)
{
    struct pg_rig *rig = *state;
    struct pgqrs_store *store = NULL;
    suite_ok(rig, pg_rig_open(rig, NULL, &store));
    suite_fails(rig, pgqrs_store_verify(store, &rig->err), PGQRS_ERR_SCHEMA);
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    suite_ok(rig, pgqrs_store_verify(store, &rig->err));
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    pgqrs_store_close(&store);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        PG_RIG_CASE(installs_and_verifies),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
