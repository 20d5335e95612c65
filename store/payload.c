/* SPDX-License-Identifier: Apache-2.0 */
#include "store/payload.h"

#include <jansson.h>
#include <string.h>

#define DEPTH_MAX 127 /* what a pgqrs client can read back */

/*
 * Drops the white space between the tokens of a JSON text that is known to be right, and nothing
 * else, so that numbers and strings stay as they were written. Returns the greatest depth.
 */
static int compact(struct pgqrs_bytes text, uint8_t *to, size_t *len_out)
{
    uint8_t *start = to;
    bool quoted = false;
    int depth = 0;
    int deepest = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (quoted) {
            if (c == '\\') {
                *to++ = (uint8_t)c;
                c = text.data[++i]; /* a right text does not end here */
            } else if (c == '"') {
                quoted = false;
            }
        } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
            continue;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            depth++;
            deepest = depth > deepest ? depth : deepest;
        } else if (c == '}' || c == ']') {
            depth--;
        }
        *to++ = (uint8_t)c;
    }
    *len_out = (size_t)(to - start);
    return deepest;
}

static int check(struct pgqrs_bytes text, struct pgqrs_error *err)
{
    if (text.len == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "payload: found nothing, expected one JSON value");
    }
    /* jansson overlooks one after a number. */
    const char *zero = memchr(text.data, 0, text.len);
    if (zero != NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "payload: found a zero byte at byte %zu, expected one JSON value",
                               (size_t)(zero - text.data) + 1);
    }
    json_error_t where;
    json_t *value = json_loadb(text.data, text.len, JSON_DECODE_ANY, &where);
    if (value == NULL) {
        if (json_error_code(&where) == json_error_out_of_memory) {
            return pgqrs_error_memory(err);
        }
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "payload: line %d, column %d: %s; expected one JSON value",
                               where.line, where.column, where.text);
    }
    json_decref(value);
    return 0;
}

int pgqrs_payload_normalise(struct pgqrs_bytes text, struct pgqrs_buf *out, struct pgqrs_error *err)
{
    pgqrs_buf_clear(out);
    if (check(text, err) < 0) {
        return -1;
    }
    uint8_t *to = pgqrs_buf_reserve(out, text.len);
    if (to == NULL) {
        return pgqrs_error_memory(err);
    }
    size_t len = 0;
    int depth = compact(text, to, &len);
    if (depth > DEPTH_MAX) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "payload: found %d levels of arrays and objects, expected at most "
                               "%d",
                               depth, DEPTH_MAX);
    }
    if (len > PGQRS_ENQUEUE_MAX) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "payload: found %zu bytes without white space, expected at most %d",
                               len, PGQRS_ENQUEUE_MAX);
    }
    out->len = len;
    return 0;
}

/* ---- pgqrs' rules ---- */

struct pgqrs_payload_rules pgqrs_payload_rules_default(void)
{
    static const char *const forbidden[] = {"__proto__", "constructor", NULL};
    return (struct pgqrs_payload_rules){.max_payload_size_bytes = PGQRS_ENQUEUE_MAX,
                                        .max_string_length = 1024,
                                        .max_object_depth = 5,
                                        .forbidden_keys = forbidden};
}

/* Goes over the text itself: a tree of it would have lost all but one of a key's values. */
struct scan {
    const struct pgqrs_payload_rules *rules;
    const uint8_t *at, *end; /* a compact and right JSON text */
    unsigned depth;          /* of open arrays and objects */
    bool in_object[DEPTH_MAX + 1];
    bool key_next;
    struct pgqrs_buf key;      /* the last one that had escapes, without them */
    struct pgqrs_buf required; /* a byte for each: whether it was found */
};

static unsigned hex4(const uint8_t *digits)
{
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        unsigned c = digits[i];
        value = value * 16 + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
}

static size_t put_utf8(unsigned point, uint8_t to[4])
{
    if (point < 0x80) {
        to[0] = (uint8_t)point;
        return 1;
    }
    size_t more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    static const uint8_t first[] = {0, 0xc0, 0xe0, 0xf0};
    to[0] = (uint8_t)(first[more] | point >> (6 * more));
    for (size_t i = 1; i <= more; i++) {
        to[i] = (uint8_t)(0x80 | (point >> (6 * (more - i)) & 0x3f));
    }
    return more + 1;
}

/* What the escape at `at` stands for; returns how long it is. */
static size_t undo_escape(const uint8_t *at, uint8_t to[4], size_t *len_out)
{
    static const char names[] = "bfnrt";
    static const char values[] = "\b\f\n\r\t";
    if (at[1] != 'u') {
        const char *name = strchr(names, at[1]);
        to[0] = name == NULL ? at[1] : (uint8_t)values[name - names];
        *len_out = 1;
        return 2;
    }
    unsigned point = hex4(at + 2);
    bool pair = point >= 0xd800 && point < 0xdc00;
    if (pair) {
        point = 0x10000 + ((point - 0xd800) << 10) + (hex4(at + 8) - 0xdc00);
    }
    *len_out = put_utf8(point, to);
    return pair ? 12 : 6;
}

/* Reads the string whose opening quote is at scan->at, and stands behind it. The content is
 * kept, in scan->key unless it stands in the text as it is, when keep is set. */
