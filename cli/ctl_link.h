/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CLI_CTL_LINK_H
#define PGQRS_CLI_CTL_LINK_H

#include <jansson.h>

#include "cli/cli.h"

/* Sends the request, whose reference it takes, to the pgqrsd of --socket or of the configuration.
 * Returns an exit status; with PGQRS_CLI_OK the reply is the caller's. Else the reason is printed.
 */
int pgqrs_ctl_ask(const struct pgqrs_cli *cli, json_t *request, json_t **reply_out);
/* The same, -1 with the reason in err when there is no reply. */
int pgqrs_ctl_try(const struct pgqrs_cli *cli, json_t *request, json_t **reply_out,
                  struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* The same for a run: our output and errors are its worker's, it may take as long as it likes, and
 * a signal cancels it. */
int pgqrs_ctl_run(const struct pgqrs_cli *cli, json_t *request, json_t **reply_out);
/* The same for a stop: the reply comes when pgqrsd ends, and it has gone on return. */
int pgqrs_ctl_end(const struct pgqrs_cli *cli, json_t *request, json_t **reply_out);
/* A reply, or a part of it, as JSON; returns an exit status. */
int pgqrs_ctl_print(const json_t *reply);

#endif
