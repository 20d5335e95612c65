/* SPDX-License-Identifier: Apache-2.0 */
/* The only file that knows ncurses. */
#include "cli/top_screen.h"

#include <inttypes.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <curses.h>

#include "base/clock.h"

#define ESCAPE_MS 25
#define CTRL_L 0x0c
#define COLUMNS_LEAST 24
#define LINES_LEAST 5
#define LINE_MAX_BYTES 2048

enum { PAIR_NONE = 0, PAIR_BAD, PAIR_ODD };

static SCREEN *screen;

/* ---- begin and end ---- */

static bool is_able(const char *capability)
{
    const char *text = tigetstr((char *)(uintptr_t)capability);
    return text != NULL && text != (const char *)-1;
}

static int bad_terminal(void)
{
    const char *term = getenv("TERM");
    return pgqrs_cli_usage("TERM: found \"%s\", expected a terminal whose cursor can be moved, "
                           "such as xterm-256color; without one: pgqrs top -o json",
                           term == NULL ? "" : term);
}

int pgqrs_top_screen_begin(void)
{
    struct termios settings;
    if (isatty(STDIN_FILENO) != 1 || isatty(STDOUT_FILENO) != 1) {
        return pgqrs_cli_usage("found no terminal at standard %s, expected one; without one: "
                               "pgqrs top -o json",
                               isatty(STDIN_FILENO) != 1 ? "input" : "output");
    }
    (void)setlocale(LC_CTYPE, "");
    screen = newterm(NULL, stdout, stdin);
    if (screen == NULL || !is_able("cup") || !is_able("clear")) {
        pgqrs_top_screen_end();
        return bad_terminal();
    }
    (void)cbreak();
    (void)noecho();
    if (tcgetattr(STDIN_FILENO, &settings) == 0) {
        settings.c_iflag &= ~(tcflag_t)(IXON | IXOFF); /* Ctrl-S does not hold it up */
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &settings);
        (void)def_prog_mode();
    }
    (void)nodelay(stdscr, TRUE);
    (void)keypad(stdscr, TRUE);
    (void)set_escdelay(ESCAPE_MS);
    (void)curs_set(0);
    if (has_colors() && getenv("NO_COLOR") == NULL) {
        (void)start_color();
        (void)use_default_colors();
        (void)init_pair(PAIR_BAD, COLOR_RED, -1);
        (void)init_pair(PAIR_ODD, COLOR_YELLOW, -1);
    }
    return PGQRS_CLI_OK;
}

void pgqrs_top_screen_end(void)
{
    if (screen != NULL) {
        (void)endwin();
        delscreen(screen);
        screen = NULL;
    }
}

void pgqrs_top_screen_forget(void)
{
    (void)clearok(stdscr, TRUE);
}

/* ---- pieces ---- */

/* At most so many columns of a line; returns how many. */
static int put(int y, int x, int columns, const char *text)
{
    char fitted[LINE_MAX_BYTES];
    if (y < 0 || y >= LINES || x >= COLS || columns <= 0) {
        return 0;
    }
    columns = columns < COLS - x ? columns : COLS - x;
    int width = (int)pgqrs_top_fit(text, (size_t)columns, fitted, sizeof fitted);
    (void)mvaddstr(y, x, fitted);
    return width;
}

static void PGQRS_PRINTF(3, 4) put_line(int y, attr_t look, const char *fmt, ...)
{
    char text[LINE_MAX_BYTES];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    (void)attrset((int)look);
    (void)put(y, 0, COLS, text);
    (void)attrset(A_NORMAL);
}

static void put_cell(int y, int x, size_t width, bool left, const char *text)
{
    char fitted[LINE_MAX_BYTES];
    size_t wide = pgqrs_top_fit(text, width, fitted, sizeof fitted);
    if (x < COLS) {
        (void)put(y, left ? x : x + (int)(width - wide), (int)width, text);
    }
}

