/* SPDX-License-Identifier: Apache-2.0 */
/* Expressions, their errors, and when they are due, as people would say it. That it holds for all
 * of them is in test_cron_reference.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/cron.h"

static int64_t at(const char *utc)
{
    int64_t us;
    assert_int_equal(pgqrs_timestamp_parse(utc, &us, NULL), 0);
    return us;
}

/* The next times, separated by commas. */
static void assert_due(const char *text, const char *zone_name, const char *after, const char *due)
{
    struct pgqrs_cron cron;
    struct pgqrs_timezone *zone = NULL;
    struct pgqrs_error err = {0};
    if (pgqrs_cron_parse(text, &cron, &err) < 0 ||
        pgqrs_timezone_open(zone_name, &zone, &err) < 0) {
        fail_msg("%s, %s: %s", text, zone_name, err.text);
    }
    int64_t now = at(after);
    for (const char *expected = due; *expected != 0; expected += strspn(expected, ", ")) {
        char found[PGQRS_TIMESTAMP_SIZE];
        size_t len = strcspn(expected, ",");
        if (pgqrs_cron_next(&cron, zone, now, &now, &err) < 0) {
            fail_msg("%s, %s: %s", text, zone_name, err.text);
        }
        pgqrs_timestamp_format(now, found);
        if (strncmp(found, expected, len) != 0) {
            fail_msg("%s, %s: %s, expected %s", text, zone_name, found, expected);
        }
        expected += len;
    }
    pgqrs_timezone_close(&zone);
}

