/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_HANDLER_H
#define PGQRS_HANDLER_H

/*
 * The plugin interface of pgqrsd. A handler is a shared object that exports one function:
 *
 *     const struct pgqrs_handler *pgqrs_handler_entry(void);
 *
 * A worker process loads one handler, calls init once, run once per job, and fini at the end. It
 * links nothing of pgqrs: everything it may call comes through struct pgqrs_host.
 *
 * Threads: init, run and fini are called on the worker's main thread, one at a time. cancelled,
 * cancel_fd and log may be called from any thread while run has not returned; the other host
 * functions only from the thread that called run.
 *
 * Signals: the worker handles TERM, INT, HUP and PIPE, so that a write to a closed pipe fails with
 * EPIPE, and a program that you execute starts with the defaults. Leave these four alone.
 *
 * Output: each line on standard output or error, also of a program that you execute, becomes a line
 * of the log, tagged with queue, worker, job and stream. Both are pipes that are always read;
 * stdout is line buffered, and flushed when run returns. Buffers of your own you flush yourself.
 *
 * Memory: everything reached through a job or a setup is borrowed until the call returns. The host
 * copies what it is given. Nothing is freed across the boundary.
 *
 * Delivery: a job runs at least once. It runs again when the worker dies before its outcome was
 * stored, so what run does to the outside must bear being done twice. job->id names the job, and
 * (job->id, job->attempt) the attempt.
 */

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PGQRS_HANDLER_ABI 1 /* must match exactly, else the worker refuses the plugin */

enum pgqrs_outcome {
    PGQRS_DONE = 0,      /* finished; archived with the result that was set, if any */
    PGQRS_RETRY = 1,     /* failed, may work later; dead letter when the attempts are used up */
    PGQRS_FAIL = 2,      /* failed for good: dead letter, with the error that was set */
    PGQRS_SNOOZE = 3,    /* not now: again after the delay, without spending an attempt */
    PGQRS_CANCELLED = 4, /* stopped early because cancelled() was true; given back unspent on a
                            shutdown or an interruption, ended when somebody cancelled the job. At
                            the time limit, and without a cancellation, it counts as PGQRS_RETRY. */
    PGQRS_PASS = 5, /* a workflow's: whatever the function said that did not return PGQRS_RC_OK,
                       see PGQRS_TRY */
};

/*
 * Durable workflows.
 *
 * A handler with PGQRS_WORKFLOW in its flags is run again from the top each time its run goes on:
 * after a crash, a sleep, a wait or a deploy, on any worker of any host. What it does it puts into
 * steps. A step that has been stored is not run again; its function is skipped and its result
 * returned. So everything between the steps must do the same each time: it may depend on the input
 * and on results of steps, and not on clocks, random numbers or files.
 *
 * Each step has a name that is used once in a run (or has a number: "poll#1", "poll#2"), and is
 * asked for in the same order each time. A run that asks for others than were stored has been
 * changed under way: it fails, and the error names both. Put new steps behind the old ones, or give
 * the new workflow a new name.
 *
 * The functions below return PGQRS_RC_OK, or why the workflow should return: it passes that up with
 * PGQRS_TRY, or handles PGQRS_RC_FAILED and PGQRS_RC_TIMED_OUT itself.
 */
enum pgqrs_rc {
    PGQRS_RC_OK = 0,
    PGQRS_RC_SUSPENDED = 1, /* the run waits, and holds no worker meanwhile: pass it up */
    PGQRS_RC_FAILED = 2,    /* for good: pgqrs_step_error says why. Passed up, the run has failed */
    PGQRS_RC_CANCELLED = 3, /* the run is to be cancelled: undo what has to be undone in steps with
                               PGQRS_STEP_ON_CANCEL, then pass it up */
    PGQRS_RC_TIMED_OUT = 4, /* the event did not come. Passed up, the run has failed */
    PGQRS_RC_STOPPED = 5,   /* the worker is being shut down, or has lost the job, or the call was
                               wrong (the log says so): pass it up */
};

/* In a workflow's run, or in a function that returns enum pgqrs_outcome:
 *     PGQRS_TRY(pgqrs_step(job, "charge", charge, &order, &receipt)); */
#define PGQRS_TRY(call)                                                                            \
    do {                                                                                           \
        if ((call) != PGQRS_RC_OK) {                                                               \
            return PGQRS_PASS;                                                                     \
        }                                                                                          \
    } while (0)

