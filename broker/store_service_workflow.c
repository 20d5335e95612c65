/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store_service_workflow.h"

#include <stdlib.h>
#include <string.h>

#define RUN_ROOM 160 /* of a run but for its texts */

static size_t text_size(const char *text)
{
    return text == NULL ? 0 : strlen(text);
}

static size_t run_size(const struct pgqrs_run *m)
{
    return RUN_ROOM + text_size(m->workflow) + text_size(m->input) + text_size(m->output) +
           text_size(m->error);
}

static void drop_runs_from(struct pgqrs_run_list *list, size_t keep)
{
    struct pgqrs_run_list rest = {.count = list->count - keep};
    rest.items = calloc(rest.count + 1, sizeof *rest.items);
    if (rest.items == NULL) {
        return; /* the reply will not fit, which is told */
    }
    memcpy(rest.items, list->items + keep, rest.count * sizeof *rest.items);
    list->next_before_id = list->items[keep - 1].id;
    list->count = keep;
    pgqrs_run_list_fini(&rest);
}

/* A page that would not fit into a reply ends before the first run that has no room. A first one
 * without room fails as the reply is encoded. */
static int64_t list_runs(struct pgqrs_store *store, const struct pgqrs_run_filter *filter,
                         struct pgqrs_run_list *list, size_t room, struct pgqrs_error *err)
{
    size_t size = 0;
    size_t fit = 0;
    if (pgqrs_store_run_list(store, filter, list, err) < 0) {
        return -1;
    }
    while (fit < list->count && (size += run_size(&list->items[fit])) <= room) {
        fit++;
    }
    if (fit > 0 && fit < list->count) {
        drop_runs_from(list, fit);
    }
    return 0;
}

int64_t pgqrs_store_service_workflow(struct pgqrs_store *store, const struct pgqrs_store_call *call,
                                     struct pgqrs_store_reply *reply, size_t room)
{
    struct pgqrs_error *err = &reply->err;
    switch ((int)call->op) {
    case PGQRS_STORE_WORKFLOW_CREATE:
        return pgqrs_store_workflow_create(store, call->u.name, &reply->u.workflow.id,
                                           &reply->u.workflow.existed, err);
    case PGQRS_STORE_WORKFLOW_LIST:
        return pgqrs_store_workflow_list(store, call->u.queue_list.after_id,
                                         call->u.queue_list.limit, &reply->u.workflows, err);
    case PGQRS_STORE_WORKFLOW_FIND:
        return pgqrs_store_workflow_find(store, call->u.name, &reply->u.workflows, err);
    case PGQRS_STORE_RUN_GET:
        return pgqrs_store_run_get(store, call->u.id, &reply->u.runs, err);
    case PGQRS_STORE_RUN_LIST:
        return list_runs(store, &call->u.runs, &reply->u.runs, room, err);
    case PGQRS_STORE_RUN_STEPS:
        return pgqrs_store_run_steps(store, call->u.id, &reply->u.steps, err);
    case PGQRS_STORE_RUN_STATE:
        return pgqrs_store_run_state(store, call->u.id, &reply->u.pairs, err);
    case PGQRS_STORE_RUN_EVENTS:
        return pgqrs_store_run_events(store, call->u.id, &reply->u.pairs, err);
    case PGQRS_STORE_RUN_CANCEL:
        return pgqrs_store_run_cancel(store, call->u.id, &reply->u.status, err);
    case PGQRS_STORE_RUN_RESUME:
        return pgqrs_store_run_resume(store, call->u.id, &reply->u.flag, err);
    case PGQRS_STORE_RUN_FORK:
        return pgqrs_store_run_fork(store, call->u.fork.message_id, call->u.fork.from_step,
                                    call->u.fork.input, &reply->u.id, err);
    case PGQRS_STORE_EVENT_SEND:
        return pgqrs_store_event_send(store, call->u.event.message_id, call->u.event.name,
                                      call->u.event.payload, &reply->u.flag, err);
    default:
        return pgqrs_error_set(err, PGQRS_ERR_INVALID, "%s is not about workflows",
                               pgqrs_store_op_name(call->op));
    }
}
