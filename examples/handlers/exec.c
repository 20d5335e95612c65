/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a command for each job, with the payload on its standard input.
 *
 * Settings:
 *   command     ["program", "argument", ...], looked up in PATH; no shell is involved
 *   env         {"NAME": "value", ...} added to the environment (optional)
 *   max_output  keep so many bytes of standard output (optional, 65536)
 *
 * The command also gets PGQRS_JOB_ID, PGQRS_JOB_ATTEMPT and PGQRS_JOB_QUEUE. Its exit status:
 *   0                done; standard output becomes the result: as it is when it is JSON, else as a
 *                    JSON string, in which bytes that are not UTF-8 are question marks
 *   65 (EX_DATAERR)  failed for good
 *   anything else, such as 75 (EX_TEMPFAIL), or death by a signal: try again
 * Standard error goes to the log; its last line is the reason that is stored. A program that can
 * not be executed is a failure for good.
 *
 * The job ends with the command: whatever it left in the background is killed, daemons included.
 * On a cancellation the command's process group gets SIGTERM, and what is left after two seconds is
 * killed. All of it is killed at once when the worker dies, however that happens: exec_keeper.h
 * says how.
 */
#include <time.h>

#include "exec_keeper.h"
#include "exec_settings.h"

#define GRACE_MS 2000    /* between SIGTERM and SIGKILL */
#define LEFTOVER_MS 1000 /* for the rest of the output, after the keeper's end */

static int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- while it runs ---- */

static void feed(struct child *c, const struct pgqrs_job *job)
{
    ssize_t n = write(c->in, job->payload + c->sent, job->payload_len - c->sent);
    if (n > 0) {
        c->sent += (size_t)n;
    }
    bool again = n < 0 && (errno == EAGAIN || errno == EINTR);
    if ((n < 0 && !again) || c->sent == job->payload_len) {
        close_fd(&c->in); /* a command that does not want its input is no error */
    }
}

static void read_output(struct child *c, size_t max)
{
    char scrap[16384];
    ssize_t n = read(c->out, scrap, sizeof scrap);
    if (n > 0) {
        size_t room = max - c->output_len;
        size_t kept = (size_t)n < room ? (size_t)n : room;
        memcpy(c->output + c->output_len, scrap, kept);
        c->output_len += kept;
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close_fd(&c->out);
    }
}

/* To our own, of which the worker makes lines of the log. */
static void forward(const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, text, len);
        if (n < 0 && errno != EINTR) {
            return;
        }
        text += n < 0 ? 0 : n;
        len -= n < 0 ? 0 : (size_t)n;
    }
}

static void read_errors(struct child *c)
{
    if (c->tail_len > TAIL_SIZE) {
        memmove(c->tail, c->tail + c->tail_len - TAIL_SIZE, TAIL_SIZE);
        c->tail_len = TAIL_SIZE;
    }
    ssize_t n = read(c->err, c->tail + c->tail_len, sizeof c->tail - c->tail_len);
    if (n > 0) {
        forward(c->tail + c->tail_len, (size_t)n);
        c->tail_len += (size_t)n;
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close_fd(&c->err);
    }
}

static void read_report(struct child *c)
{
    struct report report;
    ssize_t n = recv(c->socket, &report, sizeof report, MSG_DONTWAIT);
    if (n == (ssize_t)sizeof report && report.kind == REPORT_NOT_EXECUTED) {
        c->exec_errno = report.value;
    } else if (n == (ssize_t)sizeof report) {
        c->status = report.value;
        c->ended = true;
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close_fd(&c->socket);
        (void)kill(-c->keeper, SIGKILL); /* usually done already by the keeper */
        c->deadline = now_ms() + LEFTOVER_MS;
    }
}

static void cancel(struct child *c)
{
    c->cancelled = true;
    c->deadline = now_ms() + GRACE_MS;
    (void)kill(-c->keeper, SIGTERM); /* the keeper blocks it */
}

/* Moves bytes until the keeper is gone and the output has ended. */
static void pump(struct child *c, const struct state *state, const struct pgqrs_job *job)
{
    while (c->socket >= 0 || c->out >= 0 || c->err >= 0) {
        int64_t left = c->deadline == 0 ? -1 : c->deadline - now_ms();
        if (c->deadline != 0 && left <= 0) {
            if (c->killed || c->socket < 0) {
                return; /* somebody whom the keeper could not find holds the output open */
            }
            c->killed = true;
            c->deadline = now_ms() + LEFTOVER_MS;
            (void)shutdown(c->socket, SHUT_WR); /* the keeper kills, then ends */
            continue;
        }
        struct pollfd fds[] = {
            {.fd = c->in, .events = POLLOUT},
            {.fd = c->out, .events = POLLIN},
            {.fd = c->err, .events = POLLIN},
            {.fd = c->socket, .events = POLLIN},
            {.fd = c->cancelled || c->ended ? -1 : job->host->cancel_fd(job), .events = POLLIN},
        };
        if (poll(fds, 5, (int)left) < 0) {
            continue; /* interrupted */
        }
        if (fds[0].revents != 0) {
            feed(c, job);
        }
        if (fds[1].revents != 0) {
            read_output(c, state->max_output);
        }
        if (fds[2].revents != 0) {
            read_errors(c);
        }
        if (fds[3].revents != 0) {
            read_report(c);
        }
        if (fds[4].revents != 0) {
            cancel(c);
        }
    }
}