static void fields(void **state)
{
    (void)state;
    static const struct {
        const char *text, *after, *due;
    } cases[] = {
        {"* * * * *", "2026-05-01 10:00:00", "2026-05-01 10:01:00, 2026-05-01 10:02:00"},
        {"* * * * *", "2026-05-01 10:00:59.999999", "2026-05-01 10:01:00"},
        {"*/20 * * * *", "2026-05-01 10:00:00",
         "2026-05-01 10:20:00, 2026-05-01 10:40:00, 2026-05-01 11:00:00"},
        {"10-30/10 4 * * *", "2026-05-01 04:20:00",
         "2026-05-01 04:30:00, 2026-05-02 04:10:00, 2026-05-02 04:20:00"},
        {"5/25 4 * * *", "2026-05-01 00:00:00",
         "2026-05-01 04:05:00, 2026-05-01 04:30:00, 2026-05-01 04:55:00, 2026-05-02 04:05:00"},
        {"30,0,15-16 4 * * *", "2026-05-01 00:00:00",
         "2026-05-01 04:00:00, 2026-05-01 04:15:00, 2026-05-01 04:16:00, 2026-05-01 04:30:00"},
        {" 0\t9  * * mon-Fri ", "2026-05-01 10:00:00", "2026-05-04 09:00:00, 2026-05-05 09:00:00"},
        {"0 0 * * 0", "2026-05-01 10:00:00", "2026-05-03 00:00:00, 2026-05-10 00:00:00"},
        {"0 0 * * 7", "2026-05-01 10:00:00", "2026-05-03 00:00:00, 2026-05-10 00:00:00"},
        {"0 0 * * 6-7", "2026-05-01 10:00:00", "2026-05-02 00:00:00, 2026-05-03 00:00:00"},
        {"0 0 * * sat-SUN", "2026-05-01 10:00:00", "2026-05-02 00:00:00, 2026-05-03 00:00:00"},
        {"0 0 * * 1/3", "2026-05-01 10:00:00", "2026-05-04 00:00:00, 2026-05-07 00:00:00"},
        {"0 0 1 jan,JUL *", "2026-05-01 10:00:00", "2026-07-01 00:00:00, 2027-01-01 00:00:00"},
        {"0 0 31 */2 *", "2026-01-01 10:00:00",
         "2026-01-31 00:00:00, 2026-03-31 00:00:00, 2026-05-31 00:00:00, 2026-07-31 00:00:00"},
        {"0 0 29 2 *", "2024-03-01 10:00:00", "2028-02-29 00:00:00, 2032-02-29 00:00:00"},
        {"0 0 29 2 *", "2096-03-01 10:00:00", "2104-02-29 00:00:00"},
        {"59 23 31 12 *", "2026-12-31 23:59:00", "2027-12-31 23:59:00"},
        /* Both days restricted: either of them. */
        {"0 0 13 * 5", "2026-05-01 10:00:00",
         "2026-05-08 00:00:00, 2026-05-13 00:00:00, 2026-05-15 00:00:00"},
        /* One begins with *: both. */
        {"0 0 */2 * 5", "2026-05-01 10:00:00", "2026-05-15 00:00:00, 2026-05-29 00:00:00"},
        {"0 0 13 * */5", "2026-05-01 10:00:00", "2026-09-13 00:00:00, 2026-11-13 00:00:00"},
        {"0 0 30 2 1", "2026-02-01 00:00:00", "2026-02-02 00:00:00, 2026-02-09 00:00:00"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_due(cases[i].text, "UTC", cases[i].after, cases[i].due);
    }
}

static void macros(void **state)
{
    (void)state;
    static const struct {
        const char *text, *due;
    } cases[] = {{"@hourly", "2026-05-01 11:00:00, 2026-05-01 12:00:00"},
                 {"@daily", "2026-05-02 00:00:00, 2026-05-03 00:00:00"},
                 {"@midnight", "2026-05-02 00:00:00"},
                 {"@weekly", "2026-05-03 00:00:00, 2026-05-10 00:00:00"},
                 {"@Monthly ", "2026-06-01 00:00:00, 2026-07-01 00:00:00"},
                 {"@yearly", "2027-01-01 00:00:00, 2028-01-01 00:00:00"},
                 {" @annually", "2027-01-01 00:00:00"},
                 {"@every 1s", "2026-05-01 10:00:31, 2026-05-01 10:00:32"},
                 {"@every 1500ms", "2026-05-01 10:00:31.5, 2026-05-01 10:00:33"},
                 {"@every 7m", "2026-05-01 10:04:00, 2026-05-01 10:11:00"},
                 {"@every 3650d", "2029-12-17 00:00:00, 2039-12-15 00:00:00"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_due(cases[i].text, "UTC", "2026-05-01 10:00:30", cases[i].due);
    }
    /* Whatever the zone. */
    assert_due("@every 1d", "Asia/Kathmandu", "2026-05-01 10:00:00", "2026-05-02 00:00:00");
}

/* Berlin: at 2026-03-29 01:00 UTC 02:00 becomes 03:00, at 2026-10-25 01:00 03:00 becomes 02:00. */
static void changes_of_the_clock(void **state)
{
    (void)state;
    static const struct {
        const char *text, *zone, *after, *due;
    } cases[] = {
        {"0 9 * * *", "Europe/Berlin", "2026-03-28 00:00:00",
         "2026-03-28 08:00:00, 2026-03-29 07:00:00"},
        /* Left out: at the end of the gap, once. */
        {"30 2 * * *", "Europe/Berlin", "2026-03-28 00:00:00",
         "2026-03-28 01:30:00, 2026-03-29 01:00:00, 2026-03-30 00:30:00"},
        {"*/15 2 * * *", "Europe/Berlin", "2026-03-28 01:40:00",
         "2026-03-28 01:45:00, 2026-03-29 01:00:00, 2026-03-30 00:00:00"},
        {"0,30 2,3 * * *", "Europe/Berlin", "2026-03-29 00:00:00",
         "2026-03-29 01:00:00, 2026-03-29 01:30:00, 2026-03-30 00:00:00"},
        {"30 2 29 3 *", "Europe/Berlin", "2026-01-01 00:00:00",
         "2026-03-29 01:00:00, 2027-03-29 00:30:00"},
        {"30 2 * * *", "Europe/Berlin", "2026-03-29 00:59:59.999999", "2026-03-29 01:00:00"},
        {"30 2 * * *", "Europe/Berlin", "2026-03-29 01:00:00", "2026-03-30 00:30:00"},
        /* Twice: the first time. */
        {"30 2 * * *", "Europe/Berlin", "2026-10-24 12:00:00",
         "2026-10-25 00:30:00, 2026-10-26 01:30:00"},
        {"30 2 * * *", "Europe/Berlin", "2026-10-25 01:00:00", "2026-10-26 01:30:00"},
        {"0 3 * * *", "Europe/Berlin", "2026-10-24 12:00:00", "2026-10-25 02:00:00"},
        /* Every hour: real time. */
        {"30 * * * *", "Europe/Berlin", "2026-03-29 00:00:00",
         "2026-03-29 00:30:00, 2026-03-29 01:30:00, 2026-03-29 02:30:00"},
        {"30 * * * *", "Europe/Berlin", "2026-10-25 00:00:00",
         "2026-10-25 00:30:00, 2026-10-25 01:30:00, 2026-10-25 02:30:00"},
        {"30 0-23 * * *", "Europe/Berlin", "2026-10-25 00:00:00",
         "2026-10-25 00:30:00, 2026-10-25 01:30:00, 2026-10-25 02:30:00"},
        {"0 */2 * * *", "Europe/Berlin", "2026-03-28 23:00:00",
         "2026-03-29 02:00:00, 2026-03-29 04:00:00"},
        {"0 */2 * * *", "Europe/Berlin", "2026-10-24 22:00:00",
         "2026-10-25 00:00:00, 2026-10-25 01:00:00, 2026-10-25 03:00:00"},
        /* Midnight itself left out. */
        {"@daily", "Africa/Cairo", "2026-04-22 22:00:00",
         "2026-04-23 22:00:00, 2026-04-24 21:00:00"},
        /* A whole day left out: 2011-12-30 at +13 from -10, at 10:00 UTC. */
        {"0 9 * * *", "Pacific/Apia", "2011-12-29 00:00:00",
         "2011-12-29 19:00:00, 2011-12-30 10:00:00, 2011-12-30 19:00:00"},
        {"0 * * * *", "Pacific/Apia", "2011-12-30 08:30:00",
         "2011-12-30 09:00:00, 2011-12-30 10:00:00"},
        {"15 2 * * *", "Australia/Lord_Howe", "2026-10-03 00:00:00",
         "2026-10-03 15:30:00, 2026-10-04 15:15:00"},
        {"0 9 * * *", "Asia/Kathmandu", "2026-05-01 00:00:00",
         "2026-05-01 03:15:00, 2026-05-02 03:15:00"},
        {"0 19 31 12 *", "America/New_York", "1970-01-01 00:00:00", "1971-01-01 00:00:00"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_due(cases[i].text, cases[i].zone, cases[i].after, cases[i].due);
    }
}

static void errors(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"", "found 0 fields in \"\", expected 5: minute hour day-of-month month day-of-week"},
        {"1", "found 1 field in \"1\", expected 5"},
        {"* * * *", "found 4 fields in \"* * * *\", expected 5"},
        {"0 * * * * *", "found 6 fields in \"0 * * * * *\", expected 5"},
        {"60 * * * *", "minute: found \"60\", expected 0 to 59, *, a range such as 1-5"},
        {"4294967296 * * * *", "minute: found \"4294967296\", expected 0 to 59"},
        {"-1 * * * *", "minute: found \"-1\", expected 0 to 59"},
        {"1,,2 * * * *", "minute: found \"\", expected 0 to 59"},
        {"1, * * * *", "minute: found \"\", expected 0 to 59"},
        {"1.5 * * * *", "minute: found \"1.5\", expected 0 to 59"},
        {"*5 * * * *", "minute: found \"*5\", expected 0 to 59"},
        {"*/0 * * * *", "minute: found \"0\" as the step of \"*/0\", expected 1 to 59"},
        {"*/60 * * * *", "minute: found \"60\" as the step of \"*/60\", expected 1 to 59"},
        {"*/ * * * *", "minute: found \"\" as the step of \"*/\", expected 1 to 59"},
        {"*/2/3 * * * *", "minute: found \"2/3\" as the step of \"*/2/3\", expected 1 to 59"},
        {"5- * * * *", "minute: found \"5-\", expected 0 to 59"},
        {"* 24 * * *", "hour: found \"24\", expected 0 to 23"},
        {"* 20-4 * * *",
         "hour: found \"20-4\", expected a range whose first is not after its last"},
        {"* mon * * *", "hour: found \"mon\", expected 0 to 23"},
        {"* * 0 * *", "day-of-month: found \"0\", expected 1 to 31"},
        {"* * L * *", "day-of-month: found \"L\", but L, W, # and ? are not supported"},
        {"* * l-3 * *", "day-of-month: found \"l-3\", but L, W, # and ? are not supported"},
        {"* * 15W * *", "day-of-month: found \"15W\", but L, W, # and ? are not supported"},
        {"* * ? * *", "day-of-month: found \"?\", but L, W, # and ? are not supported"},
        {"* * * 13 *", "month: found \"13\", expected 1 to 12 or JAN to DEC"},
        {"* * * april *", "month: found \"april\", expected 1 to 12 or JAN to DEC"},
        {"* * * l *", "month: found \"l\", but L, W, # and ? are not supported"},
        {"* * * * 8", "day-of-week: found \"8\", expected 0 to 7 or SUN to SAT"},
        {"* * * * fri-mon", "day-of-week: found \"fri-mon\", expected a range whose first"},
        {"* * * * 5L", "day-of-week: found \"5L\", but L, W, # and ? are not supported"},
        {"* * * * fri#2", "day-of-week: found \"fri#2\", but L, W, # and ? are not supported"},
        {"* * * * monday", "day-of-week: found \"monday\", expected 0 to 7 or SUN to SAT"},
        {"0 0 30 feb *",
         "day-of-month: found \"30\" in month \"feb\", expected a date that exists"},
        {"0 0 31 2,4-6/2,9 */2", "day-of-month: found \"31\" in month \"2,4-6/2,9\", expected a"},
        {"@", "found \"@\", expected @hourly, @daily"},
        {"@reboot", "found \"@reboot\", expected @hourly, @daily"},
        {"@daily x", "found \"@daily x\", expected @hourly, @daily"},
        {"@every", "@every: found \"\", expected a duration such as"},
        {"@every 5", "@every: found \"5\", expected a duration such as"},
        {"@every 0", "@every: found \"0\", expected 1s to 3650d"},
        {"@every 999ms", "@every: found \"999ms\", expected 1s to 3650d"},
        {"@every 3651d", "@every: found \"3651d\", expected 1s to 3650d"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pgqrs_cron cron;
        struct pgqrs_error err = {0};
        assert_int_equal(pgqrs_cron_parse(cases[i].text, &cron, &err), -1);
        assert_int_equal(err.code, PGQRS_ERR_INVALID);
        if (strncmp(err.text, cases[i].error, strlen(cases[i].error)) != 0) {
            fail_msg("\"%s\": %s\nexpected %s", cases[i].text, err.text, cases[i].error);
        }
    }
}

static void out_of_bounds(void **state)
{
    (void)state;
    struct pgqrs_cron cron;
    struct pgqrs_error err;
    int64_t next;
    assert_int_equal(pgqrs_cron_parse("0 0 29 2 */7", &cron, &err), 0); /* on a Sunday */
    assert_int_equal(pgqrs_cron_next(&cron, NULL, at("2032-03-01 00:00:00"), &next, &err), -1);
    assert_int_equal(err.code, PGQRS_ERR_NOT_FOUND);
    assert_string_equal(err.text, "no time within 10 years");
    assert_int_equal(pgqrs_cron_next(&cron, NULL, at("2052-03-01 00:00:00"), &next, &err), 0);
    assert_int_equal(next, at("2060-02-29 00:00:00"));
    assert_int_equal(pgqrs_cron_next(&cron, NULL, -1, &next, &err), -1);
    assert_int_equal(err.code, PGQRS_ERR_INVALID);
    assert_int_equal(pgqrs_cron_next(&cron, NULL, INT64_MAX, &next, &err), -1);
    assert_int_equal(err.code, PGQRS_ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fields), cmocka_unit_test(macros),
                                       cmocka_unit_test(changes_of_the_clock),
                                       cmocka_unit_test(errors), cmocka_unit_test(out_of_bounds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
