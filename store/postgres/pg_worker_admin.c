/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_priv.h"

#include <stdlib.h>
#include <string.h>

#include "store/postgres/pg_conn.h"
#include "store/postgres/pg_text.h"

static int no_worker(int64_t worker_id, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "worker %lld does not exist",
                           (long long)worker_id);
}

enum pgqrs_worker_state pgqrs_pg_worker_state(struct pgqrs_bytes name)
{
    for (int i = PGQRS_WORKER_READY; i < PGQRS_WORKER_STATE_COUNT; i++) {
        const char *known = pgqrs_worker_state_name((enum pgqrs_worker_state)i);
        if (strlen(known) == name.len && memcmp(known, name.data, name.len) == 0) {
            return (enum pgqrs_worker_state)i;
        }
    }
    return PGQRS_WORKER_NONE;
}

/* ---- listing ---- */

#define STARTED_US PG_COLUMN_US("w.started_at")
#define BEAT_US PG_COLUMN_US("w.heartbeat_at")
#define SHUTDOWN_US PG_COLUMN_US("w.shutdown_at")

static const struct pg_stmt worker_list = {
    .name = "worker_list",
    .sql = "SELECT w.id, w.queue_id, w.status::text, " STARTED_US ", " BEAT_US ", " SHUTDOWN_US ","
           " (SELECT count(*) FROM pgqrs_messages WHERE consumer_worker_id = w.id"
           " AND " PG_LIVE "), w.pgqrsd_generation, w.pgqrsd_pid, w.name, w.pgqrsd_instance,"
           " " PG_NOW_US " FROM (SELECT 1) one LEFT JOIN LATERAL (SELECT * FROM pgqrs_workers"
           " WHERE id < $1 AND ($2 = 0 OR id = $2) AND ($3 = 0 OR queue_id = $3)"
           " AND ($4::text IS NULL OR status::text = $4)"
           " AND ($5::text IS NULL OR starts_with(name, $5))"
           " AND (NOT $6 OR status <> 'stopped') AND (NOT $7 OR pgqrsd_instance IS NOT NULL)"
           " ORDER BY id DESC LIMIT $8) w ON true",
    .param_count = 8,
    .types = {PG_INT8, PG_INT8, PG_INT8, PG_TEXT, PG_TEXT, PG_BOOL, PG_BOOL, PG_INT8},
};

static int read_worker(const PGresult *rows, int row, struct pgqrs_worker_info *worker,
                       struct pgqrs_error *err)
{
    worker->id = pgqrs_pg_int(rows, row, 0);
    worker->queue_id = pgqrs_pg_int(rows, row, 1);
    worker->state = pgqrs_pg_worker_state(pgqrs_pg_bytes(rows, row, 2));
    worker->started_at_us = pgqrs_pg_int(rows, row, 3);
    worker->heartbeat_at_us = pgqrs_pg_int(rows, row, 4);
    worker->shutdown_at_us = pgqrs_pg_int(rows, row, 5);
    worker->held = pgqrs_pg_int(rows, row, 6);
    worker->generation = (uint64_t)pgqrs_pg_int(rows, row, 7);
    worker->pid = pgqrs_pg_int(rows, row, 8);
    if (pgqrs_pg_dup(rows, row, 9, &worker->name, err) < 0) {
        return -1;
    }
    return pgqrs_pg_dup(rows, row, 10, &worker->instance, err);
}

/* There is a row even when there is no worker: it has the time. */
static int read_workers(const PGresult *rows, struct pgqrs_worker_info_list *list,
                        struct pgqrs_error *err)
{
    size_t count = pgqrs_pg_is_null(rows, 0, 0) ? 0 : (size_t)PQntuples(rows);
    list->now_us = pgqrs_pg_int(rows, 0, 11);
    list->items = calloc(count + 1, sizeof *list->items);
    if (list->items == NULL) {
        return pgqrs_error_memory(err);
    }
    while (list->count < count) {
        int row = (int)list->count;
        if (read_worker(rows, row, &list->items[list->count++], err) < 0) {
            return -1;
        }
    }
    return 0;
}

