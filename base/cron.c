/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cron.h"

#include <ctype.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "base/units.h"

#define BLANK " \t"
#define SUNDAY_TOO 7
#define ALL_HOURS ((UINT64_C(1) << 24) - 1)
#define SHOWN_MAX 40 /* bytes of the input in an error */

#define EVERY_MIN_MS INT64_C(1000)
#define EVERY_MAX_MS (INT64_C(3650) * 86400 * 1000)

static const char *const month_names[] = {"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL",
                                          "AUG", "SEP", "OCT", "NOV", "DEC", NULL};
static const char *const weekday_names[] = {"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", NULL};

enum { MINUTE, HOUR, DAY, MONTH, WEEKDAY, FIELDS };

struct field {
    const char *name;
    int min, max;
    int last;                 /* of * and of a start without an end */
    const char *const *names; /* of min and those after it; null: none */
    const char *expected;
};
static const struct field fields[FIELDS] = {
    [MINUTE] = {"minute", 0, 59, 59, NULL, "0 to 59"},
    [HOUR] = {"hour", 0, 23, 23, NULL, "0 to 23"},
    [DAY] = {"day-of-month", 1, 31, 31, NULL, "1 to 31"},
    [MONTH] = {"month", 1, 12, 12, month_names, "1 to 12 or JAN to DEC"},
    [WEEKDAY] = {"day-of-week", 0, SUNDAY_TOO, 6, weekday_names, "0 to 7 or SUN to SAT"}};

static const struct {
    const char *name, *meaning;
} macros[] = {{"@hourly", "0 * * * *"},  {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
              {"@weekly", "0 0 * * 0"},  {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
              {"@annually", "0 0 1 1 *"}};

/* A part of the expression. */
struct piece {
    const char *at, *end;
};

static int shown_len(struct piece p)
{
    return (int)(p.end - p.at < SHOWN_MAX ? p.end - p.at : SHOWN_MAX);
}

/* The next piece that none of the separators is in; behind the last one *rest is null. */
static struct piece next_piece(struct piece *rest, const char *separators)
{
    struct piece p = {rest->at, rest->at};
    while (p.end < rest->end && strchr(separators, *p.end) == NULL) {
        p.end++;
    }
    rest->at = p.end < rest->end ? p.end + 1 : NULL;
    return p;
}

/* ---- an item of a list: *, 5, 1-5, MON, each with a step ---- */

/* Other programs' L, LW, 15W, 5L, 2#3 and ?. */
static bool is_extension(struct piece p)
{
    size_t len = (size_t)(p.end - p.at);
    if (memchr(p.at, '#', len) != NULL || memchr(p.at, '?', len) != NULL) {
        return true;
    }
    while (p.at < p.end && isdigit((unsigned char)*p.at)) {
        p.at++;
    }
    const char *letters = p.at;
    while (p.at < p.end && strchr("LWlw", *p.at) != NULL) {
        p.at++;
    }
    return p.at > letters && (p.at == p.end || !isalpha((unsigned char)*p.at));
}

static int unexpected(const struct field *field, struct piece item, struct pgqrs_error *err)
{
    if (item.at < item.end && is_extension(item)) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "%s: found \"%.*s\", but L, W, # and ? are not supported; expected "
                               "%s, *, a range or a step",
                               field->name, shown_len(item), item.at, field->expected);
    }
    return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                           "%s: found \"%.*s\", expected %s, *, a range such as 1-5 or a step such "
                           "as */2",
                           field->name, shown_len(item), item.at, field->expected);
}

static bool read_number(struct piece *rest, int *value_out)
{
    int value = 0;
    const char *begin = rest->at;
    for (; rest->at < rest->end && isdigit((unsigned char)*rest->at); rest->at++) {
        value = value < 1000 ? value * 10 + (*rest->at - '0') : value;
    }
    *value_out = value;
    return rest->at > begin;
}

static bool read_name(const struct field *field, struct piece *rest, int *value_out)
{
    const char *end = rest->at;
    while (end < rest->end && isalpha((unsigned char)*end)) {
        end++;
    }
    for (int i = 0; field->names != NULL && field->names[i] != NULL && end - rest->at == 3; i++) {
        if (strncasecmp(rest->at, field->names[i], 3) == 0) {
            rest->at = end;
            *value_out = field->min + i;
            return true;
        }
    }
    return false;
}

static bool read_value(const struct field *field, struct piece *rest, int *value_out)
{
    return (read_name(field, rest, value_out) || read_number(rest, value_out)) &&
           *value_out >= field->min && *value_out <= field->max;
}

static bool skip_char(struct piece *rest, char c)
{
    if (rest->at == rest->end || *rest->at != c) {
        return false;
    }
    rest->at++;
    return true;
}

struct range {
    int first, last, step;
};

static bool read_range(const struct field *field, struct piece *rest, struct range *range)
{
    bool open = true; /* no last one is named */
    range->first = field->min;
    if (!skip_char(rest, '*')) {
        if (!read_value(field, rest, &range->first)) {
            return false;
        }
        open = !skip_char(rest, '-');
        if (!open && !read_value(field, rest, &range->last)) {
            return false;
        }
        if (open && (rest->at == rest->end || *rest->at != '/')) {
            range->last = range->first;
            return true;
        }
    }
    if (open) {
        range->last = range->first > field->last ? range->first : field->last;
    } else if (field->max == SUNDAY_TOO && range->last == 0 && range->first > 0) {
        range->last = SUNDAY_TOO; /* SAT-SUN */
    }
    return true;
}

