/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A workflow that is timed: the input has one of
 *   {"steps": N}   N empty steps; appends "run BEGIN END", then N lines "step US"
 *   {"at": T}      sleeps until T and appends "woken US", which is how much later that was
 *   {"wait": 1}    waits for the event "go", whose payload is a time; appends "woken US"
 * to the file $BENCH_FILE. Times are CLOCK_MONOTONIC, in microseconds.
 */
#include <pgqrs/handler.h>

#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tests/handlers/flat_json.h"

#define STEPS_MAX 1000

static long long now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static enum pgqrs_outcome append(const char *text, size_t len)
{
    const char *path = getenv("BENCH_FILE");
    int fd = path == NULL ? -1 : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    enum pgqrs_outcome outcome =
        fd >= 0 && write(fd, text, len) == (ssize_t)len ? PGQRS_DONE : PGQRS_FAIL;
    if (fd >= 0) {
        (void)close(fd);
    }
    return outcome;
}

static enum pgqrs_outcome empty(struct pgqrs_job *job, void *arg)
{
    (void)arg;
    return job->host->set_result(job, "true", 4) < 0 ? PGQRS_FAIL : PGQRS_DONE;
}

static enum pgqrs_outcome steps(struct pgqrs_job *job, int count)
{
    static char text[STEPS_MAX * 24 + 64];
    static long long us[STEPS_MAX];
    const char *result;
    long long begin = now_us();
    for (int i = 0; i < count && i < STEPS_MAX; i++) {
        char name[16];
        long long start = now_us();
        (void)snprintf(name, sizeof name, "s%d", i);
        PGQRS_TRY(pgqrs_step(job, name, empty, NULL, &result));
        us[i] = now_us() - start;
    }
    int len = snprintf(text, sizeof text, "run %lld %lld\n", begin, now_us());
    for (int i = 0; i < count && i < STEPS_MAX; i++) {
        len += snprintf(text + len, sizeof text - (size_t)len, "step %lld\n", us[i]);
    }
    return append(text, (size_t)len);
}

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    char line[64];
    const char *payload;
    (void)state;
    int count = (int)flat_number(job->payload, "steps", 0);
    if (count > 0) {
        return steps(job, count);
    }
    long long at = flat_number(job->payload, "at", 0);
    if (at > 0) {
        long long left = at - now_us();
        PGQRS_TRY(pgqrs_sleep(job, "nap", left < 0 ? 0 : left / 1000));
    } else {
        PGQRS_TRY(pgqrs_wait_event(job, "go", -1, &payload));
        at = strtoll(payload, NULL, 10);
    }
    int len = snprintf(line, sizeof line, "woken %lld\n", now_us() - at);
    return append(line, (size_t)len);
}

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    static const struct pgqrs_handler handler = {
        .abi = PGQRS_HANDLER_ABI,
        .size = sizeof(struct pgqrs_handler),
        .name = "flow",
        .version = "1",
        .run = run,
        .flags = PGQRS_WORKFLOW,
    };
    return &handler;
}
