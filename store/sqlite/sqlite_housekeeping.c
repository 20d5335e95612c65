/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Steps for a broker's clock: each looks at no more rows than its limit, by an index, and takes the
 * lock that writers need only when it has found something to do.
 */

/* ---- pruning ---- */

/* A row that a step of pruning met. */
struct met {
    int64_t us; /* when it was archived; below 0: the text has no fraction, see place_of */
    int64_t id;
    bool may_go;
};

struct met_list {
    struct met *items;
    size_t count, cap;
};

/*
 * Where a row is in the order of the index, as a number: pgqrs writes "12:00:00" where we write
 * "12:00:00.000000", which comes after it. The shorter one is the negative of its time.
 */
static int64_t place_of(sqlite3_stmt *row, int column)
{
    int64_t us = 0;
    pgqrs_sqlite_time(row, column, &us);
    return memchr(sqlite3_column_text(row, column), '.',
                  (size_t)sqlite3_column_bytes(row, column)) == NULL
               ? -us
               : us;
}

static struct moment moment_of(int64_t place)
{
    struct moment moment = pgqrs_sqlite_moment(place < 0 ? -place : place);
    char *dot = place < 0 ? strchr(moment.text, '.') : NULL;
    if (dot != NULL) {
        *dot = 0;
    }
    return moment;
}

static int by_place(const void *a, const void *b)
{
    const struct met *x = a;
    const struct met *y = b;
    int64_t tx = x->us < 0 ? -x->us : x->us;
    int64_t ty = y->us < 0 ? -y->us : y->us;
    if (tx != ty) {
        return tx < ty ? -1 : 1;
    }
    if (x->us != y->us) {
        return x->us < y->us ? -1 : 1;
    }
    return (x->id > y->id) - (x->id < y->id);
}

static int add_met(struct met_list *list, struct met met, struct pgqrs_error *err)
{
    if (list->count == list->cap) {
        size_t cap = list->cap == 0 ? 64 : list->cap * 2;
        struct met *items = realloc(list->items, cap * sizeof *items);
        if (items == NULL) {
            return pgqrs_error_memory(err);
        }
        list->items = items;
        list->cap = cap;
    }
    list->items[list->count++] = met;
    return 0;
}

/* Appends the next rows of a queue, limit at most. */
static int meet(struct sqlite_store *s, int64_t queue_id, const struct pgqrs_prune *prune,
                const char *cutoff, struct met_list *list, struct pgqrs_error *err)
{
    bool failed = prune->what == PGQRS_PRUNE_FAILED;
    const struct moment from = moment_of(prune->from_us);
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, failed ? STMT_PRUNE_FAILED : STMT_PRUNE_ENDED, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, queue_id);
    pgqrs_sqlite_bind_int(stmt, 2, prune->limit);
    pgqrs_sqlite_bind_text(stmt, 3, cutoff);
    pgqrs_sqlite_bind_int(stmt, 4, prune->from_id);
    if (!failed) {
        pgqrs_sqlite_bind_text(stmt, 5, prune->from_us == 0 ? "" : from.text);
    }
    int rc;
    while ((rc = pgqrs_sqlite_step(s, stmt, err)) > 0) {
        const struct met met = {.id = sqlite3_column_int64(stmt, 0),
                                .us = failed ? 0 : place_of(stmt, 2),
                                .may_go = sqlite3_column_int(stmt, 1) != 0};
        if (add_met(list, met, err) < 0) {
            (void)sqlite3_reset(stmt); /* the failure is known */
            return -1;
        }
    }
    return rc;
}

