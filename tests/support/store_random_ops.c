/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_random.h"

#include <stdio.h>

/* Each operation is put together in the model's ids, made on both, and what comes back compared. */

#define UNKNOWN_ID 7777777

typedef void (*step_fn)(struct random_run *r);

static const char *const keys[] = {"k1", "k2", "k3", "k4"};
static const char *const queue_names[] = {"q0", "q1", "q2", "nowhere"};
static const char *const errors[] = {"", "it hurt", "it hurt again", "ünï"};

static bool one_in(struct random_run *r, uint32_t n)
{
    return random_below(r, n) == 0;
}

static int64_t pick_queue(struct random_run *r)
{
    const struct model *m = model_of(r->model);
    if (m->queue_count == 0 || one_in(r, 60)) {
        return UNKNOWN_ID;
    }
    return m->queues[random_below(r, (uint32_t)m->queue_count)].id;
}

static int64_t pick_worker(struct random_run *r)
{
    const struct model *m = model_of(r->model);
    if (m->worker_count == 0 || one_in(r, 60)) {
        return UNKNOWN_ID;
    }
    return m->workers[random_below(r, (uint32_t)m->worker_count)].id;
}

static int64_t pick_message(struct random_run *r)
{
    const struct model *m = model_of(r->model);
    if (m->message_count == 0 || one_in(r, 40)) {
        return m->last_message > 0 ? 1 + random_below(r, (uint32_t)m->last_message) : UNKNOWN_ID;
    }
    return m->messages[random_below(r, (uint32_t)m->message_count)].row.id;
}

static int64_t pick_delay(struct random_run *r)
{
    return one_in(r, 30) ? INT64_MAX : one_in(r, 2) ? 0 : (int64_t)random_below(r, 5000);
}

/* ---- putting in ---- */

static void random_item(struct random_run *r, struct pgqrs_enqueue *item)
{
    *item = (struct pgqrs_enqueue){.payload = pgqrs_bytes_from(one_in(r, 2) ? "{\"a\": 1}" : "7")};
    item->priority = one_in(r, 2) ? 0 : (int32_t)random_below(r, 5) - 2;
    if (one_in(r, 6)) {
        item->at_us = r->now_us + (int64_t)random_below(r, 6000000) - 3000000;
    } else {
        item->delay_ms = pick_delay(r);
    }
    if (one_in(r, 3)) {
        item->unique_key = keys[random_below(r, 4)];
    }
    random_say(r, " [priority %d delay %lld at %+lld key %s]", item->priority,
               (long long)item->delay_ms,
               (long long)(item->at_us == 0 ? 0 : item->at_us - r->now_us),
               item->unique_key == NULL ? "-" : item->unique_key);
}

static void step_enqueue(struct random_run *r)
{
    enum { MOST = 4 };
    struct pgqrs_enqueue items[MOST];
    int64_t expected[MOST];
    int64_t ids[MOST];
    bool existed[MOST];
    bool should[MOST];
    struct pgqrs_error model_err;
    struct pgqrs_error err;
    size_t count = 1 + random_below(r, MOST);
    int64_t queue = pick_queue(r);
    int64_t producer = one_in(r, 6) ? pick_worker(r) : 0;
    producer = producer == UNKNOWN_ID ? 0 : producer;
    random_say(r, "enqueue queue %lld producer %lld", (long long)queue, (long long)producer);
    for (size_t i = 0; i < count; i++) {
        random_item(r, &items[i]);
        items[i].producer_worker_id = producer;
    }
    int model_rc = pgqrs_store_enqueue(r->model, queue, items, count, expected, should, &model_err);
    for (size_t i = 0; i < count; i++) {
        items[i].producer_worker_id = random_real(&r->workers, producer);
    }
    int rc = pgqrs_store_enqueue(r->store, random_real(&r->queues, queue), items, count, ids,
                                 existed, &err);
    if (!random_same_rc(r, model_rc, &model_err, rc, &err)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        random_say(r, " -> %lld", (long long)expected[i]);
        random_pair(r, &r->messages, "message", expected[i], ids[i]);
        if (existed[i] != should[i]) {
            random_wrong(r, "existed_out[%zu] is %d", i, existed[i]);
        }
    }
}

/* ---- the exchange ---- */

enum { SETTLEMENTS = 4, WANTS = 3 };

