/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- registering ---- */

/* The row of that name, if there is one. */
struct found {
    int64_t id; /* 0: there is none */
    bool stopped, same;
    int64_t beat_us;
    char state[20];
};

static int find_row(struct sqlite_store *s, const struct pgqrs_worker_row *row, struct found *found,
                    struct pgqrs_error *err)
{
    *found = (struct found){0};
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_WORKER_FIND, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_text(stmt, 1, row->name);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc <= 0) {
        return rc;
    }
    found->id = sqlite3_column_int64(stmt, 0);
    struct pgqrs_bytes state = pgqrs_sqlite_bytes(stmt, 1);
    (void)snprintf(found->state, sizeof found->state, "%s", state.data == NULL ? "" : state.data);
    found->stopped = strcmp(found->state, "stopped") == 0;
    struct pgqrs_bytes instance = pgqrs_sqlite_bytes(stmt, 2);
    found->same = !found->stopped && row->instance != NULL && instance.data != NULL &&
                  strcmp(instance.data, row->instance) == 0 &&
                  (uint64_t)sqlite3_column_int64(stmt, 3) == row->generation;
    pgqrs_sqlite_time(stmt, 4, &found->beat_us);
    (void)sqlite3_reset(stmt); /* the row was read */
    return 0;
}

static int64_t write_row(struct sqlite_store *s, const struct pgqrs_worker_row *row,
                         const char *name, bool there, const struct moment *now,
                         struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, there ? STMT_WORKER_TAKE : STMT_WORKER_INSERT, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_id(stmt, 1, row->queue_id);
    pgqrs_sqlite_bind_text(stmt, 2, name);
    pgqrs_sqlite_bind_text(stmt, 3, now->text);
    pgqrs_sqlite_bind_text(stmt, 4, row->instance);
    pgqrs_sqlite_bind_int(stmt, 5, (int64_t)row->generation);
    pgqrs_sqlite_bind_int(stmt, 6, row->pid);
    return pgqrs_sqlite_run(s, stmt, err);
}

/* A name as pgqrs makes them up: a random UUID. */
static void make_name(char *name, size_t size)
{
    unsigned char b[16];
    sqlite3_randomness(sizeof b, b);
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    (void)snprintf(name, size,
                   "__ephemeral__%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
                   "%02x%02x%02x%02x%02x%02x",
                   b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12],
                   b[13], b[14], b[15]);
}

/* A client of the library takes over only what is dead. */
static int64_t take_over(struct sqlite_store *s, const struct pgqrs_worker_row *row,
                         const struct found *found, const struct moment *now,
                         struct pgqrs_error *err)
{
    int64_t age_ms = (now->us - found->beat_us) / 1000;
    if (row->stale_ms <= 0 || age_ms < row->stale_ms) {
        return pgqrs_error_set(err, PGQRS_ERR_EXISTS,
                               "worker \"%s\": found it %s, last beat %lld ms ago, expected it to "
                               "be stopped",
                               row->name, found->state, (long long)age_ms);
    }
    return pgqrs_sqlite_give_up(s, found->id, now, err);
}

static int64_t register_row(struct sqlite_store *s, const struct pgqrs_worker_row *row,
                            struct pgqrs_error *err)
{
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    char made_up[64];
    struct found found = {0};
    make_name(made_up, sizeof made_up);
    if ((row->name != NULL && find_row(s, row, &found, err) < 0) ||
        (row->queue_id != 0 && pgqrs_sqlite_need_queue(s, row->queue_id, err) < 0)) {
        return -1;
    }
    if (found.same) {
        return found.id;
    }
    if (found.id != 0 && !found.stopped && row->instance == NULL &&
        take_over(s, row, &found, &now, err) < 0) {
        return -1;
    }
    const char *name = row->name == NULL ? made_up : row->name;
    if (write_row(s, row, name, found.id != 0, &now, err) < 0) {
        return -1;
    }
    return found.id != 0 ? found.id : sqlite3_last_insert_rowid(s->db);
}

int pgqrs_sqlite_worker_register(struct pgqrs_store *store, const struct pgqrs_worker_row *row,
                                 int64_t *id_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    int64_t id = pgqrs_sqlite_end(s, register_row(s, row, err), err);
    if (id < 0) {
        return -1;
    }
    *id_out = id;
    return 0;
}

/* ---- beating ---- */

