/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

static int look_at(struct sqlite_store *s, int64_t id, struct pgqrs_claim_look *look,
                   struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_CLAIM_LOOK, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, id);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc > 0) {
        *look = (struct pgqrs_claim_look){.found = true,
                                          .queue_id = sqlite3_column_int64(stmt, 0),
                                          .archived = sqlite3_column_int(stmt, 1) != 0,
                                          .failed = sqlite3_column_int(stmt, 2) != 0,
                                          .holder = sqlite3_column_int64(stmt, 3)};
        (void)sqlite3_reset(stmt); /* the row was read */
    }
    return rc < 0 ? -1 : 0;
}

static int claim_it(struct sqlite_store *s, struct pgqrs_message_claim *claim,
                    struct pgqrs_exchange *leased, struct pgqrs_error *err)
{
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    struct pgqrs_claim_look look = {0};
    if (look_at(s, claim->message_id, &look, err) < 0) {
        return -1;
    }
    if (!pgqrs_store_may_claim(claim, &look)) {
        return pgqrs_store_refuse_claim(claim, &look, err);
    }
    if (look.archived) {
        int64_t replayed = pgqrs_sqlite_replay(s, claim->message_id, now.text, err);
        if (replayed <= 0) {
            return replayed < 0 ? -1 : pgqrs_store_refuse_claim(claim, &look, err);
        }
        claim->replayed = true;
    }
    return pgqrs_sqlite_lease_one(s, claim, leased, &now, err);
}

int pgqrs_sqlite_message_claim(struct pgqrs_store *store, struct pgqrs_message_claim *claim,
                               struct pgqrs_exchange *leased, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    if (pgqrs_sqlite_end(s, claim_it(s, claim, leased, err), err) < 0) {
        leased->lease_count = 0;
        return -1;
    }
    return 0;
}
