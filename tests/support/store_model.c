/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* A test that runs out of memory has nothing to say. */
static void *grown(void *items, size_t count, size_t size)
{
    void *more = realloc(items, (count + 1) * size);
    if (more == NULL) {
        abort();
    }
    memset((char *)more + count * size, 0, size);
    return more;
}

void model_set(char **text, const char *value)
{
    char *copy = value == NULL ? NULL : strdup(value);
    if (value != NULL && copy == NULL) {
        abort();
    }
    free(*text);
    *text = copy;
}

int64_t model_after(int64_t us, int64_t ms)
{
    const int64_t most = INT64_C(253402300799999999); /* the last of the year 9999 */
    return ms > (most - us) / 1000 ? most : us + ms * 1000;
}

struct pgqrs_queue *model_queue(struct model *m, int64_t id)
{
    for (size_t i = 0; i < m->queue_count; i++) {
        if (m->queues[i].id == id) {
            return &m->queues[i];
        }
    }
    return NULL;
}

struct pgqrs_worker_info *model_worker(struct model *m, int64_t id)
{
    for (size_t i = 0; i < m->worker_count; i++) {
        if (m->workers[i].id == id) {
            return &m->workers[i];
        }
    }
    return NULL;
}

struct model_message *model_message(struct model *m, int64_t id)
{
    for (size_t i = 0; i < m->message_count; i++) {
        if (m->messages[i].row.id == id) {
            return &m->messages[i];
        }
    }
    return NULL;
}

int64_t model_attempts(const struct pgqrs_message *row)
{
    return (int64_t)row->read_ct - row->crash_ct;
}

bool model_is_leased(const struct pgqrs_message *row)
{
    return row->archived_at_us == 0 && row->consumer_worker_id != 0;
}

bool model_is_pending(const struct pgqrs_message *row)
{
    return row->archived_at_us == 0 && row->consumer_worker_id == 0;
}

void model_remove(struct model *m, struct model_message *message)
{
    size_t at = (size_t)(message - m->messages);
    pgqrs_message_fini(&message->row);
    m->message_count--;
    memmove(message, message + 1, (m->message_count - at) * sizeof *message);
}

void model_give_back(struct model_message *message, int64_t vt_us, bool spent)
{
    message->row.consumer_worker_id = 0;
    message->row.vt_us = vt_us;
    message->row.read_ct -= spent ? 0 : 1;
}

/* ---- queues ---- */

static int no_queue(int64_t id, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "queue %lld does not exist", (long long)id);
}

static int queue_find(struct pgqrs_store *store, const char *name, int64_t *id_out,
                      struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    for (size_t i = 0; i < m->queue_count; i++) {
        if (strcmp(m->queues[i].name, name) == 0) {
            *id_out = m->queues[i].id;
            return 0;
        }
    }
    return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "queue \"%s\" does not exist", name);
}

static int queue_create(struct pgqrs_store *store, const char *name, int64_t *id_out,
                        struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    int64_t taken;
    if (queue_find(store, name, &taken, err) == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_EXISTS, "queue \"%s\" exists", name);
    }
    m->queues = grown(m->queues, m->queue_count, sizeof *m->queues);
    struct pgqrs_queue *queue = &m->queues[m->queue_count++];
    *queue = (struct pgqrs_queue){.id = ++m->last_queue, .created_at_us = pgqrs_wall_us()};
    model_set(&queue->name, name);
    *id_out = queue->id;
    return 0;
}

static int queue_list(struct pgqrs_store *store, int64_t after_id, uint32_t limit,
                      struct pgqrs_queue_list *list_out, struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    (void)err;
    *list_out = (struct pgqrs_queue_list){0};
    for (size_t i = 0; i < m->queue_count && list_out->count < limit; i++) {
        if (m->queues[i].id > after_id) {
            list_out->items = grown(list_out->items, list_out->count, sizeof *list_out->items);
            struct pgqrs_queue *copy = &list_out->items[list_out->count++];
            *copy = m->queues[i];
            copy->name = NULL;
            model_set(&copy->name, m->queues[i].name);
        }
    }
    return 0;
}

static int queue_pause(struct pgqrs_store *store, int64_t queue_id, bool paused,
                       struct pgqrs_error *err)
{
    struct pgqrs_queue *queue = model_queue(model_of(store), queue_id);
    if (queue == NULL) {
        return no_queue(queue_id, err);
    }
    int64_t since = queue->paused_at_us == 0 ? pgqrs_wall_us() : queue->paused_at_us;
    queue->paused_at_us = paused ? since : 0;
    return 0;
}

