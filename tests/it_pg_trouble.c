/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon under load on a PostgreSQL that has a bad day. Nothing that was acknowledged is lost,
 * nothing is done twice, workers wait, and all goes on without an operator.
 */
#include "tests/support/pg_daemon.h"
#include "tests/support/pg_pooler.h"

#include <sys/stat.h>
#include <sys/mount.h>
#include <pwd.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define WARM 60 /* jobs before the trouble, and after it */

/* How long a trouble lasts that nothing ends but time. */
static void endure(int ms)
{
    (void)poll(NULL, 0, ms);
}

static void await_trouble(struct pg_daemon *d)
{
    daemon_await_log(&d->fixture->daemon, "the store fails, ", 1);
}

static void test_the_server_is_restarted(void **state)
{
    struct pg_daemon *d = *state;
    pg_daemon_start(d, "");
    pg_daemon_load(d, WARM);
    pg_rig_stop();
    await_trouble(d);
    pg_rig_start();
    pg_daemon_progress(d, WARM);
    pg_daemon_finish(d, 1, 2);
}

/* For start_timeout; a host may start both at the same time. */
static void test_the_server_comes_later_than_pgqrsd(void **state)
{
    struct pg_daemon *d = *state;
    struct fixture *f = d->fixture;
    pg_daemon_start(d, "start_timeout: 10s\n");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    pg_rig_stop();
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "broker: can not start: ", 1);
    pg_rig_start();
    daemon_await_log(&f->daemon, "broker: ready", 2);
    pg_rig_sql(d->rig, "SELECT pgqrs_enqueue('work', '{}')");
    effects_await(&f->scratch, "end ", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_the_server_does_not_come(void **state)
{
    struct pg_daemon *d = *state;
    struct fixture *f = d->fixture;
    pg_daemon_start(d, "start_timeout: 2s\n"); /* one attempt takes a second */
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    pg_rig_stop();
    daemon_start(&f->daemon, &f->scratch);
    assert_int_equal(daemon_wait(&f->daemon), 69);
    assert_true(daemon_log_has(&f->daemon, "broker: can not start: "));
}

static void test_the_server_is_killed(void **state)
{
    struct pg_daemon *d = *state;
    pg_daemon_start(d, "");
    pg_daemon_load(d, WARM);
    assert_int_equal(kill(pg_rig_postmaster(), SIGQUIT), 0);
    pg_rig_stop();
    await_trouble(d);
    pg_rig_start();
    pg_daemon_progress(d, WARM);
    pg_daemon_finish(d, 1, 2);
}

static void test_connections_are_ended_one_by_one(void **state)
{
    struct pg_daemon *d = *state;
    pg_daemon_start(d, "");
    pg_daemon_load(d, WARM);
    for (int i = 0; i < 15; i++) {
        pg_rig_sql(d->rig, "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM"
                           " pg_stat_activity WHERE backend_type = 'client backend' AND"
                           " pid <> pg_backend_pid() ORDER BY random() LIMIT 1) one");
        endure(200);
    }
    pg_daemon_progress(d, WARM);
    pg_daemon_finish(d, 0, 3);
}

/* ---- a server that does not answer ---- */

static size_t server_processes(pid_t *pids, size_t max)
{
    char path[64];
    size_t count = 1;
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pg_rig_postmaster(),
                   (int)pg_rig_postmaster());
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    pids[0] = pg_rig_postmaster();
    while (count < max && fscanf(file, "%d", &pids[count]) == 1) {
        count++;
    }
    (void)fclose(file);
    return count;
}

static void signal_all(const pid_t *pids, size_t count, int sig)
{
    for (size_t i = 0; i < count; i++) {
        (void)kill(pids[i], sig);
    }
}

static void test_the_server_stands_still(void **state)
{
    struct pg_daemon *d = *state;
    pid_t pids[64];
    pg_daemon_start(d, "");
    pg_daemon_load(d, WARM);
    size_t count = server_processes(pids, 64);
    signal_all(pids, count, SIGSTOP);
    endure(10000);
    signal_all(pids, count, SIGCONT);
    pg_daemon_progress(d, WARM);
    pg_daemon_finish(d, 0, 2);
}

static void test_a_stop_while_the_server_stands_still(void **state)
{
    struct pg_daemon *d = *state;
    pid_t pids[64];
    pg_daemon_start(d, "shutdown: {drain: 200ms, cancel_grace: 1s}\n");
    pg_daemon_load(d, WARM);
    size_t count = server_processes(pids, 64);
    signal_all(pids, count, SIGSTOP);
    int64_t began_ms = pgqrs_mono_ms();
    int status = daemon_stop(&d->fixture->daemon, SIGTERM);
    int64_t took_ms = pgqrs_mono_ms() - began_ms;
    signal_all(pids, count, SIGCONT);
    assert_int_equal(status, 69);
    assert_true(took_ms < 9000); /* drain, grace, and some seconds */
}

/* ---- a server that refuses ---- */

