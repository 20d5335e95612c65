/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rehearsal: two pgqrsd on one PostgreSQL under load, restarted in turn as Kubernetes does it.
 * When the other one is ready, one is sent SIGTERM, has GRACE_MS to end, and is started again; it
 * is the other one's turn when its /readyz is 200. The last round brings a new version of the
 * plugin. The group's setup does all that; each test looks at one thing that must hold.
 */
#include "tests/support/pg_daemon.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/chaos/chaos_priv.h"

#define ROUNDS 3
#define MEMBERS 2
#define STOPS (ROUNDS * MEMBERS)
#define GRACE_MS 10000
#define DRAIN_MS 1500
#define EARLY_US 30000 /* clocks of a loop are as coarse as that */
#define JOBS_MAX 20000
#define STEPS 30
#define FIRST 6 /* jobs, which outlast the drain of the first stop */

struct member {
    struct scratch scratch;
    struct daemon daemon;
    char name[8];
    in_port_t port;
    int last_status; /* of the stop when all was done */
};

struct stop {
    size_t member;
    int64_t term_us, exit_us;
    int status, unready, dead;
    bool killed;
};

static struct {
    struct scratch shared;
    struct pg_rig *rig;
    struct member members[MEMBERS];
    struct stop stops[STOPS];
    struct chaos_ledger ledger;
    struct chaos_findings findings;
    char load_dsn[300];
    pthread_t producer, watcher;
    atomic_bool enough;
    int64_t job_ms[JOBS_MAX]; /* how long item N takes */
    int64_t last_job;
    long polls, downs[MEMBERS], both_down;
} r;

/* ---- probes, as a kubelet does them ---- */

/* The status; 0: refused, or no answer. */
static int probe(in_port_t port, const char *path)
{
    const struct timeval patience = {.tv_sec = 5};
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char text[256];
    int status = 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int n = snprintf(text, sizeof text,
                     "GET %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", path);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
        send(fd, text, (size_t)n, MSG_NOSIGNAL) == n && recv(fd, text, sizeof text, 0) >= 12 &&
        strncmp(text, "HTTP/1.", 7) == 0) {
        status = atoi(text + 9);
    }
    (void)close(fd);
    return status;
}

static bool is_ready(const void *member)
{
    const struct member *m = member;
    return probe(m->port, "/readyz") == 200;
}

/* Looks at the first one again, which may have become ready just before the second went away. */
static void *watch(void *arg)
{
    (void)arg;
    while (!atomic_load(&r.enough)) {
        bool first = is_ready(&r.members[0]);
        bool second = is_ready(&r.members[1]);
        r.polls++;
        r.downs[0] += first ? 0 : 1;
        r.downs[1] += second ? 0 : 1;
        r.both_down += !first && !second && !is_ready(&r.members[0]) ? 1 : 0;
        (void)poll(NULL, 0, 3);
    }
    return NULL;
}

/* ---- the load ---- */

static int64_t pick_ms(struct chaos_random *random)
{
    int64_t kind = chaos_pick(random, 0, 999);
    return kind < 960   ? chaos_pick(random, 1, 5)
           : kind < 990 ? chaos_pick(random, 20, 60)
           : kind < 998 ? chaos_pick(random, 1000, 3000)
                        : chaos_pick(random, 3000, 4000);
}

static void *produce(void *arg)
{
    struct chaos_random random = {.state = 7};
    PGconn *conn = PQconnectdb(r.load_dsn);
    (void)arg;
    while (!atomic_load(&r.enough) && r.last_job + 1 < JOBS_MAX) {
        char text[128];
        int64_t n = ++r.last_job;
        r.job_ms[n] = n <= FIRST ? 2 * DRAIN_MS : pick_ms(&random);
        (void)snprintf(text, sizeof text,
                       "SELECT pgqrs_enqueue('work', '{\"n\": %" PRId64 ", \"ms\": %" PRId64 "}')",
                       n, r.job_ms[n]);
        PGresult *result = PQexec(conn, text);
        if (PQresultStatus(result) != PGRES_TUPLES_OK) {
            chaos_find(&r.findings, "enqueue: %s", PQerrorMessage(conn));
        } else {
            (void)snprintf(text, sizeof text, "ack %s %" PRId64, PQgetvalue(result, 0, 0), n);
            (void)chaos_ledger_add(&r.ledger, text);
        }
        PQclear(result);
        (void)poll(NULL, 0, 6);
    }
    PQfinish(conn);
    return NULL;
}

