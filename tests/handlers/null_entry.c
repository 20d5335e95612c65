/* SPDX-License-Identifier: Apache-2.0 */
/* Its entry function has nothing to offer. */
#include <pgqrs/handler.h>

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return NULL;
}
