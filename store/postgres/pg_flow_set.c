/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_flow.h"

#include <stdlib.h>
#include <string.h>

#include "store/postgres/pg_exchange.h"

/*
 * What many workers' runs have come to, in one pipeline and one commit. Each statement is about the
 * items that need it: the leases are its first three arrays, and a lease that is lost or a run that
 * has ended takes its rows out of it. What the statements return, and a last look at the messages,
 * tell what came of each item.
 */

#define HELD "ARRAY(SELECT m.id FROM pgqrs_messages m" PG_FENCE ")"
#define RUN_AT PG_PLACE("r.message_id", "$1")
#define GOES_ON(status) "NOT (" PG_RUN_ENDED(status) ")"
#define NEVER "timestamptz '9999-12-31 00:00:00+00'"

/* $1: all; $2: those that end, whose parents are told, so that they are locked in order, too. */
static const struct pg_stmt lock = {
    .name = "flow_lock",
    .sql = "SELECT m.id FROM pgqrs_messages m WHERE m.id = ANY($1 || ARRAY(SELECT"
           " p.pgqrsd_parent_id FROM pgqrs_messages p WHERE p.id = ANY($2)"
           " AND p.pgqrsd_parent_id IS NOT NULL)) ORDER BY m.id FOR NO KEY UPDATE",
    .param_count = 2,
    .types = {PG_INT8_ARRAY, PG_INT8_ARRAY},
};
/* By step: $4 messages, $5 names, $6 kinds, $7 statuses, $8 outputs, $9 errors, $10 time to the
 * next try in ms or -1, $11 retries to count, $12 ms since it began. */
static const struct pg_stmt put_steps = {
    .name = "flow_steps",
    .sql = "INSERT INTO pgqrs_workflow_steps AS s (run_id, step_name, pgqrsd_kind, status, output,"
           " error, retry_at, retry_count, started_at, completed_at, created_at, updated_at)"
           " SELECT h.id, u.name, u.kind, u.status::pgqrs_workflow_status, u.output, u.error,"
           " CASE WHEN u.wait >= 0 THEN pgqrsd_now() + " PG_MS(
               "u.wait") " END, u.retried,"
                         " pgqrsd_now() - " PG_MS(
                             "u.took") ", pgqrsd_now(), pgqrsd_now(),"
                                       " pgqrsd_now() FROM unnest($4, $5, $6, $7, $8, $9, $10, $11,"
                                       " $12) u(message, name, kind, status, output, error, wait,"
                                       " retried, took) CROSS JOIN LATERAL (SELECT r.id FROM"
                                       " pgqrs_workflow_runs r WHERE r.message_id = u.message AND"
                                       " r.message_id = ANY(" HELD ") AND " GOES_ON(
                                           "r.status") " OFFSET 0) h"
                                                       " ON CONFLICT (run_id, step_name) DO UPDATE "
                                                       "SET pgqrsd_kind = excluded.pgqrsd_kind,"
                                                       " status = excluded.status, output = "
                                                       "excluded.output, error = excluded.error,"
                                                       " retry_at = excluded.retry_at, retry_count "
                                                       "= s.retry_count + excluded.retry_count,"
                                                       " started_at = coalesce(s.started_at, "
                                                       "excluded.started_at),"
                                                       " completed_at = excluded.completed_at "
                                                       "WHERE s.status <> 'SUCCESS'"
                                                       " RETURNING s.run_id, s.step_name",
    .param_count = 12,
    .types = {PG_FENCE_TYPES, PG_INT8_ARRAY, PG_TEXT_ARRAY, PG_TEXT_ARRAY, PG_TEXT_ARRAY,
              PG_JSONB_ARRAY, PG_JSONB_ARRAY, PG_INT8_ARRAY, PG_INT4_ARRAY, PG_INT8_ARRAY},
};
/* $4 keys, $5 values */
static const struct pg_stmt put_state = {
    .name = "flow_state",
    .sql = "INSERT INTO pgqrsd_workflow_state (message_id, key, value, updated_at) SELECT m.id,"
           " ($4)[" PG_AT "], ($5)[" PG_AT "], pgqrsd_now() FROM pgqrs_messages m" PG_FENCE
           " AND NOT EXISTS (SELECT 1 FROM pgqrs_workflow_runs r WHERE r.message_id = m.id"
           " AND " PG_RUN_ENDED(
               "r.status") " OFFSET 0)"
                           " ON CONFLICT (message_id, key) DO UPDATE SET value = excluded.value,"
                           " updated_at = excluded.updated_at RETURNING message_id",
    .param_count = 5,
    .types = {PG_FENCE_TYPES, PG_TEXT_ARRAY, PG_JSONB_ARRAY},
};
static const struct pg_stmt mark = {
    .name = "flow_mark",
    .sql = "UPDATE pgqrs_messages m SET pgqrsd_flow = true" PG_FENCE " AND NOT m.pgqrsd_flow",
    .param_count = 3,
    .types = {PG_FENCE_TYPES},
};
/* $4 statuses, $5 outputs, $6 errors. One that is to be cancelled ends as that. */
#define ENDS_AS "CASE r.status WHEN 'CANCELLING' THEN 'CANCELLED' ELSE ($4)[" RUN_AT "] END"
#define OF_RUN(what)                                                                               \
    "((SELECT " what " FROM ended))[" PG_PLACE("m.id", "(SELECT ids FROM ended)") "]"
