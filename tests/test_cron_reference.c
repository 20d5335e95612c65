/* SPDX-License-Identifier: Apache-2.0 */
/* Random expressions, in zones whose clocks change in every way, against a reference that goes
 * through a year minute by minute on the clock of the C library. PGQRS_TEST_SEED repeats a run. */
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

#include "base/cron.h"

#define MINUTE_US INT64_C(60000000)
#define MINUTES (373 * 1440)
#define EXPRESSIONS 40 /* in each zone and year */
#define JUMPS 100      /* into the midst of them */

/* ---- a random expression: its text, and what it means ---- */

struct meaning {
    char text[512];
    size_t len;
    bool minute[60], hour[24], day[32], month[13], weekday[8];
    bool star[5]; /* a field that begins with * */
    bool real_time;
};

static int below(int n)
{
    return (int)((unsigned)rand() % (unsigned)n);
}

static void add(struct meaning *m, const char *text)
{
    m->len += (size_t)snprintf(m->text + m->len, sizeof m->text - m->len, "%s", text);
    assert_true(m->len < sizeof m->text);
}

static void add_value(struct meaning *m, int value, int index)
{
    static const char *const months[] = {"",    "jan", "Feb", "MAR", "apr", "May", "JUN",
                                         "jul", "Aug", "SEP", "oct", "Nov", "DEC"};
    static const char *const weekdays[] = {"sun", "Mon", "TUE", "wed", "Thu", "FRI", "sat", "7"};
    char number[12];
    (void)snprintf(number, sizeof number, "%d", value);
    bool named = below(3) == 0;
    add(m, named && index == 3 ? months[value] : named && index == 4 ? weekdays[value] : number);
}

static void add_step(struct meaning *m, int step)
{
    char text[12];
    (void)snprintf(text, sizeof text, "/%d", step);
    add(m, text);
}

static void add_item(struct meaning *m, int index, bool *set, int min, int max)
{
    int last = index == 4 ? 6 : max; /* where no end is named */
    int step = 1 + below(below(2) == 0 ? 3 : max);
    int a = min + below(max - min + 1);
    int b = a + below(max - a + 1);
    switch (below(6)) {
    case 0:
        add_value(m, a, index);
        add(m, "-");
        add_value(m, b, index);
        step = 1;
        break;
    case 1:
        add_value(m, a, index);
        add(m, "-");
        add_value(m, b, index);
        add_step(m, step);
        break;
    case 2:
        add_value(m, a, index);
        add_step(m, step);
        b = a > last ? a : last;
        break;
    default:
        add_value(m, a, index);
        b = a;
        break;
    }
    for (int i = a; i <= b; i += step) {
        set[i] = true;
    }
}

static void add_field(struct meaning *m, int index, bool *set, int min, int max, int stars)
{
    int last = index == 4 ? 6 : max;
    m->star[index] = below(100) < stars;
    if (m->star[index]) {
        int step = below(3) == 0 ? 1 + below(max) : 1;
        add(m, "*");
        if (step > 1) {
            add_step(m, step);
        }
        for (int i = min; i <= last; i += step) {
            set[i] = true;
        }
    } else if (index == 1 && below(2) == 0) { /* the hours when clocks change */
        int hour = below(4);
        add_value(m, hour, index);
        set[hour] = true;
    } else {
        add_item(m, index, set, min, max);
    }
    while (below(3) == 0) {
        add(m, ",");
        add_item(m, index, set, min, max);
    }
    add(m, index < 4 ? " " : "");
}

static void make(struct meaning *m)
{
    memset(m, 0, sizeof *m);
    add_field(m, 0, m->minute, 0, 59, 20);
    add_field(m, 1, m->hour, 0, 23, 30);
    add_field(m, 2, m->day, 1, 31, 60);
    add_field(m, 3, m->month, 1, 12, 80);
    add_field(m, 4, m->weekday, 0, 7, 60);
    m->weekday[0] |= m->weekday[7];
    m->real_time = m->star[1] || memchr(m->hour, 0, sizeof m->hour) == NULL;
}

/* ---- the reference ---- */

struct minute {
    int32_t local; /* minutes since 1970 on the zone's clock */
    uint8_t minute, hour, day, month, weekday;
};
static struct minute year[MINUTES];
static int64_t year_us;

static struct minute minute_of(const struct tm *tm, int64_t local)
{
    return (struct minute){.local = (int32_t)local,
                           .minute = (uint8_t)tm->tm_min,
                           .hour = (uint8_t)tm->tm_hour,
                           .day = (uint8_t)tm->tm_mday,
                           .month = (uint8_t)(tm->tm_mon + 1),
                           .weekday = (uint8_t)tm->tm_wday};
}

static void fill_year(const char *zone, int number)
{
    struct tm first = {.tm_year = number - 1900, .tm_mday = 1};
    time_t begin = timegm(&first);
    year_us = (int64_t)begin * 1000000;
    assert_int_equal(setenv("TZ", zone, 1), 0);
    tzset();
    for (int i = 0; i < MINUTES; i++) {
        time_t now = begin + (time_t)i * 60;
        struct tm tm;
        assert_non_null(localtime_r(&now, &tm));
        year[i] = minute_of(&tm, (now + tm.tm_gmtoff) / 60);
    }
}

