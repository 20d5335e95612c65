/* SPDX-License-Identifier: Apache-2.0 */
/* Outcomes are counted once, whichever broker finds out what came of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "broker/broker.h"

#define PLACE 3

static const struct broker_queue queue = {.settings = {.place = PLACE}};

static int setup(void **state)
{
    struct broker *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->page = calloc(1, sizeof *b->page);
    assert_non_null(b->page);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct broker *b = *state;
    free(b->page);
    free(b);
    return 0;
}

static struct tally_outcome sent(struct broker *b, int64_t id)
{
    return (struct tally_outcome){.queue = &queue,
                                  .number = pgqrs_tally_send(b, id, 1),
                                  .message_id = id,
                                  .attempt = 1,
                                  .how = PGQRS_SETTLE_RETRY,
                                  .times = {2000, 300}};
}

static void settle(struct broker *b, struct tally_outcome o, enum pgqrs_settled settled)
{
    o.settled = settled;
    pgqrs_tally_settled(b, &o);
}

static void assert_counted(const struct broker *b, uint64_t retried, uint64_t lost)
{
    const struct pgqrs_queue_tally *q = &b->page->queues[PLACE];
    assert_int_equal(pgqrs_counted(&q->settled[PGQRS_TALLY_RETRY]), retried);
    assert_int_equal(pgqrs_counted(&q->leases_lost), lost);
    assert_int_equal(pgqrs_counted(&q->ran.buckets[0]), retried);
    assert_int_equal(pgqrs_counted(&q->waited.buckets[1]), retried);
    assert_int_equal(pgqrs_counted(&q->ran.sum), retried * 300);
}

static void what_is_stored_is_counted(void **state)
{
    struct broker *b = *state;
    settle(b, sent(b, 1), PGQRS_SETTLED_YES);
    settle(b, sent(b, 2), PGQRS_SETTLED_YES);
    settle(b, sent(b, 3), PGQRS_SETTLED_REFUSED);
    assert_counted(b, 2, 1);
}

/* Its worker was not told. */
static void what_comes_again_is_not_counted_again(void **state)
{
    static const enum pgqrs_settled again[] = {PGQRS_SETTLED_BEFORE, PGQRS_SETTLED_REFUSED};
    struct broker *b = *state;
    for (int i = 0; i < 2; i++) {
        settle(b, sent(b, i), PGQRS_SETTLED_YES);
        settle(b, sent(b, 100 + i), PGQRS_SETTLED_YES);
        settle(b, sent(b, i), again[i]);
        settle(b, sent(b, i), again[i]);
    }
    assert_counted(b, 4, 0);
    settle(b, sent(b, 50), PGQRS_SETTLED_REFUSED);
    settle(b, sent(b, 50), PGQRS_SETTLED_REFUSED);
    assert_counted(b, 4, 1);
}

/* The broker has died before it knew. */
static void what_nobody_counted_is_counted(void **state)
{
    static const enum pgqrs_settled found[] = {PGQRS_SETTLED_YES, PGQRS_SETTLED_BEFORE,
                                               PGQRS_SETTLED_REFUSED};
    struct broker *b = *state;
    for (int i = 0; i < 3; i++) {
        (void)sent(b, i);
    }
    for (int i = 0; i < 3; i++) {
        settle(b, sent(b, i), found[i]);
    }
    assert_counted(b, 3, 0);
}

/* The same transaction, tried again after one that may have been carried out. */
static void what_was_unsure_is_counted(void **state)
{
    struct broker *b = *state;
    struct tally_outcome o = sent(b, 1);
    o.unsure = true;
    settle(b, o, PGQRS_SETTLED_REFUSED);
    assert_counted(b, 1, 0);
}

static void other_attempts_are_others(void **state)
{
    struct broker *b = *state;
    struct tally_outcome o = sent(b, 1);
    settle(b, o, PGQRS_SETTLED_YES);
    o.attempt = 2;
    o.number = pgqrs_tally_send(b, 1, 2);
    settle(b, o, PGQRS_SETTLED_REFUSED);
    assert_counted(b, 1, 1);
}

static void so_many_are_remembered(void **state)
{
    struct broker *b = *state;
    settle(b, sent(b, 1), PGQRS_SETTLED_YES);
    for (int i = 0; i < PGQRS_TALLY_SENT - 2; i++) {
        (void)sent(b, 1000 + i);
    }
    settle(b, sent(b, 1), PGQRS_SETTLED_BEFORE);
    assert_counted(b, 1, 0);
    for (int i = 0; i < 3 * PGQRS_TALLY_SENT; i++) {
        (void)sent(b, 1000000 + i);
    }
    settle(b, sent(b, 1), PGQRS_SETTLED_REFUSED);
    assert_counted(b, 1, 1);
}

static void values_on_a_bound_are_below_it(void **state)
{
    static struct pgqrs_histogram h;
    const int64_t *bounds = pgqrs_histogram_bounds[PGQRS_HISTOGRAM_JOB];
    (void)state;
    for (size_t i = 0; i < PGQRS_BOUNDS; i++) {
        assert_true(i == 0 || bounds[i] > bounds[i - 1]);
        pgqrs_histogram_add(&h, PGQRS_HISTOGRAM_JOB, bounds[i]);
        assert_int_equal(pgqrs_counted(&h.buckets[i]), 1);
    }
    pgqrs_histogram_add(&h, PGQRS_HISTOGRAM_JOB, bounds[PGQRS_BOUNDS - 1] + 1);
    assert_int_equal(pgqrs_counted(&h.buckets[PGQRS_BOUNDS]), 1);
    pgqrs_histogram_add(&h, PGQRS_HISTOGRAM_JOB, -5);
    assert_int_equal(pgqrs_counted(&h.buckets[0]), 2);
}

int main(void)
{
#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(what_is_stored_is_counted),      CASE(what_comes_again_is_not_counted_again),
        CASE(what_nobody_counted_is_counted), CASE(what_was_unsure_is_counted),
        CASE(other_attempts_are_others),      CASE(so_many_are_remembered),
        CASE(values_on_a_bound_are_below_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
