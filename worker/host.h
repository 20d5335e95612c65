/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_WORKER_HOST_H
#define PGQRS_WORKER_HOST_H

/*
 * What handler.h promises a plugin: the functions of struct pgqrs_host, the job it sees, and
 * whatever it says about the outcome. There is one of these in a process, and one job at a time.
 */

#include <pgqrs/handler.h>

#include "worker/held_jobs.h"

struct pgqrs_job_host;

/* queue is copied. Until destroy, the functions below and those of struct pgqrs_host work. */
int pgqrs_host_create(const char *queue, uint32_t max_attempts, struct pgqrs_job_host **host_out,
                      struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_host_destroy(struct pgqrs_job_host **host);

/* Before the first job: how long one may take until it is cancelled, 0 for ever, and how long it
 * may then take to end. wake_fd, an eventfd, is written when a job begins whose time is over before
 * the control thread looks again. */
void pgqrs_host_set_limit(struct pgqrs_job_host *host, int64_t timeout_ms, int64_t grace_ms,
                          int wake_fd);

extern const struct pgqrs_host pgqrs_host_functions;

/* Main thread: the job for the plugin's run. lease is borrowed until the end. */
struct pgqrs_job *pgqrs_host_begin(struct pgqrs_job_host *host, const struct worker_lease *lease);
/* Main thread: what run returned, made into what the broker wants to know. The result borrows from
 * the host until the next begin. */
/* Of the job that runs, until now. */
struct pgqrs_job_times pgqrs_host_times(const struct pgqrs_job_host *host);
void pgqrs_host_end(struct pgqrs_job_host *host, enum pgqrs_outcome outcome,
                    struct pgqrs_job_result *result_out);

/* Any thread: the running job should stop, if it is the one that is meant; 0 means any. */
void pgqrs_host_cancel(struct pgqrs_job_host *host, int64_t job_id);
/* Any thread: the same, by request, for the job with this key, also if it is the next one to begin,
 * or without a key for the one that runs; it then has the grace of pgqrs_host_set_limit. */
void pgqrs_host_stop(struct pgqrs_job_host *host, const struct pgqrs_job_key *key,
                     enum pgqrs_cancel why);
/* Main thread: why the job that ended last was cancelled. */
enum pgqrs_cancel pgqrs_host_was_cancelled(const struct pgqrs_job_host *host);
/*
 * Control thread: cancels the running job when its limit has passed. It calls again at
 * look_ms (pgqrs_mono_ms) at the latest. *wait_ms_out: call again after so long at the latest, -1
 * when no time is running. True: it has not ended within the grace either, and will not end any
 * more; the process must, and text says why.
 */
bool pgqrs_host_check_limit(struct pgqrs_job_host *host, int64_t look_ms, int64_t *wait_ms_out,
                            char *text, size_t size);
/* Any thread: the id of the running job and for how long it has run; 0 for none. */
int64_t pgqrs_host_running(struct pgqrs_job_host *host, int64_t *ms_out);

#endif
