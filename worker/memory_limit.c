/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RLIMIT_DATA: private memory that can be written, so heap, anonymous mappings and stacks. Not
 * RLIMIT_AS, which counts address space that is only reserved: runtimes such as Go's reserve more
 * than any sensible limit.
 */
#include "worker/isolation.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/units.h"
#include "ipc/spawn_contract.h"

#define DATA_FIELD 5 /* of /proc/self/statm, from 0 */

/* For the signal handler; written once, before there is one. */
static struct {
    int fd;
    int64_t near; /* an end with so much in use is put down to the limit */
    char text[PGQRS_LAST_WORDS_MAX];
    size_t len;
} out_of_memory;

/* Bytes; -1: not known. Safe in a signal handler. */
static int64_t data_in_use(void)
{
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) {
        (void)close(fd);
    }
    text[n < 0 ? 0 : n] = 0;
    const char *at = text;
    for (int i = 0; i < DATA_FIELD && at != NULL; i++) {
        at = strchr(at, ' ');
        at = at == NULL ? NULL : at + 1;
    }
    int64_t pages = 0;
    for (; at != NULL && *at >= '0' && *at <= '9'; at++) {
        pages = pages * 10 + (*at - '0');
    }
    return at == NULL ? -1 : pages * sysconf(_SC_PAGESIZE);
}

/* A failed allocation mostly ends in an abort, or in the use of a null pointer. The signal's own
 * action is back in force: it strikes again when this returns, and leaves its core. */
static void on_crash(int signal)
{
    if (data_in_use() >= out_of_memory.near) {
        (void)!send(out_of_memory.fd, out_of_memory.text, out_of_memory.len,
                    MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    (void)raise(signal);
}

static void watch_crashes(int fd, int64_t limit, int64_t bytes)
{
    static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGTRAP};
    char size[32];
    pgqrs_size_format(bytes, size, sizeof size);
    out_of_memory.fd = fd;
    out_of_memory.near = limit - bytes / 4;
    (void)snprintf(out_of_memory.text, sizeof out_of_memory.text,
                   "out of memory: it crashed near its limit of %s (isolation.memory)", size);
    out_of_memory.len = strlen(out_of_memory.text);
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND};
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        (void)sigaction(signals[i], &action, NULL); /* can not fail: the numbers are right */
    }
}

int pgqrs_memory_limit(int64_t bytes, int last_words_fd, struct pgqrs_error *err)
{
    int64_t used = data_in_use();
    struct rlimit now;
    if (used < 0 || getrlimit(RLIMIT_DATA, &now) < 0) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "isolation.memory: /proc/self/statm can not be read");
    }
    rlim_t wanted = (rlim_t)used + (rlim_t)bytes;
    wanted = now.rlim_max < wanted ? now.rlim_max : wanted; /* what is lower already stays */
    const struct rlimit limits = {.rlim_cur = wanted, .rlim_max = wanted};
    if (setrlimit(RLIMIT_DATA, &limits) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_CONFIG, errno, "isolation.memory");
    }
    watch_crashes(last_words_fd, (int64_t)wanted, bytes);
    return 0;
}