/* ---- the head ---- */

static const char *absence(const struct pgqrs_top_side *side)
{
    return !side->known ? "no answer yet" : side->absent ? "not running" : "no answer";
}

/* As pgqrsd sees it, or as we do when it does not tell. */
static const char *store_state(const struct pgqrs_top_model *m, char out[48])
{
    int64_t trouble_ms = pgqrs_top_status_number(m, "store_trouble_ms");
    char age[32];
    pgqrs_top_age(trouble_ms, age, sizeof age);
    if (trouble_ms > 0) {
        (void)snprintf(out, 48, "down for %s", age);
    } else {
        (void)snprintf(out, 48, "%s",
                       m->pgqrsd.up || m->store.up ? "up"
                       : m->store.known            ? "down"
                                                   : "not asked yet");
    }
    return out;
}

static void draw_head(const struct pgqrs_top_model *m)
{
    char store[48];
    char age[32];
    if (!m->pgqrsd.up) {
        put_line(0, A_BOLD, "pgqrsd: %s, store %s", absence(&m->pgqrsd), store_state(m, store));
        return;
    }
    pgqrs_top_age((pgqrs_wall_us() - pgqrs_top_status_number(m, "started_us")) / 1000, age,
                  sizeof age);
    put_line(0, A_BOLD, "pgqrsd %s \"%s\": %s, up %s, store %s, log level %s",
             pgqrs_top_status_text(m, "version"), pgqrs_top_status_text(m, "name"),
             pgqrs_top_status_text(m, "state"), age, store_state(m, store),
             pgqrs_top_status_text(m, "log_level"));
}

static void draw_sums(const struct pgqrs_top_model *m)
{
    int64_t ready = 0;
    int64_t wanted = 0;
    double done = 0;
    double failed = 0;
    char done_text[32];
    char failed_text[32];
    for (size_t i = 0; i < m->queue_count; i++) {
        const struct pgqrs_top_queue *q = &m->queues[i];
        double done_s = pgqrs_top_rate_per_s(&q->done);
        double failed_s = pgqrs_top_rate_per_s(&q->failed);
        ready += q->workers_ready > 0 ? q->workers_ready : 0;
        wanted += q->workers_wanted > 0 ? q->workers_wanted : 0;
        done += done_s > 0 ? done_s : 0;
        failed += failed_s > 0 ? failed_s : 0;
    }
    pgqrs_top_real(done, done_text, sizeof done_text);
    pgqrs_top_real(failed, failed_text, sizeof failed_text);
    put_line(1, A_NORMAL, "%zu queues, %" PRId64 "/%" PRId64 " workers, %s done/s, %s failed/s",
             m->queue_count, ready, wanted, done_text, failed_text);
}

/* Returns the line after them. */
static int draw_troubles(const struct pgqrs_top_model *m, int y, int64_t now_ms)
{
    for (int of = 0; of < PGQRS_TOP_SOURCES; of++) {
        char text[LINE_MAX_BYTES];
        pgqrs_top_trouble(m, (enum pgqrs_top_of)of, now_ms, text, sizeof text);
        if (text[0] != 0) {
            put_line(y++, (attr_t)COLOR_PAIR(PAIR_BAD) | A_BOLD, "%s", text);
        }
    }
    return y;
}

/* ---- the lists ---- */

static void draw_titles(const struct pgqrs_top_model *m, enum pgqrs_top_pane pane,
                        const struct pgqrs_top_layout *layout, int y)
{
    const struct pgqrs_top_list *list = &m->lists[pane];
    int x = 1;
    for (size_t i = 0; i < layout->column_counts[pane]; i++) {
        size_t at = layout->columns[pane][i].column;
        size_t width = layout->columns[pane][i].width;
        const struct pgqrs_top_column *column = &pgqrs_top_columns[pane][at];
        char title[64];
        (void)snprintf(title, sizeof title, "%s", column->title);
        if (at == 0 && list->count > layout->rows[pane]) {
            (void)snprintf(title, sizeof title, "%s %zu/%zu", column->title, list->selected + 1,
                           list->count);
        }
        (void)attrset((int)(A_BOLD | (at == list->column ? A_UNDERLINE : A_NORMAL)));
        put_cell(y, x, width, column->left, title);
        x += (int)width + 1;
    }
    (void)attrset(A_NORMAL);
}

