/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/pg_pooler.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

pid_t pg_pooler_start(const struct pg_rig *rig, char *dsn, size_t size)
{
    char ini[100];
    (void)snprintf(ini, sizeof ini, "%s/bouncer.ini", pg_rig_dir());
    FILE *file = fopen(ini, "w");
    assert_non_null(file);
    (void)fprintf(file,
                  "[databases]\n* = host=%s user=postgres\n[pgbouncer]\nlisten_addr =\n"
                  "unix_socket_dir = %s\nlisten_port = 6432\nauth_type = any\n"
                  "pool_mode = transaction\ndefault_pool_size = 3\nserver_round_robin = 1\n",
                  pg_rig_dir(), pg_rig_dir());
    assert_int_equal(fclose(file), 0);
    const char *const argv[] = {"/usr/sbin/pgbouncer", ini, NULL};
    pid_t pid = pg_rig_spawn(argv, "bouncer.log");
    (void)snprintf(dsn, size, "%s&port=6432", rig->dsn);
    for (int i = 0; i < 500 && PQping(dsn) != PQPING_OK; i++) {
        (void)poll(NULL, 0, 10);
    }
    assert_int_equal(PQping(dsn), PQPING_OK);
    return pid;
}

void pg_pooler_end(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}
