/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_WORKER_WORKFLOW_H
#define PGQRS_WORKER_WORKFLOW_H

/*
 * Workflows, the worker's side: what is stored of a run, which steps the handler asks for, and how
 * the run goes on. All on the main thread. What is to be stored is asked of the broker
 * (ipc/msg_flow.h), and the handler goes on when it is.
 */

#include <pgqrs/handler.h>

#include "base/bytes.h"
#include "base/error.h"

struct pgqrs_job_host;
struct pgqrs_job_link;

/* flags: of struct pgqrs_handler. link is borrowed. The host has it until it is destroyed. */
int pgqrs_workflow_open(struct pgqrs_job_host *host, struct pgqrs_job_link *link, uint32_t flags,
                        struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_workflow_close(struct pgqrs_job_host *host);

/* After pgqrs_host_begin. False: do not run the handler, its outcome is PGQRS_PASS. */
bool pgqrs_workflow_begin(struct pgqrs_job_host *host);
/* Before pgqrs_host_end, whose outcome it may change. *frame_out: the message that says the
 * outcome, until the next begin; null: the ordinary result does. -1: there is no memory. */
int pgqrs_workflow_end(struct pgqrs_job_host *host, enum pgqrs_outcome *outcome,
                       const struct pgqrs_buf **frame_out,
                       struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* What struct pgqrs_host promises. */
enum pgqrs_rc pgqrs_workflow_step(struct pgqrs_job *job, const char *name,
                                  const struct pgqrs_step_options *options, pgqrs_step_fn fn,
                                  void *arg, const char **result_out);
enum pgqrs_rc pgqrs_workflow_sleep(struct pgqrs_job *job, const char *name, int64_t ms);
enum pgqrs_rc pgqrs_workflow_wait_event(struct pgqrs_job *job, const char *name, int64_t timeout_ms,
                                        const char **payload_out);
enum pgqrs_rc pgqrs_workflow_send_event(struct pgqrs_job *job, int64_t run, const char *name,
                                        const char *payload, size_t len, int *first_out);
enum pgqrs_rc pgqrs_workflow_run_child(struct pgqrs_job *job, const char *name,
                                       const char *workflow, const char *input, size_t len,
                                       int64_t *child_out);
enum pgqrs_rc pgqrs_workflow_join(struct pgqrs_job *job, const char *name, int64_t child,
                                  const char **output_out);
enum pgqrs_rc pgqrs_workflow_set_state(struct pgqrs_job *job, const char *key, const char *json,
                                       size_t len);
enum pgqrs_rc pgqrs_workflow_continue_as_new(struct pgqrs_job *job, const char *input, size_t len);
int pgqrs_workflow_step_sql(struct pgqrs_job *job, const char *statement, const char *const *params,
                            size_t count);
const char *pgqrs_workflow_step_error(struct pgqrs_job *job);

#endif
