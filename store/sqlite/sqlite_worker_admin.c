/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What an operator, or a client of the library, does with rows of workers. */

static int no_worker(int64_t worker_id, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "worker %lld does not exist",
                           (long long)worker_id);
}

enum pgqrs_worker_state pgqrs_sqlite_worker_state(struct pgqrs_bytes name)
{
    for (int i = PGQRS_WORKER_READY; name.data != NULL && i < PGQRS_WORKER_STATE_COUNT; i++) {
        if (strcmp(pgqrs_worker_state_name((enum pgqrs_worker_state)i), name.data) == 0) {
            return (enum pgqrs_worker_state)i;
        }
    }
    return PGQRS_WORKER_NONE;
}

/* ---- listing ---- */

static const char list_sql[] =
    "SELECT id, coalesce(queue_id, 0), status, started_at, heartbeat_at, shutdown_at,"
    " (SELECT count(*) FROM pgqrs_messages INDEXED BY idx_messages_consumer_active"
    " WHERE consumer_worker_id = w.id AND archived_at IS NULL),"
    " coalesce(pgqrsd_generation, 0), coalesce(pgqrsd_pid, 0), name, pgqrsd_instance"
    " FROM pgqrs_workers w WHERE id < ?1 AND (?2 = 0 OR id = ?2) AND (?3 = 0 OR queue_id = ?3)"
    " AND (?4 IS NULL OR status = ?4)"
    " AND (?5 IS NULL OR substr(name, 1, length(?5)) = ?5)"
    " AND (NOT ?6 OR status <> 'stopped') AND (NOT ?7 OR pgqrsd_instance IS NOT NULL)"
    " ORDER BY id DESC LIMIT ?8";

static sqlite3_stmt *prepare_list(struct sqlite_store *s, const struct pgqrs_worker_filter *filter,
                                  struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(s->db, list_sql, -1, &stmt, NULL) != SQLITE_OK) {
        (void)pgqrs_sqlite_prepare_failed(s, err);
        return NULL;
    }
    pgqrs_sqlite_bind_int(stmt, 1, filter->before_id == 0 ? INT64_MAX : filter->before_id);
    pgqrs_sqlite_bind_int(stmt, 2, filter->id);
    pgqrs_sqlite_bind_int(stmt, 3, filter->queue_id);
    pgqrs_sqlite_bind_text(stmt, 4, pgqrs_worker_state_name(filter->state));
    pgqrs_sqlite_bind_text(stmt, 5, filter->name_prefix);
    pgqrs_sqlite_bind_int(stmt, 6, filter->live ? 1 : 0);
    pgqrs_sqlite_bind_int(stmt, 7, filter->ours ? 1 : 0);
    pgqrs_sqlite_bind_int(stmt, 8, filter->limit);
    return stmt;
}