static const struct pg_stmt end_runs = {
    .name = "flow_end",
    .sql =
        "WITH run AS (UPDATE pgqrs_workflow_runs r SET status = (" ENDS_AS
        ")::pgqrs_workflow_status, output = CASE " ENDS_AS " WHEN 'SUCCESS' THEN ($5)[" RUN_AT
        "] END, error = CASE " ENDS_AS " WHEN 'SUCCESS' THEN NULL ELSE ($6)[" RUN_AT "] END,"
        " completed_at = pgqrsd_now(), updated_at = pgqrsd_now(), pgqrsd_event = NULL"
        " WHERE r.message_id = ANY(" HELD ") AND " GOES_ON(
            "r.status") " RETURNING r.message_id AS id, CASE r.status WHEN 'SUCCESS' THEN 'done'"
                        " WHEN 'ERROR' THEN 'failed' ELSE 'cancelled' END AS outcome,"
                        " left(r.error #>> '{}', 4096) AS error), ended AS MATERIALIZED (SELECT"
                        " array_agg(id ORDER BY id) AS ids, array_agg(outcome ORDER BY id) AS"
                        " outcomes, array_agg(error ORDER BY id) AS errors FROM run)"
                        " UPDATE pgqrs_messages m SET archived_at = pgqrsd_now(),"
                        " pgqrsd_outcome = " OF_RUN("outcomes") ", pgqrsd_error = coalesce(" OF_RUN(
                            "errors") ", m.pgqrsd_error)"
                                      " WHERE m.id = ANY((SELECT ids FROM ended)::bigint[]) "
                                      "RETURNING m.id",
    .param_count = 6,
    .types = {PG_FENCE_TYPES, PG_TEXT_ARRAY, PG_JSONB_ARRAY, PG_JSONB_ARRAY},
};
/* $4 whether paused, $5 errors, $6 events awaited or NULL, of which none is there */
static const struct pg_stmt pause_runs = {
    .name = "flow_pause",
    .sql = "UPDATE pgqrs_workflow_runs r SET status = CASE WHEN ($4)[" RUN_AT
           "] THEN 'PAUSED' ELSE r.status END, error = CASE WHEN ($4)[" RUN_AT "] THEN ($5)[" RUN_AT
           "] ELSE r.error END, paused_at = CASE WHEN ($4)[" RUN_AT
           "] THEN pgqrsd_now() ELSE r.paused_at END, pgqrsd_event = ($6)[" RUN_AT
           "], updated_at = pgqrsd_now() WHERE r.message_id = ANY(" HELD
           ") AND r.status::text IN ('QUEUED', 'RUNNING', 'PAUSED') AND NOT EXISTS (SELECT 1 FROM"
           " pgqrsd_workflow_events e WHERE e.message_id = r.message_id AND e.name = ($6)[" RUN_AT
           "] OFFSET 0)",
    .param_count = 6,
    .types = {PG_FENCE_TYPES, PG_BOOL_ARRAY, PG_JSONB_ARRAY, PG_TEXT_ARRAY},
};
/* $4 delays in ms or -1, $5 events awaited or NULL */
static const struct pg_stmt suspend = {
    .name = "flow_suspend",
    .sql = PG_WAKING
    "UPDATE pgqrs_messages m SET consumer_worker_id = NULL, read_ct = m.read_ct - 1, vt ="
    " CASE WHEN EXISTS (SELECT 1 FROM pgqrs_workflow_runs r WHERE r.message_id = m.id AND"
    " r.status::text = 'CANCELLING' OFFSET 0) OR EXISTS (SELECT 1 FROM pgqrsd_workflow_events e"
    " WHERE e.message_id = m.id AND e.name = ($5)[" PG_AT "] OFFSET 0) THEN pgqrsd_now()"
    " WHEN ($4)[" PG_AT "] >= 0 THEN least(pgqrsd_now() + " PG_MS(
        "($4)[" PG_AT "]") ", " NEVER ") ELSE " NEVER " END" PG_FENCE
                           " AND EXISTS (SELECT 1 FROM pgqrs_workflow_runs r WHERE"
                           " r.message_id = m.id AND " GOES_ON("r.status") " OFFSET 0)"
                                                                           " RETURNING m.id",
    .param_count = 5,
    .types = {PG_FENCE_TYPES, PG_INT8_ARRAY, PG_TEXT_ARRAY},
};
static const struct pg_stmt look = {
    .name = "flow_look",
    .sql = "SELECT m.id, coalesce(m.consumer_worker_id, 0), coalesce(m.read_ct, 0),"
           " m.archived_at IS NOT NULL, r.id, r.status::text, r.worker_id FROM pgqrs_messages m"
           " LEFT JOIN LATERAL (SELECT * FROM pgqrs_workflow_runs WHERE message_id = m.id OFFSET 0)"
           " r ON true WHERE m.id = ANY($1)",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};
