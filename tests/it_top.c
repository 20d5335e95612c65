/* SPDX-License-Identifier: Apache-2.0 */
/* pgqrs top in a terminal, on a real pgqrsd. */
#include <locale.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include <cmocka.h>

#include "tests/support/shell.h"
#include "tests/support/tmux.h"

#define LONG "{\"ms\":600000}"
#define PAUSED                                                                                     \
    "select count(*) from pgqrs_queues where queue_name = 'work' and pgqrsd_paused_at is not null"
#define CANCELLED                                                                                  \
    "select count(*) from pgqrs_messages where id = 1 and pgqrsd_outcome = 'cancelled'"

static struct tmux tmux; /* its teardown comes before that of the fixture, whatever happens */

static int setup(void **state)
{
    return shell_setup(state);
}

static int teardown(void **state)
{
    const struct fixture *f = *state;
    tmux_stop(&tmux);
    if (f->daemon.pid > 0) {
        (void)kill(f->daemon.pid, SIGCONT);
    }
    return fixture_teardown(state);
}

static void configure(const struct fixture *f, int consumers)
{
    char path[128];
    daemon_config(&f->scratch,
                  "queues:\n"
                  "  work: {handler: %s, consumers: %d, settings: {file: %s}}\n"
                  "  mail: {handler: %s}\n",
                  built("tests/handlers/effect.so"), consumers, f->scratch.effects,
                  built("tests/handlers/noop.so"));
    (void)snprintf(path, sizeof path, "%s/pgqrsd.yaml", f->scratch.dir);
    (void)setenv("PGQRS_CONFIG_FILE", path, 1);
}

static void start_daemon(struct fixture *f, int consumers)
{
    (void)remove(f->daemon.log);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "ready pid=", 2 + consumers);
}

static void start_top(const struct fixture *f)
{
    tmux_start(&tmux, &f->scratch, 80, 24);
    tmux_line(&tmux, "p top --interval 100ms; echo exit=$?");
    tmux_await(&tmux, "q quit");
}

static void quit_top(void)
{
    tmux_do(&tmux, "send-keys q");
    tmux_await(&tmux, "exit=0");
}

static void keys(const char *words)
{
    tmux_do(&tmux, "send-keys %s", words);
}

/* The line on the screen that begins with a text; "" when there is none. */
static const char *line_of(const char *beginning)
{
    static char line[512];
    size_t len = strlen(beginning);
    line[0] = 0;
    for (const char *at = tmux_look(&tmux); at != NULL && *at != 0;
         at = strchr(at, '\n') == NULL ? NULL : strchr(at, '\n') + 1) {
        if (strncmp(at, beginning, len) == 0) {
            (void)snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
            break;
        }
    }
    return line;
}

struct part {
    const char *beginning, *part;
};

static bool line_has(const void *arg)
{
    const struct part *p = arg;
    return strstr(line_of(p->beginning), p->part) != NULL;
}

static void await_line(const char *beginning, const char *part)
{
    const struct part p = {.beginning = beginning, .part = part};
    if (!wait_for(line_has, &p, WAIT_MS)) {
        fail_msg("expected a line \"%s\" with \"%s\", found:\n%s", beginning, part, tmux.screen);
    }
}

/* Where the text is on the screen that was looked at last. */
static size_t place_of(const char *text)
{
    const char *at = strstr(tmux.screen, text);
    if (at == NULL) {
        fail_msg("expected \"%s\", found:\n%s", text, tmux.screen);
    }
    return (size_t)(at - tmux.screen);
}

/* ---- what is shown, and what keys do to it ---- */

