/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs that are no good neighbours. Each run leaves a line "WORD QUEUE ATTEMPT" in a file, before
 * it does what the payload's "do" says:
 *   nap       40 ms, then the line "napped QUEUE ATTEMPT" and done
 *   leak      as nap, and keeps 8 MiB for ever
 *   crash     abort
 * and on the first attempt alone, a nap afterwards:
 *   spin      an endless loop
 *   stop      SIGSTOP to its own process
 *   deadlock  takes what it has already taken
 *
 * Settings: {"file": PATH}.
 */
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <pgqrs/handler.h>

#define NAP_MS 40
#define LEAK (8u << 20)

struct leaked {
    struct leaked *next;
    char bytes[LEAK];
};

static int file = -1;
static struct leaked *leaked;

static void put_line(const char *word, const struct pgqrs_job *job)
{
    char line[160];
    int n = snprintf(line, sizeof line, "%s %s %u\n", word, job->queue, job->attempt);
    (void)!write(file, line, (size_t)n);
}

static void leak(void)
{
    struct leaked *more = malloc(sizeof *more);
    if (more != NULL) {
        memset(more->bytes, 1, sizeof more->bytes);
        more->next = leaked;
        leaked = more;
    }
}

static void __attribute__((noreturn)) spin(void)
{
    static atomic_uint turns;
    for (;;) {
        atomic_fetch_add_explicit(&turns, 1, memory_order_relaxed);
    }
}

static void deadlock(void)
{
    sem_t lock;
    (void)sem_init(&lock, 0, 1);
    for (;;) {
        (void)sem_wait(&lock);
    }
}

static void __attribute__((noreturn)) crash(void)
{
    const struct rlimit none = {0};
    (void)setrlimit(RLIMIT_CORE, &none);
    abort();
}

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    static const char *const words[] = {"nap", "leak", "crash", "spin", "stop", "deadlock"};
    const struct timespec nap = {.tv_nsec = NAP_MS * 1000000L};
    const char *word = "";
    (void)state;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        word = strstr(job->payload, words[i]) != NULL ? words[i] : word;
    }
    put_line(word, job);
    if (strcmp(word, "leak") == 0) {
        leak();
    } else if (strcmp(word, "crash") == 0) {
        crash();
    } else if (strcmp(word, "spin") == 0 && job->attempt == 1) {
        spin();
    } else if (strcmp(word, "stop") == 0 && job->attempt == 1) {
        (void)raise(SIGSTOP);
    } else if (strcmp(word, "deadlock") == 0 && job->attempt == 1) {
        deadlock();
    }
    (void)nanosleep(&nap, NULL);
    put_line("napped", job);
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
    .name = "neighbour",
    .version = "1",
    .init = init,
    .run = run,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
