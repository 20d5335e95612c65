/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "ipc/spawn_contract.h"

#define PREFIX "pgqrsd-"
#define MAIN "main"
#define WORKER "worker-%" PRIu64
#define SELF "0" /* in cgroup.procs: whoever writes it */

/* ---- files of a group ---- */

static int put(int dir, const char *file, const char *text, struct pgqrs_error *err)
{
    int fd = openat(dir, file, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
    int saved_errno = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    return n >= 0 ? 0 : pgqrs_error_sys(err, PGQRS_ERR_FAILED, saved_errno, "%s to %s", text, file);
}

static const char *get(int dir, const char *file, char *text, size_t size)
{
    int fd = openat(dir, file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0) {
        (void)close(fd);
    }
    text[n > 0 ? n : 0] = 0;
    return text;
}

/* "KEY NUMBER", one a line; 0 when it is not there. */
static long long get_number(int dir, const char *file, const char *key)
{
    char text[512];
    char *save = NULL;
    size_t len = strlen(key);
    (void)get(dir, file, text, sizeof text);
    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, key, len) == 0 && line[len] == ' ') {
            return strtoll(line + len + 1, NULL, 10);
        }
    }
    return 0;
}

static bool has_memory(int dir, const char *file)
{
    char text[512];
    char *save = NULL;
    (void)get(dir, file, text, sizeof text);
    for (char *word = strtok_r(text, " \n", &save); word != NULL;
         word = strtok_r(NULL, " \n", &save)) {
        if (strcmp(word, "memory") == 0) {
            return true;
        }
    }
    return false;
}

/* ---- where we are ---- */

/* The first line of the file for which take returns true. */
static bool each_line(const char *path, bool (*take)(char *line, void *arg), void *arg)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    while (file != NULL && !found && getline(&line, &size, file) >= 0) {
        line[strcspn(line, "\n")] = 0;
        found = take(line, arg);
    }
    free(line);
    if (file != NULL) {
        (void)fclose(file); /* it was only read */
    }
    return found;
}

struct location {
    char group[PATH_MAX], path[PATH_MAX];
};

static bool take_group(char *line, void *arg)
{
    struct location *at = arg;
    if (strncmp(line, "0::", 3) != 0) {
        return false;
    }
    (void)snprintf(at->group, sizeof at->group, "%s", strcmp(line + 3, "/") == 0 ? "" : line + 3);
    return true;
}

/* proc(5), mountinfo: "id parent device root mount-point options ... - type source options" */
static bool take_mount(char *line, void *arg)
{
    struct location *at = arg;
    char *save = NULL;
    if (strstr(line, " - cgroup2 ") == NULL) {
        return false;
    }
    for (int i = 0; i < 3; i++) {
        (void)strtok_r(i == 0 ? line : NULL, " ", &save);
    }
    const char *root = strtok_r(NULL, " ", &save);
    const char *point = strtok_r(NULL, " ", &save);
    if (root == NULL || point == NULL) {
        return false;
    }
    size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (strncmp(at->group, root, len) != 0 || (at->group[len] != '/' && at->group[len] != 0)) {
        return false;
    }
    return snprintf(at->path, sizeof at->path, "%s%s", point, at->group + len) <
           (int)sizeof at->path;
}

/* A directory, as a descriptor that is not in the way of a child's. */
static int open_dir(int dir, const char *path)
{
    int low = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = low < 0 ? -1 : fcntl(low, F_DUPFD_CLOEXEC, PGQRS_FD_ABOVE);
    int saved_errno = errno;
    if (low >= 0) {
        (void)close(low);
    }
    errno = saved_errno;
    return fd;
}

static int find_own(struct pgqrs_cgroup *g, struct location *at, struct pgqrs_error *err)
{
    if (!each_line("/proc/self/cgroup", take_group, at) ||
        !each_line("/proc/self/mountinfo", take_mount, at)) {
        return pgqrs_error_set(err, PGQRS_ERR_FAILED, "there is no control group of version 2");
    }
    g->own = open_dir(AT_FDCWD, at->path);
    if (g->own < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "%s", at->path);
    }
    if (!has_memory(g->own, "cgroup.controllers")) {
        return pgqrs_error_set(err, PGQRS_ERR_FAILED, "%s has no memory controller", at->path);
    }
    return 0;
}

/* ---- start and end ---- */

/* With the groups in it; what still has processes stays. */
static void remove_group(int own, const char *name)
{
    int fd = openat(own, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
            (void)unlinkat(fd, entry->d_name, AT_REMOVEDIR);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    } else if (fd >= 0) {
        (void)close(fd);
    }
    (void)unlinkat(own, name, AT_REMOVEDIR);
}

/* What is left of those that were killed. */
static void remove_dead(int own)
{
    int fd = openat(own, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char events[sizeof entry->d_name + 16];
        (void)snprintf(events, sizeof events, "%s/cgroup.events", entry->d_name);
        if (entry->d_type == DT_DIR && strncmp(entry->d_name, PREFIX, strlen(PREFIX)) == 0 &&
            get_number(own, events, "populated") == 0) {
            remove_group(own, entry->d_name);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    } else if (fd >= 0) {
        (void)close(fd);
    }
}

static int enter(struct pgqrs_cgroup *g, struct pgqrs_error *err)
{
    if (mkdirat(g->own, g->name, 0755) < 0 || (g->ours = open_dir(g->own, g->name)) < 0 ||
        mkdirat(g->ours, MAIN, 0755) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "a group can not be made");
    }
    if (put(g->ours, MAIN "/cgroup.procs", SELF, err) < 0) {
        return -1;
    }
    g->gave = !has_memory(g->own, "cgroup.subtree_control");
    if (g->gave && put(g->own, "cgroup.subtree_control", "+memory", err) < 0) {
        return err->sys_errno != EBUSY ? -1
                                       : pgqrs_error_prefix(err, "another process is in the group");
    }
    return put(g->ours, "cgroup.subtree_control", "+memory", err);
}

