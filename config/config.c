/* SPDX-License-Identifier: Apache-2.0 */
/* From a YAML document to a configuration that can be used as it is. */
#include "config/config_priv.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/paths.h"
#include "ipc/msg.h"

/* ---- keys ---- */

static const struct setting *find_setting(const struct setting *table, const char *key)
{
    for (; table->key != NULL; table++) {
        if (strcmp(table->key, key) == 0) {
            return table;
        }
    }
    return NULL;
}

static bool is_section(const struct setting *table, const char *key)
{
    size_t len = strlen(key);
    for (; table->key != NULL; table++) {
        if (strncmp(table->key, key, len) == 0 && table->key[len] == '.') {
            return true;
        }
    }
    return false;
}

/* The keys that may stand in a section ("" is the top), each once, separated by commas. */
static void list_keys(const struct setting *table, const char *section, char *out, size_t size)
{
    size_t skip = strlen(section);
    size_t used = strlen(out);
    for (; table->key != NULL; table++) {
        if (strncmp(table->key, section, skip) != 0) {
            continue;
        }
        const char *rest = table->key + skip;
        char name[64];
        (void)snprintf(name, sizeof name, ", %.*s", (int)strcspn(rest, "."), rest);
        const char *before = strstr(out, name);
        bool listed = before != NULL && (before[strlen(name)] == ',' || before[strlen(name)] == 0);
        if (!listed && used + strlen(name) < size) {
            memcpy(out + used, name, strlen(name) + 1);
            used += strlen(name);
        }
    }
}

struct target {
    const struct setting *table;
    void *base;
    const char *path; /* what stands before the table's keys: "" or "queues.NAME." */
    /* Keys that are not in the table; both null when there are none. */
    const char *special_names; /* ", queues" */
    int (*special)(struct yaml_file *file, const char *key, const yaml_node_t *name,
                   const yaml_node_t *value, void *arg, struct pgqrs_error *err);
    void *special_arg; /* special returns 1 when the key is not its own either */
};

static int apply(struct yaml_file *file, const yaml_node_t *node, const struct target *t,
                 const char *section, struct pgqrs_error *err);

static int unknown_key(const struct yaml_file *file, const yaml_node_t *name, const char *key,
                       const struct target *t, const char *section, struct pgqrs_error *err)
{
    char known[256] = "";
    if (section[0] == 0 && t->special_names != NULL) {
        (void)snprintf(known, sizeof known, "%s", t->special_names);
    }
    list_keys(t->table, section, known, sizeof known);
    return pgqrs_yaml_error(file, name, key, err, "unknown key, expected one of: %s", known + 2);
}

static int apply_one(struct yaml_file *file, const yaml_node_t *name, const yaml_node_t *value,
                     const struct target *t, const char *section, struct pgqrs_error *err)
{
    const char *word = (const char *)name->data.scalar.value;
    char key[512];
    char full[1024];
    (void)snprintf(key, sizeof key, "%s%.255s", section, word);
    (void)snprintf(full, sizeof full, "%s%s", t->path, key);
    const struct setting *setting = strchr(word, '.') == NULL ? find_setting(t->table, key) : NULL;
    if (setting != NULL) {
        const char *text = pgqrs_yaml_text(file, value, full, err);
        if (text == NULL) {
            return -1;
        }
        return pgqrs_setting_parse(setting, t->base, text, err) < 0
                   ? pgqrs_yaml_blame(file, value, full, err)
                   : 0;
    }
    if (strchr(word, '.') == NULL && is_section(t->table, key)) {
        (void)snprintf(key, sizeof key, "%s%.255s.", section, word);
        return pgqrs_yaml_check_mapping(file, value, full, err) < 0
                   ? -1
                   : apply(file, value, t, key, err);
    }
    int rc = section[0] == 0 && t->special != NULL
                 ? t->special(file, word, name, value, t->special_arg, err)
                 : 1;
    return rc > 0 ? unknown_key(file, name, full, t, section, err) : rc;
}

