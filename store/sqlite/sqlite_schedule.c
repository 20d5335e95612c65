/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static int no_schedule(const char *name, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "schedule \"%s\" does not exist", name);
}

/* ---- reading ---- */

static int read_names(sqlite3_stmt *row, struct pgqrs_schedule *m, struct pgqrs_error *err)
{
    if (pgqrs_sqlite_dup(row, 1, &m->name, err) < 0 ||
        pgqrs_sqlite_dup(row, 2, &m->queue, err) < 0 ||
        pgqrs_sqlite_dup(row, 4, &m->cron, err) < 0 ||
        pgqrs_sqlite_dup(row, 5, &m->zone, err) < 0 ||
        pgqrs_sqlite_dup(row, 6, &m->payload, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_dup(row, 10, &m->config, err);
}

static int read_schedule(sqlite3_stmt *row, struct pgqrs_schedule *m, struct pgqrs_error *err)
{
    m->id = sqlite3_column_int64(row, 0);
    m->queue_id = sqlite3_column_int64(row, 3);
    m->priority = sqlite3_column_int(row, 7);
    m->catch_up = pgqrs_catch_up_from(pgqrs_sqlite_bytes(row, 8));
    m->overlap = pgqrs_overlap_from(pgqrs_sqlite_bytes(row, 9));
    pgqrs_sqlite_time(row, 11, &m->created_at_us);
    pgqrs_sqlite_time(row, 12, &m->paused_at_us);
    pgqrs_sqlite_time(row, 13, &m->next_at_us);
    m->planned = sqlite3_column_int(row, 14) != 0;
    pgqrs_sqlite_time(row, 15, &m->last_at_us);
    m->last_message_id = sqlite3_column_int64(row, 16);
    return read_names(row, m, err);
}

static int add_row(sqlite3_stmt *row, struct pgqrs_schedule_list *list, struct pgqrs_error *err)
{
    struct pgqrs_schedule *items = reallocarray(list->items, list->count + 1, sizeof *items);
    if (items == NULL) {
        return pgqrs_error_memory(err);
    }
    list->items = items;
    items[list->count] = (struct pgqrs_schedule){0};
    return read_schedule(row, &items[list->count++], err);
}

/* With its parameters bound; stmt may be null. */
static int read_list(struct sqlite_store *s, sqlite3_stmt *stmt,
                     struct pgqrs_schedule_list *list_out, struct pgqrs_error *err)
{
    struct pgqrs_schedule_list list = {.now_us = pgqrs_wall_us()};
    int rc = stmt == NULL ? -1 : 0;
    while (rc >= 0 && (rc = pgqrs_sqlite_step(s, stmt, err)) > 0) {
        rc = add_row(stmt, &list, err);
    }
    if (rc < 0) {
        (void)sqlite3_reset(stmt); /* the failure is known */
        pgqrs_schedule_list_fini(&list);
        return -1;
    }
    *list_out = list;
    return 0;
}

static int schedule_list(struct pgqrs_store *store, const char *after, uint32_t limit,
                         struct pgqrs_schedule_list *list_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    sqlite3_stmt *stmt =
        pgqrs_sqlite_check_file(s, err) < 0 ? NULL : pgqrs_sqlite_stmt(s, STMT_SCHEDULE_LIST, err);
    if (stmt != NULL) {
        pgqrs_sqlite_bind_text(stmt, 1, after);
        pgqrs_sqlite_bind_int(stmt, 2, limit);
    }
    return read_list(s, stmt, list_out, err);
}

static int schedule_find(struct pgqrs_store *store, const char *name,
                         struct pgqrs_schedule_list *one_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    sqlite3_stmt *stmt =
        pgqrs_sqlite_check_file(s, err) < 0 ? NULL : pgqrs_sqlite_stmt(s, STMT_SCHEDULE_FIND, err);
    if (stmt != NULL) {
        pgqrs_sqlite_bind_text(stmt, 1, name);
    }
    if (read_list(s, stmt, one_out, err) < 0) {
        return -1;
    }
    if (one_out->count == 0) {
        pgqrs_schedule_list_fini(one_out);
        return no_schedule(name, err);
    }
    return 0;
}

static int schedule_due(struct pgqrs_store *store, int64_t now_us, uint32_t limit,
                        struct pgqrs_schedule_list *list_out, int64_t *next_us_out,
                        struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    struct pgqrs_schedule_list list = {.now_us = now_us != 0 ? now_us : pgqrs_wall_us()};
    sqlite3_stmt *stmt =
        pgqrs_sqlite_check_file(s, err) < 0 ? NULL : pgqrs_sqlite_stmt(s, STMT_SCHEDULE_DUE, err);
    int rc = stmt == NULL ? -1 : 0;
    while (rc >= 0 && (rc = pgqrs_sqlite_step(s, stmt, err)) > 0) {
        int64_t next_us;
        pgqrs_sqlite_time(stmt, 13, &next_us);
        if (next_us > list.now_us || list.count == limit) {
            *next_us_out = next_us;
            rc = 0;
            break;
        }
        rc = add_row(stmt, &list, err);
    }
    (void)sqlite3_reset(stmt); /* what was wrong is known */
    if (rc < 0) {
        pgqrs_schedule_list_fini(&list);
        return -1;
    }
    *list_out = list;
    return 0;
}

/* ---- creating and changing ---- */

/* The queue's id, or -1. */
static int64_t find_queue(struct sqlite_store *s, const char *name, struct pgqrs_error *err)
{
    int64_t id = 0;
    return pgqrs_sqlite_queue_find(&s->base, name, &id, err) < 0 ? -1 : id;
}

static int64_t put_row(struct sqlite_store *s, enum sqlite_stmt_id stmt_id,
                       const struct pgqrs_schedule_put *put, int64_t queue_id, const char *config,
                       const struct moment *now, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, stmt_id, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_text(stmt, 1, put->name);
    pgqrs_sqlite_bind_int(stmt, 2, queue_id);
    pgqrs_sqlite_bind_text(stmt, 3, put->cron);
    pgqrs_sqlite_bind_text(stmt, 4, put->zone);
    pgqrs_sqlite_bind_bytes(stmt, 5, put->payload);
    pgqrs_sqlite_bind_int(stmt, 6, put->priority);
    pgqrs_sqlite_bind_text(stmt, 7, pgqrs_catch_up_name(put->catch_up));
    pgqrs_sqlite_bind_text(stmt, 8, pgqrs_overlap_name(put->overlap));
    pgqrs_sqlite_bind_text(stmt, 9, config);
    pgqrs_sqlite_bind_int(stmt, 10, put->pause);
    pgqrs_sqlite_bind_text(stmt, 11, now->text);
    return pgqrs_sqlite_run(s, stmt, err);
}

static int schedule_create(struct pgqrs_store *store, const struct pgqrs_schedule_put *put,
                           int64_t *id_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    int64_t rc = find_queue(s, put->queue, err);
    if (rc >= 0) {
        rc = put_row(s, STMT_SCHEDULE_INSERT, put, rc, NULL, &now, err);
        if (rc < 0 && sqlite3_extended_errcode(s->db) == SQLITE_CONSTRAINT_UNIQUE) {
            (void)pgqrs_error_set(err, PGQRS_ERR_EXISTS, "schedule \"%s\" exists already",
                                  put->name);
        }
    }
    int64_t id = sqlite3_last_insert_rowid(s->db);
    if (pgqrs_sqlite_end(s, rc, err) < 0) {
        return -1;
    }
    *id_out = id;
    return 0;
}

/* 1 there is one of that name, 0 or -1. */
static int64_t exists(struct sqlite_store *s, const char *name, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_SCHEDULE_FIND, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_text(stmt, 1, name);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    (void)sqlite3_reset(stmt); /* the row is enough */
    return rc;
}

static int64_t remove_row(struct sqlite_store *s, int64_t id, struct pgqrs_error *err)
{
    return pgqrs_sqlite_run_about(s, STMT_TICKS_DELETE, id, err) < 0
               ? -1
               : pgqrs_sqlite_run_about(s, STMT_SCHEDULE_DELETE, id, err);
}

static int64_t remove_others(struct sqlite_store *s, const char *config, const char *names,
                             struct pgqrs_error *err)
{
    struct sqlite_ids ids = {0};
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_SCHEDULE_OTHERS, err);
    int64_t rc = -1;
    if (stmt != NULL) {
        pgqrs_sqlite_bind_text(stmt, 1, config);
        pgqrs_sqlite_bind_text(stmt, 2, names);
        rc = pgqrs_sqlite_collect(s, stmt, &ids, err);
    }
    for (size_t i = 0; rc >= 0 && i < ids.count; i++) {
        rc = remove_row(s, ids.items[i], err);
    }
    rc = rc < 0 ? -1 : (int64_t)ids.count;
    pgqrs_sqlite_ids_fini(&ids);
    return rc;
}

static char *names_of(const struct pgqrs_schedule_put *puts, size_t count)
{
    json_t *names = json_array();
    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(names, json_string(puts[i].name));
    }
    char *text = json_dumps(names, JSON_COMPACT);
    json_decref(names);
    return text;
}

