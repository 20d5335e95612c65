/* SPDX-License-Identifier: Apache-2.0 */
/* bin/pgqrs on workflows and their runs: on a database file, through a running broker, and on
 * PostgreSQL. The test does what workers do. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/flow_rig.h"
#include "tests/support/pg_rig.h"
#include "tests/support/shell.h"

static struct flow_rig rig;
static struct pg_rig *pg; /* null: SQLite */

static int on_a_file(void **state)
{
    int rc = shell_setup(state);
    const struct fixture *f = *state;
    (void)setenv("LC_ALL", "C", 1);
    ok(f, "p admin install && p workflow create order");
    flow_rig_open(&rig, f->scratch.dsn, NULL, "order");
    return rc;
}

static int through_a_broker(void **state)
{
    char dsn[160];
    int rc = shell_setup(state);
    struct fixture *f = *state;
    (void)setenv("LC_ALL", "C", 1);
    ok(f, "p admin install");
    fixture_start(f, "");
    (void)snprintf(dsn, sizeof dsn, "broker:%s/run/pgqrsd.sock", f->scratch.dir);
    (void)setenv("PGQRS_DSN", dsn, 1);
    ok(f, "p workflow create order");
    flow_rig_open(&rig, f->scratch.dsn, NULL, "order");
    return rc;
}

static int on_postgres(void **state)
{
    int rc = shell_setup(state);
    pg = pg_rig_create();
    (void)setenv("LC_ALL", "C", 1);
    (void)setenv("PGQRS_DSN", pg->dsn, 1);
    (void)setenv("PGQRS_SCHEMA", pg->schema, 1);
    ok(*state, "p admin install && p workflow create order");
    flow_rig_open(&rig, pg->dsn, pg->schema, "order");
    return rc;
}

static int after(void **state)
{
    flow_rig_close(&rig);
    if (pg != NULL) {
        pg_rig_destroy(pg);
        pg = NULL;
    }
    (void)unsetenv("PGQRS_SCHEMA");
    return fixture_teardown(state);
}

/* What is printed as JSON by a command that exits so. */
static json_t *document(const struct fixture *f, int status, const char *command)
{
    assert_int_equal(sh(f, "p -o json %s", command), status);
    return shell_json();
}

static void has_text(json_t *json, const char *key, const char *expected)
{
    const char *found = json_string_value(json_object_get(json, key));
    if (found == NULL || strcmp(found, expected) != 0) {
        fail_msg("%s: found %s, expected %s", key, found == NULL ? "no text" : found, expected);
    }
}

static int64_t trigger(const struct fixture *f, const char *words)
{
    ok(f, "p workflow trigger order %s", words);
    return strtoll(shell_out, NULL, 10);
}

/* ---- definitions, triggers ---- */

static void definitions(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p workflow create order ship");
    assert_string_equal(shell_out, "workflow \"order\" is there already\n"
                                   "workflow \"ship\" is created\n");
    json_t *json = document(f, 0, "workflow list");
    assert_int_equal(json_array_size(json), 2);
    has_text(json_array_get(json, 0), "name", "order");
    has_text(json_array_get(json, 1), "name", "ship");
    json_decref(json);
    ok(f, "p workflow list");
    says(shell_out, "NAME\n");
    says(shell_out, "ship\n");
    ok(f, "p queue list | grep -q ship");
    assert_int_equal(sh(f, "p workflow create ''"), 1);
    says(shell_err, "found 0 bytes, expected 1 to 255");
}