static int find_missing(struct sqlite_store *s, const int64_t *ids, size_t count,
                        struct pgqrs_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (pgqrs_sqlite_need_worker(s, ids[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* One statement for all: it is what an idle broker does. */
int pgqrs_sqlite_worker_beat(struct pgqrs_store *store, const int64_t *ids, size_t count,
                             struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    struct pgqrs_buf list = {0};
    pgqrs_sqlite_put_ids(&list, ids, count);
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    int64_t beaten = -1;
    if (list.failed) {
        (void)pgqrs_error_memory(err);
    } else if (pgqrs_sqlite_check_file(s, err) == 0) {
        sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_WORKER_BEAT, err);
        if (stmt != NULL) {
            pgqrs_sqlite_bind_bytes(
                stmt, 1, (struct pgqrs_bytes){.data = (const char *)list.data, .len = list.len});
            pgqrs_sqlite_bind_text(stmt, 2, now.text);
            beaten = pgqrs_sqlite_run(s, stmt, err);
        }
    }
    pgqrs_buf_fini(&list);
    if (beaten < 0) {
        return -1;
    }
    return (size_t)beaten == count ? 0 : find_missing(s, ids, count, err);
}

/* ---- ending ---- */

/* Returns 1 when there was a lease to charge, else 0. */
static int64_t charge_first(struct sqlite_store *s, int64_t worker_id,
                            const struct pgqrs_release *release, const struct moment *now,
                            struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_WORKER_FIRST, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, worker_id);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc <= 0) {
        return rc;
    }
    struct pgqrs_settlement item = {.message_id = sqlite3_column_int64(stmt, 0),
                                    .worker_id = worker_id,
                                    .attempt = (uint32_t)sqlite3_column_int64(stmt, 1),
                                    .crashed = release->crashed,
                                    .error = pgqrs_bytes_from(release->reason)};
    int64_t crashes = sqlite3_column_int64(stmt, 2);
    bool last = release->crashed ? crashes + 1 >= release->max_crashes
                                 : item.attempt - crashes >= release->max_attempts;
    (void)sqlite3_reset(stmt); /* the row was read */
    item.how = last ? PGQRS_SETTLE_DEAD : PGQRS_SETTLE_RETRY;
    return pgqrs_sqlite_settle(s, &item, now, err) < 0 ? -1 : 1;
}

static int64_t end_worker(struct sqlite_store *s, int64_t worker_id,
                          const struct pgqrs_release *release, struct pgqrs_error *err)
{
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    int64_t charged = release->charge ? charge_first(s, worker_id, release, &now, err) : 0;
    sqlite3_stmt *stmt = charged < 0 ? NULL : pgqrs_sqlite_stmt(s, STMT_WORKER_FREE, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, worker_id);
    pgqrs_sqlite_bind_text(stmt, 2, now.text);
    int64_t freed = pgqrs_sqlite_run(s, stmt, err);
    stmt = freed < 0 ? NULL : pgqrs_sqlite_stmt(s, STMT_WORKER_STOP, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, worker_id);
    pgqrs_sqlite_bind_text(stmt, 2, now.text);
    return pgqrs_sqlite_run(s, stmt, err) < 0 ? -1 : charged + freed;
}

int64_t pgqrs_sqlite_worker_end(struct pgqrs_store *store, int64_t worker_id,
                                const struct pgqrs_release *release, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_end(s, end_worker(s, worker_id, release, err), err);
}

/* ---- reconciling ---- */

static bool is_known(const struct pgqrs_lease_ref *known, size_t count, int64_t message_id,
                     uint32_t attempt)
{
    for (size_t i = 0; i < count; i++) {
        if (known[i].message_id == message_id && known[i].attempt == attempt) {
            return true;
        }
    }
    return false;
}

/* What the worker holds and does not know of; the caller frees *lost_out. */
static int find_lost(struct sqlite_store *s, int64_t worker_id, const struct pgqrs_lease_ref *known,
                     size_t count, struct pgqrs_buf *lost, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_WORKER_HELD, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, worker_id);
    int rc;
    while ((rc = pgqrs_sqlite_step(s, stmt, err)) > 0) {
        const struct pgqrs_lease_ref lease = {.message_id = sqlite3_column_int64(stmt, 0),
                                              .worker_id = worker_id,
                                              .attempt = (uint32_t)sqlite3_column_int64(stmt, 1)};
        if (!is_known(known, count, lease.message_id, lease.attempt)) {
            pgqrs_buf_put(lost, &lease, sizeof lease);
        }
    }
    return rc == 0 && lost->failed ? pgqrs_error_memory(err) : rc;
}

static int64_t reconcile(struct sqlite_store *s, int64_t worker_id,
                         const struct pgqrs_lease_ref *known, size_t count, struct pgqrs_error *err)
{
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    struct pgqrs_buf lost = {0};
    int64_t freed = find_lost(s, worker_id, known, count, &lost, err);
    for (size_t at = 0; freed >= 0 && at < lost.len; at += sizeof(struct pgqrs_lease_ref)) {
        struct pgqrs_lease_ref lease;
        memcpy(&lease, lost.data + at, sizeof lease);
        int64_t held = pgqrs_sqlite_give_back(s, &lease, &now, err);
        freed = held < 0 ? -1 : freed + held;
    }
    pgqrs_buf_fini(&lost);
    return freed;
}

int64_t pgqrs_sqlite_worker_reconcile(struct pgqrs_store *store, int64_t worker_id,
                                      const struct pgqrs_lease_ref *known, size_t count,
                                      struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_end(s, reconcile(s, worker_id, known, count, err), err);
}

/* ---- listing ---- */
