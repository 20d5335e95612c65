/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_TALLY_PAGE_H
#define PGQRS_IPC_TALLY_PAGE_H

/*
 * What the broker counts, in memory that it shares with the supervisor: it costs an addition each,
 * and nothing of it is lost when the broker is killed. Each number has one thread that writes it,
 * of the broker that lives; the supervisor reads them, and gives each queue its place. All are
 * counters since pgqrsd was started.
 */

#include <stdatomic.h>
#include <stddef.h>

#include "ipc/msg.h"

typedef _Atomic uint64_t pgqrs_counter;

enum pgqrs_tally_kind { /* an outcome that is stored */
                        PGQRS_TALLY_DONE = 0,
                        PGQRS_TALLY_FAILED, /* for good */
                        PGQRS_TALLY_CANCELLED,
                        PGQRS_TALLY_RETRY,
                        PGQRS_TALLY_SNOOZE,
                        PGQRS_TALLY_RETURNED,
                        PGQRS_TALLY_COUNT
};
extern const char *const pgqrs_tally_names[PGQRS_TALLY_COUNT];

enum pgqrs_freed_kind { /* why a lease was taken back */
                        PGQRS_FREED_WORKER_ENDED = 0,
                        PGQRS_FREED_UNDELIVERED, /* it never reached its worker */
                        PGQRS_FREED_EXPIRED,     /* its worker is silent, here or on another host */
                        PGQRS_FREED_COUNT
};
extern const char *const pgqrs_freed_names[PGQRS_FREED_COUNT];

enum pgqrs_call_kind { /* what the broker asks of the store */
                       PGQRS_CALL_OTHER = 0,
                       PGQRS_CALL_EXCHANGE, /* outcomes in, leases out */
                       PGQRS_CALL_FLOW,     /* steps of workflows */
                       PGQRS_CALL_RENEW,    /* leases */
                       PGQRS_CALL_WORKER,   /* rows of workers */
                       PGQRS_CALL_HOUSEKEEPING,
                       PGQRS_CALL_SCHEDULE,
                       PGQRS_CALL_CLIENT, /* for another program */
                       PGQRS_CALL_COUNT
};
extern const char *const pgqrs_call_names[PGQRS_CALL_COUNT];

enum pgqrs_wakeup_kind { /* why the broker looks for jobs, outcomes apart */
                         PGQRS_WAKEUP_CHANGED = 0, /* somebody has committed */
                         PGQRS_WAKEUP_FALSE,       /* it was told so, and nobody had */
                         PGQRS_WAKEUP_DUE,         /* a delayed job is due */
                         PGQRS_WAKEUP_POLL,
                         PGQRS_WAKEUP_COUNT
};
extern const char *const pgqrs_wakeup_names[PGQRS_WAKEUP_COUNT];

/* ---- histograms ---- */

#define PGQRS_BOUNDS 11

enum pgqrs_histogram_kind {                          /* what is measured, in what unit */
                            PGQRS_HISTOGRAM_JOB = 0, /* times of jobs, us */
                            PGQRS_HISTOGRAM_CALL,    /* times of calls, us */
                            PGQRS_HISTOGRAM_SIZE,    /* how many */
                            PGQRS_HISTOGRAM_COUNT
};
extern const int64_t pgqrs_histogram_bounds[PGQRS_HISTOGRAM_COUNT][PGQRS_BOUNDS];

struct pgqrs_histogram {
    pgqrs_counter buckets[PGQRS_BOUNDS + 1]; /* up to the bound, and above the one before */
    pgqrs_counter sum;
};

/* ---- the page ---- */

struct pgqrs_queue_tally {
    pgqrs_counter settled[PGQRS_TALLY_COUNT];
    pgqrs_counter leases_lost; /* outcomes that were refused */
    pgqrs_counter leases_freed[PGQRS_FREED_COUNT];
    struct pgqrs_histogram waited, ran;
};

/* Outcomes that were sent to the store: a broker counts one that comes a second time, from a worker
 * that was not told, if the one before it could not. Only brokers look here. */
#define PGQRS_TALLY_SENT 4096 /* as many are remembered; 2 to the n-th */

struct pgqrs_tally_sent {
    int64_t message_id;
    uint32_t attempt;
    uint32_t known; /* 1: what came of it is, and it is counted */
};

#define PGQRS_TALLY_PLACES (PGQRS_QUEUES_MAX + 1)
#define PGQRS_TALLY_NO_PLACE PGQRS_QUEUES_MAX /* of queues for which there is none */

struct pgqrs_tally_page {
    struct pgqrs_histogram calls[PGQRS_CALL_COUNT];
    pgqrs_counter errors[PGQRS_CALL_COUNT];
    struct pgqrs_histogram commits, flows; /* what was stored or leased in a transaction */
    pgqrs_counter wakeups[PGQRS_WAKEUP_COUNT];
    uint64_t sent_count; /* of all time */
    struct pgqrs_tally_sent sent[PGQRS_TALLY_SENT];
    struct pgqrs_queue_tally queues[PGQRS_TALLY_PLACES];
};

static inline uint64_t pgqrs_counted(const pgqrs_counter *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static inline void pgqrs_count(pgqrs_counter *counter, uint64_t n)
{
    atomic_store_explicit(counter, pgqrs_counted(counter) + n, memory_order_relaxed);
}

/* A value below 0 is 0. */
void pgqrs_histogram_add(struct pgqrs_histogram *h, enum pgqrs_histogram_kind kind, int64_t value);

#endif
