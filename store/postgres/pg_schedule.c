/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_conn.h"

#include <stdlib.h>

#include "store/postgres/pg_delete.h"
#include "store/postgres/pg_text.h"

static int no_schedule(const char *name, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "schedule \"%s\" does not exist", name);
}

/* ---- reading ---- */

#define US(time) PGQRS_PG_US(time)
#define COLUMNS                                                                                    \
    "s.id, s.name, q.queue_name, s.queue_id, s.cron, s.zone, s.payload, s.priority, s.catch_up,"   \
    " s.overlap, s.config, " TIMES ", s.last_message_id"
#define TIMES                                                                                      \
    US("s.created_at")                                                                             \
    ", " US("s.paused_at") ", " US("s.next_at") " AS next, s.planned, " US("s.last_at")
#define FROM_SCHEDULES " FROM pgqrsd_schedules s JOIN pgqrs_queues q ON q.id = s.queue_id"
#define BY_NAME " COLLATE \"C\""

static const struct pg_stmt schedule_list_stmt = {
    .name = "schedule_list",
    .sql = "SELECT " COLUMNS ", " PG_NOW_US FROM_SCHEDULES " WHERE s.name" BY_NAME
           " > $1 ORDER BY s.name" BY_NAME " LIMIT $2",
    .param_count = 2,
    .types = {PG_TEXT, PG_INT8},
};
static const struct pg_stmt schedule_find_stmt = {
    .name = "schedule_find",
    .sql = "SELECT " COLUMNS ", " PG_NOW_US FROM_SCHEDULES " WHERE s.name = $1",
    .param_count = 1,
    .types = {PG_TEXT},
};
/* Those that are due, then the first that is not. One more row than wanted: there are more. There
 * is always a row, for the time. */
#define AT "coalesce(" PGQRS_PG_TIME("nullif($1, 0)") ", pgqrsd_now())"
static const struct pg_stmt schedule_due_stmt = {
    .name = "schedule_due",
    .sql = "SELECT d.*, " PGQRS_PG_US(
        "n.now") " FROM (SELECT " AT " AS now) n"
                 " LEFT JOIN ((SELECT " COLUMNS FROM_SCHEDULES " WHERE s.paused_at IS NULL"
                 " AND s.next_at <= " AT " ORDER BY s.next_at LIMIT $2 + 1) UNION ALL"
                 " (SELECT " COLUMNS FROM_SCHEDULES " WHERE s.paused_at IS NULL"
                 " AND s.next_at > " AT " ORDER BY s.next_at LIMIT 1)) d ON true ORDER BY d.next",
    .param_count = 2,
    .types = {PG_INT8, PG_INT8},
};
enum { COLUMN_NEXT = 13, COLUMN_NOW = 17 };

static int read_schedule(const PGresult *rows, int row, struct pgqrs_schedule *m,
                         struct pgqrs_error *err)
{
    m->id = pgqrs_pg_int(rows, row, 0);
    m->queue_id = pgqrs_pg_int(rows, row, 3);
    m->priority = (int32_t)pgqrs_pg_int(rows, row, 7);
    m->catch_up = pgqrs_catch_up_from(pgqrs_pg_bytes(rows, row, 8));
    m->overlap = pgqrs_overlap_from(pgqrs_pg_bytes(rows, row, 9));
    m->created_at_us = pgqrs_pg_int(rows, row, 11);
    m->paused_at_us = pgqrs_pg_int(rows, row, 12);
    m->next_at_us = pgqrs_pg_int(rows, row, COLUMN_NEXT);
    m->planned = pgqrs_pg_bool(rows, row, 14);
    m->last_at_us = pgqrs_pg_int(rows, row, 15);
    m->last_message_id = pgqrs_pg_int(rows, row, 16);
    if (pgqrs_pg_dup(rows, row, 1, &m->name, err) < 0 ||
        pgqrs_pg_dup(rows, row, 2, &m->queue, err) < 0 ||
        pgqrs_pg_dup(rows, row, 4, &m->cron, err) < 0 ||
        pgqrs_pg_dup(rows, row, 5, &m->zone, err) < 0 ||
        pgqrs_pg_dup(rows, row, 6, &m->payload, err) < 0) {
        return -1;
    }
    return pgqrs_pg_dup(rows, row, 10, &m->config, err);
}