static void close_all(struct child *c)
{
    close_fd(&c->in);
    close_fd(&c->out);
    close_fd(&c->err);
    close_fd(&c->socket);
}

static void stop(struct child *c)
{
    close_all(c); /* the keeper ends when the socket does, if it has not ended */
    while (waitpid(c->keeper, NULL, 0) < 0 && errno == EINTR) {
    }
}

/* ---- the outcome ---- */

/* The last line that is not empty, without its newline; may be empty. */
static const char *last_line(struct child *c)
{
    size_t len = c->tail_len < sizeof c->tail ? c->tail_len : sizeof c->tail - 1;
    while (len > 0 && (c->tail[len - 1] == '\n' || c->tail[len - 1] == '\r')) {
        len--;
    }
    c->tail[len] = 0;
    const char *newline = memrchr(c->tail, '\n', len);
    return newline == NULL ? c->tail : newline + 1;
}

/* As a JSON string; null when out of memory. Cut output may end inside a character, and other bytes
 * may be no text at all. */
static char *quote(char *text, size_t len)
{
    json_t *value = json_stringn(text, len); /* null when it is not UTF-8 */
    for (size_t cut = 1; value == NULL && cut < 4 && cut <= len; cut++) {
        value = json_stringn(text, len - cut);
    }
    if (value == NULL) {
        for (size_t i = 0; i < len; i++) {
            if ((text[i] & 0x80) != 0) {
                text[i] = '?';
            }
        }
        value = json_stringn(text, len);
    }
    char *quoted = json_dumps(value, JSON_ENCODE_ANY);
    json_decref(value);
    return quoted;
}

static enum pgqrs_outcome succeed(struct child *c, struct pgqrs_job *job)
{
    size_t len = c->output_len;
    while (len > 0 && (c->output[len - 1] == '\n' || c->output[len - 1] == '\r')) {
        len--;
    }
    if (len == 0 || job->host->set_result(job, c->output, len) == 0) {
        return PGQRS_DONE;
    }
    for (size_t i = 0; i < len; i++) { /* a zero byte can not be stored in any form */
        if (c->output[i] == 0) {
            c->output[i] = '?';
        }
    }
    /* Escapes can make it longer than a result may be. */
    for (int rc = -1; rc < 0 && len > 0; len /= 2) {
        char *quoted = quote(c->output, len);
        rc = quoted == NULL ? -1 : job->host->set_result(job, quoted, strlen(quoted));
        free(quoted);
    }
    return PGQRS_DONE;
}

static bool never_executable(int code)
{
    return code == ENOENT || code == EACCES || code == ENOEXEC || code == ENOTDIR ||
           code == ELOOP || code == ENAMETOOLONG || code == EISDIR || code == EPERM;
}

static enum pgqrs_outcome judge(struct child *c, const struct state *state, struct pgqrs_job *job)
{
    if (c->exec_errno != 0) {
        const char *why = strerror(c->exec_errno);
        return never_executable(c->exec_errno)
                   ? pgqrs_fail(job, "can not execute \"%s\": %s", state->command[0], why)
                   : pgqrs_retry(job, -1, "can not execute \"%s\": %s", state->command[0], why);
    }
    const char *said = last_line(c);
    const char *colon = said[0] == 0 ? "" : ": ";
    if (c->cancelled) {
        return PGQRS_CANCELLED;
    }
    if (!c->ended) {
        return pgqrs_retry(job, -1, "the command and its keeper were killed%s%s", colon, said);
    }
    if (WIFSIGNALED(c->status)) {
        return pgqrs_retry(job, -1, "the command was killed by signal %d (%s)%s%s",
                           WTERMSIG(c->status), strsignal(WTERMSIG(c->status)), colon, said);
    }
    int status = WEXITSTATUS(c->status);
    if (status == 0) {
        return succeed(c, job);
    }
    return status == EX_DATAERR
               ? pgqrs_fail(job, "the command exited with %d%s%s", status, colon, said)
               : pgqrs_retry(job, -1, "the command exited with %d%s%s", status, colon, said);
}

static enum pgqrs_outcome run(void *opaque, struct pgqrs_job *job)
{
    struct state *state = opaque;
    char variables[JOB_VARIABLES][320];
    (void)snprintf(variables[0], sizeof variables[0], "PGQRS_JOB_ID=%lld", (long long)job->id);
    (void)snprintf(variables[1], sizeof variables[1], "PGQRS_JOB_ATTEMPT=%u", job->attempt);
    (void)snprintf(variables[2], sizeof variables[2], "PGQRS_JOB_QUEUE=%s", job->queue);
    for (size_t i = 0; i < JOB_VARIABLES; i++) {
        state->env[i] = variables[i];
    }
    char *path = NULL;
    struct child child = {.output = state->output};
    if (!find_program(state->command[0], state->env, &path)) {
        return pgqrs_retry(job, -1, "out of memory");
    }
    enum pgqrs_outcome outcome;
    if (start(&child, path, state->command, state->env)) {
        pump(&child, state, job);
        stop(&child);
        outcome = judge(&child, state, job);
    } else {
        outcome = pgqrs_retry(job, -1, "can not start the command: %s", strerror(errno));
        close_all(&child);
    }
    free(path);
    return outcome;
}

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "exec",
    .version = "1.0",
    .init = init,
    .run = run,
    .fini = fini,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
