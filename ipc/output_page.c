/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/output_page.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/escape.h"
#include "base/utf8.h"

#define CHARACTER_MAX 4

const char *pgqrs_stream_name(enum pgqrs_stream stream)
{
    return stream == PGQRS_STREAM_OUT ? "stdout" : "stderr";
}

/* ---- lines ---- */

ptrdiff_t pgqrs_output_fill(struct pgqrs_output_page *page, enum pgqrs_stream stream, int fd,
                            size_t max)
{
    struct pgqrs_output_buffer *b = &page->streams[stream];
    size_t room = sizeof b->data - b->end;
    ssize_t n = read(fd, b->data + b->end, room < max ? room : max);
    if (n > 0) {
        b->end += (uint32_t)n;
    }
    return n;
}

/* Does not cut a character in two, if there are any. */
static size_t cut(const char *text, size_t len)
{
    for (size_t back = 1; back < CHARACTER_MAX && back < len; back++) {
        unsigned char c = (unsigned char)text[len - back];
        if (c >= 0xc0) { /* the first byte of one */
            return pgqrs_utf8_character(text + len - back, back) == 0 ? len - back : len;
        }
        if (c < 0x80) {
            break;
        }
    }
    return len;
}

/* How much of the text is the next piece, and whether a newline follows it; 0 and false: it is not
 * all there yet. */
static size_t next_piece(const char *text, size_t len, bool all, bool *newline_out)
{
    size_t max = len < PGQRS_OUTPUT_PIECE ? len : PGQRS_OUTPUT_PIECE;
    const char *newline = max == 0 ? NULL : memchr(text, '\n', max);
    *newline_out = newline != NULL;
    if (newline != NULL) {
        return (size_t)(newline - text);
    }
    return len > max ? cut(text, max) : all ? max : 0;
}

static void add_to_tail(struct pgqrs_output_page *page, const char *text, size_t len)
{
    if (len > PGQRS_OUTPUT_TAIL) {
        page->written += len - PGQRS_OUTPUT_TAIL;
        text += len - PGQRS_OUTPUT_TAIL;
        len = PGQRS_OUTPUT_TAIL;
    }
    size_t at = (size_t)(page->written % PGQRS_OUTPUT_TAIL);
    size_t first = len < PGQRS_OUTPUT_TAIL - at ? len : PGQRS_OUTPUT_TAIL - at;
    memcpy(page->tail + at, text, first);
    memcpy(page->tail, text + first, len - first);
    page->written += len;
}

/* The worker may be killed at any moment: steps are done in the order in which they are written, so
 * that what was logged is not found again. */
static void make_room(struct pgqrs_output_buffer *b)
{
    if (b->start == b->end) {
        memset(b->data, 0, b->end);
        atomic_signal_fence(memory_order_seq_cst);
        b->end = 0;
        atomic_signal_fence(memory_order_seq_cst);
        b->start = 0;
    } else if (b->end > sizeof b->data / 2) {
        uint32_t len = b->end - b->start;
        memmove(b->data, b->data + b->start, len);
        memset(b->data + len, 0, b->end - len);
        b->start = 0;
        b->end = len;
    }
}

void pgqrs_output_take(struct pgqrs_output_page *page, enum pgqrs_stream stream, bool all,
                       pgqrs_output_fn *fn, void *context)
{
    struct pgqrs_output_buffer *b = &page->streams[stream];
    for (;;) {
        const char *text = b->data + b->start;
        bool newline;
        size_t len = next_piece(text, b->end - b->start, all, &newline);
        bool ended = newline || (all && b->start + len == b->end);
        if (len > 0 || (newline && b->continued == 0)) {
            fn(context, stream, text, len, b->continued != 0);
            add_to_tail(page, text, len);
        } else if (!ended || (!newline && b->continued == 0)) {
            break;
        }
        if (ended) {
            add_to_tail(page, "\n", 1);
        }
        b->continued = ended ? 0 : 1;
        b->start += (uint32_t)len + (newline ? 1 : 0);
    }
    make_room(b);
}

bool pgqrs_output_report(struct pgqrs_output_page *page, const struct pgqrs_log_tags *tags,
                         int wait_ms)
{
    char text[64];
    int len = snprintf(text, sizeof text, "%" PRIu64 " lines of output dropped", page->dropped);
    if (pgqrs_log_output(PGQRS_LOG_WARN, tags, text, (size_t)len, wait_ms) < 0) {
        return false;
    }
    page->dropped = 0;
    return true;
}

/* ---- after the worker's death ---- */

void pgqrs_output_repair(struct pgqrs_output_page *page)
{
    page->job = page->job < 0 ? 0 : page->job;
    for (int i = 0; i < PGQRS_STREAM_COUNT; i++) {
        struct pgqrs_output_buffer *b = &page->streams[i];
        if (b->end > sizeof b->data || b->start > b->end) {
            b->start = b->end = 0;
            memset(b->data, 0, sizeof b->data);
        }
        while (b->end < sizeof b->data && b->data[b->end] != 0) {
            b->end++;
        }
    }
}

/* The text in the ring, in order; what is left of the first line when others overwrote it is not
 * taken, unless there is nothing else. */
static size_t unroll(const struct pgqrs_output_page *page, char *out)
{
    size_t at = (size_t)(page->written % PGQRS_OUTPUT_TAIL);
    if (page->written <= PGQRS_OUTPUT_TAIL) {
        size_t len = (size_t)page->written;
        memcpy(out, page->tail, len);
        return len;
    }
    memcpy(out, page->tail + at, PGQRS_OUTPUT_TAIL - at);
    memcpy(out + PGQRS_OUTPUT_TAIL - at, page->tail, at);
    const char *newline = memchr(out, '\n', PGQRS_OUTPUT_TAIL - 1);
    size_t skip = newline == NULL ? 0 : (size_t)(newline + 1 - out);
    memmove(out, out + skip, PGQRS_OUTPUT_TAIL - skip);
    return PGQRS_OUTPUT_TAIL - skip;
}

void pgqrs_output_last(const struct pgqrs_output_page *page, char *out, size_t size)
{
    char raw[PGQRS_OUTPUT_TAIL];
    char clean[PGQRS_OUTPUT_TAIL * CHARACTER_MAX + 1] = "";
    size_t n = 0;
    size_t len = unroll(page, raw);
    while (len > 0 && raw[len - 1] == '\n') {
        len--;
    }
    for (size_t at = 0; at < len;) {
        const char *newline = memchr(raw + at, '\n', len - at);
        size_t line = newline == NULL ? len - at : (size_t)(newline - raw) - at;
        n += pgqrs_escape(clean + n, sizeof clean - n, raw + at, line, false, NULL);
        clean[n] = '\n';
        n += newline == NULL ? 0 : 1;
        at += line + 1;
    }
    size_t room = size - 1;
    size_t skip = n > room ? n - room : 0;
    if (skip > 0 && clean[skip - 1] != '\n') {
        const char *newline = memchr(clean + skip, '\n', n - skip);
        skip = newline != NULL ? (size_t)(newline + 1 - clean) : skip;
        while (skip < n && ((unsigned char)clean[skip] & 0xc0) == 0x80) {
            skip++;
        }
    }
    memcpy(out, clean + skip, n - skip);
    out[n - skip] = 0;
}
