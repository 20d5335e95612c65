/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_CHAOS_CHAOS_H
#define PGQRS_TESTS_CHAOS_CHAOS_H

/*
 * A real pgqrsd under load, while a script that a seed determines does harm to it: processes are
 * killed and stopped, the store goes away, the disk is full. Ledgers outside of the store tell
 * what was acknowledged and what was run; at the end they are checked, see tests/chaos/ledger.h.
 */

#include <stdbool.h>
#include <stdint.h>

struct chaos_options {
    uint64_t seed;
    int64_t duration_ms; /* of the harm */
    bool postgres;       /* else SQLite */
};

/* Prints a report. Returns how much was found wrong: 0, or the ledgers were kept and the report
 * tells where. */
int chaos(const struct chaos_options *options);

#endif
