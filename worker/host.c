/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/host_priv.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <jansson.h>

#include "base/clock.h"
#include "base/json_member.h"
#include "base/log.h"
#include "base/units.h"
#include "base/utf8.h"

#define RESULT_KEEP (64u * 1024) /* a larger buffer is not kept for the next job */

/* The host functions are given a job and nothing else. A pointer that is not the job's, such as one
 * to a copy of it, must be told from the real one before it is followed. */
static struct pgqrs_job_host *the_host;

struct pgqrs_job_host *pgqrs_host_of(const struct pgqrs_job *job)
{
    struct pgqrs_job_host *host = the_host;
    return host != NULL && job == &host->view && host->running_id != 0 ? host : NULL;
}

int pgqrs_host_create(const char *queue, uint32_t max_attempts, struct pgqrs_job_host **host_out,
                      struct pgqrs_error *err)
{
    struct pgqrs_job_host *host = calloc(1, sizeof *host);
    if (host == NULL || (host->queue = strdup(queue)) == NULL) {
        free(host);
        return pgqrs_error_memory(err);
    }
    host->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (host->cancel_fd < 0) {
        free(host->queue);
        free(host);
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "eventfd");
    }
    host->max_attempts = max_attempts;
    host->wake_fd = -1;
    (void)pthread_mutex_init(&host->mutex, NULL); /* can not fail on Linux */
    *host_out = the_host = host;
    return 0;
}

void pgqrs_host_set_limit(struct pgqrs_job_host *host, int64_t timeout_ms, int64_t grace_ms,
                          int wake_fd)
{
    host->wake_fd = wake_fd;
    host->timeout_ms = timeout_ms;
    host->grace_ms = grace_ms;
}

static void drop_enqueues(struct pgqrs_said *said)
{
    for (size_t i = 0; i < said->enqueue_count; i++) {
        /* The payload is behind the name, in the same block. */
        free((void *)(uintptr_t)said->enqueues[i].queue);
    }
    said->enqueue_count = 0;
    said->enqueue_bytes = 0;
}

void pgqrs_said_fini(struct pgqrs_said *said)
{
    drop_enqueues(said);
    free(said->enqueues);
    said->enqueues = NULL;
    said->enqueue_cap = 0;
    pgqrs_buf_fini(&said->result);
}

void pgqrs_host_destroy(struct pgqrs_job_host **host_ptr)
{
    struct pgqrs_job_host *host = *host_ptr;
    if (host == NULL) {
        return;
    }
    *host_ptr = the_host = NULL;
    pgqrs_workflow_close(host);
    pgqrs_said_fini(&host->said);
    (void)close(host->cancel_fd);
    (void)pthread_mutex_destroy(&host->mutex);
    free(host->queue);
    free(host);
}

/* ---- what a plugin calls ---- */

static void on_log(const struct pgqrs_job *job, enum pgqrs_level level, const char *text)
{
    static const enum pgqrs_log_level levels[] = {
        [PGQRS_LEVEL_DEBUG] = PGQRS_LOG_DEBUG,
        [PGQRS_LEVEL_INFO] = PGQRS_LOG_INFO,
        [PGQRS_LEVEL_WARN] = PGQRS_LOG_WARN,
        [PGQRS_LEVEL_ERROR] = PGQRS_LOG_ERROR,
    };
    unsigned number = (unsigned)level;
    enum pgqrs_log_level ours = number >= PGQRS_LEVEL_DEBUG && number <= PGQRS_LEVEL_ERROR
                                    ? levels[number]
                                    : PGQRS_LOG_INFO;
    if (text == NULL || ours < pgqrs_log_level()) {
        return;
    }
    char clean[1000];
    (void)pgqrs_utf8_copy(clean, sizeof clean, text);
    const struct pgqrs_job_host *host = pgqrs_host_of(job);
    if (host == NULL) {
        pgqrs_log(ours, "handler: %s", clean);
    } else {
        pgqrs_log(ours, "job %lld: %s", (long long)host->key.id, clean);
    }
}

