/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Messages, newest id first. Some kinds have an index of their own. Where that has few rows they
 * are all looked at; else the table is walked by id, and one call ends where it has looked at
 * enough. The planner can not know which of the two is the case.
 */

#define LOOK_MAX 10000 /* rows in one call: by an index, or walking */
#define FEW 5000       /* rows that an index may have to be sorted by id */

#define PENDING "archived_at IS NULL AND consumer_worker_id IS NULL"
#define LEASED "archived_at IS NULL AND consumer_worker_id IS NOT NULL"

/* Parameters: ?1 ids below, ?2 now, ?3 queue, ?4 outcome, ?5 holder, ?6 unique key, ?7 how many,
 * ?8 ids from. */
static const char *const state_rows[] = {
    [PGQRS_STATE_NONE] = "1",
    [PGQRS_STATE_READY] = PENDING " AND (vt <= ?2 OR vt IS NULL)",
    [PGQRS_STATE_DELAYED] = PENDING " AND vt > ?2",
    [PGQRS_STATE_LEASED] = LEASED,
    [PGQRS_STATE_ARCHIVED] = "archived_at IS NOT NULL",
};
_Static_assert(sizeof state_rows / sizeof *state_rows == PGQRS_STATE_COUNT,
               "every state has its rows");

/* Where to look. */
struct source {
    const char *index; /* null: the table */
    const char *rows;  /* those in the index that are looked at */
    bool by_id;        /* they come in the order of their ids, so there may be any number of them */
};

static struct source source_of(const struct pgqrs_message_filter *filter)
{
    bool live = filter->state == PGQRS_STATE_READY || filter->state == PGQRS_STATE_DELAYED ||
                filter->state == PGQRS_STATE_LEASED;
    bool queue = filter->queue_id != 0;
    if (filter->outcome != NULL && strcmp(filter->outcome, "failed") == 0 && !live) {
        return (struct source){"pgqrsd_messages_failed",
                               queue ? "queue_id = ?3 AND pgqrsd_outcome = 'failed'"
                                     : "pgqrsd_outcome = 'failed'",
                               queue};
    }
    if (filter->unique_key != NULL && live) {
        return (struct source){"pgqrsd_messages_unique",
                               queue ? "queue_id = ?3 AND pgqrsd_unique_key = ?6"
                                       " AND archived_at IS NULL"
                                     : "queue_id IN (SELECT id FROM pgqrs_queues)"
                                       " AND pgqrsd_unique_key = ?6 AND archived_at IS NULL",
                               false};
    }
    switch (filter->state) {
    case PGQRS_STATE_READY:
    case PGQRS_STATE_DELAYED:
        return (struct source){"pgqrsd_messages_lease",
                               queue ? "queue_id = ?3 AND " PENDING : PENDING, false};
    case PGQRS_STATE_LEASED:
        return (struct source){
            "idx_messages_consumer_active",
            filter->consumer_worker_id == 0 ? LEASED : LEASED " AND consumer_worker_id = ?5",
            false};
    case PGQRS_STATE_ARCHIVED:
        return queue ? (struct source){"idx_messages_archived_at",
                                       "queue_id = ?3 AND archived_at IS NOT NULL", false}
                     : (struct source){0};
    case PGQRS_STATE_NONE:
    case PGQRS_STATE_COUNT:
        break;
    }
    return (struct source){0};
}

struct lister {
    struct sqlite_store *s;
    const struct pgqrs_message_filter *filter;
    struct moment now;
    int64_t from_id; /* rows below were not looked at; 0: all were */
};

static void bind(sqlite3_stmt *stmt, const struct lister *l)
{
    const struct pgqrs_message_filter *filter = l->filter;
    pgqrs_sqlite_bind_int(stmt, 1, filter->before_id == 0 ? INT64_MAX : filter->before_id);
    pgqrs_sqlite_bind_text(stmt, 2, l->now.text);
    pgqrs_sqlite_bind_int(stmt, 3, filter->queue_id);
    pgqrs_sqlite_bind_text(stmt, 4, filter->outcome);
    pgqrs_sqlite_bind_int(stmt, 5, filter->consumer_worker_id);
    pgqrs_sqlite_bind_text(stmt, 6, filter->unique_key);
    pgqrs_sqlite_bind_int(stmt, 7, (int64_t)filter->limit + 1);
    pgqrs_sqlite_bind_int(stmt, 8, l->from_id);
}

static sqlite3_stmt *prepare(const struct lister *l, const char *sql, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(l->s->db, sql, -1, &stmt, NULL) != SQLITE_OK) {
        (void)pgqrs_sqlite_prepare_failed(l->s, err);
        return NULL;
    }
    bind(stmt, l);
    return stmt;
}