static void triggers(void **state)
{
    const struct fixture *f = *state;
    int64_t first = trigger(f, "'{\"n\": 1.10}' --unique-key k --priority 3");
    assert_int_equal(sh(f, "p workflow trigger order 2 --unique-key k"), 0);
    assert_int_equal(strtoll(shell_out, NULL, 10), first);
    says(shell_err, "has this unique key already");
    int64_t second = trigger(f, "");
    ok(f, "echo '[1, 2]' >x; p workflow trigger order @x; p workflow trigger order - <x");
    assert_int_equal(strtoll(shell_out, NULL, 10), second + 1);
    char sql[256];
    (void)snprintf(
        sql, sizeof sql,
        "select (select replace(payload, ' ', '') from pgqrs_messages where id = %" PRId64
        ") = '{\"input\":{\"n\":1.10}}' and (select replace(payload, ' ', '') from "
        "pgqrs_messages where id = %" PRId64 ") = '{\"input\":[1,2]}'",
        first, second + 2);
    assert_int_equal(db_number(&f->scratch, sql), 1);
    json_t *json = document(f, 0, "workflow trigger order 7 --delay 1h");
    assert_int_equal(json_integer_value(json_object_get(json, "id")), second + 3);
    json_decref(json);
    assert_int_equal(sh(f, "p workflow trigger none 1"), 1);
    says(shell_err, "to create it: pgqrs workflow create none");
    assert_int_equal(sh(f, "p workflow trigger order '{'"), 1);
    says(shell_err, "found \"{\"");
    assert_int_equal(sh(f, "head -c 1048570 /dev/zero | tr '\\0' x | sed 's/.*/\"&\"/' |"
                           " p workflow trigger order -"),
                     1);
    says(shell_err, "input: found 1048572 bytes without white space, expected at most 1048565");
    assert_int_equal(sh(f, "p workflow trigger order @none"), 1);
    says(shell_err, "none: can not be read: No such file");
}

/* ---- results ---- */

static void results(void **state)
{
    const struct fixture *f = *state;
    int64_t id = trigger(f, "'{\"n\":1}'");
    assert_int_equal(sh(f, "p workflow result %" PRId64, id), 75);
    says(shell_err, "has not ended: QUEUED until ");
    assert_int_equal(sh(f, "p workflow result %" PRId64 " --wait 30ms", id), 75);
    assert_int_equal(sh(f, "p workflow result %" PRId64 " --wait=30ms", id), 75);
    assert_int_equal(sh(f, "p workflow result %" PRId64 " --wait=30", id), 2);
    struct pgqrs_lease_ref lease = flow_rig_begin(&rig, id);
    assert_int_equal(sh(f, "p workflow result %" PRId64, id), 75);
    says(shell_err, "has not ended: RUNNING\n");
    flow_rig_end(&rig, lease, PGQRS_FLOW_SUCCESS, "{\"total\":12345678901234567}");
    ok(f, "p workflow result %" PRId64, id);
    ok(f, "p workflow result %" PRId64 " --wait | tr -d ' '", id);
    assert_string_equal(shell_out, "{\"total\":12345678901234567}\n");

    id = trigger(f, "");
    flow_rig_end(&rig, flow_rig_begin(&rig, id), PGQRS_FLOW_ERROR, "\"no \\u001b[31m tea\"");
    assert_int_equal(sh(f, "p workflow result %" PRId64, id), 1);
    says(shell_err, "has failed: no \\x1b[31m tea\n");
    assert_string_equal(shell_out, "");
    char command[64];
    (void)snprintf(command, sizeof command, "workflow result %" PRId64, id);
    json_t *json = document(f, 1, command);
    has_text(json, "status", "ERROR");
    has_text(json, "error", "no \033[31m tea");
    assert_true(json_is_null(json_object_get(json, "output")));
    json_decref(json);
    assert_int_equal(sh(f, "p workflow result 999"), 1);
    says(shell_err, "run 999 does not exist");
    ok(f, "p queue create plain; p message enqueue plain 1 -o json | tr -d '[]'");
    assert_int_equal(sh(f, "p workflow result %" PRId64, id + 1), 1);
    says(shell_err, "is no run: its queue has no workflow");
}

static bool has_ended(const void *arg)
{
    return sh(arg, "test -s status") == 0;
}

static bool has_opened_the_store(const void *arg)
{
    return sh(arg, "ls -l /proc/$(cat pid)/fd | grep -q 'queue.db\\|socket:'") == 0;
}

