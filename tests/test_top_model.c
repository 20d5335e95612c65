/* SPDX-License-Identifier: Apache-2.0 */
/* pgqrs top without a terminal: its rows, what keys do to them, and what fits on a screen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <locale.h>

#include <cmocka.h>

#include "cli/top_screen.h"

static const struct pgqrs_error trouble = {.code = PGQRS_ERR_UNAVAILABLE, .text = "not there"};

static int setup(void **state)
{
    struct pgqrs_top_ui *ui = calloc(1, sizeof *ui);
    assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
    pgqrs_top_init(&ui->model);
    *state = ui;
    return 0;
}

static int teardown(void **state)
{
    struct pgqrs_top_ui *ui = *state;
    assert_false(ui->model.out_of_memory);
    pgqrs_top_fini(&ui->model);
    free(ui);
    return 0;
}

/* ---- what the sources say ---- */

static void status_of(struct pgqrs_top_ui *ui, int64_t now_ms, const char *text)
{
    json_error_t why;
    json_t *status = json_loads(text, 0, &why);
    if (status == NULL) {
        fail_msg("%s: %s", why.text, text);
    }
    pgqrs_top_take_status(&ui->model, status, NULL, now_ms);
}

/* One queue "mail" with two workers. */
static void status_at(struct pgqrs_top_ui *ui, int64_t now_ms, int pid, int done, int cpu_ms)
{
    char text[1024];
    (void)snprintf(text, sizeof text,
                   "{\"pid\":%d,\"started_us\":7,\"version\":\"1\",\"queues\":[{\"queue\":\"mail\","
                   "\"consumers\":3,\"consumers_max\":4,\"waiting\":9,\"failing\":null,"
                   "\"settled\":{\"done\":%d,\"failed\":2},\"workers\":["
                   "{\"worker\":1,\"pid\":101,\"state\":\"ready\",\"job\":null,\"job_ms\":0,"
                   "\"beat_age_ms\":50,\"memory\":10,\"settled\":4,\"cpu_ms\":%d},"
                   "{\"worker\":0,\"pid\":100,\"state\":\"ready\",\"job\":5,\"job_ms\":1000,"
                   "\"beat_age_ms\":50,\"memory\":30,\"settled\":1},"
                   "{\"worker\":2,\"state\":\"not running\"}]}]}",
                   pid, done, cpu_ms);
    status_of(ui, now_ms, text);
}

struct stored {
    const char *name;
    int64_t ready, pending, leased, failed;
    bool paused;
};

static void counts_of(struct pgqrs_top_ui *ui, const struct stored *stored, size_t count)
{
    struct pgqrs_top_counts *counts = calloc(1, sizeof *counts);
    assert_non_null(counts);
    counts->queues.items = calloc(count + 1, sizeof *counts->queues.items);
    counts->metrics = calloc(count + 1, sizeof *counts->metrics);
    counts->queues.count = count;
    for (size_t i = 0; i < count; i++) {
        counts->queues.items[i] = (struct pgqrs_queue){.id = (int64_t)i + 1,
                                                       .name = strdup(stored[i].name),
                                                       .paused_at_us = stored[i].paused ? 1 : 0};
        counts->metrics[i] =
            (struct pgqrs_queue_metrics){.ready = stored[i].ready,
                                         .pending = stored[i].pending,
                                         .leased = stored[i].leased,
                                         .failed = stored[i].failed,
                                         .oldest_pending_us = stored[i].pending > 0 ? 1000000 : 0,
                                         .now_us = 4000000};
    }
    pgqrs_top_take_counts(&ui->model, counts, 1000, NULL);
    pgqrs_top_counts_free(&counts);
}