/* The id in the one row that there may be: 1, 0 there is none, or -1. */
static int one_id(const struct lister *l, const char *sql, int64_t *id_out, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = prepare(l, sql, err);
    int rc = stmt == NULL ? -1 : pgqrs_sqlite_step(l->s, stmt, err);
    if (rc > 0) {
        *id_out = sqlite3_column_int64(stmt, 0);
    }
    (void)sqlite3_finalize(stmt); /* repeats the error of the step */
    return rc;
}

/* Decides between index and table, and where the call ends. */
static int plan(struct lister *l, struct source *source, struct pgqrs_error *err)
{
    char sql[600];
    int64_t id = 0;
    int rc = 0;
    *source = source_of(l->filter);
    if (source->index != NULL && !source->by_id) {
        (void)snprintf(sql, sizeof sql,
                       "SELECT id FROM pgqrs_messages INDEXED BY %s WHERE %s LIMIT 1 OFFSET %d",
                       source->index, source->rows, FEW);
        rc = one_id(l, sql, &id, err);
        if (rc <= 0) {
            return rc;
        }
        *source = (struct source){0};
    }
    (void)snprintf(sql, sizeof sql,
                   "SELECT id FROM pgqrs_messages %s%s WHERE id < ?1 AND %s"
                   " ORDER BY id DESC LIMIT 1 OFFSET %d",
                   source->index == NULL ? "NOT INDEXED" : "INDEXED BY ",
                   source->index == NULL ? "" : source->index,
                   source->index == NULL ? "1" : source->rows, LOOK_MAX);
    rc = one_id(l, sql, &id, err);
    l->from_id = rc > 0 ? id + 1 : 0;
    return rc < 0 ? -1 : 0;
}

static sqlite3_stmt *prepare_page(struct lister *l, struct pgqrs_error *err)
{
    struct source source;
    const struct pgqrs_message_filter *filter = l->filter;
    if (plan(l, &source, err) < 0) {
        return NULL;
    }
    char rows[600];
    (void)snprintf(rows, sizeof rows, "id < ?1 AND id >= ?8 AND %s%s%s%s%s",
                   state_rows[filter->state], filter->queue_id == 0 ? "" : " AND queue_id = ?3",
                   filter->outcome == NULL ? ""
                                           : " AND archived_at IS NOT NULL AND pgqrsd_outcome = ?4",
                   filter->consumer_worker_id == 0 ? "" : " AND consumer_worker_id = ?5",
                   filter->unique_key == NULL ? "" : " AND pgqrsd_unique_key = ?6");
    char sql[2200];
    if (source.index == NULL) {
        (void)snprintf(sql, sizeof sql,
                       "SELECT " PGQRS_SQLITE_MESSAGE_COLUMNS " FROM pgqrs_messages NOT INDEXED"
                       " WHERE %s ORDER BY id DESC LIMIT ?7",
                       rows);
    } else {
        (void)snprintf(sql, sizeof sql,
                       "SELECT " PGQRS_SQLITE_MESSAGE_COLUMNS " FROM pgqrs_messages NOT INDEXED"
                       " WHERE id IN (SELECT id FROM pgqrs_messages INDEXED BY %s"
                       " WHERE %s AND %s ORDER BY id DESC LIMIT ?7) ORDER BY id DESC",
                       source.index, source.rows, rows);
    }
    return prepare(l, sql, err);
}

/* The rows are one more than a page may have, when there are so many. */
static int read_page(struct lister *l, sqlite3_stmt *stmt, struct pgqrs_message_list *list,
                     struct pgqrs_error *err)
{
    int rc;
    list->next_before_id = l->from_id;
    while ((rc = pgqrs_sqlite_step(l->s, stmt, err)) > 0) {
        if (list->count == l->filter->limit) {
            list->next_before_id = list->items[list->count - 1].id;
            return 0;
        }
        if (pgqrs_sqlite_read_message(stmt, l->now.us, &list->items[list->count++], err) < 0) {
            return -1;
        }
    }
    return rc;
}

int pgqrs_sqlite_message_list(struct pgqrs_store *store, const struct pgqrs_message_filter *filter,
                              struct pgqrs_message_list *list_out, struct pgqrs_error *err)
{
    struct lister l = {
        .s = sqlite_of(store), .filter = filter, .now = pgqrs_sqlite_moment(pgqrs_wall_us())};
    struct pgqrs_message_list list = {.items = calloc(filter->limit, sizeof *list.items)};
    if (list.items == NULL) {
        return pgqrs_error_memory(err);
    }
    /* One snapshot for the plan and the page. */
    int rc = pgqrs_sqlite_begin_read(l.s, err);
    if (rc == 0) {
        sqlite3_stmt *stmt = prepare_page(&l, err);
        rc = stmt == NULL ? -1 : read_page(&l, stmt, &list, err);
        (void)sqlite3_finalize(stmt); /* repeats the error of the step */
        pgqrs_sqlite_rollback(l.s);
    }
    if (rc < 0) {
        pgqrs_message_list_fini(&list);
        return -1;
    }
    *list_out = list;
    return 0;
}
