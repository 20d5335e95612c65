/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BROKER_CHECK_H
#define PGQRS_BROKER_CHECK_H

/* See ipc/check.h. Returns the exit status. */
int pgqrs_broker_check(void);

#endif
