/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much waits in the queues whose number of workers follows from it, for pgqrsd. A queue that
 * has an idle worker has nothing that waits; only for one that has none the store is asked, and it
 * counts no further than matters.
 */
#include "broker/broker.h"

#include <stdlib.h>

#include "base/log.h"
#include "ipc/child.h"

#define LOOK_MS 2000

struct load {
    struct event *timer;
    struct store_task task;
    bool under_way;
    struct load_of_queue {
        struct broker_queue *queue;
        int64_t id;
        uint32_t max;
        uint32_t ready;
    } * asked; /* room for all queues */
    size_t asked_count;
};

static void report(struct broker *b, struct broker_queue *queue, uint32_t ready)
{
    struct pgqrs_buf out = {0};
    struct pgqrs_error err;
    if (ready == 0 && queue->reported == 0) {
        return;
    }
    pgqrs_encode_queue_load(
        &out, &(struct pgqrs_queue_load){.queue = queue->settings.name, .ready = ready});
    if (pgqrs_control_send(b->child->control, &out, &err) < 0) {
        pgqrs_log_debug("broker: the load of queue \"%s\" is not reported: %s",
                        queue->settings.name, err.text);
    } else {
        queue->reported = ready;
    }
    pgqrs_buf_fini(&out);
}

/* On the store's thread. */
static void count(struct pgqrs_store *store, struct store_task *task)
{
    struct load *load = (struct load *)((char *)task - offsetof(struct load, task));
    task->rc = 0;
    for (size_t i = 0; i < load->asked_count && task->rc == 0; i++) {
        struct load_of_queue *asked = &load->asked[i];
        struct pgqrs_queue_metrics m;
        task->rc = pgqrs_store_queue_metrics(store, asked->id, asked->max, &m, &task->err);
        asked->ready = task->rc < 0 ? 0 : (uint32_t)m.ready;
    }
}

static void counted(void *arg, struct store_task *task)
{
    struct broker *b = arg;
    struct load *load = b->load;
    load->under_way = false;
    if (task->rc < 0) {
        pgqrs_log_debug("broker: what waits could not be counted: %s", task->err.text);
        return;
    }
    for (size_t i = 0; i < load->asked_count; i++) {
        report(b, load->asked[i].queue, load->asked[i].ready);
    }
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    struct load *load = b->load;
    (void)fd;
    (void)what;
    if (load->under_way || b->draining || b->trouble_since_ms != 0) {
        return;
    }
    load->asked_count = 0;
    for (size_t i = 0; i < b->queue_count; i++) {
        struct broker_queue *queue = &b->queues[i];
        if (queue->settings.load_max == 0) {
            continue;
        }
        if (!queue->maybe_ready && !TAILQ_EMPTY(&queue->workers)) {
            report(b, queue, 0);
        } else {
            load->asked[load->asked_count++] = (struct load_of_queue){
                .queue = queue, .id = queue->id, .max = queue->settings.load_max};
        }
    }
    if (load->asked_count > 0) {
        load->under_way = true;
        pgqrs_store_thread_submit(b->store_thread, &load->task);
    }
}

void pgqrs_load_update(struct broker *b)
{
    static const struct timeval interval = {.tv_sec = LOOK_MS / 1000,
                                            .tv_usec = LOOK_MS % 1000 * 1000};
    bool wanted = false;
    for (size_t i = 0; i < b->queue_count; i++) {
        wanted = wanted || b->queues[i].settings.load_max > 0;
    }
    if (!wanted) {
        (void)event_del(b->load->timer);
    } else if (!event_pending(b->load->timer, EV_TIMEOUT, NULL) &&
               event_add(b->load->timer, &interval) < 0) {
        pgqrs_log_error("broker: out of memory, numbers of workers do not follow the load");
    }
}

int pgqrs_load_start(struct broker *b, struct pgqrs_error *err)
{
    b->load = calloc(1, sizeof *b->load);
    if (b->load == NULL) {
        return pgqrs_error_memory(err);
    }
    b->load->task = (struct store_task){.run = count, .done = counted};
    b->load->asked = calloc(PGQRS_QUEUES_MAX, sizeof *b->load->asked);
    b->load->timer = event_new(b->base, -1, EV_PERSIST, on_look, b);
    if (b->load->asked == NULL || b->load->timer == NULL) {
        return pgqrs_error_memory(err);
    }
    pgqrs_load_update(b);
    return 0;
}

void pgqrs_load_fini(struct broker *b)
{
    if (b->load != NULL) {
        if (b->load->timer != NULL) {
            event_free(b->load->timer);
        }
        free(b->load->asked);
        free(b->load);
    }
}
