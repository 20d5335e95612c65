/* SPDX-License-Identifier: Apache-2.0 */
#include <endian.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "base/clock.h"
#include "bench/target.h"
#include "tests/support/pg_rig.h"

static PGconn *connect(const struct target *t)
{
    PGconn *conn = PQconnectdb(t->scratch.dsn);
    if (PQstatus(conn) != CONNECTION_OK) {
        bench_fail("postgres: %s", PQerrorMessage(conn));
    }
    return conn;
}

static PGresult *checked(PGconn *conn, PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && status != PGRES_PIPELINE_SYNC) {
        bench_fail("postgres: %s", PQerrorMessage(conn));
    }
    return result;
}

static void run(PGconn *conn, const char *sql)
{
    PQclear(checked(conn, PQexec(conn, sql)));
}

static int64_t number(struct target *t, const char *sql)
{
    PGconn *conn = connect(t);
    PGresult *result = checked(conn, PQexec(conn, sql));
    int64_t value = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    PQfinish(conn);
    return value;
}

static void reset(struct target *t)
{
    struct pgqrs_error err;
    PGconn *conn = connect(t);
    run(conn,
        "SET client_min_messages = warning; DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    run(conn, "CHECKPOINT");
    PQfinish(conn);
    struct pgqrs_store *store = bench_store(t);
    bench_check(pgqrs_store_queue_create(store, "work", &t->queue, &err), &err);
    pgqrs_store_close(&store);
}

static void settle(struct target *t)
{
    PGconn *conn = connect(t);
    run(conn, "VACUUM ANALYZE pgqrs_messages");
    run(conn, "CHECKPOINT");
    PQfinish(conn);
}

static void destroy(struct target *t)
{
    pg_rig_stop();
    scratch_remove(&t->scratch);
    free(t);
}

static void add(const struct target *t, int64_t count, const char *vt, const char *archived)
{
    char sql[400];
    PGconn *conn = connect(t);
    (void)snprintf(sql, sizeof sql,
                   "INSERT INTO pgqrs_messages (queue_id, payload, vt, enqueued_at, archived_at)"
                   " SELECT %lld, '" BENCH_PAYLOAD "', %s, now() - interval '1 day', %s"
                   " FROM generate_series(1, %lld)",
                   (long long)t->queue, vt, archived, (long long)count);
    run(conn, sql);
    run(conn, "VACUUM ANALYZE pgqrs_messages");
    run(conn, "CHECKPOINT");
    PQfinish(conn);
}

static void add_archived(struct target *t, int64_t count)
{
    add(t, count, "now() - interval '1 day'", "now() - interval '1 hour'");
}

static void add_delayed(struct target *t, int64_t count)
{
    add(t, count, "now() + interval '1 day'", "NULL");
}

/* ---- parameters: big-endian, arrays of bigint ---- */

static void put_i64(char *to, int64_t value)
{
    uint64_t big = htobe64((uint64_t)value);
    memcpy(to, &big, sizeof big);
}

static void put_i32(char *to, uint32_t value)
{
    uint32_t big = htobe32(value);
    memcpy(to, &big, sizeof big);
}

static int put_ids(char *to, const int64_t *ids, int count)
{
    static const uint32_t int8_oid = 20;
    put_i32(to, count > 0);
    put_i32(to + 4, 0);
    put_i32(to + 8, int8_oid);
    put_i32(to + 12, (uint32_t)count);
    put_i32(to + 16, 1);
    for (int i = 0; i < count; i++) {
        put_i32(to + 20 + i * 12, 8);
        put_i64(to + 24 + i * 12, ids[i]);
    }
    return count > 0 ? 20 + count * 12 : 12;
}

static int take_ids(const PGresult *result, int64_t *ids)
{
    int count = PQntuples(result);
    for (int i = 0; i < count; i++) {
        uint64_t big;
        memcpy(&big, PQgetvalue(result, i, 0), sizeof big);
        ids[i] = (int64_t)be64toh(big);
    }
    return count;
}

static void prepare(PGconn *conn, const char *name, const char *sql)
{
    PQclear(checked(conn, PQprepare(conn, name, sql, 0, NULL)));
}

/* ---- the floor: archive the last batch and lease the next, one round trip, one commit ---- */

#define LEASE_SQL                                                                                  \
    "UPDATE pgqrs_messages m SET vt = now() + interval '30 seconds', read_ct = m.read_ct + 1,"     \
    " dequeued_at = coalesce(m.dequeued_at, now()), consumer_worker_id = $3::bigint"               \
    " WHERE m.id = ANY(ARRAY(SELECT id FROM pgqrs_messages WHERE queue_id = $1::bigint"            \
    " AND archived_at IS NULL AND consumer_worker_id IS NULL AND vt <= now() AND read_ct < 5"      \
    " ORDER BY vt, enqueued_at, id LIMIT $2::bigint FOR UPDATE SKIP LOCKED))"                      \
    " RETURNING m.id, m.payload, m.read_ct, m.enqueued_at"
#define ARCHIVE_SQL                                                                                \
    "UPDATE pgqrs_messages SET archived_at = now(), pgqrsd_outcome = 'done' WHERE id ="            \
    " ANY($1::bigint[]) AND consumer_worker_id IS NOT DISTINCT FROM $2::bigint AND"                \
    " coalesce(archived_at, 'infinity') = 'infinity'"

struct floor {
    PGconn *conn;
    char queue[8], limit[8], worker[8];
    char *array;
    int64_t *ids;
    int count;
};

static PGresult *next_result(PGconn *conn)
{
    PGresult *result = checked(conn, PQgetResult(conn));
    if (PQresultStatus(result) != PGRES_PIPELINE_SYNC) {
        PQclear(PQgetResult(conn)); /* the null after each statement */
    }
    return result;
}

static void floor_turn(struct floor *f)
{
    const char *archive[] = {f->array, f->worker};
    const char *lease[] = {f->queue, f->limit, f->worker};
    const int archive_len[] = {put_ids(f->array, f->ids, f->count), 8};
    static const int lease_len[] = {8, 8, 8};
    static const int binary[] = {1, 1, 1};
    if (PQsendQueryPrepared(f->conn, "archive", 2, archive, archive_len, binary, 1) != 1 ||
        PQsendQueryPrepared(f->conn, "lease", 3, lease, lease_len, binary, 1) != 1 ||
        PQpipelineSync(f->conn) != 1) {
        bench_fail("postgres: %s", PQerrorMessage(f->conn));
    }
    PQclear(next_result(f->conn));
    PGresult *leased = next_result(f->conn);
    f->count = take_ids(leased, f->ids);
    PQclear(leased);
    PQclear(next_result(f->conn));
}

static double floor_drain(struct target *t, int batch, double seconds)
{
    struct floor f = {.conn = connect(t),
                      .array = bench_alloc((size_t)batch * 12 + 32, 1),
                      .ids = bench_alloc((size_t)batch, sizeof *f.ids)};
    run(f.conn, "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off;"
                "INSERT INTO pgqrs_workers (id, name) OVERRIDING SYSTEM VALUE VALUES (1, 'floor')");
    prepare(f.conn, "lease", LEASE_SQL);
    prepare(f.conn, "archive", ARCHIVE_SQL);
    put_i64(f.queue, t->queue);
    put_i64(f.limit, batch);
    put_i64(f.worker, 1);
    int64_t jobs = 0;
    int64_t start = pgqrs_mono_us();
    int64_t now;
    (void)PQenterPipelineMode(f.conn);
    do {
        jobs += f.count;
        floor_turn(&f);
        now = pgqrs_mono_us();
    } while (f.count > 0 && (double)(now - start) < seconds * 1e6);
    PQfinish(f.conn);
    free(f.array);
    free(f.ids);
    return (double)jobs * 1e6 / (double)(now - start);
}

/* ---- pgqrs ---- */

struct pgqrs_run {
    struct target *t;
    int batch;
    int64_t until_us, jobs, worker;
};

static void *consume(void *arg)
{
    struct pgqrs_run *r = arg;
    PGconn *conn = connect(r->t);
    char queue[8];
    char limit[8];
    char worker[8];
    size_t most = (size_t)r->batch * 1000; /* it may lease too many */
    char *array = bench_alloc(most * 12 + 32, 1);
    int64_t *ids = bench_alloc(most, sizeof *ids);
    static const int binary[] = {1, 1, 1};
    prepare(conn, "dequeue",
            "UPDATE pgqrs_messages SET vt = now() + interval '30 seconds', read_ct = read_ct + 1,"
            " dequeued_at = coalesce(dequeued_at, now()), consumer_worker_id = $3::bigint WHERE id"
            " IN (SELECT id FROM pgqrs_messages WHERE queue_id = $1::bigint AND (vt IS NULL OR vt"
            " <= now()) AND consumer_worker_id IS NULL AND archived_at IS NULL AND read_ct < 5"
            " ORDER BY enqueued_at LIMIT $2::bigint FOR UPDATE SKIP LOCKED) RETURNING id, queue_id,"
            " payload, vt, enqueued_at, read_ct, dequeued_at, producer_worker_id,"
            " consumer_worker_id, archived_at");
    prepare(conn, "archive",
            "UPDATE pgqrs_messages SET archived_at = now() WHERE id = ANY($1::bigint[]) AND"
            " consumer_worker_id = $2::bigint AND archived_at IS NULL RETURNING id");
    put_i64(queue, r->t->queue);
    put_i64(limit, r->batch);
    put_i64(worker, r->worker);
    while (pgqrs_mono_us() < r->until_us) {
        const char *lease[] = {queue, limit, worker};
        static const int lease_len[] = {8, 8, 8};
        PGresult *result =
            checked(conn, PQexecPrepared(conn, "dequeue", 3, lease, lease_len, binary, 1));
        int count = take_ids(result, ids);
        PQclear(result);
        if (count == 0) {
            break;
        }
        const char *archive[] = {array, worker};
        const int archive_len[] = {put_ids(array, ids, count), 8};
        PQclear(checked(conn, PQexecPrepared(conn, "archive", 2, archive, archive_len, binary, 1)));
        r->jobs += count;
    }
    PQfinish(conn);
    free(array);
    free(ids);
    return NULL;
}

static double pgqrs_drain(struct target *t, int consumers, int batch, double seconds)
{
    struct pgqrs_run runs[16];
    pthread_t threads[16];
    PGconn *conn = connect(t);
    run(conn, "INSERT INTO pgqrs_workers (id, name) OVERRIDING SYSTEM VALUE SELECT i, 'w' || i FROM"
              " generate_series(1, 16) i; ANALYZE pgqrs_messages");
    PQfinish(conn);
    int64_t start = pgqrs_mono_us();
    for (int i = 0; i < consumers; i++) {
        runs[i] = (struct pgqrs_run){
            .t = t, .batch = batch, .until_us = start + (int64_t)(seconds * 1e6), .worker = i + 1};
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
    PGconn *conn = connect(t);
    char *array = bench_alloc((size_t)batch * (sizeof BENCH_PAYLOAD + 4) + 32, 1);
    char queue[8];
    static const uint32_t text_oid = 25;
    static const size_t len = sizeof BENCH_PAYLOAD - 1;
    prepare(conn, "insert",
            "INSERT INTO pgqrs_messages (queue_id, payload, vt, enqueued_at, read_ct) SELECT"
            " $1::bigint, unnest($2::text[])::jsonb, now(), now(), 0 RETURNING id");
    put_i64(queue, t->queue);
    put_i32(array, 1);
    put_i32(array + 4, 0);
    put_i32(array + 8, text_oid);
    put_i32(array + 12, (uint32_t)batch);
    put_i32(array + 16, 1);
    char *to = array + 20;
    for (int i = 0; i < batch; i++) {
        put_i32(to, (uint32_t)len);
        memcpy(to + 4, BENCH_PAYLOAD, len);
        to += 4 + len;
    }
    const char *values[] = {queue, array};
    const int lengths[] = {8, (int)(to - array)};
    static const int binary[] = {1, 1};
    int64_t start = pgqrs_mono_us();
    for (int64_t done = 0; done < count; done += batch) {
        PQclear(checked(conn, PQexecPrepared(conn, "insert", 2, values, lengths, binary, 1)));
    }
    double rate = (double)count * 1e6 / (double)(pgqrs_mono_us() - start);
    PQfinish(conn);
    free(array);
    return rate;
}

static void floor_steps(struct target *t, bool full, double *us, size_t count)
{
    char number[16];
    const char *params[] = {number};
    PGconn *conn = connect(t);
    (void)full;
    prepare(conn, "floor_step",
            "INSERT INTO pgqrs_workflow_steps (run_id, step_name, status, output, started_at,"
            " completed_at) VALUES ((SELECT max(id) FROM pgqrs_workflow_runs), 'floor' || $1,"
            " 'SUCCESS', 'true', now(), now())");
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(number, sizeof number, "%zu", i);
        int64_t start = pgqrs_mono_us();
        PQclear(checked(conn, PQexecPrepared(conn, "floor_step", 1, params, NULL, NULL, 0)));
        us[i] = (double)(pgqrs_mono_us() - start);
    }
    PQfinish(conn);
}

static void foreign_insert(struct target *t, const char *payload)
{
    if (t->state == NULL) {
        t->state = connect(t);
    }
    PGconn *conn = t->state;
    if (payload == NULL) {
        PQfinish(conn);
        t->state = NULL;
        return;
    }
    char queue[24];
    (void)snprintf(queue, sizeof queue, "%lld", (long long)t->queue);
    const char *values[] = {queue, payload};
    PQclear(checked(conn, PQexecParams(conn,
                                       "INSERT INTO pgqrs_messages (queue_id, payload, vt,"
                                       " enqueued_at, read_ct) VALUES ($1::bigint, $2::jsonb,"
                                       " now(), now(), 0)",
                                       2, NULL, values, NULL, NULL, 0)));
}

/* A statement outside a transaction is one of its own. */
static int64_t transactions(struct target *t)
{
    return number(t, "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname ="
                     " current_database()");
}

/* As an installed one would be, but for memory and the length of the log. */
static void start_server(struct target *t)
{
    static const char *const settings[] = {"fsync = on",
                                           "full_page_writes = on",
                                           "synchronous_commit = on",
                                           "shared_buffers = '2GB'",
                                           "max_wal_size = '4GB'",
                                           "timezone = 'UTC'",
                                           "autovacuum_naptime = '1min'"};
    struct pg_rig *rig = pg_rig_create();
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        pg_rig_sql(rig, "ALTER SYSTEM SET %s", settings[i]);
    }
    (void)snprintf(t->scratch.dsn, sizeof t->scratch.dsn, "%s", rig->dsn);
    pg_rig_destroy(rig);
    pg_rig_stop();
    pg_rig_start();
}