enum pgqrs_level { /* of a log line */
                   PGQRS_LEVEL_DEBUG = 1,
                   PGQRS_LEVEL_INFO = 2,
                   PGQRS_LEVEL_WARN = 3,
                   PGQRS_LEVEL_ERROR = 4,
};

enum pgqrs_cancel { /* why a job should stop; more may come */
                    PGQRS_CANCEL_NONE = 0,
                    PGQRS_CANCEL_SHUTDOWN = 1,  /* the worker is being shut down */
                    PGQRS_CANCEL_TIMEOUT = 2,   /* the job has reached its time limit */
                    PGQRS_CANCEL_REQUEST = 3,   /* somebody has cancelled the job */
                    PGQRS_CANCEL_INTERRUPT = 4, /* somebody has interrupted or stopped the worker */
};

struct pgqrs_job;

/* The body of a step. The host functions say what came of it, as they do for a job: set_result is
 * the step's result, enqueue adds a job that exists if and only if the result is stored; what was
 * said about the run stays as it is. It has to return: who jumps out of it fails the run.
 * PGQRS_DONE: stored, before pgqrs_step returns. PGQRS_RETRY: failed, runs again after set_delay or
 * by the options; the run is suspended until then. PGQRS_FAIL: failed for good. PGQRS_SNOOZE: not
 * now: again after set_delay, which is no failure. PGQRS_CANCELLED: stopped early, as a job. */
typedef enum pgqrs_outcome (*pgqrs_step_fn)(struct pgqrs_job *job, void *arg);

#define PGQRS_STEP_ON_CANCEL 1u  /* runs although the run is being cancelled */
#define PGQRS_STEP_SAME_DELAY 2u /* retries after base_ms each time, else doubling */

struct pgqrs_step_options {
    uint32_t size;   /* of this struct */
    uint32_t flags;  /* PGQRS_STEP_... */
    uint32_t number; /* not 0: the step's name is NAME#NUMBER */
    int32_t retries; /* of PGQRS_RETRY at most; 0: 3; below 0: none */
    int64_t base_ms,
        max_ms; /* of the delay before a retry, which varies by a quarter; 0: 1 s, 60 s */
};

/* What the host does for a handler. abi and size as in struct pgqrs_handler. */
struct pgqrs_host {
    uint32_t abi, size;

    /* text is one line, UTF-8; control characters are escaped. job may be null in init and fini. */
    void (*log)(const struct pgqrs_job *job, enum pgqrs_level level, const char *text);

    /* Not 0 from the moment the job should stop: then an enum pgqrs_cancel that says why. Who does
     * not stop is killed after a while. Cheap to call. */
    int (*cancelled)(const struct pgqrs_job *job);
    /* A descriptor that is readable exactly while cancelled() is not 0, for poll(). Do not read or
     * close it. Valid until run returns. */
    int (*cancel_fd)(const struct pgqrs_job *job);

    /* The job's result: one JSON value, stored with PGQRS_DONE. The last call counts.
     * 0, or -1 when it is not JSON or is over 1 MiB. */
    int (*set_result)(struct pgqrs_job *job, const char *json, size_t len);
    /* Why the job failed: stored with every outcome but PGQRS_DONE; cut at 4096 bytes. */
    void (*set_error)(struct pgqrs_job *job, const char *text);
    /* When to run again, in milliseconds from now: with PGQRS_RETRY instead of the queue's retry
     * policy, with PGQRS_SNOOZE required (else 1 s). 0 or more. */
    void (*set_delay)(struct pgqrs_job *job, int64_t delay_ms);
    /* Adds a job to a queue, in the transaction that stores this job's outcome: it exists if and
     * only if that outcome does. payload is one JSON value. Not with PGQRS_CANCELLED. Bigger
     * priority is served first; 0 is usual.
     * 0, or -1 when it is not JSON or over 1 MiB, when 1,000 jobs or 8 MiB were added already, or
     * when the name is empty or over 255 bytes, or the delay negative. An outcome that names a
     * queue that does not exist is stored as PGQRS_FAIL. */
    int (*enqueue)(struct pgqrs_job *job, const char *queue, const char *payload, size_t len,
                   int64_t delay_ms, int32_t priority);
    /* ABI 1 as first released ends here. */

    /* Workflows. The strings that come back are JSON, terminated, and valid until run returns; null
     * when nobody wants them. */

