/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heartbeats of the workers' rows, for other clients to see, and with the same statement what
 * others want: a row's state that somebody has changed, messages to be cancelled. The worker is
 * told through the supervisor, whose channel it hears while a handler runs. An order that misses
 * is given again with the next heartbeat, for as long as it stands in the store.
 */
#include "broker/broker.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

#define ROW_BEAT_MS 2500 /* pgqrs' clients take who is silent for 5 s for dead */
#define LOOK_MS 200      /* at most so often in between */
#define CANCELS_MAX 256  /* at once */

/* A worker that was suspended died; whoever comes in its place is, too. */
struct suspended_slot {
    const struct broker_queue *queue;
    uint32_t slot;
};

struct orders {
    struct store_task task;
    bool under_way, again;
    struct event *beat, *soon;
    int64_t looked_ms;
    struct pgqrs_orders store;
    int64_t *ids;
    enum pgqrs_worker_state *states;
    size_t cap;
    struct pgqrs_lease_ref cancels[CANCELS_MAX];
    struct suspended_slot *suspended;
    size_t suspended_count;
};
_Static_assert(offsetof(struct orders, task) == 0, "one is taken for the other");

static struct worker *find_row(struct broker *b, int64_t row_id)
{
    struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        if (worker->row_id == row_id && worker->peer != NULL && !worker->ended) {
            return worker;
        }
    }
    return NULL;
}

static void give_order(struct broker *b, const struct worker *worker, enum pgqrs_order_kind kind,
                       struct pgqrs_job_key key)
{
    struct pgqrs_buf out = {0};
    struct pgqrs_error err;
    pgqrs_encode_order(
        &out, PGQRS_MSG_ORDER,
        &(struct pgqrs_order){.generation = worker->generation, .kind = kind, .key = key});
    if (pgqrs_control_send(b->child->control, &out, &err) < 0) {
        pgqrs_log_debug("broker: order not given, it will be again: %s", err.text);
    }
    pgqrs_buf_fini(&out);
}

/* ---- a row's state, changed by us ---- */

struct move_task {
    struct store_task task;
    int64_t row_id;
};
_Static_assert(offsetof(struct move_task, task) == 0, "one is taken for the other");

static void drop_move(struct store_task *task)
{
    free(task);
}

static void run_move(struct pgqrs_store *store, struct store_task *task)
{
    task->rc = pgqrs_store_worker_move(store, ((struct move_task *)task)->row_id,
                                       PGQRS_MOVE_SUSPEND, &task->err);
}

static void on_moved(void *arg, struct store_task *task)
{
    struct broker *b = arg;
    struct worker *worker = find_row(b, ((struct move_task *)task)->row_id);
    if (worker != NULL) {
        worker->moving = false;
    }
    if (task->rc < 0 && task->err.code != PGQRS_ERR_CONFLICT) { /* somebody was faster */
        pgqrs_log_debug("broker: worker not suspended: %s", task->err.text);
    }
    pgqrs_orders_look(b);
    drop_move(task);
}

static void suspend(struct broker *b, struct worker *worker)
{
    struct move_task *t = worker->moving ? NULL : calloc(1, sizeof *t);
    if (t == NULL) {
        return; /* the next heartbeat finds it as it is */
    }
    t->task = (struct store_task){
        .call = PGQRS_CALL_WORKER, .run = run_move, .done = on_moved, .drop = drop_move};
    t->row_id = worker->row_id;
    worker->moving = true;
    pgqrs_store_thread_submit(b->store_thread, &t->task);
}

/* ---- carrying out ---- */

static void hold_back(struct broker *b, struct worker *worker)
{
    worker->held_back = true;
    pgqrs_worker_return_reserve(b, worker);
}

static void interrupt(struct broker *b, struct worker *worker, enum pgqrs_order_kind kind)
{
    for (size_t i = 0; i < worker->held_count; i++) {
        if (worker->held[i].order == PGQRS_ORDER_NONE) {
            worker->held[i].order = PGQRS_ORDER_INTERRUPT;
        }
    }
    give_order(b, worker, kind, (struct pgqrs_job_key){0});
}

static void go_on(struct broker *b, struct worker *worker)
{
    worker->held_back = false;
    worker->queue->maybe_ready = true;
    pgqrs_commit_wake(b);
}

