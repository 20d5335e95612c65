/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/sqlite_rig.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/sqlite/sqlite_priv.h"

/* What only the SQLite backend can be asked, and the common cases on a file and in memory. */

static int64_t create_queue(struct sqlite_rig *rig, struct pgqrs_store *store, const char *name)
{
    int64_t id = 0;
    suite_ok(rig, pgqrs_store_queue_create(store, name, &id, &rig->err));
    return id;
}

static int64_t register_worker(struct sqlite_rig *rig, struct pgqrs_store *store, int64_t queue)
{
    const struct pgqrs_worker_row row = {
        .name = "w", .queue_id = queue, .instance = "run", .generation = 1, .pid = getpid()};
    int64_t id = 0;
    suite_ok(rig, pgqrs_store_worker_register(store, &row, &id, &rig->err));
    return id;
}

static void enqueue(struct sqlite_rig *rig, struct pgqrs_store *store, int64_t queue, size_t count)
{
    const struct pgqrs_enqueue item = {.payload = pgqrs_bytes_from("{}")};
    int64_t id;
    for (size_t i = 0; i < count; i++) {
        suite_ok(rig, pgqrs_store_enqueue(store, queue, &item, 1, &id, NULL, &rig->err));
    }
}

/* ---- locks ---- */

static void locked_by_another(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = NULL;
    const struct pgqrs_store_options options = {.create = true, .busy_ms = 5};
    char dsn[PATH_MAX + 32];
    (void)snprintf(dsn, sizeof dsn, "sqlite:%s", rig->path);
    suite_ok(rig, pgqrs_store_open(dsn, &options, &store, &rig->err));
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    int64_t queue = create_queue(rig, store, "q");
    int64_t worker = register_worker(rig, store, queue);

    sqlite3 *other = sqlite_rig_raw(rig);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    const struct pgqrs_enqueue job = {.payload = pgqrs_bytes_from("{}")};
    int64_t id;
    suite_fails(rig, pgqrs_store_enqueue(store, queue, &job, 1, &id, NULL, &rig->err),
                PGQRS_ERR_AGAIN);
    assert_non_null(strstr(rig->err.text, rig->path));
    assert_non_null(strstr(rig->err.text, "locked"));
    /* An exchange that has nothing to write is not held up, and does not hold up. */
    const struct pgqrs_want want = {
        .queue_id = queue, .worker_id = worker, .count = 1, .max_attempts = 5, .lease_ms = 1000};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
    assert_int_equal(x.lease_count, 0);
    assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    suite_ok(rig, pgqrs_store_enqueue(store, queue, &job, 1, &id, NULL, &rig->err));
    suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
    assert_int_equal(x.lease_count, 1);
    pgqrs_exchange_fini(&x);

    struct pgqrs_settlement item = {
        .message_id = id, .worker_id = worker, .attempt = 1, .how = PGQRS_SETTLE_ARCHIVE};
    x.settlements = &item;
    x.settlement_count = 1;
    other = sqlite_rig_raw(rig);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    suite_fails(rig, pgqrs_store_exchange(store, &x, &rig->err), PGQRS_ERR_AGAIN);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
    assert_int_equal(item.settled_out, PGQRS_SETTLED_YES);
    pgqrs_store_close(&store);
}

/* ---- what waits for the disk ---- */

struct noted {
    const struct sqlite_store *store;
    bool synced; /* the last commit */
};

static int note_level(void *arg)
{
    struct noted *n = arg;
    n->synced = n->store->syncs;
    return 0;
}

