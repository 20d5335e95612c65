/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: what is refused, and in which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/config_case.h"

#define Q "dsn: sqlite:/q\nqueues:\n  mail:\n    handler: h.so\n"
#define D "dsn: sqlite:/q\nqueues: {m: {handler: h.so}}\n"

struct refusal {
    const char *yaml, *error;
};

static const struct refusal refusals[] = {
    /* values */
    {Q "    consumers: four\n",
     "c.yaml:5: queues.mail.consumers: found \"four\", expected a whole number from 0 to 1024"},
    {Q "    consumers: -1\n", "c.yaml:5: queues.mail.consumers: found \"-1\", expected"},
    {Q "    consumers: 1025\n", "queues.mail.consumers: found \"1025\", expected"},
    {Q "    consumers: 4.0\n", "found \"4.0\", expected a whole number"},
    {Q "    consumers: [4]\n", "c.yaml:5: queues.mail.consumers: found a list, expected a whole"},
    {Q "    consumers:\n      min: 1\n",
     "c.yaml:6: queues.mail.consumers.max: found nothing, which is 0, expected at least 1"},
    {Q "    consumers: {min: 3, max: 2}\n",
     "c.yaml:5: queues.mail.consumers.max: found 2, expected at least 1 and at least "
     "consumers.min, which is 3"},
    {Q "    consumers: {max: 2000}\n", "consumers.max: found \"2000\", expected a whole number"},
    {Q "    consumers: [1]\n", "queues.mail.consumers: found a list, expected a whole number"},
    {Q "    consumers:\n", "c.yaml:5: queues.mail.consumers: found nothing, expected a whole"},
    {Q "    prefetch: 0\n", "expected a whole number from 1 to 1000"},
    {Q "    max_attempts: 1000001\n", "expected a whole number from 1 to 1000000"},
    {Q "    max_attempts: 99999999999999999999\n", "expected a whole number from 1 to 1000000"},
    {Q "    on_done: drop\n", "queues.mail.on_done: found \"drop\", expected archive or delete"},
    {Q "    retry: {strategy: linear}\n",
     "c.yaml:5: queues.mail.retry.strategy: found \"linear\", expected exponential or fixed"},
    {Q "    retry: {base: 1}\n", "queues.mail.retry.base: found \"1\", expected a duration with a"},
    {Q "    retry: {base: 1s, max: 500ms}\n",
     "c.yaml:5: queues.mail.retry.max: found 500ms, expected at least retry.base, which is 1s"},
    {Q "    retry:\n      jitter: yes\n",
     "c.yaml:6: queues.mail.retry.jitter: found \"yes\", expected true or false"},
    {Q "    retry: fixed\n", "queues.mail.retry: found \"fixed\", expected a mapping"},
    {Q "    settings: [a]\n", "queues.mail.settings: found a list, expected a mapping"},
    {Q "    settings:\n", "queues.mail.settings: found nothing, expected a mapping"},
    {Q "    settings:\n      a: 1\n      b: [.inf]\n",
     "c.yaml:7: queues.mail.settings: found .inf"},
    {Q "    settings: {a: 9223372036854775808}\n", "expected a number that fits in 64 bits"},
    {Q "    settings: {a: 1e999}\n", "expected a number that fits in 64 bits"},
    {D "shutdown: {drain: 25}\n", "c.yaml:3: shutdown.drain: found \"25\", expected a duration"},
    {Q "    recycle: {memory: 1GB}\n",
     "recycle.memory: found \"1GB\", expected a size with a unit"},
    {Q "    timeout: 366d\n",
     "timeout: found \"366d\", expected a duration with a unit, from 0s to 365d"},
    {D "shutdown: {drain: 2d}\n", "expected a duration with a unit, from 0s to 1d"},
    {D "lease: 2s\n", "lease: found \"2s\", expected a duration with a unit, from 3s to 1d"},
    {D "poll: 49ms\n", "poll: found \"49ms\", expected a duration with a unit, from 50ms to 1h"},
    {D "poll: 2h\n", "poll: found \"2h\""},
    {D "start_timeout: 99ms\n", "start_timeout: found"},
    {D "heartbeat:\n  interval: 1s\n  timeout: 2s\n",
     "c.yaml:4: heartbeat.timeout: found 2s, expected at least 3 times heartbeat.interval, which "
     "is 3s"},
    {D "sqlite: {synchronous: off}\n", "found \"off\", expected full or normal"},
    {D "log: {level: trace}\n", "log.level: found \"trace\", expected debug, info, warn or error"},
    {D "log: json\n", "c.yaml:3: log: found \"json\", expected a mapping"},
    {D "http: {listen: 127.0.0.1}\n",
     "c.yaml:3: http.listen: found \"127.0.0.1\", expected an IP address and a port, such as "
     "127.0.0.1:9090"},
    {D "http: {listen: 65536}\n", "http.listen: found \"65536\", expected an IP address"},
    {D "http: {listen: '*:80'}\n", "http.listen: found \"*:80\", expected an IP address"},
    {D "http: {listen: localhost:80}\n", "http.listen: found \"localhost:80\", expected an IP"},
    {D "http: {listen: '::1:80'}\n", "http.listen: found \"::1:80\", expected an IP address"},
    {D "http: {listen: '[127.0.0.1]:80'}\n", "http.listen: found \"[127.0.0.1]:80\", expected"},
    {D "http: {listen: ''}\n", "http.listen: found \"\", expected an IP address and a port"},
    {D "http: {port: 80}\n", "http.port: found an unknown key, expected one of: listen"},
    {D "http: 9090\n", "http: found \"9090\", expected a mapping"},
    {D "runtime_dir: ''\n", "runtime_dir: found an empty text, expected a path"},
    /* keys */
    {Q "    handlr: x\n", "c.yaml:5: queues.mail.handlr: found an unknown key, expected "
                          "\"handler\"? Known here: handler, settings, consumers, prefetch"},
    {D "quues: {}\n", "c.yaml:3: quues: found an unknown key, expected \"queues\"?"},
    {D "zzzzzzzz: 1\n", "zzzzzzzz: found an unknown key, expected one of: dsn, schema, wake_dsn"},
    {D "shutdown: {drian: 1s}\n", "shutdown.drian: found an unknown key, expected \"drain\"? Known "
                                  "here: drain, cancel_grace"},
    {D "shutdown.drain: 1s\n", "shutdown.drain: found an unknown key"},
    {D "log: {\"\": 1}\n", "log.: found an unknown key, expected one of: format, level"},
    {D "lease: 5s\nlease: 6s\n", "c.yaml:4: lease: found this key again, expected it once (it "
                                 "is on line 3)"},
    {"dsn: sqlite:/q\nqueues:\n  m: {handler: h.so}\n  m: {handler: h.so}\n",
     "c.yaml:4: queues.m: found this key again"},
    {D "[a]: 1\n", "c.yaml:3: found a list, expected a key"},
    /* the whole */
    {"", "c.yaml:1: found no settings, expected a mapping with dsn and queues"},
    {"# nothing\n", "found no settings"},
    {"---\n", "found nothing, expected a mapping"},
    {"- a\n- b\n", "c.yaml:1: found a list, expected a mapping"},
    {"just text\n", "c.yaml:1: found \"just text\", expected a mapping"},
    {D "---\n" D, "c.yaml:3: found a second document, expected one"},
    {"dsn: sqlite:/q\n", "queues: found nothing, expected at least one queue"},
    {"dsn: sqlite:/q\nqueues: {}\n", "c.yaml:2: queues: found 0 queues, expected 1 to 1024"},
    {"dsn: sqlite:/q\nqueues: [m]\n", "queues: found a list, expected a mapping from queue names"},
    {"dsn: sqlite:/q\nqueues:\n  m:\n", "c.yaml:3: queues.m: found nothing, expected a mapping"},
    {"dsn: sqlite:/q\nqueues:\n  '': {handler: h.so}\n",
     "c.yaml:3: queues: found a queue name of 0 bytes, expected 1 to 255"},
    {"queues: {m: {handler: h.so}}\n",
     "c.yaml:1: dsn: found nothing, expected sqlite:PATH or postgres://... here or in PGQRS_DSN"},
    /* stores */
    {"dsn: oracle:x\n", "c.yaml:1: dsn: found unknown scheme \"oracle:\", expected sqlite:PATH"},
    {"dsn: 'postgres:u:secret@h/d'\n", "dsn: found unknown scheme \"postgres:\", expected"},
    {"dsn: broker:/x\n", "dsn: found \"broker:...\", expected sqlite:PATH or postgres://..."},
    {"schema: 1a\n", "c.yaml:1: schema: found \"1a\", expected 1 to 63 letters, digits"},
    {"schema: 'a\"b'\n", "schema: found \"a\"b\", expected 1 to 63 letters"},
    {"name: ''\n", "name: found \"\", expected 1 to 63 letters"},
    {"name: a/b\n", "name: found \"a/b\", expected 1 to 63 letters"},
    {"dsn: turso:x\n", "found scheme \"turso:\", which this build does not support yet"},
    {"dsn: s3://b/k\n", "found scheme \"s3:\", which this build does not support yet"},
    {"dsn: /var/lib/q.db\n", "found no scheme, expected sqlite:PATH"},
    {"dsn: 'sqlite:'\n", "dsn: found no path, expected sqlite:PATH"},
    {"dsn: 'sqlite::memory:'\n", "dsn: found a database in memory, expected a file"},
    {"dsn: [a]\n", "dsn: found a list, expected sqlite:PATH"},
    {"dsn: ~\n", "dsn: found nothing, expected sqlite:PATH"},
    /* handlers */
    {"dsn: sqlite:/q\nqueues:\n  m:\n    consumers: 1\n",
     "c.yaml:3: queues.m.handler: found nothing, expected the path of a plugin"},
    {"dsn: sqlite:/q\nqueues: {m: {handler: /nonexistent/h.so}}\n",
     "c.yaml:2: queues.m.handler: found \"/nonexistent/h.so\" (No such file or directory), "
     "expected the path of a plugin"},
    {"dsn: sqlite:/q\nqueues: {m: {handler: none}}\n",
     "lib/pgqrs/handlers/none.so\" (No such file"},
    {"dsn: sqlite:/q\nqueues: {m: {handler: none}}\n", "expected the name of a handler that is "
                                                       "installed with pgqrsd, or a path"},
    {"dsn: sqlite:/q\nqueues: {m: {handler: ./}}\n", "a directory, expected the path of a plugin"},
    {"dsn: sqlite:/q\nqueues: {m: {handler: /dev/null}}\n", "not a file, expected the path"},
    {"dsn: sqlite:/q\nqueues: {m: {handler: ''}}\n", "handler: found an empty text, expected"},
    /* YAML */
    {D "log: {level: info\n", "c.yaml:4: log: not YAML: did not find expected ',' or '}'"},
    {"a: b: c\n", "c.yaml:1: not YAML: mapping values are not allowed in this context"},
    {"a:\n\t- b\n", "c.yaml:2: "},
    {"a: \"open\n", "not YAML: found unexpected end of stream"},
    {"a: \xff\xfe\n", "not YAML: invalid leading UTF-8 octet at byte 3"},
    {"a: \"\\0\"\n", "c.yaml:1: a: found text with a zero byte"},
    {"a: &x 1\nb: *x\n", "c.yaml:1: a: found anchor \"&x\", expected none"},
    {"b: *x\n", "c.yaml:1: b: found alias \"*x\", expected the value itself"},
    {"a: !!int 4\n", "c.yaml:1: a: found tag \"tag:yaml.org,2002:int\", expected none"},
    {"a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "found more than 32 levels"},
    {"%YAML 3.0\n---\na: 1\n", "not YAML: found incompatible YAML document"},
};

static void test_every_error_says_where_what_and_what_else(void **state)
{
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        refused(*state, refusals[i].yaml, refusals[i].error);
    }
}

