/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "cli/cli.h"
#include "cli/output.h"

#define PAGE_MAX 1000
#define PURGE_STEP 20 /* each reads the messages once */

/* ---- list ---- */

struct listing {
    struct pgqrs_cli *cli;
    struct pgqrs_queue_list queues;
    struct pgqrs_table table;
    struct pgqrs_json json;
};

static void optional(struct pgqrs_json *json, const char *key, int64_t value)
{
    if (value == 0) {
        pgqrs_json_text(json, key, NULL);
    } else {
        pgqrs_json_integer(json, key, value);
    }
}

static void as_json(struct listing *l, const struct pgqrs_worker_info *w, int64_t now_us)
{
    struct pgqrs_json *json = &l->json;
    pgqrs_json_begin(json, NULL, '{');
    pgqrs_json_integer(json, "id", w->id);
    pgqrs_json_text(json, "name", w->name);
    pgqrs_json_text(json, "queue",
                    w->queue_id == 0 ? NULL : pgqrs_cli_queue_name(&l->queues, w->queue_id));
    pgqrs_json_text(json, "state", pgqrs_worker_state_name(w->state));
    pgqrs_json_integer(json, "held", w->held);
    pgqrs_json_time(json, "started_at", w->started_at_us);
    pgqrs_json_time(json, "heartbeat_at", w->heartbeat_at_us);
    pgqrs_json_real(json, "heartbeat_age_seconds", (double)(now_us - w->heartbeat_at_us) / 1e6);
    pgqrs_json_time(json, "shutdown_at", w->shutdown_at_us);
    pgqrs_json_text(json, "instance", w->instance);
    optional(json, "generation", (int64_t)w->generation);
    optional(json, "pid", w->pid);
    pgqrs_json_end(json, '}');
}

static const char *age(int64_t us, char out[32])
{
    static const struct {
        int64_t seconds;
        const char *unit;
    } units[] = {{86400, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}};
    int64_t seconds = us > 0 ? us / 1000000 : 0;
    size_t i = 0;
    while (i < 3 && seconds < 2 * units[i].seconds) {
        i++;
    }
    (void)snprintf(out, 32, "%" PRId64 "%s", seconds / units[i].seconds, units[i].unit);
    return out;
}

static void as_row(struct listing *l, const struct pgqrs_worker_info *w, int64_t now_us)
{
    char text[32];
    pgqrs_table_number(&l->table, w->id);
    pgqrs_table_text(&l->table, pgqrs_cli_queue_name(&l->queues, w->queue_id));
    pgqrs_table_text(&l->table, pgqrs_worker_state_name(w->state));
    pgqrs_table_number(&l->table, w->held);
    pgqrs_table_text(&l->table, age(now_us - w->heartbeat_at_us, text));
    pgqrs_table_text(&l->table, pgqrs_time_table(w->started_at_us, text));
    pgqrs_table_text(&l->table, w->name);
}

static int parse_filter(struct pgqrs_cli *cli, struct pgqrs_worker_filter *filter)
{
    const char *state = cli->options[PGQRS_OPT_STATE];
    for (int i = PGQRS_WORKER_READY; state != NULL && i < PGQRS_WORKER_STATE_COUNT; i++) {
        if (strcmp(state, pgqrs_worker_state_name((enum pgqrs_worker_state)i)) == 0) {
            filter->state = (enum pgqrs_worker_state)i;
        }
    }
    if (state != NULL && filter->state == PGQRS_WORKER_NONE) {
        return pgqrs_cli_usage("--state: found \"%s\", expected ready, polling, suspended, "
                               "interrupted or stopped",
                               state);
    }
    return PGQRS_CLI_OK;
}

/* limit 0: all. */
static int each(struct listing *l, struct pgqrs_worker_filter *filter, int64_t limit)
{
    bool last = false;
    for (int64_t left = limit == 0 ? INT64_MAX : limit; left > 0 && !last;) {
        struct pgqrs_cli_retry retry = {0};
        struct pgqrs_worker_info_list page = {0};
        struct pgqrs_error err;
        int rc;
        filter->limit = (uint32_t)(left < PAGE_MAX ? left : PAGE_MAX);
        do {
            rc = pgqrs_store_worker_list(l->cli->store, filter, &page, &err);
        } while (rc < 0 && pgqrs_cli_again(&retry, &err));
        if (rc < 0) {
            return pgqrs_cli_fail(&err);
        }
        for (size_t i = 0; i < page.count; i++) {
            (l->cli->json ? as_json : as_row)(l, &page.items[i], page.now_us);
            filter->before_id = page.items[i].id;
        }
        left -= (int64_t)page.count;
        last = page.count < filter->limit;
        pgqrs_worker_info_list_fini(&page);
    }
    filter->before_id = last ? 0 : filter->before_id;
    return PGQRS_CLI_OK;
}

