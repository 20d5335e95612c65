/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Group commit. One exchange at a time is with the store's thread: it stores the outcomes that have
 * come since the last one and leases what the workers have credit for. Then, and only then, each
 * worker is told that its outcomes are stored. What comes meanwhile is the next exchange.
 */
#include "broker/broker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

#define BACKOFF_MIN_MS 20
#define BACKOFF_MAX_MS 1000
#define DUE_MIN_US 5000 /* clocks and roundings must not make a busy loop */

void pgqrs_commit_wake(struct broker *b)
{
    /* Runs in this turn of the loop, after the events that are active already. While the store
     * fails, only the retry timer tries again. */
    if (!b->commit.under_way && (b->trouble_since_ms == 0 || !evtimer_pending(b->retry, NULL))) {
        event_active(b->turn, EV_TIMEOUT, 0);
    }
}

void pgqrs_commit_all_maybe_ready(struct broker *b)
{
    for (size_t i = 0; i < b->queue_count; i++) {
        b->queues[i].maybe_ready = true;
    }
    pgqrs_commit_wake(b);
}

bool pgqrs_commit_idle(const struct broker *b)
{
    return !b->commit.under_way && b->commit.group.count == 0 && b->group.count == 0 &&
           pgqrs_flows_idle(b);
}

/* ---- credit out ---- */

static struct pgqrs_want *add_want(struct commit *c, struct worker *worker)
{
    if (c->want_count == c->want_cap) {
        size_t cap = c->want_cap == 0 ? 64 : c->want_cap * 2;
        struct pgqrs_want *wants = reallocarray(c->wants, cap, sizeof *wants);
        if (wants == NULL) {
            return NULL; /* fewer are leased this time */
        }
        c->wants = wants;
        struct worker **workers = reallocarray(c->want_workers, cap, sizeof(struct worker *));
        if (workers == NULL) {
            return NULL;
        }
        c->want_workers = workers;
        c->want_cap = cap;
    }
    c->want_workers[c->want_count] = worker;
    return &c->wants[c->want_count++];
}

/*
 * Wants for the workers of one queue. When there is plenty each asks for all its credit at once.
 * Otherwise they ask in rounds of 1, 2, 4, ... jobs each, so that a few jobs are spread over all
 * workers rather than given to the first.
 */
static void add_wants(struct broker *b, struct broker_queue *queue)
{
    bool more = true;
    for (uint32_t asked = 0, round = queue->plenty ? PGQRS_PREFETCH_MAX : 1; more;
         asked += round, round *= 2) {
        more = false;
        struct worker *worker;
        TAILQ_FOREACH(worker, &queue->workers, queue_link)
        {
            uint32_t credit = pgqrs_worker_credit(b, worker);
            struct pgqrs_want *want = credit > asked ? add_want(&b->commit, worker) : NULL;
            if (want == NULL) {
                continue;
            }
            *want = (struct pgqrs_want){
                .queue_id = queue->id,
                .worker_id = worker->row_id,
                .count = credit - asked < round ? credit - asked : round,
                .max_attempts = queue->settings.max_attempts,
                .lease_ms = b->lease_ms,
            };
            queue->wanted += want->count;
            more = more || credit > asked + round;
        }
    }
}

/* First what there is a reason to look for, then, when somebody may have enqueued, the rest. */
static void collect_wants(struct broker *b)
{
    struct commit *c = &b->commit;
    c->want_count = 0;
    for (size_t i = 0; i < b->queue_count; i++) {
        struct broker_queue *queue = &b->queues[i];
        queue->wanted = queue->leased = 0;
        if (queue->maybe_ready && !b->draining) {
            add_wants(b, queue);
        }
    }
    c->sure_count = c->want_count;
    for (size_t i = 0; i < b->queue_count; i++) {
        if (b->hinted && !b->queues[i].maybe_ready && !b->draining) {
            add_wants(b, &b->queues[i]);
        }
    }
}

/* ---- what is known, after a commit that ended in an unknown way ---- */

static void forget_known(struct commit *c)
{
    for (size_t i = 0; i < c->known_count; i++) {
        free(c->known[i].refs);
    }
    free(c->known);
    c->known = NULL;
    c->known_count = 0;
}

static void add_known_outcomes(const struct group *g, const struct worker *worker,
                               struct known_leases *known)
{
    for (size_t i = 0; i < g->count; i++) {
        if (g->notes[i].worker == worker) {
            known->refs[known->count++] =
                (struct pgqrs_lease_ref){.message_id = g->items[i].message_id,
                                         .worker_id = worker->row_id,
                                         .attempt = g->items[i].attempt};
        }
    }
}

