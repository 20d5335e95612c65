/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_model.h"
#include "tests/support/store_suite.h"

/* The suite on the plainest store there is: what the suite asks for can be had. */

static struct pgqrs_store *open_model(void *arg)
{
    (void)arg;
    return model_open();
}

static void close_model(void *arg, struct pgqrs_store *store)
{
    (void)arg;
    pgqrs_store_close(&store);
}

int main(void)
{
    const struct suite_backend model = {.name = "model", .open = open_model, .close = close_model};
    return pgqrs_store_suite_run(&model);
}
