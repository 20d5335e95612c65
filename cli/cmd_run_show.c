/* SPDX-License-Identifier: Apache-2.0 */
/* pgqrs run show: a run with its steps, state, events, and the runs that it has started. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "cli/runs.h"

#define DEPTH_MAX 12
#define LOOKS_MAX 300 /* runs whose children are asked for */
#define PREFIX_MAX (DEPTH_MAX * 8)

struct view {
    struct pgqrs_cli *cli;
    struct pgqrs_json json;
    struct pgqrs_step_list steps;
    struct pgqrs_pair_list state, events;
    int looks;
    bool utf8, cut; /* cut: not every child was asked for its own */
};

/* ---- the run itself ---- */

static char *worker_name(struct view *v, int64_t id)
{
    const struct pgqrs_worker_filter filter = {.id = id, .limit = 1};
    struct pgqrs_worker_info_list list = {0};
    struct pgqrs_error err;
    int rc;
    PGQRS_RUN_TRY(rc, &err, pgqrs_store_worker_list(v->cli->store, &filter, &list, &err));
    char *name = rc == 0 && list.count > 0 ? strdup(list.items[0].name) : NULL;
    if (rc == 0) {
        pgqrs_worker_info_list_fini(&list);
    }
    return name;
}

static void print_worker(struct view *v, const struct pgqrs_run *run)
{
    char text[320];
    char *name = run->worker_id == 0 ? NULL : worker_name(v, run->worker_id);
    if (run->worker_id != 0) {
        (void)snprintf(text, sizeof text, "%" PRId64 "%s%.255s", run->worker_id,
                       name == NULL ? "" : " ", name == NULL ? "" : name);
        pgqrs_line("worker", text);
    }
    free(name);
}

static void print_header(struct view *v, const struct pgqrs_run *run)
{
    char took[PGQRS_TOOK_SIZE];
    char when[PGQRS_WHEN_SIZE];
    struct pgqrs_buf input = {0};
    struct pgqrs_buf error = {0};
    bool paused = run->status == PGQRS_RUN_PAUSED; /* its error is then why */
    if (run->input != NULL) {
        pgqrs_run_input_text(run->input, &input);
    }
    if (run->error != NULL && run->status != PGQRS_RUN_SUCCESS) {
        pgqrs_run_error_text(run->error, &error);
    }
    pgqrs_line_number("run", run->message_id);
    pgqrs_line("workflow", run->workflow);
    pgqrs_line("status", pgqrs_run_status_name(run->status));
    pgqrs_line("until", run->due_at_us != 0 ? pgqrs_run_when(run->due_at_us, when) : NULL);
    pgqrs_line_time("started", run->started_at_us);
    pgqrs_line_time("ended", run->completed_at_us);
    pgqrs_line(pgqrs_run_has_ended(run->status) ? "took" : "for", pgqrs_run_took(run, took));
    print_worker(v, run);
    if (run->parent_id != 0) {
        pgqrs_line_number("parent", run->parent_id);
    }
    pgqrs_line_cut("input", (const char *)input.data);
    pgqrs_line_cut("output", run->output);
    pgqrs_line_cut(paused ? "waits" : "error", (const char *)error.data);
    pgqrs_buf_fini(&input);
    pgqrs_buf_fini(&error);
}

/* ---- children ---- */

struct child {
    int64_t id;
    enum pgqrs_run_status status;
    char *workflow;
    char took[PGQRS_TOOK_SIZE];
};

struct children { /* by id, upwards */
    struct child *items;
    size_t count, cap;
};

static void fini_children(struct children *c)
{
    for (size_t i = 0; i < c->count; i++) {
        free(c->items[i].workflow);
    }
    free(c->items);
}

