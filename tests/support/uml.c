/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/uml.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
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

static pid_t boot(const char *dir)
{
    char root[] = "root=/dev/root";
    char init[PATH_MAX + 8];
    char build[PATH_MAX + 32];
    char variable[PATH_MAX + 32];
    char uml_dir[PATH_MAX + 32];
    char program[PATH_MAX] = "";
    char built_in[PATH_MAX];
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0 ||
        realpath(built("."), built_in) == NULL) {
        return -1;
    }
    (void)snprintf(init, sizeof init, "init=%s", program);
    (void)snprintf(build, sizeof build, "PGQRS_TEST_BUILD=%s", built_in);
    (void)snprintf(variable, sizeof variable, DIR_VARIABLE "=%s", dir);
    (void)snprintf(uml_dir, sizeof uml_dir, "uml_dir=%s", dir);
    pid_t pid = fork();
    if (pid == 0) {
        FILE *console = open_file(dir, "console", "w");
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)setpgid(0, 0); /* its own processes are in it */
        (void)setenv("TMPDIR", dir, 1);
        (void)dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
        if (console != NULL) {
            (void)dup2(fileno(console), STDOUT_FILENO);
            (void)dup2(fileno(console), STDERR_FILENO);
        }
        (void)execl(KERNEL, KERNEL, MEMORY, root, "rootfstype=hostfs", "rw", "quiet", "con=null",
                    "con0=null,fd:1", uml_dir, build, variable, init, (char *)NULL);
        _exit(127);
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
            (void)kill(-pid, SIGKILL);
        }
        (void)poll(NULL, 0, 50);
    }
    (void)kill(-pid, SIGKILL); /* what is left of it */
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
