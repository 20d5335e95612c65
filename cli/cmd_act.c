/* SPDX-License-Identifier: Apache-2.0 */
/* What is done to messages that are named by their ids, and to dead letters. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/output.h"

#define ACT_MAX 1000
#define PRUNE_STEP 1000

static const struct {
    const char *done, *not_done;
} verbs[PGQRS_ACT_COUNT] = {
    [PGQRS_ACT_CANCEL] = {"cancelled", "not cancelled"},
    [PGQRS_ACT_DELETE] = {"deleted", "not deleted"},
    [PGQRS_ACT_FREE] = {"released", "not released"},
    [PGQRS_ACT_REPLAY] = {"waits again", "not replayed"},
};

struct act {
    struct pgqrs_cli *cli;
    enum pgqrs_act act;
    bool quiet; /* lines only about what could not be done */
    struct pgqrs_json json;
    int64_t done, failed;
};

static const char *reason(enum pgqrs_acted acted)
{
    switch (acted) {
    case PGQRS_ACTED_NOT_FOUND:
        return "it does not exist";
    case PGQRS_ACTED_WAITING:
        return "it waits already";
    case PGQRS_ACTED_LEASED:
        return "it is leased";
    case PGQRS_ACTED_ARCHIVED:
        return "it has ended";
    case PGQRS_ACTED_KEY:
        return "another one that waits has its unique key";
    case PGQRS_ACTED_NONE:
    case PGQRS_ACTED_YES:
    case PGQRS_ACTED_ASKED:
    case PGQRS_ACTED_COUNT:
        break;
    }
    return NULL;
}

/* why null: it was done. */
static void say(struct act *a, int64_t id, const char *why)
{
    a->done += why == NULL;
    a->failed += why != NULL;
    if (a->cli->json) {
        pgqrs_json_begin(&a->json, NULL, '{');
        pgqrs_json_integer(&a->json, "id", id);
        pgqrs_json_boolean(&a->json, "done", why == NULL);
        pgqrs_json_text(&a->json, "reason", why);
        pgqrs_json_end(&a->json, '}');
    } else if (why != NULL) {
        (void)printf("message %" PRId64 ": %s: %s\n", id, verbs[a->act].not_done, why);
    } else if (!a->quiet) {
        (void)printf("message %" PRId64 ": %s\n", id, verbs[a->act].done);
    }
}

/* It is done when its worker has stopped. */
static void say_asked(struct act *a, int64_t id)
{
    a->done++;
    if (a->cli->json) {
        pgqrs_json_begin(&a->json, NULL, '{');
        pgqrs_json_integer(&a->json, "id", id);
        pgqrs_json_boolean(&a->json, "done", true);
        pgqrs_json_text(&a->json, "reason", "its worker is asked to stop it");
        pgqrs_json_end(&a->json, '}');
    } else {
        (void)printf("message %" PRId64 ": its worker is asked to stop it\n", id);
    }
}

/* Up to ACT_MAX of them. */
static int act_on(struct act *a, const int64_t *ids, size_t count)
{
    enum pgqrs_acted acted[ACT_MAX];
    struct pgqrs_cli_retry retry = {0};
    struct pgqrs_error err;
    int64_t rc;
    if (count == 0) {
        return PGQRS_CLI_OK;
    }
    do {
        rc = pgqrs_store_message_act(a->cli->store, a->act, ids, count, acted, &err);
    } while (rc < 0 && pgqrs_cli_again(&retry, &err));
    if (rc < 0) {
        return pgqrs_cli_fail(&err);
    }
    for (size_t i = 0; i < count; i++) {
        if (acted[i] == PGQRS_ACTED_ASKED) {
            say_asked(a, ids[i]);
        } else {
            say(a, ids[i], reason(acted[i]));
        }
    }
    return PGQRS_CLI_OK;
}

static void begin(struct act *a)
{
    if (a->cli->json) {
        pgqrs_json_begin(&a->json, NULL, '[');
    }
}

static int end(struct act *a, int status)
{
    if (a->cli->json) {
        pgqrs_json_end(&a->json, ']');
    }
    return status == PGQRS_CLI_OK && a->failed > 0 ? PGQRS_CLI_FAILURE : status;
}

/* ---- by id ---- */

