/* SPDX-License-Identifier: Apache-2.0 */
/* One YAML document, and errors that say where in it. */
#include "config/config_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#define FILE_MAX (1024 * 1024) /* a larger file is not a configuration */
#define DEPTH_MAX 32

static int load_document(yaml_parser_t *parser, struct yaml_file *file, struct pgqrs_error *err)
{
    yaml_document_t second;
    if (yaml_parser_load(parser, &file->document) == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "%s:%zu: %s", file->path,
                               parser->problem_mark.line + 1,
                               parser->problem ? parser->problem : "can not be read as YAML");
    }
    file->loaded = true;
    if (yaml_document_get_root_node(&file->document) == NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "%s: found nothing, expected settings",
                               file->path);
    }
    if (yaml_parser_load(parser, &second) == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "%s:%zu: %s", file->path,
                               parser->problem_mark.line + 1,
                               parser->problem ? parser->problem : "can not be read as YAML");
    }
    const yaml_node_t *more = yaml_document_get_root_node(&second);
    size_t line = more == NULL ? 0 : more->start_mark.line + 1;
    yaml_document_delete(&second);
    if (more != NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "%s:%zu: found a second document, expected one", file->path, line);
    }
    return 0;
}

int pgqrs_yaml_load(const char *path, struct yaml_file *file, struct pgqrs_error *err)
{
    yaml_parser_t parser;
    *file = (struct yaml_file){.path = path};
    FILE *stream = fopen(path, "re");
    if (stream == NULL) {
        return pgqrs_error_sys(err, PGQRS_ERR_CONFIG, errno, "%s", path);
    }
    char *text = malloc(FILE_MAX + 1);
    size_t len = text == NULL ? 0 : fread(text, 1, FILE_MAX + 1, stream);
    int read_errno = ferror(stream) ? errno : 0;
    (void)fclose(stream);
    int rc = -1;
    if (text == NULL || yaml_parser_initialize(&parser) == 0) {
        (void)pgqrs_error_memory(err);
    } else {
        if (read_errno != 0) {
            (void)pgqrs_error_sys(err, PGQRS_ERR_CONFIG, read_errno, "%s", path);
        } else if (len > FILE_MAX) {
            (void)pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                                  "%s: found more than %d bytes, expected a configuration", path,
                                  FILE_MAX);
        } else {
            yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
            rc = load_document(&parser, file, err);
        }
        yaml_parser_delete(&parser);
    }
    free(text);
    if (rc < 0) {
        pgqrs_yaml_fini(file);
    }
    return rc;
}

void pgqrs_yaml_fini(struct yaml_file *file)
{
    if (file->loaded) {
        yaml_document_delete(&file->document);
        file->loaded = false;
    }
}

int pgqrs_yaml_blame(const struct yaml_file *file, const yaml_node_t *node, const char *key,
                     struct pgqrs_error *err)
{
    if (key[0] != 0) {
        (void)pgqrs_error_prefix(err, "%s", key);
    }
    return pgqrs_error_prefix(err, "%s:%zu", file->path, node->start_mark.line + 1);
}

int pgqrs_yaml_error(const struct yaml_file *file, const yaml_node_t *node, const char *key,
                     struct pgqrs_error *err, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args); /* a cut text is still one */
    va_end(args);
    (void)pgqrs_error_set(err, PGQRS_ERR_CONFIG, "%s", text);
    return pgqrs_yaml_blame(file, node, key, err);
}

const char *pgqrs_yaml_kind(const yaml_node_t *node)
{
    switch (node->type) {
    case YAML_SCALAR_NODE:
        return "a value";
    case YAML_SEQUENCE_NODE:
        return "a list";
    case YAML_MAPPING_NODE:
        return "a mapping";
    case YAML_NO_NODE:
        break;
    }
    return "nothing";
}

const char *pgqrs_yaml_text(const struct yaml_file *file, const yaml_node_t *node, const char *key,
                            struct pgqrs_error *err)
{
    if (node->type != YAML_SCALAR_NODE) {
        (void)pgqrs_yaml_error(file, node, key, err, "found %s, expected a value",
                               pgqrs_yaml_kind(node));
        return NULL;
    }
    const char *text = (const char *)node->data.scalar.value;
    if (strlen(text) != node->data.scalar.length) {
        (void)pgqrs_yaml_error(file, node, key, err, "found a zero byte, expected text");
        return NULL;
    }
    return text;
}

