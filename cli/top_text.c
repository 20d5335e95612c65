/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers and texts as they fit into a column. */
#include <inttypes.h>
#include <langinfo.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

#include "cli/output.h"
#include "cli/top_model.h"

void pgqrs_top_count(int64_t count, bool capped, char *out, size_t size)
{
    const char *more = capped ? "+" : "";
    if (count < 0) {
        (void)snprintf(out, size, "-");
    } else if (count < 100000) {
        (void)snprintf(out, size, "%" PRId64 "%s", count, more);
    } else if (count < 1000000) {
        (void)snprintf(out, size, "%" PRId64 "k%s", count / 1000, more);
    } else if (count < INT64_C(1000000000)) {
        (void)snprintf(out, size, "%.1fM%s", (double)count / 1e6, more);
    } else {
        (void)snprintf(out, size, "%.1fG%s", (double)count / 1e9, more);
    }
}

void pgqrs_top_age(int64_t ms, char *out, size_t size)
{
    int64_t s = ms / 1000;
    if (ms < 0) {
        (void)snprintf(out, size, "-");
    } else if (s < 60) {
        (void)snprintf(out, size, "%" PRId64 "s", s);
    } else if (s < 3600) {
        (void)snprintf(out, size, "%" PRId64 "m%02" PRId64 "s", s / 60, s % 60);
    } else if (s < 86400) {
        (void)snprintf(out, size, "%" PRId64 "h%02" PRId64 "m", s / 3600, s / 60 % 60);
    } else if (s < INT64_C(86400) * 100) {
        (void)snprintf(out, size, "%" PRId64 "d%02" PRId64 "h", s / 86400, s / 3600 % 24);
    } else {
        (void)snprintf(out, size, "%" PRId64 "d", s / 86400);
    }
}

void pgqrs_top_size(int64_t bytes, char *out, size_t size)
{
    double mebibytes = (double)bytes / 1048576;
    if (bytes < 0) {
        (void)snprintf(out, size, "-");
    } else if (mebibytes < 999.95) {
        (void)snprintf(out, size, "%.1fM", mebibytes);
    } else {
        (void)snprintf(out, size, "%.1fG", mebibytes / 1024);
    }
}

void pgqrs_top_real(double value, char *out, size_t size)
{
    if (value < 0) {
        (void)snprintf(out, size, "-");
    } else if (value < 1000) {
        (void)snprintf(out, size, "%.1f", value);
    } else if (value < 100000) {
        (void)snprintf(out, size, "%.0f", value);
    } else {
        (void)snprintf(out, size, "%.0fk", value / 1000);
    }
}

/* ---- texts ---- */

static wchar_t code_of(const char *c, size_t length)
{
    static const unsigned char bits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    unsigned code = (unsigned char)c[0] & bits[length];
    for (size_t i = 1; i < length; i++) {
        code = code << 6 | ((unsigned char)c[i] & 0x3f);
    }
    return (wchar_t)code;
}

/* Those that turn around what is next to them. */
static bool is_bidi(wchar_t c)
{
    return c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

/* -1: not to be shown, for the terminal has no such character. */
static int width_of(const char *c, size_t length)
{
    if (length == 1) {
        return 1;
    }
    wchar_t code = code_of(c, length);
    return strcmp(nl_langinfo(CODESET), "UTF-8") != 0 || is_bidi(code) ? -1 : wcwidth(code);
}

struct line {
    char *out;
    size_t size, len, columns;
};

static void put(struct line *line, const char *c, size_t length, size_t columns)
{
    if (line->len + length < line->size) {
        memcpy(line->out + line->len, c, length);
        line->len += length;
        line->columns += columns;
    }
}

size_t pgqrs_top_fit(const char *text, size_t columns, char *out, size_t size)
{
    struct line line = {.out = out, .size = size};
    struct line cut = line; /* where the mark would be */
    struct pgqrs_buf shown = {0};
    size_t length;
    pgqrs_show(&shown, text);
    size_t len = shown.failed ? 0 : shown.len;
    for (size_t at = 0; at < len; at += length) {
        const char *c = (const char *)shown.data + at;
        length = pgqrs_utf8_length(c, len - at);
        int width = width_of(c, length);
        size_t wide = width < 0 ? 1 : (size_t)width;
        if (line.columns + wide > columns || line.len + length + 1 >= size) {
            line = cut;
            put(&line, "~", columns > 0 ? 1 : 0, columns > 0 ? 1 : 0);
            break;
        }
        put(&line, width < 0 ? "?" : c, width < 0 ? 1 : length, wide);
        cut = line.columns < columns ? line : cut;
    }
    pgqrs_buf_fini(&shown);
    line.out[line.len] = 0;
    return line.columns;
}
