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

struct progress {
    struct pgqrs_cli *cli;
    const char *name;
    bool terminal, printed_before;
    int64_t began_ms;
    struct pgqrs_queue_metrics now, printed; /* counted up to 1 */
};

static double seconds(const struct progress *p)
{
    return (double)(pgqrs_mono_ms() - p->began_ms) / 1000;
}

/* Rewrites its line on a terminal; elsewhere a line when it says something new. */
static bool print_progress(struct progress *p, bool last)
{
    bool changed = !p->printed_before || p->now.leased != p->printed.leased ||
                   p->now.pending != p->printed.pending;
    if (p->cli->json || (!p->terminal && !changed)) {
        return true;
    }
    (void)printf("%s%s, %s  %.0f s%s%s", p->terminal ? "\r" : "",
                 p->now.pending > 0 ? "jobs wait" : "nothing waits",
                 p->now.leased > 0 ? "jobs run" : "nothing runs", seconds(p),
                 p->terminal ? "\033[K" : "", !p->terminal || last ? "\n" : "");
    p->printed = p->now;
    p->printed_before = true;
    return pgqrs_output_flush();
}

static void print_json(const struct progress *p, bool timed_out)
{
    struct pgqrs_json json = {0};
    pgqrs_json_begin(&json, NULL, '{');
    pgqrs_json_text(&json, "name", p->name);
    pgqrs_json_boolean(&json, "waiting", p->now.pending > 0);
    pgqrs_json_boolean(&json, "running", p->now.leased > 0);
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
        rc = pgqrs_store_queue_metrics(p->cli->store, queue_id, 1, &p->now, &err);
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
        pgqrs_cli_error("queue \"%s\": timed out, %s", p->name,
                        p->now.pending == 0  ? "jobs run"
                        : p->now.leased == 0 ? "jobs wait"
                                             : "jobs wait and run");
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