/* Whatever can not be undone does no harm; the next pgqrsd removes the groups. */
static void leave(struct pgqrs_cgroup *g)
{
    if (g->ours >= 0) {
        (void)put(g->ours, "cgroup.subtree_control", "-memory", NULL);
        if (g->gave) {
            (void)put(g->own, "cgroup.subtree_control", "-memory", NULL);
        }
        (void)put(g->own, "cgroup.procs", SELF, NULL);
        (void)close(g->ours);
    }
    if (g->own >= 0) {
        remove_group(g->own, g->name);
        (void)close(g->own);
    }
    g->own = g->ours = -1;
}

void pgqrs_cgroup_open(struct pgqrs_cgroup *g, const char *instance)
{
    struct location *at = calloc(1, sizeof *at);
    struct pgqrs_error err;
    int rc = at == NULL ? pgqrs_error_memory(&err) : find_own(g, at, &err);
    if (rc == 0) {
        (void)snprintf(g->name, sizeof g->name, PREFIX "%.12s", instance);
        remove_dead(g->own);
        rc = enter(g, &err);
        if (rc < 0) {
            (void)pgqrs_error_prefix(&err, "%s", at->path);
        }
    }
    if (rc == 0) {
        pgqrs_log_info("isolation.memory: kept by control groups in %s/%s", at->path, g->name);
    } else {
        leave(g);
        g->complained = true;
        pgqrs_log_warn("isolation.memory: kept by RLIMIT_DATA, not by control groups: %s",
                       err.text);
    }
    free(at);
}

void pgqrs_cgroup_close(struct pgqrs_cgroup *g)
{
    pgqrs_cgroup_sweep(g);
    leave(g);
}

/* ---- workers ---- */

static int put_worker(int ours, const char *name, const char *file, int64_t value,
                      struct pgqrs_error *err)
{
    char path[64];
    char text[24];
    (void)snprintf(path, sizeof path, "%s/%s", name, file);
    (void)snprintf(text, sizeof text, "%" PRId64, value);
    return put(ours, path, text, err);
}

static int confine(const struct pgqrs_cgroup *g, const char *name, pid_t pid, int64_t bytes,
                   struct pgqrs_error *err)
{
    if (mkdirat(g->ours, name, 0755) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "a group can not be made");
    }
    if (put_worker(g->ours, name, "memory.max", bytes, err) < 0 ||
        put_worker(g->ours, name, "memory.oom.group", 1, err) < 0 ||
        (put_worker(g->ours, name, "memory.swap.max", 0, err) < 0 && err->sys_errno != ENOENT) ||
        put_worker(g->ours, name, "cgroup.procs", pid, err) < 0) {
        (void)unlinkat(g->ours, name, AT_REMOVEDIR);
        return -1;
    }
    return 0;
}

bool pgqrs_cgroup_confine(struct pgqrs_cgroup *g, uint64_t generation, pid_t pid, int64_t bytes)
{
    char name[32];
    struct pgqrs_error err;
    (void)snprintf(name, sizeof name, WORKER, generation);
    if (g->ours < 0) {
        (void)pgqrs_error_set(&err, PGQRS_ERR_FAILED,
                              "no queue had a limit when pgqrsd was started");
    } else if (confine(g, name, pid, bytes, &err) == 0) {
        g->complained = false;
        return true;
    }
    if (!g->complained) {
        g->complained = true;
        pgqrs_log_warn("isolation.memory: kept by RLIMIT_DATA, not by a control group: %s",
                       err.text);
    }
    return false;
}

/* False: something is still in it. */
static bool remove_worker(const struct pgqrs_cgroup *g, uint64_t generation)
{
    char name[32];
    (void)snprintf(name, sizeof name, WORKER, generation);
    return unlinkat(g->ours, name, AT_REMOVEDIR) == 0 || errno != EBUSY;
}

enum pgqrs_cgroup_end pgqrs_cgroup_ended(struct pgqrs_cgroup *g, uint64_t generation)
{
    char events[64];
    (void)snprintf(events, sizeof events, WORKER "/memory.events", generation);
    bool killed = get_number(g->ours, events, "oom_kill") > 0;
    bool at_limit = get_number(g->ours, events, "oom") > 0;
    if (!remove_worker(g, generation) && g->left_count < PGQRS_CGROUPS_LEFT_MAX) {
        g->left[g->left_count++] = generation;
    }
    return !killed ? PGQRS_CGROUP_NOTHING : at_limit ? PGQRS_CGROUP_LIMIT : PGQRS_CGROUP_ELSEWHERE;
}

void pgqrs_cgroup_sweep(struct pgqrs_cgroup *g)
{
    for (size_t i = g->left_count; i > 0; i--) {
        if (remove_worker(g, g->left[i - 1])) {
            g->left[i - 1] = g->left[--g->left_count];
        }
    }
}
