/* SPDX-License-Identifier: Apache-2.0 */
/* The real bin/pgqrs, run by a shell as people run it. Messages: tests/it_cli_messages.c. */
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

/* ---- admin and queues ---- */

static void test_install_and_verify(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p admin install");
    assert_string_equal(shell_out, "the schema is installed\n");
    ok(f, "p admin install -o json");
    assert_string_equal(shell_out, "{\"installed\":true}\n");
    ok(f, "p admin verify");
    db_exec(&f->scratch, "drop index pgqrsd_messages_lease");
    assert_int_equal(sh(f, "p admin verify"), 1);
    says(shell_err, "pgqrsd_messages_lease");
    says(shell_err, "pgqrs admin install");
    ok(f, "p -o json admin install && p admin verify -ojson");
    says(shell_out, "{\"verified\":true}\n");
}

static void test_queues(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p admin install; p queue list -o json");
    says(shell_out, "[]\n");
    ok(f, "p queue create one 'two words' -o json");
    json_t *json = shell_json();
    assert_int_equal(json_array_size(json), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(json, 1), "name")),
                        "two words");
    json_decref(json);
    /* One that exists does not keep the next from being created. */
    assert_int_equal(sh(f, "p queue create one three"), 1);
    says(shell_err, "queue \"one\" exists already");
    says(shell_out, "queue \"three\" is created");
    ok(f, "p queue list");
    says(shell_out, "NAME\n");
    says(shell_out, "Z  -       two words\n");
    ok(f, "p queue list -o json");
    json = shell_json();
    assert_int_equal(json_array_size(json), 3);
    json_decref(json);
    assert_int_equal(sh(f, "p queue create ''"), 1);
    says(shell_err, "found 0 bytes, expected 1 to 255");
    assert_int_equal(sh(f, "p queue create $(printf 'n%%.0s' $(seq 256))"), 1);
    says(shell_err, "found 256 bytes, expected 1 to 255");
    assert_int_equal(sh(f, "p queue create $(printf '\\377')"), 1);
    says(shell_err, "\\xff");
    says(shell_err, "UTF-8");
}

static void test_metrics(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p queue create b; p message enqueue a 1; p message enqueue a 2 --delay 1h;"
          "p message enqueue a 3; p message enqueue a 4");
    db_exec(&f->scratch, "update pgqrs_messages set archived_at = enqueued_at, pgqrsd_outcome = "
                         "'failed', pgqrsd_error = 'no' where id = 4");
    ok(f, "p queue metrics -o json");
    json_t *json = shell_json();
    assert_int_equal(json_array_size(json), 2);
    json_t *a = json_array_get(json, 0);
    assert_string_equal(json_string_value(json_object_get(a, "name")), "a");
    assert_int_equal(json_integer_value(json_object_get(a, "ready")), 2);
    assert_int_equal(json_integer_value(json_object_get(a, "delayed")), 1);
    assert_int_equal(json_integer_value(json_object_get(a, "leased")), 0);
    assert_int_equal(json_integer_value(json_object_get(a, "archived")), 1);
    assert_int_equal(json_integer_value(json_object_get(a, "failed")), 1);
    assert_int_equal(json_integer_value(json_object_get(a, "total")), 4);
    assert_int_equal(strlen(json_string_value(json_object_get(a, "newest_at"))), 27);
    assert_true(json_is_null(json_object_get(json_array_get(json, 1), "oldest_pending_at")));
    json_decref(json);
    ok(f, "p queue metrics b -o json");
    json = shell_json();
    assert_int_equal(json_array_size(json), 1);
    json_decref(json);
    ok(f, "p queue metrics");
    says(shell_out, "    2        1       0         1       1  ");
    assert_int_equal(sh(f, "p queue metrics none"), 1);
    says(shell_err, "queue \"none\" does not exist; create it with: pgqrs queue create none");
}

/* ---- wait ---- */

