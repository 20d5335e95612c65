/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_exchange.h"

#include <stdlib.h>

/*
 * Leasing in the order of priority, due time, id. The index has that order, but with delayed
 * messages behind the due ones of each priority; so each priority is looked at by itself, one after
 * the other, never past what is due. The rows that are picked become an array, whose places are
 * given to the workers who asked, in the order they asked.
 *
 * What asks for an order names the index: sorts are switched off.
 */

/* $1 queue, $2 how many, $3 whose each place is, $4 lease in ms, $5 attempts, $6 the workers, each
 * once: when one of them may not lease nothing is, and the caller finds out which. */
const struct pg_stmt pgqrs_pg_lease = {
    .name = "lease",
    .sql =
        "WITH RECURSIVE level(p) AS ("
        "(SELECT pgqrsd_priority FROM pgqrs_messages WHERE queue_id = $1 AND " PG_PENDING
        " AND NOT EXISTS (SELECT 1 FROM pgqrs_queues WHERE id = $1 AND pgqrsd_paused_at IS NOT"
        " NULL) AND (SELECT count(*) FROM pgqrs_workers k WHERE k.id = ANY($6)"
        " AND k.status::text IN ('ready', 'polling')) = cardinality($6)"
        " ORDER BY pgqrsd_priority DESC LIMIT 1)"
        " UNION ALL SELECT (SELECT pgqrsd_priority FROM pgqrs_messages WHERE queue_id = $1"
        " AND " PG_PENDING " AND pgqrsd_priority < level.p ORDER BY pgqrsd_priority DESC LIMIT 1)"
        " FROM level WHERE level.p IS NOT NULL),"
        " picked AS MATERIALIZED (SELECT array_agg(z.id ORDER BY z.id) AS ids,"
        " array_agg(z.place ORDER BY z.id) AS places FROM (SELECT y.id, row_number() OVER ()::int4"
        " AS place FROM (SELECT x.id FROM level CROSS JOIN LATERAL (SELECT id FROM pgqrs_messages"
        " WHERE queue_id = $1 AND pgqrsd_priority = level.p AND " PG_PENDING
        " AND vt <= pgqrsd_now() AND " PG_ATTEMPTS " < $5 ORDER BY vt, id LIMIT $2"
        " FOR UPDATE SKIP LOCKED) x LIMIT $2) y) z)"
        " UPDATE pgqrs_messages m SET pgqrsd_due_at = m.vt, vt = pgqrsd_now() + " PG_MS(
            "$4") ", read_ct = greatest(coalesce(m.read_ct, 0), 0) + 1, dequeued_at ="
                  " coalesce(m.dequeued_at, pgqrsd_now()), consumer_worker_id = ($3)[((SELECT "
                  "places FROM"
                  " picked))[" PG_PLACE(
                      "m.id",
                      "(SELECT ids FROM picked)") "]]"
                                                  " WHERE m.id = ANY((SELECT ids FROM "
                                                  "picked)::bigint[]) RETURNING m.id, m.payload,"
                                                  " m.read_ct, m.enqueued_at, m.pgqrsd_priority, "
                                                  "m.pgqrsd_due_at, pgqrsd_now(), "
                                                  "m.pgqrsd_crash_ct",
    .param_count = 6,
    .types = {PG_INT8, PG_INT8, PG_INT8_ARRAY, PG_INT8, PG_INT4, PG_INT8_ARRAY},
};
static const struct pg_stmt lease_one = {
    .name = "lease_one",
    .sql = "UPDATE pgqrs_messages m SET pgqrsd_due_at = m.vt, vt = pgqrsd_now() + " PG_MS(
        "$3") ","
              " read_ct = greatest(coalesce(m.read_ct, 0), 0) + 1,"
              " dequeued_at = coalesce(m.dequeued_at, pgqrsd_now()), consumer_worker_id = $2"
              " WHERE m.id = $1 RETURNING m.id, m.payload, m.read_ct, m.enqueued_at,"
              " m.pgqrsd_priority, m.pgqrsd_due_at, pgqrsd_now(), m.pgqrsd_crash_ct",
    .param_count = 3,
    .types = {PG_INT8, PG_INT8, PG_INT8},
};
/* $1 queues, $2 attempts. Of each queue: whether something is due, whether some row has no time,
 * when the first one later is. */