/* The cell of a column in the list, as it is shown. */
static const char *cell(const struct pgqrs_top_ui *ui, enum pgqrs_top_pane pane, size_t place,
                        const char *title)
{
    static char out[PGQRS_TOP_CELL];
    const struct pgqrs_top_list *list = &ui->model.lists[pane];
    assert_true(place < list->count);
    const void *row = pane == PGQRS_TOP_QUEUES ? (const void *)&ui->model.queues[list->order[place]]
                                               : &ui->model.workers[list->order[place]];
    for (size_t i = 0; i < pgqrs_top_column_counts[pane]; i++) {
        if (strcmp(pgqrs_top_columns[pane][i].title, title) == 0) {
            pgqrs_top_columns[pane][i].text(row, out);
            return out;
        }
    }
    fail_msg("no column %s", title);
    return NULL;
}

#define QUEUE(place, title) cell(ui, PGQRS_TOP_QUEUES, place, title)
#define WORKER(place, title) cell(ui, PGQRS_TOP_WORKERS, place, title)

static void test_rows_of_both_sources(void **state)
{
    static const struct stored stored[] = {
        {.name = "mail", .ready = 3, .pending = 5, .leased = 2, .failed = 1, .paused = true},
        {.name = "alone", .ready = 1000, .pending = 1000}};
    struct pgqrs_top_ui *ui = *state;
    status_at(ui, 1000, 1, 0, 0);
    counts_of(ui, stored, 2);
    assert_int_equal(ui->model.lists[PGQRS_TOP_QUEUES].count, 2);
    assert_string_equal(QUEUE(0, "QUEUE"), "alone");
    assert_string_equal(QUEUE(0, "WAIT"), "1000+");
    assert_string_equal(QUEUE(0, "WORKERS"), "-");
    assert_string_equal(QUEUE(0, "DONE/S"), "-");
    assert_string_equal(QUEUE(0, "STATE"), "");
    assert_string_equal(QUEUE(1, "QUEUE"), "mail");
    assert_string_equal(QUEUE(1, "WAIT"), "3");
    assert_string_equal(QUEUE(1, "DELAY"), "2");
    assert_string_equal(QUEUE(1, "RUN"), "2");
    assert_string_equal(QUEUE(1, "DEAD"), "1");
    assert_string_equal(QUEUE(1, "OLDEST"), "3s");
    assert_string_equal(QUEUE(1, "WORKERS"), "2/3");
    assert_string_equal(QUEUE(1, "STATE"), "paused");
    assert_int_equal(ui->model.lists[PGQRS_TOP_WORKERS].count, 3);
    assert_string_equal(WORKER(0, "PID"), "100");
    assert_string_equal(WORKER(0, "STATE"), "busy");
    assert_string_equal(WORKER(0, "JOB"), "5");
    assert_string_equal(WORKER(0, "AGE"), "1s");
    assert_string_equal(WORKER(0, "CPU%"), "-");
    assert_string_equal(WORKER(1, "STATE"), "ready");
    assert_string_equal(WORKER(1, "JOB"), "-");
    assert_string_equal(WORKER(2, "STATE"), "not running");
    assert_string_equal(WORKER(2, "PID"), "-");
    assert_string_equal(WORKER(2, "MEMORY"), "-");
}

