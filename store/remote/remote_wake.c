/* SPDX-License-Identifier: Apache-2.0 */
/*
 * To be woken while waiting: a second connection, on which the broker says that there may be
 * messages (ipc/msg_watch.h). It is a hint; where the connection can not be made, who waits polls.
 */
#include "store/remote/remote_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAMES_MAX 1024 /* of a welcome or a refusal, and a wake */

static void leave(struct remote_wake *w)
{
    if (w->fd >= 0) {
        (void)close(w->fd); /* which takes it out of the epoll, too */
    }
    w->fd = -1;
    w->asked = false;
    pgqrs_buf_clear(&w->in);
}

static void send_or_leave(struct remote_wake *w, const struct pgqrs_buf *out)
{
    if (out->failed ||
        send(w->fd, out->data, out->len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)out->len) {
        leave(w);
    }
}

static void ask(struct remote_wake *w)
{
    struct pgqrs_buf out = {0};
    pgqrs_encode_client_watch(&out, w->known);
    w->asked = true;
    send_or_leave(w, &out);
    pgqrs_buf_fini(&out);
}

static void join(struct remote_store *s)
{
    struct remote_wake *w = &s->wake;
    const struct pgqrs_client_hello hello = {
        .major = PGQRS_IPC_MAJOR, .minor = PGQRS_IPC_MINOR, .version = PGQRS_VERSION};
    struct epoll_event event = {.events = EPOLLIN};
    struct pgqrs_buf out = {0};
    w->known = 0;
    w->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (w->fd < 0 || connect(w->fd, (const struct sockaddr *)&s->address, sizeof s->address) < 0 ||
        epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->fd, &event) < 0) {
        leave(w);
        return;
    }
    pgqrs_encode_client_hello(&out, &hello);
    send_or_leave(w, &out);
    pgqrs_buf_fini(&out);
    if (w->fd >= 0) {
        ask(w);
    }
}

/* Takes whole frames. False: the broker has said something that ends the connection. */
static bool take_frames(struct remote_wake *w, bool *hint)
{
    struct pgqrs_frame frame;
    struct pgqrs_error err;
    size_t used = 0;
    size_t at = 0;
    int got;
    while ((got = pgqrs_msg_parse(w->in.data + at, w->in.len - at, PGQRS_ROLE_BROKER,
                                  PGQRS_ROLE_CLIENT, &frame, &used, &err)) > 0) {
        at += used;
        if (frame.type == PGQRS_MSG_CLIENT_WAKE) {
            *hint = true;
            w->asked = false;
            got = pgqrs_decode_client_wake(&frame, &w->known, &err);
        } else if (frame.type != PGQRS_MSG_CLIENT_WELCOME) {
            got = -1;
        }
        if (got < 0) {
            return false;
        }
    }
    memmove(w->in.data, w->in.data + at, w->in.len - at);
    w->in.len -= at;
    return got == 0;
}

/* Reads what is there. A connection that has ended is worth a look: the next call makes it anew. */
static bool hear(struct remote_wake *w)
{
    bool hint = false;
    while (w->fd >= 0) {
        uint8_t *to = pgqrs_buf_reserve(&w->in, FRAMES_MAX);
        ssize_t n = to == NULL ? 0 : recv(w->fd, to, FRAMES_MAX, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
            break;
        }
        w->in.len += n > 0 ? (size_t)n : 0;
        if (n <= 0 || !take_frames(w, &hint)) {
            leave(w);
            hint = true;
        }
    }
    return hint;
}

/* ---- the operations ---- */

int pgqrs_remote_wake_fd(struct pgqrs_store *store)
{
    struct remote_wake *w = &((struct remote_store *)store)->wake;
    if (w->epoll < 0) {
        w->epoll = epoll_create1(EPOLL_CLOEXEC);
    }
    return w->epoll;
}

bool pgqrs_remote_woken(struct pgqrs_store *store)
{
    struct remote_store *s = (struct remote_store *)store;
    bool hint = hear(&s->wake);
    /* Before the look: what comes after this is told. One that has told nothing would end again. */
    if (s->wake.fd >= 0 || s->wake.known != 0) {
        pgqrs_remote_watch_again(s);
    }
    return hint;
}

void pgqrs_remote_watch_again(struct remote_store *s)
{
    struct remote_wake *w = &s->wake;
    if (w->dozing && w->fd < 0 && w->epoll >= 0) {
        join(s);
    } else if (w->dozing && w->fd >= 0 && !w->asked) {
        ask(w);
    }
}

void pgqrs_remote_doze(struct pgqrs_store *store)
{
    struct remote_store *s = (struct remote_store *)store;
    s->wake.dozing = true;
    pgqrs_remote_watch_again(s);
}

void pgqrs_remote_rouse(struct pgqrs_store *store)
{
    ((struct remote_store *)store)->wake.dozing = false;
}

void pgqrs_remote_wake_close(struct remote_store *s)
{
    leave(&s->wake);
    if (s->wake.epoll >= 0) {
        (void)close(s->wake.epoll); /* nothing is written to it */
    }
    pgqrs_buf_fini(&s->wake.in);
}
