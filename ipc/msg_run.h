/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_MSG_RUN_H
#define PGQRS_IPC_MSG_RUN_H

/* What came of the one message that a worker was started for. Part of ipc/msg.h. */

#include "base/bytes.h"
#include "base/error.h"

struct pgqrs_frame;

enum pgqrs_run_outcome {
    PGQRS_ISOLATED_NONE = 0,
    PGQRS_ISOLATED_REFUSED, /* it can not be had; the worker has nothing to do */
    PGQRS_ISOLATED_DONE,    /* the others are stored */
    PGQRS_ISOLATED_RETRIED, /* it waits again, attempt spent */
    PGQRS_ISOLATED_SNOOZED, /* attempt not spent */
    PGQRS_ISOLATED_FAILED,  /* a dead letter */
    PGQRS_ISOLATED_CANCELLED,
    PGQRS_ISOLATED_RETURNED, /* it waits again, as before */
    PGQRS_ISOLATED_LOST,     /* the lease was: somebody else decides */
    PGQRS_RUN_NOT_RUN,       /* the worker ended without it */
    PGQRS_ISOLATED_COUNT
};
/* "done", ...: one word. */
const char *pgqrs_run_outcome_name(enum pgqrs_run_outcome outcome);

struct pgqrs_run_ended {
    uint64_t generation; /* of the worker */
    enum pgqrs_run_outcome outcome;
    const char *text; /* why; empty: nothing to say */
};
/* A text that is too long is cut. */
void pgqrs_encode_run_ended(struct pgqrs_buf *out, const struct pgqrs_run_ended *m);
int pgqrs_decode_run_ended(const struct pgqrs_frame *f, struct pgqrs_run_ended *m,
                           struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
