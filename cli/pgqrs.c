/* SPDX-License-Identifier: Apache-2.0 */
/* pgqrs: the command line. See pgqrs(1). */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/process.h"
#include "base/units.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "config/config.h"

#define BUSY_MS 5000
#define LOCAL_CONFIG "pgqrs.yaml"

static const struct {
    const char *name, *value, *help; /* value null: the option has none */
    char letter;                     /* 0: none */
} options[PGQRS_OPT_COUNT] = {
    [PGQRS_OPT_DSN] = {"dsn", "DSN", "the store, such as sqlite:queue.db", 0},
    [PGQRS_OPT_CONFIG] = {"config", "FILE", "take the store from the dsn in this file", 0},
    [PGQRS_OPT_OUTPUT] = {"output", "FORMAT", "table (the default) or json", 'o'},
    [PGQRS_OPT_HELP] = {"help", NULL, "print this, then exit", 'h'},
    [PGQRS_OPT_VERSION] = {"version", NULL, "print the version, then exit", 'V'},
    [PGQRS_OPT_DELAY] = {"delay", "D", "run them not before this time has passed, such as 5m", 0},
    [PGQRS_OPT_PRIORITY] = {"priority", "N", "bigger is served first; default 0", 0},
    [PGQRS_OPT_BATCH] = {"batch", "N", "lines a transaction, 1 to 100000; default 1000", 0},
    [PGQRS_OPT_WRAP] = {"wrap", "KEY", "the payload is text, and becomes {\"KEY\": \"text\"}", 0},
    [PGQRS_OPT_QUEUE] = {"queue", "Q", "only of this queue", 0},
    [PGQRS_OPT_STATE] = {"state", "S", "only those in this state", 0},
    [PGQRS_OPT_OUTCOME] = {"outcome", "O", "only done, failed or cancelled ones", 0},
    [PGQRS_OPT_LIMIT] = {"limit", "N", "at most so many, 1 to 1000; default 20", 0},
    [PGQRS_OPT_BEFORE] = {"before", "ID", "only with smaller ids: the next page", 0},
    [PGQRS_OPT_TIMEOUT] = {"timeout", "D", "give up after this time", 0},
    [PGQRS_OPT_SCHEMA] = {"schema", "NAME", "PostgreSQL: where the tables are; default public", 0},
    [PGQRS_OPT_WATCH] = {"watch", "[=SECONDS]", "again and again until a signal; default 2", 0},
    [PGQRS_OPT_YES] = {"yes", NULL, "do not ask before anything is destroyed", 0},
    [PGQRS_OPT_ALL] = {"all", NULL, "all there are, not a page or a queue of them", 0},
    [PGQRS_OPT_WORKER] = {"worker", "ID", "only those that this worker holds or has ended", 0},
    [PGQRS_OPT_KEY] = {"key", "KEY", "only those with this unique key", 0},
    [PGQRS_OPT_UNIQUE_KEY] = {"unique-key", "KEY", "not if a live message of the queue has it", 0},
    [PGQRS_OPT_AT] = {"at", "TIME", "run them at this time, such as 2027-01-31T12:00:00Z", 0},
    [PGQRS_OPT_WHAT] = {"what", "W", "archived, pending, leased or all, with commas", 0},
    [PGQRS_OPT_EXACT] = {"exact", NULL, "count everything; else counts stop at 100000", 0},
    [PGQRS_OPT_OLDER_THAN] = {"older-than", "D", "only those ended longer ago, such as 7d", 0},
    [PGQRS_OPT_SOCKET] = {"socket", "PATH", "the control socket of that pgqrsd", 0},
    [PGQRS_OPT_ISOLATED] = {"isolated", NULL, "in a worker of its own; has to be given", 0},
    [PGQRS_OPT_WAIT] = {"wait", "[=D]", "until it has ended, or for this time", 0},
    [PGQRS_OPT_WORKFLOW] = {"workflow", "NAME", "only of this workflow", 0},
    [PGQRS_OPT_STATUS] = {"status", "S", "only those with this status", 0},
    [PGQRS_OPT_FROM] = {"from", "STEP", "run this step and those after it again", 0},
    [PGQRS_OPT_INPUT] = {"input", "JSON", "another input; @FILE or - as well", 0},
    [PGQRS_OPT_CRON] = {"cron", "EXPR", "when, such as '30 2 * * *'; see pgqrs-cron(5)", 0},
    [PGQRS_OPT_ZONE] = {"zone", "ZONE", "its time zone, such as Europe/Berlin; default UTC", 0},
    [PGQRS_OPT_PAYLOAD] = {"payload", "JSON", "the payload or input; @FILE or - as well", 0},
    [PGQRS_OPT_CATCH_UP] = {"catch-up", "P", "times that nobody saw: skip (default), once, all", 0},
    [PGQRS_OPT_OVERLAP] = {"overlap", "P", "allow (default), or skip while the last has not ended",
                           0},
    [PGQRS_OPT_NOW] = {"now", NULL, "do not wait for running jobs: they are returned", 0},
    [PGQRS_OPT_NO_WAIT] = {"no-wait", NULL, "do not wait until it has ended", 0},
    [PGQRS_OPT_COUNT_OF] = {"count", "N", "so many, 1 to 1000; default 5", 'n'},
    [PGQRS_OPT_INTERVAL] = {"interval", "D", "look again after this time; default 1s", 0},
};

