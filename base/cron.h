/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BASE_CRON_H
#define PGQRS_BASE_CRON_H

/*
 * Cron expressions, and when they are due in a time zone. docs/man/pgqrs-cron.5 has the syntax.
 * Nothing here keeps state: what is due follows from expression, zone and time alone.
 *
 * When the clocks of the zone change:
 * - An expression whose hour field begins with * or names all hours follows real time. It is due in
 *   each real minute that matches: in none of a gap (spring), in both of a time that occurs twice
 *   (autumn).
 * - Any other is due once for each local time that it names. One that a gap leaves out is due at
 *   the first instant after the gap, together with others of the same gap; one that occurs twice
 *   is due the first time.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/timezone.h"

#define PGQRS_CRON_YEARS 10 /* how far pgqrs_cron_next looks ahead */

/* Sets of numbers: bit n is set when the expression has n. */
struct pgqrs_cron {
    uint64_t minutes;
    uint32_t hours, days, months;
    uint32_t weekdays;      /* 0 is Sunday */
    bool either_day;        /* a day of days or of weekdays, not of both */
    bool follows_real_time; /* see above */
    int64_t every_us;       /* above 0: at multiples of this since 1970; the rest is not used */
};

/* The error names the field, what was found and what was expected. */
int pgqrs_cron_parse(const char *text, struct pgqrs_cron *cron_out,
                     struct pgqrs_error *err) PGQRS_MUST_CHECK;

/*
 * The first time after after_us when the expression is due: microseconds since 1970 UTC, at the
 * beginning of a minute of the zone, or the end of a gap. A null zone is UTC. after_us is from 1970
 * to 9999. PGQRS_ERR_NOT_FOUND when there is none within PGQRS_CRON_YEARS, which happens to a
 * 29 February that has to be a certain weekday.
 */
int pgqrs_cron_next(const struct pgqrs_cron *cron, const struct pgqrs_timezone *zone,
                    int64_t after_us, int64_t *next_us_out,
                    struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
