/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_WORKFLOW_H
#define PGQRS_STORE_WORKFLOW_H

/*
 * Durable workflows: the part of the store contract (store/store.h, whose rules hold here too) that
 * keeps definitions, runs, steps, events and state.
 *
 * A definition is a queue's second nature: it has the queue's name. A run is one message of that
 * queue, whose payload is {"input": VALUE}, and is addressed by the message's id everywhere; its
 * row in pgqrs_workflow_runs exists once a worker has begun it. Rows, states and JSON shapes are
 * those of pgqrs, and may be written by its clients.
 *
 * Ours besides them: pgqrsd_workflow_events (message_id, name, payload, created_at; one of a name),
 * pgqrsd_workflow_state (message_id, key, value, updated_at), pgqrsd_kind of a step (text, default
 * 'step'), pgqrsd_flow of a message (it has a run that we began) and pgqrsd_parent_id of a message
 * (the message whose run started it). A message with pgqrsd_flow that is archived in any way ends
 * its run in the same transaction (a trigger): CANCELLED when its outcome is 'cancelled' or the run
 * was CANCELLING, else ERROR with the message's error; a run that had ended stays as it is. The
 * end of a run with a parent sends the parent the event "child:ID", ID being the child's message,
 * payload {"status": "SUCCESS", "output": VALUE} or {"status": "ERROR" or "CANCELLED", "error":
 * VALUE}. Rows of messages that are deleted go with them.
 */

#include "store/store.h"

#define PGQRS_STEP_NAME_MAX 255
#define PGQRS_EVENT_NAME_MAX 255

enum pgqrs_run_status { /* pgqrs_workflow_status */
                        PGQRS_RUN_NONE = 0,
                        PGQRS_RUN_QUEUED,
                        PGQRS_RUN_RUNNING,
                        PGQRS_RUN_PAUSED,     /* sleeps, or waits for an event */
                        PGQRS_RUN_SUCCESS,    /* ended */
                        PGQRS_RUN_ERROR,      /* ended */
                        PGQRS_RUN_CANCELLING, /* to be cancelled: seen at its next boundary */
                        PGQRS_RUN_CANCELLED,  /* ended */
                        PGQRS_RUN_STATUS_COUNT
};
/* "QUEUED", ...; null for none. */
const char *pgqrs_run_status_name(enum pgqrs_run_status status);
/* PGQRS_RUN_NONE when there is none of that name. */
enum pgqrs_run_status pgqrs_run_status_from(struct pgqrs_bytes name);
static inline bool pgqrs_run_has_ended(enum pgqrs_run_status status)
{
    return status == PGQRS_RUN_SUCCESS || status == PGQRS_RUN_ERROR ||
           status == PGQRS_RUN_CANCELLED;
}

/* ---- definitions ---- */

struct pgqrs_workflow {
    int64_t id, queue_id;
    char *name; /* owned by the list */
    int64_t created_at_us;
};

struct pgqrs_workflow_list {
    struct pgqrs_workflow *items;
    size_t count;
};

/* The queue, unless there is one, and the definition, in one transaction. Repeating it is no error:
 * *existed_out (may be null) tells. */
