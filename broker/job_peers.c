/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connections on the job socket. Everything that arrives is checked before it is used; who
 * sends nonsense is disconnected and reported to the supervisor.
 */
#include "broker/peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "base/clock.h"
#include "base/log.h"
#include "broker/client_calls.h"
#include "broker/client_watch.h"
#include "broker/store_service.h"

#define READ_AT_ONCE (256 * 1024)
#define PEERS_MAX 8192
#define ACCEPTS_PER_TURN 64
#define LISTEN_AGAIN_MS 100

void pgqrs_peer_close(struct peer **peer_ptr)
{
    struct peer *peer = *peer_ptr;
    if (peer == NULL) {
        return;
    }
    *peer_ptr = NULL;
    TAILQ_REMOVE(&peer->broker->peers, peer, link);
    peer->broker->peer_count--;
    pgqrs_hello_forget(peer);
    pgqrs_client_watch_end(peer->broker, &peer->watch);
    if (peer->call != NULL) {
        pgqrs_client_call_forget(peer->call);
    }
    if (peer->bev != NULL) {
        bufferevent_free(peer->bev);
    }
    free(peer);
}

void pgqrs_peer_drop(struct peer *peer)
{
    struct broker *b = peer->broker;
    if (peer->worker != NULL) {
        pgqrs_worker_detach(b, peer->worker);
    } else {
        pgqrs_peer_close(&peer);
    }
}

bool pgqrs_peer_refuse(struct peer *peer, const char *text)
{
    struct broker *b = peer->broker;
    if (peer->worker != NULL) {
        pgqrs_broker_complain(b, peer->worker, text);
    } else {
        pgqrs_log_warn("broker: connection refused: %s pid=%d", text, (int)peer->pid);
        struct pgqrs_buf out = {0};
        pgqrs_encode_refuse(&out, text);
        int fd = bufferevent_getfd(peer->bev);
        /* Best effort: the connection is closed at once. */
        (void)!send(fd, out.data, out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        pgqrs_buf_fini(&out);
    }
    pgqrs_peer_drop(peer);
    return false;
}

/* ---- clients of the store ---- */

static bool is_worker(const struct broker *b, pid_t pid)
{
    const struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        if (worker->pid == pid) {
            return true;
        }
    }
    return false;
}

static bool on_client_hello(struct peer *peer, const struct pgqrs_frame *frame)
{
    struct broker *b = peer->broker;
    struct pgqrs_buf answer = {0};
    struct pgqrs_error err;
    if (is_worker(b, peer->pid)) {
        return pgqrs_peer_refuse(peer, PGQRS_REFUSE_WORKER);
    }
    int rc = pgqrs_store_service_hello(frame, pgqrs_store_backend(b->store), &answer, &err);
    if (rc == 0) {
        peer->role = PGQRS_ROLE_CLIENT;
        (void)evtimer_del(peer->hello_timer);
        pgqrs_peer_send(peer, &answer);
    }
    pgqrs_buf_fini(&answer);
    return rc == 0 || pgqrs_peer_refuse(peer, err.text);
}

/* Owns data. */
static bool on_client_frame(struct peer *peer, void *data, const struct pgqrs_frame *frame)
{
    if (frame->type == PGQRS_MSG_CLIENT_HELLO || peer->role != PGQRS_ROLE_CLIENT) {
        bool alive = frame->type == PGQRS_MSG_CLIENT_HELLO && peer->role != PGQRS_ROLE_CLIENT
                         ? on_client_hello(peer, frame)
                         : pgqrs_peer_refuse(peer, PGQRS_REFUSE_NO_HELLO);
        free(data);
        return alive;
    }
    if (frame->type == PGQRS_MSG_CLIENT_WATCH) {
        struct pgqrs_error err;
        int rc = pgqrs_client_watch(peer->broker, peer, &peer->watch, frame, &err);
        free(data);
        return rc == 0 || pgqrs_peer_refuse(peer, err.text);
    }
    peer->call = pgqrs_client_call_start(peer->broker, peer, data, frame);
    return peer->call != NULL || pgqrs_peer_refuse(peer, "out of memory");
}

void pgqrs_peer_replied(struct peer *peer, const struct pgqrs_buf *reply, const char *nonsense)
{
    peer->call = NULL;
    if (nonsense != NULL) {
        (void)pgqrs_peer_refuse(peer, nonsense);
        return;
    }
    pgqrs_peer_send(peer, reply);
    if (pgqrs_peer_read(peer) && peer->ended && peer->call == NULL) {
        pgqrs_peer_drop(peer);
    }
}

/* ---- frames ---- */

