/* SPDX-License-Identifier: Apache-2.0 */
/* pgqrs doctor: each thing that it may find is made, found, mended with the command that it names,
 * and then not found any more. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/shell.h"

#define NOTHING "nothing was found\n"

/* Its pgqrsd, if there is one, is that of DIR/pgqrsd.yaml. */
static int on_sqlite(void **state)
{
    int rc = shell_setup(state);
    const struct fixture *f = *state;
    (void)setenv("PGQRS_RUNTIME_DIR", f->scratch.dir, 1);
    (void)unsetenv("PGQRS_SCHEMA");
    ok(f, "p admin install && p queue create a");
    return rc;
}

static void finds_nothing(const struct fixture *f, const char *options)
{
    ok(f, "p doctor %s", options);
    assert_string_equal(shell_out, NOTHING);
}

static int lines(const char *text)
{
    int count = 0;
    for (; *text != 0; text++) {
        count += *text == '\n';
    }
    return count;
}

/* Exactly one finding. */
static void finds(const struct fixture *f, const char *options, const char *found,
                  const char *command)
{
    char mend[512];
    int status = sh(f, "p doctor %s", options);
    (void)snprintf(mend, sizeof mend, "; to mend it: %s\n", command);
    says(shell_out, found);
    says(shell_out, mend);
    assert_int_equal(lines(shell_out), 1);
    assert_int_equal(status, 1);
}

/* A worker of somebody holds message 1, and has beaten so long ago. */
static void lease(const struct fixture *f, const char *beaten, const char *vt)
{
    char sql[512];
    db_exec(&f->scratch, "insert into pgqrs_workers (name, queue_id, status) values ('w', 1, "
                         "'polling')");
    (void)snprintf(sql, sizeof sql,
                   "update pgqrs_workers set heartbeat_at = datetime('now', '%s');"
                   "update pgqrs_messages set consumer_worker_id = 1, read_ct = 1,"
                   " dequeued_at = datetime('now', '-2 hours'), vt = datetime('now', '%s')",
                   beaten, vt);
    db_exec(&f->scratch, sql);
}

static void test_leases_of_a_dead_worker(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p message enqueue a 1");
    lease(f, "-2 hours", "+1 hour");
    finds_nothing(f, "");
    db_exec(&f->scratch, "update pgqrs_messages set vt = datetime('now', '-1 hour')");
    finds(f, "", "worker 1 of queue \"a\" is dead (polling, no heartbeat for 2h",
          "pgqrs worker stop 1 --yes");
    says(shell_out, "holds 1 messages whose leases have passed, such as 1;");
    db_exec(&f->scratch, "update pgqrs_workers set heartbeat_at = datetime('now')");
    finds_nothing(f, "");
    db_exec(&f->scratch, "update pgqrs_workers set heartbeat_at = datetime('now', '-1 hour')");
    ok(f, "p worker stop 1 --yes");
    assert_int_equal(db_number(&f->scratch, "select count(*) from pgqrs_messages where "
                                            "consumer_worker_id is null"),
                     1);
}

static void test_a_paused_queue(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p queue create 'it'\\''s odd' && p queue pause a 'it'\\''s odd'");
    finds_nothing(f, "");
    ok(f, "p message enqueue \"it's odd\" 1 && p message enqueue --delay 1h \"it's odd\" 1");
    finds(f, "", "warning  queue \"it's odd\" has been paused for ",
          "pgqrs queue resume 'it'\\''s odd'");
    says(shell_out, "and 2 messages wait");
}

static void test_a_queue_that_nobody_serves(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p message enqueue --delay 1h a 1");
    finds_nothing(f, "");
    ok(f, "p message enqueue a 1");
    finds(f, "", "error    queue \"a\" has 1 messages that are due, the oldest for ",
          "pgqrsd -c FILE, with the queue in it");
    says(shell_out, "nobody serves it");
    db_exec(&f->scratch, "insert into pgqrs_workers (name, queue_id, status) values ('w', 1, "
                         "'polling')");
    finds_nothing(f, "");
    ok(f, "p worker suspend 1");
    finds(f, "", "its workers are suspended", "pgqrs worker resume 1");
    ok(f, "p worker resume 1");
    finds_nothing(f, "");
}

