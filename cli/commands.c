/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/units.h"
#include "cli/output.h"

#define TRIES_MAX 4
#define PAUSE_MS 250

static const char enqueue_help[] =
    "JSON is the payload. @FILE: the payload is in a file. -: standard input has one\n"
    "payload a line; empty lines are skipped. A batch is enqueued whole or not at\n"
    "all; after a bad line nothing more is. With --wrap a payload is UTF-8 text.\n";

const struct pgqrs_cli_command pgqrs_cli_commands[] = {
    {.group = "admin",
     .name = "install",
     .words = "",
     .help = "create or complete the tables",
     .create = true,
     .run = pgqrs_cmd_admin_install},
    {.group = "admin",
     .name = "verify",
     .words = "",
     .help = "check that the tables are complete",
     .run = pgqrs_cmd_admin_verify},
    {.group = "queue",
     .name = "create",
     .words = "NAME...",
     .help = "create queues",
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_queue_create},
    {.group = "queue",
     .name = "list",
     .words = "",
     .help = "list the queues",
     .run = pgqrs_cmd_queue_list},
    {.group = "queue",
     .name = "metrics",
     .words = "[NAME]",
     .help = "count what is in a queue, or in each",
     .max_words = 1,
     .run = pgqrs_cmd_queue_metrics},
    {.group = "queue",
     .name = "wait",
     .words = "NAME",
     .help = "wait until nothing waits or runs",
     .min_words = 1,
     .max_words = 1,
     .options = PGQRS_OPT(TIMEOUT),
     .run = pgqrs_cmd_queue_wait},
    {.group = "message",
     .name = "enqueue",
     .words = "QUEUE (JSON | @FILE | -)",
     .help = "add jobs to a queue",
     .more = enqueue_help,
     .min_words = 2,
     .max_words = 2,
     .options = PGQRS_OPT(DELAY) | PGQRS_OPT(PRIORITY) | PGQRS_OPT(BATCH) | PGQRS_OPT(WRAP),
     .run = pgqrs_cmd_message_enqueue},
    {.group = "message",
     .name = "get",
     .words = "ID",
     .help = "show a message",
     .min_words = 1,
     .max_words = 1,
     .run = pgqrs_cmd_message_get},
    {.group = "message",
     .name = "list",
     .words = "",
     .help = "list messages, newest first",
     .options = PGQRS_OPT(QUEUE) | PGQRS_OPT(STATE) | PGQRS_OPT(OUTCOME) | PGQRS_OPT(LIMIT) |
                PGQRS_OPT(BEFORE),
     .run = pgqrs_cmd_message_list},
};
const size_t pgqrs_cli_command_count = sizeof pgqrs_cli_commands / sizeof *pgqrs_cli_commands;

/* ---- errors ---- */

static void PGQRS_PRINTF(1, 0) print_error(const char *fmt, va_list args)
{
    char text[1024];
    struct pgqrs_buf shown = {0};
    (void)vsnprintf(text, sizeof text, fmt, args);
    pgqrs_show(&shown, text);
    pgqrs_buf_put_u8(&shown, 0);
    (void)fflush(stdout);
    (void)fprintf(stderr, "pgqrs: %s\n", shown.failed ? "out of memory" : (char *)shown.data);
    pgqrs_buf_fini(&shown);
}

void pgqrs_cli_error(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    print_error(fmt, args);
    va_end(args);
}

int pgqrs_cli_usage(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    print_error(fmt, args);
    va_end(args);
    return PGQRS_CLI_USAGE;
}

int pgqrs_cli_fail(const struct pgqrs_error *err)
{
    pgqrs_cli_error("%s%s", err->text,
                    err->code == PGQRS_ERR_SCHEMA ? "; to install it: pgqrs admin install" : "");
    switch (err->code) {
    case PGQRS_ERR_CONFIG:
        return PGQRS_CLI_CONFIG;
    case PGQRS_ERR_AGAIN:
    case PGQRS_ERR_UNAVAILABLE:
        return PGQRS_CLI_UNAVAILABLE;
    case PGQRS_ERR_NONE:
    case PGQRS_ERR_FAILED:
    case PGQRS_ERR_UNKNOWN:
    case PGQRS_ERR_INVALID:
    case PGQRS_ERR_NOT_FOUND:
    case PGQRS_ERR_EXISTS:
    case PGQRS_ERR_CONFLICT:
    case PGQRS_ERR_SCHEMA:
    case PGQRS_ERR_PROTOCOL:
    case PGQRS_ERR_MEMORY:
    case PGQRS_ERR_COUNT:
        break;
    }
    return PGQRS_CLI_FAILURE;
}

bool pgqrs_cli_again(struct pgqrs_cli_retry *retry, const struct pgqrs_error *err)
{
    if (err->code != PGQRS_ERR_AGAIN || ++retry->tries >= TRIES_MAX) {
        return false;
    }
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L * retry->tries};
    (void)nanosleep(&pause, NULL); /* a signal only makes it shorter */
    return true;
}

/* ---- options ---- */

int pgqrs_cli_integer(const struct pgqrs_cli *cli, enum pgqrs_cli_option option, int64_t min,
                      int64_t max, int64_t value, int64_t *value_out)
{
    struct pgqrs_error err;
    if (cli->options[option] == NULL) {
        *value_out = value;
        return 0;
    }
    if (pgqrs_integer_parse(cli->options[option], min, max, value_out, &err) < 0) {
        pgqrs_cli_error("--%s: %s", pgqrs_cli_option_name(option), err.text);
        return -1;
    }
    return 0;
}

int pgqrs_cli_duration(const struct pgqrs_cli *cli, enum pgqrs_cli_option option, int64_t ms,
                       int64_t *ms_out)
{
    struct pgqrs_error err;
    if (cli->options[option] == NULL) {
        *ms_out = ms;
        return 0;
    }
    if (pgqrs_duration_parse(cli->options[option], ms_out, &err) < 0) {
        pgqrs_cli_error("--%s: %s", pgqrs_cli_option_name(option), err.text);
        return -1;
    }
    return 0;
}

/* ---- queues ---- */

int pgqrs_cli_find_queue(struct pgqrs_cli *cli, const char *name, int64_t *id_out)
{
    struct pgqrs_cli_retry retry = {0};
    struct pgqrs_error err;
    int rc;
    do {
        rc = pgqrs_store_queue_find(cli->store, name, id_out, &err);
    } while (rc < 0 && pgqrs_cli_again(&retry, &err));
    if (rc == 0) {
        return PGQRS_CLI_OK;
    }
    if (err.code != PGQRS_ERR_NOT_FOUND) {
        return pgqrs_cli_fail(&err);
    }
    pgqrs_cli_error("queue \"%s\" does not exist; create it with: pgqrs queue create %s", name,
                    name);
    return PGQRS_CLI_FAILURE;
}

int pgqrs_cli_list_queues(struct pgqrs_cli *cli, struct pgqrs_queue_list *list_out)
{
    struct pgqrs_cli_retry retry = {0};
    struct pgqrs_error err;
    int rc;
    do {
        rc = pgqrs_store_queue_list(cli->store, 0, 1000, list_out, &err);
    } while (rc < 0 && pgqrs_cli_again(&retry, &err));
    return rc < 0 ? pgqrs_cli_fail(&err) : PGQRS_CLI_OK;
}
