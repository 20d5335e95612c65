/* SPDX-License-Identifier: Apache-2.0 */
/* The worker program against a scripted supervisor and a scripted broker. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/worker_rig.h"

#define LONG "{\"ms\":60000}"
#define COUNT(ids) (sizeof(ids) / sizeof(ids)[0])

static void test_runs_jobs_in_order_and_drains(void **state)
{
    struct rig *rig = *state;
    rig_start_ready(rig, "effect", 8);
    for (int64_t id = 1; id <= 5; id++) {
        rig_lease(rig, id, "{}");
    }
    for (int64_t id = 1; id <= 5; id++) {
        rig_expect_result(rig, id, PGQRS_JOB_DONE, NULL);
    }
    char *trace = rig_read_trace(rig);
    const char *at = trace;
    for (int id = 1; id <= 5; id++) {
        char line[32];
        (void)snprintf(line, sizeof line, "start %d 1 ", id);
        at = strstr(at, line);
        assert_non_null(at);
    }
    free(trace);
    rig_drain(rig);
    (void)rig_expect(rig, PGQRS_MSG_JOB_CAPACITY);
    for (int64_t id = 1; id <= 4; id++) {
        rig_settle(rig, id, PGQRS_VERDICT_STORED);
    }
    while (rig->beat.settled != 5) {
        rig_await_beats(rig, 1);
    }
    rig_await_beats(rig, 2);
    assert_true(rig_runs(rig)); /* the last outcome may not be stored yet */
    rig_settle(rig, 5, PGQRS_VERDICT_REFUSED);
    assert_int_equal(rig_wait(rig), PGQRS_EXIT_OK);
}

static void test_outcomes(void **state)
{
    struct rig *rig = *state;
    struct pgqrs_job_result result;
    rig_start_ready(rig, "effect", 1);
    rig_lease(rig, 1, "{\"outcome\":\"fail\"}");
    rig_expect_result(rig, 1, PGQRS_JOB_FAIL, &result);
    assert_string_equal(result.error.data, "effect: fail, as the payload says");
    assert_int_equal(result.delay_ms, -1);
    rig_lease(rig, 2, "{\"outcome\":\"retry\",\"delay_ms\":1234}");
    rig_expect_result(rig, 2, PGQRS_JOB_RETRY, &result);
    assert_int_equal(result.delay_ms, 1234);
    rig_lease(rig, 3, "{\"outcome\":\"retry\"}");
    rig_expect_result(rig, 3, PGQRS_JOB_RETRY, &result);
    assert_int_equal(result.delay_ms, -1);
    rig_lease(rig, 4, "{\"outcome\":\"snooze\"}");
    rig_expect_result(rig, 4, PGQRS_JOB_SNOOZE, &result);
    assert_int_equal(result.delay_ms, 1000);
    rig_lease(rig, 5, "{\"outcome\":\"cancelled\"}");
    rig_expect_result(rig, 5, PGQRS_JOB_RETRY, &result);
    assert_non_null(strstr(result.error.data, "without a cancellation"));
    rig_lease(rig, 6, "{\"outcome\":\"nonsense\"}");
    rig_expect_result(rig, 6, PGQRS_JOB_RETRY, &result);
    assert_non_null(strstr(result.error.data, "77, which is no outcome"));
    rig_lease(rig, 7, "{\"then\":\"other\"}");
    struct pgqrs_frame frame = rig_expect(rig, PGQRS_MSG_JOB_RESULTS);
    struct pgqrs_job_list list = pgqrs_job_list_of(&frame);
    struct pgqrs_error err;
    assert_int_equal(pgqrs_next_job_result(&list, &result, &err), 1);
    assert_int_equal(result.enqueue_count, 1);
    assert_string_equal(result.enqueues[0].queue, "other");
    assert_string_equal(result.enqueues[0].payload.data, "{\"from\": 7}");
    pgqrs_job_result_fini(&result);
}

