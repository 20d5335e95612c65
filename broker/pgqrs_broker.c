/* SPDX-License-Identifier: Apache-2.0 */
/* pgqrs-broker: the one process of a host that talks to the store. Started by pgqrsd. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/process.h"
#include "broker/broker.h"
#include "broker/check.h"
#include "ipc/check.h"

static int exit_status(const struct pgqrs_error *err)
{
    switch (err->code) {
    case PGQRS_ERR_CONFIG:
    case PGQRS_ERR_SCHEMA:
        return PGQRS_EXIT_CONFIG;
    case PGQRS_ERR_AGAIN:
    case PGQRS_ERR_UNKNOWN:
        return PGQRS_EXIT_AWAY;
    case PGQRS_ERR_UNAVAILABLE:
        return PGQRS_EXIT_UNAVAILABLE;
    case PGQRS_ERR_NONE:
    case PGQRS_ERR_FAILED:
    case PGQRS_ERR_INVALID:
    case PGQRS_ERR_NOT_FOUND:
    case PGQRS_ERR_EXISTS:
    case PGQRS_ERR_CONFLICT:
    case PGQRS_ERR_PROTOCOL:
    case PGQRS_ERR_MEMORY:
    case PGQRS_ERR_COUNT:
        break;
    }
    return PGQRS_EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct pgqrs_child child;
    struct pgqrs_frame welcome;
    struct pgqrs_error err;
    if (argc == 2 && strcmp(argv[1], PGQRS_CHECK_WORD) == 0) {
        return pgqrs_broker_check();
    }
    if (argc > 1) {
        (void)fprintf(stderr, "pgqrs-broker is started by pgqrsd, not by hand; see pgqrsd(8)\n");
        return PGQRS_EXIT_USAGE;
    }
    pgqrs_process_close_to_others();
    (void)signal(SIGPIPE, SIG_IGN); /* a closed peer is an error of write */
    int status = pgqrs_child_start("pgqrs-broker", PGQRS_ROLE_BROKER, &child, &welcome, &err);
    if (status == 0) {
        status = pgqrs_broker_run(&child, &welcome, &err);
    }
    if (status < 0) {
        pgqrs_child_last_words(&child, err.text);
        status = child.lifeline < 0 ? PGQRS_EXIT_USAGE : exit_status(&err);
    }
    pgqrs_child_end(&child);
    return status;
}
