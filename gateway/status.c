/* SPDX-License-Identifier: Apache-2.0 */
/* Asks the supervisor for its state, one question after another. */
#include "gateway/gateway.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <event2/bufferevent.h>

#include "base/clock.h"
#include "base/log.h"

#define ANSWER_MAX (16 * 1024 * 1024)
#define PATIENCE_S 5
#define OFTEN_MS 200 /* and no oftener */
#define SOON_MS 50   /* what changes meanwhile is one question */

struct status_ask {
    struct gateway *g;
    struct bufferevent *stream; /* closes the socket */
};

int64_t pgqrs_gateway_status_age(const struct gateway *g)
{
    return g->status == NULL ? -1 : pgqrs_mono_ms() - g->status_at_ms;
}

const char *pgqrs_gateway_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}

static void end_ask(struct status_ask *ask)
{
    ask->g->status_ask = NULL;
    bufferevent_free(ask->stream);
    free(ask);
}

/* The answer is whole when the supervisor closes; one that it did not give is asked for again. */
static void on_end(struct bufferevent *stream, short what, void *arg)
{
    struct status_ask *ask = arg;
    struct gateway *g = ask->g;
    if ((what & BEV_EVENT_CONNECTED) != 0) {
        return;
    }
    struct evbuffer *in = bufferevent_get_input(stream);
    size_t len = evbuffer_get_length(in);
    const char *text = (what & BEV_EVENT_EOF) == 0 ? NULL : (char *)evbuffer_pullup(in, -1);
    json_t *status = text == NULL ? NULL : json_loadb(text, len, 0, NULL);
    if (json_is_true(json_object_get(status, "ok"))) {
        json_decref(g->status);
        g->status = json_incref(status);
        g->status_at_ms = pgqrs_mono_ms();
    }
    json_decref(status);
    end_ask(ask);
}

static void on_answer(struct bufferevent *stream, void *arg)
{
    if (evbuffer_get_length(bufferevent_get_input(stream)) > ANSWER_MAX) {
        pgqrs_log_error("gateway: the answer of pgqrsd is too long");
        end_ask(arg);
    }
}

void pgqrs_gateway_status_soon(struct gateway *g)
{
    static const struct timeval soon = {.tv_usec = SOON_MS * 1000};
    if (evtimer_pending(g->status_soon, NULL) == 0) {
        (void)evtimer_add(g->status_soon, &soon); /* else it is asked when it is time */
    }
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    static const char question[] = "{\"command\":\"status\"}\n";
    static const struct timeval patience = {.tv_sec = PATIENCE_S};
    struct gateway *g = arg;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)fd;
    (void)what;
    if (g->status_ask != NULL) {
        pgqrs_gateway_status_soon(g); /* its answer may be old already */
        return;
    }
    struct status_ask *ask = calloc(1, sizeof *ask);
    struct bufferevent *stream =
        ask == NULL ? NULL : bufferevent_socket_new(g->base, -1, BEV_OPT_CLOSE_ON_FREE);
    if (stream == NULL) {
        free(ask); /* the next turn may have memory */
        return;
    }
    *ask = (struct status_ask){.g = g, .stream = stream};
    g->status_ask = ask;
    strncpy(address.sun_path, g->welcome.ctl_socket, sizeof address.sun_path - 1);
    bufferevent_setcb(stream, on_answer, NULL, on_end, ask);
    (void)bufferevent_set_timeouts(stream, &patience, &patience);
    if (bufferevent_write(stream, question, sizeof question - 1) < 0 ||
        bufferevent_enable(stream, EV_READ | EV_WRITE) < 0 ||
        (bufferevent_socket_connect(stream, (const struct sockaddr *)&address, sizeof address) <
             0 &&
         g->status_ask == ask)) { /* on_end may have come already */
        end_ask(ask);
    }
}

int pgqrs_gateway_status_start(struct gateway *g, struct pgqrs_error *err)
{
    int64_t ms = g->welcome.heartbeat_ms < OFTEN_MS ? OFTEN_MS : g->welcome.heartbeat_ms;
    const struct timeval interval = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    g->status_timer = event_new(g->base, -1, EV_PERSIST, on_turn, g);
    g->status_soon = event_new(g->base, -1, 0, on_turn, g);
    if (g->status_timer == NULL || g->status_soon == NULL ||
        evtimer_add(g->status_timer, &interval) < 0) {
        return pgqrs_error_memory(err);
    }
    on_turn(-1, 0, g);
    return 0;
}

void pgqrs_gateway_status_end(struct gateway *g)
{
    if (g->status_timer != NULL) {
        event_free(g->status_timer);
    }
    if (g->status_soon != NULL) {
        event_free(g->status_soon);
    }
    if (g->status_ask != NULL) {
        end_ask(g->status_ask);
    }
    json_decref(g->status);
}
