/* SPDX-License-Identifier: Apache-2.0 */
/* Memory and descriptors of the supervisor and the broker, over the life of each process. */
#include "tests/chaos/chaos_priv.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SAMPLE_MS 200
#define SAMPLES_MIN 20
/* What a process may grow, and half as much again. AddressSanitizer keeps what was freed. */
#ifdef __SANITIZE_ADDRESS__
#define GROWTH_MIN_KIB (512 * 1024)
#else
#define GROWTH_MIN_KIB 8192
#endif
#define DESCRIPTORS_MORE 16

static int64_t resident_pages(pid_t pid)
{
    char path[64];
    int64_t pages = -1;
    (void)snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        if (fscanf(file, "%*d %" SCNd64, &pages) != 1) {
            pages = -1;
        }
        (void)fclose(file);
    }
    return pages;
}

static int64_t count_descriptors(pid_t pid)
{
    char path[64];
    int64_t count = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    while (dir != NULL && readdir(dir) != NULL) {
        count++;
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return count;
}

static void take(struct chaos_run_state *c, pid_t pid, bool broker)
{
    int64_t pages = resident_pages(pid);
    if (pages > 0 && c->sample_count < CHAOS_SAMPLES_MAX) {
        c->samples[c->sample_count++] =
            (struct chaos_sample){.pid = pid,
                                  .start = c->starts,
                                  .broker = broker,
                                  .pages = pages,
                                  .descriptors = count_descriptors(pid)};
    }
}

/* Each child costs some, so only while all are there. */
void chaos_sample(struct chaos_run_state *c)
{
    pid_t workers[64];
    pid_t broker;
    int64_t now = pgqrs_mono_ms();
    if (now - c->sampled_ms < SAMPLE_MS || c->daemon.pid <= 0) {
        return;
    }
    c->sampled_ms = now;
    if (daemon_children(&c->daemon, "pgqrs-broker", &broker, 1) == 1 &&
        daemon_children(&c->daemon, "pgqrs-worker", workers, 64) ==
            CHAOS_WORKERS + CHAOS_FOLLOWERS) {
        take(c, c->daemon.pid, false);
        take(c, broker, true);
    }
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}

static int64_t median(int64_t *values, size_t count)
{
    qsort(values, count, sizeof *values, by_value);
    return values[count / 2];
}

/* values are in the order of time. */
static void compare_quarters(int64_t *values, size_t count, int64_t *second_out, int64_t *last_out)
{
    size_t quarter = count / 4;
    *last_out = median(values + 3 * quarter, count - 3 * quarter);
    *second_out = median(values + quarter, quarter);
}

static bool same_life(const struct chaos_sample *a, const struct chaos_sample *b)
{
    return a->pid == b->pid && a->start == b->start && a->broker == b->broker;
}

/* The samples of one process, from the first. Returns how many. */
static size_t gather(const struct chaos_run_state *c, size_t first, int64_t *pages,
                     int64_t *descriptors)
{
    size_t count = 0;
    for (size_t i = first; i < c->sample_count; i++) {
        if (same_life(&c->samples[i], &c->samples[first])) {
            pages[count] = c->samples[i].pages;
            descriptors[count++] = c->samples[i].descriptors;
        }
    }
    return count;
}

static bool seen_before(const struct chaos_run_state *c, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        if (same_life(&c->samples[i], &c->samples[at])) {
            return true;
        }
    }
    return false;
}

static void check_life(struct chaos_run_state *c, const struct chaos_sample *s, int64_t *pages,
                       int64_t *descriptors, size_t count)
{
    int64_t second;
    int64_t last;
    int64_t kib = sysconf(_SC_PAGESIZE) / 1024;
    const char *name = s->broker ? "broker" : "supervisor";
    compare_quarters(pages, count, &second, &last);
    if (last * kib > second * kib * 3 / 2 + GROWTH_MIN_KIB) {
        chaos_find(&c->findings,
                   "the %s %d grew: %" PRId64 " KiB in its second quarter, %" PRId64 " in its last",
                   name, (int)s->pid, second * kib, last * kib);
    }
    compare_quarters(descriptors, count, &second, &last);
    if (last > second + DESCRIPTORS_MORE) {
        chaos_find(&c->findings,
                   "the %s %d had %" PRId64 " descriptors in its second quarter, %" PRId64
                   " in its last",
                   name, (int)s->pid, second, last);
    }
}

size_t chaos_check_samples(struct chaos_run_state *c)
{
    size_t lives = 0;
    int64_t *pages = calloc(c->sample_count + 1, sizeof *pages);
    int64_t *descriptors = calloc(c->sample_count + 1, sizeof *descriptors);
    for (size_t i = 0; pages != NULL && descriptors != NULL && i < c->sample_count; i++) {
        if (seen_before(c, i)) {
            continue;
        }
        size_t count = gather(c, i, pages, descriptors);
        if (count >= SAMPLES_MIN) {
            lives++;
            check_life(c, &c->samples[i], pages, descriptors, count);
        }
    }
    free(pages);
    free(descriptors);
    return lives;
}
