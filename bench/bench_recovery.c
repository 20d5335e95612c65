/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the SIGKILL of a worker in the middle of a job to the start of that job's second attempt on
 * another worker, which is idle.
 *
 *   bench_recovery BUILD [KILLS]
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/support/daemon.h"

#define KILLS_MAX 200

struct line {
    int64_t id, attempt, pid, at_us;
};

struct wanted {
    const char *path;
    int64_t id, attempt;
    struct line *found;
};

static bool has_line(const void *arg)
{
    const struct wanted *w = arg;
    FILE *file = fopen(w->path, "r");
    bool found = false;
    struct line *l = w->found;
    while (file != NULL && !found &&
           fscanf(file, "%" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64, &l->id, &l->attempt,
                  &l->pid, &l->at_us) == 4) {
        found = l->id == w->id && l->attempt == w->attempt;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

static struct line await_line(const char *path, int64_t id, int64_t attempt)
{
    struct line line = {0};
    const struct wanted wanted = {.path = path, .id = id, .attempt = attempt, .found = &line};
    if (!wait_for(has_line, &wanted, WAIT_MS)) {
        (void)fprintf(stderr, "job %" PRId64 " attempt %" PRId64 " did not start\n", id, attempt);
        exit(1);
    }
    return line;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    static int64_t us[KILLS_MAX];
    struct scratch s;
    struct daemon d = {0};
    int kills = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 30;
    if (argc < 2 || kills < 1 || kills > KILLS_MAX) {
        (void)fprintf(stderr, "usage: bench_recovery BUILD [KILLS, up to %d]\n", KILLS_MAX);
        return 2;
    }
    char *build = realpath(argv[1], NULL);
    (void)setenv("PGQRS_TEST_BUILD", build == NULL ? argv[1] : build, 1);
    free(build);
    scratch_create(&s);
    (void)setenv("BENCH_FILE", s.effects, 1);
    for (int i = 0; i < kills; i++) {
        /* A fresh daemon each time, so that no restart delay of an earlier death is in the way. */
        (void)remove(s.effects);
        daemon_config(&s, "queues: {work: {handler: %s, consumers: 2}}\n",
                      built("bench/handlers/stamp.so"));
        daemon_start(&d, &s);
        daemon_await_log(&d, "ready pid=", 3 * (i + 1));
        if (cli(&s, NULL, "message", "enqueue", "work", "{}", (char *)NULL) != 0) {
            return 1;
        }
        struct line first = await_line(s.effects, i + 1, 1);
        int64_t killed_at = pgqrs_mono_us();
        (void)kill((pid_t)first.pid, SIGKILL);
        us[i] = await_line(s.effects, i + 1, 2).at_us - killed_at;
        if (daemon_stop(&d, SIGTERM) != 0) {
            (void)fprintf(stderr, "pgqrsd did not stop cleanly\n");
            return 1;
        }
    }
    scratch_remove(&s);
    qsort(us, (size_t)kills, sizeof *us, compare);
    size_t p50 = (size_t)kills / 2;
    size_t p90 = (size_t)kills * 9 / 10;
    (void)printf("SIGKILL of a worker to its job running again elsewhere, %d kills, ms:\n"
                 "p50 %.2f  p90 %.2f  max %.2f\n",
                 kills, (double)us[p50] / 1000, (double)us[p90] / 1000,
                 (double)us[kills - 1] / 1000);
    return 0;
}