static int apply(struct yaml_file *file, const yaml_node_t *node, const struct target *t,
                 const char *section, struct pgqrs_error *err)
{
    for (const yaml_node_pair_t *p = node->data.mapping.pairs.start;
         p < node->data.mapping.pairs.top; p++) {
        if (apply_one(file, yaml_document_get_node(&file->document, p->key),
                      yaml_document_get_node(&file->document, p->value), t, section, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- queues ---- */

static int directory_of(const char *path, char *out, size_t size, struct pgqrs_error *err)
{
    char copy[PATH_MAX];
    char full[PATH_MAX];
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy ||
        realpath(dirname(copy), full) == NULL || snprintf(out, size, "%s", full) >= (int)size) {
        return pgqrs_error_sys(err, PGQRS_ERR_CONFIG, errno, "%s", path);
    }
    return 0;
}

/* The absolute path of the plugin; it exists and can be read. */
static int find_handler(const struct yaml_file *file, const char *name, char *out, size_t size,
                        struct pgqrs_error *err)
{
    size_t len = strlen(name);
    bool bare = strchr(name, '/') == NULL && (len < 3 || strcmp(name + len - 3, ".so") != 0);
    char relative[PATH_MAX];
    char dir[PATH_MAX];
    struct stat st;
    if (bare) {
        (void)snprintf(relative, sizeof relative, "lib/pgqrs/handlers/%s.so", name);
        if (pgqrs_path_installed(relative, out, size, err) < 0) {
            return -1;
        }
    } else if (name[0] == '/') {
        (void)snprintf(out, size, "%s", name);
    } else {
        if (directory_of(file->path, dir, sizeof dir, err) < 0) {
            return -1;
        }
        (void)snprintf(out, size, "%s/%s", dir, name);
    }
    if (stat(out, &st) < 0 || access(out, R_OK) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_CONFIG, errno, "handler \"%s\" (%s)", name, out);
    }
    if (!S_ISREG(st.st_mode)) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "handler \"%s\" (%s): found a %s, expected a shared object", name,
                               out, S_ISDIR(st.st_mode) ? "directory" : "special file");
    }
    return 0;
}

static int take_handler_settings(struct yaml_file *file, const char *key, const yaml_node_t *name,
                                 const yaml_node_t *value, void *arg, struct pgqrs_error *err)
{
    struct pgqrs_config_queue *queue = arg;
    char full[PGQRS_NAME_MAX + 32];
    (void)name;
    if (strcmp(key, "settings") != 0) {
        return 1;
    }
    (void)snprintf(full, sizeof full, "queues.%s.settings", queue->name);
    if (pgqrs_yaml_check_mapping(file, value, full, err) < 0) {
        return -1;
    }
    char *json = pgqrs_yaml_json(file, value, full, err);
    if (json == NULL) {
        return -1;
    }
    free(queue->settings);
    queue->settings = json;
    return 0;
}

static int take_queue(struct yaml_file *file, const yaml_node_t *name, const yaml_node_t *value,
                      struct pgqrs_config_queue *queue, struct pgqrs_error *err)
{
    const char *text = (const char *)name->data.scalar.value;
    char path[PGQRS_NAME_MAX + 32];
    char handler[PATH_MAX];
    size_t len = name->data.scalar.length;
    if (len == 0 || len > PGQRS_NAME_MAX) {
        return pgqrs_yaml_error(file, name, "queues", err,
                                "found a queue name of %zu bytes, expected 1 to %d", len,
                                PGQRS_NAME_MAX);
    }
    queue->name = strdup(text);
    queue->settings = strdup("{}");
    if (queue->name == NULL || queue->settings == NULL) {
        return pgqrs_error_memory(err);
    }
    (void)snprintf(path, sizeof path, "queues.%s", text);
    if (pgqrs_yaml_check_mapping(file, value, path, err) < 0 ||
        pgqrs_settings_default(pgqrs_config_queue_settings, queue, err) < 0) {
        return -1;
    }
    (void)snprintf(path, sizeof path, "queues.%s.", text);
    const struct target t = {.table = pgqrs_config_queue_settings,
                             .base = queue,
                             .path = path,
                             .special_names = ", settings",
                             .special = take_handler_settings,
                             .special_arg = queue};
    if (apply(file, value, &t, "", err) < 0) {
        return -1;
    }
    if (queue->handler == NULL) {
        return pgqrs_yaml_error(file, name, path, err,
                                "found no handler, expected the path or the name of a plugin");
    }
    if (find_handler(file, queue->handler, handler, sizeof handler, err) < 0) {
        return pgqrs_yaml_blame(file, name, path, err);
    }
    free(queue->handler);
    queue->handler = strdup(handler);
    return queue->handler == NULL ? pgqrs_error_memory(err) : 0;
}

