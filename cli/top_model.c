/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of queues and workers, of what pgqrsd and the store say. */
#include "cli/top_model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/tally_page.h"

void pgqrs_top_init(struct pgqrs_top_model *m)
{
    *m = (struct pgqrs_top_model){0};
}

static void free_queue(struct pgqrs_top_queue *q)
{
    free(q->name);
    free(q->failing);
}

static void free_workers(struct pgqrs_top_worker *workers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(workers[i].queue);
    }
    free(workers);
}

void pgqrs_top_fini(struct pgqrs_top_model *m)
{
    for (size_t i = 0; i < m->queue_count; i++) {
        free_queue(&m->queues[i]);
    }
    free(m->queues);
    free_workers(m->workers, m->worker_count);
    for (size_t i = 0; i < PGQRS_TOP_PANES; i++) {
        free(m->lists[i].order);
        free(m->lists[i].key);
    }
    json_decref(m->status);
    *m = (struct pgqrs_top_model){0};
}

void pgqrs_top_counts_free(struct pgqrs_top_counts **counts)
{
    if (*counts != NULL) {
        pgqrs_queue_list_fini(&(*counts)->queues);
        free((*counts)->metrics);
        free(*counts);
        *counts = NULL;
    }
}

/* ---- queues ---- */

static void forget_counts(struct pgqrs_top_queue *q)
{
    q->stored = false;
    q->paused = false;
    q->id = 0;
    q->count_max = 0;
    q->waiting = q->running = q->delayed = q->dead = q->oldest_ms = PGQRS_TOP_UNKNOWN;
}

static void forget_service(struct pgqrs_top_queue *q)
{
    q->served = q->paused_here = false;
    q->workers_ready = q->workers_wanted = q->told = PGQRS_TOP_UNKNOWN;
    q->done.count = q->failed.count = 0;
    free(q->failing);
    q->failing = NULL;
}

/* Where the queue of this name is, or belongs. */
static size_t place_of(const struct pgqrs_top_model *m, const char *name)
{
    size_t from = 0;
    size_t to = m->queue_count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (strcmp(m->queues[middle].name, name) < 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

/* The row of that name, made when there is none; null without memory. */
static struct pgqrs_top_queue *queue_named(struct pgqrs_top_model *m, const char *name)
{
    size_t at = place_of(m, name);
    if (at < m->queue_count && strcmp(m->queues[at].name, name) == 0) {
        return &m->queues[at];
    }
    struct pgqrs_top_queue *more = realloc(m->queues, (m->queue_count + 1) * sizeof *more);
    char *copy = strdup(name);
    m->queues = more != NULL ? more : m->queues;
    if (more == NULL || copy == NULL) {
        free(copy);
        m->out_of_memory = true;
        return NULL;
    }
    memmove(more + at + 1, more + at, (m->queue_count - at) * sizeof *more);
    m->queue_count++;
    more[at] = (struct pgqrs_top_queue){.name = copy};
    forget_counts(&more[at]);
    forget_service(&more[at]);
    return &more[at];
}

/* Those that nobody speaks of any more. */
static void drop_queues(struct pgqrs_top_model *m)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->queue_count; i++) {
        if (m->queues[i].served || m->queues[i].stored) {
            m->queues[kept++] = m->queues[i];
        } else {
            free_queue(&m->queues[i]);
        }
    }
    m->queue_count = kept;
}

