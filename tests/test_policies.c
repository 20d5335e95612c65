/* SPDX-License-Identifier: Apache-2.0 */
/* When a process is started again, and when a job is tried again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/retry_policy.h"
#include "supervisor/restart_policy.h"

static void test_restart_is_immediate_once_then_doubles_to_a_bound(void **state)
{
    (void)state;
    struct pgqrs_restart restart = {0};
    const int64_t expected[] = {0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        assert_int_equal(pgqrs_restart_after(&restart, 10, PGQRS_RESTART_MAX_MS), expected[i]);
    }
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(pgqrs_restart_after(&restart, 10, PGQRS_RESTART_MAX_MS),
                         PGQRS_RESTART_MAX_MS);
    }
}

static void test_a_healthy_run_forgets_deaths(void **state)
{
    (void)state;
    struct pgqrs_restart restart = {0};
    (void)pgqrs_restart_after(&restart, 10, PGQRS_RESTART_MAX_MS);
    assert_int_equal(pgqrs_restart_after(&restart, 10, PGQRS_RESTART_MAX_MS), 100);
    assert_int_equal(pgqrs_restart_after(&restart, PGQRS_RESTART_HEALTHY_MS, PGQRS_RESTART_MAX_MS),
                     0);
    assert_int_equal(
        pgqrs_restart_after(&restart, PGQRS_RESTART_HEALTHY_MS - 1, PGQRS_RESTART_MAX_MS), 100);
}

static void test_failed_starts_are_counted_in_a_row(void **state)
{
    (void)state;
    struct pgqrs_restart restart = {0};
    (void)pgqrs_restart_after(&restart, -1, PGQRS_RESTART_MAX_MS);
    (void)pgqrs_restart_after(&restart, -1, PGQRS_RESTART_MAX_MS);
    assert_int_equal(restart.failed_starts, 2);
    (void)pgqrs_restart_after(&restart, 0, PGQRS_RESTART_MAX_MS);
    assert_int_equal(restart.failed_starts, 0);
}

static struct pgqrs_queue_settings policy(uint8_t strategy, int64_t base, int64_t max,
                                          uint8_t jitter)
{
    return (struct pgqrs_queue_settings){.retry_strategy = strategy,
                                         .retry_base_ms = base,
                                         .retry_max_ms = max,
                                         .retry_jitter = jitter};
}

static void test_retry_delays(void **state)
{
    (void)state;
    struct pgqrs_queue_settings fixed = policy(PGQRS_RETRY_FIXED, 500, 10000, 0);
    struct pgqrs_queue_settings doubling = policy(PGQRS_RETRY_EXPONENTIAL, 500, 10000, 0);
    assert_int_equal(pgqrs_retry_delay_ms(&fixed, 1, 0), 500);
    assert_int_equal(pgqrs_retry_delay_ms(&fixed, 9, 0), 500);
    assert_int_equal(pgqrs_retry_delay_ms(&doubling, 1, 0), 500);
    assert_int_equal(pgqrs_retry_delay_ms(&doubling, 2, 0), 1000);
    assert_int_equal(pgqrs_retry_delay_ms(&doubling, 5, 0), 8000);
    assert_int_equal(pgqrs_retry_delay_ms(&doubling, 6, 0), 10000);
    assert_int_equal(pgqrs_retry_delay_ms(&doubling, UINT32_MAX, 0), 10000);
}

static void test_retry_delay_neither_overflows_nor_hangs(void **state)
{
    (void)state;
    struct pgqrs_queue_settings huge = policy(PGQRS_RETRY_EXPONENTIAL, INT64_MAX / 3, INT64_MAX, 0);
    assert_int_equal(pgqrs_retry_delay_ms(&huge, 50, 0), INT64_MAX);
    struct pgqrs_queue_settings zero = policy(PGQRS_RETRY_EXPONENTIAL, 0, 1000, 1);
    assert_int_equal(pgqrs_retry_delay_ms(&zero, UINT32_MAX, 7), 0);
}

static void test_jitter_stays_within_a_quarter_and_spreads(void **state)
{
    (void)state;
    struct pgqrs_queue_settings jitter = policy(PGQRS_RETRY_FIXED, 1000, 10000, 1);
    int64_t low = INT64_MAX;
    int64_t high = 0;
    for (uint32_t random = 0; random < 5000; random++) {
        int64_t delay = pgqrs_retry_delay_ms(&jitter, 1, random);
        low = delay < low ? delay : low;
        high = delay > high ? delay : high;
    }
    assert_int_equal(low, 750);
    assert_int_equal(high, 1250);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restart_is_immediate_once_then_doubles_to_a_bound),
        cmocka_unit_test(test_a_healthy_run_forgets_deaths),
        cmocka_unit_test(test_failed_starts_are_counted_in_a_row),
        cmocka_unit_test(test_retry_delays),
        cmocka_unit_test(test_retry_delay_neither_overflows_nor_hangs),
        cmocka_unit_test(test_jitter_stays_within_a_quarter_and_spreads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
