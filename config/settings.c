/* SPDX-License-Identifier: Apache-2.0 */
/* The table of settings, and what each type accepts. */
#include "config/config_priv.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "ipc/msg.h"

#define SECOND INT64_C(1000)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)

static const struct setting_choice log_formats[] = {
    {"text", PGQRS_LOG_TEXT}, {"json", PGQRS_LOG_JSON}, {NULL, 0}};
static const struct setting_choice log_levels[] = {{"debug", PGQRS_LOG_DEBUG},
                                                   {"info", PGQRS_LOG_INFO},
                                                   {"warn", PGQRS_LOG_WARN},
                                                   {"error", PGQRS_LOG_ERROR},
                                                   {NULL, 0}};
static const struct setting_choice synchronous[] = {{"full", 1}, {"normal", 0}, {NULL, 0}};
static const struct setting_choice on_done[] = {{"archive", 0}, {"delete", 1}, {NULL, 0}};
static const struct setting_choice strategies[] = {
    {"exponential", PGQRS_RETRY_EXPONENTIAL}, {"fixed", PGQRS_RETRY_FIXED}, {NULL, 0}};

#define AT(field) offsetof(struct pgqrs_config, field)
const struct setting pgqrs_config_settings[] = {
    {"dsn", SETTING_TEXT, AT(dsn), NULL, 0, 0, NULL, "PGQRS_DSN",
     "the store, such as sqlite:///var/lib/pgqrs/queue.db; required"},
    {"runtime_dir", SETTING_TEXT, AT(runtime_dir), NULL, 0, 0, NULL, "PGQRS_RUNTIME_DIR",
     "directory for sockets; else $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/pgqrs or /tmp/pgqrs-UID"},
    {"start_timeout", SETTING_DURATION, AT(start_timeout_ms), "30s", 10, DAY, NULL, NULL,
     "a process that is not ready by then is killed and started again"},
    {"lease", SETTING_DURATION, AT(lease_ms), "30s", 3 * SECOND, DAY, NULL, NULL,
     "how long a lease lasts unless it is renewed; renewed after a third"},
    {"poll", SETTING_DURATION, AT(poll_ms), "1s", 50, HOUR, NULL, NULL,
     "how often to look for new jobs when nothing says that there are some"},
    {"shutdown.drain", SETTING_DURATION, AT(drain_ms), "25s", 0, DAY, NULL, NULL,
     "how long running jobs may take to finish after SIGTERM"},
    {"shutdown.cancel_grace", SETTING_DURATION, AT(cancel_grace_ms), "3s", 0, HOUR, NULL, NULL,
     "how long they then have after being told to cancel, before they are killed"},
    {"heartbeat.interval", SETTING_DURATION, AT(heartbeat_interval_ms), "1s", 50, HOUR, NULL, NULL,
     "how often each process says that it lives"},
    {"heartbeat.timeout", SETTING_DURATION, AT(heartbeat_timeout_ms), "30s", 150, DAY, NULL, NULL,
     "a process that was silent for so long is killed; at least 3 intervals"},
    {"sqlite.synchronous", SETTING_CHOICE, AT(synchronous_full), "full", 0, 0, synchronous, NULL,
     "full: what was acknowledged survives a power cut; normal: faster, and may lose the last "
     "moments"},
    {"log.format", SETTING_CHOICE, AT(log_format), "text", 0, 0, log_formats, "PGQRS_LOG_FORMAT",
     "how log lines look"},
    {"log.level", SETTING_CHOICE, AT(log_level), "info", 0, 0, log_levels, "PGQRS_LOG_LEVEL",
     "the least important lines to write"},
    {0}};
#undef AT

#define AT(field) offsetof(struct pgqrs_config_queue, field)
const struct setting pgqrs_config_queue_settings[] = {
    {"handler", SETTING_TEXT, AT(handler), NULL, 0, 0, NULL, NULL,
     "the plugin: a path, or the bare name of one that is installed; required"},
    {"consumers", SETTING_INTEGER, AT(consumers), "1", 0, PGQRS_CONSUMERS_MAX, NULL, NULL,
     "worker processes"},
    {"prefetch", SETTING_INTEGER, AT(prefetch), "1", 1, PGQRS_PREFETCH_MAX, NULL, NULL,
     "jobs a worker may hold, the running one among them"},
    {"max_attempts", SETTING_INTEGER, AT(max_attempts), "5", 1, 1000000, NULL, NULL,
     "deliveries before a failing job becomes a dead letter"},
    {"retry.strategy", SETTING_CHOICE, AT(retry_strategy), "exponential", 0, 0, strategies, NULL,
     "how the delay grows from attempt to attempt"},
    {"retry.base", SETTING_DURATION, AT(retry_base_ms), "1s", 0, 365 * DAY, NULL, NULL,
     "delay after the first failure"},
    {"retry.max", SETTING_DURATION, AT(retry_max_ms), "10m", 0, 365 * DAY, NULL, NULL,
     "no delay is longer, but for the jitter"},
    {"retry.jitter", SETTING_FLAG, AT(retry_jitter), "true", 0, 0, NULL, NULL,
     "spread delays by up to a quarter either way"},
    {"on_done", SETTING_CHOICE, AT(delete_done), "archive", 0, 0, on_done, NULL,
     "what becomes of a finished job"},
    {0}};