static void trigger_run(void)
{
    char words[STEPS * 24] = "";
    for (int i = 0; i < STEPS; i++) {
        size_t len = strlen(words);
        (void)snprintf(words + len, sizeof words - len, "slow:s%d:300 ", i);
    }
    pg_rig_sql(r.rig, "SELECT pgqrs_enqueue('flow', jsonb_build_object('input', '%s'))", words);
}

/* ---- the members ---- */

static void configure(struct member *m)
{
    const char *dir = r.shared.dir;
    scratch_write(&m->scratch, "pgqrsd.yaml",
                  "dsn: %s\n"
                  "name: %s\n"
                  "runtime_dir: %s/run\n"
                  "heartbeat: {interval: 250ms, timeout: 20s}\n"
                  "http: {listen: 127.0.0.1:%d}\n"
                  "shutdown: {drain: %dms, cancel_grace: 5s}\n"
                  "schedules:\n"
                  "  tick: {cron: '@every 1s', queue: tick}\n"
                  "queues:\n"
                  "  work: {handler: %s/work.so, settings: {dir: %s}, consumers: 5, prefetch: 2}\n"
                  "  tick: {handler: %s, settings: {dir: %s}}\n"
                  "  flow: {handler: %s, settings: {file: %s}}\n",
                  r.rig->dsn, m->name, m->scratch.dir, m->port, DRAIN_MS, dir, dir,
                  built("tests/handlers/ledger.so"), dir, built("tests/handlers/script.so"),
                  r.shared.effects);
}

static void await_ready(const struct member *m)
{
    if (!wait_for(is_ready, m, WAIT_MS)) {
        (void)fprintf(stderr, "log: %s\n", m->daemon.log);
        fail_msg("pgqrsd %s does not become ready", m->name);
    }
}

/* Ports that nobody has, and that are not the same. */
static void find_ports(void)
{
    int fds[MEMBERS];
    for (size_t i = 0; i < MEMBERS; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof address;
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fds[i], (const struct sockaddr *)&address, len), 0);
        assert_int_equal(getsockname(fds[i], (struct sockaddr *)&address, &len), 0);
        r.members[i].port = ntohs(address.sin_port);
    }
    for (size_t i = 0; i < MEMBERS; i++) {
        (void)close(fds[i]);
    }
}

static bool has_worker(const struct member *m)
{
    pid_t pid;
    return daemon_children(&m->daemon, "pgqrs-worker", &pid, 1) > 0;
}

/* While a worker is left it drains, and lives. */
static void probe_draining(const struct member *m, struct stop *stop)
{
    stop->unready += probe(m->port, "/readyz") == 503 ? 1 : 0;
    if (probe(m->port, "/livez") != 200 && has_worker(m)) {
        stop->dead++;
    }
}

static void restart(size_t which, struct stop *stop)
{
    struct member *m = &r.members[which];
    int status = 0;
    await_ready(&r.members[1 - which]);
    await_ready(m);
    stop->member = which;
    stop->term_us = pgqrs_mono_us();
    assert_int_equal(kill(m->daemon.pid, SIGTERM), 0);
    while (waitpid(m->daemon.pid, &status, WNOHANG) == 0) {
        probe_draining(m, stop);
        if (!stop->killed && pgqrs_mono_us() > stop->term_us + (int64_t)GRACE_MS * 1000) {
            stop->killed = true;
            (void)kill(m->daemon.pid, SIGKILL);
        }
        (void)poll(NULL, 0, 10);
    }
    stop->exit_us = pgqrs_mono_us();
    stop->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    daemon_start(&m->daemon, &m->scratch);
    await_ready(m);
    print_message("%s: ended with %d after %" PRId64 " ms, ready after %" PRId64 " ms more\n",
                  m->name, stop->status, (stop->exit_us - stop->term_us) / 1000,
                  (pgqrs_mono_us() - stop->exit_us) / 1000);
}

