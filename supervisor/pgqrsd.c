/* SPDX-License-Identifier: Apache-2.0 */
/* pgqrsd: runs handlers as job processors. See pgqrsd(8). */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/process.h"
#include "config/config.h"
#include "supervisor/check.h"
#include "supervisor/supervisor.h"

#define GRACE_VARIABLE "PGQRS_GRACE_PERIOD"

static void usage(FILE *out)
{
    (void)fprintf(
        out,
        "usage: pgqrsd [-c FILE] [--check [--grace DURATION]]\n"
        "\n"
        "Runs the handlers that FILE names as workers on their queues.\n"
        "\n"
        "  -c, --config FILE  configuration; else $PGQRS_CONFIG_FILE, else " PGQRS_SYSTEM_CONFIG
        "\n"
        "      --check        check the configuration, plugins, store and host, then exit:\n"
        "                     0 when a start would go well, 1 when something was found\n"
        "      --grace DURATION  with --check: how long pgqrsd is given to end before it is\n"
        "                     killed; else $PGQRS_GRACE_PERIOD; a bare number counts seconds\n"
        "      --settings     print every setting with its default, then exit\n"
        "  -V, --version      print the version, then exit\n"
        "  -h, --help         print this, then exit\n"
        "\n"
        "signals: TERM, INT finish running jobs and stop (a second INT: at once);\n"
        "         QUIT stop at once, running jobs go back to the queue;\n"
        "         TTIN, TTOU one worker more or fewer for every queue;\n"
        "         HUP take the configuration anew;\n"
        "         USR1 debug logging on or off; USR2 write the state of every process to the log\n"
        "exit:    0 clean, 1 failure, 2 usage, 69 store unavailable,\n"
        "         75 stopped, but running jobs had to be given back, 78 bad configuration\n");
}

/* What the command line asks for: run, or a status to exit with at once. */
struct options {
    const char *config;
    bool check;
    const char *grace, *grace_from; /* null: not said */
    int exit_status;                /* -1: run */
};

static struct options parse_options(int argc, char **argv)
{
    static const struct option longs[] = {{"config", required_argument, NULL, 'c'},
                                          {"check", no_argument, NULL, 'k'},
                                          {"grace", required_argument, NULL, 'g'},
                                          {"settings", no_argument, NULL, 's'},
                                          {"version", no_argument, NULL, 'V'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    const char *from_environment = getenv("PGQRS_CONFIG_FILE");
    struct options o = {.config = from_environment ? from_environment : PGQRS_SYSTEM_CONFIG,
                        .exit_status = -1};
    int c;
    while (o.exit_status < 0 && (c = getopt_long(argc, argv, "c:Vh", longs, NULL)) != -1) {
        switch (c) {
        case 'c':
            o.config = optarg;
            break;
        case 'k':
            o.check = true;
            break;
        case 'g':
            o.grace = optarg;
            o.grace_from = "--grace";
            break;
        case 's':
            pgqrs_config_print_settings();
            o.exit_status = PGQRS_EXIT_OK;
            break;
        case 'V':
            (void)printf("pgqrsd " PGQRS_VERSION "\n");
            o.exit_status = PGQRS_EXIT_OK;
            break;
        case 'h':
            usage(stdout);
            o.exit_status = PGQRS_EXIT_OK;
            break;
        default:
            (void)fprintf(stderr, "see pgqrsd --help\n");
            o.exit_status = PGQRS_EXIT_USAGE;
        }
    }
    if (o.exit_status < 0 && optind < argc) {
        (void)fprintf(stderr, "pgqrsd: unexpected argument \"%s\"; see pgqrsd --help\n",
                      argv[optind]);
        o.exit_status = PGQRS_EXIT_USAGE;
    }
    if (o.exit_status < 0 && o.grace != NULL && !o.check) {
        (void)fprintf(stderr, "pgqrsd: --grace is for --check\n");
        o.exit_status = PGQRS_EXIT_USAGE;
    }
    const char *variable = getenv(GRACE_VARIABLE);
    if (o.grace == NULL && variable != NULL && *variable != 0) {
        o.grace = variable;
        o.grace_from = GRACE_VARIABLE;
    }
    return o;
}

int main(int argc, char **argv)
{
    struct pgqrs_config *config = NULL;
    struct pgqrs_error err;
    pgqrs_process_fill_standard_descriptors();
    struct options o = parse_options(argc, argv);
    if (o.exit_status >= 0) {
        return o.exit_status;
    }
    if (!o.check) {
        pgqrs_supervisor_hold_signals();
    }
    pgqrs_process_close_to_others(); /* the configuration names the store's credentials */
    pgqrs_log_init("pgqrsd", PGQRS_LOG_TEXT, PGQRS_LOG_INFO);
    if (pgqrs_config_load(o.config, &config, &err) < 0) {
        pgqrs_log_error("%s", err.text);
        return PGQRS_EXIT_CONFIG;
    }
    int status = PGQRS_EXIT_OK;
    if (o.check) {
        status = pgqrs_check_run(config, o.config, o.grace, o.grace_from);
    } else {
        pgqrs_log_init("pgqrsd", config->log_format, config->log_level);
        status = pgqrs_supervisor_run(config, o.config, &err);
        if (status < 0) {
            pgqrs_log_error("%s", err.text);
            status = err.code == PGQRS_ERR_CONFIG ? PGQRS_EXIT_CONFIG : PGQRS_EXIT_FAILURE;
        }
    }
    pgqrs_config_destroy(&config);
    return status;
}
