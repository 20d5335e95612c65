/* SPDX-License-Identifier: Apache-2.0 */
/* pgqrs-gateway: health and metrics over HTTP. Started by pgqrsd; see pgqrs-gateway(8). */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/process.h"
#include "gateway/gateway.h"

static void on_control(evutil_socket_t fd, short what, void *arg)
{
    struct gateway *g = arg;
    struct pgqrs_frame frame;
    struct pgqrs_error err;
    int got;
    (void)fd;
    (void)what;
    while ((got = pgqrs_control_recv(g->child->control, PGQRS_ROLE_SUPERVISOR, PGQRS_ROLE_GATEWAY,
                                     &frame, &err)) > 0) {
        if (frame.type == PGQRS_MSG_CHILD_DRAIN) {
            (void)event_base_loopbreak(g->base);
        } else if (frame.type == PGQRS_MSG_GATEWAY_LOOK) {
            pgqrs_gateway_status_soon(g);
        } else if (frame.type != PGQRS_MSG_LOG_LEVEL) {
            pgqrs_log_error("gateway: unexpected message %s", pgqrs_msg_descs[frame.type].name);
        } else if (pgqrs_child_on_log_level(&frame, &err) < 0) {
            pgqrs_log_error("gateway: message from pgqrsd: %s", err.text);
        }
    }
    if (got < 0) {
        pgqrs_log_error("gateway: message from pgqrsd: %s", err.text);
    }
}

static void on_lifeline(evutil_socket_t fd, short what, void *arg)
{
    struct gateway *g = arg;
    (void)fd;
    (void)what;
    g->exit_status = PGQRS_EXIT_FAILURE;
    (void)event_base_loopbreak(g->base);
}

static void on_beat(evutil_socket_t fd, short what, void *arg)
{
    struct gateway *g = arg;
    (void)fd;
    (void)what;
    pgqrs_child_send_beat(g->child, &(struct pgqrs_child_beat){0});
}

static int start_events(struct gateway *g, struct pgqrs_error *err)
{
    int64_t ms = g->welcome.heartbeat_ms;
    const struct timeval interval = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    g->control = event_new(g->base, pgqrs_control_fd(g->child->control), EV_READ | EV_PERSIST,
                           on_control, g);
    g->lifeline = event_new(g->base, g->child->lifeline, EV_READ, on_lifeline, g);
    g->beat = event_new(g->base, -1, EV_PERSIST, on_beat, g);
    return g->control == NULL || g->lifeline == NULL || g->beat == NULL ||
                   event_add(g->control, NULL) < 0 || event_add(g->lifeline, NULL) < 0 ||
                   evtimer_add(g->beat, &interval) < 0
               ? pgqrs_error_memory(err)
               : 0;
}

/* The welcome's texts last as long as its frame. */
static int take_welcome(struct gateway *g, const struct pgqrs_frame *frame, struct pgqrs_error *err)
{
    if (pgqrs_decode_gateway_welcome(frame, &g->welcome, err) < 0) {
        return -1;
    }
    g->welcome.job_socket = strdup(g->welcome.job_socket);
    g->welcome.ctl_socket = strdup(g->welcome.ctl_socket);
    return g->welcome.job_socket == NULL || g->welcome.ctl_socket == NULL ? pgqrs_error_memory(err)
                                                                          : 0;
}

static void gateway_fini(struct gateway *g)
{
    struct event *events[] = {g->control, g->lifeline, g->beat};
    if (!pgqrs_sampler_stop(&g->sampler)) {
        _exit(g->exit_status); /* it waits for an answer that nobody needs */
    }
    pgqrs_gateway_http_end(g);
    pgqrs_gateway_status_end(g);
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        if (events[i] != NULL) {
            event_free(events[i]);
        }
    }
    event_base_free(g->base);
    free((char *)(uintptr_t)g->welcome.job_socket);
    free((char *)(uintptr_t)g->welcome.ctl_socket);
}

static int run(struct pgqrs_child *child, const struct pgqrs_frame *welcome,
               struct pgqrs_error *err)
{
    struct gateway g = {.child = child, .base = event_base_new()};
    TAILQ_INIT(&g.requests);
    if (g.base == NULL) {
        return pgqrs_error_memory(err);
    }
    int rc = take_welcome(&g, welcome, err);
    if (rc < 0) {
        event_base_free(g.base);
        return -1;
    }
    if (start_events(&g, err) < 0 || pgqrs_gateway_status_start(&g, err) < 0 ||
        pgqrs_sampler_start(g.welcome.job_socket, &g.sampler, err) < 0 ||
        pgqrs_gateway_http_start(&g, err) < 0) {
        rc = -1;
    } else {
        pgqrs_child_send_empty(child, PGQRS_MSG_CHILD_READY);
        rc = event_base_dispatch(g.base) < 0
                 ? pgqrs_error_set(err, PGQRS_ERR_FAILED, "event loop failed")
                 : g.exit_status;
    }
    gateway_fini(&g);
    return rc;
}

int main(int argc, char **argv)
{
    struct pgqrs_child child;
    struct pgqrs_frame welcome;
    struct pgqrs_error err;
    (void)argv;
    if (argc > 1) {
        (void)fprintf(stderr, "pgqrs-gateway is started by pgqrsd, not by hand; see pgqrsd(8)\n");
        return PGQRS_EXIT_USAGE;
    }
    pgqrs_process_close_to_others();
    (void)signal(SIGPIPE, SIG_IGN); /* a closed peer is an error of write */
    int status = pgqrs_child_start("pgqrs-gateway", PGQRS_ROLE_GATEWAY, &child, &welcome, &err);
    if (status == 0) {
        status = run(&child, &welcome, &err);
    }
    if (status < 0) {
        pgqrs_child_last_words(&child, err.text);
        status = child.lifeline < 0 ? PGQRS_EXIT_USAGE : PGQRS_EXIT_FAILURE;
    }
    pgqrs_child_end(&child);
    return status;
}
