/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_WORKER_HELD_JOBS_H
#define PGQRS_WORKER_HELD_JOBS_H

/*
 * Every lease that this worker is answerable for: the job that runs, those that wait to run in the
 * order they came, and the outcomes that the broker has not settled yet. No locking, no sockets.
 */

#include <sys/queue.h>

#include "ipc/msg.h"

struct worker_lease { /* a job handed to this worker */
    STAILQ_ENTRY(worker_lease) link;
    struct pgqrs_job_key key;
    int32_t priority;
    int64_t enqueued_at_us;
    int64_t due_us; /* monotonic; 0: not known */
    size_t payload_len;
    char payload[]; /* terminated */
};

struct pgqrs_unsettled { /* an outcome that was sent, or is about to be */
    TAILQ_ENTRY(pgqrs_unsettled) link;
    struct pgqrs_job_key key;
    uint32_t ask; /* seq of a JOB_FLOW that is answered by JOB_FLOWED; 0: an outcome */
    size_t frame_len;
    uint8_t frame[]; /* a whole message, to be sent again after a reconnect */
};

struct pgqrs_held_jobs {
    struct worker_lease *running; /* null: none */
    STAILQ_HEAD(pgqrs_lease_list, worker_lease) waiting;
    TAILQ_HEAD(pgqrs_unsettled_list, pgqrs_unsettled) unsettled;
    size_t waiting_count, unsettled_count;
    struct pgqrs_buf scratch;
};

void pgqrs_held_init(struct pgqrs_held_jobs *held);
void pgqrs_held_fini(struct pgqrs_held_jobs *held);

/* Copies the lease to the end of those that wait. */
int pgqrs_held_add(struct pgqrs_held_jobs *held, const struct pgqrs_job_lease *lease,
                   struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* The next job becomes the running one; null when none waits. There must be none running. */
const struct worker_lease *pgqrs_held_run_next(struct pgqrs_held_jobs *held);

/* Null when out of memory. What is returned lives until it is settled. */
const struct pgqrs_unsettled *pgqrs_held_outcome(struct pgqrs_held_jobs *held,
                                                 const struct pgqrs_job_result *result);
/* The same for a message that was made elsewhere; ask as above. */
const struct pgqrs_unsettled *pgqrs_held_frame(struct pgqrs_held_jobs *held,
                                               struct pgqrs_job_key key, uint32_t ask,
                                               const struct pgqrs_buf *frame);
/* Its answer has come. False: it was answered before. */
bool pgqrs_held_answered(struct pgqrs_held_jobs *held, struct pgqrs_job_key key, uint32_t ask);
void pgqrs_held_run_ended(struct pgqrs_held_jobs *held); /* the running job's lease is freed */
/* The first that waits becomes an outcome RETURNED. Null when none waits or out of memory. */
const struct pgqrs_unsettled *pgqrs_held_return_next(struct pgqrs_held_jobs *held);
/* The same for this one, wherever it is. */
const struct pgqrs_unsettled *pgqrs_held_return_key(struct pgqrs_held_jobs *held,
                                                    struct pgqrs_job_key key);
/* An outcome that is not in the list is ignored: it was settled before. */
void pgqrs_held_settle(struct pgqrs_held_jobs *held, struct pgqrs_job_key key);

/* Fills hello->held and held_count; free it with pgqrs_job_hello_fini. */
int pgqrs_held_list(const struct pgqrs_held_jobs *held, struct pgqrs_job_hello *hello,
                    struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
