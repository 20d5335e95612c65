/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/tally_page.h"

const char *const pgqrs_tally_names[PGQRS_TALLY_COUNT] = {
    [PGQRS_TALLY_DONE] = "done",           [PGQRS_TALLY_FAILED] = "failed",
    [PGQRS_TALLY_CANCELLED] = "cancelled", [PGQRS_TALLY_RETRY] = "retry",
    [PGQRS_TALLY_SNOOZE] = "snooze",       [PGQRS_TALLY_RETURNED] = "returned",
};

const char *const pgqrs_freed_names[PGQRS_FREED_COUNT] = {
    [PGQRS_FREED_WORKER_ENDED] = "worker_ended",
    [PGQRS_FREED_UNDELIVERED] = "undelivered",
    [PGQRS_FREED_EXPIRED] = "expired",
};

const char *const pgqrs_call_names[PGQRS_CALL_COUNT] = {
    [PGQRS_CALL_OTHER] = "other",       [PGQRS_CALL_EXCHANGE] = "exchange",
    [PGQRS_CALL_FLOW] = "flow",         [PGQRS_CALL_RENEW] = "renew",
    [PGQRS_CALL_WORKER] = "worker",     [PGQRS_CALL_HOUSEKEEPING] = "housekeeping",
    [PGQRS_CALL_SCHEDULE] = "schedule", [PGQRS_CALL_CLIENT] = "client",
};

const char *const pgqrs_wakeup_names[PGQRS_WAKEUP_COUNT] = {
    [PGQRS_WAKEUP_CHANGED] = "changed",
    [PGQRS_WAKEUP_FALSE] = "false",
    [PGQRS_WAKEUP_DUE] = "due",
    [PGQRS_WAKEUP_POLL] = "poll",
};

#define MS INT64_C(1000)
#define S (1000 * MS)

const int64_t pgqrs_histogram_bounds[PGQRS_HISTOGRAM_COUNT][PGQRS_BOUNDS] = {
    [PGQRS_HISTOGRAM_JOB] = {MS, 5 * MS, 25 * MS, 100 * MS, 500 * MS, S, 5 * S, 30 * S, 120 * S,
                             600 * S, 3600 * S},
    [PGQRS_HISTOGRAM_CALL] = {100, 250, 500, MS, 2500, 5 * MS, 10 * MS, 50 * MS, 250 * MS, S,
                              10 * S},
    [PGQRS_HISTOGRAM_SIZE] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024},
};

void pgqrs_histogram_add(struct pgqrs_histogram *h, enum pgqrs_histogram_kind kind, int64_t value)
{
    const int64_t *bounds = pgqrs_histogram_bounds[kind];
    size_t i = 0;
    while (i < PGQRS_BOUNDS && value > bounds[i]) {
        i++;
    }
    pgqrs_count(&h->sum, value < 0 ? 0 : (uint64_t)value);
    pgqrs_count(&h->buckets[i], 1);
}