static int take_queues(struct yaml_file *file, const char *key, const yaml_node_t *name,
                       const yaml_node_t *value, void *arg, struct pgqrs_error *err)
{
    struct pgqrs_config *config = arg;
    if (strcmp(key, "queues") != 0) {
        return 1;
    }
    if (pgqrs_yaml_check_mapping(file, value, "queues", err) < 0) {
        return -1;
    }
    const yaml_node_pair_t *begin = value->data.mapping.pairs.start;
    size_t count = (size_t)(value->data.mapping.pairs.top - begin);
    if (count == 0 || count > PGQRS_QUEUES_MAX) {
        return pgqrs_yaml_error(file, name, "queues", err, "found %zu queues, expected 1 to %d",
                                count, PGQRS_QUEUES_MAX);
    }
    config->queues = calloc(count, sizeof *config->queues);
    if (config->queues == NULL) {
        return pgqrs_error_memory(err);
    }
    for (size_t i = 0; i < count; i++) {
        config->queue_count++;
        if (take_queue(file, yaml_document_get_node(&file->document, begin[i].key),
                       yaml_document_get_node(&file->document, begin[i].value), &config->queues[i],
                       err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* For who wants only the DSN. */
static int skip_queues(struct yaml_file *file, const char *key, const yaml_node_t *name,
                       const yaml_node_t *value, void *arg, struct pgqrs_error *err)
{
    (void)file;
    (void)name;
    (void)value;
    (void)arg;
    (void)err;
    return strcmp(key, "queues") == 0 ? 0 : 1;
}

/* ---- the whole ---- */

static int apply_environment(struct pgqrs_config *config, struct pgqrs_error *err)
{
    for (const struct setting *s = pgqrs_config_settings; s->key != NULL; s++) {
        const char *text = s->environment == NULL ? NULL : getenv(s->environment);
        if (text != NULL && pgqrs_setting_parse(s, config, text, err) < 0) {
            return pgqrs_error_prefix(err, "environment variable %s", s->environment);
        }
    }
    return 0;
}

/* The daemon and the command line must mean the same file, wherever they are started. */
static int anchor_dsn(char **dsn, const char *dir, struct pgqrs_error *err)
{
    const char *path = *dsn;
    if (strncmp(path, "sqlite:", 7) != 0) {
        return 0;
    }
    path += strncmp(path, "sqlite://", 9) == 0 ? 9 : 7;
    if (path[0] == '/' || path[0] == ':' || path[0] == 0) {
        return 0;
    }
    char *absolute = NULL;
    if (asprintf(&absolute, "sqlite:%s/%s", dir, path) < 0) {
        return pgqrs_error_memory(err);
    }
    free(*dsn);
    *dsn = absolute;
    return 0;
}

static int check_scheme(const char *dsn, struct pgqrs_error *err)
{
    static const char *const later[] = {"postgres:", "postgresql:", "turso:", "s3:"};
    if (strncmp(dsn, "sqlite:", 7) == 0) {
        return 0;
    }
    int scheme = (int)strcspn(dsn, ":/@");
    for (size_t i = 0; i < sizeof later / sizeof *later; i++) {
        if (strncmp(dsn, later[i], strlen(later[i])) == 0) {
            return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                                   "dsn: found scheme \"%.*s\", which this version does not "
                                   "support, expected sqlite:",
                                   scheme, dsn);
        }
    }
    return pgqrs_error_set(
        err, PGQRS_ERR_CONFIG,
        "dsn: found unknown scheme \"%.*s\", expected sqlite:", scheme > 20 ? 20 : scheme, dsn);
}

static int apply_file(struct yaml_file *file, struct pgqrs_config *config, bool with_queues,
                      struct pgqrs_error *err)
{
    char dir[PATH_MAX];
    const struct target t = {.table = pgqrs_config_settings,
                             .base = config,
                             .path = "",
                             .special_names = ", queues",
                             .special = with_queues ? take_queues : skip_queues,
                             .special_arg = config};
    const yaml_node_t *root = yaml_document_get_root_node(&file->document);
    if (pgqrs_yaml_check_mapping(file, root, "", err) < 0 || apply(file, root, &t, "", err) < 0 ||
        directory_of(file->path, dir, sizeof dir, err) < 0) {
        return -1;
    }
    return config->dsn == NULL ? 0 : anchor_dsn(&config->dsn, dir, err);
}

static int check_whole(const char *path, const struct pgqrs_config *config, struct pgqrs_error *err)
{
    if (config->dsn == NULL) {
        return pgqrs_error_set(
            err, PGQRS_ERR_CONFIG,
            "%s: found no dsn, expected one such as sqlite:///var/lib/pgqrs/q.db", path);
    }
    if (check_scheme(config->dsn, err) < 0) {
        return pgqrs_error_prefix(err, "%s", path);
    }
    if (config->queue_count == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "%s: found no queues, expected at least one",
                               path);
    }
    if (config->heartbeat_timeout_ms < 3 * config->heartbeat_interval_ms) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "%s: heartbeat.timeout: found %lld ms, expected at least 3 times "
                               "heartbeat.interval, which is %lld ms",
                               path, (long long)config->heartbeat_timeout_ms,
                               (long long)config->heartbeat_interval_ms);
    }
    return 0;
}