/* Each is shown without the other. */
static void test_one_source_is_not_there(void **state)
{
    static const struct stored stored[] = {{.name = "mail", .ready = 3, .pending = 5},
                                           {.name = "alone"}};
    struct pgqrs_top_ui *ui = *state;
    char text[600];
    status_at(ui, 1000, 1, 0, 0);
    assert_string_equal(QUEUE(0, "WAIT"), "9"); /* as pgqrsd knows */
    assert_string_equal(QUEUE(0, "RUN"), "-");
    counts_of(ui, stored, 2);
    pgqrs_top_take_status(&ui->model, NULL, &trouble, 2000);
    assert_int_equal(ui->model.worker_count, 0);
    assert_int_equal(ui->model.queue_count, 2);
    assert_string_equal(QUEUE(1, "WAIT"), "3");
    assert_string_equal(QUEUE(1, "WORKERS"), "-");
    pgqrs_top_trouble(&ui->model, PGQRS_TOP_OF_PGQRSD, 2000, text, sizeof text);
    assert_string_equal(text, "pgqrsd: not there");
    ui->model.pgqrsd.asked_ms = 2000;
    pgqrs_top_trouble(&ui->model, PGQRS_TOP_OF_PGQRSD, 9000, text, sizeof text);
    assert_string_equal(text, "pgqrsd: no answer for 7s");
    status_at(ui, 9000, 1, 0, 0);
    ui->model.pgqrsd.asked_ms = 9000;
    pgqrs_top_trouble(&ui->model, PGQRS_TOP_OF_PGQRSD, 9500, text, sizeof text);
    assert_string_equal(text, "");
    pgqrs_top_take_counts(&ui->model, NULL, 0, &trouble);
    assert_int_equal(ui->model.queue_count, 1);
    assert_string_equal(QUEUE(0, "WAIT"), "9");
}

static void test_pauses_and_failures(void **state)
{
    static const struct stored paused[] = {{.name = "a"}, {.name = "b", .paused = true}};
    struct pgqrs_top_ui *ui = *state;
    status_of(ui, 1000,
              "{\"queues\":[{\"queue\":\"a\",\"paused\":true,\"failing\":null},"
              "{\"queue\":\"b\",\"paused\":true,\"failing\":\"no handler\"}]}");
    assert_string_equal(QUEUE(0, "STATE"), "ctl pause");
    counts_of(ui, paused, 2);
    assert_string_equal(QUEUE(0, "STATE"), "ctl pause");
    assert_string_equal(QUEUE(1, "STATE"), "paused, failing: no handler");
    status_of(ui, 2000, "{\"queues\":[{\"queue\":\"a\",\"paused\":false},{\"queue\":\"b\"}]}");
    assert_string_equal(QUEUE(0, "STATE"), "");
    assert_string_equal(QUEUE(1, "STATE"), "paused");
}

static void test_rates(void **state)
{
    struct pgqrs_top_ui *ui = *state;
    status_at(ui, 1000, 1, 100, 5000);
    assert_string_equal(QUEUE(0, "DONE/S"), "-");
    status_at(ui, 2000, 1, 120, 5500);
    assert_string_equal(QUEUE(0, "DONE/S"), "20.0");
    assert_string_equal(QUEUE(0, "FAIL/S"), "0.0");
    assert_string_equal(WORKER(1, "CPU%"), "50.0");
    /* A quick look does not make it jump. */
    status_at(ui, 2100, 1, 122, 5500);
    assert_string_equal(QUEUE(0, "DONE/S"), "20.0");
    /* The last few seconds count. */
    for (int i = 3; i < 12; i++) {
        status_at(ui, i * 1000, 1, 122, 5500);
    }
    assert_string_equal(QUEUE(0, "DONE/S"), "0.0");
    /* Another pgqrsd has counts of its own, though they are bigger. */
    status_at(ui, 13000, 2, 500000, 5500);
    assert_string_equal(QUEUE(0, "DONE/S"), "-");
    status_at(ui, 14000, 2, 500001, 100);
    assert_string_equal(QUEUE(0, "DONE/S"), "1.0");
}

static void test_a_rate_begins_anew(void **state)
{
    struct pgqrs_top_rate rate = {0};
    (void)state;
    pgqrs_top_rate_add(&rate, 0, 10);
    pgqrs_top_rate_add(&rate, 1000, 20);
    pgqrs_top_rate_add(&rate, 2000, 3);
    assert_true(pgqrs_top_rate_per_s(&rate) < 0);
    pgqrs_top_rate_add(&rate, 3000, 5);
    assert_true(pgqrs_top_rate_per_s(&rate) == 2);
    pgqrs_top_rate_add(&rate, 3000, 5);
    for (int i = 0; i < 100; i++) {
        pgqrs_top_rate_add(&rate, 4000 + i * 10, 5 + i);
    }
    assert_true(rate.count <= PGQRS_TOP_SAMPLES);
    assert_true(pgqrs_top_rate_per_s(&rate) > 2);
}