/* ---- what pgqrsd says ---- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value == NULL ? "" : value;
}

static int64_t number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? json_integer_value(value) : PGQRS_TOP_UNKNOWN;
}

const char *pgqrs_top_status_text(const struct pgqrs_top_model *m, const char *key)
{
    return text_of(m->status, key);
}

int64_t pgqrs_top_status_number(const struct pgqrs_top_model *m, const char *key)
{
    return json_integer_value(json_object_get(m->status, key));
}

int64_t pgqrs_top_waiting(const struct pgqrs_top_queue *q)
{
    return q->stored ? q->waiting : q->told;
}

double pgqrs_top_cpu(const struct pgqrs_top_worker *w)
{
    double ms_per_s = pgqrs_top_rate_per_s(&w->cpu);
    return ms_per_s < 0 ? -1 : ms_per_s / 10;
}

static int compare_workers(const void *left, const void *right)
{
    const struct pgqrs_top_worker *a = left;
    const struct pgqrs_top_worker *b = right;
    int names = strcmp(a->queue, b->queue);
    return names != 0 ? names : (a->slot > b->slot) - (a->slot < b->slot);
}

const struct pgqrs_top_worker *pgqrs_top_find_worker(const struct pgqrs_top_model *m,
                                                     const char *queue, int64_t slot)
{
    const struct pgqrs_top_worker key = {.queue = (char *)(uintptr_t)queue, .slot = slot};
    return m->worker_count == 0
               ? NULL
               : bsearch(&key, m->workers, m->worker_count, sizeof key, compare_workers);
}

static void take_worker(const struct pgqrs_top_model *m, const char *queue, const json_t *place,
                        int64_t now_ms, struct pgqrs_top_worker *w)
{
    int64_t cpu_ms = number_of(place, "cpu_ms");
    int64_t beat_age_ms = number_of(place, "beat_age_ms");
    int64_t job = number_of(place, "job");
    *w = (struct pgqrs_top_worker){
        .queue = strdup(queue),
        .slot = number_of(place, "worker"),
        .pid = number_of(place, "pid"),
        .job = job > 0 ? job : 0,
        /* as of its last heartbeat */
        .job_ms = job > 0 ? number_of(place, "job_ms") + (beat_age_ms > 0 ? beat_age_ms : 0)
                          : PGQRS_TOP_UNKNOWN,
        .memory = number_of(place, "memory"),
        .settled = number_of(place, "settled"),
    };
    (void)snprintf(w->state, sizeof w->state, "%s", text_of(place, "state"));
    const struct pgqrs_top_worker *before = pgqrs_top_find_worker(m, queue, w->slot);
    if (before != NULL && before->pid == w->pid) {
        w->cpu = before->cpu;
    }
    if (cpu_ms >= 0) {
        pgqrs_top_rate_add(&w->cpu, now_ms, cpu_ms);
    }
}

static void take_workers(struct pgqrs_top_model *m, const json_t *queues, int64_t now_ms)
{
    struct pgqrs_top_worker *workers;
    size_t count = 0;
    size_t max = 0;
    for (size_t i = 0; i < json_array_size(queues); i++) {
        max += json_array_size(json_object_get(json_array_get(queues, i), "workers"));
    }
    workers = calloc(max + 1, sizeof *workers);
    m->out_of_memory |= workers == NULL;
    for (size_t i = 0; workers != NULL && i < json_array_size(queues); i++) {
        const json_t *queue = json_array_get(queues, i);
        const json_t *places = json_object_get(queue, "workers");
        for (size_t w = 0; w < json_array_size(places); w++) {
            take_worker(m, text_of(queue, "queue"), json_array_get(places, w), now_ms,
                        &workers[count]);
            m->out_of_memory |= workers[count].queue == NULL;
            count += workers[count].queue != NULL;
        }
    }
    free_workers(m->workers, m->worker_count);
    m->workers = workers;
    m->worker_count = count;
    if (count > 0) {
        qsort(workers, count, sizeof *workers, compare_workers);
    }
}

static int64_t count_ready(const json_t *places)
{
    int64_t ready = 0;
    for (size_t i = 0; i < json_array_size(places); i++) {
        ready += strcmp(text_of(json_array_get(places, i), "state"), "ready") == 0;
    }
    return ready;
}

