/* SPDX-License-Identifier: Apache-2.0 */
/* Every zone of tzdata against the C library, and files that are not as they should be. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/civil.h"
#include "base/timezone.h"
#include "base/timezone_rule.h"

#define ZONES "/usr/share/zoneinfo/tzdata.zi"
#define YEAR_S INT64_C(31556952)

/* ---- calendar ---- */

static void calendar(void **state)
{
    (void)state;
    for (int64_t day = -1000000; day<3000000; day += day> - 800 && day < 40000 ? 1 : 97) {
        time_t seconds = (time_t)(day * PGQRS_DAY_S);
        struct tm tm;
        struct pgqrs_civil date = pgqrs_civil_from_day(day);
        assert_non_null(gmtime_r(&seconds, &tm));
        assert_int_equal(date.year, tm.tm_year + INT64_C(1900));
        assert_int_equal(date.month, tm.tm_mon + 1);
        assert_int_equal(date.day, tm.tm_mday);
        assert_int_equal(pgqrs_civil_weekday(day), tm.tm_wday);
        assert_int_equal(pgqrs_civil_to_day(date.year, date.month, date.day), day);
    }
    assert_int_equal(pgqrs_civil_month_length(2000, 2), 29);
    assert_int_equal(pgqrs_civil_month_length(2100, 2), 28);
    assert_int_equal(pgqrs_civil_month_length(2026, 12), 31);
}

/* ---- zones ---- */

static void assert_offset(const struct pgqrs_timezone *zone, const char *name, int64_t utc_s,
                          int32_t offset_s)
{
    time_t seconds = (time_t)utc_s;
    struct tm tm;
    assert_non_null(localtime_r(&seconds, &tm));
    if (tm.tm_gmtoff != offset_s || pgqrs_timezone_at(zone, utc_s).offset_s != offset_s) {
        fail_msg("%s at %" PRId64 ": %d, expected %ld", name, utc_s, offset_s, tm.tm_gmtoff);
    }
}

static void compare_zone(const char *name)
{
    struct pgqrs_timezone *zone;
    struct pgqrs_error err;
    if (pgqrs_timezone_open(name, &zone, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(setenv("TZ", name, 1), 0);
    tzset();
    /* From 1930 on every span, and its first and last second. */
    int64_t begin = -40 * YEAR_S;
    int64_t end = 130 * YEAR_S;
    struct pgqrs_timezone_span span;
    for (bool first = true; begin < end; begin = span.until_s, first = false) {
        span = pgqrs_timezone_at(zone, begin);
        assert_true(first ? span.from_s <= begin : span.from_s == begin);
        assert_true(begin < span.until_s);
        assert_offset(zone, name, begin, span.offset_s);
        assert_offset(zone, name, (span.until_s < end ? span.until_s : end) - 1, span.offset_s);
        assert_offset(zone, name, begin + ((span.until_s < end ? span.until_s : end) - begin) / 2,
                      span.offset_s);
    }
    pgqrs_timezone_close(&zone);
    assert_null(zone);
}

/* "Z NAME ..." begins a zone, "L TARGET NAME" is another name of one. */
static void as_the_c_library(void **state)
{
    (void)state;
    char line[512];
    char name[65];
    int count = 0;
    FILE *zones = fopen(ZONES, "re");
    assert_non_null(zones);
    while (fgets(line, sizeof line, zones) != NULL) {
        if (sscanf(line, "Z %64s", name) == 1 || sscanf(line, "L %*s %64s", name) == 1) {
            compare_zone(name);
            count++;
        }
    }
    (void)fclose(zones);
    print_message("%d zones\n", count);
    assert_true(count > 400);
}

static void utc(void **state)
{
    (void)state;
    struct pgqrs_timezone *zone;
    assert_int_equal(pgqrs_timezone_open("UTC", &zone, NULL), 0);
    struct pgqrs_timezone_span span = pgqrs_timezone_at(zone, 1775000000);
    assert_int_equal(span.offset_s, 0);
    assert_int_equal(span.from_s, PGQRS_TIMEZONE_FROM_EVER);
    assert_int_equal(span.until_s, PGQRS_TIMEZONE_FOR_EVER);
    pgqrs_timezone_close(&zone);
    pgqrs_timezone_close(&zone); /* null */
    assert_int_equal(pgqrs_timezone_at(NULL, 5).offset_s, 0);
}

static void bad_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum pgqrs_err code;
        const char *error;
    } cases[] = {
        {"", PGQRS_ERR_INVALID, "found \"\", expected a name such as Europe/Berlin or UTC"},
        {"/etc/localtime", PGQRS_ERR_INVALID, "found \"/etc/localtime\", expected a name"},
        {"../../../etc/localtime", PGQRS_ERR_INVALID, "found \"../../../etc/localtime\""},
        {"Europe/../UTC", PGQRS_ERR_INVALID, "found \"Europe/../UTC\", expected a name"},
        {"zone.tab", PGQRS_ERR_INVALID, "found \"zone.tab\", expected a name"},
        {"Europe/Berlin\n", PGQRS_ERR_INVALID, "found \"Europe/Berlin\n\", expected a name"},
        {"A23456789012345678901234567890123456789012345678901234567890123456", PGQRS_ERR_INVALID,
         "found \"A234567890123456789012345678901234567890\""},
        {"Europe/Berln", PGQRS_ERR_NOT_FOUND, "found \"Europe/Berln\", which is no time zone in "},
        {"Europe", PGQRS_ERR_NOT_FOUND, "found \"Europe\", which is no time zone in "},
        {"UTC/x", PGQRS_ERR_NOT_FOUND, "found \"UTC/x\", which is no time zone in "},
        {"right/Europe/Berlin", PGQRS_ERR_INVALID,
         "/usr/share/zoneinfo/right/Europe/Berlin: found leap seconds, expected a TZif file"},
        {"tzdata_zi", PGQRS_ERR_NOT_FOUND, "found \"tzdata_zi\", which is no time zone in "}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pgqrs_timezone *zone = NULL;
        struct pgqrs_error err = {0};
        assert_int_equal(pgqrs_timezone_open(cases[i].name, &zone, &err), -1);
        assert_null(zone);
        if (err.code != cases[i].code ||
            strncmp(err.text, cases[i].error, strlen(cases[i].error)) != 0) {
            fail_msg("%s: %s\nexpected %s", cases[i].name, err.text, cases[i].error);
        }
    }
}

