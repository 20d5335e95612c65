/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of workflows: lists, steps, state, and a run from the middle of another. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/input.h"
#include "cli/runs.h"

/* ---- list ---- */

struct listing {
    struct pgqrs_cli *cli;
    struct pgqrs_table table;
    struct pgqrs_json json;
};

static void put_outcome(struct pgqrs_table *table, const struct pgqrs_run *run)
{
    char wait[PGQRS_TOOK_SIZE + 8] = "";
    struct pgqrs_buf text = {0};
    if (run->status == PGQRS_RUN_SUCCESS) {
        pgqrs_table_text(table, run->output);
        return;
    }
    if (run->status == PGQRS_RUN_PAUSED && pgqrs_run_wait(run->due_at_us, wait) != NULL) {
        pgqrs_buf_put(&text, wait, strlen(wait));
        pgqrs_buf_put(&text, ": ", run->error == NULL ? 0 : 2);
    }
    if (run->error != NULL) {
        pgqrs_run_error_text(run->error, &text);
    } else {
        pgqrs_buf_put_u8(&text, 0);
    }
    bool none = text.failed || text.data[0] == 0;
    pgqrs_table_text(table, none ? NULL : (const char *)text.data);
    pgqrs_buf_fini(&text);
}

static int put_run(void *arg, const struct pgqrs_run *run)
{
    struct listing *l = arg;
    char text[PGQRS_WHEN_SIZE];
    if (l->cli->json) {
        pgqrs_json_begin(&l->json, NULL, '{');
        pgqrs_run_as_json(&l->json, run);
        pgqrs_json_end(&l->json, '}');
        return PGQRS_CLI_OK;
    }
    pgqrs_table_number(&l->table, run->message_id);
    pgqrs_table_text(&l->table, run->workflow);
    pgqrs_table_text(&l->table, pgqrs_run_status_name(run->status));
    pgqrs_table_text(&l->table, pgqrs_time_table(run->started_at_us, text));
    pgqrs_table_text(&l->table, pgqrs_run_took(run, text));
    put_outcome(&l->table, run);
    return PGQRS_CLI_OK;
}

static int parse_status(const struct pgqrs_cli *cli, enum pgqrs_run_status *status_out)
{
    const char *text = cli->options[PGQRS_OPT_STATUS];
    for (int i = 1; text != NULL && i < PGQRS_RUN_STATUS_COUNT; i++) {
        if (strcasecmp(text, pgqrs_run_status_name((enum pgqrs_run_status)i)) == 0) {
            *status_out = (enum pgqrs_run_status)i;
        }
    }
    return text == NULL || *status_out != PGQRS_RUN_NONE
               ? PGQRS_CLI_OK
               : pgqrs_cli_usage("--status: found \"%s\", expected QUEUED, RUNNING, PAUSED, "
                                 "SUCCESS, ERROR, CANCELLING or CANCELLED",
                                 text);
}

static int find_workflow(struct pgqrs_cli *cli, int64_t *id_out)
{
    struct pgqrs_workflow_list one;
    struct pgqrs_error err;
    const char *name = cli->options[PGQRS_OPT_WORKFLOW];
    int rc;
    if (name == NULL) {
        return PGQRS_CLI_OK;
    }
    PGQRS_RUN_TRY(rc, &err, pgqrs_store_workflow_find(cli->store, name, &one, &err));
    if (rc < 0) {
        return pgqrs_cli_fail(&err);
    }
    *id_out = one.items[0].id;
    pgqrs_workflow_list_fini(&one);
    return PGQRS_CLI_OK;
}

static int print_list(struct listing *l, struct pgqrs_run_filter filter, int64_t limit)
{
    int64_t next = 0;
    if (l->cli->json) {
        pgqrs_json_begin(&l->json, NULL, '[');
    }
    int status = pgqrs_run_each(l->cli, filter, limit, put_run, l, &next);
    if (l->cli->json) {
        pgqrs_json_end(&l->json, ']');
    } else if (status == PGQRS_CLI_OK) {
        pgqrs_table_print(&l->table);
        pgqrs_cli_more(l->cli, next);
    }
    pgqrs_buf_fini(&l->table.cells);
    return status;
}

int pgqrs_cmd_run_list(struct pgqrs_cli *cli)
{
    static const char *const headers[] = {">ID",     "WORKFLOW", "STATUS",
                                          "STARTED", ">TOOK",    "WAITS, OUTPUT OR ERROR"};
    struct listing l = {.cli = cli, .table = pgqrs_table_of(headers, 6)};
    struct pgqrs_run_filter filter = {0};
    struct pgqrs_cli_page page;
    int status = parse_status(cli, &filter.status);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_page(cli, &page);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK) {
        status = find_workflow(cli, &filter.workflow_id);
    }
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    filter.before_id = page.before_id;
    return print_list(&l, filter, page.limit);
}

