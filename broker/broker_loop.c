/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The broker from the supervisor's welcome to its stop: opens the store, frees what the dead have
 * left, then serves until it is told to end. Timers: poll (the truth about new work; everything
 * that wakes us earlier is a hint), due (the next delayed job), renew (leases of live workers),
 * beat (to the supervisor), row_beat (heartbeat_at of our workers, for other clients to see).
 */
#include "broker/broker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define BUSY_MS 100      /* how long another program's lock may hold up the loop at a time */
#define ROW_BEAT_MS 2000 /* pgqrs' clients take who is silent for 5 s for dead */
#define STOP_MS 10000    /* how long the last outcomes may take to be stored */
#define CLAIM_MS 1000
#define CLAIM_RETRY_MS 10
#define PREPARE_MS 20000 /* how long a start waits for another program's lock */
#define CONTROL_PER_TURN 64
#define RENEW_AT_ONCE 1000

/* ---- the supervisor's messages ---- */

static void on_drain(struct broker *b)
{
    b->draining = true;
    pgqrs_log_debug("broker: leasing nothing more");
}

static void try_stop(struct broker *b)
{
    bool late = pgqrs_mono_ms() > b->stop_by_ms;
    if (b->stopping && (late || (b->group.count == 0 && TAILQ_EMPTY(&b->workers)))) {
        if (b->group.count > 0 || !TAILQ_EMPTY(&b->workers)) {
            pgqrs_log_error("broker: %zu outcomes could not be stored; their jobs run again",
                            b->group.count);
            b->exit_status = PGQRS_EXIT_UNAVAILABLE;
        }
        (void)event_base_loopbreak(b->base);
    }
}

static void on_stop(struct broker *b)
{
    b->draining = b->stopping = true;
    b->stop_by_ms = pgqrs_mono_ms() + STOP_MS;
    /* All workers have ended, and the supervisor has said so before; what is left of them is only
     * waiting for the end of their connections. */
    struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        if (!worker->ended) {
            pgqrs_worker_ended(b, &(struct pgqrs_worker_ended){.generation = worker->generation,
                                                               .how = PGQRS_END_CLEAN,
                                                               .reason = "pgqrsd has stopped"});
        }
    }
    pgqrs_group_wake(b);
}

static int on_worker_started(struct broker *b, const struct pgqrs_frame *frame,
                             struct pgqrs_error *err)
{
    struct pgqrs_worker_started m;
    if (pgqrs_decode_worker_started(frame, &m, err) < 0 || pgqrs_worker_add(b, &m, err) < 0) {
        return -1;
    }
    pgqrs_peers_announced(b);
    return 0;
}

static int on_worker_ended(struct broker *b, const struct pgqrs_frame *frame,
                           struct pgqrs_error *err)
{
    struct pgqrs_worker_ended m;
    if (pgqrs_decode_worker_ended(frame, &m, err) < 0) {
        return -1;
    }
    pgqrs_worker_ended(b, &m);
    return 0;
}

static int dispatch(struct broker *b, const struct pgqrs_frame *frame, struct pgqrs_error *err)
{
    switch (frame->type) {
    case PGQRS_MSG_CHILD_DRAIN:
        on_drain(b);
        return 0;
    case PGQRS_MSG_BROKER_STOP:
        on_stop(b);
        return 0;
    case PGQRS_MSG_WORKER_STARTED:
        return on_worker_started(b, frame, err);
    case PGQRS_MSG_WORKER_ENDED:
        return on_worker_ended(b, frame, err);
    case PGQRS_MSG_NONE:
    case PGQRS_MSG_CHILD_HELLO:
    case PGQRS_MSG_REFUSE:
    case PGQRS_MSG_BROKER_WELCOME:
    case PGQRS_MSG_WORKER_WELCOME:
    case PGQRS_MSG_CHILD_READY:
    case PGQRS_MSG_CHILD_BEAT:
    case PGQRS_MSG_WORKER_CANCEL:
    case PGQRS_MSG_COMPLAINT:
    case PGQRS_MSG_JOB_HELLO:
    case PGQRS_MSG_JOB_WELCOME:
    case PGQRS_MSG_JOB_LEASES:
    case PGQRS_MSG_JOB_RESULTS:
    case PGQRS_MSG_JOB_SETTLED:
    case PGQRS_MSG_JOB_CAPACITY:
    case PGQRS_MSG_COUNT:
        break;
    }
    return pgqrs_error_set(err, PGQRS_ERR_PROTOCOL, "unexpected message %s",
                           pgqrs_msg_descs[frame->type].name);
}

