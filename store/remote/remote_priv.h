/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_REMOTE_REMOTE_PRIV_H
#define PGQRS_STORE_REMOTE_REMOTE_PRIV_H

/*
 * A store that a running broker keeps for us: each operation is a call over the broker's Unix
 * socket, and waits for its reply.
 *
 * The socket outlives a broker: a connection that nobody has accepted yet waits for the next one.
 * So a call may take until its deadline while a broker is replaced, and needs no retry for that.
 */

#include <sys/un.h>

#include "ipc/store_msg.h"
#include "store/store_priv.h"

struct remote_wake { /* see remote_wake.c */
    int epoll;       /* -1: nobody has asked for it */
    int fd;          /* the connection; -1: there is none */
    bool dozing;     /* what the caller wants */
    bool asked;      /* the broker will tell */
    uint64_t known;  /* the last number that it told; 0: none */
    struct pgqrs_buf in;
};

struct remote_store {
    struct pgqrs_store base;
    struct sockaddr_un address;
    int fd; /* -1: not connected */
    int64_t call_ms;
    uint64_t number; /* of the last call */
    struct pgqrs_buf out, in;
    struct remote_wake wake;
    char pgqrs_schema[64]; /* what info tells */
};

extern const struct pgqrs_workflow_ops pgqrs_remote_workflow_ops;
extern const struct pgqrs_schedule_ops pgqrs_remote_schedule_ops;

/*
 * Fills number, sends the call and waits for its reply, which is what the store answered: -1 with
 * *err when that failed, or PGQRS_ERR_AGAIN when the call was not sent or changes nothing,
 * PGQRS_ERR_UNKNOWN when it was sent and no reply came. On success free the reply; what it borrows
 * lies in s->in until the next call.
 */
int pgqrs_remote_call(struct remote_store *s, struct pgqrs_store_call *call,
                      struct pgqrs_store_reply *reply, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* The reply does not fit the call: disconnects. Always -1. */
int pgqrs_remote_nonsense(struct remote_store *s, enum pgqrs_store_op op, struct pgqrs_error *err);
/* Connects and says hello unless it is connected. */
int pgqrs_remote_connect(struct remote_store *s, int64_t deadline_ms,
                         struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_remote_disconnect(struct remote_store *s);

int pgqrs_remote_wake_fd(struct pgqrs_store *store);
bool pgqrs_remote_woken(struct pgqrs_store *store);
void pgqrs_remote_doze(struct pgqrs_store *store);
void pgqrs_remote_rouse(struct pgqrs_store *store);
/* There is a broker: who waits is woken by it from now on. */
void pgqrs_remote_watch_again(struct remote_store *s);
void pgqrs_remote_wake_close(struct remote_store *s);

#endif
