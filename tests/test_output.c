/* SPDX-License-Identifier: Apache-2.0 */
/* Lines on their way from a worker to the log, and what the supervisor finds when it has died. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/escape.h"
#include "base/log.h"
#include "ipc/output_page.h"
#include "supervisor/supervisor.h"

/* ---- lines ---- */

static char taken[65536];

static void on_line(void *context, enum pgqrs_stream stream, const char *text, size_t len,
                    bool continued)
{
    size_t n = strlen(taken);
    (void)context;
    (void)snprintf(taken + n, sizeof taken - n, "%d%c%.*s|", (int)stream, continued ? '+' : ':',
                   (int)len, text);
}

/* Writes into a pipe what the page then reads and takes; what was taken is in the buffer. */
static const char *take(struct pgqrs_output_page *page, const char *text, bool all)
{
    int fds[2];
    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    assert_int_equal(write(fds[1], text, strlen(text)), strlen(text));
    taken[0] = 0;
    while (pgqrs_output_fill(page, PGQRS_STREAM_OUT, fds[0], 4096) > 0) {
        pgqrs_output_take(page, PGQRS_STREAM_OUT, false, on_line, NULL);
    }
    pgqrs_output_take(page, PGQRS_STREAM_OUT, all, on_line, NULL);
    (void)close(fds[0]);
    (void)close(fds[1]);
    return taken;
}

static void test_lines_are_taken_when_they_are_whole(void **state)
{
    static struct pgqrs_output_page page;
    (void)state;
    assert_string_equal(take(&page, "one\ntwo\n\nthr", false), "0:one|0:two|0:|");
    assert_string_equal(take(&page, "ee\nfour", false), "0:three|");
    assert_string_equal(take(&page, "", true), "0:four|");
    assert_string_equal(take(&page, "", true), "");
    char tail[256];
    pgqrs_output_last(&page, tail, sizeof tail);
    assert_string_equal(tail, "one\ntwo\n\nthree\nfour");
    for (size_t i = 0; i < sizeof page.streams[0].data; i++) {
        assert_int_equal(page.streams[0].data[i], 0);
    }
}

static void test_a_long_line_is_taken_in_pieces_between_characters(void **state)
{
    static struct pgqrs_output_page page;
    static char line[20000];
    (void)state;
    line[0] = '-';
    for (size_t i = 1; i + 4 < sizeof line - 1; i += 3) {
        memcpy(line + i, "\xe2\x82\xac", 4);
    }
    size_t len = strlen(line);
    line[len] = '\n';
    const char *out = take(&page, line, false);
    size_t seen = 0;
    bool first = true;
    while (*out != 0) {
        assert_int_equal(out[1], first ? ':' : '+');
        size_t piece = strcspn(out + 2, "|");
        assert_true(piece <= PGQRS_OUTPUT_PIECE);
        assert_memory_equal(out + 2, line + seen, piece);
        assert_true((line[seen + piece] & 0xc0) != 0x80);
        seen += piece;
        out += 2 + piece + 1;
        first = false;
    }
    assert_int_equal(seen, len);
    /* One that ends where a piece does has no empty piece behind it. */
    memset(line, 'x', PGQRS_OUTPUT_PIECE);
    memcpy(line + PGQRS_OUTPUT_PIECE, "\nnext\n", 7);
    out = take(&page, line, false);
    assert_string_equal(out + 2 + PGQRS_OUTPUT_PIECE, "|0:next|");
}

static void test_the_tail_is_the_newest_whole_lines_that_fit(void **state)
{
    static struct pgqrs_output_page page;
    char text[64], tail[PGQRS_OUTPUT_TAIL];
    (void)state;
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(text, sizeof text, "line %d\n", i);
        (void)take(&page, text, false);
    }
    pgqrs_output_last(&page, tail, sizeof tail);
    assert_int_equal(strncmp(tail, "line 773\nline 774\n", 18), 0);
    assert_string_equal(tail + strlen(tail) - 8, "line 999");
    pgqrs_output_last(&page, tail, 20);
    assert_string_equal(tail, "line 998\nline 999");
    pgqrs_output_last(&page, tail, 18);
    assert_string_equal(tail, "line 998\nline 999");
    pgqrs_output_last(&page, tail, 17);
    assert_string_equal(tail, "line 999");
    pgqrs_output_last(&page, tail, 5);
    assert_string_equal(tail, " 999");
    (void)take(&page, "\x1b[1mbell\x07 \xff\n", false);
    pgqrs_output_last(&page, tail, 24);
    assert_string_equal(tail, "\\x1b[1mbell\\x07 \\xff");
}

