/* SPDX-License-Identifier: Apache-2.0 */
/* Schedules: jobs and runs at times that a cron expression names. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cron.h"
#include "cli/input.h"
#include "cli/runs.h"
#include "store/schedule.h"

#define PAGE 100
#define COUNT_DEFAULT 5
#define COUNT_MAX 1000

/* ---- when ---- */

/* The next time after one; 0 when there is none, or the expression or zone can not be read. */
static int64_t next_after(const struct pgqrs_schedule *s, int64_t after_us, struct pgqrs_error *err)
{
    struct pgqrs_cron cron;
    struct pgqrs_timezone *zone = NULL;
    int64_t next_us = 0;
    if (pgqrs_cron_parse(s->cron, &cron, err) < 0 || pgqrs_timezone_open(s->zone, &zone, err) < 0) {
        return 0;
    }
    if (pgqrs_cron_next(&cron, zone, after_us, &next_us, err) < 0) {
        next_us = 0;
    }
    pgqrs_timezone_close(&zone);
    return next_us;
}

/* 0: it is paused, or never comes. */
static int64_t next_of(const struct pgqrs_schedule *s)
{
    struct pgqrs_error err;
    if (s->paused_at_us != 0 || s->next_at_us >= PGQRS_SCHEDULE_NEVER_US) {
        return 0;
    }
    return s->planned ? s->next_at_us : next_after(s, s->next_at_us, &err);
}

/* ---- list ---- */

static void put_json(struct pgqrs_json *json, const struct pgqrs_schedule *s)
{
    pgqrs_json_begin(json, NULL, '{');
    pgqrs_json_integer(json, "id", s->id);
    pgqrs_json_text(json, "name", s->name);
    pgqrs_json_text(json, "queue", s->queue);
    pgqrs_json_text(json, "cron", s->cron);
    pgqrs_json_text(json, "zone", s->zone);
    pgqrs_json_embed(json, "payload", s->payload);
    pgqrs_json_integer(json, "priority", s->priority);
    pgqrs_json_text(json, "catch_up", pgqrs_catch_up_name(s->catch_up));
    pgqrs_json_text(json, "overlap", pgqrs_overlap_name(s->overlap));
    pgqrs_json_text(json, "config", s->config);
    pgqrs_json_time(json, "created_at", s->created_at_us);
    pgqrs_json_time(json, "paused_at", s->paused_at_us);
    pgqrs_json_time(json, "next_at", next_of(s));
    pgqrs_json_time(json, "last_at", s->last_at_us);
    if (s->last_message_id != 0) {
        pgqrs_json_integer(json, "last_message_id", s->last_message_id);
    } else {
        pgqrs_json_text(json, "last_message_id", NULL);
    }
    pgqrs_json_end(json, '}');
}

static void put_row(struct pgqrs_table *table, const struct pgqrs_schedule *s)
{
    char time[PGQRS_TIME_SIZE];
    pgqrs_table_text(table, s->name);
    pgqrs_table_text(table, s->queue);
    pgqrs_table_text(table, pgqrs_time_table(s->last_at_us, time));
    pgqrs_table_text(table, s->paused_at_us != 0 ? "paused" : pgqrs_time_table(next_of(s), time));
    pgqrs_table_text(table, s->zone);
    pgqrs_table_text(table, s->cron);
}

static int list_pages(struct pgqrs_cli *cli, struct pgqrs_json *json, struct pgqrs_table *table)
{
    char *after = NULL;
    for (size_t got = PAGE; got == PAGE;) {
        struct pgqrs_schedule_list page;
        struct pgqrs_error err;
        int rc;
        PGQRS_RUN_TRY(rc, &err, pgqrs_store_schedule_list(cli->store, after, PAGE, &page, &err));
        if (rc < 0) {
            free(after);
            return pgqrs_cli_fail(&err);
        }
        got = page.count;
        for (size_t i = 0; i < got; i++) {
            cli->json ? put_json(json, &page.items[i]) : put_row(table, &page.items[i]);
        }
        if (got > 0) {
            free(after);
            after = page.items[got - 1].name;
            page.items[got - 1].name = NULL;
        }
        pgqrs_schedule_list_fini(&page);
    }
    free(after);
    return PGQRS_CLI_OK;
}

