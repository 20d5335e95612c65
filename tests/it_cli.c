/* SPDX-License-Identifier: Apache-2.0 */
/* The real bin/pgqrs, run by a shell as people run it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/support/daemon.h"

#define TEXT_MAX 65536

/* The output of the last command. */
static char out[TEXT_MAX], err[TEXT_MAX];

static void read_text(const struct scratch *s, const char *name, char text[TEXT_MAX])
{
    char path[160];
    (void)snprintf(path, sizeof path, "%s/%s", s->dir, name);
    FILE *file = fopen(path, "re");
    size_t len = file == NULL ? 0 : fread(text, 1, TEXT_MAX - 1, file);
    text[len] = 0;
    if (file != NULL) {
        (void)fclose(file);
    }
}

/* Begins a command line: in the scratch directory, where "p" is pgqrs. */
static int begin(const struct scratch *s, char *command, size_t size)
{
    const char *valgrind = getenv("PGQRS_TEST_VALGRIND") != NULL
                               ? "valgrind -q --leak-check=full --error-exitcode=99 "
                               : "";
    char *program = realpath(built("bin/pgqrs"), NULL);
    int n = snprintf(command, size, "cd %s; p() { %s%s \"$@\"; }\n", s->dir, valgrind, program);
    free(program);
    return n;
}

/* Runs a line of shell and returns its exit status. */
static int __attribute__((format(printf, 2, 3))) sh(const struct fixture *f, const char *fmt, ...)
{
    char command[2048];
    int n = begin(&f->scratch, command, sizeof command);
    n += snprintf(command + n, sizeof command - (size_t)n, "{ ");
    va_list args;
    va_start(args, fmt);
    n += vsnprintf(command + n, sizeof command - (size_t)n, fmt, args);
    va_end(args);
    n += snprintf(command + n, sizeof command - (size_t)n, "\n} >out 2>err");
    assert_true(n < (int)sizeof command);
    int status = system(command);
    read_text(&f->scratch, "out", out);
    read_text(&f->scratch, "err", err);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define ok(f, ...)                                                                                 \
    do {                                                                                           \
        int status_ = sh(f, __VA_ARGS__);                                                          \
        if (status_ != 0) {                                                                        \
            fail_msg("exit status %d: %s%s", status_, out, err);                                   \
        }                                                                                          \
    } while (0)

static void says(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("expected: %s\nfound: %s", part, text);
    }
}

static json_t *parsed(void)
{
    json_error_t why;
    json_t *json = json_loads(out, 0, &why);
    if (json == NULL) {
        fail_msg("not one JSON document: %s\n%s", why.text, out);
    }
    return json;
}

static int setup(void **state)
{
    static const char *const variables[] = {"PGQRS_DSN", "PGQRS_CONFIG_FILE", "PGQRS_LOG_LEVEL"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        (void)unsetenv(variables[i]);
    }
    int rc = fixture_setup(state);
    const struct fixture *f = *state;
    (void)setenv("PGQRS_DSN", f->scratch.dsn, 1);
    return rc;
}

static int setup_with_queue(void **state)
{
    int rc = setup(state);
    ok(*state, "p admin install && p queue create a");
    return rc;
}

/* ---- admin and queues ---- */

static void test_install_and_verify(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p admin install");
    assert_string_equal(out, "the schema is installed\n");
    ok(f, "p admin install -o json");
    assert_string_equal(out, "{\"installed\":true}\n");
    ok(f, "p admin verify");
    db_exec(&f->scratch, "drop index pgqrsd_messages_lease");
    assert_int_equal(sh(f, "p admin verify"), 1);
    says(err, "pgqrsd_messages_lease");
    says(err, "pgqrs admin install");
    ok(f, "p -o json admin install && p admin verify -ojson");
    says(out, "{\"verified\":true}\n");
}

