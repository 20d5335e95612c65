/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/worker.h"
#include "worker/workflow.h"

int pgqrs_worker_loop(struct pgqrs_worker *worker, struct pgqrs_error *err)
{
    const struct pgqrs_handler *handler = &worker->plugin.handler;
    int status = PGQRS_EXIT_OK;
    /* The plugin is loaded: a broker that is away, or can not reach its store, is no fault of ours.
     */
    pgqrs_control_thread_announce(worker);
    int got = pgqrs_job_link_open(worker->link, err);
    while (got > 0) {
        const struct worker_lease *lease;
        got = pgqrs_job_link_next(worker->link, &lease, err);
        if (got <= 0) {
            break;
        }
        if (worker->once) {
            pgqrs_job_link_drain(worker->link); /* there is no other, and this one is finished */
        }
        pgqrs_output_begin(worker->output, lease->key.id);
        struct pgqrs_job *job = pgqrs_host_begin(worker->host, lease);
        bool run = pgqrs_workflow_begin(worker->host);
        enum pgqrs_outcome outcome = run ? handler->run(worker->plugin.state, job) : PGQRS_PASS;
        pgqrs_output_end(worker->output);

        struct pgqrs_job_result result;
        const struct pgqrs_buf *frame;
        if (pgqrs_workflow_end(worker->host, &outcome, &frame, err) < 0) {
            return -1;
        }
        pgqrs_host_end(worker->host, outcome, &result);
        if (result.outcome == PGQRS_JOB_CANCELLED &&
            pgqrs_host_was_cancelled(worker->host) == PGQRS_CANCEL_SHUTDOWN) {
            status = PGQRS_EXIT_RETURNED;
        }
        if (pgqrs_job_link_finish(worker->link, &result, frame, err) < 0) {
            return -1;
        }
    }
    if (got < 0 || pgqrs_job_link_settle_all(worker->link, err) < 0) {
        return -1;
    }
    return status;
}
