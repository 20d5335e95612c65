/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/payload.h"

static void assert_becomes(const char *text, const char *expected)
{
    struct pgqrs_buf out = {0};
    struct pgqrs_error err;
    if (pgqrs_payload_normalise(pgqrs_bytes_from(text), &out, &err) < 0) {
        fail_msg("%s: %s", text, err.text);
    }
    assert_int_equal(out.len, strlen(expected));
    assert_memory_equal(out.data, expected, out.len);
    pgqrs_buf_fini(&out);
}

static void assert_refused(struct pgqrs_bytes text, const char *expected)
{
    struct pgqrs_buf out = {0};
    struct pgqrs_error err;
    assert_int_equal(pgqrs_payload_normalise(text, &out, &err), -1);
    assert_int_equal(err.code, PGQRS_ERR_INVALID);
    if (strstr(err.text, expected) == NULL) {
        fail_msg("found \"%s\", expected \"%s\" in it", err.text, expected);
    }
    pgqrs_buf_fini(&out);
}

static void any_kind_of_value(void **state)
{
    (void)state;
    static const char *const values[] = {"null", "true", "0", "-1.5e3", "\"\"", "[]", "{}"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        assert_becomes(values[i], values[i]);
    }
}

static void white_space_goes(void **state)
{
    (void)state;
    assert_becomes(" { \"a b\" :\t[ 1 ,\r\n2 ] , \"\\\" x\" : \" y \\\\\" } \n",
                   "{\"a b\":[1,2],\"\\\" x\":\" y \\\\\"}");
}

static void nothing_else_changes(void **state)
{
    (void)state;
    assert_becomes("[9223372036854775807,-9223372036854775808,9007199254740993]",
                   "[9223372036854775807,-9223372036854775808,9007199254740993]");
    assert_becomes("[0.1,1.0,1E2,-0,0.30000000000000004]", "[0.1,1.0,1E2,-0,0.30000000000000004]");
    assert_becomes("\"\\u00e9 é \\/ 😀 \\ud83d\\ude00\"", "\"\\u00e9 é \\/ 😀 \\ud83d\\ude00\"");
    assert_becomes("{\"b\":1,\"a\":2,\"b\":3}", "{\"b\":1,\"a\":2,\"b\":3}");
}

static void says_where_it_is_wrong(void **state)
{
    (void)state;
    assert_refused(pgqrs_bytes_from("{\n \"a\": 1,\n \"b\": x}"), "line 3, column");
    assert_refused(pgqrs_bytes_from("{} {}"), "line 1, column");
    assert_refused(pgqrs_bytes_from("[1,]"), "one JSON value");
    assert_refused(pgqrs_bytes_from("{'a':1}"), "one JSON value");
    assert_refused(pgqrs_bytes_from("nul"), "one JSON value");
    assert_refused(pgqrs_bytes_from("   "), "one JSON value");
    assert_refused(pgqrs_bytes_from(""), "nothing");
    assert_refused((struct pgqrs_bytes){0}, "nothing");
    assert_refused((struct pgqrs_bytes){.data = "[1\0]", .len = 4}, "zero byte at byte 3");
    assert_refused(pgqrs_bytes_from("\"\xff\""), "decode byte 0xff");
    assert_refused(pgqrs_bytes_from("\"\\ud800\""), "one JSON value");
    assert_refused(pgqrs_bytes_from("\"a\\u0000b\""), "\\u0000");
}

static void numbers_too_big(void **state)
{
    (void)state;
    assert_refused(pgqrs_bytes_from("9223372036854775808"), "too big integer");
    assert_refused(pgqrs_bytes_from("[1e999]"), "real number overflow");
}

/* size bytes of open, then the same number of close. */
static char *nested(size_t depth)
{
    char *text = malloc(depth * 2 + 1);
    assert_non_null(text);
    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    text[depth * 2] = 0;
    return text;
}

static void depth_is_bounded(void **state)
{
    (void)state;
    char *text = nested(127);
    assert_becomes(text, text);
    free(text);
    text = nested(128);
    assert_refused(pgqrs_bytes_from(text), "128 levels");
    free(text);
    text = nested(1000000);
    assert_refused(pgqrs_bytes_from(text), "one JSON value");
    free(text);
}

static void size_is_bounded(void **state)
{
    (void)state;
    size_t len = PGQRS_ENQUEUE_MAX + 1;
    char *text = malloc(len + 101);
    assert_non_null(text);
    memset(text, 'x', len);
    text[0] = text[len - 1] = '"';
    assert_refused((struct pgqrs_bytes){.data = text, .len = len}, "1048577 bytes");
    /* White space does not count. */
    text[len - 2] = '"';
    memset(text + len - 1, ' ', 102);
    struct pgqrs_buf out = {0};
    struct pgqrs_error err;
    assert_int_equal(
        pgqrs_payload_normalise((struct pgqrs_bytes){.data = text, .len = len + 101}, &out, &err),
        0);
    assert_int_equal(out.len, PGQRS_ENQUEUE_MAX);
    free(text);
    pgqrs_buf_fini(&out);
}

static void the_buffer_is_used_again(void **state)
{
    (void)state;
    struct pgqrs_buf out = {0};
    struct pgqrs_error err;
    assert_int_equal(pgqrs_payload_normalise(pgqrs_bytes_from("[1, 2]"), &out, &err), 0);
    assert_int_equal(pgqrs_payload_normalise(pgqrs_bytes_from("3"), &out, &err), 0);
    assert_int_equal(out.len, 1);
    assert_memory_equal(out.data, "3", 1);
    pgqrs_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_kind_of_value),    cmocka_unit_test(white_space_goes),
        cmocka_unit_test(nothing_else_changes), cmocka_unit_test(says_where_it_is_wrong),
        cmocka_unit_test(numbers_too_big),      cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(size_is_bounded),      cmocka_unit_test(the_buffer_is_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
