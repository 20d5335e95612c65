/* SPDX-License-Identifier: Apache-2.0 */
/* bin/pgqrs on workflows that a real pgqrsd runs, through its broker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/shell.h"

#define RUNS(condition) "select count(*) from pgqrs_workflow_runs where " condition

static int setup(void **state)
{
    char dsn[160];
    int rc = shell_setup(state);
    struct fixture *f = *state;
    (void)setenv("LC_ALL", "C", 1);
    daemon_config(&f->scratch,
                  "queues: {flow: {handler: %s, settings: {file: %s}, consumers: 2}}\n",
                  built("tests/handlers/script.so"), f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "queue \"flow\": worker 0: ready", 1);
    (void)snprintf(dsn, sizeof dsn, "broker:%s/run/pgqrsd.sock", f->scratch.dir);
    (void)setenv("PGQRS_DSN", dsn, 1);
    ok(f, "p workflow create flow");
    return rc;
}

static void a_run_from_its_trigger_to_its_result(void **state)
{
    struct fixture *f = *state;
    ok(f, "p workflow trigger flow '\"step:a child:c:step;x wait:go:-1 join:j:0 step:end\"'");
    assert_string_equal(shell_out, "1\n");
    db_await(&f->scratch, RUNS("message_id = 1 and status = 'PAUSED'"), 1);
    db_await(&f->scratch, RUNS("message_id = 2 and status = 'SUCCESS'"), 1);
    ok(f, "p run show 1");
    says(shell_out, "status    PAUSED\n");
    says(shell_out, "until     an event comes\n");
    says(shell_out, "+  a     step ");
    says(shell_out, "~  go    event      1     -  wait \"go\"\n");
    says(shell_out, "+- 2  flow  SUCCESS");
    ok(f, "p run show 1 -o json");
    says(shell_out, "\"due_at\":null,");
    says(shell_out, "\"retry_at\":null,\"output\":null,\"error\":{\"is_transient\":true");
    ok(f, "p message get 1 -o json");
    says(shell_out, "\"visible_at\":null,");
    ok(f, "p message get 1");
    says(shell_out, "due       never, unless it is woken\n");
    assert_int_equal(sh(f, "p workflow result 1"), 75);
    ok(f, "p workflow signal 1 go '{\"by\": \"ada\"}' && p workflow result 1 --wait 20s");
    says(shell_out, "{\"done\":true}\n");
    ok(f, "p run show 1");
    says(shell_out, "+  j     event ");
    assert_int_equal(effects_count(&f->scratch, "step a "), 1);
    /* From the middle: what came before is not done again. */
    ok(f, "p workflow result $(p run fork 1 --from end) --wait 20s");
    assert_int_equal(effects_count(&f->scratch, "step a "), 1);
    assert_int_equal(effects_count(&f->scratch, "step end "), 2);
    ok(f, "p workflow result $(p workflow trigger flow '\"again:2\"') --wait 20s -o json");
    says(shell_out, "\"id\":6,\"asked_id\":4,\"status\":\"SUCCESS\"");
    assert_int_equal(
        sh(f, "p workflow result $(p workflow trigger flow '\"fail:bad\"') --wait 20s"), 1);
    says(shell_err, "run 7 has failed: step \"bad\": script: bad\n");
}

static void cancelled_and_resumed(void **state)
{
    struct fixture *f = *state;
    ok(f, "p workflow trigger flow '\"step:q undo:u wait:never:-1\"'");
    db_await(&f->scratch, RUNS("status = 'PAUSED'"), 1);
    ok(f, "p workflow cancel 1 --wait 20s");
    assert_string_equal(shell_out, "run 1 is cancelled\n");
    assert_int_equal(effects_count(&f->scratch, "undo u "), 1);
    ok(f, "p run show 1");
    says(shell_out, "x  never  event "); /* it waits no more */
    assert_int_equal(sh(f, "p workflow result 1"), 1);
    says(shell_err, "run 1 was cancelled");
    ok(f, "p workflow trigger flow '\"sleep:z:3600000 step:a\"'");
    db_await(&f->scratch, RUNS("status = 'PAUSED'"), 1);
    ok(f, "p run list --status paused");
    says(shell_out, "  in 59m 5");
    ok(f, "p workflow resume 2 && p workflow result 2 --wait 20s");
    assert_int_equal(effects_count(&f->scratch, "step a "), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_run_from_its_trigger_to_its_result, setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(cancelled_and_resumed, setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
