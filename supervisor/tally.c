/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What brokers count, in memory that outlives them (ipc/tally_page.h): made here, inherited by each
 * broker, and shown in the state.
 */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int pgqrs_tally_create(struct supervisor *s, struct pgqrs_error *err)
{
    int fd = memfd_create("pgqrs-tally", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    s->tally_fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, PGQRS_FD_ABOVE);
    if (fd >= 0) {
        (void)close(fd);
    }
    if (s->tally_fd < 0 || ftruncate(s->tally_fd, sizeof *s->tally) < 0 ||
        fcntl(s->tally_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "memory for counters");
    }
    void *memory = mmap(NULL, sizeof *s->tally, PROT_READ | PROT_WRITE, MAP_SHARED, s->tally_fd, 0);
    if (memory == MAP_FAILED) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "memory for counters");
    }
    s->tally = memory;
    return 0;
}

void pgqrs_tally_destroy(struct supervisor *s)
{
    if (s->tally != NULL) {
        (void)munmap(s->tally, sizeof *s->tally);
        s->tally = NULL;
    }
    if (s->tally_fd >= 0) {
        (void)close(s->tally_fd);
        s->tally_fd = -1;
    }
}

static bool is_taken(const struct supervisor *s, uint32_t place)
{
    for (size_t i = 0; i < s->queue_count; i++) {
        if (s->queues[i]->place == place) {
            return true;
        }
    }
    return false;
}

/* One after the other, so that what a broker still counts for a queue that has gone is seldom
 * counted for another. */
uint32_t pgqrs_tally_place(struct supervisor *s)
{
    for (uint32_t i = 0; i < PGQRS_TALLY_NO_PLACE; i++) {
        uint32_t place = s->tally_next++ % PGQRS_TALLY_NO_PLACE;
        if (!is_taken(s, place)) {
            memset(&s->tally->queues[place], 0, sizeof s->tally->queues[place]);
            return place;
        }
    }
    return PGQRS_TALLY_NO_PLACE;
}

/* ---- as JSON ---- */

static void put(json_t *object, const char *key, json_t *value)
{
    (void)json_object_set_new(object, key, value); /* without memory the key is missing */
}

static json_t *counted(const pgqrs_counter *counter)
{
    return json_integer((json_int_t)pgqrs_counted(counter));
}

static json_t *describe_counters(const pgqrs_counter *counters, const char *const *names,
                                 size_t count)
{
    json_t *out = json_object();
    for (size_t i = 0; i < count; i++) {
        put(out, names[i], counted(&counters[i]));
    }
    return out;
}

/* As Prometheus has it: each bucket with those below it. */
static json_t *describe_histogram(const struct pgqrs_histogram *h, enum pgqrs_histogram_kind kind)
{
    json_t *out = json_object();
    json_t *buckets = json_object();
    double unit = kind == PGQRS_HISTOGRAM_SIZE ? 1 : 1e6;
    uint64_t sum = 0;
    for (size_t i = 0; i <= PGQRS_BOUNDS; i++) {
        char bound[32] = "+Inf";
        if (i < PGQRS_BOUNDS) {
            (void)snprintf(bound, sizeof bound, "%g",
                           (double)pgqrs_histogram_bounds[kind][i] / unit);
        }
        sum += pgqrs_counted(&h->buckets[i]);
        put(buckets, bound, json_integer((json_int_t)sum));
    }
    put(out, "buckets", buckets);
    put(out, "sum", json_real((double)pgqrs_counted(&h->sum) / unit));
    return out;
}

void pgqrs_tally_describe_queue(const struct queue *queue, json_t *out)
{
    const struct pgqrs_queue_tally *q = &queue->s->tally->queues[queue->place];
    put(out, "settled", describe_counters(q->settled, pgqrs_tally_names, PGQRS_TALLY_COUNT));
    put(out, "leases_lost", counted(&q->leases_lost));
    put(out, "leases_freed",
        describe_counters(q->leases_freed, pgqrs_freed_names, PGQRS_FREED_COUNT));
    put(out, "wait_seconds", describe_histogram(&q->waited, PGQRS_HISTOGRAM_JOB));
    put(out, "run_seconds", describe_histogram(&q->ran, PGQRS_HISTOGRAM_JOB));
}

void pgqrs_tally_describe(const struct supervisor *s, json_t *out)
{
    const struct pgqrs_tally_page *page = s->tally;
    json_t *calls = json_object();
    json_t *sizes = json_object();
    for (size_t i = 0; i < PGQRS_CALL_COUNT; i++) {
        put(calls, pgqrs_call_names[i], describe_histogram(&page->calls[i], PGQRS_HISTOGRAM_CALL));
    }
    put(sizes, pgqrs_call_names[PGQRS_CALL_EXCHANGE],
        describe_histogram(&page->commits, PGQRS_HISTOGRAM_SIZE));
    put(sizes, pgqrs_call_names[PGQRS_CALL_FLOW],
        describe_histogram(&page->flows, PGQRS_HISTOGRAM_SIZE));
    put(out, "store_call_seconds", calls);
    put(out, "store_errors", describe_counters(page->errors, pgqrs_call_names, PGQRS_CALL_COUNT));
    put(out, "group_sizes", sizes);
    put(out, "broker_wakeups",
        describe_counters(page->wakeups, pgqrs_wakeup_names, PGQRS_WAKEUP_COUNT));
}
