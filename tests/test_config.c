/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: what is taken, what is refused and in which words, and that nothing crashes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/config.h"
#include "config/settings.h"
#include "ipc/msg.h"
#include "tests/support/daemon.h"

static const char *const variables[] = {"PGQRS_DSN", "PGQRS_RUNTIME_DIR", "PGQRS_LOG_LEVEL",
                                        "PGQRS_LOG_FORMAT", "PGQRS_CONFIG_FILE"};

static int setup(void **state)
{
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        (void)unsetenv(variables[i]);
    }
    int rc = fixture_setup(state);
    const struct fixture *f = *state;
    scratch_write(&f->scratch, "h.so", "%s", "any file will do here");
    return rc;
}

static const char *in_scratch(const struct fixture *f, const char *name)
{
    static char path[4][160];
    static size_t next;
    char *to = path[next++ % 4];
    (void)snprintf(to, sizeof path[0], "%s/%s", f->scratch.dir, name);
    return to;
}

static int load(const struct fixture *f, const char *text, struct pgqrs_config **config,
                struct pgqrs_error *err)
{
    scratch_write(&f->scratch, "c.yaml", "%s", text);
    return pgqrs_config_load(in_scratch(f, "c.yaml"), config, err);
}

static struct pgqrs_config *load_ok(const struct fixture *f, const char *text)
{
    struct pgqrs_config *config = NULL;
    struct pgqrs_error err = {0};
    if (load(f, text, &config, &err) < 0) {
        fail_msg("%s\n%s", err.text, text);
    }
    return config;
}

static void refused(const struct fixture *f, const char *text, const char *expected)
{
    struct pgqrs_config *config = NULL;
    struct pgqrs_error err = {0};
    if (load(f, text, &config, &err) == 0) {
        fail_msg("taken, though it should be refused with: %s\n%s", expected, text);
    }
    if (strstr(err.text, expected) == NULL) {
        fail_msg("found: %s\nexpected: %s\n%s", err.text, expected, text);
    }
    assert_int_equal(err.code, PGQRS_ERR_CONFIG);
    assert_null(config);
}

/* ---- what is taken ---- */

static void test_defaults(void **state)
{
    const struct fixture *f = *state;
    struct pgqrs_config *c = load_ok(f, "dsn: sqlite:/q.db\nqueues: {mail: {handler: h.so}}\n");
    const struct pgqrs_config_queue *q = &c->queues[0];
    assert_string_equal(c->dsn, "sqlite:/q.db");
    assert_null(c->runtime_dir);
    assert_int_equal(c->queue_count, 1);
    assert_int_equal(c->drain_ms, 25000);
    assert_int_equal(c->cancel_grace_ms, 3000);
    assert_int_equal(c->start_timeout_ms, 30000);
    assert_int_equal(c->heartbeat_interval_ms, 1000);
    assert_int_equal(c->heartbeat_timeout_ms, 30000);
    assert_int_equal(c->lease_ms, 30000);
    assert_int_equal(c->poll_ms, 1000);
    assert_true(c->synchronous_full);
    assert_int_equal(c->log_format, PGQRS_LOG_TEXT);
    assert_int_equal(c->log_level, PGQRS_LOG_INFO);
    assert_string_equal(q->name, "mail");
    assert_string_equal(q->settings, "{}");
    assert_int_equal(q->consumers, 1);
    assert_int_equal(q->prefetch, 1);
    assert_int_equal(q->max_attempts, 5);
    assert_int_equal(q->retry_strategy, PGQRS_RETRY_EXPONENTIAL);
    assert_int_equal(q->retry_base_ms, 1000);
    assert_int_equal(q->retry_max_ms, 600000);
    assert_true(q->retry_jitter);
    assert_false(q->delete_done);
    pgqrs_config_destroy(&c);
    assert_null(c);
}

