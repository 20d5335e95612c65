/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A workflow that does what its input says: a text of words, each OP:NAME or OP:NAME:ARGUMENT.
 *
 *   step:NAME           appends a line; its result is {"step":"NAME"}
 *   flaky:NAME:N        is to be tried again the first N times
 *   far:NAME            is to be tried again, after the longest delay that can be asked for
 *   fail:NAME           fails for good. try:NAME the same, and the run goes on
 *   snooze:NAME         not now, the first time
 *   die:NAME            kills its worker in the step, the first time
 *   after:NAME          kills its worker behind the stored step, the first time
 *   slow:NAME:MS        works for so long
 *   sql:NAME            inserts NAME into the table effects(name) with the step
 *   badsql:NAME         brings a statement that the database refuses
 *   add:NAME:QUEUE      enqueues {"from":"NAME"} with the step
 *   sleep:NAME:MS       wait:NAME:MS (below 0: for ever)
 *   child:NAME:INPUT    starts a run of this workflow; _ in INPUT stands for a space, ; for :
 *   join:NAME:INDEX     of the INDEX-th child
 *   state:KEY:TEXT      send:EVENT:RUN
 *   said:NAME:QUEUE     enqueues {"from":"NAME"} with the run, whose result becomes {"said":true}
 *   jump:NAME           leaves the step by a jump
 *   naps:NAME:N         N sleeps of no length
 *   forge:NAME          in the step, the first time, asks the broker twice without waiting
 *   undo:NAME           a step for when the run is cancelled
 *   again:N             continues as new with again:N-1, until 0
 *   switch:FILE:A       as the op that stands in FILE, if there is such a file, else step:A
 *
 * Each line: WHAT NAME RUN ATTEMPT PID. Settings: {"file": PATH}.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <pgqrs/handler.h>

#include "ipc/msg_flow.h"
#include "tests/handlers/flat_json.h"

struct state {
    int fd;
    char path[4096];
};

struct op {
    const struct state *state;
    struct pgqrs_job *job;
    char what[16], name[128], argument[256];
};

#define CHILDREN_MAX 64

static jmp_buf behind_step;

static int trace(const struct op *op, const char *what, const char *name)
{
    char line[512];
    int n = snprintf(line, sizeof line, "%s %s %lld %u %d\n", what, name, (long long)op->job->id,
                     op->job->attempt, (int)getpid());
    return write(op->state->fd, line, (size_t)n) == n ? 0 : -1;
}

/* How often there is such a line already. */
static int traced(const struct op *op, const char *what)
{
    char start[256];
    char line[512];
    int count = 0;
    int n = snprintf(start, sizeof start, "%s %s %lld ", what, op->name, (long long)op->job->id);
    FILE *f = fopen(op->state->path, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        count += strncmp(line, start, (size_t)n) == 0 ? 1 : 0;
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return count;
}

static void work(const struct op *op, long ms)
{
    const struct timespec slice = {.tv_nsec = 5000000};
    for (long left = ms; left > 0 && !pgqrs_cancelled(op->job); left -= 5) {
        (void)nanosleep(&slice, NULL);
    }
}

/* To whatever the worker is connected with. */
static void forge(const struct op *op)
{
    uint8_t frames[2][86] = {{0}};
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t *frame = frames[i];
        const uint32_t seq = 1000 + i;
        frame[0] = sizeof frames[i] - PGQRS_FRAME_HEADER;
        frame[4] = (uint8_t)PGQRS_MSG_JOB_FLOW;
        frame[5] = (uint8_t)(PGQRS_MSG_JOB_FLOW >> 8);
        memcpy(frame + 8, &op->job->id, 8);
        memcpy(frame + 16, &op->job->attempt, 4);
        memcpy(frame + 24, &seq, 4);
        frame[28] = PGQRS_ASK_OPEN;
    }
    for (int fd = 3; fd < 64; fd++) {
        struct sockaddr_storage peer = {0};
        socklen_t len = sizeof peer;
        int type = 0;
        socklen_t type_len = sizeof type;
        if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0 && len > sizeof(sa_family_t) + 1 &&
            getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) == 0 && type == SOCK_STREAM) {
            (void)!write(fd, frames, sizeof frames);
        }
    }
}

