/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From here to exec in one step: posix_spawn, since NNG's threads must not live across a fork.
 * Everything a child gets is in ipc/spawn_contract.h; every other descriptor is closed.
 */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/paths.h"
#include "supervisor/run.h"

#define SPAWN_VARIABLES 5

struct inherited {
    int lifeline;
    int listen_fd;              /* -1: a worker */
    int tally;                  /* -1: not the broker */
    int plugin;                 /* -1: it is to use its path */
    struct output_ends *output; /* null: not a worker, or a run */
    int out, err;               /* of a run; -1: not */
};

/* A child does not get what may hold the store's credentials, nor what is meant for us alone. */
static bool is_private(const char *variable)
{
    static const char *const prefixes[] = {"PGQRS_",         "PGPASS",        "PGSERVICE",
                                           "NOTIFY_SOCKET=", "WATCHDOG_PID=", "WATCHDOG_USEC="};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        if (strncmp(variable, prefixes[i], strlen(prefixes[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* names: each with a space behind it, some with * at the end. */
static bool is_listed(const char *names, const char *variable)
{
    for (size_t len; *names != 0; names += len + 1) {
        len = strcspn(names, " ");
        bool open = names[len - 1] == '*';
        if (open ? strncmp(names, variable, len - 1) == 0
                 : strncmp(names, variable, len) == 0 && variable[len] == '=') {
            return true;
        }
    }
    return false;
}

bool pgqrs_spawn_passes(const char *names, const char *variable)
{
    return !is_private(variable) && (names == NULL || is_listed(names, variable));
}

static void free_environment(char **env, size_t own)
{
    for (size_t i = 0; env != NULL && i < own; i++) {
        free(env[i]);
    }
    free(env);
}

/* Our own variables come first, then those we pass through, which are borrowed. */
static char **make_environment(const struct place *place, uint64_t generation, const char *url)
{
    size_t inherited = 0;
    while (environ[inherited] != NULL) {
        inherited++;
    }
    char **env = calloc(SPAWN_VARIABLES + inherited + 1, sizeof *env);
    const struct pgqrs_config *config = place->s->config;
    const struct pgqrs_config_isolation *isolation =
        place->queue == NULL ? NULL : &pgqrs_version_of(place)->config.isolation;
    bool run = place->run != NULL; /* a person reads it */
    const char *names = isolation == NULL ? NULL : isolation->environment;
    if (env == NULL || asprintf(&env[0], PGQRS_ENV_GENERATION "=%" PRIu64, generation) < 0 ||
        asprintf(&env[1], PGQRS_ENV_CONTROL "=%s", url) < 0 ||
        asprintf(&env[2], PGQRS_ENV_SUPERVISOR "=%d", (int)getpid()) < 0 ||
        asprintf(&env[3], PGQRS_ENV_LOG "=%s %s",
                 config->log_format == PGQRS_LOG_JSON && !run ? "json" : "text",
                 pgqrs_log_level_name(run ? PGQRS_LOG_DEBUG : pgqrs_log_level())) < 0 ||
        asprintf(&env[4], PGQRS_ENV_NO_NEW_PRIVILEGES "=%d",
                 isolation != NULL && (isolation->no_new_privileges || isolation->seccomp)) < 0) {
        free_environment(env, 0);
        return NULL;
    }
    size_t n = SPAWN_VARIABLES;
    for (size_t i = 0; i < inherited; i++) {
        if (pgqrs_spawn_passes(names, environ[i])) {
            env[n++] = environ[i];
        }
    }
    return env;
}

/* The sources are above the contract's descriptors, so that none is a target before it is used. */
static int set_actions(posix_spawn_file_actions_t *actions, const struct inherited *from)
{
    int table[][2] = {
        {from->output == NULL ? -1 : STDERR_FILENO, PGQRS_FD_LOG},
        {from->lifeline, PGQRS_FD_LIFELINE},
        {from->listen_fd, PGQRS_FD_LISTEN},
        {from->tally, PGQRS_FD_TALLY},
        {from->output == NULL ? -1 : from->output->memory, PGQRS_FD_TAIL},
        {from->output == NULL ? -1 : from->output->read[0], PGQRS_FD_OUTPUT},
        {from->output == NULL ? -1 : from->output->read[1], PGQRS_FD_OUTPUT_ERR},
        {from->plugin, PGQRS_FD_PLUGIN},
        {from->output == NULL ? from->out : from->output->write[0], STDOUT_FILENO},
        {from->output == NULL ? from->err : from->output->write[1], STDERR_FILENO},
    };
    int last = PGQRS_FD_LIFELINE;
    int rc = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (rc == 0 && from->listen_fd < 0) {
        rc = posix_spawn_file_actions_addclose(actions, PGQRS_FD_LISTEN);
    }
    for (size_t i = 0; i < sizeof table / sizeof *table && rc == 0; i++) {
        if (table[i][0] >= 0) {
            rc = posix_spawn_file_actions_adddup2(actions, table[i][0], table[i][1]);
            last = table[i][1] > last ? table[i][1] : last;
        }
    }
    return rc != 0 ? rc : posix_spawn_file_actions_addclosefrom_np(actions, last + 1);
}

static int set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none;
    sigset_t all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    int rc = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
                                                      POSIX_SPAWN_SETSIGDEF);
    if (rc == 0) {
        rc = posix_spawnattr_setsigmask(attributes, &none);
    }
    return rc != 0 ? rc : posix_spawnattr_setsigdefault(attributes, &all);
}

static int spawn(const char *program, char **env, const struct inherited *from, pid_t *pid_out)
{
    char *argv[] = {strdup(program), NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0) {
        free(argv[0]);
        return rc;
    }
    rc = posix_spawnattr_init(&attributes);
    if (rc == 0) {
        rc = argv[0] == NULL ? ENOMEM : set_actions(&actions, from);
        if (rc == 0) {
            rc = set_attributes(&attributes);
        }
        if (rc == 0) {
            rc = posix_spawn(pid_out, program, &actions, &attributes, argv, env);
        }
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    free(argv[0]);
    return rc;
}

static int open_lifeline(int *ours_out, int *theirs_out, struct pgqrs_error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "socketpair");
    }
    *ours_out = pair[0];
    *theirs_out = fcntl(pair[1], F_DUPFD_CLOEXEC, PGQRS_FD_ABOVE);
    int saved_errno = errno;
    (void)close(pair[1]);
    if (*theirs_out < 0) {
        (void)close(pair[0]);
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, saved_errno, "lifeline");
    }
    return 0;
}

static const char *program_of(const struct place *place)
{
    return place->role == PGQRS_ROLE_BROKER    ? "libexec/pgqrs/pgqrs-broker"
           : place->role == PGQRS_ROLE_GATEWAY ? "libexec/pgqrs/pgqrs-gateway"
                                               : "libexec/pgqrs/pgqrs-worker";
}

static int listen_fd_of(const struct place *place)
{
    return place->role == PGQRS_ROLE_BROKER    ? place->s->listen_fd
           : place->role == PGQRS_ROLE_GATEWAY ? place->s->http_fd
                                               : -1;
}

int pgqrs_spawn(const struct place *place, uint64_t generation, const char *control_url, int plugin,
                pid_t *pid_out, int *lifeline_out, struct child_output *output,
                struct pgqrs_error *err)
{
    bool piped = place->role == PGQRS_ROLE_WORKER && place->run == NULL;
    char program[PATH_MAX];
    int lifeline = -1;
    struct output_ends ends = {.memory = -1};
    struct inherited from = {.listen_fd = listen_fd_of(place),
                             .tally = place->role == PGQRS_ROLE_BROKER ? place->s->tally_fd : -1,
                             .plugin = plugin,
                             .output = piped ? &ends : NULL,
                             .out = place->run == NULL ? -1 : place->run->fds[0],
                             .err = place->run == NULL ? -1 : place->run->fds[1]};
    if (pgqrs_path_installed(program_of(place), program, sizeof program, err) < 0 ||
        open_lifeline(&lifeline, &from.lifeline, err) < 0) {
        return -1;
    }
    int opened = piped ? pgqrs_output_open(output, &ends, err) : 0;
    if (opened == 0) {
        char **env = make_environment(place, generation, control_url);
        int rc = env == NULL ? ENOMEM : spawn(program, env, &from, pid_out);
        free_environment(env, SPAWN_VARIABLES);
        opened =
            rc == 0 ? 0 : pgqrs_error_sys(err, PGQRS_ERR_FAILED, rc, "can not run %s", program);
    }
    if (piped) {
        pgqrs_output_ends_close(&ends);
    }
    (void)close(from.lifeline);
    if (opened < 0) {
        (void)close(lifeline);
        return -1;
    }
    *lifeline_out = lifeline;
    return 0;
}