static int act_on_words(struct pgqrs_cli *cli, enum pgqrs_act act)
{
    struct act a = {.cli = cli, .act = act};
    int64_t *ids = NULL;
    int status = act == PGQRS_ACT_DELETE ? pgqrs_cli_may_ask(cli) : PGQRS_CLI_OK;
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_ids(cli, &ids);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK && act == PGQRS_ACT_DELETE) {
        status = cli->word_count == 1
                     ? pgqrs_cli_confirm(cli, "delete message %" PRId64, ids[0])
                     : pgqrs_cli_confirm(cli, "delete %zu messages, %" PRId64 " to %" PRId64,
                                         cli->word_count, ids[0], ids[cli->word_count - 1]);
    }
    if (status == PGQRS_CLI_OK) {
        begin(&a);
        for (size_t i = 0; status == PGQRS_CLI_OK && i < cli->word_count; i += ACT_MAX) {
            size_t left = cli->word_count - i;
            status = act_on(&a, ids + i, left < ACT_MAX ? left : ACT_MAX);
        }
        status = end(&a, status);
    }
    free(ids);
    return status;
}

int pgqrs_cmd_message_cancel(struct pgqrs_cli *cli)
{
    return act_on_words(cli, PGQRS_ACT_CANCEL);
}

int pgqrs_cmd_message_delete(struct pgqrs_cli *cli)
{
    return act_on_words(cli, PGQRS_ACT_DELETE);
}

int pgqrs_cmd_message_release(struct pgqrs_cli *cli)
{
    return act_on_words(cli, PGQRS_ACT_FREE);
}

int pgqrs_cmd_message_replay(struct pgqrs_cli *cli)
{
    return act_on_words(cli, PGQRS_ACT_REPLAY);
}

/* ---- dead letters ---- */

static int replay_if_dead(struct act *a, int64_t id)
{
    struct pgqrs_cli_retry retry = {0};
    struct pgqrs_message message = {0};
    struct pgqrs_error err;
    int rc;
    do {
        rc = pgqrs_store_message_get(a->cli->store, id, &message, &err);
    } while (rc < 0 && pgqrs_cli_again(&retry, &err));
    if (rc < 0 && err.code == PGQRS_ERR_NOT_FOUND) {
        say(a, id, reason(PGQRS_ACTED_NOT_FOUND));
        return PGQRS_CLI_OK;
    }
    if (rc < 0) {
        return pgqrs_cli_fail(&err);
    }
    bool dead = message.outcome != NULL && strcmp(message.outcome, "failed") == 0;
    pgqrs_message_fini(&message);
    if (!dead) {
        say(a, id, "it is not a dead letter");
        return PGQRS_CLI_OK;
    }
    return act_on(a, &id, 1);
}

/* Pages go down by id and a replayed message keeps its id, so one that fails again while this goes
 * on is on a page that has been: each is replayed at most once. */
static int replay_queue(struct act *a, int64_t queue_id)
{
    struct pgqrs_message_filter filter = {
        .queue_id = queue_id, .outcome = "failed", .limit = ACT_MAX};
    struct pgqrs_cli_progress progress = {0};
    int64_t ids[ACT_MAX];
    int status = PGQRS_CLI_OK;
    do {
        struct pgqrs_cli_retry retry = {0};
        struct pgqrs_message_list list = {0};
        struct pgqrs_error err;
        int rc;
        do {
            rc = pgqrs_store_message_list(a->cli->store, &filter, &list, &err);
        } while (rc < 0 && pgqrs_cli_again(&retry, &err));
        if (rc < 0) {
            return pgqrs_cli_fail(&err);
        }
        size_t count = list.count < ACT_MAX ? list.count : ACT_MAX;
        for (size_t i = 0; i < count; i++) {
            ids[i] = list.items[i].id;
        }
        filter.before_id = list.next_before_id;
        pgqrs_message_list_fini(&list);
        status = act_on(a, ids, count);
        pgqrs_cli_progress(&progress, a->done, "messages");
    } while (status == PGQRS_CLI_OK && filter.before_id != 0);
    return status;
}

