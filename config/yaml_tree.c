/* SPDX-License-Identifier: Apache-2.0 */
#include "config/yaml_tree.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#define SHOWN_PATH_MAX 200

int pgqrs_yaml_error_at(struct pgqrs_error *err, const char *path, size_t line)
{
    size_t len = strlen(path);
    const char *cut = len > SHOWN_PATH_MAX ? "..." : "";
    const char *shown = len > SHOWN_PATH_MAX ? path + len - SHOWN_PATH_MAX : path;
    return line == 0 ? pgqrs_error_prefix(err, "%s%s", cut, shown)
                     : pgqrs_error_prefix(err, "%s%s:%zu", cut, shown, line);
}

const char *pgqrs_yaml_show(const struct pgqrs_yaml_node *node, char out[PGQRS_YAML_SHOWN])
{
    if (pgqrs_yaml_is_null(node)) {
        return "nothing";
    }
    if (node->kind == PGQRS_YAML_SCALAR) {
        (void)snprintf(out, PGQRS_YAML_SHOWN, "\"%.60s\"", node->text);
        return out;
    }
    return node->kind == PGQRS_YAML_SEQUENCE ? "a list" : "a mapping";
}

/* ---- the tree ---- */

struct reader {
    yaml_parser_t parser;
    size_t line;    /* of the error */
    char path[256]; /* the keys that lead to what is being read; cut when it is long */
    struct pgqrs_error *err;
};

void pgqrs_yaml_fini(struct pgqrs_yaml_node *node)
{
    for (size_t i = 0; i < node->count; i++) {
        pgqrs_yaml_fini(&node->items[i]); /* as deep as PGQRS_YAML_DEPTH_MAX */
    }
    free(node->items);
    free(node->text);
    *node = (struct pgqrs_yaml_node){0};
}

static int next(struct reader *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event)) {
        return 0;
    }
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) {
        return pgqrs_error_memory(r->err);
    }
    if (p->error == YAML_READER_ERROR) { /* it knows the byte, and the line before it */
        r->line = p->mark.line + 1;
        return pgqrs_error_set(r->err, PGQRS_ERR_CONFIG, "not YAML: %s at byte %zu", p->problem,
                               p->problem_offset);
    }
    r->line = p->problem_mark.line + 1;
    return pgqrs_error_set(r->err, PGQRS_ERR_CONFIG, "not YAML: %s%s%s",
                           p->problem ? p->problem : "malformed", p->context ? " " : "",
                           p->context ? p->context : "");
}

static int refuse(struct reader *r, size_t line, const char *found, const char *expected)
{
    r->line = line;
    return pgqrs_error_set(r->err, PGQRS_ERR_CONFIG, "found %s, expected %s", found, expected);
}

/* Makes room for one more item, in steps that double. */
static struct pgqrs_yaml_node *append(struct reader *r, struct pgqrs_yaml_node *parent)
{
    size_t n = parent->count;
    if ((n & (n - 1)) == 0) {
        struct pgqrs_yaml_node *items =
            reallocarray(parent->items, n == 0 ? 1 : n * 2, sizeof *items);
        if (items == NULL) {
            (void)pgqrs_error_memory(r->err);
            return NULL;
        }
        parent->items = items;
    }
    struct pgqrs_yaml_node *item = &parent->items[parent->count++];
    *item = (struct pgqrs_yaml_node){0};
    return item;
}

static void enter_key(struct reader *r, const char *key)
{
    size_t used = strlen(r->path);
    (void)snprintf(r->path + used, sizeof r->path - used, "%s%.60s", used == 0 ? "" : ".", key);
}

/* Adds the item that was begun last to the path: its key, or its number in the list. */
static void enter(struct reader *r, const struct pgqrs_yaml_node *parent)
{
    size_t used = strlen(r->path);
    if (parent->kind == PGQRS_YAML_MAPPING) {
        enter_key(r, parent->items[parent->count - 2].text);
    } else {
        (void)snprintf(r->path + used, sizeof r->path - used, "[%zu]", parent->count - 1);
    }
}

static int by_text(const void *a, const void *b)
{
    const struct pgqrs_yaml_node *const *x = a;
    const struct pgqrs_yaml_node *const *y = b;
    int order = strcmp((*x)->text, (*y)->text);
    return order != 0 ? order : (*x)->line < (*y)->line ? -1 : (*x)->line > (*y)->line;
}

