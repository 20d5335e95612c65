/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BASE_BYTES_H
#define PGQRS_BASE_BYTES_H

/*
 * A growable buffer to write to, a bounded reader to read from, and a borrowed run of bytes.
 * Numbers are little-endian. A buffer that ran out of memory and a reader that ran out of bytes
 * remember it and turn every further call into a no-op; the caller checks once, at the end.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Borrowed; not terminated unless the source says so. data may be null when len is 0. */
struct pgqrs_bytes {
    const char *data;
    size_t len;
};

struct pgqrs_bytes pgqrs_bytes_from(const char *text); /* null gives an empty run */

struct pgqrs_buf {
    uint8_t *data;
    size_t len, cap;
    bool failed; /* out of memory: the content is not complete */
};

void pgqrs_buf_fini(struct pgqrs_buf *buf);  /* frees and zeroes; may be used again */
void pgqrs_buf_clear(struct pgqrs_buf *buf); /* keeps the memory */
/* Makes room for len more bytes and returns where to write them, or null. Does not move len. */
uint8_t *pgqrs_buf_reserve(struct pgqrs_buf *buf, size_t len);
void pgqrs_buf_put(struct pgqrs_buf *buf, const void *data, size_t len);
void pgqrs_buf_put_u8(struct pgqrs_buf *buf, uint8_t v);
void pgqrs_buf_put_u16(struct pgqrs_buf *buf, uint16_t v);
void pgqrs_buf_put_u32(struct pgqrs_buf *buf, uint32_t v);
void pgqrs_buf_put_u64(struct pgqrs_buf *buf, uint64_t v);
/* A u32 length, the bytes, and a zero byte, so that a reader can borrow them as a C string. */
void pgqrs_buf_put_bytes(struct pgqrs_buf *buf, struct pgqrs_bytes bytes);
void pgqrs_buf_set_u32(struct pgqrs_buf *buf, size_t at, uint32_t v);

struct pgqrs_reader {
    const uint8_t *at, *end;
    bool failed; /* read past the end, or a length was out of bounds */
};

struct pgqrs_reader pgqrs_reader_of(const void *data, size_t len);
uint8_t pgqrs_read_u8(struct pgqrs_reader *r);
uint16_t pgqrs_read_u16(struct pgqrs_reader *r);
uint32_t pgqrs_read_u32(struct pgqrs_reader *r);
uint64_t pgqrs_read_u64(struct pgqrs_reader *r);
/* Borrows from the reader's bytes; data is terminated by a zero byte that len does not count. */
struct pgqrs_bytes pgqrs_read_bytes(struct pgqrs_reader *r, size_t max);
/* Like pgqrs_read_bytes, and fails when there is a zero byte inside. */
const char *pgqrs_read_text(struct pgqrs_reader *r, size_t max);
/* True when everything was read and nothing failed. */
bool pgqrs_reader_done(const struct pgqrs_reader *r);

#endif
