/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/sqlite_rig.h"

#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/sqlite/sqlite_priv.h"

/* What happens to a database's file while a store has it open. */

static int64_t create_queue(struct sqlite_rig *rig, struct pgqrs_store *store)
{
    int64_t id = 0;
    suite_ok(rig, pgqrs_store_queue_create(store, "q", &id, &rig->err));
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

static int put(struct sqlite_rig *rig, struct pgqrs_store *store, int64_t queue,
               const char *payload)
{
    const struct pgqrs_enqueue item = {.payload = pgqrs_bytes_from(payload)};
    int64_t id;
    return pgqrs_store_enqueue(store, queue, &item, 1, &id, NULL, &rig->err);
}

static void beside(const struct sqlite_rig *rig, const char *suffix, char *path, size_t size)
{
    (void)snprintf(path, size, "%s%s", rig->path, suffix);
}

static void remove_beside(struct sqlite_rig *rig, const char *suffix)
{
    char path[PATH_MAX + 32];
    beside(rig, suffix, path, sizeof path);
    assert_int_equal(unlink(path), 0);
}

static bool there(struct sqlite_rig *rig, const char *suffix)
{
    char path[PATH_MAX + 32];
    beside(rig, suffix, path, sizeof path);
    return access(path, F_OK) == 0;
}

/* A complete database of the same name elsewhere, with one message in it. */
static void make_other(struct sqlite_rig *rig, struct sqlite_rig *other, const char *payload)
{
    *other = *rig;
    (void)snprintf(other->path, sizeof other->path, "%s/other.db", rig->dir);
    struct pgqrs_store *store = sqlite_rig_store(other);
    int64_t queue = create_queue(other, store);
    suite_ok(other, put(other, store, queue, payload));
    pgqrs_store_close(&store);
}

static void move_here(struct sqlite_rig *rig, struct sqlite_rig *other)
{
    assert_int_equal(rename(other->path, rig->path), 0);
}

/* Leases one message for a worker that is registered anew, as a broker that starts does. */
static void serves(struct sqlite_rig *rig, struct pgqrs_store *store, const char *payload)
{
    int64_t queue = 0;
    suite_ok(rig, pgqrs_store_queue_find(store, "q", &queue, &rig->err));
    const struct pgqrs_want want = {.queue_id = queue,
                                    .worker_id = register_worker(rig, store, queue),
                                    .count = 1,
                                    .max_attempts = 5,
                                    .lease_ms = 1000};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
    assert_int_equal(x.lease_count, 1);
    assert_string_equal(x.leases[0].payload.data, payload);
    pgqrs_exchange_fini(&x);
}

/* Every kind of call that a broker makes refuses to go on with a file that has no name. */
static void deleted(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    int64_t queue = create_queue(rig, store);
    int64_t worker = register_worker(rig, store, queue);
    suite_ok(rig, put(rig, store, queue, "1"));
    remove_beside(rig, "");
    remove_beside(rig, "-wal");
    remove_beside(rig, "-shm");
    const struct pgqrs_want want = {
        .queue_id = queue, .worker_id = worker, .count = 1, .max_attempts = 5, .lease_ms = 1000};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    const struct pgqrs_lease_ref lease = {.message_id = 1, .worker_id = worker, .attempt = 1};
    struct pgqrs_queue_metrics metrics;
    for (int i = 0; i < 2; i++) {
        suite_fails(rig, put(rig, store, queue, "2"), PGQRS_ERR_AGAIN);
        assert_non_null(strstr(rig->err.text, "No such file"));
        suite_fails(rig, pgqrs_store_exchange(store, &x, &rig->err), PGQRS_ERR_AGAIN);
        suite_fails(rig, pgqrs_store_worker_beat(store, &worker, 1, &rig->err), PGQRS_ERR_AGAIN);
        suite_fails(rig, pgqrs_store_renew(store, &lease, 1, 1000, NULL, &rig->err),
                    PGQRS_ERR_AGAIN);
        suite_fails(rig, pgqrs_store_queue_metrics(store, queue, 10, &metrics, &rig->err),
                    PGQRS_ERR_AGAIN);
        assert_false(there(rig, ""));
    }
    /* Somebody makes a new one, and what they were told is stored is served. */
    struct pgqrs_store *producer = sqlite_rig_store(rig);
    suite_ok(rig, put(rig, producer, create_queue(rig, producer), "3"));
    suite_fails(rig, put(rig, store, queue, "4"), PGQRS_ERR_AGAIN);
    assert_non_null(strstr(rig->err.text, "replaced"));
    suite_ok(rig, put(rig, producer, queue, "5"));
    serves(rig, store, "3");
    pgqrs_store_close(&producer);
    assert_true(there(rig, "-wal")); /* it is still in use */
    serves(rig, store, "5");
    pgqrs_store_close(&store);
    assert_false(there(rig, "-wal"));
}

static void replaced(void **state)
{
    struct sqlite_rig *rig = *state;
    struct sqlite_rig other;
    make_other(rig, &other, "\"new\"");
    struct pgqrs_store *store = sqlite_rig_store(rig);
    int64_t queue = create_queue(rig, store);
    int64_t worker = register_worker(rig, store, queue);
    remove_beside(rig, "-wal");
    remove_beside(rig, "-shm");
    move_here(rig, &other);
    /* An idle broker notices, too. */
    const struct pgqrs_want want = {
        .queue_id = queue, .worker_id = worker, .count = 1, .max_attempts = 5, .lease_ms = 1000};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    suite_fails(rig, pgqrs_store_exchange(store, &x, &rig->err), PGQRS_ERR_AGAIN);
    assert_non_null(strstr(rig->err.text, "replaced"));
    suite_ok(rig, pgqrs_store_exchange(store, &x, &rig->err));
    assert_int_equal(x.lease_count, 0); /* that one has no such worker */
    serves(rig, store, "\"new\"");
    suite_ok(rig, pgqrs_store_verify(store, &rig->err));
    pgqrs_store_close(&store);
    sqlite3 *db = sqlite_rig_raw(rig);
    assert_int_equal(sqlite_rig_number(db, "SELECT count(*) FROM pgqrs_messages"), 1);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* The frames of the old database would be taken for changes of the new one. */
static void replaced_beside_an_old_journal(void **state)
{
    struct sqlite_rig *rig = *state;
    struct sqlite_rig other;
    make_other(rig, &other, "\"new\"");
    struct pgqrs_store *store = sqlite_rig_store(rig);
    int64_t queue = create_queue(rig, store);
    move_here(rig, &other);
    suite_fails(rig, put(rig, store, queue, "1"), PGQRS_ERR_AGAIN);
    assert_non_null(strstr(rig->err.text, "-wal and -shm files of the old one"));
    suite_fails(rig, put(rig, store, queue, "1"), PGQRS_ERR_AGAIN);
    remove_beside(rig, "-wal");
    remove_beside(rig, "-shm");
    suite_fails(rig, put(rig, store, queue, "1"), PGQRS_ERR_AGAIN);
    assert_non_null(strstr(rig->err.text, "replaced"));
    serves(rig, store, "\"new\"");
    suite_ok(rig, pgqrs_store_verify(store, &rig->err));
    pgqrs_store_close(&store);
}

static void replaced_by_what_is_none(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    int64_t queue = create_queue(rig, store);
    remove_beside(rig, "");
    remove_beside(rig, "-wal");
    remove_beside(rig, "-shm");
    FILE *file = fopen(rig->path, "w");
    assert_non_null(file);
    for (int i = 0; i < 200; i++) {
        assert_true(fputs("This is not a database.\n", file) >= 0);
    }
    assert_int_equal(fclose(file), 0);
    suite_fails(rig, put(rig, store, queue, "1"), PGQRS_ERR_AGAIN);
    assert_non_null(strstr(rig->err.text, "is not an SQLite database"));
    assert_int_equal(unlink(rig->path), 0);
    sqlite3 *db = sqlite_rig_raw(rig); /* one without tables */
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE t (a)", NULL, NULL, NULL), SQLITE_OK);
    suite_fails(rig, put(rig, store, queue, "1"), PGQRS_ERR_AGAIN);
    suite_fails(rig, put(rig, store, queue, "1"), PGQRS_ERR_SCHEMA);
    suite_ok(rig, pgqrs_store_install(store, &rig->err));
    suite_ok(rig, put(rig, store, create_queue(rig, store), "1"));
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    pgqrs_store_close(&store);
}

static bool wakes(struct pgqrs_store *store, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (poll(&p, 1, 2000) == 1) {
        if (pgqrs_store_woken(store)) {
            return true;
        }
    }
    return false;
}

static void claim_and_waking_move_along(void **state)
{
    struct sqlite_rig *rig = *state;
    struct pgqrs_store *store = sqlite_rig_store(rig);
    int64_t queue = create_queue(rig, store);
    suite_ok(rig, pgqrs_store_claim(store, "here", &rig->err));
    int fd = pgqrs_store_wake_fd(store);
    assert_true(fd >= 0);
    remove_beside(rig, "");
    remove_beside(rig, "-wal");
    remove_beside(rig, "-shm");
    remove_beside(rig, "-broker");
    struct pgqrs_store *producer = sqlite_rig_store(rig);
    (void)create_queue(rig, producer);
    suite_fails(rig, put(rig, store, queue, "1"), PGQRS_ERR_AGAIN);
    suite_fails(rig, pgqrs_store_claim(producer, "there", &rig->err), PGQRS_ERR_UNAVAILABLE);
    assert_true(wakes(store, fd)); /* all of it is news */
    assert_int_equal(pgqrs_store_wake_fd(store), fd);
    suite_ok(rig, put(rig, producer, queue, "2"));
    assert_true(wakes(store, fd));
    pgqrs_store_close(&store);
    pgqrs_store_close(&producer);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        RIG_CASE(deleted),
        RIG_CASE(replaced),
        RIG_CASE(replaced_beside_an_old_journal),
        RIG_CASE(replaced_by_what_is_none),
        RIG_CASE(claim_and_waking_move_along),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
