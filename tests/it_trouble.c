/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real supervisor with real workers, and a store that misbehaves: locked by another program, or
 * holding rows that another program wrote in its own way.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "tests/support/daemon.h"

#define WORKER "pgqrs-worker"
#define BROKER "pgqrs-broker"

static void await_done(const struct fixture *f, int64_t count)
{
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'",
             count);
}

static bool is_gone(const void *pid)
{
    return process_gone(*(const pid_t *)pid);
}

/* ---- rows that somebody else wrote ---- */

static void test_a_time_that_nobody_can_read_stops_nothing_else(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "");
    db_exec(&f->scratch, "insert into pgqrs_messages (queue_id, payload, vt) values "
                         "(1, '{}', '2099-01-01T00:00:00Z'), (1, '{}', 'soon'), (1, '{}', '9')");
    db_exec(&f->scratch, "insert into pgqrs_messages (queue_id, payload, enqueued_at) values "
                         "(1, '{}', 'long ago')");
    fixture_enqueue(f, 1, "{}");
    await_done(f, 2); /* the last two */
    assert_false(daemon_log_has(&f->daemon, "the store fails"));
}

static void test_a_count_of_reads_that_is_none_is_taken_for_zero(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "");
    db_exec(&f->scratch, "insert into pgqrs_messages (queue_id, payload, read_ct) values "
                         "(1, '{}', null), (1, '{}', -5)");
    await_done(f, 2);
    assert_int_equal(effects_count(&f->scratch, "end 1 1 "), 1);
    assert_int_equal(effects_count(&f->scratch, "end 2 1 "), 1);
}

static void test_a_payload_too_large_for_a_worker_is_a_dead_letter(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    prefetch: 4\n");
    db_exec(&f->scratch, "insert into pgqrs_messages (queue_id, payload) values "
                         "(1, '\"' || hex(zeroblob(2500000)) || '\"')");
    fixture_enqueue(f, 1, "{}");
    await_done(f, 1);
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where id = 1 and pgqrsd_outcome = 'failed' and "
             "pgqrsd_error like '%4 MiB%'",
             1);
    assert_int_equal(daemon_log_count(&f->daemon, "connecting again"), 0);
}

static void test_a_worker_whose_row_was_deleted_is_registered_again(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "");
    db_await(&f->scratch, "select count(*) from pgqrs_workers", 1);
    db_exec(&f->scratch, "delete from pgqrs_workers");
    fixture_enqueue(f, 1, "{}");
    await_done(f, 1);
}

/* ---- a store that is locked ---- */