static int know_worker(const struct broker *b, const struct worker *worker,
                       struct known_leases *known)
{
    known->row_id = worker->row_id;
    known->queue = worker->queue;
    known->refs = calloc(worker->held_count + worker->unsettled + 1, sizeof *known->refs);
    if (known->refs == NULL) {
        return -1;
    }
    for (size_t i = 0; i < worker->held_count; i++) {
        known->refs[known->count++] =
            (struct pgqrs_lease_ref){.message_id = worker->held[i].key.id,
                                     .worker_id = worker->row_id,
                                     .attempt = worker->held[i].key.attempt};
    }
    add_known_outcomes(&b->commit.group, worker, known);
    add_known_outcomes(&b->group, worker, known);
    pgqrs_flows_known(b, worker, known->refs, &known->count);
    return 0;
}

static int collect_known(struct broker *b)
{
    struct commit *c = &b->commit;
    size_t count = 0;
    const struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        count++;
    }
    forget_known(c);
    c->known = calloc(count + 1, sizeof *c->known);
    if (c->known == NULL) {
        return -1;
    }
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        /* No exchange leases for one that has its own message. */
        if (worker->peer != NULL && worker->only_message == 0 &&
            know_worker(b, worker, &c->known[c->known_count++]) < 0) {
            forget_known(c);
            return -1;
        }
    }
    return 0;
}

/* ---- results of the exchange ---- */

/* Another client may have it. */
static bool makes_ready(const struct pgqrs_settlement *item)
{
    return item->follow_up_count > 0 || item->how == PGQRS_SETTLE_RETRY ||
           item->how == PGQRS_SETTLE_SNOOZE || item->how == PGQRS_SETTLE_RETURN;
}

static void report_settled(struct broker *b, const struct group *g)
{
    bool ready = false;
    for (size_t i = 0; i < g->count; i++) {
        const struct pgqrs_settlement *item = &g->items[i];
        const struct group_note *note = &g->notes[i];
        struct worker *worker = note->worker;
        bool refused = item->settled_out == PGQRS_SETTLED_REFUSED;
        b->settled += refused ? 0 : 1;
        ready = ready || makes_ready(item);
        pgqrs_tally_settled(b, &(struct tally_outcome){.queue = worker->queue,
                                                       .number = g->sent + i,
                                                       .message_id = item->message_id,
                                                       .attempt = item->attempt,
                                                       .how = item->how,
                                                       .settled = item->settled_out,
                                                       .unsure = g->unsure,
                                                       .freed = note->freed,
                                                       .times = note->times});
        worker->unsettled--;
        pgqrs_only_settled(b, worker, item);
        if (worker->peer == NULL) {
            continue;
        }
        if (worker->settled_count == 0) {
            worker->settled_start = pgqrs_job_list_begin(&worker->settled, PGQRS_MSG_JOB_SETTLED);
        }
        worker->settled_count++;
        pgqrs_encode_job_settled(
            &worker->settled,
            &(struct pgqrs_job_settled){.key = {.id = item->message_id, .attempt = item->attempt},
                                        .verdict = refused ? PGQRS_VERDICT_REFUSED
                                                           : PGQRS_VERDICT_STORED});
        if (worker->settled.len - worker->settled_start > PGQRS_FRAME_TARGET) {
            pgqrs_job_list_end(&worker->settled, worker->settled_start, worker->settled_count);
            worker->settled_count = 0;
        }
    }
    if (ready) {
        pgqrs_clients_wake(b);
    }
}

static void take_lease(struct broker *b, struct worker *worker, const struct pgqrs_lease *lease)
{
    const struct pgqrs_job_key key = pgqrs_lease_key(lease);
    struct pgqrs_error err;
    worker->queue->leased++;
    if (lease->payload.len > PGQRS_PAYLOAD_MAX) {
        pgqrs_group_add_oversized(b, worker, key);
    } else if ((worker->gathered || pgqrs_worker_is_held_back(worker) || b->draining ||
                pgqrs_worker_hold(worker, lease) < 0) &&
               pgqrs_group_add_returned(b, worker, key, &err) < 0) {
        /* It has died meanwhile, or nothing more is begun, or there is no memory; and there is none
         * to give it back either: the end of its worker's row frees it. */
        pgqrs_log_error("broker: message %lld: %s", (long long)key.id, err.text);
    }
}

/* A queue whose wants were not all filled has nothing more for now, unless something has come
 * since. */
