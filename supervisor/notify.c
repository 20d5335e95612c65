/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "supervisor/supervisor.h"

#define STATUS_SIZE 512
#define STATUS_DELAY_MS 200
#define EXTEND_MARGIN_MS 5000
#define WATCHDOG_MIN_US 2000

struct notify {
    struct supervisor *s;
    int fd;
    struct sockaddr_un address;
    socklen_t address_len;
    struct event *update, *watchdog;
    bool started;             /* everything was ready once */
    bool ready, stopping;     /* was told, and holds */
    char status[STATUS_SIZE]; /* was told */
    bool warned;
};

/* ---- saying ---- */

/* False: there was no room for it. What can never be said counts as said. */
static bool __attribute__((format(printf, 2, 3))) say(struct notify *n, const char *fmt, ...)
{
    char text[STATUS_SIZE + 128];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (sendto(n->fd, text, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL,
               (const struct sockaddr *)&n->address, n->address_len) >= 0) {
        return true;
    }
    if (errno == EAGAIN || errno == ENOBUFS || errno == EINTR) {
        return false;
    }
    if (!n->warned) {
        n->warned = true;
        pgqrs_log_warn("NOTIFY_SOCKET: the service manager can not be told: %s", strerror(errno));
    }
    return true;
}

/* ---- status ---- */

static bool is_up(const struct queue *queue)
{
    return queue->removed || queue->version->proven || queue->failing.retry != NULL ||
           queue->wanted == 0;
}

static bool all_up(const struct supervisor *s)
{
    for (size_t i = 0; i < s->queue_count; i++) {
        if (!is_up(s->queues[i])) {
            return false;
        }
    }
    return s->state == SUPERVISOR_RUNNING;
}

/* A worker that is to replace another one does not count beside it. */
static size_t ready_workers(const struct queue *queue)
{
    size_t ready = 0;
    for (size_t i = 0; i < queue->place_count; i++) {
        const struct place *place = queue->places[i];
        if (place->child != NULL && place->child->state == CHILD_READY && place != queue->canary &&
            place->replaces == NULL) {
            ready++;
        }
    }
    return ready;
}

static bool is_failing(const struct queue *queue)
{
    return queue->failing.retry != NULL;
}

static bool is_paused(const struct queue *queue)
{
    return pgqrs_queue_is_paused(queue) && !queue->s->drain_asked && !queue->removed;
}

/* Appends the names of those queues, after the word. */
static void add_queues(const struct supervisor *s, const char *word,
                       bool (*is_one)(const struct queue *queue), char *out, size_t size)
{
    const char *before = word;
    for (size_t i = 0; i < s->queue_count; i++) {
        size_t len = strlen(out);
        if (!is_one(s->queues[i])) {
            continue;
        }
        if (len + strlen(before) + strlen(s->queues[i]->name) + sizeof ", ..." > size) {
            (void)snprintf(out + len, size - len, ", ...");
            return;
        }
        (void)snprintf(out + len, size - len, "%s%s", before, s->queues[i]->name);
        before = ", ";
    }
}

/* The name of a queue may hold anything; a newline would begin an assignment. */
static void make_line(char *text)
{
    for (; *text != 0; text++) {
        if ((unsigned char)*text < ' ' || *text == 127) {
            *text = '?';
        }
    }
}

static void describe_running(const struct supervisor *s, char *out, size_t size)
{
    char text[STATUS_SIZE];
    size_t queues = 0;
    size_t ready = 0;
    int64_t wanted = 0;
    for (size_t i = 0; i < s->queue_count; i++) {
        if (!s->queues[i]->removed) {
            queues++;
            wanted += s->queues[i]->wanted;
            ready += ready_workers(s->queues[i]);
        }
    }
    (void)snprintf(text, sizeof text, "%zu %s, %zu of %" PRId64 " workers ready%s", queues,
                   queues == 1 ? "queue" : "queues", ready, wanted,
                   s->drain_asked ? "; drained by request" : "");
    add_queues(s, "; failing: ", is_failing, text, sizeof text);
    add_queues(s, "; paused: ", is_paused, text, sizeof text);
    (void)pgqrs_utf8_copy(out, size, text);
    make_line(out);
}

static void describe(const struct supervisor *s, char *out, size_t size)
{
    if (s->state == SUPERVISOR_STARTING) {
        (void)snprintf(out, size, "starting: the database is not open yet");
    } else if (s->state == SUPERVISOR_RUNNING) {
        describe_running(s, out, size);
    } else if (s->state == SUPERVISOR_DRAINING) {
        size_t left = pgqrs_workers_alive(s);
        (void)snprintf(out, size, "draining: %zu %s left", left, left == 1 ? "worker" : "workers");
    } else {
        (void)snprintf(out, size, "stopping: the last outcomes are stored");
    }
}

/* ---- what is to be told ---- */

static bool ready_is_due(const struct notify *n)
{
    return !n->ready && n->s->state == SUPERVISOR_RUNNING && (n->started || all_up(n->s));
}

