/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_SUPPORT_SHELL_H
#define PGQRS_TESTS_SUPPORT_SHELL_H

/* Lines of shell in the scratch directory of a test, where "p" is bin/pgqrs. */

#include <jansson.h>

#include "tests/support/daemon.h"

#define SHELL_TEXT_MAX 65536

/* What the last line has printed, cut at the size. */
extern char shell_out[SHELL_TEXT_MAX], shell_err[SHELL_TEXT_MAX];

/* cmocka setup: a scratch directory, PGQRS_DSN is that of a database in it, not yet there. */
int shell_setup(void **state);
/* Writes the beginning of a line of shell; returns its length. */
int shell_begin(const struct scratch *s, char *command, size_t size);
/* Runs a line and returns its exit status. */
int sh(const struct fixture *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* As sh, and fails the test unless it exits 0. */
#define ok(f, ...) shell_expect_ok(sh(f, __VA_ARGS__))
void shell_expect_ok(int status);
/* Fails the test unless part is in the text. */
void says(const char *text, const char *part);
/* What was printed, as the one JSON document that it must be. */
json_t *shell_json(void);

#endif
