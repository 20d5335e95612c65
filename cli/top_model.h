/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CLI_TOP_MODEL_H
#define PGQRS_CLI_TOP_MODEL_H

/*
 * What `pgqrs top` shows, apart from any screen: rows of queues and workers, made of what pgqrsd
 * says of itself and what is counted in the store, and which of them are to be seen, in which
 * order.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "cli/top_rate.h"
#include "store/store.h"

#define PGQRS_TOP_UNKNOWN (-1)
#define PGQRS_TOP_FILTER_MAX 256

enum pgqrs_top_pane { PGQRS_TOP_QUEUES = 0, PGQRS_TOP_WORKERS, PGQRS_TOP_PANES };

/* Numbers are PGQRS_TOP_UNKNOWN when nobody has told them. */
struct pgqrs_top_queue {
    char *name;
    bool served; /* pgqrsd has it */
    bool stored; /* the store has it */
    int64_t id;  /* in the store */
    int64_t waiting, running, delayed, dead;
    uint64_t count_max; /* what has reached it may be more; 0: everything was counted */
    int64_t told;       /* so many wait, as pgqrsd knows */
    int64_t oldest_ms;  /* so long has the oldest one waited; unknown, too, when nothing waits */
    int64_t workers_ready, workers_wanted;
    bool paused;      /* in the store, for all who use it */
    bool paused_here; /* for this pgqrsd alone */
    char *failing;    /* null: it is not */
    struct pgqrs_top_rate done, failed;
};

struct pgqrs_top_worker {
    char *queue;
    int64_t slot, pid;
    char state[16];
    int64_t job, job_ms; /* job 0: none */
    int64_t memory, settled;
    struct pgqrs_top_rate cpu; /* in milliseconds */
};

/* What was counted in the store. */
struct pgqrs_top_counts {
    struct pgqrs_queue_list queues;
    struct pgqrs_queue_metrics *metrics; /* one for each */
};
void pgqrs_top_counts_free(struct pgqrs_top_counts **counts); /* accepts null */

/* One of the two sources: what it says of itself. */
struct pgqrs_top_side {
    bool known;       /* it was asked */
    bool up;          /* and has answered */
    bool absent;      /* there is nobody to answer */
    int64_t asked_ms; /* it is asked since then; 0: it is not */
    char why[512];    /* it has not */
};

struct pgqrs_top_list {
    size_t *order; /* of the rows, those that are shown */
    size_t count;
    size_t column; /* sorted by this one of pgqrs_top_columns */
    bool reversed;
    size_t selected; /* in order */
    size_t first;    /* in order: the first on the screen */
    char *key;       /* what stays selected, by name and slot; null: the first, whatever it is */
    int64_t key_slot;
};

struct pgqrs_top_model {
    struct pgqrs_top_side pgqrsd, store;
    json_t *status;                 /* pgqrsd's last answer; null when it is not up */
    struct pgqrs_top_queue *queues; /* by name */
    size_t queue_count;
    struct pgqrs_top_worker *workers; /* by queue and slot */
    size_t worker_count;
    struct pgqrs_top_list lists[PGQRS_TOP_PANES];
    enum pgqrs_top_pane pane; /* where the keys go */
    char filter[PGQRS_TOP_FILTER_MAX];
    bool out_of_memory; /* something is missing */
};

void pgqrs_top_init(struct pgqrs_top_model *m);
void pgqrs_top_fini(struct pgqrs_top_model *m);

/* The answer to "status", whose reference is taken; null: err tells why there is none. */
void pgqrs_top_take_status(struct pgqrs_top_model *m, json_t *status, const struct pgqrs_error *err,
                           int64_t now_ms);
/* Borrowed; null: err tells why there is nothing. */
void pgqrs_top_take_counts(struct pgqrs_top_model *m, const struct pgqrs_top_counts *counts,
                           uint64_t count_max, const struct pgqrs_error *err);

/* Of pgqrsd's answer: "" and 0 when it is not there. */
const char *pgqrs_top_status_text(const struct pgqrs_top_model *m, const char *key);
int64_t pgqrs_top_status_number(const struct pgqrs_top_model *m, const char *key);

/* As the store has it, or as pgqrsd knows when the store is not there. */
int64_t pgqrs_top_waiting(const struct pgqrs_top_queue *q);
/* CPU in percent of one processor; unknown: -1. */
double pgqrs_top_cpu(const struct pgqrs_top_worker *w);

/* ---- top_order.c: which rows, in which order ---- */

void pgqrs_top_arrange(struct pgqrs_top_model *m); /* after anything has changed */
void pgqrs_top_move(struct pgqrs_top_model *m, int64_t by);
void pgqrs_top_next_column(struct pgqrs_top_model *m);
void pgqrs_top_reverse(struct pgqrs_top_model *m);
void pgqrs_top_switch(struct pgqrs_top_model *m);
void pgqrs_top_set_filter(struct pgqrs_top_model *m, const char *filter);
/* Moves what is seen of a list so that the selected row is among so many. */
void pgqrs_top_scroll(struct pgqrs_top_list *list, size_t rows);
/* Null: there is none. */
const struct pgqrs_top_queue *pgqrs_top_selected_queue(const struct pgqrs_top_model *m);
const struct pgqrs_top_worker *pgqrs_top_selected_worker(const struct pgqrs_top_model *m);
const struct pgqrs_top_worker *pgqrs_top_find_worker(const struct pgqrs_top_model *m,
                                                     const char *queue, int64_t slot);

/* ---- top_columns.c ---- */

#define PGQRS_TOP_CELL 1024

struct pgqrs_top_column {
    const char *title;
    const char *name; /* as it is sorted by */
    size_t width;     /* the first one may have more, and the last one when it is aligned left */
    bool left;        /* aligned so */
    unsigned rank;    /* the highest goes first when there is no room; 0 stays */
    void (*text)(const void *row, char out[PGQRS_TOP_CELL]);
    double (*value)(const void *row); /* biggest first; null: by queue */
};

extern const struct pgqrs_top_column *const pgqrs_top_columns[PGQRS_TOP_PANES];
extern const size_t pgqrs_top_column_counts[PGQRS_TOP_PANES];

/* ---- top_json.c ---- */

void pgqrs_top_print_json(const struct pgqrs_top_model *m); /* to standard output */

/* ---- top_text.c: what fits ---- */

void pgqrs_top_count(int64_t count, bool capped, char *out, size_t size);
void pgqrs_top_age(int64_t ms, char *out, size_t size);
void pgqrs_top_size(int64_t bytes, char *out, size_t size);
void pgqrs_top_real(double value, char *out, size_t size);
/*
 * The text as a terminal may have it, in no more than so many columns: control characters as \xNN,
 * a ~ at the end of what was cut. Returns how many columns it takes.
 */
size_t pgqrs_top_fit(const char *text, size_t columns, char *out, size_t size);

#endif
