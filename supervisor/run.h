/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_SUPERVISOR_RUN_H
#define PGQRS_SUPERVISOR_RUN_H

/*
 * An isolated run: one message, in a worker of its own that writes to the terminal of whoever asked
 * for it. Its place is none of its queue's: nobody counts, replaces or starts it again, and how it
 * ends says nothing about the queue.
 */

#include "supervisor/supervisor.h"

#define PGQRS_RUN_SLOTS 100000 /* their slots begin here */

/* Called once, with an outcome's name; text may be empty. */
typedef void run_done_fn(void *context, const char *outcome, const char *text);

struct run {
    LIST_ENTRY(run) link;
    struct place place;
    int64_t message_id;
    int fds[2]; /* for its standard output and error; -1 once it is started */
    uint64_t generation;
    bool cancelled, ended; /* ended: its worker */
    enum pgqrs_run_outcome outcome;
    char *text, *why; /* of the outcome, of the worker's end; null: nothing to say */
    struct event *timer;
    run_done_fn *done; /* null: nobody waits for it */
    void *context;
};

/* Takes the descriptors, always. Null: err says why not. */
struct run *pgqrs_run_start(struct supervisor *s, struct queue *queue, int64_t message_id,
                            const int fds[2], run_done_fn *done, void *context,
                            struct pgqrs_error *err);
/* The worker is told to stop, and is killed after the queue's cancel_grace. */
void pgqrs_run_cancel(struct run *run);
/* The same, and nobody waits for it any more. */
void pgqrs_run_forget(struct run *run);
/* The broker has said what came of it. */
void pgqrs_run_told(struct supervisor *s, const struct pgqrs_run_ended *m);
/* Its worker is reaped; the place may be gone afterwards. */
void pgqrs_run_worker_ended(struct place *place, int exit_code, const char *why);
bool pgqrs_run_uses(const struct queue *queue);
void pgqrs_runs_fini(struct supervisor *s);

#endif
