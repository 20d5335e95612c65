/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/clock.h"

#define POLL_MS 2

/* Also used by benchmarks, which have no test framework around them. */
static void __attribute__((noreturn, format(printf, 1, 2))) give_up(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    (void)fputc('\n', stderr);
    abort();
}

bool wait_for(condition_fn *condition, const void *arg, int64_t ms)
{
    int64_t deadline = pgqrs_mono_ms() + ms;
    while (!condition(arg)) {
        if (pgqrs_mono_ms() > deadline) {
            return false;
        }
        (void)poll(NULL, 0, POLL_MS);
    }
    return true;
}

/* ---- scratch ---- */

void scratch_create(struct scratch *s)
{
    const char *tmp = getenv("TMPDIR");
    // cppcheck-suppress ctuuninitvar ; it is made here
    (void)snprintf(s->dir, sizeof s->dir, "%s/pgqrs-test-XXXXXX", tmp ? tmp : "/tmp");
    if (mkdtemp(s->dir) == NULL) {
        give_up("%s: %s", s->dir, strerror(errno));
    }
    (void)snprintf(s->db, sizeof s->db, "%s/queue.db", s->dir);
    (void)snprintf(s->dsn, sizeof s->dsn, "sqlite:%s", s->db);
    (void)snprintf(s->effects, sizeof s->effects, "%s/effects", s->dir);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    (void)remove(path);
    return 0;
}

void scratch_remove(struct scratch *s)
{
    (void)nftw(s->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static FILE *create(const struct scratch *s, const char *name)
{
    char path[160];
    (void)snprintf(path, sizeof path, "%s/%s", s->dir, name);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        give_up("%s: %s", path, strerror(errno));
    }
    return file;
}

void scratch_write(const struct scratch *s, const char *name, const char *fmt, ...)
{
    FILE *file = create(s, name);
    va_list args;
    va_start(args, fmt);
    (void)vfprintf(file, fmt, args);
    va_end(args);
    (void)fclose(file);
}

void scratch_link(const struct scratch *s, const char *name, const char *target)
{
    char path[sizeof s->dir + 32];
    char fresh[sizeof path];
    (void)snprintf(path, sizeof path, "%s/%s", s->dir, name);
    (void)snprintf(fresh, sizeof fresh, "%s/fresh", s->dir);
    if (symlink(target, fresh) < 0 || rename(fresh, path) < 0) {
        give_up("%s: %s", path, strerror(errno));
    }
}

void scratch_copy(const struct scratch *s, const char *name, const char *source)
{
    char command[1024];
    (void)snprintf(command, sizeof command, "cp %s %s/fresh && mv -f %s/fresh %s/%s", source,
                   s->dir, s->dir, s->dir, name);
    if (system(command) != 0) {
        give_up("can not run %s", command);
    }
}

const char *built(const char *relative)
{
    static char paths[4][512];
    static size_t next;
    char *path = paths[next++ % 4];
    const char *build = getenv("PGQRS_TEST_BUILD");
    (void)snprintf(path, sizeof paths[0], "%s/%s", build ? build : "build", relative);
    return path;
}

/* ---- the daemon ---- */

void daemon_config(const struct scratch *s, const char *fmt, ...)
{
    FILE *file = create(s, "pgqrsd.yaml");
    va_list args;
    (void)fprintf(file,
                  "dsn: %s\n"
                  "runtime_dir: %s/run\n"
                  "heartbeat: {interval: 200ms, timeout: 20s}\n",
                  s->dsn, s->dir);
    va_start(args, fmt);
    (void)vfprintf(file, fmt, args);
    va_end(args);
    (void)fclose(file);
}

void daemon_start(struct daemon *d, const struct scratch *s)
{
    char config[96];
    d->scratch = s;
    (void)snprintf(d->log, sizeof d->log, "%s/log", s->dir);
    (void)snprintf(config, sizeof config, "%s/pgqrsd.yaml", s->dir);
    const char *program = built("bin/pgqrsd");
    bool valgrind = getenv("PGQRS_TEST_VALGRIND") != NULL;
    d->pid = fork();
    if (d->pid == 0) {
        int log = open(d->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)dup2(log, STDOUT_FILENO);
        (void)dup2(log, STDERR_FILENO);
        if (d->uid != 0 && (setgid((gid_t)d->uid) < 0 || setuid(d->uid) < 0)) {
            _exit(126);
        }
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* again: a change of user clears it */
        if (valgrind) {
            (void)execlp("valgrind", "valgrind", "--quiet", "--leak-check=full",
                         "--trace-children=yes", "--error-exitcode=99", program, "-c", config,
                         (char *)NULL);
        } else {
            (void)execl(program, program, "-c", config, (char *)NULL);
        }
        _exit(127);
    }
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    size_t size = 0;
    char *text = NULL;
    if (file == NULL || getdelim(&text, &size, 0, file) < 0) {
        free(text);
        text = strdup("");
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return text;
}

int daemon_log_count(const struct daemon *d, const char *text)
{
    char *log = read_file(d->log);
    int count = 0;
    for (const char *at = log; (at = strstr(at, text)) != NULL; at++) {
        count++;
    }
    free(log);
    return count;
}

bool daemon_log_has(const struct daemon *d, const char *text)
{
    return daemon_log_count(d, text) > 0;
}

struct log_condition {
    const struct daemon *daemon;
    const char *text;
    int count;
};

static bool log_has(const void *arg)
{
    const struct log_condition *c = arg;
    return daemon_log_count(c->daemon, c->text) >= c->count;
}

void daemon_await_log(const struct daemon *d, const char *text, int count)
{
    const struct log_condition c = {.daemon = d, .text = text, .count = count};
    if (!wait_for(log_has, &c, WAIT_MS)) {
        give_up("not in the log %d times: \"%s\"\n%s", count, text, read_file(d->log));
    }
}

int daemon_wait(struct daemon *d)
{
    int status = 0;
    int64_t deadline = pgqrs_mono_ms() + WAIT_MS * 2;
    while (waitpid(d->pid, &status, WNOHANG) == 0) {
        if (pgqrs_mono_ms() > deadline) {
            (void)kill(d->pid, SIGKILL);
            give_up("pgqrsd did not end\n%s", read_file(d->log));
        }
        (void)poll(NULL, 0, POLL_MS);
    }
    d->pid = 0;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int daemon_stop(struct daemon *d, int signal)
{
    (void)kill(d->pid, signal);
    return daemon_wait(d);
}

static size_t read_proc(pid_t pid, const char *name, char *text, size_t size)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0) {
        (void)close(fd);
    }
    text[n < 0 ? 0 : n] = 0;
    return n < 0 ? 0 : (size_t)n;
}

/* Fields of /proc/PID/stat that come after the name, which may hold anything. */
static bool read_stat(pid_t pid, char *state_out, pid_t *parent_out)
{
    char text[512];
    int parent;
    (void)read_proc(pid, "stat", text, sizeof text);
    const char *end = strrchr(text, ')');
    if (end == NULL || sscanf(end + 1, " %c %d", state_out, &parent) != 2) {
        return false;
    }
    *parent_out = parent;
    return true;
}

/* Whether one of the words of its command line ends so; under valgrind it is not the first. */
static bool runs_program(pid_t pid, const char *program)
{
    char text[4096];
    size_t len = read_proc(pid, "cmdline", text, sizeof text);
    for (size_t at = 0; at < len; at += strlen(text + at) + 1) {
        const char *slash = strrchr(text + at, '/');
        if (slash != NULL && strcmp(slash + 1, program) == 0) {
            return true;
        }
    }
    return false;
}

bool process_gone(pid_t pid)
{
    char state;
    pid_t parent;
    return !read_stat(pid, &state, &parent) || state == 'Z' || state == 'X';
}

size_t daemon_children(const struct daemon *d, const char *program, pid_t *pids, size_t max)
{
    size_t count = 0;
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    while (proc != NULL && count < max && (entry = readdir(proc)) != NULL) {
        char state;
        pid_t parent;
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 0 && read_stat(pid, &state, &parent) && parent == d->pid && state != 'Z' &&
            runs_program(pid, program)) {
            pids[count++] = pid;
        }
    }
    if (proc != NULL) {
        (void)closedir(proc);
    }
    return count;
}

