/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operator's door: a socket in the runtime directory. A peer sends one line, a JSON object with
 * a "command", gets a JSON object with "ok" and what it asked for, or "error", and is let go.
 */
#include "supervisor/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <jansson.h>

#include "base/log.h"
#include "base/utf8.h"
#include "supervisor/run.h"

#define LINE_MAX_BYTES (64 * 1024)
#define PEERS_MAX 32
#define PATIENCE_S 10
#define READ_AT_ONCE 4096
#define FDS_MAX 2

struct peer {
    LIST_ENTRY(peer) link;
    struct ctl *ctl;
    struct bufferevent *stream; /* for the answer; also closes the socket */
    struct event *incoming;     /* for the line, since a bufferevent drops descriptors */
    struct pgqrs_buf line;
    int fds[FDS_MAX]; /* that came with it; -1: none */
    struct run *run;  /* that it waits for */
    bool answered;
    bool awaits_end; /* of pgqrsd */
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

/* "one of: mail, thumbs"; what has no room is left out. */
static void name_queues(const struct supervisor *s, char *out, size_t size)
{
    const char *before = "one of: ";
    (void)snprintf(out, size, "one of the configuration, which has none");
    for (size_t i = 0, len = 0; i < s->queue_count; i++) {
        const struct queue *queue = s->queues[i];
        if (queue->removed) {
            continue;
        }
        if (len + strlen(before) + strlen(queue->name) + sizeof ", ..." > size) {
            (void)snprintf(out + len, size - len, "%s...", before);
            return;
        }
        len += (size_t)snprintf(out + len, size - len, "%s%s", before, queue->name);
        before = ", ";
    }
}

static struct queue *find_queue(struct supervisor *s, const json_t *request,
                                struct pgqrs_error *err)
{
    const char *name = json_string_value(json_object_get(request, "queue"));
    struct queue *queue = pgqrs_supervisor_find_queue(s, name);
    if (queue != NULL && !queue->removed) {
        return queue;
    }
    char known[256];
    name_queues(s, known, sizeof known);
    (void)pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "found queue \"%.100s\", expected %s",
                          name == NULL ? "" : name, known);
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

/* "workers 0 to 3": the numbers may have gaps, which status tells. */
static struct place *find_worker(struct queue *queue, const json_t *request,
                                 struct pgqrs_error *err)
{
    const json_t *number = json_object_get(request, "worker");
    char known[128] = "no worker, since the queue has none";
    size_t len = 0;
    for (size_t i = 0; i < queue->place_count; i++) {
        struct place *place = queue->places[i];
        if (json_is_integer(number) && json_integer_value(number) == place->slot) {
            return place;
        }
        if (len + sizeof "one of: 4294967295, ..." < sizeof known) {
            len += (size_t)snprintf(known + len, sizeof known - len, "%s%u",
                                    len == 0 ? "one of: " : ", ", place->slot);
        } else if (known[len - 1] != '.') {
            len += (size_t)snprintf(known + len, sizeof known - len, ", ...");
        }
    }
    char *found = json_dumps(number, JSON_ENCODE_ANY | JSON_COMPACT);
    (void)pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND,
                          "queue \"%.100s\": found worker %.40s, expected %s", queue->name,
                          found == NULL ? "none" : found, known);
    free(found);
    return NULL;
}

static void on_kill(struct supervisor *s, const json_t *request, json_t *reply,
                    struct pgqrs_error *err)
{
    struct queue *queue = find_queue(s, request, err);
    struct place *place = queue == NULL ? NULL : find_worker(queue, request, err);
    struct child *child = place == NULL ? NULL : place->child;
    if (place == NULL) {
        return;
    }
    if (child == NULL || child->state == CHILD_KILLED) {
        (void)pgqrs_error_set(err, PGQRS_ERR_CONFLICT, "queue \"%.100s\": worker %u is %s",
                              queue->name, place->slot,
                              child == NULL ? "not running" : "being killed already");
        return;
    }
    (void)json_object_set_new(reply, "pid", json_integer(child->pid));
    (void)json_object_set_new(
        reply, "job", child->beat.job_id == 0 ? json_null() : json_integer(child->beat.job_id));
    child->kill_asked = true;
    pgqrs_child_kill(child, "by request (pgqrs ctl kill)");
}

/* Of one queue, or of all. */
static void change_pause(struct supervisor *s, const json_t *request, bool paused, json_t *reply,
                         struct pgqrs_error *err)
{
    json_t *changed = json_array();
    struct queue *queue = NULL;
    if (json_object_get(request, "queue") == NULL ||
        (queue = find_queue(s, request, err)) != NULL) {
        pgqrs_steer_pause(s, queue, paused, changed, err);
    }
    (void)json_object_set_new(reply, "queues", changed);
}