static void test_drain_gives_back_while_a_handler_runs(void **state)
{
    struct rig *rig = *state;
    rig_start_ready(rig, "effect", 8);
    rig_lease(rig, 1, LONG);
    rig_lease(rig, 2, "{}");
    rig_lease(rig, 3, "{}");
    rig_await_trace(rig, "start 1 ");
    rig_drain(rig);
    rig_drain(rig); /* a second one changes nothing */
    (void)rig_expect(rig, PGQRS_MSG_JOB_CAPACITY);
    rig_expect_result(rig, 2, PGQRS_JOB_RETURNED, NULL);
    rig_expect_result(rig, 3, PGQRS_JOB_RETURNED, NULL);
    rig_lease(rig, 4, "{}"); /* was on its way */
    rig_expect_result(rig, 4, PGQRS_JOB_RETURNED, NULL);
    do {
        rig_await_beats(rig, 1);
    } while (rig->beat.held != 1);
    assert_int_equal(rig->beat.job_id, 1);
    rig_cancel(rig, 0);
    rig_expect_result(rig, 1, PGQRS_JOB_CANCELLED, NULL);
    for (int64_t id = 1; id <= 4; id++) {
        assert_true(rig_runs(rig));
        rig_settle(rig, id, PGQRS_VERDICT_STORED);
    }
    assert_int_equal(rig_wait(rig), PGQRS_EXIT_RETURNED);
    char *trace = rig_read_trace(rig);
    assert_null(strstr(trace, "start 2"));
    assert_null(strstr(trace, "end"));
    free(trace);
}

static void test_reconnect_sends_again_what_is_not_settled(void **state)
{
    static const int64_t first[] = {3, 4, 2};
    static const int64_t second[] = {5, 6, 2, 3, 4};
    struct rig *rig = *state;
    rig_start_ready(rig, "effect", 8);
    rig_lease(rig, 1, "{}");
    rig_lease(rig, 2, "{}");
    rig_expect_result(rig, 1, PGQRS_JOB_DONE, NULL);
    rig_expect_result(rig, 2, PGQRS_JOB_DONE, NULL);
    rig_settle(rig, 1, PGQRS_VERDICT_STORED);
    rig_lease(rig, 3, "{\"ms\":60000,\"outcome\":\"fail\"}");
    rig_await_trace(rig, "start 3 ");
    rig_lease(rig, 4, "{\"outcome\":\"snooze\"}"); /* the broker's last act */
    rig_expect_hello(rig, 8, first, COUNT(first)); /* while the handler runs */
    rig_expect_result(rig, 2, PGQRS_JOB_DONE, NULL);
    rig_welcome(rig);
    rig_cancel(rig, 3);
    rig_expect_result(rig, 3, PGQRS_JOB_CANCELLED, NULL);
    rig_expect_result(rig, 4, PGQRS_JOB_SNOOZE, NULL);
    rig_lease(rig, 5, LONG);
    rig_await_trace(rig, "start 5 ");
    rig_lease(rig, 6, "{}");
    rig_expect_hello(rig, 8, second, COUNT(second));
    for (int64_t id = 2; id <= 4; id++) {
        rig_expect_result(rig, id,
                          id == 2   ? PGQRS_JOB_DONE
                          : id == 3 ? PGQRS_JOB_CANCELLED
                                    : PGQRS_JOB_SNOOZE,
                          NULL);
        rig_settle(rig, id, id == 2 ? PGQRS_VERDICT_REFUSED : PGQRS_VERDICT_STORED);
    }
    rig_welcome(rig);
    rig_cancel(rig, 5);
    rig_expect_result(rig, 5, PGQRS_JOB_CANCELLED, NULL);
    rig_expect_result(rig, 6, PGQRS_JOB_DONE, NULL);
    rig_settle(rig, 5, PGQRS_VERDICT_STORED);
    rig_settle(rig, 6, PGQRS_VERDICT_STORED);
    rig_drain(rig);
    assert_int_equal(rig_wait(rig), PGQRS_EXIT_RETURNED);
}

static void test_drain_while_the_broker_is_away(void **state)
{
    static const int64_t first[] = {1, 2};
    static const int64_t second[] = {2, 1};
    struct rig *rig = *state;
    rig_start_ready(rig, "effect", 8);
    rig_lease(rig, 1, LONG);
    rig_lease(rig, 2, "{}");
    rig_await_trace(rig, "start 1 ");
    rig_unlisten(rig);
    rig_disconnect(rig);
    rig_drain(rig);
    rig_await_beats(rig, 10); /* more than were under way: the drain has begun */
    rig_listen(rig);
    rig_expect_hello(rig, 0, first, COUNT(first)); /* while the handler runs */
    rig_expect_result(rig, 2, PGQRS_JOB_RETURNED, NULL);
    rig_welcome(rig);
    rig_cancel(rig, 1);
    rig_expect_result(rig, 1, PGQRS_JOB_CANCELLED, NULL);
    /* This broker dies too, before it has stored anything. */
    rig_expect_hello(rig, 0, second, COUNT(second));
    rig_expect_result(rig, 2, PGQRS_JOB_RETURNED, NULL);
    rig_expect_result(rig, 1, PGQRS_JOB_CANCELLED, NULL);
    rig_welcome(rig);
    rig_settle(rig, 2, PGQRS_VERDICT_STORED);
    rig_settle(rig, 1, PGQRS_VERDICT_STORED);
    assert_int_equal(rig_wait(rig), PGQRS_EXIT_RETURNED);
}

