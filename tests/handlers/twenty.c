/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A workflow of twenty steps, s1 to s20. Each appends a line "step RUN STEP NONCE TIME" to a file
 * and inserts (run, step, nonce) into the table twenty; its result is the nonce. Behind the step a
 * line "stored RUN STEP NONCE TIME". Times are CLOCK_MONOTONIC, in nanoseconds. A step works for up
 * to a millisecond.
 *
 * The input says where to do harm, once in a run: {"harm": HARM, "step": STEP, "us": DELAY}.
 *   worker_before broker_before   SIGKILL as the last thing of the step's function
 *   worker_behind broker_behind   as the first thing behind the stored step
 *   worker_during broker_during   DELAY after the step's function
 *   worker_end    broker_end      DELAY after the workflow's function
 * It leaves a line "kill HARM RUN STEP". Settings: {"file": PATH}.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <pgqrs/handler.h>

#include "tests/handlers/flat_json.h"

#define STEPS 20

struct state {
    int fd;
    char path[4096];
};

struct run {
    const struct state *state;
    struct pgqrs_job *job;
    char harm[32];
    long long harm_step, harm_us;
    int step;
};

static long long now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int append(const struct state *state, const char *line, int len)
{
    return write(state->fd, line, (size_t)len) == len ? 0 : -1;
}

/* The broker of the same pgqrsd; 0: there is none now. */
static pid_t find_broker(void)
{
    char path[64];
    char name[32];
    int pid;
    pid_t found = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)getppid(), (int)getppid());
    FILE *children = fopen(path, "re");
    while (children != NULL && found == 0 && fscanf(children, "%d", &pid) == 1) {
        (void)snprintf(path, sizeof path, "/proc/%d/comm", pid);
        FILE *comm = fopen(path, "re");
        if (comm != NULL && fgets(name, sizeof name, comm) != NULL &&
            strncmp(name, "pgqrs-broker", 12) == 0) {
            found = pid;
        }
        if (comm != NULL) {
            (void)fclose(comm);
        }
    }
    if (children != NULL) {
        (void)fclose(children);
    }
    return found;
}

static void kill_later(pid_t victim, long long us)
{
    const struct timespec delay = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    pid_t killer = fork();
    if (killer == 0) {
        (void)nanosleep(&delay, NULL);
        (void)kill(victim, SIGKILL);
        _exit(0);
    }
}

static bool is_first_time(const struct run *r)
{
    char mark[4200];
    (void)snprintf(mark, sizeof mark, "%s.%lld", r->state->path, (long long)r->job->id);
    int fd = open(mark, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (void)close(fd);
    }
    return fd >= 0;
}

/* Where: "before", "behind", "during" or "end". */
static void harm(const struct run *r, const char *where)
{
    char line[128];
    const char *at = strchr(r->harm, '_');
    if (at == NULL || strcmp(at + 1, where) != 0 || r->step != r->harm_step || !is_first_time(r)) {
        return;
    }
    pid_t victim = strncmp(r->harm, "worker", 6) == 0 ? getpid() : find_broker();
    if (victim == 0) {
        return;
    }
    int n =
        snprintf(line, sizeof line, "kill %s %lld %d\n", r->harm, (long long)r->job->id, r->step);
    (void)append(r->state, line, n);
    if (r->harm_us > 0) {
        kill_later(victim, r->harm_us);
    } else {
        (void)kill(victim, SIGKILL);
    }
}

static enum pgqrs_outcome step(struct pgqrs_job *job, void *arg)
{
    const struct run *r = arg;
    char nonce[64];
    char run[24];
    char number[12];
    char line[256];
    const char *params[] = {run, number, nonce};
    long long now = now_ns();
    (void)snprintf(nonce, sizeof nonce, "%d-%lld", (int)getpid(), now);
    (void)snprintf(run, sizeof run, "%lld", (long long)job->id);
    (void)snprintf(number, sizeof number, "%d", r->step);
    int n = snprintf(line, sizeof line, "step %s %s %s %lld\n", run, number, nonce, now);
    if (append(r->state, line, n) < 0 ||
        job->host->step_sql(job,
                            "INSERT INTO twenty(run, step, nonce)"
                            " VALUES (CAST($1 AS bigint), CAST($2 AS bigint), $3)",
                            params, 3) < 0) {
        return pgqrs_fail(job, "twenty: no line, or no row");
    }
    (void)nanosleep(&(struct timespec){.tv_nsec = now % 1000000}, NULL);
    n = snprintf(line, sizeof line, "\"%s\"", nonce);
    if (job->host->set_result(job, line, (size_t)n) < 0) {
        return PGQRS_FAIL;
    }
    harm(r, "before");
    harm(r, "during");
    return PGQRS_DONE;
}

static enum pgqrs_outcome run(void *opaque, struct pgqrs_job *job)
{
    struct run r = {.state = opaque, .job = job};
    flat_text(job->payload, "harm", r.harm, sizeof r.harm);
    r.harm_step = flat_number(job->payload, "step", 0);
    r.harm_us = flat_number(job->payload, "us", 0);
    while (waitpid(-1, NULL, WNOHANG) > 0) { /* killers that have done their work */
    }
    for (r.step = 1; r.step <= STEPS; r.step++) {
        char name[16];
        char line[256];
        const char *nonce = NULL;
        (void)snprintf(name, sizeof name, "s%d", r.step);
        PGQRS_TRY(pgqrs_step_with(job, name, (struct pgqrs_step_options){.retries = -1}, step, &r,
                                  &nonce));
        harm(&r, "behind");
        int n = snprintf(line, sizeof line, "stored %lld %d %.*s %lld\n", (long long)job->id,
                         r.step, (int)strcspn(nonce + 1, "\""), nonce + 1, now_ns());
        (void)append(r.state, line, n);
    }
    r.step = STEPS;
    (void)job->host->set_result(job, "{\"steps\":20}", 12);
    harm(&r, "end");
    return PGQRS_DONE;
}

static int init(const struct pgqrs_setup *setup, void **state_out)
{
    struct state *state = calloc(1, sizeof *state);
    if (state == NULL) {
        return -1;
    }
    flat_text(setup->settings, "file", state->path, sizeof state->path);
    state->fd = open(state->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (state->fd < 0) {
        (void)snprintf(setup->error, setup->error_size, "twenty: can not open \"%s\"", state->path);
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
    .name = "twenty",
    .version = "1",
    .init = init,
    .run = run,
    .fini = fini,
    .flags = PGQRS_WORKFLOW,
};

PGQRS_EXPORT const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
