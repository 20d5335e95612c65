/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BROKER_BROKER_H
#define PGQRS_BROKER_BROKER_H

/*
 * The broker's state, shared by its files. A libevent loop owns all of it; a second thread owns the
 * store and runs the tasks that the loop gives it (store_thread.h).
 *
 *   job_peers.c     connections of workers and clients: bytes in, messages out
 *   hello.c         a worker introduces itself
 *   worker_table.c  which workers live, what happens when one ends
 *   held_leases.c   what each worker holds and what is kept in reserve for it
 *   group.c         outcomes that wait for the store
 *   commit.c        a group and the workers' credit become one exchange with the store, and its
 *                   results become messages
 *   flow.c          steps of workflows, stored in groups
 *   schedules.c     what is due by the clock becomes jobs
 *   only_message.c  workers that are given one message, which somebody has chosen
 *   chores.c        what the clock asks of the store: renewals, housekeeping
 *   queue_table.c   the queues that are served, and their settings
 *   load.c          how much waits in each, for those that follow it
 *   tally.c         what is counted
 *   orders.c        heartbeats of the workers' rows, and what others have written there
 *   client_calls.c, client_watch.c, store_service.c  programs that use the store through the broker
 *   broker_loop.c   the supervisor's messages, start and stop
 */

#include <stdbool.h>
#include <sys/queue.h>

#include <event2/bufferevent.h>
#include <event2/event.h>

#include "broker/store_thread.h"
#include "ipc/child.h"
#include "ipc/msg.h"
#include "ipc/tally_page.h"
#include "store/store.h"

struct broker;
struct peer;
struct worker;

TAILQ_HEAD(worker_list, worker);
TAILQ_HEAD(peer_list, peer);

struct broker_queue {
    struct pgqrs_queue_settings settings; /* name is owned */
    int64_t id;
    int64_t workflow_id;         /* its definition's; 0: not known, or it is no workflow */
    struct worker_list workers;  /* by queue_link */
    bool maybe_ready;            /* leasing may find something; else nobody has a reason to look */
    bool plenty;                 /* the last leases were all filled: ask for everything at once */
    size_t wanted, leased;       /* in the exchange under way */
    uint32_t reported;           /* how much waits, as pgqrsd was told */
    struct pgqrs_prune prune[2]; /* where housekeeping is: ended, failed */
};

/* A lease in a worker's name. Those that were sent come first, in the order it runs them. */
struct held_job {
    struct pgqrs_job_key key;
    int64_t leased_ms; /* monotonic; when the lease was made or renewed */
    bool sent;
    int32_t priority;
    enum pgqrs_order_kind order; /* its worker was told: cancel or interrupt */
    int64_t enqueued_at_us;
    int64_t due_us;             /* monotonic; 0: not known */
    struct pgqrs_bytes payload; /* owned; null once it was sent */
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
    uint32_t capacity;     /* how many it may be sent */
    struct held_job *held; /* its size is PGQRS_PREFETCH_MAX */
    size_t held_count, sent_count;
    size_t unsettled;      /* its outcomes in groups */
    size_t asks;           /* of those, what it waits for; of more than one connection */
    uint32_t ask_seq;      /* of all of them */
    int64_t ask_row_id;    /* of the last */
    int64_t last_us;       /* when its last outcome came, monotonic; 0: none has */
    int64_t pace_us;       /* how long it takes for a job, of late; 0: not known */
    int64_t answered_us;   /* its last ask was, monotonic; 0: it has asked since */
    int64_t think_us;      /* from an answer to its next ask, of late; 0: not known */
    bool expected;         /* its next ask is, by those that wait */
    int64_t payload_bytes; /* of a job, of late */

    enum pgqrs_worker_state row_state; /* as it was last seen; none: not yet */
    bool held_back;                    /* suspended, interrupted or stopped: it is given nothing */
    bool moving;                       /* its row's state is being changed by us */

    /* Messages under construction while an exchange is distributed. */
    struct pgqrs_buf settled, leases;
    size_t settled_start, leases_start;
    uint32_t settled_count, leases_count;

