/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/pg_rig.h"

#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 20000
#define SPAWN_MAX 64

static struct {
    char dir[40]; /* a socket's name must be short */
    char data[64];
    char bin[200];
    pid_t owner; /* the test program: its forked children leave everything alone */
    pid_t postmaster;
    pid_t spawned[SPAWN_MAX];
    int spawned_count;
    int schemas;
} cluster;

static void nap(void)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    (void)nanosleep(&pause, NULL); /* a signal only makes it shorter */
}

/* ---- programs ---- */

static void __attribute__((noreturn))
become(const struct passwd *user, pid_t parent, const char *const argv[], const char *log)
{
    char *args[32] = {0};
    for (int i = 0; i < 31 && argv[i] != NULL; i++) {
        args[i] = strdup(argv[i]);
    }
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0666);
    int none = open("/dev/null", O_RDONLY);
    if (fd < 0 || none < 0 || dup2(none, 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0 ||
        chdir("/") < 0) {
        _exit(120);
    }
    if (user != NULL &&
        (setgroups(0, NULL) < 0 || setgid(user->pw_gid) < 0 || setuid(user->pw_uid) < 0)) {
        _exit(121);
    }
    /* After the change of user, which undoes it. SIGQUIT ends a server at once. */
    if (prctl(PR_SET_PDEATHSIG, SIGQUIT) < 0 || getppid() != parent) {
        _exit(122);
    }
    (void)execvp(args[0], args);
    _exit(123);
}

static const struct passwd *server_user(void)
{
    return geteuid() == 0 ? getpwnam("postgres") : NULL;
}

static pid_t spawn(const char *const argv[], const char *log)
{
    char path[128];
    const struct passwd *user = server_user();
    if (geteuid() == 0 && user == NULL) {
        fail_msg("there is no user postgres");
    }
    (void)snprintf(path, sizeof path, "%s/%s", cluster.dir, log);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        become(user, parent, argv, path);
    }
    assert_true(pid > 0);
    return pid;
}

pid_t pg_rig_spawn(const char *const argv[], const char *log)
{
    assert_true(cluster.spawned_count < SPAWN_MAX);
    return cluster.spawned[cluster.spawned_count++] = spawn(argv, log);
}

static void show_log(const char *name)
{
    char path[128];
    char line[300];
    (void)snprintf(path, sizeof path, "%s/%s", cluster.dir, name);
    FILE *log = fopen(path, "r");
    while (log != NULL && fgets(line, sizeof line, log) != NULL) {
        (void)fputs(line, stderr);
    }
    if (log != NULL) {
        (void)fclose(log);
    }
}

static void run(const char *const argv[], const char *log)
{
    int status = -1;
    pid_t pid = spawn(argv, log);
    if (waitpid(pid, &status, 0) != pid || status != 0) {
        show_log(log);
        fail_msg("%s: status %d", argv[0], status);
    }
}

/* ---- the server ---- */

static int on_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

static void end(pid_t pid, int sig)
{
    if (pid > 0) {
        (void)kill(pid, SIGCONT); /* it may be gone, or have been stopped by a case */
        (void)kill(pid, sig);
        (void)waitpid(pid, NULL, 0);
    }
}

static void on_exit_here(void)
{
    if (getpid() != cluster.owner) {
        return;
    }
    for (int i = 0; i < cluster.spawned_count; i++) {
        end(cluster.spawned[i], SIGKILL);
    }
    end(cluster.postmaster, SIGQUIT);
    (void)nftw(cluster.dir, on_entry, 16, FTW_DEPTH | FTW_PHYS); /* what is left does no harm */
}

static void find_programs(void)
{
    glob_t found = {0};
    const char *given = getenv("PGQRS_TEST_PG_BIN");
    if (given == NULL && glob("/usr/lib/postgresql/*/bin", 0, NULL, &found) == 0) {
        given = found.gl_pathv[found.gl_pathc - 1];
    }
    (void)snprintf(cluster.bin, sizeof cluster.bin, "%s", given == NULL ? "" : given);
    globfree(&found);
    if (*cluster.bin == 0) {
        fail_msg("PostgreSQL's programs were not found in /usr/lib/postgresql");
    }
}

