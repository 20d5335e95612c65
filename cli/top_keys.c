/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

#define SAY(ui, ...) (void)snprintf((ui)->message, sizeof(ui)->message, __VA_ARGS__)

/* ---- acts ---- */

static void want_pause(struct pgqrs_top_ui *ui)
{
    const struct pgqrs_top_queue *q = pgqrs_top_selected_queue(&ui->model);
    if (ui->model.pane != PGQRS_TOP_QUEUES || q == NULL) {
        SAY(ui, "p pauses the selected queue: Tab goes to the queues");
    } else if (!q->stored) {
        SAY(ui, "queue \"%s\": not known to be in the store", q->name);
    } else {
        ui->wanted = (struct pgqrs_top_act){.what = q->paused ? PGQRS_TOP_RESUME : PGQRS_TOP_PAUSE,
                                            .id = q->id};
        (void)snprintf(ui->wanted.queue, sizeof ui->wanted.queue, "%s", q->name);
        SAY(ui, "queue \"%s\": %s", q->name, q->paused ? "resuming it" : "pausing it");
    }
}

/* The worker that is selected, as somebody is asked about it; null: there is none. */
static const struct pgqrs_top_worker *ask_about_worker(struct pgqrs_top_ui *ui, char key,
                                                       enum pgqrs_top_what what)
{
    const struct pgqrs_top_worker *w = pgqrs_top_selected_worker(&ui->model);
    if (ui->model.pane != PGQRS_TOP_WORKERS || w == NULL) {
        SAY(ui, "%c is for the selected worker: Tab goes to the workers", key);
        return NULL;
    }
    ui->asked = (struct pgqrs_top_act){.what = what, .id = w->job, .slot = w->slot, .pid = w->pid};
    (void)snprintf(ui->asked.queue, sizeof ui->asked.queue, "%s", w->queue);
    return w;
}

static void ask_cancel(struct pgqrs_top_ui *ui)
{
    const struct pgqrs_top_worker *w = ask_about_worker(ui, 'c', PGQRS_TOP_CANCEL);
    if (w != NULL && w->job == 0) {
        SAY(ui, "worker %" PRId64 " of queue \"%s\" has no job", w->slot, w->queue);
    } else if (w != NULL) {
        SAY(ui, "cancel (y/n)? job %" PRId64 ", worker %" PRId64 ", queue \"%s\"", w->job, w->slot,
            w->queue);
        ui->mode = PGQRS_TOP_ASKING;
    }
}

static void ask_kill(struct pgqrs_top_ui *ui)
{
    const struct pgqrs_top_worker *w = ask_about_worker(ui, 'k', PGQRS_TOP_KILL);
    char job[48] = "";
    if (w == NULL) {
        return;
    }
    if (w->pid <= 0) {
        SAY(ui, "worker %" PRId64 " of queue \"%s\" does not run", w->slot, w->queue);
        return;
    }
    if (w->job != 0) {
        (void)snprintf(job, sizeof job, ", job %" PRId64, w->job);
    }
    SAY(ui, "kill (y/n)? worker %" PRId64 ", pid %" PRId64 "%s, queue \"%s\"", w->slot, w->pid, job,
        w->queue);
    ui->mode = PGQRS_TOP_ASKING;
}

/* Who has said yes to one process does not mean the one that has come after it. */
static void answer(struct pgqrs_top_ui *ui, bool yes)
{
    const struct pgqrs_top_act *act = &ui->asked;
    const struct pgqrs_top_worker *w = pgqrs_top_find_worker(&ui->model, act->queue, act->slot);
    ui->mode = PGQRS_TOP_BROWSING;
    if (!yes) {
        SAY(ui, "nothing was changed");
    } else if (act->what == PGQRS_TOP_KILL && (w == NULL || w->pid != act->pid)) {
        SAY(ui, "pid %" PRId64 " is gone: nothing was changed", act->pid);
    } else {
        ui->wanted = *act;
        SAY(ui, "%s", act->what == PGQRS_TOP_KILL ? "killing it" : "cancelling it");
    }
}

/* ---- the filter ---- */

