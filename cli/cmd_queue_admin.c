/* SPDX-License-Identifier: Apache-2.0 */
/* What changes queues that are there: delete, purge, pause, resume. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/output.h"

#define PURGE_STEP 1000

typedef int change_fn(struct pgqrs_store *store, int64_t queue_id, struct pgqrs_error *err);

static int delete_queue(struct pgqrs_store *store, int64_t queue_id, struct pgqrs_error *err)
{
    return pgqrs_store_queue_delete(store, queue_id, err);
}

static int pause_queue(struct pgqrs_store *store, int64_t queue_id, struct pgqrs_error *err)
{
    return pgqrs_store_queue_pause(store, queue_id, true, err);
}

static int resume_queue(struct pgqrs_store *store, int64_t queue_id, struct pgqrs_error *err)
{
    return pgqrs_store_queue_pause(store, queue_id, false, err);
}

static int change_one(struct pgqrs_cli *cli, const char *name, change_fn *fn)
{
    struct pgqrs_cli_retry retry = {0};
    struct pgqrs_error err;
    int64_t id;
    int rc;
    int status = pgqrs_cli_find_queue(cli, name, &id);
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    do {
        rc = fn(cli->store, id, &err);
    } while (rc < 0 && pgqrs_cli_again(&retry, &err));
    if (rc < 0) {
        (void)pgqrs_error_prefix(&err, "queue \"%s\"", name);
        return pgqrs_cli_fail(&err);
    }
    return PGQRS_CLI_OK;
}

/* One that can not be changed does not keep the others from it. */
static int change_each(struct pgqrs_cli *cli, change_fn *fn, const char *done)
{
    struct pgqrs_json json = {0};
    int status = PGQRS_CLI_OK;
    if (cli->json) {
        pgqrs_json_begin(&json, NULL, '[');
    }
    for (size_t i = 0; i < cli->word_count; i++) {
        int changed = change_one(cli, cli->words[i], fn);
        status = changed > status ? changed : status;
        if (cli->json) {
            pgqrs_json_begin(&json, NULL, '{');
            pgqrs_json_text(&json, "name", cli->words[i]);
            pgqrs_json_boolean(&json, "done", changed == PGQRS_CLI_OK);
            pgqrs_json_end(&json, '}');
        } else if (changed == PGQRS_CLI_OK) {
            struct pgqrs_buf shown = {0};
            pgqrs_show(&shown, cli->words[i]);
            (void)printf("queue \"%.*s\" %s\n", (int)shown.len, (const char *)shown.data, done);
            pgqrs_buf_fini(&shown);
        }
    }
    if (cli->json) {
        pgqrs_json_end(&json, ']');
    }
    return status;
}

int pgqrs_cmd_queue_pause(struct pgqrs_cli *cli)
{
    int status = pgqrs_cli_open(cli);
    return status == PGQRS_CLI_OK ? change_each(cli, pause_queue, "is paused") : status;
}

int pgqrs_cmd_queue_resume(struct pgqrs_cli *cli)
{
    int status = pgqrs_cli_open(cli);
    return status == PGQRS_CLI_OK ? change_each(cli, resume_queue, "goes on") : status;
}

int pgqrs_cmd_queue_delete(struct pgqrs_cli *cli)
{
    int status = pgqrs_cli_may_ask(cli);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK && cli->word_count == 1) {
        status = pgqrs_cli_confirm(cli, "delete queue \"%s\"", cli->words[0]);
    } else if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_confirm(cli, "delete %zu queues, \"%s\" to \"%s\"", cli->word_count,
                                   cli->words[0], cli->words[cli->word_count - 1]);
    }
    return status == PGQRS_CLI_OK ? change_each(cli, delete_queue, "is deleted") : status;
}

/* ---- purge ---- */