#define GLOBAL                                                                                     \
    (PGQRS_OPT(DSN) | PGQRS_OPT(SCHEMA) | PGQRS_OPT(CONFIG) | PGQRS_OPT(OUTPUT) |                  \
     PGQRS_OPT(HELP) | PGQRS_OPT(VERSION))

const char *pgqrs_cli_option_name(enum pgqrs_cli_option option)
{
    return options[option].name;
}

/* ---- help ---- */

static void print_options(FILE *out, uint64_t which)
{
    for (int i = 0; i < PGQRS_OPT_COUNT; i++) {
        char left[40];
        char letter[5] = "    ";
        if ((which & UINT64_C(1) << i) == 0) {
            continue;
        }
        if (options[i].letter != 0) {
            (void)snprintf(letter, sizeof letter, "-%c, ", options[i].letter);
        }
        (void)snprintf(left, sizeof left, "%s--%s%s%s", letter, options[i].name,
                       options[i].value && options[i].value[0] != '[' ? " " : "",
                       options[i].value ? options[i].value : "");
        (void)fprintf(out, "  %-22s %s\n", left, options[i].help);
    }
}

/* As it is typed: "queue list", "doctor". */
static const char *typed(const struct pgqrs_cli_command *c, char out[64])
{
    (void)snprintf(out, 64, "%s%s%s", c->group, *c->name != 0 ? " " : "", c->name);
    return out;
}

/* group null: all commands. */
static void print_commands(FILE *out, const char *group)
{
    (void)fprintf(out, "usage: pgqrs [OPTIONS] %s COMMAND\n\n", group ? group : "GROUP");
    for (size_t i = 0; i < pgqrs_cli_command_count; i++) {
        const struct pgqrs_cli_command *c = &pgqrs_cli_commands[i];
        char name[64];
        char left[128];
        if (group == NULL || strcmp(group, c->group) == 0) {
            (void)snprintf(left, sizeof left, "%s %s", typed(c, name), c->words);
            (void)fprintf(out, "  %-40s %s\n", left, c->help);
        }
    }
    (void)fprintf(out, "\noptions, which may stand anywhere:\n");
    print_options(out, GLOBAL);
    (void)fprintf(out,
                  "\nThe store: --dsn, else $PGQRS_DSN or the file $PGQRS_DSN_FILE, else the dsn\n"
                  "in --config, in $PGQRS_CONFIG_FILE, in ./" LOCAL_CONFIG
                  " or in\n" PGQRS_SYSTEM_CONFIG ".\n"
                  "exit: 0 done, 1 failure, 2 usage, 69 store unavailable, 75 not "
                  "ended yet,\n78 bad configuration\n");
}

static void print_command(FILE *out, const struct pgqrs_cli_command *c)
{
    char name[64];
    (void)fprintf(out, "usage: pgqrs [OPTIONS] %s %s\n\n%c%s.\n", typed(c, name), c->words,
                  c->help[0] - 'a' + 'A', c->help + 1);
    if (c->more != NULL) {
        (void)fprintf(out, "%s", c->more);
    }
    (void)fprintf(out, "\noptions:\n");
    print_options(out, c->options);
    print_options(out, GLOBAL);
}

/* ---- parsing ---- */

static int bad_option(int c, const char *word)
{
    if (c == ':') {
        return pgqrs_cli_usage("option %s: found no value, expected one", word);
    }
    if (strncmp(word, "--", 2) != 0) {
        return pgqrs_cli_usage("option -%c is unknown; see pgqrs --help", optopt);
    }
    return pgqrs_cli_usage("option %s is unknown%s; see pgqrs --help", word,
                           strchr(word, '=') ? ", or takes no value" : "");
}

