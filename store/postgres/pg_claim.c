/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_conn.h"
#include "store/postgres/pg_exchange.h"

static const struct pg_stmt claim_look = {
    .name = "claim_look",
    .sql = "SELECT queue_id, archived_at IS NOT NULL,"
           " coalesce(pgqrsd_outcome = 'failed', false), consumer_worker_id"
           " FROM pgqrs_messages WHERE id = $1 FOR UPDATE",
    .param_count = 1,
    .types = {PG_INT8},
};

static int look_at(struct pg_store *s, int64_t id, struct pgqrs_claim_look *look,
                   struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, id);
    PGresult *rows = pgqrs_pg_run(s, &claim_look, &args, false, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    if (PQntuples(rows) > 0) {
        *look = (struct pgqrs_claim_look){.found = true,
                                          .queue_id = pgqrs_pg_int(rows, 0, 0),
                                          .archived = pgqrs_pg_bool(rows, 0, 1),
                                          .failed = pgqrs_pg_bool(rows, 0, 2),
                                          .holder = pgqrs_pg_int(rows, 0, 3)};
    }
    PQclear(rows);
    return 0;
}

static int claim_it(struct pg_store *s, struct pgqrs_message_claim *claim,
                    struct pgqrs_exchange *leased, struct pgqrs_error *err)
{
    struct pgqrs_claim_look look = {0};
    if (look_at(s, claim->message_id, &look, err) < 0) {
        return -1;
    }
    if (!pgqrs_store_may_claim(claim, &look)) {
        return pgqrs_store_refuse_claim(claim, &look, err);
    }
    if (look.archived) {
        int replayed = pgqrs_pg_replay(s, claim->message_id, err);
        if (replayed <= 0) {
            return replayed < 0 ? -1 : pgqrs_store_refuse_claim(claim, &look, err);
        }
        claim->replayed = true;
    }
    return pgqrs_pg_lease_one(s, claim, leased, err);
}

int pgqrs_pg_message_claim(struct pgqrs_store *store, struct pgqrs_message_claim *claim,
                           struct pgqrs_exchange *leased, struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    if (pgqrs_pg_begin(s, err) < 0) {
        return -1;
    }
    if (pgqrs_pg_end(s, claim_it(s, claim, leased, err), err) < 0) {
        leased->lease_count = 0;
        return -1;
    }
    return 0;
}
