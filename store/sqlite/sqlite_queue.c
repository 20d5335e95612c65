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
