/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BROKER_SCHEDULE_PLAN_H
#define PGQRS_BROKER_SCHEDULE_PLAN_H

/*
 * Which ticks of a schedule fire now, and when the next one comes. Nothing here looks at a clock.
 * Several brokers may decide about the same schedule: the store lets one of them carry it out.
 */

#include "store/schedule.h"

/* Later than this a tick was missed, and catch_up decides. */
#define PGQRS_TICK_LATE_US INT64_C(60000000)

struct pgqrs_schedule_plan {
    int64_t ticks[PGQRS_TICKS_MAX]; /* upwards; the last ones when there are more */
    size_t count;
    int64_t next_us; /* PGQRS_SCHEDULE_NEVER_US: there is none */
};

int pgqrs_schedule_plan(const struct pgqrs_schedule *schedule, int64_t now_us,
                        struct pgqrs_schedule_plan *plan, struct pgqrs_error *err) PGQRS_MUST_CHECK;

struct pgqrs_schedule_look {
    int64_t now_us;             /* in: 0, the store's clock; out: what it was */
    int64_t next_us;            /* out: look again then; 0: nothing is planned */
    size_t fired, messages;     /* out: schedules that this call has fired, what it enqueued */
    struct pgqrs_error trouble; /* out: with one of them, if any, which is put off */
    struct pgqrs_schedule_plan plan;
};

/* Fires what is due; up to a limit, then next_us is in the past. */
int pgqrs_schedules_look(struct pgqrs_store *store, struct pgqrs_schedule_look *look,
                         struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
