/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BENCH_PROCESS_H
#define PGQRS_BENCH_PROCESS_H

/* What processes have used, from /proc. */

#include <stdint.h>
#include <sys/types.h>

struct process_use {
    int64_t cpu_ns;
    int64_t wakeups; /* voluntary context switches of all its threads that live */
    int64_t threads;
    int64_t rss_kib, pss_kib;
};

/* All zero for a process that is gone. */
struct process_use process_use(pid_t pid);
/* Microseconds from the start of a program, with its output thrown away, to its end. */
int64_t process_run_us(const char *path);
/* From SIGKILL of a process that sleeps to its being reaped. */
int64_t process_kill_us(void);
/* A program that has been loaded with its libraries and stopped before its main. */
struct process_use process_loaded(const char *path);

#endif