static attr_t look_of(const struct pgqrs_top_model *m, enum pgqrs_top_pane pane, size_t row)
{
    if (pane == PGQRS_TOP_WORKERS) {
        const struct pgqrs_top_worker *w = &m->workers[row];
        return strcmp(w->state, "ready") == 0 ? A_NORMAL : (attr_t)COLOR_PAIR(PAIR_ODD);
    }
    const struct pgqrs_top_queue *q = &m->queues[row];
    return q->failing != NULL            ? (attr_t)COLOR_PAIR(PAIR_BAD)
           : q->paused || q->paused_here ? (attr_t)COLOR_PAIR(PAIR_ODD)
                                         : A_NORMAL;
}

static void draw_row(const struct pgqrs_top_model *m, enum pgqrs_top_pane pane,
                     const struct pgqrs_top_layout *layout, size_t place, int y)
{
    const struct pgqrs_top_list *list = &m->lists[pane];
    size_t at = list->order[place];
    const void *row =
        pane == PGQRS_TOP_QUEUES ? (const void *)&m->queues[at] : (const void *)&m->workers[at];
    bool selected = pane == m->pane && place == list->selected;
    int x = 1;
    (void)attrset((int)(look_of(m, pane, at) | (selected ? A_REVERSE : A_NORMAL)));
    if (selected) {
        (void)mvhline(y, 0, ' ', COLS);
        (void)put(y, 0, 1, ">");
    }
    for (size_t i = 0; i < layout->column_counts[pane]; i++) {
        const struct pgqrs_top_column *column =
            &pgqrs_top_columns[pane][layout->columns[pane][i].column];
        char cell[PGQRS_TOP_CELL];
        column->text(row, cell);
        put_cell(y, x, layout->columns[pane][i].width, column->left, cell);
        x += (int)layout->columns[pane][i].width + 1;
    }
    (void)attrset(A_NORMAL);
}

static int draw_list(struct pgqrs_top_ui *ui, enum pgqrs_top_pane pane,
                     const struct pgqrs_top_layout *layout, int y)
{
    struct pgqrs_top_list *list = &ui->model.lists[pane];
    ui->page[pane] = layout->rows[pane];
    if (!layout->shown[pane]) {
        return y;
    }
    pgqrs_top_scroll(list, layout->rows[pane]);
    draw_titles(&ui->model, pane, layout, y++);
    for (size_t i = 0; i < layout->rows[pane] && list->first + i < list->count; i++) {
        draw_row(&ui->model, pane, layout, list->first + i, y + (int)i);
    }
    if (list->count == 0 && layout->rows[pane] > 0) {
        put_line(y, A_DIM, " none");
    }
    return y + (int)layout->rows[pane];
}

/* ---- the last line, and help ---- */

static void draw_foot(const struct pgqrs_top_ui *ui)
{
    const struct pgqrs_top_model *m = &ui->model;
    const struct pgqrs_top_list *list = &m->lists[m->pane];
    int y = LINES - 1;
    if (ui->mode == PGQRS_TOP_FILTERING) {
        put_line(y, A_BOLD, "filter: %s_", m->filter);
    } else if (ui->message[0] != 0) {
        put_line(y, A_BOLD, "%s", ui->message);
    } else {
        put_line(y, A_NORMAL, "q quit  h help  Tab %s  s sort: %s%s  / filter: %s",
                 m->pane == PGQRS_TOP_QUEUES ? "workers" : "queues",
                 pgqrs_top_columns[m->pane][list->column].name, list->reversed ? ", reversed" : "",
                 m->filter[0] != 0 ? m->filter : "none");
    }
}

