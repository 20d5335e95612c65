/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_REMOTE_RIG_H
#define PGQRS_TESTS_REMOTE_RIG_H

/*
 * The other end of a broker's socket, in a thread of the test: one that serves a store as a broker
 * does, or one that follows a script.
 */

#include <limits.h>
#include <pthread.h>

#include "ipc/store_msg.h"
#include "tests/support/store_suite.h"

#define REMOTE_CLIENTS_MAX 8

struct remote_rig {
    char dir[PATH_MAX];
    char path[PATH_MAX + 8]; /* of the socket */
    char dsn[PATH_MAX + 16];
    int listen_fd, stop_fd;
    pthread_t thread;
    void (*serve)(struct remote_rig *rig); /* in the thread; ends when accept fails */
    void *arg;                             /* for serve */
    struct pgqrs_store *store;             /* for remote_rig_serve_store; under the lock */
    pthread_mutex_t lock;
    unsigned calls, looks; /* under the lock */
};

/* Makes the socket and starts the thread. */
void remote_rig_start(struct remote_rig *rig, void (*serve)(struct remote_rig *rig), void *arg);
/* Ends the thread and removes the socket. Connections must be closed first, or be their peer's. */
void remote_rig_stop(struct remote_rig *rig);
/* Accepts clients and runs their calls on rig->store. */
void remote_rig_serve_store(struct remote_rig *rig);

/* ---- for scripts: a failure ends the connection, it does not end the test ---- */

int remote_rig_accept(struct remote_rig *rig); /* -1: the rig is being stopped */
/* Reads one frame; its body lies in buf. */
bool remote_rig_read(int fd, struct pgqrs_buf *buf, struct pgqrs_frame *frame);
bool remote_rig_write(int fd, const void *data, size_t len);
/* Accepts, reads the hello and sends the welcome. */
int remote_rig_welcome(struct remote_rig *rig);

/* ---- a backend of the shared suite: another one, served through a socket ---- */

struct remote_backend {
    const struct suite_backend *inner;
    struct remote_rig rig;
};
struct suite_backend remote_rig_backend(const char *name, struct remote_backend *backend);

#endif