/* Starts a command that waits; at its end, the file status has its exit status. */
static void start_waiting(const struct fixture *f, const char *command, int64_t id)
{
    char *program = realpath(built("bin/pgqrs"), NULL);
    assert_non_null(program);
    ok(f,
       "(sh -c 'echo $$ >pid; exec %s workflow %s %" PRId64 " --wait 60s' >result 2>&1;"
       " echo $? >status) &",
       program, command, id);
    free(program);
    assert_true(wait_for(has_opened_the_store, f, WAIT_MS));
}

static void a_result_is_waited_for_along_what_continues_it(void **state)
{
    const struct fixture *f = *state;
    int64_t id = trigger(f, "1");
    start_waiting(f, "result", id);
    flow_rig_end(&rig, flow_rig_begin(&rig, id), PGQRS_FLOW_CONTINUE, "{\"n\":2}");
    assert_int_equal(sh(f, "test -s status"), 1);
    flow_rig_end(&rig, flow_rig_begin(&rig, id + 1), PGQRS_FLOW_SUCCESS, "\"second\"");
    assert_true(wait_for(has_ended, f, WAIT_MS));
    ok(f, "cat status result");
    assert_string_equal(shell_out, "0\n\"second\"\n");
    char command[64];
    (void)snprintf(command, sizeof command, "workflow result %" PRId64, id);
    json_t *json = document(f, 0, command);
    assert_int_equal(json_integer_value(json_object_get(json, "asked_id")), id);
    assert_int_equal(json_integer_value(json_object_get(json, "id")), id + 1);
    has_text(json, "output", "second");
    json_decref(json);
}

/* Of those that no run will tell of. */
static void results_of_messages_that_were_ended(void **state)
{
    const struct fixture *f = *state;
    int64_t never = trigger(f, "1");
    ok(f, "p message cancel %" PRId64, never);
    assert_int_equal(sh(f, "p workflow result %" PRId64 " --wait 20s", never), 1);
    says(shell_err, "was cancelled");
    int64_t left = trigger(f, "2");
    char sql[512];
    (void)flow_rig_begin(&rig, left);
    /* A client of pgqrs, which has no trigger of ours, leaves the run as it was. */
    (void)snprintf(sql, sizeof sql,
                   "update pgqrs_messages set pgqrsd_flow = 0 where id = %" PRId64
                   "; update pgqrs_messages set archived_at = enqueued_at where id = %" PRId64,
                   left, left);
    db_exec(&f->scratch, sql);
    assert_int_equal(sh(f, "p workflow result %" PRId64 " --wait 20s", left), 1);
    says(shell_err, "its message was archived, and nobody had ended the run");
}

/* ---- what is done to runs ---- */

static void cancelling(void **state)
{
    const struct fixture *f = *state;
    int64_t id = trigger(f, "1");
    ok(f, "p workflow cancel %" PRId64, id);
    says(shell_out, "is cancelled\n");
    id = trigger(f, "2");
    flow_rig_pause(&rig, flow_rig_begin(&rig, id), NULL, 3600000);
    assert_int_equal(sh(f, "p workflow cancel %" PRId64 " --wait 50ms", id), 75);
    says(shell_out, "is asked to end\n");
    start_waiting(f, "cancel", id);
    flow_rig_end(&rig, flow_rig_begin(&rig, id), PGQRS_FLOW_CANCEL, "null"); /* it is due now */
    assert_true(wait_for(has_ended, f, WAIT_MS));
    ok(f, "cat status result");
    says(shell_out, "0\nrun ");
    says(shell_out, "is cancelled\n");
    ok(f, "p workflow cancel %" PRId64, id);
    id = trigger(f, "3");
    flow_rig_end(&rig, flow_rig_begin(&rig, id), PGQRS_FLOW_SUCCESS, "3");
    assert_int_equal(sh(f, "p workflow cancel %" PRId64, id), 1);
    says(shell_out, "is not cancelled: it has ended, SUCCESS\n");
    assert_int_equal(sh(f, "p workflow cancel 999"), 1);
}

