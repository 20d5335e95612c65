/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BASE_CLOCK_H
#define PGQRS_BASE_CLOCK_H

/*
 * The two clocks, and the text form of a stored time. Deadlines use the monotonic clock in
 * milliseconds; stored times are wall-clock microseconds since 1970 UTC. Thread-safe, except for
 * pgqrs_clock_set_wall, which tests call before they start a thread.
 */

#include <stdint.h>

#include "base/error.h"

/* "2026-01-31 09:05:07.123456" and the end: the only form that pgqrs clients read and compare. */
#define PGQRS_TIMESTAMP_SIZE 27

int64_t pgqrs_mono_ms(void);
int64_t pgqrs_mono_us(void);
int64_t pgqrs_wall_us(void);
/* Fixes the wall clock at a time; 0 lets it run again. */
void pgqrs_clock_set_wall(int64_t wall_us);

/* wall_us from year 1970 to 9999; out is always terminated. */
void pgqrs_timestamp_format(int64_t wall_us, char out[PGQRS_TIMESTAMP_SIZE]);
/* Accepts seconds or any fraction, space separated, without a zone. */
int pgqrs_timestamp_parse(const char *text, int64_t *wall_us_out,
                          struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
