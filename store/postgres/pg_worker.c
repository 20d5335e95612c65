/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* ---- registering ---- */

#define FRESH_COLUMNS                                                                              \
    "queue_id = $2, started_at = pgqrsd_now(), heartbeat_at = pgqrsd_now(), shutdown_at = NULL,"   \
    " status = 'ready', pgqrsd_instance = $3, pgqrsd_generation = $4, pgqrsd_pid = $5"
#define ROW_TYPES PG_TEXT, PG_INT8, PG_TEXT, PG_INT8, PG_INT8

/* Whoever comes first makes the row; the other finds it, locked until the first one is done. */
static const struct pg_stmt insert_row = {
    .name = "worker_insert",
    .sql = "INSERT INTO pgqrs_workers (name, queue_id, started_at, heartbeat_at, status,"
           " pgqrsd_instance, pgqrsd_generation, pgqrsd_pid) VALUES ($1, $2, pgqrsd_now(),"
           " pgqrsd_now(), 'ready', $3, $4, $5) ON CONFLICT (name) DO NOTHING RETURNING id",
    .param_count = 5,
    .types = {ROW_TYPES},
};
static const struct pg_stmt lock_row = {
    .name = "worker_register_lock",
    .sql = "SELECT id, status::text, coalesce(pgqrsd_instance = $2 AND pgqrsd_generation = $3,"
           " false), coalesce((extract(epoch from pgqrsd_now() - heartbeat_at) * 1000)::bigint, 0)"
           " FROM pgqrs_workers WHERE name = $1 FOR NO KEY UPDATE",
    .param_count = 3,
    .types = {PG_TEXT, PG_TEXT, PG_INT8},
};
static const struct pg_stmt take_row = {
    .name = "worker_take",
    .sql = "UPDATE pgqrs_workers SET " FRESH_COLUMNS " WHERE name = $1 RETURNING id",
    .param_count = 5,
    .types = {ROW_TYPES},
};
static const struct pg_stmt queue_there = {
    .name = "worker_queue",
    .sql = "SELECT 1 FROM pgqrs_queues WHERE id = $1",
    .param_count = 1,
    .types = {PG_INT8},
};
/* A dead client's leases: attempts spent, as far as anybody knows. */
static const struct pg_stmt free_spent = {
    .name = "worker_free_spent",
    .sql = PG_WAKING
    "UPDATE pgqrs_messages SET consumer_worker_id = NULL, vt = pgqrsd_now() WHERE id ="
    " ANY(ARRAY(SELECT id FROM pgqrs_messages WHERE consumer_worker_id = $1 AND " PG_LEASED
    " ORDER BY consumer_worker_id FOR UPDATE))",
    .param_count = 1,
    .types = {PG_INT8},
};

static void put_row(struct pg_args *args, const struct pgqrs_worker_row *row, const char *name)
{
    pgqrs_pg_arg_text(args, name);
    if (row->queue_id == 0) {
        pgqrs_pg_arg_null(args);
    } else {
        pgqrs_pg_arg_int8(args, row->queue_id);
    }
    pgqrs_pg_arg_text(args, row->instance);
    pgqrs_pg_arg_int8(args, (int64_t)row->generation);
    pgqrs_pg_arg_int8(args, row->pid);
}

/* The id in the first row; 0 when there is none; -1. */
static int64_t run_for_id(struct pg_store *s, const struct pg_stmt *stmt, struct pg_args *args,
                          struct pgqrs_error *err)
{
    PGresult *rows = pgqrs_pg_run(s, stmt, args, false, err);
    pgqrs_pg_args_fini(args);
    if (rows == NULL) {
        return -1;
    }
    int64_t id = PQntuples(rows) > 0 ? pgqrs_pg_int(rows, 0, 0) : 0;
    PQclear(rows);
    return id;
}

static int64_t run_with_id(struct pg_store *s, const struct pg_stmt *stmt, int64_t id,
                           struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, id);
    int64_t rc = pgqrs_pg_exec(s, stmt, &args, err);
    pgqrs_pg_args_fini(&args);
    return rc;
}

struct found {
    int64_t id, age_ms;
    bool stopped, same;
    char state[20];
};

static int find_row(struct pg_store *s, const struct pgqrs_worker_row *row, struct found *found,
                    struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_text(&args, row->name);
    pgqrs_pg_arg_text(&args, row->instance);
    pgqrs_pg_arg_int8(&args, (int64_t)row->generation);
    PGresult *rows = pgqrs_pg_run(s, &lock_row, &args, false, err);
    pgqrs_pg_args_fini(&args);
    *found = (struct found){0};
    if (rows == NULL) {
        return -1;
    }
    if (PQntuples(rows) > 0) {
        found->id = pgqrs_pg_int(rows, 0, 0);
        (void)snprintf(found->state, sizeof found->state, "%s", pgqrs_pg_bytes(rows, 0, 1).data);
        found->stopped = strcmp(found->state, "stopped") == 0;
        found->same = pgqrs_pg_bool(rows, 0, 2) && !found->stopped;
        found->age_ms = pgqrs_pg_int(rows, 0, 3);
    }
    PQclear(rows);
    return 0;
}