static void take_service(struct pgqrs_top_model *m, const json_t *queue, int64_t now_ms)
{
    const json_t *settled = json_object_get(queue, "settled");
    const json_t *failing = json_object_get(queue, "failing");
    struct pgqrs_top_queue *q = queue_named(m, text_of(queue, "queue"));
    if (q == NULL) {
        return;
    }
    q->served = true;
    q->workers_ready = count_ready(json_object_get(queue, "workers"));
    q->workers_wanted = number_of(queue, "consumers");
    q->paused_here = json_is_true(json_object_get(queue, "paused"));
    /* It asks only for those that follow the load. */
    q->told =
        number_of(queue, "consumers_max") > 0 ? number_of(queue, "waiting") : PGQRS_TOP_UNKNOWN;
    free(q->failing);
    q->failing = json_is_string(failing) ? strdup(json_string_value(failing)) : NULL;
    pgqrs_top_rate_add(&q->done, now_ms, number_of(settled, pgqrs_tally_names[PGQRS_TALLY_DONE]));
    pgqrs_top_rate_add(&q->failed, now_ms,
                       number_of(settled, pgqrs_tally_names[PGQRS_TALLY_FAILED]));
}

/* Another process has begun its own counts. */
static bool is_same_process(const json_t *a, const json_t *b)
{
    return number_of(a, "pid") == number_of(b, "pid") &&
           number_of(a, "started_us") == number_of(b, "started_us");
}

static void answered(struct pgqrs_top_side *side, bool up, const struct pgqrs_error *err)
{
    side->known = true;
    side->up = up;
    side->absent = !up && (err->sys_errno == ENOENT || err->sys_errno == ECONNREFUSED);
    (void)snprintf(side->why, sizeof side->why, "%s", up ? "" : err->text);
}

void pgqrs_top_take_status(struct pgqrs_top_model *m, json_t *status, const struct pgqrs_error *err,
                           int64_t now_ms)
{
    const json_t *queues = json_object_get(status, "queues");
    bool same = m->status != NULL && is_same_process(m->status, status);
    answered(&m->pgqrsd, status != NULL, err);
    for (size_t i = 0; i < m->queue_count; i++) {
        m->queues[i].served = false;
        if (!same) {
            forget_service(&m->queues[i]);
        }
    }
    take_workers(m, queues, now_ms);
    for (size_t i = 0; i < json_array_size(queues); i++) {
        take_service(m, json_array_get(queues, i), now_ms);
    }
    for (size_t i = 0; i < m->queue_count; i++) {
        if (!m->queues[i].served) {
            forget_service(&m->queues[i]);
        }
    }
    json_decref(m->status);
    m->status = status;
    drop_queues(m);
    pgqrs_top_arrange(m);
}

/* ---- what the store says ---- */

static void take_metrics(struct pgqrs_top_queue *q, const struct pgqrs_queue *queue,
                         const struct pgqrs_queue_metrics *metrics, uint64_t count_max)
{
    q->stored = true;
    q->id = queue->id;
    q->paused = queue->paused_at_us != 0;
    q->waiting = metrics->ready;
    q->running = metrics->leased;
    q->delayed = metrics->pending - metrics->ready;
    q->dead = metrics->failed;
    q->oldest_ms = metrics->oldest_pending_us == 0
                       ? PGQRS_TOP_UNKNOWN
                       : (metrics->now_us - metrics->oldest_pending_us) / 1000;
    q->oldest_ms = q->oldest_ms < PGQRS_TOP_UNKNOWN ? 0 : q->oldest_ms;
    q->count_max = count_max;
}

void pgqrs_top_take_counts(struct pgqrs_top_model *m, const struct pgqrs_top_counts *counts,
                           uint64_t count_max, const struct pgqrs_error *err)
{
    answered(&m->store, counts != NULL, err);
    for (size_t i = 0; i < m->queue_count; i++) {
        forget_counts(&m->queues[i]);
    }
    for (size_t i = 0; counts != NULL && i < counts->queues.count; i++) {
        struct pgqrs_top_queue *q = queue_named(m, counts->queues.items[i].name);
        if (q != NULL) {
            take_metrics(q, &counts->queues.items[i], &counts->metrics[i], count_max);
        }
    }
    drop_queues(m);
    pgqrs_top_arrange(m);
}