static void on_control(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    (void)fd;
    (void)what;
    for (int i = 0; i < CONTROL_PER_TURN; i++) {
        struct pgqrs_frame frame;
        struct pgqrs_error err;
        int got = pgqrs_control_recv(b->child->control, PGQRS_ROLE_SUPERVISOR, PGQRS_ROLE_BROKER,
                                     &frame, &err);
        if (got == 0) {
            return;
        }
        if (got < 0 || dispatch(b, &frame, &err) < 0) {
            pgqrs_log_error("broker: message from pgqrsd: %s", err.text);
            return;
        }
    }
}

void pgqrs_broker_complain(struct broker *b, const struct worker *worker, const char *text)
{
    struct pgqrs_buf out = {0};
    struct pgqrs_error err;
    pgqrs_encode_complaint(
        &out, &(struct pgqrs_complaint){.generation = worker->generation, .text = text});
    if (pgqrs_control_send(b->child->control, &out, &err) < 0) {
        pgqrs_log_error("broker: worker %s/%u broke the protocol: %s; not reported: %s",
                        worker->queue->settings.name, worker->slot, text, err.text);
    }
    pgqrs_buf_fini(&out);
}

static void on_lifeline(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    (void)fd;
    (void)what;
    pgqrs_log_error("broker: pgqrsd is gone, ending");
    b->exit_status = PGQRS_EXIT_FAILURE;
    (void)event_base_loopbreak(b->base);
}

/* ---- timers ---- */

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    on_group_turn(fd, what, arg);
    try_stop(arg);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    (void)fd;
    (void)what;
    if (pgqrs_store_woken(b->store)) {
        pgqrs_group_all_maybe_ready(b);
    }
}

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    pgqrs_group_all_maybe_ready(arg);
    try_stop(arg);
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    (void)fd;
    (void)what;
    b->due_at_us = 0;
    pgqrs_group_all_maybe_ready(b);
}

static void on_gather(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    pgqrs_workers_gather(arg);
}

static void on_beat(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    (void)fd;
    (void)what;
    struct pgqrs_child_beat beat = {.settled = b->settled};
    struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        beat.held += (uint32_t)worker->held_count;
    }
    pgqrs_child_send_beat(b->child, &beat);
}

/* Somebody has deleted a worker's row: who dials again is registered again. */
static void on_beat_failed(struct broker *b, const int64_t *ids, size_t count,
                           const struct pgqrs_error *err)
{
    if (err->code != PGQRS_ERR_NOT_FOUND) {
        pgqrs_log_debug("broker: heartbeats not written: %s", err->text);
        return;
    }
    pgqrs_log_warn("broker: %s, its row was deleted; registering it again", err->text);
    struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        for (size_t i = 0; i < count; i++) {
            if (worker->row_id == ids[i]) {
                pgqrs_worker_detach(b, worker);
            }
        }
    }
}

static void on_row_beat(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    (void)fd;
    (void)what;
    int64_t ids[256];
    size_t count = 0;
    struct pgqrs_error err;
    struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        if (worker->peer != NULL) {
            ids[count++] = worker->row_id;
        }
        if (count == 256 || (count > 0 && TAILQ_NEXT(worker, link) == NULL)) {
            if (pgqrs_store_worker_beat(b->store, ids, count, &err) < 0) {
                on_beat_failed(b, ids, count, &err);
            }
            count = 0;
        }
    }
}

static void renew(struct broker *b, const struct pgqrs_lease_ref *refs, size_t count)
{
    struct pgqrs_error err;
    int64_t held = pgqrs_store_renew(b->store, refs, count, b->lease_ms, NULL, &err);
    if (held < 0) {
        pgqrs_log_warn("broker: %zu leases not renewed, trying again in %lld ms: %s", count,
                       (long long)b->lease_ms / 3, err.text);
    } else if (held < (int64_t)count) {
        pgqrs_log_warn("broker: %lld leases were lost: somebody else changed their messages",
                       (long long)count - (long long)held);
    }
}