/* The first count rows. */
static int read_list(const PGresult *rows, int count, struct pgqrs_schedule_list *list_out,
                     struct pgqrs_error *err)
{
    struct pgqrs_schedule_list list = {0};
    list.items = calloc((size_t)count + 1, sizeof *list.items);
    if (list.items == NULL) {
        return pgqrs_error_memory(err);
    }
    for (int i = 0; i < count; i++) {
        if (read_schedule(rows, i, &list.items[list.count++], err) < 0) {
            pgqrs_schedule_list_fini(&list);
            return -1;
        }
    }
    list.now_us = PQntuples(rows) > 0 ? pgqrs_pg_int(rows, 0, COLUMN_NOW) : 0;
    *list_out = list;
    return 0;
}

static int schedule_list(struct pgqrs_store *store, const char *after, uint32_t limit,
                         struct pgqrs_schedule_list *list_out, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_text(&args, after);
    pgqrs_pg_arg_int8(&args, limit);
    PGresult *rows = pgqrs_pg_run(pg_of(store), &schedule_list_stmt, &args, true, err);
    pgqrs_pg_args_fini(&args);
    int rc = rows == NULL ? -1 : read_list(rows, PQntuples(rows), list_out, err);
    PQclear(rows);
    return rc;
}

static int schedule_find(struct pgqrs_store *store, const char *name,
                         struct pgqrs_schedule_list *one_out, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_text(&args, name);
    PGresult *rows = pgqrs_pg_run(pg_of(store), &schedule_find_stmt, &args, true, err);
    pgqrs_pg_args_fini(&args);
    int rc = rows == NULL           ? -1
             : PQntuples(rows) == 0 ? no_schedule(name, err)
                                    : read_list(rows, 1, one_out, err);
    PQclear(rows);
    return rc;
}

static int schedule_due(struct pgqrs_store *store, int64_t now_us, uint32_t limit,
                        struct pgqrs_schedule_list *list_out, int64_t *next_us_out,
                        struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, now_us);
    pgqrs_pg_arg_int8(&args, limit);
    PGresult *rows = pgqrs_pg_run(pg_of(store), &schedule_due_stmt, &args, true, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    int due = 0;
    int count = pgqrs_pg_is_null(rows, 0, 0) ? 0 : PQntuples(rows);
    while (due < count && due < (int)limit &&
           pgqrs_pg_int(rows, due, COLUMN_NEXT) <= pgqrs_pg_int(rows, due, COLUMN_NOW)) {
        due++;
    }
    *next_us_out = due < count ? pgqrs_pg_int(rows, due, COLUMN_NEXT) : 0;
    int rc = read_list(rows, due, list_out, err);
    PQclear(rows);
    return rc;
}

/* ---- creating and changing ---- */

#define INSERT_INTO                                                                                \
    "INSERT INTO pgqrsd_schedules AS s (name, queue_id, cron, zone, payload, priority, catch_up,"  \
    " overlap, config, paused_at, next_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8,"    \
    " $9, CASE WHEN $10 = 1 THEN pgqrsd_now() END, pgqrsd_now(), pgqrsd_now())"
#define PUT_TYPES                                                                                  \
    PG_TEXT, PG_INT8, PG_TEXT, PG_TEXT, PG_JSONB, PG_INT4, PG_TEXT, PG_TEXT, PG_TEXT, PG_INT4
#define RESUMED "($10 = 2 AND s.paused_at IS NOT NULL)"
#define ANEW "s.cron <> $3 OR s.zone <> $4 OR " RESUMED

