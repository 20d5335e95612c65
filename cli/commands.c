/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/units.h"
#include "cli/output.h"

#define TRIES_MAX 4
#define PAUSE_MS 250
#define QUEUE_PAGE 1000
#define LIMIT_DEFAULT 20
#define LIMIT_MAX 1000

static const char enqueue_help[] =
    "JSON is the payload. @FILE: the payload is in a file. -: standard input has one\n"
    "payload a line; empty lines are skipped. A batch is enqueued whole or not at\n"
    "all; after a bad line nothing more is. With --wrap a payload is UTF-8 text.\n"
    "With --unique-key and a live message that has the key already, nothing is\n"
    "enqueued, and that one's id is printed.\n";
static const char delete_help[] =
    "A queue is not deleted while it has messages, live or archived, or workers that\n"
    "are not stopped.\n";
static const char purge_help[] =
    "Without --what: those that are archived and those that wait. Whoever runs a\n"
    "leased one finds its lease lost.\n";
static const char pause_help[] = "What is leased goes on. pgqrs' own clients lease all the same.\n";
static const char message_list_help[] =
    "States: ready, delayed, leased, archived. Outcomes: done, failed, cancelled.\n";
static const char release_help[] =
    "A released message waits again at once, with its attempt spent.\n";
static const char run_help[] =
    "A running pgqrsd starts a worker for this one message, one that waits or a dead\n"
    "letter, and lends it this terminal. A crash makes the message a dead letter at\n"
    "once. Ctrl-C cancels. The exit status is 0 only when the job is done.\n";
static const char dlq_replay_help[] =
    "Those with these ids; or with --queue all of a queue; or with --all those of\n"
    "all queues.\n";
static const char dlq_purge_help[] =
    "--older-than is needed; 0 is all. Without --queue: those of all queues.\n";
static const char reload_help[] =
    "Says what has changed. Where workers have to be replaced, one of the new version\n"
    "is tried first, and the old ones go on when it does not do well: see the log, or\n"
    "ctl status.\n";
static const char scale_help[] =
    "Asks a running pgqrsd, until it is started or configured anew. Fewer: idle\n"
    "workers go first, a busy one finishes its job.\n";