static void on_pause(struct supervisor *s, const json_t *request, json_t *reply,
                     struct pgqrs_error *err)
{
    change_pause(s, request, true, reply, err);
}

static void on_resume(struct supervisor *s, const json_t *request, json_t *reply,
                      struct pgqrs_error *err)
{
    change_pause(s, request, false, reply, err);
}

static void on_drain(struct supervisor *s, const json_t *request, json_t *reply,
                     struct pgqrs_error *err)
{
    (void)request;
    (void)reply;
    pgqrs_steer_drain(s, err);
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
} commands[] = {
    {"status", on_status}, {"deaths", on_deaths}, {"scale", on_scale},
    {"kill", on_kill},     {"pause", on_pause},   {"resume", on_resume},
    {"drain", on_drain},   {"reload", on_reload}, {"log-level", on_log_level},
};

static command_fn *find_command(const char *name)
{
    for (size_t i = 0; name != NULL && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(name, commands[i].name) == 0) {
            return commands[i].fn;
        }
    }
    return NULL;
}

static bool start_run(struct peer *peer, const json_t *request, struct pgqrs_error *err);
static bool begin_stop(struct peer *peer, const json_t *request, json_t *reply);

/* Null: it comes when a run, or pgqrsd, has ended. */
static json_t *answer(struct peer *peer, const char *line, size_t len)
{
    struct pgqrs_error err = {0};
    json_t *reply = json_object();
    json_t *request = json_loadb(line, len, 0, NULL);
    const char *name = json_string_value(json_object_get(request, "command"));
    command_fn *fn = find_command(name);
    bool later = false;
    if (name == NULL) {
        (void)pgqrs_error_set(&err, PGQRS_ERR_INVALID,
                              "expected a line with a JSON object that has a \"command\"");
    } else if (strcmp(name, "run") == 0) {
        later = start_run(peer, request, &err);
    } else if (strcmp(name, "stop") == 0) {
        later = begin_stop(peer, request, reply);
    } else if (fn == NULL) {
        (void)pgqrs_error_set(&err, PGQRS_ERR_INVALID,
                              "command \"%.60s\" is unknown to pgqrsd " PGQRS_VERSION, name);
    } else {
        fn(peer->ctl->s, request, reply, &err);
    }
    (void)json_object_set_new(reply, "ok", json_boolean(err.code == PGQRS_ERR_NONE));
    if (err.code != PGQRS_ERR_NONE) {
        char text[sizeof err.text]; /* a name that is quoted may be cut */
        (void)pgqrs_utf8_copy(text, sizeof text, err.text);
        (void)json_object_set_new(reply, "error", json_string(text));
    }
    json_decref(request);
    if (later) {
        json_decref(reply);
        return NULL;
    }
    return reply;
}

/* ---- peers ---- */

