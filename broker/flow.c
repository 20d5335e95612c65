/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What workers ask for while they run a job: begin a run, store a step, send an event, end a run.
 * It collects here while the loop reads its connections and the store is busy with what came
 * before, and goes to the store together: one transaction for the steps of many workers.
 */
#include "broker/broker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <jansson.h>

#include "base/clock.h"
#include "base/log.h"
#include "ipc/msg_flow.h"

#define FLOW_BYTES_MAX (64u * 1024 * 1024) /* that wait, before reading stops */
#define GATHER_MIN_US 200                  /* a store quicker than this is worth no waiting */

struct entry {
    struct worker *worker; /* it stays while it has something unsettled */
    void *data;            /* what ask borrows from */
    struct pgqrs_job_flow ask;
    int64_t queue_id;
    char *queue;     /* OPEN: its name */
    uint64_t number; /* of an end that goes to the store */
    /* Out: */
    bool done;
    bool unsure;  /* it may have been stored, by a try that failed */
    bool refused; /* it can not be done */
    char *failed; /* why; null: for want of memory */
    bool first;
    struct pgqrs_run_open open;
    int64_t now_us;
};

struct entries {
    struct entry *items;
    size_t count, cap, bytes;
};

struct flows {
    struct store_task task;
    bool under_way;
    struct entries waiting;
    struct entries running; /* not empty and not under way: it failed and is tried again */
    int64_t *workflow_ids;  /* by entry that runs: of its queue; 0: not known */

    int64_t took_us; /* how long the store takes, of late */
    size_t expected; /* workers that will ask in a moment: what waits goes with it */
    int64_t gather_until_us;
    int timer_fd; /* ends that moment, which is shorter than the loop's timers can tell */
    struct event *timer;
};

/* ---- the list ---- */

static void entry_fini(struct entry *e)
{
    pgqrs_flow_fini(&e->ask.item);
    pgqrs_job_flow_fini(&e->ask);
    pgqrs_run_open_fini(&e->open);
    free(e->failed);
    free(e->queue);
    free(e->data);
}

static struct entry *add_entry(struct entries *list)
{
    if (list->count == list->cap) {
        size_t cap = list->cap == 0 ? 64 : list->cap * 2;
        struct entry *grown = reallocarray(list->items, cap, sizeof *grown);
        if (grown == NULL) {
            return NULL;
        }
        list->items = grown;
        list->cap = cap;
    }
    return &list->items[list->count++];
}

static bool is_ask(const struct entry *e)
{
    return !pgqrs_job_flow_ends(e->ask.what);
}

/* An end that somebody has ordered to be a cancellation is one, unless the run was done first. */
static void heed_order(struct entry *e)
{
    const struct held_job *job = pgqrs_worker_held(e->worker, e->ask.key);
    if (job != NULL && job->order == PGQRS_ORDER_CANCEL && e->ask.what != PGQRS_FLOW_SUCCESS &&
        !is_ask(e)) {
        e->ask.item.what = PGQRS_FLOW_CANCEL;
    }
}

/* The entry alone fails; the worker is told. */
static void refuse_entry(struct entry *e, const char *why)
{
    e->failed = strdup(why);
    e->refused = e->done = true;
}

/* A worker asks one thing at a time, and again when it has connected again: whoever is connected
 * then gets the answer. 1: it is to be asked, 0: it is already, -1. */
static int note_ask(struct worker *worker, uint32_t seq, struct pgqrs_error *err)
{
    if (worker->asks > 0 && worker->ask_seq != seq) {
        return pgqrs_error_set(err, PGQRS_ERR_PROTOCOL,
                               "JOB_FLOW: found another one, expected it to wait for its answer");
    }
    if (worker->asks > 0 && worker->ask_row_id == worker->row_id) {
        return 0;
    }
    worker->asks++;
    worker->ask_seq = seq;
    worker->ask_row_id = worker->row_id;
    return 1;
}

/* ---- going together ----
 *
 * A worker whose step is stored asks again at once when its steps are short, and just misses the
 * transaction of those that came while it waited: two workers would take turns. So those wait a
 * moment for it, if the store takes much longer than that.
 */

