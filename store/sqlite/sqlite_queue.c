/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <stdlib.h>
#include <string.h>

int pgqrs_sqlite_queue_create(struct pgqrs_store *store, const char *name, int64_t *id_out,
                              struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_QUEUE_CREATE, err);
    if (stmt == NULL || pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    pgqrs_sqlite_bind_text(stmt, 1, name);
    pgqrs_sqlite_bind_text(stmt, 2, now.text);
    int64_t rc = pgqrs_sqlite_run(s, stmt, err);
    if (rc < 0 && sqlite3_extended_errcode(s->db) == SQLITE_CONSTRAINT_UNIQUE) {
        (void)pgqrs_error_set(err, PGQRS_ERR_EXISTS, "queue \"%s\" exists already", name);
    }
    int64_t id = sqlite3_last_insert_rowid(s->db);
    if (pgqrs_sqlite_end(s, rc, err) < 0) {
        return -1;
    }
    *id_out = id;
    return 0;
}

int pgqrs_sqlite_queue_find(struct pgqrs_store *store, const char *name, int64_t *id_out,
                            struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_QUEUE_FIND, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_text(stmt, 1, name);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "queue \"%s\" does not exist", name);
    }
    if (rc > 0) {
        *id_out = sqlite3_column_int64(stmt, 0);
        (void)sqlite3_reset(stmt); /* the row was read */
    }
    return rc < 0 ? -1 : 0;
}

int pgqrs_sqlite_need_queue(struct sqlite_store *s, int64_t queue_id, struct pgqrs_error *err)
{
    int there = pgqrs_sqlite_exists(s, STMT_QUEUE_EXISTS, queue_id, err);
    if (there == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "queue %lld does not exist",
                               (long long)queue_id);
    }
    return there < 0 ? -1 : 0;
}

int pgqrs_sqlite_need_worker(struct sqlite_store *s, int64_t worker_id, struct pgqrs_error *err)
{
    int there = worker_id == 0 ? 1 : pgqrs_sqlite_exists(s, STMT_WORKER_EXISTS, worker_id, err);
    if (there == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "worker %lld does not exist",
                               (long long)worker_id);
    }
    return there < 0 ? -1 : 0;
}

static int read_queue(sqlite3_stmt *row, struct pgqrs_queue *queue, struct pgqrs_error *err)
{
    queue->id = sqlite3_column_int64(row, 0);
    if (pgqrs_sqlite_dup(row, 1, &queue->name, err) < 0) {
        return -1;
    }
    pgqrs_sqlite_time(row, 2, &queue->created_at_us);
    pgqrs_sqlite_time(row, 3, &queue->paused_at_us);
    return 0;
}

int pgqrs_sqlite_queue_list(struct pgqrs_store *store, int64_t after_id, uint32_t limit,
                            struct pgqrs_queue_list *list_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_QUEUE_LIST, err);
    struct pgqrs_queue_list list = {0};
    int rc = stmt == NULL ? -1 : 0;
    if (stmt != NULL) {
        pgqrs_sqlite_bind_int(stmt, 1, after_id);
        pgqrs_sqlite_bind_int(stmt, 2, limit);
    }
    while (rc >= 0 && (rc = pgqrs_sqlite_step(s, stmt, err)) > 0) {
        struct pgqrs_queue *items = realloc(list.items, (list.count + 1) * sizeof *items);
        if (items == NULL) {
            rc = pgqrs_error_memory(err);
            break;
        }
        list.items = items;
        items[list.count] = (struct pgqrs_queue){0};
        rc = read_queue(stmt, &items[list.count++], err);
    }
    if (rc < 0) {
        (void)sqlite3_reset(stmt); /* the failure is known */
        pgqrs_queue_list_fini(&list);
        return -1;
    }
    *list_out = list;
    return 0;
}

/* ---- metrics ---- */

/* The one row of a statement about a queue at a time; null with err filled. */
static sqlite3_stmt *one_row(struct sqlite_store *s, enum sqlite_stmt_id id, int64_t queue_id,
                             const char *now, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, id, err);
    if (stmt == NULL) {
        return NULL;
    }
    pgqrs_sqlite_bind_int(stmt, 1, queue_id);
    if (now != NULL) {
        pgqrs_sqlite_bind_text(stmt, 2, now);
    }
    return pgqrs_sqlite_step(s, stmt, err) > 0 ? stmt : NULL;
}

