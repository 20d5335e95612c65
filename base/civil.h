/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BASE_CIVIL_H
#define PGQRS_BASE_CIVIL_H

/* The Gregorian calendar, extended to all years. A day is its number since 1970-01-01. */

#include <stdint.h>

#define PGQRS_DAY_S INT64_C(86400)

struct pgqrs_civil {
    int64_t year;
    int month; /* 1 to 12 */
    int day;   /* 1 to 31 */
};

int64_t pgqrs_civil_to_day(int64_t year, int month, int day);
struct pgqrs_civil pgqrs_civil_from_day(int64_t day);
int pgqrs_civil_month_length(int64_t year, int month);
int pgqrs_civil_weekday(int64_t day); /* 0 is Sunday */
/* Rounds towards minus infinity; divisor above 0. */
int64_t pgqrs_floor_div(int64_t value, int64_t divisor);

#endif