struct exchange_plan {
    struct pgqrs_settlement settlements[SETTLEMENTS];
    struct pgqrs_follow_up follow_ups[SETTLEMENTS][2];
    struct pgqrs_want wants[WANTS];
    size_t settlement_count, want_count;
};

static struct pgqrs_lease_ref pick_lease(struct random_run *r)
{
    struct pgqrs_lease_ref lease = {.message_id = pick_message(r),
                                    .worker_id = pick_worker(r),
                                    .attempt = 1 + random_below(r, 3)};
    if (r->recent_count > 0 && !one_in(r, 12)) {
        size_t most = r->recent_count < RANDOM_RECENT ? r->recent_count : RANDOM_RECENT;
        lease = r->recent[(r->recent_count - 1 - random_below(r, (uint32_t)most)) % RANDOM_RECENT];
    }
    lease.attempt += one_in(r, 20) ? 1 : 0;
    lease.worker_id = one_in(r, 20) ? pick_worker(r) : lease.worker_id;
    return lease;
}

static void plan_settlement(struct random_run *r, struct exchange_plan *plan)
{
    static const char *const hows[] = {"?",      "archive", "delete", "dead",
                                       "cancel", "retry",   "snooze", "return"};
    struct pgqrs_settlement *item = &plan->settlements[plan->settlement_count];
    struct pgqrs_follow_up *next = plan->follow_ups[plan->settlement_count++];
    const struct pgqrs_lease_ref lease = pick_lease(r);
    *item = (struct pgqrs_settlement){
        .message_id = lease.message_id,
        .worker_id = lease.worker_id,
        .attempt = lease.attempt,
        .how = (enum pgqrs_settle)(1 + random_below(r, PGQRS_SETTLE_COUNT - 1)),
        .crashed = one_in(r, 5),
        .delay_ms = pick_delay(r),
        .error = pgqrs_bytes_from(errors[random_below(r, 4)]),
        .result = pgqrs_bytes_from(one_in(r, 3) ? "{\"r\":[1]}" : ""),
    };
    random_say(r, " (%s %lld by %lld attempt %u delay %lld error \"%s\"", hows[item->how],
               (long long)lease.message_id, (long long)lease.worker_id, lease.attempt,
               (long long)item->delay_ms, item->error.data);
    if (one_in(r, 6)) {
        item->follow_ups = next;
        item->follow_up_count = 1 + random_below(r, 2);
        for (size_t i = 0; i < item->follow_up_count; i++) {
            next[i].queue = queue_names[one_in(r, 4) ? 3 : random_below(r, 3)];
            random_say(r, " then %s", next[i].queue);
            random_item(r, &next[i].item);
        }
    }
    random_say(r, ")");
}

/* Whether a key is free that a later outcome of the same exchange frees is open. */
static void end_at_a_key(struct random_run *r, struct exchange_plan *plan)
{
    for (size_t i = 0; i < plan->settlement_count; i++) {
        for (size_t k = 0; k < plan->settlements[i].follow_up_count; k++) {
            if (plan->follow_ups[i][k].item.unique_key != NULL) {
                plan->settlement_count = i + 1;
                random_say(r, " only the first %zu", plan->settlement_count);
                return;
            }
        }
    }
}

static bool is_awake(struct random_run *r, int64_t worker_id)
{
    const struct pgqrs_worker_info *worker = model_worker(model_of(r->model), worker_id);
    return worker != NULL &&
           (worker->state == PGQRS_WORKER_READY || worker->state == PGQRS_WORKER_POLLING);
}

/* A worker that gets nothing asks alone: a store may then serve the others out of turn. */
static void part_wants(struct random_run *r, struct exchange_plan *plan)
{
    for (size_t i = 0; i < plan->want_count; i++) {
        if (!is_awake(r, plan->wants[i].worker_id)) {
            plan->wants[0] = plan->wants[i];
            plan->want_count = 1;
        }
    }
}

