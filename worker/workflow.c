/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/workflow_priv.h"

#include <search.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "worker/job_link.h"

#define BUFFER_KEEP (64u * 1024)

/* ---- memory of a job ---- */

char *pgqrs_workflow_keep(struct workflow *w, const char *data, size_t len)
{
    struct kept *kept = malloc(sizeof *kept + len + 1);
    if (kept == NULL) {
        w->broken = true;
        w->said = PGQRS_RC_STOPPED;
        w->error = "\"out of memory\"";
        return NULL;
    }
    if (data != NULL) {
        memcpy(kept->text, data, len);
    } else {
        memset(kept->text, 0, len);
    }
    kept->text[len] = 0;
    kept->next = w->kept;
    w->kept = kept;
    return kept->text;
}

static const char *keep_json(struct workflow *w, json_t *value)
{
    char *text = value == NULL ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    const char *kept =
        text == NULL ? "\"out of memory\"" : pgqrs_workflow_keep(w, text, strlen(text));
    json_decref(value); /* accepts null */
    free(text);
    return kept == NULL ? "\"out of memory\"" : kept;
}

const char *pgqrs_workflow_json_text(struct workflow *w, const char *text)
{
    char clean[PGQRS_ERROR_TEXT_MAX + 1];
    (void)pgqrs_utf8_copy(clean, sizeof clean, text);
    return keep_json(w, json_string(clean));
}

const char *pgqrs_workflow_step_failure(struct workflow *w, bool transient, const char *code,
                                        const char *message, int64_t retry_ms)
{
    char clean[PGQRS_ERROR_TEXT_MAX + 1];
    (void)pgqrs_utf8_copy(clean, sizeof clean, message);
    json_t *object = json_pack("{s:b,s:s,s:s}", "is_transient", transient ? 1 : 0, "code", code,
                               "message", clean);
    if (object != NULL && transient) {
        /* Whole seconds, as pgqrs has it; the step's row has the time. */
        json_t *seconds = json_integer(retry_ms / 1000);
        (void)json_object_set_new(object, "retry_after", seconds); /* without: no harm */
        if (strcmp(code, "PAUSED") == 0) {
            (void)json_object_set_new(object, "resume_after", json_integer(retry_ms / 1000));
        }
    }
    return keep_json(w, object);
}

static void leave(void *name)
{
    (void)name; /* it is kept */
}

static void clear_job(struct workflow *w)
{
    tdestroy(w->asked, leave);
    w->asked = NULL;
    memset(w->cursors, 0, sizeof w->cursors);
    while (w->kept != NULL) {
        struct kept *next = w->kept->next;
        free(w->kept);
        w->kept = next;
    }
    pgqrs_job_flowed_fini(&w->open);
    w->open = (struct pgqrs_job_flowed){0};
    if (w->record.cap > BUFFER_KEEP) {
        pgqrs_buf_fini(&w->record);
    }
    if (w->ask.cap > BUFFER_KEEP) {
        pgqrs_buf_fini(&w->ask);
    }
    pgqrs_buf_clear(&w->record);
    w->status = PGQRS_RUN_NONE;
    w->lost = w->in_step = w->broken = false;
    w->at = w->cleanup_at = w->put_count = w->sql_count = w->sql_bytes = 0;
    w->said = PGQRS_RC_OK;
    w->error = w->failed = w->next_input = NULL;
    w->suspension = (struct pgqrs_flow){0};
    w->snooze_ms = -1;
}

int pgqrs_workflow_open(struct pgqrs_job_host *host, struct pgqrs_job_link *link, uint32_t flags,
                        struct pgqrs_error *err)
{
    struct workflow *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return pgqrs_error_memory(err);
    }
    w->link = link;
    w->flags = flags;
    host->workflow = w;
    if ((flags & PGQRS_WORKFLOW) != 0) {
        pgqrs_job_link_set_workflow(link);
    }
    return 0;
}

void pgqrs_workflow_close(struct pgqrs_job_host *host)
{
    struct workflow *w = host->workflow;
    if (w == NULL) {
        return;
    }
    host->workflow = NULL;
    clear_job(w);
    pgqrs_buf_fini(&w->record);
    pgqrs_buf_fini(&w->ask);
    pgqrs_buf_fini(&w->last);
    free(w->puts);
    free(w);
}

/* ---- what can not go on ---- */