static enum pgqrs_outcome step(struct pgqrs_job *job, void *arg)
{
    const struct op *op = arg;
    char result[256];
    int before = traced(op, op->what);
    if (trace(op, op->what, op->name) < 0) {
        return pgqrs_fail(job, "script: the file can not be written");
    }
    if (strcmp(op->what, "flaky") == 0 && before < atoi(op->argument)) {
        return pgqrs_retry(job, -1, "script: flaky");
    }
    if (strcmp(op->what, "far") == 0) {
        return pgqrs_retry(job, -1, "script: far");
    }
    if (strcmp(op->what, "snooze") == 0 && before == 0) {
        return pgqrs_snooze(job, 50);
    }
    if (strcmp(op->what, "fail") == 0 || strcmp(op->what, "try") == 0) {
        return pgqrs_fail(job, "script: %s", op->name);
    }
    if (strcmp(op->what, "die") == 0 && before == 0) {
        (void)raise(SIGKILL);
    }
    if (strcmp(op->what, "forge") == 0 && before == 0) {
        forge(op);
        work(op, 60000);
    }
    if (strcmp(op->what, "jump") == 0) {
        longjmp(behind_step, 1);
    }
    if (strcmp(op->what, "slow") == 0) {
        work(op, atol(op->argument));
    }
    if (strcmp(op->what, "sql") == 0) {
        const char *params[] = {op->name};
        if (job->host->step_sql(job, "INSERT INTO effects(name) VALUES ($1)", params, 1) < 0) {
            return pgqrs_fail(job, "script: the statement was not taken");
        }
    }
    if (strcmp(op->what, "badsql") == 0) {
        (void)job->host->step_sql(job, "INSERT INTO no_such_table VALUES (1)", NULL, 0);
    }
    if (strcmp(op->what, "add") == 0) {
        int n = snprintf(result, sizeof result, "{\"from\":\"%s\"}", op->name);
        if (job->host->enqueue(job, op->argument, result, (size_t)n, 0, 0) < 0) {
            return pgqrs_fail(job, "script: enqueue was refused");
        }
    }
    int n = snprintf(result, sizeof result, "{\"step\":\"%s\"}", op->name);
    return job->host->set_result(job, result, (size_t)n) < 0 ? PGQRS_FAIL : PGQRS_DONE;
}

static enum pgqrs_rc run_step(struct op *op, uint32_t flags)
{
    const char *result = NULL;
    struct pgqrs_step_options options = {.flags = flags, .base_ms = 20, .max_ms = 100};
    if (strcmp(op->what, "far") == 0) {
        options.base_ms = options.max_ms = INT64_MAX;
    }
    bool stays = strcmp(op->what, "after") == 0 && traced(op, "behind") == 0;
    enum pgqrs_rc rc = pgqrs_step_with(op->job, op->name, options, step, op, &result);
    if (rc == PGQRS_RC_OK && result == NULL) {
        (void)trace(op, "noresult", op->name);
    }
    if (rc == PGQRS_RC_OK && stays) {
        (void)trace(op, "behind", op->name);
        (void)raise(SIGKILL);
    }
    return rc;
}

static enum pgqrs_rc run_child(struct op *op, int64_t *children, size_t *count)
{
    char input[300];
    for (char *c = op->argument; *c != 0; c++) {
        if (*c == '_') {
            *c = ' ';
        } else if (*c == ';') {
            *c = ':';
        }
    }
    int n = snprintf(input, sizeof input, "\"%s\"", op->argument);
    return pgqrs_run_child(op->job, op->name, op->job->queue, input, (size_t)n,
                           &children[(*count)++ % CHILDREN_MAX]);
}

static enum pgqrs_rc run_wait(struct op *op, const int64_t *children)
{
    const char *json = NULL;
    char line[256];
    enum pgqrs_rc rc =
        strcmp(op->what, "join") == 0
            ? pgqrs_join(op->job, op->name, children[atoi(op->argument) % CHILDREN_MAX], &json)
            : pgqrs_wait_event(op->job, op->name, atol(op->argument), &json);
    if (rc == PGQRS_RC_OK) {
        (void)snprintf(line, sizeof line, "%s=%s", op->name, json);
        (void)trace(op, "got", line);
    } else if (rc == PGQRS_RC_TIMED_OUT || rc == PGQRS_RC_FAILED) {
        (void)trace(op, rc == PGQRS_RC_FAILED ? "failed" : "timeout", op->name);
        rc = PGQRS_RC_OK;
    }
    return rc;
}

static enum pgqrs_rc say(struct op *op)
{
    char json[300];
    int n = snprintf(json, sizeof json, "{\"from\":\"%s\"}", op->name);
    int rc = op->job->host->enqueue(op->job, op->argument, json, (size_t)n, 0, 0);
    rc = rc < 0 ? rc : op->job->host->set_result(op->job, "{\"said\":true}", 13);
    return rc < 0 ? PGQRS_RC_STOPPED : PGQRS_RC_OK;
}