static void test_queues(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p admin install; p queue list -o json");
    says(out, "[]\n");
    ok(f, "p queue create one 'two words' -o json");
    json_t *json = parsed();
    assert_int_equal(json_array_size(json), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(json, 1), "name")),
                        "two words");
    json_decref(json);
    /* One that exists does not keep the next from being created. */
    assert_int_equal(sh(f, "p queue create one three"), 1);
    says(err, "queue \"one\" exists already");
    says(out, "queue \"three\" is created");
    ok(f, "p queue list");
    says(out, "NAME\n");
    says(out, "Z  two words\n");
    ok(f, "p queue list -o json");
    json = parsed();
    assert_int_equal(json_array_size(json), 3);
    json_decref(json);
    assert_int_equal(sh(f, "p queue create ''"), 1);
    says(err, "found 0 bytes, expected 1 to 255");
    assert_int_equal(sh(f, "p queue create $(printf 'n%%.0s' $(seq 256))"), 1);
    says(err, "found 256 bytes, expected 1 to 255");
    assert_int_equal(sh(f, "p queue create $(printf '\\377')"), 1);
    says(err, "\\xff");
    says(err, "UTF-8");
}

static void test_metrics(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p queue create b; p message enqueue a 1; p message enqueue a 2 --delay 1h;"
          "p message enqueue a 3; p message enqueue a 4");
    db_exec(&f->scratch, "update pgqrs_messages set archived_at = enqueued_at, pgqrsd_outcome = "
                         "'failed', pgqrsd_error = 'no' where id = 4");
    ok(f, "p queue metrics -o json");
    json_t *json = parsed();
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
    json = parsed();
    assert_int_equal(json_array_size(json), 1);
    json_decref(json);
    ok(f, "p queue metrics");
    says(out, "    2        1       0         1       1  ");
    assert_int_equal(sh(f, "p queue metrics none"), 1);
    says(err, "queue \"none\" does not exist; create it with: pgqrs queue create none");
}

/* ---- enqueue ---- */

static void test_enqueue_one(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p message enqueue a '{\"x\": [1, 1.10]}' --priority -3 --delay 5m");
    assert_string_equal(out, "1 job enqueued, id 1\n");
    assert_int_equal(db_number(&f->scratch, "select pgqrsd_priority from pgqrs_messages"), -3);
    assert_int_equal(db_number(&f->scratch, "select round((julianday(vt) - julianday(enqueued_at)) "
                                            "* 86400) from pgqrs_messages"),
                     300);
    ok(f, "echo ' \"from a file\" ' >x; p -o json message enqueue a @x");
    assert_string_equal(out, "[2]\n");
    ok(f, "p message enqueue a --wrap text 'a \"b\"'; p message enqueue a --wrap t @x");
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrs_messages where "
                                            "payload = '{\"text\":\"a \\\"b\\\"\"}' or "
                                            "payload = '{\"t\":\" \\\"from a file\\\" \\u000a\"}'"),
                     2);
    ok(f, "p message get 1 -o json");
    says(out, "\"payload\":{\"x\":[1,1.10]}"); /* as it was written */
    ok(f, "p message enqueue a -- -5");
    assert_int_equal(sh(f, "p message enqueue a '{'"), 1);
    says(err, "found \"{\": payload: line 1, column 1");
    assert_int_equal(sh(f, "p message enqueue a ''"), 1);
    assert_int_equal(sh(f, "p message enqueue a @none"), 1);
    says(err, "none: can not be read: No such file or directory");
    assert_int_equal(sh(f, "p message enqueue a @."), 1);
    says(err, "Is a directory");
    assert_int_equal(sh(f, "p message enqueue other 1"), 1);
    says(err, "queue \"other\" does not exist; create it with: pgqrs queue create other");
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrs_messages"), 5);
}

static void test_enqueue_lines(void **state)
{
    const struct fixture *f = *state;
    ok(f, "printf '1\\n\\n[2]\\r\\n \\t\\n\"three\"' | p message enqueue a -");
    assert_string_equal(out, "3 jobs enqueued\n");
    ok(f, "seq 5000 | p message enqueue a - --batch 700 -o json");
    ok(f, "p message enqueue a - </dev/null");
    assert_string_equal(out, "0 jobs enqueued\n");
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrs_messages"), 5003);
    assert_int_equal(db_number(&f->scratch,
                               "select sum(cast(payload as integer)) from pgqrs_messages "
                               "where id > 3"),
                     5000 * 5001 / 2);
    ok(f, "printf '1\\n2\\n' | p message enqueue a - -o json");
    assert_string_equal(out, "[5004,5005]\n");
}

