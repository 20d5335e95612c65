/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tries whatever a plugin must not be able to do, and reports what it managed: the result is an
 * object of numbers, 0 for what failed.
 *
 * Settings: {"socket": PATH, "config": PATH, "db": PATH} of the pgqrsd that runs it.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pgqrs/handler.h>

#include "ipc/msg.h"
#include "ipc/spawn_contract.h"

#define CHUNK 65536
#define HELLO_KEY 16 /* type, zero, major, minor and generation of a JOB_HELLO */
#define ANSWER_MS 5000

struct state {
    char socket[256], config[256], db[256];
};

struct report {
    char text[4096];
    size_t len;
};

static void add(struct report *r, const char *name, const char *of, int value)
{
    r->len += (size_t)snprintf(r->text + r->len, sizeof r->text - r->len, "%s\"%s%s\":%d",
                               r->len == 0 ? "{" : ",", name, of, value);
}

/* ---- other processes ---- */

static bool read_proc(pid_t pid, const char *name, char *out, size_t size)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
    if (fd >= 0) {
        (void)close(fd);
    }
    out[n < 0 ? 0 : n] = 0;
    return n > 0;
}

/* A process of our pgqrsd that runs this program, and is not this one; 0: none. */
static pid_t find_process(const char *program)
{
    pid_t found = 0;
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    while (proc != NULL && found == 0 && (entry = readdir(proc)) != NULL) {
        char text[512];
        int parent = 0;
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid <= 0 || pid == getpid() || !read_proc(pid, "stat", text, sizeof text)) {
            continue;
        }
        const char *end = strrchr(text, ')');
        if (end != NULL && sscanf(end + 1, " %*c %d", &parent) == 1 && parent == getppid() &&
            read_proc(pid, "cmdline", text, sizeof text) && strstr(text, program) != NULL) {
            found = pid;
        }
    }
    if (proc != NULL) {
        (void)closedir(proc);
    }
    return found;
}

static int open_memory(pid_t pid)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static bool can_trace(pid_t pid)
{
    pid_t child = fork(); /* its end lets the other go again */
    if (child == 0) {
        _exit(ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0 ? 1 : 0);
    }
    int status = 0;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 1;
}

static bool can_see_descriptors(pid_t pid)
{
    char path[64];
    char target[256];
    (void)snprintf(path, sizeof path, "/proc/%d/fd/1", (int)pid);
    return readlink(path, target, sizeof target) > 0;
}

static void try_process(struct report *r, const char *name, pid_t pid)
{
    char text[64];
    int memory = open_memory(pid);
    add(r, name, "_found", pid > 0);
    add(r, name, "_environment", read_proc(pid, "environ", text, sizeof text));
    add(r, name, "_memory", memory >= 0);
    add(r, name, "_traced", can_trace(pid));
    add(r, name, "_descriptors", can_see_descriptors(pid));
    if (memory >= 0) {
        (void)close(memory);
    }
}

/* ---- tokens: whoever can read a worker's memory finds the hello that it sent ---- */

static void hello_key(uint64_t generation, uint8_t key[HELLO_KEY])
{
    const uint16_t head[] = {PGQRS_MSG_JOB_HELLO, 0, PGQRS_IPC_MAJOR, PGQRS_IPC_MINOR};
    memcpy(key, head, sizeof head);
    memcpy(key + sizeof head, &generation, sizeof generation);
}

static bool search(pid_t pid, unsigned long from, unsigned long to, const uint8_t *key,
                   uint8_t token[PGQRS_TOKEN_SIZE])
{
    static uint8_t bytes[CHUNK];
    for (; from < to; from += CHUNK / 2) {
        const struct iovec local = {bytes, to - from < CHUNK ? to - from : CHUNK};
        const struct iovec remote = {(void *)from, local.iov_len};
        ssize_t n = process_vm_readv(pid, &local, 1, &remote, 1, 0);
        for (ssize_t i = 0; i + HELLO_KEY + PGQRS_TOKEN_SIZE <= n; i++) {
            if (bytes[i] == key[0] && memcmp(bytes + i, key, HELLO_KEY) == 0) {
                memcpy(token, bytes + i + HELLO_KEY, PGQRS_TOKEN_SIZE);
                return true;
            }
        }
        if (n <= 0) {
            break;
        }
    }
    return false;
}

