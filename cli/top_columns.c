/* SPDX-License-Identifier: Apache-2.0 */
/* The columns of both lists: what is in them, and what they are sorted by. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/top_model.h"

/* ---- queues ---- */

static void put_count(const struct pgqrs_top_queue *q, int64_t count, char out[PGQRS_TOP_CELL])
{
    bool capped = q->count_max != 0 && count >= (int64_t)q->count_max;
    pgqrs_top_count(count, capped, out, PGQRS_TOP_CELL);
}

static void queue_name(const void *row, char out[PGQRS_TOP_CELL])
{
    (void)snprintf(out, PGQRS_TOP_CELL, "%s", ((const struct pgqrs_top_queue *)row)->name);
}

static void waiting_text(const void *row, char out[PGQRS_TOP_CELL])
{
    put_count(row, pgqrs_top_waiting(row), out);
}

static double waiting_value(const void *row)
{
    return (double)pgqrs_top_waiting(row);
}

static void running_text(const void *row, char out[PGQRS_TOP_CELL])
{
    put_count(row, ((const struct pgqrs_top_queue *)row)->running, out);
}

static double running_value(const void *row)
{
    return (double)((const struct pgqrs_top_queue *)row)->running;
}

static void delayed_text(const void *row, char out[PGQRS_TOP_CELL])
{
    put_count(row, ((const struct pgqrs_top_queue *)row)->delayed, out);
}

static double delayed_value(const void *row)
{
    return (double)((const struct pgqrs_top_queue *)row)->delayed;
}

static void dead_text(const void *row, char out[PGQRS_TOP_CELL])
{
    put_count(row, ((const struct pgqrs_top_queue *)row)->dead, out);
}

static double dead_value(const void *row)
{
    return (double)((const struct pgqrs_top_queue *)row)->dead;
}

static double done_value(const void *row)
{
    return pgqrs_top_rate_per_s(&((const struct pgqrs_top_queue *)row)->done);
}

static void done_text(const void *row, char out[PGQRS_TOP_CELL])
{
    pgqrs_top_real(done_value(row), out, PGQRS_TOP_CELL);
}

static double failed_value(const void *row)
{
    return pgqrs_top_rate_per_s(&((const struct pgqrs_top_queue *)row)->failed);
}

static void failed_text(const void *row, char out[PGQRS_TOP_CELL])
{
    pgqrs_top_real(failed_value(row), out, PGQRS_TOP_CELL);
}

static void oldest_text(const void *row, char out[PGQRS_TOP_CELL])
{
    pgqrs_top_age(((const struct pgqrs_top_queue *)row)->oldest_ms, out, PGQRS_TOP_CELL);
}

static double oldest_value(const void *row)
{
    return (double)((const struct pgqrs_top_queue *)row)->oldest_ms;
}

static void workers_text(const void *row, char out[PGQRS_TOP_CELL])
{
    const struct pgqrs_top_queue *q = row;
    (void)snprintf(out, PGQRS_TOP_CELL, "-");
    if (q->served) {
        (void)snprintf(out, PGQRS_TOP_CELL, "%" PRId64 "/%" PRId64, q->workers_ready,
                       q->workers_wanted);
    }
}

static double workers_value(const void *row)
{
    return (double)((const struct pgqrs_top_queue *)row)->workers_ready;
}

static void queue_state_text(const void *row, char out[PGQRS_TOP_CELL])
{
    const struct pgqrs_top_queue *q = row;
    const char *pause = q->paused ? "paused" : q->paused_here ? "ctl pause" : "";
    if (q->failing != NULL) {
        (void)snprintf(out, PGQRS_TOP_CELL, "%s%sfailing: %s", pause, *pause != 0 ? ", " : "",
                       q->failing);
    } else {
        (void)snprintf(out, PGQRS_TOP_CELL, "%s", pause);
    }
}

static double queue_state_value(const void *row)
{
    const struct pgqrs_top_queue *q = row;
    return (q->failing != NULL) * 2 + (q->paused || q->paused_here);
}

static const struct pgqrs_top_column queue_columns[] = {
    {"QUEUE", "name", 12, true, 0, queue_name, NULL},
    {"WAIT", "waiting", 6, false, 0, waiting_text, waiting_value},
    {"RUN", "running", 5, false, 1, running_text, running_value},
    {"DELAY", "delayed", 6, false, 5, delayed_text, delayed_value},
    {"DEAD", "dead", 6, false, 2, dead_text, dead_value},
    {"DONE/S", "done per second", 6, false, 4, done_text, done_value},
    {"FAIL/S", "failed per second", 6, false, 6, failed_text, failed_value},
    {"OLDEST", "oldest", 6, false, 7, oldest_text, oldest_value},
    {"WORKERS", "workers", 7, false, 3, workers_text, workers_value},
    {"STATE", "state", 8, true, 0, queue_state_text, queue_state_value},
};

