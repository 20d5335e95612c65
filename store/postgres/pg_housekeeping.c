/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_priv.h"

#include "store/postgres/pg_delete.h"
#include "store/postgres/pg_text.h"

/*
 * Steps for a broker's clock: each looks at no more rows than its limit, by an index, and passes
 * over what others have locked; it is met again the next time.
 */

/* ---- pruning ---- */

/*
 * $1: queue or 0; $2: how many to look at; $3: age in ms; $4, $5: where the last step stopped.
 * What was archived is met in that order, dead letters in the order of their ids; whatever stays is
 * passed over, and the place of the last one met is where the next step begins. Columns: id, time
 * archived, and whether it may go.
 */
#define TOO_OLD "< pgqrsd_now() - " PG_MS("$3")
#define NO_RUN                                                                                     \
    "NOT EXISTS (SELECT 1 FROM pgqrs_workflow_runs r WHERE r.message_id = m.id"                    \
    " AND " PG_RUN_UNFINISHED("r.status") " OFFSET 0)"
#define OF_QUEUES " FROM (SELECT id FROM pgqrs_queues WHERE $1 = 0 OR id = $1) q CROSS JOIN LATERAL"
#define PRUNE_TYPES .param_count = 5, .types = {PG_INT8, PG_INT8, PG_INT8, PG_INT8, PG_INT8}

#define ARCHIVED_US PGQRS_PG_US("x.archived_at")
#define FROM PGQRS_PG_TIME("$4")

static const struct pg_stmt prune_ended = {
    .name = "prune_ended",
    .sql = "SELECT x.id, " ARCHIVED_US ", x.free" OF_QUEUES " (SELECT id, archived_at,"
           " coalesce(pgqrsd_outcome, '') <> 'failed' AND " NO_RUN " AS free"
           " FROM pgqrs_messages m WHERE queue_id = q.id AND archived_at IS NOT NULL"
           " AND archived_at " TOO_OLD " AND archived_at >= " FROM " AND (archived_at > " FROM
           " OR id > $5) ORDER BY archived_at, id LIMIT $2) x"
           " ORDER BY x.archived_at, x.id LIMIT $2",
    PRUNE_TYPES,
};
static const struct pg_stmt prune_failed = {
    .name = "prune_failed",
    .sql = "SELECT x.id, $4, x.free" OF_QUEUES " (SELECT id,"
           " archived_at IS NOT NULL AND archived_at " TOO_OLD " AND " NO_RUN " AS free"
           " FROM pgqrs_messages m WHERE queue_id = q.id AND pgqrsd_outcome = 'failed'"
           " AND id > $5 ORDER BY id LIMIT $2) x ORDER BY x.id LIMIT $2",
    PRUNE_TYPES,
};
/* $1: ids; $2: whether dead letters are meant; $3: age. */
static const struct pg_stmt prune_lock = {
    .name = "prune_lock",
    .sql = "SELECT id FROM pgqrs_messages WHERE id = ANY($1)"
           " AND coalesce(archived_at, 'infinity') " TOO_OLD
           " AND (coalesce(pgqrsd_outcome, '') = 'failed') = $2"
           " ORDER BY id FOR UPDATE SKIP LOCKED",
    .param_count = 3,
    .types = {PG_INT8_ARRAY, PG_BOOL, PG_INT8},
};

