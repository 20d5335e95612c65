/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that steer a running pgqrsd. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/units.h"
#include "cli/cli.h"
#include "cli/ctl_link.h"
#include "cli/output.h"

static json_int_t integer(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* ---- kill ---- */

int pgqrs_cmd_ctl_kill(struct pgqrs_cli *cli)
{
    json_t *reply = NULL;
    struct pgqrs_error err;
    int64_t worker;
    if (pgqrs_integer_parse(cli->words[1], 0, UINT32_MAX, &worker, &err) < 0) {
        return pgqrs_cli_usage("WORKER: %s", err.text);
    }
    int status = pgqrs_ctl_ask(cli,
                               json_pack("{s:s,s:s,s:I}", "command", "kill", "queue", cli->words[0],
                                         "worker", (json_int_t)worker),
                               &reply);
    if (status == PGQRS_CLI_OK && cli->json) {
        status = pgqrs_ctl_print(reply);
    } else if (status == PGQRS_CLI_OK) {
        (void)printf("queue \"%s\": killed worker %s, pid %" JSON_INTEGER_FORMAT, cli->words[0],
                     cli->words[1], integer(reply, "pid"));
        if (integer(reply, "job") != 0) {
            (void)printf(", which ran message %" JSON_INTEGER_FORMAT, integer(reply, "job"));
        }
        (void)puts("");
    }
    json_decref(reply);
    return status;
}
