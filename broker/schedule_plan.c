/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/schedule_plan.h"

#include <string.h>

#include "base/cron.h"

#define LOOK_MAX 20                  /* schedules that one look fires */
#define PUT_OFF_US INT64_C(60000000) /* of one whose expression or zone can not be read */

/* ---- ticks that have passed ---- */

struct walk {
    struct pgqrs_cron cron;
    struct pgqrs_timezone *zone;
    int64_t after_us, until_us; /* ticks after the first, up to and with the other */
    int64_t tick_us;            /* one that is known; 0: none */
};

/* The next tick, or PGQRS_SCHEDULE_NEVER_US. */
static int next_tick(const struct walk *w, int64_t after_us, int64_t *next_us_out,
                     struct pgqrs_error *err)
{
    int rc = pgqrs_cron_next(&w->cron, w->zone, after_us, next_us_out, err);
    if (rc < 0 && err->code == PGQRS_ERR_NOT_FOUND) {
        *next_us_out = PGQRS_SCHEDULE_NEVER_US;
        return 0;
    }
    return rc;
}

/* The last max ticks after from_us, in a ring. Returns how many there were. */
static int64_t walk_from(const struct walk *w, int64_t from_us, int64_t *ring, size_t max,
                         struct pgqrs_error *err)
{
    int64_t at_us = from_us;
    int64_t count = 0;
    if (w->tick_us != 0 && from_us < w->tick_us) {
        at_us = w->tick_us;
        ring[count++ % (int64_t)max] = at_us;
    }
    for (;;) {
        if (next_tick(w, at_us, &at_us, err) < 0) {
            return -1;
        }
        if (at_us > w->until_us) {
            return count;
        }
        ring[count++ % (int64_t)max] = at_us;
    }
}

/* The last max ticks, without a walk through all that a year has. */
static int last_ticks(const struct walk *w, int64_t *ticks, size_t max, size_t *count_out,
                      struct pgqrs_error *err)
{
    int64_t ring[PGQRS_TICKS_MAX] = {0};
    int64_t count;
    int64_t begin_us = w->tick_us != 0 ? w->tick_us - 1 : w->after_us;
    int64_t span_us = INT64_C(60000000);
    bool whole;
    do {
        whole = span_us >= w->until_us - begin_us;
        count = walk_from(w, whole ? begin_us : w->until_us - span_us, ring, max, err);
        if (count < 0) {
            return -1;
        }
        span_us *= 4;
    } while (!whole && count < (int64_t)max);
    size_t kept = count < (int64_t)max ? (size_t)count : max;
    for (size_t i = 0; i < kept; i++) {
        ticks[i] = ring[(count - (int64_t)kept + (int64_t)i) % (int64_t)max];
    }
    *count_out = kept;
    return 0;
}

/* ---- what fires ---- */

static int plan_with(const struct pgqrs_schedule *s, int64_t now_us, struct walk *w,
                     struct pgqrs_schedule_plan *plan, struct pgqrs_error *err)
{
    bool late = now_us - s->next_at_us <= PGQRS_TICK_LATE_US; /* and not away */
    size_t max = late || s->catch_up == PGQRS_CATCH_UP_ALL ? PGQRS_TICKS_MAX : 1;
    w->after_us = s->next_at_us;
    w->until_us = now_us;
    w->tick_us = s->planned ? s->next_at_us : 0;
    plan->count = 0;
    if (now_us >= s->next_at_us && last_ticks(w, plan->ticks, max, &plan->count, err) < 0) {
        return -1;
    }
    if (s->catch_up == PGQRS_CATCH_UP_SKIP && plan->count > 0 &&
        now_us - plan->ticks[0] > PGQRS_TICK_LATE_US) {
        plan->count = 0;
    }
    return next_tick(w, now_us > s->next_at_us ? now_us : s->next_at_us, &plan->next_us, err);
}

int pgqrs_schedule_plan(const struct pgqrs_schedule *schedule, int64_t now_us,
                        struct pgqrs_schedule_plan *plan, struct pgqrs_error *err)
{
    struct walk w = {0};
    if (pgqrs_cron_parse(schedule->cron, &w.cron, err) < 0 ||
        pgqrs_timezone_open(schedule->zone, &w.zone, err) < 0) {
        return pgqrs_error_prefix(err, "schedule \"%s\"", schedule->name);
    }
    int rc = plan_with(schedule, now_us, &w, plan, err);
    pgqrs_timezone_close(&w.zone);
    return rc < 0 ? pgqrs_error_prefix(err, "schedule \"%s\"", schedule->name) : 0;
}

/* ---- a look ---- */

static void note_next(struct pgqrs_schedule_look *look, int64_t next_us)
{
    if (look->next_us == 0 || next_us < look->next_us) {
        look->next_us = next_us;
    }
}

static int fire_one(struct pgqrs_store *store, const struct pgqrs_schedule *s,
                    struct pgqrs_schedule_look *look, struct pgqrs_error *err)
{
    bool planned = pgqrs_schedule_plan(s, look->now_us, &look->plan, &look->trouble) == 0;
    struct pgqrs_fire fire = {
        .schedule_id = s->id,
        .expected_us = s->next_at_us,
        .next_us = planned ? look->plan.next_us : look->now_us + PUT_OFF_US,
        .unplanned = !planned,
        .ticks = look->plan.ticks,
        .tick_count = planned ? look->plan.count : 0,
    };
    if (pgqrs_store_schedule_fire(store, &fire, err) < 0) {
        return -1;
    }
    look->fired += fire.fired_out;
    look->messages += fire.message_count_out;
    note_next(look, fire.next_us); /* or somebody else's, which is the same */
    return 0;
}

int pgqrs_schedules_look(struct pgqrs_store *store, struct pgqrs_schedule_look *look,
                         struct pgqrs_error *err)
{
    struct pgqrs_schedule_list due;
    look->fired = look->messages = 0;
    look->trouble = (struct pgqrs_error){0};
    if (pgqrs_store_schedule_due(store, look->now_us, LOOK_MAX, &due, &look->next_us, err) < 0) {
        return -1;
    }
    look->now_us = due.now_us;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < due.count; i++) {
        rc = fire_one(store, &due.items[i], look, err);
    }
    pgqrs_schedule_list_fini(&due);
    return rc;
}
