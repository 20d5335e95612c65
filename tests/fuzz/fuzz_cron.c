/* SPDX-License-Identifier: Apache-2.0 */
/* An expression, a zero byte and the file of a zone: what can be read gives spans that follow one
 * another, and times that ascend. */
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pgqrs_cron cron;
    struct pgqrs_timezone *zone = NULL;
    const uint8_t *end = size == 0 ? NULL : memchr(data, 0, size);
    if (end == NULL) {
        return 0;
    }
    size_t used = (size_t)(end - data) + 1;
    const struct pgqrs_bytes file = {.data = (const char *)data + used, .len = size - used};
    if (pgqrs_timezone_parse(file, &zone, NULL) == 0) {
        walk_spans(zone);
    }
    if (pgqrs_cron_parse((const char *)data, &cron, NULL) == 0) {
        walk_times(&cron, zone);
    }
    if (zone != NULL) {
        pgqrs_timezone_close(&zone);
    }
    return 0;
}
