/* SPDX-License-Identifier: Apache-2.0 */
/* The control channel: two ends, full queues, nonsense, and peers that are killed. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <nng/nng.h>
#include <nng/protocol/pair1/pair.h>

#include "ipc/control.h"
#include "tests/support/daemon.h"

static struct scratch scratch;
static char url[128];

static int setup(void **state)
{
    (void)state;
    scratch_create(&scratch);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scratch_remove(&scratch);
    return 0;
}

static int send_beat(struct pgqrs_control *control, int64_t job_id)
{
    struct pgqrs_buf out = {0};
    struct pgqrs_error err = {0};
    pgqrs_encode_child_beat(&out, &(struct pgqrs_child_beat){.job_id = job_id});
    int rc = pgqrs_control_send(control, &out, &err);
    pgqrs_buf_fini(&out);
    return rc < 0 ? -(int)err.code : 0;
}

struct inbox {
    struct pgqrs_control *control;
    struct pgqrs_frame *frame;
    struct pgqrs_error *err;
    int *got;
};

static bool has_message(const void *arg)
{
    const struct inbox *in = arg;
    *in->got = pgqrs_control_recv(in->control, PGQRS_ROLE_WORKER, PGQRS_ROLE_SUPERVISOR, in->frame,
                                  in->err);
    return *in->got != 0;
}

static int await(struct pgqrs_control *control, struct pgqrs_frame *frame, struct pgqrs_error *err)
{
    int got = 0;
    const struct inbox in = {.control = control, .frame = frame, .err = err, .got = &got};
    assert_true(wait_for(has_message, &in, WAIT_MS));
    return got;
}

static void open_both(struct pgqrs_control **parent, struct pgqrs_control **child)
{
    static int count;
    struct pgqrs_error err;
    /* Never the same twice, as in pgqrsd: a channel closes later. */
    (void)snprintf(url, sizeof url, "ipc://%s/c%d", scratch.dir, ++count);
    assert_int_equal(pgqrs_control_listen(url, parent, &err), 0);
    if (child != NULL) {
        assert_int_equal(pgqrs_control_dial(url, child, &err), 0);
    }
}

static void test_messages_arrive_in_order(void **state)
{
    (void)state;
    struct pgqrs_control *parent;
    struct pgqrs_control *child;
    struct pgqrs_frame frame;
    struct pgqrs_error err;
    open_both(&parent, &child);
    for (int64_t i = 1; i <= 40; i++) {
        assert_int_equal(send_beat(child, i), 0);
    }
    for (int64_t i = 1; i <= 40; i++) {
        struct pgqrs_child_beat beat;
        assert_int_equal(await(parent, &frame, &err), 1);
        assert_int_equal(pgqrs_decode_child_beat(&frame, &beat, &err), 0);
        assert_int_equal(beat.job_id, i);
        assert_int_equal(pgqrs_control_peer_pid(parent), getpid());
    }
    assert_int_equal(
        pgqrs_control_recv(parent, PGQRS_ROLE_WORKER, PGQRS_ROLE_SUPERVISOR, &frame, &err), 0);
    pgqrs_control_close(&child);
    pgqrs_control_close(&parent);
    assert_null(parent);
}

static void test_a_peer_that_is_not_there_means_again_not_waiting(void **state)
{
    (void)state;
    struct pgqrs_control *parent;
    open_both(&parent, NULL);
    int rc = 0;
    int sent = 0;
    while (rc == 0 && sent < 10000) {
        rc = send_beat(parent, 1);
        sent++;
    }
    assert_int_equal(rc, -PGQRS_ERR_AGAIN);
    pgqrs_control_close(&parent);
}

static nng_socket send_raw(const void *data, size_t len)
{
    nng_socket raw;
    assert_int_equal(nng_pair1_open(&raw), 0);
    assert_int_equal(nng_dial(raw, url, NULL, 0), 0);
    char copy[64];
    memcpy(copy, data, len);
    assert_int_equal(nng_send(raw, copy, len, 0), 0);
    return raw; /* closing it before the message is read could take the message away */
}

