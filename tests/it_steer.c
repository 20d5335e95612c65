/* SPDX-License-Identifier: Apache-2.0 */
/* A running pgqrsd is steered: workers are killed, queues paused, all of it drained and stopped. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/support/world.h"

#define BOTH(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, world_sqlite_setup, world_sqlite_teardown),              \
        cmocka_unit_test_setup_teardown(test, world_pg_setup, world_pg_teardown)
#define ON_SQLITE(test)                                                                            \
    cmocka_unit_test_setup_teardown(test, world_sqlite_setup, world_sqlite_teardown)

static int ctl(const struct world *w, const char *a, const char *b, const char *c, const char *d)
{
    char config[96];
    (void)snprintf(config, sizeof config, "%s/pgqrsd.yaml", w->f->scratch.dir);
    return cli(&w->f->scratch, NULL, "--config", config, "-o", "json", "ctl", a, b, c, d,
               (char *)NULL);
}

/* The answer of a command that is to exit with 0; the caller's. */
static json_t *ask(const struct world *w, const char *a, const char *b, const char *c)
{
    char out[96];
    (void)snprintf(out, sizeof out, "%s/out", w->f->scratch.dir);
    assert_int_equal(ctl(w, a, b, c, NULL), 0);
    json_t *answer = json_load_file(out, 0, NULL);
    assert_non_null(answer);
    return answer;
}

