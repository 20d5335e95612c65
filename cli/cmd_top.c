/* SPDX-License-Identifier: Apache-2.0 */
/* pgqrs top: a live view of a running pgqrsd. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/units.h"
#include "cli/output.h"
#include "cli/top_screen.h"
#include "config/config.h"

#define EVERY_MS 1000
#define EVERY_MIN_MS 100
#define EVERY_MAX_MS (3600 * INT64_C(1000))
#define TICK_MS 1000

struct top {
    struct pgqrs_top_ui ui;
    struct pgqrs_top_source *sources[PGQRS_TOP_SOURCES];
    int wake_fd;
    int64_t every_ms;
    sigset_t awake; /* signals are taken only while it waits */
};

static volatile sig_atomic_t asked_to_end;

static void on_signal(int signal)
{
    (void)signal;
    asked_to_end = 1;
}

/* Those of ncurses, for a new size and for Ctrl-Z, run only while it waits, too. */
static void take_signals(sigset_t *awake_out)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    const struct sigaction action = {.sa_handler = on_signal};
    sigset_t held;
    (void)sigemptyset(&held);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        (void)sigaddset(&held, ends[i]);
        (void)sigaction(ends[i], &action, NULL); /* can not fail: the numbers are right */
    }
    (void)sigaddset(&held, SIGWINCH);
    (void)sigaddset(&held, SIGTSTP);
    (void)sigprocmask(SIG_BLOCK, &held, awake_out);
}

/* ---- news and acts ---- */

static void take_news(struct top *top, enum pgqrs_top_of of)
{
    struct pgqrs_top_model *m = &top->ui.model;
    struct pgqrs_top_side *side = of == PGQRS_TOP_OF_PGQRSD ? &m->pgqrsd : &m->store;
    struct pgqrs_top_news news;
    if (!pgqrs_top_source_take(top->sources[of], &news, &side->asked_ms)) {
        return;
    }
    if (news.fetched && of == PGQRS_TOP_OF_PGQRSD) {
        pgqrs_top_take_status(m, news.status, &news.err, news.at_ms);
    } else if (news.fetched) {
        pgqrs_top_take_counts(m, news.counts, PGQRS_TOP_COUNT_MAX, &news.err);
        pgqrs_top_counts_free(&news.counts);
    }
    if (news.said[0] != 0 && top->ui.mode != PGQRS_TOP_ASKING) {
        memcpy(top->ui.message, news.said, sizeof top->ui.message);
    }
}

static void do_what_is_wanted(struct top *top)
{
    struct pgqrs_top_act act = top->ui.wanted;
    enum pgqrs_top_of of = act.what == PGQRS_TOP_KILL ? PGQRS_TOP_OF_PGQRSD : PGQRS_TOP_OF_STORE;
    top->ui.wanted.what = PGQRS_TOP_NOTHING;
    if (act.what != PGQRS_TOP_NOTHING && !pgqrs_top_source_do(top->sources[of], &act)) {
        (void)snprintf(top->ui.message, sizeof top->ui.message,
                       "%s is still at what was asked of it before",
                       of == PGQRS_TOP_OF_STORE ? "the store" : "pgqrsd");
    }
}

/* ---- the loop ---- */

/* A terminal that is gone is always ready and never has anything. */
static bool is_gone(const struct pollfd *terminal)
{
    int available = 0;
    return (terminal->revents & (POLLERR | POLLHUP | POLLNVAL)) != 0 ||
           ((terminal->revents & POLLIN) != 0 &&
            (ioctl(STDIN_FILENO, FIONREAD, &available) < 0 || available == 0));
}

static void wait_and_read(struct top *top)
{
    static const struct timespec tick = {.tv_sec = TICK_MS / 1000};
    struct pollfd ready[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                             {.fd = top->wake_fd, .events = POLLIN}};
    uint64_t count;
    int rc = ppoll(ready, 2, &tick, &top->awake);
    if (rc < 0) {
        top->ui.quit |= errno != EINTR;
        pgqrs_top_screen_forget(); /* it may have been stopped and have come back */
        return;
    }
    if (rc > 0 && (ready[1].revents & POLLIN) != 0) {
        (void)!read(top->wake_fd, &count, sizeof count);
    }
    if (rc > 0 && is_gone(&ready[0])) {
        top->ui.quit = true;
    }
}

