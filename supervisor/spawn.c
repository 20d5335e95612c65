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

#include "base/paths.h"

#define SPAWN_VARIABLES 5
#define ABOVE_CONTRACT 16 /* sources of dup2 are moved here, out of the way of its targets */

/* A child does not get what may hold the store's credentials, nor what is meant for us alone. */
static bool is_private(const char *variable)
{
    static const char *const prefixes[] = {"PGQRS_", "PGPASS", "PGSERVICE", "NOTIFY_SOCKET="};
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
        place->queue == NULL ? NULL : &place->queue->config->isolation;
    const char *names = isolation == NULL ? NULL : isolation->environment;
    if (env == NULL || asprintf(&env[0], PGQRS_ENV_GENERATION "=%" PRIu64, generation) < 0 ||
        asprintf(&env[1], PGQRS_ENV_CONTROL "=%s", url) < 0 ||
        asprintf(&env[2], PGQRS_ENV_SUPERVISOR "=%d", (int)getpid()) < 0 ||
        asprintf(&env[3], PGQRS_ENV_LOG "=%s %s",
                 config->log_format == PGQRS_LOG_JSON ? "json" : "text",
                 pgqrs_log_level_name(config->log_level)) < 0 ||
        asprintf(&env[4], PGQRS_ENV_NO_NEW_PRIVILEGES "=%d",
                 isolation != NULL && (isolation->no_new_privileges || isolation->seccomp)) < 0) {
        free_environment(env, 0);
        return NULL;
    }
    size_t n = SPAWN_VARIABLES;
    for (size_t i = 0; i < inherited; i++) {
        if (!is_private(environ[i]) && (names == NULL || is_listed(names, environ[i]))) {
            env[n++] = environ[i];
        }
    }
    return env;
}

static int set_actions(posix_spawn_file_actions_t *actions, int lifeline, int listen_fd)
{
    int last = listen_fd >= 0 ? PGQRS_FD_LISTEN : PGQRS_FD_LIFELINE;
    int rc = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (rc == 0) {
        rc = posix_spawn_file_actions_adddup2(actions, lifeline, PGQRS_FD_LIFELINE);
    }
    if (rc == 0 && listen_fd >= 0) {
        rc = posix_spawn_file_actions_adddup2(actions, listen_fd, PGQRS_FD_LISTEN);
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

static int spawn(const char *program, char **env, int lifeline, int listen_fd, pid_t *pid_out)
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
        rc = argv[0] == NULL ? ENOMEM : set_actions(&actions, lifeline, listen_fd);
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

int pgqrs_spawn(const struct place *place, uint64_t generation, const char *control_url,
                pid_t *pid_out, int *lifeline_out, struct pgqrs_error *err)
{
    bool broker = place->role == PGQRS_ROLE_BROKER;
    char program[PATH_MAX];
    int pair[2];
    if (pgqrs_path_installed(broker ? "libexec/pgqrs/pgqrs-broker" : "libexec/pgqrs/pgqrs-worker",
                             program, sizeof program, err) < 0) {
        return -1;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "socketpair");
    }
    int lifeline = fcntl(pair[1], F_DUPFD_CLOEXEC, ABOVE_CONTRACT);
    int lifeline_errno = errno;
    (void)close(pair[1]);
    char **env = make_environment(place, generation, control_url);
    int rc = lifeline < 0 ? lifeline_errno
             : env == NULL
                 ? ENOMEM
                 : spawn(program, env, lifeline, broker ? place->s->listen_fd : -1, pid_out);
    free_environment(env, SPAWN_VARIABLES);
    if (lifeline >= 0) {
        (void)close(lifeline);
    }
    if (rc != 0) {
        (void)close(pair[0]);
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, rc, "can not run %s", program);
    }
    *lifeline_out = pair[0];
    return 0;
}
