/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/workflow_priv.h"

#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"

#define RETRIES 3
#define BASE_MS 1000
#define MAX_MS 60000

/* ---- what is stored, in the order in which it is asked for ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static bool was_asked(const struct workflow *w, const char *name)
{
    return tfind(name, &w->asked, by_name) != NULL;
}

static const char *note_asked(struct workflow *w, const char *name)
{
    const char *kept = pgqrs_workflow_keep(w, name, strlen(name));
    if (kept != NULL && tsearch(kept, &w->asked, by_name) == NULL) {
        (void)pgqrs_workflow_break(w, "out of memory");
        return NULL;
    }
    return kept;
}

/* The n-th stored step of its sort; null when there are not so many. */
static const struct pgqrs_flow_step *stored(struct workflow *w, bool cleanup, size_t n)
{
    struct stored_cursor *c = &w->cursors[cleanup ? 1 : 0];
    for (; c->index < w->open.step_count; c->index++) {
        const struct pgqrs_flow_step *step = &w->open.steps[c->index];
        if ((step->kind == PGQRS_STEP_CLEANUP) != cleanup) {
            continue;
        }
        if (c->passed == n) {
            return step;
        }
        c->passed++;
    }
    return NULL;
}

/* Names of steps are texts that people read in logs and tables. */
static bool is_name(const char *name)
{
    size_t len = name == NULL ? 0 : strnlen(name, PGQRS_STEP_NAME_MAX + 1);
    return len > 0 && len <= PGQRS_STEP_NAME_MAX && pgqrs_utf8_valid(name);
}

static enum look state_of(const struct workflow *w, const struct pgqrs_flow_step *step,
                          int64_t *wait_ms_out)
{
    if (step->status == PGQRS_STEP_SUCCESS) {
        return LOOK_DONE;
    }
    if (step->status != PGQRS_STEP_ERROR) {
        return LOOK_AGAIN; /* a client of pgqrs has begun it */
    }
    if (step->wait_ms < 0) {
        return LOOK_FAILED;
    }
    *wait_ms_out = step->wait_ms - (pgqrs_mono_ms() - w->opened_ms);
    return step->wait_ms == 0 || *wait_ms_out <= 0 ? LOOK_AGAIN : LOOK_LATER;
}

enum look pgqrs_workflow_look(struct workflow *w, const char *name, uint32_t number,
                              enum pgqrs_step_kind kind, const char **name_out,
                              const struct pgqrs_flow_step **step_out, int64_t *wait_ms_out,
                              enum pgqrs_rc *rc_out)
{
    char full[PGQRS_STEP_NAME_MAX + 16];
    bool cleanup = kind == PGQRS_STEP_CLEANUP;
    *rc_out = PGQRS_RC_STOPPED;
    if (name != NULL) {
        (void)snprintf(full, sizeof full, number == 0 ? "%.256s" : "%.256s#%u", name, number);
    }
    if (name == NULL || !is_name(full)) {
        *rc_out = pgqrs_workflow_break(
            w, "name of a step: expected 1 to %d bytes of UTF-8, with its number",
            PGQRS_STEP_NAME_MAX);
        return LOOK_STOP;
    }
    if (was_asked(w, full)) {
        *rc_out = pgqrs_workflow_break(
            w, "step \"%s\" is asked for twice in one run; give each a number", full);
        return LOOK_STOP;
    }
    *name_out = note_asked(w, full);
    if (*name_out == NULL) {
        return LOOK_STOP;
    }
    const struct pgqrs_flow_step *step = stored(w, cleanup, cleanup ? w->cleanup_at : w->at);
    *step_out = step;
    if (step != NULL && (strcmp(step->name, full) != 0 || step->kind != kind)) {
        *rc_out = pgqrs_workflow_break(
            w,
            "the run asks for %s \"%s\" as number %zu, where it has stored %s \"%s\": the workflow "
            "was changed while the run was under way",
            pgqrs_step_kind_name(kind), full, (cleanup ? w->cleanup_at : w->at) + 1,
            pgqrs_step_kind_name(step->kind), step->name);
        return LOOK_STOP;
    }
    *(cleanup ? &w->cleanup_at : &w->at) += 1;
    enum look look = step == NULL ? LOOK_NEW : state_of(w, step, wait_ms_out);
    if (w->status == PGQRS_RUN_CANCELLING && !cleanup && look != LOOK_DONE) {
        *rc_out = pgqrs_workflow_fail(w, PGQRS_RC_CANCELLED, NULL);
        return LOOK_STOP;
    }
    return look;
}

