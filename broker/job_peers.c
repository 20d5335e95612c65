/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connections on the job socket. Everything that arrives is checked before it is used; who
 * sends nonsense is disconnected and reported to the supervisor.
 */
#include "broker/broker.h"

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

struct peer {
    TAILQ_ENTRY(peer) link;
    struct broker *broker;
    struct bufferevent *bev;
    enum pgqrs_role role;       /* what it may be; its hello tells */
    struct worker *worker;      /* null until its hello is accepted */
    struct client_call *call;   /* of a client, at the store; nothing more is read meanwhile */
    struct client_watch *watch; /* of a client that waits for messages; null: it has not yet */
    pid_t pid;
    uid_t uid;
    struct pgqrs_job_hello hello; /* one that waits for its worker to be announced */
    bool hello_waits;
    bool ended;                /* nothing more comes than what was read */
    bool answered;             /* scratch of pgqrs_peers_announced */
    struct hello_task *asked;  /* its hello is at the store; null: it is not */
    struct event *hello_timer; /* until a worker is attached */
};

/* A hello at the store: the worker's row, and what it does not know of goes back. */
struct hello_task {
    struct store_task task;
    struct peer *peer; /* null: it has gone */
    uint64_t generation;
    struct pgqrs_worker_row row;
    char name[1024];
    char *instance;
    struct pgqrs_lease_ref *known;
    size_t known_count;
    int64_t row_id;
    int64_t freed;       /* out: leases that it does not know of */
    char *workflow;      /* its queue's name, when its definition is to be made; else null */
    int64_t workflow_id; /* out */
};

static bool read_frames(struct peer *peer);

void pgqrs_peer_close(struct peer **peer_ptr)
{
    struct peer *peer = *peer_ptr;
    if (peer == NULL) {
        return;
    }
    *peer_ptr = NULL;
    TAILQ_REMOVE(&peer->broker->peers, peer, link);
    peer->broker->peer_count--;
    if (peer->hello_timer != NULL) {
        event_free(peer->hello_timer);
    }
    pgqrs_client_watch_end(peer->broker, &peer->watch);
    pgqrs_job_hello_fini(&peer->hello);
    if (peer->asked != NULL) {
        peer->asked->peer = NULL;
    }
    if (peer->call != NULL) {
        pgqrs_client_call_forget(peer->call);
    }
    if (peer->bev != NULL) {
        bufferevent_free(peer->bev);
    }
    free(peer);
}

static void drop(struct peer *peer)
{
    struct broker *b = peer->broker;
    if (peer->worker != NULL) {
        pgqrs_worker_detach(b, peer->worker);
    } else {
        pgqrs_peer_close(&peer);
    }
}

/* Here and below, a bool result tells whether the peer is still there. */

/* The peer broke the protocol. */
static bool refuse(struct peer *peer, const char *text)
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
    drop(peer);
    return false;
}

/* The connection of a worker that died before its hello could be answered. */
static bool let_go(struct peer *peer)
{
    pgqrs_log_debug("broker: a connection of a worker that has ended is closed pid=%d",
                    (int)peer->pid);
    drop(peer);
    return false;
}

static uid_t user_of(const struct broker_queue *queue)
{
    return queue->settings.worker_uid == 0 ? geteuid() : queue->settings.worker_uid;
}

static bool same_token(const uint8_t *a, const uint8_t *b)
{
    uint8_t difference = 0;
    for (size_t i = 0; i < PGQRS_TOKEN_SIZE; i++) {
        difference |= a[i] ^ b[i];
    }
    return difference == 0;
}

static void hello_task_drop(struct store_task *task)
{
    struct hello_task *t = (struct hello_task *)task; /* its first member */
    free(t->instance);
    free(t->known);
    free(t->workflow);
    free(t);
}

