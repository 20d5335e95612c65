/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BASE_JSON_MEMBER_H
#define PGQRS_BASE_JSON_MEMBER_H

#include "base/bytes.h"

/*
 * The value of a member of a JSON object, as it stands there: a parser that reads and writes it
 * again would change numbers. False when the text is no object or has no such member; escapes in
 * names are not read. The text should be JSON: of other texts it reads no byte past the end, and
 * what it finds is of no use.
 */
bool pgqrs_json_member(struct pgqrs_bytes object, const char *name, struct pgqrs_bytes *value_out);

#endif
