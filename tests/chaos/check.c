/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold of a ledger. */
#include "tests/chaos/ledger.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLOCKS_US 2000       /* the log is in milliseconds of another clock */
#define WAITS_US 12000000    /* for so long an outcome may wait for the store */
#define AWAY_US 3000000      /* for so long there may be no broker after a death of one */
#define FORGOTTEN_US 1500000 /* for so long a lease may be in a server's memory only */
#define OUTAGE_US 5000000    /* how long one is known to be away, and its leases are run */

void chaos_find(struct chaos_findings *f, const char *fmt, ...)
{
    if (f->count < CHAOS_FINDINGS_MAX) {
        va_list args;
        va_start(args, fmt);
        (void)vsnprintf(f->text[f->count], sizeof f->text[0], fmt, args);
        va_end(args);
    }
    f->count++;
}

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

/* ---- order ---- */

static int order(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b ? 1 : 0;
}

static int by_row_id(const void *a, const void *b)
{
    const struct chaos_row *x = a;
    const struct chaos_row *y = b;
    return order(x->id, y->id);
}

static int by_number(const void *a, const void *b)
{
    const struct chaos_row *const *x = a;
    const struct chaos_row *const *y = b;
    return order((*x)->n, (*y)->n);
}

static int by_process(const void *a, const void *b)
{
    const struct chaos_run *x = a;
    const struct chaos_run *y = b;
    int first = order(x->pid, y->pid);
    return first != 0 ? first : order(x->start_us, y->start_us);
}

static int by_job(const void *a, const void *b)
{
    const struct chaos_run *x = a;
    const struct chaos_run *y = b;
    int first = order(x->id, y->id);
    return first != 0 ? first : order(x->start_us, y->start_us);
}

static void sort(const struct chaos_list *list, size_t size,
                 int (*compare)(const void *, const void *))
{
    if (list->count > 0) {
        qsort(list->items, list->count, size, compare);
    }
}

static void sort_runs(struct chaos_ledger *l)
{
    struct chaos_run *runs = l->runs.items;
    sort(&l->runs, sizeof *runs, by_process);
    for (size_t i = 0; i + 1 < l->runs.count; i++) {
        runs[i].next_us = runs[i + 1].pid == runs[i].pid ? runs[i + 1].start_us : 0;
    }
    sort(&l->runs, sizeof *runs, by_job);
}

static const struct chaos_row *row_of(const struct chaos_ledger *l, int64_t id)
{
    const struct chaos_row key = {.id = id};
    return l->rows.count == 0 ? NULL
                              : bsearch(&key, l->rows.items, l->rows.count, sizeof key, by_row_id);
}