static int on_cancelled(const struct pgqrs_job *job)
{
    struct pgqrs_job_host *host = pgqrs_host_of(job);
    return host == NULL ? PGQRS_CANCEL_NONE
                        : atomic_load_explicit(&host->cancelled, memory_order_acquire);
}

static int on_cancel_fd(const struct pgqrs_job *job)
{
    const struct pgqrs_job_host *host = pgqrs_host_of(job);
    return host == NULL ? -1 : host->cancel_fd;
}

bool pgqrs_host_is_json(const char *text, size_t len)
{
    /* A whole number of any length is JSON. */
    json_t *value = json_loadb(text, len, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
    json_decref(value); /* accepts null */
    return value != NULL;
}

static int on_set_result(struct pgqrs_job *job, const char *json, size_t len)
{
    struct pgqrs_job_host *host = pgqrs_host_of(job);
    if (host == NULL || json == NULL || len > PGQRS_RESULT_MAX || !pgqrs_host_is_json(json, len)) {
        return -1;
    }
    pgqrs_buf_clear(&host->said.result);
    pgqrs_buf_put(&host->said.result, json, len);
    return host->said.result.failed ? -1 : 0;
}

static void on_set_error(struct pgqrs_job *job, const char *text)
{
    struct pgqrs_job_host *host = pgqrs_host_of(job);
    if (host != NULL) {
        host->said.error_len =
            text == NULL ? 0 : pgqrs_utf8_copy(host->said.error, sizeof host->said.error, text);
    }
}

static void on_set_delay(struct pgqrs_job *job, int64_t delay_ms)
{
    struct pgqrs_job_host *host = pgqrs_host_of(job);
    if (host != NULL && delay_ms >= 0) {
        host->said.delay_ms = delay_ms > DELAY_MAX_MS ? DELAY_MAX_MS : delay_ms;
    }
}

static struct pgqrs_job_enqueue *add_enqueue(struct pgqrs_job_host *host)
{
    if (host->said.enqueue_count == host->said.enqueue_cap) {
        size_t cap = host->said.enqueue_cap == 0 ? 8 : host->said.enqueue_cap * 2;
        struct pgqrs_job_enqueue *grown = reallocarray(host->said.enqueues, cap, sizeof *grown);
        if (grown == NULL) {
            return NULL;
        }
        host->said.enqueues = grown;
        host->said.enqueue_cap = cap;
    }
    return &host->said.enqueues[host->said.enqueue_count];
}

static int on_enqueue(struct pgqrs_job *job, const char *queue, const char *payload, size_t len,
                      int64_t delay_ms, int32_t priority)
{
    struct pgqrs_job_host *host = pgqrs_host_of(job);
    size_t name_len = queue == NULL ? 0 : strnlen(queue, PGQRS_NAME_MAX + 1);
    if (host == NULL || name_len == 0 || name_len > PGQRS_NAME_MAX || payload == NULL ||
        len > PGQRS_RESULT_MAX || delay_ms < 0 || delay_ms > DELAY_MAX_MS ||
        host->said.enqueue_count >= PGQRS_ENQUEUES_MAX ||
        host->said.enqueue_bytes + len > PGQRS_ENQUEUES_BYTES_MAX || !pgqrs_utf8_valid(queue) ||
        !pgqrs_host_is_json(payload, len)) {
        return -1;
    }
    struct pgqrs_job_enqueue *item = add_enqueue(host);
    char *block = item == NULL ? NULL : malloc(name_len + 1 + len);
    if (block == NULL) {
        return -1;
    }
    memcpy(block, queue, name_len + 1);
    memcpy(block + name_len + 1, payload, len);
    *item = (struct pgqrs_job_enqueue){.queue = block,
                                       .payload = {.data = block + name_len + 1, .len = len},
                                       .delay_ms = delay_ms,
                                       .priority = priority};
    host->said.enqueue_count++;
    host->said.enqueue_bytes += len;
    return 0;
}

const struct pgqrs_host pgqrs_host_functions = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof(struct pgqrs_host),
    .log = on_log,
    .cancelled = on_cancelled,
    .cancel_fd = on_cancel_fd,
    .set_result = on_set_result,
    .set_error = on_set_error,
    .set_delay = on_set_delay,
    .enqueue = on_enqueue,
    .step = pgqrs_workflow_step,
    .sleep = pgqrs_workflow_sleep,
    .wait_event = pgqrs_workflow_wait_event,
    .send_event = pgqrs_workflow_send_event,
    .run_child = pgqrs_workflow_run_child,
    .join = pgqrs_workflow_join,
    .set_state = pgqrs_workflow_set_state,
    .continue_as_new = pgqrs_workflow_continue_as_new,
    .step_sql = pgqrs_workflow_step_sql,
    .step_error = pgqrs_workflow_step_error,
};