static bool is_named(const struct model *m, int64_t worker_id)
{
    for (size_t i = 0; i < m->message_count; i++) {
        if (m->messages[i].row.consumer_worker_id == worker_id ||
            m->messages[i].row.producer_worker_id == worker_id) {
            return true;
        }
    }
    return false;
}

static void remove_worker(struct model *m, struct pgqrs_worker_info *worker)
{
    size_t at = (size_t)(worker - m->workers);
    free(worker->name);
    free(worker->instance);
    m->worker_count--;
    memmove(worker, worker + 1, (m->worker_count - at) * sizeof *worker);
}

int model_worker_delete(struct pgqrs_store *store, int64_t worker_id, struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    struct pgqrs_worker_info *worker = model_worker(m, worker_id);
    if (worker == NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "worker %lld does not exist",
                               (long long)worker_id);
    }
    if (is_named(m, worker_id)) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT, "worker %lld: messages name it",
                               (long long)worker_id);
    }
    remove_worker(m, worker);
    return 0;
}

int64_t model_worker_purge(struct pgqrs_store *store, int64_t older_ms, uint32_t limit,
                           struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    int64_t gone = 0;
    (void)err;
    for (size_t i = 0; i < m->worker_count && gone < limit;) {
        struct pgqrs_worker_info *worker = &m->workers[i];
        if (worker->state != PGQRS_WORKER_STOPPED || is_named(m, worker->id) ||
            model_after(worker->heartbeat_at_us, older_ms) >= pgqrs_wall_us()) {
            i++;
            continue;
        }
        remove_worker(m, worker);
        gone++;
    }
    return gone;
}

static int queue_delete(struct pgqrs_store *store, int64_t queue_id, struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    struct pgqrs_queue *queue = model_queue(m, queue_id);
    const char *way = NULL;
    if (queue == NULL) {
        return no_queue(queue_id, err);
    }
    for (size_t i = 0; i < m->message_count; i++) {
        way = m->messages[i].row.queue_id != queue_id  ? way
              : m->messages[i].row.archived_at_us == 0 ? "live messages"
                                                       : "archived messages";
    }
    for (size_t i = 0; i < m->worker_count; i++) {
        bool runs = m->workers[i].state != PGQRS_WORKER_STOPPED;
        way = m->workers[i].queue_id == queue_id && runs ? "a worker that is not stopped" : way;
    }
    if (way != NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT, "queue %lld: found %s", (long long)queue_id,
                               way);
    }
    for (size_t i = m->worker_count; i-- > 0;) {
        if (m->workers[i].queue_id == queue_id) {
            m->workers[i].queue_id = 0;
            if (!is_named(m, m->workers[i].id)) {
                remove_worker(m, &m->workers[i]);
            }
        }
    }
    size_t at = (size_t)(queue - m->queues);
    free(queue->name);
    m->queue_count--;
    memmove(queue, queue + 1, (m->queue_count - at) * sizeof *queue);
    return 0;
}

static int64_t queue_purge(struct pgqrs_store *store, int64_t queue_id, unsigned what,
                           uint32_t limit, struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    int64_t gone = 0;
    (void)err;
    for (size_t i = 0; i < m->message_count && gone < limit;) {
        const struct pgqrs_message *row = &m->messages[i].row;
        unsigned bit = row->archived_at_us != 0 ? PGQRS_PURGE_ARCHIVED
                       : model_is_leased(row)   ? PGQRS_PURGE_LEASED
                                                : PGQRS_PURGE_PENDING;
        if (row->queue_id != queue_id || (what & bit) == 0) {
            i++;
            continue;
        }
        model_remove(m, &m->messages[i]);
        gone++;
    }
    return gone;
}

static void count_one(struct pgqrs_queue_metrics *c, const struct pgqrs_message *row)
{
    bool pending = model_is_pending(row);
    c->total++;
    c->leased += model_is_leased(row);
    c->archived += row->archived_at_us != 0;
    c->failed += row->outcome != NULL && strcmp(row->outcome, "failed") == 0;
    c->newest_us = row->enqueued_at_us > c->newest_us ? row->enqueued_at_us : c->newest_us;
    if (!pending) {
        return;
    }
    c->pending++;
    c->ready += row->vt_us <= c->now_us;
    if (c->oldest_pending_us == 0 || row->enqueued_at_us < c->oldest_pending_us) {
        c->oldest_pending_us = row->enqueued_at_us;
    }
    if (row->vt_us > c->now_us && (c->next_due_us == 0 || row->vt_us < c->next_due_us)) {
        c->next_due_us = row->vt_us;
    }
}

