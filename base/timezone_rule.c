/* SPDX-License-Identifier: Apache-2.0 */
#include "base/timezone_rule.h"

#include <ctype.h>
#include <stddef.h>

#include "base/civil.h"

#define HOUR_S 3600
#define OFFSET_HOURS_MAX 24
#define CHANGE_HOURS_MAX 167
#define CHANGE_DEFAULT_S (2 * HOUR_S)

/* ---- reading: each function moves *at behind what it has read, and tells whether it could ---- */

static bool skip_char(const char **at, char c)
{
    if (**at != c) {
        return false;
    }
    (*at)++;
    return true;
}

static bool skip_name(const char **at)
{
    bool quoted = skip_char(at, '<');
    const char *begin = *at;
    while (isalpha((unsigned char)**at) ||
           (quoted && (isdigit((unsigned char)**at) || **at == '+' || **at == '-'))) {
        (*at)++;
    }
    return *at - begin >= 3 && (!quoted || skip_char(at, '>'));
}

static bool read_number(const char **at, int min, int max, int *value_out)
{
    int value = 0;
    const char *begin = *at;
    for (; isdigit((unsigned char)**at) && value <= max; (*at)++) {
        value = value * 10 + (**at - '0');
    }
    *value_out = value;
    return *at > begin && value >= min && value <= max;
}

/* [+-]h[:mm[:ss]] */
static bool read_time(const char **at, int hours_max, int32_t *seconds_out)
{
    int hours = 0;
    int minutes = 0;
    int seconds = 0;
    bool negative = skip_char(at, '-');
    if (!negative) {
        (void)skip_char(at, '+');
    }
    bool ok = read_number(at, 0, hours_max, &hours);
    if (ok && skip_char(at, ':')) {
        ok = read_number(at, 0, 59, &minutes);
        if (ok && skip_char(at, ':')) {
            ok = read_number(at, 0, 59, &seconds);
        }
    }
    int32_t sum = hours * HOUR_S + minutes * 60 + seconds;
    *seconds_out = negative ? -sum : sum;
    return ok;
}

/* POSIX counts offsets to the west. */
static bool read_offset(const char **at, int32_t *offset_out)
{
    bool ok = read_time(at, OFFSET_HOURS_MAX, offset_out);
    *offset_out = -*offset_out;
    return ok && *offset_out >= PGQRS_TIMEZONE_OFFSET_MIN &&
           *offset_out <= PGQRS_TIMEZONE_OFFSET_MAX;
}

static bool read_change(const char **at, struct pgqrs_timezone_change *change)
{
    bool ok;
    change->time_s = CHANGE_DEFAULT_S;
    if (skip_char(at, 'M')) {
        change->kind = PGQRS_CHANGE_WEEKDAY;
        ok = read_number(at, 1, 12, &change->month) && skip_char(at, '.') &&
             read_number(at, 1, 5, &change->week) && skip_char(at, '.') &&
             read_number(at, 0, 6, &change->day);
    } else if (skip_char(at, 'J')) {
        change->kind = PGQRS_CHANGE_JULIAN;
        ok = read_number(at, 1, 365, &change->day);
    } else {
        change->kind = PGQRS_CHANGE_DAY;
        ok = read_number(at, 0, 365, &change->day);
    }
    return ok && (!skip_char(at, '/') || read_time(at, CHANGE_HOURS_MAX, &change->time_s));
}

static bool read_rule(const char **at, struct pgqrs_timezone_rule *rule)
{
    if (!skip_name(at) || !read_offset(at, &rule->std_offset_s)) {
        return false;
    }
    if (**at == 0) {
        return true;
    }
    rule->has_dst = true;
    rule->dst_offset_s = rule->std_offset_s + HOUR_S;
    return skip_name(at) && (**at == ',' || read_offset(at, &rule->dst_offset_s)) &&
           skip_char(at, ',') && read_change(at, &rule->to_dst) && skip_char(at, ',') &&
           read_change(at, &rule->to_std) && **at == 0;
}

int pgqrs_timezone_rule_parse(const char *text, struct pgqrs_timezone_rule *rule_out,
                              struct pgqrs_error *err)
{
    struct pgqrs_timezone_rule rule = {0};
    const char *at = text;
    if (!read_rule(&at, &rule)) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "found \"%.60s\", expected a rule such as "
                               "CET-1CEST,M3.5.0,M10.5.0/3",
                               text);
    }
    *rule_out = rule;
    return 0;
}

/* ---- asking ---- */

static int64_t day_of_change(const struct pgqrs_timezone_change *change, int64_t year)
{
    int64_t first = pgqrs_civil_to_day(year, 1, 1);
    switch (change->kind) {
    case PGQRS_CHANGE_JULIAN:
        return first + change->day - 1 +
               (change->day > 59 && pgqrs_civil_month_length(year, 2) == 29);
    case PGQRS_CHANGE_DAY:
        return first + change->day;
    case PGQRS_CHANGE_WEEKDAY:
        break;
    }
    first = pgqrs_civil_to_day(year, change->month, 1);
    int day = (change->day - pgqrs_civil_weekday(first) + 7) % 7 + (change->week - 1) * 7;
    return first + (day < pgqrs_civil_month_length(year, change->month) ? day : day - 7);
}

/* Moves the borders of the span closer to utc_s when this change is closer. */
static void narrow(struct pgqrs_timezone_span *span, int64_t utc_s, int64_t change_s,
                   int32_t offset_s)
{
    if (change_s > utc_s) {
        span->until_s = change_s < span->until_s ? change_s : span->until_s;
    } else if (change_s >= span->from_s) {
        span->from_s = change_s;
        span->offset_s = offset_s;
    }
}

struct pgqrs_timezone_span pgqrs_timezone_rule_at(const struct pgqrs_timezone_rule *rule,
                                                  int64_t utc_s)
{
    struct pgqrs_timezone_span span = {.from_s = PGQRS_TIMEZONE_FROM_EVER,
                                       .until_s = PGQRS_TIMEZONE_FOR_EVER,
                                       .offset_s = rule->std_offset_s};
    if (!rule->has_dst) {
        return span;
    }
    /* A change may be up to a week outside of its year. Of two at the same time the later year's
     * counts: that is how a rule says that it is always summer. */
    int64_t year = pgqrs_civil_from_day(pgqrs_floor_div(utc_s, PGQRS_DAY_S)).year;
    for (int64_t y = year - 2; y <= year + 2; y++) {
        narrow(&span, utc_s,
               day_of_change(&rule->to_dst, y) * PGQRS_DAY_S + rule->to_dst.time_s -
                   rule->std_offset_s,
               rule->dst_offset_s);
        narrow(&span, utc_s,
               day_of_change(&rule->to_std, y) * PGQRS_DAY_S + rule->to_std.time_s -
                   rule->dst_offset_s,
               rule->std_offset_s);
    }
    return span;
}