void pg_rig_start(void)
{
    char program[256];
    char where[80];
    (void)snprintf(program, sizeof program, "%s/postgres", cluster.bin);
    (void)snprintf(where, sizeof where, "host=%s user=postgres", cluster.dir);
    const char *const argv[] = {program, "-D", cluster.data, "-k", cluster.dir, NULL};
    cluster.postmaster = spawn(argv, "server.log");
    int64_t give_up_ms = pgqrs_mono_ms() + WAIT_MS;
    while (PQping(where) != PQPING_OK) {
        if (pgqrs_mono_ms() > give_up_ms || waitpid(cluster.postmaster, NULL, WNOHANG) != 0) {
            show_log("server.log");
            fail_msg("the server does not start");
        }
        nap();
    }
}

void pg_rig_stop(void)
{
    end(cluster.postmaster, SIGINT);
    cluster.postmaster = 0;
}

pid_t pg_rig_postmaster(void)
{
    return cluster.postmaster;
}

const char *pg_rig_dir(void)
{
    return cluster.dir;
}

static void configure(void)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/postgresql.auto.conf", cluster.data);
    FILE *conf = fopen(path, "a");
    assert_non_null(conf);
    (void)fputs("listen_addresses = ''\nfsync = off\nfull_page_writes = off\n"
                "shared_buffers = 32MB\nmax_connections = 60\nautovacuum_naptime = 5s\n"
                "log_min_messages = warning\ntimezone = 'America/New_York'\n",
                conf);
    assert_int_equal(fclose(conf), 0);
}

static void create_cluster(void)
{
    char initdb[256];
    const struct passwd *user = server_user();
    find_programs();
    (void)snprintf(cluster.dir, sizeof cluster.dir, "/tmp/pgqrs-pg-XXXXXX");
    assert_non_null(mkdtemp(cluster.dir));
    cluster.owner = getpid();
    assert_int_equal(atexit(on_exit_here), 0);
    if (user != NULL) {
        assert_int_equal(chown(cluster.dir, user->pw_uid, user->pw_gid), 0);
    }
    (void)snprintf(cluster.data, sizeof cluster.data, "%s/data", cluster.dir);
    (void)snprintf(initdb, sizeof initdb, "%s/initdb", cluster.bin);
    const char *const argv[] = {
        initdb, "--no-sync",        "-A", "trust",      "-U", "postgres", "-E",
        "UTF8", "--locale=C.UTF-8", "-D", cluster.data, NULL};
    run(argv, "initdb.log");
    configure();
    pg_rig_start();
}

/* ---- a case ---- */

struct pg_rig *pg_rig_create(void)
{
    if (*cluster.dir == 0) {
        create_cluster();
    } else if (cluster.postmaster == 0) {
        pg_rig_start();
    }
    struct pg_rig *rig = calloc(1, sizeof *rig);
    assert_non_null(rig);
    (void)snprintf(rig->dsn, sizeof rig->dsn, "postgres:///postgres?host=%s&user=postgres",
                   cluster.dir);
    (void)snprintf(rig->schema, sizeof rig->schema, "t_%d", ++cluster.schemas);
    pg_rig_sql(rig, "CREATE SCHEMA %s", rig->schema);
    return rig;
}

void pg_rig_destroy(struct pg_rig *rig)
{
    if (cluster.postmaster == 0) {
        pg_rig_start();
    }
    if (rig->raw != NULL && PQstatus(rig->raw) != CONNECTION_OK) {
        PQreset(rig->raw);
    }
    pg_rig_sql(rig, "ROLLBACK; DROP SCHEMA IF EXISTS %s CASCADE", rig->schema);
    PQfinish(rig->raw);
    free(rig);
}

int pg_rig_setup(void **state)
{
    *state = pg_rig_create();
    return 0;
}

int pg_rig_teardown(void **state)
{
    pg_rig_destroy(*state);
    return 0;
}

int pg_rig_open(struct pg_rig *rig, const struct pgqrs_store_options *options,
                struct pgqrs_store **store_out)
{
    struct pgqrs_store_options how = {0};
    if (options != NULL) {
        how = *options;
    }
    how.schema = how.schema == NULL ? rig->schema : how.schema;
    return pgqrs_store_open(rig->dsn, &how, store_out, &rig->err);
}

