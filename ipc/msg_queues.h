/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_MSG_QUEUES_H
#define PGQRS_IPC_MSG_QUEUES_H

/* What the broker is told of the queues; a part of ipc/msg.h. */

#include <stdint.h>

#include "base/bytes.h"

enum pgqrs_retry_strategy {
    PGQRS_RETRY_FIXED = 1,
    PGQRS_RETRY_EXPONENTIAL = 2,
};

struct pgqrs_queue_settings { /* what the broker knows of a queue */
    const char *name;
    uint32_t max_attempts;
    uint32_t max_crashes;   /* then a job is quarantined */
    uint8_t retry_strategy; /* enum pgqrs_retry_strategy */
    uint8_t retry_jitter;   /* 0 or 1: spread by up to a quarter either way */
    uint8_t delete_done;    /* 1: delete finished jobs instead of archiving them */
    uint8_t sql;            /* 1: steps may bring statements for the store's database */
    int64_t retry_base_ms, retry_max_ms;
    int64_t keep_done_ms, keep_failed_ms; /* 0: for ever */
    uint32_t worker_uid;                  /* its workers' user; 0: the broker's own */
    uint32_t load_max;                    /* report how many wait, up to so many; 0: do not */
    uint32_t place;                       /* where it is counted: ipc/tally_page.h */
    uint8_t paused;                       /* 1: lease nothing */
};

#define PGQRS_QUEUE_SETTINGS_MIN 62 /* bytes that one takes at least */
void pgqrs_put_queue_settings(struct pgqrs_buf *out, const struct pgqrs_queue_settings *q);
void pgqrs_read_queue_settings(struct pgqrs_reader *r, struct pgqrs_queue_settings *q);

#endif