static void only_leases_wait_for_no_disk(void **state)
{
    struct sqlite_rig *rig = *state;
    const struct pgqrs_store_options options = {
        .create = true, .synchronous_full = true, .busy_ms = 1000};
    struct pgqrs_store *store = NULL;
    char dsn[PATH_MAX + 16];
    int64_t id;
    (void)snprintf(dsn, sizeof dsn, "sqlite:%s", rig->path);
    suite_ok(rig, pgqrs_store_open(dsn, &options, &store, &rig->err));
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    struct sqlite_store *s = sqlite_of(store);
    int64_t queue = create_queue(rig, store, "q");
    int64_t worker = register_worker(rig, store, queue);
    const struct pgqrs_enqueue job = {.payload = pgqrs_bytes_from("1")};
    struct noted last = {.store = s};
    (void)sqlite3_commit_hook(s->db, note_level, &last);

    suite_ok(rig, pgqrs_store_enqueue(store, queue, &job, 1, &id, NULL, &rig->err));
    assert_true(last.synced);
    const struct pgqrs_want want = {
        .queue_id = queue, .worker_id = worker, .count = 1, .max_attempts = 5, .lease_ms = 1000};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
    assert_int_equal(x.lease_count, 1);
    assert_false(last.synced);
    assert_int_equal(sqlite_rig_number(s->db, "PRAGMA synchronous"), 2); /* FULL again */
    struct pgqrs_settlement item = {
        .message_id = id, .worker_id = worker, .attempt = 1, .how = PGQRS_SETTLE_ARCHIVE};
    x.settlements = &item;
    x.settlement_count = 1;
    suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
    assert_true(last.synced);
    pgqrs_exchange_fini(&x);

    suite_ok(rig, pgqrs_sqlite_begin_unsynced(s, &rig->err));
    assert_int_equal(sqlite_rig_number(s->db, "PRAGMA synchronous"), 1);
    assert_int_equal(pgqrs_sqlite_end(s, -1, &rig->err), -1);
    assert_int_equal(sqlite_rig_number(s->db, "PRAGMA synchronous"), 2);
    pgqrs_store_close(&store);
}

static void claimed_once(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *first = sqlite_rig_store(rig);
    struct pgqrs_store *second = sqlite_rig_store(rig);
    suite_ok(rig, pgqrs_store_claim(first, "here", &rig->err));
    suite_ok(rig, pgqrs_store_claim(first, "here", &rig->err));
    suite_fails(rig, pgqrs_store_claim(second, "here", &rig->err), PGQRS_ERR_UNAVAILABLE);
    char pid[32];
    (void)snprintf(pid, sizeof pid, "pid %d", (int)getpid());
    assert_non_null(strstr(rig->err.text, pid));
    (void)create_queue(rig, second, "q"); /* it may still be used */
    pgqrs_store_close(&first);
    suite_ok(rig, pgqrs_store_claim(second, "here", &rig->err));
    pgqrs_store_close(&second);
}

/* ---- texts ---- */

/* SQLite would store what stands behind a zero byte, and no function of it would ever see it. */
static void texts_end_at_a_zero_byte(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    int64_t queue = create_queue(rig, store, "q");
    int64_t worker = register_worker(rig, store, queue);
    enqueue(rig, store, queue, 1);
    const struct pgqrs_want want = {
        .queue_id = queue, .worker_id = worker, .count = 1, .max_attempts = 5, .lease_ms = 1000};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
    assert_int_equal(x.lease_count, 1);
    struct pgqrs_settlement item = {.message_id = x.leases[0].message_id,
                                    .worker_id = worker,
                                    .attempt = 1,
                                    .how = PGQRS_SETTLE_DEAD,
                                    .error = {.data = "ab\0cd", .len = 5},
                                    .result = {.data = "\0", .len = 1}};
    x.settlements = &item;
    x.settlement_count = 1;
    x.want_count = 0;
    suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
    pgqrs_exchange_fini(&x);
    assert_int_equal(sqlite_rig_number(sqlite_of(store)->db,
                                       "SELECT length(CAST(pgqrsd_error AS BLOB)) = 2 AND"
                                       " pgqrsd_result IS NULL FROM pgqrs_messages"),
                     1);
    pgqrs_store_close(&store);
}

/* ---- a full disk ---- */

static void disk_full(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    int64_t queue = create_queue(rig, store, "q");
    sqlite3 *db = sqlite_of(store)->db;
    (void)sqlite_rig_number(db, "PRAGMA max_page_count=40");
    char big[60000];
    memset(big, '1', sizeof big);
    const struct pgqrs_enqueue items[3] = {{.payload = {.data = big, .len = sizeof big}},
                                           {.payload = {.data = big, .len = sizeof big}},
                                           {.payload = {.data = big, .len = sizeof big}}};
    int64_t ids[3];
    suite_fails(rig, pgqrs_store_enqueue(store, queue, items, 3, ids, NULL, &rig->err),
                PGQRS_ERR_AGAIN);
    assert_non_null(strstr(rig->err.text, "the disk is full"));
    assert_int_equal(sqlite_rig_number(db, "SELECT count(*) FROM pgqrs_messages"), 0);
    (void)sqlite_rig_number(db, "PRAGMA max_page_count=1000000");
    suite_ok(rig, pgqrs_store_enqueue(store, queue, items, 3, ids, NULL, &rig->err));
    pgqrs_store_close(&store);
}