#define FIRST(what, condition)                                                                     \
    "(SELECT " what " FROM pgqrs_messages WHERE queue_id = q.id AND " PG_PENDING " AND " condition \
    " ORDER BY vt, enqueued_at, id LIMIT 1)"
const struct pg_stmt pgqrs_pg_peek = {
    .name = "peek",
    .sql = "SELECT " PG_NOW_US ", " FIRST(
        "true",
        "vt <= pgqrsd_now() AND " PG_ATTEMPTS " <"
        " q.attempts") ", " FIRST("true",
                                  "vt IS NULL") ", " FIRST(PG_COLUMN_US("vt"),
                                                           "vt > pgqrsd_now()") " FROM unnest($1, "
                                                                                "$2) q(id, "
                                                                                "attempts)",
    .param_count = 2,
    .types = {PG_INT8_ARRAY, PG_INT4_ARRAY},
};
static const struct pg_stmt repair = {
    .name = "repair_vt",
    .sql = "UPDATE pgqrs_messages SET vt = coalesce(enqueued_at, pgqrsd_now()) WHERE id ="
           " ANY(ARRAY(SELECT id FROM pgqrs_messages WHERE queue_id = ANY($1) AND " PG_PENDING
           " AND vt IS NULL ORDER BY queue_id, vt, enqueued_at, id LIMIT 1000 FOR UPDATE SKIP"
           " LOCKED))",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};

/* ---- asking ---- */

static void put_distinct_workers(struct pg_args *args, const struct pgqrs_want *wants, size_t count)
{
    int64_t ids[PG_ROWS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        size_t k = 0;
        while (k < n && ids[k] != wants[i].worker_id) {
            k++;
        }
        if (k == n) {
            ids[n++] = wants[i].worker_id;
        }
    }
    pgqrs_pg_arg_array_begin(args, PG_INT8, n);
    for (size_t k = 0; k < n; k++) {
        pgqrs_pg_arg_array_int8(args, ids[k]);
    }
    pgqrs_pg_arg_array_end(args);
}

/* How many wants from first on one statement can answer. */
static size_t same_wants(const struct pgqrs_exchange *x, size_t first, uint32_t *rows_out)
{
    const struct pgqrs_want *w = &x->wants[first];
    size_t end = first;
    *rows_out = 0;
    while (end < x->want_count && end - first < PG_ROWS_MAX &&
           x->wants[end].queue_id == w->queue_id && x->wants[end].max_attempts == w->max_attempts &&
           x->wants[end].lease_ms == w->lease_ms &&
           (end == first || *rows_out + x->wants[end].count <= PG_ROWS_MAX)) {
        *rows_out += x->wants[end++].count;
    }
    return end;
}

static bool add_lease(struct pg_exchange *e, size_t first, size_t end, uint32_t rows)
{
    const struct pgqrs_want *wants = &e->x->wants[first];
    int step = e->batch.count;
    struct pg_args *args = pgqrs_pg_batch_add(&e->batch, &pgqrs_pg_lease);
    if (args == NULL) {
        return false;
    }
    e->leases[step] = (struct pg_lease_step){.first_want = first, .end_want = end};
    pgqrs_pg_arg_int8(args, wants[0].queue_id);
    pgqrs_pg_arg_int8(args, rows);
    pgqrs_pg_arg_array_begin(args, PG_INT8, rows);
    for (size_t i = 0; i < end - first; i++) {
        for (uint32_t k = 0; k < wants[i].count; k++) {
            pgqrs_pg_arg_array_int8(args, wants[i].worker_id);
        }
    }
    pgqrs_pg_arg_array_end(args);
    pgqrs_pg_arg_int8(args, wants[0].lease_ms);
    pgqrs_pg_arg_int4(args, wants[0].max_attempts > INT32_MAX ? INT32_MAX
                                                              : (int32_t)wants[0].max_attempts);
    put_distinct_workers(args, wants, end - first);
    return true;
}

