/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CLIENT_WORKFLOW_H
#define PGQRS_CLIENT_WORKFLOW_H

/*
 * Workflows: durable runs, which pgqrsd's workers (or other pgqrs clients) carry out. A part of
 * pgqrs/pgqrs.h, whose rules hold here too, and which includes it.
 */

#include <pgqrs/pgqrs.h>

#ifdef __cplusplus
extern "C" {
#endif

enum pgqrs_run_state {
    PGQRS_RUN_STATE_ANY = 0,
    PGQRS_RUN_STATE_QUEUED = 1,
    PGQRS_RUN_STATE_RUNNING = 2,
    PGQRS_RUN_STATE_PAUSED = 3,     /* sleeps, or waits for an event */
    PGQRS_RUN_STATE_SUCCESS = 4,    /* has ended: output */
    PGQRS_RUN_STATE_ERROR = 5,      /* has ended: error */
    PGQRS_RUN_STATE_CANCELLING = 6, /* will end as it sees that it is cancelled */
    PGQRS_RUN_STATE_CANCELLED = 7   /* has ended */
};

struct pgqrs_run_entry {
    int64_t id;     /* of its message, by which all calls name a run */
    int64_t run_id; /* of its row; 0: no worker has begun it */
    int64_t workflow_id;
    int64_t parent_id; /* the run that started it; 0: none */
    int64_t worker_id; /* that runs it or ran it last; 0: none */
    enum pgqrs_run_state status;
    uint32_t reserved_0;
    int64_t created_at_us, updated_at_us;
    int64_t started_at_us, paused_at_us, completed_at_us; /* 0: not yet */
    int64_t due_at_us;    /* when it goes on, while it waits; 0: it runs, or has ended */
    const char *workflow; /* its name */
    const char *input;    /* JSON: {"input": what it was triggered with} */
    const char *output;   /* JSON; null: none */
    const char *error;    /* JSON; of a paused one: what it waits for; null: none */
    uint64_t reserved[4];
};

struct pgqrs_run_page {
    const struct pgqrs_run_entry *items;
    size_t count;
    int64_t next; /* for the next page; 0: this is the last one */
};

struct pgqrs_run_query {
    const char *workflow; /* null: all */
    enum pgqrs_run_state status;
    uint32_t limit;    /* 1 to 1000; 0: 100 */
    int64_t parent_id; /* only those that this run has started; 0: all */
    int64_t next;      /* 0: the first page, else the page's */
    uint64_t reserved[4];
};

enum pgqrs_step_state {
    PGQRS_STEP_STATE_NONE = 0,
    PGQRS_STEP_STATE_RUNNING = 1,
    PGQRS_STEP_STATE_SUCCESS = 2,
    PGQRS_STEP_STATE_ERROR = 3 /* retry_at_us: goes on then; 0: it has failed for good */
};

struct pgqrs_step_entry {
    const char *name;
    const char *kind; /* "step", "sleep", "event", "child" or "cleanup" */
    enum pgqrs_step_state status;
    uint32_t retries;                                    /* so many more than the first attempt */
    const char *output;                                  /* JSON; null: none */
    const char *error;                                   /* JSON; null: none */
    int64_t started_at_us, completed_at_us, retry_at_us; /* 0: none */
    uint64_t reserved[4];
};

struct pgqrs_step_page { /* all steps, in the order in which they were first stored */
    const struct pgqrs_step_entry *items;
    size_t count;
};

/* The queue, unless there is one, and the definition; returns 1, or 0 when it was there already.
 * id_out may be null. */
PGQRS_API_CHECK int pgqrs_workflow_create(struct pgqrs_client *client, const char *name,
                                          int64_t *id_out, struct pgqrs_failure *failure);
/*
 * Enqueues a run, as pgqrs_enqueue does; the payload is the input, and the rules are about
 * {"input": payload}, which is what is stored. Returns 1; or 0 when its unique key existed.
 * PGQRS_E_NOT_FOUND: there is no such workflow.
 */
PGQRS_API_CHECK int pgqrs_workflow_trigger(struct pgqrs_client *client, const char *name,
                                           const struct pgqrs_item *item,
                                           struct pgqrs_receipt *receipt_out,
                                           struct pgqrs_failure *failure);
/*
 * How it stands with a run, begun or not, or with the one that goes on where it has ended: the page
 * has one entry, whose id may be another than the one asked for. Returns 1 when it has ended: the
 * status tells how; 0 when it has not after wait_ms (0: at once; -1: waits for ever), or when a
 * signal was handled. Free the page in both cases. PGQRS_E_NOT_FOUND: there is no such message, or
 * it is no run.
 */
PGQRS_API_CHECK int pgqrs_workflow_result(struct pgqrs_client *client, int64_t id, int64_t wait_ms,
                                          struct pgqrs_run_page **page_out,
                                          struct pgqrs_failure *failure);
/*
 * Asks a run to end, which it sees at its next step, at once if it waits; one that nobody has begun
 * ends here. status_out, unless null, is what it is now. One that has ended stays as it is.
 * PGQRS_E_CONFLICT: a worker is about to begin it, or another client has it; try again.
 */
PGQRS_API_CHECK int pgqrs_workflow_cancel(struct pgqrs_client *client, int64_t id,
                                          enum pgqrs_run_state *status_out,
                                          struct pgqrs_failure *failure);
/* A run that waits goes on now: sleeps are over, retries due, waits for events time out. Returns 1;
 * or 0 when it did not wait. */
PGQRS_API_CHECK int pgqrs_workflow_resume(struct pgqrs_client *client, int64_t id,
                                          struct pgqrs_failure *failure);
/*
 * Sends a run an event, one JSON value (null: JSON null), also before it waits for it. Returns 1;
 * or 0 when one of that name was sent before, which counts for ever: nothing was changed.
 * PGQRS_E_CONFLICT: the run has ended.
 */
PGQRS_API_CHECK int pgqrs_workflow_signal(struct pgqrs_client *client, int64_t id,
                                          const char *event, const char *payload,
                                          struct pgqrs_failure *failure);
/*
 * A new run of the same workflow, with the stored results of the steps before from_step (null: of
 * all), and with another input, one JSON value, unless null. PGQRS_E_NOT_FOUND: no such run or
 * step.
 */
PGQRS_API_CHECK int pgqrs_run_fork(struct pgqrs_client *client, int64_t id, const char *from_step,
                                   const char *input, int64_t *id_out,
                                   struct pgqrs_failure *failure);
/* A page with one run. PGQRS_E_NOT_FOUND also when no worker has begun it. */
PGQRS_API_CHECK int pgqrs_run_get(struct pgqrs_client *client, int64_t id,
                                  struct pgqrs_run_page **page_out, struct pgqrs_failure *failure);
/* Those that a worker has begun, the newest first. A page may be empty and not be the last: next
 * tells. query null: all zeros. */
PGQRS_API_CHECK int pgqrs_run_list(struct pgqrs_client *client, const struct pgqrs_run_query *query,
                                   struct pgqrs_run_page **page_out, struct pgqrs_failure *failure);
PGQRS_API void pgqrs_run_page_free(struct pgqrs_run_page *page);
PGQRS_API_CHECK int pgqrs_run_steps(struct pgqrs_client *client, int64_t id,
                                    struct pgqrs_step_page **page_out,
                                    struct pgqrs_failure *failure);
PGQRS_API void pgqrs_step_page_free(struct pgqrs_step_page *page);

#ifdef __cplusplus
}
#endif

#endif
