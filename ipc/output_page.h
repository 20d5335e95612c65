/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_OUTPUT_PAGE_H
#define PGQRS_IPC_OUTPUT_PAGE_H

/*
 * What a worker's plugin writes to standard output and error, while it is on its way to the log: in
 * memory that worker and supervisor share, so that nothing of it is lost when the worker dies, and
 * the last lines are known. The worker alone writes, the supervisor looks when it is dead. It may
 * have been hostile: the supervisor works on a copy, and every offset is checked before use.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

#define PGQRS_OUTPUT_TAIL 2048
#define PGQRS_OUTPUT_BUFFER 8192
#define PGQRS_OUTPUT_PIECE 3072 /* a longer line is taken in several pieces */

enum pgqrs_stream { PGQRS_STREAM_OUT = 0, PGQRS_STREAM_ERR = 1, PGQRS_STREAM_COUNT };

struct pgqrs_output_buffer {
    uint32_t start, end; /* what is read and not logged; behind it there are zeros */
    uint32_t continued;  /* 1: the line's beginning was logged */
    char data[PGQRS_OUTPUT_BUFFER];
};

struct pgqrs_output_page {
    int64_t job;                  /* that runs; 0: none */
    uint64_t dropped;             /* lines, not reported yet */
    uint64_t written;             /* to the tail, ever */
    char tail[PGQRS_OUTPUT_TAIL]; /* a ring: lines with a newline after each */
    struct pgqrs_output_buffer streams[PGQRS_STREAM_COUNT];
};

/* What a program says on standard error is seldom good news, and must be seen when it dies. */
#define PGQRS_OUTPUT_LEVEL(stream) ((stream) == PGQRS_STREAM_OUT ? PGQRS_LOG_INFO : PGQRS_LOG_WARN)

/* "stdout" or "stderr" */
const char *pgqrs_stream_name(enum pgqrs_stream stream);

/* Gets a line, without its newline, or a piece of one. */
typedef void pgqrs_output_fn(void *context, enum pgqrs_stream stream, const char *text, size_t len,
                             bool continued);

/*
 * Reads at most so many bytes into the stream's buffer, which has room after every take. As read;
 * a descriptor that does not block is expected.
 */
ptrdiff_t pgqrs_output_fill(struct pgqrs_output_page *page, enum pgqrs_stream stream, int fd,
                            size_t max);
/* Takes the whole lines out of the stream's buffer; with all also one that has no end yet. */
void pgqrs_output_take(struct pgqrs_output_page *page, enum pgqrs_stream stream, bool all,
                       pgqrs_output_fn *fn, void *context);

/* Logs how many lines were dropped, and forgets them unless the log took nothing within wait_ms. */
bool pgqrs_output_report(struct pgqrs_output_page *page, const struct pgqrs_log_tags *tags,
                         int wait_ms);

/* Makes a copy of anything fit for the functions here. What a dead worker had read and not counted
 * yet is found. */
void pgqrs_output_repair(struct pgqrs_output_page *page);
/* The newest lines that fit, whole, with a newline between two, control characters escaped. A line
 * that alone does not fit is cut at its beginning. */
void pgqrs_output_last(const struct pgqrs_output_page *page, char *out, size_t size);

#endif
