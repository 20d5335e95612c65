/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The claim is a lock on a file of its own beside the database, which stays there: descriptors of
 * the database itself are SQLite's, since closing one of ours would drop SQLite's locks. The file
 * holds the process id of who has claimed it, for people.
 */

static int claimed_by_other(struct sqlite_store *s, int fd, struct pgqrs_error *err)
{
    char pid[16] = "";
    ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
    pid[n < 0 ? 0 : strcspn(pid, "\n")] = 0;
    return pgqrs_error_set(err, PGQRS_ERR_UNAVAILABLE,
                           "store \"%s\": found another broker serving it (pid %s), expected none",
                           s->shown, pid[0] == 0 ? "unknown" : pid);
}

static int lock_file(struct sqlite_store *s, int fd, struct pgqrs_error *err)
{
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK) {
            return claimed_by_other(s, fd, err);
        }
        return pgqrs_error_sys(err, PGQRS_ERR_UNAVAILABLE, errno, "store \"%s\": claim", s->shown);
    }
    char pid[16];
    int len = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)len, 0) < 0) {
        return 0; /* the lock is what counts */
    }
    return 0;
}

static char *claim_name(const struct sqlite_store *s, struct pgqrs_error *err)
{
    char *name = NULL;
    if (asprintf(&name, "%s-broker", s->path) < 0) {
        (void)pgqrs_error_memory(err);
        return NULL;
    }
    return name;
}

static int claim(struct sqlite_store *s, struct pgqrs_error *err)
{
    char *name = claim_name(s, err);
    if (name == NULL) {
        return -1;
    }
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        (void)pgqrs_error_sys(err, PGQRS_ERR_UNAVAILABLE, errno, "store \"%s\": claim file \"%s\"",
                              s->shown, name);
    } else if (lock_file(s, fd, err) < 0) {
        (void)close(fd); /* nothing was written */
        fd = -1;
    }
    free(name);
    s->claim_fd = fd;
    return fd < 0 ? -1 : 1;
}

int pgqrs_sqlite_claim(struct pgqrs_store *store, const char *site, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    (void)site; /* the file has one broker, whoever it is */
    if (s->path == NULL || s->claim_fd >= 0) {
        return 1; /* a database in memory is nobody else's */
    }
    return claim(s, err);
}

int pgqrs_sqlite_claim_moved(struct sqlite_store *s, struct pgqrs_error *err)
{
    if (s->claim_fd < 0) {
        return 0;
    }
    char *name = claim_name(s, err);
    if (name == NULL) {
        return -1;
    }
    struct stat named;
    struct stat ours;
    bool same = stat(name, &named) == 0 && fstat(s->claim_fd, &ours) == 0 &&
                named.st_ino == ours.st_ino && named.st_dev == ours.st_dev;
    free(name);
    if (same) {
        return 0;
    }
    (void)close(s->claim_fd); /* only held for its lock */
    s->claim_fd = -1;
    return claim(s, err) < 0 ? -1 : 0;
}