static void take_state(struct broker *b, struct worker *worker, enum pgqrs_worker_state state)
{
    bool new = worker->row_state != state;
    if (worker->moving || (worker->row_state == PGQRS_WORKER_STOPPED && !new)) {
        return;
    }
    if (new &&
        (worker->held_back || (state != PGQRS_WORKER_READY && state != PGQRS_WORKER_POLLING))) {
        pgqrs_log_info("broker: worker %s/%u is %s generation=%llu", worker->queue->settings.name,
                       worker->slot, pgqrs_worker_state_name(state),
                       (unsigned long long)worker->generation);
    }
    worker->row_state = state;
    switch (state) {
    case PGQRS_WORKER_READY:
    case PGQRS_WORKER_POLLING:
        if (worker->held_back) {
            go_on(b, worker);
        }
        return;
    case PGQRS_WORKER_SUSPENDED:
        hold_back(b, worker);
        if (worker->sent_count > 1 || (new && worker->sent_count > 0)) {
            give_order(b, worker, PGQRS_ORDER_SUSPEND, (struct pgqrs_job_key){0});
        }
        return;
    case PGQRS_WORKER_INTERRUPTED:
        hold_back(b, worker);
        if (worker->sent_count > 0) {
            interrupt(b, worker, PGQRS_ORDER_INTERRUPT);
        } else if (worker->unsettled > 0) {
            pgqrs_orders_look(b);
        } else {
            suspend(b, worker);
        }
        return;
    case PGQRS_WORKER_STOPPED:
        hold_back(b, worker);
        interrupt(b, worker, PGQRS_ORDER_STOP);
        return;
    case PGQRS_WORKER_NONE:
    case PGQRS_WORKER_STATE_COUNT:
        break;
    }
    pgqrs_log_warn("broker: worker %s/%u: its row was deleted; registering it again",
                   worker->queue->settings.name, worker->slot);
    pgqrs_worker_detach(b, worker); /* who dials again is registered again */
    b->strange = true;
    pgqrs_commit_wake(b);
}

static void cancel(struct broker *b, const struct pgqrs_lease_ref *ref)
{
    const struct pgqrs_job_key key = {.id = ref->message_id, .attempt = ref->attempt};
    struct worker *worker = find_row(b, ref->worker_id);
    struct held_job *job = worker == NULL ? NULL : pgqrs_worker_held(worker, key);
    struct pgqrs_error err;
    if (job == NULL) {
        return; /* its outcome is on its way to the store, or it on its way from there */
    }
    if (job->order != PGQRS_ORDER_CANCEL) {
        pgqrs_log_info("broker: message %lld: " PGQRS_CANCELLED_TEXT, (long long)key.id);
    }
    if (job->sent) {
        job->order = PGQRS_ORDER_CANCEL;
        give_order(b, worker, PGQRS_ORDER_CANCEL, key);
    } else if (pgqrs_group_add_cancelled(b, worker, key, &err) == 0) {
        (void)pgqrs_worker_unhold(worker, key);
        pgqrs_commit_wake(b);
    }
}

/* ---- asking the store ---- */

static void run_orders(struct pgqrs_store *store, struct store_task *task)
{
    struct orders *o = (struct orders *)task;
    task->rc = pgqrs_store_worker_orders(store, &o->store, &task->err);
}

static void on_orders(void *arg, struct store_task *task)
{
    struct broker *b = arg;
    struct orders *o = b->orders;
    o->under_way = false;
    if (task->rc < 0) {
        pgqrs_commit_trouble(b, &task->err);
        return;
    }
    for (size_t i = 0; i < o->store.worker_count; i++) {
        struct worker *worker = find_row(b, o->ids[i]);
        if (worker != NULL) {
            take_state(b, worker, o->states[i]);
        }
    }
    for (size_t i = 0; i < o->store.cancel_count; i++) {
        cancel(b, &o->cancels[i]);
    }
    if (o->again) {
        o->again = false;
        pgqrs_orders_look(b);
    }
}

static int make_room(struct orders *o, size_t count)
{
    if (count <= o->cap) {
        return 0;
    }
    int64_t *ids = reallocarray(o->ids, count, sizeof *ids);
    if (ids == NULL) {
        return -1;
    }
    o->ids = ids;
    enum pgqrs_worker_state *states = reallocarray(o->states, count, sizeof *states);
    if (states == NULL) {
        return -1;
    }
    o->states = states;
    o->cap = count;
    return 0;
}

