/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <stdio.h>
#include <string.h>

struct pgqrs_bytes pgqrs_sqlite_until_zero(struct pgqrs_bytes text)
{
    const char *zero = text.len == 0 ? NULL : memchr(text.data, 0, text.len);
    text.len = zero == NULL ? text.len : (size_t)(zero - text.data);
    text.data = text.len == 0 ? NULL : text.data;
    return text;
}

/* The lease and the failure: the parameters that FENCE and FAILURE name. */
static sqlite3_stmt *fenced(struct sqlite_store *s, enum sqlite_stmt_id id,
                            const struct pgqrs_settlement *item, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, id, err);
    if (stmt != NULL) {
        pgqrs_sqlite_bind_int(stmt, 1, item->message_id);
        pgqrs_sqlite_bind_int(stmt, 2, item->worker_id);
        pgqrs_sqlite_bind_int(stmt, 3, item->attempt);
        if (id == STMT_SETTLE_END || id == STMT_SETTLE_RELEASE || id == STMT_RUN_FAILS) {
            pgqrs_sqlite_bind_bytes(stmt, 4, pgqrs_sqlite_until_zero(item->error));
        }
        if (id == STMT_SETTLE_END || id == STMT_SETTLE_RELEASE) {
            pgqrs_sqlite_bind_int(stmt, 5, item->crashed ? 1 : 0);
        }
    }
    return stmt;
}

/* A run that the message may have gets the error that it ends with. */
static int tell_run(struct sqlite_store *s, const struct pgqrs_settlement *item,
                    struct pgqrs_error *err)
{
    if (item->error.len == 0 && item->how != PGQRS_SETTLE_DEAD &&
        item->how != PGQRS_SETTLE_CANCEL) {
        return 0;
    }
    sqlite3_stmt *stmt = fenced(s, STMT_RUN_FAILS, item, err);
    return stmt == NULL || pgqrs_sqlite_run(s, stmt, err) < 0 ? -1 : 0;
}

