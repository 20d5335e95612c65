/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The broker from the supervisor's welcome to its stop: opens the store, frees what the dead have
 * left, then serves until it is told to end. Timers: poll (the truth about new work; everything
 * that wakes us earlier is a hint), due (the next delayed job), beat (to the supervisor), and those
 * of chores.c.
 */
#include "broker/broker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define BUSY_MS 100       /* how long another program's lock may hold up a call at a time */
#define IDLE_POLL_MS 5000 /* where somebody wakes us */
#define STOP_MS 4000      /* how long the last outcomes may take to be stored */
#define STOP_LATE_MS 10   /* after that, so that it has passed */
#define CALL_MS 10000     /* longer than a slow commit; then the connection is given up */
#define CLAIM_MS 1000
#define CLAIM_RETRY_MS 10
#define PREPARE_MS 20000 /* how long a start waits for another program's lock */
#define CONTROL_PER_TURN 64
#define JOIN_MS 2000 /* how long a call of the store may take when nothing depends on it */

/* ---- the supervisor's messages ---- */

static void on_drain(struct broker *b)
{
    b->draining = true;
    struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        pgqrs_worker_return_reserve(b, worker);
    }
    pgqrs_log_debug("broker: leasing nothing more");
}

void pgqrs_broker_try_stop(struct broker *b)
{
    bool done = pgqrs_commit_idle(b) && TAILQ_EMPTY(&b->workers);
    bool late = pgqrs_mono_ms() > b->stop_by_ms;
    if (b->stopping && (late || done)) {
        if (!done) {
            pgqrs_log_error("broker: %zu outcomes could not be stored; their jobs run again",
                            b->group.count + b->commit.group.count);
            b->exit_status = PGQRS_EXIT_UNAVAILABLE;
            b->late = true;
        }
        (void)event_base_loopbreak(b->base);
    }
}

static void on_stop(struct broker *b)
{
    static const struct timeval late = {.tv_sec = STOP_MS / 1000, .tv_usec = STOP_LATE_MS * 1000};
    if (!b->stopping) {
        pgqrs_chores_unwatch(b);
        (void)evtimer_add(b->stop, &late); /* the poll is there if it fails */
    }
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
    pgqrs_commit_wake(b);
}

static int on_worker_started(struct broker *b, const struct pgqrs_frame *frame,
                             struct pgqrs_error *err)
{
    struct pgqrs_worker_started m;
    if (pgqrs_decode_worker_started(frame, &m, err) < 0 || pgqrs_worker_add(b, &m, err) < 0) {
        return -1;
    }
    pgqrs_hello_announced(b);
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
    case PGQRS_MSG_BROKER_QUEUES:
        return pgqrs_queues_update(b, frame, err);
    case PGQRS_MSG_BROKER_SCHEDULES:
        return pgqrs_schedules_configure(b, frame, err);
    case PGQRS_MSG_LOG_LEVEL:
        return pgqrs_child_on_log_level(frame, err);
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
    case PGQRS_MSG_JOB_FLOW:
    case PGQRS_MSG_JOB_FLOWED:
    case PGQRS_MSG_JOB_CAPACITY:
    case PGQRS_MSG_CLIENT_HELLO:
    case PGQRS_MSG_CLIENT_WELCOME:
    case PGQRS_MSG_STORE_CALL:
    case PGQRS_MSG_STORE_REPLY:
    case PGQRS_MSG_ORDER:
    case PGQRS_MSG_WORKER_ORDER:
    case PGQRS_MSG_QUEUES_KNOWN:
    case PGQRS_MSG_QUEUE_LOAD:
    case PGQRS_MSG_RUN_ENDED:
    case PGQRS_MSG_GATEWAY_WELCOME:
    case PGQRS_MSG_TALLY:
    case PGQRS_MSG_CLIENT_WATCH:
    case PGQRS_MSG_CLIENT_WAKE:
    case PGQRS_MSG_GATEWAY_LOOK:
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

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    (void)fd;
    (void)what;
    pgqrs_tally_wakeup(b, PGQRS_WAKEUP_POLL);
    pgqrs_commit_all_maybe_ready(b);
    if (b->wake == NULL) {
        pgqrs_clients_wake(b); /* they look as often as we do */
    }
    pgqrs_broker_try_stop(b);
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    (void)fd;
    (void)what;
    b->due_at_us = 0;
    pgqrs_tally_wakeup(b, PGQRS_WAKEUP_DUE);
    pgqrs_commit_all_maybe_ready(b);
}

static void on_gather(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    pgqrs_workers_gather(arg);
}

/* Jobs that are out with workers, or whose outcome is not stored. One that this broker has not
 * heard of yet may have one. */
static uint32_t work_left(const struct broker *b)
{
    uint32_t left = 0;
    const struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        left += (uint32_t)(worker->held_count + worker->unsettled - worker->asks) +
                (worker->inherited ? 1 : 0);
    }
    return left == 0 && !pgqrs_commit_idle(b) ? 1 : left;
}

static void on_beat(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    (void)fd;
    (void)what;
    const struct pgqrs_child_beat beat = {.held = work_left(b), .settled = b->settled};
    pgqrs_child_send_beat(b->child, &beat);
    pgqrs_tally_report(b);
}

/* ---- start ---- */

/* A broker that was killed this instant may still be on its way out. */
static int claim_store(struct broker *b, struct pgqrs_error *err)
{
    int64_t give_up_ms = pgqrs_mono_ms() + CLAIM_MS;
    int rc;
    while ((rc = pgqrs_store_claim(b->store, b->site, err)) < 0 && pgqrs_mono_ms() < give_up_ms) {
        (void)poll(NULL, 0, CLAIM_RETRY_MS);
    }
    b->alone = rc > 0;
    return rc < 0 ? -1 : 0;
}

