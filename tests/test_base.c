/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/address.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/units.h"

/* ---- error ---- */

static void error_texts(void **state)
{
    (void)state;
    struct pgqrs_error err;
    assert_int_equal(pgqrs_error_set(&err, PGQRS_ERR_INVALID, "found %d", 3), -1);
    assert_int_equal(err.code, PGQRS_ERR_INVALID);
    assert_int_equal(err.sys_errno, 0);
    assert_string_equal(err.text, "found 3");
    assert_int_equal(pgqrs_error_prefix(&err, "line %d", 7), -1);
    assert_string_equal(err.text, "line 7: found 3");
    assert_int_equal(pgqrs_error_sys(&err, PGQRS_ERR_FAILED, ENOENT, "open %s", "x"), -1);
    assert_int_equal(err.sys_errno, ENOENT);
    assert_string_equal(err.text, "open x: No such file or directory");
    assert_int_equal(pgqrs_error_memory(&err), -1);
    assert_int_equal(err.code, PGQRS_ERR_MEMORY);
    assert_int_equal(pgqrs_error_set(NULL, PGQRS_ERR_FAILED, "x"), -1);
    assert_int_equal(pgqrs_error_sys(NULL, PGQRS_ERR_FAILED, EIO, "x"), -1);
    assert_int_equal(pgqrs_error_prefix(NULL, "x"), -1);
}

static void error_texts_are_cut(void **state)
{
    (void)state;
    struct pgqrs_error err;
    char longer[2000];
    memset(longer, 'l', sizeof longer);
    longer[sizeof longer - 1] = 0;
    (void)pgqrs_error_sys(&err, PGQRS_ERR_FAILED, EIO, "%s", longer);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    (void)pgqrs_error_prefix(&err, "%s", longer);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
}

/* ---- units ---- */

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
        const char *shown;
    } good[] = {
        {"0", 0, "0s"},
        {"0ms", 0, "0s"},
        {"250ms", 250, "250ms"},
        {"1000ms", 1000, "1s"},
        {"90s", 90000, "90s"},
        {"5m", 300000, "5m"},
        {"120m", 7200000, "2h"},
        {"1d", 86400000, "1d"},
        {"100000d", INT64_C(8640000000000), "100000d"},
    };
    struct pgqrs_error err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t ms = -1;
        char shown[32];
        assert_int_equal(pgqrs_duration_parse(good[i].text, &ms, &err), 0);
        assert_int_equal(ms, good[i].ms);
        pgqrs_duration_format(ms, shown, sizeof shown);
        assert_string_equal(shown, good[i].shown);
    }
    static const char *const bad[] = {"",
                                      "5",
                                      "-5s",
                                      "5 s",
                                      "5S",
                                      "s",
                                      "1.5s",
                                      " 5s",
                                      "+5s",
                                      "5s ",
                                      "0x5s",
                                      "5sm",
                                      "999999999999999999999s",
                                      "106751991168d",
                                      "9223372036854775807ms"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t ms = -1;
        if (pgqrs_duration_parse(bad[i], &ms, &err) == 0) {
            fail_msg("\"%s\" was taken", bad[i]);
        }
        assert_int_equal(err.code, PGQRS_ERR_INVALID);
        assert_int_equal(ms, -1);
        assert_non_null(strstr(err.text, "expected a duration such as 250ms"));
    }
}

static void byte_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes;
        const char *shown;
    } good[] = {{"0", 0, "0"},
                {"0MiB", 0, "0"},
                {"100B", 100, "100B"},
                {"2048B", 2048, "2KiB"},
                {"512MiB", INT64_C(536870912), "512MiB"},
                {"3072MiB", INT64_C(3221225472), "3GiB"}};
    static const char *const bad[] = {"", "1", "1MB", "1M", "1 MiB", "-1MiB", "8589934592GiB"};
    struct pgqrs_error err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t bytes = -1;
        char shown[32];
        assert_int_equal(pgqrs_size_parse(good[i].text, &bytes, &err), 0);
        assert_int_equal(bytes, good[i].bytes);
        pgqrs_size_format(bytes, shown, sizeof shown);
        assert_string_equal(shown, good[i].shown);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t bytes = -1;
        assert_int_equal(pgqrs_size_parse(bad[i], &bytes, &err), -1);
        assert_int_equal(bytes, -1);
        assert_non_null(strstr(err.text, "expected a size such as 512KiB"));
    }
}

