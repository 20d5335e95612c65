/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BASE_TIMEZONE_H
#define PGQRS_BASE_TIMEZONE_H

/*
 * Time zones of the IANA database, from the files of the system's tzdata (TZif, RFC 8536), since
 * the C library knows only one zone a process. A zone does not change once it is open, and any
 * number of threads may ask it. Times are seconds since 1970 UTC.
 */

#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

struct pgqrs_timezone;

/* Local time is UTC + offset_s for all times from from_s on, and before until_s. */
struct pgqrs_timezone_span {
    int64_t from_s, until_s;
    int32_t offset_s;
};
/* A span without a beginning, or an end, has one of these. */
#define PGQRS_TIMEZONE_FROM_EVER (-(INT64_C(1) << 60))
#define PGQRS_TIMEZONE_FOR_EVER (INT64_C(1) << 60)
/* No offset is outside of these: RFC 8536, 3.2. */
#define PGQRS_TIMEZONE_OFFSET_MIN (-89999)
#define PGQRS_TIMEZONE_OFFSET_MAX 93599

/* A name such as Europe/Berlin. "UTC" needs no file. */
int pgqrs_timezone_open(const char *name, struct pgqrs_timezone **zone_out,
                        struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* From the content of a file. */
int pgqrs_timezone_parse(struct pgqrs_bytes file, struct pgqrs_timezone **zone_out,
                         struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_timezone_close(struct pgqrs_timezone **zone);

/* The span that has utc_s; its neighbours may have the same offset. A null zone is UTC. */
struct pgqrs_timezone_span pgqrs_timezone_at(const struct pgqrs_timezone *zone, int64_t utc_s);

#endif
