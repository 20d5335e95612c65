/* SPDX-License-Identifier: Apache-2.0 */
/* Which rows are shown, in which order, and which one is selected. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/top_model.h"

/* ---- rows of either kind ---- */

static size_t row_count(const struct pgqrs_top_model *m, enum pgqrs_top_pane pane)
{
    return pane == PGQRS_TOP_QUEUES ? m->queue_count : m->worker_count;
}

static const void *row_at(const struct pgqrs_top_model *m, enum pgqrs_top_pane pane, size_t at)
{
    return pane == PGQRS_TOP_QUEUES ? (const void *)&m->queues[at] : (const void *)&m->workers[at];
}

static const char *name_at(const struct pgqrs_top_model *m, enum pgqrs_top_pane pane, size_t at)
{
    return pane == PGQRS_TOP_QUEUES ? m->queues[at].name : m->workers[at].queue;
}

static int64_t slot_at(const struct pgqrs_top_model *m, enum pgqrs_top_pane pane, size_t at)
{
    return pane == PGQRS_TOP_QUEUES ? 0 : m->workers[at].slot;
}

/* ---- order ---- */

struct order {
    const struct pgqrs_top_model *model;
    enum pgqrs_top_pane pane;
};

/* Rows are kept by name and slot, so equal ones stay in that order. */
static int compare(const void *left, const void *right, void *arg)
{
    const struct order *o = arg;
    const struct pgqrs_top_list *list = &o->model->lists[o->pane];
    const struct pgqrs_top_column *column = &pgqrs_top_columns[o->pane][list->column];
    size_t a = *(const size_t *)left;
    size_t b = *(const size_t *)right;
    int by_place = (a > b) - (a < b);
    if (column->value == NULL) {
        return list->reversed ? -by_place : by_place;
    }
    double x = column->value(row_at(o->model, o->pane, a));
    double y = column->value(row_at(o->model, o->pane, b));
    int by_value = (x < y) - (x > y);
    return by_value == 0 ? by_place : list->reversed ? -by_value : by_value;
}

static bool is_shown(const struct pgqrs_top_model *m, const char *name)
{
    return m->filter[0] == 0 || strcasestr(name, m->filter) != NULL;
}

/* What is selected is known by its name and slot from now on. */
static void keep(struct pgqrs_top_model *m, enum pgqrs_top_pane pane)
{
    struct pgqrs_top_list *list = &m->lists[pane];
    if (list->count == 0) {
        return;
    }
    size_t at = list->order[list->selected];
    char *key = strdup(name_at(m, pane, at));
    m->out_of_memory |= key == NULL;
    free(list->key);
    list->key = key;
    list->key_slot = slot_at(m, pane, at);
}

static void find_selected(struct pgqrs_top_model *m, enum pgqrs_top_pane pane)
{
    struct pgqrs_top_list *list = &m->lists[pane];
    for (size_t i = 0; list->key != NULL && i < list->count; i++) {
        if (slot_at(m, pane, list->order[i]) == list->key_slot &&
            strcmp(name_at(m, pane, list->order[i]), list->key) == 0) {
            list->selected = i;
            return;
        }
    }
    if (list->key == NULL || list->count == 0) {
        list->selected = 0;
        return;
    }
    list->selected = list->selected < list->count ? list->selected : list->count - 1;
    keep(m, pane);
}

static void arrange(struct pgqrs_top_model *m, enum pgqrs_top_pane pane)
{
    struct pgqrs_top_list *list = &m->lists[pane];
    struct order order = {.model = m, .pane = pane};
    size_t rows = row_count(m, pane);
    size_t *fresh = realloc(list->order, (rows + 1) * sizeof *fresh);
    list->count = 0;
    if (fresh == NULL) {
        m->out_of_memory = true;
        return;
    }
    list->order = fresh;
    for (size_t i = 0; i < rows; i++) {
        if (is_shown(m, name_at(m, pane, i))) {
            list->order[list->count++] = i;
        }
    }
    qsort_r(list->order, list->count, sizeof *list->order, compare, &order);
    find_selected(m, pane);
}

void pgqrs_top_arrange(struct pgqrs_top_model *m)
{
    arrange(m, PGQRS_TOP_QUEUES);
    arrange(m, PGQRS_TOP_WORKERS);
}

/* ---- what keys do ---- */

void pgqrs_top_move(struct pgqrs_top_model *m, int64_t by)
{
    struct pgqrs_top_list *list = &m->lists[m->pane];
    int64_t last = (int64_t)list->count - 1;
    int64_t to = (int64_t)list->selected + by;
    if (last >= 0) {
        list->selected = (size_t)(to < 0 ? 0 : to > last ? last : to);
        keep(m, m->pane);
    }
}

void pgqrs_top_next_column(struct pgqrs_top_model *m)
{
    struct pgqrs_top_list *list = &m->lists[m->pane];
    list->column = (list->column + 1) % pgqrs_top_column_counts[m->pane];
    list->reversed = false;
    pgqrs_top_arrange(m);
}

void pgqrs_top_reverse(struct pgqrs_top_model *m)
{
    m->lists[m->pane].reversed = !m->lists[m->pane].reversed;
    pgqrs_top_arrange(m);
}

void pgqrs_top_switch(struct pgqrs_top_model *m)
{
    m->pane = m->pane == PGQRS_TOP_QUEUES ? PGQRS_TOP_WORKERS : PGQRS_TOP_QUEUES;
}

void pgqrs_top_set_filter(struct pgqrs_top_model *m, const char *filter)
{
    (void)snprintf(m->filter, sizeof m->filter, "%s", filter);
    pgqrs_top_arrange(m);
}

void pgqrs_top_scroll(struct pgqrs_top_list *list, size_t rows)
{
    size_t last_first = list->count > rows ? list->count - rows : 0;
    if (list->selected < list->first) {
        list->first = list->selected;
    } else if (rows > 0 && list->selected >= list->first + rows) {
        list->first = list->selected - rows + 1;
    }
    list->first = list->first > last_first ? last_first : list->first;
}

const struct pgqrs_top_queue *pgqrs_top_selected_queue(const struct pgqrs_top_model *m)
{
    const struct pgqrs_top_list *list = &m->lists[PGQRS_TOP_QUEUES];
    return list->count == 0 ? NULL : &m->queues[list->order[list->selected]];
}

const struct pgqrs_top_worker *pgqrs_top_selected_worker(const struct pgqrs_top_model *m)
{
    const struct pgqrs_top_list *list = &m->lists[PGQRS_TOP_WORKERS];
    return list->count == 0 ? NULL : &m->workers[list->order[list->selected]];
}