static void test_rows_sorting_filter_and_pause(void **state)
{
    struct fixture *f = *state;
    configure(f, 2);
    start_daemon(f, 2);
    cli_ok(&f->scratch, NULL, "queue", "create",
           "gr\xc3\xbc\xc3\x9f"
           "e",
           "bad\033[7m");
    fixture_enqueue(f, 1, LONG);
    fixture_enqueue(f, 1, "{\"outcome\":\"fail\"}");
    cli_ok(&f->scratch, NULL, "message", "enqueue", "mail", "{}", "--delay", "1h");
    effects_await(&f->scratch, "start ", 2);
    start_top(f);
    await_line(" work", "2/2");
    await_line("pgqrsd 0.1.0 \"pgqrsd\": running, up ", "store up, log level info");
    await_line(" work", " 1 "); /* runs, and one is dead */
    await_line(" work            0", "busy");
    await_line(" work            1", "ready");
    await_line(">bad\\x1b[7m", " - ");
    await_line(" gr\xc3\xbc\xc3\x9f"
               "e",
               " - ");
    await_line("4 queues, 3/3 workers", "done/s");
    await_line(" mail              0     0      1      0", "1/1"); /* delayed */
    await_line(" work            0", "0.0"); /* how busy its processor is, is known */

    keys("s s s s"); /* by dead letters: work is before the others */
    tmux_await(&tmux, "s sort: dead");
    assert_true(place_of(" work ") < place_of(" mail "));
    assert_non_null(strstr(line_of(">bad\\x1b[7m"), " 0 ")); /* is still the selected one */
    keys("r");
    tmux_await(&tmux, "s sort: dead, reversed");
    assert_true(place_of(" mail ") < place_of(" work "));

    keys("/");
    keys("-l WO");
    tmux_await(&tmux, "filter: WO_");
    tmux_await_no(&tmux, " mail ");
    keys("Enter");
    await_line(">work", "2/2");
    keys("p");
    db_await(&f->scratch, PAUSED, 1);
    await_line(">work", "paused");
    tmux_await(&tmux, "paused: queue \"work\"");
    keys("p");
    db_await(&f->scratch, PAUSED, 0);
    tmux_await(&tmux, "resumed: queue \"work\"");
    keys("Escape");
    await_line(" mail", "1/1");
    keys("h");
    tmux_await(&tmux, "any key goes back");
    keys("h");
    tmux_await(&tmux, "q quit  h help");
    quit_top();
}

