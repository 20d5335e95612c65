/* SPDX-License-Identifier: Apache-2.0 */
/* Its init does well; each job crashes it. */
#include <stdlib.h>

#include <pgqrs/handler.h>

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    (void)state;
    (void)job;
    _Exit(7);
}

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "crash",
    .version = "1.0",
    .run = run,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