/* ---- workers ---- */

static void worker_queue_text(const void *row, char out[PGQRS_TOP_CELL])
{
    (void)snprintf(out, PGQRS_TOP_CELL, "%s", ((const struct pgqrs_top_worker *)row)->queue);
}

static void slot_text(const void *row, char out[PGQRS_TOP_CELL])
{
    pgqrs_top_count(((const struct pgqrs_top_worker *)row)->slot, false, out, PGQRS_TOP_CELL);
}

static double slot_value(const void *row)
{
    return (double)((const struct pgqrs_top_worker *)row)->slot;
}

static void put_number(int64_t number, char out[PGQRS_TOP_CELL])
{
    (void)snprintf(out, PGQRS_TOP_CELL, "-");
    if (number > 0) {
        (void)snprintf(out, PGQRS_TOP_CELL, "%" PRId64, number);
    }
}

static void pid_text(const void *row, char out[PGQRS_TOP_CELL])
{
    put_number(((const struct pgqrs_top_worker *)row)->pid, out);
}

static double pid_value(const void *row)
{
    return (double)((const struct pgqrs_top_worker *)row)->pid;
}

static void state_text(const void *row, char out[PGQRS_TOP_CELL])
{
    const struct pgqrs_top_worker *w = row;
    bool busy = w->job != 0 && strcmp(w->state, "ready") == 0;
    (void)snprintf(out, PGQRS_TOP_CELL, "%s", busy ? "busy" : w->state);
}

/* Those that are not ready first, then those that are busy. */
static double state_value(const void *row)
{
    const struct pgqrs_top_worker *w = row;
    return (strcmp(w->state, "ready") != 0) * 2 + (w->job != 0);
}

static void job_text(const void *row, char out[PGQRS_TOP_CELL])
{
    put_number(((const struct pgqrs_top_worker *)row)->job, out);
}

static double job_value(const void *row)
{
    return (double)((const struct pgqrs_top_worker *)row)->job;
}

static void age_text(const void *row, char out[PGQRS_TOP_CELL])
{
    pgqrs_top_age(((const struct pgqrs_top_worker *)row)->job_ms, out, PGQRS_TOP_CELL);
}

static double age_value(const void *row)
{
    return (double)((const struct pgqrs_top_worker *)row)->job_ms;
}

static double cpu_value(const void *row)
{
    return pgqrs_top_cpu(row);
}

static void cpu_text(const void *row, char out[PGQRS_TOP_CELL])
{
    pgqrs_top_real(pgqrs_top_cpu(row), out, PGQRS_TOP_CELL);
}

static void memory_text(const void *row, char out[PGQRS_TOP_CELL])
{
    pgqrs_top_size(((const struct pgqrs_top_worker *)row)->memory, out, PGQRS_TOP_CELL);
}

static double memory_value(const void *row)
{
    return (double)((const struct pgqrs_top_worker *)row)->memory;
}

static void settled_text(const void *row, char out[PGQRS_TOP_CELL])
{
    pgqrs_top_count(((const struct pgqrs_top_worker *)row)->settled, false, out, PGQRS_TOP_CELL);
}

static double settled_value(const void *row)
{
    return (double)((const struct pgqrs_top_worker *)row)->settled;
}

static const struct pgqrs_top_column worker_columns[] = {
    {"QUEUE", "queue", 12, true, 0, worker_queue_text, NULL},
    {"SLOT", "slot", 4, false, 0, slot_text, slot_value},
    {"PID", "pid", 7, false, 2, pid_text, pid_value},
    {"STATE", "state", 11, true, 1, state_text, state_value},
    {"JOB", "job", 9, false, 0, job_text, job_value},
    {"AGE", "age", 6, false, 3, age_text, age_value},
    {"CPU%", "CPU", 5, false, 4, cpu_text, cpu_value},
    {"MEMORY", "memory", 6, false, 5, memory_text, memory_value},
    {"DONE", "done", 6, false, 6, settled_text, settled_value},
};

const struct pgqrs_top_column *const pgqrs_top_columns[PGQRS_TOP_PANES] = {
    [PGQRS_TOP_QUEUES] = queue_columns, [PGQRS_TOP_WORKERS] = worker_columns};
const size_t pgqrs_top_column_counts[PGQRS_TOP_PANES] = {
    [PGQRS_TOP_QUEUES] = sizeof queue_columns / sizeof *queue_columns,
    [PGQRS_TOP_WORKERS] = sizeof worker_columns / sizeof *worker_columns};
