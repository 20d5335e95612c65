/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BASE_ADDRESS_H
#define PGQRS_BASE_ADDRESS_H

/* Where to listen: 127.0.0.1:9090, [::1]:9090, or 9090, which is 127.0.0.1:9090. No names. */

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/error.h"

#define PGQRS_EXPECTED_ADDRESS                                                                     \
    "an IP address and a port, such as 127.0.0.1:9090 or [::1]:9090, or a port alone"
#define PGQRS_ADDRESS_TEXT (INET6_ADDRSTRLEN + 16)

struct pgqrs_address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } u;
    socklen_t len;
};

/* -1: it is none. */
int pgqrs_address_parse(const char *text, struct pgqrs_address *out) PGQRS_MUST_CHECK;
void pgqrs_address_format(const struct pgqrs_address *address, char out[PGQRS_ADDRESS_TEXT]);
/* A listening socket, which does not block. The address then has the port, if it was 0. */
int pgqrs_address_listen(struct pgqrs_address *address, int backlog,
                         struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