static void test_escapes_are_cut_between_characters(void **state)
{
    char out[16];
    size_t used;
    (void)state;
    assert_int_equal(pgqrs_escape(out, sizeof out, "ab\n\xc3\xa9\"\\", 7, true, &used), 14);
    assert_string_equal(out, "ab\\u000a\xc3\xa9\\\"\\\\");
    assert_int_equal(used, 7);
    assert_int_equal(pgqrs_escape(out, 8, "ab\n\xc3\xa9", 5, true, &used), 2);
    assert_int_equal(used, 2);
    assert_int_equal(pgqrs_escape(out, sizeof out, "\xe2\x82", 2, true, NULL), 12);
    assert_string_equal(out, "\\ufffd\\ufffd");
    assert_int_equal(pgqrs_escape(out, sizeof out, "\xc2\x9b\x7f", 3, false, NULL), 8);
    assert_string_equal(out, "\\x9b\\x7f");
}

/* ---- the supervisor's side ---- */

struct world {
    struct supervisor s;
    struct pgqrs_config_queue config;
    struct queue queue;
    struct place place;
    struct child child;
    struct pgqrs_output_page *page; /* as the worker has it */
    int in[PGQRS_STREAM_COUNT];
    int log; /* what is logged can be read here */
};

static int setup(void **state)
{
    static char name[] = "work";
    struct world *w = calloc(1, sizeof *w);
    struct output_ends ends;
    struct pgqrs_error err;
    int log[2];
    assert_non_null(w);
    w->config = (struct pgqrs_config_queue){.name = name, .log_lines = 100};
    w->queue.config = &w->config;
    w->queue.name = name;
    w->place = (struct place){.s = &w->s, .role = PGQRS_ROLE_WORKER, .queue = &w->queue, .slot = 3};
    w->child = (struct child){.place = &w->place, .pid = 4711, .output = {.fds = {-1, -1}}};
    assert_int_equal(pgqrs_output_open(&w->child.output, &ends, &err), 0);
    void *page = mmap(NULL, sizeof *w->page, PROT_READ | PROT_WRITE, MAP_SHARED, ends.memory, 0);
    assert_ptr_not_equal(page, MAP_FAILED);
    assert_int_equal(ftruncate(ends.memory, 0), -1); /* it is sealed */
    w->page = page;
    w->in[0] = dup(ends.write[0]);
    w->in[1] = dup(ends.write[1]);
    assert_int_equal(fcntl(ends.read[0], F_SETFL, 0), 0); /* which hurts only the worker */
    assert_int_equal(fcntl(ends.read[1], F_SETFL, 0), 0);
    pgqrs_output_ends_close(&ends);
    assert_int_equal(pipe2(log, O_NONBLOCK), 0);
    w->log = log[0];
    pgqrs_log_set_fd(log[1]);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    pgqrs_log_set_fd(STDERR_FILENO);
    pgqrs_output_close(&w->child.output);
    (void)munmap(w->page, sizeof *w->page);
    (void)close(w->in[0]);
    (void)close(w->in[1]);
    (void)close(w->log);
    free(w);
    return 0;
}

static void put(const struct world *w, enum pgqrs_stream stream, const char *text)
{
    assert_int_equal(write(w->in[stream], text, strlen(text)), strlen(text));
}

static void buffer(struct pgqrs_output_buffer *b, const char *logged, const char *read,
                   const char *not_counted)
{
    b->start = (uint32_t)strlen(logged);
    b->end = b->start + (uint32_t)strlen(read);
    (void)snprintf(b->data, sizeof b->data, "%s%s%s", logged, read, not_counted);
}

