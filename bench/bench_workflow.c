/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Durable workflows: how long a step takes beside the bare insert of its row, how many there are a
 * second, and what runs cost that sleep or wait, until they are woken. See --help.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/process.h"
#include "bench/target.h"
#include "store/workflow.h"

#define STEPS 100
#define FLOOR_STEPS 500
#define SAMPLES_MAX 200000
#define SETTLE_MS 5000 /* what a start leaves to be done is over */
#define WAIT_S 300

struct options {
    int64_t runs, sleepers;
    int spread_us, idle_s;
    const char *only, *store;
};

/* ---- output ---- */

static void head(const char *title, const char *store)
{
    (void)printf("\n%-42s%10s%10s%10s%10s%10s%12s\n%s, %s\n", "", "p50", "p90", "max", "floor",
                 "ratio", "aim", title, store);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Sorts them. floor 0: there is none. */
static void put_times(const char *name, double *us, size_t count, double floor_us, const char *aim)
{
    if (count == 0) {
        bench_fail("%s: nothing was measured", name);
    }
    qsort(us, count, sizeof *us, compare);
    double p50 = us[count / 2];
    (void)printf("  %-36s  ms%10.2f%10.2f%10.2f", name, p50 / 1000, us[count * 9 / 10] / 1000,
                 us[count - 1] / 1000);
    if (floor_us > 0) {
        (void)printf("%10.2f%9.1fx%12s\n", floor_us / 1000, p50 / floor_us, aim);
    } else {
        (void)printf("%10s%10s%12s\n", "", "", aim);
    }
}

static void put_value(const char *name, const char *unit, double value, double floor,
                      const char *aim)
{
    (void)printf("  %-32s%8s%10.2f%20s", name, unit, value, "");
    if (floor > 0) {
        (void)printf("%10.2f%9.2fx%12s\n", floor, value / floor, aim);
    } else {
        (void)printf("%10s%10s%12s\n", "", "", aim);
    }
}

/* ---- a daemon ---- */

static void sleep_ms(int ms)
{
    (void)poll(NULL, 0, ms);
}

static void start(const struct target *t, struct daemon *d, int consumers, bool full)
{
    char log[96];
    (void)snprintf(log, sizeof log, "%s/log", t->scratch.dir);
    (void)unlink(log);
    (void)unlink(t->scratch.effects);
    (void)setenv("BENCH_FILE", t->scratch.effects, 1);
    scratch_write(&t->scratch, "pgqrsd.yaml",
                  "dsn: \"%s\"\nruntime_dir: %s/run\nsqlite: {synchronous: %s}\n"
                  "queues: {work: {handler: %s, consumers: %d, prefetch: 8}}\n",
                  t->scratch.dsn, t->scratch.dir, full ? "full" : "normal",
                  built("bench/handlers/flow.so"), consumers);
    *d = (struct daemon){0};
    daemon_start(d, &t->scratch);
    daemon_await_log(d, "ready pid=", consumers + 1);
}

static void stop(struct daemon *d)
{
    if (daemon_stop(d, SIGTERM) != 0) {
        bench_fail("pgqrsd did not stop cleanly, see %s", d->log);
    }
}

/* Run i has the input format with first + i * spread_us. */
static void enqueue(const struct target *t, int64_t count, const char *format, int64_t first,
                    int spread_us)
{
    enum { BATCH = 500 };
    static char payloads[BATCH][64];
    struct pgqrs_enqueue items[BATCH];
    int64_t ids[BATCH];
    struct pgqrs_error err;
    struct pgqrs_store *store = bench_store(t);
    for (int64_t done = 0; done < count;) {
        size_t n = (size_t)(count - done < BATCH ? count - done : BATCH);
        for (size_t i = 0; i < n; i++, done++) {
            long long value = first + done * spread_us;
            (void)snprintf(payloads[i], sizeof payloads[i], "{\"input\": {\"%s\": %lld}}", format,
                           value);
            items[i] = (struct pgqrs_enqueue){.payload = pgqrs_bytes_from(payloads[i])};
        }
        bench_check(pgqrs_store_enqueue(store, t->queue, items, n, ids, NULL, &err), &err);
    }
    pgqrs_store_close(&store);
}

static void await(struct target *t, const char *sql, int64_t value)
{
    int64_t until = pgqrs_mono_us() + WAIT_S * (int64_t)1000000;
    while (t->number(t, sql) != value) {
        if (pgqrs_mono_us() > until) {
            bench_fail("found %lld, expected %lld: %s", (long long)t->number(t, sql),
                       (long long)value, sql);
        }
        sleep_ms(50);
    }
}

#define DONE_SQL "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'"
#define PAUSED_SQL "select count(*) from pgqrs_workflow_runs where status = 'PAUSED'"

/* ---- what the handler has written down ---- */

struct ledger {
    double us[SAMPLES_MAX];
    size_t count;
    double seconds; /* from the first run's begin to the last one's end */
};

static struct ledger ledger;

static void read_ledger(const struct target *t)
{
    char line[96];
    double first = 0;
    double last = 0;
    double begin;
    double end;
    ledger.count = 0;
    FILE *f = fopen(t->scratch.effects, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL && ledger.count < SAMPLES_MAX) {
        if (sscanf(line, "run %lf %lf", &begin, &end) == 2) {
            first = first == 0 || begin < first ? begin : first;
            last = end > last ? end : last;
        } else {
            ledger.us[ledger.count++] = strtod(strchr(line, ' '), NULL);
        }
    }
    if (f == NULL) {
        bench_fail("the handler has written nothing");
    }
    (void)fclose(f);
    ledger.seconds = (last - first) / 1e6;
}

/* ---- steps ---- */

static void steps_of(struct target *t, const struct options *o, bool full, const char *title)
{
    static const int consumer_counts[] = {1, 2, 4};
    static double floor_us[FLOOR_STEPS];
    double floor_rate = 0;
    head(title, t->name);
    for (size_t i = 0; i < 3; i++) {
        struct daemon d;
        char name[64];
        int consumers = consumer_counts[i];
        t->reset(t);
        start(t, &d, consumers, full);
        int64_t before = t->transactions == NULL ? 0 : t->transactions(t);
        enqueue(t, o->runs * consumers, "steps", STEPS, 0);
        await(t, DONE_SQL, o->runs * consumers);
        stop(&d);
        int64_t transactions = t->transactions == NULL ? 0 : t->transactions(t) - before;
        read_ledger(t);
        double rate = (double)ledger.count / ledger.seconds;
        t->floor_steps(t, full, floor_us, FLOOR_STEPS);
        double sum = 0;
        for (size_t k = 0; k < FLOOR_STEPS; k++) {
            sum += floor_us[k];
        }
        qsort(floor_us, FLOOR_STEPS, sizeof *floor_us, compare);
        floor_rate = FLOOR_STEPS * 1e6 / sum;
        (void)snprintf(name, sizeof name, "a step, workers %d", consumers);
        put_times(name, ledger.us, ledger.count, floor_us[FLOOR_STEPS / 2],
                  consumers > 1                      ? ""
                  : strcmp(t->name, "postgres") == 0 ? "< 2"
                  : full                             ? ""
                                                     : "< 0.5");
        (void)snprintf(name, sizeof name, "steps, workers %d", consumers);
        put_value(name, "1/s", rate, floor_rate, "");
        if (transactions > 0) {
            (void)snprintf(name, sizeof name, "transactions by step, workers %d", consumers);
            put_value(name, "", (double)transactions / (double)ledger.count, 0, "");
        }
    }
}

static void steps(struct target *t, const struct options *o)
{
    if (strcmp(t->name, "sqlite") == 0) {
        steps_of(t, o, false, "durable steps, synchronous NORMAL (floor: the row alone)");
        steps_of(t, o, true, "durable steps, synchronous FULL (floor: the row alone)");
    } else {
        steps_of(t, o, true, "durable steps (floor: the row alone)");
    }
}

/* ---- runs that sleep or wait ---- */

#define WAKERS 4

static int64_t cpu_ns(const struct daemon *d)
{
    pid_t pids[WAKERS];
    int64_t sum = process_use(d->pid).cpu_ns;
    sum += process_use(daemon_await_children(d, "pgqrs-broker", 1)).cpu_ns;
    size_t count = daemon_children(d, "pgqrs-worker", pids, WAKERS);
    for (size_t i = 0; i < count; i++) {
        sum += process_use(pids[i]).cpu_ns;
    }
    return sum;
}

/* In hundredths of a processor. */
static double idle_cpu(const struct daemon *d, const struct options *o)
{
    sleep_ms(SETTLE_MS);
    int64_t before = cpu_ns(d);
    sleep_ms(o->idle_s * 1000);
    return (double)(cpu_ns(d) - before) / 1e7 / o->idle_s;
}

static double begin_waking(struct target *t, const struct options *o, struct daemon *d)
{
    t->reset(t);
    start(t, d, WAKERS, true);
    return idle_cpu(d, o);
}

static void end_waking(struct target *t, const struct options *o, struct daemon *d,
                       const char *name)
{
    await(t, DONE_SQL, o->sleepers);
    stop(d);
    read_ledger(t);
    put_times(name, ledger.us, ledger.count, 0, "p50 < 100");
}

static void sleepers(struct target *t, const struct options *o, const char *name, int spread_us)
{
    struct daemon d;
    double floor = begin_waking(t, o, &d);
    int64_t settled_ms = SETTLE_MS + o->idle_s * 1000 + 2000;
    int64_t at = pgqrs_mono_us() + o->sleepers * 4000 + settled_ms * 1000;
    int64_t began = pgqrs_mono_us();
    enqueue(t, o->sleepers, "at", at, spread_us);
    await(t, PAUSED_SQL, o->sleepers);
    double rate = (double)o->sleepers * 1e6 / (double)(pgqrs_mono_us() - began);
    put_value("runs that begin and fall asleep", "1/s", rate, 0, "");
    if (pgqrs_mono_us() + settled_ms * 1000 > at) {
        (void)printf("  (this took so long that some wake while they are watched)\n");
    }
    put_value("CPU while they sleep", "%", idle_cpu(&d, o), floor, "");
    end_waking(t, o, &d, name);
}

static void sleeping(struct target *t, const struct options *o)
{
    char title[96];
    (void)snprintf(title, sizeof title, "%lld sleeping runs (floor: no runs), 4 workers",
                   (long long)o->sleepers);
    head(title, t->name);
    sleepers(t, o, "due to running again, one by one", o->spread_us);
    sleepers(t, o, "due to running again, all at once", 0);
}

static void waiting(struct target *t, const struct options *o)
{
    struct daemon d;
    struct pgqrs_error err;
    char text[96];
    double *sends = bench_alloc((size_t)o->sleepers, sizeof *sends);
    (void)snprintf(text, sizeof text, "%lld runs that wait for an event (floor: no runs)",
                   (long long)o->sleepers);
    head(text, t->name);
    double floor = begin_waking(t, o, &d);
    enqueue(t, o->sleepers, "wait", 1, 0);
    await(t, PAUSED_SQL, o->sleepers);
    put_value("CPU while they wait", "%", idle_cpu(&d, o), floor, "");
    int64_t first = t->number(t, "select min(id) from pgqrs_messages");
    struct pgqrs_store *store = bench_store(t);
    int64_t next = pgqrs_mono_us();
    for (int64_t i = 0; i < o->sleepers; i++, next += o->spread_us) {
        int64_t now = pgqrs_mono_us();
        if (next > now) {
            sleep_ms((int)((next - now) / 1000));
            now = pgqrs_mono_us();
        }
        (void)snprintf(text, sizeof text, "%lld", (long long)now);
        bool is_first;
        int rc;
        while ((rc = pgqrs_store_event_send(store, first + i, "go", pgqrs_bytes_from(text),
                                            &is_first, &err)) < 0 &&
               err.code == PGQRS_ERR_AGAIN) {
        }
        bench_check(rc, &err);
        sends[i] = (double)(pgqrs_mono_us() - now);
    }
    pgqrs_store_close(&store);
    qsort(sends, (size_t)o->sleepers, sizeof *sends, compare);
    put_times("sending it", sends, (size_t)o->sleepers, 0, "");
    end_waking(t, o, &d, "sent to running again");
    free(sends);
}

static const struct {
    const char *name;
    void (*run)(struct target *t, const struct options *o);
} cases[] = {{"steps", steps}, {"sleep", sleeping}, {"event", waiting}};

/* ---- main ---- */

static void usage(FILE *to)
{
    (void)fprintf(to, "usage: bench_workflow [OPTIONS] BUILD\n\n"
                      "  --store NAME    sqlite or postgres; default: both\n"
                      "  --case NAME     steps, sleep or event; default: all\n"
                      "  --runs N        of a hundred steps each, by worker, default 20\n"
                      "  --sleepers N    runs that sleep or wait, default 10000\n"
                      "  --spread US     between two that wake, default 8000\n"
                      "  --idle S        how long to look at idle processes, default 10\n");
}

static void parse(struct options *o, int argc, char **argv)
{
    static const struct option longs[] = {{"store", 1, NULL, 's'},  {"case", 1, NULL, 'c'},
                                          {"runs", 1, NULL, 'r'},   {"sleepers", 1, NULL, 'n'},
                                          {"spread", 1, NULL, 'u'}, {"idle", 1, NULL, 'i'},
                                          {"help", 0, NULL, 'h'},   {0}};
    int c;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 's':
            o->store = optarg;
            break;
        case 'c':
            o->only = optarg;
            break;
        case 'r':
            o->runs = strtoll(optarg, NULL, 10);
            break;
        case 'n':
            o->sleepers = strtoll(optarg, NULL, 10);
            break;
        case 'u':
            o->spread_us = (int)strtol(optarg, NULL, 10);
            break;
        case 'i':
            o->idle_s = (int)strtol(optarg, NULL, 10);
            break;
        case 'h':
            usage(stdout);
            exit(0);
        default:
            usage(stderr);
            exit(2);
        }
    }
    if (optind != argc - 1 || o->runs <= 0 || o->sleepers <= 0 || o->spread_us < 0 ||
        o->idle_s <= 0 || o->runs * STEPS * 4 > SAMPLES_MAX || o->sleepers > SAMPLES_MAX) {
        usage(stderr);
        exit(2);
    }
}

static void run_all(struct target *t, const struct options *o)
{
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        if (o->only == NULL || strcmp(o->only, cases[c].name) == 0) {
            cases[c].run(t, o);
        }
    }
    t->destroy(t);
}

int main(int argc, char **argv)
{
    struct options o = {.runs = 20, .sleepers = 10000, .spread_us = 8000, .idle_s = 10};
    parse(&o, argc, argv);
    char *build = realpath(argv[optind], NULL);
    if (build == NULL) {
        bench_fail("%s: %s", argv[optind], strerror(errno));
    }
    (void)setenv("PGQRS_TEST_BUILD", build, 1);
    free(build);
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (o.store == NULL || strcmp(o.store, "sqlite") == 0) {
        run_all(target_sqlite(), &o);
    }
    if (o.store == NULL || strcmp(o.store, "postgres") == 0) {
        run_all(target_postgres(), &o);
    }
    return 0;
}
