/* SPDX-License-Identifier: Apache-2.0 */
/* `schedules`: what is taken, what is refused, and in which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "store/schedule.h"
#include "tests/support/config_case.h"

#define Q "dsn: sqlite:/q\nqueues: {mail: {handler: h.so}}\n"
#define S Q "schedules:\n  s:\n"
#define KEY "schedules.s."

static const struct {
    const char *yaml, *error;
} refusals[] = {
    {S "    queue: mail\n", "c.yaml:4: " KEY "cron: found nothing, expected a cron expression"},
    {S "    cron: '@daily'\n",
     "c.yaml:4: " KEY "queue: found nothing, expected the name of a queue"},
    {S "    cron: 0 25 * * *\n    queue: mail\n",
     "c.yaml:5: " KEY "cron: hour: found \"25\", expected 0 to 23"},
    {S "    cron: 0 0 30 2 *\n    queue: mail\n", "c.yaml:5: " KEY "cron: "},
    {S "    queue: mail\n    cron: [1]\n",
     "c.yaml:6: " KEY "cron: found a list, expected a cron expression, such as 30 2 * * *"},
    {S "    cron: '@daily'\n    zone: Europe/Berln\n",
     "c.yaml:6: " KEY "zone: found \"Europe/Berln\", which is no time zone"},
    {S "    cron: '@daily'\n    queue: male\n",
     "c.yaml:6: " KEY "queue: found \"male\", expected the name of one of the queues"},
    {S "    cron: '@daily'\n    workflow: male\n", "c.yaml:6: " KEY "workflow: found \"male\""},
    {S "    cron: '@daily'\n    queue: mail\n    workflow: mail\n",
     "c.yaml:7: " KEY "workflow: found a workflow and a queue, expected one of them"},
    {S "    catch_up: twice\n",
     "c.yaml:5: " KEY "catch_up: found \"twice\", expected skip, once or all"},
    {S "    overlap: no\n", KEY "overlap: found \"no\", expected allow or skip"},
    {S "    paused: 1\n", KEY "paused: found \"1\", expected true or false"},
    {S "    priority: 3000000000\n", KEY "priority: found \"3000000000\", expected a whole number"},
    {S "    payload: [.inf]\n", "c.yaml:5: " KEY "payload: found .inf"},
    {S "    crom: x\n",
     KEY "crom: found an unknown key, expected \"cron\"? Known here: cron, zone"},
    {Q "schedules: [s]\n", "c.yaml:3: schedules: found a list, expected a mapping from schedules'"},
    {Q "schedules: {s: daily}\n", "c.yaml:3: schedules.s: found \"daily\", expected a mapping"},
};

static void test_refusals(void **state)
{
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        refused(*state, refusals[i].yaml, refusals[i].error);
    }
}

/* Also when it stands before the queues. */
static void test_what_is_taken(void **state)
{
    struct pgqrs_config *c = load_ok(*state, "schedules:\n"
                                             "  a: {cron: 30 2 * * *, queue: mail}\n"
                                             "  b:\n"
                                             "    cron: '@every 90s'\n"
                                             "    zone: Europe/Berlin\n"
                                             "    workflow: mail\n"
                                             "    payload: [1, two, {three: null}]\n"
                                             "    priority: -4\n"
                                             "    catch_up: all\n"
                                             "    overlap: skip\n"
                                             "    paused: false\n" Q);
    assert_int_equal(c->schedule_count, 2);
    const struct pgqrs_config_schedule *a = &c->schedules[0];
    assert_string_equal(a->name, "a");
    assert_string_equal(a->cron, "30 2 * * *");
    assert_string_equal(a->zone, "UTC");
    assert_string_equal(a->queue, "mail");
    assert_null(a->workflow);
    assert_string_equal(a->payload, "{}");
    assert_int_equal(a->catch_up, PGQRS_CATCH_UP_SKIP);
    assert_int_equal(a->overlap, PGQRS_OVERLAP_ALLOW);
    assert_int_equal(a->pause, PGQRS_SCHEDULE_LEAVE);
    const struct pgqrs_config_schedule *b = &c->schedules[1];
    assert_string_equal(b->zone, "Europe/Berlin");
    assert_string_equal(b->workflow, "mail");
    assert_string_equal(b->payload, "{\"input\": [1,\"two\",{\"three\":null}]}");
    assert_int_equal(b->priority, -4);
    assert_int_equal(b->catch_up, PGQRS_CATCH_UP_ALL);
    assert_int_equal(b->overlap, PGQRS_OVERLAP_SKIP);
    assert_int_equal(b->pause, PGQRS_SCHEDULE_RESUME);
    pgqrs_config_destroy(&c);
}

static void test_a_large_payload(void **state)
{
    static char yaml[70000];
    int n = snprintf(yaml, sizeof yaml, S "    cron: '@daily'\n    queue: mail\n    payload: ");
    memset(yaml + n, 'x', 66000);
    refused(*state, yaml, "payload: found 66002 bytes as JSON, expected at most 65504");
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, config_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_refusals),
        WITH_SCRATCH(test_what_is_taken),
        WITH_SCRATCH(test_a_large_payload),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
