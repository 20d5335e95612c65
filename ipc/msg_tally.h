/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_MSG_TALLY_H
#define PGQRS_IPC_MSG_TALLY_H

/* How the broker's store does; a part of ipc/msg.h. What it counts is in ipc/tally_page.h. */

#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

struct pgqrs_frame;

struct pgqrs_tally {
    int64_t trouble_ms; /* for so long the store has failed; 0: it works */
};
void pgqrs_encode_tally(struct pgqrs_buf *out, const struct pgqrs_tally *m);
int pgqrs_decode_tally(const struct pgqrs_frame *f, struct pgqrs_tally *m,
                       struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
