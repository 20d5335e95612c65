/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/chaos/ledger.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Returns room for one more, zeroed. */
static void *append(struct chaos_list *list, size_t size)
{
    if (list->count == list->room) {
        size_t room = list->room == 0 ? 256 : list->room * 2;
        void *items = realloc(list->items, room * size);
        if (items == NULL) {
            abort();
        }
        list->items = items;
        list->room = room;
    }
    void *item = (char *)list->items + list->count++ * size;
    memset(item, 0, size);
    return item;
}

void chaos_ledger_fini(struct chaos_ledger *l)
{
    struct chaos_list *const lists[] = {&l->acks,  &l->runs,    &l->harms, &l->rows,
                                        &l->overs, &l->brokers, &l->deaths};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        free(lists[i]->items);
    }
    memset(l, 0, sizeof *l);
}

/* The last start of this process is the one that it ends. */
static bool add_end(struct chaos_ledger *l, const struct chaos_run *end)
{
    struct chaos_run *runs = l->runs.items;
    for (size_t i = l->runs.count; i > 0; i--) {
        struct chaos_run *run = &runs[i - 1];
        if (run->pid == end->pid) {
            bool same = run->id == end->id && run->attempt == end->attempt && run->end_us == 0;
            if (same) {
                run->end_us = end->end_us;
                memcpy(run->how, end->how, sizeof run->how);
            }
            return same;
        }
    }
    return false;
}

static bool add_number(struct chaos_list *list, int64_t number)
{
    *(int64_t *)append(list, sizeof number) = number;
    return true;
}

static bool add_row(struct chaos_ledger *l, const char *line)
{
    struct chaos_row row = {0};
    int then;
    if (sscanf(line, "row %" SCNd64 " %" SCNd64 " %" SCNd64 " %15s %d %15s %d %d %d", &row.id,
               &row.n, &row.from, row.want, &then, row.outcome, &row.attempt, &row.by,
               &row.crashes) != 9) {
        return false;
    }
    row.then = then != 0;
    *(struct chaos_row *)append(&l->rows, sizeof row) = row;
    return true;
}

bool chaos_ledger_add(struct chaos_ledger *l, const char *line)
{
    struct chaos_run run = {0};
    struct chaos_harm harm = {0};
    struct chaos_ack ack;
    struct chaos_death death;
    int64_t number;
    if (sscanf(line, "start %" SCNd64 " %d %d %" SCNd64 " %d %15s %" SCNd64, &run.id, &run.attempt,
               &run.pid, &run.start_us, &run.holder, run.queue, &run.from) == 7) {
        *(struct chaos_run *)append(&l->runs, sizeof run) = run;
        return true;
    }
    if (sscanf(line, "end %" SCNd64 " %d %d %" SCNd64 " %15s", &run.id, &run.attempt, &run.pid,
               &run.end_us, run.how) == 5) {
        return add_end(l, &run);
    }
    if (sscanf(line, "ack %" SCNd64 " %" SCNd64, &ack.id, &ack.n) == 2) {
        *(struct chaos_ack *)append(&l->acks, sizeof ack) = ack;
        return true;
    }
    if (sscanf(line, "harm %23s %" SCNd64 " %d", harm.name, &harm.at_us, &harm.pid) == 3) {
        *(struct chaos_harm *)append(&l->harms, sizeof harm) = harm;
        return true;
    }
    if (sscanf(line, "over %" SCNd64, &number) == 1) {
        return add_number(&l->overs, number);
    }
    if (sscanf(line, "broker_died %" SCNd64, &number) == 1) {
        return add_number(&l->brokers, number);
    }
    if (sscanf(line, "died %d %" SCNd64, &death.pid, &death.at_us) == 2) {
        *(struct chaos_death *)append(&l->deaths, sizeof death) = death;
        return true;
    }
    return add_row(l, line);
}

int chaos_ledger_read(struct chaos_ledger *l, const char *path)
{
    char line[256];
    int unknown = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return -1;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        unknown += chaos_ledger_add(l, line) ? 0 : 1;
    }
    (void)fclose(file);
    return unknown;
}
