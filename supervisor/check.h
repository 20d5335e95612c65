/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_SUPERVISOR_CHECK_H
#define PGQRS_SUPERVISOR_CHECK_H

/*
 * `pgqrsd --check`: looks whether a start with this configuration would go well, and prints a line
 * for each thing found. What runs with the same configuration is not disturbed. The plugins and the
 * store are opened by children, so that one that crashes, hangs or has credentials does so there.
 */

#include <stdbool.h>

#include "base/bytes.h"
#include "config/config.h"
#include "ipc/check.h"

struct check {
    const struct pgqrs_config *config;
    size_t found; /* errors and warnings */
};

void pgqrs_check_found(struct check *c, enum pgqrs_check_mark mark, const char *fmt, ...)
    PGQRS_PRINTF(3, 4);

/* ---- check.c ---- */
/* grace: how long this process is given to end, as people write it, with what said so; null: it is
 * not known. Returns the exit status; PGQRS_EXIT_USAGE: the grace is nonsense. */
int pgqrs_check_run(const struct pgqrs_config *config, const char *path, const char *grace,
                    const char *grace_from);

/* ---- check_child.c ---- */
struct check_child {
    const char *what; /* before each of its findings */
    enum pgqrs_role role;
    const struct pgqrs_config_isolation *isolation; /* of a worker */
    struct pgqrs_buf welcome;                       /* is freed */
};
/* Runs it to its end, for start_timeout at the most. */
void pgqrs_check_child(struct check *c, struct check_child *child);

/* ---- check_host.c ---- */
void pgqrs_check_host(struct check *c);

#endif
