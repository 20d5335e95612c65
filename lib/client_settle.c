/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/client_priv.h"

#include <stdlib.h>
#include <string.h>

#define ERROR_MAX 4096
#define VERDICTS_MAX 1000
#define SPENT "its attempts are used up"

/* ---- the parts of a verdict ---- */

/* Cut before a character, not in it. */
static struct pgqrs_bytes error_of(const char *text)
{
    struct pgqrs_bytes error = pgqrs_bytes_from(text);
    if (error.len > ERROR_MAX) {
        error.len = ERROR_MAX;
        while (error.len > 0 && ((unsigned char)error.data[error.len] & 0xc0) == 0x80) {
            error.len--;
        }
    }
    return error;
}

struct settling {
    struct pgqrs_consumer *consumer;
    struct pgqrs_verdict *verdicts;
    size_t count;
    struct pgqrs_settlement *settlements;
    struct pgqrs_buf *results;       /* one for each */
    struct client_items *items;      /* one for each: its follow-ups */
    struct pgqrs_follow_up *follows; /* of all, in order */
};

static int add_result(struct settling *s, size_t i, struct pgqrs_error *err)
{
    const char *result = s->verdicts[i].result;
    if (result == NULL || s->verdicts[i].how != PGQRS_VERDICT_ACK) {
        return 0;
    }
    if (pgqrs_payload_normalise(pgqrs_bytes_from(result), &s->results[i], err) < 0) {
        return pgqrs_error_prefix(err, "result");
    }
    s->settlements[i].result =
        (struct pgqrs_bytes){.data = (const char *)s->results[i].data, .len = s->results[i].len};
    return 0;
}

static bool last_attempt(const struct settling *s, size_t i)
{
    return s->verdicts[i].attempt >= s->consumer->max_attempts;
}

/* Sets how, delay and error; -1 when the verdict is none. */
static int translate(struct settling *s, size_t i)
{
    const struct pgqrs_verdict *v = &s->verdicts[i];
    struct pgqrs_settlement *to = &s->settlements[i];
    to->error = error_of(v->error);
    switch (v->how) {
    case PGQRS_VERDICT_ACK:
        to->how = PGQRS_SETTLE_ARCHIVE;
        to->error = (struct pgqrs_bytes){0};
        return 0;
    case PGQRS_VERDICT_DELETE:
        to->how = PGQRS_SETTLE_DELETE;
        return 0;
    case PGQRS_VERDICT_RETRY:
        to->how = last_attempt(s, i) ? PGQRS_SETTLE_DEAD : PGQRS_SETTLE_RETRY;
        to->delay_ms = v->delay_ms;
        break;
    case PGQRS_VERDICT_SPEND:
        to->how = last_attempt(s, i) ? PGQRS_SETTLE_DEAD : PGQRS_SETTLE_RETRY;
        break;
    case PGQRS_VERDICT_FAIL:
        to->how = PGQRS_SETTLE_DEAD;
        return 0;
    case PGQRS_VERDICT_RELEASE:
        to->how = PGQRS_SETTLE_RETURN;
        return 0;
    case PGQRS_VERDICT_SNOOZE:
        to->how = PGQRS_SETTLE_SNOOZE;
        to->delay_ms = v->delay_ms;
        break;
    default:
        return -1;
    }
    if (to->how == PGQRS_SETTLE_DEAD && to->error.len == 0) {
        to->error = pgqrs_bytes_from(SPENT);
    }
    return to->delay_ms < 0 ? -1 : 0;
}

static int add_follow(struct settling *s, size_t i, struct pgqrs_follow_up *to,
                      struct pgqrs_failure *failure)
{
    const struct pgqrs_verdict *v = &s->verdicts[i];
    if (v->next_count == 0) {
        return 0;
    }
    struct pgqrs_item *items = calloc(v->next_count, sizeof *items);
    if (items == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_MEMORY, "out of memory");
    }
    for (size_t k = 0; k < v->next_count; k++) {
        items[k] = v->next[k].item;
    }
    int rc = pgqrs_client_items_init(&s->items[i], &s->consumer->client->rules, items,
                                     v->next_count, failure);
    free(items);
    for (size_t k = 0; rc == 0 && k < v->next_count; k++) {
        to[k] = (struct pgqrs_follow_up){.queue = v->next[k].queue, .item = s->items[i].items[k]};
        if (to[k].queue == NULL || to[k].item.unique_key != NULL ||
            to[k].item.producer_worker_id != 0) {
            rc = pgqrs_client_refuse(failure, PGQRS_E_INVALID,
                                     "job %zu to add: expected a queue, no unique key and no "
                                     "producer",
                                     k + 1);
        }
    }
    s->settlements[i].follow_ups = to;
    s->settlements[i].follow_up_count = v->next_count;
    return rc;
}

