/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_CHAOS_LEDGER_H
#define PGQRS_TESTS_CHAOS_LEDGER_H

/*
 * What has happened, told by those to whom it happened, in lines of text; and what must hold of it.
 *
 *   ack ID N                               the producer: its item N was acknowledged as job ID
 *   start ID ATTEMPT PID TIME HOLDER QUEUE FROM     the handler, see tests/handlers/ledger.c
 *   end ID ATTEMPT PID TIME HOW                     done, retry, failed or cancelled
 *   harm NAME TIME PID                     the script, before it does it; PID 0: no single one;
 *                                          the job's ID with take_lease
 *   over TIME                              no process of the daemon, that was alive before, lives;
 *                                          not after a clean end, which stores what was run
 *   died PID TIME                          the daemon's log: this worker has ended
 *   broker_died TIME                       the daemon's log
 *   row ID N FROM WANT THEN OUTCOME ATTEMPT BY
 *                                          the store, at the end; N and FROM are 0 when not there;
 *                                          WANT: done or failed, as the payload says; THEN: 1 when
 *                                          it adds a job; OUTCOME: that, cancelled or open;
 * ATTEMPT: the last lease's; BY: whose result it has, 0: none
 *
 * TIME is the monotonic clock in microseconds. Nothing here looks at anything but these lines.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHAOS_KILL_WORKER "kill_worker"
#define CHAOS_KILL_BROKER "kill_broker"
#define CHAOS_KILL_SUPERVISOR "kill_supervisor"
#define CHAOS_TAKE_LEASE "take_lease"
#define CHAOS_CRASH_SERVER "crash_server"

struct chaos_ack {
    int64_t id, n;
};

struct chaos_run {
    int64_t id, start_us, end_us; /* end 0: it did not */
    int64_t from;                 /* of a follow-up: the job that added it; else 0 */
    int64_t next_us;              /* when its process began another; 0: never */
    int attempt, pid, holder;
    char queue[16], how[16];
};

struct chaos_harm {
    char name[24];
    int64_t at_us;
    int pid;
};

struct chaos_death {
    int pid;
    int64_t at_us;
};

struct chaos_row {
    int64_t id, n, from;
    bool then;
    int attempt, by, crashes;
    char want[16], outcome[16];
};

struct chaos_list {
    void *items;
    size_t count, room;
};

struct chaos_ledger {
    struct chaos_list acks, runs, harms, rows;
    struct chaos_list overs, brokers; /* int64_t: times */
    struct chaos_list deaths;
};

/* A ledger begins as zeros. */
void chaos_ledger_fini(struct chaos_ledger *l);
/* False when the line is none of the above. */
bool chaos_ledger_add(struct chaos_ledger *l, const char *line);
/* Adds all lines of a file; returns the number of those that are none of the above, -1 when it can
 * not be read. */
int chaos_ledger_read(struct chaos_ledger *l, const char *path);

#define CHAOS_FINDINGS_MAX 20

struct chaos_findings {
    size_t count; /* may be more than were kept */
    char text[CHAOS_FINDINGS_MAX][240];
};

void chaos_find(struct chaos_findings *f, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Sorts the ledger and checks it:
 *  - every acknowledged job is in the store, under its number, and ended as its payload says;
 *  - no item is in the store twice, no job is open, whatever ended has really been run so;
 *  - what is done was done by the attempt that had the lease;
 *  - a job that adds another has added exactly one if it is done, else none;
 *  - the runs of one job follow each other: no two at a time. After a run that ended with "retry"
 *    or "cancelled" another may come. After any other there is another only when
 *      - all processes were over soon after it; or
 *      - it had not ended, but its process had: nobody has its lock, and it ran nothing more; or
 *      - its process has died in between before it could tell: this was the last that it ran, or
 *        the broker, which had been told, has died soon after, too; or
 *      - a server has crashed and forgotten the lease, which it may (docs/stores.md): the run is of
 *        that time, and the attempt is counted again.
 *    Jobs whose lease the script has taken away may run twice at a time, too.
 *    That its process was stopped, or the broker or the store away, is no excuse.
 */
void chaos_check(struct chaos_ledger *l, struct chaos_findings *f);

struct chaos_recovery {
    size_t count;
    int64_t slowest_ms;
};

struct chaos_summary {
    size_t acks, rows, follow_ups, runs, done, failed;
    size_t reruns, killed_runs;
    size_t redone;                    /* runs of a job that had been run to its end */
    struct chaos_recovery worker;     /* a killed one, until the job that it ran runs again */
    struct chaos_recovery broker;     /* a killed one, until what ended after that had its effect */
    struct chaos_recovery supervisor; /* a killed one, until a job starts */
};

/* Of a ledger that was checked. */
void chaos_summarise(const struct chaos_ledger *l, struct chaos_summary *out);

#endif
