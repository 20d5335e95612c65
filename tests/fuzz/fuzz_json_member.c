/* SPDX-License-Identifier: Apache-2.0 */
/* A name, a zero byte and a text: what is found lies in it, and of JSON is what a parser finds. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/json_member.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Copies, so that a byte read past the end is seen. */
static void compare(const char *name, const char *text, size_t len)
{
    struct pgqrs_bytes found;
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    bool is_there = pgqrs_json_member((struct pgqrs_bytes){.data = text, .len = len}, name, &found);
    if (is_there && (found.data < text || found.len > len - (size_t)(found.data - text))) {
        abort();
    }
    json_t *object = json_loadb(text, len, flags, NULL);
    if (object == NULL || memchr(text, '\\', len) != NULL) {
        json_decref(object); /* accepts null */
        return;
    }
    json_t *member = json_object_get(object, name);
    json_t *value = is_there ? json_loadb(found.data, found.len, flags, NULL) : NULL;
    if (is_there != (member != NULL) || (is_there && !json_equal(member, value))) {
        abort();
    }
    json_decref(value);
    json_decref(object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size == 0 ? NULL : memchr(data, 0, size);
    if (end == NULL) {
        return 0;
    }
    size_t len = size - (size_t)(end + 1 - data);
    char *text = malloc(len == 0 ? 1 : len);
    if (text != NULL) {
        memcpy(text, end + 1, len);
        compare((const char *)data, text, len);
    }
    free(text);
    return 0;
}
