/* SPDX-License-Identifier: Apache-2.0 */
#include "store/payload.h"

#include <jansson.h>
#include <string.h>

#define DEPTH_MAX 127 /* what a pgqrs client can read back */

/*
 * Drops the white space between the tokens of a JSON text that is known to be right, and nothing
 * else, so that numbers and strings stay as they were written. Returns the greatest depth.
 */
static int compact(struct pgqrs_bytes text, uint8_t *to, size_t *len_out)
{
    uint8_t *start = to;
    bool quoted = false;
    int depth = 0;
    int deepest = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (quoted) {
            if (c == '\\') {
                *to++ = (uint8_t)c;
                c = text.data[++i]; /* a right text does not end here */
            } else if (c == '"') {
                quoted = false;
            }
        } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
            continue;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            depth++;
            deepest = depth > deepest ? depth : deepest;
        } else if (c == '}' || c == ']') {
            depth--;
        }
        *to++ = (uint8_t)c;
    }
    *len_out = (size_t)(to - start);
    return deepest;
}

static int check(struct pgqrs_bytes text, struct pgqrs_error *err)
{
    if (text.len == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "payload: found nothing, expected one JSON value");
    }
    /* jansson overlooks one after a number. */
    const char *zero = memchr(text.data, 0, text.len);
    if (zero != NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "payload: found a zero byte at byte %zu, expected one JSON value",
                               (size_t)(zero - text.data) + 1);
    }
    json_error_t where;
    json_t *value = json_loadb(text.data, text.len, JSON_DECODE_ANY, &where);
    if (value == NULL) {
        if (json_error_code(&where) == json_error_out_of_memory) {
            return pgqrs_error_memory(err);
        }
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "payload: line %d, column %d: %s; expected one JSON value",
                               where.line, where.column, where.text);
    }
    json_decref(value);
    return 0;
}

int pgqrs_payload_normalise(struct pgqrs_bytes text, struct pgqrs_buf *out, struct pgqrs_error *err)
{
    pgqrs_buf_clear(out);
    if (check(text, err) < 0) {
        return -1;
    }
    uint8_t *to = pgqrs_buf_reserve(out, text.len);
    if (to == NULL) {
        return pgqrs_error_memory(err);
    }
    size_t len = 0;
    int depth = compact(text, to, &len);
    if (depth > DEPTH_MAX) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "payload: found %d levels of arrays and objects, expected at most "
                               "%d",
                               depth, DEPTH_MAX);
    }
    if (len > PGQRS_ENQUEUE_MAX) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "payload: found %zu bytes without white space, expected at most %d",
                               len, PGQRS_ENQUEUE_MAX);
    }
    out->len = len;
    return 0;
}
