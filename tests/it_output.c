/* SPDX-License-Identifier: Apache-2.0 */
/* What handlers write to standard output and error, in the log of a real supervisor. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/support/daemon.h"

#define DONE "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'"
#define FAILED "select count(*) from pgqrs_messages where pgqrsd_outcome = 'failed'"

/* A daemon with a queue "work" on tests/handlers/print.so, and a worker that is ready. */
static void start(struct fixture *f, const char *top, const char *queue)
{
    daemon_config(&f->scratch, "%squeues:\n  work:\n    handler: %s\n%s", top,
                  built("tests/handlers/print.so"), queue);
    daemon_start(&f->daemon, &f->scratch);
}

static void start_ready(struct fixture *f, const char *top, const char *queue)
{
    start(f, top, queue);
    daemon_await_log(&f->daemon, "ready pid=", 2);
}

static void run(struct fixture *f, const char *payload, int64_t done)
{
    fixture_enqueue(f, 1, payload);
    db_await(&f->scratch, DONE, done);
}

static void expect(const struct fixture *f, const char *text, int count)
{
    if (daemon_log_count(&f->daemon, text) != count) {
        daemon_await_log(&f->daemon, text, count + 1000); /* tells what is there */
    }
}

/* All lines of the log from this place of the file on. */
static void each_line(const struct fixture *f, void (*fn)(char *line, void *context), void *context)
{
    FILE *file = fopen(f->daemon.log, "r");
    char *line = NULL;
    size_t size = 0;
    assert_non_null(file);
    while (getline(&line, &size, file) > 0) {
        fn(line, context);
    }
    free(line);
    (void)fclose(file);
}

static void test_each_line_is_one_of_the_log(void **state)
{
    struct fixture *f = *state;
    char text[4200];
    start_ready(f, "", "");
    run(f, "{\"out\":2,\"err\":2,\"partial\":\"half a line\"}", 1);
    run(f, "{\"child\":\"from a child\"}", 2);
    /* A cursor movement, a forged line after a carriage return, C1 control, not UTF-8, a zero. */
    run(f, "{\"raw\":\"411b5b420d323032362d20c285ff00c3a92e0a0a42\"}", 3);
    run(f, "{\"long\":7000}", 4);
    run(f, "{\"out\":1}", 5);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);

    expect(f, "]: queue \"work\": worker 0: stdout: print: init\n", 1);
    expect(f, "]: queue \"work\": worker 0: stdout: print: fini\n", 1);
    expect(f, " info  pgqrs-worker[", 13);
    expect(f, " warn  pgqrs-worker[", 2);
    expect(f, "worker 0: job 1: stdout: out 1 0\n", 1);
    expect(f, "worker 0: job 1: stdout: out 1 1\n", 1);
    expect(f, "worker 0: job 1: stdout: half a line\n", 1);
    expect(f, "worker 0: job 1: stderr: err 1 0\n", 1);
    expect(f, "worker 0: job 1: stderr: err 1 1\n", 1);
    expect(f, "worker 0: job 2: stdout: from a child\n", 1);
    expect(f, "worker 0: job 3: stdout: A\\x1b[B\\x0d2026- \\x85\\xff\\x00\xc3\xa9.\n", 1);
    expect(f, "worker 0: job 3: stdout: \n", 1);
    expect(f, "worker 0: job 3: stdout: B\n", 1);
    memset(text, 'x', sizeof text);
    memcpy(text, "stdout: ", 8);
    text[8 + 3072] = 0;
    expect(f, text, 1);
    memcpy(text, "stdout (continued): ", 20);
    text[8 + 3072] = 'x';
    text[20 + 3072] = 0;
    expect(f, text, 1);
    text[20 + 856] = '\n';
    text[20 + 857] = 0;
    expect(f, text, 1);
    expect(f, "worker 0: job 5: stdout: out 5 0\n", 1);
}

struct json_count {
    int lines, output, continued;
    json_int_t x;
};

static void check_json(char *line, void *context)
{
    struct json_count *count = context;
    json_error_t why;
    json_t *record = json_loads(line, 0, &why);
    if (record == NULL) {
        fail_msg("%s: %s", why.text, line);
    }
    const char *stream = json_string_value(json_object_get(record, "stream"));
    const char *text = json_string_value(json_object_get(record, "message"));
    json_int_t job = json_integer_value(json_object_get(record, "job"));
    count->lines++;
    assert_non_null(text);
    if (stream != NULL) {
        count->output++;
        assert_string_equal(json_string_value(json_object_get(record, "program")), "pgqrs-worker");
        assert_string_equal(json_string_value(json_object_get(record, "queue")), "wo\"rk");
        assert_true(json_is_integer(json_object_get(record, "worker")));
        count->continued += json_is_true(json_object_get(record, "continued")) ? 1 : 0;
    }
    if (job == 1 && stream != NULL && strcmp(stream, "stdout") == 0) {
        assert_string_equal(text, "A\x1b\"\\\xef\xbf\xbd\xc3\xa9");
    } else if (job == 1) {
        assert_string_equal(text, "err 1 0");
        assert_string_equal(json_string_value(json_object_get(record, "level")), "warn");
    } else if (job == 2) {
        assert_int_equal(strspn(text, "x"), strlen(text));
        count->x += (json_int_t)strlen(text);
    } else if (stream != NULL) {
        assert_int_equal(strncmp(text, "print: ", 7), 0);
    }
    json_decref(record);
}

