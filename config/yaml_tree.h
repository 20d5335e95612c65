/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CONFIG_YAML_TREE_H
#define PGQRS_CONFIG_YAML_TREE_H

/*
 * A YAML file as a tree that remembers lines. Only what a configuration needs: one document; keys
 * are scalars and unique; no anchors, aliases or tags.
 */

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "base/error.h"

#define PGQRS_YAML_FILE_MAX (1024u * 1024) /* bytes */
#define PGQRS_YAML_DEPTH_MAX 32

enum pgqrs_yaml_kind {
    PGQRS_YAML_NONE = 0, /* the file has no document */
    PGQRS_YAML_SCALAR,
    PGQRS_YAML_SEQUENCE,
    PGQRS_YAML_MAPPING,
};

struct pgqrs_yaml_node {
    enum pgqrs_yaml_kind kind;
    bool plain;                    /* a scalar without quotes */
    size_t line;                   /* from 1 */
    char *text;                    /* of a scalar; holds no zero byte */
    struct pgqrs_yaml_node *items; /* of a sequence; of a mapping key, value, key, value... */
    size_t count;
};

/* "a list", "nothing", "\"text\"": what was found, for an error. */
#define PGQRS_YAML_SHOWN 96
const char *pgqrs_yaml_show(const struct pgqrs_yaml_node *node, char out[PGQRS_YAML_SHOWN]);

/* Reads a file; errors begin with "FILE:LINE: ". Free with pgqrs_yaml_fini, on success only. */
int pgqrs_yaml_read(const char *path, struct pgqrs_yaml_node *root_out,
                    struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_yaml_fini(struct pgqrs_yaml_node *node);

/* The value of a key, or null. */
const struct pgqrs_yaml_node *pgqrs_yaml_get(const struct pgqrs_yaml_node *mapping,
                                             const char *key);
/* An empty value, ~ or null. */
bool pgqrs_yaml_is_null(const struct pgqrs_yaml_node *node);

/*
 * The node as JSON, plain scalars resolved by the YAML 1.2 core schema. On failure *line_out is
 * the line that can not be converted, and err says why without naming the file.
 */
json_t *pgqrs_yaml_to_json(const struct pgqrs_yaml_node *node, size_t *line_out,
                           struct pgqrs_error *err) PGQRS_MUST_CHECK;

/*
 * Fills err with "FILE:LINE: " before the text; of a long path only the end is shown. Line 0: none.
 */
int pgqrs_yaml_error_at(struct pgqrs_error *err, const char *path, size_t line);

#endif