/* Exit status 0: a write that the system refused was reported, left nothing, and then worked. */
static int write_beyond_limit(struct sqlite_rig *rig)
{
    struct pgqrs_store *store = NULL;
    int64_t queue;
    int64_t id;
    char big[200000];
    memset(big, '1', sizeof big);
    const struct pgqrs_enqueue item = {.payload = {.data = big, .len = sizeof big}};
    struct rlimit limit = {.rlim_cur = 300000, .rlim_max = RLIM_INFINITY};
    if (sqlite_rig_open(rig, &store) < 0 ||
        pgqrs_store_queue_find(store, "q", &queue, &rig->err) < 0) {
        return 10;
    }
    (void)signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) < 0) {
        return 11;
    }
    int rc = 0;
    for (int i = 0; rc == 0 && i < 5; i++) {
        rc = pgqrs_store_enqueue(store, queue, &item, 1, &id, NULL, &rig->err);
    }
    if (rc == 0 || (rig->err.code != PGQRS_ERR_AGAIN && rig->err.code != PGQRS_ERR_UNKNOWN)) {
        return 12;
    }
    struct pgqrs_queue_metrics before;
    struct pgqrs_queue_metrics after;
    limit.rlim_cur = RLIM_INFINITY;
    if (pgqrs_store_queue_metrics(store, queue, 0, &before, &rig->err) < 0 ||
        setrlimit(RLIMIT_FSIZE, &limit) < 0 ||
        pgqrs_store_enqueue(store, queue, &item, 1, &id, NULL, &rig->err) < 0 ||
        pgqrs_store_queue_metrics(store, queue, 0, &after, &rig->err) < 0) {
        return 13;
    }
    pgqrs_store_close(&store);
    return after.total == before.total + 1 ? 0 : 14;
}

static void file_size_limit(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    (void)create_queue(rig, store, "q");
    pgqrs_store_close(&store);
    assert_int_equal(sqlite_rig_child(write_beyond_limit, rig), 0);
}

/* ---- several processes ---- */

/* Drains the queue; exit status 0 when every lease could be settled. */
static int drain(struct sqlite_rig *rig)
{
    struct pgqrs_store *store = NULL;
    int64_t queue = 0;
    int64_t worker = 0;
    char name[32];
    (void)snprintf(name, sizeof name, "w%d", (int)getpid());
    struct pgqrs_worker_row row = {
        .name = name, .instance = "run", .generation = 1, .pid = getpid()};
    if (sqlite_rig_open(rig, &store) < 0 ||
        pgqrs_store_queue_find(store, "q", &queue, &rig->err) < 0) {
        return 10;
    }
    row.queue_id = queue;
    if (pgqrs_store_worker_register(store, &row, &worker, &rig->err) < 0) {
        return 11;
    }
    const struct pgqrs_want want = {
        .queue_id = queue, .worker_id = worker, .count = 3, .max_attempts = 5, .lease_ms = 1000};
    struct pgqrs_settlement items[3] = {0};
    struct pgqrs_exchange x = {.settlements = items, .wants = &want, .want_count = 1};
    do {
        if (pgqrs_store_exchange(store, &x, &rig->err) < 0) {
            return 12;
        }
        for (size_t i = 0; i < x.settlement_count; i++) {
            if (items[i].settled_out != PGQRS_SETTLED_YES) {
                return 13;
            }
        }
        x.settlement_count = x.lease_count;
        for (size_t i = 0; i < x.lease_count; i++) {
            const struct pgqrs_lease_ref ref = {.message_id = x.leases[i].message_id,
                                                .worker_id = worker,
                                                .attempt = x.leases[i].attempt};
            items[i] = suite_settlement(ref, PGQRS_SETTLE_ARCHIVE);
        }
    } while (x.lease_count > 0);
    pgqrs_exchange_fini(&x);
    pgqrs_store_close(&store);
    return 0;
}

