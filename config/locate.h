/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CONFIG_LOCATE_H
#define PGQRS_CONFIG_LOCATE_H

/*
 * What a configuration names: stores, plugins, directories. Names become absolute, so that all
 * programs mean the same file wherever they run. Errors read "found ..., expected ...".
 */

#include "base/error.h"

#define PGQRS_EXPECTED_DSN "sqlite:PATH or postgres://..."

/* The absolute directory of a file that exists. Free *dir_out. */
int pgqrs_locate_dir_of(const char *file, char **dir_out, struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* The rest: dir is what a relative name is relative to; free the result. */
int pgqrs_locate_path(const char *text, const char *dir, char **path_out,
                      struct pgqrs_error *err) PGQRS_MUST_CHECK;
int pgqrs_locate_dsn(const char *text, const char *dir, char **dsn_out,
                     struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* The file exists and can be read. */
int pgqrs_locate_handler(const char *text, const char *dir, char **path_out,
                         struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
