/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/client_watch.h"

#include <stdlib.h>

struct client_watch {
    TAILQ_ENTRY(client_watch) link; /* of those that are to be told */
    struct peer *peer;
    bool waits; /* it is in that list */
};

static void forget(struct broker *b, struct client_watch *watch)
{
    if (watch->waits) {
        watch->waits = false;
        TAILQ_REMOVE(&b->watches, watch, link);
    }
}

static void tell(const struct broker *b, const struct client_watch *watch)
{
    struct pgqrs_buf out = {0};
    pgqrs_encode_client_wake(&out, b->wakes);
    pgqrs_peer_send(watch->peer, &out);
    pgqrs_buf_fini(&out);
}

int pgqrs_client_watch(struct broker *b, struct peer *peer, struct client_watch **watch,
                       const struct pgqrs_frame *frame, struct pgqrs_error *err)
{
    uint64_t known;
    if (pgqrs_decode_client_watch(frame, &known, err) < 0) {
        return -1;
    }
    if (*watch == NULL) {
        *watch = calloc(1, sizeof **watch);
        if (*watch == NULL) {
            return pgqrs_error_memory(err);
        }
        (*watch)->peer = peer;
    }
    forget(b, *watch);
    if (known != b->wakes) {
        tell(b, *watch);
        return 0;
    }
    (*watch)->waits = true;
    TAILQ_INSERT_TAIL(&b->watches, *watch, link);
    pgqrs_commit_doze(b);
    return 0;
}

void pgqrs_client_watch_end(struct broker *b, struct client_watch **watch)
{
    if (*watch != NULL) {
        forget(b, *watch);
        free(*watch);
        *watch = NULL;
    }
}

void pgqrs_clients_wake(struct broker *b)
{
    struct client_watch *watch;
    b->wakes++;
    while ((watch = TAILQ_FIRST(&b->watches)) != NULL) {
        forget(b, watch);
        tell(b, watch);
    }
}