static void two_processes_share_a_queue(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    enqueue(rig, store, create_queue(rig, store, "q"), 300);
    pgqrs_store_close(&store);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(drain(rig));
    }
    int here = sqlite_rig_child(drain, rig);
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(here, 0);
    assert_int_equal(status, 0);
    sqlite3 *db = sqlite_rig_raw(rig);
    assert_int_equal(sqlite_rig_number(db, "SELECT count(*) FROM pgqrs_messages WHERE read_ct = 1"
                                           " AND pgqrsd_outcome = 'done'"),
                     300);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Everything that deletes or ends messages, again and again, until there are none. */
static int sweep(struct sqlite_rig *rig)
{
    struct pgqrs_store *store = NULL;
    if (sqlite_rig_open(rig, &store) < 0) {
        return 10;
    }
    const struct pgqrs_message_filter filter = {.limit = 20};
    struct pgqrs_prune prune = {.queue_id = 1, .what = PGQRS_PRUNE_ENDED, .limit = 7};
    int64_t total = 0;
    for (bool more = true; more;) {
        struct pgqrs_message_list list;
        if (pgqrs_store_message_list(store, &filter, &list, &rig->err) < 0) {
            return 11;
        }
        int64_t ids[20];
        enum pgqrs_acted acted[20];
        size_t count = list.count;
        for (size_t i = 0; i < count; i++) {
            ids[i] = list.items[i].id;
        }
        pgqrs_message_list_fini(&list);
        enum pgqrs_act act = total % 2 == 0 ? PGQRS_ACT_CANCEL : PGQRS_ACT_DELETE;
        int64_t acts = pgqrs_store_message_act(store, act, ids, count, acted, &rig->err);
        int64_t pruned = pgqrs_store_prune(store, &prune, &rig->err);
        int64_t purged = pgqrs_store_queue_purge(store, 1, PGQRS_PURGE_PENDING, 3, &rig->err);
        if (acts < 0 || pruned < 0 || purged < 0) {
            (void)fprintf(stderr, "%s\n", rig->err.text);
            return 12;
        }
        more = count > 0;
        total++;
    }
    pgqrs_store_close(&store);
    return 0;
}

static void two_processes_clear_up(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    pgqrs_clock_set_wall(SUITE_START_US);
    enqueue(rig, store, create_queue(rig, store, "q"), 400);
    pgqrs_clock_set_wall(0);
    sqlite_rig_sql(rig, "INSERT INTO pgqrs_workflows (id, name, queue_id) VALUES (1, 'q', 1);"
                        "INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status)"
                        " SELECT 1, id, CASE id % 2 WHEN 0 THEN 'SUCCESS' ELSE 'RUNNING' END"
                        " FROM pgqrs_messages;"
                        "INSERT INTO pgqrs_workflow_steps (run_id, step_name, status)"
                        " SELECT id, 's', 'SUCCESS' FROM pgqrs_workflow_runs");
    pgqrs_store_close(&store);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(sweep(rig));
    }
    int here = sqlite_rig_child(sweep, rig);
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(here, 0);
    assert_int_equal(status, 0);
    store = sqlite_rig_store(rig);
    suite_ok(rig, pgqrs_store_verify(store, &rig->err));
    assert_int_equal(sqlite_rig_number(sqlite_of(store)->db,
                                       "SELECT (SELECT count(*) FROM pgqrs_messages) +"
                                       " (SELECT count(*) FROM pgqrs_workflow_runs) +"
                                       " (SELECT count(*) FROM pgqrs_workflow_steps)"),
                     0);
    pgqrs_store_close(&store);
}

/* ---- what other programs leave behind ---- */

