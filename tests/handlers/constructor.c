/* SPDX-License-Identifier: Apache-2.0 */
/* Does what TEST_CONSTRUCTOR says as soon as it is loaded: "crash", "hang" or "exit".
 * It has no version. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pgqrs/handler.h>

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