/* The time of --wait may be a word of its own: none that a command takes looks like one. */
static const char *wait_value(int argc, char **argv)
{
    int64_t ms;
    if (optind < argc && strspn(argv[optind], "0123456789") < strlen(argv[optind]) &&
        pgqrs_duration_parse(argv[optind], &ms, NULL) == 0) {
        return argv[optind++];
    }
    return "";
}

static int parse_options(struct pgqrs_cli *cli, int argc, char **argv)
{
    struct option longs[PGQRS_OPT_COUNT + 1] = {0};
    for (int i = 0; i < PGQRS_OPT_COUNT; i++) {
        int id = options[i].letter != 0 ? options[i].letter : 256 + i;
        int has = options[i].value == NULL     ? no_argument
                  : options[i].value[0] == '[' ? optional_argument
                                               : required_argument;
        longs[i] = (struct option){options[i].name, has, NULL, id};
    }
    opterr = 0;
    int c;
    while ((c = getopt_long(argc, argv, ":o:n:hV", longs, NULL)) != -1) {
        if (c == ':' || c == '?') {
            return bad_option(c, argv[optind - 1]);
        }
        for (int i = 0; i < PGQRS_OPT_COUNT; i++) {
            if (c == longs[i].val) {
                cli->options[i] = optarg != NULL        ? optarg
                                  : i == PGQRS_OPT_WAIT ? wait_value(argc, argv)
                                                        : "";
            }
        }
    }
    const char *output = cli->options[PGQRS_OPT_OUTPUT];
    if (output != NULL && strcmp(output, "table") != 0 && strcmp(output, "json") != 0) {
        return pgqrs_cli_usage("--output: found \"%s\", expected table or json", output);
    }
    cli->json = output != NULL && strcmp(output, "json") == 0;
    return PGQRS_CLI_OK;
}

static const struct pgqrs_cli_command *find_command(const char *group, const char *name)
{
    for (size_t i = 0; group != NULL && i < pgqrs_cli_command_count; i++) {
        const struct pgqrs_cli_command *c = &pgqrs_cli_commands[i];
        if (strcmp(group, c->group) == 0 && (name == NULL || strcmp(name, c->name) == 0)) {
            return c;
        }
    }
    return NULL;
}

/* The command that is a group of its own, or null. */
static const struct pgqrs_cli_command *find_single(const char *group)
{
    return find_command(group, "");
}

/* Which command, or what is wrong with the words. */
static int parse_words(struct pgqrs_cli *cli, const struct pgqrs_cli_command **command_out)
{
    const char *group = cli->word_count > 0 ? cli->words[0] : NULL;
    const char *name = cli->word_count > 1 ? cli->words[1] : NULL;
    if (group == NULL) {
        print_commands(stderr, NULL);
        return PGQRS_CLI_USAGE;
    }
    if (find_command(group, NULL) == NULL) {
        return pgqrs_cli_usage(
            "found \"%s\", expected admin, queue, message, dlq, workflow, run, schedule, worker, "
            "ctl, doctor or top; see pgqrs --help",
            group);
    }
    const struct pgqrs_cli_command *c = find_single(group);
    size_t own = c != NULL ? 1 : 2;
    char full[64];
    if (c == NULL && name == NULL) {
        print_commands(stderr, group);
        return PGQRS_CLI_USAGE;
    }
    c = c != NULL ? c : find_command(group, name);
    if (c == NULL) {
        return pgqrs_cli_usage("%s has no command \"%s\"; see pgqrs %s --help", group, name, group);
    }
    (void)typed(c, full);
    cli->words += own;
    cli->word_count -= own;
    if (cli->word_count < c->min_words || cli->word_count > c->max_words) {
        return pgqrs_cli_usage("%s: found %zu word%s, expected: %s; see pgqrs %s --help", full,
                               cli->word_count, cli->word_count == 1 ? "" : "s",
                               c->words[0] ? c->words : "none", full);
    }
    for (int i = 0; i < PGQRS_OPT_COUNT; i++) {
        if (cli->options[i] != NULL && ((c->options | GLOBAL) & UINT64_C(1) << i) == 0) {
            return pgqrs_cli_usage("%s has no option --%s; see pgqrs %s --help", full,
                                   options[i].name, full);
        }
    }
    *command_out = c;
    return PGQRS_CLI_OK;
}

