/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the clock asks of the store: leases of live workers are renewed, leases of dead hosts freed,
 * dead messages buried, old ones pruned. Each chore has one task, and is left out while the last
 * one is not done.
 */
#include "broker/broker.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"

#define DEAD_MS 30000 /* a pgqrsd on another host that is silent for so long is dead */
#define KEEP_HOUSE_MS 20000
#define PRUNE_EVERY 3 /* rounds of housekeeping */
#define STEP_ROWS 500
#define STEPS_MAX 20 /* of each kind in a round */

struct refs {
    struct pgqrs_lease_ref *items;
    size_t count, cap;
};

struct chores {
    struct store_task renew, doze, unwatch, house;
    bool renewing, changing_doze, keeping_house;
    struct refs leases;
    int64_t lease_ms;
    bool want_doze;
    unsigned round;

    /* Of a round of housekeeping: copies, since the loop's own may change. */
    struct house_queue {
        int64_t id;
        uint32_t max_attempts;
        int64_t keep_ms[2];
        struct pgqrs_prune *prune;
        int64_t reaped, buried, pruned;
    } * queues;
    size_t queue_count;
    bool prune_now;
    int64_t foreign_stale_ms, reaped, reaped_foreign;
};

/* ---- renewing ---- */

static void run_renew(struct pgqrs_store *store, struct store_task *task)
{
    struct chores *c = (struct chores *)((char *)task - offsetof(struct chores, renew));
    task->rc =
        pgqrs_store_renew(store, c->leases.items, c->leases.count, c->lease_ms, NULL, &task->err);
}

static void on_renewed(void *arg, struct store_task *task)
{
    struct broker *b = arg;
    struct chores *c = b->chores;
    c->renewing = false;
    if (task->rc < 0) {
        pgqrs_log_debug("broker: %zu leases not renewed, trying again in %lld ms: %s",
                        c->leases.count, (long long)b->lease_ms / 3, task->err.text);
        pgqrs_commit_trouble(b, &task->err);
    } else if (task->rc < (int64_t)c->leases.count) {
        /* Outcomes that were stored meanwhile count here, too. */
        pgqrs_log_debug("broker: %lld of %zu leases were gone at renewal",
                        (long long)((int64_t)c->leases.count - task->rc), c->leases.count);
    }
}

static int add_ref(struct refs *refs, const struct pgqrs_lease_ref *ref)
{
    if (refs->count == refs->cap) {
        size_t cap = refs->cap == 0 ? 256 : refs->cap * 2;
        struct pgqrs_lease_ref *items = reallocarray(refs->items, cap, sizeof *items);
        if (items == NULL) {
            return -1; /* the rest in the next round */
        }
        refs->items = items;
        refs->cap = cap;
    }
    refs->items[refs->count++] = *ref;
    return 0;
}

/* Leases of jobs that are held for a while. Short jobs come and go between two rounds. */
static void on_renew(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    struct chores *c = b->chores;
    int64_t now = pgqrs_mono_ms();
    (void)fd;
    (void)what;
    if (c->renewing) {
        return;
    }
    c->leases.count = 0;
    struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        for (size_t i = 0; i < worker->held_count; i++) {
            struct held_job *job = &worker->held[i];
            const struct pgqrs_lease_ref ref = {.message_id = job->key.id,
                                                .worker_id = worker->row_id,
                                                .attempt = job->key.attempt};
            if (now - job->leased_ms >= b->lease_ms / 4 && add_ref(&c->leases, &ref) == 0) {
                job->leased_ms = now;
            }
        }
    }
    if (c->leases.count > 0) {
        c->renewing = true;
        c->lease_ms = b->lease_ms;
        pgqrs_store_thread_submit(b->store_thread, &c->renew);
    }
}

/* ---- asking to be woken ---- */

static void run_doze(struct pgqrs_store *store, struct store_task *task)
{
    struct chores *c = (struct chores *)((char *)task - offsetof(struct chores, doze));
    c->want_doze ? pgqrs_store_doze(store) : pgqrs_store_rouse(store);
}