/* Without foreign keys anybody can delete a worker that holds a message. */
static void deleted_workers(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    int64_t queue = create_queue(rig, store, "q");
    int64_t worker = register_worker(rig, store, queue);
    enqueue(rig, store, queue, 2);
    const struct pgqrs_want want = {
        .queue_id = queue, .worker_id = worker, .count = 1, .max_attempts = 5, .lease_ms = 1};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
    assert_int_equal(x.lease_count, 1);
    sqlite_rig_sql(rig, "DELETE FROM pgqrs_workers");
    suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
    assert_int_equal(x.lease_count, 0);
    suite_fails(rig, pgqrs_store_worker_beat(store, &worker, 1, &rig->err), PGQRS_ERR_NOT_FOUND);
    suite_fails(rig, pgqrs_store_worker_move(store, worker, PGQRS_MOVE_STOP, &rig->err),
                PGQRS_ERR_NOT_FOUND);
    suite_fails(rig, pgqrs_store_verify(store, &rig->err), PGQRS_ERR_SCHEMA);
    pgqrs_clock_set_wall(pgqrs_wall_us() + 60000000);
    const struct pgqrs_reap reap = {.stale_ms = 1000, .limit = 10};
    assert_int_equal(pgqrs_store_reap(store, &reap, &rig->err), 1);
    suite_ok(rig, pgqrs_store_verify(store, &rig->err));
    pgqrs_exchange_fini(&x);
    pgqrs_store_close(&store);
}

/* pgqrs writes some times without a fraction, and a clock that stands still makes many equal. */
static void prunes_times_of_both_forms(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    (void)create_queue(rig, store, "q");
    sqlite_rig_sql(
        rig, "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 60)"
             " INSERT INTO pgqrs_messages (queue_id, payload, archived_at) SELECT 1, i,"
             " CASE i % 3 WHEN 0 THEN '2026-01-01 00:00:00' WHEN 1"
             " THEN '2026-01-01 00:00:00.000000' ELSE '2026-01-01 00:00:00.500000' END FROM n;"
             "INSERT INTO pgqrs_workflows (id, name, queue_id) VALUES (1, 'q', 1);"
             "INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status)"
             " SELECT 1, id, 'RUNNING' FROM pgqrs_messages WHERE id % 2 = 0");
    for (int64_t queue = 1; queue >= 0; queue--) { /* of all queues there is nothing left to go */
        struct pgqrs_prune prune = {.queue_id = queue, .what = PGQRS_PRUNE_ENDED, .limit = 4};
        int64_t gone = 0;
        int steps = 0;
        do {
            int64_t n = pgqrs_store_prune(store, &prune, &rig->err);
            suite_ok(rig, n);
            gone += n;
            steps++;
        } while (prune.from_id != 0 && steps < 100);
        assert_int_equal(gone, queue == 1 ? 30 : 0);
        assert_int_equal(steps, queue == 1 ? 16 : 8);
    }
    assert_int_equal(sqlite_rig_number(sqlite_of(store)->db, "SELECT count(*) FROM pgqrs_messages"),
                     30);
    pgqrs_store_close(&store);
}

/* ---- waking up ---- */

static bool readable(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, timeout_ms) == 1;
}

/* Follows the hint until the store says that somebody has written, or nothing more happens. */
static bool wakes(struct pgqrs_store *store, int fd)
{
    while (readable(fd, 500)) {
        if (pgqrs_store_woken(store)) {
            return true;
        }
    }
    return false;
}

static void woken_by_others_only(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    int64_t queue = create_queue(rig, store, "q");
    int fd = pgqrs_store_wake_fd(store);
    assert_true(fd >= 0);
    assert_int_equal(pgqrs_store_wake_fd(store), fd);
    assert_false(wakes(store, fd));
    enqueue(rig, store, queue, 3);
    assert_false(readable(fd, 0)); /* what it has written itself is no news */
    for (int i = 0; i < 3; i++) {
        sqlite_rig_sql(rig, "INSERT INTO pgqrs_messages (queue_id, payload) VALUES (1, '{}')");
        assert_true(wakes(store, fd));
    }
    enqueue(rig, store, queue, 1);
    assert_false(wakes(store, fd));
    pgqrs_store_close(&store);
}

