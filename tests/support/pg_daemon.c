/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/pg_daemon.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define LOAD_PAUSE_MS 2
#define LOAD_RETRY_MS 20

#define FAILS "the store fails, "
#define WORKS "the store works again"

int pg_daemon_setup(void **state)
{
    struct pg_daemon *d = calloc(1, sizeof *d);
    void *fixture = NULL;
    assert_non_null(d);
    assert_int_equal(fixture_setup(&fixture), 0);
    d->fixture = fixture;
    d->rig = pg_rig_create();
    struct scratch *s = &d->fixture->scratch;
    assert_true((size_t)snprintf(s->dsn, sizeof s->dsn, "%s", d->rig->dsn) < sizeof s->dsn);
    (void)snprintf(d->load_dsn, sizeof d->load_dsn, "%s&options=-csearch_path%%3D%s", d->rig->dsn,
                   d->rig->schema);
    assert_int_equal(setenv("PGQRS_SCHEMA", d->rig->schema, 1), 0);
    *state = d;
    return 0;
}

static void end_load(struct pg_daemon *d)
{
    if (atomic_load(&d->loading)) {
        atomic_store(&d->enough, true);
        (void)pthread_join(d->load, NULL);
        atomic_store(&d->loading, false);
    }
}

int pg_daemon_teardown(void **state)
{
    struct pg_daemon *d = *state;
    void *fixture = d->fixture;
    int rc = fixture_teardown(&fixture);
    if (pg_rig_postmaster() == 0) {
        pg_rig_start();
    }
    end_load(d);
    pg_rig_destroy(d->rig);
    free(d);
    return rc;
}

void pg_daemon_start(struct pg_daemon *d, const char *settings)
{
    char text[600];
    (void)snprintf(text, sizeof text, "    consumers: %d\n    prefetch: 5\n%s", PG_DAEMON_CONSUMERS,
                   settings);
    fixture_start(d->fixture, text);
    daemon_await_log(&d->fixture->daemon, "ready pid=", PG_DAEMON_CONSUMERS + 1);
    d->broker = daemon_await_children(&d->fixture->daemon, "pgqrs-broker", 1);
    (void)daemon_await_children(&d->fixture->daemon, "pgqrs-worker", PG_DAEMON_CONSUMERS);
    (void)daemon_children(&d->fixture->daemon, "pgqrs-worker", d->workers, PG_DAEMON_CONSUMERS);
}

/* ---- load ---- */

static PGconn *connect_load(const struct pg_daemon *d)
{
    PGconn *conn = PQconnectdb(d->load_dsn);
    if (PQstatus(conn) != CONNECTION_OK) {
        PQfinish(conn);
        return NULL;
    }
    return conn;
}

static void *load(void *arg)
{
    struct pg_daemon *d = arg;
    PGconn *conn = NULL;
    int n = 0;
    while (!atomic_load(&d->enough) && n < PG_DAEMON_JOBS_MAX) {
        conn = conn == NULL ? connect_load(d) : conn;
        PGresult *result =
            conn == NULL ? NULL
                         : PQexec(conn, "SELECT pgqrs_enqueue('work', jsonb_build_object('ms', "
                                        "2 + (random() * 3)::int))");
        bool done = PQresultStatus(result) == PGRES_TUPLES_OK;
        if (done) {
            d->ids[n++] = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
            atomic_store(&d->acked, n);
        }
        PQclear(result);
        if (conn != NULL && PQstatus(conn) != CONNECTION_OK) {
            PQfinish(conn);
            conn = NULL;
        }
        (void)poll(NULL, 0, done ? LOAD_PAUSE_MS : LOAD_RETRY_MS);
    }
    PQfinish(conn);
    return NULL;
}

void pg_daemon_load(struct pg_daemon *d, int done)
{
    assert_int_equal(pthread_create(&d->load, NULL, load, d), 0);
    atomic_store(&d->loading, true);
    effects_await(&d->fixture->scratch, "end ", done);
}

void pg_daemon_progress(struct pg_daemon *d, int more)
{
    int now = effects_count(&d->fixture->scratch, "end ");
    effects_await(&d->fixture->scratch, "end ", now + more);
}

/* ---- what must hold ---- */

int pg_daemon_troubles(const struct pg_daemon *d)
{
    return daemon_log_count(&d->fixture->daemon, FAILS);
}

static int compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a;
    const int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}

static size_t read_ends(const struct pg_daemon *d, int64_t *ids, size_t max)
{
    char line[128];
    size_t count = 0;
    FILE *file = fopen(d->fixture->scratch.effects, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL && count < max) {
        if (strncmp(line, "end ", 4) == 0) {
            ids[count++] = strtoll(line + 4, NULL, 10);
        }
    }
    (void)fclose(file);
    return count;
}

/* Every acknowledged job has ended, and none of all jobs twice. */
static void check_ends(const struct pg_daemon *d)
{
    static int64_t ends[PG_DAEMON_JOBS_MAX * 2];
    size_t count = read_ends(d, ends, PG_DAEMON_JOBS_MAX * (size_t)2);
    qsort(ends, count, sizeof *ends, compare);
    for (size_t i = 1; i < count; i++) {
        if (ends[i] == ends[i - 1]) {
            fail_msg("job %lld has ended twice", (long long)ends[i]);
        }
    }
    int acked = atomic_load(&d->acked);
    for (int i = 0; i < acked; i++) {
        if (bsearch(&d->ids[i], ends, count, sizeof *ends, compare) == NULL) {
            fail_msg("job %lld was acknowledged and never ended", (long long)d->ids[i]);
        }
    }
}

static void check_processes(const struct pg_daemon *d)
{
    assert_false(process_gone(d->broker));
    for (int i = 0; i < PG_DAEMON_CONSUMERS; i++) {
        assert_false(process_gone(d->workers[i]));
    }
    assert_int_equal(daemon_log_count(&d->fixture->daemon, "ready pid="), PG_DAEMON_CONSUMERS + 1);
}

static void show_log(const struct pg_daemon *d)
{
    char line[600];
    FILE *file = fopen(d->fixture->daemon.log, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        (void)fputs(line, stderr);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

void pg_daemon_finish(struct pg_daemon *d, int troubles_min, int troubles_max)
{
    end_load(d);
    int64_t give_up_ms = pgqrs_mono_ms() + (int64_t)2 * WAIT_MS;
    while (pg_rig_number(d->rig, "SELECT count(*) FROM pgqrs_messages"
                                 " WHERE pgqrsd_outcome IS DISTINCT FROM 'done'") != 0) {
        if (pgqrs_mono_ms() > give_up_ms) {
            show_log(d);
            fail_msg("%s", pg_rig_text(d->rig, "SELECT m FROM pgqrs_messages m WHERE"
                                               " pgqrsd_outcome IS DISTINCT FROM 'done' LIMIT 1"));
        }
        (void)poll(NULL, 0, 10);
    }
    check_ends(d);
    check_processes(d);
    assert_int_equal(pg_rig_number(d->rig, "SELECT max(read_ct) FROM pgqrs_messages"), 1);
    int troubles = pg_daemon_troubles(d);
    daemon_await_log(&d->fixture->daemon, WORKS, troubles);
    if (troubles < troubles_min || troubles > troubles_max) {
        show_log(d);
        fail_msg("found %d times of trouble in the log, expected %d to %d", troubles, troubles_min,
                 troubles_max);
    }
    assert_int_equal(daemon_log_count(&d->fixture->daemon, WORKS), troubles);
}
