/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The result tells how the process stands that runs the job. Payload {"do": WHAT}:
 *   report   user, groups, directory, environment, limits and what /proc/self/status says
 *   leak     takes memory until there is none, then aborts as a failed allocation would
 *   write    what happens to three writes of 1 MiB into a new file in the working directory
 *   denied   the errno of system calls that the profile `default` denies
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <pgqrs/handler.h>

#define MIB ((size_t)1024 * 1024)

struct report {
    char text[4096];
    size_t len;
};

static void __attribute__((format(printf, 2, 3))) add(struct report *r, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    r->len += (size_t)vsnprintf(r->text + r->len, sizeof r->text - r->len, fmt, args);
    va_end(args);
}

static long status_field(const char *name)
{
    char line[256];
    long value = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':') {
            value = strtol(line + strlen(name) + 1, NULL, 16);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return value;
}

static void add_limit(struct report *r, const char *name, int resource)
{
    struct rlimit limit = {0};
    (void)getrlimit((__rlimit_resource_t)resource, &limit);
    add(r, ",\"%s\":%lld", name, limit.rlim_cur == limit.rlim_max ? (long long)limit.rlim_cur : -1);
}

static void add_environment(struct report *r)
{
    add(r, ",\"environment\":\"");
    for (char **variable = environ; *variable != NULL; variable++) {
        if (strncmp(*variable, "PGQRS_SPAWN_", 12) != 0) {
            add(r, "%.*s ", (int)strcspn(*variable, "="), *variable);
        }
    }
    add(r, "\"");
}

static void report(struct report *r)
{
    char directory[256];
    add(r, "{\"uid\":%d,\"euid\":%d,\"gid\":%d,\"groups\":%d", (int)getuid(), (int)geteuid(),
        (int)getegid(), getgroups(0, NULL));
    add(r, ",\"directory\":\"%s\"", getcwd(directory, sizeof directory));
    add_environment(r);
    add(r, ",\"nice\":%d", getpriority(PRIO_PROCESS, 0));
    add_limit(r, "open_files", RLIMIT_NOFILE);
    add_limit(r, "processes", RLIMIT_NPROC);
    add_limit(r, "file_size", RLIMIT_FSIZE);
    add_limit(r, "core", RLIMIT_CORE);
    add(r, ",\"dumpable\":%d", prctl(PR_GET_DUMPABLE));
    add(r, ",\"capabilities\":%ld", status_field("CapPrm"));
    add(r, ",\"no_new_privileges\":%ld", status_field("NoNewPrivs"));
    add(r, ",\"seccomp\":%ld}", status_field("Seccomp"));
}

static void leak(void)
{
    volatile char *block;
    do {
        block = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (size_t i = 0; block != MAP_FAILED && i < MIB; i += 4096) {
            block[i] = 1;
        }
    } while (block != MAP_FAILED);
    abort();
}

static void write_file(struct report *r)
{
    static const char bytes[MIB];
    int fd = open("written", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t first = write(fd, bytes, sizeof bytes);
    ssize_t second = write(fd, bytes, sizeof bytes);
    ssize_t third = write(fd, bytes, sizeof bytes);
    add(r, "{\"written\":%lld,\"rest\":%lld,\"error\":\"%s\"}", (long long)first, (long long)second,
        third < 0 ? strerrorname_np(errno) : "");
    (void)close(fd);
}

static const char *name_of(long rc)
{
    return rc < 0 ? strerrorname_np(errno) : "ok";
}

static void try_denied(struct report *r)
{
    char byte;
    struct {
        void *at;
        size_t len;
    } io = {&byte, 1};
    add(r, "{\"ptrace\":\"%s\"", name_of(ptrace(PTRACE_TRACEME, 0, NULL, NULL)));
    add(r, ",\"process_vm_readv\":\"%s\"",
        name_of(syscall(SYS_process_vm_readv, getpid(), &io, 1, &io, 1, 0)));
    add(r, ",\"unshare\":\"%s\"", name_of(unshare(CLONE_NEWUSER)));
    add(r, ",\"clone\":\"%s\"", name_of(syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWNET, NULL)));
    add(r, ",\"keyctl\":\"%s\"",
        name_of(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0)));
    add(r, ",\"userfaultfd\":\"%s\"", name_of(syscall(SYS_userfaultfd, O_CLOEXEC)));
    add(r, ",\"perf_event_open\":\"%s\"",
        name_of(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0)));
    add(r, ",\"bpf\":\"%s\"", name_of(syscall(SYS_bpf, 0, NULL, 0)));
    add(r, ",\"mount\":\"%s\"}", name_of(syscall(SYS_mount, NULL, NULL, NULL, 0, NULL)));
}

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    struct report r = {.len = 0};
    (void)state;
    if (strstr(job->payload, "leak") != NULL) {
        leak();
    } else if (strstr(job->payload, "write") != NULL) {
        write_file(&r);
    } else if (strstr(job->payload, "denied") != NULL) {
        try_denied(&r);
    } else {
        report(&r);
    }
    return job->host->set_result(job, r.text, r.len) < 0 ? pgqrs_fail(job, "the result: %s", r.text)
                                                         : PGQRS_DONE;
}

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "observe",
    .version = "1.0",
    .run = run,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
