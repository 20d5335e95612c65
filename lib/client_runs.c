/* SPDX-License-Identifier: Apache-2.0 */
/* Runs and their steps, as pages. */
#include "lib/client_runs.h"

#include <stdlib.h>

#define PAGE 100

_Static_assert((int)PGQRS_RUN_STATE_QUEUED == (int)PGQRS_RUN_QUEUED &&
                   (int)PGQRS_RUN_STATE_RUNNING == (int)PGQRS_RUN_RUNNING &&
                   (int)PGQRS_RUN_STATE_PAUSED == (int)PGQRS_RUN_PAUSED &&
                   (int)PGQRS_RUN_STATE_SUCCESS == (int)PGQRS_RUN_SUCCESS &&
                   (int)PGQRS_RUN_STATE_ERROR == (int)PGQRS_RUN_ERROR &&
                   (int)PGQRS_RUN_STATE_CANCELLING == (int)PGQRS_RUN_CANCELLING &&
                   (int)PGQRS_RUN_STATE_CANCELLED == (int)PGQRS_RUN_CANCELLED,
               "runs by the same numbers");
_Static_assert((int)PGQRS_STEP_STATE_RUNNING == (int)PGQRS_STEP_RUNNING &&
                   (int)PGQRS_STEP_STATE_SUCCESS == (int)PGQRS_STEP_SUCCESS &&
                   (int)PGQRS_STEP_STATE_ERROR == (int)PGQRS_STEP_ERROR,
               "steps by the same numbers");

/* ---- runs ---- */

struct run_page { /* what a struct pgqrs_run_page is the beginning of */
    struct pgqrs_run_page page;
    struct pgqrs_run_list list; /* the texts */
    struct pgqrs_run_entry items[];
};

static struct pgqrs_run_entry run_entry(const struct pgqrs_run *m)
{
    return (struct pgqrs_run_entry){
        .id = m->message_id,
        .run_id = m->id,
        .workflow_id = m->workflow_id,
        .parent_id = m->parent_id,
        .worker_id = m->worker_id,
        .status = (enum pgqrs_run_state)(int)m->status,
        .created_at_us = m->created_at_us,
        .updated_at_us = m->updated_at_us,
        .started_at_us = m->started_at_us,
        .paused_at_us = m->paused_at_us,
        .completed_at_us = m->completed_at_us,
        .due_at_us = m->due_at_us,
        .workflow = m->workflow,
        .input = m->input,
        .output = m->output,
        .error = m->error,
    };
}

int pgqrs_client_run_page(struct pgqrs_run_list *list, struct pgqrs_run_page **page_out,
                          struct pgqrs_failure *failure)
{
    struct run_page *page = calloc(1, sizeof *page + list->count * sizeof *page->items);
    if (page == NULL) {
        pgqrs_run_list_fini(list);
        return pgqrs_client_refuse(failure, PGQRS_E_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < list->count; i++) {
        page->items[i] = run_entry(&list->items[i]);
    }
    page->list = *list;
    page->page = (struct pgqrs_run_page){
        .items = page->items, .count = list->count, .next = list->next_before_id};
    *page_out = &page->page;
    return 0;
}

void pgqrs_run_page_free(struct pgqrs_run_page *page)
{
    struct run_page *all = (struct run_page *)page;
    if (all != NULL) {
        pgqrs_run_list_fini(&all->list);
        free(all);
    }
}

int pgqrs_run_get(struct pgqrs_client *client, int64_t id, struct pgqrs_run_page **page_out,
                  struct pgqrs_failure *failure)
{
    struct pgqrs_run_list one;
    struct pgqrs_error err;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    if (pgqrs_store_run_get(client->store, id, &one, &err) < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    return pgqrs_client_run_page(&one, page_out, failure);
}

/* name null: *id_out is 0, for all. */
static int find_workflow(struct pgqrs_client *client, const char *name, int64_t *id_out,
                         struct pgqrs_failure *failure)
{
    struct pgqrs_workflow_list one;
    struct pgqrs_error err;
    *id_out = 0;
    if (name == NULL) {
        return 0;
    }
    if (pgqrs_store_workflow_find(client->store, name, &one, &err) < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    *id_out = one.items[0].id;
    pgqrs_workflow_list_fini(&one);
    return 0;
}

int pgqrs_run_list(struct pgqrs_client *client, const struct pgqrs_run_query *query,
                   struct pgqrs_run_page **page_out, struct pgqrs_failure *failure)
{
    static const struct pgqrs_run_query all;
    const struct pgqrs_run_query *q = query == NULL ? &all : query;
    struct pgqrs_run_filter filter = {.status = (enum pgqrs_run_status)(int)q->status,
                                      .parent_id = q->parent_id,
                                      .before_id = q->next,
                                      .limit = q->limit == 0 ? PAGE : q->limit};
    struct pgqrs_run_list list;
    struct pgqrs_error err;
    if (pgqrs_client_need(client, failure) < 0 || PGQRS_CLIENT_RESERVED("query", q, failure) < 0) {
        return -1;
    }
    if ((unsigned)q->status > PGQRS_RUN_STATE_CANCELLED) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID,
                                   "query: found status %u, expected 0 "
                                   "to %d",
                                   (unsigned)q->status, (int)PGQRS_RUN_STATE_CANCELLED);
    }
    if (find_workflow(client, q->workflow, &filter.workflow_id, failure) < 0) {
        return -1;
    }
    if (pgqrs_store_run_list(client->store, &filter, &list, &err) < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    return pgqrs_client_run_page(&list, page_out, failure);
}

/* ---- steps ---- */

struct step_page { /* what a struct pgqrs_step_page is the beginning of */
    struct pgqrs_step_page page;
    struct pgqrs_step_list list; /* the texts */
    struct pgqrs_step_entry items[];
};

int pgqrs_run_steps(struct pgqrs_client *client, int64_t id, struct pgqrs_step_page **page_out,
                    struct pgqrs_failure *failure)
{
    struct pgqrs_step_list list;
    struct pgqrs_error err;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    if (pgqrs_store_run_steps(client->store, id, &list, &err) < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    struct step_page *page = calloc(1, sizeof *page + list.count * sizeof *page->items);
    if (page == NULL) {
        pgqrs_step_list_fini(&list);
        return pgqrs_client_refuse(failure, PGQRS_E_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct pgqrs_step *m = &list.items[i];
        page->items[i] =
            (struct pgqrs_step_entry){.name = m->name,
                                      .kind = pgqrs_step_kind_name(m->kind),
                                      .status = (enum pgqrs_step_state)(int)m->status,
                                      .retries = m->retry_count < 0 ? 0 : (uint32_t)m->retry_count,
                                      .output = m->output,
                                      .error = m->error,
                                      .started_at_us = m->started_at_us,
                                      .completed_at_us = m->completed_at_us,
                                      .retry_at_us = m->retry_at_us};
    }
    page->list = list;
    page->page = (struct pgqrs_step_page){.items = page->items, .count = list.count};
    *page_out = &page->page;
    return 0;
}

void pgqrs_step_page_free(struct pgqrs_step_page *page)
{
    struct step_page *all = (struct step_page *)page;
    if (all != NULL) {
        pgqrs_step_list_fini(&all->list);
        free(all);
    }
}
