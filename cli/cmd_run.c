/* SPDX-License-Identifier: Apache-2.0 */
/* pgqrs message run: one message in a worker of its own, with its output here. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "cli/cli.h"
#include "cli/ctl_link.h"
#include "cli/output.h"

static int get(struct pgqrs_cli *cli, int64_t id, struct pgqrs_message *message,
               struct pgqrs_error *err)
{
    struct pgqrs_cli_retry retry = {0};
    int rc;
    do {
        rc = pgqrs_store_message_get(cli->store, id, message, err);
    } while (rc < 0 && pgqrs_cli_again(&retry, err));
    return rc;
}

/* The name of its queue; to be freed. */
static int find_queue(struct pgqrs_cli *cli, int64_t id, char **queue_out)
{
    struct pgqrs_queue_list queues;
    struct pgqrs_message message;
    struct pgqrs_error err;
    if (get(cli, id, &message, &err) < 0) {
        return pgqrs_cli_fail(&err);
    }
    int status = pgqrs_cli_list_queues(cli, &queues);
    if (status == PGQRS_CLI_OK) {
        *queue_out = strdup(pgqrs_cli_queue_name(&queues, message.queue_id));
        pgqrs_queue_list_fini(&queues);
    }
    pgqrs_message_fini(&message);
    return status;
}

/* What is stored counts: a job is a dead letter all the same when a follow-up can not be added. */
static void correct(struct pgqrs_cli *cli, int64_t id, json_t *reply)
{
    struct pgqrs_message message;
    struct pgqrs_error err;
    const char *outcome = json_string_value(json_object_get(reply, "outcome"));
    if (outcome == NULL || strcmp(outcome, "done") != 0 || get(cli, id, &message, &err) < 0) {
        return; /* deleted when it was done */
    }
    if (message.outcome != NULL && strcmp(message.outcome, "failed") == 0) {
        (void)json_object_set_new(reply, "outcome", json_string("failed"));
        (void)json_object_set_new(reply, "reason",
                                  json_string(message.error == NULL ? "" : message.error));
    }
    pgqrs_message_fini(&message);
}

static int print(const struct pgqrs_cli *cli, int64_t id, const json_t *reply)
{
    const char *outcome = json_string_value(json_object_get(reply, "outcome"));
    const char *reason = json_string_value(json_object_get(reply, "reason"));
    outcome = outcome == NULL ? "unknown" : outcome;
    reason = reason == NULL ? "" : reason;
    if (cli->json) {
        struct pgqrs_json json = {0};
        pgqrs_json_begin(&json, NULL, '{');
        pgqrs_json_integer(&json, "id", id);
        pgqrs_json_text(&json, "outcome", outcome);
        pgqrs_json_text(&json, "reason", *reason == 0 ? NULL : reason);
        pgqrs_json_end(&json, '}');
    } else {
        struct pgqrs_buf shown = {0};
        pgqrs_show(&shown, reason);
        pgqrs_buf_put_u8(&shown, 0);
        (void)printf("message %" PRId64 ": %s%s%s\n", id, outcome, *reason == 0 ? "" : ": ",
                     shown.failed ? "?" : (char *)shown.data);
        pgqrs_buf_fini(&shown);
    }
    return strcmp(outcome, "done") == 0 ? PGQRS_CLI_OK : PGQRS_CLI_FAILURE;
}

int pgqrs_cmd_message_run(struct pgqrs_cli *cli)
{
    int64_t *ids = NULL;
    char *queue = NULL;
    json_t *reply = NULL;
    if (cli->options[PGQRS_OPT_ISOLATED] == NULL) {
        return pgqrs_cli_usage("message run: found no --isolated, expected it");
    }
    int status = pgqrs_cli_ids(cli, &ids);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK) {
        status = find_queue(cli, ids[0], &queue);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_ctl_run(cli,
                               json_pack("{s:s,s:s,s:I}", "command", "run", "queue",
                                         queue == NULL ? "" : queue, "message", (json_int_t)ids[0]),
                               &reply);
    }
    if (status == PGQRS_CLI_OK) {
        correct(cli, ids[0], reply);
        status = print(cli, ids[0], reply);
    }
    json_decref(reply);
    free(queue);
    free(ids);
    return status;
}
