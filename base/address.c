/* SPDX-License-Identifier: Apache-2.0 */
#include "base/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/units.h"

static int set_v4(const char *host, in_port_t port, struct pgqrs_address *out)
{
    out->u.v4.sin_family = AF_INET;
    out->u.v4.sin_port = port;
    out->len = sizeof out->u.v4;
    return inet_pton(AF_INET, host, &out->u.v4.sin_addr) == 1 ? 0 : -1;
}

static int set_v6(const char *host, in_port_t port, struct pgqrs_address *out)
{
    out->u.v6.sin6_family = AF_INET6;
    out->u.v6.sin6_port = port;
    out->len = sizeof out->u.v6;
    return inet_pton(AF_INET6, host, &out->u.v6.sin6_addr) == 1 ? 0 : -1;
}

int pgqrs_address_parse(const char *text, struct pgqrs_address *out)
{
    char host[INET6_ADDRSTRLEN + 2] = "127.0.0.1";
    const char *colon = strrchr(text, ':');
    int64_t port;
    *out = (struct pgqrs_address){0};
    if (colon != NULL && (size_t)(colon - text) >= sizeof host) {
        return -1;
    }
    if (colon != NULL) {
        memcpy(host, text, (size_t)(colon - text));
        host[colon - text] = 0;
    }
    if (pgqrs_integer_parse(colon == NULL ? text : colon + 1, 0, 65535, &port, NULL) < 0) {
        return -1;
    }
    size_t len = strlen(host);
    if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = 0;
        return set_v6(host + 1, htons((uint16_t)port), out);
    }
    return set_v4(host, htons((uint16_t)port), out);
}

void pgqrs_address_format(const struct pgqrs_address *address, char out[PGQRS_ADDRESS_TEXT])
{
    char host[INET6_ADDRSTRLEN] = "?";
    bool v6 = address->u.any.sa_family == AF_INET6;
    const void *ip =
        v6 ? (const void *)&address->u.v6.sin6_addr : (const void *)&address->u.v4.sin_addr;
    in_port_t port = v6 ? address->u.v6.sin6_port : address->u.v4.sin_port;
    (void)inet_ntop(address->u.any.sa_family, ip, host, sizeof host);
    (void)snprintf(out, PGQRS_ADDRESS_TEXT, v6 ? "[%s]:%u" : "%s:%u", host, (unsigned)ntohs(port));
}

int pgqrs_address_listen(struct pgqrs_address *address, int backlog, struct pgqrs_error *err)
{
    const int on = 1;
    char shown[PGQRS_ADDRESS_TEXT];
    pgqrs_address_format(address, shown);
    int fd = socket(address->u.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, &address->u.any, address->len) == 0 && listen(fd, backlog) == 0 &&
        getsockname(fd, &address->u.any, &address->len) == 0) {
        return fd;
    }
    int saved_errno = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    return pgqrs_error_sys(err, PGQRS_ERR_CONFIG, saved_errno, "can not listen at %s", shown);
}
