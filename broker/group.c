/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Group commit. Outcomes collect while the loop reads its connections; at the end of the turn one
 * exchange stores them all and leases what the workers have credit for. Then, and only then, each
 * worker is told that its outcomes are stored. While the store can not commit, the group waits and
 * the connections are not read once it is large.
 */
#include "broker/broker.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "broker/retry_policy.h"

#define GROUP_BYTES_MAX (64u * 1024 * 1024) /* of outcomes that wait, before reading stops */
#define IDLE_LOOKS_MAX 8
#define GATHER_MAX_US 200
#define SNOOZE_DEFAULT_MS 1000
#define BACKOFF_MIN_MS 20
#define BACKOFF_MAX_MS 1000
#define DUE_MIN_US 5000 /* clocks and roundings must not make a busy loop */

struct owned_frame {
    struct owned_frame *next;
    struct pgqrs_follow_up *follow_ups; /* of one settlement, or null */
    void *data;
};

void pgqrs_group_wake(struct broker *b)
{
    /* Runs in this turn of the loop, after the events that are active already. While the store
     * fails, only the retry timer tries again. */
    if (b->trouble_since_ms == 0 || !evtimer_pending(b->retry, NULL)) {
        event_active(b->turn, EV_TIMEOUT, 0);
    }
}

void pgqrs_group_all_maybe_ready(struct broker *b)
{
    for (size_t i = 0; i < b->queue_count; i++) {
        b->queues[i].maybe_ready = true;
    }
    pgqrs_group_wake(b);
}

/* ---- outcomes in ---- */

static struct pgqrs_settlement *add_item(struct broker *b, struct worker *worker)
{
    struct group *g = &b->group;
    if (g->count == g->cap) {
        size_t cap = g->cap == 0 ? 256 : g->cap * 2;
        struct pgqrs_settlement *items = reallocarray(g->items, cap, sizeof *items);
        if (items == NULL) {
            return NULL;
        }
        g->items = items;
        struct worker **workers = reallocarray(g->workers, cap, sizeof(struct worker *));
        if (workers == NULL) {
            return NULL;
        }
        g->workers = workers;
        g->cap = cap;
    }
    g->workers[g->count] = worker;
    struct pgqrs_settlement *item = &g->items[g->count++];
    *item = (struct pgqrs_settlement){.worker_id = worker->row_id};
    return item;
}

/* Keeps what the settlements of a group borrow from until they are stored. Takes both, always. */
static int keep(struct group *g, void *data, struct pgqrs_follow_up *follow_ups, size_t bytes)
{
    struct owned_frame *frame = malloc(sizeof *frame);
    if (frame == NULL) {
        free(data);
        free(follow_ups);
        return -1;
    }
    *frame = (struct owned_frame){.next = g->frames, .data = data, .follow_ups = follow_ups};
    g->frames = frame;
    g->bytes += bytes;
    return 0;
}

/* Retry, or dead letter when the attempts are used up. */
static void fail(struct broker *b, const struct broker_queue *queue, struct pgqrs_settlement *item,
                 int64_t delay_ms)
{
    if (item->attempt >= queue->settings.max_attempts) {
        item->how = PGQRS_SETTLE_DEAD;
        return;
    }
    /* A linear congruential step is random enough to spread retries. */
    b->random = b->random * 1664525u + 1013904223u;
    item->how = PGQRS_SETTLE_RETRY;
    item->delay_ms = delay_ms >= 0
                         ? delay_ms
                         : pgqrs_retry_delay_ms(&queue->settings, item->attempt, b->random >> 8);
}

