/* SPDX-License-Identifier: Apache-2.0 */
/* What is in the calls about workflows and in their replies. */
#include "ipc/store_wire.h"

#define WORKFLOW_MIN 30
#define RUN_MIN 98
#define STEP_MIN 38
#define PAIR_MIN 20

/* ---- calls ---- */

void pgqrs_wire_call_runs(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    struct pgqrs_run_filter *v = &m->u.runs;
    v->workflow_id = pgqrs_wire_i64(w, v->workflow_id);
    v->status = pgqrs_wire_enum(w, v->status, PGQRS_RUN_STATUS_COUNT);
    v->parent_id = pgqrs_wire_i64(w, v->parent_id);
    v->before_id = pgqrs_wire_i64(w, v->before_id);
    v->limit = pgqrs_wire_u32(w, v->limit);
}

void pgqrs_wire_call_fork(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.fork.message_id = pgqrs_wire_i64(w, m->u.fork.message_id);
    m->u.fork.from_step = pgqrs_wire_maybe(w, m->u.fork.from_step);
    m->u.fork.input = pgqrs_wire_bytes(w, m->u.fork.input);
}

void pgqrs_wire_call_event(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.event.message_id = pgqrs_wire_i64(w, m->u.event.message_id);
    m->u.event.name = pgqrs_wire_text(w, m->u.event.name);
    m->u.event.payload = pgqrs_wire_bytes(w, m->u.event.payload);
}

/* ---- definitions ---- */

void pgqrs_wire_reply_workflow(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    m->u.workflow.id = pgqrs_wire_i64(w, m->u.workflow.id);
    m->u.workflow.existed = pgqrs_wire_flag(w, m->u.workflow.existed);
}

static void wire_workflow(struct pgqrs_wire *w, struct pgqrs_workflow *m)
{
    m->id = pgqrs_wire_i64(w, m->id);
    m->queue_id = pgqrs_wire_i64(w, m->queue_id);
    m->name = pgqrs_wire_own(w, m->name);
    m->created_at_us = pgqrs_wire_i64(w, m->created_at_us);
    if (m->name == NULL) {
        pgqrs_wire_fail(w, "workflow %lld has no name", (long long)m->id);
    }
}

void pgqrs_wire_reply_workflows(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    struct pgqrs_workflow_list *list = &m->u.workflows;
    struct pgqrs_workflow *read = pgqrs_wire_own_list(w, &list->count, WORKFLOW_MIN, sizeof *read);
    list->items = pgqrs_wire_reads(w) ? read : list->items;
    for (size_t i = 0; i < list->count && !w->failed; i++) {
        wire_workflow(w, &list->items[i]);
    }
}

void pgqrs_wire_fini_workflows(struct pgqrs_store_reply *m)
{
    pgqrs_workflow_list_fini(&m->u.workflows);
}

/* ---- runs ---- */

static void wire_run(struct pgqrs_wire *w, struct pgqrs_run *m)
{
    m->id = pgqrs_wire_i64(w, m->id);
    m->message_id = pgqrs_wire_i64(w, m->message_id);
    m->workflow_id = pgqrs_wire_i64(w, m->workflow_id);
    m->parent_id = pgqrs_wire_i64(w, m->parent_id);
    m->worker_id = pgqrs_wire_i64(w, m->worker_id);
    m->status = pgqrs_wire_enum(w, m->status, PGQRS_RUN_STATUS_COUNT);
    m->workflow = pgqrs_wire_own(w, m->workflow);
    m->input = pgqrs_wire_own(w, m->input);
    m->output = pgqrs_wire_own(w, m->output);
    m->error = pgqrs_wire_own(w, m->error);
    m->created_at_us = pgqrs_wire_i64(w, m->created_at_us);
    m->updated_at_us = pgqrs_wire_i64(w, m->updated_at_us);
    m->started_at_us = pgqrs_wire_i64(w, m->started_at_us);
    m->paused_at_us = pgqrs_wire_i64(w, m->paused_at_us);
    m->completed_at_us = pgqrs_wire_i64(w, m->completed_at_us);
    m->due_at_us = pgqrs_wire_i64(w, m->due_at_us);
    if (m->workflow == NULL) {
        pgqrs_wire_fail(w, "run %lld has no workflow", (long long)m->id);
    }
}

