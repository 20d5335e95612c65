/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rate_limit.h"

#define TOKEN 1000000 /* a rate per second times microseconds counts in these */
/* No debt is larger: at the greatest rate its product with TOKEN still fits. */
#define COUNT_MAX ((uint64_t)1 << 40)

static int64_t capacity(const struct pgqrs_rate_limit *limit)
{
    return (int64_t)limit->burst * TOKEN;
}

static int64_t level_at(const struct pgqrs_rate_limit *limit, int64_t now_us)
{
    int64_t passed = now_us - limit->at_us;
    if (passed <= 0) {
        return limit->level;
    }
    int64_t missing = capacity(limit) - limit->level;
    /* Compared by division: the product may not fit. */
    return passed > missing / limit->per_second ? capacity(limit)
                                                : limit->level + passed * limit->per_second;
}

static void refill(struct pgqrs_rate_limit *limit, int64_t now_us)
{
    limit->level = level_at(limit, now_us);
    limit->at_us = now_us > limit->at_us ? now_us : limit->at_us;
}

/* How long until count tokens may be taken: until they are there, or the bucket is full. */
static int64_t wait_us(const struct pgqrs_rate_limit *limit, uint64_t count)
{
    int64_t needed = (int64_t)(count < limit->burst ? count : limit->burst) * TOKEN;
    int64_t missing = needed - limit->level;
    return missing <= 0 ? 0 : (missing + limit->per_second - 1) / limit->per_second;
}

static void take(struct pgqrs_rate_limit *limit, uint64_t count)
{
    const int64_t lowest = -(int64_t)COUNT_MAX * TOKEN;
    int64_t amount = (int64_t)(count < COUNT_MAX ? count : COUNT_MAX) * TOKEN;
    limit->level = limit->level < lowest + amount ? lowest : limit->level - amount;
}

void pgqrs_rate_limit_init(struct pgqrs_rate_limit *limit, uint32_t per_second, uint32_t burst,
                           int64_t now_us)
{
    *limit = (struct pgqrs_rate_limit){
        .per_second = per_second, .burst = burst == 0 ? PGQRS_RATE_BURST : burst, .at_us = now_us};
    limit->level = capacity(limit);
}

int64_t pgqrs_rate_limit_try(struct pgqrs_rate_limit *limit, uint64_t count, int64_t now_us)
{
    if (limit->per_second == 0 || count == 0) {
        return 0;
    }
    refill(limit, now_us);
    int64_t wait = wait_us(limit, count);
    if (wait == 0) {
        take(limit, count);
    }
    return wait;
}

int64_t pgqrs_rate_limit_acquire(struct pgqrs_rate_limit *limit, uint64_t count, int64_t now_us)
{
    if (limit->per_second == 0 || count == 0) {
        return 0;
    }
    refill(limit, now_us);
    int64_t wait = wait_us(limit, count);
    take(limit, count);
    return wait;
}

void pgqrs_rate_limit_refund(struct pgqrs_rate_limit *limit, uint64_t count, int64_t now_us)
{
    if (limit->per_second == 0) {
        return;
    }
    refill(limit, now_us);
    int64_t amount = (int64_t)(count < COUNT_MAX ? count : COUNT_MAX) * TOKEN;
    int64_t level = limit->level + amount;
    limit->level = level < capacity(limit) ? level : capacity(limit);
}

struct pgqrs_rate_status pgqrs_rate_limit_status(const struct pgqrs_rate_limit *limit,
                                                 int64_t now_us)
{
    if (limit->per_second == 0) {
        return (struct pgqrs_rate_status){0};
    }
    int64_t level = level_at(limit, now_us);
    int64_t used = level <= 0 ? capacity(limit) : capacity(limit) - level;
    /* Rounded towards zero: a debt of half a token is none of a whole one. */
    return (struct pgqrs_rate_status){.available = level / TOKEN,
                                      .per_second = limit->per_second,
                                      .burst = limit->burst,
                                      .utilisation = (uint32_t)(used / (capacity(limit) / 100))};
}