static const struct pg_stmt schedule_insert_stmt = {
    .name = "schedule_insert",
    .sql = INSERT_INTO " RETURNING id, " PG_NOTIFY,
    .param_count = 10,
    .types = {PUT_TYPES},
};
static const struct pg_stmt schedule_put_stmt = {
    .name = "schedule_put",
    .sql = INSERT_INTO
    " ON CONFLICT (name) DO UPDATE SET queue_id = $2, cron = $3, zone = $4, payload = $5,"
    " priority = $6, catch_up = $7, overlap = $8, config = $9,"
    " paused_at = CASE $10 WHEN 1 THEN coalesce(s.paused_at, pgqrsd_now())"
    " WHEN 0 THEN s.paused_at END,"
    " next_at = CASE WHEN " ANEW " THEN pgqrsd_now() ELSE s.next_at END,"
    " planned = s.planned AND NOT (" ANEW ")"
    " WHERE " ANEW " OR s.queue_id <> $2 OR s.payload <> $5 OR s.priority <> $6"
    " OR s.catch_up <> $7 OR s.overlap <> $8 OR s.config IS DISTINCT FROM $9"
    " OR ($10 = 1 AND s.paused_at IS NULL) RETURNING id, " PG_NOTIFY,
    .param_count = 10,
    .types = {PUT_TYPES},
};
/* Against another broker's, which may have them in another order. */
static const struct pg_stmt schedule_lock_stmt = {
    .name = "schedule_lock",
    .sql = "LOCK TABLE pgqrsd_schedules IN SHARE ROW EXCLUSIVE MODE",
};
static const struct pg_stmt schedule_others_stmt = {
    .name = "schedule_others",
    .sql = "DELETE FROM pgqrsd_schedules WHERE config = $1 AND name <> ALL($2)",
    .param_count = 2,
    .types = {PG_TEXT, PG_TEXT_ARRAY},
};
static const struct pg_stmt schedule_pause_stmt = {
    .name = "schedule_pause",
    .sql = "UPDATE pgqrsd_schedules SET"
           " paused_at = CASE WHEN $2 THEN coalesce(paused_at, pgqrsd_now()) END,"
           " next_at = CASE WHEN NOT $2 AND paused_at IS NOT NULL THEN pgqrsd_now()"
           " ELSE next_at END, planned = planned AND ($2 OR paused_at IS NULL)"
           " WHERE name = $1 RETURNING id, " PG_NOTIFY,
    .param_count = 2,
    .types = {PG_TEXT, PG_BOOL},
};
static const struct pg_stmt schedule_delete_stmt = {
    .name = "schedule_delete",
    .sql = "DELETE FROM pgqrsd_schedules WHERE name = $1 AND config IS NULL",
    .param_count = 1,
    .types = {PG_TEXT},
};

/* The rows that came back; null: it failed. */
static PGresult *put_row(struct pg_store *s, const struct pg_stmt *stmt,
                         const struct pgqrs_schedule_put *put, const char *config,
                         struct pgqrs_error *err)
{
    int64_t queue_id = 0;
    if (pgqrs_pg_queue_find((struct pgqrs_store *)s, put->queue, &queue_id, err) < 0) {
        return NULL;
    }
    struct pg_args args = {0};
    pgqrs_pg_arg_text(&args, put->name);
    pgqrs_pg_arg_int8(&args, queue_id);
    pgqrs_pg_arg_text(&args, put->cron);
    pgqrs_pg_arg_text(&args, put->zone);
    pgqrs_pg_arg_bytes(&args, put->payload, true);
    pgqrs_pg_arg_int4(&args, put->priority);
    pgqrs_pg_arg_text(&args, pgqrs_catch_up_name(put->catch_up));
    pgqrs_pg_arg_text(&args, pgqrs_overlap_name(put->overlap));
    pgqrs_pg_arg_text(&args, config);
    pgqrs_pg_arg_int4(&args, (int32_t)put->pause);
    PGresult *rows = pgqrs_pg_run(s, stmt, &args, false, err);
    pgqrs_pg_args_fini(&args);
    return rows;
}

static int schedule_create(struct pgqrs_store *store, const struct pgqrs_schedule_put *put,
                           int64_t *id_out, struct pgqrs_error *err)
{
    struct pgqrs_error why;
    PGresult *row = put_row(pg_of(store), &schedule_insert_stmt, put, NULL, &why);
    if (row == NULL) {
        return why.code == PGQRS_ERR_EXISTS
                   ? pgqrs_error_set(err, why.code, "schedule \"%s\" exists already", put->name)
                   : pgqrs_error_set(err, why.code, "%s", why.text);
    }
    *id_out = pgqrs_pg_int(row, 0, 0);
    PQclear(row);
    return 0;
}

