/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes to and from the broker. A connection that ends for any reason is made again; what was on
 * its way out is sent again from the list of unsettled outcomes, what was on its way in is left to
 * the broker, which compares the hello with its own list.
 */
#include "worker/job_link_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define READ_SIZE (256u * 1024)
#define BUFFER_KEEP (1024u * 1024) /* larger buffers are freed when they are empty */
#define PAUSE_MIN_MS 20
#define PAUSE_MAX_MS 200

static void disconnect(struct pgqrs_job_link *link, const char *why)
{
    if (!link->outage_told) {
        pgqrs_log_warn("broker: %s, connecting again", why);
        link->outage_told = true;
    }
    if (link->fd >= 0) {
        (void)close(link->fd);
        link->fd = -1;
    }
    link->welcomed = false;
    pgqrs_buf_clear(&link->in);
    pgqrs_buf_clear(&link->out);
    link->connect_at_ms = pgqrs_mono_ms() + link->pause_ms;
    link->pause_ms = link->pause_ms == 0                 ? PAUSE_MIN_MS
                     : link->pause_ms * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS
                                                         : link->pause_ms * 2;
}

static int put_hello(struct pgqrs_job_link *link, struct pgqrs_error *err)
{
    struct pgqrs_job_hello hello = {
        .major = PGQRS_IPC_MAJOR,
        .minor = PGQRS_IPC_MINOR,
        .generation = link->generation,
        .capacity = link->draining ? 0 : link->prefetch,
        .workflow = link->workflow ? 1 : 0,
    };
    memcpy(hello.token, link->token, sizeof hello.token);
    if (pgqrs_held_list(&link->held, &hello, err) < 0) {
        return -1;
    }
    pgqrs_encode_job_hello(&link->out, &hello);
    pgqrs_job_hello_fini(&hello);
    const struct pgqrs_unsettled *outcome;
    TAILQ_FOREACH(outcome, &link->held.unsettled, link)
    {
        pgqrs_buf_put(&link->out, outcome->frame, outcome->frame_len);
    }
    return link->out.failed ? pgqrs_error_memory(err) : 0;
}

void pgqrs_job_wire_connect(struct pgqrs_job_link *link)
{
    struct pgqrs_error err;
    if (link->fd >= 0 || pgqrs_mono_ms() < link->connect_at_ms) {
        return;
    }
    link->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* On a Unix socket a connect that would block fails with EAGAIN and is simply tried again. */
    if (link->fd < 0 ||
        connect(link->fd, (const struct sockaddr *)&link->address, sizeof link->address) < 0) {
        (void)pgqrs_error_sys(&err, PGQRS_ERR_AGAIN, errno, "can not connect to %s",
                              link->address.sun_path);
        disconnect(link, err.text);
    } else if (put_hello(link, &err) < 0) {
        disconnect(link, err.text);
    } else {
        pgqrs_job_wire_flush(link);
    }
}

/* Only the thread that reads may close the connection; the other lets it find out by itself. */
static void write_failed(struct pgqrs_job_link *link)
{
    pgqrs_buf_clear(&link->out);
    if (link->draining) {
        (void)shutdown(link->fd, SHUT_WR);
        return;
    }
    while (link->fd >= 0 && pgqrs_job_wire_receive(link)) {
        /* Leases that the broker sent before it died are still in the socket. */
    }
    if (link->fd >= 0) {
        disconnect(link, "connection lost");
    }
}

static ssize_t send_some(struct pgqrs_job_link *link, const uint8_t *data, size_t len)
{
    for (;;) {
        ssize_t n = send(link->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0 || errno == EAGAIN) {
            return n < 0 ? 0 : n;
        }
        if (errno != EINTR) {
            write_failed(link);
            return -1;
        }
    }
}

void pgqrs_job_wire_flush(struct pgqrs_job_link *link)
{
    if (link->fd < 0 || link->out.len == 0) {
        return;
    }
    ssize_t n = send_some(link, link->out.data, link->out.len);
    if (n > 0) {
        link->out.len -= (size_t)n;
        memmove(link->out.data, link->out.data + n, link->out.len);
    }
    if (link->out.len == 0 && link->out.cap > BUFFER_KEEP) {
        pgqrs_buf_fini(&link->out);
    }
}

void pgqrs_job_wire_send(struct pgqrs_job_link *link, const struct pgqrs_unsettled *outcome)
{
    size_t done = 0;
    if (link->fd < 0) {
        return; /* it goes with the next hello */
    }
    if (link->out.len == 0) {
        ssize_t n = send_some(link, outcome->frame, outcome->frame_len);
        if (n < 0) {
            return;
        }
        done = (size_t)n;
    }
    pgqrs_buf_put(&link->out, outcome->frame + done, outcome->frame_len - done);
    if (link->out.failed) {
        write_failed(link);
    }
}

void pgqrs_job_wire_give_back(struct pgqrs_job_link *link)
{
    const struct pgqrs_unsettled *outcome;
    while ((outcome = pgqrs_held_return_next(&link->held)) != NULL) {
        pgqrs_job_wire_send(link, outcome);
    }
}

void pgqrs_job_wire_refuse_more(struct pgqrs_job_link *link)
{
    if (link->fd >= 0) {
        pgqrs_encode_job_capacity(&link->out, 0);
        pgqrs_job_wire_flush(link);
    }
}

