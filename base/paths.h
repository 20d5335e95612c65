/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BASE_PATHS_H
#define PGQRS_BASE_PATHS_H

/*
 * Where the programs find each other. The layout below the directory that holds bin/ is the same
 * in the build directory and in an installation, so both work without being told where they are:
 *   bin/pgqrsd  bin/pgqrs  libexec/pgqrs/pgqrs-broker  -gateway  -worker
 *   lib/pgqrs/handlers/NAME.so
 */

#include <stddef.h>

#include "base/error.h"

/* The path of a file below the running program's prefix, such as "libexec/pgqrs/pgqrs-worker". */
int pgqrs_path_installed(const char *relative, char *out, size_t size,
                         struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* Where the sockets of pgqrsd are: the configured directory, or with null $RUNTIME_DIRECTORY, else
 * $XDG_RUNTIME_DIR/pgqrs, else /tmp/pgqrs-UID. */
int pgqrs_path_runtime(const char *configured, char *out, size_t size,
                       struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