static void add_to_filter(struct pgqrs_top_ui *ui, int32_t code)
{
    char filter[PGQRS_TOP_FILTER_MAX];
    size_t len = strlen(ui->model.filter);
    size_t more = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    if (code < 0x20 || code == 0x7f || len + more >= sizeof filter) {
        return;
    }
    memcpy(filter, ui->model.filter, len);
    for (size_t i = more; i-- > 1; code >>= 6) {
        filter[len + i] = (char)(0x80 | (code & 0x3f));
    }
    filter[len] = (char)(first[more] | code);
    filter[len + more] = 0;
    pgqrs_top_set_filter(&ui->model, filter);
}

static void take_from_filter(struct pgqrs_top_ui *ui)
{
    char filter[PGQRS_TOP_FILTER_MAX];
    memcpy(filter, ui->model.filter, sizeof filter);
    size_t len = strlen(filter);
    while (len > 0 && ((unsigned char)filter[--len] & 0xc0) == 0x80) {
    }
    filter[len] = 0;
    pgqrs_top_set_filter(&ui->model, filter);
}

static void press_filtering(struct pgqrs_top_ui *ui, int32_t key)
{
    switch (key) {
    case PGQRS_TOP_KEY_ESCAPE:
        pgqrs_top_set_filter(&ui->model, "");
        ui->mode = PGQRS_TOP_BROWSING;
        break;
    case PGQRS_TOP_KEY_ENTER:
        ui->mode = PGQRS_TOP_BROWSING;
        break;
    case PGQRS_TOP_KEY_BACKSPACE:
        take_from_filter(ui);
        break;
    default:
        add_to_filter(ui, key);
        break;
    }
}

/* ---- keys ---- */

static void press_browsing(struct pgqrs_top_ui *ui, int32_t key)
{
    struct pgqrs_top_model *m = &ui->model;
    int64_t page = ui->page[m->pane] > 1 ? (int64_t)ui->page[m->pane] - 1 : 1;
    pgqrs_top_move(m, 0); /* what is selected now stays so */
    switch (key) {
    case PGQRS_TOP_KEY_UP:
        pgqrs_top_move(m, -1);
        break;
    case PGQRS_TOP_KEY_DOWN:
        pgqrs_top_move(m, 1);
        break;
    case PGQRS_TOP_KEY_PAGE_UP:
        pgqrs_top_move(m, -page);
        break;
    case PGQRS_TOP_KEY_PAGE_DOWN:
        pgqrs_top_move(m, page);
        break;
    case PGQRS_TOP_KEY_HOME:
        pgqrs_top_move(m, INT32_MIN);
        break;
    case PGQRS_TOP_KEY_END:
        pgqrs_top_move(m, INT32_MAX);
        break;
    case PGQRS_TOP_KEY_ESCAPE:
        pgqrs_top_set_filter(m, "");
        break;
    case '\t':
        pgqrs_top_switch(m);
        break;
    case 's':
        pgqrs_top_next_column(m);
        break;
    case 'r':
        pgqrs_top_reverse(m);
        break;
    case '/':
        ui->mode = PGQRS_TOP_FILTERING;
        break;
    case 'p':
        want_pause(ui);
        break;
    case 'c':
        ask_cancel(ui);
        break;
    case 'k':
        ask_kill(ui);
        break;
    case 'h':
    case '?':
        ui->mode = PGQRS_TOP_HELPING;
        break;
    case 'q':
        ui->quit = true;
        break;
    default:
        break;
    }
}

void pgqrs_top_press(struct pgqrs_top_ui *ui, int32_t key)
{
    ui->message[0] = 0;
    switch (ui->mode) {
    case PGQRS_TOP_BROWSING:
        press_browsing(ui, key);
        break;
    case PGQRS_TOP_FILTERING:
        press_filtering(ui, key);
        break;
    case PGQRS_TOP_ASKING:
        answer(ui, key == 'y' || key == 'Y');
        break;
    case PGQRS_TOP_HELPING:
        ui->mode = PGQRS_TOP_BROWSING;
        break;
    }
}
