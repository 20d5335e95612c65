/* SPDX-License-Identifier: Apache-2.0 */
/* Who names metrics names those that there are: the manual, alert rules, the dashboard. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/support/http_ask.h"

#define NAMES_MAX 100
#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyz_0123456789"
#define RULES "packaging/prometheus/pgqrs.rules.yaml"
#define RULE_TESTS "packaging/prometheus/pgqrs.rules.test.yaml"
#define DASHBOARD "packaging/grafana/pgqrs.json"

struct names {
    char items[NAMES_MAX][64];
    size_t count;
};

static struct names exposed; /* by a real pgqrsd */
static char *metrics;

static bool has(const struct names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->items[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static void add(struct names *names, const char *text, size_t len)
{
    char name[64];
    assert_true(len < sizeof name);
    memcpy(name, text, len);
    name[len] = 0;
    if (!has(names, name)) {
        assert_true(names->count < NAMES_MAX);
        strcpy(names->items[names->count++], name);
    }
}

/* Every name of a metric that comes after the mark. */
static void collect(struct names *names, const char *text, const char *mark)
{
    size_t skip = strlen(mark) - strlen("pgqrs_");
    for (const char *at = text; (at = strstr(at, mark)) != NULL;) {
        at += skip;
        size_t len = strspn(at, NAME_CHARACTERS);
        add(names, at, len);
        at += len;
    }
}

static char *read_whole(const char *path)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        fail_msg("%s is not there", path);
    }
    char *text = calloc(1, 256 * 1024);
    assert_non_null(text);
    size_t len = fread(text, 1, 256 * 1024 - 1, file);
    assert_true(len > 0 && len < 256 * 1024 - 1);
    (void)fclose(file);
    return text;
}

static int expose(void **state)
{
    void *fixture = NULL;
    assert_int_equal(fixture_setup(&fixture), 0);
    struct fixture *f = fixture;
    daemon_config(&f->scratch,
                  "http: {listen: 0}\n"
                  "queues: {work: {handler: %s, settings: {file: %s}}}\n",
                  built("tests/handlers/effect.so"), f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    http_find(&f->daemon);
    http_await("/readyz", 200, "ok\n");
    fixture_enqueue(f, 3, "{}");
    http_await_metric("pgqrs_jobs_settled_total{queue=\"work\",outcome=\"done\"}", 3);
    metrics = strdup(http_body());
    collect(&exposed, metrics, "# TYPE pgqrs_");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    *state = NULL;
    return fixture_teardown(&fixture);
}

static int forget(void **state)
{
    (void)state;
    free(metrics);
    return 0;
}

/* ---- the manual ---- */

static void test_the_manual_has_every_metric_and_no_other(void **state)
{
    struct names manual = {.count = 0};
    char *text = read_whole("docs/man/pgqrs-gateway.8");
    (void)state;
    collect(&manual, text, ".It Cm pgqrs_");
    free(text);
    for (size_t i = 0; i < exposed.count; i++) {
        if (!has(&manual, exposed.items[i])) {
            fail_msg("%s is not in pgqrs-gateway.8", exposed.items[i]);
        }
    }
    for (size_t i = 0; i < manual.count; i++) {
        if (!has(&exposed, manual.items[i])) {
            fail_msg("%s is in pgqrs-gateway.8 and not in /metrics", manual.items[i]);
        }
    }
    assert_true(manual.count >= 24);
}

/* ---- rules and dashboard ---- */

/* A series of a metric: itself, or a part of a histogram. */
static bool is_exposed(const char *series)
{
    static const char *const parts[] = {"_bucket", "_sum", "_count"};
    size_t len = strlen(series);
    if (has(&exposed, series)) {
        return true;
    }
    for (size_t i = 0; i < 3; i++) {
        size_t end = strlen(parts[i]);
        char name[64];
        (void)snprintf(name, sizeof name, "%.*s", (int)(len > end ? len - end : 0), series);
        if (len > end && strcmp(series + len - end, parts[i]) == 0 && has(&exposed, name)) {
            return strstr(metrics, series) != NULL;
        }
    }
    return false;
}

static size_t check_names(const char *path)
{
    struct names names = {.count = 0};
    char *text = read_whole(path);
    collect(&names, text, "pgqrs_");
    free(text);
    for (size_t i = 0; i < names.count; i++) {
        if (!is_exposed(names.items[i])) {
            fail_msg("%s is in %s and not in /metrics", names.items[i], path);
        }
    }
    return names.count;
}

static void test_rules_name_what_there_is(void **state)
{
    (void)state;
    assert_true(check_names(RULES) > 8);
    assert_true(check_names(RULE_TESTS) > 8);
}

static size_t occurrences(const char *text, const char *what)
{
    size_t count = 0;
    for (; (text = strstr(text, what)) != NULL; text++) {
        count++;
    }
    return count;
}

static void test_each_alert_explains_itself_and_is_tested(void **state)
{
    char *rules = read_whole(RULES);
    char *tests = read_whole(RULE_TESTS);
    size_t count = 0;
    (void)state;
    for (const char *at = rules; (at = strstr(at, "- alert: ")) != NULL; count++) {
        char name[64] = "alertname: ";
        at += strlen("- alert: ");
        (void)strncat(name, at, strcspn(at, "\n"));
        if (strstr(tests, name) == NULL) {
            fail_msg("%s is not tested", name);
        }
    }
    assert_true(count > 0);
    assert_int_equal(occurrences(rules, "  summary: "), count);
    assert_int_equal(occurrences(rules, "  description: "), count);
    free(rules);
    free(tests);
}

static void test_the_dashboard_is_json_and_names_what_there_is(void **state)
{
    json_error_t why;
    (void)state;
    json_t *dashboard = json_load_file(DASHBOARD, JSON_REJECT_DUPLICATES, &why);
    if (dashboard == NULL) {
        fail_msg("%s:%d: %s", DASHBOARD, why.line, why.text);
    }
    assert_true(json_array_size(json_object_get(dashboard, "panels")) > 10);
    json_decref(dashboard);
    assert_true(check_names(DASHBOARD) > 15);
}

/* ---- what Prometheus says ---- */

static void promtool(const char *what, const char *file)
{
    char command[256];
    if (system("command -v promtool >/dev/null") != 0) {
        print_message("promtool is not there: Debian has it in the package prometheus\n");
        skip();
    }
    (void)snprintf(command, sizeof command, "promtool %s %s", what, file);
    assert_int_equal(system(command), 0);
}

static void test_promtool_takes_metrics(void **state)
{
    struct scratch s;
    char file[96];
    (void)state;
    scratch_create(&s);
    scratch_write(&s, "metrics", "%s", metrics);
    (void)snprintf(file, sizeof file, "<%s/metrics", s.dir);
    promtool("check metrics", file);
    scratch_remove(&s);
}

static void test_promtool_takes_rules(void **state)
{
    (void)state;
    promtool("check rules", RULES);
}

/* Each alert fires when it should, and none when all is well. */
static void test_rules_do_what_they_should(void **state)
{
    (void)state;
    promtool("test rules", RULE_TESTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_manual_has_every_metric_and_no_other),
        cmocka_unit_test(test_rules_name_what_there_is),
        cmocka_unit_test(test_each_alert_explains_itself_and_is_tested),
        cmocka_unit_test(test_the_dashboard_is_json_and_names_what_there_is),
        cmocka_unit_test(test_promtool_takes_metrics),
        cmocka_unit_test(test_promtool_takes_rules),
        cmocka_unit_test(test_rules_do_what_they_should),
    };
    return cmocka_run_group_tests(tests, expose, forget);
}
