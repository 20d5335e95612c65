/* SPDX-License-Identifier: Apache-2.0 */
/* The broker in `pgqrsd --check`: looks at the store, claims nothing and changes nothing. */
#include "broker/check.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/process.h"
#include "ipc/check.h"
#include "ipc/spawn_contract.h"
#include "store/server_look.h"
#include "store/store.h"

#define BUSY_MS 2000
#define CALL_MS 10000
#define SKEW_MS INT64_C(2000)
#define LOOK_TRIES 5
#define LOOK_PAUSE_MS 100
#define CONNECTIONS 2 /* of a broker: one for its calls, one that listens */

/* ---- SQLite: a file that is not there yet ---- */

/* Null: the DSN names no file. Free it. */
static char *find_file(const char *dsn)
{
    const char *path = strncmp(dsn, "sqlite://", 9) == 0 ? dsn + 9 : dsn + 7;
    return strncmp(dsn, "sqlite:", 7) != 0 || *path == ':' ? NULL
                                                           : strndup(path, strcspn(path, "?"));
}

static void tell_absent(const char *path)
{
    char *dir = strndup(path, (size_t)(strrchr(path, '/') - path) + 1);
    if (dir != NULL && faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) < 0) {
        pgqrs_check_say(PGQRS_CHECK_ERROR, "store: %s can not be made: %s", path, strerror(errno));
    } else {
        pgqrs_check_say(PGQRS_CHECK_INFO,
                        "store: %s is not there yet; pgqrsd makes it at its start", path);
    }
    free(dir);
}

/* True: there is nothing to open. */
static bool look_at_file(const char *dsn)
{
    char *path = find_file(dsn);
    const char *options = strchrnul(dsn, '?');
    bool named = path != NULL && strchr(path, '/') != NULL && strchr(path, '%') == NULL;
    bool absent = named && strcmp(options, "?mode=rw") != 0 && access(path, F_OK) < 0 &&
                  (errno == ENOENT || errno == ENOTDIR);
    if (absent) {
        tell_absent(path);
    } else if (named && faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) < 0 && errno != ENOENT) {
        pgqrs_check_say(PGQRS_CHECK_ERROR, "store: %s can not be written: %s", path,
                        strerror(errno));
    }
    free(path);
    return absent;
}

/* ---- the schema, and what is in it ---- */

/* True: it is complete. */
static bool check_schema(struct pgqrs_store *store)
{
    struct pgqrs_error err;
    int tables = pgqrs_store_fits(store, &err);
    if (tables < 0) {
        pgqrs_check_say(PGQRS_CHECK_ERROR, "schema: %s", err.text);
        return false;
    }
    if (tables == 0) {
        pgqrs_check_say(PGQRS_CHECK_INFO,
                        "schema: there are no tables yet; pgqrsd makes them at its start");
        return false;
    }
    if (pgqrs_store_verify(store, &err) < 0) {
        pgqrs_check_say(PGQRS_CHECK_WARNING,
                        "schema: %s; pgqrsd completes it at its start, as pgqrs admin install does",
                        err.text);
        return false;
    }
    return true;
}

static void check_queues(struct pgqrs_store *store, const struct pgqrs_broker_welcome *m)
{
    for (size_t i = 0; i < m->queue_count; i++) {
        struct pgqrs_error err;
        int64_t id;
        if (pgqrs_store_queue_find(store, m->queues[i].name, &id, &err) == 0) {
            continue;
        }
        if (err.code != PGQRS_ERR_NOT_FOUND) {
            pgqrs_check_say(PGQRS_CHECK_ERROR, "queues: %s", err.text);
            return;
        }
        pgqrs_check_say(PGQRS_CHECK_INFO,
                        "queues: \"%s\" is not there yet; pgqrsd makes it at its start",
                        m->queues[i].name);
    }
}

static void check_clock(struct pgqrs_store *store)
{
    struct pgqrs_queue_metrics metrics;
    struct pgqrs_error err;
    char skew[48];
    int64_t before_us = pgqrs_wall_us();
    if (pgqrs_store_queue_metrics(store, 0, 1, &metrics, &err) < 0) {
        pgqrs_check_say(PGQRS_CHECK_ERROR, "clock: %s", err.text);
        return;
    }
    int64_t ahead_ms = (metrics.now_us - pgqrs_wall_us()) / 1000;
    int64_t behind_ms = (before_us - metrics.now_us) / 1000;
    if (ahead_ms > SKEW_MS || behind_ms > SKEW_MS) {
        (void)snprintf(skew, sizeof skew, "%" PRId64 " s %s",
                       (ahead_ms > 0 ? ahead_ms : behind_ms) / 1000,
                       ahead_ms > 0 ? "ahead of" : "behind");
        pgqrs_check_say(PGQRS_CHECK_WARNING, "clock: the store's is %s this machine's", skew);
    }
}

/* ---- a PostgreSQL server ---- */

