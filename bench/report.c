/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/report.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <jansson.h>

#include "bench/target.h"

struct measured *report_line(struct report *r, const char *store, const char *group,
                             const char *unit, const char *fmt, ...)
{
    char name[sizeof r->lines->name];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    for (size_t i = 0; i < r->count; i++) {
        if (strcmp(r->lines[i].store, store) == 0 && strcmp(r->lines[i].group, group) == 0 &&
            strcmp(r->lines[i].name, name) == 0) {
            return &r->lines[i];
        }
    }
    if (r->count == r->cap) {
        r->cap = r->cap == 0 ? 64 : 2 * r->cap;
        r->lines = reallocarray(r->lines, r->cap, sizeof *r->lines);
        if (r->lines == NULL) {
            bench_fail("out of memory");
        }
    }
    struct measured *line = &r->lines[r->count++];
    *line = (struct measured){.store = store, .group = group, .unit = unit};
    memcpy(line->name, name, sizeof name);
    return line;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(const double *values, size_t runs)
{
    double sorted[RUNS_MAX];
    memcpy(sorted, values, runs * sizeof *sorted);
    qsort(sorted, runs, sizeof *sorted, compare);
    return sorted[runs / 2];
}

static void put_number(double value, const char *unit)
{
    bool whole = strcmp(unit, "jobs/s") == 0 || strcmp(unit, "rows/s") == 0;
    if (value == 0) {
        (void)printf("%12s", "");
    } else {
        (void)printf("%12.*f", whole ? 0 : 2, value);
    }
}

static void put_ratio(double value, double base, double scale, int decimals, const char *sign)
{
    if (value == 0 || base == 0) {
        (void)printf("%10s", "");
    } else {
        (void)printf("%*.*f%s", 10 - (int)strlen(sign), decimals, scale * value / base, sign);
    }
}

void report_table(const struct report *r)
{
    const char *group = "";
    const char *store = "";
    for (size_t i = 0; i < r->count; i++) {
        const struct measured *m = &r->lines[i];
        double value = median(m->value, r->runs);
        double floor = median(m->floor, r->runs);
        double pgqrs = median(m->pgqrs, r->runs);
        if (strcmp(group, m->group) != 0 || strcmp(store, m->store) != 0) {
            (void)printf("\n%-44s%12s%12s%12s%10s%10s\n", "", "pgqrsd", "floor", "pgqrs",
                         "of floor", "x pgqrs");
            (void)printf("%s, %s\n", m->group, m->store);
            group = m->group;
            store = m->store;
        }
        (void)printf("  %-34s%8s", m->name, m->unit);
        put_number(value, m->unit);
        put_number(floor, m->unit);
        put_number(pgqrs, m->unit);
        put_ratio(value, floor, 100, 0, " %");
        put_ratio(value, pgqrs, 1, 1, "x");
        (void)printf("\n");
    }
}

/* ---- JSON ---- */

static json_t *runs_of(const double *values, size_t runs)
{
    json_t *list = json_array();
    for (size_t i = 0; i < runs; i++) {
        (void)json_array_append_new(list, json_real(values[i]));
    }
    return list;
}

static void write_json(const struct report *r, const char *path)
{
    struct utsname system;
    (void)uname(&system);
    json_t *lines = json_array();
    for (size_t i = 0; i < r->count; i++) {
        const struct measured *m = &r->lines[i];
        (void)json_array_append_new(
            lines, json_pack("{s:s,s:s,s:s,s:s,s:f,s:f,s:f,s:o,s:o,s:o}", "store", m->store,
                             "group", m->group, "name", m->name, "unit", m->unit, "pgqrsd",
                             median(m->value, r->runs), "floor", median(m->floor, r->runs), "pgqrs",
                             median(m->pgqrs, r->runs), "pgqrsd_runs", runs_of(m->value, r->runs),
                             "floor_runs", runs_of(m->floor, r->runs), "pgqrs_runs",
                             runs_of(m->pgqrs, r->runs)));
    }
    json_t *all =
        json_pack("{s:s,s:s,s:s,s:I,s:I,s:o}", "version", PGQRS_VERSION, "system", system.release,
                  "machine", system.machine, "cores", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN),
                  "runs", (json_int_t)r->runs, "lines", lines);
    if (json_dump_file(all, path, JSON_INDENT(1)) < 0) {
        bench_fail("%s: can not be written", path);
    }
    json_decref(all);
}

/* ---- the picture: bars of the drain, on a logarithmic scale ---- */

#define ROW 46
#define LEFT 190
#define WIDTH 620
#define DECADES 6 /* from 10^0 */

static double bar(double value)
{
    return value < 1 ? 0 : log10(value) / DECADES * WIDTH;
}

static void put_bar(FILE *f, double value, int y, const char *colour)
{
    if (value > 0) {
        (void)fprintf(f,
                      "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"11\" fill=\"%s\"/>"
                      "<text x=\"%.1f\" y=\"%d\" font-size=\"10\">%.0f</text>\n",
                      LEFT, y, bar(value), colour, LEFT + bar(value) + 4, y + 10, value);
    }
}

static void write_svg(const struct report *r, const char *path)
{
    FILE *f = fopen(path, "w");
    if (f == NULL) {
        bench_fail("%s: can not be written", path);
    }
    int y = 50;
    for (size_t i = 0; i < r->count; i++) {
        y += strcmp(r->lines[i].unit, "jobs/s") == 0 ? ROW : 0;
    }
    (void)fprintf(f,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
                  "font-family=\"sans-serif\" font-size=\"12\">\n"
                  "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
                  "<text x=\"10\" y=\"20\">jobs per second, logarithmic: "
                  "<tspan fill=\"#1b6ca8\">pgqrsd</tspan>, <tspan fill=\"#888\">floor</tspan>, "
                  "<tspan fill=\"#c8553d\">pgqrs' statements</tspan></text>\n",
                  LEFT + WIDTH + 70, y);
    y = 40;
    for (size_t i = 0; i < r->count; i++) {
        const struct measured *m = &r->lines[i];
        if (strcmp(m->unit, "jobs/s") != 0) {
            continue;
        }
        (void)fprintf(f,
                      "<text x=\"10\" y=\"%d\">%s</text><text x=\"10\" y=\"%d\" "
                      "font-size=\"10\">%s</text>\n",
                      y + 12, m->name, y + 26, m->store);
        put_bar(f, median(m->value, r->runs), y, "#1b6ca8");
        put_bar(f, median(m->floor, r->runs), y + 13, "#888");
        put_bar(f, median(m->pgqrs, r->runs), y + 26, "#c8553d");
        y += ROW;
    }
    (void)fprintf(f, "</svg>\n");
    if (fclose(f) != 0) {
        bench_fail("%s: can not be written", path);
    }
}

void report_files(const struct report *r, const char *dir)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/bench.json", dir);
    write_json(r, path);
    (void)snprintf(path, sizeof path, "%s/bench.svg", dir);
    write_svg(r, path);
}

void report_fini(struct report *r)
{
    free(r->lines);
}