static void test_the_server_is_read_only_for_a_while(void **state)
{
    struct pg_daemon *d = *state;
    pg_daemon_start(d, "");
    pg_daemon_load(d, WARM);
    pg_rig_sql(d->rig, "ALTER SYSTEM SET default_transaction_read_only = on");
    pg_rig_sql(d->rig, "SELECT pg_reload_conf()");
    await_trouble(d);
    pg_rig_sql(d->rig, "SET default_transaction_read_only = off");
    pg_rig_sql(d->rig, "ALTER SYSTEM RESET default_transaction_read_only");
    pg_rig_sql(d->rig, "SELECT pg_reload_conf()");
    pg_daemon_progress(d, WARM);
    pg_daemon_finish(d, 1, 2);
}

/* Takes all the room that is left. */
static void fill(const char *path)
{
    static const char block[8192];
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)setvbuf(file, NULL, _IONBF, 0);
    while (fwrite(block, sizeof block, 1, file) == 1) {
    }
    (void)fclose(file);
}

/* The messages are on a small disk of their own. */
static void test_the_servers_disk_is_full(void **state)
{
    struct pg_daemon *d = *state;
    char disk[80];
    char place[96];
    char filler[96];
    (void)snprintf(disk, sizeof disk, "%s/disk", pg_rig_dir());
    (void)snprintf(place, sizeof place, "%s/place", disk);
    (void)snprintf(filler, sizeof filler, "%s/filler", disk);
    const struct passwd *server = getpwnam("postgres");
    if (mkdir(disk, 0755) < 0 || server == NULL ||
        mount("tmpfs", disk, "tmpfs", 0, "size=16m") < 0) {
        skip(); /* only root may mount a small disk */
        return;
    }
    assert_int_equal(mkdir(place, 0700), 0);
    assert_int_equal(chown(place, server->pw_uid, server->pw_gid), 0);
    pg_daemon_start(d, "");
    pg_rig_sql(d->rig, "CREATE TABLESPACE small LOCATION '%s'", place);
    pg_rig_sql(d->rig, "ALTER TABLE %s.pgqrs_messages SET TABLESPACE small", d->rig->schema);
    pg_daemon_load(d, WARM);
    /* A backlog to lease, and an old snapshot, so that no room is found in the pages there are. */
    pg_rig_sql(d->rig, "UPDATE pgqrs_queues SET pgqrsd_paused_at = now()");
    pg_rig_await(d->rig, 1, "SELECT count(*) > 100 FROM pgqrs_messages WHERE archived_at IS NULL");
    PGconn *old = pg_rig_connect(d->rig);
    PQclear(PQexec(old, "BEGIN ISOLATION LEVEL REPEATABLE READ"));
    PQclear(PQexec(old, "SELECT count(*) FROM pgqrs_messages"));
    fill(filler);
    pg_rig_sql(d->rig, "UPDATE pgqrs_queues SET pgqrsd_paused_at = NULL");
    endure(4000); /* whether it needs a new page in this time is the server's affair */
    assert_int_equal(remove(filler), 0);
    PQfinish(old);
    pg_daemon_progress(d, WARM);
    pg_daemon_finish(d, 0, 3);
    pg_rig_sql(d->rig, "ALTER TABLE %s.pgqrs_messages SET TABLESPACE pg_default", d->rig->schema);
    pg_rig_sql(d->rig, "DROP TABLESPACE small");
    assert_int_equal(umount2(disk, MNT_DETACH), 0);
}

static void test_others_have_all_connections(void **state)
{
    struct pg_daemon *d = *state;
    PGconn *others[64] = {0};
    size_t count = 0;
    pg_daemon_start(d, "");
    pg_daemon_load(d, WARM);
    (void)pg_rig_raw(d->rig);
    int64_t give_up_ms = pgqrs_mono_ms() + WAIT_MS;
    while (pg_daemon_troubles(d) == 0 && pgqrs_mono_ms() < give_up_ms) {
        (void)pg_rig_number(d->rig, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                                    " WHERE backend_type = 'client backend' AND pid <>"
                                    " pg_backend_pid() AND application_name <> 'others'");
        for (PGconn *conn = NULL; count < 64; count++) {
            char dsn[400];
            (void)snprintf(dsn, sizeof dsn, "%s&application_name=others", d->rig->dsn);
            conn = PQconnectdb(dsn);
            if (PQstatus(conn) != CONNECTION_OK) {
                PQfinish(conn);
                break;
            }
            others[count] = conn;
        }
        endure(20);
    }
    await_trouble(d);
    for (size_t i = 0; i < count; i++) {
        PQfinish(others[i]);
    }
    pg_daemon_progress(d, WARM);
    pg_daemon_finish(d, 1, 2);
}

/* ---- a commit whose outcome nobody tells ---- */

