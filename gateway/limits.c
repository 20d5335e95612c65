/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a whole request and a whole answer may take, however they trickle; libevent's own limits
 * begin anew with each byte. It does not tell when a connection ends, so one is known by its
 * descriptor together with the number of its socket.
 */
#include "gateway/gateway.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <event2/bufferevent.h>
#include <event2/http.h>

#include "base/clock.h"

#define LIMIT_MS 5000
#define LOOK_MS 500

struct limit {
    ino_t socket;
    int64_t until_ms; /* monotonic; 0: no limit */
};

struct gateway_limits {
    struct event *timer, *settle;
    struct bufferevent *newcomer; /* its descriptor comes after it; null: none */
    struct limit of[PGQRS_GATEWAY_DESCRIPTORS_MAX];
};

static ino_t socket_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) ? st.st_ino : 0;
}

/* until_ms 0: without a limit. */
static void set(struct gateway *g, struct bufferevent *stream, int64_t until_ms)
{
    static const struct timeval soon = {.tv_usec = LOOK_MS * 1000};
    int fd = bufferevent_getfd(stream);
    if (fd >= 0 && fd < PGQRS_GATEWAY_DESCRIPTORS_MAX) {
        g->limits->of[fd] = (struct limit){.socket = socket_of(fd), .until_ms = until_ms};
    }
    if (until_ms != 0 && !evtimer_pending(g->limits->timer, NULL)) {
        (void)evtimer_add(g->limits->timer, &soon); /* with the next request if it fails */
    }
}

static void on_look(evutil_socket_t unused, short what, void *arg)
{
    static const struct timeval soon = {.tv_usec = LOOK_MS * 1000};
    struct gateway *g = arg;
    int64_t now = pgqrs_mono_ms();
    bool more = false;
    (void)unused;
    (void)what;
    for (int fd = 0; fd < PGQRS_GATEWAY_DESCRIPTORS_MAX; fd++) {
        struct limit *limit = &g->limits->of[fd];
        if (limit->until_ms != 0 && limit->until_ms <= now) {
            if (limit->socket == socket_of(fd)) {
                (void)shutdown(fd, SHUT_RDWR); /* libevent finds its end */
            }
            limit->until_ms = 0;
        }
        more = more || limit->until_ms != 0;
    }
    if (more) {
        (void)evtimer_add(g->limits->timer, &soon);
    }
}

static void settle(struct gateway *g)
{
    if (g->limits->newcomer != NULL) {
        set(g, g->limits->newcomer, pgqrs_mono_ms() + LIMIT_MS);
        (void)bufferevent_decref(g->limits->newcomer);
        g->limits->newcomer = NULL;
    }
}

static void on_settle(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    settle(arg);
}

void pgqrs_limits_begin(struct gateway *g, struct bufferevent *stream)
{
    settle(g);
    if (stream != NULL) {
        bufferevent_incref(stream);
        g->limits->newcomer = stream;
        event_active(g->limits->settle, EV_TIMEOUT, 0); /* libevent has given it its socket then */
    }
}

static struct bufferevent *stream_of(struct evhttp_request *request)
{
    return evhttp_connection_get_bufferevent(evhttp_request_get_connection(request));
}

void pgqrs_limits_asked(struct gateway *g, struct evhttp_request *request)
{
    set(g, stream_of(request), 0);
}

void pgqrs_limits_answered(struct gateway *g, struct evhttp_request *request)
{
    set(g, stream_of(request), pgqrs_mono_ms() + LIMIT_MS);
}

int pgqrs_limits_start(struct gateway *g, struct pgqrs_error *err)
{
    struct gateway_limits *limits = calloc(1, sizeof *limits);
    g->limits = limits;
    if (limits == NULL) {
        return pgqrs_error_memory(err);
    }
    limits->timer = evtimer_new(g->base, on_look, g);
    limits->settle = event_new(g->base, -1, 0, on_settle, g);
    return limits->timer == NULL || limits->settle == NULL ? pgqrs_error_memory(err) : 0;
}

void pgqrs_limits_end(struct gateway *g)
{
    struct gateway_limits *limits = g->limits;
    if (limits == NULL) {
        return;
    }
    if (limits->newcomer != NULL) {
        (void)bufferevent_decref(limits->newcomer);
    }
    if (limits->timer != NULL) {
        event_free(limits->timer);
    }
    if (limits->settle != NULL) {
        event_free(limits->settle);
    }
    free(limits);
    g->limits = NULL;
}