static const char worker_list_help[] = "States: ready, polling, suspended, interrupted, stopped.\n";
static const char worker_purge_help[] =
    "--older-than, since the last heartbeat, is needed; 0 is all. A worker that a\n"
    "message names stays.\n";

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
    {.group = "admin",
     .name = "stats",
     .words = "",
     .help = "count queues, workers and messages",
     .options = PGQRS_OPT(EXACT) | PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_admin_stats},
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
     .options = PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_queue_list},
    {.group = "queue",
     .name = "delete",
     .words = "NAME...",
     .help = "delete queues that are empty",
     .more = delete_help,
     .min_words = 1,
     .max_words = SIZE_MAX,
     .options = PGQRS_OPT(YES),
     .run = pgqrs_cmd_queue_delete},
    {.group = "queue",
     .name = "purge",
     .words = "NAME",
     .help = "delete messages of a queue",
     .more = purge_help,
     .min_words = 1,
     .max_words = 1,
     .options = PGQRS_OPT(WHAT) | PGQRS_OPT(YES),
     .run = pgqrs_cmd_queue_purge},
    {.group = "queue",
     .name = "metrics",
     .words = "[NAME]",
     .help = "count what is in a queue, or in each",
     .max_words = 1,
     .options = PGQRS_OPT(EXACT) | PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_queue_metrics},
    {.group = "queue",
     .name = "pause",
     .words = "NAME...",
     .help = "lease nothing more of queues",
     .more = pause_help,
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_queue_pause},
    {.group = "queue",
     .name = "resume",
     .words = "NAME...",
     .help = "end a pause",
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_queue_resume},
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
     .options = PGQRS_OPT(DELAY) | PGQRS_OPT(AT) | PGQRS_OPT(PRIORITY) | PGQRS_OPT(UNIQUE_KEY) |
                PGQRS_OPT(BATCH) | PGQRS_OPT(WRAP),
     .run = pgqrs_cmd_message_enqueue},
    {.group = "message",
     .name = "list",
     .words = "",
     .help = "list messages, newest first",
     .more = message_list_help,
     .options = PGQRS_OPT(QUEUE) | PGQRS_OPT(STATE) | PGQRS_OPT(OUTCOME) | PGQRS_OPT(WORKER) |
                PGQRS_OPT(KEY) | PGQRS_OPT(LIMIT) | PGQRS_OPT(BEFORE) | PGQRS_OPT(ALL) |
                PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_message_list},
    {.group = "message",
     .name = "get",
     .words = "ID",
     .help = "show a message",
     .min_words = 1,
     .max_words = 1,
     .run = pgqrs_cmd_message_get},
    {.group = "message",
     .name = "cancel",
     .words = "ID...",
     .help = "end messages that wait",
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_message_cancel},
    {.group = "message",
     .name = "delete",
     .words = "ID...",
     .help = "delete messages that nobody runs",
     .min_words = 1,
     .max_words = SIZE_MAX,
     .options = PGQRS_OPT(YES),
     .run = pgqrs_cmd_message_delete},
    {.group = "message",
     .name = "release",
     .words = "ID...",
     .help = "take leases away from workers",
     .more = release_help,
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_message_release},
    {.group = "message",
     .name = "replay",
     .words = "ID...",
     .help = "let ended messages wait again",
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_message_replay},
    {.group = "message",
     .name = "run",
     .words = "ID --isolated",
     .help = "run one here, in its own worker",
     .more = run_help,
     .min_words = 1,
     .max_words = 1,
     .options = PGQRS_OPT(ISOLATED) | PGQRS_OPT(SOCKET),
     .run = pgqrs_cmd_message_run},
    {.group = "dlq",
     .name = "list",
     .words = "",
     .help = "list dead letters, newest first",
     .options = PGQRS_OPT(QUEUE) | PGQRS_OPT(WORKER) | PGQRS_OPT(KEY) | PGQRS_OPT(LIMIT) |
                PGQRS_OPT(BEFORE) | PGQRS_OPT(ALL) | PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_dlq_list},
    {.group = "dlq",
     .name = "replay",
     .words = "[ID...]",
     .help = "let dead letters wait again",
     .more = dlq_replay_help,
     .max_words = SIZE_MAX,
     .options = PGQRS_OPT(QUEUE) | PGQRS_OPT(ALL),
     .run = pgqrs_cmd_dlq_replay},
    {.group = "dlq",
     .name = "purge",
     .words = "",
     .help = "delete dead letters",
     .more = dlq_purge_help,
     .options = PGQRS_OPT(QUEUE) | PGQRS_OPT(OLDER_THAN) | PGQRS_OPT(YES),
     .run = pgqrs_cmd_dlq_purge},
    {.group = "worker",
     .name = "list",
     .words = "",
     .help = "list workers, newest first",
     .more = worker_list_help,
     .options = PGQRS_OPT(QUEUE) | PGQRS_OPT(STATE) | PGQRS_OPT(LIMIT) | PGQRS_OPT(BEFORE) |
                PGQRS_OPT(ALL) | PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_worker_list},
    {.group = "worker",
     .name = "suspend",
     .words = "ID...",
     .help = "lease no more; running jobs go on",
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_worker_suspend},
    {.group = "worker",
     .name = "resume",
     .words = "ID...",
     .help = "suspended ones lease again",
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_worker_resume},
    {.group = "worker",
     .name = "interrupt",
     .words = "ID...",
     .help = "as suspend, and marks them so",
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_worker_interrupt},
    {.group = "worker",
     .name = "stop",
     .words = "ID...",
     .help = "end workers, free their leases",
     .min_words = 1,
     .max_words = SIZE_MAX,
     .options = PGQRS_OPT(YES),
     .run = pgqrs_cmd_worker_stop},
    {.group = "worker",
     .name = "purge",
     .words = "",
     .help = "delete stopped workers",
     .more = worker_purge_help,
     .options = PGQRS_OPT(OLDER_THAN) | PGQRS_OPT(YES),
     .run = pgqrs_cmd_worker_purge},
    {.group = "worker",
     .name = "scale",
     .words = "QUEUE N",
     .help = "have so many workers for a queue",
     .more = scale_help,
     .min_words = 2,
     .max_words = 2,
     .options = PGQRS_OPT(SOCKET),
     .run = pgqrs_cmd_worker_scale},
    {.group = "ctl",
     .name = "status",
     .words = "",
     .help = "show a running pgqrsd's processes",
     .options = PGQRS_OPT(SOCKET) | PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_ctl_status},
    {.group = "ctl",
     .name = "deaths",
     .words = "[QUEUE]",
     .help = "show how its last processes died",
     .max_words = 1,
     .options = PGQRS_OPT(SOCKET),
     .run = pgqrs_cmd_ctl_deaths},
    {.group = "ctl",
     .name = "reload",
     .words = "",
     .help = "take the configuration file anew",
     .more = reload_help,
     .options = PGQRS_OPT(SOCKET),
     .run = pgqrs_cmd_ctl_reload},
    {.group = "ctl",
     .name = "log-level",
     .words = "LEVEL",
     .help = "log from this level on",
     .min_words = 1,
     .max_words = 1,
     .options = PGQRS_OPT(SOCKET),
     .run = pgqrs_cmd_ctl_log_level},
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