/* ---- files ---- */

static size_t read_zone(char *data, size_t size)
{
    FILE *file = fopen("/usr/share/zoneinfo/Europe/Berlin", "re");
    assert_non_null(file);
    size_t len = fread(data, 1, size, file);
    (void)fclose(file);
    assert_true(len > 500 && len < size);
    return len;
}

static void assert_refused(const char *data, size_t len, const char *error)
{
    struct pgqrs_timezone *zone;
    struct pgqrs_error err = {0};
    /* Of its own size, so that a sanitizer sees what is read behind it. */
    char *copy = malloc(len + (len == 0));
    assert_non_null(copy);
    memcpy(copy, data, len);
    assert_int_equal(
        pgqrs_timezone_parse((struct pgqrs_bytes){.data = copy, .len = len}, &zone, &err), -1);
    free(copy);
    assert_int_equal(err.code, PGQRS_ERR_INVALID);
    if (strstr(err.text, error) == NULL) {
        fail_msg("%s, expected %s", err.text, error);
    }
}

static void cut_files(void **state)
{
    (void)state;
    static char data[8192];
    size_t len = read_zone(data, sizeof data);
    for (size_t i = 0; i < len; i++) {
        assert_refused(data, i, "expected a TZif file");
    }
}

/* A file whose parts are as small as they can be: one type, no transition. */
#define BLOCK(version, types)                                                                      \
    "TZif" version "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"                                                \
    "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" types "\0\0\0\4"
#define TYPE(offset) offset "\0\0AAA\0"
#define NONE "TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