static int check_unique(struct reader *r, const struct pgqrs_yaml_node *mapping)
{
    size_t n = mapping->count / 2;
    const struct pgqrs_yaml_node **keys = calloc(n + 1, sizeof *keys);
    if (keys == NULL) {
        return pgqrs_error_memory(r->err);
    }
    for (size_t i = 0; i < n; i++) {
        keys[i] = &mapping->items[2 * i];
    }
    qsort(keys, n, sizeof *keys, by_text);
    int rc = 0;
    for (size_t i = 1; i < n && rc == 0; i++) {
        if (strcmp(keys[i - 1]->text, keys[i]->text) == 0) {
            r->line = keys[i]->line;
            rc = pgqrs_error_set(r->err, PGQRS_ERR_CONFIG,
                                 "found this key again, expected it once (it is on line %zu)",
                                 keys[i - 1]->line);
            enter_key(r, keys[i]->text);
        }
    }
    free(keys);
    return rc;
}

static int read_node(struct reader *r, yaml_event_t *event, struct pgqrs_yaml_node *node,
                     unsigned depth);

/* Reads items up to the end event of the parent. */
static int read_items(struct reader *r, yaml_event_type_t end, struct pgqrs_yaml_node *node,
                      unsigned depth)
{
    for (;;) {
        yaml_event_t event;
        if (next(r, &event) < 0) {
            return -1;
        }
        if (event.type == end) {
            yaml_event_delete(&event);
            return node->kind == PGQRS_YAML_MAPPING ? check_unique(r, node) : 0;
        }
        struct pgqrs_yaml_node *item = append(r, node);
        bool key = node->kind == PGQRS_YAML_MAPPING && node->count % 2 == 1;
        size_t here = strlen(r->path);
        if (!key && item != NULL) {
            enter(r, node);
        }
        int rc = item == NULL ? -1 : read_node(r, &event, item, depth + 1);
        yaml_event_delete(&event);
        if (rc < 0) {
            return -1;
        }
        r->path[here] = 0;
        if (key && item->kind != PGQRS_YAML_SCALAR) {
            char shown[PGQRS_YAML_SHOWN];
            return refuse(r, item->line, pgqrs_yaml_show(item, shown), "a key");
        }
    }
}

static int read_scalar(struct reader *r, const yaml_event_t *event, struct pgqrs_yaml_node *node)
{
    const char *value = (const char *)event->data.scalar.value;
    if (memchr(value, 0, event->data.scalar.length) != NULL) {
        return refuse(r, node->line, "text with a zero byte", "text without");
    }
    node->kind = PGQRS_YAML_SCALAR;
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node->text = strdup(value);
    return node->text == NULL ? pgqrs_error_memory(r->err) : 0;
}

/* What the event has beside its value, and is not for a configuration. */
static int check_plain(struct reader *r, const yaml_event_t *event)
{
    bool scalar = event->type == YAML_SCALAR_EVENT;
    bool sequence = event->type == YAML_SEQUENCE_START_EVENT;
    const yaml_char_t *tag = scalar     ? event->data.scalar.tag
                             : sequence ? event->data.sequence_start.tag
                                        : event->data.mapping_start.tag;
    const yaml_char_t *anchor = scalar     ? event->data.scalar.anchor
                                : sequence ? event->data.sequence_start.anchor
                                           : event->data.mapping_start.anchor;
    char found[PGQRS_YAML_SHOWN];
    if (tag != NULL) {
        (void)snprintf(found, sizeof found, "tag \"%.60s\"", (const char *)tag);
        return refuse(r, event->start_mark.line + 1, found,
                      "none (in quotes a value is text, without it is what it looks like)");
    }
    if (anchor != NULL) {
        (void)snprintf(found, sizeof found, "anchor \"&%.60s\"", (const char *)anchor);
        return refuse(r, event->start_mark.line + 1, found, "none (aliases are not supported)");
    }
    return 0;
}

