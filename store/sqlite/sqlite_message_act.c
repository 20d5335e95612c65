/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_flow.h"

#include <stdlib.h>

/* ---- ids, collected ---- */

int pgqrs_sqlite_ids_add(struct sqlite_ids *ids, int64_t id, struct pgqrs_error *err)
{
    if (ids->count == ids->cap) {
        size_t cap = ids->cap == 0 ? 64 : ids->cap * 2;
        int64_t *items = realloc(ids->items, cap * sizeof *items);
        if (items == NULL) {
            return pgqrs_error_memory(err);
        }
        ids->items = items;
        ids->cap = cap;
    }
    ids->items[ids->count++] = id;
    return 0;
}

void pgqrs_sqlite_ids_fini(struct sqlite_ids *ids)
{
    free(ids->items);
    *ids = (struct sqlite_ids){0};
}

int pgqrs_sqlite_collect(struct sqlite_store *s, sqlite3_stmt *stmt, struct sqlite_ids *ids,
                         struct pgqrs_error *err)
{
    int rc;
    while ((rc = pgqrs_sqlite_step(s, stmt, err)) > 0) {
        if (pgqrs_sqlite_ids_add(ids, sqlite3_column_int64(stmt, 0), err) < 0) {
            (void)sqlite3_reset(stmt); /* the failure is known */
            return -1;
        }
    }
    return rc;
}

/* ---- deleting ---- */

/* No cascade does it: the steps of its workflow run, the run, then the message. */
int64_t pgqrs_sqlite_delete_message(struct sqlite_store *s, int64_t id, struct pgqrs_error *err)
{
    if (pgqrs_sqlite_run_about(s, STMT_STEPS_DELETE, id, err) < 0 ||
        pgqrs_sqlite_run_about(s, STMT_RUN_DELETE, id, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_run_about(s, STMT_MESSAGE_DELETE, id, err);
}

int64_t pgqrs_sqlite_delete_messages(struct sqlite_store *s, const struct sqlite_ids *ids,
                                     struct pgqrs_error *err)
{
    int64_t gone = 0;
    for (size_t i = 0; i < ids->count; i++) {
        int64_t deleted = pgqrs_sqlite_delete_message(s, ids->items[i], err);
        if (deleted < 0) {
            return -1;
        }
        gone += deleted;
    }
    return gone;
}

/* ---- what an operator does to messages ---- */

/* What it is, or -1; and whether a worker of a pgqrsd has it. */
static int look(struct sqlite_store *s, int64_t id, bool *ours_out, struct pgqrs_error *err)
{
    *ours_out = false;
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_ACT_LOOK, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, id);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc <= 0) {
        return rc < 0 ? -1 : PGQRS_ACTED_NOT_FOUND;
    }
    int is = sqlite3_column_int(stmt, 0) != 0   ? PGQRS_ACTED_ARCHIVED
             : sqlite3_column_int(stmt, 1) != 0 ? PGQRS_ACTED_LEASED
                                                : PGQRS_ACTED_WAITING;
    *ours_out = sqlite3_column_int(stmt, 2) != 0;
    (void)sqlite3_reset(stmt); /* the row was read */
    return is;
}

/* The failed run of a message that is replayed goes on: what had failed in it for good is due. */
static int go_on(struct sqlite_store *s, int64_t id, const char *now, struct pgqrs_error *err)
{
    int64_t runs = pgqrs_sqlite_run_at(s, STMT_REPLAY_RUN, id, now, err);
    if (runs <= 0) {
        return (int)runs;
    }
    return pgqrs_sqlite_run_at(s, STMT_REPLAY_STEPS, id, now, err) < 0 ? -1 : 0;
}

int64_t pgqrs_sqlite_replay(struct sqlite_store *s, int64_t id, const char *now,
                            struct pgqrs_error *err)
{
    if (pgqrs_sqlite_run_about(s, STMT_CANCEL_FORGET, id, err) < 0) {
        return -1;
    }
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_ACT_REPLAY, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, id);
    pgqrs_sqlite_bind_text(stmt, 2, now);
    int64_t replayed = pgqrs_sqlite_run(s, stmt, err);
    if (replayed > 0 && go_on(s, id, now, err) < 0) {
        return -1;
    }
    return replayed;
}

/* Changes nothing when the message is not in a state that allows it. */
static int64_t carry_out(struct sqlite_store *s, enum pgqrs_act act, int64_t id, const char *now,
                         struct pgqrs_error *err)
{
    static const enum sqlite_stmt_id stmts[PGQRS_ACT_COUNT] = {
        [PGQRS_ACT_CANCEL] = STMT_ACT_CANCEL,
        [PGQRS_ACT_FREE] = STMT_ACT_FREE,
    };
    if (act == PGQRS_ACT_DELETE) {
        return pgqrs_sqlite_delete_message(s, id, err);
    }
    if (act == PGQRS_ACT_REPLAY) {
        return pgqrs_sqlite_replay(s, id, now, err);
    }
    if (act == PGQRS_ACT_CANCEL && pgqrs_sqlite_run_about(s, STMT_RUN_FAILS_WAITING, id, err) < 0) {
        return -1;
    }
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, stmts[act], err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, id);
    pgqrs_sqlite_bind_text(stmt, 2, now);
    return pgqrs_sqlite_run(s, stmt, err);
}

static int64_t ask(struct sqlite_store *s, int64_t id, const char *now, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_CANCEL_ASK, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, id);
    pgqrs_sqlite_bind_text(stmt, 2, now);
    return pgqrs_sqlite_run(s, stmt, err) < 0 ? -1 : 0;
}

static int64_t act_on(struct sqlite_store *s, enum pgqrs_act act, int64_t id, const char *now,
                      enum pgqrs_acted *acted_out, struct pgqrs_error *err)
{
    bool ours;
    int is = look(s, id, &ours, err);
    if (is < 0) {
        return -1;
    }
    *acted_out = (enum pgqrs_acted)is;
    if (act == PGQRS_ACT_CANCEL && is == PGQRS_ACTED_LEASED && ours) {
        *acted_out = PGQRS_ACTED_ASKED;
        return ask(s, id, now, err);
    }
    bool may = act == PGQRS_ACT_CANCEL   ? is == PGQRS_ACTED_WAITING
               : act == PGQRS_ACT_DELETE ? is == PGQRS_ACTED_WAITING || is == PGQRS_ACTED_ARCHIVED
               : act == PGQRS_ACT_FREE   ? is == PGQRS_ACTED_LEASED
                                         : is == PGQRS_ACTED_ARCHIVED;
    int64_t changed = may ? carry_out(s, act, id, now, err) : 0;
    if (changed >= 0 && may) {
        *acted_out = changed > 0 ? PGQRS_ACTED_YES : PGQRS_ACTED_KEY;
    }
    return changed;
}

int64_t pgqrs_sqlite_message_act(struct pgqrs_store *store, enum pgqrs_act act, const int64_t *ids,
                                 size_t count, enum pgqrs_acted *acted_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    int64_t acted = 0;
    for (size_t i = 0; acted >= 0 && i < count; i++) {
        int64_t changed = act_on(s, act, ids[i], now.text, &acted_out[i], err);
        acted = changed < 0 ? -1 : acted + changed;
    }
    return pgqrs_sqlite_end(s, acted, err);
}
