/* SPDX-License-Identifier: Apache-2.0 */
/* A real pgqrsd, and programs that use the store of its broker through its socket. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ipc/store_msg.h"
#include "tests/support/daemon.h"

#define BROKER "pgqrs-broker"

/* The broker looks by itself once an hour: what it does sooner, it was told to. */
static void start(struct fixture *f)
{
    daemon_config(&f->scratch,
                  "poll: 1h\n"
                  "queues:\n"
                  "  work:\n"
                  "    handler: %s\n"
                  "    settings: {file: %s}\n",
                  built("tests/handlers/effect.so"), f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "ready pid=", 2);
}

static struct pgqrs_store *open_client(const struct fixture *f)
{
    const struct pgqrs_store_options options = {.call_ms = WAIT_MS};
    struct pgqrs_store *store = NULL;
    struct pgqrs_error err;
    char dsn[128];
    (void)snprintf(dsn, sizeof dsn, "broker:%s/run/pgqrsd.sock", f->scratch.dir);
    if (pgqrs_store_open(dsn, &options, &store, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return store;
}

static int64_t find_work(struct pgqrs_store *store)
{
    struct pgqrs_error err;
    int64_t queue = 0;
    if (pgqrs_store_queue_find(store, "work", &queue, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return queue;
}

static int enqueue(struct pgqrs_store *store, int64_t queue, int64_t delay_ms, int64_t *id_out,
                   struct pgqrs_error *err)
{
    const struct pgqrs_enqueue item = {.payload = {"{}", 2}, .delay_ms = delay_ms};
    return pgqrs_store_enqueue(store, queue, &item, 1, id_out, NULL, err);
}

static void test_jobs_enqueued_through_a_broker_are_run_at_once(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_error err;
    int64_t id = 0;
    start(f);
    struct pgqrs_store *store = open_client(f);
    int64_t queue = find_work(store);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(enqueue(store, queue, 0, &id, &err), 0);
        effects_await(&f->scratch, "end ", i);
    }
    struct pgqrs_message message;
    assert_int_equal(pgqrs_store_message_get(store, id, &message, &err), 0);
    assert_string_equal(message.payload, "{}");
    pgqrs_message_fini(&message);
    pgqrs_store_close(&store);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_client_outlives_its_broker(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_error err;
    int64_t id;
    start(f);
    struct pgqrs_store *store = open_client(f);
    int64_t queue = find_work(store);
    for (int i = 1; i <= 2; i++) {
        assert_int_equal(kill(daemon_await_children(&f->daemon, BROKER, 1), SIGKILL), 0);
        /* Whatever it can still answer, it does; else its successor does. */
        while (enqueue(store, queue, 0, &id, &err) < 0) {
            assert_true(err.code == PGQRS_ERR_AGAIN || err.code == PGQRS_ERR_UNKNOWN);
        }
        effects_await(&f->scratch, "end ", i);
    }
    pgqrs_store_close(&store);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_client_outlives_pgqrsd(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_error err;
    int64_t id;
    start(f);
    struct pgqrs_store *store = open_client(f);
    int64_t queue = find_work(store);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(enqueue(store, queue, 0, &id, &err), -1);
        assert_int_equal(err.code, PGQRS_ERR_AGAIN);
        assert_non_null(strstr(err.text, "can not connect"));
    }
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "ready pid=", 4);
    assert_int_equal(enqueue(store, queue, 0, &id, &err), 0);
    effects_await(&f->scratch, "end ", 1);
    pgqrs_store_close(&store);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_the_command_line_speaks_through_a_broker(void **state)
{
    struct fixture *f = *state;
    start(f);
    struct scratch client = f->scratch;
    (void)snprintf(client.dsn, sizeof client.dsn, "broker:%s/run/pgqrsd.sock", client.dir);
    cli_ok(&client, NULL, "message", "enqueue", "work", "{\"ms\":1}");
    effects_await(&f->scratch, "end ", 1);
    cli_ok(&client, NULL, "message", "get", "1");
    cli_ok(&client, NULL, "queue", "list");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(cli(&client, NULL, "queue", "list", (char *)NULL), 69);
}

/* Kills the broker a few times, each time some way into what its clients do. */
static pid_t start_killer(const struct fixture *f)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 3; i++) {
            pid_t broker = daemon_await_children(&f->daemon, BROKER, 1);
            (void)usleep(20000 * (useconds_t)(i + 1));
            (void)kill(broker, SIGKILL);
            while (!process_gone(broker)) {
                (void)usleep(1000);
            }
        }
        _exit(0);
    }
    assert_true(pid > 0);
    return pid;
}

static bool has_ended(pid_t pid)
{
    int status = 0;
    return waitpid(pid, &status, WNOHANG) == pid;
}

static void test_what_was_acknowledged_is_there_whenever_the_broker_dies(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_error err;
    int64_t *ids = calloc(200000, sizeof *ids);
    size_t stored = 0;
    size_t unknown = 0;
    assert_non_null(ids);
    start(f);
    struct pgqrs_store *store = open_client(f);
    int64_t queue = find_work(store);
    pid_t killer = start_killer(f);
    for (bool ended = false; !ended && stored < 200000;) {
        ended = has_ended(killer); /* and once more after that */
        if (enqueue(store, queue, 3600000, &ids[stored], &err) == 0) {
            stored++;
        } else if (err.code == PGQRS_ERR_UNKNOWN) {
            unknown++;
        } else if (err.code != PGQRS_ERR_AGAIN) {
            fail_msg("code %d: %s", (int)err.code, err.text);
        }
    }
    print_message("%zu stored, %zu unknown\n", stored, unknown);
    for (size_t i = 1; i < stored; i++) {
        assert_true(ids[i] > ids[i - 1]);
    }
    struct pgqrs_queue_metrics metrics;
    assert_int_equal(pgqrs_store_queue_metrics(store, queue, 0, &metrics, &err), 0);
    assert_in_range(metrics.pending, stored, stored + unknown);
    for (size_t i = 0; i < stored; i += stored / 100 + 1) {
        struct pgqrs_message message;
        assert_int_equal(pgqrs_store_message_get(store, ids[i], &message, &err), 0);
        pgqrs_message_fini(&message);
    }
    pgqrs_store_close(&store);
    free(ids);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* ---- peers that are no clients ---- */

static int connect_raw(const struct fixture *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/run/pgqrsd.sock", f->scratch.dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval limit = {.tv_sec = WAIT_MS / 1000};
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Everything until the broker ends the connection, which it must. */
static void read_all(int fd, struct pgqrs_buf *in)
{
    ssize_t n;
    do {
        uint8_t *to = pgqrs_buf_reserve(in, 4096);
        assert_non_null(to);
        n = recv(fd, to, 4096, 0);
        in->len += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    assert_true(n == 0 || errno == ECONNRESET); /* a reset: it did not read all of what was sent */
    assert_int_equal(close(fd), 0);
}

static void check_refused(const struct fixture *f, const struct pgqrs_buf *out, const char *text)
{
    struct pgqrs_buf in = {0};
    struct pgqrs_frame frame;
    struct pgqrs_error err;
    size_t used = 0;
    const char *why = "";
    int fd = connect_raw(f);
    assert_int_equal(send(fd, out->data, out->len, MSG_NOSIGNAL), out->len);
    read_all(fd, &in);
    size_t at = 0;
    while (pgqrs_msg_parse(in.data + at, in.len - at, PGQRS_ROLE_BROKER, PGQRS_ROLE_CLIENT, &frame,
                           &used, &err) > 0) {
        at += used;
        if (frame.type == PGQRS_MSG_REFUSE) {
            assert_int_equal(pgqrs_decode_refuse(&frame, &why, &err), 0);
        }
    }
    if (strstr(why, text) == NULL) {
        fail_msg("found \"%s\", expected \"%s\"", why, text);
    }
    pgqrs_buf_fini(&in);
}

static void test_nonsense_is_refused_and_the_others_go_on(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_buf out = {0};
    struct pgqrs_error err;
    int64_t id;
    start(f);
    struct pgqrs_store *store = open_client(f);
    int64_t queue = find_work(store);

    const struct pgqrs_store_call call = {.op = PGQRS_STORE_INSTALL};
    assert_int_equal(pgqrs_encode_store_call(&out, &call, &err), 0);
    check_refused(f, &out, "expected a hello");

    pgqrs_buf_clear(&out);
    const struct pgqrs_client_hello other = {.major = PGQRS_IPC_MAJOR + 1, .version = "9.9"};
    pgqrs_encode_client_hello(&out, &other);
    check_refused(f, &out, "found version 2 of a program 9.9, expected 1");

    pgqrs_buf_clear(&out);
    const struct pgqrs_client_hello hello = {.major = PGQRS_IPC_MAJOR, .version = "x"};
    pgqrs_encode_client_hello(&out, &hello);
    assert_int_equal(pgqrs_encode_store_call(&out, &call, &err), 0);
    out.data[out.len - 1] = PGQRS_STORE_OP_COUNT;
    check_refused(f, &out, "malformed message store_call");

    assert_int_equal(enqueue(store, queue, 0, &id, &err), 0);
    effects_await(&f->scratch, "end ", 1);
    pgqrs_store_close(&store);
    pgqrs_buf_fini(&out);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

static void test_a_second_pgqrsd_of_that_name_takes_nothing_away(void **state)
{
    struct fixture *f = *state;
    start(f);
    struct daemon second = {0};
    daemon_start(&second, &f->scratch);
    assert_int_equal(daemon_wait(&second), 69);
    struct pgqrs_store *store = open_client(f);
    (void)find_work(store);
    pgqrs_store_close(&store);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        CASE(test_jobs_enqueued_through_a_broker_are_run_at_once),
        CASE(test_a_client_outlives_its_broker),
        CASE(test_a_client_outlives_pgqrsd),
        CASE(test_the_command_line_speaks_through_a_broker),
        CASE(test_what_was_acknowledged_is_there_whenever_the_broker_dies),
        CASE(test_nonsense_is_refused_and_the_others_go_on),
        CASE(test_a_second_pgqrsd_of_that_name_takes_nothing_away),
    };
    return cmocka_run_group_tests_name("clients of a broker", cases, NULL, NULL);
}
