/* SPDX-License-Identifier: Apache-2.0 */
/* A running pgqrsd is asked, and told, at its control socket. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "supervisor/supervisor.h"
#include "tests/support/daemon.h"

/* Asks as `pgqrs -o json --config DIR/pgqrsd.yaml GROUP COMMAND [WORD [WORD]]`; the answer is the
 * caller's. */
static json_t *ask(const struct fixture *f, const char *group, const char *command,
                   const char *word, const char *second)
{
    char config[96];
    char out[96];
    (void)snprintf(config, sizeof config, "%s/pgqrsd.yaml", f->scratch.dir);
    (void)snprintf(out, sizeof out, "%s/out", f->scratch.dir);
    cli_ok(&f->scratch, NULL, "-o", "json", "--config", config, group, command, word, second);
    json_t *answer = json_load_file(out, 0, NULL);
    assert_non_null(answer);
    return answer;
}

static const json_t *first_queue(const json_t *status)
{
    return json_array_get(json_object_get(status, "queues"), 0);
}

static void test_status_tells_who_works_at_what(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    consumers: 2\n");
    fixture_enqueue(f, 1, "{\"ms\":600000}");
    effects_await(&f->scratch, "start ", 1);
    bool seen = false;
    for (int tries = 0; tries < 100 && !seen; tries++) { /* its next beat tells */
        json_t *status = ask(f, "ctl", "status", NULL, NULL);
        assert_string_equal(json_string_value(json_object_get(status, "state")), "running");
        assert_int_equal(json_integer_value(json_object_get(status, "pid")), f->daemon.pid);
        const json_t *workers = json_object_get(first_queue(status), "workers");
        assert_int_equal(json_array_size(workers), 2);
        for (size_t i = 0; i < 2; i++) {
            const json_t *worker = json_array_get(workers, i);
            seen = seen || json_integer_value(json_object_get(worker, "job")) == 1;
            assert_true(json_integer_value(json_object_get(worker, "memory")) > 4096);
        }
        json_decref(status);
    }
    assert_true(seen);
    assert_int_equal(daemon_stop(&f->daemon, SIGQUIT), 75);
}

