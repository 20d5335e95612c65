/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast queues are, beside what the database allows and beside pgqrs' statements, in one run.
 * Everything is interleaved and repeated; keep the ratios, the absolute numbers belong to one
 * machine. See --help.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/report.h"
#include "bench/target.h"

struct options {
    int64_t jobs, big;
    double seconds; /* of one drain that does not end */
    size_t runs;
    const char *dir, *only, *store, *shape;
};

/* ---- a daemon ---- */

static void start_daemon(struct target *t, struct daemon *d, const char *handler, int consumers,
                         int prefetch)
{
    char plugin[512];
    (void)snprintf(plugin, sizeof plugin, "%s", built(handler));
    daemon_config(&t->scratch, "queues: {work: {handler: %s, consumers: %d, prefetch: %d}}\n",
                  plugin, consumers, prefetch);
    *d = (struct daemon){0};
    daemon_start(d, &t->scratch);
}

static void stop_daemon(struct daemon *d)
{
    if (daemon_stop(d, SIGTERM) != 0) {
        bench_fail("pgqrsd did not stop cleanly, see %s", d->log);
    }
}

static void sleep_ms(int ms)
{
    (void)poll(NULL, 0, ms);
}

/* From the first lease to the last archive, by the rows' own times. */
static double daemon_drain(struct target *t, int consumers, int prefetch, double seconds)
{
    struct daemon d;
    start_daemon(t, &d, "bench/handlers/empty.so", consumers, prefetch);
    int64_t until = pgqrs_mono_us() + (int64_t)(seconds * 1e6);
    while (t->number(t, t->drained_sql) != 0 && pgqrs_mono_us() < until) {
        sleep_ms(50);
    }
    stop_daemon(&d);
    int64_t us = t->number(t, t->elapsed_sql);
    return us <= 0 ? 0 : (double)t->number(t, t->archived_sql) * 1e6 / (double)us;
}

/* ---- the cases ---- */

static const int consumer_counts[] = {1, 2, 4};
static const int batches[] = {1, 10, 50};

