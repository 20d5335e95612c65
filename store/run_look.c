/* SPDX-License-Identifier: Apache-2.0 */
#include "store/run_look.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/escape.h"

#define PAGE 1000
#define ESCAPED_MAX 6 /* bytes that one byte may become in a JSON string */

/* ---- what a message tells ---- */

/* As a JSON string; null without memory. */
static char *quote(const char *text)
{
    size_t len = strlen(text);
    size_t size = len * ESCAPED_MAX + 3;
    char *out = malloc(size);
    if (out != NULL) {
        out[0] = '"';
        size_t n = 1 + pgqrs_escape(out + 1, size - 2, text, len, true, NULL);
        memcpy(out + n, "\"", 2);
    }
    return out;
}

/* The name of the queue's workflow; to be freed. */
static int find_workflow(struct pgqrs_store *store, const struct pgqrs_message *m, int64_t *id_out,
                         char **name_out, struct pgqrs_error *err)
{
    struct pgqrs_workflow_list page;
    int64_t after = 0;
    size_t count;
    do {
        if (pgqrs_store_workflow_list(store, after, PAGE, &page, err) < 0) {
            return -1;
        }
        count = page.count;
        for (size_t i = 0; i < count; i++) {
            after = page.items[i].id;
            if (page.items[i].queue_id == m->queue_id) {
                *id_out = after;
                *name_out = strdup(page.items[i].name);
                pgqrs_workflow_list_fini(&page);
                return *name_out == NULL ? pgqrs_error_memory(err) : 0;
            }
        }
        pgqrs_workflow_list_fini(&page);
    } while (count == PAGE);
    return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND,
                           "message %lld is no run: its queue has no workflow", (long long)m->id);
}

static enum pgqrs_run_status ended_as(const char *outcome)
{
    if (outcome != NULL && strcmp(outcome, "done") == 0) {
        return PGQRS_RUN_SUCCESS; /* by a handler that is no workflow */
    }
    return outcome != NULL && strcmp(outcome, "cancelled") == 0 ? PGQRS_RUN_CANCELLED
                                                                : PGQRS_RUN_ERROR;
}

static char *copy(const char *text)
{
    return text == NULL ? NULL : strdup(text);
}

/* A run that its archived message has ended. */
static int end_by_message(struct pgqrs_run *run, const struct pgqrs_message *m,
                          struct pgqrs_error *err)
{
    static const char nobody[] = "its message was archived, and nobody had ended the run";
    bool done = (run->status = ended_as(m->outcome)) == PGQRS_RUN_SUCCESS;
    free(run->error);
    free(run->output);
    run->output = done ? copy(m->result) : NULL;
    run->error = done ? NULL : quote(m->error != NULL ? m->error : nobody);
    run->completed_at_us = m->archived_at_us;
    run->due_at_us = 0;
    bool memory = done ? run->output != NULL || m->result == NULL : run->error != NULL;
    return memory ? 0 : pgqrs_error_memory(err);
}

static int make_run(struct pgqrs_store *store, const struct pgqrs_message *m,
                    struct pgqrs_run_list *one_out, struct pgqrs_error *err)
{
    struct pgqrs_run *run = calloc(1, sizeof *run);
    if (run == NULL) {
        return pgqrs_error_memory(err);
    }
    *one_out = (struct pgqrs_run_list){.items = run, .count = 1};
    run->message_id = m->id;
    run->worker_id = m->consumer_worker_id;
    run->status = PGQRS_RUN_QUEUED;
    run->created_at_us = run->updated_at_us = m->enqueued_at_us;
    if (m->state == PGQRS_STATE_READY || m->state == PGQRS_STATE_DELAYED) {
        run->due_at_us = m->vt_us;
    }
    run->input = strdup(m->payload);
    int rc = run->input == NULL ? pgqrs_error_memory(err)
                                : find_workflow(store, m, &run->workflow_id, &run->workflow, err);
    if (rc == 0 && m->state == PGQRS_STATE_ARCHIVED) {
        rc = end_by_message(run, m, err);
    }
    if (rc < 0) {
        pgqrs_run_list_fini(one_out);
    }
    return rc;
}

/* ---- looking ---- */

/* Neither does the run say that it has ended, nor does its message wait. */
static int ask_message(struct pgqrs_store *store, struct pgqrs_run_list *one,
                       struct pgqrs_error *err)
{
    struct pgqrs_message m;
    int64_t id = one->items[0].message_id;
    if (pgqrs_store_message_get(store, id, &m, err) < 0) {
        return -1;
    }
    int rc = 0;
    if (m.state == PGQRS_STATE_ARCHIVED) {
        pgqrs_run_list_fini(one); /* both may have ended since */
        rc = pgqrs_store_run_get(store, id, one, err);
        if (rc == 0 && !pgqrs_run_has_ended(one->items[0].status)) {
            rc = end_by_message(&one->items[0], &m, err);
        }
    }
    pgqrs_message_fini(&m);
    return rc;
}

int pgqrs_store_run_look(struct pgqrs_store *store, int64_t message_id,
                         struct pgqrs_run_list *one_out, struct pgqrs_error *err)
{
    struct pgqrs_error why = {0};
    struct pgqrs_error *fill = err == NULL ? &why : err;
    if (pgqrs_store_run_get(store, message_id, one_out, fill) == 0) {
        const struct pgqrs_run *run = &one_out->items[0];
        if (pgqrs_run_has_ended(run->status) || run->due_at_us != 0 ||
            ask_message(store, one_out, fill) == 0) {
            return 0;
        }
        pgqrs_run_list_fini(one_out);
        return -1;
    }
    struct pgqrs_message m;
    if (fill->code != PGQRS_ERR_NOT_FOUND) {
        return -1;
    }
    if (pgqrs_store_message_get(store, message_id, &m, fill) < 0) {
        return fill->code != PGQRS_ERR_NOT_FOUND
                   ? -1
                   : pgqrs_error_set(fill, PGQRS_ERR_NOT_FOUND, "run %lld does not exist",
                                     (long long)message_id);
    }
    int rc = make_run(store, &m, one_out, fill);
    pgqrs_message_fini(&m);
    return rc;
}

/* ---- following ---- */

int64_t pgqrs_run_continued_as(const struct pgqrs_run *run)
{
    int64_t id = 0;
    if (run->status != PGQRS_RUN_SUCCESS || run->output == NULL) {
        return 0;
    }
    json_t *output = json_loads(run->output, 0, NULL);
    if (json_object_size(output) == 1) {
        id = json_integer_value(json_object_get(output, "continued_as"));
    }
    json_decref(output);
    return id == run->message_id ? 0 : id;
}

int pgqrs_store_run_follow(struct pgqrs_store *store, int64_t message_id,
                           struct pgqrs_run_list *one_out, struct pgqrs_error *err)
{
    int rc = pgqrs_store_run_look(store, message_id, one_out, err);
    while (rc == 0) {
        int64_t next = pgqrs_run_continued_as(&one_out->items[0]);
        if (next <= one_out->items[0].message_id) { /* a later message has a greater id */
            break;
        }
        pgqrs_run_list_fini(one_out);
        rc = pgqrs_store_run_look(store, next, one_out, err);
    }
    return rc;
}
