/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_SUPPORT_CONFIG_CASE_H
#define PGQRS_TESTS_SUPPORT_CONFIG_CASE_H

/* Configurations as texts, for the tests of config/. */

#include "config/config.h"
#include "tests/support/daemon.h"

/* cmocka setup: a scratch directory with a handler "h.so", no PGQRS_* variables. */
int config_setup(void **state);
/* Static storage. */
const char *in_scratch(const struct fixture *f, const char *name);
/* Loads the text as DIR/c.yaml; the test fails unless it is taken. */
struct pgqrs_config *load_ok(const struct fixture *f, const char *text);
/* The test fails unless it is refused with an error that has this in it. */
void refused(const struct fixture *f, const char *text, const char *expected);

#endif
