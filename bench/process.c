/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/target.h"

/* The number behind this word at the start of a line of /proc/PID/name. */
static int64_t field(pid_t pid, const char *name, const char *word)
{
    char path[96];
    char line[256];
    int64_t value = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, word, strlen(word)) == 0) {
            value = strtoll(line + strlen(word), NULL, 10);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return value;
}

struct process_use process_use(pid_t pid)
{
    char path[96];
    struct process_use use = {.rss_kib = field(pid, "smaps_rollup", "Rss:"),
                              .pss_kib = field(pid, "smaps_rollup", "Pss:")};
    struct dirent *entry;
    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    while (tasks != NULL && (entry = readdir(tasks)) != NULL) {
        if (entry->d_name[0] != '.') {
            (void)snprintf(path, sizeof path, "task/%.16s/schedstat", entry->d_name);
            use.cpu_ns += field(pid, path, "");
            (void)snprintf(path, sizeof path, "task/%.16s/status", entry->d_name);
            use.wakeups += field(pid, path, "voluntary_ctxt_switches:");
            use.threads++;
        }
    }
    if (tasks != NULL) {
        (void)closedir(tasks);
    }
    return use;
}

static pid_t start(const char *path, const char *preload)
{
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        (void)dup2(null, STDIN_FILENO);
        (void)dup2(null, STDOUT_FILENO);
        (void)dup2(null, STDERR_FILENO);
        if (preload != NULL) {
            (void)setenv("LD_PRELOAD", preload, 1);
        }
        (void)execl(path, path, (char *)NULL);
        _exit(127);
    }
    return pid;
}

int64_t process_run_us(const char *path)
{
    int64_t began = pgqrs_mono_us();
    (void)waitpid(start(path, NULL), NULL, 0);
    return pgqrs_mono_us() - began;
}

int64_t process_kill_us(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (;;) {
            (void)pause();
        }
    }
    (void)poll(NULL, 0, 20);
    int64_t began = pgqrs_mono_us();
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    return pgqrs_mono_us() - began;
}

struct process_use process_loaded(const char *path)
{
    pid_t pid = start(path, built("bench/preload/pause.so"));
    (void)poll(NULL, 0, 200);
    struct process_use use = process_use(pid);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    return use;
}