/* ---- the rehearsal ---- */

static void read_rows(void)
{
    char path[96];
    PGresult *rows = PQexec(
        pg_rig_raw(r.rig),
        "SELECT format('row %s %s 0 done 0 %s %s %s %s', m.id, coalesce(m.payload->>'n', '0'),"
        " coalesce(m.pgqrsd_outcome, 'open'), m.read_ct, coalesce(m.pgqrsd_result->>'attempt',"
        " '0'), m.pgqrsd_crash_ct) FROM pgqrs_messages m JOIN pgqrs_queues q ON q.id = m.queue_id"
        " WHERE q.queue_name <> 'flow'");
    assert_int_equal(PQresultStatus(rows), PGRES_TUPLES_OK);
    for (int i = 0; i < PQntuples(rows); i++) {
        assert_true(chaos_ledger_add(&r.ledger, PQgetvalue(rows, i, 0)));
    }
    PQclear(rows);
    (void)snprintf(path, sizeof path, "%s/runs", r.shared.dir);
    assert_int_equal(chaos_ledger_read(&r.ledger, path), 0);
}

static void set_up(void)
{
    scratch_create(&r.shared);
    r.rig = pg_rig_create();
    assert_int_equal(setenv("PGQRS_SCHEMA", r.rig->schema, 1), 0);
    (void)snprintf(r.load_dsn, sizeof r.load_dsn, "%s&options=-csearch_path%%3D%s", r.rig->dsn,
                   r.rig->schema);
    scratch_copy(&r.shared, "work.so", built("tests/handlers/ledger.so"));
    find_ports();
    for (size_t i = 0; i < MEMBERS; i++) {
        struct member *m = &r.members[i];
        (void)snprintf(m->name, sizeof m->name, "%c", (char)('a' + i));
        scratch_create(&m->scratch);
        configure(m);
        daemon_start(&m->daemon, &m->scratch);
        await_ready(m);
    }
}

static int rehearse(void **state)
{
    (void)state;
    set_up();
    trigger_run();
    assert_int_equal(pthread_create(&r.producer, NULL, produce, NULL), 0);
    assert_int_equal(pthread_create(&r.watcher, NULL, watch, NULL), 0);
    pg_rig_await(r.rig, FIRST,
                 "SELECT count(*) FROM pgqrs_messages WHERE consumer_worker_id IS NOT NULL AND"
                 " (payload->>'n')::int <= 6");
    for (size_t i = 0; i < STOPS; i++) {
        if (i == STOPS - MEMBERS) {
            scratch_copy(&r.shared, "work.so", built("tests/handlers/ledger_next.so"));
        }
        restart((i + 1) % MEMBERS, &r.stops[i]);
    }
    atomic_store(&r.enough, true);
    (void)pthread_join(r.producer, NULL);
    (void)pthread_join(r.watcher, NULL);
    pg_rig_await(r.rig, 0,
                 "SELECT count(*) FROM pgqrs_messages m JOIN pgqrs_queues q ON q.id = m.queue_id"
                 " WHERE q.queue_name <> 'tick' AND m.archived_at IS NULL");
    pg_rig_await(r.rig, 1,
                 "SELECT (now() - max(tick_at) < interval '1 s')::int FROM pgqrsd_schedule_ticks");
    for (size_t i = 0; i < MEMBERS; i++) {
        r.members[i].last_status = daemon_stop(&r.members[i].daemon, SIGTERM);
    }
    read_rows();
    chaos_check(&r.ledger, &r.findings); /* sorts it */
    return 0;
}