static int help(const struct pgqrs_cli *cli)
{
    const char *group = cli->word_count > 0 ? cli->words[0] : NULL;
    const struct pgqrs_cli_command *command =
        cli->word_count > 1 ? find_command(group, cli->words[1]) : find_single(group);
    if (command != NULL) {
        print_command(stdout, command);
    } else {
        print_commands(stdout, find_command(group, NULL) != NULL ? group : NULL);
    }
    return pgqrs_output_flush() ? PGQRS_CLI_OK : PGQRS_CLI_FAILURE;
}

/* ---- running ---- */

const char *pgqrs_cli_config(const struct pgqrs_cli *cli)
{
    const char *flag = cli->options[PGQRS_OPT_CONFIG];
    const char *variable = getenv("PGQRS_CONFIG_FILE");
    bool none = flag == NULL && (variable == NULL || *variable == 0);
    return none && access(LOCAL_CONFIG, F_OK) == 0 ? LOCAL_CONFIG : flag;
}

static bool is_set(const char *variable)
{
    const char *value = getenv(variable);
    return value != NULL && *value != 0;
}

const char *pgqrs_cli_store_config(const struct pgqrs_cli *cli)
{
    const char *config = pgqrs_cli_config(cli);
    bool named = config != NULL || cli->options[PGQRS_OPT_DSN] != NULL ||
                 is_set("PGQRS_CONFIG_FILE") || is_set("PGQRS_DSN") || is_set("PGQRS_DSN_FILE");
    return !named && access(PGQRS_SYSTEM_CONFIG, R_OK) == 0 ? PGQRS_SYSTEM_CONFIG : config;
}

int pgqrs_cli_open(struct pgqrs_cli *cli)
{
    struct pgqrs_store_options how = {
        .create = cli->create, .synchronous_full = true, .busy_ms = BUSY_MS};
    const char *config = pgqrs_cli_store_config(cli);
    struct pgqrs_cli_retry retry = {0};
    struct pgqrs_error err;
    char *dsn = NULL;
    char *schema = NULL;
    int rc;
    if (cli->store != NULL) {
        return PGQRS_CLI_OK; /* it is watching */
    }
    if (pgqrs_config_find_dsn(cli->options[PGQRS_OPT_DSN], config, &dsn, &err) < 0 ||
        pgqrs_config_find_schema(cli->options[PGQRS_OPT_SCHEMA], config, &schema, &err) < 0) {
        free(dsn);
        return pgqrs_cli_fail(&err);
    }
    how.schema = schema;
    do {
        rc = pgqrs_store_open(dsn, &how, &cli->store, &err);
    } while (rc < 0 && pgqrs_cli_again(&retry, &err));
    free(dsn);
    free(schema);
    if (rc == 0) {
        return PGQRS_CLI_OK;
    }
    int status = pgqrs_cli_fail(&err);
    if (err.sys_errno == ENOENT && !cli->create) {
        pgqrs_cli_error("to create it: pgqrs admin install");
    }
    return status;
}

static int run(struct pgqrs_cli *cli)
{
    const struct pgqrs_cli_command *command = NULL;
    int status = parse_words(cli, &command);
    if (status == PGQRS_CLI_OK && command != NULL) {
        cli->create = command->create;
        status = cli->options[PGQRS_OPT_WATCH] != NULL ? pgqrs_cli_watch(cli, command->run)
                                                       : command->run(cli);
    }
    if (!pgqrs_output_flush() && status == PGQRS_CLI_OK) {
        status = PGQRS_CLI_FAILURE;
    }
    pgqrs_store_close(&cli->store);
    return status;
}

int main(int argc, char **argv)
{
    struct pgqrs_cli cli = {0};
    pgqrs_process_fill_standard_descriptors();
    int status = parse_options(&cli, argc, argv);
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    cli.words = (const char *const *)(argv + optind);
    cli.word_count = (size_t)(argc - optind);
    if (cli.options[PGQRS_OPT_HELP] != NULL) {
        return help(&cli);
    }
    if (cli.options[PGQRS_OPT_VERSION] != NULL) {
        (void)printf("pgqrs " PGQRS_VERSION "\n");
        return pgqrs_output_flush() ? PGQRS_CLI_OK : PGQRS_CLI_FAILURE;
    }
    return run(&cli);
}
