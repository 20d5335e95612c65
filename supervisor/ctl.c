/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operator's door: a socket in the runtime directory. A peer sends one line, a JSON object with
 * a "command", gets a JSON object with "ok" and what it asked for, or "error", and is let go.
 */
#include "supervisor/ctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <jansson.h>

#include "base/log.h"

#define LINE_MAX_BYTES (64 * 1024)
#define PEERS_MAX 32
#define PATIENCE_S 10

struct peer {
    LIST_ENTRY(peer) link;
    struct ctl *ctl;
    struct bufferevent *stream;
    bool answered;
};

struct ctl {
    struct supervisor *s;
    struct evconnlistener *listener;
    LIST_HEAD(, peer) peers;
    size_t peer_count;
};

/* ---- commands; each returns what is wrong, or an empty text ---- */

typedef void command_fn(struct supervisor *s, const json_t *request, json_t *reply,
                        struct pgqrs_error *err);

static struct queue *find_queue(struct supervisor *s, const json_t *request,
                                struct pgqrs_error *err)
{
    const char *name = json_string_value(json_object_get(request, "queue"));
    struct queue *queue = pgqrs_supervisor_find_queue(s, name);
    if (queue != NULL && !queue->removed) {
        return queue;
    }
    (void)pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND,
                          "found queue \"%.100s\", expected one of the configuration",
                          name == NULL ? "" : name);
    return NULL;
}

static void on_status(struct supervisor *s, const json_t *request, json_t *reply,
                      struct pgqrs_error *err)
{
    (void)request;
    (void)err;
    pgqrs_status_whole(s, reply);
}

static void on_deaths(struct supervisor *s, const json_t *request, json_t *reply,
                      struct pgqrs_error *err)
{
    struct queue *queue = NULL;
    if (json_object_get(request, "queue") != NULL) {
        queue = find_queue(s, request, err);
        if (queue == NULL) {
            return;
        }
    }
    pgqrs_status_deaths(s, queue, reply);
}

static void on_scale(struct supervisor *s, const json_t *request, json_t *reply,
                     struct pgqrs_error *err)
{
    const json_t *consumers = json_object_get(request, "consumers");
    struct queue *queue = find_queue(s, request, err);
    if (queue == NULL) {
        return;
    }
    if (!json_is_integer(consumers) || json_integer_value(consumers) < 0 ||
        json_integer_value(consumers) > PGQRS_CONSUMERS_MAX) {
        (void)pgqrs_error_set(err, PGQRS_ERR_INVALID,
                              "consumers: expected a whole number from 0 to %d",
                              PGQRS_CONSUMERS_MAX);
        return;
    }
    if (s->state >= SUPERVISOR_DRAINING) {
        (void)pgqrs_error_set(err, PGQRS_ERR_CONFLICT, "pgqrsd is stopping");
        return;
    }
    int64_t before = queue->wanted;
    pgqrs_pool_scale(s, queue, json_integer_value(consumers), "pgqrs worker scale");
    (void)json_object_set_new(reply, "before", json_integer(before));
    (void)json_object_set_new(reply, "consumers", json_integer(queue->wanted));
}

static void on_reload(struct supervisor *s, const json_t *request, json_t *reply,
                      struct pgqrs_error *err)
{
    json_t *changes = json_array();
    (void)request;
    if (pgqrs_reload(s, changes, err) < 0) {
        pgqrs_log_error("reload: nothing is changed: %s", err->text);
    }
    (void)json_object_set_new(reply, "changes", changes);
}

static void on_log_level(struct supervisor *s, const json_t *request, json_t *reply,
                         struct pgqrs_error *err)
{
    const char *name = json_string_value(json_object_get(request, "level"));
    enum pgqrs_log_level level = name == NULL ? 0 : pgqrs_log_level_from(name);
    if (level == 0) {
        (void)pgqrs_error_set(err, PGQRS_ERR_INVALID,
                              "level: found \"%.40s\", expected debug, info, warn or error",
                              name == NULL ? "" : name);
        return;
    }
    (void)json_object_set_new(reply, "before",
                              json_string(pgqrs_log_level_name(pgqrs_log_level())));
    pgqrs_supervisor_set_log_level(s, level);
}

static const struct {
    const char *name;
    command_fn *fn;
} commands[] = {{"status", on_status},
                {"deaths", on_deaths},
                {"scale", on_scale},
                {"reload", on_reload},
                {"log-level", on_log_level}};

