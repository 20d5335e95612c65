/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "config/isolation.h"
#include "config/locate.h"
#include "config/settings.h"
#include "config/yaml_tree.h"
#include "ipc/msg.h"

/* What the supervisor can tell a broker about in one message. */
#define SETTINGS_TEXT_MAX (512u * 1024)
#define SCHEDULE_PAYLOAD_MAX (PGQRS_SCHEDULE_PAYLOAD_MAX - 32u) /* and a wrapper */
#define BEATS_MIN 3

struct loader {
    const char *path;
    char *dir; /* of the file */
    struct pgqrs_config *config;
    const struct pgqrs_yaml_node *schedules; /* null: there is no such key */
    struct pgqrs_error *err;
};

/* One mapping of the file: which rows it is for, and where their values go. */
struct scope {
    const struct pgqrs_settings *settings;
    void *object;
    const char *shown;  /* what stands before a key in an error, such as "queues.mail.retry." */
    const char *prefix; /* what stands before it in the table, such as "retry." */
};

/* Completes an error with key, line and file. */
static int fail_at(const struct loader *l, size_t line, const char *key)
{
    if (key != NULL) {
        (void)pgqrs_error_prefix(l->err, "%s", key);
    }
    return pgqrs_yaml_error_at(l->err, l->path, line);
}

static int fail_kind(const struct loader *l, const struct pgqrs_yaml_node *node, const char *key,
                     const char *expected)
{
    char shown[PGQRS_YAML_SHOWN];
    (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG, "found %s, expected %s",
                          pgqrs_yaml_show(node, shown), expected);
    return fail_at(l, node->line, key);
}

static int apply_mapping(struct loader *l, const struct pgqrs_yaml_node *mapping,
                         const struct scope *scope);

/* ---- queues ---- */

/* A mapping: as many as the load asks for. */
static int check_consumers(const struct loader *l, struct pgqrs_config_queue *queue,
                           const struct pgqrs_yaml_node *value, const char *shown)
{
    char name[320];
    const struct pgqrs_yaml_node *consumers = pgqrs_yaml_get(value, "consumers");
    if (consumers == NULL || consumers->kind != PGQRS_YAML_MAPPING) {
        return 0;
    }
    if (queue->consumers_max < 1 || queue->consumers_max < queue->consumers_min) {
        const struct pgqrs_yaml_node *max = pgqrs_yaml_get(consumers, "max");
        (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG,
                              "found %s%" PRId64 ", expected at least 1 and at least "
                              "consumers.min, which is %" PRId64,
                              max == NULL ? "nothing, which is " : "", queue->consumers_max,
                              queue->consumers_min);
        (void)snprintf(name, sizeof name, "%sconsumers.max", shown);
        return fail_at(l, max == NULL ? consumers->line : max->line, name);
    }
    queue->consumers = queue->consumers_min;
    return 0;
}

static int check_queue(const struct loader *l, struct pgqrs_config_queue *queue,
                       const struct pgqrs_yaml_node *key, const struct pgqrs_yaml_node *value,
                       const char *shown)
{
    char name[320];
    const struct pgqrs_yaml_node *retry = pgqrs_yaml_get(value, "retry");
    if (queue->handler == NULL) {
        (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG,
                              "found nothing, expected the path of a plugin or the name of an "
                              "installed one");
        (void)snprintf(name, sizeof name, "%shandler", shown);
        return fail_at(l, key->line, name);
    }
    if (check_consumers(l, queue, value, shown) < 0) {
        return -1;
    }
    if (queue->retry_max_ms < queue->retry_base_ms) {
        char max[32];
        char base[32];
        pgqrs_duration_format(queue->retry_max_ms, max, sizeof max);
        pgqrs_duration_format(queue->retry_base_ms, base, sizeof base);
        (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG,
                              "found %s, expected at least retry.base, which is %s", max, base);
        (void)snprintf(name, sizeof name, "%sretry.max", shown);
        return fail_at(l, retry != NULL ? retry->line : key->line, name);
    }
    const struct pgqrs_yaml_node *isolation = pgqrs_yaml_get(value, "isolation");
    const char *setting = NULL;
    if (isolation != NULL && pgqrs_isolation_resolve(&queue->isolation, &setting, l->err) < 0) {
        const struct pgqrs_yaml_node *found = pgqrs_yaml_get(isolation, setting);
        (void)snprintf(name, sizeof name, "%sisolation.%s", shown, setting);
        return fail_at(l, found != NULL ? found->line : isolation->line, name);
    }
    return 0;
}