static void plan_exchange(struct random_run *r, struct exchange_plan *plan)
{
    static const uint32_t attempts[] = {1, 2, 3, 5, UINT32_MAX};
    *plan = (struct exchange_plan){0};
    for (uint32_t i = random_below(r, SETTLEMENTS + 1); i > 0; i--) {
        plan_settlement(r, plan);
    }
    end_at_a_key(r, plan);
    for (uint32_t i = random_below(r, WANTS + 1); i > 0; i--) {
        struct pgqrs_want *want = &plan->wants[plan->want_count++];
        *want = (struct pgqrs_want){.queue_id = pick_queue(r),
                                    .worker_id = pick_worker(r),
                                    .count = random_below(r, 5),
                                    .max_attempts = attempts[random_below(r, 5)],
                                    .lease_ms = one_in(r, 20) ? INT64_MAX
                                                              : 1 + (int64_t)random_below(r, 3000)};
    }
    part_wants(r, plan);
    for (size_t i = 0; i < plan->want_count; i++) {
        const struct pgqrs_want *want = &plan->wants[i];
        random_say(r, " (want %u of queue %lld for %lld, attempts below %u, lease %lld)",
                   want->count, (long long)want->queue_id, (long long)want->worker_id,
                   want->max_attempts, (long long)want->lease_ms);
    }
}

static void to_real(const struct random_run *r, struct exchange_plan *plan)
{
    for (size_t i = 0; i < plan->settlement_count; i++) {
        struct pgqrs_settlement *item = &plan->settlements[i];
        item->message_id = random_real(&r->messages, item->message_id);
        item->worker_id = random_real(&r->workers, item->worker_id);
        item->settled_out = PGQRS_SETTLED_NONE;
    }
    for (size_t i = 0; i < plan->want_count; i++) {
        plan->wants[i].queue_id = random_real(&r->queues, plan->wants[i].queue_id);
        plan->wants[i].worker_id = random_real(&r->workers, plan->wants[i].worker_id);
    }
}

/* Follow-ups have ids that nobody is told; they are met in the list, in order. */
static void meet_follow_ups(struct random_run *r)
{
    const struct model *m = model_of(r->model);
    struct pgqrs_error err;
    struct pgqrs_message_list list;
    size_t fresh = (size_t)m->last_message - r->messages.count;
    if (fresh == 0) {
        return;
    }
    const struct pgqrs_message_filter newest = {.limit = (uint32_t)fresh};
    if (pgqrs_store_message_list(r->store, &newest, &list, &err) < 0 || list.count != fresh) {
        random_wrong(r, "follow-ups: %zu were added, the store has fewer messages", fresh);
        return;
    }
    for (size_t i = list.count; i-- > 0;) {
        random_pair(r, &r->messages, "follow-up", (int64_t)r->messages.count + 1, list.items[i].id);
    }
    pgqrs_message_list_fini(&list);
}

static void same_leases(struct random_run *r, const struct exchange_plan *plan,
                        const struct pgqrs_exchange *x, const struct pgqrs_exchange *y)
{
    if (x->lease_count != y->lease_count) {
        random_wrong(r, "leased %zu, expected %zu", x->lease_count, y->lease_count);
        return;
    }
    for (size_t i = 0; i < x->lease_count; i++) {
        const struct pgqrs_lease *a = &x->leases[i];
        const struct pgqrs_lease *b = &y->leases[i];
        int64_t id = random_model(&r->messages, a->message_id);
        random_say(r, " -> %lld/%u", (long long)id, a->attempt);
        if (a->want != b->want || id != b->message_id || a->attempt != b->attempt ||
            a->priority != b->priority || a->crash_ct != b->crash_ct ||
            a->enqueued_at_us != b->enqueued_at_us || a->waited_us != b->waited_us ||
            a->payload.len != b->payload.len ||
            memcmp(a->payload.data, b->payload.data, a->payload.len) != 0) {
            random_wrong(r,
                         "lease %zu: found message %lld attempt %u for want %zu, expected "
                         "message %lld attempt %u for want %zu, and its payload",
                         i, (long long)id, a->attempt, a->want, (long long)b->message_id,
                         b->attempt, b->want);
            return;
        }
        r->recent[r->recent_count++ % RANDOM_RECENT] = (struct pgqrs_lease_ref){
            .message_id = id, .worker_id = plan->wants[b->want].worker_id, .attempt = a->attempt};
    }
}

/* Whether every want is of a worker and a queue that get something: else the time is open. */
static bool all_served(struct random_run *r, const struct exchange_plan *plan)
{
    struct model *m = model_of(r->model);
    for (size_t i = 0; i < plan->want_count; i++) {
        const struct pgqrs_queue *queue = model_queue(m, plan->wants[i].queue_id);
        if (queue == NULL || queue->paused_at_us != 0 || plan->wants[i].count == 0 ||
            !is_awake(r, plan->wants[i].worker_id)) {
            return false;
        }
    }
    return true;
}

