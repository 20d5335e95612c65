/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BROKER_PEER_H
#define PGQRS_BROKER_PEER_H

/* A connection on the job socket, as job_peers.c and hello.c have it. */

#include "broker/broker.h"

struct peer {
    TAILQ_ENTRY(peer) link;
    struct broker *broker;
    struct bufferevent *bev;
    enum pgqrs_role role;       /* what it may be; its hello tells */
    struct worker *worker;      /* null until its hello is accepted */
    struct client_call *call;   /* of a client, at the store; nothing more is read meanwhile */
    struct client_watch *watch; /* of a client that waits for messages; null: it has not yet */
    pid_t pid;
    uid_t uid;
    struct pgqrs_job_hello hello; /* one that waits for its worker to be announced */
    bool hello_waits;
    bool ended;                /* nothing more comes than what was read */
    bool answered;             /* scratch of pgqrs_hello_announced */
    struct hello_task *asked;  /* its hello is at the store; null: it is not */
    struct event *hello_timer; /* until a worker is attached */
};

/* Here and below, a bool result tells whether the peer is still there. */

/* ---- job_peers.c ---- */
void pgqrs_peer_drop(struct peer *peer);
/* The peer broke the protocol. */
bool pgqrs_peer_refuse(struct peer *peer, const char *text);
/* What it has sent so far. */
bool pgqrs_peer_read(struct peer *peer);

/* ---- hello.c ---- */
/* Which user its workers are. */
uid_t pgqrs_hello_user(const struct broker_queue *queue);
/* From now on it has so much time to become a worker or a client. */
int pgqrs_hello_await(struct peer *peer) PGQRS_MUST_CHECK;
bool pgqrs_hello_take(struct peer *peer, const struct pgqrs_frame *frame);
/* It is about to be closed. */
void pgqrs_hello_forget(struct peer *peer);

#endif
