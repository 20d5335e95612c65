/* SPDX-License-Identifier: Apache-2.0 */
/* pgqrs at a terminal and away from one: what it shows again and again, and what it asks. */
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/support/shell.h"

#define REDRAW "\033[H\033[J"

struct program {
    pid_t pid;
    int fd; /* the terminal, or the reading end of standard output */
    size_t len;
    char text[SHELL_TEXT_MAX]; /* all that came so far */
};

static int setup_with_messages(void **state)
{
    int rc = shell_setup(state);
    ok(*state, "p admin install && p queue create a && p message enqueue a 1 && "
               "p message enqueue a 2");
    return rc;
}

static void start(struct program *p, bool terminal, const char *const *words)
{
    char *path = realpath(built("bin/pgqrs"), NULL);
    int fds[2] = {-1, -1};
    assert_non_null(path);
    p->len = 0;
    p->text[0] = 0;
    if (terminal) {
        p->pid = forkpty(&p->fd, NULL, NULL, NULL);
    } else {
        assert_int_equal(pipe(fds), 0);
        p->pid = fork();
        p->fd = fds[0];
    }
    assert_true(p->pid >= 0);
    if (p->pid == 0) {
        if (!terminal) {
            (void)dup2(fds[1], STDOUT_FILENO);
            (void)close(fds[0]);
            (void)close(fds[1]);
        }
        (void)execv(path, (char *const *)(uintptr_t)words);
        _exit(127);
    }
    if (!terminal) {
        (void)close(fds[1]);
    }
    free(path);
}

#define START(p, terminal, ...)                                                                    \
    start(p, terminal, (const char *const[]){"pgqrs", __VA_ARGS__, NULL})

static void give_up(const struct program *p, const char *what)
{
    (void)kill(p->pid, SIGKILL);
    (void)waitpid(p->pid, NULL, 0);
    fail_msg("expected %s, found: %s", what, p->text);
}

/* False at the end of what the program prints. */
static bool read_more(struct program *p, int64_t deadline_ms)
{
    struct pollfd ready = {.fd = p->fd, .events = POLLIN};
    int64_t left = deadline_ms - pgqrs_mono_ms();
    if (left <= 0 || poll(&ready, 1, (int)left) != 1 || p->len + 1 >= sizeof p->text) {
        give_up(p, "more, or the end");
    }
    /* A terminal that nobody holds open any more gives an error instead of an end. */
    ssize_t n = read(p->fd, p->text + p->len, sizeof p->text - 1 - p->len);
    p->len += n > 0 ? (size_t)n : 0;
    p->text[p->len] = 0;
    return n > 0;
}

static int times(const char *text, const char *part)
{
    int count = 0;
    for (; (text = strstr(text, part)) != NULL; text += strlen(part)) {
        count++;
    }
    return count;
}

static void await(struct program *p, const char *part, int count)
{
    int64_t deadline = pgqrs_mono_ms() + WAIT_MS;
    while (times(p->text, part) < count) {
        if (!read_more(p, deadline)) {
            give_up(p, part);
        }
    }
}

static void type(const struct program *p, const char *keys)
{
    assert_int_equal(write(p->fd, keys, strlen(keys)), strlen(keys));
}

/* The exit status; 128 + signal when it was killed. */
static int finish(struct program *p)
{
    int64_t deadline = pgqrs_mono_ms() + WAIT_MS;
    int status = 0;
    while (read_more(p, deadline)) {
    }
    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
    (void)close(p->fd);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- watching ---- */

static void watch_until(int signal)
{
    static struct program p;
    START(&p, false, "queue", "metrics", "--watch=100ms");
    await(&p, "READY", 3);
    assert_int_equal(kill(p.pid, signal), 0);
    assert_int_equal(finish(&p), 0);
    assert_null(strstr(p.text, "\033"));
    assert_true(strncmp(p.text, "READY", 5) == 0);
    /* An empty line between each two of them. */
    assert_int_equal(times(p.text, "\n\nREADY"), times(p.text, "READY") - 1);
    assert_int_equal(times(p.text, "  a\n"), times(p.text, "READY"));
}

static void test_watch_ends_at_an_interrupt(void **state)
{
    (void)state;
    watch_until(SIGINT);
}

static void test_watch_ends_at_a_termination(void **state)
{
    (void)state;
    watch_until(SIGTERM);
}

static void test_watch_prints_one_document_a_line(void **state)
{
    const struct fixture *f = *state;
    static struct program p;
    int lines = 0;
    int64_t ready = 2;
    START(&p, false, "queue", "metrics", "a", "-o", "json", "--watch=100ms");
    await(&p, "\"ready\":2", 2);
    ok(f, "p message enqueue a 3");
    await(&p, "\"ready\":3", 1);
    assert_int_equal(kill(p.pid, SIGINT), 0);
    assert_int_equal(finish(&p), 0);
    assert_int_equal(p.text[p.len - 1], '\n');
    char *rest = p.text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL && rest != NULL; lines++) {
        json_error_t why;
        json_t *json = json_loads(line, 0, &why);
        if (json == NULL) {
            fail_msg("not one JSON document: %s\n%s", why.text, line);
        }
        assert_int_equal(json_array_size(json), 1);
        json_t *now = json_object_get(json_array_get(json, 0), "ready");
        assert_true(json_integer_value(now) >= ready);
        ready = json_integer_value(now);
        json_decref(json);
    }
    assert_true(lines >= 3);
    assert_int_equal(ready, 3);
}

