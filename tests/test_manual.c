/* SPDX-License-Identifier: Apache-2.0 */
/* The manual pages: mandoc and groff find nothing to warn of, they refer to pages that are there,
 * and the options in them are those of the programs' help. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/shell.h"

/* The output of the last check is in shell_out. */
static int check(const struct fixture *f, const char *what, const char *pages)
{
    char *top = realpath(".", NULL);
    int status = sh(f, "here=$PWD; cd %s && tests/manual.sh %s %s", top, what, pages);
    free(top);
    return status;
}

static void test_lint(void **state)
{
    shell_expect_ok(check(*state, "lint", "docs/man"));
}

static void test_references(void **state)
{
    shell_expect_ok(check(*state, "references", "docs/man"));
}

static void test_options(void **state)
{
    shell_expect_ok(check(*state, "options", "docs/man"));
}

static void test_names_of_ours(void **state)
{
    shell_expect_ok(check(*state, "names_of_ours", "docs/man"));
}

static void test_mistakes_are_found(void **state)
{
    const struct fixture *f = *state;
    char *top = realpath("docs/man", NULL);
    ok(f,
       "mkdir man && cp %s/*.[1378] man && sed -i 's/^.Xr pgqrs-broker 8/.Xr pgqrs-brokers 8/;"
       " s/Fl -wrap/Fl -wrapp/; /Cm message release/d; /pgqrs_draining/d; /^.Nm pgqrs_settle/d; "
       "s/^.It Fl -check/.It Fl "
       "-chek/' man/*",
       top);
    free(top);
    assert_int_equal(check(f, "references", "$here/man"), 1);
    says(shell_out, "pgqrsd.8: there is no pgqrs-brokers.8");
    assert_int_equal(check(f, "options", "$here/man"), 1);
    says(shell_out, "pgqrs message enqueue --help has no --wrapp");
    says(shell_out, "pgqrs.1 has no command message release");
    says(shell_out, "pgqrsd --help has no --chek");
    ok(f,
       "rm man/*; printf '.Dd June 1, 2026\n.Dt A 7\n.Os\n.Sh NAME\n.Nm a\n.Nd b\n.Xx\n' >man/a.7");
    assert_int_equal(check(f, "lint", "$here/man"), 1);
}

static int before(void **state)
{
    char *build = realpath(built(""), NULL);
    (void)setenv("PGQRS_TEST_BUILD", build, 1);
    free(build);
    return shell_setup(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lint),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_names_of_ours),
        cmocka_unit_test(test_mistakes_are_found),
    };
    return cmocka_run_group_tests(tests, before, fixture_teardown);
}
