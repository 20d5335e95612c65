/* SPDX-License-Identifier: Apache-2.0 */
/* What a handler may say through its host, and what the broker is then told. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "worker/host.h"

struct fixture {
    struct pgqrs_job_host *host;
    struct worker_lease *lease;
};

static int setup(void **state)
{
    static const char payload[] = "{\"n\":1}";
    struct pgqrs_error err;
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->lease = calloc(1, sizeof *f->lease + sizeof payload);
    assert_non_null(f->lease);
    f->lease->key = (struct pgqrs_job_key){.id = 17, .attempt = 2, .crashes = 1};
    f->lease->payload_len = sizeof payload - 1;
    memcpy(f->lease->payload, payload, sizeof payload);
    assert_int_equal(pgqrs_host_create("mail", 5, &f->host, &err), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pgqrs_host_destroy(&f->host);
    free(f->lease);
    free(f);
    return 0;
}

static int set_result(struct pgqrs_job *job, const char *json)
{
    return job->host->set_result(job, json, strlen(json));
}

static int enqueue(struct pgqrs_job *job, const char *queue, const char *json)
{
    return job->host->enqueue(job, queue, json, strlen(json), 0, 0);
}

static void test_view(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_job *job = pgqrs_host_begin(f->host, f->lease);
    assert_int_equal(job->size, sizeof *job);
    assert_int_equal(job->id, 17);
    assert_int_equal(job->attempt, 2);
    assert_int_equal(job->max_attempts, 6);
    assert_string_equal(job->queue, "mail");
    assert_string_equal(job->payload, "{\"n\":1}");
    assert_int_equal(job->payload_len, 7);
    job->host = NULL; /* whatever a handler does to its view, the next job has a good one */
    struct pgqrs_job_result result;
    pgqrs_host_end(f->host, PGQRS_DONE, &result);
    assert_ptr_equal(pgqrs_host_begin(f->host, f->lease)->host, &pgqrs_host_functions);
}

static void test_result(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_job_result result;
    struct pgqrs_job *job = pgqrs_host_begin(f->host, f->lease);
    assert_int_equal(set_result(job, ""), -1);
    assert_int_equal(set_result(job, "{\"a\":"), -1);
    assert_int_equal(set_result(job, "{} {}"), -1);
    assert_int_equal(set_result(job, "\"\xff\""), -1);
    assert_int_equal(job->host->set_result(job, NULL, 0), -1);
    assert_int_equal(set_result(job, "[1]"), 0);
    assert_int_equal(set_result(job, "123456789012345678901234567890"), 0);
    assert_int_equal(set_result(job, "nonsense"), -1); /* and the last good one counts */
    pgqrs_host_end(f->host, PGQRS_DONE, &result);
    assert_int_equal(result.key.id, 17);
    assert_int_equal(result.key.attempt, 2);
    assert_int_equal(result.result.len, 30);
    assert_int_equal(result.error.len, 0);
    assert_int_equal(result.delay_ms, -1);

    char *large = malloc(PGQRS_RESULT_MAX + 1);
    assert_non_null(large);
    memset(large, ' ', PGQRS_RESULT_MAX + 1);
    large[0] = '1';
    job = pgqrs_host_begin(f->host, f->lease);
    assert_int_equal(job->host->set_result(job, large, PGQRS_RESULT_MAX + 1), -1);
    assert_int_equal(job->host->set_result(job, large, PGQRS_RESULT_MAX), 0);
    free(large);
    pgqrs_host_end(f->host, PGQRS_RETRY, &result);
    assert_int_equal(result.result.len, 0); /* only what is done has a result */
    (void)pgqrs_host_begin(f->host, f->lease);
    pgqrs_host_end(f->host, PGQRS_DONE, &result);
    assert_int_equal(result.result.len, 0); /* nor does it stay for the next job */
}

