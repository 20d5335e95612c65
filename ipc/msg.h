/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_MSG_H
#define PGQRS_IPC_MSG_H

/*
 * Every message between our processes: who sends it to whom, what is in it, how large it may be.
 *
 * The same frame travels on both channels: u32 length of the body, u16 type, u16 zero, body.
 * Numbers are little-endian; a text or byte run is a u32 length, the bytes and a zero byte; a list
 * is a u32 count and the items. A receiver takes a message only if type, direction and length fit
 * the table (pgqrs_msg_check), every field is in bounds and nothing is left over (the decoders);
 * a peer that sends anything else is dropped.
 *
 * Decoded texts and byte runs are borrowed from the frame. Decoded lists are allocated; the struct
 * that holds one has a _fini.
 *
 * Letters: s supervisor, b broker, w worker, g gateway, c any child, p a program that uses the
 * broker's store (ipc/store_msg.h).
 */

#include "base/bytes.h"
#include "base/error.h"
#include "ipc/msg_gateway.h"
#include "ipc/msg_isolation.h"
#include "ipc/msg_queues.h"
#include "ipc/msg_run.h"
#include "ipc/msg_schedules.h"
#include "ipc/msg_tally.h"
#include "ipc/msg_watch.h"

#define PGQRS_IPC_MAJOR 1 /* incompatible: peers refuse each other at hello */
#define PGQRS_IPC_MINOR 0 /* additive */

#define PGQRS_FRAME_HEADER 8
#define PGQRS_BODY_MAX (16u * 1024 * 1024)
#define PGQRS_CONTROL_BODY_MAX (1u * 1024 * 1024 - 64) /* NNG refuses more than 1 MiB */
#define PGQRS_FRAME_TARGET (256u * 1024)     /* a list of jobs or results starts a new frame here */
#define PGQRS_PAYLOAD_MAX (4u * 1024 * 1024) /* of a job; enqueue has its own, lower limit */
#define PGQRS_RESULT_MAX (1u * 1024 * 1024)
#define PGQRS_ERROR_TEXT_MAX 4096
#define PGQRS_NAME_MAX 255 /* bytes in a queue name that pgqrsd serves */
#define PGQRS_PATH_TEXT_MAX 4095
#define PGQRS_DSN_MAX 8192
#define PGQRS_SITE_NAME_MAX 63
#define PGQRS_SCHEMA_MAX 63 /* as PostgreSQL has it */
#define PGQRS_PREFETCH_MAX 1000
#define PGQRS_CONSUMERS_MAX 1024
#define PGQRS_QUEUES_MAX 1024
#define PGQRS_RESTARTS_MAX 100
#define PGQRS_LOAD_MAX 100000   /* messages that a count of those that wait goes up to */
#define PGQRS_WORKERS_MAX 2048  /* of all queues; the broker's welcome has room for them */
#define PGQRS_ENQUEUES_MAX 1000 /* follow-up jobs of one job */
#define PGQRS_ENQUEUES_BYTES_MAX (8u * 1024 * 1024)
#define PGQRS_TOKEN_SIZE 16

enum pgqrs_role {
    PGQRS_ROLE_NONE = 0,
    PGQRS_ROLE_SUPERVISOR = 1,
    PGQRS_ROLE_BROKER = 2,
    PGQRS_ROLE_WORKER = 4,
    PGQRS_ROLE_CLIENT = 8,
    PGQRS_ROLE_GATEWAY = 16,
    PGQRS_ROLE_CHILD = 22, /* broker, worker or gateway, in a direction */
};

