/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_MSG_TALLY_H
#define PGQRS_IPC_MSG_TALLY_H

/* What the broker has stored, counted; a part of ipc/msg.h. */

#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

struct pgqrs_frame;

enum pgqrs_tally_kind { /* numbers go on the wire: append, never reuse */
                        PGQRS_TALLY_DONE = 0,
                        PGQRS_TALLY_FAILED = 1, /* for good */
                        PGQRS_TALLY_CANCELLED = 2,
                        PGQRS_TALLY_RETRY = 3,
                        PGQRS_TALLY_SNOOZE = 4,
                        PGQRS_TALLY_RETURNED = 5,
                        PGQRS_TALLY_COUNT
};
extern const char *const pgqrs_tally_names[PGQRS_TALLY_COUNT];

struct pgqrs_queue_tally {
    const char *queue;
    uint64_t settled[PGQRS_TALLY_COUNT]; /* since the last message */
};

struct pgqrs_tally {
    int64_t trouble_ms; /* for so long the store has failed; 0: it works */
    struct pgqrs_queue_tally *queues;
    size_t queue_count;
};
void pgqrs_encode_tally(struct pgqrs_buf *out, const struct pgqrs_tally *m);
/* queues borrow from the frame; free it. */
int pgqrs_decode_tally(const struct pgqrs_frame *f, struct pgqrs_tally *m,
                       struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