static int metrics_of_live(struct sqlite_store *s, int64_t queue_id, const char *now,
                           struct pgqrs_queue_metrics *m, struct pgqrs_error *err)
{
    sqlite3_stmt *row = one_row(s, STMT_METRICS_LIVE, queue_id, NULL, err);
    if (row == NULL) {
        return -1;
    }
    int64_t live = sqlite3_column_int64(row, 0);
    pgqrs_sqlite_time(row, 1, &m->newest_us);
    (void)sqlite3_reset(row); /* the row was read */
    row = one_row(s, STMT_METRICS_PENDING, queue_id, now, err);
    if (row == NULL) {
        return -1;
    }
    m->pending = sqlite3_column_int64(row, 0);
    m->ready = sqlite3_column_int64(row, 1);
    m->leased = live - m->pending;
    pgqrs_sqlite_time(row, 2, &m->oldest_pending_us);
    (void)sqlite3_reset(row); /* the row was read */
    return 0;
}

static int metrics_of_archived(struct sqlite_store *s, int64_t queue_id,
                               struct pgqrs_queue_metrics *m, struct pgqrs_error *err)
{
    sqlite3_stmt *row = one_row(s, STMT_METRICS_ARCHIVED, queue_id, NULL, err);
    if (row == NULL) {
        return -1;
    }
    m->archived = sqlite3_column_int64(row, 0);
    (void)sqlite3_reset(row); /* the row was read */
    row = one_row(s, STMT_METRICS_FAILED, queue_id, NULL, err);
    if (row == NULL) {
        return -1;
    }
    m->failed = sqlite3_column_int64(row, 0);
    (void)sqlite3_reset(row); /* the row was read */
    row = one_row(s, STMT_METRICS_NEWEST_ARCHIVED, queue_id, NULL, err);
    if (row == NULL) {
        return -1;
    }
    int64_t newest = 0;
    pgqrs_sqlite_time(row, 0, &newest);
    (void)sqlite3_reset(row); /* the row was read */
    m->newest_us = newest > m->newest_us ? newest : m->newest_us;
    return 0;
}

static int metrics_of_queue(struct sqlite_store *s, int64_t queue_id, const char *now,
                            struct pgqrs_queue_metrics *m, struct pgqrs_error *err)
{
    *m = (struct pgqrs_queue_metrics){0};
    if (metrics_of_live(s, queue_id, now, m, err) < 0 ||
        metrics_of_archived(s, queue_id, m, err) < 0) {
        return -1;
    }
    m->total = m->pending + m->leased + m->archived;
    return 0;
}

static void add(struct pgqrs_queue_metrics *sum, const struct pgqrs_queue_metrics *m)
{
    sum->total += m->total;
    sum->pending += m->pending;
    sum->ready += m->ready;
    sum->leased += m->leased;
    sum->archived += m->archived;
    sum->failed += m->failed;
    if (sum->oldest_pending_us == 0 ||
        (m->oldest_pending_us != 0 && m->oldest_pending_us < sum->oldest_pending_us)) {
        sum->oldest_pending_us = m->oldest_pending_us;
    }
    sum->newest_us = m->newest_us > sum->newest_us ? m->newest_us : sum->newest_us;
}

static int metrics(struct sqlite_store *s, int64_t queue_id, struct pgqrs_queue_metrics *sum,
                   struct pgqrs_error *err)
{
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    if (queue_id != 0) {
        return metrics_of_queue(s, queue_id, now.text, sum, err);
    }
    struct pgqrs_queue_list queues = {0};
    int rc = pgqrs_sqlite_queue_list(&s->base, 0, INT32_MAX, &queues, err);
    for (size_t i = 0; rc == 0 && i < queues.count; i++) {
        struct pgqrs_queue_metrics m;
        rc = metrics_of_queue(s, queues.items[i].id, now.text, &m, err);
        if (rc == 0) {
            add(sum, &m);
        }
    }
    pgqrs_queue_list_fini(&queues);
    return rc;
}

int pgqrs_sqlite_queue_metrics(struct pgqrs_store *store, int64_t queue_id, uint64_t count_max,
                               struct pgqrs_queue_metrics *metrics_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    struct pgqrs_queue_metrics sum = {0};
    (void)count_max;
    /* One snapshot for all the numbers. Ending it can not lose anything. */
    if (pgqrs_sqlite_exec(s, "BEGIN", err) < 0) {
        return -1;
    }
    int rc = metrics(s, queue_id, &sum, err);
    pgqrs_sqlite_rollback(s);
    if (rc == 0) {
        *metrics_out = sum;
    }
    return rc;
}
