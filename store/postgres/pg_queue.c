/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_priv.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/postgres/pg_delete.h"
#include "store/postgres/pg_text.h"

/* ---- by name ---- */

static const struct pg_stmt queue_create = {
    .name = "queue_create",
    .sql = "INSERT INTO pgqrs_queues (queue_name, created_at) VALUES ($1, pgqrsd_now())"
           " RETURNING id",
    .param_count = 1,
    .types = {PG_TEXT},
};
static const struct pg_stmt queue_find = {
    .name = "queue_find",
    .sql = "SELECT id FROM pgqrs_queues WHERE queue_name = $1",
    .param_count = 1,
    .types = {PG_TEXT},
};

int pgqrs_pg_queue_create(struct pgqrs_store *store, const char *name, int64_t *id_out,
                          struct pgqrs_error *err)
{
    struct pgqrs_error why;
    struct pg_args args = {0};
    pgqrs_pg_arg_text(&args, name);
    PGresult *row = pgqrs_pg_run(pg_of(store), &queue_create, &args, false, &why);
    pgqrs_pg_args_fini(&args);
    if (row == NULL) {
        return why.code == PGQRS_ERR_EXISTS
                   ? pgqrs_error_set(err, why.code, "queue \"%s\" exists already", name)
                   : pgqrs_error_set(err, why.code, "%s", why.text);
    }
    *id_out = pgqrs_pg_int(row, 0, 0);
    PQclear(row);
    return 0;
}

int pgqrs_pg_queue_find(struct pgqrs_store *store, const char *name, int64_t *id_out,
                        struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_text(&args, name);
    PGresult *rows = pgqrs_pg_run(pg_of(store), &queue_find, &args, true, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    int rc = 0;
    if (PQntuples(rows) == 0) {
        rc = pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "queue \"%s\" does not exist", name);
    } else {
        *id_out = pgqrs_pg_int(rows, 0, 0);
    }
    PQclear(rows);
    return rc;
}

/* ---- listing ---- */

static const struct pg_stmt queue_list = {
    .name = "queue_list",
    .sql = "SELECT id, queue_name, " PGQRS_PG_US("created_at") ", " PGQRS_PG_US(
        "pgqrsd_paused_at") " FROM pgqrs_queues WHERE id > $1 ORDER BY id LIMIT $2",
    .param_count = 2,
    .types = {PG_INT8, PG_INT8},
};