static void note_filled(struct broker *b)
{
    for (size_t i = 0; i < b->queue_count; i++) {
        struct broker_queue *queue = &b->queues[i];
        if (queue->wanted > 0) {
            queue->plenty = queue->leased == queue->wanted;
            queue->maybe_ready = queue->maybe_ready || queue->plenty;
        }
    }
}

/* The timer keeps the earliest of what several exchanges, of other queues, have told. */
static void arm_due(struct broker *b, const struct pgqrs_exchange *x)
{
    int64_t us = x->next_due_us - x->now_us;
    us = us < DUE_MIN_US ? DUE_MIN_US : us;
    int64_t at_us = pgqrs_mono_us() + us;
    if (x->next_due_us == 0 || us >= b->look_ms * 1000 ||
        (b->due_at_us != 0 && b->due_at_us <= at_us)) {
        return; /* nothing, or the poll or the timer comes before */
    }
    const struct timeval delay = {.tv_sec = us / 1000000, .tv_usec = us % 1000000};
    b->due_at_us = evtimer_add(b->due, &delay) == 0 ? at_us : 0; /* the poll is there if it fails */
}

static void distribute(struct broker *b)
{
    struct commit *c = &b->commit;
    size_t size = c->group.count + c->exchange.lease_count;
    if (size > 0) {
        pgqrs_histogram_add(&b->page->commits, PGQRS_HISTOGRAM_SIZE, (int64_t)size);
    }
    report_settled(b, &c->group);
    pgqrs_group_clear(&c->group);
    for (size_t i = 0; i < c->exchange.lease_count; i++) {
        const struct pgqrs_lease *lease = &c->exchange.leases[i];
        take_lease(b, c->want_workers[lease->want], lease);
    }
    struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        pgqrs_worker_send_reserve(worker);
        pgqrs_worker_flush(worker);
    }
    pgqrs_watch_reserve(b);
    note_filled(b);
    arm_due(b, &c->exchange);
}

/* ---- trouble ---- */

/* What this broker knows is about a database that is not there any more. */
static void start_anew(struct broker *b, const char *why)
{
    pgqrs_log_error("broker: %s; starting anew", why);
    b->exit_status = PGQRS_EXIT_FAILURE;
    (void)event_base_loopbreak(b->base);
}

void pgqrs_commit_trouble(struct broker *b, const struct pgqrs_error *err)
{
    if (err->sys_errno == ENOENT) {
        start_anew(b, err->text);
        return;
    }
    if (b->trouble_since_ms == 0) { /* a connection that was lost is made anew, and all is well */
        b->trouble_since_ms = pgqrs_mono_ms();
        b->backoff_ms = BACKOFF_MIN_MS;
        pgqrs_log_debug("broker: the store fails, trying again: %s", err->text);
    } else if (!b->trouble_told) {
        b->trouble_told = true;
        pgqrs_log_error("broker: the store fails, %zu outcomes wait, trying again until it works: "
                        "%s",
                        b->group.count + b->commit.group.count, err->text);
    }
    b->unsure = b->unsure || err->code == PGQRS_ERR_UNKNOWN;
    if (evtimer_pending(b->retry, NULL)) {
        return;
    }
    const struct timeval delay = {.tv_sec = b->backoff_ms / 1000,
                                  .tv_usec = b->backoff_ms % 1000 * 1000};
    (void)evtimer_add(b->retry, &delay); /* the poll is there if this fails */
    b->backoff_ms = b->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : b->backoff_ms * 2;
}

void pgqrs_commit_success(struct broker *b)
{
    if (b->trouble_since_ms != 0) {
        if (b->trouble_told) {
            pgqrs_log_info("broker: the store works again after %lld ms",
                           (long long)(pgqrs_mono_ms() - b->trouble_since_ms));
        }
        b->trouble_since_ms = 0;
        b->trouble_told = false;
        (void)evtimer_del(b->retry);
        pgqrs_hello_announced(b); /* hellos that have waited */
        pgqrs_commit_all_maybe_ready(b);
    }
    if (b->paused) {
        pgqrs_peers_pause(b, false);
    }
}

/* ---- on the store's thread ---- */

/* Whether the failure may lie in a row that was to be leased, rather than in the store. */
static bool may_be_a_row(const struct pgqrs_error *err)
{
    return err->code != PGQRS_ERR_AGAIN && err->code != PGQRS_ERR_UNKNOWN &&
           err->code != PGQRS_ERR_UNAVAILABLE;
}

