/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/output.h"

typedef int schema_fn(struct pgqrs_store *store, struct pgqrs_error *err);

static int run(struct pgqrs_cli *cli, schema_fn *fn, const char *key, const char *text)
{
    struct pgqrs_cli_retry retry = {0};
    struct pgqrs_error err;
    int status = pgqrs_cli_open(cli);
    int rc;
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    do {
        rc = fn(cli->store, &err);
    } while (rc < 0 && pgqrs_cli_again(&retry, &err));
    if (rc < 0) {
        return pgqrs_cli_fail(&err);
    }
    if (cli->json) {
        struct pgqrs_json json = {0};
        pgqrs_json_begin(&json, NULL, '{');
        pgqrs_json_boolean(&json, key, true);
        pgqrs_json_end(&json, '}');
    } else {
        (void)printf("%s\n", text);
    }
    return PGQRS_CLI_OK;
}

int pgqrs_cmd_admin_install(struct pgqrs_cli *cli)
{
    return run(cli, pgqrs_store_install, "installed", "the schema is installed");
}

int pgqrs_cmd_admin_verify(struct pgqrs_cli *cli)
{
    return run(cli, pgqrs_store_verify, "verified", "the schema is complete and consistent");
}

/* ---- stats ---- */

#define STALE_MS 60000

struct stats {
    struct pgqrs_store_info info;
    struct pgqrs_worker_stats workers;
    struct pgqrs_queue_metrics messages;
};

static int read_stats(struct pgqrs_cli *cli, uint64_t max, struct stats *stats)
{
    struct pgqrs_cli_retry retry = {0};
    struct pgqrs_error err;
    int rc;
    do {
        rc = pgqrs_store_info(cli->store, &stats->info, &err);
        if (rc == 0) {
            rc = pgqrs_store_worker_stats(cli->store, 0, STALE_MS, &stats->workers, &err);
        }
        if (rc == 0) {
            rc = pgqrs_store_queue_metrics(cli->store, 0, max, &stats->messages, &err);
        }
    } while (rc < 0 && pgqrs_cli_again(&retry, &err));
    return rc < 0 ? pgqrs_cli_fail(&err) : PGQRS_CLI_OK;
}

static void print_stats(const struct pgqrs_cli *cli, const struct stats *s, uint64_t max)
{
    const struct pgqrs_queue_metrics *m = &s->messages;
    const struct pgqrs_worker_stats *w = &s->workers;
    const struct {
        const char *key;
        int64_t value;
        bool capped;
    } lines[] = {
        {"queues", s->info.queues, false},
        {"paused_queues", s->info.paused_queues, false},
        {"workflows", s->info.workflows, false},
        {"workers", w->total, false},
        {"workers_active", w->total - w->stopped, false},
        {"workers_ready", w->ready, false},
        {"workers_polling", w->polling, false},
        {"workers_suspended", w->suspended, false},
        {"workers_interrupted", w->interrupted, false},
        {"workers_stopped", w->stopped, false},
        {"workers_stale", w->stale, false},
        {"messages", m->total,
         max != 0 && ((uint64_t)m->pending >= max || (uint64_t)m->leased >= max ||
                      (uint64_t)m->archived >= max)},
        {"pending", m->pending, max != 0 && (uint64_t)m->pending >= max},
        {"leased", m->leased, max != 0 && (uint64_t)m->leased >= max},
        {"archived", m->archived, max != 0 && (uint64_t)m->archived >= max},
        {"failed", m->failed, max != 0 && (uint64_t)m->failed >= max},
    };
    struct pgqrs_json json = {0};
    char text[24];
    if (cli->json) {
        pgqrs_json_begin(&json, NULL, '{');
        pgqrs_json_text(&json, "server", s->info.server);
        pgqrs_json_text(&json, "pgqrs_schema", s->info.pgqrs_schema);
        pgqrs_json_integer(&json, "schema_version", s->info.schema_version);
    } else {
        (void)printf("%-20s %s\n%-20s %s\n%-20s %" PRId32 "\n", "server", s->info.server,
                     "pgqrs_schema", s->info.pgqrs_schema, "schema_version",
                     s->info.schema_version);
    }
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (cli->json) {
            pgqrs_json_integer(&json, lines[i].key, lines[i].value);
        } else {
            (void)printf("%-20s %s\n", lines[i].key,
                         pgqrs_cli_count(lines[i].value, lines[i].capped, text));
        }
    }
    if (cli->json) {
        pgqrs_json_begin(&json, "capped", '[');
        for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
            if (lines[i].capped) {
                pgqrs_json_text(&json, NULL, lines[i].key);
            }
        }
        pgqrs_json_end(&json, ']');
        pgqrs_json_end(&json, '}');
    }
}

int pgqrs_cmd_admin_stats(struct pgqrs_cli *cli)
{
    uint64_t max = cli->options[PGQRS_OPT_EXACT] != NULL ? 0 : PGQRS_COUNT_MAX;
    struct stats stats = {0};
    int status = pgqrs_cli_open(cli);
    if (status == PGQRS_CLI_OK) {
        status = read_stats(cli, max, &stats);
    }
    if (status == PGQRS_CLI_OK) {
        print_stats(cli, &stats, max);
    }
    return status;
}