static void test_cancel_is_for_the_job_that_is_meant(void **state)
{
    struct rig *rig = *state;
    rig_start_ready(rig, "effect", 8);
    rig_cancel(rig, 0); /* nothing runs */
    rig_cancel(rig, 1);
    rig_await_beats(rig, 10); /* they have been ignored by now */
    rig_lease(rig, 1, "{\"ms\":150}");
    rig_await_trace(rig, "start 1 ");
    rig_cancel(rig, 2);
    rig_expect_result(rig, 1, PGQRS_JOB_DONE, NULL);
    rig_lease(rig, 2, LONG);
    rig_await_trace(rig, "start 2 ");
    rig_cancel(rig, 2);
    rig_expect_result(rig, 2, PGQRS_JOB_CANCELLED, NULL);
    rig_lease(rig, 3, "{\"ms\":20}"); /* the cancellation was for 2 */
    rig_expect_result(rig, 3, PGQRS_JOB_DONE, NULL);
}

static void test_a_broker_that_does_not_read(void **state)
{
    struct rig *rig = *state;
    struct pgqrs_job_result result;
    rig_start_ready(rig, "bulk", 20);
    for (int64_t id = 1; id <= 20; id++) {
        rig_lease(rig, id, "1000000");
    }
    do { /* the first fills the socket; nothing is begun until it is out */
        rig_await_beats(rig, 1);
    } while (rig->beat.settled == 0);
    rig_await_beats(rig, 2);
    assert_int_equal(rig->beat.settled, 1);
    rig_drain(rig);
    do {
        rig_await_beats(rig, 1);
    } while (rig->beat.held != 0);
    rig_expect_result(rig, 1, PGQRS_JOB_DONE, &result);
    assert_int_equal(result.result.len, 1000000);
    (void)rig_expect(rig, PGQRS_MSG_JOB_CAPACITY);
    for (int64_t id = 2; id <= 20; id++) {
        rig_expect_result(rig, id, PGQRS_JOB_RETURNED, NULL);
    }
    for (int64_t id = 1; id <= 20; id++) {
        rig_settle(rig, id, PGQRS_VERDICT_STORED);
    }
    assert_int_equal(rig_wait(rig), PGQRS_EXIT_OK);
}

static void test_a_large_payload(void **state)
{
    struct rig *rig = *state;
    struct pgqrs_job_result result;
    char *payload = malloc(PGQRS_PAYLOAD_MAX + 1);
    assert_non_null(payload);
    memset(payload, ' ', PGQRS_PAYLOAD_MAX);
    memcpy(payload + PGQRS_PAYLOAD_MAX - 4, "4321", 5);
    rig_start_ready(rig, "bulk", 4);
    rig_lease(rig, 1, payload);
    rig_lease(rig, 2, "5");
    free(payload);
    rig_expect_result(rig, 1, PGQRS_JOB_DONE, &result);
    assert_int_equal(result.result.len, 4321);
    rig_expect_result(rig, 2, PGQRS_JOB_DONE, &result);
    assert_string_equal(result.result.data, "\"xxx\"");
    rig_lease(rig, 3, "1048577");
    rig_expect_result(rig, 3, PGQRS_JOB_FAIL, NULL);
}

static void expect_end(struct rig *rig, int status, const char *words)
{
    char text[PGQRS_LAST_WORDS_MAX + 1];
    rig_last_words(rig, text, sizeof text);
    if (strstr(text, words) == NULL) {
        fail_msg("found last words \"%s\", expected \"%s\" in them", text, words);
    }
    assert_int_equal(rig_wait(rig), status);
}

/* To dial again would bring the same again; the next process starts with a delay. */
static void nonsense_ends_it(struct rig *rig, struct pgqrs_buf *out, const char *words)
{
    rig_start_ready(rig, "effect", 8);
    rig_send(rig, out);
    expect_end(rig, PGQRS_EXIT_FAILURE, words);
}

static void test_unreadable_bytes_from_the_broker_end_it(void **state)
{
    struct pgqrs_buf out = {0};
    pgqrs_buf_put(&out, "HTTP/1.1 200 OK\r\n", 17);
    nonsense_ends_it(*state, &out, "the broker: message of unknown type");
}