static void test_commits_are_cut_off(void **state)
{
    struct pg_daemon *d = *state;
    pg_daemon_start(d, "");
    pg_rig_sql(d->rig, "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS"
                       " 'BEGIN PERFORM pg_sleep(0.001); RETURN NULL; END';"
                       "CREATE CONSTRAINT TRIGGER linger AFTER UPDATE ON pgqrs_messages"
                       " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linger()");
    pg_daemon_load(d, WARM);
    for (int i = 0; i < 40; i++) {
        pg_rig_sql(d->rig, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                           " backend_type = 'client backend' AND wait_event = 'PgSleep'");
        endure(50);
    }
    pg_rig_sql(d->rig, "DROP TRIGGER linger ON pgqrs_messages");
    pg_daemon_progress(d, WARM);
    pg_daemon_finish(d, 0, 40); /* as often as a commit was cut off */
}

/* ---- a password that is changed ---- */

static bool told(const struct pg_daemon *d, const char *secret)
{
    char command[400];
    (void)snprintf(command, sizeof command, "cat /proc/[0-9]*/cmdline %s | grep -aq -- [%c]%s",
                   d->fixture->daemon.log, secret[0], secret + 1);
    return system(command) == 0;
}

static void end_connections_of(struct pg_daemon *d, const char *role)
{
    (void)pg_rig_number(d->rig,
                        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                        " WHERE usename = '%s'",
                        role);
}

static void test_the_password_is_changed_and_changed_back(void **state)
{
    struct pg_daemon *d = *state;
    struct scratch *s = &d->fixture->scratch;
    char secret[40];
    (void)snprintf(secret, sizeof secret, "herring%d", (int)getpid());
    pg_rig_sql(d->rig, "CREATE ROLE keyed LOGIN SUPERUSER PASSWORD '%s'", secret);
    FILE *hba = fopen(pg_rig_text(d->rig, "SHOW hba_file"), "w");
    assert_non_null(hba);
    (void)fputs("local all keyed scram-sha-256\nlocal all all trust\n", hba);
    assert_int_equal(fclose(hba), 0);
    pg_rig_sql(d->rig, "SELECT pg_reload_conf()");
    (void)snprintf(s->dsn, sizeof s->dsn, "postgres://keyed:%s@/postgres?host=%s", secret,
                   pg_rig_dir());
    pg_daemon_start(d, "");
    pg_daemon_load(d, WARM);
    pg_rig_sql(d->rig, "ALTER ROLE keyed PASSWORD 'sardine'");
    end_connections_of(d, "keyed");
    await_trouble(d);
    pg_rig_sql(d->rig, "ALTER ROLE keyed PASSWORD '%s'", secret);
    pg_daemon_progress(d, WARM);
    pg_daemon_finish(d, 1, 2);
    assert_false(told(d, secret));
    assert_int_equal(daemon_stop(&d->fixture->daemon, SIGTERM), 0);
    pg_rig_sql(d->rig, "DROP OWNED BY keyed CASCADE; DROP ROLE keyed");
}

/* ---- a pooler between ---- */

static pid_t start_pooler(struct pg_daemon *d)
{
    struct scratch *s = &d->fixture->scratch;
    return pg_pooler_start(d->rig, s->dsn, sizeof s->dsn);
}

static void pooled(struct pg_daemon *d, const char *settings)
{
    pid_t pooler = start_pooler(d);
    pg_daemon_start(d, settings);
    pg_daemon_load(d, WARM);
    pg_pooler_end(pooler);
    await_trouble(d);
    pooler = start_pooler(d);
    pg_daemon_progress(d, WARM);
    pg_daemon_finish(d, 1, 2);
    assert_int_equal(daemon_stop(&d->fixture->daemon, SIGTERM), 0);
    pg_pooler_end(pooler);
}

static void test_a_pooler_is_killed(void **state)
{
    pooled(*state, "");
}

static void test_a_pooler_beside_a_direct_connection_is_killed(void **state)
{
    struct pg_daemon *d = *state;
    char settings[300];
    (void)snprintf(settings, sizeof settings, "wake_dsn: %s\n", d->rig->dsn);
    pooled(d, settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PG_DAEMON_CASE(test_the_server_is_restarted),
        PG_DAEMON_CASE(test_the_server_comes_later_than_pgqrsd),
        PG_DAEMON_CASE(test_the_server_does_not_come),
        PG_DAEMON_CASE(test_the_server_is_killed),
        PG_DAEMON_CASE(test_connections_are_ended_one_by_one),
        PG_DAEMON_CASE(test_the_server_stands_still),
        PG_DAEMON_CASE(test_the_server_is_read_only_for_a_while),
        PG_DAEMON_CASE(test_the_servers_disk_is_full),
        PG_DAEMON_CASE(test_others_have_all_connections),
        PG_DAEMON_CASE(test_commits_are_cut_off),
        PG_DAEMON_CASE(test_the_password_is_changed_and_changed_back),
        PG_DAEMON_CASE(test_a_pooler_is_killed),
        PG_DAEMON_CASE(test_a_pooler_beside_a_direct_connection_is_killed),
        PG_DAEMON_CASE(test_a_stop_while_the_server_stands_still),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