static void note_asked(struct flows *f, struct worker *worker)
{
    if (worker->answered_us != 0) {
        int64_t us = pgqrs_mono_us() - worker->answered_us;
        worker->think_us = worker->think_us == 0 ? us : (3 * worker->think_us + us) / 4;
        worker->answered_us = 0;
    }
    f->expected -= worker->expected ? 1 : 0;
    worker->expected = false;
}

static void expect_nobody(struct broker *b)
{
    struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        worker->expected = false;
    }
    b->flows->expected = 0;
    b->flows->gather_until_us = 0;
}

static void note_answered(struct flows *f, struct worker *worker)
{
    int64_t now_us = pgqrs_mono_us();
    worker->answered_us = now_us;
    if (f->took_us >= GATHER_MIN_US && worker->think_us > 0 && worker->think_us < f->took_us / 2 &&
        !worker->expected) {
        worker->expected = true;
        f->expected++;
        int64_t until_us = now_us + 2 * worker->think_us;
        f->gather_until_us = until_us > f->gather_until_us ? until_us : f->gather_until_us;
    }
}

/* True: not yet. The timer says when. */
static bool wait_for_more(const struct flows *f)
{
    int64_t us = f->gather_until_us - pgqrs_mono_us();
    const struct itimerspec in = {
        .it_value = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000}};
    return f->expected > 0 && us > 0 && timerfd_settime(f->timer_fd, 0, &in, NULL) == 0;
}

static void on_gathered(evutil_socket_t fd, short what, void *arg)
{
    uint64_t count;
    (void)what;
    (void)!read(fd, &count, sizeof count); /* the time is what counts */
    pgqrs_commit_wake(arg);
}

int pgqrs_flows_add(struct broker *b, struct worker *worker, void *data,
                    const struct pgqrs_frame *frame, struct pgqrs_error *err)
{
    struct flows *f = b->flows;
    struct pgqrs_job_flow ask;
    if (pgqrs_decode_job_flow(frame, &ask, err) < 0) {
        free(data);
        return -1;
    }
    int noted = pgqrs_job_flow_ends(ask.what) ? 1 : note_ask(worker, ask.seq, err);
    if (noted <= 0) {
        pgqrs_job_flow_fini(&ask);
        free(data);
        return noted;
    }
    struct entry *e = add_entry(&f->waiting);
    char *queue = e == NULL ? NULL : strdup(worker->queue->settings.name);
    if (queue == NULL) {
        f->waiting.count -= e == NULL ? 0 : 1;
        worker->asks -= pgqrs_job_flow_ends(ask.what) ? 0 : 1;
        pgqrs_job_flow_fini(&ask);
        free(data);
        return pgqrs_error_memory(err);
    }
    *e = (struct entry){
        .worker = worker, .data = data, .ask = ask, .queue_id = worker->queue->id, .queue = queue};
    e->ask.item.lease = (struct pgqrs_lease_ref){
        .message_id = ask.key.id, .worker_id = worker->row_id, .attempt = ask.key.attempt};
    f->waiting.bytes += frame->len + sizeof *e;
    worker->unsettled++;
    note_asked(f, worker);
    if (!is_ask(e)) {
        heed_order(e);
        (void)pgqrs_worker_unhold(worker, ask.key); /* sent again after a reconnect: not held */
        pgqrs_worker_pace(worker, 1);
        pgqrs_worker_send_reserve(worker);
        pgqrs_worker_flush(worker);
    }
    if (e->ask.item.sql_count > 0 && worker->queue->settings.sql == 0) {
        refuse_entry(e, "statements are not allowed: `sql` of the queue is not true");
    }
    if (f->waiting.bytes > FLOW_BYTES_MAX && !b->paused) {
        pgqrs_peers_pause(b, true);
    }
    pgqrs_commit_wake(b);
    return 0;
}

