/* SPDX-License-Identifier: Apache-2.0 */
/* The real bin/pgqrs, run by a shell as people run it: adding messages and looking at them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/shell.h"

static int setup_with_queue(void **state)
{
    int rc = shell_setup(state);
    ok(*state, "p admin install && p queue create a");
    return rc;
}

/* ---- enqueue ---- */

static void test_enqueue_one(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p message enqueue a '{\"x\": [1, 1.10]}' --priority -3 --delay 5m");
    assert_string_equal(shell_out, "1 job enqueued, id 1\n");
    assert_int_equal(db_number(&f->scratch, "select pgqrsd_priority from pgqrs_messages"), -3);
    assert_int_equal(db_number(&f->scratch, "select round((julianday(vt) - julianday(enqueued_at)) "
                                            "* 86400) from pgqrs_messages"),
                     300);
    ok(f, "echo ' \"from a file\" ' >x; p -o json message enqueue a @x");
    assert_string_equal(shell_out, "[2]\n");
    ok(f, "p message enqueue a --wrap text 'a \"b\"'; p message enqueue a --wrap t @x");
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrs_messages where "
                                            "payload = '{\"text\":\"a \\\"b\\\"\"}' or "
                                            "payload = '{\"t\":\" \\\"from a file\\\" \\u000a\"}'"),
                     2);
    ok(f, "p message get 1 -o json");
    says(shell_out, "\"payload\":{\"x\":[1,1.10]}"); /* as it was written */
    ok(f, "p message enqueue a -- -5");
    assert_int_equal(sh(f, "p message enqueue a '{'"), 1);
    says(shell_err, "found \"{\": payload: line 1, column 1");
    assert_int_equal(sh(f, "p message enqueue a ''"), 1);
    assert_int_equal(sh(f, "p message enqueue a @none"), 1);
    says(shell_err, "none: can not be read: No such file or directory");
    assert_int_equal(sh(f, "p message enqueue a @."), 1);
    says(shell_err, "Is a directory");
    assert_int_equal(sh(f, "p message enqueue other 1"), 1);
    says(shell_err, "queue \"other\" does not exist; create it with: pgqrs queue create other");
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrs_messages"), 5);
}

static void test_enqueue_lines(void **state)
{
    const struct fixture *f = *state;
    ok(f, "printf '1\\n\\n[2]\\r\\n \\t\\n\"three\"' | p message enqueue a -");
    assert_string_equal(shell_out, "3 jobs enqueued\n");
    ok(f, "seq 5000 | p message enqueue a - --batch 700 -o json");
    ok(f, "p message enqueue a - </dev/null");
    assert_string_equal(shell_out, "0 jobs enqueued\n");
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrs_messages"), 5003);
    assert_int_equal(db_number(&f->scratch,
                               "select sum(cast(payload as integer)) from pgqrs_messages "
                               "where id > 3"),
                     5000 * 5001 / 2);
    ok(f, "printf '1\\n2\\n' | p message enqueue a - -o json");
    assert_string_equal(shell_out, "[5004,5005]\n");
}

static void test_a_bad_line_is_named_and_its_batch_is_not_enqueued(void **state)
{
    const struct fixture *f = *state;
    assert_int_equal(sh(f, "printf '1\\n\\n2\\n3\\n{bad\\n5\\n' | p message enqueue a - --batch 2"),
                     1);
    says(shell_err, "standard input, line 5: found \"{bad\": payload: ");
    says(shell_err, "2 jobs were enqueued before it; of its batch, none");
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrs_messages"), 2);
    assert_int_equal(sh(f, "printf '1\\nx\\n' | p message enqueue a - -o json"), 1);
    says(shell_err, "line 2: found \"x\"");
    says(shell_err, "nothing was enqueued");
    assert_string_equal(shell_out, "[]\n");
    assert_int_equal(sh(f, "printf '1\\n2\\nx\\n' | p message enqueue a - -o json --batch 2"), 1);
    assert_string_equal(shell_out, "[3,4]\n"); /* those that were */
    assert_int_equal(sh(f, "p message enqueue a - <."), 1);
    says(shell_err, "standard input, line 1: can not be read: Is a directory");
}

