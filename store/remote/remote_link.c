/* SPDX-License-Identifier: Apache-2.0 */
/* The connection: bytes out before a deadline, whole frames in. */
#include "store/remote/remote_priv.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"

#define READ_AT_ONCE (64 * 1024)
#define KEEP_MAX (1024 * 1024) /* of a buffer, from one call to the next */

void pgqrs_remote_disconnect(struct remote_store *s)
{
    if (s->fd >= 0) {
        (void)close(s->fd); /* nothing that is still to be written is wanted */
    }
    s->fd = -1;
}

/* ---- waiting ---- */

static int too_late(const struct remote_store *s, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_AGAIN, "broker at \"%s\": no answer within %lld ms",
                           s->address.sun_path, (long long)s->call_ms);
}

static int lost(const struct remote_store *s, int sys_errno, struct pgqrs_error *err)
{
    return pgqrs_error_sys(err, PGQRS_ERR_AGAIN, sys_errno, "broker at \"%s\": connection lost",
                           s->address.sun_path);
}

static int wait_for(struct remote_store *s, short events, int64_t deadline_ms,
                    struct pgqrs_error *err)
{
    for (;;) {
        int64_t left = deadline_ms - pgqrs_mono_ms();
        if (left <= 0) {
            return too_late(s, err);
        }
        struct pollfd waiter = {.fd = s->fd, .events = events};
        int rc = poll(&waiter, 1, left > INT_MAX ? INT_MAX : (int)left);
        if (rc > 0) {
            return 0;
        }
        if (rc < 0 && errno != EINTR) {
            return lost(s, errno, err);
        }
    }
}

/* All of it, or it has not been sent: the broker takes only whole frames. */
static int send_frame(struct remote_store *s, const struct pgqrs_buf *frame, int64_t deadline_ms,
                      struct pgqrs_error *err)
{
    size_t sent = 0;
    while (sent < frame->len) {
        ssize_t n = send(s->fd, frame->data + sent, frame->len - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            sent += (size_t)n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (wait_for(s, POLLOUT, deadline_ms, err) < 0) {
                return -1;
            }
        } else if (errno != EINTR) {
            return lost(s, errno, err);
        }
    }
    return 0;
}

/* How much more there must be for the frame to be whole, as far as can be told. */
static size_t missing(const struct pgqrs_buf *in)
{
    if (in->len < PGQRS_FRAME_HEADER) {
        return PGQRS_FRAME_HEADER - in->len;
    }
    struct pgqrs_reader r = pgqrs_reader_of(in->data, in->len);
    return PGQRS_FRAME_HEADER + (size_t)pgqrs_read_u32(&r) - in->len;
}

static int receive_some(struct remote_store *s, int64_t deadline_ms, struct pgqrs_error *err)
{
    size_t want = missing(&s->in);
    want = want < READ_AT_ONCE ? READ_AT_ONCE : want;
    uint8_t *to = pgqrs_buf_reserve(&s->in, want);
    if (to == NULL) {
        return pgqrs_error_memory(err);
    }
    for (;;) {
        ssize_t n = recv(s->fd, to, want, MSG_DONTWAIT);
        if (n > 0) {
            s->in.len += (size_t)n;
            return 0;
        }
        if (n == 0) {
            return lost(s, ECONNRESET, err);
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (wait_for(s, POLLIN, deadline_ms, err) < 0) {
                return -1;
            }
        } else if (errno != EINTR) {
            return lost(s, errno, err);
        }
    }
}

