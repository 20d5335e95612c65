/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves a trace of every run: a line "start ID ATTEMPT PID" and a line "end ID ATTEMPT PID" in a
 * file, each by one write, so that lines of many workers do not mix.
 *
 * Settings: {"file": PATH}. Payload, every key optional:
 *   ms             work for so long, in slices, looking for a cancellation in between
 *   until          "FILE": work until there is this file instead
 *   ms_after_first the same from the second attempt on
 *   ignore_cancel  true: do not look
 *   say            "TEXT": a line on standard output, first
 *   crash          N: kill this process while the attempt is N or less
 *   mended         "FILE": but not when there is this file
 *   outcome        "done" (default), "retry", "fail", "snooze", "cancelled", "nonsense"
 *   delay_ms       with the outcome
 *   then           the name of a queue: adds a job {"from": ID} to it
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <pgqrs/handler.h>

#include "tests/handlers/flat_json.h"

#define SLICE_MS 5

struct state {
    int fd;
};

static int trace(const struct state *state, const char *what, const struct pgqrs_job *job)
{
    char line[96];
    int n = snprintf(line, sizeof line, "%s %lld %u %d\n", what, (long long)job->id, job->attempt,
                     (int)getpid());
    return write(state->fd, line, (size_t)n) == n ? 0 : -1;
}

static int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* False when it was cancelled. */
static bool work(const struct pgqrs_job *job, long long ms, bool ignore_cancel)
{
    const struct timespec slice = {.tv_nsec = SLICE_MS * 1000000};
    char file[256];
    int64_t until = now_ms() + ms;
    flat_text(job->payload, "until", file, sizeof file);
    while (file[0] != 0 ? access(file, F_OK) < 0 : now_ms() < until) {
        if (!ignore_cancel && pgqrs_cancelled(job)) {
            return false;
        }
        (void)nanosleep(&slice, NULL);
    }
    return true;
}

static enum pgqrs_outcome end(struct pgqrs_job *job, const char *outcome)
{
    long long delay_ms = flat_number(job->payload, "delay_ms", -1);
    if (strcmp(outcome, "retry") == 0) {
        return pgqrs_retry(job, delay_ms, "effect: retry, as the payload says");
    }
    if (strcmp(outcome, "fail") == 0) {
        return pgqrs_fail(job, "effect: fail, as the payload says");
    }
    if (strcmp(outcome, "snooze") == 0) {
        return pgqrs_snooze(job, delay_ms);
    }
    if (strcmp(outcome, "cancelled") == 0) {
        return PGQRS_CANCELLED;
    }
    return strcmp(outcome, "nonsense") == 0 ? (enum pgqrs_outcome)77 : PGQRS_DONE;
}

static enum pgqrs_outcome run(void *opaque, struct pgqrs_job *job)
{
    const struct state *state = opaque;
    char text[256];
    if (trace(state, "start", job) < 0) {
        return pgqrs_retry(job, -1, "effect: the file can not be written");
    }
    flat_text(job->payload, "say", text, sizeof text);
    if (text[0] != 0) {
        (void)printf("%s %lld\n", text, (long long)job->id);
    }
    flat_text(job->payload, "mended", text, sizeof text);
    if (job->attempt <= flat_number(job->payload, "crash", 0) && access(text, F_OK) < 0) {
        (void)raise(SIGKILL);
    }
    const char *ignore = flat_find(job->payload, "ignore_cancel");
    long long ms = flat_number(job->payload, "ms", 0);
    if (job->attempt > 1) {
        ms = flat_number(job->payload, "ms_after_first", ms);
    }
    if (!work(job, ms, ignore != NULL && *ignore == 't')) {
        return PGQRS_CANCELLED;
    }
    flat_text(job->payload, "then", text, sizeof text);
    if (text[0] != 0) {
        char payload[48];
        int n = snprintf(payload, sizeof payload, "{\"from\": %lld}", (long long)job->id);
        if (job->host->enqueue(job, text, payload, (size_t)n, 0, 0) < 0) {
            return pgqrs_fail(job, "effect: enqueue was refused");
        }
    }
    if (trace(state, "end", job) < 0) {
        return pgqrs_retry(job, -1, "effect: the file can not be written");
    }
    flat_text(job->payload, "outcome", text, sizeof text);
    return end(job, text);
}

static int init(const struct pgqrs_setup *setup, void **state_out)
{
    char path[4096];
    flat_text(setup->settings, "file", path, sizeof path);
    struct state *state = malloc(sizeof *state);
    if (state == NULL) {
        return -1;
    }
    state->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (state->fd < 0) {
        (void)snprintf(setup->error, setup->error_size, "effect: can not open \"%s\"", path);
        free(state);
        return -1;
    }
    *state_out = state;
    return 0;
}

static void fini(void *opaque)
{
    struct state *state = opaque;
    (void)close(state->fd);
    free(state);
}

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "effect",
    .version = "1.0",
    .init = init,
    .run = run,
    .fini = fini,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
