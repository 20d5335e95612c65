/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_WORKER_WORKER_H
#define PGQRS_WORKER_WORKER_H

/*
 * The worker process: one plugin, one job at a time. Three threads: the main thread runs the
 * plugin, the control thread answers the supervisor whatever the plugin does, and one reads what
 * the plugin writes to standard output and error.
 */

#include <stdbool.h>

#include "ipc/child.h"
#include "worker/host.h"
#include "worker/isolation.h"
#include "worker/job_link.h"
#include "worker/output.h"
#include "worker/plugin.h"

struct pgqrs_control_thread;

struct pgqrs_worker {
    struct pgqrs_child child; /* its channel is the control thread's while that runs */
    char *queue, *plugin_path, *settings, *job_socket, *directory;
    struct pgqrs_isolation isolation;
    uint8_t token[PGQRS_TOKEN_SIZE];
    uint32_t slot, prefetch, max_attempts, log_lines;
    bool once; /* it ends after its first job */
    int64_t heartbeat_ms;
    int64_t timeout_ms, cancel_grace_ms;

    int wake_fd; /* an eventfd that wakes the control thread */
    struct pgqrs_plugin plugin;
    struct pgqrs_job_host *host;
    struct pgqrs_job_link *link;
    struct pgqrs_control_thread *control;
    struct pgqrs_output *output;
};

/* ---- control_thread.c ---- */

/* Also sets what signals do: TERM is a drain, INT and HUP are for the supervisor alone. */
int pgqrs_control_thread_start(struct pgqrs_worker *worker,
                               struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* The supervisor is told that this worker can run jobs. */
void pgqrs_control_thread_announce(struct pgqrs_worker *worker);
/* Ends the thread and waits for it; accepts a worker without one. */
void pgqrs_control_thread_stop(struct pgqrs_worker *worker);

/* ---- worker_loop.c ---- */

/* Announces, connects, and runs jobs until a drain. The process' exit status, or -1. */
int pgqrs_worker_loop(struct pgqrs_worker *worker, struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