static void test_in_json_each_is_a_record(void **state)
{
    struct fixture *f = *state;
    struct json_count count = {0};
    daemon_config(&f->scratch,
                  "log: {format: json}\n"
                  "queues:\n"
                  "  'wo\"rk':\n"
                  "    handler: %s\n",
                  built("tests/handlers/print.so"));
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "ready pid=", 2);
    cli_ok(&f->scratch, NULL, "message", "enqueue", "wo\"rk",
           "{\"err\":1,\"raw\":\"411b225cffc3a9\"}");
    cli_ok(&f->scratch, NULL, "message", "enqueue", "wo\"rk", "{\"long\":5000}");
    db_await(&f->scratch, DONE, 2);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    each_line(f, check_json, &count);
    assert_true(count.lines > 8);
    assert_int_equal(count.output, 6);
    assert_int_equal(count.continued, 1);
    assert_int_equal(count.x, 5000);
}

static void check_tag(char *line, void *context)
{
    long long tag, said;
    int *count = context;
    const char *at = strstr(line, ": job ");
    const char *text = strstr(line, ": out ");
    text = text == NULL ? strstr(line, ": err ") : text;
    if (text == NULL) {
        return;
    }
    if (at == NULL || sscanf(at, ": job %lld", &tag) != 1 || sscanf(text + 6, "%lld", &said) != 1 ||
        tag != said) {
        fail_msg("another job's: %s", line);
    }
    (*count)++;
}

static void test_lines_are_of_the_job_that_wrote_them(void **state)
{
    struct fixture *f = *state;
    int count = 0;
    start_ready(f, "", "    consumers: 2\n    prefetch: 50\n    log_lines: 0\n");
    fixture_enqueue(f, 500, "{\"out\":3,\"err\":2}");
    db_await(&f->scratch, DONE, 500);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    each_line(f, check_tag, &count);
    assert_int_equal(count, 2500);
}

