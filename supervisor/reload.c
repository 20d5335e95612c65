/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new configuration is taken while everything runs. Only what changed is touched. Where workers
 * have to be replaced, because what they are told or their plugin's file has changed, one of the
 * new version works beside the old ones first, the canary. When it dies, the old version goes on;
 * when it does well, the new version is the queue's, and the others are replaced one after another.
 */
#include "supervisor/supervisor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/settings.h"

/* A canary has done well after so many jobs, or when it has lived for so long. */
#define CANARY_JOBS 5
#define CANARY_MS 5000

static const char *const applied_at_once[] = {"shutdown.drain", "shutdown.cancel_grace",
                                              "start_timeout", "log.level"};
/* What only pgqrsd and the broker need to know; anything else is for the workers. */
static const char *const not_for_workers[] = {"consumers", "on_crash", "retry.", "restart.",
                                              "recycle.",  "on_done",  "keep.",  "sql"};

static void note(json_t *changes, const char *fmt, ...) PGQRS_PRINTF(2, 3);
static void note(json_t *changes, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    pgqrs_log_info("reload: %s", text);
    (void)json_array_append_new(changes, json_string(text));
}

static bool is_one_of(const char *const *keys, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(keys[i]);
        bool group = keys[i][len - 1] == '.';
        if (strncmp(keys[i], key, len) == 0 && (group || key[len] == 0 || key[len] == '.')) {
            return true;
        }
    }
    return false;
}
#define IS_ONE_OF(keys, key) is_one_of(keys, sizeof(keys) / sizeof *(keys), key)

/* ---- the broker ---- */

void pgqrs_queues_tell(struct supervisor *s)
{
    struct child *broker = s->broker.child;
    s->queues_serial++;
    if (broker == NULL || broker->state < CHILD_WELCOMED || broker->state == CHILD_KILLED) {
        return; /* its welcome will say it */
    }
    struct pgqrs_queue_settings *settings = calloc(s->queue_count + 1, sizeof *settings);
    struct pgqrs_buf out = {0};
    if (settings == NULL) {
        pgqrs_child_kill(broker, "out of memory"); /* the next one gets a welcome */
        return;
    }
    size_t count = 0;
    for (size_t i = 0; i < s->queue_count; i++) {
        if (!s->queues[i]->removed) {
            settings[count++] = pgqrs_queue_settings(s->queues[i]);
        }
    }
    pgqrs_encode_broker_queues(&out, s->queues_serial, settings, count);
    free(settings);
    pgqrs_child_post(broker, &out);
}

void pgqrs_reload_known(struct supervisor *s, uint32_t serial)
{
    uint32_t before = s->known_serial;
    s->known_serial = serial;
    for (size_t q = 0; s->state == SUPERVISOR_RUNNING && q < s->queue_count; q++) {
        struct queue *queue = s->queues[q];
        if (queue->serial > before && queue->serial <= serial) {
            for (size_t i = 0; i < queue->place_count; i++) {
                pgqrs_place_start(queue->places[i]);
            }
        }
    }
}

/* ---- canaries ---- */

/* Those that have not been ready have nothing to lose, and start again with what is new. */
static void restart_starting(const struct queue *queue)
{
    for (size_t i = 0; i < queue->place_count; i++) {
        struct child *child = queue->places[i]->child;
        if (child != NULL && child->version != queue->version && child->state < CHILD_READY) {
            child->outdated = child->interrupted = true;
            pgqrs_child_kill(child, "its configuration was replaced while it started");
        }
    }
}

static void accept_next(struct queue *queue)
{
    struct version *old = queue->version;
    struct place *canary = queue->canary;
    queue->version = queue->next;
    queue->config = &queue->version->config;
    queue->next = NULL;
    queue->canary = NULL;
    queue->rolling = true;
    bool scaled = queue->config->consumers != old->config.consumers ||
                  queue->config->consumers_max > 0 || old->config.consumers_max > 0;
    pgqrs_version_release(&old);
    pgqrs_queues_tell(queue->s);
    if (canary != NULL) {
        pgqrs_pool_replaced(canary);
    }
    if (scaled) {
        pgqrs_pool_scale(queue->s, queue, pgqrs_scaling_bound(queue, queue->wanted), "reload");
    }
    restart_starting(queue);
    pgqrs_pool_roll(queue);
    pgqrs_failing_retry(queue);
}

/* why null: there is nothing to tell any more. */
static void set_refused(struct queue *queue, const char *why)
{
    free(queue->refused);
    queue->refused = why == NULL ? NULL : strdup(why);
}

static void forget_next(struct queue *queue)
{
    struct place *canary = queue->canary;
    queue->canary = NULL;
    if (canary != NULL) {
        pgqrs_pool_retire(canary);
    }
    pgqrs_version_release(&queue->next);
}

/* Whether some worker is at work, so that there is something to lose. */
static bool has_worker(const struct queue *queue)
{
    for (size_t i = 0; i < queue->place_count; i++) {
        const struct child *child = queue->places[i]->child;
        if (child != NULL && child->state == CHILD_READY && !queue->places[i]->retiring) {
            return true;
        }
    }
    return false;
}

