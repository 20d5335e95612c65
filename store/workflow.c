/* SPDX-License-Identifier: Apache-2.0 */
#include "store/workflow.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "store/payload.h"
#include "store/store_priv.h"

#define NAME_MAX_BYTES 255
#define LIST_MAX 1000
#define FLOWS_MAX 10000

/* ---- names ---- */

static bool is_named(struct pgqrs_bytes given, const char *name)
{
    return name != NULL && strlen(name) == given.len && memcmp(name, given.data, given.len) == 0;
}

static const char *const run_names[PGQRS_RUN_STATUS_COUNT] = {
    [PGQRS_RUN_QUEUED] = "QUEUED",       [PGQRS_RUN_RUNNING] = "RUNNING",
    [PGQRS_RUN_PAUSED] = "PAUSED",       [PGQRS_RUN_SUCCESS] = "SUCCESS",
    [PGQRS_RUN_ERROR] = "ERROR",         [PGQRS_RUN_CANCELLING] = "CANCELLING",
    [PGQRS_RUN_CANCELLED] = "CANCELLED",
};
static const char *const step_names[PGQRS_STEP_STATUS_COUNT] = {
    [PGQRS_STEP_RUNNING] = "RUNNING",
    [PGQRS_STEP_SUCCESS] = "SUCCESS",
    [PGQRS_STEP_ERROR] = "ERROR",
};

const char *pgqrs_run_status_name(enum pgqrs_run_status status)
{
    return status > PGQRS_RUN_NONE && status < PGQRS_RUN_STATUS_COUNT ? run_names[status] : NULL;
}

enum pgqrs_run_status pgqrs_run_status_from(struct pgqrs_bytes name)
{
    for (int i = 1; i < PGQRS_RUN_STATUS_COUNT; i++) {
        if (is_named(name, run_names[i])) {
            return (enum pgqrs_run_status)i;
        }
    }
    return PGQRS_RUN_NONE;
}

const char *pgqrs_step_status_name(enum pgqrs_step_status status)
{
    return status > PGQRS_STEP_NONE && status < PGQRS_STEP_STATUS_COUNT ? step_names[status] : NULL;
}

enum pgqrs_step_status pgqrs_step_status_from(struct pgqrs_bytes name)
{
    for (int i = 1; i < PGQRS_STEP_STATUS_COUNT; i++) {
        if (is_named(name, step_names[i])) {
            return (enum pgqrs_step_status)i;
        }
    }
    return PGQRS_STEP_NONE;
}

enum pgqrs_step_kind pgqrs_step_kind_from(struct pgqrs_bytes name)
{
    for (int i = 0; i < PGQRS_STEP_KIND_COUNT; i++) {
        if (is_named(name, pgqrs_step_kind_name((enum pgqrs_step_kind)i))) {
            return (enum pgqrs_step_kind)i;
        }
    }
    return PGQRS_STEP_PLAIN;
}

/* ---- memory ---- */

void pgqrs_workflow_list_fini(struct pgqrs_workflow_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].name);
    }
    free(list->items);
    *list = (struct pgqrs_workflow_list){0};
}

void pgqrs_run_list_fini(struct pgqrs_run_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        struct pgqrs_run *run = &list->items[i];
        free(run->workflow);
        free(run->input);
        free(run->output);
        free(run->error);
    }
    free(list->items);
    *list = (struct pgqrs_run_list){0};
}

void pgqrs_step_list_fini(struct pgqrs_step_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].name);
        free(list->items[i].output);
        free(list->items[i].error);
    }
    free(list->items);
    *list = (struct pgqrs_step_list){0};
}

void pgqrs_pair_list_fini(struct pgqrs_pair_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].name);
        free(list->items[i].json);
    }
    free(list->items);
    *list = (struct pgqrs_pair_list){0};
}

void pgqrs_run_open_fini(struct pgqrs_run_open *open)
{
    pgqrs_step_list_fini(&open->steps);
    pgqrs_pair_list_fini(&open->events);
}

void pgqrs_flow_fini(struct pgqrs_flow *item)
{
    free(item->output_out);
    free(item->error_out);
    item->output_out = item->error_out = NULL;
}

/* ---- checks ---- */

static int ops_of(const struct pgqrs_store *store, const struct pgqrs_workflow_ops **ops_out,
                  struct pgqrs_error *err)
{
    *ops_out = store->ops->workflow;
    return *ops_out != NULL
               ? 0
               : pgqrs_error_set(err, PGQRS_ERR_INVALID,
                                 "workflows: a store of kind \"%s\" keeps none", store->ops->name);
}

