/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manifests of packaging/kubernetes: they are what Kubernetes and KEDA take, and what they say
 * about pgqrsd is true of one that runs with their configuration, with the secret as the kubelet
 * mounts it.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "config/config.h"
#include "config/yaml_tree.h"
#include "tests/support/pg_daemon.h"

#define MANIFESTS "packaging/kubernetes/"
#define LAST_OUTCOMES_MS 8000 /* how long a broker may take to store them */

/* ---- manifests ---- */

static struct pgqrs_yaml_node read_manifest(const char *name)
{
    char path[128];
    struct pgqrs_yaml_node root = {0};
    struct pgqrs_error err = {0};
    (void)snprintf(path, sizeof path, MANIFESTS "%s", name);
    if (pgqrs_yaml_read(path, &root, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return root;
}

/* "a/b/0/c": keys of mappings, places of sequences. */
static const struct pgqrs_yaml_node *find(const struct pgqrs_yaml_node *root, const char *path)
{
    char copy[160];
    char *rest = copy;
    const struct pgqrs_yaml_node *node = root;
    (void)snprintf(copy, sizeof copy, "%s", path);
    for (char *key = strsep(&rest, "/"); key != NULL && node != NULL; key = strsep(&rest, "/")) {
        size_t place = (size_t)atol(key);
        node = node->kind != PGQRS_YAML_SEQUENCE ? pgqrs_yaml_get(node, key)
               : place < node->count             ? &node->items[place]
                                                 : NULL;
    }
    if (node == NULL) {
        fail_msg("%s is not there", path);
    }
    return node;
}

static const char *text(const struct pgqrs_yaml_node *root, const char *path)
{
    const struct pgqrs_yaml_node *node = find(root, path);
    assert_int_equal(node->kind, PGQRS_YAML_SCALAR);
    return node->text;
}

#define POD "spec/template/spec/"
#define CONTAINER POD "containers/0/"

/* ---- a pod ---- */

static const char *in_scratch(const struct scratch *s, const char *name)
{
    static char path[160];
    (void)snprintf(path, sizeof path, "%s/%s", s->dir, name);
    return path;
}

/* Files of one version of the secret, in a directory of its own, to which a link leads. */
static void mount_secret(const struct scratch *s, const char *version, const char *dsn)
{
    char name[64];
    (void)snprintf(name, sizeof name, "..%s", version);
    assert_int_equal(mkdir(in_scratch(s, name), 0755), 0);
    (void)snprintf(name, sizeof name, "..%s/dsn", version);
    scratch_write(s, name, "%s", dsn);
    assert_int_equal(chmod(in_scratch(s, name), 0440), 0);
    (void)snprintf(name, sizeof name, "..%s", version);
    scratch_link(s, "..data", name);
    scratch_link(s, "dsn", "..data/dsn");
    (void)setenv("PGQRS_DSN_FILE", in_scratch(s, "dsn"), 1);
}

static int setup(void **state)
{
    int rc = pg_daemon_setup(state);
    const struct pg_daemon *d = *state;
    const struct scratch *s = &d->fixture->scratch;
    (void)unsetenv("PGQRS_SCHEMA"); /* the server is the test's own: public, as in the manifests */
    (void)unsetenv("PGQRS_DSN");
    assert_int_equal(mkdir(in_scratch(s, "run"), 0777), 0);
    (void)setenv("RUNTIME_DIRECTORY", in_scratch(s, "run/private"), 1);
    mount_secret(s, "0", d->rig->dsn);
    return rc;
}

static int teardown(void **state)
{
    (void)unsetenv("PGQRS_DSN_FILE");
    (void)unsetenv("PGQRS_HTTP_LISTEN");
    return pg_daemon_teardown(state);
}

/* The ConfigMap's, as the image finds it. */
static void mount_config(const struct scratch *s)
{
    struct pgqrs_yaml_node map = read_manifest("base/configmap.yaml");
    scratch_write(s, "pgqrsd.yaml", "%s", text(&map, "data/pgqrsd.yaml"));
    pgqrs_yaml_fini(&map);
}

/* ---- what probes do ---- */

static in_port_t port_of(const struct daemon *d)
{
    static const char before[] = "listening at http://127.0.0.1:";
    char line[4096];
    in_port_t port = 0;
    daemon_await_log(d, before, 1);
    FILE *log = fopen(d->log, "r");
    assert_non_null(log);
    while (port == 0 && fgets(line, sizeof line, log) != NULL) {
        const char *at = strstr(line, before);
        port = at == NULL ? 0 : (in_port_t)atoi(at + sizeof before - 1);
    }
    (void)fclose(log);
    assert_int_not_equal(port, 0);
    return port;
}

struct probe {
    in_port_t port;
    const char *path;
};

static bool answers(const void *arg)
{
    const struct probe *probe = arg;
    const struct timeval patience = {.tv_sec = WAIT_MS / 1000};
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons(probe->port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char request[256];
    char answer[16] = "";
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: pod\r\n\r\n", probe->path);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
        send(fd, request, (size_t)n, MSG_NOSIGNAL) == n) {
        (void)!recv(fd, answer, sizeof answer - 1, MSG_WAITALL);
    }
    (void)close(fd);
    return strncmp(answer, "HTTP/1.1 200", 12) == 0;
}

/* ---- cases ---- */

/* Of the image, with the words of a container's command. */
static void run_command(const struct pgqrs_yaml_node *words)
{
    char command[1200];
    assert_true(words->count > 1);
    assert_string_equal(words->items[0].text, "pgqrs");
    (void)snprintf(command, sizeof command, "%s", built("bin/pgqrs"));
    for (size_t i = 1; i < words->count; i++) {
        size_t len = strlen(command);
        (void)snprintf(command + len, sizeof command - len, " %s", words->items[i].text);
    }
    assert_int_equal(system(command), 0);
}

static void test_kubernetes_and_keda_take_them(void **state)
{
    char command[1200];
    (void)state;
    if (access(built("venv/ready"), F_OK) < 0) {
        print_message("skipped: without the schemas, which `make test` gets from PyPI\n");
        skip();
    }
    (void)snprintf(command, sizeof command, "%s tests/support/manifests.py " MANIFESTS,
                   built("venv/bin/python"));
    assert_int_equal(system(command), 0);
}

static void test_pgqrsd_takes_the_configuration(void **state)
{
    struct pg_daemon *d = *state;
    char command[1200];
    mount_config(&d->fixture->scratch);
    (void)snprintf(command, sizeof command, "%s --check -c %s", built("bin/pgqrsd"),
                   in_scratch(&d->fixture->scratch, "pgqrsd.yaml"));
    assert_int_equal(system(command), 0);
}

static void test_it_can_drain_before_it_is_killed(void **state)
{
    struct pg_daemon *d = *state;
    struct pgqrs_config *config = NULL;
    struct pgqrs_error err = {0};
    struct pgqrs_yaml_node deployment = read_manifest("base/deployment.yaml");
    long long grace_s = atoll(text(&deployment, POD "terminationGracePeriodSeconds"));
    mount_config(&d->fixture->scratch);
    if (pgqrs_config_load(in_scratch(&d->fixture->scratch, "pgqrsd.yaml"), &config, &err) < 0) {
        fail_msg("%s", err.text);
    }
    int64_t needed_ms = config->drain_ms + config->cancel_grace_ms + LAST_OUTCOMES_MS;
    assert_true(needed_ms < grace_s * 1000);
    assert_int_equal(atoll(text(&deployment, "spec/template/metadata/annotations/grace")), grace_s);
    /* A start may take its time before the kubelet gives it up. */
    int64_t started_s = atoll(text(&deployment, CONTAINER "startupProbe/periodSeconds")) *
                        atoll(text(&deployment, CONTAINER "startupProbe/failureThreshold"));
    assert_true(config->start_timeout_ms < started_s * 1000);
    assert_string_equal(strrchr(config->http_listen, ':') + 1,
                        text(&deployment, CONTAINER "ports/0/containerPort"));
    pgqrs_config_destroy(&config);
    pgqrs_yaml_fini(&deployment);
}

/* As KEDA asks, with the DSN of the secret. */
static int64_t number(const char *sql)
{
    char dsn[256];
    FILE *file = fopen(getenv("PGQRS_DSN_FILE"), "r");
    assert_non_null(file);
    assert_non_null(fgets(dsn, sizeof dsn, file));
    (void)fclose(file);
    dsn[strcspn(dsn, "\n")] = 0;
    PGconn *conn = PQconnectdb(dsn);
    PGresult *result = PQexec(conn, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    }
    int64_t found = atoll(PQgetvalue(result, 0, 0));
    PQclear(result);
    PQfinish(conn);
    return found;
}

static void test_what_the_cluster_asks_is_answered(void **state)
{
    static const char *const probes[] = {"startup", "liveness", "readiness"};
    struct pg_daemon *d = *state;
    struct fixture *f = d->fixture;
    struct pgqrs_yaml_node deployment = read_manifest("base/deployment.yaml");
    struct pgqrs_yaml_node scaled = read_manifest("keda/scaledobject.yaml");
    struct pgqrs_yaml_node purge = read_manifest("base/cronjob.yaml");
    const char *query = text(&scaled, "spec/triggers/0/metadata/query");
    mount_config(&f->scratch);
    (void)setenv("PGQRS_HTTP_LISTEN", "0", 1);
    daemon_start(&f->daemon, &f->scratch);
    struct probe probe = {.port = port_of(&f->daemon)};
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        char path[96];
        (void)snprintf(path, sizeof path, CONTAINER "%sProbe/httpGet/path", probes[i]);
        probe.path = text(&deployment, path);
        if (!wait_for(answers, &probe, WAIT_MS)) {
            fail_msg("%s probe: %s is not answered with 200", probes[i], probe.path);
        }
    }
    assert_int_equal(number(query), 0);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_int_equal(number("SELECT count(*) FROM public.pgqrs_enqueue_batch('checksum',"
                            " ARRAY['{}', '{}', '{}']::jsonb[])"),
                     3);
    assert_int_equal(number(query), 3);

    (void)number("WITH old AS (UPDATE public.pgqrs_workers SET heartbeat_at = now() -"
                 " interval '8 days' RETURNING 1) SELECT count(*) FROM old");
    run_command(find(&purge, "spec/jobTemplate/spec/template/spec/containers/0/command"));
    assert_int_equal(number("SELECT count(*) FROM public.pgqrs_workers"), 0);
    pgqrs_yaml_fini(&purge);
    pgqrs_yaml_fini(&scaled);
    pgqrs_yaml_fini(&deployment);
}

/* ---- another password ---- */

static void ask_for_passwords(struct pg_daemon *d)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/data/pg_hba.conf", pg_rig_dir());
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(file, "local all alice scram-sha-256\nlocal all all trust\n");
    (void)fclose(file);
    if (pg_rig_number(d->rig, "SELECT count(*) FROM pg_roles WHERE rolname = 'alice'") == 0) {
        pg_rig_sql(d->rig, "CREATE ROLE alice SUPERUSER LOGIN");
    }
    pg_rig_sql(d->rig, "ALTER ROLE alice PASSWORD 'sesame-1'; SELECT pg_reload_conf()");
}