int pgqrs_cmd_schedule_list(struct pgqrs_cli *cli)
{
    static const char *const headers[] = {"NAME", "QUEUE", "LAST", "NEXT", "ZONE", "CRON"};
    struct pgqrs_table table = pgqrs_table_of(headers, 6);
    struct pgqrs_json json = {0};
    int status = pgqrs_cli_open(cli);
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    if (cli->json) {
        pgqrs_json_begin(&json, NULL, '[');
    }
    status = list_pages(cli, &json, &table);
    if (cli->json) {
        pgqrs_json_end(&json, ']');
    } else if (status == PGQRS_CLI_OK) {
        pgqrs_table_print(&table);
    }
    pgqrs_buf_fini(&table.cells);
    return status;
}

/* ---- create ---- */

static int parse_policies(const struct pgqrs_cli *cli, struct pgqrs_schedule_put *put)
{
    const char *catch_up = cli->options[PGQRS_OPT_CATCH_UP];
    const char *overlap = cli->options[PGQRS_OPT_OVERLAP];
    if (catch_up != NULL) {
        put->catch_up = pgqrs_catch_up_from(pgqrs_bytes_from(catch_up));
        if (strcmp(catch_up, pgqrs_catch_up_name(put->catch_up)) != 0) {
            return pgqrs_cli_usage("--catch-up: found \"%s\", expected skip, once or all",
                                   catch_up);
        }
    }
    if (overlap != NULL) {
        put->overlap = pgqrs_overlap_from(pgqrs_bytes_from(overlap));
        if (strcmp(overlap, pgqrs_overlap_name(put->overlap)) != 0) {
            return pgqrs_cli_usage("--overlap: found \"%s\", expected allow or skip", overlap);
        }
    }
    return PGQRS_CLI_OK;
}

static int parse_when(const struct pgqrs_cli *cli, struct pgqrs_schedule_put *put)
{
    struct pgqrs_cron cron;
    struct pgqrs_timezone *zone = NULL;
    struct pgqrs_error err;
    put->cron = cli->options[PGQRS_OPT_CRON];
    put->zone = cli->options[PGQRS_OPT_ZONE] != NULL ? cli->options[PGQRS_OPT_ZONE] : "UTC";
    if (put->cron == NULL) {
        return pgqrs_cli_usage("found no --cron, expected an expression, such as '30 2 * * *'");
    }
    if (pgqrs_cron_parse(put->cron, &cron, &err) < 0) {
        return pgqrs_cli_usage("--cron: %s", err.text);
    }
    if (pgqrs_timezone_open(put->zone, &zone, &err) < 0) {
        return pgqrs_cli_usage("--zone: %s", err.text);
    }
    pgqrs_timezone_close(&zone);
    return PGQRS_CLI_OK;
}

static int parse_put(const struct pgqrs_cli *cli, struct pgqrs_schedule_put *put)
{
    const char *queue = cli->options[PGQRS_OPT_QUEUE];
    const char *workflow = cli->options[PGQRS_OPT_WORKFLOW];
    int64_t priority = 0;
    put->name = cli->words[0];
    put->queue = workflow != NULL ? workflow : queue;
    if ((queue == NULL) == (workflow == NULL)) {
        return pgqrs_cli_usage("found %s, expected either --queue or --workflow",
                               queue == NULL ? "neither" : "both");
    }
    if (!pgqrs_utf8_is_valid(pgqrs_bytes_from(put->name)) || *put->name == 0 ||
        strlen(put->name) > PGQRS_SCHEDULE_NAME_MAX) {
        return pgqrs_cli_usage("name: found %zu bytes, expected 1 to %d of UTF-8 text",
                               strlen(put->name), PGQRS_SCHEDULE_NAME_MAX);
    }
    if (pgqrs_cli_integer(cli, PGQRS_OPT_PRIORITY, INT32_MIN, INT32_MAX, 0, &priority) < 0) {
        return PGQRS_CLI_USAGE;
    }
    put->priority = (int32_t)priority;
    int status = parse_when(cli, put);
    return status != PGQRS_CLI_OK ? status : parse_policies(cli, put);
}