static int64_t configure(struct sqlite_store *s, const char *config,
                         const struct pgqrs_schedule_put *puts, size_t count, const char *names,
                         struct pgqrs_error *err)
{
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    int64_t changed = remove_others(s, config, names, err);
    for (size_t i = 0; changed >= 0 && i < count; i++) {
        int64_t queue_id = find_queue(s, puts[i].queue, err);
        int64_t there = queue_id < 0 ? -1 : exists(s, puts[i].name, err);
        int64_t rc = there < 0 ? -1
                               : put_row(s, there > 0 ? STMT_SCHEDULE_CHANGE : STMT_SCHEDULE_INSERT,
                                         &puts[i], queue_id, config, &now, err);
        changed = rc < 0 ? -1 : changed + rc;
    }
    return changed;
}

static int64_t schedule_configure(struct pgqrs_store *store, const char *config,
                                  const struct pgqrs_schedule_put *puts, size_t count,
                                  struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    char *names = names_of(puts, count);
    if (names == NULL) {
        return pgqrs_error_memory(err);
    }
    int64_t rc = pgqrs_sqlite_begin(s, err);
    if (rc == 0) {
        rc = pgqrs_sqlite_end(s, configure(s, config, puts, count, names, err), err);
    }
    free(names);
    return rc;
}

