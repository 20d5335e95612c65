/* SPDX-License-Identifier: Apache-2.0 */
#include "base/units.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit { /* the largest first; one without a name ends them */
    const char *name;
    int64_t factor;
};
static const struct unit durations[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000},
                                        {"s", 1000},     {"ms", 1},      {0}};
static const struct unit sizes[] = {
    {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {0}};

#define DURATION_MAX (INT64_MAX / 1000) /* so that it can be microseconds */

static int parse(const char *text, const struct unit *units, int64_t max, int64_t *value_out)
{
    char *end;
    if (!isdigit((unsigned char)text[0])) {
        return -1;
    }
    errno = 0;
    int64_t value = strtoll(text, &end, 10);
    if (errno != 0) {
        return -1;
    }
    if (value == 0 && *end == 0) {
        *value_out = 0;
        return 0;
    }
    for (const struct unit *unit = units; unit->name != NULL; unit++) {
        if (strcmp(end, unit->name) == 0 && value <= max / unit->factor) {
            *value_out = value * unit->factor;
            return 0;
        }
    }
    return -1;
}

static void format(int64_t value, const struct unit *units, const char *zero, char *out,
                   size_t size)
{
    for (const struct unit *unit = units; value != 0 && unit->name != NULL; unit++) {
        if (value % unit->factor == 0) {
            (void)snprintf(out, size, "%" PRId64 "%s", value / unit->factor, unit->name);
            return;
        }
    }
    (void)snprintf(out, size, "%s", zero);
}

int pgqrs_duration_parse(const char *text, int64_t *ms_out, struct pgqrs_error *err)
{
    if (parse(text, durations, DURATION_MAX, ms_out) < 0) {
        return pgqrs_error_set(
            err, PGQRS_ERR_INVALID,
            "found \"%.40s\", expected a duration such as 250ms, 30s, 5m, 2h or 1d", text);
    }
    return 0;
}

void pgqrs_duration_format(int64_t ms, char *out, size_t size)
{
    format(ms, durations, "0s", out, size);
}

int pgqrs_size_parse(const char *text, int64_t *bytes_out, struct pgqrs_error *err)
{
    if (parse(text, sizes, INT64_MAX, bytes_out) < 0) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "found \"%.40s\", expected a size such as 512KiB, 64MiB or 2GiB",
                               text);
    }
    return 0;
}

void pgqrs_size_format(int64_t bytes, char *out, size_t size)
{
    format(bytes, sizes, "0", out, size);
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
