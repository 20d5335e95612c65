/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BENCH_REPORT_H
#define PGQRS_BENCH_REPORT_H

/*
 * What was measured: a table for people, JSON for programs, a picture. Medians of several runs.
 */

#include <stddef.h>

#define RUNS_MAX 9

struct measured { /* one line */
    const char *store, *group;
    char name[64];
    const char *unit;                                         /* "jobs/s", "ms", ... */
    double value[RUNS_MAX], floor[RUNS_MAX], pgqrs[RUNS_MAX]; /* by run; 0: not measured */
};

struct report {
    struct measured *lines;
    size_t count, cap;
    size_t runs;
};

/* The line of that name, made when there is none. */
struct measured *report_line(struct report *r, const char *store, const char *group,
                             const char *unit, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
void report_table(const struct report *r);
/* DIR/bench.json and DIR/bench.svg. */
void report_files(const struct report *r, const char *dir);
void report_fini(struct report *r);

#endif