/* $1 messages, $2 names */
static const struct pg_stmt stored = {
    .name = "flow_stored",
    .sql = "SELECT u.message, coalesce(s.output, 'null') FROM unnest($1, $2) u(message, name) "
           "CROSS JOIN LATERAL"
           " (SELECT id FROM pgqrs_workflow_runs WHERE message_id = u.message OFFSET 0) r"
           " CROSS JOIN LATERAL (SELECT output FROM pgqrs_workflow_steps WHERE run_id = r.id"
           " AND step_name = u.name AND status::text = 'SUCCESS' OFFSET 0) s",
    .param_count = 2,
    .types = {PG_INT8_ARRAY, PG_TEXT_ARRAY},
};

/* ---- which items ---- */

static bool is_end(const struct pgqrs_flow *item)
{
    return item->what == PGQRS_FLOW_SUCCESS || item->what == PGQRS_FLOW_ERROR ||
           item->what == PGQRS_FLOW_CANCEL || item->what == PGQRS_FLOW_CONTINUE;
}

static bool needs(const struct pgqrs_flow *item, enum pg_flow_at at)
{
    switch (at) {
    case PG_FLOW_LOCK:
    case PG_FLOW_LOOK:
        return true;
    case PG_FLOW_STEPS:
        return item->step_count > 0;
    case PG_FLOW_STATE:
    case PG_FLOW_MARK:
        return item->what == PGQRS_FLOW_STATE;
    case PG_FLOW_END:
        return is_end(item);
    case PG_FLOW_PAUSE:
    case PG_FLOW_SUSPEND:
        return item->what == PGQRS_FLOW_SUSPEND;
    case PG_FLOW_AT_COUNT:
        break;
    }
    return false;
}

