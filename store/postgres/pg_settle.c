/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_exchange.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define ERROR_MAX 4096

/*
 * Outcomes of many messages in a few statements, one for each way to end. The arrays are parallel,
 * in the order of ids, no id twice; the place of a row's id in the first one is its place in the
 * others.
 */

#define AT PG_AT
#define FENCE PG_FENCE
#define FENCE_TYPES PG_FENCE_TYPES

const struct pg_stmt pgqrs_pg_archive = {
    .name = "archive",
    .sql = "UPDATE pgqrs_messages m SET archived_at = pgqrsd_now(), pgqrsd_outcome = 'done'" FENCE
           " RETURNING m.id",
    .param_count = 3,
    .types = {FENCE_TYPES},
};
/* $4 outcomes, $5 results, $6 errors, $7 crashes */
const struct pg_stmt pgqrs_pg_end_messages = {
    .name = "end_messages",
    .sql = "UPDATE pgqrs_messages m SET archived_at = pgqrsd_now(), pgqrsd_outcome = ($4)[" AT "],"
           " pgqrsd_result = ($5)[" AT "], pgqrsd_error = coalesce(($6)[" AT "], m.pgqrsd_error),"
           " pgqrsd_crash_ct = m.pgqrsd_crash_ct + ($7)[" AT "]" FENCE " RETURNING m.id",
    .param_count = 7,
    .types = {FENCE_TYPES, PG_TEXT_ARRAY, PG_JSON_ARRAY, PG_TEXT_ARRAY, PG_INT4_ARRAY},
};
/* A row to which a workflow run refers stays, and is archived by the next statement. The offset
 * keeps the look at the runs from becoming a join. */
const struct pg_stmt pgqrs_pg_delete_done = {
    .name = "delete_done",
    .sql = "DELETE FROM pgqrs_messages m" FENCE " AND NOT EXISTS (SELECT 1 FROM"
           " pgqrs_workflow_runs r WHERE r.message_id = m.id OFFSET 0) RETURNING m.id",
    .param_count = 3,
    .types = {FENCE_TYPES},
};
/* $4 delays in ms, -1: due as before the lease; $5 attempts to take back, $6 errors, $7 crashes */
const struct pg_stmt pgqrs_pg_release = {
    .name = "release",
    .sql = PG_WAKING
    "UPDATE pgqrs_messages m SET consumer_worker_id = NULL, vt = CASE WHEN ($4)[" AT "] >= 0"
    " THEN pgqrsd_now() + " PG_MS(
        "($4)[" AT "]") " ELSE coalesce(m.pgqrsd_due_at, pgqrsd_now())"
                        " END, read_ct = m.read_ct - ($5)[" AT "], pgqrsd_error = coalesce(($6)[" AT
                        "],"
                        " m.pgqrsd_error), pgqrsd_crash_ct = m.pgqrsd_crash_ct + ($7)[" AT "]" FENCE
                        " RETURNING m.id",
    .param_count = 7,
    .types = {FENCE_TYPES, PG_INT8_ARRAY, PG_INT4_ARRAY, PG_TEXT_ARRAY, PG_INT4_ARRAY},
};
static const struct pg_stmt look = {
    .name = "settle_look",
    .sql = "SELECT id, coalesce(consumer_worker_id, 0), coalesce(read_ct, 0),"
           " archived_at IS NOT NULL FROM pgqrs_messages WHERE id = ANY($1)",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};

static int by_id(const void *a, const void *b)
{
    int64_t x = (*(struct pgqrs_settlement *const *)a)->message_id;
    int64_t y = (*(struct pgqrs_settlement *const *)b)->message_id;
    return (x > y) - (x < y);
}

/* ---- which statement ---- */

enum kind { KIND_ARCHIVE, KIND_END, KIND_DELETE, KIND_RELEASE, KIND_COUNT };

static enum kind kind_of(const struct pgqrs_settlement *item)
{
    switch (item->how) {
    case PGQRS_SETTLE_DELETE:
        return KIND_DELETE;
    case PGQRS_SETTLE_RETRY:
    case PGQRS_SETTLE_SNOOZE:
    case PGQRS_SETTLE_RETURN:
        return KIND_RELEASE;
    case PGQRS_SETTLE_ARCHIVE:
        return item->result.len == 0 && item->error.len == 0 && !item->crashed ? KIND_ARCHIVE
                                                                               : KIND_END;
    case PGQRS_SETTLE_DEAD:
    case PGQRS_SETTLE_CANCEL:
    case PGQRS_SETTLE_NONE:
    case PGQRS_SETTLE_COUNT:
        break;
    }
    return KIND_END;
}

static const char *outcome_of(enum pgqrs_settle how)
{
    return how == PGQRS_SETTLE_DEAD ? "failed" : how == PGQRS_SETTLE_CANCEL ? "cancelled" : "done";
}