static void begin_roll(struct queue *queue, const char *why, json_t *changes)
{
    if (queue->failing.retry != NULL || !has_worker(queue)) {
        note(changes, "queue \"%s\": %s; no worker of it is at work, the new version is used",
             queue->name, why);
        accept_next(queue);
        return;
    }
    note(changes, "queue \"%s\": %s; one worker of the new version is tried first", queue->name,
         why);
    queue->canary_since_ms = 0;
    pgqrs_pool_start_canary(queue);
    if (queue->canary == NULL) {
        pgqrs_log_error("queue \"%s\": no room for one more worker, the old version goes on",
                        queue->name);
        set_refused(queue, "no room for one more worker");
        forget_next(queue);
    }
}

bool pgqrs_reload_canary_died(struct place *place, int exit_code, const char *why)
{
    struct queue *queue = place->queue;
    if (place != queue->canary || place->retiring || exit_code == PGQRS_EXIT_TIMEOUT) {
        return false;
    }
    pgqrs_log_error("queue \"%s\": the new version is NOT used, the old one goes on: its first "
                    "worker did not do well: %s; mend it and reload",
                    queue->name, why);
    set_refused(queue, why);
    forget_next(queue);
    return true;
}

/* A new worker after a time limit goes on with the trial of the one before. */
static bool does_well(struct queue *queue)
{
    const struct child *child = queue->canary->child;
    if (child == NULL || child->state != CHILD_READY) {
        return false;
    }
    if (queue->canary_since_ms == 0) {
        queue->canary_since_ms = child->ready_at_ms;
    }
    return child->beat.settled >= CANARY_JOBS ||
           pgqrs_mono_ms() - queue->canary_since_ms >= CANARY_MS;
}

void pgqrs_reload_check(struct supervisor *s)
{
    for (size_t i = 0; s->state == SUPERVISOR_RUNNING && i < s->queue_count; i++) {
        struct queue *queue = s->queues[i];
        if (queue->next == NULL) {
            continue;
        }
        if (queue->canary == NULL) {
            pgqrs_log_info("queue \"%s\": no worker of it is left, the new version is used",
                           queue->name);
            accept_next(queue);
        } else if (does_well(queue)) {
            pgqrs_log_info("queue \"%s\": the new version does well, replacing its other workers",
                           queue->name);
            accept_next(queue);
        }
    }
    pgqrs_queues_sweep(s);
}

/* ---- what has changed ---- */

struct differences {
    bool any, for_workers, consumers;
    char keys[200];
};

static struct differences compare(const struct pgqrs_config_queue *old,
                                  const struct pgqrs_config_queue *fresh)
{
    struct differences d = {0};
    for (size_t i = 0; i < pgqrs_settings_of_queue.count; i++) {
        const struct pgqrs_setting *row = &pgqrs_settings_of_queue.rows[i];
        if (pgqrs_setting_same(row, old, fresh)) {
            continue;
        }
        size_t len = strlen(d.keys);
        (void)snprintf(d.keys + len, sizeof d.keys - len, "%s%s", len == 0 ? "" : ", ", row->key);
        d.any = true;
        d.for_workers = d.for_workers || !IS_ONE_OF(not_for_workers, row->key);
        d.consumers = d.consumers || strncmp(row->key, "consumers", 9) == 0;
    }
    return d;
}

static int change_queue(struct queue *queue, struct pgqrs_config_queue *fresh, json_t *changes,
                        struct pgqrs_error *err)
{
    char why[256];
    struct differences d = compare(queue->config, fresh);
    bool back = queue->removed;
    bool other_file = !pgqrs_version_is_current(queue->version);
    if (queue->next != NULL && !compare(&queue->next->config, fresh).any &&
        pgqrs_version_is_current(queue->next)) {
        return 0; /* it is being tried already */
    }
    if (queue->next != NULL) {
        forget_next(queue);
    }
    set_refused(queue, NULL);
    queue->removed = false;
    if (back) {
        note(changes, "queue \"%s\": served again", queue->name);
        queue->serial = queue->s->queues_serial + 1;
    }
    (void)snprintf(why, sizeof why, "%s%s%s", d.any ? "changed: " : "", d.keys,
                   !other_file ? ""
                   : d.any     ? ", and its plugin's file"
                               : "its plugin's file has changed");
    if (d.for_workers || other_file) {
        queue->next = pgqrs_version_create(fresh);
        if (queue->next == NULL) {
            return pgqrs_error_memory(err);
        }
        begin_roll(queue, why, changes);
    } else if (d.any) {
        note(changes, "queue \"%s\": %s", queue->name, why);
        pgqrs_config_queue_fini(&queue->version->config);
        queue->version->config = *fresh;
        *fresh = (struct pgqrs_config_queue){0};
        pgqrs_failing_retry(queue);
    }
    if (back || (d.consumers && queue->next == NULL)) {
        pgqrs_pool_scale(queue->s, queue, pgqrs_scaling_bound(queue, queue->wanted), "reload");
    }
    return 0;
}