static json_int_t integer(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static const json_t *queue_of(const json_t *status, size_t i)
{
    return json_array_get(json_object_get(status, "queues"), i);
}

static int exit_status(pid_t pid)
{
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ---- kill ---- */

/* A job that hears nothing goes with its worker; that counts as an attempt, and not as a crash. */
static void test_kill_ends_a_worker_and_its_job(void **state)
{
    const struct world *w = *state;
    fixture_start(w->f, "    on_crash: 1\n    max_attempts: 2\n    prefetch: 2\n"
                        "    retry: {base: 1ms}\n");
    fixture_enqueue(w->f, 1, "{\"ms\":600000,\"ignore_cancel\":true,\"ms_after_first\":0}");
    effects_await(&w->f->scratch, "start 1 1", 1);
    fixture_enqueue(w->f, 1, "{}"); /* waits behind it */
    pid_t pid = daemon_await_children(&w->f->daemon, "pgqrs-worker", 1);
    json_t *killed = ask(w, "kill", "work", "0");
    assert_int_equal(integer(killed, "pid"), pid);
    json_decref(killed);
    effects_await(&w->f->scratch, "end ", 2);
    world_await(w, "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'", 2);
    world_await(w, "select pgqrsd_crash_ct from pgqrs_messages where id = 1", 0);
    world_await(w, "select read_ct from pgqrs_messages where id = 1", 2);
    world_await(w, "select read_ct from pgqrs_messages where id = 2", 1);
    json_t *status = ask(w, "status", NULL, NULL);
    const json_t *worker = json_array_get(json_object_get(queue_of(status, 0), "workers"), 0);
    assert_int_equal(integer(worker, "deaths_in_a_row"), 0);
    assert_true(json_is_integer(json_object_get(worker, "cpu_ms")));
    json_decref(status);
    json_t *deaths = ask(w, "deaths", NULL, NULL);
    const json_t *death = json_array_get(deaths, 0);
    assert_int_equal(integer(death, "job"), 1);
    assert_true(json_is_true(json_object_get(death, "by_request")));
    json_decref(deaths);
    assert_true(daemon_log_has(&w->f->daemon, "killed: by request (pgqrs ctl kill)"));
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
}

static bool said(const struct world *w, const char *text)
{
    char path[96];
    char line[1024] = "";
    (void)snprintf(path, sizeof path, "%s/out", w->f->scratch.dir);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    size_t len = fread(line, 1, sizeof line - 1, f);
    (void)fclose(f); /* it was only read */
    line[len] = 0;
    return strstr(line, text) != NULL;
}

static void test_what_is_unknown_is_said(void **state)
{
    const struct world *w = *state;
    fixture_start(w->f, "    consumers: 2\n");
    assert_int_equal(ctl(w, "kill", "nobody", "0", NULL), 1);
    assert_true(said(w, "found queue \"nobody\", expected one of: work"));
    assert_int_equal(ctl(w, "pause", "nobody", NULL, NULL), 1);
    assert_true(said(w, "found queue \"nobody\", expected one of: work"));
    assert_int_equal(ctl(w, "kill", "work", "7", NULL), 1);
    assert_true(said(w, "found worker 7, expected one of: 0, 1"));
    assert_int_equal(ctl(w, "kill", "work", "x", NULL), 2);
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
    assert_int_equal(ctl(w, "kill", "work", "0", NULL), 69);
    assert_true(said(w, "no pgqrsd at "));
}

/* ---- pause ---- */

#define LEASED                                                                                     \
    "select count(*) from pgqrs_messages where consumer_worker_id is not null"                     \
    " and archived_at is null"
#define DONE "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done'"
#define ATTEMPTS "select sum(read_ct) from pgqrs_messages"

/* Queue "work" with room for three jobs, or none, queue "other", and HTTP. */
static void configure(const struct world *w, bool with_work)
{
    const char *handler = built("tests/handlers/effect.so");
    daemon_config(&w->f->scratch,
                  "http: {listen: 0}\n"
                  "queues:\n"
                  "  %s: {handler: %s, settings: {file: %s}, prefetch: 3}\n"
                  "  other: {handler: %s, settings: {file: %s}}\n",
                  with_work ? "work" : "another", handler, w->f->scratch.effects, handler,
                  w->f->scratch.effects);
}

static void start_two(const struct world *w)
{
    configure(w, true);
    daemon_start(&w->f->daemon, &w->f->scratch);
    daemon_await_log(&w->f->daemon, ": worker 0: ready pid=", 2);
}

/* Message 1 runs until let_go, 2 and 3 wait behind it in the worker. */
static void hold_three(const struct world *w)
{
    char payload[160];
    (void)snprintf(payload, sizeof payload, "{\"until\":\"%s/go\",\"ignore_cancel\":true}",
                   w->f->scratch.dir);
    fixture_enqueue(w->f, 1, payload);
    effects_await(&w->f->scratch, "start 1 ", 1);
    fixture_enqueue(w->f, 2, "{}");
    world_await(w, LEASED, 3);
}

static void let_go(const struct world *w)
{
    scratch_write(&w->f->scratch, "go", "%s", "");
}

/* What the broker leases now, it would lease from "work" as well. */
static void run_one_of_the_other(const struct world *w, int done)
{
    cli_ok(&w->f->scratch, NULL, "message", "enqueue", "other", "{}");
    world_await(w, DONE, done);
}

static bool is_paused(const struct world *w)
{
    json_t *status = ask(w, "status", NULL, NULL);
    bool paused = json_is_true(json_object_get(queue_of(status, 0), "paused"));
    assert_false(json_is_true(json_object_get(queue_of(status, 1), "paused")));
    json_decref(status);
    return paused;
}

static bool doctor_says(const struct world *w, const char *text)
{
    char config[96];
    (void)snprintf(config, sizeof config, "%s/pgqrsd.yaml", w->f->scratch.dir);
    assert_int_equal(cli(&w->f->scratch, NULL, "--config", config, "doctor", (char *)NULL), 1);
    return said(w, text);
}

static void test_a_pause_outlives_the_broker_and_a_reload(void **state)
{
    const struct world *w = *state;
    start_two(w);
    hold_three(w);
    json_t *answer = ask(w, "pause", "work", NULL);
    assert_string_equal(json_string_value(json_array_get(json_object_get(answer, "queues"), 0)),
                        "work");
    json_decref(answer);
    world_await(w, LEASED, 1);
    world_await(w, ATTEMPTS, 1);
    assert_true(doctor_says(w, "queue \"work\" is paused in the pgqrsd that runs here, with 2 "));

    pid_t broker = daemon_await_children(&w->f->daemon, "pgqrs-broker", 1);
    assert_int_equal(kill(broker, SIGKILL), 0);
    daemon_await_log(&w->f->daemon, "broker: ready", 2);
    run_one_of_the_other(w, 1);
    let_go(w);
    world_await(w, DONE, 2);
    json_decref(ask(w, "reload", NULL, NULL));
    run_one_of_the_other(w, 3);
    assert_true(is_paused(w));
    world_await(w, ATTEMPTS, 3);

    json_decref(ask(w, "resume", "work", NULL));
    assert_false(is_paused(w));
    world_await(w, DONE, 5);
    world_await(w, ATTEMPTS, 5);
    answer = ask(w, "resume", NULL, NULL);
    assert_int_equal(json_array_size(json_object_get(answer, "queues")), 0);
    json_decref(answer);
    assert_int_equal(daemon_log_count(&w->f->daemon, "paused by request"), 1);
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
}

/* TSTP pauses all, and CONT ends that and nothing else. */
static bool has_no_worker(const void *arg)
{
    json_t *status = ask(arg, "status", NULL, NULL);
    size_t count = json_array_size(json_object_get(queue_of(status, 0), "workers"));
    json_decref(status);
    return count == 0;
}

/* Not in the configuration for a moment, as by a mistake. */
static void test_a_pause_outlives_an_absence_of_its_queue(void **state)
{
    const struct world *w = *state;
    start_two(w);
    json_decref(ask(w, "pause", "work", NULL));
    configure(w, false);
    json_decref(ask(w, "reload", NULL, NULL));
    assert_true(wait_for(has_no_worker, w, WAIT_MS));
    pid_t broker = daemon_await_children(&w->f->daemon, "pgqrs-broker", 1);
    assert_int_equal(kill(broker, SIGKILL), 0);
    daemon_await_log(&w->f->daemon, "broker: ready", 2);

    configure(w, true);
    json_t *answer = ask(w, "reload", NULL, NULL);
    const char *change = json_string_value(json_array_get(answer, 1));
    assert_non_null(change);
    assert_string_equal(change, "queue \"work\": served again");
    json_decref(answer);
    daemon_await_log(&w->f->daemon, "queue \"work\": worker 0: ready", 2);
    assert_true(is_paused(w));
    fixture_enqueue(w->f, 1, "{}");
    run_one_of_the_other(w, 1);
    json_decref(ask(w, "resume", "work", NULL));
    world_await(w, DONE, 2);
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
}

static void test_signals_pause_all(void **state)
{
    const struct world *w = *state;
    start_two(w);
    hold_three(w);
    json_decref(ask(w, "pause", "other", NULL));
    assert_int_equal(kill(w->f->daemon.pid, SIGTSTP), 0);
    world_await(w, LEASED, 1);
    assert_int_equal(ctl(w, "resume", "work", NULL, NULL), 1);
    assert_true(said(w, "all queues are paused by a signal"));
    assert_int_equal(kill(w->f->daemon.pid, SIGCONT), 0);
    world_await(w, LEASED, 3);
    json_t *status = ask(w, "status", NULL, NULL);
    assert_true(json_is_true(json_object_get(queue_of(status, 1), "paused")));
    json_decref(status);
    let_go(w);
    world_await(w, DONE, 3);
    world_await(w, ATTEMPTS, 3);
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
}

/* ---- drain ---- */

/* The status of a GET; its answer is put into a text. */
static int get(const struct world *w, const char *path, char *answer, size_t size)
{
    static const char text[] = "listening at http://127.0.0.1:";
    char log[4096];
    FILE *file = fopen(w->f->daemon.log, "re");
    assert_non_null(file);
    size_t len = fread(log, 1, sizeof log - 1, file);
    (void)fclose(file); /* it was only read */
    log[len] = 0;
    const char *at = strstr(log, text);
    assert_non_null(at);
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((in_port_t)atoi(at + strlen(text))),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    (void)dprintf(fd, "GET %s HTTP/1.0\r\n\r\n", path);
    ssize_t n = 1;
    for (len = 0; n > 0 && len<size - 1; len += n> 0 ? (size_t)n : 0) {
        n = recv(fd, answer + len, size - 1 - len, 0);
    }
    answer[len] = 0;
    (void)close(fd);
    return len > 9 ? atoi(answer + 9) : 0;
}

struct expected {
    const struct world *w;
    int status;
    const char *text;
};

static bool answers(const void *arg)
{
    const struct expected *e = arg;
    char answer[2048];
    return get(e->w, "/readyz", answer, sizeof answer) == e->status &&
           strstr(answer, e->text) != NULL;
}

static void await_readyz(const struct world *w, int status, const char *text)
{
    assert_true(wait_for(answers, &(struct expected){w, status, text}, WAIT_MS));
}

static void test_drain_waits_for_what_runs(void **state)
{
    const struct world *w = *state;
    char answer[2048];
    start_two(w);
    await_readyz(w, 200, "ok");
    hold_three(w);
    assert_int_equal(ctl(w, "drain", "--timeout", "100ms", NULL), 75);
    world_await(w, LEASED, 1);
    world_await(w, ATTEMPTS, 1);
    await_readyz(w, 503, "draining");
    assert_int_equal(get(w, "/livez", answer, sizeof answer), 200);
    assert_int_equal(ctl(w, "resume", "work", NULL, NULL), 1);
    assert_true(said(w, "all queues are drained"));

    let_go(w);
    json_t *drained = ask(w, "drain", NULL, NULL);
    assert_true(json_is_true(json_object_get(drained, "drained")));
    assert_int_equal(integer(drained, "running"), 0);
    json_decref(drained);
    world_await(w, DONE, 1);
    world_await(w, ATTEMPTS, 1);
    assert_false(effects_count(&w->f->scratch, "start ") > 1);
    await_readyz(w, 503, "draining");

    json_decref(ask(w, "resume", NULL, NULL));
    world_await(w, DONE, 3);
    world_await(w, ATTEMPTS, 3);
    await_readyz(w, 200, "ok");
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
}

/* A message that somebody runs alone is not leased before its plugin is ready. */
static void test_drain_waits_for_an_isolated_run(void **state)
{
    const struct world *w = *state;
    daemon_config(&w->f->scratch,
                  "start_timeout: 1m\nshutdown: {drain: 100ms}\n"
                  "queues: {work: {handler: %s, cancel_grace: 100ms}}\n",
                  built("tests/handlers/init_hangs.so"));
    daemon_start(&w->f->daemon, &w->f->scratch);
    daemon_await_log(&w->f->daemon, "broker: ready", 1);
    fixture_enqueue(w->f, 1, "{}");
    char socket[128];
    (void)snprintf(socket, sizeof socket, "%s/run/pgqrsd.ctl", w->f->scratch.dir);
    pid_t run = fork();
    if (run == 0) {
        (void)execl(built("bin/pgqrs"), "pgqrs", "--dsn", w->f->scratch.dsn, "message", "run", "1",
                    "--isolated", "--socket", socket, (char *)NULL);
        _exit(127);
    }
    daemon_await_log(&w->f->daemon, "isolated run of message 1: started", 1);
    assert_int_equal(ctl(w, "drain", "--timeout", "2s", NULL), 75);
    assert_int_equal(kill(run, SIGTERM), 0);
    json_decref(ask(w, "drain", NULL, NULL));
    (void)exit_status(run);
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
}

/* Nothing is leased when the command returns, and no attempt is lost, whatever was on its way. */
static void test_drains_in_a_storm(void **state)
{
    const struct world *w = *state;
    fixture_start(w->f, "    consumers: 3\n    prefetch: 20\n");
    fixture_enqueue(w->f, 600, "{\"ms\":1}");
    for (int i = 1; i <= 3; i++) {
        world_await(w,
                    "select count(*) > 0 from pgqrs_messages where consumer_worker_id is not null"
                    " and archived_at is null",
                    1);
        json_decref(ask(w, "drain", NULL, NULL));
        assert_int_equal(db_number(&w->f->scratch, LEASED), 0);
        assert_int_equal(effects_count(&w->f->scratch, "start "), db_number(&w->f->scratch, DONE));
        json_decref(ask(w, "resume", NULL, NULL));
    }
    world_await(w, DONE, 600);
    world_await(w, ATTEMPTS, 600);
    assert_int_equal(daemon_stop(&w->f->daemon, SIGTERM), 0);
}

/* ---- stop ---- */

static void expect_stopped(const struct world *w, json_t *stopped, int status)
{
    assert_int_equal(integer(stopped, "pid"), w->f->daemon.pid);
    assert_int_equal(integer(stopped, "status"), status);
    json_decref(stopped);
    assert_true(process_gone(w->f->daemon.pid));
    assert_int_equal(daemon_wait(&w->f->daemon), status);
}

static void test_stop_waits_and_tells_how(void **state)
{
    const struct world *w = *state;
    start_two(w);
    hold_three(w);
    json_decref(ask(w, "pause", "work", NULL));
    expect_stopped(w, ask(w, "stop", "--now", NULL), 75);
    world_await(w, LEASED, 0);
    world_await(w, ATTEMPTS, 0);
    assert_int_equal(ctl(w, "stop", NULL, NULL, NULL), 69);
    assert_true(said(w, "no pgqrsd at "));

    /* The next one knows nothing of the pause. */
    daemon_start(&w->f->daemon, &w->f->scratch);
    effects_await(&w->f->scratch, "start 1 ", 2);
    let_go(w);
    world_await(w, DONE, 3);
    world_await(w, ATTEMPTS, 3);
    expect_stopped(w, ask(w, "stop", NULL, NULL), 0);

    daemon_start(&w->f->daemon, &w->f->scratch);
    daemon_await_log(&w->f->daemon, "broker: ready", 3);
    json_decref(ask(w, "stop", "--no-wait", NULL));
    assert_int_equal(daemon_wait(&w->f->daemon), 0);
}

/* Begins `ctl stop` while a job runs, and returns its pid. */
static pid_t begin_stop(const struct world *w, int times)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(ctl(w, "stop", NULL, NULL, NULL));
    }
    daemon_await_log(&w->f->daemon, "pgqrs ctl stop: draining", times);
    return pid;
}

