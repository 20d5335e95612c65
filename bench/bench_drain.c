/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast a backlog of small jobs is drained: a real pgqrsd with an empty handler, beside the
 * floor, which is one process that sends the same statements to the same database without any
 * other process. Both commit with synchronous FULL. Settings are interleaved and repeated, medians
 * are shown; keep the ratios, the absolute numbers belong to one machine.
 *
 *   bench_drain BUILD [JOBS] [RUNS]
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "store/store.h"
#include "tests/support/daemon.h"

#define RUNS_MAX 9

static const int consumer_counts[] = {1, 2, 4};
static const int prefetches[] = {1, 10, 50};
#define CASES 9

static void check(int64_t rc, const struct pgqrs_error *err)
{
    if (rc < 0) {
        (void)fprintf(stderr, "%s\n", err->text);
        exit(1);
    }
}

static struct pgqrs_store *open_filled(const struct scratch *s, size_t jobs, int64_t *queue_out)
{
    const struct pgqrs_store_options options = {
        .create = true, .synchronous_full = true, .busy_ms = 5000};
    struct pgqrs_store *store = NULL;
    struct pgqrs_error err;
    check(pgqrs_store_open(s->dsn, &options, &store, &err), &err);
    check(pgqrs_store_install(store, &err), &err);
    check(pgqrs_store_queue_create(store, "work", queue_out, &err), &err);
    struct pgqrs_enqueue *items = calloc(jobs, sizeof *items);
    int64_t *ids = calloc(jobs, sizeof *ids);
    if (items == NULL || ids == NULL) {
        exit(1);
    }
    for (size_t i = 0; i < jobs; i++) {
        items[i].payload = pgqrs_bytes_from("{\"kind\":\"bench\",\"n\":1}");
    }
    check(pgqrs_store_enqueue(store, *queue_out, items, jobs, ids, NULL, &err), &err);
    free(items);
    free(ids);
    return store;
}

static double floor_rate(size_t jobs, size_t batch)
{
    struct scratch s;
    int64_t queue;
    int64_t worker;
    struct pgqrs_error err;
    scratch_create(&s);
    struct pgqrs_store *store = open_filled(&s, jobs, &queue);
    check(pgqrs_store_worker_register(
              store,
              &(struct pgqrs_worker_row){
                  .name = "floor", .queue_id = queue, .instance = "i", .generation = 1},
              &worker, &err),
          &err);
    struct pgqrs_settlement *settlements = calloc(batch, sizeof *settlements);
    struct pgqrs_want want = {.queue_id = queue,
                              .worker_id = worker,
                              .count = (uint32_t)batch,
                              .max_attempts = 5,
                              .lease_ms = 30000};
    struct pgqrs_exchange x = {.settlements = settlements, .wants = &want, .want_count = 1};
    int64_t start = pgqrs_mono_us();
    do {
        check(pgqrs_store_exchange(store, &x, &err), &err);
        for (size_t i = 0; i < x.lease_count; i++) {
            settlements[i] = (struct pgqrs_settlement){.message_id = x.leases[i].message_id,
                                                       .worker_id = worker,
                                                       .attempt = x.leases[i].attempt,
                                                       .how = PGQRS_SETTLE_ARCHIVE};
        }
        x.settlement_count = x.lease_count;
    } while (x.lease_count > 0);
    double rate = (double)jobs * 1e6 / (double)(pgqrs_mono_us() - start);
    pgqrs_exchange_fini(&x);
    free(settlements);
    pgqrs_store_close(&store);
    scratch_remove(&s);
    return rate;
}

/* From the first lease to the last archive, by the rows' own times. */
static double daemon_rate(size_t jobs, int consumers, int prefetch)
{
    struct scratch s;
    struct daemon d = {0};
    int64_t queue;
    scratch_create(&s);
    struct pgqrs_store *store = open_filled(&s, jobs, &queue);
    pgqrs_store_close(&store);
    daemon_config(&s, "queues: {work: {handler: %s, consumers: %d, prefetch: %d}}\n",
                  built("bench/handlers/empty.so"), consumers, prefetch);
    daemon_start(&d, &s);
    db_await(&s,
             "select count(*) from (select 1 from pgqrs_messages where archived_at is null "
             "limit 1)",
             0);
    if (daemon_stop(&d, SIGTERM) != 0) {
        (void)fprintf(stderr, "pgqrsd did not stop cleanly, see %s\n", d.log);
        exit(1);
    }
    int64_t us = db_number(&s, "select (julianday(max(archived_at)) - julianday(min(dequeued_at))) "
                               "* 86400e6 from pgqrs_messages");
    scratch_remove(&s);
    return (double)jobs * 1e6 / (double)us;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare);
    return values[count / 2];
}

int main(int argc, char **argv)
{
    static double floors[CASES][RUNS_MAX];
    static double rates[CASES][RUNS_MAX];
    size_t jobs = argc > 2 ? strtoul(argv[2], NULL, 10) : 50000;
    size_t runs = argc > 3 ? strtoul(argv[3], NULL, 10) : 3;
    if (argc < 2 || jobs == 0 || runs == 0 || runs > RUNS_MAX) {
        (void)fprintf(stderr, "usage: bench_drain BUILD [JOBS] [RUNS, up to %d]\n", RUNS_MAX);
        return 2;
    }
    (void)setenv("PGQRS_TEST_BUILD", argv[1], 1);
    for (size_t run = 0; run < runs; run++) {
        for (size_t i = 0; i < CASES; i++) {
            int consumers = consumer_counts[i / 3];
            int prefetch = prefetches[i % 3];
            floors[i][run] = floor_rate(jobs, (size_t)consumers * (size_t)prefetch);
            rates[i][run] = daemon_rate(jobs, consumers, prefetch);
        }
    }
    (void)printf("drain of %zu jobs, SQLite, synchronous FULL, median of %zu runs, jobs/s\n\n"
                 "consumers  prefetch     floor    pgqrsd  ratio\n",
                 jobs, runs);
    for (size_t i = 0; i < CASES; i++) {
        double floor = median(floors[i], runs);
        double rate = median(rates[i], runs);
        (void)printf("%9d  %8d  %8.0f  %8.0f  %4.0f %%\n", consumer_counts[i / 3],
                     prefetches[i % 3], floor, rate, 100 * rate / floor);
    }
    (void)printf("\nfloor: one process, settle and lease in one transaction, "
                 "batch = consumers x prefetch\n");
    return 0;
}
