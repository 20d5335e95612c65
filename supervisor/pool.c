/* SPDX-License-Identifier: Apache-2.0 */
/* How many places a queue has. A place that is to go stays until its process has ended. */
#include "supervisor/supervisor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"

#define REPLACE_AGAIN_MS 60000

/* ---- places come and go ---- */

static uint32_t free_slot(const struct queue *queue)
{
    uint32_t slot = 0;
    for (size_t i = 0; i < queue->place_count;) {
        if (queue->places[i]->slot == slot) {
            slot++;
            i = 0;
        } else {
            i++;
        }
    }
    return slot;
}

static struct place *add(struct supervisor *s, struct queue *queue)
{
    struct place *place = calloc(1, sizeof *place);
    struct place **more =
        place == NULL ? NULL
                      : reallocarray(queue->places, queue->place_count + 1, sizeof(struct place *));
    if (more == NULL) {
        free(place);
        return NULL;
    }
    queue->places = more;
    *place =
        (struct place){.s = s, .role = PGQRS_ROLE_WORKER, .queue = queue, .slot = free_slot(queue)};
    queue->places[queue->place_count++] = place;
    return place;
}

static void drop(struct place *place)
{
    struct queue *queue = place->queue;
    size_t kept = 0;
    for (size_t i = 0; i < queue->place_count; i++) {
        struct place *other = queue->places[i];
        other->replaces = other->replaces == place ? NULL : other->replaces;
        if (other != place) {
            queue->places[kept++] = other;
        }
    }
    queue->place_count = kept;
    queue->canary = queue->canary == place ? NULL : queue->canary;
    if (place->restart_timer != NULL) {
        event_free(place->restart_timer);
    }
    free(place);
}

int pgqrs_pool_create(struct supervisor *s, struct queue *queue, int64_t wanted,
                      struct pgqrs_error *err)
{
    queue->wanted = wanted;
    for (int64_t i = 0; i < wanted; i++) {
        if (add(s, queue) == NULL) {
            return pgqrs_error_memory(err);
        }
    }
    return 0;
}

void pgqrs_pool_destroy(struct queue *queue)
{
    while (queue->place_count > 0) {
        drop(queue->places[queue->place_count - 1]);
    }
    free(queue->places);
}

/* ---- scaling ---- */

static struct place *replacement_of(const struct place *place)
{
    const struct queue *queue = place->queue;
    for (size_t i = 0; i < queue->place_count; i++) {
        if (queue->places[i]->replaces == place) {
            return queue->places[i];
        }
    }
    return NULL;
}

/* Those that stay: neither on their way out, nor a second one while the first still works. */
static int64_t staying(const struct queue *queue)
{
    int64_t count = 0;
    for (size_t i = 0; i < queue->place_count; i++) {
        const struct place *place = queue->places[i];
        count += place->retiring || place->replaces != NULL ? 0 : 1;
    }
    return count;
}

static void retire(struct place *place)
{
    place->retiring = true;
    place->replaces = NULL;
    if (place->child == NULL) {
        drop(place);
    } else {
        pgqrs_child_drain(place->child);
    }
}

/* How little is lost with it: nobody is there, it is not ready, it is idle, it works, it is the
 * trial of a new version. */
static int burden(const struct place *place)
{
    const struct child *child = place->child;
    const struct place *canary = place->queue->canary;
    if (canary != NULL && (place == canary || place == canary->replaces)) {
        return 4;
    }
    return child == NULL ? 0 : child->state < CHILD_READY ? 1 : child->beat.job_id == 0 ? 2 : 3;
}

static struct place *least_missed(const struct queue *queue)
{
    struct place *best = NULL;
    for (size_t i = 0; i < queue->place_count; i++) {
        struct place *place = queue->places[i];
        if (!place->retiring && place->replaces == NULL &&
            (best == NULL || burden(place) <= burden(best))) {
            best = place; /* the last one among equals: the first ones have the low numbers */
        }
    }
    return best;
}

