/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/top_screen.h"

#define NAME_MAX_WIDTH 48
#define PATIENCE_MS 2000
#define BOTH_LINES 6 /* fewer are for the list that has the keys */

void pgqrs_top_trouble(const struct pgqrs_top_model *m, enum pgqrs_top_of of, int64_t now_ms,
                       char *out, size_t size)
{
    const struct pgqrs_top_side *side = of == PGQRS_TOP_OF_PGQRSD ? &m->pgqrsd : &m->store;
    const char *name = of == PGQRS_TOP_OF_PGQRSD ? "pgqrsd" : "store";
    out[0] = 0;
    if (side->asked_ms != 0 && now_ms - side->asked_ms > PATIENCE_MS) {
        char age[32];
        pgqrs_top_age(now_ms - side->asked_ms, age, sizeof age);
        (void)snprintf(out, size, "%s: no answer for %s", name, age);
    } else if (side->known && !side->up) {
        (void)snprintf(out, size, "%s: %s", name, side->why);
    }
}

/* ---- lines ---- */

static void lay_out_rows(const struct pgqrs_top_model *m, size_t lines,
                         struct pgqrs_top_layout *out)
{
    size_t queues = m->lists[PGQRS_TOP_QUEUES].count;
    size_t workers = m->lists[PGQRS_TOP_WORKERS].count;
    if (lines < BOTH_LINES) {
        out->shown[m->pane] = lines > 0;
        out->rows[m->pane] = lines > 0 ? lines - 1 : 0;
        return;
    }
    size_t rows = lines - PGQRS_TOP_PANES;
    size_t half = rows / 2;
    queues = queues > 0 ? queues : 1;
    workers = workers > 0 ? workers : 1;
    size_t top = queues <= half ? queues : workers <= rows - half ? rows - workers : half;
    out->shown[PGQRS_TOP_QUEUES] = out->shown[PGQRS_TOP_WORKERS] = true;
    out->rows[PGQRS_TOP_QUEUES] = top < queues ? top : queues;
    out->rows[PGQRS_TOP_WORKERS] = rows - out->rows[PGQRS_TOP_QUEUES];
}

/* ---- columns ---- */

static size_t longest_name(const struct pgqrs_top_model *m, enum pgqrs_top_pane pane)
{
    const struct pgqrs_top_list *list = &m->lists[pane];
    size_t longest = 0;
    for (size_t i = 0; i < list->count; i++) {
        char fitted[4 * NAME_MAX_WIDTH];
        const char *name = pane == PGQRS_TOP_QUEUES ? m->queues[list->order[i]].name
                                                    : m->workers[list->order[i]].queue;
        size_t width = pgqrs_top_fit(name, NAME_MAX_WIDTH, fitted, sizeof fitted);
        longest = width > longest ? width : longest;
    }
    return longest;
}

/* The space that columns up to this rank take, with a blank before each. */
static size_t space_of(enum pgqrs_top_pane pane, unsigned rank)
{
    size_t space = 0;
    for (size_t i = 0; i < pgqrs_top_column_counts[pane]; i++) {
        const struct pgqrs_top_column *column = &pgqrs_top_columns[pane][i];
        space += column->rank <= rank ? column->width + 1 : 0;
    }
    return space;
}

static void lay_out_columns(const struct pgqrs_top_model *m, enum pgqrs_top_pane pane,
                            size_t columns, struct pgqrs_top_layout *out)
{
    size_t all = pgqrs_top_column_counts[pane];
    unsigned rank = 0;
    size_t count = 0;
    for (size_t i = 0; i < all; i++) {
        rank = pgqrs_top_columns[pane][i].rank > rank ? pgqrs_top_columns[pane][i].rank : rank;
    }
    while (rank > 0 && space_of(pane, rank) > columns) {
        rank--;
    }
    size_t space = space_of(pane, rank);
    size_t left = columns > space ? columns - space : 0;
    for (size_t i = 0; i < all; i++) {
        const struct pgqrs_top_column *column = &pgqrs_top_columns[pane][i];
        if (column->rank <= rank) {
            out->columns[pane][count].column = i;
            out->columns[pane][count++].width = column->width;
        }
    }
    out->column_counts[pane] = count;
    size_t longest = longest_name(m, pane);
    size_t least = out->columns[pane][0].width;
    size_t more = longest > least ? longest - least : 0;
    more = more < left ? more : left;
    out->columns[pane][0].width += more;
    if (pgqrs_top_columns[pane][all - 1].left) {
        out->columns[pane][count - 1].width += left - more;
    }
}

void pgqrs_top_lay_out(const struct pgqrs_top_model *m, size_t lines, size_t columns,
                       struct pgqrs_top_layout *out)
{
    *out = (struct pgqrs_top_layout){0};
    lay_out_rows(m, lines, out);
    lay_out_columns(m, PGQRS_TOP_QUEUES, columns, out);
    lay_out_columns(m, PGQRS_TOP_WORKERS, columns, out);
}
