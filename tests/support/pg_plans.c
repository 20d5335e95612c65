/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/pg_plans.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static long log_offset;

struct watch {
    const char *what;
    const char *sql;
    const struct pg_plan_bounds *bounds;
};

void pg_plans_role(struct pg_rig *rig, const char *mode)
{
    static const char *const settings[] = {
        "session_preload_libraries = 'auto_explain'",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_analyze = on",
        "auto_explain.log_buffers = on",
        "auto_explain.log_timing = off",
        "auto_explain.log_format = 'json'",
        "auto_explain.log_nested_statements = on",
    };
    pg_rig_sql(rig, "CREATE ROLE %s SUPERUSER LOGIN", mode);
    pg_rig_sql(rig, "ALTER ROLE %s SET plan_cache_mode = '%s'", mode, mode);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        pg_rig_sql(rig, "ALTER ROLE %s SET %s", mode, settings[i]);
    }
}

const char *pg_plans_dsn(const char *mode)
{
    static char dsn[256];
    (void)snprintf(dsn, sizeof dsn, "postgres:///postgres?host=%s&user=%s", pg_rig_dir(), mode);
    return dsn;
}

static FILE *open_log(void)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/server.log", pg_rig_dir());
    FILE *log = fopen(path, "r");
    assert_non_null(log);
    return log;
}

void pg_plans_begin(void)
{
    FILE *log = open_log();
    assert_int_equal(fseek(log, 0, SEEK_END), 0);
    log_offset = ftell(log);
    (void)fclose(log);
}

/* ---- one plan ---- */

static int64_t number(const json_t *node, const char *key)
{
    const json_t *value = json_object_get(node, key);
    return value == NULL ? 0 : (int64_t)json_number_value(value);
}

static const char *word(const json_t *node, const char *key)
{
    const char *text = json_string_value(json_object_get(node, key));
    return text == NULL ? "" : text;
}

static void too_much(const struct watch *w, const json_t *node, const char *unit, int64_t found,
                     int64_t expected)
{
    char *text = json_dumps(node, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
    fail_msg("%s: found %lld %s, expected at most %lld, in \"%s\":\n%.3000s", w->what,
             (long long)found, unit, (long long)expected, w->sql, text);
}

/* Whole numbers for each loop: a fraction of a row may be left out of each. */
static int64_t rows_read(const json_t *node)
{
    return (number(node, "Actual Rows") + number(node, "Rows Removed by Filter") +
            number(node, "Rows Removed by Index Recheck")) *
           number(node, "Actual Loops");
}

/* Of a table that grows with the work. */
static bool reads_much(const json_t *node)
{
    static const char *const grow[] = {"pgqrs_messages", "pgqrs_workflow_", "pgqrsd_workflow_"};
    const char *table = word(node, "Relation Name");
    for (size_t i = 0; i < sizeof grow / sizeof *grow; i++) {
        if (strncmp(table, grow[i], strlen(grow[i])) == 0) {
            return strstr(word(node, "Node Type"), "Scan") != NULL;
        }
    }
    return false;
}

static void check_node(const struct watch *w, const json_t *node)
{
    const char *type = word(node, "Node Type");
    bool scan = reads_much(node);
    if (scan && strcmp(type, "Seq Scan") == 0) {
        too_much(w, node, "scans of the whole table", 1, 0);
    }
    if ((scan || strstr(type, "Sort") != NULL) && rows_read(node) > w->bounds->rows) {
        too_much(w, node, "rows", rows_read(node), w->bounds->rows);
    }
    size_t i;
    const json_t *child;
    json_array_foreach(json_object_get(node, "Plans"), i, child)
    {
        check_node(w, child);
    }
}

static void check_plan(const struct pg_plan_bounds *bounds, const char *what, const char *text)
{
    json_error_t why;
    json_t *plan = json_loads(text, 0, &why);
    if (plan == NULL) {
        fail_msg("%s: %s in %.300s", what, why.text, text);
    }
    const json_t *top = json_object_get(plan, "Plan");
    const struct watch w = {.what = what, .sql = word(plan, "Query Text"), .bounds = bounds};
    int64_t buffers = number(top, "Shared Hit Blocks") + number(top, "Shared Read Blocks");
    if (getenv("PGQRS_TEST_VERBOSE") != NULL) {
        print_message("%s: %lld buffers: %.60s\n", what, (long long)buffers, w.sql);
    }
    check_node(&w, top);
    if (buffers > bounds->buffers) {
        too_much(&w, top, "buffers", buffers, bounds->buffers);
    }
    json_decref(plan);
}

/* ---- the log: a line tells of a plan, those that begin with a tab are it ---- */

int pg_plans_check(const char *what, const struct pg_plan_bounds *bounds)
{
    struct pgqrs_buf plan = {0};
    char *line = NULL;
    size_t cap = 0;
    int plans = 0;
    bool inside = false;
    FILE *log = open_log();
    assert_int_equal(fseek(log, log_offset, SEEK_SET), 0);
    for (;;) {
        ssize_t len = getline(&line, &cap, log);
        if (inside && (len < 0 || line[0] != '\t')) {
            pgqrs_buf_put_u8(&plan, 0);
            check_plan(bounds, what, (const char *)plan.data);
            plan.len = 0;
            plans++;
            inside = false;
        }
        if (len < 0) {
            break;
        }
        if (inside) {
            pgqrs_buf_put(&plan, line, (size_t)len);
        } else {
            inside = strstr(line, " ms  plan:") != NULL;
        }
    }
    free(line);
    pgqrs_buf_fini(&plan);
    (void)fclose(log);
    return plans;
}
