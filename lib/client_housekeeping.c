/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/client_priv.h"

int64_t pgqrs_reclaim(struct pgqrs_client *client, const char *queue, int64_t stale_ms,
                      struct pgqrs_failure *failure)
{
    struct pgqrs_reap reap = {.stale_ms = stale_ms, .foreign = true, .limit = PGQRS_CLIENT_STEP};
    struct pgqrs_error err;
    int64_t all = 0;
    int64_t step;
    if (pgqrs_client_queue(client, queue, false, &reap.queue_id, failure) < 0) {
        return -1;
    }
    do {
        step = pgqrs_store_reap(client->store, &reap, &err);
        if (step < 0) {
            return pgqrs_client_fail(failure, &err);
        }
        all += step;
    } while (step >= PGQRS_CLIENT_STEP);
    return all;
}

int64_t pgqrs_bury(struct pgqrs_client *client, const char *queue, uint32_t max_attempts,
                   struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    int64_t all = 0;
    int64_t id = 0;
    int64_t step;
    if (pgqrs_client_queue(client, queue, true, &id, failure) < 0) {
        return -1;
    }
    do { /* each looks at those in front only */
        step = pgqrs_store_bury(client->store, id, max_attempts, &err);
        if (step < 0) {
            return pgqrs_client_fail(failure, &err);
        }
        all += step;
    } while (step > 0);
    return all;
}

int64_t pgqrs_prune(struct pgqrs_client *client, const char *queue, bool dead_letters,
                    int64_t age_ms, struct pgqrs_failure *failure)
{
    struct pgqrs_prune prune = {.what = dead_letters ? PGQRS_PRUNE_FAILED : PGQRS_PRUNE_ENDED,
                                .age_ms = age_ms,
                                .limit = PGQRS_CLIENT_STEP};
    struct pgqrs_error err;
    int64_t all = 0;
    if (pgqrs_client_queue(client, queue, false, &prune.queue_id, failure) < 0) {
        return -1;
    }
    do {
        int64_t step = pgqrs_store_prune(client->store, &prune, &err);
        if (step < 0) {
            return pgqrs_client_fail(failure, &err);
        }
        all += step;
    } while (prune.from_us != 0 || prune.from_id != 0);
    return all;
}
