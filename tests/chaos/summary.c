/* SPDX-License-Identifier: Apache-2.0 */
/* How much was done, and how long it took to go on after a harm. */
#include "tests/chaos/ledger.h"

#include <stdlib.h>
#include <string.h>

static void recovered(struct chaos_recovery *r, int64_t from_us, int64_t until_us)
{
    int64_t ms = (until_us - from_us) / 1000;
    r->count++;
    r->slowest_ms = ms > r->slowest_ms ? ms : r->slowest_ms;
}

/* The job that the process ran at that time; null: none, or it could end. */
static const struct chaos_run *interrupted(const struct chaos_ledger *l, int pid, int64_t at_us)
{
    const struct chaos_run *runs = l->runs.items;
    for (size_t i = 0; i < l->runs.count; i++) {
        if (runs[i].pid == pid && runs[i].end_us == 0 && runs[i].start_us <= at_us &&
            (runs[i].next_us == 0 || runs[i].next_us > at_us)) {
            return &runs[i];
        }
    }
    return NULL;
}

static void of_worker(const struct chaos_ledger *l, const struct chaos_harm *harm,
                      struct chaos_summary *out)
{
    const struct chaos_run *runs = l->runs.items;
    const struct chaos_run *run = interrupted(l, harm->pid, harm->at_us);
    if (run != NULL && run + 1 < runs + l->runs.count && run[1].id == run->id) {
        recovered(&out->worker, harm->at_us, run[1].start_us);
    }
}

/* Runs are sorted by job. */
static const struct chaos_run *last_run_of(const struct chaos_ledger *l, int64_t id)
{
    const struct chaos_run *runs = l->runs.items;
    size_t low = 0;
    size_t high = l->runs.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (runs[middle].id <= id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 && runs[low - 1].id == id ? &runs[low - 1] : NULL;
}

/* A follow-up of a job that ended after the harm has started: that outcome was stored. */
static void of_broker(const struct chaos_ledger *l, const struct chaos_harm *harm,
                      struct chaos_summary *out)
{
    const struct chaos_run *runs = l->runs.items;
    int64_t first = INT64_MAX;
    for (size_t i = 0; i < l->runs.count; i++) {
        if (runs[i].from == 0 || runs[i].start_us < harm->at_us || runs[i].start_us >= first) {
            continue;
        }
        const struct chaos_run *parent = last_run_of(l, runs[i].from);
        if (parent != NULL && parent->end_us >= harm->at_us) {
            first = runs[i].start_us;
        }
    }
    if (first != INT64_MAX) {
        recovered(&out->broker, harm->at_us, first);
    }
}

static void of_supervisor(const struct chaos_ledger *l, const struct chaos_harm *harm,
                          struct chaos_summary *out)
{
    const struct chaos_run *runs = l->runs.items;
    int64_t first = INT64_MAX;
    for (size_t i = 0; i < l->runs.count; i++) {
        if (runs[i].start_us > harm->at_us && runs[i].start_us < first) {
            first = runs[i].start_us;
        }
    }
    if (first != INT64_MAX) {
        recovered(&out->supervisor, harm->at_us, first);
    }
}

static void count_all(const struct chaos_ledger *l, struct chaos_summary *out)
{
    const struct chaos_row *rows = l->rows.items;
    const struct chaos_run *runs = l->runs.items;
    out->acks = l->acks.count;
    out->rows = l->rows.count;
    out->runs = l->runs.count;
    for (size_t i = 0; i < l->rows.count; i++) {
        out->done += strcmp(rows[i].outcome, "done") == 0 ? 1 : 0;
        out->failed += strcmp(rows[i].outcome, "failed") == 0 ? 1 : 0;
        out->follow_ups += rows[i].from != 0 ? 1 : 0;
    }
    for (size_t i = 0; i < l->runs.count; i++) {
        bool again = i > 0 && runs[i].id == runs[i - 1].id;
        out->reruns += again ? 1 : 0;
        out->redone += again && (strcmp(runs[i - 1].how, "done") == 0 ||
                                 strcmp(runs[i - 1].how, "failed") == 0)
                           ? 1
                           : 0;
        out->killed_runs += runs[i].end_us == 0 ? 1 : 0;
    }
}

void chaos_summarise(const struct chaos_ledger *l, struct chaos_summary *out)
{
    const struct chaos_harm *harms = l->harms.items;
    memset(out, 0, sizeof *out);
    count_all(l, out);
    for (size_t i = 0; i < l->harms.count; i++) {
        if (strcmp(harms[i].name, CHAOS_KILL_WORKER) == 0) {
            of_worker(l, &harms[i], out);
        } else if (strcmp(harms[i].name, CHAOS_KILL_BROKER) == 0) {
            of_broker(l, &harms[i], out);
        } else if (strcmp(harms[i].name, CHAOS_KILL_SUPERVISOR) == 0) {
            of_supervisor(l, &harms[i], out);
        }
    }
}