static void mount_password(struct pg_daemon *d, const char *version)
{
    char dsn[200];
    (void)snprintf(dsn, sizeof dsn, "postgres://alice:sesame-%s@/postgres?host=%s\n", version,
                   pg_rig_dir());
    mount_secret(&d->fixture->scratch, version, dsn);
}

static void test_a_reload_takes_another_password(void **state)
{
    struct pg_daemon *d = *state;
    struct fixture *f = d->fixture;
    ask_for_passwords(d);
    mount_password(d, "1");
    fixture_start(f, "");
    (void)number("SELECT public.pgqrs_enqueue('work', '{\"ms\": 1500}')");
    effects_await(&f->scratch, "start ", 1);

    pg_rig_sql(d->rig, "ALTER ROLE alice PASSWORD 'sesame-2'");
    mount_password(d, "2");
    assert_int_equal(kill(f->daemon.pid, SIGHUP), 0);
    daemon_await_log(&f->daemon, "broker: ready pid=", 2);
    assert_true(daemon_log_has(&f->daemon, "reload: dsn: another user or password"));
    assert_false(daemon_log_has(&f->daemon, " error "));

    mount_password(d, "wrong");
    assert_int_equal(kill(f->daemon.pid, SIGHUP), 0);
    daemon_await_log(&f->daemon, "password authentication failed", 1);
    mount_password(d, "2-again");
    pg_rig_sql(d->rig, "ALTER ROLE alice PASSWORD 'sesame-2-again'");
    assert_int_equal(kill(f->daemon.pid, SIGHUP), 0);
    daemon_await_log(&f->daemon, "broker: ready pid=", 3);
    effects_await(&f->scratch, "end ", 1);
    pg_rig_await(d->rig, 1,
                 "SELECT count(*) FROM public.pgqrs_messages WHERE pgqrsd_outcome = 'done' AND"
                 " read_ct = 1 AND pgqrsd_crash_ct = 0");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
    assert_false(daemon_log_has(&f->daemon, "sesame"));
}

