/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <stdlib.h>
#include <string.h>

/* A queue's rows of one priority that are neither leased nor archived. */
struct level {
    int64_t queue_id;
    int64_t worker_id; /* who would have them */
    int64_t priority;
    bool due;         /* the first of them is due */
    bool missing_vt;  /* a row has none: it counts as due, as it does for pgqrs */
    int64_t first_us; /* when the first of them is due, unless missing_vt */
    bool none;        /* there is no further level, for any worker */
};

/* The next level below level->priority. 1, 0 when there is none or the worker may have none, or -1.
 */
static int next_level(struct sqlite_store *s, struct level *level, const struct moment *now,
                      struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_LEVEL, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, level->queue_id);
    pgqrs_sqlite_bind_int(stmt, 2, level->priority);
    pgqrs_sqlite_bind_int(stmt, 3, level->worker_id);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc <= 0) {
        return rc;
    }
    level->none = sqlite3_column_type(stmt, 0) == SQLITE_NULL;
    if (level->none) {
        (void)sqlite3_reset(stmt); /* the row was read */
        return 0;
    }
    level->priority = sqlite3_column_int64(stmt, 0);
    struct pgqrs_bytes vt = pgqrs_sqlite_bytes(stmt, 1);
    level->missing_vt = vt.data == NULL;
    level->due = level->missing_vt || strcmp(vt.data, now->text) <= 0;
    if (!level->due) {
        pgqrs_sqlite_time(stmt, 1, &level->first_us);
    }
    (void)sqlite3_reset(stmt); /* the row was read */
    return rc;
}

int pgqrs_sqlite_next_priority(struct sqlite_store *s, int64_t queue_id, int64_t *priority,
                               struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_PRIORITY, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, queue_id);
    pgqrs_sqlite_bind_int(stmt, 2, *priority);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc > 0) {
        *priority = sqlite3_column_int64(stmt, 0);
        (void)sqlite3_reset(stmt); /* the row was read */
    }
    return rc;
}

static void note_due(struct pgqrs_exchange *x, int64_t due_us)
{
    if (due_us != 0 && (x->next_due_us == 0 || due_us < x->next_due_us)) {
        x->next_due_us = due_us;
    }
}

/* Binds the parameters that name a level's rows that may be leased now. */
static sqlite3_stmt *of_level(struct sqlite_store *s, enum sqlite_stmt_id id,
                              const struct level *level, const struct moment *now,
                              struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, id, err);
    if (stmt != NULL) {
        pgqrs_sqlite_bind_int(stmt, 1, level->queue_id);
        pgqrs_sqlite_bind_int(stmt, 2, level->priority);
        pgqrs_sqlite_bind_text(stmt, 3, now->text);
    }
    return stmt;
}

/* When the first row of the level that is not due yet will be. */
static int note_later(struct sqlite_store *s, struct pgqrs_exchange *x, const struct level *level,
                      const struct moment *now, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = of_level(s, STMT_LATER, level, now, err);
    int rc = stmt == NULL ? -1 : pgqrs_sqlite_step(s, stmt, err);
    if (rc > 0) {
        int64_t due_us;
        pgqrs_sqlite_time(stmt, 0, &due_us);
        note_due(x, due_us);
        (void)sqlite3_reset(stmt); /* the row was read */
    }
    return rc < 0 ? -1 : 0;
}

/* ---- leasing ---- */

static int grow(struct pgqrs_exchange *x, struct pgqrs_error *err)
{
    if (x->lease_count == x->lease_cap) {
        size_t cap = x->lease_cap == 0 ? 64 : x->lease_cap * 2;
        struct pgqrs_lease *leases = realloc(x->leases, cap * sizeof *leases);
        if (leases == NULL) {
            return pgqrs_error_memory(err);
        }
        x->leases = leases;
        x->lease_cap = cap;
    }
    return 0;
}

