/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_MSG_FLOW_H
#define PGQRS_IPC_MSG_FLOW_H

/*
 * What a worker asks for while it runs a job: mostly steps of a workflow. JOB_FLOW is answered by
 * JOB_FLOWED with the same key and seq, or, when it ends the job, by JOB_SETTLED. A worker has one
 * unanswered at a time, and sends it again after a reconnect.
 */

#include "ipc/msg.h"
#include "store/workflow.h"

#define PGQRS_FLOW_STEPS_MAX 1000 /* in one message of a worker */
#define PGQRS_FLOW_SQL_MAX 100    /* statements of a step */
#define PGQRS_FLOW_SQL_BYTES_MAX (1u * 1024 * 1024)
#define PGQRS_FLOW_PARAMS_MAX 1000              /* of a statement */
#define PGQRS_RUN_STEPS_MAX 100000              /* of a run */
#define PGQRS_RUN_BYTES_MAX (12u * 1024 * 1024) /* of a run's stored steps and events */

enum pgqrs_ask {                      /* besides enum pgqrs_flow_what */
                 PGQRS_ASK_OPEN = 64, /* begin the run: what is stored of it */
                 PGQRS_ASK_EVENT,     /* send an event to event_run: item.name, item.output */
};

struct pgqrs_job_flow {
    struct pgqrs_job_key key;
    uint32_t seq;
    uint8_t what; /* enum pgqrs_flow_what or enum pgqrs_ask */
    int64_t event_run;
    struct pgqrs_job_times times; /* of a job that ends with it */
    struct pgqrs_flow item; /* its in-fields but the lease; what as above unless it is an ask */
    /* What the decoder allocated. */
    struct pgqrs_step_put *steps;
    struct pgqrs_follow_up *follow_ups;
    struct pgqrs_step_sql *sqls;
    struct pgqrs_bytes *params;
};
void pgqrs_encode_job_flow(struct pgqrs_buf *out, const struct pgqrs_job_flow *m);
/* Texts and bytes are borrowed from the frame. */
int pgqrs_decode_job_flow(const struct pgqrs_frame *f, struct pgqrs_job_flow *m,
                          struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_job_flow_fini(struct pgqrs_job_flow *m);
/* True when the job ends with it, and JOB_SETTLED is the answer. */
bool pgqrs_job_flow_ends(uint8_t what);

enum pgqrs_flow_verdict {
    PGQRS_FLOWED_STORED = 1,
    PGQRS_FLOWED_REFUSED = 2, /* the lease is lost, or the run has ended: stop */
    PGQRS_FLOWED_FAILED = 3,  /* this could not be done, as error says */
};

struct pgqrs_flow_step { /* a stored step, as the worker needs it */
    const char *name;
    enum pgqrs_step_kind kind;
    enum pgqrs_step_status status;
    struct pgqrs_bytes output, error; /* JSON; data null: none */
    int32_t retry_count;
    int64_t wait_ms; /* until it is due; 0: it is; -1: never */
};
struct pgqrs_flow_event {
    const char *name;
    struct pgqrs_bytes payload;
};

struct pgqrs_job_flowed {
    struct pgqrs_job_key key;
    uint32_t seq;
    enum pgqrs_flow_verdict verdict;
    enum pgqrs_run_status status;  /* of the run; NONE: it has none */
    bool first;                    /* EVENT */
    struct pgqrs_bytes output;     /* STEP: what is stored, when it is not what was sent */
    struct pgqrs_bytes error;      /* text; FAILED */
    struct pgqrs_flow_step *steps; /* OPEN; allocated */
    size_t step_count;
    struct pgqrs_flow_event *events; /* OPEN; allocated */
    size_t event_count;
};
void pgqrs_encode_job_flowed(struct pgqrs_buf *out, const struct pgqrs_job_flowed *m);
int pgqrs_decode_job_flowed(const struct pgqrs_frame *f, struct pgqrs_job_flowed *m,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_job_flowed_fini(struct pgqrs_job_flowed *m);

#endif