static const char full[] = "dsn: sqlite:///var/lib/q.db\n"
                           "runtime_dir: /run/x\n"
                           "queues:\n"
                           "  \"first queue\":\n"
                           "    handler: h.so\n"
                           "    settings: {command: [sh, -c, \"true\"], n: 3}\n"
                           "    consumers: 1024\n"
                           "    prefetch: 1000\n"
                           "    max_attempts: 1000000\n"
                           "    retry: {strategy: fixed, base: 250ms, max: 2h, jitter: false}\n"
                           "    on_done: delete\n"
                           "  second:\n"
                           "    handler: ./h.so\n"
                           "    consumers: 0\n"
                           "shutdown: {drain: 0, cancel_grace: 500ms}\n"
                           "start_timeout: 2m\n"
                           "heartbeat: {interval: 100ms, timeout: 300ms}\n"
                           "lease: 3s\n"
                           "poll: 50ms\n"
                           "sqlite: {synchronous: normal}\n"
                           "log:\n"
                           "  format: json\n"
                           "  level: debug\n";

static void test_every_setting(void **state)
{
    const struct fixture *f = *state;
    struct pgqrs_config *c = load_ok(f, full);
    const struct pgqrs_config_queue *q = &c->queues[0];
    assert_string_equal(c->dsn, "sqlite:/var/lib/q.db");
    assert_string_equal(c->runtime_dir, "/run/x");
    assert_int_equal(c->queue_count, 2);
    assert_string_equal(q->name, "first queue");
    assert_string_equal(q->handler, in_scratch(f, "h.so"));
    assert_string_equal(q->settings, "{\"command\":[\"sh\",\"-c\",\"true\"],\"n\":3}");
    assert_int_equal(q->consumers, 1024);
    assert_int_equal(q->prefetch, 1000);
    assert_int_equal(q->max_attempts, 1000000);
    assert_int_equal(q->retry_strategy, PGQRS_RETRY_FIXED);
    assert_int_equal(q->retry_base_ms, 250);
    assert_int_equal(q->retry_max_ms, 7200000);
    assert_false(q->retry_jitter);
    assert_true(q->delete_done);
    assert_int_equal(c->queues[1].consumers, 0);
    assert_int_equal(c->drain_ms, 0);
    assert_int_equal(c->cancel_grace_ms, 500);
    assert_int_equal(c->start_timeout_ms, 120000);
    assert_int_equal(c->heartbeat_interval_ms, 100);
    assert_int_equal(c->heartbeat_timeout_ms, 300);
    assert_int_equal(c->lease_ms, 3000);
    assert_int_equal(c->poll_ms, 50);
    assert_false(c->synchronous_full);
    assert_int_equal(c->log_format, PGQRS_LOG_JSON);
    assert_int_equal(c->log_level, PGQRS_LOG_DEBUG);
    pgqrs_config_destroy(&c);
}

static void test_settings_become_json(void **state)
{
    static const struct {
        const char *yaml, *json;
    } cases[] = {
        {"{}", "{}"},
        {"{a: 1, b: -7, c: +8, d: 007}", "{\"a\":1,\"b\":-7,\"c\":8,\"d\":7}"},
        {"{a: 0x1F, b: 0o17}", "{\"a\":31,\"b\":15}"},
        {"{a: 1.5, b: -.5, c: 1e3, d: 2.}", "{\"a\":1.5,\"b\":-0.5,\"c\":1000.0,\"d\":2.0}"},
        {"{a: true, b: False, c: TRUE}", "{\"a\":true,\"b\":false,\"c\":true}"},
        {"{a: null, b: ~, c: , d: Null}", "{\"a\":null,\"b\":null,\"c\":null,\"d\":null}"},
        {"{a: \"1\", b: 'true', c: \"\", d: '~'}",
         "{\"a\":\"1\",\"b\":\"true\",\"c\":\"\",\"d\":\"~\"}"},
        {"{a: yes, b: 1.2.3, c: 1e, d: 0x, e: '-', f: 12ab}",
         "{\"a\":\"yes\",\"b\":\"1.2.3\",\"c\":\"1e\",\"d\":\"0x\",\"e\":\"-\",\"f\":\"12ab\"}"},
        {"{a: [1, [x, {y: z}], []], b: {c: {}}}",
         "{\"a\":[1,[\"x\",{\"y\":\"z\"}],[]],\"b\":{\"c\":{}}}"},
        {"{a: \"line\\nnext \\\" \xc3\xa4\"}", "{\"a\":\"line\\nnext \\\" \xc3\xa4\"}"},
        {"{a: 9223372036854775807}", "{\"a\":9223372036854775807}"},
        {"\n      a: |\n        two\n        lines\n", "{\"a\":\"two\\nlines\\n\"}"},
        {"{1: one, true: x}", "{\"1\":\"one\",\"true\":\"x\"}"},
    };
    const struct fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        (void)snprintf(text, sizeof text,
                       "dsn: sqlite:/q\nqueues:\n  q:\n    handler: h.so\n    settings: %s\n",
                       cases[i].yaml);
        struct pgqrs_config *c = load_ok(f, text);
        assert_string_equal(c->queues[0].settings, cases[i].json);
        pgqrs_config_destroy(&c);
    }
}

