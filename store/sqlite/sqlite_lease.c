/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <stdlib.h>
#include <string.h>

#define ABOVE_EVERY_PRIORITY ((int64_t)INT32_MAX + 1)

/* A queue's rows of one priority that are neither leased nor archived. */
struct level {
    int64_t queue_id;
    int64_t priority;
    bool due;         /* the first of them is due */
    bool missing_vt;  /* a row has none: it counts as due, as it does for pgqrs */
    int64_t first_us; /* when the first of them is due, unless missing_vt */
};

/* The next level below level->priority. 1, 0 when there is none, or -1. */
static int next_level(struct sqlite_store *s, struct level *level, const struct moment *now,
                      struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_LEVEL, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, level->queue_id);
    pgqrs_sqlite_bind_int(stmt, 2, level->priority);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc <= 0) {
        return rc;
    }
    level->priority = sqlite3_column_int64(stmt, 0);
    struct pgqrs_bytes vt = pgqrs_sqlite_bytes(stmt, 1);
    level->missing_vt = vt.data == NULL;
    level->due = level->missing_vt || strcmp(vt.data, now->text) <= 0;
    if (!level->due && pgqrs_sqlite_time(stmt, 1, &level->first_us, err) < 0) {
        rc = -1;
    }
    (void)sqlite3_reset(stmt); /* the row was read */
    return rc;
}

static void note_due(struct pgqrs_exchange *x, int64_t due_us)
{
    if (x->next_due_us == 0 || due_us < x->next_due_us) {
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
        rc = pgqrs_sqlite_time(stmt, 0, &due_us, err);
        if (rc == 0) {
            note_due(x, due_us);
        }
        (void)sqlite3_reset(stmt); /* the row was read */
    }
    return rc;
}

/* ---- leasing ---- */

static int grow(struct sqlite_store *s, struct pgqrs_exchange *x, size_t count,
                struct pgqrs_error *err)
{
    if (s->ranked_cap < count) {
        struct ranked_lease *ranked = realloc(s->ranked, count * 2 * sizeof *ranked);
        if (ranked == NULL) {
            return pgqrs_error_memory(err);
        }
        s->ranked = ranked;
        s->ranked_cap = count * 2;
    }
    if (x->lease_cap - x->lease_count < count) {
        size_t cap = (x->lease_count + count) * 2;
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
static int read_lease(sqlite3_stmt *row, struct pgqrs_exchange *x, struct ranked_lease *ranked,
                      struct pgqrs_error *err)
{
    struct pgqrs_lease *lease = &ranked->lease;
    lease->message_id = sqlite3_column_int64(row, 0);
    lease->attempt = (uint32_t)sqlite3_column_int64(row, 1);
    struct pgqrs_bytes payload = pgqrs_sqlite_bytes(row, 4);
    lease->payload = (struct pgqrs_bytes){.data = (const char *)x->payloads.len, /* see above */
                                          .len = payload.len};
    pgqrs_buf_put(&x->payloads, payload.data, payload.len);
    pgqrs_buf_put_u8(&x->payloads, 0);
    if (x->payloads.failed) {
        return pgqrs_error_memory(err);
    }
    if (pgqrs_sqlite_time(row, 2, &ranked->due_us, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_time(row, 3, &lease->enqueued_at_us, err);
}

static int by_due_and_id(const void *a, const void *b)
{
    const struct ranked_lease *x = a;
    const struct ranked_lease *y = b;
    if (x->due_us != y->due_us) {
        return x->due_us < y->due_us ? -1 : 1;
    }
    return x->lease.message_id < y->lease.message_id ? -1 : 1;
}

/* RETURNING knows no order, so it is made here. */
static void append_ranked(struct sqlite_store *s, struct pgqrs_exchange *x, size_t count)
{
    qsort(s->ranked, count, sizeof *s->ranked, by_due_and_id);
    for (size_t i = 0; i < count; i++) {
        x->leases[x->lease_count++] = s->ranked[i].lease;
    }
}

/* Leases up to count rows of a level for a want. Returns how many. */
static int64_t lease_level(struct sqlite_store *s, struct pgqrs_exchange *x, size_t want,
                           const struct level *level, uint32_t count, const struct moment *now,
                           struct pgqrs_error *err)
{
    const struct pgqrs_want *w = &x->wants[want];
    const struct moment end = pgqrs_sqlite_moment(pgqrs_sqlite_after(now->us, w->lease_ms));
    sqlite3_stmt *stmt = of_level(s, STMT_LEASE, level, now, err);
    if (stmt == NULL || grow(s, x, count, err) < 0) {
        return -1;
    }
    pgqrs_sqlite_bind_text(stmt, 4, end.text);
    pgqrs_sqlite_bind_int(stmt, 5, w->worker_id);
    pgqrs_sqlite_bind_int(stmt, 6, w->max_attempts);
    pgqrs_sqlite_bind_int(stmt, 7, count);
    size_t n = 0;
    int rc;
    while ((rc = pgqrs_sqlite_step(s, stmt, err)) > 0) {
        struct ranked_lease *ranked = &s->ranked[n++];
        ranked->lease = (struct pgqrs_lease){.want = want, .priority = (int32_t)level->priority};
        if (read_lease(stmt, x, ranked, err) < 0) {
            (void)sqlite3_reset(stmt); /* the failure is known */
            return -1;
        }
    }
    if (rc < 0) {
        /* Somebody has deleted the worker's row: it gets nothing, the others must not suffer. */
        return sqlite3_extended_errcode(s->db) == SQLITE_CONSTRAINT_FOREIGNKEY ? 0 : -1;
    }
    append_ranked(s, x, n);
    return (int64_t)n;
}

static int repair_vt(struct sqlite_store *s, const struct level *level, const struct moment *now,
                     struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = of_level(s, STMT_REPAIR_VT, level, now, err);
    return stmt == NULL || pgqrs_sqlite_run(s, stmt, err) < 0 ? -1 : 0;
}

static int lease_for(struct sqlite_store *s, struct pgqrs_exchange *x, size_t want,
                     const struct moment *now, struct pgqrs_error *err)
{
    const struct pgqrs_want *w = &x->wants[want];
    struct level level = {.queue_id = w->queue_id, .priority = ABOVE_EVERY_PRIORITY};
    uint32_t left = w->count;
    while (left > 0) {
        int rc = next_level(s, &level, now, err);
        if (rc <= 0) {
            return rc;
        }
        if (!level.due) {
            note_due(x, level.first_us);
            continue;
        }
        if (level.missing_vt && repair_vt(s, &level, now, err) < 0) {
            return -1;
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
    return 0;
}

int pgqrs_sqlite_lease(struct sqlite_store *s, struct pgqrs_exchange *x, const struct moment *now,
                       struct pgqrs_error *err)
{
    for (size_t i = 0; i < x->want_count; i++) {
        if (lease_for(s, x, i, now, err) < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < x->lease_count; i++) {
        struct pgqrs_bytes *payload = &x->leases[i].payload;
        payload->data = (const char *)x->payloads.data + (size_t)payload->data;
    }
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

static int peek_for(struct sqlite_store *s, struct pgqrs_exchange *x, const struct pgqrs_want *w,
                    const struct moment *now, struct pgqrs_error *err)
{
    struct level level = {.queue_id = w->queue_id, .priority = ABOVE_EVERY_PRIORITY};
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
    return rc;
}

int pgqrs_sqlite_peek(struct sqlite_store *s, struct pgqrs_exchange *x, const struct moment *now,
                      struct pgqrs_error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < x->want_count; i++) {
        rc = peek_for(s, x, &x->wants[i], now, err);
    }
    return rc;
}