static void decide(struct broker *b, const struct broker_queue *queue,
                   const struct pgqrs_job_result *result, struct pgqrs_settlement *item)
{
    switch (result->outcome) {
    case PGQRS_JOB_DONE:
        item->how = queue->settings.delete_done != 0 ? PGQRS_SETTLE_DELETE : PGQRS_SETTLE_ARCHIVE;
        break;
    case PGQRS_JOB_RETRY:
        fail(b, queue, item, result->delay_ms);
        break;
    case PGQRS_JOB_FAIL:
        item->how = PGQRS_SETTLE_DEAD;
        break;
    case PGQRS_JOB_SNOOZE:
        item->how = PGQRS_SETTLE_SNOOZE;
        item->delay_ms = result->delay_ms >= 0 ? result->delay_ms : SNOOZE_DEFAULT_MS;
        break;
    case PGQRS_JOB_CANCELLED: /* by a shutdown: interrupted is not failed */
        b->exit_status = PGQRS_EXIT_RETURNED;
        item->how = PGQRS_SETTLE_RETURN;
        break;
    case PGQRS_JOB_RETURNED:
        item->how = PGQRS_SETTLE_RETURN;
        break;
    case PGQRS_JOB_OUTCOME_COUNT:
        break; /* the decoder lets none through */
    }
}

/* An outcome that makes messages visible again, now or later, or adds some, is a reason to lease
 * with it: what is not due yet tells when it will be. */
static void note_ready(struct broker *b, struct broker_queue *queue,
                       const struct pgqrs_settlement *item)
{
    if (item->follow_up_count > 0) {
        pgqrs_group_all_maybe_ready(b);
    } else if (item->how == PGQRS_SETTLE_RETRY || item->how == PGQRS_SETTLE_SNOOZE ||
               item->how == PGQRS_SETTLE_RETURN) {
        queue->maybe_ready = true;
    }
}

static int take_follow_ups(struct group *g, const struct pgqrs_job_result *result,
                           struct pgqrs_settlement *item)
{
    if (result->enqueue_count == 0) {
        return 0;
    }
    struct pgqrs_follow_up *follow_ups = calloc(result->enqueue_count, sizeof *follow_ups);
    if (follow_ups == NULL || keep(g, NULL, follow_ups, 0) < 0) {
        return -1;
    }
    for (size_t i = 0; i < result->enqueue_count; i++) {
        const struct pgqrs_job_enqueue *e = &result->enqueues[i];
        follow_ups[i] = (struct pgqrs_follow_up){
            .queue = e->queue,
            .item = {.payload = e->payload, .delay_ms = e->delay_ms, .priority = e->priority}};
    }
    item->follow_ups = follow_ups;
    item->follow_up_count = result->enqueue_count;
    return 0;
}

static int add_result(struct broker *b, struct worker *worker,
                      const struct pgqrs_job_result *result, struct pgqrs_error *err)
{
    struct pgqrs_settlement *item = add_item(b, worker);
    if (item == NULL) {
        return pgqrs_error_memory(err);
    }
    item->message_id = result->key.id;
    item->attempt = result->key.attempt;
    item->error = result->error;
    item->result = result->result;
    decide(b, worker->queue, result, item);
    if (take_follow_ups(&b->group, result, item) < 0) {
        b->group.count--;
        return pgqrs_error_memory(err);
    }
    note_ready(b, worker->queue, item);
    (void)pgqrs_worker_unhold(worker, result->key); /* sent again after a reconnect: not held */
    return 0;
}

int pgqrs_group_add_results(struct broker *b, struct worker *worker, void *data,
                            const struct pgqrs_frame *frame, struct pgqrs_error *err)
{
    struct pgqrs_frame body = *frame;
    if (keep(&b->group, data, NULL, frame->len) < 0) {
        return pgqrs_error_memory(err);
    }
    struct pgqrs_job_list list = pgqrs_job_list_of(&body);
    struct pgqrs_job_result result;
    int got;
    while ((got = pgqrs_next_job_result(&list, &result, err)) > 0) {
        int added = add_result(b, worker, &result, err);
        pgqrs_job_result_fini(&result);
        if (added < 0) {
            return -1;
        }
    }
    if (b->group.bytes > GROUP_BYTES_MAX) {
        pgqrs_peers_pause(b, true);
    }
    pgqrs_group_wake(b);
    return got;
}