static int create(struct pgqrs_cli *cli, const struct pgqrs_schedule_put *put)
{
    struct pgqrs_workflow_list one = {0};
    struct pgqrs_error err;
    int64_t id = 0;
    int rc = 0;
    if (cli->options[PGQRS_OPT_WORKFLOW] != NULL) {
        PGQRS_RUN_TRY(rc, &err, pgqrs_store_workflow_find(cli->store, put->queue, &one, &err));
        pgqrs_workflow_list_fini(&one);
    }
    if (rc == 0) {
        PGQRS_RUN_TRY(rc, &err, pgqrs_store_schedule_create(cli->store, put, &id, &err));
    }
    if (rc < 0) {
        return pgqrs_cli_fail(&err);
    }
    if (cli->json) {
        struct pgqrs_json json = {0};
        pgqrs_json_begin(&json, NULL, '{');
        pgqrs_json_integer(&json, "id", id);
        pgqrs_json_text(&json, "name", put->name);
        pgqrs_json_end(&json, '}');
        return PGQRS_CLI_OK;
    }
    struct pgqrs_buf shown = {0};
    pgqrs_show(&shown, put->name);
    (void)printf("schedule \"%.*s\" is created\n", (int)shown.len, (const char *)shown.data);
    pgqrs_buf_fini(&shown);
    return PGQRS_CLI_OK;
}

int pgqrs_cmd_schedule_create(struct pgqrs_cli *cli)
{
    struct pgqrs_schedule_put put = {0};
    struct pgqrs_buf value = {0};
    struct pgqrs_buf wrapped = {0};
    struct pgqrs_error err;
    const char *payload = cli->options[PGQRS_OPT_PAYLOAD];
    int status = parse_put(cli, &put);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_input_json(payload != NULL ? payload : "{}", &value);
    }
    put.payload = (struct pgqrs_bytes){.data = (const char *)value.data, .len = value.len};
    if (status == PGQRS_CLI_OK && cli->options[PGQRS_OPT_WORKFLOW] != NULL) {
        status = pgqrs_workflow_wrap(put.payload, &wrapped, &err) < 0 ? pgqrs_cli_fail(&err)
                                                                      : PGQRS_CLI_OK;
        put.payload = (struct pgqrs_bytes){.data = (const char *)wrapped.data, .len = wrapped.len};
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK) {
        status = create(cli, &put);
    }
    pgqrs_buf_fini(&value);
    pgqrs_buf_fini(&wrapped);
    return status;
}

/* ---- pause, resume, delete ---- */

enum change { PAUSE, RESUME, DELETE };

static int change(struct pgqrs_cli *cli, const char *name, enum change what,
                  struct pgqrs_json *json)
{
    static const char *const done[] = {
        [PAUSE] = "paused", [RESUME] = "not paused", [DELETE] = "deleted"};
    struct pgqrs_error err;
    int rc;
    PGQRS_RUN_TRY(rc, &err,
                  what == DELETE
                      ? pgqrs_store_schedule_delete(cli->store, name, &err)
                      : pgqrs_store_schedule_pause(cli->store, name, what == PAUSE, &err));
    if (rc < 0) {
        return pgqrs_cli_fail(&err);
    }
    if (cli->json) {
        pgqrs_json_text(json, NULL, name);
        return PGQRS_CLI_OK;
    }
    struct pgqrs_buf shown = {0};
    pgqrs_show(&shown, name);
    (void)printf("schedule \"%.*s\" is %s\n", (int)shown.len, (const char *)shown.data, done[what]);
    pgqrs_buf_fini(&shown);
    return PGQRS_CLI_OK;
}

/* One that fails does not keep the others from it. */
static int change_all(struct pgqrs_cli *cli, enum change what)
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
        int changed = change(cli, cli->words[i], what, &json);
        status = changed > status ? changed : status;
    }
    if (cli->json) {
        pgqrs_json_end(&json, ']');
    }
    return status;
}

int pgqrs_cmd_schedule_pause(struct pgqrs_cli *cli)
{
    return change_all(cli, PAUSE);
}

int pgqrs_cmd_schedule_resume(struct pgqrs_cli *cli)
{
    return change_all(cli, RESUME);
}