/* On failure the worker is in the list, and freed with it. */
static int read_info(sqlite3_stmt *row, struct pgqrs_worker_info *worker, struct pgqrs_error *err)
{
    worker->id = sqlite3_column_int64(row, 0);
    worker->queue_id = sqlite3_column_int64(row, 1);
    worker->state = pgqrs_sqlite_worker_state(pgqrs_sqlite_bytes(row, 2));
    pgqrs_sqlite_time(row, 3, &worker->started_at_us);
    pgqrs_sqlite_time(row, 4, &worker->heartbeat_at_us);
    pgqrs_sqlite_time(row, 5, &worker->shutdown_at_us);
    worker->held = sqlite3_column_int64(row, 6);
    worker->generation = (uint64_t)sqlite3_column_int64(row, 7);
    worker->pid = sqlite3_column_int64(row, 8);
    if (pgqrs_sqlite_dup(row, 9, &worker->name, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_dup(row, 10, &worker->instance, err);
}

int pgqrs_sqlite_worker_list(struct pgqrs_store *store, const struct pgqrs_worker_filter *filter,
                             struct pgqrs_worker_info_list *list_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    struct pgqrs_worker_info_list list = {.items = calloc(filter->limit, sizeof *list.items),
                                          .now_us = pgqrs_wall_us()};
    if (list.items == NULL) {
        return pgqrs_error_memory(err);
    }
    sqlite3_stmt *stmt = pgqrs_sqlite_check_file(s, err) < 0 ? NULL : prepare_list(s, filter, err);
    int rc = stmt == NULL ? -1 : 0;
    while (rc >= 0 && (rc = pgqrs_sqlite_step(s, stmt, err)) > 0) {
        rc = read_info(stmt, &list.items[list.count++], err);
    }
    (void)sqlite3_finalize(stmt); /* repeats the error of the step */
    if (rc < 0) {
        pgqrs_worker_info_list_fini(&list);
        return -1;
    }
    *list_out = list;
    return 0;
}

/* ---- moving ---- */

#define BIT(state) (1U << PGQRS_WORKER_##state)

static const struct {
    unsigned from; /* bits */
    enum pgqrs_worker_state to;
    const char *expected;
} moves[] = {
    [PGQRS_MOVE_POLL] = {BIT(READY) | BIT(POLLING), PGQRS_WORKER_POLLING, "ready or polling"},
    [PGQRS_MOVE_COMPLETE_POLL] = {BIT(POLLING), PGQRS_WORKER_READY, "polling"},
    [PGQRS_MOVE_INTERRUPT] = {BIT(READY) | BIT(POLLING), PGQRS_WORKER_INTERRUPTED,
                              "ready or polling"},
    [PGQRS_MOVE_SUSPEND] = {BIT(READY) | BIT(POLLING) | BIT(INTERRUPTED), PGQRS_WORKER_SUSPENDED,
                            "ready, polling or interrupted"},
    [PGQRS_MOVE_RESUME] = {BIT(SUSPENDED), PGQRS_WORKER_READY, "suspended"},
    [PGQRS_MOVE_SHUTDOWN] = {BIT(SUSPENDED), PGQRS_WORKER_STOPPED, "suspended"},
    [PGQRS_MOVE_STOP] = {~0U, PGQRS_WORKER_STOPPED, "any"},
};
_Static_assert(sizeof moves / sizeof *moves == PGQRS_MOVE_COUNT, "every move has its states");

static int check_state(struct sqlite_store *s, int64_t worker_id, enum pgqrs_worker_move move,
                       struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_WORKER_STATE, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, worker_id);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc <= 0) {
        return rc < 0 ? -1 : no_worker(worker_id, err);
    }
    struct pgqrs_bytes name = pgqrs_sqlite_bytes(stmt, 0);
    rc = 0;
    if ((moves[move].from & 1U << pgqrs_sqlite_worker_state(name)) == 0) {
        rc = pgqrs_error_set(err, PGQRS_ERR_CONFLICT, "worker %lld: found state %.40s, expected %s",
                             (long long)worker_id, name.data == NULL ? "NULL" : name.data,
                             moves[move].expected);
    }
    (void)sqlite3_reset(stmt); /* the row was read */
    return rc;
}

static int check_leases(struct sqlite_store *s, int64_t worker_id, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_WORKER_HELD_COUNT, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, worker_id);
    if (pgqrs_sqlite_step(s, stmt, err) < 0) {
        return -1;
    }
    int64_t held = sqlite3_column_int64(stmt, 0);
    (void)sqlite3_reset(stmt); /* the row was read */
    if (held > 0) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT,
                               "worker %lld: found %lld leased messages, expected none",
                               (long long)worker_id, (long long)held);
    }
    return 0;
}

int64_t pgqrs_sqlite_give_up(struct sqlite_store *s, int64_t worker_id, const struct moment *now,
                             struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_WORKER_GIVE_UP, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, worker_id);
    pgqrs_sqlite_bind_text(stmt, 2, now->text);
    return pgqrs_sqlite_run(s, stmt, err);
}

static int64_t move_worker(struct sqlite_store *s, int64_t worker_id, enum pgqrs_worker_move move,
                           struct pgqrs_error *err)
{
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    bool stop = moves[move].to == PGQRS_WORKER_STOPPED;
    if (check_state(s, worker_id, move, err) < 0 ||
        (move == PGQRS_MOVE_SHUTDOWN && check_leases(s, worker_id, err) < 0) ||
        (move == PGQRS_MOVE_STOP && pgqrs_sqlite_give_up(s, worker_id, &now, err) < 0)) {
        return -1;
    }
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, stop ? STMT_WORKER_STOP : STMT_WORKER_SET, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, worker_id);
    pgqrs_sqlite_bind_text(stmt, 2, stop ? now.text : pgqrs_worker_state_name(moves[move].to));
    return pgqrs_sqlite_run(s, stmt, err);
}