static int by_message(const void *a, const void *b)
{
    int64_t x = (*(struct pgqrs_flow *const *)a)->lease.message_id;
    int64_t y = (*(struct pgqrs_flow *const *)b)->lease.message_id;
    return (x > y) - (x < y);
}

void pgqrs_pg_flow_sort(struct pgqrs_flow **items, size_t count)
{
    qsort(items, count, sizeof *items, by_message);
}

static struct pgqrs_flow *find(struct pgqrs_flow **items, size_t count, int64_t message_id)
{
    struct pgqrs_flow key = {.lease = {.message_id = message_id}};
    struct pgqrs_flow *wanted = &key;
    struct pgqrs_flow **found = bsearch(&wanted, items, count, sizeof *items, by_message);
    return found == NULL ? NULL : *found;
}

/* ---- parameters ---- */

static const struct pgqrs_bytes none; /* NULL */

typedef void put_fn(struct pg_args *args, const struct pgqrs_flow *item);

static void put_array(struct pg_args *args, enum pg_type type, struct pgqrs_flow *const *items,
                      size_t count, put_fn *put)
{
    pgqrs_pg_arg_array_begin(args, type, count);
    for (size_t i = 0; i < count; i++) {
        put(args, items[i]);
    }
    pgqrs_pg_arg_array_end(args);
}

static void put_message(struct pg_args *args, const struct pgqrs_flow *item)
{
    pgqrs_pg_arg_array_int8(args, item->lease.message_id);
}

static void put_text(struct pg_args *args, const char *text)
{
    pgqrs_pg_arg_array_bytes(args, text == NULL ? none : pgqrs_bytes_from(text), false);
}

/* Empty: NULL, or JSON's null. */
static void put_json(struct pg_args *args, struct pgqrs_bytes json, bool null)
{
    if (json.len == 0) {
        json = null ? pgqrs_bytes_from("null") : none;
    }
    pgqrs_pg_arg_array_bytes(args, json, true);
}

static void put_name(struct pg_args *args, const struct pgqrs_flow *item)
{
    put_text(args, item->name);
}

static void put_value(struct pg_args *args, const struct pgqrs_flow *item)
{
    put_json(args, item->output, true);
}

static void put_error(struct pg_args *args, const struct pgqrs_flow *item)
{
    put_json(args, item->error, false);
}

static void put_end(struct pg_args *args, const struct pgqrs_flow *item)
{
    put_text(args, item->what == PGQRS_FLOW_SUCCESS ? "SUCCESS"
                   : item->what == PGQRS_FLOW_ERROR ? "ERROR"
                                                    : "CANCELLED");
}

static void put_paused(struct pg_args *args, const struct pgqrs_flow *item)
{
    pgqrs_pg_arg_array_bool(args, item->paused);
}

static void put_delay(struct pg_args *args, const struct pgqrs_flow *item)
{
    pgqrs_pg_arg_array_int8(args, item->delay_ms < 0 ? -1 : item->delay_ms);
}

/* ---- by step ---- */

typedef void put_step_fn(struct pg_args *args, const struct pgqrs_flow *item,
                         const struct pgqrs_step_put *step);

static void put_step_array(struct pg_args *args, enum pg_type type, struct pgqrs_flow *const *items,
                           size_t count, size_t steps, put_step_fn *put)
{
    pgqrs_pg_arg_array_begin(args, type, steps);
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < items[i]->step_count; k++) {
            put(args, items[i], &items[i]->steps[k]);
        }
    }
    pgqrs_pg_arg_array_end(args);
}

static void put_step_message(struct pg_args *args, const struct pgqrs_flow *item,
                             const struct pgqrs_step_put *step)
{
    (void)step;
    put_message(args, item);
}

static void put_step_name(struct pg_args *args, const struct pgqrs_flow *item,
                          const struct pgqrs_step_put *step)
{
    (void)item;
    put_text(args, step->name);
}

static void put_step_kind(struct pg_args *args, const struct pgqrs_flow *item,
                          const struct pgqrs_step_put *step)
{
    (void)item;
    put_text(args, pgqrs_step_kind_name(step->kind));
}