static void test_a_message_that_is_not_the_brokers_ends_it(void **state)
{
    struct pgqrs_buf out = {0};
    pgqrs_encode_empty(&out, PGQRS_MSG_CHILD_DRAIN);
    nonsense_ends_it(*state, &out, "the broker: message child_drain in the wrong direction");
}

static void test_refused_by_the_broker(void **state)
{
    struct rig *rig = *state;
    struct pgqrs_buf out = {0};
    rig_start(rig, "noop", 8);
    rig_expect_hello(rig, 8, NULL, 0);
    pgqrs_encode_refuse(&out, "not of this run");
    rig_send(rig, &out);
    expect_end(rig, PGQRS_EXIT_FAILURE, "refused by the broker: not of this run");
}

static void test_bad_plugin(void **state)
{
    struct rig *rig = *state;
    rig_start(rig, "wrong_abi", 8);
    expect_end(rig, PGQRS_EXIT_BAD_PLUGIN, "wrong_abi.so: abi: found 8, expected 1");
}

static void test_init_fails(void **state)
{
    struct rig *rig = *state;
    rig_start(rig, "init_fails", 8);
    expect_end(rig, PGQRS_EXIT_FAILURE, "no camera on queue \"work\"");
}

static void test_beats_while_init_hangs(void **state)
{
    struct rig *rig = *state;
    rig_start(rig, "init_hangs", 8);
    rig_await_beats(rig, 3);
    assert_int_equal(rig->beat.job_id, 0);
    (void)close(rig->lifeline);
    rig->lifeline = -1;
    assert_int_equal(rig_wait(rig), PGQRS_EXIT_FAILURE);
}

static void test_ends_with_the_supervisor_while_a_handler_runs(void **state)
{
    struct rig *rig = *state;
    rig_start_ready(rig, "effect", 8);
    rig_lease(rig, 1, LONG);
    rig_await_trace(rig, "start 1 ");
    (void)close(rig->lifeline);
    rig->lifeline = -1;
    assert_int_equal(rig_wait(rig), PGQRS_EXIT_FAILURE);
}

static void test_signals(void **state)
{
    struct rig *rig = *state;
    rig_start_ready(rig, "effect", 8);
    (void)kill(rig->pid, SIGINT);
    (void)kill(rig->pid, SIGHUP);
    (void)kill(rig->pid, SIGPIPE);
    rig_lease(rig, 1, "{\"ms\":100}");
    rig_lease(rig, 2, "{}");
    rig_await_trace(rig, "start 1 ");
    (void)kill(rig->pid, SIGTERM);
    (void)rig_expect(rig, PGQRS_MSG_JOB_CAPACITY);
    rig_expect_result(rig, 2, PGQRS_JOB_RETURNED, NULL);
    rig_expect_result(rig, 1, PGQRS_JOB_DONE, NULL);
    rig_settle(rig, 2, PGQRS_VERDICT_STORED);
    rig_settle(rig, 1, PGQRS_VERDICT_STORED);
    assert_int_equal(rig_wait(rig), PGQRS_EXIT_OK);
}

static void test_drain_before_ready(void **state)
{
    struct rig *rig = *state;
    rig_start(rig, "noop", 8);
    rig_expect_hello(rig, 8, NULL, 0); /* and never welcome it */
    rig_drain(rig);
    assert_int_equal(rig_wait(rig), PGQRS_EXIT_OK);
}

#define RIG_TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(test_runs_jobs_in_order_and_drains),
        RIG_TEST(test_outcomes),
        RIG_TEST(test_drain_gives_back_while_a_handler_runs),
        RIG_TEST(test_reconnect_sends_again_what_is_not_settled),
        RIG_TEST(test_drain_while_the_broker_is_away),
        RIG_TEST(test_unreadable_bytes_from_the_broker_end_it),
        RIG_TEST(test_a_message_that_is_not_the_brokers_ends_it),
        RIG_TEST(test_cancel_is_for_the_job_that_is_meant),
        RIG_TEST(test_a_broker_that_does_not_read),
        RIG_TEST(test_a_large_payload),
        RIG_TEST(test_refused_by_the_broker),
        RIG_TEST(test_bad_plugin),
        RIG_TEST(test_init_fails),
        RIG_TEST(test_beats_while_init_hangs),
        RIG_TEST(test_ends_with_the_supervisor_while_a_handler_runs),
        RIG_TEST(test_signals),
        RIG_TEST(test_drain_before_ready),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pgqrs_control_end();
    return failed;
}