static void bad_files(void **state)
{
    (void)state;
    static const char good[] = NONE BLOCK("2", "\1") TYPE("\0\0\16\20") "\nAAA-1\n";
    static const char version_1[] = BLOCK("\0", "\1") TYPE("\0\0\16\20") "\nAAA-1\n";
    static const char far_off[] = NONE BLOCK("2", "\1") TYPE("\0\2\0\0") "\nAAA-1\n";
    static const char no_type[] = NONE BLOCK("2", "\0") "AAA\0\nAAA-1\n";
    static const char bad_rule[] = NONE BLOCK("2", "\1") TYPE("\0\0\16\20") "\nAAA-1BBB\n";
    struct pgqrs_timezone *zone;
    assert_int_equal(pgqrs_timezone_parse(
                         (struct pgqrs_bytes){.data = good, .len = sizeof good - 1}, &zone, NULL),
                     0);
    assert_int_equal(pgqrs_timezone_at(zone, 0).offset_s, 3600);
    pgqrs_timezone_close(&zone);
    assert_refused(version_1, sizeof version_1 - 1, "found version 1");
    assert_refused(far_off, sizeof far_off - 1, "found an offset of more than a day");
    assert_refused(no_type, sizeof no_type - 1, "found a type that is not there");
    assert_refused(bad_rule, sizeof bad_rule - 1, "found \"AAA-1BBB\", expected a rule such as");

    static char data[8192];
    size_t len = read_zone(data, sizeof data);
    char *second = memmem(data + 4, len - 4, "TZif", 4);
    assert_non_null(second);
    char *times = second + 44;
    memcpy(times + 8, times, 8);
    assert_refused(data, len, "found times that do not ascend");
    memset(second + 20, 0xff, 24); /* all counts */
    assert_refused(data, len, "found an end within the data");
}

/* ---- rules ---- */

static void rules(void **state)
{
    (void)state;
    /* Against the C library, which reads the same strings from TZ. */
    static const char *const good[] = {"CET-1CEST,M3.5.0,M10.5.0/3",
                                       "EST5EDT,M3.2.0,M11.1.0",
                                       "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
                                       "IST-1GMT0,M10.5.0,M3.5.0/1",
                                       "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
                                       "XXX3YYY,J60/0,J300/12:30:15",
                                       "XXX-3YYY,59/0,300",
                                       "AAA+11:59:59",
                                       "UTC0"};
    static const char *const bad[] = {"",
                                      "CE-1",
                                      "CET",
                                      "CET-25",
                                      "CET-1CEST",
                                      "CET-1CEST,M3.5.0",
                                      "CET-1CEST,M3.5.0,M13.5.0",
                                      "CET-1CEST,M3.6.0,M10.5.0",
                                      "CET-1CEST,M3.5.7,M10.5.0",
                                      "CET-1CEST,J0,J300",
                                      "CET-1CEST,366,J300",
                                      "CET-1CEST,M3.5.0/168,M10.5.0",
                                      "CET-1CEST,M3.5.0/1:60,M10.5.0",
                                      "CET-1CEST,M3.5.0,M10.5.0/3x",
                                      "CET-99999999999",
                                      "<+0",
                                      "<+010>-1x"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct pgqrs_timezone_rule rule;
        assert_int_equal(pgqrs_timezone_rule_parse(good[i], &rule, NULL), 0);
        assert_int_equal(setenv("TZ", good[i], 1), 0);
        tzset();
        for (int64_t t = 0; t < 40 * YEAR_S; t += 7 * 3571) {
            time_t seconds = (time_t)t;
            struct tm tm;
            assert_non_null(localtime_r(&seconds, &tm));
            if (pgqrs_timezone_rule_at(&rule, t).offset_s != tm.tm_gmtoff) {
                fail_msg("%s at %" PRId64 ": expected %ld", good[i], t, tm.tm_gmtoff);
            }
        }
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct pgqrs_timezone_rule rule;
        struct pgqrs_error err;
        if (pgqrs_timezone_rule_parse(bad[i], &rule, &err) == 0) {
            fail_msg("%s is no rule", bad[i]);
        }
    }
}

/* RFC 8536, 3.3.1: summer all year, since the end of one is the begin of the next. */
static void always_summer(void **state)
{
    (void)state;
    struct pgqrs_timezone_rule rule;
    assert_int_equal(pgqrs_timezone_rule_parse("EST5EDT,0/0,J365/25", &rule, NULL), 0);
    for (int64_t t = 0; t < 5 * YEAR_S; t += 3600) {
        assert_int_equal(pgqrs_timezone_rule_at(&rule, t).offset_s, -4 * 3600);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calendar),  cmocka_unit_test(as_the_c_library),
        cmocka_unit_test(utc),       cmocka_unit_test(bad_names),
        cmocka_unit_test(cut_files), cmocka_unit_test(bad_files),
        cmocka_unit_test(rules),     cmocka_unit_test(always_summer)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