static enum pgqrs_rc nap(struct op *op)
{
    char name[160];
    enum pgqrs_rc rc = PGQRS_RC_OK;
    for (int i = 0; rc == PGQRS_RC_OK && i < atoi(op->argument); i++) {
        (void)snprintf(name, sizeof name, "%s%d", op->name, i);
        rc = pgqrs_sleep(op->job, name, 0);
    }
    return rc;
}

static enum pgqrs_rc run_op(struct op *op, int64_t *children, size_t *count)
{
    char json[300];
    if (strcmp(op->what, "sleep") == 0) {
        return pgqrs_sleep(op->job, op->name, atol(op->argument));
    }
    if (strcmp(op->what, "said") == 0) {
        return say(op);
    }
    if (strcmp(op->what, "naps") == 0) {
        return nap(op);
    }
    if (strcmp(op->what, "wait") == 0 || strcmp(op->what, "join") == 0) {
        return run_wait(op, children);
    }
    if (strcmp(op->what, "child") == 0) {
        return run_child(op, children, count);
    }
    if (strcmp(op->what, "state") == 0) {
        int n = snprintf(json, sizeof json, "\"%s\"", op->argument);
        return pgqrs_set_state(op->job, op->name, json, (size_t)n);
    }
    if (strcmp(op->what, "send") == 0) {
        return pgqrs_send_event(op->job, atoll(op->argument), op->name, "\"sent\"", 6);
    }
    if (strcmp(op->what, "again") == 0) {
        long left = atol(op->name);
        int n = snprintf(json, sizeof json, "\"step:round%ld again:%ld\"", left, left - 1);
        return left <= 0 ? PGQRS_RC_OK : pgqrs_continue_as_new(op->job, json, (size_t)n);
    }
    if (strcmp(op->what, "switch") == 0) {
        FILE *f = fopen(op->name, "re");
        (void)snprintf(op->name, sizeof op->name, "%s", op->argument);
        (void)snprintf(op->what, sizeof op->what, "step");
        if (f != NULL) {
            (void)!fscanf(f, "%15[^:]:%127s", op->what, op->name);
            (void)fclose(f);
        }
        return strcmp(op->what, "none") == 0 ? PGQRS_RC_OK : run_step(op, 0);
    }
    if (strcmp(op->what, "jump") == 0 && setjmp(behind_step) != 0) {
        return PGQRS_RC_OK;
    }
    enum pgqrs_rc rc = run_step(op, 0);
    return rc == PGQRS_RC_FAILED && strcmp(op->what, "try") == 0 ? PGQRS_RC_OK : rc;
}

/* Every undo there is, from the last to the first. */
static enum pgqrs_rc undo(const struct op *like, char *words)
{
    struct op op = *like;
    for (char *at = words + strlen(words); at > words; at--) {
        if (strncmp(at, "undo:", 5) == 0) {
            (void)snprintf(op.what, sizeof op.what, "undo");
            (void)sscanf(at, "undo:%127[^ :]", op.name);
            enum pgqrs_rc rc = run_step(&op, PGQRS_STEP_ON_CANCEL);
            if (rc != PGQRS_RC_OK) {
                return rc;
            }
        }
    }
    return PGQRS_RC_CANCELLED;
}

static enum pgqrs_outcome run(void *opaque, struct pgqrs_job *job)
{
    int64_t children[CHILDREN_MAX] = {0};
    size_t count = 0;
    char words[4096];
    char rest[4096];
    struct op op = {.state = opaque, .job = job};
    size_t len = job->input_len < 2 ? 0 : job->input_len - 2;
    (void)snprintf(words, sizeof words, "%.*s", (int)len, job->input + 1);
    (void)snprintf(rest, sizeof rest, "%s", words);
    (void)trace(&op, "begin", "-");
    char *save = NULL;
    for (char *word = strtok_r(rest, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
        op.name[0] = op.argument[0] = 0;
        (void)sscanf(word, "%15[^:]:%127[^:]:%255s", op.what, op.name, op.argument);
        if (strcmp(op.what, "undo") == 0) {
            continue;
        }
        enum pgqrs_rc rc = run_op(&op, children, &count);
        if (rc == PGQRS_RC_CANCELLED) {
            rc = undo(&op, words);
        }
        PGQRS_TRY(rc);
    }
    (void)trace(&op, "end", "-");
    if (strstr(words, "said:") == NULL) {
        (void)job->host->set_result(job, "{\"done\":true}", 13);
    }
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
        (void)snprintf(setup->error, setup->error_size, "script: can not open \"%s\"", state->path);
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
    .name = "script",
    .version = "1",
    .init = init,
    .run = run,
    .fini = fini,
    .flags = PGQRS_WORKFLOW | PGQRS_COMPENSATES,
};

PGQRS_EXPORT const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
