/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/http_script.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define REQUEST_MAX (256 * 1024)

struct http_script {
    int listen_fd, stop_fd, port;
    const char *answer, *file;
    pthread_t thread;
    char request[REQUEST_MAX];
};

/* False when the test wants to end. */
static bool await(const struct http_script *s, int fd)
{
    struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = s->stop_fd, .events = POLLIN}};
    return poll(fds, 2, -1) > 0 && fds[1].revents == 0;
}

static bool is_whole(const char *request)
{
    const char *body = strstr(request, "\r\n\r\n");
    const char *length = strcasestr(request, "content-length:");
    return body != NULL &&
           (length == NULL || length > body || strlen(body + 4) >= strtoul(length + 15, NULL, 10));
}

static void answer_one(struct http_script *s, int fd)
{
    size_t len = 0;
    s->request[0] = 0;
    while (!is_whole(s->request)) {
        ssize_t n = await(s, fd) ? recv(fd, s->request + len, REQUEST_MAX - 1 - len, 0) : -1;
        if (n <= 0) {
            return;
        }
        len += (size_t)n;
        s->request[len] = 0;
    }
    if (s->file != NULL) {
        FILE *file = fopen(s->file, "w");
        (void)!fputs("x", file);
        (void)fclose(file);
    }
    if (s->answer == NULL) {
        (void)await(s, -1);
        return;
    }
    char text[1024];
    int n = snprintf(text, sizeof text, "%sContent-Length: 2\r\nConnection: close\r\n\r\nok",
                     s->answer);
    (void)send(fd, text, (size_t)n, MSG_NOSIGNAL); /* the client may have gone */
}

static void *serve(void *arg)
{
    struct http_script *s = arg;
    while (await(s, s->listen_fd)) {
        int fd = accept(s->listen_fd, NULL, NULL);
        if (fd >= 0) {
            answer_one(s, fd);
            (void)close(fd);
        }
    }
    return NULL;
}

struct http_script *http_script_start(const char *answer, const char *file)
{
    struct http_script *s = calloc(1, sizeof *s);
    assert_non_null(s);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    s->answer = answer;
    s->file = file;
    s->stop_fd = eventfd(0, EFD_CLOEXEC);
    s->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->listen_fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(s->listen_fd, 4), 0);
    assert_int_equal(getsockname(s->listen_fd, (struct sockaddr *)&address, &len), 0);
    s->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
    return s;
}

int http_script_port(const struct http_script *s)
{
    return s->port;
}

char *http_script_stop(struct http_script *s)
{
    const uint64_t one = 1;
    (void)!write(s->stop_fd, &one, sizeof one);
    (void)pthread_join(s->thread, NULL);
    (void)close(s->listen_fd);
    (void)close(s->stop_fd);
    char *request = strdup(s->request);
    free(s);
    return request;
}