    /* Runs the step, or returns what it returned. options null: the usual. */
    enum pgqrs_rc (*step)(struct pgqrs_job *job, const char *name,
                          const struct pgqrs_step_options *options, pgqrs_step_fn fn, void *arg,
                          const char **result_out);
    /* The run goes on ms milliseconds after it came here first. */
    enum pgqrs_rc (*sleep)(struct pgqrs_job *job, const char *name, int64_t ms);
    /* The event of this name that was sent to the run, now or before; the first of that name
     * counts. Waits timeout_ms for it; below 0: for ever. */
    enum pgqrs_rc (*wait_event)(struct pgqrs_job *job, const char *name, int64_t timeout_ms,
                                const char **payload_out);
    /* To a run of any workflow, which is named by its job's id. Not only for workflows. payload is
     * one JSON value. *first_out (may be null): 1, or 0 when there was one of that name: nothing
     * has changed then. PGQRS_RC_FAILED: there is no such run, or it has ended. */
    enum pgqrs_rc (*send_event)(struct pgqrs_job *job, int64_t run, const char *name,
                                const char *payload, size_t len, int *first_out);
    /* Starts a run of a workflow, once. *child_out: its name for join and send_event. */
    enum pgqrs_rc (*run_child)(struct pgqrs_job *job, const char *name, const char *workflow,
                               const char *input, size_t len, int64_t *child_out);
    /* Waits for the child's end and gives its output. PGQRS_RC_FAILED: it has failed or was
     * cancelled. */
    enum pgqrs_rc (*join)(struct pgqrs_job *job, const char *name, int64_t child,
                          const char **output_out);
    /* A value that can be read from outside while the job runs, and after it: `pgqrs run state`.
     * Stored before it returns. Not only for workflows. */
    enum pgqrs_rc (*set_state)(struct pgqrs_job *job, const char *key, const char *json,
                               size_t len);
    /* Ends the run and begins another with this input, without the steps. Pass it up. */
    enum pgqrs_rc (*continue_as_new)(struct pgqrs_job *job, const char *input, size_t len);
    /* In a step: a statement for the database that keeps the queue (SQLite, PostgreSQL), run in the
     * transaction that stores the step, with $1, $2, ... as texts; null: NULL. The queue's `sql`
     * has to allow it. When the database refuses it the step has failed for good. 0, or -1: not in
     * a step, too many (100), or too large (1 MiB in all). */
    int (*step_sql)(struct pgqrs_job *job, const char *statement, const char *const *params,
                    size_t count);
    /* Of the last function that returned PGQRS_RC_FAILED: JSON. */
    const char *(*step_error)(struct pgqrs_job *job);
};

struct pgqrs_job {
    uint32_t size;         /* of this struct, as the host was built */
    uint32_t attempt;      /* 1 on the first delivery */
    uint32_t max_attempts; /* of the queue, and one more for each attempt that has crashed its
                              worker; this attempt is the last when they are equal */
    int32_t priority;
    int64_t id;
    int64_t enqueued_at_us; /* since 1970 UTC */
    const char *queue;      /* the queue's name */
    const char *payload;    /* one JSON value, UTF-8, terminated by a zero byte */
    size_t payload_len;     /* without the zero byte */
    const struct pgqrs_host *host;
    int64_t timeout_ms; /* the queue's limit for this attempt, from when run is called, without the
                           time that functions here wait for the store; 0: none */
    /* ABI 1 as first released ends here. */
    const char *input; /* of a workflow: the value of "input" in the payload, or all of it when
                          there is none. Not terminated */
    size_t input_len;
};

/* What init is given. */
struct pgqrs_setup {
    uint32_t size;
    const char *queue;
    const char *settings; /* the queue's `settings` of the configuration, as a JSON object */
    const struct pgqrs_host *host;
    char *error;       /* init writes here why it failed, terminated */
    size_t error_size; /* of that buffer */
    /* ABI 1 as first released ends here. */
};

struct pgqrs_handler {
    uint32_t abi;  /* PGQRS_HANDLER_ABI */
    uint32_t size; /* sizeof (struct pgqrs_handler) as the plugin was built */
    const char *name, *version;
    /* May be null. 0, or -1 with setup->error filled: the worker then ends and is tried again
     * later. *state_out starts as null and is handed to run and fini. */
    int (*init)(const struct pgqrs_setup *setup, void **state_out);
    enum pgqrs_outcome (*run)(void *state, struct pgqrs_job *job);
    void (*fini)(void *state); /* may be null; not called when the worker is killed */
    /* ABI 1 as first released ends here. */
    uint32_t flags; /* PGQRS_WORKFLOW, ... */
};

