/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BROKER_BROKER_H
#define PGQRS_BROKER_BROKER_H

/*
 * The broker's state, shared by its files. One thread, one libevent loop.
 *
 *   job_peers.c     connections of workers: bytes in, messages out
 *   worker_table.c  which workers live, what each one holds, what happens when one ends
 *   group.c         outcomes and credit become one exchange with the store, and its results
 *                   become messages
 *   broker_loop.c   the supervisor's messages, timers, start and stop
 */

#include <stdbool.h>
#include <sys/queue.h>

#include <event2/bufferevent.h>
#include <event2/event.h>

#include "ipc/child.h"
#include "ipc/msg.h"
#include "store/store.h"

struct broker;
struct peer;
struct worker;

TAILQ_HEAD(worker_list, worker);
TAILQ_HEAD(peer_list, peer);

struct broker_queue {
    struct pgqrs_queue_settings settings; /* name is owned */
    int64_t id;
    struct worker_list workers; /* by queue_link */
    bool maybe_ready;           /* leasing may find something; else nobody has a reason to look */
    bool plenty;                /* the last leases were all filled: ask for everything at once */
    size_t wanted, leased;      /* in the exchange under way */
};

struct held_job {
    struct pgqrs_job_key key;
    int64_t leased_ms; /* monotonic; when the lease was made or renewed */
};

struct worker {
    TAILQ_ENTRY(worker) link, queue_link;
    struct broker_queue *queue;
    uint64_t generation;
    uint32_t slot;
    pid_t pid;
    uint8_t token[PGQRS_TOKEN_SIZE];
    int64_t row_id;        /* in the store; 0: it has not said hello */
    struct peer *peer;     /* null: not connected */
    uint32_t capacity;     /* credit is this less held_count */
    struct held_job *held; /* in the order it runs them; its size is PGQRS_PREFETCH_MAX */
    size_t held_count;

    /* Messages under construction while an exchange is distributed. */
    struct pgqrs_buf settled, leases;
    size_t settled_start, leases_start;
    uint32_t settled_count, leases_count;

    /* It lived before this broker did: what it has sent may wait in the listening socket. */
    bool inherited;
    /* Set by WORKER_ENDED. It stays here until what it sent is read and its leases are free. */
    bool ended, gathered;
    enum pgqrs_end how;
    int64_t gather_by_ms; /* read what it sent until here, monotonic */
    char *reason;
};

/* Outcomes that wait for the store, with the frames they borrow from. */
struct group {
    struct pgqrs_settlement *items;
    struct worker **workers; /* whose each is; null when it has gone */
    size_t count, cap;
    struct owned_frame *frames;
    size_t bytes; /* of the frames */

    /* While a commit is put off because more outcomes keep coming. */
    size_t seen;      /* how many there were at the last look */
    int idle_looks;   /* looks in a row that found no more */
    int64_t since_us; /* monotonic; 0: it is not put off */
};

struct broker {
    struct pgqrs_child *child;
    struct event_base *base;
    struct pgqrs_store *store;
    char *instance, *host;
    int64_t lease_ms, poll_ms, heartbeat_ms;
    struct broker_queue *queues;
    size_t queue_count;
    struct worker_list workers;
    struct peer_list peers;
    size_t peer_count;
    struct group group;
    struct pgqrs_exchange exchange;
    struct pgqrs_want *wants;
    struct worker **want_workers; /* whose each want is */
    size_t want_cap;
    bool draining, stopping;
    int64_t stop_by_ms;
    uint32_t random;
    uint64_t settled; /* outcomes stored */
    int exit_status;  /* PGQRS_EXIT_RETURNED once a drain has given back a job that had begun */

    int64_t trouble_since_ms; /* the store fails since; 0: it works */
    int64_t backoff_ms;
    bool unsure;       /* a commit ended in an unknown way: leases may exist that nobody knows of */
    int64_t due_at_us; /* when the due timer fires, monotonic; 0: it is not set */
    int64_t refused_since_ms; /* no connection is accepted since; 0: they are */

    struct event *turn; /* runs the exchange after everything that is readable was read */
    struct event *control, *lifeline, *wake, *listen;
    struct event *poll, *due, *renew, *beat, *row_beat, *retry, *gather, *listen_again;
};

/* ---- broker_loop.c ---- */
int pgqrs_broker_run(struct pgqrs_child *child, const struct pgqrs_frame *welcome,
                     struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_broker_complain(struct broker *b, const struct worker *worker, const char *text);

/* ---- job_peers.c ---- */
int pgqrs_peers_listen(struct broker *b, int fd, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* A worker was announced, or one was buried: hellos that waited for that can be answered. */
void pgqrs_peers_announced(struct broker *b);
void pgqrs_peer_send(struct peer *peer, const struct pgqrs_buf *frames);
void pgqrs_peer_close(struct peer **peer);
/* Stops or starts reading from everybody: back-pressure while the store does not answer. */
void pgqrs_peers_pause(struct broker *b, bool pause);
void pgqrs_peers_fini(struct broker *b);

/* ---- worker_table.c ---- */
int pgqrs_worker_add(struct broker *b, const struct pgqrs_worker_started *started,
                     struct pgqrs_error *err) PGQRS_MUST_CHECK;
struct worker *pgqrs_worker_find(struct broker *b, uint64_t generation);
/* True while a dead worker of the same place still has leases. */
bool pgqrs_worker_has_predecessor(const struct worker *worker);
/* The worker says hello on a connection: its row, and what it holds. */
int pgqrs_worker_attach(struct broker *b, struct worker *worker, struct peer *peer,
                        const struct pgqrs_job_hello *hello,
                        struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_worker_detach(struct broker *b, struct worker *worker);
void pgqrs_worker_hold(struct worker *worker, struct pgqrs_job_key key);
/* False when it did not hold it. */
bool pgqrs_worker_unhold(struct worker *worker, struct pgqrs_job_key key);
uint32_t pgqrs_worker_credit(const struct worker *worker);
void pgqrs_worker_ended(struct broker *b, const struct pgqrs_worker_ended *m);
/* Ends every worker whose last messages were read; those still waited for keep the timer going. */
void pgqrs_workers_gather(struct broker *b);
/* After an exchange went through: rows of ended workers are closed, and they are forgotten. */
int pgqrs_workers_bury(struct broker *b, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* At start: leases of workers that are not announced belong to the dead. */
int pgqrs_workers_recover(struct broker *b, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* After a commit that ended in an unknown way: leases that are neither held nor in the group go
 * back to the queue. */
int pgqrs_workers_reconcile(struct broker *b, struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_workers_fini(struct broker *b);

/* ---- group.c ---- */
/* Takes the body of a JOB_RESULTS frame: it owns data from here. -1: nonsense inside. */
int pgqrs_group_add_results(struct broker *b, struct worker *worker, void *data,
                            const struct pgqrs_frame *frame,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* How a dead worker's job goes on. text is borrowed until the exchange went through. */
int pgqrs_group_add_abandoned(struct broker *b, struct worker *worker, struct pgqrs_job_key key,
                              bool crashed, const char *text,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_group_forget_worker(struct broker *b, const struct worker *worker);
/* Schedules an exchange at the end of this turn of the loop. */
void pgqrs_group_wake(struct broker *b);
/* The store failed: outcomes wait, and it is tried again, ever more slowly. */
void pgqrs_group_trouble(struct broker *b, const struct pgqrs_error *err);
void pgqrs_group_all_maybe_ready(struct broker *b);
void on_group_turn(evutil_socket_t fd, short what, void *arg);
void pgqrs_group_fini(struct broker *b);

#endif
