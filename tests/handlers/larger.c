/* SPDX-License-Identifier: Apache-2.0 */
/* Built against a later release, whose handler has more fields than this one. */
#include <pgqrs/handler.h>

struct later_handler {
    struct pgqrs_handler first;
    void (*paused)(void *state);
    void (*resumed)(void *state);
};

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    (void)state;
    (void)job;
    return PGQRS_SNOOZE;
}

static const struct later_handler handler = {
    .first =
        {
            .abi = PGQRS_HANDLER_ABI,
            .size = sizeof handler,
            .name = "larger",
            .version = "2.0",
            .run = run,
        },
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler.first;
}
