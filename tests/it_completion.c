/* SPDX-License-Identifier: Apache-2.0 */
/* The completion of a line in bash, by the function that bash itself would call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/shell.h"

/* Prints what the last of the words may become, one a line. */
static const char script[] =
    "PATH=%s:$PATH\n"
    "source '%s'\n"
    "COMP_WORDS=(pgqrs \"$@\") COMP_CWORD=$# COMP_LINE=\"pgqrs $*\"\n"
    "COMP_POINT=${#COMP_LINE}\n"
    "set -- $(complete -p pgqrs)\n"
    "[[ $2 == -F ]] || exit 9\n"
    "$3 pgqrs \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"\n"
    "((${#COMPREPLY[@]} == 0)) || printf '%%s\\n' \"${COMPREPLY[@]}\"\n";

static int setup(void **state)
{
    int rc = shell_setup(state);
    const struct fixture *f = *state;
    char *programs = realpath(built("bin"), NULL);
    char *completion = realpath("packaging/completion/pgqrs.bash", NULL);
    assert_non_null(programs);
    assert_non_null(completion);
    scratch_write(&f->scratch, "complete", script, programs, completion);
    free(programs);
    free(completion);
    ok(f, "p admin install && p queue create mail mango 'two words' print");
    (void)unsetenv("PGQRS_DSN"); /* the line names the store */
    return rc;
}

/* Completes the last of the words, which are shell text. */
#define complete(f, words) ok(f, "bash complete %s", words)

static void offers(const struct fixture *f, const char *words, const char *expected)
{
    complete(f, words);
    assert_string_equal(shell_err, "");
    if (strcmp(shell_out, expected) != 0) {
        fail_msg("%s: found:\n%sexpected:\n%s", words, shell_out, expected);
    }
}

static void test_groups_and_commands(void **state)
{
    const struct fixture *f = *state;
    complete(f, "''");
    says(shell_out, "admin\n");
    says(shell_out, "queue\n");
    says(shell_out, "message\n");
    says(shell_out, "worker\n");
    offers(f, "qu", "queue\n");
    offers(f, "do", "doctor\n");
    offers(f, "doctor ''", "");
    offers(f, "doctor --so", "--socket\n");
    offers(f, "to", "top\n");
    offers(f, "top --int", "--interval\n");
    offers(f, "top --interval 5s --so", "--socket\n");
    offers(f, "nothing", "");
    complete(f, "queue ''");
    says(shell_out, "create\n");
    says(shell_out, "metrics\n");
    assert_null(strstr(shell_out, "verify\n"));
    offers(f, "queue me", "metrics\n");
    offers(f, "queue p", "purge\npause\n");
    offers(f, "-o json queue me", "metrics\n");
    offers(f, "--output = json queue me", "metrics\n");
    offers(f, "nothing ''", "");
}

static void test_workflows(void **state)
{
    const struct fixture *f = *state;
    char words[512];
    ok(f, "p --dsn %s workflow create order other", f->scratch.dsn);
    (void)snprintf(words, sizeof words, "--dsn %s workflow trigger or", f->scratch.dsn);
    offers(f, words, "order\n");
    (void)snprintf(words, sizeof words, "--dsn %s run list --workflow o", f->scratch.dsn);
    offers(f, words, "order\nother\n");
    offers(f, "run list --status PA", "PAUSED\n");
    offers(f, "workflow result 1 --wa", "--wait\n");
    offers(f, "run s", "show\nsteps\nstate\n");
}

static void test_options(void **state)
{
    const struct fixture *f = *state;
    offers(f, "queue metrics --wa", "--watch\n");
    offers(f, "queue wait mail --ti", "--timeout\n");
    offers(f, "queue wait mail --pri", "");
    offers(f, "ctl stop --no", "--now\n--no-wait\n");
    offers(f, "message enqueue --pri", "--priority\n");
    complete(f, "queue purge -");
    says(shell_out, "--what\n");
    says(shell_out, "--yes\n");
    says(shell_out, "--dsn\n");
}

static void test_values_of_options(void **state)
{
    const struct fixture *f = *state;
    offers(f, "message list --state ''", "ready\ndelayed\nleased\narchived\n");
    offers(f, "message list --state le", "leased\n");
    offers(f, "message list --state = le", "leased\n");
    offers(f, "message list --state =", "ready\ndelayed\nleased\narchived\n");
    offers(f, "worker list --state s", "suspended\nstopped\n");
    offers(f, "message list --outcome f", "failed\n");
    offers(f, "queue purge mail --what p", "pending\n");
    offers(f, "queue list -o j", "json\n");
    offers(f, "--config compl", "complete\n");
    offers(f, "schedule create --catch-up o", "once\n");
    offers(f, "schedule create --overlap ''", "allow\nskip\n");
}

static void test_names_of_queues(void **state)
{
    static const char *const lines[] = {
        "queue metrics ma", "queue wait ma",   "queue purge ma",     "queue delete print ma",
        "queue pause ma",   "queue resume ma", "message enqueue ma", "message list --queue ma",
        "ctl kill ma",      "ctl pause ma",    "ctl resume ma",
    };
    const struct fixture *f = *state;
    char words[512];
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        (void)snprintf(words, sizeof words, "--dsn %s %s", f->scratch.dsn, lines[i]);
        offers(f, words, "mail\nmango\n");
    }
    (void)snprintf(words, sizeof words, "--dsn %s queue metrics tw", f->scratch.dsn);
    offers(f, words, "two\\ words\n");
    (void)snprintf(words, sizeof words, "--dsn %s queue create ma", f->scratch.dsn);
    offers(f, words, "");
    (void)snprintf(words, sizeof words, "--dsn %s message enqueue mail ma", f->scratch.dsn);
    offers(f, words, "");
}

/* bash makes words of their own of what is before, at and after a colon or an equals sign. */
static void test_a_dsn_in_pieces(void **state)
{
    const struct fixture *f = *state;
    char words[512];
    (void)snprintf(words, sizeof words, "--dsn sqlite : %s queue metrics p", f->scratch.db);
    offers(f, words, "print\n");
    (void)snprintf(words, sizeof words, "--dsn = sqlite : %s queue metrics p", f->scratch.db);
    offers(f, words, "print\n");
    (void)snprintf(words, sizeof words, "--dsn sqlite : %s message list --queue p", f->scratch.db);
    offers(f, words, "print\n");
    (void)snprintf(words, sizeof words, "queue --dsn sqlite : %s me", f->scratch.db);
    offers(f, words, "metrics\n");
}

static void test_a_store_that_is_not_there(void **state)
{
    const struct fixture *f = *state;
    offers(f, "--dsn sqlite:none queue metrics ''", "");
    offers(f, "queue metrics ''", "");
    ok(f, "test ! -e none");
}

static void test_there_is_no_bash(void **state)
{
    (void)state;
    skip();
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_groups_and_commands),
        TEST(test_workflows),
        TEST(test_options),
        TEST(test_values_of_options),
        TEST(test_names_of_queues),
        TEST(test_a_dsn_in_pieces),
        TEST(test_a_store_that_is_not_there),
    };
    const struct CMUnitTest without[] = {cmocka_unit_test(test_there_is_no_bash)};
    if (system("bash -c true 2>/dev/null") != 0) {
        return cmocka_run_group_tests(without, NULL, NULL);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