int pgqrs_group_add_abandoned(struct broker *b, struct worker *worker, struct pgqrs_job_key key,
                              bool crashed, const char *text, struct pgqrs_error *err)
{
    struct pgqrs_settlement *item = add_item(b, worker);
    if (item == NULL) {
        return pgqrs_error_memory(err);
    }
    item->message_id = key.id;
    item->attempt = key.attempt;
    item->how = PGQRS_SETTLE_RETURN;
    if (crashed) {
        item->crashed = true;
        item->error = pgqrs_bytes_from(text);
        fail(b, worker->queue, item, 0);
    }
    note_ready(b, worker->queue, item);
    return 0;
}

void pgqrs_group_forget_worker(struct broker *b, const struct worker *worker)
{
    for (size_t i = 0; i < b->group.count; i++) {
        if (b->group.workers[i] == worker) {
            b->group.workers[i] = NULL;
        }
    }
}

static void clear_group(struct group *g)
{
    while (g->frames != NULL) {
        struct owned_frame *frame = g->frames;
        g->frames = frame->next;
        free(frame->follow_ups);
        free(frame->data);
        free(frame);
    }
    g->count = 0;
    g->bytes = 0;
}

/* ---- credit out ---- */

static struct pgqrs_want *add_want(struct broker *b, struct worker *worker, size_t *count)
{
    if (*count == b->want_cap) {
        size_t cap = b->want_cap == 0 ? 64 : b->want_cap * 2;
        struct pgqrs_want *wants = reallocarray(b->wants, cap, sizeof *wants);
        if (wants == NULL) {
            return NULL; /* fewer are leased this time */
        }
        b->wants = wants;
        struct worker **workers = reallocarray(b->want_workers, cap, sizeof(struct worker *));
        if (workers == NULL) {
            return NULL;
        }
        b->want_workers = workers;
        b->want_cap = cap;
    }
    b->want_workers[*count] = worker;
    return &b->wants[(*count)++];
}

/*
 * Wants for the workers of one queue. When there is plenty each asks for all its credit at once.
 * Otherwise they ask in rounds of 1, 2, 4, ... jobs each, so that a few jobs are spread over all
 * workers rather than given to the first.
 */
