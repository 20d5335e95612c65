/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/config_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const variables[] = {
    "PGQRS_DSN",         "PGQRS_RUNTIME_DIR", "PGQRS_LOG_LEVEL",    "PGQRS_LOG_FORMAT",
    "PGQRS_CONFIG_FILE", "PGQRS_DSN_FILE",    "PGQRS_WAKE_DSN_FILE"};

int config_setup(void **state)
{
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        (void)unsetenv(variables[i]);
    }
    int rc = fixture_setup(state);
    const struct fixture *f = *state;
    scratch_write(&f->scratch, "h.so", "%s", "any file will do here");
    return rc;
}

const char *in_scratch(const struct fixture *f, const char *name)
{
    static char path[4][160];
    static size_t next;
    char *to = path[next++ % 4];
    (void)snprintf(to, sizeof path[0], "%s/%s", f->scratch.dir, name);
    return to;
}

static int load(const struct fixture *f, const char *text, struct pgqrs_config **config,
                struct pgqrs_error *err)
{
    scratch_write(&f->scratch, "c.yaml", "%s", text);
    return pgqrs_config_load(in_scratch(f, "c.yaml"), config, err);
}

struct pgqrs_config *load_ok(const struct fixture *f, const char *text)
{
    struct pgqrs_config *config = NULL;
    struct pgqrs_error err = {0};
    if (load(f, text, &config, &err) < 0) {
        fail_msg("%s\n%s", err.text, text);
    }
    return config;
}

void refused(const struct fixture *f, const char *text, const char *expected)
{
    struct pgqrs_config *config = NULL;
    struct pgqrs_error err = {0};
    if (load(f, text, &config, &err) == 0) {
        fail_msg("taken, though it should be refused with: %s\n%s", expected, text);
    }
    if (strstr(err.text, expected) == NULL) {
        fail_msg("found: %s\nexpected: %s\n%s", err.text, expected, text);
    }
    assert_int_equal(err.code, PGQRS_ERR_CONFIG);
    assert_null(config);
}
