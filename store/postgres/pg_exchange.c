/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/postgres/pg_conn.h"

/*
 * The exchange: settlements and leases in one pipeline, one round trip, one commit. Follow-ups need
 * two more round trips, since which of them are added is known only when the settlements are done
 * (pg_follow.c). Two outcomes of one message in one group, and what the database refuses, need one
 * settlement after the other, each its own transaction.
 */

static const struct pg_stmt queues_named = {
    .name = "queues_named",
    .sql = "SELECT id FROM pgqrs_queues WHERE queue_name = $1",
    .param_count = 1,
    .types = {PG_TEXT},
};
static const struct pg_stmt leasing_workers = {
    .name = "leasing_workers",
    .sql = "SELECT id FROM pgqrs_workers WHERE id = ANY($1) AND status IN ('ready', 'polling')",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};
/* $4 lease in ms */
const struct pg_stmt pgqrs_pg_renew_leases = {
    .name = "renew_leases",
    .sql = "UPDATE pgqrs_messages m SET vt = pgqrsd_now() + " PG_MS(
        "$4") " WHERE m.id = ANY($1) AND (m.id, m.consumer_worker_id, m.read_ct) IN (SELECT * FROM"
              " unnest($1, $2, $3)) AND " PG_IS_LIVE
              " RETURNING m.id, m.consumer_worker_id, m.read_ct",
    .param_count = 4,
    .types = {PG_INT8_ARRAY, PG_INT8_ARRAY, PG_INT4_ARRAY, PG_INT8},
};

const struct pg_stmt pgqrs_pg_unsynced = {
    .name = "unsynced",
    .sql = "SELECT set_config('synchronous_commit', 'off', true)",
};

static void clear_outputs(struct pgqrs_exchange *x)
{
    x->lease_count = 0;
    x->next_due_us = 0;
    pgqrs_buf_clear(&x->payloads);
}

/* ---- all at once ---- */

/* Something is committed, and the caller will not hear what: leases may exist that it does not know
 * of, which only an outcome that is unknown makes it look for. */
static int half_done(struct pgqrs_error *err)
{
    if (err != NULL) {
        err->code = PGQRS_ERR_UNKNOWN;
    }
    return -1;
}

/* Wants for which the first batch has no room are leased for in transactions of their own. */
static int lease_the_rest(struct pg_store *s, struct pg_exchange *e, struct pgqrs_error *err)
{
    while (e->next_want < e->x->want_count) {
        pgqrs_pg_batch_fini(&e->batch);
        memset(&e->batch, 0, sizeof e->batch);
        e->settle_count = 0;
        pgqrs_pg_add_leases(e);
        if (e->batch.count == 0) {
            return 0; /* they want nothing */
        }
        if (pgqrs_pg_batch_run(s, &e->batch, err) < 0 || pgqrs_pg_take_leases(e, err) < 0) {
            return half_done(err);
        }
    }
    return 0;
}

/* A lease alone waits for no disk: should the server forget it, the message is only free again. A
 * transaction of somebody else is left as it is. */
static int wait_for_no_disk(const struct pg_store *s, struct pg_exchange *e,
                            struct pgqrs_error *err)
{
    if (s->borrowed || e->x->settlement_count > 0 || e->x->want_count == 0) {
        return 0;
    }
    if (pgqrs_pg_batch_add(&e->batch, &pgqrs_pg_unsynced) == NULL) {
        return pgqrs_error_memory(err);
    }
    e->settle_count = e->batch.count;
    return 0;
}

static int at_once(struct pg_store *s, struct pgqrs_exchange *x, struct pgqrs_settlement **sorted,
                   struct pgqrs_error *err)
{
    struct pg_exchange *e = calloc(1, sizeof *e);
    if (e == NULL) {
        return pgqrs_error_memory(err);
    }
    e->x = x;
    int rc = pgqrs_pg_add_settlements(e, x->settlements, x->settlement_count, err);
    if (rc == 0) {
        rc = wait_for_no_disk(s, e, err);
    }
    if (rc == 0) {
        pgqrs_pg_add_leases(e);
        rc = e->batch.count > 0 ? pgqrs_pg_batch_run(s, &e->batch, err) : 0;
    }
    if (rc == 0) {
        if (x->settlement_count > 0) {
            (void)pgqrs_pg_take_settled(e, sorted, x->settlement_count);
        }
        rc = pgqrs_pg_take_leases(e, err) < 0 ? half_done(err) : lease_the_rest(s, e, err);
    }
    pgqrs_pg_batch_fini(&e->batch);
    free(e);
    return rc;
}