static void run_hello(struct pgqrs_store *store, struct store_task *task)
{
    struct hello_task *t = (struct hello_task *)task;
    task->rc = pgqrs_store_worker_register(store, &t->row, &t->row_id, &task->err);
    for (size_t i = 0; task->rc == 0 && i < t->known_count; i++) {
        t->known[i].worker_id = t->row_id;
    }
    int64_t freed = task->rc < 0 ? -1
                                 : pgqrs_store_worker_reconcile(store, t->row_id, t->known,
                                                                t->known_count, &task->err);
    if (freed > 0) {
        pgqrs_log_info("broker: worker \"%s\": %lld leases that never reached it are free again",
                       t->name, (long long)freed);
    }
    t->freed = freed;
    task->rc = freed < 0 ? -1 : 0;
    if (task->rc == 0 && t->workflow != NULL) {
        task->rc =
            pgqrs_store_workflow_create(store, t->workflow, &t->workflow_id, NULL, &task->err);
    }
}
_Static_assert(offsetof(struct hello_task, task) == 0, "one is taken for the other");

static struct hello_task *hello_task_of(struct peer *peer, struct worker *worker)
{
    const struct broker *b = peer->broker;
    struct hello_task *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return NULL;
    }
    t->known = calloc(peer->hello.held_count + 1, sizeof *t->known);
    t->instance = strdup(b->instance);
    bool makes = peer->hello.workflow != 0 && worker->queue->workflow_id == 0;
    t->workflow = makes ? strdup(worker->queue->settings.name) : NULL;
    if (t->known == NULL || t->instance == NULL || (makes && t->workflow == NULL)) {
        hello_task_drop(&t->task);
        return NULL;
    }
    for (size_t i = 0; i < peer->hello.held_count; i++) {
        t->known[t->known_count++] = (struct pgqrs_lease_ref){
            .message_id = peer->hello.held[i].id, .attempt = peer->hello.held[i].attempt};
    }
    pgqrs_worker_row_name(b, worker, t->name, sizeof t->name);
    t->row = (struct pgqrs_worker_row){
        .name = t->name,
        .queue_id = worker->queue->id,
        .instance = t->instance,
        .generation = worker->generation,
        .pid = worker->pid,
    };
    t->peer = peer;
    t->generation = worker->generation;
    return t;
}

static void on_hello_stored(void *arg, struct store_task *task);

/* 1: the store was asked; 0: it must wait until the worker is announced, or until the leases of the
 * one that had its place are free; -1: refused, *why_out says why, null: the worker has ended. */
static int try_hello(struct peer *peer, const char **why_out)
{
    struct broker *b = peer->broker;
    struct worker *worker = pgqrs_worker_find(b, peer->hello.generation);
    if (worker == NULL || worker->attaching || pgqrs_worker_has_predecessor(worker)) {
        return 0;
    }
    if (!same_token(worker->token, peer->hello.token) || worker->pid != peer->pid ||
        user_of(worker->queue) != peer->uid) {
        *why_out = "this is not the worker that pgqrsd announced";
        return -1;
    }
    if (worker->gathered) {
        *why_out = NULL;
        return -1;
    }
    if (worker->peer != NULL) {
        pgqrs_worker_detach(b, worker); /* it reconnected before we saw the old one end */
    }
    struct hello_task *t = hello_task_of(peer, worker);
    if (t == NULL) {
        *why_out = "out of memory";
        return -1;
    }
    t->task.call = PGQRS_CALL_WORKER;
    t->task.run = run_hello;
    t->task.done = on_hello_stored;
    t->task.drop = hello_task_drop;
    peer->asked = t;
    worker->attaching = true;
    pgqrs_store_thread_submit(b->store_thread, &t->task);
    return 1;
}

static bool answer_hello(struct peer *peer);

static bool start_hello_timer(struct peer *peer)
{
    const struct timeval limit = {.tv_sec = PGQRS_ANNOUNCE_TIMEOUT_MS / 1000};
    return evtimer_add(peer->hello_timer, &limit) == 0;
}

