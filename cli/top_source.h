/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CLI_TOP_SOURCE_H
#define PGQRS_CLI_TOP_SOURCE_H

/*
 * Where `pgqrs top` gets its news, and where it has things done: pgqrsd and the store. Each has a
 * thread, for a call to either may take seconds, and the keys are read meanwhile.
 */

#include "cli/cli.h"
#include "cli/top_model.h"

#define PGQRS_TOP_COUNT_MAX PGQRS_COUNT_MAX

/* ---- top_fetch.c: one call after another, on the thread of the caller ---- */

/* The answer to "status"; null with the reason in err. */
json_t *pgqrs_top_fetch_status(const struct pgqrs_cli *cli, struct pgqrs_error *err);
/* Opens *store when it is null, closes it when it is of no use any more. Null with the reason. */
struct pgqrs_top_counts *pgqrs_top_fetch_counts(const struct pgqrs_cli *cli,
                                                struct pgqrs_store **store,
                                                struct pgqrs_error *err);

enum pgqrs_top_what {
    PGQRS_TOP_NOTHING = 0,
    PGQRS_TOP_PAUSE, /* these are for the store */
    PGQRS_TOP_RESUME,
    PGQRS_TOP_CANCEL,
    PGQRS_TOP_KILL, /* and this is for pgqrsd */
};

struct pgqrs_top_act {
    enum pgqrs_top_what what;
    int64_t id; /* of the queue or the message */
    int64_t slot, pid;
    char queue[256];
};

#define PGQRS_TOP_SAID 640
/* Does it, and tells in said what has come of it. */
void pgqrs_top_act_on_store(const struct pgqrs_cli *cli, struct pgqrs_store **store,
                            const struct pgqrs_top_act *act, char said[PGQRS_TOP_SAID]);
void pgqrs_top_act_on_pgqrsd(const struct pgqrs_cli *cli, const struct pgqrs_top_act *act,
                             char said[PGQRS_TOP_SAID]);

/* ---- top_source.c: the same on a thread, again and again ---- */

enum pgqrs_top_of { PGQRS_TOP_OF_PGQRSD = 0, PGQRS_TOP_OF_STORE, PGQRS_TOP_SOURCES };

struct pgqrs_top_source;

struct pgqrs_top_news {
    bool fetched;                    /* one of these two, or err */
    json_t *status;                  /* the caller's */
    struct pgqrs_top_counts *counts; /* the caller's */
    struct pgqrs_error err;
    int64_t at_ms;             /* of the answer */
    char said[PGQRS_TOP_SAID]; /* what has come of an act; "": none has ended */
};

/* The thread takes no signal. wake_fd, an eventfd, is written when there is news. */
int pgqrs_top_source_start(const struct pgqrs_cli *cli, enum pgqrs_top_of of, int64_t every_ms,
                           int wake_fd, struct pgqrs_top_source **source_out,
                           struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* False: there is none. *asked_ms_out is when the call began that it is in; 0: it is in none. */
bool pgqrs_top_source_take(struct pgqrs_top_source *source, struct pgqrs_top_news *news_out,
                           int64_t *asked_ms_out);
/* False: it is still at the last one. */
bool pgqrs_top_source_do(struct pgqrs_top_source *source, const struct pgqrs_top_act *act);
/* Accepts null. False: it is in a call that does not end; only the end of the process ends it. */
bool pgqrs_top_source_stop(struct pgqrs_top_source **source);

#endif
