/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_WORKER_ISOLATION_H
#define PGQRS_WORKER_ISOLATION_H

/*
 * What a worker takes from itself before any code of its plugin runs. An error ends the process:
 * a plugin never runs with less isolation than was configured.
 */

#include "base/error.h"
#include "ipc/msg_isolation.h"

/* First thing in main, while there is one thread: as the spawn contract says. */
int pgqrs_isolation_begin(struct pgqrs_error *err) PGQRS_MUST_CHECK;

/*
 * *path becomes one that stays reachable for this process alone, when it is about to change its
 * user: the directory of the socket is closed to others.
 */
int pgqrs_isolation_keep_socket(const struct pgqrs_isolation *isolation, char **path,
                                struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* Applies everything, to all threads but for nice. last_words_fd gets a text when the plugin's
 * memory has run out and the process crashes. */
int pgqrs_isolation_apply(const struct pgqrs_isolation *isolation, int last_words_fd,
                          struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- seccomp.c ---- */
int pgqrs_seccomp_default(struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- memory_limit.c ---- */
/* So many bytes from now on, whatever this process has already. */
int pgqrs_memory_limit(int64_t bytes, int last_words_fd, struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