    int64_t only_message; /* the one message it is given; 0: it is an ordinary worker */
    bool claiming;        /* that is at the store */
    bool was_dead;        /* it was a dead letter, or may have been: it does not wait again */
    bool unsure;          /* a claim of it may have been carried out */
    bool run_told;        /* pgqrsd knows what came of it */

    /* It lived before this broker did: what it has sent may wait in the listening socket. */
    bool inherited;
    bool attaching; /* its hello is at the store */
    /* Set by WORKER_ENDED. It stays here until what it sent is read and its leases are free. */
    bool ended, gathered, burying;
    enum pgqrs_end how;
    int64_t gather_by_ms; /* read what it sent until here, monotonic */
    char *reason;
    struct store_task bury_task;
    struct pgqrs_release release;
};

struct group_note {
    struct worker *worker;
    struct pgqrs_job_times times;
    bool freed; /* its worker has ended, and this is for want of its outcome */
};

/* Outcomes that wait for the store, with the frames they borrow from. */
struct group {
    struct pgqrs_settlement *items;
    struct group_note *notes; /* of each */
    size_t count, cap;
    uint64_t sent; /* the number of the first one, once it was sent to the store */
    bool noted;    /* it was */
    bool unsure;   /* it may have been stored */
    struct owned_frame *frames;
    size_t bytes; /* of the frames */
};

/* What the workers had when a commit ended in an unknown way. */
struct known_leases {
    int64_t row_id;
    const struct broker_queue *queue;
    struct pgqrs_lease_ref *refs;
    size_t count;
    int64_t freed; /* out: of others, which never reached it */
};

/* The exchange with the store; there is one at a time. */
struct commit {
    struct store_task task;
    bool under_way;
    struct group group; /* not empty and not under way: it failed and is tried again */
    struct pgqrs_exchange exchange;
    struct pgqrs_want *wants;
    struct worker **want_workers; /* whose each want is */
    size_t want_count, want_cap;
    size_t sure_count;          /* the rest are answered only if the hint was right */
    struct known_leases *known; /* to be reconciled first; null: nothing is */
    size_t known_count;
    bool reconciled;  /* out: they are */
    bool hint;        /* it was woken: the store knows whether there is a reason to look */
    bool woken;       /* out: there is */
    bool probe;       /* no outcome to store: to see first whether the store works */
    int64_t probe_id; /* and whether this row, unless 0, can be written */
    const struct broker_queue *check; /* that queues are those of before; null: no need */
    size_t check_count;
    bool another;              /* out: they are not */
    bool settled_only;         /* out: the leasing failed, the outcomes are stored */
    int64_t began_us, took_us; /* monotonic; how long one takes, of late */
};

struct broker {
    struct pgqrs_child *child;
    struct pgqrs_tally_page *page;
    struct event_base *base;
    struct pgqrs_store *store;
    struct pgqrs_store_thread *store_thread;
    char *instance, *host, *site;
    bool alone; /* nobody else can be a broker of the store */
    int64_t lease_ms, poll_ms, heartbeat_ms, foreign_stale_ms;
    int64_t look_ms; /* how often it looks by itself; poll_ms, or more where it is woken */
    struct broker_queue *queues; /* room for PGQRS_QUEUES_MAX */
    size_t queue_count;
    uint32_t news_serial;    /* of the last reload */
    struct queue_news *news; /* what of it waits to be tried again */
    struct load *load;
    struct worker_list workers;
    uint64_t newest_generation; /* that was announced; they are in order */
    struct peer_list peers;
    size_t peer_count;
    TAILQ_HEAD(, client_watch) watches; /* that are to be told */
    uint64_t wakes;                     /* how often there may have come messages for clients */
    struct group group;
    struct commit commit;
    bool draining, stopping;
    bool late; /* the time for a stop was over before all was stored */
    int64_t stop_by_ms;
    uint32_t random;
    uint64_t settled; /* outcomes stored */
    int exit_status;  /* PGQRS_EXIT_RETURNED once a drain has given back a job that had begun */

