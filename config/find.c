/* SPDX-License-Identifier: Apache-2.0 */
/* Where the store and a running pgqrsd are, for a program that serves no queues. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/locate.h"
#include "config/settings.h"
#include "config/variable.h"
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
    struct pgqrs_variable variable = {0};
    const char *file = path != NULL ? path : getenv("PGQRS_CONFIG_FILE");
    if (dsn_flag != NULL) {
        return pgqrs_locate_dsn(dsn_flag, ".", dsn_out, err) < 0 ? pgqrs_error_prefix(err, "--dsn")
                                                                 : 0;
    }
    if (pgqrs_variable_read("PGQRS_DSN", true, &variable, err) < 0) {
        return -1;
    }
    if (variable.text != NULL) {
        int rc = pgqrs_locate_dsn(variable.text, ".", dsn_out, err) < 0
                     ? pgqrs_variable_refused(&variable, err)
                     : 0;
        pgqrs_variable_fini(&variable);
        return rc;
    }
    if (file != NULL && *file != 0) {
        return read_dsn(file, dsn_out, err);
    }
    return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                           "found no store, expected --dsn, PGQRS_DSN, --config or "
                           "PGQRS_CONFIG_FILE, or a file ./pgqrs.yaml or " PGQRS_SYSTEM_CONFIG);
}

/* ---- single settings ---- */

static int store(const struct pgqrs_setting *setting, struct pgqrs_config *scratch,
                 const char *text, const char *dir, const char *where, struct pgqrs_error *err)
{
    return pgqrs_setting_store(setting, scratch, text, dir, err) < 0
               ? pgqrs_error_prefix(err, "%s", where)
               : 0;
}

/* False in given_out: the file says nothing of it. */
static int store_from_file(const struct pgqrs_setting *setting, struct pgqrs_config *scratch,
                           const char *path, bool *given_out, struct pgqrs_error *err)
{
    struct pgqrs_yaml_node root = {0};
    char *dir = NULL;
    if (pgqrs_yaml_read(path, &root, err) < 0) {
        return -1;
    }
    const struct pgqrs_yaml_node *node = pgqrs_yaml_get(&root, setting->key);
    *given_out = node != NULL && node->kind == PGQRS_YAML_SCALAR && !pgqrs_yaml_is_null(node);
    int rc = *given_out ? pgqrs_locate_dir_of(path, &dir, err) : 0;
    if (rc == 0 && *given_out && store(setting, scratch, node->text, dir, setting->key, err) < 0) {
        rc = pgqrs_yaml_error_at(err, path, node->line);
    }
    free(dir);
    pgqrs_yaml_fini(&root);
    return rc;
}

/* One setting of the top level that is a text: the flag over the variable over the file over the
 * default. */
static int find(const char *key, const char *flag, const char *path, struct pgqrs_config *scratch,
                struct pgqrs_error *err)
{
    const struct pgqrs_setting *setting = pgqrs_setting_find(&pgqrs_settings_top, key);
    struct pgqrs_variable variable = {0};
    const char *file = path != NULL ? path : getenv("PGQRS_CONFIG_FILE");
    bool given = false;
    if (flag != NULL) {
        char where[32];
        (void)snprintf(where, sizeof where, "--%s", key);
        return store(setting, scratch, flag, ".", where, err);
    }
    if (pgqrs_variable_read(setting->variable, setting->type == PGQRS_SETTING_DSN, &variable, err) <
        0) {
        return -1;
    }
    if (variable.text != NULL) {
        int rc = pgqrs_setting_store(setting, scratch, variable.text, ".", err) < 0
                     ? pgqrs_variable_refused(&variable, err)
                     : 0;
        pgqrs_variable_fini(&variable);
        return rc;
    }
    if (file != NULL && *file != 0 && store_from_file(setting, scratch, file, &given, err) < 0) {
        return -1;
    }
    return given || setting->def == NULL ? 0 : store(setting, scratch, setting->def, ".", key, err);
}

int pgqrs_config_find_schema(const char *schema_flag, const char *path, char **schema_out,
                             struct pgqrs_error *err)
{
    struct pgqrs_config scratch = {0};
    if (find("schema", schema_flag, path, &scratch, err) < 0) {
        return -1;
    }
    *schema_out = scratch.schema;
    return 0;
}

int pgqrs_config_find_wake_dsn(const char *path, char **dsn_out, struct pgqrs_error *err)
{
    struct pgqrs_config scratch = {0};
    if (find("wake_dsn", NULL, path, &scratch, err) < 0) {
        return -1;
    }
    *dsn_out = scratch.wake_dsn;
    return 0;
}

int pgqrs_config_find_runtime(const char *path, char **name_out, char **dir_out,
                              struct pgqrs_error *err)
{
    struct pgqrs_config scratch = {0};
    if (find("name", NULL, path, &scratch, err) < 0 ||
        find("runtime_dir", NULL, path, &scratch, err) < 0) {
        free(scratch.name);
        return -1;
    }
    *name_out = scratch.name;
    *dir_out = scratch.runtime_dir;
    return 0;
}