static void test_wrap_takes_any_text(void **state)
{
    const struct fixture *f = *state;
    ok(f, "printf 'a\"b\\\\c\\t\\033[31m\\n\\n \\n\\303\\244\\n' | p message enqueue a - --wrap "
          "'k\"'");
    assert_string_equal(shell_out, "3 jobs enqueued\n");
    ok(f, "p message get 1 -o json");
    json_t *json = shell_json();
    assert_string_equal(json_string_value(json_object_get(json_object_get(json, "payload"), "k\"")),
                        "a\"b\\c\t\033[31m");
    json_decref(json);
    assert_int_equal(sh(f, "printf 'a\\n\\377\\n' | p message enqueue a - --wrap k"), 1);
    says(shell_err, "line 2: found \"\\xff\": bytes that are not UTF-8, expected text");
    assert_int_equal(sh(f, "printf 'a\\0b\\n' | p message enqueue a - --wrap k"), 1);
    assert_int_equal(sh(f, "printf '\\355\\240\\200' | p message enqueue a - --wrap k"), 1);
    assert_int_equal(sh(f, "p message enqueue a x --wrap ''"), 2);
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrs_messages"), 3);
}

static void test_payloads_have_a_limit(void **state)
{
    const struct fixture *f = *state;
    ok(f, "head -c 1048574 /dev/zero | tr '\\0' x | sed 's/.*/\"&\"/' | p message enqueue a -");
    assert_int_equal(
        sh(f, "head -c 1048575 /dev/zero | tr '\\0' x | sed 's/.*/\"&\"/' | p message enqueue a -"),
        1);
    says(shell_err, "found 1048577 bytes without white space, expected at most 1048576");
    assert_int_equal(sh(f, "head -c 9000000 /dev/zero | p message enqueue a -"), 1);
    says(shell_err, "line 1: found more than 8388608 bytes, expected a shorter line");
    assert_int_equal(sh(f, "head -c 9000000 /dev/zero >big; p message enqueue a @big"), 1);
    says(shell_err, "big: found more than 8388608 bytes");
}

/* ---- reading ---- */

static void test_get(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p message enqueue a '{\"n\":12345678901234567}'");
    ok(f, "p message get 1");
    says(shell_out,
         "id        1\nqueue     a\nstate     ready\nattempts  0\npriority  0\nenqueued  2");
    says(shell_out, "payload   {\"n\":12345678901234567}\n");
    db_exec(&f->scratch, "update pgqrs_messages set archived_at = enqueued_at, pgqrsd_outcome = "
                         "'done', pgqrsd_result = '{\"r\":1}', read_ct = 2, pgqrsd_crash_ct = 1");
    ok(f, "p message get 1 -o json");
    json_t *json = shell_json();
    assert_string_equal(json_string_value(json_object_get(json, "state")), "archived");
    assert_string_equal(json_string_value(json_object_get(json, "outcome")), "done");
    assert_int_equal(json_integer_value(json_object_get(json, "attempts")), 2);
    assert_int_equal(json_integer_value(json_object_get(json, "crashes")), 1);
    assert_true(json_is_null(json_object_get(json, "error")));
    assert_true(json_is_null(json_object_get(json, "worker_id")));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "result"), "r")), 1);
    json_decref(json);
    assert_int_equal(sh(f, "p message get 7"), 1);
    says(shell_err, "message 7 does not exist");
    assert_int_equal(sh(f, "p message get 0"), 2);
    assert_int_equal(sh(f, "p message get 1x"), 2);
    says(shell_err, "ID: found \"1x\", expected a whole number");
}