/* ---- around run ---- */

/* With the mutex held. The first reason counts. */
static void cancel(struct pgqrs_job_host *host, enum pgqrs_cancel why)
{
    const uint64_t one = 1;
    if (atomic_load_explicit(&host->cancelled, memory_order_relaxed) == PGQRS_CANCEL_NONE) {
        atomic_store_explicit(&host->cancelled, why, memory_order_release);
        host->cancelled_ms = pgqrs_mono_ms();
        (void)!write(host->cancel_fd, &one, sizeof one); /* its counter is 0: it can not block */
    }
}

static bool is_key(const struct pgqrs_job_key *a, const struct pgqrs_job_key *b)
{
    return a->id == b->id && a->attempt == b->attempt;
}

/* With the mutex held: when something has to be done about the running job. */
static int64_t due_ms(struct pgqrs_job_host *host)
{
    switch ((enum pgqrs_cancel)atomic_load_explicit(&host->cancelled, memory_order_relaxed)) {
    case PGQRS_CANCEL_NONE:
        return host->limit_ms > 0 && !host->waits ? host->limit_ms : INT64_MAX;
    case PGQRS_CANCEL_SHUTDOWN:
        return INT64_MAX; /* who shuts down has a limit of their own */
    default:
        return host->cancelled_ms + host->grace_ms;
    }
}

/* With the mutex held. */
static void have_it_looked_at(struct pgqrs_job_host *host)
{
    const uint64_t one = 1;
    int64_t due = due_ms(host);
    if (due < host->look_ms) {
        host->look_ms = due;
        (void)!write(host->wake_fd, &one, sizeof one); /* fails only when it is readable already */
    }
}

void pgqrs_host_wait(struct pgqrs_job_host *host)
{
    (void)pthread_mutex_lock(&host->mutex);
    host->waits = true;
    host->waits_ms = pgqrs_mono_ms();
    (void)pthread_mutex_unlock(&host->mutex);
}

void pgqrs_host_go_on(struct pgqrs_job_host *host)
{
    (void)pthread_mutex_lock(&host->mutex);
    host->limit_ms += host->limit_ms > 0 ? pgqrs_mono_ms() - host->waits_ms : 0;
    host->waits = false;
    have_it_looked_at(host);
    (void)pthread_mutex_unlock(&host->mutex);
}

/* What a trigger of pgqrs has wrapped, or all of it. */
static void find_input(struct pgqrs_job *view)
{
    struct pgqrs_bytes all = {.data = view->payload, .len = view->payload_len};
    struct pgqrs_bytes input = all;
    (void)pgqrs_json_member(all, "input", &input);
    view->input = input.data;
    view->input_len = input.len;
}

struct pgqrs_job *pgqrs_host_begin(struct pgqrs_job_host *host, const struct worker_lease *lease)
{
    host->view = (struct pgqrs_job){
        .size = sizeof host->view,
        .attempt = lease->key.attempt,
        .max_attempts = host->max_attempts + lease->key.crashes,
        .priority = lease->priority,
        .id = lease->key.id,
        .enqueued_at_us = lease->enqueued_at_us,
        .queue = host->queue,
        .payload = lease->payload,
        .payload_len = lease->payload_len,
        .timeout_ms = host->timeout_ms,
        .host = &pgqrs_host_functions,
    };
    find_input(&host->view);
    host->said.error_len = 0;
    host->said.delay_ms = -1;
    drop_enqueues(&host->said);
    if (host->said.result.cap > RESULT_KEEP) {
        pgqrs_buf_fini(&host->said.result);
    }
    pgqrs_buf_clear(&host->said.result);
    int64_t now_us = pgqrs_mono_us();
    int64_t now = now_us / 1000;
    host->began_us = now_us;
    host->due_us = lease->due_us;
    (void)pthread_mutex_lock(&host->mutex);
    host->key = lease->key;
    host->running_id = lease->key.id;
    host->began_ms = now;
    host->limit_ms = host->timeout_ms > 0 ? now + host->timeout_ms : 0;
    host->waits = false;
    if (is_key(&host->stop_key, &host->key)) {
        cancel(host, host->stop_why);
    }
    have_it_looked_at(host);
    (void)pthread_mutex_unlock(&host->mutex);
    return &host->view;
}

