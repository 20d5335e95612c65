/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control thread: beats, drain, cancel, and the end of the supervisor. It never runs plugin
 * code and never waits for the main thread, so it answers while a handler is busy or stuck.
 */
#include "worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define RECEIVE_AT_ONCE 16

struct pgqrs_control_thread {
    struct pgqrs_worker *worker;
    pthread_t thread;
    atomic_bool announce, stop; /* set by the main thread, which then writes wake_fd */
    bool draining;
    int64_t beat_at_ms;
};

/* For the signal handler, which may run on either thread: lock-free atomics. */
static atomic_int terminate;
static atomic_int terminate_fd = -1;

static void wake(int fd)
{
    const uint64_t one = 1;
    (void)!write(fd, &one, sizeof one); /* can fail only when it is readable already */
}

static void on_terminate(int signal)
{
    (void)signal;
    int saved_errno = errno;
    atomic_store(&terminate, 1);
    wake(atomic_load(&terminate_fd));
    errno = saved_errno;
}

static void on_ignored(int signal)
{
    (void)signal;
}

/* Handlers rather than SIG_IGN: a program that the plugin starts has the default again. */
static void set_signals(int wake_fd)
{
    struct sigaction action = {.sa_flags = SA_RESTART};
    (void)sigemptyset(&action.sa_mask);
    atomic_store(&terminate_fd, wake_fd);
    action.sa_handler = on_terminate;
    (void)sigaction(SIGTERM, &action, NULL); /* these can not fail: the numbers are right */
    action.sa_handler = on_ignored;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    (void)sigaction(SIGPIPE, &action, NULL);
}

static void begin_drain(struct pgqrs_control_thread *t, const char *why)
{
    if (!t->draining) {
        t->draining = true;
        pgqrs_log_debug("draining: %s", why);
        pgqrs_job_link_drain(t->worker->link);
    }
}

static void on_cancel(struct pgqrs_control_thread *t, const struct pgqrs_frame *frame)
{
    struct pgqrs_error err;
    int64_t job_id;
    if (pgqrs_decode_worker_cancel(frame, &job_id, &err) < 0) {
        pgqrs_log_error("control channel: %s", err.text);
        return;
    }
    pgqrs_host_cancel(t->worker->host, job_id);
}

/* What did not reach it, because it was on its way somewhere, comes again. */
static void on_order(struct pgqrs_control_thread *t, const struct pgqrs_frame *frame)
{
    struct pgqrs_error err;
    struct pgqrs_order m;
    if (pgqrs_decode_order(frame, &m, &err) < 0) {
        pgqrs_log_error("control channel: %s", err.text);
        return;
    }
    if (m.kind == PGQRS_ORDER_CANCEL) {
        if (!pgqrs_job_link_give_back(t->worker->link, &m.key)) {
            pgqrs_host_stop(t->worker->host, &m.key, PGQRS_CANCEL_REQUEST);
        }
        return;
    }
    (void)pgqrs_job_link_give_back(t->worker->link, NULL);
    if (m.kind == PGQRS_ORDER_INTERRUPT) {
        pgqrs_host_stop(t->worker->host, NULL, PGQRS_CANCEL_INTERRUPT);
    }
}

static void on_log_level(const struct pgqrs_frame *frame)
{
    struct pgqrs_error err;
    if (pgqrs_child_on_log_level(frame, &err) < 0) {
        pgqrs_log_error("control channel: %s", err.text);
    }
}

static void on_control(struct pgqrs_control_thread *t)
{
    for (int i = 0; i < RECEIVE_AT_ONCE; i++) {
        struct pgqrs_frame frame;
        struct pgqrs_error err;
        int got = pgqrs_control_recv(t->worker->child.control, PGQRS_ROLE_SUPERVISOR,
                                     PGQRS_ROLE_WORKER, &frame, &err);
        if (got == 0) {
            return;
        }
        if (got < 0) {
            pgqrs_log_error("%s, ending at once", err.text);
            pgqrs_child_last_words(&t->worker->child, err.text);
            _exit(PGQRS_EXIT_FAILURE);
        }
        if (frame.type == PGQRS_MSG_CHILD_DRAIN) {
            begin_drain(t, "pgqrsd says so");
        } else if (frame.type == PGQRS_MSG_WORKER_CANCEL) {
            on_cancel(t, &frame);
        } else if (frame.type == PGQRS_MSG_WORKER_ORDER) {
            on_order(t, &frame);
        } else if (frame.type == PGQRS_MSG_LOG_LEVEL) {
            on_log_level(&frame);
        } else {
            pgqrs_log_warn("control channel: unexpected message %s ignored",
                           pgqrs_msg_descs[frame.type].name);
        }
    }
}