static void drain(struct target *t, const struct options *o, struct report *r, size_t run)
{
    for (size_t i = 0; i < 9; i++) {
        int consumers = consumer_counts[i / 3];
        int batch = batches[i % 3];
        char shape[16];
        (void)snprintf(shape, sizeof shape, "%dx%d", consumers, batch);
        if (o->shape != NULL && strcmp(o->shape, shape) != 0) {
            continue;
        }
        struct measured *m = report_line(r, t->name, "queue.drain_fixed_backlog", "jobs/s",
                                         "consumers %d, batch %d", consumers, batch);
        t->reset(t);
        bench_fill(t, o->jobs);
        m->floor[run] = t->floor(t, consumers * batch, 30);
        t->reset(t);
        bench_fill(t, o->jobs);
        m->pgqrs[run] = t->pgqrs(t, consumers, batch, o->seconds);
        t->reset(t);
        bench_fill(t, o->jobs);
        m->value[run] = daemon_drain(t, consumers, batch, 60);
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

#define SMALL 10000

static double drain_of(struct target *t, const struct options *o, int64_t backlog, bool crowded,
                       int consumers, int prefetch)
{
    t->reset(t);
    if (crowded) {
        t->add_archived(t, o->big);
        t->add_delayed(t, o->big / 10);
    }
    bench_fill(t, backlog);
    t->settle(t);
    (void)daemon_drain(t, consumers, prefetch, o->seconds);
    int64_t us = t->number(t, t->first_10000_sql); /* of each the same work */
    return us <= 0 ? 0 : SMALL * 1e6 / (double)us;
}

/* So few are drained in a moment, so the median of a few times. */
static double drain_small(struct target *t, const struct options *o, int consumers, int prefetch)
{
    double rates[5];
    for (size_t i = 0; i < 5; i++) {
        rates[i] = drain_of(t, o, SMALL, false, consumers, prefetch);
    }
    qsort(rates, 5, sizeof *rates, compare);
    return rates[2];
}

static void flat(struct target *t, const struct options *o, struct report *r, size_t run)
{
    static const char *const title = "flat (floor: 10,000 waiting, nothing else)";
    static const struct {
        int consumers, prefetch;
    } shapes[] = {{1, 1}, {4, 10}};
    for (size_t i = 0; i < 2; i++) {
        int c = shapes[i].consumers;
        int p = shapes[i].prefetch;
        char shape[16];
        (void)snprintf(shape, sizeof shape, "%dx%d", c, p);
        if (o->shape != NULL && strcmp(o->shape, shape) != 0) {
            continue;
        }
        double small = drain_small(t, o, c, p);
        struct measured *m = report_line(r, t->name, title, "jobs/s", "%lld waiting, %d x %d",
                                         (long long)o->big, c, p);
        m->floor[run] = small;
        m->value[run] = drain_of(t, o, o->big, false, c, p);
        m = report_line(r, t->name, title, "jobs/s", "%lld archived, %lld delayed, %d x %d",
                        (long long)o->big, (long long)o->big / 10, c, p);
        m->floor[run] = small;
        m->value[run] = drain_of(t, o, SMALL, true, c, p);
    }
}

static void enqueue_rates(struct target *t, const struct options *o, struct report *r, size_t run)
{
    static const int sizes[] = {1, 10, 100, 1000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t count = sizes[i] == 1 ? o->jobs / 25 : o->jobs;
        struct measured *m =
            report_line(r, t->name, "enqueue", "rows/s", "one producer, batch %d", sizes[i]);
        t->reset(t);
        m->floor[run] = t->floor_enqueue(t, count, sizes[i]);
        t->reset(t);
        m->value[run] = bench_enqueue(t, count, sizes[i]);
    }
}

#define LATENCIES 400

/* What the handler wrote down, in the order of the jobs: there is one consumer. */
static void read_latencies(const char *path, double *us)
{
    FILE *f = fopen(path, "r");
    int count = 0;
    while (f != NULL && count < LATENCIES && fscanf(f, "%lf", &us[count]) == 1) {
        count++;
    }
    if (f == NULL || count < LATENCIES) {
        bench_fail("latency: found %d of %d", count, LATENCIES);
    }
    (void)fclose(f);
}

static void report_latencies(struct target *t, struct report *r, size_t run, double *us,
                             double *inserts)
{
    static const char *const title = "foreign enqueue to handler start (floor: the insert)";
    static const double points[] = {0.5, 0.9, 0.99};
    double after[LATENCIES];
    for (int i = 0; i < LATENCIES; i++) {
        after[i] = us[i] - inserts[i];
    }
    qsort(after, LATENCIES, sizeof *after, compare);
    qsort(us, LATENCIES, sizeof *us, compare);
    qsort(inserts, LATENCIES, sizeof *inserts, compare);
    for (size_t i = 0; i < 3; i++) {
        int at = (int)(points[i] * (LATENCIES - 1));
        struct measured *m = report_line(r, t->name, title, "ms", "p%.0f", 100 * points[i]);
        m->value[run] = us[at] / 1000;
        m->floor[run] = inserts[at] / 1000;
        report_line(r, t->name, title, "ms", "p%.0f, from the insert's return", 100 * points[i])
            ->value[run] = after[at] / 1000;
    }
}

static void latency(struct target *t, const struct options *o, struct report *r, size_t run)
{
    struct daemon d;
    double us[LATENCIES];
    double inserts[LATENCIES]; /* how long it takes until the insert has returned */
    (void)o;
    t->reset(t);
    (void)unlink(t->scratch.effects);
    (void)setenv("BENCH_FILE", t->scratch.effects, 1);
    start_daemon(t, &d, "bench/handlers/latency.so", 1, 1);
    daemon_await_log(&d, "ready pid=", 2);
    sleep_ms(500);
    for (int i = 0; i < LATENCIES; i++) {
        char payload[32];
        struct timespec now;
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        (void)snprintf(payload, sizeof payload, "%lld",
                       (long long)now.tv_sec * 1000000000 + now.tv_nsec);
        int64_t start = pgqrs_mono_us();
        t->foreign_insert(t, payload);
        inserts[i] = (double)(pgqrs_mono_us() - start);
        sleep_ms(10 + i % 7);
    }
    t->foreign_insert(t, NULL);
    effects_await(&t->scratch, "", LATENCIES);
    stop_daemon(&d);
    read_latencies(t->scratch.effects, us);
    report_latencies(t, r, run, us, inserts);
}

static void steady(struct target *t, const struct options *o, struct report *r, size_t run)
{
    struct daemon d;
    struct pgqrs_error err;
    struct pgqrs_enqueue items[10];
    int64_t ids[10];
    int64_t sent = 0;
    t->reset(t);
    start_daemon(t, &d, "bench/handlers/empty.so", 1, 10);
    daemon_await_log(&d, "ready pid=", 2);
    struct pgqrs_store *store = bench_store(t);
    for (size_t i = 0; i < 10; i++) {
        items[i] = (struct pgqrs_enqueue){.payload = pgqrs_bytes_from(BENCH_PAYLOAD)};
    }
    int64_t start = pgqrs_mono_us();
    int64_t until = start + (int64_t)(o->seconds * 1e6);
    while (pgqrs_mono_us() < until) {
        int rc = pgqrs_store_enqueue(store, t->queue, items, 10, ids, NULL, &err);
        if (rc < 0 && err.code != PGQRS_ERR_AGAIN) {
            bench_check(rc, &err);
        }
        sent += rc < 0 ? 0 : 10;
    }
    int64_t done = t->number(t, t->archived_sql);
    double seconds = (double)(pgqrs_mono_us() - start) / 1e6;
    stop_daemon(&d);
    pgqrs_store_close(&store);
    report_line(r, t->name, "queue.e2e.steady_state", "jobs/s", "completed, 1 producer 1 consumer")
        ->value[run] = (double)done / seconds;
    report_line(r, t->name, "queue.e2e.steady_state", "rows", "waiting at the end")->value[run] =
        (double)(sent - done);
}

#define IDLE_MS 10000

/* Transactions a second of all sessions; the server and the question have some of their own. */
static double transactions_in_a_while(struct target *t)
{
    int64_t before = t->transactions(t);
    sleep_ms(IDLE_MS);
    return (double)(t->transactions(t) - before) * 1000 / IDLE_MS;
}

static void idle(struct target *t, const struct options *o, struct report *r, size_t run)
{
    struct daemon d;
    (void)o;
    if (t->transactions == NULL) {
        return; /* nobody counts them there */
    }
    t->reset(t);
    struct measured *m = report_line(r, t->name, "idle (floor: without pgqrsd)", "1/s",
                                     "transactions of the database");
    m->floor[run] = transactions_in_a_while(t);
    start_daemon(t, &d, "bench/handlers/empty.so", 4, 1);
    daemon_await_log(&d, "ready pid=", 5);
    sleep_ms(12000); /* sessions tell of what they did up to ten seconds later */
    m->value[run] = transactions_in_a_while(t);
    stop_daemon(&d);
}

static const struct {
    const char *name;
    void (*run)(struct target *t, const struct options *o, struct report *r, size_t run);
} cases[] = {{"drain", drain},     {"flat", flat},     {"enqueue", enqueue_rates},
             {"latency", latency}, {"steady", steady}, {"idle", idle}};

/* ---- main ---- */

static void usage(FILE *to)
{
    (void)fprintf(
        to, "usage: bench_queue [OPTIONS] BUILD\n\n"
            "  --store NAME    sqlite or postgres; default: both\n"
            "  --case NAME     drain, flat, enqueue, latency, steady or idle; default: all\n"
            "  --shape CxB     of drain and flat, only C consumers and batch B, such as 4x50\n"
            "  --jobs N        backlog to drain, default 50000\n"
            "  --big N         the large backlog of flat, default 1000000\n"
            "  --seconds S     limit of a drain that may not end, default 3\n"
            "  --runs N        1 to 9, the median counts, default 3\n"
            "  --out DIR       for bench.json and bench.svg, default BUILD\n");
}

static void parse(struct options *o, int argc, char **argv)
{
    static const struct option longs[] = {{"store", 1, NULL, 's'}, {"case", 1, NULL, 'c'},
                                          {"jobs", 1, NULL, 'j'},  {"shape", 1, NULL, 'p'},
                                          {"big", 1, NULL, 'b'},   {"seconds", 1, NULL, 't'},
                                          {"runs", 1, NULL, 'r'},  {"out", 1, NULL, 'o'},
                                          {"help", 0, NULL, 'h'},  {0}};
    int c;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 's':
            o->store = optarg;
            break;
        case 'c':
            o->only = optarg;
            break;
        case 'p':
            o->shape = optarg;
            break;
        case 'j':
            o->jobs = strtoll(optarg, NULL, 10);
            break;
        case 'b':
            o->big = strtoll(optarg, NULL, 10);
            break;
        case 't':
            o->seconds = strtod(optarg, NULL);
            break;
        case 'r':
            o->runs = strtoul(optarg, NULL, 10);
            break;
        case 'o':
            o->dir = optarg;
            break;
        case 'h':
            usage(stdout);
            exit(0);
        default:
            usage(stderr);
            exit(2);
        }
    }
    if (optind != argc - 1 || o->jobs < BENCH_FILL_BATCH || o->runs == 0 || o->runs > RUNS_MAX ||
        o->seconds <= 0) {
        usage(stderr);
        exit(2);
    }
}