static void test_error(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_job_result result;
    char text[PGQRS_ERROR_TEXT_MAX + 10];
    struct pgqrs_job *job = pgqrs_host_begin(f->host, f->lease);
    memset(text, 'x', sizeof text);
    memcpy(text + PGQRS_ERROR_TEXT_MAX - 1, "\xe2\x82\xac", 4); /* a euro sign over the end */
    job->host->set_error(job, text);
    pgqrs_host_end(f->host, PGQRS_FAIL, &result);
    assert_int_equal(result.error.len, PGQRS_ERROR_TEXT_MAX - 1);

    job = pgqrs_host_begin(f->host, f->lease);
    job->host->set_error(job, "first");
    job->host->set_error(job, "caf\xe9 \xe2\x82\xac \xc0\xaf \xed\xa0\x80");
    pgqrs_host_end(f->host, PGQRS_RETRY, &result);
    assert_string_equal(result.error.data, "caf? \xe2\x82\xac ?? ???");

    (void)pgqrs_host_begin(f->host, f->lease);
    pgqrs_host_end(f->host, PGQRS_FAIL, &result);
    assert_int_equal(result.error.len, 0);
}

static void test_utf8(void **state)
{
    (void)state;
    assert_true(pgqrs_utf8_valid(""));
    assert_true(pgqrs_utf8_valid("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
    assert_false(pgqrs_utf8_valid("\x80"));
    assert_false(pgqrs_utf8_valid("\xc3"));
    assert_false(pgqrs_utf8_valid("\xc1\x81"));
    assert_false(pgqrs_utf8_valid("\xe0\x80\x80"));
    assert_false(pgqrs_utf8_valid("\xed\xbf\xbf"));
    assert_false(pgqrs_utf8_valid("\xf4\x90\x80\x80"));
    assert_false(pgqrs_utf8_valid("\xff"));
}

static void test_delays(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_job_result result;
    struct pgqrs_job *job = pgqrs_host_begin(f->host, f->lease);
    job->host->set_delay(job, 0);
    job->host->set_delay(job, -5); /* is no delay */
    pgqrs_host_end(f->host, PGQRS_RETRY, &result);
    assert_int_equal(result.delay_ms, 0);
    job = pgqrs_host_begin(f->host, f->lease);
    job->host->set_delay(job, INT64_MAX);
    pgqrs_host_end(f->host, PGQRS_SNOOZE, &result);
    assert_true(result.delay_ms < INT64_MAX / 1000 / 1000);
    job = pgqrs_host_begin(f->host, f->lease);
    job->host->set_delay(job, 5);
    pgqrs_host_end(f->host, PGQRS_FAIL, &result);
    assert_int_equal(result.delay_ms, -1);
}

static void test_enqueue(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_job_result result;
    char name[PGQRS_NAME_MAX + 2];
    memset(name, 'q', sizeof name);
    name[PGQRS_NAME_MAX + 1] = 0;
    struct pgqrs_job *job = pgqrs_host_begin(f->host, f->lease);
    assert_int_equal(enqueue(job, NULL, "1"), -1);
    assert_int_equal(enqueue(job, "", "1"), -1);
    assert_int_equal(enqueue(job, name, "1"), -1);
    assert_int_equal(enqueue(job, "b\xff", "1"), -1);
    assert_int_equal(enqueue(job, "b", "one"), -1);
    assert_int_equal(job->host->enqueue(job, "b", "1", 1, -1, 0), -1);
    name[PGQRS_NAME_MAX] = 0;
    for (int i = 0; i < PGQRS_ENQUEUES_MAX; i++) {
        assert_int_equal(job->host->enqueue(job, name, "[2]", 3, i, -i), 0);
    }
    assert_int_equal(enqueue(job, "b", "1"), -1);
    pgqrs_host_end(f->host, PGQRS_SNOOZE, &result);
    assert_int_equal(result.enqueue_count, PGQRS_ENQUEUES_MAX);
    assert_string_equal(result.enqueues[999].queue, name);
    assert_int_equal(result.enqueues[999].payload.len, 3);
    assert_memory_equal(result.enqueues[999].payload.data, "[2]", 3);
    assert_int_equal(result.enqueues[999].delay_ms, 999);
    assert_int_equal(result.enqueues[999].priority, -999);
}

static void test_enqueue_bytes(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_job_result result;
    char *large = malloc(PGQRS_RESULT_MAX);
    assert_non_null(large);
    memset(large, ' ', PGQRS_RESULT_MAX);
    large[0] = '1';
    struct pgqrs_job *job = pgqrs_host_begin(f->host, f->lease);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(job->host->enqueue(job, "b", large, PGQRS_RESULT_MAX, 0, 0), 0);
    }
    assert_int_equal(enqueue(job, "b", "1"), -1);
    free(large);
    pgqrs_host_cancel(f->host, 0);
    pgqrs_host_end(f->host, PGQRS_CANCELLED, &result);
    assert_int_equal(result.outcome, PGQRS_JOB_CANCELLED);
    assert_int_equal(result.enqueue_count, 0); /* a job given back has done nothing */
}

static bool is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void test_cancellation(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_job_result result;
    pgqrs_host_cancel(f->host, 0); /* nothing runs: not for the next job */
    struct pgqrs_job *job = pgqrs_host_begin(f->host, f->lease);
    int fd = job->host->cancel_fd(job);
    pgqrs_host_cancel(f->host, 18); /* another job */
    assert_int_equal(job->host->cancelled(job), 0);
    assert_false(is_readable(fd));
    pgqrs_host_cancel(f->host, 17);
    pgqrs_host_cancel(f->host, 0);
    assert_int_equal(job->host->cancelled(job), 1);
    assert_true(is_readable(fd));
    pgqrs_host_end(f->host, PGQRS_DONE, &result); /* it was finished all the same */
    assert_int_equal(result.outcome, PGQRS_JOB_DONE);
    job = pgqrs_host_begin(f->host, f->lease);
    assert_int_equal(job->host->cancelled(job), 0);
    assert_false(is_readable(fd));
    pgqrs_host_end(f->host, PGQRS_CANCELLED, &result);
    assert_int_equal(result.outcome, PGQRS_JOB_RETRY);
}

static bool expired(struct fixture *f, int64_t *wait_ms)
{
    char text[200];
    bool yes = pgqrs_host_check_limit(f->host, 0, wait_ms, text, sizeof text);
    assert_false(yes && strstr(text, "timeout: job 17 ran past its time limit of ") != text);
    return yes;
}

static void test_time_limit(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_job_result result;
    int64_t wait_ms;
    struct pgqrs_job *job = pgqrs_host_begin(f->host, f->lease);
    assert_false(expired(f, &wait_ms));
    assert_int_equal(wait_ms, -1); /* there is none */
    assert_int_equal(job->timeout_ms, 0);
    pgqrs_host_end(f->host, PGQRS_DONE, &result);

    pgqrs_host_set_limit(f->host, 20, 3600000, -1);
    assert_false(expired(f, &wait_ms));
    assert_int_equal(wait_ms, -1); /* nothing runs */
    job = pgqrs_host_begin(f->host, f->lease);
    assert_int_equal(job->timeout_ms, 20);
    do {
        assert_false(expired(f, &wait_ms));
        assert_true(wait_ms >= 0);
        (void)poll(NULL, 0, (int)(wait_ms < 20 ? wait_ms : 20));
    } while (job->host->cancelled(job) == 0);
    assert_in_range(wait_ms, 3500000, 3600000); /* the grace runs */
    pgqrs_host_cancel(f->host, 17);             /* the first reason counts */
    pgqrs_host_end(f->host, PGQRS_CANCELLED, &result);
    assert_int_equal(result.outcome, PGQRS_JOB_RETRY);
    assert_memory_equal(result.error.data, "timeout: stopped at its time limit of 20ms",
                        sizeof "timeout: stopped at its time limit of 20ms");

    (void)pgqrs_host_begin(f->host, f->lease);
    pgqrs_host_cancel(f->host, 17);
    (void)poll(NULL, 0, 25);
    assert_false(expired(f, &wait_ms));
    assert_int_equal(wait_ms, -1); /* who asked has a limit of their own */
    pgqrs_host_end(f->host, PGQRS_CANCELLED, &result);
    assert_int_equal(result.outcome, PGQRS_JOB_CANCELLED);

    pgqrs_host_set_limit(f->host, 5, 0, -1);
    (void)pgqrs_host_begin(f->host, f->lease);
    (void)poll(NULL, 0, 10);
    assert_false(expired(f, &wait_ms)); /* it is told first */
    assert_int_equal(wait_ms, 0);
    pid_t pid = fork(); /* who is told of an expired limit has to end */
    if (pid == 0) {
        _exit(expired(f, &wait_ms) ? 73 : 0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 73);
    pgqrs_host_end(f->host, PGQRS_DONE, &result);
}

/* An idle worker need not look for jobs that have begun. */
static void test_who_looks_at_the_limit_is_told(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_job_result result;
    char text[200];
    int64_t wait_ms;
    uint64_t count;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int64_t later = pgqrs_mono_ms() + 3600000;
    pgqrs_host_set_limit(f->host, 60000, 1000, fd);
    assert_false(pgqrs_host_check_limit(f->host, pgqrs_mono_ms() + 1000, &wait_ms, text, 200));
    (void)pgqrs_host_begin(f->host, f->lease);
    assert_false(is_readable(fd)); /* it looks in time */
    pgqrs_host_end(f->host, PGQRS_DONE, &result);

    assert_false(pgqrs_host_check_limit(f->host, later, &wait_ms, text, 200));
    assert_int_equal(wait_ms, -1);
    (void)pgqrs_host_begin(f->host, f->lease);
    assert_int_equal(read(fd, &count, sizeof count), sizeof count);
    assert_false(pgqrs_host_check_limit(f->host, later, &wait_ms, text, 200));
    assert_in_range(wait_ms, 30000, 60000);
    pgqrs_host_end(f->host, PGQRS_DONE, &result);
    (void)pgqrs_host_begin(f->host, f->lease);
    assert_false(is_readable(fd)); /* it looks when the one before would have had to end */
    pgqrs_host_end(f->host, PGQRS_DONE, &result);

    /* One that is stopped as it begins has only the grace. */
    pgqrs_host_set_limit(f->host, 0, 1000, fd);
    assert_false(pgqrs_host_check_limit(f->host, later, &wait_ms, text, 200));
    pgqrs_host_stop(f->host, &f->lease->key, PGQRS_CANCEL_REQUEST);
    (void)pgqrs_host_begin(f->host, f->lease);
    assert_true(is_readable(fd));
    pgqrs_host_end(f->host, PGQRS_CANCELLED, &result);
    (void)close(fd);
}

static void test_stops_by_request(void **state)
{
    struct fixture *f = *state;
    const struct pgqrs_job_key key = f->lease->key;
    const struct pgqrs_job_key older = {.id = key.id, .attempt = key.attempt - 1};
    struct pgqrs_job_result result;
    int64_t wait_ms;
    pgqrs_host_set_limit(f->host, 0, 3600000, -1);
    struct pgqrs_job *job = pgqrs_host_begin(f->host, f->lease);
    pgqrs_host_stop(f->host, &older, PGQRS_CANCEL_REQUEST);
    assert_int_equal(job->host->cancelled(job), PGQRS_CANCEL_NONE);
    pgqrs_host_stop(f->host, &key, PGQRS_CANCEL_REQUEST);
    pgqrs_host_stop(f->host, NULL, PGQRS_CANCEL_INTERRUPT); /* the first reason counts */
    assert_int_equal(job->host->cancelled(job), PGQRS_CANCEL_REQUEST);
    assert_false(expired(f, &wait_ms));
    assert_in_range(wait_ms, 3500000, 3600000);
    pgqrs_host_end(f->host, PGQRS_CANCELLED, &result);
    assert_int_equal(result.outcome, PGQRS_JOB_CANCELLED);
    assert_int_equal(pgqrs_host_was_cancelled(f->host), PGQRS_CANCEL_REQUEST);

    pgqrs_host_stop(f->host, NULL, PGQRS_CANCEL_INTERRUPT); /* nothing runs */
    pgqrs_host_stop(f->host, &key, PGQRS_CANCEL_REQUEST);   /* it may be about to */
    job = pgqrs_host_begin(f->host, f->lease);
    assert_int_equal(job->host->cancelled(job), PGQRS_CANCEL_REQUEST);
    pgqrs_host_end(f->host, PGQRS_DONE, &result);
    assert_int_equal(result.outcome, PGQRS_JOB_DONE);

    pgqrs_host_set_limit(f->host, 0, 0, -1);
    (void)pgqrs_host_begin(f->host, &(struct worker_lease){.key = {.id = 99, .attempt = 1}});
    pgqrs_host_stop(f->host, NULL, PGQRS_CANCEL_INTERRUPT);
    pid_t pid = fork(); /* who is told of an expired limit has to end */
    if (pid == 0) {
        char text[200];
        bool yes = pgqrs_host_check_limit(f->host, 0, &wait_ms, text, sizeof text);
        _exit(yes && strstr(text, "interrupted: job 99 did not stop") == text ? 73 : 0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 73);
    pgqrs_host_end(f->host, PGQRS_DONE, &result);
}

static void test_wrong_moment(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_job_result result;
    struct pgqrs_job *job = pgqrs_host_begin(f->host, f->lease);
    struct pgqrs_job copy = *job;
    assert_int_equal(set_result(&copy, "1"), -1);
    assert_int_equal(enqueue(&copy, "b", "1"), -1);
    copy.host->set_error(&copy, "not stored");
    copy.host->log(&copy, PGQRS_LEVEL_DEBUG, "not of this job");
    assert_int_equal(pgqrs_host_functions.set_result(NULL, "1", 1), -1);
    assert_int_equal(pgqrs_host_functions.cancelled(NULL), 0);
    assert_int_equal(pgqrs_host_functions.cancel_fd(NULL), -1);
    pgqrs_host_functions.log(NULL, (enum pgqrs_level)99, "odd, but logged");
    pgqrs_host_functions.log(NULL, PGQRS_LEVEL_ERROR, NULL);
    pgqrs_host_end(f->host, PGQRS_FAIL, &result);
    assert_int_equal(result.error.len, 0);
    assert_int_equal(pgqrs_host_functions.set_result(job, "1", 1), -1);
    assert_int_equal(pgqrs_host_functions.cancel_fd(job), -1);
}

static void *cancel_from_a_thread(void *host)
{
    pgqrs_host_cancel(host, 17);
    return NULL;
}

static void test_cancellation_from_another_thread(void **state)
{
    struct fixture *f = *state;
    struct pgqrs_job_result result;
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        struct pgqrs_job *job = pgqrs_host_begin(f->host, f->lease);
        assert_int_equal(pthread_create(&thread, NULL, cancel_from_a_thread, f->host), 0);
        struct pollfd p = {.fd = job->host->cancel_fd(job), .events = POLLIN};
        assert_int_equal(poll(&p, 1, 20000), 1);
        assert_int_equal(job->host->cancelled(job), 1);
        pgqrs_host_end(f->host, PGQRS_CANCELLED, &result);
        assert_int_equal(result.outcome, PGQRS_JOB_CANCELLED);
        (void)pthread_join(thread, NULL);
        assert_false(is_readable(p.fd));
    }
}

#define HOST_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        HOST_TEST(test_view),
        HOST_TEST(test_result),
        HOST_TEST(test_error),
        cmocka_unit_test(test_utf8),
        HOST_TEST(test_delays),
        HOST_TEST(test_enqueue),
        HOST_TEST(test_enqueue_bytes),
        HOST_TEST(test_cancellation),
        HOST_TEST(test_stops_by_request),
        HOST_TEST(test_time_limit),
        HOST_TEST(test_who_looks_at_the_limit_is_told),
        HOST_TEST(test_who_looks_at_the_limit_is_told),
        HOST_TEST(test_wrong_moment),
        HOST_TEST(test_cancellation_from_another_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