static void test_watch_redraws_a_terminal(void **state)
{
    const struct fixture *f = *state;
    static struct program p;
    START(&p, true, "queue", "metrics", "--watch=100ms");
    await(&p, REDRAW, 2);
    ok(f, "p queue create b");
    await(&p, "  b\r\n", 1);
    type(&p, "\003"); /* what Ctrl-C sends */
    assert_int_equal(finish(&p), 0);
    assert_true(strncmp(p.text, REDRAW, strlen(REDRAW)) == 0);
    assert_int_equal(times(p.text, REDRAW), times(p.text, "READY"));
    assert_int_equal(times(p.text, "\r\n\r\n"), 0);
}

static void test_watch_with_json_does_not_redraw(void **state)
{
    (void)state;
    static struct program p;
    START(&p, true, "queue", "metrics", "--watch=100ms", "-o", "json");
    await(&p, "}]\r\n", 2);
    assert_int_equal(kill(p.pid, SIGTERM), 0);
    assert_int_equal(finish(&p), 0);
    assert_null(strstr(p.text, "\033"));
}

static void test_watch_ends_at_a_failure(void **state)
{
    const struct fixture *f = *state;
    assert_int_equal(sh(f, "p queue metrics none --watch=100ms"), 1);
    says(shell_err, "queue \"none\" does not exist");
    assert_int_equal(sh(f, "p queue metrics --watch=99ms"), 2);
    says(shell_err, "--watch: found \"99ms\", expected seconds, or a duration from 100ms");
    assert_int_equal(sh(f, "p queue metrics --watch=0"), 2);
    assert_int_equal(sh(f, "p queue metrics --watch=2d"), 2);
    assert_string_equal(shell_out, "");
}

/* ---- asking ---- */

static int messages(const struct fixture *f)
{
    return (int)db_number(&f->scratch, "select count(*) from pgqrs_messages");
}

static void test_a_question_that_is_not_answered_yes_changes_nothing(void **state)
{
    const struct fixture *f = *state;
    static const char *const answers[] = {"n\n", "\n", "no\n", "yesterday\n", "\004"};
    static struct program p;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        START(&p, true, "queue", "purge", "a");
        await(&p, "delete 0 archived, 2 pending and 0 leased messages of queue \"a\"? [y/N] ", 1);
        type(&p, answers[i]);
        assert_int_equal(finish(&p), 1);
        says(p.text, "nothing was changed");
        assert_int_equal(messages(f), 2);
    }
    START(&p, true, "message", "delete", "1", "2");
    await(&p, "delete 2 messages, 1 to 2? [y/N] ", 1);
    type(&p, "\003");
    assert_int_equal(finish(&p), 128 + SIGINT);
    assert_int_equal(messages(f), 2);
}

static void test_a_question_that_is_answered_yes(void **state)
{
    const struct fixture *f = *state;
    static struct program p;
    START(&p, true, "message", "delete", "1");
    await(&p, "delete message 1? [y/N] ", 1);
    assert_int_equal(messages(f), 2);
    type(&p, "y\n");
    assert_int_equal(finish(&p), 0);
    assert_int_equal(messages(f), 1);
    START(&p, true, "queue", "purge", "a");
    await(&p, "1 pending and 0 leased messages of queue \"a\"? [y/N] ", 1);
    type(&p, "yes\n");
    assert_int_equal(finish(&p), 0);
    assert_int_equal(messages(f), 0);
}

static void test_yes_is_not_asked(void **state)
{
    const struct fixture *f = *state;
    static struct program p;
    START(&p, true, "queue", "purge", "a", "--yes");
    assert_int_equal(finish(&p), 0);
    assert_null(strstr(p.text, "[y/N]"));
    assert_int_equal(messages(f), 0);
}

static void test_nobody_to_ask_is_a_refusal(void **state)
{
    static const char *const commands[] = {"queue purge a", "message delete 1", "queue delete a",
                                           "dlq purge --older-than 0",
                                           "worker purge --older-than 0"};
    const struct fixture *f = *state;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        assert_int_equal(sh(f, "echo y | p %s", commands[i]), 2);
        says(shell_err, "found neither --yes nor a terminal to ask at");
        assert_null(strstr(shell_err, "[y/N]"));
        assert_int_equal(sh(f, "p %s </dev/null", commands[i]), 2);
    }
    assert_int_equal(messages(f), 2);
    ok(f, "p message delete 1 --yes </dev/null");
    assert_int_equal(messages(f), 1);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup_with_messages, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_watch_ends_at_an_interrupt),
        TEST(test_watch_ends_at_a_termination),
        TEST(test_watch_prints_one_document_a_line),
        TEST(test_watch_redraws_a_terminal),
        TEST(test_watch_with_json_does_not_redraw),
        TEST(test_watch_ends_at_a_failure),
        TEST(test_a_question_that_is_not_answered_yes_changes_nothing),
        TEST(test_a_question_that_is_answered_yes),
        TEST(test_yes_is_not_asked),
        TEST(test_nobody_to_ask_is_a_refusal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