struct pgqrs_job_times pgqrs_host_times(const struct pgqrs_job_host *host)
{
    int64_t waited_us = host->began_us - host->due_us;
    return (struct pgqrs_job_times){.waited_us = host->due_us == 0 ? -1
                                                 : waited_us < 0   ? 0
                                                                   : waited_us,
                                    .ran_us = pgqrs_mono_us() - host->began_us};
}

/* Nobody is running from here on; tells what cancellation had come. */
static enum pgqrs_cancel end_running(struct pgqrs_job_host *host)
{
    (void)pthread_mutex_lock(&host->mutex);
    enum pgqrs_cancel cancelled =
        (enum pgqrs_cancel)atomic_load_explicit(&host->cancelled, memory_order_relaxed);
    host->running_id = 0;
    host->was_cancelled = cancelled;
    if (cancelled != PGQRS_CANCEL_NONE) {
        uint64_t count;
        (void)!read(host->cancel_fd, &count, sizeof count); /* it was written once */
        atomic_store_explicit(&host->cancelled, PGQRS_CANCEL_NONE, memory_order_relaxed);
    }
    (void)pthread_mutex_unlock(&host->mutex);
    return cancelled;
}

static void explain(struct pgqrs_job_host *host, const char *text)
{
    if (host->said.error_len == 0) {
        host->said.error_len = pgqrs_utf8_copy(host->said.error, sizeof host->said.error, text);
    }
}

static enum pgqrs_job_outcome translate(struct pgqrs_job_host *host, enum pgqrs_outcome outcome,
                                        enum pgqrs_cancel cancelled)
{
    char text[80];
    char limit[32];
    switch (outcome) {
    case PGQRS_DONE:
        return PGQRS_JOB_DONE;
    case PGQRS_RETRY:
        return PGQRS_JOB_RETRY;
    case PGQRS_FAIL:
        return PGQRS_JOB_FAIL;
    case PGQRS_SNOOZE:
        return PGQRS_JOB_SNOOZE;
    case PGQRS_PASS: /* a workflow's is worker/workflow_end.c's */
        explain(host, "the handler returned PGQRS_PASS, which is for workflows");
        return PGQRS_JOB_FAIL;
    case PGQRS_CANCELLED:
        if (cancelled != PGQRS_CANCEL_NONE && cancelled != PGQRS_CANCEL_TIMEOUT) {
            return PGQRS_JOB_CANCELLED;
        }
        if (cancelled == PGQRS_CANCEL_TIMEOUT) {
            pgqrs_duration_format(host->timeout_ms, limit, sizeof limit);
            (void)snprintf(text, sizeof text, "timeout: stopped at its time limit of %s", limit);
            explain(host, text);
            return PGQRS_JOB_RETRY;
        }
        explain(host, "the handler returned PGQRS_CANCELLED without a cancellation");
        return PGQRS_JOB_RETRY;
    }
    (void)snprintf(text, sizeof text, "the handler returned %d, which is no outcome", (int)outcome);
    explain(host, text);
    return PGQRS_JOB_RETRY;
}