/* Leases of jobs that are held for a while. Short jobs come and go between two rounds. */
static void on_renew(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    (void)fd;
    (void)what;
    struct pgqrs_lease_ref refs[RENEW_AT_ONCE];
    size_t count = 0;
    int64_t now = pgqrs_mono_ms();
    struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        for (size_t i = 0; i < worker->held_count; i++) {
            struct held_job *job = &worker->held[i];
            if (now - job->leased_ms < b->lease_ms / 4) {
                continue;
            }
            job->leased_ms = now;
            refs[count++] = (struct pgqrs_lease_ref){.message_id = job->key.id,
                                                     .worker_id = worker->row_id,
                                                     .attempt = job->key.attempt};
            if (count == RENEW_AT_ONCE) {
                renew(b, refs, count);
                count = 0;
            }
        }
    }
    if (count > 0) {
        renew(b, refs, count);
    }
}

/* ---- start ---- */

static int take_queues(struct broker *b, const struct pgqrs_broker_welcome *m,
                       struct pgqrs_error *err)
{
    b->queues = calloc(m->queue_count == 0 ? 1 : m->queue_count, sizeof *b->queues);
    if (b->queues == NULL) {
        return pgqrs_error_memory(err);
    }
    for (size_t i = 0; i < m->queue_count; i++) {
        struct broker_queue *queue = &b->queues[i];
        queue->settings = m->queues[i];
        queue->settings.name = strdup(m->queues[i].name);
        queue->maybe_ready = true;
        TAILQ_INIT(&queue->workers);
        if (queue->settings.name == NULL) {
            return pgqrs_error_memory(err);
        }
        b->queue_count++;
    }
    return 0;
}

static int find_queues(struct broker *b, struct pgqrs_error *err)
{
    for (size_t i = 0; i < b->queue_count; i++) {
        struct broker_queue *queue = &b->queues[i];
        int rc = pgqrs_store_queue_find(b->store, queue->settings.name, &queue->id, err);
        if (rc < 0 && err->code == PGQRS_ERR_NOT_FOUND) {
            rc = pgqrs_store_queue_create(b->store, queue->settings.name, &queue->id, err);
        }
        if (rc < 0) {
            return pgqrs_error_prefix(err, "queue \"%s\"", queue->settings.name);
        }
    }
    return 0;
}

/* A broker that was killed this instant may still be on its way out. */
static int claim_store(struct broker *b, struct pgqrs_error *err)
{
    int64_t give_up_ms = pgqrs_mono_ms() + CLAIM_MS;
    int rc;
    while ((rc = pgqrs_store_claim(b->store, b->host, err)) < 0 && pgqrs_mono_ms() < give_up_ms) {
        (void)poll(NULL, 0, CLAIM_RETRY_MS);
    }
    return rc;
}

static int open_store(struct broker *b, const struct pgqrs_broker_welcome *m,
                      struct pgqrs_error *err)
{
    const struct pgqrs_store_options options = {
        .create = true, .synchronous_full = m->synchronous_full != 0, .busy_ms = BUSY_MS};
    int rc = pgqrs_store_open(m->dsn, &options, &b->store, err);
    return rc < 0 ? -1 : claim_store(b, err);
}

/* Completes the schema and the queues, and frees what the dead have left. Each step may be done
 * again, so a lock of another program is waited for. */
static int prepare_store(struct broker *b, struct pgqrs_error *err)
{
    int64_t give_up_ms = pgqrs_mono_ms() + PREPARE_MS;
    for (;;) {
        if (pgqrs_store_install(b->store, err) == 0 && find_queues(b, err) == 0 &&
            pgqrs_workers_recover(b, err) == 0) {
            return 0;
        }
        if (err->code != PGQRS_ERR_AGAIN || pgqrs_mono_ms() > give_up_ms) {
            return -1;
        }
    }
}

static int take_welcome(struct broker *b, const struct pgqrs_broker_welcome *m,
                        struct pgqrs_error *err)
{
    char host[256];
    if (gethostname(host, sizeof host) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "gethostname");
    }
    host[sizeof host - 1] = 0;
    b->host = strdup(host);
    b->instance = strdup(m->instance);
    b->lease_ms = m->lease_ms;
    b->poll_ms = m->poll_ms;
    b->heartbeat_ms = m->heartbeat_ms;
    b->draining = m->draining != 0;
    b->random = (uint32_t)pgqrs_mono_us();
    if (b->host == NULL || b->instance == NULL) {
        return pgqrs_error_memory(err);
    }
    if (take_queues(b, m, err) < 0 || open_store(b, m, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < m->worker_count; i++) {
        if (pgqrs_worker_add(b, &m->workers[i], err) < 0) {
            return -1;
        }
        pgqrs_worker_find(b, m->workers[i].generation)->inherited = true;
    }
    return prepare_store(b, err);
}

