/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/escape.h"

/* Pipes take so much at once or not at all, and never mix it with what others write. */
#define LINE_SIZE 4096
#define WAIT_FOR_EVER (-1)

static const char *const level_names[] = {
    [PGQRS_LOG_DEBUG] = "debug",
    [PGQRS_LOG_INFO] = "info",
    [PGQRS_LOG_WARN] = "warn",
    [PGQRS_LOG_ERROR] = "error",
};

static struct {
    const char *program;
    enum pgqrs_log_format format;
    atomic_int level; /* enum pgqrs_log_level */
    int fd;
    bool is_socket, never_blocks; /* what fd is */
} sink = {
    .program = "pgqrs", .format = PGQRS_LOG_TEXT, .level = PGQRS_LOG_INFO, .fd = STDERR_FILENO};

void pgqrs_log_init(const char *program, enum pgqrs_log_format format, enum pgqrs_log_level level)
{
    sink.program = program;
    sink.format = format;
    pgqrs_log_set_level(level);
}

/* Others write to the same pipe and must not be made to see EAGAIN, so it is opened once more,
 * which may not be allowed. */
static int open_pipe_again(int fd)
{
    char path[40];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
}

void pgqrs_log_set_fd(int fd)
{
    struct stat st = {0};
    (void)fstat(fd, &st); /* what it is not known to be is polled and written to */
    int again = S_ISFIFO(st.st_mode) ? open_pipe_again(fd) : -1;
    sink.fd = again >= 0 ? again : fd;
    sink.never_blocks = again >= 0;
    sink.is_socket = S_ISSOCK(st.st_mode);
}

enum pgqrs_log_level pgqrs_log_level(void)
{
    return (enum pgqrs_log_level)atomic_load_explicit(&sink.level, memory_order_relaxed);
}

void pgqrs_log_set_level(enum pgqrs_log_level level)
{
    atomic_store_explicit(&sink.level, (int)level, memory_order_relaxed);
}

static bool await_room(int wait_ms)
{
    struct pollfd room = {.fd = sink.fd, .events = POLLOUT};
    int rc;
    do {
        rc = poll(&room, 1, wait_ms);
    } while (rc < 0 && errno == EINTR);
    return rc != 0; /* an error shows when it is written to */
}

static ssize_t write_some(const char *line, size_t len, int wait_ms)
{
    if (sink.is_socket && wait_ms >= 0) {
        return send(sink.fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    if (!sink.never_blocks && wait_ms >= 0 && !await_room(wait_ms)) {
        errno = EAGAIN;
        return -1;
    }
    return write(sink.fd, line, len);
}

/* False when there was no room for any of it within the time. */
static bool write_line(const char *line, size_t len, int wait_ms)
{
    while (len > 0) {
        ssize_t n = write_some(line, len, wait_ms);
        if (n < 0 && errno == EAGAIN && await_room(wait_ms)) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return false;
        }
        if (n < 0 && errno != EINTR) {
            return true; /* there is nowhere to report that the log can not be written */
        }
        line += n < 0 ? 0 : n;
        len -= n < 0 ? 0 : (size_t)n;
        wait_ms = n > 0 ? WAIT_FOR_EVER : wait_ms; /* a line is whole */
    }
    return true;
}

/* What every line begins with, up to the message. */
static size_t begin_line(char *line, enum pgqrs_log_level level, const char *program, pid_t pid)
{
    struct timespec now;
    struct tm utc;
    char stamp[32];
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &utc);
    (void)strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    return (size_t)snprintf(line, LINE_SIZE,
                            sink.format == PGQRS_LOG_JSON
                                ? "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"program\":\"%s\","
                                  "\"pid\":%d,"
                                : "%s.%03ldZ %-5s %s[%d]: ",
                            stamp, now.tv_nsec / 1000000, level_names[level], program, (int)pid);
}

/* Appends the text as the message, and the end. n: how long the line is. Returns how much of the
 * text had room. */
static size_t end_line(char *line, size_t *n, const char *text, size_t len)
{
    bool json = sink.format == PGQRS_LOG_JSON;
    const char *end = json ? "\"}\n" : "\n";
    size_t used;
    if (json) {
        *n += (size_t)snprintf(line + *n, LINE_SIZE - *n, "\"message\":\"");
    }
    *n += pgqrs_escape(line + *n, LINE_SIZE - *n - strlen(end), text, len, json, &used);
    *n += (size_t)snprintf(line + *n, LINE_SIZE - *n, "%s", end);
    return used;
}

void pgqrs_log(enum pgqrs_log_level level, const char *fmt, ...)
{
    if (level < pgqrs_log_level()) {
        return;
    }
    int saved_errno = errno;
    char message[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(message, sizeof message, fmt, args); /* a cut message is still one */
    va_end(args);

    char line[LINE_SIZE];
    size_t n = begin_line(line, level, sink.program, getpid());
    (void)end_line(line, &n, message, strlen(message));
    (void)write_line(line, n, WAIT_FOR_EVER);
    errno = saved_errno;
}

/* Appends what tells whose output it is. */
static size_t add_tags(char *line, size_t n, const struct pgqrs_log_tags *tags)
{
    bool json = sink.format == PGQRS_LOG_JSON;
    char queue[2048];
    char job[48] = "";
    char stream[64] = "";
    (void)pgqrs_escape(queue, sizeof queue, tags->queue, strlen(tags->queue), json, NULL);
    if (json || tags->job != 0) {
        (void)snprintf(job, sizeof job,
                       json ? "\"job\":%lld," : "job %lld: ", (long long)tags->job);
    }
    if (tags->stream != NULL) {
        const char *continued = json ? "\"continued\":true," : " (continued)";
        (void)snprintf(stream, sizeof stream,
                       json ? "\"stream\":\"%s\",%s" : "%s%s: ", tags->stream,
                       tags->continued ? continued : "");
    }
    return n + (size_t)snprintf(line + n, LINE_SIZE - n,
                                json ? "\"queue\":\"%s\",\"worker\":%u,%s%s"
                                     : "queue \"%s\": worker %u: %s%s",
                                queue, tags->worker, job, stream);
}

ssize_t pgqrs_log_output(enum pgqrs_log_level level, const struct pgqrs_log_tags *tags,
                         const char *text, size_t len, int wait_ms)
{
    char line[LINE_SIZE];
    size_t n = begin_line(line, level, tags->program, tags->pid);
    n = add_tags(line, n, tags);
    size_t used = end_line(line, &n, text, len);
    return write_line(line, n, wait_ms) ? (ssize_t)used : -1;
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
