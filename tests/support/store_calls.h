/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_STORE_CALLS_H
#define PGQRS_TESTS_STORE_CALLS_H

/* A call and a reply of each operation, with no field at zero that can be another. */

#include "ipc/store_msg.h"

struct pgqrs_store_call store_call_example(enum pgqrs_store_op op);
/* Its lists are not to be freed. */
struct pgqrs_store_reply store_reply_example(enum pgqrs_store_op op);

#endif
