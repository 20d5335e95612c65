/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* Workers, what they hold, and the exchange. */

/* ---- settling ---- */

static void note_failure(struct pgqrs_message *row, const struct pgqrs_settlement *item)
{
    row->crash_ct += item->crashed ? 1 : 0;
    size_t len = item->error.len == 0 ? 0 : strnlen(item->error.data, item->error.len);
    if (len > 0) {
        free(row->error);
        row->error = strndup(item->error.data, len);
    }
}

static void end_message(struct pgqrs_message *row, const struct pgqrs_settlement *item,
                        const char *outcome)
{
    row->archived_at_us = pgqrs_wall_us();
    model_set(&row->outcome, outcome);
    model_set(&row->result, NULL);
    if (item->result.len > 0) {
        row->result = strndup(item->result.data, item->result.len);
    }
    note_failure(row, item);
}

static void apply(struct model *m, struct model_message *message,
                  const struct pgqrs_settlement *item)
{
    int64_t later = model_after(pgqrs_wall_us(), item->delay_ms);
    switch (item->how) {
    case PGQRS_SETTLE_ARCHIVE:
        end_message(&message->row, item, "done");
        break;
    case PGQRS_SETTLE_DELETE:
        model_remove(m, message);
        break;
    case PGQRS_SETTLE_DEAD:
        end_message(&message->row, item, "failed");
        break;
    case PGQRS_SETTLE_CANCEL:
        end_message(&message->row, item, "cancelled");
        break;
    case PGQRS_SETTLE_RETRY:
    case PGQRS_SETTLE_SNOOZE:
    case PGQRS_SETTLE_RETURN:
        note_failure(&message->row, item);
        model_give_back(message, item->how == PGQRS_SETTLE_RETURN ? message->due_us : later,
                        item->how == PGQRS_SETTLE_RETRY);
        break;
    case PGQRS_SETTLE_NONE:
    case PGQRS_SETTLE_COUNT:
        break;
    }
}

static int64_t follow_up_queue(struct model *m, const struct pgqrs_follow_up *f,
                               struct pgqrs_error *why)
{
    int64_t id = -1;
    if (pgqrs_store_check_item(&f->item, 0, why) < 0 ||
        m->base.ops->queue_find(&m->base, f->queue, &id, why) < 0) {
        return -1;
    }
    return id;
}

enum pgqrs_settled model_settle(struct model *m, const struct pgqrs_settlement *item)
{
    struct model_message *message = model_message(m, item->message_id);
    if (message == NULL) {
        return item->how == PGQRS_SETTLE_DELETE ? PGQRS_SETTLED_BEFORE : PGQRS_SETTLED_REFUSED;
    }
    if (message->row.consumer_worker_id != item->worker_id ||
        (uint32_t)message->row.read_ct != item->attempt) {
        return PGQRS_SETTLED_REFUSED;
    }
    if (message->row.archived_at_us != 0) {
        return PGQRS_SETTLED_BEFORE;
    }
    for (size_t i = 0; i < item->follow_up_count; i++) {
        struct pgqrs_error why;
        if (follow_up_queue(m, &item->follow_ups[i], &why) < 0) {
            struct pgqrs_settlement dead = *item;
            dead.how = PGQRS_SETTLE_DEAD;
            dead.error = pgqrs_bytes_from(why.text);
            dead.result.len = 0;
            apply(m, message, &dead);
            return PGQRS_SETTLED_YES;
        }
    }
    apply(m, message, item);
    for (size_t i = 0; i < item->follow_up_count; i++) {
        const struct pgqrs_follow_up *f = &item->follow_ups[i];
        bool existed;
        (void)model_insert(m, follow_up_queue(m, f, NULL), &f->item, &existed);
    }
    return PGQRS_SETTLED_YES;
}

/* ---- leasing ---- */

static bool goes_before(const struct pgqrs_message *a, const struct pgqrs_message *b)
{
    if (a->priority != b->priority) {
        return a->priority > b->priority;
    }
    return a->vt_us != b->vt_us ? a->vt_us < b->vt_us : a->id < b->id;
}

static struct model_message *next_for(struct model *m, const struct pgqrs_want *want)
{
    struct model_message *best = NULL;
    for (size_t i = 0; i < m->message_count; i++) {
        struct pgqrs_message *row = &m->messages[i].row;
        if (row->queue_id == want->queue_id && model_is_pending(row) &&
            row->vt_us <= pgqrs_wall_us() && model_attempts(row) < want->max_attempts &&
            (best == NULL || goes_before(row, &best->row))) {
            best = &m->messages[i];
        }
    }
    return best;
}