/* The payload goes to x->payloads, which may move: until the end, data is the place in it. */
static int read_lease(sqlite3_stmt *row, struct pgqrs_exchange *x, struct pgqrs_lease *lease,
                      struct pgqrs_error *err)
{
    lease->message_id = sqlite3_column_int64(row, 0);
    lease->attempt = (uint32_t)sqlite3_column_int64(row, 1);
    lease->crash_ct = sqlite3_column_int(row, 4);
    struct pgqrs_bytes payload = pgqrs_sqlite_bytes(row, 3);
    lease->payload.data = (const char *)x->payloads.len;
    lease->payload.len = payload.len;
    pgqrs_buf_put(&x->payloads, payload.data, payload.len);
    pgqrs_buf_put_u8(&x->payloads, 0);
    if (x->payloads.failed) {
        return pgqrs_error_memory(err);
    }
    pgqrs_sqlite_time(row, 2, &lease->enqueued_at_us);
    return 0;
}

/* Mostly it was due when it was enqueued, in the same characters. */
static int64_t read_due(sqlite3_stmt *row, const struct pgqrs_lease *lease)
{
    const struct pgqrs_bytes enqueued = pgqrs_sqlite_bytes(row, 2);
    const struct pgqrs_bytes due = pgqrs_sqlite_bytes(row, 5);
    int64_t due_us = lease->enqueued_at_us;
    if (enqueued.len != due.len || memcmp(enqueued.data, due.data, due.len) != 0) {
        pgqrs_sqlite_time(row, 5, &due_us);
    }
    return due_us;
}

/* Appends up to count rows of a level, in the order in which they are served. */
static int pick(struct sqlite_store *s, struct pgqrs_exchange *x, size_t want,
                const struct level *level, uint32_t count, const struct moment *now,
                struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = of_level(s, STMT_PICK, level, now, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 6, x->wants[want].max_attempts);
    pgqrs_sqlite_bind_int(stmt, 7, count);
    int rc;
    while ((rc = pgqrs_sqlite_step(s, stmt, err)) > 0) {
        struct pgqrs_lease lease = {.want = want, .priority = (int32_t)level->priority};
        if (grow(x, err) < 0 || read_lease(stmt, x, &lease, err) < 0) {
            (void)sqlite3_reset(stmt); /* the failure is known */
            return -1;
        }
        int64_t due_us = read_due(stmt, &lease);
        lease.waited_us = due_us == 0 ? -1 : now->us - due_us;
        x->leases[x->lease_count++] = lease;
    }
    return rc;
}

