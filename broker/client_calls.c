/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/client_calls.h"

#include <stdlib.h>

#include "broker/store_service.h"

struct client_call {
    struct store_task task;
    struct peer *peer; /* null: it has gone */
    void *data;
    struct pgqrs_frame frame;
    struct pgqrs_buf reply;
    bool look;
};
_Static_assert(offsetof(struct client_call, task) == 0, "one is taken for the other");

static void drop(struct store_task *task)
{
    struct client_call *call = (struct client_call *)task;
    pgqrs_buf_fini(&call->reply);
    free(call->data);
    free(call);
}

static void run(struct pgqrs_store *store, struct store_task *task)
{
    struct client_call *call = (struct client_call *)task;
    task->rc = pgqrs_store_service(store, &call->frame, &call->reply, &call->look, &task->err);
}

static enum pgqrs_store_op op_of(const struct pgqrs_frame *frame)
{
    struct pgqrs_reader r = pgqrs_reader_of(frame->body, frame->len);
    (void)pgqrs_read_u64(&r); /* the call's number */
    return (enum pgqrs_store_op)pgqrs_read_u8(&r);
}

/* What it did may be meant for a worker of ours. */
static bool may_order(enum pgqrs_store_op op)
{
    return op == PGQRS_STORE_MESSAGE_ACT || op == PGQRS_STORE_WORKER_MOVE;
}

static bool may_plan(enum pgqrs_store_op op)
{
    return op == PGQRS_STORE_SCHEDULE_CREATE || op == PGQRS_STORE_SCHEDULE_PAUSE;
}

static void done(void *arg, struct store_task *task)
{
    struct client_call *call = (struct client_call *)task;
    if (call->look) {
        pgqrs_commit_all_maybe_ready(arg);
        pgqrs_clients_wake(arg);
    }
    enum pgqrs_store_op op = op_of(&call->frame);
    if (may_order(op)) {
        pgqrs_orders_look(arg);
    }
    if (may_plan(op)) {
        pgqrs_schedules_wake(arg);
    }
    if (call->peer != NULL) {
        pgqrs_peer_replied(call->peer, &call->reply, task->rc < 0 ? task->err.text : NULL);
    }
    drop(task);
}

struct client_call *pgqrs_client_call_start(struct broker *b, struct peer *peer, void *data,
                                            const struct pgqrs_frame *frame)
{
    struct client_call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        free(data);
        return NULL;
    }
    *call = (struct client_call){
        .task = {.call = PGQRS_CALL_CLIENT, .run = run, .done = done, .drop = drop},
        .peer = peer,
        .data = data,
        .frame = *frame,
    };
    pgqrs_store_thread_submit(b->store_thread, &call->task);
    return call;
}

void pgqrs_client_call_forget(struct client_call *call)
{
    call->peer = NULL;
}
