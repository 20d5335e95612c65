/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/chaos/outage.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <sqlite3.h>

#include "tests/support/pg_rig.h"

#define SERVER_PROCESSES_MAX 128

/* ---- SQLite ---- */

static sqlite3 *lock;

static bool begin_lock(struct chaos_run_state *c)
{
    return sqlite3_open_v2(c->scratch.db, &lock, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
           sqlite3_busy_timeout(lock, 2000) == SQLITE_OK &&
           sqlite3_exec(lock, "begin immediate", NULL, NULL, NULL) == SQLITE_OK;
}

static void end_lock(struct chaos_run_state *c)
{
    (void)c;
    (void)sqlite3_close(lock);
    lock = NULL;
}

const struct chaos_outage chaos_outage_lock = {"lock_store", 2500, begin_lock, end_lock};

static void ballast(const struct chaos_run_state *c, char *path, size_t size)
{
    (void)snprintf(path, size, "%s/ballast", c->disk);
}

/* Takes all the room that is left. */
static bool begin_disk(struct chaos_run_state *c)
{
    static const char block[65536];
    char path[96];
    ballast(c, path, sizeof path);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    for (size_t size = sizeof block; fd >= 0 && size > 0; size = size > 4096 ? 4096 : 0) {
        while (write(fd, block, size) > 0) {
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return fd >= 0;
}

static void end_disk(struct chaos_run_state *c)
{
    char path[96];
    ballast(c, path, sizeof path);
    (void)unlink(path);
}

const struct chaos_outage chaos_outage_disk = {"fill_disk", 1500, begin_disk, end_disk};

/* ---- PostgreSQL ---- */

static bool begin_fast(struct chaos_run_state *c)
{
    (void)c;
    pg_rig_stop();
    return true;
}

static bool begin_immediate(struct chaos_run_state *c)
{
    (void)c;
    (void)kill(pg_rig_postmaster(), SIGQUIT);
    pg_rig_stop();
    return true;
}

static void end_stop(struct chaos_run_state *c)
{
    (void)c;
    pg_rig_start();
}

const struct chaos_outage chaos_outage_fast = {"restart_server", 1500, begin_fast, end_stop};
const struct chaos_outage chaos_outage_immediate = {CHAOS_CRASH_SERVER, 1500, begin_immediate,
                                                    end_stop};

static void signal_server(int sig)
{
    char path[64];
    int pid;
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pg_rig_postmaster(),
                   (int)pg_rig_postmaster());
    FILE *file = fopen(path, "r");
    (void)kill(pg_rig_postmaster(), sig);
    while (file != NULL && fscanf(file, "%d", &pid) == 1) {
        (void)kill(pid, sig);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

static bool begin_freeze(struct chaos_run_state *c)
{
    (void)c;
    signal_server(SIGSTOP);
    return true;
}

static void end_freeze(struct chaos_run_state *c)
{
    (void)c;
    signal_server(SIGCONT);
}

const struct chaos_outage chaos_outage_freeze = {"freeze_server", 3000, begin_freeze, end_freeze};

void chaos_end_connections(struct chaos_run_state *c, bool all)
{
    (void)pg_rig_number(c->rig,
                        "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM"
                        " pg_stat_activity WHERE backend_type = 'client backend' AND"
                        " pid <> pg_backend_pid() ORDER BY random() LIMIT %d) them",
                        all ? 1000 : 1);
}