static void test_a_bad_line_is_named_and_its_batch_is_not_enqueued(void **state)
{
    const struct fixture *f = *state;
    assert_int_equal(sh(f, "printf '1\\n\\n2\\n3\\n{bad\\n5\\n' | p message enqueue a - --batch 2"),
                     1);
    says(err, "standard input, line 5: found \"{bad\": payload: ");
    says(err, "2 jobs were enqueued before it; of its batch, none");
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrs_messages"), 2);
    assert_int_equal(sh(f, "printf '1\\nx\\n' | p message enqueue a - -o json"), 1);
    says(err, "line 2: found \"x\"");
    says(err, "nothing was enqueued");
    assert_string_equal(out, "[]\n");
    assert_int_equal(sh(f, "printf '1\\n2\\nx\\n' | p message enqueue a - -o json --batch 2"), 1);
    assert_string_equal(out, "[3,4]\n"); /* those that were */
    assert_int_equal(sh(f, "p message enqueue a - <."), 1);
    says(err, "standard input, line 1: can not be read: Is a directory");
}

static void test_wrap_takes_any_text(void **state)
{
    const struct fixture *f = *state;
    ok(f, "printf 'a\"b\\\\c\\t\\033[31m\\n\\n \\n\\303\\244\\n' | p message enqueue a - --wrap "
          "'k\"'");
    assert_string_equal(out, "3 jobs enqueued\n");
    ok(f, "p message get 1 -o json");
    json_t *json = parsed();
    assert_string_equal(json_string_value(json_object_get(json_object_get(json, "payload"), "k\"")),
                        "a\"b\\c\t\033[31m");
    json_decref(json);
    assert_int_equal(sh(f, "printf 'a\\n\\377\\n' | p message enqueue a - --wrap k"), 1);
    says(err, "line 2: found \"\\xff\": bytes that are not UTF-8, expected text");
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
    says(err, "found 1048577 bytes without white space, expected at most 1048576");
    assert_int_equal(sh(f, "head -c 9000000 /dev/zero | p message enqueue a -"), 1);
    says(err, "line 1: found more than 8388608 bytes, expected a shorter line");
    assert_int_equal(sh(f, "head -c 9000000 /dev/zero >big; p message enqueue a @big"), 1);
    says(err, "big: found more than 8388608 bytes");
}

/* ---- reading ---- */

static void test_get(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p message enqueue a '{\"n\":12345678901234567}'");
    ok(f, "p message get 1");
    says(out, "id        1\nqueue     a\nstate     ready\nattempts  0\npriority  0\nenqueued  2");
    says(out, "payload   {\"n\":12345678901234567}\n");
    db_exec(&f->scratch, "update pgqrs_messages set archived_at = enqueued_at, pgqrsd_outcome = "
                         "'done', pgqrsd_result = '{\"r\":1}', read_ct = 2, pgqrsd_crash_ct = 1");
    ok(f, "p message get 1 -o json");
    json_t *json = parsed();
    assert_string_equal(json_string_value(json_object_get(json, "state")), "archived");
    assert_string_equal(json_string_value(json_object_get(json, "outcome")), "done");
    assert_int_equal(json_integer_value(json_object_get(json, "attempts")), 2);
    assert_int_equal(json_integer_value(json_object_get(json, "crashes")), 1);
    assert_true(json_is_null(json_object_get(json, "error")));
    assert_true(json_is_null(json_object_get(json, "worker_id")));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "result"), "r")), 1);
    json_decref(json);
    assert_int_equal(sh(f, "p message get 7"), 1);
    says(err, "message 7 does not exist");
    assert_int_equal(sh(f, "p message get 0"), 2);
    assert_int_equal(sh(f, "p message get 1x"), 2);
    says(err, "ID: found \"1x\", expected a whole number");
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
        json_t *json = parsed();
        assert_int_equal(json_array_size(json), cases[i].count);
        assert_int_equal(json_integer_value(json_object_get(json_array_get(json, 0), "id")),
                         cases[i].first);
        json_decref(json);
    }
    assert_int_equal(sh(f, "p message list --state lost"), 2);
    says(err, "--state: found \"lost\", expected ready, delayed, leased or archived");
    assert_int_equal(sh(f, "p message list --outcome lost"), 2);
    assert_int_equal(sh(f, "p message list --limit 1001"), 2);
    says(err, "--limit: found \"1001\", expected a whole number from 1 to 1000");
    assert_int_equal(sh(f, "p message list --queue c"), 1);
}

