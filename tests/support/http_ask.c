/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/http_ask.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

static in_port_t port; /* of the running daemon */
char http_answer[2 * 1024 * 1024];

void http_find(const struct daemon *daemon)
{
    static const char text[] = "listening at http://127.0.0.1:";
    char log[8192];
    daemon_await_log(daemon, text, 1);
    FILE *file = fopen(daemon->log, "r");
    assert_non_null(file);
    size_t len = fread(log, 1, sizeof log - 1, file);
    (void)fclose(file);
    log[len] = 0;
    port = (in_port_t)atoi(strstr(log, text) + strlen(text));
    assert_int_not_equal(port, 0);
}

static int dial(bool narrow)
{
    const struct timeval patience = {.tv_sec = WAIT_MS / 1000};
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int buffer = 4096;
    const int segment = 536;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (narrow) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
        (void)setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
    }
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

int http_dial(void)
{
    return dial(false);
}

int http_dial_narrow(void)
{
    return dial(true);
}

int http_say(const char *request, size_t len)
{
    int fd = http_dial();
    size_t got = 0;
    (void)!send(fd, request, len, MSG_NOSIGNAL);
    for (ssize_t n = 1; n > 0 && got<sizeof http_answer - 1; got += n> 0 ? (size_t)n : 0) {
        n = recv(fd, http_answer + got, sizeof http_answer - 1 - got, 0);
    }
    http_answer[got] = 0;
    (void)close(fd);
    return strncmp(http_answer, "HTTP/1.", 7) == 0 ? atoi(http_answer + 9) : 0;
}

int http_ask(const char *method, const char *path)
{
    char request[512];
    int n = snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: test\r\n\r\n", method, path);
    return http_say(request, (size_t)n);
}

const char *http_body(void)
{
    const char *end = strstr(http_answer, "\r\n\r\n");
    return end == NULL ? "" : end + 4;
}

struct expected {
    const char *path, *text;
    int status;
};

static bool answers(const void *arg)
{
    const struct expected *e = arg;
    return http_ask("GET", e->path) == e->status && strstr(http_body(), e->text) != NULL;
}

void http_await(const char *path, int status, const char *text)
{
    if (!wait_for(answers, &(struct expected){path, text, status}, WAIT_MS)) {
        fail_msg("%s: expected %d with \"%s\", found:\n%s", path, status, text, http_answer);
    }
}

/* ---- metrics ---- */

static const char *find_value(const char *series)
{
    char line[512];
    (void)snprintf(line, sizeof line, "\n%s ", series);
    const char *at = strstr(http_body(), line);
    return at == NULL ? NULL : at + strlen(line);
}

int64_t http_metric(const char *series)
{
    const char *value = find_value(series);
    return value == NULL ? -1 : atoll(value);
}

double http_metric_real(const char *series)
{
    const char *value = find_value(series);
    return value == NULL ? -1 : atof(value);
}

struct agreement {
    const char *series;
    int64_t value;
};

static bool agrees(const void *arg)
{
    const struct agreement *a = arg;
    return http_ask("GET", "/metrics") == 200 && http_metric(a->series) == a->value;
}

void http_await_metric(const char *series, int64_t value)
{
    if (!wait_for(agrees, &(struct agreement){series, value}, WAIT_MS)) {
        fail_msg("%s: expected %" PRId64 ", found:\n%s", series, value, http_answer);
    }
}