int pgqrs_cmd_dlq_replay(struct pgqrs_cli *cli)
{
    bool all = cli->options[PGQRS_OPT_ALL] != NULL;
    int ways = (cli->word_count > 0) + (cli->options[PGQRS_OPT_QUEUE] != NULL) + all;
    struct act a = {.cli = cli, .act = PGQRS_ACT_REPLAY, .quiet = cli->word_count == 0};
    int64_t *ids = NULL;
    int64_t queue_id = 0;
    if (ways != 1) {
        return pgqrs_cli_usage("dlq replay: found %d of ids, --queue and --all, expected one",
                               ways);
    }
    int status = pgqrs_cli_ids(cli, &ids);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_queue_option(cli, &queue_id);
    }
    if (status == PGQRS_CLI_OK) {
        begin(&a);
        for (size_t i = 0; status == PGQRS_CLI_OK && i < cli->word_count; i++) {
            status = replay_if_dead(&a, ids[i]);
        }
        if (a.quiet) {
            status = replay_queue(&a, queue_id);
        }
        status = end(&a, status);
        if (a.quiet && !cli->json) {
            (void)printf("%" PRId64 " dead letter%s again\n", a.done,
                         a.done == 1 ? " waits" : "s wait");
        }
    }
    free(ids);
    return status;
}

static int prune(struct pgqrs_cli *cli, int64_t queue_id, int64_t age_ms, int64_t *count_out)
{
    struct pgqrs_prune what = {
        .queue_id = queue_id, .what = PGQRS_PRUNE_FAILED, .age_ms = age_ms, .limit = PRUNE_STEP};
    struct pgqrs_cli_progress progress = {0};
    do {
        struct pgqrs_cli_retry retry = {0};
        struct pgqrs_error err;
        int64_t rc;
        do {
            rc = pgqrs_store_prune(cli->store, &what, &err);
        } while (rc < 0 && pgqrs_cli_again(&retry, &err));
        if (rc < 0) {
            return pgqrs_cli_fail(&err);
        }
        *count_out += rc;
        pgqrs_cli_progress(&progress, *count_out, "dead letters deleted");
    } while (what.from_us != 0 || what.from_id != 0);
    return PGQRS_CLI_OK;
}

static int confirm_purge(struct pgqrs_cli *cli, int64_t queue_id)
{
    const char *queue = cli->options[PGQRS_OPT_QUEUE];
    struct pgqrs_queue_metrics m = {0};
    struct pgqrs_error err;
    char text[24];
    if (cli->options[PGQRS_OPT_YES] == NULL &&
        pgqrs_store_queue_metrics(cli->store, queue_id, PGQRS_COUNT_MAX, &m, &err) < 0) {
        return pgqrs_cli_fail(&err);
    }
    return pgqrs_cli_confirm(cli,
                             "delete dead letters of %s%s%s: there are %s, of which those older "
                             "than %s go",
                             queue == NULL ? "all queues" : "queue \"", queue == NULL ? "" : queue,
                             queue == NULL ? "" : "\"",
                             pgqrs_cli_count(m.failed, m.failed >= PGQRS_COUNT_MAX, text),
                             cli->options[PGQRS_OPT_OLDER_THAN]);
}

int pgqrs_cmd_dlq_purge(struct pgqrs_cli *cli)
{
    int64_t age_ms = 0;
    int64_t queue_id = 0;
    int64_t count = 0;
    if (cli->options[PGQRS_OPT_OLDER_THAN] == NULL) {
        return pgqrs_cli_usage("dlq purge: found no --older-than, expected one, such as 7d; or 0");
    }
    if (pgqrs_cli_duration(cli, PGQRS_OPT_OLDER_THAN, 0, &age_ms) < 0) {
        return PGQRS_CLI_USAGE;
    }
    int status = pgqrs_cli_may_ask(cli);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_queue_option(cli, &queue_id);
    }
    if (status == PGQRS_CLI_OK) {
        status = confirm_purge(cli, queue_id);
    }
    if (status == PGQRS_CLI_OK) {
        status = prune(cli, queue_id, age_ms, &count);
    }
    if (status == PGQRS_CLI_OK && cli->json) {
        struct pgqrs_json json = {0};
        pgqrs_json_begin(&json, NULL, '{');
        pgqrs_json_integer(&json, "deleted", count);
        pgqrs_json_end(&json, '}');
    } else if (status == PGQRS_CLI_OK) {
        (void)printf("%" PRId64 " dead letters deleted\n", count);
    }
    return status;
}