static int queue_metrics(struct pgqrs_store *store, int64_t queue_id, uint64_t count_max,
                         struct pgqrs_queue_metrics *metrics_out, struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    struct pgqrs_queue_metrics c = {.now_us = pgqrs_wall_us()};
    (void)err;
    for (size_t i = 0; i < m->message_count; i++) {
        if (queue_id == 0 || m->messages[i].row.queue_id == queue_id) {
            count_one(&c, &m->messages[i].row);
        }
    }
    int64_t *counts[] = {&c.pending, &c.ready, &c.leased, &c.archived, &c.failed};
    for (size_t i = 0; count_max != 0 && i < sizeof counts / sizeof *counts; i++) {
        *counts[i] = *counts[i] > (int64_t)count_max ? (int64_t)count_max : *counts[i];
    }
    c.total = count_max == 0 ? c.total : c.pending + c.leased + c.archived;
    *metrics_out = c;
    return 0;
}

/* ---- messages ---- */

int64_t model_insert(struct model *m, int64_t queue_id, const struct pgqrs_enqueue *item,
                     bool *existed_out)
{
    if (model_queue(m, queue_id) == NULL) {
        return -1;
    }
    for (size_t i = 0; item->unique_key != NULL && i < m->message_count; i++) {
        const struct pgqrs_message *row = &m->messages[i].row;
        if (row->queue_id == queue_id && row->archived_at_us == 0 && row->unique_key != NULL &&
            strcmp(row->unique_key, item->unique_key) == 0) {
            *existed_out = true;
            return row->id;
        }
    }
    m->messages = grown(m->messages, m->message_count, sizeof *m->messages);
    struct pgqrs_message *row = &m->messages[m->message_count++].row;
    int64_t now = pgqrs_wall_us();
    *row = (struct pgqrs_message){
        .id = ++m->last_message,
        .queue_id = queue_id,
        .enqueued_at_us = now,
        .vt_us = item->at_us != 0 ? item->at_us : model_after(now, item->delay_ms),
        .priority = item->priority,
        .producer_worker_id = item->producer_worker_id,
    };
    row->payload = strndup(item->payload.data, item->payload.len);
    model_set(&row->unique_key, item->unique_key);
    *existed_out = false;
    return row->id;
}

static int enqueue(struct pgqrs_store *store, int64_t queue_id, const struct pgqrs_enqueue *items,
                   size_t count, int64_t *ids_out, bool *existed_out, struct pgqrs_error *err)
{
    for (size_t i = 0; i < count; i++) {
        bool existed;
        ids_out[i] = model_insert(model_of(store), queue_id, &items[i], &existed);
        if (ids_out[i] < 0) {
            return no_queue(queue_id, err);
        }
        if (existed_out != NULL) {
            existed_out[i] = existed;
        }
    }
    return 0;
}

static enum pgqrs_message_state state_of(const struct pgqrs_message *row)
{
    return row->archived_at_us != 0        ? PGQRS_STATE_ARCHIVED
           : row->consumer_worker_id != 0  ? PGQRS_STATE_LEASED
           : row->vt_us <= pgqrs_wall_us() ? PGQRS_STATE_READY
                                           : PGQRS_STATE_DELAYED;
}

static void copy_message(struct pgqrs_message *copy, const struct pgqrs_message *row)
{
    *copy = *row;
    copy->state = state_of(row);
    copy->payload = copy->unique_key = copy->outcome = copy->result = copy->error = NULL;
    model_set(&copy->payload, row->payload);
    model_set(&copy->unique_key, row->unique_key);
    model_set(&copy->outcome, row->outcome);
    model_set(&copy->result, row->result);
    model_set(&copy->error, row->error);
}

static int message_get(struct pgqrs_store *store, int64_t id, struct pgqrs_message *message_out,
                       struct pgqrs_error *err)
{
    const struct model_message *message = model_message(model_of(store), id);
    if (message == NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "message %lld does not exist",
                               (long long)id);
    }
    copy_message(message_out, &message->row);
    return 0;
}

static bool same_text(const char *wanted, const char *found)
{
    return wanted == NULL || (found != NULL && strcmp(wanted, found) == 0);
}

