/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_random.h"

#include <stdio.h>
#include <string.h>

/* All that is stored, in the model and in the store. */

#define SAME_NUMBER(r, what, found, expected)                                                      \
    do {                                                                                           \
        int64_t found_ = (int64_t)(found);                                                         \
        int64_t expected_ = (int64_t)(expected);                                                   \
        if (found_ != expected_) {                                                                 \
            random_wrong(r, "%s: " #found " is %lld, expected %lld", what, (long long)found_,      \
                         (long long)expected_);                                                    \
        }                                                                                          \
    } while (0)

static const char *shown(const char *text)
{
    return text == NULL ? "(none)" : text;
}

static void same_text(struct random_run *r, const char *what, const char *field, const char *found,
                      const char *expected)
{
    if (strcmp(shown(found), shown(expected)) != 0) {
        random_wrong(r, "%s: %s is %s, expected %s", what, field, shown(found), shown(expected));
    }
}

/* The words of an error that the store itself makes are its own. */
static bool own_words(const char *found, const char *expected)
{
    char queue[40];
    if (found == NULL || expected == NULL) {
        return false;
    }
    if (sscanf(expected, "queue %39s does not exist", queue) == 1) {
        return strstr(found, queue) != NULL;
    }
    return strncmp(expected, "attempts used up", 16) == 0 && strstr(found, "attempts") != NULL;
}

static void same_message(struct random_run *r, const struct pgqrs_message *found,
                         const struct pgqrs_message *expected)
{
    char what[60];
    (void)snprintf(what, sizeof what, "message %lld", (long long)expected->id);
    SAME_NUMBER(r, what, random_model(&r->messages, found->id), expected->id);
    SAME_NUMBER(r, what, random_model(&r->queues, found->queue_id), expected->queue_id);
    SAME_NUMBER(r, what, found->state, expected->state);
    SAME_NUMBER(r, what, found->enqueued_at_us, expected->enqueued_at_us);
    if (!random_same_time(r, found->vt_us, expected->vt_us)) {
        SAME_NUMBER(r, what, found->vt_us, expected->vt_us);
    }
    SAME_NUMBER(r, what, found->dequeued_at_us, expected->dequeued_at_us);
    SAME_NUMBER(r, what, found->archived_at_us, expected->archived_at_us);
    SAME_NUMBER(r, what, random_model(&r->workers, found->consumer_worker_id),
                expected->consumer_worker_id);
    SAME_NUMBER(r, what, random_model(&r->workers, found->producer_worker_id),
                expected->producer_worker_id);
    SAME_NUMBER(r, what, found->read_ct, expected->read_ct);
    SAME_NUMBER(r, what, found->priority, expected->priority);
    SAME_NUMBER(r, what, found->crash_ct, expected->crash_ct);
    same_text(r, what, "payload", found->payload, expected->payload);
    same_text(r, what, "key", found->unique_key, expected->unique_key);
    same_text(r, what, "outcome", found->outcome, expected->outcome);
    same_text(r, what, "result", found->result, expected->result);
    if (!own_words(found->error, expected->error)) {
        same_text(r, what, "error", found->error, expected->error);
    }
}

/* Newest first, in pages of any size. */
static void same_messages(struct random_run *r, struct pgqrs_message_filter filter)
{
    struct pgqrs_error err;
    struct pgqrs_message_list expected;
    struct pgqrs_message_list list;
    struct pgqrs_message_filter all = filter;
    size_t seen = 0;
    all.limit = 1000000;
    (void)r->model->ops->message_list(r->model, &all, &expected, &err);
    filter.queue_id = random_real(&r->queues, filter.queue_id);
    filter.consumer_worker_id = random_real(&r->workers, filter.consumer_worker_id);
    do {
        if (pgqrs_store_message_list(r->store, &filter, &list, &err) < 0) {
            random_wrong(r, "message list: %s", err.text);
            break;
        }
        for (size_t i = 0; i < list.count && r->wrong[0] == 0; i++, seen++) {
            if (seen == expected.count) {
                random_wrong(r, "message list: found message %lld that should not be there",
                             (long long)random_model(&r->messages, list.items[i].id));
                break;
            }
            same_message(r, &list.items[i], &expected.items[seen]);
        }
        filter.before_id = list.next_before_id;
        pgqrs_message_list_fini(&list);
    } while (filter.before_id != 0 && r->wrong[0] == 0);
    if (seen < expected.count) {
        random_wrong(r, "message list: message %lld is missing",
                     (long long)expected.items[seen].id);
    }
    pgqrs_message_list_fini(&expected);
}