static bool steal_token(pid_t pid, uint64_t generation, uint8_t token[PGQRS_TOKEN_SIZE])
{
    char path[64];
    char line[512];
    uint8_t key[HELLO_KEY];
    bool found = false;
    (void)snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "re");
    hello_key(generation, key);
    while (maps != NULL && !found && fgets(line, sizeof line, maps) != NULL) {
        unsigned long from;
        unsigned long to;
        /* Not our own copies of the key: stacks, and the data of programs. */
        if (sscanf(line, "%lx-%lx", &from, &to) == 2 && strstr(line, " rw-p ") != NULL &&
            (strstr(line, "[heap]") != NULL || strpbrk(line, "/[") == NULL)) {
            found = search(pid, from, to, key, token);
        }
    }
    if (maps != NULL) {
        (void)fclose(maps);
    }
    return found;
}

/* ---- the broker's socket ---- */

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval limit = {.tv_sec = ANSWER_MS / 1000};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* The socket by its name, or by what the worker keeps of it. */
static int connect_somehow(const struct state *state)
{
    int fd = connect_to(state->socket);
    for (int i = 3; fd < 0 && i < 64; i++) {
        char path[64];
        char target[256];
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", i);
        ssize_t n = readlink(path, target, sizeof target - 1);
        if (n > 5 && memcmp(target + n - 5, "/jobs", 5) == 0) {
            fd = connect_to(path);
        }
    }
    return fd;
}

/* The type of the message that answers; 0: none, or no connection. */
static int ask(const struct state *state, const uint8_t *frame, size_t len)
{
    uint16_t answer[4] = {0}; /* the length is in the first two, the type in the third */
    int fd = connect_somehow(state);
    if (fd < 0) {
        return 0;
    }
    bool answered = send(fd, frame, len, MSG_NOSIGNAL) == (ssize_t)len &&
                    recv(fd, answer, sizeof answer, MSG_WAITALL) == (ssize_t)sizeof answer;
    (void)close(fd);
    return answered ? answer[2] : 0;
}

static int ask_as_another(const struct state *state, const uint8_t *frame, size_t len)
{
    pid_t child = fork();
    if (child == 0) {
        (void)setsid();
        _exit(ask(state, frame, len));
    }
    int status = 0;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status)
               ? WEXITSTATUS(status)
               : 0;
}

static size_t put(uint8_t *frame, size_t at, const void *bytes, size_t len)
{
    memcpy(frame + at, bytes, len);
    return at + len;
}

static size_t begin(uint8_t *frame, uint32_t body, uint16_t type)
{
    const uint16_t rest[] = {type, 0, PGQRS_IPC_MAJOR, PGQRS_IPC_MINOR};
    return put(frame, put(frame, 0, &body, sizeof body), rest, sizeof rest);
}

static void try_client(struct report *r, const struct state *state)
{
    uint8_t frame[64];
    const uint32_t len = 1;
    size_t size = begin(frame, 10, PGQRS_MSG_CLIENT_HELLO);
    size = put(frame, put(frame, size, &len, sizeof len), "1", 2);
    int fd = connect_somehow(state);
    add(r, "connected", "", fd >= 0);
    if (fd >= 0) {
        (void)close(fd);
    }
    add(r, "client", "", ask(state, frame, size) == PGQRS_MSG_CLIENT_WELCOME);
    add(r, "client_of_child", "", ask_as_another(state, frame, size) == PGQRS_MSG_CLIENT_WELCOME);
}

static void try_worker(struct report *r, const char *name, const struct state *state,
                       uint64_t generation, const uint8_t token[PGQRS_TOKEN_SIZE])
{
    uint8_t frame[64];
    const uint32_t capacity_and_count[] = {1, 0};
    size_t size = begin(frame, 20 + PGQRS_TOKEN_SIZE, PGQRS_MSG_JOB_HELLO);
    size = put(frame, size, &generation, sizeof generation);
    size = put(frame, size, token, PGQRS_TOKEN_SIZE);
    size = put(frame, size, capacity_and_count, sizeof capacity_and_count);
    add(r, name, "", ask_as_another(state, frame, size) == PGQRS_MSG_JOB_WELCOME);
}

