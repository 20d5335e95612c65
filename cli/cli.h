/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CLI_CLI_H
#define PGQRS_CLI_CLI_H

/*
 * What the commands of pgqrs share. A command is a row of pgqrs_cli_commands; it gets its words and
 * options, opens the store, and returns the exit status. Errors are printed as they happen, to
 * standard error.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "store/store.h"

enum pgqrs_cli_exit {
    PGQRS_CLI_OK = 0,
    PGQRS_CLI_FAILURE = 1,
    PGQRS_CLI_USAGE = 2,
    PGQRS_CLI_UNAVAILABLE = 69,
    PGQRS_CLI_NOT_ENDED = 75, /* a run whose result was asked for */
    PGQRS_CLI_CONFIG = 78,
};

enum pgqrs_cli_option { /* rows of the table in pgqrs.c */
                        PGQRS_OPT_DSN = 0,
                        PGQRS_OPT_CONFIG,
                        PGQRS_OPT_OUTPUT,
                        PGQRS_OPT_HELP,
                        PGQRS_OPT_VERSION,
                        PGQRS_OPT_DELAY,
                        PGQRS_OPT_PRIORITY,
                        PGQRS_OPT_BATCH,
                        PGQRS_OPT_WRAP,
                        PGQRS_OPT_QUEUE,
                        PGQRS_OPT_STATE,
                        PGQRS_OPT_OUTCOME,
                        PGQRS_OPT_LIMIT,
                        PGQRS_OPT_BEFORE,
                        PGQRS_OPT_TIMEOUT,
                        PGQRS_OPT_SCHEMA,
                        PGQRS_OPT_WATCH,
                        PGQRS_OPT_YES,
                        PGQRS_OPT_ALL,
                        PGQRS_OPT_WORKER,
                        PGQRS_OPT_KEY,
                        PGQRS_OPT_UNIQUE_KEY,
                        PGQRS_OPT_AT,
                        PGQRS_OPT_WHAT,
                        PGQRS_OPT_EXACT,
                        PGQRS_OPT_OLDER_THAN,
                        PGQRS_OPT_SOCKET,
                        PGQRS_OPT_ISOLATED,
                        PGQRS_OPT_WAIT,
                        PGQRS_OPT_WORKFLOW,
                        PGQRS_OPT_STATUS,
                        PGQRS_OPT_FROM,
                        PGQRS_OPT_INPUT,
                        PGQRS_OPT_CRON,
                        PGQRS_OPT_ZONE,
                        PGQRS_OPT_PAYLOAD,
                        PGQRS_OPT_CATCH_UP,
                        PGQRS_OPT_OVERLAP,
                        PGQRS_OPT_COUNT_OF,
                        PGQRS_OPT_NOW,
                        PGQRS_OPT_NO_WAIT,
                        PGQRS_OPT_INTERVAL,
                        PGQRS_OPT_COUNT
};
#define PGQRS_OPT(name) (UINT64_C(1) << PGQRS_OPT_##name)

struct pgqrs_cli {
    const char *options[PGQRS_OPT_COUNT]; /* null: not given; without a value: "" */
    const char *const *words;             /* after the command's own two */
    size_t word_count;
    bool json;
    bool create;               /* make the database file when there is none */
    struct pgqrs_store *store; /* null until pgqrs_cli_open */
};

struct pgqrs_cli_command {
    const char *group, *name, *words, *help; /* name "": the group is the command */
    const char *more;                        /* printed below its options; may be null */
    size_t min_words, max_words;
    uint64_t options; /* those that are its own, as PGQRS_OPT() */
    bool create;
    int (*run)(struct pgqrs_cli *cli);
};

extern const struct pgqrs_cli_command pgqrs_cli_commands[];
extern const size_t pgqrs_cli_command_count;

/* ---- common.c ---- */

/* "pgqrs: " and the text, with control characters escaped, to standard error. */
void pgqrs_cli_error(const char *fmt, ...) PGQRS_PRINTF(1, 2);
/* Prints the error and returns the exit status for it. */
int pgqrs_cli_fail(const struct pgqrs_error *err);
/* Prints the error and returns PGQRS_CLI_USAGE. */
int pgqrs_cli_usage(const char *fmt, ...) PGQRS_PRINTF(1, 2);