static int64_t reconcile(struct pgqrs_store *store, struct commit *c)
{
    int64_t freed = 0;
    for (size_t i = 0; i < c->known_count; i++) {
        int64_t n = pgqrs_store_worker_reconcile(store, c->known[i].row_id, c->known[i].refs,
                                                 c->known[i].count, &c->task.err);
        if (n < 0) {
            return -1;
        }
        c->known[i].freed = n;
        freed += n;
    }
    if (freed > 0) {
        pgqrs_log_info("broker: %lld leases that never reached their workers are free again",
                       (long long)freed);
    }
    return 0;
}

static int64_t exchange(struct pgqrs_store *store, struct commit *c)
{
    struct pgqrs_exchange *x = &c->exchange;
    struct pgqrs_error ignored;
    x->settlements = c->group.items;
    x->settlement_count = c->group.count;
    x->wants = c->wants;
    x->want_count = c->want_count;
    int64_t rc = pgqrs_store_exchange(store, x, &c->task.err);
    if (rc < 0 && x->settlement_count > 0 && x->want_count > 0 && may_be_a_row(&c->task.err)) {
        x->want_count = 0; /* what is finished must not wait for it */
        c->settled_only = pgqrs_store_exchange(store, x, &ignored) == 0;
    }
    return rc;
}

/* After trouble, or when a row of ours is gone, the database may be another one: restored, or made
 * anew. Names and ids of queues do not change while the broker runs, so they may be read here. */
static bool is_another(struct pgqrs_store *store, const struct commit *c)
{
    for (size_t i = 0; i < c->check_count; i++) {
        struct pgqrs_error err = {0};
        int64_t id = 0;
        int rc = pgqrs_store_queue_find(store, c->check[i].settings.name, &id, &err);
        if ((rc == 0 && id != c->check[i].id) || err.code == PGQRS_ERR_NOT_FOUND ||
            err.code == PGQRS_ERR_SCHEMA) {
            return true;
        }
        if (rc < 0) {
            return false; /* it still does not answer */
        }
    }
    return false;
}

static int64_t probe(struct pgqrs_store *store, struct commit *c)
{
    int64_t id;
    int64_t rc = c->probe_id != 0 ? pgqrs_store_worker_beat(store, &c->probe_id, 1, &c->task.err)
                                  : pgqrs_store_queue_find(store, "", &id, &c->task.err);
    return rc < 0 && c->task.err.code == PGQRS_ERR_NOT_FOUND ? 0 : rc;
}

static void run_commit(struct pgqrs_store *store, struct store_task *task)
{
    struct commit *c = (struct commit *)task; /* its first member */
    c->exchange.lease_count = 0;
    c->exchange.next_due_us = 0;
    c->settled_only = c->woken = c->reconciled = false;
    task->rc = 0;
    c->another = c->check != NULL && is_another(store, c);
    if (c->another) {
        return;
    }
    task->rc = c->known != NULL ? reconcile(store, c) : 0;
    if (task->rc < 0) {
        return;
    }
    c->reconciled = true;
    c->woken = c->hint && pgqrs_store_woken(store);
    if (c->hint && !c->woken) {
        c->want_count = c->sure_count;
    }
    task->rc = c->probe ? probe(store, c) : 0;
    if (task->rc == 0 && (c->group.count > 0 || c->want_count > 0)) {
        task->rc = exchange(store, c);
    }
}
_Static_assert(offsetof(struct commit, task) == 0, "run_commit takes one for the other");

/* ---- in the loop ---- */

/* Somebody waits, or has credit that nothing answers: whoever enqueues should say so. */
void pgqrs_commit_doze(struct broker *b)
{
    bool waits = !TAILQ_EMPTY(&b->watches);
    for (size_t i = 0; i < b->queue_count; i++) {
        waits = waits || !b->queues[i].plenty;
    }
    waits = waits && !b->draining;
    if (waits != b->dozing) {
        b->dozing = waits;
        pgqrs_chores_doze(b);
    }
}

/* What was known is reconciled, unless that failed: then it is collected again. */
static void count_reconciled(struct broker *b)
{
    struct commit *c = &b->commit;
    for (size_t i = 0; i < c->known_count; i++) {
        pgqrs_tally_freed(b, c->known[i].queue, PGQRS_FREED_UNDELIVERED, c->known[i].freed);
        c->known[i].freed = 0;
    }
    if (c->reconciled) {
        forget_known(c);
    }
}

