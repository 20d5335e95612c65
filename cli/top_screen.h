/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CLI_TOP_SCREEN_H
#define PGQRS_CLI_TOP_SCREEN_H

/* The terminal of `pgqrs top`. */

#include "cli/top_keys.h"

/* ---- top_layout.c: what goes where; knows nothing of a terminal ---- */

#define PGQRS_TOP_COLUMNS_MAX 12
#define PGQRS_TOP_TROUBLES 2

struct pgqrs_top_layout {
    size_t rows[PGQRS_TOP_PANES]; /* below the titles of each list */
    bool shown[PGQRS_TOP_PANES];
    struct {
        size_t column, width;
    } columns[PGQRS_TOP_PANES][PGQRS_TOP_COLUMNS_MAX];
    size_t column_counts[PGQRS_TOP_PANES];
};

/* What is wrong with a source, by enum pgqrs_top_of; "": nothing. */
void pgqrs_top_trouble(const struct pgqrs_top_model *m, enum pgqrs_top_of of, int64_t now_ms,
                       char *out, size_t size);
/* lines: for both lists together, with their titles. */
void pgqrs_top_lay_out(const struct pgqrs_top_model *m, size_t lines, size_t columns,
                       struct pgqrs_top_layout *out);

/* ---- top_screen.c ---- */

/* Exit status; else the reason is printed. */
int pgqrs_top_screen_begin(void);
void pgqrs_top_screen_end(void); /* the terminal is as it was before */
void pgqrs_top_screen_draw(struct pgqrs_top_ui *ui, int64_t now_ms);
void pgqrs_top_screen_forget(void); /* what is on it: the next time everything is drawn */
/* Presses the keys that have come. */
void pgqrs_top_screen_read(struct pgqrs_top_ui *ui);

#endif
