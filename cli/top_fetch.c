/* SPDX-License-Identifier: Apache-2.0 */
/* Asks pgqrsd and the store, and has things done there. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ctl_link.h"
#include "cli/top_source.h"
#include "config/config.h"

#define BUSY_MS 2000
#define CALL_MS 5000
#define QUEUE_PAGE 1000

json_t *pgqrs_top_fetch_status(const struct pgqrs_cli *cli, struct pgqrs_error *err)
{
    json_t *reply = NULL;
    return pgqrs_ctl_try(cli, json_pack("{s:s}", "command", "status"), &reply, err) < 0 ? NULL
                                                                                        : reply;
}

/* ---- the store ---- */

static int open_store(const struct pgqrs_cli *cli, struct pgqrs_store **store,
                      struct pgqrs_error *err)
{
    struct pgqrs_store_options how = {
        .synchronous_full = true, .busy_ms = BUSY_MS, .call_ms = CALL_MS};
    const char *config = pgqrs_cli_store_config(cli);
    char *dsn = NULL;
    char *schema = NULL;
    int rc = *store != NULL ? 0 : -1;
    if (rc < 0 && pgqrs_config_find_dsn(cli->options[PGQRS_OPT_DSN], config, &dsn, err) == 0 &&
        pgqrs_config_find_schema(cli->options[PGQRS_OPT_SCHEMA], config, &schema, err) == 0) {
        how.schema = schema;
        rc = pgqrs_store_open(dsn, &how, store, err);
    }
    free(dsn);
    free(schema);
    return rc;
}

/* Appends a page; returns how many it had. */
static int64_t add_page(struct pgqrs_store *store, struct pgqrs_queue_list *list,
                        struct pgqrs_error *err)
{
    struct pgqrs_queue_list page = {0};
    int64_t after = list->count > 0 ? list->items[list->count - 1].id : 0;
    if (pgqrs_store_queue_list(store, after, QUEUE_PAGE, &page, err) < 0) {
        return -1;
    }
    size_t count = page.count;
    struct pgqrs_queue *items = realloc(list->items, (list->count + count + 1) * sizeof *items);
    if (items == NULL) {
        pgqrs_queue_list_fini(&page);
        return pgqrs_error_memory(err);
    }
    list->items = items;
    for (size_t i = 0; i < count; i++) {
        items[list->count++] = page.items[i]; /* with its name */
    }
    free(page.items);
    return (int64_t)count;
}

static int count_all(struct pgqrs_store *store, struct pgqrs_top_counts *counts,
                     struct pgqrs_error *err)
{
    struct pgqrs_queue_list *queues = &counts->queues;
    int64_t got;
    do {
        got = add_page(store, queues, err);
        if (got < 0) {
            return -1;
        }
    } while (got == QUEUE_PAGE);
    counts->metrics = calloc(queues->count + 1, sizeof *counts->metrics);
    if (counts->metrics == NULL) {
        return pgqrs_error_memory(err);
    }
    for (size_t i = 0; i < queues->count; i++) {
        int rc = pgqrs_store_queue_metrics(store, queues->items[i].id, PGQRS_TOP_COUNT_MAX,
                                           &counts->metrics[i], err);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

struct pgqrs_top_counts *pgqrs_top_fetch_counts(const struct pgqrs_cli *cli,
                                                struct pgqrs_store **store, struct pgqrs_error *err)
{
    struct pgqrs_top_counts *counts = NULL;
    if (open_store(cli, store, err) < 0) {
        return NULL;
    }
    counts = calloc(1, sizeof *counts);
    if (counts == NULL) {
        (void)pgqrs_error_memory(err);
        return NULL;
    }
    if (count_all(*store, counts, err) < 0) {
        pgqrs_top_counts_free(&counts);
        if (err->code != PGQRS_ERR_AGAIN) {
            pgqrs_store_close(store);
        }
    }
    return counts;
}

/* ---- acts ---- */

static void pause_queue(struct pgqrs_store *store, const struct pgqrs_top_act *act,
                        char said[PGQRS_TOP_SAID])
{
    bool pause = act->what == PGQRS_TOP_PAUSE;
    const char *said_first = pause ? "paused" : "resumed"; /* a name may be long */
    struct pgqrs_error err;
    if (pgqrs_store_queue_pause(store, act->id, pause, &err) < 0) {
        said_first = err.text;
    }
    (void)snprintf(said, PGQRS_TOP_SAID, "%s: queue \"%s\"", said_first, act->queue);
}

static void cancel_job(struct pgqrs_store *store, const struct pgqrs_top_act *act,
                       char said[PGQRS_TOP_SAID])
{
    static const char *const what[PGQRS_ACTED_COUNT] = {
        [PGQRS_ACTED_YES] = "cancelled",
        [PGQRS_ACTED_NOT_FOUND] = "not cancelled: it does not exist",
        [PGQRS_ACTED_LEASED] = "not cancelled: it is leased",
        [PGQRS_ACTED_ARCHIVED] = "not cancelled: it has ended",
        [PGQRS_ACTED_ASKED] = "its worker is asked to stop it",
    };
    enum pgqrs_acted acted = PGQRS_ACTED_NONE;
    struct pgqrs_error err;
    if (pgqrs_store_message_act(store, PGQRS_ACT_CANCEL, &act->id, 1, &acted, &err) < 0) {
        (void)snprintf(said, PGQRS_TOP_SAID, "job %" PRId64 ": %s", act->id, err.text);
    } else {
        (void)snprintf(said, PGQRS_TOP_SAID, "job %" PRId64 ": %s", act->id,
                       what[acted] != NULL ? what[acted] : "not cancelled");
    }
}

void pgqrs_top_act_on_store(const struct pgqrs_cli *cli, struct pgqrs_store **store,
                            const struct pgqrs_top_act *act, char said[PGQRS_TOP_SAID])
{
    struct pgqrs_error err;
    if (open_store(cli, store, &err) < 0) {
        (void)snprintf(said, PGQRS_TOP_SAID, "%s", err.text);
    } else if (act->what == PGQRS_TOP_CANCEL) {
        cancel_job(*store, act, said);
    } else {
        pause_queue(*store, act, said);
    }
}

void pgqrs_top_act_on_pgqrsd(const struct pgqrs_cli *cli, const struct pgqrs_top_act *act,
                             char said[PGQRS_TOP_SAID])
{
    json_t *reply = NULL;
    struct pgqrs_error err;
    json_t *request = json_pack("{s:s,s:s,s:I}", "command", "kill", "queue", act->queue, "worker",
                                (json_int_t)act->slot);
    if (pgqrs_ctl_try(cli, request, &reply, &err) < 0) {
        (void)snprintf(said, PGQRS_TOP_SAID, "%s", err.text);
    } else {
        (void)snprintf(said, PGQRS_TOP_SAID,
                       "killed: worker %" PRId64 ", pid %" JSON_INTEGER_FORMAT ", queue \"%s\"",
                       act->slot, json_integer_value(json_object_get(reply, "pid")), act->queue);
    }
    json_decref(reply);
}
