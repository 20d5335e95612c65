/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_PGQRS_WORLD_H
#define PGQRS_TESTS_PGQRS_WORLD_H

/* A schema as pgqrs 0.15.3 leaves it on PostgreSQL, with some rows of its clients in it. */

#include "tests/support/pg_rig.h"

/* In the rig's schema, which must be empty. Head: as later sources of pgqrs do it. */
void pgqrs_world_create(struct pg_rig *rig, bool head);
/* A queue "mail" with two workers: a waiting message, a leased, an archived one, and one with a
 * workflow run that has a step. */
void pgqrs_world_fill(struct pg_rig *rig);

#endif
