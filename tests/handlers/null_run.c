/* SPDX-License-Identifier: Apache-2.0 */
/* Can not run anything. */
#include <pgqrs/handler.h>

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "null_run",
    .version = "1.0",
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