static void test_nothing_reaches_a_terminal_raw(void **state)
{
    const struct fixture *f = *state;
    /* What others have put into the store may be anything. */
    ok(f, "p message enqueue a 1; p message enqueue a 2; p queue create \"$(printf 'q\\033[2J')\"");
    says(out, "queue \"q\\x1b[2J\" is created");
    db_exec(&f->scratch, "update pgqrs_messages set payload = '\"' || char(155) || '31m\"', "
                         "pgqrsd_result = 'not JSON ' || char(7) where id = 1");
    db_exec(&f->scratch, "update pgqrs_messages set payload = 'x' || char(27) || ']0;t' || "
                         "cast(x'ff' as text) || '\xc3\xa4' where id = 2");
    ok(f, "p message list; p message get 1; p message get 2; p queue list; p message list -o json;"
          "p message get nope || p message enqueue a \"$(printf '\\033[31m')\" || true");
    for (const char *c = out; *c != 0; c++) {
        bool c1 = (unsigned char)c[0] == 0xc2 && (unsigned char)c[1] < 0xa0;
        assert_true((unsigned char)*c >= 0x20 || *c == '\n');
        assert_false(c1 || *c == 0x7f);
    }
    assert_null(strchr(err, 033));
    says(out, "x\\x1b]0;t\\xff\xc3\xa4");
    ok(f, "p message list -o json");
    json_t *json = parsed();
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
    for (const char *line = out; *line != 0; line += strcspn(line, "\n") + 1) {
        if (strcspn(line, "\n") > 80) {
            fail_msg("%zu columns: %s", strcspn(line, "\n"), line);
        }
    }
    says(out, "long...\n");
}

/* ---- wait ---- */

static void test_wait_ends_when_nothing_is_left(void **state)
{
    const struct fixture *f = *state;
    char command[1024];
    char line[256];
    ok(f, "p queue wait a"); /* there is nothing */
    assert_string_equal(out, "done 0  running 0  failed 0  waiting 0  0 jobs/s\n");
    ok(f, "p message enqueue a 1; p message enqueue a 2 --delay 1h; p message enqueue a 3");
    int n = begin(&f->scratch, command, sizeof command);
    (void)snprintf(command + n, sizeof command - (size_t)n, "p queue wait a --timeout 60s");
    FILE *waiting = popen(command, "re");
    assert_non_null(waiting);
    assert_non_null(fgets(line, sizeof line, waiting));
    assert_string_equal(line, "done 0  running 0  failed 0  waiting 3  0 jobs/s\n");
    db_exec(&f->scratch, "update pgqrs_messages set archived_at = enqueued_at, "
                         "pgqrsd_outcome = case id when 1 then 'failed' else 'done' end");
    do {
        assert_non_null(fgets(line, sizeof line, waiting));
    } while (strstr(line, "done 2  running 0  failed 1  waiting 0") == NULL);
    assert_null(fgets(line, sizeof line, waiting));
    assert_int_equal(pclose(waiting), 0);
}

