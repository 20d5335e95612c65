/* SPDX-License-Identifier: Apache-2.0 */
/* YAML to JSON: what a plain scalar stands for. */
#include "config/yaml_tree.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (strcmp(text, *words) == 0) {
            return true;
        }
    }
    return false;
}

bool pgqrs_yaml_is_null(const struct pgqrs_yaml_node *node)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    return node->kind == PGQRS_YAML_NONE ||
           (node->kind == PGQRS_YAML_SCALAR && node->plain && is_one_of(node->text, nulls));
}

static bool is_all(const char *text, const char *set)
{
    return *text != 0 && text[strspn(text, set)] == 0;
}

static const char digits[] = "0123456789";

/* The base of a whole number, with *digits_out after its prefix; 0: it is not one. */
static int integer_base(const char *text, const char **digits_out)
{
    *digits_out = text;
    if (strncmp(text, "0x", 2) == 0 || strncmp(text, "0o", 2) == 0) {
        bool hex = text[1] == 'x';
        *digits_out = text + 2;
        return is_all(text + 2, hex ? "0123456789abcdefABCDEF" : "01234567") ? (hex ? 16 : 8) : 0;
    }
    return is_all(text + (*text == '-' || *text == '+'), digits) ? 10 : 0;
}

/* [-+]? ( [0-9]+ ( . [0-9]* )? | . [0-9]+ ) ( [eE] [-+]? [0-9]+ )? */
static bool is_float(const char *text)
{
    text += *text == '-' || *text == '+';
    size_t whole = strspn(text, digits);
    text += whole;
    if (*text == '.') {
        size_t fraction = strspn(++text, digits);
        if (whole + fraction == 0) {
            return false;
        }
        text += fraction;
    } else if (whole == 0) {
        return false;
    }
    if (*text == 'e' || *text == 'E') {
        text++;
        text += *text == '-' || *text == '+';
        return is_all(text, digits);
    }
    return *text == 0;
}

static bool is_not_finite(const char *text)
{
    static const char *const words[] = {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN", NULL};
    return is_one_of(text + (*text == '-' || *text == '+'), words);
}

/* -1: a number that JSON has no room for. *json_out is null when memory ran out. */
static int resolve(const struct pgqrs_yaml_node *node, json_t **json_out, struct pgqrs_error *err)
{
    static const char *const trues[] = {"true", "True", "TRUE", NULL};
    static const char *const falses[] = {"false", "False", "FALSE", NULL};
    const char *text = node->text;
    const char *number;
    int base = integer_base(text, &number);
    if (pgqrs_yaml_is_null(node)) {
        *json_out = json_null();
    } else if (is_one_of(text, trues) || is_one_of(text, falses)) {
        *json_out = json_boolean(is_one_of(text, trues));
    } else if (base != 0 || is_float(text) || is_not_finite(text)) {
        errno = 0;
        long long whole = base != 0 ? strtoll(number, NULL, base) : 0;
        double real = base == 0 && !is_not_finite(text) ? strtod(text, NULL) : HUGE_VAL;
        if ((base != 0 && errno != 0) || (base == 0 && !isfinite(real))) {
            return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                                   "found %.60s, expected a number that fits in 64 bits, or text "
                                   "in quotes",
                                   text);
        }
        *json_out = base != 0 ? json_integer(whole) : json_real(real);
    } else {
        *json_out = json_string(text);
    }
    return 0;
}

static json_t *scalar_to_json(const struct pgqrs_yaml_node *node, struct pgqrs_error *err)
{
    json_t *json = NULL;
    if (!node->plain) {
        json = json_string(node->text);
    } else if (resolve(node, &json, err) < 0) {
        return NULL;
    }
    if (json == NULL) {
        (void)pgqrs_error_memory(err);
    }
    return json;
}

json_t *pgqrs_yaml_to_json(const struct pgqrs_yaml_node *node, size_t *line_out,
                           struct pgqrs_error *err)
{
    bool mapping = node->kind == PGQRS_YAML_MAPPING;
    if (node->kind == PGQRS_YAML_SCALAR) {
        *line_out = node->line;
        return scalar_to_json(node, err);
    }
    json_t *json = mapping ? json_object() : json_array();
    for (size_t i = mapping ? 1 : 0; json != NULL && i < node->count; i += mapping ? 2 : 1) {
        json_t *item = pgqrs_yaml_to_json(&node->items[i], line_out, err);
        int rc = item == NULL ? -2
                 : mapping    ? json_object_set_new(json, node->items[i - 1].text, item)
                              : json_array_append_new(json, item);
        if (rc < 0) {
            json_decref(json);
            if (rc == -1) {
                (void)pgqrs_error_memory(err);
            }
            return NULL;
        }
    }
    if (json == NULL) {
        (void)pgqrs_error_memory(err);
    }
    return json;
}