void pgqrs_pg_add_leases(struct pg_exchange *e)
{
    bool room = true;
    while (room && e->next_want < e->x->want_count) {
        uint32_t rows;
        size_t end = same_wants(e->x, e->next_want, &rows);
        room = rows == 0 || add_lease(e, e->next_want, end, rows);
        e->next_want = room ? end : e->next_want;
    }
}

/* ---- taking ---- */

struct order {
    int64_t priority, due, id;
    int row;
};

static int in_order(const void *a, const void *b)
{
    const struct order *x = a;
    const struct order *y = b;
    if (x->priority != y->priority) {
        return x->priority > y->priority ? -1 : 1;
    }
    if (x->due != y->due) {
        return x->due < y->due ? -1 : 1;
    }
    return (x->id > y->id) - (x->id < y->id);
}

static int append(struct pgqrs_exchange *x, const struct pgqrs_lease *lease,
                  struct pgqrs_error *err)
{
    if (x->lease_count == x->lease_cap) {
        size_t cap = x->lease_cap == 0 ? 64 : x->lease_cap * 2;
        struct pgqrs_lease *leases = reallocarray(x->leases, cap, sizeof *leases);
        if (leases == NULL) {
            return pgqrs_error_memory(err);
        }
        x->leases = leases;
        x->lease_cap = cap;
    }
    x->leases[x->lease_count++] = *lease;
    return 0;
}

/* The payload goes to x->payloads, which may move: until the end, data is the place in it. */
static int take_row(struct pgqrs_exchange *x, const PGresult *rows, int row, size_t want,
                    struct pgqrs_error *err)
{
    struct pgqrs_bytes payload = pgqrs_pg_bytes(rows, row, 1);
    const struct pgqrs_lease lease = {
        .want = want,
        .message_id = pgqrs_pg_int(rows, row, 0),
        .attempt = (uint32_t)pgqrs_pg_int(rows, row, 2),
        .enqueued_at_us = pgqrs_pg_time(rows, row, 3),
        .waited_us = pgqrs_pg_time(rows, row, 6) - pgqrs_pg_time(rows, row, 5),
        .priority = (int32_t)pgqrs_pg_int(rows, row, 4),
        .crash_ct = (int32_t)pgqrs_pg_int(rows, row, 7),
        .payload = {.data = (const char *)x->payloads.len, .len = payload.len},
    };
    pgqrs_buf_put(&x->payloads, payload.data, payload.len);
    pgqrs_buf_put_u8(&x->payloads, 0);
    return x->payloads.failed ? pgqrs_error_memory(err) : append(x, &lease, err);
}

int pgqrs_pg_lease_one(struct pg_store *s, const struct pgqrs_message_claim *claim,
                       struct pgqrs_exchange *x, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, claim->message_id);
    pgqrs_pg_arg_int8(&args, claim->worker_id);
    pgqrs_pg_arg_int8(&args, claim->lease_ms);
    PGresult *rows = pgqrs_pg_run(s, &lease_one, &args, false, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    int rc = PQntuples(rows) == 1 ? take_row(x, rows, 0, 0, err)
                                  : pgqrs_error_set(err, PGQRS_ERR_AGAIN, "claim: the row is gone");
    PQclear(rows);
    if (rc == 0) {
        x->leases[x->lease_count - 1].waited_us = -1; /* it does not wait until it is due */
        pgqrs_pg_place_payloads(x);
    }
    return rc;
}

