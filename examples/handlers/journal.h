/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the workflow examples do "to the outside": a line in a file, {"file": PATH} of the queue's
 * settings, and in the log. A real handler would call a service, with `key`, which is the same each
 * time, so that the service can tell a repeated call from a second one.
 */
#ifndef PGQRS_EXAMPLES_JOURNAL_H
#define PGQRS_EXAMPLES_JOURNAL_H

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include <pgqrs/handler.h>

struct journal {
    int fd; /* -1: only the log */
    long work_ms;
    long calls;
};

/* Settings: file, relative to the directory in which pgqrsd was started; work_ms, how long a call
 * takes, so that there is something to watch. */
static inline int journal_open(struct journal *j, json_t *settings, const struct pgqrs_setup *setup)
{
    const char *path = json_string_value(json_object_get(settings, "file"));
    j->work_ms = (long)json_integer_value(json_object_get(settings, "work_ms"));
    j->fd = path == NULL ? -1 : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (path != NULL && j->fd < 0) {
        (void)snprintf(setup->error, setup->error_size, "settings: file: can not open \"%s\": %s",
                       path, strerror(errno));
        return -1;
    }
    return 0;
}

static inline void journal_close(struct journal *j)
{
    if (j->fd >= 0) {
        (void)close(j->fd);
    }
}

/* "The call." PGQRS_DONE, or what the step that makes it returns. */
static inline enum pgqrs_outcome journal_call(struct journal *j, struct pgqrs_job *job,
                                              const char *what, const char *key, const char *text)
{
    const struct timespec slice = {.tv_nsec = 10000000};
    char line[512];
    int n = snprintf(line, sizeof line, "%s %s %s\n", what, key, text);
    size_t len = n < (int)sizeof line ? (size_t)n : sizeof line - 1;
    pgqrs_job_log(job, "%s %s %s", what, key, text);
    if (j->fd >= 0 && write(j->fd, line, len) != (ssize_t)len) {
        return pgqrs_retry(job, -1, "the file can not be written: %s", strerror(errno));
    }
    j->calls++;
    for (long ms = 0; ms < j->work_ms; ms += 10) {
        if (pgqrs_cancelled(job)) {
            return PGQRS_CANCELLED; /* the worker is being stopped: the step runs again elsewhere */
        }
        (void)nanosleep(&slice, NULL);
    }
    return PGQRS_DONE;
}

/* The step's result, taken over. */
static inline enum pgqrs_outcome journal_result(struct pgqrs_job *job, json_t *result)
{
    char *text = result == NULL ? NULL : json_dumps(result, JSON_COMPACT);
    int rc = text == NULL ? -1 : job->host->set_result(job, text, strlen(text));
    free(text);
    json_decref(result);
    return rc < 0 ? pgqrs_fail(job, "the result was not accepted") : PGQRS_DONE;
}

#endif