/* ---- settling ---- */

static int prepare_one(struct settling *s, size_t i, struct pgqrs_follow_up *follows,
                       struct pgqrs_failure *failure)
{
    struct pgqrs_verdict *v = &s->verdicts[i];
    struct pgqrs_error err;
    v->told_out = PGQRS_TOLD_NOTHING;
    s->settlements[i] = (struct pgqrs_settlement){
        .message_id = v->id, .worker_id = s->consumer->id, .attempt = v->attempt};
    int rc = PGQRS_CLIENT_RESERVED("verdict", v, failure);
    if (rc == 0 && translate(s, i) < 0) {
        rc = pgqrs_client_refuse(failure, PGQRS_E_INVALID,
                                 "verdict: found kind %d with a delay of %lld ms", (int)v->how,
                                 (long long)v->delay_ms);
    }
    if (rc == 0 && add_result(s, i, &err) < 0) {
        rc = pgqrs_client_fail(failure, &err);
    }
    rc = rc < 0 ? -1 : add_follow(s, i, follows, failure);
    if (rc < 0 && failure != NULL) {
        failure->item = (int64_t)i;
    }
    return rc;
}

static int prepare(struct settling *s, struct pgqrs_failure *failure)
{
    size_t follows = 0;
    for (size_t i = 0; i < s->count; i++) {
        size_t more = s->verdicts[i].next_count;
        if (more > PGQRS_CLIENT_ITEMS_MAX - follows) {
            return pgqrs_client_refuse(failure, PGQRS_E_INVALID,
                                       "verdicts: found over %d jobs to add",
                                       PGQRS_CLIENT_ITEMS_MAX);
        }
        follows += more;
    }
    s->settlements = calloc(s->count + 1, sizeof *s->settlements);
    s->results = calloc(s->count + 1, sizeof *s->results);
    s->items = calloc(s->count + 1, sizeof *s->items);
    s->follows = calloc(follows + 1, sizeof *s->follows);
    if (s->settlements == NULL || s->results == NULL || s->items == NULL || s->follows == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_MEMORY, "out of memory");
    }
    struct pgqrs_follow_up *next = s->follows;
    for (size_t i = 0; i < s->count; i++) {
        if (prepare_one(s, i, next, failure) < 0) {
            return -1;
        }
        next += s->verdicts[i].next_count;
    }
    return 0;
}

/* Returns how many leases were lost. */
static int64_t carry_out(struct settling *s, struct pgqrs_failure *failure)
{
    struct pgqrs_exchange x = {.settlements = s->settlements, .settlement_count = s->count};
    struct pgqrs_error err;
    int rc = pgqrs_store_exchange(s->consumer->client->store, &x, &err);
    pgqrs_exchange_fini(&x);
    if (rc < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    int64_t lost = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct pgqrs_settlement *done = &s->settlements[i];
        bool refused = done->settled_out == PGQRS_SETTLED_REFUSED;
        lost += refused;
        s->verdicts[i].told_out = refused                          ? PGQRS_TOLD_LOST
                                  : done->how == PGQRS_SETTLE_DEAD ? PGQRS_TOLD_DEAD
                                                                   : PGQRS_TOLD_DONE;
    }
    return lost;
}

int64_t pgqrs_settle(struct pgqrs_consumer *consumer, struct pgqrs_verdict *verdicts, size_t count,
                     struct pgqrs_failure *failure)
{
    struct settling s = {.consumer = consumer, .verdicts = verdicts, .count = count};
    if (pgqrs_client_need(consumer->client, failure) < 0) {
        return -1;
    }
    if (count > VERDICTS_MAX) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID,
                                   "verdicts: found %zu, expected up to %d", count, VERDICTS_MAX);
    }
    int64_t lost = prepare(&s, failure) < 0 ? -1 : count == 0 ? 0 : carry_out(&s, failure);
    for (size_t i = 0; i < count; i++) {
        if (s.results != NULL) {
            pgqrs_buf_fini(&s.results[i]);
        }
        if (s.items != NULL) {
            pgqrs_client_items_fini(&s.items[i]);
        }
    }
    free(s.settlements);
    free(s.results);
    free(s.items);
    free(s.follows);
    return lost;
}