static int load_queue(struct loader *l, const struct pgqrs_yaml_node *key,
                      const struct pgqrs_yaml_node *value, struct pgqrs_config_queue *queue)
{
    char shown[PGQRS_NAME_MAX + 16];
    size_t len = strlen(key->text);
    (void)snprintf(shown, sizeof shown, "queues.%.100s.", key->text);
    if (len == 0 || len > PGQRS_NAME_MAX) {
        (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG,
                              "found a queue name of %zu bytes, expected 1 to %d", len,
                              PGQRS_NAME_MAX);
        return fail_at(l, key->line, "queues");
    }
    queue->name = strdup(key->text);
    if (queue->name == NULL) {
        return pgqrs_error_memory(l->err);
    }
    queue->isolation.core = -1; /* 0 is a value, and there is no default */
    if (pgqrs_settings_defaults(&pgqrs_settings_of_queue, queue, l->err) < 0) {
        return -1;
    }
    const struct scope scope = {
        .settings = &pgqrs_settings_of_queue, .object = queue, .shown = shown, .prefix = ""};
    if (apply_mapping(l, value, &scope) < 0) {
        return -1;
    }
    return check_queue(l, queue, key, value, shown);
}

static int load_queues(struct loader *l, const struct pgqrs_yaml_node *node)
{
    struct pgqrs_config *config = l->config;
    size_t count = node->count / 2;
    int64_t consumers = 0;
    if (node->kind != PGQRS_YAML_MAPPING) {
        return fail_kind(l, node, "queues", "a mapping from queue names to their settings");
    }
    if (count == 0 || count > PGQRS_QUEUES_MAX) {
        (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG, "found %zu queues, expected 1 to %d", count,
                              PGQRS_QUEUES_MAX);
        return fail_at(l, node->line, "queues");
    }
    config->queues = calloc(count, sizeof *config->queues);
    if (config->queues == NULL) {
        return pgqrs_error_memory(l->err);
    }
    for (size_t i = 0; i < count; i++) {
        struct pgqrs_config_queue *queue = &config->queues[config->queue_count++];
        if (load_queue(l, &node->items[2 * i], &node->items[2 * i + 1], queue) < 0) {
            return -1;
        }
        consumers += queue->consumers_max > 0 ? queue->consumers_max : queue->consumers;
    }
    if (consumers > PGQRS_WORKERS_MAX) {
        (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG,
                              "found %" PRId64 " consumers in all queues together, expected at "
                              "most %d",
                              consumers, PGQRS_WORKERS_MAX);
        return fail_at(l, node->line, "queues");
    }
    return 0;
}

/* ---- schedules ---- */

