/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/payload.h"

static void assert_taken(const struct pgqrs_payload_rules *rules, const char *text)
{
    struct pgqrs_buf out = {0};
    struct pgqrs_error err;
    if (pgqrs_payload_check(rules, pgqrs_bytes_from(text), &out, &err) < 0) {
        fail_msg("%.60s: %s", text, err.text);
    }
    pgqrs_buf_fini(&out);
}

static void assert_refused(const struct pgqrs_payload_rules *rules, const char *text,
                           const char *expected)
{
    struct pgqrs_buf out = {0};
    struct pgqrs_error err;
    assert_int_equal(pgqrs_payload_check(rules, pgqrs_bytes_from(text), &out, &err), -1);
    assert_int_equal(err.code, PGQRS_ERR_INVALID);
    if (strstr(err.text, expected) == NULL) {
        fail_msg("found \"%s\", expected \"%s\" in it", err.text, expected);
    }
    pgqrs_buf_fini(&out);
}

/* A string of len bytes between before and after; free it. */
static char *with_string(const char *before, const char *piece, size_t times, const char *after)
{
    size_t size = strlen(before) + strlen(piece) * times + strlen(after) + 1;
    char *text = malloc(size);
    assert_non_null(text);
    char *end = stpcpy(text, before);
    for (size_t i = 0; i < times; i++) {
        end = stpcpy(end, piece);
    }
    (void)stpcpy(end, after);
    return text;
}

static void size(void **state)
{
    (void)state;
    struct pgqrs_payload_rules rules = pgqrs_payload_rules_default();
    rules.max_payload_size_bytes = 5;
    assert_taken(&rules, "[ 1,\n 2 ]");
    assert_refused(&rules, "[1,23]",
                   "max_payload_size_bytes: found 6 bytes without white space, expected at most 5");
}

static void strings(void **state)
{
    (void)state;
    const struct pgqrs_payload_rules rules = pgqrs_payload_rules_default();
    static const struct {
        const char *piece;
        size_t fits;
    } pieces[] = {{"x", 1024},       {"\xc3\xa9", 512},       {"\\u00e9", 512},
                  {"\\u0041", 1024}, {"\\ud83d\\ude00", 256}, {"\\n", 1024},
                  {"\\u20ac", 341},  {"a\\\"", 512},          {"\\\\", 1024}};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        static const char *const around[][2] = {
            {"\"", "\""}, {"[1,\"", "\"]"}, {"{\"a\":\"", "\",\"a\":1}"}, {"[{\"", "\":[]}]"}};
        for (size_t k = 0; k < sizeof around / sizeof *around; k++) {
            char *text = with_string(around[k][0], pieces[i].piece, pieces[i].fits, around[k][1]);
            assert_taken(&rules, text);
            free(text);
            text = with_string(around[k][0], pieces[i].piece, pieces[i].fits + 1, around[k][1]);
            assert_refused(&rules, text,
                           k == 3 ? "max_string_length: found a key of 10"
                                  : "max_string_length: found a string of 10");
            free(text);
        }
    }
}

static void depth(void **state)
{
    (void)state;
    struct pgqrs_payload_rules rules = pgqrs_payload_rules_default();
    assert_taken(&rules, "[[[[[[]]]]]]");
    assert_taken(&rules, "{\"a\":{\"a\":[{\"a\":[1,\"x\",null]}]}}");
    assert_refused(&rules, "[[[[[[1]]]]]]", "max_object_depth: found depth 6, expected at most 5");
    assert_refused(&rules, "[1,[2,[3,[4,[5,[\"x\"]]]]]]", "found depth 6");
    assert_refused(&rules, "[[[[[[[]]]]]]]", "found depth 6");
    /* Siblings do not add up. */
    assert_taken(&rules, "[[[1]],[[2]],{\"a\":[3]},{\"b\":{}},[[[[4]]]]]");
    rules.max_object_depth = 0;
    assert_taken(&rules, "1");
    assert_taken(&rules, "{}");
    assert_refused(&rules, "[1]", "found depth 1, expected at most 0");
    assert_refused(&rules, "{\"a\":1}", "found depth 1");
}

static void forbidden(void **state)
{
    (void)state;
    struct pgqrs_payload_rules rules = pgqrs_payload_rules_default();
    const char *expected = "forbidden_keys: found \"__proto__\", expected no such key";
    assert_refused(&rules, "{\"__proto__\":1}", expected);
    assert_refused(&rules, "[0,[{\"a\":1,\"b\":{\"__proto__\":{}}}]]", expected);
    assert_refused(&rules, "{\"\\u005f_prot\\u006F__\":1}", expected);
    assert_refused(&rules, "{\"constructor\":1}", "\"constructor\"");
    /* The second value of a key does not hide what is in the first. */
    assert_refused(&rules, "{\"a\":{\"constructor\":1},\"a\":1}", "\"constructor\"");
    assert_taken(&rules, "{\"a\":\"__proto__\",\"b\":[\"constructor\",\"__proto__\"]}");
    assert_taken(&rules, "{\"__proto\":1,\"__proto__x\":2,\"\":3,\"\\u005f\":4}");
    rules.forbidden_keys = NULL;
    assert_taken(&rules, "{\"__proto__\":1}");
}

static void required(void **state)
{
    (void)state;
    static const char *const names[] = {"type", "id", NULL};
    struct pgqrs_payload_rules rules = pgqrs_payload_rules_default();
    rules.required_keys = names;
    assert_taken(&rules, "{\"id\":{},\"x\":[1],\"t\\u0079pe\":null}");
    assert_refused(&rules, "{\"id\":1}",
                   "required_keys: found no \"type\", expected it in the outermost object");
    assert_refused(&rules, "{}", "\"type\"");
    assert_refused(&rules, "{\"type\":{\"id\":1}}", "\"id\"");
    assert_refused(&rules, "{\"type\":\"id\"}", "\"id\"");
    /* Only objects have keys. */
    assert_taken(&rules, "[]");
    assert_taken(&rules, "[{\"a\":1}]");
    assert_taken(&rules, "\"x\"");
}

static void all_off(void **state)
{
    (void)state;
    const struct pgqrs_payload_rules rules = {.max_payload_size_bytes = PGQRS_RULE_OFF,
                                              .max_string_length = PGQRS_RULE_OFF,
                                              .max_object_depth = PGQRS_RULE_OFF};
    char *text = with_string("[[[[[[[[{\"__proto__\":\"", "x", 100000, "\"}]]]]]]]]");
    assert_taken(&rules, text);
    free(text);
    text = with_string("\"", "x", PGQRS_ENQUEUE_MAX, "\"");
    assert_refused(&rules, text, "expected at most 1048576");
    free(text);
    assert_refused(&rules, "[1", "one JSON value");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size),      cmocka_unit_test(strings),  cmocka_unit_test(depth),
        cmocka_unit_test(forbidden), cmocka_unit_test(required), cmocka_unit_test(all_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
