/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_CHAOS_CHAOS_PRIV_H
#define PGQRS_TESTS_CHAOS_CHAOS_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "include/pgqrs/pgqrs.h"
#include "tests/chaos/chaos.h"
#include "tests/chaos/ledger.h"
#include "tests/support/daemon.h"

#define CHAOS_WORKERS 5   /* of the queue "work" */
#define CHAOS_FOLLOWERS 2 /* of "follow" */
#define CHAOS_HEARTBEAT_TIMEOUT_MS 2000
#define CHAOS_SAMPLES_MAX 40000
#define CHAOS_BURNERS_MAX 4
#define CHAOS_HARM_KINDS_MAX 24

struct pg_rig;

/* splitmix64: a seed gives the same numbers everywhere. */
struct chaos_random {
    uint64_t state;
};
uint64_t chaos_next(struct chaos_random *r);
/* From low to high, both included. */
int64_t chaos_pick(struct chaos_random *r, int64_t low, int64_t high);

struct chaos_sample {
    pid_t pid;
    unsigned start; /* of pgqrsd: pids come again */
    bool broker;
    int64_t pages, descriptors;
};

struct chaos_run_state {
    struct chaos_options options;
    struct scratch scratch;
    struct daemon daemon;
    struct chaos_findings findings;
    bool hopeless; /* there is no point in going on */

    char dsn[320];      /* for clients */
    struct pg_rig *rig; /* PostgreSQL; else null */
    char disk[80];      /* SQLite: a small disk that can be filled; empty: there is none */
    struct chaos_random script;
    int harms; /* file of harm lines */
    unsigned harm_counts[CHAOS_HARM_KINDS_MAX];
    unsigned starts;  /* of the daemon */
    int64_t log_from; /* where the log of the last one begins */
    struct chaos_ledger ledger;

    pthread_t producer;
    bool producing;
    atomic_bool enough;
    atomic_long refused; /* enqueues that failed and were repeated, or whose outcome is unknown */

    struct chaos_sample *samples;
    size_t sample_count, lives;
    int64_t sampled_ms;
};

/* ---- the store (target.c) ---- */

bool chaos_target_open(struct chaos_run_state *c);
void chaos_target_close(struct chaos_run_state *c);
const char *chaos_schema(const struct chaos_run_state *c); /* "" on SQLite */
struct pgqrs_client *chaos_connect(const struct chaos_run_state *c, struct pgqrs_failure *why);
/* Messages that have not ended; -1: the store does not answer. */
int64_t chaos_open_jobs(struct chaos_run_state *c);
/* The id of a leased job; 0: there is none. */
int64_t chaos_leased_job(struct chaos_run_state *c, uint64_t which);
void chaos_take_lease(struct chaos_run_state *c, int64_t id);
/* Writes DIR/rows: a line for each message. */
void chaos_write_rows(struct chaos_run_state *c);

/* ---- the load (load.c) ---- */

void chaos_load_start(struct chaos_run_state *c);
void chaos_load_stop(struct chaos_run_state *c);

/* ---- the daemon (run.c) ---- */

void chaos_start_daemon(struct chaos_run_state *c);
/* Waits for its end; -1: it did not end and was killed, which is found wrong. */
int chaos_await_end(struct chaos_run_state *c, const char *after);
/* Lets time pass, takes samples, and sees whether the daemon has ended by itself. */
void chaos_pause(struct chaos_run_state *c, int64_t ms);
/* Waits until the daemon has once been ready since it was started. */
bool chaos_await_ready(struct chaos_run_state *c);

/* ---- harm (harm.c) ---- */

/* One harm that the script chooses, and its end. */
void chaos_do_harm(struct chaos_run_state *c);
/* No process stays stopped, no disk full. */
void chaos_end_harm(struct chaos_run_state *c);
void chaos_print_harms(const struct chaos_run_state *c);

/* ---- memory and descriptors (watch.c) ---- */

void chaos_sample(struct chaos_run_state *c);
/* Finds what grew. Returns the number of lives that were long enough to tell. */
size_t chaos_check_samples(struct chaos_run_state *c);

#endif
