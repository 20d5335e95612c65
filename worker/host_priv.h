/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_WORKER_HOST_PRIV_H
#define PGQRS_WORKER_HOST_PRIV_H

/* What host.c and workflow*.c share: the job that runs, and what its handler has said. */

#include <pthread.h>
#include <stdatomic.h>

#include "worker/host.h"
#include "worker/workflow.h"

#define DELAY_MAX_MS                                                                               \
    (INT64_C(100) * 365 * 24 * 3600 * 1000) /* a stored time must stay in range                    \
                                             */
#define SNOOZE_DEFAULT_MS 1000

/* What a handler has said about its job, or about a step; main thread only. */
struct pgqrs_said {
    struct pgqrs_buf result;
    char error[PGQRS_ERROR_TEXT_MAX + 1];
    size_t error_len;
    int64_t delay_ms; /* -1: not set */
    struct pgqrs_job_enqueue *enqueues;
    size_t enqueue_count, enqueue_cap, enqueue_bytes;
};

struct pgqrs_job_host {
    struct pgqrs_job view; /* what the plugin sees; it may write to it, so begin fills all of it */
    char *queue;
    uint32_t max_attempts;
    int64_t timeout_ms, grace_ms;
    int64_t began_us, due_us; /* of the running job */
    int cancel_fd;            /* an eventfd, readable while cancelled is not 0 */
    atomic_int cancelled;     /* enum pgqrs_cancel; written with the mutex held */
    int wake_fd;              /* the control thread's */
    pthread_mutex_t mutex;    /* guards the next ten against the control thread */
    int64_t look_ms;          /* when that looks again */
    int64_t running_id;       /* 0: none */
    int64_t began_ms, cancelled_ms;
    int64_t limit_ms; /* when its time is over, while it does not wait for the broker; 0: never */
    bool waits;       /* for the broker, which is not its time */
    int64_t waits_ms; /* since then */
    struct pgqrs_job_key stop_key; /* to be cancelled when it begins; id 0: none */
    enum pgqrs_cancel stop_why;
    struct pgqrs_job_key key;
    enum pgqrs_cancel was_cancelled; /* main thread: of the job that ended last */

    struct pgqrs_said said;

    struct workflow *workflow; /* null: the handler is none */
};

/* Null: this is not the job that runs. */
struct pgqrs_job_host *pgqrs_host_of(const struct pgqrs_job *job);
bool pgqrs_host_is_json(const char *text, size_t len);
/* Around what takes as long as the store does: the job's time does not run meanwhile. */
void pgqrs_host_wait(struct pgqrs_job_host *host);
void pgqrs_host_go_on(struct pgqrs_job_host *host);
void pgqrs_said_fini(struct pgqrs_said *said);

#endif