enum pgqrs_rc pgqrs_workflow_break(struct workflow *w, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (!w->broken) { /* what follows from it is of no interest */
        pgqrs_log_error("workflow: %s", text);
        w->broken = true;
        w->error = pgqrs_workflow_json_text(w, text);
    }
    w->said = PGQRS_RC_STOPPED;
    return w->said;
}

enum pgqrs_rc pgqrs_workflow_fail(struct workflow *w, enum pgqrs_rc rc, const char *error)
{
    w->said = rc;
    w->failed = NULL;
    w->error = error;
    return rc;
}

enum pgqrs_rc pgqrs_workflow_step_failed(struct workflow *w, const char *name, const char *error)
{
    (void)pgqrs_workflow_fail(w, PGQRS_RC_FAILED, error);
    w->failed = name;
    return w->said;
}

struct workflow *pgqrs_workflow_of(struct pgqrs_job_host *host)
{
    struct workflow *w = host == NULL ? NULL : host->workflow;
    return w != NULL && (w->flags & PGQRS_WORKFLOW) != 0 ? w : NULL;
}

struct workflow *pgqrs_workflow_enter(struct pgqrs_job *job, struct pgqrs_job_host **host_out,
                                      enum pgqrs_rc *rc_out)
{
    struct pgqrs_job_host *host = pgqrs_host_of(job);
    struct workflow *w = pgqrs_workflow_of(host);
    *rc_out = PGQRS_RC_STOPPED;
    *host_out = host;
    if (w == NULL) {
        pgqrs_log_error("handler: asked for a step, without PGQRS_WORKFLOW in its flags");
        return NULL;
    }
    if (w->said == PGQRS_RC_SUSPENDED || w->said == PGQRS_RC_STOPPED) {
        *rc_out = w->said; /* it was told to pass that up */
        return NULL;
    }
    if (w->in_step) {
        *rc_out = pgqrs_workflow_break(w, "a step asked for another step");
        return NULL;
    }
    int cancelled = atomic_load_explicit(&host->cancelled, memory_order_acquire);
    if (cancelled != PGQRS_CANCEL_NONE || w->lost) {
        w->said = PGQRS_RC_STOPPED;
        return NULL;
    }
    *rc_out = PGQRS_RC_OK;
    return w;
}

/* ---- asking the broker ---- */

struct pgqrs_step_put *pgqrs_workflow_put(struct workflow *w, const char *name,
                                          enum pgqrs_step_kind kind)
{
    if (w->put_count == w->put_cap) {
        size_t cap = w->put_cap == 0 ? 8 : w->put_cap * 2;
        struct pgqrs_step_put *grown =
            cap > PGQRS_FLOW_STEPS_MAX ? NULL : reallocarray(w->puts, cap, sizeof *grown);
        if (grown == NULL) {
            (void)pgqrs_workflow_break(w, "too many steps wait to be stored, or no memory");
            return NULL;
        }
        w->puts = grown;
        w->put_cap = cap;
    }
    struct pgqrs_step_put *put = &w->puts[w->put_count++];
    *put = (struct pgqrs_step_put){
        .name = name, .kind = kind, .status = PGQRS_STEP_SUCCESS, .retry_ms = -1};
    return put;
}

struct pgqrs_follow_up *pgqrs_workflow_follow_ups(const struct pgqrs_job_host *host)
{
    struct pgqrs_follow_up *follow_ups = calloc(host->said.enqueue_count + 1, sizeof *follow_ups);
    for (size_t i = 0; follow_ups != NULL && i < host->said.enqueue_count; i++) {
        const struct pgqrs_job_enqueue *e = &host->said.enqueues[i];
        follow_ups[i] = (struct pgqrs_follow_up){
            .queue = e->queue,
            .item = {.payload = e->payload, .delay_ms = e->delay_ms, .priority = e->priority}};
    }
    return follow_ups;
}

/* Takes the answer over, so that what is decoded can borrow from it. */
static enum pgqrs_rc take_answer(struct workflow *w, const struct pgqrs_buf *answer,
                                 struct pgqrs_job_flowed *flowed_out)
{
    struct pgqrs_error err;
    char *copy = pgqrs_workflow_keep(w, (const char *)answer->data, answer->len);
    if (copy == NULL) {
        return PGQRS_RC_STOPPED;
    }
    const struct pgqrs_frame frame = {
        .type = PGQRS_MSG_JOB_FLOWED, .body = (const uint8_t *)copy, .len = answer->len};
    if (pgqrs_decode_job_flowed(&frame, flowed_out, &err) < 0) {
        return pgqrs_workflow_break(w, "the broker's answer: %s", err.text);
    }
    return PGQRS_RC_OK;
}