static void put_step_status(struct pg_args *args, const struct pgqrs_flow *item,
                            const struct pgqrs_step_put *step)
{
    (void)item;
    put_text(args, pgqrs_step_status_name(step->status));
}

static bool is_success(const struct pgqrs_step_put *step)
{
    return step->status == PGQRS_STEP_SUCCESS;
}

static void put_step_output(struct pg_args *args, const struct pgqrs_flow *item,
                            const struct pgqrs_step_put *step)
{
    (void)item;
    put_json(args, is_success(step) ? step->output : none, is_success(step));
}

static void put_step_error(struct pg_args *args, const struct pgqrs_flow *item,
                           const struct pgqrs_step_put *step)
{
    (void)item;
    put_json(args, is_success(step) ? none : step->error, false);
}

static void put_step_wait(struct pg_args *args, const struct pgqrs_flow *item,
                          const struct pgqrs_step_put *step)
{
    (void)item;
    pgqrs_pg_arg_array_int8(args, is_success(step) || step->retry_ms < 0 ? -1 : step->retry_ms);
}

static void put_step_retried(struct pg_args *args, const struct pgqrs_flow *item,
                             const struct pgqrs_step_put *step)
{
    (void)item;
    pgqrs_pg_arg_array_int4(args, !is_success(step) && step->retried ? 1 : 0);
}

static void put_step_took(struct pg_args *args, const struct pgqrs_flow *item,
                          const struct pgqrs_step_put *step)
{
    (void)item;
    pgqrs_pg_arg_array_int8(args, step->took_ms < 0 ? 0 : step->took_ms);
}

static void put_steps_of(struct pg_args *args, struct pgqrs_flow *const *items, size_t count)
{
    static const struct {
        enum pg_type type;
        put_step_fn *put;
    } arrays[] = {
        {PG_INT8, put_step_message}, {PG_TEXT, put_step_name},    {PG_TEXT, put_step_kind},
        {PG_TEXT, put_step_status},  {PG_JSONB, put_step_output}, {PG_JSONB, put_step_error},
        {PG_INT8, put_step_wait},    {PG_INT4, put_step_retried}, {PG_INT8, put_step_took},
    };
    size_t steps = 0;
    for (size_t i = 0; i < count; i++) {
        steps += items[i]->step_count;
    }
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        put_step_array(args, arrays[i].type, items, count, steps, arrays[i].put);
    }
}

/* ---- the pipeline ---- */

static void put_leases(struct pg_args *args, struct pgqrs_flow *const *items, size_t count)
{
    struct pgqrs_lease_ref leases[PG_ROWS_MAX];
    for (size_t i = 0; i < count; i++) {
        leases[i] = items[i]->lease;
    }
    pgqrs_pg_arg_leases(args, leases, count);
}

static void put_params(struct pg_args *args, enum pg_flow_at at, struct pgqrs_flow *const *items,
                       size_t count)
{
    put_leases(args, items, count);
    switch (at) {
    case PG_FLOW_STEPS:
        put_steps_of(args, items, count);
        break;
    case PG_FLOW_STATE:
        put_array(args, PG_TEXT, items, count, put_name);
        put_array(args, PG_JSONB, items, count, put_value);
        break;
    case PG_FLOW_END:
        put_array(args, PG_TEXT, items, count, put_end);
        put_array(args, PG_JSONB, items, count, put_value);
        put_array(args, PG_JSONB, items, count, put_error);
        break;
    case PG_FLOW_PAUSE:
        put_array(args, PG_BOOL, items, count, put_paused);
        put_array(args, PG_JSONB, items, count, put_error);
        put_array(args, PG_TEXT, items, count, put_name);
        break;
    case PG_FLOW_SUSPEND:
        put_array(args, PG_INT8, items, count, put_delay);
        put_array(args, PG_TEXT, items, count, put_name);
        break;
    case PG_FLOW_LOCK:
    case PG_FLOW_MARK:
    case PG_FLOW_LOOK:
    case PG_FLOW_AT_COUNT:
        break;
    }
}