int pgqrs_cmd_schedule_delete(struct pgqrs_cli *cli)
{
    int status = pgqrs_cli_may_ask(cli);
    if (status == PGQRS_CLI_OK && cli->options[PGQRS_OPT_YES] == NULL) {
        status = pgqrs_cli_confirm(cli, "delete %zu schedule%s", cli->word_count,
                                   cli->word_count == 1 ? "" : "s");
    }
    return status == PGQRS_CLI_OK ? change_all(cli, DELETE) : status;
}

/* ---- run, next ---- */

static int find(struct pgqrs_cli *cli, struct pgqrs_schedule_list *one)
{
    struct pgqrs_error err;
    int rc;
    int status = pgqrs_cli_open(cli);
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    PGQRS_RUN_TRY(rc, &err, pgqrs_store_schedule_find(cli->store, cli->words[0], one, &err));
    return rc < 0 ? pgqrs_cli_fail(&err) : PGQRS_CLI_OK;
}

int pgqrs_cmd_schedule_run(struct pgqrs_cli *cli)
{
    struct pgqrs_schedule_list one = {0};
    struct pgqrs_error err;
    int64_t id = 0;
    int rc;
    int status = find(cli, &one);
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    const struct pgqrs_schedule *s = &one.items[0];
    const struct pgqrs_enqueue item = {.payload = pgqrs_bytes_from(s->payload),
                                       .priority = s->priority};
    PGQRS_RUN_TRY(rc, &err,
                  pgqrs_store_enqueue(cli->store, s->queue_id, &item, 1, &id, NULL, &err));
    pgqrs_schedule_list_fini(&one);
    if (rc < 0) {
        return pgqrs_cli_fail(&err);
    }
    if (cli->json) {
        struct pgqrs_json json = {0};
        pgqrs_json_begin(&json, NULL, '{');
        pgqrs_json_integer(&json, "id", id);
        pgqrs_json_end(&json, '}');
    } else {
        (void)printf("%" PRId64 "\n", id); /* alone, for $(...) */
    }
    return PGQRS_CLI_OK;
}

/* As people of the zone would write it, with its offset. */
static void print_local(const struct pgqrs_timezone *zone, int64_t at_us)
{
    char text[PGQRS_TIMESTAMP_SIZE];
    int64_t at_s = at_us / 1000000;
    int offset_min = pgqrs_timezone_at(zone, at_s).offset_s / 60;
    pgqrs_timestamp_format(at_us + offset_min * INT64_C(60000000), text);
    (void)printf("%.19s %c%02d:%02d\n", text, offset_min < 0 ? '-' : '+', abs(offset_min) / 60,
                 abs(offset_min) % 60);
}

static int print_next(const struct pgqrs_cli *cli, const struct pgqrs_schedule *s, int64_t now_us,
                      int64_t count)
{
    struct pgqrs_timezone *zone = NULL;
    struct pgqrs_json json = {0};
    struct pgqrs_error err = {0};
    if (pgqrs_timezone_open(s->zone, &zone, &err) < 0) {
        return pgqrs_cli_fail(&err);
    }
    if (cli->json) {
        pgqrs_json_begin(&json, NULL, '[');
    }
    int64_t at_us = now_us;
    for (int64_t i = 0; i < count && (at_us = next_after(s, at_us, &err)) != 0; i++) {
        if (cli->json) {
            pgqrs_json_time(&json, NULL, at_us);
        } else {
            print_local(zone, at_us);
        }
    }
    if (cli->json) {
        pgqrs_json_end(&json, ']');
    }
    pgqrs_timezone_close(&zone);
    return at_us != 0 || err.code == PGQRS_ERR_NOT_FOUND ? PGQRS_CLI_OK : pgqrs_cli_fail(&err);
}

int pgqrs_cmd_schedule_next(struct pgqrs_cli *cli)
{
    struct pgqrs_schedule_list one = {0};
    int64_t count = 0;
    if (pgqrs_cli_integer(cli, PGQRS_OPT_COUNT_OF, 1, COUNT_MAX, COUNT_DEFAULT, &count) < 0) {
        return PGQRS_CLI_USAGE;
    }
    int status = find(cli, &one);
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    status = print_next(cli, &one.items[0], one.now_us, count);
    pgqrs_schedule_list_fini(&one);
    return status;
}
