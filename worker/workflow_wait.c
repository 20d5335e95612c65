/* SPDX-License-Identifier: Apache-2.0 */
/* What a workflow waits for: time, events, other runs. */
#include "worker/workflow_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_member.h"
#include "base/log.h"
#include "base/utf8.h"

#define SLEPT_MAX 256 /* sleeps that are over and wait to be stored */
#define CHILD_EVENT "child:%" PRId64

/* Stored as a step that is due later, with the suspension, in one transaction. */
static enum pgqrs_rc wait_for(struct workflow *w, const char *name, enum pgqrs_step_kind kind,
                              int64_t ms, const char *event)
{
    char why[PGQRS_STEP_NAME_MAX + 64];
    (void)snprintf(why, sizeof why, kind == PGQRS_STEP_SLEEP ? "sleep \"%s\"" : "wait \"%s\"",
                   name);
    struct pgqrs_step_put *put = pgqrs_workflow_put(w, name, kind);
    if (put == NULL) {
        return PGQRS_RC_STOPPED;
    }
    put->status = PGQRS_STEP_ERROR;
    put->error = pgqrs_bytes_from(pgqrs_workflow_step_failure(w, true, "PAUSED", why, ms));
    put->retry_ms = ms;
    return pgqrs_workflow_suspend(w, ms, true, why, event);
}

/* That a time has passed needs no haste: it is stored with what comes next. */
static enum pgqrs_rc store_slept(struct pgqrs_job_host *host, const char *name)
{
    struct workflow *w = host->workflow;
    struct pgqrs_flow item = {0};
    struct pgqrs_job_flowed flowed;
    if (pgqrs_workflow_put(w, name, PGQRS_STEP_SLEEP) == NULL) {
        return PGQRS_RC_STOPPED;
    }
    if (w->put_count < SLEPT_MAX) {
        return PGQRS_RC_OK;
    }
    enum pgqrs_rc rc = pgqrs_workflow_ask(host, PGQRS_FLOW_STEP, &item, 0, &flowed);
    if (rc == PGQRS_RC_OK) {
        bool stored = flowed.verdict == PGQRS_FLOWED_STORED;
        pgqrs_job_flowed_fini(&flowed);
        rc = stored ? rc : pgqrs_workflow_break(w, "sleep \"%s\": it can not be stored", name);
    }
    return rc;
}

enum pgqrs_rc pgqrs_workflow_sleep(struct pgqrs_job *job, const char *name, int64_t ms)
{
    struct pgqrs_job_host *host;
    enum pgqrs_rc rc;
    struct workflow *w = pgqrs_workflow_enter(job, &host, &rc);
    const struct pgqrs_flow_step *step = NULL;
    const char *kept;
    int64_t wait_ms = 0;
    if (w == NULL) {
        return rc;
    }
    switch (pgqrs_workflow_look(w, name, 0, PGQRS_STEP_SLEEP, &kept, &step, &wait_ms, &rc)) {
    case LOOK_STOP:
        return rc;
    case LOOK_DONE:
        return PGQRS_RC_OK;
    case LOOK_LATER:
        return pgqrs_workflow_suspend(w, wait_ms, true, kept, NULL);
    case LOOK_NEW:
        if (ms > 0) {
            return wait_for(w, kept, PGQRS_STEP_SLEEP, ms < DELAY_MAX_MS ? ms : DELAY_MAX_MS, NULL);
        }
        break;
    case LOOK_AGAIN:
    case LOOK_FAILED:
        break;
    }
    return store_slept(host, kept);
}

/* ---- events ---- */

static const struct pgqrs_flow_event *find_event(const struct workflow *w, const char *name)
{
    for (size_t i = 0; i < w->open.event_count; i++) {
        if (strcmp(w->open.events[i].name, name) == 0) {
            return &w->open.events[i];
        }
    }
    return NULL;
}

/* Stored before the handler hears of it: whether it came in time must not be seen otherwise later.
 */
