/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BROKER_STORE_SERVICE_H
#define PGQRS_BROKER_STORE_SERVICE_H

/*
 * What a broker answers a client that uses its store: frames in, frames out, no connection. A
 * client's connection begins with a CLIENT_HELLO; then come STORE_CALLs, each of which is answered
 * before the next one is taken from the connection.
 */

#include "ipc/store_msg.h"

/* Texts for a REFUSE. */
#define PGQRS_REFUSE_NO_HELLO "found something else, expected a hello as the first message"
#define PGQRS_REFUSE_WORKER "a worker of this broker does not use its store"

/*
 * Any thread. Appends the answer. 0: it is the welcome. -1: it is a refusal, with *err's text;
 * after it the connection is closed.
 */
int pgqrs_store_service_hello(const struct pgqrs_frame *hello, const char *backend,
                              struct pgqrs_buf *answer, struct pgqrs_error *err) PGQRS_MUST_CHECK;

/*
 * On the thread that owns the store. Runs a STORE_CALL and appends the STORE_REPLY, whether the
 * store did it or failed; *look tells whether there may be something to lease since. -1: the call
 * is nonsense (or there is no memory to answer it) and the client is to be dropped.
 */
int pgqrs_store_service(struct pgqrs_store *store, const struct pgqrs_frame *call,
                        struct pgqrs_buf *reply, bool *look,
                        struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