static void test_names_become_absolute(void **state)
{
    const struct fixture *f = *state;
    char expected[512];
    struct pgqrs_config *c =
        load_ok(f, "dsn: sqlite:data/q.db?mode=rwc\nruntime_dir: run\n"
                   "queues: {a: {handler: h.so}, b: {handler: hello}, c: {handler: ./h.so}}\n");
    (void)snprintf(expected, sizeof expected, "sqlite:%s/data/q.db?mode=rwc", f->scratch.dir);
    assert_string_equal(c->dsn, expected);
    assert_string_equal(c->runtime_dir, in_scratch(f, "run"));
    assert_string_equal(c->queues[0].handler, in_scratch(f, "h.so"));
    char *installed = realpath(built("lib/pgqrs/handlers/hello.so"), NULL);
    assert_non_null(installed);
    assert_string_equal(c->queues[1].handler, installed);
    free(installed);
    assert_string_equal(c->queues[2].handler, in_scratch(f, "./h.so"));
    pgqrs_config_destroy(&c);
}

static void test_a_directory_with_odd_signs_is_escaped_in_the_dsn(void **state)
{
    const struct fixture *f = *state;
    char expected[200];
    char *dsn = NULL;
    struct pgqrs_error err;
    assert_int_equal(mkdir(in_scratch(f, "50%25?"), 0700), 0);
    scratch_write(&f->scratch, "50%25?/c.yaml", "dsn: sqlite:q.db\n");
    assert_int_equal(pgqrs_config_find_dsn(NULL, in_scratch(f, "50%25?/c.yaml"), &dsn, &err), 0);
    (void)snprintf(expected, sizeof expected, "sqlite:%s/50%%2525%%3F/q.db", f->scratch.dir);
    assert_string_equal(dsn, expected);
    free(dsn);
}

static void test_the_environment_goes_before_the_file(void **state)
{
    const struct fixture *f = *state;
    char expected[4200];
    (void)setenv("PGQRS_DSN", "sqlite:here.db", 1);
    (void)setenv("PGQRS_RUNTIME_DIR", "/r", 1);
    (void)setenv("PGQRS_LOG_LEVEL", "error", 1);
    (void)setenv("PGQRS_LOG_FORMAT", "", 1); /* as if it were not set */
    struct pgqrs_config *c = load_ok(f, full);
    char *here = realpath(".", NULL);
    (void)snprintf(expected, sizeof expected, "sqlite:%s/here.db", here);
    free(here);
    assert_string_equal(c->dsn, expected);
    assert_string_equal(c->runtime_dir, "/r");
    assert_int_equal(c->log_level, PGQRS_LOG_ERROR);
    assert_int_equal(c->log_format, PGQRS_LOG_JSON);
    pgqrs_config_destroy(&c);
    c = load_ok(f, "queues: {q: {handler: h.so}}\n"); /* the file needs no dsn then */
    pgqrs_config_destroy(&c);
    (void)setenv("PGQRS_LOG_LEVEL", "loud", 1);
    refused(f, full, "PGQRS_LOG_LEVEL: found \"loud\", expected debug, info, warn or error");
    (void)unsetenv("PGQRS_LOG_LEVEL");
    (void)setenv("PGQRS_DSN", "mysql://u:secret@h/d", 1);
    refused(f, full, "PGQRS_DSN: found unknown scheme \"mysql:\", expected sqlite:PATH");
}