static void test_a_lock_at_the_start_is_waited_for(void **state)
{
    struct fixture *f = *state;
    cli_ok(&f->scratch, NULL, "admin", "install");
    sqlite3 *lock = db_lock(&f->scratch);
    daemon_config(&f->scratch, "queues: {work: {handler: %s, settings: {file: %s}}}\n",
                  built("tests/handlers/effect.so"), f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    pid_t broker = daemon_await_children(&f->daemon, BROKER, 1);
    assert_false(wait_for(is_gone, &broker, 700)); /* longer than one wait for a lock */
    db_unlock(lock);
    daemon_await_log(&f->daemon, "ready pid=", 2);
}

static void test_a_stop_while_the_broker_waits_is_clean(void **state)
{
    struct fixture *f = *state;
    cli_ok(&f->scratch, NULL, "admin", "install");
    sqlite3 *lock = db_lock(&f->scratch);
    daemon_config(&f->scratch, "queues: {work: {handler: %s, settings: {file: %s}}}\n",
                  built("tests/handlers/effect.so"), f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    (void)daemon_await_children(&f->daemon, BROKER, 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    db_unlock(lock);
}

static void test_a_lock_while_a_worker_starts_is_no_fault_of_the_worker(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "start_timeout: 2s\n");
    sqlite3 *lock = db_lock(&f->scratch);
    pid_t first = daemon_await_children(&f->daemon, WORKER, 1);
    assert_int_equal(kill(first, SIGKILL), 0);
    daemon_await_log(&f->daemon, "ready pid=", 3); /* though it can not be registered */
    pid_t second = daemon_await_children(&f->daemon, WORKER, 1);
    assert_false(wait_for(is_gone, &second, 2500)); /* longer than start_timeout */
    db_unlock(lock);
    fixture_enqueue(f, 1, "{}");
    await_done(f, 1);
    assert_int_equal(daemon_log_count(&f->daemon, "the store fails"), 1);
    daemon_await_log(&f->daemon, "the store works again", 1);
}

static void test_outcomes_wait_until_the_store_works_again(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    prefetch: 10\n");
    fixture_enqueue(f, 10, "{\"ms\":100}");
    effects_await(&f->scratch, "start ", 1);
    sqlite3 *lock = db_lock(&f->scratch);
    effects_await(&f->scratch, "end ", 10);
    daemon_await_log(&f->daemon, "the store fails", 1);
    db_unlock(lock);
    await_done(f, 10);
    assert_int_equal(db_number(&f->scratch, "select max(read_ct) from pgqrs_messages"), 1);
    assert_int_equal(effects_count(&f->scratch, "end "), 10);
}

static void test_a_lock_for_ten_seconds_is_waited_for(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    consumers: 2\n    prefetch: 5\n");
    fixture_enqueue(f, 50, "{\"ms\":20}");
    effects_await(&f->scratch, "end ", 1);
    pid_t broker = daemon_await_children(&f->daemon, BROKER, 1);
    sqlite3 *lock = db_lock(&f->scratch);
    assert_false(wait_for(is_gone, &broker, 10000));
    db_unlock(lock);
    await_done(f, 50);
    assert_int_equal(effects_count(&f->scratch, "end "), 50);
    assert_int_equal(db_number(&f->scratch, "select max(read_ct) from pgqrs_messages"), 1);
    assert_int_equal(daemon_log_count(&f->daemon, "the store fails"), 1);
    assert_int_equal(daemon_log_count(&f->daemon, "the store works again"), 1);
}

/* ---- a file that is not the one that was opened ---- */

static void restore_another(const struct fixture *f)
{
    struct fixture other = *f;
    (void)snprintf(other.scratch.db, sizeof other.scratch.db, "%s/other.db", f->scratch.dir);
    (void)snprintf(other.scratch.dsn, sizeof other.scratch.dsn, "sqlite:%s", other.scratch.db);
    cli_ok(&other.scratch, NULL, "admin", "install");
    cli_ok(&other.scratch, NULL, "queue", "create", "first", "second", "work");
    fixture_enqueue(&other, 20, "{}");
    db_exec(&other.scratch, "pragma wal_checkpoint(truncate)");
    char wal[128];
    static const char *const ends[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(wal, sizeof wal, "%s%s", f->scratch.db, ends[i]);
        (void)unlink(wal);
    }
    assert_int_equal(rename(other.scratch.db, f->scratch.db), 0);
}

static void test_a_database_that_is_put_in_its_place_is_served(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    consumers: 2\n");
    fixture_enqueue(f, 20, "{}");
    await_done(f, 20);
    restore_another(f);
    effects_await(&f->scratch, "end ", 40);
    await_done(f, 20); /* where "work" has another number */
    assert_int_equal(db_number(&f->scratch, "select max(read_ct) from pgqrs_messages"), 1);
}

static void test_a_database_that_is_deleted_is_made_anew(void **state)
{
    struct fixture *f = *state;
    char name[128];
    fixture_start(f, "    consumers: 2\n");
    fixture_enqueue(f, 20, "{}");
    await_done(f, 20);
    (void)snprintf(name, sizeof name, "rm %s*", f->scratch.db);
    assert_int_equal(system(name), 0);
    daemon_await_log(&f->daemon, "broker: ready", 2);
    fixture_enqueue(f, 20, "{}");
    await_done(f, 20);
    assert_int_equal(effects_count(&f->scratch, "end "), 40);
}

/* ---- a disk that is full ---- */

/* Takes all the room that is left. */
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

static void test_a_full_disk_is_waited_for(void **state)
{
    struct fixture *f = *state;
    char disk[80];
    char filler[96];
    (void)snprintf(disk, sizeof disk, "%s/disk", f->scratch.dir);
    (void)snprintf(filler, sizeof filler, "%s/filler", disk);
    if (mkdir(disk, 0700) < 0 || mount("tmpfs", disk, "tmpfs", 0, "size=8m") < 0) {
        skip(); /* only root may mount a small disk; tests/test_store_sqlite.c has the rest */
    }
    (void)snprintf(f->scratch.db, sizeof f->scratch.db, "%s/queue.db", disk);
    (void)snprintf(f->scratch.dsn, sizeof f->scratch.dsn, "sqlite:%s", f->scratch.db);
    fixture_start(f, "    consumers: 2\n");
    fixture_enqueue(f, 100, "{\"ms\":10}");
    effects_await(&f->scratch, "end ", 3);
    fill(filler);
    daemon_await_log(&f->daemon, "the disk is full", 1);
    assert_int_equal(remove(filler), 0);
    await_done(f, 100);
    assert_int_equal(effects_count(&f->scratch, "end "), 100);
    assert_int_equal(db_number(&f->scratch, "select max(read_ct) from pgqrs_messages"), 1);
    daemon_await_log(&f->daemon, "the store works again", 1);
    assert_int_equal(daemon_log_count(&f->daemon, "the store fails"), 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(umount2(disk, MNT_DETACH), 0);
}

static void test_an_outcome_counts_though_worker_and_broker_died_after_it(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    prefetch: 3\n    max_attempts: 2\n");
    fixture_enqueue(f, 1, "{\"ms\":1500}");
    fixture_enqueue(f, 1, "{\"crash\":1}");
    fixture_enqueue(f, 1, "{}");
    effects_await(&f->scratch, "start 1 1 ", 1);
    db_await(&f->scratch, "select count(*) from pgqrs_messages where read_ct = 1", 3);
    sqlite3 *lock = db_lock(&f->scratch); /* the next broker has to wait before it serves */
    assert_int_equal(kill(daemon_await_children(&f->daemon, BROKER, 1), SIGKILL), 0);
    effects_await(&f->scratch, "start 2 1 ", 1);
    daemon_await_log(&f->daemon, "worker 0: killed by signal 9", 1);
    db_unlock(lock);
    await_done(f, 3);
    assert_int_equal(effects_count(&f->scratch, "start 1 "), 1); /* finished, and so known */
    assert_int_equal(effects_count(&f->scratch, "end 2 2 "), 1);
    assert_int_equal(effects_count(&f->scratch, "end 3 1 "), 1); /* never begun: not spent */
}

/* Its hello waits for the store, with the outcome behind it, when it dies. */
static void test_an_outcome_counts_though_its_worker_died_before_its_hello_was_stored(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    prefetch: 2\n");
    fixture_enqueue(f, 1, "{\"ms\":3000}");
    fixture_enqueue(f, 1, "{\"crash\":1}");
    effects_await(&f->scratch, "start 1 1 ", 1);
    db_await(&f->scratch, "select count(*) from pgqrs_messages where read_ct = 1", 2);
    pid_t worker = daemon_await_children(&f->daemon, WORKER, 1);
    assert_int_equal(kill(worker, SIGSTOP), 0); /* it dials when there is trouble, not before */
    assert_int_equal(kill(daemon_await_children(&f->daemon, BROKER, 1), SIGKILL), 0);
    daemon_await_log(&f->daemon, "broker: ready", 2);
    sqlite3 *lock = db_lock(&f->scratch);
    assert_int_equal(kill(worker, SIGCONT), 0);
    daemon_await_log(&f->daemon, "the store fails", 1);
    daemon_await_log(&f->daemon, "worker 0: killed by signal 9", 1);
    db_unlock(lock);
    await_done(f, 2);
    assert_int_equal(effects_count(&f->scratch, "start 1 "), 1);
    assert_int_equal(effects_count(&f->scratch, "end 2 2 "), 1);
}

/* ---- timers and signals ---- */

static void test_a_later_timer_of_one_queue_does_not_hide_that_of_another(void **state)
{
    struct fixture *f = *state;
    daemon_config(&f->scratch,
                  "queues:\n"
                  "  work: {handler: %s, settings: {file: %s}}\n"
                  "  other: {handler: %s, settings: {file: %s}}\n"
                  "poll: 1h\n",
                  built("tests/handlers/effect.so"), f->scratch.effects,
                  built("tests/handlers/effect.so"), f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "ready pid=", 3);
    cli_ok(&f->scratch, NULL, "message", "enqueue", "work", "{}", "--delay", "2s");
    cli_ok(&f->scratch, NULL, "message", "enqueue", "other",
           "{\"outcome\":\"snooze\",\"delay_ms\":3000000}");
    effects_await(&f->scratch, "end 2 ", 1);
    effects_await(&f->scratch, "end 1 ", 1);
}

static void test_signals_that_ask_do_no_harm(void **state)
{
    static const int signals[] = {SIGHUP, SIGUSR2};
    struct fixture *f = *state;
    fixture_start(f, "");
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        assert_int_equal(kill(f->daemon.pid, signals[i]), 0);
    }
    daemon_await_log(&f->daemon, "reload: nothing has changed", 1);
    daemon_await_log(&f->daemon, "settled=", 2); /* USR2: a line a process */
    fixture_enqueue(f, 1, "{}");
    await_done(f, 1);
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_a_time_that_nobody_can_read_stops_nothing_else),
        WITH_SCRATCH(test_a_count_of_reads_that_is_none_is_taken_for_zero),
        WITH_SCRATCH(test_a_payload_too_large_for_a_worker_is_a_dead_letter),
        WITH_SCRATCH(test_a_worker_whose_row_was_deleted_is_registered_again),
        WITH_SCRATCH(test_a_lock_at_the_start_is_waited_for),
        WITH_SCRATCH(test_a_stop_while_the_broker_waits_is_clean),
        WITH_SCRATCH(test_a_lock_while_a_worker_starts_is_no_fault_of_the_worker),
        WITH_SCRATCH(test_outcomes_wait_until_the_store_works_again),
        WITH_SCRATCH(test_a_lock_for_ten_seconds_is_waited_for),
        WITH_SCRATCH(test_a_database_that_is_put_in_its_place_is_served),
        WITH_SCRATCH(test_a_database_that_is_deleted_is_made_anew),
        WITH_SCRATCH(test_a_full_disk_is_waited_for),
        WITH_SCRATCH(test_an_outcome_counts_though_worker_and_broker_died_after_it),
        WITH_SCRATCH(test_an_outcome_counts_though_its_worker_died_before_its_hello_was_stored),
        WITH_SCRATCH(test_a_later_timer_of_one_queue_does_not_hide_that_of_another),
        WITH_SCRATCH(test_signals_that_ask_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
