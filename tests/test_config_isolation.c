/* SPDX-License-Identifier: Apache-2.0 */
/* `isolation` of a queue: what is taken, what is refused, and in which words. */
#include <grp.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/config_case.h"

#define I "dsn: sqlite:/q\nqueues:\n  mail:\n    handler: h.so\n    isolation:\n"
#define KEY "queues.mail.isolation."

static const struct {
    const char *yaml, *error;
} refusals[] = {
    {I "      user: no such user\n", "c.yaml:6: " KEY "user: found \"no such user\", expected the "
                                     "name or number of a user"},
    {I "      user: root\n", KEY "user: found \"root\", expected a user other than root"},
    {I "      user: 0\n", KEY "user: found \"0\", expected a user other than root"},
    {I "      user: 4294967295\n", KEY "user: found \"4294967295\", expected the name or number"},
    {I "      user: 3999999999\n",
     "c.yaml:6: " KEY "user: found \"3999999999\", which has no entry, "
     "expected isolation.group with it"},
    {I "      user: [nobody]\n", KEY "user: found a list, expected a name or a number"},
    {I "      user: ''\n", KEY "user: found \"\", expected a name or a number"},
    {I "      group: nogroup\n", "c.yaml:6: " KEY "group: found \"nogroup\" without "
                                 "isolation.user, expected both or none"},
    {I "      directory: /dev/null\n",
     "c.yaml:6: " KEY "directory: found \"/dev/null\" (Not a directory), expected a directory"},
    {I "      nice: 1\n      directory: none\n",
     "none\" (No such file or directory), expected a directory"},
    {I "      environment: PATH\n",
     "c.yaml:6: " KEY "environment: found \"PATH\", expected a list of names of variables"},
    {I "      environment:\n        - PATH\n        - A=b\n",
     "c.yaml:8: " KEY "environment: found \"A=b\", expected the name of a variable, or the "
     "beginning of one and *"},
    {I "      environment: [A*B]\n", "environment: found \"A*B\", expected the name"},
    {I "      environment: ['']\n", "environment: found \"\", expected the name"},
    {I "      environment: [[A]]\n", "environment: found a list, expected the name"},
    {I "      nice: -1\n", KEY "nice: found \"-1\", expected a whole number from 0 to 19"},
    {I "      open_files: 3\n", "c.yaml:6: " KEY "open_files: found 3, expected 0, or 64 or more"},
    {I "      file_size: 1GB\n", KEY "file_size: found \"1GB\", expected a size with a unit"},
    {I "      core: unlimited\n", KEY "core: found \"unlimited\", expected a size with a unit"},
    {I "      seccomp: strict\n", KEY "seccomp: found \"strict\", expected off or default"},
    {I "      no_new_privileges: 1\n",
     KEY "no_new_privileges: found \"1\", expected true or false"},
    {I "      users: x\n", KEY "users: found an unknown key, expected \"user\"? Known here: user, "
                               "group, directory, environment, nice"},
    {"dsn: sqlite:/q\nqueues: {mail: {handler: h.so, isolation: nobody}}\n",
     "queues.mail.isolation: found \"nobody\", expected a mapping"},
};

static void test_every_error_says_where_what_and_what_else(void **state)
{
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        refused(*state, refusals[i].yaml, refusals[i].error);
    }
}

static void test_values_are_kept(void **state)
{
    const struct fixture *f = *state;
    struct pgqrs_config *c = load_ok(
        f, I "      directory: /\n      environment: [PATH, 'AWS_*', '*']\n      nice: 19\n"
             "      open_files: 64\n      processes: 7\n      file_size: 1GiB\n      core: 0\n"
             "      memory: 512MiB\n      no_new_privileges: true\n      seccomp: default\n");
    const struct pgqrs_config_isolation *i = &c->queues[0].isolation;
    assert_string_equal(i->directory, "/");
    assert_string_equal(i->environment, "PATH AWS_* * ");
    assert_int_equal(i->nice, 19);
    assert_int_equal(i->open_files, 64);
    assert_int_equal(i->processes, 7);
    assert_int_equal(i->file_size, 1 << 30);
    assert_int_equal(i->core, 0);
    assert_int_equal(i->memory, 512 << 20);
    assert_true(i->no_new_privileges && i->seccomp);
    pgqrs_config_destroy(&c);
}

static void test_nothing_is_the_default(void **state)
{
    struct pgqrs_config *c = load_ok(*state, I "      environment: []\n");
    const struct pgqrs_config_isolation *i = &c->queues[0].isolation;
    assert_string_equal(i->environment, "");
    assert_int_equal(i->uid, 0);
    assert_int_equal(i->core, -1);
    assert_null(i->directory);
    assert_false(i->no_new_privileges || i->seccomp);
    pgqrs_config_destroy(&c);
    c = load_ok(*state, "dsn: sqlite:/q\nqueues: {mail: {handler: h.so}}\n");
    assert_null(c->queues[0].isolation.environment);
    pgqrs_config_destroy(&c);
}

static void test_a_user_is_for_root(void **state)
{
    const struct fixture *f = *state;
    const struct passwd *nobody = getpwnam("nobody");
    struct pgqrs_config *c = NULL;
    struct pgqrs_error err;
    assert_non_null(nobody);
    uid_t uid = nobody->pw_uid;
    gid_t gid = nobody->pw_gid;
    if (geteuid() == 0) {
        c = load_ok(f, I "      user: nobody\n");
        assert_int_equal(c->queues[0].isolation.uid, uid);
        assert_int_equal(c->queues[0].isolation.gid, gid);
        pgqrs_config_destroy(&c);
        c = load_ok(f, I "      user: 3999999999\n      group: 77\n");
        assert_int_equal(c->queues[0].isolation.uid, 3999999999);
        assert_int_equal(c->queues[0].isolation.gid, 77);
        pgqrs_config_destroy(&c);
        refused(f, I "      user: nobody\n      group: no such group\n",
                KEY "group: found \"no such group\", expected the name or number of a group");
    }
    scratch_write(&f->scratch, "c.yaml", "%s", I "      user: nobody\n");
    assert_int_equal(chmod(f->scratch.dir, 0755), 0);
    assert_int_equal(geteuid() == 0 ? seteuid(uid) : 0, 0);
    int rc = pgqrs_config_load(in_scratch(f, "c.yaml"), &c, &err);
    assert_int_equal(getuid() == 0 ? seteuid(0) : 0, 0);
    assert_int_equal(rc, -1);
    assert_non_null(strstr(err.text, "c.yaml:6: " KEY "user: found \"nobody\" while pgqrsd runs as "
                                     "uid "));
    assert_non_null(strstr(err.text, ", expected no user, or pgqrsd to be started by root"));
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, config_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_every_error_says_where_what_and_what_else),
        WITH_SCRATCH(test_values_are_kept),
        WITH_SCRATCH(test_nothing_is_the_default),
        WITH_SCRATCH(test_a_user_is_for_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