/* Every worker dies at the same time as the others, with its words still on the way. */
static void test_last_words_arrive_whole(void **state)
{
    struct fixture *f = *state;
    char text[96];
    start(f, "", "    consumers: 12\n    on_crash: 1\n    restart: {max: 100}\n");
    daemon_await_log(&f->daemon, "ready pid=", 13);
    fixture_enqueue(f, 12, "{\"out\":1,\"then\":\"abort\"}");
    db_await(&f->scratch, FAILED, 12);
    for (int id = 1; id <= 12; id++) {
        (void)snprintf(text, sizeof text, ": job %d: stdout: out %d 0\n", id, id);
        daemon_await_log(&f->daemon, text, 1);
        (void)snprintf(text, sizeof text, ": job %d: stderr: print: last words before abort\n", id);
        daemon_await_log(&f->daemon, text, 1);
    }
    fixture_enqueue(f, 1, "{\"then\":\"assert\"}");
    db_await(&f->scratch, FAILED, 13);
    daemon_await_log(&f->daemon, ": job 13: stderr: pgqrs-worker: tests/handlers/print.c:", 1);
    daemon_await_log(&f->daemon, "Assertion `strcmp(how, \"assert\") != 0' failed.\n", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void add_dropped(char *line, void *context)
{
    const char *at = strstr(line, ": worker 0: ");
    long long *dropped = context;
    if (at != NULL && strstr(line, "lines of output dropped") != NULL) {
        *dropped += strtoll(at + strlen(": worker 0: "), NULL, 10);
    }
}

static void test_what_is_too_much_is_dropped_and_counted(void **state)
{
    struct fixture *f = *state;
    long long dropped = 0;
    start_ready(f, "", "    log_lines: 20\n");
    run(f, "{\"out\":5000}", 1);
    daemon_await_log(&f->daemon, "lines of output dropped", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    each_line(f, add_dropped, &dropped);
    int logged = daemon_log_count(&f->daemon, ": stdout: ");
    assert_int_equal(dropped + logged, 5002); /* with those of init and fini */
    assert_true(logged >= 40);
    assert_true(dropped > 0);
}

static void test_the_level_counts_for_output_too(void **state)
{
    struct fixture *f = *state;
    start(f, "log: {level: warn}\n", "");
    db_await(&f->scratch, "select count(*) from pgqrs_queues", 1);
    run(f, "{\"out\":1,\"err\":1}", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    expect(f, "stdout", 0);
    expect(f, "stderr: err 1 0\n", 1);
}

/* The log is a pipe that nobody reads: handlers go on. */
static void test_a_log_that_nobody_reads_holds_up_no_job(void **state)
{
    struct fixture *f = *state;
    char path[96], ready[4096] = "";
    (void)snprintf(path, sizeof path, "%s/log", f->scratch.dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    int log = open(path, O_RDWR | O_CLOEXEC);
    assert_true(log >= 0);
    start(f, "", "    log_lines: 0\n");
    for (size_t n = 0; strstr(ready, "worker 0: ready") == NULL;) {
        ssize_t got = read(log, ready + n, sizeof ready - 1 - n);
        assert_true(got > 0);
        n += (size_t)got;
    }
    run(f, "{\"out\":20000}", 1);
    run(f, "{\"out\":20000}", 2);
    assert_int_equal(kill(f->daemon.pid, SIGKILL), 0);
    assert_int_equal(daemon_wait(&f->daemon), 128 + SIGKILL);
    (void)close(log);
    (void)unlink(path);
}

static void test_a_process_that_outlives_its_job_holds_up_none(void **state)
{
    struct fixture *f = *state;
    start_ready(f, "", "");
    run(f, "{\"straggler\":300,\"partial\":\"first\"}", 1);
    for (int i = 2; i <= 20; i++) {
        run(f, "{\"out\":1}", i);
    }
    daemon_await_log(&f->daemon, "late 1 299\n", 1);
    expect(f, "late 1 ", 300);
    expect(f, ": job 1: stdout: first", 1); /* the other may go on with the same line */
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_what_a_command_says_is_logged(void **state)
{
    struct fixture *f = *state;
    daemon_config(&f->scratch,
                  "queues:\n"
                  "  work:\n"
                  "    handler: %s\n"
                  "    settings: {command: [sh, -c, 'echo result; echo trouble >&2']}\n",
                  built("lib/pgqrs/handlers/exec.so"));
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "ready pid=", 2);
    run(f, "{}", 1);
    daemon_await_log(&f->daemon, "worker 0: job 1: stderr: trouble\n", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_sanitizers_report_is_found(void **state)
{
    struct fixture *f = *state;
#ifndef __SANITIZE_ADDRESS__
    (void)f;
    skip();
#endif
    start_ready(f, "", "    on_crash: 1\n");
    fixture_enqueue(f, 1, "{\"then\":\"asan\"}");
    db_await(&f->scratch, FAILED, 1);
    daemon_await_log(&f->daemon, ": job 1: stderr: SUMMARY: AddressSanitizer: heap-use-after-free",
                     1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_false(daemon_is_clean(&f->daemon));
    assert_int_equal(unlink(f->daemon.log), 0);
}

static void test_debug_lines_can_be_had_while_it_runs(void **state)
{
    struct fixture *f = *state;
    start_ready(f, "", "    on_crash: 1\n");
    assert_int_equal(kill(f->daemon.pid, SIGUSR1), 0);
    daemon_await_log(&f->daemon, "SIGUSR1: log level debug\n", 1);
    fixture_enqueue(f, 1, "{\"then\":\"abort\"}"); /* the next worker begins with it */
    daemon_await_log(&f->daemon, "ready pid=", 3);
    daemon_await_log(&f->daemon, " debug pgqrsd[", 1);
    daemon_await_log(&f->daemon, " debug pgqrs-broker[", 1);
    assert_int_equal(kill(f->daemon.pid, SIGTTIN), 0);
    daemon_await_log(&f->daemon, "worker 1: ready pid=", 1);
    assert_int_equal(kill(f->daemon.pid, SIGTTOU), 0);
    daemon_await_log(&f->daemon, "draining: pgqrsd says so", 1);

    assert_int_equal(kill(f->daemon.pid, SIGUSR1), 0);
    daemon_await_log(&f->daemon, "SIGUSR1: log level info\n", 1);
    int before = daemon_log_count(&f->daemon, "draining: pgqrsd says so");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(daemon_log_count(&f->daemon, "draining: pgqrsd says so"), before);
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_each_line_is_one_of_the_log),
        WITH_SCRATCH(test_in_json_each_is_a_record),
        WITH_SCRATCH(test_lines_are_of_the_job_that_wrote_them),
        WITH_SCRATCH(test_last_words_arrive_whole),
        WITH_SCRATCH(test_what_is_too_much_is_dropped_and_counted),
        WITH_SCRATCH(test_the_level_counts_for_output_too),
        WITH_SCRATCH(test_a_log_that_nobody_reads_holds_up_no_job),
        WITH_SCRATCH(test_a_process_that_outlives_its_job_holds_up_none),
        WITH_SCRATCH(test_what_a_command_says_is_logged),
        WITH_SCRATCH(test_a_sanitizers_report_is_found),
        WITH_SCRATCH(test_debug_lines_can_be_had_while_it_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
