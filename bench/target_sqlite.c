/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/target.h"

static void sql_check(sqlite3 *db, int rc)
{
    if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW) {
        bench_fail("sqlite: %s", sqlite3_errmsg(db));
    }
}

static sqlite3 *connect(const struct target *t)
{
    sqlite3 *db = NULL;
    sql_check(db, sqlite3_open(t->scratch.db, &db));
    (void)sqlite3_busy_timeout(db, 5000);
    sql_check(
        db, sqlite3_exec(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL", NULL, NULL, NULL));
    return db;
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    sql_check(db, sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL));
    return stmt;
}

static void step_done(sqlite3 *db, sqlite3_stmt *stmt)
{
    sql_check(db, sqlite3_step(stmt));
    sql_check(db, sqlite3_reset(stmt));
}

static void reset(struct target *t)
{
    char wal[128];
    struct pgqrs_error err;
    (void)unlink(t->scratch.db);
    (void)snprintf(wal, sizeof wal, "%s-wal", t->scratch.db);
    (void)unlink(wal);
    (void)snprintf(wal, sizeof wal, "%s-shm", t->scratch.db);
    (void)unlink(wal);
    struct pgqrs_store *store = bench_store(t);
    bench_check(pgqrs_store_queue_create(store, "work", &t->queue, &err), &err);
    pgqrs_store_close(&store);
}

static void destroy(struct target *t)
{
    scratch_remove(&t->scratch);
    free(t);
}

static void add(const struct target *t, int64_t count, const char *vt, const char *archived)
{
    char sql[600];
    sqlite3 *db = connect(t);
    (void)snprintf(sql, sizeof sql,
                   "PRAGMA synchronous=OFF; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1"
                   " FROM n WHERE i < %lld) INSERT INTO pgqrs_messages (queue_id, payload, vt,"
                   " enqueued_at, read_ct, archived_at) SELECT %lld, '" BENCH_PAYLOAD "',"
                   " %s, datetime('now', '-1 day'), 0, %s FROM n",
                   (long long)count, (long long)t->queue, vt, archived);
    sql_check(db, sqlite3_exec(db, sql, NULL, NULL, NULL));
    sql_check(db, sqlite3_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL));
    (void)sqlite3_close(db);
}

static void add_archived(struct target *t, int64_t count)
{
    add(t, count, "datetime('now', '-1 day')", "datetime('now', '-1 hour')");
}

static void add_delayed(struct target *t, int64_t count)
{
    add(t, count, "datetime('now', '+1 day')", "NULL");
}

static void settle(struct target *t)
{
    (void)t; /* who closes it last has done all there is */
}

static int64_t number(struct target *t, const char *sql)
{
    return db_number(&t->scratch, sql);
}

/* ---- the floor ---- */

struct floor {
    sqlite3 *db;
    sqlite3_stmt *begin, *commit, *pick, *take, *archive;
    int64_t *ids;
    int count;
};

static void floor_lease(struct floor *f, int batch)
{
    f->count = 0;
    sqlite3_bind_int(f->pick, 2, batch);
    while (sqlite3_step(f->pick) == SQLITE_ROW) {
        f->ids[f->count++] = sqlite3_column_int64(f->pick, 0);
        (void)sqlite3_column_text(f->pick, 1);
    }
    (void)sqlite3_reset(f->pick);
    for (int i = 0; i < f->count; i++) {
        sqlite3_bind_int64(f->take, 1, f->ids[i]);
        step_done(f->db, f->take);
    }
}

static double floor_drain(struct target *t, int batch, double seconds)
{
    struct floor f = {.db = connect(t), .ids = bench_alloc((size_t)batch, sizeof *f.ids)};
    f.begin = prepare(f.db, "BEGIN IMMEDIATE");
    f.commit = prepare(f.db, "COMMIT");
    f.pick = prepare(f.db, "SELECT id, payload FROM pgqrs_messages INDEXED BY pgqrsd_messages_lease"
                           " WHERE queue_id = ?1 AND pgqrsd_priority = 0 AND archived_at IS NULL"
                           " AND consumer_worker_id IS NULL AND vt <= strftime('%Y-%m-%d %H:%M:%f',"
                           " 'now') ORDER BY vt, id LIMIT ?2");
    f.take = prepare(f.db, "UPDATE pgqrs_messages SET vt = datetime('now', '+30 seconds'),"
                           " read_ct = read_ct + 1, dequeued_at = datetime('now'),"
                           " consumer_worker_id = 1 WHERE id = ?1");
    f.archive = prepare(f.db, "UPDATE pgqrs_messages SET archived_at = datetime('now')"
                              " WHERE id = ?1 AND consumer_worker_id = 1 AND read_ct = 1"
                              " AND archived_at IS NULL");
    sqlite3_bind_int64(f.pick, 1, t->queue);
    sql_check(f.db, sqlite3_exec(f.db,
                                 "PRAGMA foreign_keys=OFF; INSERT INTO pgqrs_workers (id,"
                                 " name) VALUES (1, 'floor')",
                                 NULL, NULL, NULL));
    int64_t jobs = 0;
    int64_t start = pgqrs_mono_us();
    int64_t now;
    do {
        step_done(f.db, f.begin);
        for (int i = 0; i < f.count; i++) {
            sqlite3_bind_int64(f.archive, 1, f.ids[i]);
            step_done(f.db, f.archive);
        }
        jobs += f.count;
        floor_lease(&f, batch);
        step_done(f.db, f.commit);
        now = pgqrs_mono_us();
    } while (f.count > 0 && (double)(now - start) < seconds * 1e6);
    sqlite3_stmt *all[] = {f.begin, f.commit, f.pick, f.take, f.archive};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        (void)sqlite3_finalize(all[i]);
    }
    (void)sqlite3_close(f.db);
    free(f.ids);
    return (double)jobs * 1e6 / (double)(now - start);
}