static void test_wait_ends_when_nothing_is_left(void **state)
{
    const struct fixture *f = *state;
    char command[1024];
    char line[256];
    ok(f, "p queue wait a"); /* there is nothing */
    assert_string_equal(shell_out, "waiting 0  running 0  0 s\n");
    ok(f, "p message enqueue a 1; p message enqueue a 2 --delay 1h; p message enqueue a 3");
    int n = shell_begin(&f->scratch, command, sizeof command);
    (void)snprintf(command + n, sizeof command - (size_t)n, "p queue wait a --timeout 60s");
    FILE *waiting = popen(command, "re");
    assert_non_null(waiting);
    assert_non_null(fgets(line, sizeof line, waiting));
    assert_string_equal(line, "waiting 3  running 0  0 s\n");
    db_exec(&f->scratch, "update pgqrs_messages set archived_at = enqueued_at, "
                         "pgqrsd_outcome = case id when 1 then 'failed' else 'done' end");
    do {
        assert_non_null(fgets(line, sizeof line, waiting));
    } while (strstr(line, "waiting 0  running 0") == NULL);
    assert_null(fgets(line, sizeof line, waiting));
    assert_int_equal(pclose(waiting), 0);
}

static void test_wait_counts_no_further_than_it_must(void **state)
{
    const struct fixture *f = *state;
    ok(f, "seq 10001 | p message enqueue a -");
    assert_int_equal(sh(f, "p queue wait a --timeout 0"), 1);
    says(shell_out, "waiting 10000+  running 0  ");
    says(shell_err, "timed out, waiting 10000+, running 0");
    assert_int_equal(sh(f, "p queue wait a --timeout 0 -o json"), 1);
    says(shell_out, "\"waiting\":10000,\"running\":0,\"capped\":[\"waiting\"],");
}

static void test_wait_times_out(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p message enqueue a 1 --delay 1h");
    assert_int_equal(sh(f, "p queue wait a --timeout 50ms"), 1);
    says(shell_err, "queue \"a\": timed out, waiting 1, running 0");
    assert_int_equal(sh(f, "p queue wait a --timeout 0 -o json"), 1);
    json_t *json = shell_json();
    assert_true(json_is_true(json_object_get(json, "timed_out")));
    assert_true(json_is_integer(json_object_get(json, "running")));
    assert_int_equal(json_integer_value(json_object_get(json, "waiting")), 1);
    assert_int_equal(json_array_size(json_object_get(json, "capped")), 0);
    json_decref(json);
    assert_int_equal(sh(f, "p queue wait b"), 1);
    assert_int_equal(sh(f, "p queue wait a --timeout 5"), 2);
    says(shell_err, "--timeout: found \"5\", expected a duration");
    assert_int_equal(sh(f, "p queue wait a --timeout 1h >/dev/full"), 1);
    says(shell_err, "standard output: No space left on device");
}

/* ---- the rest ---- */

static void test_where_the_store_comes_from(void **state)
{
    const struct fixture *f = *state;
    ok(f, "unset PGQRS_DSN; for n in 1 2 3 4 5; do p --dsn sqlite:$n.db admin install &&"
          " p --dsn sqlite:$n.db queue create q$n; done;"
          "mkdir sub; echo 'dsn: sqlite:../3.db' >sub/c.yaml; echo 'dsn: sqlite:4.db' >four.yaml;"
          "echo 'dsn: sqlite:5.db' >pgqrs.yaml");
    ok(f, "export PGQRS_DSN=sqlite:2.db PGQRS_CONFIG_FILE=four.yaml;"
          "p --dsn sqlite:1.db queue list --config sub/c.yaml");
    says(shell_out, " q1\n");
    ok(f, "export PGQRS_DSN=sqlite:2.db; p queue list --config sub/c.yaml");
    says(shell_out, " q2\n");
    ok(f, "unset PGQRS_DSN; export PGQRS_CONFIG_FILE=four.yaml; p queue list --config sub/c.yaml");
    says(shell_out, " q3\n");
    ok(f, "unset PGQRS_DSN; export PGQRS_CONFIG_FILE=four.yaml; p queue list");
    says(shell_out, " q4\n");
    ok(f, "unset PGQRS_DSN; p queue list");
    says(shell_out, " q5\n");
    assert_int_equal(sh(f, "unset PGQRS_DSN; cd sub; p queue list"), 78);
    says(shell_err, "found no store, expected --dsn, PGQRS_DSN, --config or PGQRS_CONFIG_FILE, "
                    "or a file ./pgqrs.yaml or /etc/pgqrs/pgqrsd.yaml");
    assert_int_equal(
        sh(f, "unset PGQRS_DSN; printf 'a: 1\\ndsn: [\\n' >c; p queue list --config c"), 78);
    says(shell_err, "c:3: dsn: not YAML: ");
}

