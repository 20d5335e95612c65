/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker whose broker dies all the time, before or after it has stored what came. The broker here
 * keeps the books: every job is stored once, and nothing the worker says contradicts them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/worker_rig.h"

#define JOBS 3000
#define CAPACITY 40

enum storm_state { STORM_FREE, STORM_LEASED, STORM_STORED };

struct storm {
    struct rig *rig;
    enum storm_state jobs[JOBS + 1];
    int left, deaths;
    int held;   /* leases that are out */
    int answer; /* jobs whose outcome came and is not settled yet */
    int64_t unsettled[JOBS];
};

/* What is leased and not in the hello was lost on the way. */
static void storm_hello(struct storm *s, uint32_t capacity)
{
    struct pgqrs_job_hello hello;
    struct pgqrs_error err;
    bool known[JOBS + 1] = {false};
    rig_accept(s->rig);
    struct pgqrs_frame frame = rig_expect(s->rig, PGQRS_MSG_JOB_HELLO);
    assert_int_equal(pgqrs_decode_job_hello(&frame, &hello, &err), 0);
    assert_int_equal(hello.capacity, capacity);
    s->held = 0;
    s->answer = 0;
    for (size_t i = 0; i < hello.held_count; i++) {
        int64_t id = hello.held[i].id;
        assert_in_range(id, 1, JOBS);
        assert_false(known[id]); /* each lease once */
        assert_int_not_equal(s->jobs[id], STORM_FREE);
        known[id] = true;
        s->held++;
    }
    pgqrs_job_hello_fini(&hello);
    for (int id = 1; id <= JOBS; id++) {
        if (s->jobs[id] == STORM_LEASED && !known[id]) {
            s->jobs[id] = STORM_FREE;
        }
    }
    rig_welcome(s->rig);
}

static void storm_lease(struct storm *s)
{
    for (int id = 1; id <= JOBS && s->held < CAPACITY; id++) {
        if (s->jobs[id] == STORM_FREE) {
            s->jobs[id] = STORM_LEASED;
            s->held++;
            rig_lease(s->rig, id, "{}");
        }
    }
}

/* Stores what has come; the answer is lost when the broker dies first. */
static void storm_settle(struct storm *s, bool die)
{
    for (int i = 0; i < s->answer; i++) {
        int64_t id = s->unsettled[i];
        bool first = s->jobs[id] == STORM_LEASED;
        s->left -= first;
        s->jobs[id] = STORM_STORED;
        if (!die) {
            rig_settle(s->rig, id, first ? PGQRS_VERDICT_STORED : PGQRS_VERDICT_REFUSED);
            s->held--;
        }
    }
    s->answer = 0;
}

static void storm_result(struct storm *s)
{
    struct pgqrs_job_result result, none;
    struct pgqrs_error err;
    struct pgqrs_frame frame = rig_expect(s->rig, PGQRS_MSG_JOB_RESULTS);
    struct pgqrs_job_list list = pgqrs_job_list_of(&frame);
    assert_int_equal(pgqrs_next_job_result(&list, &result, &err), 1);
    assert_int_equal(pgqrs_next_job_result(&list, &none, &err), 0);
    assert_int_equal(result.outcome, PGQRS_JOB_DONE);
    s->unsettled[s->answer++] = result.key.id;
    pgqrs_job_result_fini(&result);
}

static void test_a_broker_that_dies_all_the_time(void **state)
{
    struct storm *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->rig = *state;
    s->left = JOBS;
    unsigned seed = 20260131; /* the same storm every time, but for the scheduler */
    rig_start(s->rig, "noop", CAPACITY);
    storm_hello(s, CAPACITY);
    rig_await_control(s->rig, PGQRS_MSG_CHILD_READY);
    while (s->left > 0) {
        storm_lease(s);
        for (int n = rand_r(&seed) % CAPACITY; n > 0 && s->answer < s->held; n--) {
            storm_result(s);
        }
        bool die = rand_r(&seed) % 3 == 0;
        bool after_store = rand_r(&seed) % 2 == 0;
        if (!die || after_store) {
            storm_settle(s, die);
        }
        if (die) {
            s->deaths++;
            storm_hello(s, CAPACITY);
        }
    }
    assert_true(s->deaths > 10);
    while (s->held > 0) { /* outcomes of which only the answer was lost */
        storm_result(s);
        storm_settle(s, false);
    }
    rig_drain(s->rig);
    assert_int_equal(rig_wait(s->rig), PGQRS_EXIT_OK);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_broker_that_dies_all_the_time, rig_setup,
                                        rig_teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pgqrs_control_end();
    return failed;
}
