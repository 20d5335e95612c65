/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

/* The bytes of the character at the start of text, 1 to 4; 0 when it is not valid UTF-8. A text's
 * terminator is never taken for a continuation byte. */
static size_t character(const unsigned char *text)
{
    static const struct {
        uint8_t mask, lead, size;
        uint32_t min;
    } forms[] = {
        {0x80, 0x00, 1, 0},
        {0xe0, 0xc0, 2, 0x80},
        {0xf0, 0xe0, 3, 0x800},
        {0xf8, 0xf0, 4, 0x10000},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if ((text[0] & forms[i].mask) != forms[i].lead) {
            continue;
        }
        uint32_t code = text[0] & (uint8_t)~forms[i].mask;
        for (size_t k = 1; k < forms[i].size; k++) {
            if ((text[k] & 0xc0) != 0x80) {
                return 0;
            }
            code = code << 6 | (text[k] & 0x3f);
        }
        bool surrogate = code >= 0xd800 && code <= 0xdfff;
        return code < forms[i].min || code > 0x10ffff || surrogate ? 0 : forms[i].size;
    }
    return 0;
}

size_t pgqrs_utf8_character(const char *text, size_t len)
{
    unsigned char head[5] = {0};
    memcpy(head, text, len < 4 ? len : 4);
    return character(head);
}

bool pgqrs_utf8_valid(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    while (*at != 0) {
        size_t size = character(at);
        if (size == 0) {
            return false;
        }
        at += size;
    }
    return true;
}

size_t pgqrs_utf8_copy(char *out, size_t size, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t len = 0;
    while (*at != 0) {
        size_t found = character(at);
        size_t used = found == 0 ? 1 : found;
        if (len + used >= size) {
            break;
        }
        memcpy(out + len, found == 0 ? (const unsigned char *)"?" : at, used);
        len += used;
        at += used;
    }
    out[len] = 0;
    return len;
}