static void test_list(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p queue create b; seq 30 | p message enqueue a -; p message enqueue b 1;"
          "p message enqueue b 1 --delay 1h");
    db_exec(&f->scratch, "update pgqrs_messages set archived_at = enqueued_at, pgqrsd_outcome = "
                         "case when id < 3 then 'failed' else 'done' end where id < 5");
    static const struct {
        const char *options;
        size_t count;
        int first; /* id */
    } cases[] = {
        {"", 20, 32},
        {"--limit 1000", 32, 32},
        {"--limit 5 --before 10", 5, 9},
        {"--queue b", 2, 32},
        {"--queue a --limit 1", 1, 30},
        {"--state delayed", 1, 32},
        {"--state ready --limit 3", 3, 31},
        {"--state archived", 4, 4},
        {"--state leased", 0, 0},
        {"--outcome failed", 2, 2},
        {"--outcome done", 2, 4},
        {"--outcome done --queue b", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ok(f, "p message list -o json %s", cases[i].options);
        json_t *json = shell_json();
        assert_int_equal(json_array_size(json), cases[i].count);
        assert_int_equal(json_integer_value(json_object_get(json_array_get(json, 0), "id")),
                         cases[i].first);
        json_decref(json);
    }
    assert_int_equal(sh(f, "p message list --state lost"), 2);
    says(shell_err, "--state: found \"lost\", expected ready, delayed, leased or archived");
    assert_int_equal(sh(f, "p message list --outcome lost"), 2);
    assert_int_equal(sh(f, "p message list --limit 1001"), 2);
    says(shell_err, "--limit: found \"1001\", expected a whole number from 1 to 1000");
    assert_int_equal(sh(f, "p message list --queue c"), 1);
}

static void test_nothing_reaches_a_terminal_raw(void **state)
{
    const struct fixture *f = *state;
    /* What others have put into the store may be anything. */
    ok(f, "p message enqueue a 1; p message enqueue a 2; p queue create \"$(printf 'q\\033[2J')\"");
    says(shell_out, "queue \"q\\x1b[2J\" is created");
    db_exec(&f->scratch, "update pgqrs_messages set payload = '\"' || char(155) || '31m\"', "
                         "pgqrsd_result = 'not JSON ' || char(7) where id = 1");
    db_exec(&f->scratch, "update pgqrs_messages set payload = 'x' || char(27) || ']0;t' || "
                         "cast(x'ff' as text) || '\xc3\xa4' where id = 2");
    ok(f, "p message list; p message get 1; p message get 2; p queue list; p message list -o json;"
          "p message get nope || p message enqueue a \"$(printf '\\033[31m')\" || true");
    for (const char *c = shell_out; *c != 0; c++) {
        bool c1 = (unsigned char)c[0] == 0xc2 && (unsigned char)c[1] < 0xa0;
        assert_true((unsigned char)*c >= 0x20 || *c == '\n');
        assert_false(c1 || *c == 0x7f);
    }
    assert_null(strchr(shell_err, 033));
    says(shell_out, "x\\x1b]0;t\\xff\xc3\xa4");
    ok(f, "p message list -o json");
    json_t *json = shell_json();
    assert_string_equal(json_string_value(json_object_get(json_array_get(json, 1), "payload")),
                        "\xc2\x9b"
                        "31m");
    assert_string_equal(json_string_value(json_object_get(json_array_get(json, 1), "result")),
                        "not JSON \a");
    assert_string_equal(json_string_value(json_object_get(json_array_get(json, 0), "payload")),
                        "x\033]0;t\xef\xbf\xbd\xc3\xa4");
    json_decref(json);
}

static void test_tables_fit_eighty_columns(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p message enqueue a \"\\\"$(printf 'long %%.0s' $(seq 100))\\\"\";"
          "p message list; p queue metrics; p queue list; p queue --help; p --help;"
          "p message enqueue --help");
    for (const char *line = shell_out; *line != 0; line += strcspn(line, "\n") + 1) {
        if (strcspn(line, "\n") > 80) {
            fail_msg("%zu columns: %s", strcspn(line, "\n"), line);
        }
    }
    says(shell_out, "long...\n");
}

int main(void)
{
#define QUEUE(test) cmocka_unit_test_setup_teardown(test, setup_with_queue, fixture_teardown)
    const struct CMUnitTest tests[] = {
        QUEUE(test_enqueue_one),
        QUEUE(test_enqueue_lines),
        QUEUE(test_a_bad_line_is_named_and_its_batch_is_not_enqueued),
        QUEUE(test_wrap_takes_any_text),
        QUEUE(test_payloads_have_a_limit),
        QUEUE(test_get),
        QUEUE(test_list),
        QUEUE(test_nothing_reaches_a_terminal_raw),
        QUEUE(test_tables_fit_eighty_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