static void on_hello_timeout(evutil_socket_t fd, short what, void *arg)
{
    struct peer *peer = arg;
    (void)fd;
    (void)what;
    if (!peer->hello_waits) {
        (void)refuse(peer, "no hello");
    } else if (pgqrs_worker_find(peer->broker, peer->hello.generation) == NULL) {
        if (peer->hello.generation <= peer->broker->newest_generation) {
            (void)let_go(peer); /* it was announced, and is buried */
        } else {
            (void)refuse(peer, "no worker of this generation was announced");
        }
    } else {
        (void)answer_hello(peer);
    }
}

static bool wait_hello(struct peer *peer)
{
    peer->hello_waits = true;
    return start_hello_timer(peer) || refuse(peer, "out of memory");
}

/* A store that fails is no reason to refuse a worker: it waits until the store works again. */
static bool answer_hello(struct peer *peer)
{
    const char *why = "";
    if (peer->asked != NULL) {
        return true;
    }
    if (peer->broker->trouble_since_ms != 0 && !peer->broker->trying) {
        return wait_hello(peer);
    }
    int got = try_hello(peer, &why);
    if (got < 0) {
        return why == NULL ? let_go(peer) : refuse(peer, why);
    }
    return wait_hello(peer);
}

static void welcome(struct peer *peer, struct worker *worker, int64_t row_id)
{
    struct broker *b = peer->broker;
    struct pgqrs_buf out = {0};
    peer->worker = worker;
    pgqrs_worker_attach(b, worker, peer, row_id, &peer->hello);
    peer->hello_waits = false;
    pgqrs_job_hello_fini(&peer->hello);
    (void)evtimer_del(peer->hello_timer);
    pgqrs_encode_job_welcome(&out, worker->row_id);
    pgqrs_peer_send(peer, &out);
    pgqrs_buf_fini(&out);
    if (read_frames(peer) && peer->ended) { /* what followed the hello */
        drop(peer);
        pgqrs_workers_gather(b);
    }
}

static void on_hello_stored(void *arg, struct store_task *task)
{
    struct broker *b = arg;
    struct hello_task *t = (struct hello_task *)task;
    struct worker *worker = pgqrs_worker_find(b, t->generation); /* attaching, so it is there */
    struct peer *peer = t->peer;
    worker->attaching = false;
    if (peer != NULL) {
        peer->asked = NULL;
    }
    pgqrs_tally_freed(b, worker->queue, PGQRS_FREED_UNDELIVERED, t->freed);
    if (task->rc < 0) {
        pgqrs_commit_trouble(b, &task->err); /* the hello waits until the store works again */
    } else {
        worker->row_id = t->row_id;
        if (t->workflow_id != 0) {
            worker->queue->workflow_id = t->workflow_id;
        }
        if (peer != NULL && !worker->gathered) {
            welcome(peer, worker, t->row_id);
        } else if (peer != NULL) {
            (void)let_go(peer);
        }
        pgqrs_commit_success(b); /* answers hellos that wait, of which this is none any more */
    }
    hello_task_drop(task);
    pgqrs_workers_bury(b);
    pgqrs_peers_announced(b); /* another connection of the same worker may have waited */
}

/* To answer one hello may close another connection, so the list is looked at from the start. */
static struct peer *next_waiting(struct broker *b)
{
    struct peer *peer;
    TAILQ_FOREACH(peer, &b->peers, link)
    {
        if (peer->hello_waits && !peer->answered && peer->asked == NULL &&
            pgqrs_worker_find(b, peer->hello.generation) != NULL) {
            return peer;
        }
    }
    return NULL;
}

void pgqrs_peers_announced(struct broker *b)
{
    struct peer *peer;
    TAILQ_FOREACH(peer, &b->peers, link)
    {
        peer->answered = false;
    }
    while ((peer = next_waiting(b)) != NULL) {
        peer->answered = true;
        (void)answer_hello(peer);
    }
}