static int add_queue(struct supervisor *s, struct pgqrs_config_queue *fresh, json_t *changes,
                     struct pgqrs_error *err)
{
    struct queue *queue = pgqrs_supervisor_add_queue(s, fresh, err);
    if (queue == NULL) {
        return -1;
    }
    queue->serial = s->queues_serial + 1;
    queue->paused = s->all_paused;
    note(changes, "queue \"%s\": new", queue->name);
    return 0;
}

static void remove_queue(struct queue *queue, json_t *changes)
{
    note(changes, "queue \"%s\": not served any more", queue->name);
    queue->removed = true;
    set_refused(queue, NULL);
    if (queue->next != NULL) {
        forget_next(queue);
    }
    pgqrs_failing_fini(queue);
    pgqrs_pool_scale(queue->s, queue, 0, "reload");
}

static bool is_in(const struct pgqrs_config *config, const char *name)
{
    for (size_t i = 0; i < config->queue_count; i++) {
        if (config->queues[i].name != NULL && strcmp(config->queues[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* The broker that runs would not get them; it is an end that loses nothing. */
static bool take_credentials(struct supervisor *s, const struct pgqrs_setting *row,
                             const struct pgqrs_config *fresh, json_t *changes)
{
    bool main_dsn = strcmp(row->key, "dsn") == 0;
    const char *old = main_dsn ? s->config->dsn : s->config->wake_dsn;
    const char *dsn = main_dsn ? fresh->dsn : fresh->wake_dsn;
    struct child *broker = s->broker.child;
    if (row->type != PGQRS_SETTING_DSN || old == NULL || dsn == NULL ||
        !pgqrs_dsn_same_place(old, dsn) ||
        pgqrs_setting_store(row, s->config, dsn, "/", NULL) < 0) {
        return false;
    }
    note(changes, "%s: another user or password; the broker starts again with it", row->key);
    if (broker != NULL && broker->state >= CHILD_WELCOMED) {
        broker->interrupted = true;
        pgqrs_child_kill(broker, "there is another user or password");
    }
    return true;
}

static void apply_top(struct supervisor *s, const struct pgqrs_config *fresh, json_t *changes)
{
    enum pgqrs_log_level level = s->config->log_level;
    for (size_t i = 0; i < pgqrs_settings_top.count; i++) {
        const struct pgqrs_setting *row = &pgqrs_settings_top.rows[i];
        if (pgqrs_setting_same(row, s->config, fresh) || take_credentials(s, row, fresh, changes)) {
            continue;
        }
        if (IS_ONE_OF(applied_at_once, row->key)) {
            pgqrs_setting_copy_number(row, s->config, fresh);
            note(changes, "%s: changed", row->key);
        } else {
            pgqrs_log_warn("reload: %s: changed in the file, which takes effect when pgqrsd is "
                           "started again",
                           row->key);
            note(changes, "%s: not changed before pgqrsd is started again", row->key);
        }
    }
    if (s->config->log_level != level) {
        pgqrs_supervisor_set_log_level(s, s->config->log_level);
    }
}

static int apply_queues(struct supervisor *s, struct pgqrs_config *fresh, json_t *changes,
                        struct pgqrs_error *err)
{
    for (size_t i = 0; i < s->queue_count; i++) {
        if (!s->queues[i]->removed && !is_in(fresh, s->queues[i]->name)) {
            remove_queue(s->queues[i], changes);
        }
    }
    for (size_t i = 0; i < fresh->queue_count; i++) {
        struct pgqrs_config_queue config = pgqrs_config_take_queue(fresh, i);
        struct queue *queue = pgqrs_supervisor_find_queue(s, config.name);
        int rc = queue == NULL ? add_queue(s, &config, changes, err)
                               : change_queue(queue, &config, changes, err);
        pgqrs_config_queue_fini(&config);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

static int take_file(struct supervisor *s, json_t *changes, struct pgqrs_error *err)
{
    struct pgqrs_config *fresh = NULL;
    if (pgqrs_config_load(s->config_path, &fresh, err) < 0) {
        return -1;
    }
    apply_top(s, fresh, changes);
    int rc = apply_queues(s, fresh, changes, err);
    pgqrs_schedules_reload(s, fresh, changes);
    pgqrs_config_destroy(&fresh);
    if (json_array_size(changes) == 0) {
        pgqrs_log_info("reload: nothing has changed");
    }
    pgqrs_queues_tell(s);
    pgqrs_schedules_tell(s);
    return rc;
}

int pgqrs_reload(struct supervisor *s, json_t *changes, struct pgqrs_error *err)
{
    if (s->state != SUPERVISOR_RUNNING) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT, "pgqrsd is %s",
                               s->state == SUPERVISOR_STARTING ? "starting" : "stopping");
    }
    pgqrs_notify_reloading(s->notify);
    int rc = take_file(s, changes, err);
    pgqrs_notify_changed(s->notify);
    return rc;
}
