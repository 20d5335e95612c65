/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_SUPERVISOR_RESTART_POLICY_H
#define PGQRS_SUPERVISOR_RESTART_POLICY_H

/*
 * When to start a process again in a place where one has ended: at once the first time, then after
 * a delay that doubles between fixed bounds. A long enough healthy run forgets what was before.
 */

#include <stdint.h>

#define PGQRS_RESTART_MIN_MS 100
#define PGQRS_RESTART_MAX_MS 30000
/* Without its broker a host does nothing at all, so that one is not kept waiting long. */
#define PGQRS_RESTART_BROKER_MAX_MS 1000
#define PGQRS_RESTART_HEALTHY_MS 60000
/* A queue is failing after so many failed starts in a row in one place. */
#define PGQRS_RESTART_START_TRIES 5

struct pgqrs_restart {
    uint32_t deaths;        /* since the last healthy run */
    uint32_t failed_starts; /* in a row */
};

/* ready_ms: for how long the process was ready, -1 if it never was. Returns the delay in ms. */
int64_t pgqrs_restart_after(struct pgqrs_restart *restart, int64_t ready_ms, int64_t max_ms);

#endif
