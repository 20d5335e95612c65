/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <stdlib.h>
#include <string.h>

struct pgqrs_bytes pgqrs_sqlite_bytes(sqlite3_stmt *stmt, int column)
{
    const char *data = (const char *)sqlite3_column_text(stmt, column);
    return (struct pgqrs_bytes){.data = data, .len = (size_t)sqlite3_column_bytes(stmt, column)};
}

static int two(const char *at, bool *digits)
{
    unsigned tens = (unsigned)at[0] - '0';
    unsigned ones = (unsigned)at[1] - '0';
    *digits = *digits && tens <= 9 && ones <= 9;
    return (int)(tens * 10 + ones);
}

/* Days since 1970-01-01 of a date of the Gregorian calendar, counting years from March. */
static int64_t days_of(int year, int month, int day)
{
    int y = month > 2 ? year : year - 1;
    int m = month > 2 ? month - 3 : month + 9;
    int64_t in_year = (153 * m + 2) / 5 + day - 1;
    return 365 * (int64_t)y + y / 4 - y / 100 + y / 400 + in_year - 719468;
}

/* "YYYY-MM-DD HH:MM:SS" and perhaps ".ffffff": what every client writes. */
static bool parse_usual(struct pgqrs_bytes text, int64_t *wall_us_out)
{
    const char *t = text.data;
    if ((text.len != 19 && text.len != 26) || t[4] != '-' || t[7] != '-' || t[10] != ' ' ||
        t[13] != ':' || t[16] != ':' || (text.len == 26 && t[19] != '.')) {
        return false;
    }
    bool digits = true;
    int century = two(t, &digits);
    int year = two(t + 2, &digits);
    int month = two(t + 5, &digits);
    int day = two(t + 8, &digits);
    int hours = two(t + 11, &digits);
    int minutes = two(t + 14, &digits);
    int seconds = two(t + 17, &digits);
    int us = 0;
    for (size_t i = 20; i < text.len; i += 2) {
        us = us * 100 + two(t + i, &digits);
    }
    if (!digits || month < 1 || month > 12 || day < 1 || day > 31) {
        return false;
    }
    int64_t minute = (days_of(century * 100 + year, month, day) * 24 + hours) * 60 + minutes;
    *wall_us_out = (minute * 60 + seconds) * INT64_C(1000000) + us;
    return true;
}

void pgqrs_sqlite_time(sqlite3_stmt *stmt, int column, int64_t *wall_us_out)
{
    struct pgqrs_bytes text = pgqrs_sqlite_bytes(stmt, column);
    if (text.data == NULL || (!parse_usual(text, wall_us_out) &&
                              pgqrs_timestamp_parse(text.data, wall_us_out, NULL) < 0)) {
        *wall_us_out = 0;
    }
}

int pgqrs_sqlite_dup(sqlite3_stmt *stmt, int column, char **text_out, struct pgqrs_error *err)
{
    struct pgqrs_bytes text = pgqrs_sqlite_bytes(stmt, column);
    char *copy = NULL;
    if (text.data != NULL) {
        copy = malloc(text.len + 1);
        if (copy == NULL) {
            return pgqrs_error_memory(err);
        }
        memcpy(copy, text.data, text.len + 1);
    }
    *text_out = copy;
    return 0;
}

int64_t pgqrs_sqlite_after(int64_t wall_us, int64_t delay_ms)
{
    return delay_ms > (INT64_MAX - wall_us) / 1000 ? INT64_MAX : wall_us + delay_ms * 1000;
}

struct moment pgqrs_sqlite_moment(int64_t wall_us)
{
    struct moment moment = {.us = wall_us};
    pgqrs_timestamp_format(wall_us, moment.text);
    return moment;
}