/* ---- what is refused ---- */

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
     "queues.mail.consumers: found a mapping, expected a whole"},
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
    {D "runtime_dir: ''\n", "runtime_dir: found an empty text, expected a path"},
    /* keys */
    {Q "    handlr: x\n", "c.yaml:5: queues.mail.handlr: found an unknown key, expected "
                          "\"handler\"? Known here: handler, settings, consumers, prefetch"},
    {D "quues: {}\n", "c.yaml:3: quues: found an unknown key, expected \"queues\"?"},
    {D "zzzzzzzz: 1\n",
     "zzzzzzzz: found an unknown key, expected one of: dsn, runtime_dir, queues"},
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
     "c.yaml:1: dsn: found nothing, expected sqlite:PATH here or in PGQRS_DSN"},
    /* stores */
    {"dsn: oracle:x\n", "c.yaml:1: dsn: found unknown scheme \"oracle:\", expected sqlite:PATH"},
    {"dsn: postgres://u:secret@h/d\n",
     "dsn: found scheme \"postgres:\", which this build does not"},
    {"dsn: postgresql://h/d\n", "found scheme \"postgresql:\", which this build does not support"},
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
    static const char *const dsns[] = {"postgres://u:secret@h/d", "mysql://u:secret@h/d",
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
        scratch_write(&f->scratch, "secret.yaml", "%s", full);
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

/* ---- nonsense ---- */

static uint32_t seed = 20240229;

static uint32_t below(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

/* One change: other bytes, a piece gone, a piece twice, or a sign that means something in YAML. */
static size_t mutate(char *text, size_t len, size_t cap)
{
    static const char signs[] = "{}[]:,-?&*!|>'\"%@`#~ \n\t\\0";
    size_t at = below((uint32_t)len);
    size_t n = 1 + below(12);
    n = n > len - at ? len - at : n;
    switch (below(4)) {
    case 0:
        for (size_t i = 0; i < n; i++) {
            text[at + i] = (char)below(256);
        }
        return len;
    case 1:
        memmove(text + at, text + at + n, len - at - n);
        return len - n;
    case 2:
        if (len + n <= cap) {
            memmove(text + at + n, text + at, len - at);
            return len + n;
        }
        return len;
    default:
        text[at] = signs[below(sizeof signs - 1)];
        return len;
    }
}

static void test_mutated_files_never_crash(void **state)
{
    const struct fixture *f = *state;
    char text[2 * sizeof full];
    const char *path = in_scratch(f, "m.yaml");
    int taken = 0;
    for (int round = 0; round < 6000; round++) {
        struct pgqrs_config *c = NULL;
        struct pgqrs_error err = {0};
        size_t len = sizeof full - 1;
        memcpy(text, full, len);
        for (uint32_t i = 1 + below(4); i > 0 && len > 16; i--) {
            len = mutate(text, len, sizeof text);
        }
        FILE *file = fopen(path, "we");
        assert_non_null(file);
        assert_int_equal(fwrite(text, 1, len, file), len);
        assert_int_equal(fclose(file), 0);
        if (pgqrs_config_load(path, &c, &err) == 0) {
            taken++;
        } else {
            assert_null(c);
            assert_true(err.text[0] != 0 && memchr(err.text, 0, sizeof err.text) != NULL);
        }
        pgqrs_config_destroy(&c);
    }
    assert_in_range(taken, 1, 5999); /* both happen, else the changes are not of the right kind */
}

/* ---- help ---- */

static void test_every_setting_is_printed(void **state)
{
    static const char *const keys[] = {"dsn",
                                       "runtime_dir",
                                       "queues",
                                       "shutdown.drain",
                                       "start_timeout",
                                       "shutdown.cancel_grace",
                                       "lease",
                                       "heartbeat.interval",
                                       "poll",
                                       "heartbeat.timeout",
                                       "log.format",
                                       "sqlite.synchronous",
                                       "log.level",
                                       "queues.NAME.handler",
                                       "queues.NAME.settings",
                                       "queues.NAME.consumers",
                                       "queues.NAME.prefetch",
                                       "queues.NAME.max_attempts",
                                       "queues.NAME.retry.strategy",
                                       "queues.NAME.retry.base",
                                       "queues.NAME.retry.max",
                                       "queues.NAME.retry.jitter",
                                       "queues.NAME.on_done"};
    const struct fixture *f = *state;
    char line[256];
    size_t printed = 0;
    (void)fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    assert_non_null(freopen(in_scratch(f, "out"), "w", stdout));
    pgqrs_config_print_settings();
    (void)fflush(stdout);
    (void)dup2(saved, STDOUT_FILENO);
    (void)close(saved);
    FILE *out = fopen(in_scratch(f, "out"), "re");
    assert_non_null(out);
    while (fgets(line, sizeof line, out) != NULL) {
        line[strcspn(line, "\n")] = 0;
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
            printed += strcmp(line, keys[i]) == 0;
        }
    }
    (void)fclose(out);
    assert_int_equal(printed, sizeof keys / sizeof *keys);
}

static bool manual_has(const char *item)
{
    char line[256];
    bool found = false;
    FILE *manual = fopen("docs/man/pgqrsd.yaml.5", "re");
    assert_non_null(manual); /* tests run at the top of the source */
    while (!found && fgets(line, sizeof line, manual) != NULL) {
        line[strcspn(line, "\n")] = 0;
        found = strncmp(line, ".It Cm ", 7) == 0 && strcmp(line + 7, item) == 0;
    }
    (void)fclose(manual);
    return found;
}

static void test_the_examples_and_the_manual_are_right(void **state)
{
    static const char *const examples[] = {"examples/pgqrsd.yaml", "examples/commands.yaml"};
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        struct pgqrs_config *c = NULL;
        struct pgqrs_error err = {0};
        if (pgqrs_config_load(examples[i], &c, &err) < 0) {
            fail_msg("%s", err.text);
        }
        pgqrs_config_destroy(&c);
    }
    const struct pgqrs_settings *const tables[] = {&pgqrs_settings_top, &pgqrs_settings_of_queue};
    for (size_t t = 0; t < 2; t++) {
        for (size_t i = 0; i < tables[t]->count; i++) {
            if (!manual_has(tables[t]->rows[i].key)) {
                fail_msg("pgqrsd.yaml(5) has no %s", tables[t]->rows[i].key);
            }
        }
    }
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_defaults),
        WITH_SCRATCH(test_every_setting),
        WITH_SCRATCH(test_settings_become_json),
        WITH_SCRATCH(test_names_become_absolute),
        WITH_SCRATCH(test_a_directory_with_odd_signs_is_escaped_in_the_dsn),
        WITH_SCRATCH(test_the_environment_goes_before_the_file),
        WITH_SCRATCH(test_every_error_says_where_what_and_what_else),
        WITH_SCRATCH(test_an_error_shows_no_password),
        WITH_SCRATCH(test_limits_of_names_and_numbers),
        WITH_SCRATCH(test_many_queues),
        WITH_SCRATCH(test_files_that_can_not_be_read),
        WITH_SCRATCH(test_the_dsn_is_found_in_this_order),
        WITH_SCRATCH(test_the_dsn_alone_reports_bad_files_too),
        WITH_SCRATCH(test_mutated_files_never_crash),
        WITH_SCRATCH(test_every_setting_is_printed),
        WITH_SCRATCH(test_the_examples_and_the_manual_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