static int check_name(const char *what, const char *name, struct pgqrs_error *err)
{
    size_t len = strlen(name);
    return len > 0 && len <= NAME_MAX_BYTES
               ? 0
               : pgqrs_error_set(err, PGQRS_ERR_INVALID, "%s: found %zu bytes, expected 1 to %d",
                                 what, len, NAME_MAX_BYTES);
}

/* ---- definitions ---- */

int pgqrs_store_workflow_create(struct pgqrs_store *store, const char *name, int64_t *id_out,
                                bool *existed_out, struct pgqrs_error *err)
{
    const struct pgqrs_workflow_ops *ops;
    bool existed;
    if (ops_of(store, &ops, err) < 0 || check_name("workflow's name", name, err) < 0) {
        return -1;
    }
    return ops->create(store, name, id_out, existed_out != NULL ? existed_out : &existed, err);
}

int pgqrs_store_workflow_list(struct pgqrs_store *store, int64_t after_id, uint32_t limit,
                              struct pgqrs_workflow_list *list_out, struct pgqrs_error *err)
{
    const struct pgqrs_workflow_ops *ops;
    *list_out = (struct pgqrs_workflow_list){0};
    if (ops_of(store, &ops, err) < 0 || pgqrs_store_check_limit(limit, LIST_MAX, err) < 0) {
        return -1;
    }
    return ops->list(store, after_id, limit, list_out, err);
}

int pgqrs_store_workflow_find(struct pgqrs_store *store, const char *name,
                              struct pgqrs_workflow_list *one_out, struct pgqrs_error *err)
{
    const struct pgqrs_workflow_ops *ops;
    *one_out = (struct pgqrs_workflow_list){0};
    if (ops_of(store, &ops, err) < 0 || check_name("workflow's name", name, err) < 0) {
        return -1;
    }
    return ops->find(store, name, one_out, err);
}

int pgqrs_store_workflow_trigger(struct pgqrs_store *store, const char *name,
                                 const struct pgqrs_enqueue *item, int64_t *message_id_out,
                                 bool *existed_out, struct pgqrs_error *err)
{
    struct pgqrs_workflow_list one;
    if (pgqrs_store_workflow_find(store, name, &one, err) < 0) {
        return -1;
    }
    int64_t queue_id = one.items[0].queue_id;
    pgqrs_workflow_list_fini(&one);
    struct pgqrs_buf wrapped = {0};
    struct pgqrs_enqueue wrapping = *item;
    if (pgqrs_workflow_wrap(item->payload, &wrapped, err) < 0) {
        return -1;
    }
    wrapping.payload = (struct pgqrs_bytes){.data = (const char *)wrapped.data, .len = wrapped.len};
    int rc = pgqrs_store_enqueue(store, queue_id, &wrapping, 1, message_id_out, existed_out, err);
    pgqrs_buf_fini(&wrapped);
    return rc;
}

int pgqrs_workflow_wrap(struct pgqrs_bytes input, struct pgqrs_buf *out, struct pgqrs_error *err)
{
    static const char before[] = "{\"input\": ";
    pgqrs_buf_put(out, before, sizeof before - 1);
    pgqrs_buf_put(out, input.data, input.len);
    pgqrs_buf_put_u8(out, '}');
    return out->failed ? pgqrs_error_memory(err) : 0;
}

/* ---- runs ---- */

int pgqrs_store_run_get(struct pgqrs_store *store, int64_t message_id,
                        struct pgqrs_run_list *one_out, struct pgqrs_error *err)
{
    const struct pgqrs_workflow_ops *ops;
    *one_out = (struct pgqrs_run_list){0};
    return ops_of(store, &ops, err) < 0 ? -1 : ops->run_get(store, message_id, one_out, err);
}

int pgqrs_store_run_list(struct pgqrs_store *store, const struct pgqrs_run_filter *filter,
                         struct pgqrs_run_list *list_out, struct pgqrs_error *err)
{
    const struct pgqrs_workflow_ops *ops;
    *list_out = (struct pgqrs_run_list){0};
    if (ops_of(store, &ops, err) < 0 || pgqrs_store_check_limit(filter->limit, LIST_MAX, err) < 0) {
        return -1;
    }
    return ops->run_list(store, filter, list_out, err);
}

int pgqrs_store_run_steps(struct pgqrs_store *store, int64_t message_id,
                          struct pgqrs_step_list *list_out, struct pgqrs_error *err)
{
    const struct pgqrs_workflow_ops *ops;
    *list_out = (struct pgqrs_step_list){0};
    return ops_of(store, &ops, err) < 0 ? -1 : ops->run_steps(store, message_id, list_out, err);
}

