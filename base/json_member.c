/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json_member.h"

#include <string.h>

struct scan {
    const char *at, *end;
};

static void skip_space(struct scan *s)
{
    while (s->at < s->end && strchr(" \t\r\n", *s->at) != NULL && *s->at != 0) {
        s->at++;
    }
}

static bool take(struct scan *s, char c)
{
    skip_space(s);
    if (s->at < s->end && *s->at == c) {
        s->at++;
        return true;
    }
    return false;
}

/* Behind its closing quote; the opening one is taken. */
static bool skip_string(struct scan *s)
{
    while (s->at < s->end && *s->at != '"') {
        s->at += *s->at == '\\' && s->end - s->at > 1 ? 2 : 1;
    }
    return take(s, '"');
}

/* Up to the comma or the bracket behind it. */
static bool skip_value(struct scan *s)
{
    size_t depth = 0;
    skip_space(s);
    const char *start = s->at;
    while (s->at < s->end) {
        char c = *s->at;
        if (depth == 0 && (c == ',' || c == '}' || c == ']')) {
            break;
        }
        s->at++;
        if (c == '"' && !skip_string(s)) {
            return false;
        }
        depth += c == '{' || c == '[' ? 1 : 0;
        depth -= c == '}' || c == ']' ? 1 : 0;
    }
    return s->at > start;
}

bool pgqrs_json_member(struct pgqrs_bytes object, const char *name, struct pgqrs_bytes *value_out)
{
    if (object.data == NULL) {
        return false;
    }
    struct scan s = {.at = object.data, .end = object.data + object.len};
    size_t len = strlen(name);
    if (!take(&s, '{')) {
        return false;
    }
    while (take(&s, '"')) {
        const char *key = s.at;
        if (!skip_string(&s)) {
            return false;
        }
        bool found = (size_t)(s.at - 1 - key) == len && memcmp(key, name, len) == 0;
        if (!take(&s, ':')) {
            return false;
        }
        skip_space(&s);
        const char *value = s.at;
        if (!skip_value(&s)) {
            return false;
        }
        if (found) {
            size_t n = (size_t)(s.at - value);
            while (n > 0 && strchr(" \t\r\n", value[n - 1]) != NULL) {
                n--;
            }
            *value_out = (struct pgqrs_bytes){.data = value, .len = n};
            return true;
        }
        (void)take(&s, ',');
    }
    return false;
}
