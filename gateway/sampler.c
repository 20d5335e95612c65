/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks the store, through the broker. Such a call blocks, so it has a thread, which is given one
 * question at a time and says at a descriptor when it has the answer.
 */
#include "gateway/gateway.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

#define CALL_MS 2000
#define WHOLE_MS 6000 /* for all queues; then the rest is not known this time */

enum sampler_state { SAMPLER_IDLE, SAMPLER_ASKED, SAMPLER_DONE, SAMPLER_STOP };

struct sampler {
    pthread_t thread;
    pthread_mutex_t lock; /* of state */
    pthread_cond_t changed;
    enum sampler_state state;
    struct gateway_sample sample; /* the thread's while it is asked */
    int fd;
    char dsn[128];
    struct pgqrs_store *store;
    int32_t schema; /* its version at the start; 0: not known yet */
};

void pgqrs_gateway_sample_fini(struct gateway_sample *sample)
{
    for (size_t i = 0; i < sample->queue_count; i++) {
        free(sample->queues[i].name);
    }
    free(sample->queues);
    *sample = (struct gateway_sample){0};
}

/* ---- on the thread ---- */

/* Cheap, since it is done every second: to verify the schema would read every row. The broker has
 * done that before it was ready. */
static int probe(struct sampler *s, const struct gateway_sample *sample, struct pgqrs_error *err)
{
    const struct pgqrs_store_options options = {.call_ms = CALL_MS};
    struct pgqrs_store_info info;
    struct pgqrs_queue_metrics metrics;
    int64_t id;
    if (s->store == NULL && pgqrs_store_open(s->dsn, &options, &s->store, err) < 0) {
        return -1;
    }
    if (pgqrs_store_info(s->store, &info, err) < 0) {
        return -1;
    }
    s->schema = s->schema == 0 ? info.schema_version : s->schema;
    if (info.schema_version != s->schema) {
        return pgqrs_error_set(
            err, PGQRS_ERR_SCHEMA,
            "found version %d of the schema, expected %d, which it was started on",
            (int)info.schema_version, (int)s->schema);
    }
    if (sample->queue_count == 0) {
        return 0;
    }
    int rc = pgqrs_store_queue_find(s->store, sample->queues[0].name, &id, err);
    return rc < 0 ? -1 : pgqrs_store_queue_metrics(s->store, id, 1, &metrics, err);
}

static int count(struct sampler *s, struct gateway_sample *sample, struct pgqrs_error *err)
{
    int64_t give_up_ms = pgqrs_mono_ms() + WHOLE_MS;
    for (size_t i = 0; i < sample->queue_count && pgqrs_mono_ms() < give_up_ms; i++) {
        struct gateway_queue *queue = &sample->queues[i];
        int64_t id;
        if (pgqrs_store_queue_find(s->store, queue->name, &id, err) < 0 ||
            pgqrs_store_queue_metrics(s->store, id, PGQRS_GATEWAY_COUNT_MAX, &queue->metrics, err) <
                0) {
            if (err->code == PGQRS_ERR_NOT_FOUND) {
                continue; /* a queue that is new, or was deleted */
            }
            return -1;
        }
        queue->known = true;
    }
    return 0;
}

static void answer(struct sampler *s)
{
    struct gateway_sample *sample = &s->sample;
    struct pgqrs_error err;
    if (probe(s, sample, &err) < 0 || (sample->counted && count(s, sample, &err) < 0)) {
        (void)snprintf(sample->trouble, sizeof sample->trouble, "%.500s", err.text);
    }
    sample->at_ms = pgqrs_mono_ms();
}

static void *run(void *arg)
{
    struct sampler *s = arg;
    const uint64_t one = 1;
    (void)pthread_mutex_lock(&s->lock);
    while (s->state != SAMPLER_STOP) {
        if (s->state != SAMPLER_ASKED) {
            (void)pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        (void)pthread_mutex_unlock(&s->lock);
        answer(s);
        (void)pthread_mutex_lock(&s->lock);
        s->state = s->state == SAMPLER_ASKED ? SAMPLER_DONE : s->state;
        ssize_t n = write(s->fd, &one, sizeof one);
        (void)n; /* it counts to one only */
    }
    (void)pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- in the loop ---- */

int pgqrs_sampler_start(const char *job_socket, struct sampler **sampler_out,
                        struct pgqrs_error *err)
{
    struct sampler *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return pgqrs_error_memory(err);
    }
    (void)snprintf(s->dsn, sizeof s->dsn, "broker:%s", job_socket);
    s->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->fd < 0) {
        (void)pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "eventfd");
        free(s);
        return -1;
    }
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_cond_init(&s->changed, NULL);
    int rc = pthread_create(&s->thread, NULL, run, s);
    if (rc != 0) {
        (void)close(s->fd);
        free(s);
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, rc, "pthread_create");
    }
    *sampler_out = s;
    return 0;
}

bool pgqrs_sampler_stop(struct sampler **sampler)
{
    struct sampler *s = *sampler;
    if (s == NULL) {
        return true;
    }
    (void)pthread_mutex_lock(&s->lock);
    bool busy = s->state == SAMPLER_ASKED;
    s->state = SAMPLER_STOP;
    (void)pthread_cond_signal(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
    if (busy) {
        return false;
    }
    (void)pthread_join(s->thread, NULL);
    pgqrs_store_close(&s->store);
    pgqrs_gateway_sample_fini(&s->sample);
    (void)close(s->fd);
    (void)pthread_cond_destroy(&s->changed);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
    *sampler = NULL;
    return true;
}

int pgqrs_sampler_fd(const struct sampler *s)
{
    return s->fd;
}

void pgqrs_sampler_ask(struct sampler *s, struct gateway_sample *sample)
{
    (void)pthread_mutex_lock(&s->lock);
    s->sample = *sample;
    s->state = SAMPLER_ASKED;
    (void)pthread_cond_signal(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
    *sample = (struct gateway_sample){0};
}

void pgqrs_sampler_take(struct sampler *s, struct gateway_sample *sample)
{
    uint64_t ready;
    ssize_t n = read(s->fd, &ready, sizeof ready);
    (void)n; /* it only tells */
    (void)pthread_mutex_lock(&s->lock);
    *sample = s->sample;
    s->sample = (struct gateway_sample){0};
    s->state = SAMPLER_IDLE;
    (void)pthread_mutex_unlock(&s->lock);
}