static void on_dozed(void *arg, struct store_task *task)
{
    struct broker *b = arg;
    (void)task;
    b->chores->changing_doze = false;
    if (b->chores->want_doze != b->dozing) {
        pgqrs_chores_doze(b);
    }
}

void pgqrs_chores_doze(struct broker *b)
{
    struct chores *c = b->chores;
    if (!c->changing_doze) {
        c->changing_doze = true;
        c->want_doze = b->dozing;
        pgqrs_store_thread_submit(b->store_thread, &c->doze);
    }
}

/* ---- the end ---- */

static void run_unwatch(struct pgqrs_store *store, struct store_task *task)
{
    (void)task;
    pgqrs_store_unwatch(store);
}

static void on_unwatched(void *arg, struct store_task *task)
{
    (void)arg;
    (void)task;
}

void pgqrs_chores_unwatch(struct broker *b)
{
    pgqrs_store_thread_submit(b->store_thread, &b->chores->unwatch);
}

/* ---- housekeeping ---- */

static int64_t reap(struct pgqrs_store *store, int64_t queue_id, int64_t stale_ms, bool foreign,
                    struct pgqrs_error *err)
{
    const struct pgqrs_reap reap = {
        .queue_id = queue_id, .stale_ms = stale_ms, .foreign = foreign, .limit = STEP_ROWS};
    int64_t sum = 0;
    int64_t n = STEP_ROWS;
    for (int i = 0; i < STEPS_MAX && n == STEP_ROWS; i++) {
        n = pgqrs_store_reap(store, &reap, err);
        if (n < 0) {
            return -1;
        }
        sum += n;
    }
    return sum;
}

static int prune(struct pgqrs_store *store, struct house_queue *q, struct pgqrs_error *err)
{
    for (int kind = 0; kind < 2; kind++) {
        struct pgqrs_prune *p = &q->prune[kind];
        p->queue_id = q->id;
        p->what = kind == 0 ? PGQRS_PRUNE_ENDED : PGQRS_PRUNE_FAILED;
        p->age_ms = q->keep_ms[kind];
        p->limit = STEP_ROWS;
        int64_t n = q->keep_ms[kind] > 0 ? STEP_ROWS : 0;
        for (int i = 0; i < STEPS_MAX && n == STEP_ROWS; i++) {
            n = pgqrs_store_prune(store, p, err);
            if (n < 0) {
                return -1;
            }
            q->pruned += n;
        }
    }
    return 0;
}

/* By queue, to count them; then those of queues that we do not serve. */
static int reap_all(struct pgqrs_store *store, struct chores *c, bool foreign,
                    struct pgqrs_error *err)
{
    int64_t stale_ms = foreign ? c->foreign_stale_ms : DEAD_MS;
    int64_t sum = 0;
    for (size_t i = 0; i <= c->queue_count; i++) {
        struct house_queue *q = i < c->queue_count ? &c->queues[i] : NULL;
        int64_t n = reap(store, q == NULL ? 0 : q->id, stale_ms, foreign, err);
        if (n < 0) {
            return -1;
        }
        sum += n;
        if (q != NULL) {
            q->reaped += n;
        }
    }
    *(foreign ? &c->reaped_foreign : &c->reaped) = sum;
    return 0;
}

static int64_t keep_house(struct pgqrs_store *store, struct chores *c, struct pgqrs_error *err)
{
    c->reaped = c->reaped_foreign = 0;
    if (reap_all(store, c, false, err) < 0 ||
        (c->foreign_stale_ms > 0 && reap_all(store, c, true, err) < 0)) {
        return -1;
    }
    for (size_t i = 0; i < c->queue_count; i++) {
        struct house_queue *q = &c->queues[i];
        q->buried = pgqrs_store_bury(store, q->id, q->max_attempts, err);
        if (q->buried < 0 || (c->prune_now && prune(store, q, err) < 0)) {
            return -1;
        }
    }
    return 0;
}

