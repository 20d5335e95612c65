/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

struct pgqrs_bytes pgqrs_bytes_from(const char *text)
{
    return (struct pgqrs_bytes){.data = text, .len = text == NULL ? 0 : strlen(text)};
}

void pgqrs_buf_fini(struct pgqrs_buf *buf)
{
    free(buf->data);
    *buf = (struct pgqrs_buf){0};
}

void pgqrs_buf_clear(struct pgqrs_buf *buf)
{
    buf->len = 0;
    buf->failed = false;
}

uint8_t *pgqrs_buf_reserve(struct pgqrs_buf *buf, size_t len)
{
    if (buf->failed || len > SIZE_MAX / 2 - buf->len) {
        buf->failed = true;
        return NULL;
    }
    if (buf->cap - buf->len < len) {
        size_t cap = buf->cap < 256 ? 256 : buf->cap;
        while (cap < buf->len + len) {
            cap *= 2;
        }
        uint8_t *data = realloc(buf->data, cap);
        if (data == NULL) {
            buf->failed = true;
            return NULL;
        }
        buf->data = data;
        buf->cap = cap;
    }
    return buf->data + buf->len;
}

void pgqrs_buf_put(struct pgqrs_buf *buf, const void *data, size_t len)
{
    uint8_t *to = pgqrs_buf_reserve(buf, len);
    if (to != NULL && len > 0) {
        memcpy(to, data, len);
        buf->len += len;
    }
}

static void put_le(uint8_t *to, uint64_t v, size_t size)
{
    for (size_t i = 0; i < size; i++, v >>= 8) {
        to[i] = (uint8_t)v;
    }
}

static void put_number(struct pgqrs_buf *buf, uint64_t v, size_t size)
{
    uint8_t *to = pgqrs_buf_reserve(buf, size);
    if (to != NULL) {
        put_le(to, v, size);
        buf->len += size;
    }
}

void pgqrs_buf_put_u8(struct pgqrs_buf *buf, uint8_t v)
{
    put_number(buf, v, 1);
}

void pgqrs_buf_put_u16(struct pgqrs_buf *buf, uint16_t v)
{
    put_number(buf, v, 2);
}

void pgqrs_buf_put_u32(struct pgqrs_buf *buf, uint32_t v)
{
    put_number(buf, v, 4);
}

void pgqrs_buf_put_u64(struct pgqrs_buf *buf, uint64_t v)
{
    put_number(buf, v, 8);
}

void pgqrs_buf_put_bytes(struct pgqrs_buf *buf, struct pgqrs_bytes bytes)
{
    if (bytes.len > UINT32_MAX) {
        buf->failed = true;
        return;
    }
    pgqrs_buf_put_u32(buf, (uint32_t)bytes.len);
    pgqrs_buf_put(buf, bytes.data, bytes.len);
    pgqrs_buf_put_u8(buf, 0);
}

void pgqrs_buf_set_u32(struct pgqrs_buf *buf, size_t at, uint32_t v)
{
    if (!buf->failed && at + 4 <= buf->len) {
        put_le(buf->data + at, v, 4);
    }
}

struct pgqrs_reader pgqrs_reader_of(const void *data, size_t len)
{
    const uint8_t *at = data;
    return (struct pgqrs_reader){.at = at, .end = at + len};
}

static const uint8_t *take(struct pgqrs_reader *r, size_t len)
{
    if (r->failed || (size_t)(r->end - r->at) < len) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *at = r->at;
    r->at += len;
    return at;
}

static uint64_t read_number(struct pgqrs_reader *r, size_t size)
{
    const uint8_t *at = take(r, size);
    uint64_t v = 0;
    for (size_t i = size; at != NULL && i > 0; i--) {
        v = v << 8 | at[i - 1];
    }
    return v;
}

uint8_t pgqrs_read_u8(struct pgqrs_reader *r)
{
    return (uint8_t)read_number(r, 1);
}

uint16_t pgqrs_read_u16(struct pgqrs_reader *r)
{
    return (uint16_t)read_number(r, 2);
}

uint32_t pgqrs_read_u32(struct pgqrs_reader *r)
{
    return (uint32_t)read_number(r, 4);
}

uint64_t pgqrs_read_u64(struct pgqrs_reader *r)
{
    return read_number(r, 8);
}

struct pgqrs_bytes pgqrs_read_bytes(struct pgqrs_reader *r, size_t max)
{
    size_t len = pgqrs_read_u32(r);
    if (len > max) {
        r->failed = true;
    }
    const uint8_t *at = take(r, len);
    const uint8_t *end = take(r, 1);
    if (at == NULL || end == NULL || *end != 0) {
        r->failed = true;
        return (struct pgqrs_bytes){.data = "", .len = 0};
    }
    return (struct pgqrs_bytes){.data = (const char *)at, .len = len};
}

const char *pgqrs_read_text(struct pgqrs_reader *r, size_t max)
{
    struct pgqrs_bytes bytes = pgqrs_read_bytes(r, max);
    if (memchr(bytes.data, 0, bytes.len) != NULL) {
        r->failed = true;
        return "";
    }
    return bytes.data;
}

bool pgqrs_reader_done(const struct pgqrs_reader *r)
{
    return !r->failed && r->at == r->end;
}
