/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_SUPPORT_HANDLER_RIG_H
#define PGQRS_TESTS_SUPPORT_HANDLER_RIG_H

/* One handler plugin, loaded into the test, with the worker's own host around it. */

#include "worker/host.h"
#include "worker/plugin.h"

struct handler_rig {
    struct pgqrs_plugin plugin;
    struct pgqrs_job_host *host;
    struct pgqrs_job_result result; /* of the last run; error and result are terminated copies */
    char *error, *output;
    int64_t took_ms;
};

/* Loads lib/pgqrs/handlers/NAME.so below the build directory and runs its init. */
void handler_open(struct handler_rig *rig, const char *name, const char *settings);
void handler_close(struct handler_rig *rig);
/* Init must fail with a text that has these words. */
void handler_refuses(const char *name, const char *settings, const char *words);

/* Runs one job, number 17, attempt 2, of queue "mail". */
enum pgqrs_job_outcome handler_run(struct handler_rig *rig, const char *payload);
/* The same, cancelled as soon as the file has something in it; null: before run is called. */
enum pgqrs_job_outcome handler_run_cancelled(struct handler_rig *rig, const char *payload,
                                             const char *file);

#endif