/* ---- pgqrs ---- */

struct pgqrs_run {
    struct target *t;
    int batch;
    int64_t until_us;
    pthread_mutex_t *mutex; /* pgqrs lets one writer of a process at the database */
    int64_t jobs;
    int64_t worker;
};

static int dequeue(const struct pgqrs_run *r, sqlite3 *db, sqlite3_stmt *stmt, int64_t *ids)
{
    int count = 0;
    (void)pthread_mutex_lock(r->mutex);
    sqlite3_bind_int64(stmt, 1, r->t->queue);
    sqlite3_bind_int(stmt, 2, r->batch);
    sqlite3_bind_int64(stmt, 3, r->worker);
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        ids[count++] = sqlite3_column_int64(stmt, 0);
    }
    sql_check(db, rc);
    (void)sqlite3_reset(stmt);
    (void)pthread_mutex_unlock(r->mutex);
    return count;
}

/* Text of an update of these ids. */
static sqlite3_stmt *archive_stmt(sqlite3 *db, const struct pgqrs_run *r, int count)
{
    char *sql = bench_alloc((size_t)count * 3 + 200, 1);
    (void)sprintf(sql,
                  "UPDATE pgqrs_messages SET archived_at = datetime('now') WHERE"
                  " consumer_worker_id = %lld AND archived_at IS NULL AND id IN (?",
                  (long long)r->worker);
    for (int i = 1; i < count; i++) {
        (void)strcat(sql, ",?");
    }
    (void)strcat(sql, ") RETURNING id");
    sqlite3_stmt *stmt = prepare(db, sql);
    free(sql);
    return stmt;
}

static void *consume(void *arg)
{
    struct pgqrs_run *r = arg;
    sqlite3 *db = connect(r->t);
    int64_t *ids = bench_alloc((size_t)r->batch, sizeof *ids);
    sqlite3_stmt *take = prepare(
        db, "UPDATE pgqrs_messages SET vt = datetime('now', '+30 seconds'), read_ct ="
            " read_ct + 1, dequeued_at = coalesce(dequeued_at, strftime('%Y-%m-%d"
            " %H:%M:%f000', 'now')), consumer_worker_id = ?3 WHERE id IN (SELECT id FROM"
            " pgqrs_messages WHERE queue_id = ?1 AND (vt IS NULL OR vt <= strftime('%Y-%m-%d"
            " %H:%M:%f000', 'now')) AND consumer_worker_id IS NULL AND archived_at IS NULL"
            " AND read_ct < 5 ORDER BY enqueued_at LIMIT ?2) RETURNING id, queue_id,"
            " payload, vt, enqueued_at, read_ct, dequeued_at, producer_worker_id,"
            " consumer_worker_id, archived_at");
    sqlite3_stmt *archive = NULL;
    int prepared = 0;
    (void)sqlite3_exec(db, "PRAGMA foreign_keys=ON", NULL, NULL, NULL); /* as pgqrs has it */
    int count;
    while (pgqrs_mono_us() < r->until_us && (count = dequeue(r, db, take, ids)) > 0) {
        (void)pthread_mutex_lock(r->mutex);
        if (count != prepared) {
            (void)sqlite3_finalize(archive);
            archive = archive_stmt(db, r, count);
            prepared = count;
        }
        for (int i = 0; i < count; i++) {
            sqlite3_bind_int64(archive, i + 1, ids[i]);
        }
        while (sqlite3_step(archive) == SQLITE_ROW) {
        }
        sql_check(db, sqlite3_reset(archive));
        (void)pthread_mutex_unlock(r->mutex);
        r->jobs += count;
    }
    (void)sqlite3_finalize(take);
    (void)sqlite3_finalize(archive);
    (void)sqlite3_close(db);
    free(ids);
    return NULL;
}

