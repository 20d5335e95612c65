/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_SUPPORT_WORKER_RIG_H
#define PGQRS_TESTS_SUPPORT_WORKER_RIG_H

/*
 * One real pgqrs-worker between a scripted supervisor and a scripted broker. Every wait has a
 * deadline and fails the test when it passes.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "ipc/child.h"
#include "ipc/msg.h"

#define RIG_GENERATION 7

struct rig {
    char dir[64];
    char trace[96]; /* the file that tests/handlers/effect.c writes to */
    char token[PGQRS_TOKEN_SIZE];
    pid_t pid; /* 0: none, or it was waited for */
    struct pgqrs_control *control;
    int lifeline, listen_fd;
    int broker_fd; /* -1: not connected */
    struct pgqrs_buf in;
    size_t in_used;               /* of the frame that was handed out last */
    struct pgqrs_child_beat beat; /* the last one that came */
    unsigned beats;
};

/* cmocka setup and teardown; the teardown kills a worker that is still there. */
int rig_setup(void **state);
int rig_teardown(void **state);

/* Starts a worker on tests/handlers/PLUGIN.so, or on the path when there is a slash in it, answers
 * its hello, and leaves the rest to the caller. */
void rig_start(struct rig *rig, const char *plugin, uint32_t prefetch);
/* As above, up to READY: the broker is connected and has said welcome. */
void rig_start_ready(struct rig *rig, const char *plugin, uint32_t prefetch);

/* ---- supervisor ---- */

/* Skips beats, counting them. */
void rig_await_control(struct rig *rig, enum pgqrs_msg_type type);
void rig_await_beats(struct rig *rig, unsigned count);
void rig_drain(struct rig *rig);
void rig_cancel(struct rig *rig, int64_t job_id);
/* Waits for the end: the exit status, or 128 + signal. */
int rig_wait(struct rig *rig);
bool rig_runs(const struct rig *rig);
/* What the worker wrote to the lifeline before it ended; empty when nothing. */
void rig_last_words(struct rig *rig, char *out, size_t size);

/* ---- broker ---- */

void rig_accept(struct rig *rig);
void rig_disconnect(struct rig *rig);
/* Takes the listening socket away, and gives it back. */
void rig_unlisten(struct rig *rig);
void rig_listen(struct rig *rig);
/* The next frame must be of this type; valid until the next call. */
struct pgqrs_frame rig_expect(struct rig *rig, enum pgqrs_msg_type type);
/* Accepts, and checks the hello; the keys are compared with ids, all of attempt 1. */
void rig_expect_hello(struct rig *rig, uint32_t capacity, const int64_t *ids, size_t count);
void rig_welcome(struct rig *rig);
void rig_lease(struct rig *rig, int64_t id, const char *payload);
void rig_send(struct rig *rig, struct pgqrs_buf *frames); /* frees */
/* The next frame must be one outcome of this job; *out is valid until the next call, without
 * enqueues. */
void rig_expect_result(struct rig *rig, int64_t id, enum pgqrs_job_outcome outcome,
                       struct pgqrs_job_result *out);
void rig_settle(struct rig *rig, int64_t id, enum pgqrs_verdict verdict);

/* ---- helpers ---- */

void rig_await_readable(int fd, const char *what);

/* The path of a built file below the build directory ($PGQRS_TEST_BUILD). Static storage. */
const char *rig_built(const char *relative);
/* Waits until the trace file holds the text. */
void rig_await_trace(const struct rig *rig, const char *text);
/* The trace file, terminated; free it. */
char *rig_read_trace(const struct rig *rig);

#endif
