/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

/* ---- enqueue ---- */

static struct moment due_of(const struct pgqrs_enqueue *item, const struct moment *now)
{
    if (item->at_us > 0) {
        return pgqrs_sqlite_moment(item->at_us);
    }
    return item->delay_ms > 0 ? pgqrs_sqlite_moment(pgqrs_sqlite_after(now->us, item->delay_ms))
                              : *now;
}

int64_t pgqrs_sqlite_key_holder(struct sqlite_store *s, int64_t queue_id, const char *key,
                                struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_KEY_HOLDER, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, queue_id);
    pgqrs_sqlite_bind_text(stmt, 2, key);
    int64_t id = pgqrs_sqlite_step(s, stmt, err);
    if (id > 0) {
        id = sqlite3_column_int64(stmt, 0);
        (void)sqlite3_reset(stmt); /* the row was read */
    }
    return id;
}

int64_t pgqrs_sqlite_insert(struct sqlite_store *s, int64_t queue_id,
                            const struct pgqrs_enqueue *item, const struct moment *now,
                            bool *existed_out, struct pgqrs_error *err)
{
    int64_t holder =
        item->unique_key == NULL ? 0 : pgqrs_sqlite_key_holder(s, queue_id, item->unique_key, err);
    *existed_out = holder > 0;
    if (holder != 0) {
        return holder;
    }
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_ENQUEUE, err);
    if (stmt == NULL) {
        return -1;
    }
    const struct moment due = due_of(item, now);
    pgqrs_sqlite_bind_int(stmt, 1, queue_id);
    pgqrs_sqlite_bind_bytes(stmt, 2, item->payload);
    pgqrs_sqlite_bind_text(stmt, 3, due.text);
    pgqrs_sqlite_bind_text(stmt, 4, now->text);
    pgqrs_sqlite_bind_int(stmt, 5, item->priority);
    pgqrs_sqlite_bind_id(stmt, 6, item->producer_worker_id);
    pgqrs_sqlite_bind_text(stmt, 7, item->unique_key);
    return pgqrs_sqlite_run(s, stmt, err) < 0 ? -1 : sqlite3_last_insert_rowid(s->db);
}

static int check_producers(struct sqlite_store *s, const struct pgqrs_enqueue *items, size_t count,
                           struct pgqrs_error *err)
{
    int64_t checked = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t producer = items[i].producer_worker_id;
        if (producer != checked && pgqrs_sqlite_need_worker(s, producer, err) < 0) {
            return -1;
        }
        checked = producer;
    }
    return 0;
}

int pgqrs_sqlite_enqueue(struct pgqrs_store *store, int64_t queue_id,
                         const struct pgqrs_enqueue *items, size_t count, int64_t *ids_out,
                         bool *existed_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    int64_t rc =
        pgqrs_sqlite_need_queue(s, queue_id, err) < 0 ? -1 : check_producers(s, items, count, err);
    for (size_t i = 0; rc >= 0 && i < count; i++) {
        bool existed = false;
        rc = pgqrs_sqlite_insert(s, queue_id, &items[i], &now, &existed, err);
        ids_out[i] = rc;
        if (existed_out != NULL) {
            existed_out[i] = existed;
        }
    }
    return pgqrs_sqlite_end(s, rc, err) < 0 ? -1 : 0;
}

/* ---- reading ---- */

static enum pgqrs_message_state state_of(const struct pgqrs_message *m, int64_t now_us)
{
    if (m->archived_at_us != 0) {
        return PGQRS_STATE_ARCHIVED;
    }
    if (m->consumer_worker_id != 0) {
        return PGQRS_STATE_LEASED;
    }
    return m->vt_us <= now_us ? PGQRS_STATE_READY : PGQRS_STATE_DELAYED;
}

int pgqrs_sqlite_read_message(sqlite3_stmt *row, int64_t now_us, struct pgqrs_message *m,
                              struct pgqrs_error *err)
{
    m->id = sqlite3_column_int64(row, 0);
    m->queue_id = sqlite3_column_int64(row, 1);
    pgqrs_sqlite_time(row, 2, &m->enqueued_at_us);
    pgqrs_sqlite_time(row, 3, &m->vt_us);
    pgqrs_sqlite_time(row, 4, &m->dequeued_at_us);
    pgqrs_sqlite_time(row, 5, &m->archived_at_us);
    m->consumer_worker_id = sqlite3_column_int64(row, 6);
    m->read_ct = sqlite3_column_int(row, 7);
    m->priority = sqlite3_column_int(row, 8);
    m->crash_ct = sqlite3_column_int(row, 9);
    m->state = state_of(m, now_us);
    if (pgqrs_sqlite_dup(row, 10, &m->payload, err) < 0 ||
        pgqrs_sqlite_dup(row, 11, &m->outcome, err) < 0 ||
        pgqrs_sqlite_dup(row, 12, &m->result, err) < 0) {
        return -1;
    }
    m->producer_worker_id = sqlite3_column_int64(row, 14);
    if (pgqrs_sqlite_dup(row, 13, &m->error, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_dup(row, 15, &m->unique_key, err);
}

int pgqrs_sqlite_message_get(struct pgqrs_store *store, int64_t id,
                             struct pgqrs_message *message_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    sqlite3_stmt *stmt =
        pgqrs_sqlite_check_file(s, err) < 0 ? NULL : pgqrs_sqlite_stmt(s, STMT_MESSAGE_GET, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, id);
    int rc = pgqrs_sqlite_step(s, stmt, err);
    if (rc == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "message %lld does not exist",
                               (long long)id);
    }
    if (rc < 0) {
        return -1;
    }
    struct pgqrs_message message = {0};
    rc = pgqrs_sqlite_read_message(stmt, pgqrs_wall_us(), &message, err);
    (void)sqlite3_reset(stmt); /* the row was read */
    if (rc < 0) {
        pgqrs_message_fini(&message);
        return -1;
    }
    *message_out = message;
    return 0;
}
