/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CLI_TOP_RATE_H
#define PGQRS_CLI_TOP_RATE_H

#include <stddef.h>
#include <stdint.h>

/* A count that is looked at again and again, and how fast it grew over the last seconds. Zeroed at
 * the start. */
#define PGQRS_TOP_SAMPLES 8

struct pgqrs_top_rate {
    struct pgqrs_top_sample {
        int64_t ms, value;
    } samples[PGQRS_TOP_SAMPLES]; /* oldest first */
    size_t count;
};

/* A value below the last one is that of somebody who has begun anew. */
void pgqrs_top_rate_add(struct pgqrs_top_rate *rate, int64_t ms, int64_t value);
/* -1: not known yet. */
double pgqrs_top_rate_per_s(const struct pgqrs_top_rate *rate);

#endif
