/* SPDX-License-Identifier: Apache-2.0 */
/* Texts that may be anything, on a terminal. */
#include "cli/output.h"

#include <stdio.h>
#include <string.h>

size_t pgqrs_utf8_length(const char *text, size_t len)
{
    /* For each length: the bits that mark its first byte, and the least character it is for. */
    static const struct {
        unsigned char mask, bits;
        uint32_t least;
    } forms[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    const unsigned char *c = (const unsigned char *)text;
    for (size_t n = 1; n <= 4 && n <= len; n++) {
        if ((c[0] & forms[n - 1].mask) != forms[n - 1].bits) {
            continue;
        }
        uint32_t code = c[0] & (unsigned char)~forms[n - 1].mask;
        for (size_t i = 1; i < n; i++) {
            if ((c[i] & 0xc0) != 0x80) {
                return 0;
            }
            code = code << 6 | (c[i] & 0x3f);
        }
        bool surrogate = code >= 0xd800 && code <= 0xdfff;
        return code >= forms[n - 1].least && code <= 0x10ffff && !surrogate ? n : 0;
    }
    return 0;
}

bool pgqrs_utf8_is_valid(struct pgqrs_bytes text)
{
    size_t n = 0;
    for (size_t at = 0; at < text.len; at += n) {
        n = pgqrs_utf8_length(text.data + at, text.len - at);
        if (n == 0) {
            return false;
        }
    }
    return true;
}

/* U+0080 to U+009F among them: some terminals obey those. */
bool pgqrs_is_control(const char *c, size_t length)
{
    unsigned char first = (unsigned char)c[0];
    return first < 0x20 || first == 0x7f ||
           (length == 2 && first == 0xc2 && (unsigned char)c[1] < 0xa0);
}

void pgqrs_show(struct pgqrs_buf *out, const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        size_t n = pgqrs_utf8_length(text, left);
        if (n > 0 && !pgqrs_is_control(text, n)) {
            pgqrs_buf_put(out, text, n);
        } else {
            n = n == 0 ? 1 : n;
            for (size_t i = 0; i < n; i++) {
                char hex[8];
                (void)snprintf(hex, sizeof hex, "\\x%02x", (unsigned char)text[i]);
                pgqrs_buf_put(out, hex, 4);
            }
        }
        text += n;
        left -= n;
    }
}