enum pgqrs_rc pgqrs_workflow_ask(struct pgqrs_job_host *host, uint8_t what, struct pgqrs_flow *item,
                                 int64_t event_run, struct pgqrs_job_flowed *flowed_out)
{
    struct workflow *w = host->workflow;
    struct pgqrs_error err;
    const struct pgqrs_buf *answer;
    if (what != PGQRS_ASK_OPEN && what != PGQRS_ASK_EVENT) {
        item->steps = w->puts;
        item->step_count = w->put_count;
    }
    struct pgqrs_job_flow ask = {
        .key = host->key, .seq = ++w->seq, .what = what, .event_run = event_run, .item = *item};
    pgqrs_buf_clear(&w->ask);
    pgqrs_encode_job_flow(&w->ask, &ask);
    if (w->ask.len > PGQRS_BODY_MAX) {
        return pgqrs_workflow_break(w, "a step brings more than 16 MiB");
    }
    pgqrs_host_wait(host);
    int asked = pgqrs_job_link_ask(w->link, host->key, w->seq, &w->ask, &answer, &err);
    pgqrs_host_go_on(host);
    if (asked < 0) {
        w->lost = true;
        pgqrs_log_error("workflow: %s", err.text);
        w->said = PGQRS_RC_STOPPED;
        return w->said;
    }
    enum pgqrs_rc rc = take_answer(w, answer, flowed_out);
    if (rc != PGQRS_RC_OK) {
        return rc;
    }
    if (flowed_out->verdict == PGQRS_FLOWED_REFUSED) {
        pgqrs_log_warn("job %lld: its lease was lost, or its run has ended; stopping attempt=%u",
                       (long long)host->key.id, host->key.attempt);
        pgqrs_job_flowed_fini(flowed_out);
        w->lost = true;
        w->said = PGQRS_RC_STOPPED;
        return w->said;
    }
    if (flowed_out->status != PGQRS_RUN_NONE) {
        w->status = flowed_out->status;
    }
    if (flowed_out->verdict == PGQRS_FLOWED_STORED && what != PGQRS_ASK_OPEN &&
        what != PGQRS_ASK_EVENT) {
        w->put_count = 0;
    }
    return PGQRS_RC_OK;
}

enum pgqrs_rc pgqrs_workflow_suspend(struct workflow *w, int64_t after_ms, bool paused,
                                     const char *why, const char *event)
{
    json_t *error =
        json_pack("{s:s,s:I}", "message", why, "resume_after", (json_int_t)(after_ms / 1000));
    const char *text = keep_json(w, error);
    w->suspension = (struct pgqrs_flow){
        .what = PGQRS_FLOW_SUSPEND,
        .error = paused ? pgqrs_bytes_from(text) : (struct pgqrs_bytes){0},
        .name = event,
        .delay_ms = after_ms,
        .paused = paused,
    };
    if (!w->broken) {
        w->said = PGQRS_RC_SUSPENDED;
    }
    return w->said;
}

/* ---- the run that begins ---- */

bool pgqrs_workflow_begin(struct pgqrs_job_host *host)
{
    struct workflow *w = host->workflow;
    struct pgqrs_flow nothing = {0};
    if (w == NULL) {
        return true;
    }
    clear_job(w);
    if ((w->flags & PGQRS_WORKFLOW) == 0) {
        return true;
    }
    enum pgqrs_rc rc = pgqrs_workflow_ask(host, PGQRS_ASK_OPEN, &nothing, 0, &w->open);
    w->opened_ms = pgqrs_mono_ms();
    if (rc == PGQRS_RC_OK && w->open.verdict == PGQRS_FLOWED_FAILED) {
        rc = pgqrs_workflow_break(w, "the run can not begin: %.*s", (int)w->open.error.len,
                                  w->open.error.data);
    }
    if (rc != PGQRS_RC_OK) {
        return false;
    }
    if (pgqrs_run_has_ended(w->status)) {
        return false; /* what is left is to end its message */
    }
    /* A step may have done something though nothing of it is stored. */
    if (w->status == PGQRS_RUN_CANCELLING && (w->flags & PGQRS_COMPENSATES) == 0) {
        w->said = PGQRS_RC_CANCELLED;
        return false;
    }
    return true;
}