static void add_wants(struct broker *b, struct broker_queue *queue, size_t *count)
{
    bool more = true;
    for (uint32_t asked = 0, round = queue->plenty ? PGQRS_PREFETCH_MAX : 1; more;
         asked += round, round *= 2) {
        more = false;
        struct worker *worker;
        TAILQ_FOREACH(worker, &queue->workers, queue_link)
        {
            uint32_t credit = pgqrs_worker_credit(worker);
            struct pgqrs_want *want = credit > asked ? add_want(b, worker, count) : NULL;
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

static size_t collect_wants(struct broker *b)
{
    size_t count = 0;
    for (size_t i = 0; i < b->queue_count; i++) {
        struct broker_queue *queue = &b->queues[i];
        queue->wanted = queue->leased = 0;
        if (queue->maybe_ready && !b->draining) {
            add_wants(b, queue, &count);
        }
    }
    return count;
}

/* ---- results of the exchange ---- */

static void end_settled(struct worker *worker)
{
    if (worker->settled_count > 0) {
        pgqrs_job_list_end(&worker->settled, worker->settled_start, worker->settled_count);
        worker->settled_count = 0;
    }
}

static void end_leases(struct worker *worker)
{
    if (worker->leases_count > 0) {
        pgqrs_job_list_end(&worker->leases, worker->leases_start, worker->leases_count);
        worker->leases_count = 0;
    }
}

static void report_settled(struct broker *b)
{
    for (size_t i = 0; i < b->group.count; i++) {
        const struct pgqrs_settlement *item = &b->group.items[i];
        struct worker *worker = b->group.workers[i];
        bool refused = item->settled_out == PGQRS_SETTLED_REFUSED;
        b->settled += refused ? 0 : 1;
        if (worker == NULL || worker->peer == NULL) {
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
            end_settled(worker);
        }
    }
}

static void hand_out(struct worker *worker, const struct pgqrs_lease *lease)
{
    pgqrs_worker_hold(worker,
                      (struct pgqrs_job_key){.id = lease->message_id, .attempt = lease->attempt});
    if (worker->leases_count == 0) {
        worker->leases_start = pgqrs_job_list_begin(&worker->leases, PGQRS_MSG_JOB_LEASES);
    }
    worker->leases_count++;
    pgqrs_encode_job_lease(&worker->leases, &(struct pgqrs_job_lease){
                                                .id = lease->message_id,
                                                .attempt = lease->attempt,
                                                .priority = lease->priority,
                                                .enqueued_at_us = lease->enqueued_at_us,
                                                .payload = lease->payload,
                                            });
    if (worker->leases.len - worker->leases_start > PGQRS_FRAME_TARGET) {
        end_leases(worker);
    }
}

/* A queue whose wants were not all filled has nothing more for now. */
static void note_filled(struct broker *b)
{
    for (size_t i = 0; i < b->queue_count; i++) {
        struct broker_queue *queue = &b->queues[i];
        if (queue->wanted > 0) {
            queue->plenty = queue->leased == queue->wanted;
            queue->maybe_ready = queue->plenty;
        }
    }
}

/* The timer keeps the earliest of what several exchanges, of other queues, have told. */
static void arm_due(struct broker *b, int64_t next_due_us)
{
    int64_t us = next_due_us - pgqrs_wall_us();
    us = us < DUE_MIN_US ? DUE_MIN_US : us;
    int64_t at_us = pgqrs_mono_us() + us;
    if (next_due_us == 0 || us >= b->poll_ms * 1000 ||
        (b->due_at_us != 0 && b->due_at_us <= at_us)) {
        return; /* nothing, or the poll or the timer comes before */
    }
    const struct timeval delay = {.tv_sec = us / 1000000, .tv_usec = us % 1000000};
    b->due_at_us = evtimer_add(b->due, &delay) == 0 ? at_us : 0; /* the poll is there if it fails */
}

static void flush_workers(struct broker *b)
{
    struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        end_settled(worker);
        end_leases(worker);
        if (worker->peer != NULL && worker->settled.len > 0) {
            pgqrs_peer_send(worker->peer, &worker->settled);
        }
        if (worker->peer != NULL && worker->leases.len > 0) {
            pgqrs_peer_send(worker->peer, &worker->leases);
        }
        pgqrs_buf_clear(&worker->settled);
        pgqrs_buf_clear(&worker->leases);
    }
}

/* A message that can not be put on the wire, whoever enqueued it, is a dead letter. */
static void bury_oversized(struct broker *b, struct worker *worker, const struct pgqrs_lease *lease)
{
    struct pgqrs_settlement *item = add_item(b, worker);
    if (item != NULL) { /* else its worker keeps the lease until it ends */
        item->message_id = lease->message_id;
        item->attempt = lease->attempt;
        item->how = PGQRS_SETTLE_DEAD;
        item->error = pgqrs_bytes_from("the payload is over 4 MiB, which no worker is given");
        pgqrs_group_wake(b);
    }
}

static void distribute(struct broker *b)
{
    const struct pgqrs_exchange *x = &b->exchange;
    report_settled(b);
    clear_group(&b->group);
    for (size_t i = 0; i < x->lease_count; i++) {
        const struct pgqrs_lease *lease = &x->leases[i];
        struct worker *worker = b->want_workers[lease->want];
        worker->queue->leased++;
        if (lease->payload.len > PGQRS_PAYLOAD_MAX) {
            bury_oversized(b, worker, lease);
        } else {
            hand_out(worker, lease);
        }
    }
    note_filled(b);
    flush_workers(b);
    arm_due(b, x->next_due_us);
}
_Static_assert(PGQRS_PAYLOAD_MAX == 4 * 1024 * 1024, "the text of bury_oversized says so");

/* ---- the turn ---- */

void pgqrs_group_trouble(struct broker *b, const struct pgqrs_error *err)
{
    if (b->trouble_since_ms == 0) {
        b->trouble_since_ms = pgqrs_mono_ms();
        b->backoff_ms = BACKOFF_MIN_MS;
        pgqrs_log_error("broker: the store fails, %zu outcomes wait, trying again until it works: "
                        "%s",
                        b->group.count, err->text);
    }
    const struct timeval delay = {.tv_sec = b->backoff_ms / 1000,
                                  .tv_usec = b->backoff_ms % 1000 * 1000};
    b->unsure = b->unsure || err->code == PGQRS_ERR_UNKNOWN;
    (void)evtimer_add(b->retry, &delay); /* the poll is there if this fails */
    b->backoff_ms = b->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : b->backoff_ms * 2;
}

static void on_success(struct broker *b)
{
    if (b->trouble_since_ms != 0) {
        pgqrs_log_info("broker: the store works again after %lld ms",
                       (long long)(pgqrs_mono_ms() - b->trouble_since_ms));
        b->trouble_since_ms = 0;
        (void)evtimer_del(b->retry);
        pgqrs_peers_pause(b, false);
        pgqrs_peers_announced(b); /* hellos that have waited */
        pgqrs_group_all_maybe_ready(b);
    }
}

static int exchange(struct broker *b, size_t want_count, struct pgqrs_error *err)
{
    struct pgqrs_exchange *x = &b->exchange;
    bool paused = b->group.bytes > GROUP_BYTES_MAX;
    x->settlements = b->group.items;
    x->settlement_count = b->group.count;
    x->wants = b->wants;
    x->want_count = want_count;
    if (pgqrs_store_exchange(b->store, x, err) < 0) {
        return -1;
    }
    distribute(b);
    if (paused) {
        pgqrs_peers_pause(b, false);
    }
    return 0;
}

/* Whether the failure may lie in a row that was to be leased, rather than in the store. */
static bool may_be_a_row(const struct pgqrs_error *err)
{
    return err->code != PGQRS_ERR_AGAIN && err->code != PGQRS_ERR_UNKNOWN &&
           err->code != PGQRS_ERR_UNAVAILABLE;
}

static int settle_and_lease(struct broker *b, struct pgqrs_error *err)
{
    size_t want_count = collect_wants(b);
    if (b->unsure) {
        if (pgqrs_workers_reconcile(b, err) < 0) {
            return -1;
        }
        b->unsure = false;
    }
    if (b->group.count == 0 && want_count == 0) {
        return 0;
    }
    int rc = exchange(b, want_count, err);
    struct pgqrs_error ignored;
    if (rc < 0 && b->group.count > 0 && want_count > 0 && may_be_a_row(err)) {
        (void)exchange(b, 0, &ignored); /* what is finished must not wait for it */
    }
    return rc;
}

static bool somebody_runs(const struct broker *b)
{
    const struct worker *worker;
    TAILQ_FOREACH(worker, &b->workers, link)
    {
        if (worker->held_count > 0) {
            return true;
        }
    }
    return false;
}

/*
 * Outcomes of short jobs come in a stream, one a few microseconds after the other, and a commit
 * takes a hundred times that. As long as every few looks at the sockets bring another one it pays
 * to look again. Nobody waits for a job that is not just about to finish.
 */
static bool more_is_coming(struct broker *b)
{
    static const struct timeval at_once = {0};
    struct group *g = &b->group;
    int64_t now = pgqrs_mono_us();
    g->since_us = g->since_us == 0 ? now : g->since_us;
    g->idle_looks = g->count > g->seen ? 0 : g->idle_looks + 1;
    g->seen = g->count;
    bool wait = g->count > 0 && g->idle_looks < IDLE_LOOKS_MAX &&
                now - g->since_us < GATHER_MAX_US && b->trouble_since_ms == 0 && somebody_runs(b) &&
                evtimer_add(b->turn, &at_once) == 0;
    if (!wait) {
        g->seen = 0;
        g->idle_looks = 0;
        g->since_us = 0;
    }
    return wait;
}

void on_group_turn(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    struct pgqrs_error err;
    (void)fd;
    (void)what;
    if (more_is_coming(b)) {
        return;
    }
    if (settle_and_lease(b, &err) < 0 || pgqrs_workers_bury(b, &err) < 0) {
        pgqrs_group_trouble(b, &err);
    } else {
        on_success(b);
    }
}

void pgqrs_group_fini(struct broker *b)
{
    clear_group(&b->group);
    free(b->group.items);
    free(b->group.workers);
    free(b->wants);
    free(b->want_workers);
    pgqrs_exchange_fini(&b->exchange);
}
