/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_SUPPORT_PG_POOLER_H
#define PGQRS_TESTS_SUPPORT_PG_POOLER_H

/* A PgBouncer in transaction mode before the server of pg_rig. */

#include "tests/support/pg_rig.h"

/* dsn: through it. Returns its pid; it answers. */
pid_t pg_pooler_start(const struct pg_rig *rig, char *dsn, size_t size);
void pg_pooler_end(pid_t pid);

#endif