static void test_exit_statuses(void **state)
{
    static const struct {
        int status;
        const char *words, *error;
    } cases[] = {
        {2, "", "usage: pgqrs"},
        {2, "queue", "queue create NAME..."},
        {2, "nonsense",
         "found \"nonsense\", expected admin, queue, message, dlq, workflow, run, schedule, "
         "worker, ctl, doctor or top"},
        {2, "queue nonsense", "queue has no command \"nonsense\""},
        {2, "queue create", "found 0 words, expected: NAME..."},
        {2, "queue list x", "found 1 word, expected: none"},
        {2, "message enqueue a", "found 1 word, expected: QUEUE (JSON | @FILE | -)"},
        {2, "queue list --nonsense", "option --nonsense is unknown"},
        {2, "queue list --help=x", "option --help=x is unknown, or takes no value"},
        {2, "queue list -x", "option -x is unknown"},
        {2, "queue list -o", "option -o: found no value, expected one"},
        {2, "queue list -o xml", "--output: found \"xml\", expected table or json"},
        {2, "queue list --delay 1s", "queue list has no option --delay"},
        {2, "message enqueue a 1 --delay 1", "--delay: found \"1\", expected a duration"},
        {2, "message enqueue a 1 --priority 9999999999", "--priority: found \"9999999999\""},
        {2, "message enqueue a 1 --batch 0", "--batch: found \"0\""},
        {78, "queue list --dsn mysql:x", "--dsn: found unknown scheme \"mysql:\""},
        {78, "queue list --dsn pg.db", "--dsn: found no scheme"},
        {69, "queue list",
         "queue.db\": No such file or directory\npgqrs: to create it: pgqrs "
         "admin install"},
        {69, "admin install --dsn sqlite:no/such/q.db", "No such file or directory"},
        {69, "queue list --dsn sqlite:.", "directory, expected an SQLite database"},
        {69, "queue list --dsn sqlite:text", "not an SQLite database"},
        {1, "message enqueue a 1 --dsn sqlite:empty", "pgqrs admin install"},
        {1, "queue metrics --dsn sqlite:empty", "pgqrs admin install"},
    };
    const struct fixture *f = *state;
    ok(f, "seq 9999 >text; : >empty");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = sh(f, "p %s", cases[i].words);
        if (status != cases[i].status) {
            fail_msg("%s: found exit status %d, expected %d\n%s%s", cases[i].words, status,
                     cases[i].status, shell_out, shell_err);
        }
        says(shell_err, cases[i].error);
        assert_string_equal(shell_out, "");
    }
}

static void test_output_that_can_not_be_written_is_a_failure(void **state)
{
    static const char *const commands[] = {
        "queue list", "queue list -o json", "queue metrics", "message enqueue a 1",
        "--help",     "--version",          "message get 1"};
    const struct fixture *f = *state;
    ok(f, "p message enqueue a 1");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        assert_int_equal(sh(f, "p %s >/dev/full", commands[i]), 1);
        says(shell_err, "standard output: No space left on device");
        assert_int_equal(sh(f, "p %s >&-", commands[i]), 1);
        says(shell_err, "standard output: ");
    }
    ok(f, "p admin verify"); /* nothing of it went into the database */
}

static void test_help_is_at_every_level(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p --version");
    says(shell_out, "pgqrs 0.");
    ok(f, "p -h");
    says(shell_out, "  admin install ");
    says(shell_out, "  message list ");
    says(shell_out, "--dsn DSN");
    ok(f, "p queue --help");
    says(shell_out, "  queue wait NAME ");
    assert_null(strstr(shell_out, "admin verify"));
    ok(f, "p message list -h");
    says(shell_out, "--before ID");
    says(shell_out, "--output FORMAT");
    assert_null(strstr(shell_out, "--delay"));
    ok(f, "p --help queue wait");
    says(shell_out, "--timeout D");
}

int main(void)
{
#define EMPTY(test) cmocka_unit_test_setup_teardown(test, shell_setup, fixture_teardown)
#define QUEUE(test) cmocka_unit_test_setup_teardown(test, setup_with_queue, fixture_teardown)
    const struct CMUnitTest tests[] = {
        EMPTY(test_install_and_verify),
        EMPTY(test_queues),
        QUEUE(test_metrics),
        QUEUE(test_wait_ends_when_nothing_is_left),
        QUEUE(test_wait_times_out),
        QUEUE(test_wait_counts_no_further_than_it_must),
        EMPTY(test_where_the_store_comes_from),
        EMPTY(test_exit_statuses),
        QUEUE(test_output_that_can_not_be_written_is_a_failure),
        EMPTY(test_help_is_at_every_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