int pgqrs_pg_worker_list(struct pgqrs_store *store, const struct pgqrs_worker_filter *filter,
                         struct pgqrs_worker_info_list *list_out, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, filter->before_id == 0 ? INT64_MAX : filter->before_id);
    pgqrs_pg_arg_int8(&args, filter->id);
    pgqrs_pg_arg_int8(&args, filter->queue_id);
    pgqrs_pg_arg_text(&args, pgqrs_worker_state_name(filter->state));
    pgqrs_pg_arg_text(&args, filter->name_prefix);
    pgqrs_pg_arg_bool(&args, filter->live);
    pgqrs_pg_arg_bool(&args, filter->ours);
    pgqrs_pg_arg_int8(&args, filter->limit);
    PGresult *rows = pgqrs_pg_run(pg_of(store), &worker_list, &args, true, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    struct pgqrs_worker_info_list list = {0};
    int rc = read_workers(rows, &list, err);
    PQclear(rows);
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

static const struct pg_stmt worker_lock = {
    .name = "worker_lock",
    .sql = "SELECT status::text FROM pgqrs_workers WHERE id = $1 FOR NO KEY UPDATE",
    .param_count = 1,
    .types = {PG_INT8},
};
static const struct pg_stmt worker_set = {
    .name = "worker_set",
    .sql = "UPDATE pgqrs_workers SET status = $2::worker_status, shutdown_at ="
           " CASE WHEN $2 = 'stopped' THEN pgqrsd_now() ELSE shutdown_at END WHERE id = $1",
    .param_count = 2,
    .types = {PG_INT8, PG_TEXT},
};
/* Of a worker of a pgqrsd, which hears it at once. */
static const struct pg_stmt worker_notify = {
    .name = "worker_notify",
    .sql = "SELECT " PG_NOTIFY " FROM pgqrs_workers WHERE id = $1 AND pgqrsd_instance IS NOT NULL",
    .param_count = 1,
    .types = {PG_INT8},
};
static const struct pg_stmt worker_held = {
    .name = "worker_held_count",
    .sql = "SELECT count(*) FROM pgqrs_messages WHERE consumer_worker_id = $1 AND " PG_LIVE,
    .param_count = 1,
    .types = {PG_INT8},
};
/* In the order of the ids, like everybody who waits for more than one row. */
static const struct pg_stmt worker_free = {
    .name = "worker_free_all",
    .sql = PG_WAKING
    "UPDATE pgqrs_messages SET consumer_worker_id = NULL, vt = pgqrsd_now()"
    " WHERE id = ANY(ARRAY(SELECT id FROM pgqrs_messages WHERE id = ANY(ARRAY(SELECT id"
    " FROM pgqrs_messages WHERE consumer_worker_id = $1 AND " PG_LIVE
    " ORDER BY consumer_worker_id)) AND consumer_worker_id IS NOT DISTINCT FROM $1"
    " AND " PG_IS_LIVE " ORDER BY id FOR UPDATE))",
    .param_count = 1,
    .types = {PG_INT8},
};

/* A statement about one id; its result is for PQclear. */
static PGresult *about(struct pg_store *s, const struct pg_stmt *stmt, int64_t id,
                       struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, id);
    PGresult *rows = pgqrs_pg_run(s, stmt, &args, false, err);
    pgqrs_pg_args_fini(&args);
    return rows;
}

static int check_state(const PGresult *rows, int64_t worker_id, enum pgqrs_worker_move move,
                       struct pgqrs_error *err)
{
    if (PQntuples(rows) == 0) {
        return no_worker(worker_id, err);
    }
    struct pgqrs_bytes name = pgqrs_pg_bytes(rows, 0, 0);
    if ((moves[move].from & 1U << pgqrs_pg_worker_state(name)) == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT,
                               "worker %lld: found state %.*s, expected %s", (long long)worker_id,
                               (int)name.len, name.data, moves[move].expected);
    }
    return 0;
}

static int check_leases(struct pg_store *s, int64_t worker_id, struct pgqrs_error *err)
{
    PGresult *row = about(s, &worker_held, worker_id, err);
    if (row == NULL) {
        return -1;
    }
    int64_t held = pgqrs_pg_int(row, 0, 0);
    PQclear(row);
    if (held > 0) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT,
                               "worker %lld: found %lld leased messages, expected none",
                               (long long)worker_id, (long long)held);
    }
    return 0;
}

static int free_leases(struct pg_store *s, int64_t worker_id, struct pgqrs_error *err)
{
    PGresult *done = about(s, &worker_free, worker_id, err);
    PQclear(done);
    return done == NULL ? -1 : 0;
}