static void same_worker(struct random_run *r, const struct pgqrs_worker_info *found,
                        const struct pgqrs_worker_info *expected)
{
    char what[60];
    (void)snprintf(what, sizeof what, "worker %lld", (long long)expected->id);
    SAME_NUMBER(r, what, random_model(&r->workers, found->id), expected->id);
    SAME_NUMBER(r, what, random_model(&r->queues, found->queue_id), expected->queue_id);
    SAME_NUMBER(r, what, found->state, expected->state);
    SAME_NUMBER(r, what, found->started_at_us, expected->started_at_us);
    SAME_NUMBER(r, what, found->heartbeat_at_us, expected->heartbeat_at_us);
    SAME_NUMBER(r, what, found->shutdown_at_us != 0, expected->shutdown_at_us != 0);
    SAME_NUMBER(r, what, found->held, expected->held);
    SAME_NUMBER(r, what, found->generation, expected->generation);
    SAME_NUMBER(r, what, found->pid, expected->pid);
    same_text(r, what, "instance", found->instance, expected->instance);
    if (strncmp(expected->name, "__ephemeral__", 13) != 0) {
        same_text(r, what, "name", found->name, expected->name);
    }
}

static void same_workers(struct random_run *r, struct pgqrs_worker_filter filter)
{
    struct pgqrs_error err;
    struct pgqrs_worker_info_list expected;
    struct pgqrs_worker_info_list list;
    size_t seen = 0;
    uint32_t limit = filter.limit;
    filter.limit = 1000000;
    (void)r->model->ops->worker_list(r->model, &filter, &expected, &err);
    filter.limit = limit;
    filter.queue_id = random_real(&r->queues, filter.queue_id);
    do {
        if (pgqrs_store_worker_list(r->store, &filter, &list, &err) < 0) {
            random_wrong(r, "worker list: %s", err.text);
            break;
        }
        for (size_t i = 0; i < list.count && r->wrong[0] == 0; i++, seen++) {
            if (seen == expected.count) {
                random_wrong(r, "worker list: found one too many");
                break;
            }
            same_worker(r, &list.items[i], &expected.items[seen]);
            filter.before_id = list.items[i].id;
        }
        limit = list.count == filter.limit ? limit : 0;
        pgqrs_worker_info_list_fini(&list);
    } while (limit != 0 && r->wrong[0] == 0);
    if (seen < expected.count) {
        random_wrong(r, "worker list: worker %lld is missing", (long long)expected.items[seen].id);
    }
    pgqrs_worker_info_list_fini(&expected);
}

static void same_queues(struct random_run *r)
{
    const struct model *m = model_of(r->model);
    struct pgqrs_error err;
    struct pgqrs_queue_list list;
    if (pgqrs_store_queue_list(r->store, 0, 1000, &list, &err) < 0) {
        random_wrong(r, "queue list: %s", err.text);
        return;
    }
    SAME_NUMBER(r, "queues", list.count, m->queue_count);
    for (size_t i = 0; i < list.count && r->wrong[0] == 0; i++) {
        SAME_NUMBER(r, "queue", random_model(&r->queues, list.items[i].id), m->queues[i].id);
        same_text(r, "queue", "name", list.items[i].name, m->queues[i].name);
        SAME_NUMBER(r, m->queues[i].name, list.items[i].created_at_us, m->queues[i].created_at_us);
        SAME_NUMBER(r, m->queues[i].name, list.items[i].paused_at_us, m->queues[i].paused_at_us);
    }
    pgqrs_queue_list_fini(&list);
}

