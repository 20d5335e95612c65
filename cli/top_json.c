/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output.h"
#include "cli/top_model.h"

#include "base/clock.h"

static void integer(struct pgqrs_json *json, const char *key, int64_t value)
{
    if (value == PGQRS_TOP_UNKNOWN) {
        pgqrs_json_text(json, key, NULL);
    } else {
        pgqrs_json_integer(json, key, value);
    }
}

static void real(struct pgqrs_json *json, const char *key, double value)
{
    if (value < 0) {
        pgqrs_json_text(json, key, NULL);
    } else {
        pgqrs_json_real(json, key, value);
    }
}

static void print_pgqrsd(struct pgqrs_json *json, const struct pgqrs_top_model *m)
{
    pgqrs_json_begin(json, "pgqrsd", '{');
    pgqrs_json_boolean(json, "running", m->pgqrsd.up);
    if (m->pgqrsd.up) {
        pgqrs_json_text(json, "version", pgqrs_top_status_text(m, "version"));
        pgqrs_json_text(json, "name", pgqrs_top_status_text(m, "name"));
        pgqrs_json_integer(json, "pid", pgqrs_top_status_number(m, "pid"));
        pgqrs_json_text(json, "state", pgqrs_top_status_text(m, "state"));
        pgqrs_json_time(json, "started_at", pgqrs_top_status_number(m, "started_us"));
        pgqrs_json_integer(json, "store_trouble_ms",
                           pgqrs_top_status_number(m, "store_trouble_ms"));
        pgqrs_json_text(json, "log_level", pgqrs_top_status_text(m, "log_level"));
    } else {
        pgqrs_json_text(json, "error", m->pgqrsd.why);
    }
    pgqrs_json_end(json, '}');
}

static void print_queue(struct pgqrs_json *json, const struct pgqrs_top_queue *q)
{
    pgqrs_json_begin(json, NULL, '{');
    pgqrs_json_text(json, "name", q->name);
    integer(json, "waiting", pgqrs_top_waiting(q));
    integer(json, "running", q->running);
    integer(json, "delayed", q->delayed);
    integer(json, "dead", q->dead);
    real(json, "done_per_s", pgqrs_top_rate_per_s(&q->done));
    real(json, "failed_per_s", pgqrs_top_rate_per_s(&q->failed));
    integer(json, "oldest_waiting_ms", q->oldest_ms);
    integer(json, "workers_ready", q->workers_ready);
    integer(json, "workers_wanted", q->workers_wanted);
    pgqrs_json_boolean(json, "paused", q->paused);
    pgqrs_json_boolean(json, "paused_by_ctl", q->paused_here);
    pgqrs_json_text(json, "failing", q->failing);
    pgqrs_json_end(json, '}');
}

static void print_worker(struct pgqrs_json *json, const struct pgqrs_top_worker *w)
{
    pgqrs_json_begin(json, NULL, '{');
    pgqrs_json_text(json, "queue", w->queue);
    pgqrs_json_integer(json, "worker", w->slot);
    integer(json, "pid", w->pid);
    pgqrs_json_text(json, "state", w->state);
    integer(json, "job", w->job == 0 ? PGQRS_TOP_UNKNOWN : w->job);
    integer(json, "job_ms", w->job_ms);
    real(json, "cpu_percent", pgqrs_top_cpu(w));
    integer(json, "memory", w->memory);
    integer(json, "settled", w->settled);
    pgqrs_json_end(json, '}');
}

void pgqrs_top_print_json(const struct pgqrs_top_model *m)
{
    struct pgqrs_json json = {0};
    pgqrs_json_begin(&json, NULL, '{');
    print_pgqrsd(&json, m);
    pgqrs_json_begin(&json, "store", '{');
    pgqrs_json_boolean(&json, "open", m->store.up);
    pgqrs_json_text(&json, "error", m->store.up ? NULL : m->store.why);
    pgqrs_json_end(&json, '}');
    pgqrs_json_begin(&json, "queues", '[');
    for (size_t i = 0; i < m->queue_count; i++) {
        print_queue(&json, &m->queues[i]);
    }
    pgqrs_json_end(&json, ']');
    pgqrs_json_begin(&json, "workers", '[');
    for (size_t i = 0; i < m->worker_count; i++) {
        print_worker(&json, &m->workers[i]);
    }
    pgqrs_json_end(&json, ']');
    pgqrs_json_end(&json, '}');
}