static bool passes(const struct pgqrs_message_filter *filter, const struct pgqrs_message *row)
{
    return (filter->queue_id == 0 || filter->queue_id == row->queue_id) &&
           (filter->state == PGQRS_STATE_NONE || filter->state == state_of(row)) &&
           same_text(filter->outcome, row->outcome) &&
           same_text(filter->unique_key, row->unique_key) &&
           (filter->consumer_worker_id == 0 ||
            filter->consumer_worker_id == row->consumer_worker_id) &&
           (filter->before_id == 0 || row->id < filter->before_id);
}

static int message_list(struct pgqrs_store *store, const struct pgqrs_message_filter *filter,
                        struct pgqrs_message_list *list_out, struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    struct pgqrs_message_list list = {0};
    (void)err;
    for (size_t i = m->message_count; i-- > 0;) {
        if (!passes(filter, &m->messages[i].row)) {
            continue;
        }
        if (list.count > 0 && list.count == filter->limit) {
            list.next_before_id = list.items[list.count - 1].id;
            break;
        }
        list.items = grown(list.items, list.count, sizeof *list.items);
        copy_message(&list.items[list.count++], &m->messages[i].row);
    }
    *list_out = list;
    return 0;
}

/* ---- acts ---- */

static bool key_taken(const struct model *m, const struct pgqrs_message *row)
{
    for (size_t i = 0; row->unique_key != NULL && i < m->message_count; i++) {
        const struct pgqrs_message *other = &m->messages[i].row;
        if (other->queue_id == row->queue_id && other->archived_at_us == 0 &&
            other->unique_key != NULL && strcmp(other->unique_key, row->unique_key) == 0) {
            return true;
        }
    }
    return false;
}

static void replay(struct model_message *message)
{
    struct pgqrs_message *row = &message->row;
    row->vt_us = row->enqueued_at_us = pgqrs_wall_us();
    row->archived_at_us = row->dequeued_at_us = row->consumer_worker_id = message->due_us = 0;
    row->read_ct = row->crash_ct = 0;
    message->cancel_asked = false;
    model_set(&row->outcome, NULL);
    model_set(&row->result, NULL);
    model_set(&row->error, NULL);
}

static bool is_ours(struct model *m, const struct pgqrs_message *row)
{
    const struct pgqrs_worker_info *worker = model_worker(m, row->consumer_worker_id);
    return worker != NULL && worker->instance != NULL && worker->state != PGQRS_WORKER_STOPPED;
}

static enum pgqrs_acted act_on(struct model *m, enum pgqrs_act act, int64_t id)
{
    struct model_message *message = model_message(m, id);
    if (message == NULL) {
        return PGQRS_ACTED_NOT_FOUND;
    }
    struct pgqrs_message *row = &message->row;
    enum pgqrs_acted is = row->archived_at_us != 0 ? PGQRS_ACTED_ARCHIVED
                          : model_is_leased(row)   ? PGQRS_ACTED_LEASED
                                                   : PGQRS_ACTED_WAITING;
    if (act == PGQRS_ACT_CANCEL && is == PGQRS_ACTED_WAITING) {
        row->archived_at_us = pgqrs_wall_us();
        model_set(&row->outcome, "cancelled");
    } else if (act == PGQRS_ACT_CANCEL && is == PGQRS_ACTED_LEASED && is_ours(m, row)) {
        message->cancel_asked = true;
        return PGQRS_ACTED_ASKED;
    } else if (act == PGQRS_ACT_DELETE && is != PGQRS_ACTED_LEASED) {
        model_remove(m, message);
    } else if (act == PGQRS_ACT_FREE && is == PGQRS_ACTED_LEASED) {
        model_give_back(message, pgqrs_wall_us(), true);
    } else if (act == PGQRS_ACT_REPLAY && is == PGQRS_ACTED_ARCHIVED) {
        if (key_taken(m, row)) {
            return PGQRS_ACTED_KEY;
        }
        replay(message);
    } else {
        return is;
    }
    return PGQRS_ACTED_YES;
}

static int64_t message_act(struct pgqrs_store *store, enum pgqrs_act act, const int64_t *ids,
                           size_t count, enum pgqrs_acted *acted_out, struct pgqrs_error *err)
{
    int64_t acted = 0;
    (void)err;
    for (size_t i = 0; i < count; i++) {
        acted_out[i] = act_on(model_of(store), act, ids[i]);
        acted += acted_out[i] == PGQRS_ACTED_YES;
    }
    return acted;
}

