/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that steer a running pgqrsd. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/clock.h"
#include "base/units.h"
#include "cli/cli.h"
#include "cli/ctl_link.h"
#include "cli/output.h"
#include "ipc/spawn_contract.h"

#define LOOK_EVERY_MS 200
#define PRINT_EVERY_MS 1000

static json_int_t integer(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* ---- kill ---- */

int pgqrs_cmd_ctl_kill(struct pgqrs_cli *cli)
{
    json_t *reply = NULL;
    struct pgqrs_error err;
    int64_t worker;
    if (pgqrs_integer_parse(cli->words[1], 0, UINT32_MAX, &worker, &err) < 0) {
        return pgqrs_cli_usage("WORKER: %s", err.text);
    }
    int status = pgqrs_ctl_ask(cli,
                               json_pack("{s:s,s:s,s:I}", "command", "kill", "queue", cli->words[0],
                                         "worker", (json_int_t)worker),
                               &reply);
    if (status == PGQRS_CLI_OK && cli->json) {
        status = pgqrs_ctl_print(reply);
    } else if (status == PGQRS_CLI_OK) {
        (void)printf("queue \"%s\": killed worker %s, pid %" JSON_INTEGER_FORMAT, cli->words[0],
                     cli->words[1], integer(reply, "pid"));
        if (integer(reply, "job") != 0) {
            (void)printf(", which ran message %" JSON_INTEGER_FORMAT, integer(reply, "job"));
        }
        (void)puts("");
    }
    json_decref(reply);
    return status;
}

/* ---- pause, resume ---- */

static int change_pause(struct pgqrs_cli *cli, const char *command, const char *done)
{
    const char *queue = cli->word_count == 0 ? NULL : cli->words[0];
    json_t *reply = NULL;
    int status =
        pgqrs_ctl_ask(cli, json_pack("{s:s,s:s*}", "command", command, "queue", queue), &reply);
    const json_t *queues = json_object_get(reply, "queues");
    if (status == PGQRS_CLI_OK && cli->json) {
        status = pgqrs_ctl_print(reply);
    } else if (status == PGQRS_CLI_OK) {
        for (size_t i = 0; i < json_array_size(queues); i++) {
            struct pgqrs_buf shown = {0};
            pgqrs_show(&shown, json_string_value(json_array_get(queues, i)));
            pgqrs_buf_put_u8(&shown, 0);
            (void)printf("queue \"%s\": %s\n", shown.failed ? "?" : (char *)shown.data, done);
            pgqrs_buf_fini(&shown);
        }
        if (json_array_size(queues) == 0) {
            (void)puts("nothing has changed");
        }
    }
    json_decref(reply);
    return status;
}

int pgqrs_cmd_ctl_pause(struct pgqrs_cli *cli)
{
    return change_pause(cli, "pause", "paused");
}

int pgqrs_cmd_ctl_resume(struct pgqrs_cli *cli)
{
    return change_pause(cli, "resume", "resumed");
}

/* ---- drain ---- */

struct drain {
    struct pgqrs_cli *cli;
    int64_t began_ms, printed_ms;
    json_int_t running; /* jobs; -1: nobody knows yet */
    bool resumed;       /* by somebody */
};

static int look(struct drain *d)
{
    json_t *status = NULL;
    int rc = pgqrs_ctl_ask(d->cli, json_pack("{s:s}", "command", "status"), &status);
    const json_t *drain = json_object_get(status, "drain");
    const json_t *running = json_object_get(drain, "running");
    d->resumed = rc == PGQRS_CLI_OK && !json_is_object(drain);
    d->running = json_is_integer(running) ? json_integer_value(running) : -1;
    json_decref(status);
    return rc;
}

static void tell_progress(struct drain *d)
{
    int64_t now = pgqrs_mono_ms();
    if (isatty(STDERR_FILENO) == 1 && d->running > 0 && now - d->printed_ms >= PRINT_EVERY_MS) {
        d->printed_ms = now;
        (void)fprintf(stderr, "jobs that still run: %" JSON_INTEGER_FORMAT "\n", d->running);
    }
}

static int end_drain(const struct drain *d)
{
    double seconds = (double)(pgqrs_mono_ms() - d->began_ms) / 1000;
    int status = PGQRS_CLI_OK;
    if (d->cli->json) {
        json_t *out =
            json_pack("{s:b,s:o,s:f}", "drained", d->running == 0, "running",
                      d->running < 0 ? json_null() : json_integer(d->running), "seconds", seconds);
        status = pgqrs_ctl_print(out);
        json_decref(out);
    } else if (d->running == 0) {
        (void)printf("drained: no job runs, nothing is leased\n");
    }
    if (d->running > 0) {
        pgqrs_cli_error("timed out: %" JSON_INTEGER_FORMAT
                        " jobs still run, and nothing more is leased",
                        d->running);
    } else if (d->running < 0) {
        pgqrs_cli_error("timed out: the broker has not told yet which jobs run");
    }
    return d->running != 0 ? PGQRS_CLI_NOT_ENDED : status;
}

int pgqrs_cmd_ctl_drain(struct pgqrs_cli *cli)
{
    struct drain d = {.cli = cli, .began_ms = pgqrs_mono_ms(), .running = -1};
    json_t *reply = NULL;
    int64_t timeout_ms;
    if (pgqrs_cli_duration(cli, PGQRS_OPT_TIMEOUT, -1, &timeout_ms) < 0) {
        return PGQRS_CLI_USAGE;
    }
    int status = pgqrs_ctl_ask(cli, json_pack("{s:s}", "command", "drain"), &reply);
    json_decref(reply);
    while (status == PGQRS_CLI_OK && (status = look(&d)) == PGQRS_CLI_OK) {
        int64_t left = timeout_ms < 0 ? LOOK_EVERY_MS : d.began_ms + timeout_ms - pgqrs_mono_ms();
        if (d.resumed) {
            pgqrs_cli_error("somebody has ended the drain");
            return PGQRS_CLI_FAILURE;
        }
        if (d.running == 0 || left <= 0) {
            return end_drain(&d);
        }
        tell_progress(&d);
        (void)poll(NULL, 0, (int)(left < LOOK_EVERY_MS ? left : LOOK_EVERY_MS));
    }
    return status;
}

/* ---- stop ---- */

/* What its exit status means. */
static const char *meaning(json_int_t status)
{
    return status == PGQRS_EXIT_OK         ? "all jobs that ran have finished"
           : status == PGQRS_EXIT_RETURNED ? "some jobs that ran have not finished, and were "
                                             "returned without having spent an attempt"
           : status == PGQRS_EXIT_UNAVAILABLE
               ? "the store did not take all outcomes; those jobs run again"
               : "see its log";
}

static int tell_stop(const struct pgqrs_cli *cli, json_t *reply, bool waited)
{
    json_int_t code = integer(reply, "status");
    int status = PGQRS_CLI_OK;
    if (waited) {
        (void)json_object_set_new(reply, "meaning", json_string(meaning(code)));
    }
    if (cli->json) {
        status = pgqrs_ctl_print(reply);
    } else if (!waited) {
        (void)printf("pgqrsd is stopping, pid %" JSON_INTEGER_FORMAT "\n", integer(reply, "pid"));
    } else {
        (void)printf("pgqrsd has stopped, pid %" JSON_INTEGER_FORMAT
                     ", exit status %" JSON_INTEGER_FORMAT ": %s\n",
                     integer(reply, "pid"), code, meaning(code));
    }
    return code == PGQRS_EXIT_OK || code == PGQRS_EXIT_RETURNED ? status : PGQRS_CLI_FAILURE;
}

int pgqrs_cmd_ctl_stop(struct pgqrs_cli *cli)
{
    bool wait = cli->options[PGQRS_OPT_NO_WAIT] == NULL;
    bool now = cli->options[PGQRS_OPT_NOW] != NULL;
    json_t *reply = NULL;
    json_t *request = json_pack("{s:s,s:b,s:b}", "command", "stop", "now", now, "wait", wait);
    int status = wait ? pgqrs_ctl_end(cli, request, &reply) : pgqrs_ctl_ask(cli, request, &reply);
    if (status == PGQRS_CLI_OK) {
        status = tell_stop(cli, reply, wait);
    }
    json_decref(reply);
    return status;
}