static void expect_nonsense(const void *data, size_t len)
{
    struct pgqrs_control *parent;
    struct pgqrs_frame frame;
    struct pgqrs_error err = {0};
    open_both(&parent, NULL);
    nng_socket raw = send_raw(data, len);
    assert_int_equal(await(parent, &frame, &err), -1);
    assert_int_equal(err.code, PGQRS_ERR_PROTOCOL);
    assert_int_equal(nng_close(raw), 0);
    pgqrs_control_close(&parent);
}

static void test_nonsense_is_an_error(void **state)
{
    (void)state;
    struct pgqrs_buf wrong_way = {0};
    struct pgqrs_buf two = {0};
    expect_nonsense("x", 1);
    expect_nonsense("\0\0\0\0\xff\xff\0\0", 8);
    pgqrs_encode_worker_cancel(&wrong_way, 1); /* supervisor to worker */
    expect_nonsense(wrong_way.data, wrong_way.len);
    pgqrs_encode_empty(&two, PGQRS_MSG_CHILD_READY);
    pgqrs_encode_empty(&two, PGQRS_MSG_CHILD_READY);
    expect_nonsense(two.data, two.len);
    pgqrs_buf_fini(&wrong_way);
    pgqrs_buf_fini(&two);
}

static pid_t spawn_child(void)
{
    char *argv[] = {strdup("/proc/self/exe"), strdup("child"), strdup(url), NULL};
    pid_t pid;
    assert_int_equal(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ), 0);
    free(argv[0]);
    free(argv[1]);
    free(argv[2]);
    return pid;
}

/* Beats as fast as it can until it is killed. */
static int child_main(const char *address)
{
    struct pgqrs_control *control;
    struct pgqrs_error err;
    if (pgqrs_control_dial(address, &control, &err) < 0) {
        return 1;
    }
    for (int64_t i = 1;; i++) {
        (void)send_beat(control, i);
    }
}

static void test_a_peer_killed_in_the_middle_never_holds_us_up(void **state)
{
    (void)state;
    for (int round = 0; round < 200; round++) {
        struct pgqrs_control *parent;
        struct pgqrs_frame frame;
        struct pgqrs_error err;
        open_both(&parent, NULL);
        pid_t pid = spawn_child();
        assert_int_equal(await(parent, &frame, &err), 1);
        assert_int_equal(pgqrs_control_peer_pid(parent), pid);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        (void)send_beat(parent, 1);   /* may or may not be taken */
        pgqrs_control_close(&parent); /* the runner's time limit is the judge */
    }
}

static bool has_so_many_descriptors(const void *arg)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir) != NULL) {
        count++;
    }
    assert_int_equal(closedir(dir), 0);
    return count <= *(const int *)arg;
}

static void test_a_closed_channel_leaves_no_descriptor(void **state)
{
    (void)state;
    int before = 0;
    for (int round = 0; round < 50; round++) {
        struct pgqrs_control *parent;
        struct pgqrs_control *child;
        struct pgqrs_frame frame;
        struct pgqrs_error err;
        open_both(&parent, &child);
        assert_int_equal(send_beat(child, 1), 0);
        assert_int_equal(await(parent, &frame, &err), 1);
        pgqrs_control_close(&child);
        pgqrs_control_close(&parent);
        while (round == 0 && !has_so_many_descriptors(&before)) {
            before++; /* NNG keeps some for itself */
        }
    }
    assert_true(wait_for(has_so_many_descriptors, &before, WAIT_MS)); /* it closes later, too */
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_messages_arrive_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_peer_that_is_not_there_means_again_not_waiting,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_nonsense_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_closed_channel_leaves_no_descriptor, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_peer_killed_in_the_middle_never_holds_us_up, setup,
                                        teardown),
    };
    if (argc == 3 && strcmp(argv[1], "child") == 0) {
        return child_main(argv[2]);
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pgqrs_control_end();
    return failed;
}