enum pgqrs_msg_type { /* numbers go on the wire: append, never reuse */
                      PGQRS_MSG_NONE = 0,
                      /* control, over NNG */
                      PGQRS_MSG_CHILD_HELLO = 1, /* c>s first message; answer a welcome or refuse */
                      PGQRS_MSG_REFUSE =
                          2, /* s>c, b>wp why the hello is not accepted; the peer ends */
                      PGQRS_MSG_BROKER_WELCOME =
                          3, /* s>b store, settings, queues, the workers that live */
                      PGQRS_MSG_WORKER_WELCOME = 4, /* s>w queue, plugin, job socket, token */
                      PGQRS_MSG_CHILD_READY = 5,    /* c>s store open and serving; plugin loaded */
                      PGQRS_MSG_CHILD_BEAT = 6,     /* c>s I live; what I do */
                      PGQRS_MSG_CHILD_DRAIN =
                          7, /* s>c broker: lease nothing more. worker: give back what has
                                not begun, finish the running job, end */
                      PGQRS_MSG_WORKER_CANCEL = 8,  /* s>w the running job should stop */
                      PGQRS_MSG_WORKER_STARTED = 9, /* s>b a worker was started; its token */
                      PGQRS_MSG_WORKER_ENDED =
                          10, /* s>b a worker is dead and reaped; free its leases */
                      PGQRS_MSG_BROKER_STOP =
                          11,                   /* s>b all workers have ended: commit, close, end */
                      PGQRS_MSG_COMPLAINT = 12, /* b>s a worker broke the protocol: kill it */
                      /* jobs, over a Unix stream socket */
                      PGQRS_MSG_JOB_HELLO = 13, /* w>b first message; token, credit, what is held */
                      PGQRS_MSG_JOB_WELCOME = 14, /* b>w accepted */
                      PGQRS_MSG_JOB_LEASES = 15,  /* b>w jobs to run, in order */
                      PGQRS_MSG_JOB_RESULTS = 16, /* w>b outcomes */
                      PGQRS_MSG_JOB_SETTLED =
                          17, /* b>w these outcomes are stored, or were refused */
                      PGQRS_MSG_JOB_CAPACITY =
                          18, /* w>b hold at most so many jobs from now; 0 when draining */
                      /* the store, over the same socket: ipc/store_msg.h */
                      PGQRS_MSG_CLIENT_HELLO = 19,   /* p>b first message */
                      PGQRS_MSG_CLIENT_WELCOME = 20, /* b>p accepted */
                      PGQRS_MSG_STORE_CALL = 21,     /* p>b run this on the store */
                      PGQRS_MSG_STORE_REPLY = 22,    /* b>p what came of it */
                      /* control: somebody asks for it in the store */
                      PGQRS_MSG_ORDER = 23,         /* b>s for this worker */
                      PGQRS_MSG_WORKER_ORDER = 24,  /* s>w the same, handed on */
                      PGQRS_MSG_LOG_LEVEL = 25,     /* s>c log from this level on */
                      PGQRS_MSG_BROKER_QUEUES = 26, /* s>b serve these from now on */
                      PGQRS_MSG_QUEUES_KNOWN = 27,  /* b>s they are in the store */
                      PGQRS_MSG_QUEUE_LOAD = 28,    /* b>s how much waits in one */
                      PGQRS_MSG_RUN_ENDED = 29,     /* b>s the one job of a worker: ipc/msg_run.h */
                      /* workflows, on the job socket: ipc/msg_flow.h */
                      PGQRS_MSG_JOB_FLOW = 30,   /* w>b do this for the running job */
                      PGQRS_MSG_JOB_FLOWED = 31, /* b>w what came of it */
                      /* control */
                      PGQRS_MSG_BROKER_SCHEDULES = 32, /* s>b those of the configuration */
                      PGQRS_MSG_GATEWAY_WELCOME = 33,  /* s>g whom to ask */
                      PGQRS_MSG_TALLY = 34,            /* b>s how the store does */
                      /* clients */
                      PGQRS_MSG_CLIENT_WATCH = 35, /* p>b say when there may be messages */
                      PGQRS_MSG_CLIENT_WAKE = 36,  /* b>p there may be some */
                      /* control */
                      PGQRS_MSG_GATEWAY_LOOK = 37, /* s>g ask again: the state has changed */
                      PGQRS_MSG_COUNT
};

struct pgqrs_msg_desc {
    const char *name;
    uint8_t from, to; /* enum pgqrs_role, or several */
    uint32_t min_len, max_len;
};

extern const struct pgqrs_msg_desc pgqrs_msg_descs[PGQRS_MSG_COUNT];

/* A received message: body is borrowed. */
struct pgqrs_frame {
    enum pgqrs_msg_type type;
    const uint8_t *body;
    size_t len;
};

/* Appends an empty frame and returns where it starts; append the body; then end it. */
size_t pgqrs_msg_begin(struct pgqrs_buf *out, enum pgqrs_msg_type type);
void pgqrs_msg_end(struct pgqrs_buf *out, size_t start);
/* A message without a body. */
void pgqrs_encode_empty(struct pgqrs_buf *out, enum pgqrs_msg_type type);

/*
 * Looks for one whole frame at the start of data. 1: *frame_out and *used_out are set. 0: more
 * bytes are needed. -1: nonsense. Checks type, direction and length against the table.
 */
