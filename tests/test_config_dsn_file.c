/* SPDX-License-Identifier: Apache-2.0 */
/* PGQRS_DSN_FILE: a DSN from a file that only some may read, and that no message shows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/settings.h"
#include "tests/support/config_case.h"

#define QUEUES "queues: {q: {handler: h.so}}\n"
#define SECRET "hunter2"

static void put(const struct fixture *f, const char *text, mode_t mode)
{
    scratch_write(&f->scratch, "dsn", "%s", text);
    assert_int_equal(chmod(in_scratch(f, "dsn"), mode), 0);
    (void)setenv("PGQRS_DSN_FILE", in_scratch(f, "dsn"), 1);
}

static void test_it_goes_before_the_configuration(void **state)
{
    static const char *const texts[] = {"postgres://u:" SECRET "@h/d",
                                        "postgres://u:" SECRET "@h/d\n",
                                        "postgres://u:" SECRET "@h/d \r\n\n"};
    const struct fixture *f = *state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        put(f, texts[i], 0400 | (i == 1 ? 0040 : 0));
        struct pgqrs_config *c = load_ok(f, "dsn: sqlite:/other\n" QUEUES);
        assert_string_equal(c->dsn, "postgres://u:" SECRET "@h/d");
        assert_null(c->wake_dsn);
        pgqrs_config_destroy(&c);
    }
    put(f, "sqlite:/wake", 0600);
    (void)setenv("PGQRS_WAKE_DSN_FILE", in_scratch(f, "dsn"), 1);
    struct pgqrs_config *c = load_ok(f, QUEUES);
    assert_string_equal(c->wake_dsn, "sqlite:/wake");
    pgqrs_config_destroy(&c);
}

/* As the kubelet has it: a link to a file in a directory that is a link, which is replaced. */
static void test_links_are_followed(void **state)
{
    const struct fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        char dir[16];
        char name[32];
        (void)snprintf(dir, sizeof dir, "..v%d", i);
        (void)snprintf(name, sizeof name, "%s/dsn", dir);
        assert_int_equal(mkdir(in_scratch(f, dir), 0755), 0);
        scratch_write(&f->scratch, name, "sqlite:/v%d", i);
        assert_int_equal(chmod(in_scratch(f, name), 0440), 0);
        scratch_link(&f->scratch, "..data", dir);
        scratch_link(&f->scratch, "link", "..data/dsn");
        (void)setenv("PGQRS_DSN_FILE", in_scratch(f, "link"), 1);
        struct pgqrs_config *c = load_ok(f, QUEUES);
        assert_string_equal(c->dsn, i == 0 ? "sqlite:/v0" : "sqlite:/v1");
        pgqrs_config_destroy(&c);
    }
}

static void refused_without_the_secret(const struct fixture *f, const char *expected)
{
    struct pgqrs_error err = {0};
    char *dsn = NULL;
    refused(f, QUEUES, expected);
    assert_int_equal(pgqrs_config_find_dsn(NULL, NULL, &dsn, &err), -1);
    assert_non_null(strstr(err.text, expected));
    assert_null(strstr(err.text, SECRET));
}

static void test_bad_ones_are_refused(void **state)
{
    const struct fixture *f = *state;
    char expected[300];
    put(f, "postgres://u:" SECRET "@h/d", 0644);
    refused_without_the_secret(f, "found a file that everybody may use, expected one of mode 0640");
    put(f, "postgres://u:" SECRET "@h/d", 0602);
    refused_without_the_secret(f, "that everybody may use");
    put(f, SECRET ":x", 0600);
    (void)snprintf(expected, sizeof expected,
                   "PGQRS_DSN_FILE: %s: found something else, expected sqlite:PATH",
                   in_scratch(f, "dsn"));
    refused_without_the_secret(f, expected);
    put(f, SECRET, 0600);
    refused_without_the_secret(f, expected);
    put(f, "\n \n", 0600);
    refused_without_the_secret(f, "found nothing, expected sqlite:PATH");
    put(f, "sqlite:/q\n" SECRET "\n", 0600);
    refused_without_the_secret(f, "found more than a line of 8192 bytes");
    (void)setenv("PGQRS_DSN_FILE", f->scratch.dir, 1);
    refused_without_the_secret(f, "found a directory or device, expected a file");
    (void)setenv("PGQRS_DSN_FILE", in_scratch(f, "none"), 1);
    refused_without_the_secret(f, "No such file or directory");
    (void)setenv("PGQRS_DSN", "sqlite:/here", 1);
    refused_without_the_secret(f, "PGQRS_DSN_FILE: found PGQRS_DSN too, expected one of the two");
    (void)setenv("PGQRS_DSN_FILE", "", 1); /* as if it were not set */
    struct pgqrs_config *c = load_ok(f, QUEUES);
    assert_string_equal(c->dsn, "sqlite:/here");
    pgqrs_config_destroy(&c);
}

static void test_a_long_one(void **state)
{
    const struct fixture *f = *state;
    char *text = malloc(10000);
    assert_non_null(text);
    memset(text, 'a', 9999);
    memcpy(text, "postgres://h/", 13);
    text[9999] = 0;
    put(f, text, 0600);
    refused(f, QUEUES, "found more than a line of 8192 bytes");
    text[8192] = 0;
    put(f, text, 0600);
    struct pgqrs_config *c = load_ok(f, QUEUES);
    assert_string_equal(c->dsn, text);
    pgqrs_config_destroy(&c);
    free(text);
}

static void test_the_command_line_finds_it(void **state)
{
    const struct fixture *f = *state;
    struct pgqrs_error err = {0};
    char *dsn = NULL;
    put(f, "broker:/run/x.sock\n", 0600);
    assert_int_equal(pgqrs_config_find_dsn(NULL, NULL, &dsn, &err), 0);
    assert_string_equal(dsn, "broker:/run/x.sock");
    free(dsn);
    assert_int_equal(pgqrs_config_find_dsn("sqlite:/flag", NULL, &dsn, &err), 0);
    assert_string_equal(dsn, "sqlite:/flag");
    free(dsn);
}

static void test_what_differs_in_user_and_password_alone(void **state)
{
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"postgres://u:1@h/d", "postgres://u:2@h/d", true},
        {"postgres://u:1@h:5432/d?a=b", "postgresql://v@h:5432/d?a=b", true},
        {"postgres://h/d", "postgres://u@h/d", true},
        {"postgres://u@h/d?x=y@z", "postgres://v@h/d?x=y@z", true},
        {"postgres://u@h/d", "postgres://u@h/e", false},
        {"postgres://u@h/d", "postgres://u@g/d", false},
        {"postgres://u@h/d?x=u@z", "postgres://u@h/d?x=v@z", false},
        {"postgres:///d?host=/a", "postgres://u@/d?host=/a", true},
        {"sqlite:/u@q", "sqlite:/v@q", false},
        {"sqlite:/q", "postgres://u@h/d", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(pgqrs_dsn_same_place(cases[i].a, cases[i].b), cases[i].same);
    }
}

int main(void)
{
    const struct CMUnitTest cases[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, config_setup, fixture_teardown)
        CASE(test_it_goes_before_the_configuration),
        CASE(test_links_are_followed),
        CASE(test_bad_ones_are_refused),
        CASE(test_a_long_one),
        CASE(test_the_command_line_finds_it),
        CASE(test_what_differs_in_user_and_password_alone),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