/* ---- one after the other ---- */

static int settle_one(struct pg_store *s, struct pgqrs_settlement *item, struct pgqrs_error *err)
{
    struct pg_exchange *e = calloc(1, sizeof *e);
    if (e == NULL) {
        return pgqrs_error_memory(err);
    }
    int rc = pgqrs_pg_add_settlements(e, item, 1, err);
    for (int i = 0; rc == 0 && i < e->batch.count; i++) {
        e->batch.results[i] = pgqrs_pg_run(s, e->batch.stmts[i], &e->batch.args[i], false, err);
        rc = e->batch.results[i] == NULL ? -1 : 0;
    }
    if (rc == 0) {
        (void)pgqrs_pg_take_settled(e, &item, 1);
    }
    pgqrs_pg_batch_fini(&e->batch);
    free(e);
    return rc;
}

static int add_follow_up(struct pg_store *s, const struct pgqrs_follow_up *f, size_t index,
                         struct pgqrs_error *err)
{
    struct pg_args args = {0};
    if (pgqrs_store_check_item(&f->item, index, err) < 0) {
        return -1;
    }
    pgqrs_pg_arg_text(&args, f->queue);
    PGresult *rows = pgqrs_pg_run(s, &queues_named, &args, false, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    int64_t queue_id = PQntuples(rows) > 0 ? pgqrs_pg_int(rows, 0, 0) : 0;
    int64_t id;
    PQclear(rows);
    if (queue_id == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "queue \"%.255s\": there is none",
                               f->queue);
    }
    return pgqrs_pg_insert(s, queue_id, &f->item, 1, &id, NULL, err);
}

static int with_follow_ups(struct pg_store *s, struct pgqrs_settlement *item, bool *inside_out,
                           struct pgqrs_error *err)
{
    *inside_out = false;
    if (pgqrs_pg_begin(s, err) < 0) {
        return -1;
    }
    int rc = settle_one(s, item, err);
    *inside_out = rc == 0;
    for (size_t i = 0;
         rc == 0 && item->settled_out == PGQRS_SETTLED_YES && i < item->follow_up_count; i++) {
        rc = add_follow_up(s, &item->follow_ups[i], i, err);
    }
    return (int)pgqrs_pg_end(s, rc, err);
}

static bool is_its_fault(const struct pgqrs_error *err)
{
    return err->code == PGQRS_ERR_INVALID || err->code == PGQRS_ERR_NOT_FOUND ||
           err->code == PGQRS_ERR_CONFLICT;
}

/* What the database will never take must not keep the job from ending: it is a dead letter that
 * says so. */
static int settle_as_dead(struct pg_store *s, struct pgqrs_settlement *item, bool follow_up,
                          const struct pgqrs_error *why, struct pgqrs_error *err)
{
    char text[sizeof why->text + 64];
    (void)snprintf(text, sizeof text, "%s: %s",
                   follow_up ? "enqueue of a follow-up" : "the outcome can not be stored",
                   why->text);
    struct pgqrs_settlement dead = *item;
    dead.how = PGQRS_SETTLE_DEAD;
    dead.error = pgqrs_bytes_from(text);
    dead.result = (struct pgqrs_bytes){0};
    if (settle_one(s, &dead, err) < 0) {
        return -1;
    }
    item->settled_out = dead.settled_out;
    return 0;
}

static int settle_careful(struct pg_store *s, struct pgqrs_settlement *item,
                          struct pgqrs_error *err)
{
    bool follow_up = false;
    struct pgqrs_error why = {0};
    int rc = item->follow_up_count > 0 ? with_follow_ups(s, item, &follow_up, &why)
                                       : settle_one(s, item, &why);
    if (rc < 0 && is_its_fault(&why)) {
        rc = settle_as_dead(s, item, follow_up, &why, err);
    } else if (rc < 0) {
        *err = why;
    }
    return rc < 0 ? -1 : pgqrs_pg_look_at_unsettled(s, &item, 1, err);
}

