/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {
    [PGQRS_LOG_DEBUG] = "debug",
    [PGQRS_LOG_INFO] = "info",
    [PGQRS_LOG_WARN] = "warn",
    [PGQRS_LOG_ERROR] = "error",
};

static struct {
    const char *program;
    enum pgqrs_log_format format;
    enum pgqrs_log_level level;
} sink = {.program = "pgqrs", .format = PGQRS_LOG_TEXT, .level = PGQRS_LOG_INFO};

void pgqrs_log_init(const char *program, enum pgqrs_log_format format, enum pgqrs_log_level level)
{
    sink.program = program;
    sink.format = format;
    sink.level = level;
}

enum pgqrs_log_level pgqrs_log_level(void)
{
    return sink.level;
}

/* Control characters must not reach a terminal, and a line must stay one line. */
static size_t escape(char *out, size_t room, const char *text, bool json)
{
    size_t n = 0;
    for (const unsigned char *c = (const unsigned char *)text; *c != 0 && n + 7 < room; c++) {
        if (*c < 0x20 || *c == 0x7f) {
            n += (size_t)snprintf(out + n, room - n, json ? "\\u%04x" : "\\x%02x", *c);
        } else {
            if (json && (*c == '"' || *c == '\\')) {
                out[n++] = '\\';
            }
            out[n++] = (char)*c;
        }
    }
    out[n] = 0;
    return n;
}

static void write_line(const char *line, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, line, len);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return; /* there is nowhere to report that the log can not be written */
        }
        line += n;
        len -= (size_t)n;
    }
}

void pgqrs_log(enum pgqrs_log_level level, const char *fmt, ...)
{
    if (level < sink.level) {
        return;
    }
    int saved_errno = errno;
    char message[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(message, sizeof message, fmt, args); /* a cut message is still one */
    va_end(args);

    struct timespec now;
    struct tm utc;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &utc);
    char stamp[32];
    (void)strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);

    char escaped[3072];
    (void)escape(escaped, sizeof escaped, message, sink.format == PGQRS_LOG_JSON);
    char line[3400];
    int n = snprintf(line, sizeof line,
                     sink.format == PGQRS_LOG_JSON
                         ? "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"program\":\"%s\","
                           "\"pid\":%d,\"message\":\"%s\"}\n"
                         : "%s.%03ldZ %-5s %s[%d]: %s\n",
                     stamp, now.tv_nsec / 1000000, level_names[level], sink.program, (int)getpid(),
                     escaped);
    if (n > 0) {
        write_line(line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
    }
    errno = saved_errno;
}

enum pgqrs_log_level pgqrs_log_level_from(const char *name)
{
    for (int level = PGQRS_LOG_DEBUG; level <= PGQRS_LOG_ERROR; level++) {
        if (strcmp(name, level_names[level]) == 0) {
            return (enum pgqrs_log_level)level;
        }
    }
    return (enum pgqrs_log_level)0;
}

enum pgqrs_log_format pgqrs_log_format_from(const char *name)
{
    if (strcmp(name, "text") == 0) {
        return PGQRS_LOG_TEXT;
    }
    return strcmp(name, "json") == 0 ? PGQRS_LOG_JSON : (enum pgqrs_log_format)0;
}

const char *pgqrs_log_level_name(enum pgqrs_log_level level)
{
    return level_names[level];
}