static double pgqrs_drain(struct target *t, int consumers, int batch, double seconds)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    struct pgqrs_run runs[16];
    pthread_t threads[16];
    sqlite3 *db = connect(t);
    int64_t start = pgqrs_mono_us();
    for (int i = 0; i < consumers; i++) {
        char sql[100];
        (void)snprintf(sql, sizeof sql, "INSERT INTO pgqrs_workers (id, name) VALUES (%d, 'w%d')",
                       i + 1, i);
        sql_check(db, sqlite3_exec(db, sql, NULL, NULL, NULL));
        runs[i] = (struct pgqrs_run){.t = t,
                                     .batch = batch,
                                     .until_us = start + (int64_t)(seconds * 1e6),
                                     .mutex = &mutex,
                                     .worker = i + 1};
    }
    (void)sqlite3_close(db);
    start = pgqrs_mono_us();
    for (int i = 0; i < consumers; i++) {
        if (pthread_create(&threads[i], NULL, consume, &runs[i]) != 0) {
            bench_fail("no thread");
        }
    }
    int64_t jobs = 0;
    for (int i = 0; i < consumers; i++) {
        (void)pthread_join(threads[i], NULL);
        jobs += runs[i].jobs;
    }
    return (double)jobs * 1e6 / (double)(pgqrs_mono_us() - start);
}

/* ---- enqueueing ---- */

static double floor_enqueue(struct target *t, int64_t count, int batch)
{
    sqlite3 *db = connect(t);
    sqlite3_stmt *insert =
        prepare(db, "INSERT INTO pgqrs_messages (queue_id, payload, vt, enqueued_at, read_ct)"
                    " VALUES (?1, '" BENCH_PAYLOAD "', '2026-01-01 00:00:00.000000',"
                    " '2026-01-01 00:00:00.000000', 0)");
    sqlite3_bind_int64(insert, 1, t->queue);
    int64_t start = pgqrs_mono_us();
    for (int64_t done = 0; done < count; done += batch) {
        sql_check(db, sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL));
        for (int i = 0; i < batch; i++) {
            step_done(db, insert);
        }
        sql_check(db, sqlite3_exec(db, "COMMIT", NULL, NULL, NULL));
    }
    double rate = (double)count * 1e6 / (double)(pgqrs_mono_us() - start);
    (void)sqlite3_finalize(insert);
    (void)sqlite3_close(db);
    return rate;
}

static void floor_steps(struct target *t, bool full, double *us, size_t count)
{
    sqlite3 *db = connect(t);
    sql_check(db, sqlite3_exec(db, full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL",
                               NULL, NULL, NULL));
    sqlite3_stmt *insert = prepare(
        db, "INSERT INTO pgqrs_workflow_steps (run_id, step_name, status, output, created_at,"
            " updated_at, started_at, completed_at) VALUES ((SELECT max(id) FROM"
            " pgqrs_workflow_runs), 'floor' || ?1, 'SUCCESS', 'true', '2026-01-01"
            " 00:00:00.000000', '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000',"
            " '2026-01-01 00:00:00.000000')");
    for (size_t i = 0; i < count; i++) {
        int64_t start = pgqrs_mono_us();
        sqlite3_bind_int64(insert, 1, (int64_t)i);
        step_done(db, insert);
        us[i] = (double)(pgqrs_mono_us() - start);
    }
    (void)sqlite3_finalize(insert);
    (void)sqlite3_close(db);
}

static void foreign_insert(struct target *t, const char *payload)
{
    if (t->state == NULL) {
        t->state = connect(t);
    }
    sqlite3 *db = t->state;
    if (payload == NULL) {
        (void)sqlite3_close(db);
        t->state = NULL;
        return;
    }
    sqlite3_stmt *insert = prepare(
        db, "INSERT INTO pgqrs_messages (queue_id, payload, vt, enqueued_at, read_ct) VALUES (?1,"
            " ?2, strftime('%Y-%m-%d %H:%M:%f000', 'now'), strftime('%Y-%m-%d %H:%M:%f000',"
            " 'now'), 0)");
    sqlite3_bind_int64(insert, 1, t->queue);
    sqlite3_bind_text(insert, 2, payload, -1, SQLITE_STATIC);
    step_done(db, insert);
    (void)sqlite3_finalize(insert);
}

struct target *target_sqlite(void)
{
    struct target *t = bench_alloc(1, sizeof *t);
    *t = (struct target){
        .name = "sqlite",
        .reset = reset,
        .destroy = destroy,
        .add_archived = add_archived,
        .add_delayed = add_delayed,
        .settle = settle,
        .number = number,
        .drained_sql =
            "select count(*) from (select 1 from pgqrs_messages where queue_id = (select id"
            " from pgqrs_queues where queue_name = 'work') and archived_at is null and"
            " consumer_worker_id is null and pgqrsd_priority = 0 and vt <="
            " strftime('%Y-%m-%d %H:%M:%f', 'now') limit 1)",
        .archived_sql = "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'",
        .elapsed_sql =
            "select (julianday(max(archived_at)) - julianday(min(dequeued_at))) * 86400e6"
            " from pgqrs_messages where pgqrsd_outcome = 'done'",
        .first_10000_sql =
            "select (julianday(max(archived_at)) - julianday(min(dequeued_at))) * 86400e6 from"
            " (select archived_at, dequeued_at from pgqrs_messages where pgqrsd_outcome = 'done'"
            " order by archived_at limit 10000)",
        .floor = floor_drain,
        .pgqrs = pgqrs_drain,
        .floor_enqueue = floor_enqueue,
        .floor_steps = floor_steps,
        .foreign_insert = foreign_insert,
    };
    scratch_create(&t->scratch);
    return t;
}