int pgqrs_config_load(const char *path, struct pgqrs_config **config_out, struct pgqrs_error *err)
{
    struct yaml_file file;
    char cwd[PATH_MAX];
    struct pgqrs_config *config = calloc(1, sizeof *config);
    if (config == NULL) {
        return pgqrs_error_memory(err);
    }
    int rc = pgqrs_yaml_load(path, &file, err);
    if (rc == 0) {
        rc = pgqrs_settings_default(pgqrs_config_settings, config, err);
        if (rc == 0) {
            rc = apply_file(&file, config, true, err);
        }
        pgqrs_yaml_fini(&file);
    }
    if (rc == 0) {
        rc = apply_environment(config, err);
    }
    if (rc == 0) {
        rc = check_whole(path, config, err);
    }
    if (rc == 0 && getcwd(cwd, sizeof cwd) != NULL) {
        rc = anchor_dsn(&config->dsn, cwd, err);
    }
    if (rc < 0) {
        pgqrs_config_destroy(&config);
        return -1;
    }
    *config_out = config;
    return 0;
}

static int dsn_from_file(const char *path, char **dsn_out, struct pgqrs_error *err)
{
    struct yaml_file file;
    struct pgqrs_config config = {0};
    if (pgqrs_yaml_load(path, &file, err) < 0) {
        return -1;
    }
    int rc = apply_file(&file, &config, false, err);
    if (rc == 0 && config.dsn == NULL) {
        rc = pgqrs_error_set(err, PGQRS_ERR_CONFIG, "%s: found no dsn", path);
    }
    if (rc == 0) {
        *dsn_out = config.dsn;
        config.dsn = NULL;
    }
    pgqrs_yaml_fini(&file);
    pgqrs_settings_free(pgqrs_config_settings, &config);
    return rc;
}

int pgqrs_config_find_dsn(const char *dsn_flag, const char *path, char **dsn_out,
                          struct pgqrs_error *err)
{
    const char *dsn = dsn_flag != NULL ? dsn_flag : getenv("PGQRS_DSN");
    path = path != NULL ? path : getenv("PGQRS_CONFIG_FILE");
    if (dsn != NULL) {
        *dsn_out = strdup(dsn);
        return *dsn_out == NULL ? pgqrs_error_memory(err) : 0;
    }
    if (path == NULL && access("pgqrsd.yaml", R_OK) == 0) {
        path = "pgqrsd.yaml";
    }
    if (path == NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "no store named: use --dsn, PGQRS_DSN, --config or "
                               "PGQRS_CONFIG_FILE");
    }
    return dsn_from_file(path, dsn_out, err);
}

void pgqrs_config_destroy(struct pgqrs_config **config_ptr)
{
    struct pgqrs_config *config = *config_ptr;
    if (config == NULL) {
        return;
    }
    *config_ptr = NULL;
    for (size_t i = 0; i < config->queue_count; i++) {
        free(config->queues[i].name);
        free(config->queues[i].settings);
        pgqrs_settings_free(pgqrs_config_queue_settings, &config->queues[i]);
    }
    free(config->queues);
    pgqrs_settings_free(pgqrs_config_settings, config);
    free(config);
}
