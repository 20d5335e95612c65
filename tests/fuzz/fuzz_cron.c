/* SPDX-License-Identifier: Apache-2.0 */
/* An expression, a zero byte and the file of a zone, or what is to be in such a file: what can be
 * read gives spans that follow one another, and times that ascend. */
#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cron.h"

#define TIMES 20
#define BEGIN_S INT64_C(1774000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk_spans(const struct pgqrs_timezone *zone)
{
    int64_t at = BEGIN_S;
    for (int i = 0; i < TIMES && at < PGQRS_TIMEZONE_FOR_EVER; i++) {
        struct pgqrs_timezone_span span = pgqrs_timezone_at(zone, at);
        if (span.from_s > at || span.until_s <= at || (i > 0 && span.from_s != at)) {
            abort();
        }
        at = span.until_s;
    }
}

static void walk_times(const struct pgqrs_cron *cron, const struct pgqrs_timezone *zone)
{
    int64_t at = BEGIN_S * 1000000 + 1;
    int64_t next;
    for (int i = 0; i < TIMES && pgqrs_cron_next(cron, zone, at, &next, NULL) == 0; i++) {
        int64_t same;
        if (next <= at || pgqrs_cron_next(cron, zone, next - 1, &same, NULL) < 0 || same != next) {
            abort();
        }
        at = next;
    }
}

static void walk(const char *text, const void *data, size_t len)
{
    struct pgqrs_cron cron;
    struct pgqrs_timezone *zone = NULL;
    const struct pgqrs_bytes file = {.data = data, .len = len};
    if (pgqrs_timezone_parse(file, &zone, NULL) == 0) {
        walk_spans(zone);
    }
    if (pgqrs_cron_parse(text, &cron, NULL) == 0) {
        walk_times(&cron, zone);
    }
    if (zone != NULL) {
        pgqrs_timezone_close(&zone);
    }
}

static void put_be32(struct pgqrs_buf *buf, uint32_t value)
{
    value = htobe32(value);
    pgqrs_buf_put(buf, &value, sizeof value);
}

static void put_header(struct pgqrs_buf *buf, uint32_t times, uint32_t types)
{
    static const char magic[20] = "TZif2";
    const uint32_t counts[] = {0, 0, 0, times, types, 1};
    pgqrs_buf_put(buf, magic, sizeof magic);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        put_be32(buf, counts[i]);
    }
}

/* The transitions are pairs of bytes: how long after the previous one, and to which offset. */
static void make_file(struct pgqrs_buf *buf, struct pgqrs_bytes rule, struct pgqrs_bytes changes)
{
    int64_t at = BEGIN_S - 100000;
    put_header(buf, 0, 0);
    pgqrs_buf_put_u8(buf, 0);
    put_header(buf, (uint32_t)(changes.len / 2), 256);
    for (size_t i = 0; i + 1 < changes.len; i += 2) {
        at += 1 + (unsigned char)changes.data[i] * 1800;
        put_be32(buf, 0);
        put_be32(buf, (uint32_t)at);
    }
    for (size_t i = 0; i + 1 < changes.len; i += 2) {
        pgqrs_buf_put_u8(buf, (uint8_t)changes.data[i + 1]);
    }
    for (int type = 0; type < 256; type++) {
        put_be32(buf, (uint32_t)((type - 128) * 700));
        pgqrs_buf_put_u16(buf, 0);
    }
    pgqrs_buf_put(buf, "\0\n", 2);
    pgqrs_buf_put(buf, rule.data, rule.len);
    pgqrs_buf_put(buf, "\n", 1);
}

/* Up to a zero byte, or the end. */
static struct pgqrs_bytes next_part(const uint8_t **data, size_t *size)
{
    const uint8_t *end = *size == 0 ? NULL : memchr(*data, 0, *size);
    size_t len = end == NULL ? *size : (size_t)(end - *data);
    const struct pgqrs_bytes part = {.data = (const char *)*data, .len = len};
    *data += len + (end != NULL);
    *size -= len + (end != NULL);
    return part;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || memchr(data, 0, size) == NULL) {
        return 0;
    }
    const struct pgqrs_bytes text = next_part(&data, &size);
    walk(text.data, data, size);
    struct pgqrs_buf file = {0};
    const struct pgqrs_bytes rule = next_part(&data, &size);
    make_file(&file, rule, (struct pgqrs_bytes){.data = (const char *)data, .len = size});
    walk(text.data, file.data, file.len);
    pgqrs_buf_fini(&file);
    return 0;
}