int pgqrs_yaml_check_mapping(struct yaml_file *file, const yaml_node_t *node, const char *key,
                             struct pgqrs_error *err)
{
    if (node->type != YAML_MAPPING_NODE) {
        return pgqrs_yaml_error(file, node, key, err, "found %s, expected a mapping of keys",
                                pgqrs_yaml_kind(node));
    }
    const yaml_node_pair_t *begin = node->data.mapping.pairs.start;
    for (const yaml_node_pair_t *p = begin; p < node->data.mapping.pairs.top; p++) {
        const yaml_node_t *name = yaml_document_get_node(&file->document, p->key);
        const char *text = pgqrs_yaml_text(file, name, key, err);
        if (text == NULL) {
            return -1;
        }
        for (const yaml_node_pair_t *q = begin; q < p; q++) {
            const yaml_node_t *other = yaml_document_get_node(&file->document, q->key);
            if (strcmp((const char *)other->data.scalar.value, text) == 0) {
                return pgqrs_yaml_error(file, name, key, err,
                                        "found key \"%.60s\" twice, first in line %zu", text,
                                        other->start_mark.line + 1);
            }
        }
    }
    return 0;
}

/* ---- JSON ---- */

/* A plain scalar is what YAML's core schema says it is; a quoted one is a string. */
static json_t *scalar_to_json(const yaml_node_t *node)
{
    const char *text = (const char *)node->data.scalar.value;
    size_t len = node->data.scalar.length;
    if (node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        if (len == 0 || strcmp(text, "null") == 0 || strcmp(text, "~") == 0) {
            return json_null();
        }
        if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0) {
            return json_boolean(text[0] == 't');
        }
        json_t *number = json_loadb(text, len, JSON_DECODE_ANY, NULL);
        if (json_is_number(number)) {
            return number;
        }
        json_decref(number);
    }
    return json_stringn(text, len); /* null when it is not UTF-8 */
}

static json_t *to_json(struct yaml_file *file, const yaml_node_t *node, const char *key, int depth,
                       struct pgqrs_error *err);

static json_t *mapping_to_json(struct yaml_file *file, const yaml_node_t *node, const char *key,
                               int depth, struct pgqrs_error *err)
{
    if (pgqrs_yaml_check_mapping(file, node, key, err) < 0) {
        return NULL;
    }
    json_t *object = json_object();
    for (const yaml_node_pair_t *p = node->data.mapping.pairs.start;
         object != NULL && p < node->data.mapping.pairs.top; p++) {
        const yaml_node_t *name = yaml_document_get_node(&file->document, p->key);
        json_t *value =
            to_json(file, yaml_document_get_node(&file->document, p->value), key, depth + 1, err);
        if (value == NULL ||
            json_object_set_new(object, (const char *)name->data.scalar.value, value) < 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}

static json_t *sequence_to_json(struct yaml_file *file, const yaml_node_t *node, const char *key,
                                int depth, struct pgqrs_error *err)
{
    json_t *array = json_array();
    for (const yaml_node_item_t *i = node->data.sequence.items.start;
         array != NULL && i < node->data.sequence.items.top; i++) {
        json_t *value =
            to_json(file, yaml_document_get_node(&file->document, *i), key, depth + 1, err);
        if (value == NULL || json_array_append_new(array, value) < 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

static json_t *to_json(struct yaml_file *file, const yaml_node_t *node, const char *key, int depth,
                       struct pgqrs_error *err)
{
    json_t *value = NULL;
    if (depth > DEPTH_MAX) { /* also the end of an alias that contains itself */
        (void)pgqrs_yaml_error(file, node, key, err, "found more than %d levels", DEPTH_MAX);
        return NULL;
    }
    if (node->type == YAML_MAPPING_NODE) {
        value = mapping_to_json(file, node, key, depth, err);
    } else if (node->type == YAML_SEQUENCE_NODE) {
        value = sequence_to_json(file, node, key, depth, err);
    } else {
        value = scalar_to_json(node);
        if (value == NULL) {
            (void)pgqrs_yaml_error(file, node, key, err, "found a value that is not UTF-8 text");
        }
    }
    return value;
}

char *pgqrs_yaml_json(struct yaml_file *file, const yaml_node_t *node, const char *key,
                      struct pgqrs_error *err)
{
    (void)pgqrs_error_memory(err); /* unless something more exact is found */
    json_t *value = to_json(file, node, key, 0, err);
    char *text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT);
    json_decref(value);
    return text;
}