/* ---- keys ---- */

static void press(struct pgqrs_top_ui *ui, const char *keys)
{
    for (; *keys != 0; keys++) {
        pgqrs_top_press(ui, *keys);
    }
}

static void some_queues(struct pgqrs_top_ui *ui)
{
    static const struct stored stored[] = {{.name = "b", .ready = 5, .pending = 5},
                                           {.name = "a", .ready = 9, .pending = 9},
                                           {.name = "Mail", .ready = 5, .pending = 5},
                                           {.name = "mailbox"},
                                           {.name = "caf\xc3\xa9", .ready = 7, .pending = 7}};
    status_at(ui, 1000, 1, 0, 0);
    counts_of(ui, stored, 5);
}

static void order_is(const struct pgqrs_top_ui *ui, const char *names)
{
    char found[256] = "";
    const struct pgqrs_top_list *list = &ui->model.lists[PGQRS_TOP_QUEUES];
    for (size_t i = 0; i < list->count; i++) {
        size_t len = strlen(found);
        (void)snprintf(found + len, sizeof found - len, "%s%s", i > 0 ? " " : "",
                       ui->model.queues[list->order[i]].name);
    }
    assert_string_equal(found, names);
}

static const char *selected(const struct pgqrs_top_ui *ui)
{
    return pgqrs_top_selected_queue(&ui->model)->name;
}

static void test_sorting(void **state)
{
    struct pgqrs_top_ui *ui = *state;
    some_queues(ui);
    order_is(ui, "Mail a b caf\xc3\xa9 mail mailbox");
    press(ui, "r");
    order_is(ui, "mailbox mail caf\xc3\xa9 b a Mail");
    press(ui, "s"); /* by what waits; equal ones by name; not reversed any more */
    order_is(ui, "a mail caf\xc3\xa9 Mail b mailbox");
    press(ui, "r");
    order_is(ui, "mailbox Mail b caf\xc3\xa9 a mail");
    assert_string_equal(selected(ui), "Mail"); /* the first one at the start stays selected */
    for (size_t i = 1; i < pgqrs_top_column_counts[PGQRS_TOP_QUEUES]; i++) {
        press(ui, "s");
    }
    order_is(ui, "Mail a b caf\xc3\xa9 mail mailbox");
    press(ui, "\ts");
    assert_int_equal(ui->model.lists[PGQRS_TOP_QUEUES].column, 0);
    assert_int_equal(ui->model.lists[PGQRS_TOP_WORKERS].column, 1);
}

static void test_filtering(void **state)
{
    struct pgqrs_top_ui *ui = *state;
    some_queues(ui);
    press(ui, "/mAi");
    order_is(ui, "Mail mail mailbox");
    assert_int_equal(ui->model.lists[PGQRS_TOP_WORKERS].count, 3);
    press(ui, "q"); /* is a character here */
    assert_false(ui->quit);
    order_is(ui, "");
    assert_null(pgqrs_top_selected_queue(&ui->model));
    press(ui, "p");
    pgqrs_top_press(ui, PGQRS_TOP_KEY_BACKSPACE);
    pgqrs_top_press(ui, PGQRS_TOP_KEY_BACKSPACE);
    order_is(ui, "Mail mail mailbox");
    pgqrs_top_press(ui, PGQRS_TOP_KEY_ENTER);
    press(ui, "s");
    order_is(ui, "mail Mail mailbox");
    pgqrs_top_press(ui, PGQRS_TOP_KEY_ESCAPE);
    assert_int_equal(ui->model.lists[PGQRS_TOP_QUEUES].count, 6);
    press(ui, "/f");
    pgqrs_top_press(ui, 0xe9);
    order_is(ui, "caf\xc3\xa9");
    assert_int_equal(ui->model.lists[PGQRS_TOP_WORKERS].count, 0);
    pgqrs_top_press(ui, PGQRS_TOP_KEY_BACKSPACE); /* the whole character */
    assert_string_equal(ui->model.filter, "f");
    for (int i = 0; i < 600; i++) {
        pgqrs_top_press(ui, i % 2 == 0 ? 0x10348 : 'x');
    }
    pgqrs_top_press(ui, PGQRS_TOP_KEY_ESCAPE);
    assert_string_equal(ui->model.filter, "");
    press(ui, "q");
    assert_true(ui->quit);
}

