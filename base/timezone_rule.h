/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BASE_TIMEZONE_RULE_H
#define PGQRS_BASE_TIMEZONE_RULE_H

/*
 * The rule at the end of a zone's file, for all times after its table: the TZ string of POSIX with
 * the extensions of RFC 8536, such as CET-1CEST,M3.5.0,M10.5.0/3.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/timezone.h"

struct pgqrs_timezone_rule {
    int32_t std_offset_s, dst_offset_s;
    bool has_dst;
    struct pgqrs_timezone_change {
        enum {
            PGQRS_CHANGE_JULIAN, /* day 1 to 365, of a year without 29 February */
            PGQRS_CHANGE_DAY,    /* day 0 to 365 */
            PGQRS_CHANGE_WEEKDAY /* the week-th (5: the last) weekday day of the month */
        } kind;
        int month, week, day;
        int32_t time_s; /* of the local time before the change, from the day's begin */
    } to_dst, to_std;
};

int pgqrs_timezone_rule_parse(const char *text, struct pgqrs_timezone_rule *rule_out,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;
struct pgqrs_timezone_span pgqrs_timezone_rule_at(const struct pgqrs_timezone_rule *rule,
                                                  int64_t utc_s);

#endif
