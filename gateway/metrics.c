/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers, as Prometheus reads them. Labels are bounded: the queues of the configuration, and
 * words that the program has. pgqrs-gateway(8) has each of them. */
#include "gateway/exposition.h"
#include "gateway/gateway.h"

#include <string.h>

#include "ipc/msg.h"

/* A sample of a queue, with another label unless that is null. */
static void put(struct evbuffer *out, const char *name, const char *queue, const char *label,
                const char *word, double value)
{
    pgqrs_expose(out, name, &(const struct pgqrs_labels){{{"queue", queue}, {label, word}}}, value);
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

/* ---- what the supervisor knows ---- */

static void put_process(const struct gateway *g, struct evbuffer *out)
{
    const json_t *status = g->status;
    const char *state = pgqrs_gateway_text(status, "state");
    bool up = strcmp(state, "starting") == 0 || strcmp(state, "running") == 0;
    bool store = g->counts.trouble[0] == 0 && number(status, "store_trouble_ms") == 0;
    pgqrs_expose_head(out, "pgqrs_build_info", "gauge", "The version of pgqrsd; always 1.");
    pgqrs_expose(out, "pgqrs_build_info",
                 &(const struct pgqrs_labels){{{"version", PGQRS_VERSION}}}, 1);
    pgqrs_expose_one(out, "pgqrs_start_time_seconds", "gauge",
                     "When pgqrsd was started, since 1970.", number(status, "started_us") / 1e6);
    pgqrs_expose_one(out, "pgqrs_draining", "gauge",
                     "1 when pgqrsd is draining or stopping, else 0.", up ? 0 : 1);
    pgqrs_expose_one(out, "pgqrs_store_up", "gauge",
                     "1 when the store answers and takes outcomes, else 0.", store ? 1 : 0);
    pgqrs_expose_one(out, "pgqrs_broker_deaths_total", "counter",
                     "Ends of the broker that should not have been.",
                     number(status, "broker_deaths"));
    pgqrs_expose_one(out, "pgqrs_gateway_deaths_total", "counter",
                     "Ends of the gateway that should not have been.",
                     number(status, "gateway_deaths"));
    pgqrs_expose_one(out, "pgqrs_supervisor_resident_memory_bytes", "gauge",
                     "Resident memory of the supervisor.", number(status, "memory"));
    pgqrs_expose_one(out, "pgqrs_broker_resident_memory_bytes", "gauge",
                     "Resident memory of the broker.",
                     number(json_object_get(status, "broker"), "memory"));
}

static void put_call_histograms(const json_t *status, struct evbuffer *out, const char *name,
                                const char *help, const char *object)
{
    const char *call;
    json_t *histogram;
    pgqrs_expose_head(out, name, "histogram", help);
    json_object_foreach(json_object_get(status, object), call, histogram)
    {
        pgqrs_expose_histogram(out, name, (struct pgqrs_label){"call", call}, histogram);
    }
}

/* What the broker counts as a whole. */
static void put_broker(const json_t *status, struct evbuffer *out)
{
    put_call_histograms(status, out, "pgqrs_store_call_seconds",
                        "How long the broker's calls of the store take.", "store_call_seconds");
    pgqrs_expose_head(out, "pgqrs_store_errors_total", "counter",
                      "Calls of the store that failed, and are tried again.");
    pgqrs_expose_each(out, "pgqrs_store_errors_total", NULL, "call",
                      json_object_get(status, "store_errors"));
    put_call_histograms(status, out, "pgqrs_commit_group_size",
                        "Outcomes and leases, or steps of workflows, in a transaction.",
                        "group_sizes");
    pgqrs_expose_head(out, "pgqrs_broker_wakeups_total", "counter",
                      "What made the broker look for jobs, outcomes apart.");
    pgqrs_expose_each(out, "pgqrs_broker_wakeups_total", NULL, "reason",
                      json_object_get(status, "broker_wakeups"));
}

/* A counter for each queue and each key of an object that the queue has. */
static void put_counters(const json_t *queues, struct evbuffer *out, const char *name,
                         const char *help, const char *object, const char *label)
{
    pgqrs_expose_head(out, name, "counter", help);
    for (size_t i = 0; i < json_array_size(queues); i++) {
        const json_t *queue = json_array_get(queues, i);
        pgqrs_expose_each(out, name, pgqrs_gateway_text(queue, "queue"), label,
                          json_object_get(queue, object));
    }
}

static void put_histograms(const json_t *queues, struct evbuffer *out, const char *name,
                           const char *help, const char *key)
{
    pgqrs_expose_head(out, name, "histogram", help);
    for (size_t i = 0; i < json_array_size(queues); i++) {
        const json_t *queue = json_array_get(queues, i);
        pgqrs_expose_histogram(out, name,
                               (struct pgqrs_label){"queue", pgqrs_gateway_text(queue, "queue")},
                               json_object_get(queue, key));
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

static double wanted_of(const json_t *queue)
{
    return number(queue, "consumers");
}

static double is_failing(const json_t *queue)
{
    return json_is_string(json_object_get(queue, "failing")) ? 1 : 0;
}

static double is_paused(const json_t *queue)
{
    return json_is_true(json_object_get(queue, "paused")) ? 1 : 0;
}

static double leases_lost_of(const json_t *queue)
{
    return number(queue, "leases_lost");
}

static void put_of_each(const json_t *queues, struct evbuffer *out, const char *name,
                        const char *type, const char *help, double (*of)(const json_t *queue))
{
    pgqrs_expose_head(out, name, type, help);
    for (size_t i = 0; i < json_array_size(queues); i++) {
        const json_t *queue = json_array_get(queues, i);
        put(out, name, pgqrs_gateway_text(queue, "queue"), NULL, NULL, of(queue));
    }
}

static void put_jobs(const json_t *queues, struct evbuffer *out)
{
    put_counters(queues, out, "pgqrs_jobs_settled_total",
                 "Outcomes that were stored, since pgqrsd was started.", "settled", "outcome");
    put_histograms(queues, out, "pgqrs_job_wait_seconds",
                   "How long jobs waited, from being due to their start.", "wait_seconds");
    put_histograms(queues, out, "pgqrs_job_run_seconds", "How long jobs ran.", "run_seconds");
    put_of_each(queues, out, "pgqrs_leases_lost_total", "counter",
                "Outcomes that were refused, since their lease was lost.", leases_lost_of);
    put_counters(queues, out, "pgqrs_leases_freed_total",
                 "Leases that were taken back, so that others run their jobs.", "leases_freed",
                 "reason");
}

static void put_queues(const json_t *queues, struct evbuffer *out)
{
    put_counters(queues, out, "pgqrs_worker_deaths_total",
                 "Ends of workers that should not have been, and after which they are started "
                 "again.",
                 "deaths_by_reason", "reason");
    pgqrs_expose_head(out, "pgqrs_workers", "gauge",
                      "Places of workers, by the state of who is there.");
    for (size_t i = 0; i < json_array_size(queues); i++) {
        put_workers(json_array_get(queues, i), out);
    }
    put_of_each(queues, out, "pgqrs_workers_wanted", "gauge", "How many workers there should be.",
                wanted_of);
    put_of_each(queues, out, "pgqrs_workers_resident_memory_bytes", "gauge",
                "Resident memory of all workers.", memory_of);
    put_of_each(queues, out, "pgqrs_queue_failing", "gauge",
                "1 when its workers can not start or die too often.", is_failing);
    put_of_each(queues, out, "pgqrs_queue_paused", "gauge",
                "1 when pgqrsd was told to lease nothing of it.", is_paused);
}

/* ---- what the store knows ---- */

static void put_store(const struct gateway_sample *sample, struct evbuffer *out)
{
    pgqrs_expose_head(out, "pgqrs_queue_jobs", "gauge",
                      "Jobs in the store by state; a count stops at 10000.");
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
    pgqrs_expose_head(out, "pgqrs_queue_oldest_age_seconds", "gauge",
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
    const json_t *queues = json_object_get(g->status, "queues");
    if (!pgqrs_gateway_answered(g, out)) {
        return false;
    }
    put_process(g, out);
    put_broker(g->status, out);
    put_jobs(queues, out);
    put_queues(queues, out);
    put_store(&g->counts, out);
    return true;
}
