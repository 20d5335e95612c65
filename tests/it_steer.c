/* SPDX-License-Identifier: Apache-2.0 */
/* A running pgqrsd is steered: workers are killed, queues paused, all of it drained and stopped. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/support/world.h"

#define BOTH(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, world_sqlite_setup, world_sqlite_teardown),              \
        cmocka_unit_test_setup_teardown(test, world_pg_setup, world_pg_teardown)
#define ON_SQLITE(test)                                                                            \
    cmocka_unit_test_setup_teardown(test, world_sqlite_setup, world_sqlite_teardown)

static int ctl(const struct world *w, const char *a, const char *b, const char *c, const char *d)
{
    char config[96];
    (void)snprintf(config, sizeof config, "%s/pgqrsd.yaml", w->f->scratch.dir);
    return cli(&w->f->scratch, NULL, "--config", config, "-o", "json", "ctl", a, b, c, d,
               (char *)NULL);
}

/* The answer of a command that is to exit with 0; the caller's. */
static json_t *ask(const struct world *w, const char *a, const char *b, const char *c)
{
    char out[96];
    (void)snprintf(out, sizeof out, "%s/out", w->f->scratch.dir);
    assert_int_equal(ctl(w, a, b, c, NULL), 0);
    json_t *answer = json_load_file(out, 0, NULL);
    assert_non_null(answer);
    return answer;
}

static json_int_t integer(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static const json_t *queue_of(const json_t *status, size_t i)
{
    return json_array_get(json_object_get(status, "queues"), i);
}

/* ---- kill ---- */

/* A job that hears nothing goes with its worker; that counts as an attempt, and not as a crash. */
static void test_kill_ends_a_worker_and_its_job(void **state)
{
    const struct world *w = *state;
    fixture_start(w->f, "    on_crash: 1\n    max_attempts: 2\n    prefetch: 2\n"
                        "    retry: {base: 1ms}\n");
    fixture_enqueue(w->f, 1, "{\"ms\":600000,\"ignore_cancel\":true,\"ms_after_first\":0}");
    effects_await(&w->f->scratch, "start 1 1", 1);
    fixture_enqueue(w->f, 1, "{}"); /* waits behind it */
    pid_t pid = daemon_await_children(&w->f->daemon, "pgqrs-worker", 1);
    json_t *killed = ask(w, "kill", "work", "0");
    assert_int_equal(integer(killed, "pid"), pid);
    json_decref(killed);
    effects_await(&w->f->scratch, "end ", 2);
    world_await(w, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'", 2);
    world_await(w, "select pgqrsd_crash_ct from pgqrs_messages where id = 1", 0);
    world_await(w, "select read_ct from pgqrs_messages where id = 1", 2);
    world_await(w, "select read_ct from pgqrs_messages where id = 2", 1);
    json_t *status = ask(w, "status", NULL, NULL);
    const json_t *worker = json_array_get(json_object_get(queue_of(status, 0), "workers"), 0);
    assert_int_equal(integer(worker, "deaths_in_a_row"), 0);
    assert_true(json_is_integer(json_object_get(worker, "cpu_ms")));
    json_decref(status);
    assert_true(daemon_log_has(&w->f->daemon, "killed: by request (pgqrs ctl kill)"));
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
}

static bool said(const struct world *w, const char *text)
{
    char path[96];
    char line[1024] = "";
    (void)snprintf(path, sizeof path, "%s/out", w->f->scratch.dir);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    size_t len = fread(line, 1, sizeof line - 1, f);
    (void)fclose(f); /* it was only read */
    line[len] = 0;
    return strstr(line, text) != NULL;
}

static void test_what_is_unknown_is_said(void **state)
{
    const struct world *w = *state;
    fixture_start(w->f, "    consumers: 2\n");
    assert_int_equal(ctl(w, "kill", "nobody", "0", NULL), 1);
    assert_true(said(w, "found queue \"nobody\", expected one of: work"));
    assert_int_equal(ctl(w, "kill", "work", "7", NULL), 1);
    assert_true(said(w, "found worker 7, expected one of: 0, 1"));
    assert_int_equal(ctl(w, "kill", "work", "x", NULL), 2);
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
    assert_int_equal(ctl(w, "kill", "work", "0", NULL), 69);
    assert_true(said(w, "no pgqrsd at "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_kill_ends_a_worker_and_its_job),
        ON_SQLITE(test_what_is_unknown_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
