/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes to standard output and error, as the payload says, every key optional, in this order:
 *   out, err     N: so many lines "out ID K" or "err ID K"
 *   raw          "HEX": these bytes on standard output
 *   long         N: a line of so many letters x
 *   child        "TEXT": what a child process prints, without the worker's stdio
 *   straggler    N: a process that the job does not wait for writes so many lines "late ID K"
 *   partial      "TEXT": without a newline at its end
 *   then         "abort", "assert" or "asan": ends the process so
 * init prints "print: init", and with the setting "partial" what stands there, as it ends.
 */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pgqrs/handler.h>

static const char *find(const char *json, const char *key)
{
    char quoted[64];
    (void)snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *at = strstr(json, quoted);
    return at == NULL ? NULL : at + strlen(quoted) + strspn(at + strlen(quoted), " :");
}

static long find_number(const char *json, const char *key)
{
    const char *at = find(json, key);
    return at == NULL ? 0 : strtol(at, NULL, 10);
}

static const char *find_text(const char *json, const char *key)
{
    static char text[4096];
    const char *at = find(json, key);
    text[0] = 0;
    if (at != NULL && *at == '"') {
        (void)snprintf(text, sizeof text, "%.*s", (int)strcspn(at + 1, "\""), at + 1);
    }
    return text;
}

static void print_raw(const char *hex)
{
    for (; hex[0] != 0 && hex[1] != 0; hex += 2) {
        const char digits[3] = {hex[0], hex[1], 0};
        (void)putchar((int)strtol(digits, NULL, 16));
    }
}

static void print_from_child(const char *text)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)execlp("printf", "printf", text, (char *)NULL);
        _exit(127);
    }
    (void)waitpid(pid, NULL, 0);
}

static void leave_straggler(long long id, long lines)
{
    if (fork() == 0) {
        for (long k = 0; k < lines; k++) {
            (void)dprintf(STDOUT_FILENO, "late %lld %ld\n", id, k);
            (void)usleep(1000);
        }
        _exit(0);
    }
}

static void end_process(const char *how)
{
    if (strcmp(how, "abort") == 0) {
        (void)fputs("print: last words before abort", stderr);
        abort();
    }
    assert(strcmp(how, "assert") != 0);
    if (strcmp(how, "asan") == 0) {
        char *block = malloc(8);
        volatile char *volatile freed = block;
        free(block);
        freed[0] = 1;
    }
}

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    const char *p = job->payload;
    (void)state;
    for (long k = 0; k < find_number(p, "out"); k++) {
        (void)printf("out %lld %ld\n", (long long)job->id, k);
    }
    for (long k = 0; k < find_number(p, "err"); k++) {
        (void)fprintf(stderr, "err %lld %ld\n", (long long)job->id, k);
    }
    print_raw(find_text(p, "raw"));
    if (find_number(p, "long") > 0) {
        for (long k = 0; k < find_number(p, "long"); k++) {
            (void)putchar('x');
        }
        (void)putchar('\n');
    }
    if (find(p, "child") != NULL) {
        print_from_child(find_text(p, "child"));
    }
    if (find(p, "straggler") != NULL) {
        leave_straggler(job->id, find_number(p, "straggler"));
    }
    (void)fputs(find_text(p, "partial"), stdout);
    end_process(find_text(p, "then"));
    return PGQRS_DONE;
}

static int init(const struct pgqrs_setup *setup, void **state_out)
{
    (void)state_out;
    (void)printf("print: init\n%s", find_text(setup->settings, "partial"));
    return 0;
}

static void fini(void *state)
{
    (void)state;
    (void)printf("print: fini\n");
}

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "print",
    .version = "1.0",
    .init = init,
    .run = run,
    .fini = fini,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