/* Another client of that name that may live is left alone. */
static int take_over_client(struct pg_store *s, const struct pgqrs_worker_row *row,
                            const struct found *found, struct pgqrs_error *err)
{
    if (row->stale_ms <= 0 || found->age_ms < row->stale_ms) {
        return pgqrs_error_set(err, PGQRS_ERR_EXISTS,
                               "worker \"%s\": found it %s, last beat %lld ms ago, expected it to "
                               "be stopped",
                               row->name, found->state, (long long)found->age_ms);
    }
    return run_with_id(s, &free_spent, found->id, err) < 0 ? -1 : 0;
}

static int64_t register_named(struct pg_store *s, const struct pgqrs_worker_row *row,
                              const char *name, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    struct found found;
    put_row(&args, row, name);
    int64_t id = run_for_id(s, &insert_row, &args, err);
    if (id != 0) {
        return id;
    }
    if (find_row(s, row, &found, err) < 0) {
        return -1;
    }
    if (found.id == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_AGAIN, "worker \"%s\": it has just been deleted",
                               name);
    }
    if (found.same) {
        return found.id;
    }
    if (row->instance == NULL && !found.stopped && take_over_client(s, row, &found, err) < 0) {
        return -1;
    }
    struct pg_args again = {0};
    put_row(&again, row, name);
    return run_for_id(s, &take_row, &again, err);
}

/* A name as pgqrs makes them up: a random UUID. */
static void make_name(char *name, size_t size)
{
    unsigned char b[16] = {0};
    (void)!getrandom(b, sizeof b, 0); /* so few bytes always come; the name's being unique counts */
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    (void)snprintf(name, size,
                   "__ephemeral__%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
                   "%02x%02x%02x%02x%02x%02x",
                   b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12],
                   b[13], b[14], b[15]);
}

static int64_t register_row(struct pg_store *s, const struct pgqrs_worker_row *row,
                            struct pgqrs_error *err)
{
    char made_up[64];
    make_name(made_up, sizeof made_up);
    if (row->queue_id != 0) {
        struct pg_args args = {0};
        pgqrs_pg_arg_int8(&args, row->queue_id);
        int64_t there = run_for_id(s, &queue_there, &args, err);
        if (there <= 0) {
            return there < 0
                       ? -1
                       : pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "queue %lld: there is none",
                                         (long long)row->queue_id);
        }
    }
    return register_named(s, row, row->name == NULL ? made_up : row->name, err);
}

int pgqrs_pg_worker_register(struct pgqrs_store *store, const struct pgqrs_worker_row *row,
                             int64_t *id_out, struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    if (pgqrs_pg_begin(s, err) < 0) {
        return -1;
    }
    int64_t id = pgqrs_pg_end(s, register_row(s, row, err), err);
    if (id < 0) {
        return -1;
    }
    *id_out = id;
    return 0;
}

/* ---- beating ---- */

static const struct pg_stmt beat = {
    .name = "worker_beat",
    .sql = "UPDATE pgqrs_workers SET heartbeat_at = pgqrsd_now() WHERE id = ANY($1) RETURNING id",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};

static bool is_among(const PGresult *rows, int64_t id)
{
    for (int i = 0; i < PQntuples(rows); i++) {
        if (pgqrs_pg_int(rows, i, 0) == id) {
            return true;
        }
    }
    return false;
}

int pgqrs_pg_worker_beat(struct pgqrs_store *store, const int64_t *ids, size_t count,
                         struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_array_begin(&args, PG_INT8, count);
    for (size_t i = 0; i < count; i++) {
        pgqrs_pg_arg_array_int8(&args, ids[i]);
    }
    pgqrs_pg_arg_array_end(&args);
    PGresult *rows = pgqrs_pg_run(pg_of(store), &beat, &args, false, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (!is_among(rows, ids[i])) {
            rc = pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "worker %lld: there is none",
                                 (long long)ids[i]);
        }
    }
    PQclear(rows);
    return rc;
}

/* ---- ending ---- */

/* The first of its leases in the order in which a worker runs them. $2 crash, $3 attempts at most
 * without crashes, or crashes at most, $4 reason. */
#define FIRST_LEASE                                                                                \
    " WHERE m.id = (SELECT id FROM pgqrs_messages WHERE consumer_worker_id = $1 AND " PG_LEASED    \
    " ORDER BY pgqrsd_priority DESC, pgqrsd_due_at, id LIMIT 1) AND "
#define LAST                                                                                       \
    "CASE WHEN $2 = 0 THEN m.read_ct - m.pgqrsd_crash_ct ELSE m.pgqrsd_crash_ct + 1 END >= $3"
