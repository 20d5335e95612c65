/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/control.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/pair1/pair.h>

/*
 * Version 1 of the pair, though one peer is all we have: in NNG 1.5.2 a socket of version 0 whose
 * NNG_OPT_RECVFD was asked for leaves a pipe open when it is closed.
 *
 * Messages that wait in NNG to be sent; control messages are few and small. None wait on the
 * receiving side: with a buffer there, NNG 1.5.2 now and then never finishes with a peer that is
 * killed while a message of it is on its way in, and every close from then on waits for ever
 * (tests/test_control.c kills enough peers to see it).
 */
#define QUEUE_DEPTH 64
#define END_S 1 /* for the last channels to close */

struct pgqrs_control {
    struct pgqrs_control *next; /* to be closed */
    nng_socket socket;
    int fd;
    nng_msg *last; /* what the last frame borrows from */
};

static int nng_failed(struct pgqrs_error *err, int code, const char *what, const char *url)
{
    return pgqrs_error_set(err, PGQRS_ERR_FAILED, "control channel %s: %s: %s", url, what,
                           nng_strerror(code));
}

/* On an NNG thread: nobody but us may use the channel, even if the directory's mode was changed. */
static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *unused)
{
    (void)event;
    (void)unused;
    uint64_t uid = 0;
    if (nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_UID, &uid) != 0 || uid != geteuid()) {
        (void)nng_pipe_close(pipe); /* it may be closed already */
    }
}

static struct pgqrs_control *open_pair(const char *url, struct pgqrs_error *err)
{
    struct pgqrs_control *control = calloc(1, sizeof *control);
    if (control == NULL) {
        (void)pgqrs_error_memory(err);
        return NULL;
    }
    int code = nng_pair1_open(&control->socket);
    if (code != 0) {
        free(control);
        (void)nng_failed(err, code, "open", url);
        return NULL;
    }
    if ((code = nng_socket_set_int(control->socket, NNG_OPT_SENDBUF, QUEUE_DEPTH)) != 0 ||
        (code = nng_socket_get_int(control->socket, NNG_OPT_RECVFD, &control->fd)) != 0 ||
        (code = nng_pipe_notify(control->socket, NNG_PIPE_EV_ADD_PRE, on_pipe, NULL)) != 0) {
        pgqrs_control_close(&control);
        (void)nng_failed(err, code, "set up", url);
    }
    return control;
}

int pgqrs_control_listen(const char *url, struct pgqrs_control **control_out,
                         struct pgqrs_error *err)
{
    struct pgqrs_control *control = open_pair(url, err);
    if (control == NULL) {
        return -1;
    }
    int code = nng_listen(control->socket, url, NULL, 0);
    if (code != 0) {
        pgqrs_control_close(&control);
        return nng_failed(err, code, "listen", url);
    }
    *control_out = control;
    return 0;
}

int pgqrs_control_dial(const char *url, struct pgqrs_control **control_out, struct pgqrs_error *err)
{
    struct pgqrs_control *control = open_pair(url, err);
    if (control == NULL) {
        return -1;
    }
    int code = nng_dial(control->socket, url, NULL, 0);
    if (code != 0) {
        pgqrs_control_close(&control);
        return nng_failed(err, code, "dial", url);
    }
    *control_out = control;
    return 0;
}

/* ---- closing ---- */

/*
 * nng_close waits until NNG has done with the peer, and in NNG 1.5.2 that may be for ever when the
 * peer was killed at a bad moment. So a thread waits, and nobody else does.
 */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct pgqrs_control *first; /* to be closed */
    size_t count;                /* those and the one that is being closed */
    bool running;
} closer = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void *closer_main(void *unused)
{
    (void)unused;
    (void)pthread_mutex_lock(&closer.mutex);
    for (;;) {
        struct pgqrs_control *control = closer.first;
        if (control == NULL) {
            (void)pthread_cond_wait(&closer.changed, &closer.mutex);
            continue;
        }
        closer.first = control->next;
        (void)pthread_mutex_unlock(&closer.mutex);
        (void)nng_close(control->socket); /* it is open */
        free(control);
        (void)pthread_mutex_lock(&closer.mutex);
        closer.count--;
        (void)pthread_cond_broadcast(&closer.changed);
    }
    return NULL;
}

