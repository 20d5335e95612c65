/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BROKER_STORE_SERVICE_WORKFLOW_H
#define PGQRS_BROKER_STORE_SERVICE_WORKFLOW_H

#include "ipc/store_msg.h"

/* Runs a client's call about workflows, from PGQRS_STORE_WORKFLOW_CREATE to _EVENT_SEND, and fills
 * the reply's outputs or its error. Texts of a list may take up to room bytes. */
int64_t pgqrs_store_service_workflow(struct pgqrs_store *store, const struct pgqrs_store_call *call,
                                     struct pgqrs_store_reply *reply, size_t room);

#endif
