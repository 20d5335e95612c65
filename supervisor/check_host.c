/* SPDX-License-Identifier: Apache-2.0 */
/* What a start needs of the host: a directory for sockets, and a port. */
#include "supervisor/check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <jansson.h>

#include "base/address.h"
#include "base/paths.h"
#include "supervisor/runtime_dir.h"

#define PATIENCE_S 5
#define READ_AT_ONCE 65536
#define REPLY_MAX (64u << 20)

/* ---- the pgqrsd of this name, if it runs ---- */

static int dial(const struct pgqrs_config *config)
{
    static const struct timeval patience = {.tv_sec = PATIENCE_S};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char base[80];
    if (pgqrs_path_runtime(config->runtime_dir, base, sizeof base, NULL) < 0 ||
        snprintf(address.sun_path, sizeof address.sun_path, "%s/%s.ctl", base, config->name) >=
            (int)sizeof address.sun_path) {
        return -1;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        (void)close(fd);
        return -1;
    }
    if (fd >= 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    }
    return fd;
}

/* Null: none answers. */
static json_t *ask_running(const struct pgqrs_config *config)
{
    static const char request[] = "{\"command\":\"status\"}\n";
    struct pgqrs_buf in = {0};
    json_t *reply = NULL;
    ssize_t n = -1;
    int fd = dial(config);
    if (fd < 0) {
        return NULL;
    }
    if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == (ssize_t)sizeof request - 1) {
        do {
            uint8_t *to = pgqrs_buf_reserve(&in, READ_AT_ONCE);
            n = to == NULL ? -1 : recv(fd, to, READ_AT_ONCE, 0);
            in.len += n > 0 ? (size_t)n : 0;
        } while (n > 0 && in.len < REPLY_MAX);
    }
    (void)close(fd);
    if (n == 0) {
        reply = json_loadb((const char *)in.data, in.len, 0, NULL);
    }
    pgqrs_buf_fini(&in);
    return reply;
}

/* ---- the port ---- */

static bool listens_at(const json_t *running, const struct pgqrs_address *address)
{
    const char *text = json_string_value(json_object_get(running, "http_listen"));
    struct pgqrs_address its;
    char found[PGQRS_ADDRESS_TEXT];
    char ours[PGQRS_ADDRESS_TEXT];
    if (text == NULL || pgqrs_address_parse(text, &its) < 0) {
        return false;
    }
    pgqrs_address_format(&its, found);
    pgqrs_address_format(address, ours);
    return strcmp(found, ours) == 0;
}

static void check_port(struct check *c)
{
    const char *listen = c->config->http_listen;
    struct pgqrs_address address;
    struct pgqrs_error err;
    if (listen == NULL) {
        return;
    }
    if (pgqrs_address_parse(listen, &address) < 0) {
        pgqrs_check_found(c, PGQRS_CHECK_ERROR, "http.listen: found \"%.60s\", expected %s", listen,
                          PGQRS_EXPECTED_ADDRESS);
        return;
    }
    const struct pgqrs_address wanted = address;
    int fd = pgqrs_address_listen(&address, 1, &err);
    if (fd >= 0) {
        (void)close(fd);
        return;
    }
    json_t *running = ask_running(c->config);
    if (listens_at(running, &wanted)) {
        pgqrs_check_found(c, PGQRS_CHECK_INFO,
                          "http.listen: %s is in use by the pgqrsd \"%s\" that runs, pid %lld",
                          listen, c->config->name,
                          (long long)json_integer_value(json_object_get(running, "pid")));
    } else {
        pgqrs_check_found(c, PGQRS_CHECK_ERROR, "http.listen: %s", err.text);
    }
    json_decref(running);
}

void pgqrs_check_host(struct check *c)
{
    struct pgqrs_error err;
    if (pgqrs_runtime_dir_try(c->config->runtime_dir, &err) < 0) {
        pgqrs_check_found(c, PGQRS_CHECK_ERROR, "%s", err.text);
    }
    check_port(c);
}
