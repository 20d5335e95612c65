/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BASE_UTF8_H
#define PGQRS_BASE_UTF8_H

/* Texts that may be anything, made fit for who takes only UTF-8. */

#include <stdbool.h>
#include <stddef.h>

bool pgqrs_utf8_valid(const char *text);
/* The bytes of the character that a text of len bytes, 1 or more, begins with, 1 to 4; 0 when it is
 * not valid UTF-8. */
size_t pgqrs_utf8_character(const char *text, size_t len);

/*
 * Copies at most size - 1 bytes and terminates. Every byte that is not part of valid UTF-8 becomes
 * a question mark, and no character is cut in two. Returns the length.
 */
size_t pgqrs_utf8_copy(char *out, size_t size, const char *text);

#endif