static void integers(void **state)
{
    (void)state;
    struct pgqrs_error err;
    int64_t v = 0;
    assert_int_equal(pgqrs_integer_parse("42", 1, 42, &v, &err), 0);
    assert_int_equal(v, 42);
    assert_int_equal(pgqrs_integer_parse("-9223372036854775808", INT64_MIN, 0, &v, &err), 0);
    assert_int_equal(v, INT64_MIN);
    static const char *const bad[] = {"",   "-",  "43",  "0",   "4x",
                                      "+4", " 4", "0x4", "1e1", "9223372036854775808"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (pgqrs_integer_parse(bad[i], 1, 42, &v, &err) == 0) {
            fail_msg("\"%s\" was taken", bad[i]);
        }
        assert_non_null(strstr(err.text, "from 1 to 42"));
    }
}

/* ---- clock ---- */

static void timestamps(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t us;
    } good[] = {
        {"1970-01-01 00:00:00.000000", 0},
        {"1970-01-01 00:00:00.000001", 1},
        {"2026-01-31 09:05:07.123456", INT64_C(1769850307123456)},
        {"2024-02-29 23:59:59.999999", INT64_C(1709251199999999)},
        {"9999-12-31 23:59:59.999999", INT64_C(253402300799999999)},
    };
    struct pgqrs_error err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char text[PGQRS_TIMESTAMP_SIZE];
        int64_t us = -1;
        pgqrs_timestamp_format(good[i].us, text);
        assert_string_equal(text, good[i].text);
        assert_int_equal(pgqrs_timestamp_parse(text, &us, &err), 0);
        assert_int_equal(us, good[i].us);
    }
    char text[PGQRS_TIMESTAMP_SIZE];
    pgqrs_timestamp_format(-1, text);
    assert_string_equal(text, "1970-01-01 00:00:00.000000");
    pgqrs_timestamp_format(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31 23:59:59.999999");
}

static void timestamps_of_others(void **state)
{
    (void)state;
    struct pgqrs_error err;
    int64_t us = -1;
    assert_int_equal(pgqrs_timestamp_parse("2026-01-31 09:05:07", &us, &err), 0);
    assert_int_equal(us, INT64_C(1769850307000000));
    assert_int_equal(pgqrs_timestamp_parse("2026-01-31 09:05:07.5", &us, &err), 0);
    assert_int_equal(us, INT64_C(1769850307500000));
    assert_int_equal(pgqrs_timestamp_parse("2026-01-31 09:05:07.123456789", &us, &err), 0);
    assert_int_equal(us, INT64_C(1769850307123456));
    static const char *const bad[] = {"",
                                      "yesterday",
                                      "2026-01-31",
                                      "2026-01-31T09:05:07",
                                      "2026-01-31 09:05:07Z",
                                      "2026-01-31 09:05:07+00:00",
                                      "2026-13-31 09:05:07",
                                      "2026-01-31 09:05:07.5 "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (pgqrs_timestamp_parse(bad[i], &us, &err) == 0) {
            fail_msg("\"%s\" was taken", bad[i]);
        }
    }
}

static void clocks(void **state)
{
    (void)state;
    int64_t before = pgqrs_mono_us();
    int64_t ms = pgqrs_mono_ms();
    int64_t after = pgqrs_mono_us();
    assert_true(before / 1000 <= ms && ms <= after / 1000);
    assert_true(pgqrs_wall_us() > INT64_C(1700000000000000));
    pgqrs_clock_set_wall(5);
    assert_int_equal(pgqrs_wall_us(), 5);
    pgqrs_clock_set_wall(0);
    assert_true(pgqrs_wall_us() > INT64_C(1700000000000000));
}

