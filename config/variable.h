/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CONFIG_VARIABLE_H
#define PGQRS_CONFIG_VARIABLE_H

/* What the environment says of a setting: NAME=VALUE, and of a DSN NAME_FILE=PATH, too. */

#include <stdbool.h>

#include "base/error.h"

struct pgqrs_variable {
    char name[40];    /* that one of the two which is set */
    const char *file; /* null: the value is in the variable itself */
    char *text;       /* null: neither is set; an empty one is not */
};

/* On success free it with pgqrs_variable_fini. No error has anything of what is in a file. */
int pgqrs_variable_read(const char *name, bool may_be_file, struct pgqrs_variable *out,
                        struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_variable_fini(struct pgqrs_variable *variable);
/* Completes the error about a text that is no DSN, without what a file has. Returns -1. */
int pgqrs_variable_refused(const struct pgqrs_variable *variable, struct pgqrs_error *err);

#endif