/* ---- parameters ---- */

typedef void put_fn(struct pg_args *args, const struct pgqrs_settlement *item);

static void put_array(struct pg_args *args, enum pg_type type,
                      struct pgqrs_settlement *const *items, size_t count, put_fn *put)
{
    pgqrs_pg_arg_array_begin(args, type, count);
    for (size_t i = 0; i < count; i++) {
        put(args, items[i]);
    }
    pgqrs_pg_arg_array_end(args);
}

static void put_id(struct pg_args *args, const struct pgqrs_settlement *item)
{
    pgqrs_pg_arg_array_int8(args, item->message_id);
}

static void put_worker(struct pg_args *args, const struct pgqrs_settlement *item)
{
    pgqrs_pg_arg_array_int8(args, item->worker_id);
}

static void put_attempt(struct pg_args *args, const struct pgqrs_settlement *item)
{
    pgqrs_pg_arg_array_int4(args, (int32_t)item->attempt);
}

static void put_outcome(struct pg_args *args, const struct pgqrs_settlement *item)
{
    pgqrs_pg_arg_array_bytes(args, pgqrs_bytes_from(outcome_of(item->how)), false);
}

static void put_bytes(struct pg_args *args, struct pgqrs_bytes bytes)
{
    if (bytes.len == 0) {
        bytes.data = NULL; /* NULL */
    }
    pgqrs_pg_arg_array_bytes(args, bytes, false);
}

static void put_result(struct pg_args *args, const struct pgqrs_settlement *item)
{
    put_bytes(args, item->result);
}

/* What a handler said may hold bytes that the database refuses. */
static void put_error(struct pg_args *args, const struct pgqrs_settlement *item)
{
    char text[ERROR_MAX + 1];
    char clean[ERROR_MAX + 1];
    size_t len = item->error.len < ERROR_MAX ? item->error.len : ERROR_MAX;
    if (len > 0) {
        memcpy(text, item->error.data, len);
    }
    text[len] = 0;
    len = pgqrs_utf8_copy(clean, sizeof clean, text);
    put_bytes(args, (struct pgqrs_bytes){.data = clean, .len = len});
}

static void put_crashed(struct pg_args *args, const struct pgqrs_settlement *item)
{
    pgqrs_pg_arg_array_int4(args, item->crashed ? 1 : 0);
}

static void put_delay(struct pg_args *args, const struct pgqrs_settlement *item)
{
    pgqrs_pg_arg_array_int8(args, item->how == PGQRS_SETTLE_RETURN ? -1 : item->delay_ms);
}

static void put_back(struct pg_args *args, const struct pgqrs_settlement *item)
{
    pgqrs_pg_arg_array_int4(args, item->how == PGQRS_SETTLE_RETRY ? 0 : 1);
}

static int add(struct pg_exchange *e, const struct pg_stmt *stmt,
               struct pgqrs_settlement *const *items, size_t count, struct pgqrs_error *err)
{
    struct pg_args *args = pgqrs_pg_batch_add(&e->batch, stmt);
    if (args == NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID, "exchange: found more outcomes than fit");
    }
    put_array(args, PG_INT8, items, count, put_id);
    put_array(args, PG_INT8, items, count, put_worker);
    put_array(args, PG_INT4, items, count, put_attempt);
    if (stmt == &pgqrs_pg_end_messages) {
        put_array(args, PG_TEXT, items, count, put_outcome);
        put_array(args, PG_JSON, items, count, put_result);
    } else if (stmt == &pgqrs_pg_release) {
        put_array(args, PG_INT8, items, count, put_delay);
        put_array(args, PG_INT4, items, count, put_back);
    }
    if (stmt == &pgqrs_pg_end_messages || stmt == &pgqrs_pg_release) {
        put_array(args, PG_TEXT, items, count, put_error);
        put_array(args, PG_INT4, items, count, put_crashed);
    }
    return 0;
}

static int add_kind(struct pg_exchange *e, enum kind kind, struct pgqrs_settlement *const *items,
                    size_t count, struct pgqrs_error *err)
{
    static const struct pg_stmt *const stmts[KIND_COUNT] = {
        [KIND_ARCHIVE] = &pgqrs_pg_archive,
        [KIND_END] = &pgqrs_pg_end_messages,
        [KIND_DELETE] = &pgqrs_pg_delete_done,
        [KIND_RELEASE] = &pgqrs_pg_release,
    };
    for (size_t i = 0; i < count; i += PG_ROWS_MAX) {
        size_t n = count - i < PG_ROWS_MAX ? count - i : PG_ROWS_MAX;
        if (add(e, stmts[kind], items + i, n, err) < 0 ||
            (kind == KIND_DELETE && add(e, &pgqrs_pg_end_messages, items + i, n, err) < 0)) {
            return -1;
        }
    }
    return 0;
}