static int add_child(void *arg, const struct pgqrs_run *run)
{
    struct children *c = arg;
    if (c->count == c->cap) {
        size_t cap = c->cap == 0 ? 16 : c->cap * 2;
        struct child *items = realloc(c->items, cap * sizeof *items);
        if (items == NULL) {
            pgqrs_cli_error("out of memory");
            return PGQRS_CLI_FAILURE;
        }
        c->items = items;
        c->cap = cap;
    }
    struct child *item = &c->items[c->count++];
    *item = (struct child){.id = run->message_id, .status = run->status};
    item->workflow = run->workflow == NULL ? NULL : strdup(run->workflow);
    (void)pgqrs_run_took(run, item->took); /* empty: it has not started */
    return PGQRS_CLI_OK;
}

static int by_id(const void *a, const void *b)
{
    const struct child *x = a;
    const struct child *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* Those that no worker has begun have no row: the steps that started them know them. */
static int add_queued(struct view *v, struct children *c)
{
    size_t begun = c->count;
    for (size_t i = 0; i < v->steps.count; i++) {
        const struct pgqrs_step *step = &v->steps.items[i];
        if (step->kind != PGQRS_STEP_CHILD || step->output == NULL) {
            continue;
        }
        int64_t id = strtoll(step->output, NULL, 10);
        bool known = id <= 0;
        for (size_t k = 0; k < begun && !known; k++) {
            known = c->items[k].id == id;
        }
        struct pgqrs_run_list one;
        if (!known && pgqrs_store_run_look(v->cli->store, id, &one, NULL) == 0) {
            int status = add_child(c, &one.items[0]);
            pgqrs_run_list_fini(&one);
            if (status != PGQRS_CLI_OK) {
                return status;
            }
        }
    }
    return PGQRS_CLI_OK;
}

static int find_children(struct view *v, int64_t id, int depth, struct children *c)
{
    const struct pgqrs_run_filter filter = {.parent_id = id};
    int64_t next;
    *c = (struct children){0};
    if (depth >= DEPTH_MAX || v->looks >= LOOKS_MAX) {
        v->cut = true;
        return PGQRS_CLI_OK;
    }
    v->looks++;
    int status = pgqrs_run_each(v->cli, filter, 0, add_child, c, &next);
    if (status == PGQRS_CLI_OK && depth == 0) {
        status = add_queued(v, c);
    }
    if (c->count > 1) {
        qsort(c->items, c->count, sizeof *c->items, by_id);
    }
    return status;
}

static void print_child(const struct view *v, const struct child *c, const char *prefix, bool last)
{
    struct pgqrs_buf shown = {0};
    pgqrs_show(&shown, c->workflow == NULL ? "?" : c->workflow);
    pgqrs_buf_put_u8(&shown, 0);
    const char *branch = v->utf8 ? (last ? "\u2514\u2500 " : "\u251c\u2500 ") : "+- ";
    const char *status = pgqrs_run_status_name(c->status);
    (void)printf("%s%s%" PRId64 "  %s  %s%s%s\n", prefix, branch, c->id,
                 shown.failed ? "?" : (const char *)shown.data, status == NULL ? "?" : status,
                 c->took[0] == 0 ? "" : "  ", c->took);
    pgqrs_buf_fini(&shown);
}

static void child_as_json(struct view *v, const struct child *c)
{
    pgqrs_json_begin(&v->json, NULL, '{');
    pgqrs_json_integer(&v->json, "id", c->id);
    pgqrs_json_text(&v->json, "workflow", c->workflow);
    pgqrs_json_text(&v->json, "status", pgqrs_run_status_name(c->status));
    pgqrs_json_begin(&v->json, "children", '[');
}

/* NOLINTNEXTLINE(misc-no-recursion): DEPTH_MAX ends it */
static int put_tree(struct view *v, const struct children *c, int depth, const char *prefix)
{
    int status = PGQRS_CLI_OK;
    for (size_t i = 0; status == PGQRS_CLI_OK && i < c->count; i++) {
        bool last = i + 1 == c->count;
        char below[PREFIX_MAX];
        struct children its;
        (void)snprintf(below, sizeof below, "%s%s", prefix,
                       last      ? "   "
                       : v->utf8 ? "\u2502  "
                                 : "|  ");
        if (v->cli->json) {
            child_as_json(v, &c->items[i]);
        } else {
            print_child(v, &c->items[i], prefix, last);
        }
        status = find_children(v, c->items[i].id, depth + 1, &its);
        if (status == PGQRS_CLI_OK) {
            status = put_tree(v, &its, depth + 1, below);
        }
        fini_children(&its);
        if (v->cli->json) {
            pgqrs_json_end(&v->json, ']');
            pgqrs_json_end(&v->json, '}');
        }
    }
    return status;
}

/* ---- all of it ---- */

static int read_all(struct view *v, int64_t id)
{
    struct pgqrs_store *store = v->cli->store;
    struct pgqrs_error err;
    int rc;
    PGQRS_RUN_TRY(rc, &err, pgqrs_store_run_steps(store, id, &v->steps, &err));
    if (rc < 0 && err.code == PGQRS_ERR_NOT_FOUND) {
        rc = 0; /* nobody has begun it */
    }
    if (rc == 0) {
        PGQRS_RUN_TRY(rc, &err, pgqrs_store_run_state(store, id, &v->state, &err));
    }
    if (rc == 0) {
        PGQRS_RUN_TRY(rc, &err, pgqrs_store_run_events(store, id, &v->events, &err));
    }
    return rc < 0 ? pgqrs_cli_fail(&err) : PGQRS_CLI_OK;
}

static int show_json(struct view *v, const struct pgqrs_run *run, const struct children *c)
{
    pgqrs_json_begin(&v->json, NULL, '{');
    pgqrs_run_as_json(&v->json, run);
    pgqrs_steps_as_json(&v->json, "steps", &v->steps);
    pgqrs_pairs_as_json(&v->json, "state", "value", "updated_at", &v->state);
    pgqrs_pairs_as_json(&v->json, "events", "payload", "created_at", &v->events);
    pgqrs_json_begin(&v->json, "children", '[');
    int status = put_tree(v, c, 0, "");
    pgqrs_json_end(&v->json, ']');
    pgqrs_json_end(&v->json, '}');
    return status;
}

static int show_text(struct view *v, const struct pgqrs_run *run, const struct children *c)
{
    print_header(v, run);
    if (v->steps.count > 0) {
        (void)printf("\n");
        pgqrs_steps_print(&v->steps, pgqrs_run_has_ended(run->status));
    }
    if (v->state.count > 0) {
        (void)printf("\n");
        pgqrs_pairs_print("STATE", "VALUE", &v->state);
    }
    if (v->events.count > 0) {
        (void)printf("\n");
        pgqrs_pairs_print("EVENT", "PAYLOAD", &v->events);
    }
    if (c->count == 0) {
        return PGQRS_CLI_OK;
    }
    (void)printf("\nCHILDREN\n");
    int status = put_tree(v, c, 0, "");
    if (v->cut) {
        (void)printf("there may be more below these\n");
    }
    return status;
}

static int show(struct view *v, const struct pgqrs_run *run)
{
    struct children children;
    int status = read_all(v, run->message_id);
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    status = find_children(v, run->message_id, 0, &children);
    if (status == PGQRS_CLI_OK) {
        status = v->cli->json ? show_json(v, run, &children) : show_text(v, run, &children);
    }
    fini_children(&children);
    return status;
}

int pgqrs_cmd_run_show(struct pgqrs_cli *cli)
{
    struct view v = {.cli = cli, .utf8 = pgqrs_is_utf8_wanted()};
    struct pgqrs_run_list one = {0};
    int64_t id;
    int status = pgqrs_cli_id(cli, &id);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_run_look(cli, id, &one);
    }
    if (status == PGQRS_CLI_OK) {
        status = show(&v, &one.items[0]);
    }
    pgqrs_step_list_fini(&v.steps);
    pgqrs_pair_list_fini(&v.state);
    pgqrs_pair_list_fini(&v.events);
    pgqrs_run_list_fini(&one);
    return status;
}
