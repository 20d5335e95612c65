/* SPDX-License-Identifier: Apache-2.0 */
/* Does nothing: what is measured is everything around it. */
#include <pgqrs/handler.h>

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    (void)state;
    (void)job;
    return PGQRS_DONE;
}

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    static const struct pgqrs_handler handler = {
        .abi = PGQRS_HANDLER_ABI,
        .size = sizeof(struct pgqrs_handler),
        .name = "empty",
        .version = "1",
        .run = run,
    };
    return &handler;
}