static enum pgqrs_rc store_event(struct pgqrs_job_host *host, const char *name,
                                 const struct pgqrs_flow_event *event)
{
    struct workflow *w = host->workflow;
    struct pgqrs_buf output = {0};
    struct pgqrs_flow item = {0};
    struct pgqrs_job_flowed flowed = {0};
    struct pgqrs_step_put *put = pgqrs_workflow_put(w, name, PGQRS_STEP_EVENT);
    if (put == NULL) {
        return PGQRS_RC_STOPPED;
    }
    if (event == NULL) {
        put->output = pgqrs_bytes_from("{\"timed_out\": true}");
    } else {
        pgqrs_buf_put(&output, "{\"event\": ", 10);
        pgqrs_buf_put(&output, event->payload.data, event->payload.len);
        pgqrs_buf_put_u8(&output, '}');
        put->output = (struct pgqrs_bytes){.data = (const char *)output.data, .len = output.len};
    }
    enum pgqrs_rc rc = output.failed ? pgqrs_workflow_break(w, "out of memory")
                                     : pgqrs_workflow_ask(host, PGQRS_FLOW_STEP, &item, 0, &flowed);
    pgqrs_buf_fini(&output);
    if (rc == PGQRS_RC_OK) {
        bool stored = flowed.verdict == PGQRS_FLOWED_STORED;
        pgqrs_job_flowed_fini(&flowed);
        rc = stored ? rc : pgqrs_workflow_break(w, "wait \"%s\": it can not be stored", name);
    }
    return rc;
}

static enum pgqrs_rc timed_out(struct workflow *w, const char *name)
{
    char text[PGQRS_STEP_NAME_MAX + 64];
    (void)snprintf(text, sizeof text, "wait \"%s\": it did not come in time", name);
    return pgqrs_workflow_fail(w, PGQRS_RC_TIMED_OUT, pgqrs_workflow_json_text(w, text));
}

static enum pgqrs_rc give_payload(struct workflow *w, struct pgqrs_bytes payload,
                                  const char **payload_out)
{
    const char *kept = pgqrs_workflow_keep(w, payload.data, payload.len);
    *payload_out = kept;
    return kept == NULL ? PGQRS_RC_STOPPED : PGQRS_RC_OK;
}

static enum pgqrs_rc wait_event(struct pgqrs_job_host *host, const char *name, const char *event,
                                int64_t timeout_ms, const char **payload_out)
{
    struct workflow *w = host->workflow;
    const struct pgqrs_flow_step *step = NULL;
    const char *kept;
    int64_t wait_ms = 0;
    enum pgqrs_rc rc;
    struct pgqrs_bytes payload;
    enum look look = pgqrs_workflow_look(w, name, 0, PGQRS_STEP_EVENT, &kept, &step, &wait_ms, &rc);
    if (look == LOOK_STOP) {
        return rc;
    }
    if (look == LOOK_DONE) {
        return pgqrs_json_member(step->output, "event", &payload)
                   ? give_payload(w, payload, payload_out)
                   : timed_out(w, kept);
    }
    const struct pgqrs_flow_event *found = find_event(w, event);
    if (found != NULL || look == LOOK_AGAIN || look == LOOK_FAILED || timeout_ms == 0) {
        rc = store_event(host, kept, found);
        return rc != PGQRS_RC_OK ? rc
               : found != NULL   ? give_payload(w, found->payload, payload_out)
                                 : timed_out(w, kept);
    }
    const char *kept_event = pgqrs_workflow_keep(w, event, strlen(event));
    if (look == LOOK_LATER) {
        return pgqrs_workflow_suspend(w, wait_ms, true, kept, kept_event);
    }
    int64_t ms = timeout_ms < 0 || timeout_ms > DELAY_MAX_MS ? DELAY_MAX_MS : timeout_ms;
    return wait_for(w, kept, PGQRS_STEP_EVENT, ms, kept_event);
}

static bool is_event_name(const char *name)
{
    size_t len = name == NULL ? 0 : strnlen(name, PGQRS_EVENT_NAME_MAX + 1);
    return len > 0 && len <= PGQRS_EVENT_NAME_MAX && pgqrs_utf8_valid(name);
}

enum pgqrs_rc pgqrs_workflow_wait_event(struct pgqrs_job *job, const char *name, int64_t timeout_ms,
                                        const char **payload_out)
{
    struct pgqrs_job_host *host;
    enum pgqrs_rc rc;
    const char *ignored;
    struct workflow *w = pgqrs_workflow_enter(job, &host, &rc);
    if (w == NULL) {
        return rc;
    }
    if (!is_event_name(name)) {
        return pgqrs_workflow_break(w, "event's name: expected 1 to %d bytes of UTF-8",
                                    PGQRS_EVENT_NAME_MAX);
    }
    return wait_event(host, name, name, timeout_ms, payload_out == NULL ? &ignored : payload_out);
}

static enum pgqrs_rc refused(struct workflow *w, const struct pgqrs_job_flowed *flowed)
{
    char text[1024];
    (void)snprintf(text, sizeof text, "%.*s", (int)flowed->error.len, flowed->error.data);
    return pgqrs_workflow_fail(w, PGQRS_RC_FAILED, pgqrs_workflow_json_text(w, text));
}

