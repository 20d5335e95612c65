/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output.h"

#include <inttypes.h>
#include <string.h>

#include <jansson.h>

#define ESCAPED_MAX 8

/*
 * The character at the start of text as it stands in a JSON string. Returns how many bytes of text
 * it was. Control characters are escaped, those that JSON does not mind as well.
 */
static size_t escape(struct pgqrs_bytes text, char out[ESCAPED_MAX], size_t *out_len)
{
    size_t n = pgqrs_utf8_length(text.data, text.len);
    unsigned char c = (unsigned char)text.data[0];
    if (n == 0) {
        *out_len = (size_t)snprintf(out, ESCAPED_MAX, "\xef\xbf\xbd"); /* U+FFFD */
        return 1;
    }
    if (pgqrs_is_control(text.data, n)) {
        unsigned code = n == 1 ? c : (unsigned char)text.data[1]; /* U+0080 to U+009F: c2 80... */
        *out_len = (size_t)snprintf(out, ESCAPED_MAX, "\\u%04x", code);
        return n;
    }
    size_t at = 0;
    if (c == '"' || c == '\\') {
        out[at++] = '\\';
    }
    memcpy(out + at, text.data, n);
    *out_len = at + n;
    return n;
}

static void advance(struct pgqrs_bytes *text, size_t n)
{
    text->data += n;
    text->len -= n;
}

void pgqrs_json_quote(struct pgqrs_buf *out, struct pgqrs_bytes text)
{
    char escaped[ESCAPED_MAX];
    size_t len = 0;
    pgqrs_buf_put_u8(out, '"');
    while (text.len > 0) {
        advance(&text, escape(text, escaped, &len));
        pgqrs_buf_put(out, escaped, len);
    }
    pgqrs_buf_put_u8(out, '"');
}

static void put_text(const char *string)
{
    struct pgqrs_bytes text = pgqrs_bytes_from(string);
    char escaped[ESCAPED_MAX];
    size_t len = 0;
    (void)fputc('"', stdout);
    while (text.len > 0) {
        advance(&text, escape(text, escaped, &len));
        (void)fwrite(escaped, 1, len, stdout);
    }
    (void)fputc('"', stdout);
}

/* Puts the comma that is due, and the key. */
static void put_key(struct pgqrs_json *json, const char *key)
{
    if (json->comma_due) {
        (void)fputc(',', stdout);
    }
    json->comma_due = true;
    if (key != NULL) {
        put_text(key);
        (void)fputc(':', stdout);
    }
}

void pgqrs_json_begin(struct pgqrs_json *json, const char *key, char bracket)
{
    put_key(json, key);
    (void)fputc(bracket, stdout);
    json->comma_due = false;
    json->depth++;
}

void pgqrs_json_end(struct pgqrs_json *json, char bracket)
{
    (void)fputc(bracket, stdout);
    json->comma_due = true;
    json->depth--;
    if (json->depth == 0) {
        (void)fputc('\n', stdout);
    }
}

void pgqrs_json_text(struct pgqrs_json *json, const char *key, const char *text)
{
    put_key(json, key);
    if (text == NULL) {
        (void)fputs("null", stdout);
    } else {
        put_text(text);
    }
}

void pgqrs_json_integer(struct pgqrs_json *json, const char *key, int64_t value)
{
    put_key(json, key);
    (void)printf("%" PRId64, value);
}

void pgqrs_json_real(struct pgqrs_json *json, const char *key, double value)
{
    put_key(json, key);
    (void)printf("%.3f", value);
}

void pgqrs_json_boolean(struct pgqrs_json *json, const char *key, bool value)
{
    put_key(json, key);
    (void)fputs(value ? "true" : "false", stdout);
}

void pgqrs_json_time(struct pgqrs_json *json, const char *key, int64_t us)
{
    char text[PGQRS_TIME_SIZE];
    pgqrs_json_text(json, key, us == 0 ? NULL : pgqrs_time_json(us, text));
}

void pgqrs_json_embed(struct pgqrs_json *json, const char *key, const char *text)
{
    json_t *value = text == NULL ? NULL : json_loads(text, JSON_DECODE_ANY, NULL);
    if (value == NULL) {
        pgqrs_json_text(json, key, text);
        return;
    }
    json_decref(value);
    put_key(json, key);
    /* As it was written, so that no number changes. What it may hold raw and a terminal may obey
     * stands in a string, where it can be escaped. */
    struct pgqrs_bytes left = pgqrs_bytes_from(text);
    while (left.len > 0) {
        size_t n = pgqrs_utf8_length(left.data, left.len);
        if (pgqrs_is_control(left.data, n) && (unsigned char)left.data[0] >= 0x7f) {
            (void)printf("\\u%04x", (unsigned char)left.data[n - 1]);
        } else {
            (void)fwrite(left.data, 1, n, stdout);
        }
        advance(&left, n);
    }
}