/* The one frame that is to come; whatever comes with it is nonsense. */
static int receive_frame(struct remote_store *s, struct pgqrs_frame *frame, int64_t deadline_ms,
                         struct pgqrs_error *err)
{
    size_t used = 0;
    if (s->in.cap > KEEP_MAX) {
        pgqrs_buf_fini(&s->in);
    }
    pgqrs_buf_clear(&s->in);
    for (;;) {
        int rc = pgqrs_msg_parse(s->in.data, s->in.len, PGQRS_ROLE_BROKER, PGQRS_ROLE_CLIENT, frame,
                                 &used, err);
        if (rc < 0 || (rc == 0 && receive_some(s, deadline_ms, err) < 0)) {
            return -1;
        }
        if (rc > 0) {
            break;
        }
    }
    if (used < s->in.len) {
        return pgqrs_error_set(err, PGQRS_ERR_PROTOCOL, "%zu bytes after message %s",
                               s->in.len - used, pgqrs_msg_descs[frame->type].name);
    }
    return 0;
}

/* ---- hello ---- */

/* Refuses a socket that somebody else put there: they would get what is enqueued. */
static int check_peer(const struct remote_store *s, struct pgqrs_error *err)
{
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    if (getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_UNAVAILABLE, errno, "broker at \"%s\"",
                               s->address.sun_path);
    }
    if (peer.uid != geteuid() && peer.uid != 0) {
        return pgqrs_error_set(err, PGQRS_ERR_UNAVAILABLE,
                               "broker at \"%s\": found one of user %lu, expected %lu or root",
                               s->address.sun_path, (unsigned long)peer.uid,
                               (unsigned long)geteuid());
    }
    return 0;
}

/* On a Unix socket, SO_SNDTIMEO is how long connect waits for room in the backlog. */
static int open_socket(struct remote_store *s, int64_t deadline_ms, struct pgqrs_error *err)
{
    int64_t left = deadline_ms - pgqrs_mono_ms();
    if (left <= 0) {
        return too_late(s, err);
    }
    const struct timeval limit = {.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_AGAIN, errno, "broker at \"%s\"",
                               s->address.sun_path);
    }
    while (connect(s->fd, (const struct sockaddr *)&s->address, sizeof s->address) < 0) {
        if (errno == EINTR && pgqrs_mono_ms() < deadline_ms) {
            continue;
        }
        if (errno == EAGAIN || errno == EINTR) {
            return too_late(s, err);
        }
        return pgqrs_error_sys(err, errno == EACCES ? PGQRS_ERR_UNAVAILABLE : PGQRS_ERR_AGAIN,
                               errno, "broker at \"%s\": can not connect", s->address.sun_path);
    }
    return check_peer(s, err);
}

static int read_welcome(const struct remote_store *s, const struct pgqrs_frame *frame,
                        struct pgqrs_error *err)
{
    struct pgqrs_client_welcome welcome;
    const char *why;
    if (frame->type == PGQRS_MSG_REFUSE && pgqrs_decode_refuse(frame, &why, err) == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_UNAVAILABLE, "broker at \"%s\": refused: %s",
                               s->address.sun_path, why);
    }
    if (frame->type != PGQRS_MSG_CLIENT_WELCOME ||
        pgqrs_decode_client_welcome(frame, &welcome, err) < 0 || welcome.major != PGQRS_IPC_MAJOR) {
        return pgqrs_error_set(err, PGQRS_ERR_PROTOCOL, "found no welcome");
    }
    return 0;
}

static int say_hello(struct remote_store *s, int64_t deadline_ms, struct pgqrs_error *err)
{
    const struct pgqrs_client_hello hello = {
        .major = PGQRS_IPC_MAJOR, .minor = PGQRS_IPC_MINOR, .version = PGQRS_VERSION};
    struct pgqrs_buf out = {0};
    struct pgqrs_frame frame;
    pgqrs_encode_client_hello(&out, &hello);
    int rc = out.failed ? pgqrs_error_memory(err) : send_frame(s, &out, deadline_ms, err);
    pgqrs_buf_fini(&out);
    struct pgqrs_error unread;
    /* A broker that refuses may have closed before it read the hello: its reason is there. */
    if (receive_frame(s, &frame, deadline_ms, rc < 0 ? &unread : err) < 0) {
        if (rc < 0 && unread.code == PGQRS_ERR_PROTOCOL) {
            *err = unread; /* it has said something that no broker says */
        }
        return -1;
    }
    return read_welcome(s, &frame, err);
}

