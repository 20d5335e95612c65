/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker knows no store: neither its program file nor a running worker, plugin loaded, has a
 * database library, or an HTTP client, in it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/worker_rig.h"

static const char *const forbidden[] = {"libsqlite3", "libpq", "libcurl", "libturso", "liblimbo"};

/* Whether a line of the stream has the word; fails the test on a forbidden one. */
static bool look(FILE *lines, const char *word)
{
    char line[4096];
    bool found = false;
    while (fgets(line, sizeof line, lines) != NULL) {
        for (size_t i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++) {
            if (strstr(line, forbidden[i]) != NULL) {
                fail_msg("the worker has %s in it: %s", forbidden[i], line);
            }
        }
        found = found || strstr(line, word) != NULL;
    }
    return found;
}

static void test_program(void **state)
{
    (void)state;
    char command[4200];
    (void)snprintf(command, sizeof command, "ldd '%s'", rig_built("libexec/pgqrs/pgqrs-worker"));
    FILE *lines = popen(command, "r");
    assert_non_null(lines);
    assert_true(look(lines, "libc.so"));
    assert_int_equal(pclose(lines), 0);
}

static void test_running_worker(void **state)
{
    struct rig *rig = *state;
    rig_start_ready(rig, "noop", 1);
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/maps", (int)rig->pid);
    FILE *lines = fopen(path, "r");
    assert_non_null(lines);
    assert_true(look(lines, "noop.so"));
    (void)fclose(lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_program),
        cmocka_unit_test_setup_teardown(test_running_worker, rig_setup, rig_teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pgqrs_control_end();
    return failed;
}