static int64_t end_message(struct sqlite_store *s, const struct pgqrs_settlement *item,
                           const char *outcome, const struct moment *now, struct pgqrs_error *err)
{
    if (tell_run(s, item, err) < 0) {
        return -1;
    }
    sqlite3_stmt *stmt = fenced(s, STMT_SETTLE_END, item, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_text(stmt, 6, now->text);
    pgqrs_sqlite_bind_text(stmt, 7, outcome);
    pgqrs_sqlite_bind_bytes(stmt, 8, pgqrs_sqlite_until_zero(item->result));
    return pgqrs_sqlite_run(s, stmt, err);
}

/* due null: as it was before the lease. */
static int64_t release_message(struct sqlite_store *s, const struct pgqrs_settlement *item,
                               const char *due, bool spent, const struct moment *now,
                               struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = fenced(s, STMT_SETTLE_RELEASE, item, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_text(stmt, 6, due);
    pgqrs_sqlite_bind_text(stmt, 7, now->text);
    pgqrs_sqlite_bind_int(stmt, 8, spent ? 0 : 1);
    return pgqrs_sqlite_run(s, stmt, err);
}

static int64_t delete_message(struct sqlite_store *s, const struct pgqrs_settlement *item,
                              const struct moment *now, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = fenced(s, STMT_SETTLE_DELETE, item, err);
    int64_t changed = stmt == NULL ? -1 : pgqrs_sqlite_run(s, stmt, err);
    /* A row to which a workflow run refers stays, as an archived one. */
    return changed == 0 ? end_message(s, item, "done", now, err) : changed;
}

static int64_t apply(struct sqlite_store *s, const struct pgqrs_settlement *item,
                     const struct moment *now, struct pgqrs_error *err)
{
    struct moment due;
    switch (item->how) {
    case PGQRS_SETTLE_ARCHIVE:
        return end_message(s, item, "done", now, err);
    case PGQRS_SETTLE_DELETE:
        return delete_message(s, item, now, err);
    case PGQRS_SETTLE_DEAD:
        return end_message(s, item, "failed", now, err);
    case PGQRS_SETTLE_CANCEL:
        return end_message(s, item, "cancelled", now, err);
    case PGQRS_SETTLE_RETRY:
    case PGQRS_SETTLE_SNOOZE:
        due = pgqrs_sqlite_moment(pgqrs_sqlite_after(now->us, item->delay_ms));
        return release_message(s, item, due.text, item->how == PGQRS_SETTLE_RETRY, now, err);
    case PGQRS_SETTLE_RETURN:
        return release_message(s, item, NULL, false, now, err);
    case PGQRS_SETTLE_NONE:
    case PGQRS_SETTLE_COUNT:
        break;
    }
    return pgqrs_error_set(err, PGQRS_ERR_INVALID, "settlement of kind %d", (int)item->how);
}

/* Nothing changed: was it this that had been done before, or is the lease lost? */
static int look(struct sqlite_store *s, struct pgqrs_settlement *item, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = fenced(s, STMT_SETTLE_LOOK, item, err);
    int rc = stmt == NULL ? -1 : pgqrs_sqlite_step(s, stmt, err);
    if (rc < 0) {
        return -1;
    }
    bool before = item->how == PGQRS_SETTLE_DELETE; /* the row is gone */
    if (rc > 0) {
        before = sqlite3_column_int(stmt, 0) != 0;
        (void)sqlite3_reset(stmt); /* the row was read */
    }
    item->settled_out = before ? PGQRS_SETTLED_BEFORE : PGQRS_SETTLED_REFUSED;
    return 0;
}

/* ---- follow-ups ---- */

int pgqrs_sqlite_check_follow_ups(struct sqlite_store *s, const struct pgqrs_follow_up *follow_ups,
                                  size_t count, char *trouble, size_t size, struct pgqrs_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct pgqrs_follow_up *f = &follow_ups[i];
        struct pgqrs_error why;
        int64_t id;
        if (pgqrs_store_check_item(&f->item, i, &why) == 0 &&
            pgqrs_sqlite_queue_find(&s->base, f->queue, &id, &why) == 0 &&
            pgqrs_sqlite_need_worker(s, f->item.producer_worker_id, &why) == 0) {
            continue;
        }
        if (why.code != PGQRS_ERR_INVALID && why.code != PGQRS_ERR_NOT_FOUND) {
            return pgqrs_error_set(err, why.code, "%s", why.text);
        }
        (void)snprintf(trouble, size, "enqueue of a follow-up: %s", why.text);
        return 0;
    }
    return 0;
}

int pgqrs_sqlite_add_follow_ups(struct sqlite_store *s, const struct pgqrs_follow_up *follow_ups,
                                size_t count, const struct moment *now, int64_t *first_out,
                                struct pgqrs_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct pgqrs_follow_up *f = &follow_ups[i];
        int64_t queue_id;
        bool existed;
        int64_t id = pgqrs_sqlite_queue_find(&s->base, f->queue, &queue_id, err) < 0
                         ? -1
                         : pgqrs_sqlite_insert(s, queue_id, &f->item, now, &existed, err);
        if (id < 0) {
            return -1;
        }
        *first_out = i == 0 ? id : *first_out;
    }
    return 0;
}

static int64_t apply_with_follow_ups(struct sqlite_store *s, const struct pgqrs_settlement *item,
                                     const struct moment *now, struct pgqrs_error *err)
{
    char trouble[sizeof err->text] = "";
    int64_t first;
    if (pgqrs_sqlite_check_follow_ups(s, item->follow_ups, item->follow_up_count, trouble,
                                      sizeof trouble, err) < 0) {
        return -1;
    }
    if (trouble[0] != 0) {
        struct pgqrs_settlement dead = *item;
        dead.how = PGQRS_SETTLE_DEAD;
        dead.error = pgqrs_bytes_from(trouble);
        dead.result = (struct pgqrs_bytes){0};
        return apply(s, &dead, now, err);
    }
    int64_t changed = apply(s, item, now, err);
    if (changed > 0 && pgqrs_sqlite_add_follow_ups(s, item->follow_ups, item->follow_up_count, now,
                                                   &first, err) < 0) {
        return -1;
    }
    return changed;
}

int pgqrs_sqlite_settle(struct sqlite_store *s, struct pgqrs_settlement *item,
                        const struct moment *now, struct pgqrs_error *err)
{
    int64_t changed = item->follow_up_count == 0 ? apply(s, item, now, err)
                                                 : apply_with_follow_ups(s, item, now, err);
    if (changed < 0) {
        return -1;
    }
    if (changed == 0) {
        return look(s, item, err);
    }
    item->settled_out = PGQRS_SETTLED_YES;
    return 0;
}

int64_t pgqrs_sqlite_give_back(struct sqlite_store *s, const struct pgqrs_lease_ref *lease,
                               const struct moment *now, struct pgqrs_error *err)
{
    const struct pgqrs_settlement item = {
        .message_id = lease->message_id, .worker_id = lease->worker_id, .attempt = lease->attempt};
    return release_message(s, &item, NULL, false, now, err);
}
