/* SPDX-License-Identifier: Apache-2.0 */
/* What others want of the caller's workers: states of their rows, messages to be cancelled. */
#include "store/sqlite/sqlite_priv.h"

#include <stdio.h>

void pgqrs_sqlite_put_ids(struct pgqrs_buf *list, const int64_t *ids, size_t count)
{
    pgqrs_buf_put_u8(list, '[');
    for (size_t i = 0; i < count; i++) {
        char id[24];
        int len = snprintf(id, sizeof id, i == 0 ? "%lld" : ",%lld", (long long)ids[i]);
        pgqrs_buf_put(list, id, (size_t)len);
    }
    pgqrs_buf_put_u8(list, ']');
}

static void note_state(struct pgqrs_orders *orders, int64_t id, enum pgqrs_worker_state state)
{
    for (size_t i = 0; i < orders->worker_count; i++) {
        if (orders->worker_ids[i] == id) {
            orders->states_out[i] = state;
        }
    }
}

/* 1 when there are requests, else 0. */
static int read_states(struct sqlite_store *s, struct pgqrs_orders *orders, struct pgqrs_bytes ids,
                       const struct moment *now, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt =
        pgqrs_sqlite_stmt(s, orders->beat ? STMT_ORDERS_BEAT : STMT_ORDERS_LOOK, err);
    int asked = 0;
    int rc;
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_bytes(stmt, 1, ids);
    if (orders->beat) {
        pgqrs_sqlite_bind_text(stmt, 2, now->text);
    }
    for (size_t i = 0; i < orders->worker_count; i++) {
        orders->states_out[i] = PGQRS_WORKER_NONE;
    }
    while ((rc = pgqrs_sqlite_step(s, stmt, err)) > 0) {
        note_state(orders, sqlite3_column_int64(stmt, 0),
                   pgqrs_sqlite_worker_state(pgqrs_sqlite_bytes(stmt, 1)));
        asked = sqlite3_column_int(stmt, 2) != 0;
    }
    return rc < 0 ? -1 : asked;
}

static int end_waiting(struct sqlite_store *s, const struct moment *now, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_RUN_FAILS_ORDERED, err);
    if (stmt == NULL || pgqrs_sqlite_run(s, stmt, err) < 0) {
        return -1;
    }
    stmt = pgqrs_sqlite_stmt(s, STMT_ORDERS_END, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_text(stmt, 1, now->text);
    if (pgqrs_sqlite_run(s, stmt, err) < 0) {
        return -1;
    }
    stmt = pgqrs_sqlite_stmt(s, STMT_ORDERS_FORGET, err);
    return stmt == NULL || pgqrs_sqlite_run(s, stmt, err) < 0 ? -1 : 0;
}

static int read_cancels(struct sqlite_store *s, struct pgqrs_orders *orders, struct pgqrs_bytes ids,
                        struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_ORDERS_HELD, err);
    int rc;
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_bytes(stmt, 1, ids);
    pgqrs_sqlite_bind_int(stmt, 2, (int64_t)orders->cancel_max);
    while ((rc = pgqrs_sqlite_step(s, stmt, err)) > 0) {
        if (orders->cancel_count < orders->cancel_max) {
            orders->cancels_out[orders->cancel_count++] =
                (struct pgqrs_lease_ref){.message_id = sqlite3_column_int64(stmt, 0),
                                         .worker_id = sqlite3_column_int64(stmt, 1),
                                         .attempt = (uint32_t)sqlite3_column_int64(stmt, 2)};
        }
    }
    return rc;
}

static int carry_out(struct sqlite_store *s, struct pgqrs_orders *orders, struct pgqrs_bytes ids,
                     const struct moment *now, struct pgqrs_error *err)
{
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    int rc = end_waiting(s, now, err);
    if (rc == 0) {
        rc = read_cancels(s, orders, ids, err);
    }
    return (int)pgqrs_sqlite_end(s, rc, err);
}

int pgqrs_sqlite_worker_orders(struct pgqrs_store *store, struct pgqrs_orders *orders,
                               struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    struct pgqrs_buf list = {0};
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    pgqrs_sqlite_put_ids(&list, orders->worker_ids, orders->worker_count);
    const struct pgqrs_bytes ids = {.data = (const char *)list.data, .len = list.len};
    int rc = list.failed ? pgqrs_error_memory(err) : pgqrs_sqlite_check_file(s, err);
    if (rc == 0) {
        rc = read_states(s, orders, ids, &now, err);
    }
    if (rc > 0) {
        rc = carry_out(s, orders, ids, &now, err);
    }
    pgqrs_buf_fini(&list);
    return rc < 0 ? -1 : 0;
}