pid_t daemon_await_children(const struct daemon *d, const char *program, size_t count)
{
    pid_t pids[64];
    int64_t deadline = pgqrs_mono_ms() + WAIT_MS;
    while (daemon_children(d, program, pids, 64) != count) {
        if (pgqrs_mono_ms() > deadline) {
            give_up("expected %zu processes %s\n%s", count, program, read_file(d->log));
        }
        (void)poll(NULL, 0, POLL_MS);
    }
    return count == 0 ? 0 : pids[0];
}

/* ---- the database ---- */

static sqlite3 *open_db(const struct scratch *s)
{
    sqlite3 *db = NULL;
    if (sqlite3_open_v2(s->db, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK) {
        sqlite3_close(db);
        return NULL;
    }
    (void)sqlite3_busy_timeout(db, WAIT_MS);
    return db;
}

int64_t db_number(const struct scratch *s, const char *sql)
{
    sqlite3 *db = open_db(s);
    sqlite3_stmt *stmt = NULL;
    int64_t value = INT64_MIN;
    if (db != NULL && sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW) {
        value = sqlite3_column_int64(stmt, 0);
    }
    (void)sqlite3_finalize(stmt);
    (void)sqlite3_close(db);
    return value;
}

void db_exec(const struct scratch *s, const char *sql)
{
    sqlite3 *db = open_db(s);
    char *why = NULL;
    if (db == NULL || sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK) {
        give_up("%s: %s", sql, why ? why : "can not open");
    }
    (void)sqlite3_close(db);
}

struct sqlite3 *db_lock(const struct scratch *s)
{
    sqlite3 *db = NULL;
    if (sqlite3_open(s->db, &db) != SQLITE_OK || sqlite3_busy_timeout(db, WAIT_MS) != SQLITE_OK ||
        sqlite3_exec(db, "begin immediate", NULL, NULL, NULL) != SQLITE_OK) {
        give_up("lock %s: %s", s->db, sqlite3_errmsg(db));
    }
    return db;
}

void db_unlock(struct sqlite3 *db)
{
    (void)sqlite3_close(db); /* which rolls back */
}

struct db_condition {
    const struct scratch *scratch;
    const char *sql;
    int64_t value;
};

static bool db_is(const void *arg)
{
    const struct db_condition *c = arg;
    return db_number(c->scratch, c->sql) == c->value;
}

void db_await(const struct scratch *s, const char *sql, int64_t value)
{
    const struct db_condition c = {.scratch = s, .sql = sql, .value = value};
    if (!wait_for(db_is, &c, WAIT_MS * 3)) {
        char log[96];
        (void)snprintf(log, sizeof log, "%s/log", s->dir);
        give_up("%s: found %lld, expected %lld\n%s", sql, (long long)db_number(s, sql),
                (long long)value, read_file(log));
    }
}

/* ---- the command line ---- */

int cli(const struct scratch *s, const char *input, ...)
{
    const char *words[32] = {built("bin/pgqrs"), "--dsn", s->dsn};
    size_t n = 3;
    va_list args;
    va_start(args, input);
    while (n < 31 && (words[n] = va_arg(args, const char *)) != NULL) {
        n++;
    }
    va_end(args);
    if (input != NULL) {
        scratch_write(s, "in", "%s", input);
    }
    pid_t pid = fork();
    if (pid == 0) {
        char path[96];
        (void)snprintf(path, sizeof path, "%s/in", s->dir);
        int in = open(input != NULL ? path : "/dev/null", O_RDONLY);
        (void)snprintf(path, sizeof path, "%s/out", s->dir);
        int out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        (void)dup2(in, STDIN_FILENO);
        (void)dup2(out, STDOUT_FILENO);
        (void)dup2(out, STDERR_FILENO);
        char *argv[32] = {NULL};
        for (size_t i = 0; i < n; i++) {
            argv[i] = strdup(words[i]);
        }
        (void)execv(argv[0], argv);
        _exit(127);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* ---- fixture ---- */

int fixture_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL) {
        return -1;
    }
    scratch_create(&f->scratch);
    *state = f;
    return 0;
}

bool daemon_is_clean(const struct daemon *d)
{
    static const char *const findings[] = {"Sanitizer", "runtime error:", "== Invalid",
                                           "definitely lost", "uninitialised"};
    for (size_t i = 0; i < sizeof findings / sizeof *findings; i++) {
        if (d->log[0] != 0 && daemon_log_has(d, findings[i])) {
            char *log = read_file(d->log);
            (void)fprintf(stderr, "found \"%s\" in the log:\n%s\n", findings[i], log);
            free(log);
            return false;
        }
    }
    return true;
}

int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    if (f->daemon.pid > 0) {
        (void)daemon_stop(&f->daemon, SIGQUIT);
    }
    bool clean = daemon_is_clean(&f->daemon);
    scratch_remove(&f->scratch);
    free(f);
    return clean ? 0 : -1;
}