static struct pgqrs_bytes read_string(struct scan *s, bool keep)
{
    const uint8_t *start = ++s->at;
    size_t len = 0;
    bool escaped = false;
    while (*s->at != '"') {
        if (*s->at != '\\') {
            s->at++;
            len++;
            continue;
        }
        if (keep && !escaped) {
            pgqrs_buf_clear(&s->key);
            pgqrs_buf_put(&s->key, start, len);
        }
        escaped = true;
        uint8_t value[4];
        size_t value_len = 0;
        s->at += undo_escape(s->at, value, &value_len);
        const uint8_t *plain = s->at;
        while (*s->at != '"' && *s->at != '\\') {
            s->at++;
        }
        if (keep) {
            pgqrs_buf_put(&s->key, value, value_len);
            pgqrs_buf_put(&s->key, plain, (size_t)(s->at - plain));
        }
        len += value_len + (size_t)(s->at - plain);
    }
    s->at++;
    return (struct pgqrs_bytes){.data = (const char *)(escaped ? s->key.data : start), .len = len};
}

static bool is_key(const char *name, struct pgqrs_bytes key)
{
    return strlen(name) == key.len && memcmp(name, key.data, key.len) == 0;
}

static int check_string(const struct scan *s, size_t len, const char *what, struct pgqrs_error *err)
{
    if (len > s->rules->max_string_length) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "payload: max_string_length: found a %s of %zu bytes, expected at "
                               "most %lu",
                               what, len, (unsigned long)s->rules->max_string_length);
    }
    return 0;
}

static int scan_key(struct scan *s, struct pgqrs_error *err)
{
    struct pgqrs_bytes key = read_string(s, true);
    s->key_next = false;
    if (s->key.failed) {
        return pgqrs_error_memory(err);
    }
    if (check_string(s, key.len, "key", err) < 0) {
        return -1;
    }
    const char *const *name = s->rules->forbidden_keys;
    for (; name != NULL && *name != NULL; name++) {
        if (is_key(*name, key)) {
            return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                                   "payload: forbidden_keys: found \"%s\", expected no such key",
                                   *name);
        }
    }
    name = s->depth == 1 ? s->rules->required_keys : NULL;
    for (size_t i = 0; name != NULL && name[i] != NULL; i++) {
        s->required.data[i] |= is_key(name[i], key);
    }
    return 0;
}

static int scan_value(struct scan *s, struct pgqrs_error *err)
{
    if (s->depth > s->rules->max_object_depth) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "payload: max_object_depth: found depth %u, expected at most %lu",
                               s->depth, (unsigned long)s->rules->max_object_depth);
    }
    if (*s->at == '"') {
        return check_string(s, read_string(s, false).len, "string", err);
    }
    if (*s->at == '{' || *s->at == '[') {
        s->key_next = *s->at++ == '{';
        s->in_object[++s->depth] = s->key_next;
        return 0;
    }
    while (s->at < s->end && *s->at != ',' && *s->at != ']' && *s->at != '}') {
        s->at++;
    }
    return 0;
}

static int scan_all(struct scan *s, struct pgqrs_error *err)
{
    while (s->at < s->end) {
        int rc = 0;
        if (*s->at == '}' || *s->at == ']') {
            s->depth--;
            s->at++;
            s->key_next = false;
        } else if (*s->at == ',') {
            s->key_next = s->in_object[s->depth];
            s->at++;
        } else if (*s->at == ':') {
            s->at++;
        } else {
            rc = s->key_next ? scan_key(s, err) : scan_value(s, err);
        }
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

static int scan_required(const struct scan *s, struct pgqrs_error *err)
{
    for (size_t i = 0; i < s->required.len; i++) {
        if (!s->required.data[i]) {
            return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                                   "payload: required_keys: found no \"%s\", expected it in the "
                                   "outermost object",
                                   s->rules->required_keys[i]);
        }
    }
    return 0;
}

static int scan(const struct pgqrs_payload_rules *rules, const struct pgqrs_buf *text,
                struct pgqrs_error *err)
{
    struct scan s = {.rules = rules, .at = text->data, .end = text->data + text->len};
    for (const char *const *name = text->data[0] == '{' ? rules->required_keys : NULL;
         name != NULL && *name != NULL; name++) {
        pgqrs_buf_put_u8(&s.required, 0);
    }
    int rc = s.required.failed ? pgqrs_error_memory(err) : scan_all(&s, err);
    rc = rc < 0 ? -1 : scan_required(&s, err);
    pgqrs_buf_fini(&s.key);
    pgqrs_buf_fini(&s.required);
    return rc;
}

int pgqrs_payload_check(const struct pgqrs_payload_rules *rules, struct pgqrs_bytes text,
                        struct pgqrs_buf *out, struct pgqrs_error *err)
{
    if (pgqrs_payload_normalise(text, out, err) < 0) {
        return -1;
    }
    if (out->len > rules->max_payload_size_bytes) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "payload: max_payload_size_bytes: found %zu bytes without white "
                               "space, expected at most %lu",
                               out->len, (unsigned long)rules->max_payload_size_bytes);
    }
    return scan(rules, out, err);
}
