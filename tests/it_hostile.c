/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real pgqrsd and a plugin that tries what no plugin may do (tests/handlers/hostile.c). What is
 * expected here is the boundary that docs/architecture.md describes.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/daemon.h"

#define ORDINARY 65534

/* Starts pgqrsd with two hostile workers from a copy that every user can reach, as this user, and
 * runs a job. */
static void run_hostile(struct fixture *f, uid_t uid, const char *isolation)
{
    char command[768];
    char *build = strdup(built(""));
    const char *dir = f->scratch.dir;
    (void)umask(077); /* as pgqrsd.yaml(5) advises */
    (void)snprintf(command, sizeof command,
                   "umask 022 && chmod 711 %s && cp -r %s/bin %s/libexec %s/lib"
                   " %s/tests/handlers/hostile.so %s && chmod -R go+rX %s/bin %s/libexec %s/lib"
                   " %s/hostile.so && if [ %d != 0 ]; then chown -R %d %s; fi",
                   dir, build, build, build, build, dir, dir, dir, dir, dir, (int)uid, (int)uid,
                   dir);
    assert_int_equal(system(command), 0);
    daemon_config(&f->scratch,
                  "queues:\n  work:\n    handler: %s/hostile.so\n    consumers: 2\n"
                  "    settings: {socket: %s/run/pgqrsd.sock, config: %s/pgqrsd.yaml, db: %s}\n"
                  "    isolation: %s\n",
                  dir, dir, dir, f->scratch.db, isolation);
    (void)snprintf(command, sizeof command, "%s/pgqrsd.yaml", dir);
    assert_int_equal(uid == 0 ? 0 : chown(command, uid, (gid_t)-1), 0);
    assert_int_equal(setenv("PGQRS_DSN", f->scratch.dsn, 1), 0);
    assert_int_equal(setenv("PGPASSWORD", "secret", 1), 0);
    assert_int_equal(setenv("PGQRS_TEST_BUILD", dir, 1), 0);
    f->daemon.uid = uid;
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "ready pid=", 3);
    fixture_enqueue(f, 1, "{}");
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'", 1);
    assert_int_equal(setenv("PGQRS_TEST_BUILD", build, 1), 0);
    free(build);
}

static void expect(const struct fixture *f, int value, const char *const *names)
{
    char sql[256];
    for (; *names != NULL; names++) {
        (void)snprintf(sql, sizeof sql,
                       "select json_extract(pgqrsd_result, '$.%s') from pgqrs_messages", *names);
        if (db_number(&f->scratch, sql) != value) {
            fail_msg("%s: found %lld, expected %d", *names, (long long)db_number(&f->scratch, sql),
                     value);
        }
    }
}
#define EXPECT(f, value, ...) expect(f, value, (const char *const[]){__VA_ARGS__, NULL})

static void expect_always(const struct fixture *f)
{
    EXPECT(f, 1, "supervisor_found", "broker_found", "other_found", "own_token_read", "connected");
    EXPECT(f, 0, "secrets", "strange_descriptors", "client", "guessed_token", "guessed_generation",
           "own_token", "own_token_for_other", "other_token");
}

static void expect_closed(const struct fixture *f)
{
    EXPECT(f, 0, "supervisor_environment", "supervisor_memory", "supervisor_traced",
           "supervisor_descriptors", "broker_environment", "broker_memory", "broker_traced",
           "broker_descriptors");
}

static void expect_others_closed(const struct fixture *f)
{
    EXPECT(f, 0, "other_environment", "other_memory", "other_traced", "other_descriptors",
           "other_token_read");
}

static void test_with_a_user_of_its_own(void **state)
{
    struct fixture *f = *state;
    if (geteuid() != 0) {
        skip();
    }
    run_hostile(f, 0, "{user: nobody}");
    expect_always(f);
    expect_closed(f);
#ifndef __SANITIZE_ADDRESS__ /* its leak checker wants them open */
    expect_others_closed(f);
#endif
    EXPECT(f, 0, "root_again", "config", "db", "client_of_child");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_as_the_user_of_pgqrsd(void **state)
{
    struct fixture *f = *state;
#ifdef __SANITIZE_ADDRESS__
    skip();
#endif
    run_hostile(f, geteuid() == 0 ? ORDINARY : 0, "{core: 0}");
    expect_always(f);
    expect_closed(f);
    expect_others_closed(f);
    /* Not a boundary: a user may do what the user may do. */
    EXPECT(f, 1, "config", "db", "client_of_child");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_with_a_user_of_its_own),
        WITH_SCRATCH(test_as_the_user_of_pgqrsd),
    };
    return getenv("PGQRS_TEST_VALGRIND") != NULL ? 0 : cmocka_run_group_tests(tests, NULL, NULL);
}
