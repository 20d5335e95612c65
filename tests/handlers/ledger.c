/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps the ledger of tests/chaos: what was really run, told by nobody but the handler itself.
 *
 *   start ID ATTEMPT PID TIME HOLDER QUEUE FROM
 *   end ID ATTEMPT PID TIME HOW
 *
 * each by one write. TIME is the monotonic clock in microseconds. While a job runs, the process
 * has a lock on the byte of the file "locks" whose number is the job's; the kernel takes it away
 * when the process is gone. HOLDER is the pid of another process that has it, 0 when none has.
 *
 * The result of a job that is done is {"attempt": ATTEMPT, "version": VERSION}, with that of the
 * plugin.
 *
 * Settings: {"dir": PATH}. Payload, every key optional:
 *   ms     work for so long, in slices, looking for a cancellation in between
 *   fails  N: retry while the attempt is N or less
 *   dead   1: fail for good
 *   crash  N: kill this process while the attempt is N or less
 *   hang   N: never end, and do not listen, while the attempt is N or less
 *   then   1: adds a job {"from": ID} to the queue "follow"
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include <pgqrs/handler.h>

#include "tests/handlers/flat_json.h"

#ifndef LEDGER_VERSION
#define LEDGER_VERSION 1
#endif
#define SLICE_MS 5

struct state {
    int ledger;
    int locks;
};

static int64_t now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static struct flock lock_of(const struct pgqrs_job *job, short type)
{
    return (struct flock){
        .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)job->id, .l_len = 1};
}

/* Returns who else has it, 0 when nobody has. */
static pid_t lock(const struct state *state, const struct pgqrs_job *job)
{
    struct flock l = lock_of(job, F_WRLCK);
    if (fcntl(state->locks, F_SETLK, &l) == 0) {
        return 0;
    }
    l = lock_of(job, F_WRLCK);
    return fcntl(state->locks, F_GETLK, &l) == 0 && l.l_type != F_UNLCK ? l.l_pid : 0;
}

static int write_line(const struct state *state, const char *line, int n)
{
    return write(state->ledger, line, (size_t)n) == n ? 0 : -1;
}

static int write_start(const struct state *state, const struct pgqrs_job *job, pid_t holder)
{
    char line[192];
    int n = snprintf(line, sizeof line, "start %lld %u %d %lld %d %.32s %lld\n", (long long)job->id,
                     job->attempt, (int)getpid(), (long long)now_us(), (int)holder, job->queue,
                     flat_number(job->payload, "from", 0));
    return write_line(state, line, n);
}

static int write_end(const struct state *state, const struct pgqrs_job *job, const char *how)
{
    char line[128];
    struct flock l = lock_of(job, F_UNLCK);
    int n = snprintf(line, sizeof line, "end %lld %u %d %lld %s\n", (long long)job->id,
                     job->attempt, (int)getpid(), (long long)now_us(), how);
    int rc = write_line(state, line, n);
    (void)fcntl(state->locks, F_SETLK, &l);
    return rc;
}

/* False when it was cancelled. */
static bool work(const struct pgqrs_job *job, long long ms, bool hang)
{
    const struct timespec slice = {.tv_nsec = SLICE_MS * 1000000};
    int64_t until = now_us() + ms * 1000;
    while (hang || now_us() < until) {
        if (!hang && pgqrs_cancelled(job)) {
            return false;
        }
        (void)nanosleep(&slice, NULL);
    }
    return true;
}

static enum pgqrs_outcome end(const struct state *state, struct pgqrs_job *job)
{
    if (job->attempt <= flat_number(job->payload, "fails", 0)) {
        (void)write_end(state, job, "retry");
        return pgqrs_retry(job, -1, "ledger: retry, as the payload says");
    }
    if (flat_number(job->payload, "dead", 0) != 0) {
        (void)write_end(state, job, "failed");
        return pgqrs_fail(job, "ledger: fail, as the payload says");
    }
    if (flat_number(job->payload, "then", 0) != 0) {
        char payload[48];
        int n = snprintf(payload, sizeof payload, "{\"from\": %lld}", (long long)job->id);
        if (job->host->enqueue(job, "follow", payload, (size_t)n, 0, 0) < 0) {
            return pgqrs_fail(job, "ledger: enqueue was refused");
        }
    }
    char result[64];
    int len = snprintf(result, sizeof result, "{\"attempt\": %u, \"version\": %d}", job->attempt,
                       LEDGER_VERSION);
    if (job->host->set_result(job, result, (size_t)len) < 0) {
        return pgqrs_fail(job, "ledger: the result was refused");
    }
    return write_end(state, job, "done") < 0 ? pgqrs_fail(job, "ledger: can not write")
                                             : PGQRS_DONE;
}

static enum pgqrs_outcome run(void *opaque, struct pgqrs_job *job)
{
    const struct state *state = opaque;
    if (write_start(state, job, lock(state, job)) < 0) {
        return pgqrs_fail(job, "ledger: can not write");
    }
    if (job->attempt <= flat_number(job->payload, "crash", 0)) {
        (void)raise(SIGKILL);
    }
    bool hang = job->attempt <= flat_number(job->payload, "hang", 0);
    if (!work(job, flat_number(job->payload, "ms", 0), hang)) {
        (void)write_end(state, job, "cancelled");
        return PGQRS_CANCELLED;
    }
    return end(state, job);
}

static int open_below(const char *dir, const char *name, int flags)
{
    char path[4200];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return open(path, flags | O_CREAT | O_CLOEXEC, 0600);
}

static int init(const struct pgqrs_setup *setup, void **state_out)
{
    char dir[4096];
    flat_text(setup->settings, "dir", dir, sizeof dir);
    struct state *state = malloc(sizeof *state);
    if (state == NULL) {
        return -1;
    }
    state->ledger = open_below(dir, "runs", O_WRONLY | O_APPEND);
    state->locks = open_below(dir, "locks", O_RDWR);
    if (state->ledger < 0 || state->locks < 0) {
        (void)snprintf(setup->error, setup->error_size, "ledger: can not open files in \"%s\"",
                       dir);
        free(state);
        return -1;
    }
    *state_out = state;
    return 0;
}

static void fini(void *opaque)
{
    struct state *state = opaque;
    (void)close(state->ledger);
    (void)close(state->locks);
    free(state);
}

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "ledger",
    .version = "1.0",
    .init = init,
    .run = run,
    .fini = fini,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