static void on_wake(struct pgqrs_control_thread *t)
{
    uint64_t count;
    (void)!read(t->worker->wake_fd, &count, sizeof count); /* what it means is in the flags */
    if (atomic_exchange(&t->announce, false)) {
        pgqrs_child_send_empty(&t->worker->child, PGQRS_MSG_CHILD_READY);
    }
    if (atomic_load(&terminate)) {
        begin_drain(t, "SIGTERM");
    }
}

static void beat_when_due(struct pgqrs_control_thread *t)
{
    int64_t now = pgqrs_mono_ms();
    if (now < t->beat_at_ms) {
        return;
    }
    struct pgqrs_child_beat beat = {0};
    beat.job_id = pgqrs_host_running(t->worker->host, &beat.job_ms);
    pgqrs_job_link_counts(t->worker->link, &beat.held, &beat.settled);
    pgqrs_child_send_beat(&t->worker->child, &beat);
    pgqrs_job_link_check(t->worker->link);
    t->beat_at_ms = now + t->worker->heartbeat_ms;
}

/* Returns when to look again, in ms; -1: no time is running. */
static int64_t check_limit(struct pgqrs_control_thread *t)
{
    char text[200];
    int64_t wait_ms;
    if (pgqrs_host_check_limit(t->worker->host, t->beat_at_ms, &wait_ms, text, sizeof text)) {
        pgqrs_child_last_words(&t->worker->child, text);
        _exit(PGQRS_EXIT_TIMEOUT);
    }
    return wait_ms;
}

static int poll_timeout(const struct pgqrs_control_thread *t, int64_t link_wait_ms,
                        int64_t limit_wait_ms)
{
    int64_t wait = t->beat_at_ms - pgqrs_mono_ms();
    if (link_wait_ms >= 0 && link_wait_ms < wait) {
        wait = link_wait_ms;
    }
    if (limit_wait_ms >= 0 && limit_wait_ms < wait) {
        wait = limit_wait_ms;
    }
    return wait < 0 ? 0 : wait > 60000 ? 60000 : (int)wait;
}

static void *control_main(void *arg)
{
    struct pgqrs_control_thread *t = arg;
    struct pgqrs_worker *worker = t->worker;
    while (!atomic_load(&t->stop)) {
        struct pollfd fds[] = {
            {.fd = worker->child.lifeline, .events = POLLIN},
            {.fd = pgqrs_control_fd(worker->child.control), .events = POLLIN},
            {.fd = worker->wake_fd, .events = POLLIN},
            {.fd = -1},
        };
        int64_t link_wait_ms;
        fds[3].fd = pgqrs_job_link_poll_fd(worker->link, &fds[3].events, &link_wait_ms);
        if (poll(fds, 4, poll_timeout(t, link_wait_ms, check_limit(t))) < 0) {
            continue; /* interrupted; a wrong argument is our bug and would show as a busy loop */
        }
        if (fds[0].revents != 0) {
            _exit(PGQRS_EXIT_FAILURE); /* the supervisor is gone: nothing may outlive it */
        }
        if (fds[1].revents != 0) {
            on_control(t);
        }
        if (fds[2].revents != 0) {
            on_wake(t);
        }
        pgqrs_job_link_serve(worker->link);
        beat_when_due(t);
    }
    return NULL;
}

int pgqrs_control_thread_start(struct pgqrs_worker *worker, struct pgqrs_error *err)
{
    struct pgqrs_control_thread *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return pgqrs_error_memory(err);
    }
    t->worker = worker;
    t->beat_at_ms = pgqrs_mono_ms() + worker->heartbeat_ms;
    set_signals(worker->wake_fd);
    /* Signals go to the main thread; this one inherits a mask that blocks them all. */
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&t->thread, NULL, control_main, t);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0) {
        free(t);
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, code, "control thread");
    }
    worker->control = t;
    return 0;
}

void pgqrs_control_thread_announce(struct pgqrs_worker *worker)
{
    atomic_store(&worker->control->announce, true);
    wake(worker->wake_fd);
}

void pgqrs_control_thread_stop(struct pgqrs_worker *worker)
{
    struct pgqrs_control_thread *t = worker->control;
    if (t == NULL) {
        return;
    }
    worker->control = NULL;
    atomic_store(&t->stop, true);
    wake(worker->wake_fd);
    (void)pthread_join(t->thread, NULL); /* it is joinable, and nobody else joins it */
    free(t);
}