void pgqrs_flows_known(const struct broker *b, const struct worker *worker,
                       struct pgqrs_lease_ref *refs, size_t *count)
{
    const struct entries *lists[] = {&b->flows->waiting, &b->flows->running};
    for (size_t l = 0; l < 2; l++) {
        for (size_t i = 0; i < lists[l]->count; i++) {
            const struct entry *e = &lists[l]->items[i];
            if (e->worker == worker) {
                refs[(*count)++] = e->ask.item.lease;
            }
        }
    }
}

bool pgqrs_flows_idle(const struct broker *b)
{
    return b->flows->waiting.count == 0 && b->flows->running.count == 0;
}

/* ---- on the store's thread ---- */

static bool may_pass(const struct pgqrs_error *err)
{
    return err->code == PGQRS_ERR_AGAIN || err->code == PGQRS_ERR_UNKNOWN ||
           err->code == PGQRS_ERR_UNAVAILABLE || err->code == PGQRS_ERR_MEMORY;
}

/* All that begin runs of one queue. */
static int open_runs(struct pgqrs_store *store, struct flows *f, size_t first,
                     struct pgqrs_error *err)
{
    const struct entry *of = &f->running.items[first];
    size_t count = 0;
    int64_t id = f->workflow_ids[first];
    struct pgqrs_run_open *opens = calloc(f->running.count, sizeof *opens);
    if (opens == NULL) {
        return pgqrs_error_memory(err);
    }
    int64_t now_us = 0;
    int rc = id == 0 ? pgqrs_store_workflow_create(store, of->queue, &id, NULL, err) : 0;
    for (size_t i = first; i < f->running.count; i++) {
        const struct entry *e = &f->running.items[i];
        if (e->ask.what == PGQRS_ASK_OPEN && !e->done && e->queue_id == of->queue_id) {
            opens[count++].lease = e->ask.item.lease;
        }
    }
    rc = rc == 0 ? pgqrs_store_run_open(store, id, opens, count, &now_us, err) : rc;
    bool later = rc < 0 && may_pass(err);
    for (size_t i = first, n = 0; !later && i < f->running.count; i++) {
        struct entry *e = &f->running.items[i];
        if (e->ask.what != PGQRS_ASK_OPEN || e->done || e->queue_id != of->queue_id) {
            continue;
        }
        if (rc < 0) {
            refuse_entry(e, err->text);
            continue;
        }
        e->open = opens[n++];
        e->now_us = now_us;
        e->done = true;
        f->workflow_ids[i] = id;
    }
    free(opens);
    return later ? -1 : 0;
}

static int send_event(struct pgqrs_store *store, struct entry *e, struct pgqrs_error *err)
{
    int rc = pgqrs_store_event_send(store, e->ask.event_run, e->ask.item.name, e->ask.item.output,
                                    &e->first, err);
    if (rc < 0 && may_pass(err)) {
        return -1;
    }
    if (rc < 0) {
        refuse_entry(e, err->text);
    }
    e->done = true;
    return 0;
}

static int store_flows(struct pgqrs_store *store, struct flows *f, struct pgqrs_error *err)
{
    size_t count = 0;
    struct pgqrs_flow *items = calloc(f->running.count + 1, sizeof *items);
    if (items == NULL) {
        return pgqrs_error_memory(err);
    }
    for (size_t i = 0; i < f->running.count; i++) {
        if (!f->running.items[i].done) {
            items[count++] = f->running.items[i].ask.item;
        }
    }
    int rc = count == 0 ? 0 : pgqrs_store_flow(store, items, count, err);
    for (size_t i = 0, n = 0; rc == 0 && i < f->running.count; i++) {
        struct entry *e = &f->running.items[i];
        if (!e->done) {
            e->ask.item = items[n++];
            e->done = true;
        }
    }
    free(items);
    return rc;
}

