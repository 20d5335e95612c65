/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_SUPERVISOR_NOTIFY_H
#define PGQRS_SUPERVISOR_NOTIFY_H

/*
 * What the service manager that has started us is told, as sd_notify(3) describes: datagrams to
 * $NOTIFY_SOCKET. Without one, or with null for notify, nothing is said. Nothing here blocks; what
 * the socket has no room for is said later.
 */

#include <stdint.h>

#include "base/error.h"

struct supervisor;
struct notify;

/* Also begins the beats that $WATCHDOG_USEC asks for. *notify_out is null when nobody listens. */
int pgqrs_notify_open(struct supervisor *s, struct notify **notify_out,
                      struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_notify_close(struct notify **notify); /* accepts null */
/* Something may be different. Ready and stopping are told at once, the status soon. */
void pgqrs_notify_changed(struct notify *notify);
/* A reload begins; changed ends it. */
void pgqrs_notify_reloading(struct notify *notify);
/* A stop may take so much longer. */
void pgqrs_notify_extend(struct notify *notify, int64_t ms);

#endif
