/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_SUPPORT_PG_DAEMON_H
#define PGQRS_TESTS_SUPPORT_PG_DAEMON_H

/*
 * A real pgqrsd on a PostgreSQL of the test's own, under load: a thread enqueues short jobs, each
 * until the server says that it has it. pg_daemon_finish then checks that nothing was lost and
 * nothing done twice, that no worker has died, and that the log is short.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "tests/support/pg_rig.h"

#include "tests/support/daemon.h"

#define PG_DAEMON_CONSUMERS 4
#define PG_DAEMON_JOBS_MAX 8000

struct pg_daemon {
    struct fixture *fixture;
    struct pg_rig *rig;
    char load_dsn[300];
    pthread_t load;
    atomic_bool loading, enough;
    atomic_int acked;
    int64_t ids[PG_DAEMON_JOBS_MAX]; /* what the server has acknowledged */
    pid_t workers[PG_DAEMON_CONSUMERS];
    pid_t broker;
};

int pg_daemon_setup(void **state);
int pg_daemon_teardown(void **state);
#define PG_DAEMON_CASE(function)                                                                   \
    cmocka_unit_test_setup_teardown(function, pg_daemon_setup, pg_daemon_teardown)

/* With more settings of the queue, then of the daemon, one a line. */
void pg_daemon_start(struct pg_daemon *d, const char *settings);
/* Begins to enqueue and waits until so many jobs are done. */
void pg_daemon_load(struct pg_daemon *d, int done);
/* Waits until so many more jobs are done. */
void pg_daemon_progress(struct pg_daemon *d, int more);
/* Ends the load and checks; the daemon may have told of trouble so often. */
void pg_daemon_finish(struct pg_daemon *d, int troubles_min, int troubles_max);
/* Lines of the daemon's log that tell of trouble. */
int pg_daemon_troubles(const struct pg_daemon *d);

#endif