static bool on_hello(struct peer *peer, const struct pgqrs_frame *frame)
{
    struct pgqrs_error err;
    if (peer->worker != NULL) {
        return refuse(peer, "a second hello");
    }
    peer->hello_waits = true; /* it has come; that it is answered clears it */
    if (pgqrs_decode_job_hello(frame, &peer->hello, &err) < 0) {
        return refuse(peer, err.text);
    }
    if (peer->hello.major != PGQRS_IPC_MAJOR) {
        return refuse(peer, "protocol version differs: worker and broker are not of one release");
    }
    return answer_hello(peer);
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
        return refuse(peer, PGQRS_REFUSE_WORKER);
    }
    int rc = pgqrs_store_service_hello(frame, pgqrs_store_backend(b->store), &answer, &err);
    if (rc == 0) {
        peer->role = PGQRS_ROLE_CLIENT;
        (void)evtimer_del(peer->hello_timer);
        pgqrs_peer_send(peer, &answer);
    }
    pgqrs_buf_fini(&answer);
    return rc == 0 || refuse(peer, err.text);
}

/* Owns data. */
static bool on_client_frame(struct peer *peer, void *data, const struct pgqrs_frame *frame)
{
    if (frame->type == PGQRS_MSG_CLIENT_HELLO || peer->role != PGQRS_ROLE_CLIENT) {
        bool alive = frame->type == PGQRS_MSG_CLIENT_HELLO && peer->role != PGQRS_ROLE_CLIENT
                         ? on_client_hello(peer, frame)
                         : refuse(peer, PGQRS_REFUSE_NO_HELLO);
        free(data);
        return alive;
    }
    if (frame->type == PGQRS_MSG_CLIENT_WATCH) {
        struct pgqrs_error err;
        int rc = pgqrs_client_watch(peer->broker, peer, &peer->watch, frame, &err);
        free(data);
        return rc == 0 || refuse(peer, err.text);
    }
    peer->call = pgqrs_client_call_start(peer->broker, peer, data, frame);
    return peer->call != NULL || refuse(peer, "out of memory");
}

void pgqrs_peer_replied(struct peer *peer, const struct pgqrs_buf *reply, const char *nonsense)
{
    peer->call = NULL;
    if (nonsense != NULL) {
        (void)refuse(peer, nonsense);
        return;
    }
    pgqrs_peer_send(peer, reply);
    if (read_frames(peer) && peer->ended && peer->call == NULL) {
        drop(peer);
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
        bool alive = on_hello(peer, frame);
        free(data);
        return alive;
    }
    if (worker == NULL) {
        free(data);
        return refuse(peer, "a message before the hello");
    }
    if (frame->type == PGQRS_MSG_JOB_RESULTS) {
        return pgqrs_group_add_results(b, worker, data, frame, &err) == 0 || refuse(peer, err.text);
    }
    if (frame->type == PGQRS_MSG_JOB_FLOW) {
        return pgqrs_flows_add(b, worker, data, frame, &err) == 0 || refuse(peer, err.text);
    }
    int decoded = pgqrs_decode_job_capacity(frame, &worker->capacity, &err);
    free(data);
    if (decoded < 0) {
        return refuse(peer, err.text);
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

static bool read_frames(struct peer *peer)
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
        alive = got < 0 ? refuse(peer, err.text) : on_frame(peer, data, &frame);
    }
    return alive;
}

static void on_peer_read(struct bufferevent *bev, void *arg)
{
    (void)bev;
    (void)read_frames(arg);
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
        drop(peer);
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
        if (uid == user_of(&b->queues[i])) {
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
    peer->hello_timer = evtimer_new(b->base, on_hello_timeout, peer);
    peer->bev = bufferevent_socket_new(b->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (peer->bev == NULL) {
        (void)close(fd);
    }
    if (peer->bev == NULL || peer->hello_timer == NULL || !start_hello_timer(peer)) {
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
        drop(peer); /* it leaves the list, however it goes */
    }
}
