/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/client_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

/* ---- queues that were enqueued to before ---- */

static struct client_queue *known_queue(struct pgqrs_client *client, const char *name)
{
    for (size_t i = 0; i < PGQRS_CLIENT_QUEUES; i++) {
        struct client_queue *q = &client->queues[i];
        if (q->name != NULL && strcmp(q->name, name) == 0) {
            return q;
        }
    }
    return NULL;
}

static void forget_queue(struct client_queue *q)
{
    free(q->name);
    *q = (struct client_queue){0};
}

/* Without memory it is asked for again the next time. */
static void remember_queue(struct pgqrs_client *client, const char *name, int64_t id)
{
    struct client_queue *q = &client->queues[client->next_queue++ % PGQRS_CLIENT_QUEUES];
    forget_queue(q);
    q->name = strdup(name);
    q->id = id;
}

/* ---- the rate ---- */

static void sleep_us(int64_t us)
{
    struct timespec left = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR) {
    }
}

int pgqrs_client_take_tokens(struct pgqrs_client *client, size_t count,
                             struct pgqrs_failure *failure)
{
    const int64_t start_us = pgqrs_mono_us();
    int64_t wait_us = pgqrs_rate_limit_try(&client->rate, count, start_us);
    if (wait_us == 0) {
        return 0;
    }
    if (client->rate_wait_ms < 0 || wait_us / 1000 < client->rate_wait_ms) {
        sleep_us(pgqrs_rate_limit_acquire(&client->rate, count, start_us));
        return 0;
    }
    (void)pgqrs_client_refuse(
        failure, PGQRS_E_RATE_LIMITED,
        "rate limit: found %zu messages over %lu a second and %lu at once; wait %lld ms", count,
        (unsigned long)client->rate.per_second, (unsigned long)client->rate.burst,
        (long long)((wait_us + 999) / 1000));
    if (failure != NULL) {
        failure->retry_after_ms = (wait_us + 999) / 1000;
    }
    return -1;
}

/* ---- enqueueing ---- */

static int store_items(struct pgqrs_client *client, const char *queue, struct client_items *items,
                       struct pgqrs_error *err)
{
    struct client_queue *known = known_queue(client, queue);
    if (known != NULL) {
        int rc = pgqrs_store_enqueue(client->store, known->id, items->items, items->count,
                                     items->ids, items->existed, err);
        if (rc == 0 || err->code != PGQRS_ERR_NOT_FOUND) {
            return rc;
        }
        forget_queue(known); /* somebody has deleted it, and perhaps made it anew */
    }
    int64_t id;
    if (pgqrs_store_queue_find(client->store, queue, &id, err) < 0 ||
        pgqrs_store_enqueue(client->store, id, items->items, items->count, items->ids,
                            items->existed, err) < 0) {
        return -1;
    }
    remember_queue(client, queue, id);
    return 0;
}

static int64_t enqueue(struct pgqrs_client *client, const char *queue, struct client_items *items,
                       struct pgqrs_receipt *receipts_out, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    if (pgqrs_client_take_tokens(client, items->count, failure) < 0) {
        return -1;
    }
    if (store_items(client, queue, items, &err) < 0) {
        if (err.code != PGQRS_ERR_UNKNOWN) {
            pgqrs_rate_limit_refund(&client->rate, items->count, pgqrs_mono_us());
        }
        return pgqrs_client_fail(failure, &err);
    }
    return pgqrs_client_receipts(items, receipts_out);
}

int64_t pgqrs_enqueue_batch(struct pgqrs_client *client, const char *queue,
                            const struct pgqrs_item *items, size_t count,
                            struct pgqrs_receipt *receipts_out, struct pgqrs_failure *failure)
{
    struct client_items prepared;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    if (queue == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID, "queue: found no name");
    }
    int64_t rc = pgqrs_client_items_init(&prepared, &client->rules, items, count, failure);
    if (rc == 0 && count > 0) {
        rc = enqueue(client, queue, &prepared, receipts_out, failure);
    }
    pgqrs_client_items_fini(&prepared);
    return rc;
}

int pgqrs_enqueue(struct pgqrs_client *client, const char *queue, const struct pgqrs_item *item,
                  struct pgqrs_receipt *receipt_out, struct pgqrs_failure *failure)
{
    return (int)pgqrs_enqueue_batch(client, queue, item, 1, receipt_out, failure);
}