int pgqrs_store_run_state(struct pgqrs_store *store, int64_t message_id,
                          struct pgqrs_pair_list *list_out, struct pgqrs_error *err)
{
    const struct pgqrs_workflow_ops *ops;
    *list_out = (struct pgqrs_pair_list){0};
    return ops_of(store, &ops, err) < 0 ? -1 : ops->run_state(store, message_id, list_out, err);
}

int pgqrs_store_run_events(struct pgqrs_store *store, int64_t message_id,
                           struct pgqrs_pair_list *list_out, struct pgqrs_error *err)
{
    const struct pgqrs_workflow_ops *ops;
    *list_out = (struct pgqrs_pair_list){0};
    return ops_of(store, &ops, err) < 0 ? -1 : ops->run_events(store, message_id, list_out, err);
}

int pgqrs_store_run_cancel(struct pgqrs_store *store, int64_t message_id,
                           enum pgqrs_run_status *status_out, struct pgqrs_error *err)
{
    const struct pgqrs_workflow_ops *ops;
    return ops_of(store, &ops, err) < 0 ? -1 : ops->run_cancel(store, message_id, status_out, err);
}

int pgqrs_store_run_resume(struct pgqrs_store *store, int64_t message_id, bool *woken_out,
                           struct pgqrs_error *err)
{
    const struct pgqrs_workflow_ops *ops;
    return ops_of(store, &ops, err) < 0 ? -1 : ops->run_resume(store, message_id, woken_out, err);
}

int pgqrs_store_run_fork(struct pgqrs_store *store, int64_t message_id, const char *from_step,
                         struct pgqrs_bytes input, int64_t *message_id_out, struct pgqrs_error *err)
{
    const struct pgqrs_workflow_ops *ops;
    return ops_of(store, &ops, err) < 0
               ? -1
               : ops->run_fork(store, message_id, from_step, input, message_id_out, err);
}

int pgqrs_store_event_send(struct pgqrs_store *store, int64_t message_id, const char *name,
                           struct pgqrs_bytes payload, bool *first_out, struct pgqrs_error *err)
{
    const struct pgqrs_workflow_ops *ops;
    if (ops_of(store, &ops, err) < 0 || check_name("event's name", name, err) < 0) {
        return -1;
    }
    return ops->event_send(store, message_id, name, payload, first_out, err);
}

/* ---- for the broker ---- */

static int brokers_only(const struct pgqrs_store *store, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                           "runs: only the store's broker begins and ends them, found a store of "
                           "kind \"%s\"",
                           store->ops->name);
}

int pgqrs_store_run_open(struct pgqrs_store *store, int64_t workflow_id,
                         struct pgqrs_run_open *opens, size_t count, int64_t *now_us_out,
                         struct pgqrs_error *err)
{
    const struct pgqrs_workflow_ops *ops;
    if (ops_of(store, &ops, err) < 0) {
        return -1;
    }
    if (ops->run_open == NULL) {
        return brokers_only(store, err);
    }
    for (size_t i = 0; i < count; i++) {
        opens[i] = (struct pgqrs_run_open){.lease = opens[i].lease};
    }
    int rc = ops->run_open(store, workflow_id, opens, count, now_us_out, err);
    for (size_t i = 0; rc < 0 && i < count; i++) {
        pgqrs_run_open_fini(&opens[i]);
    }
    return rc;
}

static int check_flow(const struct pgqrs_flow *item, struct pgqrs_error *err)
{
    if (item->what <= PGQRS_FLOW_NONE || item->what >= PGQRS_FLOW_COUNT ||
        (item->what == PGQRS_FLOW_STEP && item->step_count == 0) ||
        (item->child && item->follow_up_count == 0)) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID, "flow of kind %d", (int)item->what);
    }
    for (size_t i = 0; i < item->step_count; i++) {
        if (check_name("step's name", item->steps[i].name, err) < 0) {
            return -1;
        }
    }
    return item->name == NULL ? 0 : check_name("name", item->name, err);
}

int pgqrs_store_flow(struct pgqrs_store *store, struct pgqrs_flow *items, size_t count,
                     struct pgqrs_error *err)
{
    const struct pgqrs_workflow_ops *ops;
    if (ops_of(store, &ops, err) < 0) {
        return -1;
    }
    if (ops->flow == NULL) {
        return brokers_only(store, err);
    }
    if (count > FLOWS_MAX) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID, "flow: found %zu items, expected up to %d",
                               count, FLOWS_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        pgqrs_flow_fini(&items[i]);
        items[i].settled_out = PGQRS_SETTLED_NONE;
        items[i].failed_out = false;
        items[i].status_out = PGQRS_RUN_NONE;
        if (check_flow(&items[i], err) < 0) {
            return -1;
        }
    }
    return count == 0 ? 0 : ops->flow(store, items, count, err);
}
