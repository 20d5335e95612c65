/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_RUN_LOOK_H
#define PGQRS_STORE_RUN_LOOK_H

/* Runs as those see them who have triggered them, and know a message's id. */

#include "store/workflow.h"

/*
 * As pgqrs_store_run_get, of any message of a workflow. Without a run, since no worker has begun it
 * or it was archived before, what its message tells: id 0, QUEUED or ended. A run whose message was
 * archived by somebody who did not end it is ERROR or CANCELLED. Nothing is written.
 * PGQRS_ERR_NOT_FOUND: there is no such message, or its queue has no workflow.
 */
int pgqrs_store_run_look(struct pgqrs_store *store, int64_t message_id,
                         struct pgqrs_run_list *one_out, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* The message of the run that goes on where this one has ended; 0: none does. */
int64_t pgqrs_run_continued_as(const struct pgqrs_run *run);
/*
 * The same for the run that goes on where it has ended, and so on. one_out->items->message_id tells
 * which one that is. PGQRS_ERR_NOT_FOUND also when one of them is gone.
 */
int pgqrs_store_run_follow(struct pgqrs_store *store, int64_t message_id,
                           struct pgqrs_run_list *one_out,
                           struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