int pgqrs_msg_parse(const void *data, size_t len, enum pgqrs_role from, enum pgqrs_role to,
                    struct pgqrs_frame *frame_out, size_t *used_out,
                    struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- control ---- */

struct pgqrs_child_hello {
    uint16_t major, minor;
    const char *version;
    uint32_t pid;
    uint64_t generation;
    enum pgqrs_role role;
};
void pgqrs_encode_child_hello(struct pgqrs_buf *out, const struct pgqrs_child_hello *m);
int pgqrs_decode_child_hello(const struct pgqrs_frame *f, struct pgqrs_child_hello *m,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;

void pgqrs_encode_refuse(struct pgqrs_buf *out, const char *why);
int pgqrs_decode_refuse(const struct pgqrs_frame *f, const char **why_out,
                        struct pgqrs_error *err) PGQRS_MUST_CHECK;

struct pgqrs_worker_started {
    uint64_t generation;
    uint32_t slot; /* number of the worker within its queue, from 0, reused */
    uint32_t pid;
    const char *queue;
    uint8_t token[PGQRS_TOKEN_SIZE];
    int64_t only_message; /* it is given this one and no other; 0: an ordinary worker */
};

struct pgqrs_broker_welcome {
    const char *instance; /* names this run of the supervisor; never the same twice */
    const char *name;     /* with the host's: the site; no other pgqrsd of the store has it */
    const char *dsn, *schema;
    const char *wake_dsn; /* empty: the same as dsn */
    int64_t lease_ms, poll_ms, heartbeat_ms;
    int64_t
        foreign_stale_ms; /* free leases of other clients that are silent for so long; 0: never */
    uint8_t synchronous_full; /* SQLite: 1 FULL, 0 NORMAL */
    uint8_t draining;         /* 1: lease nothing */
    struct pgqrs_queue_settings *queues;
    size_t queue_count;
    struct pgqrs_worker_started *workers; /* those alive now; leases of others are free */
    size_t worker_count;
};
void pgqrs_encode_broker_welcome(struct pgqrs_buf *out, const struct pgqrs_broker_welcome *m);
int pgqrs_decode_broker_welcome(const struct pgqrs_frame *f, struct pgqrs_broker_welcome *m,
                                struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_broker_welcome_fini(struct pgqrs_broker_welcome *m);

struct pgqrs_worker_welcome {
    const char *queue, *handler; /* handler: path of the plugin */
    const char *settings;        /* JSON object for the plugin's init */
    const char *job_socket;      /* path */
    uint8_t token[PGQRS_TOKEN_SIZE];
    uint32_t slot, prefetch, max_attempts;
    int64_t heartbeat_ms;
    int64_t timeout_ms, cancel_grace_ms; /* of a job; timeout 0: none */
    struct pgqrs_isolation isolation;
    uint32_t log_lines; /* of output, a second; 0: no limit */
    uint8_t once;       /* 1: it ends after its first job */
};
void pgqrs_encode_worker_welcome(struct pgqrs_buf *out, const struct pgqrs_worker_welcome *m);
int pgqrs_decode_worker_welcome(const struct pgqrs_frame *f, struct pgqrs_worker_welcome *m,
                                struct pgqrs_error *err) PGQRS_MUST_CHECK;

struct pgqrs_child_beat {
    int64_t job_id;   /* worker: the job that runs, 0 none */
    int64_t job_ms;   /* worker: for how long */
    uint32_t held;    /* worker: jobs held; broker: jobs out with workers, or not stored yet */
    uint64_t settled; /* broker: outcomes stored since it started; worker: sent */
};
void pgqrs_encode_child_beat(struct pgqrs_buf *out, const struct pgqrs_child_beat *m);
int pgqrs_decode_child_beat(const struct pgqrs_frame *f, struct pgqrs_child_beat *m,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* job_id 0: whichever runs. */
void pgqrs_encode_worker_cancel(struct pgqrs_buf *out, int64_t job_id);
int pgqrs_decode_worker_cancel(const struct pgqrs_frame *f, int64_t *job_id_out,
                               struct pgqrs_error *err) PGQRS_MUST_CHECK;

void pgqrs_encode_worker_started(struct pgqrs_buf *out, const struct pgqrs_worker_started *m);
int pgqrs_decode_worker_started(const struct pgqrs_frame *f, struct pgqrs_worker_started *m,
                                struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* queues_out: borrows from the frame; free it. */
void pgqrs_encode_broker_queues(struct pgqrs_buf *out, uint32_t serial,
                                const struct pgqrs_queue_settings *queues, size_t count);
int pgqrs_decode_broker_queues(const struct pgqrs_frame *f, uint32_t *serial_out,
                               struct pgqrs_queue_settings **queues_out, size_t *count_out,
                               struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_encode_queues_known(struct pgqrs_buf *out, uint32_t serial);
int pgqrs_decode_queues_known(const struct pgqrs_frame *f, uint32_t *serial_out,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;

struct pgqrs_queue_load {
    const char *queue;
    uint32_t ready; /* messages that are due and not leased; at most the queue's load_max */
};
void pgqrs_encode_queue_load(struct pgqrs_buf *out, const struct pgqrs_queue_load *m);
int pgqrs_decode_queue_load(const struct pgqrs_frame *f, struct pgqrs_queue_load *m,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* level: enum pgqrs_log_level */
void pgqrs_encode_log_level(struct pgqrs_buf *out, uint8_t level);
int pgqrs_decode_log_level(const struct pgqrs_frame *f, uint8_t *level_out,
                           struct pgqrs_error *err) PGQRS_MUST_CHECK;

enum pgqrs_end {
    PGQRS_END_CLEAN = 0,       /* it had finished: nothing it still holds had begun */
    PGQRS_END_CRASHED = 1,     /* the job that ran has spent its attempt */
    PGQRS_END_INTERRUPTED = 2, /* by us, for a stop: the job that ran has not */
    PGQRS_END_TIMEOUT = 3,     /* the job that ran did not stop at its limit; it has, and that is no
                                  crash */
    PGQRS_END_KILLED = 4,      /* somebody wanted it: as at its limit */
};

struct pgqrs_worker_ended {
    uint64_t generation;
    enum pgqrs_end how;
    const char *reason;
};
void pgqrs_encode_worker_ended(struct pgqrs_buf *out, const struct pgqrs_worker_ended *m);
int pgqrs_decode_worker_ended(const struct pgqrs_frame *f, struct pgqrs_worker_ended *m,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;

struct pgqrs_job_key {
    int64_t id;
    uint32_t attempt; /* with id it names the lease */
    uint32_t crashes; /* earlier attempts in which its worker died of it; below attempt. They count
                         for on_crash, and not for max_attempts */
};

enum pgqrs_order_kind {
    PGQRS_ORDER_NONE = 0,
    PGQRS_ORDER_CANCEL = 1,    /* this job: it stops, or comes back if it has not begun */
    PGQRS_ORDER_INTERRUPT = 2, /* the job that runs stops, what has not begun comes back */
    PGQRS_ORDER_SUSPEND = 3,   /* what has not begun comes back */
    PGQRS_ORDER_STOP = 4,      /* as interrupt, then the worker ends. Not for the worker */
};

struct pgqrs_order {
    uint64_t generation;
    enum pgqrs_order_kind kind;
    struct pgqrs_job_key key; /* of the job; zeros but for a cancellation */
};
/* ipc/msg_order.c */
void pgqrs_encode_order(struct pgqrs_buf *out, enum pgqrs_msg_type type,
                        const struct pgqrs_order *m);
int pgqrs_decode_order(const struct pgqrs_frame *f, struct pgqrs_order *m,
                       struct pgqrs_error *err) PGQRS_MUST_CHECK;

struct pgqrs_complaint {
    uint64_t generation;
    const char *text;
};
void pgqrs_encode_complaint(struct pgqrs_buf *out, const struct pgqrs_complaint *m);
int pgqrs_decode_complaint(const struct pgqrs_frame *f, struct pgqrs_complaint *m,
                           struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- jobs ---- */

struct pgqrs_job_hello {
    uint16_t major, minor;
    uint64_t generation;
    uint8_t token[PGQRS_TOKEN_SIZE];
    uint32_t capacity; /* hold at most so many jobs */
    uint8_t workflow;  /* 1: its handler is one */
    /* Every lease the worker knows of: the running job, then those it will run, in order, then
     * those whose outcome it sent and has not seen settled; these outcomes follow as JOB_RESULTS. A
     * lease of this worker that is not among them was lost on the way and goes back to the queue.
     * Never more than PGQRS_PREFETCH_MAX, since new leases come only with the settling of old ones.
     */
    struct pgqrs_job_key *held;
    size_t held_count;
};
void pgqrs_encode_job_hello(struct pgqrs_buf *out, const struct pgqrs_job_hello *m);
int pgqrs_decode_job_hello(const struct pgqrs_frame *f, struct pgqrs_job_hello *m,
                           struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_job_hello_fini(struct pgqrs_job_hello *m);

struct pgqrs_job_lease {
    struct pgqrs_job_key key;
    int32_t priority;
    int64_t enqueued_at_us;
    int64_t due_us; /* monotonic, which is the same in all processes of a host; 0: not known */
    struct pgqrs_bytes payload;
};

/*
 * Lists are written item by item: begin, items, end. start is what begin returned; the item
 * functions count. A list that grew past PGQRS_FRAME_TARGET should be ended and a new one begun.
 */
size_t pgqrs_job_list_begin(struct pgqrs_buf *out, enum pgqrs_msg_type type);
void pgqrs_job_list_end(struct pgqrs_buf *out, size_t start, uint32_t count);

void pgqrs_encode_job_lease(struct pgqrs_buf *out, const struct pgqrs_job_lease *m);

enum pgqrs_job_outcome { /* what a worker reports; the first five are enum pgqrs_outcome */
                         PGQRS_JOB_DONE = 0,
                         PGQRS_JOB_RETRY = 1,
                         PGQRS_JOB_FAIL = 2,
                         PGQRS_JOB_SNOOZE = 3,
                         PGQRS_JOB_CANCELLED = 4, /* observed a cancellation */
                         PGQRS_JOB_RETURNED = 5,  /* never begun: given back, attempt not spent */
                         PGQRS_JOB_OUTCOME_COUNT
};

struct pgqrs_job_enqueue { /* a follow-up job */
    const char *queue;
    struct pgqrs_bytes payload;
    int64_t delay_ms;
    int32_t priority;
};

struct pgqrs_job_times {
    int64_t waited_us; /* from being due to its start; -1: not known */
    int64_t ran_us;    /* -1: it did not run */
};

struct pgqrs_job_result {
    struct pgqrs_job_key key;
    enum pgqrs_job_outcome outcome;
    int64_t delay_ms; /* -1: the queue's policy */
    struct pgqrs_job_times times;
    struct pgqrs_bytes error;  /* empty: none */
    struct pgqrs_bytes result; /* JSON; empty: none */
    struct pgqrs_job_enqueue *enqueues;
    size_t enqueue_count;
};
void pgqrs_encode_job_result(struct pgqrs_buf *out, const struct pgqrs_job_result *m);

enum pgqrs_verdict {
    PGQRS_VERDICT_STORED = 1,  /* the outcome is durable */
    PGQRS_VERDICT_REFUSED = 2, /* the lease was lost: the outcome was not applied */
};

struct pgqrs_job_settled {
    struct pgqrs_job_key key;
    enum pgqrs_verdict verdict;
};
void pgqrs_encode_job_settled(struct pgqrs_buf *out, const struct pgqrs_job_settled *m);

/* Lists are read item by item: the count, then each, then that nothing is left. */
struct pgqrs_job_list {
    struct pgqrs_reader reader;
    uint32_t left;
};
struct pgqrs_job_list pgqrs_job_list_of(const struct pgqrs_frame *f);
/* 1: *m is set. 0: the list is at its end, and the frame with it. -1: nonsense. */
int pgqrs_next_job_lease(struct pgqrs_job_list *list, struct pgqrs_job_lease *m,
                         struct pgqrs_error *err) PGQRS_MUST_CHECK;
int pgqrs_next_job_settled(struct pgqrs_job_list *list, struct pgqrs_job_settled *m,
                           struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* m->enqueues is allocated when enqueue_count > 0; free it with pgqrs_job_result_fini. */
int pgqrs_next_job_result(struct pgqrs_job_list *list, struct pgqrs_job_result *m,
                          struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_job_result_fini(struct pgqrs_job_result *m);

void pgqrs_encode_job_welcome(struct pgqrs_buf *out, int64_t worker_id);
int pgqrs_decode_job_welcome(const struct pgqrs_frame *f, int64_t *worker_id_out,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;

void pgqrs_encode_job_capacity(struct pgqrs_buf *out, uint32_t capacity);
int pgqrs_decode_job_capacity(const struct pgqrs_frame *f, uint32_t *capacity_out,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