static bool start_closer(void)
{
    pthread_t thread;
    sigset_t all;
    sigset_t before;
    if (!closer.running) {
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &before);
        closer.running =
            pthread_create(&thread, NULL, closer_main, NULL) == 0 && pthread_detach(thread) == 0;
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    return closer.running;
}

void pgqrs_control_close(struct pgqrs_control **control)
{
    struct pgqrs_control *c = *control;
    if (c == NULL) {
        return;
    }
    *control = NULL;
    nng_msg_free(c->last); /* accepts null */
    c->last = NULL;
    (void)pthread_mutex_lock(&closer.mutex);
    bool handed_over = start_closer();
    if (handed_over) {
        c->next = closer.first;
        closer.first = c;
        closer.count++;
        (void)pthread_cond_broadcast(&closer.changed);
    }
    (void)pthread_mutex_unlock(&closer.mutex);
    if (!handed_over) {
        (void)nng_close(c->socket);
        free(c);
    }
}

size_t pgqrs_control_unclosed(void)
{
    (void)pthread_mutex_lock(&closer.mutex);
    size_t count = closer.count;
    (void)pthread_mutex_unlock(&closer.mutex);
    return count;
}

void pgqrs_control_end(void)
{
    struct timespec until;
    int rc = 0;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += END_S;
    (void)pthread_mutex_lock(&closer.mutex);
    while (closer.count > 0 && rc == 0) {
        rc = pthread_cond_timedwait(&closer.changed, &closer.mutex, &until);
    }
    bool all_closed = closer.count == 0;
    (void)pthread_mutex_unlock(&closer.mutex);
    if (all_closed) {
        nng_fini(); /* else it would wait as well, and the process ends without */
    }
}

int pgqrs_control_fd(const struct pgqrs_control *control)
{
    return control->fd;
}

int pgqrs_control_send(struct pgqrs_control *control, const struct pgqrs_buf *frame,
                       struct pgqrs_error *err)
{
    nng_msg *msg;
    if (frame->failed || nng_msg_alloc(&msg, 0) != 0) {
        return pgqrs_error_memory(err);
    }
    int code = nng_msg_append(msg, frame->data, frame->len);
    if (code == 0) {
        code = nng_sendmsg(control->socket, msg, NNG_FLAG_NONBLOCK);
    }
    if (code != 0) {
        nng_msg_free(msg);
        return pgqrs_error_set(err, code == NNG_EAGAIN ? PGQRS_ERR_AGAIN : PGQRS_ERR_FAILED,
                               "control message not sent: %s", nng_strerror(code));
    }
    return 0;
}

int pgqrs_control_recv(struct pgqrs_control *control, enum pgqrs_role from, enum pgqrs_role to,
                       struct pgqrs_frame *frame_out, struct pgqrs_error *err)
{
    nng_msg_free(control->last);
    control->last = NULL;
    nng_msg *msg;
    int code = nng_recvmsg(control->socket, &msg, NNG_FLAG_NONBLOCK);
    if (code == NNG_EAGAIN) {
        return 0;
    }
    if (code != 0) {
        return pgqrs_error_set(err, PGQRS_ERR_FAILED, "control channel: %s", nng_strerror(code));
    }
    control->last = msg;
    size_t used = 0;
    int got = pgqrs_msg_parse(nng_msg_body(msg), nng_msg_len(msg), from, to, frame_out, &used, err);
    if (got == 0 || (got > 0 && used != nng_msg_len(msg))) {
        return pgqrs_error_set(err, PGQRS_ERR_PROTOCOL, "control message of the wrong length");
    }
    return got;
}

pid_t pgqrs_control_peer_pid(const struct pgqrs_control *control)
{
    uint64_t pid = 0;
    if (control->last == NULL ||
        nng_pipe_get_uint64(nng_msg_get_pipe(control->last), NNG_OPT_IPC_PEER_PID, &pid) != 0) {
        return 0;
    }
    return (pid_t)pid;
}