static void loop(struct top *top)
{
    while (!top->ui.quit && asked_to_end == 0) {
        take_news(top, PGQRS_TOP_OF_PGQRSD);
        take_news(top, PGQRS_TOP_OF_STORE);
        pgqrs_top_screen_read(&top->ui);
        do_what_is_wanted(top);
        pgqrs_top_screen_draw(&top->ui, pgqrs_mono_ms());
        if (!top->ui.quit) {
            wait_and_read(top);
        }
    }
}

static int start(struct top *top, const struct pgqrs_cli *cli)
{
    struct pgqrs_error err;
    top->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (top->wake_fd < 0) {
        (void)pgqrs_error_sys(&err, PGQRS_ERR_FAILED, errno, "no eventfd");
        return pgqrs_cli_fail(&err);
    }
    for (int of = 0; of < PGQRS_TOP_SOURCES; of++) {
        if (pgqrs_top_source_start(cli, (enum pgqrs_top_of)of, top->every_ms, top->wake_fd,
                                   &top->sources[of], &err) < 0) {
            return pgqrs_cli_fail(&err);
        }
    }
    return PGQRS_CLI_OK;
}

/* False: a thread is in a call that does not end. */
static bool stop(struct top *top)
{
    bool stopped = true;
    for (size_t i = 0; i < PGQRS_TOP_SOURCES; i++) {
        stopped = pgqrs_top_source_stop(&top->sources[i]) && stopped;
    }
    if (stopped && top->wake_fd >= 0) {
        (void)close(top->wake_fd);
    }
    return stopped;
}

static int show(const struct pgqrs_cli *cli, int64_t every_ms)
{
    struct top top = {.wake_fd = -1, .every_ms = every_ms};
    pgqrs_top_init(&top.ui.model);
    take_signals(&top.awake);
    int status = pgqrs_top_screen_begin();
    if (status == PGQRS_CLI_OK) {
        status = start(&top, cli);
    }
    if (status == PGQRS_CLI_OK) {
        loop(&top);
    }
    pgqrs_top_screen_end();
    if (!stop(&top)) {
        (void)fflush(stdout);
        _exit(status);
    }
    pgqrs_top_fini(&top.ui.model);
    return status;
}

/* ---- once ---- */

/* Two looks, for what is done in a second takes a second. */
static int print_once(const struct pgqrs_cli *cli, int64_t every_ms)
{
    const struct timespec pause = {.tv_sec = every_ms / 1000, .tv_nsec = every_ms % 1000 * 1000000};
    struct pgqrs_top_model m;
    struct pgqrs_store *store = NULL;
    struct pgqrs_error err;
    pgqrs_top_init(&m);
    json_t *status = pgqrs_top_fetch_status(cli, &err);
    pgqrs_top_take_status(&m, status, &err, pgqrs_mono_ms());
    if (status != NULL) {
        (void)nanosleep(&pause, NULL);
        status = pgqrs_top_fetch_status(cli, &err);
        pgqrs_top_take_status(&m, status, &err, pgqrs_mono_ms());
    }
    struct pgqrs_top_counts *counts = pgqrs_top_fetch_counts(cli, &store, &err);
    pgqrs_top_take_counts(&m, counts, PGQRS_TOP_COUNT_MAX, &err);
    pgqrs_top_print_json(&m);
    bool nothing = !m.pgqrsd.up && !m.store.up;
    pgqrs_top_counts_free(&counts);
    pgqrs_store_close(&store);
    pgqrs_top_fini(&m);
    return nothing ? PGQRS_CLI_UNAVAILABLE : PGQRS_CLI_OK;
}

/* A file that can not be read is told at once; a pgqrsd or a store that is not there is waited
 * for. */
static int check_config(const struct pgqrs_cli *cli)
{
    struct pgqrs_error err;
    char *name = NULL;
    char *dir = NULL;
    if (pgqrs_config_find_runtime(pgqrs_cli_config(cli), &name, &dir, &err) < 0) {
        return pgqrs_cli_fail(&err);
    }
    free(name);
    free(dir);
    return PGQRS_CLI_OK;
}

int pgqrs_cmd_top(struct pgqrs_cli *cli)
{
    int64_t every_ms;
    if (pgqrs_cli_duration(cli, PGQRS_OPT_INTERVAL, EVERY_MS, &every_ms) < 0) {
        return PGQRS_CLI_USAGE;
    }
    if (every_ms < EVERY_MIN_MS || every_ms > EVERY_MAX_MS) {
        return pgqrs_cli_usage("--interval: found \"%s\", expected 100ms to 1h",
                               cli->options[PGQRS_OPT_INTERVAL]);
    }
    int status = check_config(cli);
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    return cli->json ? print_once(cli, every_ms) : show(cli, every_ms);
}
