/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the supervisor costs, and how quick it is: a start, a stop, a worker that dies, and doing
 * nothing. Each figure stands beside what it is meant to be and what the machine allows.
 * See --help.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/process.h"
#include "bench/target.h"

#define TIMES_MAX 200
#define WORKERS 4
#define SETTLE_MS 3000 /* what a start leaves to be done is over */

struct options {
    int kills, times, idle_s;
    const char *only, *store;
};

/* ---- output ---- */

static void head(const struct target *t, const char *title)
{
    (void)printf("\n%-44s%10s%10s%10s%12s%12s\n%s, %s\n", "", "p50", "p90", "max", "floor", "aim",
                 title, t->name);
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* The value below which so many hundredths of the others are; sorts them. */
static double quantile_ms(int64_t *us, int count, int hundredths)
{
    int at = count * hundredths / 100;
    qsort(us, (size_t)count, sizeof *us, compare);
    return (double)us[at < count ? at : count - 1] / 1000;
}

static double median_ms(int64_t *us, int count)
{
    return quantile_ms(us, count, 50);
}

static void put_times(const char *name, int64_t *us, int count, double floor_ms, const char *aim)
{
    (void)printf("  %-38s  ms%10.2f%10.2f%10.2f%12.2f%12s\n", name, median_ms(us, count),
                 quantile_ms(us, count, 90), quantile_ms(us, count, 100), floor_ms, aim);
}

static void put_value(const char *name, const char *unit, double value, double floor,
                      const char *aim)
{
    (void)printf("  %-34s%8s%10.2f%20s", name, unit, value, "");
    if (floor > 0) {
        (void)printf("%12.2f%12s\n", floor, aim);
    } else {
        (void)printf("%12s%12s\n", "", aim);
    }
}

/* ---- a daemon ---- */

/* With default timers, unlike those of tests. */
static void configure(const struct target *t, const char *handler, int consumers)
{
    scratch_write(&t->scratch, "pgqrsd.yaml",
                  "dsn: \"%s\"\nruntime_dir: %s/run\n"
                  "queues: {work: {handler: %s, consumers: %d}}\n",
                  t->scratch.dsn, t->scratch.dir, built(handler), consumers);
}

static void start(const struct target *t, struct daemon *d)
{
    char log[96];
    (void)snprintf(log, sizeof log, "%s/log", t->scratch.dir);
    (void)unlink(log);
    (void)unlink(t->scratch.effects);
    *d = (struct daemon){0};
    daemon_start(d, &t->scratch);
}

static void stop(struct daemon *d)
{
    if (daemon_stop(d, SIGTERM) != 0) {
        bench_fail("pgqrsd did not stop cleanly, see %s", d->log);
    }
}

static void enqueue(const struct target *t, const char *payload)
{
    if (cli(&t->scratch, NULL, "message", "enqueue", "work", payload, (char *)NULL) != 0) {
        bench_fail("a job can not be enqueued, see %s/out", t->scratch.dir);
    }
}

/* ---- what a handler wrote down: see bench/handlers/stamp.c ---- */

struct stamp {
    const char *path;
    int64_t attempt, pid, at_us;
};

static bool is_stamped(const void *arg)
{
    struct stamp *wanted = *(struct stamp *const *)arg;
    int64_t attempt = 0;
    FILE *file = fopen(wanted->path, "r");
    bool found = false;
    while (file != NULL && !found &&
           fscanf(file, "%*d %" SCNd64 " %" SCNd64 " %" SCNd64, &attempt, &wanted->pid,
                  &wanted->at_us) == 3) {
        found = attempt == wanted->attempt;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

static struct stamp await_stamp(const struct target *t, int64_t attempt)
{
    struct stamp stamp = {.path = t->scratch.effects, .attempt = attempt};
    struct stamp *wanted = &stamp;
    if (!wait_for(is_stamped, &wanted, WAIT_MS)) {
        bench_fail("attempt %" PRId64 " did not begin, see %s/log", attempt, t->scratch.dir);
    }
    return stamp;
}

/* ---- the cases ---- */

static void kill_worker(struct target *t, const struct options *o)
{
    int64_t us[TIMES_MAX] = {0};
    int64_t floor_us[TIMES_MAX] = {0};
    t->reset(t);
    configure(t, "bench/handlers/stamp.so", 2);
    for (int i = 0; i < o->kills; i++) {
        /* A fresh daemon each time, so that no restart delay of an earlier death is in the way. */
        struct daemon d;
        start(t, &d);
        daemon_await_log(&d, "ready pid=", 3);
        enqueue(t, "{\"wait\":1}");
        struct stamp first = await_stamp(t, 1);
        int64_t began = pgqrs_mono_us();
        (void)kill((pid_t)first.pid, SIGKILL);
        us[i] = await_stamp(t, 2).at_us - began;
        stop(&d);
        floor_us[i] = process_kill_us();
    }
    head(t, "a worker dies (floor: SIGKILL to reaped)");
    put_times("SIGKILL to its job running again", us, o->kills, median_ms(floor_us, o->kills),
              "< 50");
}

static void stop_idle(struct target *t, const struct options *o)
{
    int64_t us[TIMES_MAX] = {0};
    int64_t floor_us[TIMES_MAX] = {0};
    t->reset(t);
    configure(t, "bench/handlers/empty.so", WORKERS);
    for (int i = 0; i < o->times; i++) {
        struct daemon d;
        int status = 0;
        start(t, &d);
        daemon_await_log(&d, "ready pid=", WORKERS + 1);
        (void)poll(NULL, 0, 300 + i * 37 % 200); /* at any point of its timers */
        int64_t began = pgqrs_mono_us();
        (void)kill(d.pid, SIGTERM);
        if (waitpid(d.pid, &status, 0) != d.pid || status != 0) {
            bench_fail("pgqrsd did not stop cleanly, see %s", d.log);
        }
        us[i] = pgqrs_mono_us() - began;
        floor_us[i] = process_kill_us();
    }
    head(t, "a stop (floor: SIGKILL of one process to reaped)");
    put_times("SIGTERM to exit, 4 idle workers", us, o->times, median_ms(floor_us, o->times),
              "< 50");
}

/* pgqrsd, a broker and a worker begin one after the other; each ends here at once. */
static int64_t load_all_us(void)
{
    return process_run_us(built("bin/pgqrsd")) +
           process_run_us(built("libexec/pgqrs/pgqrs-broker")) +
           process_run_us(built("libexec/pgqrs/pgqrs-worker"));
}

static void start_to_job(struct target *t, const struct options *o)
{
    int64_t us[TIMES_MAX] = {0};
    int64_t load_us[TIMES_MAX] = {0};
    int64_t true_us[TIMES_MAX] = {0};
    t->reset(t);
    configure(t, "bench/handlers/stamp.so", 1);
    for (int i = 0; i < o->times; i++) {
        struct daemon d;
        enqueue(t, "{}");
        int64_t began = pgqrs_mono_us();
        start(t, &d);
        us[i] = await_stamp(t, 1).at_us - began;
        stop(&d);
        load_us[i] = load_all_us();
        true_us[i] = process_run_us("/bin/true");
    }
    head(t, "a start (floor: the three programs, one by one, to their usage)");
    put_times("exec to the first job", us, o->times, median_ms(load_us, o->times), "< 200");
    (void)printf("  (fork, exec and exit of /bin/true: %.2f ms)\n", median_ms(true_us, o->times));
}

/* ---- doing nothing ---- */

struct actors {
    pid_t pids[2 + WORKERS]; /* supervisor, broker, workers */
    struct process_use use[2 + WORKERS];
};

static void find_actors(const struct daemon *d, struct actors *a)
{
    a->pids[0] = d->pid;
    if (daemon_children(d, "pgqrs-broker", &a->pids[1], 1) != 1 ||
        daemon_children(d, "pgqrs-worker", &a->pids[2], WORKERS) != WORKERS) {
        bench_fail("not all of pgqrsd is there, see %s", d->log);
    }
}

static void look(struct actors *a)
{
    for (size_t i = 0; i < 2 + WORKERS; i++) {
        a->use[i] = process_use(a->pids[i]);
    }
}

static void put_idle(const char *name, const struct process_use *before,
                     const struct process_use *after, size_t count, double seconds, const char *aim)
{
    char label[40];
    int64_t cpu = 0;
    int64_t wakeups = 0;
    for (size_t i = 0; i < count; i++) {
        cpu += after[i].cpu_ns - before[i].cpu_ns;
        wakeups += after[i].wakeups - before[i].wakeups;
    }
    (void)snprintf(label, sizeof label, "%s: CPU", name);
    put_value(label, "%", (double)cpu / 1e7 / seconds, 0, aim);
    (void)snprintf(label, sizeof label, "%s: wake-ups", name);
    put_value(label, "1/s", (double)wakeups / seconds, 0, "");
}

static void put_memory(const char *name, const char *program, const struct process_use *use,
                       const char *aim)
{
    char label[40];
    struct process_use floor = process_loaded(built(program));
    (void)snprintf(label, sizeof label, "%s: RSS", name);
    put_value(label, "MiB", (double)use->rss_kib / 1024, (double)floor.rss_kib / 1024, aim);
    (void)snprintf(label, sizeof label, "%s: PSS", name);
    put_value(label, "MiB", (double)use->pss_kib / 1024, (double)floor.pss_kib / 1024, "");
    (void)snprintf(label, sizeof label, "%s: threads", name);
    put_value(label, "", (double)use->threads, 0, "");
}

static double measured_s(struct actors *before, struct actors *after, const struct options *o)
{
    look(before);
    int64_t began = pgqrs_mono_us();
    (void)poll(NULL, 0, o->idle_s * 1000);
    double seconds = (double)(pgqrs_mono_us() - began) / 1e6;
    *after = *before;
    look(after);
    return seconds;
}

static void idle_use(struct target *t, const struct options *o)
{
    struct daemon d;
    struct actors before;
    struct actors after;
    start(t, &d);
    daemon_await_log(&d, "ready pid=", WORKERS + 1);
    (void)poll(NULL, 0, SETTLE_MS);
    find_actors(&d, &before);
    double seconds = measured_s(&before, &after, o);
    head(t, "idle, 4 workers");
    put_idle("all", before.use, after.use, 2 + WORKERS, seconds, "< 0.2");
    put_idle("supervisor", before.use, after.use, 1, seconds, "");
    put_idle("broker", before.use + 1, after.use + 1, 1, seconds, "");
    put_idle("a worker", before.use + 2, after.use + 2, 1, seconds, "");
    head(t, "memory (floor: loaded with its libraries, before main)");
    put_memory("supervisor", "bin/pgqrsd", &after.use[0], "< 8");
    put_memory("broker", "libexec/pgqrs/pgqrs-broker", &after.use[1], "< 16");
    put_memory("a worker", "libexec/pgqrs/pgqrs-worker", &after.use[2], "< 6");
    stop(&d);
}

/* SQLite has nobody who counts; see bench/preload/statements.c. */
static int64_t statements(struct target *t, const char *file)
{
    struct stat st;
    return t->transactions != NULL ? t->transactions(t)
           : stat(file, &st) == 0  ? (int64_t)st.st_size
                                   : 0;
}

/* Sessions tell PostgreSQL of what they did up to ten seconds later. */
static double statement_rate(struct target *t, const char *file, const struct options *o)
{
    (void)poll(NULL, 0, t->transactions == NULL ? SETTLE_MS : 12000);
    int64_t before = statements(t, file);
    (void)poll(NULL, 0, o->idle_s * 1000);
    return (double)(statements(t, file) - before) / o->idle_s;
}

static void idle_statements(struct target *t, const struct options *o)
{
    struct daemon d;
    char file[96];
    (void)snprintf(file, sizeof file, "%s/statements", t->scratch.dir);
    double floor = t->transactions == NULL ? 0 : statement_rate(t, file, o);
    if (t->transactions == NULL) {
        (void)setenv("BENCH_STATEMENTS", file, 1);
        (void)setenv("LD_PRELOAD", built("bench/preload/statements.so"), 1);
    }
    start(t, &d);
    (void)unsetenv("LD_PRELOAD");
    daemon_await_log(&d, "ready pid=", WORKERS + 1);
    double rate = statement_rate(t, file, o);
    stop(&d);
    head(t, "idle store (PostgreSQL: transactions; floor: without pgqrsd)");
    put_value("statements", "1/s", rate, floor, "<= 1");
}

static void idle(struct target *t, const struct options *o)
{
    t->reset(t);
    t->settle(t);
    configure(t, "bench/handlers/empty.so", WORKERS);
    idle_use(t, o);
    idle_statements(t, o);
}

static const struct {
    const char *name;
    void (*run)(struct target *t, const struct options *o);
} cases[] = {{"kill", kill_worker}, {"stop", stop_idle}, {"start", start_to_job}, {"idle", idle}};

/* ---- main ---- */

static void usage(FILE *to)
{
    (void)fprintf(to, "usage: bench_supervisor [OPTIONS] BUILD\n\n"
                      "  --store NAME    sqlite or postgres; default: both\n"
                      "  --case NAME     kill, stop, start or idle; default: all\n"
                      "  --kills N       of a worker, up to 200, default 30\n"
                      "  --times N       starts and stops, up to 200, default 15\n"
                      "  --idle S        seconds of doing nothing, default 20\n");
}

static void parse(struct options *o, int argc, char **argv)
{
    static const struct option longs[] = {{"store", 1, NULL, 's'},
                                          {"case", 1, NULL, 'c'},
                                          {"kills", 1, NULL, 'k'},
                                          {"times", 1, NULL, 't'},
                                          {"idle", 1, NULL, 'i'},
                                          {"help", 0, NULL, 'h'},
                                          {0}};
    int c;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        int number = optarg == NULL ? 0 : (int)strtol(optarg, NULL, 10);
        switch (c) {
        case 's':
            o->store = optarg;
            break;
        case 'c':
            o->only = optarg;
            break;
        case 'k':
            o->kills = number;
            break;
        case 't':
            o->times = number;
            break;
        case 'i':
            o->idle_s = number;
            break;
        case 'h':
            usage(stdout);
            exit(0);
        default:
            usage(stderr);
            exit(2);
        }
    }
    if (optind != argc - 1 || o->kills < 1 || o->kills > TIMES_MAX || o->times < 1 ||
        o->times > TIMES_MAX || o->idle_s < 1) {
        usage(stderr);
        exit(2);
    }
}

static void run_all(struct target *t, const struct options *o)
{
    (void)setenv("BENCH_FILE", t->scratch.effects, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (o->only == NULL || strcmp(o->only, cases[i].name) == 0) {
            cases[i].run(t, o);
            (void)fflush(stdout);
        }
    }
    t->destroy(t);
}

int main(int argc, char **argv)
{
    struct options o = {.kills = 30, .times = 15, .idle_s = 20};
    parse(&o, argc, argv);
    char *build = realpath(argv[optind], NULL);
    if (build == NULL) {
        bench_fail("%s: %s", argv[optind], strerror(errno));
    }
    (void)setenv("PGQRS_TEST_BUILD", build, 1);
    free(build);
    if (o.store == NULL || strcmp(o.store, "sqlite") == 0) {
        run_all(target_sqlite(), &o);
    }
    if (o.store == NULL || strcmp(o.store, "postgres") == 0) {
        run_all(target_postgres(), &o);
    }
    return 0;
}
