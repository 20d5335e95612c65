/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Harm to a daemon under load: two short runs with a fixed seed; make chaos has the long ones.
 * First, that what judges them can say no.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/chaos/chaos.h"
#include "tests/chaos/ledger.h"

#define RUN_MS 12000

/* ---- the judge ---- */

/* One job that adds another; both are run once and done. */
static const char *const good[] = {
    "ack 1 11",
    "start 1 1 100 1000 0 work 0",
    "end 1 1 100 1500 done",
    "start 2 1 200 2000 0 follow 1",
    "end 2 1 200 2500 done",
    "row 1 11 0 done 1 done 1 1 0",
    "row 2 0 1 done 0 done 1 1 0",
    NULL,
};

static void judge(const char *const lines[], const char *const more[], struct chaos_findings *f)
{
    struct chaos_ledger ledger = {0};
    memset(f, 0, sizeof *f);
    for (size_t i = 0; lines[i] != NULL; i++) {
        assert_true(chaos_ledger_add(&ledger, lines[i]));
    }
    for (size_t i = 0; more[i] != NULL; i++) {
        assert_true(chaos_ledger_add(&ledger, more[i]));
    }
    chaos_check(&ledger, f);
    chaos_ledger_fini(&ledger);
}

/* The good ledger and these lines. */
#define ACCEPTED(...) accepted((const char *const[]){__VA_ARGS__, NULL})
#define REFUSED(why, ...) refused(why, (const char *const[]){__VA_ARGS__, NULL})

static void accepted(const char *const more[])
{
    struct chaos_findings f;
    judge(good, more, &f);
    if (f.count != 0) {
        fail_msg("found: %s", f.text[0]);
    }
}

static void refused(const char *why, const char *const more[])
{
    struct chaos_findings f;
    judge(good, more, &f);
    if (f.count != 1 || strstr(f.text[0], why) == NULL) {
        fail_msg("expected \"%s\" alone, found %zu: %s", why, f.count,
                 f.count == 0 ? "" : f.text[0]);
    }
}

static void test_a_lost_job_is_found(void **state)
{
    (void)state;
    REFUSED("lost: job 3 was acknowledged", "ack 3 13");
    REFUSED("lost: job 3 has not ended", "ack 3 13", "row 3 13 0 done 0 open 1 1 0");
    REFUSED("no run of it has ended so", "ack 3 13", "row 3 13 0 done 0 done 1 1 0");
    REFUSED("no run of it has ended so", "row 3 13 0 done 0 done 1 1 0",
            "start 3 1 100 2000 0 work 0", "end 3 1 100 2100 retry");
    REFUSED("lost: job 3 was run", "start 3 1 100 2000 0 work 0");
    REFUSED("is \"done\" and has added 0 jobs", "row 3 13 0 done 1 done 1 1 0",
            "start 3 1 100 2000 0 work 0", "end 3 1 100 2100 done");
}

static void test_an_end_of_another_kind_is_found(void **state)
{
    (void)state;
    REFUSED("has ended \"failed\"", "row 3 13 0 done 0 failed 1 1 0", "start 3 1 100 2000 0 work 0",
            "end 3 1 100 2100 done");
    REFUSED("is item 14", "ack 3 13", "row 3 14 0 done 0 done 1 1 0", "start 3 1 100 2000 0 work 0",
            "end 3 1 100 2100 done");
}

static void test_what_is_there_twice_is_found(void **state)
{
    (void)state;
    REFUSED("is there twice", "row 3 11 0 done 0 done 1 1 0", "start 3 1 100 2000 0 work 0",
            "end 3 1 100 2100 done");
    REFUSED("has added 2 jobs", "row 3 0 1 done 0 done 1 1 0", "start 3 1 100 2000 0 follow 1",
            "end 3 1 100 2100 done");
}

static void test_a_second_completion_is_found(void **state)
{
    (void)state;
    REFUSED("twice: job 1", "start 1 2 300 3000 0 work 0", "end 1 2 300 3100 done");
    REFUSED("twice: job 1", "harm stop_worker 1400 100", "harm kill_broker 1600 50",
            "start 1 2 300 3000 0 work 0", "end 1 2 300 3100 done");
    REFUSED("twice: job 1", "harm kill_worker 1600 100", "start 1 2 300 3000 0 work 0");
    REFUSED("twice: job 1", "died 100 900000", "start 1 2 300 3000 0 work 0");
    REFUSED("twice: job 1", "died 100 2900", "broker_died 4000000", "start 5 1 100 2500 0 work 0",
            "end 5 1 100 2550 done", "row 5 15 0 done 0 done 1 1 0", "start 1 2 300 3000 0 work 0");
    REFUSED("twice: job 1", "over 13000000", "start 1 2 300 13000100 0 work 0");
    REFUSED("twice: job 1", "harm crash_server 1400 0", "start 1 2 300 3000 0 work 0");
    ACCEPTED("died 100 1600", "start 1 2 300 3000 0 work 0", "end 1 2 300 3100 done");
    ACCEPTED("died 100 2900", "broker_died 2800", "start 5 1 100 2500 0 work 0",
             "end 5 1 100 2550 done", "row 5 15 0 done 0 done 1 1 0",
             "start 1 2 300 3000 0 work 0");
    ACCEPTED("over 1600", "start 1 2 300 3000 0 work 0", "end 1 2 300 3100 done");
    ACCEPTED("harm crash_server 1400 0", "start 1 1 300 3000 0 work 0", "end 1 1 300 3100 done");
}