static void settle(struct supervisor *s, struct queue *queue)
{
    while (staying(queue) < queue->wanted) {
        struct place *place = add(s, queue);
        if (place == NULL) {
            pgqrs_log_error("queue \"%s\": out of memory, it has fewer workers than it should",
                            queue->name);
            return;
        }
        if (s->state == SUPERVISOR_RUNNING) {
            pgqrs_place_start(place);
        }
    }
    while (staying(queue) > queue->wanted) {
        struct place *place = least_missed(queue);
        struct place *second = replacement_of(place);
        if (second != NULL) {
            retire(second);
        }
        retire(place);
    }
}

static int64_t wanted_by_all(const struct supervisor *s)
{
    int64_t sum = 0;
    for (size_t i = 0; i < s->queue_count; i++) {
        sum += s->queues[i]->wanted;
    }
    return sum;
}

void pgqrs_pool_scale(struct supervisor *s, struct queue *queue, int64_t wanted, const char *why)
{
    int64_t room = PGQRS_WORKERS_MAX - (wanted_by_all(s) - queue->wanted);
    int64_t most = room < PGQRS_CONSUMERS_MAX ? room : PGQRS_CONSUMERS_MAX;
    wanted = wanted < 0 ? 0 : wanted > most ? most : wanted;
    if (s->state >= SUPERVISOR_DRAINING || wanted == queue->wanted) {
        return;
    }
    pgqrs_log_info("%s: queue \"%s\": %" PRId64 " workers instead of %" PRId64, why, queue->name,
                   wanted, queue->wanted);
    queue->wanted = wanted;
    settle(s, queue);
}

bool pgqrs_pool_leave(struct place *place)
{
    struct supervisor *s = place->s;
    struct queue *queue = place->queue;
    if (!place->retiring && replacement_of(place) == NULL) {
        return false;
    }
    drop(place); /* the one that was to replace it stays */
    settle(s, queue);
    return true;
}

/* ---- replacing ---- */

/* Up to a tenth earlier than set. */
static int64_t with_jitter(int64_t limit, uint64_t seed)
{
    return limit - (int64_t)((uint64_t)limit / 10 * (seed % 1024) / 1024);
}

void pgqrs_pool_ready(struct place *place)
{
    const struct pgqrs_config_queue *config = place->queue->config;
    struct place *old = place->replaces;
    uint64_t seed; /* the token is random, and nobody sees what is left of it */
    memcpy(&seed, place->child->token, sizeof seed);
    int64_t age = with_jitter(config->recycle_age_ms, seed >> 10);
    place->recycle = (struct pgqrs_recycle){
        .jobs = with_jitter(config->recycle_jobs, seed),
        .at_ms = age == 0 ? 0 : pgqrs_mono_ms() + age,
        .memory = with_jitter(config->recycle_memory, seed >> 20),
    };
    if (place == place->queue->canary) {
        return; /* it may not do well */
    }
    pgqrs_pool_replaced(place);
    if (old != NULL) {
        pgqrs_pool_roll(place->queue);
    }
}

void pgqrs_pool_replaced(struct place *place)
{
    struct place *old = place->replaces;
    place->replaces = NULL;
    if (old != NULL) {
        retire(old);
    }
}

void pgqrs_pool_retire(struct place *place)
{
    struct queue *queue = place->queue;
    retire(place);
    settle(queue->s, queue);
}

bool pgqrs_pool_give_up_replacing(struct place *place, const char *why)
{
    struct place *old = place->replaces;
    if (old == NULL) {
        return false;
    }
    pgqrs_log_error(
        "%s: what was to replace it can not start, it goes on; trying again in %d s: %s",
        pgqrs_place_name(old), REPLACE_AGAIN_MS / 1000, why);
    old->recycle.not_before_ms = pgqrs_mono_ms() + REPLACE_AGAIN_MS;
    drop(place);
    return true;
}