/* Waits and says true when the call that failed should be made again; zero it before the first. */
struct pgqrs_cli_retry {
    unsigned tries;
};
bool pgqrs_cli_again(struct pgqrs_cli_retry *retry, const struct pgqrs_error *err);

/* The option's value, or value when it is not given; -1 with the reason printed. */
int pgqrs_cli_integer(const struct pgqrs_cli *cli, enum pgqrs_cli_option option, int64_t min,
                      int64_t max, int64_t value, int64_t *value_out);
int pgqrs_cli_duration(const struct pgqrs_cli *cli, enum pgqrs_cli_option option, int64_t ms,
                       int64_t *ms_out);
/* Prints why not, and what to do about it. */
int pgqrs_cli_find_queue(struct pgqrs_cli *cli, const char *name, int64_t *id_out);
/* All of them; freed with pgqrs_queue_list_fini. */
int pgqrs_cli_list_queues(struct pgqrs_cli *cli, struct pgqrs_queue_list *list_out);
/* The name of a queue in the list; "-" for id 0. */
const char *pgqrs_cli_queue_name(const struct pgqrs_queue_list *queues, int64_t id);
/* The queue of --queue; 0 when it is not given. */
int pgqrs_cli_queue_option(struct pgqrs_cli *cli, int64_t *id_out);
/* --limit, --before and --all; limit is 0 for all. */
struct pgqrs_cli_page {
    int64_t limit, before_id;
};
int pgqrs_cli_page(const struct pgqrs_cli *cli, struct pgqrs_cli_page *page_out);
/* After a page that is not the last, tells a person where the next one begins. */
void pgqrs_cli_more(const struct pgqrs_cli *cli, int64_t before_id);
/* The words as ids. Free *ids_out. */
int pgqrs_cli_ids(const struct pgqrs_cli *cli, int64_t **ids_out);
/* Messages up to which counts go, unless --exact. */
#define PGQRS_COUNT_MAX 100000
const char *pgqrs_cli_count(int64_t count, bool capped, char out[24]); /* "100000+" */

/* The id that the first word is. */
int pgqrs_cli_id(const struct pgqrs_cli *cli, int64_t *id_out);

/* ---- ask.c ---- */

/*
 * Before something is destroyed. _may_ask says at once whether it can go on: --yes is given, or
 * somebody sits at a terminal. _confirm asks them: fmt says what will be done, such as "delete
 * queue \"a\"".
 */
int pgqrs_cli_may_ask(const struct pgqrs_cli *cli);
int pgqrs_cli_confirm(const struct pgqrs_cli *cli, const char *fmt, ...) PGQRS_PRINTF(2, 3);

/* Says on standard error how far it is, once in a while. Zeroed at the start. */
struct pgqrs_cli_progress {
    int64_t printed_ms;
};
void pgqrs_cli_progress(struct pgqrs_cli_progress *progress, int64_t count, const char *what);

/* Runs a command again and again until a signal asks to end. */
int pgqrs_cli_watch(struct pgqrs_cli *cli, int (*run)(struct pgqrs_cli *cli));

/* A time as in RFC 3339, with its zone. */
int pgqrs_cli_time(const struct pgqrs_cli *cli, enum pgqrs_cli_option option, int64_t *us_out);

/* ---- pgqrs.c ---- */

/* Opens the store; a command does so once its words and options are known to be right. */
int pgqrs_cli_open(struct pgqrs_cli *cli);
/* The configuration file of --config, $PGQRS_CONFIG_FILE or here; null: none. */
const char *pgqrs_cli_config(const struct pgqrs_cli *cli);
/* The same, for the store: that of the system when nothing else names one. */
const char *pgqrs_cli_store_config(const struct pgqrs_cli *cli);
const char *pgqrs_cli_option_name(enum pgqrs_cli_option option);

/* ---- the commands ---- */