int pgqrs_cmd_worker_list(struct pgqrs_cli *cli)
{
    static const char *const headers[] = {">ID",       "QUEUE",   "STATE", ">HELD",
                                          ">BEAT AGO", "STARTED", "NAME"};
    struct listing l = {.cli = cli, .table = pgqrs_table_of(headers, 7)};
    struct pgqrs_worker_filter filter = {0};
    struct pgqrs_cli_page page;
    int status = parse_filter(cli, &filter);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_page(cli, &page);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_queue_option(cli, &filter.queue_id);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_list_queues(cli, &l.queues);
    }
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    filter.before_id = page.before_id;
    if (cli->json) {
        pgqrs_json_begin(&l.json, NULL, '[');
    }
    status = each(&l, &filter, page.limit);
    if (cli->json) {
        pgqrs_json_end(&l.json, ']');
    } else if (status == PGQRS_CLI_OK) {
        pgqrs_table_print(&l.table);
        pgqrs_cli_more(cli, filter.before_id);
    }
    pgqrs_buf_fini(&l.table.cells);
    pgqrs_queue_list_fini(&l.queues);
    return status;
}

/* ---- states ---- */

static int move_one(struct pgqrs_cli *cli, int64_t id, enum pgqrs_worker_move move,
                    struct pgqrs_error *err)
{
    struct pgqrs_cli_retry retry = {0};
    int rc;
    do {
        rc = pgqrs_store_worker_move(cli->store, id, move, err);
    } while (rc < 0 && pgqrs_cli_again(&retry, err));
    return rc;
}

static int move_each(struct pgqrs_cli *cli, const int64_t *ids, enum pgqrs_worker_move move,
                     const char *done)
{
    struct pgqrs_json json = {0};
    int status = PGQRS_CLI_OK;
    if (cli->json) {
        pgqrs_json_begin(&json, NULL, '[');
    }
    for (size_t i = 0; i < cli->word_count; i++) {
        struct pgqrs_error err;
        bool moved = move_one(cli, ids[i], move, &err) == 0;
        if (!moved && err.code != PGQRS_ERR_NOT_FOUND && err.code != PGQRS_ERR_CONFLICT) {
            status = pgqrs_cli_fail(&err);
            break;
        }
        status = moved ? status : PGQRS_CLI_FAILURE;
        if (cli->json) {
            pgqrs_json_begin(&json, NULL, '{');
            pgqrs_json_integer(&json, "id", ids[i]);
            pgqrs_json_boolean(&json, "done", moved);
            pgqrs_json_text(&json, "reason", moved ? NULL : err.text);
            pgqrs_json_end(&json, '}');
        } else {
            (void)printf("worker %" PRId64 ": %s%s\n", ids[i],
                         moved ? "" : "nothing done: ", moved ? done : err.text);
        }
    }
    if (cli->json) {
        pgqrs_json_end(&json, ']');
    }
    return status;
}

/* How many messages the workers hold, as far as they exist. */
static int64_t count_held(struct pgqrs_cli *cli, const int64_t *ids)
{
    int64_t held = 0;
    for (size_t i = 0; i < cli->word_count; i++) {
        const struct pgqrs_worker_filter filter = {.id = ids[i], .limit = 1};
        struct pgqrs_worker_info_list list = {0};
        if (pgqrs_store_worker_list(cli->store, &filter, &list, NULL) == 0) {
            held += list.count == 1 ? list.items[0].held : 0;
            pgqrs_worker_info_list_fini(&list);
        }
    }
    return held;
}