static int move_worker(struct pg_store *s, int64_t worker_id, enum pgqrs_worker_move move,
                       struct pgqrs_error *err)
{
    PGresult *row = about(s, &worker_lock, worker_id, err);
    if (row == NULL) {
        return -1;
    }
    int rc = check_state(row, worker_id, move, err);
    PQclear(row);
    if (rc == 0 && move == PGQRS_MOVE_SHUTDOWN) {
        rc = check_leases(s, worker_id, err);
    }
    if (rc == 0 && move == PGQRS_MOVE_STOP) {
        rc = free_leases(s, worker_id, err);
    }
    if (rc < 0) {
        return -1;
    }
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, worker_id);
    pgqrs_pg_arg_text(&args, pgqrs_worker_state_name(moves[move].to));
    int64_t changed = pgqrs_pg_exec(s, &worker_set, &args, err);
    pgqrs_pg_args_fini(&args);
    if (changed < 0) {
        return -1;
    }
    if (move == PGQRS_MOVE_POLL || move == PGQRS_MOVE_COMPLETE_POLL) {
        return 0; /* what a consumer does all the time */
    }
    PGresult *told = about(s, &worker_notify, worker_id, err);
    PQclear(told);
    return told == NULL ? -1 : 0;
}

int pgqrs_pg_worker_move(struct pgqrs_store *store, int64_t worker_id, enum pgqrs_worker_move move,
                         struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    if (pgqrs_pg_begin(s, err) < 0) {
        return -1;
    }
    return (int)pgqrs_pg_end(s, move_worker(s, worker_id, move, err), err);
}

/* ---- deleting ---- */

static const struct pg_stmt worker_delete = {
    .name = "worker_delete",
    .sql = "DELETE FROM pgqrs_workers WHERE id = $1",
    .param_count = 1,
    .types = {PG_INT8},
};

/* The foreign keys look, and say by their names what they found. */
static const char *who_refers(const char *text)
{
    if (strstr(text, "producer_worker_id") != NULL) {
        return "messages that name it as their producer";
    }
    if (strstr(text, "consumer_worker_id") != NULL) {
        return "messages, live or archived, that name it as their consumer";
    }
    return strstr(text, "workflow_runs") != NULL ? "workflow runs that name it"
                                                 : "rows that name it";
}

int pgqrs_pg_worker_delete(struct pgqrs_store *store, int64_t worker_id, struct pgqrs_error *err)
{
    struct pgqrs_error why;
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, worker_id);
    int64_t gone = pgqrs_pg_exec(pg_of(store), &worker_delete, &args, &why);
    pgqrs_pg_args_fini(&args);
    if (gone < 0) {
        return why.code == PGQRS_ERR_CONFLICT
                   ? pgqrs_error_set(err, why.code, "worker %lld: found %s, expected none",
                                     (long long)worker_id, who_refers(why.text))
                   : pgqrs_error_set(err, why.code, "%s", why.text);
    }
    return gone == 0 ? no_worker(worker_id, err) : 0;
}

/* $1: ms since the last beat; $2: how many. One look at the messages serves all. */
#define OLD_ENOUGH                                                                                 \
    "w.status = 'stopped' AND coalesce(w.heartbeat_at, '-infinity') < pgqrsd_now() - " PG_MS("$1")

static const struct pg_stmt purge_pick = {
    .name = "worker_purge_pick",
    .sql = "WITH used AS MATERIALIZED (SELECT consumer_worker_id AS id FROM pgqrs_messages"
           " WHERE consumer_worker_id IS NOT NULL UNION SELECT worker_id FROM pgqrs_workflow_runs"
           " WHERE worker_id IS NOT NULL)"
           " SELECT w.id FROM pgqrs_workers w WHERE " OLD_ENOUGH
           " AND NOT EXISTS (SELECT 1 FROM used WHERE used.id = w.id)"
           " AND NOT EXISTS (SELECT 1 FROM pgqrs_messages WHERE producer_worker_id = w.id)"
           " ORDER BY w.id LIMIT $2",
    .param_count = 2,
    .types = {PG_INT8, PG_INT8},
};
static const struct pg_stmt purge_one = {
    .name = "worker_purge",
    .sql = "DELETE FROM pgqrs_workers w WHERE id = $2 AND " OLD_ENOUGH,
    .param_count = 2,
    .types = {PG_INT8, PG_INT8},
};

