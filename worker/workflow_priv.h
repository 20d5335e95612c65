/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_WORKER_WORKFLOW_PRIV_H
#define PGQRS_WORKER_WORKFLOW_PRIV_H

/* Shared by workflow.c (a run, and what is asked of the broker), workflow_step.c and
 * workflow_wait.c (what a handler calls) and workflow_end.c. */

#include "ipc/msg_flow.h"
#include "worker/host_priv.h"

struct kept { /* lives until the job ends */
    struct kept *next;
    char text[];
};

struct stored_cursor {
    size_t index, passed;
};

struct workflow {
    struct pgqrs_job_link *link;
    uint32_t flags; /* of the handler */
    uint32_t seq;   /* of the last ask; never used twice */

    /* Of the job that runs. */
    enum pgqrs_run_status status;
    bool lost; /* the lease: nothing more is stored */
    bool in_step;
    struct pgqrs_buf record; /* what is stored: open borrows from it */
    struct pgqrs_job_flowed open;
    int64_t opened_ms;               /* monotonic */
    size_t at, cleanup_at;           /* the next stored step, among those of its sort */
    struct stored_cursor cursors[2]; /* where looking for it goes on: others, cleanup steps */
    void *asked;                     /* names of steps, a tree of search.h */
    struct pgqrs_step_put *puts;     /* to be stored with whatever is stored next */
    size_t put_count, put_cap;
    struct kept *kept;
    struct pgqrs_step_sql sqls[PGQRS_FLOW_SQL_MAX]; /* of the step that runs */
    size_t sql_count, sql_bytes;

    enum pgqrs_rc said;           /* what the last function that was not PGQRS_RC_OK returned */
    bool broken;                  /* the handler did what no workflow may; error says what */
    const char *failed;           /* the step that said FAILED; null: it was no step */
    const char *error;            /* JSON; of PGQRS_RC_FAILED, TIMED_OUT and broken */
    struct pgqrs_flow suspension; /* of PGQRS_RC_SUSPENDED; its steps are puts */
    int64_t snooze_ms;            /* instead, of a run that is being cancelled; -1: no */
    const char *next_input;       /* continue_as_new; null: no */
    struct pgqrs_buf ask;         /* the message under construction */
    struct pgqrs_buf last;        /* the one that ends the job */
};

/* Null: this is not the job that runs, or no workflow, or it must not be called here (in a step, or
 * after the end of the run was said); *rc_out is what to return then. */
struct workflow *pgqrs_workflow_enter(struct pgqrs_job *job, struct pgqrs_job_host **host_out,
                                      enum pgqrs_rc *rc_out);
struct workflow *pgqrs_workflow_of(struct pgqrs_job_host *host);

/* A copy that lives as long as the job; null: no memory, and the run is broken. */
char *pgqrs_workflow_keep(struct workflow *w, const char *data, size_t len);
/* A JSON object or text of these, kept. */
const char *pgqrs_workflow_step_failure(struct workflow *w, bool transient, const char *code,
                                        const char *message, int64_t retry_ms);
const char *pgqrs_workflow_json_text(struct workflow *w, const char *text);

/* The run is used in a way that can not go on. Returns PGQRS_RC_STOPPED. */
enum pgqrs_rc pgqrs_workflow_break(struct workflow *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* A step has failed for good, or a wait is over. Returns rc. error is JSON, kept. */
enum pgqrs_rc pgqrs_workflow_fail(struct workflow *w, enum pgqrs_rc rc, const char *error);
/* The same of a step. */
enum pgqrs_rc pgqrs_workflow_step_failed(struct workflow *w, const char *name, const char *error);

enum look {
    LOOK_STOP,   /* return *rc_out */
    LOOK_NEW,    /* nothing is stored: do it */
    LOOK_AGAIN,  /* it is stored, and due: do it again. *step_out */
    LOOK_LATER,  /* it is stored, and not due. *step_out, *wait_ms_out */
    LOOK_DONE,   /* its result is stored. *step_out */
    LOOK_FAILED, /* it has failed for good. *step_out */
};
/* The handler asks for the step. *name_out is a copy that lives as long as the job. */
enum look pgqrs_workflow_look(struct workflow *w, const char *name, uint32_t number,
                              enum pgqrs_step_kind kind, const char **name_out,
                              const struct pgqrs_flow_step **step_out, int64_t *wait_ms_out,
                              enum pgqrs_rc *rc_out);
/* To be stored with what is stored next; borrows. Null: no memory, the run is broken. */
struct pgqrs_step_put *pgqrs_workflow_put(struct workflow *w, const char *name,
                                          enum pgqrs_step_kind kind);

/* Jobs that the step or the run has added, borrowed; free the array. Null: no memory. */
struct pgqrs_follow_up *pgqrs_workflow_follow_ups(const struct pgqrs_job_host *host);
/* Asks the broker to do it, with the steps that were put. PGQRS_RC_OK: *flowed_out (decoded from
 * the answer; finish it) has FLOWED_STORED or FLOWED_FAILED. */
enum pgqrs_rc pgqrs_workflow_ask(struct pgqrs_job_host *host, uint8_t what, struct pgqrs_flow *item,
                                 int64_t event_run, struct pgqrs_job_flowed *flowed_out);
/* Nothing more happens until after_ms from now, or the event comes. Returns PGQRS_RC_SUSPENDED. */
enum pgqrs_rc pgqrs_workflow_suspend(struct workflow *w, int64_t after_ms, bool paused,
                                     const char *why, const char *event);

#endif
