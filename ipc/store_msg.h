/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_STORE_MSG_H
#define PGQRS_IPC_STORE_MSG_H

/*
 * The store's operations as messages: a client of a broker calls, the broker runs the call on its
 * store and replies. The rules of ipc/msg.h hold. A client says hello first and waits for the
 * welcome, then sends one call at a time and waits for the reply with the call's number.
 *
 * Decoded calls borrow texts and byte runs from the frame; decoded replies own the texts that the
 * store contract says are owned, so that a list can be handed on as it is. A lease's payload is
 * borrowed. Both have a _fini.
 */

#include "ipc/msg.h"
#include "store/schedule.h"
#include "store/store.h"
#include "store/workflow.h"

#define PGQRS_STORE_LIST_MAX 1000        /* items of a list, leases in an exchange */
#define PGQRS_STORE_ENQUEUE_MAX 10000    /* messages enqueued at once */
#define PGQRS_STORE_STEPS_MAX 100000     /* steps, events, keys of a run */
#define PGQRS_STORE_TEXT_MAX (64 * 1024) /* of a name, a filter, a reason */

/* ---- hello ---- */

struct pgqrs_client_hello {
    uint16_t major, minor;
    const char *version; /* of the program */
};
void pgqrs_encode_client_hello(struct pgqrs_buf *out, const struct pgqrs_client_hello *m);
int pgqrs_decode_client_hello(const struct pgqrs_frame *f, struct pgqrs_client_hello *m,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;

struct pgqrs_client_welcome {
    uint16_t major, minor;
    const char *version; /* of the broker */
    const char *backend; /* of its store */
};
void pgqrs_encode_client_welcome(struct pgqrs_buf *out, const struct pgqrs_client_welcome *m);
int pgqrs_decode_client_welcome(const struct pgqrs_frame *f, struct pgqrs_client_welcome *m,
                                struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- operations ---- */

enum pgqrs_store_op { /* numbers go on the wire: append, never reuse */
                      PGQRS_STORE_OP_NONE = 0,
                      PGQRS_STORE_INSTALL = 1,
                      PGQRS_STORE_VERIFY = 2,
                      PGQRS_STORE_QUEUE_CREATE = 3,
                      PGQRS_STORE_QUEUE_FIND = 4,
                      PGQRS_STORE_QUEUE_LIST = 5,
                      PGQRS_STORE_QUEUE_PAUSE = 6,
                      PGQRS_STORE_QUEUE_DELETE = 7,
                      PGQRS_STORE_QUEUE_PURGE = 8,
                      PGQRS_STORE_QUEUE_METRICS = 9,
                      PGQRS_STORE_ENQUEUE = 10,
                      PGQRS_STORE_MESSAGE_GET = 11,
                      PGQRS_STORE_MESSAGE_LIST = 12,
                      PGQRS_STORE_MESSAGE_ACT = 13,
                      PGQRS_STORE_PRUNE = 14,
                      PGQRS_STORE_BURY = 15,
                      PGQRS_STORE_REAP = 16,
                      PGQRS_STORE_WORKER_REGISTER = 17,
                      PGQRS_STORE_WORKER_BEAT = 18,
                      PGQRS_STORE_WORKER_END = 19,
                      PGQRS_STORE_WORKER_RECONCILE = 20,
                      PGQRS_STORE_WORKER_LIST = 21,
                      PGQRS_STORE_WORKER_MOVE = 22,
                      PGQRS_STORE_WORKER_DELETE = 23,
                      PGQRS_STORE_WORKER_PURGE = 24,
                      PGQRS_STORE_WORKER_STATS = 25,
                      PGQRS_STORE_INFO = 26,
                      PGQRS_STORE_EXCHANGE = 27,
                      PGQRS_STORE_RENEW = 28,
                      PGQRS_STORE_WORKER_ORDERS = 29,
                      PGQRS_STORE_WORKFLOW_CREATE = 30,
                      PGQRS_STORE_WORKFLOW_LIST = 31,
                      PGQRS_STORE_WORKFLOW_FIND = 32,
                      PGQRS_STORE_RUN_GET = 33,
                      PGQRS_STORE_RUN_LIST = 34,
                      PGQRS_STORE_RUN_STEPS = 35,
                      PGQRS_STORE_RUN_STATE = 36,
                      PGQRS_STORE_RUN_EVENTS = 37,
                      PGQRS_STORE_RUN_CANCEL = 38,
                      PGQRS_STORE_RUN_RESUME = 39,
                      PGQRS_STORE_RUN_FORK = 40,
                      PGQRS_STORE_EVENT_SEND = 41,
                      PGQRS_STORE_SCHEDULE_CREATE = 42,
                      PGQRS_STORE_SCHEDULE_LIST = 43,
                      PGQRS_STORE_SCHEDULE_FIND = 44,
                      PGQRS_STORE_SCHEDULE_PAUSE = 45,
                      PGQRS_STORE_SCHEDULE_DELETE = 46,
                      PGQRS_STORE_OP_COUNT
};

const char *pgqrs_store_op_name(enum pgqrs_store_op op);
/* Whether the store may be different afterwards. */
bool pgqrs_store_op_changes(enum pgqrs_store_op op);

struct pgqrs_wire_block;

struct pgqrs_store_call {
    uint64_t number; /* the caller's, given back in the reply */
    enum pgqrs_store_op op;
    union {
        const char *name; /* QUEUE_CREATE, QUEUE_FIND, WORKFLOW_CREATE, WORKFLOW_FIND,
                             SCHEDULE_FIND, SCHEDULE_DELETE */
        int64_t id; /* QUEUE_DELETE, MESSAGE_GET, WORKER_DELETE, RUN_GET, RUN_STEPS, RUN_STATE,
                       RUN_EVENTS, RUN_CANCEL, RUN_RESUME */
        struct {
            int64_t after_id;
            uint32_t limit;
        } queue_list; /* WORKFLOW_LIST, too */
        struct {
            int64_t queue_id;
            bool paused;
        } pause;
        struct {
            int64_t queue_id;
            uint32_t what, limit;
        } queue_purge;
        struct {
            int64_t queue_id;
            uint64_t count_max;
        } metrics;
        struct {
            int64_t queue_id;
            const struct pgqrs_enqueue *items;
            size_t count;
        } enqueue;
        struct pgqrs_message_filter messages;
        struct {
            enum pgqrs_act act;
            const int64_t *ids;
            size_t count;
        } act;
        struct pgqrs_prune prune;
        struct {
            int64_t queue_id;
            uint32_t max_attempts;
        } bury;
        struct pgqrs_reap reap;
        struct pgqrs_worker_row worker;
        struct {
            const int64_t *ids;
            size_t count;
        } beat;
        struct {
            int64_t worker_id;
            struct pgqrs_release release;
        } end;
        struct {
            int64_t worker_id;
            const struct pgqrs_lease_ref *known;
            size_t count;
        } reconcile;
        struct pgqrs_worker_filter workers;
        struct {
            int64_t worker_id;
            enum pgqrs_worker_move move;
        } move;
        struct {
            int64_t older_ms;
            uint32_t limit;
        } worker_purge;
        struct {
            int64_t queue_id, stale_ms;
        } stats;
        struct {
            struct pgqrs_settlement *settlements;
            size_t settlement_count;
            const struct pgqrs_want *wants;
            size_t want_count;
        } exchange;
        struct {
            const struct pgqrs_lease_ref *leases;
            size_t count;
            int64_t lease_ms;
        } renew;
        struct {
            const int64_t *ids;
            size_t count;
            bool beat;
            uint32_t cancel_max;
        } orders;
        struct pgqrs_run_filter runs;
        struct {
            int64_t message_id;
            const char *from_step; /* null: none */
            struct pgqrs_bytes input;
        } fork;
        struct {
            int64_t message_id;
            const char *name;
            struct pgqrs_bytes payload;
        } event;
        struct pgqrs_schedule_put schedule;
        struct {
            const char *after; /* null: from the first */
            uint32_t limit;
        } schedules;
        struct {
            const char *name;
            bool paused;
        } schedule_pause;
    } u;
    struct pgqrs_wire_block *blocks; /* what decoding allocated */
};

struct pgqrs_store_reply {
    uint64_t number;
    enum pgqrs_store_op op;
    int64_t rc;             /* what the call returned */
    struct pgqrs_error err; /* when that is -1; else the outputs: */
    union {
        int64_t id; /* QUEUE_CREATE, QUEUE_FIND, WORKER_REGISTER, RUN_FORK, SCHEDULE_CREATE */
        struct pgqrs_queue_list queues;
        struct pgqrs_queue_metrics metrics;
        struct {
            const int64_t *ids;
            const bool *existed;
            size_t count;
        } enqueued;
        struct pgqrs_message message;
        struct pgqrs_message_list messages;
        struct {
            const enum pgqrs_acted *items;
            size_t count;
        } acted;
        struct {
            int64_t from_us, from_id;
        } prune;
        struct pgqrs_worker_info_list workers;
        struct pgqrs_worker_stats stats;
        struct pgqrs_store_info info;
        struct {
            const enum pgqrs_settled *settled;
            size_t settled_count;
            const struct pgqrs_lease *leases;
            size_t lease_count;
            int64_t next_due_us, now_us;
        } exchange;
        struct {
            const bool *held;
            size_t count;
        } renewed;
        struct {
            const enum pgqrs_worker_state *states;
            size_t state_count;
            const struct pgqrs_lease_ref *cancels;
            size_t cancel_count;
        } orders;
        struct {
            int64_t id;
            bool existed;
        } workflow;                           /* WORKFLOW_CREATE */
        struct pgqrs_workflow_list workflows; /* WORKFLOW_LIST, WORKFLOW_FIND */
        struct pgqrs_run_list runs;           /* RUN_GET, RUN_LIST */
        struct pgqrs_step_list steps;
        struct pgqrs_pair_list pairs;         /* RUN_STATE, RUN_EVENTS */
        enum pgqrs_run_status status;         /* RUN_CANCEL */
        bool flag;                            /* RUN_RESUME: woken. EVENT_SEND: the first one */
        struct pgqrs_schedule_list schedules; /* SCHEDULE_LIST, SCHEDULE_FIND */
    } u;
    struct pgqrs_wire_block *blocks;
};

/*
 * Both append a frame, or leave out as it was: PGQRS_ERR_INVALID tells what is too long for a
 * message, or that the whole is.
 */
int pgqrs_encode_store_call(struct pgqrs_buf *out, const struct pgqrs_store_call *m,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;
int pgqrs_encode_store_reply(struct pgqrs_buf *out, const struct pgqrs_store_reply *m,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;

int pgqrs_decode_store_call(const struct pgqrs_frame *f, struct pgqrs_store_call *m,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_store_call_fini(struct pgqrs_store_call *m); /* of a decoded one */
int pgqrs_decode_store_reply(const struct pgqrs_frame *f, struct pgqrs_store_reply *m,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Frees what the lists own, too; set those to zero that were taken over. */
void pgqrs_store_reply_fini(struct pgqrs_store_reply *m);

#endif