    int64_t trouble_since_ms; /* the store fails since; 0: it works */
    bool trouble_told;        /* in the log */
    bool trouble_reported;    /* to pgqrsd */
    int64_t backoff_ms;
    bool trying;       /* all the same, to see whether it works again */
    bool paused;       /* connections are not read */
    bool unsure;       /* a commit ended in an unknown way: leases may exist that nobody knows of */
    bool strange;      /* a row of ours is gone: the database may be another one */
    bool hinted;       /* wake_fd fired */
    bool dozing;       /* who enqueues is asked to wake us */
    int64_t due_at_us; /* when the due timer fires, monotonic; 0: it is not set */
    int64_t refused_since_ms; /* no connection is accepted since; 0: they are */

    struct event *turn; /* runs the exchange after everything that is readable was read */
    struct event *control, *lifeline, *wake, *listen;
    struct event *stop; /* the time for a stop is over */
    struct event *poll, *due, *renew, *beat, *retry, *gather, *listen_again, *spare, *housekeeping;
    struct chores *chores;
    struct orders *orders;
    struct flows *flows;
    struct schedules *schedules;
};

/* ---- broker_loop.c ---- */
int pgqrs_broker_run(struct pgqrs_child *child, const struct pgqrs_frame *welcome,
                     struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_broker_complain(struct broker *b, const struct worker *worker, const char *text);
/* Ends the loop when all that was to be done before a stop is done. */
void pgqrs_broker_try_stop(struct broker *b);

/* ---- queue_table.c ---- */
struct queue_news;
int pgqrs_queues_create(struct broker *b, const struct pgqrs_broker_welcome *m,
                        struct pgqrs_error *err) PGQRS_MUST_CHECK;
int pgqrs_queues_find_in_store(struct broker *b, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Null: it is not served. */
struct broker_queue *pgqrs_queues_find(struct broker *b, const char *name);
/* A BROKER_QUEUES message; pgqrsd is told when it is done. */
int pgqrs_queues_update(struct broker *b, const struct pgqrs_frame *frame,
                        struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_queues_fini(struct broker *b);

/* ---- tally.c ---- */
int pgqrs_tally_open(struct broker *b, struct pgqrs_error *err) PGQRS_MUST_CHECK;
struct pgqrs_queue_tally *pgqrs_tally_of(struct broker *b, const struct broker_queue *queue);
/* An outcome goes to the store. Returns its number. */
uint64_t pgqrs_tally_send(struct broker *b, int64_t message_id, uint32_t attempt);
struct tally_outcome {
    const struct broker_queue *queue;
    uint64_t number;
    int64_t message_id;
    uint32_t attempt;
    enum pgqrs_settle how;
    enum pgqrs_settled settled;
    bool unsure; /* an earlier try may have stored it */
    bool freed;
    struct pgqrs_job_times times;
};
/* What came of it. */
void pgqrs_tally_settled(struct broker *b, const struct tally_outcome *o);
void pgqrs_tally_freed(struct broker *b, const struct broker_queue *queue,
                       enum pgqrs_freed_kind why, int64_t count);
void pgqrs_tally_wakeup(struct broker *b, enum pgqrs_wakeup_kind why);
/* Tells pgqrsd how the store does. */
void pgqrs_tally_report(struct broker *b);

/* ---- load.c ---- */
int pgqrs_load_start(struct broker *b, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Settings of queues have changed. */
void pgqrs_load_update(struct broker *b);
void pgqrs_load_fini(struct broker *b);

/* ---- job_peers.c ---- */
int pgqrs_peers_listen(struct broker *b, int fd, struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_peer_send(struct peer *peer, const struct pgqrs_buf *frames);
void pgqrs_peer_close(struct peer **peer);
/* Stops or starts reading from everybody: back-pressure while the store does not answer. */
void pgqrs_peers_pause(struct broker *b, bool pause);
void pgqrs_peers_fini(struct broker *b);

/* ---- hello.c ---- */
/* A worker was announced, or one was buried: hellos that waited for that can be answered. */
void pgqrs_hello_announced(struct broker *b);

/* ---- worker_table.c ---- */
int pgqrs_worker_add(struct broker *b, const struct pgqrs_worker_started *started,
                     struct pgqrs_error *err) PGQRS_MUST_CHECK;
struct worker *pgqrs_worker_find(struct broker *b, uint64_t generation);
/* True while a dead worker of the same place still has leases. */
bool pgqrs_worker_has_predecessor(const struct worker *worker);
/* The name of its row; size 1024 is enough. */
void pgqrs_worker_row_name(const struct broker *b, const struct worker *worker, char *out,
                           size_t size);
/* The worker's hello went through the store: what it holds is what it said. */
void pgqrs_worker_attach(struct broker *b, struct worker *worker, struct peer *peer, int64_t row_id,
                         const struct pgqrs_job_hello *hello);
void pgqrs_worker_detach(struct broker *b, struct worker *worker);
void pgqrs_worker_ended(struct broker *b, const struct pgqrs_worker_ended *m);
/* Ends every worker whose last messages were read; those still waited for keep the timer going. */
void pgqrs_workers_gather(struct broker *b);
/* Workers whose last outcomes are stored: their rows are closed, and they are forgotten. */
void pgqrs_workers_bury(struct broker *b);
/* Whether a hello or a burial is at the store. */
bool pgqrs_workers_pending(const struct broker *b);
/* At start: leases of workers that are not announced belong to the dead. */
int pgqrs_workers_recover(struct broker *b, struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_workers_fini(struct broker *b);

/* ---- held_leases.c ---- */
/* It is given nothing: its row says so, or its queue is paused. */
bool pgqrs_worker_is_held_back(const struct worker *worker);
/* A worker holds no more than it may be sent, plus what it is likely to need before the next commit
 * is done: that reserve waits here, and goes back to the queue if it has to wait. */
uint32_t pgqrs_worker_credit(const struct broker *b, const struct worker *worker);
/* Keeps a lease of the worker; the payload is copied. */
int pgqrs_worker_hold(struct worker *worker, const struct pgqrs_lease *lease);
/* It said that it holds this one. */
struct pgqrs_job_key pgqrs_lease_key(const struct pgqrs_lease *lease);
void pgqrs_worker_hold_sent(struct worker *worker, struct pgqrs_job_key key);
struct held_job *pgqrs_worker_held(struct worker *worker, struct pgqrs_job_key key);
/* False when it did not hold it. */
bool pgqrs_worker_unhold(struct worker *worker, struct pgqrs_job_key key);
/* The i-th lease is no longer held. */
void pgqrs_worker_drop_held(struct worker *worker, size_t i);
/* An outcome message with so many outcomes came. */
void pgqrs_worker_pace(struct worker *worker, size_t outcomes);
/* Puts as much of the reserve as it may be sent into its message. */
void pgqrs_worker_send_reserve(struct worker *worker);
/* Sends the messages under construction. */
void pgqrs_worker_flush(struct worker *worker);
/* The whole reserve goes back to the queue. */
void pgqrs_worker_return_reserve(struct broker *b, struct worker *worker);
/* Who has a reserve and does not come for it loses it after a moment. */
void pgqrs_watch_reserve(struct broker *b);
void on_spare(evutil_socket_t fd, short what, void *arg);

/* ---- only_message.c ---- */
/* It is connected: claims its message, unless it has it. */
void pgqrs_only_attached(struct broker *b, struct worker *worker);
/* An outcome of it is stored: pgqrsd is told. */
void pgqrs_only_settled(struct broker *b, struct worker *worker,
                        const struct pgqrs_settlement *item);
/* It is about to be forgotten. */
void pgqrs_only_buried(struct broker *b, struct worker *worker);

/* ---- group.c ---- */
/* Takes the body of a JOB_RESULTS frame: it owns data from here. -1: nonsense inside. */
int pgqrs_group_add_results(struct broker *b, struct worker *worker, void *data,
                            const struct pgqrs_frame *frame,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* A job that was never begun: back as it was before the lease. */
int pgqrs_group_add_returned(struct broker *b, struct worker *worker, struct pgqrs_job_key key,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* The job that ran when its worker ended: its attempt is spent. text lives as long as the worker.
 */
int pgqrs_group_add_charged(struct broker *b, struct worker *worker, const struct held_job *job,
                            const char *text, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Somebody has cancelled it, and its worker has not done it. */
int pgqrs_group_add_cancelled(struct broker *b, struct worker *worker, struct pgqrs_job_key key,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* A message that no worker can be sent. */
void pgqrs_group_add_oversized(struct broker *b, struct worker *worker, struct pgqrs_job_key key);
void pgqrs_group_clear(struct group *g);
void pgqrs_group_fini(struct group *g);

/* ---- flow.c ---- */
int pgqrs_flows_start(struct broker *b, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Takes the body of a JOB_FLOW frame: it owns data from here. -1: nonsense inside. */
int pgqrs_flows_add(struct broker *b, struct worker *worker, void *data,
                    const struct pgqrs_frame *frame, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Appends the leases that it has asked about. */
void pgqrs_flows_known(const struct broker *b, const struct worker *worker,
                       struct pgqrs_lease_ref *refs, size_t *count);
/* Brings what has collected to the store, unless something is on its way there. */
void pgqrs_flows_turn(struct broker *b);
bool pgqrs_flows_idle(const struct broker *b);
void pgqrs_flows_fini(struct broker *b);

/* ---- commit.c ---- */
/* Starts an exchange at the end of this turn of the loop, or as soon as the one under way ends. */
void pgqrs_commit_wake(struct broker *b);
/* The store failed: outcomes wait, and it is tried again, ever more slowly. */
void pgqrs_commit_trouble(struct broker *b, const struct pgqrs_error *err);
/* Something was written. */
void pgqrs_commit_success(struct broker *b);
void pgqrs_commit_all_maybe_ready(struct broker *b);
/* While a worker or a client waits, who enqueues is asked to wake us. */
void pgqrs_commit_doze(struct broker *b);
bool pgqrs_commit_idle(const struct broker *b);
void on_commit_turn(evutil_socket_t fd, short what, void *arg);
void on_wake(evutil_socket_t fd, short what, void *arg);
void pgqrs_commit_fini(struct broker *b);

/* ---- client_watch.c ---- */
/* Clients that wait are to look: something was committed that may be for them. */
void pgqrs_clients_wake(struct broker *b);

/* ---- chores.c ---- */
int pgqrs_chores_start(struct broker *b, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Tells the store what dozing says. */
void pgqrs_chores_doze(struct broker *b);
/* The broker stops soon: the store need not wake it any more. */
void pgqrs_chores_unwatch(struct broker *b);
void pgqrs_chores_fini(struct broker *b);

/* ---- orders.c ---- */
int pgqrs_orders_start(struct broker *b, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Somebody may have written an order: looks soon, not only at the next heartbeat. */
void pgqrs_orders_look(struct broker *b);
/* Its queue is paused: what it has not begun comes back. */
void pgqrs_orders_pause(struct broker *b, struct worker *worker);
/* It is connected: a suspension of the one that died in its place is its own now. */
void pgqrs_orders_attached(struct broker *b, struct worker *worker);
/* It is about to be forgotten. */
void pgqrs_orders_buried(struct broker *b, const struct worker *worker);
void pgqrs_orders_fini(struct broker *b);

/* ---- schedules.c ---- */
int pgqrs_schedules_start(struct broker *b, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* A BROKER_SCHEDULES message. */
int pgqrs_schedules_configure(struct broker *b, const struct pgqrs_frame *frame,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Somebody may have changed one: looks soon, not only when the next tick is due. */
void pgqrs_schedules_wake(struct broker *b);
void pgqrs_schedules_fini(struct broker *b);

#endif
