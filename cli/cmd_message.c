/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/output.h"

#define PAGE_MAX 1000

static const char *const state_names[PGQRS_STATE_COUNT] = {
    [PGQRS_STATE_READY] = "ready",
    [PGQRS_STATE_DELAYED] = "delayed",
    [PGQRS_STATE_LEASED] = "leased",
    [PGQRS_STATE_ARCHIVED] = "archived",
};

/* ---- showing ---- */

static void as_json(struct pgqrs_json *json, const struct pgqrs_message *m, const char *queue)
{
    pgqrs_json_begin(json, NULL, '{');
    pgqrs_json_integer(json, "id", m->id);
    pgqrs_json_text(json, "queue", queue);
    pgqrs_json_text(json, "state", state_names[m->state]);
    pgqrs_json_text(json, "outcome", m->outcome);
    pgqrs_json_integer(json, "attempts", m->read_ct);
    pgqrs_json_integer(json, "crashes", m->crash_ct);
    pgqrs_json_integer(json, "priority", m->priority);
    pgqrs_json_time(json, "enqueued_at", m->enqueued_at_us);
    pgqrs_json_time(json, "visible_at", pgqrs_time_or_never(m->vt_us));
    pgqrs_json_time(json, "leased_at", m->dequeued_at_us);
    pgqrs_json_time(json, "archived_at", m->archived_at_us);
    if (m->consumer_worker_id == 0) {
        pgqrs_json_text(json, "worker_id", NULL);
    } else {
        pgqrs_json_integer(json, "worker_id", m->consumer_worker_id);
    }
    pgqrs_json_text(json, "unique_key", m->unique_key);
    pgqrs_json_embed(json, "payload", m->payload);
    pgqrs_json_embed(json, "result", m->result);
    pgqrs_json_text(json, "error", m->error);
    pgqrs_json_end(json, '}');
}

static void as_lines(const struct pgqrs_message *m, const char *queue)
{
    pgqrs_line_number("id", m->id);
    pgqrs_line("queue", queue);
    pgqrs_line("state", state_names[m->state]);
    pgqrs_line("outcome", m->outcome);
    pgqrs_line_number("attempts", m->read_ct);
    if (m->crash_ct != 0) {
        pgqrs_line_number("crashes", m->crash_ct);
    }
    pgqrs_line_number("priority", m->priority);
    pgqrs_line_time("enqueued", m->enqueued_at_us);
    if (m->state != PGQRS_STATE_ARCHIVED && pgqrs_time_or_never(m->vt_us) == 0) {
        pgqrs_line("due", "never, unless it is woken");
    } else if (m->state != PGQRS_STATE_ARCHIVED) {
        pgqrs_line_time(m->state == PGQRS_STATE_LEASED ? "lease to" : "due", m->vt_us);
    }
    pgqrs_line_time("leased", m->dequeued_at_us);
    pgqrs_line_time("archived", m->archived_at_us);
    if (m->consumer_worker_id != 0) {
        pgqrs_line_number("worker", m->consumer_worker_id);
    }
    pgqrs_line("key", m->unique_key);
    pgqrs_line("payload", m->payload);
    pgqrs_line("result", m->result);
    pgqrs_line("error", m->error);
}

int pgqrs_cmd_message_get(struct pgqrs_cli *cli)
{
    struct pgqrs_cli_retry retry = {0};
    struct pgqrs_queue_list queues = {0};
    struct pgqrs_message message = {0};
    struct pgqrs_json json = {0};
    struct pgqrs_error err;
    int64_t id;
    int rc;
    int status = pgqrs_cli_id(cli, &id);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    do {
        rc = pgqrs_store_message_get(cli->store, id, &message, &err);
    } while (rc < 0 && pgqrs_cli_again(&retry, &err));
    if (rc < 0) {
        return pgqrs_cli_fail(&err);
    }
    status = pgqrs_cli_list_queues(cli, &queues);
    if (status == PGQRS_CLI_OK && cli->json) {
        as_json(&json, &message, pgqrs_cli_queue_name(&queues, message.queue_id));
    } else if (status == PGQRS_CLI_OK) {
        as_lines(&message, pgqrs_cli_queue_name(&queues, message.queue_id));
    }
    pgqrs_queue_list_fini(&queues);
    pgqrs_message_fini(&message);
    return status;
}

/* ---- lists ---- */

struct listing {
    struct pgqrs_cli *cli;
    bool dead; /* the dead letters */
    struct pgqrs_message_filter filter;
    struct pgqrs_queue_list queues;
    struct pgqrs_table table;
    struct pgqrs_json json;
};