static void test_the_selected_row_stays_selected(void **state)
{
    static const struct stored more[] = {
        {.name = "a0"}, {.name = "a1"}, {.name = "b", .ready = 9, .pending = 9}, {.name = "z"}};
    static const struct stored without[] = {{.name = "a0"}, {.name = "z"}};
    struct pgqrs_top_ui *ui = *state;
    some_queues(ui);
    pgqrs_top_press(ui, PGQRS_TOP_KEY_DOWN);
    pgqrs_top_press(ui, PGQRS_TOP_KEY_DOWN);
    assert_string_equal(selected(ui), "b");
    counts_of(ui, more, 4);
    assert_string_equal(selected(ui), "b");
    counts_of(ui, without, 2); /* a0 mail z */
    assert_string_equal(selected(ui), "z");
    pgqrs_top_press(ui, PGQRS_TOP_KEY_HOME);
    pgqrs_top_press(ui, PGQRS_TOP_KEY_UP);
    assert_string_equal(selected(ui), "a0");
    pgqrs_top_press(ui, PGQRS_TOP_KEY_END);
    pgqrs_top_press(ui, PGQRS_TOP_KEY_DOWN);
    assert_string_equal(selected(ui), "z");
    press(ui, "\t");
    pgqrs_top_press(ui, PGQRS_TOP_KEY_PAGE_DOWN);
    assert_int_equal(pgqrs_top_selected_worker(&ui->model)->slot, 1);
    status_at(ui, 1000, 2, 0, 0);
    assert_int_equal(pgqrs_top_selected_worker(&ui->model)->slot, 1);
}

static void test_scrolling(void **state)
{
    struct pgqrs_top_list list = {.count = 20, .selected = 7};
    (void)state;
    pgqrs_top_scroll(&list, 5);
    assert_int_equal(list.first, 3);
    list.selected = 4;
    pgqrs_top_scroll(&list, 5);
    assert_int_equal(list.first, 3);
    list.selected = 1;
    pgqrs_top_scroll(&list, 5);
    assert_int_equal(list.first, 1);
    list.selected = 19;
    pgqrs_top_scroll(&list, 5);
    assert_int_equal(list.first, 15);
    pgqrs_top_scroll(&list, 12); /* a bigger screen is filled */
    assert_int_equal(list.first, 8);
    pgqrs_top_scroll(&list, 0);
    list = (struct pgqrs_top_list){0};
    pgqrs_top_scroll(&list, 5);
    assert_int_equal(list.first, 0);
}

static void test_pausing(void **state)
{
    static const struct stored paused[] = {{.name = "mail", .paused = true}};
    static const struct stored goes_on[] = {{.name = "mail"}};
    struct pgqrs_top_ui *ui = *state;
    status_at(ui, 1000, 1, 0, 0);
    press(ui, "p"); /* nobody knows its id in the store */
    assert_int_equal(ui->wanted.what, PGQRS_TOP_NOTHING);
    counts_of(ui, paused, 1);
    press(ui, "p");
    assert_int_equal(ui->wanted.what, PGQRS_TOP_RESUME);
    assert_int_equal(ui->wanted.id, 1);
    counts_of(ui, goes_on, 1);
    press(ui, "p");
    assert_int_equal(ui->wanted.what, PGQRS_TOP_PAUSE);
    ui->wanted.what = PGQRS_TOP_NOTHING;
    press(ui, "\tp");
    assert_int_equal(ui->wanted.what, PGQRS_TOP_NOTHING);
    press(ui, "\tck");
    assert_int_equal(ui->mode, PGQRS_TOP_BROWSING);
    assert_non_null(strstr(ui->message, "Tab"));
}

