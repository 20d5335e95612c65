/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue and the version of its configuration and plugin that it runs. The plugin's file is kept
 * open: when another one has taken its place, workers of this version still start from it, so that
 * a crash in the middle of a deploy mixes nothing.
 */
#include "supervisor/supervisor.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "supervisor/run.h"

/* ---- plugin files ---- */

static bool is_file(const struct plugin_file *plugin, const struct stat *st)
{
    return plugin->device == st->st_dev && plugin->inode == st->st_ino &&
           plugin->size == st->st_size && plugin->changed.tv_sec == st->st_mtim.tv_sec &&
           plugin->changed.tv_nsec == st->st_mtim.tv_nsec;
}

static struct plugin_file open_plugin(const char *path)
{
    struct plugin_file plugin = {.fd = -1};
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* it may be a pipe by now */
    if (fd >= 0) {
        plugin.fd = fcntl(fd, F_DUPFD_CLOEXEC, PGQRS_FD_ABOVE);
        (void)close(fd);
    }
    if (plugin.fd >= 0 && fstat(plugin.fd, &st) == 0) {
        plugin.device = st.st_dev;
        plugin.inode = st.st_ino;
        plugin.size = st.st_size;
        plugin.changed = st.st_mtim;
    }
    return plugin; /* without a descriptor, what is at the path is used */
}

static void close_plugin(struct plugin_file *plugin)
{
    if (plugin->fd >= 0) {
        (void)close(plugin->fd);
    }
    plugin->fd = -1;
}

bool pgqrs_version_is_current(const struct version *version)
{
    struct stat st;
    return stat(version->config.handler, &st) == 0 && is_file(&version->plugin, &st);
}

const char *pgqrs_version_plugin_state(const struct version *version)
{
    if (version->plugin.fd < 0) {
        return "unknown";
    }
    return pgqrs_version_is_current(version)           ? "loaded"
           : access(version->config.handler, F_OK) < 0 ? "gone"
                                                       : "changed";
}

bool pgqrs_version_is_pinned(const struct version *version)
{
    return version->plugin.fd >= 0 && !pgqrs_version_is_current(version);
}

void pgqrs_version_look_again(struct version *version)
{
    if (!version->proven) {
        close_plugin(&version->plugin);
        version->plugin = open_plugin(version->config.handler);
    }
}

/* ---- versions ---- */

struct version *pgqrs_version_create(struct pgqrs_config_queue *config)
{
    struct version *version = calloc(1, sizeof *version);
    if (version != NULL) {
        version->users = 1;
        version->since_us = pgqrs_wall_us();
        version->plugin = open_plugin(config->handler);
        version->config = *config;
        *config = (struct pgqrs_config_queue){0};
    }
    return version;
}

void pgqrs_version_release(struct version **version)
{
    struct version *v = *version;
    *version = NULL;
    if (v != NULL && --v->users == 0) {
        close_plugin(&v->plugin);
        pgqrs_config_queue_fini(&v->config);
        free(v);
    }
}

struct version *pgqrs_version_of(const struct place *place)
{
    struct queue *queue = place->queue;
    return place == queue->canary ? queue->next : queue->version;
}

/* ---- queues ---- */

struct queue *pgqrs_supervisor_find_queue(struct supervisor *s, const char *name)
{
    for (size_t i = 0; name != NULL && i < s->queue_count; i++) {
        if (strcmp(s->queues[i]->name, name) == 0) {
            return s->queues[i];
        }
    }
    return NULL;
}

static void destroy(struct queue *queue)
{
    pgqrs_pool_destroy(queue);
    pgqrs_failing_fini(queue);
    pgqrs_deaths_fini(&queue->deaths);
    pgqrs_version_release(&queue->version);
    pgqrs_version_release(&queue->next);
    free(queue->refused);
    free(queue->last_error);
    free(queue->name);
    free(queue);
}

struct queue *pgqrs_supervisor_add_queue(struct supervisor *s, struct pgqrs_config_queue *config,
                                         struct pgqrs_error *err)
{
    struct queue *queue = calloc(1, sizeof *queue);
    struct queue **more =
        queue == NULL ? NULL : reallocarray(s->queues, s->queue_count + 1, sizeof(struct queue *));
    if (more == NULL) {
        free(queue);
        (void)pgqrs_error_memory(err);
        return NULL;
    }
    s->queues = more;
    queue->s = s;
    queue->place = pgqrs_tally_place(s);
    queue->name = strdup(config->name);
    queue->version = pgqrs_version_create(config);
    if (queue->name == NULL || queue->version == NULL ||
        pgqrs_pool_create(s, queue, queue->version->config.consumers, err) < 0) {
        destroy(queue);
        (void)pgqrs_error_memory(err);
        return NULL;
    }
    queue->config = &queue->version->config;
    s->queues[s->queue_count++] = queue;
    return queue;
}

void pgqrs_queues_sweep(struct supervisor *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->queue_count; i++) {
        struct queue *queue = s->queues[i];
        bool used = queue->place_count > 0 || s->unreported_count > 0 || pgqrs_run_uses(queue);
        if (queue->removed && !queue->paused && !used) {
            destroy(queue);
        } else {
            s->queues[kept++] = queue;
        }
    }
    s->queue_count = kept;
}

void pgqrs_supervisor_free_queues(struct supervisor *s)
{
    for (size_t i = 0; i < s->queue_count; i++) {
        destroy(s->queues[i]);
    }
    free(s->queues);
}