/* Owns data, which frame borrows from. */
static bool on_frame(struct peer *peer, void *data, const struct pgqrs_frame *frame)
{
    struct broker *b = peer->broker;
    struct worker *worker = peer->worker;
    struct pgqrs_error err;
    if ((pgqrs_msg_descs[frame->type].from & PGQRS_ROLE_CLIENT) != 0) {
        return on_client_frame(peer, data, frame);
    }
    if (frame->type == PGQRS_MSG_JOB_HELLO) {
        peer->role = PGQRS_ROLE_WORKER;
        bool alive = pgqrs_hello_take(peer, frame);
        free(data);
        return alive;
    }
    if (worker == NULL) {
        free(data);
        return pgqrs_peer_refuse(peer, "a message before the hello");
    }
    if (frame->type == PGQRS_MSG_JOB_RESULTS) {
        return pgqrs_group_add_results(b, worker, data, frame, &err) == 0 ||
               pgqrs_peer_refuse(peer, err.text);
    }
    if (frame->type == PGQRS_MSG_JOB_FLOW) {
        return pgqrs_flows_add(b, worker, data, frame, &err) == 0 ||
               pgqrs_peer_refuse(peer, err.text);
    }
    int decoded = pgqrs_decode_job_capacity(frame, &worker->capacity, &err);
    free(data);
    if (decoded < 0) {
        return pgqrs_peer_refuse(peer, err.text);
    }
    if (worker->capacity == 0) {
        pgqrs_worker_return_reserve(b, worker);
    }
    pgqrs_worker_send_reserve(worker);
    pgqrs_worker_flush(worker);
    pgqrs_commit_wake(b);
    return true;
}

/* 1: *data_out is one whole frame, owned. 0: not all there. -1: nonsense or no memory. */
static int take_frame(const struct peer *peer, void **data_out, struct pgqrs_frame *frame_out,
                      struct pgqrs_error *err)
{
    struct evbuffer *input = bufferevent_get_input(peer->bev);
    uint8_t header[PGQRS_FRAME_HEADER];
    size_t used = 0;
    if (evbuffer_copyout(input, header, sizeof header) < (ev_ssize_t)sizeof header) {
        return 0;
    }
    /* The header alone tells type, direction and size; a body of length 0 is whole already. */
    int got = pgqrs_msg_parse(header, sizeof header, peer->role, PGQRS_ROLE_BROKER, frame_out,
                              &used, err);
    if (got < 0) {
        return -1;
    }
    struct pgqrs_reader r = pgqrs_reader_of(header, sizeof header);
    size_t whole = PGQRS_FRAME_HEADER + (size_t)pgqrs_read_u32(&r);
    if (evbuffer_get_length(input) < whole) {
        return 0;
    }
    void *data = malloc(whole);
    if (data == NULL) {
        return pgqrs_error_memory(err);
    }
    (void)evbuffer_remove(input, data, whole); /* it holds that much */
    if (pgqrs_msg_parse(data, whole, peer->role, PGQRS_ROLE_BROKER, frame_out, &used, err) != 1) {
        free(data);
        return -1;
    }
    *data_out = data;
    return 1;
}

bool pgqrs_peer_read(struct peer *peer)
{
    bool alive = true;
    while (alive && !peer->hello_waits && peer->call == NULL) {
        void *data = NULL;
        struct pgqrs_frame frame;
        struct pgqrs_error err;
        int got = take_frame(peer, &data, &frame, &err);
        if (got == 0) {
            return true;
        }
        alive = got < 0 ? pgqrs_peer_refuse(peer, err.text) : on_frame(peer, data, &frame);
    }
    return alive;
}

static void on_peer_read(struct bufferevent *bev, void *arg)
{
    (void)bev;
    (void)pgqrs_peer_read(arg);
}

static void on_peer_event(struct bufferevent *bev, short what, void *arg)
{
    struct peer *peer = arg;
    (void)bev;
    if ((what & BEV_EVENT_WRITING) != 0) {
        return; /* it takes no more; what it sent before counts, and is read to its end first */
    }
    if ((what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) != 0) {
        struct broker *b = peer->broker;
        if (peer->hello_waits || peer->call != NULL) {
            peer->ended = true; /* what it sent counts */
            return;
        }
        pgqrs_peer_drop(peer);
        pgqrs_workers_gather(b); /* a dead worker's last message was read now */
    }
}

/* What a process of this user may be here: a role, or none. */
static unsigned role_of(const struct broker *b, uid_t uid)
{
    if (uid == geteuid()) {
        return PGQRS_ROLE_WORKER | PGQRS_ROLE_CLIENT;
    }
    for (size_t i = 0; i < b->queue_count; i++) {
        if (uid == pgqrs_hello_user(&b->queues[i])) {
            return PGQRS_ROLE_WORKER;
        }
    }
    return PGQRS_ROLE_NONE;
}