static void test_asking(void **state)
{
    struct pgqrs_top_ui *ui = *state;
    status_at(ui, 1000, 1, 0, 0);
    press(ui, "\tc");
    assert_string_equal(ui->message, "cancel (y/n)? job 5, worker 0, queue \"mail\"");
    press(ui, "q"); /* is a no */
    assert_false(ui->quit);
    assert_int_equal(ui->wanted.what, PGQRS_TOP_NOTHING);
    press(ui, "cy");
    assert_int_equal(ui->wanted.what, PGQRS_TOP_CANCEL);
    assert_int_equal(ui->wanted.id, 5);
    ui->wanted.what = PGQRS_TOP_NOTHING;
    press(ui, "k");
    assert_string_equal(ui->message, "kill (y/n)? worker 0, pid 100, job 5, queue \"mail\"");
    press(ui, "n");
    assert_int_equal(ui->wanted.what, PGQRS_TOP_NOTHING);
    press(ui, "ky");
    assert_int_equal(ui->wanted.what, PGQRS_TOP_KILL);
    assert_int_equal(ui->wanted.slot, 0);
    assert_string_equal(ui->wanted.queue, "mail");
    ui->wanted.what = PGQRS_TOP_NOTHING;
    pgqrs_top_press(ui, PGQRS_TOP_KEY_DOWN);
    press(ui, "c");
    assert_int_equal(ui->mode, PGQRS_TOP_BROWSING); /* it has no job */
    pgqrs_top_press(ui, PGQRS_TOP_KEY_DOWN);
    press(ui, "k");
    assert_int_equal(ui->mode, PGQRS_TOP_BROWSING); /* it does not run */
    pgqrs_top_press(ui, PGQRS_TOP_KEY_HOME);
    press(ui, "k");
    status_of(ui, 2000,
              "{\"queues\":[{\"queue\":\"mail\",\"workers\":[{\"worker\":0,\"pid\":200}]}]}");
    press(ui, "y"); /* which was for the one before */
    assert_int_equal(ui->wanted.what, PGQRS_TOP_NOTHING);
    assert_non_null(strstr(ui->message, "pid 100 is gone"));
}

/* ---- what fits ---- */

static void fits(const char *text, size_t columns, const char *expected, size_t width)
{
    char out[256];
    assert_int_equal(pgqrs_top_fit(text, columns, out, sizeof out), width);
    assert_string_equal(out, expected);
}

static void test_texts(void **state)
{
    (void)state;
    fits("plain", 5, "plain", 5);
    fits("plainer", 5, "plai~", 5);
    fits("plain", 1, "~", 1);
    fits("plain", 0, "", 0);
    fits("", 5, "", 0);
    fits("a\x1b[31m\n", 20, "a\\x1b[31m\\x0a", 13);
    fits("a\x9b\xff", 20, "a\\x9b\\xff", 9);
    fits("caf\xc3\xa9", 4, "caf\xc3\xa9", 4);
    fits("\xe6\xbc\xa2\xe5\xad\x97", 4, "\xe6\xbc\xa2\xe5\xad\x97", 4);
    fits("\xe6\xbc\xa2\xe5\xad\x97", 3, "\xe6\xbc\xa2~", 3);
    fits("\xe6\xbc\xa2\xe5\xad\x97", 2, "~", 1);
    fits("e\xcc\x81x", 2, "e\xcc\x81x", 2);
    fits("a\xe2\x80\xae"
         "b",
         9, "a?b", 3); /* would turn the line around */
    assert_non_null(setlocale(LC_CTYPE, "C"));
    fits("caf\xc3\xa9!", 9, "caf?!", 5);
    char tiny[4];
    assert_int_equal(pgqrs_top_fit("plain", 20, tiny, sizeof tiny), 3);
    assert_string_equal(tiny, "pl~");
}

