/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cron.h"

#include "base/civil.h"

#define US_PER_S 1000000
#define MINUTE_S 60
#define HOUR_MINUTES 60
#define DAY_MINUTES 1440
#define AFTER_MAX_US (INT64_C(253402300800) * US_PER_S) /* year 10000 */
#define AHEAD_S (PGQRS_CRON_YEARS * 366 * PGQRS_DAY_S)
/* Local times of spans that end longer ago than this lie behind, whatever their offsets. */
#define OFFSETS_APART_S (PGQRS_TIMEZONE_OFFSET_MAX - PGQRS_TIMEZONE_OFFSET_MIN)

/* ---- on a calendar without changes of the clock ---- */

static int lowest(uint64_t set)
{
    return __builtin_ctzll(set);
}

/* Without those below first. */
static uint64_t from(uint64_t set, int first)
{
    return set >> first << first;
}

/* The first minute of a day at or after one of it, or -1. */
static int minute_of_day(const struct pgqrs_cron *cron, int minute)
{
    int hour = minute / HOUR_MINUTES;
    uint64_t minutes = from(cron->minutes, minute % HOUR_MINUTES);
    if ((cron->hours >> hour & 1) != 0 && minutes != 0) {
        return hour * HOUR_MINUTES + lowest(minutes);
    }
    uint64_t hours = from(cron->hours, hour + 1);
    return hours == 0 ? -1 : lowest(hours) * HOUR_MINUTES + lowest(cron->minutes);
}

/* The days of a month whose first day is given, as a set. */
static uint64_t days_of_month(const struct pgqrs_cron *cron, struct pgqrs_civil date, int64_t first)
{
    int weekday = pgqrs_civil_weekday(first);
    uint64_t week =
        ((uint64_t)cron->weekdays >> weekday | (uint64_t)cron->weekdays << (7 - weekday)) & 0x7f;
    uint64_t weekdays = (week | week << 7 | week << 14 | week << 21 | week << 28) << 1;
    uint64_t days = cron->either_day ? cron->days | weekdays : cron->days & weekdays;
    return days & ((UINT64_C(2) << pgqrs_civil_month_length(date.year, date.month)) - 1);
}

/* The first day that matches at or after one, or one after last. */
static int64_t next_day(const struct pgqrs_cron *cron, int64_t day, int64_t last)
{
    while (day <= last) {
        struct pgqrs_civil date = pgqrs_civil_from_day(day);
        int64_t first = day - date.day + 1;
        if ((cron->months >> date.month & 1) != 0) {
            uint64_t days = from(days_of_month(cron, date, first), date.day);
            if (days != 0) {
                return first + lowest(days) - 1;
            }
        }
        day = first + pgqrs_civil_month_length(date.year, date.month);
    }
    return day;
}

/* The first local time that matches at or after local_s, or one after last_s. */
static int64_t next_local(const struct pgqrs_cron *cron, int64_t local_s, int64_t last_s)
{
    int64_t minute = pgqrs_floor_div(local_s + MINUTE_S - 1, MINUTE_S);
    int64_t day = pgqrs_floor_div(minute, DAY_MINUTES);
    int64_t last = pgqrs_floor_div(last_s, PGQRS_DAY_S);
    int64_t match = next_day(cron, day, last);
    int found = minute_of_day(cron, match == day ? (int)(minute - day * DAY_MINUTES) : 0);
    if (found < 0) { /* too late on the first day */
        match = next_day(cron, day + 1, last);
        found = minute_of_day(cron, 0);
    }
    return match * PGQRS_DAY_S + (int64_t)found * MINUTE_S;
}

/* ---- with them: the spans of a zone one after the other ---- */

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The local time that had been reached when the span began; ahead of its own after a change back.
 */
static int64_t reached_before(const struct pgqrs_timezone *zone,
                              const struct pgqrs_timezone_span *span)
{
    int64_t reached = PGQRS_TIMEZONE_FROM_EVER;
    int64_t until_s = span->from_s;
    while (until_s > PGQRS_TIMEZONE_FROM_EVER && until_s >= span->from_s - OFFSETS_APART_S) {
        struct pgqrs_timezone_span before = pgqrs_timezone_at(zone, until_s - 1);
        reached = later(reached, until_s + before.offset_s);
        until_s = before.from_s;
    }
    return reached;
}

/* Where in local time a span is searched from, for times not before earliest_s. */
static int64_t search_from(const struct pgqrs_cron *cron, const struct pgqrs_timezone_span *span,
                           int64_t reached, int64_t earliest_s)
{
    if (cron->follows_real_time) {
        return later(span->from_s, earliest_s) + span->offset_s;
    }
    /* At its very beginning, what a gap has left out counts too. */
    return span->from_s >= earliest_s ? reached : later(reached, earliest_s + span->offset_s);
}

static int next_of_fields(const struct pgqrs_cron *cron, const struct pgqrs_timezone *zone,
                          int64_t earliest_s, int64_t *next_s_out, struct pgqrs_error *err)
{
    int64_t limit_s = earliest_s + AHEAD_S;
    int64_t last_s = limit_s + PGQRS_TIMEZONE_OFFSET_MAX;
    struct pgqrs_timezone_span span = pgqrs_timezone_at(zone, earliest_s);
    int64_t reached = reached_before(zone, &span);
    int64_t start = INT64_MAX;
    int64_t match = INT64_MIN;
    for (; later(span.from_s, earliest_s) < limit_s; span = pgqrs_timezone_at(zone, span.until_s)) {
        int64_t searched = start;
        start = search_from(cron, &span, reached, earliest_s);
        if (start < searched || start > match) {
            match = next_local(cron, start, last_s);
        }
        if (match < span.until_s + span.offset_s) {
            int64_t found = later(match - span.offset_s, span.from_s);
            if (found < limit_s) {
                *next_s_out = found;
                return 0;
            }
            break;
        }
        reached = later(reached, span.until_s + span.offset_s);
    }
    return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "no time within %d years", PGQRS_CRON_YEARS);
}

int pgqrs_cron_next(const struct pgqrs_cron *cron, const struct pgqrs_timezone *zone,
                    int64_t after_us, int64_t *next_us_out, struct pgqrs_error *err)
{
    if (after_us < 0 || after_us >= AFTER_MAX_US) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID, "a time outside of years 1970 to 9999");
    }
    if (cron->every_us > 0) {
        *next_us_out = (after_us / cron->every_us + 1) * cron->every_us;
        return 0;
    }
    int64_t next_s = 0;
    if (next_of_fields(cron, zone, after_us / US_PER_S + 1, &next_s, err) < 0) {
        return -1;
    }
    *next_us_out = next_s * US_PER_S;
    return 0;
}