enum pgqrs_rc pgqrs_workflow_send_event(struct pgqrs_job *job, int64_t run, const char *name,
                                        const char *payload, size_t len, int *first_out)
{
    struct pgqrs_job_host *host = pgqrs_host_of(job);
    struct workflow *w = host == NULL ? NULL : host->workflow;
    struct pgqrs_job_flowed flowed = {0};
    if (w == NULL || w->said == PGQRS_RC_SUSPENDED || w->said == PGQRS_RC_STOPPED) {
        return PGQRS_RC_STOPPED;
    }
    if (!is_event_name(name) || run <= 0 || len > PGQRS_RESULT_MAX || payload == NULL ||
        !pgqrs_host_is_json(payload, len)) {
        return pgqrs_workflow_fail(
            w, PGQRS_RC_FAILED,
            "\"send_event: expected a run, a name of 1 to 255 bytes, and JSON of 1 MiB or less\"");
    }
    struct pgqrs_flow item = {.name = name, .output = {.data = payload, .len = len}};
    enum pgqrs_rc rc = pgqrs_workflow_ask(host, PGQRS_ASK_EVENT, &item, run, &flowed);
    if (rc != PGQRS_RC_OK) {
        return rc;
    }
    if (flowed.verdict == PGQRS_FLOWED_FAILED) {
        rc = refused(w, &flowed);
    } else if (first_out != NULL) {
        *first_out = flowed.first ? 1 : 0;
    }
    pgqrs_job_flowed_fini(&flowed);
    return rc;
}

/* ---- other runs ---- */

enum pgqrs_rc pgqrs_workflow_run_child(struct pgqrs_job *job, const char *name,
                                       const char *workflow, const char *input, size_t len,
                                       int64_t *child_out)
{
    struct pgqrs_job_host *host;
    enum pgqrs_rc rc;
    struct workflow *w = pgqrs_workflow_enter(job, &host, &rc);
    const struct pgqrs_flow_step *step = NULL;
    struct pgqrs_job_flowed flowed = {0};
    const char *kept;
    int64_t ignored = 0;
    int64_t wait_ms = 0;
    if (w == NULL) {
        return rc;
    }
    child_out = child_out == NULL ? &ignored : child_out;
    size_t name_len = workflow == NULL ? 0 : strnlen(workflow, PGQRS_NAME_MAX + 1);
    if (name_len == 0 || name_len > PGQRS_NAME_MAX || input == NULL ||
        len + 16 > PGQRS_PAYLOAD_MAX || !pgqrs_host_is_json(input, len)) {
        return pgqrs_workflow_break(w, "run_child: expected a workflow's name, and JSON");
    }
    enum look look = pgqrs_workflow_look(w, name, 0, PGQRS_STEP_CHILD, &kept, &step, &wait_ms, &rc);
    if (look == LOOK_STOP) {
        return rc;
    }
    if (look == LOOK_DONE) {
        *child_out = strtoll(step->output.data == NULL ? "0" : step->output.data, NULL, 10);
        return PGQRS_RC_OK;
    }
    if (look == LOOK_FAILED) {
        return pgqrs_workflow_step_failed(
            w, kept, pgqrs_workflow_keep(w, step->error.data, step->error.len));
    }
    struct pgqrs_buf wrapped = {0};
    pgqrs_buf_put(&wrapped, "{\"input\": ", 10);
    pgqrs_buf_put(&wrapped, input, len);
    pgqrs_buf_put_u8(&wrapped, '}');
    const struct pgqrs_follow_up child = {
        .queue = workflow,
        .item = {.payload = {.data = (const char *)wrapped.data, .len = wrapped.len}}};
    struct pgqrs_flow item = {.follow_ups = &child, .follow_up_count = 1, .child = true};
    rc = wrapped.failed || pgqrs_workflow_put(w, kept, PGQRS_STEP_CHILD) == NULL
             ? pgqrs_workflow_break(w, "out of memory")
             : pgqrs_workflow_ask(host, PGQRS_FLOW_STEP, &item, 0, &flowed);
    pgqrs_buf_fini(&wrapped);
    if (rc != PGQRS_RC_OK) {
        return rc;
    }
    if (flowed.verdict == PGQRS_FLOWED_FAILED) {
        rc = pgqrs_workflow_break(w, "run_child \"%s\": %.*s", kept, (int)flowed.error.len,
                                  flowed.error.data);
    } else {
        *child_out = strtoll(flowed.output.data == NULL ? "0" : flowed.output.data, NULL, 10);
    }
    pgqrs_job_flowed_fini(&flowed);
    return rc;
}

