/* SPDX-License-Identifier: Apache-2.0 */
/* Health and metrics over HTTP, from a real pgqrsd. */
#include <arpa/inet.h>
#include <dirent.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/daemon.h"
#include "tests/support/http_ask.h"

static void start(struct fixture *f, const char *http, const char *queue_settings)
{
    daemon_config(&f->scratch,
                  "http: {listen: %s}\n"
                  "queues:\n"
                  "  work:\n"
                  "    handler: %s\n"
                  "    settings: {file: %s}\n"
                  "%s",
                  http, built("tests/handlers/effect.so"), f->scratch.effects, queue_settings);
    daemon_start(&f->daemon, &f->scratch);
    http_find(&f->daemon);
}

/* ---- health ---- */

static void test_ready_when_every_worker_is(void **state)
{
    struct fixture *f = *state;
    start(f, "0", "    consumers: 2\n");
    http_await("/livez", 200, "ok\n");
    http_await("/readyz", 200, "ok\n");
    assert_int_equal(http_ask("HEAD", "/readyz"), 200);
    assert_string_equal(http_body(), "");
    assert_non_null(strstr(http_answer, "Content-Length: 3\r\n"));

    /* The operator's word counts. */
    char config[96];
    (void)snprintf(config, sizeof config, "%s/pgqrsd.yaml", f->scratch.dir);
    cli_ok(&f->scratch, NULL, "--config", config, "worker", "scale", "work", "0");
    http_await("/readyz", 200, "ok\n");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_what_is_missing_is_named(void **state)
{
    struct fixture *f = *state;
    daemon_config(&f->scratch,
                  "http: {listen: 0}\n"
                  "queues:\n"
                  "  good: {handler: %s, settings: {file: %s}}\n"
                  "  none: {handler: exec, consumers: 0}\n"
                  "  bad: {handler: %s, settings: {file: /nowhere/x}, consumers: 3}\n",
                  built("tests/handlers/effect.so"), f->scratch.effects,
                  built("tests/handlers/effect.so"));
    daemon_start(&f->daemon, &f->scratch);
    http_find(&f->daemon);
    http_await("/readyz", 503, "queue \"bad\": 0 of 3 workers are ready");
    http_await("/readyz", 503, "and it is failing");
    http_await("/livez", 200, "ok\n");
    assert_int_equal(http_ask("GET", "/readyz"), 503);
    assert_null(strstr(http_body(), "good"));
    assert_null(strstr(http_body(), "none"));
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_draining_is_not_ready_but_lives(void **state)
{
    struct fixture *f = *state;
    start(f, "0", "");
    http_await("/readyz", 200, "ok\n");
    fixture_enqueue(f, 1, "{\"ms\":600000,\"ignore_cancel\":true}");
    effects_await(&f->scratch, "start ", 1);
    assert_int_equal(kill(f->daemon.pid, SIGTERM), 0);
    http_await("/readyz", 503, "pgqrsd: draining\n");
    http_await("/livez", 200, "ok\n");
    assert_int_equal(daemon_stop(&f->daemon, SIGQUIT), 75);
}

/* The gateway is told, and does not find out when it asks the next time. */
static void test_a_change_is_known_at_once(void **state)
{
    struct fixture *f = *state;
    scratch_write(&f->scratch, "pgqrsd.yaml",
                  "dsn: %s\nruntime_dir: %s/run\nheartbeat: {interval: 60s, timeout: 5m}\n"
                  "http: {listen: 0}\nqueues: {work: {handler: %s, settings: {file: %s}}}\n",
                  f->scratch.dsn, f->scratch.dir, built("tests/handlers/effect.so"),
                  f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    http_find(&f->daemon);
    http_await("/readyz", 200, "ok\n");
    fixture_enqueue(f, 1, "{\"ms\":600000,\"ignore_cancel\":true}");
    effects_await(&f->scratch, "start ", 1);
    assert_int_equal(kill(f->daemon.pid, SIGTERM), 0);
    http_await("/readyz", 503, "pgqrsd: draining\n");
    assert_int_equal(daemon_stop(&f->daemon, SIGQUIT), 75);
}

static void test_a_schema_that_does_not_fit(void **state)
{
    struct fixture *f = *state;
    start(f, "0", "");
    http_await("/readyz", 200, "ok\n");
    db_exec(&f->scratch, "update pgqrsd_schema set version = version + 1000");
    http_await("/readyz", 503, "store: found version 1");
    db_exec(&f->scratch, "update pgqrsd_schema set version = version - 1000");
    http_await("/readyz", 200, "ok\n");
    db_exec(&f->scratch, "alter table pgqrs_messages rename to elsewhere");
    http_await("/readyz", 503, "store: ");
    http_await("/livez", 200, "ok\n");
    db_exec(&f->scratch, "alter table elsewhere rename to pgqrs_messages");
    http_await("/readyz", 200, "ok\n");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

static void test_a_gateway_that_dies_is_started_again(void **state)
{
    struct fixture *f = *state;
    start(f, "0", "");
    http_await("/readyz", 200, "ok\n");
    pid_t gateway = daemon_await_children(&f->daemon, "pgqrs-gateway", 1);
    pid_t worker = daemon_await_children(&f->daemon, "pgqrs-worker", 1);
    assert_int_equal(kill(gateway, SIGKILL), 0);
    http_await("/readyz", 200, "ok\n"); /* the socket waits for the next one */
    assert_int_equal(daemon_await_children(&f->daemon, "pgqrs-worker", 1), worker);
    daemon_await_log(&f->daemon, "gateway: ready", 2);

    /* One that hangs does not keep a stop from its end. */
    gateway = daemon_await_children(&f->daemon, "pgqrs-gateway", 1);
    assert_int_equal(kill(gateway, SIGSTOP), 0);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_true(process_gone(gateway));
}

static void test_a_supervisor_that_hangs_does_not_live(void **state)
{
    struct fixture *f = *state;
    daemon_config(&f->scratch,
                  "http: {listen: 0}\nqueues: {none: {handler: exec, consumers: 0}}\n");
    daemon_start(&f->daemon, &f->scratch);
    http_find(&f->daemon);
    http_await("/livez", 200, "ok\n");
    assert_int_equal(kill(f->daemon.pid, SIGSTOP), 0);
    http_await("/readyz", 503, "supervisor: no answer for");
    assert_int_equal(kill(f->daemon.pid, SIGCONT), 0);
    http_await("/readyz", 200, "ok\n");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* ---- metrics ---- */

static void test_metrics_agree_with_the_store(void **state)
{
#define COUNT(what) "select count(*) from pgqrs_messages where " what
#define OF_WORK(name, label) name "{queue=\"work\"," label "}"
    static const struct {
        const char *series, *sql;
    } counted[] = {
        {OF_WORK("pgqrs_jobs_settled_total", "outcome=\"done\""), COUNT("pgqrsd_outcome = 'done'")},
        {OF_WORK("pgqrs_jobs_settled_total", "outcome=\"failed\""),
         COUNT("pgqrsd_outcome = 'failed'")},
        {OF_WORK("pgqrs_queue_jobs", "state=\"dead\""), COUNT("pgqrsd_outcome = 'failed'")},
        {OF_WORK("pgqrs_queue_jobs", "state=\"delayed\""), COUNT("archived_at is null")},
        {OF_WORK("pgqrs_queue_jobs", "state=\"waiting\""), "select 0"},
        {OF_WORK("pgqrs_queue_jobs", "state=\"running\""), "select 0"},
        /* 40 jobs are tried twice, and one after its crash. */
        {OF_WORK("pgqrs_jobs_settled_total", "outcome=\"retry\""), "select 41"},
        {OF_WORK("pgqrs_worker_deaths_total", "reason=\"signal\""), "select 1"},
        {OF_WORK("pgqrs_workers", "state=\"ready\""), "select 2"},
        {"pgqrs_workers_wanted{queue=\"work\"}", "select 2"},
        {"pgqrs_build_info{version=\"" PGQRS_VERSION "\"}", "select 1"},
        {"pgqrs_store_up", "select 1"},
        {"pgqrs_draining", "select 0"},
        {"pgqrs_broker_deaths_total", "select 1"},
    };
    struct fixture *f = *state;
    start(f, "0", "    consumers: 2\n    max_attempts: 2\n    retry: {base: 1ms, max: 1ms}\n");
    http_await("/readyz", 200, "ok\n");
    fixture_enqueue(f, 200, "{}");
    fixture_enqueue(f, 60, "{\"outcome\":\"fail\"}");
    db_await(&f->scratch, COUNT("archived_at is null"), 0);
    http_await_metric(counted[0].series, 200); /* what the broker has not told goes with it */
    http_await_metric(counted[1].series, 60);
    pid_t broker = daemon_await_children(&f->daemon, "pgqrs-broker", 1);
    assert_int_equal(kill(broker, SIGKILL), 0);
    daemon_await_log(&f->daemon, "broker: ready", 2);
    fixture_enqueue(f, 40, "{\"outcome\":\"retry\"}");
    fixture_enqueue(f, 1, "{\"crash\":1}");
    cli_ok(&f->scratch, NULL, "message", "enqueue", "work", "{}", "--delay", "1h");
    db_await(&f->scratch, COUNT("archived_at is null"), 1);
    for (size_t i = 0; i < sizeof counted / sizeof *counted; i++) {
        http_await_metric(counted[i].series, db_number(&f->scratch, counted[i].sql));
    }
    assert_int_equal(http_metric(counted[0].series), 201);
    assert_int_equal(http_metric(counted[1].series), 100);
    assert_true(http_metric("pgqrs_start_time_seconds") > 1700000000);
    assert_true(http_metric("pgqrs_queue_oldest_age_seconds{queue=\"work\"}") >= 0);
    assert_non_null(
        strstr(http_answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* Prometheus' own opinion, where it is installed. Names are what they may be. */
static void test_metrics_are_well_formed(void **state)
{
    struct fixture *f = *state;
    char command[256];
    daemon_config(&f->scratch, "http: {listen: 0}\n"
                               "queues: {'a \"b\\c': {handler: exec, consumers: 0}}\n");
    daemon_start(&f->daemon, &f->scratch);
    http_find(&f->daemon);
    http_await("/metrics", 200, "pgqrs_queue_jobs{queue=\"a \\\"b\\\\c\",state=\"dead\"} 0\n");
    scratch_write(&f->scratch, "metrics", "%s", http_body());
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    if (system("command -v promtool >/dev/null") != 0) {
        print_message("promtool is not there: Debian has it in the package prometheus\n");
        skip();
    }
    (void)snprintf(command, sizeof command, "promtool check metrics <%s/metrics", f->scratch.dir);
    assert_int_equal(system(command), 0);
}

static void test_a_broker_that_does_not_answer(void **state)
{
    struct fixture *f = *state;
    start(f, "0", "");
    http_await("/readyz", 200, "ok\n");
    pid_t broker = daemon_await_children(&f->daemon, "pgqrs-broker", 1);
    assert_int_equal(kill(broker, SIGSTOP), 0);
    http_await("/readyz", 503, "broker: no heartbeat for");
    http_await("/livez", 200, "ok\n");
    http_await_metric("pgqrs_store_up", 0);
    assert_int_equal(http_metric("pgqrs_queue_jobs{queue=\"work\",state=\"waiting\"}"), -1);
    assert_int_equal(http_metric("pgqrs_workers_wanted{queue=\"work\"}"), 1);
    assert_int_equal(kill(broker, SIGCONT), 0);
    http_await("/readyz", 200, "ok\n");
    http_await_metric("pgqrs_store_up", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* It can be read all the time. */
static void test_a_store_that_takes_no_outcomes(void **state)
{
    struct fixture *f = *state;
    start(f, "0", "");
    http_await("/readyz", 200, "ok\n");
    fixture_enqueue(f, 1, "{\"ms\":300}");
    effects_await(&f->scratch, "start ", 1);
    struct sqlite3 *db = db_lock(&f->scratch);
    http_await("/readyz", 503, "store: outcomes wait, for ");
    http_await_metric("pgqrs_store_up", 0);
    assert_int_equal(http_metric("pgqrs_queue_jobs{queue=\"work\",state=\"running\"}"), 1);
    db_unlock(db);
    http_await("/readyz", 200, "ok\n");
    http_await_metric("pgqrs_store_up", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* ---- limits ---- */

static int descriptors_of(pid_t pid)
{
    char path[32];
    int n = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        n += entry->d_name[0] != '.' ? 1 : 0;
    }
    (void)closedir(dir);
    return n;
}

static bool is_full(const void *arg)
{
    return descriptors_of(*(const pid_t *)arg) >= 90;
}

static bool has_thirty(const void *arg)
{
    const pid_t *pid = arg;
    return descriptors_of(*pid) >= 30;
}

static void test_what_is_not_served(void **state)
{
    static const struct {
        const char *method, *path;
        int status;
    } cases[] = {
        {"GET", "/", 404},         {"GET", "/livez/", 404},    {"GET", "//livez", 404},
        {"GET", "/nothing", 404},  {"POST", "/livez", 405},    {"PUT", "/readyz", 405},
        {"DELETE", "/livez", 405}, {"OPTIONS", "/livez", 405}, {"GET", "/livez?x=1", 200},
    };
    struct fixture *f = *state;
    start(f, "0", "");
    http_await("/readyz", 200, "ok\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (http_ask(cases[i].method, cases[i].path) != cases[i].status) {
            fail_msg("%s %s: found\n%s", cases[i].method, cases[i].path, http_answer);
        }
    }
    assert_int_equal(http_ask("POST", "/livez"), 405);
    assert_non_null(strstr(http_answer, "Allow: GET, HEAD\r\n"));
    assert_int_not_equal(http_ask("FLY", "/livez"), 200);

    /* Too much of it. */
    char *flood = malloc(65536);
    assert_non_null(flood);
    int n = snprintf(flood, 64, "GET /livez HTTP/1.1\r\nX: ");
    memset(flood + n, 'x', 65536 - (size_t)n);
    assert_int_not_equal(http_say(flood, 65536), 200);
    free(flood);
    static const char with_body[] =
        "GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nx";
    assert_int_not_equal(http_say(with_body, sizeof with_body - 1), 200);

    /* Silent ones take the room, until they have gone. */
    int silent[120];
    for (size_t i = 0; i < 120; i++) {
        silent[i] = http_dial();
    }
    pid_t gateway = daemon_await_children(&f->daemon, "pgqrs-gateway", 1);
    assert_true(wait_for(is_full, &gateway, WAIT_MS));
    assert_in_range(descriptors_of(gateway), 90, 96);
    for (size_t i = 0; i < 120; i++) {
        (void)close(silent[i]);
    }
    http_await("/livez", 200, "ok\n");
    assert_int_equal(daemon_await_children(&f->daemon, "pgqrs-gateway", 1), gateway);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* A connection that can not be accepted would be tried again and again, with a line of the log. */
static void test_it_may_have_few_descriptors(void **state)
{
    struct fixture *f = *state;
    struct rlimit limit;
    int silent[60];
    start(f, "0", "");
    http_await("/readyz", 200, "ok\n");
    pid_t gateway = daemon_await_children(&f->daemon, "pgqrs-gateway", 1);
    assert_int_equal(prlimit(gateway, RLIMIT_NOFILE, NULL, &limit), 0);
    limit.rlim_cur = 40;
    assert_int_equal(prlimit(gateway, RLIMIT_NOFILE, &limit, NULL), 0);
    for (size_t i = 0; i < 60; i++) {
        silent[i] = http_dial();
    }
    assert_true(wait_for(has_thirty, &gateway, WAIT_MS));
    assert_in_range(descriptors_of(gateway), 30, 36);
    for (size_t i = 0; i < 60; i++) {
        (void)close(silent[i]);
    }
    http_await("/readyz", 200, "ok\n");
    assert_int_equal(daemon_log_count(&f->daemon, "accept"), 0);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

/* ---- configuration ---- */

static void test_an_address_that_is_taken(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    daemon_config(&f->scratch,
                  "http: {listen: 127.0.0.1:%u}\n"
                  "queues: {none: {handler: exec, consumers: 0}}\n",
                  (unsigned)ntohs(address.sin_port));
    daemon_start(&f->daemon, &f->scratch);
    assert_int_equal(daemon_wait(&f->daemon), 78);
    assert_true(daemon_log_has(&f->daemon, "http.listen: can not listen at 127.0.0.1:"));
    (void)close(fd);
}

int main(void)
{
#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_ready_when_every_worker_is),
        WITH_SCRATCH(test_what_is_missing_is_named),
        WITH_SCRATCH(test_draining_is_not_ready_but_lives),
        WITH_SCRATCH(test_a_change_is_known_at_once),
        WITH_SCRATCH(test_a_schema_that_does_not_fit),
        WITH_SCRATCH(test_a_gateway_that_dies_is_started_again),
        WITH_SCRATCH(test_a_supervisor_that_hangs_does_not_live),
        WITH_SCRATCH(test_metrics_agree_with_the_store),
        WITH_SCRATCH(test_metrics_are_well_formed),
        WITH_SCRATCH(test_a_broker_that_does_not_answer),
        WITH_SCRATCH(test_a_store_that_takes_no_outcomes),
        WITH_SCRATCH(test_what_is_not_served),
        WITH_SCRATCH(test_it_may_have_few_descriptors),
        WITH_SCRATCH(test_an_address_that_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