#define PGQRS_WORKFLOW 1u /* its queue is a workflow's, which is made when there is none */
/* A run that is cancelled after it has begun is run once more, so that it can undo what it has
 * done: also steps that have stored nothing, since they may have been cut short. */
#define PGQRS_COMPENSATES 2u

#if defined(__GNUC__)
#define PGQRS_EXPORT __attribute__((visibility("default")))
#define PGQRS_FORMAT(f, a) __attribute__((format(printf, f, a)))
#else
#define PGQRS_EXPORT
#define PGQRS_FORMAT(f, a)
#endif

PGQRS_EXPORT const struct pgqrs_handler *pgqrs_handler_entry(void);

/* Shorthands for the host functions; texts are cut at 1023 bytes. */

PGQRS_FORMAT(2, 3)
static inline void pgqrs_job_log(const struct pgqrs_job *job, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    job->host->log(job, PGQRS_LEVEL_INFO, text);
}

/* return pgqrs_fail(job, "no such file: %s", path); */
PGQRS_FORMAT(2, 3)
static inline enum pgqrs_outcome pgqrs_fail(struct pgqrs_job *job, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    job->host->set_error(job, text);
    return PGQRS_FAIL;
}

/* A failure that may pass; delay_ms below 0 leaves the delay to the queue's retry policy. */
PGQRS_FORMAT(3, 4)
static inline enum pgqrs_outcome pgqrs_retry(struct pgqrs_job *job, int64_t delay_ms,
                                             const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    job->host->set_error(job, text);
    if (delay_ms >= 0) {
        job->host->set_delay(job, delay_ms);
    }
    return PGQRS_RETRY;
}

static inline enum pgqrs_outcome pgqrs_snooze(struct pgqrs_job *job, int64_t delay_ms)
{
    job->host->set_delay(job, delay_ms);
    return PGQRS_SNOOZE;
}

static inline int pgqrs_cancelled(const struct pgqrs_job *job)
{
    return job->host->cancelled(job);
}

static inline enum pgqrs_rc pgqrs_step(struct pgqrs_job *job, const char *name, pgqrs_step_fn fn,
                                       void *arg, const char **result_out)
{
    return job->host->step(job, name, NULL, fn, arg, result_out);
}

static inline enum pgqrs_rc pgqrs_step_with(struct pgqrs_job *job, const char *name,
                                            struct pgqrs_step_options options, pgqrs_step_fn fn,
                                            void *arg, const char **result_out)
{
    options.size = (uint32_t)sizeof options;
    return job->host->step(job, name, &options, fn, arg, result_out);
}

static inline enum pgqrs_rc pgqrs_sleep(struct pgqrs_job *job, const char *name, int64_t ms)
{
    return job->host->sleep(job, name, ms);
}

static inline enum pgqrs_rc pgqrs_wait_event(struct pgqrs_job *job, const char *name,
                                             int64_t timeout_ms, const char **payload_out)
{
    return job->host->wait_event(job, name, timeout_ms, payload_out);
}

static inline enum pgqrs_rc pgqrs_send_event(struct pgqrs_job *job, int64_t run, const char *name,
                                             const char *payload, size_t len)
{
    return job->host->send_event(job, run, name, payload, len, NULL);
}

static inline enum pgqrs_rc pgqrs_run_child(struct pgqrs_job *job, const char *name,
                                            const char *workflow, const char *input, size_t len,
                                            int64_t *child_out)
{
    return job->host->run_child(job, name, workflow, input, len, child_out);
}

static inline enum pgqrs_rc pgqrs_join(struct pgqrs_job *job, const char *name, int64_t child,
                                       const char **output_out)
{
    return job->host->join(job, name, child, output_out);
}

static inline enum pgqrs_rc pgqrs_set_state(struct pgqrs_job *job, const char *key,
                                            const char *json, size_t len)
{
    return job->host->set_state(job, key, json, len);
}

/* A number from 0 to 100 under the key "progress". */
static inline enum pgqrs_rc pgqrs_set_progress(struct pgqrs_job *job, unsigned percent)
{
    char text[16];
    int n = snprintf(text, sizeof text, "%u", percent);
    return job->host->set_state(job, "progress", text, (size_t)n);
}

static inline enum pgqrs_rc pgqrs_continue_as_new(struct pgqrs_job *job, const char *input,
                                                  size_t len)
{
    return job->host->continue_as_new(job, input, len);
}

static inline const char *pgqrs_step_error(struct pgqrs_job *job)
{
    return job->host->step_error(job);
}

#ifdef __cplusplus
}
#endif

#endif