static size_t choose(const struct pg_flow_set *set, enum pg_flow_at at, struct pgqrs_flow **chosen)
{
    size_t n = 0;
    for (size_t i = 0; i < set->count; i++) {
        if (needs(set->items[i], at)) {
            chosen[n++] = set->items[i];
        }
    }
    return n;
}

void pgqrs_pg_flow_add(struct pg_flow_set *set, bool only_look)
{
    static const struct pg_stmt *const stmts[PG_FLOW_AT_COUNT] = {
        [PG_FLOW_LOCK] = &lock,       [PG_FLOW_STEPS] = &put_steps, [PG_FLOW_STATE] = &put_state,
        [PG_FLOW_MARK] = &mark,       [PG_FLOW_END] = &end_runs,    [PG_FLOW_PAUSE] = &pause_runs,
        [PG_FLOW_SUSPEND] = &suspend, [PG_FLOW_LOOK] = &look,
    };
    struct pgqrs_flow *chosen[PG_ROWS_MAX];
    for (int at = 0; at < PG_FLOW_AT_COUNT; at++) {
        size_t n = choose(set, (enum pg_flow_at)at, chosen);
        bool frame = at == PG_FLOW_LOCK || at == PG_FLOW_LOOK;
        set->at[at] = -1;
        if (n == 0 || (only_look && !frame)) {
            continue;
        }
        set->at[at] = set->batch.count;
        struct pg_args *args = pgqrs_pg_batch_add(&set->batch, stmts[at]);
        if (!frame) {
            put_params(args, (enum pg_flow_at)at, chosen, n);
            continue;
        }
        put_array(args, PG_INT8, chosen, n, put_message);
        if (at == PG_FLOW_LOCK) {
            n = choose(set, PG_FLOW_END, chosen);
            put_array(args, PG_INT8, chosen, n, put_message);
        }
    }
}

/* ---- what came of it ---- */

struct seen { /* a message and its run, when all is done */
    int64_t worker_id, attempt, run_id, run_worker_id;
    bool found, archived;
    enum pgqrs_run_status status;
};

static const PGresult *result_at(const struct pg_flow_set *set, enum pg_flow_at at)
{
    return set->at[at] < 0 ? NULL : set->batch.results[set->at[at]];
}

static struct seen see(const struct pg_flow_set *set, const struct pgqrs_flow *item)
{
    const PGresult *rows = result_at(set, PG_FLOW_LOOK);
    for (int row = 0; row < PQntuples(rows); row++) {
        if (pgqrs_pg_int(rows, row, 0) == item->lease.message_id) {
            return (struct seen){
                .worker_id = pgqrs_pg_int(rows, row, 1),
                .attempt = pgqrs_pg_int(rows, row, 2),
                .archived = pgqrs_pg_bool(rows, row, 3),
                .run_id = pgqrs_pg_int(rows, row, 4),
                .status = pgqrs_run_status_from(pgqrs_pg_bytes(rows, row, 5)),
                .run_worker_id = pgqrs_pg_int(rows, row, 6),
                .found = true,
            };
        }
    }
    return (struct seen){0};
}

static bool is_lease(const struct seen *seen, const struct pgqrs_flow *item)
{
    return seen->found && seen->worker_id == item->lease.worker_id &&
           seen->attempt == (int64_t)item->lease.attempt;
}

bool pgqrs_pg_flow_holds(const struct pg_flow_set *set, const struct pgqrs_flow *item,
                         enum pgqrs_run_status *status_out)
{
    struct seen seen = see(set, item);
    *status_out = seen.status;
    return is_lease(&seen, item) && !seen.archived;
}