/* Takes fd. */
static void add_peer(struct broker *b, int fd, const struct ucred *cred)
{
    struct peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL) {
        (void)close(fd);
        return;
    }
    peer->broker = b;
    peer->pid = cred->pid;
    peer->uid = cred->uid;
    peer->role = role_of(b, cred->uid);
    TAILQ_INSERT_TAIL(&b->peers, peer, link);
    b->peer_count++;
    peer->bev = bufferevent_socket_new(b->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (peer->bev == NULL) {
        (void)close(fd);
    }
    if (peer->bev == NULL || pgqrs_hello_await(peer) < 0) {
        pgqrs_peer_close(&peer);
        return;
    }
    bufferevent_setcb(peer->bev, on_peer_read, NULL, on_peer_event, peer);
    (void)bufferevent_set_max_single_read(peer->bev, READ_AT_ONCE);
    (void)bufferevent_set_max_single_write(peer->bev, READ_AT_ONCE);
    (void)bufferevent_enable(peer->bev, EV_READ | EV_WRITE);
}

/* Takes fd. */
static void check_in(struct broker *b, int fd)
{
    struct ucred cred = {.uid = (uid_t)-1};
    socklen_t len = sizeof cred;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
        role_of(b, cred.uid) != PGQRS_ROLE_NONE) {
        add_peer(b, fd, &cred);
        return;
    }
    pgqrs_log_warn("broker: connection refused: it is of uid %d, expected %d pid=%d", (int)cred.uid,
                   (int)geteuid(), (int)cred.pid);
    (void)close(fd);
}

/* The socket stays readable while a connection waits that can not be taken: look away for a while,
 * and say so once. */
static void stop_listening(struct broker *b, const char *why)
{
    const struct timeval again = {.tv_usec = LISTEN_AGAIN_MS * 1000};
    if (b->refused_since_ms == 0) {
        b->refused_since_ms = pgqrs_mono_ms();
        pgqrs_log_error("broker: no connection can be accepted: %s", why);
    }
    (void)event_del(b->listen);
    (void)evtimer_add(b->listen_again, &again);
}

static void on_listen_again(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    (void)fd;
    (void)what;
    (void)event_add(b->listen, NULL);
}

static void on_listen(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    (void)what;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        if (b->peer_count >= PEERS_MAX) {
            stop_listening(b, "there are too many");
            return;
        }
        int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (accepted < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
                stop_listening(b, strerror(errno));
            }
            return;
        }
        b->refused_since_ms = 0;
        check_in(b, accepted);
    }
}

int pgqrs_peers_listen(struct broker *b, int fd, struct pgqrs_error *err)
{
    if (evutil_make_socket_nonblocking(fd) < 0 || evutil_make_socket_closeonexec(fd) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "job socket");
    }
    b->listen = event_new(b->base, fd, EV_READ | EV_PERSIST, on_listen, b);
    b->listen_again = evtimer_new(b->base, on_listen_again, b);
    if (b->listen == NULL || b->listen_again == NULL || event_add(b->listen, NULL) < 0) {
        return pgqrs_error_memory(err);
    }
    return 0;
}

/* Straight into the socket while nothing waits before it: most messages are small, and going
 * through the loop's writable event costs several system calls more. */
static size_t send_now(struct peer *peer, const struct pgqrs_buf *frames)
{
    if (evbuffer_get_length(bufferevent_get_output(peer->bev)) > 0) {
        return 0;
    }
    ssize_t n =
        send(bufferevent_getfd(peer->bev), frames->data, frames->len, MSG_NOSIGNAL | MSG_DONTWAIT);
    return n < 0 ? 0 : (size_t)n; /* what is wrong shows again in the loop */
}

void pgqrs_peer_send(struct peer *peer, const struct pgqrs_buf *frames)
{
    size_t sent = frames->failed ? 0 : send_now(peer, frames);
    if (frames->failed || (sent < frames->len && bufferevent_write(peer->bev, frames->data + sent,
                                                                   frames->len - sent) < 0)) {
        pgqrs_log_error("broker: out of memory for a message to a worker, closing its connection");
        (void)shutdown(bufferevent_getfd(peer->bev), SHUT_RDWR);
    }
}

void pgqrs_peers_pause(struct broker *b, bool pause)
{
    struct peer *peer;
    b->paused = pause;
    TAILQ_FOREACH(peer, &b->peers, link)
    {
        (void)(pause ? bufferevent_disable(peer->bev, EV_READ)
                     : bufferevent_enable(peer->bev, EV_READ));
    }
}

void pgqrs_peers_fini(struct broker *b)
{
    struct peer *peer;
    while ((peer = TAILQ_FIRST(&b->peers)) != NULL) {
        pgqrs_peer_drop(peer); /* it leaves the list, however it goes */
    }
}