static int take_step(struct pg_exchange *e, int step, struct pgqrs_error *err)
{
    const PGresult *rows = e->batch.results[step];
    int count = PQntuples(rows);
    struct order *orders = calloc((size_t)count + 1, sizeof *orders);
    if (orders == NULL) {
        return pgqrs_error_memory(err);
    }
    for (int i = 0; i < count; i++) {
        orders[i] = (struct order){.priority = pgqrs_pg_int(rows, i, 4),
                                   .due = pgqrs_pg_int(rows, i, 5),
                                   .id = pgqrs_pg_int(rows, i, 0),
                                   .row = i};
    }
    e->x->now_us = count > 0 ? pgqrs_pg_time(rows, 0, 6) : e->x->now_us;
    qsort(orders, (size_t)count, sizeof *orders, in_order);
    size_t want = e->leases[step].first_want;
    uint32_t left = e->x->wants[want].count;
    int rc = 0;
    for (int i = 0; rc == 0 && i < count; i++) {
        while (left == 0) {
            left = e->x->wants[++want].count;
        }
        left--;
        rc = take_row(e->x, rows, orders[i].row, want, err);
    }
    free(orders);
    return rc;
}

int pgqrs_pg_take_leases(struct pg_exchange *e, struct pgqrs_error *err)
{
    for (int step = e->settle_count; step < e->batch.count; step++) {
        if (take_step(e, step, err) < 0) {
            return -1;
        }
    }
    return 0;
}

void pgqrs_pg_place_payloads(struct pgqrs_exchange *x)
{
    for (size_t i = 0; i < x->lease_count; i++) {
        struct pgqrs_bytes *payload = &x->leases[i].payload;
        payload->data = (const char *)x->payloads.data + (size_t)payload->data;
    }
}

/* ---- looking ---- */

/* Each queue once, with the highest limit of attempts that a want of it has. */
static size_t distinct_queues(const struct pgqrs_exchange *x, int64_t *ids, int32_t *attempts,
                              size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < x->want_count && n < max; i++) {
        size_t k = 0;
        while (k < n && ids[k] != x->wants[i].queue_id) {
            k++;
        }
        int32_t most =
            x->wants[i].max_attempts > INT32_MAX ? INT32_MAX : (int32_t)x->wants[i].max_attempts;
        if (k == n) {
            ids[n] = x->wants[i].queue_id;
            attempts[n++] = most;
        } else if (attempts[k] < most) {
            attempts[k] = most;
        }
    }
    return n;
}

static void put_ids(struct pg_args *args, const int64_t *ids, size_t count)
{
    pgqrs_pg_arg_array_begin(args, PG_INT8, count);
    for (size_t i = 0; i < count; i++) {
        pgqrs_pg_arg_array_int8(args, ids[i]);
    }
    pgqrs_pg_arg_array_end(args);
}

static int repair_vt(struct pg_store *s, const int64_t *ids, size_t count, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    put_ids(&args, ids, count);
    int64_t rc = pgqrs_pg_exec(s, &repair, &args, err);
    pgqrs_pg_args_fini(&args);
    return rc < 0 ? -1 : 0;
}

int pgqrs_pg_peek_wants(struct pg_store *s, struct pgqrs_exchange *x, struct pgqrs_error *err)
{
    enum { QUEUES_MAX = 1024 }; /* as many as a broker serves */
    int64_t ids[QUEUES_MAX] = {0};
    int32_t attempts[QUEUES_MAX] = {0};
    struct pg_args args = {0};
    size_t count = distinct_queues(x, ids, attempts, QUEUES_MAX);
    put_ids(&args, ids, count);
    pgqrs_pg_arg_array_begin(&args, PG_INT4, count);
    for (size_t i = 0; i < count; i++) {
        pgqrs_pg_arg_array_int4(&args, attempts[i]);
    }
    pgqrs_pg_arg_array_end(&args);
    PGresult *rows = pgqrs_pg_run(s, &pgqrs_pg_peek, &args, true, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    bool due = false;
    bool missing = false;
    for (int i = 0; i < PQntuples(rows); i++) {
        int64_t later = pgqrs_pg_int(rows, i, 3);
        x->now_us = pgqrs_pg_int(rows, i, 0);
        due = due || pgqrs_pg_bool(rows, i, 1);
        missing = missing || pgqrs_pg_bool(rows, i, 2);
        if (later != 0 && (x->next_due_us == 0 || later < x->next_due_us)) {
            x->next_due_us = later;
        }
    }
    PQclear(rows);
    if (missing && repair_vt(s, ids, count, err) < 0) {
        return -1;
    }
    return due || missing;
}
