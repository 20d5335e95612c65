/* SPDX-License-Identifier: Apache-2.0 */
/* The gateway and those who are slow: clients, and a PostgreSQL that goes away. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/support/http_ask.h"
#include "tests/support/pg_daemon.h"

/* ---- slow clients ---- */

#define PACE_MS 100 /* between two bytes */

/* False: the peer has cut it. */
static bool send_byte(int fd)
{
    static const char request[] = "GET /livez HTTP/1.1\r\nX: ";
    static size_t sent;
    const char *byte = sent < sizeof request - 1 ? &request[sent] : "x";
    char answer;
    sent++;
    return send(fd, byte, 1, MSG_NOSIGNAL) == 1 &&
           (recv(fd, &answer, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
}

static bool is_cut(int fd)
{
    char some[64];
    return recv(fd, some, sizeof some, 0) <= 0;
}

/* Whether the answer was cut is seen in its length, once nothing is left to be read. */
static size_t drain(int fd)
{
    static char rest[65536];
    size_t sum = 0;
    for (ssize_t n; (n = recv(fd, rest, sizeof rest, 0)) > 0;) {
        sum += (size_t)n;
    }
    return sum;
}

static int descriptors_of(pid_t pid)
{
    char command[64];
    int count = 0;
    (void)snprintf(command, sizeof command, "ls /proc/%d/fd | wc -l", (int)pid);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%d", &count), 1);
    (void)pclose(pipe);
    return count;
}

struct descriptors {
    pid_t pid;
    int count;
};

static bool has_so_few(const void *arg)
{
    const struct descriptors *d = arg;
    return descriptors_of(d->pid) <= d->count;
}

#define QUEUES 60

/* Each of the two comes forward all the time, and would for minutes. */
static void test_who_trickles_is_cut(void **state)
{
    static char queues[QUEUES * 300];
    static const char request[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    struct fixture *f = *state;
    size_t len = 0;
    for (int i = 0; i < QUEUES; i++) { /* an answer that no socket's buffers hold */
        len += (size_t)snprintf(queues + len, sizeof queues - len,
                                "  %0200d: {handler: exec, consumers: 0}\n", i);
    }
    daemon_config(&f->scratch, "http: {listen: 0}\nqueues:\n%s", queues);
    daemon_start(&f->daemon, &f->scratch);
    http_find(&f->daemon);
    http_await("/readyz", 200, "ok\n");
    assert_int_equal(http_ask("GET", "/metrics"), 200);
    size_t whole = strlen(http_answer);
    pid_t gateway = daemon_await_children(&f->daemon, "pgqrs-gateway", 1);
    int before = descriptors_of(gateway);

    int asks = http_dial();
    int reads = http_dial_narrow();
    int silent = http_dial();
    size_t got = 0;
    int64_t until = pgqrs_mono_ms() + WAIT_MS;
    assert_int_equal(send(reads, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    while (send_byte(asks)) {
        char byte;
        assert_true(pgqrs_mono_ms() < until);
        got += recv(reads, &byte, 1, 0) == 1 ? 1 : 0;
        assert_int_equal(http_ask("GET", "/livez"), 200); /* others are served */
        (void)poll(NULL, 0, PACE_MS);
    }
    assert_true(wait_for(has_so_few, &(struct descriptors){gateway, before}, WAIT_MS));
    got += drain(reads);
    assert_true(got > 0 && got < whole);
    assert_true(is_cut(silent));
    (void)close(asks);
    (void)close(reads);
    (void)close(silent);
    assert_int_equal(http_ask("GET", "/metrics"), 200);
    assert_int_equal(daemon_await_children(&f->daemon, "pgqrs-gateway", 1), gateway);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* ---- PostgreSQL ---- */

static void test_a_server_that_stops(void **state)
{
    struct pg_daemon *d = *state;
    struct fixture *f = d->fixture;
    daemon_config(&f->scratch,
                  "http: {listen: 0}\n"
                  "queues: {work: {handler: %s, settings: {file: %s}}}\n",
                  built("tests/handlers/effect.so"), f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    http_find(&f->daemon);
    http_await("/readyz", 200, "ok\n");
    pid_t broker = daemon_await_children(&f->daemon, "pgqrs-broker", 1);
    fixture_enqueue(f, 3, "{}");
    http_await_metric("pgqrs_jobs_settled_total{queue=\"work\",outcome=\"done\"}", 3);
    pg_rig_stop();
    http_await("/readyz", 503, "store: ");
    http_await("/livez", 200, "ok\n");
    http_await_metric("pgqrs_store_up", 0);
    http_await_metric("pgqrs_queue_jobs{queue=\"work\",state=\"waiting\"}", -1);
    assert_int_equal(http_metric("pgqrs_jobs_settled_total{queue=\"work\",outcome=\"done\"}"), 3);
    pg_rig_start();
    http_await("/readyz", 200, "ok\n");
    http_await_metric("pgqrs_store_up", 1);
    fixture_enqueue(f, 2, "{}");
    http_await_metric("pgqrs_jobs_settled_total{queue=\"work\",outcome=\"done\"}", 5);
    http_await_metric("pgqrs_queue_jobs{queue=\"work\",state=\"waiting\"}", 0);
    assert_int_equal(daemon_await_children(&f->daemon, "pgqrs-broker", 1), broker);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_trickles_is_cut, fixture_setup, fixture_teardown),
        PG_DAEMON_CASE(test_a_server_that_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
