/* SPDX-License-Identifier: Apache-2.0 */
#include "store/remote/remote_priv.h"

/* err may be null in the store's contract; what fills it in must not be. */
static int call(struct pgqrs_store *store, struct pgqrs_store_call *c,
                struct pgqrs_store_reply *reply, struct pgqrs_error *err)
{
    struct pgqrs_error unread;
    return pgqrs_remote_call((struct remote_store *)store, c, reply, err == NULL ? &unread : err);
}

static int call_about(struct pgqrs_store *store, enum pgqrs_store_op op, int64_t message_id,
                      struct pgqrs_store_reply *reply, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = op, .u.id = message_id};
    return call(store, &c, reply, err);
}

/* ---- definitions ---- */

static int create(struct pgqrs_store *store, const char *name, int64_t *id_out, bool *existed_out,
                  struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_WORKFLOW_CREATE, .u.name = name};
    struct pgqrs_store_reply reply;
    if (call(store, &c, &reply, err) < 0) {
        return -1;
    }
    *id_out = reply.u.workflow.id;
    *existed_out = reply.u.workflow.existed;
    pgqrs_store_reply_fini(&reply);
    return 0;
}

static int take_workflows(struct pgqrs_store *store, struct pgqrs_store_call *c,
                          struct pgqrs_workflow_list *list_out, struct pgqrs_error *err)
{
    struct pgqrs_store_reply reply;
    if (call(store, c, &reply, err) < 0) {
        return -1;
    }
    *list_out = reply.u.workflows;
    reply.u.workflows = (struct pgqrs_workflow_list){0};
    pgqrs_store_reply_fini(&reply);
    return 0;
}

static int list(struct pgqrs_store *store, int64_t after_id, uint32_t limit,
                struct pgqrs_workflow_list *list_out, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_WORKFLOW_LIST,
                                 .u.queue_list = {.after_id = after_id, .limit = limit}};
    return take_workflows(store, &c, list_out, err);
}

/* What callers of _find and _get rely on. */
static int need_one(struct pgqrs_store *store, enum pgqrs_store_op op, size_t count,
                    struct pgqrs_error *err)
{
    struct pgqrs_error unread;
    return count == 1 ? 0
                      : pgqrs_remote_nonsense((struct remote_store *)store, op,
                                              err == NULL ? &unread : err);
}

static int find(struct pgqrs_store *store, const char *name, struct pgqrs_workflow_list *one_out,
                struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_WORKFLOW_FIND, .u.name = name};
    if (take_workflows(store, &c, one_out, err) < 0) {
        return -1;
    }
    if (need_one(store, c.op, one_out->count, err) < 0) {
        pgqrs_workflow_list_fini(one_out);
        return -1;
    }
    return 0;
}

/* ---- runs ---- */

static int take_runs(struct pgqrs_store *store, struct pgqrs_store_call *c,
                     struct pgqrs_run_list *list_out, struct pgqrs_error *err)
{
    struct pgqrs_store_reply reply;
    if (call(store, c, &reply, err) < 0) {
        return -1;
    }
    *list_out = reply.u.runs;
    reply.u.runs = (struct pgqrs_run_list){0};
    pgqrs_store_reply_fini(&reply);
    return 0;
}

static int run_get(struct pgqrs_store *store, int64_t message_id, struct pgqrs_run_list *one_out,
                   struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_RUN_GET, .u.id = message_id};
    if (take_runs(store, &c, one_out, err) < 0) {
        return -1;
    }
    if (need_one(store, c.op, one_out->count, err) < 0) {
        pgqrs_run_list_fini(one_out);
        return -1;
    }
    return 0;
}

static int run_list(struct pgqrs_store *store, const struct pgqrs_run_filter *filter,
                    struct pgqrs_run_list *list_out, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_RUN_LIST, .u.runs = *filter};
    return take_runs(store, &c, list_out, err);
}

static int run_steps(struct pgqrs_store *store, int64_t message_id,
                     struct pgqrs_step_list *list_out, struct pgqrs_error *err)
{
    struct pgqrs_store_reply reply;
    if (call_about(store, PGQRS_STORE_RUN_STEPS, message_id, &reply, err) < 0) {
        return -1;
    }
    *list_out = reply.u.steps;
    reply.u.steps = (struct pgqrs_step_list){0};
    pgqrs_store_reply_fini(&reply);
    return 0;
}

static int take_pairs(struct pgqrs_store *store, enum pgqrs_store_op op, int64_t message_id,
                      struct pgqrs_pair_list *list_out, struct pgqrs_error *err)
{
    struct pgqrs_store_reply reply;
    if (call_about(store, op, message_id, &reply, err) < 0) {
        return -1;
    }
    *list_out = reply.u.pairs;
    reply.u.pairs = (struct pgqrs_pair_list){0};
    pgqrs_store_reply_fini(&reply);
    return 0;
}

static int run_state(struct pgqrs_store *store, int64_t message_id,
                     struct pgqrs_pair_list *list_out, struct pgqrs_error *err)
{
    return take_pairs(store, PGQRS_STORE_RUN_STATE, message_id, list_out, err);
}

static int run_events(struct pgqrs_store *store, int64_t message_id,
                      struct pgqrs_pair_list *list_out, struct pgqrs_error *err)
{
    return take_pairs(store, PGQRS_STORE_RUN_EVENTS, message_id, list_out, err);
}

static int run_cancel(struct pgqrs_store *store, int64_t message_id,
                      enum pgqrs_run_status *status_out, struct pgqrs_error *err)
{
    struct pgqrs_store_reply reply;
    if (call_about(store, PGQRS_STORE_RUN_CANCEL, message_id, &reply, err) < 0) {
        return -1;
    }
    *status_out = reply.u.status;
    pgqrs_store_reply_fini(&reply);
    return 0;
}

static int run_resume(struct pgqrs_store *store, int64_t message_id, bool *woken_out,
                      struct pgqrs_error *err)
{
    struct pgqrs_store_reply reply;
    if (call_about(store, PGQRS_STORE_RUN_RESUME, message_id, &reply, err) < 0) {
        return -1;
    }
    *woken_out = reply.u.flag;
    pgqrs_store_reply_fini(&reply);
    return 0;
}

static int run_fork(struct pgqrs_store *store, int64_t message_id, const char *from_step,
                    struct pgqrs_bytes input, int64_t *message_id_out, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {
        .op = PGQRS_STORE_RUN_FORK,
        .u.fork = {.message_id = message_id, .from_step = from_step, .input = input}};
    struct pgqrs_store_reply reply;
    if (call(store, &c, &reply, err) < 0) {
        return -1;
    }
    *message_id_out = reply.u.id;
    pgqrs_store_reply_fini(&reply);
    return 0;
}

static int event_send(struct pgqrs_store *store, int64_t message_id, const char *name,
                      struct pgqrs_bytes payload, bool *first_out, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {
        .op = PGQRS_STORE_EVENT_SEND,
        .u.event = {.message_id = message_id, .name = name, .payload = payload}};
    struct pgqrs_store_reply reply;
    if (call(store, &c, &reply, err) < 0) {
        return -1;
    }
    *first_out = reply.u.flag;
    pgqrs_store_reply_fini(&reply);
    return 0;
}

const struct pgqrs_workflow_ops pgqrs_remote_workflow_ops = {
    .create = create,
    .list = list,
    .find = find,
    .run_get = run_get,
    .run_list = run_list,
    .run_steps = run_steps,
    .run_state = run_state,
    .run_events = run_events,
    .run_cancel = run_cancel,
    .run_resume = run_resume,
    .run_fork = run_fork,
    .event_send = event_send,
};