static int read_queues(const PGresult *rows, struct pgqrs_queue_list *list, struct pgqrs_error *err)
{
    size_t count = (size_t)PQntuples(rows);
    list->items = calloc(count + 1, sizeof *list->items);
    if (list->items == NULL) {
        return pgqrs_error_memory(err);
    }
    for (; list->count < count; list->count++) {
        int row = (int)list->count;
        struct pgqrs_queue *queue = &list->items[row];
        queue->id = pgqrs_pg_int(rows, row, 0);
        queue->created_at_us = pgqrs_pg_int(rows, row, 2);
        queue->paused_at_us = pgqrs_pg_int(rows, row, 3);
        if (pgqrs_pg_dup(rows, row, 1, &queue->name, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int pgqrs_pg_queue_list(struct pgqrs_store *store, int64_t after_id, uint32_t limit,
                        struct pgqrs_queue_list *list_out, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, after_id);
    pgqrs_pg_arg_int8(&args, limit);
    PGresult *rows = pgqrs_pg_run(pg_of(store), &queue_list, &args, true, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    struct pgqrs_queue_list list = {0};
    int rc = read_queues(rows, &list, err);
    PQclear(rows);
    if (rc < 0) {
        pgqrs_queue_list_fini(&list);
        return -1;
    }
    *list_out = list;
    return 0;
}

/* ---- pausing ---- */

static int no_queue(int64_t queue_id, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "queue %lld does not exist",
                           (long long)queue_id);
}

static const struct pg_stmt queue_pause = {
    .name = "queue_pause",
    .sql =
        PG_WAKING "UPDATE pgqrs_queues SET pgqrsd_paused_at ="
                  " CASE WHEN $2 THEN coalesce(pgqrsd_paused_at, pgqrsd_now()) END WHERE id = $1",
    .param_count = 2,
    .types = {PG_INT8, PG_BOOL},
};

int pgqrs_pg_queue_pause(struct pgqrs_store *store, int64_t queue_id, bool paused,
                         struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, queue_id);
    pgqrs_pg_arg_bool(&args, paused);
    int64_t changed = pgqrs_pg_exec(pg_of(store), &queue_pause, &args, err);
    pgqrs_pg_args_fini(&args);
    return changed == 0 ? no_queue(queue_id, err) : changed < 0 ? -1 : 0;
}

/* ---- deleting ---- */

/* Against whoever inserts a message, a worker or a definition of the queue: its foreign key needs
 * the row. */
static const struct pg_stmt queue_lock = {
    .name = "queue_lock",
    .sql = "SELECT 1 FROM pgqrs_queues WHERE id = $1 FOR UPDATE",
    .param_count = 1,
    .types = {PG_INT8},
};
static const struct pg_stmt queue_in_the_way = {
    .name = "queue_in_the_way",
    .sql = "SELECT EXISTS (SELECT 1 FROM pgqrs_messages WHERE queue_id = $1 AND " PG_LIVE "),"
           " EXISTS (SELECT 1 FROM pgqrs_messages WHERE queue_id = $1"
           " AND archived_at IS NOT NULL),"
           " (SELECT count(*) FROM pgqrs_workers WHERE queue_id = $1 AND status <> 'stopped'),"
           " EXISTS (SELECT 1 FROM pgqrs_workflows WHERE queue_id = $1),"
           " EXISTS (SELECT 1 FROM pgqrsd_schedules WHERE queue_id = $1)",
    .param_count = 1,
    .types = {PG_INT8},
};
/* All of them lose it, and then those that nothing names go. Whether something does, and whether
 * the foreign keys agree, takes a look at every message for each: past a hundred they stay. */
static const struct pg_stmt queue_leave = {
    .name = "queue_leave",
    .sql = "UPDATE pgqrs_workers SET queue_id = NULL WHERE queue_id = $1 RETURNING id",
    .param_count = 1,
    .types = {PG_INT8},
};
static const struct pg_stmt queue_workers = {
    .name = "queue_workers",
    .sql = "DELETE FROM pgqrs_workers WHERE id = ANY(($1::bigint[])[1:100]) AND id <> ALL(ARRAY("
           "SELECT consumer_worker_id FROM pgqrs_messages WHERE consumer_worker_id = ANY($1)"
           " UNION SELECT producer_worker_id FROM pgqrs_messages"
           " WHERE producer_worker_id = ANY($1)"
           " UNION SELECT worker_id FROM pgqrs_workflow_runs WHERE worker_id = ANY($1)))",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};
static const struct pg_stmt queue_delete = {
    .name = "queue_delete",
    .sql = "DELETE FROM pgqrs_queues WHERE id = $1",
    .param_count = 1,
    .types = {PG_INT8},
};

/* A statement about one id, inside a transaction; its result is for PQclear. */
static PGresult *about(struct pg_store *s, const struct pg_stmt *stmt, int64_t id,
                       struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, id);
    PGresult *rows = pgqrs_pg_run(s, stmt, &args, false, err);
    pgqrs_pg_args_fini(&args);
    return rows;
}

static int check_way(const PGresult *row, int64_t queue_id, struct pgqrs_error *err)
{
    char workers[60] = "";
    int64_t count = pgqrs_pg_int(row, 0, 2);
    if (count > 0) {
        (void)snprintf(workers, sizeof workers, ", %lld worker%s not stopped", (long long)count,
                       count == 1 ? " that is" : "s that are");
    }
    char found[200];
    int len = snprintf(found, sizeof found, "%s%s%s%s%s",
                       pgqrs_pg_bool(row, 0, 0) ? ", live messages" : "",
                       pgqrs_pg_bool(row, 0, 1) ? ", archived messages" : "", workers,
                       pgqrs_pg_bool(row, 0, 3) ? ", a workflow definition" : "",
                       pgqrs_pg_bool(row, 0, 4) ? ", a schedule" : "");
    if (len == 0) {
        return 0;
    }
    return pgqrs_error_set(err, PGQRS_ERR_CONFLICT, "queue %lld: found %s; expected none",
                           (long long)queue_id, found + 2);
}

static int drop_workers(struct pg_store *s, int64_t queue_id, struct pgqrs_error *err)
{
    PGresult *rows = about(s, &queue_leave, queue_id, err);
    if (rows == NULL) {
        return -1;
    }
    struct pg_ids ids = {0};
    int64_t rc = pgqrs_pg_ids(rows, &ids, err);
    PQclear(rows);
    if (rc == 0 && ids.count > 0) {
        struct pg_args args = {0};
        pgqrs_pg_arg_ids(&args, ids.items, ids.count);
        rc = pgqrs_pg_exec(s, &queue_workers, &args, err);
        pgqrs_pg_args_fini(&args);
    }
    pgqrs_pg_ids_fini(&ids);
    return rc < 0 ? -1 : 0;
}

static int delete_queue(struct pg_store *s, int64_t queue_id, struct pgqrs_error *err)
{
    PGresult *row = about(s, &queue_lock, queue_id, err);
    if (row == NULL) {
        return -1;
    }
    int there = PQntuples(row);
    PQclear(row);
    if (there == 0) {
        return no_queue(queue_id, err);
    }
    row = about(s, &queue_in_the_way, queue_id, err);
    if (row == NULL) {
        return -1;
    }
    int rc = check_way(row, queue_id, err);
    PQclear(row);
    if (rc < 0 || drop_workers(s, queue_id, err) < 0) {
        return -1;
    }
    row = about(s, &queue_delete, queue_id, err);
    PQclear(row);
    return row == NULL ? -1 : 0;
}

int pgqrs_pg_queue_delete(struct pgqrs_store *store, int64_t queue_id, struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    if (pgqrs_pg_begin(s, err) < 0) {
        return -1;
    }
    return (int)pgqrs_pg_end(s, delete_queue(s, queue_id, err), err);
}

/* ---- purging ---- */

/* Every kind twice: passing over what others have locked, and waiting for it. The order makes the
 * index: what is ready or delayed, who holds what, what has ended. */
#define PURGE(label, rows, order, wait)                                                            \
    {                                                                                              \
        .name = (label),                                                                           \
        .sql = "SELECT id FROM pgqrs_messages WHERE queue_id = $1 AND " rows " ORDER BY " order    \
               " LIMIT $2 FOR UPDATE" wait,                                                        \
        .param_count = 2, .types = {                                                               \
            PG_INT8,                                                                               \
            PG_INT8                                                                                \
        }                                                                                          \
    }
#define PURGE_KIND(label, rows, order)                                                             \
    {                                                                                              \
        PURGE(label, rows, order, " SKIP LOCKED"), PURGE(label "_wait", rows, order, "")           \
    }

/* In the order of a message's life: what moves on meanwhile is met again. */
static const struct {
    unsigned bit;
    struct pg_stmt pick[2];
} purges[] = {
    {PGQRS_PURGE_PENDING, PURGE_KIND("purge_pending", PG_PENDING, "pgqrsd_priority DESC, vt, id")},
    {PGQRS_PURGE_LEASED, PURGE_KIND("purge_leased", PG_LEASED, "consumer_worker_id")},
    {PGQRS_PURGE_ARCHIVED, PURGE_KIND("purge_archived", "archived_at IS NOT NULL", "archived_at")},
};

/* Appends up to limit - count ids of one kind, whose rows are then locked. */
static int pick(struct pg_store *s, const struct pg_stmt *stmt, int64_t queue_id, size_t limit,
                struct pg_ids *ids, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, queue_id);
    pgqrs_pg_arg_int8(&args, (int64_t)(limit - ids->count));
    PGresult *rows = pgqrs_pg_run(s, stmt, &args, false, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    for (int i = 0; i < PQntuples(rows) && ids->count < limit; i++) {
        ids->items[ids->count++] = pgqrs_pg_int(rows, i, 0);
    }
    PQclear(rows);
    return 0;
}

static int64_t purge(struct pg_store *s, int64_t queue_id, unsigned what, bool wait, size_t limit,
                     struct pg_ids *ids, struct pgqrs_error *err)
{
    ids->count = 0;
    for (size_t i = 0; i < sizeof purges / sizeof *purges && ids->count < limit; i++) {
        if ((what & purges[i].bit) != 0 &&
            pick(s, &purges[i].pick[wait], queue_id, limit, ids, err) < 0) {
            return -1;
        }
    }
    if (ids->count < limit && !wait) {
        return pgqrs_error_set(err, PGQRS_ERR_AGAIN, "some may be locked");
    }
    return pgqrs_pg_delete_messages(s, ids->items, ids->count, false, err);
}

/*
 * Fewer than the limit means that none is left, so what others have locked counts. It is waited for
 * only then, in a transaction of its own: who waits holds nothing that it did not lock in the order
 * that every purge has, and two purges do not wait for each other.
 */
int64_t pgqrs_pg_queue_purge(struct pgqrs_store *store, int64_t queue_id, unsigned what,
                             uint32_t limit, struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    struct pg_ids ids = {.items = calloc(limit, sizeof *ids.items)};
    if (ids.items == NULL) {
        return pgqrs_error_memory(err);
    }
    struct pgqrs_error why = {.code = PGQRS_ERR_AGAIN};
    int64_t gone = -1;
    for (int wait = 0; wait < 2 && gone < 0 && why.code == PGQRS_ERR_AGAIN; wait++) {
        gone = pgqrs_pg_begin(s, &why);
        if (gone == 0) {
            gone = pgqrs_pg_end(s, purge(s, queue_id, what, wait != 0, limit, &ids, &why), &why);
        }
    }
    pgqrs_pg_ids_fini(&ids);
    return gone < 0 ? pgqrs_error_set(err, why.code, "%s", why.text) : gone;
}
