/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BASE_ESCAPE_H
#define PGQRS_BASE_ESCAPE_H

/* Texts that may be anything, made one line of UTF-8 that a terminal can be shown. */

#include <stdbool.h>
#include <stddef.h>

/*
 * Control characters and bytes that are not UTF-8 become \xNN; with json, what stands inside a JSON
 * string: \uNNNN, and U+FFFD for a byte that is not UTF-8. Writes at most size - 1 bytes, stops
 * before what has no room, and terminates. Returns the length; *used_out, if not null, gets how
 * much of the text that was.
 */
size_t pgqrs_escape(char *out, size_t size, const char *text, size_t len, bool json,
                    size_t *used_out);

#endif