/* The first of a job's runs, and how many there are. Runs are sorted by job. */
static const struct chaos_run *runs_of(const struct chaos_ledger *l, int64_t id, size_t *count_out)
{
    const struct chaos_run *runs = l->runs.items;
    size_t low = 0;
    size_t high = l->runs.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (runs[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    size_t end = low;
    while (end < l->runs.count && runs[end].id == id) {
        end++;
    }
    *count_out = end - low;
    return end > low ? &runs[low] : NULL;
}

/* ---- the store against the producer and the handlers ---- */

static void check_acks(const struct chaos_ledger *l, struct chaos_findings *f)
{
    const struct chaos_ack *acks = l->acks.items;
    for (size_t i = 0; i < l->acks.count; i++) {
        const struct chaos_row *row = row_of(l, acks[i].id);
        if (row == NULL) {
            chaos_find(f, "lost: job %" PRId64 " was acknowledged and is not in the store",
                       acks[i].id);
        } else if (row->n != acks[i].n) {
            chaos_find(f,
                       "job %" PRId64 " was acknowledged as item %" PRId64 " and is item %" PRId64,
                       row->id, acks[i].n, row->n);
        }
    }
}

static void check_row(const struct chaos_ledger *l, const struct chaos_row *row,
                      struct chaos_findings *f)
{
    size_t count;
    bool run_so = false;
    const struct chaos_run *runs = runs_of(l, row->id, &count);
    for (size_t i = 0; i < count; i++) {
        run_so = run_so || (runs[i].end_us != 0 && is(runs[i].how, row->want));
    }
    if (is(row->outcome, "open")) {
        chaos_find(f, "lost: job %" PRId64 " has not ended, after %zu runs", row->id, count);
    } else if (!is(row->outcome, row->want)) {
        chaos_find(f, "job %" PRId64 " has ended \"%s\", its payload says \"%s\"", row->id,
                   row->outcome, row->want);
    } else if (is(row->outcome, "done") && row->by != row->attempt) {
        chaos_find(f, "job %" PRId64 " was completed by attempt %d, and attempt %d had the lease",
                   row->id, row->by, row->attempt);
    } else if (!run_so) {
        chaos_find(f, "job %" PRId64 " is \"%s\" in the store, and no run of it has ended so",
                   row->id, row->outcome);
    }
}

static void check_numbers(const struct chaos_ledger *l, struct chaos_findings *f)
{
    const struct chaos_row *rows = l->rows.items;
    const struct chaos_row **sorted = calloc(l->rows.count + 1, sizeof(void *));
    for (size_t i = 0; sorted != NULL && i < l->rows.count; i++) {
        sorted[i] = &rows[i];
    }
    if (sorted == NULL) {
        abort();
    }
    qsort(sorted, l->rows.count, sizeof(void *), by_number);
    for (size_t i = 1; i < l->rows.count; i++) {
        if (sorted[i]->n != 0 && sorted[i]->n == sorted[i - 1]->n) {
            chaos_find(f,
                       "item %" PRId64 " was enqueued once and is there twice: jobs %" PRId64
                       " and %" PRId64,
                       sorted[i]->n, sorted[i - 1]->id, sorted[i]->id);
        }
    }
    free(sorted);
}

static int by_from(const void *a, const void *b)
{
    const int64_t *x = a;
    const int64_t *y = b;
    return order(*x, *y);
}

/* How many follow-ups each job has: froms are sorted. */
static void check_follow_ups(const struct chaos_ledger *l, struct chaos_findings *f)
{
    const struct chaos_row *rows = l->rows.items;
    struct chaos_list froms = {.items = calloc(l->rows.count + 1, sizeof(int64_t))};
    int64_t *from = froms.items;
    if (from == NULL) {
        abort();
    }
    for (size_t i = 0; i < l->rows.count; i++) {
        if (rows[i].from != 0) {
            from[froms.count++] = rows[i].from;
        }
    }
    sort(&froms, sizeof *from, by_from);
    size_t at = 0;
    for (size_t i = 0; i < l->rows.count; i++) {
        size_t found = 0;
        for (; at < froms.count && from[at] <= rows[i].id; at++) {
            found += from[at] == rows[i].id ? 1 : 0;
        }
        size_t expected = rows[i].then && is(rows[i].outcome, "done") ? 1 : 0;
        if (found != expected) {
            chaos_find(f, "job %" PRId64 " is \"%s\" and has added %zu jobs, expected %zu",
                       rows[i].id, rows[i].outcome, found, expected);
        }
    }
    free(from);
}

/* ---- runs of one job ---- */

static bool any_between(const struct chaos_list *times, int64_t from, int64_t until)
{
    const int64_t *at = times->items;
    for (size_t i = 0; i < times->count; i++) {
        if (at[i] >= from && at[i] <= until) {
            return true;
        }
    }
    return false;
}

static bool died_between(const struct chaos_ledger *l, int pid, int64_t from, int64_t until)
{
    const struct chaos_death *deaths = l->deaths.items;
    for (size_t i = 0; i < l->deaths.count; i++) {
        if (deaths[i].pid == pid && deaths[i].at_us >= from && deaths[i].at_us <= until) {
            return true;
        }
    }
    return false;
}

/* A worker may have died with the job before it could say that it began: each counts a crash, and
 * is an attempt that nobody has seen. */
static bool lease_forgotten(const struct chaos_ledger *l, const struct chaos_run *a,
                            const struct chaos_run *b)
{
    const struct chaos_harm *harms = l->harms.items;
    const struct chaos_row *row = row_of(l, b->id);
    int unseen = row == NULL ? 0 : row->crashes;
    for (size_t i = 0; i < l->harms.count && b->attempt <= a->attempt + unseen; i++) {
        if (is(harms[i].name, CHAOS_CRASH_SERVER) && b->start_us > harms[i].at_us &&
            a->start_us > harms[i].at_us - FORGOTTEN_US &&
            a->start_us < harms[i].at_us + OUTAGE_US) {
            return true;
        }
    }
    return false;
}

static bool lease_taken(const struct chaos_ledger *l, const struct chaos_run *b)
{
    const struct chaos_harm *harms = l->harms.items;
    for (size_t i = 0; i < l->harms.count; i++) {
        if (is(harms[i].name, CHAOS_TAKE_LEASE) && harms[i].pid == b->id &&
            harms[i].at_us <= b->start_us) {
            return true;
        }
    }
    return false;
}

static void check_pair(const struct chaos_ledger *l, const struct chaos_run *a,
                       const struct chaos_run *b, struct chaos_findings *f)
{
    bool ended = a->end_us != 0 && a->end_us <= b->start_us;
    bool ran_more = a->next_us != 0 && a->next_us <= b->start_us;
    int64_t until =
        ended && a->end_us + WAITS_US < b->start_us ? a->end_us + WAITS_US : b->start_us;
    if (any_between(&l->overs, a->start_us, until) || lease_forgotten(l, a, b) ||
        lease_taken(l, b)) {
        return;
    }
    bool untold = died_between(l, a->pid, a->start_us - CLOCKS_US, b->start_us) &&
                  (!ran_more || any_between(&l->brokers, a->end_us - AWAY_US, until));
    if (b->holder != 0 || (a->end_us != 0 && !ended)) {
        chaos_find(f,
                   "overlap: job %" PRId64 " was begun by %d (attempt %d) while %d ran it "
                   "(attempt %d)",
                   b->id, b->pid, b->attempt, a->pid, a->attempt);
    } else if (!ended && ran_more) {
        chaos_find(f, "job %" PRId64 " was begun by %d, did not end, and %d went on to others",
                   b->id, a->pid, a->pid);
    } else if (ended && !is(a->how, "retry") && !is(a->how, "cancelled") && !untold) {
        chaos_find(f,
                   "twice: job %" PRId64 " ended \"%s\" in %d (attempt %d), and %d has run it "
                   "again (attempt %d)",
                   b->id, a->how, a->pid, a->attempt, b->pid, b->attempt);
    }
    if (b->attempt < a->attempt) {
        chaos_find(f, "job %" PRId64 ": attempt %d came after attempt %d", b->id, b->attempt,
                   a->attempt);
    }
}

static void check_runs(const struct chaos_ledger *l, struct chaos_findings *f)
{
    const struct chaos_run *runs = l->runs.items;
    for (size_t i = 0; i < l->runs.count; i++) {
        if (i > 0 && runs[i].id == runs[i - 1].id) {
            check_pair(l, &runs[i - 1], &runs[i], f);
        } else if (row_of(l, runs[i].id) == NULL) {
            chaos_find(f, "lost: job %" PRId64 " was run and is not in the store", runs[i].id);
        }
    }
}

void chaos_check(struct chaos_ledger *l, struct chaos_findings *f)
{
    const struct chaos_row *rows = l->rows.items;
    sort(&l->rows, sizeof *rows, by_row_id);
    sort_runs(l);
    check_acks(l, f);
    for (size_t i = 0; i < l->rows.count; i++) {
        check_row(l, &rows[i], f);
    }
    check_numbers(l, f);
    check_follow_ups(l, f);
    check_runs(l, f);
}