/* What is due above the messages that filled a want may be told or not. */
static bool none_filled(const struct exchange_plan *plan, const struct pgqrs_exchange *y)
{
    uint32_t given[WANTS] = {0};
    for (size_t i = 0; i < y->lease_count; i++) {
        given[y->leases[i].want]++;
    }
    for (size_t i = 0; i < plan->want_count; i++) {
        if (given[i] >= plan->wants[i].count) {
            return false;
        }
    }
    return true;
}

static void step_exchange(struct random_run *r)
{
    struct exchange_plan plan;
    struct pgqrs_error model_err;
    struct pgqrs_error err;
    random_say(r, "exchange");
    plan_exchange(r, &plan);
    const bool served = all_served(r, &plan);
    struct exchange_plan real = plan;
    for (size_t i = 0; i < plan.settlement_count; i++) {
        if (real.settlements[i].follow_up_count > 0) {
            real.settlements[i].follow_ups = real.follow_ups[i];
        }
    }
    to_real(r, &real);
    struct pgqrs_exchange y = {.settlements = plan.settlements,
                               .settlement_count = plan.settlement_count,
                               .wants = plan.wants,
                               .want_count = plan.want_count};
    struct pgqrs_exchange x = {.settlements = real.settlements,
                               .settlement_count = real.settlement_count,
                               .wants = real.wants,
                               .want_count = real.want_count};
    int model_rc = pgqrs_store_exchange(r->model, &y, &model_err);
    int rc = pgqrs_store_exchange(r->store, &x, &err);
    if (random_same_rc(r, model_rc, &model_err, rc, &err)) {
        meet_follow_ups(r);
        for (size_t i = 0; i < plan.settlement_count; i++) {
            if (real.settlements[i].settled_out != plan.settlements[i].settled_out) {
                random_wrong(r, "settlement %zu: found %d, expected %d", i,
                             (int)real.settlements[i].settled_out,
                             (int)plan.settlements[i].settled_out);
            }
        }
        same_leases(r, &plan, &x, &y);
        if (served && none_filled(&plan, &y) &&
            !random_same_time(r, x.next_due_us, y.next_due_us)) {
            random_wrong(r, "next due %+lld us, expected %+lld",
                         (long long)(x.next_due_us - r->now_us),
                         (long long)(y.next_due_us - r->now_us));
        }
        if (x.now_us != r->now_us && (x.lease_count > 0 || x.next_due_us != 0)) {
            random_wrong(r, "now is %lld", (long long)x.now_us);
        }
    }
    pgqrs_exchange_fini(&x);
    pgqrs_exchange_fini(&y);
}

static void step_renew(struct random_run *r)
{
    enum { MOST = 4 };
    struct pgqrs_lease_ref refs[MOST];
    struct pgqrs_lease_ref real[MOST];
    bool held[MOST] = {false};
    bool should[MOST] = {false};
    struct pgqrs_error model_err;
    struct pgqrs_error err;
    size_t count = random_below(r, MOST + 1);
    int64_t lease_ms = 1 + (int64_t)random_below(r, 3000);
    random_say(r, "renew for %lld", (long long)lease_ms);
    for (size_t i = 0; i < count; i++) {
        refs[i] = real[i] = pick_lease(r);
        for (size_t k = 0; k < i; k++) { /* named twice, it may count once */
            if (refs[k].message_id == refs[i].message_id) {
                refs[i].message_id = UNKNOWN_ID;
            }
        }
        real[i].message_id = random_real(&r->messages, refs[i].message_id);
        real[i].worker_id = random_real(&r->workers, refs[i].worker_id);
        random_say(r, " (%lld by %lld attempt %u)", (long long)refs[i].message_id,
                   (long long)refs[i].worker_id, refs[i].attempt);
    }
    int64_t model_rc = pgqrs_store_renew(r->model, refs, count, lease_ms, should, &model_err);
    int64_t rc = pgqrs_store_renew(r->store, real, count, lease_ms, held, &err);
    if (random_same_rc(r, model_rc, &model_err, rc, &err) &&
        memcmp(held, should, sizeof held) != 0) {
        random_wrong(r, "held_out differs");
    }
}

/* ---- operators ---- */

