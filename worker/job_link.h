/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_WORKER_JOB_LINK_H
#define PGQRS_WORKER_JOB_LINK_H

/*
 * The worker's connection to the broker: jobs come in, outcomes go out, and both survive a broker
 * that dies. What was leased to this worker is in worker/held_jobs.h.
 *
 * Two threads use a link, one after the other. Until a drain begins the main thread alone reads,
 * writes and connects; while a handler runs nobody does, and the kernel's buffer is the mailbox,
 * except that the control thread looks now and then whether the broker is still there, and reads
 * when somebody has ordered that jobs be given back.
 * When a drain begins the control thread takes over, so that jobs are given back while a handler
 * still runs; the main thread then only adds its last outcome.
 */

#include "worker/held_jobs.h"

struct pgqrs_job_link;

struct pgqrs_job_link_setup {
    const char *socket_path;
    uint64_t generation;
    const uint8_t *token; /* PGQRS_TOKEN_SIZE bytes */
    uint32_t prefetch;
    int wake_fd; /* an eventfd, written when the control thread should call serve */
};

/* Before open: the handler is a workflow, which the broker is told. */
void pgqrs_job_link_set_workflow(struct pgqrs_job_link *link);

/* Copies the setup; does not connect. */
int pgqrs_job_link_create(const struct pgqrs_job_link_setup *setup,
                          struct pgqrs_job_link **link_out,
                          struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_job_link_destroy(struct pgqrs_job_link **link);

/* ---- main thread ---- */

/* Connects, for as long as it takes. 1: the broker said welcome. 0: a drain began. -1: refused. */
int pgqrs_job_link_open(struct pgqrs_job_link *link, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Waits for the next job. 1: *lease_out is valid until finish. 0: a drain began. -1: refused. */
int pgqrs_job_link_next(struct pgqrs_job_link *link, const struct worker_lease **lease_out,
                        struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Sends a JOB_FLOW message of the job that next gave, and waits for its answer, for as long as it
 * takes, a drain included. seq is above that of the one before. *answer_out: the body of
 * JOB_FLOWED, until the next ask. -1: refused. */
int pgqrs_job_link_ask(struct pgqrs_job_link *link, struct pgqrs_job_key key, uint32_t seq,
                       const struct pgqrs_buf *frame, const struct pgqrs_buf **answer_out,
                       struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Sends the outcome of the job that next gave; frame, unless null, is a JOB_FLOW that says it, and
 * of result only the key counts. Fails only for want of memory. */
int pgqrs_job_link_finish(struct pgqrs_job_link *link, const struct pgqrs_job_result *result,
                          const struct pgqrs_buf *frame, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* In a drain: waits until the broker has settled every outcome. -1: refused. */
int pgqrs_job_link_settle_all(struct pgqrs_job_link *link,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- control thread ---- */

/* Gives back what has not begun, now and from now on. May be called again. */
void pgqrs_job_link_drain(struct pgqrs_job_link *link);
/* Outside a drain: gives back the job with this key, or, without one, all that have not begun. True
 * when there was such a job. */
bool pgqrs_job_link_give_back(struct pgqrs_job_link *link, const struct pgqrs_job_key *key);
/* Now and then, while a handler runs: connects again if the broker has died, so that the next one
 * soon knows what is held here. */
void pgqrs_job_link_check(struct pgqrs_job_link *link);
/* In a drain: what to poll for, and for how long at most (-1 no limit); -1 there is nothing. */
int pgqrs_job_link_poll_fd(struct pgqrs_job_link *link, short *events_out, int64_t *wait_ms_out);
/* In a drain: reads, writes and connects, whatever can be done now. Else does nothing. */
void pgqrs_job_link_serve(struct pgqrs_job_link *link);

/* ---- any thread ---- */

/* Jobs held that are not finished, and outcomes sent since the start. */
void pgqrs_job_link_counts(struct pgqrs_job_link *link, uint32_t *held_out, uint64_t *sent_out);

#endif
