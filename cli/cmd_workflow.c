/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions of workflows, and what is done to runs. */
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "cli/input.h"
#include "cli/runs.h"
#include "store/payload.h"

#define PAGE 1000
#define KEY_MAX 255
#define CANCEL_TRIES 25 /* while a worker is about to begin it */
#define CANCEL_PAUSE_MS 200

/* ---- definitions ---- */

static int create(struct pgqrs_cli *cli, const char *name, struct pgqrs_json *json)
{
    struct pgqrs_error err;
    struct pgqrs_buf shown = {0};
    int64_t id;
    bool existed;
    int rc;
    if (!pgqrs_utf8_is_valid(pgqrs_bytes_from(name))) {
        pgqrs_cli_error("workflow \"%s\": found bytes that are not UTF-8, expected text", name);
        return PGQRS_CLI_FAILURE;
    }
    PGQRS_RUN_TRY(rc, &err, pgqrs_store_workflow_create(cli->store, name, &id, &existed, &err));
    if (rc < 0) {
        return pgqrs_cli_fail(&err);
    }
    if (cli->json) {
        pgqrs_json_begin(json, NULL, '{');
        pgqrs_json_integer(json, "id", id);
        pgqrs_json_text(json, "name", name);
        pgqrs_json_boolean(json, "existed", existed);
        pgqrs_json_end(json, '}');
        return PGQRS_CLI_OK;
    }
    pgqrs_show(&shown, name);
    (void)printf("workflow \"%.*s\" %s\n", (int)shown.len, (const char *)shown.data,
                 existed ? "is there already" : "is created");
    pgqrs_buf_fini(&shown);
    return PGQRS_CLI_OK;
}

int pgqrs_cmd_workflow_create(struct pgqrs_cli *cli)
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
        int created = create(cli, cli->words[i], &json);
        status = created > status ? created : status;
    }
    if (cli->json) {
        pgqrs_json_end(&json, ']');
    }
    return status;
}

static void put_workflow(const struct pgqrs_cli *cli, struct pgqrs_json *json,
                         struct pgqrs_table *table, const struct pgqrs_workflow *w)
{
    char time[PGQRS_TIME_SIZE];
    if (!cli->json) {
        pgqrs_table_number(table, w->id);
        pgqrs_table_text(table, pgqrs_time_table(w->created_at_us, time));
        pgqrs_table_text(table, w->name);
        return;
    }
    pgqrs_json_begin(json, NULL, '{');
    pgqrs_json_integer(json, "id", w->id);
    pgqrs_json_text(json, "name", w->name);
    pgqrs_json_integer(json, "queue_id", w->queue_id);
    pgqrs_json_time(json, "created_at", w->created_at_us);
    pgqrs_json_end(json, '}');
}

static int list(struct pgqrs_cli *cli, struct pgqrs_json *json, struct pgqrs_table *table)
{
    int64_t after = 0;
    for (size_t got = PAGE; got == PAGE;) {
        struct pgqrs_workflow_list page;
        struct pgqrs_error err;
        int rc;
        PGQRS_RUN_TRY(rc, &err, pgqrs_store_workflow_list(cli->store, after, PAGE, &page, &err));
        if (rc < 0) {
            return pgqrs_cli_fail(&err);
        }
        got = page.count;
        for (size_t i = 0; i < got; i++) {
            put_workflow(cli, json, table, &page.items[i]);
            after = page.items[i].id;
        }
        pgqrs_workflow_list_fini(&page);
    }
    return PGQRS_CLI_OK;
}

int pgqrs_cmd_workflow_list(struct pgqrs_cli *cli)
{
    static const char *const headers[] = {">ID", "CREATED", "NAME"};
    struct pgqrs_table table = pgqrs_table_of(headers, 3);
    struct pgqrs_json json = {0};
    int status = pgqrs_cli_open(cli);
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    if (cli->json) {
        pgqrs_json_begin(&json, NULL, '[');
    }
    status = list(cli, &json, &table);
    if (cli->json) {
        pgqrs_json_end(&json, ']');
        pgqrs_buf_fini(&table.cells);
    } else if (status == PGQRS_CLI_OK) {
        pgqrs_table_print(&table);
    }
    pgqrs_buf_fini(&table.cells);
    return status;
}

