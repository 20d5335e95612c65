/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: what is taken, what becomes of it, and that nothing crashes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/settings.h"
#include "ipc/msg.h"
#include "tests/support/config_case.h"

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
    static const char *const examples[] = {"examples/pgqrsd.yaml", "examples/commands.yaml",
                                           "examples/workflows.yaml"};
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        struct pgqrs_config *c = NULL;
        struct pgqrs_error err = {0};
        if (pgqrs_config_load(examples[i], &c, &err) < 0) {
            fail_msg("%s", err.text);
        }
        pgqrs_config_destroy(&c);
    }
    const struct pgqrs_settings *const tables[] = {&pgqrs_settings_top, &pgqrs_settings_of_queue,
                                                   &pgqrs_settings_of_schedule};
    for (size_t t = 0; t < 3; t++) {
        for (size_t i = 0; i < tables[t]->count; i++) {
            if (!manual_has(tables[t]->rows[i].key)) {
                fail_msg("pgqrsd.yaml(5) has no %s", tables[t]->rows[i].key);
            }
        }
    }
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, config_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_defaults),
        WITH_SCRATCH(test_every_setting),
        WITH_SCRATCH(test_settings_become_json),
        WITH_SCRATCH(test_names_become_absolute),
        WITH_SCRATCH(test_a_directory_with_odd_signs_is_escaped_in_the_dsn),
        WITH_SCRATCH(test_the_environment_goes_before_the_file),
        WITH_SCRATCH(test_mutated_files_never_crash),
        WITH_SCRATCH(test_every_setting_is_printed),
        WITH_SCRATCH(test_the_examples_and_the_manual_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
