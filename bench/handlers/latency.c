/* SPDX-License-Identifier: Apache-2.0 */
/* The payload is a number, a monotonic time in nanoseconds; what has passed since is appended to
 * the file $BENCH_FILE in microseconds, one a line. */
#include <pgqrs/handler.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    struct timespec now;
    char line[32];
    (void)state;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    long long then = strtoll(job->payload, NULL, 10);
    long long passed = (long long)now.tv_sec * 1000000000 + now.tv_nsec - then;
    int n = snprintf(line, sizeof line, "%lld\n", passed / 1000);
    const char *path = getenv("BENCH_FILE");
    int fd = path == NULL ? -1 : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    bool written = fd >= 0 && write(fd, line, (size_t)n) == n;
    if (fd >= 0) {
        (void)close(fd);
    }
    return written ? PGQRS_DONE : PGQRS_FAIL;
}

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    static const struct pgqrs_handler handler = {
        .abi = PGQRS_HANDLER_ABI,
        .size = sizeof(struct pgqrs_handler),
        .name = "latency",
        .version = "1",
        .run = run,
    };
    return &handler;
}
