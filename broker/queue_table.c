/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queues that are served. A reload changes settings at once and adds queues once they are in
 * the store. None is ever taken away: one without workers leases nothing. The table has its full
 * size from the start, since workers and tasks of the store's thread point into it.
 */
#include "broker/broker.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ipc/child.h"

#define AGAIN_MS 1000

static struct broker_queue *find(struct broker *b, const char *name)
{
    for (size_t i = 0; i < b->queue_count; i++) {
        if (strcmp(b->queues[i].settings.name, name) == 0) {
            return &b->queues[i];
        }
    }
    return NULL;
}

struct broker_queue *pgqrs_queues_find(struct broker *b, const char *name)
{
    return find(b, name);
}

static int add(struct broker *b, const struct pgqrs_queue_settings *settings, int64_t id,
               struct pgqrs_error *err)
{
    struct broker_queue *queue = &b->queues[b->queue_count];
    char *name = strdup(settings->name);
    if (b->queue_count == PGQRS_QUEUES_MAX || name == NULL) {
        free(name);
        return b->queue_count == PGQRS_QUEUES_MAX
                   ? pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                                     "more than %d queues since the broker was started",
                                     PGQRS_QUEUES_MAX)
                   : pgqrs_error_memory(err);
    }
    *queue = (struct broker_queue){.settings = *settings, .id = id, .maybe_ready = true};
    queue->settings.name = name;
    TAILQ_INIT(&queue->workers);
    b->queue_count++;
    return 0;
}

