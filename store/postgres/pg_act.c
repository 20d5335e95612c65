/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_priv.h"

#include <stdlib.h>

#include "store/postgres/pg_delete.h"
#include "store/postgres/pg_conn.h"
#include "store/postgres/pg_text.h"

/*
 * What an operator does to messages: all of them are locked in the order of their ids, each is
 * judged by what it then is, and one statement changes those that may be.
 */

/* A row met: what it is, and the verdict that it got. Sorted by id. */
struct met {
    int64_t id;
    enum pgqrs_acted is; /* WAITING, LEASED or ARCHIVED */
    bool ours;           /* a worker of a pgqrsd has it */
    bool chosen;         /* to be acted on */
    bool done;
};

static const struct pg_stmt act_lock = {
    .name = "act_lock",
    .sql = "SELECT id, consumer_worker_id IS NOT NULL, archived_at IS NOT NULL,"
           " EXISTS (SELECT 1 FROM pgqrs_workers w WHERE w.id = consumer_worker_id"
           " AND w.pgqrsd_instance IS NOT NULL AND w.status <> 'stopped')"
           " FROM pgqrs_messages WHERE id = ANY($1) ORDER BY id FOR UPDATE",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};
static const struct pg_stmt act_cancel = {
    .name = "act_cancel",
    .sql = "UPDATE pgqrs_messages SET archived_at = pgqrsd_now(), pgqrsd_outcome = 'cancelled',"
           " pgqrsd_result = NULL WHERE id = ANY($1) RETURNING id",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};
/* And whoever listens looks at once. */
static const struct pg_stmt cancel_ask = {
    .name = "cancel_ask",
    .sql = "WITH asked AS (INSERT INTO pgqrsd_cancel_requests (message_id) SELECT unnest($1)"
           " ON CONFLICT DO NOTHING) SELECT " PG_NOTIFY,
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};
static const struct pg_stmt cancel_forget = {
    .name = "cancel_forget",
    .sql = "DELETE FROM pgqrsd_cancel_requests WHERE message_id = ANY($1)",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};
static const struct pg_stmt act_free = {
    .name = "act_free",
    .sql = PG_WAKING "UPDATE pgqrs_messages SET consumer_worker_id = NULL, vt = pgqrsd_now()"
                     " WHERE id = ANY($1) RETURNING id",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};
/* Of several with one key the first that was named gets it, unless somebody has it. */
static const struct pg_stmt act_replay = {
    .name = "act_replay",
    .sql =
        PG_WAKING "UPDATE pgqrs_messages SET archived_at = NULL, consumer_worker_id = NULL,"
                  " dequeued_at = NULL, read_ct = 0, vt = pgqrsd_now(), enqueued_at = pgqrsd_now(),"
                  " pgqrsd_due_at = NULL, pgqrsd_crash_ct = 0, pgqrsd_outcome = NULL,"
                  " pgqrsd_result = NULL, pgqrsd_error = NULL WHERE id = ANY(ARRAY(SELECT a.id FROM"
                  " (SELECT id, queue_id, pgqrsd_unique_key AS key, row_number() OVER (PARTITION BY"
                  " queue_id, pgqrsd_unique_key ORDER BY array_position($1, id)) AS nth"
                  " FROM pgqrs_messages WHERE id = ANY($1)) a WHERE a.key IS NULL OR (a.nth = 1"
                  " AND NOT EXISTS (SELECT 1 FROM pgqrs_messages k WHERE k.queue_id = a.queue_id"
                  " AND k.pgqrsd_unique_key = a.key AND k." PG_LIVE ")))) RETURNING id",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};

/* A run that has failed goes on, with what had failed for good; what waits for ever goes on to. */
static const struct pg_stmt act_replay_runs = {
    .name = "act_replay_runs",
    .sql = "WITH run AS (UPDATE pgqrs_workflow_runs SET status = 'QUEUED', error = NULL,"
           " completed_at = NULL, updated_at = pgqrsd_now() WHERE status::text = 'ERROR'"
           " AND message_id = ANY(ARRAY(SELECT id FROM pgqrs_messages WHERE id = ANY($1)"
           " AND " PG_IS_LIVE ")) RETURNING id)"
           " UPDATE pgqrs_workflow_steps SET retry_count = 0, retry_at = pgqrsd_now()"
           " WHERE run_id = ANY(ARRAY(SELECT id FROM run)) AND status::text = 'ERROR'"
           " AND retry_at IS NULL AND coalesce(error ->> 'code', '') <> 'PAUSED'",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};