static PGresult *run_purge(struct pg_store *s, const struct pg_stmt *stmt, int64_t older_ms,
                           int64_t second, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, older_ms);
    pgqrs_pg_arg_int8(&args, second);
    PGresult *rows = pgqrs_pg_run(s, stmt, &args, stmt == &purge_pick, err);
    pgqrs_pg_args_fini(&args);
    return rows;
}

/* Each by itself: its foreign keys read all the messages, and a hundred times that may be more than
 * one call has time for. What went before a failure has gone. */
int64_t pgqrs_pg_worker_purge(struct pgqrs_store *store, int64_t older_ms, uint32_t limit,
                              struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    PGresult *picked = run_purge(s, &purge_pick, older_ms, limit, err);
    if (picked == NULL) {
        return -1;
    }
    int64_t gone = 0;
    bool failed = false;
    for (int i = 0; i < PQntuples(picked) && !failed; i++) {
        struct pgqrs_error why;
        PGresult *done = run_purge(s, &purge_one, older_ms, pgqrs_pg_int(picked, i, 0), &why);
        gone += done == NULL ? 0 : pgqrs_pg_count(done);
        PQclear(done);
        /* Somebody named it meanwhile: it stays. */
        failed = done == NULL && why.code != PGQRS_ERR_CONFLICT;
        if (failed && gone == 0) {
            (void)pgqrs_error_set(err, why.code, "%s", why.text);
        }
    }
    PQclear(picked);
    return failed && gone == 0 ? -1 : gone;
}

/* ---- statistics ---- */

#define STALE                                                                                      \
    "w.status IN ('ready', 'polling')"                                                             \
    " AND coalesce(w.heartbeat_at, '-infinity') < pgqrsd_now() - " PG_MS("$2")
#define OLDEST_START_US PGQRS_PG_US("(min(w.started_at) FILTER (WHERE w.status <> 'stopped'))")
#define NEWEST_BEAT_US PGQRS_PG_US("(max(w.heartbeat_at) FILTER (WHERE w.status <> 'stopped'))")

static const struct pg_stmt worker_stats = {
    .name = "worker_stats",
    .sql = "WITH held AS MATERIALIZED (SELECT consumer_worker_id AS id, count(*) AS n"
           " FROM pgqrs_messages WHERE " PG_LEASED " GROUP BY consumer_worker_id)"
           " SELECT count(*), count(*) FILTER (WHERE w.status = 'ready'),"
           " count(*) FILTER (WHERE w.status = 'polling'),"
           " count(*) FILTER (WHERE w.status = 'suspended'),"
           " count(*) FILTER (WHERE w.status = 'interrupted'),"
           " count(*) FILTER (WHERE w.status = 'stopped'),"
           " count(*) FILTER (WHERE " STALE "), coalesce(sum(held.n), 0)::bigint,"
           " " OLDEST_START_US ", " NEWEST_BEAT_US ", " PG_NOW_US
           " FROM pgqrs_workers w LEFT JOIN held ON held.id = w.id"
           " WHERE $1 = 0 OR ($1 = -1 AND w.queue_id IS NULL) OR w.queue_id = $1",
    .param_count = 2,
    .types = {PG_INT8, PG_INT8},
};

int pgqrs_pg_worker_stats(struct pgqrs_store *store, int64_t queue_id, int64_t stale_ms,
                          struct pgqrs_worker_stats *stats_out, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, queue_id);
    pgqrs_pg_arg_int8(&args, stale_ms);
    PGresult *row = pgqrs_pg_run(pg_of(store), &worker_stats, &args, true, err);
    pgqrs_pg_args_fini(&args);
    if (row == NULL) {
        return -1;
    }
    *stats_out = (struct pgqrs_worker_stats){
        .total = pgqrs_pg_int(row, 0, 0),
        .ready = pgqrs_pg_int(row, 0, 1),
        .polling = pgqrs_pg_int(row, 0, 2),
        .suspended = pgqrs_pg_int(row, 0, 3),
        .interrupted = pgqrs_pg_int(row, 0, 4),
        .stopped = pgqrs_pg_int(row, 0, 5),
        .stale = pgqrs_pg_int(row, 0, 6),
        .held = pgqrs_pg_int(row, 0, 7),
        .oldest_start_us = pgqrs_pg_int(row, 0, 8),
        .newest_beat_us = pgqrs_pg_int(row, 0, 9),
        .now_us = pgqrs_pg_int(row, 0, 10),
    };
    PQclear(row);
    return 0;
}
