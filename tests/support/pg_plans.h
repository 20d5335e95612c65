/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_PG_PLANS_H
#define PGQRS_TESTS_PG_PLANS_H

/*
 * The plans of whatever a store does, as the server carried them out: a role of its own, whose
 * sessions write every statement's plan with its numbers to the server's log, triggers' and foreign
 * keys' statements too.
 */

#include "tests/support/pg_rig.h"

struct pg_plan_bounds {
    int64_t rows;    /* of each scan of messages, runs and what they have; of each sort */
    int64_t buffers; /* of each statement */
};

/* Makes the role; mode: plan_cache_mode, and its name. */
void pg_plans_role(struct pg_rig *rig, const char *mode);
/* Of that role; valid until the next call. */
const char *pg_plans_dsn(const char *mode);
/* Forgets what the log has so far. */
void pg_plans_begin(void);
/* Asserts that each statement since then kept within the bounds and read no table of messages, or
 * of what runs have, from end to end. Returns how many statements there were. */
int pg_plans_check(const char *what, const struct pg_plan_bounds *bounds);

#endif
