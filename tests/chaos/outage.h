/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_CHAOS_OUTAGE_H
#define PGQRS_TESTS_CHAOS_OUTAGE_H

/* What makes a store fail for a while. */

#include "tests/chaos/chaos_priv.h"

struct chaos_outage {
    const char *name;
    int64_t longest_ms;
    bool (*begin)(struct chaos_run_state *c); /* false: it can not be done */
    void (*end)(struct chaos_run_state *c);
};

extern const struct chaos_outage chaos_outage_lock; /* SQLite: another program has the lock */
extern const struct chaos_outage chaos_outage_disk; /* SQLite: its disk is full */
extern const struct chaos_outage chaos_outage_fast; /* PostgreSQL: shut down, connections cut */
extern const struct chaos_outage chaos_outage_immediate; /* PostgreSQL: as after a crash */
extern const struct chaos_outage chaos_outage_freeze;    /* PostgreSQL: does not answer */

/* PostgreSQL: all connections are cut, or one. */
void chaos_end_connections(struct chaos_run_state *c, bool all);

#endif