/* ---- trigger ---- */

static int parse_item(const struct pgqrs_cli *cli, struct pgqrs_enqueue *item)
{
    const char *key = cli->options[PGQRS_OPT_UNIQUE_KEY];
    int64_t priority;
    if (pgqrs_cli_duration(cli, PGQRS_OPT_DELAY, 0, &item->delay_ms) < 0 ||
        pgqrs_cli_integer(cli, PGQRS_OPT_PRIORITY, INT32_MIN, INT32_MAX, 0, &priority) < 0 ||
        pgqrs_cli_time(cli, PGQRS_OPT_AT, &item->at_us) < 0) {
        return PGQRS_CLI_USAGE;
    }
    if (item->at_us != 0 && cli->options[PGQRS_OPT_DELAY] != NULL) {
        return pgqrs_cli_usage("found --at and --delay, expected one of them");
    }
    if (key != NULL &&
        (*key == 0 || strlen(key) > KEY_MAX || !pgqrs_utf8_is_valid(pgqrs_bytes_from(key)))) {
        return pgqrs_cli_usage("--unique-key: found %zu bytes, expected 1 to %d of UTF-8 text",
                               strlen(key), KEY_MAX);
    }
    item->priority = (int32_t)priority;
    item->unique_key = key;
    return PGQRS_CLI_OK;
}

static int fail_trigger(const char *name, struct pgqrs_error *err)
{
    if (err->code == PGQRS_ERR_UNKNOWN) {
        (void)pgqrs_error_prefix(err, "it is unknown whether the run was triggered");
    }
    int status = pgqrs_cli_fail(err);
    if (err->code == PGQRS_ERR_NOT_FOUND) {
        pgqrs_cli_error("to create it: pgqrs workflow create %s", name);
    }
    return status;
}

static int trigger(struct pgqrs_cli *cli, const struct pgqrs_enqueue *item)
{
    struct pgqrs_json json = {0};
    struct pgqrs_error err;
    int64_t id;
    bool existed = false;
    int rc;
    PGQRS_RUN_TRY(
        rc, &err,
        pgqrs_store_workflow_trigger(cli->store, cli->words[0], item, &id, &existed, &err));
    if (rc < 0) {
        return fail_trigger(cli->words[0], &err);
    }
    if (cli->json) {
        pgqrs_json_begin(&json, NULL, '{');
        pgqrs_json_integer(&json, "id", id);
        pgqrs_json_boolean(&json, "existed", existed);
        pgqrs_json_end(&json, '}');
        return PGQRS_CLI_OK;
    }
    (void)printf("%" PRId64 "\n", id); /* alone, for $(...) */
    if (existed) {
        pgqrs_cli_error("nothing triggered, run %" PRId64 " has this unique key already", id);
    }
    return PGQRS_CLI_OK;
}

int pgqrs_cmd_workflow_trigger(struct pgqrs_cli *cli)
{
    struct pgqrs_enqueue item = {0};
    struct pgqrs_buf input = {0};
    int status = parse_item(cli, &item);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_input_of_run(cli->word_count > 1 ? cli->words[1] : "null", &input);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK) {
        item.payload = (struct pgqrs_bytes){.data = (const char *)input.data, .len = input.len};
        status = trigger(cli, &item);
    }
    pgqrs_buf_fini(&input);
    return status;
}

/* ---- what has come of it ---- */

static void result_as_json(int64_t id, const struct pgqrs_run *run)
{
    struct pgqrs_json json = {0};
    pgqrs_json_begin(&json, NULL, '{');
    pgqrs_json_integer(&json, "id", run->message_id);
    pgqrs_json_integer(&json, "asked_id", id);
    pgqrs_json_text(&json, "status", pgqrs_run_status_name(run->status));
    pgqrs_json_time(&json, "due_at", run->due_at_us);
    pgqrs_json_embed(&json, "output", run->output);
    pgqrs_json_embed(&json, "error", run->error);
    pgqrs_json_end(&json, '}');
}

