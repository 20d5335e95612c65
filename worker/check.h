/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_WORKER_CHECK_H
#define PGQRS_WORKER_CHECK_H

/* See ipc/check.h. Returns the exit status. */
int pgqrs_worker_check(void);

#endif
