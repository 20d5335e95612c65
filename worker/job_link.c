/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/job_link_priv.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

int pgqrs_job_link_create(const struct pgqrs_job_link_setup *setup,
                          struct pgqrs_job_link **link_out, struct pgqrs_error *err)
{
    struct pgqrs_job_link *link = calloc(1, sizeof *link);
    if (link == NULL) {
        return pgqrs_error_memory(err);
    }
    size_t len = strlen(setup->socket_path);
    if (len >= sizeof link->address.sun_path) {
        free(link);
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "job socket %s: found %zu bytes, expected "
                               "a path of %zu or fewer",
                               setup->socket_path, len, sizeof link->address.sun_path - 1);
    }
    link->drain_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (link->drain_fd < 0) {
        free(link);
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "eventfd");
    }
    link->address.sun_family = AF_UNIX;
    memcpy(link->address.sun_path, setup->socket_path, len + 1);
    link->generation = setup->generation;
    memcpy(link->token, setup->token, sizeof link->token);
    link->prefetch = setup->prefetch;
    link->wake_fd = setup->wake_fd;
    link->fd = -1;
    pgqrs_held_init(&link->held);
    (void)pthread_mutex_init(&link->mutex, NULL); /* these two can not fail on Linux */
    (void)pthread_cond_init(&link->changed, NULL);
    *link_out = link;
    return 0;
}

void pgqrs_job_link_set_workflow(struct pgqrs_job_link *link)
{
    link->workflow = true;
}

void pgqrs_job_link_destroy(struct pgqrs_job_link **link_ptr)
{
    struct pgqrs_job_link *link = *link_ptr;
    if (link == NULL) {
        return;
    }
    *link_ptr = NULL;
    if (link->fd >= 0) {
        (void)close(link->fd);
    }
    (void)close(link->drain_fd);
    pgqrs_held_fini(&link->held);
    pgqrs_buf_fini(&link->in);
    pgqrs_buf_fini(&link->answer);
    pgqrs_buf_fini(&link->out);
    (void)pthread_cond_destroy(&link->changed);
    (void)pthread_mutex_destroy(&link->mutex);
    free(link);
}

static void lock(struct pgqrs_job_link *link)
{
    (void)pthread_mutex_lock(&link->mutex);
}

static void unlock(struct pgqrs_job_link *link)
{
    (void)pthread_mutex_unlock(&link->mutex);
}

static void notify(int fd)
{
    const uint64_t one = 1;
    (void)!write(fd, &one, sizeof one); /* can fail only when it is readable already */
}

static short wanted_events(const struct pgqrs_job_link *link)
{
    return link->out.len > 0 ? POLLIN | POLLOUT : POLLIN;
}

static int64_t connect_wait(const struct pgqrs_job_link *link)
{
    int64_t wait = link->connect_at_ms - pgqrs_mono_ms();
    return wait < 0 ? 0 : wait;
}

/* ---- main thread ---- */

/* Sleeps until the connection can be read or written, or made, or a drain begins. */
static void wait_for_broker(struct pgqrs_job_link *link)
{
    struct pollfd fds[] = {{.fd = link->drain_fd, .events = POLLIN},
                           {.fd = link->fd, .events = wanted_events(link)}};
    int timeout = link->fd < 0 ? (int)connect_wait(link) : -1;
    link->main_polls = true;
    unlock(link);
    (void)poll(fds, 2, timeout); /* the caller looks at everything again, whatever woke it */
    lock(link);
    link->main_polls = false;
    if (link->draining) {
        (void)pthread_cond_broadcast(&link->changed);
    } else {
        pgqrs_job_wire_flush(link);
    }
}

static int refused(const struct pgqrs_job_link *link, struct pgqrs_error *err)
{
    *err = link->refusal;
    return -1;
}

int pgqrs_job_link_open(struct pgqrs_job_link *link, struct pgqrs_error *err)
{
    int rc;
    lock(link);
    for (;;) {
        if (link->refused) {
            rc = refused(link, err);
            break;
        }
        if (link->draining || link->welcomed) {
            rc = link->draining ? 0 : 1;
            break;
        }
        pgqrs_job_wire_connect(link);
        if (link->fd < 0 || !pgqrs_job_wire_receive(link)) {
            wait_for_broker(link);
        }
    }
    unlock(link);
    return rc;
}

int pgqrs_job_link_next(struct pgqrs_job_link *link, const struct worker_lease **lease_out,
                        struct pgqrs_error *err)
{
    int rc;
    lock(link);
    for (;;) {
        if (link->refused) {
            rc = refused(link, err);
            break;
        }
        if (link->draining) {
            rc = 0;
            break;
        }
        pgqrs_job_wire_connect(link);
        /* While the broker does not take our outcomes, or is away, nothing new is begun. */
        bool ready = link->fd >= 0 && link->out.len == 0;
        const struct worker_lease *lease = ready ? pgqrs_held_run_next(&link->held) : NULL;
        if (lease != NULL) {
            *lease_out = lease;
            rc = 1;
            break;
        }
        if (link->fd < 0 || !pgqrs_job_wire_receive(link)) {
            wait_for_broker(link);
        }
    }
    unlock(link);
    return rc;
}

/* What is left of it is sent as the socket takes it, by whoever reads and writes. */
static void send_now(struct pgqrs_job_link *link, const struct pgqrs_unsettled *outcome)
{
    pgqrs_job_wire_send(link, outcome);
    if (link->draining) {
        notify(link->wake_fd);
    }
}

