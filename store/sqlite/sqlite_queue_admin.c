/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <stdio.h>

/* What an operator does to a queue. */

static int no_queue(int64_t queue_id, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "queue %lld does not exist",
                           (long long)queue_id);
}

int pgqrs_sqlite_queue_pause(struct pgqrs_store *store, int64_t queue_id, bool paused,
                             struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_QUEUE_PAUSE, err);
    int64_t changed = -1;
    if (stmt != NULL) {
        pgqrs_sqlite_bind_int(stmt, 1, queue_id);
        pgqrs_sqlite_bind_text(stmt, 2, paused ? now.text : NULL);
        changed = pgqrs_sqlite_run(s, stmt, err);
        changed = changed == 0 ? no_queue(queue_id, err) : changed;
    }
    return pgqrs_sqlite_end(s, changed, err) < 0 ? -1 : 0;
}

/* ---- deleting ---- */

static int check_way(struct sqlite_store *s, int64_t queue_id, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_QUEUE_IN_THE_WAY, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, queue_id);
    if (pgqrs_sqlite_step(s, stmt, err) < 0) {
        return -1;
    }
    char workers[60] = "";
    int64_t count = sqlite3_column_int64(stmt, 2);
    if (count > 0) {
        (void)snprintf(workers, sizeof workers, ", %lld worker%s not stopped", (long long)count,
                       count == 1 ? " that is" : "s that are");
    }
    char found[200];
    int len = snprintf(found, sizeof found, "%s%s%s%s%s",
                       sqlite3_column_int(stmt, 0) != 0 ? ", live messages" : "",
                       sqlite3_column_int(stmt, 1) != 0 ? ", archived messages" : "", workers,
                       sqlite3_column_int(stmt, 3) != 0 ? ", a workflow definition" : "",
                       sqlite3_column_int(stmt, 4) != 0 ? ", a schedule" : "");
    (void)sqlite3_reset(stmt); /* the row was read */
    if (len == 0) {
        return 0;
    }
    return pgqrs_error_set(err, PGQRS_ERR_CONFLICT, "queue %lld: found %s; expected none",
                           (long long)queue_id, found + 2);
}

/* The stopped workers of the queue: those that nothing names go, the others lose it. Who names them
 * takes a look at every message, but only when there are any. */
static int drop_workers(struct sqlite_store *s, int64_t queue_id, struct pgqrs_error *err)
{
    if (pgqrs_sqlite_run_about(s, STMT_QUEUE_WORKERS, queue_id, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_run_about(s, STMT_QUEUE_LEAVE, queue_id, err) < 0 ? -1 : 0;
}

static int64_t delete_queue(struct sqlite_store *s, int64_t queue_id, struct pgqrs_error *err)
{
    if (pgqrs_sqlite_need_queue(s, queue_id, err) < 0 || check_way(s, queue_id, err) < 0 ||
        drop_workers(s, queue_id, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_run_about(s, STMT_QUEUE_DELETE, queue_id, err);
}

int pgqrs_sqlite_queue_delete(struct pgqrs_store *store, int64_t queue_id, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_end(s, delete_queue(s, queue_id, err), err) < 0 ? -1 : 0;
}

/* ---- purging ---- */

/* In the order of a message's life. */
static const struct {
    unsigned bit;
    enum sqlite_stmt_id pick;
} purges[] = {
    {PGQRS_PURGE_PENDING, STMT_PURGE_PENDING},
    {PGQRS_PURGE_LEASED, STMT_PURGE_LEASED},
    {PGQRS_PURGE_ARCHIVED, STMT_PURGE_ARCHIVED},
};

static int64_t purge_some(struct sqlite_store *s, enum sqlite_stmt_id pick, int64_t queue_id,
                          int64_t limit, struct pgqrs_error *err)
{
    struct sqlite_ids ids = {0};
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, pick, err);
    int64_t gone = -1;
    if (stmt != NULL) {
        pgqrs_sqlite_bind_int(stmt, 1, queue_id);
        pgqrs_sqlite_bind_int(stmt, 2, limit);
        gone = pgqrs_sqlite_collect(s, stmt, &ids, err);
    }
    if (gone >= 0) {
        gone = pgqrs_sqlite_delete_messages(s, &ids, err);
    }
    pgqrs_sqlite_ids_fini(&ids);
    return gone;
}

static int64_t purge(struct sqlite_store *s, int64_t queue_id, unsigned what, uint32_t limit,
                     struct pgqrs_error *err)
{
    int64_t gone = 0;
    for (size_t i = 0; i < sizeof purges / sizeof *purges && gone < limit; i++) {
        if ((what & purges[i].bit) == 0) {
            continue;
        }
        int64_t more = purge_some(s, purges[i].pick, queue_id, limit - gone, err);
        if (more < 0) {
            return -1;
        }
        gone += more;
    }
    return gone;
}

int64_t pgqrs_sqlite_queue_purge(struct pgqrs_store *store, int64_t queue_id, unsigned what,
                                 uint32_t limit, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_end(s, purge(s, queue_id, what, limit, err), err);
}