static void on_welcome(struct pgqrs_job_link *link)
{
    if (link->was_welcomed) {
        pgqrs_log_info("broker: connected again held=%zu unsettled=%zu",
                       link->held.waiting_count + (link->held.running != NULL),
                       link->held.unsettled_count);
    }
    link->welcomed = link->was_welcomed = true;
    link->outage_told = false;
    link->pause_ms = 0;
}

static int on_leases(struct pgqrs_job_link *link, const struct pgqrs_frame *frame,
                     struct pgqrs_error *err)
{
    struct pgqrs_job_list list = pgqrs_job_list_of(frame);
    struct pgqrs_job_lease lease;
    int got;
    while ((got = pgqrs_next_job_lease(&list, &lease, err)) > 0) {
        if (pgqrs_held_add(&link->held, &lease, err) < 0) {
            return -1;
        }
    }
    return got;
}

static int on_settled(struct pgqrs_job_link *link, const struct pgqrs_frame *frame,
                      struct pgqrs_error *err)
{
    struct pgqrs_job_list list = pgqrs_job_list_of(frame);
    struct pgqrs_job_settled settled;
    int got;
    while ((got = pgqrs_next_job_settled(&list, &settled, err)) > 0) {
        if (settled.verdict == PGQRS_VERDICT_REFUSED) {
            pgqrs_log_warn("job %lld: outcome refused, the lease was lost attempt=%u",
                           (long long)settled.key.id, settled.key.attempt);
        }
        pgqrs_held_settle(&link->held, settled.key);
    }
    return got;
}

/* Who asked decodes it. */
static int on_flowed(struct pgqrs_job_link *link, const struct pgqrs_frame *frame,
                     struct pgqrs_error *err)
{
    struct pgqrs_reader r = pgqrs_reader_of(frame->body, frame->len);
    struct pgqrs_job_key key = {.id = (int64_t)pgqrs_read_u64(&r)};
    key.attempt = pgqrs_read_u32(&r);
    key.crashes = pgqrs_read_u32(&r);
    uint32_t seq = pgqrs_read_u32(&r);
    if (!pgqrs_held_answered(&link->held, key, seq)) {
        return 0; /* twice, since it was asked again */
    }
    pgqrs_buf_clear(&link->answer);
    pgqrs_buf_put(&link->answer, frame->body, frame->len);
    link->answered = seq;
    return link->answer.failed ? pgqrs_error_memory(err) : 0;
}

static int on_refuse(struct pgqrs_job_link *link, const struct pgqrs_frame *frame,
                     struct pgqrs_error *err)
{
    const char *why;
    if (pgqrs_decode_refuse(frame, &why, err) < 0) {
        return -1;
    }
    link->refused = true;
    (void)pgqrs_error_set(&link->refusal, PGQRS_ERR_FAILED, "refused by the broker: %s", why);
    return 0;
}

static int on_frame(struct pgqrs_job_link *link, const struct pgqrs_frame *frame,
                    struct pgqrs_error *err)
{
    int64_t worker_id;
    if (frame->type == PGQRS_MSG_REFUSE) {
        return on_refuse(link, frame, err);
    }
    if (frame->type == PGQRS_MSG_JOB_WELCOME) {
        on_welcome(link);
        return pgqrs_decode_job_welcome(frame, &worker_id, err);
    }
    if (frame->type == PGQRS_MSG_JOB_LEASES) {
        return on_leases(link, frame, err);
    }
    if (frame->type == PGQRS_MSG_JOB_FLOWED) {
        return on_flowed(link, frame, err);
    }
    return on_settled(link, frame, err); /* the table lets nothing else through */
}

static void parse(struct pgqrs_job_link *link)
{
    struct pgqrs_error err;
    struct pgqrs_frame frame;
    size_t at = 0;
    for (;;) {
        size_t used = 0;
        int got = pgqrs_msg_parse(link->in.data + at, link->in.len - at, PGQRS_ROLE_BROKER,
                                  PGQRS_ROLE_WORKER, &frame, &used, &err);
        if (got == 0) {
            break;
        }
        if (got < 0 || on_frame(link, &frame, &err) < 0) {
            /* To dial again would only bring the same again: this process ends, for all to see. */
            link->refused = true;
            (void)pgqrs_error_set(&link->refusal, PGQRS_ERR_PROTOCOL, "the broker: %s", err.text);
            return;
        }
        at += used;
    }
    link->in.len -= at;
    if (at > 0 && link->in.len > 0) {
        memmove(link->in.data, link->in.data + at, link->in.len);
    }
    if (link->in.len == 0 && link->in.cap > BUFFER_KEEP) {
        pgqrs_buf_fini(&link->in);
    }
}

bool pgqrs_job_wire_receive(struct pgqrs_job_link *link)
{
    uint8_t *to = pgqrs_buf_reserve(&link->in, READ_SIZE);
    if (to == NULL) {
        disconnect(link, "out of memory for a message");
        return true;
    }
    ssize_t n = recv(link->fd, to, link->in.cap - link->in.len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    if (n <= 0) {
        disconnect(link, n == 0 ? "connection closed" : strerror(errno));
        return true;
    }
    link->in.len += (size_t)n;
    parse(link);
    return true;
}
