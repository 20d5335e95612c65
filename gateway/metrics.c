/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers, as Prometheus reads them (text format 0.0.4). Labels are bounded: the queues of the
 * configuration, and words that the program has. */
#include "gateway/gateway.h"

#include <inttypes.h>
#include <string.h>

#include "ipc/msg.h"

static void head(struct evbuffer *out, const char *name, const char *type, const char *help)
{
    (void)evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A sample of a queue; label: null, or another one than the queue, with this value. */
static void put(struct evbuffer *out, const char *name, const char *queue, const char *label,
                const char *word, double value)
{
    (void)evbuffer_add_printf(out, "%s{queue=\"", name);
    for (; *queue != 0; queue++) {
        const char *escaped = *queue == '\\'   ? "\\\\"
                              : *queue == '"'  ? "\\\""
                              : *queue == '\n' ? "\\n"
                                               : NULL;
        (void)evbuffer_add(out, escaped == NULL ? queue : escaped, escaped == NULL ? 1 : 2);
    }
    if (label != NULL) {
        (void)evbuffer_add_printf(out, "\",%s=\"%s", label, word);
    }
    (void)evbuffer_add_printf(out, "\"} %.15g\n", value);
}

static void put_one(struct evbuffer *out, const char *name, const char *type, const char *help,
                    double value)
{
    head(out, name, type, help);
    (void)evbuffer_add_printf(out, "%s %.15g\n", name, value);
}

static double number(const json_t *object, const char *key)
{
    return (double)json_integer_value(json_object_get(object, key));
}

/* ---- what the supervisor knows ---- */

static void put_process(const struct gateway *g, struct evbuffer *out)
{
    const json_t *status = g->status;
    const char *state = pgqrs_gateway_text(status, "state");
    bool up = strcmp(state, "starting") == 0 || strcmp(state, "running") == 0;
    bool store = g->counts.trouble[0] == 0 && number(status, "store_trouble_ms") == 0;
    head(out, "pgqrs_build_info", "gauge", "The version of pgqrsd; always 1.");
    (void)evbuffer_add_printf(out, "pgqrs_build_info{version=\"%s\"} 1\n", PGQRS_VERSION);
    put_one(out, "pgqrs_start_time_seconds", "gauge", "When pgqrsd was started, since 1970.",
            number(status, "started_us") / 1e6);
    put_one(out, "pgqrs_draining", "gauge", "1 when pgqrsd is draining or stopping, else 0.",
            up ? 0 : 1);
    put_one(out, "pgqrs_store_up", "gauge", "1 when the store answers and takes outcomes, else 0.",
            store ? 1 : 0);
    put_one(out, "pgqrs_broker_deaths_total", "counter",
            "Ends of the broker that should not have been.", number(status, "broker_deaths"));
    put_one(out, "pgqrs_gateway_deaths_total", "counter",
            "Ends of the gateway that should not have been.", number(status, "gateway_deaths"));
    put_one(out, "pgqrs_supervisor_resident_memory_bytes", "gauge",
            "Resident memory of the supervisor.", number(status, "memory"));
    put_one(out, "pgqrs_broker_resident_memory_bytes", "gauge", "Resident memory of the broker.",
            number(json_object_get(status, "broker"), "memory"));
}

/* A counter for each queue and each key of an object that the queue has. */
static void put_counters(const json_t *queues, struct evbuffer *out, const char *name,
                         const char *help, const char *object, const char *label)
{
    head(out, name, "counter", help);
    for (size_t i = 0; i < json_array_size(queues); i++) {
        const json_t *queue = json_array_get(queues, i);
        json_t *counts = json_object_get(queue, object);
        const char *key;
        json_t *value;
        json_object_foreach(counts, key, value)
        {
            put(out, name, pgqrs_gateway_text(queue, "queue"), label, key,
                (double)json_integer_value(value));
        }
    }
}

static void put_workers(const json_t *queue, struct evbuffer *out)
{
    static const char *const states[] = {"not running", "starting", "loading",
                                         "ready",       "draining", "killed"};
    const json_t *workers = json_object_get(queue, "workers");
    for (size_t s = 0; s < sizeof states / sizeof *states; s++) {
        size_t count = 0;
        for (size_t i = 0; i < json_array_size(workers); i++) {
            const char *state = pgqrs_gateway_text(json_array_get(workers, i), "state");
            count += strcmp(state, states[s]) == 0 ? 1 : 0;
        }
        put(out, "pgqrs_workers", pgqrs_gateway_text(queue, "queue"), "state", states[s],
            (double)count);
    }
}

static double memory_of(const json_t *queue)
{
    const json_t *workers = json_object_get(queue, "workers");
    double sum = 0;
    for (size_t i = 0; i < json_array_size(workers); i++) {
        sum += number(json_array_get(workers, i), "memory");
    }
    return sum;
}

static void put_queues(const json_t *queues, struct evbuffer *out)
{
    put_counters(queues, out, "pgqrs_jobs_settled_total",
                 "Outcomes that were stored, since pgqrsd was started.", "settled", "outcome");
    put_counters(queues, out, "pgqrs_worker_deaths_total",
                 "Ends of workers that should not have been, and after which they are started "
                 "again.",
                 "deaths_by_reason", "reason");
    head(out, "pgqrs_workers", "gauge", "Places of workers, by the state of who is there.");
    for (size_t i = 0; i < json_array_size(queues); i++) {
        put_workers(json_array_get(queues, i), out);
    }
    head(out, "pgqrs_workers_wanted", "gauge", "How many workers there should be.");
    for (size_t i = 0; i < json_array_size(queues); i++) {
        const json_t *queue = json_array_get(queues, i);
        put(out, "pgqrs_workers_wanted", pgqrs_gateway_text(queue, "queue"), NULL, NULL,
            number(queue, "consumers"));
    }
    head(out, "pgqrs_workers_resident_memory_bytes", "gauge", "Resident memory of all workers.");
    for (size_t i = 0; i < json_array_size(queues); i++) {
        const json_t *queue = json_array_get(queues, i);
        put(out, "pgqrs_workers_resident_memory_bytes", pgqrs_gateway_text(queue, "queue"), NULL,
            NULL, memory_of(queue));
    }
    head(out, "pgqrs_queue_failing", "gauge", "1 when its workers can not start or die too often.");
    for (size_t i = 0; i < json_array_size(queues); i++) {
        const json_t *queue = json_array_get(queues, i);
        put(out, "pgqrs_queue_failing", pgqrs_gateway_text(queue, "queue"), NULL, NULL,
            json_is_string(json_object_get(queue, "failing")) ? 1 : 0);
    }
}

/* ---- what the store knows ---- */

static void put_store(const struct gateway_sample *sample, struct evbuffer *out)
{
    head(out, "pgqrs_queue_jobs", "gauge", "Jobs in the store by state; a count stops at 10000.");
    for (size_t i = 0; i < sample->queue_count; i++) {
        const struct gateway_queue *queue = &sample->queues[i];
        const struct pgqrs_queue_metrics *m = &queue->metrics;
        if (queue->known) {
            put(out, "pgqrs_queue_jobs", queue->name, "state", "waiting", (double)m->ready);
            put(out, "pgqrs_queue_jobs", queue->name, "state", "delayed",
                (double)(m->pending - m->ready));
            put(out, "pgqrs_queue_jobs", queue->name, "state", "running", (double)m->leased);
            put(out, "pgqrs_queue_jobs", queue->name, "state", "dead", (double)m->failed);
        }
    }
    head(out, "pgqrs_queue_oldest_age_seconds", "gauge",
         "Age of the oldest job that waits or is delayed; 0 when there is none.");
    for (size_t i = 0; i < sample->queue_count; i++) {
        const struct gateway_queue *queue = &sample->queues[i];
        const struct pgqrs_queue_metrics *m = &queue->metrics;
        double age = m->oldest_pending_us == 0 || m->oldest_pending_us > m->now_us
                         ? 0
                         : (double)(m->now_us - m->oldest_pending_us) / 1e6;
        if (queue->known) {
            put(out, "pgqrs_queue_oldest_age_seconds", queue->name, NULL, NULL, age);
        }
    }
}

bool pgqrs_gateway_metrics(const struct gateway *g, struct evbuffer *out)
{
    if (!pgqrs_gateway_answered(g, out)) {
        return false;
    }
    put_process(g, out);
    put_queues(json_object_get(g->status, "queues"), out);
    put_store(&g->counts, out);
    return true;
}
