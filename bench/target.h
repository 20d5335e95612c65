/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BENCH_TARGET_H
#define PGQRS_BENCH_TARGET_H

/*
 * A database to measure on, with default durability (SQLite: synchronous FULL; PostgreSQL:
 * fsync and synchronous_commit on). A failure ends the program with its reason.
 *
 * Three contestants drain the same backlog: pgqrsd with real worker processes, the floor (bare
 * statements in one process: results of the last batch and the next leases in one transaction),
 * and the statements that pgqrs sends (a connection per consumer, dequeue and archive each a
 * transaction of its own).
 */

#include <stdint.h>

#include "store/store.h"
#include "tests/support/daemon.h"

struct target {
    const char *name;
    struct scratch scratch; /* holds pgqrsd's files; its dsn is the target's */
    /* Empties it and installs the schema, with a queue "work". */
    void (*reset)(struct target *t);
    void (*destroy)(struct target *t);
    /* So many archived rows, and delayed ones that are enqueued before the others. */
    void (*add_archived)(struct target *t, int64_t count);
    void (*add_delayed)(struct target *t, int64_t count);
    /* What the filling left to be done, vacuum and writing back, is done now. */
    void (*settle)(struct target *t);
    /* The number that a statement gives, through a connection of its own. */
    int64_t (*number)(struct target *t, const char *sql);
    const char *drained_sql;  /* 0: nothing waits that is due; costs as much at any size */
    const char *archived_sql; /* how many were archived since the drain began */
    const char *elapsed_sql;  /* microseconds from the first lease to the last archive of those */
    const char *first_10000_sql; /* the same to the archive of the 10,000th */
    /* Drains for at most so many seconds; returns jobs per second. */
    double (*floor)(struct target *t, int batch, double seconds);
    double (*pgqrs)(struct target *t, int consumers, int batch, double seconds);
    /* Enqueues by bare statements, count rows in transactions of batch; rows per second. */
    double (*floor_enqueue)(struct target *t, int64_t count, int batch);
    /* Inserts so many rows of steps of the last run, each a transaction, timed in microseconds. */
    void (*floor_steps)(struct target *t, bool full, double *us, size_t count);
    /* One row, as a program that knows nothing of us would insert it. */
    void (*foreign_insert)(struct target *t, const char *payload);
    /* Transactions, or statements where it can tell, of all sessions so far; -1: it can not. */
    int64_t (*transactions)(struct target *t);
    int64_t queue;
    void *state;
};

struct target *target_sqlite(void);
struct target *target_postgres(void);

/* ---- for the targets ---- */
void bench_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void bench_check(int64_t rc, const struct pgqrs_error *err);
void *bench_alloc(size_t count, size_t size);
/* Opens our store on it. */
struct pgqrs_store *bench_store(const struct target *t);
/* So many small jobs, in calls of batch; rows per second. */
double bench_enqueue(const struct target *t, int64_t jobs, int64_t batch);
/* A backlog of them. */
void bench_fill(struct target *t, int64_t jobs);
#define BENCH_FILL_BATCH 1000
#define BENCH_PAYLOAD "{\"kind\":\"bench\",\"n\":1}"

#endif