static int64_t delete_others(struct pg_store *s, const char *config,
                             const struct pgqrs_schedule_put *puts, size_t count,
                             struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_text(&args, config);
    pgqrs_pg_arg_array_begin(&args, PG_TEXT, count);
    for (size_t i = 0; i < count; i++) {
        pgqrs_pg_arg_array_bytes(&args, pgqrs_bytes_from(puts[i].name), false);
    }
    pgqrs_pg_arg_array_end(&args);
    int64_t gone = pgqrs_pg_exec(s, &schedule_others_stmt, &args, err);
    pgqrs_pg_args_fini(&args);
    return gone;
}

static int64_t configure(struct pg_store *s, const char *config,
                         const struct pgqrs_schedule_put *puts, size_t count,
                         struct pgqrs_error *err)
{
    int64_t changed = pgqrs_pg_exec(s, &schedule_lock_stmt, NULL, err) < 0
                          ? -1
                          : delete_others(s, config, puts, count, err);
    for (size_t i = 0; changed >= 0 && i < count; i++) {
        PGresult *rows = put_row(s, &schedule_put_stmt, &puts[i], config, err);
        changed = rows == NULL ? -1 : changed + PQntuples(rows);
        PQclear(rows);
    }
    return changed;
}

static int64_t schedule_configure(struct pgqrs_store *store, const char *config,
                                  const struct pgqrs_schedule_put *puts, size_t count,
                                  struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    return pgqrs_pg_begin(s, err) < 0
               ? -1
               : pgqrs_pg_end(s, configure(s, config, puts, count, err), err);
}

static int schedule_pause(struct pgqrs_store *store, const char *name, bool paused,
                          struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_text(&args, name);
    pgqrs_pg_arg_bool(&args, paused);
    int64_t changed = pgqrs_pg_exec(pg_of(store), &schedule_pause_stmt, &args, err);
    pgqrs_pg_args_fini(&args);
    return changed == 0 ? no_schedule(name, err) : changed < 0 ? -1 : 0;
}

static int schedule_delete(struct pgqrs_store *store, const char *name, struct pgqrs_error *err)
{
    struct pgqrs_schedule_list one;
    struct pg_args args = {0};
    pgqrs_pg_arg_text(&args, name);
    int64_t gone = pgqrs_pg_exec(pg_of(store), &schedule_delete_stmt, &args, err);
    pgqrs_pg_args_fini(&args);
    if (gone != 0) {
        return gone < 0 ? -1 : 0;
    }
    if (pgqrs_store_schedule_find(store, name, &one, err) < 0) {
        return -1;
    }
    int rc = one.items[0].config == NULL
                 ? pgqrs_error_set(err, PGQRS_ERR_AGAIN, "schedule \"%s\" comes and goes", name)
                 : pgqrs_schedule_is_configured(&one.items[0], err);
    pgqrs_schedule_list_fini(&one);
    return rc;
}

/* ---- firing ---- */

/* Who waits here for somebody faster looks at the row once more, and finds another next_at. */
static const struct pg_stmt fire_look_stmt = {
    .name = "fire_look",
    .sql = "SELECT overlap = 'skip', EXISTS (SELECT 1 FROM pgqrs_messages m"
           " WHERE m.id = last_message_id AND " PG_IS_LIVE ") FROM pgqrsd_schedules"
           " WHERE id = $1 AND next_at = " PGQRS_PG_TIME("$2") " AND paused_at IS NULL FOR UPDATE",
    .param_count = 2,
    .types = {PG_INT8, PG_INT8},
};
/* $2 the ticks, $3 the first so many of them with a message. */
static const struct pg_stmt fire_stmt = {
    .name = "fire",
    .sql =
        "WITH ticks AS (INSERT INTO pgqrsd_schedule_ticks (schedule_id, tick_at, message_id)"
        " SELECT $1, " PGQRS_PG_TIME(
            "t.us") ", CASE WHEN t.nth <= $3 THEN"
                    " nextval(pg_get_serial_sequence('pgqrs_messages', 'id')) END"
                    " FROM unnest($2) WITH ORDINALITY AS t (us, nth) ORDER BY t.nth"
                    " ON CONFLICT DO NOTHING RETURNING tick_at, message_id),"
                    " messages AS (INSERT INTO pgqrs_messages (id, queue_id, payload, vt, "
                    "enqueued_at,"
                    " read_ct, pgqrsd_priority) SELECT t.message_id, s.queue_id, s.payload, "
                    "pgqrsd_now(),"
                    " pgqrsd_now(), 0, s.priority FROM ticks t JOIN pgqrsd_schedules s ON s.id = $1"
                    " WHERE t.message_id IS NOT NULL ORDER BY t.message_id)"
                    " UPDATE pgqrsd_schedules SET next_at = " PGQRS_PG_TIME(
                        "$4") ", planned = $5,"
                              " last_at = coalesce((SELECT max(tick_at) FROM ticks WHERE "
                              "message_id IS NOT NULL),"
                              " last_at),"
                              " last_message_id = coalesce((SELECT max(message_id) FROM ticks), "
                              "last_message_id)"
                              " WHERE id = $1 RETURNING (SELECT count(message_id) FROM ticks)",
    .param_count = 5,
    .types = {PG_INT8, PG_INT8_ARRAY, PG_INT8, PG_INT8, PG_BOOL},
};
static const struct pg_stmt fire_old_stmt = {
    .name = "fire_old",
    .sql = "DELETE FROM pgqrsd_schedule_ticks WHERE schedule_id = $1 AND tick_at <= (SELECT tick_at"
           " FROM pgqrsd_schedule_ticks WHERE schedule_id = $1 ORDER BY tick_at DESC"
           " LIMIT 1 OFFSET $2)",
    .param_count = 2,
    .types = {PG_INT8, PG_INT8},
};