static void lease(struct pgqrs_exchange *x, size_t want, struct model_message *message)
{
    struct pgqrs_message *row = &message->row;
    if (x->lease_count == x->lease_cap) {
        x->lease_cap = x->lease_cap * 2 + 8;
        x->leases = realloc(x->leases, x->lease_cap * sizeof *x->leases);
        if (x->leases == NULL) {
            abort();
        }
    }
    message->due_us = row->vt_us;
    row->vt_us = model_after(pgqrs_wall_us(), x->wants[want].lease_ms);
    row->consumer_worker_id = x->wants[want].worker_id;
    row->read_ct++;
    row->dequeued_at_us = row->dequeued_at_us == 0 ? pgqrs_wall_us() : row->dequeued_at_us;
    x->leases[x->lease_count++] = (struct pgqrs_lease){
        .want = want,
        .message_id = row->id,
        .attempt = (uint32_t)row->read_ct,
        .priority = row->priority,
        .crash_ct = row->crash_ct,
        .enqueued_at_us = row->enqueued_at_us,
        .waited_us = pgqrs_wall_us() - message->due_us,
        .payload = pgqrs_bytes_from(row->payload), /* no exchange changes one */
    };
}

static void note_due(const struct model *m, struct pgqrs_exchange *x, int64_t queue_id)
{
    for (size_t i = 0; i < m->message_count; i++) {
        const struct pgqrs_message *row = &m->messages[i].row;
        if (row->queue_id == queue_id && model_is_pending(row) && row->vt_us > x->now_us &&
            (x->next_due_us == 0 || row->vt_us < x->next_due_us)) {
            x->next_due_us = row->vt_us;
        }
    }
}

int model_exchange(struct pgqrs_store *store, struct pgqrs_exchange *x, struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    (void)err;
    x->lease_count = 0;
    x->next_due_us = 0;
    x->now_us = pgqrs_wall_us();
    for (size_t i = 0; i < x->settlement_count; i++) {
        x->settlements[i].settled_out = model_settle(m, &x->settlements[i]);
    }
    for (size_t i = 0; i < x->want_count; i++) {
        const struct pgqrs_worker_info *worker = model_worker(m, x->wants[i].worker_id);
        const struct pgqrs_queue *queue = model_queue(m, x->wants[i].queue_id);
        if (worker == NULL || queue == NULL || queue->paused_at_us != 0 ||
            (worker->state != PGQRS_WORKER_READY && worker->state != PGQRS_WORKER_POLLING)) {
            continue;
        }
        uint32_t left = x->wants[i].count;
        struct model_message *message;
        while (left > 0 && (message = next_for(m, &x->wants[i])) != NULL) {
            lease(x, i, message);
            left--;
        }
        if (left > 0) {
            note_due(m, x, x->wants[i].queue_id);
        }
    }
    return 0;
}

int64_t model_renew(struct pgqrs_store *store, const struct pgqrs_lease_ref *leases, size_t count,
                    int64_t lease_ms, bool *held_out, struct pgqrs_error *err)
{
    int64_t held = 0;
    (void)err;
    for (size_t i = 0; i < count; i++) {
        struct model_message *message = model_message(model_of(store), leases[i].message_id);
        bool holds = message != NULL && model_is_leased(&message->row) &&
                     message->row.consumer_worker_id == leases[i].worker_id &&
                     (uint32_t)message->row.read_ct == leases[i].attempt;
        if (holds) {
            message->row.vt_us = model_after(pgqrs_wall_us(), lease_ms);
            held++;
        }
        if (held_out != NULL) {
            held_out[i] = holds;
        }
    }
    return held;
}

/* ---- registering ---- */

static int no_worker(int64_t id, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "worker %lld does not exist", (long long)id);
}

static int64_t held_by(const struct model *m, int64_t worker_id)
{
    int64_t held = 0;
    for (size_t i = 0; i < m->message_count; i++) {
        held += model_is_leased(&m->messages[i].row) &&
                m->messages[i].row.consumer_worker_id == worker_id;
    }
    return held;
}

static void free_all(struct model *m, int64_t worker_id)
{
    for (size_t i = 0; i < m->message_count; i++) {
        if (model_is_leased(&m->messages[i].row) &&
            m->messages[i].row.consumer_worker_id == worker_id) {
            model_give_back(&m->messages[i], pgqrs_wall_us(), true);
        }
    }
}

static bool is_stale(const struct pgqrs_worker_info *worker, int64_t ms)
{
    return model_after(worker->heartbeat_at_us, ms) < pgqrs_wall_us();
}