int pgqrs_queues_create(struct broker *b, const struct pgqrs_broker_welcome *m,
                        struct pgqrs_error *err)
{
    b->queues = calloc(PGQRS_QUEUES_MAX, sizeof *b->queues);
    if (b->queues == NULL) {
        return pgqrs_error_memory(err);
    }
    for (size_t i = 0; i < m->queue_count; i++) {
        if (add(b, &m->queues[i], 0, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int find_in_store(struct pgqrs_store *store, const char *name, int64_t *id_out,
                         struct pgqrs_error *err)
{
    int rc = pgqrs_store_queue_find(store, name, id_out, err);
    if (rc < 0 && err->code == PGQRS_ERR_NOT_FOUND) {
        rc = pgqrs_store_queue_create(store, name, id_out, err);
    }
    return rc < 0 ? pgqrs_error_prefix(err, "queue \"%s\"", name) : 0;
}

int pgqrs_queues_find_in_store(struct broker *b, struct pgqrs_error *err)
{
    for (size_t i = 0; i < b->queue_count; i++) {
        if (find_in_store(b->store, b->queues[i].settings.name, &b->queues[i].id, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- reload ---- */

struct queue_news {
    struct store_task task;
    struct broker *b;
    uint32_t serial;
    struct pgqrs_queue_settings *queues; /* names are owned */
    int64_t *ids;                        /* 0: it was known before */
    size_t count;
    struct event *again;
};

static void news_free(struct queue_news *news)
{
    for (size_t i = 0; news->queues != NULL && i < news->count; i++) {
        free((void *)(uintptr_t)news->queues[i].name); /* owned here, const for the codec */
    }
    if (news->again != NULL) {
        event_free(news->again);
    }
    free(news->queues);
    free(news->ids);
    free(news);
}

/* On the store's thread. */
static void look_up(struct pgqrs_store *store, struct store_task *task)
{
    struct queue_news *news = (struct queue_news *)task;
    task->rc = 0;
    for (size_t i = 0; i < news->count && task->rc == 0; i++) {
        if (news->ids[i] == 0) {
            task->rc = find_in_store(store, news->queues[i].name, &news->ids[i], &task->err);
        }
    }
}

static void drop(struct store_task *task)
{
    news_free((struct queue_news *)task);
}

/* Those that are not in the news have only workers that end. */
static void forget_loads(struct broker *b)
{
    for (size_t i = 0; i < b->queue_count; i++) {
        b->queues[i].settings.load_max = 0;
    }
}

/* False: pgqrsd could not be told; the whole may be done again. */
static bool adopt(struct broker *b, struct queue_news *news)
{
    struct pgqrs_error err;
    struct pgqrs_buf out = {0};
    forget_loads(b);
    for (size_t i = 0; i < news->count; i++) {
        struct broker_queue *queue = find(b, news->queues[i].name);
        if (queue == NULL && add(b, &news->queues[i], news->ids[i], &err) < 0) {
            pgqrs_log_error("broker: %s", err.text);
            b->exit_status = PGQRS_EXIT_FAILURE; /* the next one has room */
            (void)event_base_loopbreak(b->base);
            return true;
        }
        if (queue != NULL) {
            const char *name = queue->settings.name;
            queue->settings = news->queues[i];
            queue->settings.name = name;
        }
    }
    pgqrs_encode_queues_known(&out, news->serial);
    bool told = pgqrs_control_send(b->child->control, &out, &err) == 0;
    pgqrs_buf_fini(&out);
    pgqrs_load_update(b);
    pgqrs_commit_all_maybe_ready(b);
    return told;
}

static void submit(struct queue_news *news)
{
    news->b->news = NULL;
    pgqrs_store_thread_submit(news->b->store_thread, &news->task);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    submit(arg);
}

static void looked_up(void *arg, struct store_task *task)
{
    static const struct timeval pause = {.tv_sec = AGAIN_MS / 1000};
    struct broker *b = arg;
    struct queue_news *news = (struct queue_news *)task;
    bool newer = news->serial != b->news_serial;
    if (newer || b->stopping) {
        news_free(news);
        return;
    }
    if (task->rc < 0) {
        pgqrs_log_warn("broker: new queues are not served yet, trying again: %s", task->err.text);
    }
    if (task->rc == 0 && adopt(b, news)) {
        news_free(news);
    } else {
        b->news = news;
        (void)evtimer_add(news->again, &pause);
    }
}

static struct queue_news *make_news(struct broker *b, const struct pgqrs_frame *frame,
                                    struct pgqrs_error *err)
{
    struct queue_news *news = calloc(1, sizeof *news);
    if (news == NULL) {
        (void)pgqrs_error_memory(err);
        return NULL;
    }
    news->b = b;
    news->task = (struct store_task){.run = look_up, .done = looked_up, .drop = drop};
    news->again = evtimer_new(b->base, on_again, news);
    if (pgqrs_decode_broker_queues(frame, &news->serial, &news->queues, &news->count, err) < 0) {
        news_free(news);
        return NULL;
    }
    news->ids = calloc(news->count + 1, sizeof *news->ids);
    bool whole = news->again != NULL && news->ids != NULL;
    for (size_t i = 0; i < news->count; i++) { /* the frame goes, the names stay */
        news->queues[i].name = strdup(news->queues[i].name);
        whole = whole && news->queues[i].name != NULL;
        const struct broker_queue *known = whole ? find(b, news->queues[i].name) : NULL;
        if (known != NULL) {
            news->ids[i] = known->id;
        }
    }
    if (!whole) {
        (void)pgqrs_error_memory(err);
        news_free(news);
        return NULL;
    }
    return news;
}

/* A pause does not wait for the store. */
static void take_pauses(struct broker *b, const struct queue_news *news)
{
    for (size_t i = 0; i < news->count; i++) {
        struct broker_queue *queue = find(b, news->queues[i].name);
        bool begins = queue != NULL && queue->settings.paused == 0 && news->queues[i].paused != 0;
        if (!begins) {
            continue;
        }
        queue->settings.paused = 1;
        struct worker *worker;
        TAILQ_FOREACH(worker, &queue->workers, queue_link)
        {
            pgqrs_orders_pause(b, worker);
        }
    }
}

int pgqrs_queues_update(struct broker *b, const struct pgqrs_frame *frame, struct pgqrs_error *err)
{
    struct queue_news *news = make_news(b, frame, err);
    if (news == NULL) {
        return -1;
    }
    take_pauses(b, news);
    if (b->news != NULL) { /* waits to be tried again, and is old now */
        news_free(b->news);
    }
    b->news_serial = news->serial;
    submit(news);
    return 0;
}

void pgqrs_queues_fini(struct broker *b)
{
    if (b->news != NULL) {
        news_free(b->news);
    }
    for (size_t i = 0; i < b->queue_count; i++) {
        free((void *)(uintptr_t)b->queues[i].settings.name);
    }
    free(b->queues);
}
