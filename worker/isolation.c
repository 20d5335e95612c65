/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/isolation.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ipc/spawn_contract.h"

static int failed(struct pgqrs_error *err, const char *what)
{
    return pgqrs_error_sys(err, PGQRS_ERR_CONFIG, errno, "isolation.%s", what);
}

/* The kernel keeps it for each thread, and NNG is about to start some. */
int pgqrs_isolation_begin(struct pgqrs_error *err)
{
    const char *wanted = getenv(PGQRS_ENV_NO_NEW_PRIVILEGES);
    if (wanted != NULL && strcmp(wanted, "1") == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        return failed(err, "no_new_privileges");
    }
    return 0;
}

int pgqrs_isolation_keep_socket(const struct pgqrs_isolation *isolation, char **path,
                                struct pgqrs_error *err)
{
    char kept[32];
    if (isolation->uid == 0) {
        return 0;
    }
    int fd = open(*path, O_PATH | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "%s", *path);
    }
    (void)snprintf(kept, sizeof kept, "/proc/self/fd/%d", fd);
    free(*path);
    *path = strdup(kept);
    return *path == NULL ? pgqrs_error_memory(err) : 0;
}

/* Those that the C library does for all threads. */
static int change_user(const struct pgqrs_isolation *isolation, struct pgqrs_error *err)
{
    const gid_t gid = isolation->gid;
    const uid_t uid = isolation->uid;
    if (uid == 0) {
        return 0;
    }
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0) {
        return failed(err, "user");
    }
    if (setresuid((uid_t)-1, 0, (uid_t)-1) == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "isolation.user: root could be had again");
    }
    /* The change has cleared it. A supervisor that died in between closed the lifeline. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "prctl PR_SET_PDEATHSIG");
    }
    return 0;
}

/*
 * Who can be dumped can be read and traced by other processes of its user. The kernel has closed a
 * process that changed its user; one that may leave a core is opened again.
 */
static int set_dumpable(const struct pgqrs_isolation *isolation, struct pgqrs_error *err)
{
    bool open = isolation->limit_core ? isolation->core > 0 : isolation->uid == 0;
#ifdef __SANITIZE_ADDRESS__ /* the leak checker traces us */
    open = true;
#endif
    return prctl(PR_SET_DUMPABLE, open) < 0 ? failed(err, "core") : 0;
}

static int limit(int resource, int64_t value, const char *what, struct pgqrs_error *err)
{
    struct rlimit now;
    if (getrlimit((__rlimit_resource_t)resource, &now) < 0) {
        return failed(err, what);
    }
    /* What is lower already stays. */
    rlim_t wanted = now.rlim_max < (rlim_t)value ? now.rlim_max : (rlim_t)value;
    const struct rlimit limits = {.rlim_cur = wanted, .rlim_max = wanted};
    return setrlimit((__rlimit_resource_t)resource, &limits) < 0 ? failed(err, what) : 0;
}

static void on_ignored(int signal)
{
    (void)signal;
}

static int set_limits(const struct pgqrs_isolation *isolation, struct pgqrs_error *err)
{
    if (isolation->open_files > 0 &&
        limit(RLIMIT_NOFILE, isolation->open_files, "open_files", err) < 0) {
        return -1;
    }
    if (isolation->processes > 0 &&
        limit(RLIMIT_NPROC, isolation->processes, "processes", err) < 0) {
        return -1;
    }
    if (isolation->file_size > 0) {
        /* A write that goes too far fails with EFBIG; a program that is started dies. */
        struct sigaction action = {.sa_handler = on_ignored, .sa_flags = SA_RESTART};
        (void)sigemptyset(&action.sa_mask);
        (void)sigaction(SIGXFSZ, &action, NULL); /* can not fail: the number is right */
        if (limit(RLIMIT_FSIZE, isolation->file_size, "file_size", err) < 0) {
            return -1;
        }
    }
    return isolation->limit_core ? limit(RLIMIT_CORE, isolation->core, "core", err) : 0;
}

static int set_nice(uint32_t increment, struct pgqrs_error *err)
{
    errno = 0;
    return increment > 0 && nice((int)increment) == -1 && errno != 0 ? failed(err, "nice") : 0;
}

int pgqrs_isolation_apply(const struct pgqrs_isolation *isolation, int last_words_fd,
                          struct pgqrs_error *err)
{
    if (set_nice(isolation->nice, err) < 0 || set_limits(isolation, err) < 0 ||
        change_user(isolation, err) < 0 || set_dumpable(isolation, err) < 0) {
        return -1;
    }
    if (isolation->directory[0] != 0 && chdir(isolation->directory) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_CONFIG, errno, "isolation.directory %s",
                               isolation->directory);
    }
    if (isolation->no_new_privileges && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "isolation.no_new_privileges: not in force");
    }
    if (isolation->memory > 0 && pgqrs_memory_limit(isolation->memory, last_words_fd, err) < 0) {
        return -1;
    }
    return isolation->seccomp ? pgqrs_seccomp_default(err) : 0;
}