static int parse_item(const struct field *field, struct piece item, uint64_t *set,
                      struct pgqrs_error *err)
{
    struct range range = {.step = 1};
    struct piece rest = item;
    if (!read_range(field, &rest, &range)) {
        return unexpected(field, item, err);
    }
    if (skip_char(&rest, '/')) {
        const struct piece step = rest;
        if (!read_number(&rest, &range.step) || rest.at != rest.end || range.step < 1 ||
            range.step > field->max) {
            return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                                   "%s: found \"%.*s\" as the step of \"%.*s\", expected 1 to %d",
                                   field->name, shown_len(step), step.at, shown_len(item), item.at,
                                   field->max);
        }
    }
    if (rest.at != rest.end) {
        return unexpected(field, item, err);
    }
    if (range.first > range.last) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "%s: found \"%.*s\", expected a range whose first is not after its "
                               "last",
                               field->name, shown_len(item), item.at);
    }
    for (int i = range.first; i <= range.last; i += range.step) {
        *set |= UINT64_C(1) << i;
    }
    return 0;
}

static int parse_field(const struct field *field, struct piece text, uint64_t *set_out,
                       struct pgqrs_error *err)
{
    uint64_t set = 0;
    for (struct piece rest = text; rest.at != NULL;) {
        if (parse_item(field, next_piece(&rest, ","), &set, err) < 0) {
            return -1;
        }
    }
    *set_out = set;
    return 0;
}

/* ---- the whole ---- */

/* Is there such a date in any year? */
static bool exists(uint64_t days, uint64_t months)
{
    static const int lengths[] = {0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    for (int month = 1; month <= 12; month++) {
        uint64_t of_month = (UINT64_C(2) << lengths[month]) - 1;
        if ((months >> month & 1) != 0 && (days & of_month) != 0) {
            return true;
        }
    }
    return false;
}

/* As crontab(5) has it, a day field is restricted when it does not begin with *. */
static bool is_restricted(struct piece text)
{
    return *text.at != '*';
}

static int parse_fields(const struct piece texts[FIELDS], struct pgqrs_cron *cron_out,
                        struct pgqrs_error *err)
{
    uint64_t sets[FIELDS];
    for (int i = 0; i < FIELDS; i++) {
        if (parse_field(&fields[i], texts[i], &sets[i], err) < 0) {
            return -1;
        }
    }
    struct pgqrs_cron cron = {
        .minutes = sets[MINUTE],
        .hours = (uint32_t)sets[HOUR],
        .days = (uint32_t)sets[DAY],
        .months = (uint32_t)sets[MONTH],
        .weekdays = (uint32_t)((sets[WEEKDAY] | sets[WEEKDAY] >> SUNDAY_TOO) & 0x7f),
        .either_day = is_restricted(texts[DAY]) && is_restricted(texts[WEEKDAY]),
        .follows_real_time = !is_restricted(texts[HOUR]) || sets[HOUR] == ALL_HOURS};
    if (!cron.either_day && !exists(cron.days, cron.months)) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "day-of-month: found \"%.*s\" in month \"%.*s\", expected a date "
                               "that exists",
                               shown_len(texts[DAY]), texts[DAY].at, shown_len(texts[MONTH]),
                               texts[MONTH].at);
    }
    *cron_out = cron;
    return 0;
}

static int parse_expression(struct piece text, struct pgqrs_cron *cron_out, struct pgqrs_error *err)
{
    struct piece texts[FIELDS];
    int count = 0;
    for (struct piece rest = text; rest.at != NULL;) {
        struct piece p = next_piece(&rest, BLANK);
        if (p.at == p.end) {
            continue;
        }
        if (count < FIELDS) {
            texts[count] = p;
        }
        count++;
    }
    if (count != FIELDS) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "found %d field%s in \"%.*s\", expected 5: minute hour day-of-month "
                               "month day-of-week, or @daily and the like",
                               count, count == 1 ? "" : "s", shown_len(text), text.at);
    }
    return parse_fields(texts, cron_out, err);
}

static int parse_every(const char *text, struct pgqrs_cron *cron_out, struct pgqrs_error *err)
{
    int64_t ms;
    if (pgqrs_duration_parse(text, &ms, err) < 0) {
        return pgqrs_error_prefix(err, "@every");
    }
    if (ms < EVERY_MIN_MS || ms > EVERY_MAX_MS) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "@every: found \"%.40s\", expected 1s to %" PRId64 "d", text,
                               EVERY_MAX_MS / 86400000);
    }
    *cron_out = (struct pgqrs_cron){.every_us = ms * 1000};
    return 0;
}

static struct piece whole(const char *text)
{
    return (struct piece){text, text + strlen(text)};
}

static int parse_macro(const char *text, struct pgqrs_cron *cron_out, struct pgqrs_error *err)
{
    size_t len = strcspn(text, BLANK);
    const char *rest = text + len + strspn(text + len, BLANK);
    if (len == strlen("@every") && strncasecmp(text, "@every", len) == 0) {
        return parse_every(rest, cron_out, err);
    }
    for (size_t i = 0; *rest == 0 && i < sizeof macros / sizeof macros[0]; i++) {
        if (strlen(macros[i].name) == len && strncasecmp(text, macros[i].name, len) == 0) {
            return parse_expression(whole(macros[i].meaning), cron_out, err);
        }
    }
    return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                           "found \"%.40s\", expected @hourly, @daily, @midnight, @weekly, "
                           "@monthly, @yearly, @annually or @every DURATION",
                           text);
}

int pgqrs_cron_parse(const char *text, struct pgqrs_cron *cron_out, struct pgqrs_error *err)
{
    text += strspn(text, BLANK);
    return *text == '@' ? parse_macro(text, cron_out, err)
                        : parse_expression(whole(text), cron_out, err);
}
