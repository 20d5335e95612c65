/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What workers write to standard output and error. A worker logs it by itself; here is what that
 * stands on, and what is done with the rest when the worker has died.
 */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"

#define REST_MAX (128u * 1024) /* of one stream: more than a pipe holds */

/* ---- before the start ---- */

void pgqrs_output_ends_close(struct output_ends *ends)
{
    int *const fds[] = {&ends->memory, &ends->read[0], &ends->read[1], &ends->write[0],
                        &ends->write[1]};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (*fds[i] >= 0) {
            (void)close(*fds[i]);
        }
        *fds[i] = -1;
    }
}

/* The worker could cut a file that is not sealed, and reading it here would be a bus error. */
static int open_memory(struct child_output *output, struct output_ends *ends)
{
    int fd = memfd_create("pgqrs-output", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -1;
    }
    ends->memory = fcntl(fd, F_DUPFD_CLOEXEC, PGQRS_FD_ABOVE);
    (void)close(fd);
    if (ends->memory < 0 || ftruncate(ends->memory, sizeof *output->shared) < 0 ||
        fcntl(ends->memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        return -1;
    }
    void *memory = mmap(NULL, sizeof *output->shared, PROT_READ, MAP_SHARED, ends->memory, 0);
    if (memory == MAP_FAILED) {
        return -1;
    }
    output->shared = memory;
    return 0;
}

/* Whether a read blocks is a flag that the worker shares and may change, so we open the pipe once
 * more. Without /proc what is unread at a death is lost. */
static int open_stream(struct child_output *output, struct output_ends *ends, int stream)
{
    char path[40];
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0) {
        return -1;
    }
    ends->read[stream] = fcntl(pair[0], F_DUPFD_CLOEXEC, PGQRS_FD_ABOVE);
    ends->write[stream] = fcntl(pair[1], F_DUPFD_CLOEXEC, PGQRS_FD_ABOVE);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", pair[0]);
    output->fds[stream] = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    (void)close(pair[0]);
    (void)close(pair[1]);
    return ends->read[stream] < 0 || ends->write[stream] < 0 ||
                   fcntl(ends->read[stream], F_SETFL, O_NONBLOCK) < 0
               ? -1
               : 0;
}

int pgqrs_output_open(struct child_output *output, struct output_ends *ends,
                      struct pgqrs_error *err)
{
    *ends = (struct output_ends){.memory = -1, .read = {-1, -1}, .write = {-1, -1}};
    if (open_memory(output, ends) < 0 || open_stream(output, ends, PGQRS_STREAM_OUT) < 0 ||
        open_stream(output, ends, PGQRS_STREAM_ERR) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "pipes for output");
    }
    return 0;
}

void pgqrs_output_close(struct child_output *output)
{
    if (output->shared != NULL) {
        (void)munmap(output->shared, sizeof *output->shared);
        output->shared = NULL;
    }
    free(output->left);
    output->left = NULL;
    for (int i = 0; i < PGQRS_STREAM_COUNT; i++) {
        if (output->fds[i] >= 0) {
            (void)close(output->fds[i]);
            output->fds[i] = -1;
        }
    }
}

/* ---- after the death ---- */

struct rest {
    struct child *child;
    uint64_t lines, lines_max; /* max 0: no limit */
};

static struct pgqrs_log_tags tags_of(const struct child *child)
{
    return (struct pgqrs_log_tags){.program = "pgqrs-worker",
                                   .pid = child->pid,
                                   .queue = child->place->queue->name,
                                   .worker = child->place->slot};
}

static void on_line(void *context, enum pgqrs_stream stream, const char *text, size_t len,
                    bool continued)
{
    struct rest *rest = context;
    struct pgqrs_output_page *left = rest->child->output.left;
    enum pgqrs_log_level level = PGQRS_OUTPUT_LEVEL(stream);
    struct pgqrs_log_tags tags = tags_of(rest->child);
    tags.job = left->job;
    tags.stream = pgqrs_stream_name(stream);
    tags.continued = continued;
    if (level < pgqrs_log_level()) {
        return;
    }
    ssize_t used;
    do {
        if (rest->lines_max > 0 && rest->lines >= rest->lines_max) {
            left->dropped++;
            return;
        }
        rest->lines++;
        used = pgqrs_log_output(level, &tags, text, len, -1); /* waits for ever: never -1 */
        text += used;
        len -= (size_t)used;
        tags.continued = true;
    } while (len > 0);
}

static void read_rest(struct rest *rest, enum pgqrs_stream stream)
{
    struct child_output *output = &rest->child->output;
    ssize_t n = 1;
    for (size_t total = 0; total < REST_MAX && n > 0; total += (size_t)n) {
        pgqrs_output_take(output->left, stream, false, on_line, rest);
        n = output->fds[stream] < 0
                ? -1
                : pgqrs_output_fill(output->left, stream, output->fds[stream], REST_MAX);
    }
    pgqrs_output_take(output->left, stream, true, on_line, rest);
}

void pgqrs_output_finish(struct child *child)
{
    struct child_output *output = &child->output;
    if (output->shared == NULL || (output->left = malloc(sizeof *output->left)) == NULL) {
        return;
    }
    memcpy(output->left, output->shared, sizeof *output->left);
    pgqrs_output_repair(output->left);
    uint64_t max = 2 * (uint64_t)child->place->queue->config->log_lines;
    struct rest rest = {.child = child, .lines_max = max};
    read_rest(&rest, PGQRS_STREAM_OUT);
    read_rest(&rest, PGQRS_STREAM_ERR);
    if (output->left->dropped > 0) {
        struct pgqrs_log_tags tags = tags_of(child);
        (void)pgqrs_output_report(output->left, &tags, -1);
    }
}

int64_t pgqrs_output_job(const struct child *child)
{
    return child->output.left == NULL ? child->beat.job_id : child->output.left->job;
}

void pgqrs_output_tail(struct child *child, char *out, size_t size)
{
    out[0] = 0;
    if (child->output.left != NULL) {
        pgqrs_output_last(child->output.left, out, size);
    }
}