static void run_flows(struct pgqrs_store *store, struct store_task *task)
{
    struct flows *f = (struct flows *)task; /* its first member */
    int64_t began_us = pgqrs_mono_us();
    task->rc = 0;
    for (size_t i = 0; task->rc == 0 && i < f->running.count; i++) {
        struct entry *e = &f->running.items[i];
        if (e->done) {
            continue;
        }
        if (e->ask.what == PGQRS_ASK_OPEN) {
            task->rc = open_runs(store, f, i, &task->err);
        } else if (e->ask.what == PGQRS_ASK_EVENT) {
            task->rc = send_event(store, e, &task->err);
        }
    }
    if (task->rc == 0) {
        task->rc = store_flows(store, f, &task->err);
    }
    f->took_us = (3 * f->took_us + pgqrs_mono_us() - began_us) / 4;
}
_Static_assert(offsetof(struct flows, task) == 0, "run_flows takes one for the other");

/* ---- answers ---- */

static int64_t wait_ms_of(const struct pgqrs_step *step, int64_t now_us)
{
    if (step->retry_at_us == 0) {
        return -1;
    }
    return step->retry_at_us <= now_us ? 0 : (step->retry_at_us - now_us + 999) / 1000;
}

/* 0, or -1: more than a worker can be sent. */
static int put_opened(const struct entry *e, struct pgqrs_job_flowed *m)
{
    size_t bytes = 0;
    m->steps = calloc(e->open.steps.count + 1, sizeof *m->steps);
    m->events = calloc(e->open.events.count + 1, sizeof *m->events);
    if (m->steps == NULL || m->events == NULL || e->open.steps.count > PGQRS_RUN_STEPS_MAX ||
        e->open.events.count > PGQRS_RUN_STEPS_MAX) {
        return -1;
    }
    for (size_t i = 0; i < e->open.steps.count; i++) {
        const struct pgqrs_step *step = &e->open.steps.items[i];
        m->steps[m->step_count++] = (struct pgqrs_flow_step){
            .name = step->name,
            .kind = step->kind,
            .status = step->status,
            .output = pgqrs_bytes_from(step->output),
            .error = pgqrs_bytes_from(step->error),
            .retry_count = step->retry_count,
            .wait_ms = wait_ms_of(step, e->now_us),
        };
        bytes += strlen(step->name) + pgqrs_bytes_from(step->output).len +
                 pgqrs_bytes_from(step->error).len + 64;
    }
    for (size_t i = 0; i < e->open.events.count; i++) {
        const struct pgqrs_pair *event = &e->open.events.items[i];
        m->events[m->event_count++] = (struct pgqrs_flow_event){
            .name = event->name, .payload = pgqrs_bytes_from(event->json)};
        bytes += strlen(event->name) + strlen(event->json) + 64;
    }
    return bytes > PGQRS_RUN_BYTES_MAX ? -1 : 0;
}

static void answer_ask(struct worker *worker, const struct entry *e)
{
    struct pgqrs_buf out = {0};
    struct pgqrs_job_flowed m = {.key = e->ask.key, .seq = e->ask.seq, .first = e->first};
    const struct pgqrs_flow *item = &e->ask.item;
    bool opens = e->ask.what == PGQRS_ASK_OPEN;
    bool lost = opens ? !e->open.held : item->settled_out == PGQRS_SETTLED_REFUSED;
    const char *why = e->refused ? e->failed : item->failed_out ? item->error_out : NULL;
    m.verdict = e->refused || item->failed_out ? PGQRS_FLOWED_FAILED
                : lost                         ? PGQRS_FLOWED_REFUSED
                                               : PGQRS_FLOWED_STORED;
    m.status = opens ? e->open.status : item->status_out;
    m.output = pgqrs_bytes_from(item->output_out);
    if (m.verdict == PGQRS_FLOWED_STORED && opens && put_opened(e, &m) < 0) {
        m.verdict = PGQRS_FLOWED_FAILED;
        m.step_count = m.event_count = 0;
        why = "its stored steps and events are over 12 MiB";
    }
    m.error = pgqrs_bytes_from(why);
    pgqrs_encode_job_flowed(&out, &m);
    pgqrs_job_flowed_fini(&m);
    pgqrs_peer_send(worker->peer, &out);
    pgqrs_buf_fini(&out);
}

