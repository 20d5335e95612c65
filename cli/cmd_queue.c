/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/output.h"

/* ---- create ---- */

static int create(struct pgqrs_cli *cli, const char *name, int64_t *id_out)
{
    struct pgqrs_cli_retry retry = {0};
    struct pgqrs_error err;
    int rc;
    if (!pgqrs_utf8_is_valid(pgqrs_bytes_from(name))) {
        pgqrs_cli_error("queue \"%s\": found bytes that are not UTF-8, expected text", name);
        return PGQRS_CLI_FAILURE;
    }
    do {
        rc = pgqrs_store_queue_create(cli->store, name, id_out, &err);
    } while (rc < 0 && pgqrs_cli_again(&retry, &err));
    return rc < 0 ? pgqrs_cli_fail(&err) : PGQRS_CLI_OK;
}

/* A name that can not be created does not keep the others from it. */
int pgqrs_cmd_queue_create(struct pgqrs_cli *cli)
{
    struct pgqrs_json json = {0};
    int status = pgqrs_cli_open(cli);
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    if (cli->json) {
        pgqrs_json_begin(&json, NULL, '[');
    }
    for (size_t i = 0; i < cli->word_count; i++) {
        int64_t id = 0;
        int created = create(cli, cli->words[i], &id);
        status = created > status ? created : status;
        if (created == PGQRS_CLI_OK && cli->json) {
            pgqrs_json_begin(&json, NULL, '{');
            pgqrs_json_integer(&json, "id", id);
            pgqrs_json_text(&json, "name", cli->words[i]);
            pgqrs_json_end(&json, '}');
        } else if (created == PGQRS_CLI_OK) {
            struct pgqrs_buf shown = {0};
            pgqrs_show(&shown, cli->words[i]);
            (void)printf("queue \"%.*s\" is created\n", (int)shown.len, (const char *)shown.data);
            pgqrs_buf_fini(&shown);
        }
    }
    if (cli->json) {
        pgqrs_json_end(&json, ']');
    }
    return status;
}

/* ---- list ---- */

static void list_as_json(const struct pgqrs_queue_list *list)
{
    struct pgqrs_json json = {0};
    pgqrs_json_begin(&json, NULL, '[');
    for (size_t i = 0; i < list->count; i++) {
        pgqrs_json_begin(&json, NULL, '{');
        pgqrs_json_integer(&json, "id", list->items[i].id);
        pgqrs_json_text(&json, "name", list->items[i].name);
        pgqrs_json_time(&json, "created_at", list->items[i].created_at_us);
        pgqrs_json_time(&json, "paused_at", list->items[i].paused_at_us);
        pgqrs_json_end(&json, '}');
    }
    pgqrs_json_end(&json, ']');
}

static void list_as_table(const struct pgqrs_queue_list *list)
{
    static const char *const headers[] = {">ID", "CREATED", "PAUSED", "NAME"};
    struct pgqrs_table table = pgqrs_table_of(headers, 4);
    for (size_t i = 0; i < list->count; i++) {
        char time[PGQRS_TIME_SIZE];
        pgqrs_table_number(&table, list->items[i].id);
        pgqrs_table_text(&table, pgqrs_time_table(list->items[i].created_at_us, time));
        pgqrs_table_text(&table, pgqrs_time_table(list->items[i].paused_at_us, time));
        pgqrs_table_text(&table, list->items[i].name);
    }
    pgqrs_table_print(&table);
}

int pgqrs_cmd_queue_list(struct pgqrs_cli *cli)
{
    struct pgqrs_queue_list list = {0};
    int status = pgqrs_cli_open(cli);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_list_queues(cli, &list);
    }
    if (status == PGQRS_CLI_OK) {
        if (cli->json) {
            list_as_json(&list);
        } else {
            list_as_table(&list);
        }
    }
    pgqrs_queue_list_fini(&list);
    return status;
}

/* ---- metrics ---- */

static bool capped(int64_t count, uint64_t max)
{
    return max != 0 && (uint64_t)count >= max;
}

static void capped_names(struct pgqrs_json *json, const struct pgqrs_queue_metrics *m, uint64_t max)
{
    const struct {
        const char *name;
        bool capped;
    } counts[] = {
        {"ready", capped(m->ready, max)},
        {"delayed", capped(m->pending, max)},
        {"leased", capped(m->leased, max)},
        {"archived", capped(m->archived, max)},
        {"failed", capped(m->failed, max)},
        {"total", capped(m->pending, max) || capped(m->leased, max) || capped(m->archived, max)}};
    pgqrs_json_begin(json, "capped", '[');
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (counts[i].capped) {
            pgqrs_json_text(json, NULL, counts[i].name);
        }
    }
    pgqrs_json_end(json, ']');
}