static void draw_help(void)
{
    static const char *const lines[] = {
        "Tab         go to the workers, or to the queues",
        "Up, Down    select; PgUp, PgDn, Home and End go further",
        "s, r        sort by the next column; reverse",
        "/           only queues whose name has a text; Esc: all",
        "p           pause the selected queue, or resume it",
        "c           cancel the job of the selected worker",
        "k           kill the selected worker; pgqrsd starts another",
        "h, ?        this",
        "q           quit",
    };
    put_line(0, A_BOLD, "pgqrs top: any key goes back");
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        put_line((int)i + 1, A_NORMAL, "%s", lines[i]);
    }
}

static void draw_all(struct pgqrs_top_ui *ui, int64_t now_ms)
{
    struct pgqrs_top_layout layout;
    draw_head(&ui->model);
    draw_sums(&ui->model);
    int y = draw_troubles(&ui->model, 2, now_ms);
    int lines = LINES - 1 - y;
    pgqrs_top_lay_out(&ui->model, lines > 0 ? (size_t)lines : 0, (size_t)COLS, &layout);
    y = draw_list(ui, PGQRS_TOP_QUEUES, &layout, y);
    (void)draw_list(ui, PGQRS_TOP_WORKERS, &layout, y);
    draw_foot(ui);
}

void pgqrs_top_screen_draw(struct pgqrs_top_ui *ui, int64_t now_ms)
{
    (void)erase();
    if (LINES < LINES_LEAST || COLS < COLUMNS_LEAST) {
        put_line(0, A_NORMAL, "too small");
    } else if (ui->mode == PGQRS_TOP_HELPING) {
        draw_help();
    } else {
        draw_all(ui, now_ms);
    }
    (void)refresh();
}

/* ---- keys ---- */

static int32_t key_of(wint_t c, bool is_key)
{
    static const struct {
        wint_t code;
        int32_t key;
    } keys[] = {
        {KEY_UP, PGQRS_TOP_KEY_UP},         {KEY_DOWN, PGQRS_TOP_KEY_DOWN},
        {KEY_PPAGE, PGQRS_TOP_KEY_PAGE_UP}, {KEY_NPAGE, PGQRS_TOP_KEY_PAGE_DOWN},
        {KEY_HOME, PGQRS_TOP_KEY_HOME},     {KEY_END, PGQRS_TOP_KEY_END},
        {KEY_ENTER, PGQRS_TOP_KEY_ENTER},   {KEY_BACKSPACE, PGQRS_TOP_KEY_BACKSPACE},
        {KEY_DC, PGQRS_TOP_KEY_BACKSPACE},
    };
    for (size_t i = 0; is_key && i < sizeof keys / sizeof *keys; i++) {
        if (keys[i].code == c) {
            return keys[i].key;
        }
    }
    if (is_key) {
        return PGQRS_TOP_KEY_OTHER;
    }
    switch (c) {
    case '\r':
    case '\n':
        return PGQRS_TOP_KEY_ENTER;
    case '\b':
    case 0x7f:
        return PGQRS_TOP_KEY_BACKSPACE;
    case 0x1b:
        return PGQRS_TOP_KEY_ESCAPE;
    default:
        return (int32_t)c;
    }
}

void pgqrs_top_screen_read(struct pgqrs_top_ui *ui)
{
    wint_t c;
    int rc;
    while (!ui->quit && (rc = get_wch(&c)) != ERR) {
        if (rc == OK && c == CTRL_L) {
            pgqrs_top_screen_forget();
        } else if (rc == OK || c != KEY_RESIZE) { /* LINES and COLS are right already */
            pgqrs_top_press(ui, key_of(c, rc == KEY_CODE_YES));
        }
    }
}
