/* SPDX-License-Identifier: Apache-2.0 */
/* The schedules of the configuration, which the broker puts into the store. */
#include "supervisor/supervisor.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "config/settings.h"

static struct pgqrs_schedule_settings settings_of(const struct pgqrs_config_schedule *c)
{
    return (struct pgqrs_schedule_settings){
        .put = {.name = c->name,
                .queue = c->workflow != NULL ? c->workflow : c->queue,
                .cron = c->cron,
                .zone = c->zone,
                .payload = pgqrs_bytes_from(c->payload),
                .priority = (int32_t)c->priority,
                .catch_up = (enum pgqrs_catch_up)c->catch_up,
                .overlap = (enum pgqrs_overlap)c->overlap,
                .pause = (enum pgqrs_schedule_pause)c->pause},
        .workflow = c->workflow != NULL,
    };
}

void pgqrs_schedules_tell(struct supervisor *s)
{
    struct child *broker = s->broker.child;
    const struct pgqrs_config *config = s->config;
    if (broker == NULL || broker->state < CHILD_WELCOMED || broker->state == CHILD_KILLED) {
        return; /* it is told after its welcome */
    }
    struct pgqrs_schedule_settings *items = calloc(config->schedule_count + 1, sizeof *items);
    struct pgqrs_buf out = {0};
    if (items == NULL) {
        pgqrs_child_kill(broker, "out of memory"); /* the next one is told */
        return;
    }
    for (size_t i = 0; i < config->schedule_count; i++) {
        items[i] = settings_of(&config->schedules[i]);
    }
    pgqrs_encode_broker_schedules(
        &out, &(struct pgqrs_broker_schedules){
                  .config = config->name, .items = items, .count = config->schedule_count});
    free(items);
    pgqrs_child_post(broker, &out);
}

/* ---- reload ---- */

static void note(json_t *changes, const char *name, const char *what)
{
    pgqrs_log_info("reload: schedule \"%s\": %s", name, what);
    (void)json_array_append_new(changes, json_sprintf("schedule \"%s\": %s", name, what));
}

static const struct pgqrs_config_schedule *find(const struct pgqrs_config *config, const char *name)
{
    for (size_t i = 0; i < config->schedule_count; i++) {
        if (strcmp(config->schedules[i].name, name) == 0) {
            return &config->schedules[i];
        }
    }
    return NULL;
}

static bool is_same(const struct pgqrs_config_schedule *a, const struct pgqrs_config_schedule *b)
{
    for (size_t i = 0; i < pgqrs_settings_of_schedule.count; i++) {
        if (!pgqrs_setting_same(&pgqrs_settings_of_schedule.rows[i], a, b)) {
            return false;
        }
    }
    return true;
}

void pgqrs_schedules_reload(struct supervisor *s, struct pgqrs_config *fresh, json_t *changes)
{
    for (size_t i = 0; i < s->config->schedule_count; i++) {
        if (find(fresh, s->config->schedules[i].name) == NULL) {
            note(changes, s->config->schedules[i].name, "deleted");
        }
    }
    for (size_t i = 0; i < fresh->schedule_count; i++) {
        const struct pgqrs_config_schedule *old = find(s->config, fresh->schedules[i].name);
        if (old == NULL || !is_same(old, &fresh->schedules[i])) {
            note(changes, fresh->schedules[i].name, old == NULL ? "new" : "changed");
        }
    }
    pgqrs_config_schedules_fini(s->config);
    s->config->schedules = fresh->schedules;
    s->config->schedule_count = fresh->schedule_count;
    fresh->schedules = NULL;
    fresh->schedule_count = 0;
}