int pgqrs_store_workflow_create(struct pgqrs_store *store, const char *name, int64_t *id_out,
                                bool *existed_out, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* By id upwards from after_id, up to limit, 1 to 1000. */
int pgqrs_store_workflow_list(struct pgqrs_store *store, int64_t after_id, uint32_t limit,
                              struct pgqrs_workflow_list *list_out,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_workflow_list_fini(struct pgqrs_workflow_list *list);
/* PGQRS_ERR_NOT_FOUND when there is no definition of that name. Free with _list_fini of a list of
 * one: the list has it. */
int pgqrs_store_workflow_find(struct pgqrs_store *store, const char *name,
                              struct pgqrs_workflow_list *one_out,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;
/*
 * Enqueues a run: item->payload is the input, one JSON value; what is stored is {"input": VALUE}.
 * PGQRS_ERR_NOT_FOUND when there is no definition. (store/workflow.c; from find and enqueue.)
 */
int pgqrs_store_workflow_trigger(struct pgqrs_store *store, const char *name,
                                 const struct pgqrs_enqueue *item, int64_t *message_id_out,
                                 bool *existed_out, struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* Appends {"input": VALUE}. */
int pgqrs_workflow_wrap(struct pgqrs_bytes input, struct pgqrs_buf *out,
                        struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- runs and steps, as people see them ---- */

struct pgqrs_run {
    int64_t id, message_id, workflow_id;
    int64_t parent_id; /* message of the run that started it; 0: none */
    int64_t worker_id; /* that runs it or ran it last; 0: none */
    enum pgqrs_run_status status;
    char *workflow; /* the definition's name */
    char *input;    /* JSON: the payload, with its wrapper */
    char *output;   /* JSON; null: none */
    char *error;    /* JSON; null: none */
    int64_t created_at_us, updated_at_us;
    int64_t started_at_us, paused_at_us, completed_at_us; /* 0: not yet */
    int64_t due_at_us; /* of its message, when that waits; 0: it is leased, or has ended */
};

struct pgqrs_run_list {
    struct pgqrs_run *items;
    size_t count;
    int64_t next_before_id; /* before_id of the next page; 0: this was the last one */
};

struct pgqrs_run_filter {
    int64_t workflow_id;          /* 0: all */
    enum pgqrs_run_status status; /* PGQRS_RUN_NONE: all */
    int64_t parent_id;            /* 0: all */
    int64_t before_id;            /* run id; 0: from the newest */
    uint32_t limit;               /* 1 to 1000 */
};

/* PGQRS_ERR_NOT_FOUND tells apart: there is no such message; it has no run (yet). */
int pgqrs_store_run_get(struct pgqrs_store *store, int64_t message_id,
                        struct pgqrs_run_list *one_out, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Newest first. As with message_list, a page may be short and not the last. */
int pgqrs_store_run_list(struct pgqrs_store *store, const struct pgqrs_run_filter *filter,
                         struct pgqrs_run_list *list_out, struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_run_list_fini(struct pgqrs_run_list *list);

enum pgqrs_step_status {
    PGQRS_STEP_NONE = 0,
    PGQRS_STEP_RUNNING, /* by a pgqrs client; ours write a step when it has ended */
    PGQRS_STEP_SUCCESS,
    PGQRS_STEP_ERROR, /* retry_at_us: runs again then; 0: for good */
    PGQRS_STEP_STATUS_COUNT
};

enum pgqrs_step_kind {                       /* pgqrsd_kind */
                       PGQRS_STEP_PLAIN = 0, /* "step" */
                       PGQRS_STEP_SLEEP,     /* "sleep": ERROR, code PAUSED until it has slept */
                       PGQRS_STEP_EVENT,     /* "event": ERROR, code PAUSED while it waits */
                       PGQRS_STEP_CHILD,     /* "child": its output is the child's message id */
                       PGQRS_STEP_CLEANUP,   /* "cleanup": runs in a cancelled run too */
                       PGQRS_STEP_KIND_COUNT
};
/* Inline: a worker has no part of the store. */
static inline const char *pgqrs_step_kind_name(enum pgqrs_step_kind kind)
{
    static const char *const names[PGQRS_STEP_KIND_COUNT] = {
        [PGQRS_STEP_PLAIN] = "step",      [PGQRS_STEP_SLEEP] = "sleep",
        [PGQRS_STEP_EVENT] = "event",     [PGQRS_STEP_CHILD] = "child",
        [PGQRS_STEP_CLEANUP] = "cleanup",
    };
    return names[kind < PGQRS_STEP_KIND_COUNT ? kind : PGQRS_STEP_PLAIN];
}
enum pgqrs_step_kind pgqrs_step_kind_from(struct pgqrs_bytes name); /* plain when unknown */
const char *pgqrs_step_status_name(enum pgqrs_step_status status);
enum pgqrs_step_status pgqrs_step_status_from(struct pgqrs_bytes name);

struct pgqrs_step {
    char *name;
    enum pgqrs_step_kind kind;
    enum pgqrs_step_status status;
    char *output; /* JSON; null: none */
    char *error;  /* JSON; null: none */
    int32_t retry_count;
    int64_t started_at_us, completed_at_us, retry_at_us; /* 0: none */
};

struct pgqrs_step_list { /* in the order in which they were first stored */
    struct pgqrs_step *items;
    size_t count;
};

int pgqrs_store_run_steps(struct pgqrs_store *store, int64_t message_id,
                          struct pgqrs_step_list *list_out,
                          struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_step_list_fini(struct pgqrs_step_list *list);

struct pgqrs_pair { /* an event's name and payload, a state's key and value */
    char *name;
    char *json;
    int64_t at_us;
};

struct pgqrs_pair_list {
    struct pgqrs_pair *items;
    size_t count;
};

/* What the run (or plain job) has set with set_state, and the events that were sent to it. Empty
 * when there are none. By name. */
int pgqrs_store_run_state(struct pgqrs_store *store, int64_t message_id,
                          struct pgqrs_pair_list *list_out,
                          struct pgqrs_error *err) PGQRS_MUST_CHECK;
int pgqrs_store_run_events(struct pgqrs_store *store, int64_t message_id,
                           struct pgqrs_pair_list *list_out,
                           struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_pair_list_fini(struct pgqrs_pair_list *list);

/*
 * QUEUED, RUNNING and PAUSED become CANCELLING, and a message that waits is due now, so that its
 * workflow sees it at once. A message without a run that waits is archived as cancelled.
 * *status_out is what the run is now; one that is CANCELLING or has ended is left alone.
 * PGQRS_ERR_NOT_FOUND; PGQRS_ERR_CONFLICT: the message has no run and is leased.
 */
int pgqrs_store_run_cancel(struct pgqrs_store *store, int64_t message_id,
                           enum pgqrs_run_status *status_out,
                           struct pgqrs_error *err) PGQRS_MUST_CHECK;
/*
 * A run whose message waits (it sleeps, waits for an event or for a step's retry) goes on now:
 * sleeps are over, retries due, waits for events timed out. *woken_out false: there was nothing to
 * wake (it runs, or has ended).
 */
int pgqrs_store_run_resume(struct pgqrs_store *store, int64_t message_id, bool *woken_out,
                           struct pgqrs_error *err) PGQRS_MUST_CHECK;
/*
 * A new run of the same workflow with the stored SUCCESS steps that came before from_step (null:
 * all of them), in their order, and the input (empty: that of the old one; else one JSON value,
 * unwrapped). PGQRS_ERR_NOT_FOUND: no such run or step.
 */
int pgqrs_store_run_fork(struct pgqrs_store *store, int64_t message_id, const char *from_step,
                         struct pgqrs_bytes input, int64_t *message_id_out,
                         struct pgqrs_error *err) PGQRS_MUST_CHECK;
/*
 * The first event of a name wins, for ever: *first_out false, nothing was changed. May be sent
 * before the run exists and before it waits; one that waits for it is due now, in the same
 * transaction. PGQRS_ERR_NOT_FOUND: no such message. PGQRS_ERR_CONFLICT: the run has ended, or the
 * message is archived.
 */
int pgqrs_store_event_send(struct pgqrs_store *store, int64_t message_id, const char *name,
                           struct pgqrs_bytes payload, bool *first_out,
                           struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- for the store's broker: what workers do ---- */

/*
 * A worker is about to run these leased messages. In one transaction, for each whose lease holds:
 * the run is made when there is none (QUEUED, input: the payload), and becomes RUNNING unless it is
 * CANCELLING or has ended (started_at once, worker_id, updated_at; an error that a pause has left
 * goes); the message gets pgqrsd_flow. What is stored comes back. May be unsynced, as a lease.
 */
struct pgqrs_run_open {
    struct pgqrs_lease_ref lease; /* in */
    bool held;                    /* out: the lease holds; else nothing below is set */
    int64_t run_id;
    enum pgqrs_run_status status; /* now */
    struct pgqrs_step_list steps;
    struct pgqrs_pair_list events;
};
int pgqrs_store_run_open(struct pgqrs_store *store, int64_t workflow_id,
                         struct pgqrs_run_open *opens, size_t count, int64_t *now_us_out,
                         struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_run_open_fini(struct pgqrs_run_open *open); /* what came out */

struct pgqrs_step_put { /* a step to be stored */
    const char *name;
    enum pgqrs_step_kind kind;
    enum pgqrs_step_status status; /* SUCCESS or ERROR */
    struct pgqrs_bytes output;     /* JSON; with SUCCESS; empty: JSON null is stored */
    struct pgqrs_bytes error;      /* JSON; with ERROR */
    int64_t retry_ms;              /* with ERROR: runs again so much later; -1: never */
    bool retried;                  /* with ERROR: counts as a retry (retry_count + 1) */
    int64_t took_ms;               /* started_at is so much before now, or stays as it was */
};

struct pgqrs_step_sql {               /* a statement of the handler's, in the step's transaction */
    const char *text;                 /* parameters are $1, $2, ... */
    const struct pgqrs_bytes *params; /* as text, in order; data null: NULL */
    size_t param_count;
};

enum pgqrs_flow_what {
    PGQRS_FLOW_NONE = 0,
    PGQRS_FLOW_STEP,    /* a step has ended */
    PGQRS_FLOW_STATE,   /* key and value; the steps, if any, too. Also for a job that is no workflow
                         */
    PGQRS_FLOW_SUCCESS, /* the run has ended: output; message archived as done */
    PGQRS_FLOW_ERROR,   /* the run has failed: error; message archived as a dead letter */
    PGQRS_FLOW_CANCEL,  /* the run has seen that it is cancelled: CANCELLED; message archived as
                           cancelled */
    PGQRS_FLOW_SUSPEND, /* given back, no attempt spent, due after delay_ms (-1: never by itself).
                           paused: the run is PAUSED with error, else it stays RUNNING. wait_event
                           not null, and the event is there: due now, nothing is paused. A run that
                           is CANCELLING stays so and is due now */
    PGQRS_FLOW_CONTINUE, /* SUCCESS with output {"continued_as": ID}: a new run with output as its
                            input, the old one's parent, and events that no step has taken */
    PGQRS_FLOW_COUNT
};

struct pgqrs_flow {
    struct pgqrs_lease_ref lease; /* fences everything */
    enum pgqrs_flow_what what;
    const struct pgqrs_step_put *steps; /* stored first; one that is SUCCESS already is not
                                           overwritten. STEP: the last one is what it is about */
    size_t step_count;
    struct pgqrs_bytes output; /* JSON; SUCCESS, CONTINUE; STATE: the value */
    struct pgqrs_bytes error;  /* JSON; ERROR, and SUSPEND with paused */
    const char *name;          /* STATE: the key. SUSPEND: the event it waits for, or null */
    int64_t delay_ms;          /* SUSPEND */
    bool paused;               /* SUSPEND */
    const struct pgqrs_follow_up *follow_ups; /* with STEP, SUCCESS: enqueued in the transaction */
    size_t follow_up_count;
    bool child; /* STEP: the first follow-up is a run of this one: pgqrsd_parent_id. The step's
                   output is its message id */
    const struct pgqrs_step_sql *sqls; /* STEP: in the transaction, before the step is stored */
    size_t sql_count;

    /* Out: */
    enum pgqrs_settled settled_out;
    bool failed_out; /* STEP: not stored, because a statement or a follow-up was refused; error_out
                        says why. The transaction holds nothing of this item */
    enum pgqrs_run_status status_out; /* the run's, after it; NONE: there is no run */
    char *output_out; /* STEP: what is stored now (of an earlier call, or the child's
                         id), JSON; null: what was given */
    char *error_out;  /* text */
};

/*
 * In one transaction, in order, each with all it brings or nothing of it; an item that fails for
 * what it brings does not harm the others (it may have a transaction of its own). A run that has
 * ended, or a lease that is lost: PGQRS_SETTLED_REFUSED. An item that was applied by an earlier
 * call (its outcome was unknown): PGQRS_SETTLED_BEFORE, where the rows tell. SUCCESS and CONTINUE
 * of a run that is CANCELLING make it CANCELLED. On failure nothing was applied, or,
 * PGQRS_ERR_UNKNOWN, perhaps everything; the same items may be tried again.
 */
int pgqrs_store_flow(struct pgqrs_store *store, struct pgqrs_flow *items, size_t count,
                     struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_flow_fini(struct pgqrs_flow *item); /* what came out */

#endif