/* Not applied now: was it before? */
static enum pgqrs_settled judge(const struct seen *seen, const struct pgqrs_flow *item)
{
    bool before = false;
    if (item->what == PGQRS_FLOW_STEP) {
        before = is_lease(seen, item) && !seen->archived && seen->run_id != 0 &&
                 !pgqrs_run_has_ended(seen->status);
    } else if (is_end(item)) {
        before = is_lease(seen, item) && seen->archived && pgqrs_run_has_ended(seen->status);
    } else if (item->what == PGQRS_FLOW_SUSPEND) {
        before = seen->found && seen->worker_id == 0 && !seen->archived &&
                 seen->attempt == (int64_t)item->lease.attempt - 1 &&
                 seen->run_worker_id == item->lease.worker_id && seen->status == PGQRS_RUN_PAUSED;
    }
    return before ? PGQRS_SETTLED_BEFORE : PGQRS_SETTLED_REFUSED;
}

static bool was_step_stored(const struct pg_flow_set *set, const struct seen *seen,
                            const struct pgqrs_flow *item)
{
    const PGresult *rows = result_at(set, PG_FLOW_STEPS);
    const char *name = item->steps[item->step_count - 1].name;
    for (int row = 0; row < PQntuples(rows); row++) {
        if (pgqrs_pg_int(rows, row, 0) == seen->run_id &&
            strcmp(pgqrs_pg_bytes(rows, row, 1).data, name) == 0) {
            return true;
        }
    }
    return false;
}

static void take_applied(const struct pg_flow_set *set, enum pg_flow_at at)
{
    const PGresult *rows = result_at(set, at);
    for (int row = 0; rows != NULL && row < PQntuples(rows); row++) {
        struct pgqrs_flow *item = find(set->items, set->count, pgqrs_pg_int(rows, row, 0));
        if (item != NULL && needs(item, at)) {
            item->settled_out = PGQRS_SETTLED_YES;
        }
    }
}

int pgqrs_pg_flow_run(struct pg_store *s, struct pg_flow_set *set, struct pgqrs_error *err)
{
    if (pgqrs_pg_batch_run(s, &set->batch, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < set->count; i++) {
        set->items[i]->settled_out = PGQRS_SETTLED_NONE;
    }
    take_applied(set, PG_FLOW_STATE);
    take_applied(set, PG_FLOW_END);
    take_applied(set, PG_FLOW_SUSPEND);
    for (size_t i = 0; i < set->count; i++) {
        struct pgqrs_flow *item = set->items[i];
        struct seen seen = see(set, item);
        item->status_out = seen.status;
        if (item->what == PGQRS_FLOW_STEP && set->at[PG_FLOW_STEPS] >= 0 &&
            was_step_stored(set, &seen, item)) {
            item->settled_out = PGQRS_SETTLED_YES;
        }
        if (item->settled_out == PGQRS_SETTLED_NONE) {
            item->settled_out = judge(&seen, item);
        }
    }
    return 0;
}

/* ---- steps that had been stored ---- */

static bool was_there(const struct pgqrs_flow *item)
{
    return item->what == PGQRS_FLOW_STEP && item->settled_out == PGQRS_SETTLED_BEFORE;
}

static void put_last_name(struct pg_args *args, const struct pgqrs_flow *item)
{
    put_text(args, item->steps[item->step_count - 1].name);
}

int pgqrs_pg_flow_stored(struct pg_store *s, struct pgqrs_flow **items, size_t count,
                         struct pgqrs_error *err)
{
    struct pgqrs_flow *asked[PG_ROWS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (was_there(items[i])) {
            asked[n++] = items[i];
        }
    }
    if (n == 0) {
        return 0;
    }
    struct pg_args args = {0};
    put_array(&args, PG_INT8, asked, n, put_message);
    put_array(&args, PG_TEXT, asked, n, put_last_name);
    PGresult *rows = pgqrs_pg_run(s, &stored, &args, true, err);
    pgqrs_pg_args_fini(&args);
    int rc = rows == NULL ? -1 : 0;
    for (int row = 0; rc == 0 && row < PQntuples(rows); row++) {
        struct pgqrs_flow *item = find(asked, n, pgqrs_pg_int(rows, row, 0));
        if (item != NULL && item->output_out == NULL) {
            rc = pgqrs_pg_dup(rows, row, 1, &item->output_out, err);
        }
    }
    PQclear(rows);
    return rc;
}