static struct pgqrs_worker_info *find_name(struct model *m, const char *name)
{
    for (size_t i = 0; name != NULL && i < m->worker_count; i++) {
        if (strcmp(m->workers[i].name, name) == 0) {
            return &m->workers[i];
        }
    }
    return NULL;
}

static struct pgqrs_worker_info *new_worker(struct model *m, const char *name)
{
    char made_up[40];
    m->workers = realloc(m->workers, (m->worker_count + 1) * sizeof *m->workers);
    if (m->workers == NULL) {
        abort();
    }
    struct pgqrs_worker_info *worker = &m->workers[m->worker_count++];
    *worker = (struct pgqrs_worker_info){.id = ++m->last_worker};
    (void)snprintf(made_up, sizeof made_up, "__ephemeral__%lld", (long long)worker->id);
    model_set(&worker->name, name == NULL ? made_up : name);
    return worker;
}

static void fill_worker(struct pgqrs_worker_info *worker, const struct pgqrs_worker_row *row)
{
    worker->queue_id = row->queue_id;
    worker->state = PGQRS_WORKER_READY;
    worker->started_at_us = worker->heartbeat_at_us = pgqrs_wall_us();
    worker->shutdown_at_us = 0;
    worker->generation = row->generation;
    worker->pid = row->pid;
    model_set(&worker->instance, row->instance);
}

int model_worker_register(struct pgqrs_store *store, const struct pgqrs_worker_row *row,
                          int64_t *id_out, struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    struct pgqrs_worker_info *there = find_name(m, row->name);
    if (row->queue_id != 0 && model_queue(m, row->queue_id) == NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "queue %lld does not exist",
                               (long long)row->queue_id);
    }
    bool runs = there != NULL && there->state != PGQRS_WORKER_STOPPED;
    if (runs && row->instance != NULL && there->instance != NULL &&
        strcmp(row->instance, there->instance) == 0 && row->generation == there->generation) {
        *id_out = there->id;
        return 0;
    }
    if (runs && row->instance == NULL) {
        if (row->stale_ms == 0 || !is_stale(there, row->stale_ms)) {
            return pgqrs_error_set(err, PGQRS_ERR_EXISTS, "worker \"%s\" is %s", row->name,
                                   pgqrs_worker_state_name(there->state));
        }
        free_all(m, there->id);
    }
    struct pgqrs_worker_info *worker = there == NULL ? new_worker(m, row->name) : there;
    fill_worker(worker, row);
    *id_out = worker->id;
    return 0;
}

int model_worker_beat(struct pgqrs_store *store, const int64_t *ids, size_t count,
                      struct pgqrs_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < count; i++) {
        struct pgqrs_worker_info *worker = model_worker(model_of(store), ids[i]);
        if (worker == NULL) {
            rc = no_worker(ids[i], err);
        } else {
            worker->heartbeat_at_us = pgqrs_wall_us();
        }
    }
    return rc;
}

/* ---- orders ---- */

static bool is_among(const struct pgqrs_orders *orders, int64_t worker_id)
{
    for (size_t i = 0; i < orders->worker_count; i++) {
        if (orders->worker_ids[i] == worker_id) {
            return true;
        }
    }
    return false;
}

int model_worker_orders(struct pgqrs_store *store, struct pgqrs_orders *orders,
                        struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    bool any = false;
    (void)err;
    for (size_t i = 0; i < orders->worker_count; i++) {
        struct pgqrs_worker_info *worker = model_worker(m, orders->worker_ids[i]);
        orders->states_out[i] = worker == NULL ? PGQRS_WORKER_NONE : worker->state;
        any = any || worker != NULL;
        if (worker != NULL && orders->beat) {
            worker->heartbeat_at_us = pgqrs_wall_us();
        }
    }
    for (size_t i = 0; any && i < m->message_count; i++) {
        struct model_message *at = &m->messages[i];
        if (at->cancel_asked && model_is_leased(&at->row)) {
            if (is_among(orders, at->row.consumer_worker_id) &&
                orders->cancel_count < orders->cancel_max) {
                orders->cancels_out[orders->cancel_count++] = (struct pgqrs_lease_ref){
                    at->row.id, at->row.consumer_worker_id, (uint32_t)at->row.read_ct};
            }
            continue;
        }
        if (at->cancel_asked && at->row.archived_at_us == 0) {
            at->row.archived_at_us = pgqrs_wall_us();
            model_set(&at->row.outcome, "cancelled");
            model_set(&at->row.result, NULL);
            model_set(&at->row.error, PGQRS_CANCELLED_TEXT);
        }
        at->cancel_asked = false;
    }
    return 0;
}

