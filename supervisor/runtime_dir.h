/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_SUPERVISOR_RUNTIME_DIR_H
#define PGQRS_SUPERVISOR_RUNTIME_DIR_H

/*
 * The directory that holds the sockets of one run: mode 0700, below a base that is the configured
 * one, else $RUNTIME_DIRECTORY, else $XDG_RUNTIME_DIR/pgqrs, else /tmp/pgqrs-UID. A lock in it
 * tells that its run is alive; what runs that were killed have left behind is swept away.
 */

#include "base/error.h"

struct pgqrs_runtime_dir {
    char path[80]; /* short: socket addresses have room for 107 bytes */
    int lock;
    char links[2][160]; /* what was published; empty: nothing */
};

/* base: the configured directory, or null. name: of this run, unique. */
int pgqrs_runtime_dir_create(const char *base, const char *name, struct pgqrs_runtime_dir *dir,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Whether it could be: leaves nothing behind. */
int pgqrs_runtime_dir_try(const char *base, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Others find the sockets in it by names that stay from run to run: BASE/NAME.sock is a link to
 * `jobs`, BASE/NAME.ctl one to `ctl`. The last run of that name has them. */
int pgqrs_runtime_dir_publish(struct pgqrs_runtime_dir *dir, const char *name,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_runtime_dir_remove(struct pgqrs_runtime_dir *dir);

#endif