static int clean_up(void **state)
{
    bool clean = true;
    (void)state;
    for (size_t i = 0; i < MEMBERS; i++) {
        if (r.members[i].daemon.pid > 0) {
            (void)daemon_stop(&r.members[i].daemon, SIGQUIT);
        }
        clean = daemon_is_clean(&r.members[i].daemon) && clean;
        scratch_remove(&r.members[i].scratch);
    }
    chaos_ledger_fini(&r.ledger);
    pg_rig_destroy(r.rig);
    scratch_remove(&r.shared);
    return clean ? 0 : -1;
}

/* ---- what must hold ---- */

static void no_job_is_lost_or_done_twice(void **state)
{
    (void)state;
    for (size_t i = 0; i < r.findings.count && i < CHAOS_FINDINGS_MAX; i++) {
        print_error("%s\n", r.findings.text[i]);
    }
    assert_int_equal(r.findings.count, 0);
    assert_int_equal(r.ledger.acks.count, r.last_job);
    assert_true(r.last_job > 500);
}

static void no_attempt_is_spent(void **state)
{
    (void)state;
    assert_int_equal(pg_rig_number(r.rig, "SELECT count(*) FROM pgqrs_messages WHERE read_ct <> 1"
                                          " OR pgqrsd_crash_ct <> 0"),
                     0);
    assert_int_equal(pg_rig_number(r.rig, "SELECT count(*) FROM pgqrs_messages WHERE"
                                          " pgqrsd_outcome IS DISTINCT FROM 'done'"),
                     0);
    assert_int_equal(pg_rig_number(r.rig, "SELECT count(*) FROM pgqrs_messages m JOIN"
                                          " pgqrs_queues q ON q.id = m.queue_id WHERE q.queue_name"
                                          " <> 'flow' AND pgqrsd_result->>'attempt' <> '1'"),
                     0);
}

static const struct stop *stop_at(int64_t us)
{
    for (size_t i = 0; i < STOPS; i++) {
        if (r.stops[i].term_us <= us && us <= r.stops[i].exit_us) {
            return &r.stops[i];
        }
    }
    return NULL;
}

static int64_t length_us(int64_t id)
{
    const struct chaos_row *rows = r.ledger.rows.items;
    for (size_t i = 0; i < r.ledger.rows.count; i++) {
        if (rows[i].id == id) {
            return r.job_ms[rows[i].n] * 1000;
        }
    }
    return 0;
}

static void only_what_outlasts_the_drain_is_interrupted(void **state)
{
    const struct chaos_run *runs = r.ledger.runs.items;
    int interrupted[STOPS] = {0};
    int all = 0;
    (void)state;
    for (size_t i = 0; i < r.ledger.runs.count; i++) {
        if (strcmp(runs[i].how, "cancelled") != 0) {
            assert_string_equal(runs[i].how, "done"); /* each that was begun has ended */
            continue;
        }
        const struct stop *stop = stop_at(runs[i].end_us);
        assert_non_null(stop);
        int64_t limit_us = stop->term_us + DRAIN_MS * 1000 - EARLY_US;
        assert_true(runs[i].end_us > limit_us);
        assert_true(runs[i].start_us + length_us(runs[i].id) > limit_us);
        interrupted[stop - r.stops]++;
        all++;
    }
    print_message("%zu jobs, %d times interrupted\n", r.ledger.rows.count, all);
    assert_true(all > 0);
    for (size_t i = 0; i < STOPS; i++) {
        if (interrupted[i] > 0) {
            assert_int_equal(r.stops[i].status, 75);
        }
    }
}

static void each_ends_by_itself(void **state)
{
    (void)state;
    for (size_t i = 0; i < STOPS; i++) {
        assert_false(r.stops[i].killed);
        assert_true(r.stops[i].status == 0 || r.stops[i].status == 75);
    }
    for (size_t i = 0; i < MEMBERS; i++) {
        assert_int_equal(r.members[i].last_status, 0);
    }
}