/* ---- bytes ---- */

static void bytes_round_trip(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    pgqrs_buf_put_u8(&buf, 0xff);
    pgqrs_buf_put_u16(&buf, 0x1234);
    pgqrs_buf_put_u32(&buf, UINT32_MAX);
    pgqrs_buf_put_u64(&buf, UINT64_C(0x0123456789abcdef));
    pgqrs_buf_put_bytes(&buf, (struct pgqrs_bytes){.data = "a\0b", .len = 3});
    pgqrs_buf_put_bytes(&buf, (struct pgqrs_bytes){0});
    pgqrs_buf_put_bytes(&buf, pgqrs_bytes_from("text"));
    pgqrs_buf_set_u32(&buf, 3, 7);
    pgqrs_buf_set_u32(&buf, buf.len - 3, 7); /* does not fit: nothing happens */
    assert_false(buf.failed);
    assert_int_equal(buf.data[1], 0x34);

    struct pgqrs_reader r = pgqrs_reader_of(buf.data, buf.len);
    assert_int_equal(pgqrs_read_u8(&r), 0xff);
    assert_int_equal(pgqrs_read_u16(&r), 0x1234);
    assert_int_equal(pgqrs_read_u32(&r), 7);
    assert_int_equal(pgqrs_read_u64(&r), UINT64_C(0x0123456789abcdef));
    struct pgqrs_bytes run = pgqrs_read_bytes(&r, 3);
    assert_int_equal(run.len, 3);
    assert_memory_equal(run.data, "a\0b", 4);
    run = pgqrs_read_bytes(&r, 0);
    assert_int_equal(run.len, 0);
    assert_false(pgqrs_reader_done(&r));
    assert_string_equal(pgqrs_read_text(&r, 4), "text");
    assert_true(pgqrs_reader_done(&r));
    assert_int_equal(pgqrs_read_u8(&r), 0);
    assert_false(pgqrs_reader_done(&r));
    pgqrs_buf_fini(&buf);
    assert_null(buf.data);
}

static void runs_out_of_bounds(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    pgqrs_buf_put_bytes(&buf, (struct pgqrs_bytes){.data = "a\0b", .len = 3});
    struct pgqrs_reader r = pgqrs_reader_of(buf.data, buf.len);
    (void)pgqrs_read_bytes(&r, 2);
    assert_true(r.failed); /* longer than allowed */
    r = pgqrs_reader_of(buf.data, buf.len);
    assert_string_equal(pgqrs_read_text(&r, 10), "");
    assert_true(r.failed); /* a zero byte inside */
    r = pgqrs_reader_of(buf.data, buf.len - 1);
    (void)pgqrs_read_bytes(&r, 10);
    assert_true(r.failed); /* without the byte that ends it */
    buf.data[buf.len - 1] = 'x';
    r = pgqrs_reader_of(buf.data, buf.len);
    (void)pgqrs_read_bytes(&r, 10);
    assert_true(r.failed); /* ended by another byte */
    pgqrs_buf_set_u32(&buf, 0, UINT32_MAX);
    r = pgqrs_reader_of(buf.data, buf.len);
    (void)pgqrs_read_bytes(&r, SIZE_MAX);
    assert_true(r.failed);
    assert_false(pgqrs_reader_done(&r));
    r = pgqrs_reader_of(NULL, 0);
    assert_true(pgqrs_reader_done(&r));
    pgqrs_buf_fini(&buf);
}