static int append_page(struct pgqrs_queue_list *list, struct pgqrs_queue_list *page)
{
    if (page->count == 0) {
        pgqrs_queue_list_fini(page);
        return 0;
    }
    struct pgqrs_queue *items =
        realloc(list->items, (list->count + page->count) * sizeof *list->items);
    if (items == NULL) {
        pgqrs_queue_list_fini(page);
        return -1;
    }
    memcpy(items + list->count, page->items, page->count * sizeof *items);
    list->items = items;
    list->count += page->count;
    free(page->items); /* the names have moved */
    return 0;
}

int pgqrs_cli_list_queues(struct pgqrs_cli *cli, struct pgqrs_queue_list *list_out)
{
    *list_out = (struct pgqrs_queue_list){0};
    for (size_t got = QUEUE_PAGE; got == QUEUE_PAGE;) {
        struct pgqrs_cli_retry retry = {0};
        struct pgqrs_queue_list page = {0};
        struct pgqrs_error err;
        int64_t after = list_out->count > 0 ? list_out->items[list_out->count - 1].id : 0;
        int rc;
        do {
            rc = pgqrs_store_queue_list(cli->store, after, QUEUE_PAGE, &page, &err);
        } while (rc < 0 && pgqrs_cli_again(&retry, &err));
        got = rc < 0 ? 0 : page.count;
        if (rc == 0 && append_page(list_out, &page) < 0) {
            rc = pgqrs_error_memory(&err);
        }
        if (rc < 0) {
            pgqrs_queue_list_fini(list_out);
            return pgqrs_cli_fail(&err);
        }
    }
    return PGQRS_CLI_OK;
}

const char *pgqrs_cli_queue_name(const struct pgqrs_queue_list *queues, int64_t id)
{
    for (size_t i = 0; i < queues->count; i++) {
        if (queues->items[i].id == id) {
            return queues->items[i].name;
        }
    }
    return id == 0 ? "-" : "?"; /* created since the list was read */
}

int pgqrs_cli_queue_option(struct pgqrs_cli *cli, int64_t *id_out)
{
    const char *name = cli->options[PGQRS_OPT_QUEUE];
    *id_out = 0;
    return name == NULL ? PGQRS_CLI_OK : pgqrs_cli_find_queue(cli, name, id_out);
}

/* ---- pages, ids, counts ---- */

int pgqrs_cli_page(const struct pgqrs_cli *cli, struct pgqrs_cli_page *page_out)
{
    bool all = cli->options[PGQRS_OPT_ALL] != NULL;
    if (all && cli->options[PGQRS_OPT_LIMIT] != NULL) {
        return pgqrs_cli_usage("found --all and --limit, expected one of them");
    }
    if (pgqrs_cli_integer(cli, PGQRS_OPT_LIMIT, 1, LIMIT_MAX, LIMIT_DEFAULT, &page_out->limit) <
            0 ||
        pgqrs_cli_integer(cli, PGQRS_OPT_BEFORE, 1, INT64_MAX, 0, &page_out->before_id) < 0) {
        return PGQRS_CLI_USAGE;
    }
    page_out->limit = all ? 0 : page_out->limit;
    return PGQRS_CLI_OK;
}

void pgqrs_cli_more(const struct pgqrs_cli *cli, int64_t before_id)
{
    if (!cli->json && before_id != 0 && cli->options[PGQRS_OPT_WATCH] == NULL &&
        isatty(STDOUT_FILENO) == 1) {
        pgqrs_cli_error("there may be more: --before %" PRId64, before_id);
    }
}

int pgqrs_cli_ids(const struct pgqrs_cli *cli, int64_t **ids_out)
{
    struct pgqrs_error err;
    int64_t *ids = calloc(cli->word_count + 1, sizeof *ids);
    if (ids == NULL) {
        pgqrs_cli_error("out of memory");
        return PGQRS_CLI_FAILURE;
    }
    for (size_t i = 0; i < cli->word_count; i++) {
        if (pgqrs_integer_parse(cli->words[i], 1, INT64_MAX, &ids[i], &err) < 0) {
            free(ids);
            return pgqrs_cli_usage("ID: %s", err.text);
        }
    }
    *ids_out = ids;
    return PGQRS_CLI_OK;
}

const char *pgqrs_cli_count(int64_t count, bool capped, char out[24])
{
    (void)snprintf(out, 24, "%" PRId64 "%s", count, capped ? "+" : "");
    return out;
}
