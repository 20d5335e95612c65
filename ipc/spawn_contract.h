/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_SPAWN_CONTRACT_H
#define PGQRS_IPC_SPAWN_CONTRACT_H

/*
 * What a child may rely on when the supervisor has started it, and what its exit status says.
 * Nothing secret is here: the store's address and the workers' tokens come over the control
 * channel, never in argv or the environment.
 *
 * A child is the leader of a session of its own, so that a terminal's Ctrl-C reaches only the
 * supervisor. Standard input is /dev/null. Output and error are the supervisor's; a worker's are
 * two pipes, of which it has the other ends, too.
 */

/* Descriptors. */
#define PGQRS_FD_LIFELINE                                                                          \
    3 /* a socket: end of file when the supervisor is gone; the child writes                       \
         its last words here before it ends with an error */
#define PGQRS_FD_LISTEN                                                                            \
    4 /* broker: the listening socket for jobs; gateway: that for HTTP. They                       \
         outlive them */
/* Broker only. */
#define PGQRS_FD_TALLY 5 /* a sealed memory file: struct pgqrs_tally_page */
/* Worker only. */
#define PGQRS_FD_LOG 5        /* the supervisor's standard error */
#define PGQRS_FD_TAIL 6       /* a sealed memory file: struct pgqrs_output_page */
#define PGQRS_FD_OUTPUT 7     /* where to read what is written to standard output; never blocks */
#define PGQRS_FD_OUTPUT_ERR 8 /* standard error */
#define PGQRS_FD_PLUGIN 9     /* the plugin, when its path leads to another file by now */
#define PGQRS_FD_PLUGIN_PATH "/proc/self/fd/9"

#define PGQRS_FD_ABOVE 16 /* the supervisor's own are not below, where they would be in the way */

/* Environment. */
#define PGQRS_ENV_GENERATION "PGQRS_SPAWN_GENERATION" /* decimal, never used twice */
#define PGQRS_ENV_CONTROL "PGQRS_SPAWN_CONTROL"       /* NNG address to dial */
#define PGQRS_ENV_SUPERVISOR "PGQRS_SPAWN_SUPERVISOR" /* pid, to notice that it is gone already */
#define PGQRS_ENV_NO_NEW_PRIVILEGES "PGQRS_SPAWN_NO_NEW_PRIVILEGES" /* 0 or 1 */
#define PGQRS_ENV_LOG "PGQRS_SPAWN_LOG" /* "format level", as in the configuration */

/* One line of text, without a newline, at most this long. */
#define PGQRS_LAST_WORDS_MAX 600

/* A child that can not say hello in this time gives up; ms. */
#define PGQRS_HELLO_TIMEOUT_MS 5000
/* The broker holds a worker's hello this long when the supervisor has not announced it yet; ms. */
#define PGQRS_ANNOUNCE_TIMEOUT_MS 5000

enum pgqrs_exit {
    PGQRS_EXIT_OK = 0,
    PGQRS_EXIT_FAILURE = 1,      /* may go away: start again */
    PGQRS_EXIT_USAGE = 2,        /* also: a child that was started by hand */
    PGQRS_EXIT_BAD_PLUGIN = 65,  /* the plugin can never be loaded as it is */
    PGQRS_EXIT_UNAVAILABLE = 69, /* the store can not be opened */
    PGQRS_EXIT_TIMEOUT = 73,     /* a job did not stop at its time limit */
    PGQRS_EXIT_AWAY = 74,        /* the store does not answer: it may come back */
    PGQRS_EXIT_RETURNED = 75,    /* drained, but a running job had to be given back */
    PGQRS_EXIT_CONFIG = 78,      /* the configuration can not work as it is */
};

#endif
