/* SPDX-License-Identifier: Apache-2.0 */
/* What a broker knows of its workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/broker.h"

static void add(struct broker *b, const char *queue, uint64_t generation, uint32_t slot)
{
    struct pgqrs_error err;
    const struct pgqrs_worker_started started = {
        .generation = generation, .slot = slot, .pid = 1, .queue = queue};
    assert_int_equal(pgqrs_worker_add(b, &started, &err), 0);
}

static bool waits(struct broker *b, uint64_t generation)
{
    return pgqrs_worker_has_predecessor(pgqrs_worker_find(b, generation));
}

/* Both are in the welcome of a broker that was started again, before it is told that one is dead.
 * They share a row: who comes first must be buried before the other may have leases. */
static void test_a_successor_waits_though_no_death_was_told(void **state)
{
    struct pgqrs_queue_settings queues[] = {{.name = "a"}, {.name = "b"}};
    const struct pgqrs_broker_welcome welcome = {.queues = queues, .queue_count = 2};
    struct broker b = {0};
    struct pgqrs_error err;
    (void)state;
    TAILQ_INIT(&b.workers);
    assert_int_equal(pgqrs_queues_create(&b, &welcome, &err), 0);
    add(&b, "a", 25, 3); /* those that live come first */
    add(&b, "a", 26, 4);
    add(&b, "b", 30, 3);
    add(&b, "a", 14, 3);
    assert_true(waits(&b, 25));
    assert_false(waits(&b, 14));
    assert_false(waits(&b, 26));
    assert_false(waits(&b, 30));
    pgqrs_workers_fini(&b);
    pgqrs_queues_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_successor_waits_though_no_death_was_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
