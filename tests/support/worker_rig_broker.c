/* SPDX-License-Identifier: Apache-2.0 */
/* The scripted broker of a rig. */
#include "tests/support/worker_rig.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static struct sockaddr_un job_address(const struct rig *rig)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/jobs", rig->dir);
    return address;
}

void rig_listen(struct rig *rig)
{
    struct sockaddr_un address = job_address(rig);
    rig->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(rig->listen_fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(rig->listen_fd, 8), 0);
}

void rig_unlisten(struct rig *rig)
{
    struct sockaddr_un address = job_address(rig);
    assert_int_equal(unlink(address.sun_path), 0);
    (void)close(rig->listen_fd);
    rig->listen_fd = -1;
}

void rig_accept(struct rig *rig)
{
    rig_disconnect(rig);
    rig_await_readable(rig->listen_fd, "a connection");
    rig->broker_fd = accept4(rig->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(rig->broker_fd >= 0);
}

void rig_disconnect(struct rig *rig)
{
    if (rig->broker_fd >= 0) {
        (void)close(rig->broker_fd);
        rig->broker_fd = -1;
    }
    pgqrs_buf_clear(&rig->in);
    rig->in_used = 0;
}

struct pgqrs_frame rig_expect(struct rig *rig, enum pgqrs_msg_type type)
{
    struct pgqrs_frame frame;
    struct pgqrs_error err;
    if (rig->in_used > 0) {
        rig->in.len -= rig->in_used;
        memmove(rig->in.data, rig->in.data + rig->in_used, rig->in.len);
        rig->in_used = 0;
    }
    for (;;) {
        int got = pgqrs_msg_parse(rig->in.data, rig->in.len, PGQRS_ROLE_WORKER, PGQRS_ROLE_BROKER,
                                  &frame, &rig->in_used, &err);
        if (got < 0) {
            fail_msg("%s", err.text);
        }
        if (got > 0) {
            break;
        }
        uint8_t *to = pgqrs_buf_reserve(&rig->in, 65536);
        rig_await_readable(rig->broker_fd, pgqrs_msg_descs[type].name);
        ssize_t n = recv(rig->broker_fd, to, 65536, 0);
        if (n <= 0) {
            fail_msg("the worker's connection ended, expected %s", pgqrs_msg_descs[type].name);
        }
        rig->in.len += (size_t)n;
    }
    if (frame.type != type) {
        fail_msg("found message %s, expected %s", pgqrs_msg_descs[frame.type].name,
                 pgqrs_msg_descs[type].name);
    }
    return frame;
}

void rig_expect_hello(struct rig *rig, uint32_t capacity, const int64_t *ids, size_t count)
{
    rig_accept(rig);
    struct pgqrs_job_hello hello;
    struct pgqrs_error err;
    struct pgqrs_frame frame = rig_expect(rig, PGQRS_MSG_JOB_HELLO);
    assert_int_equal(pgqrs_decode_job_hello(&frame, &hello, &err), 0);
    assert_int_equal(hello.major, PGQRS_IPC_MAJOR);
    assert_int_equal(hello.generation, RIG_GENERATION);
    assert_memory_equal(hello.token, rig->token, PGQRS_TOKEN_SIZE);
    assert_int_equal(hello.capacity, capacity);
    assert_int_equal(hello.held_count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(hello.held[i].id, ids[i]);
        assert_int_equal(hello.held[i].attempt, 1);
    }
    pgqrs_job_hello_fini(&hello);
}

void rig_send(struct rig *rig, struct pgqrs_buf *frames)
{
    assert_int_equal(send(rig->broker_fd, frames->data, frames->len, MSG_NOSIGNAL), frames->len);
    pgqrs_buf_fini(frames);
}

void rig_welcome(struct rig *rig)
{
    struct pgqrs_buf out = {0};
    pgqrs_encode_job_welcome(&out, 1);
    rig_send(rig, &out);
}

void rig_lease(struct rig *rig, int64_t id, const char *payload)
{
    struct pgqrs_buf out = {0};
    size_t start = pgqrs_job_list_begin(&out, PGQRS_MSG_JOB_LEASES);
    pgqrs_encode_job_lease(&out, &(struct pgqrs_job_lease){.key = {id, 1, 0},
                                                           .enqueued_at_us = 1,
                                                           .payload = pgqrs_bytes_from(payload)});
    pgqrs_job_list_end(&out, start, 1);
    rig_send(rig, &out);
}

void rig_expect_result(struct rig *rig, int64_t id, enum pgqrs_job_outcome outcome,
                       struct pgqrs_job_result *out)
{
    struct pgqrs_error err;
    struct pgqrs_job_result result, none;
    struct pgqrs_frame frame = rig_expect(rig, PGQRS_MSG_JOB_RESULTS);
    struct pgqrs_job_list list = pgqrs_job_list_of(&frame);
    assert_int_equal(pgqrs_next_job_result(&list, &result, &err), 1);
    assert_int_equal(pgqrs_next_job_result(&list, &none, &err), 0);
    pgqrs_job_result_fini(&result);
    if (result.key.id != id || result.outcome != outcome) {
        fail_msg("found outcome %d of job %" PRId64 " (%s), expected outcome %d of job %" PRId64,
                 (int)result.outcome, result.key.id, result.error.data, (int)outcome, id);
    }
    assert_int_equal(result.key.attempt, 1);
    if (out != NULL) {
        *out = result;
    }
}

void rig_settle(struct rig *rig, int64_t id, enum pgqrs_verdict verdict)
{
    struct pgqrs_buf out = {0};
    size_t start = pgqrs_job_list_begin(&out, PGQRS_MSG_JOB_SETTLED);
    pgqrs_encode_job_settled(
        &out, &(struct pgqrs_job_settled){.key = {.id = id, .attempt = 1}, .verdict = verdict});
    pgqrs_job_list_end(&out, start, 1);
    rig_send(rig, &out);
}
