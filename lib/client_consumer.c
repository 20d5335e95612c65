/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/client_priv.h"

#include <stdlib.h>

#include "base/clock.h"

#define LEASE_MS 30000
#define BEAT_MS 5000
#define POLL_MS 250
#define ATTEMPTS 5

/* ---- its row ---- */

int pgqrs_consumer_row(struct pgqrs_consumer *consumer, enum pgqrs_worker_state *state_out,
                       struct pgqrs_error *err)
{
    const struct pgqrs_worker_filter filter = {.id = consumer->id, .limit = 1};
    struct pgqrs_worker_info_list list;
    if (pgqrs_store_worker_list(consumer->client->store, &filter, &list, err) < 0) {
        return -1;
    }
    int mine = 0;
    if (list.count == 1 &&
        (consumer->started_at_us == 0 || consumer->started_at_us == list.items[0].started_at_us)) {
        consumer->started_at_us = list.items[0].started_at_us;
        *state_out = list.items[0].state;
        mine = 1;
    }
    pgqrs_worker_info_list_fini(&list);
    return mine;
}

static int refuse_gone(const struct pgqrs_consumer *consumer, struct pgqrs_failure *failure)
{
    return pgqrs_client_refuse(failure, PGQRS_E_STOPPED,
                               "worker %lld was deleted, or taken over by another program",
                               (long long)consumer->id);
}

/* Suspends one that was interrupted: it has nothing to do, and says so. */
static int suspend(struct pgqrs_consumer *consumer, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    if (pgqrs_store_worker_move(consumer->client->store, consumer->id, PGQRS_MOVE_SUSPEND, &err) <
            0 &&
        err.code != PGQRS_ERR_CONFLICT) { /* then somebody was faster */
        return pgqrs_client_fail(failure, &err);
    }
    return pgqrs_client_refuse(failure, PGQRS_E_SUSPENDED,
                               "worker %lld was interrupted, and is suspended now",
                               (long long)consumer->id);
}

int pgqrs_consumer_check(struct pgqrs_consumer *consumer, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    enum pgqrs_worker_state state = PGQRS_WORKER_NONE;
    int rc = pgqrs_consumer_row(consumer, &state, &err);
    if (rc < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    if (rc == 0) {
        return refuse_gone(consumer, failure);
    }
    switch (state) {
    case PGQRS_WORKER_READY:
    case PGQRS_WORKER_POLLING:
        return 0;
    case PGQRS_WORKER_INTERRUPTED:
        return suspend(consumer, failure);
    case PGQRS_WORKER_SUSPENDED:
        return pgqrs_client_refuse(failure, PGQRS_E_SUSPENDED, "worker %lld is suspended",
                                   (long long)consumer->id);
    case PGQRS_WORKER_STOPPED:
    case PGQRS_WORKER_NONE:
    case PGQRS_WORKER_STATE_COUNT:
        break;
    }
    return pgqrs_client_refuse(failure, PGQRS_E_STOPPED,
                               "worker %lld was stopped by another program",
                               (long long)consumer->id);
}

/* ---- registering ---- */

static int check_options(const struct pgqrs_consumer_options *o, struct pgqrs_failure *failure)
{
    if (o == NULL || o->queue == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID, "consumer: found no queue");
    }
    if (o->lease_ms < 0 || o->stale_ms < 0 || o->beat_ms < 0 || o->poll_ms < 0) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID,
                                   "consumer: found lease_ms %lld, stale_ms %lld, beat_ms %lld, "
                                   "poll_ms %lld, expected 0 or more",
                                   (long long)o->lease_ms, (long long)o->stale_ms,
                                   (long long)o->beat_ms, (long long)o->poll_ms);
    }
    return PGQRS_CLIENT_RESERVED("consumer", o, failure);
}

static struct pgqrs_consumer *create(struct pgqrs_client *client,
                                     const struct pgqrs_consumer_options *o)
{
    struct pgqrs_consumer *consumer = calloc(1, sizeof *consumer);
    if (consumer != NULL) {
        *consumer = (struct pgqrs_consumer){
            .client = client,
            .lease_ms = o->lease_ms == 0 ? LEASE_MS : o->lease_ms,
            .beat_ms = o->beat_ms == 0 ? BEAT_MS : o->beat_ms,
            .poll_ms = o->poll_ms == 0 ? POLL_MS : o->poll_ms,
            .max_attempts = o->max_attempts == 0 ? ATTEMPTS : o->max_attempts,
        };
        client->refs++;
    }
    return consumer;
}

