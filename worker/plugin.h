/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_WORKER_PLUGIN_H
#define PGQRS_WORKER_PLUGIN_H

/*
 * A handler plugin: loading it and checking that it is one. A plugin that was loaded stays in the
 * process until it ends, since threads of its own may still run its code.
 */

#include <pgqrs/handler.h>

#include "base/error.h"

struct pgqrs_plugin {
    struct pgqrs_handler handler; /* what the plugin did not know of is zero */
    void *state;                  /* the plugin's own, from init */
};

/* The error names the file, what was found and what was expected. */
int pgqrs_plugin_load(const char *path, struct pgqrs_plugin *plugin_out,
                      struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* Runs the plugin's init, if it has one. The error carries the plugin's own words. */
int pgqrs_plugin_init(struct pgqrs_plugin *plugin, const char *queue, const char *settings,
                      const struct pgqrs_host *host, struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_plugin_fini(struct pgqrs_plugin *plugin);

#endif
