/* SPDX-License-Identifier: Apache-2.0 */
/* Does nothing, as fast as it can. */
#include <pgqrs/handler.h>

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    (void)state;
    (void)job;
    return PGQRS_DONE;
}

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "noop",
    .version = "1.0",
    .run = run,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
