/* SPDX-License-Identifier: Apache-2.0 */
/* The worker in `pgqrsd --check`: loads its plugin as it would to work, and runs no job. */
#include "worker/check.h"

#include <string.h>

#include "base/log.h"
#include "ipc/check.h"
#include "ipc/spawn_contract.h"
#include "worker/host.h"
#include "worker/isolation.h"
#include "worker/plugin.h"

static void complain(const char *text)
{
    pgqrs_check_say(PGQRS_CHECK_ERROR, "%s", text);
}

static void check_text(const char *path, const char *what, const char *found)
{
    if (found == NULL || *found == 0) {
        pgqrs_check_say(PGQRS_CHECK_WARNING, "plugin %s: %s: found %s, expected a text", path, what,
                        found == NULL ? "null" : "an empty one");
    }
}

static void check_plugin(const struct pgqrs_worker_welcome *welcome)
{
    struct pgqrs_plugin plugin;
    struct pgqrs_job_host *host = NULL;
    struct pgqrs_error err;
    if (pgqrs_plugin_load(welcome->handler, &plugin, &err) < 0 ||
        pgqrs_host_create(welcome->queue, welcome->max_attempts, &host, &err) < 0) {
        complain(err.text);
        return;
    }
    check_text(welcome->handler, "name", plugin.handler.name);
    check_text(welcome->handler, "version", plugin.handler.version);
    if (pgqrs_plugin_init(&plugin, welcome->queue, welcome->settings, &pgqrs_host_functions, &err) <
        0) {
        complain(err.text);
    } else {
        pgqrs_plugin_fini(&plugin);
    }
    pgqrs_host_destroy(&host);
}

int pgqrs_worker_check(void)
{
    struct pgqrs_buf data = {0};
    struct pgqrs_frame frame;
    struct pgqrs_worker_welcome welcome;
    struct pgqrs_error err;
    pgqrs_log_init("pgqrs-worker", PGQRS_LOG_TEXT, PGQRS_LOG_INFO);
    if (pgqrs_check_begin(PGQRS_ROLE_WORKER, &data, &frame, &err) < 0) {
        pgqrs_log_error("%s", err.text);
        pgqrs_buf_fini(&data);
        return PGQRS_EXIT_USAGE;
    }
    if (pgqrs_decode_worker_welcome(&frame, &welcome, &err) < 0 ||
        pgqrs_isolation_begin(&err) < 0 ||
        pgqrs_isolation_apply(&welcome.isolation, PGQRS_FD_LIFELINE, &err) < 0) {
        complain(err.text);
    } else {
        check_plugin(&welcome);
    }
    pgqrs_check_say(PGQRS_CHECK_DONE, "all is looked at");
    pgqrs_buf_fini(&data);
    return PGQRS_EXIT_OK;
}