static const struct pg_stmt charge_first = {
    .name = "worker_charge",
    .sql = "UPDATE pgqrs_messages m SET pgqrsd_error = $4, pgqrsd_crash_ct = m.pgqrsd_crash_ct +"
           " $2, archived_at = CASE WHEN " LAST " THEN pgqrsd_now() END,"
           " pgqrsd_outcome = CASE WHEN " LAST " THEN 'failed' END,"
           " consumer_worker_id = CASE WHEN " LAST " THEN m.consumer_worker_id END,"
           " vt = CASE WHEN " LAST " THEN m.vt ELSE pgqrsd_now() END" FIRST_LEASE PG_IS_LIVE,
    .param_count = 4,
    .types = {PG_INT8, PG_INT4, PG_INT4, PG_TEXT},
};
static const struct pg_stmt free_unspent = {
    .name = "worker_free",
    .sql = PG_WAKING
    "UPDATE pgqrs_messages SET consumer_worker_id = NULL, vt = coalesce(pgqrsd_due_at,"
    " pgqrsd_now()), read_ct = greatest(read_ct - 1, 0) WHERE id = ANY(ARRAY(SELECT id FROM"
    " pgqrs_messages WHERE consumer_worker_id = $1 AND " PG_LEASED
    " ORDER BY consumer_worker_id FOR UPDATE))",
    .param_count = 1,
    .types = {PG_INT8},
};
static const struct pg_stmt stop_row = {
    .name = "worker_stop",
    .sql = "UPDATE pgqrs_workers SET status = 'stopped', shutdown_at = pgqrsd_now() WHERE id = $1",
    .param_count = 1,
    .types = {PG_INT8},
};

static int64_t end_worker(struct pg_store *s, int64_t worker_id,
                          const struct pgqrs_release *release, struct pgqrs_error *err)
{
    int64_t charged = 0;
    if (release->charge) {
        const uint32_t most = release->crashed ? release->max_crashes : release->max_attempts;
        struct pg_args args = {0};
        pgqrs_pg_arg_int8(&args, worker_id);
        pgqrs_pg_arg_int4(&args, release->crashed ? 1 : 0);
        pgqrs_pg_arg_int4(&args, most > INT32_MAX ? INT32_MAX : (int32_t)most);
        pgqrs_pg_arg_text(&args, release->reason);
        charged = pgqrs_pg_exec(s, &charge_first, &args, err);
        pgqrs_pg_args_fini(&args);
    }
    int64_t freed = charged < 0 ? -1 : run_with_id(s, &free_unspent, worker_id, err);
    return freed < 0 || run_with_id(s, &stop_row, worker_id, err) < 0 ? -1 : charged + freed;
}

int64_t pgqrs_pg_worker_end(struct pgqrs_store *store, int64_t worker_id,
                            const struct pgqrs_release *release, struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    if (pgqrs_pg_begin(s, err) < 0) {
        return -1;
    }
    return pgqrs_pg_end(s, end_worker(s, worker_id, release, err), err);
}

/* ---- reconciling ---- */

/* $2, $3: the leases it knows of. */
static const struct pg_stmt free_unknown = {
    .name = "worker_reconcile",
    .sql = PG_WAKING
    "UPDATE pgqrs_messages SET consumer_worker_id = NULL, vt = coalesce(pgqrsd_due_at,"
    " pgqrsd_now()), read_ct = greatest(read_ct - 1, 0) WHERE id = ANY(ARRAY(SELECT id FROM"
    " pgqrs_messages WHERE consumer_worker_id = $1 AND " PG_LEASED " AND (id, read_ct) NOT IN"
    " (SELECT * FROM unnest($2, $3)) ORDER BY consumer_worker_id FOR UPDATE))",
    .param_count = 3,
    .types = {PG_INT8, PG_INT8_ARRAY, PG_INT4_ARRAY},
};

int64_t pgqrs_pg_worker_reconcile(struct pgqrs_store *store, int64_t worker_id,
                                  const struct pgqrs_lease_ref *known, size_t count,
                                  struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, worker_id);
    pgqrs_pg_arg_array_begin(&args, PG_INT8, count);
    for (size_t i = 0; i < count; i++) {
        pgqrs_pg_arg_array_int8(&args, known[i].message_id);
    }
    pgqrs_pg_arg_array_end(&args);
    pgqrs_pg_arg_array_begin(&args, PG_INT4, count);
    for (size_t i = 0; i < count; i++) {
        pgqrs_pg_arg_array_int4(&args, (int32_t)known[i].attempt);
    }
    pgqrs_pg_arg_array_end(&args);
    int64_t freed = pgqrs_pg_exec(pg_of(store), &free_unknown, &args, err);
    pgqrs_pg_args_fini(&args);
    return freed;
}