static void resuming(void **state)
{
    const struct fixture *f = *state;
    int64_t id = trigger(f, "1");
    flow_rig_pause(&rig, flow_rig_begin(&rig, id), NULL, 3600000);
    ok(f, "p workflow resume %" PRId64, id);
    says(shell_out, "goes on now\n");
    (void)flow_rig_begin(&rig, id);
    assert_int_equal(sh(f, "p workflow resume %" PRId64, id), 1);
    says(shell_out, "does not wait: nothing was changed\n");
    assert_int_equal(sh(f, "p workflow resume 999"), 1);
    assert_int_equal(sh(f, "p workflow resume x"), 2);
}

static void signals(void **state)
{
    const struct fixture *f = *state;
    int64_t id = trigger(f, "1");
    flow_rig_pause(&rig, flow_rig_begin(&rig, id), "approved", -1);
    ok(f, "p run show %" PRId64, id);
    says(shell_out, "until     an event comes\n");
    ok(f, "p workflow signal %" PRId64 " approved '{\"by\": \"ada\"}'", id);
    says(shell_out, "event \"approved\" sent\n");
    struct pgqrs_lease_ref lease = flow_rig_begin(&rig, id); /* it is due now */
    ok(f, "p workflow signal %" PRId64 " approved 2", id);
    says(shell_out, "was sent before: nothing was changed\n");
    ok(f, "p workflow signal %" PRId64 " other", id);
    ok(f, "p run state %" PRId64 " -o json", id);
    json_t *json = shell_json();
    json_t *events = json_object_get(json, "events");
    assert_int_equal(json_array_size(events), 2);
    has_text(json_array_get(events, 0), "name", "approved");
    has_text(json_object_get(json_array_get(events, 0), "payload"), "by", "ada");
    assert_true(json_is_null(json_object_get(json_array_get(events, 1), "payload")));
    json_decref(json);
    flow_rig_end(&rig, lease, PGQRS_FLOW_SUCCESS, "1");
    assert_int_equal(sh(f, "p workflow signal %" PRId64 " late", id), 1);
    assert_int_equal(sh(f, "p workflow signal %" PRId64 " bad '{'", id), 1);
    assert_int_equal(sh(f, "p workflow signal 999 e"), 1);
}

/* ---- looking ---- */

static struct pgqrs_step_put failed(const char *name, enum pgqrs_step_kind kind, const char *error,
                                    int64_t retry_ms)
{
    return (struct pgqrs_step_put){.name = name,
                                   .kind = kind,
                                   .status = PGQRS_STEP_ERROR,
                                   .error = pgqrs_bytes_from(error),
                                   .retry_ms = retry_ms,
                                   .retried = kind == PGQRS_STEP_PLAIN && retry_ms >= 0,
                                   .took_ms = 5};
}

static int64_t start_child(struct pgqrs_lease_ref lease, const char *name)
{
    const struct pgqrs_step_put put = {
        .name = name, .kind = PGQRS_STEP_CHILD, .status = PGQRS_STEP_SUCCESS};
    const struct pgqrs_follow_up next = {
        .queue = "order", .item = {.payload = pgqrs_bytes_from("{\"input\": \"small\"}")}};
    return flow_rig_do(&rig, (struct pgqrs_flow){.lease = lease,
                                                 .what = PGQRS_FLOW_STEP,
                                                 .steps = &put,
                                                 .step_count = 1,
                                                 .follow_ups = &next,
                                                 .follow_up_count = 1,
                                                 .child = true});
}