static int meet_all(struct sqlite_store *s, const struct pgqrs_prune *prune, const char *cutoff,
                    struct met_list *list, struct pgqrs_error *err)
{
    if (prune->queue_id != 0) {
        return meet(s, prune->queue_id, prune, cutoff, list, err);
    }
    struct pgqrs_queue_list queues = {0};
    int rc = pgqrs_sqlite_queue_list(&s->base, 0, INT32_MAX, &queues, err);
    for (size_t i = 0; rc == 0 && i < queues.count; i++) {
        rc = meet(s, queues.items[i].id, prune, cutoff, list, err);
    }
    pgqrs_queue_list_fini(&queues);
    if (rc == 0 && list->count > 1) {
        qsort(list->items, list->count, sizeof *list->items, by_place);
    }
    list->count = list->count > prune->limit ? prune->limit : list->count;
    return rc;
}

static int64_t drop(struct sqlite_store *s, const struct met_list *list, struct pgqrs_error *err)
{
    struct sqlite_ids ids = {0};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < list->count; i++) {
        rc = list->items[i].may_go ? pgqrs_sqlite_ids_add(&ids, list->items[i].id, err) : 0;
    }
    int64_t gone = rc < 0 ? -1 : pgqrs_sqlite_delete_messages(s, &ids, err);
    pgqrs_sqlite_ids_fini(&ids);
    return gone;
}

/* Where the next step begins. One that would not get ahead, for texts that are no times, ends. */
static void move_on(struct pgqrs_prune *prune, const struct met_list *list)
{
    const struct met was = {.us = prune->from_us, .id = prune->from_id};
    struct met is = {0};
    if (list->count > 0 && list->count >= prune->limit) {
        is = list->items[list->count - 1];
    }
    if (by_place(&is, &was) <= 0) {
        is = (struct met){0};
    }
    prune->from_us = is.us;
    prune->from_id = is.id;
}

static bool any_may_go(const struct met_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].may_go) {
            return true;
        }
    }
    return false;
}

int64_t pgqrs_sqlite_prune(struct pgqrs_store *store, struct pgqrs_prune *prune,
                           struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    int64_t now = pgqrs_wall_us();
    int64_t age_us = prune->age_ms > now / 1000 ? now : prune->age_ms * 1000;
    const struct moment cutoff = pgqrs_sqlite_moment(now - age_us);
    struct met_list list = {0};
    int64_t gone =
        pgqrs_sqlite_check_file(s, err) < 0 ? -1 : meet_all(s, prune, cutoff.text, &list, err);
    if (gone == 0 && any_may_go(&list)) {
        gone = -1;
        if (pgqrs_sqlite_begin(s, err) == 0) {
            list.count = 0; /* what was seen without the lock may have changed */
            gone = meet_all(s, prune, cutoff.text, &list, err) < 0 ? -1 : drop(s, &list, err);
            gone = pgqrs_sqlite_end(s, gone, err);
        }
    }
    if (gone >= 0) {
        move_on(prune, &list);
    }
    free(list.items);
    return gone;
}

/* ---- burying ---- */

#define FRONT 1000 /* rows, and levels of priority, that are looked at */