static int64_t prune_rows(struct pg_store *s, const struct pgqrs_prune *prune, const int64_t *ids,
                          size_t count, struct pgqrs_error *err)
{
    if (count == 0) {
        return 0;
    }
    struct pg_args args = {0};
    pgqrs_pg_arg_ids(&args, ids, count);
    pgqrs_pg_arg_bool(&args, prune->what == PGQRS_PRUNE_FAILED);
    pgqrs_pg_arg_int8(&args, prune->age_ms);
    PGresult *rows = pgqrs_pg_run(s, &prune_lock, &args, false, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    struct pg_ids locked = {0};
    int64_t gone = pgqrs_pg_ids(rows, &locked, err);
    PQclear(rows);
    if (gone == 0) {
        gone = pgqrs_pg_delete_messages(s, locked.items, locked.count, true, err);
    }
    pgqrs_pg_ids_fini(&locked);
    return gone;
}

/* Moves the place in prune and deletes what may go. */
static int64_t prune_window(struct pg_store *s, struct pgqrs_prune *prune, const PGresult *rows,
                            struct pgqrs_error *err)
{
    struct pg_ids ids = {0};
    if (pgqrs_pg_ids(rows, &ids, err) < 0) {
        return -1;
    }
    size_t count = 0;
    for (size_t i = 0; i < ids.count; i++) {
        if (pgqrs_pg_bool(rows, (int)i, 2)) {
            ids.items[count++] = ids.items[i];
        }
    }
    int last = PQntuples(rows) - 1;
    bool more = last + 1 >= (int)prune->limit;
    prune->from_us = more ? pgqrs_pg_int(rows, last, 1) : 0;
    prune->from_id = more ? pgqrs_pg_int(rows, last, 0) : 0;
    int64_t gone = prune_rows(s, prune, ids.items, count, err);
    pgqrs_pg_ids_fini(&ids);
    return gone;
}

static int64_t prune_step(struct pg_store *s, struct pgqrs_prune *prune, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, prune->queue_id);
    pgqrs_pg_arg_int8(&args, prune->limit);
    pgqrs_pg_arg_int8(&args, prune->age_ms);
    pgqrs_pg_arg_int8(&args, prune->from_us);
    pgqrs_pg_arg_int8(&args, prune->from_id);
    PGresult *rows = pgqrs_pg_run(
        s, prune->what == PGQRS_PRUNE_FAILED ? &prune_failed : &prune_ended, &args, false, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    int64_t gone = prune_window(s, prune, rows, err);
    PQclear(rows);
    return gone;
}

int64_t pgqrs_pg_prune(struct pgqrs_store *store, struct pgqrs_prune *prune,
                       struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    struct pgqrs_prune next = *prune;
    if (pgqrs_pg_begin(s, err) < 0) {
        return -1;
    }
    struct pgqrs_error why;
    int64_t gone = pgqrs_pg_end(s, prune_step(s, &next, &why), &why);
    if (gone < 0) {
        /* A run can only refuse a message when it began again meanwhile. */
        enum pgqrs_err code = why.code == PGQRS_ERR_CONFLICT ? PGQRS_ERR_AGAIN : why.code;
        return pgqrs_error_set(err, code, "%s", why.text);
    }
    *prune = next;
    return gone;
}

/* ---- burying ---- */

/* The levels of priority that a queue has, from the highest; each is found by one look at the
 * index. Then the first thousand that are due, as leasing meets them. */
static const struct pg_stmt bury = {
    .name = "bury",
    .sql =
        "WITH RECURSIVE level(p) AS ((SELECT pgqrsd_priority FROM pgqrs_messages"
        " WHERE queue_id = $1 AND " PG_PENDING " ORDER BY pgqrsd_priority DESC LIMIT 1)"
        " UNION ALL SELECT (SELECT pgqrsd_priority FROM pgqrs_messages WHERE queue_id = $1"
        " AND " PG_PENDING " AND pgqrsd_priority < level.p ORDER BY pgqrsd_priority DESC LIMIT 1)"
        " FROM level WHERE level.p IS NOT NULL),"
        " front AS MATERIALIZED (SELECT x.id, x.spent"
        " FROM (SELECT p FROM level LIMIT 1000) l CROSS JOIN LATERAL"
        " (SELECT id, " PG_ATTEMPTS " AS spent FROM pgqrs_messages WHERE queue_id = $1 AND"
        " pgqrsd_priority = l.p"
        " AND " PG_PENDING " AND vt <= pgqrsd_now() ORDER BY vt, id LIMIT 1000) x LIMIT 1000)"
        " UPDATE pgqrs_messages SET archived_at = pgqrsd_now(), pgqrsd_outcome = 'failed',"
        " pgqrsd_result = NULL, pgqrsd_error = coalesce(pgqrsd_error, 'attempts used up: found '"
        " || " PG_ATTEMPTS " || ', expected at most ' || $2) WHERE id = ANY(ARRAY(SELECT id"
        " FROM pgqrs_messages WHERE id = ANY(ARRAY(SELECT id FROM front WHERE spent >= $2))"
        " AND " PG_IS_PENDING " AND " PG_ATTEMPTS " >= $2 ORDER BY id FOR UPDATE SKIP LOCKED))",
    .param_count = 2,
    .types = {PG_INT8, PG_INT8},
};

int64_t pgqrs_pg_bury(struct pgqrs_store *store, int64_t queue_id, uint32_t max_attempts,
                      struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, queue_id);
    pgqrs_pg_arg_int8(&args, max_attempts);
    int64_t buried = pgqrs_pg_exec(pg_of(store), &bury, &args, err);
    pgqrs_pg_args_fini(&args);
    return buried;
}

