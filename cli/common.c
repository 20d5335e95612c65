/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands share: errors, options, queues by name, pages. */
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

int pgqrs_cli_id(const struct pgqrs_cli *cli, int64_t *id_out)
{
    struct pgqrs_error err;
    return pgqrs_integer_parse(cli->words[0], 1, INT64_MAX, id_out, &err) < 0
               ? pgqrs_cli_usage("ID: %s", err.text)
               : PGQRS_CLI_OK;
}

const char *pgqrs_cli_count(int64_t count, bool capped, char out[24])
{
    (void)snprintf(out, 24, "%" PRId64 "%s", count, capped ? "+" : "");
    return out;
}
