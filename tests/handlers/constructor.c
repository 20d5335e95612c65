/* SPDX-License-Identifier: Apache-2.0 */
/* Does what TEST_CONSTRUCTOR says as soon as it is loaded: "crash", "hang", "exit", "babble" to who
 * listens to its worker, or "leave" behind a process in a session of its own, whose pid is in a
 * file of that name. It has no version. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <pgqrs/handler.h>

#include "ipc/spawn_contract.h"

#define LEFT_S 60

/* Returns once it is out of reach. */
static void leave_behind(void)
{
    int ready[2];
    char byte;
    if (pipe(ready) < 0) {
        return;
    }
    if (fork() == 0) {
        (void)setsid();
        FILE *file = fopen("leave", "we");
        (void)fprintf(file, "%d\n", (int)getpid());
        (void)fclose(file);
        (void)close(ready[0]);
        (void)close(ready[1]);
        (void)sleep(LEFT_S);
        _exit(0);
    }
    (void)close(ready[1]);
    (void)!read(ready[0], &byte, 1);
    (void)close(ready[0]);
}

static void __attribute__((constructor)) construct(void)
{
    const char *what = getenv("TEST_CONSTRUCTOR");
    what = what == NULL ? "" : what;
    if (strcmp(what, "crash") == 0) {
        (void)signal(SIGSEGV, SIG_DFL);
        (void)raise(SIGSEGV);
    }
    if (strcmp(what, "exit") == 0) {
        _exit(0);
    }
    if (strcmp(what, "leave") == 0) {
        leave_behind();
    }
    while (strcmp(what, "babble") == 0) {
        (void)!send(PGQRS_FD_LIFELINE, "ebla\033[2J", 8, MSG_NOSIGNAL);
    }
    while (strcmp(what, "hang") == 0) {
        (void)pause();
    }
}

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    (void)state;
    (void)job;
    return PGQRS_DONE;
}

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "constructor",
    .run = run,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
