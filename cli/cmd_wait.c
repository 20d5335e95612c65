/* SPDX-License-Identifier: Apache-2.0 */
/* pgqrs queue wait: until a queue is empty, and how far it is. */
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/output.h"

#define LOOK_EVERY_MS 200
#define LOOK_SHARE 10 /* looking takes at most this part of the time */
#define PRINT_EVERY_MS 1000
#define WAIT_COUNT_MAX 10000 /* looking takes no longer for more */

struct progress {
    struct pgqrs_cli *cli;
    const char *name;
    bool terminal, printed_before;
    int64_t began_ms, printed_ms;
    struct pgqrs_queue_metrics now, printed; /* counted up to WAIT_COUNT_MAX */
};

static double seconds(const struct progress *p)
{
    return (double)(pgqrs_mono_ms() - p->began_ms) / 1000;
}

static bool capped(int64_t count)
{
    return count >= WAIT_COUNT_MAX;
}

/* Rewrites its line on a terminal; elsewhere a line a second when it says something new. */
static bool print_progress(struct progress *p, bool last)
{
    int64_t now = pgqrs_mono_ms();
    bool changed = !p->printed_before || p->now.leased != p->printed.leased ||
                   p->now.pending != p->printed.pending;
    bool due = last || !p->printed_before || now - p->printed_ms >= PRINT_EVERY_MS;
    char waiting[24];
    char running[24];
    if (p->cli->json || (!p->terminal && !(changed && due))) {
        return true;
    }
    (void)printf("%swaiting %s  running %s  %.0f s%s%s", p->terminal ? "\r" : "",
                 pgqrs_cli_count(p->now.pending, capped(p->now.pending), waiting),
                 pgqrs_cli_count(p->now.leased, capped(p->now.leased), running), seconds(p),
                 p->terminal ? "\033[K" : "", !p->terminal || last ? "\n" : "");
    p->printed = p->now;
    p->printed_ms = now;
    p->printed_before = true;
    return pgqrs_output_flush();
}

static void print_json(const struct progress *p, bool timed_out)
{
    struct pgqrs_json json = {0};
    pgqrs_json_begin(&json, NULL, '{');
    pgqrs_json_text(&json, "name", p->name);
    pgqrs_json_integer(&json, "waiting", p->now.pending);
    pgqrs_json_integer(&json, "running", p->now.leased);
    pgqrs_json_begin(&json, "capped", '[');
    if (capped(p->now.pending)) {
        pgqrs_json_text(&json, NULL, "waiting");
    }
    if (capped(p->now.leased)) {
        pgqrs_json_text(&json, NULL, "running");
    }
    pgqrs_json_end(&json, ']');
    pgqrs_json_real(&json, "seconds", seconds(p));
    pgqrs_json_boolean(&json, "timed_out", timed_out);
    pgqrs_json_end(&json, '}');
}

static int look(struct progress *p, int64_t queue_id)
{
    struct pgqrs_cli_retry retry = {0};
    struct pgqrs_error err;
    int rc;
    do {
        rc = pgqrs_store_queue_metrics(p->cli->store, queue_id, WAIT_COUNT_MAX, &p->now, &err);
    } while (rc < 0 && pgqrs_cli_again(&retry, &err));
    return rc < 0 ? pgqrs_cli_fail(&err) : PGQRS_CLI_OK;
}

static int end(struct progress *p, bool timed_out)
{
    if (!print_progress(p, true)) {
        return PGQRS_CLI_FAILURE;
    }
    if (p->cli->json) {
        print_json(p, timed_out);
    }
    if (timed_out) {
        char waiting[24];
        char running[24];
        pgqrs_cli_error("queue \"%s\": timed out, waiting %s, running %s", p->name,
                        pgqrs_cli_count(p->now.pending, capped(p->now.pending), waiting),
                        pgqrs_cli_count(p->now.leased, capped(p->now.leased), running));
        return PGQRS_CLI_FAILURE;
    }
    return PGQRS_CLI_OK;
}

/* timeout_ms -1: none. */
static int wait_for(struct progress *p, int64_t queue_id, int64_t timeout_ms)
{
    for (;;) {
        int64_t looked_ms = pgqrs_mono_ms();
        int status = look(p, queue_id);
        if (status != PGQRS_CLI_OK) {
            return status;
        }
        int64_t now = pgqrs_mono_ms();
        int64_t left = timeout_ms < 0 ? INT32_MAX : p->began_ms + timeout_ms - now;
        if (p->now.pending == 0 && p->now.leased == 0) {
            return end(p, false);
        }
        if (left <= 0) {
            return end(p, true);
        }
        if (!print_progress(p, false)) {
            return PGQRS_CLI_FAILURE;
        }
        int64_t pause = (now - looked_ms) * LOOK_SHARE;
        pause = pause < LOOK_EVERY_MS ? LOOK_EVERY_MS : pause;
        pause = pause < left ? pause : left;
        (void)poll(NULL, 0, (int)pause);
    }
}

int pgqrs_cmd_queue_wait(struct pgqrs_cli *cli)
{
    struct progress p = {.cli = cli, .name = cli->words[0], .terminal = isatty(STDOUT_FILENO) == 1};
    int64_t timeout_ms;
    int64_t id;
    if (pgqrs_cli_duration(cli, PGQRS_OPT_TIMEOUT, -1, &timeout_ms) < 0) {
        return PGQRS_CLI_USAGE;
    }
    int status = pgqrs_cli_open(cli);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_find_queue(cli, p.name, &id);
    }
    p.began_ms = pgqrs_mono_ms();
    return status == PGQRS_CLI_OK ? wait_for(&p, id, timeout_ms) : status;
}