static void test_wait_times_out(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p message enqueue a 1 --delay 1h");
    assert_int_equal(sh(f, "p queue wait a --timeout 50ms"), 1);
    says(err, "queue \"a\": timed out, 1 jobs wait and 0 run");
    assert_int_equal(sh(f, "p queue wait a --timeout 0 -o json"), 1);
    json_t *json = parsed();
    assert_true(json_is_true(json_object_get(json, "timed_out")));
    assert_int_equal(json_integer_value(json_object_get(json, "waiting")), 1);
    json_decref(json);
    assert_int_equal(sh(f, "p queue wait b"), 1);
    assert_int_equal(sh(f, "p queue wait a --timeout 5"), 2);
    says(err, "--timeout: found \"5\", expected a duration");
    assert_int_equal(sh(f, "p queue wait a --timeout 1h >/dev/full"), 1);
    says(err, "standard output: No space left on device");
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
    says(out, " q1\n");
    ok(f, "export PGQRS_DSN=sqlite:2.db; p queue list --config sub/c.yaml");
    says(out, " q2\n");
    ok(f, "unset PGQRS_DSN; export PGQRS_CONFIG_FILE=four.yaml; p queue list --config sub/c.yaml");
    says(out, " q3\n");
    ok(f, "unset PGQRS_DSN; export PGQRS_CONFIG_FILE=four.yaml; p queue list");
    says(out, " q4\n");
    ok(f, "unset PGQRS_DSN; p queue list");
    says(out, " q5\n");
    assert_int_equal(sh(f, "unset PGQRS_DSN; cd sub; p queue list"), 78);
    says(err, "found no store, expected --dsn, PGQRS_DSN, --config or PGQRS_CONFIG_FILE");
    assert_int_equal(
        sh(f, "unset PGQRS_DSN; printf 'a: 1\\ndsn: [\\n' >c; p queue list --config c"), 78);
    says(err, "c:3: dsn: not YAML: ");
}

static void test_exit_statuses(void **state)
{
    static const struct {
        int status;
        const char *words, *error;
    } cases[] = {
        {2, "", "usage: pgqrs"},
        {2, "queue", "queue create NAME..."},
        {2, "nonsense", "found \"nonsense\", expected admin, queue or message"},
        {2, "queue nonsense", "queue has no command \"nonsense\""},
        {2, "queue create", "found 0 words, expected: NAME..."},
        {2, "queue list x", "found 1 words, expected: none"},
        {2, "message enqueue a", "found 1 words, expected: QUEUE (JSON | @FILE | -)"},
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
                     cases[i].status, out, err);
        }
        says(err, cases[i].error);
        assert_string_equal(out, "");
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
        says(err, "standard output: No space left on device");
        assert_int_equal(sh(f, "p %s >&-", commands[i]), 1);
        says(err, "standard output: ");
    }
    ok(f, "p admin verify"); /* nothing of it went into the database */
}

static void test_help_is_at_every_level(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p --version");
    says(out, "pgqrs 0.");
    ok(f, "p -h");
    says(out, "  admin install ");
    says(out, "  message list ");
    says(out, "--dsn DSN");
    ok(f, "p queue --help");
    says(out, "  queue wait NAME ");
    assert_null(strstr(out, "admin verify"));
    ok(f, "p message list -h");
    says(out, "--before ID");
    says(out, "--output FORMAT");
    assert_null(strstr(out, "--delay"));
    ok(f, "p --help queue wait");
    says(out, "--timeout D");
}

int main(void)
{
#define EMPTY(test) cmocka_unit_test_setup_teardown(test, setup, fixture_teardown)
#define QUEUE(test) cmocka_unit_test_setup_teardown(test, setup_with_queue, fixture_teardown)
    const struct CMUnitTest tests[] = {
        EMPTY(test_install_and_verify),
        EMPTY(test_queues),
        QUEUE(test_metrics),
        QUEUE(test_enqueue_one),
        QUEUE(test_enqueue_lines),
        QUEUE(test_a_bad_line_is_named_and_its_batch_is_not_enqueued),
        QUEUE(test_wrap_takes_any_text),
        QUEUE(test_payloads_have_a_limit),
        QUEUE(test_get),
        QUEUE(test_list),
        QUEUE(test_nothing_reaches_a_terminal_raw),
        QUEUE(test_tables_fit_eighty_columns),
        QUEUE(test_wait_ends_when_nothing_is_left),
        QUEUE(test_wait_times_out),
        EMPTY(test_where_the_store_comes_from),
        EMPTY(test_exit_statuses),
        QUEUE(test_output_that_can_not_be_written_is_a_failure),
        EMPTY(test_help_is_at_every_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