static void say_not_ended(const struct pgqrs_run *run)
{
    char when[PGQRS_WHEN_SIZE];
    const char *status = pgqrs_run_status_name(run->status);
    if (run->due_at_us == 0) {
        pgqrs_cli_error("run %" PRId64 " has not ended: %s", run->message_id, status);
    } else {
        pgqrs_cli_error("run %" PRId64 " has not ended: %s until %s", run->message_id, status,
                        pgqrs_run_when(run->due_at_us, when));
    }
}

static int print_result(const struct pgqrs_cli *cli, int64_t id, const struct pgqrs_run *run)
{
    bool ended = pgqrs_run_has_ended(run->status);
    struct pgqrs_buf text = {0};
    if (cli->json) {
        result_as_json(id, run);
    } else if (run->status == PGQRS_RUN_SUCCESS) {
        struct pgqrs_json json = {0};
        pgqrs_json_embed(&json, NULL, run->output);
        (void)printf("\n");
    } else if (!ended) {
        say_not_ended(run);
    } else {
        if (run->error != NULL) {
            pgqrs_run_error_text(run->error, &text);
        }
        pgqrs_cli_error("run %" PRId64 " %s%s%s", run->message_id,
                        run->status == PGQRS_RUN_CANCELLED ? "was cancelled" : "has failed",
                        text.data == NULL ? "" : ": ",
                        text.data == NULL ? "" : (const char *)text.data);
    }
    pgqrs_buf_fini(&text);
    return run->status == PGQRS_RUN_SUCCESS ? PGQRS_CLI_OK
           : ended                          ? PGQRS_CLI_FAILURE
                                            : PGQRS_CLI_NOT_ENDED;
}

int pgqrs_cmd_workflow_result(struct pgqrs_cli *cli)
{
    struct pgqrs_run_list one = {0};
    int64_t wait_ms;
    int64_t id;
    int status = pgqrs_cli_id(cli, &id);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_run_wait_option(cli, &wait_ms);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_run_await(cli, id, &one);
    }
    if (one.count > 0) {
        status = print_result(cli, id, &one.items[0]);
    }
    pgqrs_run_list_fini(&one);
    return status;
}

/* ---- cancel, resume, signal ---- */

static int cancel(struct pgqrs_cli *cli, int64_t id, enum pgqrs_run_status *status_out)
{
    struct pgqrs_error err;
    int rc;
    for (int tries = 0;; tries++) {
        PGQRS_RUN_TRY(rc, &err, pgqrs_store_run_cancel(cli->store, id, status_out, &err));
        if (rc == 0) {
            return PGQRS_CLI_OK;
        }
        if (err.code != PGQRS_ERR_CONFLICT || tries >= CANCEL_TRIES) {
            return pgqrs_cli_fail(&err);
        }
        (void)poll(NULL, 0, CANCEL_PAUSE_MS);
    }
}

static int print_cancel(const struct pgqrs_cli *cli, int64_t id, enum pgqrs_run_status now)
{
    bool ended = pgqrs_run_has_ended(now);
    const char *name = pgqrs_run_status_name(now);
    if (cli->json) {
        struct pgqrs_json json = {0};
        pgqrs_json_begin(&json, NULL, '{');
        pgqrs_json_integer(&json, "id", id);
        pgqrs_json_text(&json, "status", name);
        pgqrs_json_end(&json, '}');
    } else if (now == PGQRS_RUN_CANCELLED) {
        (void)printf("run %" PRId64 " is cancelled\n", id);
    } else if (ended) {
        (void)printf("run %" PRId64 " is not cancelled: it has ended, %s\n", id, name);
    } else {
        (void)printf("run %" PRId64 " is asked to end\n", id);
    }
    return ended && now != PGQRS_RUN_CANCELLED ? PGQRS_CLI_FAILURE : PGQRS_CLI_OK;
}

