/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CLI_RUNS_H
#define PGQRS_CLI_RUNS_H

/* What the commands about workflows and their runs share. */

#include "cli/cli.h"
#include "cli/output.h"
#include "store/run_look.h"

/* How it stands with the run of a message, begun or not. Exit statuses; on PGQRS_CLI_OK free the
 * list, which has one. */
int pgqrs_run_look(struct pgqrs_cli *cli, int64_t id, struct pgqrs_run_list *one_out);
/*
 * Those that go on where it has ended are followed. Waits until the last one has ended, as --wait
 * says; PGQRS_CLI_NOT_ENDED, with the list filled, too.
 */
int pgqrs_run_await(struct pgqrs_cli *cli, int64_t id, struct pgqrs_run_list *one_out);
/* Reads --wait: 0 not given, -1 without a limit. */
int pgqrs_run_wait_option(const struct pgqrs_cli *cli, int64_t *wait_ms_out);
/* All of a page's kind: those of the filter, up to max (0: all), as they come to take; a status
 * other than PGQRS_CLI_OK ends it. *next_out: before_id for the next page; 0: there is none. */
int pgqrs_run_each(struct pgqrs_cli *cli, struct pgqrs_run_filter filter, int64_t max,
                   int (*take)(void *arg, const struct pgqrs_run *run), void *arg,
                   int64_t *next_out);

/* Calls the expression until it neither fails nor fails with PGQRS_ERR_AGAIN; -1 with err filled.
 */
#define PGQRS_RUN_TRY(rc, err, expression)                                                         \
    do {                                                                                           \
        struct pgqrs_cli_retry retry_ = {0};                                                       \
        do {                                                                                       \
            (rc) = (expression);                                                                   \
        } while ((rc) < 0 && pgqrs_cli_again(&retry_, (err)));                                     \
    } while (0)

/* The keys of a run, in an object that was begun. */
void pgqrs_run_as_json(struct pgqrs_json *json, const struct pgqrs_run *run);
void pgqrs_steps_as_json(struct pgqrs_json *json, const char *key,
                         const struct pgqrs_step_list *steps);
/* value: what a pair's json is called; at: what its time is. */
void pgqrs_pairs_as_json(struct pgqrs_json *json, const char *key, const char *value,
                         const char *at, const struct pgqrs_pair_list *pairs);
/* ended: their run has. */
void pgqrs_steps_print(const struct pgqrs_step_list *steps, bool ended);
void pgqrs_pairs_print(const char *name, const char *value, const struct pgqrs_pair_list *pairs);

#define PGQRS_TOOK_SIZE 32
/* "350ms", "1.2s", "3m 12s", "2h 5m" or "3d 4h". */
const char *pgqrs_took(int64_t us, char out[PGQRS_TOOK_SIZE]);
/* How long it ran, or has run until now; null: it has not started. */
const char *pgqrs_run_took(const struct pgqrs_run *run, char out[PGQRS_TOOK_SIZE]);
#define PGQRS_WHEN_SIZE 80
/* "in 5m", "now"; null: until an event comes, or not at all. */
const char *pgqrs_run_wait(int64_t until_us, char out[PGQRS_TOOK_SIZE + 8]);
/* "2026-01-31T12:00:00Z, in 5m"; "an event comes" when no time is meant. */
const char *pgqrs_run_when(int64_t us, char out[PGQRS_WHEN_SIZE]);

/* Append a text and a zero byte. An error's: what its string or its message says, else the JSON. An
 * input's: without the wrapper, when it has one. */
void pgqrs_run_error_text(const char *json, struct pgqrs_buf *out);
void pgqrs_run_input_text(const char *payload, struct pgqrs_buf *out);

#endif
