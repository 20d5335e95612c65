/* SPDX-License-Identifier: Apache-2.0 */
#include "base/escape.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

#define LONGEST 6 /* \uNNNN */

/* Also those of ISO 8859-1, U+0080 to U+009F, which some terminals obey. */
static bool is_control(const unsigned char *c, size_t size)
{
    return size == 1 ? c[0] < 0x20 || c[0] == 0x7f : size == 2 && c[0] == 0xc2 && c[1] < 0xa0;
}

/* One character of size bytes, 0: a byte that is none. Returns the length. */
static size_t escape_one(char out[LONGEST + 1], const unsigned char *c, size_t size, bool json)
{
    if (size == 0) {
        return (size_t)(json ? snprintf(out, LONGEST + 1, "\\ufffd")
                             : snprintf(out, LONGEST + 1, "\\x%02x", c[0]));
    }
    if (is_control(c, size)) {
        /* The second byte of a two-byte one is its number. */
        return (size_t)snprintf(out, LONGEST + 1, json ? "\\u%04x" : "\\x%02x", c[size - 1]);
    }
    size_t n = 0;
    if (json && (c[0] == '"' || c[0] == '\\')) {
        out[n++] = '\\';
    }
    memcpy(out + n, c, size);
    return n + size;
}

size_t pgqrs_escape(char *out, size_t size, const char *text, size_t len, bool json,
                    size_t *used_out)
{
    size_t n = 0;
    size_t at = 0;
    while (at < len) {
        char one[LONGEST + 1];
        size_t found = pgqrs_utf8_character(text + at, len - at);
        size_t room = escape_one(one, (const unsigned char *)text + at, found, json);
        if (n + room >= size) {
            break;
        }
        memcpy(out + n, one, room);
        n += room;
        at += found == 0 ? 1 : found;
    }
    out[n] = 0;
    if (used_out != NULL) {
        *used_out = at;
    }
    return n;
}