static void try_tokens(struct report *r, const struct state *state, pid_t other_pid)
{
    const char *text = getenv("PGQRS_SPAWN_GENERATION");
    uint64_t own = text == NULL ? 0 : strtoull(text, NULL, 10);
    uint64_t other = own == 2 ? 3 : 2; /* the broker is 1, two workers follow */
    uint8_t token[PGQRS_TOKEN_SIZE] = {0};
    try_worker(r, "guessed_token", state, own, token);
    try_worker(r, "guessed_generation", state, other, token);
    add(r, "own_token_read", "", steal_token(getpid(), own, token));
    try_worker(r, "own_token", state, own, token);
    try_worker(r, "own_token_for_other", state, other, token);
    add(r, "other_token_read", "", steal_token(other_pid, other, token));
    try_worker(r, "other_token", state, other, token);
}

/* ---- itself ---- */

static int count_secrets(void)
{
    int count = 0;
    for (char **variable = environ; *variable != NULL; variable++) {
        bool ours = strncmp(*variable, "PGQRS_SPAWN_", 12) == 0;
        count += (strncmp(*variable, "PGQRS_", 6) == 0 && !ours) ||
                 strncmp(*variable, "PGPASS", 6) == 0 || strncmp(*variable, "NOTIFY_", 7) == 0;
    }
    return count;
}

/* Descriptors that are neither the log nor a means to talk to pgqrsd and the broker. */
static int count_strange_descriptors(void)
{
    static const char *const known[] = {"/dev/null", "socket:", "anon_inode:", "pipe:"};
    int count = 0;
    for (int fd = 0; fd < 256; fd++) {
        char path[64];
        char target[256];
        int listens = 0;
        socklen_t len = sizeof listens;
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof target - 1);
        bool fine = n <= 0 || fd == 1 || fd == 2 || fd == PGQRS_FD_LOG ||
                    (n > 5 && memcmp(target + n - 5, "/jobs", 5) == 0 &&
                     (fcntl(fd, F_GETFL) & O_PATH) != 0);
        for (size_t i = 0; n > 0 && !fine && i < sizeof known / sizeof *known; i++) {
            fine = strncmp(target, known[i], strlen(known[i])) == 0;
        }
        (void)getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len);
        count += !fine || listens;
    }
    return count;
}

static bool can_open(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)close(fd);
    }
    return fd >= 0;
}

static enum pgqrs_outcome run(void *opaque, struct pgqrs_job *job)
{
    const struct state *state = opaque;
    struct report r = {.len = 0};
    pid_t other = find_process("pgqrs-worker");
    add(&r, "secrets", "", count_secrets());
    add(&r, "strange_descriptors", "", count_strange_descriptors());
    add(&r, "root_again", "", setuid(0) == 0);
    add(&r, "config", "", can_open(state->config));
    add(&r, "db", "", can_open(state->db));
    try_process(&r, "supervisor", getppid());
    try_process(&r, "broker", find_process("pgqrs-broker"));
    try_process(&r, "other", other);
    try_client(&r, state);
    try_tokens(&r, state, other);
    r.text[r.len++] = '}';
    return job->host->set_result(job, r.text, r.len) < 0 ? pgqrs_fail(job, "%s", r.text)
                                                         : PGQRS_DONE;
}

static void find_text(const char *json, const char *key, char *out, size_t size)
{
    char quoted[32];
    (void)snprintf(quoted, sizeof quoted, "\"%s\":\"", key);
    const char *at = strstr(json, quoted);
    at = at == NULL ? "" : at + strlen(quoted);
    (void)snprintf(out, size, "%.*s", (int)strcspn(at, "\""), at);
}

static int init(const struct pgqrs_setup *setup, void **state_out)
{
    static struct state state;
    find_text(setup->settings, "socket", state.socket, sizeof state.socket);
    find_text(setup->settings, "config", state.config, sizeof state.config);
    find_text(setup->settings, "db", state.db, sizeof state.db);
    *state_out = &state;
    return 0;
}

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "hostile",
    .version = "1.0",
    .init = init,
    .run = run,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