/* The end of one run; *next_out: it has continued as this one, 0: it has not. */
static enum pgqrs_rc join_one(struct pgqrs_job_host *host, const char *name, int64_t child,
                              struct pgqrs_bytes *ended_out, int64_t *next_out)
{
    char event[sizeof CHILD_EVENT + 24];
    const char *ended = NULL;
    struct pgqrs_bytes output;
    struct pgqrs_bytes next;
    (void)snprintf(event, sizeof event, CHILD_EVENT, child);
    enum pgqrs_rc rc = wait_event(host, name, event, -1, &ended);
    if (rc == PGQRS_RC_OK) {
        *ended_out = pgqrs_bytes_from(ended);
        *next_out = pgqrs_json_member(*ended_out, "output", &output) &&
                            pgqrs_json_member(output, "continued_as", &next)
                        ? strtoll(next.data, NULL, 10)
                        : 0;
    }
    return rc;
}

enum pgqrs_rc pgqrs_workflow_join(struct pgqrs_job *job, const char *name, int64_t child,
                                  const char **output_out)
{
    struct pgqrs_job_host *host;
    enum pgqrs_rc rc;
    char step[PGQRS_STEP_NAME_MAX + 1];
    struct pgqrs_bytes ended;
    struct pgqrs_bytes output;
    int64_t next = 0;
    struct workflow *w = pgqrs_workflow_enter(job, &host, &rc);
    if (w == NULL) {
        return rc;
    }
    rc = join_one(host, name, child, &ended, &next);
    while (rc == PGQRS_RC_OK && next != 0) {
        size_t len = pgqrs_utf8_copy(step, sizeof step - 24, name);
        (void)snprintf(step + len, sizeof step - len, ">%" PRId64, next);
        rc = join_one(host, step, next, &ended, &next);
    }
    if (rc != PGQRS_RC_OK) {
        return rc;
    }
    if (pgqrs_json_member(ended, "output", &output)) {
        const char *kept = pgqrs_workflow_keep(w, output.data, output.len);
        if (output_out != NULL) {
            *output_out = kept;
        }
        return kept == NULL ? PGQRS_RC_STOPPED : PGQRS_RC_OK;
    }
    if (!pgqrs_json_member(ended, "error", &output)) {
        output = ended;
    }
    return pgqrs_workflow_step_failed(w, name, pgqrs_workflow_keep(w, output.data, output.len));
}

/* ---- what can be seen, and starting again ---- */

enum pgqrs_rc pgqrs_workflow_set_state(struct pgqrs_job *job, const char *key, const char *json,
                                       size_t len)
{
    struct pgqrs_job_host *host = pgqrs_host_of(job);
    struct workflow *w = host == NULL ? NULL : host->workflow;
    struct pgqrs_job_flowed flowed = {0};
    if (w == NULL || w->said == PGQRS_RC_SUSPENDED || w->said == PGQRS_RC_STOPPED) {
        return PGQRS_RC_STOPPED;
    }
    if (!is_event_name(key) || json == NULL || len > PGQRS_RESULT_MAX ||
        !pgqrs_host_is_json(json, len)) {
        return pgqrs_workflow_fail(
            w, PGQRS_RC_FAILED,
            "\"set_state: expected a key of 1 to 255 bytes, and JSON of 1 MiB or less\"");
    }
    struct pgqrs_flow item = {.name = key, .output = {.data = json, .len = len}};
    enum pgqrs_rc rc = pgqrs_workflow_ask(host, PGQRS_FLOW_STATE, &item, 0, &flowed);
    if (rc != PGQRS_RC_OK) {
        return rc;
    }
    if (flowed.verdict == PGQRS_FLOWED_FAILED) {
        rc = refused(w, &flowed);
    }
    pgqrs_job_flowed_fini(&flowed);
    return rc;
}

enum pgqrs_rc pgqrs_workflow_continue_as_new(struct pgqrs_job *job, const char *input, size_t len)
{
    struct pgqrs_job_host *host;
    enum pgqrs_rc rc;
    struct workflow *w = pgqrs_workflow_enter(job, &host, &rc);
    if (w == NULL) {
        return rc;
    }
    if (input == NULL || len > PGQRS_RESULT_MAX || !pgqrs_host_is_json(input, len)) {
        return pgqrs_workflow_break(w, "continue_as_new: expected JSON of 1 MiB or less");
    }
    w->next_input = pgqrs_workflow_keep(w, input, len);
    if (!w->broken) {
        w->said = PGQRS_RC_SUSPENDED;
    }
    return w->said;
}
