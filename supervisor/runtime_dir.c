/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/runtime_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/paths.h"

#define LOCK_NAME "alive"
#define RUN_PREFIX "run-"

/* A directory in /tmp may have been put there by somebody else. */
static int make_private(const char *path, struct pgqrs_error *err)
{
    struct stat st;
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        return pgqrs_error_sys(err, PGQRS_ERR_CONFIG, errno, "runtime directory %s", path);
    }
    if (lstat(path, &st) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_CONFIG, errno, "runtime directory %s", path);
    }
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid()) {
        return pgqrs_error_set(
            err, PGQRS_ERR_CONFIG, "runtime directory %s: expected a directory of uid %u, found %s",
            path, (unsigned)geteuid(), S_ISDIR(st.st_mode) ? "another owner" : "something else");
    }
    return 0;
}

static void remove_flat(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            (void)unlinkat(dirfd(dir), entry->d_name, 0); /* what stays keeps the directory */
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    (void)rmdir(path);
}

/* Names that lead to a run that has gone. */
static void remove_dangling(DIR *dir, const char *name)
{
    char target[96];
    struct stat st;
    ssize_t n = readlinkat(dirfd(dir), name, target, sizeof target - 1);
    target[n > 0 ? n : 0] = 0;
    if (strncmp(target, RUN_PREFIX, strlen(RUN_PREFIX)) == 0 &&
        fstatat(dirfd(dir), target, &st, 0) < 0 && errno == ENOENT) {
        (void)unlinkat(dirfd(dir), name, 0); /* it does no harm */
    }
}

/* Removes the directories of runs whose lock nobody holds. */
static void sweep(const char *base)
{
    DIR *dir = opendir(base);
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char path[256];
        char lock_path[280];
        if (strncmp(entry->d_name, RUN_PREFIX, strlen(RUN_PREFIX)) != 0 ||
            snprintf(path, sizeof path, "%s/%.64s", base, entry->d_name) >= (int)sizeof path) {
            continue;
        }
        (void)snprintf(lock_path, sizeof lock_path, "%s/" LOCK_NAME, path);
        int lock = open(lock_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0) {
            remove_flat(path);
        }
        if (lock >= 0) {
            (void)close(lock);
        }
    }
    if (dir != NULL) {
        rewinddir(dir);
    }
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        remove_dangling(dir, entry->d_name);
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}

static int create_locked(const char *base_path, const char *name, struct pgqrs_runtime_dir *dir,
                         struct pgqrs_error *err)
{
    char lock_path[sizeof dir->path + 16];
    (void)snprintf(dir->path, sizeof dir->path, "%s/" RUN_PREFIX "%.12s", base_path, name);
    if (make_private(dir->path, err) < 0 || chmod(dir->path, 0700) < 0) {
        return -1;
    }
    (void)snprintf(lock_path, sizeof lock_path, "%s/" LOCK_NAME, dir->path);
    dir->lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (dir->lock < 0 || flock(dir->lock, LOCK_EX | LOCK_NB) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_CONFIG, errno, "%s", lock_path);
    }
    return 0;
}

int pgqrs_runtime_dir_create(const char *base, const char *name, struct pgqrs_runtime_dir *dir,
                             struct pgqrs_error *err)
{
    char base_path[sizeof dir->path - sizeof RUN_PREFIX - 16];
    if (pgqrs_path_runtime(base, base_path, sizeof base_path, err) < 0 ||
        make_private(base_path, err) < 0) {
        return -1;
    }
    /* Held while we sweep and create, so that nobody sweeps a directory whose lock is about to be
     * taken. */
    int base_lock = open(base_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (base_lock < 0 || flock(base_lock, LOCK_EX) < 0) {
        (void)pgqrs_error_sys(err, PGQRS_ERR_CONFIG, errno, "runtime directory %s", base_path);
        if (base_lock >= 0) {
            (void)close(base_lock);
        }
        return -1;
    }
    sweep(base_path);
    int rc = create_locked(base_path, name, dir, err);
    (void)close(base_lock);
    return rc;
}

int pgqrs_runtime_dir_try(const char *base, struct pgqrs_error *err)
{
    struct pgqrs_runtime_dir dir;
    char base_path[sizeof dir.path - sizeof RUN_PREFIX - 16];
    char path[sizeof base_path + 16];
    struct stat st;
    if (pgqrs_path_runtime(base, base_path, sizeof base_path, err) < 0) {
        return -1;
    }
    bool was_there = lstat(base_path, &st) == 0;
    if (make_private(base_path, err) < 0) {
        return -1;
    }
    (void)snprintf(path, sizeof path, "%s/check-XXXXXX", base_path);
    int rc = mkdtemp(path) != NULL
                 ? rmdir(path)
                 : pgqrs_error_sys(err, PGQRS_ERR_CONFIG, errno, "runtime directory %s", base_path);
    if (!was_there) {
        (void)rmdir(base_path); /* unless somebody uses it by now */
    }
    return rc;
}

static const struct {
    const char *socket, *suffix;
} published[] = {{"jobs", "sock"}, {"ctl", "ctl"}};

int pgqrs_runtime_dir_publish(struct pgqrs_runtime_dir *dir, const char *name,
                              struct pgqrs_error *err)
{
    const char *run = strrchr(dir->path, '/') + 1;
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        char link[sizeof dir->links[i]];
        char target[sizeof dir->path + 16];
        char fresh[sizeof dir->path + 16];
        (void)snprintf(link, sizeof link, "%.*s%s.%s", (int)(run - dir->path), dir->path, name,
                       published[i].suffix);
        (void)snprintf(target, sizeof target, "%s/%s", run, published[i].socket);
        (void)snprintf(fresh, sizeof fresh, "%s/link", dir->path);
        if (symlink(target, fresh) < 0 || rename(fresh, link) < 0) {
            return pgqrs_error_sys(err, PGQRS_ERR_CONFIG, errno, "%s", link);
        }
        memcpy(dir->links[i], link, sizeof link);
    }
    return 0;
}

static void unpublish(const struct pgqrs_runtime_dir *dir, const char *link)
{
    char target[sizeof dir->path + 16];
    const char *run = strrchr(dir->path, '/') + 1;
    ssize_t n = readlink(link, target, sizeof target - 1);
    if (n > 0 && strncmp(target, run, strlen(run)) == 0) {
        (void)unlink(link); /* a link to nowhere does no harm */
    }
}

void pgqrs_runtime_dir_remove(struct pgqrs_runtime_dir *dir)
{
    if (dir->path[0] != 0) {
        for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
            if (dir->links[i][0] != 0) {
                unpublish(dir, dir->links[i]);
            }
        }
        remove_flat(dir->path);
        (void)close(dir->lock);
        dir->path[0] = 0;
    }
}