/* What a message must be. */
static bool may(enum pgqrs_act act, enum pgqrs_acted is)
{
    switch (act) {
    case PGQRS_ACT_CANCEL:
        return is == PGQRS_ACTED_WAITING;
    case PGQRS_ACT_DELETE:
        return is != PGQRS_ACTED_LEASED;
    case PGQRS_ACT_FREE:
        return is == PGQRS_ACTED_LEASED;
    case PGQRS_ACT_REPLAY:
        return is == PGQRS_ACTED_ARCHIVED;
    case PGQRS_ACT_NONE:
    case PGQRS_ACT_COUNT:
        break;
    }
    return false;
}

/* What is found of it by whoever names it once more. */
static enum pgqrs_acted afterwards(enum pgqrs_act act)
{
    switch (act) {
    case PGQRS_ACT_CANCEL:
        return PGQRS_ACTED_ARCHIVED;
    case PGQRS_ACT_DELETE:
        return PGQRS_ACTED_NOT_FOUND;
    case PGQRS_ACT_FREE:
    case PGQRS_ACT_REPLAY:
        return PGQRS_ACTED_WAITING;
    case PGQRS_ACT_NONE:
    case PGQRS_ACT_COUNT:
        break;
    }
    return PGQRS_ACTED_NONE;
}

static int by_id(const void *a, const void *b)
{
    int64_t x = ((const struct met *)a)->id;
    int64_t y = ((const struct met *)b)->id;
    return (x > y) - (x < y);
}

static struct met *find(struct met *met, size_t count, int64_t id)
{
    const struct met key = {.id = id};
    return count == 0 ? NULL : bsearch(&key, met, count, sizeof *met, by_id);
}

