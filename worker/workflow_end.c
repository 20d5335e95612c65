/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/workflow_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

/* A workflow that ends before what it has stored has been changed. */
static bool has_asked_for_all(struct workflow *w)
{
    size_t count = 0;
    const char *next = NULL;
    for (size_t i = 0; i < w->open.step_count; i++) {
        if (w->open.steps[i].kind != PGQRS_STEP_CLEANUP && count++ == w->at) {
            next = w->open.steps[i].name;
        }
    }
    if (count > w->at && w->status != PGQRS_RUN_CANCELLING) {
        (void)pgqrs_workflow_break(
            w,
            "the run ends after %zu steps, where it has stored %zu, the next "
            "one \"%s\": the workflow was changed while the run was under way",
            w->at, count, next);
        return false;
    }
    return true;
}

/* Of a step's error the message, with the step's name. */
static const char *in_words(struct workflow *w)
{
    char text[PGQRS_ERROR_TEXT_MAX];
    json_t *error = json_loads(w->error, JSON_DECODE_ANY, NULL);
    const char *message = json_string_value(json_object_get(error, "message"));
    if (w->failed != NULL && message != NULL) {
        (void)snprintf(text, sizeof text, "step \"%s\": %s", w->failed, message);
    }
    const char *words =
        w->failed == NULL || message == NULL ? w->error : pgqrs_workflow_json_text(w, text);
    json_decref(error); /* accepts null */
    return words;
}

/* The message of an error, or all of it, as the run's: pgqrs stores a text. */
static struct pgqrs_bytes run_error(struct workflow *w, const struct pgqrs_job_host *host)
{
    if (w->error != NULL) {
        return pgqrs_bytes_from(in_words(w));
    }
    return pgqrs_bytes_from(
        pgqrs_workflow_json_text(w, host->said.error_len > 0 ? host->said.error : "failed"));
}

/* How the run goes on; NONE: as any other job. */
static enum pgqrs_flow_what decide(struct pgqrs_job_host *host, enum pgqrs_outcome *outcome)
{
    struct workflow *w = host->workflow;
    if (w->in_step) {
        (void)pgqrs_workflow_break(w, "a step did not return");
    }
    if (w->broken) {
        return PGQRS_FLOW_ERROR;
    }
    if (w->lost || w->said == PGQRS_RC_STOPPED) {
        *outcome = PGQRS_CANCELLED;
        return PGQRS_FLOW_NONE;
    }
    if (w->said == PGQRS_RC_SUSPENDED) { /* whatever it returned: it was to pass that up */
        if (w->snooze_ms >= 0) {
            host->said.delay_ms = w->snooze_ms;
            *outcome = PGQRS_SNOOZE;
            return PGQRS_FLOW_NONE;
        }
        return w->next_input != NULL ? PGQRS_FLOW_CONTINUE : PGQRS_FLOW_SUSPEND;
    }
    if (w->status == PGQRS_RUN_CANCELLING && *outcome != PGQRS_RETRY && *outcome != PGQRS_SNOOZE) {
        return PGQRS_FLOW_CANCEL;
    }
    switch (*outcome) {
    case PGQRS_DONE:
        return has_asked_for_all(w) ? PGQRS_FLOW_SUCCESS : PGQRS_FLOW_ERROR;
    case PGQRS_FAIL:
        w->error = NULL; /* what the handler says about it */
        return PGQRS_FLOW_ERROR;
    case PGQRS_PASS:
        if (w->said == PGQRS_RC_OK) {
            (void)pgqrs_workflow_break(w, "it returned PGQRS_PASS, and no function had said so");
        }
        return PGQRS_FLOW_ERROR;
    case PGQRS_SNOOZE:
    case PGQRS_RETRY:
    case PGQRS_CANCELLED:
        break;
    }
    return PGQRS_FLOW_NONE;
}

static int encode_end(struct pgqrs_job_host *host, enum pgqrs_flow_what what,
                      struct pgqrs_error *err)
{
    struct workflow *w = host->workflow;
    struct pgqrs_follow_up *follow_ups = pgqrs_workflow_follow_ups(host);
    if (follow_ups == NULL) {
        return pgqrs_error_memory(err);
    }
    struct pgqrs_flow item = what == PGQRS_FLOW_SUSPEND ? w->suspension : (struct pgqrs_flow){0};
    item.steps = w->puts;
    item.step_count = w->broken ? 0 : w->put_count; /* they may borrow what is gone */
    if (what == PGQRS_FLOW_SUCCESS) {
        item.output = host->said.result.len == 0
                          ? pgqrs_bytes_from("null")
                          : (struct pgqrs_bytes){.data = (const char *)host->said.result.data,
                                                 .len = host->said.result.len};
        item.follow_ups = follow_ups;
        item.follow_up_count = host->said.enqueue_count;
    } else if (what == PGQRS_FLOW_CONTINUE) {
        item.output = pgqrs_bytes_from(w->next_input);
    } else if (what == PGQRS_FLOW_ERROR) {
        item.error = run_error(w, host);
    }
    const struct pgqrs_job_flow end = {.key = host->key,
                                       .seq = ++w->seq,
                                       .what = (uint8_t)what,
                                       .times = pgqrs_host_times(host),
                                       .item = item};
    pgqrs_buf_clear(&w->last);
    pgqrs_encode_job_flow(&w->last, &end);
    free(follow_ups);
    return w->last.failed ? pgqrs_error_memory(err) : 0;
}

int pgqrs_workflow_end(struct pgqrs_job_host *host, enum pgqrs_outcome *outcome,
                       const struct pgqrs_buf **frame_out, struct pgqrs_error *err)
{
    struct workflow *w = pgqrs_workflow_of(host);
    *frame_out = NULL;
    if (w == NULL) {
        return 0;
    }
    if (pgqrs_run_has_ended(w->status)) { /* only its message was left */
        *outcome = w->status == PGQRS_RUN_SUCCESS ? PGQRS_DONE : PGQRS_FAIL;
        if (*outcome == PGQRS_FAIL) {
            host->said.error_len = (size_t)snprintf(
                host->said.error, sizeof host->said.error, "its run has ended before: %s",
                w->status == PGQRS_RUN_ERROR ? "ERROR" : "CANCELLED");
        }
        return 0;
    }
    enum pgqrs_flow_what what = decide(host, outcome);
    if (what == PGQRS_FLOW_NONE) {
        return 0;
    }
    if (encode_end(host, what, err) < 0) {
        return -1;
    }
    *frame_out = &w->last;
    return 0;
}