static void metrics_as_json(struct pgqrs_json *json, const struct pgqrs_queue *queue,
                            const struct pgqrs_queue_metrics *m, uint64_t max)
{
    pgqrs_json_begin(json, NULL, '{');
    pgqrs_json_integer(json, "id", queue->id);
    pgqrs_json_text(json, "name", queue->name);
    pgqrs_json_integer(json, "ready", m->ready);
    pgqrs_json_integer(json, "delayed", m->pending - m->ready);
    pgqrs_json_integer(json, "leased", m->leased);
    pgqrs_json_integer(json, "archived", m->archived);
    pgqrs_json_integer(json, "failed", m->failed);
    pgqrs_json_integer(json, "total", m->total);
    capped_names(json, m, max);
    pgqrs_json_time(json, "oldest_pending_at", m->oldest_pending_us);
    pgqrs_json_time(json, "newest_at", m->newest_us);
    pgqrs_json_end(json, '}');
}

static void metrics_as_row(struct pgqrs_table *table, const struct pgqrs_queue *queue,
                           const struct pgqrs_queue_metrics *m, uint64_t max)
{
    char time[PGQRS_TIME_SIZE];
    char text[24];
    pgqrs_table_text(table, pgqrs_cli_count(m->ready, capped(m->ready, max), text));
    pgqrs_table_text(table, pgqrs_cli_count(m->pending - m->ready, capped(m->pending, max), text));
    pgqrs_table_text(table, pgqrs_cli_count(m->leased, capped(m->leased, max), text));
    pgqrs_table_text(table, pgqrs_cli_count(m->archived, capped(m->archived, max), text));
    pgqrs_table_text(table, pgqrs_cli_count(m->failed, capped(m->failed, max), text));
    pgqrs_table_text(table, pgqrs_time_table(m->oldest_pending_us, time));
    pgqrs_table_text(table, queue->name);
}

static int each_metrics(struct pgqrs_cli *cli, const struct pgqrs_queue_list *list,
                        struct pgqrs_table *table, struct pgqrs_json *json)
{
    uint64_t max = cli->options[PGQRS_OPT_EXACT] != NULL ? 0 : PGQRS_COUNT_MAX;
    for (size_t i = 0; i < list->count; i++) {
        const struct pgqrs_queue *queue = &list->items[i];
        struct pgqrs_cli_retry retry = {0};
        struct pgqrs_queue_metrics m;
        struct pgqrs_error err;
        int rc;
        if (cli->word_count == 1 && strcmp(queue->name, cli->words[0]) != 0) {
            continue;
        }
        do {
            rc = pgqrs_store_queue_metrics(cli->store, queue->id, max, &m, &err);
        } while (rc < 0 && pgqrs_cli_again(&retry, &err));
        if (rc < 0) {
            return pgqrs_cli_fail(&err);
        }
        if (cli->json) {
            metrics_as_json(json, queue, &m, max);
        } else {
            metrics_as_row(table, queue, &m, max);
        }
    }
    return PGQRS_CLI_OK;
}

int pgqrs_cmd_queue_metrics(struct pgqrs_cli *cli)
{
    static const char *const headers[] = {">READY",  ">DELAYED",       ">LEASED", ">ARCHIVED",
                                          ">FAILED", "OLDEST PENDING", "NAME"};
    struct pgqrs_table table = pgqrs_table_of(headers, 7);
    struct pgqrs_queue_list list = {0};
    struct pgqrs_json json = {0};
    int64_t id;
    int status = pgqrs_cli_open(cli);
    if (status == PGQRS_CLI_OK && cli->word_count == 1) {
        status = pgqrs_cli_find_queue(cli, cli->words[0], &id);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_list_queues(cli, &list);
    }
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    if (cli->json) {
        pgqrs_json_begin(&json, NULL, '[');
    }
    status = each_metrics(cli, &list, &table, &json);
    if (cli->json) {
        pgqrs_json_end(&json, ']');
        pgqrs_buf_fini(&table.cells);
    } else {
        pgqrs_table_print(&table);
    }
    pgqrs_queue_list_fini(&list);
    return status;
}