static bool is_queue(const struct pgqrs_config *config, const char *name)
{
    for (size_t i = 0; i < config->queue_count; i++) {
        if (strcmp(config->queues[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static int check_schedule(const struct loader *l, const struct pgqrs_config_schedule *s,
                          const struct pgqrs_yaml_node *key, const struct pgqrs_yaml_node *value,
                          const char *shown)
{
    char name[320];
    const char *missing = s->cron == NULL                           ? "cron"
                          : s->queue == NULL && s->workflow == NULL ? "queue"
                                                                    : NULL;
    if (missing != NULL) {
        (void)snprintf(name, sizeof name, "%s%s", shown, missing);
        (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG, "found nothing, expected %s",
                              s->cron == NULL ? "a cron expression, such as 30 2 * * *"
                                              : "the name of a queue, or workflow instead");
        return fail_at(l, key->line, name);
    }
    const char *kind = s->workflow != NULL ? "workflow" : "queue";
    const char *queue = s->workflow != NULL ? s->workflow : s->queue;
    (void)snprintf(name, sizeof name, "%s%s", shown, kind);
    if (s->queue != NULL && s->workflow != NULL) {
        (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG,
                              "found a workflow and a queue, expected one of them");
        return fail_at(l, pgqrs_yaml_get(value, kind)->line, name);
    }
    if (!is_queue(l->config, queue)) {
        (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG,
                              "found \"%.60s\", expected the name of one of the queues", queue);
        return fail_at(l, pgqrs_yaml_get(value, kind)->line, name);
    }
    return 0;
}

static int wrap_input(struct pgqrs_config_schedule *s, struct pgqrs_error *err)
{
    char *wrapped = NULL;
    if (s->workflow == NULL) {
        return 0;
    }
    if (asprintf(&wrapped, "{\"input\": %s}", s->payload) < 0) {
        return pgqrs_error_memory(err);
    }
    free(s->payload);
    s->payload = wrapped;
    return 0;
}

static int load_schedule(struct loader *l, const struct pgqrs_yaml_node *key,
                         const struct pgqrs_yaml_node *value, struct pgqrs_config_schedule *s)
{
    char shown[PGQRS_NAME_MAX + 16];
    size_t len = strlen(key->text);
    (void)snprintf(shown, sizeof shown, "schedules.%.100s.", key->text);
    if (len == 0 || len > PGQRS_SCHEDULE_NAME_MAX) {
        (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG,
                              "found a schedule's name of %zu bytes, expected 1 to %d", len,
                              PGQRS_SCHEDULE_NAME_MAX);
        return fail_at(l, key->line, "schedules");
    }
    s->name = strdup(key->text);
    if (s->name == NULL) {
        return pgqrs_error_memory(l->err);
    }
    if (pgqrs_settings_defaults(&pgqrs_settings_of_schedule, s, l->err) < 0) {
        return -1;
    }
    const struct scope scope = {
        .settings = &pgqrs_settings_of_schedule, .object = s, .shown = shown, .prefix = ""};
    if (apply_mapping(l, value, &scope) < 0 || check_schedule(l, s, key, value, shown) < 0) {
        return -1;
    }
    return wrap_input(s, l->err);
}

static size_t size_of(const struct pgqrs_config_schedule *s)
{
    const char *const texts[] = {s->name, s->cron, s->zone, s->payload};
    size_t size = PGQRS_NAME_MAX;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        size += texts[i] == NULL ? 0 : strlen(texts[i]);
    }
    return size;
}

/* After the queues, wherever it stands. */
static int load_schedules(struct loader *l, const struct pgqrs_yaml_node *node)
{
    struct pgqrs_config *config = l->config;
    size_t count = node->count / 2;
    size_t bytes = 0;
    if (node->kind != PGQRS_YAML_MAPPING) {
        return fail_kind(l, node, "schedules", "a mapping from schedules' names to their settings");
    }
    if (count > PGQRS_SCHEDULES_MAX) {
        (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG, "found %zu schedules, expected 0 to %d",
                              count, PGQRS_SCHEDULES_MAX);
        return fail_at(l, node->line, "schedules");
    }
    config->schedules = calloc(count + 1, sizeof *config->schedules);
    if (config->schedules == NULL) {
        return pgqrs_error_memory(l->err);
    }
    for (size_t i = 0; i < count; i++) {
        struct pgqrs_config_schedule *s = &config->schedules[config->schedule_count++];
        if (load_schedule(l, &node->items[2 * i], &node->items[2 * i + 1], s) < 0) {
            return -1;
        }
        bytes += size_of(s);
    }
    if (bytes > PGQRS_SCHEDULES_BYTES_MAX) {
        (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG,
                              "found %zu bytes of names, expressions and payloads, expected at "
                              "most %u",
                              bytes, PGQRS_SCHEDULES_BYTES_MAX);
        return fail_at(l, node->line, "schedules");
    }
    return 0;
}

void pgqrs_config_schedules_fini(struct pgqrs_config *config)
{
    for (size_t i = 0; i < config->schedule_count; i++) {
        struct pgqrs_config_schedule *s = &config->schedules[i];
        free(s->name);
        free(s->cron);
        free(s->zone);
        free(s->queue);
        free(s->workflow);
        free(s->payload);
    }
    free(config->schedules);
    config->schedules = NULL;
    config->schedule_count = 0;
}

/* ---- keys and values ---- */

static int apply_object(const struct loader *l, const struct pgqrs_yaml_node *node,
                        const struct pgqrs_setting *row, const struct scope *scope, const char *key)
{
    size_t line = node->line;
    size_t max = row->type == PGQRS_SETTING_JSON ? SCHEDULE_PAYLOAD_MAX : SETTINGS_TEXT_MAX;
    if (node->kind != PGQRS_YAML_MAPPING && row->type == PGQRS_SETTING_OBJECT) {
        return fail_kind(l, node, key, "a mapping");
    }
    json_t *json = pgqrs_yaml_to_json(node, &line, l->err);
    if (json == NULL) {
        return fail_at(l, line, key);
    }
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(json);
    if (text == NULL) {
        return pgqrs_error_memory(l->err);
    }
    size_t len = strlen(text);
    int rc = len <= max
                 ? pgqrs_setting_store(row, scope->object, text, l->dir, l->err)
                 : pgqrs_error_set(l->err, PGQRS_ERR_CONFIG,
                                   "found %zu bytes as JSON, expected at most %zu", len, max);
    free(text);
    return rc < 0 ? fail_at(l, node->line, key) : 0;
}

static int apply_names(const struct loader *l, const struct pgqrs_yaml_node *node,
                       const struct pgqrs_setting *row, const struct scope *scope, const char *key)
{
    size_t line = node->line;
    char *text = NULL;
    if (node->kind != PGQRS_YAML_SEQUENCE) {
        return fail_kind(l, node, key, "a list of names of variables");
    }
    int rc = pgqrs_isolation_names(node, &text, &line, l->err);
    if (rc == 0) {
        rc = pgqrs_setting_store(row, scope->object, text, l->dir, l->err);
    }
    free(text);
    return rc < 0 ? fail_at(l, line, key) : 0;
}

static int apply_row(struct loader *l, const struct pgqrs_yaml_node *node,
                     const struct pgqrs_setting *row, const struct scope *scope, const char *key)
{
    char expected[128];
    if (row->type == PGQRS_SETTING_QUEUES) {
        return load_queues(l, node);
    }
    if (row->type == PGQRS_SETTING_SCHEDULES) {
        l->schedules = node;
        return 0;
    }
    if (row->type == PGQRS_SETTING_OBJECT || row->type == PGQRS_SETTING_JSON) {
        return apply_object(l, node, row, scope, key);
    }
    if (row->type == PGQRS_SETTING_NAMES) {
        return apply_names(l, node, row, scope, key);
    }
    if (node->kind != PGQRS_YAML_SCALAR || pgqrs_yaml_is_null(node)) {
        pgqrs_setting_expects(row, expected, sizeof expected);
        return fail_kind(l, node, key, expected);
    }
    return pgqrs_setting_store(row, scope->object, node->text, l->dir, l->err) < 0
               ? fail_at(l, node->line, key)
               : 0;
}

static int unknown_key(const struct loader *l, const struct pgqrs_yaml_node *key,
                       const struct scope *scope, const char *shown)
{
    char nearest[64];
    char known[200];
    pgqrs_settings_suggest(scope->settings, scope->prefix, key->text, nearest, known, sizeof known);
    if (nearest[0] != 0) {
        (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG,
                              "found an unknown key, expected \"%s\"? Known here: %s", nearest,
                              known);
    } else {
        (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG, "found an unknown key, expected one of: %s",
                              known);
    }
    return fail_at(l, key->line, shown);
}

static int apply_entry(struct loader *l, const struct pgqrs_yaml_node *key,
                       const struct pgqrs_yaml_node *value, const struct scope *scope)
{
    char name[64];
    char shown[320];
    bool fits = snprintf(name, sizeof name, "%s%s", scope->prefix, key->text) < (int)sizeof name;
    (void)snprintf(shown, sizeof shown, "%s%.60s", scope->shown, key->text);
    const struct pgqrs_setting *row = fits ? pgqrs_setting_find(scope->settings, name) : NULL;
    /* A dot in a key of the file is not a level. */
    if (!fits || strchr(key->text, '.') != NULL ||
        (row == NULL && !pgqrs_setting_is_group(scope->settings, name))) {
        return unknown_key(l, key, scope, shown);
    }
    bool either = row != NULL && pgqrs_setting_is_group(scope->settings, name);
    if (row != NULL && !(either && value->kind == PGQRS_YAML_MAPPING)) {
        return apply_row(l, value, row, scope, shown);
    }
    if (value->kind != PGQRS_YAML_MAPPING) {
        return fail_kind(l, value, shown, "a mapping");
    }
    (void)strcat(name, "."); /* a group's name and its dot are shorter than a row's name */
    (void)strcat(shown, ".");
    const struct scope below = {
        .settings = scope->settings, .object = scope->object, .shown = shown, .prefix = name};
    return apply_mapping(l, value, &below);
}

static int apply_mapping(struct loader *l, const struct pgqrs_yaml_node *mapping,
                         const struct scope *scope)
{
    if (mapping->kind != PGQRS_YAML_MAPPING) {
        char key[320];
        (void)snprintf(key, sizeof key, "%.*s", (int)strlen(scope->shown) - 1, scope->shown);
        return fail_kind(l, mapping, *scope->shown == 0 ? NULL : key, "a mapping");
    }
    for (size_t i = 0; i + 1 < mapping->count; i += 2) {
        if (apply_entry(l, &mapping->items[i], &mapping->items[i + 1], scope) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- the whole ---- */

static int check_whole(const struct loader *l, const struct pgqrs_yaml_node *root)
{
    const struct pgqrs_config *c = l->config;
    if (c->dsn == NULL) {
        (void)pgqrs_error_set(
            l->err, PGQRS_ERR_CONFIG,
            "found nothing, expected sqlite:PATH or postgres://... here or in PGQRS_DSN");
        return fail_at(l, root->line, "dsn");
    }
    if (c->queues == NULL) {
        (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG,
                              "found nothing, expected at least one queue");
        return fail_at(l, root->line, "queues");
    }
    if (c->heartbeat_timeout_ms < BEATS_MIN * c->heartbeat_interval_ms) {
        const struct pgqrs_yaml_node *heartbeat = pgqrs_yaml_get(root, "heartbeat");
        char found[32];
        char least[32];
        pgqrs_duration_format(c->heartbeat_timeout_ms, found, sizeof found);
        pgqrs_duration_format(BEATS_MIN * c->heartbeat_interval_ms, least, sizeof least);
        (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG,
                              "found %s, expected at least 3 times heartbeat.interval, which is %s",
                              found, least);
        return fail_at(l, heartbeat != NULL ? heartbeat->line : root->line, "heartbeat.timeout");
    }
    return 0;
}

static int load(struct loader *l, const struct pgqrs_yaml_node *root)
{
    const struct scope scope = {
        .settings = &pgqrs_settings_top, .object = l->config, .shown = "", .prefix = ""};
    if (root->kind == PGQRS_YAML_NONE) {
        (void)pgqrs_error_set(l->err, PGQRS_ERR_CONFIG,
                              "found no settings, expected a mapping with dsn and queues");
        return fail_at(l, 1, NULL);
    }
    if (pgqrs_settings_defaults(&pgqrs_settings_top, l->config, l->err) < 0 ||
        apply_mapping(l, root, &scope) < 0 ||
        pgqrs_settings_environment(&pgqrs_settings_top, l->config, l->err) < 0 ||
        (l->schedules != NULL && load_schedules(l, l->schedules) < 0)) {
        return -1;
    }
    return check_whole(l, root);
}

int pgqrs_config_load(const char *path, struct pgqrs_config **config_out, struct pgqrs_error *err)
{
    struct loader l = {.path = path, .err = err};
    struct pgqrs_yaml_node root = {0};
    if (pgqrs_yaml_read(path, &root, err) < 0) {
        return -1;
    }
    int rc = pgqrs_locate_dir_of(path, &l.dir, err);
    if (rc == 0) {
        l.config = calloc(1, sizeof *l.config);
        rc = l.config == NULL ? pgqrs_error_memory(err) : load(&l, &root);
    }
    free(l.dir);
    pgqrs_yaml_fini(&root);
    if (rc < 0) {
        pgqrs_config_destroy(&l.config);
        return -1;
    }
    *config_out = l.config;
    return 0;
}

struct pgqrs_config_queue pgqrs_config_take_queue(struct pgqrs_config *config, size_t i)
{
    struct pgqrs_config_queue taken = config->queues[i];
    config->queues[i] = (struct pgqrs_config_queue){0};
    return taken;
}

void pgqrs_config_queue_fini(struct pgqrs_config_queue *queue)
{
    free(queue->name);
    free(queue->handler);
    free(queue->settings);
    pgqrs_isolation_fini(&queue->isolation);
    *queue = (struct pgqrs_config_queue){0};
}

void pgqrs_config_destroy(struct pgqrs_config **config)
{
    struct pgqrs_config *c = *config;
    for (size_t i = 0; c != NULL && i < c->queue_count; i++) {
        pgqrs_config_queue_fini(&c->queues[i]);
    }
    if (c != NULL) {
        pgqrs_config_schedules_fini(c);
        free(c->queues);
        free(c->runtime_dir);
        free(c->http_listen);
        free(c->name);
        free(c->schema);
        free(c->wake_dsn);
        free(c->dsn);
    }
    free(c);
    *config = NULL;
}
