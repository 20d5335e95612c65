/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define US_PER_S INT64_C(1000000)
#define US_LAST (INT64_C(253402300800) * US_PER_S - 1) /* the end of year 9999 */

static int64_t fixed_wall_us;

static int64_t now_us(clockid_t clock)
{
    struct timespec t;
    (void)clock_gettime(clock, &t); /* can not fail for these two clocks */
    return t.tv_sec * US_PER_S + t.tv_nsec / 1000;
}

int64_t pgqrs_mono_us(void)
{
    return now_us(CLOCK_MONOTONIC);
}

int64_t pgqrs_mono_ms(void)
{
    return now_us(CLOCK_MONOTONIC) / 1000;
}

int64_t pgqrs_wall_us(void)
{
    return fixed_wall_us != 0 ? fixed_wall_us : now_us(CLOCK_REALTIME);
}

void pgqrs_clock_set_wall(int64_t wall_us)
{
    fixed_wall_us = wall_us;
}

void pgqrs_timestamp_format(int64_t wall_us, char out[PGQRS_TIMESTAMP_SIZE])
{
    wall_us = wall_us < 0 ? 0 : wall_us > US_LAST ? US_LAST : wall_us;
    time_t seconds = (time_t)(wall_us / US_PER_S);
    struct tm utc;
    (void)gmtime_r(&seconds, &utc);
    (void)strftime(out, PGQRS_TIMESTAMP_SIZE, "%Y-%m-%d %H:%M:%S", &utc);
    int fraction = (int)(wall_us % US_PER_S);
    out[19] = '.';
    for (int i = 25; i > 19; i--, fraction /= 10) {
        out[i] = (char)('0' + fraction % 10);
    }
    out[26] = 0;
}

static bool has_shape(const char *text)
{
    static const char shape[] = "dddd-dd-dd dd:dd:dd";
    for (size_t i = 0; shape[i] != 0; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';
        if (shape[i] == 'd' ? !digit : text[i] != shape[i]) {
            return false; /* also at the end of a text that is too short */
        }
    }
    return true;
}

int pgqrs_timestamp_parse(const char *text, int64_t *wall_us_out, struct pgqrs_error *err)
{
    struct tm utc = {0};
    /* Times are compared as text, so one that is written in another width is none. */
    const char *end = has_shape(text) ? strptime(text, "%Y-%m-%d %H:%M:%S", &utc) : NULL;
    int64_t fraction = 0;
    if (end != NULL && *end == '.') {
        int64_t unit = US_PER_S / 10;
        for (end++; *end >= '0' && *end <= '9'; end++, unit /= 10) {
            fraction += (*end - '0') * unit;
        }
    }
    if (end == NULL || *end != 0) {
        return pgqrs_error_set(err, PGQRS_ERR_FAILED,
                               "invalid timestamp \"%.40s\", expected YYYY-MM-DD HH:MM:SS[.ffffff]",
                               text);
    }
    *wall_us_out = (int64_t)timegm(&utc) * US_PER_S + fraction;
    return 0;
}