/* Fills met, which has room for all the ids, and returns how many there are. */
static int64_t lock(struct pg_store *s, const int64_t *ids, size_t count, struct met *met,
                    struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_ids(&args, ids, count);
    PGresult *rows = pgqrs_pg_run(s, &act_lock, &args, false, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    int there = PQntuples(rows);
    for (int i = 0; i < there; i++) {
        met[i] = (struct met){.id = pgqrs_pg_int(rows, i, 0),
                              .is = pgqrs_pg_bool(rows, i, 2)   ? PGQRS_ACTED_ARCHIVED
                                    : pgqrs_pg_bool(rows, i, 1) ? PGQRS_ACTED_LEASED
                                                                : PGQRS_ACTED_WAITING,
                              .ours = pgqrs_pg_bool(rows, i, 3)};
    }
    PQclear(rows);
    qsort(met, (size_t)there, sizeof *met, by_id);
    return there;
}

static int change(struct pg_store *s, const struct pg_stmt *stmt, const int64_t *ids, size_t count,
                  struct met *met, size_t there, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_ids(&args, ids, count);
    PGresult *rows = pgqrs_pg_run(s, stmt, &args, false, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    for (int i = 0; i < PQntuples(rows); i++) {
        struct met *m = find(met, there, pgqrs_pg_int(rows, i, 0));
        if (m != NULL) {
            m->done = true;
        }
    }
    PQclear(rows);
    return 0;
}

static int delete_them(struct pg_store *s, const int64_t *ids, size_t count, struct met *met,
                       size_t there, struct pgqrs_error *err)
{
    if (pgqrs_pg_delete_messages(s, ids, count, false, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < there; i++) {
        met[i].done = met[i].chosen;
    }
    return 0;
}

static int run_about(struct pg_store *s, const struct pg_stmt *stmt, const int64_t *ids,
                     size_t count, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_ids(&args, ids, count);
    PGresult *rows = pgqrs_pg_run(s, stmt, &args, false, err);
    pgqrs_pg_args_fini(&args);
    PQclear(rows);
    return rows == NULL ? -1 : 0;
}

/* Those that a worker of a pgqrsd runs. */
static int ask(struct pg_store *s, struct met *met, size_t there, struct pgqrs_error *err)
{
    int64_t *ids = calloc(there + 1, sizeof *ids);
    size_t count = 0;
    if (ids == NULL) {
        return pgqrs_error_memory(err);
    }
    for (size_t i = 0; i < there; i++) {
        if (met[i].is == PGQRS_ACTED_LEASED && met[i].ours) {
            met[i].is = PGQRS_ACTED_ASKED;
            ids[count++] = met[i].id;
        }
    }
    int rc = count == 0 ? 0 : run_about(s, &cancel_ask, ids, count, err);
    free(ids);
    return rc;
}

/* ids: those that may be acted on, each once, in the caller's order. */
static int carry_out(struct pg_store *s, enum pgqrs_act act, const int64_t *ids, size_t count,
                     struct met *met, size_t there, struct pgqrs_error *err)
{
    if (count == 0) {
        return 0;
    }
    switch (act) {
    case PGQRS_ACT_CANCEL:
        return change(s, &act_cancel, ids, count, met, there, err);
    case PGQRS_ACT_DELETE:
        return delete_them(s, ids, count, met, there, err);
    case PGQRS_ACT_FREE:
        return change(s, &act_free, ids, count, met, there, err);
    case PGQRS_ACT_REPLAY:
        return run_about(s, &cancel_forget, ids, count, err) < 0 ? -1
               : change(s, &act_replay, ids, count, met, there, err) < 0
                   ? -1
                   : run_about(s, &act_replay_runs, ids, count, err);
    case PGQRS_ACT_NONE:
    case PGQRS_ACT_COUNT:
        break;
    }
    return 0;
}

int pgqrs_pg_replay(struct pg_store *s, int64_t id, struct pgqrs_error *err)
{
    struct met met = {.id = id};
    return carry_out(s, PGQRS_ACT_REPLAY, &id, 1, &met, 1, err) < 0 ? -1 : met.done ? 1 : 0;
}

static size_t choose(enum pgqrs_act act, const int64_t *ids, size_t count, struct met *met,
                     size_t there, int64_t *chosen)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        struct met *m = find(met, there, ids[i]);
        if (m != NULL && !m->chosen && may(act, m->is)) {
            m->chosen = true;
            chosen[n++] = ids[i];
        }
    }
    return n;
}

static int64_t judge(enum pgqrs_act act, const int64_t *ids, size_t count, struct met *met,
                     size_t there, enum pgqrs_acted *acted_out)
{
    int64_t acted = 0;
    for (size_t i = 0; i < count; i++) {
        struct met *m = find(met, there, ids[i]);
        if (m == NULL) {
            acted_out[i] = PGQRS_ACTED_NOT_FOUND;
        } else if (!m->chosen) {
            acted_out[i] = m->is;
        } else if (!m->done) {
            acted_out[i] = PGQRS_ACTED_KEY;
        } else {
            acted_out[i] = PGQRS_ACTED_YES;
            acted++;
            m->chosen = false; /* named again, it is something else */
            m->is = afterwards(act);
        }
    }
    return acted;
}

static int64_t act_on(struct pg_store *s, enum pgqrs_act act, const int64_t *ids, size_t count,
                      enum pgqrs_acted *acted_out, struct pgqrs_error *err)
{
    struct met *met = calloc(count, sizeof *met);
    int64_t *chosen = calloc(count, sizeof *chosen);
    int64_t acted = -1;
    if (met == NULL || chosen == NULL) {
        (void)pgqrs_error_memory(err);
        goto out;
    }
    int64_t locked = lock(s, ids, count, met, err);
    if (locked < 0) {
        goto out;
    }
    size_t there = (size_t)locked;
    if (act == PGQRS_ACT_CANCEL && ask(s, met, there, err) < 0) {
        goto out;
    }
    size_t n = choose(act, ids, count, met, there, chosen);
    if (carry_out(s, act, chosen, n, met, there, err) == 0) {
        acted = judge(act, ids, count, met, there, acted_out);
    }
out:
    free(met);
    free(chosen);
    return acted;
}

enum { TRIES = 3 };

int64_t pgqrs_pg_message_act(struct pgqrs_store *store, enum pgqrs_act act, const int64_t *ids,
                             size_t count, enum pgqrs_acted *acted_out, struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    struct pgqrs_error why;
    /* Somebody may enqueue a key while a replay takes it: then the next look finds it. */
    for (int i = 0; i < TRIES; i++) {
        if (pgqrs_pg_begin(s, err) < 0) {
            return -1;
        }
        int64_t acted = pgqrs_pg_end(s, act_on(s, act, ids, count, acted_out, &why), &why);
        if (acted >= 0) {
            return acted;
        }
        if (why.code != PGQRS_ERR_EXISTS) {
            return pgqrs_error_set(err, why.code, "%s", why.text);
        }
    }
    return pgqrs_error_set(err, PGQRS_ERR_AGAIN, "replay: its unique key is being taken");
}