static void test_numbers(void **state)
{
    static const struct {
        void (*put)(int64_t value, char *out, size_t size);
        int64_t value;
        const char *expected;
    } cases[] = {
        {pgqrs_top_age, -1, "-"},           {pgqrs_top_age, 59999, "59s"},
        {pgqrs_top_age, 60000, "1m00s"},    {pgqrs_top_age, 3600000, "1h00m"},
        {pgqrs_top_age, 90000000, "1d01h"}, {pgqrs_top_age, 8640000000, "100d"},
        {pgqrs_top_size, -1, "-"},          {pgqrs_top_size, 1572864, "1.5M"},
        {pgqrs_top_size, 1 << 30, "1.0G"},
    };
    char out[32];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cases[i].put(cases[i].value, out, sizeof out);
        assert_string_equal(out, cases[i].expected);
    }
    pgqrs_top_count(99999, false, out, sizeof out);
    assert_string_equal(out, "99999");
    pgqrs_top_count(100000, true, out, sizeof out);
    assert_string_equal(out, "100k+");
    pgqrs_top_count(12345678, false, out, sizeof out);
    assert_string_equal(out, "12.3M");
}

static size_t columns_used(const struct pgqrs_top_layout *layout, enum pgqrs_top_pane pane)
{
    size_t used = 0;
    for (size_t i = 0; i < layout->column_counts[pane]; i++) {
        used += layout->columns[pane][i].width + 1;
    }
    return used;
}

/* Whatever the size, it is kept to. */
static void test_layouts(void **state)
{
    struct pgqrs_top_ui *ui = *state;
    struct pgqrs_top_layout layout;
    some_queues(ui);
    for (size_t lines = 0; lines < 60; lines++) {
        for (size_t columns = 30; columns < 250; columns++) {
            pgqrs_top_lay_out(&ui->model, lines, columns, &layout);
            size_t used = 0;
            for (size_t pane = 0; pane < PGQRS_TOP_PANES; pane++) {
                used += layout.shown[pane] ? layout.rows[pane] + 1 : 0;
                assert_true(columns_used(&layout, pane) <= columns);
                assert_true(layout.columns[pane][0].width >= 12);
            }
            assert_true(used <= lines);
            assert_true(lines < 2 || used > 1);
        }
    }
    pgqrs_top_lay_out(&ui->model, 21, 80, &layout);
    assert_int_equal(layout.column_counts[PGQRS_TOP_QUEUES], 10); /* there is room for all */
    assert_int_equal(layout.column_counts[PGQRS_TOP_WORKERS], 9);
    assert_int_equal(layout.rows[PGQRS_TOP_QUEUES], 6);
    pgqrs_top_lay_out(&ui->model, 12, 60, &layout);
    assert_int_equal(layout.rows[PGQRS_TOP_QUEUES], 6);
    assert_int_equal(layout.rows[PGQRS_TOP_WORKERS], 4);
    pgqrs_top_lay_out(&ui->model, 4, 60, &layout);
    assert_int_equal(layout.rows[PGQRS_TOP_QUEUES], 3);
    assert_false(layout.shown[PGQRS_TOP_WORKERS]);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_rows_of_both_sources),
        TEST(test_one_source_is_not_there),
        TEST(test_pauses_and_failures),
        TEST(test_rates),
        cmocka_unit_test(test_a_rate_begins_anew),
        TEST(test_sorting),
        TEST(test_filtering),
        TEST(test_the_selected_row_stays_selected),
        cmocka_unit_test(test_scrolling),
        TEST(test_pausing),
        TEST(test_asking),
        TEST(test_texts),
        TEST(test_numbers),
        TEST(test_layouts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