int pgqrs_remote_connect(struct remote_store *s, int64_t deadline_ms, struct pgqrs_error *err)
{
    if (s->fd >= 0) {
        return 0;
    }
    struct pgqrs_error why = {0};
    if (open_socket(s, deadline_ms, &why) == 0 && say_hello(s, deadline_ms, &why) == 0) {
        pgqrs_remote_watch_again(s);
        return 0;
    }
    pgqrs_remote_disconnect(s);
    if (why.code == PGQRS_ERR_PROTOCOL) {
        return pgqrs_error_set(err, PGQRS_ERR_UNAVAILABLE,
                               "\"%s\" is not the socket of a broker: %.300s", s->address.sun_path,
                               why.text);
    }
    *err = why;
    return -1;
}

/* ---- calls ---- */

/* Between calls a broker sends nothing: what can be read is the end, or a reason for it. */
static void drop_if_dead(struct remote_store *s)
{
    uint8_t byte;
    if (s->fd >= 0 && (recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ||
                       (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))) {
        pgqrs_remote_disconnect(s);
    }
}

static int send_call(struct remote_store *s, int64_t deadline_ms, struct pgqrs_error *err)
{
    drop_if_dead(s);
    bool again = s->fd >= 0; /* the broker may end just now: then its successor is asked */
    for (;;) {
        if (pgqrs_remote_connect(s, deadline_ms, err) < 0) {
            return -1;
        }
        if (send_frame(s, &s->out, deadline_ms, err) == 0) {
            return 0;
        }
        pgqrs_remote_disconnect(s);
        if (!again) {
            return -1;
        }
        again = false;
    }
}

static int unanswered(struct remote_store *s, enum pgqrs_store_op op, const struct pgqrs_error *why,
                      struct pgqrs_error *err)
{
    pgqrs_remote_disconnect(s);
    enum pgqrs_err code = pgqrs_store_op_changes(op) ? PGQRS_ERR_UNKNOWN : why->code;
    (void)pgqrs_error_set(err, code, "%s: %.400s%s", pgqrs_store_op_name(op), why->text,
                          code == PGQRS_ERR_UNKNOWN ? "; it may have been done" : "");
    return -1;
}

int pgqrs_remote_nonsense(struct remote_store *s, enum pgqrs_store_op op, struct pgqrs_error *err)
{
    struct pgqrs_error why;
    (void)pgqrs_error_set(&why, PGQRS_ERR_PROTOCOL,
                          "broker at \"%s\": found a reply that does not fit the call",
                          s->address.sun_path);
    return unanswered(s, op, &why, err);
}

int pgqrs_remote_call(struct remote_store *s, struct pgqrs_store_call *call,
                      struct pgqrs_store_reply *reply, struct pgqrs_error *err)
{
    int64_t deadline_ms = pgqrs_mono_ms() + s->call_ms;
    struct pgqrs_frame frame;
    struct pgqrs_error why = {0};
    call->number = ++s->number;
    if (s->out.cap > KEEP_MAX) {
        pgqrs_buf_fini(&s->out);
    }
    pgqrs_buf_clear(&s->out);
    if (pgqrs_encode_store_call(&s->out, call, err) < 0 || send_call(s, deadline_ms, err) < 0) {
        return -1;
    }
    if (receive_frame(s, &frame, deadline_ms, &why) < 0) {
        return unanswered(s, call->op, &why, err);
    }
    if (frame.type != PGQRS_MSG_STORE_REPLY || pgqrs_decode_store_reply(&frame, reply, &why) < 0) {
        return pgqrs_remote_nonsense(s, call->op, err);
    }
    if (reply->number != call->number || reply->op != call->op) {
        pgqrs_store_reply_fini(reply);
        return pgqrs_remote_nonsense(s, call->op, err);
    }
    if (reply->rc < 0) {
        *err = reply->err;
        pgqrs_store_reply_fini(reply);
        return -1;
    }
    return 0;
}
