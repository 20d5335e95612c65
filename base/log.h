/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BASE_LOG_H
#define PGQRS_BASE_LOG_H

/*
 * The log: one line per event on standard error, text or JSON, written with a single write so that
 * lines of several processes do not mix. Any thread may log, and change the level. Format, program
 * name and descriptor are set once at start, before there is a second thread.
 *
 * A line says: subject, what happened, what happens next, then key=value.
 * error: someone must look; warn: odd but handled; info: life-cycle; debug: per message.
 *
 * Whatever is in a text, a line stays one line, and in JSON stays JSON: control characters and
 * bytes that are not UTF-8 are escaped.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

enum pgqrs_log_level {
    PGQRS_LOG_DEBUG = 1,
    PGQRS_LOG_INFO,
    PGQRS_LOG_WARN,
    PGQRS_LOG_ERROR,
};

enum pgqrs_log_format {
    PGQRS_LOG_TEXT = 1,
    PGQRS_LOG_JSON,
};

/* program is borrowed for the life of the process. */
void pgqrs_log_init(const char *program, enum pgqrs_log_format format, enum pgqrs_log_level level);
/* Lines go to this descriptor, which is kept, instead of standard error. */
void pgqrs_log_set_fd(int fd);
enum pgqrs_log_level pgqrs_log_level(void);
void pgqrs_log_set_level(enum pgqrs_log_level level);

void pgqrs_log(enum pgqrs_log_level level, const char *fmt, ...) PGQRS_PRINTF(2, 3);

#define pgqrs_log_debug(...) pgqrs_log(PGQRS_LOG_DEBUG, __VA_ARGS__)
#define pgqrs_log_info(...) pgqrs_log(PGQRS_LOG_INFO, __VA_ARGS__)
#define pgqrs_log_warn(...) pgqrs_log(PGQRS_LOG_WARN, __VA_ARGS__)
#define pgqrs_log_error(...) pgqrs_log(PGQRS_LOG_ERROR, __VA_ARGS__)

struct pgqrs_log_tags { /* of a line that a handler has written */
    const char *program;
    pid_t pid;
    const char *queue;
    uint32_t worker;
    int64_t job;        /* 0: none */
    const char *stream; /* null: none, it is about the handler's output */
    bool continued;     /* what the line began with was in the last one of the stream */
};
/*
 * Logs the text, or its first part when it is too long for one line, whatever the level is. Returns
 * how many bytes were logged; -1 when the log took nothing within wait_ms (-1: for ever).
 */
ssize_t pgqrs_log_output(enum pgqrs_log_level level, const struct pgqrs_log_tags *tags,
                         const char *text, size_t len, int wait_ms);

/* Names as in the configuration; 0 when the name is none of them. */
enum pgqrs_log_level pgqrs_log_level_from(const char *name);
enum pgqrs_log_format pgqrs_log_format_from(const char *name);
const char *pgqrs_log_level_name(enum pgqrs_log_level level);

#endif
