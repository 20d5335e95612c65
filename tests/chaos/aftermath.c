/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/chaos/aftermath.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

bool chaos_log_has(const struct chaos_run_state *c, int64_t from, const char *text)
{
    char line[1024];
    bool found = false;
    FILE *file = fopen(c->daemon.log, "r");
    if (file != NULL && fseek(file, (long)from, SEEK_SET) == 0) {
        while (!found && fgets(line, sizeof line, file) != NULL) {
            found = strstr(line, text) != NULL;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

/* ---- the log ---- */

static bool is_bad(const char *line)
{
    const char *signal = strstr(line, "killed by signal ");
    const char *killed = strstr(line, ": killed: ");
    return strstr(line, "Sanitizer") != NULL || strstr(line, "runtime error:") != NULL ||
           strstr(line, "uninitialised") != NULL || strstr(line, "== Invalid") != NULL ||
           strstr(line, "connection refused: ") != NULL || strstr(line, "out of memory") != NULL ||
           (signal != NULL && strncmp(signal, "killed by signal 9 ", 19) != 0) ||
           (killed != NULL && strstr(killed, "no heartbeat for") == NULL &&
            strstr(killed, "it was not ready after") == NULL &&
            strstr(killed, "pgqrsd is stopping") == NULL &&
            strstr(killed, "it is not needed any more") == NULL);
}

/* When a line was written, on the monotonic clock; 0: it does not say. */
static int64_t time_of(const char *line)
{
    struct tm tm = {0};
    const char *end = strptime(line, "%Y-%m-%dT%H:%M:%S", &tm);
    int64_t ms = end != NULL && *end == '.' ? strtol(end + 1, NULL, 10) : -1;
    return ms < 0 ? 0
                  : ((int64_t)timegm(&tm) * 1000 + ms) * 1000 - pgqrs_wall_us() + pgqrs_mono_us();
}

static void note_death(struct chaos_ledger *l, const char *line)
{
    char death[64] = "";
    const char *pid = strstr(line, " pid=");
    if (pid != NULL && strstr(line, ": worker ") != NULL && strstr(line, ": ready ") == NULL) {
        (void)snprintf(death, sizeof death, "died %ld %" PRId64, strtol(pid + 5, NULL, 10),
                       time_of(line));
    } else if (strstr(line, " error pgqrsd[") != NULL && strstr(line, ": broker: ") != NULL) {
        (void)snprintf(death, sizeof death, "broker_died %" PRId64, time_of(line));
    }
    if (death[0] != 0) {
        (void)chaos_ledger_add(l, death);
    }
}

/* Who has died, for the ledger; and what should never be said. */
static void read_log(struct chaos_run_state *c, struct chaos_ledger *l)
{
    char line[1024];
    FILE *file = fopen(c->daemon.log, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (is_bad(line)) {
            chaos_find(&c->findings, "log: %.*s", (int)strcspn(line, "\n"), line);
        }
        note_death(l, line);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

/* ---- processes and files ---- */

static bool mentions(pid_t pid, const char *file, const char *text)
{
    static char content[65536];
    char path[64];
    size_t len = strlen(text);
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, content, sizeof content);
    if (fd >= 0) {
        (void)close(fd);
    }
    return n > 0 && memmem(content, (size_t)n, text, len) != NULL;
}

/* pgqrsd has its configuration in its command line, all others the run's directory in their
 * environment. */
static void check_processes(struct chaos_run_state *c)
{
    char config[96];
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    (void)snprintf(config, sizeof config, "%s/pgqrsd.yaml", c->scratch.dir);
    while (proc != NULL && (entry = readdir(proc)) != NULL) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 0 && pid != getpid() && !process_gone(pid) &&
            (mentions(pid, "cmdline", config) || mentions(pid, "environ", c->scratch.dir))) {
            chaos_find(&c->findings, "process %d outlives pgqrsd", (int)pid);
        }
    }
    if (proc != NULL) {
        (void)closedir(proc);
    }
}

static void check_runtime_dir(struct chaos_run_state *c)
{
    char path[96];
    (void)snprintf(path, sizeof path, "%s/run", c->scratch.dir);
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.') {
            chaos_find(&c->findings, "left in the runtime directory: %s", entry->d_name);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}

static void read_ledger(struct chaos_run_state *c, const char *name)
{
    char path[96];
    (void)snprintf(path, sizeof path, "%s/%s", c->scratch.dir, name);
    int unknown = chaos_ledger_read(&c->ledger, path);
    if (unknown != 0) {
        chaos_find(&c->findings, "%s: %d lines make no sense", name, unknown);
    }
}

void chaos_check_aftermath(struct chaos_run_state *c)
{
    check_processes(c);
    check_runtime_dir(c);
    chaos_write_rows(c);
    read_ledger(c, "acks");
    read_ledger(c, "runs");
    read_ledger(c, "harms");
    read_ledger(c, "rows");
    read_log(c, &c->ledger);
    chaos_check(&c->ledger, &c->findings);
    c->lives = chaos_check_samples(c);
}

/* ---- report ---- */

static void print_recovery(const char *what, const struct chaos_recovery *r)
{
    (void)printf(" %s %zu, slowest %" PRId64 " ms;", what, r->count, r->slowest_ms);
}

static void print_summary(const struct chaos_run_state *c)
{
    struct chaos_summary s;
    chaos_summarise(&c->ledger, &s);
    (void)printf("chaos: %zu jobs acknowledged, %ld enqueues refused; %zu in the store (%zu follow "
                 "others): %zu done, %zu dead letters\n",
                 s.acks, atomic_load(&c->refused), s.rows, s.follow_ups, s.done, s.failed);
    (void)printf("chaos: %zu runs, %zu of them repeated, %zu cut short, %zu repeated though they "
                 "had ended; %u starts of pgqrsd\n",
                 s.runs, s.reruns, s.killed_runs, s.redone, c->starts);
    chaos_print_harms(c);
    (void)printf("chaos: recoveries:");
    print_recovery("a job of a killed worker", &s.worker);
    print_recovery("broker", &s.broker);
    print_recovery("supervisor", &s.supervisor);
    (void)printf(" %zu lives long enough to tell memory and descriptors\n", c->lives);
}

/* The disk goes with this process. */
static void keep_store(const struct chaos_run_state *c)
{
    char command[256];
    if (c->disk[0] != 0) {
        (void)snprintf(command, sizeof command, "cp %s/queue.db* %s/", c->disk, c->scratch.dir);
        if (system(command) != 0) {
            (void)fprintf(stderr, "chaos: the store was not kept\n");
        }
    }
}

void chaos_report(struct chaos_run_state *c)
{
    const struct chaos_findings *f = &c->findings;
    print_summary(c);
    for (size_t i = 0; i < f->count && i < CHAOS_FINDINGS_MAX; i++) {
        (void)printf("chaos: WRONG: %s\n", f->text[i]);
    }
    if (f->count > 0) {
        keep_store(c);
        (void)printf("chaos: FAILED with seed %" PRIu64 " on %s: %zu findings; kept in %s\n",
                     c->options.seed, c->options.postgres ? "postgres" : "sqlite", f->count,
                     c->scratch.dir);
    } else {
        (void)printf("chaos: ok\n");
    }
    (void)fflush(stdout);
    chaos_ledger_fini(&c->ledger);
}