int pgqrs_sqlite_worker_move(struct pgqrs_store *store, int64_t worker_id,
                             enum pgqrs_worker_move move, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_end(s, move_worker(s, worker_id, move, err), err) < 0 ? -1 : 0;
}

/* ---- deleting ---- */

static int check_named(struct sqlite_store *s, int64_t worker_id, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_WORKER_NAMED, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, worker_id);
    if (pgqrs_sqlite_step(s, stmt, err) < 0) {
        return -1;
    }
    static const char *const who[] = {
        NULL, "messages, live or archived, that name it as their consumer",
        "messages that name it as their producer", "workflow runs that name it"};
    int by = sqlite3_column_int(stmt, 0);
    by = by == 0 && sqlite3_column_int(stmt, 1) != 0 ? 3 : by;
    (void)sqlite3_reset(stmt); /* the row was read */
    if (by == 0) {
        return 0;
    }
    return pgqrs_error_set(err, PGQRS_ERR_CONFLICT, "worker %lld: found %s, expected none",
                           (long long)worker_id, who[by]);
}

static int64_t delete_worker(struct sqlite_store *s, int64_t worker_id, struct pgqrs_error *err)
{
    if (check_named(s, worker_id, err) < 0) {
        return -1;
    }
    int64_t gone = pgqrs_sqlite_run_about(s, STMT_WORKER_DELETE, worker_id, err);
    return gone == 0 ? no_worker(worker_id, err) : gone;
}

int pgqrs_sqlite_worker_delete(struct pgqrs_store *store, int64_t worker_id,
                               struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_end(s, delete_worker(s, worker_id, err), err) < 0 ? -1 : 0;
}

/* So long ago, and not before 1970. */
static struct moment ago(int64_t now_us, int64_t age_ms)
{
    return pgqrs_sqlite_moment(age_ms > now_us / 1000 ? 0 : now_us - age_ms * 1000);
}

int64_t pgqrs_sqlite_worker_purge(struct pgqrs_store *store, int64_t older_ms, uint32_t limit,
                                  struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    const struct moment cutoff = ago(pgqrs_wall_us(), older_ms);
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_WORKER_PURGE, err);
    int64_t gone = -1;
    if (stmt != NULL) {
        pgqrs_sqlite_bind_text(stmt, 1, cutoff.text);
        pgqrs_sqlite_bind_int(stmt, 2, limit);
        gone = pgqrs_sqlite_run(s, stmt, err);
    }
    return pgqrs_sqlite_end(s, gone, err);
}

/* ---- statistics ---- */

int pgqrs_sqlite_worker_stats(struct pgqrs_store *store, int64_t queue_id, int64_t stale_ms,
                              struct pgqrs_worker_stats *stats_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    int64_t now = pgqrs_wall_us();
    const struct moment cutoff = ago(now, stale_ms);
    sqlite3_stmt *row =
        pgqrs_sqlite_check_file(s, err) < 0 ? NULL : pgqrs_sqlite_stmt(s, STMT_WORKER_STATS, err);
    if (row == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(row, 1, queue_id);
    pgqrs_sqlite_bind_text(row, 2, cutoff.text);
    if (pgqrs_sqlite_step(s, row, err) < 0) {
        return -1;
    }
    struct pgqrs_worker_stats stats = {.total = sqlite3_column_int64(row, 0),
                                       .ready = sqlite3_column_int64(row, 1),
                                       .polling = sqlite3_column_int64(row, 2),
                                       .suspended = sqlite3_column_int64(row, 3),
                                       .interrupted = sqlite3_column_int64(row, 4),
                                       .stopped = sqlite3_column_int64(row, 5),
                                       .stale = sqlite3_column_int64(row, 6),
                                       .held = sqlite3_column_int64(row, 9),
                                       .now_us = now};
    pgqrs_sqlite_time(row, 7, &stats.oldest_start_us);
    pgqrs_sqlite_time(row, 8, &stats.newest_beat_us);
    (void)sqlite3_reset(row); /* the row was read */
    *stats_out = stats;
    return 0;
}
