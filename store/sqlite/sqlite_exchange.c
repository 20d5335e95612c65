/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

static void clear_outputs(struct pgqrs_exchange *x)
{
    x->lease_count = 0;
    x->next_due_us = 0;
    pgqrs_buf_clear(&x->payloads);
}

static int settle_and_lease(struct sqlite_store *s, struct pgqrs_exchange *x,
                            struct pgqrs_error *err)
{
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    x->now_us = now.us;
    for (size_t i = 0; i < x->settlement_count; i++) {
        if (pgqrs_sqlite_settle(s, &x->settlements[i], &now, err) < 0) {
            return -1;
        }
    }
    return pgqrs_sqlite_lease(s, x, &now, err);
}

int pgqrs_sqlite_exchange(struct pgqrs_store *store, struct pgqrs_exchange *x,
                          struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    clear_outputs(x);
    if (x->settlement_count == 0) {
        /* An idle broker that polls must not take the lock that writers need. */
        const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
        x->now_us = now.us;
        int rc = pgqrs_sqlite_check_file(s, err) < 0 ? -1 : pgqrs_sqlite_peek(s, x, &now, err);
        if (rc <= 0) {
            return rc;
        }
        clear_outputs(x);
    }
    /* A lease alone waits for no disk: its holder does not outlive the power, and without it the
     * message is only free again. */
    if ((x->settlement_count == 0 ? pgqrs_sqlite_begin_unsynced(s, err)
                                  : pgqrs_sqlite_begin(s, err)) < 0) {
        return -1;
    }
    if (pgqrs_sqlite_end(s, settle_and_lease(s, x, err), err) < 0) {
        clear_outputs(x);
        return -1;
    }
    return 0;
}

int64_t pgqrs_sqlite_renew(struct pgqrs_store *store, const struct pgqrs_lease_ref *leases,
                           size_t count, int64_t lease_ms, bool *held_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_RENEW, err);
    if (stmt == NULL || pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    const struct moment end = pgqrs_sqlite_moment(pgqrs_sqlite_after(pgqrs_wall_us(), lease_ms));
    int64_t held = 0;
    for (size_t i = 0; held >= 0 && i < count; i++) {
        pgqrs_sqlite_bind_int(stmt, 1, leases[i].message_id);
        pgqrs_sqlite_bind_int(stmt, 2, leases[i].worker_id);
        pgqrs_sqlite_bind_int(stmt, 3, leases[i].attempt);
        pgqrs_sqlite_bind_text(stmt, 4, end.text);
        int64_t changed = pgqrs_sqlite_run(s, stmt, err);
        held = changed < 0 ? -1 : held + changed;
        if (held_out != NULL) {
            held_out[i] = changed > 0;
        }
    }
    return pgqrs_sqlite_end(s, held, err);
}
