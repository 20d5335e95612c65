/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_WORKER_OUTPUT_H
#define PGQRS_WORKER_OUTPUT_H

/*
 * What the plugin, and whatever it starts, writes to standard output and error: each line becomes a
 * line of the log, with queue, worker and job. A thread reads the two pipes, so that a handler
 * never waits for them for long, even when nobody reads the log: then lines are dropped, and
 * counted, as they are above the rate.
 *
 * The thread goes on until the process ends; what it has not logged then, the supervisor does.
 * Every function accepts null: nothing is captured in a worker that was given no pipes.
 */

#include <stdint.h>

#include "base/error.h"

struct pgqrs_output;

/* First thing in main: the log goes where the supervisor's does, from here on. Null when there is
 * nothing to capture. */
int pgqrs_output_open(struct pgqrs_output **output_out, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Before the plugin is loaded. queue is copied; lines_per_second 0: no limit. */
int pgqrs_output_start(struct pgqrs_output *output, const char *queue, uint32_t worker,
                       uint32_t lines_per_second, struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* Main thread: what is written from here on is of this job. */
void pgqrs_output_begin(struct pgqrs_output *output, int64_t job_id);
/* Main thread: logs all that was written until now. What comes then is of no job. */
void pgqrs_output_end(struct pgqrs_output *output);

#endif