static int read_node(struct reader *r, yaml_event_t *event, struct pgqrs_yaml_node *node,
                     unsigned depth)
{
    node->line = event->start_mark.line + 1;
    if (event->type == YAML_ALIAS_EVENT) {
        char found[PGQRS_YAML_SHOWN];
        (void)snprintf(found, sizeof found, "alias \"*%.60s\"",
                       (const char *)event->data.alias.anchor);
        return refuse(r, node->line, found, "the value itself (aliases are not supported)");
    }
    if (depth > PGQRS_YAML_DEPTH_MAX) {
        return refuse(r, node->line, "more than 32 levels of lists and mappings", "fewer");
    }
    if (check_plain(r, event) < 0) {
        return -1;
    }
    if (event->type == YAML_SCALAR_EVENT) {
        return read_scalar(r, event, node);
    }
    bool sequence = event->type == YAML_SEQUENCE_START_EVENT;
    node->kind = sequence ? PGQRS_YAML_SEQUENCE : PGQRS_YAML_MAPPING;
    return read_items(r, sequence ? YAML_SEQUENCE_END_EVENT : YAML_MAPPING_END_EVENT, node, depth);
}

/* Stream start, document start, node, document end, stream end. */
static int read_stream(struct reader *r, struct pgqrs_yaml_node *root)
{
    for (;;) {
        yaml_event_t event;
        if (next(r, &event) < 0) {
            return -1;
        }
        yaml_event_type_t type = event.type;
        int rc = 0;
        if (type == YAML_DOCUMENT_START_EVENT && root->kind != PGQRS_YAML_NONE) {
            rc = refuse(r, event.start_mark.line + 1, "a second document", "one");
        } else if (type == YAML_SCALAR_EVENT || type == YAML_ALIAS_EVENT ||
                   type == YAML_SEQUENCE_START_EVENT || type == YAML_MAPPING_START_EVENT) {
            rc = read_node(r, &event, root, 1);
        }
        yaml_event_delete(&event);
        if (rc < 0 || type == YAML_STREAM_END_EVENT) {
            return rc;
        }
    }
}

/* ---- the file ---- */

static int read_file(const char *path, unsigned char **data_out, size_t *len_out,
                     struct pgqrs_error *err)
{
    unsigned char *data = malloc(PGQRS_YAML_FILE_MAX + 1);
    if (data == NULL) {
        return pgqrs_error_memory(err);
    }
    FILE *file = fopen(path, "re");
    size_t len = file == NULL ? 0 : fread(data, 1, PGQRS_YAML_FILE_MAX + 1, file);
    int rc = 0;
    if (file == NULL || ferror(file)) {
        rc = pgqrs_error_sys(err, PGQRS_ERR_CONFIG, errno, "can not be read");
    } else if (len > PGQRS_YAML_FILE_MAX) {
        rc = pgqrs_error_set(err, PGQRS_ERR_CONFIG, "found more than 1 MiB, expected less");
    }
    if (file != NULL) {
        (void)fclose(file); /* was only read */
    }
    if (rc < 0) {
        free(data);
        return -1;
    }
    *data_out = data;
    *len_out = len;
    return 0;
}

int pgqrs_yaml_read(const char *path, struct pgqrs_yaml_node *root_out, struct pgqrs_error *err)
{
    struct reader r = {.err = err};
    struct pgqrs_yaml_node root = {0};
    unsigned char *data = NULL;
    size_t len = 0;
    if (read_file(path, &data, &len, err) < 0) {
        return pgqrs_yaml_error_at(err, path, 0);
    }
    if (!yaml_parser_initialize(&r.parser)) {
        free(data);
        return pgqrs_error_memory(err);
    }
    yaml_parser_set_input_string(&r.parser, data, len);
    int rc = read_stream(&r, &root);
    yaml_parser_delete(&r.parser);
    free(data);
    if (rc < 0) {
        pgqrs_yaml_fini(&root);
        if (r.path[0] != 0) {
            (void)pgqrs_error_prefix(err, "%s", r.path);
        }
        return pgqrs_yaml_error_at(err, path, r.line);
    }
    *root_out = root;
    return 0;
}

const struct pgqrs_yaml_node *pgqrs_yaml_get(const struct pgqrs_yaml_node *mapping, const char *key)
{
    for (size_t i = 0; mapping->kind == PGQRS_YAML_MAPPING && i + 1 < mapping->count; i += 2) {
        if (strcmp(mapping->items[i].text, key) == 0) {
            return &mapping->items[i + 1];
        }
    }
    return NULL;
}
