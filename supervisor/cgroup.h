/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_SUPERVISOR_CGROUP_H
#define PGQRS_SUPERVISOR_CGROUP_H

/*
 * Control groups (version 2) that keep workers to a limit of memory, where the group in which
 * pgqrsd was started is delegated to it. Its processes then stand so:
 *
 *   OWN                     where pgqrsd was started
 *     pgqrsd-INSTANCE
 *       main                supervisor, broker, workers without a limit
 *       worker-GENERATION   one worker and what its handler starts
 *
 * A group with processes can not give a controller to those below it, so pgqrsd leaves OWN, which
 * must have no other process.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PGQRS_CGROUPS_LEFT_MAX 64

struct pgqrs_cgroup {
    int own, ours;   /* directories; -1: there are no groups */
    char name[32];   /* of ours in own */
    bool gave;       /* own did not give the memory controller to its groups before */
    bool complained; /* the log says why a limit is not kept by a group */
    /* Of workers that have ended, while others in the group have not; more are left to the next
     * pgqrsd. */
    uint64_t left[PGQRS_CGROUPS_LEFT_MAX];
    size_t left_count;
};

enum pgqrs_cgroup_end {
    PGQRS_CGROUP_NOTHING = 0, /* nobody was killed for want of memory */
    PGQRS_CGROUP_LIMIT,       /* at the group's limit */
    PGQRS_CGROUP_ELSEWHERE,   /* a group above, or the host, had no memory left */
};

#define PGQRS_CGROUP_NONE ((struct pgqrs_cgroup){.own = -1, .ours = -1})

/* Makes ours, moves this process there, removes what a pgqrsd that was killed has left. The log
 * says what came of it: without groups, limits are for the workers to keep. */
void pgqrs_cgroup_open(struct pgqrs_cgroup *g, const char *instance);
/* Moves a worker to a group of its own with this limit. False: it has to keep it by itself. */
bool pgqrs_cgroup_confine(struct pgqrs_cgroup *g, uint64_t generation, pid_t pid, int64_t bytes);
/* A worker that was confined is reaped: removes its group. */
enum pgqrs_cgroup_end pgqrs_cgroup_ended(struct pgqrs_cgroup *g, uint64_t generation);
/* From time to time: groups whose last process has ended meanwhile. */
void pgqrs_cgroup_sweep(struct pgqrs_cgroup *g);
/* Moves this process back, and removes ours. */
void pgqrs_cgroup_close(struct pgqrs_cgroup *g);

#endif
