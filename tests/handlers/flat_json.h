/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_HANDLERS_FLAT_JSON_H
#define PGQRS_TESTS_HANDLERS_FLAT_JSON_H

/* Looks up values in a flat JSON object that a test wrote itself. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where the value of a key begins; null when it is not there. */
static inline const char *flat_find(const char *json, const char *key)
{
    char quoted[64];
    (void)snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *at = strstr(json, quoted);
    if (at == NULL) {
        return NULL;
    }
    at += strlen(quoted);
    return at + strspn(at, " \t\n:");
}

static inline long long flat_number(const char *json, const char *key, long long otherwise)
{
    const char *at = flat_find(json, key);
    return at == NULL ? otherwise : strtoll(at, NULL, 10);
}

static inline void flat_text(const char *json, const char *key, char *out, size_t size)
{
    const char *at = flat_find(json, key);
    out[0] = 0;
    if (at != NULL && *at == '"') {
        (void)snprintf(out, size, "%.*s", (int)strcspn(at + 1, "\""), at + 1);
    }
}

#endif