static json_t *answer(struct supervisor *s, const char *line, size_t len)
{
    struct pgqrs_error err = {0};
    json_t *reply = json_object();
    json_t *request = json_loadb(line, len, 0, NULL);
    const char *name = json_string_value(json_object_get(request, "command"));
    command_fn *fn = NULL;
    for (size_t i = 0; name != NULL && i < sizeof commands / sizeof *commands; i++) {
        fn = strcmp(name, commands[i].name) == 0 ? commands[i].fn : fn;
    }
    if (name == NULL) {
        (void)pgqrs_error_set(&err, PGQRS_ERR_INVALID,
                              "expected a line with a JSON object that has a \"command\"");
    } else if (fn == NULL) {
        (void)pgqrs_error_set(&err, PGQRS_ERR_INVALID,
                              "command \"%.60s\" is unknown to pgqrsd " PGQRS_VERSION, name);
    } else {
        fn(s, request, reply, &err);
    }
    (void)json_object_set_new(reply, "ok", json_boolean(err.code == PGQRS_ERR_NONE));
    if (err.code != PGQRS_ERR_NONE) {
        (void)json_object_set_new(reply, "error", json_string(err.text));
    }
    json_decref(request);
    return reply;
}

/* ---- peers ---- */

static void drop(struct peer *peer)
{
    LIST_REMOVE(peer, link);
    peer->ctl->peer_count--;
    bufferevent_free(peer->stream); /* closes the socket */
    free(peer);
}

static void on_written(struct bufferevent *stream, void *arg)
{
    struct peer *peer = arg;
    (void)stream;
    if (peer->answered) {
        drop(peer);
    }
}

static void on_read(struct bufferevent *stream, void *arg)
{
    struct peer *peer = arg;
    size_t len = 0;
    if (peer->answered) {
        return;
    }
    char *line = evbuffer_readln(bufferevent_get_input(stream), &len, EVBUFFER_EOL_LF);
    if (line == NULL) {
        if (evbuffer_get_length(bufferevent_get_input(stream)) >= LINE_MAX_BYTES) {
            drop(peer);
        }
        return;
    }
    json_t *reply = answer(peer->ctl->s, line, len);
    free(line);
    char *text = json_dumps(reply, JSON_COMPACT);
    json_decref(reply);
    peer->answered = true;
    /* Who says no more may still listen. */
    (void)bufferevent_disable(stream, EV_READ);
    if (text == NULL || bufferevent_write(stream, text, strlen(text)) < 0 ||
        bufferevent_write(stream, "\n", 1) < 0) {
        drop(peer);
    }
    free(text);
}

static void on_event(struct bufferevent *stream, short what, void *arg)
{
    (void)stream;
    (void)what; /* it has gone, or is too slow */
    drop(arg);
}

static bool may_ask(int fd)
{
    struct ucred who = {0};
    socklen_t size = sizeof who;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 &&
           (who.uid == geteuid() || who.uid == 0);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                      int len, void *arg)
{
    static const struct timeval patience = {.tv_sec = PATIENCE_S};
    struct ctl *ctl = arg;
    (void)address;
    (void)len;
    struct peer *peer = calloc(1, sizeof *peer);
    struct bufferevent *stream =
        peer == NULL || ctl->peer_count >= PEERS_MAX || !may_ask(fd)
            ? NULL
            : bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
    if (stream == NULL) {
        free(peer);
        (void)close(fd);
        return;
    }
    *peer = (struct peer){.ctl = ctl, .stream = stream};
    LIST_INSERT_HEAD(&ctl->peers, peer, link);
    ctl->peer_count++;
    bufferevent_setwatermark(stream, EV_READ, 0, LINE_MAX_BYTES);
    (void)bufferevent_set_timeouts(stream, &patience, &patience);
    bufferevent_setcb(stream, on_read, on_written, on_event, peer);
    (void)bufferevent_enable(stream, EV_READ | EV_WRITE);
}

/* ---- start and end ---- */

int pgqrs_ctl_open(struct supervisor *s, struct ctl **ctl_out, struct pgqrs_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ctl *ctl = calloc(1, sizeof *ctl);
    if (ctl == NULL) {
        return pgqrs_error_memory(err);
    }
    ctl->s = s;
    LIST_INIT(&ctl->peers);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/ctl", s->runtime.path);
    ctl->listener = evconnlistener_new_bind(s->base, on_accept, ctl,
                                            LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC,
                                            PEERS_MAX, (struct sockaddr *)&address, sizeof address);
    if (ctl->listener == NULL) {
        free(ctl);
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "%s", address.sun_path);
    }
    *ctl_out = ctl;
    return 0;
}

void pgqrs_ctl_close(struct ctl **ctl)
{
    struct ctl *c = *ctl;
    if (c == NULL) {
        return;
    }
    struct peer *peer;
    while ((peer = LIST_FIRST(&c->peers)) != NULL) {
        drop(peer);
    }
    evconnlistener_free(c->listener);
    free(c);
    *ctl = NULL;
}