struct pgqrs_store *pg_rig_store(struct pg_rig *rig, const struct pgqrs_store_options *options)
{
    struct pgqrs_store *store = NULL;
    suite_ok(rig, pg_rig_open(rig, options, &store));
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    return store;
}

/* ---- another program ---- */

static void on_notice(void *arg, const char *text)
{
    (void)arg;
    (void)text;
}

PGconn *pg_rig_connect(struct pg_rig *rig)
{
    char sql[100];
    PGconn *conn = PQconnectdb(rig->dsn);
    if (PQstatus(conn) != CONNECTION_OK) {
        fail_msg("%s", PQerrorMessage(conn));
    }
    (void)PQsetNoticeProcessor(conn, on_notice, NULL);
    (void)snprintf(sql, sizeof sql, "SET search_path TO %s; SET TimeZone TO UTC", rig->schema);
    PGresult *result = PQexec(conn, sql);
    assert_int_equal(PQresultStatus(result), PGRES_COMMAND_OK);
    PQclear(result);
    return conn;
}

PGconn *pg_rig_raw(struct pg_rig *rig)
{
    if (rig->raw != NULL && PQstatus(rig->raw) != CONNECTION_OK) {
        PQfinish(rig->raw);
        rig->raw = NULL;
    }
    if (rig->raw == NULL) {
        rig->raw = pg_rig_connect(rig);
    }
    return rig->raw;
}

/* After a write that failed libpq may still say that the connection is good. */
static bool has_ended(PGconn *conn, const PGresult *result)
{
    return PQstatus(conn) != CONNECTION_OK ||
           (PQresultStatus(result) == PGRES_FATAL_ERROR &&
            PQresultErrorField(result, PG_DIAG_SQLSTATE) == NULL);
}

static PGresult *query(struct pg_rig *rig, const char *fmt, va_list args)
{
    char *sql = NULL;
    assert_true(vasprintf(&sql, fmt, args) >= 0);
    PGresult *result = PQexec(pg_rig_raw(rig), sql);
    if (has_ended(rig->raw, result)) { /* the server was away */
        PQclear(result);
        PQfinish(rig->raw);
        rig->raw = NULL;
        result = PQexec(pg_rig_raw(rig), sql);
    }
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_EMPTY_QUERY) {
        fail_msg("%s: %s", sql, PQerrorMessage(rig->raw));
    }
    free(sql);
    return result;
}

void pg_rig_sql(struct pg_rig *rig, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    PQclear(query(rig, fmt, args));
    va_end(args);
}

static char text[65536];

static const char *read_text(PGresult *result)
{
    bool any = PQntuples(result) > 0 && PQnfields(result) > 0;
    (void)snprintf(text, sizeof text, "%s", any ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return text;
}

const char *pg_rig_text(struct pg_rig *rig, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    PGresult *result = query(rig, fmt, args);
    va_end(args);
    return read_text(result);
}

int64_t pg_rig_number(struct pg_rig *rig, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    PGresult *result = query(rig, fmt, args);
    va_end(args);
    const char *value = read_text(result);
    return strcmp(value, "t") == 0 ? 1 : strtoll(value, NULL, 10);
}

void pg_rig_set_clock(struct pg_rig *rig, int64_t wall_us)
{
    pg_rig_sql(rig,
               "CREATE OR REPLACE FUNCTION %s.pgqrsd_now() RETURNS timestamptz LANGUAGE sql STABLE "
               "AS 'SELECT to_timestamp(0) + %lld * interval ''1 microsecond'''",
               rig->schema, (long long)wall_us);
}

int64_t pg_rig_terminate(struct pg_rig *rig)
{
    return pg_rig_number(rig, "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
                              " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()");
}

void pg_rig_await(struct pg_rig *rig, int64_t expected, const char *sql)
{
    int64_t give_up_ms = pgqrs_mono_ms() + WAIT_MS;
    int64_t found;
    while ((found = pg_rig_number(rig, "%s", sql)) != expected) {
        if (pgqrs_mono_ms() > give_up_ms) {
            fail_msg("%s: found %lld, expected %lld", sql, (long long)found, (long long)expected);
        }
        nap();
    }
}
