/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker introduces itself. It may do so before the supervisor has announced it, and while the
 * store does not work; its hello waits then.
 */
#include "broker/peer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "store/workflow.h"

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

/* The connection of a worker that died before its hello could be answered. */
static bool let_go(struct peer *peer)
{
    pgqrs_log_debug("broker: a connection of a worker that has ended is closed pid=%d",
                    (int)peer->pid);
    pgqrs_peer_drop(peer);
    return false;
}

uid_t pgqrs_hello_user(const struct broker_queue *queue)
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
        pgqrs_hello_user(worker->queue) != peer->uid) {
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
        (void)pgqrs_peer_refuse(peer, "no hello");
    } else if (pgqrs_worker_find(peer->broker, peer->hello.generation) == NULL) {
        if (peer->hello.generation <= peer->broker->newest_generation) {
            (void)let_go(peer); /* it was announced, and is buried */
        } else {
            (void)pgqrs_peer_refuse(peer, "no worker of this generation was announced");
        }
    } else {
        (void)answer_hello(peer);
    }
}

static bool wait_hello(struct peer *peer)
{
    peer->hello_waits = true;
    return start_hello_timer(peer) || pgqrs_peer_refuse(peer, "out of memory");
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
        return why == NULL ? let_go(peer) : pgqrs_peer_refuse(peer, why);
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
    if (pgqrs_peer_read(peer) && peer->ended) { /* what followed the hello */
        pgqrs_peer_drop(peer);
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
    pgqrs_hello_announced(b); /* another connection of the same worker may have waited */
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

void pgqrs_hello_announced(struct broker *b)
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

bool pgqrs_hello_take(struct peer *peer, const struct pgqrs_frame *frame)
{
    struct pgqrs_error err;
    if (peer->worker != NULL) {
        return pgqrs_peer_refuse(peer, "a second hello");
    }
    peer->hello_waits = true; /* it has come; that it is answered clears it */
    if (pgqrs_decode_job_hello(frame, &peer->hello, &err) < 0) {
        return pgqrs_peer_refuse(peer, err.text);
    }
    if (peer->hello.major != PGQRS_IPC_MAJOR) {
        return pgqrs_peer_refuse(
            peer, "protocol version differs: worker and broker are not of one release");
    }
    return answer_hello(peer);
}

int pgqrs_hello_await(struct peer *peer)
{
    peer->hello_timer = evtimer_new(peer->broker->base, on_hello_timeout, peer);
    return peer->hello_timer != NULL && start_hello_timer(peer) ? 0 : -1;
}

void pgqrs_hello_forget(struct peer *peer)
{
    if (peer->hello_timer != NULL) {
        event_free(peer->hello_timer);
    }
    pgqrs_job_hello_fini(&peer->hello);
    if (peer->asked != NULL) {
        peer->asked->peer = NULL;
    }
}