/* ---- housekeeping ---- */

static int64_t prune(struct pgqrs_store *store, struct pgqrs_prune *step, struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    int64_t gone = 0;
    (void)err;
    for (size_t i = 0; i < m->message_count && gone < step->limit;) {
        const struct pgqrs_message *row = &m->messages[i].row;
        bool failed = row->outcome != NULL && strcmp(row->outcome, "failed") == 0;
        if ((step->queue_id != 0 && row->queue_id != step->queue_id) || row->archived_at_us == 0 ||
            failed != (step->what == PGQRS_PRUNE_FAILED) ||
            model_after(row->archived_at_us, step->age_ms) >= pgqrs_wall_us()) {
            i++;
            continue;
        }
        step->from_id = row->id;
        model_remove(m, &m->messages[i]);
        gone++;
    }
    step->from_us = gone < step->limit ? 0 : pgqrs_wall_us();
    step->from_id = gone < step->limit ? 0 : step->from_id;
    return gone;
}

static int64_t bury(struct pgqrs_store *store, int64_t queue_id, uint32_t max_attempts,
                    struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    int64_t buried = 0;
    (void)err;
    for (size_t i = 0; i < m->message_count; i++) {
        struct pgqrs_message *row = &m->messages[i].row;
        if (row->queue_id != queue_id || state_of(row) != PGQRS_STATE_READY ||
            model_attempts(row) < max_attempts) {
            continue;
        }
        row->archived_at_us = pgqrs_wall_us();
        model_set(&row->outcome, "failed");
        if (row->error == NULL) {
            model_set(&row->error, "attempts used up");
        }
        buried++;
    }
    return buried;
}

/* ---- the store ---- */

static int info(struct pgqrs_store *store, struct pgqrs_store_info *info_out,
                struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    (void)err;
    *info_out = (struct pgqrs_store_info){.queues = (int64_t)m->queue_count,
                                          .schema_version = 2,
                                          .pgqrs_schema = "0.5.0",
                                          .server = "a model"};
    for (size_t i = 0; i < m->queue_count; i++) {
        info_out->paused_queues += m->queues[i].paused_at_us != 0;
    }
    return 0;
}

static int claim(struct pgqrs_store *store, const char *site, struct pgqrs_error *err)
{
    (void)store;
    (void)site;
    (void)err;
    return 1;
}

static int nothing(struct pgqrs_store *store, struct pgqrs_error *err)
{
    (void)store;
    (void)err;
    return 0;
}

static void close_model(struct pgqrs_store *store)
{
    struct model *m = model_of(store);
    while (m->message_count > 0) {
        model_remove(m, &m->messages[m->message_count - 1]);
    }
    while (m->worker_count > 0) {
        remove_worker(m, &m->workers[m->worker_count - 1]);
    }
    for (size_t i = 0; i < m->queue_count; i++) {
        free(m->queues[i].name);
    }
    free(m->messages);
    free(m->workers);
    free(m->queues);
    free(m);
}

static const struct pgqrs_store_ops model_ops = {
    .name = "model",
    .close = close_model,
    .claim = claim,
    .install = nothing,
    .verify = nothing,
    .queue_create = queue_create,
    .queue_find = queue_find,
    .queue_list = queue_list,
    .queue_pause = queue_pause,
    .queue_delete = queue_delete,
    .queue_purge = queue_purge,
    .queue_metrics = queue_metrics,
    .enqueue = enqueue,
    .message_get = message_get,
    .message_list = message_list,
    .message_act = message_act,
    .prune = prune,
    .bury = bury,
    .reap = model_reap,
    .worker_register = model_worker_register,
    .worker_beat = model_worker_beat,
    .worker_orders = model_worker_orders,
    .worker_end = model_worker_end,
    .worker_reconcile = model_worker_reconcile,
    .worker_list = model_worker_list,
    .worker_move = model_worker_move,
    .worker_delete = model_worker_delete,
    .worker_purge = model_worker_purge,
    .worker_stats = model_worker_stats,
    .info = info,
    .exchange = model_exchange,
    .renew = model_renew,
};

struct pgqrs_store *model_open(void)
{
    struct model *m = calloc(1, sizeof *m);
    if (m == NULL) {
        abort();
    }
    m->base.ops = &model_ops;
    return &m->base;
}