/* ---- ending ---- */

static void stop(struct pgqrs_worker_info *worker)
{
    worker->state = PGQRS_WORKER_STOPPED;
    worker->shutdown_at_us = pgqrs_wall_us();
}

static struct model_message *first_held(struct model *m, int64_t worker_id)
{
    struct model_message *first = NULL;
    for (size_t i = 0; i < m->message_count; i++) {
        struct model_message *at = &m->messages[i];
        if (!model_is_leased(&at->row) || at->row.consumer_worker_id != worker_id) {
            continue;
        }
        bool before = first != NULL && at->row.priority == first->row.priority
                          ? at->due_us < first->due_us
                          : first == NULL || at->row.priority > first->row.priority;
        first = before ? at : first;
    }
    return first;
}

int64_t model_worker_end(struct pgqrs_store *store, int64_t worker_id,
                         const struct pgqrs_release *release, struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    struct model_message *ran = release->charge ? first_held(m, worker_id) : NULL;
    int64_t freed = held_by(m, worker_id);
    (void)err;
    if (ran != NULL) {
        struct pgqrs_settlement item = {.message_id = ran->row.id,
                                        .worker_id = worker_id,
                                        .attempt = (uint32_t)ran->row.read_ct,
                                        .crashed = release->crashed,
                                        .error = pgqrs_bytes_from(release->reason)};
        bool last = release->crashed ? ran->row.crash_ct + 1 >= (int64_t)release->max_crashes
                                     : model_attempts(&ran->row) >= release->max_attempts;
        item.how = last ? PGQRS_SETTLE_DEAD : PGQRS_SETTLE_RETRY;
        (void)model_settle(m, &item);
    }
    (void)model_worker_reconcile(store, worker_id, NULL, 0, err);
    struct pgqrs_worker_info *worker = model_worker(m, worker_id);
    if (worker != NULL) {
        stop(worker);
    }
    return freed;
}

int64_t model_worker_reconcile(struct pgqrs_store *store, int64_t worker_id,
                               const struct pgqrs_lease_ref *known, size_t count,
                               struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    int64_t lost = 0;
    (void)err;
    for (size_t i = 0; i < m->message_count; i++) {
        struct model_message *message = &m->messages[i];
        bool knows =
            !model_is_leased(&message->row) || message->row.consumer_worker_id != worker_id;
        for (size_t k = 0; k < count; k++) {
            knows = knows || (known[k].message_id == message->row.id &&
                              known[k].attempt == (uint32_t)message->row.read_ct);
        }
        if (!knows) {
            model_give_back(message, message->due_us, false);
            lost++;
        }
    }
    return lost;
}

int64_t model_reap(struct pgqrs_store *store, const struct pgqrs_reap *reap,
                   struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    int64_t freed = 0;
    (void)err;
    for (size_t i = 0; i < m->worker_count; i++) {
        struct pgqrs_worker_info *worker = &m->workers[i];
        bool stopped = worker->state == PGQRS_WORKER_STOPPED;
        if ((worker->instance == NULL && !reap->foreign) ||
            (!stopped && !is_stale(worker, reap->stale_ms))) {
            continue;
        }
        for (size_t k = 0; k < m->message_count && freed < reap->limit; k++) {
            struct model_message *message = &m->messages[k];
            if (model_is_leased(&message->row) && message->row.consumer_worker_id == worker->id &&
                message->row.vt_us <= pgqrs_wall_us() &&
                (reap->queue_id == 0 || message->row.queue_id == reap->queue_id)) {
                model_give_back(message, pgqrs_wall_us(), true);
                model_set(&message->row.error, "lease expired: its worker is dead");
                freed++;
            }
        }
        if (!stopped && held_by(m, worker->id) == 0 &&
            (reap->queue_id == 0 || worker->queue_id == reap->queue_id)) {
            stop(worker);
        }
    }
    return freed;
}

/* ---- looking ---- */

static bool passes(const struct pgqrs_worker_filter *f, const struct pgqrs_worker_info *worker)
{
    return (f->id == 0 || f->id == worker->id) &&
           (f->queue_id == 0 || f->queue_id == worker->queue_id) &&
           (f->state == PGQRS_WORKER_NONE || f->state == worker->state) &&
           (f->name_prefix == NULL ||
            strncmp(worker->name, f->name_prefix, strlen(f->name_prefix)) == 0) &&
           (!f->live || worker->state != PGQRS_WORKER_STOPPED) &&
           (!f->ours || worker->instance != NULL) &&
           (f->before_id == 0 || worker->id < f->before_id);
}