static void same_numbers(struct random_run *r, int64_t queue_id)
{
    struct pgqrs_error err;
    struct pgqrs_queue_metrics a;
    struct pgqrs_queue_metrics b;
    struct pgqrs_worker_stats s;
    struct pgqrs_worker_stats t;
    char what[40];
    (void)snprintf(what, sizeof what, "queue %lld", (long long)queue_id);
    (void)r->model->ops->queue_metrics(r->model, queue_id, 0, &b, &err);
    (void)r->model->ops->worker_stats(r->model, queue_id, 2000, &t, &err);
    int64_t real = random_real(&r->queues, queue_id);
    if (pgqrs_store_queue_metrics(r->store, real, 0, &a, &err) < 0 ||
        pgqrs_store_worker_stats(r->store, real, 2000, &s, &err) < 0) {
        random_wrong(r, "%s: %s", what, err.text);
        return;
    }
    SAME_NUMBER(r, what, a.total, b.total);
    SAME_NUMBER(r, what, a.pending, b.pending);
    SAME_NUMBER(r, what, a.ready, b.ready);
    SAME_NUMBER(r, what, a.leased, b.leased);
    SAME_NUMBER(r, what, a.archived, b.archived);
    SAME_NUMBER(r, what, a.failed, b.failed);
    SAME_NUMBER(r, what, a.oldest_pending_us, b.oldest_pending_us);
    if (b.archived < 1000) {
        SAME_NUMBER(r, what, a.newest_us, b.newest_us);
    }
    if (!random_same_time(r, a.next_due_us, b.next_due_us)) {
        SAME_NUMBER(r, what, a.next_due_us, b.next_due_us);
    }
    SAME_NUMBER(r, what, s.total, t.total);
    SAME_NUMBER(r, what, s.ready, t.ready);
    SAME_NUMBER(r, what, s.polling, t.polling);
    SAME_NUMBER(r, what, s.suspended, t.suspended);
    SAME_NUMBER(r, what, s.interrupted, t.interrupted);
    SAME_NUMBER(r, what, s.stopped, t.stopped);
    SAME_NUMBER(r, what, s.stale, t.stale);
    SAME_NUMBER(r, what, s.held, t.held);
    SAME_NUMBER(r, what, s.oldest_start_us, t.oldest_start_us);
    SAME_NUMBER(r, what, s.newest_beat_us, t.newest_beat_us);
}

void random_compare(struct random_run *r)
{
    const struct model *m = model_of(r->model);
    same_queues(r);
    same_messages(r, (struct pgqrs_message_filter){.limit = 7 + random_below(r, 900)});
    struct pgqrs_message_filter filter = {
        .state = (enum pgqrs_message_state)random_below(r, PGQRS_STATE_COUNT),
        .limit = 1 + random_below(r, 100),
        .outcome = random_below(r, 4) == 0 ? "failed" : NULL,
        .unique_key = random_below(r, 8) == 0 ? "k1" : NULL,
    };
    if (m->queue_count > 0 && random_below(r, 2) == 0) {
        filter.queue_id = m->queues[random_below(r, (uint32_t)m->queue_count)].id;
    }
    if (m->worker_count > 0 && random_below(r, 4) == 0) {
        filter.consumer_worker_id = m->workers[random_below(r, (uint32_t)m->worker_count)].id;
    }
    same_messages(r, filter);
    same_workers(r, (struct pgqrs_worker_filter){.limit = 3 + random_below(r, 100)});
    same_workers(r, (struct pgqrs_worker_filter){
                        .limit = 100,
                        .ours = random_below(r, 2) == 0,
                        .live = random_below(r, 2) == 0,
                        .name_prefix = random_below(r, 2) == 0 ? "w" : NULL,
                        .state = (enum pgqrs_worker_state)random_below(r, 6),
                    });
    same_numbers(r, 0);
    for (size_t i = 0; i < m->queue_count && r->wrong[0] == 0; i++) {
        same_numbers(r, m->queues[i].id);
    }
}

/* ---- orders ---- */

void random_same_orders(struct random_run *r, const int64_t *ids, size_t count, bool beat)
{
    enum { WORKERS = 3, ROOM = 50 };
    int64_t real[WORKERS];
    enum pgqrs_worker_state should[WORKERS] = {0};
    enum pgqrs_worker_state states[WORKERS] = {0};
    struct pgqrs_lease_ref wanted[ROOM];
    struct pgqrs_lease_ref found[ROOM];
    struct pgqrs_error model_err;
    struct pgqrs_error err;
    for (size_t i = 0; i < count; i++) {
        real[i] = random_real(&r->workers, ids[i]);
    }
    struct pgqrs_orders a = {ids, count, beat, should, wanted, ROOM, 0};
    struct pgqrs_orders b = {real, count, beat, states, found, ROOM, 0};
    int model_rc = pgqrs_store_worker_orders(r->model, &a, &model_err);
    int rc = pgqrs_store_worker_orders(r->store, &b, &err);
    if (!random_same_rc(r, model_rc, &model_err, rc, &err)) {
        return;
    }
    bool same = a.cancel_count == b.cancel_count;
    for (size_t i = 0; same && i < a.cancel_count; i++) {
        same = found[i].message_id == random_real(&r->messages, wanted[i].message_id) &&
               found[i].worker_id == random_real(&r->workers, wanted[i].worker_id) &&
               found[i].attempt == wanted[i].attempt;
    }
    if (!same || memcmp(should, states, count * sizeof *states) != 0) {
        random_wrong(r, "orders: other states or cancellations, found %zu, expected %zu",
                     b.cancel_count, a.cancel_count);
    }
}