static void run_house(struct pgqrs_store *store, struct store_task *task)
{
    struct chores *c = (struct chores *)((char *)task - offsetof(struct chores, house));
    task->rc = keep_house(store, c, &task->err);
}

static void on_house_kept(void *arg, struct store_task *task)
{
    struct broker *b = arg;
    struct chores *c = b->chores;
    c->keeping_house = false;
    pgqrs_log_debug("broker: housekeeping done");
    if (task->rc < 0) {
        pgqrs_log_debug("broker: housekeeping: %s", task->err.text);
        return; /* in the next round; what matters at once tells by itself */
    }
    if (c->reaped + c->reaped_foreign > 0) {
        pgqrs_log_warn("broker: %lld leases of dead workers freed, %lld of them of other clients",
                       (long long)(c->reaped + c->reaped_foreign), (long long)c->reaped_foreign);
        pgqrs_commit_all_maybe_ready(b);
        pgqrs_clients_wake(b);
    }
    for (size_t i = 0; i < c->queue_count; i++) {
        pgqrs_tally_freed(b, &b->queues[i], PGQRS_FREED_EXPIRED, c->queues[i].reaped);
        if (c->queues[i].buried > 0) {
            pgqrs_log_warn("broker: queue \"%s\": %lld messages had used up their attempts: dead "
                           "letters",
                           b->queues[i].settings.name, (long long)c->queues[i].buried);
        }
        if (c->queues[i].pruned > 0) {
            pgqrs_log_debug("broker: queue \"%s\": %lld old messages deleted",
                            b->queues[i].settings.name, (long long)c->queues[i].pruned);
        }
    }
}

static void on_keep_house(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    struct chores *c = b->chores;
    (void)fd;
    (void)what;
    if (c->keeping_house || b->draining || b->trouble_since_ms != 0) {
        return;
    }
    for (size_t i = 0; i < b->queue_count; i++) {
        const struct broker_queue *queue = &b->queues[i];
        c->queues[i] = (struct house_queue){
            .id = queue->id,
            .max_attempts = queue->settings.max_attempts,
            .keep_ms = {queue->settings.keep_done_ms, queue->settings.keep_failed_ms},
            .prune = b->queues[i].prune,
        };
    }
    c->queue_count = b->queue_count;
    c->foreign_stale_ms = b->foreign_stale_ms;
    c->prune_now = c->round++ % PRUNE_EVERY == 0;
    c->keeping_house = true;
    pgqrs_store_thread_submit(b->store_thread, &c->house);
}

/* ---- start and end ---- */

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

int pgqrs_chores_start(struct broker *b, struct pgqrs_error *err)
{
    struct chores *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return pgqrs_error_memory(err);
    }
    b->chores = c;
    c->queues = calloc(PGQRS_QUEUES_MAX, sizeof *c->queues);
    c->renew = (struct store_task){.call = PGQRS_CALL_RENEW, .run = run_renew, .done = on_renewed};
    c->doze = (struct store_task){.run = run_doze, .done = on_dozed};
    c->unwatch = (struct store_task){.run = run_unwatch, .done = on_unwatched};
    c->house = (struct store_task){
        .call = PGQRS_CALL_HOUSEKEEPING, .run = run_house, .done = on_house_kept};
    b->renew = every(b, b->lease_ms / 3, on_renew);
    b->housekeeping = every(b, KEEP_HOUSE_MS, on_keep_house);
    if (c->queues == NULL || b->renew == NULL || b->housekeeping == NULL) {
        return pgqrs_error_memory(err);
    }
    event_active(b->housekeeping, EV_TIMEOUT, 0); /* what lay there while nobody was here */
    return 0;
}

void pgqrs_chores_fini(struct broker *b)
{
    struct chores *c = b->chores;
    if (c != NULL) {
        free(c->leases.items);
        free(c->queues);
        free(c);
        b->chores = NULL;
    }
}