static void seen_only_when_committed(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    (void)create_queue(rig, store, "q");
    int fd = pgqrs_store_wake_fd(store);
    sqlite3 *other = sqlite_rig_raw(rig);
    /* A small cache spills to the journal long before the commit. */
    assert_int_equal(
        sqlite3_exec(other,
                     "PRAGMA cache_size=5; BEGIN IMMEDIATE; WITH RECURSIVE n(i) AS (VALUES(1)"
                     " UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
                     " INSERT INTO pgqrs_messages (queue_id, payload) SELECT 1, i FROM n",
                     NULL, NULL, NULL),
        SQLITE_OK);
    assert_true(readable(fd, 500));
    assert_false(pgqrs_store_woken(store));
    /* Nothing more is written, and still it has another look. */
    assert_true(readable(fd, 500));
    assert_false(pgqrs_store_woken(store));
    assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    assert_true(wakes(store, fd));
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    pgqrs_store_close(&store);
}

static void memory_has_no_descriptor(void **state)
{
    (void)state;
    struct pgqrs_error err;
    struct pgqrs_store *store = NULL;
    const struct pgqrs_store_options options = {.busy_ms = 5};
    assert_int_equal(pgqrs_store_open("sqlite::memory:", &options, &store, &err), 0);
    assert_int_equal(pgqrs_store_wake_fd(store), -1);
    assert_false(pgqrs_store_woken(store));
    assert_int_equal(pgqrs_store_claim(store, "here", &err), 1);
    pgqrs_store_close(&store);
    assert_null(store);
    pgqrs_store_close(&store);
}

/* ---- the common cases ---- */

static struct pgqrs_store *open_path(const char *dsn)
{
    struct pgqrs_error err;
    struct pgqrs_store *store = NULL;
    const struct pgqrs_store_options options = {
        .create = true, .synchronous_full = true, .busy_ms = 1000};
    if (pgqrs_store_open(dsn, &options, &store, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return store;
}

static struct pgqrs_store *open_memory(void *arg)
{
    (void)arg;
    return open_path("sqlite::memory:");
}

static struct pgqrs_store *open_new_file(void *arg)
{
    void *rig = NULL;
    assert_int_equal(sqlite_rig_setup(&rig), 0);
    *(struct sqlite_rig **)arg = rig;
    char dsn[PATH_MAX + 32];
    (void)snprintf(dsn, sizeof dsn, "sqlite:%s", ((struct sqlite_rig *)rig)->path);
    return open_path(dsn);
}

static struct pgqrs_store *open_same_file(void *arg)
{
    char dsn[PATH_MAX + 32];
    (void)snprintf(dsn, sizeof dsn, "sqlite:%s", (*(struct sqlite_rig **)arg)->path);
    return open_path(dsn);
}

static void run_sql(void *arg, struct pgqrs_store *store, const char *text)
{
    sqlite3 *db = sqlite_of(store)->db;
    (void)arg;
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK) {
        fail_msg("%s: %s", text, sqlite3_errmsg(db));
    }
}

static void close_memory(void *arg, struct pgqrs_store *store)
{
    (void)arg;
    pgqrs_store_close(&store);
}

static void close_file(void *arg, struct pgqrs_store *store)
{
    pgqrs_store_close(&store);
    assert_int_equal(sqlite_rig_teardown(arg), 0);
}

int main(void)
{
    struct sqlite_rig *rig = NULL;
    const struct suite_backend memory = {
        .name = "memory", .open = open_memory, .close = close_memory, .sql = run_sql};
    const struct suite_backend file = {.name = "file",
                                       .open = open_new_file,
                                       .close = close_file,
                                       .open_again = open_same_file,
                                       .sql = run_sql,
                                       .arg = (void *)&rig};
    const struct CMUnitTest cases[] = {
        RIG_CASE(locked_by_another),
        RIG_CASE(only_leases_wait_for_no_disk),
        RIG_CASE(claimed_once),
        RIG_CASE(texts_end_at_a_zero_byte),
        RIG_CASE(disk_full),
        RIG_CASE(file_size_limit),
        RIG_CASE(two_processes_share_a_queue),
        RIG_CASE(two_processes_clear_up),
        RIG_CASE(deleted_workers),
        RIG_CASE(prunes_times_of_both_forms),
        RIG_CASE(woken_by_others_only),
        RIG_CASE(seen_only_when_committed),
        cmocka_unit_test(memory_has_no_descriptor),
    };
    int failed = pgqrs_store_suite_run(&memory) + pgqrs_store_suite_run(&file);
    return failed + cmocka_run_group_tests_name("sqlite only", cases, NULL, NULL);
}
