/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CLI_INPUT_H
#define PGQRS_CLI_INPUT_H

#include "base/bytes.h"
#include "base/error.h"

#define PGQRS_INPUT_MAX (8u * 1024 * 1024) /* of a payload, white space included */

/* All of a file; path null: of standard input. */
int pgqrs_input_read(const char *path, struct pgqrs_buf *out,
                     struct pgqrs_error *err) PGQRS_MUST_CHECK;
/*
 * The one JSON value, in compact form, that a word is; or @FILE has; or -, standard input. Returns
 * an exit status; when it is not PGQRS_CLI_OK, the reason is printed.
 */
int pgqrs_input_json(const char *word, struct pgqrs_buf *out) PGQRS_MUST_CHECK;
/* The same for the input of a run, which has to fit into a payload with its wrapper. */
int pgqrs_input_of_run(const char *word, struct pgqrs_buf *out) PGQRS_MUST_CHECK;

#endif