int pgqrs_cmd_workflow_cancel(struct pgqrs_cli *cli)
{
    enum pgqrs_run_status now = PGQRS_RUN_NONE;
    struct pgqrs_run_list one = {0};
    int64_t wait_ms;
    int64_t id;
    int status = pgqrs_cli_id(cli, &id);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_run_wait_option(cli, &wait_ms);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK) {
        status = cancel(cli, id, &now);
    }
    int waited = PGQRS_CLI_OK;
    if (status == PGQRS_CLI_OK && cli->options[PGQRS_OPT_WAIT] != NULL &&
        !pgqrs_run_has_ended(now)) {
        waited = pgqrs_run_await(cli, id, &one);
        now = one.count > 0 ? one.items[0].status : now;
        status = one.count > 0 ? PGQRS_CLI_OK : waited;
    }
    if (status == PGQRS_CLI_OK) {
        status = print_cancel(cli, id, now);
    }
    pgqrs_run_list_fini(&one);
    return status == PGQRS_CLI_OK ? waited : status;
}

int pgqrs_cmd_workflow_resume(struct pgqrs_cli *cli)
{
    struct pgqrs_error err;
    struct pgqrs_json json = {0};
    int64_t id;
    bool woken = false;
    int rc;
    int status = pgqrs_cli_id(cli, &id);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    PGQRS_RUN_TRY(rc, &err, pgqrs_store_run_resume(cli->store, id, &woken, &err));
    if (rc < 0) {
        return pgqrs_cli_fail(&err);
    }
    if (cli->json) {
        pgqrs_json_begin(&json, NULL, '{');
        pgqrs_json_integer(&json, "id", id);
        pgqrs_json_boolean(&json, "resumed", woken);
        pgqrs_json_end(&json, '}');
    } else {
        (void)printf("run %" PRId64 " %s\n", id,
                     woken ? "goes on now" : "does not wait: nothing was changed");
    }
    return woken ? PGQRS_CLI_OK : PGQRS_CLI_FAILURE;
}

static int send_event(struct pgqrs_cli *cli, int64_t id, const struct pgqrs_buf *payload)
{
    const struct pgqrs_bytes text = {.data = (const char *)payload->data, .len = payload->len};
    const char *event = cli->words[1];
    struct pgqrs_json json = {0};
    struct pgqrs_buf shown = {0};
    struct pgqrs_error err;
    bool first = false;
    int rc;
    PGQRS_RUN_TRY(rc, &err, pgqrs_store_event_send(cli->store, id, event, text, &first, &err));
    if (rc < 0) {
        return pgqrs_cli_fail(&err);
    }
    if (cli->json) {
        pgqrs_json_begin(&json, NULL, '{');
        pgqrs_json_integer(&json, "id", id);
        pgqrs_json_text(&json, "event", event);
        pgqrs_json_boolean(&json, "first", first);
        pgqrs_json_end(&json, '}');
        return PGQRS_CLI_OK;
    }
    pgqrs_show(&shown, event);
    (void)printf("run %" PRId64 ": event \"%.*s\" %s\n", id, (int)shown.len,
                 (const char *)shown.data, first ? "sent" : "was sent before: nothing was changed");
    pgqrs_buf_fini(&shown);
    return PGQRS_CLI_OK;
}

int pgqrs_cmd_workflow_signal(struct pgqrs_cli *cli)
{
    struct pgqrs_buf payload = {0};
    int64_t id;
    int status = pgqrs_cli_id(cli, &id);
    if (status == PGQRS_CLI_OK && !pgqrs_utf8_is_valid(pgqrs_bytes_from(cli->words[1]))) {
        status = pgqrs_cli_usage("EVENT: found bytes that are not UTF-8, expected text");
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_input_json(cli->word_count > 2 ? cli->words[2] : "null", &payload);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK) {
        status = send_event(cli, id, &payload);
    }
    pgqrs_buf_fini(&payload);
    return status;
}