static int confirm_stop(struct pgqrs_cli *cli, const int64_t *ids)
{
    if (cli->options[PGQRS_OPT_YES] != NULL) {
        return PGQRS_CLI_OK;
    }
    int64_t held = count_held(cli, ids);
    if (cli->word_count == 1) {
        return pgqrs_cli_confirm(cli, "stop worker %" PRId64 ", which holds %" PRId64 " messages",
                                 ids[0], held);
    }
    return pgqrs_cli_confirm(
        cli, "stop %zu workers, %" PRId64 " to %" PRId64 ", which hold %" PRId64 " messages",
        cli->word_count, ids[0], ids[cli->word_count - 1], held);
}

static int move(struct pgqrs_cli *cli, enum pgqrs_worker_move how, const char *done)
{
    int64_t *ids = NULL;
    int status = how == PGQRS_MOVE_STOP ? pgqrs_cli_may_ask(cli) : PGQRS_CLI_OK;
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_ids(cli, &ids);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK && how == PGQRS_MOVE_STOP) {
        status = confirm_stop(cli, ids);
    }
    if (status == PGQRS_CLI_OK) {
        status = move_each(cli, ids, how, done);
    }
    free(ids);
    return status;
}

int pgqrs_cmd_worker_suspend(struct pgqrs_cli *cli)
{
    return move(cli, PGQRS_MOVE_SUSPEND, "suspended");
}

int pgqrs_cmd_worker_resume(struct pgqrs_cli *cli)
{
    return move(cli, PGQRS_MOVE_RESUME, "ready");
}

int pgqrs_cmd_worker_interrupt(struct pgqrs_cli *cli)
{
    return move(cli, PGQRS_MOVE_INTERRUPT, "interrupted");
}

int pgqrs_cmd_worker_stop(struct pgqrs_cli *cli)
{
    return move(cli, PGQRS_MOVE_STOP, "stopped");
}

/* ---- purge ---- */

static int purge(struct pgqrs_cli *cli, int64_t age_ms, int64_t *count_out)
{
    struct pgqrs_cli_progress progress = {0};
    int64_t rc;
    do {
        struct pgqrs_cli_retry retry = {0};
        struct pgqrs_error err;
        do {
            rc = pgqrs_store_worker_purge(cli->store, age_ms, PURGE_STEP, &err);
        } while (rc < 0 && pgqrs_cli_again(&retry, &err));
        if (rc < 0) {
            return pgqrs_cli_fail(&err);
        }
        *count_out += rc;
        pgqrs_cli_progress(&progress, *count_out, "workers deleted");
    } while (rc == PURGE_STEP);
    return PGQRS_CLI_OK;
}

static int confirm_purge(struct pgqrs_cli *cli)
{
    struct pgqrs_worker_stats stats = {0};
    struct pgqrs_error err;
    if (cli->options[PGQRS_OPT_YES] == NULL &&
        pgqrs_store_worker_stats(cli->store, 0, 0, &stats, &err) < 0) {
        return pgqrs_cli_fail(&err);
    }
    return pgqrs_cli_confirm(cli,
                             "delete stopped workers: there are %" PRId64
                             ", of which those go that have not beaten for %s",
                             stats.stopped, cli->options[PGQRS_OPT_OLDER_THAN]);
}

int pgqrs_cmd_worker_purge(struct pgqrs_cli *cli)
{
    int64_t age_ms = 0;
    int64_t count = 0;
    if (cli->options[PGQRS_OPT_OLDER_THAN] == NULL) {
        return pgqrs_cli_usage(
            "worker purge: found no --older-than, expected one, such as 7d; or 0");
    }
    if (pgqrs_cli_duration(cli, PGQRS_OPT_OLDER_THAN, 0, &age_ms) < 0) {
        return PGQRS_CLI_USAGE;
    }
    int status = pgqrs_cli_may_ask(cli);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK) {
        status = confirm_purge(cli);
    }
    if (status == PGQRS_CLI_OK) {
        status = purge(cli, age_ms, &count);
    }
    if (status == PGQRS_CLI_OK && cli->json) {
        struct pgqrs_json json = {0};
        pgqrs_json_begin(&json, NULL, '{');
        pgqrs_json_integer(&json, "deleted", count);
        pgqrs_json_end(&json, '}');
    } else if (status == PGQRS_CLI_OK) {
        (void)printf("%" PRId64 " workers deleted\n", count);
    }
    return status;
}