static void test_cancelling_and_killing(void **state)
{
    struct fixture *f = *state;
    char pid[16];
    configure(f, 1);
    start_daemon(f, 1);
    fixture_enqueue(f, 1, LONG);
    effects_await(&f->scratch, "start 1", 1);
    start_top(f);
    await_line(" work            0", "busy");
    keys("Tab");
    keys("k"); /* for no worker of mail */
    tmux_await(&tmux, "kill (y/n)? worker 0, pid ");
    keys("n");
    tmux_await(&tmux, "nothing was changed");
    keys("c");
    tmux_await(&tmux, "worker 0 of queue \"mail\" has no job");
    keys("Down c");
    tmux_await(&tmux, "cancel (y/n)? job 1, worker 0, queue \"work\"");
    assert_int_equal(db_number(&f->scratch, CANCELLED), 0);
    keys("y");
    tmux_await(&tmux, "job 1: its worker is asked to stop it");
    db_await(&f->scratch, CANCELLED, 1);
    await_line(">work            0", "ready");

    assert_int_equal(sscanf(line_of(">work"), ">work 0 %15s", pid), 1);
    assert_true(strtol(pid, NULL, 10) > 1);
    keys("k");
    tmux_await(&tmux, "kill (y/n)? worker 0, pid ");
    says(tmux.screen, pid);
    keys("y");
    tmux_await(&tmux, "killed: worker 0, pid ");
    says(tmux.screen, pid);
    daemon_await_log(&f->daemon, "by request (pgqrs ctl kill)", 1);
    keys("Down"); /* takes away what was said */
    tmux_await_no(&tmux, pid);
    await_line(">work            0", "ready");
    assert_true(process_gone((pid_t)strtol(pid, NULL, 10)));
    quit_top();
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* ---- the terminal ---- */

/* The head is its first line and the foot its last one, no line is too long, each title is there
 * once. */
static bool is_sound(int columns, int lines)
{
    char screen[TMUX_SCREEN_MAX];
    int count = 0;
    int titles = 0;
    (void)snprintf(screen, sizeof screen, "%s", tmux_look(&tmux));
    if (strncmp(screen, "pgqrsd 0.1.0", 12) != 0) {
        return false;
    }
    for (char *line = screen; *line != 0; line += strlen(line) + 1) {
        wchar_t wide[512];
        char *end = strchr(line, '\n');
        if (end == NULL) {
            return false;
        }
        *end = 0;
        count++;
        titles += strncmp(line, " QUEUE", 6) == 0;
        size_t len = mbstowcs(wide, line, 512);
        if (len >= 512 || wcswidth(wide, len) > columns ||
            (strncmp(line, "q quit", 6) == 0) != (count == lines)) {
            return false;
        }
    }
    return count == lines && titles == 2;
}

struct size {
    int columns, lines;
};

static bool has_size(const void *arg)
{
    const struct size *size = arg;
    return is_sound(size->columns, size->lines);
}

static void resize(int columns, int lines)
{
    const struct size size = {.columns = columns, .lines = lines};
    tmux_do(&tmux, "resize-window -x %d -y %d", columns, lines);
    if (!wait_for(has_size, &size, WAIT_MS)) {
        fail_msg("%d columns, %d lines:\n%s", columns, lines, tmux.screen);
    }
}

static void test_sizes_and_scrolling(void **state)
{
    struct fixture *f = *state;
    configure(f, 12);
    start_daemon(f, 12);
    cli_ok(&f->scratch, NULL, "queue", "create",
           "\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2"
           "\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97");
    start_top(f);
    assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
    resize(80, 24);
    await_line(" work           11", "ready");
    resize(100, 30);
    assert_non_null(strstr(tmux.screen, "OLDEST"));
    resize(60, 15);
    assert_null(strstr(tmux.screen, "OLDEST"));
    await_line(" QUEUE 1/13", "SLOT");
    assert_null(strstr(tmux.screen, " work           11"));
    keys("Tab PageDown PageDown PageDown");
    await_line(">work           11", "ready");
    await_line(" QUEUE 13/13", "SLOT");
    assert_null(strstr(tmux.screen, " mail            0"));
    keys("Up PageUp PageUp PageUp");
    await_line(">mail            0", "ready");
    tmux_do(&tmux, "resize-window -x 20 -y 4");
    tmux_await(&tmux, "too small");
    resize(150, 50);
    await_line(" work           11", "ready");
    quit_top();
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_pgqrsd_goes_and_comes(void **state)
{
    struct fixture *f = *state;
    configure(f, 1);
    tmux_start(&tmux, &f->scratch, 80, 24);
    tmux_line(&tmux, "p top --interval 100ms; echo exit=$?");
    await_line("pgqrsd: not running, store down", "down");
    await_line("pgqrsd: no pgqrsd at ", ".ctl");
    await_line("store: ", "queue.db");
    start_daemon(f, 1);
    await_line("pgqrsd 0.1.0", "running");
    await_line(" work            0", "ready");
    tmux_await_no(&tmux, "store: ");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    await_line("pgqrsd: not running, store up", "up");
    tmux_await_no(&tmux, "ready");
    await_line(" work", " 0 "); /* as the store has it */
    start_daemon(f, 1);
    await_line("pgqrsd 0.1.0", "running");
    await_line(" work            0", "ready");
    /* One that is stopped answers nobody. */
    assert_int_equal(kill(f->daemon.pid, SIGSTOP), 0);
    keys("Tab");
    tmux_await(&tmux, "Tab queues");
    tmux_await(&tmux, "pgqrsd: no answer for ");
    keys("q");
    tmux_await(&tmux, "exit=0");
    assert_int_equal(kill(f->daemon.pid, SIGCONT), 0);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* What the shell says of its terminal; a program that leaves it raw shows there. */
static void terminal_is_restored(void)
{
    tmux_line(&tmux, "clear; stty -a | tr \" \" \"\\n\" | grep -c -x -e icanon -e echo -e ixon");
    tmux_await(&tmux, "3\nhere$");
}

static void test_signals_and_job_control(void **state)
{
    struct fixture *f = *state;
    configure(f, 1);
    start_daemon(f, 1);
    start_top(f);
    keys("C-c");
    tmux_await(&tmux, "exit=0");
    terminal_is_restored();
    tmux_line(&tmux, "p top & sleep 0.1; fg; echo exit=$?");
    tmux_await(&tmux, "q quit");
    keys("q");
    tmux_await(&tmux, "exit=0");
    tmux_line(&tmux, "clear; p top --interval 100ms");
    tmux_await(&tmux, "q quit");
    keys("C-z");
    tmux_await_no(&tmux, "q quit");
    terminal_is_restored();
    tmux_do(&tmux, "resize-window -x 70 -y 20");
    tmux_line(&tmux, "fg");
    resize(70, 20);
    tmux_do(&tmux, "run-shell -b 'kill -TERM $(ps -o pid= --ppid #{pane_pid})'");
    tmux_await_no(&tmux, "q quit");
    terminal_is_restored();
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* ---- without a terminal ---- */

static void test_without_a_terminal(void **state)
{
    struct fixture *f = *state;
    configure(f, 1);
    assert_int_equal(sh(f, "p top </dev/null"), 2);
    says(shell_err, "found no terminal at standard input, expected one");
    assert_int_equal(sh(f, "p top --interval 1ms -o json"), 2);
    says(shell_err, "--interval: found \"1ms\", expected 100ms to 1h");
    assert_int_equal(sh(f, "p top --config none.yaml -o json"), 78);
    assert_int_equal(sh(f, "p top -o json"), 69);
    json_t *nothing = shell_json();
    assert_true(json_is_false(json_object_get(json_object_get(nothing, "pgqrsd"), "running")));
    json_decref(nothing);
    tmux_start(&tmux, &f->scratch, 80, 24);
    tmux_line(&tmux, "TERM=dumb p top; echo exit=$?");
    tmux_await(&tmux, "exit=2");
    says(tmux.screen, "TERM: found \"dumb\", expected a terminal whose cursor can be moved");

    start_daemon(f, 1);
    fixture_enqueue(f, 1, LONG);
    effects_await(&f->scratch, "start 1", 1);
    ok(f, "p top -o json --interval 300ms");
    json_t *json = shell_json();
    const json_t *queue = json_array_get(json_object_get(json, "queues"), 1);
    const json_t *worker = json_array_get(json_object_get(json, "workers"), 1);
    assert_string_equal(json_string_value(json_object_get(queue, "name")), "work");
    assert_int_equal(json_integer_value(json_object_get(queue, "running")), 1);
    assert_true(json_is_real(json_object_get(queue, "done_per_s")));
    assert_int_equal(json_integer_value(json_object_get(worker, "job")), 1);
    assert_true(json_is_real(json_object_get(worker, "cpu_percent")));
    json_decref(json);
}

static void test_there_is_no_tmux(void **state)
{
    (void)state;
    skip();
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_rows_sorting_filter_and_pause), TEST(test_cancelling_and_killing),
        TEST(test_sizes_and_scrolling),           TEST(test_pgqrsd_goes_and_comes),
        TEST(test_signals_and_job_control),       TEST(test_without_a_terminal),
    };
    const struct CMUnitTest without[] = {cmocka_unit_test(test_there_is_no_tmux)};
    if (!tmux_is_installed()) {
        return cmocka_run_group_tests(without, NULL, NULL);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
