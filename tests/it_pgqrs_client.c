/* SPDX-License-Identifier: Apache-2.0 */
/* pgqrs' own Python client, as PyPI has it, and pgqrsd on one PostgreSQL database, whoever of the
 * two has installed it. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/pg_rig.h"
#include "tests/support/shell.h"

#define PYTHON "build/venv-pgqrs/bin/python3"

static struct pg_rig *rig;

static int on_postgres(void **state)
{
    int rc = shell_setup(state);
    const struct fixture *f = *state;
    char client[512];
    char *python = realpath("build/venv-pgqrs/bin", NULL);
    char *script = realpath("tests/pgqrs_client.py", NULL);
    assert_non_null(python);
    assert_non_null(script);
    (void)snprintf(client, sizeof client, "timeout 60 %s/python3 %s", python, script);
    free(python);
    free(script);
    rig = pg_rig_create();
    (void)setenv("CLIENT", client, 1);
    (void)setenv("PGQRS_DSN", rig->dsn, 1);
    (void)setenv("PGQRS_SCHEMA", rig->schema, 1);
    (void)setenv("PGQRS_RUNTIME_DIR", f->scratch.dir, 1);
    return rc;
}

static int after(void **state)
{
    int rc = fixture_teardown(state);
    pg_rig_destroy(rig);
    (void)unsetenv("PGQRS_SCHEMA");
    return rc;
}

static void start(struct fixture *f)
{
    char order[160];
    (void)snprintf(order, sizeof order, "%s", built("lib/pgqrs/handlers/order_workflow.so"));
    daemon_config(&f->scratch,
                  "queues:\n"
                  "  work:\n    handler: %s\n    settings: {file: %s}\n    consumers: 2\n"
                  "  order:\n    handler: %s\n    settings: {file: %s/journal, approval_ms: 0}\n",
                  built("tests/handlers/effect.so"), f->scratch.effects, order, f->scratch.dir);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "ready pid=", 4);
}

/* What the client prints. */
static void client_says(const struct fixture *f, const char *words, const char *expected)
{
    ok(f, "$CLIENT %s", words);
    assert_string_equal(shell_out, expected);
}

static void await_archived(int64_t count)
{
    pg_rig_await(rig, count, "SELECT count(*) FROM pgqrs_messages WHERE archived_at IS NOT NULL");
}

/* A run whose approval does not come: it is undone, and the client gets the result. */
static void client_runs_a_workflow(const struct fixture *f)
{
    ok(f, "$CLIENT trigger order '{\"item\": \"tea\", \"amount\": 12}'");
    says(shell_out, "\"order\": \"cancelled\"");
    ok(f, "$CLIENT steps | sort | tr '\\n' ' '");
    assert_string_equal(shell_out, "approval charge refund release reserve ");
}

static void test_on_their_database(void **state)
{
    struct fixture *f = *state;
    ok(f, "$CLIENT install");
    client_says(f, "queue work", "1\n");
    ok(f, "$CLIENT workflow order");
    client_says(f, "enqueue work 2", "1\n2\n");
    client_says(f, "batch work 2", "3\n4\n");
    client_says(f, "delayed work 1", "5\n");
    client_says(f, "lease work", "1\n"); /* and holds it on */
    client_says(f, "archived 1", "");

    start(f);
    await_archived(4);
    client_says(f, "archived 1", "2\n3\n4\n5\n");
    assert_int_equal(effects_count(&f->scratch, "end "), 4);
    ok(f, "p message get 1 -o json");
    says(shell_out, "\"state\":\"leased\"");
    client_runs_a_workflow(f);
    client_says(f, "workers", "WorkerStatus.Ready\n");
    ok(f, "$CLIENT verify && p admin verify");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* What the client has stored of a run is not done again. */
static void test_a_run_that_they_have_begun(void **state)
{
    struct fixture *f = *state;
    ok(f, "$CLIENT install && $CLIENT workflow order");
    client_says(f, "begin order '{\"item\": \"tea\", \"amount\": 12}' charge '\"receipt-1\"'",
                "1\n");
    ok(f, "p admin install && p run steps 1 -o json");
    says(shell_out, "\"receipt-1\"");

    start(f);
    await_archived(1);
    ok(f, "$CLIENT steps | sort | tr '\\n' ' '");
    assert_string_equal(shell_out, "approval charge refund release reserve ");
    ok(f, "cat journal");
    says(shell_out, "reserve order-1 tea");
    assert_null(strstr(shell_out, "charge"));
    ok(f, "p workflow result 1");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_on_our_database(void **state)
{
    struct fixture *f = *state;
    ok(f, "p admin install && p queue create work && p workflow create order");
    ok(f, "$CLIENT install && $CLIENT verify"); /* it is complete for them */
    client_says(f, "enqueue work 3", "1\n2\n3\n");
    ok(f, "$CLIENT settle work | sort -n | tr '\\n' ' '");
    assert_string_equal(shell_out, "1 2 3 ");
    ok(f, "p queue metrics work -o json");
    says(shell_out, "\"ready\":1,");
    says(shell_out, "\"archived\":1,");
    pg_rig_sql(rig, "DELETE FROM pgqrs_messages");

    ok(f, "$CLIENT enqueue work 60");
    ok(f, "$CLIENT share work 1 60 >theirs 2>&1 &\n until [ -s theirs ]; do sleep 0.01; done");
    start(f);
    await_archived(60);
    client_runs_a_workflow(f);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    ok(f, "cat theirs && { cat theirs; sed -n 's/^end \\([0-9]*\\) .*/\\1/p' effects; } |"
          " sort -n >all && [ $(wc -l <all) = 60 ] && [ $(uniq all | wc -l) = 60 ]");
    ok(f, "$CLIENT verify && p admin install && $CLIENT install");
}

static void test_without_their_client(void **state)
{
    (void)state;
    print_message("there is no " PYTHON "; make venv makes it, if PyPI can be reached\n");
    skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_on_their_database, on_postgres, after),
        cmocka_unit_test_setup_teardown(test_a_run_that_they_have_begun, on_postgres, after),
        cmocka_unit_test_setup_teardown(test_on_our_database, on_postgres, after),
    };
    const struct CMUnitTest without[] = {cmocka_unit_test(test_without_their_client)};
    if (access(PYTHON, X_OK) != 0) {
        return cmocka_run_group_tests(without, NULL, NULL);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
