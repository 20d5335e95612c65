/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/client_priv.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "base/clock.h"

#define LEASES_MAX 1000
/* Where something wakes us we look by ourselves, too, but so many times less often: it may miss. */
#define HINTED_POLLS 8

struct batch { /* what a struct pgqrs_batch is the beginning of */
    struct pgqrs_batch batch;
    struct pgqrs_exchange exchange; /* holds the payloads */
    struct pgqrs_delivery items[];
};

void pgqrs_batch_free(struct pgqrs_batch *batch)
{
    struct batch *all = (struct batch *)batch;
    if (all != NULL) {
        pgqrs_exchange_fini(&all->exchange);
        free(all);
    }
}

/* ---- one look ---- */

/* Returns how many were leased. The memory for them is there before, so that none is lost. */
static int look(struct pgqrs_consumer *consumer, unsigned max, struct batch *batch,
                struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    const struct pgqrs_want want = {.queue_id = consumer->queue_id,
                                    .worker_id = consumer->id,
                                    .count = max,
                                    .max_attempts = consumer->max_attempts,
                                    .lease_ms = consumer->lease_ms};
    struct pgqrs_exchange *x = &batch->exchange;
    x->wants = &want;
    x->want_count = 1;
    int rc = pgqrs_store_exchange(consumer->client->store, x, &err);
    x->wants = NULL;
    x->want_count = 0;
    if (rc < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    for (size_t i = 0; i < x->lease_count; i++) {
        const struct pgqrs_lease *lease = &x->leases[i];
        batch->items[i] = (struct pgqrs_delivery){.id = lease->message_id,
                                                  .attempt = lease->attempt,
                                                  .max_attempts = consumer->max_attempts,
                                                  .priority = lease->priority,
                                                  .enqueued_at_us = lease->enqueued_at_us,
                                                  .payload = lease->payload.data,
                                                  .payload_len = lease->payload.len};
    }
    batch->batch = (struct pgqrs_batch){.items = batch->items, .count = x->lease_count};
    return (int)x->lease_count;
}

static int beat_if_due(struct pgqrs_consumer *consumer, struct pgqrs_failure *failure)
{
    return pgqrs_mono_ms() - consumer->beaten_ms >= consumer->beat_ms
               ? pgqrs_consumer_heartbeat(consumer, failure)
               : 0;
}

/* ---- waiting ---- */

struct wait {
    int64_t end_ms; /* monotonic; INT64_MAX: never */
    int wake_fd;    /* -1: nothing wakes us */
    bool polling;   /* the row says that we wait */
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* How long to sleep, with next_due the store's time of the next delayed message, 0: none. */
static int64_t nap_ms(const struct pgqrs_consumer *consumer, const struct wait *w,
                      const struct pgqrs_exchange *x)
{
    int64_t now = pgqrs_mono_ms();
    int64_t nap = consumer->poll_ms;
    if (w->wake_fd >= 0) {
        nap *= HINTED_POLLS;
        if (x->next_due_us != 0) {
            int64_t due = (x->next_due_us - x->now_us) / 1000 + 1;
            nap = least(nap, due < 1 ? 1 : due);
        }
    }
    nap = least(nap, w->end_ms - now);
    nap = least(nap, consumer->beaten_ms + consumer->beat_ms - now);
    return nap < 0 ? 0 : least(nap, INT32_MAX);
}

/* True when it is time to look again, false when a signal has come. */
static bool sleep_until_woken(struct pgqrs_consumer *consumer, const struct wait *w, int64_t ms)
{
    const int64_t end = pgqrs_mono_ms() + ms;
    int64_t left = ms;
    do {
        struct pollfd wake = {.fd = w->wake_fd, .events = POLLIN};
        int ready = poll(&wake, 1, (int)left);
        if (ready < 0 && errno == EINTR) {
            return false;
        }
        if (ready != 0 && pgqrs_store_woken(consumer->client->store)) {
            return true;
        }
        left = end - pgqrs_mono_ms();
    } while (left > 0);
    return true;
}

static int begin_wait(struct pgqrs_consumer *consumer, struct wait *w,
                      struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    struct pgqrs_store *store = consumer->client->store;
    if (pgqrs_store_worker_move(store, consumer->id, PGQRS_MOVE_POLL, &err) < 0) {
        bool refused = err.code == PGQRS_ERR_CONFLICT || err.code == PGQRS_ERR_NOT_FOUND;
        if (refused && pgqrs_consumer_check(consumer, failure) < 0) {
            return -1;
        }
        return refused ? 0 : pgqrs_client_fail(failure, &err);
    }
    w->polling = true;
    w->wake_fd = pgqrs_store_wake_fd(store);
    pgqrs_store_doze(store);
    return 0;
}

/* What was leased is handed out whatever the row says now: the next call will tell. */
static void end_wait(struct pgqrs_consumer *consumer, const struct wait *w)
{
    if (w->polling) {
        struct pgqrs_error err;
        pgqrs_store_rouse(consumer->client->store);
        int rc = pgqrs_store_worker_move(consumer->client->store, consumer->id,
                                         PGQRS_MOVE_COMPLETE_POLL, &err);
        (void)rc; /* it stays in polling, which does no harm */
    }
}

/* Returns how many, 0 when the time is up. */
static int look_until(struct pgqrs_consumer *consumer, unsigned max, struct wait *w,
                      struct batch *batch, struct pgqrs_failure *failure)
{
    for (;;) {
        int found = beat_if_due(consumer, failure);
        found = found < 0 ? -1 : look(consumer, max, batch, failure);
        if (found != 0) {
            return found;
        }
        if (pgqrs_consumer_check(consumer, failure) < 0) {
            return -1;
        }
        if (pgqrs_mono_ms() >= w->end_ms) {
            return 0;
        }
        if (!w->polling) {
            if (begin_wait(consumer, w, failure) < 0) {
                return -1;
            }
            continue; /* something may have come before we could be woken */
        }
        if (!sleep_until_woken(consumer, w, nap_ms(consumer, w, &batch->exchange))) {
            return 0;
        }
    }
}

int pgqrs_dequeue(struct pgqrs_consumer *consumer, unsigned max, int64_t wait_ms,
                  struct pgqrs_batch **batch_out, struct pgqrs_failure *failure)
{
    if (pgqrs_client_need(consumer->client, failure) < 0) {
        return -1;
    }
    if (max == 0 || max > LEASES_MAX || wait_ms < -1) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID,
                                   "dequeue: found %u messages and a wait of %lld ms, expected 1 "
                                   "to %d, and -1 or more",
                                   max, (long long)wait_ms, LEASES_MAX);
    }
    struct batch *batch = calloc(1, sizeof *batch + max * sizeof *batch->items);
    if (batch == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_MEMORY, "out of memory");
    }
    int64_t now = pgqrs_mono_ms();
    struct wait w = {.end_ms = wait_ms < 0 || wait_ms > INT64_MAX - now ? INT64_MAX : now + wait_ms,
                     .wake_fd = -1};
    int found = look_until(consumer, max, &w, batch, failure);
    end_wait(consumer, &w);
    if (found <= 0) {
        pgqrs_batch_free(&batch->batch);
    }
    if (found >= 0) {
        *batch_out = found == 0 ? NULL : &batch->batch;
    }
    return found;
}