static int add_row(struct pgqrs_consumer *consumer, const struct pgqrs_consumer_options *o,
                   struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    const struct pgqrs_worker_row row = {
        .name = o->name, .queue_id = consumer->queue_id, .stale_ms = o->stale_ms};
    enum pgqrs_worker_state state;
    if (pgqrs_store_worker_register(consumer->client->store, &row, &consumer->id, &err) < 0 ||
        pgqrs_consumer_row(consumer, &state, &err) < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    consumer->beaten_ms = pgqrs_mono_ms();
    return 0;
}

int pgqrs_consumer_register(struct pgqrs_client *client,
                            const struct pgqrs_consumer_options *options,
                            struct pgqrs_consumer **consumer_out, struct pgqrs_failure *failure)
{
    int64_t queue_id = 0;
    if (check_options(options, failure) < 0 ||
        pgqrs_client_queue(client, options->queue, true, &queue_id, failure) < 0) {
        return -1;
    }
    struct pgqrs_consumer *consumer = create(client, options);
    if (consumer == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_MEMORY, "out of memory");
    }
    consumer->queue_id = queue_id;
    if (add_row(consumer, options, failure) < 0) {
        pgqrs_consumer_free(&consumer);
        return -1;
    }
    *consumer_out = consumer;
    return 0;
}

int64_t pgqrs_consumer_id(const struct pgqrs_consumer *consumer)
{
    return consumer->id;
}

/* ---- its life ---- */

int pgqrs_consumer_heartbeat(struct pgqrs_consumer *consumer, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    if (pgqrs_client_need(consumer->client, failure) < 0) {
        return -1;
    }
    if (pgqrs_store_worker_beat(consumer->client->store, &consumer->id, 1, &err) < 0) {
        return err.code == PGQRS_ERR_NOT_FOUND ? refuse_gone(consumer, failure)
                                               : pgqrs_client_fail(failure, &err);
    }
    consumer->beaten_ms = pgqrs_mono_ms();
    return 0;
}

int pgqrs_consumer_resume(struct pgqrs_consumer *consumer, struct pgqrs_failure *failure)
{
    return pgqrs_worker_resume(consumer->client, consumer->id, failure);
}

int64_t pgqrs_consumer_shutdown(struct pgqrs_consumer **consumer, struct pgqrs_failure *failure)
{
    static const struct pgqrs_release release; /* nothing is charged */
    struct pgqrs_error err;
    enum pgqrs_worker_state state = PGQRS_WORKER_NONE;
    if (consumer == NULL || *consumer == NULL) {
        return 0;
    }
    struct pgqrs_consumer *c = *consumer;
    if (pgqrs_client_need(c->client, failure) < 0) {
        return -1;
    }
    int mine = pgqrs_consumer_row(c, &state, &err);
    int64_t freed = 0;
    if (mine > 0 && state != PGQRS_WORKER_STOPPED) {
        freed = pgqrs_store_worker_end(c->client->store, c->id, &release, &err);
    }
    if (mine < 0 || freed < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    pgqrs_consumer_free(consumer);
    return freed;
}

void pgqrs_consumer_free(struct pgqrs_consumer **consumer)
{
    if (consumer == NULL || *consumer == NULL) {
        return;
    }
    pgqrs_client_unref((*consumer)->client);
    free(*consumer);
    *consumer = NULL;
}

int64_t pgqrs_consumer_recover(struct pgqrs_consumer *consumer, const struct pgqrs_delivery *held,
                               size_t count, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    if (pgqrs_client_need(consumer->client, failure) < 0) {
        return -1;
    }
    struct pgqrs_lease_ref *known = calloc(count + 1, sizeof *known);
    if (known == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        known[i] = (struct pgqrs_lease_ref){
            .message_id = held[i].id, .worker_id = consumer->id, .attempt = held[i].attempt};
    }
    int64_t freed =
        pgqrs_store_worker_reconcile(consumer->client->store, consumer->id, known, count, &err);
    free(known);
    return freed < 0 ? pgqrs_client_fail(failure, &err) : freed;
}