static const char *logged(const struct world *w)
{
    static char text[65536];
    ssize_t n = read(w->log, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = 0;
    return text;
}

static void test_what_a_dead_worker_had_not_logged_is(void **state)
{
    struct world *w = *state;
    char tail[256];
    w->page->job = 12;
    buffer(&w->page->streams[PGQRS_STREAM_ERR], "old\n", "who", "le\nha");
    put(w, PGQRS_STREAM_ERR, "lf\nin the pipe\nno end");
    put(w, PGQRS_STREAM_OUT, "out\n");
    w->page->dropped = 5;
    pgqrs_output_finish(&w->child);
    const char *text = logged(w);
    const char *const expected[] = {
        " info  pgqrs-worker[4711]: queue \"work\": worker 3: job 12: stdout: out\n",
        " warn  pgqrs-worker[4711]: queue \"work\": worker 3: job 12: stderr: whole\n",
        "worker 3: job 12: stderr: half\n",
        "worker 3: job 12: stderr: in the pipe\n",
        "worker 3: job 12: stderr: no end\n",
        " warn  pgqrs-worker[4711]: queue \"work\": worker 3: 5 lines of output dropped\n"};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        text = strstr(text, expected[i]);
        assert_non_null(text);
    }
    assert_null(strstr(text, "old"));
    pgqrs_output_tail(&w->child, tail, sizeof tail);
    assert_string_equal(tail, "out\nwhole\nhalf\nin the pipe\nno end");
}

static void test_a_hostile_page_does_no_harm(void **state)
{
    struct world *w = *state;
    char tail[PGQRS_OUTPUT_TAIL];
    memset(w->page, 0xff, sizeof *w->page);
    w->page->streams[PGQRS_STREAM_ERR].start = 8000;
    w->page->streams[PGQRS_STREAM_ERR].end = 4;
    w->page->streams[PGQRS_STREAM_OUT].start = 0xfffffff0;
    w->page->streams[PGQRS_STREAM_OUT].end = 16;
    put(w, PGQRS_STREAM_ERR, "still read\n");
    pgqrs_output_finish(&w->child);
    assert_non_null(strstr(logged(w), "worker 3: stderr (continued): still read\n"));
    pgqrs_output_tail(&w->child, tail, sizeof tail);
    assert_true(strlen(tail) < sizeof tail);
    assert_non_null(strstr(tail, "still read"));
}

/* Somebody who outlives the worker writes without end; and more lines than the queue may log. */
static void test_the_rest_has_an_end(void **state)
{
    struct world *w = *state;
    static char lines[65537];
    memset(lines, '\n', sizeof lines - 1);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        while (write(w->in[PGQRS_STREAM_OUT], lines, sizeof lines - 1) > 0) {
        }
        _exit(0);
    }
    pgqrs_output_finish(&w->child);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    int count = 0;
    const char *text = logged(w);
    for (const char *at = text; (at = strstr(at, "stdout: \n")) != NULL; at++) {
        count++;
    }
    assert_true(count <= 200);
}

static void test_a_pipe_that_was_made_to_block_does_not(void **state)
{
    struct world *w = *state;
    pgqrs_output_finish(&w->child); /* nothing was written, and the writer is there */
    assert_string_equal(logged(w), "");
    char tail[16] = "x";
    pgqrs_output_tail(&w->child, tail, sizeof tail);
    assert_string_equal(tail, "");
}

static void test_a_log_that_is_full_says_so(void **state)
{
    struct world *w = *state;
    const struct pgqrs_log_tags tags = {.program = "t", .queue = "q", .stream = "stdout"};
    static char text[3000];
    int lines = 0;
    memset(text, 'x', sizeof text);
    while (pgqrs_log_output(PGQRS_LOG_INFO, &tags, text, sizeof text, 0) >= 0) {
        assert_true(++lines < 1000);
    }
    assert_true(lines > 0);
    for (const char *at = logged(w); *at != 0; at++, lines--) {
        at = strchr(at, '\n');
        assert_non_null(at); /* a line is there whole or not at all */
    }
    assert_int_equal(lines, 0);
}

int main(void)
{
#define WITH_CHILD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_are_taken_when_they_are_whole),
        cmocka_unit_test(test_a_long_line_is_taken_in_pieces_between_characters),
        cmocka_unit_test(test_the_tail_is_the_newest_whole_lines_that_fit),
        cmocka_unit_test(test_escapes_are_cut_between_characters),
        WITH_CHILD(test_what_a_dead_worker_had_not_logged_is),
        WITH_CHILD(test_a_hostile_page_does_no_harm),
        WITH_CHILD(test_the_rest_has_an_end),
        WITH_CHILD(test_a_pipe_that_was_made_to_block_does_not),
        WITH_CHILD(test_a_log_that_is_full_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