static void drop(struct peer *peer)
{
    LIST_REMOVE(peer, link);
    peer->ctl->peer_count--;
    if (peer->run != NULL) {
        pgqrs_run_forget(peer->run);
    }
    for (int i = 0; i < FDS_MAX; i++) {
        if (peer->fds[i] >= 0) {
            (void)close(peer->fds[i]);
        }
    }
    if (peer->incoming != NULL) {
        event_free(peer->incoming);
    }
    pgqrs_buf_fini(&peer->line);
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

/* Takes the reply. */
static void send_answer(struct peer *peer, json_t *reply)
{
    char *text = json_dumps(reply, JSON_COMPACT);
    size_t len = text == NULL ? 0 : strlen(text);
    json_decref(reply);
    peer->answered = true;
    /* Who says no more may still listen. */
    (void)bufferevent_disable(peer->stream, EV_READ);
    if (text == NULL) {
        drop(peer);
        return;
    }
    text[len++] = '\n'; /* in the place of the zero byte */
    /* At once what the socket takes: there may be no next turn of the loop. */
    ssize_t n = send(bufferevent_getfd(peer->stream), text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    size_t sent = n < 0 ? 0 : (size_t)n;
    if (sent == len || bufferevent_write(peer->stream, text + sent, len - sent) < 0) {
        drop(peer);
    }
    free(text);
}

static void on_event(struct bufferevent *stream, short what, void *arg)
{
    struct peer *peer = arg;
    (void)stream;
    if (peer->run != NULL && (what & BEV_EVENT_EOF) != 0) {
        pgqrs_run_cancel(peer->run); /* it may still read the answer */
        return;
    }
    drop(peer); /* it has gone, or is too slow */
}

/* ---- runs ---- */

static void on_run_done(void *context, const char *outcome, const char *text)
{
    struct peer *peer = context;
    peer->run = NULL;
    send_answer(peer, json_pack("{s:b,s:s,s:s}", "ok", 1, "outcome", outcome, "reason", text));
}

/* Nothing else is expected of it, for as long as it takes. */
static void listen_for_its_end(struct peer *peer)
{
    (void)bufferevent_set_timeouts(peer->stream, NULL, NULL);
    (void)bufferevent_enable(peer->stream, EV_READ);
}

static bool start_run(struct peer *peer, const json_t *request, struct pgqrs_error *err)
{
    const json_t *id = json_object_get(request, "message");
    struct queue *queue = find_queue(peer->ctl->s, request, err);
    if (queue == NULL) {
        return false;
    }
    if (json_integer_value(id) < 1 || peer->fds[0] < 0 || peer->fds[1] < 0) {
        (void)pgqrs_error_set(err, PGQRS_ERR_INVALID,
                              "run: expected the id of a message, and two descriptors with the "
                              "line, for output and errors");
        return false;
    }
    peer->run = pgqrs_run_start(peer->ctl->s, queue, json_integer_value(id), peer->fds, on_run_done,
                                peer, err);
    peer->fds[0] = peer->fds[1] = -1;
    if (peer->run != NULL) {
        listen_for_its_end(peer);
    }
    return peer->run != NULL;
}

/* ---- a stop ---- */

static bool begin_stop(struct peer *peer, const json_t *request, json_t *reply)
{
    bool now = json_is_true(json_object_get(request, "now"));
    peer->awaits_end = !json_is_false(json_object_get(request, "wait"));
    (void)json_object_set_new(reply, "pid", json_integer(getpid()));
    pgqrs_supervisor_stop(peer->ctl->s, now, now ? "pgqrs ctl stop --now" : "pgqrs ctl stop");
    if (peer->awaits_end) {
        listen_for_its_end(peer);
    }
    return peer->awaits_end;
}

/* ---- the line ---- */

static void take_descriptors(struct peer *peer, struct msghdr *message)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (i < FDS_MAX && peer->fds[i] < 0) {
                peer->fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, PGQRS_FD_ABOVE);
            }
            (void)close(fd);
        }
    }
}

/* What recvmsg returned. */
static ssize_t receive(struct peer *peer, int fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control;
    uint8_t *to = pgqrs_buf_reserve(&peer->line, READ_AT_ONCE);
    if (to == NULL) {
        return 0;
    }
    struct iovec part = {.iov_base = to, .iov_len = READ_AT_ONCE};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof control.space};
    ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n > 0) {
        peer->line.len += (size_t)n;
    }
    if (n >= 0) {
        take_descriptors(peer, &message);
    }
    return n;
}

static void on_incoming(evutil_socket_t fd, short what, void *arg)
{
    struct peer *peer = arg;
    ssize_t n = (what & EV_TIMEOUT) != 0 ? 0 : receive(peer, fd);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    const char *line = (const char *)peer->line.data;
    const char *end = n <= 0 ? NULL : memchr(line, '\n', peer->line.len);
    if (n <= 0 || (end == NULL && peer->line.len >= LINE_MAX_BYTES)) {
        drop(peer); /* it has gone, is too slow, or says too much */
    } else if (end != NULL) {
        (void)event_del(peer->incoming);
        json_t *reply = answer(peer, line, (size_t)(end - line));
        if (reply != NULL) {
            send_answer(peer, reply);
        }
    }
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
    *peer = (struct peer){.ctl = ctl, .stream = stream, .fds = {-1, -1}};
    LIST_INSERT_HEAD(&ctl->peers, peer, link);
    ctl->peer_count++;
    bufferevent_setwatermark(stream, EV_READ, 0, READ_AT_ONCE);
    (void)bufferevent_set_timeouts(stream, NULL, &patience);
    bufferevent_setcb(stream, NULL, on_written, on_event, peer);
    (void)bufferevent_disable(stream, EV_READ);
    (void)bufferevent_enable(stream, EV_WRITE);
    peer->incoming =
        event_new(evconnlistener_get_base(listener), fd, EV_READ | EV_PERSIST, on_incoming, peer);
    if (peer->incoming == NULL || event_add(peer->incoming, &patience) < 0) {
        drop(peer);
    }
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
    struct peer *next;
    for (peer = LIST_FIRST(&c->peers); peer != NULL; peer = next) {
        next = LIST_NEXT(peer, link);
        if (peer->awaits_end) {
            send_answer(peer, json_pack("{s:b,s:i,s:i}", "ok", 1, "pid", (int)getpid(), "status",
                                        c->s->exit_status));
        }
    }
    while ((peer = LIST_FIRST(&c->peers)) != NULL) {
        drop(peer);
    }
    evconnlistener_free(c->listener);
    free(c);
    *ctl = NULL;
}
