/* SPDX-License-Identifier: Apache-2.0 */
#include "base/civil.h"

#include <stdbool.h>

#define CYCLE_YEARS 400 /* after which dates and weekdays repeat */
#define CYCLE_DAYS 146097
#define EPOCH_DAY 719162 /* of 1970-01-01, counted from 0001-01-01 */

static const int days_before[2][14] = {
    {0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365},
    {0, 0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335, 366}};

int64_t pgqrs_floor_div(int64_t value, int64_t divisor)
{
    return value / divisor - (value % divisor < 0);
}

static bool is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % CYCLE_YEARS == 0);
}

static int64_t first_day(int64_t year)
{
    int64_t past = year - 1;
    return past * 365 + pgqrs_floor_div(past, 4) - pgqrs_floor_div(past, 100) +
           pgqrs_floor_div(past, CYCLE_YEARS) - EPOCH_DAY;
}

int64_t pgqrs_civil_to_day(int64_t year, int month, int day)
{
    return first_day(year) + days_before[is_leap(year)][month] + day - 1;
}

struct pgqrs_civil pgqrs_civil_from_day(int64_t day)
{
    /* At most one year off. */
    int64_t cycle = pgqrs_floor_div(day, CYCLE_DAYS);
    int64_t year =
        1970 + cycle * CYCLE_YEARS + (day - cycle * CYCLE_DAYS) * CYCLE_YEARS / CYCLE_DAYS;
    while (first_day(year) > day) {
        year--;
    }
    while (first_day(year + 1) <= day) {
        year++;
    }
    int rest = (int)(day - first_day(year));
    const int *before = days_before[is_leap(year)];
    int month = rest / 31 + 1;
    while (before[month + 1] <= rest) {
        month++;
    }
    return (struct pgqrs_civil){.year = year, .month = month, .day = rest - before[month] + 1};
}

int pgqrs_civil_month_length(int64_t year, int month)
{
    const int *before = days_before[is_leap(year)];
    return before[month + 1] - before[month];
}

int pgqrs_civil_weekday(int64_t day)
{
    int weekday = (int)((day + 4) % 7); /* 1970-01-01 was a Thursday */
    return weekday < 0 ? weekday + 7 : weekday;
}