static void on_commit_done(void *arg, struct store_task *task)
{
    struct broker *b = arg;
    struct commit *c = &b->commit;
    int64_t took = pgqrs_mono_us() - c->began_us;
    count_reconciled(b);
    bool wrote = c->group.count > 0 || c->exchange.lease_count > 0 || c->probe;
    c->under_way = false;
    if (c->another) {
        start_anew(b, "found another database behind the store's address, expected the one it was "
                      "started on");
        return;
    }
    if (c->hint && b->wake != NULL) {
        (void)event_add(b->wake, NULL); /* the poll is there if it fails */
    }
    if (c->hint && task->rc == 0) {
        pgqrs_tally_wakeup(b, c->woken ? PGQRS_WAKEUP_CHANGED : PGQRS_WAKEUP_FALSE);
    }
    if (c->woken) {
        pgqrs_clients_wake(b);
        pgqrs_orders_look(b);
        pgqrs_schedules_wake(b);
    }
    if (task->rc == 0 || c->settled_only) {
        c->took_us = c->took_us == 0 ? took : (3 * c->took_us + took) / 4;
        distribute(b);
    }
    if (task->rc < 0) {
        c->group.unsure =
            c->group.unsure || (c->group.count > 0 && task->err.code == PGQRS_ERR_UNKNOWN);
        pgqrs_commit_trouble(b, &task->err);
    } else if (wrote || b->trouble_since_ms == 0) {
        pgqrs_commit_success(b);
        pgqrs_commit_doze(b);
    }
    pgqrs_workers_bury(b);
    pgqrs_commit_wake(b);
    pgqrs_broker_try_stop(b);
}

/* Takes over what has collected, unless an earlier group is still to be stored. */
static void take_group(struct broker *b)
{
    if (b->commit.group.count == 0) {
        struct group empty = b->commit.group;
        b->commit.group = b->group;
        b->group = empty;
    }
}

/* With no outcome to store, what failed is tried again: workers that wait to be registered, or to
 * be closed. That another program reads does not keep us from reading, but from writing: to find
 * nothing to lease proves nothing. */
static bool try_again(struct broker *b)
{
    b->trying = true;
    pgqrs_workers_bury(b);
    pgqrs_hello_announced(b);
    b->trying = false;
    return pgqrs_workers_pending(b);
}

static int64_t some_row(const struct broker *b)
{
    const struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        if (worker->peer != NULL) {
            return worker->row_id;
        }
    }
    return 0;
}

/* A group that failed is known already. */
static void note_sent(struct broker *b, struct group *g)
{
    for (size_t i = 0; i < g->count && !g->noted; i++) {
        uint64_t number = pgqrs_tally_send(b, g->items[i].message_id, g->items[i].attempt);
        g->sent = i == 0 ? number : g->sent;
    }
    g->noted = g->count > 0;
}

void on_commit_turn(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    struct commit *c = &b->commit;
    (void)fd;
    (void)what;
    if (b->trouble_since_ms != 0 && evtimer_pending(b->retry, NULL)) {
        return;
    }
    pgqrs_flows_turn(b);
    if (c->under_way) {
        return;
    }
    take_group(b);
    c->probe = b->trouble_since_ms != 0 && c->group.count == 0;
    if (c->probe && try_again(b)) {
        return; /* those tell how it went */
    }
    collect_wants(b);
    if (b->unsure && collect_known(b) == 0) {
        b->unsure = false;
    }
    c->hint = b->hinted;
    c->check = b->trouble_since_ms != 0 || b->strange ? b->queues : NULL;
    c->check_count = b->queue_count;
    c->probe_id = c->probe ? some_row(b) : 0;
    if (c->group.count == 0 && c->want_count == 0 && c->known == NULL && !c->hint && !c->probe &&
        c->check == NULL) {
        pgqrs_workers_bury(b);
        pgqrs_broker_try_stop(b);
        return;
    }
    for (size_t i = 0; i < b->queue_count; i++) { /* what comes from here on is not in it */
        b->queues[i].maybe_ready = b->queues[i].maybe_ready && b->queues[i].wanted == 0;
    }
    b->hinted = b->strange = false;
    c->under_way = true;
    c->began_us = pgqrs_mono_us();
    note_sent(b, &c->group);
    c->task.call = PGQRS_CALL_EXCHANGE;
    c->task.run = run_commit;
    c->task.done = on_commit_done;
    pgqrs_store_thread_submit(b->store_thread, &c->task);
}

void on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    (void)fd;
    (void)what;
    (void)event_del(b->wake); /* it stays readable until the store has looked */
    b->hinted = true;
    pgqrs_commit_wake(b);
}

void pgqrs_commit_fini(struct broker *b)
{
    struct commit *c = &b->commit;
    forget_known(c);
    pgqrs_group_fini(&b->group);
    pgqrs_group_fini(&c->group);
    free(c->wants);
    free(c->want_workers);
    pgqrs_exchange_fini(&c->exchange);
}
