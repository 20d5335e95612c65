/* SPDX-License-Identifier: Apache-2.0 */
/* Its init never returns. */
#include <unistd.h>

#include <pgqrs/handler.h>

static int init(const struct pgqrs_setup *setup, void **state_out)
{
    (void)setup;
    (void)state_out;
    while (pause() < 0) {
        /* A signal was handled; on it hangs. */
    }
    return 0;
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
    .name = "init_hangs",
    .version = "1.0",
    .init = init,
    .run = run,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
