/* SPDX-License-Identifier: Apache-2.0 */
#include "base/units.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int64_t ms;
} units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

#define UNIT_COUNT (sizeof units / sizeof *units)

static int bad_duration(const char *text, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                           "found \"%.40s\", expected a duration such as 250ms, 30s, 5m, 2h or 1d",
                           text);
}

int pgqrs_duration_parse(const char *text, int64_t *ms_out, struct pgqrs_error *err)
{
    if (!isdigit((unsigned char)text[0])) {
        return bad_duration(text, err);
    }
    char *end;
    errno = 0;
    int64_t value = strtoll(text, &end, 10);
    if (errno != 0) {
        return bad_duration(text, err);
    }
    if (value == 0 && *end == 0) {
        *ms_out = 0;
        return 0;
    }
    for (size_t i = 0; i < UNIT_COUNT; i++) {
        if (strcmp(end, units[i].name) == 0 && value <= INT64_MAX / 1000 / units[i].ms) {
            *ms_out = value * units[i].ms;
            return 0;
        }
    }
    return bad_duration(text, err);
}

void pgqrs_duration_format(int64_t ms, char *out, size_t size)
{
    for (size_t i = 0; i < UNIT_COUNT; i++) {
        if (ms % units[i].ms == 0 && (ms != 0 || units[i].ms == 1000)) {
            (void)snprintf(out, size, "%" PRId64 "%s", ms / units[i].ms, units[i].name);
            return;
        }
    }
    (void)snprintf(out, size, "0s");
}

int pgqrs_integer_parse(const char *text, int64_t min, int64_t max, int64_t *value_out,
                        struct pgqrs_error *err)
{
    char *end;
    errno = 0;
    int64_t value = strtoll(text, &end, 10);
    bool number =
        (isdigit((unsigned char)text[0]) || (text[0] == '-' && isdigit((unsigned char)text[1]))) &&
        *end == 0 && errno == 0;
    if (!number || value < min || value > max) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "found \"%.40s\", expected a whole number from %" PRId64
                               " to %" PRId64,
                               text, min, max);
    }
    *value_out = value;
    return 0;
}