/* The connection that was closed just now may not have left its room yet. */
static int look(const struct pgqrs_broker_welcome *m, const char *dsn, const char *site,
                struct pgqrs_server_look *out, struct pgqrs_error *err)
{
    for (int i = 0;; i++) {
        int rc = pgqrs_server_look(dsn, m->schema, site, out, err);
        bool settled =
            rc == 0 ? out->served || out->room >= CONNECTIONS : err->code != PGQRS_ERR_AGAIN;
        if (settled || i == LOOK_TRIES) {
            return rc;
        }
        (void)poll(NULL, 0, LOOK_PAUSE_MS);
    }
}

static void check_pooler(const struct pgqrs_broker_welcome *m,
                         const struct pgqrs_server_look *found, const char *site)
{
    struct pgqrs_server_look wake = *found;
    struct pgqrs_error err;
    if (m->wake_dsn[0] != 0 && look(m, m->wake_dsn, site, &wake, &err) < 0) {
        pgqrs_check_say(PGQRS_CHECK_ERROR, "wake_dsn: %s", err.text);
    } else if (wake.pooled) {
        pgqrs_check_say(PGQRS_CHECK_WARNING,
                        "store: a pooler is before PostgreSQL, nothing can be heard through it and "
                        "new jobs wait for a poll; wake_dsn may lead past it, such as %s",
                        wake.direct_dsn[0] != 0 ? wake.direct_dsn : "postgres://SERVER/DATABASE");
    }
}

static void check_server(const struct pgqrs_broker_welcome *m, bool complete)
{
    struct pgqrs_server_look found;
    struct pgqrs_error err;
    char host[256] = "";
    char site[sizeof host + 64];
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(site, sizeof site, "%s/%s", host, m->name);
    if (look(m, m->dsn, site, &found, &err) < 0) {
        pgqrs_check_say(PGQRS_CHECK_ERROR, "store: %s", err.text);
        return;
    }
    if (found.read_only) {
        pgqrs_check_say(PGQRS_CHECK_ERROR,
                        "store: the server does not let anything be written: it is a standby, or "
                        "read-only");
    }
    if (found.denied[0] != 0) {
        pgqrs_check_say(PGQRS_CHECK_ERROR,
                        "schema: this user may not SELECT, INSERT, UPDATE and DELETE in %s.%s",
                        m->schema, found.denied);
    }
    if (!complete && !found.may_create) {
        pgqrs_check_say(PGQRS_CHECK_ERROR,
                        "schema: this user may not create tables in \"%s\"; one who may can do so "
                        "with pgqrs admin install",
                        m->schema);
    }
    if (!found.served && found.room < CONNECTIONS) {
        pgqrs_check_say(PGQRS_CHECK_ERROR,
                        "connections: there is room for %" PRId64 " more, expected %d (%s)",
                        found.room, CONNECTIONS, found.room_of);
    }
    check_pooler(m, &found, site);
}

/* ---- all of it ---- */

static void check_store(const struct pgqrs_broker_welcome *m)
{
    const struct pgqrs_store_options options = {
        .busy_ms = BUSY_MS, .call_ms = CALL_MS, .schema = m->schema};
    struct pgqrs_store *store = NULL;
    struct pgqrs_error err;
    if (look_at_file(m->dsn)) {
        return;
    }
    if (pgqrs_store_open(m->dsn, &options, &store, &err) < 0) {
        pgqrs_check_say(PGQRS_CHECK_ERROR, "store: %s", err.text);
        return;
    }
    bool server = strcmp(pgqrs_store_backend(store), "postgres") == 0;
    bool complete = check_schema(store);
    if (complete) {
        check_queues(store, m);
        check_clock(store);
    }
    pgqrs_store_close(&store);
    if (server) {
        check_server(m, complete);
    }
}

int pgqrs_broker_check(void)
{
    struct pgqrs_buf data = {0};
    struct pgqrs_frame frame;
    struct pgqrs_broker_welcome welcome;
    struct pgqrs_error err;
    pgqrs_process_close_to_others();
    (void)signal(SIGPIPE, SIG_IGN); /* a closed peer is an error of write */
    pgqrs_log_init("pgqrs-broker", PGQRS_LOG_TEXT, PGQRS_LOG_ERROR);
    if (pgqrs_check_begin(PGQRS_ROLE_BROKER, &data, &frame, &err) < 0) {
        pgqrs_log_error("%s", err.text);
        pgqrs_buf_fini(&data);
        return PGQRS_EXIT_USAGE;
    }
    if (pgqrs_decode_broker_welcome(&frame, &welcome, &err) < 0) {
        pgqrs_check_say(PGQRS_CHECK_ERROR, "store: %s", err.text);
    } else {
        check_store(&welcome);
        pgqrs_broker_welcome_fini(&welcome);
    }
    pgqrs_check_say(PGQRS_CHECK_DONE, "all is looked at");
    explicit_bzero(data.data, data.len);
    pgqrs_buf_fini(&data);
    return PGQRS_EXIT_OK;
}
