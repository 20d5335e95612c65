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
};

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
    int64_t timeout_ms; /* the queue's limit for this attempt, from when run is called; 0: none */
    /* ABI 1 as first released ends here. */
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
};

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

#ifdef __cplusplus
}
#endif

#endif