/* A run with everything; returns its id. Its children are the next two ids. */
static int64_t fill(const struct fixture *f)
{
    int64_t id = trigger(f, "'{\"tea\": \"green\"}'");
    struct pgqrs_lease_ref lease = flow_rig_begin(&rig, id);
    flow_rig_step(&rig, lease, "charge", "{\"paid\": true}");
    flow_rig_put(
        &rig, lease,
        failed("ship", PGQRS_STEP_PLAIN,
               "{\"is_transient\": true, \"code\": \"T\", \"message\": \"no \\u001b car\"}",
               60000));
    flow_rig_put(&rig, lease, failed("label", PGQRS_STEP_PLAIN, "\"torn\"", -1));
    flow_rig_put(&rig, lease,
                 failed("rest", PGQRS_STEP_SLEEP,
                        "{\"is_transient\": true, \"code\": \"PAUSED\", \"message\": \"sleeps\"}",
                        3600000));
    (void)flow_rig_do(&rig, (struct pgqrs_flow){.lease = lease,
                                                .what = PGQRS_FLOW_STATE,
                                                .name = "progress",
                                                .output = pgqrs_bytes_from("{\"done\": 3}")});
    int64_t child = start_child(lease, "first");
    assert_int_equal(child, id + 1);
    assert_int_equal(start_child(lease, "second"), id + 2);
    struct pgqrs_lease_ref below = flow_rig_begin(&rig, child);
    assert_int_equal(start_child(below, "third"), id + 3);
    flow_rig_end(&rig, below, PGQRS_FLOW_SUCCESS, "1");
    flow_rig_pause(&rig, lease, "approved", 7200000);
    return id;
}

static void a_run_is_shown(void **state)
{
    static const char *const parts[] = {
        "workflow  order\n",
        "status    PAUSED\n",
        ", in 1h 59m\n",
        " host/w\n",
        "input     {\"tea\":",
        "waits     waits for it\n",
        "+  charge  step ",
        "12ms  {\"paid\":",
        "!  ship    step       2",
        "again in 59",
        "s: no \\x1b car\n",
        "x  label   step       1   5ms  torn\n",
        "~  rest    sleep      1     -  until 2",
        "progress  2",
        "child:",
        "+- 2  order  SUCCESS  ",
        "+- 3  order  QUEUED\n",
    };
    const struct fixture *f = *state;
    int64_t id = fill(f);
    assert_int_equal(id, 1);
    ok(f, "p run show 1");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        says(shell_out, parts[i]);
    }
    for (const char *line = shell_out; *line != 0; line += strcspn(line, "\n") + 1) {
        assert_true(strcspn(line, "\n") <= 80);
    }
    ok(f, "LC_ALL=C.UTF-8 p run show 1");
    says(shell_out, "\u2713  charge");
    says(shell_out, "\u251c\u2500 2  order  SUCCESS");
    says(shell_out, "\u2514\u2500 3  order  QUEUED\n");
    ok(f, "p run steps 1");
    says(shell_out, "!  ship ");
    ok(f, "p run show 3"); /* nobody has begun it */
    says(shell_out, "status    QUEUED\n");
    assert_int_equal(sh(f, "p run show 999"), 1);
}

static void a_run_as_json(void **state)
{
    const struct fixture *f = *state;
    (void)fill(f);
    json_t *json = document(f, 0, "run show 1");
    assert_int_equal(json_integer_value(json_object_get(json, "id")), 1);
    has_text(json, "status", "PAUSED");
    has_text(json_object_get(json, "input"), "tea", "green");
    json_t *steps = json_object_get(json, "steps");
    assert_int_equal(json_array_size(steps), 6);
    json_t *ship = json_array_get(steps, 1);
    has_text(ship, "name", "ship");
    has_text(ship, "kind", "step");
    has_text(ship, "status", "ERROR");
    assert_int_equal(json_integer_value(json_object_get(ship, "attempts")), 2);
    assert_true(json_is_string(json_object_get(ship, "retry_at")));
    has_text(json_object_get(ship, "error"), "code", "T");
    has_text(json_array_get(json_object_get(json, "state"), 0), "name", "progress");
    has_text(json_array_get(json_object_get(json, "events"), 0), "name", "child:2");
    json_t *children = json_object_get(json, "children");
    assert_int_equal(json_array_size(children), 2);
    has_text(json_array_get(children, 0), "status", "SUCCESS");
    has_text(json_array_get(children, 1), "status", "QUEUED");
    json_decref(json);
    json = document(f, 0, "run steps 1");
    assert_int_equal(json_array_size(json), 6);
    json_decref(json);
}

