/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/retry_policy.h"

int64_t pgqrs_retry_delay_ms(const struct pgqrs_queue_settings *queue, uint32_t attempt,
                             uint32_t random)
{
    int64_t delay = queue->retry_base_ms;
    if (queue->retry_strategy == PGQRS_RETRY_EXPONENTIAL) {
        for (uint32_t i = 1; i < attempt && delay > 0 && delay < queue->retry_max_ms; i++) {
            delay = delay > INT64_MAX / 2 ? INT64_MAX : delay * 2;
        }
    }
    if (delay > queue->retry_max_ms) {
        delay = queue->retry_max_ms;
    }
    int64_t quarter = delay / 4;
    if (queue->retry_jitter != 0 && quarter > 0) {
        delay += (int64_t)(random % (uint64_t)(2 * quarter + 1)) - quarter;
    }
    return delay;
}