/* 1 it is as expected, 0 it is not, or -1. */
static int fire_look(struct pg_store *s, const struct pgqrs_fire *fire, int64_t *messages_out,
                     struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, fire->schedule_id);
    pgqrs_pg_arg_int8(&args, fire->expected_us);
    PGresult *rows = pgqrs_pg_run(s, &fire_look_stmt, &args, false, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    int found = PQntuples(rows) > 0 ? 1 : 0;
    if (found > 0) {
        bool only_one = pgqrs_pg_bool(rows, 0, 0);
        bool busy = pgqrs_pg_bool(rows, 0, 1);
        *messages_out = !only_one ? (int64_t)fire->tick_count : busy ? 0 : 1;
    }
    PQclear(rows);
    return found;
}

static int fire_ticks(struct pg_store *s, struct pgqrs_fire *fire, int64_t messages,
                      struct pgqrs_error *err)
{
    struct pg_batch batch = {0};
    struct pg_args *args = pgqrs_pg_batch_add(&batch, &fire_stmt);
    pgqrs_pg_arg_int8(args, fire->schedule_id);
    pgqrs_pg_arg_ids(args, fire->ticks, fire->tick_count);
    pgqrs_pg_arg_int8(args, messages);
    pgqrs_pg_arg_int8(args, fire->next_us);
    pgqrs_pg_arg_bool(args, !fire->unplanned);
    if (fire->tick_count > 0) {
        args = pgqrs_pg_batch_add(&batch, &fire_old_stmt);
        pgqrs_pg_arg_int8(args, fire->schedule_id);
        pgqrs_pg_arg_int8(args, PGQRS_TICKS_MAX);
    }
    int rc = pgqrs_pg_batch_run(s, &batch, err);
    if (rc >= 0) {
        fire->fired_out = true;
        fire->message_count_out = (size_t)pgqrs_pg_int(batch.results[0], 0, 0);
    }
    pgqrs_pg_batch_fini(&batch);
    return rc;
}

static int schedule_fire(struct pgqrs_store *store, struct pgqrs_fire *fire,
                         struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    int64_t messages = 0;
    if (pgqrs_pg_begin(s, err) < 0) {
        return -1;
    }
    int rc = fire_look(s, fire, &messages, err);
    if (rc > 0) {
        rc = fire_ticks(s, fire, messages, err);
    }
    if (pgqrs_pg_end(s, rc, err) < 0) {
        fire->fired_out = false;
        fire->message_count_out = 0;
        return -1;
    }
    return 0;
}

const struct pgqrs_schedule_ops pgqrs_pg_schedule_ops = {
    .create = schedule_create,
    .configure = schedule_configure,
    .list = schedule_list,
    .find = schedule_find,
    .pause = schedule_pause,
    .remove = schedule_delete,
    .due = schedule_due,
    .fire = schedule_fire,
};