static void test_a_stop_is_hurried_or_cut_short(void **state)
{
    const struct world *w = *state;
    start_two(w);
    hold_three(w);
    pid_t waits = begin_stop(w, 1);
    assert_int_equal(ctl(w, "pause", NULL, NULL, NULL), 1);
    assert_true(said(w, "pgqrsd is stopping"));
    assert_int_equal(ctl(w, "stop", "--now", "--no-wait", NULL), 0);
    assert_int_equal(exit_status(waits), 0);
    assert_int_equal(daemon_wait(&w->f->daemon), 75);

    daemon_start(&w->f->daemon, &w->f->scratch);
    effects_await(&w->f->scratch, "start 1 ", 2);
    waits = begin_stop(w, 2);
    assert_int_equal(daemon_stop(&w->f->daemon, SIGKILL), 128 + SIGKILL);
    assert_int_equal(exit_status(waits), 1);
    assert_true(said(w, "pgqrsd has gone without a word"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_kill_ends_a_worker_and_its_job),
        ON_SQLITE(test_what_is_unknown_is_said),
        BOTH(test_a_pause_outlives_the_broker_and_a_reload),
        ON_SQLITE(test_a_pause_outlives_an_absence_of_its_queue),
        ON_SQLITE(test_signals_pause_all),
        BOTH(test_drain_waits_for_what_runs),
        ON_SQLITE(test_drain_waits_for_an_isolated_run),
        ON_SQLITE(test_drains_in_a_storm),
        BOTH(test_stop_waits_and_tells_how),
        ON_SQLITE(test_a_stop_is_hurried_or_cut_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