static bool stopping_is_due(const struct notify *n)
{
    return !n->stopping && n->s->state >= SUPERVISOR_DRAINING;
}

static void later(struct notify *n)
{
    const struct timeval delay = {.tv_usec = STATUS_DELAY_MS * 1000};
    if (!evtimer_pending(n->update, NULL)) {
        (void)evtimer_add(n->update, &delay); /* without memory, the next change tells it */
    }
}

static void tell(struct notify *n)
{
    char status[STATUS_SIZE];
    bool ready = ready_is_due(n);
    bool stopping = stopping_is_due(n);
    describe(n->s, status, sizeof status);
    if (!ready && !stopping && strcmp(status, n->status) == 0) {
        return;
    }
    if (!say(n, "%sSTATUS=%s", ready ? "READY=1\n" : stopping ? "STOPPING=1\n" : "", status)) {
        later(n);
        return;
    }
    n->started = n->started || ready;
    n->ready = n->ready || ready;
    n->stopping = n->stopping || stopping;
    memcpy(n->status, status, sizeof status);
}

static void on_update(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    tell(arg);
}

void pgqrs_notify_changed(struct notify *n)
{
    if (n == NULL) {
        return;
    }
    if (ready_is_due(n) || stopping_is_due(n)) {
        tell(n);
    } else {
        later(n);
    }
}

void pgqrs_notify_reloading(struct notify *n)
{
    if (n != NULL && n->ready && say(n, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, pgqrs_mono_us())) {
        n->ready = false;
    }
}

void pgqrs_notify_extend(struct notify *n, int64_t ms)
{
    if (n != NULL) {
        (void)say(n, "EXTEND_TIMEOUT_USEC=%" PRId64, (ms + EXTEND_MARGIN_MS) * 1000);
    }
}

/* ---- the watchdog ---- */

static void on_watchdog(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)say(arg, "WATCHDOG=1"); /* the next one comes before it is missed */
}

/* Microseconds; 0: no beats are asked for, or not of us. */
static int64_t watchdog_us(void)
{
    const char *us = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    if (us == NULL || (pid != NULL && strtoll(pid, NULL, 10) != getpid())) {
        return 0;
    }
    int64_t value = strtoll(us, NULL, 10);
    return value <= 0 ? 0 : value < WATCHDOG_MIN_US ? WATCHDOG_MIN_US : value;
}

static int start_watchdog(struct notify *n)
{
    int64_t half = watchdog_us() / 2;
    const struct timeval interval = {.tv_sec = half / 1000000, .tv_usec = half % 1000000};
    if (half == 0) {
        return 0;
    }
    n->watchdog = event_new(n->s->base, -1, EV_PERSIST, on_watchdog, n);
    return n->watchdog == NULL || evtimer_add(n->watchdog, &interval) < 0 ? -1 : 0;
}

/* ---- start and end ---- */

/* An absolute path, or a name behind an @ in the abstract namespace. */
static bool parse_address(struct notify *n, const char *text)
{
    size_t len = strlen(text);
    if ((text[0] != '/' && text[0] != '@') || len < 2 || len >= sizeof n->address.sun_path) {
        pgqrs_log_warn("NOTIFY_SOCKET: found \"%s\", expected an absolute path or @NAME of at most "
                       "%zu bytes: the service manager is told nothing",
                       text, sizeof n->address.sun_path - 1);
        return false;
    }
    bool abstract = text[0] == '@';
    n->address.sun_family = AF_UNIX;
    memcpy(n->address.sun_path, text, len);
    n->address.sun_path[0] = abstract ? 0 : '/';
    n->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (abstract ? 0 : 1));
    return true;
}

int pgqrs_notify_open(struct supervisor *s, struct notify **notify_out, struct pgqrs_error *err)
{
    const char *address = getenv("NOTIFY_SOCKET");
    if (address == NULL || address[0] == 0) {
        return 0;
    }
    struct notify *n = calloc(1, sizeof *n);
    if (n == NULL) {
        return pgqrs_error_memory(err);
    }
    n->s = s;
    n->fd = -1;
    if (!parse_address(n, address)) {
        pgqrs_notify_close(&n);
        return 0;
    }
    n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    n->update = evtimer_new(s->base, on_update, n);
    if (n->fd < 0 || n->update == NULL || start_watchdog(n) < 0) {
        pgqrs_notify_close(&n);
        return pgqrs_error_set(err, PGQRS_ERR_FAILED, "NOTIFY_SOCKET: no socket or no memory");
    }
    *notify_out = n;
    tell(n);
    return 0;
}

void pgqrs_notify_close(struct notify **notify)
{
    struct notify *n = *notify;
    if (n == NULL) {
        return;
    }
    if (n->update != NULL) {
        event_free(n->update);
    }
    if (n->watchdog != NULL) {
        event_free(n->watchdog);
    }
    if (n->fd >= 0) {
        (void)close(n->fd);
    }
    free(n);
    *notify = NULL;
}
