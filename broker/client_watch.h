/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BROKER_CLIENT_WATCH_H
#define PGQRS_BROKER_CLIENT_WATCH_H

/* Clients that wait for messages, and are told when there may be some: see ipc/msg_watch.h. */

#include "broker/broker.h"

/* A CLIENT_WATCH. *watch is null the first time, and is the peer's. */
int pgqrs_client_watch(struct broker *b, struct peer *peer, struct client_watch **watch,
                       const struct pgqrs_frame *frame, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* The peer goes. Accepts null. */
void pgqrs_client_watch_end(struct broker *b, struct client_watch **watch);

#endif