static void test_deaths_are_remembered(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "    retry: {base: 1ms}\n    on_crash: 100\n    max_attempts: 100\n"
                     "    restart: {max: 100}\n");
    json_t *none = ask(f, "ctl", "deaths", NULL, NULL);
    assert_int_equal(json_array_size(none), 0);
    json_decref(none);
    pid_t pid = daemon_await_children(&f->daemon, "pgqrs-worker", 1);
    assert_int_equal(kill(pid, SIGABRT), 0);
    daemon_await_log(&f->daemon, "starting it again", 1);
    json_t *deaths = ask(f, "ctl", "deaths", "work", NULL);
    assert_int_equal(json_array_size(deaths), 1);
    const json_t *death = json_array_get(deaths, 0);
    assert_int_equal(json_integer_value(json_object_get(death, "pid")), pid);
    assert_int_equal(json_integer_value(json_object_get(death, "signal")), SIGABRT);
    assert_true(json_is_null(json_object_get(death, "job")));
    const char *at = json_string_value(json_object_get(death, "at")); /* as all times in JSON */
    assert_true(at[10] == 'T' && at[strlen(at) - 1] == 'Z');
    assert_true(json_integer_value(json_object_get(death, "peak_memory")) > 4096);
    assert_non_null(
        strstr(json_string_value(json_object_get(death, "reason")), "killed by signal 6"));
    json_decref(deaths);
    /* The table has the whole reason, however long its row becomes. */
    char text[192];
    (void)snprintf(text, sizeof text, "%s/run/pgqrsd.ctl", f->scratch.dir);
    cli_ok(&f->scratch, NULL, "--socket", text, "ctl", "deaths");
    (void)snprintf(text, sizeof text, "grep -qF 'killed by signal 6 (Aborted)' %s/out",
                   f->scratch.dir);
    assert_int_equal(system(text), 0);

    /* Many are not kept. */
    fixture_enqueue(f, 1, "{\"crash\":6}");
    db_await(&f->scratch, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'", 1);
    pid = daemon_await_children(&f->daemon, "pgqrs-broker", 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    daemon_await_log(&f->daemon, "broker: ready", 2);
    deaths = ask(f, "ctl", "deaths", NULL, NULL);
    assert_int_equal(json_array_size(deaths), 1 + 1 + 6);
    assert_true(json_is_null(json_object_get(json_array_get(deaths, 0), "queue")));
    json_decref(deaths);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* What the process wrote last and the job it ran are known though it had no time to tell. */
static void test_a_death_tells_its_job_and_its_last_lines(void **state)
{
    struct fixture *f = *state;
    daemon_config(&f->scratch, "queues: {work: {handler: %s, on_crash: 1}}\n",
                  built("tests/handlers/print.so"));
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, ": ready pid=", 2);
    fixture_enqueue(f, 1, "{\"err\":2,\"then\":\"abort\"}");
    daemon_await_log(&f->daemon, "starting it again", 1);
    json_t *deaths = ask(f, "ctl", "deaths", NULL, NULL);
    assert_int_equal(json_array_size(deaths), 1);
    const json_t *death = json_array_get(deaths, 0);
    assert_int_equal(json_integer_value(json_object_get(death, "job")), 1);
    assert_string_equal(json_string_value(json_object_get(death, "output")),
                        "print: init\nerr 1 0\nerr 1 1\nprint: last words before abort");
    json_decref(deaths);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_scaling_one_queue(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "");
    json_decref(ask(f, "worker", "scale", "work", "3"));
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 3);
    json_t *answer = ask(f, "worker", "scale", "work", "0");
    assert_int_equal(json_integer_value(json_object_get(answer, "before")), 3);
    assert_int_equal(json_integer_value(json_object_get(answer, "consumers")), 0);
    json_decref(answer);
    (void)daemon_await_children(&f->daemon, "pgqrs-worker", 0);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static int words(const struct fixture *f, const char *a, const char *b, const char *c,
                 const char *d)
{
    char socket_path[128];
    (void)snprintf(socket_path, sizeof socket_path, "%s/run/pgqrsd.ctl", f->scratch.dir);
    return cli(&f->scratch, NULL, "--socket", socket_path, a, b, c, d, (char *)NULL);
}

static void test_what_can_not_be_done_is_said(void **state)
{
    struct fixture *f = *state;
    fixture_start(f, "");
    assert_int_equal(words(f, "worker", "scale", "nobody", "1"), 1);
    assert_int_equal(words(f, "worker", "scale", "work", "1025"), 2);
    assert_int_equal(words(f, "worker", "scale", "work", "x"), 2);
    assert_int_equal(words(f, "ctl", "deaths", "nobody", NULL), 1);
    assert_int_equal(words(f, "ctl", "status", NULL, NULL), 0);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(words(f, "ctl", "status", NULL, NULL), 69);
}

/* ---- peers that do not know how to behave ---- */

static int dial(const struct fixture *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/run/pgqrsd.ctl", f->scratch.dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* What comes back until the peer closes; "" when it only closes. */
static void say(const struct fixture *f, const char *words_to_say, size_t len, char *out,
                size_t size)
{
    int fd = dial(f);
    size_t got = 0;
    while (len > 0) {
        ssize_t n = send(fd, words_to_say, len, MSG_NOSIGNAL);
        if (n <= 0) {
            break; /* it has heard enough */
        }
        words_to_say += n;
        len -= (size_t)n;
    }
    for (;;) {
        ssize_t n = recv(fd, out + got, size - 1 - got, 0);
        if (n <= 0) {
            break;
        }
        got += (size_t)n;
    }
    out[got] = 0;
    (void)close(fd);
}

static void test_nonsense_is_answered_or_dropped(void **state)
{
    static const char *const lines[] = {
        "\n",
        "{}\n",
        "[]\n",
        "{\"command\":1}\n",
        "{\"command\":\"fly\"}\n",
        "\x80\xff\n",
        "{\"command\":\"scale\",\"queue\":\"work\",\"consumers\":-1}\n",
        "{\"command\":\"scale\",\"queue\":\"work\",\"consumers\":\"2\"}\n",
        "{\"command\":\"scale\",\"queue\":7,\"consumers\":2}\n",
    };
    struct fixture *f = *state;
    char answer[2048];
    fixture_start(f, "");
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        say(f, lines[i], strlen(lines[i]), answer, sizeof answer);
        assert_non_null(strstr(answer, "\"ok\":false"));
        assert_non_null(strstr(answer, "\"error\":"));
    }
    size_t size = 200000;
    char *flood = malloc(size);
    assert_non_null(flood);
    memset(flood, 'x', size);
    say(f, flood, size, answer, sizeof answer);
    assert_string_equal(answer, "");
    free(flood);
    /* Silent ones take the room, not the daemon. */
    int silent[40];
    for (size_t i = 0; i < 40; i++) {
        silent[i] = dial(f);
    }
    fixture_enqueue(f, 1, "{}");
    effects_await(&f->scratch, "end ", 1);
    for (size_t i = 0; i < 40; i++) {
        (void)close(silent[i]);
    }
    assert_int_equal(words(f, "ctl", "status", NULL, NULL), 0);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* So many more descriptors may the daemon have. */
static void allow_descriptors(const struct fixture *f, int more)
{
    struct rlimit limit;
    char path[64];
    int free_fd = 0;
    do {
        (void)snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)f->daemon.pid, free_fd++);
    } while (faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
    assert_int_equal(prlimit(f->daemon.pid, RLIMIT_NOFILE, NULL, &limit), 0);
    limit.rlim_cur = (rlim_t)free_fd - 1 + (rlim_t)more;
    assert_int_equal(prlimit(f->daemon.pid, RLIMIT_NOFILE, &limit, NULL), 0);
}

static void test_no_descriptor_is_left_for_a_connection(void **state)
{
    struct fixture *f = *state;
    int fds[4];
    fixture_start(f, "");
    daemon_await_log(&f->daemon, "worker 0: ready", 1);
    for (int round = 1; round <= 2; round++) {
        allow_descriptors(f, 0);
        for (size_t i = 0; i < 4; i++) {
            fds[i] = dial(f);
        }
        daemon_await_log(&f->daemon, "no connection can be accepted: Too many open files", round);
        fixture_enqueue(f, 1, "{}");
        effects_await(&f->scratch, "end ", round);
        allow_descriptors(f, 20);
        assert_int_equal(words(f, "ctl", "status", NULL, NULL), 0);
        for (size_t i = 0; i < 4; i++) {
            (void)close(fds[i]);
        }
        assert_int_equal(daemon_log_count(&f->daemon, "accept"), round);
    }
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* As `nc -N` does: what it has said is the last. */
static void test_a_long_answer_to_a_peer_that_says_no_more(void **state)
{
    static const char line[] = "{\"command\":\"status\"}\n";
    struct fixture *f = *state;
    char queues[16384] = "queues:\n";
    for (int i = 0; i < 200; i++) {
        size_t len = strlen(queues);
        (void)snprintf(queues + len, sizeof queues - len, "  q%d: {handler: exec, consumers: 0}\n",
                       i);
    }
    daemon_config(&f->scratch, "%s", queues);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "broker: ready", 1);
    size_t got = 0;
    size_t size = 1000000;
    char *answer = malloc(size);
    assert_non_null(answer);
    int fd = dial(f);
    assert_int_equal(send(fd, line, sizeof line - 1, MSG_NOSIGNAL), sizeof line - 1);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    for (ssize_t n = 1; n > 0; got += n > 0 ? (size_t)n : 0) {
        n = recv(fd, answer + got, size - got, 0);
    }
    (void)close(fd);
    json_t *status = json_loadb(answer, got, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(status, "queues")), 200);
    json_decref(status);
    free(answer);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* What a plugin gives as its reason may be anything, and is cut: one of the two in a character. */
static void test_a_reason_that_is_not_utf8(void **state)
{
    struct fixture *f = *state;
    char name[1601] = "";
    for (size_t i = 0; i + 2 < sizeof name; i += 2) {
        memcpy(name + i, "\xc3\xa9", 3);
    }
    daemon_config(
        &f->scratch,
        "queues:\n  a: {handler: %s, settings: {file: /%s}}\n"
        "  b: {handler: %s, settings: {file: /x%s}}\n  c: {handler: exec, consumers: 0}\n",
        built("tests/handlers/effect.so"), name, built("tests/handlers/effect.so"), name);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "can not start, trying again", 2);
    json_t *deaths = ask(f, "ctl", "deaths", NULL, NULL);
    assert_true(json_array_size(deaths) >= 2);
    for (size_t i = 0; i < json_array_size(deaths); i++) {
        const json_t *reason = json_object_get(json_array_get(deaths, i), "reason");
        assert_true(json_is_string(reason));
        assert_non_null(strstr(json_string_value(reason), "can not open"));
    }
    json_decref(deaths);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_names_of_core_files(void **state)
{
    static const struct {
        const char *pattern;
        bool add_pid;
        const char *name;
    } cases[] = {
        {"core", false, "/dir/core"},
        {"core", true, "/dir/core.42"},
        {"core.%p", true, "/dir/core.42"},
        {"/var/%e-%s-%p%%", false, "/var/*-11-42%"},
        {"|/usr/bin/x %p", false, "given to /usr/bin/x %p"},
        {"%", false, "/dir/%"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[256];
        pgqrs_core_name(cases[i].pattern, cases[i].add_pid, "/dir", 42, 11, name, sizeof name);
        assert_string_equal(name, cases[i].name);
    }
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_of_core_files),
        WITH_SCRATCH(test_status_tells_who_works_at_what),
        WITH_SCRATCH(test_deaths_are_remembered),
        WITH_SCRATCH(test_a_death_tells_its_job_and_its_last_lines),
        WITH_SCRATCH(test_scaling_one_queue),
        WITH_SCRATCH(test_what_can_not_be_done_is_said),
        WITH_SCRATCH(test_nonsense_is_answered_or_dropped),
        WITH_SCRATCH(test_no_descriptor_is_left_for_a_connection),
        WITH_SCRATCH(test_a_long_answer_to_a_peer_that_says_no_more),
        WITH_SCRATCH(test_a_reason_that_is_not_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
