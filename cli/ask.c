/* SPDX-License-Identifier: Apache-2.0 */
/* What goes on between a command and the person who runs it: asking, progress, watching, times. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/units.h"
#include "cli/cli.h"
#include "cli/output.h"

#define PROGRESS_EVERY_MS 2000
#define WATCH_DEFAULT_MS 2000
#define WATCH_MIN_MS 100
#define WATCH_MAX_MS (24 * 3600 * INT64_C(1000))

/* ---- asking ---- */

int pgqrs_cli_may_ask(const struct pgqrs_cli *cli)
{
    if (cli->options[PGQRS_OPT_YES] != NULL || isatty(STDIN_FILENO) == 1) {
        return PGQRS_CLI_OK;
    }
    return pgqrs_cli_usage("found neither --yes nor a terminal to ask at, expected one of them: "
                           "this destroys data");
}

int pgqrs_cli_confirm(const struct pgqrs_cli *cli, const char *fmt, ...)
{
    char text[1024];
    struct pgqrs_buf shown = {0};
    va_list args;
    if (cli->options[PGQRS_OPT_YES] != NULL) {
        return PGQRS_CLI_OK;
    }
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    pgqrs_show(&shown, text);
    (void)fflush(stdout);
    (void)fprintf(stderr, "%.*s? [y/N] ", (int)shown.len, (const char *)shown.data);
    (void)fflush(stderr);
    pgqrs_buf_fini(&shown);
    char answer[16] = "";
    bool yes =
        fgets(answer, sizeof answer, stdin) != NULL &&
        (strcmp(answer, "y\n") == 0 || strcmp(answer, "Y\n") == 0 || strcmp(answer, "yes\n") == 0);
    if (!yes) {
        pgqrs_cli_error("nothing was changed");
    }
    return yes ? PGQRS_CLI_OK : PGQRS_CLI_FAILURE;
}

void pgqrs_cli_progress(struct pgqrs_cli_progress *progress, int64_t count, const char *what)
{
    int64_t now = pgqrs_mono_ms();
    if (progress->printed_ms == 0) {
        progress->printed_ms = now;
    } else if (now - progress->printed_ms >= PROGRESS_EVERY_MS) {
        progress->printed_ms = now;
        pgqrs_cli_error("%" PRId64 " %s so far", count, what);
    }
}

/* ---- watching ---- */

static volatile sig_atomic_t asked_to_end;

static void on_signal(int signal)
{
    (void)signal;
    asked_to_end = 1;
}

static int watch_interval(const struct pgqrs_cli *cli, int64_t *ms_out)
{
    const char *text = cli->options[PGQRS_OPT_WATCH];
    struct pgqrs_error err;
    *ms_out = WATCH_DEFAULT_MS;
    if (*text == 0) {
        return PGQRS_CLI_OK;
    }
    if (text[strspn(text, "0123456789")] == 0 &&
        pgqrs_integer_parse(text, 1, WATCH_MAX_MS / 1000, ms_out, &err) == 0) {
        *ms_out *= 1000;
    } else if (pgqrs_duration_parse(text, ms_out, &err) < 0 || *ms_out < WATCH_MIN_MS ||
               *ms_out > WATCH_MAX_MS) {
        return pgqrs_cli_usage("--watch: found \"%s\", expected seconds, or a duration from 100ms "
                               "to 1d",
                               text);
    }
    return PGQRS_CLI_OK;
}

/* True when a signal has come before the time was over. */
static bool rest(int64_t ms, const sigset_t *awake)
{
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    if (asked_to_end == 0) {
        (void)ppoll(NULL, 0, &time, awake);
    }
    return asked_to_end != 0;
}

int pgqrs_cli_watch(struct pgqrs_cli *cli, int (*run)(struct pgqrs_cli *cli))
{
    /* The second signal ends the program even when a call to the store does not return. */
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    bool terminal = !cli->json && isatty(STDOUT_FILENO) == 1;
    bool first = true;
    sigset_t ends;
    sigset_t awake;
    int64_t every_ms;
    int status = watch_interval(cli, &every_ms);
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    (void)sigemptyset(&ends);
    (void)sigaddset(&ends, SIGINT);
    (void)sigaddset(&ends, SIGTERM);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)setvbuf(stdout, NULL, _IOFBF, 64 * 1024);
    for (;;) {
        if (terminal) {
            (void)printf("\033[H\033[J");
        } else if (!first && !cli->json) {
            (void)printf("\n");
        }
        first = false;
        status = run(cli);
        if (asked_to_end != 0) {
            return PGQRS_CLI_OK;
        }
        if (status != PGQRS_CLI_OK || !pgqrs_output_flush()) {
            return status != PGQRS_CLI_OK ? status : PGQRS_CLI_FAILURE;
        }
        (void)sigprocmask(SIG_BLOCK, &ends, &awake);
        bool end = rest(every_ms, &awake);
        (void)sigprocmask(SIG_SETMASK, &awake, NULL);
        if (end) {
            return PGQRS_CLI_OK;
        }
    }
}

/* ---- times ---- */

/* "Z", "+02:00", "-11:30": seconds east of Greenwich. */
static bool parse_zone(const char *text, int64_t *seconds_out)
{
    if (strcmp(text, "Z") == 0 || strcmp(text, "z") == 0) {
        *seconds_out = 0;
        return true;
    }
    for (size_t i = 0; i < 6; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';
        if (i == 0 ? text[i] != '+' && text[i] != '-' : i == 3 ? text[i] != ':' : !digit) {
            return false;
        }
    }
    int hours = (text[1] - '0') * 10 + text[2] - '0';
    int minutes = (text[4] - '0') * 10 + text[5] - '0';
    *seconds_out = (hours * 60 + minutes) * (text[0] == '-' ? -60 : 60);
    return text[6] == 0 && hours < 24 && minutes < 60;
}

int pgqrs_cli_time(const struct pgqrs_cli *cli, enum pgqrs_cli_option option, int64_t *us_out)
{
    const char *text = cli->options[option];
    char local[40];
    int64_t east = 0;
    *us_out = 0;
    if (text == NULL) {
        return 0;
    }
    size_t len = strcspn(text, "Zz+");
    const char *minus = strlen(text) > 19 ? strchr(text + 19, '-') : NULL;
    len = minus != NULL ? (size_t)(minus - text) : len;
    (void)snprintf(local, sizeof local, "%.*s", (int)(len < 39 ? len : 39), text);
    bool right = len >= 19 && len < sizeof local && strchr("Tt ", local[10]) != NULL &&
                 parse_zone(text + len, &east);
    local[10] = ' ';
    if (!right || pgqrs_timestamp_parse(local, us_out, NULL) < 0 ||
        (*us_out -= east * 1000000) <= 0) {
        pgqrs_cli_error("--%s: found \"%s\", expected a time since 1970 with its zone, such as "
                        "2027-01-31T12:00:00Z or 2027-01-31T12:00:00+01:00",
                        pgqrs_cli_option_name(option), text);
        return -1;
    }
    return 0;
}