static void one_is_always_ready(void **state)
{
    (void)state;
    print_message("%ld polls, not ready %ld and %ld times\n", r.polls, r.downs[0], r.downs[1]);
    assert_true(r.downs[0] > 0 && r.downs[1] > 0);
    assert_int_equal(r.both_down, 0);
}

static void one_that_drains_is_not_ready_and_lives(void **state)
{
    int whole = 0;
    (void)state;
    for (size_t i = 0; i < STOPS; i++) {
        const struct stop *stop = &r.stops[i];
        bool used_up = stop->exit_us - stop->term_us > DRAIN_MS * 1000 - EARLY_US;
        assert_true(!used_up || stop->unready > 0);
        assert_int_equal(stop->dead, 0);
        whole += used_up ? 1 : 0;
    }
    assert_true(whole > 0);
}

static int64_t results_of_version(int version)
{
    return pg_rig_number(r.rig,
                         "SELECT count(*) FROM pgqrs_messages WHERE"
                         " pgqrsd_result->>'version' = '%d' AND payload->>'n' IS NOT NULL",
                         version);
}

static void a_new_version_takes_over(void **state)
{
    int64_t before = results_of_version(1);
    int64_t after = results_of_version(2);
    (void)state;
    print_message("%" PRId64 " results of the old version, %" PRId64 " of the new one\n", before,
                  after);
    assert_true(before > 0 && after > 0);
    assert_int_equal(before + after, r.last_job);
}

static void no_tick_is_lost_or_fired_twice(void **state)
{
    (void)state;
    int64_t ticks = pg_rig_number(r.rig, "SELECT count(*) FROM pgqrsd_schedule_ticks");
    print_message("%" PRId64 " ticks\n", ticks);
    assert_true(ticks >= STOPS);
    assert_int_equal(pg_rig_number(r.rig, "SELECT extract(epoch FROM max(tick_at) - min(tick_at))"
                                          "::bigint + 1 FROM pgqrsd_schedule_ticks"),
                     ticks);
    assert_int_equal(pg_rig_number(r.rig, "SELECT count(DISTINCT m.id) FROM pgqrsd_schedule_ticks t"
                                          " JOIN pgqrs_messages m ON m.id = t.message_id"),
                     ticks);
    assert_int_equal(pg_rig_number(r.rig, "SELECT count(*) FROM pgqrs_messages m JOIN pgqrs_queues"
                                          " q ON q.id = m.queue_id WHERE q.queue_name = 'tick'"),
                     ticks);
}

/* A step that is told to stop ends early, and is stored. */
static void a_run_goes_on_where_it_was(void **state)
{
    (void)state;
    for (int i = 0; i < STEPS; i++) {
        char line[32];
        (void)snprintf(line, sizeof line, "slow s%d ", i);
        assert_int_equal(effects_count(&r.shared, line), 1);
    }
    assert_int_equal(pg_rig_number(r.rig, "SELECT count(*) FROM pgqrs_workflow_steps WHERE"
                                          " status = 'SUCCESS'"),
                     STEPS);
    assert_int_equal(pg_rig_number(r.rig, "SELECT count(*) FROM pgqrs_workflow_runs WHERE"
                                          " status = 'SUCCESS'"),
                     1);
    char command[160];
    (void)snprintf(command, sizeof command, "test $(cut -d' ' -f5 %s | sort -u | wc -l) -ge 2",
                   r.shared.effects);
    assert_int_equal(system(command), 0); /* more than one worker has had it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_job_is_lost_or_done_twice),
        cmocka_unit_test(no_attempt_is_spent),
        cmocka_unit_test(only_what_outlasts_the_drain_is_interrupted),
        cmocka_unit_test(each_ends_by_itself),
        cmocka_unit_test(one_is_always_ready),
        cmocka_unit_test(one_that_drains_is_not_ready_and_lives),
        cmocka_unit_test(a_new_version_takes_over),
        cmocka_unit_test(no_tick_is_lost_or_fired_twice),
        cmocka_unit_test(a_run_goes_on_where_it_was),
    };
    return cmocka_run_group_tests_name("rolling restarts", tests, rehearse, clean_up);
}
