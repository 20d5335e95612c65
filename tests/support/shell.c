/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/shell.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

char shell_out[SHELL_TEXT_MAX], shell_err[SHELL_TEXT_MAX];

static void read_text(const struct scratch *s, const char *name, char text[SHELL_TEXT_MAX])
{
    char path[160];
    (void)snprintf(path, sizeof path, "%s/%s", s->dir, name);
    FILE *file = fopen(path, "re");
    size_t len = file == NULL ? 0 : fread(text, 1, SHELL_TEXT_MAX - 1, file);
    text[len] = 0;
    if (file != NULL) {
        (void)fclose(file);
    }
}

int shell_begin(const struct scratch *s, char *command, size_t size)
{
    const char *valgrind = getenv("PGQRS_TEST_VALGRIND") != NULL
                               ? "valgrind -q --leak-check=full --error-exitcode=99 "
                               : "";
    char *program = realpath(built("bin/pgqrs"), NULL);
    int n = snprintf(command, size, "cd %s; p() { %s%s \"$@\"; }\n", s->dir, valgrind, program);
    free(program);
    return n;
}

int sh(const struct fixture *f, const char *fmt, ...)
{
    char command[2048];
    int n = shell_begin(&f->scratch, command, sizeof command);
    n += snprintf(command + n, sizeof command - (size_t)n, "{ ");
    va_list args;
    va_start(args, fmt);
    n += vsnprintf(command + n, sizeof command - (size_t)n, fmt, args);
    va_end(args);
    n += snprintf(command + n, sizeof command - (size_t)n, "\n} >out 2>err");
    assert_true(n < (int)sizeof command);
    int status = system(command);
    read_text(&f->scratch, "out", shell_out);
    read_text(&f->scratch, "err", shell_err);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

void shell_expect_ok(int status)
{
    if (status != 0) {
        fail_msg("exit status %d: %s%s", status, shell_out, shell_err);
    }
}

void says(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("expected: %s\nfound: %s", part, text);
    }
}

json_t *shell_json(void)
{
    json_error_t why;
    json_t *json = json_loads(shell_out, 0, &why);
    if (json == NULL) {
        fail_msg("not one JSON document: %s\n%s", why.text, shell_out);
    }
    return json;
}

int shell_setup(void **state)
{
    static const char *const variables[] = {"PGQRS_DSN", "PGQRS_CONFIG_FILE", "PGQRS_LOG_LEVEL"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        (void)unsetenv(variables[i]);
    }
    int rc = fixture_setup(state);
    const struct fixture *f = *state;
    (void)setenv("PGQRS_DSN", f->scratch.dsn, 1);
    return rc;
}
