/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rate_limit.h"

#define SECOND 1000000

static struct pgqrs_rate_limit bucket(uint32_t per_second, uint32_t burst)
{
    struct pgqrs_rate_limit limit;
    pgqrs_rate_limit_init(&limit, per_second, burst, 1000);
    return limit;
}

static void none(void **state)
{
    (void)state;
    struct pgqrs_rate_limit limit = bucket(0, 0);
    assert_int_equal(pgqrs_rate_limit_try(&limit, UINT64_MAX, 1000), 0);
    assert_int_equal(pgqrs_rate_limit_acquire(&limit, UINT64_MAX, 1000), 0);
    pgqrs_rate_limit_refund(&limit, 5, 1000);
    assert_int_equal(pgqrs_rate_limit_status(&limit, 5000).per_second, 0);
}

static void burst_then_rate(void **state)
{
    (void)state;
    struct pgqrs_rate_limit limit = bucket(10, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pgqrs_rate_limit_try(&limit, 1, 1000), 0);
    }
    assert_int_equal(pgqrs_rate_limit_try(&limit, 1, 1000), SECOND / 10);
    assert_int_equal(pgqrs_rate_limit_try(&limit, 1, 1000 + SECOND / 10 - 1), 1);
    assert_int_equal(pgqrs_rate_limit_try(&limit, 1, 1000 + SECOND / 10), 0);
    assert_int_equal(pgqrs_rate_limit_try(&limit, 1, 1000 + SECOND / 10), SECOND / 10);
    /* It never holds more than its burst. */
    assert_int_equal(pgqrs_rate_limit_try(&limit, 3, (int64_t)1 << 60), 0);
    assert_int_equal(pgqrs_rate_limit_try(&limit, 1, (int64_t)1 << 60), SECOND / 10);
}

/* Asked at whatever moments, it gives exactly the rate: 7 a second is no whole number of
 * microseconds. */
static void fractions_are_kept(void **state)
{
    (void)state;
    struct pgqrs_rate_limit limit = bucket(7, 2);
    int given = 0;
    for (int64_t now = 1000; now <= 1000 + 1000 * SECOND; now += 997) {
        given += pgqrs_rate_limit_try(&limit, 1, now) == 0;
    }
    assert_in_range(given, 7001, 7002);
    limit = bucket(7, 50);
    assert_int_equal(pgqrs_rate_limit_try(&limit, 50, 1000), 0);
    for (int64_t now = 1000; now <= 1000 + 7 * SECOND; now += 13) {
        (void)pgqrs_rate_limit_status(&limit, now);
        assert_true(pgqrs_rate_limit_try(&limit, 50, now) > 0);
    }
    assert_int_equal(pgqrs_rate_limit_status(&limit, 1000 + 7 * SECOND).available, 49);
}

/* What it says to wait is exactly enough. */
static void retry_after_is_true(void **state)
{
    (void)state;
    static const uint32_t rates[] = {1, 3, 7, 999, 1000, 1000000, UINT32_MAX};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        struct pgqrs_rate_limit limit = bucket(rates[i], 20);
        int64_t now = 5000;
        for (uint64_t count = 1; count < 50; count += 3) {
            int64_t wait = pgqrs_rate_limit_try(&limit, count, now);
            if (wait > 0) {
                assert_true(wait == 1 || pgqrs_rate_limit_try(&limit, count, now + wait - 1) > 0);
                now += wait;
                assert_int_equal(pgqrs_rate_limit_try(&limit, count, now), 0);
            }
        }
    }
}

static void larger_than_the_burst(void **state)
{
    (void)state;
    struct pgqrs_rate_limit limit = bucket(10, 5);
    assert_int_equal(pgqrs_rate_limit_try(&limit, 25, 1000), 0);
    assert_int_equal(pgqrs_rate_limit_status(&limit, 1000).available, -20);
    assert_int_equal(pgqrs_rate_limit_status(&limit, 1000).utilisation, 100);
    assert_int_equal(pgqrs_rate_limit_try(&limit, 1, 1000), 21 * SECOND / 10);
    assert_int_equal(pgqrs_rate_limit_try(&limit, 25, 1000), 25 * SECOND / 10);
    assert_int_equal(pgqrs_rate_limit_try(&limit, 25, 1000 + 25 * SECOND / 10), 0);
    limit = bucket(10, 5);
    assert_int_equal(pgqrs_rate_limit_acquire(&limit, 25, 1000), 0);
    assert_int_equal(pgqrs_rate_limit_acquire(&limit, 2, 1000), 22 * SECOND / 10);
    assert_int_equal(pgqrs_rate_limit_acquire(&limit, 25, 1000), 27 * SECOND / 10);
}

static void refunds(void **state)
{
    (void)state;
    struct pgqrs_rate_limit limit = bucket(10, 5);
    assert_int_equal(pgqrs_rate_limit_try(&limit, 5, 1000), 0);
    pgqrs_rate_limit_refund(&limit, 5, 1000);
    assert_int_equal(pgqrs_rate_limit_try(&limit, 5, 1000), 0);
    pgqrs_rate_limit_refund(&limit, UINT64_MAX, 1000);
    assert_int_equal(pgqrs_rate_limit_status(&limit, 1000).available, 5);
}

static void extremes(void **state)
{
    (void)state;
    struct pgqrs_rate_limit limit = bucket(UINT32_MAX, UINT32_MAX);
    for (int i = 0; i < 10; i++) {
        assert_true(pgqrs_rate_limit_acquire(&limit, UINT64_MAX, 1000) >= 0);
    }
    assert_true(pgqrs_rate_limit_try(&limit, 1, INT64_MAX) == 0);
    limit = bucket(1, 1);
    for (int i = 0; i < 10; i++) {
        assert_true(pgqrs_rate_limit_acquire(&limit, UINT64_MAX, 1000) >= 0);
    }
    assert_true(pgqrs_rate_limit_try(&limit, 1, 1000) > 0);
    assert_int_equal(pgqrs_rate_limit_try(&limit, 1, INT64_MAX), 0);
    /* A clock that stands still or goes back gives nothing. */
    assert_int_equal(pgqrs_rate_limit_try(&limit, 1, 0), SECOND);
}

static void status(void **state)
{
    (void)state;
    struct pgqrs_rate_limit limit = bucket(100, 0);
    struct pgqrs_rate_status now = pgqrs_rate_limit_status(&limit, 1000);
    assert_int_equal(now.available, PGQRS_RATE_BURST);
    assert_int_equal(now.per_second, 100);
    assert_int_equal(now.burst, PGQRS_RATE_BURST);
    assert_int_equal(now.utilisation, 0);
    assert_int_equal(pgqrs_rate_limit_try(&limit, 20, 1000), 0);
    assert_int_equal(pgqrs_rate_limit_status(&limit, 1000).utilisation, 40);
    assert_int_equal(pgqrs_rate_limit_status(&limit, 1000 + SECOND / 10).utilisation, 20);
    assert_int_equal(pgqrs_rate_limit_status(&limit, 1000 + SECOND).available, 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(none),
        cmocka_unit_test(burst_then_rate),
        cmocka_unit_test(fractions_are_kept),
        cmocka_unit_test(retry_after_is_true),
        cmocka_unit_test(larger_than_the_burst),
        cmocka_unit_test(refunds),
        cmocka_unit_test(extremes),
        cmocka_unit_test(status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
