/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BROKER_RETRY_POLICY_H
#define PGQRS_BROKER_RETRY_POLICY_H

/* When a failed job is tried again. */

#include "ipc/msg.h"

/*
 * ms to wait before the attempt after this one (attempt 1 failed: the base). random is any number;
 * it picks a place in the jitter, a quarter of the delay to either side.
 */
int64_t pgqrs_retry_delay_ms(const struct pgqrs_queue_settings *queue, uint32_t attempt,
                             uint32_t random);

#endif