int model_worker_list(struct pgqrs_store *store, const struct pgqrs_worker_filter *filter,
                      struct pgqrs_worker_info_list *list_out, struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    struct pgqrs_worker_info_list list = {.items = calloc(m->worker_count + 1, sizeof *list.items),
                                          .now_us = pgqrs_wall_us()};
    (void)err;
    for (size_t i = m->worker_count; i-- > 0 && list.count < filter->limit;) {
        if (list.items != NULL && passes(filter, &m->workers[i])) {
            struct pgqrs_worker_info *copy = &list.items[list.count++];
            *copy = m->workers[i];
            copy->held = held_by(m, copy->id);
            copy->name = copy->instance = NULL;
            model_set(&copy->name, m->workers[i].name);
            model_set(&copy->instance, m->workers[i].instance);
        }
    }
    *list_out = list;
    return 0;
}

#define BIT(state) (1U << PGQRS_WORKER_##state)

int model_worker_move(struct pgqrs_store *store, int64_t worker_id, enum pgqrs_worker_move move,
                      struct pgqrs_error *err)
{
    static const struct {
        unsigned from;
        enum pgqrs_worker_state to;
    } moves[PGQRS_MOVE_COUNT] = {
        [PGQRS_MOVE_POLL] = {BIT(READY) | BIT(POLLING), PGQRS_WORKER_POLLING},
        [PGQRS_MOVE_COMPLETE_POLL] = {BIT(POLLING), PGQRS_WORKER_READY},
        [PGQRS_MOVE_INTERRUPT] = {BIT(READY) | BIT(POLLING), PGQRS_WORKER_INTERRUPTED},
        [PGQRS_MOVE_SUSPEND] = {BIT(READY) | BIT(POLLING) | BIT(INTERRUPTED),
                                PGQRS_WORKER_SUSPENDED},
        [PGQRS_MOVE_RESUME] = {BIT(SUSPENDED), PGQRS_WORKER_READY},
        [PGQRS_MOVE_SHUTDOWN] = {BIT(SUSPENDED), PGQRS_WORKER_STOPPED},
        [PGQRS_MOVE_STOP] = {~0U, PGQRS_WORKER_STOPPED},
    };
    struct model *m = model_of(store);
    struct pgqrs_worker_info *worker = model_worker(m, worker_id);
    if (worker == NULL) {
        return no_worker(worker_id, err);
    }
    if ((moves[move].from & 1U << worker->state) == 0 ||
        (move == PGQRS_MOVE_SHUTDOWN && held_by(m, worker_id) > 0)) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT, "worker %lld is %s and holds %lld",
                               (long long)worker_id, pgqrs_worker_state_name(worker->state),
                               (long long)held_by(m, worker_id));
    }
    if (move == PGQRS_MOVE_STOP) {
        free_all(m, worker_id);
    }
    worker->state = moves[move].to;
    if (worker->state == PGQRS_WORKER_STOPPED) {
        stop(worker);
    }
    return 0;
}

int model_worker_stats(struct pgqrs_store *store, int64_t queue_id, int64_t stale_ms,
                       struct pgqrs_worker_stats *stats_out, struct pgqrs_error *err)
{
    struct model *m = model_of(store);
    struct pgqrs_worker_stats s = {.now_us = pgqrs_wall_us()};
    (void)err;
    for (size_t i = 0; i < m->worker_count; i++) {
        const struct pgqrs_worker_info *worker = &m->workers[i];
        if (queue_id != 0 && worker->queue_id != (queue_id == -1 ? 0 : queue_id)) {
            continue;
        }
        enum pgqrs_worker_state state = worker->state;
        bool awake = state == PGQRS_WORKER_READY || state == PGQRS_WORKER_POLLING;
        s.total++;
        s.ready += state == PGQRS_WORKER_READY;
        s.polling += state == PGQRS_WORKER_POLLING;
        s.suspended += state == PGQRS_WORKER_SUSPENDED;
        s.interrupted += state == PGQRS_WORKER_INTERRUPTED;
        s.stopped += state == PGQRS_WORKER_STOPPED;
        s.stale += awake && is_stale(worker, stale_ms);
        s.held += held_by(m, worker->id);
        if (state == PGQRS_WORKER_STOPPED) {
            continue;
        }
        if (s.oldest_start_us == 0 || worker->started_at_us < s.oldest_start_us) {
            s.oldest_start_us = worker->started_at_us;
        }
        if (worker->heartbeat_at_us > s.newest_beat_us) {
            s.newest_beat_us = worker->heartbeat_at_us;
        }
    }
    *stats_out = s;
    return 0;
}