static void test_dead_letters_and_poison(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p message enqueue a 1 && p message enqueue a 2");
    db_exec(&f->scratch,
            "update pgqrs_messages set archived_at = datetime('now'), pgqrsd_outcome = 'failed',"
            " pgqrsd_error = 'no such' || char(10) || 'customer'");
    finds(f, "", "warning  queue \"a\" has 2 dead letters, the newest is 2: no such\\x0acustomer",
          "pgqrs dlq list --queue a; pgqrs dlq replay --queue a");
    ok(f, "p message delete 1 2 --yes");
    finds_nothing(f, "");
}

static void test_a_job_that_crashes_workers(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    on_crash: 1\n");
    finds_nothing(f, "--config pgqrsd.yaml");
    fixture_enqueue(f, 1, "{\"crash\":1}");
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'failed'", 1);
    finds(f, "--config pgqrsd.yaml",
          "error    queue \"work\" has 1 jobs that crash their workers, such as 1: quarantined "
          "after 1 crashes: ",
          "pgqrs message run 1 --isolated");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_attempts_that_are_used_up(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p message enqueue a 1 && p message enqueue a 2");
    db_exec(&f->scratch, "insert into pgqrs_workers (name, queue_id, status) values ('w', 1, "
                         "'polling')");
    db_exec(&f->scratch, "update pgqrs_messages set read_ct = 5 where id = 2");
    finds(f, "", "warning  queue \"a\" has 1 messages that wait with 5 attempts or more used up",
          "pgqrs message cancel 2; pgqrs message replay 2");
    ok(f, "p message cancel 2; p message replay 2");
    finds_nothing(f, "");
}

static void test_a_schema_that_is_not_whole(void **state)
{
    const struct fixture *f = *state;
    db_exec(&f->scratch, "drop index pgqrsd_messages_lease");
    finds(f, "", "pgqrsd_messages_lease", "pgqrs admin install");
    ok(f, "p admin install");
    finds_nothing(f, "");
    ok(f, "rm -f queue.db* && : >queue.db");
    assert_int_equal(sh(f, "p doctor -o json"), 1);
    json_t *json = shell_json();
    assert_int_equal(json_array_size(json), 1);
    const json_t *found = json_array_get(json, 0);
    assert_string_equal(json_string_value(json_object_get(found, "severity")), "error");
    assert_string_equal(json_string_value(json_object_get(found, "check")), "schema");
    assert_string_equal(json_string_value(json_object_get(found, "command")),
                        "pgqrs admin install");
    json_decref(json);
}

static void test_words(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p doctor -o json");
    assert_string_equal(shell_out, "[]\n");
    assert_int_equal(sh(f, "p doctor now"), 2);
    says(shell_err, "doctor: found 1 words, expected: none");
    assert_int_equal(sh(f, "p doctor --yes"), 2);
    assert_int_equal(sh(f, "p doctor --socket nowhere"), 69);
    assert_int_equal(sh(f, "p doctor --dsn sqlite:nowhere"), 69);
    ok(f, "p doctor --help");
    says(shell_out, "usage: pgqrs [OPTIONS] doctor \n\nFind what is stuck");
    ok(f, "p --help");
    says(shell_out, "\n  doctor ");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, on_sqlite, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_leases_of_a_dead_worker),    TEST(test_a_paused_queue),
        TEST(test_a_queue_that_nobody_serves), TEST(test_dead_letters_and_poison),
        TEST(test_a_job_that_crashes_workers), TEST(test_attempts_that_are_used_up),
        TEST(test_a_schema_that_is_not_whole), TEST(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
