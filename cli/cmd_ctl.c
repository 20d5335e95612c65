/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that ask a running pgqrsd. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/units.h"
#include "cli/cli.h"
#include "cli/ctl_link.h"
#include "cli/output.h"
#include "ipc/msg.h"

static json_int_t integer(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* "" when it is not there, or null. */
static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value == NULL ? "" : value;
}

/* A number, or "-" when there is none. */
static const char *number(const json_t *object, const char *key, char out[32])
{
    const json_t *value = json_object_get(object, key);
    (void)snprintf(out, 32, "-");
    if (json_is_integer(value)) {
        (void)snprintf(out, 32, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    }
    return out;
}

static const char *mebibytes(const json_t *object, const char *key, char out[32])
{
    json_int_t bytes = integer(object, key);
    (void)snprintf(out, 32, "%" JSON_INTEGER_FORMAT ".%" JSON_INTEGER_FORMAT, bytes >> 20,
                   (bytes & 0xfffff) * 10 >> 20);
    return out;
}

/* ---- status ---- */

static void status_row(struct pgqrs_table *table, const char *queue, const json_t *place)
{
    char buffer[32];
    pgqrs_table_text(table, queue);
    pgqrs_table_text(table, number(place, "worker", buffer));
    pgqrs_table_text(table, text(place, "state"));
    pgqrs_table_text(table, number(place, "pid", buffer));
    pgqrs_table_text(table, number(place, "job", buffer));
    pgqrs_table_text(table, number(place, "job_ms", buffer));
    pgqrs_table_text(table, number(place, "settled", buffer));
    pgqrs_table_text(table, mebibytes(place, "memory", buffer));
    pgqrs_table_text(table, number(place, "beat_age_ms", buffer));
}

static void print_why(const char *what, const json_t *queue, const char *since, const char *key)
{
    struct pgqrs_buf shown = {0};
    pgqrs_show(&shown, text(queue, key));
    pgqrs_buf_put_u8(&shown, 0);
    (void)printf("queue \"%s\" %s%s: %s\n", text(queue, "queue"), what,
                 since == NULL ? "" : text(queue, since), shown.failed ? "" : (char *)shown.data);
    pgqrs_buf_fini(&shown);
}

static void print_condition(const json_t *queue, bool drain)
{
    if (json_is_true(json_object_get(queue, "paused")) && !drain) {
        (void)printf("queue \"%s\" is paused\n", text(queue, "queue"));
    }
    if (json_is_string(json_object_get(queue, "failing"))) {
        print_why("is failing since ", queue, "failing_since", "failing");
    }
    if (json_is_string(json_object_get(queue, "reload_refused"))) {
        print_why("goes on with its old version, the new one is not used", queue, NULL,
                  "reload_refused");
    }
}

static void print_status(const json_t *reply)
{
    static const char *const headers[] = {"QUEUE",   ">WORKER", "STATE",    ">PID",        ">JOB",
                                          ">JOB MS", ">DONE",   ">MIB RSS", ">BEAT AGO MS"};
    struct pgqrs_table table = pgqrs_table_of(headers, 9);
    const json_t *queues = json_object_get(reply, "queues");
    (void)printf("pgqrsd %s \"%s\": %s, pid %" JSON_INTEGER_FORMAT ", log level %s\n",
                 text(reply, "version"), text(reply, "name"), text(reply, "state"),
                 integer(reply, "pid"), text(reply, "log_level"));
    bool drain = json_is_object(json_object_get(reply, "drain"));
    if (drain) {
        (void)puts("drained by request: nothing is leased until pgqrs ctl resume");
    }
    for (size_t i = 0; i < json_array_size(queues); i++) {
        print_condition(json_array_get(queues, i), drain);
    }
    status_row(&table, "(broker)", json_object_get(reply, "broker"));
    if (json_is_object(json_object_get(reply, "gateway"))) {
        status_row(&table, "(gateway)", json_object_get(reply, "gateway"));
    }
    for (size_t i = 0; i < json_array_size(queues); i++) {
        const json_t *queue = json_array_get(queues, i);
        const json_t *workers = json_object_get(queue, "workers");
        for (size_t w = 0; w < json_array_size(workers); w++) {
            status_row(&table, text(queue, "queue"), json_array_get(workers, w));
        }
    }
    pgqrs_table_print(&table);
}

int pgqrs_cmd_ctl_status(struct pgqrs_cli *cli)
{
    json_t *reply = NULL;
    int status = pgqrs_ctl_ask(cli, json_pack("{s:s}", "command", "status"), &reply);
    if (status == PGQRS_CLI_OK && cli->json) {
        status = pgqrs_ctl_print(reply);
    } else if (status == PGQRS_CLI_OK) {
        print_status(reply);
    }
    json_decref(reply);
    return status;
}

/* ---- deaths ---- */

static void print_deaths(const json_t *list)
{
    static const char *const headers[] = {"AT",   "QUEUE",     ">WORKER", ">PID",
                                          ">JOB", ">MIB PEAK", "REASON"};
    struct pgqrs_table table = pgqrs_table_of(headers, 7);
    table.whole = true; /* the reason is why one asks */
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *death = json_array_get(list, i);
        bool broker = json_is_null(json_object_get(death, "queue"));
        char buffer[32];
        char at[24];
        char reason[1024];
        const char *core = text(death, "core");
        (void)snprintf(reason, sizeof reason, "%s%s%s", text(death, "reason"),
                       *core == 0 ? "" : "; core: ", core);
        (void)snprintf(at, sizeof at, "%.19sZ", text(death, "at")); /* the fraction goes */
        pgqrs_table_text(&table, at);
        pgqrs_table_text(&table, broker ? "(broker)" : text(death, "queue"));
        pgqrs_table_text(&table, number(death, "worker", buffer));
        pgqrs_table_text(&table, number(death, "pid", buffer));
        pgqrs_table_text(&table, number(death, "job", buffer));
        pgqrs_table_text(&table, mebibytes(death, "peak_memory", buffer));
        pgqrs_table_text(&table, reason);
    }
    pgqrs_table_print(&table);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *death = json_array_get(list, i);
        const char *line = text(death, "output");
        if (*line != 0) {
            (void)printf("\npid %" JSON_INTEGER_FORMAT " wrote last:\n", integer(death, "pid"));
        }
        for (size_t len; *line != 0; line += len + (line[len] != 0)) { /* escaped by pgqrsd */
            len = strcspn(line, "\n");
            (void)printf("  %.*s\n", (int)len, line);
        }
    }
}