static void step_act(struct random_run *r)
{
    static const char *const names[] = {"?", "cancel", "delete", "free", "replay"};
    enum { MOST = 5 };
    int64_t ids[MOST];
    int64_t real[MOST];
    enum pgqrs_acted acted[MOST];
    enum pgqrs_acted should[MOST];
    struct pgqrs_error model_err;
    struct pgqrs_error err;
    enum pgqrs_act act = (enum pgqrs_act)(1 + random_below(r, PGQRS_ACT_COUNT - 1));
    size_t count = 1 + random_below(r, MOST);
    random_say(r, "%s", names[act]);
    for (size_t i = 0; i < count; i++) {
        ids[i] = pick_message(r);
        real[i] = random_real(&r->messages, ids[i]);
        random_say(r, " %lld", (long long)ids[i]);
    }
    int64_t model_rc = pgqrs_store_message_act(r->model, act, ids, count, should, &model_err);
    int64_t rc = pgqrs_store_message_act(r->store, act, real, count, acted, &err);
    if (!random_same_rc(r, model_rc, &model_err, rc, &err)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (acted[i] != should[i]) {
            random_wrong(r, "message %lld: acted_out is %d, expected %d", (long long)ids[i],
                         (int)acted[i], (int)should[i]);
        }
    }
}

static void step_queue(struct random_run *r)
{
    struct pgqrs_error model_err;
    struct pgqrs_error err;
    int64_t made = 0;
    int64_t real_made = 0;
    int64_t queue = pick_queue(r);
    int64_t real = random_real(&r->queues, queue);
    int64_t model_rc;
    int64_t rc;
    unsigned bits = 1 + random_below(r, 7);
    bool paused = one_in(r, 2);
    const char *name = queue_names[random_below(r, 3)];
    switch (random_below(r, 6)) {
    case 0:
        random_say(r, "delete queue %lld", (long long)queue);
        model_rc = pgqrs_store_queue_delete(r->model, queue, &model_err);
        rc = pgqrs_store_queue_delete(r->store, real, &err);
        break;
    case 1:
        random_say(r, "purge queue %lld, bits %u", (long long)queue, bits);
        model_rc = pgqrs_store_queue_purge(r->model, queue, bits, 10000, &model_err);
        rc = pgqrs_store_queue_purge(r->store, real, bits, 10000, &err);
        break;
    case 2:
        random_say(r, "pause queue %lld: %d", (long long)queue, paused);
        model_rc = pgqrs_store_queue_pause(r->model, queue, paused, &model_err);
        rc = pgqrs_store_queue_pause(r->store, real, paused, &err);
        break;
    default:
        random_say(r, "create queue %s", name);
        model_rc = pgqrs_store_queue_create(r->model, name, &made, &model_err);
        rc = pgqrs_store_queue_create(r->store, name, &real_made, &err);
        break;
    }
    if (random_same_rc(r, model_rc, &model_err, rc, &err) && made != 0) {
        random_pair(r, &r->queues, "queue", made, real_made);
    }
}

static void step_housekeeping(struct random_run *r)
{
    struct pgqrs_error model_err;
    struct pgqrs_error err;
    int64_t queue = one_in(r, 2) ? 0 : pick_queue(r);
    int64_t real = random_real(&r->queues, queue);
    int64_t model_rc;
    int64_t rc;
    uint32_t attempts = 1 + random_below(r, 4);
    struct pgqrs_reap reap = {.queue_id = queue,
                              .stale_ms = 1 + (int64_t)random_below(r, 4000),
                              .foreign = one_in(r, 2),
                              .limit = 10000};
    struct pgqrs_prune prune = {.queue_id = queue,
                                .what = one_in(r, 2) ? PGQRS_PRUNE_ENDED : PGQRS_PRUNE_FAILED,
                                .age_ms = (int64_t)random_below(r, 9000),
                                .limit = 10000};
    switch (random_below(r, 3)) {
    case 0:
        random_say(r, "reap queue %lld stale %lld foreign %d", (long long)queue,
                   (long long)reap.stale_ms, reap.foreign);
        model_rc = pgqrs_store_reap(r->model, &reap, &model_err);
        reap.queue_id = real;
        rc = pgqrs_store_reap(r->store, &reap, &err);
        break;
    case 1:
        random_say(r, "prune queue %lld kind %d age %lld", (long long)queue, (int)prune.what,
                   (long long)prune.age_ms);
        model_rc = pgqrs_store_prune(r->model, &prune, &model_err);
        prune.queue_id = real;
        prune.from_us = prune.from_id = 0;
        rc = pgqrs_store_prune(r->store, &prune, &err);
        break;
    default:
        queue = queue == 0 ? pick_queue(r) : queue;
        random_say(r, "bury queue %lld attempts %u", (long long)queue, attempts);
        model_rc = pgqrs_store_bury(r->model, queue, attempts, &model_err);
        rc = pgqrs_store_bury(r->store, random_real(&r->queues, queue), attempts, &err);
        break;
    }
    (void)random_same_rc(r, model_rc, &model_err, rc, &err);
}

