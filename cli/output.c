/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"

#define WIDTH_DEFAULT 80
#define LAST_COLUMN_MIN 16
#define NEVER_US (INT64_C(50) * 366 * 86400 * 1000000) /* from now */

const char *pgqrs_time_json(int64_t us, char out[PGQRS_TIME_SIZE])
{
    pgqrs_timestamp_format(us, out);
    out[10] = 'T';
    (void)memcpy(out + strlen(out), "Z", 2);
    return out;
}

int64_t pgqrs_time_or_never(int64_t us)
{
    return us >= pgqrs_wall_us() + NEVER_US ? 0 : us;
}

const char *pgqrs_time_table(int64_t us, char out[PGQRS_TIME_SIZE])
{
    if (us == 0) {
        return "-";
    }
    (void)pgqrs_time_json(us, out);
    (void)memcpy(out + 19, "Z", 2); /* the fraction goes */
    return out;
}

bool pgqrs_output_flush(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return true;
    }
    pgqrs_cli_error("standard output: %s", strerror(errno));
    return false;
}

/* ---- tables ---- */

struct pgqrs_table pgqrs_table_of(const char *const *headers, size_t columns)
{
    return (struct pgqrs_table){.columns = columns, .headers = headers};
}

void pgqrs_table_text(struct pgqrs_table *table, const char *text)
{
    pgqrs_show(&table->cells, text == NULL ? "-" : text);
    pgqrs_buf_put_u8(&table->cells, 0);
    table->cell_count++;
}

void pgqrs_table_number(struct pgqrs_table *table, int64_t value)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%" PRId64, value);
    pgqrs_table_text(table, text);
}

/* Characters, which is near enough to columns. */
static size_t width_of(const char *text)
{
    size_t n = 0;
    for (; *text != 0; text++) {
        n += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return n;
}

static size_t terminal_width(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
                                                                           : WIDTH_DEFAULT;
}

/* Prints at most max characters; what is cut ends in three dots. */
static void print_cut(const char *text, size_t max)
{
    size_t width = width_of(text);
    size_t keep = width <= max ? width : max - 3;
    size_t bytes = 0;
    for (size_t n = 0; text[bytes] != 0; bytes++) {
        n += ((unsigned char)text[bytes] & 0xc0) != 0x80;
        if (n > keep) {
            break;
        }
    }
    (void)printf("%.*s%s\n", (int)bytes, text, width <= max ? "" : "...");
}

static void print_row(const struct pgqrs_table *table, const char *const *cells,
                      const size_t *widths, size_t last_max)
{
    for (size_t i = 0; i < table->columns; i++) {
        int pad = (int)(widths[i] - width_of(cells[i]));
        if (i + 1 == table->columns && table->headers[i][0] != '>') {
            print_cut(cells[i], last_max);
        } else if (table->headers[i][0] == '>') {
            (void)printf("%*s%s%s", pad, "", cells[i], i + 1 == table->columns ? "\n" : "  ");
        } else {
            (void)printf("%s%*s  ", cells[i], pad, "");
        }
    }
}

static void print_rows(const struct pgqrs_table *table)
{
    const char *cells[PGQRS_COLUMNS_MAX];
    size_t widths[PGQRS_COLUMNS_MAX] = {0};
    size_t used = 0;
    const char *cell = (const char *)table->cells.data;
    assert(table->columns > 0 && table->columns <= PGQRS_COLUMNS_MAX);
    for (size_t i = 0; i < table->columns; i++) {
        cells[i] = table->headers[i] + (table->headers[i][0] == '>');
        widths[i] = width_of(cells[i]);
    }
    for (size_t i = 0; i < table->cell_count; i++, cell += strlen(cell) + 1) {
        size_t width = width_of(cell);
        size_t column = i % table->columns;
        widths[column] = width > widths[column] ? width : widths[column];
    }
    for (size_t i = 0; i + 1 < table->columns; i++) {
        used += widths[i] + 2;
    }
    size_t all = terminal_width();
    size_t last = table->whole                   ? SIZE_MAX
                  : all > used + LAST_COLUMN_MIN ? all - used
                                                 : LAST_COLUMN_MIN;
    print_row(table, cells, widths, last);
    cell = (const char *)table->cells.data;
    for (size_t i = 0; i < table->cell_count; i++, cell += strlen(cell) + 1) {
        cells[i % table->columns] = cell;
        if (i % table->columns == table->columns - 1) {
            print_row(table, cells, widths, last);
        }
    }
}

void pgqrs_table_print(struct pgqrs_table *table)
{
    if (table->cells.failed) {
        pgqrs_cli_error("out of memory");
    } else {
        print_rows(table);
    }
    pgqrs_buf_fini(&table->cells);
}

/* ---- lines ---- */

#define NAME_WIDTH 9

static void print_line(const char *name, const char *text, size_t max)
{
    struct pgqrs_buf shown = {0};
    if (text != NULL) {
        pgqrs_show(&shown, text);
        pgqrs_buf_put_u8(&shown, 0);
        (void)printf("%-*s ", NAME_WIDTH, name);
        print_cut(shown.failed ? "?" : (const char *)shown.data, max);
    }
    pgqrs_buf_fini(&shown);
}

void pgqrs_line(const char *name, const char *text)
{
    print_line(name, text, SIZE_MAX);
}

void pgqrs_line_cut(const char *name, const char *text)
{
    size_t width = terminal_width();
    print_line(name, text, width > 2 * LAST_COLUMN_MIN ? width - NAME_WIDTH - 1 : LAST_COLUMN_MIN);
}

void pgqrs_line_number(const char *name, int64_t value)
{
    (void)printf("%-*s %" PRId64 "\n", NAME_WIDTH, name, value);
}

void pgqrs_line_time(const char *name, int64_t us)
{
    char time[PGQRS_TIME_SIZE];
    pgqrs_line(name, us == 0 ? NULL : pgqrs_time_json(us, time));
}

bool pgqrs_is_utf8_wanted(void)
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (value != NULL && *value != 0) {
            return strcasestr(value, "utf-8") != NULL || strcasestr(value, "utf8") != NULL;
        }
    }
    return false;
}
