/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/output.h"

typedef int schema_fn(struct pgqrs_store *store, struct pgqrs_error *err);

static int run(struct pgqrs_cli *cli, schema_fn *fn, const char *key, const char *text)
{
    struct pgqrs_cli_retry retry = {0};
    struct pgqrs_error err;
    int status = pgqrs_cli_open(cli);
    int rc;
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    do {
        rc = fn(cli->store, &err);
    } while (rc < 0 && pgqrs_cli_again(&retry, &err));
    if (rc < 0) {
        return pgqrs_cli_fail(&err);
    }
    if (cli->json) {
        struct pgqrs_json json = {0};
        pgqrs_json_begin(&json, NULL, '{');
        pgqrs_json_boolean(&json, key, true);
        pgqrs_json_end(&json, '}');
    } else {
        (void)printf("%s\n", text);
    }
    return PGQRS_CLI_OK;
}

int pgqrs_cmd_admin_install(struct pgqrs_cli *cli)
{
    return run(cli, pgqrs_store_install, "installed", "the schema is installed");
}

int pgqrs_cmd_admin_verify(struct pgqrs_cli *cli)
{
    return run(cli, pgqrs_store_verify, "verified", "the schema is complete and consistent");
}
