/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json_member.h"

static bool find(const char *text, size_t len, const char *name, char *out)
{
    struct pgqrs_bytes value;
    char *copy = malloc(len + 1); /* nothing is terminated */
    assert_non_null(copy);
    memcpy(copy, text, len);
    bool found = pgqrs_json_member((struct pgqrs_bytes){.data = copy, .len = len}, name, &value);
    if (found) {
        assert_in_range(value.len, 0, len);
        memcpy(out, value.data, value.len);
        out[value.len] = 0;
    }
    free(copy);
    return found;
}

static void assert_member(const char *text, const char *name, const char *expected)
{
    char out[256];
    bool found = find(text, strlen(text), name, out);
    assert_int_equal(found, expected != NULL);
    if (found) {
        assert_string_equal(out, expected);
    }
}

static void test_values_come_as_they_stand(void **state)
{
    (void)state;
    assert_member("{\"a\":1.50}", "a", "1.50");
    assert_member("{\"a\":12345678901234567890123.0e+07}", "a", "12345678901234567890123.0e+07");
    assert_member(" { \"b\" : -0 ,\n\t\"a\" : [ 1, {\"a\": 2} ] \r\n} ", "a", "[ 1, {\"a\": 2} ]");
    assert_member("{\"a\":\"x\\\"}\\\\\",\"b\":true}", "a", "\"x\\\"}\\\\\"");
    assert_member("{\"a\":\"x\\\"}\\\\\",\"b\":true}", "b", "true");
    assert_member("{\"a\":{},\"b\":[],\"c\":null}", "c", "null");
    assert_member("{\"\":1}", "", "1");
    assert_member("{\"\xc3\xa4\":\"\xc3\xb6\"}", "\xc3\xa4", "\"\xc3\xb6\"");
}

static void test_only_members_of_the_object_itself_count(void **state)
{
    (void)state;
    assert_member("{\"x\":{\"a\":1}}", "a", NULL);
    assert_member("{\"x\":[\"a\",1]}", "a", NULL);
    assert_member("{\"x\":\"a\"}", "a", NULL);
    assert_member("{\"x\":\"\\\"a\\\":1\"}", "a", NULL);
    assert_member("{\"aa\":1,\"ab\":2}", "a", NULL);
    assert_member("{\"a\":1}", "aa", NULL);
    assert_member("{}", "a", NULL);
    assert_member("[\"a\",1]", "a", NULL);
    assert_member("\"a\"", "a", NULL);
    assert_member("", "a", NULL);
}

/* Whatever it says of them, nothing is read behind their end. */
static void test_texts_that_are_cut_are_read_to_their_end(void **state)
{
    static const char text[] = "{ \"x\" : [1, \"\\\"\"], \"a\" : {\"b\\\\\": [true]} }";
    char out[256];
    (void)state;
    for (size_t len = 0; len < sizeof text - 1; len++) {
        (void)find(text, len, "a", out);
        (void)find(text, len, "", out);
    }
    struct pgqrs_bytes value;
    assert_false(pgqrs_json_member((struct pgqrs_bytes){0}, "a", &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_come_as_they_stand),
        cmocka_unit_test(test_only_members_of_the_object_itself_count),
        cmocka_unit_test(test_texts_that_are_cut_are_read_to_their_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
