/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_LIB_CLIENT_RUNS_H
#define PGQRS_LIB_CLIENT_RUNS_H

#include "lib/client_priv.h"
#include "store/workflow.h"

/* Makes a page of the list, which it takes over, also when it fails. */
int pgqrs_client_run_page(struct pgqrs_run_list *list, struct pgqrs_run_page **page_out,
                          struct pgqrs_failure *failure) PGQRS_MUST_CHECK;

#endif