static int schedule_pause(struct pgqrs_store *store, const char *name, bool paused,
                          struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_SCHEDULE_PAUSE, err);
    int64_t rc = -1;
    if (stmt != NULL) {
        pgqrs_sqlite_bind_text(stmt, 1, name);
        pgqrs_sqlite_bind_int(stmt, 2, paused);
        pgqrs_sqlite_bind_text(stmt, 3, now.text);
        rc = pgqrs_sqlite_run(s, stmt, err);
        rc = rc == 0 ? no_schedule(name, err) : rc;
    }
    return pgqrs_sqlite_end(s, rc, err) < 0 ? -1 : 0;
}

static int64_t delete_named(struct sqlite_store *s, const char *name, struct pgqrs_error *err)
{
    struct pgqrs_schedule_list one;
    if (schedule_find(&s->base, name, &one, err) < 0) {
        return -1;
    }
    int64_t rc = one.items[0].config != NULL ? pgqrs_schedule_is_configured(&one.items[0], err)
                                             : remove_row(s, one.items[0].id, err);
    pgqrs_schedule_list_fini(&one);
    return rc;
}

static int schedule_delete(struct pgqrs_store *store, const char *name, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_end(s, delete_named(s, name, err), err) < 0 ? -1 : 0;
}

/* ---- firing ---- */

struct firing {
    struct pgqrs_fire *fire;
    int64_t queue_id;
    char *payload;
    int32_t priority;
    bool only_one, busy; /* of its messages; the last one has not ended */
    int64_t last_us, last_id;
};

/* 1 it is as expected, 0 it is not, or -1. */
static int look(struct sqlite_store *s, struct firing *f, struct pgqrs_error *err)
{
    const struct moment expected = pgqrs_sqlite_moment(f->fire->expected_us);
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_SCHEDULE_LOOK, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, f->fire->schedule_id);
    pgqrs_sqlite_bind_text(stmt, 2, expected.text);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc > 0) {
        f->queue_id = sqlite3_column_int64(stmt, 0);
        f->priority = sqlite3_column_int(stmt, 2);
        f->only_one = sqlite3_column_int(stmt, 3) != 0;
        f->busy = f->only_one && sqlite3_column_int(stmt, 4) != 0;
        rc = pgqrs_sqlite_dup(stmt, 1, &f->payload, err) < 0 ? -1 : 1;
        (void)sqlite3_reset(stmt); /* the row was read */
    }
    return rc;
}

