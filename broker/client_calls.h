/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BROKER_CLIENT_CALLS_H
#define PGQRS_BROKER_CLIENT_CALLS_H

/*
 * The calls of a client that uses the broker's store: one at a time for each connection, run on the
 * store's thread.
 */

#include "broker/broker.h"

struct client_call;

/* Takes data, which frame borrows from. Null when out of memory (data is freed then). */
struct client_call *pgqrs_client_call_start(struct broker *b, struct peer *peer, void *data,
                                            const struct pgqrs_frame *frame);
/* Its connection is gone: nobody is to be told of the reply. */
void pgqrs_client_call_forget(struct client_call *call);

/* ---- job_peers.c ---- */
/* The call is done: the reply is sent and the next call read, or it was nonsense. */
void pgqrs_peer_replied(struct peer *peer, const struct pgqrs_buf *reply, const char *nonsense);

#endif