void fixture_start(struct fixture *f, const char *queue_settings)
{
    daemon_config(&f->scratch,
                  "queues:\n"
                  "  work:\n"
                  "    handler: %s\n"
                  "    settings: {file: %s}\n"
                  "%s",
                  built("tests/handlers/effect.so"), f->scratch.effects, queue_settings);
    (void)remove(f->daemon.log); /* of a run before; empty the first time */
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "ready pid=", 2); /* the broker and a worker */
}

void fixture_enqueue(const struct fixture *f, int count, const char *payload)
{
    size_t size = strlen(payload) + 2;
    char *lines = calloc((size_t)count, size);
    size_t len = 0;
    for (int i = 0; lines != NULL && i < count; i++) {
        len += (size_t)snprintf(lines + len, size, "%s\n", payload);
    }
    if (lines == NULL ||
        cli(&f->scratch, lines, "message", "enqueue", "work", "-", (char *)NULL) != 0) {
        give_up("%d jobs %s could not be enqueued", count, payload);
    }
    free(lines);
}

/* ---- effects ---- */

int effects_count(const struct scratch *s, const char *prefix)
{
    char *text = read_file(s->effects);
    size_t len = strlen(prefix);
    int count = 0;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        count += strncmp(line, prefix, len) == 0 ? 1 : 0;
    }
    free(text);
    return count;
}

struct effects_condition {
    const struct scratch *scratch;
    const char *prefix;
    int count;
};

static bool effects_are(const void *arg)
{
    const struct effects_condition *c = arg;
    return effects_count(c->scratch, c->prefix) >= c->count;
}

void effects_await(const struct scratch *s, const char *prefix, int count)
{
    const struct effects_condition c = {.scratch = s, .prefix = prefix, .count = count};
    if (!wait_for(effects_are, &c, WAIT_MS)) {
        char log[96];
        (void)snprintf(log, sizeof log, "%s/log", s->dir);
        give_up("expected %d effects \"%s\", found %d\n%s\n%s", count, prefix,
                effects_count(s, prefix), read_file(s->effects), read_file(log));
    }
}
