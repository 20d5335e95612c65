/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BASE_UNITS_H
#define PGQRS_BASE_UNITS_H

/* Durations, sizes and whole numbers as people write them, in the configuration and on the command
 * line. */

#include <stdint.h>

#include "base/error.h"

/*
 * A whole number and a unit, without space: ms, s, m, h or d, such as 250ms or 5m.
 * "0" needs no unit. The error names what was found and what was expected.
 */
int pgqrs_duration_parse(const char *text, int64_t *ms_out,
                         struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* The shortest form that parses back to the same value, such as 90s or 2h. */
void pgqrs_duration_format(int64_t ms, char *out, size_t size);
/* Bytes: a whole number and KiB, MiB, GiB or B. "0" needs no unit. */
int pgqrs_size_parse(const char *text, int64_t *bytes_out,
                     struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_size_format(int64_t bytes, char *out, size_t size);
/* A decimal whole number from min to max, and nothing else. */
int pgqrs_integer_parse(const char *text, int64_t min, int64_t max, int64_t *value_out,
                        struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
