/* SPDX-License-Identifier: Apache-2.0 */
/* Writes "ID ATTEMPT PID MONOTONIC_US" to the file $BENCH_FILE, then, on the first attempt when the
 * payload says "wait", waits to be killed. */
#include <pgqrs/handler.h>

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    struct timespec now;
    char line[128];
    (void)state;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    const char *path = getenv("BENCH_FILE");
    int fd = path == NULL ? -1 : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    int n = snprintf(line, sizeof line, "%lld %u %d %lld\n", (long long)job->id, job->attempt,
                     (int)getpid(), (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    if (fd < 0 || write(fd, line, (size_t)n) != n) {
        return pgqrs_fail(job, "can not write BENCH_FILE");
    }
    (void)close(fd);
    if (job->attempt == 1 && strstr(job->payload, "wait") != NULL) {
        (void)poll(NULL, 0, 60000);
    }
    return PGQRS_DONE;
}

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    static const struct pgqrs_handler handler = {
        .abi = PGQRS_HANDLER_ABI,
        .size = sizeof(struct pgqrs_handler),
        .name = "stamp",
        .version = "1",
        .run = run,
    };
    return &handler;
}