int pgqrs_cmd_ctl_deaths(struct pgqrs_cli *cli)
{
    json_t *reply = NULL;
    json_t *request = cli->word_count == 0
                          ? json_pack("{s:s}", "command", "deaths")
                          : json_pack("{s:s,s:s}", "command", "deaths", "queue", cli->words[0]);
    int status = pgqrs_ctl_ask(cli, request, &reply);
    if (status == PGQRS_CLI_OK && cli->json) {
        status = pgqrs_ctl_print(json_object_get(reply, "deaths"));
    } else if (status == PGQRS_CLI_OK) {
        print_deaths(json_object_get(reply, "deaths"));
    }
    json_decref(reply);
    return status;
}

/* ---- scale ---- */

int pgqrs_cmd_worker_scale(struct pgqrs_cli *cli)
{
    json_t *reply = NULL;
    struct pgqrs_error err;
    int64_t consumers;
    if (pgqrs_integer_parse(cli->words[1], 0, PGQRS_CONSUMERS_MAX, &consumers, &err) < 0) {
        return pgqrs_cli_usage("N: %s", err.text);
    }
    int status = pgqrs_ctl_ask(cli,
                               json_pack("{s:s,s:s,s:I}", "command", "scale", "queue",
                                         cli->words[0], "consumers", (json_int_t)consumers),
                               &reply);
    if (status == PGQRS_CLI_OK && cli->json) {
        status = pgqrs_ctl_print(reply);
    } else if (status == PGQRS_CLI_OK) {
        (void)printf("queue \"%s\": %" JSON_INTEGER_FORMAT " workers, before %" JSON_INTEGER_FORMAT
                     "\n",
                     cli->words[0], integer(reply, "consumers"), integer(reply, "before"));
    }
    json_decref(reply);
    return status;
}

/* ---- reload, log-level ---- */

int pgqrs_cmd_ctl_reload(struct pgqrs_cli *cli)
{
    json_t *reply = NULL;
    int status = pgqrs_ctl_ask(cli, json_pack("{s:s}", "command", "reload"), &reply);
    const json_t *changes = json_object_get(reply, "changes");
    if (status == PGQRS_CLI_OK && cli->json) {
        status = pgqrs_ctl_print(changes);
    } else if (status == PGQRS_CLI_OK) {
        for (size_t i = 0; i < json_array_size(changes); i++) {
            struct pgqrs_buf shown = {0};
            pgqrs_show(&shown, json_string_value(json_array_get(changes, i)));
            pgqrs_buf_put_u8(&shown, 0);
            (void)puts(shown.failed ? "?" : (char *)shown.data);
            pgqrs_buf_fini(&shown);
        }
        if (json_array_size(changes) == 0) {
            (void)puts("nothing has changed");
        }
    }
    json_decref(reply);
    return status;
}

int pgqrs_cmd_ctl_log_level(struct pgqrs_cli *cli)
{
    json_t *reply = NULL;
    int status = pgqrs_ctl_ask(
        cli, json_pack("{s:s,s:s}", "command", "log-level", "level", cli->words[0]), &reply);
    if (status == PGQRS_CLI_OK && cli->json) {
        status = pgqrs_ctl_print(reply);
    } else if (status == PGQRS_CLI_OK) {
        (void)printf("log level %s, before %s\n", cli->words[0], text(reply, "before"));
    }
    json_decref(reply);
    return status;
}