/* ---- workers ---- */

/* Whether a supervisor may register it: who takes a name over has freed its leases. */
static bool may_register(struct random_run *r, const struct pgqrs_worker_row *row)
{
    const struct model *m = model_of(r->model);
    for (size_t i = 0; row->instance != NULL && i < m->worker_count; i++) {
        if (strcmp(m->workers[i].name, row->name) != 0) {
            continue;
        }
        for (size_t k = 0; k < m->message_count; k++) {
            if (model_is_leased(&m->messages[k].row) &&
                m->messages[k].row.consumer_worker_id == m->workers[i].id) {
                return false;
            }
        }
    }
    return true;
}

static void step_register(struct random_run *r)
{
    static const char *const names[] = {"w1", "w2", "w3", "w4", "x5", "x6"};
    struct pgqrs_error model_err;
    struct pgqrs_error err;
    int64_t id = 0;
    int64_t real_id = 0;
    struct pgqrs_worker_row row = {
        .name = one_in(r, 6) ? NULL : names[random_below(r, 6)],
        .queue_id = one_in(r, 6) ? 0 : pick_queue(r),
        .generation = random_below(r, 2),
        .pid = random_below(r, 100),
        .stale_ms = (int64_t)random_below(r, 3) * 1500,
    };
    row.instance = row.name == NULL || one_in(r, 2) ? NULL : one_in(r, 2) ? "run-1" : "run-2";
    row.generation = row.instance == NULL ? 0 : row.generation;
    random_say(r, "register %s queue %lld instance %s generation %lld stale %lld",
               row.name == NULL ? "-" : row.name, (long long)row.queue_id,
               row.instance == NULL ? "-" : row.instance, (long long)row.generation,
               (long long)row.stale_ms);
    if (!may_register(r, &row)) {
        random_say(r, ": not yet");
        return;
    }
    int model_rc = pgqrs_store_worker_register(r->model, &row, &id, &model_err);
    row.queue_id = random_real(&r->queues, row.queue_id);
    int rc = pgqrs_store_worker_register(r->store, &row, &real_id, &err);
    if (random_same_rc(r, model_rc, &model_err, rc, &err)) {
        random_say(r, " -> %lld", (long long)id);
        random_pair(r, &r->workers, "worker", id, real_id);
    }
}

static void step_move(struct random_run *r)
{
    static const char *const names[] = {"?",       "poll",   "complete poll", "interrupt",
                                        "suspend", "resume", "shut down",     "stop"};
    struct pgqrs_error model_err;
    struct pgqrs_error err;
    int64_t worker = pick_worker(r);
    /* Those that make a worker work again come more often. */
    enum pgqrs_worker_move move =
        one_in(r, 3) ? PGQRS_MOVE_RESUME : (enum pgqrs_worker_move)(1 + random_below(r, 7));
    random_say(r, "%s worker %lld", names[move], (long long)worker);
    int model_rc = pgqrs_store_worker_move(r->model, worker, move, &model_err);
    int rc = pgqrs_store_worker_move(r->store, random_real(&r->workers, worker), move, &err);
    (void)random_same_rc(r, model_rc, &model_err, rc, &err);
}

static void step_beat(struct random_run *r)
{
    int64_t ids[3], real[3];
    struct pgqrs_error model_err, err;
    size_t count = random_below(r, 4);
    bool orders = one_in(r, 2);
    random_say(r, orders ? "orders" : "beat");
    for (size_t i = 0; i < count; i++) {
        ids[i] = pick_worker(r);
        real[i] = random_real(&r->workers, ids[i]);
        random_say(r, " %lld", (long long)ids[i]);
    }
    int model_rc = orders ? 0 : pgqrs_store_worker_beat(r->model, ids, count, &model_err);
    int rc = orders ? 0 : pgqrs_store_worker_beat(r->store, real, count, &err);
    if (random_same_rc(r, model_rc, &model_err, rc, &err) && orders) {
        random_same_orders(r, ids, count, one_in(r, 2));
    }
}