/* ---- the body of a step ---- */

struct body {
    const char *name;
    enum pgqrs_step_kind kind;
    int32_t retry_count;
    const struct pgqrs_step_options *options; /* null: the usual */
    int64_t took_ms;
};

/* What a step says is not said about the run, nor the other way round: the run's goes to *run_out.
 */
static void begin_body(struct workflow *w, struct pgqrs_job_host *host, struct pgqrs_said *run_out)
{
    *run_out = host->said;
    host->said = (struct pgqrs_said){.delay_ms = -1};
    w->sql_count = w->sql_bytes = 0;
    w->in_step = true;
}

static void end_body(struct workflow *w, struct pgqrs_job_host *host, const struct pgqrs_said *run)
{
    pgqrs_said_fini(&host->said);
    host->said = *run;
    w->sql_count = 0;
}

/* Doubling, varied by a quarter either way, so that runs which failed together do not come back
 * together. */
static int64_t retry_delay_ms(const struct pgqrs_step_options *o, int32_t retries)
{
    int64_t base = o != NULL && o->base_ms > 0 ? o->base_ms : BASE_MS;
    int64_t max = o != NULL && o->max_ms > 0 ? o->max_ms : MAX_MS;
    int64_t delay = base < max ? base : max;
    bool constant = o != NULL && (o->flags & PGQRS_STEP_SAME_DELAY) != 0;
    for (int32_t i = 0; !constant && i < retries && delay < max; i++) {
        delay = delay > max / 2 ? max : delay * 2;
    }
    delay = delay > DELAY_MAX_MS ? DELAY_MAX_MS : delay;
    int64_t quarter = delay / 4;
    /* Not rand(): it would give every worker the same numbers. */
    uint64_t random = (uint64_t)arc4random() << 32 | arc4random();
    delay += (int64_t)(random % (2 * (uint64_t)quarter + 1)) - quarter;
    return delay > DELAY_MAX_MS ? DELAY_MAX_MS : delay;
}

/* For good. Stored before the handler hears of it, so that what it does then comes after it. */
static enum pgqrs_rc store_failure(struct pgqrs_job_host *host, const struct body *body,
                                   const char *error)
{
    struct workflow *w = host->workflow;
    struct pgqrs_flow item = {0};
    struct pgqrs_job_flowed flowed = {0};
    struct pgqrs_step_put *put = pgqrs_workflow_put(w, body->name, body->kind);
    if (put == NULL) {
        return PGQRS_RC_STOPPED;
    }
    put->status = PGQRS_STEP_ERROR;
    put->error = pgqrs_bytes_from(error);
    put->took_ms = body->took_ms;
    enum pgqrs_rc rc = pgqrs_workflow_ask(host, PGQRS_FLOW_STEP, &item, 0, &flowed);
    if (rc != PGQRS_RC_OK) {
        return rc;
    }
    bool stored = flowed.verdict == PGQRS_FLOWED_STORED;
    pgqrs_job_flowed_fini(&flowed);
    return stored
               ? pgqrs_workflow_step_failed(w, body->name, error)
               : pgqrs_workflow_break(w, "step \"%s\": its failure can not be stored", body->name);
}

static enum pgqrs_rc store_result(struct pgqrs_job_host *host, const struct body *body,
                                  const char **result_out)
{
    struct workflow *w = host->workflow;
    struct pgqrs_job_flowed flowed = {0};
    size_t before = w->put_count;
    struct pgqrs_step_put *put = pgqrs_workflow_put(w, body->name, body->kind);
    struct pgqrs_follow_up *follow_ups = pgqrs_workflow_follow_ups(host);
    if (put == NULL || follow_ups == NULL) {
        free(follow_ups);
        return pgqrs_workflow_break(w, "out of memory");
    }
    put->output = (struct pgqrs_bytes){
        .data = host->said.result.len > 0 ? (char *)host->said.result.data : NULL,
        .len = host->said.result.len};
    put->took_ms = body->took_ms;
    struct pgqrs_flow item = {.follow_ups = follow_ups,
                              .follow_up_count = host->said.enqueue_count,
                              .sqls = w->sqls,
                              .sql_count = w->sql_count};
    enum pgqrs_rc rc = pgqrs_workflow_ask(host, PGQRS_FLOW_STEP, &item, 0, &flowed);
    free(follow_ups);
    if (rc != PGQRS_RC_OK) {
        return rc;
    }
    if (flowed.verdict == PGQRS_FLOWED_FAILED) {
        char text[1024];
        (void)snprintf(text, sizeof text, "%.*s", (int)flowed.error.len, flowed.error.data);
        pgqrs_job_flowed_fini(&flowed);
        w->put_count = before;
        return store_failure(host, body,
                             pgqrs_workflow_step_failure(w, false, "INTERNAL", text, 0));
    }
    struct pgqrs_bytes output =
        flowed.output.data != NULL
            ? flowed.output
            : (struct pgqrs_bytes){.data = (const char *)host->said.result.data,
                                   .len = host->said.result.len};
    const char *kept = pgqrs_workflow_keep(w, output.len == 0 ? "null" : output.data,
                                           output.len == 0 ? 4 : output.len);
    pgqrs_job_flowed_fini(&flowed);
    if (result_out != NULL) {
        *result_out = kept;
    }
    return kept == NULL ? PGQRS_RC_STOPPED : PGQRS_RC_OK;
}