static int one_by_one(struct pg_store *s, struct pgqrs_exchange *x, struct pgqrs_error *err)
{
    for (size_t i = 0; i < x->settlement_count; i++) {
        if (settle_careful(s, &x->settlements[i], err) < 0) {
            return -1;
        }
    }
    struct pgqrs_exchange leases = *x;
    leases.settlement_count = 0;
    int rc = at_once(s, &leases, NULL, err);
    x->leases = leases.leases;
    x->lease_count = leases.lease_count;
    x->lease_cap = leases.lease_cap;
    x->payloads = leases.payloads;
    x->now_us = leases.now_us;
    return rc;
}

/* ---- workers that may not lease ---- */

static bool is_among(const PGresult *rows, int64_t id)
{
    for (int i = 0; i < PQntuples(rows); i++) {
        if (pgqrs_pg_int(rows, i, 0) == id) {
            return true;
        }
    }
    return false;
}

static bool was_served(const struct pgqrs_exchange *x, int64_t queue_id)
{
    for (size_t i = 0; i < x->lease_count; i++) {
        if (x->wants[x->leases[i].want].queue_id == queue_id) {
            return true;
        }
    }
    return false;
}

/* Something is due: of queues that gave nothing, leases for those workers alone that may. */
static int lease_for_the_others(struct pg_store *s, struct pgqrs_exchange *x,
                                struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_array_begin(&args, PG_INT8, x->want_count);
    for (size_t i = 0; i < x->want_count; i++) {
        pgqrs_pg_arg_array_int8(&args, x->wants[i].worker_id);
    }
    pgqrs_pg_arg_array_end(&args);
    PGresult *rows = pgqrs_pg_run(s, &leasing_workers, &args, true, err);
    pgqrs_pg_args_fini(&args);
    struct pgqrs_want *wants = calloc(x->want_count + 1, sizeof *wants);
    if (rows == NULL || wants == NULL) {
        PQclear(rows);
        free(wants);
        return rows == NULL ? -1 : pgqrs_error_memory(err);
    }
    size_t left = 0;
    size_t blocked = 0;
    for (size_t i = 0; i < x->want_count; i++) {
        wants[i] = x->wants[i];
        bool may = is_among(rows, wants[i].worker_id);
        blocked += may ? 0 : 1;
        may = may && !was_served(x, wants[i].queue_id);
        wants[i].count = may ? wants[i].count : 0;
        wants[i].queue_id = may ? wants[i].queue_id : -1; /* apart from those that may */
        left += may ? 1 : 0;
    }
    PQclear(rows);
    struct pgqrs_exchange again = *x;
    again.settlement_count = 0;
    again.wants = wants;
    int rc = left == 0 || blocked == 0 ? 0 : at_once(s, &again, NULL, err);
    x->leases = again.leases;
    x->lease_count = again.lease_count;
    x->lease_cap = again.lease_cap;
    x->payloads = again.payloads;
    x->now_us = again.now_us;
    free(wants);
    return rc;
}

static size_t wanted(const struct pgqrs_exchange *x)
{
    size_t sum = 0;
    for (size_t i = 0; i < x->want_count; i++) {
        sum += x->wants[i].count;
    }
    return sum;
}

/* ---- the operation ---- */

static int settle_and_lease(struct pg_store *s, struct pgqrs_exchange *x, struct pgqrs_error *err)
{
    bool careful = false;
    struct pgqrs_settlement **sorted =
        pgqrs_pg_sort_settlements(x->settlements, x->settlement_count, &careful);
    if (sorted == NULL) {
        return pgqrs_error_memory(err);
    }
    bool follow = false;
    for (size_t i = 0; i < x->settlement_count; i++) {
        follow = follow || x->settlements[i].follow_up_count > 0;
    }
    int rc = careful  ? 0
             : follow ? pgqrs_pg_settle_and_follow(s, x, sorted, err)
                      : at_once(s, x, sorted, err);
    if (rc < 0 && is_its_fault(err)) {
        clear_outputs(x);
        careful = true;
    }
    if (careful) {
        rc = one_by_one(s, x, err);
    } else if (rc == 0) {
        rc = pgqrs_pg_look_at_unsettled(s, sorted, x->settlement_count, err);
        rc = rc < 0 ? half_done(err) : 0;
    }
    free(sorted);
    return rc;
}