void pgqrs_host_end(struct pgqrs_job_host *host, enum pgqrs_outcome outcome,
                    struct pgqrs_job_result *result_out)
{
    enum pgqrs_job_outcome ours = translate(host, outcome, end_running(host));
    *result_out = (struct pgqrs_job_result){
        .key = host->key, .outcome = ours, .delay_ms = -1, .times = pgqrs_host_times(host)};
    if (ours == PGQRS_JOB_RETRY) {
        result_out->delay_ms = host->said.delay_ms;
    } else if (ours == PGQRS_JOB_SNOOZE) {
        result_out->delay_ms = host->said.delay_ms < 0 ? SNOOZE_DEFAULT_MS : host->said.delay_ms;
    }
    if (ours == PGQRS_JOB_DONE) {
        result_out->result = (struct pgqrs_bytes){.data = (const char *)host->said.result.data,
                                                  .len = host->said.result.len};
    } else {
        result_out->error =
            (struct pgqrs_bytes){.data = host->said.error, .len = host->said.error_len};
    }
    if (ours != PGQRS_JOB_CANCELLED) {
        result_out->enqueues = host->said.enqueues;
        result_out->enqueue_count = host->said.enqueue_count;
    }
}

/* ---- the control thread's side ---- */

void pgqrs_host_cancel(struct pgqrs_job_host *host, int64_t job_id)
{
    (void)pthread_mutex_lock(&host->mutex);
    if (host->running_id != 0 && (job_id == 0 || job_id == host->running_id)) {
        cancel(host, PGQRS_CANCEL_SHUTDOWN);
    }
    (void)pthread_mutex_unlock(&host->mutex);
}

void pgqrs_host_stop(struct pgqrs_job_host *host, const struct pgqrs_job_key *key,
                     enum pgqrs_cancel why)
{
    (void)pthread_mutex_lock(&host->mutex);
    if (host->running_id != 0 && (key == NULL || is_key(key, &host->key))) {
        cancel(host, why);
    } else if (key != NULL) {
        host->stop_key = *key;
        host->stop_why = why;
    }
    (void)pthread_mutex_unlock(&host->mutex);
}

enum pgqrs_cancel pgqrs_host_was_cancelled(const struct pgqrs_job_host *host)
{
    return host->was_cancelled;
}

static void explain_end(const struct pgqrs_job_host *host, int why, char *text, size_t size)
{
    char limit[32];
    char grace[32];
    pgqrs_duration_format(host->timeout_ms, limit, sizeof limit);
    pgqrs_duration_format(host->grace_ms, grace, sizeof grace);
    if (why == PGQRS_CANCEL_TIMEOUT) {
        (void)snprintf(text, size,
                       "timeout: job %lld ran past its time limit of %s, and did not stop within "
                       "%s of being told",
                       (long long)host->running_id, limit, grace);
    } else {
        (void)snprintf(text, size, "%s: job %lld did not stop within %s of being told",
                       why == PGQRS_CANCEL_REQUEST ? "cancelled by request" : "interrupted",
                       (long long)host->running_id, grace);
    }
}

bool pgqrs_host_check_limit(struct pgqrs_job_host *host, int64_t look_ms, int64_t *wait_ms_out,
                            char *text, size_t size)
{
    (void)pthread_mutex_lock(&host->mutex);
    int64_t now = pgqrs_mono_ms();
    int64_t due = host->running_id == 0 ? INT64_MAX : due_ms(host);
    if (due <= now) {
        int why = atomic_load_explicit(&host->cancelled, memory_order_relaxed);
        if (why != PGQRS_CANCEL_NONE) {
            explain_end(host, why, text, size);
            return true; /* and the mutex is kept: nobody can end the job now */
        }
        cancel(host, PGQRS_CANCEL_TIMEOUT);
        due = now + host->grace_ms;
    }
    host->look_ms = due < look_ms ? due : look_ms;
    *wait_ms_out = due == INT64_MAX ? -1 : due - now;
    (void)pthread_mutex_unlock(&host->mutex);
    return false;
}

int64_t pgqrs_host_running(struct pgqrs_job_host *host, int64_t *ms_out)
{
    (void)pthread_mutex_lock(&host->mutex);
    int64_t id = host->running_id;
    *ms_out = id == 0 ? 0 : pgqrs_mono_ms() - host->began_ms;
    (void)pthread_mutex_unlock(&host->mutex);
    return id;
}
