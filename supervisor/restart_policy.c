/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/restart_policy.h"

int64_t pgqrs_restart_after(struct pgqrs_restart *restart, int64_t ready_ms, int64_t max_ms)
{
    if (ready_ms >= PGQRS_RESTART_HEALTHY_MS) {
        restart->deaths = 0;
    }
    restart->failed_starts = ready_ms >= 0 ? 0 : restart->failed_starts + 1;

    int64_t delay = 0;
    for (uint32_t i = 0; i < restart->deaths && delay < max_ms; i++) {
        delay = delay == 0 ? PGQRS_RESTART_MIN_MS : delay * 2;
    }
    if (restart->deaths < UINT32_MAX) {
        restart->deaths++;
    }
    return delay < max_ms ? delay : max_ms;
}