void pgqrs_wire_reply_runs(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    struct pgqrs_run_list *list = &m->u.runs;
    list->next_before_id = pgqrs_wire_i64(w, list->next_before_id);
    struct pgqrs_run *read = pgqrs_wire_own_list(w, &list->count, RUN_MIN, sizeof *read);
    list->items = pgqrs_wire_reads(w) ? read : list->items;
    for (size_t i = 0; i < list->count && !w->failed; i++) {
        wire_run(w, &list->items[i]);
    }
}

void pgqrs_wire_fini_runs(struct pgqrs_store_reply *m)
{
    pgqrs_run_list_fini(&m->u.runs);
}

void pgqrs_wire_reply_status(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    m->u.status = pgqrs_wire_enum(w, m->u.status, PGQRS_RUN_STATUS_COUNT);
}

void pgqrs_wire_reply_flag(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    m->u.flag = pgqrs_wire_flag(w, m->u.flag);
}

/* ---- what a run has ---- */

static void wire_step(struct pgqrs_wire *w, struct pgqrs_step *m)
{
    m->name = pgqrs_wire_own(w, m->name);
    m->kind = pgqrs_wire_enum(w, m->kind, PGQRS_STEP_KIND_COUNT);
    m->status = pgqrs_wire_enum(w, m->status, PGQRS_STEP_STATUS_COUNT);
    m->output = pgqrs_wire_own(w, m->output);
    m->error = pgqrs_wire_own(w, m->error);
    m->retry_count = pgqrs_wire_i32(w, m->retry_count);
    m->started_at_us = pgqrs_wire_i64(w, m->started_at_us);
    m->completed_at_us = pgqrs_wire_i64(w, m->completed_at_us);
    m->retry_at_us = pgqrs_wire_i64(w, m->retry_at_us);
    if (m->name == NULL) {
        pgqrs_wire_fail(w, "found a step without a name");
    }
}

void pgqrs_wire_reply_steps(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    struct pgqrs_step_list *list = &m->u.steps;
    struct pgqrs_step *read =
        pgqrs_wire_own_list_of(w, &list->count, PGQRS_STORE_STEPS_MAX, STEP_MIN, sizeof *read);
    list->items = pgqrs_wire_reads(w) ? read : list->items;
    for (size_t i = 0; i < list->count && !w->failed; i++) {
        wire_step(w, &list->items[i]);
    }
}

void pgqrs_wire_fini_steps(struct pgqrs_store_reply *m)
{
    pgqrs_step_list_fini(&m->u.steps);
}

static void wire_pair(struct pgqrs_wire *w, struct pgqrs_pair *m)
{
    m->name = pgqrs_wire_own(w, m->name);
    m->json = pgqrs_wire_own(w, m->json);
    m->at_us = pgqrs_wire_i64(w, m->at_us);
    if (m->name == NULL || m->json == NULL) {
        pgqrs_wire_fail(w, "found an event or a key without a name or a value");
    }
}

void pgqrs_wire_reply_pairs(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    struct pgqrs_pair_list *list = &m->u.pairs;
    struct pgqrs_pair *read =
        pgqrs_wire_own_list_of(w, &list->count, PGQRS_STORE_STEPS_MAX, PAIR_MIN, sizeof *read);
    list->items = pgqrs_wire_reads(w) ? read : list->items;
    for (size_t i = 0; i < list->count && !w->failed; i++) {
        wire_pair(w, &list->items[i]);
    }
}

void pgqrs_wire_fini_pairs(struct pgqrs_store_reply *m)
{
    pgqrs_pair_list_fini(&m->u.pairs);
}