static void run_all(struct target *t, const struct options *o, struct report *r)
{
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        for (size_t run = 0; run < o->runs; run++) {
            if (o->only == NULL || strcmp(o->only, cases[c].name) == 0) {
                cases[c].run(t, o, r, run);
                (void)fprintf(stderr, "bench: %s %s, run %zu of %zu done\n", t->name, cases[c].name,
                              run + 1, o->runs);
            }
        }
    }
    t->destroy(t);
}

int main(int argc, char **argv)
{
    struct options o = {.jobs = 50000, .big = 1000000, .seconds = 3, .runs = 3};
    parse(&o, argc, argv);
    struct report r = {.runs = o.runs};
    char *build = realpath(argv[optind], NULL);
    if (build == NULL) {
        bench_fail("%s: %s", argv[optind], strerror(errno));
    }
    (void)setenv("PGQRS_TEST_BUILD", build, 1);
    free(build);
    if (o.store == NULL || strcmp(o.store, "sqlite") == 0) {
        run_all(target_sqlite(), &o, &r);
    }
    if (o.store == NULL || strcmp(o.store, "postgres") == 0) {
        run_all(target_postgres(), &o, &r);
    }
    report_table(&r);
    report_files(&r, o.dir == NULL ? argv[optind] : o.dir);
    report_fini(&r);
    return 0;
}