static void test_an_error_shows_no_password(void **state)
{
    const struct fixture *f = *state;
    static const char *const dsns[] = {"postgres:u:secret@h/d", "mysql://u:secret@h/d",
                                       "u/secret@h"};
    for (size_t i = 0; i < sizeof dsns / sizeof *dsns; i++) {
        struct pgqrs_error err = {0};
        char *dsn = NULL;
        assert_int_equal(pgqrs_config_find_dsn(dsns[i], NULL, &dsn, &err), -1);
        assert_null(strstr(err.text, "secret"));
    }
    (void)f;
}

static void test_limits_of_names_and_numbers(void **state)
{
    const struct fixture *f = *state;
    char name[300];
    char text[4096];
    memset(name, 'n', sizeof name);
    name[255] = 0;
    (void)snprintf(text, sizeof text, "dsn: sqlite:/q\nqueues: {\"%s\": {handler: h.so}}\n", name);
    struct pgqrs_config *c = load_ok(f, text);
    assert_string_equal(c->queues[0].name, name);
    pgqrs_config_destroy(&c);
    name[255] = 'n';
    name[256] = 0;
    (void)snprintf(text, sizeof text, "dsn: sqlite:/q\nqueues: {\"%s\": {handler: h.so}}\n", name);
    refused(f, text, "c.yaml:2: queues: found a queue name of 256 bytes, expected 1 to 255");
    refused(f,
            "dsn: sqlite:/q\nqueues:\n  a: {handler: h.so, consumers: 1024}\n"
            "  b: {handler: h.so, consumers: 1024}\n  c: {handler: h.so}\n",
            "found 2049 consumers in all queues together, expected at most 2048");
}