/* A statement about a tick; message_id is for the one that has it. */
static int64_t about_tick(struct sqlite_store *s, enum sqlite_stmt_id id, const struct firing *f,
                          const struct moment *tick, int64_t message_id, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, id, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, f->fire->schedule_id);
    pgqrs_sqlite_bind_text(stmt, 2, tick->text);
    if (message_id != 0) {
        pgqrs_sqlite_bind_int(stmt, 3, message_id);
    }
    return pgqrs_sqlite_run(s, stmt, err);
}

static int fire_tick(struct sqlite_store *s, struct firing *f, size_t i, const struct moment *now,
                     struct pgqrs_error *err)
{
    const struct moment tick = pgqrs_sqlite_moment(f->fire->ticks[i]);
    const struct pgqrs_enqueue item = {.payload = pgqrs_bytes_from(f->payload),
                                       .priority = f->priority};
    bool existed = false;
    int64_t is_new = about_tick(s, STMT_TICK_INSERT, f, &tick, 0, err);
    if (is_new <= 0 || f->busy || (f->only_one && i > 0)) {
        return is_new < 0 ? -1 : 0;
    }
    int64_t id = pgqrs_sqlite_insert(s, f->queue_id, &item, now, &existed, err);
    if (id < 0 || about_tick(s, STMT_TICK_MESSAGE, f, &tick, id, err) < 0) {
        return -1;
    }
    f->last_us = tick.us;
    f->last_id = id;
    f->fire->message_count_out++;
    return 0;
}

static int64_t finish(struct sqlite_store *s, const struct firing *f, struct pgqrs_error *err)
{
    const struct moment next = pgqrs_sqlite_moment(f->fire->next_us);
    const struct moment last = pgqrs_sqlite_moment(f->last_us);
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_SCHEDULE_FIRED, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, f->fire->schedule_id);
    pgqrs_sqlite_bind_text(stmt, 2, next.text);
    pgqrs_sqlite_bind_int(stmt, 3, !f->fire->unplanned);
    pgqrs_sqlite_bind_text(stmt, 4, f->last_id != 0 ? last.text : NULL);
    pgqrs_sqlite_bind_id(stmt, 5, f->last_id);
    if (pgqrs_sqlite_run(s, stmt, err) < 0) {
        return -1;
    }
    stmt = f->fire->tick_count == 0 ? NULL : pgqrs_sqlite_stmt(s, STMT_TICKS_OLD, err);
    if (stmt == NULL) {
        return f->fire->tick_count == 0 ? 0 : -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, f->fire->schedule_id);
    pgqrs_sqlite_bind_int(stmt, 2, PGQRS_TICKS_MAX);
    return pgqrs_sqlite_run(s, stmt, err);
}

static int64_t fire_all(struct sqlite_store *s, struct firing *f, struct pgqrs_error *err)
{
    int found = look(s, f, err);
    if (found <= 0) {
        return found;
    }
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    for (size_t i = 0; i < f->fire->tick_count; i++) {
        if (fire_tick(s, f, i, &now, err) < 0) {
            return -1;
        }
    }
    f->fire->fired_out = true;
    return finish(s, f, err);
}

static int schedule_fire(struct pgqrs_store *store, struct pgqrs_fire *fire,
                         struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    struct firing f = {.fire = fire};
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    int64_t rc = pgqrs_sqlite_end(s, fire_all(s, &f, err), err);
    free(f.payload);
    if (rc < 0) {
        fire->fired_out = false;
        fire->message_count_out = 0;
    }
    return rc < 0 ? -1 : 0;
}

const struct pgqrs_schedule_ops pgqrs_sqlite_schedule_ops = {
    .create = schedule_create,
    .configure = schedule_configure,
    .list = schedule_list,
    .find = schedule_find,
    .pause = schedule_pause,
    .remove = schedule_delete,
    .due = schedule_due,
    .fire = schedule_fire,
};
