/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_PLAN_STEPS_H
#define PGQRS_TESTS_PLAN_STEPS_H

/*
 * Everything that a broker does again and again, and an operator now and then, in a queue whose
 * backlog is big: what it costs must follow from its limit alone.
 */

#include "tests/support/store_suite.h"

struct plan_bench {
    struct pgqrs_store *store;
    struct pgqrs_error err;
    int64_t queue;   /* a big one: what waits has the priorities 0 to 3, what is delayed has 10 */
    int64_t later;   /* another, of which nothing is due */
    int64_t holder;  /* a worker that holds some, whose leases are over */
    int64_t foreign; /* a dead client that does */
    struct pgqrs_lease_ref leases[256];
    size_t lease_count;
    uint32_t limit; /* of the step at hand */
};

struct plan_step {
    const char *name;
    void (*run)(struct plan_bench *b);
    uint32_t limit;
    int64_t rows;    /* bound of what is read by each scan */
    int64_t buffers; /* PostgreSQL: bound of each statement */
};

extern const struct plan_step plan_steps[];
extern const size_t plan_step_count;

int64_t plan_bench_worker(struct plan_bench *b, const char *name);

#endif