static void test_many_queues(void **state)
{
    const struct fixture *f = *state;
    char *text = NULL;
    size_t size = 0;
    for (int count = 1024; count <= 1025; count++) {
        FILE *out = open_memstream(&text, &size);
        (void)fprintf(out, "dsn: sqlite:/q\nqueues:\n");
        for (int i = 0; i < count; i++) {
            (void)fprintf(out, "  q%d: {handler: h.so}\n", i);
        }
        (void)fclose(out);
        if (count == 1024) {
            struct pgqrs_config *c = load_ok(f, text);
            assert_int_equal(c->queue_count, 1024);
            assert_string_equal(c->queues[1023].name, "q1023"); /* in the order of the file */
            pgqrs_config_destroy(&c);
        } else {
            refused(f, text, "queues: found 1025 queues, expected 1 to 1024");
        }
        free(text);
    }
}

static void test_files_that_can_not_be_read(void **state)
{
    const struct fixture *f = *state;
    struct pgqrs_config *c = NULL;
    struct pgqrs_error err;
    assert_int_equal(pgqrs_config_load("/nonexistent/c.yaml", &c, &err), -1);
    assert_string_equal(err.text,
                        "/nonexistent/c.yaml: can not be read: No such file or directory");
    assert_int_equal(err.code, PGQRS_ERR_CONFIG);
    assert_int_equal(pgqrs_config_load(f->scratch.dir, &c, &err), -1);
    assert_non_null(strstr(err.text, "can not be read: Is a directory"));
    if (geteuid() != 0) {
        scratch_write(&f->scratch, "secret.yaml", "%s", D);
        assert_int_equal(chmod(in_scratch(f, "secret.yaml"), 0), 0);
        assert_int_equal(pgqrs_config_load(in_scratch(f, "secret.yaml"), &c, &err), -1);
        assert_non_null(strstr(err.text, "can not be read: Permission denied"));
    }
    char *text = malloc(1024 * 1024 + 2);
    assert_non_null(text);
    memset(text, '#', 1024 * 1024 + 1);
    text[1024 * 1024 + 1] = 0;
    refused(f, text, "found more than 1 MiB, expected less");
    free(text);
}