/* ---- reaping ---- */

/* $1: queue or 0; $2: stale after so many ms; $3: foreign ones too; $4: how many messages. */
#define REAP_TYPES .param_count = 4, .types = {PG_INT8, PG_INT8, PG_BOOL, PG_INT8}
#define STALE                                                                                      \
    "($3 OR w.pgqrsd_instance IS NOT NULL)"                                                        \
    " AND coalesce(w.heartbeat_at, '-infinity') < pgqrsd_now() - " PG_MS("$2")
#define STOPPED "($3 OR w.pgqrsd_instance IS NOT NULL) AND w.status = 'stopped'"

/* Who holds anything, one look at the index for each; what the dead among them hold. */
static const struct pg_stmt reap_leases = {
    .name = "reap_leases",
    .sql = "WITH RECURSIVE holder(id) AS ((SELECT consumer_worker_id FROM pgqrs_messages"
           " WHERE " PG_LEASED " ORDER BY consumer_worker_id LIMIT 1)"
           " UNION ALL SELECT (SELECT consumer_worker_id FROM pgqrs_messages WHERE " PG_LEASED
           " AND consumer_worker_id > holder.id ORDER BY consumer_worker_id LIMIT 1)"
           " FROM holder WHERE holder.id IS NOT NULL),"
           " late AS MATERIALIZED (SELECT x.id FROM holder CROSS JOIN LATERAL"
           " (SELECT w.id FROM pgqrs_workers w WHERE w.id = holder.id"
           " AND ((" STALE ") OR (" STOPPED ")) OFFSET 0) w CROSS JOIN LATERAL"
           " (SELECT id FROM pgqrs_messages WHERE consumer_worker_id = w.id AND " PG_LIVE
           " AND coalesce(vt, '-infinity') <= pgqrsd_now() AND ($1 = 0 OR queue_id = $1)"
           " ORDER BY consumer_worker_id LIMIT $4) x LIMIT $4)"
           " UPDATE pgqrs_messages SET consumer_worker_id = NULL, vt = pgqrsd_now(),"
           " pgqrsd_error = 'lease expired: its worker is dead'"
           " WHERE id = ANY(ARRAY(SELECT id FROM pgqrs_messages WHERE id = ANY(ARRAY(SELECT id"
           " FROM late)) AND " PG_IS_LEASED " AND coalesce(vt, '-infinity') <= pgqrsd_now()"
           " ORDER BY id FOR UPDATE SKIP LOCKED))",
    REAP_TYPES,
};
static const struct pg_stmt reap_workers = {
    .name = "reap_workers",
    .sql = "UPDATE pgqrs_workers SET status = 'stopped', shutdown_at = pgqrsd_now()"
           " WHERE id = ANY(ARRAY(SELECT w.id FROM pgqrs_workers w WHERE w.status <> 'stopped'"
           " AND " STALE " AND ($1 = 0 OR w.queue_id = $1) AND NOT EXISTS (SELECT 1"
           " FROM pgqrs_messages WHERE consumer_worker_id = w.id AND " PG_LIVE ")"
           " ORDER BY w.id LIMIT $4 FOR UPDATE SKIP LOCKED))",
    REAP_TYPES,
};

static int64_t reap_step(struct pg_store *s, const struct pgqrs_reap *reap, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, reap->queue_id);
    pgqrs_pg_arg_int8(&args, reap->stale_ms);
    pgqrs_pg_arg_bool(&args, reap->foreign);
    pgqrs_pg_arg_int8(&args, reap->limit);
    int64_t freed = pgqrs_pg_exec(s, &reap_leases, &args, err);
    if (freed >= 0 && pgqrs_pg_exec(s, &reap_workers, &args, err) < 0) {
        freed = -1;
    }
    pgqrs_pg_args_fini(&args);
    return freed;
}

int64_t pgqrs_pg_reap(struct pgqrs_store *store, const struct pgqrs_reap *reap,
                      struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    if (pgqrs_pg_begin(s, err) < 0) {
        return -1;
    }
    return pgqrs_pg_end(s, reap_step(s, reap, err), err);
}