static int parse_filter(struct pgqrs_cli *cli, struct pgqrs_message_filter *filter)
{
    const char *state = cli->options[PGQRS_OPT_STATE];
    const char *outcome = cli->options[PGQRS_OPT_OUTCOME];
    if (pgqrs_cli_integer(cli, PGQRS_OPT_WORKER, 1, INT64_MAX, 0, &filter->consumer_worker_id) <
        0) {
        return PGQRS_CLI_USAGE;
    }
    filter->outcome = outcome;
    filter->unique_key = cli->options[PGQRS_OPT_KEY];
    for (int i = PGQRS_STATE_READY; state != NULL && i < PGQRS_STATE_COUNT; i++) {
        if (strcmp(state, state_names[i]) == 0) {
            filter->state = (enum pgqrs_message_state)i;
        }
    }
    if (state != NULL && filter->state == PGQRS_STATE_NONE) {
        return pgqrs_cli_usage("--state: found \"%s\", expected ready, delayed, leased or archived",
                               state);
    }
    if (outcome != NULL && strcmp(outcome, "done") != 0 && strcmp(outcome, "failed") != 0 &&
        strcmp(outcome, "cancelled") != 0) {
        return pgqrs_cli_usage("--outcome: found \"%s\", expected done, failed or cancelled",
                               outcome);
    }
    return PGQRS_CLI_OK;
}

static void as_row(struct listing *l, const struct pgqrs_message *m)
{
    const char *queue = pgqrs_cli_queue_name(&l->queues, m->queue_id);
    char time[PGQRS_TIME_SIZE];
    pgqrs_table_number(&l->table, m->id);
    pgqrs_table_text(&l->table, queue);
    if (l->dead) {
        pgqrs_table_number(&l->table, m->read_ct);
        pgqrs_table_text(&l->table, pgqrs_time_table(m->archived_at_us, time));
        pgqrs_table_text(&l->table, m->error);
        return;
    }
    pgqrs_table_text(&l->table, m->outcome != NULL ? m->outcome : state_names[m->state]);
    pgqrs_table_number(&l->table, m->read_ct);
    pgqrs_table_text(&l->table, pgqrs_time_table(m->enqueued_at_us, time));
    pgqrs_table_text(&l->table, m->error != NULL    ? m->error
                                : m->result != NULL ? m->result
                                                    : m->payload);
}

/* A page of the store may be short and not the last. limit 0: all. */
static int each(struct listing *l, int64_t limit)
{
    struct pgqrs_message_filter *filter = &l->filter;
    int64_t left = limit == 0 ? INT64_MAX : limit;
    do {
        struct pgqrs_cli_retry retry = {0};
        struct pgqrs_message_list page = {0};
        struct pgqrs_error err;
        int rc;
        filter->limit = (uint32_t)(left < PAGE_MAX ? left : PAGE_MAX);
        do {
            rc = pgqrs_store_message_list(l->cli->store, filter, &page, &err);
        } while (rc < 0 && pgqrs_cli_again(&retry, &err));
        if (rc < 0) {
            return pgqrs_cli_fail(&err);
        }
        for (size_t i = 0; i < page.count; i++) {
            const struct pgqrs_message *m = &page.items[i];
            if (l->cli->json) {
                as_json(&l->json, m, pgqrs_cli_queue_name(&l->queues, m->queue_id));
            } else {
                as_row(l, m);
            }
        }
        left -= (int64_t)page.count;
        filter->before_id = page.next_before_id;
        pgqrs_message_list_fini(&page);
    } while (left > 0 && filter->before_id != 0);
    return PGQRS_CLI_OK;
}

static int print_list(struct listing *l)
{
    struct pgqrs_cli *cli = l->cli;
    struct pgqrs_cli_page page;
    int status = parse_filter(cli, &l->filter);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_page(cli, &page);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_queue_option(cli, &l->filter.queue_id);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_list_queues(cli, &l->queues);
    }
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    l->filter.before_id = page.before_id;
    l->filter.outcome = l->dead ? "failed" : l->filter.outcome;
    if (cli->json) {
        pgqrs_json_begin(&l->json, NULL, '[');
    }
    status = each(l, page.limit);
    if (cli->json) {
        pgqrs_json_end(&l->json, ']');
    } else if (status == PGQRS_CLI_OK) {
        pgqrs_table_print(&l->table);
        pgqrs_cli_more(cli, l->filter.before_id);
    }
    pgqrs_buf_fini(&l->table.cells);
    pgqrs_queue_list_fini(&l->queues);
    return status;
}

int pgqrs_cmd_message_list(struct pgqrs_cli *cli)
{
    static const char *const headers[] = {">ID",    "QUEUE",    "STATE",
                                          ">TRIES", "ENQUEUED", "PAYLOAD, RESULT OR ERROR"};
    struct listing l = {.cli = cli, .table = pgqrs_table_of(headers, 6)};
    return print_list(&l);
}

int pgqrs_cmd_dlq_list(struct pgqrs_cli *cli)
{
    static const char *const headers[] = {">ID", "QUEUE", ">TRIES", "FAILED", "ERROR"};
    struct listing l = {.cli = cli, .dead = true, .table = pgqrs_table_of(headers, 5)};
    return print_list(&l);
}