static struct event *every(struct broker *b, int64_t ms, event_callback_fn fn)
{
    const struct timeval interval = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    struct event *event = event_new(b->base, -1, EV_PERSIST, fn, b);
    if (event != NULL && evtimer_add(event, &interval) < 0) {
        event_free(event);
        event = NULL;
    }
    return event;
}

static struct event *watch(struct broker *b, int fd, event_callback_fn fn)
{
    struct event *event = event_new(b->base, fd, EV_READ | EV_PERSIST, fn, b);
    if (event != NULL && event_add(event, NULL) < 0) {
        event_free(event);
        event = NULL;
    }
    return event;
}

static int start_events(struct broker *b, struct pgqrs_error *err)
{
    int wake = pgqrs_store_wake_fd(b->store);
    b->turn = evtimer_new(b->base, on_turn, b);
    b->retry = evtimer_new(b->base, on_turn, b);
    b->due = evtimer_new(b->base, on_due, b);
    b->gather = evtimer_new(b->base, on_gather, b);
    b->control = watch(b, pgqrs_control_fd(b->child->control), on_control);
    b->lifeline = watch(b, b->child->lifeline, on_lifeline);
    b->wake = wake < 0 ? NULL : watch(b, wake, on_wake);
    b->poll = every(b, b->poll_ms, on_poll);
    b->renew = every(b, b->lease_ms / 3, on_renew);
    b->beat = every(b, b->heartbeat_ms, on_beat);
    b->row_beat = every(b, ROW_BEAT_MS, on_row_beat);
    if (b->turn == NULL || b->retry == NULL || b->due == NULL || b->gather == NULL ||
        b->control == NULL || b->lifeline == NULL || (wake >= 0 && b->wake == NULL) ||
        b->poll == NULL || b->renew == NULL || b->beat == NULL || b->row_beat == NULL) {
        return pgqrs_error_memory(err);
    }
    return pgqrs_peers_listen(b, PGQRS_FD_LISTEN, err);
}

static void broker_fini(struct broker *b)
{
    struct event *events[] = {b->turn,     b->retry,    b->due,          b->gather, b->control,
                              b->lifeline, b->wake,     b->listen_again, b->poll,   b->renew,
                              b->beat,     b->row_beat, b->listen};
    pgqrs_peers_fini(b);
    pgqrs_workers_fini(b);
    pgqrs_group_fini(b);
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        if (events[i] != NULL) {
            event_free(events[i]);
        }
    }
    pgqrs_store_close(&b->store);
    for (size_t i = 0; i < b->queue_count; i++) {
        free((void *)(uintptr_t)b->queues[i].settings.name); /* owned here, const for the codec */
    }
    free(b->queues);
    free(b->host);
    free(b->instance);
    if (b->base != NULL) {
        event_base_free(b->base);
    }
}

int pgqrs_broker_run(struct pgqrs_child *child, const struct pgqrs_frame *welcome,
                     struct pgqrs_error *err)
{
    struct broker b = {.child = child, .base = event_base_new()};
    struct pgqrs_broker_welcome m = {0};
    TAILQ_INIT(&b.workers);
    TAILQ_INIT(&b.peers);
    int rc = -1;
    if (b.base == NULL) {
        (void)pgqrs_error_memory(err);
        goto out;
    }
    if (pgqrs_decode_broker_welcome(welcome, &m, err) < 0 || take_welcome(&b, &m, err) < 0 ||
        start_events(&b, err) < 0) {
        goto out;
    }
    pgqrs_child_send_empty(child, PGQRS_MSG_CHILD_READY);
    pgqrs_group_all_maybe_ready(&b);
    if (event_base_dispatch(b.base) < 0) {
        (void)pgqrs_error_set(err, PGQRS_ERR_FAILED, "event loop failed");
        goto out;
    }
    rc = b.exit_status;
out:
    pgqrs_broker_welcome_fini(&m);
    broker_fini(&b);
    return rc;
}