/* ---- the DSN alone ---- */

static void expect_dsn(const char *flag, const char *path, const char *expected)
{
    struct pgqrs_error err = {0};
    char *dsn = NULL;
    if (pgqrs_config_find_dsn(flag, path, &dsn, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_string_equal(dsn, expected);
    free(dsn);
}

static void test_the_dsn_is_found_in_this_order(void **state)
{
    const struct fixture *f = *state;
    struct pgqrs_error err = {0};
    char *dsn = NULL;
    scratch_write(&f->scratch, "one.yaml", "dsn: sqlite:/one\nother: {keys: [are, left, alone]}\n");
    scratch_write(&f->scratch, "two.yaml", "dsn: sqlite:///two\n");
    assert_int_equal(pgqrs_config_find_dsn(NULL, NULL, &dsn, &err), -1);
    assert_int_equal(err.code, PGQRS_ERR_CONFIG);
    assert_non_null(strstr(err.text, "--dsn, PGQRS_DSN, --config or PGQRS_CONFIG_FILE"));
    (void)setenv("PGQRS_CONFIG_FILE", in_scratch(f, "one.yaml"), 1);
    expect_dsn(NULL, NULL, "sqlite:/one");
    expect_dsn(NULL, in_scratch(f, "two.yaml"), "sqlite:/two");
    (void)setenv("PGQRS_DSN", "sqlite:/three", 1);
    expect_dsn(NULL, in_scratch(f, "two.yaml"), "sqlite:/three");
    expect_dsn("sqlite:/four", in_scratch(f, "two.yaml"), "sqlite:/four");
}

static void expect_schema(const char *flag, const char *path, const char *expected)
{
    struct pgqrs_error err = {0};
    char *schema = NULL;
    if (pgqrs_config_find_schema(flag, path, &schema, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_string_equal(schema, expected);
    free(schema);
}

static void test_the_schema_is_found_in_the_same_order(void **state)
{
    const struct fixture *f = *state;
    struct pgqrs_error err = {0};
    char *schema = NULL;
    (void)unsetenv("PGQRS_SCHEMA");
    scratch_write(&f->scratch, "one.yaml", "dsn: sqlite:/one\n");
    scratch_write(&f->scratch, "two.yaml", "schema: two\n");
    scratch_write(&f->scratch, "bad.yaml", "a: 1\nschema: a-b\n");
    expect_schema(NULL, NULL, "public");
    expect_schema(NULL, in_scratch(f, "one.yaml"), "public");
    expect_schema(NULL, in_scratch(f, "two.yaml"), "two");
    assert_int_equal(pgqrs_config_find_schema(NULL, in_scratch(f, "bad.yaml"), &schema, &err), -1);
    assert_non_null(strstr(err.text, "bad.yaml:2: schema: found \"a-b\", expected 1 to 63"));
    (void)setenv("PGQRS_SCHEMA", "three", 1);
    expect_schema(NULL, in_scratch(f, "two.yaml"), "three");
    expect_schema("four", in_scratch(f, "two.yaml"), "four");
    (void)unsetenv("PGQRS_SCHEMA");
    assert_int_equal(pgqrs_config_find_schema("", NULL, &schema, &err), -1);
    assert_non_null(strstr(err.text, "--schema: found \"\""));
}

static void test_the_dsn_alone_reports_bad_files_too(void **state)
{
    static const struct refusal cases[] = {
        {"dsn: sqlite:/q\nlog: {\n", "c.yaml:3: log: not YAML: "},
        {"dsn: sqlite:/q\ndsn: sqlite:/r\n", "c.yaml:2: dsn: found this key again"},
        {"queues: {}\n", "c.yaml:1: dsn: found nothing, expected sqlite:PATH"},
        {"a: 1\ndsn:\n", "c.yaml:2: dsn: found nothing, expected sqlite:PATH"},
        {"a: 1\ndsn: {}\n", "c.yaml:2: dsn: found a mapping, expected sqlite:PATH"},
        {"a: 1\ndsn: s3:x\n", "c.yaml:2: dsn: found scheme \"s3:\""},
        {"", "c.yaml:1: dsn: found nothing"},
        {"- dsn\n", "c.yaml:1: dsn: found nothing"},
    };
    const struct fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pgqrs_error err = {0};
        char *dsn = NULL;
        scratch_write(&f->scratch, "c.yaml", "%s", cases[i].yaml);
        assert_int_equal(pgqrs_config_find_dsn(NULL, in_scratch(f, "c.yaml"), &dsn, &err), -1);
        if (strstr(err.text, cases[i].error) == NULL) {
            fail_msg("found: %s\nexpected: %s", err.text, cases[i].error);
        }
    }
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, config_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_every_error_says_where_what_and_what_else),
        WITH_SCRATCH(test_an_error_shows_no_password),
        WITH_SCRATCH(test_limits_of_names_and_numbers),
        WITH_SCRATCH(test_many_queues),
        WITH_SCRATCH(test_files_that_can_not_be_read),
        WITH_SCRATCH(test_the_dsn_is_found_in_this_order),
        WITH_SCRATCH(test_the_schema_is_found_in_the_same_order),
        WITH_SCRATCH(test_the_dsn_alone_reports_bad_files_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
