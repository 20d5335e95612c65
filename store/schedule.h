/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_SCHEDULE_H
#define PGQRS_STORE_SCHEDULE_H

/*
 * Schedules: jobs and workflow runs at times that a cron expression names. The part of the store
 * contract (store/store.h, whose rules hold here too) that keeps them: pgqrsd_schedules, and
 * pgqrsd_schedule_ticks (schedule_id, tick_at; unique), which makes each tick fire once, however
 * many brokers race for it. Expressions and time zones are base/cron.h's; the store does not read
 * them. Rows of ticks older than the last 1000 of a schedule go.
 */

#include "store/store.h"

enum pgqrs_catch_up {                          /* ticks that passed while nobody was there */
                      PGQRS_CATCH_UP_SKIP = 0, /* none of them fires */
                      PGQRS_CATCH_UP_ONCE,     /* the last of them fires */
                      PGQRS_CATCH_UP_ALL,      /* each fires */
                      PGQRS_CATCH_UP_COUNT
};
enum pgqrs_overlap {                          /* the message of an earlier tick has not ended */
                     PGQRS_OVERLAP_ALLOW = 0, /* fires all the same */
                     PGQRS_OVERLAP_SKIP,      /* the tick is recorded without a message */
                     PGQRS_OVERLAP_COUNT
};

struct pgqrs_schedule {
    int64_t id;
    char *name; /* unique, 1 to 255 bytes */
    char *queue;
    int64_t queue_id;
    char *cron, *zone;
    char *payload; /* JSON; of a workflow's queue: wrapped */
    int32_t priority;
    enum pgqrs_catch_up catch_up;
    enum pgqrs_overlap overlap;
    bool from_config; /* made by a configuration, which may change and delete it */
    int64_t created_at_us, paused_at_us; /* 0: not paused */
    int64_t next_at_us;                  /* the next tick */
    int64_t last_at_us, last_message_id; /* the last tick that fired; 0: none */
};

struct pgqrs_schedule_list {
    struct pgqrs_schedule *items;
    size_t count;
};

#endif
