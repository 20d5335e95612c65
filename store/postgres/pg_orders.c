/* SPDX-License-Identifier: Apache-2.0 */
/* What others want of the caller's workers: states of their rows, messages to be cancelled. */
#include "store/postgres/pg_priv.h"

#include "store/postgres/pg_text.h"

#define ASKED "EXISTS (SELECT 1 FROM pgqrsd_cancel_requests)"
static const struct pg_stmt orders_beat = {
    .name = "orders_beat",
    .sql = "UPDATE pgqrs_workers SET heartbeat_at = pgqrsd_now() WHERE id = ANY($1)"
           " RETURNING id, status::text, " ASKED,
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};
static const struct pg_stmt orders_look = {
    .name = "orders_look",
    .sql = "SELECT id, status::text, " ASKED " FROM pgqrs_workers WHERE id = ANY($1)",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};
/* All parts see the same rows, so what is leased just now is neither ended nor forgotten: ended has
 * looked at it once more under its lock. */
static const struct pg_stmt orders_cancel = {
    .name = "orders_cancel",
    .sql = "WITH waits AS (SELECT m.id FROM pgqrsd_cancel_requests r JOIN pgqrs_messages m"
           " ON m.id = r.message_id WHERE " PG_IS_PENDING " ORDER BY m.id"
           " FOR UPDATE OF m SKIP LOCKED),"
           " ended AS (UPDATE pgqrs_messages SET archived_at = pgqrsd_now(),"
           " pgqrsd_outcome = 'cancelled', pgqrsd_result = NULL,"
           " pgqrsd_error = '" PGQRS_CANCELLED_TEXT "'"
           " WHERE id = ANY(ARRAY(SELECT id FROM waits)) RETURNING id),"
           " forgotten AS (DELETE FROM pgqrsd_cancel_requests WHERE message_id = ANY(ARRAY("
           "SELECT id FROM ended UNION ALL SELECT r.message_id FROM pgqrsd_cancel_requests r"
           " LEFT JOIN pgqrs_messages m ON m.id = r.message_id"
           " WHERE m.id IS NULL OR m.archived_at IS NOT NULL)))"
           " SELECT m.id, m.consumer_worker_id, m.read_ct FROM pgqrsd_cancel_requests r"
           " JOIN pgqrs_messages m ON m.id = r.message_id WHERE m.consumer_worker_id = ANY($1)"
           " AND " PG_IS_LIVE " ORDER BY r.message_id LIMIT $2",
    .param_count = 2,
    .types = {PG_INT8_ARRAY, PG_INT8},
};

static void put_ids(struct pg_args *args, const struct pgqrs_orders *orders)
{
    pgqrs_pg_arg_array_begin(args, PG_INT8, orders->worker_count);
    for (size_t i = 0; i < orders->worker_count; i++) {
        pgqrs_pg_arg_array_int8(args, orders->worker_ids[i]);
    }
    pgqrs_pg_arg_array_end(args);
}

/* 1 when there are requests, else 0. */
static int read_states(const PGresult *rows, struct pgqrs_orders *orders)
{
    int asked = 0;
    for (size_t i = 0; i < orders->worker_count; i++) {
        orders->states_out[i] = PGQRS_WORKER_NONE;
        for (int row = 0; row < PQntuples(rows); row++) {
            if (pgqrs_pg_int(rows, row, 0) == orders->worker_ids[i]) {
                orders->states_out[i] = pgqrs_pg_worker_state(pgqrs_pg_bytes(rows, row, 1));
                asked = pgqrs_pg_bool(rows, row, 2) ? 1 : asked;
            }
        }
    }
    return asked;
}

static int look(struct pg_store *s, struct pgqrs_orders *orders, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    put_ids(&args, orders);
    PGresult *rows =
        pgqrs_pg_run(s, orders->beat ? &orders_beat : &orders_look, &args, !orders->beat, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    int asked = read_states(rows, orders);
    PQclear(rows);
    return asked;
}

static int carry_out(struct pg_store *s, struct pgqrs_orders *orders, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    put_ids(&args, orders);
    pgqrs_pg_arg_int8(&args, (int64_t)orders->cancel_max);
    PGresult *rows = pgqrs_pg_run(s, &orders_cancel, &args, false, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    for (int i = 0; i < PQntuples(rows); i++) {
        orders->cancels_out[orders->cancel_count++] =
            (struct pgqrs_lease_ref){.message_id = pgqrs_pg_int(rows, i, 0),
                                     .worker_id = pgqrs_pg_int(rows, i, 1),
                                     .attempt = (uint32_t)pgqrs_pg_int(rows, i, 2)};
    }
    PQclear(rows);
    return 0;
}

int pgqrs_pg_worker_orders(struct pgqrs_store *store, struct pgqrs_orders *orders,
                           struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    int asked = look(s, orders, err);
    return asked > 0 ? carry_out(s, orders, err) : asked;
}