static void step_end(struct random_run *r)
{
    struct pgqrs_error model_err;
    struct pgqrs_error err;
    int64_t worker = pick_worker(r);
    const struct pgqrs_release release = {.charge = one_in(r, 2),
                                          .crashed = one_in(r, 2),
                                          .max_attempts = 1 + random_below(r, 4),
                                          .max_crashes = 1 + random_below(r, 3),
                                          .reason = "its process is gone"};
    random_say(r, "end worker %lld charge %d crashed %d attempts %u crashes %u", (long long)worker,
               release.charge, release.crashed, release.max_attempts, release.max_crashes);
    int64_t model_rc = pgqrs_store_worker_end(r->model, worker, &release, &model_err);
    int64_t rc = pgqrs_store_worker_end(r->store, random_real(&r->workers, worker), &release, &err);
    (void)random_same_rc(r, model_rc, &model_err, rc, &err);
}

static void step_reconcile(struct random_run *r)
{
    struct pgqrs_lease_ref known[RANDOM_RECENT];
    struct pgqrs_lease_ref real[RANDOM_RECENT];
    struct pgqrs_error model_err;
    struct pgqrs_error err;
    int64_t worker = pick_worker(r);
    size_t most = r->recent_count < RANDOM_RECENT ? r->recent_count : RANDOM_RECENT;
    size_t count = 0;
    random_say(r, "reconcile worker %lld knows", (long long)worker);
    for (size_t i = 0; i < most; i++) {
        if (r->recent[i].worker_id == worker && !one_in(r, 4)) {
            known[count] = real[count] = r->recent[i];
            real[count].message_id = random_real(&r->messages, known[count].message_id);
            real[count].worker_id = random_real(&r->workers, worker);
            random_say(r, " %lld/%u", (long long)known[count].message_id, known[count].attempt);
            count++;
        }
    }
    int64_t model_rc = pgqrs_store_worker_reconcile(r->model, worker, known, count, &model_err);
    int64_t rc =
        pgqrs_store_worker_reconcile(r->store, random_real(&r->workers, worker), real, count, &err);
    (void)random_same_rc(r, model_rc, &model_err, rc, &err);
}

static void step_worker_rows(struct random_run *r)
{
    struct pgqrs_error model_err;
    struct pgqrs_error err;
    int64_t worker = pick_worker(r);
    int64_t model_rc;
    int64_t rc;
    if (one_in(r, 2)) {
        random_say(r, "delete worker %lld", (long long)worker);
        model_rc = pgqrs_store_worker_delete(r->model, worker, &model_err);
        rc = pgqrs_store_worker_delete(r->store, random_real(&r->workers, worker), &err);
    } else {
        int64_t older_ms = (int64_t)random_below(r, 9000);
        random_say(r, "purge workers older than %lld", (long long)older_ms);
        model_rc = pgqrs_store_worker_purge(r->model, older_ms, 100, &model_err);
        rc = pgqrs_store_worker_purge(r->store, older_ms, 100, &err);
    }
    (void)random_same_rc(r, model_rc, &model_err, rc, &err);
}

static void step_clock(struct random_run *r)
{
    int64_t us =
        one_in(r, 4) ? (int64_t)random_below(r, 5000000) : (int64_t)random_below(r, 300000);
    random_say(r, "the clock goes on by %lld us", (long long)us);
    r->now_us += us;
    pgqrs_clock_set_wall(r->now_us);
    if (r->backend->set_clock != NULL) {
        r->backend->set_clock(r->backend->arg, r->clients[0], r->now_us);
    }
}

void random_step(struct random_run *r, uint64_t seed)
{
    static const struct {
        step_fn step;
        uint32_t weight;
    } kinds[] = {
        {step_enqueue, 20}, {step_exchange, 40},    {step_renew, 6},     {step_act, 7},
        {step_queue, 4},    {step_housekeeping, 5}, {step_register, 9},  {step_move, 9},
        {step_beat, 9},     {step_end, 3},          {step_reconcile, 3}, {step_worker_rows, 2},
        {step_clock, 14},
    };
    uint32_t sum = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        sum += kinds[i].weight;
    }
    r->rng = seed;
    uint32_t at = random_below(r, sum);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (at < kinds[i].weight) {
            kinds[i].step(r);
            return;
        }
        at -= kinds[i].weight;
    }
}