static void lists(void **state)
{
    static const struct {
        const char *options;
        size_t count;
        int first;
    } rows[] = {
        {"", 2, 2},
        {"--status PAUSED", 1, 1},
        {"--status success", 1, 2},
        {"--status ERROR", 0, 0},
        {"--workflow order --limit 1", 1, 2},
        {"--workflow order --before 2", 1, 1},
        {"--workflow other", 0, 0},
    };
    const struct fixture *f = *state;
    (void)fill(f);
    ok(f, "p workflow create other");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char command[96];
        (void)snprintf(command, sizeof command, "run list %s", rows[i].options);
        json_t *json = document(f, 0, command);
        assert_int_equal(json_array_size(json), rows[i].count);
        assert_int_equal(json_integer_value(json_object_get(json_array_get(json, 0), "id")),
                         rows[i].first);
        json_decref(json);
    }
    ok(f, "p run list");
    says(shell_out, "PAUSED ");
    assert_int_equal(sh(f, "p run list --status lost"), 2);
    says(shell_err, "--status: found \"lost\", expected QUEUED, ");
    assert_int_equal(sh(f, "p run list --workflow none"), 1);
}

static void forks(void **state)
{
    const struct fixture *f = *state;
    int64_t id = trigger(f, "1");
    struct pgqrs_lease_ref lease = flow_rig_begin(&rig, id);
    flow_rig_step(&rig, lease, "one", "1");
    flow_rig_step(&rig, lease, "two", "2");
    flow_rig_end(&rig, lease, PGQRS_FLOW_ERROR, "\"broke\"");
    ok(f, "p run fork %" PRId64 " --from two --input '[7]'", id);
    assert_int_equal(strtoll(shell_out, NULL, 10), id + 1);
    json_t *json = document(f, 0, "run steps 2");
    assert_int_equal(json_array_size(json), 1);
    has_text(json_array_get(json, 0), "name", "one");
    json_decref(json);
    (void)flow_rig_begin(&rig, id + 1);
    json = document(f, 0, "run show 2");
    assert_int_equal(json_integer_value(json_array_get(json_object_get(json, "input"), 0)), 7);
    json_decref(json);
    json = document(f, 0, "run fork 1");
    assert_int_equal(json_integer_value(json_object_get(json, "id")), id + 2);
    json_decref(json);
    assert_int_equal(sh(f, "p run fork %" PRId64 " --from none", id), 1);
    assert_int_equal(sh(f, "p run fork %" PRId64 " --input '{'", id), 1);
    assert_int_equal(sh(f, "p run fork 999"), 1);
}

int main(void)
{
#define ON_FILE(test)                                                                              \
    {                                                                                              \
        "file_" #test, test, on_a_file, after, NULL                                                \
    }
#define ON_BROKER(test)                                                                            \
    {                                                                                              \
        "broker_" #test, test, through_a_broker, after, NULL                                       \
    }
#define ON_POSTGRES(test)                                                                          \
    {                                                                                              \
        "postgres_" #test, test, on_postgres, after, NULL                                          \
    }
    const struct CMUnitTest tests[] = {
        ON_FILE(definitions),
        ON_FILE(triggers),
        ON_FILE(results),
        ON_FILE(a_result_is_waited_for_along_what_continues_it),
        ON_FILE(results_of_messages_that_were_ended),
        ON_FILE(cancelling),
        ON_FILE(resuming),
        ON_FILE(signals),
        ON_FILE(a_run_is_shown),
        ON_FILE(a_run_as_json),
        ON_FILE(lists),
        ON_FILE(forks),
        ON_BROKER(results),
        ON_BROKER(cancelling),
        ON_BROKER(a_run_is_shown),
        ON_BROKER(forks),
        ON_POSTGRES(signals),
        ON_POSTGRES(a_run_as_json),
        ON_POSTGRES(forks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
