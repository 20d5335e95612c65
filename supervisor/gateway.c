/* SPDX-License-Identifier: Apache-2.0 */
/* The process that answers HTTP. Its socket is ours, so that it outlives it. */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/address.h"
#include "base/log.h"

#define HTTP_BACKLOG 64

int pgqrs_gateway_listen(struct supervisor *s, struct pgqrs_error *err)
{
    struct pgqrs_address address;
    char shown[PGQRS_ADDRESS_TEXT];
    if (s->config->http_listen == NULL) {
        return 0;
    }
    if (pgqrs_address_parse(s->config->http_listen, &address) < 0) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "http.listen: found \"%.60s\", expected %s",
                               s->config->http_listen, PGQRS_EXPECTED_ADDRESS);
    }
    int fd = pgqrs_address_listen(&address, HTTP_BACKLOG, err);
    if (fd < 0) {
        return pgqrs_error_prefix(err, "http.listen");
    }
    s->http_fd = fcntl(fd, F_DUPFD_CLOEXEC, PGQRS_FD_ABOVE);
    int saved_errno = errno;
    (void)close(fd);
    if (s->http_fd < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, saved_errno, "http.listen");
    }
    pgqrs_address_format(&address, shown);
    pgqrs_log_info("gateway: listening at http://%s", shown);
    return 0;
}

void pgqrs_gateway_welcome(struct child *child)
{
    const struct supervisor *s = child->place->s;
    char ctl_socket[sizeof s->runtime.path + 8];
    struct pgqrs_buf out = {0};
    (void)snprintf(ctl_socket, sizeof ctl_socket, "%s/ctl", s->runtime.path);
    pgqrs_encode_gateway_welcome(&out, &(struct pgqrs_gateway_welcome){
                                           .job_socket = s->job_socket,
                                           .ctl_socket = ctl_socket,
                                           .heartbeat_ms = s->config->heartbeat_interval_ms,
                                           .heartbeat_timeout_ms = s->config->heartbeat_timeout_ms,
                                       });
    pgqrs_child_post(child, &out);
}

void pgqrs_gateway_tell(struct supervisor *s)
{
    if (s->gateway.child != NULL && s->gateway.child->state >= CHILD_WELCOMED) {
        pgqrs_child_post_empty(s->gateway.child, PGQRS_MSG_GATEWAY_LOOK);
    }
}

bool pgqrs_gateway_stop(struct supervisor *s)
{
    if (s->gateway.restart_timer != NULL) {
        (void)evtimer_del(s->gateway.restart_timer);
    }
    if (s->gateway.child == NULL) {
        return false;
    }
    pgqrs_child_drain(s->gateway.child);
    return true;
}
