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
#include "tests/support/pg_pooler.h"
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

/* Runs what the last finding has named, after which there is nothing to find. options: of every
 * pgqrs. */
static void mended(const struct fixture *f, const char *options)
{
    char command[1024];
    const char *mend = strstr(shell_out, "; to mend it: ");
    assert_non_null(mend);
    (void)snprintf(command, sizeof command, "%s", mend + strlen("; to mend it: "));
    (void)sh(f, "pgqrs() { p %s \"$@\"; }\n%s", options, command);
    if (*shell_err != 0) {
        fail_msg("%s%s", command, shell_err);
    }
    finds_nothing(f, options);
}

/* ---- statements for either store ---- */

static void change(const struct fixture *f, const char *fmt, ...) PGQRS_PRINTF(2, 3);
static void change(const struct fixture *f, const char *fmt, ...)
{
    char sql[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(sql, sizeof sql, fmt, args);
    va_end(args);
    if (rig != NULL) {
        pg_rig_sql(rig, "%s", sql);
    } else {
        db_exec(&f->scratch, sql);
    }
}

static void await_number(const struct fixture *f, const char *sql, int64_t value)
{
    if (rig != NULL) {
        pg_rig_await(rig, value, sql);
    } else {
        db_await(&f->scratch, sql, value);
    }
}

/* When it is, counted in hours from now. */
static const char *in_hours(int hours)
{
    static char texts[4][64];
    static size_t next;
    char *text = texts[next++ % 4];
    (void)snprintf(text, sizeof texts[0],
                   rig != NULL ? "now() + interval '%d hours'" : "datetime('now', '%+d hours')",
                   hours);
    return text;
}

/* Somebody polls queue a. */
static void add_worker(const struct fixture *f)
{
    change(f, "insert into pgqrs_workers (name, queue_id, status) values ('w', 1, 'polling')");
}

/* A worker of somebody holds message 1, and has beaten so long ago. */
static void lease(const struct fixture *f, int beaten, int vt)
{
    add_worker(f);
    change(f, "update pgqrs_workers set heartbeat_at = %s", in_hours(beaten));
    change(f,
           "update pgqrs_messages set consumer_worker_id = 1, read_ct = 1, dequeued_at = %s, vt = "
           "%s",
           in_hours(-2), in_hours(vt));
}

static void test_leases_of_a_dead_worker(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p message enqueue --delay 1h a 1");
    lease(f, -2, 1);
    finds_nothing(f, "");
    change(f, "update pgqrs_messages set vt = %s", in_hours(-1));
    finds(f, "", "worker 1 of queue \"a\" is dead (polling, no heartbeat for 2h",
          "pgqrs worker stop 1 --yes");
    says(shell_out, "holds 1 message with a lease that has passed, such as 1;");
    change(f, "update pgqrs_workers set heartbeat_at = %s", in_hours(0));
    finds_nothing(f, "");
    change(f, "update pgqrs_workers set heartbeat_at = %s", in_hours(-1));
    finds(f, "", "no heartbeat for 1h", "pgqrs worker stop 1 --yes");
    change(f, "insert into pgqrs_workers (name, queue_id, status) values ('v', 1, 'polling')");
    mended(f, "");
    await_number(f, "select count(*) from pgqrs_messages where consumer_worker_id is null", 1);
}

static void test_a_paused_queue(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p queue create 'it'\\''s odd' && p queue pause a 'it'\\''s odd'");
    finds_nothing(f, "");
    ok(f,
       "p message enqueue --delay 2h \"it's odd\" 1 && p message enqueue --delay 1h \"it's odd\" "
       "1");
    finds(f, "", "warning  queue \"it's odd\" has been paused for ",
          "pgqrs queue resume 'it'\\''s odd'");
    says(shell_out, "with 2 messages waiting");
    mended(f, "");
}

#define CONFIG "--config pgqrsd.yaml"

static void test_a_queue_that_nobody_serves(void **state)
{
    struct fixture *f = *state;
    ok(f, "p message enqueue --delay 1h a 1");
    finds_nothing(f, "");
    ok(f, "p message enqueue a 1");
    finds(f, "", "error    queue \"a\" has 1 due message, the oldest waits for ",
          "pgqrsd -c FILE, with the queue in it");
    says(shell_out, "nobody serves it");
    add_worker(f);
    finds_nothing(f, "");
    ok(f, "p worker suspend 1");
    finds(f, "", "its workers are suspended", "pgqrs worker resume 1");
    mended(f, "");
    change(f, "delete from pgqrs_workers");
    finds(f, "", "nobody serves it", "pgqrsd -c FILE, with the queue in it");
    daemon_config(&f->scratch, "queues: {a: {handler: %s}}\n", built("tests/handlers/noop.so"));
    daemon_start(&f->daemon, &f->scratch);
    await_number(f, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'", 1);
    finds_nothing(f, CONFIG);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* Counting stops somewhere. */
static void test_more_than_is_counted(void **state)
{
    struct fixture *f = *state;
    ok(f, "p message enqueue a 1");
    change(f, "insert into pgqrs_messages (queue_id, payload, vt, enqueued_at)"
              " with recursive n(i) as (select 2 union all select i + 1 from n where i < 100001)"
              " select queue_id, payload, vt, enqueued_at from n, pgqrs_messages where id = 1");
    finds(f, "", "error    queue \"a\" has 100000+ due messages, the oldest waits for ",
          "pgqrsd -c FILE, with the queue in it");
    ok(f, "p queue pause a");
    finds(f, "", ", with 100000+ messages waiting", "pgqrs queue resume a");
    change(f, "update pgqrs_messages set archived_at = vt, pgqrsd_outcome = 'failed'");
    finds(f, "", "warning  queue \"a\" has 100000+ dead letters, the newest is 100001: ",
          "pgqrs dlq list --queue a; pgqrs dlq replay --queue a");
}

static void test_dead_letters(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p message enqueue a 1 && p message enqueue a 2");
    add_worker(f);
    change(f,
           "update pgqrs_messages set archived_at = %s, pgqrsd_outcome = 'failed',"
           " pgqrsd_error = 'no such' || %s(10) || 'customer'",
           in_hours(0), rig != NULL ? "chr" : "char");
    finds(f, "", "warning  queue \"a\" has 2 dead letters, the newest is 2: no such\\x0acustomer",
          "pgqrs dlq list --queue a; pgqrs dlq replay --queue a");
    mended(f, "");
    await_number(f, "select count(*) from pgqrs_messages where archived_at is null", 2);
}

static void test_a_job_that_crashes_workers(void **state)
{
    struct fixture *f = *state;
    char payload[128];
    fixture_start(f, "    on_crash: 1\n");
    finds_nothing(f, CONFIG);
    (void)snprintf(payload, sizeof payload, "{\"crash\":1,\"mended\":\"%s/mended\"}",
                   f->scratch.dir);
    fixture_enqueue(f, 1, payload);
    await_number(f, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'failed'", 1);
    finds(f, CONFIG,
          "error    queue \"work\" has 1 job in quarantine, such as 1: quarantined "
          "after 1 crashes: ",
          "pgqrs message run 1 --isolated");
    scratch_write(&f->scratch, "mended", "%s", "");
    mended(f, CONFIG);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_attempts_that_are_used_up(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p message enqueue a 1 && p message enqueue a 2");
    add_worker(f);
    change(f, "update pgqrs_messages set read_ct = 5 where id = 2");
    finds(f, "", "warning  queue \"a\" has 1 waiting message with 5 attempts or more used up",
          "pgqrs message cancel 2; pgqrs message replay 2");
    mended(f, "");
}

static void test_a_schema_that_is_not_whole(void **state)
{
    const struct fixture *f = *state;
    change(f, "drop index pgqrsd_messages_lease");
    finds(f, "", "pgqrsd_messages_lease", "pgqrs admin install");
    mended(f, "");
}

/* As an index is whose building was interrupted. */
static void test_an_index_that_is_not_valid(void **state)
{
    const struct fixture *f = *state;
    change(f, "update pg_index set indisvalid = false where indexrelid = "
              "'pgqrsd_messages_lease'::regclass");
    finds(f, "", "index pgqrsd_messages_lease, valid", "pgqrs admin install");
    mended(f, "");
    await_number(f,
                 "select count(*) from pg_index where indisvalid and indexrelid ="
                 " to_regclass('pgqrsd_messages_lease')",
                 1);
}

static void test_a_schema_that_is_not_there(void **state)
{
    const struct fixture *f = *state;
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

static void test_workers_that_die_and_a_queue_that_fails(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    on_crash: 4\n    restart: {max: 4}\n");
    fixture_enqueue(f, 1, "{\"crash\":3}");
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'", 1);
    finds(f, CONFIG, "warning  queue \"work\" has lost 3 workers in 10 minutes, last: ",
          "pgqrs ctl deaths work; pgqrs ctl reload, once its plugin is mended");
    says(shell_out, "killed by signal");
    ok(f, "p message delete 1 --yes && p message enqueue work '{\"crash\":2}'");
    daemon_await_log(&f->daemon, "queue \"work\": failing: ", 1);
    finds(f, CONFIG, "error    queue \"work\" is failing since ",
          "pgqrs ctl deaths work; pgqrs ctl reload");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* It crashes with each job, until another plugin is there. */
static void test_workers_that_die_for_ever(void **state)
{
    struct fixture *f = *state;
    scratch_link(&f->scratch, "copy.so", built("tests/handlers/effect.so"));
    daemon_config(&f->scratch,
                  "queues: {work: {handler: ./copy.so, settings: {file: %s}, on_crash: 100, "
                  "restart: {max: 100}}}\n",
                  f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "queue \"work\": worker 0: ready", 1);
    finds_nothing(f, CONFIG);
    fixture_enqueue(f, 1, "{\"crash\":1000}");
    daemon_await_log(&f->daemon, "killed by signal", 3);
    finds(f, CONFIG, "warning  queue \"work\" has lost ",
          "pgqrs ctl deaths work; pgqrs ctl reload, once its plugin is mended");
    scratch_link(&f->scratch, "copy.so", built("tests/handlers/noop.so"));
    ok(f, "p " CONFIG " ctl deaths work && p " CONFIG " ctl reload");
    await_number(f, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'", 1);
    finds_nothing(f, CONFIG);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_plugin_that_has_changed(void **state)
{
    struct fixture *f = *state;
    scratch_copy(&f->scratch, "copy.so", built("tests/handlers/noop.so"));
    daemon_config(&f->scratch, "queues: {work: {handler: ./copy.so}}\n");
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "queue \"work\": worker 0: ready", 1);
    finds_nothing(f, CONFIG);
    ok(f, "mv copy.so away.so");
    finds(f, CONFIG, "warning  the plugin of queue \"work\" is gone: there is no file ",
          "pgqrs ctl reload, once the file is there again");
    ok(f, "mv away.so copy.so");
    finds_nothing(f, CONFIG);
    scratch_copy(&f->scratch, "copy.so", built("tests/handlers/noop.so"));
    finds(f, CONFIG, "warning  the plugin of queue \"work\" is not the file at ",
          "pgqrs ctl reload");
    mended(f, CONFIG);
    ok(f, "touch copy.so");
    finds(f, CONFIG, "which has changed since it was loaded", "pgqrs ctl reload");
    mended(f, CONFIG);
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
static void unmount(const struct fixture *f)
{
    char disk[80];
    (void)snprintf(disk, sizeof disk, "%s/disk", f->scratch.dir);
    (void)umount2(disk, MNT_DETACH);
}

static int after_sqlite_disk(void **state)
{
    unmount(*state);
    return fixture_teardown(state);
}

static void mount_small_disk(const struct fixture *f)
{
    char disk[80];
    (void)snprintf(disk, sizeof disk, "%s/disk", f->scratch.dir);
    if (mkdir(disk, 0700) < 0 || mount("tmpfs", disk, "tmpfs", 0, "size=8m") < 0) {
        skip(); /* only root may mount a small disk */
    }
}

static void fill_disk(const struct fixture *f)
{
    char filler[96];
    (void)snprintf(filler, sizeof filler, "%s/disk/filler", f->scratch.dir);
    fill(filler);
    ok(f, "truncate -s -200K disk/filler");
}

static const char *mend_of_disk(const struct fixture *f, const char *file)
{
    static char mend[160];
    (void)snprintf(mend, sizeof mend, "df -h %s/%s, and make room there", f->scratch.dir, file);
    return mend;
}

static void test_a_disk_that_is_nearly_full(void **state)
{
    struct fixture *f = *state;
    mount_small_disk(f);
    ok(f, "p --dsn sqlite:disk/q.db admin install");
    finds_nothing(f, "--dsn sqlite:disk/q.db");
    fill_disk(f);
    finds(f, "--dsn 'sqlite://disk/q.db?mode=rw'", "disk/q.db is nearly full: 0 of 8 MiB are left",
          mend_of_disk(f, "disk/q.db"));
    ok(f, "df -h disk/q.db && rm disk/filler");
    finds_nothing(f, "--dsn sqlite:disk/q.db");
}

static int on_postgres(void **state)
{
    int rc = shell_setup(state);
    struct fixture *f = *state;
    rig = pg_rig_create();
    (void)snprintf(f->scratch.dsn, sizeof f->scratch.dsn, "%s", rig->dsn);
    (void)setenv("PGQRS_RUNTIME_DIR", f->scratch.dir, 1);
    (void)setenv("PGQRS_DSN", rig->dsn, 1);
    (void)setenv("PGQRS_SCHEMA", rig->schema, 1);
    ok(f, "p admin install && p queue create a");
    return rc;
}

static int after_postgres(void **state)
{
    unmount(*state);
    pg_rig_destroy(rig);
    rig = NULL;
    (void)unsetenv("PGQRS_SCHEMA");
    return fixture_teardown(state);
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

/* Views in the schema are found before the real ones. */
static void begin_views(char *options, size_t size)
{
    (void)snprintf(options, size, "--dsn '%s%coptions=-csearch_path%%3D%s,pg_catalog'", rig->dsn,
                   strchr(rig->dsn, '?') != NULL ? '&' : '?', rig->schema);
}

/* One that makes its transactions older. */
static void test_a_snapshot_that_is_old(void **state)
{
    const struct fixture *f = *state;
    char options[600];
    char mend[128];
    PGconn *other = pg_rig_connect(rig);
    begin_views(options, sizeof options);
    pg_rig_sql(rig,
               "create view pg_stat_activity as select pid, usename, application_name, state,"
               " datname, backend_xmin, backend_xid, xact_start - interval '1 hour' as"
               " xact_start from pg_catalog.pg_stat_activity where pid = %d",
               PQbackendPID(other));
    finds_nothing(f, options);
    PQclear(PQexec(other, "begin isolation level repeatable read"));
    finds_nothing(f, options);
    PQclear(PQexec(other, "select 1 from pg_class"));
    (void)snprintf(mend, sizeof mend, "psql \"$PGQRS_DSN\" -c 'select pg_terminate_backend(%d)'",
                   PQbackendPID(other));
    finds(f, options, " has been in one transaction for 1h 0m", mend);
    mended(f, options);
    PQfinish(other);
}

/* One that says where the server's files are. */
static void test_a_disk_of_the_server_that_is_nearly_full(void **state)
{
    const struct fixture *f = *state;
    char options[600];
    begin_views(options, sizeof options);
    mount_small_disk(f);
    pg_rig_sql(rig,
               "create view pg_settings as select 'data_directory'::text as name,"
               " '%s/disk'::text as setting",
               f->scratch.dir);
    finds_nothing(f, options);
    fill_disk(f);
    finds(f, options, "/disk is nearly full: 0 of 8 MiB are left", mend_of_disk(f, "disk"));
    ok(f, "df -h disk && rm disk/filler");
    finds_nothing(f, options);
}

static void test_a_pooler_in_the_way(void **state)
{
    struct fixture *f = *state;
    char through[300];
    char direct[200];
    char mend[300];
    pid_t pooler = pg_pooler_start(rig, through, sizeof through);
    (void)snprintf(direct, sizeof direct, "postgres:///postgres?host=%s&port=5432&user=postgres",
                   pg_rig_dir());
    (void)snprintf(mend, sizeof mend, "PGQRS_WAKE_DSN='%s' pgqrsd -c FILE", direct);
    finds_nothing(f, "");
    (void)setenv("PGQRS_DSN", through, 1);
    finds(f, "", "warning  a pooler is before PostgreSQL: ", mend);
    daemon_config(&f->scratch, "queues: {a: {handler: %s}}\n", built("tests/handlers/noop.so"));
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "nothing can be heard through it; polling", 1);
    daemon_await_log(&f->daemon, "queue \"a\": worker 0: ready", 1);
    finds(f, CONFIG, "warning  a pooler is before PostgreSQL: ", mend);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    scratch_write(&f->scratch, "direct", "%s\n", direct);
    ok(f, "chmod 600 direct; p doctor >wrong || PGQRS_WAKE_DSN_FILE=direct p doctor");
    assert_string_equal(shell_out, NOTHING);
    (void)setenv("PGQRS_WAKE_DSN", direct, 1);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "queue \"a\": worker 0: ready", 2);
    finds_nothing(f, CONFIG);
    assert_int_equal(daemon_log_count(&f->daemon, "nothing can be heard through it; polling"), 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    (void)unsetenv("PGQRS_WAKE_DSN");
    pg_pooler_end(pooler);
}

static void test_words(void **state)
{
    const struct fixture *f = *state;
    ok(f, "p doctor -o json");
    assert_string_equal(shell_out, "[]\n");
    assert_int_equal(sh(f, "p doctor now"), 2);
    says(shell_err, "doctor: found 1 word, expected: none");
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
        TEST(test_more_than_is_counted),
        TEST(test_dead_letters),
        TEST(test_a_job_that_crashes_workers),
        TEST(test_attempts_that_are_used_up),
        TEST(test_a_schema_that_is_not_whole),
        TEST(test_a_schema_that_is_not_there),
        TEST(test_workers_that_die_and_a_queue_that_fails),
        TEST(test_workers_that_die_for_ever),
        TEST(test_a_plugin_that_has_changed),
        TEST(test_a_queue_without_workers),
        TEST(test_runs_that_wait),
        TEST(test_schedules),
        cmocka_unit_test_setup_teardown(test_a_disk_that_is_nearly_full, on_sqlite,
                                        after_sqlite_disk),
        PG_TEST(test_leases_of_a_dead_worker),
        PG_TEST(test_a_paused_queue),
        PG_TEST(test_a_queue_that_nobody_serves),
        PG_TEST(test_dead_letters),
        PG_TEST(test_a_job_that_crashes_workers),
        PG_TEST(test_attempts_that_are_used_up),
        PG_TEST(test_a_schema_that_is_not_whole),
        PG_TEST(test_an_index_that_is_not_valid),
        PG_TEST(test_a_clock_that_is_wrong),
        PG_TEST(test_a_snapshot_that_is_old),
        PG_TEST(test_a_disk_of_the_server_that_is_nearly_full),
        PG_TEST(test_workers_that_die_for_ever),
        PG_TEST(test_a_pooler_in_the_way),
        TEST(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
