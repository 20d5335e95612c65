/* SPDX-License-Identifier: Apache-2.0 */
/* The store alone, for a program that serves no queues. */
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/locate.h"
#include "config/settings.h"
#include "config/yaml_tree.h"

static int take_dsn(const char *path, const struct pgqrs_yaml_node *root, const char *dir,
                    char **dsn_out, struct pgqrs_error *err)
{
    const struct pgqrs_yaml_node *dsn = pgqrs_yaml_get(root, "dsn");
    size_t line = dsn != NULL ? dsn->line : root->line;
    if (dsn != NULL && dsn->kind == PGQRS_YAML_SCALAR && !pgqrs_yaml_is_null(dsn)) {
        if (pgqrs_locate_dsn(dsn->text, dir, dsn_out, err) == 0) {
            return 0;
        }
    } else {
        char shown[PGQRS_YAML_SHOWN];
        (void)pgqrs_error_set(err, PGQRS_ERR_CONFIG, "found %s, expected " PGQRS_EXPECTED_DSN,
                              dsn == NULL ? "nothing" : pgqrs_yaml_show(dsn, shown));
    }
    (void)pgqrs_error_prefix(err, "dsn");
    return pgqrs_yaml_error_at(err, path, line == 0 ? 1 : line);
}

static int read_dsn(const char *path, char **dsn_out, struct pgqrs_error *err)
{
    struct pgqrs_yaml_node root = {0};
    char *dir = NULL;
    if (pgqrs_yaml_read(path, &root, err) < 0) {
        return -1;
    }
    int rc = pgqrs_locate_dir_of(path, &dir, err);
    if (rc == 0) {
        rc = take_dsn(path, &root, dir, dsn_out, err);
    }
    free(dir);
    pgqrs_yaml_fini(&root);
    return rc;
}

int pgqrs_config_find_dsn(const char *dsn_flag, const char *path, char **dsn_out,
                          struct pgqrs_error *err)
{
    const char *variable = getenv("PGQRS_DSN");
    const char *file = path != NULL ? path : getenv("PGQRS_CONFIG_FILE");
    if (dsn_flag != NULL) {
        return pgqrs_locate_dsn(dsn_flag, ".", dsn_out, err) < 0 ? pgqrs_error_prefix(err, "--dsn")
                                                                 : 0;
    }
    if (variable != NULL && *variable != 0) {
        return pgqrs_locate_dsn(variable, ".", dsn_out, err) < 0
                   ? pgqrs_error_prefix(err, "PGQRS_DSN")
                   : 0;
    }
    if (file != NULL && *file != 0) {
        return read_dsn(file, dsn_out, err);
    }
    return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                           "found no store, expected --dsn, PGQRS_DSN, --config or "
                           "PGQRS_CONFIG_FILE");
}

static int check_schema(const char *text, const char *where, char **schema_out,
                        struct pgqrs_error *err)
{
    const struct pgqrs_setting *setting = pgqrs_setting_find(&pgqrs_settings_top, "schema");
    struct pgqrs_config scratch = {0};
    if (pgqrs_setting_store(setting, &scratch, text, ".", err) < 0) {
        return pgqrs_error_prefix(err, "%s", where);
    }
    *schema_out = scratch.schema;
    return 0;
}

static int read_schema(const char *path, char **schema_out, struct pgqrs_error *err)
{
    struct pgqrs_yaml_node root = {0};
    if (pgqrs_yaml_read(path, &root, err) < 0) {
        return -1;
    }
    const struct pgqrs_yaml_node *node = pgqrs_yaml_get(&root, "schema");
    bool given = node != NULL && node->kind == PGQRS_YAML_SCALAR && !pgqrs_yaml_is_null(node);
    int rc = check_schema(given ? node->text : "public", "schema", schema_out, err);
    if (rc < 0) {
        rc = pgqrs_yaml_error_at(err, path, node->line);
    }
    pgqrs_yaml_fini(&root);
    return rc;
}

int pgqrs_config_find_schema(const char *schema_flag, const char *path, char **schema_out,
                             struct pgqrs_error *err)
{
    const char *variable = getenv("PGQRS_SCHEMA");
    const char *file = path != NULL ? path : getenv("PGQRS_CONFIG_FILE");
    if (schema_flag != NULL) {
        return check_schema(schema_flag, "--schema", schema_out, err);
    }
    if (variable != NULL && *variable != 0) {
        return check_schema(variable, "PGQRS_SCHEMA", schema_out, err);
    }
    if (file != NULL && *file != 0) {
        return read_schema(file, schema_out, err);
    }
    return check_schema("public", "schema", schema_out, err);
}