int pgqrs_job_link_ask(struct pgqrs_job_link *link, struct pgqrs_job_key key, uint32_t seq,
                       const struct pgqrs_buf *frame, const struct pgqrs_buf **answer_out,
                       struct pgqrs_error *err)
{
    lock(link);
    const struct pgqrs_unsettled *ask = pgqrs_held_frame(&link->held, key, seq, frame);
    if (ask != NULL) {
        send_now(link, ask);
    }
    while (ask != NULL && !link->refused && link->answered != seq) {
        if (link->draining) { /* the control thread reads */
            (void)pthread_cond_wait(&link->changed, &link->mutex);
            continue;
        }
        pgqrs_job_wire_connect(link);
        if (link->fd < 0 || !pgqrs_job_wire_receive(link)) {
            wait_for_broker(link);
        }
    }
    int rc = ask == NULL ? pgqrs_error_memory(err) : link->refused ? refused(link, err) : 0;
    *answer_out = &link->answer;
    unlock(link);
    return rc;
}

int pgqrs_job_link_finish(struct pgqrs_job_link *link, const struct pgqrs_job_result *result,
                          const struct pgqrs_buf *frame, struct pgqrs_error *err)
{
    lock(link);
    const struct pgqrs_unsettled *outcome =
        frame == NULL ? pgqrs_held_outcome(&link->held, result)
                      : pgqrs_held_frame(&link->held, result->key, 0, frame);
    pgqrs_held_run_ended(&link->held);
    if (outcome != NULL) {
        link->sent++;
        send_now(link, outcome);
    }
    unlock(link);
    return outcome != NULL ? 0 : pgqrs_error_memory(err);
}

int pgqrs_job_link_settle_all(struct pgqrs_job_link *link, struct pgqrs_error *err)
{
    lock(link);
    while (!link->refused && (link->held.unsettled_count > 0 || link->held.waiting_count > 0)) {
        (void)pthread_cond_wait(&link->changed, &link->mutex);
    }
    int rc = link->refused ? refused(link, err) : 0;
    unlock(link);
    return rc;
}

/* ---- control thread ---- */

static bool needs_broker(const struct pgqrs_job_link *link)
{
    return link->held.running != NULL || link->held.waiting_count > 0 ||
           link->held.unsettled_count > 0;
}

void pgqrs_job_link_drain(struct pgqrs_job_link *link)
{
    lock(link);
    if (!link->draining) {
        link->draining = true;
        notify(link->drain_fd);
        while (link->main_polls) { /* for microseconds: it has just been woken */
            (void)pthread_cond_wait(&link->changed, &link->mutex);
        }
        pgqrs_job_wire_refuse_more(link);
    }
    unlock(link);
    pgqrs_job_link_serve(link);
}

int pgqrs_job_link_poll_fd(struct pgqrs_job_link *link, short *events_out, int64_t *wait_ms_out)
{
    int fd = -1;
    lock(link);
    *events_out = 0;
    *wait_ms_out = -1;
    if (link->draining && !link->refused) {
        fd = link->fd;
        *events_out = wanted_events(link);
        *wait_ms_out = fd < 0 && needs_broker(link) ? connect_wait(link) : -1;
    }
    unlock(link);
    return fd;
}

void pgqrs_job_link_serve(struct pgqrs_job_link *link)
{
    lock(link);
    if (link->draining && !link->refused) {
        if (needs_broker(link)) {
            pgqrs_job_wire_connect(link);
        }
        pgqrs_job_wire_flush(link);
        while (link->fd >= 0 && pgqrs_job_wire_receive(link)) {
        }
        pgqrs_job_wire_give_back(link);
        (void)pthread_cond_broadcast(&link->changed);
    }
    unlock(link);
}

bool pgqrs_job_link_give_back(struct pgqrs_job_link *link, const struct pgqrs_job_key *key)
{
    const struct pgqrs_unsettled *outcome;
    bool any = false;
    lock(link);
    if (!link->draining && !link->refused && !link->main_polls) {
        while (link->fd >= 0 && pgqrs_job_wire_receive(link)) {
            /* What it is about may still be in the socket. */
        }
        if (key == NULL) {
            any = link->held.waiting_count > 0;
            pgqrs_job_wire_give_back(link);
        } else if ((outcome = pgqrs_held_return_key(&link->held, *key)) != NULL) {
            any = true;
            pgqrs_job_wire_send(link, outcome);
        }
    }
    unlock(link);
    return any;
}

void pgqrs_job_link_check(struct pgqrs_job_link *link)
{
    lock(link);
    if (!link->draining && !link->main_polls && link->held.running != NULL) {
        struct pollfd p = {.fd = link->fd, .events = 0}; /* asks only for errors and the end */
        if (link->fd >= 0 && poll(&p, 1, 0) > 0) {
            while (link->fd >= 0 && pgqrs_job_wire_receive(link)) {
            }
        }
        pgqrs_job_wire_connect(link);
    }
    unlock(link);
}

void pgqrs_job_link_counts(struct pgqrs_job_link *link, uint32_t *held_out, uint64_t *sent_out)
{
    lock(link);
    *held_out = (uint32_t)link->held.waiting_count + (link->held.running != NULL);
    *sent_out = link->sent;
    unlock(link);
}
