/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CONFIG_CONFIG_PRIV_H
#define PGQRS_CONFIG_CONFIG_PRIV_H

/* What the files of this folder share. */

#include <yaml.h>

#include "config/config.h"

enum setting_type {
    SETTING_TEXT = 1,
    SETTING_INTEGER,  /* int64_t */
    SETTING_DURATION, /* int64_t, ms */
    SETTING_FLAG,     /* bool */
    SETTING_CHOICE,   /* int, one of the choices */
};

struct setting_choice {
    const char *name;
    int value;
};

/* One row a setting: parser, defaults and --settings all read it. */
struct setting {
    const char *key; /* "drain" of the section "shutdown" is "shutdown.drain" */
    enum setting_type type;
    size_t offset;            /* into struct pgqrs_config, or struct pgqrs_config_queue */
    const char *default_text; /* null: none */
    int64_t min, max;
    const struct setting_choice *choices; /* ends with a null name */
    const char *environment;              /* variable that overrides it, or null */
    const char *help;
};

extern const struct setting pgqrs_config_settings[];       /* ends with a null key */
extern const struct setting pgqrs_config_queue_settings[]; /* ends with a null key */

/* ---- settings.c ---- */
/* Parses text into the field; the error says what was found and what was expected. */
int pgqrs_setting_parse(const struct setting *setting, void *base, const char *text,
                        struct pgqrs_error *err) PGQRS_MUST_CHECK;
int pgqrs_settings_default(const struct setting *table, void *base,
                           struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_settings_free(const struct setting *table, void *base);

/* ---- yaml_file.c ---- */
struct yaml_file {
    const char *path;
    yaml_document_t document;
    bool loaded;
};

/* Reads one document; the error names file and line. */
int pgqrs_yaml_load(const char *path, struct yaml_file *file,
                    struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_yaml_fini(struct yaml_file *file);
/* Sets err to "FILE:LINE: KEY: ..." and returns -1. key may be empty. */
int pgqrs_yaml_error(const struct yaml_file *file, const yaml_node_t *node, const char *key,
                     struct pgqrs_error *err, const char *fmt, ...) PGQRS_PRINTF(5, 6);
/* Puts that in front of the text that is in err. */
int pgqrs_yaml_blame(const struct yaml_file *file, const yaml_node_t *node, const char *key,
                     struct pgqrs_error *err);
/* The text of a scalar, or null with err set. */
const char *pgqrs_yaml_text(const struct yaml_file *file, const yaml_node_t *node, const char *key,
                            struct pgqrs_error *err);
/* Fails unless it is a mapping whose keys are all different texts. */
int pgqrs_yaml_check_mapping(struct yaml_file *file, const yaml_node_t *node, const char *key,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* JSON text of any node, after YAML's core schema; on the heap. */
char *pgqrs_yaml_json(struct yaml_file *file, const yaml_node_t *node, const char *key,
                      struct pgqrs_error *err);
const char *pgqrs_yaml_kind(const yaml_node_t *node);

#endif
