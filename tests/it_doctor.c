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
#include <sys/mount.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/support/pg_rig.h"
#include "tests/support/shell.h"

static struct pg_rig *rig; /* null: SQLite */

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
    says(shell_out, "holds 1 message with a lease that has passed, such as 1;");
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
    says(shell_out, "with 2 messages waiting");
}

static void test_a_queue_that_nobody_serves(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p message enqueue --delay 1h a 1");
    finds_nothing(f, "");
    ok(f, "p message enqueue a 1");
    finds(f, "", "error    queue \"a\" has 1 due message, the oldest waits for ",
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
          "error    queue \"work\" has 1 job in quarantine, such as 1: quarantined "
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
    finds(f, "", "warning  queue \"a\" has 1 waiting message with 5 attempts or more used up",
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

/* ---- a pgqrsd that runs ---- */

#define CONFIG "--config pgqrsd.yaml"

static void test_workers_that_die_and_a_queue_that_fails(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    on_crash: 4\n    restart: {max: 4}\n");
    fixture_enqueue(f, 1, "{\"crash\":3}");
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'", 1);
    finds(f, CONFIG, "warning  queue \"work\" has lost 3 workers in 10 minutes, last: ",
          "pgqrs ctl deaths work");
    says(shell_out, "killed by signal");
    ok(f, "p message delete 1 --yes && p message enqueue work '{\"crash\":2}'");
    daemon_await_log(&f->daemon, "queue \"work\": failing: ", 1);
    finds(f, CONFIG, "error    queue \"work\" is failing since ",
          "pgqrs ctl deaths work; pgqrs ctl reload");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_queue_without_workers(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "");
    ok(f, "p " CONFIG " worker scale work 0");
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 0);
    fixture_enqueue(f, 1, "{}");
    finds_nothing(f, CONFIG);
    db_exec(&f->scratch,
            "update pgqrs_messages set enqueued_at = datetime(enqueued_at, '-1 hour')");
    finds(f, CONFIG, "its pgqrsd has no worker for it", "pgqrs worker scale work 1");
    finds(f, CONFIG " --dsn broker:pgqrsd.sock", "its pgqrsd has no worker for it",
          "pgqrs worker scale work 1");
    ok(f, "p " CONFIG " worker scale work 1");
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'", 1);
    finds_nothing(f, CONFIG);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* ---- runs and schedules ---- */

static void test_runs_that_wait(void **state)
{
    struct fixture *f = *state;
    daemon_config(&f->scratch, "queues: {flow: {handler: %s, settings: {file: %s}}}\n",
                  built("tests/handlers/script.so"), f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "queue \"flow\": worker 0: ready", 1);
    ok(f, "p workflow create flow && p workflow trigger flow '\"wait:go:-1\"' && p workflow "
          "trigger flow '\"sleep:s:3600000\"'");
    db_await(&f->scratch, "select count(*) from pgqrs_workflow_runs where status = 'PAUSED'", 2);
    finds_nothing(f, CONFIG);
    db_exec(&f->scratch, "update pgqrs_workflow_runs set paused_at = datetime('now', '-2 days')");
    finds(f, CONFIG, "info     run 1 of workflow \"flow\" has waited for \"go\" for 2d",
          "pgqrs workflow signal 1 go");
    ok(f, "p workflow signal 1 go");
    db_await(&f->scratch, "select count(*) from pgqrs_workflow_runs where status = 'SUCCESS'", 1);
    finds_nothing(f, CONFIG);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    ok(f, "p workflow cancel 2");
    assert_int_equal(sh(f, "p doctor"), 1);
    assert_null(strstr(shell_out, "run 2"));
    db_exec(&f->scratch, "update pgqrs_workflow_runs set updated_at = datetime('now', '-1 hour')");
    assert_int_equal(sh(f, "p doctor"), 1);
    says(shell_out, "warning  run 2 of workflow \"flow\" is to be cancelled for 1h 0m, but no "
                    "worker takes it; to mend it: pgqrsd -c FILE, with the workflow in it\n");
}

static void test_schedules(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p schedule create s --cron '0 0 1 1 *' --queue a");
    finds_nothing(f, "");
    db_exec(&f->scratch, "update pgqrsd_schedules set next_at = datetime('now', '-1 hour')");
    finds(f, "", "warning  schedule \"s\" of queue \"a\" is overdue for 1h 0m", "pgqrsd -c FILE");
    ok(f, "p schedule pause s");
    finds(f, "", "info     schedule \"s\" has been paused for ", "pgqrs schedule resume s");
    ok(f, "p schedule resume s");
    finds_nothing(f, "");
}

/* ---- what the store stands on ---- */

static void fill(const char *path)
{
    static const char block[4096];
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)setvbuf(file, NULL, _IONBF, 0);
    while (fwrite(block, sizeof block, 1, file) == 1) {
    }
    (void)fclose(file);
}

/* Also when the test has failed. */
static int unmount(void **state)
{
    const struct fixture *f = *state;
    char disk[80];
    (void)snprintf(disk, sizeof disk, "%s/disk", f->scratch.dir);
    (void)umount2(disk, MNT_DETACH);
    return fixture_teardown(state);
}

static void test_a_disk_that_is_nearly_full(void **state)
{
    struct fixture *f = *state;
    char disk[80];
    char filler[96];
    char mend[160];
    (void)snprintf(disk, sizeof disk, "%s/disk", f->scratch.dir);
    (void)snprintf(filler, sizeof filler, "%s/filler", disk);
    (void)snprintf(mend, sizeof mend, "df -h %s/q.db, and make room there", disk);
    if (mkdir(disk, 0700) < 0 || mount("tmpfs", disk, "tmpfs", 0, "size=8m") < 0) {
        skip(); /* only root may mount a small disk */
    }
    ok(f, "p --dsn sqlite:disk/q.db admin install");
    finds_nothing(f, "--dsn sqlite:disk/q.db");
    fill(filler);
    ok(f, "truncate -s -200K disk/filler");
    finds(f, "--dsn 'sqlite://disk/q.db?mode=rw'", "disk/q.db is nearly full: 0 of 8 MiB are left",
          mend);
}

static int on_postgres(void **state)
{
    int rc = shell_setup(state);
    const struct fixture *f = *state;
    rig = pg_rig_create();
    (void)setenv("PGQRS_RUNTIME_DIR", f->scratch.dir, 1);
    (void)setenv("PGQRS_DSN", rig->dsn, 1);
    (void)setenv("PGQRS_SCHEMA", rig->schema, 1);
    ok(f, "p admin install && p queue create a");
    return rc;
}

static int after_postgres(void **state)
{
    pg_rig_destroy(rig);
    rig = NULL;
    (void)unsetenv("PGQRS_SCHEMA");
    return fixture_teardown(state);
}

static void test_postgres_has_the_same(void **state)
{
    const struct fixture *f = *state;
    finds_nothing(f, "");
    ok(f, "p message enqueue a 1");
    pg_rig_sql(rig, "insert into pgqrs_workers (name, queue_id, status, heartbeat_at)"
                    " values ('w', 1, 'polling', now() - interval '2 hours');"
                    "update pgqrs_messages set consumer_worker_id = 1, read_ct = 1,"
                    " dequeued_at = now(), vt = now() - interval '1 hour'");
    finds(f, "", "worker 1 of queue \"a\" is dead (polling, no heartbeat for 2h",
          "pgqrs worker stop 1 --yes");
    ok(f, "p worker stop 1 --yes && p message cancel 1");
    finds_nothing(f, "");
    pg_rig_sql(rig, "drop index %s.pgqrsd_messages_lease", rig->schema);
    finds(f, "", "pgqrsd_messages_lease", "pgqrs admin install");
}

static void test_a_clock_that_is_wrong(void **state)
{
    const struct fixture *f = *state;
    pg_rig_set_clock(rig, pgqrs_wall_us() + INT64_C(3600000000));
    finds(f, "", "warning  the store's clock is ",
          "timedatectl set-ntp true, here and on the machine of the store");
    says(shell_out, " ahead of this machine's");
    pg_rig_set_clock(rig, pgqrs_wall_us() - INT64_C(3600000000));
    finds(f, "", " behind this machine's",
          "timedatectl set-ntp true, here and on the machine of the store");
}

/* A view in front of the real one makes its transactions older. */
static void test_a_snapshot_that_is_old(void **state)
{
    const struct fixture *f = *state;
    char options[600];
    char mend[128];
    PGconn *other = pg_rig_connect(rig);
    pg_rig_sql(rig,
               "create view pg_stat_activity as select pid, usename, application_name, state,"
               " datname, backend_xmin, backend_xid, xact_start - interval '1 hour' as"
               " xact_start from pg_catalog.pg_stat_activity where pid = %d",
               PQbackendPID(other));
    (void)snprintf(options, sizeof options, "--dsn '%s%coptions=-csearch_path%%3D%s,pg_catalog'",
                   rig->dsn, strchr(rig->dsn, '?') != NULL ? '&' : '?', rig->schema);
    finds_nothing(f, options);
    PQclear(PQexec(other, "begin isolation level repeatable read"));
    finds_nothing(f, options);
    PQclear(PQexec(other, "select 1 from pg_class"));
    (void)snprintf(mend, sizeof mend, "psql \"$PGQRS_DSN\" -c 'select pg_terminate_backend(%d)'",
                   PQbackendPID(other));
    finds(f, options, " has been in one transaction for 1h 0m", mend);
    PQfinish(other);
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
#define PG_TEST(test) cmocka_unit_test_setup_teardown(test, on_postgres, after_postgres)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_leases_of_a_dead_worker),
        TEST(test_a_paused_queue),
        TEST(test_a_queue_that_nobody_serves),
        TEST(test_dead_letters_and_poison),
        TEST(test_a_job_that_crashes_workers),
        TEST(test_attempts_that_are_used_up),
        TEST(test_a_schema_that_is_not_whole),
        TEST(test_workers_that_die_and_a_queue_that_fails),
        TEST(test_a_queue_without_workers),
        TEST(test_runs_that_wait),
        TEST(test_schedules),
        cmocka_unit_test_setup_teardown(test_a_disk_that_is_nearly_full, on_sqlite, unmount),
        PG_TEST(test_postgres_has_the_same),
        PG_TEST(test_a_clock_that_is_wrong),
        PG_TEST(test_a_snapshot_that_is_old),
        TEST(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
