/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves processes behind that are no longer its children: each in a session of its own, its parent
 * gone. They write to a file, one write a line:
 *   orphan PID        it has begun, and is set up
 *   ended PID         it ends, its time is over
 *   signalled NUMBER  it got a signal, which it survives
 *
 * Settings: {"file": PATH}. Payload: {"count": N, "ms": T}, they live for T milliseconds.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <pgqrs/handler.h>

static int file = -1;

/* Only what may be called after a fork of a process with threads, and in a signal handler. */
static void put_line(const char *word, long number)
{
    char line[64];
    size_t at = sizeof line;
    line[--at] = '\n';
    do {
        line[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    line[--at] = ' ';
    for (size_t n = strlen(word); n > 0; n--) {
        line[--at] = word[n - 1];
    }
    (void)!write(file, line + at, sizeof line - at);
}

static void on_signal(int number)
{
    put_line("signalled", number);
}

static void __attribute__((noreturn)) orphan(int ms)
{
    const struct sigaction action = {.sa_handler = on_signal};
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    for (int number = 1; number < SIGRTMIN; number++) {
        (void)sigaction(number, &action, NULL); /* KILL and STOP refuse */
    }
    put_line("orphan", getpid());
    while (nanosleep(&left, &left) < 0) {
    }
    put_line("ended", getpid());
    _exit(0);
}

static int leave_one(int ms)
{
    pid_t between = fork();
    if (between == 0) {
        (void)setsid();
        pid_t pid = fork();
        if (pid == 0) {
            orphan(ms);
        }
        _exit(pid < 0);
    }
    int status = 0;
    return between > 0 && waitpid(between, &status, 0) == between && status == 0 ? 0 : -1;
}

static long find_number(const char *json, const char *key)
{
    const char *at = strstr(json, key);
    return at == NULL ? 0 : strtol(at + strlen(key) + strspn(at + strlen(key), "\": "), NULL, 10);
}

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    (void)state;
    for (long n = find_number(job->payload, "count"); n > 0; n--) {
        if (leave_one((int)find_number(job->payload, "ms")) < 0) {
            return pgqrs_fail(job, "orphans: no process");
        }
    }
    return PGQRS_DONE;
}

static int init(const struct pgqrs_setup *setup, void **state_out)
{
    char path[4096] = "";
    const char *at = strstr(setup->settings, "/");
    (void)state_out;
    if (at != NULL) {
        (void)snprintf(path, sizeof path, "%.*s", (int)strcspn(at, "\""), at);
    }
    file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    return file < 0 ? -1 : 0;
}

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "orphans",
    .version = "1",
    .init = init,
    .run = run,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