/* The ids of those in front that have used up their attempts. */
static int find_used_up(struct sqlite_store *s, int64_t queue_id, uint32_t max_attempts,
                        const struct moment *now, struct sqlite_ids *ids, struct pgqrs_error *err)
{
    int64_t left = FRONT;
    int64_t priority = PGQRS_SQLITE_ABOVE_EVERY_PRIORITY;
    for (int levels = 0; left > 0 && levels < FRONT; levels++) {
        int rc = pgqrs_sqlite_next_priority(s, queue_id, &priority, err);
        sqlite3_stmt *stmt = rc <= 0 ? NULL : pgqrs_sqlite_stmt(s, STMT_BURY_FRONT, err);
        if (stmt == NULL) {
            return rc == 0 ? 0 : -1;
        }
        pgqrs_sqlite_bind_int(stmt, 1, queue_id);
        pgqrs_sqlite_bind_int(stmt, 2, priority);
        pgqrs_sqlite_bind_text(stmt, 3, now->text);
        pgqrs_sqlite_bind_int(stmt, 4, left);
        while ((rc = pgqrs_sqlite_step(s, stmt, err)) > 0) {
            left--;
            if (sqlite3_column_int64(stmt, 1) >= max_attempts &&
                pgqrs_sqlite_ids_add(ids, sqlite3_column_int64(stmt, 0), err) < 0) {
                (void)sqlite3_reset(stmt); /* the failure is known */
                return -1;
            }
        }
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

static int64_t bury_one(struct sqlite_store *s, enum sqlite_stmt_id stmt_id, int64_t id,
                        uint32_t max_attempts, const struct moment *now, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, stmt_id, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, id);
    pgqrs_sqlite_bind_text(stmt, 2, now->text);
    pgqrs_sqlite_bind_int(stmt, 3, max_attempts);
    return pgqrs_sqlite_run(s, stmt, err);
}

static int64_t bury_them(struct sqlite_store *s, const struct sqlite_ids *ids,
                         uint32_t max_attempts, const struct moment *now, struct pgqrs_error *err)
{
    int64_t buried = 0;
    for (size_t i = 0; buried >= 0 && i < ids->count; i++) {
        int64_t id = ids->items[i];
        int64_t changed = bury_one(s, STMT_RUN_FAILS_BURIED, id, max_attempts, now, err) < 0
                              ? -1
                              : bury_one(s, STMT_BURY, id, max_attempts, now, err);
        buried = changed < 0 ? -1 : buried + changed;
    }
    return buried;
}

int64_t pgqrs_sqlite_bury(struct pgqrs_store *store, int64_t queue_id, uint32_t max_attempts,
                          struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    struct sqlite_ids ids = {0};
    int64_t buried = pgqrs_sqlite_check_file(s, err) < 0
                         ? -1
                         : find_used_up(s, queue_id, max_attempts, &now, &ids, err);
    if (buried == 0 && ids.count > 0) {
        buried = pgqrs_sqlite_begin(s, err) < 0
                     ? -1
                     : pgqrs_sqlite_end(s, bury_them(s, &ids, max_attempts, &now, err), err);
    }
    pgqrs_sqlite_ids_fini(&ids);
    return buried;
}

/* ---- reaping ---- */

/* What the statements of a step have in common. */
struct reaper {
    const struct pgqrs_reap *reap;
    struct moment now, cutoff;
};

static sqlite3_stmt *of_reaper(struct sqlite_store *s, enum sqlite_stmt_id id,
                               const struct reaper *r, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, id, err);
    if (stmt != NULL) {
        pgqrs_sqlite_bind_text(stmt, 2, r->cutoff.text);
        pgqrs_sqlite_bind_int(stmt, 3, r->reap->foreign ? 1 : 0);
    }
    return stmt;
}

/* The next worker after *holder that holds anything: 1, 0 there is none, or -1. */
static int next_holder(struct sqlite_store *s, int64_t *holder, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_REAP_HOLDER, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, *holder);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc > 0) {
        *holder = sqlite3_column_int64(stmt, 0);
        (void)sqlite3_reset(stmt); /* the row was read */
    }
    return rc;
}

/* 1 it is dead or stopped, 0 it is alive or not ours to judge, or -1. */
static int is_dead(struct sqlite_store *s, int64_t worker_id, const struct reaper *r,
                   struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = of_reaper(s, STMT_REAP_DEAD, r, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, worker_id);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc <= 0) {
        return rc < 0 ? -1 : 1; /* the row has been deleted */
    }
    int dead = sqlite3_column_int(stmt, 0);
    (void)sqlite3_reset(stmt); /* the row was read */
    return dead;
}