static void test_a_result_of_a_lost_lease_is_found(void **state)
{
    (void)state;
    REFUSED("job 3 was completed by attempt 1, and attempt 2 had the lease",
            "row 3 13 0 done 0 done 2 1 0", "harm take_lease 2010 3", "start 3 1 101 2000 0 work 0",
            "end 3 1 101 2100 done", "start 3 2 300 2050 0 work 0", "end 3 2 300 2200 done");
    ACCEPTED("row 3 13 0 done 0 done 2 2 0", "harm take_lease 2010 3",
             "start 3 1 101 2000 0 work 0", "end 3 1 101 2100 done", "start 3 2 300 2050 0 work 0",
             "end 3 2 300 2200 done");
}

static void test_an_overlap_is_found(void **state)
{
    (void)state;
    REFUSED("overlap: job 1", "start 1 2 300 1200 0 work 0", "end 1 2 300 1800 done");
    REFUSED("overlap: job 1", "harm stop_worker 1100 100", "start 1 2 300 1200 0 work 0");
    REFUSED("overlap: job 3", "row 3 13 0 done 0 done 1 1 0", "start 3 1 100 2000 0 work 0",
            "start 3 2 300 2100 100 work 0", "end 3 2 300 2200 done");
    REFUSED("went on to others", "row 3 13 0 done 0 done 1 1 0", "start 3 1 101 2000 0 work 0",
            "start 4 1 101 2050 0 work 0", "end 4 1 101 2060 done", "row 4 14 0 done 0 done 1 1 0",
            "start 3 2 300 2100 0 work 0", "end 3 2 300 2200 done");
    ACCEPTED("row 3 13 0 done 0 done 1 1 0", "start 3 1 101 2000 0 work 0",
             "start 3 2 300 2100 0 work 0", "end 3 2 300 2200 done");
    ACCEPTED("row 3 13 0 done 0 done 1 1 0", "start 3 1 101 2000 0 work 0",
             "end 3 1 101 2050 cancelled", "start 3 1 300 2100 0 work 0", "end 3 1 300 2200 done");
}

static void test_attempts_do_not_go_back(void **state)
{
    (void)state;
    REFUSED("attempt 1 came after attempt 2", "row 3 13 0 done 0 done 1 1 0",
            "start 3 2 101 2000 0 work 0", "end 3 2 101 2050 retry", "start 3 1 300 2100 0 work 0",
            "end 3 1 300 2200 done");
}

static void test_nonsense_is_no_line_of_a_ledger(void **state)
{
    struct chaos_ledger ledger = {0};
    (void)state;
    assert_false(chaos_ledger_add(&ledger, "end 1 1 100 1500 done"));
    assert_false(chaos_ledger_add(&ledger, "start 1 1 100"));
    assert_true(chaos_ledger_add(&ledger, "start 1 1 100 1000 0 work 0"));
    assert_false(chaos_ledger_add(&ledger, "end 2 1 100 1500 done"));
    chaos_ledger_fini(&ledger);
}

/* ---- two runs ---- */

static void run_chaos(uint64_t seed, bool postgres)
{
    const struct chaos_options options = {
        .seed = seed, .duration_ms = RUN_MS, .postgres = postgres};
    if (getenv("PGQRS_TEST_VALGRIND") != NULL) {
        skip(); /* nothing beats in time */
    }
    assert_int_equal(chaos(&options), 0);
}

static void test_chaos_on_sqlite(void **state)
{
    (void)state;
    run_chaos(20414, false);
}

static void test_chaos_on_postgres(void **state)
{
    (void)state;
    run_chaos(32054, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_lost_job_is_found),
        cmocka_unit_test(test_an_end_of_another_kind_is_found),
        cmocka_unit_test(test_what_is_there_twice_is_found),
        cmocka_unit_test(test_a_second_completion_is_found),
        cmocka_unit_test(test_a_result_of_a_lost_lease_is_found),
        cmocka_unit_test(test_an_overlap_is_found),
        cmocka_unit_test(test_attempts_do_not_go_back),
        cmocka_unit_test(test_nonsense_is_no_line_of_a_ledger),
        cmocka_unit_test(test_chaos_on_sqlite),
        cmocka_unit_test(test_chaos_on_postgres),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