static int open_store(struct broker *b, const struct pgqrs_broker_welcome *m,
                      struct pgqrs_error *err)
{
    const struct pgqrs_store_options options = {
        .create = true,
        .synchronous_full = m->synchronous_full != 0,
        .busy_ms = BUSY_MS,
        .call_ms = CALL_MS,
        .schema = m->schema,
        .wake = true,
        .wake_dsn = m->wake_dsn[0] == 0 ? NULL : m->wake_dsn,
    };
    int rc = pgqrs_store_open(m->dsn, &options, &b->store, err);
    return rc < 0 ? -1 : claim_store(b, err);
}

/* Completes the schema and the queues, and frees what the dead have left. Each step may be done
 * again, so a lock of another program is waited for. */
static int prepare_store(struct broker *b, struct pgqrs_error *err)
{
    int64_t give_up_ms = pgqrs_mono_ms() + PREPARE_MS;
    for (;;) {
        if (pgqrs_store_install(b->store, err) == 0 && pgqrs_queues_find_in_store(b, err) == 0 &&
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
    if (asprintf(&b->site, "%s/%s", host, m->name) < 0) {
        b->site = NULL;
    }
    b->foreign_stale_ms = m->foreign_stale_ms;
    b->lease_ms = m->lease_ms;
    b->poll_ms = m->poll_ms;
    b->heartbeat_ms = m->heartbeat_ms;
    b->draining = m->draining != 0;
    b->random = (uint32_t)pgqrs_mono_us();
    if (b->host == NULL || b->instance == NULL || b->site == NULL) {
        return pgqrs_error_memory(err);
    }
    if (pgqrs_queues_create(b, m, err) < 0 || open_store(b, m, err) < 0) {
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
    b->turn = evtimer_new(b->base, on_commit_turn, b);
    b->retry = evtimer_new(b->base, on_commit_turn, b);
    b->due = evtimer_new(b->base, on_due, b);
    b->gather = evtimer_new(b->base, on_gather, b);
    b->spare = evtimer_new(b->base, on_spare, b);
    b->stop = evtimer_new(b->base, on_poll, b);
    b->control = watch(b, pgqrs_control_fd(b->child->control), on_control);
    b->lifeline = watch(b, b->child->lifeline, on_lifeline);
    b->wake = wake < 0 ? NULL : watch(b, wake, on_wake);
    b->look_ms = wake < 0 || b->poll_ms > IDLE_POLL_MS ? b->poll_ms : IDLE_POLL_MS;
    b->poll = every(b, b->look_ms, on_poll);
    b->beat = every(b, b->heartbeat_ms, on_beat);
    if (b->turn == NULL || b->retry == NULL || b->due == NULL || b->gather == NULL ||
        b->spare == NULL || b->stop == NULL || b->control == NULL || b->lifeline == NULL ||
        (wake >= 0 && b->wake == NULL) || b->poll == NULL || b->beat == NULL) {
        return pgqrs_error_memory(err);
    }
    if (pgqrs_store_thread_start(b->base, b->store, b->page, b, &b->store_thread, err) < 0 ||
        pgqrs_load_start(b, err) < 0 || pgqrs_chores_start(b, err) < 0 ||
        pgqrs_orders_start(b, err) < 0 || pgqrs_flows_start(b, err) < 0 ||
        pgqrs_schedules_start(b, err) < 0) {
        return -1;
    }
    return pgqrs_peers_listen(b, PGQRS_FD_LISTEN, err);
}

static void broker_fini(struct broker *b)
{
    struct event *events[] = {b->turn,     b->retry,  b->due,          b->gather,       b->control,
                              b->lifeline, b->wake,   b->listen_again, b->poll,         b->renew,
                              b->beat,     b->listen, b->spare,        b->housekeeping, b->stop};
    pgqrs_peers_fini(b); /* they know of tasks, which the thread's end drops */
    if (!pgqrs_store_thread_stop(&b->store_thread, b->late ? 0 : JOIN_MS)) {
        pgqrs_log_error("broker: a call of the store does not end, ending without it");
        _exit(b->exit_status == 0 ? PGQRS_EXIT_UNAVAILABLE : b->exit_status);
    }
    pgqrs_flows_fini(b);
    pgqrs_workers_fini(b);
    pgqrs_commit_fini(b);
    pgqrs_chores_fini(b);
    pgqrs_orders_fini(b);
    pgqrs_schedules_fini(b);
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        if (events[i] != NULL) {
            event_free(events[i]);
        }
    }
    pgqrs_store_close(&b->store);
    pgqrs_load_fini(b);
    pgqrs_queues_fini(b);
    free(b->host);
    free(b->site);
    free(b->instance);
    if (b->base != NULL) {
        event_base_free(b->base);
    }
}

int pgqrs_broker_run(struct pgqrs_child *child, const struct pgqrs_frame *welcome,
                     struct pgqrs_error *err)
{
    struct broker b = {.child = child, .base = event_base_new(), .wakes = 1};
    struct pgqrs_broker_welcome m = {0};
    TAILQ_INIT(&b.workers);
    TAILQ_INIT(&b.peers);
    TAILQ_INIT(&b.watches);
    int rc = -1;
    if (b.base == NULL) {
        (void)pgqrs_error_memory(err);
        goto out;
    }
    if (pgqrs_tally_open(&b, err) < 0 || pgqrs_decode_broker_welcome(welcome, &m, err) < 0 ||
        take_welcome(&b, &m, err) < 0 || start_events(&b, err) < 0) {
        goto out;
    }
    pgqrs_child_send_empty(child, PGQRS_MSG_CHILD_READY);
    pgqrs_commit_all_maybe_ready(&b);
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