/* ---- one delivery ---- */

static int refuse_lost(const struct pgqrs_consumer *consumer, const struct pgqrs_delivery *delivery,
                       struct pgqrs_failure *failure)
{
    return pgqrs_client_refuse(failure, PGQRS_E_LOST,
                               "message %lld: the lease of attempt %lu is not worker %lld's any "
                               "more",
                               (long long)delivery->id, (unsigned long)delivery->attempt,
                               (long long)consumer->id);
}

/* Returns 1 when the message is a dead letter. */
static int settle_one(struct pgqrs_consumer *consumer, const struct pgqrs_delivery *delivery,
                      struct pgqrs_verdict verdict, struct pgqrs_failure *failure)
{
    verdict.id = delivery->id;
    verdict.attempt = delivery->attempt;
    int64_t lost = pgqrs_settle(consumer, &verdict, 1, failure);
    if (lost < 0) {
        if (failure != NULL) {
            failure->item = -1;
        }
        return -1;
    }
    return lost > 0 ? refuse_lost(consumer, delivery, failure)
                    : verdict.told_out == PGQRS_TOLD_DEAD;
}

int pgqrs_delivery_ack(struct pgqrs_consumer *consumer, const struct pgqrs_delivery *delivery,
                       const char *result, struct pgqrs_failure *failure)
{
    const struct pgqrs_verdict verdict = {.how = PGQRS_VERDICT_ACK, .result = result};
    return settle_one(consumer, delivery, verdict, failure);
}

int pgqrs_delivery_delete(struct pgqrs_consumer *consumer, const struct pgqrs_delivery *delivery,
                          struct pgqrs_failure *failure)
{
    const struct pgqrs_verdict verdict = {.how = PGQRS_VERDICT_DELETE};
    return settle_one(consumer, delivery, verdict, failure);
}

int pgqrs_delivery_retry(struct pgqrs_consumer *consumer, const struct pgqrs_delivery *delivery,
                         int64_t delay_ms, const char *error, struct pgqrs_failure *failure)
{
    const struct pgqrs_verdict verdict = {
        .how = PGQRS_VERDICT_RETRY, .delay_ms = delay_ms, .error = error};
    return settle_one(consumer, delivery, verdict, failure);
}

int pgqrs_delivery_fail(struct pgqrs_consumer *consumer, const struct pgqrs_delivery *delivery,
                        const char *error, struct pgqrs_failure *failure)
{
    const struct pgqrs_verdict verdict = {.how = PGQRS_VERDICT_FAIL, .error = error};
    return settle_one(consumer, delivery, verdict, failure) < 0 ? -1 : 0;
}

int pgqrs_delivery_release(struct pgqrs_consumer *consumer, const struct pgqrs_delivery *delivery,
                           struct pgqrs_failure *failure)
{
    const struct pgqrs_verdict verdict = {.how = PGQRS_VERDICT_RELEASE};
    return settle_one(consumer, delivery, verdict, failure);
}

/* ---- extending ---- */

int64_t pgqrs_extend(struct pgqrs_consumer *consumer, const struct pgqrs_delivery *deliveries,
                     size_t count, int64_t lease_ms, bool *held_out, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    if (pgqrs_client_need(consumer->client, failure) < 0) {
        return -1;
    }
    if (lease_ms < 0) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID,
                                   "extend: found a lease of %lld ms, expected 0 or more",
                                   (long long)lease_ms);
    }
    struct pgqrs_lease_ref *leases = calloc(count + 1, sizeof *leases);
    if (leases == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        leases[i] = (struct pgqrs_lease_ref){.message_id = deliveries[i].id,
                                             .worker_id = consumer->id,
                                             .attempt = deliveries[i].attempt};
    }
    int64_t held = count == 0 ? 0
                              : pgqrs_store_renew(consumer->client->store, leases, count,
                                                  lease_ms == 0 ? consumer->lease_ms : lease_ms,
                                                  held_out, &err);
    free(leases);
    return held < 0 ? pgqrs_client_fail(failure, &err) : (int64_t)count - held;
}

int pgqrs_delivery_extend(struct pgqrs_consumer *consumer, const struct pgqrs_delivery *delivery,
                          int64_t lease_ms, struct pgqrs_failure *failure)
{
    int64_t lost = pgqrs_extend(consumer, delivery, 1, lease_ms, NULL, failure);
    return lost < 0 ? -1 : lost > 0 ? refuse_lost(consumer, delivery, failure) : 0;
}