/* Nothing has been lost, but it can not say that all is well. */
static void test_a_stop_with_the_wrong_password(void **state)
{
    struct pg_daemon *d = *state;
    struct fixture *f = d->fixture;
    ask_for_passwords(d);
    mount_password(d, "1");
    daemon_config(&f->scratch,
                  "shutdown: {drain: 1s, cancel_grace: 100ms}\n"
                  "queues: {work: {handler: %s, settings: {file: %s}}}\n",
                  built("tests/handlers/effect.so"), f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "worker 0: ready", 1);
    (void)number("SELECT public.pgqrs_enqueue('work', '{\"ms\": 500}')");
    effects_await(&f->scratch, "start ", 1);
    mount_password(d, "wrong");
    assert_int_equal(kill(f->daemon.pid, SIGHUP), 0);
    daemon_await_log(&f->daemon, "password authentication failed", 1);
    effects_await(&f->scratch, "end ", 1);
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 69);
    assert_true(daemon_log_has(&f->daemon, "they run again"));

    mount_password(d, "1-again");
    pg_rig_sql(d->rig, "ALTER ROLE alice PASSWORD 'sesame-1-again'");
    daemon_start(&f->daemon, &f->scratch);
    pg_rig_await(d->rig, 1,
                 "SELECT count(*) FROM public.pgqrs_messages WHERE pgqrsd_outcome = 'done' AND"
                 " read_ct = 2");
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        cmocka_unit_test(test_kubernetes_and_keda_take_them),
        CASE(test_pgqrsd_takes_the_configuration),
        CASE(test_it_can_drain_before_it_is_killed),
        CASE(test_what_the_cluster_asks_is_answered),
        CASE(test_a_reload_takes_another_password),
        CASE(test_a_stop_with_the_wrong_password),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