static int parse_what(const struct pgqrs_cli *cli, unsigned *what_out)
{
    static const struct {
        const char *name;
        unsigned bits;
    } whats[] = {{"archived", PGQRS_PURGE_ARCHIVED},
                 {"pending", PGQRS_PURGE_PENDING},
                 {"leased", PGQRS_PURGE_LEASED},
                 {"all", PGQRS_PURGE_ALL}};
    const char *text = cli->options[PGQRS_OPT_WHAT];
    *what_out = text == NULL ? PGQRS_PURGE_ARCHIVED | PGQRS_PURGE_PENDING : 0;
    for (bool more = text != NULL; more;) {
        size_t len = strcspn(text, ",");
        unsigned bits = 0;
        for (size_t i = 0; i < sizeof whats / sizeof *whats; i++) {
            if (strlen(whats[i].name) == len && strncmp(text, whats[i].name, len) == 0) {
                bits = whats[i].bits;
            }
        }
        if (bits == 0) {
            return pgqrs_cli_usage("--what: found \"%.*s\", expected archived, pending, leased or "
                                   "all",
                                   (int)len, text);
        }
        *what_out |= bits;
        more = text[len] == ',';
        text += len + 1;
    }
    return PGQRS_CLI_OK;
}

static int confirm_purge(struct pgqrs_cli *cli, int64_t queue_id, unsigned what)
{
    struct pgqrs_queue_metrics m = {0};
    struct pgqrs_error err;
    char archived[24];
    char pending[24];
    char leased[24];
    if (cli->options[PGQRS_OPT_YES] != NULL) {
        return PGQRS_CLI_OK;
    }
    if (pgqrs_store_queue_metrics(cli->store, queue_id, PGQRS_COUNT_MAX, &m, &err) < 0) {
        return pgqrs_cli_fail(&err);
    }
    m.archived = what & PGQRS_PURGE_ARCHIVED ? m.archived : 0;
    m.pending = what & PGQRS_PURGE_PENDING ? m.pending : 0;
    m.leased = what & PGQRS_PURGE_LEASED ? m.leased : 0;
    return pgqrs_cli_confirm(
        cli, "delete %s archived, %s pending and %s leased messages of queue \"%s\"",
        pgqrs_cli_count(m.archived, m.archived >= PGQRS_COUNT_MAX, archived),
        pgqrs_cli_count(m.pending, m.pending >= PGQRS_COUNT_MAX, pending),
        pgqrs_cli_count(m.leased, m.leased >= PGQRS_COUNT_MAX, leased), cli->words[0]);
}

static int purge(struct pgqrs_cli *cli, int64_t queue_id, unsigned what, int64_t *count_out)
{
    struct pgqrs_cli_progress progress = {0};
    int64_t rc;
    do {
        struct pgqrs_cli_retry retry = {0};
        struct pgqrs_error err;
        do {
            rc = pgqrs_store_queue_purge(cli->store, queue_id, what, PURGE_STEP, &err);
        } while (rc < 0 && pgqrs_cli_again(&retry, &err));
        if (rc < 0) {
            (void)pgqrs_error_prefix(&err, "after %" PRId64 " messages were deleted", *count_out);
            return pgqrs_cli_fail(&err);
        }
        *count_out += rc;
        pgqrs_cli_progress(&progress, *count_out, "messages deleted");
    } while (rc == PURGE_STEP);
    return PGQRS_CLI_OK;
}

int pgqrs_cmd_queue_purge(struct pgqrs_cli *cli)
{
    unsigned what = 0;
    int64_t queue_id = 0;
    int64_t count = 0;
    int status = parse_what(cli, &what);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_may_ask(cli);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_find_queue(cli, cli->words[0], &queue_id);
    }
    if (status == PGQRS_CLI_OK) {
        status = confirm_purge(cli, queue_id, what);
    }
    if (status == PGQRS_CLI_OK) {
        status = purge(cli, queue_id, what, &count);
    }
    if (status == PGQRS_CLI_OK && cli->json) {
        struct pgqrs_json json = {0};
        pgqrs_json_begin(&json, NULL, '{');
        pgqrs_json_integer(&json, "deleted", count);
        pgqrs_json_end(&json, '}');
    } else if (status == PGQRS_CLI_OK) {
        (void)printf("%" PRId64 " messages deleted\n", count);
    }
    return status;
}