static bool matches(const struct meaning *m, const struct minute *at)
{
    bool day = m->day[at->day];
    bool weekday = m->weekday[at->weekday];
    bool either = !m->star[2] && !m->star[4];
    return m->minute[at->minute] && m->hour[at->hour] && m->month[at->month] &&
           (either ? day || weekday : day && weekday);
}

static bool left_out_matches(const struct meaning *m, int64_t from, int64_t until)
{
    for (int64_t local = from; local < until; local++) {
        time_t seconds = (time_t)local * 60;
        struct tm tm;
        const struct minute at = minute_of(gmtime_r(&seconds, &tm), local);
        if (matches(m, &at)) {
            return true;
        }
    }
    return false;
}

/* The minutes of the year when it is due. */
static int find_due(const struct meaning *m, int *due)
{
    int count = 0;
    int64_t reached = year[0].local - 1;
    for (int i = 0; i < MINUTES; i++) {
        bool now = matches(m, &year[i]);
        if (!m->real_time) {
            now =
                year[i].local > reached && (now || left_out_matches(m, reached + 1, year[i].local));
            reached = year[i].local > reached ? year[i].local : reached;
        }
        due[count] = i;
        count += now;
    }
    return count;
}

/* ---- and the comparison ---- */

static int64_t next_of(const struct pgqrs_cron *cron, const struct pgqrs_timezone *zone,
                       int64_t after_us)
{
    struct pgqrs_error err;
    int64_t next = INT64_MAX;
    if (pgqrs_cron_next(cron, zone, after_us, &next, &err) < 0) {
        assert_int_equal(err.code, PGQRS_ERR_NOT_FOUND);
    }
    return next;
}

/* Where it is asked, for the message. */
struct where {
    const char *zone, *text;
};

static void assert_next(struct where where, const struct pgqrs_cron *cron,
                        const struct pgqrs_timezone *zone, int64_t after_us, int minute)
{
    int64_t next = next_of(cron, zone, after_us);
    int64_t expected = year_us + minute * MINUTE_US;
    if (next != expected) {
        fail_msg("\"%s\" in %s after %" PRId64 ": %" PRId64 ", expected %" PRId64, where.text,
                 where.zone, after_us / 1000000, next / 1000000, expected / 1000000);
    }
}

static void check_jumps(struct where where, const struct pgqrs_cron *cron,
                        const struct pgqrs_timezone *zone, const int *due, int count)
{
    for (int i = 0; i < JUMPS; i++) {
        int minute = below(MINUTES - 1);
        int64_t after = year_us + minute * MINUTE_US + below(60) * 1000000;
        int low = 0;
        for (int high = count; low < high;) {
            int middle = (low + high) / 2;
            if (due[middle] <= minute) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if (low < count) {
            assert_next(where, cron, zone, after, due[low]);
        }
    }
}

static int check_expression(const char *zone_name, const struct meaning *m,
                            const struct pgqrs_timezone *zone)
{
    const struct where where = {zone_name, m->text};
    static int due[MINUTES + 1];
    struct pgqrs_cron cron;
    struct pgqrs_error err = {0};
    int count = find_due(m, due);
    if (pgqrs_cron_parse(m->text, &cron, &err) < 0) {
        assert_non_null(strstr(err.text, "a date that exists"));
        assert_int_equal(count, 0);
        return 0;
    }
    int64_t now = year_us - 1;
    for (int i = 0; i < count; i++) {
        assert_next(where, &cron, zone, now, due[i]);
        now = year_us + due[i] * MINUTE_US;
    }
    assert_true(next_of(&cron, zone, now) >= year_us + MINUTES * MINUTE_US);
    check_jumps(where, &cron, zone, due, count);
    return count;
}

static void as_the_reference(void **state)
{
    (void)state;
    static const struct {
        const char *zone;
        int year;
    } cases[] = {{"Europe/Berlin", 2026},
                 {"Europe/Berlin", 2027},
                 {"America/New_York", 2026},
                 {"America/New_York", 2027},
                 {"Australia/Lord_Howe", 2026},
                 {"Australia/Lord_Howe", 2027},
                 {"Asia/Kathmandu", 2026},
                 {"Asia/Kathmandu", 2027},
                 {"UTC", 2026},
                 {"UTC", 2027},
                 {"Pacific/Apia", 2011},
                 {"Africa/Casablanca", 2026},
                 {"Africa/Cairo", 2027},
                 {"America/St_Johns", 2061}};
    const char *given = getenv("PGQRS_TEST_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    int total = 0;
    print_message("seed %u\n", seed);
    srand(seed);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pgqrs_timezone *zone;
        struct pgqrs_error err;
        struct meaning m;
        assert_int_equal(pgqrs_timezone_open(cases[i].zone, &zone, &err), 0);
        fill_year(cases[i].zone, cases[i].year);
        for (int n = 0; n < EXPRESSIONS; n++) {
            make(&m);
            total += check_expression(cases[i].zone, &m, zone);
        }
        pgqrs_timezone_close(&zone);
    }
    print_message("%d times were due\n", total);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_the_reference)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
