/* SPDX-License-Identifier: Apache-2.0 */
/* The last deaths of workers and brokers, for whoever asks what has happened. */
#include "supervisor/supervisor.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

static const char *read_line(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "re");
    out[0] = 0;
    if (f != NULL) {
        if (fgets(out, (int)size, f) == NULL) {
            out[0] = 0;
        }
        (void)fclose(f); /* it was only read */
    }
    out[strcspn(out, "\n")] = 0;
    return out;
}

void pgqrs_core_name(const char *pattern, bool add_pid, const char *dir, pid_t pid, int signal,
                     char *out, size_t size)
{
    char name[PATH_MAX] = "";
    size_t len = 0;
    bool has_pid = false;
    if (pattern[0] == '|') {
        (void)snprintf(out, size, "given to %s", pattern + 1);
        return;
    }
    for (const char *p = pattern; *p != 0 && len + 1 < sizeof name; p++) {
        char one[24] = {*p};
        if (*p == '%' && p[1] != 0) {
            p++;
            has_pid = has_pid || *p == 'p';
            (void)(*p == 'p'   ? snprintf(one, sizeof one, "%d", (int)pid)
                   : *p == 's' ? snprintf(one, sizeof one, "%d", signal)
                   : *p == '%' ? snprintf(one, sizeof one, "%%")
                               : snprintf(one, sizeof one, "*")); /* what we can not know */
        }
        (void)snprintf(name + len, sizeof name - len, "%s", one);
        len = strlen(name);
    }
    if (add_pid && !has_pid) {
        (void)snprintf(name + len, sizeof name - len, ".%d", (int)pid);
    }
    (void)snprintf(out, size, "%s%s%s", name[0] == '/' ? "" : dir, name[0] == '/' ? "" : "/", name);
}

/* Where the kernel has put the core file, as far as its settings tell. */
static void find_core(const struct child *child, int signal, char *out, size_t size)
{
    char pattern[256];
    char uses_pid[8];
    char dir[PATH_MAX];
    (void)read_line("/proc/sys/kernel/core_pattern", pattern, sizeof pattern);
    (void)read_line("/proc/sys/kernel/core_uses_pid", uses_pid, sizeof uses_pid);
    const char *own =
        child->place->queue == NULL ? NULL : child->place->queue->config->isolation.directory;
    if (own != NULL) {
        (void)snprintf(dir, sizeof dir, "%s", own);
    } else if (getcwd(dir, sizeof dir) == NULL) {
        dir[0] = 0;
    }
    pgqrs_core_name(pattern, uses_pid[0] == '1', dir, child->pid, signal, out, size);
}

static enum death_reason reason_of(const struct child *child, int wait_status)
{
    if (child->kill_reason != NULL) {
        return DEATH_KILLED;
    }
    if (WIFSIGNALED(wait_status)) {
        return child->memory_end == PGQRS_CGROUP_NOTHING ? DEATH_SIGNAL : DEATH_MEMORY;
    }
    return WEXITSTATUS(wait_status) == PGQRS_EXIT_TIMEOUT ? DEATH_TIMEOUT : DEATH_EXIT;
}

void pgqrs_deaths_add(struct deaths *deaths, const struct child *child, int wait_status,
                      const struct rusage *usage, const char *why, const char *output)
{
    struct death *death = &deaths->ring[deaths->count++ % PGQRS_DEATHS_KEPT];
    deaths->reasons[reason_of(child, wait_status)]++;
    free(death->why);
    free(death->core);
    free(death->output);
    *death = (struct death){
        .at_us = pgqrs_wall_us(),
        .slot = child->place->slot,
        .pid = child->pid,
        .generation = child->generation,
        .wait_status = wait_status,
        .asked = child->kill_asked,
        .job_id = pgqrs_output_job(child),
        .settled = child->beat.settled,
        .ready_ms = child->ready_at_ms == 0 ? -1 : pgqrs_mono_ms() - child->ready_at_ms,
        .peak_memory = (int64_t)usage->ru_maxrss * 1024,
        .why = strdup(why),
        .output = output[0] == 0 ? NULL : strdup(output),
    };
    if (WIFSIGNALED(wait_status) && WCOREDUMP(wait_status)) {
        char core[PATH_MAX + 256];
        find_core(child, WTERMSIG(wait_status), core, sizeof core);
        death->core = strdup(core);
    }
}

void pgqrs_deaths_fini(struct deaths *deaths)
{
    for (size_t i = 0; i < PGQRS_DEATHS_KEPT; i++) {
        free(deaths->ring[i].why);
        free(deaths->ring[i].core);
        free(deaths->ring[i].output);
    }
}