static void ask(struct broker *b, bool beat)
{
    struct orders *o = b->orders;
    size_t count = 0;
    struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        count += worker->peer != NULL;
    }
    if (count == 0 || make_room(o, count) < 0) {
        return;
    }
    count = 0;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        if (worker->peer != NULL) {
            o->ids[count++] = worker->row_id;
        }
    }
    o->store = (struct pgqrs_orders){.worker_ids = o->ids,
                                     .worker_count = count,
                                     .beat = beat,
                                     .states_out = o->states,
                                     .cancels_out = o->cancels,
                                     .cancel_max = CANCELS_MAX};
    o->looked_ms = pgqrs_mono_ms();
    o->under_way = true;
    pgqrs_store_thread_submit(b->store_thread, &o->task);
}

void pgqrs_orders_pause(struct broker *b, struct worker *worker)
{
    if (worker->only_message != 0 || worker->ended) {
        return; /* who asked for an isolated run gets it */
    }
    pgqrs_worker_return_reserve(b, worker);
    if (worker->sent_count > 0) {
        give_order(b, worker, PGQRS_ORDER_SUSPEND, (struct pgqrs_job_key){0});
    }
}

static void on_beat(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    (void)fd;
    (void)what;
    struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        if (worker->queue->settings.paused != 0 && worker->sent_count > 1) {
            pgqrs_orders_pause(b, worker);
        }
    }
    if (!b->orders->under_way) {
        ask(b, true);
    }
}

static void on_soon(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    (void)fd;
    (void)what;
    pgqrs_orders_look(b);
}

void pgqrs_orders_look(struct broker *b)
{
    struct orders *o = b->orders;
    if (o->under_way) {
        o->again = true; /* it may have looked too early */
        return;
    }
    int64_t left = o->looked_ms + LOOK_MS - pgqrs_mono_ms();
    if (left <= 0) {
        ask(b, false);
    } else if (!evtimer_pending(o->soon, NULL)) {
        const struct timeval delay = {.tv_usec = left * 1000};
        (void)evtimer_add(o->soon, &delay); /* the heartbeat is there if it fails */
    }
}

/* ---- places ---- */

void pgqrs_orders_buried(struct broker *b, const struct worker *worker)
{
    struct orders *o = b->orders;
    bool suspended = worker->row_state == PGQRS_WORKER_SUSPENDED ||
                     worker->row_state == PGQRS_WORKER_INTERRUPTED;
    if (!suspended || worker->how == PGQRS_END_CLEAN || worker->only_message != 0) {
        return;
    }
    struct suspended_slot *more = reallocarray(o->suspended, o->suspended_count + 1, sizeof *more);
    if (more != NULL) { /* else the new one works */
        o->suspended = more;
        more[o->suspended_count++] =
            (struct suspended_slot){.queue = worker->queue, .slot = worker->slot};
    }
}

void pgqrs_orders_attached(struct broker *b, struct worker *worker)
{
    struct orders *o = b->orders;
    worker->row_state = PGQRS_WORKER_NONE;
    if (worker->queue->settings.paused != 0) {
        pgqrs_orders_pause(b, worker);
    }
    for (size_t i = 0; i < o->suspended_count; i++) {
        if (o->suspended[i].queue == worker->queue && o->suspended[i].slot == worker->slot) {
            o->suspended[i] = o->suspended[--o->suspended_count];
            worker->held_back = true;
            suspend(b, worker);
            return;
        }
    }
    pgqrs_orders_look(b); /* it may be one that an earlier broker knew as suspended */
}

/* ---- start and end ---- */

int pgqrs_orders_start(struct broker *b, struct pgqrs_error *err)
{
    const struct timeval interval = {.tv_sec = ROW_BEAT_MS / 1000,
                                     .tv_usec = ROW_BEAT_MS % 1000 * 1000};
    struct orders *o = calloc(1, sizeof *o);
    if (o == NULL) {
        return pgqrs_error_memory(err);
    }
    b->orders = o;
    o->task = (struct store_task){.call = PGQRS_CALL_WORKER, .run = run_orders, .done = on_orders};
    o->beat = event_new(b->base, -1, EV_PERSIST, on_beat, b);
    o->soon = evtimer_new(b->base, on_soon, b);
    if (o->beat == NULL || o->soon == NULL || evtimer_add(o->beat, &interval) < 0) {
        return pgqrs_error_memory(err);
    }
    return 0;
}

void pgqrs_orders_fini(struct broker *b)
{
    struct orders *o = b->orders;
    if (o == NULL) {
        return;
    }
    b->orders = NULL;
    if (o->beat != NULL) {
        event_free(o->beat);
    }
    if (o->soon != NULL) {
        event_free(o->soon);
    }
    free(o->ids);
    free(o->states);
    free(o->suspended);
    free(o);
}