/* Whatever the bytes are, a reader stays inside them; the address sanitizer watches. */
static void random_bytes(void **state)
{
    (void)state;
    uint32_t seed = 20260131;
    for (int round = 0; round < 20000; round++) {
        uint8_t *data = malloc(64);
        assert_non_null(data);
        size_t len = 0;
        for (; len < 64; len++) {
            seed = seed * 1664525 + 1013904223;
            data[len] = (uint8_t)(seed >> 24) & ((seed & 0x300) != 0 ? 0x07 : 0xff);
        }
        len = seed % 65;
        memmove(data + 64 - len, data, len); /* up against the end of the block */
        struct pgqrs_reader r = pgqrs_reader_of(data + 64 - len, len);
        for (int i = 0; i < 10; i++) {
            seed = seed * 1664525 + 1013904223;
            const uint8_t *at = r.at;
            switch (seed >> 29) {
            case 0:
                (void)pgqrs_read_u8(&r);
                break;
            case 1:
                (void)pgqrs_read_u64(&r);
                break;
            case 2:
                (void)strlen(pgqrs_read_text(&r, 16));
                break;
            default: {
                struct pgqrs_bytes run = pgqrs_read_bytes(&r, 32);
                assert_true(run.len <= 32 && run.data[run.len] == 0);
                break;
            }
            }
            assert_true(r.at >= at && r.at <= r.end);
        }
        free(data);
    }
}

static void buffers_that_can_not_grow(void **state)
{
    (void)state;
    struct pgqrs_buf buf = {0};
    pgqrs_buf_put_u8(&buf, 1);
    assert_null(pgqrs_buf_reserve(&buf, SIZE_MAX));
    assert_true(buf.failed);
    pgqrs_buf_put_u8(&buf, 2);
    assert_int_equal(buf.len, 1);
    pgqrs_buf_clear(&buf);
    assert_false(buf.failed);
    pgqrs_buf_put(&buf, "xyz", 3);
    assert_memory_equal(buf.data, "xyz", 3);
    for (int i = 0; i < 1000; i++) {
        pgqrs_buf_put_u64(&buf, (uint64_t)i);
    }
    assert_int_equal(buf.len, 8003);
    assert_memory_equal(buf.data, "xyz", 3);
    pgqrs_buf_fini(&buf);
    assert_int_equal(pgqrs_bytes_from(NULL).len, 0);
}

/* ---- addresses ---- */

static void addresses(void **state)
{
    static const struct {
        const char *text, *shown; /* null: it is none */
    } cases[] = {
        {"9090", "127.0.0.1:9090"},
        {"127.0.0.1:0", "127.0.0.1:0"},
        {"0.0.0.0:65535", "0.0.0.0:65535"},
        {"[::1]:80", "[::1]:80"},
        {"[::]:80", "[::]:80"},
        {"", NULL},
        {":80", NULL},
        {"127.0.0.1", NULL},
        {"127.0.0.1:", NULL},
        {"127.0.0.1:65536", NULL},
        {"127.0.0.1:-1", NULL},
        {"127.0.0.1:80 ", NULL},
        {"::1:80", NULL},
        {"[::1]", NULL},
        {"[]:80", NULL},
        {"[::1:80", NULL},
        {"localhost:80", NULL},
        {"[127.0.0.1]:80", NULL},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999:0000:80", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pgqrs_address address;
        char shown[PGQRS_ADDRESS_TEXT];
        int rc = pgqrs_address_parse(cases[i].text, &address);
        assert_int_equal(rc, cases[i].shown == NULL ? -1 : 0);
        if (rc == 0) {
            pgqrs_address_format(&address, shown);
            assert_string_equal(shown, cases[i].shown);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_texts),
        cmocka_unit_test(error_texts_are_cut),
        cmocka_unit_test(durations),
        cmocka_unit_test(byte_sizes),
        cmocka_unit_test(integers),
        cmocka_unit_test(addresses),
        cmocka_unit_test(timestamps),
        cmocka_unit_test(timestamps_of_others),
        cmocka_unit_test(clocks),
        cmocka_unit_test(bytes_round_trip),
        cmocka_unit_test(runs_out_of_bounds),
        cmocka_unit_test(random_bytes),
        cmocka_unit_test(buffers_that_can_not_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
