/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/uml.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/support/daemon.h"

#define KERNEL "/usr/bin/linux.uml"
#define MEMORY "mem=384M"
#define BOOT_MS 60000
#define RUN_MS 240000
#define DIR_VARIABLE "PGQRS_TEST_UML" /* a directory of the host, with what was printed */

bool uml_is_inside(void)
{
    return getpid() == 1 && getenv(DIR_VARIABLE) != NULL;
}

/* ---- inside ---- */

static FILE *open_file(const char *dir, const char *name, const char *mode)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return fopen(path, mode);
}

static void put_number(const char *name, int number)
{
    FILE *file = open_file(getenv(DIR_VARIABLE), name, "w");
    if (file != NULL) {
        (void)fprintf(file, "%d\n", number);
        (void)fclose(file);
    }
}

static int set_up(void)
{
    (void)setenv("TMPDIR", "/run", 1);
    (void)setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
    FILE *out = open_file(getenv(DIR_VARIABLE), "out", "a");
    if (out == NULL || dup2(fileno(out), STDOUT_FILENO) < 0 ||
        dup2(fileno(out), STDERR_FILENO) < 0) {
        return -1;
    }
    return mount("proc", "/proc", "proc", 0, NULL) < 0 ||
                   mount("tmpfs", "/run", "tmpfs", 0, "mode=1777") < 0 ||
                   mount("sysfs", "/sys", "sysfs", 0, NULL) < 0 ||
                   mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL) < 0
               ? -1
               : 0;
}

void uml_inside(int (*run)(void))
{
    int rc = set_up();
    put_number("booted", rc);
    if (rc == 0) {
        pid_t pid = fork(); /* the tests count on not being PID 1 */
        int status = 0;
        if (pid == 0) {
            exit(run());
        }
        while (waitpid(-1, &status, 0) != pid) {
        }
        put_number("status", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
    sync();
    (void)reboot(RB_POWER_OFF);
    _exit(0);
}

/* ---- outside ---- */

static bool get_number(const char *dir, const char *name, int *number)
{
    FILE *file = open_file(dir, name, "r");
    bool found = file != NULL && fscanf(file, "%d\n", number) == 1;
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

/* Its processes would outlive it when it is killed: with PID 1 of a namespace they all end. */
static void __attribute__((noreturn)) become_pid1(const char *dir, char *const argv[])
{
    FILE *console = open_file(dir, "console", "w");
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)setenv("TMPDIR", dir, 1);
    (void)dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
    if (console == NULL || dup2(fileno(console), STDOUT_FILENO) < 0 ||
        dup2(fileno(console), STDERR_FILENO) < 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) {
        _exit(126);
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)execv(argv[0], argv);
        _exit(127);
    }
    (void)waitpid(pid, NULL, 0);
    _exit(0);
}

static pid_t boot(const char *dir)
{
    enum { INIT, BUILD, VARIABLE, UML_DIR, COUNT };
    char text[COUNT][PATH_MAX + 32];
    char program[PATH_MAX] = "";
    char build[PATH_MAX];
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0 ||
        realpath(built("."), build) == NULL) {
        return -1;
    }
    (void)snprintf(text[INIT], sizeof text[INIT], "init=%s", program);
    (void)snprintf(text[BUILD], sizeof text[BUILD], "PGQRS_TEST_BUILD=%s", build);
    (void)snprintf(text[VARIABLE], sizeof text[VARIABLE], DIR_VARIABLE "=%s", dir);
    (void)snprintf(text[UML_DIR], sizeof text[UML_DIR], "uml_dir=%s", dir);
    char *argv[] = {(char[]){KERNEL},
                    (char[]){MEMORY},
                    (char[]){"root=/dev/root"},
                    (char[]){"rootfstype=hostfs"},
                    (char[]){"rw"},
                    (char[]){"quiet"},
                    (char[]){"con=null"},
                    (char[]){"con0=null,fd:1"},
                    text[INIT],
                    text[BUILD],
                    text[VARIABLE],
                    text[UML_DIR],
                    NULL};
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        become_pid1(dir, argv);
    }
    return pid;
}

static void await_end(pid_t pid, const char *dir)
{
    int64_t started = pgqrs_mono_ms();
    int number;
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        int64_t limit = get_number(dir, "booted", &number) ? RUN_MS : BOOT_MS;
        if (pgqrs_mono_ms() - started > limit) {
            (void)kill(pid, SIGKILL);
        }
        (void)poll(NULL, 0, 50);
    }
}

static void print_file(const char *dir, const char *name)
{
    FILE *file = open_file(dir, name, "r");
    int c;
    while (file != NULL && (c = fgetc(file)) != EOF) {
        (void)putchar(c);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

int uml_outside(const char **why_out)
{
    struct scratch scratch;
    int status = 1;
    int booted = -1;
    if (geteuid() != 0 || access(KERNEL, X_OK) < 0) {
        *why_out = geteuid() != 0 ? "it needs root" : "there is no " KERNEL " (user-mode-linux)";
        return -1;
    }
    scratch_create(&scratch);
    pid_t pid = boot(scratch.dir);
    if (pid > 0) {
        await_end(pid, scratch.dir);
    }
    if (!get_number(scratch.dir, "booted", &booted) || booted < 0) {
        print_file(scratch.dir, "console");
        *why_out = "User-Mode Linux does not start here";
        status = -1;
    } else {
        (void)get_number(scratch.dir, "status", &status);
        print_file(scratch.dir, "out");
    }
    scratch_remove(&scratch);
    return status;
}