/* To suspend a run that is being cancelled would bring it back at once: its message waits, and the
 * run knows nothing of it. */
static enum pgqrs_rc store_cleanup_later(struct pgqrs_job_host *host, int64_t delay_ms)
{
    struct workflow *w = host->workflow;
    struct pgqrs_flow item = {0};
    struct pgqrs_job_flowed flowed = {0};
    enum pgqrs_rc rc = pgqrs_workflow_ask(host, PGQRS_FLOW_STEP, &item, 0, &flowed);
    if (rc != PGQRS_RC_OK) {
        return rc;
    }
    pgqrs_job_flowed_fini(&flowed);
    w->snooze_ms = delay_ms;
    w->said = PGQRS_RC_SUSPENDED;
    return w->said;
}

/* Runs again later: stored with the suspension, in one transaction. */
static enum pgqrs_rc store_later(struct pgqrs_job_host *host, const struct body *body, bool paused,
                                 int64_t delay_ms)
{
    struct workflow *w = host->workflow;
    const char *message = host->said.error_len > 0 ? host->said.error
                          : paused                 ? "not now"
                                                   : "failed";
    struct pgqrs_step_put *put = pgqrs_workflow_put(w, body->name, body->kind);
    if (put == NULL) {
        return PGQRS_RC_STOPPED;
    }
    put->status = PGQRS_STEP_ERROR;
    put->error = pgqrs_bytes_from(
        pgqrs_workflow_step_failure(w, true, paused ? "PAUSED" : "TRANSIENT", message, delay_ms));
    put->retry_ms = delay_ms;
    put->retried = !paused;
    put->took_ms = body->took_ms;
    if (w->status == PGQRS_RUN_CANCELLING) {
        return store_cleanup_later(host, delay_ms);
    }
    return pgqrs_workflow_suspend(w, delay_ms, paused, message, NULL);
}

static enum pgqrs_rc fail_for_good(struct pgqrs_job_host *host, const struct body *body)
{
    struct workflow *w = host->workflow;
    const char *message = host->said.error_len > 0 ? host->said.error : "failed";
    return store_failure(host, body,
                         pgqrs_workflow_step_failure(w, false, "NON_RETRYABLE", message, 0));
}

static int32_t retries_of(const struct pgqrs_step_options *o)
{
    return o == NULL || o->retries == 0 ? RETRIES : o->retries < 0 ? 0 : o->retries;
}

static enum pgqrs_rc take_outcome(struct pgqrs_job_host *host, const struct body *body,
                                  enum pgqrs_outcome outcome, const char **result_out)
{
    struct workflow *w = host->workflow;
    int32_t most = retries_of(body->options);
    int64_t delay = host->said.delay_ms;
    switch (outcome) {
    case PGQRS_DONE:
        return store_result(host, body, result_out);
    case PGQRS_RETRY:
        return body->retry_count < most
                   ? store_later(host, body, false,
                                 delay >= 0 ? delay
                                            : retry_delay_ms(body->options, body->retry_count))
                   : fail_for_good(host, body);
    case PGQRS_FAIL:
        return fail_for_good(host, body);
    case PGQRS_SNOOZE:
        return store_later(host, body, true, delay >= 0 ? delay : SNOOZE_DEFAULT_MS);
    case PGQRS_CANCELLED:
        w->said = PGQRS_RC_STOPPED;
        return w->said;
    case PGQRS_PASS:
        break;
    }
    return pgqrs_workflow_break(w, "step \"%s\" returned %d, which is no outcome of a step",
                                body->name, (int)outcome);
}