/* As pgqrs_only_settled wants it. */
static struct pgqrs_settlement settlement_of(const struct pgqrs_flow *item)
{
    static const enum pgqrs_settle hows[PGQRS_FLOW_COUNT] = {
        [PGQRS_FLOW_SUCCESS] = PGQRS_SETTLE_ARCHIVE,  [PGQRS_FLOW_ERROR] = PGQRS_SETTLE_DEAD,
        [PGQRS_FLOW_CANCEL] = PGQRS_SETTLE_CANCEL,    [PGQRS_FLOW_SUSPEND] = PGQRS_SETTLE_SNOOZE,
        [PGQRS_FLOW_CONTINUE] = PGQRS_SETTLE_ARCHIVE,
    };
    enum pgqrs_settle how = item->status_out == PGQRS_RUN_ERROR       ? PGQRS_SETTLE_DEAD
                            : item->status_out == PGQRS_RUN_CANCELLED ? PGQRS_SETTLE_CANCEL
                                                                      : hows[item->what];
    return (struct pgqrs_settlement){.how = how,
                                     .message_id = item->lease.message_id,
                                     .attempt = item->lease.attempt,
                                     .error = item->error,
                                     .settled_out = item->settled_out};
}

/* A person reads the error: of JSON, what it says. */
static void tell_who_waits(struct broker *b, struct worker *worker, const struct pgqrs_flow *item)
{
    if (worker->only_message == 0) {
        return;
    }
    struct pgqrs_settlement settlement = settlement_of(item);
    json_t *error = item->error.len == 0
                        ? NULL
                        : json_loadb(item->error.data, item->error.len, JSON_DECODE_ANY, NULL);
    const char *text =
        json_string_value(json_is_object(error) ? json_object_get(error, "message") : error);
    if (text != NULL) {
        settlement.error = pgqrs_bytes_from(text);
    }
    pgqrs_only_settled(b, worker, &settlement);
    json_decref(error); /* accepts null */
}

static void answer_end(struct broker *b, struct worker *worker, const struct entry *e)
{
    bool refused = e->ask.item.settled_out == PGQRS_SETTLED_REFUSED || e->ask.item.failed_out;
    if (e->ask.item.failed_out) {
        pgqrs_log_error("broker: message %lld: the end of its run: %s", (long long)e->ask.key.id,
                        e->ask.item.error_out == NULL ? "" : e->ask.item.error_out);
    }
    b->settled += refused ? 0 : 1;
    pgqrs_tally_settled(b, &(struct tally_outcome){.queue = worker->queue,
                                                   .number = e->number,
                                                   .message_id = e->ask.key.id,
                                                   .attempt = e->ask.key.attempt,
                                                   .how = settlement_of(&e->ask.item).how,
                                                   .settled = e->ask.item.failed_out
                                                                  ? PGQRS_SETTLED_REFUSED
                                                                  : e->ask.item.settled_out,
                                                   .unsure = e->unsure,
                                                   .times = e->ask.times});
    tell_who_waits(b, worker, &e->ask.item);
    if (worker->peer == NULL) {
        return;
    }
    struct pgqrs_buf out = {0};
    size_t start = pgqrs_job_list_begin(&out, PGQRS_MSG_JOB_SETTLED);
    pgqrs_encode_job_settled(
        &out,
        &(struct pgqrs_job_settled){
            .key = e->ask.key, .verdict = refused ? PGQRS_VERDICT_REFUSED : PGQRS_VERDICT_STORED});
    pgqrs_job_list_end(&out, start, 1);
    pgqrs_peer_send(worker->peer, &out);
    pgqrs_buf_fini(&out);
}

static bool may_make_ready(const struct entry *e)
{
    return !is_ask(e) || e->ask.what == PGQRS_ASK_EVENT || e->ask.item.follow_up_count > 0;
}

