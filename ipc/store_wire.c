/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/store_wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pgqrs_wire_block {
    struct pgqrs_wire_block *next;
    _Alignas(16) uint8_t data[];
};

bool pgqrs_wire_reads(const struct pgqrs_wire *w)
{
    return w->out == NULL;
}

void pgqrs_wire_fail(struct pgqrs_wire *w, const char *fmt, ...)
{
    va_list args;
    if (!w->failed) {
        va_start(args, fmt);
        (void)vsnprintf(w->why, sizeof w->why, fmt, args); /* cut is well enough */
        va_end(args);
    }
    w->failed = true;
    w->in.failed = true;
}

/* ---- numbers ---- */

uint64_t pgqrs_wire_u64(struct pgqrs_wire *w, uint64_t v)
{
    if (pgqrs_wire_reads(w)) {
        return pgqrs_read_u64(&w->in);
    }
    pgqrs_buf_put_u64(w->out, v);
    return v;
}

int64_t pgqrs_wire_i64(struct pgqrs_wire *w, int64_t v)
{
    return (int64_t)pgqrs_wire_u64(w, (uint64_t)v);
}

uint32_t pgqrs_wire_u32(struct pgqrs_wire *w, uint32_t v)
{
    if (pgqrs_wire_reads(w)) {
        return pgqrs_read_u32(&w->in);
    }
    pgqrs_buf_put_u32(w->out, v);
    return v;
}

int32_t pgqrs_wire_i32(struct pgqrs_wire *w, int32_t v)
{
    return (int32_t)pgqrs_wire_u32(w, (uint32_t)v);
}

unsigned pgqrs_wire_enum(struct pgqrs_wire *w, unsigned v, unsigned count)
{
    if (pgqrs_wire_reads(w)) {
        v = pgqrs_read_u8(&w->in);
    }
    if (v >= count) {
        pgqrs_wire_fail(w, "found kind %u, expected less than %u", v, count);
        return 0;
    }
    if (!pgqrs_wire_reads(w)) {
        pgqrs_buf_put_u8(w->out, (uint8_t)v);
    }
    return v;
}

bool pgqrs_wire_flag(struct pgqrs_wire *w, bool v)
{
    return pgqrs_wire_enum(w, v, 2) == 1;
}

/* ---- texts ---- */

static struct pgqrs_bytes wire_bytes(struct pgqrs_wire *w, struct pgqrs_bytes v, size_t max)
{
    if (pgqrs_wire_reads(w)) {
        return pgqrs_read_bytes(&w->in, max);
    }
    if (v.len > max) {
        pgqrs_wire_fail(w, "found %zu bytes, expected at most %zu", v.len, max);
    } else if (w->failed || w->out->len + v.len > w->limit) {
        pgqrs_wire_fail(w, "found more than %u bytes in one message", PGQRS_BODY_MAX);
    } else {
        pgqrs_buf_put_bytes(w->out, v);
    }
    return v;
}

struct pgqrs_bytes pgqrs_wire_bytes(struct pgqrs_wire *w, struct pgqrs_bytes v)
{
    return wire_bytes(w, v, PGQRS_BODY_MAX);
}

static const char *wire_text(struct pgqrs_wire *w, const char *v, size_t max)
{
    if (pgqrs_wire_reads(w)) {
        return pgqrs_read_text(&w->in, max);
    }
    (void)wire_bytes(w, pgqrs_bytes_from(v), max); /* gives back what it got */
    return v;
}

const char *pgqrs_wire_text(struct pgqrs_wire *w, const char *v)
{
    return wire_text(w, v, PGQRS_STORE_TEXT_MAX);
}

const char *pgqrs_wire_maybe(struct pgqrs_wire *w, const char *v)
{
    return pgqrs_wire_flag(w, v != NULL) ? wire_text(w, v, PGQRS_STORE_TEXT_MAX) : NULL;
}

char *pgqrs_wire_own(struct pgqrs_wire *w, char *v)
{
    if (!pgqrs_wire_flag(w, v != NULL)) {
        return NULL;
    }
    const char *text = wire_text(w, v, PGQRS_BODY_MAX);
    if (!pgqrs_wire_reads(w)) {
        return v;
    }
    char *copy = w->in.failed ? NULL : strdup(text);
    if (copy == NULL) {
        w->in.failed = true;
    }
    return copy;
}

/* ---- lists ---- */

/* True when there is something to read; the count is 0 after a failure. */
static bool wire_count(struct pgqrs_wire *w, size_t *count, size_t max_count, size_t min_size)
{
    if (pgqrs_wire_reads(w)) {
        *count = pgqrs_read_u32(&w->in);
        if (w->in.failed || *count > max_count ||
            *count > (size_t)(w->in.end - w->in.at) / min_size) {
            w->in.failed = true;
            *count = 0;
        }
        return *count > 0;
    }
    if (*count > max_count) {
        pgqrs_wire_fail(w, "found %zu items, expected at most %zu", *count, max_count);
        *count = 0;
    }
    pgqrs_buf_put_u32(w->out, (uint32_t)*count);
    return false;
}

void *pgqrs_wire_list(struct pgqrs_wire *w, size_t *count, size_t max_count, size_t min_size,
                      size_t item_size)
{
    if (!wire_count(w, count, max_count, min_size)) {
        return NULL;
    }
    struct pgqrs_wire_block *block = calloc(1, sizeof *block + *count * item_size);
    if (block == NULL) {
        w->in.failed = true;
        *count = 0;
        return NULL;
    }
    block->next = *w->blocks;
    *w->blocks = block;
    return block->data;
}

void *pgqrs_wire_own_list(struct pgqrs_wire *w, size_t *count, size_t min_size, size_t item_size)
{
    return pgqrs_wire_own_list_of(w, count, PGQRS_STORE_LIST_MAX, min_size, item_size);
}

void *pgqrs_wire_own_list_of(struct pgqrs_wire *w, size_t *count, size_t max_count, size_t min_size,
                             size_t item_size)
{
    if (!wire_count(w, count, max_count, min_size)) {
        return NULL;
    }
    void *items = calloc(*count, item_size);
    if (items == NULL) {
        w->in.failed = true;
        *count = 0;
    }
    return items;
}

void pgqrs_wire_blocks_fini(struct pgqrs_wire_block **blocks)
{
    while (*blocks != NULL) {
        struct pgqrs_wire_block *block = *blocks;
        *blocks = block->next;
        free(block);
    }
}