/* Makes what was picked, from first on, the worker's. */
static int take(struct sqlite_store *s, const struct pgqrs_exchange *x, size_t first,
                const struct pgqrs_want *w, const struct moment *now, struct pgqrs_error *err)
{
    const struct moment end = pgqrs_sqlite_moment(pgqrs_sqlite_after(now->us, w->lease_ms));
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_TAKE, err);
    if (stmt == NULL) {
        return -1;
    }
    for (size_t i = first; i < x->lease_count; i++) {
        pgqrs_sqlite_bind_int(stmt, 1, x->leases[i].message_id);
        pgqrs_sqlite_bind_text(stmt, 2, end.text);
        pgqrs_sqlite_bind_int(stmt, 3, w->worker_id);
        pgqrs_sqlite_bind_text(stmt, 4, now->text);
        if (pgqrs_sqlite_run(s, stmt, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int repair_vt(struct sqlite_store *s, const struct level *level, const struct moment *now,
                     struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = of_level(s, STMT_REPAIR_VT, level, now, err);
    return stmt == NULL || pgqrs_sqlite_run(s, stmt, err) < 0 ? -1 : 0;
}

/* Leases up to count rows of a level that is due. Returns how many. */
static int64_t lease_level(struct sqlite_store *s, struct pgqrs_exchange *x, size_t want,
                           const struct level *level, uint32_t count, const struct moment *now,
                           struct pgqrs_error *err)
{
    size_t first = x->lease_count;
    if ((level->missing_vt && repair_vt(s, level, now, err) < 0) ||
        pick(s, x, want, level, count, now, err) < 0 ||
        take(s, x, first, &x->wants[want], now, err) < 0) {
        return -1;
    }
    return (int64_t)(x->lease_count - first);
}

/* *none_out: whoever asks the same finds nothing more to lease. */
static int lease_for(struct sqlite_store *s, struct pgqrs_exchange *x, size_t want,
                     const struct moment *now, bool *none_out, struct pgqrs_error *err)
{
    const struct pgqrs_want *w = &x->wants[want];
    struct level level = {.queue_id = w->queue_id,
                          .worker_id = w->worker_id,
                          .priority = PGQRS_SQLITE_ABOVE_EVERY_PRIORITY};
    uint32_t left = w->count;
    int rc = 0;
    while (left > 0 && (rc = next_level(s, &level, now, err)) > 0) {
        if (!level.due) {
            note_due(x, level.first_us);
            continue;
        }
        int64_t leased = lease_level(s, x, want, &level, left, now, err);
        if (leased < 0) {
            return -1;
        }
        left -= (uint32_t)leased;
        if (left > 0 && note_later(s, x, &level, now, err) < 0) {
            return -1;
        }
    }
    *none_out = level.none;
    return rc < 0 ? -1 : 0;
}

static bool asks_the_same(const struct pgqrs_want *a, const struct pgqrs_want *b)
{
    return a->queue_id == b->queue_id && a->max_attempts == b->max_attempts;
}

static void place_payloads(struct pgqrs_exchange *x)
{
    for (size_t i = 0; i < x->lease_count; i++) {
        struct pgqrs_bytes *payload = &x->leases[i].payload;
        payload->data = (const char *)x->payloads.data + (size_t)payload->data;
    }
}

int pgqrs_sqlite_lease(struct sqlite_store *s, struct pgqrs_exchange *x, const struct moment *now,
                       struct pgqrs_error *err)
{
    bool none = false;
    for (size_t i = 0; i < x->want_count; i++) {
        none = none && asks_the_same(&x->wants[i], &x->wants[i - 1]);
        if (!none && lease_for(s, x, i, now, &none, err) < 0) {
            return -1;
        }
    }
    place_payloads(x);
    return 0;
}

int pgqrs_sqlite_lease_one(struct sqlite_store *s, const struct pgqrs_message_claim *claim,
                           struct pgqrs_exchange *x, const struct moment *now,
                           struct pgqrs_error *err)
{
    const struct pgqrs_want want = {.worker_id = claim->worker_id, .lease_ms = claim->lease_ms};
    struct pgqrs_lease lease = {.waited_us = -1};
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_CLAIM_PICK, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, claim->message_id);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc <= 0) {
        return -1; /* it was there in this transaction */
    }
    lease.priority = sqlite3_column_int(stmt, 5);
    rc = grow(x, err) < 0 ? -1 : read_lease(stmt, x, &lease, err);
    (void)sqlite3_reset(stmt); /* the row was read */
    if (rc < 0) {
        return -1;
    }
    x->leases[x->lease_count++] = lease;
    if (take(s, x, 0, &want, now, err) < 0) {
        return -1;
    }
    place_payloads(x);
    return 0;
}

/* ---- looking only ---- */

static int level_leasable(struct sqlite_store *s, const struct pgqrs_want *w,
                          const struct level *level, const struct moment *now,
                          struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = of_level(s, STMT_LEASABLE, level, now, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 6, w->max_attempts);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc > 0) {
        (void)sqlite3_reset(stmt); /* the row is enough */
    }
    return rc;
}

/* 1 when there is something to lease, 0 or -1; *none_out as with lease_for. */
static int peek_for(struct sqlite_store *s, struct pgqrs_exchange *x, const struct pgqrs_want *w,
                    const struct moment *now, bool *none_out, struct pgqrs_error *err)
{
    struct level level = {.queue_id = w->queue_id,
                          .worker_id = w->worker_id,
                          .priority = PGQRS_SQLITE_ABOVE_EVERY_PRIORITY};
    int rc = 0;
    while (w->count > 0 && (rc = next_level(s, &level, now, err)) > 0) {
        if (!level.due) {
            note_due(x, level.first_us);
            continue;
        }
        rc = level.missing_vt ? 1 : level_leasable(s, w, &level, now, err);
        if (rc != 0) {
            return rc;
        }
        if (note_later(s, x, &level, now, err) < 0) {
            return -1;
        }
    }
    *none_out = level.none;
    return rc;
}

int pgqrs_sqlite_peek(struct sqlite_store *s, struct pgqrs_exchange *x, const struct moment *now,
                      struct pgqrs_error *err)
{
    int rc = 0;
    bool none = false;
    for (size_t i = 0; rc == 0 && i < x->want_count; i++) {
        none = none && asks_the_same(&x->wants[i], &x->wants[i - 1]);
        rc = none ? 0 : peek_for(s, x, &x->wants[i], now, &none, err);
    }
    return rc;
}
