/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BASE_RATE_LIMIT_H
#define PGQRS_BASE_RATE_LIMIT_H

/*
 * A bucket of tokens, one a message, that fills at a steady rate. Belongs to one thread, like the
 * handle that holds it. Times are monotonic microseconds (base/clock.h), given by the caller.
 *
 * A batch larger than the bucket goes when the bucket is full, and leaves a debt that those who
 * come after it wait for, so that no batch waits for ever and the rate is kept. Fractions of tokens
 * are exact: rates and times are whole numbers, and so is what the bucket counts.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define PGQRS_RATE_BURST 50 /* pgqrs' max_enqueue_burst */

struct pgqrs_rate_limit {
    uint32_t per_second; /* 0: no limit */
    uint32_t burst;      /* what the bucket holds, 1 or more */
    int64_t level;       /* in millionths of a token; below 0: debt */
    int64_t at_us;       /* when the level was right */
};

/* Full. per_second 0: no limit; burst 0: PGQRS_RATE_BURST. */
void pgqrs_rate_limit_init(struct pgqrs_rate_limit *limit, uint32_t per_second, uint32_t burst,
                           int64_t now_us);
/*
 * Takes count tokens when they may be taken now and returns 0. Otherwise takes none and returns
 * after how many microseconds they may be, unless somebody else takes some before.
 */
int64_t pgqrs_rate_limit_try(struct pgqrs_rate_limit *limit, uint64_t count, int64_t now_us);
/* Takes count tokens, and returns how many microseconds the caller has to wait before it acts. */
int64_t pgqrs_rate_limit_acquire(struct pgqrs_rate_limit *limit, uint64_t count, int64_t now_us);
/* Gives back tokens whose messages were not stored. */
void pgqrs_rate_limit_refund(struct pgqrs_rate_limit *limit, uint64_t count, int64_t now_us);

struct pgqrs_rate_status {
    int64_t available;   /* whole tokens; below 0: debt */
    uint32_t per_second; /* 0: no limit; the rest is then 0 too */
    uint32_t burst;
    uint32_t utilisation; /* per cent of the burst that is not available, 0 to 100 */
};
struct pgqrs_rate_status pgqrs_rate_limit_status(const struct pgqrs_rate_limit *limit,
                                                 int64_t now_us);

#endif