#undef AT

static int parse_choice(const struct setting *setting, const char *text, int *value_out,
                        struct pgqrs_error *err)
{
    char names[128] = "";
    for (const struct setting_choice *c = setting->choices; c->name != NULL; c++) {
        if (strcmp(c->name, text) == 0) {
            *value_out = c->value;
            return 0;
        }
        size_t used = strlen(names);
        (void)snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? ", " : "", c->name);
    }
    return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "found \"%.60s\", expected one of: %s", text,
                           names);
}

static int parse_duration(const struct setting *setting, const char *text, int64_t *ms_out,
                          struct pgqrs_error *err)
{
    int64_t ms = 0;
    if (pgqrs_duration_parse(text, &ms, err) < 0) {
        return -1;
    }
    if (ms < setting->min || ms > setting->max) {
        char min[32];
        char max[32];
        pgqrs_duration_format(setting->min, min, sizeof min);
        pgqrs_duration_format(setting->max, max, sizeof max);
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "found \"%.40s\", expected a duration from %s to %s", text, min,
                               max);
    }
    *ms_out = ms;
    return 0;
}

static int parse_text(const char *text, char **field, struct pgqrs_error *err)
{
    if (text[0] == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "found nothing, expected a text");
    }
    char *copy = strdup(text);
    if (copy == NULL) {
        return pgqrs_error_memory(err);
    }
    free(*field);
    *field = copy;
    return 0;
}

/* Choices are kept in fields of several types. */
static void store_choice(const struct setting *setting, char *field, int value)
{
    if (setting->choices == synchronous || setting->choices == on_done) {
        *(bool *)(void *)field = value != 0;
    } else if (setting->choices == log_formats) {
        *(enum pgqrs_log_format *)(void *)field = (enum pgqrs_log_format)value;
    } else if (setting->choices == log_levels) {
        *(enum pgqrs_log_level *)(void *)field = (enum pgqrs_log_level)value;
    } else {
        *(int64_t *)(void *)field = value;
    }
}

int pgqrs_setting_parse(const struct setting *setting, void *base, const char *text,
                        struct pgqrs_error *err)
{
    char *field = (char *)base + setting->offset;
    int choice = 0;
    int rc = -1;
    switch (setting->type) {
    case SETTING_TEXT:
        rc = parse_text(text, (char **)(void *)field, err);
        break;
    case SETTING_INTEGER:
        rc = pgqrs_integer_parse(text, setting->min, setting->max, (int64_t *)(void *)field, err);
        break;
    case SETTING_DURATION:
        rc = parse_duration(setting, text, (int64_t *)(void *)field, err);
        break;
    case SETTING_FLAG:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
            return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "found \"%.40s\", expected true or false",
                                   text);
        }
        *(bool *)(void *)field = text[0] == 't';
        return 0;
    case SETTING_CHOICE:
        rc = parse_choice(setting, text, &choice, err);
        if (rc == 0) {
            store_choice(setting, field, choice);
        }
        break;
    }
    if (rc < 0 && err != NULL && err->code != PGQRS_ERR_MEMORY) {
        err->code = PGQRS_ERR_CONFIG;
    }
    return rc;
}

int pgqrs_settings_default(const struct setting *table, void *base, struct pgqrs_error *err)
{
    for (const struct setting *s = table; s->key != NULL; s++) {
        if (s->default_text != NULL && pgqrs_setting_parse(s, base, s->default_text, err) < 0) {
            return -1;
        }
    }
    return 0;
}

void pgqrs_settings_free(const struct setting *table, void *base)
{
    for (const struct setting *s = table; s->key != NULL; s++) {
        if (s->type == SETTING_TEXT) {
            free(*(char **)(void *)((char *)base + s->offset));
        }
    }
}

static void print_table(const char *prefix, const struct setting *table)
{
    for (const struct setting *s = table; s->key != NULL; s++) {
        (void)printf("%s%s: %s\n    %s\n", prefix, s->key,
                     s->default_text == NULL ? "(none)" : s->default_text, s->help);
        if (s->environment != NULL) {
            (void)printf("    the variable %s comes before the file\n", s->environment);
        }
    }
}

void pgqrs_config_print_settings(void)
{
    print_table("", pgqrs_config_settings);
    print_table("queues.NAME.", pgqrs_config_queue_settings);
    (void)printf("queues.NAME.settings: {}\n    given to the handler's init, as JSON\n");
}
