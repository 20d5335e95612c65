/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_SUPERVISOR_CTL_H
#define PGQRS_SUPERVISOR_CTL_H

/*
 * The socket at which `pgqrs ctl` asks: a stream, one line of JSON each way. Whoever has our uid or
 * is root may ask. It never holds the loop up, and takes a bounded number of peers.
 *
 *   {"command":"status"}
 *   {"command":"deaths"}  with "queue": of that one
 *   {"command":"scale","queue":"mail","consumers":4}
 *   {"command":"kill","queue":"mail","worker":2}
 *   {"command":"pause"}   with "queue": that one; "resume" likewise
 *   {"command":"drain"}   status has how far it is
 *   {"command":"stop","now":true,"wait":true}
 *   {"command":"reload"}
 *   {"command":"log-level","level":"debug"}
 *   {"command":"run","queue":"mail","message":7}
 *
 * With the line of a run come two descriptors (SCM_RIGHTS), which are its worker's standard output
 * and error. Its answer comes when it has ended, with "outcome" and "reason"; who shuts the
 * connection down for writing before that, or closes it, cancels the run. That of a stop, unless
 * "wait" is false, comes when pgqrsd ends, with its exit "status".
 *
 * The answer has "ok"; when that is false, "error" says what was found and what was expected.
 */

#include "supervisor/supervisor.h"

struct ctl;

/* Listens at `ctl` in the runtime directory. */
int pgqrs_ctl_open(struct supervisor *s, struct ctl **ctl_out,
                   struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_ctl_close(struct ctl **ctl); /* accepts null */

#endif