/* Why the worker in the place has to be replaced, or false. */
static bool is_worn(const struct place *place, char *why, size_t size)
{
    const struct pgqrs_recycle *limit = &place->recycle;
    const struct child *child = place->child;
    if (child == NULL || child->state != CHILD_READY || pgqrs_mono_ms() < limit->not_before_ms) {
        return false;
    }
    if (child->version != place->queue->version) {
        (void)snprintf(why, size, "it runs an older version");
        return true;
    }
    if (limit->jobs > 0 && child->beat.settled >= (uint64_t)limit->jobs) {
        (void)snprintf(why, size, "it has run %" PRIu64 " jobs", child->beat.settled);
        return true;
    }
    if (limit->at_ms > 0 && pgqrs_mono_ms() >= limit->at_ms) {
        (void)snprintf(why, size, "it is old enough");
        return true;
    }
    int64_t bytes = limit->memory > 0 ? pgqrs_resident_memory(child->pid) : 0;
    if (limit->memory > 0 && bytes >= limit->memory) {
        (void)snprintf(why, size, "it uses %" PRId64 " MiB", bytes >> 20);
        return true;
    }
    return false;
}

static bool is_replacing(const struct queue *queue)
{
    for (size_t i = 0; i < queue->place_count; i++) {
        if (queue->places[i]->retiring || queue->places[i]->replaces != NULL) {
            return true;
        }
    }
    return false;
}

static bool has_room(const struct supervisor *s)
{
    size_t count = 0;
    for (size_t i = 0; i < s->queue_count; i++) {
        count += s->queues[i]->place_count;
    }
    return count < PGQRS_WORKERS_MAX;
}

/* A new worker for the place, which that one replaces. Null when there is no room. */
static struct place *add_replacement(struct place *old)
{
    struct supervisor *s = old->s;
    struct place *place = has_room(s) ? add(s, old->queue) : NULL;
    if (place != NULL) {
        place->replaces = old;
    }
    return place;
}

/* True: one is on its way out. */
static bool recycle_one(struct queue *queue)
{
    char why[64];
    for (size_t i = 0; i < queue->place_count; i++) {
        struct place *old = queue->places[i];
        if (old->retiring || !is_worn(old, why, sizeof why)) {
            continue;
        }
        pgqrs_log_info("%s: %s, replacing it pid=%d", pgqrs_place_name(old), why,
                       (int)old->child->pid);
        struct place *place = add_replacement(old);
        if (place == NULL) {
            retire(old); /* the other comes when it has ended */
        } else {
            pgqrs_place_start(place);
        }
        return true;
    }
    return false;
}

static bool may_replace(const struct queue *queue)
{
    return queue->s->state == SUPERVISOR_RUNNING && queue->failing.retry == NULL &&
           queue->next == NULL && !queue->removed;
}

void pgqrs_pool_recycle(struct supervisor *s)
{
    for (size_t i = 0; i < s->queue_count; i++) {
        struct queue *queue = s->queues[i];
        const struct pgqrs_config_queue *config = queue->config;
        bool limited =
            config->recycle_jobs > 0 || config->recycle_age_ms > 0 || config->recycle_memory > 0;
        if (queue->rolling) {
            pgqrs_pool_roll(queue);
        } else if (limited && may_replace(queue) && !is_replacing(queue)) {
            (void)recycle_one(queue);
        }
    }
}

/* ---- rolling ---- */

static bool is_old(const struct place *place)
{
    return place->child != NULL && place->child->version != place->queue->version;
}

void pgqrs_pool_roll(struct queue *queue)
{
    bool old = false;
    if (!queue->rolling || !may_replace(queue)) {
        return;
    }
    for (size_t i = 0; i < queue->place_count; i++) {
        if (queue->places[i]->replaces != NULL) {
            return; /* one starts at a time; those that finish their jobs are not waited for */
        }
        old = old || is_old(queue->places[i]);
    }
    if (!old) {
        queue->rolling = false;
        pgqrs_log_info("queue \"%s\": all its workers run the new version", queue->name);
        return;
    }
    (void)recycle_one(queue);
}

void pgqrs_pool_start_canary(struct queue *queue)
{
    struct place *old = least_missed(queue);
    struct place *place = old == NULL ? NULL : add_replacement(old);
    queue->canary = place;
    if (place != NULL) {
        pgqrs_place_start(place);
    }
}