int pgqrs_cmd_admin_install(struct pgqrs_cli *cli);
int pgqrs_cmd_admin_verify(struct pgqrs_cli *cli);
int pgqrs_cmd_queue_create(struct pgqrs_cli *cli);
int pgqrs_cmd_queue_list(struct pgqrs_cli *cli);
int pgqrs_cmd_queue_metrics(struct pgqrs_cli *cli);
int pgqrs_cmd_queue_wait(struct pgqrs_cli *cli);
int pgqrs_cmd_message_enqueue(struct pgqrs_cli *cli);
int pgqrs_cmd_message_get(struct pgqrs_cli *cli);
int pgqrs_cmd_message_list(struct pgqrs_cli *cli);
int pgqrs_cmd_admin_stats(struct pgqrs_cli *cli);
int pgqrs_cmd_queue_delete(struct pgqrs_cli *cli);
int pgqrs_cmd_queue_purge(struct pgqrs_cli *cli);
int pgqrs_cmd_queue_pause(struct pgqrs_cli *cli);
int pgqrs_cmd_queue_resume(struct pgqrs_cli *cli);
int pgqrs_cmd_message_cancel(struct pgqrs_cli *cli);
int pgqrs_cmd_message_delete(struct pgqrs_cli *cli);
int pgqrs_cmd_message_release(struct pgqrs_cli *cli);
int pgqrs_cmd_message_replay(struct pgqrs_cli *cli);
int pgqrs_cmd_message_run(struct pgqrs_cli *cli);
int pgqrs_cmd_dlq_list(struct pgqrs_cli *cli);
int pgqrs_cmd_dlq_replay(struct pgqrs_cli *cli);
int pgqrs_cmd_dlq_purge(struct pgqrs_cli *cli);
int pgqrs_cmd_worker_list(struct pgqrs_cli *cli);
int pgqrs_cmd_worker_suspend(struct pgqrs_cli *cli);
int pgqrs_cmd_worker_resume(struct pgqrs_cli *cli);
int pgqrs_cmd_worker_interrupt(struct pgqrs_cli *cli);
int pgqrs_cmd_worker_stop(struct pgqrs_cli *cli);
int pgqrs_cmd_worker_purge(struct pgqrs_cli *cli);
int pgqrs_cmd_worker_scale(struct pgqrs_cli *cli);
int pgqrs_cmd_schedule_list(struct pgqrs_cli *cli);
int pgqrs_cmd_schedule_create(struct pgqrs_cli *cli);
int pgqrs_cmd_schedule_pause(struct pgqrs_cli *cli);
int pgqrs_cmd_schedule_resume(struct pgqrs_cli *cli);
int pgqrs_cmd_schedule_delete(struct pgqrs_cli *cli);
int pgqrs_cmd_schedule_run(struct pgqrs_cli *cli);
int pgqrs_cmd_schedule_next(struct pgqrs_cli *cli);
int pgqrs_cmd_ctl_status(struct pgqrs_cli *cli);
int pgqrs_cmd_ctl_deaths(struct pgqrs_cli *cli);
int pgqrs_cmd_ctl_kill(struct pgqrs_cli *cli);
int pgqrs_cmd_ctl_pause(struct pgqrs_cli *cli);
int pgqrs_cmd_ctl_resume(struct pgqrs_cli *cli);
int pgqrs_cmd_ctl_drain(struct pgqrs_cli *cli);
int pgqrs_cmd_ctl_stop(struct pgqrs_cli *cli);
int pgqrs_cmd_ctl_reload(struct pgqrs_cli *cli);
int pgqrs_cmd_ctl_log_level(struct pgqrs_cli *cli);
int pgqrs_cmd_workflow_create(struct pgqrs_cli *cli);
int pgqrs_cmd_workflow_list(struct pgqrs_cli *cli);
int pgqrs_cmd_workflow_trigger(struct pgqrs_cli *cli);
int pgqrs_cmd_workflow_result(struct pgqrs_cli *cli);
int pgqrs_cmd_workflow_cancel(struct pgqrs_cli *cli);
int pgqrs_cmd_workflow_resume(struct pgqrs_cli *cli);
int pgqrs_cmd_workflow_signal(struct pgqrs_cli *cli);
int pgqrs_cmd_run_list(struct pgqrs_cli *cli);
int pgqrs_cmd_run_show(struct pgqrs_cli *cli);
int pgqrs_cmd_run_steps(struct pgqrs_cli *cli);
int pgqrs_cmd_run_state(struct pgqrs_cli *cli);
int pgqrs_cmd_run_fork(struct pgqrs_cli *cli);
int pgqrs_cmd_doctor(struct pgqrs_cli *cli);
int pgqrs_cmd_top(struct pgqrs_cli *cli);

#endif
