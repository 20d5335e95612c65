/* SPDX-License-Identifier: Apache-2.0 */
/* Its init gives a reason and fails. */
#include <pgqrs/handler.h>

static int init(const struct pgqrs_setup *setup, void **state_out)
{
    (void)state_out;
    (void)snprintf(setup->error, setup->error_size, "no camera on queue \"%s\"", setup->queue);
    return -1;
}

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    (void)state;
    (void)job;
    return PGQRS_DONE;
}

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "init_fails",
    .version = "1.0",
    .init = init,
    .run = run,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