/* ---- what one has ---- */

static int open_for(struct pgqrs_cli *cli, int64_t *id_out)
{
    int status = pgqrs_cli_id(cli, id_out);
    return status == PGQRS_CLI_OK ? pgqrs_cli_open(cli) : status;
}

static int print_steps(struct pgqrs_cli *cli, const struct pgqrs_run *run)
{
    struct pgqrs_step_list steps;
    struct pgqrs_json json = {0};
    struct pgqrs_error err;
    int rc;
    PGQRS_RUN_TRY(rc, &err, pgqrs_store_run_steps(cli->store, run->message_id, &steps, &err));
    if (rc < 0) {
        return pgqrs_cli_fail(&err);
    }
    if (cli->json) {
        pgqrs_steps_as_json(&json, NULL, &steps);
    } else {
        pgqrs_steps_print(&steps, pgqrs_run_has_ended(run->status));
    }
    pgqrs_step_list_fini(&steps);
    return PGQRS_CLI_OK;
}

int pgqrs_cmd_run_steps(struct pgqrs_cli *cli)
{
    struct pgqrs_run_list one = {0};
    int64_t id;
    int status = open_for(cli, &id);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_run_look(cli, id, &one);
    }
    if (status == PGQRS_CLI_OK) {
        status = print_steps(cli, &one.items[0]);
    }
    pgqrs_run_list_fini(&one);
    return status;
}

static void print_state(const struct pgqrs_cli *cli, int64_t id,
                        const struct pgqrs_pair_list *state, const struct pgqrs_pair_list *events)
{
    struct pgqrs_json json = {0};
    if (cli->json) {
        pgqrs_json_begin(&json, NULL, '{');
        pgqrs_json_integer(&json, "id", id);
        pgqrs_pairs_as_json(&json, "state", "value", "updated_at", state);
        pgqrs_pairs_as_json(&json, "events", "payload", "created_at", events);
        pgqrs_json_end(&json, '}');
        return;
    }
    pgqrs_pairs_print("STATE", "VALUE", state);
    if (events->count > 0) {
        (void)printf("\n");
        pgqrs_pairs_print("EVENT", "PAYLOAD", events);
    }
}

int pgqrs_cmd_run_state(struct pgqrs_cli *cli)
{
    struct pgqrs_pair_list state = {0};
    struct pgqrs_pair_list events = {0};
    struct pgqrs_error err;
    int64_t id;
    int rc;
    int status = open_for(cli, &id);
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    PGQRS_RUN_TRY(rc, &err, pgqrs_store_run_state(cli->store, id, &state, &err));
    if (rc == 0) {
        PGQRS_RUN_TRY(rc, &err, pgqrs_store_run_events(cli->store, id, &events, &err));
    }
    if (rc == 0) {
        print_state(cli, id, &state, &events);
    }
    pgqrs_pair_list_fini(&state);
    pgqrs_pair_list_fini(&events);
    return rc < 0 ? pgqrs_cli_fail(&err) : PGQRS_CLI_OK;
}

/* ---- fork ---- */

static int fork_run(struct pgqrs_cli *cli, int64_t id, const struct pgqrs_buf *input)
{
    const struct pgqrs_bytes text = {.data = (const char *)input->data, .len = input->len};
    struct pgqrs_json json = {0};
    struct pgqrs_error err;
    int64_t made;
    int rc;
    PGQRS_RUN_TRY(
        rc, &err,
        pgqrs_store_run_fork(cli->store, id, cli->options[PGQRS_OPT_FROM], text, &made, &err));
    if (rc < 0) {
        if (err.code == PGQRS_ERR_UNKNOWN) {
            (void)pgqrs_error_prefix(&err, "it is unknown whether the run was forked");
        }
        return pgqrs_cli_fail(&err);
    }
    if (cli->json) {
        pgqrs_json_begin(&json, NULL, '{');
        pgqrs_json_integer(&json, "id", made);
        pgqrs_json_integer(&json, "forked_from", id);
        pgqrs_json_end(&json, '}');
    } else {
        (void)printf("%" PRId64 "\n", made);
    }
    return PGQRS_CLI_OK;
}

int pgqrs_cmd_run_fork(struct pgqrs_cli *cli)
{
    const char *word = cli->options[PGQRS_OPT_INPUT];
    struct pgqrs_buf input = {0};
    int64_t id;
    int status = pgqrs_cli_id(cli, &id);
    if (status == PGQRS_CLI_OK && word != NULL) {
        status = pgqrs_input_of_run(word, &input);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK) {
        status = fork_run(cli, id, &input);
    }
    pgqrs_buf_fini(&input);
    return status;
}