int pgqrs_pg_exchange(struct pgqrs_store *store, struct pgqrs_exchange *x, struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    bool told = s->told;
    s->told = false;
    clear_outputs(x);
    if (x->settlement_count == 0 && !told) { /* an idle broker that polls takes no locks */
        int due = x->want_count == 0 ? 0 : pgqrs_pg_peek_wants(s, x, err);
        if (due <= 0) {
            return due;
        }
        clear_outputs(x);
    }
    if (settle_and_lease(s, x, err) < 0) {
        clear_outputs(x);
        return -1;
    }
    if (x->lease_count < wanted(x)) {
        /* What was stored is stored: that more can not be found out is no failure. */
        struct pgqrs_error ignored;
        int due = pgqrs_pg_peek_wants(s, x, &ignored);
        if (due > 0 && lease_for_the_others(s, x, err) < 0) {
            clear_outputs(x);
            return half_done(err);
        }
    }
    pgqrs_pg_place_payloads(x);
    return 0;
}

/* ---- renewing ---- */

static int add_renewal(struct pg_batch *batch, const struct pgqrs_lease_ref *leases, size_t count,
                       int64_t lease_ms, struct pgqrs_error *err)
{
    struct pg_args *args = pgqrs_pg_batch_add(batch, &pgqrs_pg_renew_leases);
    if (args == NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID, "renew: found more leases than fit");
    }
    pgqrs_pg_arg_leases(args, leases, count);
    pgqrs_pg_arg_int8(args, lease_ms);
    return 0;
}

static int by_lease(const void *a, const void *b)
{
    const struct pgqrs_lease_ref *x = a;
    const struct pgqrs_lease_ref *y = b;
    if (x->message_id != y->message_id) {
        return x->message_id < y->message_id ? -1 : 1;
    }
    if (x->worker_id != y->worker_id) {
        return x->worker_id < y->worker_id ? -1 : 1;
    }
    return (x->attempt > y->attempt) - (x->attempt < y->attempt);
}

/* Who names a lease twice is told twice. */
static int64_t take_renewed(const struct pg_batch *batch, const struct pgqrs_lease_ref *leases,
                            size_t count, bool *held_out, struct pgqrs_error *err)
{
    struct pgqrs_lease_ref *renewed = calloc(count + 1, sizeof *renewed);
    if (renewed == NULL) {
        return pgqrs_error_memory(err);
    }
    size_t n = 0;
    for (int step = 0; step < batch->count; step++) {
        const PGresult *rows = batch->results[step];
        for (int row = 0; row < PQntuples(rows) && n < count; row++) {
            renewed[n++] = (struct pgqrs_lease_ref){
                .message_id = pgqrs_pg_int(rows, row, 0),
                .worker_id = pgqrs_pg_int(rows, row, 1),
                .attempt = (uint32_t)pgqrs_pg_int(rows, row, 2),
            };
        }
    }
    qsort(renewed, n, sizeof *renewed, by_lease);
    int64_t held = 0;
    for (size_t i = 0; i < count; i++) {
        bool found = bsearch(&leases[i], renewed, n, sizeof *renewed, by_lease) != NULL;
        held += found ? 1 : 0;
        if (held_out != NULL) {
            held_out[i] = found;
        }
    }
    free(renewed);
    return held;
}

int64_t pgqrs_pg_renew(struct pgqrs_store *store, const struct pgqrs_lease_ref *leases,
                       size_t count, int64_t lease_ms, bool *held_out, struct pgqrs_error *err)
{
    struct pg_batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL) {
        return pgqrs_error_memory(err);
    }
    int64_t rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i += PG_ROWS_MAX) {
        rc = add_renewal(batch, leases + i, count - i < PG_ROWS_MAX ? count - i : PG_ROWS_MAX,
                         lease_ms, err);
    }
    if (rc == 0) {
        rc = pgqrs_pg_batch_run(pg_of(store), batch, err);
    }
    if (rc == 0) {
        rc = take_renewed(batch, leases, count, held_out, err);
    }
    pgqrs_pg_batch_fini(batch);
    free(batch);
    return rc;
}