int pgqrs_pg_add_settlements(struct pg_exchange *e, struct pgqrs_settlement *items, size_t count,
                             struct pgqrs_error *err)
{
    struct pgqrs_settlement **sorted = calloc(count + 1, sizeof *sorted);
    int rc = sorted == NULL ? pgqrs_error_memory(err) : 0;
    for (int kind = 0; sorted != NULL && rc == 0 && kind < KIND_COUNT; kind++) {
        size_t n = 0;
        for (size_t i = 0; i < count; i++) {
            if (kind_of(&items[i]) == (enum kind)kind) {
                sorted[n++] = &items[i];
            }
        }
        qsort(sorted, n, sizeof *sorted, by_id);
        rc = add_kind(e, (enum kind)kind, sorted, n, err);
    }
    free(sorted);
    e->settle_count = e->batch.count;
    return rc;
}

/* ---- results ---- */

static struct pgqrs_settlement *find(struct pgqrs_settlement **sorted, size_t count, int64_t id)
{
    const struct pgqrs_settlement key = {.message_id = id};
    const struct pgqrs_settlement *wanted = &key;
    struct pgqrs_settlement **found = bsearch(&wanted, sorted, count, sizeof *sorted, by_id);
    return found == NULL ? NULL : *found;
}

struct pgqrs_settlement **pgqrs_pg_sort_settlements(struct pgqrs_settlement *items, size_t count,
                                                    bool *twice_out)
{
    struct pgqrs_settlement **sorted = calloc(count + 1, sizeof *sorted);
    if (sorted == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        sorted[i] = &items[i];
    }
    qsort(sorted, count, sizeof *sorted, by_id);
    *twice_out = false;
    for (size_t i = 1; i < count; i++) {
        *twice_out = *twice_out || sorted[i]->message_id == sorted[i - 1]->message_id;
    }
    return sorted;
}

size_t pgqrs_pg_take_settled(const struct pg_exchange *e, struct pgqrs_settlement **sorted,
                             size_t count)
{
    size_t settled = 0;
    for (size_t i = 0; i < count; i++) {
        sorted[i]->settled_out = PGQRS_SETTLED_NONE;
    }
    for (int step = 0; step < e->settle_count; step++) {
        const PGresult *rows = e->batch.results[step];
        for (int row = 0; row < PQntuples(rows); row++) {
            struct pgqrs_settlement *item = find(sorted, count, pgqrs_pg_int(rows, row, 0));
            if (item != NULL && item->settled_out == PGQRS_SETTLED_NONE) {
                item->settled_out = PGQRS_SETTLED_YES;
                settled++;
            }
        }
    }
    return settled;
}

static void take_look(const PGresult *rows, struct pgqrs_settlement **sorted, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (sorted[i]->settled_out == PGQRS_SETTLED_NONE) { /* a row that has gone */
            sorted[i]->settled_out = sorted[i]->how == PGQRS_SETTLE_DELETE ? PGQRS_SETTLED_BEFORE
                                                                           : PGQRS_SETTLED_REFUSED;
        }
    }
    for (int row = 0; row < PQntuples(rows); row++) {
        struct pgqrs_settlement *item = find(sorted, count, pgqrs_pg_int(rows, row, 0));
        if (item != NULL && item->settled_out != PGQRS_SETTLED_YES) {
            bool before = pgqrs_pg_bool(rows, row, 3) &&
                          pgqrs_pg_int(rows, row, 1) == item->worker_id &&
                          pgqrs_pg_int(rows, row, 2) == (int64_t)item->attempt;
            item->settled_out = before ? PGQRS_SETTLED_BEFORE : PGQRS_SETTLED_REFUSED;
        }
    }
}

int pgqrs_pg_look_at_unsettled(struct pg_store *s, struct pgqrs_settlement **sorted, size_t count,
                               struct pgqrs_error *err)
{
    struct pg_args args = {0};
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        n += sorted[i]->settled_out == PGQRS_SETTLED_NONE ? 1 : 0;
    }
    if (n == 0) {
        return 0;
    }
    pgqrs_pg_arg_array_begin(&args, PG_INT8, n);
    for (size_t i = 0; i < count; i++) {
        if (sorted[i]->settled_out == PGQRS_SETTLED_NONE) {
            pgqrs_pg_arg_array_int8(&args, sorted[i]->message_id);
        }
    }
    pgqrs_pg_arg_array_end(&args);
    PGresult *rows = pgqrs_pg_run(s, &look, &args, true, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    take_look(rows, sorted, count);
    PQclear(rows);
    return 0;
}