/* What the dead hold although its time has passed. */
static int find_leases(struct sqlite_store *s, const struct reaper *r, struct sqlite_ids *ids,
                       struct pgqrs_error *err)
{
    int64_t holder = INT64_MIN;
    int rc = 0;
    while (ids->count < r->reap->limit && (rc = next_holder(s, &holder, err)) > 0) {
        rc = is_dead(s, holder, r, err);
        sqlite3_stmt *stmt = rc <= 0 ? NULL : pgqrs_sqlite_stmt(s, STMT_REAP_LEASES, err);
        if (rc == 0) {
            continue;
        }
        if (stmt == NULL) {
            return -1;
        }
        pgqrs_sqlite_bind_int(stmt, 1, holder);
        pgqrs_sqlite_bind_text(stmt, 2, r->now.text);
        pgqrs_sqlite_bind_int(stmt, 3, r->reap->queue_id);
        pgqrs_sqlite_bind_int(stmt, 4, (int64_t)(r->reap->limit - ids->count));
        rc = pgqrs_sqlite_collect(s, stmt, ids, err);
        if (rc < 0) {
            return -1;
        }
    }
    return rc < 0 ? -1 : 0;
}

static int find_workers(struct sqlite_store *s, const struct reaper *r, struct sqlite_ids *ids,
                        struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = of_reaper(s, STMT_REAP_WORKERS, r, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, r->reap->queue_id);
    pgqrs_sqlite_bind_int(stmt, 4, r->reap->limit);
    return pgqrs_sqlite_collect(s, stmt, ids, err);
}

static int64_t change_all(struct sqlite_store *s, enum sqlite_stmt_id id,
                          const struct sqlite_ids *ids, const char *now, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, id, err);
    int64_t sum = stmt == NULL ? -1 : 0;
    for (size_t i = 0; sum >= 0 && i < ids->count; i++) {
        pgqrs_sqlite_bind_int(stmt, 1, ids->items[i]);
        pgqrs_sqlite_bind_text(stmt, 2, now);
        int64_t changed = pgqrs_sqlite_run(s, stmt, err);
        sum = changed < 0 ? -1 : sum + changed;
    }
    return sum;
}

/* Within a transaction: frees, and then stops those that hold nothing any more. */
static int64_t reap_locked(struct sqlite_store *s, const struct reaper *r, struct pgqrs_error *err)
{
    struct sqlite_ids leases = {0};
    struct sqlite_ids workers = {0};
    int64_t freed = find_leases(s, r, &leases, err) < 0
                        ? -1
                        : change_all(s, STMT_REAP_FREE, &leases, r->now.text, err);
    if (freed >= 0 && (find_workers(s, r, &workers, err) < 0 ||
                       change_all(s, STMT_WORKER_STOP, &workers, r->now.text, err) < 0)) {
        freed = -1;
    }
    pgqrs_sqlite_ids_fini(&leases);
    pgqrs_sqlite_ids_fini(&workers);
    return freed;
}

/* 1 there is something to do, 0, or -1. */
static int worth_it(struct sqlite_store *s, const struct reaper *r, struct pgqrs_error *err)
{
    struct sqlite_ids ids = {0};
    int rc = find_leases(s, r, &ids, err);
    if (rc == 0 && ids.count == 0) {
        rc = find_workers(s, r, &ids, err);
    }
    rc = rc == 0 && ids.count > 0 ? 1 : rc;
    pgqrs_sqlite_ids_fini(&ids);
    return rc;
}

int64_t pgqrs_sqlite_reap(struct pgqrs_store *store, const struct pgqrs_reap *reap,
                          struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    int64_t now = pgqrs_wall_us();
    int64_t stale_us = reap->stale_ms > now / 1000 ? now : reap->stale_ms * 1000;
    const struct reaper r = {.reap = reap,
                             .now = pgqrs_sqlite_moment(now),
                             .cutoff = pgqrs_sqlite_moment(now - stale_us)};
    int rc = pgqrs_sqlite_check_file(s, err) < 0 ? -1 : worth_it(s, &r, err);
    if (rc <= 0) {
        return rc;
    }
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_end(s, reap_locked(s, &r, err), err);
}