struct target *target_postgres(void)
{
    struct target *t = bench_alloc(1, sizeof *t);
    *t = (struct target){
        .name = "postgres",
        .reset = reset,
        .destroy = destroy,
        .add_archived = add_archived,
        .add_delayed = add_delayed,
        .settle = settle,
        .number = number,
        .drained_sql =
            "select count(*) from (select 1 from pgqrs_messages where queue_id = (select id"
            " from pgqrs_queues where queue_name = 'work') and archived_at is null and"
            " consumer_worker_id is null and pgqrsd_priority = 0 and vt <= now() limit 1)"
            " x",
        .archived_sql = "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'",
        .elapsed_sql = "select (extract(epoch from max(archived_at) - min(dequeued_at)) * 1e6)::"
                       "bigint from pgqrs_messages where pgqrsd_outcome = 'done'",
        .first_10000_sql =
            "select (extract(epoch from max(archived_at) - min(dequeued_at)) * 1e6)::bigint from"
            " (select archived_at, dequeued_at from pgqrs_messages where pgqrsd_outcome = 'done'"
            " order by archived_at limit 10000) x",
        .floor = floor_drain,
        .pgqrs = pgqrs_drain,
        .floor_enqueue = floor_enqueue,
        .floor_steps = floor_steps,
        .foreign_insert = foreign_insert,
        .transactions = transactions,
    };
    scratch_create(&t->scratch);
    start_server(t);
    return t;
}