static void on_flows_done(void *arg, struct store_task *task)
{
    struct broker *b = arg;
    struct flows *f = b->flows;
    size_t left = 0;
    bool ready = false;
    f->under_way = false;
    if (task->rc == 0) {
        pgqrs_histogram_add(&b->page->flows, PGQRS_HISTOGRAM_SIZE, (int64_t)f->running.count);
    }
    expect_nobody(b);
    for (size_t i = 0; i < f->running.count; i++) {
        struct entry *e = &f->running.items[i];
        struct worker *worker = e->worker;
        if (!e->done) {
            e->unsure = e->unsure || (task->rc < 0 && task->err.code == PGQRS_ERR_UNKNOWN);
            f->running.items[left++] = *e;
            continue;
        }
        worker->unsettled--;
        worker->asks -= is_ask(e) ? 1 : 0;
        if (e->ask.what == PGQRS_ASK_OPEN && !e->refused) {
            worker->queue->workflow_id = f->workflow_ids[i];
        }
        if (!is_ask(e)) {
            answer_end(b, worker, e);
        } else if (worker->peer != NULL) {
            answer_ask(worker, e);
            note_answered(f, worker);
        }
        if (worker->held_back && worker->held_count == 0) {
            pgqrs_orders_look(b); /* one that was interrupted is suspended then */
        }
        ready = ready || may_make_ready(e);
        entry_fini(e);
    }
    f->running.count = left;
    if (ready) {
        pgqrs_commit_all_maybe_ready(b);
        pgqrs_clients_wake(b);
    }
    if (task->rc < 0) {
        pgqrs_commit_trouble(b, &task->err);
    } else {
        pgqrs_commit_success(b);
    }
    pgqrs_workers_bury(b);
    pgqrs_commit_wake(b);
    pgqrs_broker_try_stop(b);
}

static void note_sent(struct broker *b, struct entries *list)
{
    for (size_t i = 0; i < list->count; i++) {
        struct entry *e = &list->items[i];
        if (!is_ask(e)) {
            e->number = pgqrs_tally_send(b, e->ask.key.id, e->ask.key.attempt);
        }
    }
}

void pgqrs_flows_turn(struct broker *b)
{
    struct flows *f = b->flows;
    if (f->under_way) {
        return;
    }
    if (f->running.count == 0) {
        if (f->waiting.count > 0 && wait_for_more(f)) {
            return;
        }
        struct entries empty = f->running;
        f->running = f->waiting;
        f->waiting = empty;
        f->waiting.bytes = 0;
        note_sent(b, &f->running);
    }
    if (f->running.count == 0) {
        return;
    }
    int64_t *ids = reallocarray(f->workflow_ids, f->running.count, sizeof *ids);
    if (ids == NULL) {
        return; /* the next turn tries again */
    }
    f->workflow_ids = ids;
    for (size_t i = 0; i < f->running.count; i++) {
        ids[i] = f->running.items[i].worker->queue->workflow_id;
    }
    f->under_way = true;
    f->task.call = PGQRS_CALL_FLOW;
    f->task.run = run_flows;
    f->task.done = on_flows_done;
    pgqrs_store_thread_submit(b->store_thread, &f->task);
}

/* ---- start and end ---- */

int pgqrs_flows_start(struct broker *b, struct pgqrs_error *err)
{
    struct flows *f = calloc(1, sizeof *f);
    b->flows = f;
    if (f == NULL) {
        return pgqrs_error_memory(err);
    }
    f->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    f->timer = f->timer_fd < 0
                   ? NULL
                   : event_new(b->base, f->timer_fd, EV_READ | EV_PERSIST, on_gathered, b);
    if (f->timer == NULL || event_add(f->timer, NULL) < 0) {
        return pgqrs_error_set(err, PGQRS_ERR_FAILED, "no timer: %s", strerror(errno));
    }
    return 0;
}

static void entries_fini(struct entries *list)
{
    for (size_t i = 0; i < list->count; i++) {
        entry_fini(&list->items[i]);
    }
    free(list->items);
}

void pgqrs_flows_fini(struct broker *b)
{
    struct flows *f = b->flows;
    if (f == NULL) {
        return;
    }
    entries_fini(&f->waiting);
    entries_fini(&f->running);
    if (f->timer != NULL) {
        event_free(f->timer);
    }
    if (f->timer_fd >= 0) {
        (void)close(f->timer_fd);
    }
    free(f->workflow_ids);
    free(f);
    b->flows = NULL;
}
