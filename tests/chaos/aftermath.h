/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_CHAOS_AFTERMATH_H
#define PGQRS_TESTS_CHAOS_AFTERMATH_H

/* What is left when all is over: ledgers, log, processes, files. */

#include "tests/chaos/chaos_priv.h"

bool chaos_log_has(const struct chaos_run_state *c, int64_t from, const char *text);
void chaos_check_aftermath(struct chaos_run_state *c);
/* Prints all; keeps a copy of the store beside the ledgers when something was found. */
void chaos_report(struct chaos_run_state *c);

#endif