enum pgqrs_rc pgqrs_workflow_step(struct pgqrs_job *job, const char *name,
                                  const struct pgqrs_step_options *options, pgqrs_step_fn fn,
                                  void *arg, const char **result_out)
{
    struct pgqrs_job_host *host;
    enum pgqrs_rc rc;
    struct workflow *w = pgqrs_workflow_enter(job, &host, &rc);
    const struct pgqrs_flow_step *step = NULL;
    int64_t wait_ms = 0;
    if (w == NULL) {
        return rc;
    }
    if (fn == NULL || (options != NULL && options->size != sizeof *options)) {
        return pgqrs_workflow_break(w, "step: no function, or options of another size");
    }
    struct body body = {.options = options};
    body.kind = options != NULL && (options->flags & PGQRS_STEP_ON_CANCEL) != 0 ? PGQRS_STEP_CLEANUP
                                                                                : PGQRS_STEP_PLAIN;
    switch (pgqrs_workflow_look(w, name, options == NULL ? 0 : options->number, body.kind,
                                &body.name, &step, &wait_ms, &rc)) {
    case LOOK_STOP:
        return rc;
    case LOOK_DONE:
        if (result_out != NULL) {
            *result_out = step->output.data == NULL
                              ? "null"
                              : pgqrs_workflow_keep(w, step->output.data, step->output.len);
        }
        return PGQRS_RC_OK;
    case LOOK_FAILED:
        return pgqrs_workflow_step_failed(
            w, body.name,
            step->error.data == NULL ? "{\"is_transient\":false,\"message\":\"Unknown error\"}"
                                     : pgqrs_workflow_keep(w, step->error.data, step->error.len));
    case LOOK_LATER:
        if (w->status == PGQRS_RUN_CANCELLING) {
            w->snooze_ms = wait_ms;
            w->said = PGQRS_RC_SUSPENDED;
            return w->said;
        }
        return pgqrs_workflow_suspend(w, wait_ms, false, "", NULL);
    case LOOK_AGAIN:
        body.retry_count = step->retry_count;
        break;
    case LOOK_NEW:
        break;
    }
    struct pgqrs_said of_run;
    begin_body(w, host, &of_run);
    int64_t began_ms = pgqrs_mono_ms();
    enum pgqrs_outcome outcome = fn(job, arg);
    body.took_ms = pgqrs_mono_ms() - began_ms;
    w->in_step = false;
    rc = w->broken ? PGQRS_RC_STOPPED : take_outcome(host, &body, outcome, result_out);
    end_body(w, host, &of_run);
    return rc;
}

/* ---- in a step ---- */

int pgqrs_workflow_step_sql(struct pgqrs_job *job, const char *statement, const char *const *params,
                            size_t count)
{
    struct pgqrs_job_host *host = pgqrs_host_of(job);
    struct workflow *w = pgqrs_workflow_of(host);
    if (w == NULL || !w->in_step || statement == NULL || w->sql_count == PGQRS_FLOW_SQL_MAX ||
        count > PGQRS_FLOW_PARAMS_MAX) {
        return -1;
    }
    size_t bytes = strlen(statement);
    for (size_t i = 0; i < count; i++) {
        bytes += params[i] == NULL ? 0 : strlen(params[i]);
    }
    if (w->sql_bytes + bytes > PGQRS_FLOW_SQL_BYTES_MAX) {
        return -1;
    }
    struct pgqrs_step_sql *sql = &w->sqls[w->sql_count];
    struct pgqrs_bytes *kept = (void *)pgqrs_workflow_keep(w, NULL, count * sizeof *kept);
    sql->text = pgqrs_workflow_keep(w, statement, strlen(statement));
    if (kept == NULL || sql->text == NULL) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        if (params[i] != NULL) {
            kept[i].data = pgqrs_workflow_keep(w, params[i], strlen(params[i]));
            kept[i].len = strlen(params[i]);
        }
    }
    sql->params = kept;
    sql->param_count = count;
    w->sql_count++;
    w->sql_bytes += bytes;
    return w->broken ? -1 : 0;
}

const char *pgqrs_workflow_step_error(struct pgqrs_job *job)
{
    struct workflow *w = pgqrs_workflow_of(pgqrs_host_of(job));
    return w == NULL || w->error == NULL ? "null" : w->error;
}
