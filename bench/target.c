/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/target.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

void bench_fail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)fprintf(stderr, "bench: ");
    (void)vfprintf(stderr, fmt, args);
    (void)fprintf(stderr, "\n");
    va_end(args);
    exit(1);
}

void bench_check(int64_t rc, const struct pgqrs_error *err)
{
    if (rc < 0) {
        bench_fail("%s", err->text);
    }
}

void *bench_alloc(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) {
        bench_fail("out of memory");
    }
    return memory;
}

struct pgqrs_store *bench_store(const struct target *t)
{
    const struct pgqrs_store_options options = {
        .create = true, .synchronous_full = true, .busy_ms = 5000};
    struct pgqrs_store *store = NULL;
    struct pgqrs_error err;
    bench_check(pgqrs_store_open(t->scratch.dsn, &options, &store, &err), &err);
    bench_check(pgqrs_store_install(store, &err), &err);
    return store;
}

double bench_enqueue(const struct target *t, int64_t jobs, int64_t batch)
{
    struct pgqrs_store *store = bench_store(t);
    struct pgqrs_enqueue *items = bench_alloc((size_t)batch, sizeof *items);
    int64_t *ids = bench_alloc((size_t)batch, sizeof *ids);
    struct pgqrs_error err;
    for (int64_t i = 0; i < batch; i++) {
        items[i].payload = pgqrs_bytes_from(BENCH_PAYLOAD);
    }
    int64_t start = pgqrs_mono_us();
    for (int64_t done = 0; done < jobs; done += batch) {
        size_t n = (size_t)(jobs - done < batch ? jobs - done : batch);
        bench_check(pgqrs_store_enqueue(store, t->queue, items, n, ids, NULL, &err), &err);
    }
    double rate = (double)jobs * 1e6 / (double)(pgqrs_mono_us() - start);
    free(items);
    free(ids);
    pgqrs_store_close(&store);
    return rate;
}

void bench_fill(struct target *t, int64_t jobs)
{
    (void)bench_enqueue(t, jobs, BENCH_FILL_BATCH);
}
