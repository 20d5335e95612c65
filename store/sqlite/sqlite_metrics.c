/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <stdio.h>

#define SAMPLE_MAX                                                                                 \
    1000 /* rows of a queue that its times are taken from, when it is one of many                  \
          */

struct metrics_call {
    uint64_t count_max; /* 0: there is none */
    uint64_t sample;
    struct moment now;
};

static int64_t as_limit(uint64_t count)
{
    return count == 0 || count > INT64_MAX ? -1 : (int64_t)count;
}

/* The one row of a statement; null with err filled. */
static sqlite3_stmt *one_row(struct sqlite_store *s, enum sqlite_stmt_id id, int64_t queue_id,
                             const struct metrics_call *call, uint64_t limit,
                             struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, id, err);
    if (stmt == NULL) {
        return NULL;
    }
    pgqrs_sqlite_bind_int(stmt, 1, queue_id);
    pgqrs_sqlite_bind_text(stmt, 2, call->now.text);
    pgqrs_sqlite_bind_int(stmt, 3, as_limit(limit));
    return pgqrs_sqlite_step(s, stmt, err) > 0 ? stmt : NULL;
}

static int metrics_of_queue(struct sqlite_store *s, int64_t queue_id,
                            const struct metrics_call *call, struct pgqrs_queue_metrics *m,
                            struct pgqrs_error *err)
{
    sqlite3_stmt *row = one_row(s, STMT_METRICS_COUNTS, queue_id, call, call->count_max, err);
    if (row == NULL) {
        return -1;
    }
    *m = (struct pgqrs_queue_metrics){.pending = sqlite3_column_int64(row, 0),
                                      .ready = sqlite3_column_int64(row, 1),
                                      .leased = sqlite3_column_int64(row, 2),
                                      .archived = sqlite3_column_int64(row, 3),
                                      .failed = sqlite3_column_int64(row, 4)};
    (void)sqlite3_reset(row); /* the row was read */
    row = one_row(s, STMT_METRICS_TIMES, queue_id, call, call->sample, err);
    if (row == NULL) {
        return -1;
    }
    pgqrs_sqlite_time(row, 0, &m->oldest_pending_us);
    pgqrs_sqlite_time(row, 1, &m->newest_us);
    pgqrs_sqlite_time(row, 2, &m->next_due_us);
    (void)sqlite3_reset(row); /* the row was read */
    return 0;
}

static void earlier(int64_t *sum, int64_t us)
{
    if (*sum == 0 || (us != 0 && us < *sum)) {
        *sum = us;
    }
}

static void add(struct pgqrs_queue_metrics *sum, const struct pgqrs_queue_metrics *m)
{
    sum->pending += m->pending;
    sum->ready += m->ready;
    sum->leased += m->leased;
    sum->archived += m->archived;
    sum->failed += m->failed;
    earlier(&sum->oldest_pending_us, m->oldest_pending_us);
    earlier(&sum->next_due_us, m->next_due_us);
    sum->newest_us = m->newest_us > sum->newest_us ? m->newest_us : sum->newest_us;
}

static int metrics(struct sqlite_store *s, int64_t queue_id, struct metrics_call *call,
                   struct pgqrs_queue_metrics *sum, struct pgqrs_error *err)
{
    struct pgqrs_queue_metrics m;
    if (queue_id != 0) {
        int rc = metrics_of_queue(s, queue_id, call, &m, err);
        if (rc == 0) {
            add(sum, &m);
        }
        return rc;
    }
    if (call->count_max > SAMPLE_MAX) {
        call->sample = SAMPLE_MAX;
    }
    struct pgqrs_queue_list queues = {0};
    int rc = pgqrs_sqlite_queue_list(&s->base, 0, INT32_MAX, &queues, err);
    for (size_t i = 0; rc == 0 && i < queues.count; i++) {
        rc = metrics_of_queue(s, queues.items[i].id, call, &m, err);
        if (rc == 0) {
            add(sum, &m);
        }
    }
    pgqrs_queue_list_fini(&queues);
    return rc;
}

static void stop_at(int64_t *count, uint64_t count_max)
{
    if (count_max != 0 && (uint64_t)*count > count_max) {
        *count = (int64_t)count_max;
    }
}

int pgqrs_sqlite_queue_metrics(struct pgqrs_store *store, int64_t queue_id, uint64_t count_max,
                               struct pgqrs_queue_metrics *metrics_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    struct pgqrs_queue_metrics sum = {0};
    struct metrics_call call = {.count_max = count_max, .sample = count_max};
    /* One snapshot for all the numbers. Ending it can not lose anything. */
    if (pgqrs_sqlite_begin_read(s, err) < 0) {
        return -1;
    }
    call.now = pgqrs_sqlite_moment(pgqrs_wall_us());
    int rc = metrics(s, queue_id, &call, &sum, err);
    pgqrs_sqlite_rollback(s);
    if (rc < 0) {
        return -1;
    }
    stop_at(&sum.pending, count_max);
    stop_at(&sum.ready, count_max);
    stop_at(&sum.leased, count_max);
    stop_at(&sum.archived, count_max);
    stop_at(&sum.failed, count_max);
    sum.total = sum.pending + sum.leased + sum.archived;
    sum.now_us = call.now.us;
    *metrics_out = sum;
    return 0;
}

/* ---- the store as a whole ---- */

int pgqrs_sqlite_info(struct pgqrs_store *store, struct pgqrs_store_info *info_out,
                      struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    sqlite3_stmt *row =
        pgqrs_sqlite_check_file(s, err) < 0 ? NULL : pgqrs_sqlite_stmt(s, STMT_INFO, err);
    if (row == NULL || pgqrs_sqlite_step(s, row, err) < 0) {
        return -1;
    }
    struct pgqrs_store_info info = {.queues = sqlite3_column_int64(row, 0),
                                    .paused_queues = sqlite3_column_int64(row, 1),
                                    .workflows = sqlite3_column_int64(row, 2),
                                    .schema_version = sqlite3_column_int(row, 3),
                                    .pgqrs_schema = "0.5.0"};
    (void)sqlite3_reset(row); /* the row was read */
    (void)snprintf(info.server, sizeof info.server, "SQLite %s", sqlite3_libversion());
    *info_out = info;
    return 0;
}
